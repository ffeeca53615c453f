"""What the page is told: by hand-made folders, without a browser."""

from __future__ import annotations

import numpy as np
import pytest

from gradviz_cli.draw.colormaps import COLORMAPS, DIVERGING
from gradviz_cli.draw.record import Record
from gradviz_cli.gallery import data
from gradviz_cli.gallery.fade import fade_of
from gradviz_cli.gallery.folder import Picture, Shown
from gradviz_cli.gallery.pairs import paired
from gradviz_cli.plan.results import TargetResult


def shown(name: str, sha256: str | None = None, page: int | None = None) -> Shown:
    return Shown(name, f"/photos/{name}", name, "written", "", None, (), sha256, None, page)


def names(*folders: list[Shown]) -> list[tuple[str | None, ...]]:
    return [tuple(one and f"{one.name}:{one.sha256}" for one in row) for row in paired(folders)]


def test_images_of_one_folder_stand_alone() -> None:
    assert names([shown("a", "1"), shown("b", "1")]) == [("a:1",), ("b:1",)]


@pytest.mark.parametrize(
    ("first", "second", "rows"),
    [
        ([("a", "1")], [("a", "1")], [("a:1", "a:1")]),
        ([("a", "1")], [("b", "1")], [("a:1", "b:1")]),  # renamed
        ([("a", "1")], [("a", "2")], [("a:1", None), (None, "a:2")]),  # another image of that name
        ([("a", None)], [("a", "2")], [("a:None", "a:2")]),  # it could not be read
        ([("a", None)], [("b", None)], [("a:None", None), (None, "b:None")]),
        ([("a", "1"), ("b", "1")], [("b", "1"), ("a", "1")], [("a:1", "a:1"), ("b:1", "b:1")]),  # twins by name
        ([("x", "1"), ("b", "1")], [("b", "1"), ("c", "1")], [("x:1", "c:1"), ("b:1", "b:1")]),
        ([("a", "1")], [("b", "1"), ("c", "1")], [("a:1", "b:1"), (None, "c:1")]),
    ],
)
def test_who_belongs_to_whom(first: list, second: list, rows: list) -> None:
    assert names([shown(*one) for one in first], [shown(*one) for one in second]) == rows


def test_pages_of_a_file_are_not_mixed_up() -> None:
    assert names([shown("a#1", "1", 1)], [shown("a#2", "1", 2)]) == [("a#1:1", None), (None, "a#2:1")]


def test_many_copies_of_one_image_are_paired_at_once() -> None:
    first, second = ([shown(f"{i}{side}", "1") for i in range(5000)] for side in "xy")
    assert sum(None in row for row in paired([first, second])) == 0


@pytest.mark.parametrize("name", COLORMAPS)
def test_the_colour_of_a_pixel_tells_how_strong_it_is(name: str) -> None:
    """As a browser asks: the luma of Rec. 709, in 255ths."""
    table, colours = fade_of(name), COLORMAPS[name].astype(float)
    assert table is not None and len(table) == 256
    for intensity in range(1, 256):
        strength = abs(intensity - 128) / 127 if name in DIVERGING else intensity / 255
        red, green, blue = colours[intensity]
        found = table[round(0.2126 * red + 0.7152 * green + 0.0722 * blue)]
        assert found == pytest.approx(strength, abs=0.13 if name in DIVERGING else 0.02)
    middle = table[round(float(colours[128 if name in DIVERGING else 0] @ [0.2126, 0.7152, 0.0722]))]
    assert middle == 0 and np.all(np.isfinite(table))


def test_what_is_no_colormap_of_ours_tells_nothing() -> None:
    assert fade_of("jet") is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/resnet50", "resnet50"), ("/models/resnet50/3", "resnet50/3"), ("/models/resnet50/", "resnet50"),
        ("/home/demo/model", "demo"), ("resnet.keras", "resnet.keras"), ("/nets/a/saved_model.pb", "a"),
        ("/nets/a/saved_model/1", "a/1"), ("/1", "1"), ("model", "model"), ("/", "/"), ("/x/net\n", "net\\n"),
    ],
)  # fmt: skip
def test_what_people_call_a_model(path: str, name: str) -> None:
    assert data.model_name(path) == name


def picture(mode: object, estimator: str | None, style: str = "heatmap") -> Picture:
    record = Record(mode=mode, estimator=estimator, style=style)  # type: ignore[arg-type]
    return Picture(".png", style, "top1", TargetResult(0, None, 0, None, None), record)


def test_a_map_is_named_by_its_mode_and_estimator() -> None:
    pictures = [picture("guided", "gradient"), picture("backprop", None), picture("backprop", "vargrad"),
                picture("guided", "vargrad"), picture("backprop", "grad-cam"), picture(None, "chefer")]  # fmt: skip
    kinds = data._kinds({one.kind for one in pictures if one.kind})
    assert [data._kind_name(kind, kinds) for kind in kinds] == [
        "backprop", "guided", "grad-cam", "chefer", "vargrad, backprop", "vargrad, guided",
    ]  # fmt: skip


def test_sheets_of_several_estimators_are_told_apart() -> None:
    sheets = [picture(("guided",), estimator, "panel") for estimator in ("gradient", "vargrad", None)]
    assert [(one.kind, one.look) for one in sheets] == [(None, "panel"), (None, "panel vargrad"), (None, "panel")]
    assert data._style("panel vargrad")["sheet"] and "sheet" not in data._style("heatmap")


def test_what_differs_from_picture_to_picture_makes_no_run() -> None:
    counted = {f'{{"gap": {i}, "model": "{"ab"[i % 2]}"}}': 2 for i in range(40)}
    assert data._runs(counted) == [({"model": "a"}, 40), ({"model": "b"}, 40)]
    few = {'{"gap": 1}': 1, '{"gap": 2}': 3}
    assert data._runs(few) == [({"gap": 1}, 1), ({"gap": 2}, 3)]
