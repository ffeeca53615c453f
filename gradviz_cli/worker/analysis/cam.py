"""Feature maps that everything on the way from image to score passes: each may carry a class activation map."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.estimators import AUTO_LAYER, Taps
from gradviz_cli.process.protocol import CamLayer
from gradviz_cli.worker.analysis.activations import Found, value_path
from gradviz_cli.worker.analysis.axes import BLOCKS, KEEPING, PADDING, RESIZES
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.analysis.moves import MOVERS
from gradviz_cli.worker.analysis.weighing import PRODUCTS, letters
from gradviz_cli.worker.graph.graph import (
    Circle,
    Graph,
    ancestors,
    attribute,
    data_inputs,
    descendants,
    find_tensor,
    source,
    split,
    topological,
)
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.tf_private import import_nodes

# What mixes channels: before the first there are no features, and behind the last there is no class apart from a score.
KERNELS = frozenset({"Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3D"}) | PRODUCTS
# Paths are counted modulo a prime; that two different counts agree by chance is not a practical concern.
PRIME = 2**61 - 1
NHWC, NCHW = (1, 2, 3), (2, 3, 1)  # where height, width and channels are
WITHOUT = "-e chefer explains a model of attention, --cam-layer TENSOR names another layer"
PRODUCTS_OF_TWO = 4  # of tokens with tokens, however the softmax between them is spelled
WHOLE = (0.0, 0.0, 1.0, 1.0)  # of a crop, as CropAndResize takes it
KEPT = 0.9  # of a side: what less is left of is drawn at another place than it has
NAME_ANOTHER = ", or with --cam-layer TENSOR before it"
MOST_SHOWN = 3
MOST_STEPS = 1000


@dataclass(frozen=True)
class _Way:
    """The nodes from image to score, in order, those among them that every way passes, their shapes, and the orders in which
    transposes take axes."""

    order: tuple[str, ...]
    certain: frozenset[str]
    shapes: Mapping[str, tf.TensorShape]
    turned: Mapping[str, Sequence[int]]

    @cached_property
    def path(self) -> frozenset[str]:
        return frozenset(self.order)

    def onward(self, node: NodeDef) -> str | None:
        """The first input of a node that carries the image."""
        return next((name for text in data_inputs(node) if (name := split(text)[0]) in self.path), None)


def cam_layers(
    graph: Graph, question: Question, found: Found | None = None, image: tf.TensorSpec | None = None
) -> list[CamLayer]:
    """Feature maps that everything on the way from image to score passes, from the image on: the last is the one that is
    taken. None where that one lies before most of the model, as the patches of a transformer do.

    Parameters
    ----------
    found : Found, optional
        The activations, by which that is told.
    image : TensorSpec, optional
        The input, where the model leaves its size open.
    """
    way = _way(graph, question, image)
    return _layers(graph, way, found) if way else []


def _layers(graph: Graph, way: _Way, found: Found | None) -> list[CamLayer]:
    layers = [name for name in way.order if name in way.certain and _is_feature_map(graph, way, name)]
    layers = _before_the_classes(graph, way, layers)
    if not layers or _is_early(graph, way, layers[-1], found):
        return []
    return [CamLayer(f"{one}:0", graph.nodes[one].op, tuple(way.shapes[one].as_list())) for one in layers]


def cam_taps(
    graph: Graph, question: Question, found: Found, image: tf.TensorSpec, layer: str
) -> tuple[Taps, str | None]:
    """The layer that a class activation map is taken from, and a warning where it is not all that the score is made of.

    Raises
    ------
    ModelUnusable
        None was asked for by name, and there is none.
    UsageError
        The one that was asked for is no feature map between image and score.
    """
    way = _way(graph, question, image)
    layers = _layers(graph, way, found) if way else []
    if layer == AUTO_LAYER:
        if not way or not layers:
            raise ModelUnusable(
                "no feature map late in the model has height and width and lies on every way from image to score",
                WITHOUT,
            )
        last = layers[-1]
        return _taps(graph, way, last.tensor, last.shape, True), _cut(graph.nodes, way, last.tensor, NAME_ANOTHER)
    tensor = _named(way.order if way else (), layer, [one.tensor for one in layers])
    name, index = split(tensor)
    shape = way.shapes.get(name) if way and not index else None
    if not way or shape is None or shape.rank != 4 or shape.as_list()[1:].count(1) > 1:
        said = "is no output of rank 4" if shape is None or shape.rank != 4 else f"is {shape.as_list()}"
        raise UsageError(f"--cam-layer {layer}: {tensor} {said}, and no map of features", _others(layers))
    certain = name in way.certain
    passed = None if certain else f"not all of the score passes {tensor}, so the map leaves out what does not"
    warnings = filter(None, (passed, _cut(graph.nodes, way, tensor, NAME_ANOTHER)))
    return _taps(graph, way, tensor, tuple(shape.as_list()), certain), "; ".join(warnings) or None


def _taps(graph: Graph, way: _Way, tensor: str, shape: Sequence[int | None], certain: bool) -> Taps:
    axes = axes_of(graph.nodes, way, tensor)
    if axes is None:
        raise ModelUnusable(
            f"the graph does not say which axes of {tensor} are height and width",
            "choose a layer nearer to a convolution with --cam-layer TENSOR",
        )
    height, width = (shape[axis] or 0 for axis in axes[:2])  # 0: only running the model tells
    return Taps("cam", (tensor,), (height, width), tuple(axis - 1 for axis in axes), certain)


def cut_warning(graph: Graph, question: Question, image: tf.TensorSpec, tensor: str) -> str | None:
    """A warning of a tensor whose places are those of a part of the image."""
    way = _way(graph, question, image)
    return _cut(graph.nodes, way, tensor, "") if way else None


def _cut(nodes: Mapping[str, NodeDef], way: _Way, tensor: str, remedy: str) -> str | None:
    """The same, with a remedy beside giving images that are cut already, where it is features that are cut."""
    before = ancestors(nodes, [tensor]) & way.certain
    known = Known(nodes)
    cutting = next((name for name in way.order if name in before and _leaves_out(nodes, way, nodes[name], known)), None)
    if cutting is None:
        return None
    remedy = remedy if any(nodes[name].op in KERNELS for name in ancestors(nodes, [cutting]) & way.path) else ""
    return (
        f"{cutting} cuts a part out of what it is given, and the map shows that part alone, drawn over the whole image; settle "
        f"it with images that are cut already, and --input NAME behind it{remedy}"
    )


def _leaves_out(nodes: Mapping[str, NodeDef], way: _Way, node: NodeDef, known: Known) -> bool:
    """Whether an operation leaves out what lies at the borders of an image or a map of features."""
    if node.op == "CropAndResize":
        boxes = known(source(node, 1))
        return boxes is None or boxes.size % 4 != 0 or not np.allclose(boxes.reshape(-1, 4), WHOLE)
    onward = way.onward(node)
    shapes = [way.shapes.get(one or "") for one in (node.name, onward)]
    if node.op not in ("Slice", "StridedSlice") or not all(shape is not None and shape.rank == 4 for shape in shapes):
        return False
    if any(nodes[name].op in KERNELS | PADDING for name in ancestors(nodes, [node.name]) & way.path):
        return False  # it may cut off what these have added
    axes = axes_of(nodes, way, f"{node.name}:0")
    told = known(source(node, 3)) if node.op == "StridedSlice" else np.ones(4)
    if axes is None or told is None or told.size < 4 and "ellipsis_mask" in node.attr and node.attr["ellipsis_mask"].i:
        return False
    steps = [*told.reshape(-1), *np.ones(4)]
    after, given = (shape.as_list() for shape in shapes if shape is not None)
    sides = [(after[axis], steps[axis], given[axis]) for axis in axes[:2]]
    return any(left is not None and whole and left * abs(step) < KEPT * whole for left, step, whole in sides)


def _named(known: Sequence[str], layer: str, layers: Sequence[str]) -> str:
    """The tensor on the way that this names."""
    try:
        tensor = find_tensor(known, layer)
    except ModelUnusable as error:
        raise UsageError(f"--cam-layer {error.message}", error.remedy) from None
    if tensor is None:
        word = layer.removesuffix(":0")  # of Keras a layer's name, as part of those of its operations
        inside = [one.removesuffix(":0") for one in layers if word in one]
        near = inside[-MOST_SHOWN:] or get_close_matches(word, known, MOST_SHOWN)
        remedy = f"did you mean {' or '.join(f'{one}:0' for one in near)}?" if near else _listed(layers)
        raise UsageError(f"--cam-layer {layer}: no such tensor between image and score", remedy)
    return tensor


def _others(layers: Sequence[CamLayer]) -> str:
    return _listed([one.tensor for one in layers])


def _listed(layers: Sequence[str]) -> str:
    last = ", ".join(list(layers)[-MOST_SHOWN:])
    return f"give one such as {last}; `gradviz inspect -v` lists them" if last else WITHOUT


def _way(graph: Graph, question: Question, image: tf.TensorSpec | None) -> _Way | None:
    nodes, start, score = graph.nodes, split(graph.wrt)[0], split(graph.score)[0]
    path = value_path(nodes, [start], [graph.score])
    sources = {name: [one for text in data_inputs(nodes[name]) if (one := split(text)[0]) in path] for name in path}
    sources[start] = []
    try:
        order = topological(sources)
    except Circle:  # a loop that is no function
        return None
    before = _paths(order, sources, start)
    readers: dict[str, list[str]] = {name: [] for name in order}
    for name in order:
        for one in sources[name]:
            readers[one].append(name)
    after = _paths(order[::-1], readers, score)
    total = before.get(score, 0)
    certain = frozenset(name for name in order if total and before[name] * after[name] % PRIME == total)
    return _Way(tuple(order), certain, *_shapes(graph, question, order, image))


def _paths(order: Sequence[str], sources: Mapping[str, Sequence[str]], start: str) -> dict[str, int]:
    """Number of ways from `start` to each node, modulo PRIME."""
    ways: dict[str, int] = {}
    for name in order:
        ways[name] = 1 if name == start else sum(ways.get(source, 0) for source in sources[name]) % PRIME
    return ways


def _shapes(
    graph: Graph, question: Question, names: Sequence[str], image: tf.TensorSpec | None
) -> tuple[dict[str, tf.TensorShape], dict[str, Sequence[int]]]:
    """Of the first output of each node, as TensorFlow infers them, and the orders of transposes; nothing is computed. Of a
    single image more is known than of any number."""
    shapes, turned = _inferred(graph, question, names, image)
    if image is not None:
        shapes[split(question.fed(graph))[0]] = image.shape
    maps = [shape for shape in shapes.values() if shape.rank == 4]
    image = image or _declared(graph.node(question.fed(graph)))
    if all(shape[1:].is_fully_defined() for shape in maps) or not image.shape.rank or image.shape[0] is not None:
        return shapes, turned
    one, turned = _inferred(graph, question, names, tf.TensorSpec([1, *image.shape[1:]], image.dtype))
    more = {name: shape for name, shape in one.items() if shape.rank == 4 and shapes[name].rank == 4}
    return {**shapes, **{name: shapes[name][:1].concatenate(shape[1:]) for name, shape in more.items()}}, turned


def _declared(fed: NodeDef) -> tf.TensorSpec:
    """What a model says of its input itself."""
    return tf.TensorSpec(
        tf.TensorShape(attribute(fed, "shape").shape), tf.dtypes.as_dtype(attribute(fed, "dtype").type)
    )


def _inferred(
    graph: Graph, question: Question, names: Sequence[str], image: tf.TensorSpec | None
) -> tuple[dict[str, tf.TensorShape], dict[str, Sequence[int]]]:
    turns = {name: source(graph.nodes[name], 1) for name in names if graph.nodes[name].op == "Transpose"}
    with tf.Graph().as_default():
        given = {} if image is None else {question.fed(graph): tf.compat.v1.placeholder(image.dtype, image.shape)}
        tensors = [f"{name}:0" for name in names if f"{name}:0" not in given]
        wanted = [*tensors, *turns.values()]
        found = import_nodes(graph.graph_def(), given, wanted)
        orders = [tf.get_static_value(each) for each in found[len(tensors) :]]
    shapes = {split(tensor)[0]: one.shape for tensor, one in zip(tensors, found, strict=False)}
    known = zip(turns, orders, strict=True)
    return shapes, {name: [int(axis) for axis in order] for name, order in known if order is not None}


def _is_feature_map(graph: Graph, way: _Way, name: str) -> bool:
    """Behind a kernel, with height and width, and more than the numbers of another laid out anew."""
    shape = way.shapes.get(name)
    mover = MOVERS.get(graph.nodes[name].op)
    if shape is None or shape.rank != 4 or 1 in shape.as_list()[1:] or mover and not mover.joins:
        return False
    before = ancestors(graph.nodes, [f"{name}:0"]) & set(way.order)
    return any(graph.nodes[one].op in KERNELS for one in before) and axes_of(graph.nodes, way, f"{name}:0") is not None


def _before_the_classes(graph: Graph, way: _Way, layers: list[str]) -> list[str]:
    """Of a score that has height and width itself: what lies before the kernel that makes it."""
    if not _is_map(graph, way, split(graph.score)[0]):
        return layers
    return [name for name in layers if any(graph.nodes[one].op in KERNELS for one in _behind(graph, way, name))]


def _is_map(graph: Graph, way: _Way, score: str) -> bool:
    """Whether scores have height and width, or had before they were laid out as a sequence."""
    name = score
    for _ in range(MOST_STEPS):
        shape, node = way.shapes.get(name), graph.nodes[name]
        if shape is None or shape.rank not in (3, 4):
            return False
        if shape.rank == 4 and (name == score or 1 not in shape.as_list()[1:3]):
            return 1 not in shape.as_list()[1:3]
        mover = MOVERS.get(node.op)
        onward = way.onward(node)
        if mover is None or mover.joins or onward is None:
            return False
        name = onward
    return False


def _behind(graph: Graph, way: _Way, name: str) -> Collection[str]:
    return (descendants(graph.nodes, [name]) & set(way.order)) - {name}


def _is_early(graph: Graph, way: _Way, name: str, found: Found | None) -> bool:
    """Whether what makes the model one of tokens lies behind it: attention, or all of its activations."""
    behind = _behind(graph, way, name)
    products = [graph.nodes[one] for one in behind if graph.nodes[one].op in PRODUCTS]
    attending = [node for node in products if all(split(text)[0] in way.path for text in data_inputs(node))]
    if sum(graph.nodes[one].op == "Softmax" for one in behind) > 1 or len(attending) >= PRODUCTS_OF_TWO:
        return True
    exits = {split(one.exit)[0] for one in found.top} if found else set()
    return bool(exits & set(behind)) and not exits & ancestors(graph.nodes, [f"{name}:0"])


# -- which axes are height, width and channels ----------------------------------------------------------------------------


def axes_of(nodes: Mapping[str, NodeDef], way: _Way, tensor: str) -> tuple[int, ...] | None:
    """The axes of a tensor of rank 4 that are height, width and channels, as the nearest operation before it says that knows
    its own; else the nearest behind it."""
    return _told_before(nodes, way, split(tensor)[0]) or _told_behind(nodes, split(tensor)[0], Known(nodes))


class _Turn(NamedTuple):
    """How the axes of an operation lie among those before it: for each the one that it was, and which was mixed (-1: none)."""

    order: Sequence[int]
    mixed: int = -1


AS_BEFORE, POINTS = _Turn((0, 1, 2, 3)), _Turn((0, 1, 2, 3), 3)


def _told_before(nodes: Mapping[str, NodeDef], way: _Way, name: str) -> tuple[int, ...] | None:
    """Back through what keeps the axes or says how it turns them, with the turns on the way done again; where a way ends in
    what says nothing (a gate, say), by another one that is joined to it."""
    waiting: list[tuple[str, tuple[_Turn, ...]]] = [(name, ())]
    seen: set[str] = set()
    while waiting and len(seen) < MOST_STEPS:
        name, turns = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if (axes := _own_axes(nodes[name])) is not None:
            return _turned(axes, turns)
        taken = (_taken(nodes, way, nodes[name], before) for before in _joined(way, nodes[name]))
        waiting += [(before, (*turns, turn)) for turn, before in reversed([one for one in taken if one])]
    return None


def _turned(axes: tuple[int, ...], turns: Sequence[_Turn]) -> tuple[int, ...] | None:
    for turn in reversed(turns):
        if turn.mixed not in (-1, axes[2]):  # along height or width: what it gives are no places
            return None
        axes = tuple(turn.order.index(axis) for axis in axes)
    return axes


def _joined(way: _Way, node: NodeDef) -> list[str]:
    """The inputs of a node that carry the image: the first, and of what computes number by number each of as many axes."""
    inputs = [name for text in data_inputs(node) if (name := split(text)[0]) in way.path]
    shapes = [way.shapes.get(name) for name in inputs[1:]] if _keeps(node) else []
    return inputs[:1] + [name for name, shape in zip(inputs[1:], shapes, strict=False) if shape and shape.rank == 4]


def _taken(nodes: Mapping[str, NodeDef], way: _Way, node: NodeDef, before: str) -> tuple[_Turn, str] | None:
    """How an operation turns the axes of what it takes, and what that is; None where nobody says."""
    turn = None
    if node.op == "Transpose":
        order = way.turned.get(node.name, ())
        turn = _Turn(order) if len(order) == 4 else None
    elif node.op == "Reshape":
        return _of_points(nodes, way, node) or _of_groups(nodes, way, node)
    elif node.op in PRODUCTS:
        turn = _of_product(node, before)
    elif (
        _keeps(node)
        or node.op == "StridedSlice"
        and _has_all_axes(way, node)
        or node.op == "BroadcastTo"
        and _is_same(way, node.name, before)
    ):
        turn = AS_BEFORE
    return (turn, before) if turn else None


def _is_same(way: _Way, name: str, other: str) -> bool:
    """Whether height, width and channels of two maps are the same."""
    shapes = [way.shapes.get(one) for one in (name, other)]
    first, second = (shape.as_list()[1:] if shape is not None and shape.rank == 4 else [None] for shape in shapes)
    return None not in first and first == second


def _has_all_axes(way: _Way, node: NodeDef) -> bool:
    """Whether a slice keeps each of four axes, and adds none."""
    shape = way.shapes.get(node.name)
    dropped = attribute(node, "shrink_axis_mask").i or attribute(node, "new_axis_mask").i
    return shape is not None and shape.rank == 4 and not dropped


def _of_product(node: NodeDef, before: str) -> _Turn | None:
    """Of a product by whose letters an axis has another in its place, or none has."""
    operands = [split(text)[0] for text in data_inputs(node)]
    terms = letters(node, [4 if name == before else None for name in operands])
    if terms is None or len(terms) != 3:
        return None
    own, result = terms[operands.index(before)], terms[-1]
    lost, new = [one for one in own if one not in result], [one for one in result if one not in own]
    if len(own) != 4 or len(result) != 4 or len(lost) > 1 or len(lost) != len(new):
        return None
    mixed = own.index(lost[0]) if lost else -1
    return _Turn([own.index(one) if one in own else mixed for one in result], mixed)


def _of_points(nodes: Mapping[str, NodeDef], way: _Way, node: NodeDef) -> tuple[_Turn, str] | None:
    """Of a product at each place, written as that of a matrix (`tf.tensordot`)."""
    name: str | None = node.name
    for op in ("Reshape", "MatMul", "Reshape"):
        if name is None or nodes[name].op != op:
            return None
        name = way.onward(nodes[name])
    sizes = [
        shape.as_list()[1:3] for one in (node.name, name) if (shape := way.shapes.get(one or "")) and shape.rank == 4
    ]
    return (POINTS, name) if name and len(sizes) == 2 and sizes[0] == sizes[1] and None not in sizes[0] else None


def _of_groups(nodes: Mapping[str, NodeDef], way: _Way, node: NodeDef) -> tuple[_Turn, str] | None:
    """Of what was laid out anew, computed with number by number, and laid out as it had been (a norm of groups)."""
    name = way.onward(node)
    for _ in range(MOST_STEPS):
        if name is None or nodes[name].op not in KEEPING - BLOCKS:
            break
        name = way.onward(nodes[name])
    before = way.onward(nodes[name]) if name and nodes[name].op == "Reshape" else None
    return (AS_BEFORE, before) if before and _is_same(way, node.name, before) else None


def _told_behind(nodes: Mapping[str, NodeDef], name: str, known: Known) -> tuple[int, ...] | None:
    """Forward through what keeps the axes, to what has windows along two of them, or takes the mean over them."""
    for _ in range(MOST_STEPS):
        readers = [node for node in nodes.values() if name in {split(text)[0] for text in node.input}]
        for node in readers:
            if (axes := _own_axes(node)) is not None and split(node.input[0])[0] == name:
                return axes
            if node.op in ("Mean", "Max", "Sum") and (over := known(node.input[1])) is not None:
                axes = tuple(sorted(int(axis) % 4 for axis in over.reshape(-1)))
                if axes in (NHWC[:2], NCHW[:2]):
                    return NHWC if axes == NHWC[:2] else NCHW
        kept = [node for node in readers if _keeps(node)]
        if not kept:
            return None
        name = kept[0].name
    return None


def _own_axes(node: NodeDef) -> tuple[int, ...] | None:
    """Of an operation that names its axes; what has no such attribute and resizes takes [N, H, W, C]."""
    if node.op in RESIZES:
        return NHWC
    if "data_format" not in node.attr or node.op in ("Conv3D", "MaxPool3D", "AvgPool3D", "Transpose"):
        return NHWC if node.op in ("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "BiasAdd") else None
    return {b"NHWC": NHWC, b"NCHW": NCHW}.get(attribute(node, "data_format").s)


def _keeps(node: NodeDef) -> bool:
    """Whether its axes are those of its numbers."""
    return node.op in KEEPING or node.op in (
        "ConcatV2",
        "Concat",
        "IdentityN",
        "AddN",
        "Pad",
        "PadV2",
        "MirrorPad",
        "Slice",
        "Split",
        "SplitV",
    )
