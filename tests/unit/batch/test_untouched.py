"""What nobody has touched is current without a look into it; what anything was done to is looked into."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.batch import current, files
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.run import run
from gradviz_cli.batch.untouched import Untouched
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.images.listing import Inputs
from gradviz_cli.model.fingerprint import seal
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import outputs
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.targets import Target

DRAWING = {"modes": ("deconv", "guided"), "styles": ("heatmap", "gray"), "raw": True,
           "targets": (Target(rank=0), Target(index=3))}  # fmt: skip


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What files were read to find whether something is current: images, pictures, arrays."""
    found: list[str] = []

    def told(name: str, real: Callable) -> None:
        monkeypatch.setattr(current, name, lambda *given: (found.append(name), real(*given))[1])

    told("read", current.read)
    real = files.hash_file
    monkeypatch.setattr(files, "hash_file", lambda *given: (found.append("hash_file"), real(*given))[1])
    told("check_current", current.check_current)
    return found


def done(plan: Plan, folder: Path) -> dict[str, int]:
    return dict(run(plan, Inputs((folder,), plan.out)).counts)


ESTIMATED = {**DRAWING, "estimators": ("gradient", "input-x-gradient")}


@pytest.mark.parametrize("drawing", [{}, DRAWING, ESTIMATED], ids=["one picture", "many", "estimators"])
def test_nothing_is_read_of_what_nobody_has_touched(plan, images, explainers, looked, drawing: dict) -> None:
    folder, asked = images("good", "good"), plan(drawing)
    assert done(asked, folder) == {"written": 2}
    looked.clear()
    for _ in range(2):
        assert done(asked, folder) == {"current": 2} and looked == []
    lines = [json.loads(line) for line in (asked.out / "manifest.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-2]
    for name in ("outputs", "targets", "digest", "image_sha256", "image_stamp", "source"):
        same = sorted if name == "outputs" else lambda value: value
        assert same(first[name]) == same(last[name]), name
    assert len(explainers) == 3 and sum(one.loads for one in explainers) == 1


def test_each_of_many_gets_its_own_answer(plan, images, explainers, looked) -> None:
    folder, asked = images(*["good"] * 9), plan()
    done(asked, folder)
    (folder / "003.png").write_bytes((folder / "003.png").read_bytes() + b"x")
    next(asked.out.glob("006.png.*.png")).unlink()
    (folder / "008.png").rename(folder / "new.png")
    sieve = Untouched(
        asked, Digests(asked, seal(Path(asked.model.path)).fingerprint), asked.limits, Known.of(asked.out)
    )
    jobs = list(Inputs((folder,), asked.out).jobs())
    found = sieve.results([(job, outputs(asked, job, SHEETS)) for job in jobs])
    assert [one.image if one else None for one in found] == [
        None if job.rel in ("003.png", "006.png", "new.png") else job.name for job in jobs
    ]


def test_two_targets_that_are_one_class_are_told_apart_by_the_pictures(plan, images, explainers, looked) -> None:
    folder, asked = images("good"), plan({"targets": (Target(rank=0), Target(index=2))})
    done(asked, folder)
    looked.clear()
    assert done(asked, folder) == {"current": 1}
    assert done(asked, folder) == {"current": 1}


def test_runs_of_other_modes_into_one_folder(plan, images, explainers, looked) -> None:
    folder = images("good")
    for mode in ("guided", "deconv"):
        done(plan({"modes": (mode,)}), folder)
    looked.clear()
    for mode in ("guided", "deconv", "guided"):
        assert done(plan({"modes": (mode,)}), folder) == {"current": 1} and looked == []
    both = plan({"modes": ("guided", "deconv")})
    assert done(both, folder) == {"current": 1} and looked != []


def rewritten(out: Path, **changes: object) -> None:
    (line,) = map(json.loads, (out / "manifest.jsonl").read_text().splitlines())
    (out / "manifest.jsonl").write_text(json.dumps({**line, **changes}) + "\n")


def copied(path: Path) -> None:
    """The same bytes and times, and another file."""
    data, status = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


TOUCHES: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "image copied": ("current", lambda out, image: copied(image)),
    "picture copied": ("current", lambda out, image: copied(out / "001.png.guided.png")),
    "array copied": ("current", lambda out, image: copied(out / "001.png.guided.npy")),
    "image changed": ("written", lambda out, image: image.write_text("good 9")),
    "picture changed": ("written", lambda out, image: (out / "001.png.guided.png").write_bytes(b"x")),
    "array gone": ("written", lambda out, image: (out / "001.png.guided.npy").unlink()),
    "picture a folder": ("failed", lambda out, image: ((out / "001.png.guided.png").unlink(), (out / "001.png.guided.png").mkdir())),
    "another digest": ("current", lambda out, image: rewritten(out, digest="0" * 64)),
    "failed": ("current", lambda out, image: rewritten(out, status="zero", error={"kind": "zero"})),
    "another page": ("current", lambda out, image: rewritten(out, page=1)),
    "no targets": ("current", lambda out, image: rewritten(out, targets=[])),
    "strange targets": ("current", lambda out, image: rewritten(out, targets=[{"index": "2"}])),
    "strange outputs": ("written", lambda out, image: rewritten(out, outputs=["001.png.guided.png", 3, None, "x.npy"])),
    "an empty image": ("current", lambda out, image: rewritten(out, image_stamp=[0, 0, 0])),
    "no stamps": ("current", lambda out, image: rewritten(out, stamps=[1])),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOUCHES)
def test_what_was_touched_is_looked_into(plan, images, explainers, looked, kind: str) -> None:
    folder, asked = images("good"), plan({"raw": True})
    done(asked, folder)
    looked.clear()
    status, touch = TOUCHES[kind]
    touch(asked.out, folder / "001.png")
    assert done(asked, folder) == {status: 1} and looked != []


def test_what_is_larger_than_what_may_be_read_fails_as_ever(plan, images, explainers) -> None:
    folder, asked = images("good"), plan()
    done(asked, folder)
    assert done(replace(asked, max_file_size=3), folder) == {"failed": 1}


def test_other_options_and_force(plan, images, explainers) -> None:
    folder = images("good")
    done(plan(), folder)
    for asked in (plan({"clip": 90.0}), plan({"clip": 90.0}, force=True), plan({"clip": 90.0}, labels=("a", "b", "c"))):
        assert done(asked, folder) == {"written": 1}
