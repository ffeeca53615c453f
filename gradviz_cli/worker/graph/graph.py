"""A graph without calls: its nodes, the functions of its loops and branches, and who reads whom (pure functions on protocol buffers)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tensorflow.core.framework.attr_value_pb2 import AttrValue, NameAttrList
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.graph.tf_private import op_def

# A real model has up to some 50,000 nodes and 100 nested calls; what is far beyond is built to exhaust the reader.
MAX_NODES = 400_000
ARGUMENT = "_Arg"
# The graph version that TensorFlow 2.16 writes; every later one reads it.
PRODUCER = 1882


@dataclass(frozen=True)
class Body:
    """One function that a loop or branch on data still calls: its nodes, arguments as nodes of op `_Arg`."""

    signature: OpDef
    nodes: Mapping[str, NodeDef]
    results: tuple[str, ...]
    attributes: Mapping[str, AttrValue]

    def function_def(self) -> FunctionDef:
        """As a graph's function library holds it."""
        function = FunctionDef(signature=self.signature)
        for key, value in self.attributes.items():
            function.attr[key].CopyFrom(value)
        for node in self.nodes.values():
            if node.op == ARGUMENT:
                continue
            copy = function.node_def.add()
            copy.CopyFrom(node)
            del copy.input[:]
            copy.input.extend(text if text.startswith("^") else self._reference(text) for text in node.input)
        for result, tensor in zip(self.signature.output_arg, self.results, strict=True):
            function.ret[result.name] = self._reference(tensor)
        return function

    def _reference(self, tensor: str) -> str:
        """`node:index` -> `argument` or `node:output:index`."""
        name, index = split(tensor)
        node = self.nodes[name]
        if node.op == ARGUMENT:
            return name
        for output in op_def(node.op).output_arg:
            width = _width(output, node)
            if index < width:
                return f"{name}:{output.name}:{index}"
            index -= width
        raise ModelUnusable(f"{node.op} node {name} has no output {index}", "export the model again")


@dataclass(frozen=True)
class Flat:
    """A graph without calls.

    Attributes
    ----------
    nodes : dict
        By name, every input written `name:index`.
    bodies : dict
        The functions of loops and branches that depend on data, by name; their own calls are expanded too.
    weights : dict
        Placeholder -> name of the variable node whose value it takes.
    handles : dict
        Resource placeholder -> name of the variable node, where the variable itself is needed.
    outputs : tuple
        The tensors asked for, as `name:index`, in the order asked.
    feeds : dict
        Tensor asked to be fed -> placeholder that stands for it; those not reached are missing.
    custom_gradients : int
        Wrappers with a gradient of the model's own that were replaced by the derivative of their forward pass.
    """

    nodes: Mapping[str, NodeDef]
    bodies: Mapping[str, Body]
    weights: Mapping[str, str]
    handles: Mapping[str, str]
    outputs: tuple[str, ...]
    feeds: Mapping[str, str]
    custom_gradients: int = 0

    def ops(self) -> dict[str, str]:
        """Every op type that can run, with one node that has it."""
        found = {node.op: name for name, node in self.nodes.items()}
        for name, body in self.bodies.items():
            found.update({node.op: f"{name}/{node.name}" for node in body.nodes.values() if node.op != ARGUMENT})
        return found

    def pruned(self, tensors: Iterable[str]) -> Flat:
        """The part that these tensors depend on; they become its outputs."""
        tensors = tuple(tensors)
        kept = ancestors(self.nodes, tensors)
        nodes = {name: node for name, node in self.nodes.items() if name in kept}
        called = functions_called(nodes.values(), self.bodies)
        return replace(
            self,
            nodes=nodes,
            bodies={name: body for name, body in self.bodies.items() if name in called},
            weights={name: variable for name, variable in self.weights.items() if name in kept},
            handles={name: variable for name, variable in self.handles.items() if name in kept},
            outputs=tensors,
            feeds={tensor: name for tensor, name in self.feeds.items() if name in kept},
        )

    def graph_def(self) -> GraphDef:
        """As TensorFlow imports it."""
        graph = GraphDef(node=self.nodes.values())
        graph.library.function.extend(body.function_def() for body in self.bodies.values())
        graph.versions.producer = PRODUCER
        return graph


def functions_called(nodes: Iterable[NodeDef], bodies: Mapping[str, Body]) -> set[str]:
    """Names of the functions that these nodes call, and those call in turn."""
    todo, seen = [name for node in nodes for name in _called(node)], set()
    while todo:
        name = todo.pop()
        if name not in seen and name in bodies:
            seen.add(name)
            todo.extend(inner for node in bodies[name].nodes.values() for inner in _called(node))
    return seen


def _called(node: NodeDef) -> list[str]:
    return [function.name for value in node.attr.values() for function in functions_in(value)]


def split(tensor: str) -> tuple[str, int]:
    """`name:index` or `name` -> (name, index)."""
    name, _, index = tensor.rpartition(":")
    return (name, int(index)) if name and index.isdigit() else (tensor, 0)


def ancestors(nodes: Mapping[str, NodeDef], tensors: Iterable[str]) -> set[str]:
    """Names of all nodes that the tensors depend on, their own included."""
    todo = [split(tensor)[0] for tensor in tensors]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        todo.extend(split(text.lstrip("^"))[0] for text in nodes[name].input)
    return seen


def descendants(nodes: Mapping[str, NodeDef], sources: Iterable[str]) -> set[str]:
    """Names of all nodes that depend on the source nodes, the sources included."""
    readers = consumers(nodes)
    todo, seen = list(sources), set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(readers.get(name, ()))
    return seen


def consumers(nodes: Mapping[str, NodeDef]) -> dict[str, list[str]]:
    """Node name -> names of the nodes that read one of its outputs."""
    readers: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for text in node.input:
            readers.setdefault(split(text.lstrip("^"))[0], []).append(name)
    return readers


def find_tensor(nodes: Iterable[str], wanted: str) -> str | None:
    """The full `name:index` of a tensor named in full or by the unique end of its path.

    `conv5/Relu:0` finds `model/conv5/Relu`. Raises ModelUnusable when several end that way.
    """
    name, index = split(wanted)
    names = list(nodes)
    if name in set(names):
        return f"{name}:{index}"
    ends = [full for full in names if full.endswith("/" + name)]
    if len(ends) > 1:
        raise ModelUnusable(f"{wanted} names {len(ends)} tensors: {', '.join(sorted(ends)[:4])}", "give the full name")
    return f"{ends[0]}:{index}" if ends else None


_marks = itertools.count()


def unique_mark() -> str:
    """An ending for names of functions: these belong to the whole process, where TensorFlow makes up such names too."""
    return f"_gradviz{next(_marks)}"


def _width(output: OpDef.ArgDef, node: NodeDef) -> int:
    if output.number_attr:
        return node.attr[output.number_attr].i
    if output.type_list_attr:
        return len(node.attr[output.type_list_attr].list.type)
    return 1


def functions_in(value: AttrValue) -> list[NameAttrList]:
    """The functions that an attribute names."""
    return [value.func] if value.HasField("func") else list(value.list.func)


def placeholder(name: str, dtype: int, shape: TensorShapeProto | None = None) -> NodeDef:
    """A node to be fed. A reference type (TensorFlow 1 variables) becomes its value type, 100 less."""
    node = NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = dtype - 100 if dtype > 100 else dtype
    if shape is not None:
        node.attr["shape"].shape.CopyFrom(shape)
    return node
