"""The inputs beside the image that nobody gave a value: 0 does for most; some count the images, which running the model
shows; what cannot be 0 has to be given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import UsageError
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.measure import measure
from gradviz_cli.worker.graph.graph import LOOPS, Graph, attribute
from gradviz_cli.worker.graph.question import Question, Tensor, describe, names

Array = np.ndarray
# Number of images, values of some inputs -> how many numbers the score has; None where it cannot be computed, or is none.
Run = Callable[[int, Mapping[str, Array]], int | None]


def unfed(question: Question, options: ModelOptions) -> list[Tensor]:
    """The inputs that nobody gave a value, but for a single truth: it says whether the model is trained, which it is not."""
    given = dict(options.feeds)
    missing = [tensor for tensor in question.others if not any(name in given for name in names(tensor))]
    return [tensor for tensor in missing if tensor.dtype != tf.bool or tensor.shape != ()]


def unfed_warning(missing: list[Tensor]) -> str | None:
    """Of inputs that are fed with 0."""
    keys = ", ".join(tensor.key for tensor in missing)
    return f"the inputs {keys} are fed with 0; settle it with --feed NAME=VALUE" if keys else None


def settle_unfed(
    graph: Graph, question: Question, entry: Entry, values: Mapping[str, Array], missing: list[Tensor]
) -> tuple[dict[str, Array], list[Tensor]]:
    """The values with those of inputs that count the images, and the inputs that are fed with 0 for want of a better.

    Parameters
    ----------
    values : mapping
        Placeholder -> value, 0 for those that are missing.

    Raises
    ------
    UsageError
        The score cannot be computed with 0 for them.
    """
    if not missing or LOOPS & graph.ops().keys():
        return dict(values), missing
    run = _runs(graph, question, entry, values)
    if run(1, {}):
        return dict(values), missing
    single = [
        one
        for one in missing
        if values[graph.feeds[one.name]].size == 1 and (one.dtype.is_floating or one.dtype.is_integer)
    ]
    ones = {one: _filled(graph, one, values, 1) for one in single}
    if run(1, _together(ones)) is None:
        if _is_refused(graph, question, entry, values):
            raise _lacking(missing)
        return dict(values), missing
    needed = [one for one in single if not run(1, _together({**ones, one: _filled(graph, one, values, 0)}))]
    counts = [one for one in needed if entry.batch is None and _counts(graph, run, one, ones, values)]
    rest = [one for one in missing if one not in counts]
    settled = {**values, **_together({one: ones[one] for one in counts})}
    if not run(1, settled):
        raise _lacking([one for one in needed if one not in counts] or single)
    return settled, rest


def _lacking(tensors: list[Tensor]) -> UsageError:
    inputs = ", ".join(f"{one.key} ({describe(one)})" for one in tensors)
    return UsageError(
        f"the score cannot be computed with 0 for {inputs}, and no other value is given",
        f"give {'it' if len(tensors) == 1 else 'them'} with {' '.join(f'--feed {one.key}=VALUE' for one in tensors)}",
    )


def _counts(
    graph: Graph, run: Run, tensor: Tensor, ones: Mapping[Tensor, dict[str, Array]], values: Mapping[str, Array]
) -> bool:
    """Whether an input is the number of images: of two it is 2, and of one it is not."""
    two = _together({**ones, tensor: _filled(graph, tensor, values, 2)})
    alone = run(1, _together(ones))
    return tensor.dtype.is_integer and alone is not None and run(2, two) == 2 * alone and run(1, two) != alone


def _filled(graph: Graph, tensor: Tensor, values: Mapping[str, Array], number: int) -> dict[str, Array]:
    name = graph.feeds[tensor.name]
    return {name: np.full_like(values[name], number)}


def _together(each: Mapping[Tensor, dict[str, Array]]) -> dict[str, Array]:
    return {name: value for one in each.values() for name, value in one.items()}


def _runs(graph: Graph, question: Question, entry: Entry, values: Mapping[str, Array]) -> Run:
    picture = np.random.default_rng(0).random((*entry.size, entry.channels), np.float32)
    picture *= 255 if entry.whole or entry.encoding != "pixels" else 1

    def run(images: int, others: Mapping[str, Array]) -> int | None:
        place = entry if images == 1 else replace(entry, batch=images)
        try:
            of_picture = measure(graph, question.fed(graph), [graph.score], place, {**values, **others})
            (score,) = of_picture(picture)[1]
        except Exception:  # whatever TensorFlow throws at numbers that do not fit
            return None
        return None if np.isnan(score).any() or not np.isfinite(score).any() else score.size

    return run


def _is_refused(graph: Graph, question: Question, entry: Entry, values: Mapping[str, Array]) -> bool:
    """Whether no image at all has a score with these values, as the shapes say."""
    fed = question.fed(graph)
    dtype = tf.dtypes.as_dtype(attribute(graph.node(fed), "dtype").type)
    try:
        with tf.Graph().as_default():
            image = tf.compat.v1.placeholder(dtype, replace(entry, batch=entry.batch or 1).spec(dtype).shape)
            given = {f"{name}:0": tf.constant(value) for name, value in values.items()}
            tf.graph_util.import_graph_def(graph.graph_def(), {fed: image, **given}, name="")
    except ValueError:
        return True
    return False
