"""A whole run from Python, with real pictures and an explainer that is none."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradviz_cli import api
from gradviz_cli.batch import pipeline
from gradviz_cli.batch.lock import LOCK, held
from gradviz_cli.batch.manifest import MANIFEST
from gradviz_cli.batch.manifest import read as lines
from gradviz_cli.batch.observer import Observer
from gradviz_cli.batch.run import results, run
from gradviz_cli.errors import GradvizError, GradvizWarning, Locked, ModelUnusable, TimeUp, UsageError
from gradviz_cli.files.whole import TEMPORARY
from gradviz_cli.images.listing import STDIN, Inputs
from gradviz_cli.model.fingerprint import of_model
from gradviz_cli.plan.outputs import SHARDS
from gradviz_cli.plan.plan import Plan, Walk
from gradviz_cli.plan.results import Report, Result
from gradviz_cli.plan.targets import Target


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))


class Notes(Observer):
    """Writes down what it is told, a word each."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.said: list[str] = []

    def started(self, jobs) -> None:
        self.heard.append(f"started {sum(1 for _ in jobs)}")

    def loaded(self, model) -> None:
        self.heard.append("loaded")

    def result(self, result: Result, report: Report) -> None:
        self.heard.append(f"{result.status} {report.total}")

    def failure(self, error: GradvizError) -> None:
        self.heard.append("failure")
        self.said.append(str(error))

    def warning(self, message: str) -> None:
        self.heard.append("warning")
        self.said.append(message)

    def ended(self, report: Report, seconds: float) -> None:
        self.heard.append("ended")
        assert seconds >= 0


def ran(plan: Plan, folder: Path, **more) -> tuple[int, list[str], list[str]]:
    """Exit code, what the observer heard, and what was said."""
    notes = Notes()
    report = run(plan, Inputs((folder,), plan.out, **more), notes)
    return int(report.exit_code(plan.allow_empty)), notes.heard, notes.said


def statuses(out: Path) -> list[str]:
    return [line["status"] for line in lines(out)]


def test_a_run_and_the_same_again(plan: Callable[..., Plan], images, explainers) -> None:
    folder, asked = images("good", "good", "good"), plan({"raw": True})
    code, heard, _ = ran(asked, folder)
    assert code == 0
    assert heard[0] == "started 3" and heard[-1] == "ended"
    assert [word for word in heard if word != "loaded"][1:-1] == ["written 1", "written 2", "written 3"]
    assert heard.count("loaded") == 1
    assert np.load(asked.out / "002.png.guided.npy").tolist() == np.full((4, 4, 3), 2.0).tolist()
    with Image.open(asked.out / "002.png.guided.png") as drawn:
        assert drawn.size == (4, 4)
    assert ran(asked, folder) == (0, ["started 3", "current 1", "current 2", "current 3", "ended"], [])
    assert explainers[1].loads == 0
    assert statuses(asked.out) == ["written"] * 3 + ["current"] * 3
    first, second = [line for line in lines(asked.out) if line["image"].endswith("001.png")]
    assert set(first["outputs"]) == set(second["outputs"]) == {"001.png.guided.png", "001.png.guided.npy"}
    assert first["targets"] == second["targets"] == [
        {"index": 2, "label": "two", "rank": 0, "score": 0.5, "output": 0.25},
    ]  # fmt: skip
    assert first["digest"] == second["digest"]
    assert (asked.out / LOCK).read_text() == ""


def test_a_worker_is_started_ahead_where_the_first_image_lacks_a_picture(plan, images, explainers, monkeypatch) -> None:
    folder = images("good", "good")

    def started(**more) -> list[int]:
        explainers.clear()
        ran(plan(**more), folder)
        return [one.ahead.started if one.ahead else 0 for one in explainers]

    assert started() == [0]  # its first bytes are no image's
    monkeypatch.setattr("gradviz_cli.batch.run.looks_like_image", lambda data: True)
    assert started() == [0]  # nothing to do
    assert started(force=True) == [1]
    next(plan().out.glob("001*")).unlink()
    assert started(dry_run=True) == []
    assert started(lock_wait=1) == [0]
    next(plan().out.glob("001*")).unlink()
    assert started() == [1] and explainers[0].closed and explainers[0].ahead.closed


def test_what_is_odd_about_images_is_said_once_each(plan, images, explainers) -> None:
    folder, asked = images("odd", "good", "odd"), plan()
    code, heard, said = ran(asked, folder)
    names = sorted(path.name for path in folder.iterdir())
    assert code == 0 and said == [
        f"{folder / names[0]}: it is odd",
        *(f"{folder / names[i]}: so is {i + 1}" for i in (0, 2)),
    ]
    assert [word for word in heard if word != "loaded"][1:4] == ["written 1", "warning", "warning"]
    assert ran(asked, folder)[2] == []  # current: nothing is decoded


def test_only_what_is_pending_is_done(plan, images, explainers) -> None:
    folder = images("good", "good")
    ran(plan(), folder)
    (folder / "001.png").write_text("good 9")
    (folder / "003.png").write_text("good 3")
    code, heard, _ = ran(plan(), folder)
    assert [word.split()[0] for word in heard if word[-1].isdigit()][1:] == ["written", "current", "written"]
    assert sorted(sum(explainers[1].batches, [])) == [3, 9] and code == 0


def test_more_styles_of_the_same_images(plan, images, explainers) -> None:
    folder = images("good")
    ran(plan(), folder)
    before = (plan().out / "001.png.guided.png").read_bytes()
    code, *_ = ran(plan({"styles": ("heatmap", "gray")}), folder)
    assert code == 0 and (plan().out / "001.png.guided.png").read_bytes() == before
    assert (plan().out / "001.png.guided.gray.png").exists()


@pytest.mark.parametrize(
    ("words", "more", "code", "expected"),
    [
        (["good", "bad"], {}, 3, ["written", "failed"]),
        (["bad", "no"], {}, 4, ["failed", "failed"]),
        (["zero", "good"], {}, 3, ["zero", "written"]),
        (["good", "last", "good", "good"], {"batch_size": 2}, 1, ["written", "written"]),
        (["bad", "good", "good"], {"fail_fast": True}, 3, ["failed"]),  # those that were not tried may be well
        (["good", "bad"], {"fail_fast": True}, 3, ["written", "failed"]),
        (["bad"], {"fail_fast": True}, 4, ["failed"]),
    ],
    ids=str,
)
def test_exit_codes_of_failures(plan, images, explainers, words, more, code, expected) -> None:
    assert ran(plan(**more), images(*words))[0] == code
    assert statuses(plan().out) == expected


def test_a_map_of_zeros_may_be_drawn(plan, images, explainers) -> None:
    folder = images("zero")
    assert ran(plan(), folder)[0] == 4 and not list(plan().out.glob("*.png"))
    assert ran(plan({"allow_empty_map": True}), folder)[0] == 0
    assert list(plan().out.glob("*.png"))


def test_no_image(plan, images, explainers) -> None:
    folder = images()
    code, heard, said = ran(plan(), folder)
    assert (code, heard) == (4, ["started 0", "warning", "ended"]) and "--allow-empty" in said[0]
    assert ran(plan(allow_empty=True), folder) == (0, ["started 0", "ended"], [])


def test_a_model_that_is_broken(plan, images, explainers, fake, monkeypatch) -> None:
    monkeypatch.setattr(fake, "unloadable", True)
    code, heard, said = ran(plan(), images("good"))
    assert (code, heard[-2:], said) == (5, ["failure", "ended"], ["the model is broken; mend it"])
    assert statuses(plan().out) == [] and (plan().out / LOCK).read_text() == ""


def test_what_is_wrong_before_it_starts(plan, images, explainers, tmp_path: Path) -> None:
    folder = images("good")
    assert ran(plan(), tmp_path / "nowhere") == (
        2, ["failure", "ended"], [f"no such file or folder: {tmp_path / 'nowhere'}; check the path"],
    )  # fmt: skip
    (tmp_path / "model" / "saved_model.pb").unlink()
    assert ran(plan(), folder)[:2] == (5, ["failure", "ended"])
    assert not plan().out.exists() and not explainers


def test_another_run_holds_the_folder(plan, images, explainers) -> None:
    folder = images("good")
    plan().out.mkdir()
    with open(plan().out / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ran(plan(), folder)[:2] == (11, ["failure", "ended"])
        assert ran(plan(lock_wait=100.0, max_duration=0.05), folder)[0] == 11
    assert ran(plan(), folder)[0] == 0


def test_the_time_is_up(plan, images, explainers, fake, monkeypatch) -> None:
    monkeypatch.setattr(fake, "seconds", 0.05)
    folder = images(*["good"] * 30)
    code, heard, said = ran(plan(batch_size=1, max_duration=0.3), folder)
    assert code == 8 and heard[-2:] == ["failure", "ended"] and "--max-duration" in said[0]
    done = [line["outputs"] for line in lines(plan().out)]
    assert sorted(sum(done, [])) == sorted(path.name for path in plan().out.glob("*.png"))
    monkeypatch.setattr(fake, "seconds", 0.0)
    assert ran(plan(), folder)[0] == 0
    assert len(list(plan().out.glob("*.png"))) == 30


def test_the_time_may_be_up_before_anything_is_known(plan, images, explainers) -> None:
    asked = plan(max_duration=1e-9)
    with pytest.raises(TimeUp):
        list(results(asked, Inputs((images("good"), asked.out.parent / "model"), asked.out)))


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_dry_run(plan, images, explainers, fail_fast: bool) -> None:
    folder = images("good", "good", "good")
    ran(plan(), folder)
    before = {path: path.read_bytes() for path in plan().out.iterdir()}
    (folder / "002.png").write_bytes(b"")
    (folder / "003.png").write_text("good 33")
    asked = plan({"styles": ("heatmap", "panel"), "raw": True}, dry_run=True, fail_fast=fail_fast)
    found = list(results(asked, Inputs((folder,), asked.out)))
    assert [(result.status, result.outputs) for result in found] == [
        ("pending", ("001.png.guided.npy", "001.png.guided.png", "001.png.panel.png")),
        ("failed", ()),
        ("pending", ("003.png.guided.npy", "003.png.guided.png", "003.png.panel.png")),
    ][: 2 if fail_fast else 3]
    assert {path: path.read_bytes() for path in plan().out.iterdir()} == before
    assert len(explainers) == 1


def test_a_dry_run_of_what_is_current(plan, images, explainers) -> None:
    folder = images("good", "good")
    ran(plan(), folder)
    assert ran(plan(dry_run=True), folder) == (0, ["current 1", "current 2", "ended"], [])


def test_an_image_from_stdin(plan, images, explainers, tmp_path: Path) -> None:
    """It may be another one each time, as a photo that changes in place; its outputs are no orphans."""
    copy, asked = tmp_path / "copy", plan()
    for text, status in (("good 1", "written"), ("good 1", "current"), ("good 2", "written"), ("bad 3", "failed")):
        copy.write_text(text)
        (result,) = results(asked, Inputs((STDIN, STDIN), asked.out, stdin=copy))
        assert (result.status, result.image) == (status, "/dev/stdin")
        assert result.outputs == (("stdin.guided.png",) if status != "failed" else ())
    assert {line["source"] for line in lines(asked.out)} == {"/dev/stdin"}
    folder = images("good")
    (folder / "001.png").rename(folder / "stdin")
    with pytest.raises(UsageError, match="would both be written as stdin"):
        list(results(asked, Inputs((STDIN, folder / "stdin"), asked.out, stdin=copy)))


def test_a_dry_run_needs_no_folder(plan, images, explainers) -> None:
    assert ran(plan(dry_run=True), images("good")) == (0, ["pending 1", "ended"], [])
    assert not plan().out.exists()


def test_results_one_by_one_for_who_stops_early(plan, images, explainers) -> None:
    asked = plan(batch_size=1)
    with closing(results(asked, Inputs((images(*["good"] * 20),), asked.out))) as found:
        first = next(found)
        assert (asked.out / first.outputs[0]).exists() and statuses(asked.out)[0] == "written"
    assert explainers[0].closed and (asked.out / LOCK).read_text() == ""
    assert not [path for path in asked.out.iterdir() if path.name.startswith(TEMPORARY)]
    assert ran(asked, asked.out.parent / "images")[0] == 0


def test_what_ends_a_run_is_raised_for_who_takes_results(plan, images, explainers, fake, monkeypatch) -> None:
    folder = images("good")
    with pytest.raises(UsageError):
        next(results(plan(), Inputs((folder / "none",), plan().out)))
    plan().out.mkdir()
    with open(plan().out / LOCK, "w") as lock, pytest.raises(Locked):
        fcntl.flock(lock, fcntl.LOCK_EX)
        next(results(plan(), Inputs((folder,), plan().out)))
    monkeypatch.setattr(fake, "unloadable", True)
    with pytest.raises(ModelUnusable):
        next(results(plan(), Inputs((folder,), plan().out)))


def test_a_signal_leaves_the_folder_in_order(plan, images, explainers) -> None:
    class Interrupts(Observer):
        def result(self, result: Result, report: Report) -> None:
            raise KeyboardInterrupt

    asked = plan(batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        run(asked, Inputs((images(*["good"] * 9),), asked.out), Interrupts())
    assert explainers[0].closed and (asked.out / LOCK).read_text() == ""
    listed = {name for line in lines(asked.out) for name in line["outputs"]}
    assert listed == {path.name for path in asked.out.glob("*.png")}


def test_a_killed_run_is_cleaned_up_after(plan, images, explainers) -> None:
    folder = images("good")
    ran(plan(), folder)
    (plan().out / LOCK).write_text("process 1 on moon")
    (plan().out / MANIFEST).unlink()
    left = plan().out / "deep" / f"{TEMPORARY}{'0' * 16}.tmp"
    left.parent.mkdir()
    left.touch()
    assert ran(plan(), folder)[0] == 0
    assert not left.exists()
    (line,) = lines(plan().out)
    assert line["status"] == "written" and line["sha256"].keys() == {"001.png.guided.png"}  # so prune knows it


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ({}, {}),
        ({"trust_model": True}, {"trust_model": True}),
        ({"allow_ops": ("B", "A")}, {"allow_ops": ["B", "A"]}),
    ],
    ids=str,
)
def test_fewer_safeguards_are_written_down(plan, images, explainers, model: dict, kept: dict) -> None:
    asked = replace(plan(), model=replace(plan().model, **model))
    ran(asked, images("good"))
    (line,) = lines(asked.out)
    assert {name: line[name] for name in line if name in ("trust_model", "allow_ops")} == kept


def test_shards_and_lists(plan, images, explainers) -> None:
    folder = images(*["good"] * 12)
    parts = [ran(plan(), folder, shard=(i, 3))[1][0] for i in (1, 2, 3)]
    assert sum(int(part.split()[1]) for part in parts) == 12
    names = [folder / "001.png", folder / "gone.png"]
    notes = Notes()
    report = run(plan(), Inputs((), plan().out, lambda: iter(names)), notes)
    assert report.counts == {"current": 1, "failed": 1}


def test_a_shard_without_an_image_has_nothing_to_do(plan, images, explainers, tmp_path) -> None:
    """The task of an array is no failure for it, unless there are no images at all."""
    folder = images("good")
    ends = [ran(plan(), folder, shard=(i, 3)) for i in (1, 2, 3)]
    assert [code for code, _, _ in ends] == [0, 0, 0] and not any(said for _, _, said in ends)
    assert sum(heard.count("loaded") for _, heard, _ in ends) == 1 and not (plan().out / SHARDS).exists()
    (tmp_path / "empty").mkdir()
    code, _, said = ran(plan(), tmp_path / "empty", shard=(1, 3))
    assert code == 4 and "no image was found" in said[0]


def test_a_shard_of_another_model_is_refused_beside_those_that_wrote(plan, images, explainers, tmp_path) -> None:
    folder, asked = images(*["good"] * 12), plan()
    with held(asked.out, 0, (3, 3)):  # so that nothing is merged yet
        assert ran(asked, folder, shard=(1, 3))[0] == 0 and not (asked.out / MANIFEST).read_bytes()
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "saved_model.pb").write_bytes(b"another graph")
        other = replace(asked, model=replace(asked.model, path=str(tmp_path / "other")))
        code, _, said = ran(other, folder, shard=(2, 3))
        assert code == 2 and "is another" in said[0]
        assert ran(asked, folder, shard=(1, 3))[1].count("loaded") == 0
    assert ran(asked, folder)[0] == 0 and not (asked.out / SHARDS).exists()
    assert {line["status"] for line in lines(asked.out)} == {"written", "current"}


def test_an_observer_may_be_left_out(plan, images, explainers) -> None:
    assert run(plan(), Inputs((images("good"),), plan().out)).counts == {"written": 1}


def test_a_bug_is_no_result(plan, images, explainers, monkeypatch) -> None:
    monkeypatch.setattr(pipeline.Pipeline, "_published", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(plan(), Inputs((images("good"),), plan().out))
    assert explainers[0].closed


def test_who_takes_results_one_by_one_is_told_of_the_end_too(plan, images, explainers, fake, monkeypatch) -> None:
    folder, notes = images("good", "good"), Notes()
    assert len(list(results(plan(), Inputs((folder,), plan().out), notes))) == 2
    assert notes.heard[-1] == "ended" and "failure" not in notes.heard
    stopped = Notes()
    with closing(results(plan(force=True), Inputs((folder,), plan().out), stopped)) as found:
        next(found)
    assert stopped.heard[-1] == "ended" and "failure" not in stopped.heard
    monkeypatch.setattr(fake, "unloadable", True)
    broken = Notes()
    with pytest.raises(ModelUnusable):
        list(results(plan(force=True), Inputs((folder,), plan().out), broken))
    assert broken.heard[-2:] == ["failure", "ended"]
    assert len(broken.said) == 1 and "the model is broken" in broken.said[0]


def test_from_python_warnings_are_pythons(plan, images, explainers) -> None:
    folder = images("good")
    with pytest.warns(GradvizWarning, match="be warned") as said:
        assert [one.status for one in api.run(plan(), folder)] == ["written"]
    assert len(said) == 1
    with pytest.warns(GradvizWarning, match="no image"):
        assert list(api.run(plan(), [])) == []
    notes = Notes()
    assert len(list(api.run(plan(force=True), folder, observer=notes))) == 1  # told once, and not as a warning as well
    assert notes.heard[-1] == "ended"


@pytest.mark.parametrize("given", [None, b"a.png", [3], [None]], ids=repr)
def test_images_are_paths(plan, explainers, given) -> None:
    with pytest.raises(UsageError, match="images: an? .* is no path"):
        list(api.run(plan(), given))
    assert explainers == []


LABELS = ("cat", "dog", "owl")


def test_labels_that_change_redo_what_shows_them(plan, images, explainers) -> None:
    """The class that is shown is 2."""
    folder = images("good", "good")
    out = plan().out
    for labels, word in (
        ((), "written"),
        (LABELS, "written"),
        (("Cat", "dog", "owl"), "current"),
        (("Cat", "dog", "eagle"), "written"),
    ):
        ran(plan(labels=labels), folder)
        assert statuses(out)[-2:] == [word, word], labels
    ran(plan(labels=("Cat", "dog", "eagle", "fox")), folder)  # another file: what is 2 in it may be another class
    assert statuses(out)[-2:] == ["written", "written"]
    assert list(lines(out))[-1]["targets"][0]["label"] == "eagle"


def test_each_image_is_explained_for_the_class_of_its_folder(plan, images, explainers) -> None:
    folder = images("good", "good", "good", "good")
    for name, number in (("dog", 2), ("dog", 3), ("Owl", 4)):
        (folder / name).mkdir(exist_ok=True)
        (folder / f"{number:03}.png").rename(folder / name / f"{number:03}.png")
    (folder / "cat").mkdir()
    (folder / "001.png").rename(folder / "cat" / "001.png")
    asked = plan({"targets": (Target(parent=True), Target(index=1))}, labels=LABELS, batch_size=4)
    code, _, said = ran(asked, folder)
    assert code == 3
    found = {line["image"].rsplit("/", 2)[-2]: line for line in lines(asked.out)}
    assert [one["index"] for one in found["cat"]["targets"]] == [0, 1]
    assert [one["index"] for one in found["dog"]["targets"]] == [1]  # asked for twice, explained once
    assert sorted(path.name for path in asked.out.glob("*/*.png")) == [
        "001.png.guided.0.png", "001.png.guided.1.png", "002.png.guided.1.png", "003.png.guided.1.png",
    ]  # fmt: skip
    assert found["Owl"]["error"]["kind"] == "target" and found["Owl"]["error"]["message"].endswith("did you mean owl?")
    assert explainers[0].batches == [[1], [2, 3]]
    assert ran(asked, folder)[0] == 3 and statuses(asked.out)[-4:].count("current") == 3
    dry = plan({"targets": (Target(parent=True), Target(index=1))}, labels=LABELS, dry_run=True)
    assert ran(dry, folder)[0] == 3


def test_numbers_in_place_of_a_preset_are_written_down(plan, images, explainers) -> None:
    asked = plan()
    model = replace(asked.model, pixel_range=(0.0, 1.0), mean=(0.5,), channel_order="bgr")
    ran(replace(asked, model=model), images("good"))
    (line,) = lines(asked.out)
    assert (line["pixel_range"], line["mean"], line["channel_order"]) == ([0, 1], [0.5], "bgr") and "std" not in line


def test_what_is_left_out_is_said_to_who_looks_on(plan, images, explainers) -> None:
    folder, said = images("good"), []

    class Looking(Notes):
        def detail(self, message: str) -> None:
            said.append(message)

    (folder / "notes.txt").touch()
    run(plan(), Inputs((folder,), plan().out), Looking())
    assert said == ["left out: 1 file is not named as an image (.txt)"]


def test_the_walk_is_that_of_the_plan(plan, images, explainers) -> None:
    folder = images("good", "good")
    asked = plan(walk=Walk(exclude=("001*",), root=str(folder.parent)))
    assert ran(asked, folder)[0] == 0
    assert [line["outputs"] for line in lines(asked.out)] == [["images/002.png.guided.png"]]
    code, _, said = ran(plan(walk=Walk(include=("*.jpg",))), folder)
    assert code == 4 and said == ["no image was found: 2 do not match --include; --allow-empty makes that a success"]


def test_names_that_the_file_system_of_out_takes_for_one(plan, images, explainers, monkeypatch) -> None:
    folder = images("good")
    (folder / "a.png").write_text("good 7")
    (folder / "A.png").write_text("good 8")
    monkeypatch.setattr("gradviz_cli.batch.store.folding", lambda out: str.casefold)
    code, heard, (said,) = ran(plan(), folder)
    assert code == 2 and heard == ["failure", "ended"] and "A.png and " in said and "rename one" in said
    assert not plan().out.exists() and ran(plan(dry_run=True), folder)[0] == 0


def test_a_link_below_out_costs_its_images_and_no_others(plan, images, explainers, tmp_path) -> None:
    folder = images("good")
    (folder / "sub").mkdir()
    (folder / "sub" / "b.png").write_text("good 5")
    (tmp_path / "elsewhere").mkdir()
    plan().out.mkdir()
    (plan().out / "sub").symlink_to(tmp_path / "elsewhere")
    assert ran(plan(), folder)[0] == 3 and list((tmp_path / "elsewhere").iterdir()) == []
    assert statuses(plan().out) == ["written", "failed"]


def photo_folder(photos: Path) -> list[str]:
    """A folder as a NAS, a phone, two cameras, Lightroom and other programs leave it; the names of its photos."""
    mine = ["100CANON/IMG_1.JPG", "2024/Urlaub \u00e9t\u00e9/IMG_2.jpeg", "scan.TIF", "IMG_3(1).png"]
    others = [
        *("100CANON/IMG_1.CR3", "100CANON/IMG_1.XMP", "100CANON/MVI_9.MP4", "100CANON/MVI_9.THM"),
        *("IMG_5.MOV", "IMG_5.AAE", "DSC_1.NEF", "DSC_1.NEF.xmp", ".DS_Store", "._IMG_3(1).png", "Thumbs.db"),
        *("desktop.ini", "ehthumbs.db", "notes.txt", "IMG_1.jpg.json", "Picasa.ini", "IMG_6.jpg.part", "Icon\r"),
        *("@eaDir/scan.TIF/SYNOPHOTO_THUMB_XL.jpg", "2024/@eaDir/x.jpg", "#recycle/old.jpg", "@Recycle/old.jpg"),
        *("$RECYCLE.BIN/S-1-5/$R1.jpg", "System Volume Information/x.png", "__MACOSX/._IMG_3.png", "__MACOSX/b.png"),
        *("Catalog Previews.lrdata/1/2.jpg", "Catalog.lrcat", "DCIM/.thumbnails/1.jpg", ".picasaoriginals/IMG_3.png"),
        *("lost+found/7.jpg", "_gsdata_/x.jpg", "features.npy", "empty/.nomedia"),
    ]
    for number, name in enumerate([*mine, *others], 1):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_text(f"good {number}")
    (photos / "album").symlink_to(photos / "2024")
    if find_spec("pillow_heif") is None:  # with that extra a photo as well
        (photos / "IMG_5.HEIC").write_text("good 0")
    return sorted(mine)


def test_three_nights_of_a_photo_folder(plan, images, explainers, tmp_path) -> None:
    """Every photo once, whatever lies beside it, and the outputs of other runs below it; with nothing to say."""
    photos = tmp_path / "photos"
    mine = photo_folder(photos)
    outs = {"guided": photos / "maps", "deconv": photos / "2024" / "other maps", "backprop": tmp_path / "outside"}
    for night in range(3):
        for mode, out in outs.items():
            asked = replace(plan({"modes": (mode,), "raw": True}), out=out)
            code, heard, said = ran(asked, photos)
            assert (code, said) == (0, []) and heard[0] == f"started {len(mine)}"
            assert statuses(out)[-len(mine) :] == ["current" if night else "written"] * len(mine)
            drawn = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
            assert drawn == [f"{name}.{mode}.png" for name in mine]
    assert sum(explainer.loads for explainer in explainers) == len(outs)


def test_the_worker_is_told_which_model_the_digests_are_of(explainers, images, plan, tmp_path):
    ran(plan(), images("good"))
    digests = {line["digest"] for line in lines(plan().out)}
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"another graph")
    ran(plan(), tmp_path / "images")
    first, second = (one.seal.fingerprint for one in explainers)
    assert first != second and digests != {line["digest"] for line in lines(plan().out)}
    assert second == of_model(tmp_path / "model")
