"""Folders below a root, reached by descriptors and through no link: what is written or removed there cannot be led elsewhere,
whatever is done to the names meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from gradviz_cli.files.text import AnyPath

# A folder that may be entered need not be one that may be read.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

Parts = tuple[str, ...]  # names, from the root down


def parts_below(root: AnyPath, folder: AnyPath) -> Parts:
    """The names that lead from one to the other; ValueError where the folder is not below the root."""
    whole, above = (os.path.normpath(os.fsdecode(one)) for one in (folder, root))
    inner = os.path.relpath(whole, above) if whole.startswith("/") == above.startswith("/") else ".."
    found = () if inner == "." else tuple(inner.split("/"))
    if ".." in found:
        raise ValueError("it lies outside the folder")
    return found


@contextmanager
def folder_below(root: AnyPath, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder that `parts` lead to, for the `dir_fd` of other calls. The root itself may be a link.

    Parameters
    ----------
    make : bool
        Make the folders that are missing, but never the root: it is there, or was taken away and must not come back empty.

    Raises
    ------
    OSError
        There is no such folder; NotADirectoryError where one of the parts is a link.
    """
    handle = os.open(root, _FOLDER)
    try:
        for part in parts:
            if make:
                _make(part, handle)
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


@contextmanager
def entries_of(folder: int) -> Iterator[Iterator[os.DirEntry[str]]]:
    """What is in the folder of a descriptor. Raises OSError."""
    with _readable(folder) as handle, os.scandir(handle) as entries:
        yield entries


@contextmanager
def _readable(folder: int) -> Iterator[int]:
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def _make(name: str, parent: int) -> None:
    """And let the name be on the disk, as far as the file system can do that."""
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:  # another thread was faster, or it was there
        return
    with suppress(OSError), _readable(parent) as handle:
        os.fsync(handle)
