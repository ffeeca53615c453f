"""On a GPU: behind the sandbox, as true as on processors, and with the same bits each time. Skipped where there is none.

The other tests of models run on a GPU too, where there is one, among them those of the gradients against float64.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import odd_sizes
import pytest
import tensorflow as tf
from children import python
from commands import gradviz
from models import CASES, images
from PIL import Image
from reference import MODES, difference

from gradviz_cli import LoadedModel, load
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import CPU, WITNESSES, ModelOptions, Proof, Witness
from gradviz_cli.worker.model import Model

pytestmark = [
    pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="no GPU"),
    pytest.mark.filterwarnings("ignore::gradviz_cli.errors.GradvizWarning"),
]
PROVED = Proof(tuple(Witness(name, said="it holds") for name in WITNESSES))
BOUND = 1e-4  # relative L2
SIZE = (odd_sizes.HEIGHT, odd_sizes.WIDTH)
PICTURES = np.random.default_rng(0).uniform(-1, 1, (70, *SIZE, 3)).astype(np.float32)


@contextmanager
def on_processors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as context:
        context.setenv("CUDA_VISIBLE_DEVICES", "-1")
        yield


def test_the_worker_computes_on_it_and_inspect_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = odd_sizes.write(tmp_path / "model", "grouped")
    run = gradviz("inspect", folder, "--json", cwd=tmp_path)
    (device,) = tf.config.list_physical_devices("GPU")[:1]
    assert json.loads(run.stdout)["device"] == tf.config.experimental.get_device_details(device)["device_name"]
    with on_processors(monkeypatch):
        assert json.loads(gradviz("inspect", folder, "--json", cwd=tmp_path).stdout)["device"] == CPU


@pytest.mark.parametrize("case", CASES, ids=str)
def test_maps_are_those_of_processors(case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = case.write(tmp_path / "model")
    batch = images(reference, case.shape)

    def maps(model: LoadedModel) -> list[np.ndarray]:
        return [model.explain(batch, mode=mode).attribution for mode in MODES]

    with load(tmp_path / "model", preprocess="raw") as model:
        found = maps(model)
    with on_processors(monkeypatch), load(tmp_path / "model", preprocess="raw") as model:
        wanted = maps(model)
    assert max(map(difference, found, wanted)) < BOUND


@pytest.mark.parametrize("name", odd_sizes.NETWORKS)
def test_an_image_has_the_same_bits_in_whichever_call(name: str, tmp_path: Path) -> None:
    options = ModelOptions(str(odd_sizes.write(tmp_path / "model", name)), preprocess="signed")
    model = Model(options, MODES, proof=PROVED)

    def maps(pictures: np.ndarray) -> np.ndarray:
        return np.stack(model.explain(pictures, [-1], MODES).gradients)[:, 0]

    assert machine.gpu_batch(*SIZE) == machine.MOST_A_CALL < len(PICTURES)
    whole = maps(PICTURES)
    assert whole.any()
    for size in (1, 5, 33, 70):
        order = np.random.default_rng(size).permutation(len(PICTURES))[:size]
        np.testing.assert_array_equal(maps(PICTURES[order]), whole[:, order])


@pytest.mark.parametrize("estimator", ["integrated-gradients", "smoothgrad", "grad-cam", "guided-grad-cam"])
def test_estimators_are_those_of_processors(estimator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, found = odd_sizes.write(tmp_path / "model", "separable"), []
    for there in (nullcontext(), on_processors(monkeypatch)):
        with there, load(folder, preprocess="raw") as model:
            found.append(model.explain(PICTURES[:2], estimator=estimator, target=1).attribution)
            assert not any("the same bits each time" in said for said in model.warnings)
    assert difference(*found) < 1e-3  # some of the points lie on a tie


def test_a_model_can_be_checked(tmp_path: Path) -> None:
    folder = odd_sizes.write(tmp_path / "model", "separable")
    Image.fromarray((PICTURES[0] * 127 + 127).astype(np.uint8)).save(tmp_path / "a.png")
    assert gradviz("check", folder, "a.png", cwd=tmp_path, env={"GRADVIZ_EXPLAIN_PROOF": "always"}).returncode == 0


def test_pictures_have_the_same_bytes_in_each_run(tmp_path: Path) -> None:
    folder = odd_sizes.write(tmp_path / "model", "separable")
    (tmp_path / "images").mkdir()
    for place, picture in enumerate(PICTURES[:40]):
        Image.fromarray((picture * 127 + 127).astype(np.uint8)).save(tmp_path / "images" / f"{place}.png")
    for out, what in (("whole", "images"), ("again", "images"), ("one", "images/7.png")):
        asked = ("explain", folder, what, "-o", out, "-m", "all", "--proof", "auto")
        assert gradviz(*asked, cwd=tmp_path).returncode == 0
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.png")}
    assert len(pictures) == 40 * len(MODES)
    for out, count in (("again", len(pictures)), ("one", len(MODES))):
        found = {path.name: path.read_bytes() for path in (tmp_path / out).glob("*.png")}
        assert len(found) == count and found.items() <= pictures.items()


def test_what_cannot_have_the_same_bits_is_warned_of_and_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow refuses the gradient of an image enlarged by no whole number where bits must be the same."""
    draw = np.random.default_rng(0)
    kernel = tf.constant(draw.normal(size=(3, 3, 3, 8)) * 0.3, tf.float32)
    scale, shift, mean, variance = (tf.constant(draw.uniform(0.5, 1.5, 8), tf.float32) for _ in range(4))

    @tf.function(input_signature=[tf.TensorSpec([None, 24, 24, 3])])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        wide = tf.image.resize(tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME")), [37, 41], "nearest")
        normed = tf.raw_ops.FusedBatchNormV3(
            x=wide, scale=scale, offset=shift, mean=mean, variance=variance, is_training=False
        )
        return {"scores": tf.reduce_mean(tf.nn.relu(normed.y - 0.5), [1, 2])}

    tf.saved_model.save(tf.Module(), str(tmp_path / "model"), {"serving_default": serve})
    batch = draw.normal(size=(3, 24, 24, 3)).astype(np.float32)
    found = {}
    for device in ("gpu", "cpu"):
        there = on_processors(monkeypatch) if device == "cpu" else nullcontext()
        with there, load(tmp_path / "model", preprocess="raw") as model:
            found[device] = model.explain(batch, mode="guided", target=2).attribution
            assert any("the same bits each time" in said for said in model.warnings) == (device == "gpu")
    assert difference(found["gpu"], found["cpu"]) < BOUND


SHORT_OF_MEMORY = """
import sys
import numpy as np
import tensorflow as tf
from gradviz_cli.process.protocol import WITNESSES, ModelOptions, Proof, Witness
from gradviz_cli.worker.model import Model

gpu = tf.config.list_physical_devices("GPU")[0]
tf.config.set_logical_device_configuration(gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=1024)])
proof = Proof(tuple(Witness(name, said="it holds") for name in WITNESSES))
model = Model(ModelOptions(sys.argv[1], preprocess="raw"), ("backprop",), together=2048, proof=proof)
found = model.explain(np.ones((3, 64, 64, 3), np.float32), [3], ["backprop"]).gradients[0][0]
np.testing.assert_allclose(found, np.full([3, 64, 64, 3], 0.1 / 64**2), rtol=1e-5)
print(model._together)
"""


def test_where_its_memory_runs_out_fewer_share_a_call(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 64, 64, 3])])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:  # of 2048 images one tensor takes 2 GiB
        wide = tf.nn.relu(tf.nn.conv2d(image, tf.fill([1, 1, 3, 64], 0.1), 1, "SAME"))
        return {"scores": tf.reduce_mean(wide, [1, 2])}

    tf.saved_model.save(tf.Module(), str(tmp_path / "model"), {"serving_default": serve})
    run = python(SHORT_OF_MEMORY, str(tmp_path / "model"), timeout=200)
    assert run.returncode == 0, run.stderr[-2000:]
    assert 1 <= int(run.stdout) < 1024
