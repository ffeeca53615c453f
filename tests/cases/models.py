"""SavedModels that the tests write themselves, each with its eager reference.

A `Case` writes one model and returns how to rebuild it with the reference's ReLUs. All weights are random,
batch-norm statistics included, so that nothing is true by symmetry: gammas of both signs, means off zero,
variances off one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from reference import POOLED, Relus, Watch, rebuild, rules

CLASSES = 5
SIDE = 20

# (mode, watch=None, dtype="float32") -> function images -> logits
Reference = Callable[..., Callable]


@dataclass(frozen=True, eq=False)
class Case:
    """One SavedModel: `write(folder)` saves it and returns its reference.

    `patched` and `left` are the activations that its signature reaches, counted by hand; `final` is what
    stands between the logits and the output.
    """

    name: str
    write: Callable[[Path], Reference]
    patched: dict[str, int]
    left: dict[str, int] = field(default_factory=dict)
    final: str = "softmax"
    shape: tuple[int, int, int] = (SIDE, SIDE, 3)

    def __str__(self) -> str:
        return self.name


class Gates:
    """Watches a forward pass: how open the gates are, and how near each image comes to a tie, of a gate or in a max pooling.

    `rounding` holds the float32 error of what is watched, by channel, the unit of `nearest`.
    """

    def __init__(self, count: int, rounding: list[np.ndarray]):
        self.open: list[float] = []
        self.capped: list[float] = []
        self.nearest = np.full(count, np.inf)
        self.rounding = iter(rounding)

    def __call__(self, x: tf.Tensor, cap: float | str | None) -> None:
        x = x.numpy()
        top = np.inf if cap in (None, POOLED) else cap
        if cap != POOLED:
            self._count(x, cap, top)
        distance = np.minimum(abs(x), abs(x - top)) / next(self.rounding)
        # Exactly 0 or the cap: a sum of shut ReLUs, a cap carried on, a window of them. No order of adding changes that.
        distance[(x == 0) | (x == top)] = np.inf
        self.nearest = np.minimum(self.nearest, distance.reshape(len(x), -1).min(axis=1))

    def _count(self, x: np.ndarray, cap: float | None, top: float) -> None:
        self.open.append(float(((x > 0) & (x < top)).mean()))
        if cap is not None:
            self.capped.append(float((x >= cap).mean()))


def rounding_errors(reference: Reference, image: np.ndarray) -> list[np.ndarray]:
    """Differences of float32 and float64 at each ReLU and max pooling, in the order of the forward pass.

    The root mean square of the channel, as batch norms scale what each is off by, or of all where that is more.
    """

    def entering(dtype: str) -> list[np.ndarray]:
        seen = []
        reference("backprop", dtype=dtype, watch=lambda x, cap: seen.append(x.numpy()))(image)
        return seen

    pairs = zip(entering("float32"), entering("float64"), strict=True)
    squares = [np.square(a - b) for a, b in pairs]
    return [np.sqrt(np.maximum(square.mean(), square.mean(tuple(range(square.ndim - 1))))) for square in squares]


def scenes(shape: tuple[int, int, int], count: int, seed: int) -> np.ndarray:
    """Random images [N, H, W, C] of about unit variance: coarse patches, contrast of their own, noise.

    Noise alone looks the same to a deep network whatever the seed.
    """
    draw = np.random.default_rng(seed)
    height, width, channels = shape
    coarse = draw.normal(size=(count, 4, 4, channels)) * draw.uniform(0.3, 2, (count, 1, 1, channels))
    coarse = coarse.repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)[:, :height, :width]
    return (coarse + draw.normal(0, 0.5, (count, *shape))).astype(np.float32)


def images(reference: Reference, shape: tuple[int, int, int], count: int = 2, of: int = 24) -> np.ndarray:
    """The `count` of `of` random images [N, H, W, C] whose gates are the furthest from a tie.

    A gate is a step: where an activation lands within the rounding error of 0, two correct programs that add
    in another order may disagree about it, and one such gate among n is an error of about 1 / sqrt(n), far
    above 1e-4. Asserts 6 rounding errors of clearance, that the gates are mixed (neither open nor shut
    throughout) and that each cap is reached.
    """
    candidates = scenes(shape, of, seed=7)
    gates = Gates(of, rounding_errors(reference, candidates[:1]))
    reference("backprop", watch=gates)(candidates)
    assert all(0.05 < share < 0.95 for share in gates.open), gates.open
    assert all(share > 0.005 for share in gates.capped), gates.capped
    best = np.sort(np.argsort(gates.nearest)[-count:])
    assert gates.nearest[best].min() > 6, gates.nearest[best]
    return candidates[best]


def randomise(model, seed: int = 0, gain: float = 1.0) -> None:
    """Random weights for a Keras 2 or Keras 3 model; `gain` scales what makes activations large."""
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        name, shape = weight.name.split("/")[-1].split(":")[0], tuple(weight.shape)
        if "kernel" in name:
            fan_in = np.prod(shape[:2] if name == "depthwise_kernel" else shape[:-1])
            value = draw.normal(0, gain * np.sqrt(2 / fan_in), shape)
        elif name == "gamma":
            value = gain * draw.uniform(0.5, 1.5, shape) * draw.choice([-1, 1], shape)
        elif name == "moving_variance":
            value = draw.uniform(0.5, 2, shape)
        elif name in ("bias", "beta", "moving_mean"):
            value = draw.normal(0, 0.4, shape)
        else:
            raise ValueError(f"{weight.name}: what is this?")
        weight.assign(value.astype(np.float32))


def calibrate(model, seed: int = 0) -> None:
    """Batch-norm statistics near those of random images, so that a deep network stays in range.

    Variances are only enlarged: a network that amplifies what it is given amplifies rounding errors too.
    """
    draw = np.random.default_rng(seed)
    norms = [layer for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"]
    for layer in norms:
        layer.momentum = 0.0
    model(scenes(model.input_shape[1:], 16, seed=8), training=True)
    for layer in norms:
        mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
        layer.moving_mean.assign(mean + 0.2 * np.sqrt(variance) * draw.normal(size=mean.shape))
        layer.moving_variance.assign(variance * draw.uniform(1, 2, mean.shape))


# --- architectures that Keras 2 and Keras 3 can both build; `k` is the package ------------------------------


def sequential(k):
    """`activation="relu"` and layers.ReLU in a flat stack."""
    return k.Sequential(
        [
            k.layers.Input((SIDE, SIDE, 3)),
            k.layers.Conv2D(8, 3, activation="relu"),
            k.layers.BatchNormalization(),
            k.layers.Conv2D(8, 3, strides=2),
            k.layers.ReLU(),
            k.layers.MaxPooling2D(),
            k.layers.Flatten(),
            k.layers.Dense(16, activation="relu"),
            k.layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def nested(k):
    """Models inside a model, two levels deep, the innermost used twice."""
    unit = k.Sequential(
        [
            k.layers.Input((SIDE, SIDE, 6)),
            k.layers.Conv2D(6, 3, padding="same"),
            k.layers.BatchNormalization(),
            k.layers.Activation("relu"),
        ]
    )
    inside = k.Input((SIDE, SIDE, 6))
    block = k.Model(inside, k.layers.Add()([inside, unit(unit(inside))]))
    head = k.Sequential(
        [
            k.layers.Input((6,)),
            k.layers.Dense(16, activation="relu"),
            k.layers.Dense(CLASSES),
            k.layers.Softmax(),
        ]
    )
    image = k.Input((SIDE, SIDE, 3))
    x = k.layers.Conv2D(6, 3, padding="same")(image)
    x = k.layers.ReLU()(block(x))
    return k.Model(image, head(k.layers.GlobalAveragePooling2D()(x)))


def residual(k):
    """Residual blocks, one ReLU layer shared by all of them, a sigmoid at the end."""
    relu = k.layers.ReLU()
    image = k.Input((SIDE, SIDE, 3))
    x = relu(k.layers.BatchNormalization()(k.layers.Conv2D(8, 3, padding="same")(image)))
    for _ in range(2):
        y = relu(k.layers.BatchNormalization()(k.layers.Conv2D(8, 3, padding="same")(x)))
        y = k.layers.BatchNormalization()(k.layers.Conv2D(8, 3, padding="same")(y))
        x = relu(k.layers.Add()([x, y]))
    x = k.layers.Flatten()(k.layers.AveragePooling2D(4)(x))
    return k.Model(image, k.layers.Activation("sigmoid")(k.layers.Dense(CLASSES)(x)))


def depthwise(k):
    """Inverted residuals with ReLU(6.), a separable convolution, and an output without softmax."""
    image = k.Input((SIDE, SIDE, 3))
    x = k.layers.ReLU(6.0)(k.layers.BatchNormalization()(k.layers.Conv2D(8, 3, strides=2)(image)))
    y = k.layers.ReLU(6.0)(k.layers.BatchNormalization()(k.layers.Conv2D(24, 1)(x)))
    y = k.layers.DepthwiseConv2D(3, padding="same")(y)
    y = k.layers.ReLU(6.0)(k.layers.BatchNormalization()(y))
    x = k.layers.Add()([x, k.layers.BatchNormalization()(k.layers.Conv2D(8, 1)(y))])
    x = k.layers.SeparableConv2D(12, 3, activation="relu")(x)
    return k.Model(image, k.layers.Dense(CLASSES)(k.layers.GlobalAveragePooling2D()(x)))


def caps(k):
    """Every cap: relu6 as function, ReLU(6.), and ReLU(max_value=1.5): Minimum and Maximum over a Relu."""
    image = k.Input((SIDE, SIDE, 3))
    x = k.layers.Conv2D(8, 3, activation=keras.activations.relu6 if k is keras else tf.nn.relu6)(image)
    x = k.layers.ReLU(max_value=1.5)(k.layers.Conv2D(8, 3)(x))
    x = k.layers.ReLU(max_value=6.0)(k.layers.Conv2D(8, 3)(x))
    x = k.layers.ReLU(max_value=1.5)(k.layers.Conv2D(8, 3, strides=2)(x))
    return k.Model(image, k.layers.Dense(CLASSES, activation="softmax")(k.layers.Flatten()(x)))


def mixed(k):
    """ReLUs among activations that obey no rule by default."""
    image = k.Input((SIDE, SIDE, 3))
    x = k.layers.Conv2D(8, 3, activation="relu")(image)
    x = k.layers.LeakyReLU()(k.layers.Conv2D(8, 3)(x))
    x = k.layers.ELU()(k.layers.Conv2D(8, 3)(x))
    x = k.layers.Conv2D(8, 3, activation="swish")(x)
    x = k.layers.Activation("relu")(k.layers.Conv2D(8, 3)(x))
    x = k.layers.Dense(16, activation="gelu")(k.layers.Flatten()(x))
    return k.Model(image, k.layers.Dense(CLASSES, activation="softmax")(x))


def no_relu(k):
    image = k.Input((SIDE, SIDE, 3))
    x = k.layers.Conv2D(8, 3, activation="tanh")(image)
    x = k.layers.Conv2D(8, 3, activation="swish")(x)
    return k.Model(image, k.layers.Dense(CLASSES, activation="softmax")(k.layers.Flatten()(x)))


def operations(k):
    """`keras.ops` straight in a functional graph (Keras 3 only)."""
    image = k.Input((SIDE, SIDE, 3))
    x = k.ops.relu(k.layers.Conv2D(8, 3)(image))
    x = k.ops.relu6(k.layers.Conv2D(8, 3)(x))
    x = x + k.ops.relu(k.layers.Conv2D(8, 3, padding="same")(x))
    return k.Model(image, k.layers.Dense(CLASSES, activation="softmax")(k.layers.Flatten()(x)))


# --- networks that take their ReLUs as an argument ----------------------------------------------------------

TF_NN = Relus(tf.nn.relu, lambda x, cap: tf.nn.relu6(x) if cap == 6 else tf.minimum(tf.nn.relu(x), cap))
KERAS_OPS = Relus(
    keras.ops.relu,
    lambda x, cap: keras.ops.relu6(x) if cap == 6 else keras.ops.minimum(keras.ops.relu(x), cap),
)
SHARED = Relus(tf.function(TF_NN.relu), TF_NN.capped)


def subclassed(k, relus: Relus, dtype: str = "float32"):
    """A subclassed model that holds a subclassed layer; six ReLUs, two of them capped."""

    class Block(k.layers.Layer):
        def __init__(self):
            super().__init__(dtype=dtype)
            self.conv = k.layers.Conv2D(8, 3, padding="same", dtype=dtype)
            self.norm = k.layers.BatchNormalization(dtype=dtype)

        def call(self, x):
            return relus.capped(relus.relu(x) + relus.relu(self.norm(self.conv(x))), 6.0)

    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.stem = k.layers.Conv2D(8, 3, strides=2, dtype=dtype)
            self.blocks = [Block(), Block()]
            self.top = k.layers.Dense(CLASSES, dtype=dtype)
            self.flat = k.layers.Flatten(dtype=dtype)

        def logits(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.top(self.flat(x))

        def call(self, x):
            return tf.nn.softmax(self.logits(x))

    net = Net()
    net(k.Input((SIDE, SIDE, 3)))
    return net


class Net(tf.Module):
    """Convolutions, batch norm as a formula and a residual sum in plain TensorFlow.

    Three ReLUs and one cap of 2. The signature `features` reaches one ReLU more, which must not be counted.
    """

    def __init__(self, relus: Relus, dtype: str = "float32"):
        super().__init__()
        self.relus = relus
        self.dtype = dtype
        draw = np.random.default_rng(3)

        def variable(*shape, scale=1.0):
            return tf.Variable(draw.normal(0, scale, shape).astype(np.float32).astype(dtype))

        self.kernels = [variable(3, 3, c, 8, scale=np.sqrt(2 / 9 / c)) for c in (3, 8, 8)]
        self.biases = [variable(8, scale=0.3) for _ in range(3)]
        self.norm = [variable(8), variable(8), variable(8), tf.Variable(tf.fill(8, tf.constant(0.7, dtype)))]
        self.top = variable(8, CLASSES)

    def logits(self, x):
        relu, (a, b, c), (p, q, r) = self.relus.relu, self.kernels, self.biases
        mean, beta, gamma, variance = self.norm
        x = relu(tf.nn.conv2d(tf.cast(x, self.dtype), a, 2, "SAME") + p)
        y = tf.nn.batch_normalization(tf.nn.conv2d(x, b, 1, "SAME") + q, mean, variance, beta, gamma, 1e-3)
        x = self.relus.capped(x + relu(y), 2.0)
        x = relu(tf.nn.bias_add(tf.nn.conv2d(x, c, 1, "VALID"), r))
        return tf.reduce_mean(x, axis=(1, 2)) @ self.top

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], name="image")])
    def serve(self, image):
        return {"probabilities": tf.nn.softmax(self.logits(image))}

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], name="image")])
    def features(self, image):
        return {"features": self.relus.relu(self.logits(image))}


class Table(tf.Module):
    """The worked example: score = sum(relu(image - offset) * table), so the table is the upstream gradient.

    Input [N, 3, 3, 1]; output [N, len(relus) * len(tables)], the scores of the first ReLU first; no softmax.
    """

    def __init__(self, tables: list, relus: list[Callable], offset: float):
        super().__init__()
        self.columns = tf.Variable(np.reshape(tables, [len(tables), 9]).T.astype(np.float32))
        self.relus = relus
        self.offset = offset

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 3, 1], name="image")])
    def serve(self, image):
        x = tf.reshape(image, [-1, 9]) - self.offset
        return {"scores": tf.concat([relu(x) @ self.columns for relu in self.relus], axis=1)}

    def write(self, folder: Path) -> None:
        tf.saved_model.save(self, str(folder), signatures=self.serve)


# --- writers ------------------------------------------------------------------------------------------------


def _save(model, folder: Path) -> None:
    """As Keras 3 and Keras 2 write a SavedModel."""
    if isinstance(model, tf_keras.Model):
        model.save(str(folder), save_format="tf")
    else:
        model.export(str(folder), verbose=False)


def keras_case(k, architecture: Callable, patched: dict, gain: float = 1.0, trained: bool = False, **more) -> Case:
    """A case whose reference is the Keras model rebuilt; `trained` adds an optimizer and its slots."""

    def write(folder: Path) -> Reference:
        model = architecture(k)
        randomise(model, gain=gain)
        if trained:
            optimizer = tf_keras.optimizers.legacy.Adam()
            model.compile(optimizer, "mse")
            optimizer._create_all_weights(model.trainable_variables)
        _save(model, folder)
        return partial(rebuild, model)

    return Case(f"{k.__name__}-{architecture.__name__}", write, patched, **more)


def subclassed_case(k, relus: Relus, patched: dict) -> Case:
    """A case whose reference is the same class, given the reference's ReLUs."""

    def write(folder: Path) -> Reference:
        model = subclassed(k, relus)
        randomise(model, gain=2)
        _save(model, folder)

        def reference(mode: str, watch: Watch | None = None, dtype: str = "float32") -> Callable:
            twin = subclassed(k, rules(mode, watch), dtype)
            twin.set_weights(model.get_weights())
            return twin.logits

        return reference

    return Case(f"{k.__name__}-subclassed", write, patched)


def module_case(name: str, relus: Relus, patched: dict) -> Case:
    def write(folder: Path) -> Reference:
        net = Net(relus)
        tf.saved_model.save(net, str(folder), {"serving_default": net.serve, "features": net.features})
        return lambda mode, watch=None, dtype="float32": Net(rules(mode, watch), dtype).logits

    return Case(name, write, patched)


def application_case(name: str, patched: dict, side: int, gain: float = 1.0, **arguments) -> Case:
    """A network of keras.applications with random weights."""

    def write(folder: Path) -> Reference:
        network = getattr(keras.applications, name)
        model = network(input_shape=(side, side, 3), weights=None, classes=CLASSES, **arguments)
        randomise(model, gain=gain)
        calibrate(model)
        _save(model, folder)
        return partial(rebuild, model)

    return Case(name, write, patched, shape=(side, side, 3))


NO_RELU = keras_case(keras, no_relu, {}, left={"Silu": 1})

CASES = [
    keras_case(keras, sequential, {"Relu": 3}),
    keras_case(keras, nested, {"Relu": 4}),
    keras_case(keras, residual, {"Relu": 5}, final="sigmoid"),
    keras_case(keras, depthwise, {"Relu6": 3, "Relu": 1}, gain=3, final="none"),
    keras_case(keras, caps, {"Relu6": 2, "CappedRelu": 2}, gain=2.2),
    keras_case(keras, mixed, {"Relu": 2}, left={"LeakyRelu": 1, "Elu": 1, "Silu": 1, "Gelu": 1}),
    keras_case(keras, operations, {"Relu": 2, "Relu6": 1}, gain=2),
    subclassed_case(keras, KERAS_OPS, {"Relu": 4, "Relu6": 2}),
    keras_case(tf_keras, nested, {"Relu": 4}),
    subclassed_case(tf_keras, TF_NN, {"Relu": 4, "Relu6": 2}),
    module_case("module", TF_NN, {"Relu": 3, "CappedRelu": 1}),
    module_case("module-shared", SHARED, {"Relu": 3, "CappedRelu": 1}),
]

# The same operations as their Keras 3 twins in the container of Keras 2, and a network that takes long to build.
SLOW_CASES = [
    keras_case(tf_keras, sequential, {"Relu": 3}),
    keras_case(tf_keras, depthwise, {"Relu6": 3, "Relu": 1}, gain=3, final="none"),
    keras_case(tf_keras, residual, {"Relu": 5}, final="sigmoid", trained=True),
    keras_case(tf_keras, caps, {"Relu6": 2, "CappedRelu": 2}, gain=2.2),
    keras_case(tf_keras, mixed, {"Relu": 2}, left={"LeakyRelu": 1, "Elu": 1, "Silu": 1, "Gelu": 1}),
    application_case("MobileNetV2", {"Relu6": 35}, side=32, gain=5, alpha=0.35),
]
