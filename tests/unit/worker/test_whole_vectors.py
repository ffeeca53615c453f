"""A number is rounded alike wherever it stands in a batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from graphs import computed, pixels, question, traced

from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes.whole_vectors import ROUNDED, whole_vectors

SHAPE = (None, 3, 5, 3)
IMAGES = pixels((7, 3, 5, 3))
EACH = {
    "sigmoid": tf.sigmoid,
    "exp": tf.exp,
    "tanh": tf.tanh,
    "rsqrt": lambda x: tf.math.rsqrt(x + 2),
    "log": lambda x: tf.math.log(x + 2),
    "softplus": tf.nn.softplus,
    "erf": tf.math.erf,
    "softmax": lambda x: tf.nn.softmax(x * 5),
    "of one number": lambda x: tf.sigmoid(tf.reduce_mean(x, [1, 2, 3])),
}


@pytest.mark.parametrize("name", EACH)
def test_the_values_are_those_of_the_image_alone(name: str) -> None:
    graph = traced(EACH[name], shape=SHAPE)
    whole = whole_vectors(graph, question())
    verify(whole)
    together, alone = computed(whole, IMAGES)[0], [computed(whole, IMAGES[i : i + 1])[0] for i in range(len(IMAGES))]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    np.testing.assert_allclose(together, computed(graph, IMAGES)[0], rtol=1e-6)
    assert together.shape == computed(graph, IMAGES)[0].shape


@pytest.mark.parametrize("shape", [(None, 4, 4, 3), (None, None, 5, 3), None])
def test_what_needs_nothing_or_does_not_tell_its_shape_is_left(shape: tuple | None) -> None:
    graph = traced(tf.sigmoid, shape=shape)
    assert whole_vectors(graph, question()).nodes == graph.nodes


def test_every_operation_takes_one_tensor_of_numbers() -> None:
    for op in ROUNDED:
        made: Callable = getattr(tf.raw_ops, op)
        assert made.__doc__ and "x" in made.__doc__ or "features" in made.__doc__
