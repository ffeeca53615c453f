"""The truth that gradviz is held against: the rules as eager custom gradients.

Nothing here comes from gradviz or is used by it. A ReLU is a Python function with its own gradient; a Keras
model is rebuilt with that function in place of each ReLU; a `tf.GradientTape` does the rest, op by op.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from worked import WORKED

MODES = tuple(WORKED)

# Called once for each ReLU of an eager pass with the tensor that enters it and its cap (or None), and with POOLED and how
# far the two largest of each window are apart for each max pooling.
Watch = Callable[[tf.Tensor, "float | None | str"], None]
POOLED = "pooled"


@dataclass(frozen=True)
class Relus:
    """The ReLU that a network is built with: `relu(x)` and `capped(x, cap)`."""

    relu: Callable
    capped: Callable


@dataclass(frozen=True)
class Truth:
    """`attribution` [N, H, W, C], explained class `targets` [N], all `logits` [N, K]."""

    attribution: np.ndarray
    targets: np.ndarray
    logits: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        return np.take_along_axis(self.logits, self.targets[:, None], axis=1)[:, 0]


def rule(mode: str, cap: float | None = None, watch: Watch | None = None) -> Callable:
    """The ReLU min(max(x, 0), cap) with the gradient of `mode`.

    The gate is open strictly between 0 and the cap. The equations are those of the papers, in tests/cases/worked.py.
    """
    equation = WORKED[mode].equation

    @tf.custom_gradient
    def relu(x):
        top = x.dtype.max if cap is None else cap

        def downstream(upstream):
            gate, positive = (tf.cast(each, upstream.dtype) for each in ((x > 0) & (x < top), upstream > 0))
            return equation(upstream, gate, positive)

        if watch and tf.executing_eagerly():
            watch(x, cap)
        return tf.clip_by_value(x, 0, top), downstream

    return relu


def rules(mode: str, watch: Watch | None = None) -> Relus:
    """The ReLUs of `mode`, for networks that take theirs as an argument."""
    return Relus(rule(mode, watch=watch), lambda x, cap: rule(mode, cap, watch)(x))


@dataclass(frozen=True)
class Parts:
    """What stands in place of a ReLU with this cap, and who watches."""

    relu: Callable
    watch: Watch | None

    def pooling(self, layer) -> Callable:
        """A max pooling that is watched."""

        def pooled(x):
            if tf.executing_eagerly():
                self.watch(_gaps(x.numpy(), layer), POOLED)
            return tf.nn.max_pool2d(x, layer.pool_size, layer.strides, layer.padding.upper())

        return pooled


def _gaps(x: np.ndarray, layer) -> tf.Tensor:
    """How far the two largest of each window are apart, at most 1: where it is rounding, programs differ about the larger."""
    if layer.padding == "same":
        over = [max((-(-side // step) - 1) * step + wide - side, 0) for side, step, wide in _windows(x, layer)]
        pads = [(0, 0), *((all // 2, all - all // 2) for all in over), (0, 0)]
        x = np.pad(x, pads, constant_values=-1e9)
    (_, down, tall), (_, across, wide) = _windows(x, layer)
    windows = np.lib.stride_tricks.sliding_window_view(x, (tall, wide), (1, 2))[:, ::down, ::across]
    ordered = np.sort(windows.reshape(*windows.shape[:4], -1), -1)
    return tf.constant(np.minimum(ordered[..., -1] - ordered[..., -2], 1))


def _windows(x: np.ndarray, layer) -> list[tuple[int, int, int]]:
    """Side, step and width of the windows along each axis of the image."""
    return list(zip(x.shape[1:3], layer.strides, layer.pool_size, strict=True))


def rebuild(model, mode: str, watch: Watch | None = None, dtype: str = "float32"):
    """A copy of a Keras 2 or Keras 3 model, all ReLUs replaced, that returns logits.

    Sequential and functional models, nested at will. A final softmax or sigmoid becomes linear. The other
    activations stay.
    """
    copy = _clone(model, Parts(lambda cap: rule(mode, cap, watch), watch), dtype, done={})
    copy.set_weights(model.get_weights())
    last = copy
    while hasattr(last, "layers"):
        last = last.layers[-1]
    if _activation(last) in ("softmax", "sigmoid"):
        last.activation = _keras_of(last).activations.linear
    return copy


def attribution(logits_of: Callable, images: np.ndarray, target: str | int = "top1") -> Truth:
    """Gradient of the logit of `target` with respect to `images` [N, H, W, C], eagerly."""
    x = tf.convert_to_tensor(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = logits_of(x)
        top = tf.argmax(logits, axis=1).numpy()
        index = top if target == "top1" else np.full(len(images), target)
        score = tf.gather(logits, index, axis=1, batch_dims=1)
    return Truth(tape.gradient(score, x).numpy(), index, logits.numpy())


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """Relative L2 distance, of the worst image of the batch [N, ...]."""
    assert got.shape == want.shape
    got, want = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (got, want))
    assert np.isfinite(got).all() and np.isfinite(want).all()
    size = np.linalg.norm(want, axis=1)
    assert (size > 0).all(), "the reference itself is zero"
    return float((np.linalg.norm(got - want, axis=1) / size).max())


def _keras_of(layer):
    return tf_keras if isinstance(layer, tf_keras.layers.Layer) else keras


def _activation(layer) -> str | None:
    """The name of the activation that a layer ends with."""
    if type(layer).__name__ == "Softmax":
        return "softmax"
    return getattr(getattr(layer, "activation", None), "__name__", None)


def _cap(layer) -> tuple[float | None] | None:
    """(cap,) of the ReLU that a layer or a Keras 3 operation ends with, None where it ends with none."""
    if isinstance(layer, keras.layers.ReLU | tf_keras.layers.ReLU):
        assert not layer.negative_slope and not layer.threshold
        return (layer.max_value,)
    name = _activation(layer) or type(layer).__name__.lower()
    return {"relu": (None,), "relu6": (6.0,)}.get(name)


def _clone(layer, parts: Parts, dtype: str, done: dict):
    """Copy of a layer or model; one that is used in several places stays one."""
    if id(layer) not in done:
        done[id(layer)] = _copy(layer, parts, dtype, done)
    return done[id(layer)]


def _copy(layer, parts: Parts, dtype: str, done: dict):
    api = _keras_of(layer)
    if isinstance(layer, api.Model):
        return api.models.clone_model(layer, clone_function=lambda inner: _clone(inner, parts, dtype, done))
    cap = _cap(layer)
    if not isinstance(layer, api.layers.Layer):  # an operation of a Keras 3 graph; it holds no weights
        return api.layers.Activation(parts.relu(*cap)) if cap else layer
    if cap and isinstance(layer, api.layers.ReLU | api.layers.Activation):
        return api.layers.Activation(parts.relu(*cap), name=layer.name, dtype=dtype)
    if parts.watch and isinstance(layer, api.layers.MaxPooling2D):
        return api.layers.Lambda(parts.pooling(layer), name=layer.name, dtype=dtype)
    if isinstance(layer, api.layers.Softmax):
        return api.layers.Activation("softmax", name=layer.name, dtype=dtype)
    copy = type(layer).from_config({**layer.get_config(), "dtype": dtype})
    if cap:
        copy.activation = parts.relu(*cap)
    return copy
