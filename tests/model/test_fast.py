"""What makes gradviz quick must not change what it says: shared forward passes, left-out scores, coarse arithmetic, small JPEGs.

About 40 s on two cores.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from commands import ROOT, gradviz, pixels, records, stored, text
from models import CASES, images
from PIL import Image
from reference import MODES, attribution, difference
from workers import Pool

from gradviz_cli.batch import budget
from gradviz_cli.errors import UsageError
from gradviz_cli.files.reading import Limits
from gradviz_cli.images.decode import decode, picture
from gradviz_cli.images.fit import Geometry, fit
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process.machine import has_gpu, processor
from gradviz_cli.process.protocol import Explain, ModelOptions

RESIDUAL = next(case for case in CASES if "residual" in str(case))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """(folder, reference, images) of a network with batch norm and shortcuts."""
    folder = tmp_path_factory.mktemp("fast") / "model"
    reference = RESIDUAL.write(folder)
    return folder, reference, images(reference, RESIDUAL.shape, count=5)


@pytest.fixture(scope="module")
def rows(network, pool: Pool):
    """A function: targets, modes, ... -> rows of the network's images, all by one worker."""
    folder, _, pixels = network

    def explained(targets: list[int], modes: tuple[str, ...], precision: str = "float32", **more) -> list:
        """The same images twice, so that a graph is used more than once; those of the second call."""
        options = ModelOptions(str(folder), preprocess="raw", precision=precision)
        model = RemoteModel(options, modes, targets=len(targets))
        with pool.serving():
            model.load()
        request = Explain(tuple(targets), modes, **more)
        list(model.explain(pixels[:3], request))
        return list(model.explain(pixels, request))

    return explained


def maps(found: list, mode: str, place: int = 0) -> np.ndarray:
    return np.stack([row.gradients[mode][place] for row in found])


# ---- one forward pass for many targets and modes


def test_many_targets_are_each_what_the_reference_says(network, rows) -> None:
    _, reference, pixels = network
    targets = [-1, -2, 3, 0, -5, 1, -3]  # more than share one graph
    found = rows(targets, MODES)
    order = np.argsort(-np.asarray(reference("backprop")(pixels)), axis=1)
    for mode in MODES:
        logits_of = reference(mode)
        by_class = [attribution(logits_of, pixels, index).attribution for index in range(order.shape[1])]
        for place, target in enumerate(targets):
            classes = order[:, -1 - target] if target < 0 else np.full(len(pixels), target)
            want = np.stack([by_class[index][i] for i, index in enumerate(classes)])
            assert difference(maps(found, mode, place), want) < 1e-4
            assert [row.index[place] for row in found] == classes.tolist()


def test_a_target_among_others_gives_the_bits_that_it_gives_alone(rows) -> None:
    together, alone = rows([-1, 2, -3], ("guided",)), rows([2], ("guided",))
    assert np.array_equal(maps(together, "guided", 1), maps(alone, "guided"))


# ---- deconv without scores


def test_deconv_without_scores_is_deconv(network, rows) -> None:
    _, reference, pixels = network
    found = rows([3, 1], ("deconv",), scores=False)
    for place, target in enumerate((3, 1)):
        want = attribution(reference("deconv"), pixels, target)
        assert difference(maps(found, "deconv", place), want.attribution) < 1e-4
    assert all(row.rank.tolist() == [-1, -1] and np.isnan(row.score).all() for row in found)


def test_no_scores_are_null_in_what_is_written(pool: Pool, tmp_path: Path) -> None:
    model = tiny.write(tmp_path / "model")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["explain", model, "a.png", "-m", "deconv", "-t", "2"]
    for more in ((), ("--no-scores",)):
        run = pool.gradviz(*arguments, *more, "-o", f"out{len(more)}", cwd=tmp_path)
        assert (run.returncode, run.stderr) == (0, "")
    name = "a.png.deconv.2.png"
    pictures = [stored(tmp_path / out / name) for out in ("out0", "out1")]
    assert np.array_equal(*pictures)
    with_, without = records(tmp_path / "out0")[0]["targets"][0], records(tmp_path / "out1")[0]["targets"][0]
    assert isinstance(with_["score"], float) and with_["rank"] is not None
    assert (without["index"], without["score"], without["rank"]) == (2, None, None)
    assert text(tmp_path / "out1" / name)["target"]["score"] is None
    assert pool.gradviz("show", tmp_path / "out1" / name, cwd=tmp_path).returncode == 0
    assert pool.gradviz("gallery", "out1", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "more", [("-m", "guided", "-t", "2"), ("-m", "deconv"), ("-m", "deconv", "-t", "2", "--style", "panel")]
)
def test_no_scores_where_they_are_needed_is_a_usage_error(tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "a.png").touch()
    run = gradviz("explain", "model", "a.png", "--no-scores", *more, cwd=tmp_path)
    assert run.returncode == 2 and "--no-scores" in run.stderr


# ---- bfloat16


def test_bfloat16_is_near_and_not_the_same(rows) -> None:
    exact = maps(rows([2], ("backprop",)), "backprop")
    try:
        coarse = maps(rows([2], ("backprop",), precision="bfloat16"), "backprop")
    except UsageError as refused:  # on a GPU, and on a processor that TensorFlow takes for one that has nothing for it
        assert any(said in str(refused) for said in ("computes in float32 on this processor", "a GPU was found"))
        assert has_gpu() or not {"avx512_bf16", "amx_bf16"} & set(processor().split())
    else:
        assert 1e-4 < difference(coarse, exact) < 0.2


# ---- JPEGs decoded at a part of their size


def photograph(size: tuple[int, int], **more) -> bytes:
    """A smooth picture, whose small versions are much alike however they are made."""
    blocks = np.random.default_rng(5).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    target = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(target, "JPEG", quality=90, **more)
    return target.getvalue()


def test_a_small_decode_is_upright_and_no_smaller_than_needed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    data = photograph((1000, 600), exif=exif)
    whole = decode(data, Limits())
    part, size = picture(data, Limits(), 100)[:2]
    assert (whole.width, whole.height) == (600, 1000) and size == (1000, 600)
    assert part.height > part.width and 100 <= min(part.size) < 200
    geometry = Geometry(64, 48, 3)
    gap = np.abs(fit(whole, geometry).astype(int) - fit(part, geometry))
    assert gap.max() < 30 and gap.mean() < 3
    turned = np.abs(fit(whole, geometry)[::-1, ::-1].astype(int) - fit(part, geometry))
    assert turned.mean() > 10  # so the comparison can fail


def test_what_is_no_jpeg_or_small_already_is_decoded_in_full() -> None:
    target = io.BytesIO()
    Image.open(io.BytesIO(photograph((400, 300)))).save(target, "PNG")
    for data in (target.getvalue(), photograph((90, 60))):
        part, size = picture(data, Limits(), 64)[:2]
        assert np.array_equal(np.asarray(part), np.asarray(decode(data, Limits())))
        assert size == (part.height, part.width)


def test_fast_decode_draws_pictures_of_full_size(pool: Pool, tmp_path: Path) -> None:
    model = tiny.write(tmp_path / "model")
    (tmp_path / "a.jpg").write_bytes(photograph((640, 480)))
    run = pool.gradviz("explain", model, "a.jpg", "--fast-decode", "--style", "heatmap", "-o", "fast", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert pixels(tmp_path / "fast" / "a.jpg.guided.png").shape == (480, 640, 3)
    again = pool.gradviz("explain", model, "a.jpg", "-o", "fast", "--print", cwd=tmp_path)  # other pixels: not current
    assert again.stdout == "fast/a.jpg.guided.png\n"


# ---- batches and imports


def test_the_batch_fits_the_processors() -> None:
    assert budget.default_batch(224, 224, 2) == 8
    for side in (16, 224, 299, 512, 2048, 8192):
        for cores in (1, 2, 7, 64, 200):
            size = budget.default_batch(side, side, cores)
            assert 1 <= size <= max(64, cores)
            assert size % cores == 0 or size == max(1, 2**24 // side**2)


IMPORTS = """
import sys
from gradviz_cli.worker.run import tensorflow as lean
{before}
lean.import_tensorflow(whole=True)
import tensorflow as tf
assert float(tf.constant(1.0) + 1) == 2
print("keras.src" in sys.modules, any(isinstance(each, lean._Absent) for each in sys.meta_path))
"""
INSISTS = "lean._Absent.find_spec = lambda *_: (_ for _ in ()).throw(ImportError('no Keras'))"


@pytest.mark.parametrize(
    ("before", "has_keras"), [("", False), (INSISTS, True)], ids=["as it is", "a TensorFlow that insists"]
)
def test_tensorflow_comes_without_keras_where_it_can(before: str, has_keras: bool) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", IMPORTS.format(before=before)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{has_keras} False\n"
