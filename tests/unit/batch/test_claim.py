"""A lock where the file system has none."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradviz_cli.batch import claim
from gradviz_cli.batch.claim import CLAIM, SILENCE, Claim


@pytest.fixture
def ended() -> int:
    """The number of a process that was, and is not any more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def written(out: Path, **changes: object) -> Path:
    """A claim as this process makes it, changed."""
    (out / CLAIM).write_text(json.dumps({**claim.this_process(), **changes}))
    return out / CLAIM


def ages(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_one_at_a_time(tmp_path: Path) -> None:
    one, other = Claim(tmp_path), Claim(tmp_path)
    assert one.take() and not other.take()
    assert other.holder.startswith(f"process {os.getpid()} on {os.uname().nodename} since ")
    other.release()  # not its to remove
    assert (tmp_path / CLAIM).exists()
    one.release()
    assert os.listdir(tmp_path) == [] and other.take()
    other.release()


def test_a_process_that_is_gone(tmp_path: Path, ended: int) -> None:
    for changes in ({"process": ended}, {"start": "1"}):  # the second: its number is another one's now
        written(tmp_path, **changes)
        taken = Claim(tmp_path)
        assert taken.take() and os.listdir(tmp_path) == [CLAIM]
        taken.release()


def test_a_process_that_is_hidden_keeps_it(tmp_path: Path, ended: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of others are on machines that show each user its own alone."""
    monkeypatch.setattr(claim, "started", lambda process: "")
    written(tmp_path, process=os.getppid())
    assert not Claim(tmp_path).take()
    for process in (ended, -1, 0, 10**30):
        written(tmp_path, process=process)
        taken = Claim(tmp_path)
        assert taken.take()
        taken.release()


@pytest.mark.parametrize("changes", [{"machine": ["other", "4"]}, {"machine": None}, {"machine": claim.machine()[:1]}])
def test_one_of_another_machine_has_to_be_silent(tmp_path: Path, ended: int, changes: dict) -> None:
    path = written(tmp_path, process=ended, **changes)
    assert not Claim(tmp_path).take()
    ages(path, SILENCE - 60)
    assert not Claim(tmp_path).take()
    ages(path, SILENCE + 60)
    taken = Claim(tmp_path)
    assert taken.take()
    taken.release()


def test_one_that_is_only_being_written(tmp_path: Path) -> None:
    for text in ("", "[1]", '{"process": '):
        (tmp_path / CLAIM).write_text(text)
        refused = Claim(tmp_path)
        assert not refused.take() and refused.holder == "nobody knows who"


def test_one_that_there_is_no_room_for_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one would keep everybody away for an hour, as nobody knows whose it is."""

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as changed, pytest.raises(OSError, match="No space left"):
        changed.setattr(os, "write", full)
        Claim(tmp_path).take()
    assert os.listdir(tmp_path) == []


def test_it_shows_that_it_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "BEAT", 0.01)
    held = Claim(tmp_path)
    assert held.take()
    ages(tmp_path / CLAIM, 2 * SILENCE)
    end = time.monotonic() + 10
    while claim._silence(tmp_path / CLAIM) > 60 and time.monotonic() < end:
        time.sleep(0.01)
    assert claim._silence(tmp_path / CLAIM) < 60
    held.release()


def test_what_a_faster_one_made_is_left_to_it(tmp_path: Path) -> None:
    path = written(tmp_path, process=1)
    Claim(tmp_path)._remove({"process": 2})
    assert json.loads(path.read_text())["process"] == 1 and os.listdir(tmp_path) == [CLAIM]
