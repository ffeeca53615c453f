"""What a tensor is, seen through what only hands it on or writes it down (pure functions on protocol buffers)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import MAX_LINKS, attribute, literal, node_of, source, walk

Nodes = Mapping[str, NodeDef]
# Larger constants are weights; nothing that is looked for here.
MAX_CONSTANT = 1 << 20
# Ops that rearrange or rename the classes without mixing them.
STOPS = frozenset({"StopGradient", "PreventGradient"})
RENAMING_OPS = STOPS | {"Identity", "Snapshot"}
SHAPE_OPS = RENAMING_OPS | {"Reshape", "Squeeze", "ExpandDims"}
BATCH_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
# These read the shape of a tensor and none of its values: no gradient passes them.
OF_SHAPES = frozenset({"Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike"})
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
