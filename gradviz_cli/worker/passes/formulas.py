"""Operations of which TensorFlow has no gradient, as formulas of others that have one."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import attribute


def hsv_to_rgb(node: NodeDef, images: tf.Tensor) -> tf.Tensor:
    """Smith 1978, "Color gamut transform pairs": of hue, saturation and value in 0..1."""
    hue, saturation, value = tf.split(images, 3, axis=-1)
    shares = (tf.abs(6 * hue - 3) - 1, 2 - tf.abs(6 * hue - 2), 2 - tf.abs(6 * hue - 4))
    return tf.concat([(1 - saturation + saturation * tf.clip_by_value(one, 0, 1)) * value for one in shares], -1)


def adjust_contrast(node: NodeDef, images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Each channel stretched around its own mean."""
    mean = tf.reduce_mean(images, [-3, -2], keepdims=True)
    return (images - mean) * tf.cast(factor, images.dtype) + mean


def adjust_saturation(node: NodeDef, images: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """The saturation times `scale`, in 0..1."""
    hue, saturation, value = tf.split(tf.image.rgb_to_hsv(images), 3, axis=-1)
    scaled = tf.clip_by_value(saturation * tf.cast(scale, images.dtype), 0, 1)
    return hsv_to_rgb(node, tf.concat([hue, scaled, value], -1))


def adjust_hue(node: NodeDef, images: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
    """The hue turned by `delta` of a circle."""
    hue, saturation, value = tf.split(tf.image.rgb_to_hsv(images), 3, axis=-1)
    turned = tf.math.floormod(hue + tf.cast(delta, images.dtype), 1)
    return hsv_to_rgb(node, tf.concat([turned, saturation, value], -1))


def resize_area(node: NodeDef, images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Each new pixel is the mean of those that it covers, each by the part that is covered."""
    corners = attribute(node, "align_corners").b
    resized = tf.cast(images, tf.float32)
    for axis in (1, 2):
        weights = _covered(tf.shape(resized)[axis], size[axis - 1], corners)
        order = [one for one in range(4) if one != axis]
        moved = tf.tensordot(resized, weights, [[axis], [0]])  # the new axis comes last
        resized = tf.transpose(moved, [*(order.index(one) if one != axis else 3 for one in range(4))])
    return resized


def _covered(old: tf.Tensor, new: tf.Tensor, corners: bool) -> tf.Tensor:
    """[old, new]: how much of a new pixel's length is an old one's; what lies beyond the edge is the edge's."""
    length = tf.where(corners & (new > 1), (old - 1) / tf.maximum(new - 1, 1), old / new)
    length = tf.cast(length, tf.float32)
    start = tf.cast(tf.range(new), tf.float32) * length
    pixel = tf.cast(tf.range(old), tf.float32)[:, None]
    end = tf.where(pixel + 1 < tf.cast(old, tf.float32), pixel + 1, tf.maximum(pixel + 1, start + length))
    return tf.maximum(tf.minimum(end, start + length) - tf.maximum(pixel, start), 0) / length


def truncate_mod(node: NodeDef, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """What is left of x by whole y, with the sign of x."""
    if x.dtype.is_integer:
        return x - y * tf.truncatediv(x, y)
    return x - y * tf.sign(x / y) * tf.floor(tf.abs(x / y))


def same(node: NodeDef, x: tf.Tensor) -> tf.Tensor:
    """Nothing happens."""
    return tf.identity(x)


def dynamic_update_slice(node: NodeDef, x: tf.Tensor, update: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """x with `update` in place of what lies at `start`, which is moved inside where it would end outside."""
    start, size = tf.cast(start, tf.int32), tf.shape(update)
    start = tf.clip_by_value(start, 0, tf.shape(x) - size)
    around = tf.stack([start, tf.shape(x) - size - start], axis=1)
    return tf.where(tf.pad(tf.ones(size, tf.bool), around), tf.pad(update, around), x)


def dynamic_slice(node: NodeDef, x: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """What lies at `start`, which is moved inside where it would end outside."""
    start, size = tf.cast(start, tf.int32), tf.cast(size, tf.int32)
    return tf.slice(x, tf.clip_by_value(start, 0, tf.shape(x) - size), size)


def xla_pad(
    node: NodeDef, x: tf.Tensor, value: tf.Tensor, low: tf.Tensor, high: tf.Tensor, between: tf.Tensor
) -> tf.Tensor:
    """x with `value` before, behind and between its numbers; a negative number of them before or behind cuts off."""
    low, high, step = (tf.cast(one, tf.int32) for one in (low, high, between + 1))
    before, behind = tf.maximum(low, 0), tf.maximum(high, 0)
    length = tf.maximum((tf.shape(x) - 1) * step + 1, 0)
    shape = before + length + behind
    apart = {"shape": shape, "begin": before, "end": before + length, "strides": step}
    numbers = tf.raw_ops.StridedSliceGrad(dy=x, **apart)
    there = tf.raw_ops.StridedSliceGrad(dy=tf.ones_like(x), **apart)
    cut = before - low
    return tf.slice(tf.where(tf.equal(there, 1), numbers, value), cut, length + low + high)


FORMS: dict[str, Callable[..., tf.Tensor]] = {
    "AdjustContrastv2": adjust_contrast,
    "AdjustHue": adjust_hue,
    "AdjustSaturation": adjust_saturation,
    "DebugGradientIdentity": same,  # TensorFlow's gradient of it asks for a debugger
    "GuaranteeConst": same,
    "HSVToRGB": hsv_to_rgb,
    "Mod": truncate_mod,
    "ResizeArea": resize_area,
    "Snapshot": same,
    "TruncateMod": truncate_mod,
    "XlaDynamicSlice": dynamic_slice,
    "XlaDynamicUpdateSlice": dynamic_update_slice,
    "XlaPad": xla_pad,
}
