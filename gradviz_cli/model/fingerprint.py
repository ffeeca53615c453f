"""Which model it was: a hash over every file that a SavedModel is made of."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from gradviz_cli.errors import GradvizError, ModelRefused, ModelUnusable
from gradviz_cli.files.text import printable
from gradviz_cli.model.kinds import GRAPHS, form_of, is_saved_model, unusable

PARTS = (*GRAPHS, "variables", "assets", "assets.extra")
# Far beyond any image model; a file of holes may claim to be of any size.
MAX_BYTES = 2**36
MAX_FILES = 100_000
# A file that was written so shortly before it was hashed may be written again at what its times call the same moment.
YOUNG = 2 * 10**9  # nanoseconds

State = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Seal:
    """A model as it was read.

    Attributes
    ----------
    fingerprint : str
        Of its files.
    state : tuple
        Name, device, inode, size and times of each file and folder: while these are equal, nothing was changed.
    taken : int
        When, in nanoseconds.
    """

    fingerprint: str
    state: State
    taken: int = field(compare=False)

    @property
    def young(self) -> bool:
        """Whether equal times prove nothing yet."""
        return any(
            moment > self.taken - YOUNG for _, (*_, modified, changed) in self.state for moment in (modified, changed)
        )


def seal(model: Path) -> Seal:
    """The fingerprint of a model, and how to tell that it still holds; raises as `of_model`."""
    taken, state = time.time_ns(), state_of(model)  # before the hash: what is changed in between shows
    return Seal(of_model(model), state, taken)


def unbroken(model: Path, before: Seal) -> Seal:
    """The seal of a model that holds what it held; another one than `before` if somebody has touched its files.

    They are hashed again only if they were touched.

    Raises
    ------
    ModelUnusable
        It holds something else, or is gone.
    """
    if before.state == state_of(model):
        if not before.young:
            return before
        _of_file.cache_clear()
    shown = printable(model)
    try:
        now = seal(model)
    except GradvizError as error:
        raise ModelUnusable(f"{shown} was removed or replaced during the run", "run again with the new one") from error
    if now.fingerprint != before.fingerprint:
        raise ModelUnusable(
            f"{shown} was replaced or changed during the run", "run again: the next one takes the new one"
        )
    return now


def state_of(model: Path) -> State:
    """How its files are there (`Seal.state`). Folders are in it, as their times tell of files that were away for a while."""
    names = ["", *(part for part in PARTS if (model / part).is_dir()), *files(model)] if model.is_dir() else [""]
    return tuple((name, _identity(model / name)) for name in names)


def _identity(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def of_model(model: Path) -> str:
    """SHA-256 over the names and contents of the model's files, in name order; of a single file over its content.

    Raises
    ------
    ModelUnusable
        No model, a special file among its files, or one that cannot be read.
    ModelRefused
        Its assets lie elsewhere, or it is larger than any model of images.
    """
    if not model.is_dir() and form_of(model) is not None:
        return of_file(model)
    if not is_saved_model(model):
        raise unusable(model)
    whole, total = hashlib.sha256(), 0
    for name in files(model):
        digest, size = _hash(model / name, MAX_BYTES - total)
        whole.update(os.fsencode(name) + b"\0" + digest + b"\0")
        total += size
    return whole.hexdigest()


def of_file(file: Path) -> str:
    """SHA-256 of a file's content; taken once, until its size or a time of it changes."""
    return _of_file(file, _identity(file))


@lru_cache(maxsize=16)
def _of_file(file: Path, state: tuple[int, ...]) -> str:
    return _hash(file, MAX_BYTES)[0].hex()


def check_plain(file: Path) -> None:
    """Raise ModelUnusable for a file that is missing or special, without opening it."""
    try:
        mode = file.stat().st_mode
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelUnusable(f"{file} cannot be read: {reason}", "check the path and its permissions") from error
    if not stat.S_ISREG(mode):
        raise ModelUnusable(f"{file} is not a regular file", "give a SavedModel folder of plain files")


def files(model: Path) -> list[str]:
    """The names of those that a model's folder is read for, in it; raises as `of_model`."""
    found: list[str] = []
    for part in PARTS:
        path = model / part
        if path.is_dir():
            if part != "variables":
                _check_inside(path, model)
            found.extend(os.path.relpath(file, model) for file in islice(_walk(path), MAX_FILES))
            if len(found) >= MAX_FILES:
                raise ModelRefused(
                    f"{path} holds more than {MAX_FILES} files", "keep other data out of the model's folder"
                )
        elif os.path.lexists(path):
            found.append(part)
    return sorted(found, key=os.fsencode)


def _check_inside(path: Path, model: Path) -> None:
    """A single file may be a link, as in a download cache; a whole folder elsewhere, such as /, may hold anything."""
    if not path.resolve().is_relative_to(model.resolve()):
        raise ModelRefused(f"{path} is a link to a folder outside the model", "put a copy of it there: cp -rL")


def _walk(folder: Path) -> Iterator[str]:
    """Files below a folder, of `variables` only the checkpoint's own; links to folders are not followed."""
    weights = folder.name == "variables"
    for base, folders, names in os.walk(folder, onerror=_check_open):
        yield from (os.path.join(base, name) for name in names if not weights or name.startswith("variables."))
        if weights:
            folders.clear()


def _check_open(error: OSError) -> None:
    """A folder that may not be listed is none without files."""
    if isinstance(error, PermissionError):
        where = printable(os.fsdecode(error.filename))
        raise ModelUnusable(f"{where} cannot be read: {error.strerror}", "check its permissions") from error


def _hash(path: Path, most: int) -> tuple[bytes, int]:
    """(SHA-256, size) of a regular file of at most `most` bytes."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ModelUnusable(f"{path} is not a regular file", "give a SavedModel folder of plain files")
            if status.st_size > most:
                raise ModelRefused(
                    f"{path} makes this model larger than {MAX_BYTES >> 30} GiB", "no model of images is"
                )
            return _digest(file, path, status.st_size), status.st_size
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be read: {error.strerror}", "check its permissions") from error


def _digest(file: BinaryIO, path: Path, size: int) -> bytes:
    """The hash of `size` bytes; files of the kernel's own say 0 and never end."""
    digest, left = hashlib.sha256(), size
    while chunk := file.read(1 << 20):
        left -= len(chunk)
        if left < 0:
            raise ModelUnusable(f"{path} is longer than its size says", "wait until it is copied; give plain files")
        digest.update(chunk)
    return digest.digest()
