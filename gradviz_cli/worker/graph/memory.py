"""Tensors and arrays that share their memory: a copy of all weights takes a tenth of a second and as much memory again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from gradviz_cli.worker.graph.device import on_gpu

ALIGNED = 64  # bytes; a kernel that is given what begins elsewhere ends the process


def array_of(tensor: tf.Tensor) -> np.ndarray:
    """The numbers of a tensor, to be read only."""
    try:
        return np.asarray(memoryview(tensor))
    except (TypeError, ValueError, BufferError):  # a kind of number that Python has no letter for, or on a GPU
        return np.asarray(tensor.numpy())


def room(shape: Sequence[int]) -> np.ndarray:
    """An array float32 to be filled, which `tensor_of` need not copy."""
    count = int(np.prod(shape, dtype=np.int64))
    memory = np.empty(count * 4 + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    return memory[start : start + count * 4].view(np.float32).reshape(shape)


def tensor_of(array: np.ndarray) -> tf.Tensor:
    """A tensor of these numbers, which are not to be changed any more."""
    if array.ctypes.data % ALIGNED or not array.size or on_gpu():
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
