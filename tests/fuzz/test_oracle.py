"""The oracle's own derivatives: against finite differences, and its rules against the worked tables."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz import grammar as g
from fuzz import oracle
from fuzz.spelled import SPELLINGS
from worked import CAPPED_FEATURES, FEATURES, UPSTREAM, WORKED

SHAPE = (2, 5, 6, 4)
CONVOLUTION = g.Conv(5, 4)
RELU = g.Act(1, "relu")
STEPS = [
    *(g.Conv(1, 5, 3, 2), g.Conv(1, 4, 3, 1, "VALID"), g.Conv(1, 4, 3, dilation=2), g.Conv(1, 6, 2, groups=2)),
    *(g.Depthwise(2, 3, 2, 2), g.Separable(3), g.Transposed(4, 3, 3, 2), g.Transposed(4, 3, 2, 2)),
    *(g.Pool("max", 3, 2), g.Pool("average", 3, 2), g.Pool("max", 2, 2, "VALID"), g.Pool("average", 2, 1)),
    *(g.Norm(5, kind) for kind in ("batch", "spelled", "layer", "affine")),
    *(g.Act(6, spelling) for spelling in SPELLINGS),
    *(g.Residual((CONVOLUTION, RELU)), g.Split(RELU, g.Act(1, "elu")), g.Turned(7, RELU)),
    *(g.Branches(((CONVOLUTION, RELU), (g.Conv(8, 4),)), join) for join in ("concat", "add", "multiply")),
    *(g.Resize(2, "nearest"), g.Resize(2, "bilinear"), g.Pad(2, "CONSTANT"), g.Pad(2, "REFLECT")),
    *(g.Squeeze(9, RELU), g.Squeeze(9, RELU, "hard"), g.Attention(10), g.Loop((CONVOLUTION, RELU), 2)),
    *(g.Shuffle(), g.Crop(), g.Blocks(), g.Drop(), g.Dense(12)),
    *(g.Cond((CONVOLUTION,), (RELU,)), g.Rescale(0.5, 0.1), g.Standardise(11), g.ClipImage(), g.Flip(1), g.Flip(3)),
]


def slope(step, x: np.ndarray, upstream: np.ndarray, along: np.ndarray, h: float = 1e-6) -> float:
    """Of sum(step(x) * upstream), from its values alone."""

    def value(at: float) -> float:
        margin = oracle.Margin(np.full(len(x), np.inf))
        y = oracle.Evaluation("float64", margin).step(step, oracle.Var(x + at * along))
        return float((y.value * upstream).sum())

    return (value(h) - value(-h)) / (2 * h)


@pytest.mark.parametrize("step", STEPS, ids=repr)
def test_derivative_is_the_slope(step):
    draw = np.random.default_rng(4)
    x, along = draw.normal(0, 1.5, SHAPE), draw.normal(0, 1, SHAPE)
    image = oracle.Var(x)
    y = oracle.Evaluation("float64", oracle.Margin(np.full(2, np.inf))).step(step, image)
    upstream = draw.normal(0, 1, y.shape)
    got = (oracle.gradient(y, upstream, image, "backprop") * along).sum()
    assert got == pytest.approx(slope(step, x, upstream, along), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "segmentation", "percent", "averaged", "temperature"])
@pytest.mark.parametrize("pool", ["mean", "max", "flatten", "conv"])
def test_derivative_of_a_head_is_the_slope(kind, pool):
    program = g.Program("module", (), (CONVOLUTION, g.Act(1, "softplus")), g.Head(2, kind, pool, 3))
    x, along = np.random.default_rng(5).normal(0, 1, (2, 1, 5, 6, 3))
    got = (oracle.truth(program, x, bypassed=False).maps["backprop"] * along).sum()
    ends = [oracle.truth(program, x + h * along, bypassed=False, modes=()).score[0] for h in (1e-6, -1e-6)]
    assert got == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("mode", WORKED)
def test_rules_are_the_worked_tables(mode):
    margin = oracle.Margin(np.full(3, np.inf))
    for features, cap, want in ((FEATURES, np.inf, "downstream"), (CAPPED_FEATURES, 4.0, "capped")):
        image = oracle.Var(features.astype(float))
        got = oracle.gradient(oracle.relu(image, margin, cap), UPSTREAM.astype(float), image, mode)
        np.testing.assert_array_equal(got, getattr(WORKED[mode], want))


def test_half_precision_is_numpys():
    values = np.random.default_rng(0).normal(0, 1, 1000)
    import tensorflow as tf

    want = tf.cast(tf.cast(tf.constant(values, tf.float32), tf.bfloat16), tf.float64).numpy()
    np.testing.assert_array_equal(g.rounded(values, "bfloat16"), want)
