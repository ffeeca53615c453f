"""Which tensor is the score: the logits below a softmax or sigmoid, what an ArgMax read, any tensor by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.expand import Flat, split
from gradviz_cli.worker.patch import constant

# Ops that rearrange or rename the classes without mixing them.
SHAPE_OPS = frozenset({"Identity", "Reshape", "Squeeze", "ExpandDims", "Snapshot", "StopGradient", "PreventGradient"})
# What turns scores into a decision, and which input holds the scores (or the decision so far).
DECISIONS = {
    "ArgMax": 0,
    "TopK": 0,
    "TopKV2": 0,
    "LookupTableFind": 1,
    "LookupTableFindV2": 1,
    "Gather": 1,
    "GatherV2": 1,
    "AsString": 0,
    "Cast": 0,
    **dict.fromkeys(SHAPE_OPS, 0),
}
_FLOAT, _DOUBLE, _HALF, _BFLOAT16 = 1, 2, 19, 14
_FLOATS = frozenset({_FLOAT, _DOUBLE, _HALF, _BFLOAT16})


def decided_from(flat: Flat, output: str) -> str | None:
    """The scores that an integer or string output was decided from; None where no ArgMax or top-k lies behind it."""
    tensor = output
    for _ in range(50):
        node = flat.nodes[split(tensor)[0]]
        if node.op not in DECISIONS:
            return None
        tensor = node.input[DECISIONS[node.op]]
        if node.op in ("ArgMax", "TopK", "TopKV2"):
            return tensor
    return None


def bypass(flat: Flat, output: str) -> tuple[Flat, str, str | None]:
    """The tensor of the logits: the output without the softmax or sigmoid that ends it.

    Returns
    -------
    flat, score, bypassed
        The graph with a copy of what follows the softmax (reshapes, renamings) put behind its input instead, the name
        of that copy's end, and the node that was bypassed (None when the output is no probability).
    """
    chain: list[str] = []
    name = split(output)[0]
    while _transparent(flat.nodes[name]):
        chain.append(name)
        name = split(flat.nodes[name].input[0])[0]
    logits = _logits(flat.nodes, name)
    if logits is None:
        return flat, output, None
    nodes = dict(flat.nodes)
    for link in reversed(chain):
        copy = NodeDef()
        copy.CopyFrom(nodes[link])
        copy.name = f"{link}/gradviz_logit"
        copy.input[0] = logits
        nodes[copy.name] = copy
        logits = f"{copy.name}:0"
    return replace(flat, nodes=nodes), logits, name


def _transparent(node: NodeDef) -> bool:
    if node.op == "Cast":
        return node.attr["SrcT"].type in _FLOATS and node.attr["DstT"].type in _FLOATS
    return node.op in SHAPE_OPS


def _logits(nodes: Mapping[str, NodeDef], name: str) -> str | None:
    """What enters the softmax or sigmoid that ends in this node, as one op or spelled out."""
    node = nodes[name]
    if node.op in ("Softmax", "LogSoftmax", "Sigmoid"):
        return node.input[0]
    if node.op in ("RealDiv", "Div"):
        return _spelled_softmax(nodes, node) or _spelled_sigmoid(nodes, node.input[0], node.input[1])
    if node.op in ("Reciprocal", "Inv"):
        return _spelled_sigmoid(nodes, None, node.input[0])
    if node.op == "Sub":
        return _spelled_log_softmax(nodes, node)
    return None


def _maker(nodes: Mapping[str, NodeDef], tensor: str) -> NodeDef:
    node = nodes[split(tensor)[0]]
    while node.op in ("Identity", "StopGradient"):
        node = nodes[split(node.input[0])[0]]
    return node


def _spelled_softmax(nodes: Mapping[str, NodeDef], node: NodeDef) -> str | None:
    """exp(x - max x) / sum(exp(x - max x)), the maximum optional."""
    exponential, total = _maker(nodes, node.input[0]), _maker(nodes, node.input[1])
    if exponential.op != "Exp" or total.op != "Sum" or _maker(nodes, total.input[0]).name != exponential.name:
        return None
    return _less_maximum(nodes, exponential.input[0])


def _less_maximum(nodes: Mapping[str, NodeDef], tensor: str) -> str:
    shifted = _maker(nodes, tensor)
    if shifted.op == "Sub":
        maximum = _maker(nodes, shifted.input[1])
        if maximum.op == "Max" and _maker(nodes, maximum.input[0]).name == _maker(nodes, shifted.input[0]).name:
            return shifted.input[0]
    return tensor


def _spelled_log_softmax(nodes: Mapping[str, NodeDef], node: NodeDef) -> str | None:
    """y - log(sum(exp y)), with y = x or x - max x."""
    logarithm = _maker(nodes, node.input[1])
    if logarithm.op != "Log":
        return None
    total = _maker(nodes, logarithm.input[0])
    if total.op != "Sum" or _maker(nodes, total.input[0]).op != "Exp":
        return None
    exponential = _maker(nodes, total.input[0])
    if _maker(nodes, exponential.input[0]).name != _maker(nodes, node.input[0]).name:
        return None
    return _less_maximum(nodes, node.input[0])


def _spelled_sigmoid(nodes: Mapping[str, NodeDef], one: str | None, tensor: str) -> str | None:
    """1 / (1 + exp(-x))."""
    total = _maker(nodes, tensor)
    if not _is_one(nodes, one) or total.op not in ("Add", "AddV2"):
        return None
    for this, other in (tuple(total.input[:2]), tuple(total.input[1::-1])):
        exponential = _maker(nodes, this)
        if _is_one(nodes, other) and exponential.op == "Exp":
            negative = _maker(nodes, exponential.input[0])
            return negative.input[0] if negative.op == "Neg" else None
    return None


def _is_one(nodes: Mapping[str, NodeDef], tensor: str | None) -> bool:
    if tensor is None:
        return True
    value = constant(nodes, tensor)
    return value is not None and value.size > 0 and value.dtype.kind in "fi" and bool(np.all(value == 1))
