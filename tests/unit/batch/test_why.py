"""Why a picture would be drawn again: each reason is made, and is the only one that is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.batch.manifest import MANIFEST
from gradviz_cli.batch.run import results, run
from gradviz_cli.draw import record
from gradviz_cli.images.listing import Inputs
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.targets import Target

ONE = "001.png.guided.png"


@pytest.fixture
def drawn(plan: Callable[..., Plan], images, explainers) -> tuple[Callable[..., Plan], Path, Path]:
    """How to plan, what was drawn of, and where to."""
    folder = images("good", "good")
    assert run(plan(), Inputs((folder,), plan().out)).exit_code() == 0
    return plan, folder, plan().out


def reasons(asked: Plan, folder: Path) -> list[str]:
    found = results(replace(asked, dry_run=True), Inputs((folder,), asked.out))
    return [result.why for result in found]


def test_nothing_is_to_be_said_of_what_is_current(drawn) -> None:
    plan, folder, _ = drawn
    assert reasons(plan(), folder) == ["", ""]


def test_what_is_foreseen_is_what_a_run_writes(plan, images, explainers) -> None:
    """In the same order, arrays included."""
    targets, styles = (Target(rank=0), Target(rank=1)), ("heatmap", "gray")
    asked = plan({"modes": ("backprop", "guided"), "targets": targets, "styles": styles, "raw": True})
    folder = images("good")
    foreseen = [result.outputs for result in results(replace(asked, dry_run=True), Inputs((folder,), asked.out))]
    assert foreseen == [result.outputs for result in results(asked, Inputs((folder,), asked.out))]
    assert any(name.endswith(".npy") for name in foreseen[0])


def test_what_happened_to_images_and_model(drawn) -> None:
    plan, folder, _ = drawn
    (folder / "001.png").write_text("good 9")
    (folder / "003.png").write_text("good 3")
    assert reasons(plan(), folder) == ["image changed", "", "new"]
    (Path(plan().model.path) / "saved_model.pb").write_bytes(b"another graph")
    assert reasons(plan(), folder) == ["image changed, model changed", "model changed", "new"]


def test_what_happened_in_out(drawn) -> None:
    plan, folder, out = drawn
    whole = (out / ONE).read_bytes()
    (out / ONE).unlink()
    assert reasons(plan(), folder) == ["missing", ""]
    (out / ONE).write_bytes(whole[:-20])
    assert reasons(plan(), folder) == ["picture changed since it was written", ""]
    (out / ONE).write_bytes(b"")
    assert reasons(plan(), folder) == ["picture changed since it was written", ""]
    (out / ONE).write_bytes(whole)
    assert reasons(plan(), folder) == ["", ""]
    (out / MANIFEST).unlink()
    assert reasons(plan(), folder) == ["not in the manifest"] * 2


def test_what_is_asked_for(drawn) -> None:
    plan, folder, _ = drawn
    assert reasons(plan(force=True), folder) == ["--force"] * 2
    assert reasons(plan({"clip": 90.0, "size": "input"}), folder) == ["option changed (--clip, --size)"] * 2
    assert reasons(plan({"modes": ("guided", "deconv")}), folder) == ["new"] * 2
    assert reasons(plan({"raw": True}), folder) == ["new array"] * 2
    assert reasons(plan(labels=("a", "b", "c")), folder) == ["label changed"] * 2
    asked = plan()
    assert (
        reasons(replace(asked, model=replace(asked.model, precision="bfloat16")), folder)
        == ["option changed (--precision)"] * 2
    )


def test_arrays(plan, images, explainers) -> None:
    folder, asked = images("good", "good"), plan({"raw": True})
    run(asked, Inputs((folder,), asked.out))
    (asked.out / "001.png.guided.npy").unlink()
    (asked.out / "002.png.guided.npy").write_bytes(b"x")
    assert reasons(asked, folder) == ["array missing", "array changed since it was written"]


def test_another_version(plan, images, explainers, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = images("good")
    with pytest.MonkeyPatch.context() as before:
        before.setattr(record, "__version__", "0.0.1")
        before.setattr("gradviz_cli.plan.digests.DRAWING_VERSION", 1)
        run(plan(), Inputs((folder,), plan().out))
    assert reasons(plan(), folder) == ["drawn by another version"]
