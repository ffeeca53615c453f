"""The last line of a terminal: drawn at once, written over, measured each time, taken away by whatever else is said."""

from __future__ import annotations

import time

import pytest

from gradviz_cli.cli import line, stderr
from gradviz_cli.cli.line import LINE, doing, looked_on
from gradviz_cli.cli.stderr import BACK, overwrite, say


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(line, "is_terminal", lambda: True)
    monkeypatch.setattr(stderr, "width", lambda: 20)
    monkeypatch.setenv("TERM", "xterm")
    yield
    LINE.over()


def test_it_is_there_at_once_and_gone_at_the_end(capsys: pytest.CaptureFixture) -> None:
    with doing("reading"):
        assert capsys.readouterr().err == f"{BACK}reading"
    assert capsys.readouterr().err == BACK
    LINE.over()  # nothing is there: nothing is written
    assert capsys.readouterr().err == ""


def test_nothing_is_drawn_where_nobody_looks_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with doing("reading"):
        LINE.then("more")
        time.sleep(line.EVERY)
    monkeypatch.setattr(line, "is_terminal", lambda: False)
    assert not looked_on() and capsys.readouterr().err == ""


def test_it_lives_by_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(line, "EVERY", 0.01)
    seen = iter("abc")
    LINE.doing(lambda: next(seen, "d"))
    end, said = time.monotonic() + 10, ""
    while "d" not in said and time.monotonic() < end:
        time.sleep(0.01)
        said += capsys.readouterr().err
    assert said == "".join(BACK + each for each in "abcd")  # and no oftener than it changes


def test_what_is_said_takes_it_away_and_it_comes_back(capsys: pytest.CaptureFixture) -> None:
    with doing("reading"):
        say("a line")
        LINE.look()
    assert capsys.readouterr().err == f"{BACK}reading{BACK}a line\n{BACK}reading{BACK}"


def test_it_follows_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    overwrite("12345678901234567890")
    monkeypatch.setattr(stderr, "width", lambda: 9)
    overwrite("12345678901234567890")
    monkeypatch.setattr(stderr, "width", lambda: 90)
    overwrite("12345678901234567890")
    expected = ("1234567890123456789", "12345678", "12345678901234567890")
    assert capsys.readouterr().err == "".join(BACK + each for each in expected)


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture) -> None:
    overwrite("猫" * 20)
    assert capsys.readouterr().err == BACK + "猫" * 9
