"""What a run says, and the progress line, by a clock of our own."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.cli import line, stderr, voice
from gradviz_cli.cli.line import LINE
from gradviz_cli.cli.signals import Stopped
from gradviz_cli.cli.voice import Progress, Voice, _clock
from gradviz_cli.errors import ExitCode, OutputError
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.results import Report, Result, Status, TargetResult
from gradviz_cli.process.protocol import ModelOptions

PLAN = Plan(ModelOptions("model"), Path("out"))
WRITTEN = Result("a.png", "written", ("a.png.guided.png",))
FAILED = Result("b\n.png", "failed", error={"kind": "format", "message": "no image begins like this"})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (line, voice):
        monkeypatch.setattr(module, "time", clock)
    return clock


class Said:
    """What stderr was sent."""

    def __init__(self, capsys: pytest.CaptureFixture):
        self._capsys, self._text = capsys, ""

    def text(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text

    def line(self) -> str:
        """What stands in the last line now."""
        return self.text().rsplit("\r\x1b[K", 1)[-1]


@pytest.fixture
def said(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setattr(stderr, "width", lambda: 60)
    return Said(capsys)


@pytest.fixture
def as_json():
    stderr.speak_json(True)
    yield
    stderr.speak_json(False)


def reported(*counts: int) -> Report:
    return Report(dict(zip((Status.WRITTEN, Status.FAILED), counts, strict=False)))


# ---- lines


def test_only_what_failed_is_said(said: Said) -> None:
    speaker = Voice(PLAN)
    speaker.started(())
    for result in (WRITTEN, FAILED):
        speaker.result(result, reported(1, 1))
    speaker._detail("a detail")
    speaker.ended(reported(1, 1), 2.0)
    assert said.text() == "gradviz: b\\n.png: no image begins like this\n"


def test_verbose_says_everything_and_quiet_no_warning(said: Said) -> None:
    speaker = Voice(PLAN, verbose=True)
    speaker.started(())
    speaker.result(WRITTEN, reported(1))
    speaker._detail("a detail")
    speaker.warning("mind this")
    speaker.ended(reported(1, 2), 2.04)
    assert said.text().splitlines() == [
        "written a.png: 1 picture",
        "a detail",
        "gradviz: warning: mind this",
        "2 failed, 1 written in 2.0 s",
    ]
    before = said.text()
    Voice(PLAN, quiet=True).warning("mind this")
    assert said.text() == before


def test_a_run_over_nothing_says_so(said: Said) -> None:
    speaker = Voice(PLAN, verbose=True)
    speaker.ended(Report(), 0.0)  # it never began
    assert said.text() == ""
    speaker.started(())
    speaker.ended(Report(), 0.0)
    assert said.text() == "nothing to do in 0.0 s\n"


def test_a_run_that_was_refused_is_no_run_over_nothing(said: Said) -> None:
    speaker = Voice(PLAN, verbose=True)
    speaker.started(())
    report = Report()
    report.fatal.add(ExitCode.USAGE)
    speaker.ended(report, 3.0)
    assert "nothing to do" not in said.text()


def test_json_has_the_same_as_fields(said: Said, as_json: None) -> None:
    speaker = Voice(PLAN, verbose=True)
    speaker.started(())
    speaker.result(FAILED, reported(0, 1))
    speaker.failure(OutputError("the end"))
    speaker.ended(reported(3, 1), 1.23456)
    image, stopped, summary = map(json.loads, said.text().splitlines())
    assert (image["level"], image["event"], image["image"], image["kind"]) == ("error", "image", "b\n.png", "format")
    assert (stopped["event"], stopped["message"], stopped["code"]) == ("stopped", "the end", 7)
    assert (summary["counts"], summary["seconds"]) == ({"written": 3, "failed": 1}, 1.235)
    assert all(line["time"].endswith("Z") for line in (image, stopped, summary))


@pytest.mark.parametrize(
    ("progress", "quiet", "wanted"), [("always", True, True), ("never", False, False), ("auto", False, False)]
)
def test_a_progress_line_is_for_terminals_unless_asked_for(said, progress: str, quiet: bool, wanted: bool) -> None:
    with Voice(PLAN, quiet=quiet, progress=progress) as speaker:
        speaker.started(())
    assert ("0 images" in said.text()) == wanted


def test_a_line_that_comes_meanwhile_takes_the_progress_away(said: Said, clock: Clock) -> None:
    with Voice(PLAN, progress="always") as speaker:
        speaker.result(WRITTEN, reported(1))
        speaker.started(())
        assert said.line().startswith("1 images")
        speaker.warning("mind this")
        assert "gradviz: warning: mind this\n" in said.text()
        LINE.look()
        assert said.line().startswith("1 images")
    assert said.line() == ""


def test_a_progress_line_does_not_outlive_the_run(said: Said, clock: Clock) -> None:
    with pytest.raises(ValueError), Voice(PLAN, progress="always") as speaker:
        speaker.started(())
        raise ValueError
    assert said.line() == ""


@pytest.mark.parametrize(
    ("plan", "counts", "text"),
    [
        (PLAN, (), "stopped before the first image was done; the same command begins anew"),
        (PLAN, (3,), "stopped: 3 of 9 images are done, every file is whole; the same command goes on from there"),
        (
            replace(PLAN, force=True),
            (3, 1),
            "stopped: 4 of 9 images are done (1 failed), every file is whole; the same command begins anew, without --force"
            " goes on from there",
        ),
    ],
)
def test_who_stops_a_run_is_told_how_far_it_came(
    said: Said, clock: Clock, plan: Plan, counts: tuple, text: str
) -> None:
    with pytest.raises(Stopped), Voice(plan, progress="always") as speaker:
        speaker._progress.count(range(9))
        if counts:
            speaker.result(WRITTEN, reported(*counts))
        raise Stopped(signal.SIGINT)
    assert said.line() == f"gradviz: {text}\n"


def test_nobody_is_told_where_nobody_looks_on(said: Said) -> None:
    with pytest.raises(Stopped), Voice(PLAN):
        raise Stopped(signal.SIGTERM)
    assert said.text() == ""


@pytest.mark.parametrize(
    ("results", "counts", "text"),
    [
        ([WRITTEN, FAILED], (1, 1), "1 failed, 1 written in 2.0 s: 1 picture in out; the same command tries those that "
         "failed again; to look at them: gradviz gallery out --open"),
        ([Result("c.png", "current", ("c.png.guided.png",))], (0,), "0 written in 2.0 s"),
        ([], (0, 2), "2 failed, 0 written in 2.0 s"),
    ],
)  # fmt: skip
def test_the_last_line_says_where_and_what_next(said, monkeypatch, results: list, counts: tuple, text: str) -> None:
    monkeypatch.setattr(voice, "looked_on", lambda: True)
    with Voice(PLAN) as speaker:
        speaker.started(())
        for result in results:
            speaker.result(result, reported(*counts))
        speaker.ended(reported(*counts), 2.0)
    assert said.line().splitlines()[-1] == text


def test_what_is_current_is_there_too(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "looked_on", lambda: True)
    with Voice(replace(PLAN, out=Path("my maps"))) as speaker:
        speaker.started(())
        speaker.ended(Report({Status.CURRENT: 3}), 0.0)
    assert said.line() == "3 current in 0.0 s: they are in my maps; to look at them: gradviz gallery 'my maps' --open\n"


def test_written_paths_on_stdout(capfdbinary: pytest.CaptureFixture) -> None:
    speaker = Voice(PLAN, print_end=b"\0")
    for result in (WRITTEN, FAILED, Result("c.png", "current", ("c.png.guided.png",))):
        speaker.result(result, reported(1))
    assert capfdbinary.readouterr().out == b"out/a.png.guided.png\0"


PENDING = [
    Result("a.png", "pending", ("a.npy", "a.png", "b.png"), why="new"),
    Result("c.png", "current", ("c",)),
    *[Result(f"{number}.png", "pending", ("d.png",), why="option changed (--clip)") for number in range(5)],
    FAILED,
]


def foreseen(**more) -> None:
    speaker, report = Voice(replace(PLAN, dry_run=True), progress="always", **more), Report()
    for result in PENDING:
        report.add(result)
        speaker.result(result, report)
    speaker.ended(report, 1.0)


def test_a_dry_run_prints_what_is_pending_and_says_why(capfdbinary: pytest.CaptureFixture) -> None:
    foreseen()
    out, err = capfdbinary.readouterr()
    assert out == b"out/a.npy\nout/a.png\nout/b.png\n" + 5 * b"out/d.png\n"
    assert err.decode().splitlines() == [
        "gradviz: b\\n.png: no image begins like this",
        "would draw 7 pictures of 6 images; 1 current, 1 failed",
        "  5 option changed (--clip): 0.png, 1.png, 2.png, ...",
        "  1 new: a.png",
    ]


def test_print0_ends_names_of_a_dry_run_as_well(capfdbinary: pytest.CaptureFixture) -> None:
    foreseen(print_end=b"\0")
    assert capfdbinary.readouterr().out == b"out/a.npy\0out/a.png\0out/b.png\0" + 5 * b"out/d.png\0"


def test_each_image_of_a_dry_run_with_v_and_none_with_q(said: Said) -> None:
    foreseen(verbose=True)
    assert "pending 0.png: 1 picture; option changed (--clip)\n" in said.text()
    before = said.text()
    foreseen(quiet=True)
    assert said.text().removeprefix(before) == "gradviz: b\\n.png: no image begins like this\n"


def test_a_dry_run_with_nothing_to_do(said: Said) -> None:
    Voice(replace(PLAN, dry_run=True)).ended(Report({Status.CURRENT: 3}), 0.0)
    assert said.text() == "would draw nothing; 3 current\n"
    Voice(replace(PLAN, dry_run=True)).ended(Report(), 0.0)  # a warning says why there is none
    assert said.text() == "would draw nothing; 3 current\n"


def test_with_v_each_image_says_what_was_found(said: Said, as_json: None) -> None:
    targets = (TargetResult(3, "leaf", 0, 12.3456, 0.98765), TargetResult(7, None, 4, None, None))
    result = replace(WRITTEN, targets=targets, outputs=("a.png.guided.png", "a.png.guided.npy"))
    Voice(PLAN, verbose=True).result(result, reported(1))
    line = json.loads(said.text())
    assert line["message"] == (
        "written a.png: leaf (class 3, score 12.35, output 0.9877); class 7 (rank 5); 1 picture and 1 array"
    )
    assert [target["index"] for target in line["targets"]] == [3, 7] and line["outputs"] == list(result.outputs)


def test_what_ends_a_run_is_one_line_and_its_traceback_is_for_v(said: Said) -> None:
    error = OutputError("no\nroom", "make some")
    error.traceback = "Traceback:\n  a line"
    Voice(PLAN).failure(error)
    assert said.text() == "gradviz: no\\nroom; make some\n"
    Voice(PLAN, verbose=True).failure(error)
    assert said.text().splitlines()[1:] == ["gradviz: no\\nroom; make some", "Traceback:", "  a line"]


# ---- the progress line


def after(progress: Progress, clock: Clock, seconds: float, report: Report) -> str:
    """What it says when this is so after some seconds."""
    clock.now += seconds
    progress.add(report)
    return progress.text()


def test_rate_and_time_left_leave_the_start_out(clock: Clock) -> None:
    progress = Progress()
    progress.count(range(1000))
    assert progress.text() == "0/1000 images"
    assert after(progress, clock, 60, reported(10)) == "10/1000 images"  # nothing to take a rate from
    assert after(progress, clock, 2, reported(30)) == "30/1000 images, 10.0/s"  # too soon for an end
    assert after(progress, clock, 5, reported(98, 2)) == "100/1000 images, 12.9/s, 1:10 left, 2 failed"


def test_what_comes_together_is_one_batch(clock: Clock) -> None:
    """Eight images every four seconds: 2 a second, from the second batch on."""
    progress = Progress()
    progress.count(range(80))
    for batch in range(3):
        clock.now += 4
        for number in range(8):
            clock.now += 0.001
            progress.add(reported(8 * batch + number + 1))
    assert progress.text() == "24/80 images, 2.0/s, 0:28 left"


def test_the_rate_is_that_of_late(clock: Clock) -> None:
    """A thousand images were current and went by in a second; the others take a second each."""
    progress = Progress()
    progress.count(range(2000))
    after(progress, clock, 1, reported(1000))
    for done in range(1001, 1101):
        last = after(progress, clock, 1, reported(done))
    assert last == "1100/2000 images, 1.0/s, 15:00 left"


def test_time_goes_on_between_two_results_and_the_rate_falls_where_none_come(clock: Clock) -> None:
    progress = Progress()
    progress.count(range(100))
    for done in (0, 10, 20):
        after(progress, clock, 5, reported(done))
    assert progress.text() == "20/100 images, 2.0/s, 0:40 left"
    clock.now += 4
    assert progress.text() == "20/100 images, 2.0/s, 0:36 left"
    clock.now += 11
    assert progress.text() == "20/100 images, 1.0/s, 1:15 left"


def test_what_it_waits_for(clock: Clock) -> None:
    progress = Progress()
    progress.wait("starting TensorFlow")
    assert progress.text() == "starting TensorFlow"
    clock.now += 3.4
    assert progress.text() == "starting TensorFlow (3 s)"
    assert after(progress, clock, 0, reported(4, 1)) == "5 images, 1 failed, starting TensorFlow (3 s)"
    progress.begin()
    assert progress.text() == "5 images, 1 failed"
    assert after(progress, clock, 9, reported(7, 1)) == "8 images, 1 failed"  # the first batch


def test_before_the_images_are_counted_no_end_is_promised(clock: Clock) -> None:
    progress = Progress()
    after(progress, clock, 2, reported(10))
    assert after(progress, clock, 6, reported(40)) == "40 images, 5.0/s"


def test_in_json_it_is_an_event_now_and_then(said: Said, clock: Clock, as_json: None) -> None:
    progress = Progress()
    progress.count(range(40))
    for done in (10, 20, 30, 40):
        after(progress, clock, 4, reported(done))
    first, second, last = map(json.loads, said.text().splitlines())  # after 4 s, 12 s, and at the end
    assert [event["done"] for event in (first, second, last)] == [10, 30, 40]
    assert (first["total"], first["rate"], first["seconds_left"]) == (40, None, None)
    assert (second["rate"], second["seconds_left"]) == (2.5, 4)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_clock(seconds: float, text: str) -> None:
    assert _clock(seconds) == text
