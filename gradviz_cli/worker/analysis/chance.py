"""Whether each run gives another score: random numbers on the way to it (dropout, noise or augmentation that was left on), or
variables that a run changes."""

from __future__ import annotations

from collections.abc import Mapping

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, ancestors, source
from gradviz_cli.worker.graph.tf_private import op_def

# What TensorFlow calls operations that draw, stateful ones or not.
DRAWING = (
    *(
        "Random",
        "Multinomial",
        "TruncatedNormal",
        "StatefulUniform",
        "StatefulStandardNormal",
        "StatefulTruncatedNormal",
    ),
    *("Distorted", "FractionalAvgPool", "FractionalMaxPool", "RngReadAndSkip", "StatelessShuffle"),
)
_GRADIENT = "Grad"  # of one, which draws nothing
# What tells one without a state what to draw, and what reads a variable for that.
_TOLD = frozenset({"seed", "key", "counter"})
_READING = frozenset({"ReadVariableOp"})


def random_warning(graph: Graph) -> str | None:
    """A warning of an operation that draws other numbers in each run of the model, in loops and branches too.

    One without a state draws the same numbers for the same seed; that is no chance where the seed is written in the graph.
    Keras keeps it in a variable that each run changes.
    """
    scopes = [graph.nodes, *(function.nodes for function in graph.functions.values())]
    drawn = (node for nodes in scopes for _, node in sorted(nodes.items()) if _draws(graph, nodes, node))
    node = next(drawn, None)
    if node is None:
        return None
    return (
        f"the model is random ({node.op} in {node.name}: dropout, noise or augmentation left on?): TensorFlow draws other "
        "numbers in each run, gradviz the same for every image; export it for inference, or explain a tensor before that "
        "with --output NAME"
    )


def changing_warning(graph: Graph) -> str | None:
    """A warning of variables that the model changes before it reads them: what is known of them is their saved value."""
    names = sorted({graph.weights[name] for name in graph.changed if name in graph.nodes})
    if not names:
        return None
    return (
        f"each run of the model changes the variable {' and '.join(names[:2])} and reads it then; its saved value is taken, so "
        "that the score may be another than the model's; export it for inference, or explain a tensor before that with "
        "--output NAME"
    )


def changes(node: NodeDef) -> bool:
    """Whether an operation draws other numbers each time that it runs."""
    if not any(word in node.op for word in DRAWING) or node.op.endswith(_GRADIENT):
        return False
    if node.op.startswith("Fractional"):
        return not (node.attr["deterministic"].b and (node.attr["seed"].i or node.attr["seed2"].i))
    definition = op_def(node.op)
    return definition is None or definition.is_stateful


def _draws(graph: Graph, nodes: Mapping[str, NodeDef], node: NodeDef) -> bool:
    if changes(node):
        return True
    definition = op_def(node.op)
    if definition is None or not any(word in node.op for word in DRAWING):
        return False
    told = [source(node, place) for place, one in enumerate(definition.input_arg) if one.name in _TOLD]
    return any(name in graph.weights or nodes[name].op in _READING for name in ancestors(nodes, told))
