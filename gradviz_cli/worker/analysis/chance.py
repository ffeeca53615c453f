"""Whether each run gives another score: random numbers on the way to it (dropout, noise or augmentation that was left on), or
variables that a run changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.activations import hands_on
from gradviz_cli.worker.analysis.bounds import Bound, Bounds
from gradviz_cli.worker.analysis.known import as_numbers, small_weight
from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    BRANCHES,
    FIRST_ARGUMENT,
    Graph,
    ancestors,
    called_by,
    data_inputs,
    source,
    split,
)
from gradviz_cli.worker.graph.tf_private import op_def

# What TensorFlow calls operations that draw, stateful ones or not.
DRAWING = (
    *(
        "Random",
        "Multinomial",
        "TruncatedNormal",
        "StatefulUniform",
        "StatefulStandardNormal",
        "StatefulTruncatedNormal",
    ),
    *("Distorted", "FractionalAvgPool", "FractionalMaxPool", "RngReadAndSkip", "StatelessShuffle"),
)
_GRADIENT = "Grad"  # of one, which draws nothing
# What tells one without a state what to draw, and what reads a variable for that.
_TOLD = frozenset({"seed", "key", "counter"})
_READING = frozenset({"ReadVariableOp"})
MAX_READ = 200_000  # tensors; of a graph that calls on and on, all is taken to be read

Array = np.ndarray


@dataclass(frozen=True)
class Chance:
    """What each run of a model does otherwise, as far as its outputs hang on it.

    Attributes
    ----------
    drawn : tuple of NodeDef
        Operations that draw other numbers in each run.
    changed : tuple of str
        Variables that the model changes before it reads them.
    """

    drawn: tuple[NodeDef, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """What there is to say of it."""
        if self.drawn:
            first = self.drawn[0]
            return (
                f"the model is random ({first.op} in {first.name}: dropout, noise or augmentation left on?): "
                "TensorFlow draws other numbers in each run, gradviz the same for every image; export it for inference, or "
                "explain a tensor before that with --output NAME"
            )
        if self.changed:  # what is known of them is their saved value
            return (
                f"each run of the model changes the variable {' and '.join(self.changed[:2])} and reads it then; its saved "
                "value is taken, so that the score may be another than the model's; export it for inference, or explain a "
                "tensor before that with --output NAME"
            )
        return None


def find_chance(graph: Graph, constants: Mapping[str, Array] = MappingProxyType({})) -> Chance:
    """What the outputs hang on that each run draws or changes anew, in loops and branches too.

    An operation without a state draws the same numbers for the same seed; that is no chance where the seed is written in the
    graph. Keras keeps it in a variable that each run changes. Nothing hangs on what is drawn where the other numbers of the
    graph switch it off: a dropout that keeps everything, a branch of training that is not taken.

    Parameters
    ----------
    constants : mapping
        Placeholder -> value of the other inputs.
    """
    scopes = [graph.nodes, *(function.nodes for function in graph.functions.values())]
    drawing = [(nodes, node) for nodes in scopes for _, node in sorted(nodes.items()) if _draws(graph, nodes, node)]
    if not drawing and not graph.changed:
        return Chance()
    read = _read(graph, constants)
    drawn = tuple(node for nodes, node in drawing if (id(nodes), node.name) in read)
    names = {graph.weights[name] for name in graph.changed if (id(graph.nodes), name) in read}
    return Chance(drawn, tuple(sorted(names)))


@dataclass(frozen=True, eq=False)
class _Scope:
    """The graph or, as one call sees it, a function: where its arguments come from, as far as they are handed on."""

    place: str
    nodes: Mapping[str, NodeDef]
    bounds: Bounds
    arguments: Mapping[str, tuple[_Scope, str]]


def _read(graph: Graph, constants: Mapping[str, Array]) -> set[tuple[int, str]]:
    """The nodes that the outputs are made of, each with the identity of what holds it; those that others switch off are
    left out, and what lies behind numbers that are the same whatever is drawn."""

    def given(name: str) -> Bound | None:
        value = as_numbers(constants[name] if name in constants else _weight(graph, name))
        return None if value is None else (value, value)

    top = _Scope("", graph.nodes, Bounds(graph.nodes, given), {})
    todo = [(top, tensor) for tensor in graph.outputs]
    seen: set[tuple[str, str]] = set()
    read: set[tuple[int, str]] = set()
    while todo:
        scope, tensor = todo.pop()
        name = split(tensor)[0]
        if (scope.place, tensor) in seen or name not in scope.nodes:
            continue
        seen.add((scope.place, tensor))
        if len(seen) > MAX_READ:
            scopes = (graph.nodes, *(function.nodes for function in graph.functions.values()))
            return {(id(nodes), name) for nodes in scopes for name in nodes}
        node = scope.nodes[name]
        if scope.bounds.point(tensor) is None:
            read.add((id(scope.nodes), name))
            todo.extend(_sources(graph, scope, node, split(tensor)[1]))
    return read


def _weight(graph: Graph, name: str) -> Array | None:
    """The value of a small one, which no run changes."""
    return None if name in graph.changed else small_weight(graph, name)


def _sources(graph: Graph, scope: _Scope, node: NodeDef, index: int) -> list[tuple[_Scope, str]]:
    """What one output of a node is made of."""
    inputs = data_inputs(node)
    if node.op == ARGUMENT:
        return [scope.arguments[node.name]] if node.name in scope.arguments else []
    if node.op in ("Select", "SelectV2") and len(inputs) == 3:
        asked = scope.bounds.point(inputs[0])
        sides = (True, True) if asked is None else (asked.any(), not asked.all())
        return [(scope, text) for text, read in zip(inputs, (True, *sides), strict=True) if read]
    called = [name for name in called_by(node) if name in graph.functions]
    if node.op in BRANCHES:
        asked = scope.bounds.point(inputs[0])
        taken = called if asked is None or asked.size != 1 else [name for name in _taken(node, asked) if name in called]
        inner = [(_called(graph, scope, node, name, inputs[1:]), graph.functions[name].results) for name in taken]
        return [*((body, results[index]) for body, results in inner), (scope, inputs[0])]
    given = _handed_on(graph, node)
    bodies = [(_called(graph, scope, node, name, given), graph.functions[name].results) for name in called]
    return [*((scope, text) for text in inputs), *((body, text) for body, results in bodies for text in results)]


def _handed_on(graph: Graph, node: NodeDef) -> list[str]:
    """What a loop hands to its functions, empty where it changes on the way: what it begins with is no argument of theirs then."""
    body = graph.functions.get(node.attr["body"].func.name) if node.op in FIRST_ARGUMENT else None
    if body is None:
        return []
    names = [argument.name for argument in body.signature.input_arg]
    places = enumerate(zip(names, data_inputs(node), strict=False))
    return [text if hands_on(body, name, place) else "" for place, (name, text) in places]


def _taken(node: NodeDef, asked: Array) -> list[str]:
    """The one branch that a value asks for; Case takes the last for numbers that are none of its own."""
    if node.op.endswith("If"):
        return [node.attr["then_branch" if asked.any() else "else_branch"].func.name]
    branches = [function.name for function in node.attr["branches"].list.func]
    number = int(asked.item())
    return [branches[number if 0 <= number < len(branches) else -1]]


def _called(graph: Graph, scope: _Scope, node: NodeDef, name: str, given: Sequence[str]) -> _Scope:
    function = graph.functions[name]
    names = [argument.name for argument in function.signature.input_arg]
    arguments = {argument: (scope, text) for argument, text in zip(names, given, strict=False) if text}

    def ends(argument: str) -> Bound | None:
        return scope.bounds(arguments[argument][1]) if argument in arguments else None

    return _Scope(f"{scope.place}{node.name}/{name}/", function.nodes, Bounds(function.nodes, ends), arguments)


def changes(node: NodeDef) -> bool:
    """Whether an operation draws other numbers each time that it runs."""
    if not any(word in node.op for word in DRAWING) or node.op.endswith(_GRADIENT):
        return False
    if node.op.startswith("Fractional"):
        return not (node.attr["deterministic"].b and (node.attr["seed"].i or node.attr["seed2"].i))
    definition = op_def(node.op)
    return definition is None or definition.is_stateful


def _draws(graph: Graph, nodes: Mapping[str, NodeDef], node: NodeDef) -> bool:
    if changes(node):
        return True
    definition = op_def(node.op)
    if definition is None or not any(word in node.op for word in DRAWING):
        return False
    told = [source(node, place) for place, one in enumerate(definition.input_arg) if one.name in _TOLD]
    return any(name in graph.weights or nodes[name].op in _READING for name in ancestors(nodes, told))
