"""The lines of shards -> the end of OUT's manifest, by whoever is alone in OUT."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from gradviz_cli.batch import manifest, shards
from gradviz_cli.batch.lock import MERGING, held
from gradviz_cli.errors import Locked, TimeUp
from gradviz_cli.files.beneath import folder_below
from gradviz_cli.files.whole import check_own, sync_file, sync_folder, writing
from gradviz_cli.plan.outputs import MANIFEST, SHARDS


def merge_if_alone(out: Path, end: float | None = None) -> None:
    """After a shard has ended: the last one finds nobody else there, and leaves OUT as one run would have. Not once time is
    up, nor any further: whoever comes next goes on.

    Raises
    ------
    OutputError
        The lines cannot be moved. They stay where they are, where readers and the next run find them.
    """
    with suppress(Locked):
        if not (out / SHARDS).is_dir():
            return
        with held(out, 0) as lock:
            lock.sweep()
            lock.begin(MERGING)
            with suppress(TimeUp):
                merge(out, end)
                shards.clear(out)
            lock.finish()


def merge(out: Path, end: float | None = None) -> None:
    """Move the lines. It may be killed anywhere: what it has written by then is not written again, as the file has another
    name from its first line to its last, and comes first the next time.

    Only while nobody else writes in OUT.

    Raises
    ------
    OutputError
        They cannot be moved, or what has the name of a shard's manifest is none of ours.
    TimeUp
        At the monotonic time `end`: as if it were killed then.
    """
    for path in shards.manifests(out):
        with writing(path), open(shards.opened(path, os.O_RDONLY), "rb") as source:
            check_own(source.fileno(), path)
            manifest.check_ours(os.pread(source.fileno(), manifest.LOOKED_AT, 0), path)
            moving = path.with_suffix(f".{shards.MOVING}")
            with folder_below(out, (SHARDS,)) as folder:
                os.rename(path.name, moving.name, src_dir_fd=folder, dst_dir_fd=folder)
                sync_folder(out / SHARDS)
                _append(out, source, end)
                sync_folder(out)
                os.unlink(moving.name, dir_fd=folder)
                sync_folder(out / SHARDS)


def _append(out: Path, source: IO[bytes], until: float | None) -> None:
    with open(manifest.opened(out / MANIFEST), "r+b") as target:
        end = place = os.fstat(target.fileno()).st_size
        for number, line in enumerate(manifest.kept_lines(source)):
            if until is not None and time.monotonic() >= until:
                raise TimeUp(
                    f"--max-duration is reached while the lines of shards are moved to {MANIFEST}",
                    "they are read where they are, and the next run goes on",
                )
            if number == 0:
                place = _begun(target, line, end, os.fstat(source.fileno()).st_size)
            there = os.pread(target.fileno(), len(line), place) if place < end else b""
            if there and line.startswith(there):  # all of it, or what there was time for
                target.write(line[len(there) :])
                place += len(line)
                continue
            if place < end or number == 0 and end and os.pread(target.fileno(), 1, end - 1) != b"\n":
                target.write(b"\n")  # a line was torn there
                place = end
            target.write(line)
        target.flush()
        sync_file(target.fileno())


def _begun(target: IO[bytes], first: bytes, end: int, size: int) -> int:
    """Where a merge that was killed began to write these lines, the first of which has a time of its own; else the end."""
    step, place = 1 << 20, max(0, end - size)
    while place < end:
        found = os.pread(target.fileno(), step + len(first), place).find(first)
        if found >= 0:
            return place + found
        place += step
    torn = os.pread(target.fileno(), len(first), max(0, end - len(first))).rpartition(b"\n")[2]
    return end - len(torn) if first.startswith(torn) else end
