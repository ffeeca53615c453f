"""What exists in the wild, a row each: explained, and equal to an independent gradient; or refused, in so many words.

`PYTHONPATH=tests:tests/cases python tests/model/test_wild.py [WORD...]` prints the table, or the rows that hold one of the
words. About 3 minutes on 2 cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from models import CLASSES, randomise, scenes
from reference import attribution, difference, rebuild
from wild import POINTS, ROWS, Map, Refusal, save, serving, strided_points

import gradviz_cli
from gradviz_cli import load
from gradviz_cli.batch.planning import FIELDS
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.model import Model

BOUND = 1e-4  # relative L2

# The whole table takes six minutes; the quick suite has every fifteenth row, and `make slow` the others.
SAMPLED = [row if place % 15 == 0 else pytest.param(row, marks=pytest.mark.slow) for place, row in enumerate(ROWS)]


def gradient(function, x) -> np.ndarray:
    """Of the sum of `function`, eagerly. Where TensorFlow does not ask oneDNN, it has no gradient of a dilated convolution."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(tf.cast(function(x), tf.float32))
    try:
        return tape.gradient(value, x).numpy()
    except tf.errors.InvalidArgumentError as error:
        if "dilation rates" not in str(error):
            raise
        pytest.skip("this processor: TensorFlow has nothing to compare with")


def chosen(folder: Path, want: Map | Refusal) -> ModelOptions:
    return ModelOptions(str(folder), **{name: value for name, value in want.options.items() if name != "modes"})


def measure(folder: Path, want: Map) -> float:
    """Relative L2 distance of the worst mode and image; asserts all else that is due."""
    modes = want.options.get("modes", ("backprop",))
    model = Model(chosen(folder, want), modes, verified=True)
    found = model.explain(want.pixels, [want.target], list(want.modes))
    facts = model.facts
    if want.activations is not None:
        assert (dict(facts.activations), facts.gates) == (dict(want.activations), want.gates)
    for name, value in want.facts.items():
        assert getattr(facts, name) == value, name
    said = facts.warnings_for(modes)
    assert len(said) == len(want.warnings), said
    for fragment, warning in zip(want.warnings, said, strict=True):
        assert fragment in warning, warning
    x = want.wrt(want.pixels)
    np.testing.assert_allclose(found.score[:, 0], want.score("backprop")(x), rtol=1e-3, atol=1e-5)
    if want.index is not None:
        np.testing.assert_array_equal(found.index[:, 0], want.index(x))
    truths = {mode: gradient(want.score(mode), x) for mode in want.modes}
    if "guided" in truths:  # or the row would not notice an activation that is not patched
        assert difference(truths["guided"], truths["backprop"]) > 1e-2
    return max(difference(maps[0], truths[mode]) for mode, maps in zip(want.modes, found.gradients, strict=True))


def refusal(folder: Path, want: Refusal) -> str:
    """The words of the error that is due."""
    with pytest.raises(want.error) as caught:
        Model(chosen(folder, want), want.options.get("modes", want.modes), verified=True)
    assert type(caught.value) is want.error
    text = str(caught.value)
    for word in want.words:
        assert word in text, text
    assert caught.value.remedy
    return text


@pytest.mark.parametrize("row", SAMPLED, ids=str)
def test_row(row, tmp_path):
    want = row.build(tmp_path / "model")
    if isinstance(want, Refusal):
        refusal(tmp_path / "model", want)
    else:
        assert measure(tmp_path / "model", want) < BOUND


# --- through the worker process ---------------------------------------------------------------------------------------

# Row -> what the proof warns of.
THROUGH_THE_WORKER = {
    "read: TF1 builder, VariableV2 reference variables": (),
    "read: TF1 detector: images resized in one map_fn, boxes suppressed in another, uint8": ("is sorted",),
    "input: strings: web-safe base64 of a JPEG": (),
    "input: two images, the other given with --feed": (),
    "read: computed in bfloat16": (),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gradviz_cli.errors.GradvizWarning")  # they are read below
@pytest.mark.parametrize("name", THROUGH_THE_WORKER)
def test_row_through_the_worker(name, tmp_path):
    (row,) = [row for row in ROWS if str(row) == name]
    want = row.build(tmp_path / "model")
    typed = {field: name for name, field in FIELDS.items()}
    with load(tmp_path / "model", **{typed.get(name, name): value for name, value in want.options.items()}) as model:
        for mode in want.modes:
            got = model.explain(want.pixels, mode=mode).attribution
            assert difference(got, gradient(want.score(mode), want.wrt(want.pixels))) < BOUND
        expected = (*want.warnings, *THROUGH_THE_WORKER[name])
        assert len(model.warnings) == len(expected)
        assert all(any(fragment in said for said in model.warnings) for fragment in expected)


def test_refusal_through_the_worker(tmp_path):
    (row,) = [row for row in ROWS if str(row) == "files: one byte of a shard flipped"]
    want = row.build(tmp_path / "model")
    with pytest.raises(want.error, match="variables"):
        load(tmp_path / "model")


# --- oneDNN -----------------------------------------------------------------------------------------------------------

# Loads one signature after the other, which would take the process down where a kernel corrupts the heap.
CHILD = """
import json, sys
import numpy as np
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.model import Model, ask, open_folder
from gradviz_cli.worker.passes.onednn import without_strided_points
folder, names = sys.argv[1], json.loads(sys.argv[2])
for name in names:
    options = ModelOptions(folder, signature=name, preprocess="raw")
    images = np.load(f"{folder}/{name}.npy")
    model = Model(options, ("backprop",))
    for _ in range(3):
        found = model.explain(images, [-1], ["backprop", "guided"])
    np.savez(f"{folder}/{name}.npz", backprop=found.gradients[0][0], guided=found.gradients[1][0])
    nodes = without_strided_points(ask(open_folder(options), options).graph).nodes
    strides = {max(node.attr["strides"].list.i) for node in nodes.values() if node.op == "Conv2D"}
    assert strides == {1}, strides
"""


@pytest.mark.slow
def test_strided_points_leave_the_process_alive_and_the_numbers_equal(tmp_path):
    truths = strided_points(tmp_path / "model")
    assert len(truths) == len(POINTS) == 20
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "model"), json.dumps(list(truths))],
        cwd=Path(gradviz_cli.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    for name, maps in truths.items():
        found = np.load(tmp_path / "model" / f"{name}.npz")
        for mode, want in maps.items():
            assert difference(found[mode], want) < BOUND, (name, mode)


# One model, proved and explained, which takes the process down where a product does.
PROVED = """
import sys
import numpy as np
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.model import Model
folder = sys.argv[1]
model = Model(ModelOptions(folder, preprocess="raw"), ("backprop",))
assert not model.prove().warnings
images = np.load(f"{folder}.npy")
for _ in range(3):
    found = model.explain(images, [2], ["backprop"])
np.save(f"{folder}.npy", found.gradients[0][0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "multiply", [tf.matmul, lambda x, y: tf.einsum("...ij,jk->...ik", x, y)], ids=["matmul", "einsum"]
)
def test_products_that_broadcast_leave_the_process_alive_and_the_numbers_equal(multiply, tmp_path):
    """Rows of pixels times a matrix, each beside an axis of length 1; the gradient is a sum by hand in float64."""
    side, draw = 13, np.random.default_rng(5)
    first, second = (draw.normal(size=shape).astype(np.float32) for shape in ((3, 16), (16, CLASSES)))
    held = [tf.Variable(first), tf.Variable(second)]

    def compute(image):
        x = tf.nn.relu(multiply(tf.reshape(image, [-1, 1, side, 3]), held[0]))
        x = multiply(x, held[1])
        return {"scores": tf.reduce_mean(tf.reshape(x, [-1, side * side, CLASSES]), 1)}

    save(tmp_path / "model", serving(compute, tf.TensorSpec([None, side, side, 3], name="image")), held)
    images = draw.normal(size=(3, side, side, 3)).astype(np.float32)
    np.save(tmp_path / "model.npy", images)
    run = subprocess.run(
        [sys.executable, "-c", PROVED, str(tmp_path / "model")],
        cwd=Path(gradviz_cli.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    first, second = first.astype(np.float64), second.astype(np.float64)
    want = ((images @ first > 0) * second[:, 2]) @ first.T / side**2
    assert difference(np.load(tmp_path / "model.npy"), want) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras-3", "keras-2"])
def test_attention(k, tmp_path):
    """Its gradient holds products of rank 4, whose batch axes are equal."""
    image = k.Input((12, 12, 3))
    x = k.layers.Conv2D(16, 3, strides=3, activation="relu")(image)
    x = k.layers.Reshape((16, 16))(x)
    for _ in range(2):
        x = k.layers.Add()([x, k.layers.MultiHeadAttention(4, 8)(x, x)])
        x = k.layers.Add()([x, k.layers.Dense(16, activation="relu")(k.layers.LayerNormalization()(x))])
    model = k.Model(image, k.layers.Dense(CLASSES, activation="softmax")(k.layers.GlobalAveragePooling1D()(x)))
    randomise(model)
    if k is keras:
        model.export(str(tmp_path / "model"), verbose=False)
    else:
        model.save(str(tmp_path / "model"), save_format="tf")
    batch = scenes((12, 12, 3), 5, seed=7)
    with load(tmp_path / "model", preprocess="raw") as loaded:
        for mode in ("backprop", "deconv", "guided"):
            want = attribution(rebuild(model, mode), batch)
            assert difference(loaded.explain(batch, mode=mode).attribution, want.attribution) < BOUND


# --- the table --------------------------------------------------------------------------------------------------------


def result(row, folder: Path) -> str:
    try:
        want = row.build(folder)
        if isinstance(want, Refusal):
            return f"{want.error.__name__}: {refusal(folder, want)}".replace(str(folder), "MODEL")
        return f"explained, {measure(folder, want):.1e}"
    except (Exception, pytest.fail.Exception) as error:
        return f"FAILED, {type(error).__name__}: {error}"


def main(words: list[str]) -> None:
    print("| property | result |\n|---|---|")
    for row in ROWS:
        if not words or any(word in str(row) for word in words):
            with tempfile.TemporaryDirectory() as folder:
                print(f"| {row} | {result(row, Path(folder) / 'model')} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
