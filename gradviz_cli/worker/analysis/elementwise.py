"""Elementwise operations in float64, a line of NumPy each: the alphabet in which activations are spelled.

Only what gives one number for the numbers at one place belongs here; what sums, moves or reshapes does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import attribute

Array = np.ndarray

# Klambauer et al. 2017, arXiv:1706.02515, equation 14
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    return np.logaddexp(0, x)


def distinct(values: Array, axis: int | None = None) -> Array:
    """`np.unique`, which imports NumPy's masked arrays where it is not asked for places too."""
    return np.unique(values, axis=axis, return_index=True)[0]


def erf(x: Array) -> Array:
    """The error function, each different number computed once: `math.erf` is exact, and slow."""
    numbers, places = np.unique(x, return_inverse=True)
    return np.array([math.erf(number) for number in numbers], float)[places].reshape(np.shape(x))


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x above 0, alpha (exp(x) - 1) below."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    """A scaled ELU."""
    return SELU_SCALE * elu(x, SELU_ALPHA)


def _ratio_or_zero(a: Array, b: Array) -> Array:
    return np.where(b == 0, 0.0, a / np.where(b == 0, 1.0, b))


OPERATIONS: dict[str, Callable[..., Array]] = {
    # of one number
    **dict.fromkeys(("Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics"), lambda x: x),
    "Neg": np.negative,
    "Abs": np.abs,
    "Sign": np.sign,
    "Exp": np.exp,
    "Expm1": np.expm1,
    "Log": np.log,
    "Log1p": np.log1p,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Square": np.square,
    "Reciprocal": lambda x: 1 / x,
    "Inv": lambda x: 1 / x,
    "Sigmoid": sigmoid,
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "Relu6": lambda x: np.clip(x, 0, 6),
    "Elu": elu,
    "Selu": selu,
    "Softplus": softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Erf": erf,
    "Erfc": lambda x: 1 - erf(x),
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Asinh": np.arcsinh,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Rint": np.rint,
    "ZerosLike": np.zeros_like,
    "OnesLike": np.ones_like,
    "LogicalNot": np.logical_not,
    "IsNan": np.isnan,
    "IsInf": np.isinf,
    "IsFinite": np.isfinite,
    # of two
    **dict.fromkeys(("Add", "AddV2", "BiasAdd", "BiasAddV1"), np.add),
    "Sub": np.subtract,
    "Mul": np.multiply,
    **dict.fromkeys(("RealDiv", "Div"), np.true_divide),
    "DivNoNan": _ratio_or_zero,
    "MulNoNan": lambda a, b: np.where(b == 0, 0.0, a * b),
    "Xdivy": lambda a, b: np.where(a == 0, 0.0, a / b),
    "Xlogy": lambda a, b: np.where(a == 0, 0.0, a * np.log(b)),
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Pow": np.power,
    "SquaredDifference": lambda a, b: (a - b) ** 2,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    # of more
    **dict.fromkeys(("Select", "SelectV2"), np.where),
    "ClipByValue": np.clip,
    "AddN": lambda *terms: sum(terms[1:], terms[0]),
    # as `unrolled` writes them
    "MaximumN": lambda *terms: reduce(np.maximum, terms),
    "MinimumN": lambda *terms: reduce(np.minimum, terms),
}
# Those whose attributes are part of what they compute.
WITH_ATTRIBUTES = ("LeakyRelu", "Cast")
ELEMENTWISE = frozenset({*OPERATIONS, *WITH_ATTRIBUTES})


def compute(node: NodeDef, inputs: Sequence[Array]) -> Array:
    """What an elementwise node gives for its inputs, in float64 (or bool)."""
    if node.op == "LeakyRelu":
        return np.where(inputs[0] > 0, inputs[0], attribute(node, "alpha").f * inputs[0])
    if node.op == "Cast":
        return _cast(inputs[0], tf.dtypes.as_dtype(attribute(node, "DstT").type))
    return np.asarray(OPERATIONS[node.op](*inputs))


def meaning(node: NodeDef) -> str:
    """The operation with the attributes that are part of it: two nodes of one meaning compute alike."""
    if node.op == "LeakyRelu":
        return f"LeakyRelu({attribute(node, 'alpha').f!r})"
    return f"Cast({attribute(node, 'DstT').type})" if node.op == "Cast" else node.op


def _cast(value: Array, to: tf.DType) -> Array:
    if to.is_bool:
        return value.astype(bool)
    return np.trunc(value) if to.is_integer else value.astype(np.float64)
