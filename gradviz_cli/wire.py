"""The seam between the command and its child processes: a JSON header and raw arrays, framed, over a pipe.

JSON and plain arrays rather than pickle: what comes back from a process that ran a stranger's graph is only ever data.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable

import numpy as np

_LENGTH = struct.Struct("<Q")
MAX_HEADER = 64 * 2**20
MAX_ARRAY = 8 * 2**30
_DTYPES = {"float32": np.float32, "uint8": np.uint8, "int32": np.int32}

Read = Callable[[int], bytes]


class Closed(Exception):
    """The other side is gone."""


class Garbled(Exception):
    """The other side sent what is no message."""


def send(fd: int, header: dict, arrays: tuple[np.ndarray, ...] = ()) -> None:
    """Write one message; raises Closed when nobody reads any more."""
    described = [{"dtype": array.dtype.name, "shape": array.shape} for array in arrays]
    head = json.dumps({**header, "arrays": described}).encode()
    try:
        _write(fd, memoryview(_LENGTH.pack(len(head)) + head))
        for array in arrays:
            _write(fd, memoryview(np.ascontiguousarray(array)).cast("B") if array.size else memoryview(b""))
    except (BrokenPipeError, OSError) as error:
        raise Closed(str(error)) from error


def receive(fill: Callable[[memoryview], None]) -> tuple[dict, tuple[np.ndarray, ...]]:
    """Read one message; `fill` fills a buffer or raises Closed (or whatever ends the wait)."""
    size = bytearray(_LENGTH.size)
    fill(memoryview(size))
    length = _LENGTH.unpack(size)[0]
    if length > MAX_HEADER:
        raise Garbled(f"a header of {length} bytes")
    head = bytearray(length)
    fill(memoryview(head))
    try:
        header = json.loads(bytes(head))
        arrays = tuple(_empty(described) for described in header.pop("arrays"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Garbled(str(error)) from error
    for array in arrays:
        if array.size:
            fill(memoryview(array).cast("B"))
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


def _empty(described: dict) -> np.ndarray:
    shape = tuple(int(size) for size in described["shape"])
    dtype = np.dtype(_DTYPES[described["dtype"]])
    size = dtype.itemsize
    for length in shape:
        size *= length
        if length < 0 or size > MAX_ARRAY:
            raise ValueError(f"an array of shape {shape}")
    return np.empty(shape, dtype)


def _write(fd: int, view: memoryview) -> None:
    while view:
        view = view[os.write(fd, view) :]
