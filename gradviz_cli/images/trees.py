"""What a folder holds, in which images are looked for: a folder of this machine, or of a store."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from gradviz_cli.files import objects
from gradviz_cli.files.objects import Found, StoreError
from gradviz_cli.files.reading import head
from gradviz_cli.files.remote import Place, Remote
from gradviz_cli.images import aside
from gradviz_cli.images.aside import is_output, is_written
from gradviz_cli.images.globs import folded, full_path
from gradviz_cli.plan.outputs import SEGMENT, SEGMENTS
from gradviz_cli.plan.plan import Job

Identity = tuple[int, int]  # device and inode
NAME_MAX, PATH_MAX = 255, 4096  # bytes of a name, and of a path with its end, that the system takes


class Entry(NamedTuple):
    """Something in a folder: `rel` is its path below the folder that was given. `unseen` may be anything: its path is too
    long, or the folder may be listed but not entered."""

    folder: str
    name: str
    rel: str
    path: str
    is_folder: bool
    is_link: bool
    unseen: bool

    @classmethod
    def at(cls, folder: str, name: str, rel: str) -> Entry:
        path = f"{folder.rstrip('/')}/{name}"
        try:
            mode, unseen = os.lstat(path).st_mode, False
        except OSError as error:
            mode, unseen = 0, error.errno != errno.ENOENT
        is_link = stat.S_ISLNK(mode)
        return cls(folder, name, rel, path, stat.S_ISDIR(mode) or is_link and os.path.isdir(path), is_link, unseen)


class Tree(Protocol):
    """Folders are named by texts; those that nobody can list say why in place of names."""

    def full_path(self, top: str) -> str:
        """As patterns are compared with it."""

    def names(self, folder: str) -> list[str] | str:
        """What is in it, the first one last."""

    def entry(self, folder: str, name: str, rel: str) -> Entry:
        """One of these names."""

    def job(self, path: str, rel: str, trouble: str | None = None) -> Job:
        """A file that is an image."""

    def is_out(self, folder: str) -> bool:
        """Whether it is OUT."""

    def is_output(self, folder: str, names: list[str] | str) -> bool:
        """Whether a run has written there."""

    def lies_in_output(self, folder: str) -> bool:
        """Whether it, or a folder above it, is such a one."""

    def is_written(self, path: str, in_output: bool) -> bool:
        """Whether a file is a run's."""

    def head(self, path: str, most: int) -> bytes:
        """The first bytes of a file; none where it cannot be read."""


class Disk:
    """Folders of this machine. What the listing calls a regular file is taken for one; the name of everything else ends in a
    slash, and a look shows what it is."""

    def __init__(self, out: Identity | None):
        self._out = out
        self.full_path = full_path
        self.lies_in_output, self.is_written, self.head = aside.lies_in_output, is_written, head

    def names(self, folder: str) -> list[str] | str:
        try:
            plain = os.access(folder, os.X_OK) and len(os.fsencode(folder)) < PATH_MAX - NAME_MAX - 1
            with os.scandir(folder) as found:
                names = [one.name if plain and one.is_file(follow_symlinks=False) else f"{one.name}/" for one in found]
        except OSError as error:
            return f"the folder cannot be listed: {error.strerror}"
        return sorted(names, key=_bare, reverse=True)

    def entry(self, folder: str, name: str, rel: str) -> Entry:
        if name.endswith("/"):
            return Entry.at(folder, name[:-1], rel[:-1])
        return Entry(folder, name, rel, f"{folder.rstrip('/')}/{name}", False, False, False)

    def job(self, path: str, rel: str, trouble: str | None = None) -> Job:
        return Job(Path(path), rel, trouble)

    def is_out(self, folder: str) -> bool:
        return identity(folder) == self._out

    def is_output(self, folder: str, names: list[str] | str) -> bool:
        return is_output(folder, [one for one in aside.TRACES if one in names or f"{one}/" in names])


class Store:
    """Folders of a store, each listed once. A folder and an object may have one name, so that of a folder ends in a slash
    among names."""

    def __init__(self, top: Remote, out: Place):
        self._scheme, self._out = top.scheme, out
        self._found: dict[str, Found] = {}
        self._last: Found | None = None  # whose turn it was
        self.full_path = folded

    def names(self, folder: str) -> list[str] | str:
        try:
            found = objects.entries(self._place(folder))
        except StoreError as error:
            return f"the folder cannot be listed: {error}"
        self._found |= {f"{folder}/{one.place.name}": one for one in found if not one.is_folder}
        names = [f"{one.place.name}/" if one.is_folder else one.place.name for one in found]
        return sorted(names, key=lambda name: (_bare(name), name), reverse=True)

    def entry(self, folder: str, name: str, rel: str) -> Entry:
        is_folder, bare = name.endswith("/"), name.rstrip("/")
        self._last = None if is_folder else self._found.pop(f"{folder}/{bare}", None)
        return Entry(folder, bare, rel.rstrip("/"), f"{folder}/{bare}", is_folder, False, False)

    def job(self, path: str, rel: str, trouble: str | None = None) -> Job:
        place, found = self._place(path), self._last
        return Job(place, rel, trouble, stamp=found.stamp if found and found.place == place else None)

    def is_out(self, folder: str) -> bool:
        return self._place(folder) == self._out

    def is_output(self, folder: str, names: list[str] | str) -> bool:
        place = self._place(folder)
        return is_output("", names, partial(_head, place)) or f"{SEGMENTS}/" in names and _has_segments(place)

    def lies_in_output(self, folder: str) -> bool:
        place = self._place(folder)
        return any(
            is_output("", aside.TRACES, partial(_head, one)) or _has_segments(one) for one in (place, *place.parents)
        )

    def is_written(self, path: str, in_output: bool) -> bool:
        return is_written(path, in_output, self.head)

    def head(self, path: str, most: int) -> bytes:
        return objects.head(self._place(path), most)

    def _place(self, path: str) -> Remote:
        return Remote(self._scheme, path.partition("://")[2])


def _bare(name: str) -> str:
    return name.rstrip("/")


def _head(folder: Remote, name: str, most: int) -> bytes:
    return objects.head(folder / name, most)


def _has_segments(folder: Remote) -> bool:
    try:
        return any(SEGMENT.fullmatch(one.place.name) for one in objects.entries_if_any(folder / SEGMENTS))
    except StoreError:
        return False


def identity(folder: str | os.PathLike) -> Identity | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
