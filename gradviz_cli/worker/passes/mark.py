"""Marks the activations that obey the rule, so that their gradients are decided when gradients are built."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis import activations
from gradviz_cli.worker.analysis.activations import Activation, Mark
from gradviz_cli.worker.graph.graph import Graph, attribute, copied, node_of, split
from gradviz_cli.worker.graph.question import Question

# The name under which `run.rules` registers what happens at a marked node, and the attribute with the details.
GRADIENT = "GradvizActivation"
ATTRIBUTE = "_gradviz"


def mark(graph: Graph, question: Question) -> Graph:
    """The graph whose activations obey the mode that is current when gradients are built.

    Every StopGradient, on the path or not, becomes an Identity whose gradient is decided then too.
    """
    chosen = activations.find_all(graph, question)
    functions = {
        name: replace(function, nodes=_marked_all(function.nodes, chosen.obeying(name)))
        for name, function in graph.functions.items()
    }
    return replace(graph, nodes=_marked_all(graph.nodes, chosen.obeying()), functions=functions)


def _marked_all(nodes: Mapping[str, NodeDef], chosen: Iterable[Activation]) -> dict[str, NodeDef]:
    """A copy of the nodes with these activations marked, and the stops."""
    marked = dict(nodes)
    for activation in chosen:
        for one in activation.marks:
            marked[one.node] = _marked(marked[one.node], one)
    for activation in chosen:
        if activation.exit:
            _wrap(marked, activation)
    for name, node in marked.items():
        if node.op in ("StopGradient", "PreventGradient"):
            marked[name] = _open_stop(node)
    return marked


def _marked(node: NodeDef, one: Mark) -> NodeDef:
    copy = copied(node)
    copy.attr["_gradient_op_type"].s = GRADIENT.encode()
    details = {"kind": one.kind, "source": one.source, "low": one.low, "high": one.high}
    copy.attr[ATTRIBUTE].s = json.dumps(details).encode()
    return copy


def _open_stop(node: NodeDef) -> NodeDef:
    identity = NodeDef(name=node.name, op="Identity", input=node.input)
    identity.attr["T"].CopyFrom(attribute(node, "T"))
    return _marked(identity, Mark(node.name, "stop"))


def _wrap(nodes: dict[str, NodeDef], activation: Activation) -> None:
    """Put a marked IdentityN(exit, entry) behind a smooth activation, so that a rule may pass it by or through.

    It takes the name of what it stands behind, so that all who read that, by node or by name, read it.
    """
    name = split(activation.exit)[0]
    inner = copied(node_of(nodes, activation.exit), f"{name}/gradviz")
    dtype = attribute(inner, "T").type
    wrapper = NodeDef(name=name, op="IdentityN", input=[f"{inner.name}:0", activation.entry])
    wrapper.attr["T"].list.type.extend([dtype, dtype])
    nodes[inner.name] = inner
    nodes[name] = _marked(wrapper, Mark(name, "smooth"))
