"""A file appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from gradviz_cli.errors import OutputError
from gradviz_cli.files.beneath import Parts, entries_of, folder_below, parts_below
from gradviz_cli.files.text import AnyPath, printable
from gradviz_cli.files.writer import is_gone, this_writer

TEMPORARY = ".gradviz-"  # how the name of an unfinished file begins; it ends in `.tmp`
OWNER = this_writer()  # follows in those of this process, by which others tell them
_REMEDIES = {
    errno.ENOSPC: "free some space, or choose another folder with --out",
    errno.EDQUOT: "the quota is used up: free some space, or choose another folder with --out",
    errno.EFBIG: "raise the limit of the file size (ulimit -f)",
    errno.EROFS: "the file system is read-only: choose another folder with --out",
    errno.EACCES: "give write permission on the folder and the files of it, or choose another with --out",
    errno.EPERM: "give write permission on the folder and the files of it, or choose another with --out",
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
    """A file that has all its bytes, but not yet its name, in the folder that `parts` lead to from the root."""

    temporary: bytes
    final: bytes
    root: AnyPath
    parts: Parts

    def folder(self) -> AbstractContextManager[int]:
        return folder_below(self.root, self.parts)

    @property
    def names(self) -> tuple[bytes, bytes]:
        return os.path.basename(self.temporary), os.path.basename(self.final)


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


def write_alone(path: AnyPath, data: bytes) -> None:
    """The same for a file that is no run's, and so under no lock; what killed processes left beside it goes."""
    write_whole(path, data)
    sweep(os.path.dirname(os.fsencode(path)) or b".", gone=True)


@contextmanager
def whole_file(path: AnyPath) -> Iterator[IO[bytes]]:
    """A file that is written bit by bit inside, and there at the end: whole, durable, under its name. After an error there is
    none of it. Otherwise as `write_whole`."""
    staged = stage(path, b"")
    try:
        with writing(path), open(staged.temporary, "r+b") as file:
            yield file
            file.flush()
            sync_file(file.fileno())
    except BaseException:
        discard(staged)
        raise
    publish(staged)
    with writing(path):
        sync_folder(os.path.dirname(staged.final) or b".")


def stage(path: AnyPath, data: bytes, *, sync: bool = False, root: AnyPath | None = None) -> Staged:
    """The first half of `write_whole`: the bytes in a temporary file, for `publish` or `discard`. With a `root`, neither half
    follows a link below it."""
    with writing(path):
        final = os.fsencode(path)
        folder, name = os.path.split(final)
        temporary = os.path.join(folder, os.fsencode(f"{TEMPORARY}{OWNER}{secrets.token_hex(8)}.tmp"))
        parts = () if root is None else parts_below(root, folder)
        staged = Staged(temporary, final, folder or b"." if root is None else root, parts)
        with staged.folder() as handle:
            _check_replaceable(final, name, handle)
            _unpublished.add(staged)
            try:
                _write_new(staged.names[0], data, sync, handle)
            except BaseException:  # Ctrl-C as well
                discard(staged)
                raise
        return staged


def publish(staged: Staged) -> os.stat_result:
    """The second half of `write_whole`: the file gets its name; where it cannot, the temporary is gone. The file's status."""
    try:
        with writing(staged.final), staged.folder() as handle:
            os.replace(*staged.names, src_dir_fd=handle, dst_dir_fd=handle)
            status = os.stat(staged.names[1], dir_fd=handle, follow_symlinks=False)
        _unpublished.discard(staged)
        return status
    except BaseException:
        discard(staged)
        raise


def discard(staged: Staged) -> None:
    """Remove the temporary file."""
    with suppress(OSError), staged.folder() as handle:
        os.unlink(staged.names[0], dir_fd=handle)
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
        try:
            staged = self._staged(path, data)
        except OutputError:
            _check_reached(path.parent, self._root)  # has better words for a link
            raise
        self.staged.append(staged)
        self.hashes[path] = hashlib.sha256(data).hexdigest()

    def _staged(self, path: Path, data: bytes) -> Staged:
        try:
            return stage(path, data, root=self._root)
        except OutputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        with writing(path.parent), folder_below(self._root, parts_below(self._root, path.parent), make=True):
            return stage(path, data, root=self._root)

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
        with suppress(OSError):  # it changes hands just now
            where = printable(os.path.realpath(place) if os.readlink(place) else place)
            raise OutputError(
                f"{printable(place)}: is a link to {where}, and nothing is written through links below --out",
                "remove it, or name the folder that it leads to with --out",
            )


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
        number = getattr(error, "errno", None) or 0
        remedy = _REMEDIES.get(number, "choose another folder with --out")
        if number in (errno.EEXIST, errno.ELOOP) and (lost := _lost_link(path)):
            reason, remedy = f"{printable(lost)} is a link to what is not there", LINK_REMEDY
        elif number == errno.ELOOP and os.path.islink(path):  # opened so that no link is followed
            reason, remedy = "it is a link", OWN_REMEDY
        raise OutputError(f"{printable(path)}: cannot be written: {reason}", remedy) from error


LINK_REMEDY = "remove it, make what it leads to, or choose another folder with --out"


def _lost_link(path: AnyPath) -> Path | None:
    """The link at a path, or on the way to it, that leads nowhere."""
    whole = Path(os.fsdecode(path))
    return next((one for one in (*reversed(whole.parents), whole) if one.is_symlink() and not one.exists()), None)


OWN_REMEDY = "move it away, or choose another folder with --out"


def check_own(handle: int, path: AnyPath, remedy: str = OWN_REMEDY) -> None:
    """A file that is written in place must be a plain one of one name: a pipe would wait for ever, and a hard link is
    somebody else's file."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        what = "it has another name too" if stat.S_ISREG(status.st_mode) else "it is not a regular file"
        what = "it is a folder" if stat.S_ISDIR(status.st_mode) else what
        raise OutputError(f"{printable(path)}: cannot be written: {what}", remedy)


def _check_replaceable(final: bytes, name: bytes, folder: int) -> None:
    """A name that a rename would take from a folder, FIFO, socket or device is refused."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise OutputError(
            f"{printable(final)}: cannot be written: it is {what}",
            OWN_REMEDY,
        )


def _write_new(name: bytes, data: bytes, sync: bool, folder: int) -> None:
    """The kernel applies the umask to 0666 (mkstemp would leave 0600)."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
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
_LEFT_BEHIND = re.escape(TEMPORARY) + "((\u00e9|e\u0301)-)?%s[0-9a-f]{16}\\.tmp"


def sweep(folder: AnyPath, *, below: bool = False, owner: str | None = None, gone: bool = False) -> int:
    """Remove what killed runs left half-written in this folder, and `below` it; the number of files removed.

    Only while no other run writes there: hold the lock of the output folder, or leave its files alone with `gone`. Links are not
    followed.

    Parameters
    ----------
    owner : str, optional
        The `OWNER` of a process that is gone: its files alone, while others write there.
    gone : bool
        Those alone whose process is known to have ended.
    """
    removed, waiting = 0, [Parts()]
    left_behind = re.compile(_LEFT_BEHIND % ("(?P<owner>[0-9a-f]{16})?" if owner is None else re.escape(owner)))
    while waiting:
        parts = waiting.pop()
        with suppress(OSError), folder_below(folder, parts) as handle, entries_of(handle) as entries:
            for entry in entries:
                if below and entry.is_dir(follow_symlinks=False):
                    waiting.append((*parts, entry.name))
                elif _is_left(left_behind.fullmatch(entry.name), gone) and entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        os.unlink(entry.name, dir_fd=handle)
                        removed += 1
    return removed


def _is_left(name: re.Match[str] | None, gone: bool) -> bool:
    return name is not None and (not gone or name["owner"] is not None and is_gone(name["owner"]))
