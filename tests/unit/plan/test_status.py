"""The words of the manifest: what counts as failed, and that a status is its word wherever it is printed."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from gradviz_cli.errors import ExitCode
from gradviz_cli.plan.results import Report, Result, Status

WORDS = ["written", "current", "pending", "failed", "zero", "nowhere", "nonfinite"]


def test_the_words() -> None:
    assert [status.value for status in Status] == WORDS
    assert [status.value for status in Status if status.failed] == ["failed", "zero", "nonfinite"]


@pytest.mark.parametrize("status", Status)
def test_every_status_says_what_it_means(status: Status) -> None:
    assert len(status.meaning) > 20
    assert bool(status.why) == (status in ("zero", "nowhere", "nonfinite"))  # of the others, the image's error says why


@pytest.mark.parametrize("word", WORDS)
def test_a_status_is_its_word(word: str) -> None:
    status = Status(word)
    assert (f"{status}", str(status), f"{status:>10}", "%s" % status) == (word, word, f"{word:>10}", word)  # noqa: UP031
    assert {status: 1}[word] == 1 and status == word
    assert json.dumps({status: asdict(Result("x", status))["status"]}) == f'{{"{word}": "{word}"}}'


@pytest.mark.parametrize("word", ["", "Written", "new", None, 3, [], {}, ["written"], float("nan")])
def test_a_word_from_anywhere_may_be_none(word: object) -> None:
    assert Status.of(word) is None


@pytest.mark.parametrize(
    ("words", "failed", "code"),
    [
        (["written", "current", "pending"], 0, ExitCode.OK),
        (["written", "zero"], 1, ExitCode.SOME_FAILED),
        (["nowhere", "nowhere"], 0, ExitCode.OK),
        (["nonfinite", "zero", "failed"], 3, ExitCode.ALL_FAILED),
        (["current", "nonfinite", "failed"], 2, ExitCode.SOME_FAILED),
    ],
)
def test_what_a_report_counts(words: list[str], failed: int, code: ExitCode) -> None:
    report = Report()
    for word in words:
        report.add(Result("x", Status(word)))
    assert (report.failed, report.total, report.exit_code()) == (failed, len(words), code)
