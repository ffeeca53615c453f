"""Meta graph -> one flat graph of what the explained tensors need (pure functions on protocol buffers).

Function calls are expanded, branches with a constant predicate are resolved, weights become placeholders that
remember their variable, and control inputs, devices, custom-gradient wrappers and compiler marks are dropped. Nothing is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.framework.types_pb2 import DT_RESOURCE
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    MAX_NODES,
    Body,
    Flat,
    _width,
    functions_in,
    placeholder,
    split,
    unique_mark,
)
from gradviz_cli.worker.graph.tf_private import op_def

MAX_DEPTH = 1_000
MAX_CALLS = 50_000
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
BRANCHES = frozenset({"If", "StatelessIf"})
VARIABLES = frozenset({"Variable", "VariableV2", "AutoReloadVariable"})
PASS_THROUGH = frozenset({"Identity", "PlaceholderWithDefault", "StopGradient", "PreventGradient", "Snapshot"})
REF_TWINS = {
    "RefIdentity": "Identity",
    "RefSwitch": "Switch",
    "RefMerge": "Merge",
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefNextIteration": "NextIteration",
}
# Marks that steer a runtime or a gradient we do not use; contradictory shapes come from converters.
DROPPED_ATTRIBUTES = (
    "_output_shapes",
    "_class",
    "_noinline",
    "_XlaMustCompile",
    "_XlaScope",
    "_XlaSeparateCompiledGradients",
    "_gradient_op_type",
)


class _Frame:
    """One expanded function: its nodes by name, and where its arguments come from."""

    def __init__(self, nodes, arguments, parent=None, inputs=(), prefix="", attributes=None, results=None):
        self.nodes: dict[str, NodeDef] = nodes
        self.arguments: dict[str, int] = arguments
        self.parent: _Frame | None = parent
        self.inputs: list[str] = list(inputs)
        self.prefix: str = prefix
        self.attributes: Mapping[str, AttrValue] = attributes or {}
        self.results: list[str] = results or []
        self.depth: int = parent.depth + 1 if parent else 0
        self.children: dict[str, _Frame] = {}


@dataclass
class _Expansion:
    """The work in progress of `expand`; `mark` ends the names of its functions."""

    library: Mapping[str, FunctionDef]
    feeds: Mapping[str, str]
    mark: str
    names: dict[tuple[int, str], str] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)  # name -> highest number given to it
    indexed: dict[str, tuple[dict, dict]] = field(default_factory=dict)  # function -> its nodes, its arguments
    nodes: dict[str, NodeDef] = field(default_factory=dict)
    bodies: dict[str, Body] = field(default_factory=dict)
    opened: set[str] = field(default_factory=set)
    weights: dict[str, str] = field(default_factory=dict)
    handles: dict[str, str] = field(default_factory=dict)
    fed: dict[str, str] = field(default_factory=dict)
    custom_gradients: set[str] = field(default_factory=set)
    alive: list[_Frame] = field(default_factory=list)  # keeps id() of frames unique
    resolved: dict[tuple[int, str], tuple] = field(default_factory=dict)


def expand(meta: MetaGraphDef, tensors: Iterable[str], feeds: Mapping[str, AttrValue] | None = None) -> Flat:
    """The flat graph of everything that `tensors` of the top level depend on.

    Parameters
    ----------
    tensors : iterable of str
        `name:index` at the top level of the meta graph.
    feeds : mapping
        `name:index` -> dtype enum of top-level tensors that become placeholders; what lies before them is dropped.

    Raises
    ------
    ModelUnusable
        A node or function that is named does not exist, or a call fits no function.
    ModelRefused
        More nodes or deeper calls than any real model has.
    """
    library = {function.signature.name: function for function in meta.graph_def.library.function}
    work = _Expansion(library, dict(feeds or {}), unique_mark())
    top = _Frame({node.name: node for node in meta.graph_def.node}, {})
    work.alive.append(top)
    outputs = tuple(_emit(work, _resolve(work, top, tensor)) for tensor in tensors)
    for nodes in (work.nodes, *(body.nodes for body in work.bodies.values())):
        _insist_on_order(nodes)
    return Flat(work.nodes, work.bodies, work.weights, work.handles, outputs, work.fed, len(work.custom_gradients))


def _insist_on_order(nodes: Mapping[str, NodeDef]) -> None:
    """Raise ModelUnusable for nodes in a circle; only a loop of TensorFlow 1 may close one, at its NextIteration."""
    sources = {
        name: {split(text.lstrip("^"))[0] for text in node.input} if node.op != "NextIteration" else ()
        for name, node in nodes.items()
    }
    try:
        TopologicalSorter(sources).prepare()
    except CycleError as error:
        raise ModelUnusable(f"the node {error.args[1][0]} depends on itself", "export the model again") from error


# -- following one tensor to the node that makes it ---------------------------------------------------------------


def _resolve(work: _Expansion, frame: _Frame, text: str) -> tuple[_Frame, NodeDef, int]:
    """The frame, node and output index that a reference means, seen through calls, arguments and constant branches."""
    key = (id(frame), text)
    if key not in work.resolved:
        work.resolved[key] = _follow(work, frame, text)
    return work.resolved[key]


def _follow(work: _Expansion, frame: _Frame, text: str) -> tuple[_Frame, NodeDef, int]:
    steps = 0
    while True:
        steps += 1
        if steps > MAX_NODES:
            raise ModelRefused(f"the references around {text} never end", "export the model again")
        name = text.split(":", 1)[0]
        if name in frame.arguments:
            position = frame.arguments[name]
            if position >= len(frame.inputs):
                raise ModelUnusable(
                    f"a call to {frame.prefix or 'a function'} lacks its argument {name}", "export again"
                )
            frame, text = frame.parent, frame.inputs[position]
            continue
        node = frame.nodes.get(name)
        if node is None:
            raise ModelUnusable(f"the graph names a tensor {text} that no node makes", "export the model again")
        index = _index(work, frame, node, text)
        if frame.parent is None and f"{name}:{index}" in work.feeds:
            return frame, node, index
        onward = _onward(work, frame, node, index)
        if onward is None:
            return frame, node, index
        frame, text = onward


def _onward(work: _Expansion, frame: _Frame, node: NodeDef, index: int) -> tuple[_Frame, str] | None:
    """Where the value of a transparent node really comes from; None for a node that makes it itself."""
    child = _call(work, frame, node)
    if child is not None:
        if index >= len(child.results):
            raise ModelUnusable(
                f"{node.name} is read at output {index}, its function has {len(child.results)}", "export again"
            )
        return child, child.results[index]
    if node.op == "IdentityN":
        if "_gradient_op_type" in node.attr:
            work.custom_gradients.add(_join(frame.prefix, node.name))
        return frame, node.input[index]
    if node.op == "Print":
        return frame, node.input[0]
    if node.op in ("Switch", "RefSwitch") and _constant(work, frame, node.input[1]) is not None:
        return frame, node.input[0]
    if node.op in ("Merge", "RefMerge") and index == 0:
        live = _live_input(work, frame, node)
        if live is not None:
            return frame, live
    return None


def _call(work: _Expansion, frame: _Frame, node: NodeDef) -> _Frame | None:
    """The expanded body behind a call node (or behind a branch with a constant predicate)."""
    if node.name in frame.children:
        return frame.children[node.name]
    inputs = [text for text in node.input if not text.startswith("^")]
    if node.op in CALLS:
        function = node.attr["f"].func
    elif node.op in BRANCHES:
        predicate = _constant(work, frame, node.input[0])
        if predicate is None:
            return None
        function, inputs = node.attr["then_branch" if predicate else "else_branch"].func, inputs[1:]
    elif node.op in work.library:
        function = None
    else:
        return None
    name = function.name if function is not None else node.op
    attributes = dict((function.attr if function is not None else node.attr).items())
    frame.children[node.name] = _enter(work, frame, node, name, inputs, attributes)
    return frame.children[node.name]


def _enter(work, frame, node, function_name, inputs, attributes) -> _Frame:
    body = work.library.get(function_name)
    if body is None:
        raise ModelUnusable(
            f"{node.name} calls a function {function_name} that the file lacks", "export the model again"
        )
    if frame.depth >= MAX_DEPTH or len(work.alive) > MAX_CALLS:
        raise ModelRefused(
            f"the functions of this model call each other more than {MAX_DEPTH} deep or {MAX_CALLS} times",
            "this looks built to exhaust a reader; export the model again from its source",
        )
    if function_name not in work.indexed:  # once, however often it is called
        nodes = {inner.name: inner for inner in body.node_def}
        work.indexed[function_name] = nodes, {argument.name: i for i, argument in enumerate(body.signature.input_arg)}
    nodes, arguments = work.indexed[function_name]
    results = [body.ret.get(result.name, result.name) for result in body.signature.output_arg]
    prefix = _join(frame.prefix, _readable(node.name))
    child = _Frame(nodes, arguments, frame, inputs, prefix, attributes, results)
    work.alive.append(child)
    return child


def _index(work: _Expansion, frame: _Frame, node: NodeDef, text: str) -> int:
    """Output index of `name`, `name:index` (top level) or `name:output:index` (function body)."""
    parts = text.split(":")
    if len(parts) == 1:
        return 0
    if len(parts) == 2:
        if parts[1].isdigit():
            return int(parts[1])
        parts = [parts[0], parts[1], "0"]
    outputs = _output_args(work, node)
    offset = 0
    for output, size in outputs:
        if output == parts[1]:
            return offset + int(parts[2])
        offset += size
    raise ModelUnusable(f"{node.op} node {node.name} has no output {parts[1]}", "export the model again")


def _output_args(work: _Expansion, node: NodeDef) -> list[tuple[str, int]]:
    """(name, number of tensors) of each output of a node."""
    if node.op == ARGUMENT:
        return [("output", 1)]
    definition: OpDef | None = op_def(node.op)
    if definition is None:
        if node.op not in work.library:
            raise ModelRefused(f"op {node.op} of node {node.name} is not known to this TensorFlow", "export without it")
        definition = work.library[node.op].signature
    return [(output.name, _width(output, node)) for output in definition.output_arg]


# -- constants and dead branches -----------------------------------------------------------------------------------


def _constant(work: _Expansion, frame: _Frame, text: str, depth: int = 0) -> bool | None:
    """The value of a boolean that does not depend on data, else None."""
    if depth > 50:
        return None
    frame, node, _ = _resolve(work, frame, text)
    if node.op == "Const":
        return _boolean(node)
    if node.op in PASS_THROUGH:
        return _constant(work, frame, node.input[0], depth + 1)
    if node.op == "LogicalNot":
        value = _constant(work, frame, node.input[0], depth + 1)
        return None if value is None else not value
    if node.op in ("LogicalAnd", "LogicalOr"):
        values = [_constant(work, frame, text, depth + 1) for text in node.input[:2]]
        decisive = node.op == "LogicalOr"
        if decisive in values:
            return decisive
        return None if None in values else not decisive
    return None


def _boolean(node: NodeDef) -> bool | None:
    tensor = node.attr["value"].tensor
    for values in (tensor.bool_val, tensor.int_val, tensor.float_val):
        if len(values):
            return bool(values[0])
    if tensor.tensor_content:
        return any(tensor.tensor_content)
    return None


def _live_input(work: _Expansion, frame: _Frame, node: NodeDef) -> str | None:
    """The only input of a Merge that can carry a value, when constants decide it."""
    states = [(text, _is_dead(work, frame, text)) for text in node.input if not text.startswith("^")]
    if any(dead for _, dead in states):
        alive = [text for text, dead in states if not dead]
        return alive[0] if len(alive) == 1 else None
    return None


def _is_dead(work: _Expansion, frame: _Frame, text: str) -> bool:
    """True when a Switch with a constant predicate never lets a value through to this tensor."""
    todo, seen = [(frame, text)], set()
    while todo:
        frame, text = todo.pop()
        text = text.lstrip("^")
        name = text.split(":", 1)[0]
        if name in frame.arguments or (id(frame), text) in seen or len(seen) > 2_000:
            continue
        seen.add((id(frame), text))
        node = frame.nodes.get(name)
        if node is None or node.op in ("Merge", "RefMerge", "NextIteration", "Enter"):
            continue
        if node.op in ("Switch", "RefSwitch"):
            predicate = _constant(work, frame, node.input[1])
            if predicate is not None and _index(work, frame, node, text) != int(predicate):
                return True
        todo.extend((frame, source) for source in node.input)
    return False


# -- writing the flat graph ----------------------------------------------------------------------------------------


def _emit(work: _Expansion, source: tuple[_Frame, NodeDef, int]) -> str:
    """Write the node behind `source`, and all that it needs, into the flat graph; returns its `name:index`."""
    todo = [source]
    while todo:
        source_now = todo.pop()
        if not _written(work, source_now):
            todo.extend(_write(work, *source_now))
    return _tensor_name(work, source)


def _write(work: _Expansion, frame: _Frame, node: NodeDef, index: int) -> list[tuple[_Frame, NodeDef, int]]:
    """Write one node; returns the sources that it needs and that are not written yet."""
    if len(work.nodes) >= MAX_NODES:
        raise ModelRefused(
            f"this model expands to more than {MAX_NODES} operations", "export the model again from its source"
        )
    name = split(_tensor_name(work, (frame, node, index)))[0]
    if name in work.nodes:  # a feed, written with its name
        return []
    if node.op in VARIABLES:
        work.weights[name] = node.name
        work.nodes[name] = placeholder(name, node.attr["dtype"].type, _shape_of(node))
        return []
    if node.op == "VarHandleOp":
        work.handles[name] = node.name
        work.nodes[name] = placeholder(name, DT_RESOURCE)
        return []
    if node.op == "ReadVariableOp":
        handle = _variable_behind(work, frame, node.input[0])
        if handle is not None:
            work.weights[name] = handle.name
            work.nodes[name] = placeholder(name, handle.attr["dtype"].type, _shape_of(handle))
            return []
    sources = [_resolve(work, frame, text) for text in node.input if not text.startswith("^")]
    pins = [pin for pin in (_pin(work, frame, text) for text in node.input) if pin is not None]
    copy = _copy(work, frame, node, name)
    # Loops make cycles, so a node may be named here before it is written.
    copy.input.extend(_tensor_name(work, source) for source in sources)
    copy.input.extend("^" + split(_tensor_name(work, pin))[0] for pin in pins)
    work.nodes[name] = copy
    return [source for source in sources + pins if not _written(work, source)]


def _pin(work: _Expansion, frame: _Frame, text: str) -> tuple[_Frame, NodeDef, int] | None:
    """A control input that must stay: it ties a constant to a branch or loop that only data decide."""
    if not text.startswith("^"):
        return None
    node = frame.nodes.get(text[1:])
    for _ in range(MAX_DEPTH):
        if node is None or node.op != "Identity":
            break
        source = _resolve(work, frame, node.input[0])
        if source[1].op in ("Switch", "Merge", "LoopCond", "Enter"):
            return _resolve(work, frame, text[1:])
        frame, node = source[0], source[1]
    return None


def _written(work: _Expansion, source: tuple[_Frame, NodeDef, int]) -> bool:
    frame, node, index = source
    if frame.parent is None and f"{node.name}:{index}" in work.feeds:
        return f"{node.name}:{index}" in work.fed
    return work.names.get((id(frame), node.name)) in work.nodes


def _write_feed(work: _Expansion, node: NodeDef, index: int) -> None:
    tensor = f"{node.name}:{index}"
    name = _unique(work, node.name if index == 0 else f"{node.name}_output_{index}")
    shape = _shape_of(node) if node.op.startswith("Placeholder") else None
    work.nodes[name] = placeholder(name, work.feeds[tensor], shape)
    work.fed[tensor] = name


def _behind_identities(work: _Expansion, frame: _Frame, node: NodeDef, index: int) -> tuple[_Frame, NodeDef, int]:
    for _ in range(MAX_DEPTH):
        if node.op not in ("Identity", "RefIdentity"):
            return frame, node, index
        frame, node, index = _resolve(work, frame, node.input[0])
    raise ModelRefused(f"the references around {node.name} never end", "export the model again")


def _variable_behind(work: _Expansion, frame: _Frame, text: str) -> NodeDef | None:
    frame, node, _ = _behind_identities(work, *_resolve(work, frame, text))
    return node if node.op == "VarHandleOp" and frame.parent is None else None


def _copy(work: _Expansion, frame: _Frame, node: NodeDef, name: str) -> NodeDef:
    copy = NodeDef(name=name, op=REF_TWINS.get(node.op, node.op))
    if node.op == "PlaceholderWithDefault":
        copy.op = "Identity"
        copy.attr["T"].CopyFrom(node.attr["dtype"])
        return copy
    if "_gradient_op_type" in node.attr:
        work.custom_gradients.add(name)
    for key, value in node.attr.items():
        if key in DROPPED_ATTRIBUTES:
            continue
        if value.placeholder:
            if value.placeholder not in frame.attributes:
                raise ModelUnusable(f"{name} leaves its attribute {key} open", "export the model again")
            value = frame.attributes[value.placeholder]
        copy.attr[key].CopyFrom(value)
        for function in functions_in(copy.attr[key]):
            _keep_function(work, function.name)
            function.name += work.mark
    return copy


def _keep_function(work: _Expansion, name: str) -> None:
    """Take a loop or branch body along, its own calls expanded."""
    if name in work.opened:
        return
    if len(work.opened) > MAX_DEPTH:
        raise ModelRefused(f"the model has more than {MAX_DEPTH} loop and branch bodies", "export the model again")
    if name not in work.library:
        raise ModelUnusable(f"the graph calls a function {name} that the file lacks", "export the model again")
    work.opened.add(name)
    function = work.library[name]
    inner = _Expansion(work.library, {}, work.mark, bodies=work.bodies, opened=work.opened)
    inner.custom_gradients = work.custom_gradients
    nodes = {node.name: node for node in function.node_def}
    for argument in function.signature.input_arg:
        nodes[argument.name] = NodeDef(name=argument.name, op=ARGUMENT)
        nodes[argument.name].attr["T"].type = argument.type
    frame = _Frame(nodes, {})
    inner.alive.append(frame)
    for argument in function.signature.input_arg:  # keep their names, whatever is read first
        _emit(inner, (frame, nodes[argument.name], 0))
    texts = [function.ret.get(result.name, result.name) for result in function.signature.output_arg]
    results = tuple(_emit(inner, _resolve(inner, frame, text)) for text in texts)
    attributes = {key: value for key, value in function.attr.items() if key not in DROPPED_ATTRIBUTES}
    signature = OpDef()
    signature.CopyFrom(function.signature)
    del signature.control_output[:]
    signature.name = name + work.mark
    work.bodies[signature.name] = Body(signature, inner.nodes, results, attributes)


def _shape_of(node: NodeDef) -> TensorShapeProto | None:
    return node.attr["shape"].shape if "shape" in node.attr else None


def _tensor_name(work: _Expansion, source: tuple[_Frame, NodeDef, int]) -> str:
    frame, node, index = source
    tensor = f"{node.name}:{index}"
    if frame.parent is None and tensor in work.feeds:
        if tensor not in work.fed:
            _write_feed(work, node, index)
        return f"{work.fed[tensor]}:0"
    key = (id(frame), node.name)
    if key not in work.names:
        work.names[key] = _unique(work, _join(frame.prefix, node.name))
    return f"{work.names[key]}:{index}"


def _unique(work: _Expansion, name: str) -> str:
    candidate = name
    while candidate in work.taken:  # counted on from the last: a name may be wanted 100,000 times
        work.taken[name] += 1
        candidate = f"{name}_{work.taken[name]}"
    work.taken[candidate] = 0
    return candidate


def _join(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name


_CALL_NAME = re.compile(r"(Stateful)?PartitionedCall(_\d+)?$")


def _readable(call: str) -> str:
    """The part of a call's name that a person would know the layer by; generated names say nothing."""
    return _CALL_NAME.sub("", call).rstrip("/")
