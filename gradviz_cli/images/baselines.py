"""What stands for an image that is absent: where an estimator that goes from there to the image begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray"

BLURRED = 0.1  # standard deviation of the blur, as a part of the longer side


def _mean(image: Array) -> Array:
    """The image's own mean colour: what is like it but for all shapes."""
    return np.broadcast_to(image.mean(axis=(0, 1), dtype=np.float64), image.shape).astype(np.float32)


def _blur(image: Array) -> Array:
    """A Gaussian blur along both axes; at the borders the weights of what lies outside are shared out."""
    deviation = BLURRED * max(image.shape[:2])
    rows, columns = (_weights(size, deviation) for size in image.shape[:2])
    return np.einsum("yh,hwc,xw->yxc", rows, image.astype(np.float64), columns, optimize=True).astype(np.float32)


def _weights(size: int, deviation: float) -> Array:
    apart = np.arange(size)[:, None] - np.arange(size)[None, :]
    weights = np.exp(-0.5 * (apart / deviation) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


BASELINES: dict[str, Callable[[Array], Array]] = {
    "mean": _mean,
    "black": lambda image: np.zeros(image.shape, np.float32),
    "white": lambda image: np.full(image.shape, 255, np.float32),
    "blur": _blur,
}
"""Name -> uint8 or float [h, w, c], 0..255 -> float32 of the same shape; with files, the choices of --baseline."""
COLOURS = ("black", "white")  # what only levels have
