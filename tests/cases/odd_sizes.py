"""Small networks whose tensors are no multiples of a processor's vectors: what is left over of one is rounded otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

HEIGHT, WIDTH, CLASSES = 13, 11, 6

Network = Callable[[tf.Tensor], tf.Tensor]


class Weights:
    """Normal ones, so large that values neither vanish nor explode."""

    def __init__(self) -> None:
        self._random, self.all = np.random.default_rng(5), []

    def __call__(self, *shape: int) -> tf.Variable:
        size = 1.5 / np.sqrt(np.prod(shape[:-1]))
        self.all.append(tf.Variable(self._random.normal(0, size, shape).astype(np.float32)))
        return self.all[-1]


def conv(x: tf.Tensor, kernel: tf.Variable) -> tf.Tensor:
    return tf.nn.conv2d(x, kernel, 1, "SAME")


def normed(x: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5)


def between(middle: Network) -> Callable[[Weights], Network]:
    """A convolution, `middle`, a convolution, a ReLU, and a dense layer."""

    def build(held: Weights) -> Network:
        first, second, dense = held(3, 3, 3, 5), held(3, 3, 5, 7), held(7, CLASSES)
        return lambda x: tf.reduce_mean(tf.nn.relu(conv(middle(conv(x, first)), second)), [1, 2]) @ dense

    return build


def dense(held: Weights) -> Network:
    layers = [held(HEIGHT * WIDTH * 3, 37), held(37, 29), held(29, CLASSES)]

    def run(x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.reshape(x, [-1, HEIGHT * WIDTH * 3]) @ layers[0])
        return tf.nn.relu(x @ layers[1]) @ layers[2]

    return run


def attention(held: Weights) -> Network:
    embed, query, key, value, last = held(27, 9), held(9, 9), held(9, 9), held(9, 9), held(9, CLASSES)

    def run(x: tf.Tensor) -> tf.Tensor:
        window = [1, 3, 3, 1]
        tokens = tf.reshape(tf.image.extract_patches(x, window, window, [1] * 4, "VALID"), [-1, 12, 27])
        tokens = tf.einsum("bnc,cd->bnd", tokens, embed)
        asked, known, told = (tf.einsum("bnc,cd->bnd", normed(tokens, (-1,)), each) for each in (query, key, value))
        tokens += tf.nn.softmax(tf.matmul(asked, known, transpose_b=True) / 3) @ told
        return tf.nn.relu(tf.reduce_mean(tokens, 1)) @ last

    return run


def lstm(held: Weights) -> Network:
    entering, kept, last = held(WIDTH * 3, 20), held(5, 20), held(5, CLASSES)

    def run(x: tf.Tensor) -> tf.Tensor:
        hidden = cell = tf.zeros([tf.shape(x)[0], 5])
        for row in range(6):
            gates = tf.reshape(x[:, row], [-1, WIDTH * 3]) @ entering + hidden @ kept
            opened, forgotten, new, shown = tf.split(gates, 4, 1)
            cell = tf.sigmoid(forgotten) * cell + tf.sigmoid(opened) * tf.tanh(new)
            hidden = tf.sigmoid(shown) * tf.tanh(cell)
        return tf.nn.relu(hidden) @ last

    return run


def grouped(held: Weights) -> Network:
    first, second, last = held(3, 3, 3, 9), held(3, 3, 3, 6), held(6, CLASSES)
    return lambda x: tf.reduce_mean(tf.nn.relu(conv(tf.nn.silu(conv(x, first)), second)), [1, 2]) @ last


def separable(held: Weights) -> Network:
    deep, wide, last = held(3, 3, 3, 2), held(1, 1, 6, 7), held(7, CLASSES)
    return lambda x: (
        tf.reduce_mean(tf.nn.relu(conv(tf.nn.depthwise_conv2d(x, deep, [1] * 4, "SAME"), wide)), [1, 2]) @ last
    )


def squeezed(held: Weights) -> Network:
    first, narrow, wide, last = held(3, 3, 3, 5), held(5, 3), held(3, 5), held(5, CLASSES)

    def run(x: tf.Tensor) -> tf.Tensor:
        x = conv(x, first)
        scale = tf.sigmoid(tf.nn.relu(tf.reduce_mean(x, [1, 2]) @ narrow) @ wide)
        return tf.reduce_mean(tf.nn.relu(x * scale[:, None, None]), [1, 2]) @ last

    return run


NETWORKS: dict[str, Callable[[Weights], Network]] = {
    "dense": dense,
    "attention": attention,
    "lstm": lstm,
    "exp": between(lambda x: tf.exp(-tf.square(x))),
    "power": between(lambda x: tf.pow(tf.abs(x) + 0.1, 1.7)),
    "softplus": between(lambda x: x * tf.tanh(tf.nn.softplus(x))),
    "gelu": between(tf.nn.gelu),
    "layer norm": between(lambda x: normed(x, (-1,))),
    "instance norm": between(lambda x: normed(x, (1, 2))),
    "local response": between(lambda x: tf.nn.local_response_normalization(x, 2, 1.0, 0.3, 0.7)),
    "softmax": between(tf.nn.softmax),
    "grouped": grouped,
    "separable": separable,
    "squeezed": squeezed,
}


def write(folder: Path, name: str, batch: int | None = None) -> Path:
    """A SavedModel of one of them, which takes any number of images or just so many."""
    held, module = Weights(), tf.Module()
    network = NETWORKS[name](held)
    module.held = held.all

    @tf.function(input_signature=[tf.TensorSpec([batch, HEIGHT, WIDTH, 3])])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": network(image)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder
