"""Names, at operations that read the image's way and weights alike, which of their inputs need a gradient.

TensorFlow differentiates an operation with respect to all of its inputs. That of a kernel is never asked for, and to write it
down, only to have it left out again, takes longer than the rest of the graph.
"""

from __future__ import annotations

from dataclasses import replace

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, copied, data_inputs, descendants, split
from gradviz_cli.worker.graph.match import BATCH_NORMS
from gradviz_cli.worker.graph.question import Question

# The name under which `run.gradients` registers them, the attribute that says which inputs (a 1 for each that needs one),
# and the operations that it has a gradient for.
GRADIENT = "GradvizPartial"
ATTRIBUTE = "_gradviz_needed"
OPERATIONS = frozenset(
    {
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul", "BiasAdd"),
        *("Add", "AddV2", "Sub", "Mul", "RealDiv", "SquaredDifference", "Mean"),
        *("ResizeNearestNeighbor", *BATCH_NORMS),
    }
)


def partial_gradients(graph: Graph, question: Question) -> Graph:
    """The graph with such operations marked, but for those whose gradient is settled otherwise."""
    changing = descendants(graph.nodes, [split(question.fed(graph))[0]])
    nodes = dict(graph.nodes)
    read = [*graph.outputs, *(text for node in graph.nodes.values() for text in data_inputs(node))]
    several = {name for name, place in map(split, read) if place > 0}  # statistics of a batch norm
    for name in changing - several:
        node = nodes[name]
        if node.op in OPERATIONS and "_gradient_op_type" not in node.attr:
            nodes[name] = _marked(node, "".join(str(int(split(text)[0] in changing)) for text in data_inputs(node)))
    return replace(graph, nodes=nodes)


def _marked(node: NodeDef, needed: str) -> NodeDef:
    marked = copied(node)
    marked.attr["_gradient_op_type"].s = GRADIENT.encode()
    marked.attr[ATTRIBUTE].s = needed.encode()
    return marked
