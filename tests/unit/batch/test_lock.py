"""One run in an output folder."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from gradviz_cli.batch import shards
from gradviz_cli.batch.claim import CLAIM
from gradviz_cli.batch.lock import LOCK, MERGING, held
from gradviz_cli.batch.store import Disk
from gradviz_cli.errors import Locked, OutputError
from gradviz_cli.plan.outputs import MANIFEST, SHARDS, WHOLE


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


@pytest.mark.parametrize("text", ['{"audio": "a.wav"}\n', '{"image": "a.png"}\n'.encode("utf-16").decode("latin-1")])
def test_nothing_is_written_beside_a_manifest_of_somebody_else(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(OutputError, match="no manifest of gradviz"), held(tmp_path, 0):
        pass
    with pytest.raises(OutputError, match="no manifest of gradviz"):  # as a dry run looks at it
        Disk(tmp_path).known(WHOLE, keep=False)
    assert os.listdir(tmp_path) == [MANIFEST]


def test_a_full_disk_is_that_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with held(tmp_path, 0) as lock:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(
            OutputError, match=f"{tmp_path / LOCK}: cannot be written: No space left on device"
        ) as caught:
            lock.begin()
        assert "free some space" in caught.value.remedy
        monkeypatch.setattr(os, "ftruncate", full)
        with pytest.raises(OutputError, match="cannot be written"):
            lock.finish()


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


# ---- shards


def unfinished(out: Path, name: str, owner: str) -> None:
    """As a process leaves it that was killed, with a file of its own."""
    (out / SHARDS).mkdir(exist_ok=True)
    path = out / LOCK if name == LOCK else out / SHARDS / name
    path.write_text(f"process 1 on moon since then files {owner}\n")
    (out / f".gradviz-{owner}{'0' * 16}.tmp").touch()


def test_shards_run_together_and_a_whole_run_alone(tmp_path: Path) -> None:
    with held(tmp_path, 0, (1, 3)) as first, held(tmp_path, 0, (2, 3)):
        first.begin()
        for wanted in ((1, 1), (1, 3)):
            with pytest.raises(Locked, match=f"process {os.getpid()} on .*--lock-wait"), held(tmp_path, 0, wanted):
                pass
        first.finish()
    with held(tmp_path, 0), pytest.raises(Locked), held(tmp_path, 0, (1, 3)):
        pass
    assert not (tmp_path / MANIFEST).exists()


def test_shards_of_another_number_have_the_same_images(tmp_path: Path) -> None:
    with held(tmp_path, 0, (1, 3)) as lock:
        lock.begin()
        with pytest.raises(Locked, match="--shard 1/3 is writing there .*same N"), held(tmp_path, 0, (2, 4)):
            pass
        lock.finish()
    with held(tmp_path, 0, (2, 4)):
        pass


def test_a_shard_removes_what_its_own_left_and_leaves_the_others_theirs(tmp_path: Path) -> None:
    for name, owner in (
        ("1-of-3.lock", "a" * 16),
        ("2-of-3.lock", "b" * 16),
        (LOCK, "c" * 16),
        ("4-of-9.lock", "d" * 16),
    ):
        unfinished(tmp_path, name, owner)
    with held(tmp_path, 0, (1, 3)) as lock:
        assert lock.unfinished
        lock.sweep()
    assert [path.name[9] for path in tmp_path.glob("*.tmp")] == ["b"]  # it may be at work
    with held(tmp_path, 0) as lock:
        assert lock.unfinished
        lock.sweep()
    assert not list(tmp_path.glob("*.tmp"))


def test_what_an_older_version_left_is_swept_beside_others(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("process 1 on moon since then\n")
    for name in ("0" * 16, "b" * 32):
        (tmp_path / f".gradviz-{name}.tmp").touch()
    with held(tmp_path, 0, (1, 2)):
        assert [path.name[9] for path in tmp_path.glob("*.tmp")] == ["b"] and (tmp_path / LOCK).read_text() == ""


def test_nobody_is_turned_away_while_lines_are_moved(tmp_path: Path) -> None:
    for wanted in ((1, 1), (1, 3)):
        moving = held(tmp_path, 0)
        moving.__enter__().begin(MERGING)
        threading.Timer(0.8, moving.__exit__, (None, None, None)).start()
        with held(tmp_path, 0, wanted):
            pass


@pytest.mark.parametrize("wanted", [(1, 1), (1, 3)])
def test_nobody_waits_beyond_the_end_of_the_run(tmp_path: Path, wanted: tuple[int, int]) -> None:
    with held(tmp_path, 0) as moving:
        moving.begin(MERGING)
        start = time.monotonic()
        with pytest.raises(Locked), held(tmp_path, 600, wanted, start + 0.1):
            pass
        assert time.monotonic() - start < 60


@pytest.mark.parametrize("calls", [("flock",), ("flock", "fcntl")])
def test_shards_on_file_systems_without_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...]
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    for call in calls:
        monkeypatch.setattr(fcntl, call, unknown)
    with held(tmp_path, 0, (1, 3)) as first, held(tmp_path, 0, (2, 3)):
        first.begin()
        assert first.claimed == ("fcntl" in calls)
        for wanted in ((1, 1), (1, 3), (2, 4)):
            with pytest.raises(Locked, match="writing there") as caught, held(tmp_path, 0, wanted):
                pass
            assert ("of-3.claim" in str(caught.value)) == ("fcntl" in calls)
        first.finish()
    with held(tmp_path, 0), pytest.raises(Locked), held(tmp_path, 0, (1, 3)):
        pass
    shards.clear(tmp_path)
    assert os.listdir(tmp_path) == [LOCK]


@pytest.mark.parametrize("kind", ["link to a folder", "file", "link", "hard link", "pipe", "text"])
def test_what_has_the_name_of_a_shards_lock_is_left_alone(tmp_path: Path, kind: str) -> None:
    precious, out = tmp_path / "precious", tmp_path / "out"
    precious.write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    if kind == "link to a folder":
        (out / SHARDS).symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        (out / SHARDS).touch()
    else:
        (out / SHARDS).mkdir()
        lock = out / SHARDS / "1-of-2.lock"
        makes = {"link": lambda: lock.symlink_to(precious), "hard link": lambda: os.link(precious, lock)}
        makes |= {"pipe": lambda: os.mkfifo(lock), "text": lambda: lock.write_text("precious")}
        makes[kind]()
    with pytest.raises(OutputError, match="cannot be written"), held(out, 0, (1, 2)):
        pass
    with held(out, 0):
        shards.clear(out)
    assert precious.read_text() == "precious" and not list((tmp_path / "elsewhere").iterdir())
    assert kind != "text" or lock.read_text() == "precious"
