"""The kernels of a graph: the weights that its linear operations multiply by, from the score down.

They are what a model has learnt, for who asks whether a map depends on that (`worker.run.redraw`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import (
    BRANCHES,
    LOOPS,
    Circle,
    Graph,
    ancestors,
    attribute,
    data_inputs,
    literal,
    placeholder,
    sources_in_order,
    split,
    topological,
)
from gradviz_cli.worker.graph.question import Question


def _last(node: NodeDef, rank: int) -> tuple[int, ...]:
    return (rank - 1,)


def _transposed(name: str) -> Callable[[NodeDef, int], tuple[int, ...]]:
    """Of a matrix product: the last axis, or the one before it where the operation turns the matrix; and those of a batch."""

    def axes(node: NodeDef, rank: int) -> tuple[int, ...]:
        return (*range(rank - 2), rank - 2 if attribute(node, name).b else rank - 1)

    return axes


def _of_equation(node: NodeDef, rank: int) -> tuple[int, ...]:
    """The axes of the second operand that the result has, and so are not summed over."""
    terms, _, result = attribute(node, "equation").s.decode().replace("...", "").partition("->")
    term = terms.split(",")[-1]
    found = tuple(place for place, letter in enumerate(term) if letter in result)
    return found if len(term) == rank and found else (rank - 1,)


# Operation -> the axes of its kernel that count filters; over all others it sums.
FILTERS: dict[str, Callable[[NodeDef, int], tuple[int, ...]]] = {
    "Conv2D": _last,
    "Conv3D": _last,
    "DepthwiseConv2dNative": lambda node, rank: (rank - 2, rank - 1),
    "Conv2DBackpropInput": lambda node, rank: (rank - 2,),  # a transposed convolution: [h, w, out, in]
    "MatMul": _transposed("transpose_b"),
    "BatchMatMul": _transposed("adj_y"),
    "BatchMatMulV2": _transposed("adj_y"),
    "BatchMatMulV3": _transposed("adj_y"),
    "Einsum": _of_equation,
}
# Their kernels are multiplied by inside of them.
CALLING = LOOPS | BRANCHES
# What hands on a kernel as it is.
SAME = frozenset({"Identity", "ReadVariableOp", "Cast", "StopGradient", "CheckNumerics"})


@dataclass(frozen=True)
class Kernel:
    """A weight of two axes or more, and the axes of it that count the filters of the operation that reads it."""

    node: str
    filters: tuple[int, ...]
    shape: tuple[int, ...]


def kernels(graph: Graph, question: Question) -> tuple[Kernel, ...]:
    """The kernels between the image and the score, from the score down: each comes behind all that its result passes."""
    path = question.path(graph)
    away = _away(graph, path)
    known = {**graph.weights, **graph.handles}
    found: dict[str, tuple[int, Kernel]] = {}
    for reader in sorted(path & set(away)):
        for operand in _operands(graph.nodes[reader], path):
            for kernel in _behind(graph, known, graph.nodes[reader], operand):
                before = found.get(kernel.node)
                if before is None or before[0] < away[reader]:  # one that is read twice: as far down as it is
                    found[kernel.node] = (away[reader], kernel)
    return tuple(kernel for _, kernel in sorted(found.values(), key=lambda one: (one[0], one[1].node)))


def with_weights(graph: Graph, question: Question) -> Graph:
    """A graph that has no variables, with the constants that its linear operations multiply by as weights."""
    if graph.weights or graph.handles:
        return graph
    path = question.path(graph)
    read = [
        operand
        for name in path
        for operand in _operands(graph.nodes[name], path)
        if graph.nodes[name].op in FILTERS or graph.nodes[name].op in CALLING
    ]
    large = {name: graph.nodes[name] for name in ancestors(graph.nodes, read) if graph.nodes[name].op == "Const"}
    values = {name: tf.constant(value) for name, node in large.items() if _is_kernel(value := literal(node))}
    nodes = dict(graph.nodes)
    for name, value in values.items():
        nodes[name] = placeholder(name, value.dtype.as_datatype_enum, value.shape.as_proto())
    weights = {name: f"constant/{name}" for name in values}
    held = {f"constant/{name}": value for name, value in values.items()}
    return replace(graph, nodes=nodes, weights=weights, values={**graph.values, **held})


def _is_kernel(value: tf.Tensor) -> bool:
    return value.ndim >= 2 and value.dtype.kind == "f"


def _away(graph: Graph, path: Iterable[str]) -> dict[str, int]:
    """Node of the path -> steps on its longest way to the score; nothing for a loop that is no function."""
    sources = {name: before for name, before in sources_in_order(graph.nodes).items() if name in path}
    try:
        order = topological(sources)
    except Circle:
        return {}
    away = dict.fromkeys(order, 0)
    for name in reversed(order):
        for one in sources[name]:
            if one in away:
                away[one] = max(away[one], away[name] + 1)
    return away


def _operands(node: NodeDef, path: Iterable[str]) -> list[str]:
    """The inputs of a linear operation, or of a loop, that do not depend on the image."""
    if node.op not in FILTERS and node.op not in CALLING:
        return []
    return [text for text in data_inputs(node) if split(text)[0] not in path]


def _behind(graph: Graph, known: Mapping[str, str], reader: NodeDef, operand: str) -> list[Kernel]:
    """The kernels that an operand is computed from."""
    direct = split(operand)[0]
    while direct in graph.nodes and graph.nodes[direct].op in SAME and graph.nodes[direct].input:
        direct = split(graph.nodes[direct].input[0])[0]
    found = []
    for name in sorted(ancestors(graph.nodes, [operand]) & set(known)):
        value = graph.values[known[name]]
        rank = value.shape.rank
        if rank is not None and rank >= 2 and value.dtype.is_floating:
            axes = FILTERS.get(reader.op, _last) if name == direct else _last
            found.append(Kernel(name, axes(reader, rank), tuple(value.shape.as_list())))
    return found
