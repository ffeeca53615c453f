"""Whether each run gives another score: random numbers on the way to it (dropout, noise or augmentation that was left on), or
variables that a run changes."""

from __future__ import annotations

from collections.abc import Mapping

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, ancestors, data_inputs
from gradviz_cli.worker.graph.tf_private import op_def

# What TensorFlow calls operations that draw, stateful ones or not.
DRAWING = ("Random", "Multinomial", "TruncatedNormal", "StatefulUniform", "StatefulStandardNormal", "Distorted")


def random_warning(graph: Graph) -> str | None:
    """A warning of an operation that draws other numbers in each run of the model.

    One without a state draws the same numbers for the same seed; that is no chance where the seed is written in the graph.
    Keras keeps it in a variable that each run changes. Branches that data choose are not looked at.
    """
    name = next((name for name, node in sorted(graph.nodes.items()) if _draws(graph.nodes, node)), None)
    if name is None:
        return None
    return (
        f"the model is random ({graph.nodes[name].op} in {name}: dropout, noise or augmentation left on?): each run of it "
        "gives another score; export it for inference, or explain a tensor before that with --output NAME"
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


def _draws(nodes: Mapping[str, NodeDef], node: NodeDef) -> bool:
    if not any(word in node.op for word in DRAWING):
        return False
    definition = op_def(node.op)
    if definition is None or definition.is_stateful:
        return True
    return any(nodes[name].op == "Placeholder" for name in ancestors(nodes, data_inputs(node)))
