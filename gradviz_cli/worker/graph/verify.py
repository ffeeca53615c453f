"""Whether a graph is whole: what every pass may rely on, and what every pass must leave behind.

Costs a look at every node, so it runs after each step in tests and under `-vv`, and where a step has failed, to find
the node that is to blame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef

from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    Circle,
    Function,
    Graph,
    GraphError,
    attribute,
    called_by,
    data_inputs,
    node_of,
    outputs_of,
    sources_in_order,
    split,
    topological,
    width,
)
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.tf_private import op_def

# Declared type of an attribute -> the part of its value that must be set.
KINDS = {"string": "s", "int": "i", "float": "f"} | {
    same: same[:1] if same == "bool" else same for same in ("bool", "type", "shape", "tensor", "func")
}


def verify(graph: Graph, question: Question | None = None) -> None:
    """Raise GraphError, which names the node, for a graph that is not whole.

    * Every input exists, and so does the output of it that is read; nodes take as many inputs as their operation says.
    * Attributes that must be there are there, and of their kind; functions that are named exist.
    * Outputs and results exist. No node depends on itself, but for loops of TensorFlow 1, closed at a NextIteration.
    * Weights and handles are placeholders, and have values once any is loaded.
    * Once the question is settled, every other placeholder is fed.

    Operations that this TensorFlow does not know are the policy's to refuse (`analysis.policy`), not looked at here.
    """
    _check_scope(graph.nodes, graph.outputs, graph.functions)
    for name, function in graph.functions.items():
        try:
            _check_function(function, graph.functions)
        except GraphError as error:
            error.node = f"{name}/{error.node}"
            raise
    _check_weights(graph)
    if question is not None:
        _check_feeds(graph, question)


def _check_scope(nodes: Mapping[str, NodeDef], ends: Sequence[str], functions: Mapping[str, Function]) -> None:
    for name, node in nodes.items():
        if node.name != name:
            raise GraphError(node, f"is kept under the name {name}")
        _check_attributes(node)
        _check_inputs(nodes, node)
        for called in called_by(node):
            if called not in functions:
                raise GraphError(node, f"calls a function {called} that does not exist")
    for tensor in ends:
        _check_tensor(nodes, tensor, node_of(nodes, tensor))
    try:
        topological(sources_in_order(nodes))
    except Circle as error:
        raise GraphError(nodes[error.name], "depends on itself") from error


def _check_attributes(node: NodeDef) -> None:
    definition = op_def(node.op)
    for declared in definition.attr if definition is not None and node.op != ARGUMENT else ():
        kind = attribute(node, declared.name).WhichOneof("value")
        wanted = "list" if declared.type.startswith("list(") else KINDS[declared.type]
        if kind != wanted:
            raise GraphError(node, f"has a {kind or 'value of no kind'} as {declared.name}, which is a {declared.type}")


def _check_inputs(nodes: Mapping[str, NodeDef], node: NodeDef) -> None:
    given = data_inputs(node)
    if list(node.input[: len(given)]) != given:
        raise GraphError(node, "reads a value after what it only waits for")
    for text in node.input:
        if text.startswith("^"):
            node_of(nodes, text[1:])
        else:
            _check_tensor(nodes, text, node)
    definition: OpDef | None = op_def(node.op)
    if definition is None or node.op == ARGUMENT:
        return
    count = sum(width(argument, node) for argument in definition.input_arg)
    if len(given) != count:
        raise GraphError(node, f"has {len(given)} inputs, its operation takes {count}")


def _check_tensor(nodes: Mapping[str, NodeDef], tensor: str, reader: NodeDef) -> None:
    name, index = split(tensor)
    if name not in nodes:
        raise GraphError(reader, f"reads {tensor}, which does not exist")
    outputs = outputs_of(nodes[name])
    if outputs is not None and index >= sum(count for _, count in outputs):
        raise GraphError(nodes[name], f"has no output {index}, which {reader.name[:200]} reads")


def _check_function(function: Function, functions: Mapping[str, Function]) -> None:
    for argument in function.signature.input_arg:
        if node_of(function.nodes, argument.name).op != ARGUMENT:
            raise GraphError(function.nodes[argument.name], "should be an argument of its function")
    if len(function.results) != len(function.signature.output_arg):
        raise GraphError("", f"gives {len(function.results)} results, not {len(function.signature.output_arg)}")
    _check_scope(function.nodes, function.results, functions)


def _check_weights(graph: Graph) -> None:
    for name, variable in (*graph.weights.items(), *graph.handles.items()):
        node = node_of(graph.nodes, name)
        if node.op != "Placeholder":
            raise GraphError(node, f"stands for the variable {variable} and is no placeholder")
        if graph.values and variable not in graph.values:
            raise GraphError(node, f"stands for the variable {variable}, which has no value")


def _check_feeds(graph: Graph, question: Question) -> None:
    fed = {*graph.feeds.values()}
    for name in fed:
        node_of(graph.nodes, name)
    if question.image.name not in graph.feeds:
        raise GraphError(split(question.image.name)[0], "is the image and is not fed")
    for name, node in graph.nodes.items():
        if node.op == "Placeholder" and name not in fed and name not in graph.weights and name not in graph.handles:
            raise GraphError(node, "is fed by nobody")
