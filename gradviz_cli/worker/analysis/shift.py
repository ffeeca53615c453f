"""What all classes of a softmax share is no part of their logits: taken off, as far as values say that it is that.

A softmax stays as it is where one number is added to all logits of a row. Exports use that: they subtract the largest
logit, against overflow, and may scale, clip or reshape what is left. The gradient of `z - max z` is that of no logit: for
the best class it is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE
from gradviz_cli.worker.analysis.tail import (
    PICKS,
    Computed,
    Tail,
    logits_to_feed,
    other_feeds,
    renamed,
    sizes_to_feed,
)
from gradviz_cli.worker.graph.graph import attribute, copied, source, split

Array = np.ndarray

# What may join the logits and their shift.
JOINS = frozenset({"Add", "AddV2", "Sub"})
# Keeps the difference in a range, and is left out: above, no exponential overflows; below, none counts.
CLIPS = frozenset({"ClipByValue", "Maximum", "Minimum"})
MAX_SHIFTS = 4
SEEDS = 3


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
    nodes: Mapping[str, NodeDef]


def without_shift(
    tail: Tail,
    logits: str,
    axis: int,
    shape_of: Callable[[str], Sequence[int | None] | None],
    constants: Mapping[str, Array],
) -> Plain | None:
    """The logits of a softmax before anything that all of its classes share was added; None where nothing was.

    Parameters
    ----------
    logits : str
        What the softmax takes.
    axis : int
        The axis that it runs over.
    shape_of : callable
        Tensor of the tail -> its shape, None where that is not known.
    constants : dict
        Placeholder -> what it is fed with.
    """
    found: Plain | None = None
    for before in _before_shifts(tail, logits):
        for place in (0, 1):
            way = _Way(tail, before, place, f"gradviz_plain_{tail.order[split(before)[0]]}")
            try:
                plain = Plain(way.of(logits), before, way.nodes)
            except _NoWay:
                continue
            latest = found.tensor if found else logits
            nodes = {**tail.graph.nodes, **(found.nodes if found else {}), **plain.nodes}
            if _is_shift(
                replace(tail, graph=replace(tail.graph, nodes=nodes)), plain, latest, axis, shape_of, constants
            ):
                found = plain
                break
    return found


def _before_shifts(tail: Tail, logits: str) -> Iterator[str]:
    """The tensors that all of the logits' numbers pass, each before one more that may be a shift."""
    shifts = 0
    for before in list(tail.back(logits))[1:]:
        between = [tail.graph.nodes[name] for name in tail.between(logits, before)]
        now = sum(node.op == "LogSoftmax" or len(tail.inputs[node.name]) > 1 for node in between)
        if shifts < now <= MAX_SHIFTS:
            shifts = now
            yield before


class _NoWay(Exception):
    """What lies between is more than a shift."""


class _Way:
    """Copies what lies between two tensors, and takes of each join only what is at `place`."""

    def __init__(self, tail: Tail, before: str, place: int, suffix: str):
        self._tail, self._before, self._place, self._suffix = tail, before, place, suffix
        self.nodes: dict[str, NodeDef] = {}

    def of(self, tensor: str) -> str:
        """The tensor without shifts."""
        if tensor == self._before:
            return tensor
        node = self._tail.node(tensor)
        inputs = self._tail.inputs[node.name]
        if not inputs:
            raise _NoWay
        if renamed(node) or node.op == "LogSoftmax" or (node.op in CLIPS and len(inputs) == 1):
            return self.of(inputs[0])
        if node.op in JOINS and len(inputs) > 1:
            return self._joined(node)
        if len(inputs) > 1 or node.op not in ELEMENTWISE and node.op not in PICKS:
            raise _NoWay
        copy = copied(node, f"{node.name}/{self._suffix}")
        copy.input[:] = [self.of(text) if text in inputs else text for text in node.input]
        return self._kept(copy, split(tensor)[1])

    def _joined(self, node: NodeDef) -> str:
        kept = self.of(source(node, self._place))
        if node.op != "Sub" or self._place == 0:
            return kept
        negative = NodeDef(name=f"{node.name}/{self._suffix}", op="Neg", input=[kept])
        negative.attr["T"].type = attribute(node, "T").type
        return self._kept(negative, 0)

    def _kept(self, node: NodeDef, place: int) -> str:
        self.nodes[node.name] = node
        return f"{node.name}:{place}"


def _is_shift(
    tail: Tail,
    plain: Plain,
    latest: str,
    axis: int,
    shape_of: Callable[[str], Sequence[int | None] | None],
    constants: Mapping[str, Array],
) -> bool:
    """Whether the two are apart by one number a row, which is not the same for every row. Where a clip was left out, that
    is asked of most rows: in the others it did what it is there for."""
    shape = shape_of(plain.before)
    if shape is None:
        return False
    sizes = sizes_to_feed(shape)
    others = other_feeds(tail.graph, constants, sizes[0] if sizes else 1)
    for double in (True, False):
        try:
            computed = Computed(tail.graph, plain.before, [latest, plain.tensor], others, double)
            try:
                ran = [computed(logits_to_feed(sizes, seed)) for seed in range(SEEDS)]
            finally:
                computed.close()
        except (tf.errors.OpError, ValueError, TypeError):  # no kernel for float64, or sizes that do not fit
            continue
        shifted, bare = (np.stack(column) for column in zip(*ran, strict=True))
        return _apart_by_rows(shifted, bare, axis)
    return False


def _apart_by_rows(shifted: Array, plain: Array, axis: int) -> bool:
    if shifted.shape != plain.shape:
        return False
    apart = np.moveaxis(shifted - plain, axis + (axis >= 0), -1)
    scale = np.ptp(plain)
    even = np.abs(apart - np.median(apart, -1, keepdims=True)).max(-1) <= 1e-5 * scale
    rows = apart[even][:, 0]
    return even.mean() > 0.5 and bool(np.ptp(rows) > 1e-3 * scale)
