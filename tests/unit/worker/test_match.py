"""Constants, sigmoid and softmax as graphs spell them out."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import const, fed, node, traced, written

from gradviz_cli.worker.graph import match
from gradviz_cli.worker.graph.graph import GraphError

F = tf.float32


def test_a_constant_is_seen_through_casts_and_reshapes():
    graph = traced(lambda image: tf.identity(tf.reshape(tf.cast(tf.constant([1, 2], tf.int32), F), [2, 1]), "end"))
    assert match.constant(graph.nodes, "end:0").tolist() == [1, 2]


def test_a_computed_value_is_no_constant():
    graph = traced(lambda image: tf.negative(tf.constant(1.0), "end"))
    assert match.constant(graph.nodes, "end:0") is None
    assert match.constant(graph.nodes, "image:0") is None


def test_a_large_constant_is_a_weight():
    assert match.constant(written(const("c", np.zeros(match.MAX_CONSTANT + 1))).nodes, "c:0") is None


@pytest.mark.parametrize(
    ("made", "want"),
    [
        (lambda: tf.constant(3.0), 3),
        (lambda: tf.constant([3.0, 3.0]), 3),
        (lambda: tf.constant([3.0, 4.0]), None),
        (lambda: tf.constant(2, tf.int32), 2),
        (lambda: tf.constant(2, tf.bfloat16), 2),
        (lambda: tf.constant("a"), None),
        (lambda: tf.raw_ops.Fill(dims=tf.constant([2, 2]), value=tf.constant(7.0)), 7),
        (lambda: tf.raw_ops.ZerosLike(x=tf.constant([5.0])), 0),
        (lambda: tf.raw_ops.OnesLike(x=tf.constant([5.0])), 1),
        (lambda: tf.constant(np.zeros([0], np.float32)), None),
    ],
)
def test_scalar(made, want):
    graph = traced(lambda image: tf.identity(made(), "end"))
    assert match.scalar(graph.nodes, "end:0") == want


def test_the_origin_is_a_tensor_and_not_only_a_node():
    graph = traced(lambda image: tf.identity(tf.stop_gradient(tf.split(image, 3, -1, name="parts")[1]), "end"))
    assert match.origin(graph.nodes, "end:0") == "parts:1"
    assert match.maker(graph.nodes, "end:0").op == "Split"


def test_identities_in_a_circle_end():
    nodes = written(node("a", "Identity", "b:0", T=F), node("b", "Identity", "a:0", T=F)).nodes
    assert match.maker(nodes, "a:0").op == "Identity"


def test_two_parts_of_a_split_are_not_the_same():
    graph = traced(lambda image: tf.split(image, 3, -1, name="parts")[0])
    assert match.same(graph.nodes, "parts:0", "parts:0")
    assert not match.same(graph.nodes, "parts:0", "parts:1")


def test_the_same_computation_twice_is_the_same():
    graph = traced(lambda image: tf.exp(image, name="one") + tf.exp(image, name="two") + tf.exp(-image, name="three"))
    assert match.same(graph.nodes, "one:0", "two:0")
    assert not match.same(graph.nodes, "one:0", "three:0")


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.sigmoid(x),
        lambda x: 1 / (1 + tf.exp(-x)),
        lambda x: 1 / (tf.exp(-x) + 1),
        lambda x: tf.raw_ops.Reciprocal(x=1 + tf.exp(-x)),
    ],
)
def test_sigmoid(build):
    graph = traced(build)
    assert match.sigmoid_of(graph.nodes, graph.score.split(":")[0]) == "image:0"


@pytest.mark.parametrize("build", [lambda x: 1 / (1 + tf.exp(x)), lambda x: 2 / (1 + tf.exp(-x)), tf.tanh])
def test_no_sigmoid(build):
    graph = traced(build)
    assert match.sigmoid_of(graph.nodes, graph.score.split(":")[0]) is None


def spelled(x, shift=True):
    y = tf.exp(x - tf.reduce_max(x, -1, keepdims=True) if shift else x)
    return y / tf.reduce_sum(y, -1, keepdims=True)


@pytest.mark.parametrize(
    "build",
    [
        tf.nn.softmax,
        tf.nn.log_softmax,
        spelled,
        lambda x: spelled(x, shift=False),
        lambda x: x - tf.math.log(tf.reduce_sum(tf.exp(x), -1, keepdims=True)),
    ],
)
def test_softmax(build):
    graph = traced(build, shape=(2, 5))
    assert match.softmax_of(graph.nodes, graph.score.split(":")[0]) == "image:0"


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.exp(x) / tf.reduce_sum(tf.exp(-x), -1, keepdims=True),
        lambda x: x - tf.reduce_max(x, -1, keepdims=True),
        tf.nn.relu,
    ],
)
def test_no_softmax(build):
    graph = traced(build, shape=(2, 5))
    assert match.softmax_of(graph.nodes, graph.score.split(":")[0]) is None


def test_a_missing_input_is_named():
    with pytest.raises(GraphError, match="node s .op Softmax.: lacks its input 0"):
        match.softmax_of(written(fed(), node("s", "Softmax", T=F)).nodes, "s")
