"""From the IMAGES of the command line to jobs: files, folders in name order, each with the name of its outputs."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from gradviz_cli.errors import TimeUp, UsageError
from gradviz_cli.files.text import printable
from gradviz_cli.plan.plan import Job

Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class Inputs:
    """The images of a run; walked through as often as needed, one at a time, so that a million names need no list.

    A folder is searched recursively in name order; hidden files and folders, links to folders, and what lies under
    OUT are left out. A file that is named stands for itself, whatever its name.

    Attributes
    ----------
    paths : tuple of Path
        Files and folders of the command line.
    listed : callable, optional
        Gives the names of --files-from anew at each call.
    shard : (i, n)
        Only the i-th (from 1) of n parts; an image's part follows from its output name, on every machine the same.
    """

    paths: tuple[Path, ...]
    out: Path
    listed: Callable[[], Iterator[Path]] | None = None
    shard: tuple[int, int] = (1, 1)

    def jobs(self) -> Iterator[Job]:
        """Every image of this shard."""
        return (job for job in self._all() if _in_shard(job.rel, *self.shard))

    def check(self, names: Callable[[str], Iterable[str]] | None = None, end: float | None = None) -> None:
        """Raise UsageError when an argument does not exist, or when two images would share their outputs' names.

        Parameters
        ----------
        names : callable, optional
            Gives the names that the outputs of an image begin with, where they may equal those of another image in the
            same folder. Else names below one folder differ by themselves, and only several arguments are walked through.
        end : float, optional
            Monotonic time at which TimeUp is raised.
        """
        for path in self.paths:
            if not os.path.lexists(path):
                raise UsageError(f"no such file or folder: {printable(path)}", "check the path")
        if names is None and len(self.paths) == 1 and self.listed is None:
            return
        names = names or (lambda rel: (rel,))
        hashes = array("q", (hash(name) for job in _until(end, self._all()) for name in names(job.rel)))
        seen = np.sort(np.frombuffer(hashes, np.int64)) if hashes else np.empty(0, np.int64)
        twice = set(seen[1:][seen[1:] == seen[:-1]].tolist())
        if twice:
            self._check_difference(twice, names)

    def why_none(self) -> str:
        """Why there may be no image."""
        out = _identity(self.out)
        inside = next((path for path in self.paths if os.path.isdir(path) and _inside(path, out)), None)
        if inside is None:
            return "no image was found"
        return f"no image was found: {printable(inside)} is not searched, as it is --out {printable(self.out)} or lies in it"

    def _check_difference(self, twice: set[int], names: Callable[[str], Iterable[str]]) -> None:
        """Hashes can collide; names decide."""
        first: dict[str, Path] = {}
        for job in self._all():
            for name in names(job.rel):
                if hash(name) in twice and name in first:
                    raise _clash(first[name], job.path, name)
                if hash(name) in twice:
                    first[name] = job.path

    def _all(self) -> Iterator[Job]:
        out = _identity(self.out)
        for path in self.paths:
            yield from _jobs(path, out)
        for path in self.listed() if self.listed else ():
            yield from _jobs(path, out)


def _until(end: float | None, jobs: Iterator[Job]) -> Iterator[Job]:
    for job in jobs:
        if end is not None and time.monotonic() >= end:
            raise TimeUp("--max-duration is reached while the images are listed", "give more time, or fewer images")
        yield job


def _clash(first: Path, second: Path, name: str) -> UsageError:
    if first == second:
        return UsageError(f"{printable(first)} is given twice", "name it once")
    return UsageError(
        f"{printable(first)} and {printable(second)} would both be written as {printable(name)}.*",
        "run them into two folders with --out, or give the folder that holds both",
    )


def names_in(file: IO[bytes], null: bool) -> Iterator[Path]:
    """The names in a list, one a line (of Unix or Windows) or NUL-ended; empty ones are passed over.

    Several may walk through the same open file at once.
    """
    end, rest, at = b"\0" if null else b"\n", b"", 0
    while chunk := os.pread(file.fileno(), 1 << 16, at):
        at += len(chunk)
        *whole, rest = (rest + chunk).split(end)
        yield from (_named(name, null) for name in whole if name.strip(b"\r"))
    if rest:
        yield _named(rest, null)


def _named(name: bytes, null: bool) -> Path:
    return Path(os.fsdecode(name if null else name.removesuffix(b"\r")))


def _in_shard(rel: str, number: int, count: int) -> bool:
    if count == 1:
        return True
    return int.from_bytes(hashlib.sha256(os.fsencode(rel)).digest()[:8], "big") % count == number - 1


def _jobs(path: Path, out: Identity | None) -> Iterator[Job]:
    """A file by itself; of a folder what is below it."""
    if not os.path.isdir(path):
        yield Job(path, path.name)
    elif not _inside(path, out):
        yield from _below(path, out)


def _below(top: Path, out: Identity | None) -> Iterator[Job]:
    """Depth first and in name order; names are sorted folder by folder, and given back one by one."""
    open_folders = [(os.fspath(top), "", _listing(os.fspath(top)))]
    while open_folders:
        folder, rel, names = open_folders[-1]
        if isinstance(names, str):
            yield Job(Path(folder), rel or top.name, names)
        if isinstance(names, str) or not names:
            open_folders.pop()
            continue
        name = names.pop()
        if name.startswith("."):
            continue
        path, inner = os.path.join(folder, name), f"{rel}/{name}" if rel else name
        status = _status(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) != out:
                open_folders.append((path, inner, _listing(path)))
        elif not os.path.isdir(path):  # a link to a folder may lead anywhere, also in a circle
            yield Job(Path(path), inner)


def _listing(folder: str) -> list[str] | str:
    """The names in a folder, the first one last; or why it cannot be listed."""
    try:
        return sorted(os.listdir(folder), reverse=True)
    except OSError as error:
        return f"the folder cannot be listed: {error.strerror}"


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _identity(folder: str | os.PathLike) -> Identity | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _inside(folder: Path, out: Identity | None) -> bool:
    """Whether a folder is OUT or lies below it, by whatever name."""
    try:
        real = Path(os.path.realpath(folder))
    except OSError:  # the working folder is gone
        return False
    return out is not None and any(_identity(place) == out for place in (real, *real.parents))
