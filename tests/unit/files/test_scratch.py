"""Private folders and files for what is temporary, and what killed runs left of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from children import python

from gradviz_cli.errors import OutputError
from gradviz_cli.files import scratch
from gradviz_cli.files.scratch import PREFIX, Scratch, fill, sweep, unnamed_file


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
