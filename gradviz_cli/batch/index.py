"""Name -> the last line of a manifest that tells of it, for more names than memory is to hold.

Rows of three numbers, in the order of their keys, each key once: in an array, or in a file of which a few are read at a
time. What is collected is sorted part by part and merged key range by key range, so that no step holds more than `MOST` rows.

    lines -> Builder: up to MOST rows -> sorted parts, in unnamed files -> merged rows -> OUT's index, or an unnamed file
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradviz_cli.errors import OutputError
from gradviz_cli.files.scratch import fill, unnamed_file
from gradviz_cli.files.whole import check_own, whole_file

ROW = np.dtype([("key", "<i8"), ("place", "<i8"), ("source", "<i8")])
WIDTH = len(ROW.names or ())  # numbers in a row
MOST = 1 << 18  # rows that are held at once
STEP = 128  # rows of a file that are read to find one
EDGE = 4096  # bytes at either end of what an index covers, by which it is known to be of this manifest
LONGEST_HEAD = 1 << 16
LEAST = 32  # bytes of a manifest that a row is of at least
FORMAT = 2


def number(text: str) -> int:
    """What stands for a text in a row; in every process the same."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True
    )


class InFile:
    """Rows of a file, from an offset on; what is cut off of it meanwhile is not there."""

    def __init__(self, handle: int, start: int, count: int):
        self.handle, self._start, self._count = handle, start, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.frombuffer(self._bytes(part), ROW)

    def numbers(self, part: slice) -> memoryview:
        """Those of some rows, one after the other, for Python itself: to find one among few that takes a tenth of the time."""
        return memoryview(self._bytes(part)).cast("q")

    def _bytes(self, part: slice) -> bytes:
        first, last, _ = part.indices(self._count)
        data = os.pread(self.handle, max(0, last - first) * ROW.itemsize, self._start + first * ROW.itemsize)
        return data[: len(data) - len(data) % ROW.itemsize]

    @classmethod
    def new(cls) -> InFile:
        """None yet, of a file that ends with the process."""
        with unnamed_file() as file:
            return cls(os.dup(file.fileno()), 0, 0)

    def grown(self, rows: Iterable[np.ndarray]) -> InFile:
        """Those that are written at the end of the same file."""
        count = 0
        with os.fdopen(os.dup(self.handle), "ab", 0) as file:
            start = os.fstat(self.handle).st_size
            for part in rows:
                fill(file, part.tobytes())
                count += len(part)
        return InFile(self.handle, start, count)

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


class Table:
    """Rows that can be asked for. Of each `STEP`-th one the key is held, for Python's own search: that of NumPy lets other
    threads run, and has to wait for its turn each time."""

    def __init__(self, rows: np.ndarray | InFile):
        self.rows = rows
        self._keys = array("q", (key for at in range(0, len(rows), STEP) for key in rows[at : at + 1]["key"].tolist()))

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, key: int) -> tuple[int, int] | None:
        """Place and source of a key."""
        numbers, at = self._from(self._near(key), key)
        found = numbers[at * WIDTH : (at + 1) * WIDTH].tolist()
        return (found[1], found[2]) if found and found[0] == key else None

    def before(self, key: int) -> int:
        """How many rows have a lower key."""
        near = self._near(key)
        return near + self._from(near, key)[1]

    def _from(self, near: int, key: int) -> tuple[memoryview, int]:
        """The numbers of some rows, and where among these the key belongs."""
        part, rows = slice(near, near + STEP), self.rows
        numbers = rows.numbers(part) if isinstance(rows, InFile) else rows[part].view(np.int64).data
        return numbers, bisect_left(numbers[::WIDTH], key)

    def _near(self, key: int) -> int:
        return max(0, bisect_right(self._keys, key) - 1) * STEP

    def close(self) -> None:
        if isinstance(self.rows, InFile):
            self.rows.close()


class Builder:
    """Collects rows in the order of their lines: the last one of a key counts."""

    def __init__(self) -> None:
        self._columns = array("q"), array("q"), array("q")
        self._parts: list[Table] = []
        self._file: InFile | None = None  # of all parts

    def add(self, key: int, place: int, source: int = 0) -> None:
        for column, value in zip(self._columns, (key, place, source), strict=True):
            column.append(value)
        if len(self._columns[0]) >= MOST:
            if self._file is None:  # an empty one is false
                self._file = InFile.new()
            self._parts.append(Table(self._file.grown([self._collected()])))

    def table(self) -> Table:
        """All that was collected, of which nothing is left here; in memory, if that is little."""
        last = Table(self._collected())
        if self._file is None:
            return last
        found = Table(InFile.new().grown(merged([*self._parts, last])))
        self._file.close()
        self._parts, self._file = [], None
        return found

    def _collected(self) -> np.ndarray:
        rows = np.empty(len(self._columns[0]), ROW)
        for name, column in zip(ROW.names or (), self._columns, strict=True):
            rows[name] = np.frombuffer(column, np.int64) if column else ()
            del column[:]
        return _last_of_each(rows)


def _last_of_each(rows: np.ndarray) -> np.ndarray:
    rows = rows[np.argsort(rows["key"], kind="stable")]
    return rows[np.append(rows["key"][1:] != rows["key"][:-1], True)] if len(rows) else rows


def merged(tables: Sequence[Table]) -> Iterator[np.ndarray]:
    """The rows of all, in order, some at a time; of a key that several have, that of the last table."""
    total = sum(map(len, tables))
    ranges = max(1, -(-total // MOST))
    ends = [(2**64 * (one + 1) // ranges) - 2**63 for one in range(ranges - 1)]  # keys are hashes, and lie evenly
    begins = [0] * len(tables)
    for end in (*ends, None):
        stops = [len(table) if end is None else table.before(end) for table in tables]
        stops = [
            min(stop, begin + 4 * MOST) for begin, stop in zip(begins, stops, strict=True)
        ]  # no run's, if there are more
        parts = [table.rows[begin:stop] for table, begin, stop in zip(tables, begins, stops, strict=True)]
        yield _last_of_each(np.concatenate(parts))
        begins = stops


# ---- the one that OUT keeps


@dataclass(frozen=True)
class Head:
    """What an index says of itself: of how many bytes of the manifest it is, and what these begin and end in; how many rows
    it has, and their checksum."""

    covered: int
    edges: str | None
    rows: int
    check: int = 0
    more: Any = None
    format: int = FORMAT


def load(path: Path, manifest: int) -> tuple[Head, Table] | None:
    """The index of this manifest, which only grew since; None where it is of another one, or none of ours."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        found = None
        try:
            found = _loaded(handle, path, manifest)
        finally:
            if found is None:
                os.close(handle)
        return found
    return None


def _loaded(handle: int, path: Path, manifest: int) -> tuple[Head, Table] | None:
    with suppress(OutputError):
        check_own(handle, path)
        line, end, _ = os.pread(handle, LONGEST_HEAD, 0).partition(b"\n")
        head = Head(**json.loads(line))
        start, covered, rows = len(line) + len(end), head.covered, head.rows
        whole = all(type(one) is int and one >= 0 for one in (covered, rows))
        right = whole and rows * LEAST <= covered and os.fstat(handle).st_size == start + rows * ROW.itemsize
        if right and head.format == FORMAT and isinstance(head.edges, str) and head.edges == _edges(manifest, covered):
            found = InFile(handle, start, rows)
            if head.check == _check(found[begin : begin + MOST] for begin in range(0, rows, MOST))[1]:
                return head, Table(found)
    return None


def save(path: Path, manifest: int, covered: int, tables: Sequence[Table], more: Any) -> tuple[Head, Table] | None:
    """Keep the rows of these tables as the index of the first bytes of a manifest; None where that cannot be."""
    head = Head(covered, _edges(manifest, covered), *_check(merged(tables)), more)
    line = json.dumps(asdict(head)).encode() + b"\n"
    if len(line) > LONGEST_HEAD:
        return None
    with suppress(OutputError):
        with whole_file(path) as file:
            file.write(line)
            for rows in merged(tables):
                file.write(rows.tobytes())
        return load(path, manifest)
    return None


def _check(parts: Iterable[np.ndarray]) -> tuple[int, int]:
    """How many rows there are, and what tells them from those that a disk or a hand has changed."""
    count = check = 0
    for rows in parts:
        count, check = count + len(rows), zlib.crc32(rows.tobytes(), check)
    return count, check


def _edges(manifest: int, covered: int) -> str | None:
    if os.fstat(manifest).st_size < covered:
        return None
    first, last = os.pread(manifest, min(EDGE, covered), 0), os.pread(manifest, EDGE, max(0, covered - EDGE))
    return hashlib.sha256(first + last[: min(EDGE, covered)]).hexdigest()
