"""OUT's manifest: one line for each image and run."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gradviz_cli.batch import shards
from gradviz_cli.errors import OutputError, UsageError
from gradviz_cli.files.near import near_path
from gradviz_cli.files.reading import head
from gradviz_cli.files.remote import Place
from gradviz_cli.files.text import now, printable
from gradviz_cli.files.whole import OWN_REMEDY, check_own, sync_file, writing
from gradviz_cli.plan.outputs import MANIFEST, WHOLE, Shard
from gradviz_cli.plan.results import Result

LOOKED_AT = 1 << 16  # bytes
LONGEST = 2**23  # bytes of a line; one of ten thousand pictures of an image has fewer
_LINE = re.compile(rb'"(image|source)"\s*:')


def check_there(out: Path) -> None:
    """Raise UsageError for a folder without one, in which nothing of gradviz can be told from somebody else's."""
    if not (out / MANIFEST).is_file():
        what = f" holds no {MANIFEST}" if out.exists() else ": no such folder"
        raise UsageError(f"{printable(out)}{what}", near_path(out) or "give a folder that `gradviz explain` wrote")


class Manifest:
    """Appends whole lines; begins on a new one where a killed run left a torn line.

    Parameters
    ----------
    more : mapping
        Fields that every line gets.
    shard : (i, n)
        Several that run at once have a file each; `batch.merge` makes one of them.

    Attributes
    ----------
    behind : bool
        Pictures have been published that are not in the manifest; true for good where writing it failed.
    """

    def __init__(self, out: Path, more: Mapping[str, Any] | None = None, shard: Shard = WHOLE):
        self._path, self._more = shards.manifest_of(out, shard), dict(more or {})
        self._noted: dict[str, Any] = {}
        self.behind = False
        with writing(self._path):
            if shard != WHOLE:  # where its lines will go must be ours too
                os.close(opened(out / MANIFEST))
            self._handle = opened(self._path)
            size = os.fstat(self._handle).st_size
            if size and os.pread(self._handle, 1, size - 1) != b"\n":
                self._append(b"\n")

    def add(self, *results: Result) -> None:
        """A line for each result.

        Raises
        ------
        OutputError
            They cannot be written; then none of them is.
        """
        time_ = now()
        records = [{**result.record(time_), **self._more} for result in results]
        if records:
            noted, self._noted = self._noted, {}
            records[0].update(noted)
        lines = [json.dumps(record) + "\n" for record in records]
        with writing(self._path):
            self._append("".join(lines).encode())

    def note(self, fields: Mapping[str, Any]) -> None:
        """Let the next line have these fields too."""
        self._noted |= fields

    def check(self) -> None:
        """Raise Locked where OUT may be another's by now; a lock of this machine is not lost."""

    @contextmanager
    def publishing(self) -> Iterator[Callable[..., None]]:
        """Around the publishing of pictures that are added inside."""
        self.behind = True
        yield self.add
        self.behind = False

    def close(self, sync: bool = True) -> None:
        """With `sync`, wait until all lines are on the disk."""
        with writing(self._path):
            try:
                if sync:
                    sync_file(self._handle)
            finally:
                os.close(self._handle)

    def _append(self, data: bytes) -> None:
        """All of it or nothing: what a full disk let through is taken back."""
        start = os.fstat(self._handle).st_size
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError:
            os.ftruncate(self._handle, start)
            raise


def opened(path: Path) -> int:
    """A descriptor that reads, and writes at the end; the file is made if there is none.

    Raises
    ------
    OutputError
        It is none of ours.
    """
    handle = shards.opened(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        check_own(handle, path)
        check_ours(os.pread(handle, LOOKED_AT, 0), path)
    except BaseException:
        os.close(handle)
        raise
    return handle


def check_folder(out: Path) -> None:
    """Before anything is written to it: what has the manifest's name there, if anything has. Raises OutputError."""
    check_ours(head(out / MANIFEST, LOOKED_AT), out / MANIFEST)


def check_ours(start: bytes, path: Place) -> None:
    """The beginning of a file; OutputError where it is none of a manifest."""
    if not is_ours(start):
        raise OutputError(f"{printable(path)}: cannot be written: it is no manifest of gradviz", OWN_REMEDY)


def is_ours(start: bytes) -> bool:
    """The beginning of a manifest: some line of it is one of an image; of the first line a killed run may have left a part,
    also none of it, and a power cut zeros."""
    text = start.strip(b"\0 \r\n")
    return bool(_LINE.search(text)) or b'{"image": '.startswith(text)


def read(out: Path, holding: str = "") -> Iterator[dict[str, Any]]:
    """The lines of a manifest in order, those alone that hold a text; behind them those of shards. A torn one is passed over,
    and one that is longer than any that a run writes.

    Raises
    ------
    OSError
        It is there, and cannot be read or is no regular file.
    """
    wanted = holding.encode()
    for path in _paths(out):
        try:
            handle = _read_from(path)
        except FileNotFoundError:
            continue
        with open(handle, "rb") as file:
            for line in _lines(file):
                if wanted in line and (record := _parsed(line)) is not None:
                    yield record


def _paths(out: Path) -> Iterator[Path]:
    """OUT's, then those of shards, also those that appear meanwhile; and where one of these was merged, OUT's once more."""
    new, seen = shards.manifests(out), set[Path]()
    yield out / MANIFEST
    while new:
        yield from new
        seen.update(new)
        new = [path for path in shards.manifests(out) if path not in seen]
    if any(not path.exists() for path in seen):
        yield out / MANIFEST


def _read_from(path: Path) -> int:
    """OUT's own may be a link, as a folder of somebody else's may be read."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags) if path.name == MANIFEST else shards.opened(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return handle


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def kept_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Those of images, as they stand there; not what was torn, or is no line of a run."""
    for line in _lines(file):
        if line.endswith(b"\n") and _LINE.search(line) and _parsed(line) is not None:
            yield line


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(LONGEST + 1):
        if len(line) <= LONGEST:
            yield line
        else:
            while line and not line.endswith(b"\n"):
                line = file.readline(1 << 16)
