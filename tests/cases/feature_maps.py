"""SavedModels with a last feature map, and the same arithmetic eagerly in whatever precision: the reference of estimators.

Each form ends in another way; `layer` is the tensor that a class activation map belongs to, as its author would say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

SIDE, CLASSES = 16, 5
Array = np.ndarray


def _weights() -> dict[str, Array]:
    draw = np.random.default_rng(3)
    shapes = {
        "first": (3, 3, 3, 8),
        "second": (3, 3, 8, 12),
        "other": (1, 1, 8, 12),
        "wide": (3, 3, 12, 6),
        "pooled": (12, CLASSES),
        "both": (24, CLASSES),
        "flat": (8 * 8 * 12, CLASSES),
        "hidden": (12, 20),
        "late": (20, CLASSES),
        "seen": (8, CLASSES),
        "map": (1, 1, 12, CLASSES),
    }
    found = {name: draw.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape) for name, shape in shapes.items()}
    return {**found, "low": draw.normal(0, 0.3, 12), "bias": draw.normal(0, 0.2, CLASSES), "b20": draw.normal(0, 1, 20)}


WEIGHTS = _weights()


class Net:
    """One forward pass in a precision; `keep` is told the feature map, and may replace it."""

    def __init__(self, dtype: tf.DType, relu: Callable = tf.nn.relu, keep: Callable = lambda tensor: tensor):
        self.w = {name: tf.constant(value, dtype) for name, value in WEIGHTS.items()}
        self.relu, self.keep = relu, keep

    def features(self, x: tf.Tensor) -> tf.Tensor:
        """[n, 8, 8, 8]"""
        return self.relu(tf.nn.conv2d(x, self.w["first"], 2, "SAME"))

    def last(self, x: tf.Tensor) -> tf.Tensor:
        """[n, 8, 8, 12]"""
        return self.keep(self.relu(tf.nn.conv2d(self.features(x), self.w["second"], 1, "SAME") + self.w["low"]))

    def pooled(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(self.last(x), [1, 2]) @ self.w["pooled"] + self.w["bias"]

    def flat(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(self.last(x), [-1, 8 * 8 * 12]) @ self.w["flat"] + self.w["bias"]

    def dense(self, x: tf.Tensor) -> tf.Tensor:
        """Another ReLU behind the layer, so that it is not linear in it, and a rule has something to act on."""
        hidden = self.relu(tf.reduce_mean(self.last(x), [1, 2]) @ self.w["hidden"] + self.w["b20"])
        return hidden @ self.w["late"] + self.w["bias"]

    def joined(self, x: tf.Tensor) -> tf.Tensor:
        """Two ways that meet again: neither alone is all of it."""
        before = self.features(x)
        ways = [tf.nn.conv2d(before, self.w[name], 1, "SAME") for name in ("second", "other")]
        both = self.keep(tf.concat([self.relu(way) for way in ways], 3))
        return tf.reduce_mean(both, [1, 2]) @ self.w["both"] + self.w["bias"]

    def passed_by(self, x: tf.Tensor) -> tf.Tensor:
        """A way around the second layer: the first is the last that all passes."""
        before = self.keep(self.features(x))
        after = self.relu(tf.nn.conv2d(before, self.w["second"], 1, "SAME") + self.w["low"])
        scores = tf.reduce_mean(after, [1, 2]) @ self.w["pooled"] + tf.reduce_max(before, [1, 2]) @ self.w["seen"]
        return scores + self.w["bias"]

    def swish(self, x: tf.Tensor) -> tf.Tensor:
        before = tf.nn.conv2d(self.features(x), self.w["second"], 1, "SAME") + self.w["low"]
        return tf.reduce_mean(self.keep(before * tf.sigmoid(before)), [1, 2]) @ self.w["pooled"] + self.w["bias"]

    def map(self, x: tf.Tensor) -> tf.Tensor:
        """[n, 8, 8, classes]"""
        return tf.nn.conv2d(self.last(x), self.w["map"], 1, "SAME") + self.w["bias"]

    def sequence(self, x: tf.Tensor) -> tf.Tensor:
        """[n, 64, classes]"""
        return tf.reshape(self.map(x), [-1, 64, CLASSES])

    def _points(self, points: Callable, x: tf.Tensor) -> tf.Tensor:
        """A dense layer at each place, whose numbers are then laid out in a row."""
        kept = self.keep(self.relu(points(self.features(x), self.w["other"][0, 0])))
        return tf.reshape(kept, [-1, 8 * 8 * 12]) @ self.w["flat"] + self.w["bias"]

    def tensordot(self, x: tf.Tensor) -> tf.Tensor:
        return self._points(lambda before, w: tf.tensordot(before, w, [[3], [0]]), x)

    def letters(self, x: tf.Tensor) -> tf.Tensor:
        return self._points(lambda before, w: tf.einsum("...c,cd->...d", before, w), x)

    def matrices(self, x: tf.Tensor) -> tf.Tensor:
        return self._points(tf.matmul, x)


class Turned(Net):
    """The same with channels before height and width, as other frameworks have them."""

    def features(self, x: tf.Tensor) -> tf.Tensor:
        turned = tf.transpose(x, [0, 3, 1, 2])
        return self.relu(tf.nn.conv2d(turned, self.w["first"], [1, 1, 2, 2], "SAME", data_format="NCHW"))

    def last(self, x: tf.Tensor) -> tf.Tensor:
        second = tf.nn.conv2d(self.features(x), self.w["second"], 1, "SAME", data_format="NCHW")
        return self.keep(self.relu(second + tf.reshape(self.w["low"], [1, 12, 1, 1])))

    def pooled(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(self.last(x), [2, 3]) @ self.w["pooled"] + self.w["bias"]

    def letters(self, x: tf.Tensor) -> tf.Tensor:
        """An equation that turns the axes too."""
        kept = self.keep(self.relu(tf.einsum("nchw,cd->nwdh", self.features(x), self.w["other"][0, 0])))
        flat = tf.reshape(tf.transpose(kept, [0, 3, 1, 2]), [-1, 8 * 8 * 12])
        return flat @ self.w["flat"] + self.w["bias"]


@dataclass(frozen=True)
class Form:
    """One model: what its graph is written by, and its scores."""

    net: type[Net]
    scores: str
    linear: bool  # behind the layer
    size: tuple[int, int] = (8, 8)


FORMS = {
    "pooled": Form(Net, "pooled", True),
    "flat": Form(Net, "flat", True),
    "dense": Form(Net, "dense", False),
    "joined": Form(Net, "joined", True),
    "passed by": Form(Net, "passed_by", False),
    "swish": Form(Net, "swish", True),
    "map": Form(Net, "map", True),
    "channels first": Form(Turned, "pooled", True),
    "sequence": Form(Net, "sequence", True),
    "points by tensordot": Form(Net, "tensordot", True),
    "points by letters": Form(Net, "letters", True),
    "points by matrices": Form(Net, "matrices", True),
    "turned by letters": Form(Turned, "letters", True),
}


def write(folder: Path, form: str, batch: int | None = None) -> Path:
    """The SavedModel; a batch of fixed size where asked."""
    chosen, module = FORMS[form], tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([batch, SIDE, SIDE, 3], tf.float32, "image")])
    def serve(image):
        net = chosen.net(tf.float32, keep=lambda tensor: tf.identity(tensor, "kept"))
        return {"scores": getattr(net, chosen.scores)(image)}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


@dataclass(frozen=True)
class Found:
    """Of one image in float64: class, score, where it counts [p], gradient [h, w, c]; layer A and its gradient G [h, w, k]."""

    index: int
    score: float
    won: Array
    gradient: Array
    value: Array
    slope: Array


def eager(
    form: str, image: Array, relu: Callable = tf.nn.relu, index: int | None = None, won: Array | None = None
) -> Found:
    """The same arithmetic, op by op, for the best class or the one that is given, at the positions that it wins."""
    kept: list[tf.Tensor] = []
    x = tf.constant(image[None], tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)

        def keep(tensor: tf.Tensor) -> tf.Tensor:
            kept.append(tensor)
            tape.watch(tensor)
            return tensor

        net = Net(tf.float64, relu, keep)
        scores = tf.reshape(getattr(net, FORMS[form].scores)(x), [-1, CLASSES])
        best = tf.argmax(scores, 1).numpy()
        if index is None:
            index = int(np.bincount(best, minlength=CLASSES).argmax())
        if won is None:
            won = (best == index if len(best) > 1 else np.ones(1)).astype(np.float64)
        score = tf.reduce_sum(scores[:, index] * won)
    gradient, slope = (tape.gradient(score, one)[0].numpy() for one in (x, kept[-1]))
    return Found(index, float(score), won, gradient, kept[-1][0].numpy(), slope)


def pictures(count: int, seed: int = 0) -> Array:
    """float32 [n, 16, 16, 3]: patches and noise, from 0 to about 1."""
    draw = np.random.default_rng(seed)
    coarse = draw.uniform(size=(count, 4, 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return (0.8 * coarse + 0.2 * draw.uniform(size=(count, SIDE, SIDE, 3))).astype(np.float32)
