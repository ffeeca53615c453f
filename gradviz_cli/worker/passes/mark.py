"""Marks the activations that obey the rule, so that their gradients are decided when gradients are built."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis import activations
from gradviz_cli.worker.analysis.activations import Activation, Found
from gradviz_cli.worker.graph.graph import Graph, attribute, copied, in_place_of, node_of, split
from gradviz_cli.worker.graph.match import STOPS
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.wrappers import function_of

# The name under which `run.rules` registers what happens at a marked node, and the attribute with the details.
GRADIENT = "GradvizActivation"
ATTRIBUTE = "_gradviz"


def mark(graph: Graph, question: Question, found: Found | None = None) -> Graph:
    """The graph whose activations obey the mode that is current when gradients are built.

    Every StopGradient, on the path or not, becomes an Identity whose gradient is decided then too. `found` is what lies
    between the image and the score of this graph, where that was looked for already.
    """
    chosen = found or activations.find_all(graph, question)
    functions = {
        name: replace(function, nodes=_marked_all(function.nodes, chosen.obeying(name)))
        for name, function in graph.functions.items()
    }
    return replace(graph, nodes=_marked_all(graph.nodes, chosen.obeying()), functions=functions)


def _marked_all(nodes: Mapping[str, NodeDef], chosen: Iterable[Activation]) -> dict[str, NodeDef]:
    """A copy of the nodes with these activations marked, and the stops."""
    marked = dict(nodes)
    for activation in chosen:
        if activation.op:
            name = split(activation.exit)[0]
            marked[name] = _marked(marked[name], activation.op.lower())
        else:
            _wrap(marked, activation)
    for name, node in marked.items():
        if node.op in STOPS:
            marked[name] = _open_stop(node)
        elif function_of(node):
            marked[name] = _marked(node, "own")
    return marked


def _marked(node: NodeDef, kind: str, **details: object) -> NodeDef:
    copy = copied(node)
    copy.attr["_gradient_op_type"].s = GRADIENT.encode()
    copy.attr[ATTRIBUTE].s = json.dumps({"kind": kind, **details}).encode()
    return copy


def _open_stop(node: NodeDef) -> NodeDef:
    return _marked(in_place_of(node, "Identity", node.input), "stop")


def _wrap(nodes: dict[str, NodeDef], activation: Activation) -> None:
    """Put a marked IdentityN(exit, entry) behind an activation, so that a rule may pass all of it by.

    It takes the name of what it stands behind, so that all who read that, by node or by name, read it.
    """
    name = split(activation.exit)[0]
    inner = copied(node_of(nodes, activation.exit), f"{name}/gradviz")
    dtype = attribute(inner, "DstT" if inner.op == "Cast" else "T").type
    wrapper = NodeDef(name=name, op="IdentityN", input=[f"{inner.name}:0", activation.entry])
    wrapper.attr["T"].list.type.extend([dtype, dtype])
    nodes[inner.name] = inner
    if activation.is_relu:
        turned = {"turned": True} if activation.form.sign < 0 else {}
        low, high = (end.tolist() if isinstance(end, np.ndarray) else end for end in activation.ends)
        nodes[name] = _marked(wrapper, "gate", low=low, high=high, **turned)
    else:
        nodes[name] = _marked(wrapper, "smooth")
