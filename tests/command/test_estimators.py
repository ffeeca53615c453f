"""Estimators as a user asks for them: names, refusals, what is current, what a killed worker costs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import gradviz, records, stored, text
from feature_maps import SIDE, write
from PIL import Image
from workers import Pool


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, and two images in `photos`."""
    folder = tmp_path_factory.mktemp("estimated")
    write(folder / "model", "flat")
    (folder / "photos").mkdir()
    draw = np.random.default_rng(2)
    for name in ("a.png", "b.png"):
        coarse = draw.integers(0, 255, (4, 4, 3), np.uint8).repeat(8, axis=0).repeat(10, axis=1)
        Image.fromarray(coarse).save(folder / "photos" / name)
    return folder


BASE = ("--preprocess", "unit", "--proof", "never")


@pytest.fixture(scope="module")
def explained(folder: Path, pool: Pool):
    """A function: options -> the folder that was written to."""

    def run(out: str, *options: str, code: int = 0) -> Path:
        done = pool.gradviz("explain", "model", "photos", "-o", out, *BASE, *options, cwd=folder)
        assert done.returncode == code, done.stderr
        return folder / out

    return run


def pngs(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("a.png.*"))


def test_a_file_is_named_by_mode_and_estimator_and_says_both(explained) -> None:
    out = explained(
        "all",
        "-e",
        "gradient,hires-cam",
        "-e",
        "smoothgrad",
        "--samples",
        "4",
        "--style",
        "heatmap,panel",
        "--raw",
        "-t",
        "top1,2",
    )
    assert set(pngs(out)) == {
        *(f"a.png.{m}{t}.{e}" for m in ("guided", "backprop.hires-cam", "backprop.smoothgrad") for t in ("", ".2") for e in ("npy", "png")),
        "a.png.panel.png",
        "a.png.2.panel.png",
    }  # fmt: skip
    said = text(out / "a.png.backprop.smoothgrad.png")
    assert (said["mode"], said["estimator"]) == ("backprop", "smoothgrad") and 0 < said["estimate"]["noise_left"] < 2
    assert text(out / "a.png.guided.png")["estimator"] == "gradient"
    assert text(out / "a.png.panel.png")["estimator"] == ["gradient", "hires-cam", "smoothgrad"]
    assert np.load(out / "a.png.backprop.hires-cam.npy").shape == (8, 8)
    assert np.load(out / "a.png.backprop.smoothgrad.2.npy").shape == (SIDE, SIDE, 3)
    (line, _) = records(out)
    assert {(one["estimator"], one["target"]) for one in line["estimates"]} == {
        (name, target) for name in ("hires-cam", "smoothgrad") for target in ("top1", "2")
    }
    assert all(one["cam_layer"].endswith(":0") for one in line["estimates"] if one["estimator"] == "hires-cam")


def test_a_mode_that_is_asked_for_holds_for_each_estimator(explained) -> None:
    out = explained("modes", "-m", "deconv", "-e", "gradient,input-x-gradient")
    assert pngs(out) == ["a.png.deconv.input-x-gradient.png", "a.png.deconv.png"]


def test_what_is_current_is_told_by_what_the_estimator_takes(explained, folder: Path) -> None:
    first = explained("current", "-e", "smoothgrad", "--samples", "4")
    before = (first / "a.png.backprop.smoothgrad.png").read_bytes()

    def statuses(*options: str) -> set[str]:
        done = gradviz("explain", "model", "photos", "-o", "current", *BASE, "--dry-run", *options, cwd=folder)
        assert done.returncode == 0, done.stderr
        return {"pending" if done.stdout.strip() else "current"}

    assert statuses("-e", "smoothgrad", "--samples", "4") == {"current"}
    assert statuses("-e", "smoothgrad", "--samples", "5") == {"pending"}
    again = explained("current", "-e", "smoothgrad", "--samples", "4", "--force", "--batch-size", "1")
    assert (again / "a.png.backprop.smoothgrad.png").read_bytes() == before


def test_a_baseline_is_a_colour_or_a_picture_and_its_content_counts(explained, folder: Path) -> None:
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(folder / "none.png")

    def found(baseline: str) -> np.ndarray:
        out = explained("from", "-e", "integrated-gradients", "--samples", "6", "--baseline", baseline, "--raw")
        return np.load(out / "a.png.backprop.integrated-gradients.npy")

    black = found("none.png")
    assert np.array_equal(black, found("black"))
    Image.fromarray(np.full((5, 5, 3), 255, np.uint8)).save(folder / "none.png")
    assert not np.allclose(black, found("none.png"))


def test_a_layer_that_is_none_is_a_usage_error(folder: Path, pool: Pool) -> None:
    done = pool.gradviz(
        "explain", "model", "photos", "-o", "none", *BASE, "-e", "grad-cam", "--cam-layer", "kepd", cwd=folder
    )
    assert done.returncode == 2 and "--cam-layer kepd" in done.stderr and "kept:0" in done.stderr


def test_what_is_odd_about_an_estimator_is_one_line(folder: Path, pool: Pool) -> None:
    done = pool.gradviz("explain", "model", "photos", "-o", "odd", *BASE, "-e", "input-x-gradient", cwd=folder)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 0 and "input-x-gradient" in line and "integrated-gradients" in line


def test_a_picture_is_drawn_again_by_what_it_says(explained, folder: Path, pool: Pool) -> None:
    out = explained("told", "-e", "hires-cam", "--box", "--style", "overlay")
    name = "a.png.backprop.hires-cam.overlay.png"
    shown = pool.gradviz("show", out / name, cwd=folder).stdout
    options = next(line for line in shown.splitlines() if line.startswith("  options")).split()[1:]
    assert "cam_layer" in shown and "box top" in shown
    done = pool.gradviz("explain", "model", "photos", "-o", "again", "--proof", "never", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(stored(folder / "again" / name), stored(out / name))


def test_the_page_shows_each_method(explained, folder: Path, pool: Pool) -> None:
    out = explained("page", "-e", "gradient,grad-cam")
    assert pool.gradviz("gallery", "page", cwd=folder).returncode == 0
    page = (out / "index.html").read_text()
    data = json.loads(page.split('id="data"', 1)[1].split(">", 1)[1].split("</script>", 1)[0])
    assert [one["name"] for one in data["modes"]] == ["guided", "grad-cam"]
    assert "1610.02391" in data["modes"][1]["source"]
