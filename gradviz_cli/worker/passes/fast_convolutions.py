"""Convolutions written as others that compute the same, where these and their gradients take less of a processor's time.

Each image has a call of its own, and what a convolution of one image costs beside its products is much:

* For the gradient, oneDNN lays out the kernel anew in each call; for the forward pass of one image TensorFlow has it take the
  kernel as it lies, which is slower by half where its rows are long. A product of matrices takes kernels as they lie, and
  a convolution in space, of depth 1, lays them out.
* Where a kernel reads three channels, its gradient gives three, and a register has room for sixteen: taking blocks of
  pixels for channels fills it.
* Of the pixels that a stride leaves out, the gradient is computed none the less.

Nothing is computed from a kernel ahead, and none is kept twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.process.machine import has_onednn
from gradviz_cli.worker.graph.device import on_gpu
from gradviz_cli.worker.graph.graph import Graph, attribute, source
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.shapes import inferred, of_weights
from gradviz_cli.worker.passes.convolutions import Op, paddings, read
from gradviz_cli.worker.passes.equal_forms import Form, written

# Measured with one image and one thread of a processor with AVX-512: where both ways take as long.
FEW_CHANNELS = 4
MOST_GROWN = 1.5  # how much larger a kernel may become
LARGE_KERNEL, CHANNELS_A_POSITION = 2**17, 2
LONG_ROWS, MANY_POSITIONS = 512, 784


def fast_convolutions(graph: Graph, question: Question | None = None) -> Graph:
    """The graph with such convolutions written otherwise, where their sizes are known. A GPU does better without."""
    plain = [node for node in graph.nodes.values() if node.op == "Conv2D" and _is_plain(node)]
    if not plain or on_gpu():
        return graph
    asked = {node.name: (source(node, 0), source(node, 1), f"{node.name}:0") for node in plain}
    shapes = inferred(graph.nodes, (tensor for tensors in asked.values() for tensor in tensors), of_weights(graph))
    nodes = dict(graph.nodes)
    for node in plain:
        image, kernel, output = (shapes[tensor] for tensor in asked[node.name])
        if form := _form_of(read(node), image, kernel, output):
            nodes.update((one.name, one) for one in written(nodes, node, form, (image, kernel), output))
    return replace(graph, nodes=nodes)


def _is_plain(node: NodeDef) -> bool:
    return (
        attribute(node, "T").type == tf.float32.as_datatype_enum
        and attribute(node, "data_format").s == b"NHWC"
        and set(attribute(node, "dilations").list.i) == {1}
    )


Fit = Callable[[Sequence[int]], "tf.Tensor"]  # so many rows and columns -> the padded image of that size
# Of the image, the kernel, the strides and the size of the result.
Way = Callable[[Fit, "tf.Tensor", Sequence[int], Sequence[int]], "tf.Tensor"]


def _form_of(op: Op, image: tf.TensorShape, kernel: tf.TensorShape, output: tf.TensorShape) -> Form | None:
    """How a convolution is to be written, None where it is best as it is."""
    known = all(shape.rank == 4 and shape[1:].is_fully_defined() for shape in (image, kernel, output))
    if not known or not output[1:].num_elements() or image[3] != kernel[2]:  # in groups
        return None
    way = _way(op.numbers("strides")[op.inside], kernel.as_list(), output[1:3].num_elements())
    return way and partial(_formed, way, op, output[1:3].as_list())


def _way(strides: Sequence[int], kernel: Sequence[int], positions: int) -> Way | None:
    *sides, channels, results = kernel
    grown = math.prod(-(-side // stride) * stride for side, stride in zip(sides, strides, strict=True))
    if channels <= FEW_CHANNELS and 1 < min(strides) == max(strides) and grown <= MOST_GROWN * math.prod(sides):
        return _by_blocks
    if sides == [1, 1]:
        large = channels * results >= LARGE_KERNEL and channels >= CHANNELS_A_POSITION * positions
        return _at_points if large else None
    long = results >= LONG_ROWS or results >= LONG_ROWS // 2 and positions >= MANY_POSITIONS
    return _in_space if long and has_onednn() else None


def _formed(way: Way, op: Op, size: Sequence[int], node: NodeDef, image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A convolution in one of the ways below."""
    fit = partial(_fitted, image, [before for before, _ in paddings(op, image, kernel)[1:3]])
    return way(fit, kernel, op.numbers("strides")[op.inside], size)


def _fitted(image: tf.Tensor, before: Sequence[int], size: Sequence[int]) -> tf.Tensor:
    """So many rows and columns of an image with zeros before and behind it."""
    behind = [max(0, want - first - have) for want, first, have in zip(size, before, image.shape[1:3], strict=True)]
    if any((*before, *behind)):
        image = tf.pad(image, [[0, 0], *map(list, zip(before, behind, strict=True)), [0, 0]])
    return image if image.shape[1:3].as_list() == list(size) else _part(image, [0, 0], size)


def _part(image: tf.Tensor, start: Sequence[int], size: Sequence[int]) -> tf.Tensor:
    """A part of the inner axes. The gradient of a slice that may have steps takes many times as long."""
    return tf.slice(image, [0, *start, 0], [-1, *size, image.shape[-1]])


def _by_blocks(fit: Fit, kernel: tf.Tensor, strides: Sequence[int], size: Sequence[int]) -> tf.Tensor:
    """A block of as many pixels as are strode over becomes one pixel with all their channels."""
    block, (*sides, channels, results) = strides[0], kernel.shape.as_list()
    high, wide = (-(-side // block) for side in sides)
    kernel = tf.pad(kernel, [[0, high * block - sides[0]], [0, wide * block - sides[1]], [0, 0], [0, 0]])
    kernel = tf.reshape(kernel, [high, block, wide, block, channels, results])
    kernel = tf.transpose(kernel, [0, 2, 1, 3, 4, 5]) if high * wide > 1 else kernel
    kernel = tf.reshape(kernel, [high, wide, block**2 * channels, results])
    image = tf.nn.space_to_depth(fit([(size[0] - 1 + high) * block, (size[1] - 1 + wide) * block]), block)
    return tf.nn.conv2d(image, kernel, 1, "VALID") if high * wide > 1 else _product(image, kernel, size)


def _at_points(fit: Fit, kernel: tf.Tensor, strides: Sequence[int], size: Sequence[int]) -> tf.Tensor:
    """The first of each block of as many pixels as are strode over, times a matrix."""
    (high, wide), (rows, columns) = strides, size
    image = fit([rows * high, columns * wide])
    if high * wide > 1:  # a slice with steps takes longer than the product
        blocks = tf.reshape(image, [-1, rows, high, columns, wide, image.shape[3]])
        image = _part(blocks, [0] * 4, [rows, 1, columns, 1])
    return _product(image, kernel, size)


def _product(image: tf.Tensor, kernel: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """The channels of each pixel times a matrix."""
    channels, results = image.shape[-1], kernel.shape[-1]
    product = tf.matmul(tf.reshape(image, [-1, channels]), tf.reshape(kernel, [-1, results]))
    return tf.reshape(product, [-1, *size, results])


def _in_space(fit: Fit, kernel: tf.Tensor, strides: Sequence[int], size: Sequence[int]) -> tf.Tensor:
    """The same convolution with an axis more, of length 1."""
    sizes = zip(size, strides, kernel.shape[:2], strict=True)
    image = fit([(count - 1) * stride + side for count, stride, side in sizes])
    found = tf.nn.conv3d(tf.expand_dims(image, 1), tf.expand_dims(kernel, 0), [1, 1, *strides, 1], "VALID")
    return tf.squeeze(found, 1)
