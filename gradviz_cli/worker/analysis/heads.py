"""The softmax or sigmoid that ends a model, known by the values that it computes.

The tensors that everything on the way to the output passes are asked, from the output back: does the output, computed for
random numbers given there, equal softmax, log softmax, sigmoid or log sigmoid of them, or an increasing affine map of that
(percent), reshaped and picked as the model does it? Then they are the logits. However the function is spelled, and whatever
else it may look like: only a function with these values is bypassed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.process.protocol import LAYOUTS
from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE, sigmoid, softplus
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.known import Known, small_weight
from gradviz_cli.worker.analysis.scores import class_axis
from gradviz_cli.worker.analysis.shift import Around, against_the_other, without_shift
from gradviz_cli.worker.analysis.tail import (
    LAYERS,
    PICKS,
    ROWS,
    Computed,
    Tail,
    computing,
    logits_to_feed,
    negative,
    ops_before,
    other_feeds,
    reading,
    renamed,
    sizes_to_feed,
    tail_of,
)
from gradviz_cli.worker.graph.graph import BRANCHES, Graph, attribute, copied, data_inputs, source, split
from gradviz_cli.worker.graph.match import RENAMING_OPS, SHAPE_OPS, through
from gradviz_cli.worker.graph.question import Head, Part, Question, static_tensors

Array = np.ndarray

# Operations that are the function by definition: where nothing but these ends a model, no value has to be computed.
BY_NAME = {"Softmax": "softmax", "LogSoftmax": "log softmax", "Sigmoid": "sigmoid"}
# Without one of these no tail computes a softmax or a sigmoid.
EXPONENTIAL = frozenset({*BY_NAME, *BRANCHES, "Exp", "Expm1", "Tanh", "Softplus", "Pow"})
# Where a softmax or sigmoid that is spelled out can end.
SPELLED_ENDS = BRANCHES | {
    "RealDiv",
    "Div",
    "DivNoNan",
    "Reciprocal",
    "Inv",
    "Exp",
    "Mul",
    "Sub",
    "Add",
    "AddV2",
    "Pow",
}
MAX_TRIES = 14
# Functions that fall where their argument rises.
FALLING = frozenset({"Neg", "Reciprocal", "Inv", "Rsqrt"})
# Layers behind which numbers may still be probabilities.
MIXING = frozenset({"MatMul", "BatchMatMulV2", "AvgPool"})
# What is said of the operations behind a probability.
DONE = {
    **dict.fromkeys(("ClipByValue", "Maximum", "Minimum"), "clipped"),
    **dict.fromkeys(("Mean", "AvgPool"), "averaged"),
    **dict.fromkeys(("Add", "AddV2", "AddN", "Sum"), "added up"),
    **dict.fromkeys(("Sub", "Neg"), "subtracted"),
    **dict.fromkeys(("Mul", "Prod", "MatMul"), "multiplied"),
    **dict.fromkeys(("RealDiv", "Div", "DivNoNan", "Reciprocal"), "divided"),
    **dict.fromkeys(("Pow", "Square", "Sqrt"), "raised to a power"),
    "Max": "reduced to the largest",
    "Log": "taken the logarithm of",
}


@dataclass(frozen=True)
class Setting:
    """What stands around a tail: the size of the images, whether they come in a batch, the other inputs."""

    size: tuple[int, int]
    alone: bool
    constants: Mapping[str, Array] = field(default_factory=dict)

    @staticmethod
    def of(entry: Entry, constants: Mapping[str, Array]) -> Setting:
        return Setting(entry.size, "N" not in LAYOUTS[entry.layout], constants)


def find_head(graph: Graph, question: Question, setting: Setting) -> Head | None:
    """What the output ends in, if that is a softmax or sigmoid by value; None for an output that is no probability, or one
    that no single logit stands for.

    Raises
    ------
    ModelUnusable
        The output is sorted: its places are no classes.
    """
    if not ops_before(graph, graph.shown) & EXPONENTIAL:
        return None
    end = through(graph.nodes, graph.shown, RENAMING_OPS)
    by_name = _by_name(graph.node(end)) if graph.node(end).op in BY_NAME else None
    if by_name and by_name.name == "sigmoid":
        return by_name
    tail = tail_of(graph, question.fed(graph), graph.shown)
    if tail is None:
        return by_name
    search = _Search(tail, question, setting)
    return search.plain(by_name, -1) if by_name else search.head(graph.shown)


def _by_name(node: NodeDef) -> Head:
    return Head(node.name, BY_NAME[node.op], source(node, 0), source(node, 0))


def hidden_probability(graph: Graph, question: Question, setting: Setting) -> str | None:
    """A warning where the score depends on the image through nothing but probabilities."""
    mixed = graph.node(through(graph.nodes, graph.score, SHAPE_OPS)).op in MIXING
    if not ops_before(graph, graph.score, LAYERS - MIXING if mixed else LAYERS) & EXPONENTIAL:
        return None
    tail = tail_of(graph, question.fed(graph), graph.score)
    behind = _Behind(tail, question, setting).found() if tail else None
    if not behind:
        return None
    done, logits = behind
    score = f"the output {question.output.key}" if graph.score == graph.output else graph.score
    return (
        f"the score is {score}, a probability, whose gradient vanishes where the model is sure: "
        f"its softmax or sigmoid is {' and '.join(done) or 'not the last step'}, so that no single logit stands for it; "
        f"explain {' or '.join(logits[:2])} with --output, or settle it with --score output"
    )


# -- the way from the logits to the output -----------------------------------------------------------------------------


class _NoWay(Exception):
    """What lies between is more than picking and reshaping."""


class _Way:
    """The reshapes and picks between logits and output, to be done to the logits themselves.

    `logits` says of tensors what logits stand for them. With `signed`, what falls where the logit rises is the negative
    logit: 1 - sigmoid(z) is sigmoid(-z).
    """

    def __init__(self, tail: Tail, logits: Mapping[str, str], known: Known, signed: bool = False):
        self._tail, self._logits, self._known, self.signed = tail, logits, known, signed
        self.nodes: dict[str, NodeDef] = {}
        self.left_out: list[str] = []
        self._done: dict[str, str] = {}
        self._negatives: dict[str, str] = {}

    def of(self, tensor: str) -> str:
        """The tensor of logits that stands for one of the probabilities."""
        if tensor in self._logits:
            return self._logits[tensor]
        if tensor not in self._done:
            self._done[tensor] = self._through(tensor)
        return self._done[tensor]

    def _through(self, tensor: str) -> str:
        node, inputs = self._tail.node(tensor), self._tail.inputs.get(split(tensor)[0], ())
        if not inputs:
            raise _NoWay
        if renamed(node):
            return self.of(inputs[0])
        if node.op in PICKS or _between_floats(node):
            return self._copied(tensor, node, inputs)
        self.left_out.append(node.name)
        if node.op in BY_NAME or node.op in BRANCHES and len(inputs) == 1:
            return self.of(inputs[0])
        if len(inputs) > 1 or node.op not in ELEMENTWISE:
            before = list(self._tail.back(tensor))
            if len(before) < 2 or len(inputs) == 1:
                raise _NoWay
            return self.of(before[1])
        before_it = self.of(inputs[0])
        return self._negative(node, before_it) if self.signed and self._falls(node, inputs[0]) else before_it

    def _falls(self, node: NodeDef, tensor: str) -> bool:
        """1 - p, 1 / x, -x, x * -2: the larger the smaller."""
        others = [self._known(text) for text in data_inputs(node) if text != tensor]
        below = any(value is not None and bool((value < 0).all()) for value in others)
        if node.op in ("Mul", "RealDiv", "Div"):
            return below != (node.op != "Mul" and source(node, 1) == tensor)
        return node.op in FALLING or node.op == "Sub" and source(node, 1) == tensor

    def _copied(self, tensor: str, node: NodeDef, inputs: Sequence[str]) -> str:
        picked = set(data_inputs(node)[PICKS.get(node.op, slice(1))])
        if not set(inputs) <= picked:
            raise _NoWay
        copy = copied(node, f"{node.name}/gradviz_logit")
        copy.input[:] = [self.of(text) if text in inputs else text for text in node.input]
        self.nodes[copy.name] = copy
        return f"{copy.name}:{split(tensor)[1]}"

    def _negative(self, node: NodeDef, tensor: str) -> str:
        if tensor in self._negatives:
            return self._negatives[tensor]
        made = negative(f"{node.name}/gradviz_logit", tensor, attribute(node, "T").type)
        self.nodes[made.name] = made
        self._negatives[f"{made.name}:0"] = tensor
        return f"{made.name}:0"


def _between_floats(node: NodeDef) -> bool:
    return node.op == "Cast" and all(
        tf.dtypes.as_dtype(attribute(node, end).type).is_floating for end in ("SrcT", "DstT")
    )


# -- what it computes --------------------------------------------------------------------------------------------------


class _Function(NamedTuple):
    """The function that leads from logits to a tensor, the axis of the logits that a softmax runs over, and what the tensor
    holds of a softmax where that is not all."""

    name: str
    axis: int | None = None
    part: Part | None = None


class _Search:
    """Looks for the logits of tensors of one tail."""

    def __init__(self, tail: Tail, question: Question, setting: Setting):
        self._tail, self._question, self._setting = tail, question, setting
        self.known = Known(tail.graph.nodes, lambda name: small_weight(tail.graph, name))
        self._shapes: dict[str, tuple[int | None, ...] | None] = {}

    def head(self, end: str) -> Head | None:
        """The head that ends in this tensor."""
        return self._nearest(end, signed=False) or self._nearest(end, signed=True) or self._side_by_side(end)

    def _nearest(self, end: str, signed: bool) -> Head | None:
        tries = 0
        for logits in list(self._tail.back(end))[1:]:
            between = self._tail.between(end, logits)
            if not {self._tail.graph.nodes[name].op for name in between} & EXPONENTIAL:
                continue
            tries += 1
            found = self._at(end, logits, signed) if tries <= MAX_TRIES else None
            if found:
                return found
        return None

    def _side_by_side(self, end: str) -> Head | None:
        """The head of several sigmoids that are put together, each of which has its own logits."""
        heads: dict[str, Head] = {}
        parts = list(self._parts(end))
        for part in parts if len(parts) > 1 else ():
            head = self._of_part(part)
            if head is None or "sigmoid" not in head.name or any(one.name != head.name for one in heads.values()):
                return None
            heads[part] = head
        if not heads:
            return None
        way = _Way(self._tail, {part: head.score for part, head in heads.items()}, self.known)
        score, first = way.of(end), next(iter(heads.values()))
        nodes = [node for head in heads.values() for node in head.nodes]
        return replace(first, logits=score, score=score, nodes=(*nodes, *way.nodes.values()))

    def _parts(self, end: str) -> Iterator[str]:
        """What a tensor is put together of."""
        todo, seen = [end], set[str]()
        while todo:
            tensor = todo.pop()
            node, inputs = self._tail.node(tensor), self._tail.inputs.get(split(tensor)[0], ())
            same = slice(1) if renamed(node) or _between_floats(node) else slice(0)
            if inputs and set(inputs) == set(data_inputs(node)[PICKS.get(node.op, same)]):
                todo.extend(one for one in inputs if one not in seen)
            elif tensor not in seen:
                yield tensor
            seen.add(tensor)

    def _of_part(self, part: str) -> Head | None:
        node = self._tail.node(part)
        if node.op in BY_NAME:
            return _by_name(node)
        try:
            return self._nearest(part, signed=False) if node.op in SPELLED_ENDS else None
        except ModelUnusable:  # the part is sorted, the whole is not
            return None

    def _at(self, end: str, logits: str, signed: bool) -> Head | None:
        way = _Way(self._tail, {logits: logits}, self.known, signed)
        try:
            score = way.of(end)
        except _NoWay:
            return None
        if signed and not any(node.op == "Neg" for node in way.nodes.values()):
            return None  # tried already
        found = self._named(end, logits, way, score)
        return self._head(found, logits, way, score) if found else None

    def _head(self, found: _Function, logits: str, way: _Way, score: str) -> Head:
        named = [one for one in way.left_out if self._tail.graph.nodes[one].op in BY_NAME] or way.left_out
        head = Head(named[0], found.name, logits, score, tuple(way.nodes.values()), found.part)
        return head if found.axis is None else self.plain(head, found.axis)

    def plain(self, head: Head, axis: int) -> Head:
        """The head whose logits are without what all classes share, such as the largest of them."""
        around = Around(axis, self._shape, self._setting.constants)
        plain = against_the_other(self._tail, without_shift(self._tail, head.logits, around), around)
        if not plain.nodes and plain.tensor == head.logits:
            return head
        laid_out = [reading(node, head.logits, plain.tensor) for node in head.nodes]
        score = plain.tensor if head.score == head.logits else head.score
        return replace(head, logits=plain.before, score=score, nodes=(*plain.nodes.values(), *laid_out))

    def _named(self, end: str, logits: str, way: _Way, score: str) -> _Function | None:
        """The function that leads from the logits to `end`."""
        shape = self._shape(logits)
        if shape is None:
            return None
        sizes = sizes_to_feed(shape)
        graph = replace(self._tail.graph, nodes={**self._tail.graph.nodes, **way.nodes})
        others = other_feeds(graph, self._setting.constants, sizes[0] if sizes else 1)
        return computing(graph, logits, [end, score], others, lambda computed: self._compared(computed, sizes, way))

    def _compared(self, computed: Computed, sizes: list[int], way: _Way) -> _Function | None:
        rows = int(np.prod(sizes[:-1])) if sizes else 1
        fed = [logits_to_feed(sizes, seed) for seed in range(-(-ROWS // max(1, rows)))]
        ran = [computed(one) for one in fed]
        outputs, scores = (np.stack(column) for column in zip(*ran, strict=True))
        functions: dict[str, Callable[[], Array]] = {
            "sigmoid": lambda: sigmoid(scores),
            "log sigmoid": lambda: -softplus(-scores),
        }
        for name, function in functions.items():
            if line := _affine(outputs, function()):
                return _Function(_said(name, *line))
        for axis in () if way.signed else _axes(sizes):
            for beside in (False, True):
                soft = np.stack([computed(_softmax(one, axis, beside))[1] for one in fed])
                for name, values in (("softmax", soft), ("log softmax", np.log(np.maximum(soft, 1e-300)))):
                    line = _affine(outputs, values)
                    if line and self._classes_share(computed, sizes, axis):
                        part = beside or scores[0].size < np.prod(sizes)
                        return _Function(_said(name, *line), axis, Part(name != "softmax", *line) if part else None)
        if outputs.shape[-1] > 2 and outputs.ndim > 2 and (np.diff(outputs, axis=-1) <= 0).all() and np.ptp(outputs):
            raise ModelUnusable(
                f"the output {self._question.output.key} is sorted: its places are ranks and no classes",
                "explain what it is sorted from with --output NAME",
            )
        return None

    def _classes_share(self, computed: Computed, sizes: list[int], axis: int) -> bool:
        """All classes that are ranked with each other stand in one softmax."""
        groups = np.expand_dims(np.arange(np.prod(sizes) // sizes[axis]).reshape(np.delete(sizes, axis)), axis)
        laid = computed(np.broadcast_to(groups, sizes).astype(np.float64))[1]
        laid = laid[None] if self._setting.alone else laid
        if laid.ndim < 2:
            return True
        classes = class_axis(laid.shape, self._setting.size)
        return bool((laid == np.take(laid, [0], classes)).all())

    def _shape(self, tensor: str) -> tuple[int | None, ...] | None:
        if not self._shapes:
            wanted = [one for one in self._tail.order if self._tail.node(one).op != "Split"]
            names = [f"{name}:0" for name in wanted]
            for name, static in zip(names, static_tensors(self._tail.graph.pruned(names), *names), strict=True):
                known = static.shape.rank is not None and static.dtype.is_floating
                self._shapes[name] = tuple(static.shape.as_list()) if known else None
        return self._shapes.get(tensor)


def _axes(sizes: list[int]) -> Iterator[int]:
    """The axes that a softmax may run over: the last, the second."""
    for axis in dict.fromkeys((len(sizes) - 1, 1)):
        if 0 <= axis < len(sizes) and sizes[axis] > 1:
            yield axis


def _softmax(values: Array, axis: int, beside: bool) -> Array:
    """Also `beside` a class whose logit is 0, and which is not in the output."""
    most = values.max(axis, keepdims=True)
    most = np.maximum(most, 0) if beside else most
    powers = np.exp(values - most)
    return powers / (powers.sum(axis, keepdims=True) + beside * np.exp(-most))


def _affine(outputs: Array, values: Array) -> tuple[float, float] | None:
    """a and b where the outputs are a * values + b with a above 0, to a ten-thousandth of each value."""
    if outputs.shape != values.shape or not np.isfinite(outputs).all() or np.ptp(values) == 0:
        return None
    top, bottom = values.argmax(), values.argmin()
    factor = (outputs.flat[top] - outputs.flat[bottom]) / (values.flat[top] - values.flat[bottom])
    shift = outputs.flat[bottom] - factor * values.flat[bottom]
    if factor <= 0:
        return None
    error = np.abs(outputs - factor * values - shift)
    if (error > 1e-4 * factor * np.abs(values) + 1e-11 * (factor + abs(shift))).any():
        return None
    return float(factor), float(shift)


def _said(name: str, factor: float, shift: float) -> str:
    times = f", times {factor:.4g}" if abs(factor - 1) > 1e-4 else ""
    return f"{name}{times}{f', plus {shift:.4g}' if abs(shift) > 1e-6 * factor else ''}"


# -- probabilities that no logit stands for ----------------------------------------------------------------------------


class _Behind:
    """Follows a score back to the probabilities that it is made of."""

    def __init__(self, tail: Tail, question: Question, setting: Setting):
        self._tail, self._question, self._setting = tail, question, setting
        self._search = _Search(tail, question, setting)

    def found(self) -> tuple[list[str], list[str]] | None:
        """What is done to the probabilities, and their logits; None where the score has a way around them."""
        logits: list[str] = []
        done: list[str] = []
        todo, seen = [self._tail.end], set()
        while todo:
            tensor = todo.pop(0)
            if tensor in seen:
                continue
            seen.add(tensor)
            node, before = self._tail.node(tensor), self._logits(tensor)
            if before is not None:
                logits.append(before)
                continue
            if node.op not in PICKS and not renamed(node):
                done.append(DONE.get(node.op, f"behind {node.op}"))
            onward = self._tail.inputs.get(node.name)
            if not onward:
                beyond = self._beyond(node)
                if beyond is None:
                    return None
                done.extend(beyond[0])
                logits.extend(beyond[1])
            todo.extend(onward or ())
        return list(dict.fromkeys(done)), list(dict.fromkeys(logits))

    def _logits(self, tensor: str) -> str | None:
        node = self._tail.node(tensor)
        if node.op in BY_NAME:
            named = _by_name(node)
            return named.logits if named.name == "sigmoid" else self._search.plain(named, -1).logits
        if node.op not in SPELLED_ENDS or not self._tail.inputs.get(node.name):
            return None
        head = self._search.head(tensor)
        return head.logits if head else None

    def _beyond(self, node: NodeDef) -> tuple[list[str], list[str]] | None:
        """The same of what a layer adds up with fixed weights, none of them negative: still a probability."""
        inputs = data_inputs(node)
        if node.op not in MIXING:
            return None
        fixed = [self._search.known(text) if node.op != "AvgPool" else None for text in inputs]
        free = [text for text, value in zip(inputs, fixed, strict=True) if value is None]
        if len(free) != 1 or any(value is not None and (value < 0).any() for value in fixed):
            return None
        tail = tail_of(self._tail.graph, self._question.fed(self._tail.graph), free[0])
        return _Behind(tail, self._question, self._setting).found() if tail else None
