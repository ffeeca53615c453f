"""A graph without calls: its nodes, the functions of its loops and branches, and who reads whom.

Pure functions on protocol buffers. Nodes are shared between graphs and never changed: a pass copies what it changes
(`copied`) and puts it into a new `Graph`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue, NameAttrList
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto

from gradviz_cli.errors import UsageError
from gradviz_cli.files.near import nearest
from gradviz_cli.worker.graph.tf_private import default, op_def

# A real model has up to some 50,000 nodes and 100 nested calls; what is far beyond is built to exhaust the reader.
MAX_NODES = 400_000
# A longer chain of operations that only hand on goes in a circle.
MAX_LINKS = 1_000
ARGUMENT = "_Arg"
# What a loop or branch hands to each function that it names: its inputs from this one on.
FIRST_ARGUMENT = {"While": 0, "StatelessWhile": 0, "If": 1, "StatelessIf": 1, "Case": 1, "StatelessCase": 1}
# Whether these end is not known before they do. An image has a deadline that fits; what is run ahead of one leaves them out.
LOOPS = frozenset({"Enter", "NextIteration", "Switch", "Merge", "While", "StatelessWhile"})
BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
# The graph version that TensorFlow 2.16 writes; every later one reads it.
PRODUCER = 1882

Link = TypeVar("Link")


class GraphError(Exception):
    """A graph contradicts itself. `node` is the one that was looked at, `op` its operation (empty where there is none)."""

    def __init__(self, node: NodeDef | str, what: str):
        self.node: str = node if isinstance(node, str) else node.name
        self.op: str = "" if isinstance(node, str) else node.op
        self.what = what
        super().__init__(f"{self.place}: {what}")

    @property
    def place(self) -> str:
        """`node NAME (op OP)`, in a length that fits a line."""
        return f"node {self.node[:200]}{f' (op {self.op[:80]})' if self.op else ''}"


@dataclass(frozen=True)
class Function:
    """One function that a loop or branch on data still calls: its nodes, arguments as nodes of op `_Arg`."""

    signature: OpDef
    nodes: Mapping[str, NodeDef]
    results: tuple[str, ...]
    attributes: Mapping[str, AttrValue] = field(default_factory=dict)

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
        node = node_of(self.nodes, tensor)
        if node.op == ARGUMENT:
            return name
        for output, width in outputs_of(node) or ():
            if index < width:
                return f"{name}:{output}:{index}"
            index -= width
        raise GraphError(node, f"has no output {split(tensor)[1]}")


@dataclass(frozen=True)
class Graph:
    """A graph without calls. What a pass takes and gives.

    Attributes
    ----------
    nodes : dict
        By name, every input written `name:index`.
    functions : dict
        The functions of loops and branches that depend on data, by name; their own calls are inlined too.
    weights : dict
        Placeholder -> name of the variable whose value it takes.
    handles : dict
        Resource placeholder -> name of the variable, where the variable itself is needed.
    outputs : tuple
        Tensors as `name:index`. Once a question is settled: the score, the model's own output, the tensor whose gradient
        is the attribution; what the output says of each score, once that is read; and behind that one the inner tensors
        that are asked for too.
    feeds : dict
        Tensor asked to be fed -> placeholder that stands for it; those not reached are missing.
    values : dict
        Variable -> its value. Empty until the weights are loaded.
    custom_gradients : int
        Wrappers with a gradient of the model's own that were replaced by the derivative of their forward pass.
    changed : frozenset of str
        Weights that the model reads after it has changed them in the same run.
    """

    nodes: Mapping[str, NodeDef]
    functions: Mapping[str, Function] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    handles: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    feeds: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, tf.Tensor] = field(default_factory=dict)
    custom_gradients: int = 0
    changed: frozenset[str] = frozenset()

    @property
    def score(self) -> str:
        """The tensor of scores that is differentiated."""
        return self.outputs[0]

    @property
    def output(self) -> str:
        """What the model itself gives."""
        return self.outputs[1]

    @property
    def shown(self) -> str:
        """What the model itself gives for the scores: its output, or a part of that."""
        return self.outputs[3] if len(self.outputs) > 3 else self.outputs[1]

    @property
    def wrt(self) -> str:
        """The tensor whose gradient is the attribution: the image, or the first numbers that it becomes."""
        return self.outputs[2]

    @property
    def taps(self) -> tuple[str, ...]:
        """Inner tensors whose values and gradients are asked for."""
        return self.outputs[4:]

    def tapped(self, tensors: Iterable[str]) -> Graph:
        """The graph that keeps these tensors, whatever is done to it."""
        return replace(self, outputs=(self.score, self.output, self.wrt, self.shown, *tensors))

    def node(self, tensor: str) -> NodeDef:
        """The node that makes a tensor; GraphError where there is none."""
        return node_of(self.nodes, tensor)

    def ops(self) -> dict[str, str]:
        """Every op type that can run, with one node that has it."""
        seen = {node.op: name for name, node in self.nodes.items()}
        for name, function in self.functions.items():
            seen.update({node.op: f"{name}/{node.name}" for node in function.nodes.values() if node.op != ARGUMENT})
        return seen

    def pruned(self, tensors: Iterable[str]) -> Graph:
        """The part that these tensors depend on; they become its outputs."""
        tensors = tuple(tensors)
        kept = ancestors(self.nodes, tensors)
        nodes = {name: node for name, node in self.nodes.items() if name in kept}
        called = functions_called(nodes.values(), self.functions)
        weights = {name: variable for name, variable in self.weights.items() if name in kept}
        handles = {name: variable for name, variable in self.handles.items() if name in kept}
        read = {*weights.values(), *handles.values()}
        return replace(
            self,
            nodes=nodes,
            functions={name: function for name, function in self.functions.items() if name in called},
            weights=weights,
            handles=handles,
            outputs=tensors,
            feeds={tensor: name for tensor, name in self.feeds.items() if name in kept},
            values={variable: value for variable, value in self.values.items() if variable in read},
        )

    def graph_def(self) -> GraphDef:
        """As TensorFlow imports it."""
        return graph_def(self.nodes.values(), self.functions.values())


def graph_def(nodes: Iterable[NodeDef], functions: Iterable[Function] = ()) -> GraphDef:
    """Nodes and functions as TensorFlow imports them."""
    built = GraphDef(node=nodes)
    built.library.function.extend(function.function_def() for function in functions)
    built.versions.producer = PRODUCER
    return built


# -- tensors and nodes -------------------------------------------------------------------------------------------------


@lru_cache(1 << 14)  # each name is asked for fifty times while a model is loaded
def split(tensor: str) -> tuple[str, int]:
    """`name:index` or `name` -> (name, index)."""
    name, _, index = tensor.rpartition(":")
    return (name, int(index)) if name and index.isdigit() else (tensor, 0)


@lru_cache(1 << 14)
def maker_name(text: str) -> str:
    """The name of the node behind an input, a control input included."""
    return split(text.lstrip("^"))[0]


def node_of(nodes: Mapping[str, NodeDef], tensor: str) -> NodeDef:
    """The node that makes a tensor; GraphError where there is none."""
    name = split(tensor)[0]
    node = nodes.get(name)
    if node is None:
        raise GraphError(name, "is read and does not exist")
    return node


def source(node: NodeDef, index: int) -> str:
    """The input of a node at this place; GraphError where it has not so many."""
    if index >= len(node.input) or node.input[index].startswith("^"):
        raise GraphError(node, f"lacks its input {index}")
    return node.input[index]


def data_inputs(node: NodeDef) -> list[str]:
    """The inputs that carry values, without those that a node only waits for."""
    return [text for text in node.input if not text.startswith("^")]


def copied(node: NodeDef, name: str | None = None, inputs: Iterable[str] | None = None) -> NodeDef:
    """A copy of a node that may be changed, under another name or with other inputs if given."""
    copy = NodeDef()
    copy.CopyFrom(node)
    if name is not None:
        copy.name = name
    if inputs is not None:
        copy.input[:] = list(inputs)
    return copy


def placeholder(name: str, dtype: int, shape: TensorShapeProto | None = None) -> NodeDef:
    """A node to be fed. A reference type (TensorFlow 1 variables) becomes its value type, 100 less."""
    node = NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = dtype - 100 if dtype > 100 else dtype
    if shape is not None:
        node.attr["shape"].shape.CopyFrom(shape)
    return node


def constant_node(name: str, value: np.ndarray | np.generic) -> NodeDef:
    """A Const node of this value and its type."""
    node = NodeDef(name=name, op="Const")
    tensor = tf.make_tensor_proto(value)
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)
    return node


def in_place_of(node: NodeDef, op: str, inputs: Iterable[str]) -> NodeDef:
    """A node of another op that takes its name and its type T."""
    made = NodeDef(name=node.name, op=op, input=inputs)
    made.attr["T"].CopyFrom(attribute(node, "T"))
    return made


def attribute(node: NodeDef, name: str) -> AttrValue:
    """An attribute of a node, or the default that its operation defines: saved graphs leave out what equals it.

    To be used in place of `node.attr[name]`, which gives an empty value for a missing attribute (an epsilon of 0) and
    writes it into the node.
    """
    if name in node.attr:
        return node.attr[name]
    value = default(node.op, name)
    if value is None:
        raise GraphError(node, f"lacks its attribute {name}")
    return value


def literal(node: NodeDef) -> tf.Tensor:
    """The value of a Const node, as a NumPy array."""
    try:
        return tf.make_ndarray(attribute(node, "value").tensor)
    except (TypeError, ValueError) as error:
        raise GraphError(node, f"holds no value ({error})") from error


def outputs_of(node: NodeDef) -> list[tuple[str, int]] | None:
    """(name, number of tensors) of each output of a node; None for an operation that this TensorFlow does not know."""
    if node.op == ARGUMENT:
        return [("output", 1)]
    definition = op_def(node.op)
    return None if definition is None else [(output.name, width(output, node)) for output in definition.output_arg]


def types_of(node: NodeDef) -> list[int]:
    """Type of each output of a node, as an enum; none for an operation that this TensorFlow does not know."""
    types: list[int] = []
    definition = op_def(node.op)
    for output in definition.output_arg if definition is not None else ():
        if output.type_list_attr:
            types += attribute(node, output.type_list_attr).list.type
        else:
            types += [output.type or attribute(node, output.type_attr).type] * width(output, node)
    return types


def width(argument: OpDef.ArgDef, node: NodeDef) -> int:
    """How many tensors one input or output of an operation stands for."""
    if argument.number_attr:
        return int(attribute(node, argument.number_attr).i)
    if argument.type_list_attr:
        return len(attribute(node, argument.type_list_attr).list.type)
    return 1


def find_tensor(nodes: Iterable[str], wanted: str) -> str | None:
    """The full `name:index` of a tensor named in full or by the unique end of its path.

    `conv5/Relu:0` finds `model/conv5/Relu`. Raises UsageError when several end that way.
    """
    name, index = split(wanted)
    names = list(nodes)
    if name in set(names):
        return f"{name}:{index}"
    ends = [full for full in names if full.endswith("/" + name)]
    if len(ends) > 1:
        raise UsageError(f"{wanted} names {len(ends)} tensors: {', '.join(sorted(ends)[:4])}", "give the full name")
    return f"{ends[0]}:{index}" if ends else None


def tensors_near(nodes: Iterable[str], wanted: str, keys: Sequence[str] = ()) -> list[str]:
    """The tensors that may have been meant by a name that none has: of keys of the signature, else by the last part of their
    path, or by the parts before it."""
    if found := nearest(wanted.removesuffix(":0"), keys):
        return found
    path, _, last = split(wanted)[0].rpartition("/")
    by_last: dict[str, list[str]] = {}
    for name in nodes:
        by_last.setdefault(name.rpartition("/")[2], []).append(name)
    for one in [last] if last in by_last else nearest(last, by_last):
        above = {name.rpartition("/")[0]: name for name in by_last[one][:MOST_NEAR]}
        ends = {whole.rpartition("/")[2]: name for whole, name in above.items()}
        found += [above[near] for near in (nearest(path, above) if path else list(above)[:2])]
        found += [ends[near] for near in nearest(path.rpartition("/")[2], ends) if ends[near] not in found]
    return [f"{name}:0" for name in found[:2]]


MOST_NEAR = 200  # tensors that end alike, and are looked through


# -- who reads whom ----------------------------------------------------------------------------------------------------


def walk(start: Link, onward: Callable[[Link], Link | None], most: int = MAX_LINKS) -> Iterator[Link]:
    """`start`, what it leads to, what that leads to, and so on; at most so many steps, whatever the graph says."""
    link: Link | None = start
    for _ in range(most + 1):
        if link is None:
            return
        yield link
        link = onward(link)


def ancestors(nodes: Mapping[str, NodeDef], tensors: Iterable[str]) -> set[str]:
    """Names of all nodes that the tensors depend on, their own included."""
    todo = [split(tensor)[0] for tensor in tensors]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        todo.extend(map(maker_name, nodes[name].input))
    return seen


def descendants(nodes: Mapping[str, NodeDef], sources: Iterable[str]) -> set[str]:
    """Names of all nodes that depend on the source nodes, the sources included."""
    readers = consumers(nodes)
    todo = list(sources)
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(readers.get(name, ()))
    return seen


def consumers(nodes: Mapping[str, NodeDef]) -> dict[str, list[str]]:
    """Node name -> names of the nodes that read one of its outputs, once for each time that they do."""
    readers: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for text in node.input:
            readers.setdefault(maker_name(text), []).append(name)
    return readers


def in_order(nodes: Mapping[str, NodeDef], names: set[str]) -> Iterator[str]:
    """The names, each after those that it reads; a loop of TensorFlow 1 is cut where it closes."""
    done: set[str] = set()
    for start in sorted(names):
        stack = [(start, False)]
        while stack:
            name, ready = stack.pop()
            if ready:
                yield name
            elif name in names and name not in done:
                done.add(name)
                stack.append((name, True))
                if nodes[name].op != "NextIteration":
                    stack.extend((split(text)[0], False) for text in data_inputs(nodes[name]))


class Circle(Exception):
    """What was to be put in order depends on itself; `name` is a part of it that does."""

    def __init__(self, name: str):
        super().__init__(f"{name} depends on itself")
        self.name = name


def topological(sources: Mapping[str, Sequence[str]]) -> list[str]:
    """The keys, each after those that it depends on; `sources` may name others, which count as there already.

    Raises
    ------
    Circle
    """
    missing = dict.fromkeys(sources, 0)
    readers: dict[str, list[str]] = {name: [] for name in sources}
    for name, before in sources.items():
        for one in before:
            if one in readers:
                missing[name] += 1
                readers[one].append(name)
    ready, order = sorted(name for name, count in missing.items() if count == 0), []
    while ready:
        name = ready.pop()
        order.append(name)
        for reader in readers[name]:
            missing[reader] -= 1
            if missing[reader] == 0:
                ready.append(reader)
    if len(order) < len(missing):
        raise Circle(_in_circle(sources, {name for name, count in missing.items() if count}))
    return order


def _in_circle(sources: Mapping[str, Sequence[str]], stuck: set[str]) -> str:
    """One that depends on itself, of those that could not be put in order; the others come after it."""
    name, seen = min(stuck), set()
    while name not in seen:
        seen.add(name)
        name = next(one for one in sources[name] if one in stuck)
    return name


def sources_in_order(nodes: Mapping[str, NodeDef]) -> dict[str, list[str]]:
    """Node -> nodes that it reads, for `topological`; a loop of TensorFlow 1 is open at its NextIteration."""
    return {
        name: [] if node.op == "NextIteration" else [maker_name(text) for text in node.input]
        for name, node in nodes.items()
    }


# -- functions ---------------------------------------------------------------------------------------------------------


def functions_in(value: AttrValue) -> list[NameAttrList]:
    """The functions that an attribute names."""
    kind = value.WhichOneof("value")
    return [value.func] if kind == "func" else list(value.list.func) if kind == "list" else []


def called_by(node: NodeDef) -> list[str]:
    """Names of the functions that a node calls, once for each attribute that names one."""
    attributes = node.attr  # whose own `values` is slower
    return [function.name for key in attributes for function in functions_in(attributes[key])]


def functions_called(nodes: Iterable[NodeDef], functions: Mapping[str, Function]) -> set[str]:
    """Names of the functions that these nodes call, and those call in turn."""
    todo = [name for node in nodes for name in called_by(node)]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in seen and name in functions:
            seen.add(name)
            todo.extend(inner for node in functions[name].nodes.values() for inner in called_by(node))
    return seen


def own_names(graph: Graph) -> Graph:
    """The graph with names for its functions that no other in this process has.

    TensorFlow keeps the functions of all graphs under one roof, and makes up names from theirs when it differentiates a
    loop: two gradients built from the same graph would meet there.
    """
    if not graph.functions:
        return graph
    mark = unique_mark()
    functions = {}
    for name, function in graph.functions.items():
        signature = OpDef()
        signature.CopyFrom(function.signature)
        signature.name = name + mark
        functions[signature.name] = replace(function, signature=signature, nodes=_calling(function.nodes, mark))
    return replace(graph, nodes=_calling(graph.nodes, mark), functions=functions)


def _calling(nodes: Mapping[str, NodeDef], mark: str) -> dict[str, NodeDef]:
    """The nodes, calling functions whose names end in this mark now."""
    calling = dict(nodes)
    for name, node in nodes.items():
        if called_by(node):
            calling[name] = copied(node)
            for value in calling[name].attr.values():
                for function in functions_in(value):
                    function.name += mark
    return calling


_marks = itertools.count()


def unique_mark() -> str:
    """An ending for names of functions: these belong to the whole process, where TensorFlow makes up such names too."""
    return f"_gradviz{next(_marks)}"
