"""Which maps are shown, in which row and column, and what is said beside them."""

from __future__ import annotations

import json
from pathlib import Path

import outs
import pytest

from gradviz_cli.errors import UsageError
from gradviz_cli.figure.choice import Choice, choose
from gradviz_cli.figure.grid import NO_MAP, Grid, arrange
from gradviz_cli.figure.maps import collect


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return [outs.photo(tmp_path / "photos" / f"{name}.png", seed) for seed, name in enumerate("abc")]


def grid(*folders: Path, rows=(), columns=(), inputs=False, captions=False, names=(), **choice) -> Grid:
    found = collect(folders, names)
    return arrange(found, choose(found, Choice(**choice)), rows, columns, inputs=inputs, captions=captions)


def labels(made: Grid) -> list[str]:
    return [" ".join(filter(None, row.labels)) for row in made.rows]


def heads(made: Grid) -> list[str]:
    return [" ".join(filter(None, head)) for head in made.heads]


def test_images_go_down_and_the_rest_goes_across(tmp_path, photos):
    made = grid(outs.write(tmp_path / "out", photos, modes=("guided", "backprop"), targets=("top1", "top2")))
    assert labels(made) == ["a.png", "b.png", "c.png"]
    assert heads(made) == ["backprop top1", "backprop top2", "guided top1", "guided top2"]
    assert len(made.maps) == 12 and not made.missing


def test_an_axis_goes_where_it_is_told(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos, modes=("guided", "backprop"), targets=("top1", "top2"))
    made = grid(out, rows=["image", "target"], modes=("guided",))
    assert [row.labels for row in made.rows][:3] == [("a.png", "top1"), ("", "top2"), ("b.png", "top1")]
    assert heads(made) == ["guided"]
    assert heads(grid(out, columns=["image"], targets=("rank2",))) == ["a.png", "b.png", "c.png"]
    one = grid(out, rows=["mode"], columns=["target"], images=("b.png",), inputs=True)
    assert (labels(one), heads(one)) == (["backprop", "guided"], ["input", "top1", "top2"])
    for all_on in ("rows", "columns"):
        every = grid(out, **{all_on: ["image", "model", "estimator", "mode", "target"]}, inputs=True, captions=True)
        assert len(every.maps) == 12 and len({len(head) for head in every.heads}) == 1
        assert len({len(row.labels) for row in every.rows}) == 1
    with pytest.raises(UsageError, match="there are maps of 2 targets, and neither has target"):
        grid(out, rows=["image"], columns=["mode"])
    with pytest.raises(UsageError, match="mode stands there twice"):
        grid(out, rows=["mode"], columns=["mode"])


def test_every_cell_holds_the_map_of_its_row_and_column(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos, modes=("guided", "backprop"), targets=("top1", "top2"))
    made = grid(out, rows=["mode"], columns=["target", "image"])
    for row, mode in zip(made.rows, ("backprop", "guided"), strict=True):
        for cell, (target, image) in zip(row.cells, made.heads, strict=True):
            name = f"{image}.{mode}.npy" if target == "top1" else f"{image}.{mode}.{target}.npy"
            assert Path(cell.map.path).name == name


def test_what_is_asked_for_comes_in_that_order(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos, modes=("guided", "backprop", "deconv"))
    made = grid(out, images=("c*", "a.png"), modes=("deconv", "guided"))
    assert (labels(made), heads(made)) == (["c.png", "a.png"], ["deconv", "guided"])
    assert labels(grid(out, images=("c,b",), modes=("guided",))) == ["c.png", "b.png"]
    assert labels(grid(out, limit=2)) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"modes": ("guidd",)}, "--mode guidd: no map is of it; there are guided"),
        ({"estimators": ("grad-cam",)}, "--estimator grad-cam: no map is of it; there are gradient"),
        ({"images": ("z.png",)}, "--image z.png: no image with a map has that name; there are a.png, b.png, c.png"),
        ({"targets": ("dog",)}, "--target dog: no map is of it; there are top1, cat"),
        ({"targets": ("7",)}, "--target 7: no map is of it"),
        ({"targets": ("top1,dog",)}, "--target dog: no map is of it"),
    ],
)
def test_what_is_not_there_is_refused_and_what_is_there_named(tmp_path, photos, choice, said):
    with pytest.raises(UsageError) as caught:
        grid(outs.write(tmp_path / "out", photos), **choice)
    assert said in str(caught.value)


def test_targets_mean_what_they_mean_to_explain(tmp_path, photos):
    classes = {"top1": (3, "cat"), "top2": (5, "dog"), "top3": (1, "cow"), "281": (281, "tabby")}
    out = outs.write(tmp_path / "out", photos[:1], targets=tuple(classes), classes=classes)
    assert heads(grid(out)) == ["top1", "top2", "top3", "tabby"]
    assert heads(grid(out, targets=("top2",))) == ["top1", "top2"]
    assert heads(grid(out, targets=("rank2", "281"))) == ["top2", "tabby"]
    assert heads(grid(out, targets=("rank2,281",))) == ["top2", "tabby"]
    for word in ("Dog", "5"):
        assert [each.record.target.label for each in grid(out, targets=(word,)).maps] == ["dog"]


def test_images_with_a_class_of_their_own_each_share_a_column(tmp_path, photos):
    out = tmp_path / "out"
    for number, path in enumerate(photos):
        outs.write(out, [path], targets=(str(number),), classes={str(number): (number, f"class {number}")})
    made = grid(out, captions=True)
    assert len(made.heads) == 1 and not made.missing
    assert [row.lines for row in made.rows] == [(f"class {number}", "score 1.5") for number in range(3)]


def test_models_meet_where_the_image_is_the_same(tmp_path, photos):
    first = outs.write(tmp_path / "x" / "maps", photos)
    copy = outs.photo(tmp_path / "moved" / "other-name.png", 1)  # the bytes of b
    second = outs.write(tmp_path / "y" / "maps", [copy])
    made = grid(first, second)
    assert heads(made) == ["x/maps", "y/maps"]
    assert [[bool(cell.map) for cell in row.cells] for row in made.rows] == [[True, False], [True, True], [True, False]]
    assert {cell.why for cell in made.missing} == {NO_MAP}
    assert heads(grid(first, second, names=("ResNet", "VGG"))) == ["ResNet", "VGG"]
    with pytest.raises(UsageError, match="the same folder is given twice"):
        collect([first, first])


def test_two_copies_of_an_image_have_rows_of_their_own(tmp_path):
    photos = [outs.photo(tmp_path / "photos" / name, 0) for name in ("a.png", "copy.png")]
    assert labels(grid(outs.write(tmp_path / "out", photos))) == ["a.png", "copy.png"]


def test_estimators_are_known_by_what_the_pictures_say(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos[:1], targets=("top1", "top2"))
    outs.write(out, photos[:1], targets=("top1", "top2"), estimator="grad-cam", modes=("backprop",))
    made = grid(out, columns=["estimator", "target"], rows=["image", "mode"])
    assert heads(made) == ["gradient top1", "gradient top2", "grad-cam top1", "grad-cam top2"]
    assert {Path(each.path).name for each in made.maps} == {path.name for path in out.glob("*.npy")}
    assert grid(out, estimators=("grad-cam",)).constant == "grad-cam, backprop"


def test_a_sheet_of_all_modes_has_an_array_for_each(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos[:1], modes=("guided", "backprop"), targets=("top2",))
    text = {"version": "0", "style": "panel", "mode": ["guided", "backprop"], "image": "0" * 64, "model": "f" * 64}
    text["target"] = {"index": 3, "label": "cat", "rank": 1, "score": 1.5, "output": 0.5}
    text["npy"] = {"guided": "1" * 64, "backprop.grad-cam": "2" * 64, "x/../../elsewhere": "3" * 64}
    for path in out.glob("*.png"):
        path.unlink()
    outs.write_picture(out / "a.png.top2.panel.png", text)
    (out / "manifest.jsonl").write_text(
        json.dumps({"image": str(photos[0]), "status": "written", "outputs": ["a.png.top2.panel.png"]}) + "\n"
    )
    made = grid(out, columns=["estimator"], rows=["mode", "target"])
    found = {Path(each.path).name: each.sha256 for each in made.maps}
    assert found == {"a.png.guided.top2.npy": "1" * 64, "a.png.backprop.grad-cam.top2.npy": "2" * 64}
    assert (labels(made), heads(made)) == (["backprop", "guided"], ["gradient", "grad-cam"])


def test_class_and_score_are_said_once(tmp_path, photos):
    classes = {path.name: (number, f"label {number}") for number, path in enumerate(photos)}
    out = outs.write(tmp_path / "out", photos, modes=("guided", "backprop"), classes=classes)
    by_row = grid(out, captions=True)
    assert [row.lines for row in by_row.rows] == [(f"label {k}", "score 1.5") for k in range(3)]
    by_column = grid(out, captions=True, columns=["image"])
    assert [head[-2:] for head in by_column.heads] == [(f"label {k}", "score 1.5") for k in range(3)]
    assert not any(row.lines for row in by_column.rows)
    below = grid(out, captions=True, rows=["mode", "image"], columns=["target"])
    assert below.rows[0].lines == ("label 0", "score 1.5")
    targets = {"top1": (3, "cat"), "top2": (5, None)}
    mixed = grid(
        outs.write(tmp_path / "two", photos[:1], targets=tuple(targets), classes=targets), captions=True, rows=["mode"]
    )
    assert [cell.lines for cell in mixed.rows[0].cells] == [(), ()]
    assert [head[-2:] for head in mixed.heads] == [("cat", "score 1.5"), ("class 5", "score 1.5")]


def test_the_input_stands_once_beside_its_maps(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos[:2], targets=("top1", "top2"))
    made = grid(out, rows=["image", "target"], inputs=True)
    assert heads(made)[0] == "input"
    assert [row.cells[0].image for row in made.rows] == [0, None, 1, None]
    across = grid(out, columns=["image", "target"], inputs=True)
    assert labels(across)[0] == "input"
    assert [cell.image for cell in across.rows[0].cells] == [0, None, 1, None]


def test_a_stranger_s_words_are_one_short_line(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos[:1], classes={"a.png": (3, "x\n\x1b[31m" + "y" * 5000)}, unit="u\n" * 9)
    (line, _) = grid(out, captions=True).rows[0].lines
    assert line.isprintable() and len(line) <= 200
