"""What is kept is there whole or not at all, for this user alone, and not more of it than there is room for."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.files import cache
from gradviz_cli.files.cache import kept

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_in_use", {})
    monkeypatch.setattr(cache, "_alone", {})
    return tmp_path / "cache" / "gradviz"


def write(content: str = "graph", name: str = "file"):
    def fill(folder: Path) -> None:
        (folder / name).write_text(content)

    return fill


def fails(folder: Path) -> None:
    (folder / "half").write_text("x")
    raise ModelUnusable("no")


def never(folder: Path) -> None:
    raise AssertionError("it is there already")


def forget() -> None:
    """As when the process ends."""
    for handle in cache._in_use.values():
        os.close(handle)
    cache._in_use.clear()


def names(home: Path) -> list[str]:
    return sorted(entry.name for entry in home.iterdir())


def test_made_once_and_found_again(home: Path) -> None:
    assert (kept("key-0001", write()) / "file").read_text() == "graph"
    assert kept("key-0001", never) == home / "key-0001"
    forget()
    assert kept("key-0001", never) == home / "key-0001"


@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, lambda file: os.truncate(file, 0), lambda file: os.truncate(file, 2)],
    ids=["gone", "empty", "cut"],
)
@pytest.mark.parametrize("name", ["file", "deep/file", ".files"])
def test_what_somebody_took_files_from_is_made_anew(home: Path, spoil, name: str) -> None:
    """As what removes old files from caches does: a model without its labels would be another one, without a word."""

    def fill(folder: Path) -> None:
        (folder / "deep").mkdir()
        write()(folder)
        write(name="deep/file")(folder)

    kept("key-0001", fill)
    forget()
    spoil(home / "key-0001" / name)
    assert cache.found("key-0001") is None
    assert kept("key-0001", fill) == home / "key-0001"
    assert [(home / "key-0001" / one).read_text() for one in ("file", "deep/file")] == ["graph", "graph"]
    assert names(home) == ["key-0001"]


def test_what_somebody_took_files_from_stays_for_who_uses_it(home: Path) -> None:
    folder = kept("key-0001", write())
    (folder / "file").unlink()
    others = dict(cache._in_use)
    cache._in_use.clear()  # those of another process
    found = kept("key-0001", write("anew"))
    assert found != folder and (found / "file").read_text() == "anew" and folder.is_dir()
    cache._close()
    cache._in_use.update(others)


def test_only_this_user_may_enter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        folder = kept("key-0001", write())
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (home, folder)] == [0o700, 0o700]


def test_what_fails_leaves_nothing(home: Path) -> None:
    with pytest.raises(ModelUnusable):
        kept("key-0001", fails)
    assert names(home) == []
    assert kept("key-0001", write()) == home / "key-0001"


@pytest.mark.parametrize("spoil", ["open", "file", "link", "unset"])
def test_without_a_cache_it_is_made_for_this_process(home: Path, monkeypatch: pytest.MonkeyPatch, spoil: str) -> None:
    """Others may write there, or it is no folder: what lies in it is not to be believed."""
    home.parent.mkdir()
    if spoil == "open":
        home.mkdir()
        home.chmod(0o770)
    elif spoil == "file":
        home.touch()
    elif spoil == "link":
        (home.parent / "other").mkdir(0o700)
        home.symlink_to(home.parent / "other")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    folder = kept("key-0001", write())
    assert not folder.is_relative_to(home) and (folder / "file").read_text() == "graph"
    assert kept("key-0001", never) == folder
    cache._close()
    assert not folder.exists()


def test_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, as the specification says
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert kept("key-0001", write()) == tmp_path / "user" / ".cache" / "gradviz" / "key-0001"


@pytest.mark.parametrize("user", ["", "user", "./user"])
def test_no_home_is_made_where_a_variable_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", user)
    monkeypatch.setattr(os, "makedirs", never)
    assert not cache._used(Path("/nowhere")) and cache._root() is None
    assert os.listdir() == []


def test_what_was_not_used_for_longest_goes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_BYTES", 250)
    for number in range(3):
        kept(f"key-000{number}", write("x" * 100))
        os.utime(home / f"key-000{number}", (number, number))
    assert names(home) == ["key-0000", "key-0001", "key-0002"], "this process may still read them"
    forget()
    kept("key-0000", never)  # used again, so 1 is the oldest now
    kept("key-0003", write("x" * 100))
    assert names(home) == ["key-0000", "key-0003"]


def test_what_is_too_large_stays_for_its_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_BYTES", 50)
    assert (kept("key-0001", write("x" * 100)) / "file").exists()


def test_what_killed_runs_left_goes(home: Path) -> None:
    kept("key-0001", write())
    left, other = home / (".new-" + "0" * 16), home / "notes"
    for folder in (left, other):
        folder.mkdir()
        (folder / "file").touch()
    kept("key-0002", write())
    assert not left.exists() and other.exists()


def test_another_run_that_is_making_one_is_left_alone(home: Path) -> None:
    def inner(folder: Path) -> None:
        write()(folder)
        kept("key-0002", write())  # sweeps
        assert (folder / "file").exists()

    assert (kept("key-0001", inner) / "file").exists()


def test_another_one_was_faster(home: Path) -> None:
    def slow(folder: Path) -> None:
        write("mine")(folder)
        kept("key-0001", write("theirs"))

    assert (kept("key-0001", slow) / "file").read_text() == "theirs"
    assert names(home) == ["key-0001"]


def test_two_processes_at_once(home: Path) -> None:
    script = (
        "import sys, time\nfrom gradviz_cli.files.cache import kept\n"
        "def fill(folder):\n    (folder / 'file').write_text('x'); time.sleep(.2); (folder / 'more').write_text('y')\n"
        "for n in range(3):\n    found = kept(f'key-000{n}', fill)\n"
        "    assert sorted(p.name for p in found.iterdir()) == ['.files', 'file', 'more']\n"
    )
    run = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in run] == [0, 0]
    assert names(home) == ["key-0000", "key-0001", "key-0002"]


def test_several_threads_make_it_once(home: Path) -> None:
    made = []
    threads = [threading.Thread(target=lambda: kept("key-0001", lambda f: made.append(f))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_where_nothing_can_be_locked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used today stays; the rest goes, as nobody says who uses it."""

    def refused(*_: object) -> None:
        raise OSError(38, "not implemented")

    monkeypatch.setattr(cache.fcntl, "flock", refused)
    monkeypatch.setattr(cache, "MAX_BYTES", 150)
    for number in range(2):
        kept(f"key-000{number}", write("x" * 100))
    assert names(home) == ["key-0000", "key-0001"]
    os.utime(home / "key-0000", (1, 1))
    kept("key-0002", write("x" * 100))
    assert names(home) == ["key-0001", "key-0002"]
