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

# Called with the tensor that enters a ReLU and its cap (or None), once for each ReLU of an eager pass.
Watch = Callable[[tf.Tensor, "float | None"], None]


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


def rebuild(model, mode: str, watch: Watch | None = None, dtype: str = "float32"):
    """A copy of a Keras 2 or Keras 3 model, all ReLUs replaced, that returns logits.

    Sequential and functional models, nested at will. A final softmax or sigmoid becomes linear. The other
    activations stay.
    """
    copy = _clone(model, lambda cap: rule(mode, cap, watch), dtype, done={})
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


def _clone(layer, relu: Callable, dtype: str, done: dict):
    """Copy of a layer or model; one that is used in several places stays one."""
    if id(layer) not in done:
        done[id(layer)] = _copy(layer, relu, dtype, done)
    return done[id(layer)]


def _copy(layer, relu: Callable, dtype: str, done: dict):
    api = _keras_of(layer)
    if isinstance(layer, api.Model):
        return api.models.clone_model(layer, clone_function=lambda inner: _clone(inner, relu, dtype, done))
    cap = _cap(layer)
    if not isinstance(layer, api.layers.Layer):  # an operation of a Keras 3 graph; it holds no weights
        return api.layers.Activation(relu(*cap)) if cap else layer
    if cap and isinstance(layer, api.layers.ReLU | api.layers.Activation):
        return api.layers.Activation(relu(*cap), name=layer.name, dtype=dtype)
    if isinstance(layer, api.layers.Softmax):
        return api.layers.Activation("softmax", name=layer.name, dtype=dtype)
    copy = type(layer).from_config({**layer.get_config(), "dtype": dtype})
    if cap:
        copy.activation = relu(*cap)
    return copy
