"""Where OUT is, and what a run as a whole does there; `batch.files` is for single files.

opened(plan) -> Disk, OUT itself                       lock, manifest.jsonl, names
             -> batch.bucket.Bucket, OUT at a URL      lease, segments of the manifest, PUTs
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from gradviz_cli.batch import shards
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.lock import Lock, held
from gradviz_cli.batch.manifest import Manifest, check_folder
from gradviz_cli.batch.merge import merge, merge_if_alone
from gradviz_cli.errors import GradvizError
from gradviz_cli.files import scratch, whole
from gradviz_cli.files.names import Fold, folding
from gradviz_cli.plan.outputs import WHOLE, Shard
from gradviz_cli.plan.plan import Plan


class Hold(Protocol):
    """OUT while it is this run's, or this shard's."""

    def said(self) -> str:
        """What is odd about it; empty for nothing."""


class Store(Protocol):
    """OUT. `entered` comes first, but for a dry run, which only knows."""

    def fold(self) -> Fold:
        """Which names are one there."""

    def entered(self, wait: float, shard: Shard, end: float | None = None) -> AbstractContextManager[Any]:
        """Hold OUT inside; at the monotonic time `end` nobody waits for it any more. Raises Locked, OutputError."""

    def known(self, shard: Shard, keep: bool) -> Known:
        """What the manifest knows; with `keep` what makes the next reading short may be written. Raises OutputError."""

    def manifest(self, hold: Any, more: Mapping[str, Any], shard: Shard) -> AbstractContextManager[Manifest]:
        """Where lines are written, once what killed runs left has been swept. Raises OutputError."""


class Disk:
    """A folder of this machine."""

    def __init__(self, out: Path):
        self._out = out

    def fold(self) -> Fold:
        return folding(self._out)

    @contextmanager
    def entered(self, wait: float, shard: Shard, end: float | None = None) -> Iterator[Lock]:
        """The lines of shards are moved to where those of a run belong, by whoever is alone there."""
        try:
            with held(self._out, wait, shard, end) as lock:
                if shard == WHOLE:
                    merge(self._out, end)
                yield lock
        except GradvizError:
            with suppress(GradvizError):
                self._leave(shard, end)
            raise
        self._leave(shard, end)

    def _leave(self, shard: Shard, end: float | None) -> None:
        if shard != WHOLE:
            merge_if_alone(self._out, end)

    def known(self, shard: Shard, keep: bool) -> Known:
        check_folder(self._out)  # a dry run holds no lock
        return Known.of(self._out, shard, keep)

    @contextmanager
    def manifest(self, hold: Lock, more: Mapping[str, Any], shard: Shard) -> Iterator[Manifest]:
        """The lock is finished when it is complete."""
        scratch.sweep()
        hold.sweep()
        hold.begin()
        if shard == WHOLE:
            shards.clear(self._out)
        manifest, interrupted = Manifest(self._out, more, shard), True
        try:
            yield manifest
            interrupted = False
        except GradvizError:
            interrupted = False
            raise
        finally:
            if moved := hold.moved(self._out):  # what could not be removed under its old name
                whole.sweep(moved, below=True, owner=whole.OWNER)
            if not manifest.behind:
                manifest.close(sync=not interrupted)  # a signal leaves no time for it
                hold.finish()


@contextmanager
def opened(plan: Plan) -> Iterator[tuple[Plan, Store]]:
    """The plan to run with, whose `out` is a folder of this machine, and OUT."""
    if not plan.url:
        yield plan, Disk(plan.out)
        return
    from gradviz_cli.batch.bucket import opened as opened_bucket  # most runs need none

    with opened_bucket(plan) as (here, bucket):
        yield here, bucket
