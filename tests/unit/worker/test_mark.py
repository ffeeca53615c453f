"""Marks: which nodes get one, that the forward pass stays, and what the rules then do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from graphs import Calls, computed, const, fed, function, node, pixels, question, traced, written
from worked import WORKED

from gradviz_cli.rules import RULES
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes.mark import ATTRIBUTE, GRADIENT, mark
from gradviz_cli.worker.run.rules import obeying

F = tf.float32


def marks(nodes) -> dict[str, str]:
    return {name: json.loads(one.attr[ATTRIBUTE].s)["kind"] for name, one in nodes.items() if ATTRIBUTE in one.attr}


def gradient(graph, image, mode: str, stops_open: bool = False, given=()) -> np.ndarray | None:
    """Of the sum of the score, with the marks in force; `given` are weights."""
    with tf.Graph().as_default() as made:
        x = tf.compat.v1.placeholder(F, image.shape)
        score = tf.graph_util.import_graph_def(graph.graph_def(), {"image:0": x}, [graph.score], name="")[0]
        with obeying(RULES[mode], stops_open):
            found = tf.gradients(score, [x])[0]
    if found is None:
        return None
    with tf.compat.v1.Session(graph=made) as session:
        return session.run(found, {x: image, **dict(given)})


CAPS = np.array([0.5, 1.5, 3.0], np.float32)  # one for each channel
OPENS = np.array([-0.75, 0.0, 0.5], np.float32)
FIRST = OPENS[:, None, None]  # beside channels first
KINDS = {
    "relu": (tf.nn.relu, lambda x: x > 0),
    "relu6": (tf.nn.relu6, lambda x: (x > 0) & (x < 6)),
    "maximum": (lambda x: tf.maximum(x, 0.0), lambda x: x > 0),
    "clip": (lambda x: tf.clip_by_value(x, 0.0, 2.0), lambda x: (x > 0) & (x < 2)),
    "product with a comparison": (lambda x: x * tf.cast(x > 0, F), lambda x: x > 0),
    "half of x + |x|": (lambda x: (x + tf.abs(x)) / 2, lambda x: x > 0),
    "minus minimum": (lambda x: -tf.minimum(-x, 0.0), lambda x: x > 0),
    "a cap for each channel": (lambda x: tf.minimum(tf.nn.relu(x), CAPS), lambda x: (x > 0) & (x < CAPS)),
    "a shifted ReLU6": (lambda x: tf.nn.relu6(x + 3.0), lambda x: (x > -3) & (x < 3)),
    "above a threshold, less that": (lambda x: tf.maximum(x, 0.25) - 0.25, lambda x: x > 0.25),
    "between two numbers": (lambda x: tf.clip_by_value(x, -1.0, 1.5) + 1.0, lambda x: (x > -1) & (x < 1.5)),
    "between a number and minus that": (lambda x: tf.clip_by_value(x, -1.0, 1.0) + 1.0, lambda x: (x > -1) & (x < 1)),
    "above a threshold for each channel, less that": (lambda x: tf.maximum(x, OPENS) - OPENS, lambda x: x > OPENS),
    "the same in the bias behind it": (lambda x: tf.nn.bias_add(tf.maximum(x, OPENS), -OPENS), lambda x: x > OPENS),
    "the same, channels first": (
        lambda x: last(tf.nn.bias_add(tf.maximum(first(x), FIRST), -OPENS, "NCHW")),
        lambda x: x > OPENS,
    ),
    "the same, by a choice": (lambda x: tf.where(x > OPENS, x - OPENS, 0.0), lambda x: x > OPENS),
    "the same, of the absolute value": (lambda x: (x - OPENS + tf.abs(x - OPENS)) / 2, lambda x: x > OPENS),
    "the same, of a stack": (
        lambda x: tf.reduce_max(tf.stack([x, tf.broadcast_to(OPENS, tf.shape(x))], -1), -1) - OPENS,
        lambda x: x > OPENS,
    ),
    "less what is below a threshold for each channel": (lambda x: x - tf.minimum(x, OPENS), lambda x: x > OPENS),
    "above a threshold of each place": (
        lambda x: tf.maximum(x, np.resize(OPENS, (6, 6, 3))) - np.resize(OPENS, (6, 6, 3)),
        lambda x: x > OPENS,
    ),
    "between two numbers for each channel": (
        lambda x: tf.clip_by_value(x, OPENS, OPENS + CAPS) - OPENS,
        lambda x: (x > OPENS) & (x < OPENS + CAPS),
    ),
    "between a number for each channel and minus that": (
        lambda x: tf.minimum(tf.maximum(x, -CAPS), CAPS) + CAPS,
        lambda x: (x > -CAPS) & (x < CAPS),
    ),
    "up to 6 above a threshold for each channel": (
        lambda x: tf.nn.relu6(x - OPENS),
        lambda x: (x > OPENS) & (x < OPENS + 6),
    ),
    "one ReLU less another": (
        lambda x: tf.nn.relu(x - OPENS) - tf.nn.relu(x - OPENS - 1.0),
        lambda x: (x > OPENS) & (x < OPENS + 1),
    ),
    "above a threshold, by a choice": (lambda x: tf.where(x > 0.5, x - 0.5, 0.0), lambda x: x > 0.5),
    "the largest of a stack": (lambda x: tf.reduce_max(tf.stack([x, tf.zeros_like(x)]), 0), lambda x: x > 0),
    "the largest, side by side": (
        lambda x: tf.reduce_max(tf.concat([tf.zeros([*x.shape, 1]), x[..., None]], -1), -1),
        lambda x: x > 0,
    ),
    "minus the smallest of a stack": (lambda x: -tf.reduce_min(tf.stack([-x, 0 * x], -1), -1), lambda x: x > 0),
    "places below 0 set": (
        lambda x: tf.tensor_scatter_nd_update(x, i := tf.where(x < 0), tf.zeros([tf.shape(i)[0]])),
        lambda x: x > 0,
    ),
    "places above 0 put": (
        lambda x: tf.scatter_nd(i := tf.where(x > 0), tf.gather_nd(x, i), tf.shape(x, tf.int64)),
        lambda x: x > 0,
    ),
    "a mask that is reshaped too": (
        lambda x: tf.reshape(tf.reshape(x, [-1, 9]) * tf.cast(tf.reshape(x > 0, [-1, 9]), F), x.shape),
        lambda x: x > 0,
    ),
    "a mask that is turned too": (
        lambda x: tf.transpose(tf.where(tf.transpose(x > 0), tf.transpose(x), 0.0)),
        lambda x: x > 0,
    ),
}


def first(x):
    return tf.transpose(x, [0, 3, 1, 2])


def last(x):
    return tf.transpose(x, [0, 2, 3, 1])


def turned(x):
    """The image, turned: what its gradient passes unchanged but for the turn. No image any more to who looks for one."""
    return tf.cumsum(x, 1) - tf.cumsum(x, 1, exclusive=True)


@pytest.mark.parametrize("mode", WORKED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_marked_activation_obeys_the_rule(kind, mode):
    activation, gate = KINDS[kind]
    upstream = np.sign(pixels(seed=5)).astype(np.float32)
    graph = traced(lambda image: activation(turned(image)) * upstream)
    after = mark(graph, question())
    verify(after, question())
    image = np.round(4 * pixels() * 16) / 16  # sums of these are exact
    np.testing.assert_array_equal(computed(after, image)[0], computed(graph, image)[0])
    want = WORKED[mode].equation(upstream, gate(image), upstream > 0)
    np.testing.assert_array_equal(gradient(after, image, mode), want)


TURNED = {
    "minus minimum": (lambda x: -tf.minimum(x, 0.0), lambda x: x < 0),
    "below a threshold": (lambda x: 0.5 - tf.minimum(x, 0.5), lambda x: x < 0.5),
    "below a threshold, capped": (lambda x: 0.5 - tf.clip_by_value(x, -1.5, 0.5), lambda x: (x > -1.5) & (x < 0.5)),
    "below one for each channel": (lambda x: OPENS - tf.minimum(x, OPENS), lambda x: x < OPENS),
    "below one for each channel, capped": (
        lambda x: OPENS - tf.clip_by_value(x, OPENS - CAPS, OPENS),
        lambda x: (x > OPENS - CAPS) & (x < OPENS),
    ),
}


@pytest.mark.parametrize("mode", WORKED)
@pytest.mark.parametrize("kind", TURNED)
def test_a_relu_of_minus_the_number_turns_the_gradient(kind, mode):
    activation, gate = TURNED[kind]
    upstream = np.sign(pixels(seed=5)).astype(np.float32)
    after = mark(traced(lambda image: activation(turned(image)) * upstream), question())
    verify(after, question())
    image = np.round(4 * pixels() * 16) / 16
    want = -WORKED[mode].equation(upstream, gate(image), upstream > 0)
    np.testing.assert_array_equal(gradient(after, image, mode), want)


@pytest.mark.parametrize("mode", WORKED)
def test_thresholds_that_were_learnt_for_more_channels_than_are_looked_at(mode):
    """max(x, c) is relu(x - c) + c, with a c for each of 40 channels."""
    opens = (np.arange(40) - 20).astype(np.float32) / 8
    upstream = np.sign(pixels((2, 6, 6, 40), seed=5)).astype(np.float32)

    def build(image, c):
        return tf.maximum(tf.tile(turned(image)[..., :1], [1, 1, 1, 40]), c) * upstream

    after = mark(traced(build, {"c": opens}), question())
    verify(after, question())
    given = {"c:0": opens}
    image = np.round(4 * pixels() * 16) / 16
    wide = np.repeat(image[..., :1], 40, -1)
    want = WORKED[mode].equation(upstream, wide > opens, upstream > 0).sum(-1)
    found = gradient(after, image, mode, given=given)
    np.testing.assert_allclose(found[..., 0], want)


def test_the_graph_before_has_no_mark():
    graph = traced(lambda image: tf.nn.relu(image))
    mark(graph, question())
    assert not marks(graph.nodes)


def test_smooth_activations_obey_only_when_asked():
    graph = traced(lambda image: tf.nn.elu(turned(tf.nn.relu(image, "relu")), "elu"))
    assert marks(mark(graph, question()).nodes) == {"relu": "relu"}
    assert marks(mark(graph, question(activations="all")).nodes) == {"relu": "relu", "elu": "smooth"}


@pytest.mark.parametrize("mode", WORKED)
def test_a_smooth_activation_obeys_by_its_derivative(mode):
    upstream = np.sign(pixels(seed=5)).astype(np.float32)
    graph = traced(lambda image: tf.nn.elu(image, "elu") * upstream)
    after = mark(graph, question(activations="all"))
    verify(after, question())
    image = pixels()
    np.testing.assert_array_equal(computed(after, image)[0], computed(graph, image)[0])
    slope = np.where(image > 0, 1, np.exp(image))
    want = WORKED[mode].equation(upstream, slope, upstream > 0)
    np.testing.assert_allclose(gradient(after, image, mode), want, rtol=1e-5)


def test_a_stop_is_open_only_when_told():
    graph = traced(lambda image: tf.stop_gradient(image * 3.0))
    after = mark(graph, question())
    assert gradient(after, pixels(), "backprop") is None
    np.testing.assert_array_equal(gradient(after, pixels(), "backprop", stops_open=True), np.full(pixels().shape, 3.0))


def test_what_is_off_the_path_is_not_marked():
    graph = traced(lambda image, w: image + tf.nn.relu(w, "off"), {"w": np.ones(3, "f")})
    assert not marks(mark(graph, question()).nodes)


ENDS = ("if:0", "if:0", "image:0")


def test_functions_on_the_path_are_marked():
    body = function("f", node("relu", "Relu", "x:0", T=F), results=["relu:0"], types={"x": F})
    attributes = {"Tcond": tf.bool, "Tin": [F], "Tout": [F], "then_branch": Calls("f"), "else_branch": Calls("f")}
    call = node("if", "StatelessIf", "yes:0", "image:0", **attributes)
    graph = written(
        fed(), const("yes", True, bool), call, outputs=ENDS, functions={"f": body}, feeds={"image:0": "image"}
    )
    after = mark(graph, question())
    verify(after, question())
    assert marks(after.functions["f"].nodes) == {"relu": "relu"}
    assert after.functions["f"].nodes["relu"].attr["_gradient_op_type"].s.decode() == GRADIENT
