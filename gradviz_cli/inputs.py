"""From the IMAGES of the command line to jobs: files, folders in name order, each with the name of its outputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gradviz_cli.errors import UsageError
from gradviz_cli.plan import Job


@dataclass(frozen=True)
class Inputs:
    """The images of a run; walked through as often as needed, one at a time, so that a million names need no list.

    A folder is searched recursively in name order; hidden files and folders, and what lies under OUT, are left out. A
    file that is named stands for itself, whatever its name.

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

    def check(self) -> None:
        """Raise UsageError when an argument does not exist, or when two images would share their outputs' names.

        Names below one folder differ by themselves, so only several arguments are walked through.
        """
        for path in self.paths:
            if not os.path.lexists(path):
                raise UsageError(f"no such file or folder: {path}", "check the path")
        if len(self.paths) == 1 and self.listed is None:
            return
        seen: set[int] = set()
        for job in self._all():
            key = hash(job.rel)
            if key in seen:
                self._insist_on_clash(job)
            seen.add(key)

    def _all(self) -> Iterator[Job]:
        out = os.path.realpath(self.out)
        for path in self.paths:
            yield from _below(path, "", out) if path.is_dir() else (Job(path, path.name),)
        for path in self.listed() if self.listed else ():
            yield from _below(path, "", out) if path.is_dir() else (Job(path, path.name),)

    def _insist_on_clash(self, second: Job) -> None:
        """Hashes can collide; names decide."""
        same = [job.path for job in self._all() if job.rel == second.rel]
        if len(same) > 1:
            raise UsageError(
                f"{same[0]} and {same[1]} would both be written as {second.rel}.*", "run them into two folders with --out"
            )


def names_in(file: BinaryIO, null: bool) -> Iterator[Path]:
    """The names in a list, one a line or NUL-ended; empty ones are passed over."""
    end, rest = b"\0" if null else b"\n", b""
    file.seek(0)
    while chunk := file.read(1 << 16):
        *whole, rest = (rest + chunk).split(end)
        yield from (Path(os.fsdecode(name)) for name in whole if name)
    if rest:
        yield Path(os.fsdecode(rest))


def _in_shard(rel: str, number: int, count: int) -> bool:
    if count == 1:
        return True
    return int.from_bytes(hashlib.sha256(os.fsencode(rel)).digest()[:8], "big") % count == number - 1


def _below(folder: Path, rel: str, out: str) -> Iterator[Job]:
    try:
        names = sorted(os.listdir(folder), reverse=True)
    except OSError:
        yield Job(folder, rel or folder.name)  # fails as an image does, with its name
        return
    while names:  # given back one by one
        name = names.pop()
        path = folder / name
        if name.startswith("."):
            continue
        inner = f"{rel}/{name}" if rel else name
        if not os.path.isdir(path):
            yield Job(path, inner)
        elif not os.path.islink(path) and os.path.realpath(path) != out:
            yield from _below(path, inner, out)
