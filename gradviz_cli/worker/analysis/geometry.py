"""Whether the tensor at which the gradient starts is the image itself, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def check_start(graph: Graph, question: Question, entry: Entry, constants: Mapping[str, Array]) -> None:
    """Refuse a start that is not the image, each pixel and channel in its place and brighter where the image is.

    What lies between is only known by what it does, so it is run: on pictures of noise in which each number grows from 0
    to 255, at steps of its own. The start must have the same shape, stay where the picture stays, never fall, and be
    higher at the end.

    Raises
    ------
    ModelUnusable
    """
    fed = question.fed(graph)
    if graph.wrt == fed:
        return
    key, kind = question.image.key, question.image.dtype.name
    remedy = f"explain from there with --input {graph.wrt.removesuffix(':0')}"
    try:
        run = measure(graph, fed, [graph.wrt], entry, constants)
        seen = [_seen(run, picture, entry) for picture in probes((*entry.size, entry.channels))]
        pictures, values = (np.stack(column) for column in zip(*seen, strict=True))
    except (tf.errors.OpError, ValueError, TypeError) as error:
        message = f"what makes numbers of the {kind} input {key} fails for a picture of {_size(entry)}"
        raise ModelUnusable(f"{message} ({described(error)})", remedy) from error
    if not same_pixels(pictures, values):
        raise ModelUnusable(
            f"no gradient reaches the {kind} input {key}, and {graph.wrt}, the first numbers behind it that have one, "
            f"are not its pixels one by one: they are moved, cut off, padded, mixed or turned around",
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


def _seen(run: Callable[[Array], tuple[Array, list[Array]]], picture: Array, entry: Entry) -> tuple[Array, Array]:
    """A picture as it is fed, and what the start makes of it; of encoded ones as the gradient is laid out."""
    given, (found,) = run(picture)
    if entry.encoding == "pixels":
        return given, found
    return picture, entry.from_model(found)[0]


def _size(entry: Entry) -> str:
    return f"{entry.size[0]}x{entry.size[1]}"
