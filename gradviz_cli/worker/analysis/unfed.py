"""The inputs beside the image that nobody gave a value: 0 does for most; some count the images, which running the model
shows; what cannot be 0 has to be given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import UsageError
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.image import repeated
from gradviz_cli.worker.analysis.measure import measure
from gradviz_cli.worker.graph.graph import LOOPS, Graph, attribute
from gradviz_cli.worker.graph.question import Question, Tensor, describe, names
from gradviz_cli.worker.graph.tf_private import import_nodes

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
    fed = f"input {keys} is" if len(missing) == 1 else f"inputs {keys} are"
    return f"the {fed} fed with 0; settle it with --feed NAME=VALUE" if keys else None


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
        With 0 for them the score cannot be computed, or does not depend on the image.
    """
    if not missing or LOOPS & graph.ops().keys():
        return dict(values), missing
    run = _runs(graph, question, entry, values)
    if run(1, {}):
        return dict(values), missing
    numbers = [one for one in missing if one.dtype.is_floating or one.dtype.is_integer]
    ones = {one: _filled(graph, one, values, 1) for one in numbers}
    alone = run(1, _together(ones))
    if alone is None:
        if _is_refused(graph, question, entry, values):
            raise _lacking(missing)
        return dict(values), missing
    needed = [one for one in numbers if not run(1, _together({**ones, one: _filled(graph, one, values, 0)}))]
    counts = [one for one in needed if entry.batch is None and _counts(graph, run, alone, one, ones, values)]
    rest = [one for one in missing if one not in counts]
    settled = {**values, **_together({one: ones[one] for one in counts})}
    if not run(1, settled):
        raise _lacking([one for one in needed if one not in counts] or numbers)
    return settled, rest


def _lacking(tensors: list[Tensor]) -> UsageError:
    inputs = ", ".join(f"{one.key} ({describe(one)})" for one in tensors)
    return UsageError(
        f"with 0 for {inputs} there is no score, or one for all images, and no other value is given",
        f"give {'it' if len(tensors) == 1 else 'them'} with {' '.join(f'--feed {one.key}=VALUE' for one in tensors)}",
    )


def _counts(
    graph: Graph,
    run: Run,
    alone: int,
    tensor: Tensor,
    ones: Mapping[Tensor, dict[str, Array]],
    values: Mapping[str, Array],
) -> bool:
    """Whether an input is the number of images: of two it is 2, and of one, which has `alone` numbers, it is not."""
    two = _together({**ones, tensor: _filled(graph, tensor, values, 2)})
    return tensor.dtype.is_integer and run(2, two) == 2 * alone and run(1, two) != alone


def _filled(graph: Graph, tensor: Tensor, values: Mapping[str, Array], number: int) -> dict[str, Array]:
    name = graph.feeds[tensor.name]
    return {name: np.full_like(values[name], number)}


def _together(each: Mapping[Tensor, dict[str, Array]]) -> dict[str, Array]:
    return {name: value for one in each.values() for name, value in one.items()}


def _runs(graph: Graph, question: Question, entry: Entry, values: Mapping[str, Array]) -> Run:
    noise = np.random.default_rng(0).random((*entry.size, entry.channels), np.float32)
    pictures = [255 * noise, noise[::-1], 128 * noise[:, ::-1]]
    if not entry.whole and entry.encoding == "pixels":
        pictures.insert(0, noise)  # what the model expects is not known yet
    beside = repeated(graph, question, values)

    def run(images: int, others: Mapping[str, Array]) -> int | None:
        place = entry if images == 1 else replace(entry, batch=images)
        given = {**values, **others, **{name: np.repeat(values[name], images, 0) for name in beside - others.keys()}}
        try:
            of_picture = measure(graph, question.fed(graph), [graph.score], place, given)
            return _size_of(of_picture(picture)[1][0] for picture in pictures)
        except Exception:  # whatever TensorFlow throws at numbers that do not fit
            return None

    return run


def _size_of(scores: Iterator[Array]) -> int | None:
    """How many numbers a score has; None where it is none for the first picture, or the same for all, and not for the reason
    that the model is so sure of each."""
    first = np.asarray(next(scores))
    if np.isnan(first).any() or not np.isfinite(first).any():
        return None
    sure = np.isin(first, (0, 1)).all() and first.any() and not first.all()
    same = not sure and all(np.array_equal(first, one) for one in scores)
    return None if same else first.size


def _is_refused(graph: Graph, question: Question, entry: Entry, values: Mapping[str, Array]) -> bool:
    """Whether no image at all has a score with these values, as the shapes say."""
    fed = question.fed(graph)
    dtype = tf.dtypes.as_dtype(attribute(graph.node(fed), "dtype").type)
    try:
        with tf.Graph().as_default():
            image = tf.compat.v1.placeholder(dtype, replace(entry, batch=entry.batch or 1).spec(dtype).shape)
            given = {f"{name}:0": tf.constant(value) for name, value in values.items()}
            import_nodes(graph.graph_def(), {fed: image, **given})
    except ValueError:
        return True
    return False
