"""What a run says, and the progress line, by a clock of our own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.cli import stderr, voice
from gradviz_cli.cli.voice import Progress, Voice, _clock
from gradviz_cli.errors import OutputError
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.results import Report, Result, Status
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
    monkeypatch.setattr(voice, "time", clock)
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
    monkeypatch.setattr(voice, "width", lambda: 60)
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
        "written a.png",
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


def test_json_has_the_same_as_fields(said: Said, as_json: None) -> None:
    speaker = Voice(PLAN, verbose=True)
    speaker.started(())
    speaker.result(FAILED, reported(0, 1))
    speaker.failure(OutputError("the end"))
    speaker.ended(reported(3, 1), 1.23456)
    image, stopped, summary = map(json.loads, said.text().splitlines())
    assert (image["level"], image["event"], image["image"], image["kind"]) == ("error", "image", "b\\n.png", "format")
    assert (stopped["event"], stopped["message"], stopped["code"]) == ("stopped", "the end", 7)
    assert (summary["counts"], summary["seconds"]) == ({"written": 3, "failed": 1}, 1.235)
    assert all(line["time"].endswith("Z") for line in (image, stopped, summary))


@pytest.mark.parametrize(
    ("progress", "quiet", "wanted"), [("always", True, True), ("never", False, False), ("auto", False, False)]
)
def test_a_progress_line_is_for_terminals_unless_asked_for(said, progress: str, quiet: bool, wanted: bool) -> None:
    Voice(PLAN, quiet=quiet, progress=progress).result(WRITTEN, reported(1))
    assert ("1 images" in said.text()) == wanted


def test_a_line_that_comes_meanwhile_takes_the_progress_away(said: Said, clock: Clock) -> None:
    speaker = Voice(PLAN, progress="always")
    speaker.result(WRITTEN, reported(1))
    assert said.line().startswith("1 images")
    speaker.warning("mind this")
    assert said.line() == "gradviz: warning: mind this\n"
    with speaker:  # nothing is there: nothing is written
        pass
    assert said.text().endswith("mind this\n")


def test_a_progress_line_does_not_outlive_the_run(said: Said, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt), Voice(PLAN, progress="always") as speaker:
        speaker.result(WRITTEN, reported(1))
        raise KeyboardInterrupt
    assert said.line() == ""


def test_written_paths_on_stdout(capfdbinary: pytest.CaptureFixture) -> None:
    speaker = Voice(PLAN, print_end=b"\0")
    for result in (WRITTEN, FAILED, Result("c.png", "current", ("c.png.guided.png",))):
        speaker.result(result, reported(1))
    assert capfdbinary.readouterr().out == b"out/a.png.guided.png\0"


def test_a_dry_run_prints_what_is_pending_and_nothing_else(capfdbinary: pytest.CaptureFixture) -> None:
    speaker = Voice(replace(PLAN, dry_run=True), verbose=True, progress="always")
    for result in (Result("a.png", "pending", ("a", "b")), Result("c.png", "current", ("c",)), FAILED):
        speaker.result(result, reported(1))
    speaker.ended(reported(1), 1.0)
    assert capfdbinary.readouterr() == (b"out/a\nout/b\n", b"gradviz: b\\n.png: no image begins like this\n")


def test_what_ends_a_run_is_one_line_and_its_traceback_is_for_v(said: Said) -> None:
    error = OutputError("no\nroom", "make some")
    error.traceback = "Traceback:\n  a line"
    Voice(PLAN).failure(error)
    assert said.text() == "gradviz: no\\nroom; make some\n"
    Voice(PLAN, verbose=True).failure(error)
    assert said.text().splitlines()[1:] == ["gradviz: no\\nroom; make some", "Traceback:", "  a line"]


# ---- the progress line


def test_rate_and_time_left(said: Said, clock: Clock) -> None:
    progress = Progress()
    progress.count(range(1000))
    clock.now += 10
    progress.show(reported(98, 2))
    assert said.line() == "100/1000 images, 10.0/s, 1:30 left, 2 failed"


def test_the_rate_is_that_of_late(said: Said, clock: Clock) -> None:
    """A thousand images were current and went by in a second; the others take a second each."""
    progress = Progress()
    progress.count(range(2000))
    clock.now += 1
    progress.show(reported(1000))
    for done in range(1001, 1101):
        clock.now += 1
        progress.show(reported(done))
    assert said.line() == "1100/2000 images, 1.0/s, 15:00 left"


def test_it_is_drawn_a_few_times_a_second_and_at_the_end(said: Said, clock: Clock) -> None:
    progress = Progress()
    progress.count(range(100))
    for done in range(1, 101):
        clock.now += 0.01
        progress.show(reported(done))
    drawn = said.text().count("\r\x1b[K")
    assert 5 <= drawn <= 7  # a second in all, and the last image
    assert said.line().startswith("100/100 images")


def test_it_fits_the_terminal(said: Said, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "width", lambda: 20)
    progress = Progress()
    clock.now += 1
    progress.show(reported(10))
    assert said.line() == "10 images, 10.0/s"[:19]


def test_before_the_images_are_counted_no_end_is_promised(said: Said, clock: Clock) -> None:
    progress = Progress()
    clock.now += 2
    progress.show(reported(10))
    assert said.line() == "10 images, 5.0/s"


def test_in_json_it_is_an_event_now_and_then(said: Said, clock: Clock, as_json: None) -> None:
    progress = Progress()
    progress.count(range(40))
    for done in (10, 20, 30, 40):
        clock.now += 4
        progress.show(reported(done))
    first, second, last = map(json.loads, said.text().splitlines())  # after 4 s, 12 s, and at the end
    assert [event["done"] for event in (first, second, last)] == [10, 30, 40]
    assert (second["total"], second["rate"], second["seconds_left"]) == (40, 2.5, 4)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_clock(seconds: float, text: str) -> None:
    assert _clock(seconds) == text
