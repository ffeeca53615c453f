"""Between which numbers a tensor lies whatever is drawn: where both are one, chance changes nothing behind it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import compute
from gradviz_cli.worker.analysis.known import MAX_DEPTH, Known
from gradviz_cli.worker.graph.graph import data_inputs, split, types_of

Array = np.ndarray
Bound = tuple[Array, Array]  # float64 or bool, the lower end and the upper one

UNIFORM = frozenset({"RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"})
NORMAL = frozenset(
    {
        *("RandomStandardNormal", "StatelessRandomNormal", "StatelessRandomNormalV2"),
        *("TruncatedNormal", "StatelessTruncatedNormal", "StatelessTruncatedNormalV2"),
    }
)
FAR = 1e30  # no normal number is as large, and 0 times it is 0
# What rises all the way, or falls all the way, with each of its inputs as the others stay.
STEADY = frozenset(
    {
        *(
            "Identity",
            "StopGradient",
            "PreventGradient",
            "Snapshot",
            "CheckNumerics",
            "Cast",
            "LogicalNot",
            "Neg",
            "Sign",
        ),
        *("Exp", "Sigmoid", "Tanh", "Relu", "Relu6", "Floor", "Ceil", "Round", "Rint"),
        *("Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", "ClipByValue", "LogicalAnd", "LogicalOr"),
        *("Greater", "GreaterEqual", "Less", "LessEqual"),
    }
)
# These give such a number whatever else they are given.
SWALLOWING: dict[str, float] = {"Mul": 0, "MulNoNan": 0, "LogicalAnd": False, "LogicalOr": True}
# Of their inputs one is the values, the others sizes.
VALUES = {"Fill": 1, "BroadcastTo": 0, "Tile": 0, "Reshape": 0, "ExpandDims": 0, "Squeeze": 0, "Transpose": 0}


class Bounds:
    """Tensor -> its ends, None where they are not known. Each is worked out once.

    Parameters
    ----------
    given : callable
        Placeholder or argument -> its ends, or None.
    """

    def __init__(self, nodes: Mapping[str, NodeDef], given: Callable[[str], Bound | None] = lambda name: None):
        self._nodes, self._given = nodes, given
        self._known = Known(nodes, lambda name: point(given(name)))
        self._found: dict[str, Bound | None] = {}

    def __call__(self, tensor: str, depth: int = 0) -> Bound | None:
        if tensor not in self._found:
            self._found[tensor] = None  # while it is looked for: a loop has no ends
            value = self._known(tensor)
            self._found[tensor] = (value, value) if value is not None else self._ends(tensor, depth)
        return self._found[tensor]

    def point(self, tensor: str) -> Array | None:
        """The value of a tensor that chance does not change, None where that is not known."""
        return point(self(tensor))

    def _ends(self, tensor: str, depth: int) -> Bound | None:
        name, index = split(tensor)
        node, given = self._nodes.get(name), self._given(name)
        if given is not None:
            return given
        if node is None or index or depth > MAX_DEPTH:
            return None
        if node.op in UNIFORM:
            return np.float64(0), np.float64(1 - _step(node))
        if node.op in NORMAL:
            return np.float64(-FAR), np.float64(FAR)
        inputs = [self(text, depth + 1) for text in data_inputs(node)]
        if node.op in SWALLOWING and any(_is(one, SWALLOWING[node.op]) for one in inputs):
            value = np.asarray(SWALLOWING[node.op])
            return value, value
        if node.op in VALUES and len(inputs) > VALUES[node.op]:
            return _one_number(inputs[VALUES[node.op]])
        if node.op in ("Select", "SelectV2"):
            return _selected(inputs)
        ends = [one for one in inputs if one is not None]
        return _corners(node, ends) if node.op in STEADY and ends and len(ends) == len(inputs) else None


def point(bound: Bound | None) -> Array | None:
    """The value of a tensor whose ends are one."""
    return bound[0] if bound is not None and np.array_equal(*bound) else None


def _step(node: NodeDef) -> float:
    """The distance from 1 of the largest number below it that is drawn."""
    dtype = tf.dtypes.as_dtype(types_of(node)[0])
    return {tf.float64: 2.0**-52, tf.float32: 2.0**-23, tf.float16: 2.0**-10}.get(dtype, 2.0**-7)


def _is(bound: Bound | None, number: float) -> bool:
    value = point(bound)
    return value is not None and bool(np.all(value == number))


def _one_number(bound: Bound | None) -> Bound | None:
    """The same number everywhere, in whatever shape."""
    if bound is None or any(one.size != 1 for one in bound):
        return None
    return bound[0].reshape(()), bound[1].reshape(())


def _selected(inputs: Sequence[Bound | None]) -> Bound | None:
    if len(inputs) != 3 or inputs[1] is None or inputs[2] is None:
        return None
    both: Bound = (np.minimum(inputs[1][0], inputs[2][0]), np.maximum(inputs[1][1], inputs[2][1]))
    return inputs[1] if _is(inputs[0], True) else inputs[2] if _is(inputs[0], False) else both


def _corners(node: NodeDef, ends: Sequence[Bound]) -> Bound | None:
    """What is steady in each of its inputs is lowest and highest where these are."""
    try:
        with np.errstate(all="ignore"):
            values = [compute(node, corner) for corner in itertools.product(*ends)]
        low, high = np.minimum.reduce(values), np.maximum.reduce(values)
    except (ValueError, TypeError):
        return None
    known = low.dtype == bool or not np.isnan(low).any()
    return (low, high) if known else None
