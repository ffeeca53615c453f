"""What there is to say of gradients of the model's own: those that were lost, and activations that others pass by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis import activations
from gradviz_cli.worker.graph.graph import Graph, copied
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.wrappers import FUNCTION, REPLACED, function_of


def lost_warning(graph: Graph, question: Question) -> str | None:
    """Which gradients of the model's own give way to a derivative that may be another, and what to do."""
    path = question.path(graph)
    lost = {name: node for name, node in graph.nodes.items() if name in path and REPLACED in node.attr}
    for name, function in graph.functions.items():
        lost |= {f"{name}/{node.name}": node for node in function.nodes.values() if REPLACED in node.attr}
    if not lost:
        return None
    name = min(lost)
    what = f"{len(lost)} gradients of the model's own are" if len(lost) > 1 else "a gradient of the model's own is"
    refused = next((op for op in (node.attr[REPLACED].s.decode() for node in lost.values()) if op), None)
    if refused:
        why = f"it needs op {refused}, which gradviz does not let run; if you trust the model's source: --allow-op {refused}"
    else:
        why = (
            "the file holds no function for it that can be used there; export the model again with "
            "tf.saved_model.SaveOptions(experimental_custom_gradients=True), or explain a tensor before it with --output"
        )
    return f"{what} replaced by the derivative of the forward pass, which may differ ({name}:0): {why}"


def passed_by(graph: Graph, question: Question, found: activations.Found) -> int:
    """How many activations would obey a rule and lie inside what a gradient of the model's own stands for."""
    functions = {name: replace(one, nodes=_without(one.nodes)) for name, one in graph.functions.items()}
    plain = replace(graph, nodes=_without(graph.nodes), functions=functions)
    if not any(function_of(node) for nodes in _scopes(graph) for node in nodes.values()):
        return 0
    return max(0, activations.find_all(plain, question).patched - found.patched)


def _scopes(graph: Graph) -> list[Mapping[str, NodeDef]]:
    return [graph.nodes, *(function.nodes for function in graph.functions.values())]


def _without(nodes: Mapping[str, NodeDef]) -> dict[str, NodeDef]:
    """The nodes, their own gradients forgotten."""
    plain = dict(nodes)
    for name, node in nodes.items():
        if function_of(node):
            plain[name] = copied(node)
            del plain[name].attr[FUNCTION]
    return plain
