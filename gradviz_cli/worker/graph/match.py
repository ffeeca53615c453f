"""Functions that a graph spells out in smaller operations: constants, sigmoid, softmax (pure functions on protocol buffers)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import split

Nodes = Mapping[str, NodeDef]
# Larger constants are weights; nothing that is looked for here.
MAX_CONSTANT = 1 << 20
# A longer chain of operations that only hand on goes in a circle.
MAX_LINKS = 1_000


def constant(nodes: Nodes, tensor: str) -> np.ndarray | None:
    """Value of a tensor that is written in the graph, seen through casts and reshapes; None otherwise."""
    for _ in range(20):
        node = nodes.get(split(tensor)[0])
        if node is None:
            return None
        if node.op == "Const":
            shape = [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim]
            return tf.make_ndarray(node.attr["value"].tensor) if np.prod(shape, dtype=float) <= MAX_CONSTANT else None
        if node.op not in ("Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "BroadcastTo"):
            return None
        tensor = node.input[0]
    return None


def scalar(nodes: Nodes, tensor: str) -> float | None:
    """The one value of a constant, whatever its shape."""
    node = maker(nodes, tensor)
    if node.op in ("ZerosLike", "OnesLike"):
        return float(node.op == "OnesLike")
    value = constant(nodes, node.input[1] if node.op == "Fill" else tensor)
    if value is None or value.size == 0 or value.dtype.kind not in "fiu" and value.dtype.name != "bfloat16":
        return None
    value = value.astype(np.float64)
    return float(value.flat[0]) if np.all(value == value.flat[0]) else None


def maker(nodes: Nodes, tensor: str) -> NodeDef:
    """The node that makes a tensor, seen through what hands it on."""
    node = nodes[split(tensor)[0]]
    for _ in range(MAX_LINKS):
        if node.op not in ("Identity", "StopGradient"):
            break
        node = nodes[split(node.input[0])[0]]
    return node


def same(nodes: Nodes, one: str, other: str, depth: int = 4) -> bool:
    """Two tensors are the same node's, or computed alike from the same."""
    first, second = maker(nodes, one), maker(nodes, other)
    if first.name == second.name:
        return True
    if not depth or first.op != second.op or first.op not in ("Exp", "Sub", "Max", "Neg", "Const"):
        return False
    if first.op == "Const":
        return first.attr["value"] == second.attr["value"]
    return all(same(nodes, a, b, depth - 1) for a, b in zip(first.input, second.input, strict=True))


def sigmoid_of(nodes: Nodes, name: str) -> str | None:
    """The x of a node that makes sigmoid(x): the op, 1 / (1 + exp(-x)) or its reciprocal."""
    node = nodes[name]
    if node.op == "Sigmoid":
        return node.input[0]
    if node.op in ("RealDiv", "Div") and scalar(nodes, node.input[0]) == 1:
        return one_plus_exp_minus(nodes, node.input[1])
    if node.op in ("Reciprocal", "Inv"):
        return one_plus_exp_minus(nodes, node.input[0])
    return None


def one_plus_exp_minus(nodes: Nodes, tensor: str) -> str | None:
    """The x of 1 + exp(-x)."""
    total = maker(nodes, tensor)
    if total.op not in ("Add", "AddV2"):
        return None
    for this, other in (tuple(total.input[:2]), tuple(total.input[1::-1])):
        exponential = maker(nodes, this)
        if exponential.op == "Exp" and scalar(nodes, other) == 1:
            negative = maker(nodes, exponential.input[0])
            return negative.input[0] if negative.op == "Neg" else None
    return None


def softmax_of(nodes: Nodes, name: str) -> str | None:
    """The x of a node that makes softmax(x) or its logarithm, as one op or spelled out."""
    node = nodes[name]
    if node.op in ("Softmax", "LogSoftmax"):
        return node.input[0]
    if node.op in ("RealDiv", "Div"):
        return _quotient(nodes, node)
    if node.op == "Sub":
        return _logarithm(nodes, node)
    return None


def _quotient(nodes: Nodes, node: NodeDef) -> str | None:
    """exp(x - max x) / sum(exp(x - max x)), the maximum optional."""
    exponential, total = maker(nodes, node.input[0]), maker(nodes, node.input[1])
    if exponential.op != "Exp" or total.op != "Sum" or not same(nodes, total.input[0], node.input[0]):
        return None
    return _less_maximum(nodes, exponential.input[0])


def _logarithm(nodes: Nodes, node: NodeDef) -> str | None:
    """y - log(sum(exp y)), with y = x or x - max x."""
    logarithm = maker(nodes, node.input[1])
    total = maker(nodes, logarithm.input[0]) if logarithm.op == "Log" else logarithm
    exponential = maker(nodes, total.input[0]) if total.op == "Sum" else total
    if exponential.op != "Exp" or not same(nodes, exponential.input[0], node.input[0]):
        return None
    return _less_maximum(nodes, node.input[0])


def _less_maximum(nodes: Nodes, tensor: str) -> str:
    shifted = maker(nodes, tensor)
    if shifted.op == "Sub":
        maximum = maker(nodes, shifted.input[1])
        if maximum.op == "Max" and same(nodes, maximum.input[0], shifted.input[0]):
            return shifted.input[0]
    return tensor


# Ops that rearrange or rename the classes without mixing them.
RENAMING_OPS = frozenset({"Identity", "Snapshot", "StopGradient", "PreventGradient"})


SHAPE_OPS = RENAMING_OPS | {"Reshape", "Squeeze", "ExpandDims"}
