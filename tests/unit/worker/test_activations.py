"""Activations in every spelling: found once each, under their name, and not where they only look like one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import Calls, const, fed, function, node, question, traced, written

from gradviz_cli.worker.analysis.activations import Found, find_all

F = tf.float32
ALPHA = {"alpha": np.full(3, 0.3, np.float32)}


def mixed(x):
    """What is no image any more: a ReLU straight behind the image might be its cleaning."""
    return tf.nn.avg_pool2d(x, 2, 1, "SAME")


def erf_gelu(x):
    return 0.5 * x * (1 + tf.math.erf(x / np.float32(np.sqrt(2))))


def tanh_gelu(x):
    return 0.5 * x * (1 + tf.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + 0.044715 * x * x * x)))


SPELLED = {
    "Relu": (tf.nn.relu, "Relu"),
    "Relu6": (tf.nn.relu6, "Relu6"),
    "maximum": (lambda x: tf.maximum(x, 0.0), "Maximum"),
    "maximum, turned": (lambda x: tf.maximum(0.0, x), "Maximum"),
    "where": (lambda x: tf.where(x > 0, x, tf.zeros_like(x)), "Select"),
    "where, turned": (lambda x: tf.where(x <= 0, tf.zeros_like(x), x), "Select"),
    "where, the comparison turned": (lambda x: tf.where(x > 0.0, x, tf.zeros_like(x)), "Select"),
    "clip": (lambda x: tf.clip_by_value(x, 0.0, 3.0), "CappedRelu"),
    "minimum over ReLU": (lambda x: tf.minimum(tf.nn.relu(x), 4.0), "CappedRelu"),
    "ReLU over minimum": (lambda x: tf.nn.relu(tf.minimum(x, 4.0)), "CappedRelu"),
    "leaky": (lambda x: tf.nn.leaky_relu(x, 0.1), "LeakyRelu"),
    "leaky, maximum": (lambda x: tf.maximum(x, 0.1 * x), "LeakyRelu"),
    "leaky, where": (lambda x: tf.where(x > 0, x, 0.1 * x), "LeakyRelu"),
    "ELU": (tf.nn.elu, "Elu"),
    "ELU, where": (lambda x: tf.where(x > 0, x, tf.exp(x) - 1), "Elu"),
    "ELU, expm1": (lambda x: tf.where(x > 0, x, 2.0 * tf.math.expm1(x)), "Elu"),
    "SELU": (tf.nn.selu, "Selu"),
    "softplus": (tf.nn.softplus, "Softplus"),
    "SiLU": (lambda x: x * tf.sigmoid(x), "Silu"),
    "SiLU, scaled": (lambda x: x * tf.sigmoid(1.702 * x), "Silu"),
    "SiLU, quotient": (lambda x: x / (1 + tf.exp(-x)), "Silu"),
    "Mish": (lambda x: x * tf.tanh(tf.nn.softplus(x)), "Mish"),
    "GELU": (erf_gelu, "Gelu"),
    "GELU, tanh": (tanh_gelu, "Gelu"),
}


@pytest.mark.parametrize("name", SPELLED)
def test_each_spelling_is_found_once(name):
    build, kind = SPELLED[name]
    found = find_all(traced(lambda x: build(mixed(x))), question(activations="all"))
    assert found.counts == {kind: (1, 1)}, found
    assert found.gates == 0


@pytest.mark.parametrize(
    "build",
    [
        lambda x, alpha: tf.nn.relu(x) - alpha * tf.nn.relu(-x),
        lambda x, alpha: tf.nn.relu(x) + alpha * (x - tf.abs(x)) * 0.5,
        lambda x, alpha: tf.where(x > 0, x, alpha * x),
    ],
)
def test_a_learnt_slope_is_a_prelu(build):
    assert find_all(traced(lambda x, alpha: build(mixed(x), alpha), ALPHA), question()).counts == {"PRelu": (1, 0)}


@pytest.mark.parametrize(
    "build", [lambda x: x * tf.nn.relu6(x + 3.0) / 6.0, lambda x: x * tf.clip_by_value(x + 0.5, 0.0, 1.0)]
)
def test_a_gate_is_no_activation(build):
    found = find_all(traced(lambda x: build(mixed(x))), question())
    assert (found.counts, found.gates) == ({}, 1)


PARTS = {
    "a clamp": lambda x: tf.maximum(x, 1e-7),
    "a minimum alone": lambda x: tf.minimum(x, 3.0),
    "a mask of another tensor": lambda x: tf.where(tf.reverse(x, [1]) > 0, x, tf.zeros_like(x)),
    "the part of a split that another part decides on": lambda x: (
        lambda parts: tf.where(parts[0] > 0, parts[1], tf.zeros_like(parts[1]))
    )(tf.split(x, 3, -1)),
    "a sigmoid that gates something else": lambda x: tf.reverse(x, [1]) * tf.sigmoid(x),
}


@pytest.mark.parametrize("name", PARTS)
def test_what_only_looks_like_one_is_none(name):
    assert find_all(traced(PARTS[name]), question(activations="all")).counts == {}


def test_smooth_ones_are_counted_and_left():
    found = find_all(traced(lambda x: tf.nn.elu(mixed(tf.nn.relu(x)))), question())
    assert found.counts == {"Relu": (1, 1), "Elu": (1, 0)}
    assert (found.patched, found.left) == (1, {"Elu": 1})


def test_those_off_the_path_do_not_count():
    graph = traced(lambda x, w: tf.nn.relu(x) + tf.nn.relu(w), {"w": np.ones(3, "f")})
    assert find_all(graph, question()).counts == {"Relu": (1, 1)}


ENDS = ("if:0", "if:0", "image:0")


def test_functions_on_the_path_count():
    body = function("f", node("relu", "Relu", "x:0", T=F), results=["relu:0"], types={"x": F})
    idle = function("g", node("relu", "Relu", "x:0", T=F), results=["relu:0"], types={"x": F})
    attributes = {"Tcond": tf.bool, "Tin": [F], "Tout": [F], "then_branch": Calls("f"), "else_branch": Calls("f")}
    call = node("if", "StatelessIf", "yes:0", "image:0", **attributes)
    functions = {"f": body, "g": idle}
    graph = written(
        fed(), const("yes", True, bool), call, outputs=ENDS, functions=functions, feeds={"image:0": "image"}
    )
    found = find_all(graph, question())
    assert found.counts == {"Relu": (1, 1)}
    assert [one.name for one in found.obeying("f")] == ["Relu"] and found.obeying() == found.obeying("g") == []


def test_what_lies_before_the_start_of_the_gradient_obeys_no_rule():
    """A ReLU of whole numbers, behind which the gradient starts."""

    def build(x):
        whole = tf.nn.relu(tf.cast(x, tf.int32) - 100) // 2
        return tf.nn.relu(mixed(tf.cast(whole, F, name="numbers")))

    graph = traced(build, dtype=tf.uint8)
    begun = replace(graph, outputs=(*graph.outputs[:2], "numbers:0"))
    assert find_all(begun, question(tf.uint8)).counts == {"Relu": (1, 1)}


def test_a_cap_is_known_where_a_branch_is_handed_its_variable():
    """min(relu(x), caps), where the branch gets the variable itself and reads it."""
    nodes = [
        node("caps", "ReadVariableOp", "handle:0", dtype=F),
        node("relu", "Relu", "x:0", T=F),
        node("capped", "Minimum", "relu:0", "caps:0", T=F),
    ]
    body = function("f", *nodes, results=["capped:0"], types={"x": F, "handle": tf.resource})
    attributes = {"Tcond": tf.bool, "Tin": [F, tf.resource], "Tout": [F]}
    branches = {"then_branch": Calls("f"), "else_branch": Calls("f")}
    call = node("if", "StatelessIf", "yes:0", "image:0", "variable:0", **attributes, **branches)
    graph = written(
        *(fed(), fed("variable", tf.resource, ()), const("yes", True, bool), call),
        outputs=("if:0", "if:0", "image:0"),
        functions={"f": body},
        feeds={"image:0": "image"},
        handles={"variable": "caps"},
        values={"caps": tf.constant([1.0, 2.0, 3.0])},
    )
    (found,) = find_all(graph, question()).obeying("f")
    assert (found.name, found.entry, found.exit) == ("CappedRelu", "x:0", "capped:0")
    np.testing.assert_array_equal(found.caps, [1, 2, 3])


def test_nothing_found_is_nothing_patched():
    assert (Found("relu").patched, Found("relu").left) == (0, {})


SHORTCUTS = {
    "around a ReLU behind a batch norm": (lambda x, a, b: x + tf.nn.relu(a * x + b), {"Relu": (1, 1)}),
    "around a spelled ReLU": (lambda x, a, b: x - tf.maximum(a * x + b, 0.0), {"Maximum": (1, 1)}),
    "around an ELU": (lambda x, a, b: tf.nn.elu(a * x + b) + x, {"Elu": (1, 0)}),
    "around two": (lambda x, a, b: x + tf.nn.relu(b + a * tf.nn.relu(x)), {"Relu": (2, 2)}),
    "of one number for all channels": (lambda x, a, b: x + tf.nn.relu(2.0 * x + 1.0), {"Relu": (1, 1)}),
    "two ReLUs side by side": (
        lambda x, a, b: tf.nn.relu(x * a) + tf.nn.relu6(x * b + 1.0),
        {"Relu": (1, 1), "Relu6": (1, 1)},
    ),
    "a formula": (lambda x, a, b: 0.3 * x + tf.maximum(x - 1.0, 0.0), {"Composite": (1, 0)}),
    "a product": (lambda x, a, b: x * tf.maximum(a * x + b, 0.0), {"Composite": (1, 0)}),
}


@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_shortcut_is_no_activation(name):
    """What it goes round is one, as it would be by itself."""
    build, counts = SHORTCUTS[name]
    weights = {"a": np.float32([1.5, -0.7, 0.4]), "b": np.float32([0.3, 0.2, -0.6])}
    assert find_all(traced(lambda x, a, b: build(mixed(x), a, b), weights), question()).counts == counts


def test_a_corner_that_others_read_too_is_an_activation_by_itself():
    """relu(relu6(x)) beside a way from relu6(x) alone: the rule acts on both, on what comes to each."""

    def build(x):
        capped = tf.nn.relu6(mixed(x))
        return tf.nn.relu(capped) + tf.nn.avg_pool2d(capped, 2, 1, "SAME")

    assert dict(find_all(traced(build), question()).counts) == {"Relu6": (1, 1), "Relu": (1, 1)}


@pytest.mark.parametrize(
    ("build", "counts"),
    [
        (lambda x: tf.stop_gradient(2 * tf.nn.relu(x)) - tf.nn.relu(x), {"Relu": (2, 2)}),  # each by itself
        (lambda x: x + tf.stop_gradient(tf.maximum(x, 0) - x), {"Composite": (1, 0)}),  # straight through
        (lambda x: x * tf.stop_gradient(tf.cast(x > 0, tf.float32)), {"Relu": (1, 1)}),  # a mask has no gradient anyway
        (lambda x: tf.nn.relu(tf.stop_gradient(x)), {"Relu": (1, 1)}),
        (lambda x: tf.where(tf.stop_gradient(tf.sign(tf.sqrt(x))) > 0, x, 0.0), {"Select": (1, 1)}),  # NaN below 0
    ],
)
def test_a_stop_within_gives_another_gradient_than_the_values(build, counts):
    assert find_all(traced(lambda x: build(mixed(x))), question()).counts == counts


GUARDED = {
    "the largest of a log of sums": lambda x: tf.reduce_logsumexp(x, [1, 2]),
    "what is not finite": lambda x: tf.where(tf.math.is_finite(x), x, tf.zeros_like(x)),
    "what is no number": lambda x: tf.where(tf.math.is_nan(x), 0.0, 2 * x),
    "both ways alike": lambda x: tf.where(x > 0, x + 1, 1 + x),
}


@pytest.mark.parametrize("name", GUARDED)
def test_what_guards_against_what_is_not_finite_is_no_activation(name):
    found = find_all(traced(lambda x: GUARDED[name](tf.nn.relu(mixed(x)) - tf.reverse(x, [1]))), question())
    assert dict(found.counts) == {"Relu": (1, 1)}


def test_a_curve_of_pixels_is_preprocessing():
    """sRGB made linear; behind anything that is no pixel the same has no name, and is told of."""

    def linear(u):
        return tf.where(u < 0.04045, u / 12.92, ((u + 0.055) / 1.055) ** 2.4)

    graph = traced(lambda image: tf.nn.relu(mixed(linear(image / 255))))
    assert dict(find_all(graph, question()).counts) == {"Relu": (1, 1)}
    assert dict(find_all(traced(lambda image: linear(mixed(image))), question()).counts) == {"Composite": (1, 0)}


@pytest.mark.parametrize("write", [tf.nn.relu, lambda x: tf.maximum(x, 0.0)])
def test_a_cast_to_another_precision_is_no_part_of_an_activation(write):
    graph = traced(lambda image: tf.reduce_sum(tf.cast(write(image * 2.0 + tf.reverse(image, [1])), tf.float64)))
    (one,) = find_all(graph, question()).top
    assert graph.node(one.exit).op in ("Relu", "Maximum")


def pooled(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(x * x, [1, 2], keepdims=True)


@pytest.mark.parametrize(
    ("build", "counts", "gates"),
    [
        (lambda x: tf.sqrt(tf.nn.relu(x) + 1e-3), {"Relu": (1, 1)}, 0),
        (lambda x: tf.math.log(1 + tf.nn.relu(x)), {"Relu": (1, 1)}, 0),
        (lambda x: 1 / (1 + tf.maximum(x, 0)), {"Maximum": (1, 1)}, 0),
        (lambda x: x * tf.math.rsqrt(tf.maximum(pooled(x), 0) + 1e-3), {}, 0),  # a guard of a statistic
        (lambda x: x / tf.sqrt(tf.nn.relu(pooled(x)) + 1e-3), {}, 0),
        (lambda x: tf.minimum(tf.nn.relu(x + 1), 2), {"CappedRelu": (1, 1)}, 0),
        (lambda x: tf.minimum(tf.nn.relu(x + 0.4), 0.8), {"CappedRelu": (1, 1)}, 0),
        (lambda x: x * tf.minimum(tf.nn.relu(x + 1), 2), {}, 1),
        (lambda x: x * tf.nn.relu(x), {"Relu": (1, 1)}, 0),
        (lambda x: tf.nn.relu(x) * tf.sigmoid(x), {"Relu": (1, 1)}, 0),
        (lambda x: x * tf.minimum(tf.math.rsqrt(pooled(x)), 1e12), {}, 0),
    ],
)
def test_a_relu_is_one_whatever_stands_behind_it(build, counts, gates):
    found = find_all(traced(lambda x: build(mixed(x))), question())
    assert (dict(found.counts), found.gates) == (counts, gates)
