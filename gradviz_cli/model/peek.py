"""What a SavedModel's signatures say of their inputs, read from the file's own bytes with the standard library.

Lets images be prepared while TensorFlow still loads. It is a hint: where the worker finds another input, its word counts.
Protocol buffer wire format: https://protobuf.dev/programming-guides/encoding/; field numbers from saved_model.proto and
meta_graph.proto.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Data(NamedTuple):
    """The bytes of a file, and the fields that may still be read of it."""

    bytes: mmap.mmap
    steps: Iterator[int]


Field = tuple[int, int, int, int]  # number, value (varint) or -1, start, end

_META_GRAPHS = 2
_SIGNATURES = 5
_KEY, _VALUE = 1, 2
_INPUTS = 1
_INFO_SHAPE = 3
_DIM, _DIM_SIZE = 2, 1
# A real file has some hundred fields where this looks; one of a million empty ones is not worth the wait.
_MOST_FIELDS = 20_000


def input_shape(model: Path, signature: str | None, key: str | None) -> tuple[int, ...] | None:
    """Shape of the image input that will be explained, -1 where open; None when the bytes do not settle it."""
    try:
        with _mapped(model / "saved_model.pb") as data:
            return _choose(_signatures(Data(data, iter(range(_MOST_FIELDS)))), signature, key)
    except (OSError, ValueError, IndexError):
        return None


@contextmanager
def _mapped(file: Path) -> Iterator[mmap.mmap]:
    """The bytes of a regular file of at most 2 GiB; never waits for a pipe."""
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size >= 1 << 31:
            raise ValueError("not a graph")
        with mmap.mmap(handle, 0, access=mmap.ACCESS_READ) as data:
            yield data
    finally:
        os.close(handle)


def _choose(
    found: dict[str, dict[str, tuple[int, ...]]], signature: str | None, key: str | None
) -> tuple[int, ...] | None:
    names = [signature] if signature else ["serving_default", *(found if len(found) == 1 else ())]
    inputs = next((found[name] for name in names if name in found), {})
    shapes = {tuple(shape) for name, shape in inputs.items() if key in (None, name) and len(shape) == 4}
    return shapes.pop() if len(shapes) == 1 else None


def _signatures(data: Data) -> dict[str, dict[str, tuple[int, ...]]]:
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for number, _, start, end in _fields(data, 0, len(data.bytes)):
        if number != _META_GRAPHS:
            continue
        for name, (low, high) in _entries(data, start, end, _SIGNATURES):
            found.setdefault(name, {key: _shape(data, *span) for key, span in _entries(data, low, high, _INPUTS)})
    return found


def _entries(data: Data, start: int, end: int, wanted: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Key and span of the value of every entry of a map field."""
    for number, _, low, high in _fields(data, start, end):
        if number == wanted:
            parts = {part: (first, last) for part, _, first, last in _fields(data, low, high)}
            if _KEY in parts and _VALUE in parts:
                yield data.bytes[slice(*parts[_KEY])].decode("utf-8", "replace"), parts[_VALUE]


def _shape(data: Data, start: int, end: int) -> tuple[int, ...]:
    sizes = []
    for number, _, low, high in _fields(data, start, end):
        if number == _INFO_SHAPE:
            for part, _, first, last in _fields(data, low, high):
                if part == _DIM:
                    values = [value for name, value, *_ in _fields(data, first, last) if name == _DIM_SIZE]
                    sizes.append(values[0] - (1 << 64) if values and values[0] >> 63 else (values or [0])[0])
    return tuple(sizes)


def _fields(data: Data, start: int, end: int) -> Iterator[Field]:
    """The fields of one message; raises ValueError or IndexError on bytes that are none."""
    while start < end:
        if next(data.steps, None) is None:
            raise ValueError("too many fields")
        tag, start = _varint(data, start)
        number, kind = tag >> 3, tag & 7
        value, low = -1, start
        if kind == 0:
            value, start = _varint(data, start)
        elif kind == 1:
            start += 8
        elif kind == 5:
            start += 4
        elif kind == 2:
            length, low = _varint(data, start)
            start = low + length
        else:
            raise ValueError(f"wire type {kind}")
        if start > end:
            raise ValueError("a field beyond its message")
        yield number, value, low, start


def _varint(data: Data, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data.bytes[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
