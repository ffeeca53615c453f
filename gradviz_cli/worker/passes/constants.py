"""Computes once at load what a graph would compute again for every image: what depends on weights alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import OPERATIONS, compute
from gradviz_cli.worker.graph.graph import (
    LOOPS,
    Graph,
    attribute,
    data_inputs,
    descendants,
    literal,
    placeholder,
    sources_in_order,
    split,
    topological,
    types_of,
)
from gradviz_cli.worker.graph.memory import array_of
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.tf_private import import_nodes, op_def

MAX_FOLDED = 2**24  # numbers; what is larger is cheaper to compute than to keep
# What NumPy computes here: epsilons, gains and means of channels. Larger ones are TensorFlow's, which uses all cores.
MAX_SMALL = 2**18
SMALL_OPS = frozenset(OPERATIONS) - {"BiasAdd", "BiasAddV1"}  # which add along an axis that an attribute names


def constants(graph: Graph, question: Question) -> Graph:
    """The graph whose float tensors that are computed from weights alone are weights themselves."""
    changing = descendants(graph.nodes, [split(question.fed(graph))[0], *_stateful(graph)])
    inputs = {split(text)[0] for name in changing for text in graph.nodes[name].input if not text.startswith("^")}
    several = {split(text)[0] for node in graph.nodes.values() for text in node.input if split(text)[1] > 0}
    candidates = inputs - changing - several  # a placeholder has one output
    borders = sorted(name for name in candidates if graph.nodes[name].op not in ("Const", "Placeholder"))
    if not borders:
        return graph
    small = {
        name: tensor
        for name, tensor in _compute(graph, borders).items()
        if tensor.dtype.is_floating and tensor.shape.num_elements() <= MAX_FOLDED
    }
    nodes = dict(graph.nodes)
    for name, tensor in small.items():
        nodes[name] = placeholder(name, tensor.dtype.as_datatype_enum, tensor.shape.as_proto())
    weights = {**graph.weights, **{name: f"folded/{name}" for name in small}}
    values = {**graph.values, **{f"folded/{name}": tensor for name, tensor in small.items()}}
    return replace(graph, nodes=nodes, weights=weights, values=values).pruned(graph.outputs)


def _stateful(graph: Graph) -> list[str]:
    """Nodes whose value is not a function of their inputs: random numbers, other inputs, resources, loops."""
    stateful = []
    for name, node in graph.nodes.items():
        definition = op_def(node.op)
        free = node.op == "Placeholder" and name not in graph.weights
        if free or definition is None or definition.is_stateful or node.op in LOOPS:
            stateful.append(name)
    return stateful


def _compute(graph: Graph, names: list[str]) -> dict[str, tf.Tensor]:
    """The first output of each node: by NumPy where it can, as a function of TensorFlow's costs a second to build."""
    small = _small_values(graph.pruned(f"{name}:0" for name in names))
    found = {name: tf.constant(small[name]) for name in names if name in small}
    rest = [name for name in names if name not in found]
    return {**found, **(_computed_by_tensorflow(graph, rest) if rest else {})}


def _small_values(graph: Graph) -> dict[str, np.ndarray]:
    """Node -> its first output, for those that weights and constants give through elementwise operations and shapes.

    Each step is computed in float64 and rounded to the type of the node, so that sums, products and roots are those of
    the type itself.
    """
    values: dict[str, np.ndarray] = {}
    for name in topological(sources_in_order(graph.nodes)):
        node = graph.nodes[name]
        if name in graph.weights:
            value = graph.values[graph.weights[name]]
            if value.shape.num_elements() <= MAX_SMALL:
                values[name] = array_of(value)
        elif (found := _small_value(node, values)) is not None:
            values[name] = found
    return values


def _small_value(node: NodeDef, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if node.op == "Const":
        sizes = [dim.size for dim in attribute(node, "value").tensor.tensor_shape.dim]
        return literal(node) if np.prod(sizes, dtype=float) <= MAX_SMALL else None
    inputs = [values.get(split(text)[0]) for text in data_inputs(node) if split(text)[1] == 0]
    known = [value for value in inputs if value is not None and value.size <= MAX_SMALL and value.dtype.kind in "fi"]
    if not known or len(known) < len(data_inputs(node)):
        return None
    if node.op in _SHAPED:
        return _SHAPED[node.op](node, *known)
    types = types_of(node)
    if node.op not in SMALL_OPS or types[:1] not in ([tf.float32.as_datatype_enum], [tf.float64.as_datatype_enum]):
        return None
    with np.errstate(all="ignore"):
        result = compute(node, [value.astype(np.float64) for value in known])
        return result.astype(tf.dtypes.as_dtype(types[0]).as_numpy_dtype) if result.size <= MAX_SMALL else None


def _squeezed(node: NodeDef, value: np.ndarray) -> np.ndarray:
    axes = tuple(attribute(node, "squeeze_dims").list.i)
    return np.squeeze(value, axes or None)


_SHAPED: dict[str, Callable[..., np.ndarray | None]] = {
    "Reshape": lambda node, value, shape: value.reshape(shape),
    "ExpandDims": lambda node, value, axis: np.expand_dims(value, axis.item()),
    "Squeeze": _squeezed,
    "BroadcastTo": lambda node, value, shape: np.broadcast_to(value, shape) if np.prod(shape) <= MAX_SMALL else None,
}


def _computed_by_tensorflow(graph: Graph, names: list[str]) -> dict[str, tf.Tensor]:
    part = graph.pruned(f"{name}:0" for name in names)
    built = part.graph_def()

    @tf.function(autograph=False)
    def run() -> list[tf.Tensor]:
        fed = {f"{name}:0": tf.identity(part.values[variable]) for name, variable in part.weights.items()}
        return import_nodes(built, fed, list(part.outputs), "constant")

    return dict(zip(names, run(), strict=True))
