"""The end of a graph: what lies between its last layers and a tensor, followed back, and computed for numbers that are fed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_DOUBLE, DT_FLOAT

from gradviz_cli.worker.graph.graph import (
    LOOPS,
    Circle,
    Graph,
    attribute,
    called_by,
    consumers,
    copied,
    data_inputs,
    placeholder,
    split,
    topological,
)
from gradviz_cli.worker.graph.match import OF_SHAPES, RENAMING_OPS
from gradviz_cli.worker.graph.tf_private import import_nodes

LAYERS = frozenset(
    ["Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul", "BatchMatMul", "Einsum"]
    + ["BatchMatMulV2", "BatchMatMulV3", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "MaxPool", "AvgPool"]
    + ["While", "StatelessWhile", "TensorListStack", "Exit"]
)
# Ops that rearrange or pick numbers -> the inputs that hold them.
PICKS: dict[str, slice] = {
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims", "Transpose", "ReverseV2", "EnsureShape"), slice(1)),
    **dict.fromkeys(("StridedSlice", "Slice", "Gather", "GatherV2", "GatherNd", "SplitV", "Unpack"), slice(1)),
    **dict.fromkeys(("Tile", "BroadcastTo"), slice(1)),
    "Split": slice(1, 2),
    "Pack": slice(None),
    "ConcatV2": slice(-1),
}
MAX_NODES = 400  # more is no tail
MAX_NUMBERS = 1 << 22
ROWS, LARGE, SMALL = 9, 64, 7  # an open batch, and what becomes of the sides of a map that is too large

Array = np.ndarray
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tail:
    """What lies before `end`, back to the layers (or the image) that it starts from.

    Attributes
    ----------
    inputs : dict
        Node -> the inputs through which it gets the numbers of the image; empty for a layer and the image.
    order : dict
        Node -> its place, sources first.
    """

    graph: Graph
    end: str
    inputs: Mapping[str, Sequence[str]]
    order: Mapping[str, int]

    def node(self, tensor: str) -> NodeDef:
        return self.graph.node(tensor)

    def back(self, tensor: str) -> Iterator[str]:
        """`tensor`, and then every tensor that all the numbers behind it pass: the nearest first."""
        front = {tensor}
        while front:
            if len(front) == 1:
                yield next(iter(front))
            name = max((split(one)[0] for one in front), key=self.order.__getitem__)
            front = {one for one in front if split(one)[0] != name}
            if not self.inputs[name]:
                return
            front |= set(self.inputs[name])

    def between(self, tensor: str, before: str) -> set[str]:
        """The nodes that lie behind `before`, up to `tensor`."""
        todo, seen = [tensor], set[str]()
        while todo:
            one = todo.pop()
            if one != before and split(one)[0] not in seen:
                seen.add(split(one)[0])
                todo.extend(self.inputs[split(one)[0]])
        return seen


def ops_before(graph: Graph, end: str, layers: Collection[str] = LAYERS) -> set[str]:
    """The ops between the last layers and a tensor, whatever flows through them; cheap, for most models need no more."""
    todo, seen, ops = [end], set[str](), set[str]()
    while todo and len(seen) < MAX_NODES:
        name = split(todo.pop())[0]
        if name not in seen and name in graph.nodes:
            seen.add(name)
            ops.add(graph.nodes[name].op)
            if graph.nodes[name].op not in layers:
                todo.extend(data_inputs(graph.nodes[name]))
    return ops


def tail_of(graph: Graph, fed: str, end: str) -> Tail | None:
    """The tail of a graph that takes an image through `fed`; None where there is none, or too much of it."""
    below, image = _numbers_of(graph, split(fed)[0]), split(fed)[0]
    inputs: dict[str, list[str]] = {}
    todo = [end] if split(end)[0] in below else []
    while todo:
        name = split(todo.pop())[0]
        if name in inputs:
            continue
        node = graph.nodes[name]
        stops = name == image or node.op in LAYERS
        inputs[name] = [] if stops else [text for text in data_inputs(node) if split(text)[0] in below]
        todo.extend(inputs[name])
        if len(inputs) > MAX_NODES:
            return None
    try:
        order = topological({name: [split(text)[0] for text in texts] for name, texts in inputs.items()})
    except Circle:  # a loop that is no function
        return None
    return Tail(graph, end, inputs, {name: place for place, name in enumerate(order)}) if inputs else None


def _numbers_of(graph: Graph, image: str) -> set[str]:
    """The nodes that the numbers of the image reach, not only its sizes."""
    readers, todo, seen = consumers(graph.nodes), [image], set[str]()
    while todo:
        name = todo.pop()
        if name not in seen and graph.nodes[name].op not in OF_SHAPES:
            seen.add(name)
            todo.extend(readers.get(name, ()))
    return seen


def renamed(node: NodeDef) -> bool:
    """The node gives what it takes."""
    return node.op in RENAMING_OPS


class Computed:
    """A part of a graph in which one tensor is given, computed in float64 as far as its operations have that.

    Parameters
    ----------
    given : str
        The tensor that is given.
    wanted : sequence of str
        The tensors that are computed.
    others : dict
        Placeholder -> value of what else is fed, all but the weights.
    """

    def __init__(self, graph: Graph, given: str, wanted: Sequence[str], others: Mapping[str, Array], double: bool):
        name = f"{split(given)[0]}/gradviz_given"
        dtype = dtype_of(graph, given)
        nodes = {one: reading(node, given, f"{name}:0") for one, node in graph.nodes.items()}
        nodes[name] = placeholder(name, dtype)
        wanted = [f"{name}:0" if one == given else one for one in wanted]
        part = Graph(nodes, graph.functions, graph.weights, graph.handles, values=graph.values).pruned(wanted)
        if part.ops().keys() & LOOPS:
            raise ValueError("whether a loop ends is not known before it does")
        if double and not any(map(called_by, part.nodes.values())):
            part = Graph(
                {one: _doubled(node) for one, node in part.nodes.items()}, weights=part.weights, values=part.values
            )
        self._given, self._wanted = f"{name}:0", wanted
        self._fed = {f"{one}:0": part.values[variable].numpy() for one, variable in part.weights.items()}
        self._others = {f"{one}:0": value for one, value in others.items() if one in part.nodes}
        with tf.Graph().as_default() as made:
            import_nodes(part.graph_def())
        config = tf.compat.v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._session = tf.compat.v1.Session(graph=made, config=config)

    def __call__(self, value: Array) -> list[Array]:
        fed = {**self._fed, **self._others, self._given: value}
        return [np.asarray(one, np.float64) for one in self._session.run(self._wanted, fed)]

    def close(self) -> None:
        self._session.close()


def computing(
    graph: Graph,
    given: str,
    wanted: Sequence[str],
    others: Mapping[str, Array],
    use: Callable[[Computed], Result | None],
) -> Result | None:
    """What `use` makes of a part of a graph, in float64 where it has kernels for that; None where it cannot be computed."""
    for double in (True, False):
        try:
            computed = Computed(graph, given, wanted, others, double)
            try:
                return use(computed)
            finally:
                computed.close()
        except (tf.errors.OpError, ValueError, TypeError):  # no kernel for float64, or sizes that do not fit
            continue
    return None


def negative(name: str, tensor: str, dtype: int) -> NodeDef:
    """Minus a tensor of this type."""
    node = NodeDef(name=name, op="Neg", input=[tensor])
    node.attr["T"].type = dtype
    return node


def dtype_of(graph: Graph, tensor: str) -> int:
    """The type of a float tensor, by what its node says of itself."""
    node = graph.node(tensor)
    for key in ("DstT", "dtype", "T", "out_type"):
        if key in node.attr and tf.dtypes.as_dtype(node.attr[key].type).is_floating:
            return int(node.attr[key].type)
    return DT_FLOAT


def reading(node: NodeDef, tensor: str, other: str) -> NodeDef:
    """The node, or a copy that reads the other tensor."""
    if tensor not in node.input:
        return node
    return copied(node, inputs=[other if text == tensor else text for text in node.input])


def _doubled(node: NodeDef) -> NodeDef:
    copy = copied(node)
    for value in copy.attr.values():
        if value.type == DT_FLOAT:
            value.type = DT_DOUBLE
        elif value.tensor.dtype == DT_FLOAT:
            value.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(value.tensor).astype(np.float64)))
        elif DT_FLOAT in value.list.type:
            value.list.type[:] = [DT_DOUBLE if one == DT_FLOAT else one for one in value.list.type]
    return copy


def sizes_to_feed(shape: Sequence[int | None]) -> list[int]:
    """A shape with its open sizes filled in, and small enough to be computed in no time."""
    sizes = [size if size is not None else 3 if place else ROWS for place, size in enumerate(shape)]
    if np.prod(sizes, dtype=float) > MAX_NUMBERS and shape and shape[0] is None:
        sizes[0] = 1
    if np.prod(sizes, dtype=float) > MAX_NUMBERS:
        sizes = [SMALL if size > LARGE else size for size in sizes]
    return sizes


def logits_to_feed(sizes: Sequence[int], seed: int) -> Array:
    """Numbers as logits have them, in every third row so far apart that probabilities are all but 0 and 1."""
    random, rows = np.random.default_rng(seed), int(np.prod(sizes[:-1]))
    near, far = 2 * random.normal(size=sizes), random.uniform(-20, 20, size=sizes)
    spread = (np.arange(rows) + seed) % 3 == 1
    return np.where(spread.reshape([*sizes[:-1], 1] if sizes else []), far, near)


def other_feeds(graph: Graph, constants: Mapping[str, Array], rows: int) -> dict[str, Array]:
    """Zeros for the image, whose sizes alone are asked for, and the values of the other inputs."""
    fed = {}
    for name in graph.feeds.values():
        node = graph.nodes[name]
        dtype = tf.dtypes.as_dtype(attribute(node, "dtype").type)
        shape = node.attr["shape"].shape if "shape" in node.attr else None
        dims = [] if shape is None or shape.unknown_rank else [dim.size for dim in shape.dim]
        sizes = [size if size >= 0 else 8 if place else rows for place, size in enumerate(dims)]
        fed[name] = np.full(sizes, b"", object) if dtype == tf.string else np.zeros(sizes, dtype.as_numpy_dtype)
    return {**fed, **constants}
