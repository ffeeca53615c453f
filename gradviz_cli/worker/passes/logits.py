"""Which tensor is the score: the logits below a softmax or sigmoid, what an ArgMax read, any tensor by name."""

from __future__ import annotations

from dataclasses import replace

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Flat, split
from gradviz_cli.worker.graph.match import MAX_LINKS, RENAMING_OPS, SHAPE_OPS, sigmoid_of, softmax_of

# Ops that pick or order classes; the image's own path is not seen through these.
PICKING_OPS = SHAPE_OPS | {"StridedSlice", "Slice", "Transpose", "GatherV2"}
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
    "Select": 0,
    "SelectV2": 0,
    "Greater": 0,
    "GreaterEqual": 0,
    "Cast": 0,
    **dict.fromkeys(SHAPE_OPS, 0),
}
# Those among them that read the scores themselves: the best classes, or a single one above a threshold.
DECIDING = frozenset({"ArgMax", "TopK", "TopKV2", "Greater", "GreaterEqual"})
_FLOAT, _DOUBLE, _HALF, _BFLOAT16 = 1, 2, 19, 14
_FLOATS = frozenset({_FLOAT, _DOUBLE, _HALF, _BFLOAT16})


def decided_from(flat: Flat, output: str) -> str | None:
    """The scores that an integer or string output was decided from; None where nothing that decides lies behind it."""
    tensor = output
    for _ in range(50):
        node = flat.nodes[split(tensor)[0]]
        if node.op not in DECISIONS:
            return None
        tensor = node.input[DECISIONS[node.op]]
        if node.op in DECIDING:
            return tensor
    return None


def bypass(flat: Flat, output: str) -> tuple[Flat, str, str | None]:
    """The tensor of the logits: the output without the softmax or sigmoid that ends it.

    Returns
    -------
    flat, score, bypassed
        The graph with a copy of what follows the softmax (reshapes, a choice of classes) put behind its input
        instead, the name of that copy's end or of the softmax's input itself, and the node that was bypassed (None
        when the output is no probability).
    """
    chain: list[str] = []
    name = split(output)[0]
    for _ in range(MAX_LINKS):
        if not _transparent(flat.nodes[name]):
            break
        if flat.nodes[name].op not in (*RENAMING_OPS, "Log"):
            chain.append(name)
        name = split(flat.nodes[name].input[0])[0]
    logits = softmax_of(flat.nodes, name) or sigmoid_of(flat.nodes, name)
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
    return node.op in PICKING_OPS or node.op == "Log"
