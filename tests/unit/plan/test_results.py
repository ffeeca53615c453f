"""Lines of the manifest, counts, exit codes: the contract's table of gravity."""

from __future__ import annotations

import json
import os
from datetime import datetime
from itertools import combinations

import pytest

from gradviz_cli.errors import GRAVITY, ExitCode, gravest
from gradviz_cli.files.text import now
from gradviz_cli.plan.results import Report, Result, TargetResult

# From the gravest to the lightest; signals exclude each other.
ORDER = (1, 2, 11, 6, 5, 7, 8, 4, 3, 0)


@pytest.mark.parametrize(("graver", "lighter"), list(combinations(ORDER, 2)))
def test_of_two_codes_the_graver_is_returned(graver: int, lighter: int) -> None:
    assert gravest({ExitCode(lighter), ExitCode(graver)}) == graver


@pytest.mark.parametrize("signal", [129, 130, 143])
def test_a_signal_is_the_gravest(signal: int) -> None:
    assert gravest({ExitCode(code) for code in (*ORDER, signal)}) == signal


def test_every_code_has_its_gravity() -> None:
    assert set(GRAVITY) == set(ExitCode), set(GRAVITY) ^ set(ExitCode)
    assert len(GRAVITY) == len(ExitCode)  # each once


def test_nothing_is_success() -> None:
    assert gravest(set()) == 0


def reported(*statuses: str, fatal: int | None = None, untried: bool = False) -> Report:
    report = Report(untried=untried)
    for status in statuses:
        report.add(Result("x", status))
    if fatal is not None:
        report.fatal.add(ExitCode(fatal))
    return report


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (reported("written"), 0),
        (reported("current"), 0),
        (reported("pending"), 0),
        (reported("written", "failed"), 3),
        (reported("current", "zero"), 3),
        (reported("pending", "failed"), 3),
        (reported("failed"), 4),
        (reported("failed", "zero", "nonfinite"), 4),
        (reported("failed", untried=True), 3),  # those that were not tried may be well
        (reported(), 4),
        (reported(fatal=5), 5),
        (reported("failed", fatal=8), 8),
        (reported("written", fatal=7), 7),
        (reported("failed", fatal=7), 7),
        (reported("failed", fatal=1), 1),
    ],
)
def test_exit_codes(report: Report, code: int) -> None:
    assert report.exit_code() == code


def test_no_image_may_be_success() -> None:
    assert reported().exit_code(allow_empty=True) == 0
    assert reported("failed").exit_code(allow_empty=True) == 4
    assert reported(fatal=6).exit_code(allow_empty=True) == 6


def test_counts() -> None:
    report = reported("written", "zero", "written", "failed", "current", "nonfinite")
    assert report.counts == {"written": 2, "zero": 1, "failed": 1, "current": 1, "nonfinite": 1}
    assert (report.total, report.failed) == (6, 3)


def test_a_line_of_the_manifest() -> None:
    target = TargetResult(3, "cat", 0, 1.5, None)
    error = {"kind": "zero", "message": "why"}
    result = Result("a/b.jpg", "zero", ("b.png",), (target,), error, "d" * 64, 0.12345, {"b.png": "s" * 64})
    assert json.dumps(result.record("T")) == (
        '{"image": "a/b.jpg", "status": "zero", "outputs": ["b.png"], "targets": [{"index": 3, "label": "cat", "rank": 0,'
        ' "score": 1.5, "output": null}], "error": {"kind": "zero", "message": "why"}, "digest": "' + "d" * 64 + '",'
        ' "seconds": 0.123, "time": "T", "source": ' + json.dumps(os.path.abspath("a/b.jpg")) + ","
        ' "sha256": {"b.png": "' + "s" * 64 + '"}}'
    )


def test_what_is_known_of_the_files_stands_in_the_line() -> None:
    stamp = (3, 4, 5)
    result = Result("a", "written", ("b.png",), stamps={"b.png": stamp}, image_sha256="i", image_stamp=stamp)
    line = json.loads(json.dumps(result.record("T")))
    assert (line["stamps"], line["image_sha256"], line["image_stamp"]) == ({"b.png": [3, 4, 5]}, "i", [3, 4, 5])


def test_time_is_rfc_3339_in_utc() -> None:
    said = now()
    assert said.endswith("Z") and len(said) == len("2026-01-01T00:00:00.000Z")
    assert datetime.fromisoformat(said.replace("Z", "+00:00")).utcoffset().total_seconds() == 0
