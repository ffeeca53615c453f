"""Convolutions and products of matrices written as others that compute the same, where these and their gradients take less of
a processor's time.

Each image has a call of its own, and what a convolution of one image costs beside its products is much:

* For the gradient, oneDNN lays out the kernel anew in each call; for the forward pass of one image TensorFlow has it take the
  kernel as it lies, which is slower by half where its rows are long, and with AVX2 alone everywhere. A product of matrices
  takes kernels as they lie, and a convolution in space, of depth 1, lays them out.
* Where a kernel reads three channels, its gradient gives three, and a register has room for sixteen: taking blocks of
  pixels for channels fills it.
* Of the pixels that a stride leaves out, the gradient is computed none the less.
* A product reads a matrix down its columns. Where a row is whole pages of memory, the numbers of a column fall into the same few
  lines of a cache, and it takes nearly twice as long: its transpose takes its place. The gradient reads the other way round,
  so that this pays where columns are no such length.

A kernel that is a weight is laid as it will be read, once, and takes the place of the weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.process.machine import has_avx512
from gradviz_cli.worker.graph.device import on_gpu, on_onednn
from gradviz_cli.worker.graph.graph import Graph, attribute, literal, node_of, placeholder, source
from gradviz_cli.worker.graph.match import through
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.shapes import inferred, of_weights
from gradviz_cli.worker.passes.convolutions import Op, paddings, read
from gradviz_cli.worker.passes.equal_forms import Drawn, drawn

# Measured with one image and one thread: where both ways take as long.
FEW_CHANNELS = 4
MOST_GROWN = 1.5  # how much larger a kernel may become
LARGE_KERNEL, CHANNELS_A_POSITION = 2**17, 2
# Products of numbers from which on another way is worth the larger graph.
MANY_PRODUCTS, MANY_IN_SPACE = 2**24, 2**22
# With AVX-512 a convolution in a plane is nearly as quick where its rows are shorter.
LONG_ROWS = 256
# Of so many, a kernel that is laid out once is read faster than a matrix as it lies; with AVX-512 of the latter.
MANY_WEIGHTS, MANY_WEIGHTS_AVX512 = 2**19, 2**21
# What leaves numbers in their order.
SEEN_THROUGH = frozenset({"Identity", "Reshape"})
# Rows of so many numbers, and of whole halves of a page; and rows of the other matrix: of fewer, the kernel is what is read.
LONG, HALF_A_PAGE, MANY_ROWS = 1024, 512, 32


def fast_products(graph: Graph, question: Question | None = None) -> Graph:
    """The graph with such operations written otherwise, where their sizes are known. A GPU does better without."""
    looked = [] if on_gpu() else [node for node in graph.nodes.values() if _is_plain(graph, node)]
    if not looked:
        return graph
    asked = {node.name: (source(node, 0), source(node, 1), f"{node.name}:0", _whole(graph, node)) for node in looked}
    shapes = inferred(graph.nodes, (tensor for tensors in asked.values() for tensor in tensors), of_weights(graph))
    work, kernels = _Work(graph), _Kernels(on_onednn(), has_avx512())
    for node in looked:
        image, kernel, output, whole = (shapes[tensor] for tensor in asked[node.name])
        if node.op == "MatMul":
            way = _of_product(kernels, image, kernel, whole)
        else:
            way = _of_convolution(kernels, read(node), image, kernel, output)
        if way:
            work.write(node, way, image, kernel, output)
    return work.result()


def _is_plain(graph: Graph, node: NodeDef) -> bool:
    """Whether it is one of them, of float32, of a kernel that is a weight, and needs no care otherwise."""
    if node.op not in ("Conv2D", "MatMul"):
        return False
    kernel = _kernel(graph, node)
    if kernel.name not in graph.weights and kernel.op != "Const":
        return False
    if attribute(node, "T").type != tf.float32.as_datatype_enum:
        return False
    if node.op == "MatMul":
        return not any(attribute(node, side).b for side in ("transpose_a", "transpose_b"))
    return attribute(node, "data_format").s == b"NHWC" and set(attribute(node, "dilations").list.i) == {1}


def _whole(graph: Graph, node: NodeDef) -> str:
    """The tensor that has the numbers of an image, or of the first matrix of a product, before they are laid in rows."""
    return through(graph.nodes, source(node, 0), SEEN_THROUGH)


@dataclass(frozen=True)
class Way:
    """How a convolution or a product is written.

    Attributes
    ----------
    layout, lay : str, callable
        What is done to a kernel before it is read, in a word, and by what.
    take : callable
        An image, or the first matrix, and a kernel laid so -> the result.
    numbers : tuple
        What else decides which nodes it becomes, beside shapes.
    """

    layout: str
    lay: Callable[[tf.Tensor], tf.Tensor]
    take: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    numbers: tuple = ()


class _Work:
    """A graph while some of its nodes are written otherwise."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes, self._weights, self._values = dict(graph.nodes), dict(graph.weights), dict(graph.values)
        self._drawn: dict[tuple, Drawn] = {}  # networks repeat themselves, and to draw takes long

    def write(self, node: NodeDef, way: Way, image: tf.TensorShape, kernel: tf.TensorShape, to: tf.TensorShape) -> None:
        """One of them, of such an image and kernel `to` a result of this shape."""
        laid = f"laid/{source(node, 1)}/{way.layout}"
        if laid not in self._values:
            self._values[laid] = way.lay(tf.reshape(_numbers(self._graph, node), kernel))
        read, shape = f"{node.name}/gradviz_kernel", self._values[laid].shape
        self._nodes[read] = placeholder(read, tf.float32.as_datatype_enum, shape.as_proto())
        self._weights[read] = laid
        key = (way.layout, way.numbers, *map(str, (image, shape, to)))
        if key not in self._drawn:
            self._drawn[key] = drawn(way.take, [tf.TensorSpec(image), tf.TensorSpec(shape)], to)
        placed = self._drawn[key].placed(node.name, [source(node, 0), f"{read}:0"])
        self._nodes.update((one.name, one) for one in placed)

    def result(self) -> Graph:
        """What became of the graph."""
        changed = replace(self._graph, nodes=self._nodes, weights=self._weights, values=self._values)
        return changed.pruned(self._graph.outputs)


def _kernel(graph: Graph, node: NodeDef) -> NodeDef:
    """What makes the numbers of a kernel, in whatever shape."""
    return node_of(graph.nodes, through(graph.nodes, source(node, 1), SEEN_THROUGH))


def _numbers(graph: Graph, node: NodeDef) -> tf.Tensor | np.ndarray:
    """Of a kernel that is a weight, not copied."""
    kernel = _kernel(graph, node)
    return graph.values[graph.weights[kernel.name]] if kernel.name in graph.weights else literal(kernel)


# -- which way


class _Kernels(NamedTuple):
    """What computes, and so what pays."""

    onednn: bool
    avx512: bool

    def at_points(self, channels: int, results: int, positions: int, strides: int) -> bool:
        """Whether a product takes less time than a convolution of single pixels. `strides` is how many pixels one is of."""
        large = channels * results >= LARGE_KERNEL and channels >= CHANNELS_A_POSITION * positions
        many = channels * results * positions >= MANY_PRODUCTS
        if self.onednn and not self.avx512:
            return many
        return large or self.onednn and many and strides > 1

    def in_space(self, pixels: int, channels: int, results: int, positions: int) -> bool:
        """Whether a convolution in space takes less time than one of as many pixels in a plane, or of one than a product."""
        if not self.onednn:
            return False
        if pixels == 1:
            many = MANY_WEIGHTS_AVX512 if self.avx512 else MANY_WEIGHTS
            return channels * results >= many and positions >= MANY_ROWS
        plane = channels <= FEW_CHANNELS or self.avx512 and results < LONG_ROWS
        return not plane and pixels * channels * results * positions >= MANY_IN_SPACE

    def transposed(self, matrix: Sequence[int], rows: int) -> bool:
        """Whether a product of so many rows and a matrix takes less time with its transpose."""
        columns, results = matrix
        return self.onednn and rows >= MANY_ROWS and _is_long(results) and not _is_long(columns)


def _is_long(row: int) -> bool:
    return row >= LONG and row % HALF_A_PAGE == 0


def _of_convolution(
    kernels: _Kernels, op: Op, image: tf.TensorShape, kernel: tf.TensorShape, output: tf.TensorShape
) -> Way | None:
    """None where it is best as it is."""
    known = all(shape.rank == 4 and shape[1:].is_fully_defined() for shape in (image, kernel, output))
    if not known or not kernel[0] or not output[1:].num_elements() or image[3] != kernel[2]:  # in groups
        return None
    (*sides, channels, results), size = kernel.as_list(), output[1:3].as_list()
    strides, positions = op.numbers("strides")[op.inside], math.prod(size)
    fit = _Fit(tuple(before for before, _ in paddings(op, tf.TensorSpec(image), tf.TensorSpec(kernel))[1:3]))
    grown = math.prod(-(-side // stride) * stride for side, stride in zip(sides, strides, strict=True))
    if channels <= FEW_CHANNELS and 1 < min(strides) == max(strides) and grown <= MOST_GROWN * math.prod(sides):
        return _by_blocks(fit, kernel.as_list(), strides[0], size)
    in_space = kernels.in_space(math.prod(sides), channels, results, positions)
    if sides != [1, 1]:
        return _in_space(fit, sides, strides, size, str(op["padding"])) if in_space else None
    if not kernels.at_points(channels, results, positions, math.prod(strides)):
        return None
    layout = "space" if in_space else "transposed" if kernels.transposed([channels, results], positions) else "matrix"
    return _at_points(fit, layout, strides, size)


def _of_product(kernels: _Kernels, matrix: tf.TensorShape, kernel: tf.TensorShape, whole: tf.TensorShape) -> Way | None:
    """None where it is best as it is. `whole` has the numbers of the first matrix, its first axis the images."""
    if not kernel.is_fully_defined():
        return None
    rows = matrix[0] if matrix.rank and matrix[0] is not None else _rows(whole, kernel[0])
    if not kernels.transposed(kernel.as_list(), rows):
        return None
    return Way("transposed", tf.transpose, partial(tf.matmul, transpose_b=True))


def _rows(whole: tf.TensorShape, columns: int) -> int:
    """Of a matrix with so many columns for one image, as far as that is known."""
    return math.prod(whole[1:]) // columns if columns and whole.rank and whole[1:].is_fully_defined() else 1


# -- the ways


@dataclass(frozen=True)
class _Fit:
    """Brings an image to the size that a kernel is to move over, with so many zeros before its rows and columns."""

    before: tuple[int, ...]

    def __call__(self, image: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
        """So many rows and columns of an image with zeros before and behind it."""
        have = image.shape[1:3]
        behind = [max(0, want - first - one) for want, first, one in zip(size, self.before, have, strict=True)]
        if any((*self.before, *behind)):
            image = tf.pad(image, [[0, 0], *map(list, zip(self.before, behind, strict=True)), [0, 0]])
        return image if image.shape[1:3].as_list() == list(size) else _part(image, [0, 0], size)


def _part(image: tf.Tensor, start: Sequence[int], size: Sequence[int]) -> tf.Tensor:
    """A part of the inner axes. The gradient of a slice that may have steps takes many times as long."""
    return tf.slice(image, [0, *start, 0], [-1, *size, image.shape[-1]])


def _by_blocks(fit: _Fit, kernel: Sequence[int], block: int, size: Sequence[int]) -> Way:
    """A block of as many pixels as are strode over becomes one pixel with all their channels."""
    *sides, channels, results = kernel
    high, wide = (-(-side // block) for side in sides)
    one = high * wide == 1

    def lay(kernel: tf.Tensor) -> tf.Tensor:
        kernel = tf.pad(kernel, [[0, high * block - sides[0]], [0, wide * block - sides[1]], [0, 0], [0, 0]])
        kernel = tf.reshape(kernel, [high, block, wide, block, channels, results])
        kernel = tf.transpose(kernel, [0, 2, 1, 3, 4, 5])
        return tf.reshape(kernel, [*([] if one else [high, wide]), block**2 * channels, results])

    def take(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        image = fit(image, [(size[0] - 1 + high) * block, (size[1] - 1 + wide) * block])
        image = tf.nn.space_to_depth(image, block)
        return _product(image, kernel, size) if one else tf.nn.conv2d(image, kernel, 1, "VALID")

    return Way(f"blocks of {block}", lay, take, (fit, *size))


def _at_points(fit: _Fit, layout: str, strides: Sequence[int], size: Sequence[int]) -> Way:
    """The first of each block of as many pixels as are strode over: times a matrix, or its transpose turned back, or taken by a
    convolution in space."""
    (high, wide), (rows, columns) = strides, size

    def lay(kernel: tf.Tensor) -> tf.Tensor:
        if layout == "space":
            return tf.expand_dims(kernel, 0)
        matrix = tf.squeeze(kernel, [0, 1])
        return tf.transpose(matrix) if layout == "transposed" else matrix

    def take(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        image = fit(image, [rows * high, columns * wide])
        if high * wide > 1:  # a slice with steps takes longer than the product
            blocks = tf.reshape(image, [-1, rows, high, columns, wide, image.shape[3]])
            image = tf.reshape(_part(blocks, [0] * 4, [rows, 1, columns, 1]), [-1, rows, columns, image.shape[3]])
        if layout == "space":
            return _through_space(image, kernel, [1, 1], "VALID")
        return _product(image, kernel, size, layout == "transposed")

    return Way(layout, lay, take, (fit, *strides, *size))


def _product(image: tf.Tensor, kernel: tf.Tensor, size: Sequence[int], turned: bool = False) -> tf.Tensor:
    """The channels of each pixel times a matrix."""
    product = tf.matmul(tf.reshape(image, [-1, image.shape[-1]]), kernel, transpose_b=turned)
    return tf.reshape(product, [-1, *size, product.shape[-1]])


def _in_space(fit: _Fit, sides: Sequence[int], strides: Sequence[int], size: Sequence[int], padding: str) -> Way:
    """The same convolution with an axis more, of length 1."""

    def take(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if padding == "EXPLICIT":
            image = fit(
                image, [(count - 1) * stride + side for count, stride, side in zip(size, strides, sides, strict=True)]
            )
        return _through_space(image, kernel, strides, "SAME" if padding == "SAME" else "VALID")

    return Way("space", lambda kernel: tf.expand_dims(kernel, 0), take, (fit, *strides, padding))


def _through_space(image: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: str) -> tf.Tensor:
    return tf.squeeze(tf.nn.conv3d(tf.expand_dims(image, 1), kernel, [1, 1, *strides, 1], padding), 1)
