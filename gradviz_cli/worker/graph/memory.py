"""Tensors and arrays that share their memory: a copy of all weights takes a tenth of a second and as much memory again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

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


def rooms(shapes: Iterable[Sequence[int]]) -> list[np.ndarray]:
    """Arrays float32 to be filled, which `tensor_of` need not copy. Of one piece, as large pages take a fifth of the time of
    small ones to be written to first; it goes with the last of them."""
    shapes = list(shapes)
    counts = [math.prod(shape) for shape in shapes]
    ends = [*accumulate(-(-count * 4 // ALIGNED) * ALIGNED for count in counts)]
    memory = np.empty((ends or [0])[-1] + ALIGNED, np.uint8)
    first = -memory.ctypes.data % ALIGNED
    starts = [first + end for end in (0, *ends)]
    return [
        memory[start : start + count * 4].view(np.float32).reshape(shape)
        for start, count, shape in zip(starts, counts, shapes, strict=False)
    ]


def tensor_of(array: np.ndarray) -> tf.Tensor:
    """A tensor of these numbers, which are not to be changed any more."""
    if array.ctypes.data % ALIGNED or not array.size or on_gpu():
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
