"""What the pictures of a run show and say of themselves, from the outside; about 25 s."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny
from commands import files, gradviz, picture, pixels, text
from PIL import Image
from workers import Pool

from gradviz_cli import demo


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return picture(tmp_path / "a.png", 3, (90, 150))


@pytest.fixture
def explain(pool: Pool, photo: Path):
    """A function: options -> the outcome of a run over `photo`."""

    def run(*arguments: str, model: Path = demo.MODEL, env: dict[str, str] | None = None):
        return pool.gradviz("explain", model, "a.png", *arguments, cwd=photo.parent, env=env)

    return run


def test_colormap_list_needs_no_other_argument(tmp_path: Path) -> None:
    run = gradviz("explain", "--colormap", "list", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert [line.split()[0] for line in run.stdout.splitlines()][:3] == ["inferno", "magma", "viridis"]
    assert "\x1b" not in run.stdout  # colours are for a terminal


def test_colormap_list_shows_the_colours_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        run = gradviz(
            "explain", "--colormap", "list", cwd=tmp_path, stdout=theirs, stderr=theirs, capture_output=False,
            env={"NO_COLOR": ""},
        )  # fmt: skip
        shown = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert run.returncode == 0
    line = next(line for line in shown.splitlines() if line.startswith("gray "))
    assert re.findall(r"48;2;(\d+);", line) == [str(step) for step in range(4, 256, 8)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--style gray --colormap viridis", "--colormap viridis"),
        ("--style rgb --colormap gray", "--colormap gray"),
        ("--style heatmap --style panel --colormap blue-white-red", "add --style signed"),
        ("--style signed --colormap magma", "heatmap or overlay or panel"),
        ("--style heatmap --alpha 0.3", "add --style overlay"),
    ],
)
def test_a_look_that_no_chosen_style_has_is_refused(photo: Path, explain, arguments: str, named: str) -> None:
    run = explain(*arguments.split(), "-o", "out")
    assert run.returncode == 2
    assert named in run.stderr and len(run.stderr.splitlines()) == 1
    assert not (photo.parent / "out").exists()


def test_a_standing_preference_need_not_fit_every_run(photo: Path, explain) -> None:
    env = {"GRADVIZ_EXPLAIN_COLORMAP": "magma"}
    run = explain("--style", "gray", "--style", "heatmap", "-o", "out", env=env)
    assert (run.returncode, run.stderr) == (0, "")
    assert "colormap" not in text(photo.parent / "out/a.png.guided.gray.png")
    assert text(photo.parent / "out/a.png.guided.png")["colormap"] == "magma"
    assert explain("--style", "gray", "-o", "out", env=env).returncode == 0


def test_rgb_of_a_model_with_four_channels_is_refused_once_the_model_is_known(photo: Path, explain) -> None:
    model = tiny.write(photo.parent / "model", trap=tiny.hangs, channels=4)
    Image.new("RGB", (20, 20), "white").save(photo)  # a gradient call would hang
    run = explain("--style", "rgb", "-o", "out", model=model)
    assert run.returncode == 2
    assert "--style rgb" in run.stderr and "4 channels" in run.stderr
    assert not [name for name in files(photo.parent / "out") if name.endswith(".png")]


LOOKS = {
    "a.png.guided.overlay.png": "--style overlay --alpha 0.7 --colormap viridis --fit crop",
    "a.png.deconv.top2.signed.png": "-m all -t top2 --style signed --scale shared --clip 90 --size input",
    "a.png.3.panel.png": "-m deconv -m guided -t 3 --style panel --activations all --score output --fit pad",
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_picture_tells_how_to_draw_it_again(photo: Path, explain, name: str) -> None:
    assert explain(*LOOKS[name].split(), "-o", "out").returncode == 0
    shown = gradviz("show", f"out/{name}", cwd=photo.parent).stdout
    options = next(line for line in shown.splitlines() if line.split()[0] == "options").split(maxsplit=1)[1]
    assert explain(*shlex.split(options), "-o", "again").returncode == 0
    np.testing.assert_array_equal(pixels(photo.parent / "again" / name), pixels(photo.parent / "out" / name))


def test_panels_have_a_scale_and_an_array_for_each_mode(photo: Path, explain) -> None:
    look = ["-m", "all", "-t", "top2", "--style", "panel", "--raw", "--scale", "shared", "-o", "out"]
    assert explain(*look).returncode == 0
    out, modes = photo.parent / "out", ("backprop", "deconv", "guided")
    records = [text(out / f"a.png{target}.panel.png") for target in ("", ".top2")]
    scales = {tuple(scale) for record in records for scale in record["scale"].values()}
    assert len(scales) == 1  # shared by all modes and targets of the image
    arrays = {f"a.png.{mode}{target}.npy" for mode in modes for target in ("", ".top2")}
    assert {name for name in files(out) if name.endswith(".npy")} == arrays
    found = {mode: hashlib.sha256((out / f"a.png.{mode}.top2.npy").read_bytes()).hexdigest() for mode in modes}
    assert records[1]["npy"] == found
    assert explain(*look, "--dry-run").stdout == ""
    (out / "a.png.deconv.top2.npy").unlink()
    assert explain(*look, "--dry-run").stdout != ""


def test_a_panel_at_input_size_shows_what_the_model_saw(photo: Path, explain) -> None:
    half = np.zeros((90, 180, 3), np.uint8)
    half[:, 45:135] = picture_like(photo)
    Image.fromarray(half).save(photo)
    run = explain("--style", "panel", "--fit", "crop", "--size", "input", "-o", "out")
    assert run.returncode == 0
    shown = pixels(photo.parent / "out/a.png.panel.png")
    left = shown[shown.shape[0] // 3, : shown.shape[1] // 2]  # a row through the source image
    assert not (left == 0).all(axis=1).any()  # the black sides are cut off


def picture_like(photo: Path) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels(photo)).resize((90, 90))) | 1


def test_a_panel_of_a_score_that_is_no_number(photo: Path, explain) -> None:
    model = tiny.write(photo.parent / "model", trap=lambda images: tf.constant(np.nan))
    run = explain("--style", "panel", "--allow-empty-map", "-o", "out", model=model)
    assert (run.returncode, run.stderr) == (0, "")
    assert text(photo.parent / "out/a.png.panel.png")["target"]["score"] is None


def chunks(data: bytes) -> dict[bytes, bytes]:
    """The PNG's chunks by the specification (W3C, PNG 2003), the data of equal ones joined; no code of ours or Pillow's."""
    found: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found[kind] = found.get(kind, b"") + data[at + 8 : at + 8 + length]
        at += 12 + length
    return found


def unfiltered(raw: bytes, height: int, width: int) -> np.ndarray:
    """Rows of one byte a pixel, filters None, Sub and Up undone."""
    rows, above = [], np.zeros(width, np.uint8)
    for line in np.frombuffer(raw, np.uint8).reshape(height, 1 + width):
        kind, row = line[0], line[1:]
        assert kind in (0, 1, 2)
        above = row if kind == 0 else np.cumsum(row, dtype=np.uint8) if kind == 1 else row + above
        rows.append(above)
    return np.stack(rows)


@pytest.mark.parametrize(("style", "zero", "steps"), [("gray", 0, 255), ("signed", 128, 127)])
def test_a_reader_of_the_file_formats_alone_gets_the_attribution_back(photo, explain, style, zero, steps) -> None:
    run = explain("--style", style, "--raw", "--size", "input", "--clip", "100", "-o", "out")
    assert run.returncode == 0
    parts = chunks((photo.parent / f"out/a.png.guided.{style}.png").read_bytes())
    width, height, depth, kind = struct.unpack_from(">IIBB", parts[b"IHDR"])
    assert (depth, kind, len(parts[b"PLTE"])) == (8, 3, 768)  # 8 bits, palette
    index = unfiltered(zlib.decompress(parts[b"IDAT"]), height, width)
    key, _, record = next(iter(value for name, value in parts.items() if name in (b"tEXt", b"iTXt"))).partition(b"\0")
    low, high = json.loads(record[record.index(b"{") :])["scale"]
    assert key == b"gradviz"

    data = (photo.parent / "out/a.png.guided.npy").read_bytes()
    start = 10 + int.from_bytes(data[8:10], "little")
    assert data[:6] == b"\x93NUMPY" and b"'<f4'" in data[:start] and b"'fortran_order': False" in data[:start]
    array = np.frombuffer(data[start:], "<f4").reshape(height, width, 3)
    expected = np.abs(array).max(axis=2) if style == "gray" else array.sum(axis=2)

    np.testing.assert_allclose(low + (high - low) * index / 255, expected, atol=0.51 * high / steps)
    assert abs(low + (high - low) * zero / 255) < 1e-6 * high
