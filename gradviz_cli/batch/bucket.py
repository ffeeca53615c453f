"""OUT in a store: `batch.store.Store` and `batch.files.Files` over objects.

A folder of this machine stands for it while a run draws: the lines of its manifest are copied there, and pictures lie there
until each is put with one PUT, which is whole or not at all. Behind the pictures of a batch come its lines, as an object of
their own, since nothing can be appended:

    OUT/manifest.jsonl                                 what was brought together, in runs that ended well and by compact
    OUT/manifest/RUN-I-of-N-OWNER-NUMBER.jsonl         a batch; in the order of their names
    OUT/.gradviz.lock.claim, .gradviz.shards/*.claim   `batch.lease`
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradviz_cli.batch.files import MAX_OUTPUT, Look
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.lease import Lease, held, there, writing
from gradviz_cli.batch.lock import MERGING
from gradviz_cli.batch.manifest import LOOKED_AT, Manifest, check_ours
from gradviz_cli.draw.record import Record
from gradviz_cli.errors import Locked, OutputError
from gradviz_cli.files import objects, scratch, whole
from gradviz_cli.files.names import Fold, as_it_is
from gradviz_cli.files.objects import AT_ONCE, StoreError
from gradviz_cli.files.reading import Stamp, hash_file
from gradviz_cli.files.remote import Remote
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import OWNER, TEMPORARY, Staged
from gradviz_cli.plan.outputs import MANIFEST, SEGMENT, SEGMENTS, SHARDS, WHOLE, Shard
from gradviz_cli.plan.plan import Plan

# Segments that a run leaves at most: one that ends well brings more of them together.
MOST_SEGMENTS = 64
# Folders of OUT whose objects are remembered as they were listed.
MOST_FOLDERS = 16
# How often what changes while it is read is read again.
READINGS = 3


@contextmanager
def opened(plan: Plan) -> Iterator[tuple[Plan, Bucket]]:
    """The plan with a folder of this machine for its `out`, and OUT."""
    out = plan.place
    assert isinstance(out, Remote)
    with standing_for(out) as bucket:
        yield replace(plan, out=bucket.folder), bucket


@contextmanager
def standing_for(out: Remote) -> Iterator[Bucket]:
    """OUT with a folder that is gone at the end."""
    place = scratch.Scratch()
    try:
        yield Bucket(out, Path(place.folder()))
    finally:
        shutil.rmtree(place.path, ignore_errors=True)
        place.close()


class Bucket:
    """OUT at a URL, and the folder that stands for it."""

    at_once = AT_ONCE

    def __init__(self, out: Remote, folder: Path):
        self.out, self.folder = out, folder
        self._lease: Lease | None = None
        self._stamps: dict[bytes, Stamp | None] = {}
        self._folders: OrderedDict[str, dict[str, objects.Found]] = OrderedDict()
        self._guard = threading.Lock()

    # ---- a run

    def fold(self) -> Fold:
        return as_it_is

    @contextmanager
    def entered(self, wait: float, shard: Shard, end: float | None = None) -> Iterator[Lease]:
        with held(self.out, wait, shard, end) as self._lease:
            yield self._lease
        if shard != WHOLE:
            self._fold_if_alone()

    def known(self, shard: Shard, keep: bool) -> Known:
        self.lines()
        found = Known.of(self.folder, shard)
        found.files = self
        return found

    @contextmanager
    def manifest(self, hold: Lease, more: Mapping[str, Any], shard: Shard) -> Iterator[Manifest]:
        scratch.sweep()
        with writing(self.out):
            self._sweep()
            lines = Segments(self, more, shard)
        yield lines
        if shard == WHOLE:
            self.fold_segments(MOST_SEGMENTS)

    def _sweep(self) -> None:
        """Remove what tells the time of the store, where that was interrupted."""
        for found in objects.entries_if_any(self.out / SHARDS):
            if found.place.name.startswith(TEMPORARY):
                with suppress(StoreError):
                    objects.remove(found.place)

    def _fold_if_alone(self) -> None:
        """After a shard has ended: the last one finds nobody else there."""
        with suppress(Locked), held(self.out, 0, doing=MERGING) as self._lease:
            self.fold_segments(0)

    # ---- lines

    def segments(self) -> list[objects.Found]:
        """Those that are not in manifest.jsonl, in order. Raises StoreError."""
        found = [one for one in objects.entries_if_any(self.out / SEGMENTS) if SEGMENT.fullmatch(one.place.name)]
        return sorted(found, key=lambda one: one.place.name)

    def lines(self) -> list[objects.Found]:
        """As `gather`; raises OutputError."""
        try:
            return self.gather()
        except StoreError as error:
            raise OutputError(f"{printable(self.out)}: cannot be read: {error.reason}", error.remedy) from error

    def gather(self) -> list[objects.Found]:
        """Copy all lines to the manifest of the folder; the segments that they are of. Raises StoreError, OutputError."""
        for left in reversed(range(READINGS)):
            try:
                return self._gathered()
            except StoreError as error:
                if error.kind != "missing" or not left:
                    raise
        raise AssertionError("the last time it raises")

    def _gathered(self) -> list[objects.Found]:
        path, found = self.folder / MANIFEST, self.segments()
        path.unlink(missing_ok=True)
        base = there(self.out / MANIFEST)
        if base is not None:
            check_ours(objects.head(base.place, LOOKED_AT), base.place)
            if base.size:
                objects.fetch(base.place, os.fspath(path))
        with ThreadPoolExecutor(AT_ONCE) as pool, whole.writing(path), open(path, "ab") as file:
            for data in pool.map(lambda one: objects.read(one.place, one.size), found):
                file.write(data)
        return found

    def put_segment(self, name: str, data: bytes) -> None:
        """Lines, once their pictures are there. Raises Locked, OutputError."""
        self.check()
        place = self.out / SEGMENTS / name
        with writing(place):
            try:
                objects.create(place, data)
            except StoreError as error:  # an attempt of which the answer was lost may have written it
                if error.kind != "taken" or objects.read(place, len(data) + 1) != data:
                    raise

    def fold_segments(self, most: int) -> None:
        """Bring lines together in manifest.jsonl, where there are more than so many segments. It may be killed anywhere: what is
        there twice says the same. Only while nobody else writes there. Raises OutputError."""
        with writing(self.out / MANIFEST):
            many = len(self.segments()) > most
        if many:
            self.replace_manifest(self.lines())

    def replace_manifest(self, segments: Sequence[objects.Found]) -> None:
        """Put the manifest of the folder, which holds what these do. Raises OutputError."""
        self.check()
        with writing(self.out / MANIFEST), ThreadPoolExecutor(AT_ONCE) as pool:
            objects.put_file(self.out / MANIFEST, os.fspath(self.folder / MANIFEST))
            list(pool.map(lambda one: objects.remove(one.place), segments))

    def check(self) -> None:
        """Raise Locked where OUT may be another's by now."""
        if self._lease is not None:
            self._lease.check()

    # ---- files

    def look(self, path: Path | str) -> Look | None:
        name = str(Path(path).relative_to(self.folder))
        folder, _, last = name.rpartition("/")
        found = self._listed(folder).get(last)
        return None if found is None else Look(found.size, found.stamp)

    def is_there(self, path: Path) -> bool:
        return self.look(path) is not None

    def hashed(self, path: Path) -> tuple[str, Stamp | None] | None:
        now = self.look(path)
        with self._copy(path) as copy:
            found = hash_file(copy, MAX_OUTPUT)
        return None if found is None or now is None else (found[0], now.stamp)

    def record(self, path: Path, only: Collection[str] | None = None) -> Record | None:
        if not self.is_there(path):
            return None
        with self._copy(path) as copy:
            return Record.read(copy, only)

    @contextmanager
    def _copy(self, path: Path) -> Iterator[Path]:
        """An object's bytes; a path that leads nowhere if there is none."""
        copy = self.folder / f"{TEMPORARY}{threading.get_ident()}.copy"
        try:
            with suppress(StoreError):
                objects.fetch(self._remote(path), os.fspath(copy))
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def _listed(self, folder: str) -> dict[str, objects.Found]:
        """The objects in a folder of OUT as it was when it was first asked for: images come in name order, so it is asked for
        again and again."""
        with self._guard:
            if folder not in self._folders:
                place = self.out / folder if folder else self.out
                try:
                    found = objects.entries_if_any(place)
                except StoreError as error:
                    raise OutputError(f"{printable(place)}: cannot be listed: {error.reason}", error.remedy) from error
                self._folders[folder] = {one.place.name: one for one in found if not one.is_folder}
                while len(self._folders) > MOST_FOLDERS:
                    self._folders.popitem(last=False)
            self._folders.move_to_end(folder)
            return self._folders[folder]

    def ready(self, staged: Staged) -> None:
        """Put the object. Until its line is there too it is none of a run's: the next one puts it again."""
        self.check()
        place = self._remote(Path(os.fsdecode(staged.final)))
        with whole.writing(staged.temporary), open(staged.temporary, "rb") as file:
            data = file.read()
        with writing(place):
            objects.put(place, data)
            found = objects.look(place)
        if found.size != len(data):
            raise OutputError(
                f"{printable(place)}: another run has written it too", "let one run write there at a time"
            )
        self._stamps[staged.final] = found.stamp

    def publish(self, staged: Staged) -> Stamp | None:
        whole.discard(staged)
        return self._stamps.pop(staged.final, None)

    def settle(self, folder: bytes) -> None:
        """A PUT that has been answered is durable."""

    def _remote(self, path: Path) -> Remote:
        return self.out / str(path.relative_to(self.folder))


class Segments(Manifest):
    """Lines of a run, an object for those of each batch. Runs are numbered, so that later lines have later names."""

    def __init__(self, bucket: Bucket, more: Mapping[str, Any], shard: Shard):
        self._bucket, self._more, self._noted = bucket, dict(more), {}
        self._path = bucket.folder / MANIFEST
        self.behind = False
        numbers = [int(one.place.name.partition("-")[0]) for one in bucket.segments()]
        self._begin = f"{max(numbers, default=0) + 1:06d}-{shard[0]}-of-{shard[1]}-{hashlib.sha256(OWNER.encode()).hexdigest()[:8]}"
        self._count = 0

    def check(self) -> None:
        self._bucket.check()

    def _append(self, data: bytes) -> None:
        if data:
            self._bucket.put_segment(f"{self._begin}-{self._count:06d}.jsonl", data)
            self._count += 1

    def close(self, sync: bool = True) -> None:
        """Nothing is open."""
