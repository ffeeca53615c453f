"""Files of Keras and frozen graphs: the numbers are those of an eager tape over the same layers, whatever they came in."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from models import randomise
from reference import MODES, attribution, difference, rebuild

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.process.protocol import Convert, ModelOptions
from gradviz_cli.worker.convert import convert
from gradviz_cli.worker.model import Model

# Of Keras, when it writes the files.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
BOUND = 1e-4  # relative L2
SHAPE = (10, 10, 3)
PIXELS = np.random.default_rng(5).uniform(0, 255, (3, *SHAPE)).astype(np.float32)


def functional(api):
    """Batch norm, a gradient of its own (SiLU), a cap, a shortcut, dropout, softmax."""
    image = api.layers.Input(SHAPE, name="photo")
    x = api.layers.Rescaling(1 / 255.0)(image)
    x = api.layers.Conv2D(6, 3, activation="relu")(x)
    y = api.layers.BatchNormalization()(api.layers.Conv2D(6, 3, padding="same", activation="silu")(x))
    x = api.layers.ReLU(6.0)(api.layers.Add()([x, y]))
    x = api.layers.Dropout(0.5)(api.layers.GlobalAveragePooling2D()(x))
    return api.Model(image, api.layers.Dense(4, activation="softmax", name="classes")(x))


def sequential(api):
    layers = api.layers
    return api.Sequential(
        [
            layers.Input(SHAPE),
            layers.SeparableConv2D(5, 3, strides=2, activation="relu"),
            api.Sequential([layers.Input((4, 4, 5)), layers.Conv2D(4, 3, activation="relu")]),
            layers.Flatten(),
            layers.Dense(3, activation="sigmoid"),
        ]
    )


def randomised(model):
    randomise(model)
    return model


def graph_of(file: Path, folder: Path, trust: bool = False) -> Path:
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(convert(Convert(str(file), trust)))
    return folder


def worst(folder: Path, model, options: dict | None = None) -> float:
    """Distance from the truth, of the worst mode and image."""
    read = Model(ModelOptions(str(folder), preprocess="raw", **(options or {})), MODES, verified=True)
    found = read.explain(PIXELS, [-1], list(MODES))
    truths = {mode: attribution(rebuild(model, mode), PIXELS) for mode in MODES}
    np.testing.assert_array_equal(found.index[:, 0], truths["backprop"].targets)
    np.testing.assert_allclose(found.score[:, 0], truths["backprop"].scores, rtol=1e-3, atol=1e-5)
    assert difference(truths["guided"].attribution, truths["backprop"].attribution) > 1e-2
    return max(difference(maps[0], truths[mode].attribution) for mode, maps in zip(MODES, found.gradients, strict=True))


@pytest.mark.parametrize(
    "build, api, ending",
    [
        (functional, keras, "keras"),
        (sequential, keras, "h5"),
        (functional, tf_keras, "h5"),
        pytest.param(sequential, keras, "keras", marks=pytest.mark.slow),
        pytest.param(functional, keras, "h5", marks=pytest.mark.slow),
        pytest.param(sequential, tf_keras, "h5", marks=pytest.mark.slow),
    ],
)
def test_a_file_of_keras(tmp_path: Path, build, api, ending: str) -> None:
    model = randomised(build(api))
    model.save(tmp_path / f"m.{ending}")
    assert worst(graph_of(tmp_path / f"m.{ending}", tmp_path / "m"), model) < BOUND


def test_its_inputs_and_outputs_have_names(tmp_path: Path) -> None:
    """So that --input and --output can say which."""
    left, right = (keras.layers.Input(SHAPE, name=name) for name in ("left", "right"))
    joined = keras.layers.Subtract()([keras.layers.Conv2D(4, 3, activation="relu", name="c")(left), keras.layers.Conv2D(4, 3)(right)])  # fmt: skip
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(joined))
    outputs = [keras.layers.Dense(n, name=name)(pooled) for n, name in ((4, "kind"), (2, "side"))]
    model = randomised(keras.Model([left, right], outputs))
    model.save(tmp_path / "m.keras")
    options = {"input": "left", "output": "kind", "feeds": (("right", "7"),)}
    folder = graph_of(tmp_path / "m.keras", tmp_path / "m")
    read = Model(ModelOptions(str(folder), preprocess="raw", **options), ("backprop",))
    found = read.explain(PIXELS, [2], ["backprop"])
    truth = attribution(lambda x: model([x, tf.fill(x.shape, 7.0)])[0], PIXELS, 2)
    assert difference(found.gradients[0][0], truth.attribution) < BOUND


@pytest.mark.parametrize("text", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["binary", "text"])
def test_a_frozen_graph(tmp_path: Path, text: bool) -> None:
    """Frozen as TensorFlow 1 did: constants, a placeholder, no signature."""
    v1 = tf.compat.v1
    model = randomised(functional(keras))
    first, second, norm, last = (one.get_weights() for one in model.layers if one.get_weights())
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.float32, [None, *SHAPE], "image")
        x = tf.nn.relu(tf.nn.conv2d(image / 255.0, first[0], 1, "VALID") + first[1])
        y = tf.nn.silu(tf.nn.conv2d(x, second[0], 1, "SAME") + second[1])
        gamma, beta, mean, variance = norm
        x = tf.nn.relu6(x + tf.nn.batch_normalization(y, mean, variance, beta, gamma, 1e-3))
        tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ last[0] + last[1], name="probabilities")
    tf.io.write_graph(graph, str(tmp_path), "frozen.pb", as_text=text)
    assert worst(tmp_path / "frozen.pb", model) < BOUND


class Tripled(keras.layers.Layer):
    def call(self, x):
        return 3 * x


def saved(file: Path, layer) -> Path:
    keras.Sequential([keras.layers.Input(SHAPE), layer, keras.layers.Flatten(), keras.layers.Dense(2)]).save(file)
    return file


def test_code_of_its_own_runs_only_where_it_is_trusted(tmp_path: Path) -> None:
    file = saved(tmp_path / "m.keras", keras.layers.Lambda(lambda x: x * 2))
    with pytest.raises(ModelRefused, match="m.keras brings Python code along.*--trust-model"):
        convert(Convert(str(file)))
    assert convert(Convert(str(file), trust=True))


def test_what_keras_cannot_build_is_said_with_the_way_out(tmp_path: Path) -> None:
    file = saved(tmp_path / "m.keras", Tripled())
    with pytest.raises(
        ModelUnusable, match=r"Could not locate class 'Tripled'.*load_model\('.*m.keras', custom_objects"
    ):
        convert(Convert(str(file)))


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    functional(keras).save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ModelUnusable, match="holds no model, but weights alone"):
        convert(Convert(str(tmp_path / "m.weights.h5")))


@pytest.mark.parametrize("data", [b"\x89HDF\r\n\x1a\n" + bytes(100), b"PK\3\4" + bytes(60)])
def test_what_is_damaged(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / ("m.h5" if data[0] == 0x89 else "m.keras")
    file.write_bytes(data)
    with pytest.raises(ModelUnusable, match="Keras cannot build it"):
        convert(Convert(str(file)))
