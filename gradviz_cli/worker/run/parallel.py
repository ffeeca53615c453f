"""Several gradient calls at once, each on one thread: as fast as the cores allow, and the same bits on any number of them.

TensorFlow splits a matrix product over threads along the axis that it sums over when the others are short, so its
rounding depends on the number of threads and on the batch. On one thread it does not: the images of a batch are
shared out over as many calls as there are cores instead, which is no slower, as the threads never wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import UsageError
from gradviz_cli.process.machine import cores

Part = TypeVar("Part")


class Calls:
    """Runs a function of images on parts of a batch, side by side.

    To be made before TensorFlow computes anything: its thread pools are set then.
    """

    def __init__(self, precision: str = "float32") -> None:
        # A GPU gains from whole batches, and its kernels round alike for all of them.
        gpu = bool(tf.config.list_physical_devices("GPU"))
        _set_precision(precision, gpu)
        self._workers = 1 if gpu else cores()
        if self._workers > 1 or cores() == 1:
            _one_thread_each(self._workers)
        self._pool = ThreadPoolExecutor(self._workers, "gradient")

    def over(self, images: np.ndarray, function: Callable[[np.ndarray], Part], step: int = 1) -> list[Part]:
        """The results for parts of `images`, in order; every part but the last is a multiple of `step` long."""
        blocks = -(-len(images) // step)
        size = -(-blocks // self._workers) * step
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        return list(self._pool.map(function, parts)) if len(parts) > 1 else [function(parts[0])]


def _set_precision(precision: str, gpu: bool) -> None:
    """bfloat16: Grappler rewrites convolutions and matrix products, and what may stay in that type between them."""
    if precision == "bfloat16" and gpu:
        raise UsageError(
            "--precision bfloat16 is for processors, and a GPU was found", "leave it out, or set CUDA_VISIBLE_DEVICES="
        )
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": precision == "bfloat16"})


def has_bfloat16() -> bool:
    """Whether the processor computes in that type; True where it does not say."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return True
    return not words & {"sse2", "asimd"} or bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def _one_thread_each(calls: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(calls)
    except RuntimeError:  # something has computed already, as in a test: slower, otherwise alike
        pass
