"""What the gallery makes of an output folder: lines that no run writes, names that lead elsewhere, odd pictures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.draw.png import encode_png
from gradviz_cli.errors import UsageError
from gradviz_cli.gallery import data, folder
from gradviz_cli.gallery.folder import MISSING, Line
from gradviz_cli.plan.results import Status

LINE = {
    "image": "photos/a.jpg", "status": "written", "outputs": ["a.jpg.guided.png"], "source": "/photos/a.jpg",
    "time": "2026-01-02T03:04:05.678Z", "error": None,
}  # fmt: skip
SAID = {"mode": "guided", "style": "heatmap", "target": {"index": 3, "label": "tabby"}, "model": "m", "image": "i"}


def test_a_line() -> None:
    expected = Line("photos/a.jpg", "/photos/a.jpg", Status.WRITTEN, ("a.jpg.guided.png",), LINE["time"], None)
    assert folder._line(LINE) == expected


@pytest.mark.parametrize(
    "over",
    [
        {"image": None}, {"image": 3}, {"image": ""}, {"image": "\0"}, {"image": "\ud800"}, {"status": "new"},
        {"status": None}, {"status": []}, {"status": "pending"}, {"status": "missing"},
    ],
    ids=str,
)  # fmt: skip
def test_a_line_of_no_image_or_no_status_is_none(over: dict) -> None:
    assert folder._line({**LINE, **over}) is None


@pytest.mark.parametrize(
    ("over", "name", "value"),
    [
        ({"outputs": 3}, "outputs", ()),
        ({"outputs": ["../a.png", "/a.png", "b/../../a.png", "a.npy", 3, None, "\0.png", "b/a.png"]}, "outputs", ("b/a.png",)),
        ({"time": 3}, "time", ""),
        ({"error": "x"}, "error", None),
        ({"error": {"kind": "crash"}}, "error", ("crash", "None")),
        ({"status": "zero"}, "status", Status.ZERO),
    ],
    ids=str,
)  # fmt: skip
def test_a_field_of_another_type_is_as_if_it_were_not_there(over: dict, name: str, value: object) -> None:
    assert getattr(folder._line({**LINE, **over}), name) == value


@pytest.mark.parametrize("over", [{}, {"typed": 3}, {"path": "\0"}, {"fingerprint": None}])
def test_the_model_of_a_run_is_known_by_its_first_line(over: dict, tmp_path: Path) -> None:
    model = {"typed": "/nets/a", "path": "/nets/a/1", "fingerprint": "m"}
    written(tmp_path, [{**LINE, "model": {**model, **over}}, {**LINE, "model": 3}], guided=SAID)
    found = folder.read(tmp_path).models
    assert {name: one.path for name, one in found.items()} == ({} if over else {"m": "/nets/a/1"})


def test_a_source_that_is_none_is_the_image_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder._line({**LINE, "source": ["x"]}).source == str(tmp_path / "photos/a.jpg")


def written(out: Path, lines: list[dict], **pictures: dict) -> None:
    """A manifest, and pictures by the part of their name behind the image's."""
    (out / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for suffix, said in pictures.items():
        name = f"a.jpg.{suffix.replace('_', '.')}.png"
        (out / name).write_bytes(encode_png(np.zeros((2, 4), np.uint8), None, json.dumps(said)))


def test_an_image_with_its_picture(tmp_path: Path) -> None:
    written(tmp_path, [LINE], guided=SAID)
    (shown,) = folder.read(tmp_path).images
    (picture,) = shown.pictures
    assert (shown.name, shown.status, picture.suffix, picture.kind) == (
        "a.jpg",
        "written",
        ".guided.png",
        ("guided", ""),
    )
    assert (picture.spec, picture.target.label, picture.subject) == ("top1", "tabby", ("m", "i"))


@pytest.mark.parametrize(("suffix", "spec"), [("guided", "top1"), ("guided_top2", "top2"), ("guided_281_gray", "281")])
def test_the_target_as_asked_for_is_told_by_the_name(tmp_path: Path, suffix: str, spec: str) -> None:
    outputs = [f"a.jpg.{suffix.replace('_', '.')}.png"]
    written(tmp_path, [{**LINE, "outputs": outputs}], **{suffix: SAID})
    assert folder.read(tmp_path).images[0].pictures[0].spec == spec


@pytest.mark.parametrize("over", [{"style": None}, {"style": 3}, {"target": None}, {"target": "x"}, {"target": [1]}])
def test_a_picture_that_does_not_say_what_it_shows_is_none(tmp_path: Path, over: dict) -> None:
    written(tmp_path, [LINE], guided={**SAID, **over})
    assert not folder.read(tmp_path).images


def test_a_sheet_is_of_no_mode(tmp_path: Path) -> None:
    said = {**SAID, "mode": ["backprop", "guided"], "style": "panel"}
    written(tmp_path, [{**LINE, "outputs": ["a.jpg.panel.png"]}], panel=said)
    assert folder.read(tmp_path).images[0].pictures[0].kind is None


def test_of_earlier_runs_only_pictures_of_the_same_model_and_image_count(tmp_path: Path) -> None:
    lines = [{**LINE, "outputs": [f"a.jpg.{mode}.png"]} for mode in ("backprop", "deconv", "guided")]
    written(tmp_path, lines, backprop={**SAID, "mode": "backprop"}, deconv={**SAID, "model": "n"}, guided=SAID)
    (shown,) = folder.read(tmp_path).images
    assert [picture.suffix for picture in shown.pictures] == [".guided.png", ".backprop.png"]


def test_an_image_that_is_there_without_its_picture_is_missing(tmp_path: Path) -> None:
    source = tmp_path / "a.jpg"
    source.touch()
    written(tmp_path, [{**LINE, "source": str(source)}])
    assert folder.read(tmp_path).images[0].status == MISSING
    source.unlink()
    assert not folder.read(tmp_path).images


def test_a_failed_image_stays_without_a_picture(tmp_path: Path) -> None:
    error = {"kind": "timeout", "message": "too long"}
    written(tmp_path, [{**LINE, "status": "failed", "outputs": [], "error": error}])
    (shown,) = folder.read(tmp_path).images
    assert (shown.status, shown.error, shown.pictures) == ("failed", ("timeout", "too long"), ())
    assert folder.find_source(tmp_path, shown, folder.Reading()) == (None, "gone")


@pytest.mark.parametrize("moved", [False, True])
def test_a_page_of_a_file_is_not_said_to_be_gone(tmp_path: Path, moved: bool) -> None:
    source = tmp_path / "photos" / "a.tif"
    source.parent.mkdir()
    source.write_bytes(b"II*\0")
    line = {
        **LINE,
        "image": "photos/a.tif#2",
        "source": str(tmp_path / "before" / "a.tif" if moved else source),
        "page": 2,
    }
    name = "a.tif#2.guided.png"
    written(tmp_path, [{**line, "outputs": [name]}])
    said = {**SAID, "image": hashlib.sha256(source.read_bytes()).hexdigest()}
    (tmp_path / name).write_bytes(encode_png(np.zeros((2, 4), np.uint8), None, json.dumps(said)))
    (shown,) = data.collect([tmp_path])["images"]
    assert (shown["name"], shown["gone"]) == ("a.tif#2", "page")
    source.unlink()
    assert data.collect([tmp_path])["images"][0]["gone"] == "gone"


@pytest.mark.parametrize("make", [None, "folder", "file"])
def test_what_is_no_output_folder(tmp_path: Path, make: str | None) -> None:
    out = tmp_path / "out"
    if make == "folder":
        (out / "manifest.jsonl").mkdir(parents=True)
    elif make == "file":
        out.touch()
    with pytest.raises(UsageError, match="explain"):
        folder.read(out)


# ---- as data


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None), (True, None), ("3", None), (3, 3), (2**53, None), (-(2**53) + 1, -(2**53) + 1),
        (0.123456789, 0.123457), (float("nan"), None), (float("-inf"), None), (1e-300, 1e-300),
    ],
)  # fmt: skip
def test_numbers_as_browsers_take_them(value: object, expected: object) -> None:
    found = data._number(value)
    assert found == expected and type(found) is type(expected)


def test_names_sort_as_people_expect() -> None:
    found = sorted(["p10", "P1", "p2", "q", "p02", "10", "9"], key=data._natural)
    assert found == ["9", "10", "P1", "p02", "p2", "p10", "q"]


def test_the_data_of_one_picture(tmp_path: Path) -> None:
    said = {**SAID, "scale": [0.0, 0.123456789], "clip": 99.0, "options": {"fit": "crop", "scale": "each"}}
    written(tmp_path, [LINE], guided=said)
    found = data.collect([tmp_path])
    (entry,) = found["images"]
    assert entry["scales"] == [[0.0, 0.123457]] and entry["aspect"] == 2
    assert found["classes"] == [[3, "tabby"]] and entry["targets"] == {0: [0, None, None, None]}
    assert found["runs"] == [{"pictures": 1, "facts": {"model": "m", "clip": 99.0, "fit": "crop", "scale": "each"}}]
    assert [mode["name"] for mode in found["modes"]] == ["guided"]
    assert found["modes"][0]["source"].startswith("Springenberg")


@pytest.mark.parametrize("name", ["heatmap", "panel"])
def test_what_a_style_shows_is_said_by_its_table(name: str) -> None:
    assert data._style(name)["summary"] and data._style("odd") == {"summary": ""}
