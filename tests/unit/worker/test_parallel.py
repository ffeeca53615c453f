"""Images that are computed side by side are each what they are alone."""

from __future__ import annotations

import pytest
from children import python

from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker import model

# Convolutions that end in a sum, as the shortcuts of a residual network have them. In a process of its own: TensorFlow's
# kernel for the two as one crashes where it does not mix up the images.
SHORTCUTS = """
import sys
from gradviz_cli.worker.run.tensorflow import import_tensorflow
import_tensorflow()
import numpy as np
import tensorflow as tf
from gradviz_cli.worker.run.parallel import Calls

calls = Calls(sys.argv[1])
random = np.random.default_rng(0)
kernel = tf.constant(random.normal(size=(3, 3, 16, 16)) * 0.1, tf.float32)
shift = tf.constant(random.normal(size=16), tf.float32)
images = random.normal(size=(16, 24, 24, 16)).astype(np.float32)

def network(image):
    for _ in range(6):
        image = tf.nn.relu(image + tf.nn.bias_add(tf.nn.conv2d(image, kernel, 1, "SAME"), shift))
    return image

for count in (1, None):
    for _ in range(4):
        one = tf.function(network, autograph=False).get_concrete_function(tf.TensorSpec([count, 24, 24, 16]))
        for _ in range(4):
            together = np.concatenate(list(calls.each(lambda image: one(tf.constant(image)).numpy(), np.split(images, len(images)))))
        alone = np.concatenate([one(tf.constant(image[None])).numpy() for image in images])
        assert np.array_equal(together, alone)
print(np.abs(alone).sum())
"""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_sums_behind_convolutions(precision: str) -> None:
    run = python(SHORTCUTS, precision, env={"CUDA_VISIBLE_DEVICES": ""})
    if precision == "bfloat16" and b"computes in float32 on this processor" in run.stderr:
        pytest.skip("this processor takes no bfloat16")
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout) > 0


@pytest.mark.parametrize(
    ("precision", "quicker", "warned"),
    [("bfloat16", False, True), ("bfloat16", True, False), ("float32", False, False)],
)
def test_a_precision_that_is_slow_here_is_warned_of(monkeypatch, precision: str, quicker: bool, warned: bool) -> None:
    monkeypatch.setattr(model, "is_quicker_in_bfloat16", lambda: quicker)
    found = model._slow(ModelOptions("m", precision=precision))
    assert (found is not None) == warned
    assert not warned or found.endswith("settle it with --precision float32")
