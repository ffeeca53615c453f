"""What runs with --shard I/N leave in one OUT: a folder that has, for each, its lock and its lines of the manifest.

Several machines cannot append to one file (NFS has no such thing), so each shard writes a manifest of its own. Readers read
these behind OUT's; whoever is alone in OUT, the last shard that ends above all, moves their lines into it. So an array that
is through leaves what one run would.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gradviz_cli.files.beneath import entries_of, folder_below
from gradviz_cli.files.reading import head
from gradviz_cli.plan.outputs import LOCK_TEXT, LONGEST_LOCK, MANIFEST, SHARDS, WHOLE, Shard

_NAMES = re.compile(r"([1-9]\d{0,17})-of-([1-9]\d{0,17})\.(jsonl|moving|lock|claim)")
# What kinds of files there are: lines, and those that were being moved when that was interrupted, of which a part is in OUT's
# manifest already.
LINES, MOVING, HELD, CLAIMED = "jsonl", "moving", "lock", "claim"
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class File(NamedTuple):
    """One file of a shard."""

    shard: Shard
    kind: str

    @property
    def name(self) -> str:
        return f"{self.shard[0]}-of-{self.shard[1]}.{self.kind}"

    def path(self, out: Path) -> Path:
        return out / SHARDS / self.name


def file_of(name: str) -> File | None:
    """The file of this name; None where it is none of a shard."""
    named = _NAMES.fullmatch(name)
    return File((int(named[1]), int(named[2])), named[3]) if named else None


def manifest_of(out: Path, shard: Shard) -> Path:
    """Where a run writes its lines."""
    return out / MANIFEST if shard == WHOLE else File(shard, LINES).path(out)


def opened(path: Path, flags: int) -> int:
    """A descriptor of OUT's manifest or of a file of a shard. No link is followed: neither the file nor the folder of the
    shards may be one."""
    if path.parent.name != SHARDS:
        return os.open(path, flags | _FLAGS, 0o666)
    making = bool(flags & os.O_CREAT)
    try:
        with folder_below(path.parent.parent, (SHARDS,), make=making) as folder:
            return os.open(path.name, flags | _FLAGS, 0o666, dir_fd=folder)
    except NotADirectoryError as error:
        raise NotADirectoryError(error.errno, f"{SHARDS} is a link or a file") from error


def files(out: Path, *kinds: str) -> list[File]:
    """Those that are there, the ones that nobody has written to for longest first; none where there is no folder of them."""
    return [one.file for one in sorted(_found(out, *kinds))]


class _Found(NamedTuple):
    age: int
    file: File
    size: int


def _found(out: Path, *kinds: str) -> Iterator[_Found]:
    with suppress(OSError), folder_below(out, (SHARDS,)) as folder, entries_of(folder) as entries:
        for entry in entries:
            file = file_of(entry.name)
            if file and file.kind in kinds and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    yield _Found(status.st_mtime_ns, file, status.st_size)


def manifests(out: Path) -> list[Path]:
    """The manifests of shards whose lines are not, or not all, in OUT's yet, in the order in which they belong there."""
    return [file.path(out) for kind in (MOVING, LINES) for file in files(out, kind)]


def is_beside(path: Path, shard: Shard) -> bool:
    """Whether a manifest is that of a shard which has other images for sure."""
    named = _NAMES.fullmatch(path.name)
    return named is not None and shard != WHOLE and int(named[2]) == shard[1] and int(named[1]) != shard[0]


def any_unfinished(out: Path) -> bool:
    """Whether the lock of a shard says that somebody holds it; while nobody does, that one was killed."""
    return any(file.size for file in _found(out, HELD))


def clear(out: Path) -> None:
    """Remove locks of shards that have ended, and the folder when it is empty then. Only while nobody else writes there, and
    after what killed ones left was swept."""
    with suppress(OSError):
        with folder_below(out, (SHARDS,)) as folder:
            for file in files(out, HELD):
                if LOCK_TEXT.fullmatch(head(file.path(out), LONGEST_LOCK + 1)):
                    os.unlink(file.name, dir_fd=folder)
        os.rmdir(out / SHARDS)
