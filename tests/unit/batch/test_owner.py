"""OUT belongs to one model and one set of images."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.batch import owner
from gradviz_cli.batch.known import Model
from gradviz_cli.batch.manifest import MANIFEST
from gradviz_cli.batch.observer import Observer
from gradviz_cli.batch.run import run
from gradviz_cli.errors import GradvizError
from gradviz_cli.images.listing import Inputs
from gradviz_cli.plan.plan import Plan, Walk


class Words(Observer):
    """Keeps those that a run ended with."""

    said = ""

    def failure(self, error: GradvizError) -> None:
        self.said = str(error)


def ran(plan: Plan, *paths: Path, **more) -> tuple[int, str]:
    """Exit code, and the line that the run ended with."""
    words = Words()
    report = run(plan, Inputs(paths, plan.out, walk=plan.walk, **more), words)
    return int(report.exit_code(plan.allow_empty)), words.said


@pytest.fixture
def photos(tmp_path: Path):
    """Name of a folder, and a number that its `img.png` shows."""

    def make(name: str, number: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "img.png").write_text(f"good {number}")
        return folder

    return make


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["folder", "file", "list", "dry run", "another mode", "forced"])
def test_two_folders_that_hold_a_file_of_the_same_name(plan, photos, explainers, how: str) -> None:
    first, second = photos("a", 1), photos("b", 2)
    assert ran(plan(), first) == (0, "")
    before = content(plan().out)
    drawing = {"modes": ("deconv",)} if how == "another mode" else {}
    asked = plan(drawing, dry_run=how == "dry run", force=how == "forced")
    paths = {"file": (second / "img.png",), "list": ()}.get(how, (second,))
    listed = {"listed": lambda: iter([second / "img.png"])} if how == "list" else {}
    code, said = ran(asked, *paths, **listed)
    assert code == 2 and content(asked.out) == before
    for word in (
        first / "img.png",
        second / "img.png",
        plan().out / "img.png.guided.png",
        "--adopt",
        "--root",
        "--out",
    ):
        assert str(word) in said
    assert sum(one.loads for one in explainers) == 1


def test_it_is_found_before_any_work(plan, photos, tmp_path, explainers) -> None:
    """Though it is the last of many."""
    first = photos("a", 1)
    ran(plan(), first)
    second = photos("b", 2)
    for number in range(20):
        (second / f"{number:03}.png").write_text(f"good {number}")
    assert ran(plan(), second)[0] == 2
    assert len(explainers) == 1 and len(list(plan().out.glob("*.png"))) == 1


def test_what_is_adopted_stays_adopted(plan, photos, explainers) -> None:
    first, second = photos("a", 1), photos("b", 2)
    ran(plan(), first)
    assert ran(plan(adopt=True), second) == (0, "")
    assert ran(plan(), second) == (0, "")
    assert ran(plan(), first)[0] == 2


@pytest.mark.parametrize("later", ["nothing", "a photo changes", "the old folder is used again"])
def test_photos_that_moved_are_no_conflict(plan, photos, explainers, later: str) -> None:
    first = photos("a", 1)
    ran(plan(), first)
    shutil.move(first, first.with_name("moved"))
    assert ran(plan(), first.with_name("moved")) == (0, "")
    if later == "a photo changes":
        (first.with_name("moved") / "img.png").write_text("good 3")
        assert ran(plan(), first.with_name("moved")) == (0, "")
    elif later == "the old folder is used again":
        assert ran(plan(), photos("a", 4))[0] == 2


@pytest.mark.parametrize("what", ["changed", "linked", "unreadable", "failed", "no picture left", "damaged"])
def test_what_is_no_other_image(plan, photos, tmp_path, explainers, what: str) -> None:
    first = photos("a", 1)
    ran(plan(), first)
    folder = first
    if what == "changed":
        photos("a", 5)
    elif what == "linked":
        folder = tmp_path / "link"
        folder.symlink_to(first)
        photos("a", 5)
    elif what == "unreadable":
        folder = tmp_path / "b"
        (folder / "img.png").mkdir(parents=True)
        (folder / "img.png").rmdir()
        (folder / "img.png").symlink_to("nowhere")
    else:
        folder = photos("b", 2)
        if what == "failed":
            (folder / "img.png").write_text("bad 2")
            (plan().out / "img.png.guided.png").unlink()
        elif what == "no picture left":
            (plan().out / "img.png.guided.png").unlink()
        else:
            lines = [json.loads(line) for line in (plan().out / MANIFEST).read_text().splitlines()]
            (plan().out / MANIFEST).write_text(json.dumps({**lines[0], "image_sha256": "?"}) + "\n")
            (plan().out / "img.png.guided.png").write_bytes(b"?")
    code, said = ran(plan(), folder)
    assert code in (0, 4) and said == ""


def test_an_older_manifest_does_not_say_which_image_it_was_but_the_picture_does(plan, photos, explainers) -> None:
    first, second = photos("a", 1), photos("b", 2)
    ran(plan(), first)
    line = json.loads((plan().out / MANIFEST).read_text())
    for name in ("image_sha256", "image_stamp", "stamps", "model"):
        line.pop(name, None)
    (plan().out / MANIFEST).write_text(json.dumps(line) + "\n")
    assert ran(plan(), second)[0] == 2
    assert ran(plan(), first) == (0, "")


def test_several_machines_and_names_below_a_root(plan, photos, tmp_path, explainers) -> None:
    """Nothing of this puts two images under one name."""
    first, second = photos("all/a", 1), photos("all/b", 2)
    rooted = plan(walk=Walk(root=str(tmp_path / "all")))
    for folder in (first, second, first, tmp_path / "all"):
        assert ran(rooted, folder) == (0, "")
    assert ran(rooted, listed=lambda: iter([second / "img.png", first / "img.png"])) == (0, "")
    for part in (1, 2):
        alone = replace(rooted, out=tmp_path / f"out{part}")
        for _ in range(2):
            assert ran(alone, tmp_path / "all", shard=(part, 2))[1] == ""
    assert ran(plan(walk=Walk(root=str(tmp_path / "all"))), tmp_path / "all") == (0, "")


def test_relative_paths_are_compared_as_full_ones(plan, photos, tmp_path, explainers, monkeypatch) -> None:
    first = photos("a", 1)
    monkeypatch.chdir(tmp_path)
    ran(plan(), Path("a"))
    photos("a", 2)
    assert ran(plan(), first) == (0, "")
    second = photos("b", 3)
    monkeypatch.chdir(second)
    assert ran(plan(), Path("img.png"))[0] == 2


# ---- the model


def with_model(plan: Plan, path: Path, graph: bytes, typed: Path | None = None) -> Plan:
    path.mkdir(parents=True, exist_ok=True)
    (path / "saved_model.pb").write_bytes(graph)
    return replace(plan, model=replace(plan.model, path=str(path)), typed=str(typed or path))


def test_another_model(plan, photos, tmp_path, explainers) -> None:
    folder = photos("a", 1)
    ran(plan(), folder)
    before = content(plan().out)
    other = with_model(plan(), tmp_path / "other", b"another graph")
    for asked in (other, replace(other, dry_run=True), replace(other, force=True)):
        code, said = ran(asked, folder)
        assert code == 2 and content(plan().out) == before
        for word in (tmp_path / "model", tmp_path / "other", plan().out, "--adopt", "--out"):
            assert str(word) in said
    assert ran(replace(other, adopt=True), folder) == (0, "")
    assert ran(other, folder) == (0, "") and ran(plan(), folder)[0] == 2


@pytest.mark.parametrize("what", ["in place", "moved", "by a link", "no picture left", "unknown"])
def test_what_is_no_other_model(plan, photos, tmp_path, explainers, what: str) -> None:
    folder, model = photos("a", 1), tmp_path / "model"
    ran(plan(), folder)
    asked = plan()
    if what == "in place":
        (model / "saved_model.pb").write_bytes(b"trained further")
    elif what == "moved":
        asked = with_model(plan(), tmp_path / "moved", b"a graph")
    elif what == "by a link":
        (tmp_path / "link").symlink_to(model)
        asked = with_model(plan(), tmp_path / "link", b"trained further")
    elif what == "no picture left":
        (plan().out / "img.png.guided.png").unlink()
        asked = with_model(plan(), tmp_path / "other", b"another graph")
    else:
        line = json.loads((plan().out / MANIFEST).read_text())
        del line["model"]
        (plan().out / MANIFEST).write_text(json.dumps(line) + "\n")
        asked = with_model(plan(), tmp_path / "other", b"another graph")
    assert ran(asked, folder) == (0, "")


def test_what_the_demo_left_is_called_by_its_name(plan, photos, explainers) -> None:
    """Both have the same OUT by default."""
    assert ran(plan(), photos("a", 1))[0] == 0
    book = plan().out / MANIFEST
    lines = [json.loads(line) for line in book.read_text().splitlines()]
    for line in lines:
        if "model" in line:
            line["model"] |= {"path": "/x/gradviz_cli/demo/model", "typed": "demo", "fingerprint": "f" * 64}
    book.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, said = ran(plan(), photos("a", 1))
    assert code == 2 and said.startswith(
        f"{plan().out} holds pictures of `gradviz demo`, the model /x/gradviz_cli/demo/model, and "
    )


@pytest.mark.parametrize(
    ("before", "now", "fine"),
    [
        (("birds", "birds/1"), ("birds", "birds/2"), True),
        (("birds", "birds/1"), ("birds/2", "birds/2"), True),
        (("birds/1", "birds/1"), ("birds", "birds/2"), True),
        (("birds/1", "birds/1"), ("birds/2", "birds/2"), False),
        (("birds", "birds/1"), ("fish", "fish/1"), False),
        (("all", "all/birds"), ("all/fish", "all/fish"), False),
        (("current", "v1"), ("current", "v2"), True),
    ],
)
def test_versions_below_one_folder(plan, photos, tmp_path, explainers, before, now, fine: bool) -> None:
    folder = photos("a", 1)
    for number, (typed, path) in enumerate((before, now)):
        asked = with_model(plan(), tmp_path / path, b"graph %d" % number, tmp_path / typed)
        code, _ = ran(asked, folder)
        assert code == (0 if number == 0 or fine else 2)


def test_the_model_is_said_once(plan, photos, explainers) -> None:
    """Not again by a run that does nothing, nor in every line."""
    folder = photos("a", 1)
    (folder / "second.png").write_text("good 2")
    for _ in range(3):
        ran(plan(), folder)
    lines = [json.loads(line) for line in (plan().out / MANIFEST).read_text().splitlines()]
    assert [("model" in line) for line in lines] == [True] + [False] * 5
    assert Model(**lines[0]["model"]) == owner.model_of(plan(), lines[0]["model"]["fingerprint"])
