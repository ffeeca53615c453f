"""Where a graph without a signature may begin and end: what a person would name with --input and --output."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import attribute, consumers, descendants, outputs_of

MOST = 4  # of each kind are named
INPUTS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
# The end of a classifier, read by others or not: a training graph goes on to a loss.
HEADS = frozenset({"Softmax", "Sigmoid", "LogSoftmax"})
TRAINING = "gradients"  # the name that TensorFlow 1 gives to what it adds for them


def ends(graph: GraphDef) -> tuple[list[str], list[str]]:
    """Tensors that may be the image, and those that may be scores of it: heads first, then what nobody reads."""
    nodes = {node.name: node for node in graph.node}
    inputs = [node for node in graph.node if _may_be_image(node)]
    reached = descendants(nodes, [node.name for node in inputs]) - {node.name for node in inputs}
    read = consumers(nodes)
    heads = [name for name in reversed(nodes) if name in reached and nodes[name].op in HEADS]
    ours = [name for name in nodes if name in reached and not name.startswith(TRAINING)]
    last = [name for name in ours if not read.get(name) and outputs_of(nodes[name])]
    outputs = list(dict.fromkeys([*heads, *last]))
    return [f"{node.name}:0" for node in inputs][:MOST], [f"{name}:0" for name in outputs][:MOST]


def _may_be_image(node: NodeDef) -> bool:
    """Numbers of the rank of a picture, or of one that is not said."""
    if node.op not in INPUTS:
        return False
    dtype = tf.dtypes.as_dtype(attribute(node, "dtype").type)
    shape = attribute(node, "shape").shape
    return (dtype.is_floating or dtype in (tf.uint8, tf.int32)) and (shape.unknown_rank or 2 <= len(shape.dim) <= 4)
