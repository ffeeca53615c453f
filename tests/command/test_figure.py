"""`gradviz figure`, as its users run it: on what a run wrote, without TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import outs
import pytest
from commands import environment, gradviz, pixels
from PIL import Image

from gradviz_cli.cli import main


@pytest.fixture
def out(tmp_path) -> Path:
    photos = [outs.photo(tmp_path / "photos" / f"{name}.png", seed) for seed, name in enumerate("ab")]
    return outs.write(tmp_path / "out", photos, modes=("guided", "backprop"))


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_sheet_of_what_a_run_wrote_says_nothing(done, tmp_path, ending):
    more = [] if ending == "png" else ["--no-inputs"]
    run = gradviz("figure", done, "-o", f"f.{ending}", "--limit", "2", *more, cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF-1.7"}[ending]
    assert (tmp_path / f"f.{ending}").read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_a_map_on_a_sheet_has_the_colours_of_its_own_picture(done, tmp_path):
    """Drawn by `explain` at the size of the image, and here at the same size: the same pixels."""
    line = json.loads((done / "manifest.jsonl").read_text().splitlines()[0])
    (name,) = (name for name in line["outputs"] if name.endswith(".png"))
    drawn = pixels(done / name)
    width = drawn.shape[1]
    margins = 2 * 4 + 4  # of a sheet whose labels are as wide as they may be: a fifth
    points = (width + margins) / 0.8
    image = Path(line["image"]).name
    more = ["--dpi", "72", "--no-inputs", "--no-captions", "--no-notes", "--no-bars", "--name", "x" * 99]
    run = gradviz(
        "figure",
        done,
        "-o",
        "f.png",
        "--image",
        image,
        "--rows",
        "model,image",
        "--width",
        f"{points}pt",
        *more,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    sheet = pixels(tmp_path / "f.png")
    places = [
        (y, x)
        for y in range(sheet.shape[0] - drawn.shape[0] + 1)
        for x in range(sheet.shape[1] - width + 1)
        if (sheet[y, x] == drawn[0, 0]).all() and (sheet[y : y + drawn.shape[0], x : x + width] == drawn).all()
    ]
    assert len(places) == 1


def test_tensorflow_is_never_imported(out, tmp_path):
    code = (
        "import sys; from gradviz_cli.cli import main; code = main(sys.argv[1:]);"
        "heavy = {name.partition('.')[0] for name in sys.modules} & {'tensorflow', 'keras', 'google'};"
        "print(code, sorted(heavy))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "figure", out, "-o", "f.pdf"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (run.stdout, run.stderr) == ("0 []\n", "")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["-o", "f.jpg"], 2, "--out f.jpg: its ending says no form of a figure; give one of .png, .svg, .pdf"),
        (["-o", "nowhere/f.png"], 7, "nowhere/f.png: cannot be written: there is no such folder; make it"),
        (["-m", "deconv"], 2, "--mode deconv: no map is of it; there are backprop, guided"),
        (["--width", "3 feet"], 2, "3 feet is no width on paper, such as 89mm or 3.5in"),
        (["--rows", "images"], 2, "did you mean image?"),
        (["--colormap", "blue-white-red"], 2, "--colormap blue-white-red: --style heatmap cannot use it"),
        (["--alpha", "0.2"], 2, "--alpha 0.2: --style heatmap cannot use it"),
        (["--style", "rgb", "--colormap", "magma"], 2, "leave it out, or add --style heatmap or overlay"),
        (["--name", "x", "--name", "y"], 2, "--name: 2 names for 1 folder; give one for each OUT"),
        (["--clip", "0"], 2, "--clip: 0 is not a percentile"),
        (["--image", "["], 2, "no image with a map has that name"),
    ],
)
def test_wrong_words_are_answered_with_what_is_right(out, tmp_path, monkeypatch, capsys, options, code, said):
    monkeypatch.chdir(tmp_path)
    assert main(["figure", "out", *options]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and "panel" not in line
    assert not list(tmp_path.glob("f*"))


def test_what_is_missing_is_told_and_the_rest_is_there(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (out / "a.png.guided.npy").unlink()
    arguments = ["figure", "out", "-o", "f.png", "--no-inputs"]
    assert main(arguments) == 3
    warning = "gradviz: warning: 1 place of the sheet is empty (a.png guided: the .npy is gone)\n"
    assert capsys.readouterr().err == warning
    assert main([*arguments, "-q"]) == 3 and capsys.readouterr().err == ""
    with Image.open("f.png") as image:
        assert image.text["gradviz"]


def test_a_folder_that_cannot_be_written_keeps_what_it_has(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.png").mkdir()
    assert main(["figure", "out", "-o", "f.png"]) == 7
    assert "f.png: cannot be written: it is not a regular file" in capsys.readouterr().err
