"""How alike two maps are, in numbers. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradviz_cli.estimators import between

Array = np.ndarray

WINDOW = 7  # pixels across what SSIM compares at once
STABLE = 0.01, 0.03  # of the range: what keeps its fractions from 0 / 0
CLIP = 99.0  # percentile at which a map ends before SSIM sees it: single hot pixels are no structure


@dataclass(frozen=True)
class Likeness:
    """Means over the images whose maps could be compared; None where there was none.

    Attributes
    ----------
    cosine : float
        Of the signed maps, all channels (`alike`). What is judged: a map that says the opposite of another is as near to it
        as one that says the same, so for kernels drawn anew it is the mean of the absolute values.
    spearman : float
        Correlation of the ranks of |map|, the largest of its channels at each pixel.
    ssim : float
        Structural similarity of the same.
    """

    cosine: float | None
    spearman: float | None
    ssim: float | None


def alive(attribution: Array) -> bool:
    """Whether a map says anything that could be compared."""
    return bool(np.isfinite(attribution).all() and attribution.any())


def likeness(pairs: Sequence[tuple[Array, Array]]) -> Likeness:
    """The mean over pairs of maps [h, w, c] that are alive."""
    if not pairs:
        return Likeness(None, None, None)
    seen = [(abs(alike(one, other)), *_of_size(strongest(one), strongest(other))) for one, other in pairs]
    return Likeness(*(float(np.mean(column)) for column in zip(*seen, strict=True)))


def to_edges(pairs: Sequence[tuple[Array, Array]]) -> Likeness:
    """The same of maps [h, w, c] that are alive and edges [H, W], to whose size maps of inner layers are brought."""
    if not pairs:
        return Likeness(None, None, None)
    sizes = [(brought(strongest(one), edges.shape), edges) for one, edges in pairs]
    seen = [(abs(alike(one, edges)), *_of_size(one, edges)) for one, edges in sizes]
    return Likeness(*(float(np.mean(column)) for column in zip(*seen, strict=True)))


def _of_size(one: Array, other: Array) -> tuple[float, float]:
    return spearman(one, other), ssim(one, other)


def strongest(attribution: Array) -> Array:
    """|map|, [h, w, c] -> [h, w]."""
    found: Array = np.abs(attribution).max(-1)
    return found


def cosine(one: Array, other: Array) -> float:
    """Of two maps as vectors, from -1 to 1; 0 where one of them is zero everywhere."""
    a, b = (np.asarray(each, np.float64).ravel() for each in (one, other))
    # Each by its own size first: products of very small numbers vanish.
    a, b = (each / max(float(np.abs(each).max()), np.finfo(np.float64).tiny) for each in (a, b))
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / size, -1, 1)) if size else 0.0


def alike(one: Array, other: Array) -> float:
    """The cosine of two maps. Where neither has a sign (areas, squares, edges) it is that of what they have beyond their
    means, as any two such maps point the same way."""
    if one.min() >= 0 and other.min() >= 0:
        return cosine(one - one.mean(dtype=np.float64), other - other.mean(dtype=np.float64))
    return cosine(one, other)


def brought(field: Array, size: tuple[int, ...]) -> Array:
    """A field [h, w] interpolated to another size."""
    rows, columns = (between(small, large) for small, large in zip(field.shape, size, strict=True))
    found: Array = rows @ field @ columns.T
    return found


def spearman(one: Array, other: Array) -> float:
    """Correlation of ranks, ties at the middle of theirs; 0 where one of them is the same everywhere."""
    a, b = _ranks(one), _ranks(other)
    return cosine(a - a.mean(), b - b.mean())


def _ranks(values: Array) -> Array:
    _, places, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2)[places.ravel()]
    return ranks


def ssim(one: Array, other: Array) -> float:
    """Mean structural similarity of two fields [h, w], each brought to 0..1 first (Wang et al. 2004, equation 13).

    Windows are square, of WINDOW pixels and even weight, as scikit-image has them unless it is told otherwise; variances
    are those of a sample.
    """
    a, b = _unit(one), _unit(other)
    width = min(WINDOW, *a.shape)
    count = width * width
    mean_a, mean_b = _means(a, width), _means(b, width)
    sample = count / max(count - 1, 1)
    var_a, var_b = ((_means(each * each, width) - mean**2) * sample for each, mean in ((a, mean_a), (b, mean_b)))
    shared = (_means(a * b, width) - mean_a * mean_b) * sample
    c1, c2 = (part**2 for part in STABLE)
    above = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    return float((above / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def _unit(field: Array) -> Array:
    clipped = np.minimum(np.asarray(field, np.float64), np.percentile(field, CLIP))
    low, high = clipped.min(), clipped.max()
    found: Array = (clipped - low) / (high - low) if high > low else np.zeros_like(clipped)
    return found


def _means(field: Array, width: int) -> Array:
    """The mean of every window that lies inside, by sums from the corner."""
    sums = np.pad(field.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    found: Array = sums[width:, width:] - sums[:-width, width:] - sums[width:, :-width] + sums[:-width, :-width]
    return found / (width * width)


def sobel(image: Array) -> Array:
    """How strong the edges of an image [h, w, c] are, [h, w]: the control that knows no model (Sobel and Feldman 1968)."""
    gray = np.pad(np.asarray(image, np.float64).mean(-1), 1, mode="symmetric")
    across, down = (_slope(turned) for turned in (gray, gray.T))
    found: Array = np.hypot(across, down.T)
    return found


def _slope(gray: Array) -> Array:
    """From left to right, smoothed over three rows."""
    step = gray[:, 2:] - gray[:, :-2]
    found: Array = step[:-2] + 2 * step[1:-1] + step[2:]
    return found
