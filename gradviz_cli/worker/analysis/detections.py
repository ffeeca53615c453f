"""What a detector gives: which of its numbers are scores of classes, which are boxes, and of what class a detection is.

Several outputs say it by their names and shapes: boxes beside scores, or scores, classes and boxes. A single one, [N, C, A]
or [N, A, C] with A detections, by its values: the first four of C are a box, the others lie between 0 and 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.measure import measure
from gradviz_cli.worker.analysis.tail import PICKS
from gradviz_cli.worker.graph.graph import Graph, data_inputs, source, split, walk
from gradviz_cli.worker.graph.match import RENAMING_OPS, constant, through
from gradviz_cli.worker.graph.question import Detections, Question, Tensor, static_tensors

Array = np.ndarray

BOX = 4  # numbers of a box
# Words of the names of outputs.
BOX_WORDS = frozenset({"roi", "rois", "loc", "locs", "location", "locations", "regression", "reg", "deltas", "offsets"})
SCORE_WORDS = ("score", "conf", "prob", "logit")
CLASS_WORDS = ("class", "label", "categor", "cls")
RAW, KEPT, KEPT_CLASSES = "raw_detection_scores", "detection_scores", "detection_classes"  # TensorFlow's detectors
# What keeps the best boxes and gives their scores, of which it has no gradient; and which input holds the scores.
SUPPRESSION = {"CombinedNonMaxSuppression": 1, "NonMaxSuppressionV4": 1, "NonMaxSuppressionV5": 1}
ANCHORS, MOST_ANCHORS = 3, 9  # of each cell of a grid: nearly always, at most
FEWEST = 2  # times as many detections as numbers of one
STRIDES = tuple(2**power for power in range(8))
NEARLY_ALL = 0.9


# -- by names and shapes -----------------------------------------------------------------------------------------------


def named_boxes(tensor: Tensor) -> bool:
    """Whether an output is called after boxes; `location_class` is called after classes."""
    key = tensor.key.lower()
    of_classes = any(word in key for word in CLASS_WORDS)
    return "box" in key or bool(BOX_WORDS & set(re.split("[^a-z]+", key))) and not of_classes


def check_no_boxes(tensor: Tensor, outputs: Sequence[Tensor], classes: bool = False) -> None:
    """Refuse the places of boxes, and grids that hold them beside classes: they are no classes.

    Parameters
    ----------
    classes : bool
        Who asks says that a grid holds classes alone, as that of a segmenter with outputs of several sizes does.
    """
    if not classes and any(_next_grid(tensor, other) for other in outputs):
        raise ModelUnusable(
            f"the output {tensor.key} is one grid of a detector, as the next one beside it says: its channels are those of "
            "boxes as well as of classes",
            f"explain one channel of it with --output '{tensor.key}[..., C]'; if all its channels are classes and none is of a "
            "box, --box-of all reads them so",
        )
    shape = tensor.shape or ()
    four = len(shape) > 1 and (shape[-1] == BOX or len(shape) == 3 and shape[1] == BOX)
    if not four or not named_boxes(tensor):
        return
    scores = scores_among(outputs)
    raise ModelUnusable(
        f"the output {tensor.key} holds the places of boxes and no classes",
        f"explain {scores.key if scores else 'the scores of classes'} with --output",
    )


def _next_grid(one: Tensor, other: Tensor) -> bool:
    """The same channels, those of three anchors, stand at twice or half as many places along each side."""
    if not _known(one, 4, 5) or not _known(other, len(one.shape or ())):
        return False
    shape, its = one.shape or (), other.shape or ()
    ratios = [size / its_size for size, its_size in zip(shape[1:], its[1:], strict=True) if its_size > 0]
    sides = [ratio for ratio in ratios if ratio != 1]
    channels = [size for size, ratio in zip(shape[1:], ratios, strict=False) if ratio == 1]
    return (
        min(shape[1:]) > 0
        and len(ratios) == len(shape) - 1
        and sides in ([2, 2], [0.5, 0.5])
        and math.prod(channels) % ANCHORS == 0
        and math.prod(channels) // ANCHORS > BOX + 1
    )


def scores_among(outputs: Sequence[Tensor]) -> Tensor | None:
    """The output that holds the scores of a detector, where the others say that it is one."""
    by_key = {tensor.key: tensor for tensor in outputs}
    for key in (RAW, KEPT):
        if key in by_key:
            return by_key[key]
    found = [one for one in outputs if _boxes_beside(one, outputs) or _classes_beside(one, outputs)]
    return found[0] if len(found) == 1 else None


def listed(outputs: Sequence[Tensor], chosen: Tensor) -> tuple[Detections, tuple[Tensor, ...]] | None:
    """How the chosen output lists detections, as its neighbours say; and those that are needed to read it."""
    by_key = {tensor.key: tensor for tensor in outputs}
    if chosen.key == RAW and chosen.shape is not None and len(chosen.shape) == 3:
        kept = tuple(by_key[key] for key in (KEPT, KEPT_CLASSES) if key in by_key)
        return Detections(chosen.name, 2), kept if len(kept) == 2 else ()
    classes = _classes_beside(chosen, outputs)
    if classes is not None:
        return Detections(chosen.name, len(chosen.shape or ()) - 1, labelled=classes.name), (classes,)
    boxes = _boxes_beside(chosen, outputs)
    return (boxes, ()) if boxes else None


def _known(tensor: Tensor, *ranks: int) -> bool:
    return tensor.shape is not None and len(tensor.shape) in ranks and tensor.dtype.is_floating


def _classes_beside(one: Tensor, outputs: Sequence[Tensor]) -> Tensor | None:
    """The output that says the class of each score: both lie beside boxes."""
    if not _known(one, 1, 2) or not any(word in one.key.lower() for word in SCORE_WORDS):
        return None
    shape = one.shape or ()
    if not any(other.shape == (*shape, BOX) for other in outputs):
        return None
    fits = [
        other
        for other in outputs
        if other.shape == shape and other.key != one.key and any(word in other.key.lower() for word in CLASS_WORDS)
    ]
    return fits[0] if len(fits) == 1 else None


def _boxes_beside(one: Tensor, outputs: Sequence[Tensor]) -> Detections | None:
    """As many boxes lie beside these scores: [N, A, K] and [N, A, 4], or maps of both."""
    if not _known(one, 3, 4) or named_boxes(one):
        return None
    for other in outputs:
        if other.key == one.key or not _known(other, len(one.shape or ())):
            continue
        for axis in (len(one.shape or ()) - 1, 1):
            groups = _groups(one, other, axis)
            if groups:
                return Detections(one.name, axis, groups=groups)
    return None


def _groups(one: Tensor, boxes: Tensor, axis: int) -> int:
    """How many detections lie side by side along the axis of scores; 0 where the other tensor is no boxes of these."""
    shape, other = one.shape or (), boxes.shape or ()
    rest, its_rest = (sizes[:axis] + sizes[axis + 1 :] for sizes in (shape, other))
    count, left = divmod(other[axis], BOX)
    if rest != its_rest or left or count < 1 or shape[axis] < 1 or shape[axis] % count:
        return 0
    if shape[axis] == other[axis] and not any(word in one.key.lower() for word in (*SCORE_WORDS, *CLASS_WORDS)):
        return 0
    many = rest[-1] >= FEWEST * shape[axis]
    sure = named_boxes(boxes) or count == 1 and len(shape) == 3 and many and shape[axis] != BOX
    return count if sure and (count == 1 or len(shape) == 4) else 0


# -- by values ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """A graph, and how to compute tensors of it for a picture."""

    graph: Graph
    question: Question
    entry: Entry
    constants: Mapping[str, Array]

    @property
    def shape(self) -> list[int | None] | None:
        """Of the score, where that is known and it is a float: as the signature says, for it costs nothing."""
        output = self.question.output
        if output.open_shape is not None and output.dtype.is_floating:
            return list(output.open_shape)
        return self.inferred

    @property
    def inferred(self) -> list[int | None] | None:
        """The same as TensorFlow infers it."""
        (static,) = static_tensors(self.graph, self.graph.score)
        return static.shape.as_list() if static.shape.rank is not None and static.dtype.is_floating else None

    def at(self, *tensors: str) -> list[Array] | None:
        """What they hold for a picture of noise; None where that cannot be computed."""
        draw = np.random.default_rng(0)
        picture = draw.random((*self.entry.size, self.entry.channels), np.float32)
        if self.entry.whole or self.entry.encoding != "pixels":
            picture *= 255
        try:
            run = measure(self.graph, self.question.fed(self.graph), tensors, self.entry, self.constants)
            found = [np.asarray(one, np.float64) for one in run(picture)[1]]
        except Exception:  # whatever TensorFlow throws at a graph that needs other pictures
            return None
        return found if all(np.isfinite(one).all() for one in found) else None


def find_detections(look: Look) -> Detections | None:
    """How the score lists detections; None where it does not."""
    graph, found = look.graph, look.question.detections
    _check_suppression(graph)
    if found is None:
        return _alone(look)
    if found.labelled:
        return _said(found, "the class of each beside it")
    if len(graph.outputs) > 3:
        found = replace(found, shift=_shift(look, found))
    return _with_background(look, found)


def _said(found: Detections, how: str) -> Detections:
    return replace(found, said=f"detections ({how})")


def _with_background(look: Look, found: Detections) -> Detections:
    """Scores that compete say nothing of what there is, and so have a class for that: the first or the last, nearly always."""
    computed, background = look.at(found.scores), None
    how = f"axes [N, {'..., classes' if found.axis > 1 else 'classes, ...'}], boxes beside them"
    if computed is not None and found.groups == 1:
        rows = np.moveaxis(computed[0], found.axis, -1).reshape(-1, computed[0].shape[found.axis])
        unit = rows.min() >= 0 and rows.max() <= 1
        best = rows.argmax(1)
        ends = [end for end in (0, rows.shape[1] - 1) if (best == end).mean() > NEARLY_ALL]
        competing = not unit or np.allclose(rows.sum(1), 1, atol=1e-3)
        background = ends[0] if ends and competing and rows.shape[1] > 2 else None
    if background is not None:
        how += f", class {background + found.shift} is nearly everywhere and taken for the background"
    shifted = None if background is None else background + found.shift
    return _said(replace(found, background=shifted), how)


def _shift(look: Look, found: Detections) -> int:
    """The class of the first column of raw scores, as the detections that are kept of them say."""
    computed = look.at(found.scores, *look.graph.outputs[3:])
    if computed is None:
        return 0
    raw, kept, classes = computed
    best, label = kept.reshape(-1)[0], round(float(classes.reshape(-1)[0]))
    for shift in (0, 1):
        if 0 <= label - shift < raw.shape[2] and abs(raw[0, :, label - shift].max() - best) <= 1e-4 * abs(best):
            return shift
    return 0


def _check_suppression(graph: Graph) -> None:
    """Refuse scores that only come out of what has no gradient; what went into it is named."""

    def onward(tensor: str) -> str | None:
        node = graph.node(tensor)
        if node.op in SUPPRESSION or not data_inputs(node):
            return None
        handed = (
            node.op in RENAMING_OPS or node.op in PICKS or node.op in ("Pad", "PadV2", "Cast", "ClipByValue", "Mul")
        )
        return source(node, 0) if handed else None

    *_, last = walk(graph.score, onward, 50)
    node = graph.node(last)
    if node.op in SUPPRESSION and (node.op.startswith("Combined") or split(last)[1] == 1):
        raise ModelUnusable(
            f"no gradient passes {node.name} ({node.op}), which keeps the best boxes",
            f"explain the scores that go into it with --output {source(node, SUPPRESSION[node.op])} --box-of 1",
        )


def _alone(look: Look) -> Detections | None:
    """Of a single output: [N, 4 + K, A], [N, A, 4 + K] or, with objectness, [N, A, 5 + K]; or kept ones, [N, M, 6]."""
    sizes = look.shape or []
    if len(sizes) == 3 and None in sizes[1:]:
        sizes = look.inferred or []
    if len(sizes) != 3:
        return None
    if sizes[2:] == [BOX + 2] and (found := _kept(look)):
        return found
    _, one, other = sizes
    if one is None or other is None or min(one, other) <= BOX:
        return None
    few = max(one, other) < FEWEST * min(one, other)  # neither axis is that of detections by its length
    computed = look.at(look.graph.score)
    if computed is None or computed[0].ndim != 3:
        return None
    for axis, count, many in ((1, one, other), (2, other, one)):
        parts = _parts(look.graph, look.graph.score, axis)
        if few and BOX not in parts or not few and count > many:
            continue
        rows = np.moveaxis(computed[0], axis, -1).reshape(-1, count)
        apart = _apart(rows, BOX in parts)
        alone = sizes[0] == 1 or look.entry.batch == 1
        if apart or alone and _are_units(rows) and _in_grids(many, look.entry.size, axis):
            found = _read(look, axis, count, parts)
            return found if apart else replace(found, otherwise=_no_boxes(look.question.output.key, one, other))
    return None


def _no_boxes(key: str, places: int, classes: int) -> str:
    """What else numbers can be of which the first four are not seen to be a box; one class of it is no matter of boxes."""
    return (
        f"if it holds no boxes but is a sequence of {places} positions with {classes} classes each, explain one class "
        f"with --output '{key}[..., C]'"
    )


def may_be_boxes(look: Look, places: int, classes: int) -> str | None:
    """What else a sequence can be, where its shape is a detector's: raw numbers of boxes cannot be told from logits."""
    few, many = sorted((places, classes))
    if few <= BOX or many < FEWEST * few or not _in_grids(many, look.entry.size, axis=1):
        return None
    listed = f"if it lists {many} detections of {few} numbers each, boxes among them, take"
    if many == classes:
        return f"{listed} number C of the best one with --output '{look.question.output.key}[0, C, ...]'"
    return f"{listed} number C of the best one with -t C --box-of 1"


def _kept(look: Look) -> Detections | None:
    """[N, M, 6], box, score, class: the last is a whole number, the score is none and falls."""
    score = look.graph.score
    computed = look.at(score)
    if computed is None or computed[0].ndim != 3 or not computed[0].size:
        return None
    *_, scores, labels = np.moveaxis(computed[0][0], -1, 0)
    whole = bool((labels == np.rint(labels)).all()) and not (scores == np.rint(scores)).all()
    if not whole or scores.min() < 0 or scores.max() > 1 or (np.diff(scores) > 0).any():
        return None
    return _said(Detections(score, 2, BOX, labelled=score), "axes [N, detections, numbers], numbers: box, score, class")


def _are_units(rows: Array) -> bool:
    """Each number between 0 and 1, and no distribution."""
    return bool(rows.min() >= 0 and rows.max() <= 1) and not np.allclose(rows.sum(1), 1, atol=1e-3)


def _apart(rows: Array, joined: bool) -> bool:
    """The first four are no scores as the others are: by their values, or as they are joined to them."""
    box, rest = rows[:, :BOX], rows[:, BOX:]
    outside = box.min() < 0 or box.max() > 1
    return bool(rest.min() >= 0 and rest.max() <= 1 and (outside or joined))


def _in_grids(many: int, size: tuple[int, int], axis: int) -> bool:
    """Whether as many detections lie in the cells of grids over the image.

    One for each cell of one grid may be the scores of patches as well, unless they run along the last axis.
    """
    grids = [math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in STRIDES]
    if axis == 2 and many in grids:
        return False
    return any(
        many % sum(grids[first:last]) == 0
        and many // sum(grids[first:last]) <= MOST_ANCHORS
        and (last - first > 1 or min(size) // STRIDES[first] > 2)
        for first in range(len(STRIDES))
        for last in range(first + 1, len(STRIDES) + 1)
    )


def _read(look: Look, axis: int, count: int, parts: Mapping[int, str]) -> Detections:
    """With objectness where that is joined by itself, or where one sigmoid makes it and the classes, [N, A, 5 + K]."""
    score = look.graph.score
    objectness = BOX + 1 in parts or axis == 2 and _one_sigmoid(look.graph, parts.get(BOX, score), count)
    objectness = objectness and count > BOX + 1
    axes = "[N, {}, {}]".format(*(("numbers", "detections") if axis == 1 else ("detections", "numbers")))
    first = BOX + objectness
    numbers = f"4 of the box, {'objectness, ' if objectness else ''}{count - first} classes"
    how = f"axes {axes}, numbers: {numbers}"
    whole = parts.get(first)
    if whole and max(parts) == first:  # the classes by themselves, with a sigmoid of their own
        place = _axis_of(look.graph, score, axis, whole)
        if place is not None:
            return _said(Detections(whole, place, times=parts[BOX] if objectness else None), how)
    return _said(Detections(score, axis, first, objectness), how)


def _joins(graph: Graph, tensor: str, axis: int) -> Iterator[tuple[str, int]]:
    """Concatenations that end in a tensor, and the axis of each that its axis is: across others, into their first part."""
    for _ in range(20):
        tensor = through(graph.nodes, tensor, RENAMING_OPS)
        node = graph.node(tensor)
        if node.op == "Transpose":
            order = constant(graph.nodes, source(node, 1))
            if order is None:
                return
            tensor, axis = source(node, 0), int(order[axis])
        elif node.op == "ConcatV2":
            yield tensor, axis
            tensor = source(node, 0)
        elif node.op == "Reshape":
            tensor, axis = source(node, 0), -1  # the numbers of a detection stay the last ones, if they were
        else:
            return


def _parts(graph: Graph, tensor: str, axis: int) -> dict[int, str]:
    """Where the parts begin that were joined along this axis -> these parts."""
    for joined, place in _joins(graph, tensor, axis):
        node = graph.node(joined)
        *parts, along = data_inputs(node)
        value = constant(graph.nodes, along)
        shapes = [static.shape for static in static_tensors(graph, *parts)]
        rank = shapes[0].rank
        if value is None or rank is None or any(one.rank != rank for one in shapes):
            return {}
        if int(value) % rank != place % rank:
            continue
        sizes = [one[place % rank] for one in shapes]
        if None in sizes:
            return {}
        starts = np.cumsum([0, *sizes[:-1]])
        return dict(zip(map(int, starts), parts, strict=True))
    return {}


def _axis_of(graph: Graph, tensor: str, axis: int, part: str) -> int | None:
    """The axis of a part that was joined first of all, so that it lies as the tensor does but for transposes."""
    for joined, place in _joins(graph, tensor, axis):
        return place if place >= 0 and part in data_inputs(graph.node(joined)) else None
    return None


def _one_sigmoid(graph: Graph, tensor: str, count: int) -> bool:
    """A sigmoid of all numbers of a detection lies right behind."""

    def behind(link: str) -> str | None:
        node = graph.node(link)
        handed = PICKS.get(node.op, slice(1) if node.op in RENAMING_OPS else None)
        return source(node, handed.start or 0) if handed else None

    *_, last = walk(tensor, behind, 50)
    if graph.node(last).op != "Sigmoid":
        return False
    (static,) = static_tensors(graph, last)
    return static.shape.rank is not None and count in static.shape.as_list()[1:]
