"""Gradients of common operations with respect to some of their inputs, where all shapes are known.

They are those that TensorFlow registers (tensorflow/python/ops/nn_grad.py, math_grad.py) in fewer operations: nothing is
computed for inputs that need none, and no shape for what is known. Whatever is not known is left to TensorFlow's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import tensorflow as tf

from gradviz_cli.worker.graph.device import on_gpu
from gradviz_cli.worker.graph.match import BATCH_NORMS
from gradviz_cli.worker.graph.tf_private import native_gradient
from gradviz_cli.worker.passes.partial_gradients import ATTRIBUTE, GRADIENT

# For each input: its gradient where it needs one.
Found = list["tf.Tensor | None"]


@cache
def register() -> None:
    """Let gradients be found by the name that marks them; a name can be registered once in a process."""
    tf.RegisterGradient(GRADIENT)(_gradient)


def _gradient(op: tf.Operation, upstream: tf.Tensor, *others: tf.Tensor) -> Sequence[tf.Tensor | None]:
    """`others` are zeros: nothing reads the further outputs of what is marked."""
    needed = [mark == "1" for mark in op.get_attr(ATTRIBUTE).decode()]
    tensors = (*op.inputs, op.outputs[0])
    known = all(tensor.shape.is_fully_defined() for tensor in tensors) or op.type in OPEN
    conjugated = any(tensor.dtype.is_complex for tensor in tensors)
    if known and not conjugated and isinstance(upstream, tf.Tensor):
        found = _GRADIENTS[op.type](op, upstream, needed)
        if found is not None:
            return found
    return native_gradient(op.type)(op, upstream, *others)


def of_image(backward: str, attributes: Sequence[str]) -> Callable[[tf.Operation, tf.Tensor], tf.Tensor]:
    """The gradient of a convolution with respect to what its kernel moves over, by this operation."""

    def gradient(op: tf.Operation, upstream: tf.Tensor) -> tf.Tensor:
        given = {name: op.get_attr(name) for name in attributes}
        given |= {name: given[name].decode() for name in ("padding", "data_format")}
        image, kernel = op.inputs
        sizes = image.shape.as_list() if image.shape.is_fully_defined() else tf.shape(image)
        return getattr(tf.raw_ops, backward)(input_sizes=sizes, filter=kernel, out_backprop=upstream, **given)

    return gradient


def _of_kernel(backward: str, attributes: Sequence[str]) -> Callable[..., Found | None]:
    """That alone, where it is all that is needed."""
    gradient = of_image(backward, attributes)
    return lambda op, upstream, needed: [gradient(op, upstream), None] if needed == [True, False] else None


def _mat_mul(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found | None:
    if needed != [True, False] or op.get_attr("transpose_a"):
        return None
    return [
        tf.raw_ops.MatMul(a=upstream, b=op.inputs[1], transpose_b=not op.get_attr("transpose_b"), grad_a=True),
        None,
    ]


def _bias_add(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found | None:
    return [upstream, None] if needed == [True, False] else None


def _add(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found:
    return _each(op, needed, lambda: upstream, lambda: upstream)


def _sub(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found:
    return _each(op, needed, lambda: upstream, lambda: -upstream)


def _mul(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found:
    x, y = op.inputs
    return _each(op, needed, lambda: upstream * y, lambda: upstream * x)


def _real_div(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found:
    x, y = op.inputs
    return _each(op, needed, lambda: upstream / y, lambda: upstream * (-x / y / y))


def _squared_difference(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found:
    x, y = op.inputs
    twice = upstream * 2.0 * (x - y)
    return _each(op, needed, lambda: twice, lambda: -twice)


def _each(
    op: tf.Operation, needed: Sequence[bool], first: Callable[[], tf.Tensor], second: Callable[[], tf.Tensor]
) -> Found:
    """Of two tensors that are broadcast to one shape."""
    pairs = zip(op.inputs, (first, second), needed, strict=True)
    whole = op.outputs[0].shape.as_list()
    return [_summed(make(), whole, tensor.shape.as_list()) if asked else None for tensor, make, asked in pairs]


def _summed(gradient: tf.Tensor, given: Sequence[int], shape: Sequence[int]) -> tf.Tensor:
    """A gradient summed over the axes along which a tensor of this shape was broadcast to the `given` one."""
    if list(given) == list(shape):
        return gradient
    before = len(given) - len(shape)
    axes = [axis for axis, size in enumerate(given) if axis < before or size != shape[axis - before]]
    return tf.reshape(tf.reduce_sum(gradient, axes), shape)


def _mean(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found | None:
    """Divided before it is spread out, as that is the smaller tensor."""
    axes = tf.get_static_value(op.inputs[1])
    shape, results = op.inputs[0].shape.as_list(), op.outputs[0].shape.num_elements()
    if axes is None or not results:
        return None
    count = int(np.prod(shape)) // results
    kept = [1 if axis in {int(one) % len(shape) for one in np.ravel(axes)} else size for axis, size in enumerate(shape)]
    share = upstream / tf.constant(count, upstream.dtype)
    return [tf.broadcast_to(share if op.get_attr("keep_dims") else tf.reshape(share, kept), shape), None]


def _batch_norm(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found | None:
    """One factor for each channel. On a GPU TensorFlow's own would add up what nobody asked for, in any order."""
    x, scale, _, _, variance = op.inputs
    if needed != [True, False, False, False, False] or op.get_attr("is_training") or x.dtype != scale.dtype:
        return None
    factor = scale * tf.math.rsqrt(variance + op.get_attr("epsilon"))
    layout = op.get_attr("data_format").decode()
    return [upstream * tf.reshape(factor, [-1, *[1] * (len(layout) - 1 - layout.index("C"))]), None, None, None, None]


def _nearest(op: tf.Operation, upstream: tf.Tensor, needed: Sequence[bool]) -> Found | None:
    """The sum of the pixels that one became, where it became whole blocks of them. On a GPU TensorFlow's own would add in any
    order; on processors it is as quick."""
    sizes = [*op.inputs[0].shape.as_list()[1:3], *op.outputs[0].shape.as_list()[1:3]]
    if None in sizes:
        return None
    height, width, rows, columns = sizes
    whole = rows % height == columns % width == 0 and not op.get_attr("align_corners")
    if not on_gpu() or needed != [True, False] or not whole:
        return None
    down, across = rows // height, columns // width
    # The place i / n of a pixel is exact for these n, else it may be rounded to below a whole number.
    if not op.get_attr("half_pixel_centers") and (down & (down - 1) or across & (across - 1)):
        return None
    block = (down, across)
    return [tf.nn.avg_pool2d(upstream, block, block, "VALID") * tf.constant(down * across, upstream.dtype), None]


# Those that need not know how many images there are.
OPEN = frozenset({"ResizeNearestNeighbor", *BATCH_NORMS})
SPACE = ("strides", "padding", "data_format", "dilations")
_PLANE = ("strides", "padding", "explicit_paddings", "data_format", "dilations")
_GRADIENTS: dict[str, Callable[..., Found | None]] = {
    "Conv2D": _of_kernel("Conv2DBackpropInput", (*_PLANE, "use_cudnn_on_gpu")),
    "DepthwiseConv2dNative": _of_kernel("DepthwiseConv2dNativeBackpropInput", _PLANE),
    "Conv3D": _of_kernel("Conv3DBackpropInputV2", SPACE),
    "MatMul": _mat_mul,
    "BiasAdd": _bias_add,
    "Add": _add,
    "AddV2": _add,
    "Sub": _sub,
    "Mul": _mul,
    "RealDiv": _real_div,
    "SquaredDifference": _squared_difference,
    "Mean": _mean,
    "ResizeNearestNeighbor": _nearest,
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
}
