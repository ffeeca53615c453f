"""Follows a tensor through calls, arguments and branches that constants decide, to the node that makes it.

A `Frame` is one call of a function: the function's nodes, and where its arguments come from. Nothing is copied for it,
so that a function called a thousand times costs little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.worker.graph.graph import (
    FIRST_ARGUMENT,
    MAX_NODES,
    attribute,
    data_inputs,
    outputs_of,
    source,
    walk,
    width,
)
from gradviz_cli.worker.graph.match import RENAMING_OPS

MAX_DEPTH = 1_000
MAX_CALLS = 50_000
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
BRANCHES = frozenset({"If", "StatelessIf"})
VARIABLES = frozenset({"Variable", "VariableV2", "AutoReloadVariable"})
HANDLE = "VarHandleOp"  # of a variable of TensorFlow 2
PASS_THROUGH = RENAMING_OPS | {"PlaceholderWithDefault"}


@dataclass(eq=False)
class Frame:
    """One call of a function, or the top level.

    Attributes
    ----------
    nodes : dict
        The function's nodes, by name.
    arguments : dict
        Name of an argument -> its position in `inputs`.
    parent : Frame or None
        Who calls; `inputs` are its tensors.
    prefix : str
        What the names of nodes begin with in the graph that is written.
    attributes : dict
        Values of attributes that the function leaves open.
    results : list of str
        The tensors that it gives.
    function : str
        Its name; empty at the top level.
    caller : (Frame, NodeDef) or None
        The loop or branch that names a function which is written on its own.
    """

    nodes: dict[str, NodeDef]
    arguments: Mapping[str, int] = field(default_factory=dict)
    parent: Frame | None = None
    inputs: Sequence[str] = ()
    prefix: str = ""
    attributes: Mapping[str, AttrValue] = field(default_factory=dict)
    results: Sequence[str] = ()
    children: dict[str, Frame] = field(default_factory=dict)
    depth: int = 0
    function: str = ""
    caller: tuple[Frame, NodeDef] | None = None


Source = tuple[Frame, NodeDef, int]  # a node in a frame, and which of its outputs


@dataclass
class Frames:
    """All frames of one walk over a meta graph, and what has been found in them.

    Attributes
    ----------
    library : dict
        The functions of the file.
    feeds : collection of str
        Tensors of the top level where a walk ends.
    custom_gradients : set of str
        Nodes, as they are written, with a gradient of the model's own.
    through_wrappers : bool
        Whether such nodes are looked through: in a gradient function, which nobody differentiates.
    """

    library: Mapping[str, FunctionDef]
    feeds: Mapping[str, int] = field(default_factory=dict)
    custom_gradients: set[str] = field(default_factory=set)
    through_wrappers: bool = False
    alive: list[Frame] = field(default_factory=list)  # keeps id() of frames unique
    _resolved: dict[tuple[int, str], Source] = field(default_factory=dict)
    _indexed: dict[str, tuple[dict[str, NodeDef], dict[str, int]]] = field(default_factory=dict)

    def top(self, nodes: dict[str, NodeDef], function: str = "", caller: tuple[Frame, NodeDef] | None = None) -> Frame:
        """The frame of the top level, or of a function that is written on its own."""
        frame = Frame(nodes, function=function, caller=caller)
        self.alive.append(frame)
        return frame

    def resolve(self, frame: Frame, text: str) -> Source:
        """What a reference means, seen through calls, arguments and constant branches."""
        key = (id(frame), text)
        if key not in self._resolved:
            self._resolved[key] = self._follow(frame, text)
        return self._resolved[key]

    def _follow(self, frame: Frame, text: str) -> Source:
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
                assert frame.parent is not None  # only a call has arguments
                frame, text = frame.parent, frame.inputs[position]
                continue
            node = frame.nodes.get(name)
            if node is None:
                raise ModelUnusable(f"the graph names a tensor {text} that no node makes", "export the model again")
            index = self.index(frame, node, text)
            if frame.parent is None and f"{name}:{index}" in self.feeds:
                return frame, node, index
            onward = self._onward(frame, node, index)
            if onward is None:
                return frame, node, index
            frame, text = onward

    def _onward(self, frame: Frame, node: NodeDef, index: int) -> tuple[Frame, str] | None:
        """Where the value of a transparent node really comes from; None for a node that makes it itself."""
        child = self.call(frame, node)
        if child is not None:
            if index >= len(child.results):
                raise ModelUnusable(
                    f"{node.name} is read at output {index}, its function has {len(child.results)}", "export again"
                )
            return child, child.results[index]
        if node.op == "IdentityN":
            if "_gradient_op_type" in node.attr and not self.through_wrappers:
                return None
            return frame, source(node, index)
        if node.op == "Print":
            return frame, source(node, 0)
        if node.op in ("Switch", "RefSwitch") and self.constant(frame, source(node, 1)) is not None:
            return frame, source(node, 0)
        if node.op in ("Merge", "RefMerge") and index == 0:
            live = self._live_input(frame, node)
            if live is not None:
                return frame, live
        return None

    def call(self, frame: Frame, node: NodeDef) -> Frame | None:
        """The function behind a call node (or behind a branch with a constant predicate), entered once."""
        if node.name in frame.children:
            return frame.children[node.name]
        inputs = data_inputs(node)
        if node.op in CALLS:
            function = attribute(node, "f").func
        elif node.op in BRANCHES:
            predicate = self.constant(frame, source(node, 0))
            if predicate is None:
                return None
            function, inputs = attribute(node, "then_branch" if predicate else "else_branch").func, inputs[1:]
        elif node.op in self.library:
            function = None
        else:
            return None
        name = function.name if function is not None else node.op
        attributes = dict((function.attr if function is not None else node.attr).items())
        frame.children[node.name] = self._enter(frame, node, name, inputs, attributes)
        return frame.children[node.name]

    def _enter(
        self, frame: Frame, node: NodeDef, name: str, inputs: Sequence[str], attributes: Mapping[str, AttrValue]
    ) -> Frame:
        function = self.library.get(name)
        if function is None:
            raise ModelUnusable(f"{node.name} calls a function {name} that the file lacks", "export the model again")
        if frame.depth >= MAX_DEPTH or len(self.alive) > MAX_CALLS:
            raise ModelRefused(
                f"the functions of this model call each other more than {MAX_DEPTH} deep or {MAX_CALLS} times",
                "this looks built to exhaust a reader; export the model again from its source",
            )
        if name not in self._indexed:  # once, however often it is called
            places = {argument.name: place for place, argument in enumerate(function.signature.input_arg)}
            self._indexed[name] = {inner.name: inner for inner in function.node_def}, places
        nodes, arguments = self._indexed[name]
        prefix = joined(frame.prefix, _readable(node.name))
        results, depth = results_of(function), frame.depth + 1
        child = Frame(nodes, arguments, frame, inputs, prefix, attributes, results, depth=depth, function=name)
        self.alive.append(child)
        return child

    def index(self, frame: Frame, node: NodeDef, text: str) -> int:
        """Output index of `name`, `name:index` (top level) or `name:output:index` (function body)."""
        parts = text.split(":")
        if len(parts) == 1:
            return 0
        if len(parts) == 2:
            if parts[1].isdigit():
                return int(parts[1])
            parts = [parts[0], parts[1], "0"]
        outputs = self._output_args(node)
        offset = 0
        for output, size in outputs:
            if output == parts[1]:
                return offset + int(parts[2])
            offset += size
        raise ModelUnusable(f"{node.op} node {node.name} has no output {parts[1]}", "export the model again")

    def _output_args(self, node: NodeDef) -> list[tuple[str, int]]:
        """(name, number of tensors) of each output of a node."""
        known = outputs_of(node)
        if known is not None:
            return known
        if node.op not in self.library:
            raise ModelRefused(f"op {node.op} of node {node.name} is not known to this TensorFlow", "export without it")
        return [(output.name, width(output, node)) for output in self.library[node.op].signature.output_arg]

    # -- tensors of functions around ------------------------------------------------------------------------------

    def outer(self, frame: Frame, function: str, tensor: str) -> Source | None:
        """A tensor of this function or of one around it, as this frame reaches it; None where it does not."""
        while frame.function != function and frame.parent is not None:
            frame = frame.parent
        here = tensor if frame.function == function else self._handed_in(frame, function, tensor)
        return None if here is None else self.resolve(frame, here)

    def _handed_in(self, frame: Frame, function: str, tensor: str) -> str | None:
        """The argument of a frame that brings a tensor of a function around it."""
        if frame.caller is not None:
            around, node = frame.caller
            given = data_inputs(node)[FIRST_ARGUMENT.get(node.op, 0) :]
            names = [argument.name for argument in self.library[frame.function].signature.input_arg]
        elif frame.parent is not None:
            around, node, given, names = frame.parent, None, list(frame.inputs), list(frame.arguments)
        else:
            return None
        wanted = tensor if around.function == function else self._handed_in(around, function, tensor)
        if wanted is None:
            return None
        for name, text in zip(names, given, strict=False):
            if self._place(around, text) == self._place(around, wanted) and self._stays(frame, node, name, names):
                return name
        return None

    def _place(self, frame: Frame, text: str) -> tuple[str, int]:
        """Name and output of a tensor in its own frame."""
        name = text.split(":", 1)[0]
        node = frame.nodes.get(name)
        return name, 0 if node is None or name in frame.arguments else self.index(frame, node, text)

    def _stays(self, frame: Frame, node: NodeDef | None, name: str, names: list[str]) -> bool:
        """Whether a loop hands an argument on to its next round as it got it; others have but one round."""
        if node is None or node.op not in ("While", "StatelessWhile"):
            return True
        results = results_of(self.library[frame.function])
        if len(results) != len(names):
            return True  # the condition, which hands nothing on
        return self.resolve(frame, results[names.index(name)])[1].name == name

    # -- constants and dead branches -------------------------------------------------------------------------------

    def constant(self, frame: Frame, text: str, depth: int = 0) -> bool | None:
        """The value of a boolean that does not depend on data, else None."""
        if depth > 50:
            return None
        frame, node, _ = self.resolve(frame, text)
        if node.op == "Const":
            return _boolean(node)
        if node.op in PASS_THROUGH:
            return self.constant(frame, source(node, 0), depth + 1)
        if node.op == "LogicalNot":
            value = self.constant(frame, source(node, 0), depth + 1)
            return None if value is None else not value
        if node.op in ("LogicalAnd", "LogicalOr"):
            values = [self.constant(frame, source(node, place), depth + 1) for place in (0, 1)]
            decisive = node.op == "LogicalOr"
            if decisive in values:
                return decisive
            return None if None in values else not decisive
        return None

    def _live_input(self, frame: Frame, node: NodeDef) -> str | None:
        """The only input of a Merge that can carry a value, when constants decide it."""
        states = [(text, self._is_dead(frame, text)) for text in data_inputs(node)]
        if any(dead for _, dead in states):
            alive = [text for text, dead in states if not dead]
            return alive[0] if len(alive) == 1 else None
        return None

    def _is_dead(self, frame: Frame, text: str) -> bool:
        """True when a Switch with a constant predicate never lets a value through to this tensor."""
        todo = [(frame, text)]
        seen: set[tuple[int, str]] = set()
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
                predicate = self.constant(frame, source(node, 1))
                if predicate is not None and self.index(frame, node, text) != int(predicate):
                    return True
            todo.extend((frame, text) for text in node.input)
        return False

    def behind_identities(self, start: Source) -> Source:
        """Where a value comes from that Identities hand on."""

        def onward(link: Source) -> Source | None:
            frame, node, _ = link
            return self.resolve(frame, source(node, 0)) if node.op in ("Identity", "RefIdentity") else None

        *_, last = walk(start, onward, MAX_DEPTH)
        if last[1].op in ("Identity", "RefIdentity"):
            raise ModelRefused(f"the references around {last[1].name} never end", "export the model again")
        return last


def _boolean(node: NodeDef) -> bool | None:
    tensor = attribute(node, "value").tensor
    for values in (tensor.bool_val, tensor.int_val, tensor.float_val):
        if len(values):
            return bool(values[0])
    if tensor.tensor_content:
        return any(tensor.tensor_content)
    return None


def results_of(function: FunctionDef) -> list[str]:
    """The tensors that a function of the library gives."""
    return [function.ret.get(result.name, result.name) for result in function.signature.output_arg]


def joined(prefix: str, name: str) -> str:
    """A name behind the prefix of its frame."""
    return f"{prefix}/{name}" if prefix else name


_CALL_NAME = re.compile(r"(Stateful)?PartitionedCall(_\d+)?$")


def _readable(call: str) -> str:
    """The part of a call's name that a person would know the layer by; generated names say nothing."""
    return _CALL_NAME.sub("", call).rstrip("/")
