"""Drawn images -> files under their names and lines in the manifest: durable first, named second, written down third."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gradviz_cli.batch.current import as_written
from gradviz_cli.batch.files import HERE, Files
from gradviz_cli.batch.flow import Stage
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.draw.pictures import Drawn
from gradviz_cli.errors import GradvizError, OutputError
from gradviz_cli.files import whole
from gradviz_cli.files.objects import StoreError
from gradviz_cli.files.reading import Stamp
from gradviz_cli.files.text import AnyPath, printable
from gradviz_cli.files.whole import Staged
from gradviz_cli.plan.results import Result, Status

# What is wrong with one name; anything else is wrong with the disk or the folder.
_OF_ONE_NAME = {
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.EILSEQ,
    errno.EINVAL,
    errno.ELOOP,
    errno.EBUSY,
}


class Published(NamedTuple):
    """The results that stand in the manifest now, and what ends the run, if something does."""

    results: list[Result]
    end: GradvizError | None = None


class Publisher(Stage):
    """The last stage of a run: publishes one group of drawn images after the other, in one thread.

    Parameters
    ----------
    known : Known, optional
        What the manifest says of the files in OUT. One that still is what was written, and would be written again, stays
        untouched: a current picture beside a new one.

    Attributes
    ----------
    enough : bool
        An image failed and `fail_fast` was asked for: nothing is published any more.
    """

    def __init__(
        self, out: Path, manifest: Manifest, fail_fast: bool = False, files: Files = HERE, known: Known | None = None
    ):
        super().__init__("publish", 1)
        self._known = known if files is HERE else None
        self._out, self._manifest, self._fail_fast, self._files = out, manifest, fail_fast, files
        self._is = _identity(out)
        self._readying = ThreadPoolExecutor(files.at_once, "ready")
        self.enough = False

    def submit(self, drawn: Sequence[Future[Drawn | None]]) -> Future[Published]:
        """Publish together what these futures give; None is an image that is dropped as the run is over."""
        return self._pool.submit(self._publish, drawn)

    def _publish(self, futures: Iterable[Future[Drawn | None]]) -> Published:
        """An image that cannot be written for a reason that holds for all ends the run; the others are published."""
        group: list[Drawn] = []
        end: GradvizError | None = None
        for future in futures:
            try:
                drawn = future.result()
            except CancelledError:
                drawn = None
            except GradvizError as error:
                end, drawn = end or error, None
            if drawn is not None:
                group.append(drawn)
        if self.closed:
            discard(group)
            return Published([])
        published = self.publish(group)
        return Published(published.results, published.end or end)

    def publish(self, group: Sequence[Drawn]) -> Published:
        """Publish these images now. One whose name cannot be written fails by itself.

        No temporary file of the group is left. Not for several threads at once.
        """
        results: list[Result] = []
        try:
            group = [self._changed(drawn) for drawn in group]
            self._ready(self._up_to_failed(group))
            self._check_out()
            with self._manifest.publishing() as write:
                end = self._name(group, results)
                self._settle(group[: len(results)])
                write(*results)
            return Published(results, end)
        except GradvizError as error:
            return Published([], error)
        finally:
            discard(group[len(results) :])

    def _changed(self, drawn: Drawn) -> Drawn:
        """Without the files that are there by now with the same bytes."""
        if not self._known or not drawn.files:
            return drawn
        kept: dict[str, Stamp | None] = {}
        changed: list[Staged] = []
        for staged in drawn.files:
            name = self._name_of(staged)
            before = as_written(self._out / name, self._known.written(name))
            if before and before.sha256 == drawn.result.hashes.get(name):
                kept[name] = before.stamp
                whole.discard(staged)
            else:
                changed.append(staged)
        stamps = {name: stamp for name, stamp in kept.items() if stamp}
        return Drawn(replace(drawn.result, stamps=stamps, kept=tuple(kept)), tuple(changed))

    def _name_of(self, staged: Staged) -> str:
        """In the manifest."""
        return str(Path(os.fsdecode(staged.final)).relative_to(self._out))

    def _name(self, group: Sequence[Drawn], results: list[Result]) -> GradvizError | None:
        """Fill `results` up to the first image that ends the run; why it does."""
        for drawn in group:
            if self.enough:
                return None
            try:
                results.append(self._named(drawn))
            except OutputError as error:
                return error
            self.enough = self._fail_fast and results[-1].failed
        return None

    def release(self) -> None:
        """After `close`, when nothing is under way any more, or nobody waits for it."""
        self._readying.shutdown(wait=False, cancel_futures=True)

    def _up_to_failed(self, group: Sequence[Drawn]) -> Sequence[Drawn]:
        """With --fail-fast nothing is published behind the first that failed."""
        failed = (place for place, drawn in enumerate(group) if drawn.result.failed)
        return group[: next(failed, len(group)) + 1] if self._fail_fast else group

    def _ready(self, group: Iterable[Drawn]) -> None:
        waiting = [self._readying.submit(self._files.ready, staged) for drawn in group for staged in drawn.files]
        for future in waiting:
            future.result()

    def _named(self, drawn: Drawn) -> Result:
        if not drawn.files:
            return drawn.result
        try:
            looks = {self._name_of(staged): self._files.publish(staged) for staged in drawn.files}
            stamps = {name: look for name, look in looks.items() if look}
            return replace(drawn.result, stamps={**drawn.result.stamps, **stamps})
        except OutputError as error:
            if ends_run(error, self._out):
                raise
            discard([drawn])
            return unwritable(drawn.result, error, self._out, [os.fsdecode(staged.final) for staged in drawn.files])

    def _settle(self, group: Iterable[Drawn]) -> None:
        for folder in {os.path.dirname(staged.final) or b"." for drawn in group for staged in drawn.files}:
            self._files.settle(folder)

    def _check_out(self) -> None:
        """What was removed or unmounted must not come back as an empty folder with half of the pictures."""
        if _identity(self._out) != self._is:
            raise OutputError(f"{self._out}: is no longer the folder it was", "was it removed, replaced or unmounted?")


def ends_run(error: OutputError, out: Path) -> bool:
    """Whether no other output could be written either: disk full, read-only, gone; and not one name that is taken."""
    if isinstance(error.__cause__, StoreError):
        return True
    number = getattr(error.__cause__, "errno", None)
    if number in (errno.EACCES, errno.EPERM, errno.ENOENT):
        return not os.access(out, os.W_OK | os.X_OK)
    return error.__cause__ is not None and number is not None and number not in _OF_ONE_NAME


def unwritable(result: Result, error: OutputError, out: Path, paths: Iterable[AnyPath]) -> Result:
    """The result of an image whose output has a name that cannot be written; `paths` are those of its outputs."""
    said = next(filter(None, (_taken(Path(result.image), out, Path(os.fsdecode(path))) for path in paths)), None)
    described = {"kind": "output", "message": said or f"{error.message}; {error.remedy}"}
    return replace(result, status=Status.FAILED, outputs=(), hashes={}, stamps={}, kept=(), error=described)


def _taken(image: Path, out: Path, path: Path) -> str | None:
    """That a folder of the images has the name of a file in OUT, so that one of both cannot be written in any OUT."""
    try:
        below = path.relative_to(out).parts
    except ValueError:
        return None
    for depth in range(1, len(below) + 1):
        place, last = out.joinpath(*below[:depth]), depth == len(below)
        if not os.path.lexists(place) or place.is_symlink() or place.is_dir() is not last:
            continue
        folder = image.parent / place.name if last else _above(image, len(below) - depth)
        if folder.name == place.name and folder.is_dir():
            what = "it is a folder" if last else f"{printable(place)} is a file"
            return (
                f"{printable(path)}: cannot be written: {what}, and the folder of images {printable(folder)} has that name; "
                "rename that one, or explain it by itself with another --out"
            )
    return None


def _above(image: Path, levels: int) -> Path:
    """The folder that lies so many levels above, as it was typed where that tells."""
    typed = image.parents
    return typed[levels - 1] if levels < len(typed) else Path(*Path(os.path.abspath(image)).parts[:-levels])


def discard(group: Iterable[Drawn]) -> None:
    """Remove the temporary files; those that have their names by now stay."""
    for drawn in group:
        for staged in drawn.files:
            whole.discard(staged)


def _identity(folder: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = os.stat(folder)
        return status.st_dev, status.st_ino
    return None
