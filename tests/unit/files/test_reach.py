"""Folders on the way to a path that are closed, whoever runs these tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradviz_cli.files import reach


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may be listed from outside, and not entered."""
    folder, stat = tmp_path / "home", os.stat
    (folder / "below").mkdir(parents=True)

    def guarded(path, **more):
        if os.fspath(path).startswith(f"{folder}/"):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", guarded)
    return folder


def test_the_first_one_on_the_way(closed: Path) -> None:
    assert reach.closed_folder(closed / "below" / "x.png") == closed
    assert reach.closed_folder(closed) == closed
    assert reach.closed_folder(closed.parent / "other" / "x.png") is None


def test_the_working_folder_too(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: os.fspath(closed))
    assert reach.closed_folder("heatmaps") == closed


def test_what_is_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    assert reach.closed_folder("heatmaps") is None


def test_a_working_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert not reach.is_adrift()
    folder.rmdir()
    assert reach.is_adrift()
