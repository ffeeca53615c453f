"""Shapes of tensors, as TensorFlow infers them from those of the weights; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    FIRST_ARGUMENT,
    Graph,
    ancestors,
    attribute,
    called_by,
    data_inputs,
    descendants,
    graph_def,
    placeholder,
    source,
    split,
)
from gradviz_cli.worker.graph.tf_private import import_static

Nodes = Mapping[str, NodeDef]
# Placeholder or argument -> its shape.
Known = Mapping[str, "tf.TensorShape"]
# Nodes, and what is known of those that are given -> the nodes that take their place.
Rewrite = Callable[[Nodes, Known], dict[str, NodeDef]]


def of_weights(graph: Graph) -> dict[str, tf.TensorShape]:
    """Placeholder of a weight -> its shape."""
    shapes = {variable: value.shape for variable, value in graph.values.items()}
    named = {**graph.weights, **graph.handles}
    return {name: shapes[variable] for name, variable in named.items() if variable in shapes}


def everywhere(graph: Graph, rewrite: Rewrite) -> Graph:
    """The graph with its nodes rewritten, in the functions of loops and branches too."""
    known = of_weights(graph)
    functions = dict(graph.functions)
    nodes = rewrite(graph.nodes, known)
    todo = _arguments(nodes, known)
    while todo:
        name, arguments = todo.popitem()
        if name in functions and functions[name] is graph.functions[name]:
            names = [argument.name for argument in graph.functions[name].signature.input_arg]
            inside = {names[i]: shape for i, shape in arguments.items() if i < len(names)}
            functions[name] = replace(functions[name], nodes=rewrite(functions[name].nodes, inside))
            todo |= _arguments(functions[name].nodes, inside)
    return replace(graph, nodes=nodes, functions=functions)


def inferred(nodes: Nodes, tensors: Iterable[str], known: Known) -> dict[str, tf.TensorShape]:
    """Shapes of tensors; of what lies behind a loop or branch none."""
    tensors = list(dict.fromkeys(tensors))
    found = {tensor: known.get(split(tensor)[0], tf.TensorShape(None)) for tensor in tensors}
    before = {name: _stand_in(nodes[name], known) for name in ancestors(nodes, tensors)}
    before = {name: before[name] for name in ancestors(before, tensors)}
    behind = descendants(before, [name for name, node in before.items() if node.op in FIRST_ARGUMENT])
    asked = [tensor for tensor in tensors if split(tensor)[0] not in known and split(tensor)[0] not in behind]
    if asked:
        built = graph_def(before[name] for name in ancestors(before, asked))
        found.update((tensor, one.shape) for tensor, one in zip(asked, import_static(built, asked), strict=True))
    return found


def _arguments(nodes: Nodes, known: Known) -> dict[str, dict[int, tf.TensorShape]]:
    """Function -> shapes of its arguments, by position, as the nodes that name it hand them over."""
    calls = [node for node in nodes.values() if node.op in FIRST_ARGUMENT]
    handed = {node.name: data_inputs(node)[FIRST_ARGUMENT[node.op] :] for node in calls}
    shapes = inferred(nodes, (text for texts in handed.values() for text in texts), known)
    found: dict[str, dict[int, tf.TensorShape]] = {}
    for node in calls:
        values = {i: shapes[text] for i, text in enumerate(handed[node.name])}
        found.update((function, values) for function in called_by(node))
    return found


def _stand_in(node: NodeDef, known: Known) -> NodeDef:
    """A placeholder of known shape for a variable, wherever it is read."""
    variable = split(source(node, 0))[0] if node.op == "ReadVariableOp" else node.name
    if variable in known and known[variable].rank is not None:
        return placeholder(node.name, _type(node), known[variable].as_proto())
    return placeholder(node.name, _type(node)) if node.op == ARGUMENT else node


def _type(node: NodeDef) -> int:
    return int(attribute(node, "T" if node.op == ARGUMENT else "dtype").type)
