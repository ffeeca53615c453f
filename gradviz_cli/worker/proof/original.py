"""A signature as TensorFlow itself runs it: its functions are called, nothing is inlined, folded or marked.

Only half precision is widened to float32 here too: two right programs of it differ by a hundredth and more. And products
that might corrupt the heap (`passes.products`) are computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.worker.analysis.policy import allowed_ops, written_out
from gradviz_cli.worker.graph.graph import MAX_NODES, ancestors, copied, functions_in, placeholder, split, unique_mark
from gradviz_cli.worker.graph.tf_private import make_known, op_def
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

    def run(self, values: Mapping[str, tf.Tensor], fed: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What it computes of the tensors that are fed; `values` are those of the variables, as the checkpoint has them.

        Nothing of the model's own restoring is run: variables of ours stand for its own.
        """
        wide = {name: _wide(values[name]) for name in self.variables}
        held = {
            name: tf.Variable(wide[name], trainable=False) if is_handle else wide[name]
            for name, is_handle in self.variables.items()
        }
        for function in self.graph_def.library.function:
            make_known(function)

        def imported(*tensors: tf.Tensor) -> tf.Tensor:
            graph = tf.compat.v1.get_default_graph()
            mapped = dict(zip(self.fed, tensors, strict=True))
            for name, one in held.items():
                mapped[f"{name}:0"] = graph.capture(one.handle) if self.variables[name] else tf.identity(one)
            (found,) = tf.graph_util.import_graph_def(self.graph_def, mapped, return_elements=[self.output], name="")
            return found

        # A tf.function would order its operations by control inputs, which TensorFlow 1's loops do not survive.
        given = [_wide(fed[name]) for name in self.fed]
        specs = [tf.TensorSpec.from_tensor(tensor) for tensor in given]
        return tf.compat.v1.wrap_function(imported, specs)(*given)


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
    kept = [_plain(node) for name, node in nodes.items() if name in needed]
    called = {
        name: _plain_function(function)
        for name, function in _called(
            kept, {one.signature.name: one for one in meta.graph_def.library.function}
        ).items()
    }
    if not trust:
        _judge(kept, called, allow)
    built = GraphDef(versions=meta.graph_def.versions)
    _write(built, kept, called)
    widen(built)
    in_float64(built)
    return Original(
        built,
        output,
        tuple(tensor for tensor in fed if split(tensor)[0] in needed),
        {node.name: node.op == HANDLE for node in kept if node.op in (*VARIABLES, HANDLE)},
    )


def _plain(node: NodeDef) -> NodeDef:
    """Without what belongs to a machine or a compiler; a variable of TensorFlow 1 hands out values, no references."""
    copy = copied(node)
    copy.device = ""
    copy.op = REF_TWINS.get(node.op, node.op)
    for name in [name for name in copy.attr if name in DROPPED or name.startswith(OURS_TO_SAY)]:
        del copy.attr[name]
    if _only_acts(copy):
        return NodeDef(name=node.name, op="NoOp", input=[text for text in node.input if text.startswith("^")])
    return copy


def _only_acts(node: NodeDef) -> bool:
    """An operation without results that may not run, such as Assert or the update of a mean: no number depends on it."""
    definition = op_def(node.op)
    return definition is not None and not definition.output_arg and node.op not in (*allowed_ops(), *OURS)


def _plain_function(function: FunctionDef) -> FunctionDef:
    copy = FunctionDef()
    copy.CopyFrom(function)
    for dropped in DROPPED:
        copy.attr.pop(dropped, None)
    del copy.node_def[:]
    copy.node_def.extend(map(_plain, function.node_def))
    return copy


def _all_nodes(nodes: Iterable[NodeDef], functions: Mapping[str, FunctionDef]) -> list[NodeDef]:
    return [*nodes, *(node for function in functions.values() for node in function.node_def)]


def _called(nodes: Iterable[NodeDef], library: Mapping[str, FunctionDef]) -> dict[str, FunctionDef]:
    """The functions that nodes call, and those call in turn."""
    todo, found = list(nodes), {}
    while todo:
        for name in _functions_of(todo.pop()):
            if name in library and name not in found:
                found[name] = library[name]
                todo.extend(library[name].node_def)
    return found


def _functions_of(node: NodeDef) -> list[str]:
    """Names that may be functions: those of its attributes, and its own operation (TensorFlow 1)."""
    return [node.op, *(function.name for value in node.attr.values() for function in functions_in(value))]


def _judge(nodes: Sequence[NodeDef], functions: Mapping[str, FunctionDef], allow: Iterable[str]) -> None:
    """All of it runs here, also what a flat graph leaves out: branches that are never taken, what is only waited for."""
    allowed = {*allowed_ops(), *OURS, *VARIABLES, *functions, *allow}
    for node in _all_nodes(nodes, functions):
        if node.op not in allowed:
            raise NotRun(f"it needs the operation {node.op} (node {node.name}), which may not run")
    if written_out(nodes, {name: function.node_def for name, function in functions.items()}) > MAX_NODES:
        raise NotRun(f"with all its calls it holds more than {MAX_NODES} operations")


def _write(built: GraphDef, nodes: Iterable[NodeDef], functions: Mapping[str, FunctionDef]) -> None:
    """Nodes and functions under names that no other graph of this process has: TensorFlow keeps functions by name."""
    names = {name: f"{name}{unique_mark()}" for name in functions}
    for node in nodes:
        built.node.add().CopyFrom(_renamed(node, names))
    for name, function in functions.items():
        copy = built.library.function.add()
        copy.CopyFrom(function)
        copy.signature.name = names[name]
        del copy.node_def[:]
        copy.node_def.extend(_renamed(node, names) for node in function.node_def)


def _renamed(node: NodeDef, names: Mapping[str, str]) -> NodeDef:
    copy = copied(node)
    copy.op = names.get(node.op, node.op)
    for value in copy.attr.values():
        _rename(value, names)
    return copy


def _rename(value: AttrValue, names: Mapping[str, str]) -> None:
    for function in functions_in(value):
        function.name = names.get(function.name, function.name)
        for inner in function.attr.values():
            _rename(inner, names)
