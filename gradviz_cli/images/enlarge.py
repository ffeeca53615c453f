"""Rows between rows: a field that grows in height, bicubic as Pillow has it, as numbers or in the steps of a scale."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

BAND = 2**16  # values that are worked on at a time: few enough to stay in a processor's cache
TAPS = 4  # samples between which a cubic convolution interpolates
EDGE = TAPS // 2  # rows of zeros around those that are there, so that each tap is a row
# How far a step in float32 may be from the exact one, in parts of the largest number that it was made of: the roundings of
# weights, numbers and sums are less than 8 times 2 ** -24 of what the weights add up to at most, and so are those of `Steps`.
UNSURE = 2.0**-21
WIDEST = 2.0**6  # a peak of so many times the scale: beyond, too many steps would be unsure
LEAST = 1e-30  # a scale that has as many digits as others


class Steps(NamedTuple):
    """How numbers become bytes: evenly from zero to `high`, which has 255, and rounded to the nearest.

    Attributes
    ----------
    high : float
        Where it is 0, every number is drawn as zero.
    zero : int
        The byte of zero. Numbers below zero have as many bytes as there are up to 255, or none.
    """

    high: float
    zero: int = 0

    @property
    def reach(self) -> int:
        return 255 - self.zero

    @property
    def lowest(self) -> int:
        """In steps from zero."""
        return -self.reach if self.zero else 0

    def of(self, values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """uint8 of the same shape. `out` is room to work in."""
        if self.high == 0:
            return np.full(values.shape, self.zero, np.uint8)
        if self.high > float(np.finfo(values.dtype).max):
            values, out = values.astype(np.float64), None
        out = np.clip(
            values, -self.high if self.zero else 0, self.high, out=out
        )  # before the division: nothing can overflow
        out /= self.high
        out *= self.reach
        np.rint(out, out=out)
        if self.zero:
            out += self.zero
        return out.astype(np.uint8)


class Range(NamedTuple):
    """Smallest and largest number, of each column where they differ."""

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class Taps:
    """For each row that is to be the first of the TAPS that it is made of, and their weights, float64 [rows, TAPS].

    What lies beyond the edges has no weight.
    """

    first: np.ndarray
    weights: np.ndarray

    def peaks(self, framed: np.ndarray) -> np.ndarray:
        """For each row the largest number that it is made of, without its sign."""
        largest = np.maximum(framed.max(axis=1), -framed.min(axis=1))
        return largest[self.first[:, None] + EDGE + np.arange(TAPS)].max(axis=1)

    def alike(self, top: int, count: int) -> Iterator[tuple[int, slice]]:
        """Of some rows, those that are made of the same: the first tap, and which of them."""
        at = 0
        for first, rows in groupby(self.first[top : top + count].tolist()):
            until = at + len(list(rows))
            yield first, slice(at, until)
            at = until


def taps(before: int, after: int) -> Taps:
    """Cubic convolution with a = -1/2 (Keys 1981, doi:10.1109/TASSP.1981.1163711, eq. 15), from so many rows to so many.

    The weights of a row add up to 1. In the order of Pillow's arithmetic, so that pixels are the same.
    """
    centre = (np.arange(after) + 0.5) * (before / after)
    first = np.floor(centre - 2 + 0.5).astype(int)
    numbers = first + np.arange(TAPS)[:, None]
    away = np.abs(numbers - centre + 0.5)
    near = (1.5 * away - 2.5) * away * away + 1
    far = (((away - 5) * away + 8) * away - 4) * -0.5
    weights = np.where(away < 1, near, np.where(away < 2, far, 0.0))
    weights[(numbers < 0) | (numbers >= before)] = 0
    return Taps(first, (weights / weights.sum(axis=0)).T)


def heightened(framed: np.ndarray, limits: Range, height: int) -> Iterator[np.ndarray]:
    """float32 [EDGE + h + EDGE, n] -> bands of float32 [height, n] in the limits of each column: as Pillow has it, product by
    product and sum by sum."""
    wide = framed[EDGE:-EDGE]
    made = taps(len(wide), height)
    step = max(1, BAND // wide.shape[1])
    # One array for all bands: to clear new memory costs as much as what is done in it.
    found, (sums, products) = np.empty((step, wide.shape[1]), np.float32), np.empty((2, step, wide.shape[1]))
    row = functools.lru_cache(maxsize=TAPS)(lambda number: wide[number].astype(np.float64))
    for top in range(0, height, step):
        band = found[: height - top]
        for start, rows in made.alike(top, len(band)):
            here, count = made.weights[top:][rows], rows.stop - rows.start
            total, product = sums[:count], products[:count]
            inside = range(max(0, -start), min(TAPS, len(wide) - start))
            np.multiply(here[:, inside[0], None], row(start + inside[0]), out=total)
            for tap in inside[1:]:
                total += np.multiply(here[:, tap, None], row(start + tap), out=product)
            band[rows] = total
        yield np.clip(band, *limits, out=band)


def are_sure(steps: Steps, field: np.ndarray) -> bool:
    """Whether but a few of the steps of a field are near the border to the next, as `heightened_in_steps` needs it."""
    return steps.high > max(float(np.abs(field).max()) / WIDEST, LEAST)


def heightened_in_steps(framed: np.ndarray, limits: Range, height: int, steps: Steps) -> Iterator[np.ndarray]:
    """uint8 bands, each the `steps` of what `heightened` gives.

    By products of matrices in float32, in a quarter of the time. They are off by about a thousandth of a step at most: what
    is as near as that to the border between two steps is computed again.
    """
    made, step, times = (
        taps(len(framed) - 2 * EDGE, height),
        max(1, 2 * BAND // framed.shape[1]),
        steps.reach / steps.high,
    )
    weights = (made.weights * times).astype(np.float32)
    low, high = (np.clip(end * np.float64(times), steps.lowest, steps.reach).astype(np.float32) for end in limits)
    near = (0.5 - UNSURE * (255 + times * made.peaks(framed))).astype(np.float32)
    found, whole = np.empty((2, step, framed.shape[1]), np.float32)
    for top in range(0, height, step):
        band, rounded = found[: height - top], whole[: height - top]
        for start, rows in made.alike(top, len(band)):
            np.matmul(weights[top:][rows], framed[start + EDGE :][:TAPS], out=band[rows])
        np.clip(band, low, high, out=band)
        np.rint(band, out=rounded)
        band -= rounded
        unsure = np.flatnonzero(np.abs(band, out=band) > near[top : top + step].min())
        if steps.zero:
            rounded += steps.zero
        drawn = rounded.astype(np.uint8)
        drawn.ravel()[unsure] = steps.of(_at(framed, made, top, unsure, limits))
        yield drawn


def _at(framed: np.ndarray, made: Taps, top: int, places: np.ndarray, limits: Range) -> np.ndarray:
    """What `heightened` gives at some places of the band that begins at `top`, float32."""
    width = framed.shape[1]
    rows, columns = np.divmod(places, width)
    rows += top
    upper = (made.first[rows] + EDGE) * width + columns
    products = framed.ravel()[upper + width * np.arange(TAPS)[:, None]] * made.weights.T[:, rows]
    total = functools.reduce(np.add, products).astype(np.float32)
    low, high = (end[columns] if end.ndim else end for end in limits)
    return np.clip(total, low, high, out=total)
