"""What a score stands behind: the logits below a softmax or sigmoid, what an ArgMax read."""

from __future__ import annotations

from dataclasses import dataclass

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, attribute, source, split, walk
from gradviz_cli.worker.graph.match import RENAMING_OPS, SHAPE_OPS, sigmoid_of, softmax_of

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


def decided_from(graph: Graph, output: str) -> str | None:
    """The scores that an integer or string output was decided from; None where nothing that decides lies behind it."""

    def onward(tensor: str) -> str | None:
        node = graph.node(tensor)
        return source(node, DECISIONS[node.op]) if node.op in DECISIONS and node.op not in DECIDING else None

    *_, last = walk(output, onward, 50)
    node = graph.node(last)
    return source(node, DECISIONS[node.op]) if node.op in DECIDING else None


@dataclass(frozen=True)
class Probability:
    """An output that ends in a softmax or sigmoid.

    Attributes
    ----------
    node : str
        The softmax or sigmoid; where it is spelled out, the last of its operations.
    logits : str
        The tensor that it takes.
    after : tuple of str
        The nodes behind it that reshape or pick classes, from the output down.
    """

    node: str
    logits: str
    after: tuple[str, ...]


def find_probability(graph: Graph, output: str) -> Probability | None:
    """The softmax or sigmoid that an output ends in; None for an output that is no probability."""

    def onward(name: str) -> str | None:
        node = graph.node(name)
        return split(source(node, 0))[0] if _transparent(node) else None

    *after, name = walk(split(output)[0], onward)
    logits = softmax_of(graph.nodes, name) or sigmoid_of(graph.nodes, name)
    if logits is None:
        return None
    kept = (link for link in after if graph.nodes[link].op not in (*RENAMING_OPS, "Log"))
    return Probability(name, logits, tuple(kept))


def _transparent(node: NodeDef) -> bool:
    if node.op == "Cast":
        return attribute(node, "SrcT").type in _FLOATS and attribute(node, "DstT").type in _FLOATS
    return node.op in PICKING_OPS or node.op == "Log"
