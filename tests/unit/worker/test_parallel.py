"""What TensorFlow is let rewrite: nothing, but where convolutions of single channels end in a bias and a ReLU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
from graphs import traced

from gradviz_cli.worker.run.parallel import OPTIMIZERS, Calls

KERNEL = np.ones((3, 3, 3, 1), np.float32)


@pytest.fixture(autouse=True)
def options() -> Iterator[None]:
    before = tf.config.optimizer.get_experimental_options()
    yield
    tf.config.optimizer.set_experimental_options(before)


def thin(act, bias: bool = True):
    def build(image: tf.Tensor, kernel: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
        found = tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "SAME")
        return act(tf.nn.bias_add(found, shift) if bias else found)

    return traced(build, {"kernel": KERNEL, "shift": np.ones(3, np.float32)})


def asked() -> dict[str, bool]:
    return tf.config.optimizer.get_experimental_options()


@pytest.mark.parametrize("act", [tf.nn.relu, tf.nn.relu6])
def test_thin_convolutions_are_fused_and_nothing_else_is_done(act):
    Calls().fuse(thin(act))
    found = asked()
    assert found["remapping"] and not found["disable_meta_optimizer"]
    assert not any(found[name] for name in OPTIMIZERS)


@pytest.mark.parametrize("graph", [thin(tf.nn.swish), thin(tf.nn.relu, bias=False)])
def test_other_graphs_run_as_they_are_written(graph):
    Calls().fuse(graph)
    assert asked()["disable_meta_optimizer"]


def test_in_bfloat16_tensorflow_rewrites_all_of_it():
    Calls("bfloat16").fuse(thin(tf.nn.relu))
    found = asked()
    assert found["auto_mixed_precision_onednn_bfloat16"] and not found["disable_meta_optimizer"]
    assert found.get("layout_optimizer", True)


def test_another_model_is_not_left_with_what_one_was_let():
    Calls().fuse(thin(tf.nn.relu))
    Calls("bfloat16")
    assert all(asked()[name] for name in OPTIMIZERS)
