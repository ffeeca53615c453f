"""The seam between the command and its child processes: a JSON header and raw arrays, framed, over a pipe.

JSON and plain arrays rather than pickle: what comes back from a process that ran a stranger's graph is only ever data.
It is not believed either: sizes are limited before memory is taken, and text loses what a terminal would obey.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from gradviz_cli.files import text

_LENGTH = struct.Struct("<Q")
MAX_HEADER = 8 * 2**20
MAX_ARRAYS = 8 * 2**30
_DTYPES = {name: name for name in ("float32", "uint8", "int32")}


class Closed(Exception):
    """The other side is gone."""


class Garbled(Exception):
    """The other side sent what is no message."""


def send(fd: int, header: dict, arrays: tuple[np.ndarray, ...] = (), ready: Callable[[], None] | None = None) -> None:
    """Write one message.

    Parameters
    ----------
    ready : callable, optional
        For a pipe that does not block: returns when it takes more, or raises TimeoutError.

    Raises
    ------
    Closed
        Nobody reads any more.
    """
    described = [{"dtype": array.dtype.name, "shape": array.shape} for array in arrays]
    head = json.dumps({**header, "arrays": described}).encode()
    try:
        _write(fd, memoryview(_LENGTH.pack(len(head)) + head), ready)
        for array in arrays:
            _write(
                fd,
                np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b""),
                ready,
            )
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed(str(error)) from error


def receive(
    fill: Callable[[memoryview], None], most: int = MAX_ARRAYS, longest: int = MAX_HEADER
) -> tuple[dict, tuple[np.ndarray, ...]]:
    """Read one message whose arrays hold at most `most` bytes and whose header at most `longest`; `fill` fills a buffer or
    raises what ends the wait.

    Raises
    ------
    Garbled
        What came is no message, or larger than it may be.
    """
    size = bytearray(_LENGTH.size)
    fill(memoryview(size))
    length = _LENGTH.unpack(size)[0]
    if length > longest:
        raise Garbled(f"a header of {length} bytes")
    head = bytearray(length)
    fill(memoryview(head))
    try:
        header = json.loads(bytes(head))
        arrays = _empty(header.pop("arrays"), most)
    # Whatever bytes can make of a JSON reader and of np.empty: infinite sizes, depth, more axes than NumPy has.
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        MemoryError,
    ) as error:
        raise Garbled(str(error)[:200]) from error
    for array in arrays:
        if array.size:
            fill(array.data.cast("B"))
    return header, arrays


def fill_from(fd: int) -> Callable[[memoryview], None]:
    """A blocking `fill` for `receive`."""

    def fill(buffer: memoryview) -> None:
        while buffer:
            count = os.readv(fd, [buffer])
            if count == 0:
                raise Closed("end of file")
            buffer = buffer[count:]

    return fill


def plain(value: Any) -> Any:
    """A header with every text in it made printable: no line ends, no control or formatting characters."""
    if isinstance(value, str):
        return text.plain(value)
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def _empty(described: list[dict], most: int) -> tuple[np.ndarray, ...]:
    shapes = [tuple(int(size) for size in one["shape"]) for one in described]
    dtypes = [np.dtype(_DTYPES[one["dtype"]]) for one in described]
    total = sum(map(_bytes, shapes, dtypes))
    if total > most:
        raise ValueError(f"arrays of {total} bytes where {most} are expected")
    return tuple(map(np.empty, shapes, dtypes))


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    size = dtype.itemsize
    for length in shape:
        if length < 0 or length > MAX_ARRAYS:
            raise ValueError(f"an axis of {length}")
        size *= length
    return size


def _write(fd: int, view: memoryview, ready: Callable[[], None] | None) -> None:
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            if ready is None:
                raise
            ready()
