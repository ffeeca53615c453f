"""Moves the score before the softmax or sigmoid that ends it, whose gradient says how sure the model is and not why."""

from __future__ import annotations

from dataclasses import replace

from gradviz_cli.worker.analysis.scores import find_probability
from gradviz_cli.worker.graph.graph import Graph, copied
from gradviz_cli.worker.graph.question import Question


def logits(graph: Graph, question: Question) -> Graph:
    """The graph whose score is the logit: a copy of what follows the softmax (reshapes, a choice of classes) put behind
    its input instead. The graph itself where the question asks for the output as it is."""
    probability = find_probability(graph, graph.score) if question.bypassed else None
    if probability is None:
        return graph
    nodes, score = dict(graph.nodes), probability.logits
    for link in reversed(probability.after):
        copy = copied(nodes[link], f"{link}/gradviz_logit")
        copy.input[0] = score
        nodes[copy.name] = copy
        score = f"{copy.name}:0"
    return replace(graph, nodes=nodes).pruned([score, *graph.outputs[1:]])
