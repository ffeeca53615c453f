"""Private folders and files for what is temporary, and what killed runs left of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from children import python

from gradviz_cli.errors import OutputError
from gradviz_cli.files import scratch
from gradviz_cli.files.scratch import PREFIX, Scratch, fill, overfull, sweep, unnamed_file


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one place for temporary files."""
    monkeypatch.setattr(scratch, "_bases", lambda: iter([str(tmp_path)]))
    return tmp_path


def test_a_folder_for_this_user_alone_that_goes_with_its_run(tmp: Path) -> None:
    mine = Scratch()
    path = Path(mine.path)
    assert path.parent == tmp and path.name.startswith(PREFIX)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700 and not list(path.iterdir())
    (path / "deep" / "er").mkdir(parents=True)
    (path / "deep" / "file").write_bytes(b"x")
    mine.close()
    mine.close()
    assert not list(tmp.iterdir())


def test_two_runs_have_two_folders(tmp: Path) -> None:
    one, other = Scratch(), Scratch()
    assert one.path != other.path
    assert sweep() == 0  # both are alive
    one.close()
    assert os.path.isdir(other.path)
    other.close()


def test_what_a_killed_run_left_is_swept(tmp: Path) -> None:
    code = f"""if True:
        import os, signal
        from gradviz_cli.files import scratch
        scratch._bases = lambda: iter([{str(tmp)!r}])
        print(os.path.basename(scratch.Scratch().path), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    name = python(code).stdout.decode().strip()
    assert [path.name for path in tmp.iterdir()] == [name]
    alive = Scratch()
    assert sweep() == 1
    assert [str(path) for path in tmp.iterdir()] == [alive.path]
    alive.close()


def test_the_working_folder_is_no_place_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", "relative")
    monkeypatch.setenv("TEMP", "")
    monkeypatch.setenv("TMP", str(tmp_path / "mine"))
    assert list(scratch._bases()) == [str(tmp_path / "mine"), "/tmp", "/var/tmp", "/usr/tmp"]


def test_the_next_place_is_taken_where_one_cannot_be_written(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    monkeypatch.setattr(scratch, "_bases", lambda: iter([str(tmp_path / "gone"), str(tmp_path / "good")]))
    mine = Scratch()
    assert Path(mine.path).parent == tmp_path / "good"
    mine.close()
    with unnamed_file() as file:
        fill(file, b"x" * 100_000)
        assert os.fstat(file.fileno()).st_size == 100_000
    assert not list((tmp_path / "good").iterdir())


def test_where_there_is_no_place_the_run_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scratch, "_bases", lambda: iter([str(tmp_path / "gone")]))
    for make in (Scratch, unnamed_file):
        with pytest.raises(OutputError, match="gone") as caught:
            make()
        assert "TMPDIR" in caught.value.remedy


def test_a_full_disk_is_said() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OutputError, match="No space left"):
        fill(full, b"x")


def chain(folder: Path, depth: int) -> int:
    """Folders inside each other, deeper than any path may be; a descriptor of the last one."""
    handle = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=handle)
        handle, above = os.open("d", os.O_RDONLY, dir_fd=handle), handle
        os.close(above)
    return handle


def test_what_a_child_writes_is_bounded(tmp_path: Path) -> None:
    assert overfull(str(tmp_path), 2**20) is None
    for number in range(3):
        (tmp_path / "folder" / str(number)).mkdir(parents=True)
    (tmp_path / "file").write_bytes(bytes(2**19))
    (tmp_path / "link").symlink_to("/")
    assert overfull(str(tmp_path), 2**20) is None
    (tmp_path / "folder" / "0" / "more").write_bytes(bytes(2**19))
    assert "1 MiB" in overfull(str(tmp_path), 2**20)


def test_many_entries_without_a_byte_are_too_much(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).touch()
    assert overfull(str(tmp_path), 2**20) is not None


def test_what_lies_too_deep_to_be_counted_is_too_much(tmp_path: Path) -> None:
    os.close(chain(tmp_path, 5))
    assert overfull(str(tmp_path), 2**20) is None
    (tmp_path / "e").mkdir()
    os.close(chain(tmp_path / "e", 20))
    assert overfull(str(tmp_path), 2**20) is not None


@pytest.mark.parametrize(("depth", "long"), [(40, 1), pytest.param(3000, 2000, marks=pytest.mark.slow)])
def test_folders_of_any_depth_are_removed(tmp: Path, monkeypatch, depth: int, long: int) -> None:
    monkeypatch.setattr(scratch, "_LONG", long)
    mine = Scratch()
    deepest = chain(Path(mine.path), depth)
    os.close(os.open("file", os.O_CREAT, dir_fd=deepest))
    os.close(deepest)
    mine.close()
    assert not list(tmp.iterdir())


def test_what_a_child_locked_is_removed_and_what_a_link_leads_to_is_not(tmp: Path) -> None:
    (tmp / "kept").mkdir()
    (tmp / "kept" / "file").touch()
    mine = Scratch()
    os.symlink(tmp / "kept", os.path.join(mine.path, "link"))
    locked = Path(mine.path, "a", "b", "c")
    locked.mkdir(parents=True)
    for folder in (locked, *list(locked.parents)[:2]):
        folder.chmod(0)
    mine.clear()
    assert not os.listdir(mine.path)
    mine.close()
    assert [path.name for path in (tmp / "kept").iterdir()] == ["file"]


def test_a_child_has_a_folder_of_its_own(tmp: Path) -> None:
    mine = Scratch()
    one, other = mine.folder(), mine.folder()
    assert one != other and os.path.dirname(one) == mine.path == os.path.dirname(other)
    assert stat.S_IMODE(os.stat(one).st_mode) == 0o700
    mine.close()
