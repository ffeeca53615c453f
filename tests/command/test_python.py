"""The Python door and the command, with the same worker: the same pictures, and the same words."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from workers import Pool

from gradviz_cli import ImageError, LoadedModel, UsageError, demo, load

NAMES = ("heart-on-marble.jpg", "cross-on-dots.png")
STYLES = "heatmap,signed,overlay,panel"


@pytest.fixture(scope="module")
def loaded(pool: Pool):
    with pool.serving(), load(demo.MODEL, proof="never") as model:
        yield model


@pytest.fixture(scope="module")
def written(loaded: LoadedModel, pool: Pool, tmp_path_factory) -> Path:
    """What the command writes."""
    folder = tmp_path_factory.mktemp("python")
    images = [demo.IMAGES / name for name in NAMES]
    asked = ["-m", "guided,deconv", "-t", "top2", "--style", STYLES, "--raw", "--proof", "never", "-o", "out"]
    run = pool.gradviz("explain", demo.MODEL, *images, *asked, cwd=folder)
    assert (run.returncode, run.stderr) == (0, "")
    return folder / "out"


def test_pictures_that_are_saved_are_those_of_the_command(loaded: LoadedModel, written: Path, tmp_path: Path) -> None:
    images = [demo.IMAGES / NAMES[0], Image.open(demo.IMAGES / NAMES[1])]
    found = loaded.explain(images, mode="guided,deconv", target="top2")
    found.save(tmp_path, style=STYLES, raw=True)
    want = {one.name: one for one in written.iterdir() if one.suffix in (".png", ".npy")}
    assert {one.name for one in tmp_path.iterdir()} == set(want) and len(want) == 2 * (2 * 2 * 4 + 2)
    for name, path in want.items():
        here = tmp_path / name
        if name.endswith(".npy"):
            assert np.array_equal(np.load(here), np.load(path)), name
        elif name.startswith(NAMES[0]):
            assert here.read_bytes() == path.read_bytes(), name  # with every word in it
        else:  # of an image that was no file, its file's hash is not known
            assert np.array_equal(np.asarray(Image.open(here)), np.asarray(Image.open(path))), name
    row = found.modes.index("deconv")
    picture = Image.open(written / f"{NAMES[0]}.deconv.overlay.png").convert("RGB")
    assert np.array_equal(np.asarray(found.image(row, "overlay")), np.asarray(picture))


def test_an_array_of_a_picture_is_that_picture(loaded: LoadedModel, written: Path) -> None:
    pixels = np.asarray(Image.open(demo.IMAGES / NAMES[0]))
    want = np.load(written / f"{NAMES[0]}.guided.npy")
    for given, said in ((pixels, None), (pixels / np.float32(255), (0, 1)), (pixels[None], None)):
        assert np.array_equal(loaded.explain(given, value_range=said).attribution[0], want)
    rotated = loaded.explain(one for one in (pixels, np.rot90(pixels)))
    assert np.array_equal(rotated.attribution[0], want) and not np.array_equal(rotated.attribution[1], want)


def test_a_file_that_fails_is_named_as_by_the_command(
    loaded: LoadedModel, written: Path, pool: Pool, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes((demo.IMAGES / NAMES[0]).read_bytes()[:400])
    run = pool.gradviz("explain", demo.MODEL, "bad.jpg", cwd=tmp_path)
    with pytest.raises(ImageError) as caught:
        loaded.explain(tmp_path / "bad.jpg")
    assert str(caught.value).removeprefix(f"{tmp_path}/") in run.stderr


ESTIMATORS = "gradient,input-x-gradient,integrated-gradients,grad-cam"


def test_maps_of_estimators_are_those_of_the_command(loaded: LoadedModel, pool: Pool, tmp_path: Path) -> None:
    told = ["-e", ESTIMATORS, "-m", "backprop", "--samples", "4", "--box"]
    styles = ["--style", "heatmap,overlay,panel", "--raw", "--proof", "never", "-o", "out"]
    run = pool.gradviz("explain", demo.MODEL, demo.IMAGES / NAMES[0], *told, *styles, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    with pytest.warns(UserWarning) as said:
        found = loaded.explain(demo.IMAGES / NAMES[0], "backprop", estimator=ESTIMATORS, samples=4, box=True)
    assert sum("maps miss the difference of the scores" in str(one.message) for one in said) == 1
    assert found.estimators == tuple(ESTIMATORS.split(",")) and found.attribution.shape == (4, *loaded.input_shape)
    assert found.estimates[3]["cam_layer"] and found.estimates[3]["box"] and "completeness_gap" in found.estimates[2]
    found.save(tmp_path / "here", style="heatmap,overlay,panel", raw=True)
    for one in sorted((tmp_path / "here").iterdir()):
        assert one.read_bytes() == (tmp_path / "out" / one.name).read_bytes(), one.name
    assert len(list((tmp_path / "here").iterdir())) == 4 * 2 + 1 + 4
    cam = found.select(estimator="grad-cam")
    assert (
        cam.attribution.shape[-1] == 3 and np.ptp(cam.attribution, axis=-1).max() == 0
    )  # beside others it stands in each
    alone = loaded.explain(demo.IMAGES / NAMES[0], estimator="grad-cam")
    assert alone.modes == ("backprop",) and alone.attribution.shape == (1, *loaded.input_shape[:2], 1)
    assert np.array_equal(alone.attribution[..., 0], cam.attribution[..., 0])


def test_each_baseline_is_the_file_that_is_named(loaded: LoadedModel, tmp_path: Path) -> None:
    """One model is asked for several: none is taken for another."""
    files = {"black": tmp_path / "a.png", "white": tmp_path / "b.png"}
    Image.new("RGB", (30, 20), "black").save(files["black"])
    Image.new("RGB", (30, 20), "white").save(files["white"])

    def explained(baseline: object) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of so few samples
            asked = {"estimator": "integrated-gradients", "samples": 2, "baseline": baseline}
            return loaded.explain(demo.IMAGES / NAMES[0], **asked).attribution

    for colour in ("black", "white", "black"):
        assert np.array_equal(explained(files[colour]), explained(colour)), colour
    (tmp_path / "c.txt").write_text("no image")
    with pytest.raises(UsageError, match="--baseline .*c.txt"):
        explained(tmp_path / "c.txt")
