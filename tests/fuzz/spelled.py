"""Activations: which function of a program's vocabulary each spelling is, and what a report should say of it.

What the functions are stands in `oracle.py` (NumPy), how they are spelled in `writers.py` (TensorFlow).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spelling:
    """One way to write an activation.

    Attributes
    ----------
    function : str
        Which function it is, of `oracle.FUNCTIONS`, or a ReLU: relu, capped.
    counts : str
        What an activation that keeps its plain gradient is reported as; empty for one that is not counted, `gate` for a
        gate, `relu` for what obeys.
    weight : int
        How often it comes.
    exact : bool
        All its constants are powers of 2 (where the parameter is one), so that half precision does not change them.
    native : str
        Name of it among the activations of Keras; with a 3 in front where Keras 2 has it not, or means another.
    """

    function: str
    counts: str = "relu"
    weight: int = 2
    exact: bool = True
    native: str = ""


SPELLINGS = {
    # obeying a rule
    "relu": Spelling("relu", weight=24, native="relu"),
    "maximum": Spelling("relu", weight=4),
    "maximum, zero first": Spelling("relu"),
    "where": Spelling("relu", weight=4),
    "where at or above": Spelling("relu"),
    "where below": Spelling("relu"),
    "mask": Spelling("relu"),
    "mask of the sign": Spelling("relu"),
    "half of x + abs": Spelling("relu"),
    "minus minimum": Spelling("relu"),
    "x less minimum": Spelling("relu"),
    "clip far above": Spelling("relu", exact=False),
    "relu, squared": Spelling("relu squared"),
    "relu6": Spelling("relu6", weight=6, native="relu6"),
    "minimum of relu": Spelling("capped", weight=3),
    "clip": Spelling("capped", weight=3),
    "maximum of minimum": Spelling("capped"),
    "minimum of maximum": Spelling("capped"),
    "relu less relu": Spelling("capped"),
    "capped by channel": Spelling("capped by channel"),
    # passing the plain gradient
    "leaky": Spelling("leaky", "LeakyRelu", native="3leaky_relu"),
    "leaky maximum": Spelling("leaky", "LeakyRelu"),
    "leaky where": Spelling("leaky", "LeakyRelu"),
    "leaky of two relus": Spelling("leaky", "PRelu"),
    "prelu": Spelling("prelu", "PRelu"),
    "elu": Spelling("elu", "Elu", native="elu"),
    "elu where": Spelling("elu", "Elu"),
    "celu": Spelling("celu", "Celu"),
    "selu": Spelling("selu", "Selu", exact=False, native="selu"),
    "selu where": Spelling("selu", "Selu", exact=False),
    "gelu": Spelling("gelu", "Gelu", exact=False, native="gelu"),
    "gelu tanh": Spelling("gelu tanh", "Gelu", exact=False),
    "gelu sigmoid": Spelling("silu 1.702", "Silu", exact=False),
    "silu": Spelling("silu", "Silu", native="swish"),
    "silu product": Spelling("silu", "Silu"),
    "silu quotient": Spelling("silu", "Silu"),
    "mish": Spelling("mish", "Mish", native="mish"),
    "softplus": Spelling("softplus", "Softplus", native="softplus"),
    "softplus spelled": Spelling("softplus", "Softplus"),
    "softsign": Spelling("softsign", "Softsign", native="softsign"),
    "tanh": Spelling("tanh", "", native="tanh"),
    "sigmoid": Spelling("sigmoid", "", native="sigmoid"),
    "hard swish": Spelling("hard swish", "gate", exact=False, native="3hard_silu"),
    "hard swish clip": Spelling("hard swish", "gate", exact=False),
    "hard sigmoid": Spelling("hard sigmoid", "gate", exact=False, native="3hard_sigmoid"),
    "hard tanh": Spelling("hard tanh", ""),
    "hard tanh of two": Spelling("hard tanh", ""),
    "soft shrink": Spelling("soft shrink", "SoftShrink"),
    "hard shrink": Spelling("hard shrink", "HardShrink"),
    "tanh shrink": Spelling("tanh shrink", "TanhShrink"),
    "squareplus": Spelling("squareplus", "Squareplus"),
    "sparse plus": Spelling("sparse plus", "SparsePlus"),
    "threshold": Spelling("threshold", "Threshold"),
}
