"""Whether the tensor at which the gradient starts is the image itself, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.measure import measure
from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.words import described

Array = np.ndarray

# Each further picture halves the chance that a pixel which stands elsewhere goes unnoticed.
PROBES = 9
# A resize to the size that a picture has already is exact up to rounding.
ROUNDING = 1e-4


def check_start(graph: Graph, question: Question, entry: Entry, constants: Mapping[str, Array]) -> str | None:
    """Whether the start is the image, each pixel and channel in its place and higher where the image is brighter.

    What lies between is only known by what it does, so it is run: on pictures of noise in which each number grows from 0
    to 255, at steps of its own. The start must have the same shape, stay where the picture stays, never fall, and be
    higher at the end. An encoded image is allowed another view than the decoded one, with a warning: the first numbers
    are what the network sees.

    Raises
    ------
    ModelUnusable
        The start is not the image, or has another shape.
    """
    if graph.wrt == question.fed(graph):
        return None
    start, image = graph.wrt, f"{question.image.dtype.name} input {question.image.key}"
    remedy = f"explain from there with --input {start.removesuffix(':0')}"
    try:
        pictures, values = _run(graph, question, entry, constants)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        size = f"{entry.size[0]}x{entry.size[1]}"
        raise ModelUnusable(f"the {image} fails for a picture of {size} ({described(error)})", remedy) from error
    if same_pixels(pictures, values):
        return None
    if entry.encoding != "pixels" and pictures.shape == values.shape:
        return (
            f"the map is of {start}, where the pixels of the decoded image are moved, cut off, mixed or turned around: "
            f"it does not lie upon the image; settle it with --input {start.removesuffix(':0')}"
        )
    shapes = f"{list(values.shape[1:])} for a picture of {list(pictures.shape[1:])}"
    other = shapes if pictures.shape != values.shape else "moved, mixed or turned around"
    raise ModelUnusable(
        f"no gradient reaches the {image}, and the first numbers behind it, {start}, are not its pixels: {other}",
        remedy,
    )


def probes(shape: tuple[int, int, int], seed: int = 0) -> Array:
    """float32 [PROBES, h, w, c]: from black to white, each number rising at random steps, and staying at others."""
    random = np.random.default_rng(seed)
    steps = random.integers(1, 64, (PROBES - 1, *shape)) * random.integers(0, 2, (PROBES - 1, *shape))
    rising = np.minimum(np.cumsum(steps, axis=0), 255)
    return np.concatenate([np.zeros((1, *shape)), rising[:-1], np.full((1, *shape), 255)]).astype(np.float32)


def same_pixels(pictures: Array, values: Array) -> bool:
    """Whether `values` [p, ...] are a rising function of `pictures` [p, ...], number by number."""
    if pictures.shape != values.shape:
        return False
    values = values.astype(np.float64)
    rise, given = np.diff(values, axis=0), np.diff(pictures.astype(np.float64), axis=0)
    rounding = ROUNDING * np.ptp(values)
    stays = np.abs(rise[given == 0]) <= rounding
    return bool(np.all(rise >= -rounding) and np.all(stays) and np.all(values[-1] - values[0] > rounding))


def _run(graph: Graph, question: Question, entry: Entry, constants: Mapping[str, Array]) -> tuple[Array, Array]:
    """The probes as they are fed, and the start for each; of encoded ones the pictures, and what a map would be of."""
    run = measure(graph, question.fed(graph), [graph.wrt], entry, constants)
    pictures = probes((*entry.size, entry.channels))
    fed, found = zip(*(run(picture) for picture in pictures), strict=True)
    if entry.encoding == "pixels":
        return np.stack(fed), np.stack([values for (values,) in found])
    return pictures, np.stack([entry.from_model(values)[0] for (values,) in found])
