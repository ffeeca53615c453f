"""Which of very many numbers come more than once, in memory that does not grow with their count.

numbers -> sorted parts, in an unnamed file -> of each range of values what all parts have -> those that stand there twice
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice

import numpy as np

from gradviz_cli.files.scratch import fill, unnamed_file

MOST = 1 << 19  # numbers that are held at once
_RANGES = 1 << 10  # as many, of equal width: numbers are hashes, and lie evenly


def repeated(numbers: Iterable[int]) -> frozenset[int]:
    """The numbers, of 64 bits, that come at least twice.

    Raises
    ------
    OutputError
        There are many, and no room for temporary files.
    """
    edges = (np.arange(_RANGES + 1, dtype=np.float64)[1:-1] / _RANGES * 2.0**64 - 2.0**63).astype(np.int64)
    parts = _sorted(numbers)
    first = next(parts, np.empty(0, np.int64))
    if len(first) < MOST:
        return _twice(first)
    with closing(unnamed_file()) as file:
        bounds, begin = [], 0
        for part in chain([first], parts):
            fill(file, part.tobytes())
            bounds.append(begin + np.concatenate(([0], np.searchsorted(part, edges), [len(part)])))
            begin += len(part)
        return frozenset(one for place in range(_RANGES) for one in _twice(_range(file.fileno(), bounds, place)))


def _sorted(numbers: Iterable[int]) -> Iterator[np.ndarray]:
    left = iter(numbers)
    while len(part := np.fromiter(islice(left, MOST), np.int64)):
        part.sort()
        yield part


def _range(handle: int, bounds: list[np.ndarray], place: int) -> np.ndarray:
    """The numbers of one range, of all parts."""
    ends = (each[place : place + 2].tolist() for each in bounds)
    return np.sort(
        np.frombuffer(b"".join(os.pread(handle, 8 * (end - begin), 8 * begin) for begin, end in ends), np.int64)
    )


def _twice(ordered: np.ndarray) -> frozenset[int]:
    return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
