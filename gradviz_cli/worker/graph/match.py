"""Functions that a graph spells out in smaller operations: constants, sigmoid, softmax (pure functions on protocol buffers)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import MAX_LINKS, attribute, literal, node_of, source, split, walk

Nodes = Mapping[str, NodeDef]
# Larger constants are weights; nothing that is looked for here.
MAX_CONSTANT = 1 << 20
# Ops that rearrange or rename the classes without mixing them.
RENAMING_OPS = frozenset({"Identity", "Snapshot", "StopGradient", "PreventGradient"})
SHAPE_OPS = RENAMING_OPS | {"Reshape", "Squeeze", "ExpandDims"}
# Ops that a constant stays a constant through.
CONSTANT_OPS = frozenset({"Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "BroadcastTo"})
HANDING_ON = frozenset({"Identity", "StopGradient"})


def through(nodes: Nodes, tensor: str, ops: Collection[str], most: int = MAX_LINKS) -> str:
    """The tensor behind operations that hand their first input on."""

    def onward(link: str) -> str | None:
        node = node_of(nodes, link)
        return source(node, 0) if node.op in ops else None

    *_, last = walk(tensor, onward, most)
    return last


def origin(nodes: Nodes, tensor: str) -> str:
    """A tensor, seen through what hands it on."""
    return through(nodes, tensor, HANDING_ON)


def maker(nodes: Nodes, tensor: str) -> NodeDef:
    """The node that makes a tensor, seen through what hands it on."""
    return node_of(nodes, origin(nodes, tensor))


def constant(nodes: Nodes, tensor: str) -> np.ndarray | None:
    """Value of a tensor that is written in the graph, seen through casts and reshapes; None otherwise."""
    node = node_of(nodes, through(nodes, tensor, CONSTANT_OPS, 20))
    if node.op != "Const":
        return None
    shape = [dim.size for dim in attribute(node, "value").tensor.tensor_shape.dim]
    return literal(node) if np.prod(shape, dtype=float) <= MAX_CONSTANT else None


def scalar(nodes: Nodes, tensor: str) -> float | None:
    """The one value of a constant, whatever its shape."""
    node = maker(nodes, tensor)
    if node.op in ("ZerosLike", "OnesLike"):
        return float(node.op == "OnesLike")
    value = constant(nodes, source(node, 1) if node.op == "Fill" else tensor)
    if value is None or value.size == 0 or value.dtype.kind not in "fiu" and value.dtype.name != "bfloat16":
        return None
    value = value.astype(np.float64)
    return float(value.flat[0]) if np.all(value == value.flat[0]) else None


def same(nodes: Nodes, one: str, other: str, depth: int = 4) -> bool:
    """Two tensors are the same, or computed alike from the same."""
    one, other = origin(nodes, one), origin(nodes, other)
    if split(one) == split(other):
        return True
    first, second = node_of(nodes, one), node_of(nodes, other)
    if not depth or first.op != second.op or first.op not in ("Exp", "Sub", "Max", "Neg", "Const"):
        return False
    if first.op == "Const":
        return bool(attribute(first, "value") == attribute(second, "value"))
    return len(first.input) == len(second.input) and all(
        same(nodes, a, b, depth - 1) for a, b in zip(first.input, second.input, strict=True)
    )


def sigmoid_of(nodes: Nodes, name: str) -> str | None:
    """The x of a node that makes sigmoid(x): the op, 1 / (1 + exp(-x)) or its reciprocal."""
    node = node_of(nodes, name)
    if node.op == "Sigmoid":
        return source(node, 0)
    if node.op in ("RealDiv", "Div") and scalar(nodes, source(node, 0)) == 1:
        return one_plus_exp_minus(nodes, source(node, 1))
    if node.op in ("Reciprocal", "Inv"):
        return one_plus_exp_minus(nodes, source(node, 0))
    return None


def one_plus_exp_minus(nodes: Nodes, tensor: str) -> str | None:
    """The x of 1 + exp(-x)."""
    total = maker(nodes, tensor)
    if total.op not in ("Add", "AddV2"):
        return None
    first, second = source(total, 0), source(total, 1)
    for this, other in ((first, second), (second, first)):
        exponential = maker(nodes, this)
        if exponential.op == "Exp" and scalar(nodes, other) == 1:
            negative = maker(nodes, source(exponential, 0))
            return source(negative, 0) if negative.op == "Neg" else None
    return None


def softmax_of(nodes: Nodes, name: str) -> str | None:
    """The x of a node that makes softmax(x) or its logarithm, as one op or spelled out."""
    node = node_of(nodes, name)
    if node.op in ("Softmax", "LogSoftmax"):
        return source(node, 0)
    if node.op in ("RealDiv", "Div"):
        return _quotient(nodes, node)
    if node.op == "Sub":
        return _logarithm(nodes, node)
    return None


def _quotient(nodes: Nodes, node: NodeDef) -> str | None:
    """exp(x - max x) / sum(exp(x - max x)), the maximum optional."""
    exponential, total = maker(nodes, source(node, 0)), maker(nodes, source(node, 1))
    if exponential.op != "Exp" or total.op != "Sum" or not same(nodes, source(total, 0), source(node, 0)):
        return None
    return _less_maximum(nodes, source(exponential, 0))


def _logarithm(nodes: Nodes, node: NodeDef) -> str | None:
    """y - log(sum(exp y)), with y = x or x - max x."""
    logarithm = maker(nodes, source(node, 1))
    total = maker(nodes, source(logarithm, 0)) if logarithm.op == "Log" else logarithm
    exponential = maker(nodes, source(total, 0)) if total.op == "Sum" else total
    if exponential.op != "Exp" or not same(nodes, source(exponential, 0), source(node, 0)):
        return None
    return _less_maximum(nodes, source(node, 0))


def _less_maximum(nodes: Nodes, tensor: str) -> str:
    shifted = maker(nodes, tensor)
    if shifted.op == "Sub":
        maximum = maker(nodes, source(shifted, 1))
        if maximum.op == "Max" and same(nodes, source(maximum, 0), source(shifted, 0)):
            return source(shifted, 0)
    return tensor
