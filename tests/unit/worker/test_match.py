"""What a tensor is behind what hands it on, and constants as graphs write them down."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import const, node, traced, written

from gradviz_cli.worker.graph import match

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
