"""A program as a SavedModel: a tf.Module, a graph of TensorFlow 1, a Keras 3 export, a Keras 2 model.

`Emitter` writes a program with the operations of TensorFlow; what Keras has layers for is written with these, and the
rest of a Keras model with an `Emitter` inside a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from fuzz import grammar as g
from fuzz.spelled import SPELLINGS
from wild import old_graph, save

v1 = tf.compat.v1
Weights = Callable[[int, str, np.ndarray], Any]

# --- how activations are spelled: x, a number, a number a channel -----------------------------------------------------


def _floored(x):
    """exp(x) - 1 of what is below 0."""
    return tf.exp(tf.minimum(x, 0)) - 1


def _masked(x, p, c):
    return x * tf.cast(x > 0, x.dtype)


def _selu_where(x, p, c):
    return tf.where(x > 0, 1.0507009873554805 * x, 1.0507009873554805 * 1.6732632423543772 * _floored(x))


def _sparse_plus(x, p, c):
    return tf.where(x <= -1, tf.zeros_like(x), tf.where(x < 1, 0.25 * (x + 1) * (x + 1), x))


TF = {
    "relu": lambda x, p, c: tf.nn.relu(x),
    "maximum": lambda x, p, c: tf.maximum(x, 0),
    "maximum, zero first": lambda x, p, c: tf.maximum(tf.constant(0, x.dtype), x),
    "where": lambda x, p, c: tf.where(x > 0, x, tf.zeros_like(x)),
    "where at or above": lambda x, p, c: tf.where(x >= 0, x, 0 * x),
    "where below": lambda x, p, c: tf.where(x < 0, tf.zeros_like(x), x),
    "mask": _masked,
    "mask of the sign": lambda x, p, c: 0.5 * x * (1 + tf.sign(x)),
    "half of x + abs": lambda x, p, c: 0.5 * (x + tf.abs(x)),
    "minus minimum": lambda x, p, c: -tf.minimum(-x, 0),
    "x less minimum": lambda x, p, c: x - tf.minimum(x, 0),
    "clip far above": lambda x, p, c: tf.clip_by_value(x, 0, 1e9),
    "relu, squared": lambda x, p, c: tf.square(tf.nn.relu(x)),
    "relu6": lambda x, p, c: tf.nn.relu6(x),
    "minimum of relu": lambda x, p, c: tf.minimum(tf.nn.relu(x), 4 * p),
    "clip": lambda x, p, c: tf.clip_by_value(x, 0, 4 * p),
    "maximum of minimum": lambda x, p, c: tf.maximum(tf.minimum(x, 4 * p), 0),
    "minimum of maximum": lambda x, p, c: tf.minimum(tf.maximum(x, 0), 4 * p),
    "relu less relu": lambda x, p, c: tf.nn.relu(x) - tf.nn.relu(x - 4 * p),
    "capped by channel": lambda x, p, c: tf.minimum(tf.nn.relu(x), c),
    "leaky": lambda x, p, c: tf.nn.leaky_relu(x, p),
    "leaky maximum": lambda x, p, c: tf.maximum(x, p * x),
    "leaky where": lambda x, p, c: tf.where(x > 0, x, p * x),
    "leaky of two relus": lambda x, p, c: tf.nn.relu(x) - p * tf.nn.relu(-x),
    "prelu": lambda x, p, c: tf.nn.relu(x) - c * tf.nn.relu(-x),
    "elu": lambda x, p, c: tf.nn.elu(x),
    "elu where": lambda x, p, c: tf.where(x > 0, x, _floored(x)),
    "celu": lambda x, p, c: tf.maximum(x, 0) + p * (tf.exp(tf.minimum(x, 0) / p) - 1),
    "selu": lambda x, p, c: tf.nn.selu(x),
    "selu where": _selu_where,
    "gelu": lambda x, p, c: tf.nn.gelu(x),
    "gelu tanh": lambda x, p, c: tf.nn.gelu(x, approximate=True),
    "gelu sigmoid": lambda x, p, c: x * tf.sigmoid(1.702 * x),
    "silu": lambda x, p, c: tf.nn.silu(x),
    "silu product": lambda x, p, c: x * tf.sigmoid(x),
    "silu quotient": lambda x, p, c: x / (1 + tf.exp(-x)),
    "mish": lambda x, p, c: x * tf.tanh(tf.nn.softplus(x)),
    "softplus": lambda x, p, c: tf.nn.softplus(x),
    "softplus spelled": lambda x, p, c: tf.math.log(1 + tf.exp(x)),
    "softsign": lambda x, p, c: tf.nn.softsign(x),
    "tanh": lambda x, p, c: tf.tanh(x),
    "sigmoid": lambda x, p, c: tf.sigmoid(x),
    "hard swish": lambda x, p, c: x * tf.nn.relu6(x + 3) / 6,
    "hard swish clip": lambda x, p, c: x * tf.clip_by_value(x / 6 + 0.5, 0, 1),
    "hard sigmoid": lambda x, p, c: tf.nn.relu6(x + 3) / 6,
    "hard tanh": lambda x, p, c: tf.clip_by_value(x, -1, 1),
    "hard tanh of two": lambda x, p, c: tf.maximum(tf.minimum(x, 1), -1),
    "soft shrink": lambda x, p, c: tf.sign(x) * tf.maximum(tf.abs(x) - p, 0),
    "hard shrink": lambda x, p, c: tf.where(tf.abs(x) > p, x, tf.zeros_like(x)),
    "tanh shrink": lambda x, p, c: x - tf.tanh(x),
    "squareplus": lambda x, p, c: 0.5 * (x + tf.sqrt(x * x + 4)),
    "sparse plus": _sparse_plus,
    "threshold": lambda x, p, c: x * tf.cast(x > p, x.dtype),
}
assert TF.keys() == SPELLINGS.keys()


# --- with operations --------------------------------------------------------------------------------------------------


@dataclass
class Emitter:
    """Writes steps on tensors; `weights(seed, name, value)` gives the tensor of a weight."""

    program: g.Program
    weights: Weights

    @property
    def dtype(self) -> str:
        return {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}.get(self.program.dtype, self.program.dtype)

    def whole(self, image):
        """Image to outputs, name -> tensor."""
        x = tf.transpose(image, (0, 2, 3, 1)) if self.program.layout == "NCHW" else image
        front = self.program.front
        x = self.run(front[: self.program.cast], x)
        x = tf.cast(x, self.dtype) if x.dtype != self.dtype else x
        return self.outputs(self.head(self.run((*front[self.program.cast :], *self.program.steps), x)))

    def run(self, steps, x):
        for step in steps:
            x = self.step(step, x)
        return x

    def held(self, step, x, *names: str) -> list:
        found = g.weights_of(step, x.shape, self.program.dtype)
        return [self.weights(step.seed, name, found[name]) for name in names or found]

    def step(self, step, x):
        match step:
            case g.Conv():
                return self._conv(step, x)
            case g.Depthwise(stride=s):
                kernel, bias = self.held(step, x)
                return tf.nn.bias_add(tf.nn.depthwise_conv2d(x, kernel, (1, s, s, 1), "SAME"), bias)
            case g.Separable():
                depth, point, bias = self.held(step, x)
                return tf.nn.separable_conv2d(x, depth, point, (1, 1, 1, 1), "SAME") + bias
            case g.Transposed(stride=s):
                kernel, bias = self.held(step, x)
                size = (tf.shape(x)[0], x.shape[1] * s, x.shape[2] * s, step.filters)
                y = tf.nn.conv2d_transpose(x, kernel, tf.stack(size), s, "SAME")
                return tf.ensure_shape(tf.nn.bias_add(y, bias), (x.shape[0], *size[1:]))
            case g.Pool():
                run = tf.nn.max_pool2d if step.kind == "max" else tf.nn.avg_pool2d
                return run(x, min(step.size, *x.shape[1:3]), step.stride, step.padding)
            case g.Norm():
                return self._norm(step, x)
            case g.Act():
                (channels,) = self.held(step, x)
                return TF[step.spelling](x, step.parameter, channels)
            case g.Dense():
                matrix, bias = self.held(step, x)
                return tf.nn.bias_add(tf.matmul(x, matrix), bias)
            case g.Shuffle():
                return _shuffled(x)
            case g.Crop():
                return x[:, 1:, :-1] if min(x.shape[1:3]) > 1 else x
            case g.Blocks():
                _, height, width, _ = x.shape
                even = x[:, : height // 2 * 2, : width // 2 * 2]
                return tf.nn.space_to_depth(even, 2) if min(height, width) > 1 else x
            case g.Drop():
                return self._dropped(x)
            case g.Residual(body):
                return x + self.run(body, x)
            case g.Branches(bodies, join):
                return joined([self.run(body, x) for body in bodies], join)
            case g.Split(first, second):
                half = x.shape[-1] // 2
                return tf.concat([self.step(first, x[..., :half]), self.step(second, x[..., half:])], -1)
            case g.Resize(factor, method):
                size = [side * factor for side in x.shape[1:3]]
                if x.dtype.is_floating and method == "bilinear":
                    return tf.cast(tf.image.resize(x, size, method), x.dtype)  # always float32
                return tf.image.resize(x, size, method)
            case g.Pad(amount, mode):
                amount = min(amount, min(x.shape[1:3]) - 1) if mode == "REFLECT" else amount
                return tf.pad(x, [(0, 0), (amount, amount), (amount, amount), (0, 0)], mode)
            case g.Turned():
                return self._turned(step, x)
            case g.Squeeze():
                return self._squeeze(step, x)
            case g.Attention():
                return self._attention(step, x)
            case g.Loop(body, count):
                return tf.while_loop(lambda i, x: i < count, lambda i, x: (i + 1, self.run(body, x)), (0, x))[1]
            case g.Cond(yes, no):
                call = v1.cond if self.program.writer == "tf1" else tf.cond
                return call(tf.reduce_mean(x) > 0, lambda: self.run(yes, x), lambda: self.run(no, x))
            case g.Mapped(body):
                return tf.map_fn(lambda one: self.run(body, one[None])[0], x)
            case g.Nested():
                return self._nested(step, x)
            case g.Rescale(scale, offset):
                return x * scale + offset
            case g.Standardise():
                average, deviation = self.held(step, x)
                return (x - average) / deviation
            case g.ClipImage(low, high):
                return tf.clip_by_value(x, low, high)
            case g.Flip(axis):
                return tf.reverse(x, [axis])
        raise TypeError(step)

    def _conv(self, step: g.Conv, x):
        kernel, *bias = self.held(step, x)
        padding = step.padding if min(x.shape[1:3]) >= step.size else "SAME"
        groups = g.groups_of(step, x.shape[-1])
        kernels = tf.split(kernel, groups, -1) if groups > 1 else [kernel]
        parts = [
            tf.nn.conv2d(part, one, step.stride, padding, dilations=step.dilation)
            for part, one in zip(tf.split(x, groups, -1) if groups > 1 else [x], kernels, strict=True)
        ]
        y = tf.concat(parts, -1) if groups > 1 else parts[0]
        return tf.nn.bias_add(y, bias[0]) if bias else y

    def _norm(self, step: g.Norm, x):
        if step.kind == "affine":
            gamma, beta = self.held(step, x)
            return x * gamma + beta
        if step.kind == "layer":
            gamma, beta = self.held(step, x)
            average, variance = tf.nn.moments(x, [-1], keepdims=True)
            return (x - average) * tf.math.rsqrt(variance + 2.0**-10) * gamma + beta
        gamma, beta, average, variance = self.held(step, x)
        if step.kind == "batch" and x.dtype == tf.float32:
            return v1.nn.fused_batch_norm(x, gamma, beta, average, variance, 2.0**-10, is_training=False)[0]
        return tf.nn.batch_normalization(x, average, variance, beta, gamma, 2.0**-10)

    def _turned(self, step: g.Turned, x):
        (bias,) = self.held(step, x)
        y = tf.nn.bias_add(tf.transpose(x, (0, 3, 1, 2)), bias, "NCHW")
        (channels,) = self.held(step.act, x)
        y = TF[step.act.spelling](y, step.act.parameter, tf.reshape(channels, (-1, 1, 1)))
        return tf.transpose(y, (0, 2, 3, 1))

    def _squeeze(self, step: g.Squeeze, x):
        down, down_bias, up, up_bias = self.held(step, x)
        y = tf.matmul(tf.reduce_mean(x, (1, 2)), down) + down_bias
        y = tf.matmul(self.step(step.act, y), up) + up_bias
        gate = tf.sigmoid(y) if step.gate == "sigmoid" else tf.nn.relu6(y + 3) / 6
        return x * gate[:, None, None]

    def _attention(self, step: g.Attention, x):
        query, key, value, out = self.held(step, x)
        height, width, c = x.shape[1:]
        tokens = tf.reshape(x, (-1, height * width, c))
        times = lambda a, b: tf.einsum("ntc,cd->ntd", a, b)  # noqa: E731
        attention = tf.nn.softmax(tf.matmul(times(tokens, query), times(tokens, key), transpose_b=True) * 0.5)
        y = times(tf.matmul(attention, times(tokens, value)), out)
        return x + tf.reshape(y, (-1, height, width, c))

    def _dropped(self, x):
        if self.program.writer != "tf1":
            return tf.identity(x)
        training = v1.placeholder_with_default(False, [])
        return v1.cond(training, lambda: v1.nn.dropout(x, rate=0.5), lambda: tf.identity(x))

    def _nested(self, step: g.Nested, x):
        if self.program.writer != "module":
            return self.run(step.body, x)
        marks = {"jit_compile": True} if step.how == "jit" else {}
        if step.how == "noinline":
            marks = {"experimental_attributes": {"_noinline": True}}
        return tf.function(lambda x: self.run(step.body, x), autograph=False, **marks)(x)

    def head(self, x):
        """Logits [N, K] or [N, H, W, K]."""
        head = self.program.head
        if head.kind == "segmentation":
            matrix, bias = self.held(head, x)
            return tf.nn.conv2d(x, matrix[None, None], 1, "SAME") + bias
        if head.pool == "flatten":
            x = tf.reshape(x, (-1, math.prod(x.shape[1:])))
        elif head.pool == "mean":
            x = tf.reduce_mean(x, (1, 2))
        elif head.pool == "max":
            x = tf.reduce_max(x, (1, 2))
        x = self.run(head.tail, x)
        matrix, bias = self.held(head, x)
        if head.pool == "conv":
            return tf.reduce_mean(tf.nn.bias_add(tf.nn.conv2d(x, matrix[None, None], 1, "SAME"), bias), (1, 2))
        return tf.matmul(x, matrix) + bias

    def outputs(self, logits) -> dict[str, Any]:
        if self.dtype in g.HALVES:
            logits = tf.cast(logits, "float32")
        return HEADS[self.program.head.kind](logits)


def _shuffled(x):
    height, width, c = x.shape[1:]
    even = tf.reshape(x[..., : c // 2 * 2], (-1, height, width, 2, c // 2))
    turned = tf.reshape(tf.transpose(even, (0, 1, 2, 4, 3)), (-1, height, width, c // 2 * 2))
    return tf.concat([turned, x[..., -1:]], -1) if c % 2 else turned


def joined(parts, join: str):
    if join == "concat":
        return tf.concat(parts, -1)
    total = parts[0]
    for part in parts[1:]:
        total = total + part if join == "add" else total * part
    return total


def _spelled_softmax(x):
    e = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
    return e / tf.reduce_sum(e, -1, keepdims=True)


HEADS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "softmax": lambda x: {"scores": tf.nn.softmax(x)},
    "logits": lambda x: {"scores": x},
    "log_softmax": lambda x: {"scores": tf.nn.log_softmax(x)},
    "sigmoid": lambda x: {"scores": tf.sigmoid(x)},
    "one": lambda x: {"scores": tf.sigmoid(x)},
    "squeezed": lambda x: {"scores": tf.sigmoid(tf.squeeze(x, -1))},
    "spelled": lambda x: {"scores": _spelled_softmax(x)},
    "argmax": lambda x: {"scores": tf.argmax(tf.nn.softmax(x), -1)},
    "two": lambda x: {"scores": tf.nn.softmax(x), "other": tf.nn.softmax(-x)},
    "percent": lambda x: {"scores": 100 * tf.nn.softmax(x)},
    "averaged": lambda x: {"scores": 0.5 * (tf.nn.softmax(x) + tf.nn.softmax(0.5 * x))},
    "segmentation": lambda x: {"scores": tf.nn.softmax(x)},
    "temperature": lambda x: {"scores": tf.nn.softmax(x / 2)},
    "nchw": lambda x: {"scores": tf.reshape(x, (-1, x.shape[-1], 1, 1))},
    "trailing": lambda x: {"scores": x[..., None]},
}


# --- a tf.Module, a graph of TensorFlow 1 -----------------------------------------------------------------------------


def image_shape(program: g.Program) -> list[int | None]:
    height, width, channels = program.size
    sides = [channels, height, width] if program.layout == "NCHW" else [height, width, channels]
    return [program.batch, *sides]


def write_module(program: g.Program, folder: Path) -> None:
    held: dict[tuple[int, str], tf.Variable] = {}
    dtype = Emitter(program, None).dtype

    def weights(seed: int, name: str, value: np.ndarray):
        if program.weights == "constant":
            return tf.constant(value, dtype)
        if (seed, name) not in held:
            with tf.init_scope():
                held[seed, name] = tf.Variable(tf.constant(value, dtype))
        return held[seed, name]

    spec = tf.TensorSpec(image_shape(program), program.image, name="image")
    emitter = Emitter(program, weights)
    function = tf.function(emitter.whole, input_signature=[spec], autograph=False)
    function.get_concrete_function()
    save(folder, function, held.values())


def write_tf1(program: g.Program, folder: Path) -> None:
    held: dict[tuple[int, str], Any] = {}
    dtype = Emitter(program, None).dtype

    def weights(seed: int, name: str, value: np.ndarray):
        array = value.astype(tf.as_dtype(dtype).as_numpy_dtype)
        if program.weights == "constant":
            return tf.constant(array)
        if (seed, name) not in held:
            with tf.init_scope():
                resource = program.weights == "resource"
                held[seed, name] = v1.get_variable(f"w{len(held)}_{name}", initializer=array, use_resource=resource)
        return held[seed, name]

    with old_graph() as session:
        image = v1.placeholder(program.image, image_shape(program), "image")
        outputs = Emitter(program, weights).whole(image)
        session.run(v1.global_variables_initializer())
        if program.seed % 2:
            v1.saved_model.simple_save(session, str(folder), {"image": image}, outputs)
            return
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def({"image": image}, outputs)
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()


# --- Keras 2 and 3 ----------------------------------------------------------------------------------------------------


def _layer_class(k: ModuleType):
    class Written(k.layers.Layer):
        """What Keras has no layer for, its weights constants."""

        def __init__(self, emit: Callable, **options: Any):
            super().__init__(**options)
            self.emit = tf.autograph.experimental.do_not_convert(emit)

        def call(self, inputs):
            return self.emit(inputs)

    return Written


@dataclass
class Layers:
    """Writes steps on the tensors of a Keras."""

    program: g.Program
    k: ModuleType
    written: Any = field(init=False)

    def __post_init__(self) -> None:
        self.written = _layer_class(self.k)
        self.emitter = Emitter(self.program, self._constant)

    def _constant(self, seed: int, name: str, value: np.ndarray):
        if self.program.dtype.startswith("mixed"):
            return tf.cast(tf.constant(value, "float32"), self.emitter.dtype)
        return tf.constant(value, self.emitter.dtype)

    def run(self, steps, x):
        for step in steps:
            x = self.step(step, x)
        return x

    def by_hand(self, emit: Callable, x):
        return self.written(emit, dtype=self.program.dtype)(x)

    def layer(self, layer, x, *values: np.ndarray):
        y = layer(x)
        layer.set_weights(list(values))
        return y

    def step(self, step, x):
        k, of = self.k.layers, {"dtype": self.program.dtype}
        w = g.weights_of(step, x.shape, self.program.dtype) if hasattr(step, "seed") else {}
        match step:
            case g.Conv(filters=f, size=s):
                padding = step.padding if min(x.shape[1:3]) >= s else "SAME"
                groups = g.groups_of(step, x.shape[-1])
                if groups > 1:
                    return self.by_hand(lambda one: self.emitter.step(step, one), x)
                f = g.filters_of(step, x.shape[-1])
                layer = k.Conv2D(
                    f, s, step.stride, padding.lower(), dilation_rate=step.dilation, use_bias=step.bias, **of
                )
                return self.layer(layer, x, *w.values())
            case g.Depthwise(size=s, stride=stride):
                layer = k.DepthwiseConv2D(s, stride, "same", depth_multiplier=step.multiplier, **of)
                return self.layer(layer, x, *w.values())
            case g.Separable(filters=f, size=s):
                return self.layer(k.SeparableConv2D(f, s, padding="same", **of), x, *w.values())
            case g.Transposed(filters=f, size=s):
                return self.layer(k.Conv2DTranspose(f, s, step.stride, "same", **of), x, *w.values())
            case g.Pool():
                kind = k.MaxPooling2D if step.kind == "max" else k.AveragePooling2D
                return kind(min(step.size, *x.shape[1:3]), step.stride, step.padding.lower(), **of)(x)
            case g.Norm(kind="batch" | "spelled"):
                return self.layer(k.BatchNormalization(epsilon=2.0**-10, **of), x, *w.values())
            case g.Norm(kind="layer"):
                return self.layer(k.LayerNormalization(epsilon=2.0**-10, **of), x, *w.values())
            case g.Act():
                return self._act(step, x)
            case g.Dense(units=units):
                return self.layer(k.Dense(units, **of), x, *w.values())
            case g.Drop():
                return k.Dropout(0.5, **of)(x)
            case g.Residual(body):
                return k.Add(**of)([x, self.run(body, x)])
            case g.Branches(bodies, join):
                kind = {"concat": k.Concatenate, "add": k.Add, "multiply": k.Multiply}[join]
                return kind(**of)([self.run(body, x) for body in bodies])
            case g.Resize(factor, method):
                return k.UpSampling2D(factor, interpolation=method, **of)(x)
            case g.Pad(amount, "CONSTANT"):
                return k.ZeroPadding2D(amount, **of)(x)
            case g.Squeeze(gate="sigmoid"):
                y = k.GlobalAveragePooling2D(keepdims=True, **of)(x)
                y = self.layer(k.Dense(w["down"].shape[1], **of), y, w["down"], w["down_bias"])
                y = self.step(step.act, y)
                y = self.layer(k.Dense(w["up"].shape[1], activation="sigmoid", **of), y, w["up"], w["up_bias"])
                return k.Multiply(**of)([x, y])
            case g.Nested(body) | g.Mapped(body):
                inside = self.k.Input(x.shape[1:], batch_size=self.program.batch, dtype=x.dtype)
                return self.k.Model(inside, self.run(body, inside))(x)
            case g.Rescale(scale, offset):
                return k.Rescaling(scale, offset, **of)(x)
        return self.by_hand(lambda one: self.emitter.step(step, one), x)

    def _act(self, step: g.Act, x):
        native = SPELLINGS[step.spelling].native
        old = self.k is tf_keras
        if step.spelling == "prelu" and step.native and len(x.shape) == 4:
            (alpha,) = g.weights_of(step, x.shape, self.program.dtype).values()
            layer = self.k.layers.PReLU(shared_axes=[1, 2], dtype=self.program.dtype)
            return self.layer(layer, x, alpha[None, None])
        if step.spelling == "leaky" and step.native:
            name = "alpha" if old else "negative_slope"
            return self.k.layers.LeakyReLU(**{name: step.parameter}, dtype=self.program.dtype)(x)
        if step.spelling in ("minimum of relu", "clip") and step.native:
            return self.k.layers.ReLU(4 * step.parameter, dtype=self.program.dtype)(x)
        if not step.native or not native or (native.startswith("3") and old):
            return self.by_hand(lambda one: self.emitter.step(step, one), x)
        name = native.removeprefix("3")
        if old and name == "relu6":
            name = tf.nn.relu6
        return self.k.layers.Activation(name, dtype=self.program.dtype)(x)

    def head(self, x):
        k, head, of = self.k.layers, self.program.head, {"dtype": self.program.dtype}
        if head.kind == "segmentation" or head.pool == "conv":
            matrix, bias = g.weights_of(head, x.shape, self.program.dtype).values()
            y = self.layer(k.Conv2D(head.classes, 1, **of), x, matrix[None, None], bias)
            return y if head.kind == "segmentation" else k.GlobalAveragePooling2D(**of)(y)
        pools = {"flatten": k.Flatten, "mean": k.GlobalAveragePooling2D, "max": k.GlobalMaxPooling2D}
        x = self.run(head.tail, pools[head.pool](**of)(x))
        matrix, bias = g.weights_of(head, x.shape, self.program.dtype).values()
        return self.layer(k.Dense(head.classes, **of), x, matrix, bias)

    def outputs(self, logits):
        kind = self.program.head.kind
        wide = "float64" if self.program.dtype == "float64" else "float32"
        if kind in ("softmax", "sigmoid", "one", "segmentation"):
            return self.k.layers.Activation("sigmoid" if kind in ("sigmoid", "one") else "softmax", dtype=wide)(logits)
        names = list(HEADS[kind](tf.zeros((1, *logits.shape[1:]))))
        parts = {n: self.written(lambda x, n=n: HEADS[kind](x)[n], dtype=wide, name=n)(logits) for n in names}
        return parts if len(parts) > 1 else parts["scores"]

    def model(self):
        program = self.program
        image = self.k.Input(image_shape(program)[1:], batch_size=program.batch, dtype=program.image)
        x = self.run(program.front[: program.cast], image)
        if program.image == "uint8" and not isinstance(program.front[0], g.Rescale):
            x = self.by_hand(lambda one: tf.cast(one, self.emitter.dtype), x)
        x = self.run((*program.front[program.cast :], *program.steps), x)
        return self.k.Model(image, self.outputs(self.head(x)))


def write_keras3(program: g.Program, folder: Path) -> None:
    Layers(program, keras).model().export(str(folder), verbose=False)


def write_keras2(program: g.Program, folder: Path) -> None:
    Layers(program, tf_keras).model().save(str(folder), save_format="tf")


WRITE = {"module": write_module, "tf1": write_tf1, "keras3": write_keras3, "keras2": write_keras2}


def write(program: g.Program, folder: Path) -> None:
    """Save a program as a SavedModel."""
    WRITE[program.writer](program, folder)
