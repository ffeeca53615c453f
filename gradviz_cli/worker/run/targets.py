"""Which class is explained, and what a call asks and gives: scores as positions and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.scores import class_axis


@dataclass(frozen=True)
class Problem:
    """How a graph is differentiated: what goes in beside its weights, and how its scores are read.

    Attributes
    ----------
    fed : str
        The placeholder of the image, as a tensor.
    entry : Entry
        How pictures become `fed`, and gradients pictures.
    constants : dict
        Placeholder -> value of the other inputs.
    repeated : set of str
        Those of them that are given once and taken once for each image.
    shape : tuple of int or None
        What the model says of the scores' shape, -1 where open, None where nothing.
    at : tuple of int
        Position of the scores to explain where there are several (`--at`).
    everywhere : bool
        Sum a class over all positions rather than over those where it wins (a channel of a hidden layer).
    """

    fed: str
    entry: Entry
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()
    shape: tuple[int, ...] | None = None
    at: tuple[int, ...] = ()
    everywhere: bool = False


class Form(NamedTuple):
    """What a graph is built for: modes, number of targets, and where scores are left out the number of images."""

    modes: tuple[str, ...]
    targets: int
    batch: int | None = None


@dataclass(frozen=True)
class Explained:
    """What one call gives for n images and t targets.

    Attributes
    ----------
    index, rank : int32 [n, t]
        The class that was explained, and its place among the classes (0 is the best; -1: not asked for).
    score, output : float32 [n, t]
        The score that was differentiated, and the same class in the model's own output (NaN: not asked for).
    gradients : tuple of float32 [t, n, h, w, c]
        One array for each mode, channels as the model takes them.
    """

    index: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    output: np.ndarray
    gradients: tuple[np.ndarray, ...]


def joined(parts: Sequence[Explained]) -> Explained:
    """The parts of a batch as one."""
    if len(parts) == 1:
        return parts[0]
    gradients = zip(*(part.gradients for part in parts), strict=True)
    return Explained(
        np.concatenate([part.index for part in parts]),
        np.concatenate([part.rank for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.output for part in parts]),
        tuple(np.concatenate(arrays, axis=1) for arrays in gradients),
    )


def positions(tensor: tf.Tensor, count: int | None, problem: Problem) -> tf.Tensor:
    """Scores as [N, P, K]: K classes at each of P positions; one position unless the output is a map or a sequence.

    Parameters
    ----------
    count : int or None
        The number of images that the scores are of, None where it is open, 0 for a model that takes one image without
        a batch axis, and so has none in its output.
    """
    if tensor.shape.rank is None and problem.shape is not None:
        tensor = tf.ensure_shape(tensor, [None if size < 0 else size for size in problem.shape])
    if tensor.shape.rank is None:
        raise ModelUnusable(f"the rank of {named(tensor)} is open", "choose another tensor with --output NAME")
    if not tensor.dtype.is_floating:
        tensor = tf.cast(tensor, tf.float32)
    tensor = _batched(tensor, count)
    if tensor.shape.rank < 2:
        tensor = tf.reshape(tensor, [-1, 1])
    axis = class_axis(tensor.shape.as_list(), problem.entry.size)
    tensor = tensor if axis == tensor.shape.rank - 1 else _moved_last(tensor, axis)
    if problem.at:
        tensor = _at(tensor, problem.at)
    classes = tensor.shape[-1] if tensor.shape[-1] is not None else tf.shape(tensor)[-1]
    inner = tensor.shape[1:-1].num_elements()
    rows = tensor.shape[0] if tensor.shape[0] is not None else -1 if inner is not None else tf.shape(tensor)[0]
    return tf.reshape(tensor, [rows, inner if inner is not None else -1, classes])


def _batched(tensor: tf.Tensor, count: int | None) -> tf.Tensor:
    """The same with a batch axis: a model of one image may have dropped it."""
    first = tensor.shape[0] if tensor.shape.rank else 0
    if count == 0 or first != count and (count == 1 or first == 0):
        return tensor[None]
    if first not in (count, None, 1 if count is None else count):
        number = "whatever the number of images" if count is None else f"for {count} images"
        raise ModelUnusable(
            f"the first axis of {named(tensor)} is {first}, {number}", "choose another tensor with --output NAME"
        )
    return tensor


def _moved_last(tensor: tf.Tensor, axis: int) -> tf.Tensor:
    return tf.transpose(tensor, [*(one for one in range(tensor.shape.rank) if one != axis), axis])


# The scope that the graph is imported in.
SCOPE = "model"


def named(tensor: tf.Tensor) -> str:
    """The name that a tensor has in the model's graph, or that of which it is a copy."""
    return tensor.name.removeprefix(f"{SCOPE}/").replace("/gradviz_logit", "")


def _at(tensor: tf.Tensor, at: tuple[int, ...]) -> tf.Tensor:
    inner = tensor.shape[1:-1].as_list()
    if len(at) != len(inner):
        raise UsageError(
            f"--at {','.join(map(str, at))}: the scores have {len(inner)} position axes", f"give {len(inner)}"
        )
    for place, size in zip(at, inner, strict=True):
        if size is not None and place >= size:
            raise UsageError(f"--at {','.join(map(str, at))}: the scores are {inner}", "give a position inside")
    chosen = (slice(None), *at)
    return tensor[chosen]


def winners(scores: tf.Tensor, everywhere: bool) -> tf.Tensor:
    """[N, P, K]: 1 where a class counts. At one position each does; at several, where it is the best (or, a single
    class, where its score is positive)."""
    if everywhere or scores.shape[1] == 1:
        return tf.ones_like(scores)
    if scores.shape[2] == 1:
        best = tf.cast(scores > 0, scores.dtype)
    else:
        best = tf.one_hot(tf.argmax(scores, axis=2), tf.shape(scores)[2], dtype=scores.dtype)
    return tf.where(tf.shape(scores)[1] == 1, tf.ones_like(scores), best)


def _mean(outputs: tf.Tensor, won: tf.Tensor) -> tf.Tensor:
    """[N, K]: the model's own output over the positions that count; the decision itself where it gives no more."""
    if outputs.shape[1:] != won.shape[1:]:
        outputs = tf.broadcast_to(tf.reduce_mean(outputs, [1, 2], keepdims=True), tf.shape(won))
    won = tf.cast(won, outputs.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(outputs * won, 1), tf.reduce_sum(won, 1))


Column = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]  # index, rank, score, output; [N] each


def chosen_class(scores: tf.Tensor, outputs: tf.Tensor, won: tf.Tensor, want: tf.Tensor) -> Column:
    """The class of each row: `want` itself, or the class of rank -1 - want.

    Classes are ranked by score; where there are several positions, by how many they win. Ties: the lower index first.
    """
    totals, means = tf.reduce_sum(scores * won, 1), _mean(outputs, won)
    area = tf.reduce_sum(won, 1)
    merit = totals if scores.shape[1] == 1 else tf.where(tf.shape(scores)[1] == 1, totals, area)
    order = tf.argsort(merit, axis=1, direction="DESCENDING", stable=True)
    rows = tf.fill([tf.shape(scores)[0]], want)
    rank = tf.maximum(-rows - 1, 0)
    index = tf.where(rows < 0, tf.gather(order, rank, batch_dims=1), rows)
    places = tf.argsort(order, axis=1, stable=True)
    picked = (tf.gather(values, index, batch_dims=1) for values in (totals, means))
    return index, tf.gather(places, index, batch_dims=1), *picked


def given_class(scores: tf.Tensor, outputs: tf.Tensor, won: tf.Tensor, want: tf.Tensor) -> Column:
    """The class `want` for each row; rank and scores are left unknown, so that nothing has to be computed for them."""
    rows = tf.fill([tf.shape(scores)[0]], want)
    unknown = tf.fill(tf.shape(rows), np.float32(np.nan))
    return rows, tf.fill(tf.shape(rows), -1), unknown, unknown
