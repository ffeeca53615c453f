"""Drawn images that a model is proved on: the same for everyone, strictly inside the range that it expects."""

from __future__ import annotations

import numpy as np

from gradviz_cli.process.protocol import GIVEN, ModelOptions
from gradviz_cli.worker.analysis.entry import Entry

Array = np.ndarray

# Range of pixels behind each --preprocess, but for the outermost values: a clamp at the end of the range has no one slope.
RANGES = {
    "raw": (0.0, 255.0),
    "unit": (0.0, 1.0),
    "signed": (-1.0, 1.0),
    "caffe": (-103.0, 131.0),
    "torch": (-1.8, 2.2),
}
MARGIN, WIDEST_MARGIN = 0.04, 0.25  # of the range, at each end
BLOBS = 9


def span(preprocess: str, options: ModelOptions) -> tuple[float, float]:
    """The values that every channel can have in that range; where there are none, those of any."""
    if preprocess != GIVEN or options.pixel_range is None:
        return RANGES[preprocess]
    low, high = ((end - np.array(options.mean or (0.0,))) / (options.std or (1.0,)) for end in options.pixel_range)
    common = float(low.max()), float(high.min())
    return common if common[0] < common[1] else (float(low.min()), float(high.max()))


def scenes(entry: Entry, ends: tuple[float, float], count: int, seed: int) -> Array:
    """float32 [count, h, w, c]: smooth blobs, an edge and some noise each, between these values."""
    random = np.random.default_rng(seed)
    least, most = ends
    drawn = np.stack([_scene(random, *entry.size, entry.channels) for _ in range(count)])
    # No two have the same darkest and brightest pixel: a model may go by those of a batch.
    margins = random.uniform(MARGIN, WIDEST_MARGIN, (2, count, 1, 1, 1))
    pixels = least + (margins[0] + (1 - margins.sum(0)) * drawn) * (most - least)
    whole = entry.whole or entry.encoding != "pixels"
    return (np.rint(pixels) if whole else pixels).astype(np.float32)


def _scene(random: np.random.Generator, height: int, width: int, channels: int) -> Array:
    """[h, w, c] in 0..1."""
    down, across = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[:, None]
    scene = random.normal(0, 0.1, (height, width * channels))
    for _ in range(BLOBS):
        y, x, size = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.05, 0.4)
        tall, wide = (np.exp(-((line - at) ** 2) / (2 * size**2)) for line, at in ((down, y), (across, x)))
        scene += tall * (wide * random.normal(size=channels)).reshape(-1)
    scene = scene.reshape(height, width, channels)
    top, left = random.integers(0, max(1, height // 2)), random.integers(0, max(1, width // 2))
    scene[top : top + height // 3 + 1, left : left + width // 3 + 1] += random.normal(size=channels)
    least = scene.min()
    return (scene - least) / max(float(np.ptp(scene)), 1e-9)
