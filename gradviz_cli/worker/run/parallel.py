"""Several gradient calls at once, each of one image and on one thread: as fast as the cores allow, and the same bits
whatever else is computed.

How TensorFlow rounds depends on the number of threads, over which it splits sums, and on the batch: it takes another
kernel for one row of a matrix than for two, and what is left over of a vector at the end of a tensor is computed by another
formula. An image that is alone in its call, on one thread, meets neither. A GPU is idle without many images in a call: there
all calls have the same number of them, and two calls take turns.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import perf_counter
from typing import TypeVar

import numpy as np
import tensorflow as tf

from gradviz_cli.errors import UsageError
from gradviz_cli.process.machine import cores
from gradviz_cli.process.sandbox.environment import ONEDNN
from gradviz_cli.worker.graph.device import on_gpu, settle_gpu
from gradviz_cli.worker.run.warm_up import warm_up

Part = TypeVar("Part")
Item = TypeVar("Item")

# One call waits for the GPU while the numbers of another are brought there and back.
ON_A_GPU = 2


class Calls:
    """Runs a function on the images of a batch, side by side.

    To be made before TensorFlow computes anything: its thread pools are set then.
    """

    def __init__(self, precision: str = "float32") -> None:
        gpu = on_gpu()
        _set_precision(precision, gpu)
        if gpu:
            settle_gpu()
        else:
            _one_thread_each(cores())
        if precision == "bfloat16" and not _takes_bfloat16():
            asked = os.environ.get(ONEDNN) == "0"
            said = f"with {ONEDNN}=0" if asked else "on this processor"
            remedy = "leave one of them out" if asked else "leave it out"
            raise UsageError(f"--precision bfloat16: TensorFlow computes in float32 {said}", remedy)
        self._side_by_side = ON_A_GPU if gpu else cores()
        self._pool = ThreadPoolExecutor(self._side_by_side, "gradient")

    def warm_up(self) -> None:
        """Let the thread that will make the first call be ready for it, where another processor has the time."""
        if self._side_by_side > 1:
            self._pool.submit(warm_up)

    def each(self, function: Callable[[Item], Part], items: Iterable[Item]) -> Iterator[Part]:
        """The results for these, in order, side by side. Not to be asked from within itself. When one fails, none runs any
        more by the time that is told."""
        running = [self._pool.submit(function, item) for item in items]
        try:
            for each in running:
                yield each.result()
        finally:
            for each in running:
                each.cancel()
            wait(running)

    def stream(self, parts: Iterable[np.ndarray], function: Callable[[np.ndarray], Part]) -> Iterator[Part]:
        """The results for the parts, in order. One more of them than run side by side is made ahead. Not to be asked from
        within `each`."""
        running: deque[Future[Part]] = deque()
        for part in parts:
            if len(running) > self._side_by_side:
                yield running.popleft().result()
            running.append(self._pool.submit(function, part))
        while running:
            yield running.popleft().result()


def _set_precision(precision: str, gpu: bool) -> None:
    """bfloat16: Grappler rewrites convolutions and matrix products, and what may stay in that type between them. In float32 on
    a processor it is not asked: what it takes for a graph that is folded already is more than it saves on hundreds of images,
    and how a number is rounded hangs on nothing but the graph. A GPU has it turn the layout.

    Nothing is fused on a processor: the kernel of a convolution that ends in a sum keeps where it reads and writes in the
    kernel (fuse_add_src_ in tensorflow/core/kernels/mkl/mkl_conv_ops.cc), so two calls at once mix their images or crash.
    """
    if precision == "bfloat16" and gpu:
        raise UsageError(
            "--precision bfloat16 is for processors, and a GPU was found", "leave it out, or set CUDA_VISIBLE_DEVICES="
        )
    half = precision == "bfloat16"
    tf.config.optimizer.set_experimental_options(
        {
            "auto_mixed_precision_onednn_bfloat16": half,
            "disable_meta_optimizer": not (half or gpu),
            "remapping": gpu,
        }
    )


def _takes_bfloat16() -> bool:
    """Whether products are rounded to it. Which processors have it done TensorFlow decides, and says nothing where not."""
    images = tf.random.stateless_uniform([4, 16, 16, 16], (1, 2))
    kernel = tf.random.stateless_uniform([3, 3, 16, 16], (3, 4))

    def network(image: tf.Tensor) -> tf.Tensor:
        for _ in range(2):  # a graph of a few nodes is left as it is
            image = tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME"))
        return image

    exact = network(images)
    distance = tf.abs(tf.function(network, autograph=False)(images) - exact)
    return bool(tf.reduce_max(distance) > 1e-4 * tf.reduce_max(exact))


def is_quicker_in_bfloat16() -> bool:
    """Whether products are. It is tried, in a twentieth of a second: a machine may list instructions that oneDNN does not take,
    and then computes in float32 what it converts before and after."""
    return _product_takes(tf.bfloat16) < _product_takes(tf.float32)


def _product_takes(dtype: tf.DType) -> float:
    """Seconds, the least of some."""
    square = tf.ones([512, 512], dtype)
    times = []
    for _ in range(6):  # the first chooses a kernel
        start = perf_counter()
        tf.matmul(square, square)
        times.append(perf_counter() - start)
    return min(times)


def _one_thread_each(calls: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(calls)
    except RuntimeError:  # something has computed already, as in a test: slower, otherwise alike
        pass
