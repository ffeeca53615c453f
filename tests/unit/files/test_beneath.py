"""What is written below a folder cannot be led out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradviz_cli.errors import OutputError
from gradviz_cli.files import whole
from gradviz_cli.files.beneath import entries_of, folder_below, parts_below
from gradviz_cli.files.whole import TEMPORARY, StagedFiles, publish, sweep


@pytest.mark.parametrize(
    ("root", "folder", "parts"),
    [
        ("out", "out", ()), ("out", "out/a/b", ("a", "b")), (".", "a", ("a",)), ("/x/out/", "/x/out/a", ("a",)),
        (b"out", b"out/\xff", ("\udcff",)), (Path("."), Path("."), ()),
    ],
)  # fmt: skip
def test_the_way_to_a_folder(root, folder, parts) -> None:
    assert parts_below(root, folder) == parts


@pytest.mark.parametrize(("root", "folder"), [("out", "a"), ("out", "out/../a"), ("out", "/out/a"), ("/out", "out")])
def test_a_folder_that_is_not_below(root, folder) -> None:
    with pytest.raises(ValueError, match="outside"):
        parts_below(root, folder)


def test_no_link_is_followed_but_the_root(tmp_path: Path) -> None:
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "link").symlink_to("a")
    with folder_below(tmp_path / "out", ("a", "b"), make=True) as handle:
        os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
        with entries_of(handle) as entries:
            assert [entry.name for entry in entries] == ["x"]
    assert (tmp_path / "real" / "a" / "b" / "x").exists()
    for make in (False, True):
        with pytest.raises(NotADirectoryError), folder_below(tmp_path / "out", ("link",), make=make):
            pass
    with pytest.raises(FileNotFoundError), folder_below(tmp_path / "gone", ("a",), make=True):
        pass


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a", "a/b", "none"):
        with (
            folder_below(tmp_path, tuple(name.split("/")), make=name != "none") if name != "none" else open(os.devnull)
        ):
            pass
    with pytest.raises(FileNotFoundError), folder_below(tmp_path, ("a", "none")):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("moment", ["before it is staged", "before it is published"])
def test_a_folder_that_is_swapped_for_a_link(tmp_path: Path, moment: str) -> None:
    """Nothing is made, replaced or removed where it leads; the image alone fails."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    for folder in (out / "sub", victim):
        folder.mkdir(parents=True)
        (folder / "x.png").write_bytes(b"precious")
    before = sorted(os.listdir(victim))

    def swap() -> None:
        (out / "sub").rename(out / "moved")
        (out / "sub").symlink_to(victim)

    with pytest.raises(OutputError), StagedFiles(out) as files:
        if moment == "before it is staged":
            swap()
        files.add(out / "sub" / "x.png", b"new")
        swap()
        publish(files.staged[0])
    assert sorted(os.listdir(victim)) == before and (victim / "x.png").read_bytes() == b"precious"
    assert not whole._unpublished


def test_sweeping_goes_where_no_link_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a folder becomes one after it was seen."""
    stale = f"{TEMPORARY}{'0' * 16}.tmp"
    out, victim = tmp_path / "out", tmp_path / "victim"
    (out / "sub").mkdir(parents=True)
    victim.mkdir()
    (victim / stale).touch()

    def swapped(root, parts):
        if parts and not (out / "sub").is_symlink():
            (out / "sub").rmdir()
            (out / "sub").symlink_to(victim)
        return folder_below(root, parts)

    monkeypatch.setattr(whole, "folder_below", swapped)
    assert sweep(out, below=True) == 0 and (out / "sub").is_symlink() and (victim / stale).exists()
