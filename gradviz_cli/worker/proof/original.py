"""A signature as TensorFlow itself runs it: its functions are called, nothing is inlined, folded or marked.

Only half precision is widened to float32 here too: two right programs of it differ by a hundredth and more. And products
that might corrupt the heap (`passes.products`) are computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.worker.analysis.policy import allowed_ops, written_out
from gradviz_cli.worker.graph.graph import (
    MAX_NODES,
    ancestors,
    called_by,
    functions_in,
    outputs_of,
    placeholder,
    split,
    types_of,
    unique_mark,
)
from gradviz_cli.worker.graph.tf_private import as_written, call, forget, handle_of, make_known, op_def
from gradviz_cli.worker.passes.float32 import HALVES, widen
from gradviz_cli.worker.passes.products import in_float64
from gradviz_cli.worker.read.frames import CALLS, HANDLE, VARIABLES
from gradviz_cli.worker.read.inline import OURS_TO_SAY, REF_TWINS

# What the policy has no word for, as nothing of it is left in a flat graph: calls, and variables, which are ours here.
OURS = frozenset({*CALLS, HANDLE, "ReadVariableOp", "NoOp", "PlaceholderWithDefault"})
# Marks of a compiler whose kernels round otherwise; places and shapes, which converters get wrong.
DROPPED = ("_class", "_output_shapes", "_XlaMustCompile")


class NotRun(Exception):
    """TensorFlow's own run cannot be had; says why."""


@dataclass(frozen=True)
class Original:
    """The part of a meta graph that one output needs.

    Attributes
    ----------
    fed : tuple of str
        The tensors that it is given, in order.
    variables : dict
        Nodes that stand for a variable -> whether it is a handle (else the variable itself, as in TensorFlow 1).
    """

    graph_def: GraphDef
    output: str
    fed: tuple[str, ...]
    variables: Mapping[str, bool]

    def ready(self, values: Mapping[str, tf.Tensor], fed: Mapping[str, tf.Tensor]) -> Callable[[], np.ndarray]:
        """What computes its output of the tensors that are fed; `values` are those of the variables, as the checkpoint has
        them. It may be called once, by any thread, which hardly holds up those that run Python.

        Nothing of the model's own restoring is run: variables of ours stand for its own.
        """
        wide = {name: _wide(values[name]) for name in self.variables}
        given = {split(name)[0]: _wide(fed[name]) for name in self.fed}
        given |= {name: handle_of(value) if self.variables[name] else value for name, value in wide.items()}
        functions = [*self.graph_def.library.function, self.function(given)]
        for function in functions:
            make_known(function)
        names = [function.signature.name for function in functions]

        def run() -> np.ndarray:
            try:
                with as_written():
                    found: np.ndarray = call(names[-1], list(given.values())).numpy()
                return found
            finally:
                for name in names:
                    forget(name)

        return run

    def function(self, given: Mapping[str, tf.Tensor]) -> FunctionDef:
        """The top level as a function of these tensors, each in the place of a node.

        Written, and not traced: TensorFlow would order its operations by control inputs, which TensorFlow 1's loops do not
        survive, and would make an object of each, which takes as long as it takes to run them.
        """
        nodes = {node.name: node for node in self.graph_def.node}
        library = {function.signature.name: function for function in self.graph_def.library.function}
        places = {
            name: [name] if name in given else _outputs(node, library.get(node.op)) for name, node in nodes.items()
        }

        def reference(text: str) -> str:
            name, index = split(text)
            return text if text.startswith("^") else places[name][index]

        waits = {f"^{name}" for name in given}  # for what is there
        built = FunctionDef()
        built.signature.name = f"gradviz_original{unique_mark()}"
        for name, tensor in given.items():
            built.signature.input_arg.add(name=name, type=tensor.dtype.as_datatype_enum)
        for name, node in nodes.items():
            if name not in given:
                copy = built.node_def.add()
                copy.CopyFrom(node)
                copy.input[:] = [reference(text) for text in node.input if text not in waits]
        name, index = split(self.output)
        types = (
            [given[name].dtype.as_datatype_enum] if name in given else _types(nodes[name], library.get(nodes[name].op))
        )
        built.signature.output_arg.add(name="output", type=types[index])
        built.ret["output"] = reference(self.output)
        return built


def _outputs(node: NodeDef, function: FunctionDef | None) -> list[str]:
    """How functions write the tensors that a node gives, or a call of a function by its own name (TensorFlow 1)."""
    if function is not None:
        return [f"{node.name}:{argument.name}:0" for argument in function.signature.output_arg]
    widths = outputs_of(node) or ()
    return [f"{node.name}:{output}:{place}" for output, width in widths for place in range(width)]


def _types(node: NodeDef, function: FunctionDef | None) -> list[int]:
    return [argument.type for argument in function.signature.output_arg] if function is not None else types_of(node)


def _wide(tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(tensor, tf.float32) if tensor.dtype.as_datatype_enum in HALVES else tensor


def original(
    meta: MetaGraphDef, output: str, fed: Mapping[str, tf.DType], allow: Iterable[str] = (), trust: bool = False
) -> Original:
    """What `output` needs of a meta graph that is given the tensors `fed`.

    Raises
    ------
    NotRun
        One of them is no tensor of the top level; something that the output needs may not run.
    """
    nodes = {node.name: node for node in meta.graph_def.node}
    for tensor in (output, *fed):
        if split(tensor)[0] not in nodes or (tensor in fed and split(tensor)[1]):
            raise NotRun(f"{tensor} lies inside the graph, where TensorFlow cannot be asked for it")
    for tensor, dtype in fed.items():
        name = split(tensor)[0]
        nodes[name] = placeholder(name, dtype.as_datatype_enum)
    needed = ancestors(nodes, [output])
    kept = [node for name, node in nodes.items() if name in needed]
    called = _called(kept, {one.signature.name: one for one in meta.graph_def.library.function})
    built = GraphDef(versions=meta.graph_def.versions, node=kept)
    built.library.function.extend(called.values())
    _clean(built, {name: f"{name}{unique_mark()}" for name in called})
    if not trust:
        _judge(built, allow)
    widen(built)
    in_float64(built)
    return Original(
        built,
        output,
        tuple(tensor for tensor in fed if split(tensor)[0] in needed),
        {node.name: node.op == HANDLE for node in kept if node.op in (*VARIABLES, HANDLE)},
    )


def _called(nodes: Iterable[NodeDef], library: Mapping[str, FunctionDef]) -> dict[str, FunctionDef]:
    """The functions that nodes call, and those call in turn; also by their own operation (TensorFlow 1)."""
    todo: list[NodeDef] = list(nodes)
    found: dict[str, FunctionDef] = {}
    while todo:
        node = todo.pop()
        for name in () if _only_acts(node) else (node.op, *called_by(node)):
            if name in library and name not in found:
                found[name] = library[name]
                todo.extend(library[name].node_def)
    return found


def _clean(built: GraphDef, names: Mapping[str, str]) -> None:
    """Leave out what belongs to a machine or a compiler, and give functions names that no other graph of this process has:
    TensorFlow keeps functions by name."""
    for node in built.node:
        _clean_node(node, names)
    for function in built.library.function:
        function.signature.name = names[function.signature.name]
        for dropped in DROPPED:
            function.attr.pop(dropped, None)
        for node in function.node_def:
            _clean_node(node, names)


def _clean_node(node: NodeDef, names: Mapping[str, str]) -> None:
    if _only_acts(node):
        waits = [text for text in node.input if text.startswith("^")]
        node.CopyFrom(NodeDef(name=node.name, op="NoOp", input=waits))
        return
    if node.device:
        node.device = ""
    # A variable of TensorFlow 1 hands out values, no references.
    if (op := REF_TWINS.get(node.op) or names.get(node.op)) is not None:
        node.op = op
    for name in list(node.attr):
        if name in DROPPED or name.startswith(OURS_TO_SAY):
            del node.attr[name]
        else:
            _rename(node.attr[name], names)


def _only_acts(node: NodeDef) -> bool:
    """An operation without results that may not run, such as Assert or the update of a mean: no number depends on it."""
    definition = op_def(node.op)
    return definition is not None and not definition.output_arg and node.op not in (*allowed_ops(), *OURS)


def _rename(value: AttrValue, names: Mapping[str, str]) -> None:
    for function in functions_in(value):
        function.name = names.get(function.name, function.name)
        for inner in function.attr.values():
            _rename(inner, names)


def _judge(built: GraphDef, allow: Iterable[str]) -> None:
    """All of it runs here, also what a flat graph leaves out: branches that are never taken, what is only waited for."""
    functions: dict[str, Collection[NodeDef]] = {one.signature.name: one.node_def for one in built.library.function}
    allowed = {*allowed_ops(), *OURS, *VARIABLES, *functions, *allow}
    for nodes in (built.node, *functions.values()):
        for node in nodes:
            if node.op not in allowed:
                raise NotRun(f"it needs the operation {node.op} (node {node.name}), which may not run")
    if written_out(built.node, functions) > MAX_NODES:
        raise NotRun(f"with all its calls it holds more than {MAX_NODES} operations")
