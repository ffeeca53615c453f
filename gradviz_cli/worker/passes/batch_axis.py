"""Keeps the axis of images where a model leaves out every axis of one: for one image it would leave out this one too."""

from __future__ import annotations

from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE
from gradviz_cli.worker.graph.graph import (
    Graph,
    attribute,
    copied,
    data_inputs,
    descendants,
    in_place_of,
    source,
    split,
)
from gradviz_cli.worker.graph.match import RENAMING_OPS
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.shapes import inferred, of_weights

# What a row of scores goes through to the output and stays one.
ROW_OPS = ELEMENTWISE | RENAMING_OPS | {"Softmax", "LogSoftmax"}


def batch_axis(graph: Graph, question: Question) -> Graph:
    """The graph with its last `Squeeze` of whatever axis is one leaving out those that are one by its shape."""
    node = _last_squeeze(graph, question)
    if node is None:
        return graph
    (shape,) = inferred(graph.nodes, [source(graph.nodes[node], 0)], of_weights(graph)).values()
    if shape.rank is None or shape.rank < 2 or shape[0] is not None or None in shape[1:].as_list():
        return graph
    return replace(graph, nodes={**graph.nodes, node: _leaving_out(graph, node, shape)})


def _leaving_out(graph: Graph, name: str, shape: tf.TensorShape) -> NodeDef:
    node = graph.nodes[name]
    ones = [axis for axis, size in enumerate(shape.as_list()) if size == 1]
    if not ones:  # where none is named, all are meant
        return in_place_of(node, "Identity", node.input)
    named = copied(node)
    named.attr["squeeze_dims"].list.i[:] = ones
    return named


def _last_squeeze(graph: Graph, question: Question) -> str | None:
    """The name of one that names no axes, with nothing but what keeps a row of scores between it and the score."""
    below = descendants(graph.nodes, [split(question.fed(graph))[0]])
    name = split(graph.score)[0]
    while name in below:
        node = graph.nodes[name]
        if node.op == "Squeeze":
            return None if attribute(node, "squeeze_dims").list.i else name
        of_image = [one for one in data_inputs(node) if split(one)[0] in below]
        if node.op not in ROW_OPS or len(of_image) != 1:
            return None
        name = split(of_image[0])[0]
    return None
