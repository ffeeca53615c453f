"""What an output is taken for: scores of classes, a map or a sequence of them, detections, or an embedding, which has none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.process.protocol import LAYOUTS, ModelOptions
from gradviz_cli.worker.analysis.detections import Look, find_detections, may_be_boxes
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.scores import class_axis
from gradviz_cli.worker.analysis.tail import LAYERS, ops_before, tail_of
from gradviz_cli.worker.graph.graph import data_inputs, source, split, walk
from gradviz_cli.worker.graph.match import SHAPE_OPS, through
from gradviz_cli.worker.graph.question import Detections, Question, static_tensors

# Words that an output which is no classifier's is called by.
NAMES = frozenset(
    [
        "embedding",
        "embeddings",
        "embed",
        "embeds",
        "embedded",
        "features",
        "pooler",
        "pooled",
        "hidden",
        "descriptor",
        "descriptors",
    ]
)
NORMS = frozenset({"Rsqrt", "Sqrt", "EuclideanNorm"})
POOLS = frozenset({"Mean", "Max", "AvgPool", "MaxPool"})
ACTIVE = frozenset({"Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Mul", "Maximum"})
RELUS = frozenset({"Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Softplus"})
NORMED = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "DepthwiseConv2dNative"})
ENDS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
# Channels of a backbone: a classifier may end like one, but seldom has so many classes, in so round a number.
MANY, ROUND = 64, 16
LEAST_NORMED = 8
AXES = ("t", "yx", "zyx")  # of positions

Shape = Sequence[int | None]


def read_scores(look: Look, options: ModelOptions) -> tuple[Question, str | None]:
    """The question with what the output lists, and a warning where that had to be assumed.

    Raises
    ------
    ModelUnusable
        No gradient passes what the output is made by.
    """
    question = replace(look.question, detections=None)
    if question.channel is not None:
        return question, None
    at = bool(options.at or question.at)
    found = find_detections(look)
    if found is not None:
        said = f"{found.said}{'' if at else _by_detections(options.box_of)}"
        question = replace(question, detections=found, reading=said, positions=not at)
        settled = options.box_of is not None or at
        return question, None if settled else _settle_detections(question.output.key, said, found)
    known = look.shape
    if known is None:
        return question, None
    shape = _batched(known, look.entry)
    axis = class_axis(shape, look.entry.size) if len(shape) > 1 else 0
    inner = [size for place, size in enumerate(shape) if place not in (0, axis)]
    places = [] if at or all(size == 1 for size in inner) else inner
    why = _embedding(look, shape[axis], bool(inner))
    return _read(look, options, question, shape[axis], places, why)


def _by_detections(box_of: int | None) -> str:
    if box_of == 0:
        return ": a class is explained by the sum of its scores in the detections that it wins"
    return f": a class is explained by its best one{f' but {box_of - 1}' if box_of and box_of > 1 else ''}"


def _settle_detections(key: str, said: str, found: Detections) -> str:
    return (
        f"the output {key} lists {said}; settle it with --box-of 1 (--box-of N: the N-th best, --box-of all: the sum over "
        f"those that it wins){f'; {found.otherwise}' if found.otherwise else ''}"
    )


def _read(
    look: Look, options: ModelOptions, question: Question, classes: int | None, places: Shape, why: str | None
) -> tuple[Question, str | None]:
    """`why` it is an embedding, if it is."""
    key = question.output.key
    where = _where(options, places)
    if why:
        said = f"an embedding ({why}): {classes} channels and no classes{f', each {where}' if places else ''}"
        warning = (
            f"the output {key} is {said}; settle it with --output NAME (a tensor of class scores, or {key} again), and "
            "explain a channel with --target N"
        )
        return replace(question, reading=said, positions=bool(places)), None if options.output else warning
    if not places:
        return question, None
    named = "a sequence" if len(places) == 1 else "a map"
    text = str(list(places)).replace("None", "?")
    if classes == 1:
        where = where.replace("that it wins", "where it is positive")
    said = f"{named} {text} of {'?' if classes is None else classes} class{'es, each' if classes != 1 else ','} {where}"
    form = ", ".join(AXES[len(places) - 1] if len(places) <= len(AXES) else "N" * len(places))
    other = _otherwise(look, places, classes)
    sums = "" if options.box_of else _sums(classes)
    warning = (
        f"the output {key} is {said}{sums}; settle it with --box-of all, or take one position with "
        f"--output '{key}[0, {form}, ...]' or --at, the best with --box-of 1{f'; {other}' if other else ''}"
    )
    return replace(question, reading=said, positions=True), warning if options.box_of is None else None


def _otherwise(look: Look, places: Shape, classes: int | None) -> str | None:
    """The other reading of a sequence that may be a detector's; a softmax makes nothing but classes."""
    if len(places) != 1 or ops_before(look.graph, look.graph.score) & {"Softmax", "LogSoftmax"}:
        return None
    (count,) = places
    return None if count is None or classes is None else may_be_boxes(look, count, classes)


def _sums(classes: int | None) -> str:
    ranked = ", and classes are ranked by how many positions they win" if classes != 1 else ""
    return f" (score and output are both such sums{ranked})"


def _where(options: ModelOptions, places: Shape) -> str:
    if options.box_of:
        return f"at its best position but {options.box_of - 1}" if options.box_of > 1 else "at its best position"
    return "summed over the positions that it wins"


def _batched(shape: Shape, entry: Entry) -> list[int | None]:
    """With an axis of images, which a model of one image may have dropped."""
    dropped = "N" not in LAYOUTS[entry.layout] or not shape or entry.batch == 1 and shape[0] not in (None, 1)
    return [1, *shape] if dropped else list(shape)


def _embedding(look: Look, classes: int | None, mapped: bool) -> str | None:
    """Why an output is an embedding, if it is; `mapped` where it has positions, be it a single one."""
    graph, key = look.graph, look.question.output.key
    end = graph.node(through(graph.nodes, graph.score, SHAPE_OPS))
    if classes is None or classes < 2 or end.op in ENDS:
        return None
    if NAMES & set(re.split("[^a-z]+", key.lower())):
        return "by its name"
    if ops_before(graph, graph.score) & NORMS:
        normed = _normed(look, classes)
        if normed:
            return normed
    even = classes % ROUND == 0  # small classifiers end in an activation too, but not in so round a number of classes
    many = classes >= MANY and even
    if mapped and (many and end.op in ACTIVE or even and _of_features(look, end)):
        return "a feature map, with no layer behind its activation"
    if end.op in POOLS:
        before = graph.node(through(graph.nodes, source(end, 0), SHAPE_OPS))
        found = many and before.op in ACTIVE or even and _of_features(look, before)
        return "pooled features, with no layer behind" if found else None
    if many and not mapped and _is_activation(look, end):
        return "features of a hidden layer, with none behind its activation"
    return None


def _is_activation(look: Look, node: NodeDef) -> bool:
    """A ReLU or its like, or x times a gate of x."""
    if node.op in RELUS:
        return True
    sides = [_handed(look, one) for one in data_inputs(node)] if node.op == "Mul" else []
    return len(sides) == 2 and all(sides) and bool(set(sides[0]) & set(sides[1]))


def _of_features(look: Look, node: NodeDef) -> bool:
    """An activation behind what looks at its surroundings, is normalised or summed: channels of a backbone. That of a
    convolution 1x1 may be a map of classes, as those of SqueezeNet and All-CNN are."""
    if not _is_activation(look, node):
        return False
    last = look.graph.node(_handed(look, source(node, 0))[-1])
    if last.op in ("Conv2D", "Conv2DBackpropInput"):
        (kernel,) = static_tensors(look.graph, source(last, 1))
        return kernel.shape.rank == 4 and kernel.shape[:2].as_list() != [1, 1]
    return last.op in NORMED or last.op in ("Add", "AddV2")


def _handed(look: Look, tensor: str) -> list[str]:
    """A tensor, and those before it back to the last layer, as long as there is but one way to the image; empty where
    there is none."""
    path, graph = look.question.path(look.graph), look.graph

    def onward(link: str) -> str | None:
        node = graph.node(link)
        before = [] if node.op in LAYERS else [one for one in data_inputs(node) if split(one)[0] in path]
        return before[0] if len(before) == 1 else None

    return list(walk(tensor, onward, 20)) if split(tensor)[0] in path else []


def _normed(look: Look, classes: int) -> str | None:
    """The norm of the vector is 1, or nothing but scale and shift stands behind a normalisation."""
    graph = look.graph
    tail = tail_of(graph, look.question.fed(graph), graph.score)
    if tail is None or not any(graph.nodes[name].op in NORMS for name in tail.order):
        return None
    computed = look.at(graph.score)
    if computed is not None:
        rows = computed[0].reshape(-1, classes) if computed[0].size % classes == 0 else computed[0]
        if np.allclose(np.linalg.norm(rows, axis=-1), 1, atol=1e-3) and rows.min() < 0:
            return "its vectors have the length 1"
    ends_in_layer = graph.node(through(graph.nodes, graph.score, SHAPE_OPS)).op in LAYERS
    return None if ends_in_layer or classes < LEAST_NORMED else "no layer stands behind its normalisation"
