"""The stages, one by one and joined, with an explainer that is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.batch import pipeline, stages
from gradviz_cli.batch.current import Read
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.batch.manifest import read as lines
from gradviz_cli.batch.stages import Prepared
from gradviz_cli.draw.pictures import Context, Drawn, Source
from gradviz_cli.errors import GradvizError, ImageError, ModelUnusable, OutputError, TimeUp, UsageError
from gradviz_cli.files import whole
from gradviz_cli.images.fit import Geometry
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result
from gradviz_cli.process import machine


@pytest.fixture(autouse=True)
def draw(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of a picture a file of two bytes; the names in the order in which they were drawn."""
    drawn: list[str] = []

    def fake_draw(context: Context, source: Source, found: Attribution, outputs, seconds: float) -> Drawn:
        value = float(found.maps["guided"].max())
        files = tuple(whole.stage(output.path, b"ok", sync=False) for output in outputs)
        drawn.append(source.job.rel)
        names = tuple(output.path.name for output in outputs)
        return Drawn(Result(source.job.rel, "written", names, found.targets, digest=f"{value:g}"), files)

    monkeypatch.setattr(stages.pictures, "draw", fake_draw)
    return drawn


@pytest.fixture
def kept(plan: Callable[..., Plan]) -> Iterator[Manifest]:
    plan().out.mkdir()
    opened = Manifest(plan().out)
    yield opened
    opened.close(sync=False)


def jobs(folder: Path) -> list[Job]:
    return [Job(path, path.name) for path in sorted(folder.iterdir())]


def ran(plan: Plan, todo, kept: Manifest, loaded=lambda model: None, end: float | None = None) -> list[Result]:
    return list(pipeline.results(plan, todo, Digests(plan, "f"), loaded, kept, Known(), end))


def statuses(results: list[Result]) -> str:
    """The first letters, in order."""
    return "".join(result.status[0] for result in results)


def test_results_come_in_the_order_of_jobs(plan, images, explainers, kept) -> None:
    folder = images("slow", "good", "bad", "good", "no", "slow", "good")
    results = ran(plan(jobs=4, batch_size=3), jobs(folder), kept)
    assert [Path(result.image).name for result in results] == [f"{i:03}.png" for i in range(1, 8)]
    assert statuses(results) == "wwfwfww"
    assert [result.digest for result in results] == ["1", "2", None, "4", None, "6", "7"]  # each its own map
    assert [result.error and result.error["kind"] for result in results] == [
        None, None, "damaged", None, "model", None, None,
    ]  # fmt: skip
    assert [line["image"] for line in lines(plan().out)] == [result.image for result in results]


def test_no_image_waits_until_many_others_are_listed(plan, images, explainers, kept) -> None:
    """Of a slow listing; later on many are looked at together, and many more ahead."""
    listed: list[int] = []
    parts = pipeline.Parts(listed.append(one) or one for one in range(1000))  # type: ignore[misc]
    ahead = [(len(part), parts.ahead(), len(listed)) for part in parts]
    assert ahead[:3] == [(1, 0, 1), (2, 0, 3), (4, 0, 7)]
    assert {one[0] for one in ahead[7:-1]} == {64} and ahead[-2][1] == 8 and sum(one[0] for one in ahead) == 1000

    def until_first_is_read(folder: Path) -> Iterator[Job]:
        first, *others = jobs(folder)
        yield first
        for one in others:
            assert read.wait(20), "the first image waits for the others"
            yield one

    read = threading.Event()
    plan_, explain = plan(jobs=1, batch_size=1), stages.Decoding.source
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.Decoding, "source", lambda *given: (explain(*given), read.set())[0])
        assert statuses(ran(plan_, until_first_is_read(images("good", "good", "good")), kept)) == "www"


def test_batches_are_full_of_images_that_have_pixels(plan, images, explainers, kept) -> None:
    ran(plan(batch_size=3), jobs(images("good", "bad", "good", "bad", "good", "good", "good")), kept)
    assert explainers[0].batches == [[1, 3, 5], [6, 7]]


def test_the_model_is_loaded_once_and_by_the_thread_that_differentiates(plan, images, explainers, kept) -> None:
    seen: list[object] = []
    ran(plan(), jobs(images(*["good"] * 6)), kept, seen.append)
    (explainer,) = explainers
    assert seen == [explainer] and explainer.loads == 1 and explainer.closed
    assert len(explainer.threads) == 1


def test_nothing_to_differentiate_needs_no_model(plan, images, explainers, kept) -> None:
    gone = [Job(Path("/nowhere/x.png"), "x.png"), Job(Path("y"), "y", "the folder cannot be listed")]
    results = ran(plan(), gone, kept, lambda model: pytest.fail("it was loaded"))
    assert statuses(results) == "ff" and explainers[0].loads == 0


def test_no_jobs(plan, explainers, kept) -> None:
    assert ran(plan(), [], kept) == [] and explainers[0].loads == 0


def test_a_model_that_cannot_be_loaded_ends_the_run(plan, images, explainers, kept, fake, monkeypatch) -> None:
    monkeypatch.setattr(fake, "unloadable", True)
    with pytest.raises(ModelUnusable, match="the model is broken"):
        ran(plan(), jobs(images("good", "good")), kept)
    assert list(lines(plan().out)) == [] and explainers[0].closed


def test_a_model_that_cannot_be_loaded_ends_the_run_though_no_image_got_so_far(
    plan, images, explainers, kept, fake, monkeypatch
) -> None:
    monkeypatch.setattr(fake, "unloadable", True)
    monkeypatch.setattr(stages, "expected_geometry", lambda plan: Geometry(4, 4, 3, "stretch"))
    with pytest.raises(ModelUnusable):
        ran(plan(), jobs(images("bad", "bad")), kept)


def test_a_style_that_the_channels_do_not_allow_is_refused(plan, images, explainers, kept, fake, monkeypatch) -> None:
    monkeypatch.setattr(fake, "facts", replace(fake.facts, channels=4))
    with pytest.raises(UsageError, match="--style rgb"):
        ran(plan({"styles": ("rgb",)}), jobs(images("good")), kept)


def test_what_was_found_before_the_end_stands(plan, images, explainers, kept) -> None:
    folder = images("good", "good", "good", "last", "good", "good", "good")
    found: list[Result] = []
    with pytest.raises(GradvizError, match="nothing goes any more"):
        for result in pipeline.results(plan(), jobs(folder), Digests(plan(), "f"), lambda model: None, kept, Known()):
            found.append(result)
    assert statuses(found) == "wwww"
    assert len(list(plan().out.glob("*.png"))) == 4 and len(list(lines(plan().out))) == 4


def test_images_fitted_to_a_wrong_guess_are_read_again(plan, images, explainers, kept, monkeypatch) -> None:
    monkeypatch.setattr(stages, "expected_geometry", lambda plan: Geometry(8, 2, 3, "stretch"))
    results = ran(plan(jobs=1, batch_size=3), jobs(images("good", "good", "good")), kept)
    assert [result.digest for result in results] == ["1", "2", "3"]
    assert explainers[0].decoded.count(1) == 2


def test_a_right_guess_saves_the_second_reading(plan, images, explainers, kept, monkeypatch) -> None:
    monkeypatch.setattr(stages, "expected_geometry", lambda plan: Geometry(4, 4, 3, "stretch"))
    ran(plan(), jobs(images("good", "good")), kept)
    assert sorted(explainers[0].decoded) == [1, 2]


def test_fail_fast_stops_at_the_first_failure(plan, images, explainers, kept, draw) -> None:
    folder = images("good", "bad", *["good"] * 20)
    results = ran(plan(fail_fast=True), jobs(folder), kept)
    assert statuses(results) == "wf" and len(list(lines(plan().out))) == 2
    assert len(list(plan().out.glob("*.png"))) == 1
    assert len(draw) < 20 and not whole._unpublished


def test_the_time_is_up(plan, images, explainers, kept, fake, monkeypatch) -> None:
    monkeypatch.setattr(fake, "seconds", 0.05)
    found: list[Result] = []
    with pytest.raises(TimeUp, match="--max-duration"):
        todo = jobs(images(*["good"] * 40))
        end = time.monotonic() + 0.3
        for result in pipeline.results(
            plan(batch_size=1), todo, Digests(plan(), "f"), lambda model: None, kept, Known(), end
        ):  # fmt: skip
            found.append(result)
    assert 0 < len(found) < 40
    assert len(list(lines(plan().out))) == len(list(plan().out.glob("*.png"))) >= len(found)
    assert explainers[0].closed and not whole._unpublished


@pytest.mark.parametrize("most", [1, 2**28])
def test_whoever_stops_early_leaves_nothing_behind(plan, images, explainers, kept, monkeypatch, most: int) -> None:
    """Also those that wait for room."""
    monkeypatch.setattr(pipeline, "MOST_HELD", most)
    threads = threading.active_count()
    found = pipeline.results(
        plan(), jobs(images(*["good"] * 30)), Digests(plan(), "f"), lambda model: None, kept, Known()
    )
    with closing(found):
        assert next(found).status == "written"
    assert explainers[0].closed and not whole._unpublished
    listed = {name for line in lines(plan().out) for name in line["outputs"]}
    assert listed == {path.name for path in plan().out.glob("*.png")}
    until = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= threads


def test_a_disk_that_is_full_while_drawing_ends_the_run(plan, images, explainers, kept, monkeypatch) -> None:
    real = stages.pictures.draw

    def full(context, source, found, outputs, seconds):
        if source.job.rel == "003.png":
            error = OutputError("the disk is full", "make room")
            error.__cause__ = OSError(28, "No space left on device")
            raise error
        return real(context, source, found, outputs, seconds)

    monkeypatch.setattr(stages.pictures, "draw", full)
    with pytest.raises(OutputError, match="the disk is full"):
        ran(plan(), jobs(images(*["good"] * 9)), kept)
    names = [Path(line["image"]).name for line in lines(plan().out)]
    assert names[:3] == ["001.png", "002.png", "004.png"]  # of its batch the others stand


def test_an_output_that_cannot_be_written_costs_one_image(plan, images, explainers, kept, monkeypatch) -> None:
    real = stages.pictures.draw

    def taken(context, source, found, outputs, seconds):
        if source.job.rel == "002.png":
            raise OutputError("its name is taken", "move it")
        return real(context, source, found, outputs, seconds)

    monkeypatch.setattr(stages.pictures, "draw", taken)
    results = ran(plan(), jobs(images("good", "good", "good")), kept)
    assert statuses(results) == "wfw"
    assert results[1].error == {"kind": "output", "message": "its name is taken; move it"}


def test_a_bug_in_a_stage_is_raised(plan, images, explainers, kept, monkeypatch) -> None:
    monkeypatch.setattr(stages.pictures, "draw", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ran(plan(), jobs(images("good")), kept)
    assert explainers[0].closed


@pytest.mark.parametrize("most", [1, 100, 10**9])
def test_any_budget_lets_a_run_through(plan, images, explainers, kept, monkeypatch, most: int) -> None:
    """48 bytes an image: nothing, two or all of them fit."""
    monkeypatch.setattr(pipeline, "MOST_HELD", most)
    made: list[pipeline.Budget] = []
    real = pipeline.Budget
    monkeypatch.setattr(pipeline, "Budget", lambda size: made.append(real(size)) or made[-1])
    folder = images(*["slow", "good", "bad", "no"] * 6)
    assert statuses(ran(plan(jobs=4, batch_size=4), jobs(folder), kept)) == "wwff" * 6
    assert made[0].held == 0


def test_how_far_it_reads_ahead(plan, explainers, kept) -> None:
    def differentiator(**more) -> stages.Differentiator:
        asked = plan(**more)
        found = pipeline.pipeline(asked, Digests(asked, "f"), lambda model: None, kept, Known()).differentiator
        return found

    assert differentiator(batch_size=5).reads_ahead() == 3 * 5
    unknown = differentiator(batch_size=None)
    assert (unknown.batch_size(), unknown.reads_ahead()) == (1, 24)


def test_the_size_of_a_batch_follows_from_the_input(plan, explainers, kept, monkeypatch) -> None:
    monkeypatch.setattr(stages, "expected_geometry", lambda plan: Geometry(224, 224, 3, "stretch"))
    monkeypatch.setattr(machine, "cores", lambda: 2)
    asked = plan(batch_size=None)
    found = pipeline.pipeline(asked, Digests(asked, "f"), lambda model: None, kept, Known()).differentiator
    assert (found.batch_size(), found.reads_ahead()) == (8, 24)
    found._explainer.computes_on_gpu = True  # as is known once the model is loaded
    assert (found.batch_size(), found.reads_ahead()) == (64, 192)


def item(size: tuple[int, int] | None = None, outputs: int = 1) -> Prepared:
    job = Job(Path("x"), "x")
    source = None if size is None else Source(job, size, "s", np.zeros((1, 1, 3), np.uint8), None)
    return Prepared(job, (None,) * outputs, 0.0, source)


@pytest.mark.parametrize(
    ("items", "size", "lengths"),
    [
        ([item((1, 1))] * 5, 2, [2, 2, 1]),
        ([item((1, 1)), item(), item(), item((1, 1)), item()], 2, [4, 1]),
        ([item()] * 600, 2, [256, 256, 88]),
        ([item((4096, 4096))] * 3, 8, [2, 1]),  # 2 ** 25 pixels are drawn
        ([item((4096, 4096), outputs=2)] * 3, 8, [1, 1, 1]),
        ([], 2, []),
    ],
)
def test_batches(items: list[Prepared], size: int, lengths: list[int]) -> None:
    found = list(pipeline._batches(items, lambda: size))
    assert [len(batch) for batch in found] == lengths
    assert [one for batch in found for one in batch] == items


def test_images_that_come_slowly_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LONGEST_WAIT", -1.0)
    assert [len(batch) for batch in pipeline._batches([item((1, 1))] * 3, lambda: 8)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        ({}, (-1, 8, 9, 3), (8, 9, 3)),
        ({}, None, None),
        ({}, (-1, 3, 8, 9), None),  # channels first, or 9 channels
        ({"layout": "NCHW"}, (-1, 8, 9, 3), None),
        ({"layout": "NHWC"}, (-1, 8, 9, 1), (8, 9, 1)),
        ({}, (-1, -1, -1, 3), None),
        ({"input_size": (5, 6)}, (-1, -1, -1, 3), (5, 6, 3)),
        ({}, (-1, 10_000, 10_000, 3), None),  # more than --max-pixels
    ],
    ids=str,
)
def test_what_the_file_says_of_the_input(plan, monkeypatch, model: dict, shape, expected) -> None:
    monkeypatch.setattr(stages.peek, "input_shape", lambda *given: shape)
    asked = replace(plan(), model=replace(plan().model, **model))
    assert stages.expected_geometry(asked) == (expected and Geometry(*expected, "stretch"))


def test_closing_twice_does_no_harm(plan, explainers, kept) -> None:
    asked = plan()
    found = pipeline.pipeline(asked, Digests(asked, "f"), lambda model: None, kept, Known())
    found.close()
    found.close(0.0)
    found.differentiator.wake()  # an image that came too late
    assert explainers[0].loads == 0 and explainers[0].closed == 2


def test_an_image_that_changes_into_none_before_it_is_read_again(plan, tmp_path, explainers, kept) -> None:
    asked = plan()
    found = pipeline.pipeline(asked, Digests(asked, "f"), lambda model: None, kept, Known())
    decoding, path = found.drawer._decoding, tmp_path / "x.png"
    path.write_text("good 3")
    first = Prepared(
        Job(path, "x.png"),
        (),
        0.0,
        decoding.source(Job(path, "x.png"), Read(b"good 3", "s", None), Geometry(8, 8, 3, "crop")),
    )
    assert found.budget.held == 8 * 8 * 3
    again = decoding.refitted(first, Geometry(4, 4, 3, "crop"))
    assert again.source is not None and again.source.fitted.shape == (4, 4, 3) and found.budget.held == 4 * 4 * 3
    assert decoding.refitted(again, Geometry(4, 4, 3, "crop")) is again
    path.write_text("bad 3")
    gone = decoding.refitted(again, Geometry(2, 2, 3, "crop"))
    assert gone.source is None and gone.result is not None and gone.result.status == "failed"
    assert found.budget.held == 0
    found.close()


@pytest.mark.parametrize("why", ["closed", "enough"])
def test_nothing_is_drawn_when_the_run_is_over(plan, explainers, kept, draw, why: str) -> None:
    asked = plan()
    found = pipeline.pipeline(asked, Digests(asked, "f"), lambda model: None, kept, Known())
    waiting, go = item((1, 1)), threading.Event()
    found.budget.hold(3)
    held_up = [found.drawer._pool.submit(go.wait, 5) for _ in range(2)]
    drawn = found.drawer.submit(waiting, Attribution((), {}))
    if why == "closed":
        found.drawer.closed = True
    else:
        found.publisher.enough = True
    go.set()
    assert drawn.result(5) is None and draw == [] and found.budget.held == 0
    assert all(future.result(5) for future in held_up)
    found.close()


def test_a_result_that_stands_passes_through_every_stage(plan, explainers, kept) -> None:
    asked = plan()
    found = pipeline.pipeline(asked, Digests(asked, "f"), lambda model: None, kept, Known())
    current = replace(item(), result=Result("x", "current"))
    ((same, outcome),) = found.differentiator.submit([current]).result(0).items
    assert same is current and outcome is None
    drawn = found.drawer.submit(current, None).result(0)
    assert drawn == Drawn(Result("x", "current"))
    waiting = item((1, 1))
    found.budget.hold(3)
    failed = found.drawer.submit(waiting, ImageError("timeout", "too slow")).result(0)
    assert failed is not None and failed.result.error == {"kind": "timeout", "message": "too slow"}
    assert found.budget.held == 0  # its pixels are not needed any more
    found.close()
