"""What draws random numbers draws the same ones each time, and others than what draws beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import computed, node, ops, pixels, traced
from tensorflow.core.framework.op_def_pb2 import OpDef

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.analysis.chance import random_warning
from gradviz_cli.worker.graph.graph import Function
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes.fixed_chance import fixed_chance

IMAGE = pixels((1, 9, 9, 3))
raw = tf.raw_ops
RATIO = [1.0, 1.5, 1.4, 1.0]


def boxed(x: tf.Tensor) -> tf.Tensor:
    box = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])
    begin, *_ = tf.image.sample_distorted_bounding_box([90, 90, 3], box, min_object_covered=0.1)
    return x + tf.cast(begin[0], tf.float32)


EACH = {
    "uniform": lambda x: x + tf.random.uniform(tf.shape(x)),
    "normal": lambda x: x + tf.random.normal(tf.shape(x)),
    "truncated": lambda x: x * tf.random.truncated_normal([9, 9, 3]),
    "whole numbers": lambda x: x + tf.cast(tf.random.uniform([9], 0, 1000, tf.int32)[:, None], tf.float32),
    "gamma": lambda x: x + tf.random.gamma([9, 3], 2.0),
    "classes": lambda x: x + tf.cast(tf.random.categorical(x[:, 0, :, 0] * 0, 9)[0, :, None], tf.float32),
    "dropout": lambda x: tf.nn.dropout(x + 1, 0.5),
    "cut": boxed,
    "mean of pools": lambda x: tf.nn.fractional_avg_pool(x, RATIO)[0],
    "largest of pools": lambda x: tf.nn.fractional_max_pool(x, RATIO)[0],
}


@pytest.mark.parametrize("name", EACH)
def test_each_time_the_same(name: str) -> None:
    graph = traced(EACH[name], shape=(None, 9, 9, 3))
    assert random_warning(graph)
    free = computed(graph, IMAGE)[0]
    assert any(not np.array_equal(free, computed(graph, IMAGE)[0]) for _ in range(20)), "else this shows nothing"
    fixed = fixed_chance(graph)
    verify(fixed)
    assert random_warning(fixed) is None and fixed_chance(fixed).nodes == fixed.nodes
    first, *others = [computed(fixed, IMAGE)[0] for _ in range(3)]
    assert first.shape == free.shape
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_noise_stays_noise() -> None:
    """Of the right spread, and not the same for two that draw."""
    graph = fixed_chance(traced(lambda x: tf.stack([tf.random.normal([5000]), tf.random.normal([5000])])))
    one, other = computed(graph, pixels())[0]
    assert abs(one.mean()) < 0.1 and abs(one.std() - 1) < 0.1 and abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_a_generator_stands_still() -> None:
    graph = traced(lambda x: x)
    state = node("state", "RngReadAndSkip", "generator:0", "alg:0", "delta:0")
    fixed = fixed_chance(replace(graph, nodes={**graph.nodes, "state": state}))
    assert fixed.nodes["state"].op == "Const" and len(fixed.nodes) == len(graph.nodes) + 1


def test_in_a_branch_or_loop() -> None:
    graph = traced(lambda x: x)
    drawn = traced(lambda x: x + tf.random.uniform([3])).nodes
    body = Function(OpDef(name="body"), drawn, ("add:0",))
    called = fixed_chance(replace(graph, functions={"body": body}))
    assert random_warning(replace(graph, functions={"body": body})) and random_warning(called) is None
    assert ops(replace(graph, nodes=called.functions["body"].nodes)).count("StatelessRandomUniform") == 1


def test_what_cannot_be_told_is_refused() -> None:
    graph = traced(lambda x: tf.random.shuffle(x))
    with pytest.raises(ModelUnusable, match=r"random: RandomShuffle in .*export it for inference"):
        fixed_chance(graph)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: x * 2,
        lambda x: x + tf.random.stateless_uniform([3], [1, 2]),
        lambda x: raw.FractionalAvgPool(value=x, pooling_ratio=RATIO, deterministic=True, seed=1, seed2=2)[0],
    ],
)
def test_what_draws_nothing_new_is_left(build) -> None:
    graph = traced(build, shape=(None, 9, 9, 3))
    assert random_warning(graph) is None
    assert fixed_chance(graph).nodes == graph.nodes


def test_types_are_kept() -> None:
    for kind in (tf.float64, tf.float16):
        graph = traced(lambda x, kind=kind: x + tf.cast(tf.random.uniform([3], dtype=kind), tf.float32))
        assert "StatelessRandomUniform" in ops(fixed_chance(graph))
        assert computed(fixed_chance(graph), pixels())[0].dtype == np.float32
