"""The yardstick of the steady state: the best graph that we can write by hand, in one process, with all threads.

Batch norm folded, weights captured, a batch size that is known, the class given, one feed and one fetch, no files.
"""

import sys
from pathlib import Path

import tensorflow as tf
from common import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import twins

MATMUL = 3072


def load(folder, mode):
    return _matmul() if mode == "matmul" else _network(folder, mode)


def _matmul():
    """The machine's best: a product of square matrices, 2 * MATMUL ** 3 operations."""
    matrix = tf.random.normal([MATMUL, MATMUL])
    run = tf.function(lambda: tf.matmul(matrix, matrix))
    return None, lambda images, classes: run()[0, 0].numpy()


def _network(folder, mode):
    layers, weights = twins.folded(*twins.read(folder))
    tensors = {name: tf.constant(value) for name, value in weights.items()}
    functions = {}

    def logits(images):
        return twins.in_tensorflow(layers, tensors, images, lambda x, cap: _relu(mode, x, cap))

    def build(batch):
        @tf.function(
            input_signature=[tf.TensorSpec([batch, 224, 224, 3]), tf.TensorSpec([batch], tf.int64)],
            autograph=False,
        )
        def run(images, given):
            scores = logits(images)
            return tf.gradients(scores, images, tf.one_hot(given, scores.shape[1]))[0]

        return run

    def classes(images):
        return tf.argmax(tf.function(logits)(images), -1).numpy()

    def gradient(images, given):
        if len(images) not in functions:
            functions[len(images)] = build(len(images))
        return functions[len(images)](tf.constant(images), tf.constant(given)).numpy()

    return classes, gradient


def _relu(mode, x, cap):
    plain = tf.nn.relu6 if cap else tf.nn.relu
    gate = tf.raw_ops.Relu6Grad if cap else tf.raw_ops.ReluGrad
    rules = {
        "backprop": lambda upstream, y: gate(gradients=upstream, features=y),
        "deconv": lambda upstream, y: tf.nn.relu(upstream),
        "guided": lambda upstream, y: gate(gradients=tf.nn.relu(upstream), features=y),
    }

    @tf.custom_gradient
    def ruled(x):
        y = plain(x)
        return y, lambda upstream: rules[mode](upstream, y)

    return ruled(x)


if __name__ == "__main__":
    main(load)
