"""The activations that a gradient passes between the image and the score: what they are, and which obey the rule.

An activation is known by the values that it computes (`regions`), so it does not matter how it is spelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis import regions
from gradviz_cli.worker.analysis.known import Known, small_weight
from gradviz_cli.worker.analysis.naming import RELUS, Form
from gradviz_cli.worker.analysis.pixels import ITSELF, MAX_CHANNELS, WHOLE, Images
from gradviz_cli.worker.analysis.regions import Ends, Region
from gradviz_cli.worker.graph.graph import FIRST_ARGUMENT, Function, Graph, ancestors, called_by, data_inputs, split
from gradviz_cli.worker.graph.match import OF_SHAPES
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.wrappers import as_gradients_pass

# Of their inputs only the first (of Fill: the second) is a value; the others are sizes.
SIZED = frozenset({"BroadcastTo", "Reshape", "Tile", "ExpandDims"})


@dataclass(frozen=True)
class Activation:
    """One activation as a person counts them; several nodes when it is spelled out.

    Attributes
    ----------
    name : str
        The type it is reported as.
    entry, exit : str
        The tensors before and behind it.
    form : Form
        Which function it is; a ReLU says here where it is open.
    op : str
        `Relu` or `Relu6` where it is that one operation, else empty.
    ends : tuple
        Where a ReLU opens and closes, each a number or an array of one for each channel; None where it does not close.
    values : tuple of float
        What it is at `regions.SHOWN`; empty where that is not known.
    """

    name: str
    entry: str
    exit: str
    form: Form
    op: str = ""
    ends: Ends = field(default=(0.0, None), compare=False)
    values: tuple[float, ...] = field(default=(), compare=False)

    @property
    def is_relu(self) -> bool:
        """A ReLU, capped or not, however it is spelled."""
        return self.form.name in RELUS


@dataclass(frozen=True)
class Found:
    """The activations between the image and the score, and which of them obey the rule.

    Attributes
    ----------
    which : str
        `relu`: ReLUs obey, capped or not; `all`: smooth and leaky ones too.
    top : tuple of Activation
        Those of the graph itself.
    inside : dict
        Function of a loop or branch on the path -> those in it.
    gates : int
        Gates (hard-swish, hard-sigmoid) among their operations; these never obey.
    curves : dict
        Type -> how many other operations bend values: those that have no side that is shut, and clamps at a number that
        is not 0. No rule is for them.
    cleanings : int
        Clips of the image itself, which never obey.
    """

    which: str
    top: tuple[Activation, ...] = ()
    inside: Mapping[str, tuple[Activation, ...]] = field(default_factory=dict)
    gates: int = 0
    curves: Mapping[str, int] = field(default_factory=dict)
    cleanings: int = 0

    def obeying(self, function: str | None = None) -> list[Activation]:
        """Those of the graph, or of one of its functions, that obey."""
        here = self.top if function is None else self.inside.get(function, ())
        return [one for one in here if self.obeys(one)]

    def obeys(self, activation: Activation) -> bool:
        """Whether a rule acts on it."""
        return self.which == "all" or activation.is_relu

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Type -> (how many, how many of these obey)."""
        counts: dict[str, tuple[int, int]] = {}
        for activation in (*self.top, *(one for inside in self.inside.values() for one in inside)):
            seen, done = counts.get(activation.name, (0, 0))
            counts[activation.name] = (seen + 1, done + self.obeys(activation))
        return counts

    @property
    def patched(self) -> int:
        """How many obey."""
        return sum(done for _, done in self.counts.values())

    @property
    def left(self) -> dict[str, int]:
        """Type -> how many stay as they are."""
        return {name: seen - done for name, (seen, done) in self.counts.items() if seen > done}


def find_all(graph: Graph, question: Question) -> Found:
    """Every activation between the image, where its gradient starts, and the score, in loops and branches too."""
    image = graph.wrt
    path = value_path(graph.nodes, [split(image)[0]], [graph.score])
    known = Known(graph.nodes, _weights(graph), {*graph.weights, *graph.handles})
    bodies = _functions(graph, path, known)
    cleaned = Images(graph.functions, bodies, bool(graph.weights or graph.handles))
    level = WHOLE if question.image.dtype.is_integer else ITSELF
    pixels, within = cleaned.find(graph.nodes, (path, known), {image: level} if _is_picture(question) else {})
    seen = list(regions.find(graph.nodes, path, known, pixels))
    top, gates = _sorted_out(graph.nodes, seen)
    cleanings = _cleanings(seen)
    curves = _curves(graph.nodes, path, seen)
    inside: dict[str, tuple[Activation, ...]] = {}
    for name, (body, here) in bodies.items():
        nodes = graph.functions[name].nodes
        seen = list(regions.find(nodes, body, here, within.get(name)))
        inside[name], more = _sorted_out(nodes, seen)
        gates, curves, cleanings = gates + more, curves + _curves(nodes, body, seen), cleanings + _cleanings(seen)
    return Found(question.activations, top, inside, gates, dict(curves), cleanings)


def _is_picture(question: Question) -> bool:
    """It is no feature map that was named as the input."""
    shape = question.image.shape
    return shape is None or len(shape) < 4 or shape[3] <= MAX_CHANNELS or 0 < shape[1] <= MAX_CHANNELS


def _cleanings(found: Iterable[Region]) -> int:
    return sum(region.role == "pixels" for region in found)


CURVES = frozenset(
    {
        *("Tanh", "Sigmoid", "Erf", "Atan", "Asinh", "Sin", "Cos"),
        *("Maximum", "Minimum", "ClipByValue", "Abs", "Select", "SelectV2", "TensorScatterUpdate", "ScatterNd"),
    }
)


def _curves(nodes: Mapping[str, NodeDef], path: Iterable[str], found: Iterable[Region]) -> Counter[str]:
    """Those on the path that are in none of the regions."""
    known = {split(tensor)[0] for region in found for tensor in region.nodes}
    return Counter(nodes[name].op for name in path if name not in known and _bends(nodes, nodes[name]))


def _bends(nodes: Mapping[str, NodeDef], node: NodeDef) -> bool:
    if node.op in ("Max", "Min"):  # of what was put together, which is no pooling
        return nodes[split(node.input[0])[0]].op in ("Pack", "ConcatV2")
    return node.op in CURVES


def _sorted_out(nodes: Mapping[str, NodeDef], found: Iterable[Region]) -> tuple[tuple[Activation, ...], int]:
    """The activations among the regions, those with corners and no name too; the number of gates."""
    activations, gates = [], 0
    for region in found:
        gates += region.role == "gate"
        if region.role in ("", "composite"):
            activations.append(_activation(nodes, region))
    return tuple(activations), gates


def _activation(nodes: Mapping[str, NodeDef], region: Region) -> Activation:
    ops = {nodes[split(tensor)[0]].op for tensor in region.nodes}
    last = nodes[split(region.exit)[0]].op
    name, alone = region.form.name, len(region.nodes) == 1 and last in ("Relu", "Relu6")
    if region.role == "composite":
        name = "Composite"
    elif alone:
        name = last
    elif name == "Relu" and last in ("Maximum", "Select", "SelectV2"):
        name = last.removesuffix("V2")
    elif name == "LeakyRelu" and (region.learnt or "Relu" in ops):
        name = "PRelu"
    return Activation(name, region.entry, region.exit, region.form, last if alone else "", region.ends, region.values)


# -- which nodes carry values of the image ------------------------------------------------------------------------------


def value_path(nodes: Mapping[str, NodeDef], sources: Iterable[str], ends: Iterable[str]) -> set[str]:
    """The nodes between, not counting ways that only sizes take."""
    nodes = as_gradients_pass(nodes)
    readers: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for text in _value_inputs(node):
            readers.setdefault(split(text)[0], []).append(name)
    todo, seen = list(sources), set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(readers.get(name, ()))
    return seen & ancestors(nodes, ends)


def _value_inputs(node: NodeDef) -> list[str]:
    if node.op in OF_SHAPES:
        return []
    inputs = data_inputs(node)
    if node.op == "Fill":
        return inputs[1:]
    return inputs[:1] if node.op in SIZED else inputs


def _weights(graph: Graph) -> Callable[[str], np.ndarray | None]:
    """Placeholder -> the value of its weight, or of the variable that it stands for, where that is small enough to be
    part of an activation."""

    def value(name: str) -> np.ndarray | None:
        found = small_weight(graph, name)
        return found if found is not None and tf.dtypes.as_dtype(found.dtype).is_floating else None

    return value


# -- functions of loops and branches ------------------------------------------------------------------------------------


@dataclass
class _Call:
    """A function as those see it that call it: arguments that carry the image, and values of those that never change."""

    carrying: set[str]
    values: dict[str, np.ndarray | None]
    learnt: set[str] = field(default_factory=set)

    @property
    def state(self) -> tuple[frozenset[str], ...]:
        """What is said of the arguments: which carry the image, which have a value, and which are weights."""
        known = frozenset(name for name, value in self.values.items() if value is not None)
        return frozenset(self.carrying), known, frozenset(self.learnt)


def _functions(graph: Graph, path: set[str], known: Known) -> dict[str, tuple[set[str], Known]]:
    """Function on the path -> the nodes in it that carry values of the image, and what is known there."""
    calls: dict[str, _Call] = {}
    todo = [(graph.nodes, path, known)]
    found: dict[str, tuple[set[str], Known]] = {}
    while todo:
        nodes, within, here = todo.pop()
        for name in _called_from(graph, nodes, within, here, calls):
            function = graph.functions[name]
            carrying = calls[name].carrying = _spread(function, calls[name].carrying)
            values = {argument: value for argument, value in calls[name].values.items() if argument not in carrying}
            body = value_path(function.nodes, carrying, function.results)
            found[name] = (body, Known(function.nodes, values.get, calls[name].learnt - carrying))
            todo.append((function.nodes, *found[name]))
    return found


def _called_from(
    graph: Graph, nodes: Mapping[str, NodeDef], path: set[str], known: Known, calls: dict[str, _Call]
) -> Iterator[str]:
    """The functions that nodes on the path call, each when what its callers say of it has changed."""
    for name in sorted(path):
        node = nodes[name]
        if node.op not in FIRST_ARGUMENT:
            continue
        given = data_inputs(node)[FIRST_ARGUMENT[node.op] :]
        for called in called_by(node):
            function = graph.functions.get(called)
            if function is not None and _heard(calls, called, function, given, path, known, node.op):
                yield called


def _heard(
    calls: dict[str, _Call],
    name: str,
    function: Function,
    given: list[str],
    path: set[str],
    known: Known,
    op: str,
) -> bool:
    """Take down what one call says of a function; whether it says anything new."""
    arguments = [argument.name for argument in function.signature.input_arg]
    call = calls.setdefault(name, _Call(set(), {}))
    before = call.state
    first = not call.values
    for place, (argument, text) in enumerate(zip(arguments, given, strict=False)):
        if split(text)[0] in path:
            call.carrying.add(argument)
        kept = op not in ("While", "StatelessWhile") or hands_on(function, argument, place)
        value = known(text) if kept and split(text)[0] not in path else None
        if split(text)[0] not in path and known.is_learnt(text):
            call.learnt.add(argument)
        other = call.values.get(argument)
        same = first or (value is not None and other is not None and np.array_equal(value, other))
        call.values[argument] = value if same else None
    return first or call.state != before


def hands_on(function: Function, argument: str, place: int) -> bool:
    """Whether a loop's body gives an argument back as it got it (its condition, which gives one truth value, changes none)."""
    if len(function.results) != len(function.signature.input_arg):
        return True
    name = split(function.results[place])[0]
    while function.nodes[name].op == "Identity":
        name = split(function.nodes[name].input[0])[0]
    return name == argument


def _spread(function: Function, carrying: set[str]) -> set[str]:
    """The arguments that carry the image, with those that a loop makes of them."""
    arguments = [argument.name for argument in function.signature.input_arg]
    spread = set(carrying)
    while len(function.results) == len(arguments):
        body = value_path(function.nodes, spread, function.results)
        more = {
            argument for argument, result in zip(arguments, function.results, strict=True) if split(result)[0] in body
        }
        if more <= spread:
            break
        spread |= more
    return spread
