"""What all classes of a softmax share is no part of their logits: taken off, as far as values say that it is that.

A softmax stays as it is where one number is added to all logits of a row. Exports use that: they subtract the largest
logit, against overflow, and may scale, clip, mask, quantize or reshape what is left. The gradient of `z - max z` is that of
no logit: for the best class it is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE
from gradviz_cli.worker.analysis.tail import (
    PICKS,
    Computed,
    Tail,
    computing,
    dtype_of,
    logits_to_feed,
    negative,
    other_feeds,
    renamed,
    sizes_to_feed,
)
from gradviz_cli.worker.graph.graph import attribute, constant_node, copied, data_inputs, split

Array = np.ndarray
Shape = Sequence[int | None]

# What may join the logits and their shift.
JOINS = frozenset({"Add", "AddV2", "AddN", "Sub"})
SELECTS = frozenset({"Select", "SelectV2"})
# What is left out, with how far it may change a logit, of the range of all. A clip keeps the difference in a range (above, no
# exponential overflows; below, none counts), a guard does nothing to finite numbers, a quantizer rounds.
LEFT_OUT = {
    **dict.fromkeys(("ClipByValue", "Maximum", "Minimum", *SELECTS), 1e-5),
    **dict.fromkeys(("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"), 2e-2),
    **dict.fromkeys(("QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3", "QuantizeAndDequantizeV4"), 2e-2),
}
COPIED = ELEMENTWISE | set(PICKS) | {"Pad", "PadV2", "MirrorPad"}
MAX_TRIES = 8
SEEDS = 3
# A logit so far below the best has no share that counts.
FAR = 60.0
# What puts constants beside logits.
PLACING = frozenset({"ConcatV2", "Pack", "Pad", "PadV2"})


@dataclass(frozen=True)
class Plain:
    """Logits without their shift.

    Attributes
    ----------
    tensor : str
        The logits, laid out and scaled as the softmax takes them.
    before : str
        The model's own tensor that they are made of.
    nodes : dict
        Copies of what scales, moves and lays them out, by name.
    """

    tensor: str
    before: str
    nodes: Mapping[str, NodeDef] = field(default_factory=dict)


@dataclass(frozen=True)
class Around:
    """What stands around the logits of a softmax.

    Attributes
    ----------
    axis : int
        The axis that the softmax runs over.
    shape_of : callable
        Tensor of the tail -> its shape, None where that is not known.
    constants : dict
        Placeholder -> what it is fed with.
    """

    axis: int
    shape_of: Callable[[str], Shape | None]
    constants: Mapping[str, Array]


def without_shift(tail: Tail, logits: str, around: Around) -> Plain:
    """The logits of a softmax before anything that all of its classes share was added."""
    found = Plain(logits, logits)
    for number, before in enumerate(_before_shifts(tail, logits)):
        values = _joins_of(tail, logits, before, around)
        way = _Way(tail, before, f"gradviz_plain_{number}", values)
        try:
            plain = Plain(way.of(logits), before, way.nodes)
        except _NoWay:
            continue
        if _is_shift(tail, found, plain, way, around):
            found = plain
    return found


def against_the_other(tail: Tail, plain: Plain, around: Around) -> Plain:
    """Of two classes whose one logit is a constant, as in a softmax of [0, z], each logit less the other one: the constant has
    no gradient, and says as much of the image as z does. All else as it was."""
    before = next(islice(tail.back(plain.before), 1, None), None)
    ops = {tail.graph.nodes[name].op for name in tail.between(plain.before, before)} if before else set()
    if before is None or not ops & PLACING:
        return plain
    whole = _with(tail, plain)
    ran = _ran(whole, before, [plain.tensor], around)
    classes = None if ran is None else np.moveaxis(ran[0], _stacked(around.axis), 0)
    if classes is None or len(classes) != 2 or not any(np.ptp(one) == 0 for one in classes):
        return plain
    nodes = _less_the_other(plain.tensor, around.axis % (classes.ndim - 1), dtype_of(whole.graph, plain.tensor))
    return Plain(f"{nodes[-1].name}:0", plain.before, {**plain.nodes, **{node.name: node for node in nodes}})


def _less_the_other(tensor: str, axis: int, dtype: int) -> list[NodeDef]:
    name = f"{split(tensor)[0]}/gradviz_against"
    place = constant_node(f"{name}/axis", np.array([axis], np.int32))
    other = NodeDef(name=f"{name}/other", op="ReverseV2", input=[tensor, f"{place.name}:0"])
    other.attr["Tidx"].type = tf.int32.as_datatype_enum
    apart = NodeDef(name=name, op="Sub", input=[tensor, f"{other.name}:0"])
    for node in (other, apart):
        node.attr["T"].type = dtype
    return [place, other, apart]


def _before_shifts(tail: Tail, logits: str) -> Iterator[str]:
    """The tensors that all of the logits' numbers pass, each before one more that may be a shift; the nearest few."""
    shifts = tries = 0
    for before in list(tail.back(logits))[1:]:
        between = [tail.graph.nodes[name] for name in tail.between(logits, before)]
        now = sum(node.op == "LogSoftmax" or len(tail.inputs[node.name]) > 1 for node in between)
        if shifts < now and tries < MAX_TRIES:
            shifts, tries = now, tries + 1
            yield before


class _NoWay(Exception):
    """What lies between is more than a shift."""


class _Way:
    """Copies what lies between two tensors, and leaves out of each join what all classes share.

    Attributes
    ----------
    left_out : set of str
        Operations that were left out though they may change a number.
    """

    def __init__(self, tail: Tail, before: str, suffix: str, values: Mapping[str, Array]):
        self._tail, self._before, self._suffix, self._values = tail, before, suffix, values
        self._done: dict[str, str] = {}
        self.nodes: dict[str, NodeDef] = {}
        self.left_out: set[str] = set()

    def of(self, tensor: str) -> str:
        """The tensor without shifts."""
        if tensor == self._before:
            return tensor
        if tensor not in self._done:
            self._done[tensor] = self._through(tensor)
        return self._done[tensor]

    def _through(self, tensor: str) -> str:
        node = self._tail.node(tensor)
        inputs = self._tail.inputs[node.name]
        if not inputs:
            raise _NoWay
        if renamed(node) or node.op == "LogSoftmax":
            return self.of(inputs[0])
        numbers = data_inputs(node)[1:] if node.op in SELECTS else inputs
        live = [text for text in numbers if text in inputs]
        if node.op in LEFT_OUT and len(live) == 1 and not self._is_mask(node):
            self.left_out.add(node.op)
            return self.of(live[0])
        if node.op in JOINS:
            kept = [text for text in inputs if not self._is_shared(tensor, text) and self._has_way(text)]
            if len(kept) < len(inputs):
                return self._joined(node, kept)
        if node.op not in COPIED or len(inputs) > 1 and node.op not in JOINS and node.op not in PICKS:
            raise _NoWay
        copy = copied(node, f"{node.name}/{self._suffix}")
        copy.input[:] = [self.of(text) if text in inputs else text for text in node.input]
        return self._kept(copy, split(tensor)[1])

    def _is_mask(self, node: NodeDef) -> bool:
        """It puts a constant in the place of some classes, whatever their logits."""
        return node.op in SELECTS and len(self._tail.inputs[node.name]) == 1

    def _is_shared(self, joined: str, tensor: str) -> bool:
        """All classes have the same of it: one number that is spread out, or the same one several times."""
        value, whole = self._values.get(tensor), self._values.get(joined)
        if value is None or whole is None:
            return False
        inner = value.shape[1:] if value.ndim == whole.ndim else value.shape
        return whole.size > value.size or any(
            size > 1 and bool((value == value.take([0], axis)).all())
            for axis, size in enumerate(inner, value.ndim - len(inner))
        )

    def _has_way(self, tensor: str) -> bool:
        """It is made of the logits, class by class, and no largest, sum or mean of them."""
        try:
            self.of(tensor)
        except _NoWay:
            return False
        return True

    def _joined(self, node: NodeDef, kept: Sequence[str]) -> str:
        if len(kept) != 1:
            raise _NoWay
        plain = self.of(kept[0])
        if node.op != "Sub" or data_inputs(node)[0] == kept[0]:
            return plain
        return self._kept(negative(f"{node.name}/{self._suffix}", plain, attribute(node, "T").type), 0)

    def _kept(self, node: NodeDef, place: int) -> str:
        self.nodes[node.name] = node
        return f"{node.name}:{place}"


def _with(tail: Tail, *plain: Plain) -> Tail:
    nodes = dict(tail.graph.nodes)
    for one in plain:
        nodes |= one.nodes
    return replace(tail, graph=replace(tail.graph, nodes=nodes))


def _joins_of(tail: Tail, logits: str, before: str, around: Around) -> dict[str, Array]:
    """What is joined between two tensors, and what comes out, for random numbers at the latter."""
    between = [tail.graph.nodes[name] for name in tail.between(logits, before)]
    joins = [node for node in between if node.op in JOINS]
    wanted = sorted({text for node in joins for text in (f"{node.name}:0", *tail.inputs[node.name])})
    ran = _ran(tail, before, wanted, around) if wanted else None
    return {text: value[0] for text, value in zip(wanted, ran or (), strict=ran is not None)}


def _ran(tail: Tail, before: str, wanted: Sequence[str], around: Around) -> list[Array] | None:
    """What the tensors are for random numbers at `before`, [seeds, ...] each; None where they cannot be computed."""
    shape = around.shape_of(before)
    if shape is None:
        return None
    sizes = sizes_to_feed(shape)
    others = other_feeds(tail.graph, around.constants, sizes[0] if sizes else 1)

    def ran(computed: Computed) -> list[Array]:
        rows = [computed(logits_to_feed(sizes, seed)) for seed in range(SEEDS)]
        return [np.stack(column) for column in zip(*rows, strict=True)]

    return computing(tail.graph, before, wanted, others, ran)


def _stacked(axis: int) -> int:
    """The axis, where another one stands before all."""
    return axis + (axis >= 0)


def _is_shift(tail: Tail, latest: Plain, plain: Plain, way: _Way, around: Around) -> bool:
    """Whether the two are apart by one number a row, which is not the same for every row, and not their mean: that only
    centres logits."""
    ran = _ran(_with(tail, latest, plain), plain.before, [latest.tensor, plain.tensor], around)
    if ran is None or ran[0].shape != ran[1].shape:
        return False
    shifted, bare = (np.moveaxis(one, _stacked(around.axis), -1) for one in ran)
    counts = shifted > shifted.max(-1, keepdims=True) - FAR
    scale = np.ptp(bare[counts])
    apart = np.where(counts, shifted - bare, np.nan)
    rows = np.nanmedian(apart, -1, keepdims=True)
    near = max((LEFT_OUT[op] for op in way.left_out), default=1e-5)
    even = np.abs(apart - rows)[counts] <= near * scale
    most = even.mean() > 0.5 if way.left_out else even.all()  # the rest was clipped
    centred = np.ptp(shifted.mean(-1)) <= 1e-5 * scale
    return bool(most and np.ptp(rows) > 1e-3 * scale and not centred)
