"""Feature maps that everything on the way from image to score passes: each may carry a class activation map."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.estimators import AUTO_LAYER, Taps
from gradviz_cli.process.protocol import CamLayer
from gradviz_cli.worker.analysis.activations import Found, value_path
from gradviz_cli.worker.analysis.axes import KEEPING, RESIZES
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.analysis.moves import MOVERS
from gradviz_cli.worker.graph.graph import (
    Circle,
    Graph,
    ancestors,
    attribute,
    data_inputs,
    descendants,
    find_tensor,
    split,
    topological,
)
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.tf_private import import_nodes

# What mixes channels: before the first there are no features, and behind the last there is no class apart from a score.
KERNELS = frozenset(
    {"Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3D", "MatMul", "BatchMatMul", "BatchMatMulV2"}
    | {"BatchMatMulV3", "Einsum"}
)
# Paths are counted modulo a prime; that two different counts agree by chance is not a practical concern.
PRIME = 2**61 - 1
NHWC, NCHW = (1, 2, 3), (2, 3, 1)  # where height, width and channels are
WITHOUT = "-e chefer explains a model of attention, --cam-layer TENSOR names another layer"
MOST_SHOWN = 3
MOST_STEPS = 1000


@dataclass(frozen=True)
class _Way:
    """The nodes from image to score, in order, those among them that every way passes, and their shapes."""

    order: tuple[str, ...]
    certain: frozenset[str]
    shapes: Mapping[str, tf.TensorShape]


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
    if way is None:
        return []
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
    layers = cam_layers(graph, question, found, image)
    if layer == AUTO_LAYER:
        if not layers:
            raise ModelUnusable(
                "no feature map late in the model has height and width and lies on every way from image to score",
                WITHOUT,
            )
        return _taps(graph, layers[-1].tensor, layers[-1].shape, True), None
    way = _way(graph, question, image)
    known = way.order if way else ()
    tensor = _named(known, layer, [one.tensor for one in layers])
    name, index = split(tensor)
    shape = way.shapes.get(name) if way and not index else None
    if shape is None or shape.rank != 4 or 1 in shape.as_list()[1:]:
        said = "is no output of rank 4" if shape is None or shape.rank != 4 else f"is {shape.as_list()}"
        raise UsageError(f"--cam-layer {layer}: {tensor} {said}, and no map of features", _others(layers))
    certain = bool(way and name in way.certain)
    passed = None if certain else f"not all of the score passes {tensor}, so the map leaves out what does not"
    return _taps(graph, tensor, tuple(shape.as_list()), certain), passed


def _taps(graph: Graph, tensor: str, shape: Sequence[int | None], certain: bool) -> Taps:
    axes = axes_of(graph, tensor)
    if axes is None:
        raise ModelUnusable(
            f"the graph does not say which axes of {tensor} are height and width",
            "choose a layer nearer to a convolution with --cam-layer TENSOR",
        )
    height, width = (shape[axis] or 0 for axis in axes[:2])  # 0: only running the model tells
    return Taps("cam", (tensor,), (height, width), tuple(axis - 1 for axis in axes), certain)


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
    return _Way(tuple(order), certain, _shapes(graph, question, order, image))


def _paths(order: Sequence[str], sources: Mapping[str, Sequence[str]], start: str) -> dict[str, int]:
    """Number of ways from `start` to each node, modulo PRIME."""
    ways: dict[str, int] = {}
    for name in order:
        ways[name] = 1 if name == start else sum(ways.get(source, 0) for source in sources[name]) % PRIME
    return ways


def _shapes(
    graph: Graph, question: Question, names: Sequence[str], image: tf.TensorSpec | None
) -> dict[str, tf.TensorShape]:
    """Of the first output of each node, as TensorFlow infers them; nothing is computed."""
    with tf.Graph().as_default():
        given = {} if image is None else {question.fed(graph): tf.compat.v1.placeholder(image.dtype, image.shape)}
        tensors = [f"{name}:0" for name in names if f"{name}:0" not in given]
        found = import_nodes(graph.graph_def(), given, tensors)
    return {split(tensor)[0]: one.shape for tensor, one in zip(tensors, found, strict=True)}


def _is_feature_map(graph: Graph, way: _Way, name: str) -> bool:
    """Behind a kernel, with height and width, and more than the numbers of another laid out anew."""
    shape = way.shapes.get(name)
    mover = MOVERS.get(graph.nodes[name].op)
    if shape is None or shape.rank != 4 or 1 in shape.as_list()[1:] or mover and not mover.joins:
        return False
    before = ancestors(graph.nodes, [f"{name}:0"]) & set(way.order)
    return any(graph.nodes[one].op in KERNELS for one in before) and axes_of(graph, f"{name}:0") is not None


def _before_the_classes(graph: Graph, way: _Way, layers: list[str]) -> list[str]:
    """Of a score that has height and width itself: what lies before the kernel that makes it."""
    score = way.shapes.get(split(graph.score)[0])
    if score is None or score.rank != 4 or 1 in score.as_list()[1:3]:
        return layers
    return [name for name in layers if any(graph.nodes[one].op in KERNELS for one in _behind(graph, way, name))]


def _behind(graph: Graph, way: _Way, name: str) -> Collection[str]:
    return (descendants(graph.nodes, [name]) & set(way.order)) - {name}


def _is_early(graph: Graph, way: _Way, name: str, found: Found | None) -> bool:
    """Whether what makes the model one of tokens lies behind it: attention, or all of its activations."""
    behind = _behind(graph, way, name)
    if sum(graph.nodes[one].op == "Softmax" for one in behind) > 1:
        return True
    exits = {split(one.exit)[0] for one in found.top} if found else set()
    return bool(exits & set(behind)) and not exits & ancestors(graph.nodes, [f"{name}:0"])


# -- which axes are height, width and channels ----------------------------------------------------------------------------


def axes_of(graph: Graph, tensor: str) -> tuple[int, ...] | None:
    """The axes of a tensor of rank 4 that are height, width and channels, as the nearest operation before it says that knows
    its own; else the nearest behind it."""
    known = Known(graph.nodes)
    return _told_before(graph.nodes, split(tensor)[0], known) or _told_behind(graph.nodes, split(tensor)[0], known)


def _told_before(nodes: Mapping[str, NodeDef], name: str, known: Known) -> tuple[int, ...] | None:
    """Back through what keeps the axes, with the transposes on the way done again."""
    turns: list[list[int]] = []
    for _ in range(MOST_STEPS):
        node = nodes.get(name)
        if node is None:
            return None
        if (axes := _own_axes(node)) is not None:
            for turned in reversed(turns):
                axes = tuple(turned.index(axis) for axis in axes)
            return axes
        turn = _turn(node, known)
        if turn is not None:
            turns.append(turn)
        elif not _keeps(node):
            return None
        onward = _carrier(nodes, node, known)
        if onward is None:
            return None
        name = onward
    return None


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


def _turn(node: NodeDef, known: Known) -> list[int] | None:
    """The order in which a transpose takes the axes before it."""
    value = known(node.input[1]) if node.op == "Transpose" and len(node.input) > 1 else None
    return None if value is None or value.size != 4 else [int(axis) for axis in value.reshape(-1)]


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
    )


def _carrier(nodes: Mapping[str, NodeDef], node: NodeDef, known: Known) -> str | None:
    """Of its inputs the one whose axes are its own: the first that is no constant."""
    for text in data_inputs(node):
        before = nodes.get(split(text)[0])
        if before is not None and before.op not in ("Const", "Placeholder") and known(text) is None:
            return before.name
    return None
