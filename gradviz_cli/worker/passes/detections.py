"""Lays what a detector lists as [N, detections, classes]: scores of classes alone, whatever stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, copied
from gradviz_cli.worker.graph.question import Detections, Question, static_tensors

SCOPE = "gradviz_detections"
# Where each detection is of one class: as many as there may be, and the score of a class that it is not of.
MOST_CLASSES, NOT_OF_IT = 4096, -1.0


def detections(graph: Graph, question: Question) -> Graph:
    """The graph whose score is that of each class in each detection; its `shown` is the same, by the model's own word."""
    found = question.detections
    if found is None:
        return replace(graph, outputs=graph.outputs[:3])
    taken = [found.scores, *filter(None, [found.labelled or found.times])]
    nodes, score = _drawn(graph, taken, lambda *tensors: _laid(found, *tensors))
    return replace(graph, nodes={**graph.nodes, **nodes}).pruned([score, graph.output, graph.wrt, score])


def _drawn(graph: Graph, taken: list[str], build: Callable[..., tf.Tensor]) -> tuple[Mapping[str, NodeDef], str]:
    """The nodes that compute something of tensors of a graph, and the tensor that they give."""
    statics = static_tensors(graph, *taken)
    with tf.Graph().as_default() as made, tf.name_scope(SCOPE):
        given = [tf.compat.v1.placeholder(static.dtype, static.shape) for static in statics]
        result = build(*given)
    names = {tensor.name: name for tensor, name in zip(given, taken, strict=True)}
    full = {name.removesuffix(":0"): other for name, other in names.items()} | names
    nodes = {}
    for node in made.as_graph_def().node:
        if node.name not in full:
            inputs = [
                full.get(text, text if ":" in text or text.startswith("^") else f"{text}:0") for text in node.input
            ]
            nodes[node.name] = copied(node, inputs=inputs)
    return nodes, full.get(result.name, result.name)


def _laid(found: Detections, scores: tf.Tensor, other: tf.Tensor | None = None) -> tf.Tensor:
    if found.labelled and other is not None:
        return _by_class(*_columns(found, scores, other))
    classes = scores if other is None else scores * other
    if found.axis != scores.shape.rank - 1:
        order = [one for one in range(scores.shape.rank) if one != found.axis]
        classes = tf.transpose(scores, [*order, found.axis])
    if found.first:
        objectness = classes[..., found.first - 1 : found.first]
        classes = classes[..., found.first :]
        classes = classes * objectness if found.objectness else classes
    if scores.shape.rank > 3 or found.groups > 1:
        *cells, width = (classes.shape[axis] or tf.shape(classes)[axis] for axis in range(1, classes.shape.rank))
        count = found.groups
        for size in cells:
            count = count * size
        rows = classes.shape[0] or tf.shape(classes)[0]
        classes = tf.reshape(classes, tf.stack([rows, count, width // found.groups]))
    return classes


def _columns(found: Detections, scores: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores and classes [N, M]; where one tensor holds both, side by side."""
    if found.first:
        return scores[..., found.first], scores[..., found.first + 1]
    return (scores[None], labels[None]) if scores.shape.rank == 1 else (scores, labels)


def _by_class(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """[N, M, classes]: a detection's score at its class, less than any score elsewhere."""
    whole = tf.cast(tf.round(tf.cast(labels, tf.float32)), tf.int32)
    its = tf.one_hot(whole, MOST_CLASSES, on_value=True, off_value=False, dtype=tf.bool)
    return tf.where(its, scores[..., None], tf.constant(NOT_OF_IT, scores.dtype))
