"""Convolutions and pooling that this machine has no kernel for, as others that it has one for.

With channels first they are transposed; in groups, each group is convolved by itself; dilated, the image is taken apart
into the images of every d-th pixel, each of which is convolved as it is (Yu & Koltun 2016, arXiv:1511.07122).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import attribute
from gradviz_cli.worker.graph.tf_private import op_def

Value = str | bool | int | float | tuple[int, ...]

CONVOLUTIONS = frozenset({"Conv2D", "Conv3D", "DepthwiseConv2dNative"})
# The gradients of these, as layers: they are told the size of what they give.
TRANSPOSED = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2", "DepthwiseConv2dNativeBackpropInput"})
POOLS = frozenset({"MaxPool", "MaxPoolV2", "AvgPool", "MaxPool3D", "AvgPool3D"})
OPS = CONVOLUTIONS | TRANSPOSED | POOLS | {"DepthToSpace", "SpaceToDepth"}
LAST = {"NCHW": "NHWC", "NCDHW": "NDHWC"}


@dataclass(frozen=True)
class Op:
    """An operation with its attributes, and in how many groups it takes its channels."""

    name: str
    attributes: tuple[tuple[str, Value], ...]
    groups: int = 1

    def __getitem__(self, name: str) -> Value:
        return dict(self.attributes)[name]

    def numbers(self, name: str, default: int = 1) -> tuple[int, ...]:
        """An attribute of a number for each axis."""
        value = dict(self.attributes).get(name)
        return value if isinstance(value, tuple) else (default,) * self.rank

    @property
    def rank(self) -> int:
        return len(str(self["data_format"]))

    @property
    def channels_first(self) -> bool:
        return self["data_format"] in LAST

    @property
    def uneven(self) -> bool:
        """Its strides are none that the usual kernel of such a convolution has."""
        return self.name == "DepthwiseConv2dNative" and len(set(self.numbers("strides")[self.inside])) > 1

    @property
    def inside(self) -> slice:
        """The axes of the image's sides."""
        return slice(2, None) if self.channels_first else slice(1, -1)

    def changed(self, **changes: Value) -> Op:
        """With other attributes."""
        known = dict(self.attributes)
        return replace(
            self, attributes=tuple({**known, **{one: changes[one] for one in changes if one in known}}.items())
        )

    def __call__(self, *inputs: tf.Tensor) -> tf.Tensor:
        definition = op_def(self.name)
        assert definition is not None
        names = [argument.name for argument in definition.input_arg]
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in self.attributes}
        return getattr(tf.raw_ops, self.name)(**dict(zip(names, inputs, strict=True)), **given)


def form_of(
    op: Op, dtype: int, inputs: Sequence[tf.TensorShape], output: tf.TensorShape
) -> Callable[..., tf.Tensor] | None:
    """How an operation is to be written, as a function of its node and inputs; None where it can stay as it is.

    Parameters
    ----------
    dtype
        Of the images.
    inputs, output
        Their shapes, as far as they are known.
    """
    if op["data_format"] not in (*LAST, *LAST.values()):
        return None
    op, sides = replace(op, groups=_groups(op, inputs, output)), _sides(op, inputs)
    usual = op.groups == 1 and set(op.numbers("dilations")) == {1} and not op.uneven and not op.channels_first
    if usual or sides is None or _runs(op, sides, dtype):
        return None
    return lambda node, *given: written(op, *given)


def read(node: NodeDef) -> Op:
    """The operation of a node; GraphError where it lacks an attribute."""
    definition = op_def(node.op)
    assert definition is not None
    kinds = {one.name: one.type for one in definition.attr if one.type != "type"}
    return Op(node.op, tuple((name, _value(attribute(node, name), kind)) for name, kind in kinds.items()))


def _value(value: AttrValue, kind: str) -> Value:
    if kind == "list(int)":
        return tuple(value.list.i)
    return value.s.decode() if kind == "string" else {"bool": value.b, "int": value.i, "float": value.f}[kind]


def _groups(op: Op, inputs: Sequence[tf.TensorShape], output: tf.TensorShape) -> int:
    """1 where channels are not known."""
    if op.name not in ("Conv2D", "Conv3D", "Conv2DBackpropInput", "Conv3DBackpropInputV2"):
        return 1
    image, kernel = output if op.name in TRANSPOSED else inputs[0], inputs[1]
    if image.rank != op.rank or kernel.rank != op.rank:
        return 1
    channels, each = image[1 if op.channels_first else -1], kernel[-2]
    return int(channels // each) if channels and each else 1


def _sides(op: Op, inputs: Sequence[tf.TensorShape]) -> tuple[int, ...] | None:
    """Of the window, None where they are not known."""
    if op.name in CONVOLUTIONS | TRANSPOSED:
        kernel = inputs[1]
        return tuple(kernel[:-2].as_list()) if kernel.rank == op.rank and kernel[:-2].is_fully_defined() else None
    if op.name in ("DepthToSpace", "SpaceToDepth"):
        size = op["block_size"]
        assert isinstance(size, int)
        return size, size
    return op.numbers("ksize", 2)[op.inside]


# -- the forms


def written(op: Op, *inputs: tf.Tensor) -> tf.Tensor:
    """The operation of these inputs, by operations that have a kernel where it has none."""
    if op.channels_first:
        return _transposed(op, *inputs)
    if op.groups > 1:
        return _by_groups(op, *inputs)
    if set(op.numbers("dilations")) != {1} and op.name in TRANSPOSED:
        return _wide_kernel(op, *inputs)
    if set(op.numbers("dilations")) != {1} or op.uneven:
        return _taken_apart(op, *inputs)
    return op(*inputs)


def _transposed(op: Op, *inputs: tf.Tensor) -> tf.Tensor:
    last = (0, *range(2, op.rank), 1)
    image = len(inputs) - 1 if op.name in TRANSPOSED else 0
    given = list(inputs)
    given[image] = tf.transpose(inputs[image], last)
    for place in {"MaxPoolV2": (1, 2)}.get(op.name, (0,) if op.name in TRANSPOSED else ()):
        if inputs[place].shape[0] == op.rank:  # the sizes of what it gives, or of its window
            given[place] = tf.gather(inputs[place], last)
    lists = {name: tuple(op.numbers(name)[axis] for axis in last) for name in ("strides", "dilations", "ksize")}
    if dict(op.attributes).get("padding") == "EXPLICIT":
        pairs = op.numbers("explicit_paddings")
        lists["explicit_paddings"] = tuple(number for axis in last for number in pairs[2 * axis : 2 * axis + 2])
    found = written(op.changed(data_format=LAST[str(op["data_format"])], **lists), *given)
    return tf.transpose(found, (0, op.rank - 1, *range(1, op.rank - 1)))


def _by_groups(op: Op, *inputs: tf.Tensor) -> tf.Tensor:
    one = replace(op, groups=1)
    if op.name in TRANSPOSED:
        sizes, kernel, image = inputs
        sizes = tf.concat([sizes[:-1], [kernel.shape[-2]]], 0)
        parts = zip(tf.split(kernel, op.groups, -1), tf.split(image, op.groups, -1), strict=True)
        return tf.concat([written(one, sizes, *part) for part in parts], -1)
    image, kernel = inputs
    if op.name == "Conv2D" and kernel.shape[-2] == 1:
        names = {"strides", "padding", "explicit_paddings", "data_format", "dilations"}
        kept = tuple((name, value) for name, value in op.attributes if name in names)
        kernel = tf.reshape(kernel, [*kernel.shape[:2], op.groups, kernel.shape[-1] // op.groups])
        return written(Op("DepthwiseConv2dNative", kept), image, kernel)
    parts = zip(tf.split(image, op.groups, -1), tf.split(kernel, op.groups, -1), strict=True)
    return tf.concat([written(one, *part) for part in parts], -1)


def _wide_kernel(op: Op, sizes: tf.Tensor, kernel: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """The kernel itself dilated, with zeros."""
    steps = [*op.numbers("dilations")[op.inside], 1, 1]
    shape = [(size - 1) * step + 1 for size, step in zip(kernel.shape.as_list(), steps, strict=True)]
    wide = tf.raw_ops.StridedSliceGrad(shape=shape, begin=[0] * op.rank, end=shape, strides=steps, dy=kernel)
    return op.changed(dilations=(1,) * op.rank)(sizes, tf.ensure_shape(wide, shape), image)


def _taken_apart(op: Op, image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The images of every d-th pixel, each convolved with a dense kernel; of the result every s-th pixel."""
    rates, strides = op.numbers("dilations")[op.inside], op.numbers("strides")
    padded = tf.pad(image, paddings(op, image, kernel))
    dense = op.changed(strides=(1,) * op.rank, dilations=(1,) * op.rank, padding="VALID", explicit_paddings=())
    missing = [[0, -_size(padded, axis) % rate] for axis, rate in enumerate(rates, 1)]
    found = dense(tf.space_to_batch(padded, rates, missing), kernel)
    found = tf.batch_to_space(found, rates, missing)
    return found[tuple(slice(None, None, stride) for stride in strides)] if set(strides) != {1} else found


def paddings(op: Op, image: tf.Tensor, kernel: tf.Tensor) -> list:
    """What a convolution adds before and behind each axis of its image."""
    if op["padding"] == "EXPLICIT":
        pairs = op.numbers("explicit_paddings")
        return [list(pairs[2 * axis : 2 * axis + 2]) for axis in range(op.rank)]
    paddings: list = [[0, 0] for _ in range(op.rank)]
    if op["padding"] == "SAME":
        for axis in range(1, op.rank - 1):
            size, stride = _size(image, axis), op.numbers("strides")[axis]
            reach = (kernel.shape[axis - 1] - 1) * op.numbers("dilations")[axis] + 1
            lacking = (-(-size // stride) - 1) * stride + reach - size
            lacking = max(lacking, 0) if isinstance(lacking, int) else tf.maximum(lacking, 0)
            paddings[axis] = [lacking // 2, lacking - lacking // 2]
    return paddings


def _size(tensor: tf.Tensor, axis: int) -> int | tf.Tensor:
    """A number where it is known."""
    known = tensor.shape[axis]
    return known if known is not None else tf.shape(tensor)[axis]


# -- whether it is needed

# Of the product of two vectors' lengths: rounding is a thousandth of it, and a wrong gradient all of it.
ROUNDING = 1e-3
MORE = 3  # pixels than a window needs


@cache
def _runs(op: Op, sides: tuple[int, ...], dtype: int) -> bool:
    """Whether the operation and its gradient have a kernel here that is right, tried on a small image.

    All these operations are linear, or the larger by as much as the image is: <y, s> = <x, gradient of <y, s>>. The
    kernel of oneDNN for the gradient of a dilated depthwise convolution does not pass that.
    """
    if max(sides) == 1:  # with a stride it might be the one that corrupts the heap (`passes.onednn`)
        op = op.changed(strides=(1,) * op.rank)
    if op.name in TRANSPOSED:
        op = op.changed(strides=(1,) * op.rank, padding="SAME", explicit_paddings=())
    inputs = _example(op, sides, tf.dtypes.as_dtype(dtype))

    @tf.function(autograph=False)
    def compared() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        given = [tf.identity(one) for one in inputs]  # or they would be folded
        image = given[2 if op.name in TRANSPOSED else 0]
        found = op(*given)
        seed = tf.reshape(_numbers([tf.size(found)], image.dtype, 2), tf.shape(found))
        (gradient,) = tf.gradients(found, [image], [seed])
        return tf.reduce_sum(found * seed), tf.reduce_sum(image * gradient), tf.norm(found) * tf.norm(seed)

    try:
        forward, backward, length = (one.numpy() for one in compared.get_concrete_function()())
    except (tf.errors.OpError, ValueError, TypeError):
        return False
    return bool(abs(forward - backward) <= ROUNDING * length)


def _example(op: Op, sides: tuple[int, ...], dtype: tf.DType) -> list[tf.Tensor]:
    """Inputs for an operation with a window of these sides."""
    reach = [(side - 1) * rate + 1 + MORE for side, rate in zip(sides, op.numbers("dilations")[op.inside], strict=True)]
    channels, first = 2 * op.groups, op.channels_first
    if op.name in ("DepthToSpace", "SpaceToDepth"):
        return [_numbers(_laid([2 * side for side in sides], sides[0] ** 2, first), dtype)]
    image = _numbers(_laid(reach, channels, first), dtype)
    if op.name in POOLS:
        window = tf.constant(_laid(sides, 1, first))
        return [image, window, window] if op.name == "MaxPoolV2" else [image]
    kernel = _numbers([*sides, channels, 1] if op.name.startswith("Depthwise") else [*sides, 2, channels], dtype, 1)
    if op.name in CONVOLUTIONS:
        return [image, kernel]
    return [tf.constant(_laid(reach, channels, first)), kernel, image]


def _numbers(shape: Sequence[int] | list[tf.Tensor], dtype: tf.DType, seed: int = 0) -> tf.Tensor:
    return tf.cast(tf.random.stateless_uniform(shape, [seed, 7], -1, 1), dtype)


def _laid(sides: Sequence[int], channels: int, first: bool) -> list[int]:
    return [1, channels, *sides] if first else [1, *sides, channels]
