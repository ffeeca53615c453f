"""SavedModels of 16 x 16 pixels that load and run in an instant, and ones that fail on bright images in some way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

SIDE = 16
BRIGHT = 0.95  # an image whose mean is above that springs the trap


def write(folder: Path, trap: Callable | None = None, channels: int = 3) -> Path:
    """One convolution, one dense layer; `trap(images)` [n] is added to the scores, where no gradient passes."""
    random = np.random.default_rng(7)
    kernel = tf.Variable(random.normal(0, 0.3, (3, 3, channels, 8)).astype(np.float32))
    bias = tf.Variable(random.uniform(0.1, 0.5, 8).astype(np.float32))
    dense = tf.Variable(random.normal(0, 1, (8, 5)).astype(np.float32))
    module = tf.Module()
    module.variables_ = [kernel, bias, dense]

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, channels])])
    def serve(image):
        features = tf.nn.relu(tf.nn.conv2d(image, kernel, 2, "SAME") + bias)
        scores = tf.reduce_mean(features, [1, 2]) @ dense
        return {"scores": scores + tf.stop_gradient(trap(image)) if trap else scores}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "gradviz.toml").write_text('preprocess = "unit"\n')
    return folder


def brightest(images: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.reduce_mean(images, [1, 2, 3]))


def hangs(images: tf.Tensor) -> tf.Tensor:
    """A loop that never ends while a bright image is in the batch."""
    bright = brightest(images) > BRIGHT
    return 0 * tf.while_loop(lambda i: (i < 1) | bright, lambda i: [i + 1], [tf.constant(0.0)])[0]


def eats_memory(images: tf.Tensor) -> tf.Tensor:
    """A tensor of 4 TB."""
    size = tf.where(brightest(images) > BRIGHT, 2**40, 4)
    return 0 * tf.reduce_sum(tf.fill([size], brightest(images)))


def needs_memory(images: tf.Tensor) -> tf.Tensor:
    """More than there is for more than two images at once, whatever they show."""
    size = tf.where(tf.shape(images)[0] > 2, 2**40, 4)
    return 0 * tf.reduce_sum(tf.fill([size], brightest(images)))


def fails(images: tf.Tensor) -> tf.Tensor:
    """An operation that refuses its input."""
    bright = tf.cast(brightest(images) > BRIGHT, tf.int32)
    return tf.gather(tf.zeros([1]), bright)
