"""Finds the activations that a gradient passes, whatever they are spelled like, and marks those that obey the rule."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_FLOAT

from gradviz_cli.worker.analysis.activations import RELUS, Activation, Mark, find
from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    Flat,
    ancestors,
    descendants,
    functions_called,
    split,
)

# The name under which gradient.py registers what happens at a marked node, and the attribute with the details.
GRADIENT = "GradvizActivation"
ATTRIBUTE = "_gradviz"


@dataclass(frozen=True)
class Report:
    """What was found between the image and the score: type -> (reachable, patched); gates are never patched."""

    activations: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    gates: int = 0

    @property
    def patched(self) -> int:
        return sum(patched for _, patched in self.activations.values())

    @property
    def left(self) -> dict[str, int]:
        """Type -> how many stay as they are."""
        return {name: seen - done for name, (seen, done) in self.activations.items() if seen > done}


def patch(flat: Flat, path: Iterable[str], which: str) -> tuple[Flat, Report]:
    """A copy of the graph whose activations obey the mode that is current when gradients are built.

    Parameters
    ----------
    path : iterable of str
        Names of the nodes between the image and the score; others are left out of the count.
    which : "relu" or "all"
        Whether smooth and leaky activations obey the rule too.
    """
    nodes, found, gates = _patched(flat.nodes, set(path), which)
    bodies = {}
    for name in functions_called([node for node in flat.nodes.values() if node.name in set(path)], flat.bodies):
        body = flat.bodies[name]
        inside = descendants(body.nodes, [node.name for node in body.nodes.values() if node.op == ARGUMENT])
        inner, more, inner_gates = _patched(body.nodes, inside & ancestors(body.nodes, body.results), which)
        bodies[name] = replace(body, nodes=inner)
        found, gates = found + more, gates + inner_gates
    counts: dict[str, tuple[int, int]] = {}
    for activation in found:
        seen, done = counts.get(activation.name, (0, 0))
        counts[activation.name] = (seen + 1, done + _obeys(activation, which))
    bodies = {name: replace(body, nodes=_stops_marked(body.nodes)) for name, body in {**flat.bodies, **bodies}.items()}
    return replace(flat, nodes=_stops_marked(nodes), bodies=bodies), Report(counts, gates)


def _stops_marked(nodes: Mapping[str, NodeDef]) -> dict[str, NodeDef]:
    """Every StopGradient as an Identity whose gradient is decided when it is built."""
    stops = {name: node for name, node in nodes.items() if node.op in ("StopGradient", "PreventGradient")}
    marked = dict(nodes)
    for name, node in stops.items():
        identity = NodeDef(name=name, op="Identity", input=node.input)
        identity.attr["T"].CopyFrom(node.attr["T"])
        marked[name] = _marked(identity, Mark(name, "stop"))
    return marked


def _obeys(activation: Activation, which: str) -> bool:
    return which == "all" or activation.name in RELUS


def _patched(
    nodes: Mapping[str, NodeDef], path: set[str], which: str
) -> tuple[dict[str, NodeDef], list[Activation], int]:
    """A copy of the nodes with the chosen activations marked, all activations found, and the gates."""
    found, gates = find(nodes, path)
    chosen = [activation for activation in found if _obeys(activation, which)]
    nodes = dict(nodes)
    for activation in chosen:
        for mark in activation.marks:
            nodes[mark.node] = _marked(nodes[mark.node], mark)
    for activation in chosen:
        if activation.exit:
            _wrap(nodes, activation)
    return nodes, found, gates


def _marked(node: NodeDef, mark: Mark) -> NodeDef:
    copy = NodeDef()
    copy.CopyFrom(node)
    copy.attr["_gradient_op_type"].s = GRADIENT.encode()
    details = {"kind": mark.kind, "source": mark.source, "low": mark.low, "high": mark.high}
    copy.attr[ATTRIBUTE].s = json.dumps(details).encode()
    return copy


def _wrap(nodes: dict[str, NodeDef], activation: Activation) -> None:
    """Put a marked IdentityN(exit, entry) behind a smooth activation, so that a rule may pass it by or through.

    It takes the name of what it stands behind, so that all who read that, by node or by name, read it.
    """
    name = split(activation.exit)[0]
    inner = NodeDef()
    inner.CopyFrom(nodes[name])
    inner.name = f"{name}/gradviz"
    dtype = _dtype(nodes, activation.exit)
    wrapper = NodeDef(name=name, op="IdentityN", input=[f"{inner.name}:0", activation.entry])
    wrapper.attr["T"].list.type.extend([dtype, dtype])
    nodes[inner.name] = inner
    nodes[name] = _marked(wrapper, Mark(name, "smooth"))


def _dtype(nodes: Mapping[str, NodeDef], tensor: str) -> int:
    node = nodes[split(tensor)[0]]
    return node.attr["T"].type if "T" in node.attr else DT_FLOAT  # a type that is the default may be left out
