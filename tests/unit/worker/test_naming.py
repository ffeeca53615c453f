"""Functions are named by their values; each is written here in another way than the closed form that it is compared with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradviz_cli.worker.analysis.naming import OTHER, Form, name_of, names_of, of_channels, points

erf = np.vectorize(math.erf)


def logistic(x):
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def named(function, *constants: float) -> Form:
    x = points(constants)
    with np.errstate(all="ignore"):
        return name_of(x, np.asarray(function(x), float))


RELUS = {
    "max": lambda x: np.maximum(x, 0),
    "product with a comparison": lambda x: x * (x > 0),
    "half of x + |x|": lambda x: (x + np.abs(x)) / 2,
    "minus min": lambda x: -np.minimum(-x, 0),
    "x - min": lambda x: x - np.minimum(x, 0),
    "leaky with slope 0": lambda x: np.where(x > 0, x, 0 * x),
    "root of the square": lambda x: (x + np.sqrt(x * x)) / 2,
}


@pytest.mark.parametrize("spelling", RELUS)
def test_relu(spelling: str) -> None:
    assert named(RELUS[spelling], 2) == Form("Relu")


@pytest.mark.parametrize("cap", [0.5, 1.5, 6.0, 1000.0])
def test_capped_relu(cap: float) -> None:
    assert named(lambda x: np.minimum(np.maximum(x, 0), cap), cap) == Form("CappedRelu", 0.0, cap)


@pytest.mark.parametrize("slope", [0.01, 0.2, 0.9, -0.3, 1.5])
def test_leaky_relu(slope: float) -> None:
    form = named(lambda x: np.where(x >= 0, x, slope * x), slope)
    assert form.name == "LeakyRelu" and form.slope == pytest.approx(slope)


def test_slope_of_a_float32_constant() -> None:
    form = named(lambda x: np.where(x > 0, x, float(np.float32(0.2)) * x), float(np.float32(0.2)))
    assert form.name == "LeakyRelu"


OTHERS = {
    "CappedLeakyRelu": (lambda x: np.where(x > 0, np.minimum(x, 1), 0.1 * x), (1, 0.1)),
    "Threshold": (lambda x: x * (x > 0.7), (0.7,)),
    "SoftShrink": (lambda x: np.where(x > 0.5, x - 0.5, np.where(x < -0.5, x + 0.5, 0)), (0.5,)),
    "HardShrink": (lambda x: x * (np.abs(x) > 0.5), (0.5,)),
    "CappedThreshold": (lambda x: np.where(x > 0.3, np.minimum(x, 1), 0), (1, 0.3)),
    "ThresholdedLeakyRelu": (lambda x: np.where(x > 0.2, x, 0.1 * (x - 0.2)), (0.2, 0.1)),
    "ThresholdedLeakyRelu ": (lambda x: np.where(x > 0.05, np.minimum(x, 1), 0.1 * (x - 0.05)), (1, 0.1, 0.05)),
    "TwoSlopes": (lambda x: x + np.maximum(x, 0), ()),
    "Elu": (lambda x: np.where(x > 0, x, 0.3 * (np.exp(np.minimum(x, 0)) - 1)), (0.3,)),
    "Selu": (lambda x: 1.05070098 * np.where(x > 0, x, 1.67326324 * (np.exp(np.minimum(x, 0)) - 1)), ()),
    "Celu": (lambda x: np.maximum(x, 0) + np.minimum(0, 0.5 * (np.exp(np.minimum(x, 0) / 0.5) - 1)), (0.5,)),
    "Silu": (lambda x: x * logistic(x), ()),
    "Gelu": (lambda x: x * (1 + erf(x / math.sqrt(2))) / 2, ()),
    "Mish": (lambda x: x * np.tanh(np.log1p(np.exp(np.minimum(x, 700)))), ()),
    "Softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), ()),
    "Softsign": (lambda x: x / (np.abs(x) + 1), ()),
    "TanhShrink": (lambda x: x - np.tanh(x), ()),
    "Squareplus": (lambda x: 0.5 * (x + np.sqrt(x**2 + 4)), (4,)),
    "SparsePlus": (lambda x: np.where(x < -1, 0, np.where(x > 1, x, (x + 1) ** 2 / 4)), (1, 0.25)),
    "Exponential": (np.exp, ()),
    "HardSigmoid": (lambda x: np.minimum(np.maximum(x + 3, 0), 6) / 6, (3, 6)),
    "HardSwish": (lambda x: x * np.minimum(np.maximum(x + 3, 0), 6) / 6, (3, 6)),
    "HardSwish ": (lambda x: x * np.clip(0.2 * x + 0.5, 0, 1), (0.2, 0.5)),
    "HardSwish  ": (lambda x: x * np.clip(x + 0.5, 0, 1), (0.5,)),
    "HardSwish   ": (lambda x: x * np.minimum(np.maximum(x + 3, 0), 6), (3, 6)),
    "sigmoid": (logistic, ()),
    "tanh": (np.tanh, ()),
    "clip": (lambda x: np.clip(x, -1, 1), (1,)),
    "absolute value": (np.abs, ()),
    "absolute value ": (lambda x: 4.4 * np.abs(x), (4.4,)),
    "scaled Relu": (lambda x: 0.5 * np.maximum(x, 0), (0.5,)),
    "mirrored Relu": (lambda x: 0.5 * np.maximum(-x, 0), (0.5,)),
    "mirrored Relu ": (lambda x: np.minimum(x, 0), ()),
    "identity": (lambda x: x, ()),
    "affine": (lambda x: 3 * x - 2, (3, 2)),
    "constant": (lambda x: 0 * x + 2, (2,)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_name(name: str) -> None:
    function, constants = OTHERS[name]
    assert named(function, *constants).name == name.strip()


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.702, 3.0])
def test_silu_of_any_sharpness(beta: float) -> None:
    """1.702 is what is called quick GELU."""
    form = named(lambda x: x * logistic(beta * x), beta)
    assert form.name == "Silu" and form.slope == pytest.approx(beta)


@pytest.mark.parametrize("cubed", [lambda x: x * x * x, lambda x: x**3, lambda x: np.power(x, 3.0), lambda x: x * x**2])
def test_gelu_with_tanh_whatever_the_order_of_its_cube(cubed) -> None:
    constant = math.sqrt(2 / math.pi)
    assert named(lambda x: 0.5 * x * (1 + np.tanh(constant * (x + 0.044715 * cubed(x))))).name == "Gelu"


def test_gelu_with_constants_of_half_precision() -> None:
    c, k = float(np.float16(math.sqrt(2 / math.pi))), float(np.float16(0.044715))
    assert named(lambda x: 0.5 * x * (1 + np.tanh(c * (x + k * x * x * x)))).name == "Gelu"


SHIFTED = {
    "behind a threshold": (lambda x: np.maximum(x, 0.3) - 0.3, (0.3,), Form("Relu", 0.3)),
    "before it": (lambda x: np.maximum(x, -2) + 2, (2,), Form("Relu", -2.0)),
    "with a cap": (lambda x: np.clip(x, 1, 7) - 1, (1, 7), Form("CappedRelu", 1.0, 7.0)),
    "of minus the number": (lambda x: -np.minimum(x, 0), (), Form("Relu", slope=-1.0)),
}


@pytest.mark.parametrize("where", SHIFTED)
def test_a_relu_that_opens_elsewhere(where: str) -> None:
    function, constants, want = SHIFTED[where]
    found = named(function, *constants)
    assert (found.name, found.slope) == (want.name, want.slope)
    assert (found.low, found.high) == pytest.approx((want.low, want.high), abs=1e-9)


@pytest.mark.parametrize("c", [1e-6, 0.01, -2.0])
def test_a_clamp_is_no_relu(c: float) -> None:
    assert named(lambda x: np.maximum(x, c), c) == Form("raised Relu", c)


NAMELESS = {
    "another slope behind a threshold": (lambda x: 2 * np.maximum(x - 1, 0), (2, 1)),
    "a sine": (np.sin, ()),
    "a square": (lambda x: x * x, ()),
    "a bump": (lambda x: np.exp(-x * x), ()),
    "nearly a ReLU": (lambda x: np.maximum(x, 1e-4 * x + 1e-3), (1e-4, 1e-3)),
    "x squared under a gate": (lambda x: x * x * logistic(x), ()),
    "NaN somewhere": (lambda x: np.sqrt(x), ()),
    "a ReLU with a hole at a constant": (lambda x: np.where((x > 1.9) & (x < 2.1), 0, np.maximum(x, 0)), (2,)),
}


@pytest.mark.parametrize("what", NAMELESS)
def test_no_name(what: str) -> None:
    function, constants = NAMELESS[what]
    assert named(function, *constants) == OTHER


def test_a_cap_far_out_is_seen_by_its_constant() -> None:
    assert named(lambda x: np.minimum(np.maximum(x, 0), 123456.0), 123456.0) == Form("CappedRelu", 0.0, 123456.0)


def test_points_are_sorted_and_hold_both_zeros() -> None:
    x = points([0.3, -4, float("inf"), 0])
    assert (np.diff(x) >= 0).all() and {0.3, -0.3, 4.0, 4.3, 1e6} <= set(np.round(x, 9)) | {4.3}
    assert np.signbit(x[x == 0]).tolist() == [True, False]


def test_channels_of_one_family() -> None:
    leaky = [Form("LeakyRelu", slope=slope) for slope in (0.1, 0.2)]
    assert of_channels(leaky).name == "LeakyRelu" and of_channels(leaky).slope is None
    assert of_channels([*leaky, Form("Relu"), Form("identity")]).name == "LeakyRelu"
    assert of_channels([Form("Relu")] * 3) == Form("Relu")
    capped = of_channels([Form("CappedRelu", high=1.0), Form("CappedRelu", high=2.0)])
    assert capped.name == "CappedRelu" and capped.high is None


def test_channels_that_open_elsewhere() -> None:
    assert of_channels([Form("Relu", 0.5), Form("Relu", 0.7)]) == Form("Relu", None)
    assert of_channels([Form("Relu", 0.5, slope=-1.0), Form("Relu", slope=-1.0)]) == Form("Relu", None, slope=-1.0)
    moved = Form("CappedRelu", None, None)
    assert of_channels([Form("CappedRelu", 0.5, 3.0), Form("CappedRelu", 0.7, 3.0)]) == moved
    assert of_channels([Form("CappedRelu", 0.5, 3.0), Form("HardSigmoid", 0.0, 3.0, 1.0)]) == moved  # one by chance
    assert of_channels([Form("CappedRelu", 0.5, 3.0), Form("HardSigmoid", 0.0, 3.0, 0.2)]) == OTHER


@pytest.mark.parametrize("c", [-0.4, 0.3, 7.0])
def test_a_relu_of_minus_the_number_that_opens_elsewhere(c: float) -> None:
    form = named(lambda x: c - np.minimum(x, c), c)
    assert (form.name, form.slope, form.low) == ("Relu", -1, pytest.approx(-c))
    form = named(lambda x: np.clip(c - x, 0, 2.5), c, 2.5)
    assert (form.name, form.slope) == ("CappedRelu", -1) and (form.low, form.high) == pytest.approx((-c, 2.5 - c))
    assert named(lambda x: c - np.minimum(x, c + 1), c, c + 1) == OTHER


def test_channels_of_different_functions_have_no_name() -> None:
    assert of_channels([Form("Relu"), Form("Elu")]) == OTHER
    assert of_channels([Form("Relu"), Form("identity")]) == OTHER
    assert of_channels([Form("Relu"), Form("Relu", slope=-1.0)]) == OTHER


def test_columns_are_named_at_once_as_they_are_one_by_one() -> None:
    x = points([0.5, 3.0])
    lines = np.stack([x, 2 * x + 1, 0 * x + 7, -x, x * 1e-12, x + 1e-12, 0.5 - 3 * x], 1)
    bent = np.stack([x, np.maximum(x, 0), np.minimum(np.maximum(x, 0), 6)], 1)
    for table in (lines, bent, lines.astype(np.float32), np.where(x == x.max(), np.inf, x)[:, None]):
        assert list(names_of(x, table)) == [name_of(x, column) for column in table.T]
