"""Loops, branches and arrays of TensorFlow 1 become those of TensorFlow 2 and compute the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from graphs import Graph, computed, fed, node, ops, pixels, traced, written

from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes.functionalize import functionalize

F = tf.float32
OLD = {"Enter", "Exit", "Merge", "Switch", "NextIteration", "LoopCond"}
v1 = tf.compat.v1


def old(build: Callable, **more) -> Graph:
    """Traced with the control flow of TensorFlow 1."""
    v1.disable_control_flow_v2()
    try:
        return traced(build, **more)
    finally:
        v1.enable_control_flow_v2()


def arrays(image):
    """Each image doubled, by way of a TensorArray."""
    taken = tf.TensorArray(F, 2).unstack(image)
    given = tf.TensorArray(F, 2)
    loop = v1.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, a.write(i, 2 * taken.read(i))), [0, given])
    return loop[1].stack()


BUILDS = {
    "loop": lambda x: v1.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 2), [0, x])[1],
    "loop around a weight": lambda x: v1.while_loop(lambda y: tf.reduce_sum(y) < 1e3, lambda y: [tf.exp(y) + 1], [x]),
    "loop with something of the outside": lambda x: v1.while_loop(
        lambda i, _: i < 2, lambda i, y: (i + 1, y + tf.nn.relu(x)), [0, x]
    )[1],
    "branch": lambda x: v1.cond(tf.reduce_sum(x) > 0, lambda: tf.nn.relu(x), lambda: -x),
    "branch with two results": lambda x: tf.add(*v1.cond(tf.reduce_sum(x) > 0, lambda: (x, x * 2), lambda: (x, -x))),
    "branch of constants": lambda x: x + v1.cond(tf.reduce_sum(x) > 0, lambda: tf.ones([1]), lambda: tf.zeros([1])),
    "branch in a branch": lambda x: v1.cond(
        tf.reduce_sum(x) > 0, lambda: v1.cond(tf.reduce_max(x) > 1, lambda: x, lambda: x * 3), lambda: -x
    ),
    "branch in a loop": lambda x: v1.while_loop(
        lambda i, _: i < 3, lambda i, y: (i + 1, v1.cond(i > 1, lambda: y * 2, lambda: y + 1)), [0, x]
    )[1],
    "loop in a loop": lambda x: v1.while_loop(
        lambda i, _: i < 2,
        lambda i, y: (i + 1, v1.while_loop(lambda j, _: j < 2, lambda j, z: (j + 1, z + 1), [0, y])[1]),
        [0, x],
    )[1],
    "arrays": arrays,
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", BUILDS)
def test_the_same_is_computed(name, sign):
    def build(image):
        found = BUILDS[name](image)
        return tf.identity(found[0] if isinstance(found, list) else found, "end")

    graph = old(build)
    assert OLD & set(ops(graph))
    verify(graph)
    after = functionalize(graph)
    verify(after)
    assert not OLD & set(after.ops()) and not any("TensorArray" in op for op in after.ops())
    image = sign * np.abs(pixels())
    np.testing.assert_allclose(computed(after, image)[0], computed(graph, image)[0], rtol=1e-5)


def test_a_graph_without_them_is_left_alone():
    graph = traced(lambda image: tf.nn.relu(image))
    assert functionalize(graph) is graph


def test_a_form_that_nobody_writes_stays():
    graph = written(fed(), node("m", "Merge", "image:0", "image:0", "image:0", T=F, N=3), node("r", "Relu", "m:0", T=F))
    assert "Merge" in ops(functionalize(graph))


def test_outputs_follow_what_has_moved():
    graph = old(lambda x: v1.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 2), [0, x])[1])
    after = functionalize(graph)
    assert after.nodes[after.score.split(":")[0]].op == "While" and after.score != graph.score
