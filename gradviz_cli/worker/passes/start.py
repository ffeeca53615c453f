"""Moves the start of the gradient to the first float tensor that the image becomes."""

from __future__ import annotations

from dataclasses import replace

from gradviz_cli.worker.analysis.image import first_numbers
from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.question import Question


def start(graph: Graph, question: Question) -> Graph:
    """The graph whose `wrt` is the first tensor that a gradient can reach: the image, or what an encoded one becomes."""
    return replace(graph, outputs=(graph.score, graph.output, first_numbers(graph, question), *graph.outputs[3:]))
