"""Activations in every spelling: found once each, under their name, and not where they only look like one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import Calls, const, fed, function, node, question, traced, written

from gradviz_cli.worker.analysis import naming, regions
from gradviz_cli.worker.analysis.activations import Found, find_all
from gradviz_cli.worker.graph.graph import split

F = tf.float32
ALPHA = {"alpha": np.full(3, 0.3, np.float32)}


DRAW = np.random.default_rng(8)
LAYER = np.random.default_rng(3).normal(size=(3, 3, 3, 3)).astype(np.float32)


def mixed(x):
    """What is no image any more: a ReLU straight behind the image might be its cleaning."""
    return tf.nn.conv2d(x, LAYER, 1, "SAME")


def threshold(x):
    return tf.where(x > 0.3, x, 0.0)


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
    "a threshold and a cap": (lambda x: tf.clip_by_value(threshold(x), 0.0, 1.0), "CappedThreshold"),
    "leaky, from a threshold to a cap, as Keras has it": (
        lambda x: tf.clip_by_value(tf.where(x > 0.05, x, 0.0), 0.0, 1.0) - 0.1 * tf.nn.relu(0.05 - x),
        "ThresholdedLeakyRelu",
    ),
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


@pytest.mark.parametrize(("relu", "kind"), [(tf.nn.relu, "Relu"), (lambda x: tf.maximum(x, 0.0), "Maximum")])
def test_a_relu_behind_a_threshold_is_one_by_itself(relu, kind):
    found = find_all(traced(lambda x: relu(threshold(mixed(x)))), question())
    assert found.counts == {"Threshold": (1, 0), kind: (1, 1)}


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
    ("build", "counts"),
    [
        (lambda x, bias: tf.nn.leaky_relu(tf.nn.bias_add(mixed(x), bias), 0.3), {"LeakyRelu": (1, 0)}),
        (lambda x, bias: tf.nn.leaky_relu(mixed(x) + bias, 0.3) + bias, {"LeakyRelu": (1, 0)}),
        (lambda x, bias: tf.maximum(mixed(x) + bias, np.float32([0.1, 0.2, 0.3])), {}),
    ],
)
def test_a_bias_of_zeros_is_no_part_of_an_activation(build, counts):
    """As untrained layers have it: what it is added to has learnt nothing of its own."""
    assert find_all(traced(build, {"bias": np.zeros(3, np.float32)}), question()).counts == counts


SLOPES = np.float32([[0.3, 0.1, 0.6], [5, 6, 7]])
WAYS = {
    "transposed": lambda w: tf.transpose(tf.reshape(w[0], [3, 1, 1, 1]), [1, 2, 3, 0]),
    "a row": lambda w: w[0],
    "looked up": lambda w: tf.gather(w, 0),
    "split": lambda w: tf.split(w, 2)[0],
    "unstacked": lambda w: tf.unstack(w)[0],
    "joined": lambda w: tf.concat([w[0, :1], w[0, 1:]], 0),
    "put together": lambda w: tf.stack([w[0, 0], w[0, 1], w[0, 2]]),
    "repeated": lambda w: tf.tile(tf.reshape(w[0], [1, 1, 1, 3]), [1, 6, 6, 1]),
    "averaged": lambda w: tf.reduce_mean(w[:1], 0),
    "looked up by one-hot rows": lambda w: tf.einsum("ij,j->i", tf.one_hot([0, 1, 2], 3), w[0]),
    "on a diagonal": lambda w: tf.linalg.diag_part(tf.linalg.diag(w[0])),
    "shares": lambda w: tf.nn.softmax(w[0]),
    "the largest": lambda w: tf.math.top_k(w[0], 3)[0],
    "rolled": lambda w: tf.roll(w[0], 1, 0),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_slope_is_known_however_it_comes_out_of_the_weights(name):
    """Else each half of it would be a ReLU."""
    graph = traced(lambda x, w: tf.nn.relu(mixed(x)) - WAYS[name](w) * tf.nn.relu(-mixed(x)), {"w": SLOPES})
    same = traced(lambda x, w: (lambda y: tf.nn.relu(y) - WAYS[name](w) * tf.nn.relu(-y))(mixed(x)), {"w": SLOPES})
    assert find_all(graph, question()).counts == {"Relu": (2, 2)}  # of two tensors
    assert find_all(same, question()).counts == {"PRelu": (1, 0)}


@pytest.mark.parametrize(
    "ends", [lambda w: (w[0], w[1]), lambda w: tf.unstack(w), lambda w: (tf.gather(w, 0), tf.gather(w, 1))]
)
def test_the_ends_of_a_clip_are_known_however_they_come_out_of_a_weight(ends):
    graph = traced(lambda x, w: tf.clip_by_value(mixed(x), *ends(w)), {"w": np.float32([0, 6])})
    assert find_all(graph, question()).counts == {"CappedRelu": (1, 1)}


@pytest.mark.parametrize(
    "zeros",
    [
        lambda x: tf.pad(tf.zeros_like(x)[..., :1], [[0, 0], [0, 0], [0, 0], [1, 1]]),
        lambda x: tf.one_hot(-1, 3),
        lambda x: tf.eye(4)[0, 1:],
        lambda x: tf.zeros_like(x)[..., :1],
        lambda x: tf.transpose(tf.zeros(tf.shape(x)), [0, 2, 1, 3]),
    ],
)
def test_zeros_are_zeros_whatever_their_shape(zeros):
    assert find_all(traced(lambda x: tf.maximum(mixed(x), zeros(x))), question()).counts == {"Maximum": (1, 1)}


@pytest.mark.parametrize(
    "build",
    [
        lambda x: x * tf.nn.relu6(x + 3.0) / 6.0,
        lambda x: x * tf.clip_by_value(x + 0.5, 0.0, 1.0),
        # of the means of channels, brought to the shape of what it multiplies before it is scaled
        lambda x: x * (tf.reshape(tf.nn.relu6(tf.reduce_mean(x, [1, 2]) + 3.0), [2, 1, 1, 3]) / 6.0),
        lambda x: x * (tf.nn.relu6(tf.reduce_mean(x, [1, 2]) + 3.0)[:, None, None] * 0.2),
        lambda x: x * tf.transpose(tf.nn.relu6(tf.reverse(x, [1]) + 3.0) / 6.0, [0, 2, 1, 3]),
        # the 3 added by what lies before
        lambda x: x * (tf.nn.relu6(mixed(x)) / 6.0),
        lambda x: x * (tf.minimum(tf.nn.relu(mixed(x)), 6.0) * 0.16667),
        lambda x: x * tf.clip_by_value(mixed(x) / 6.0, 0.0, 1.0),
        lambda x: x * (tf.nn.relu6(tf.reduce_mean(mixed(x), [1, 2]))[:, None, None] / 6.0),
    ],
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


CLAMPS = {
    "a constant for each channel": (lambda x, c: tf.maximum(x, np.float32([0.1, 0.2, 0.3])), 0),
    "one that was learnt": (lambda x, c: tf.maximum(x, c), 1),
    "one that was learnt, chosen": (lambda x, c: tf.where(x > c, x, c), 1),
    "one that was learnt, of the largest of neighbours": (
        lambda x, c: tf.maximum(tf.nn.max_pool2d(x, 2, 1, "SAME"), c),
        1,
    ),
    "one for all channels": (lambda x, c: tf.maximum(x, c[0]), 0),
}


@pytest.mark.parametrize("name", CLAMPS)
def test_a_clamp_is_an_activation_where_each_channel_learnt_its_own(name):
    build, patched = CLAMPS[name]
    graph = traced(lambda x, c: build(mixed(x), c), {"c": np.float32([-0.5, 0.0, 0.4])})
    assert find_all(graph, question()).patched == patched


def test_what_is_cut_off_each_colour_of_an_image_is_no_activation():
    graph = traced(lambda x: behind(tf.maximum(x, np.float32([0.1, 0.2, 0.3])) - np.float32([0.1, 0.2, 0.3])))
    assert find_all(graph, question()).counts == {"Relu": (1, 1)}


def test_what_no_rule_is_for_is_named():
    """A clamp is none, but there is something between the image and the score."""
    found = find_all(traced(lambda x: tf.tanh(tf.maximum(mixed(x), 0.3)) + tf.maximum(mixed(x), 0.0)), question())
    assert (dict(found.counts), dict(found.curves)) == ({"Maximum": (1, 1)}, {"Maximum": 1, "Tanh": 1})
    stacked = traced(lambda x: tf.reduce_max(tf.stack([mixed(x), 0 * x], 4), -1))
    assert dict(find_all(stacked, question()).curves) == {"Max": 1}


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
    np.testing.assert_array_equal(found.ends[1], [1, 2, 3])


def test_nothing_found_is_nothing_patched():
    assert (Found("relu").patched, Found("relu").left) == (0, {})


SHORTCUTS = {
    "around a ReLU behind a batch norm": (lambda x, a, b: x + tf.nn.relu(a * x + b), {"Relu": (1, 1)}),
    "around a spelled ReLU": (lambda x, a, b: x - tf.maximum(a * x + b, 0.0), {"Maximum": (1, 1)}),
    "around an ELU": (lambda x, a, b: tf.nn.elu(a * x + b) + x, {"Elu": (1, 0)}),
    "around two": (lambda x, a, b: x + tf.nn.relu(b + a * tf.nn.relu(x)), {"Relu": (2, 2)}),
    "of one number for all channels": (lambda x, a, b: x + tf.nn.relu(2.0 * x + 1.0), {"Relu": (1, 1)}),
    "a ReLU above a threshold of another": (lambda x, a, b: tf.nn.relu(tf.nn.relu(x) - 0.3), {"Relu": (2, 2)}),
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
        (lambda x: tf.where(tf.stop_gradient(x) > 0, x, tf.stop_gradient(tf.zeros_like(x))), {"Select": (1, 1)}),
        (lambda x: tf.where(x > 0, tf.stop_gradient(x), 0.0), {}),
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
    graph = traced(lambda image: tf.reduce_sum(tf.cast(write(mixed(image) * 2.0 + tf.reverse(image, [1])), tf.float64)))
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
        (lambda x: tf.reshape(tf.nn.relu6(x + 3), [-1, 3]) * 0.2, {"Relu6": (1, 1)}, 0),
        (lambda x: tf.nn.relu6(x) / 6, {"Relu6": (1, 1)}, 0),
        (lambda x: tf.reverse(x, [1]) * tf.nn.relu6(x), {"Relu6": (1, 1)}, 0),
        (lambda x: tf.reverse(x, [1]) * (tf.nn.relu6(x) / 3), {"Relu6": (1, 1)}, 0),
    ],
)
def test_a_relu_is_one_whatever_stands_behind_it(build, counts, gates):
    found = find_all(traced(lambda x: build(mixed(x))), question())
    assert (dict(found.counts), found.gates) == (counts, gates)


def taken(x):
    return tf.gather_nd(x, tf.where(x > 0))


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.scatter_nd(tf.where(x > 0), taken(x), tf.shape(x, tf.int64)),
        lambda x: (lambda m: tf.scatter_nd(tf.where(m), tf.boolean_mask(x, m), tf.shape(x, tf.int64)))(x > 0),
        lambda x: (lambda m: tf.tensor_scatter_nd_update(tf.zeros_like(x), tf.where(m), tf.gather_nd(x, tf.where(m))))(
            x > 0
        ),
        lambda x: (lambda m: tf.tensor_scatter_nd_add(tf.zeros_like(x), tf.where(m), tf.boolean_mask(x, m)))(x > 0),
    ],
)
def test_what_is_put_where_a_mask_is_true(build):
    found = find_all(traced(lambda x: build(mixed(x))), question())
    assert [one.form.name for one in found.top] == ["Relu"] and found.patched == 1


@pytest.mark.parametrize(
    ("put", "taken", "patched"), [(4, -1, 1), (-1, 4, 1), (1, -4, 1), (1, 1, 1), (3, -1, 0), (1, 2, 0)]
)
def test_the_largest_of_a_stack_along_an_axis_that_is_counted_from_either_end(put, taken, patched):
    graph = traced(lambda x: tf.reduce_max(tf.stack([mixed(x) + 0.1, tf.zeros_like(x)], put), taken))
    assert find_all(graph, question()).patched == patched


@pytest.mark.parametrize(
    "build",
    [
        lambda x: (lambda m: tf.tensor_scatter_nd_add(x, tf.where(m), tf.boolean_mask(x, m)))(x > 0),
        lambda x: (lambda m: tf.scatter_nd(tf.where(m), tf.boolean_mask(tf.reverse(x, [1]), m), tf.shape(x, tf.int64)))(
            x > 0
        ),
    ],
)
def test_what_is_added_or_taken_elsewhere_is_no_relu(build):
    assert find_all(traced(lambda x: build(mixed(x))), question()).patched == 0


# --- between a move and the one that undoes it --------------------------------------------------------------------------


def first(x):
    return tf.transpose(x, [0, 3, 1, 2])


def last(x):
    return tf.transpose(x, [0, 2, 3, 1])


def rows(x):
    return tf.reshape(x, [-1, 3])


def both_ways(f):
    return lambda x: last(f(first(x)))


TURNED = {
    "a mask": (lambda x: x * both_ways(lambda y: tf.cast(y > 0, tf.float32))(x), {"Relu": (1, 1)}),
    "a mask alone": (lambda x: tf.where(last(first(x) > 0), x, 0.0), {"Select": (1, 1)}),
    "the absolute value": (lambda x: (x + both_ways(tf.abs)(x)) / 2, {"Relu": (1, 1)}),
    "what is below 0": (lambda x: x - both_ways(lambda y: tf.minimum(y, 0.0))(x), {"Relu": (1, 1)}),
    "the cap of a ReLU": (lambda x: both_ways(lambda y: tf.minimum(y, 6.0))(tf.nn.relu(x)), {"CappedRelu": (1, 1)}),
    "the cap, in rows": (
        lambda x: tf.reshape(tf.minimum(rows(tf.nn.relu(x)), 6.0), tf.shape(x)),
        {"CappedRelu": (1, 1)},
    ),
    "the cap, on an axis more": (lambda x: tf.minimum(tf.nn.relu(x)[..., None], 6.0)[..., 0], {"Relu": (1, 1)}),
    "the cap, on an axis more, squeezed": (
        lambda x: tf.squeeze(tf.minimum(tf.expand_dims(tf.nn.relu(x), 1), 6.0), [1]),
        {"CappedRelu": (1, 1)},
    ),
    "half of a PReLU": (
        lambda x: tf.nn.relu(x) - both_ways(lambda y: np.float32([[[0.1]], [[0.2]], [[0.3]]]) * tf.nn.relu(-y))(x),
        {"PRelu": (1, 0)},
    ),
    "both halves": (
        lambda x: both_ways(tf.nn.relu)(x) - 0.1 * both_ways(lambda y: tf.nn.relu(-y))(x),
        {"PRelu": (1, 0)},
    ),
    # found where they are
    "a ReLU alone": (lambda x: both_ways(tf.nn.relu)(x) + tf.reverse(x, [1]), {"Relu": (1, 1)}),
    "a shortcut around one": (lambda x: x + both_ways(lambda y: tf.nn.relu(2 * y + 1))(x), {"Relu": (1, 1)}),
    # not the same places again
    "turned on": (lambda x: x * tf.transpose(tf.cast(first(x) > 0, tf.float32), [0, 3, 2, 1]), {}),
    "of another tensor": (lambda x: x * both_ways(lambda y: tf.cast(y > 0, tf.float32))(tf.reverse(x, [1])), {}),
    "read between, too": (
        lambda x: (lambda y: last(tf.minimum(y, 6.0)) + last(tf.reverse(y, [2])))(first(tf.nn.relu(x))),
        {"Relu": (1, 1)},
    ),
}


@pytest.mark.parametrize("name", TURNED)
def test_what_is_moved_there_and_back_is_read_where_it_was(name):
    build, counts = TURNED[name]
    graph = traced(lambda x: mixed(build(mixed(x))), shape=(None, None, None, 3))
    found = find_all(graph, question())
    assert dict(found.counts) == counts
    assert all(split(tensor)[0] in graph.nodes for one in found.top for tensor in (one.entry, one.exit))


def test_a_guard_between_moves_stays_one():
    found = find_all(traced(lambda x: x * tf.math.rsqrt(last(tf.maximum(first(pooled(x)), 0.0)) + 1e-3)), question())
    assert dict(found.counts) == {}


def warped(x, clip, whole=False):
    """Each row from where its mean says, between two rows; the places are clipped before or after they are whole."""
    places = 2 * tf.reduce_mean(x, [2, 3]) + 3.0
    places = places if whole else clip(places, 0.0, 5.0)
    first = tf.cast(tf.floor(places), tf.int32)
    first, second = (clip(first, 0, 5), clip(first + 1, 0, 5)) if whole else (first, tf.minimum(first + 1, 5))
    share = (places - tf.cast(first, tf.float32))[..., None, None]
    rows = [tf.gather_nd(x, tf.stack([[[0] * 6, [1] * 6], where], -1)) for where in (first, second)]
    return tf.nn.relu(rows[0] * (1 - share) + rows[1] * share)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("clip", [tf.clip_by_value, lambda x, low, high: tf.minimum(tf.maximum(x, low), high)])
def test_what_keeps_a_place_inside_is_no_activation(clip, whole):
    found = find_all(traced(lambda x: warped(mixed(x), clip, whole)), question())
    assert dict(found.counts) == {"Relu": (1, 1)}


def test_what_is_looked_up_for_its_value_alone_stays_an_activation():
    """The same capped ReLU, read by a layer too."""

    def build(x):
        capped = tf.clip_by_value(mixed(x), 0.0, 5.0)
        return mixed(capped) * tf.gather(tf.constant([1.0, 2, 3, 4, 5, 6]), tf.cast(capped, tf.int32))

    assert dict(find_all(traced(build), question()).counts) == {"CappedRelu": (1, 1)}


# --- a clip of the image ----------------------------------------------------------------------------------------------

RGB_TO_XYZ = np.float32([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
SEPIA = np.float32([[0.393, 0.349, 0.272], [0.769, 0.686, 0.534], [0.189, 0.168, 0.131]])
BLUR = np.tile(np.float32([[1, 2, 1], [2, 4, 2], [1, 2, 1]])[..., None, None] / 16, (1, 1, 3, 1))
HALF = np.float32([[0.5, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0.5, 0], [0, 0, 0.5], [0, 0, 0.5]])  # of six rows, three


def mean(x):
    return tf.reduce_mean(x, [1, 2], keepdims=True)


def gray(x):
    return tf.image.rgb_to_grayscale(x)


def patches(x):
    parts = tf.reshape(x, [-1, 3, 2, 3, 2, 3])
    return tf.reshape(tf.transpose(parts, [0, 1, 3, 2, 4, 5]), [-1, 3, 3, 12])


def linear(x):
    """sRGB -> linear light."""
    return tf.where(x < 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


PREPARED = {
    "space to depth": lambda x: tf.nn.space_to_depth(x, 2) * 1.2,
    "depth to space": lambda x: tf.nn.depth_to_space(tf.nn.space_to_depth(x, 2), 2) + 0.1,
    "patches, reshaped": lambda x: patches(x) * 1.2,
    "patches, extracted": lambda x: tf.image.extract_patches(x, [1, 2, 2, 1], [1, 2, 2, 1], [1] * 4, "VALID"),
    "antialiased": lambda x: tf.image.resize(x, [4, 4], "bicubic", antialias=True),
    "lanczos": lambda x: tf.image.resize(x, [9, 9], "lanczos3"),
    "crop and resize": lambda x: tf.image.crop_and_resize(x, [[0.1, 0.1, 0.9, 0.9]], [0], [6, 6]),
    "turned": lambda x: tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=np.float32([[0.9, 0.1, 0, -0.1, 0.9, 0, 0, 0]]),
        output_shape=[6, 6],
        fill_value=0.0,
        interpolation="BILINEAR",
    ),
    "rolled": lambda x: tf.roll(x, 1, 1),
    "a mean of neighbours": lambda x: tf.nn.avg_pool2d(x, 2, 2, "SAME"),
    "the largest of neighbours": lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"),
    "gray": gray,
    "gray, by an einsum": lambda x: tf.einsum("nhwc,cd->nhwd", x, np.float32([[0.299], [0.587], [0.114]])),
    "gray, by a convolution": lambda x: tf.nn.conv2d(
        x, np.float32([0.2126, 0.7152, 0.0722]).reshape(1, 1, 3, 1), 1, "SAME"
    ),
    "gray, by a sum": lambda x: tf.reduce_sum(x * [0.299, 0.587, 0.114], -1, keepdims=True),
    "gray of 0..255": lambda x: tf.tensordot(x, np.float32([0.299, 0.587, 0.114]) / 255, 1),
    "YUV and back": lambda x: tf.image.yuv_to_rgb(tf.image.rgb_to_yuv(x)),
    "YIQ and back, turned": lambda x: tf.image.yiq_to_rgb(tf.image.rgb_to_yiq(x) * [1.0, 0.8, 0.8]),
    "less saturated": lambda x: 0.7 * x + 0.3 * gray(x),
    "more contrast": lambda x: (x - mean(x)) * 1.5 + mean(x),
    "standardized": tf.image.per_image_standardization,
    "stretched to its own range": lambda x: (x - tf.reduce_min(x)) / (tf.reduce_max(x) - tf.reduce_min(x) + 1e-3),
    "brighter in the middle": lambda x: x * np.linspace(0.5, 1.5, 36, dtype=np.float32).reshape(1, 6, 6, 1),
    "less a mean image": lambda x: x - np.linspace(0, 1, 108, dtype=np.float32).reshape(6, 6, 3),
    "gamma": lambda x: tf.abs(x) ** 2.2,
    "linear light": linear,
    "blurred": lambda x: tf.nn.depthwise_conv2d(x, BLUR, [1] * 4, "SAME"),
    "sharpened": lambda x: 2 * x - tf.nn.depthwise_conv2d(x, BLUR, [1] * 4, "SAME"),
    "resized by a matrix": lambda x: tf.einsum("nhwc,hg->ngwc", x, HALF),
    "noise": lambda x: x + tf.random.normal([2, 6, 6, 3]),
    "a random contrast": lambda x: (x - mean(x)) * tf.random.uniform([], 0.5, 1.5) + mean(x),
    "a hole": lambda x: tf.where(np.eye(6, dtype=bool)[None, ..., None], x, 0.5),
    "less what is nearly the darkest": lambda x: x - tf.sort(tf.reshape(x, [2, 108]))[:, None, None, 3:4],
    "sepia": lambda x: tf.tensordot(x, SEPIA, 1),
    "XYZ": lambda x: tf.einsum("nhwc,cd->nhwd", x, RGB_TO_XYZ),
}
CLIPPED = {
    "clip_by_value": lambda x: tf.clip_by_value(x, 0.0, 1.0),
    "where": lambda x: tf.minimum(tf.where(x > 0, x, 0.0), 255.0),
}


def behind(x, kernel=None):
    """A layer behind what is an image still: of the first channels, whatever their number."""
    return tf.nn.relu(tf.nn.conv2d(x[..., :1], LAYER[:, :, :1] if kernel is None else kernel, 1, "SAME"))


@pytest.mark.parametrize("clip", CLIPPED)
@pytest.mark.parametrize("name", PREPARED)
def test_a_clip_of_the_image_is_no_activation(name, clip):
    """Also where weights are constants, so that a matrix of colours may be one."""

    def clipped(x):
        return CLIPPED[clip](tf.reshape(PREPARED[name](x), [1, 6, -1, 1]))

    found = find_all(traced(lambda x: behind(clipped(x)), shape=(2, 6, 6, 3)), question())
    assert (dict(found.counts), found.cleanings, found.gates) == ({"Relu": (1, 1)}, 1 + (name == "linear light"), 0)


@pytest.mark.parametrize("shape", [(None, None, None, 3), (None, 6, 6, 3)])
@pytest.mark.parametrize("name", ["gray", "YUV and back", "sepia", "more contrast", "less saturated"])
def test_a_clip_of_an_image_of_any_size_is_no_activation(name, shape):
    graph = traced(lambda x: behind(tf.clip_by_value(PREPARED[name](x), 0.0, 1.0)), shape=shape)
    open_shape = tuple(-1 if size is None else size for size in shape)
    assert find_all(graph, question(shape=open_shape)).counts == {"Relu": (1, 1)}


@pytest.mark.parametrize("kernel", [None, "a variable"])
@pytest.mark.parametrize("name", ["sepia", "XYZ", "gray", "blurred", "more contrast"])
def test_what_mixes_pixels_and_ends_elsewhere_than_an_image_is_an_activation(name, kernel):
    def capped(x, **weights):
        return behind(tf.clip_by_value(PREPARED[name](x), 0.0, 6.0), **weights)

    graph = traced(capped, {"kernel": LAYER[:, :, :1]} if kernel else {})
    assert find_all(graph, question()).counts == {"CappedRelu": (1, 1), "Relu": (1, 1)}


def recurrent(x):
    """h = max(a h + b x, 0), row by row, but for the max."""
    held = x[:, 0]
    for row in tf.unstack(x, axis=1)[1:4]:
        held = 0.5 * held - 0.7 * row + 0.2
    return held


PLAIN_LAYERS = {
    "the mean of neighbours": lambda x: tf.nn.avg_pool2d(x, 2, 2, "SAME") - 0.5,
    "less its surroundings": lambda x: x - tf.image.resize(tf.image.resize(x, [3, 3]), [6, 6]),
    "a difference of rows": lambda x: x[:, 3:] - x[:, :-3],
    "edges": tf.image.sobel_edges,
    "a difference of blurs": lambda x: x - tf.nn.depthwise_conv2d(x, BLUR, [1] * 4, "SAME"),
    "a window of numbers": lambda x: 0.8 * x[:, 3:, 1:] - 0.6 * x[:, :-3, 1:] + 0.3 * x[:, 3:, :-1] - 0.1,
    "a number for each pixel": lambda x: x - np.linspace(0, 1, 108, dtype=np.float32).reshape(6, 6, 3),
    "a projection": lambda x: tf.tensordot(x, np.float32([[0.7], [0.7], [-0.4]]), 1) - 0.3,
    "row by row": recurrent,
    "less a half": lambda x: x - 0.5,
    "each channel by itself": lambda x: x * np.float32([1.2, -0.7, 0.4]) + np.float32([-0.1, 0.2, 0.1]),
}


@pytest.mark.parametrize("name", PLAIN_LAYERS)
def test_a_relu_behind_a_plain_first_layer_is_an_activation(name):
    """Spelled as max(x, 0), of fixed filters and of constants that may be learnt."""
    graph = traced(
        lambda x: behind(tf.maximum(tf.reshape(PLAIN_LAYERS[name](x), [2, 3, -1, 1]), 0.0)), shape=(2, 6, 6, 3)
    )
    found = find_all(graph, question())
    assert (found.patched, found.cleanings) == (2, 0)


MOVED = {
    **{name: PREPARED[name] for name in ("space to depth", "lanczos", "antialiased", "turned", "rolled")},
    "lighter": lambda x: 1.2 * x + 0.1,
    "of -1..1": lambda x: (x + 1) * 0.5,
    "a negative": lambda x: 1.0 - x,
    "a negative of 0..255": lambda x: (255.0 - x) / 255,
}


@pytest.mark.parametrize("name", MOVED)
def test_what_is_cut_off_below_0_was_none_of_an_image_that_is_moved(name):
    found = find_all(traced(lambda x: behind(tf.maximum(MOVED[name](x), 0.0)), shape=(2, 6, 6, 3)), question())
    assert found.counts == {"Relu": (1, 1)} and found.cleanings == 1


def test_what_is_added_to_each_channel_may_be_learnt():
    """In a frozen graph; where weights are variables, it was not."""

    def raised(x, **weights):
        return behind(tf.maximum(x * np.float32([3, 4, 5]) + np.float32([0.1, 0.2, 0.3]), 0.0), **weights)

    assert find_all(traced(raised), question()).patched == 2
    weighed = find_all(traced(raised, {"kernel": LAYER[:, :, :1]}), question())
    assert (weighed.patched, weighed.cleanings) == (1, 1)


NORMALISED = {
    "mean and std": lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    "-1..1": lambda x: x / 127.5 - 1,
    "-1..1, of halves": lambda x: (x - 127.5) / 127.5,
    "-1..1, less 128": lambda x: (x - 128) / 128,
    "a mean of whole numbers": lambda x: x - [104.0, 117.0, 123.0],
}


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
@pytest.mark.parametrize("name", NORMALISED)
def test_a_relu_of_a_normalised_image_is_an_activation(name, dtype):
    graph = traced(lambda x: behind(tf.maximum(NORMALISED[name](x), 0.0)))
    found = find_all(graph, question(dtype=dtype))
    assert (found.patched, found.cleanings) == (2, 0)


@pytest.mark.parametrize(
    ("less", "cleanings"),
    [
        (lambda x: tf.maximum(x - 16, 0.0) / 219, 1),
        (lambda x: tf.maximum(tf.reverse(255 - x, [1]) - 16, 0.0) / 219, 1),
        (lambda x: tf.maximum(x * 2 - 100, 0.0) / 400, 1),
        (lambda x: tf.maximum(x * 1.5 - 100, 0.0) / 300, 0),
        (lambda x: tf.maximum(x + 16, 0.0) / 300, 1),
        (lambda x: tf.maximum(x + 0.5, 0.0) / 300, 1),
        (lambda x: tf.maximum(x - 16.5, 0.0) / 219, 0),
        (lambda x: tf.maximum((x - 16) / 219, 0.0), 0),
        (lambda x: tf.maximum((x - 16) / 219 + 0.1, 0.0), 0),
    ],
)
def test_a_black_is_taken_off_whole_numbers_before_they_are_made_fractions(less, cleanings):
    graph = traced(lambda x: behind(less(x)))
    assert find_all(graph, question(dtype=tf.uint8)).cleanings == cleanings


@pytest.mark.parametrize("build", [lambda x: x * 6, lambda x: (x - 0.5) * 8, lambda x: (x - [0.5, 0.4, 0.3]) * 8])
def test_a_cap_at_6_is_a_relu6_also_straight_behind_the_image(build):
    graph = traced(lambda x: behind(tf.minimum(tf.maximum(build(x), 0.0), 6.0)))
    assert find_all(graph, question()).counts == {"CappedRelu": (1, 1), "Relu": (1, 1)}


@pytest.mark.parametrize(("cap", "counts"), [(1.0, {"Relu": (1, 1)}), (6.0, {"CappedRelu": (1, 1), "Relu": (1, 1)})])
def test_a_picture_that_was_learnt_leaves_the_range_of_an_image(cap, counts):
    """A prompt that is added to each image, or a layer of one number for each pixel."""
    prompt = DRAW.normal(size=(6, 6, 3)).astype(np.float32)
    graph = traced(lambda x, prompt: behind(tf.clip_by_value(x + prompt, 0.0, cap)), {"prompt": prompt})
    assert find_all(graph, question()).counts == counts


LAYERS = {
    "three by three": (lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), (3, 3, 3, 8)),
    "one by one": (lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), (1, 1, 3, 8)),
    "of each channel": (lambda x, w: tf.nn.depthwise_conv2d(x, w, [1] * 4, "SAME"), (3, 3, 3, 2)),
    "of patches": (lambda x, w: tf.tensordot(tf.nn.space_to_depth(x, 2), w, 1), (12, 16)),
    "of all pixels": (lambda x, w: tf.reshape(x, [-1, 108]) @ w, (108, 10)),
    "behind a change of colours": (lambda x, w: tf.nn.conv2d(tf.image.rgb_to_yuv(x), w, 2, "SAME"), (3, 3, 3, 8)),
    "one by one, of few channels": (lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), (1, 1, 3, 3)),
    "an einsum": (lambda x, w: tf.einsum("nhwc,cd->nhwd", x, w), (3, 5)),
}


@pytest.mark.parametrize("held", ["a variable", "a constant"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_relu_behind_the_first_layer_is_an_activation(name, held):
    build, shape = LAYERS[name]
    kernel = DRAW.normal(size=shape).astype(np.float32)

    def spelled(x):
        return tf.minimum(tf.maximum(x, 0.0), 6.0)

    if held == "a variable":
        graph = traced(lambda x, w: spelled(build(x, w) + 0.1), {"w": kernel})
    else:
        graph = traced(lambda x: spelled(build(x, kernel) + 0.1))
    assert find_all(graph, question()).counts == {"CappedRelu": (1, 1)}


def test_a_relu_that_is_written_is_one_straight_behind_the_image():
    graph = traced(lambda x: tf.nn.relu6(gray(x)) + gray(tf.nn.relu(tf.nn.space_to_depth(x, 2)[..., :3]))[:, :1, :1])
    assert find_all(graph, question()).counts == {"Relu6": (1, 1), "Relu": (1, 1)}


def test_behind_an_inner_tensor_that_was_named_a_clip_is_an_activation():
    graph = traced(lambda x: tf.maximum(tf.nn.avg_pool2d(x, 2, 1, "SAME"), 0.0), shape=(None, 20, 20, 64))
    assert find_all(graph, question(shape=(-1, 20, 20, 64))).counts == {"Maximum": (1, 1)}


def test_a_long_chain_costs_as_much_as_its_links(monkeypatch):
    """Twice the links are twice the regions that are tabulated, and not four times."""
    asked: list[int] = []
    monkeypatch.setattr(naming, "of_channels", lambda forms, real=naming.of_channels: asked.append(1) or real(forms))

    def chain(links: int) -> int:
        def build(x):
            for place in range(links):
                x = 0.99 * x + 0.02 * tf.nn.relu(x - 0.001 * place)
            return x

        asked.clear()
        monkeypatch.setattr(regions, "NAMED", {})
        graph = traced(lambda x: build(mixed(x)))
        assert find_all(graph, question()).counts == {"Relu": (links, links)}
        return len(asked)

    assert chain(32) < 3 * chain(16)
