"""Meta graph -> one graph of what the explained tensors need (pure functions on protocol buffers).

Function calls are inlined, branches with a constant predicate are resolved, weights become placeholders that
remember their variable, and control inputs, devices and compiler marks are dropped. A wrapper with a gradient of the
model's own stays, with its gradient function where the file holds it (`graph.wrappers`). Nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.framework.types_pb2 import DT_RESOURCE
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    MAX_NODES,
    Circle,
    Function,
    Graph,
    attribute,
    data_inputs,
    functions_in,
    placeholder,
    source,
    sources_in_order,
    split,
    topological,
    unique_mark,
)
from gradviz_cli.worker.graph.wrappers import FUNCTION, PLACES, REPLACED, SHAPES, WIDTH
from gradviz_cli.worker.read.frames import HANDLE, MAX_DEPTH, VARIABLES, Frame, Frames, Source, joined, results_of
from gradviz_cli.worker.read.gradients import Capture, OwnGradient, own_gradients

ASSIGNING = frozenset({"AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"})
REF_TWINS = {
    "RefIdentity": "Identity",
    "RefSwitch": "Switch",
    "RefMerge": "Merge",
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefNextIteration": "NextIteration",
}
# Who gives one of these a gradient of its own wrote a rule for it, and the rule is ours to choose.
ACTIVATIONS = frozenset({"Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Softsign"})
# TensorFlow's own gradient of that name: a rounding of TensorFlow 1 was told to hand the gradient on like this.
PASS = b"Identity"
OURS_TO_SAY = "_gradviz"  # an attribute that begins like this is no one else's to say
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


def inline(meta: MetaGraphDef, tensors: Iterable[str], feeds: Mapping[str, int] | None = None) -> Graph:
    """The graph of everything that `tensors` of the top level depend on.

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
    frames = Frames({function.signature.name: function for function in meta.graph_def.library.function}, feeds or {})
    writer = _Writer(frames, unique_mark(), own_gradients(meta))
    top = frames.top({node.name: node for node in meta.graph_def.node})
    outputs = tuple(writer.emit(frames.resolve(top, tensor)) for tensor in tensors)
    for nodes in (writer.nodes, *(function.nodes for function in writer.functions.values())):
        _check_order(nodes)
    return Graph(
        writer.nodes,
        writer.functions,
        writer.weights,
        writer.handles,
        outputs,
        writer.fed,
        custom_gradients=len(frames.custom_gradients),
        changed=frozenset(writer.changed),
    )


def _check_order(nodes: Mapping[str, NodeDef]) -> None:
    """Raise ModelUnusable for nodes in a circle; only a loop of TensorFlow 1 may close one, at its NextIteration."""
    try:
        topological(sources_in_order(nodes))
    except Circle as error:
        raise ModelUnusable(f"the node {error.name} depends on itself", "export the model again") from error


@dataclass
class _Writer:
    """Writes the nodes of all frames into one graph; `mark` ends the names of its functions."""

    frames: Frames
    mark: str
    gradients: Mapping[str, OwnGradient] = field(default_factory=dict)
    names: dict[tuple[int, str], str] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)  # name -> highest number given to it
    nodes: dict[str, NodeDef] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    opened: set[str] = field(default_factory=set)
    weights: dict[str, str] = field(default_factory=dict)
    handles: dict[str, str] = field(default_factory=dict)
    fed: dict[str, str] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def emit(self, wanted: Source) -> str:
        """Write the node behind `wanted`, and all that it needs, into the graph; returns its `name:index`."""
        todo = [wanted]
        while todo:
            link = todo.pop()
            if not self._written(link):
                todo.extend(self._write(*link))
        return self._tensor_name(wanted)

    def _write(self, frame: Frame, node: NodeDef, index: int) -> list[Source]:
        """Write one node; returns the sources that it needs and that are not written yet."""
        if len(self.nodes) >= MAX_NODES:
            raise ModelRefused(
                f"this model expands to more than {MAX_NODES} operations", "export the model again from its source"
            )
        name = split(self._tensor_name((frame, node, index)))[0]
        if name in self.nodes:  # a feed, written with its name
            return []
        if node.op in VARIABLES:
            self.weights[name] = node.name
            self.nodes[name] = placeholder(name, attribute(node, "dtype").type, _shape_of(node))
            return []
        if node.op == HANDLE:
            self.handles[name] = node.name
            self.nodes[name] = placeholder(name, DT_RESOURCE)
            return []
        if node.op == "ReadVariableOp":
            handle = self._variable_behind(frame, source(node, 0))
            if handle is not None:
                self.weights[name] = handle.name
                self.nodes[name] = placeholder(name, attribute(handle, "dtype").type, _shape_of(handle))
                if self._is_changed_before(frame, node, handle):
                    self.changed.add(name)
                return []
        sources = [self.frames.resolve(frame, text) for text in data_inputs(node)]
        own = self._own_gradient(frame, node)
        sources += own[1] if own else []
        pins = [pin for pin in (self._pin(frame, text) for text in node.input) if pin is not None]
        copy = self._copy(frame, node, name)
        if "_gradient_op_type" in node.attr:
            if "_gradient_op_type" not in copy.attr:
                self.frames.custom_gradients.add(name)
            self._write_own(copy, node, own[0] if own else None)
        # Loops make cycles, so a node may be named here before it is written.
        copy.input.extend(self._tensor_name(link) for link in sources)
        copy.input.extend("^" + split(self._tensor_name(pin))[0] for pin in pins)
        self.nodes[name] = copy
        return [link for link in sources + pins if not self._written(link)]

    def _pin(self, frame: Frame, text: str) -> Source | None:
        """A control input that must stay: it ties a constant to a branch or loop that only data decide."""
        if not text.startswith("^"):
            return None
        node = frame.nodes.get(text[1:])
        for _ in range(MAX_DEPTH):
            if node is None or node.op != "Identity":
                break
            behind = self.frames.resolve(frame, source(node, 0))
            if behind[1].op in ("Switch", "Merge", "LoopCond", "Enter"):
                return self.frames.resolve(frame, text[1:])
            frame, node = behind[0], behind[1]
        return None

    def _written(self, link: Source) -> bool:
        frame, node, index = link
        if frame.parent is None and f"{node.name}:{index}" in self.frames.feeds:
            return f"{node.name}:{index}" in self.fed
        return self.names.get((id(frame), node.name)) in self.nodes

    def _write_feed(self, node: NodeDef, index: int) -> None:
        tensor = f"{node.name}:{index}"
        name = self._unique(node.name if index == 0 else f"{node.name}_output_{index}")
        shape = _shape_of(node) if node.op.startswith("Placeholder") else None
        self.nodes[name] = placeholder(name, self.frames.feeds[tensor], shape)
        self.fed[tensor] = name

    def _variable_behind(self, frame: Frame, text: str) -> NodeDef | None:
        frame, node, _ = self.frames.behind_identities(self.frames.resolve(frame, text))
        return node if node.op == HANDLE and frame.parent is None else None

    def _is_changed_before(self, frame: Frame, node: NodeDef, handle: NodeDef) -> bool:
        """A variable is read after the same run has given it another value: control inputs say so, which are dropped."""
        before = [frame.nodes.get(text[1:]) for text in node.input if text.startswith("^")]
        return any(
            one is not None and one.op in ASSIGNING and self._variable_behind(frame, source(one, 0)) is handle
            for one in before
        )

    def _copy(self, frame: Frame, node: NodeDef, name: str) -> NodeDef:
        copy = NodeDef(name=name, op=REF_TWINS.get(node.op, node.op))
        if node.op == "PlaceholderWithDefault":
            copy.op = "Identity"
            copy.attr["T"].CopyFrom(attribute(node, "dtype"))
            return copy
        for key, value in node.attr.items():
            if key.startswith(OURS_TO_SAY) or key in DROPPED_ATTRIBUTES and not _passes_all(node, key):
                continue
            if value.placeholder:
                if value.placeholder not in frame.attributes:
                    raise ModelUnusable(f"{name} leaves its attribute {key} open", "export the model again")
                value = frame.attributes[value.placeholder]
            copy.attr[key].CopyFrom(value)
            for function in functions_in(copy.attr[key]):
                self._keep_function(function.name, (frame, node))
                function.name += self.mark
        return copy

    def _own_gradient(self, frame: Frame, node: NodeDef) -> tuple[OwnGradient, list[Source]] | None:
        """The gradient function of a wrapper, and what it captured; None where the file does not hold all of it."""
        own = (
            self.gradients.get(node.attr["_gradient_op_type"].s.decode("utf-8", "replace"))
            if "_gradient_op_type" in node.attr
            else None
        )
        if own is None or node.op != "IdentityN" or own.width != len(data_inputs(node)):
            return None
        with suppress(ModelUnusable, ModelRefused):  # then the model is none the worse: see `passes.own_gradients`
            captured = [self._captured(frame, capture) for capture in own.captures]
            self._keep_function(own.function)
            if own.function + self.mark in self.functions:
                return own, captured
        return None

    def _captured(self, frame: Frame, capture: Capture) -> Source:
        found = self.frames.outer(frame, *capture)
        if found is None:
            raise ModelUnusable(f"{capture[1]} is captured out of reach of {frame.prefix}", "export the model again")
        return found

    def _write_own(self, copy: NodeDef, node: NodeDef, own: OwnGradient | None) -> None:
        """Say in a node what is known of the gradient of its own."""
        if node.op != "IdentityN":
            if "_gradient_op_type" not in copy.attr and node.op not in ACTIVATIONS:
                copy.attr[REPLACED].s = b""
            return
        copy.attr[WIDTH].i = len(data_inputs(node))
        if own is not None:
            copy.attr[FUNCTION].func.name = own.function + self.mark
            copy.attr[PLACES].list.SetInParent()
            copy.attr[PLACES].list.i.extend(own.places)
            copy.attr[SHAPES].list.SetInParent()
            copy.attr[SHAPES].list.shape.extend(own.shapes)
            captured = self.frames.library[own.function].signature.input_arg[own.width :]
            copy.attr["T"].list.type.extend(argument.type for argument in captured)

    def _keep_function(self, name: str, caller: tuple[Frame, NodeDef] | None = None) -> None:
        """Take the function of a loop or branch (the `caller`), or of a gradient, along, its own calls inlined."""
        if name in self.opened:
            return
        if len(self.opened) > MAX_DEPTH + len(self.gradients):
            raise ModelRefused(
                f"the model has more than {MAX_DEPTH} loop and branch functions", "export the model again"
            )
        if name not in self.frames.library:
            raise ModelUnusable(f"the graph calls a function {name} that the file lacks", "export the model again")
        self.opened.add(name)
        function = self.frames.library[name]
        through = caller is None or self.frames.through_wrappers
        counted = set() if through else self.frames.custom_gradients
        frames = Frames(self.frames.library, custom_gradients=counted, through_wrappers=through)
        inner = _Writer(frames, self.mark, self.gradients, functions=self.functions, opened=self.opened)
        nodes = {node.name: node for node in function.node_def}
        for argument in function.signature.input_arg:
            nodes[argument.name] = NodeDef(name=argument.name, op=ARGUMENT)
            nodes[argument.name].attr["T"].type = argument.type
        frame = frames.top(nodes, name, caller)
        for argument in function.signature.input_arg:  # keep their names, whatever is read first
            inner.emit((frame, nodes[argument.name], 0))
        results = tuple(inner.emit(frames.resolve(frame, text)) for text in results_of(function))
        if caller is None:
            _check_order(inner.nodes)  # here, where it costs no more than this gradient
        attributes = {key: value for key, value in function.attr.items() if key not in DROPPED_ATTRIBUTES}
        signature = OpDef()
        signature.CopyFrom(function.signature)
        del signature.control_output[:]
        signature.name = name + self.mark
        self.functions[signature.name] = Function(signature, inner.nodes, results, attributes)

    def _tensor_name(self, link: Source) -> str:
        frame, node, index = link
        tensor = f"{node.name}:{index}"
        if frame.parent is None and tensor in self.frames.feeds:
            if tensor not in self.fed:
                self._write_feed(node, index)
            return f"{self.fed[tensor]}:0"
        key = (id(frame), node.name)
        if key not in self.names:
            self.names[key] = self._unique(joined(frame.prefix, node.name))
        return f"{self.names[key]}:{index}"

    def _unique(self, name: str) -> str:
        candidate = name
        while candidate in self.taken:  # counted on from the last: a name may be wanted 100,000 times
            self.taken[name] += 1
            candidate = f"{name}_{self.taken[name]}"
        self.taken[candidate] = 0
        return candidate


def _passes_all(node: NodeDef, key: str) -> bool:
    """Whether this attribute gives an operation of one input the gradient of an Identity."""
    told = key == "_gradient_op_type" and node.attr[key].s == PASS and node.op not in ACTIVATIONS
    return told and len(data_inputs(node)) == 1


def _shape_of(node: NodeDef) -> TensorShapeProto | None:
    return node.attr["shape"].shape if "shape" in node.attr else None
