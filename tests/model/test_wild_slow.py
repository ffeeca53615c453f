"""All of keras.applications, one size each: what is loaded, patched and refused. About 9 minutes and 10 GB on 2 cores.

Run with `pytest -m slow tests/model/test_wild_slow.py`.
"""

from __future__ import annotations

import gc
import inspect
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import wild
from models import scenes
from reference import MODES, attribution, difference

from gradviz_cli import load
from gradviz_cli.errors import GradvizWarning, ModelUnusable

# Name -> side of the input; the first size of each family.
NETWORKS = {
    "ConvNeXtTiny": 64,
    "DenseNet121": 64,
    "DenseNet169": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "EfficientNetV2S": 64,
    "InceptionResNetV2": 96,
    "InceptionV3": 96,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Large": 64,
    "MobileNetV3Small": 64,
    "NASNetMobile": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "VGG16": 64,
    "VGG19": 64,
    "Xception": 96,
}
# Keras's name of an activation -> gradviz's.
ACTIVATIONS = {"relu": "Relu", "relu6": "Relu6", "silu": "Silu", "gelu": "Gelu"}
# Each of these holds a ReLU6 that is no activation; in MobileNetV3 the ReLU6 layers themselves are hard sigmoids.
GATES = ("hard_silu", "hard_swish", "hard_sigmoid")
GATED = ("MobileNetV3Large", "MobileNetV3Small")


def families() -> set[str]:
    """Every module of keras.applications, by the constructors in it."""
    modules = [module for _, module in inspect.getmembers(keras.applications, inspect.ismodule)]
    names = lambda module: {name for name, value in vars(module).items() if callable(value) and name[0].isupper()}  # noqa: E731
    return {frozenset(names(module)) for module in modules if names(module)}


def test_no_family_is_left_out():
    missing = [sorted(family) for family in families() if not family & set(NETWORKS)]
    assert not missing


def counted(model) -> Counter:
    """Activations of a Keras model, from its layers alone."""
    found = Counter()
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.ReLU):
            assert layer.max_value in (None, 6) and not layer.negative_slope and not layer.threshold
            found["relu6" if layer.max_value else "relu"] += 1
        else:
            name = getattr(getattr(layer, "activation", None), "__name__", "linear")
            found[name] += 1
    return found


def built(name: str):
    """The network with random weights, large enough that no activation dies."""
    side = NETWORKS[name]
    model = getattr(keras.applications, name)(input_shape=(side, side, 3), weights=None, classes=10)
    return model, scenes((side, side, 3), 2, seed=7) * 60 + 128


@pytest.fixture(params=sorted(NETWORKS))
def network(request, tmp_path):
    model, images = built(request.param)
    model.export(str(tmp_path / "model"), verbose=False)
    yield request.param, model, tmp_path / "model", images
    keras.backend.clear_session()
    gc.collect()


@pytest.mark.slow
def test_report(network):
    name, model, folder, images = network
    layers = counted(model)
    gates = sum(layers[gate] for gate in GATES) + (layers.pop("relu6", 0) if name in GATED else 0)
    expected = {ours: layers[theirs] for theirs, ours in ACTIVATIONS.items() if layers[theirs]}
    patched = {kind: kind.startswith("Relu") for kind in expected}
    with load(folder, preprocess="raw") as loaded:
        assert dict(loaded.report.activations) == {kind: (n, n * patched[kind]) for kind, n in expected.items()}
        assert loaded.report.gates == gates
        found = loaded.explain(images, mode="backprop")
        answer = model(images, training=False).numpy()
        np.testing.assert_allclose(found.outputs, answer.max(axis=1), rtol=1e-3)
        if not any(patched.values()):
            assert_refused(loaded, images, expected)
            return
        for mode in MODES:
            assert np.isfinite(loaded.explain(images, mode=mode).attribution).all()
    if expected.keys() - {"Relu", "Relu6"}:
        with load(folder, preprocess="raw", activations="all") as loaded:
            assert dict(loaded.report.activations) == {kind: (n, n) for kind, n in expected.items()}


def assert_refused(loaded, images: np.ndarray, expected: dict) -> None:
    """Without a ReLU deconv and guided would be the plain gradient under a wrong name."""
    for place, mode in enumerate(("deconv", "guided")):
        said = nullcontext() if place else pytest.warns(GradvizWarning, match="not patched")  # once
        with said, pytest.raises(ModelUnusable) as refusal:
            loaded.explain(images, mode=mode)
        for word in ("no ReLU", mode, "--mode backprop", "--activations all"):
            assert word in str(refusal.value)
        for kind, n in expected.items():
            assert f"{n} {kind}" in str(refusal.value)


SLOPES = {
    "silu": (wild.silu, wild.silu_slope),
    "gelu": (lambda x: x * wild.normal_cdf(x), lambda x: wild.normal_cdf(x) + x * wild.normal_density(x)),
}


def obeying(model, mode: str):
    """A copy of a network whose smooth activations obey the rule of `mode`; gives logits."""

    def copied(layer):
        copy = type(layer).from_config(layer.get_config())
        name = getattr(getattr(layer, "activation", None), "__name__", "linear")
        if name in SLOPES:
            copy.activation = wild.obeying(mode, *SLOPES[name])
        elif name == "softmax":
            copy.activation = keras.activations.linear
        return copy

    copy = keras.models.clone_model(model, clone_function=copied)
    copy.set_weights(model.get_weights())
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("name", ["EfficientNetB0", "ConvNeXtTiny"])
def test_smooth_networks_obey_when_asked(name, tmp_path):
    model, images = built(name)
    for weight in model.weights:
        if weight.shape.rank == 1 and np.ptp(weight.numpy()) < 1e-3:  # as good as untrained: layer scales of 1e-6
            weight.assign(np.random.default_rng(2).uniform(0.5, 1.5, weight.shape))
    model.export(str(tmp_path / "model"), verbose=False)
    with load(tmp_path / "model", preprocess="raw", activations="all") as loaded:
        for kind, (seen, patched) in loaded.report.activations.items():
            assert kind in ("Silu", "Gelu") and seen == patched > 0
        maps = {mode: loaded.explain(images, mode=mode).attribution for mode in MODES}
    for mode in MODES:
        assert difference(maps[mode], attribution(obeying(model, mode), images).attribution) < 1e-4, mode
    for mode in ("deconv", "guided"):
        assert difference(maps[mode], maps["backprop"]) > 0.1


# More than a protocol buffer holds: 2^31 bytes.
WIDE = 45_000


@pytest.mark.slow
def test_model_above_two_gibibytes(tmp_path):
    side, draw = 64, np.random.default_rng(1)
    first = tf.Variable(tf.random.stateless_normal((side * side * 3, WIDE), (1, 2)) / 100)
    last = tf.Variable(draw.normal(size=(WIDE, 3)).astype(np.float32))

    def logits(x):
        return tf.nn.relu(tf.reshape(x, [-1, side * side * 3]) @ first) @ last

    module = tf.Module()
    module.held = [first, last]
    serve = tf.function(logits, input_signature=[tf.TensorSpec([None, side, side, 3])])
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=serve)
    assert size(tmp_path / "model") > 2**31
    image = scenes((side, side, 3), 1, seed=7)
    with tf.GradientTape() as tape:
        x = tf.constant(image)
        tape.watch(x)
        score = tf.reduce_max(logits(x))
    want = tape.gradient(score, x).numpy()
    with load(tmp_path / "model", preprocess="raw") as loaded:
        got = loaded.explain(image, mode="backprop").attribution
    assert np.linalg.norm(got - want) / np.linalg.norm(want) < 1e-4


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
