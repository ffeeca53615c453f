"""The data of the page, from folders made here: which images and pictures, and how they are linked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from gallery.folders import collected, draw, embedded, explained, log, photo, source_of

from gradviz_cli import gallery
from gradviz_cli.files.reading import stamp_of
from gradviz_cli.gallery import folder


def only(data: dict) -> dict:
    (image,) = data["images"]
    return image


def modes_of(data: dict, image: dict) -> set[str]:
    return {data["modes"][mode]["name"] for mode, *_ in data["sets"][image["set"]]}


def test_the_last_line_of_an_image_wins(here: Path) -> None:
    explained()
    log(Path("maps"), "photos/a.jpg", status="failed", error={"kind": "timeout", "message": "took too long"})
    image = only(collected())
    assert image["status"] == "failed"
    assert image["error"] == ["timeout", "took too long"]
    assert "set" not in image
    explained()
    assert only(collected())["status"] == "written"


def test_one_image_under_two_spellings_is_one(here: Path) -> None:
    explained()
    log(Path("maps"), here / "photos" / "a.jpg", ["a.jpg.guided.png"], "current")
    assert only(collected())["status"] == "current"


def test_torn_and_foreign_lines_are_passed_over(here: Path) -> None:
    explained()
    with open("maps/manifest.jsonl", "ab") as book:
        book.write(b'[1]\n{"image": 3, "status": "written"}\n{"image": "x", "status": "new"}\n\xff\n{"image": "pho')
    assert only(collected())["name"] == "a.jpg"


def test_a_run_with_another_mode_adds_to_a_folder(here: Path) -> None:
    explained()
    explained(modes=("deconv",))
    data = collected()
    assert modes_of(data, only(data)) == {"guided", "deconv"}


def test_pictures_of_another_model_or_of_the_image_as_it_was_do_not_count(here: Path) -> None:
    explained(modes=("guided", "backprop"))
    explained(modes=("deconv",), model="34" * 32)
    data = collected()
    assert modes_of(data, only(data)) == {"deconv"}


def test_a_picture_written_anew_for_another_image_is_that_image_s(here: Path) -> None:
    explained()
    other = photo(Path("others/a.jpg"), (1, 2, 3))
    log(Path("maps"), other, [draw(Path("maps"), other, "a.jpg", "guided")])
    assert only(collected())["folder"] == 0
    assert collected()["folders"][0][0] == "others/"


def test_an_image_whose_pictures_are_gone_is_told_apart_from_a_pruned_one(here: Path) -> None:
    explained()
    Path("maps/a.jpg.guided.png").unlink()
    assert only(collected())["status"] == "missing"
    Path("photos/a.jpg").unlink()
    assert collected()["images"] == []


def test_only_pictures_of_ours_inside_out_are_shown(here: Path) -> None:
    source = photo(Path("photos/a.jpg"))
    draw(Path("."), source, "a.jpg", "guided")
    names = [
        "../a.jpg.guided.png",
        str(here / "a.jpg.guided.png"),
        "a.jpg.guided.png",
        "a.jpg.deconv.png",
        "\ud800.png",
    ]
    log(Path("maps"), source, names)
    os.mkfifo("maps/a.jpg.guided.png")
    photo(Path("maps/a.jpg.deconv.png"))
    assert only(collected())["status"] == "missing"


def test_targets_styles_and_panels_are_told_by_the_names(here: Path) -> None:
    source, out = photo(Path("photos/x.5.jpg")), Path("maps")
    names = [draw(out, source, "x.5.jpg", "guided", spec=spec) for spec in ("", "top10", "top2", "281")]
    names += [
        draw(out, source, "x.5.jpg", "guided", "overlay", "281"),
        draw(out, source, "x.5.jpg", "", "panel"),
    ]
    log(out, source, names)
    data = collected()
    assert data["targets"] == ["top1", "top2", "top10", "281"]
    assert [style["name"] for style in data["styles"]] == ["heatmap", "overlay", "panel"]
    assert [style["aspect"] for style in data["styles"]] == [pytest.approx(4 / 3, rel=1e-4)] * 2 + [4]
    suffixes = {suffix for *_, suffix, _ in data["sets"][only(data)["set"]]}
    assert {"x.5.jpg" + suffix for suffix in suffixes} == set(names)


def test_estimators_are_told_by_the_pictures(here: Path) -> None:
    source, out = photo(Path("photos/a.jpg")), Path("maps")
    names = [draw(out, source, "a.jpg", "guided")]
    names += [draw(out, source, "a.jpg", "backprop", spec="top2", estimator=one) for one in ("smoothgrad", "grad-cam")]
    log(out, source, names)
    data = collected()
    assert names[1:] == ["a.jpg.backprop.smoothgrad.top2.png", "a.jpg.backprop.grad-cam.top2.png"]
    assert [mode["name"] for mode in data["modes"]] == ["guided", "grad-cam", "smoothgrad"]
    assert data["targets"] == ["top1", "top2"]
    assert [[mode, target] for mode, _, target, *_ in data["sets"][0]] == [[0, 0], [1, 1], [2, 1]]
    assert {run["facts"]["estimator"] for run in data["runs"]} == {"gradient", "smoothgrad", "grad-cam"}


def test_failed_images_are_named_like_the_others_of_their_folder(here: Path) -> None:
    explained("deep/a.jpg")
    for name in ("deep/b.jpg", "c.jpg"):
        log(
            Path("maps"),
            photo(Path("photos") / name),
            status="failed",
            error={"kind": "crash", "message": "m"},
        )
    assert [image["name"] for image in collected()["images"]] == ["c.jpg", "deep/a.jpg", "deep/b.jpg"]


def test_names_are_in_the_order_people_expect(here: Path) -> None:
    names = ["p10.jpg", "p2.jpg", "P1.jpg", "p02.jpg", "\u0663.jpg", "q" + "9" * 200 + ".jpg"]
    for name in names:
        explained(name)
    order = [image["name"] for image in collected()["images"]]
    assert order[:4] == ["P1.jpg", "p02.jpg", "p2.jpg", "p10.jpg"]


def test_how_pictures_were_made_is_said_once_for_all_styles_of_a_run(here: Path) -> None:
    source, out = photo(Path("photos/a.jpg")), Path("maps")
    told = {"clip": 99.0, "scale": "shared", "fit": "crop", "mode": ["guided"], "target": ["top1"]}
    looks = {"heatmap": {"colormap": "magma"}, "gray": {}, "overlay": {"colormap": "magma", "alpha": 0.4}}
    names = [
        draw(out, source, "a.jpg", "guided", style, clip=99.0, options={**told, **look, "style": style}, **look)
        for style, look in looks.items()
    ]
    log(out, source, names)
    (run,) = collected()["runs"]
    assert run["pictures"] == 3
    assert run["facts"]["fit"] == "crop" and run["facts"]["scale"] == "shared" and run["facts"]["clip"] == 99
    assert not {"options", "colormap", "alpha", "mode", "target", "style"} & run["facts"].keys()


def test_numbers_that_json_does_not_have_become_null(here: Path) -> None:
    target = {"index": 10**400, "label": None, "rank": True, "score": float("nan"), "output": float("inf")}
    explained(target=target, scale=[0, float("-inf")], odd=float("nan"))
    data = json.loads(embedded(gallery.write(Path("maps"))), parse_constant=pytest.fail)
    assert only(data)["targets"] == {"0": [0, None, None, None]}
    assert only(data)["scales"] == [[0, None]]


@pytest.mark.parametrize("key", ["image", "source", "outputs", "targets", "error", "time", "status", "sha256"])
@pytest.mark.parametrize("value", [None, 3, "", "\0", "\ud800", [], [[]], {}, ["../x.png"], float("inf")])
def test_a_damaged_line_never_stops_the_page(key: str, value: object, here: Path) -> None:
    explained("a.jpg")
    explained("b.jpg")
    lines = Path("maps/manifest.jsonl").read_text().splitlines()
    Path("maps/manifest.jsonl").write_text("\n".join([lines[0], json.dumps({**json.loads(lines[1]), key: value})]))
    page = gallery.write(Path("maps"))
    assert "a.jpg" in [image["name"] for image in json.loads(embedded(page))["images"]]


@pytest.mark.parametrize("key", ["mode", "style", "target", "scale", "model", "image"])
@pytest.mark.parametrize("value", [None, 3, "odd", [], {}, [["x"]], {"index": {}, "label": 3}])
def test_a_damaged_picture_never_stops_the_page(key: str, value: object, here: Path) -> None:
    explained("a.jpg")
    explained("b.jpg", over={key: value})
    assert len(json.loads(embedded(gallery.write(Path("maps"))))["images"]) == 2


# ---- which source images are linked


def test_images_are_linked_relative_to_the_page(here: Path) -> None:
    explained("deep/a.jpg")
    data = collected()
    assert source_of(data, only(data)) == "../photos/deep/a.jpg"
    assert "gone" not in only(data)


def test_an_image_that_changed_or_went_away_is_not_linked(here: Path) -> None:
    explained()
    photo(Path("photos/a.jpg"), (0, 99, 0))
    future = Path("maps/manifest.jsonl").stat().st_mtime + 10
    os.utime("photos/a.jpg", (future, future))
    assert only(collected())["gone"] == "changed"
    Path("photos/a.jpg").unlink()
    assert only(collected())["gone"] == "gone"


def test_a_younger_copy_of_the_same_bytes_is_the_same_image(here: Path) -> None:
    explained()
    future = Path("maps/manifest.jsonl").stat().st_mtime + 10
    os.utime("photos/a.jpg", (future, future))
    assert "gone" not in only(collected())


@pytest.mark.parametrize("how", ["times put back", "same size", "moved over it", "older manifest"])
def test_an_image_that_was_replaced_is_told_whatever_its_time(here: Path, how: str) -> None:
    """As by cp -p, rsync -t or tar."""
    source = photo(Path("photos/a.jpg"))
    stamp = None if how == "older manifest" else stamp_of(source.stat())
    name, before = draw(Path("maps"), source, "a.jpg", "guided"), source.stat()
    log(Path("maps"), source, [name], image_stamp=stamp)
    assert "gone" not in only(collected())
    if how == "same size":
        source.write_bytes(source.read_bytes()[:-1] + b"x")
    elif how == "moved over it":
        photo(Path("other.jpg"), (1, 2, 3)).rename(source)
    else:
        photo(source, (1, 2, 3))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert only(collected())["gone"] == "changed"


def test_images_that_look_as_they_did_are_not_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photo(Path("photos/a.jpg"))
    log(Path("maps"), source, [draw(Path("maps"), source, "a.jpg", "guided")], image_stamp=stamp_of(source.stat()))
    monkeypatch.setattr(folder, "hash_file", pytest.fail)
    assert "gone" not in only(collected())


def test_what_would_take_too_long_to_compare_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        explained(name)
    monkeypatch.setattr(folder.Reading.__init__, "__defaults__", (2 * Path("photos/a.jpg").stat().st_size,))
    assert [image.get("gone") for image in collected()["images"]] == [None, None, "unchecked"]


def test_an_image_of_which_nothing_is_known_is_not_shown(here: Path) -> None:
    """Lines of older versions do not say which one it was, and here no picture does."""
    log(Path("maps"), photo(Path("photos/a.jpg")), (), "zero", image_sha256=None)
    assert only(collected())["gone"] == "unchecked"


def test_a_folder_moved_together_with_its_images_still_finds_them(here: Path) -> None:
    (here / "old").mkdir()
    os.chdir("old")
    explained()
    os.chdir("..")
    os.rename("old", "new")
    data = collected("new/maps")
    assert source_of(data, only(data)) == "../photos/a.jpg"
    photo(Path("new/photos/a.jpg"), (0, 0, 9))
    assert only(collected("new/maps"))["gone"] == "gone"


def test_a_failed_image_is_never_loaded(here: Path) -> None:
    log(
        Path("maps"),
        photo(Path("photos/bomb.png")),
        status="failed",
        error={"kind": "too-large", "message": "m"},
    )
    data = collected()
    assert only(data)["gone"] == "failed"
    assert data["folders"][0][1] == ""


def test_a_zero_map_keeps_its_image_and_its_other_pictures(here: Path) -> None:
    source = photo(Path("photos/a.jpg"))
    error = {"kind": "zero", "message": "deconv: zero everywhere"}
    log(Path("maps"), source, [draw(Path("maps"), source, "a.jpg", "guided")], "zero", error=error)
    log(Path("maps"), photo(Path("photos/b.jpg")), (), "nonfinite", error=error)
    first, second = collected()["images"]
    assert (first["status"], second["status"]) == ("zero", "nonfinite")
    assert "set" in first and "set" not in second
    assert "gone" not in first and "gone" not in second
