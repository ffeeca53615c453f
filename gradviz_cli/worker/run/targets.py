"""Which class is explained, and what a call asks and gives: scores as positions and classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.scores import class_axis
from gradviz_cli.worker.graph.question import Detections, Part


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
    detections : Detections or None
        What the scores list, as [N, detections, classes].
    box : int
        Explain a class at its N-th best position (1: the best) rather than at all that it wins (0).
    one_detection : bool
        Ranks are those of the classes of the N-th best detection of all, rather than of the best of each class.
    competing : bool
        The scores are logits of a softmax over the classes of each position.
    part : Part or None
        What the output holds of that softmax, where it has classes that are not in the output; none of detections.
    channel : int or None
        The one that is explained, whatever is the best.
    together : int
        Images that share a call, where the model takes any number of them.
    """

    fed: str
    entry: Entry
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()
    shape: tuple[int, ...] | None = None
    at: tuple[int, ...] = ()
    everywhere: bool = False
    detections: Detections | None = None
    box: int = 0
    one_detection: bool = False
    competing: bool = False
    part: Part | None = None
    channel: int | None = None
    together: int = 1


class Form(NamedTuple):
    """What a graph is built for: modes, number of targets, the number of images (None: any), and whether scores are asked for.

    With `looked` it also gives what fixes its classes (`Look.seeds`) and the inner tensors, with their gradients under the
    modes `inner`.
    """

    modes: tuple[str, ...]
    targets: int
    batch: int | None = None
    scored: bool = True
    looked: bool = False
    inner: tuple[str, ...] = ()


class Sampled(NamedTuple):
    """What a graph is built for that differentiates other points for classes that are fixed."""

    modes: tuple[str, ...]
    targets: int


@dataclass(frozen=True)
class Look:
    """One image with its t classes fixed, and what was found on the way.

    Attributes
    ----------
    columns : tuple of array [t]
        Index, rank, score and output, as in `Explained`.
    gradients : dict
        Mode -> float32 [t, h, w, c].
    seeds : float32 [t, p, k]
        1 where a class counts: seeds * scores sum to the score.
    values : tuple of array
        Of the inner tensors, as the graph lays them out, without the batch axis.
    slopes : dict
        Mode -> for each inner tensor the gradients of the scores with respect to it, [t, ...].
    """

    columns: tuple[np.ndarray, ...]
    gradients: Mapping[str, np.ndarray]
    seeds: np.ndarray
    values: tuple[np.ndarray, ...]
    slopes: Mapping[str, tuple[np.ndarray, ...]]


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
        One array of maps for each method, channels as the model takes them.
    numbers : tuple of float32 [t, n, k]
        What is recorded beside each map; none of plain gradients.
    """

    index: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    output: np.ndarray
    gradients: tuple[np.ndarray, ...]
    numbers: tuple[np.ndarray, ...] = ()

    def first(self, count: int) -> Explained:
        """What it gives for so many images."""
        return Explained(
            self.index[:count],
            self.rank[:count],
            self.score[:count],
            self.output[:count],
            tuple(each[:, :count] for each in self.gradients),
            tuple(each[:, :count] for each in self.numbers),
        )


def joined(parts: Sequence[Explained]) -> Explained:
    """The parts of a batch as one."""
    if len(parts) == 1:
        return parts[0]
    gradients, numbers = (
        tuple(np.concatenate(arrays, axis=1) for arrays in zip(*columns, strict=True))
        for columns in ((part.gradients for part in parts), (part.numbers for part in parts))
    )
    return Explained(
        np.concatenate([part.index for part in parts]),
        np.concatenate([part.rank for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.output for part in parts]),
        gradients,
        numbers,
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
    tensor = _batched(tensor, _sizes(tensor, problem), count, problem.entry.batch)
    if tensor.shape.rank < 2:
        tensor = tf.reshape(tensor, [-1, 1])
    listed = problem.detections
    axis = tensor.shape.rank - 1 if listed else class_axis(_sizes(tensor, problem), problem.entry.size)
    if listed and listed.shift:
        tensor = tf.pad(tensor, [*[[0, 0]] * axis, [listed.shift, 0]])
    tensor = tensor if axis == tensor.shape.rank - 1 else _moved_last(tensor, axis)
    if problem.at:
        tensor = _at(tensor, problem.at, listed is not None)
    classes = tensor.shape[-1] if tensor.shape[-1] is not None else tf.shape(tensor)[-1]
    inner = tensor.shape[1:-1].num_elements()
    rows = tensor.shape[0] if tensor.shape[0] is not None else -1 if inner is not None else tf.shape(tensor)[0]
    return tf.reshape(tensor, [rows, inner if inner is not None else -1, classes])


def _batched(tensor: tf.Tensor, sizes: Sequence[int | None], count: int | None, fixed: int | None) -> tf.Tensor:
    """The same with a batch axis: a model of one image may have dropped it. `fixed` is the number of images that the model says."""
    first = sizes[0] if sizes else 0
    if count == 0 or first != count and (fixed == 1 or first == 0):
        return tensor[None]
    if first in (count, None, 1 if count is None else count):
        return tensor
    if count is not None and fixed is None:  # what has other rows than images is judged by those that a call gives
        return tf.compat.v1.placeholder_with_default(tensor, [None, *tensor.shape[1:]])
    number = "whatever the number of images" if count is None else f"for {count} images"
    taken = ", which its input takes at once" if fixed else ""
    raise ModelUnusable(
        f"the first axis of {named(tensor)} is {first}, {number}{taken}",
        f"choose another tensor with --output NAME{', or one that holds an image with --input NAME' if fixed else ''}",
    )


def _sizes(tensor: tf.Tensor, problem: Problem) -> list[int | None]:
    """Of each axis; where the graph leaves it open, as the model says of its output."""
    own, said = tensor.shape.as_list(), problem.shape or ()
    if len(said) != len(own):
        return own
    return [
        other if size is None and other is not None and other >= 0 else size
        for size, other in zip(own, said, strict=True)
    ]


def _moved_last(tensor: tf.Tensor, axis: int) -> tf.Tensor:
    return tf.transpose(tensor, [*(one for one in range(tensor.shape.rank) if one != axis), axis])


# The scope that the graph is imported in.
SCOPE = "model"


def named(tensor: tf.Tensor | str) -> str:
    """The name that a tensor has in the model's graph, or that of which it is a copy."""
    name = tensor if isinstance(tensor, str) else tensor.name
    return re.sub(r"/gradviz_\w+", "", name.removeprefix(f"{SCOPE}/"))


def _at(tensor: tf.Tensor, at: tuple[int, ...], listed: bool) -> tf.Tensor:
    inner = tensor.shape[1:-1].as_list()
    if listed and len(at) != 1:
        raise UsageError(
            f"--at {','.join(map(str, at))}: detections stand in one row",
            "give the place of one, from 0, or --box-of N",
        )
    if len(at) != len(inner):
        raise UsageError(
            f"--at {','.join(map(str, at))}: {_axes_said(len(inner))}",
            f"give {len(inner)} number{'s' if len(inner) > 1 else ''}" if inner else "leave out --at",
        )
    for place, size in zip(at, inner, strict=True):
        if size is not None and place >= size:
            text = ",".join(map(str, at))
            raise UsageError(
                f"--at {text} (or --output NAME[0, {text}, ...]): the scores are {inner}", "give a position inside"
            )
    chosen = (slice(None), *at)
    return tensor[chosen]


def _axes_said(count: int) -> str:
    if not count:
        return "the output has one score for each class, and no positions"
    return f"the scores have {count} position {'axes' if count > 1 else 'axis'}"


def winners(scores: tf.Tensor, outputs: tf.Tensor, problem: Problem, want: tf.Tensor | int = -1) -> tf.Tensor:
    """[N, P, K]: 1 where a class counts. At one position each does; at several, where it is the best, of those too that are
    not in the output (or, a single class, where its score is positive); with `box` at one position each.

    Parameters
    ----------
    want : int
        The class or rank that is asked for, as `chosen_class` takes it.
    """
    if problem.everywhere or scores.shape[1] == 1:
        _check_box(problem)
        return tf.ones_like(scores)
    if problem.box:
        by = outputs if _by_output(scores, outputs, problem) else scores
        return tf.cast(_at_its_best(by, problem, tf.convert_to_tensor(want)), scores.dtype)
    if scores.shape[2] == 1:
        best = tf.cast(_is_likely(scores, outputs, problem), scores.dtype)
    else:
        best = tf.one_hot(tf.argmax(scores, axis=2), tf.shape(scores)[2], dtype=scores.dtype)
        if problem.part:
            best *= tf.cast(_is_likely(scores, outputs, problem), scores.dtype)
    return tf.where(tf.shape(scores)[1] == 1, tf.ones_like(scores), best)


def _is_likely(scores: tf.Tensor, outputs: tf.Tensor, problem: Problem) -> tf.Tensor:
    """Whether a class is more likely than all that are not in the output together: a positive logit, where it stands alone."""
    if not problem.part or outputs.shape[1:] != scores.shape[1:]:
        return scores > 0
    likely = (outputs - problem.part.plus) / problem.part.times
    likely = tf.exp(likely) if problem.part.logarithm else likely
    return likely > 1 - tf.reduce_sum(likely, 2, keepdims=True)


def _check_box(problem: Problem) -> None:
    """Refuse the N-th best of a single score: it would be left out without a word."""
    if problem.box > 1:
        why = (
            "one channel is explained, everywhere" if problem.everywhere else "a class has one score and no second best"
        )
        raise UsageError(f"--box-of {problem.box}: {why}", "leave out --box-of")


def _by_output(scores: tf.Tensor, outputs: tf.Tensor, problem: Problem) -> bool:
    """Whether the output says which position is the best: the logits of one softmax are not those of the next. Else the
    scores do, as probabilities all are 1 where the model is sure."""
    return problem.competing and outputs.shape[1:] == scores.shape[1:]


def _at_its_best(scores: tf.Tensor, problem: Problem, want: tf.Tensor) -> tf.Tensor:
    """[N, P, K]: 1 at the N-th best position of each class; nowhere for a class that no detection is of."""
    count, places = scores.shape[1], scores.shape[1] or tf.shape(scores)[1]
    if count is not None and problem.box > count:
        raise UsageError(f"--box-of {problem.box}: the scores have {count} positions", "give a smaller one")
    seen = _detected(scores, problem)
    best = _nth(tf.where(seen, scores, scores.dtype.min), problem.box)
    if problem.one_detection:
        ranked = tf.where(seen & _in_ranks(scores, problem), scores, scores.dtype.min)
        of_any = _nth(tf.reduce_max(ranked, 2, keepdims=True), problem.box)
        best = tf.where(want < 0, of_any, best)
    won = tf.one_hot(best, places, axis=1, dtype=scores.dtype)
    return tf.where(seen, won, tf.zeros_like(won))


def _nth(scores: tf.Tensor, place: int) -> tf.Tensor:
    """[N, P, K] -> [N, K]: the position of the N-th largest of each class."""
    if place == 1:
        return tf.argmax(scores, axis=1, output_type=tf.int32)
    return tf.math.top_k(tf.transpose(scores, [0, 2, 1]), place).indices[..., place - 1]


def _detected(scores: tf.Tensor, problem: Problem) -> tf.Tensor:
    """Whether a detection may be of a class at all."""
    listed = problem.detections
    if listed and listed.labelled:
        return scores >= 0
    return (tf.range(tf.shape(scores)[2]) >= (listed.shift if listed else 0)) & tf.ones_like(scores, tf.bool)


def _in_ranks(scores: tf.Tensor, problem: Problem) -> tf.Tensor:
    """[K]: whether a class is among those that are ranked; the background is none."""
    background = problem.detections.background if problem.detections else None
    return tf.range(tf.shape(scores)[2]) != (-1 if background is None else background)


def _of_output(outputs: tf.Tensor, won: tf.Tensor) -> tf.Tensor:
    """[N, K]: the model's own output where a class counts, summed as the scores are; of one that gives a decision alone,
    that decision, or over positions nothing."""
    if outputs.shape[1:] != won.shape[1:]:
        decided = tf.reduce_mean(outputs, [1, 2], keepdims=True)
        known = decided if won.shape[1] == 1 else tf.fill(tf.shape(decided), tf.constant(np.nan, decided.dtype))
        return tf.broadcast_to(known, tf.shape(won[:, :1]))[:, 0]
    return tf.reduce_sum(outputs * tf.cast(won, outputs.dtype), 1)


Column = tuple["tf.Tensor", "tf.Tensor", "tf.Tensor", "tf.Tensor"]  # index, rank, score, output; [N] each


def chosen_class(
    scores: tf.Tensor, outputs: tf.Tensor, won: tf.Tensor, want: tf.Tensor, problem: Problem | None = None
) -> Column:
    """The class of each row: `want` itself, or the class of rank -1 - want.

    Classes are ranked by score; where there are several positions, by how many they win. Ties: the lower index first.
    """
    totals, means = tf.reduce_sum(scores * won, 1), _of_output(outputs, won)
    area = tf.reduce_sum(won, 1)
    if problem and (problem.box or problem.detections):
        summed = not problem.box and outputs.shape[1:] == scores.shape[1:]  # of logits most say that nothing is there
        found = means if summed or _by_output(scores, outputs, problem) else totals
        merit = tf.where((area > 0) & _in_ranks(scores, problem), found, found.dtype.min)
    else:
        merit = totals if scores.shape[1] == 1 else tf.where(tf.shape(scores)[1] == 1, totals, area)
    order = tf.argsort(merit, axis=1, direction="DESCENDING", stable=True)
    rows = tf.fill([tf.shape(scores)[0]], want)
    rank = tf.maximum(-rows - 1, 0)
    index = tf.where(rows < 0, tf.gather(order, rank, batch_dims=1), rows)
    places = tf.argsort(order, axis=1, stable=True)
    picked = (tf.gather(values, index, batch_dims=1) for values in (totals, means))
    return index, tf.gather(places, index, batch_dims=1), *picked


def given_class(
    scores: tf.Tensor, outputs: tf.Tensor, won: tf.Tensor, want: tf.Tensor, problem: Problem | None = None
) -> Column:
    """The class `want` for each row; rank and scores are left unknown, so that nothing has to be computed for them."""
    rows = tf.fill([tf.shape(scores)[0]], want)
    unknown = tf.fill(tf.shape(rows), np.float32(np.nan))
    return rows, tf.fill(tf.shape(rows), -1), unknown, unknown
