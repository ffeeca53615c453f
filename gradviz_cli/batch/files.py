"""What a run does with single files of OUT: looks at those that are there, and publishes new ones.

A file is named by its path below the folder that is drawn in, which is OUT itself, or stands for one in a store
(`batch.bucket`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, Protocol

from gradviz_cli.draw.record import Record
from gradviz_cli.files import whole
from gradviz_cli.files.reading import Stamp, hash_file, stamp_of
from gradviz_cli.files.whole import Staged, sync_folder, writing

MAX_OUTPUT = 2**34  # bytes; far more than an array of the largest input has


class Look(NamedTuple):
    """A file as it is there; no stamp where none is to be had."""

    size: int
    stamp: Stamp | None


class Files(Protocol):
    """For several threads at once, but for `publish` and `settle`.

    Attributes
    ----------
    at_once : int
        Files that are made ready together.
    """

    at_once: int

    def look(self, path: Path | str) -> Look | None:
        """How a file looks; None where there is none."""

    def is_there(self, path: Path) -> bool:
        """Whether something has this name."""

    def hashed(self, path: Path) -> tuple[str, Stamp | None] | None:
        """SHA-256 and stamp; None where it cannot be read."""

    def record(self, path: Path, only: Collection[str] | None = None) -> Record | None:
        """What a picture says of itself, as `Record.read`."""

    def ready(self, staged: Staged) -> None:
        """The long part of publishing: the bytes are where no power cut takes them. Raises OutputError."""

    def publish(self, staged: Staged) -> Stamp | None:
        """The file has its name now. Raises OutputError."""

    def settle(self, folder: bytes) -> None:
        """The names in a folder are where no power cut takes them. Raises OutputError."""


class Here:
    """Files of this machine."""

    # File systems write what several wait for in one go: eight at a time cost a disk little more than one.
    at_once = 8

    def look(self, path: Path | str) -> Look | None:
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        return Look(status.st_size, stamp_of(status)) if stat.S_ISREG(status.st_mode) else None

    def is_there(self, path: Path) -> bool:
        return os.path.lexists(path)

    def hashed(self, path: Path) -> tuple[str, Stamp | None] | None:
        return hash_file(path, MAX_OUTPUT)

    def record(self, path: Path, only: Collection[str] | None = None) -> Record | None:
        return Record.read(path, only)

    def ready(self, staged: Staged) -> None:
        with writing(staged.final):
            try:
                handle = os.open(staged.temporary, os.O_RDONLY | os.O_CLOEXEC)
            except PermissionError:  # a umask that takes even the owner's right to read
                return
            try:
                whole.sync_file(handle)
            finally:
                os.close(handle)

    def publish(self, staged: Staged) -> Stamp | None:
        return stamp_of(whole.publish(staged))

    def settle(self, folder: bytes) -> None:
        with writing(folder):
            sync_folder(folder)


HERE: Files = Here()
