"""A file appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from gradviz_cli.errors import OutputError
from gradviz_cli.files.text import AnyPath, printable

TEMPORARY = ".gradviz-"  # how the name of an unfinished file begins; it ends in `.tmp`
_REMEDIES = {
    errno.ENOSPC: "free some space, or choose another folder with --out",
    errno.EDQUOT: "the quota is used up: free some space, or choose another folder with --out",
    errno.EFBIG: "raise the limit of the file size (ulimit -f)",
    errno.EROFS: "the file system is read-only: choose another folder with --out",
    errno.EACCES: "give write permission on the folder, or choose another with --out",
    errno.EPERM: "give write permission on the folder, or choose another with --out",
    errno.ENOENT: "the folder is gone, or there never was one: choose another with --out",
    errno.ESTALE: "the folder was replaced or unmounted on its server: mount it again",
    errno.EIO: "the disk or the connection to it fails: look into the system's log",
    errno.EMFILE: "too many files are open: raise ulimit -n",
    errno.ENFILE: "too many files are open on this machine: end other programs",
    errno.ENAMETOOLONG: "give the image a shorter name",
}


_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # of file systems that know no fsync

_without_sync: set[int] = set()  # devices of those


class Staged(NamedTuple):
    """A file that has all its bytes, but not yet its name."""

    temporary: bytes
    final: bytes


_unpublished: set[Staged] = set()


def write_whole(path: AnyPath, data: bytes, *, sync: bool = True) -> None:
    """Write a file that is there whole or not at all; what was there before stays until then.

    A temporary file in the same folder takes the bytes and is renamed. The mode is 0666 less the umask, as
    for a new file. A symbolic link of that name is replaced, not followed.

    Parameters
    ----------
    sync : bool
        Wait until file and name are on the disk. Without, a power cut may leave the new name with no content;
        who writes many files may sync them in groups.

    Raises
    ------
    OutputError
        Names the path and what to do. The temporary file is gone, also after Ctrl-C.
    """
    staged = stage(path, data, sync=sync)
    publish(staged)
    if sync:
        with writing(path):
            sync_folder(os.path.dirname(staged.final) or b".")


def stage(path: AnyPath, data: bytes, *, sync: bool = False) -> Staged:
    """The first half of `write_whole`: the bytes in a temporary file, for `publish` or `discard`."""
    with writing(path):
        final = os.fsencode(path)
        _check_replaceable(final)
        temporary = os.path.join(os.path.dirname(final), os.fsencode(f"{TEMPORARY}{secrets.token_hex(8)}.tmp"))
        staged = Staged(temporary, final)
        _unpublished.add(staged)
        try:
            _write_new(temporary, data, sync)
        except BaseException:  # Ctrl-C as well
            discard(staged)
            raise
        return staged


def publish(staged: Staged) -> None:
    """The second half of `write_whole`: the file gets its name; where it cannot, the temporary is gone."""
    try:
        with writing(staged.final):
            os.replace(*staged)
        _unpublished.discard(staged)
    except BaseException:
        discard(staged)
        raise


def discard(staged: Staged) -> None:
    """Remove the temporary file."""
    with suppress(OSError):
        os.unlink(staged.temporary)
    _unpublished.discard(staged)


class StagedFiles:
    """Files below a folder that are published together: staged, with their hashes. After an error none of them is left.

    Attributes
    ----------
    hashes : dict
        Path -> SHA-256, in the order of `staged`.
    """

    def __init__(self, root: Path):
        self._root = root
        self.staged: list[Staged] = []
        self.hashes: dict[Path, str] = {}

    def add(self, path: Path, data: bytes) -> None:
        """Stage a file, and make the folders that it needs below the root."""
        _check_reached(path.parent, self._root)
        try:
            staged = stage(path, data)
        except OutputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            _make_folders(path.parent, self._root)
            staged = stage(path, data)
        self.staged.append(staged)
        self.hashes[path] = hashlib.sha256(data).hexdigest()

    def __enter__(self) -> StagedFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for staged in self.staged:
                discard(staged)


def _check_reached(folder: Path, root: Path) -> None:
    """A folder below the root that is a link may lead out of it, or to where another image is written."""
    for place in (folder, *folder.parents):
        if place == root:
            return
        if place.is_symlink():
            where = printable(os.path.realpath(place))
            raise OutputError(
                f"{printable(place)}: is a link to {where}, and nothing is written through links below --out",
                "remove it, or name the folder that it leads to with --out",
            )


def _make_folders(folder: Path, root: Path) -> None:
    """Make a folder below the root; the root itself is there, or was taken away and must not come back empty."""
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        with writing(folder):
            with suppress(FileExistsError):  # another thread was faster
                folder.mkdir()
            sync_folder(folder.parent)


def discard_all() -> None:
    """Remove every temporary file of this process."""
    for staged in list(_unpublished):
        discard(staged)


@contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """What the system refuses, as an OutputError that names the path."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        remedy = _REMEDIES.get(getattr(error, "errno", None) or 0, "choose another folder with --out")
        raise OutputError(f"{printable(path)}: cannot be written: {reason}", remedy) from error


def check_own(handle: int, path: AnyPath) -> None:
    """A file that is written in place must be a plain one of one name: a pipe would wait for ever, and a hard link is
    somebody else's file."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        what = "it has another name too" if stat.S_ISREG(status.st_mode) else "it is not a regular file"
        remedy = "move it away, or choose another folder with --out"
        raise OutputError(f"{printable(path)}: cannot be written: {what}", remedy)


def _check_replaceable(final: bytes) -> None:
    """A name that a rename would take from a folder, FIFO, socket or device is refused."""
    try:
        mode = os.lstat(final).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise OutputError(
            f"{printable(final)}: cannot be written: it is {what}",
            "move it away, or choose another folder with --out",
        )


def _write_new(path: bytes, data: bytes, sync: bool) -> None:
    """The kernel applies the umask to 0666 (mkstemp would leave 0600)."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(fd, "wb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        if sync:
            sync_file(fd)


def sync_file(fd: int) -> None:
    """Wait until a file, or the names in a folder, are on the disk, as far as the file system can do that."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
        _without_sync.add(os.fstat(fd).st_dev)


def can_sync(folder: AnyPath) -> bool:
    """Whether `sync_file` did what it says for all that was written there by now."""
    try:
        return os.stat(folder).st_dev not in _without_sync
    except OSError:
        return True


def sync_folder(folder: AnyPath) -> None:
    """Wait until the names in a folder are on the disk."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be written but not read
        return
    try:
        sync_file(fd)
    finally:
        os.close(fd)


# The accent, in either form, is of a probe of `files.names`.
_LEFT_BEHIND = re.compile(re.escape(os.fsencode(TEMPORARY)) + rb"((\xc3\xa9|e\xcc\x81)-)?[0-9a-f]{16}\.tmp")


def sweep(folder: AnyPath, *, below: bool = False) -> int:
    """Remove what killed runs left half-written in this folder, and `below` it; the number of files removed.

    Only while no other run writes there: hold the lock of the output folder. Links are not followed.
    """
    removed, folders = 0, [os.fsencode(folder)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if below and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif _LEFT_BEHIND.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        os.unlink(entry.path)
                        removed += 1
    return removed
