"""What computes: the processors, or a GPU."""

from __future__ import annotations

import os
from contextlib import suppress

import tensorflow as tf

from gradviz_cli.process.machine import has_onednn
from gradviz_cli.process.protocol import CPU
from gradviz_cli.process.sandbox.environment import ONEDNN


def on_gpu() -> bool:
    """Whether TensorFlow sees a GPU, and so computes on it."""
    return bool(tf.config.get_visible_devices("GPU"))


def on_onednn() -> bool:
    """Whether a processor computes with oneDNN's kernels, which a worker's environment asks for unless its user forbids it."""
    return not on_gpu() and has_onednn() and os.environ.get(ONEDNN) != "0"


def name() -> str:
    """What computes: CPU, or the name of the GPU."""
    gpus = tf.config.get_visible_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "a GPU")) if gpus else CPU


def settle_gpu() -> None:
    """Let one GPU compute, with the same bits each time, in whole float32, and of its memory only what is needed.

    TensorFlow would take nearly all memory of all of them, round the factors of products to 10 bits (TF32), and choose kernels
    by a race, some of which add in any order.
    """
    first = tf.config.get_visible_devices("GPU")[0]
    with suppress(RuntimeError, ValueError):  # something has computed already, as in a test
        tf.config.set_visible_devices(first, "GPU")
        tf.config.experimental.set_memory_growth(first, True)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.experimental.enable_op_determinism()


def where_it_computes(tensor: tf.Tensor) -> tf.Tensor:
    """The same numbers in the memory of the GPU, where one computes: with each call they would be brought there again."""
    if not on_gpu() or not tensor.dtype.is_floating:
        return tensor
    with tf.device("GPU:0"):
        return tf.identity(tensor)
