"""Files of processes that have ended are told from those of the living, and of other machines."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from children import python

from gradviz_cli.files import writer
from gradviz_cli.files.whole import OWNER, TEMPORARY, sweep, write_alone
from gradviz_cli.files.writer import is_gone, this_writer


@pytest.fixture(scope="module")
def ended() -> str:
    """The word of a process that has ended."""
    run = python("from gradviz_cli.files.writer import this_writer; print(this_writer())")
    assert run.returncode == 0, run.stderr
    return run.stdout.decode().strip()


def test_a_word_is_that_of_its_process(ended: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", this_writer()) and this_writer() == this_writer() == OWNER != ended
    assert not is_gone(this_writer()) and is_gone(ended)


def test_a_number_that_another_process_has_now(ended: str) -> None:
    later = f"{int(this_writer()[-5:], 16) ^ 1:05x}"
    assert is_gone(this_writer()[:-5] + later)


def test_of_other_machines_nothing_is_known(ended: str) -> None:
    other = f"{int(ended[:5], 16) ^ 1:05x}{ended[5:]}"
    assert not is_gone(other)


def test_a_process_that_is_hidden_lives(monkeypatch: pytest.MonkeyPatch, ended: str) -> None:
    """As those of others are on machines that show each user its own alone."""

    def refused(process: int, signal: int) -> None:
        assert signal == 0
        raise PermissionError

    monkeypatch.setattr(writer, "started", lambda process: "")
    assert is_gone(ended)
    monkeypatch.setattr(os, "kill", refused)
    assert not is_gone(ended)


def test_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch, ended: str) -> None:
    monkeypatch.setattr(writer, "machine", lambda: ["", ""])
    assert re.fullmatch(r"[0-9a-f]{16}", this_writer()) and this_writer() != this_writer()
    assert not is_gone(ended)


def test_a_file_that_is_written_alone_takes_those_of_the_dead_away(tmp_path: Path, ended: str) -> None:
    other = f"{int(ended[:5], 16) ^ 1:05x}{ended[5:]}"
    names = {who: f"{TEMPORARY}{who}{'0' * 16}.tmp" for who in (ended, OWNER, other)}
    for name in (*names.values(), f"{TEMPORARY}{'0' * 16}.tmp"):
        (tmp_path / name).touch()
    write_alone(tmp_path / "page.html", b"x")
    assert (tmp_path / "page.html").read_bytes() == b"x"
    assert names.keys() == {ended, OWNER, other} and not (tmp_path / names[ended]).exists()
    assert len(list(tmp_path.iterdir())) == 4
    assert sweep(tmp_path) == 3


def test_a_file_in_the_working_folder(tmp_path: Path, ended: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"{TEMPORARY}{ended}{'0' * 16}.tmp").touch()
    write_alone("a.png", b"x")
    assert os.listdir() == ["a.png"]
