"""`--out cat.png`: one picture under a name of its own, and nothing beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from gradviz_cli.batch import single
from gradviz_cli.batch.planning import plan_from
from gradviz_cli.batch.run import results, run
from gradviz_cli.batch.single import folder_and_file
from gradviz_cli.draw.record import Record
from gradviz_cli.errors import OutputError, UsageError
from gradviz_cli.images.listing import Inputs
from gradviz_cli.plan.plan import Plan, Walk
from gradviz_cli.plan.results import Result

ASKED = "x.png"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "scratch"


@pytest.fixture
def one(plan: Callable[..., Plan]) -> Callable[..., Plan]:
    def make(drawing: dict | None = None, **more) -> Plan:
        asked = plan(drawing, **more)
        return replace(asked, out=asked.out.parent / "new", file=ASKED)

    return make


def drawn(asked: Plan, *paths: Path) -> list[Result]:
    return list(results(asked, Inputs(paths, asked.out)))


def test_a_name_of_a_picture_is_no_folder(plan, tmp_path: Path) -> None:
    (tmp_path / "is.png").mkdir()
    model = plan().model.path
    for typed, found in {
        "x.png": (Path(), "x.png"),
        "a/b/X.PNG": (Path("a/b"), "X.PNG"),
        "maps": (Path("maps"), ""),
        "is.png": (Path("is.png"), ""),  # a folder that is there
        "maps.v2": (Path("maps.v2"), ""),
    }.items():
        assert folder_and_file(Path(typed)) == found
        made = plan_from(model, typed)
        assert (made.out, made.file) == found
    with pytest.raises(UsageError, match="--out x.jpg: pictures are written as PNG; name it x.png"):
        plan_from(model, "x.jpg")


def test_one_picture_and_nothing_else(one, images, explainers, tmp_path: Path, scratch: Path) -> None:
    folder = images("good")
    (result,) = drawn(one(), folder / "001.png")
    assert (result.status, result.outputs) == ("written", (ASKED,))
    assert os.listdir(tmp_path / "new") == [ASKED] and not os.listdir(scratch)
    assert Record.read(tmp_path / "new" / ASKED).mode == "guided"
    (again,) = drawn(one({"modes": ("deconv",)}), folder)  # of a picture of gradviz; there is no manifest that knows it
    assert again.status == "written" and Record.read(tmp_path / "new" / ASKED).mode == "deconv"
    assert os.listdir(tmp_path / "new") == [ASKED]


def test_a_sheet_is_one_picture(one, images) -> None:
    asked = one({"modes": ("backprop", "guided"), "styles": ("panel",)}, dry_run=True)
    assert [result.outputs for result in drawn(asked, images("good"))] == [(ASKED,)]


def test_the_image_may_lie_beside_it(one, images, explainers) -> None:
    folder = images("good")
    (result,) = drawn(replace(one(), out=folder), folder)
    assert result.status == "written" and sorted(os.listdir(folder)) == ["001.png", ASKED]


@pytest.mark.parametrize(
    ("drawing", "said"),
    [
        ({"modes": ("backprop", "guided")}, "is one picture, and the options ask for 2"),
        ({"styles": ("heatmap", "panel")}, "is one picture, and the options ask for 2"),
        ({"raw": True}, "--raw adds an array"),
        ({}, "several images are given"),
    ],
)
def test_more_than_one_is_refused(one, images, explainers, drawing: dict, said: str) -> None:
    folder = images("good", "good")
    with pytest.raises(UsageError, match=said):
        drawn(one(drawing), folder / "001.png", *([] if drawing else [folder / "002.png"]))
    assert not one().out.exists() and not explainers


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize("styles", [("heatmap",), ("panel",)])
def test_pages_are_several_pictures(
    one, images, explainers, tmp_path: Path, dry: bool, styles: tuple[str, ...]
) -> None:
    scan, alone = tmp_path / "scan.tif", tmp_path / "alone.tif"
    pages = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue")]
    pages[0].save(scan, save_all=True, append_images=pages[1:])
    pages[0].save(alone)
    asked = one({"styles": styles}, walk=Walk(pages="all"), dry_run=dry)
    with pytest.raises(UsageError, match=r"one picture, and .*scan\.tif has several pages; leave out --pages all"):
        drawn(asked, scan)
    with pytest.raises(UsageError, match="several pages"):
        list(results(asked, Inputs((Path("/dev/stdin"),), asked.out, stdin=scan)))
    assert not asked.out.exists() and not explainers
    assert [result.outputs for result in drawn(replace(asked, dry_run=True), alone)] == [(ASKED,)]


def test_the_images_are_counted_as_the_run_finds_them(one, images) -> None:
    folder = images("good", "good", "good")
    (folder / "drafts").mkdir()
    (folder / "002.png").rename(folder / "drafts/002.png")
    for walk in (Walk(exclude=("drafts", "003.png")), Walk(include=("001.png",))):
        asked = one(walk=walk, dry_run=True)
        assert [Path(result.image).name for result in drawn(asked, folder)] == ["001.png"]


def test_shards_would_write_one_name(one, images, explainers) -> None:
    folder, asked = images("good", "good"), one()
    for shard in ((1, 7), (2, 7)):
        with pytest.raises(UsageError, match="several images are given"):
            list(results(asked, Inputs((folder,), asked.out, shard=shard)))
    assert not explainers


def test_an_image_that_comes_meanwhile_overwrites_nothing(one, images, explainers, monkeypatch) -> None:
    folder, asked = images("good"), one()
    check = single._check_one

    def and_then_another(*given) -> None:
        check(*given)
        (folder / "002.png").write_bytes((folder / "001.png").read_bytes())

    monkeypatch.setattr(single, "_check_one", and_then_another)
    with pytest.raises(UsageError, match=r"drawn of .*001\.png: .*002\.png has come since"):
        drawn(asked, folder)
    assert Record.read(asked.out / ASKED).mode == "guided"


def test_what_is_somebody_s_stays(one, images, explainers) -> None:
    folder, asked = images("good"), one()
    asked.out.mkdir()
    target = asked.out / ASKED
    target.write_bytes(b"a photo")
    with pytest.raises(OutputError, match="is there and is no picture of gradviz; move it away"):
        drawn(asked, folder)
    assert target.read_bytes() == b"a photo"
    target.unlink()
    for make, what in (
        (lambda: target.symlink_to("nowhere"), "a link"),
        (lambda: os.mkfifo(target), "no regular file"),
    ):
        make()
        with pytest.raises(OutputError, match=what):
            drawn(asked, folder)
        target.unlink()
    with pytest.raises(UsageError, match="is the image itself"):
        drawn(replace(asked, out=folder, file="001.png"), folder)
    assert not explainers


def test_an_image_that_fails_leaves_nothing(one, images, explainers, tmp_path: Path) -> None:
    (result,) = drawn(one(), images("bad"))
    assert (result.status, result.outputs) == ("failed", ()) and not (tmp_path / "new").exists()


def test_a_dry_run_names_it(one, images, explainers, tmp_path: Path) -> None:
    folder = images("good")
    (result,) = drawn(one(dry_run=True), folder)
    assert (result.status, result.outputs, result.why) == ("pending", (ASKED,), "new") and not (
        tmp_path / "new"
    ).exists()
    drawn(one(), folder)
    assert [result.why for result in drawn(one(dry_run=True), folder)] == ["drawn anew each time"]


def test_where_it_cannot_be_written(one, images, explainers, tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "new").write_text("a file")
    report = run(one(), Inputs((images("good"),), one().out))
    assert report.exit_code() == 7 and not os.listdir(scratch)
