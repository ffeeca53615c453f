"""Moves the score before the softmax or sigmoid that ends it, whose gradient says how sure the model is and not why."""

from __future__ import annotations

from dataclasses import replace

from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.question import Question


def logits(graph: Graph, question: Question) -> Graph:
    """The graph whose score is the logit that was found; the graph itself where the output is the score."""
    head = question.head
    if head is None:
        return graph
    nodes = {**graph.nodes, **{node.name: node for node in head.nodes}}
    return replace(graph, nodes=nodes).pruned([head.score, *graph.outputs[1:]])
