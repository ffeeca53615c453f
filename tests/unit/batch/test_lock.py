"""One run in an output folder."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from gradviz_cli.batch.claim import CLAIM
from gradviz_cli.batch.lock import LOCK, held
from gradviz_cli.errors import Locked, OutputError


def test_the_folder_is_made_and_held(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with held(out, 0) as lock:
        assert not lock.unfinished
        lock.begin()
        assert f"process {os.getpid()} on {os.uname().nodename} since " in (out / LOCK).read_text()
        with pytest.raises(Locked, match=f"process {os.getpid()} .*--lock-wait"), held(out, 0):
            pass
        lock.finish()
    assert (out / LOCK).read_text() == ""
    with held(out, 0) as lock:
        assert not lock.unfinished


def test_what_a_killed_run_left_is_known(tmp_path: Path) -> None:
    with held(tmp_path, 0) as lock:
        lock.begin()
    with held(tmp_path, 0) as lock:
        assert lock.unfinished


def test_it_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError), held(tmp_path, 0):
        raise ValueError
    with held(tmp_path, 0):
        pass


def test_waiting(tmp_path: Path) -> None:
    handle = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(Locked), held(tmp_path, 0.05):
        pass
    threading.Timer(0.05, os.close, [handle]).start()
    with held(tmp_path, 10):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
@pytest.mark.parametrize("calls", [("flock",), ("flock", "fcntl")])
def test_file_systems_without_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...], number: int
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for call in calls:
        monkeypatch.setattr(fcntl, call, unknown)
    with held(tmp_path, 0) as lock:
        lock.begin()
        assert (CLAIM in os.listdir(tmp_path)) == lock.claimed == ("fcntl" in calls)
        with pytest.raises(Locked, match=f"process {os.getpid()} on ") as caught, held(tmp_path, 0.05):
            pass
        assert (CLAIM in str(caught.value)) == ("fcntl" in calls)  # where a person may have to look
        lock.finish()
    assert os.listdir(tmp_path) == [LOCK]
    with held(tmp_path, 0) as lock:
        assert not lock.unfinished


def test_a_lock_that_fails_is_not_taken_for_one_that_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(OutputError, match="Input/output error; the disk or the connection"), held(tmp_path, 0):
        pass


@pytest.mark.parametrize("kind", ["pipe", "hard link", "text", "long text"])
def test_what_has_the_name_of_the_lock_is_not_emptied(tmp_path: Path, kind: str) -> None:
    text = {"text": "precious", "long text": f"process 1 on {'m' * 1000} precious"}
    (tmp_path / "precious").write_text(text.get(kind, "process 1 on moon since then\n"))
    if kind == "pipe":
        os.mkfifo(tmp_path / LOCK)
    else:
        (os.link if kind == "hard link" else os.rename)(tmp_path / "precious", tmp_path / LOCK)
    with pytest.raises(OutputError, match="cannot be written: it .*; move it away"), held(tmp_path, 0):
        pass
    assert kind == "pipe" or (tmp_path / LOCK).read_text() != ""


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_not_ours_is_not_written_through(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / LOCK).symlink_to(tmp_path / "elsewhere") if kind == "link" else (out / LOCK).mkdir()
    with pytest.raises(OutputError, match="cannot be written"), held(out, 0):
        pass
    assert not (tmp_path / "elsewhere").exists()
    assert kind != "file" or out.read_text() == "mine"


def test_a_folder_that_is_moved_away_is_found_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with held(out, 0) as lock:
        assert lock.moved(out) is None
        out.rename(tmp_path / "moved")
        assert lock.moved(out) == tmp_path / "moved"
        out.mkdir()  # another one
        assert lock.moved(out) == tmp_path / "moved"
