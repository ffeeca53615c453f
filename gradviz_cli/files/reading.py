"""Opening and reading files safely: regular ones only, of a size that was expected."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from dataclasses import dataclass

from gradviz_cli.errors import ImageError, OutputError
from gradviz_cli.files.text import AnyPath, printable

TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})

# What a file has in common with itself as long as nobody touches it: bytes, and nanoseconds of its last change and of the
# last change of its state, which nobody can set (a copy that keeps times has another one).
Stamp = tuple[int, int, int]
COARSE = 3  # seconds within which two changes may have one time, where a file system's clock counts seconds


# What to do about `unreadable`.
READABLE = "give yourself permission to read it (chmod +r), or name another file"


@dataclass(frozen=True)
class Limits:
    """What is refused unread: pixels of one image, bytes of one file."""

    max_pixels: int = 52_000_000
    max_file_size: int = 100_000_000


def stamp_of(status: os.stat_result) -> Stamp | None:
    """None where a change from now on might leave it as it is."""
    found = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    counts_seconds = not any(each % 1_000_000_000 for each in found[1:])
    return None if counts_seconds and time.time() - max(found[1:]) / 1e9 < COARSE else found


def stamp_at(path: AnyPath) -> Stamp | None:
    """Of the regular file that is there now; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return stamp_of(status) if stat.S_ISREG(status.st_mode) else None


def read_bytes(path: AnyPath, limits: Limits) -> bytes:
    """The content of a regular file, or of one that a symbolic link leads to.

    Raises
    ------
    ImageError
        `missing`, `not-a-file` (folder, FIFO, socket, device), `unreadable` (permission, I/O), `too-large`,
        `empty`. Neither a FIFO nor a device is opened.
    OutputError
        This process may open no further file.
    """
    return read_stamped(path, limits)[0]


def read_stamped(path: AnyPath, limits: Limits) -> tuple[bytes, Stamp | None]:
    """The same, and the file's stamp while it was read; None where it changed meanwhile."""
    fd, size = _open_regular(path)
    with open(fd, "rb") as file:
        before = stamp_of(os.fstat(fd))
        check_size(size, limits)
        try:
            data = file.read(size)  # a file that still grows is taken as it was when opened
            return data, before if before == stamp_of(os.fstat(fd)) else None
        except OSError as error:
            raise ImageError("unreadable", f"cannot be read: {error.strerror}") from error
        except MemoryError as error:
            raise ImageError("memory", f"not enough memory to read {size} bytes") from error


def read_named(path: AnyPath, limits: Limits) -> bytes:
    """The content of a file that a person names and that is read once: what comes through a pipe that is open already, too, as
    a shell makes one for `<(...)`, and nothing of /dev/null. Raises as `read_bytes`."""
    if not _is_stream(path):
        return read_bytes(path, limits)
    try:
        with open(path, "rb") as stream:
            data = stream.read(limits.max_file_size + 1)
    except OSError as error:
        raise ImageError("unreadable", f"cannot be read: {error.strerror}") from error
    if len(data) > limits.max_file_size:
        raise ImageError("too-large", f"more than {limits.max_file_size} bytes come out of it")
    check_size(len(data), limits)
    return data


def _is_stream(path: AnyPath) -> bool:
    """A FIFO that has a name of its own is none: nobody may ever write to it."""
    try:
        status, name = os.stat(path), os.fsdecode(path)
    except (OSError, ValueError):
        return False
    is_open = name == "/dev/stdin" or os.path.dirname(name) in ("/dev/fd", "/proc/self/fd")
    return stat.S_ISFIFO(status.st_mode) and is_open or os.path.samestat(status, os.stat(os.devnull))


def check_size(size: int, limits: Limits) -> None:
    """Raise ImageError, before it is read, for a file that is too large or empty."""
    if size > limits.max_file_size:
        raise ImageError(
            "too-large", f"{size} bytes are more than the limit of {limits.max_file_size}; see --max-file-size"
        )
    if size == 0:
        raise ImageError("empty", "the file is empty")


def hash_file(path: AnyPath, most: int) -> tuple[str, Stamp | None] | None:
    """SHA-256 and stamp of a regular file of at most `most` bytes, read bit by bit; None where there is none to be read."""
    try:
        fd, size = _open_regular(path)
        with open(fd, "rb", buffering=0) as file:
            return hash_open(file.fileno(), size) if size <= most else None
    except (ImageError, OSError):
        return None


def hash_open(fd: int, size: int) -> tuple[str, Stamp | None]:
    """The same of the first `size` bytes of a file that is open. Raises OSError."""
    before, digest, done = stamp_of(os.fstat(fd)), hashlib.sha256(), 0
    while done < size and (chunk := os.pread(fd, min(1 << 20, size - done), done)):
        digest.update(chunk)
        done += len(chunk)
    return digest.hexdigest(), before if before == stamp_of(os.fstat(fd)) else None


def head(path: AnyPath, most: int) -> bytes:
    """The first bytes of a regular file; none where it cannot be read."""
    try:
        fd, _ = _open_regular(path)
        with open(fd, "rb", buffering=0) as file:
            return file.read(most)
    except (ImageError, OSError):
        return b""


def _open_regular(path: AnyPath) -> tuple[int, int]:
    """Descriptor and size. Looks before it opens, and again after: the name may change hands in between."""
    try:
        _check_regular(os.stat(path))
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError as error:  # a NUL in the name
        raise ImageError("missing", "no file can have this name") from error
    except OSError as error:
        if error.errno in TOO_MANY:  # no fault of this file, and the next one cannot be opened either
            raise OutputError(f"{printable(path)}: cannot be opened: {error.strerror}", "raise ulimit -n") from error
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        raise ImageError("missing" if gone else "unreadable", f"cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        _check_regular(status)
    except BaseException:
        os.close(fd)
        raise
    return fd, status.st_size


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise ImageError("not-a-file", f"is {kind}, not a regular file")
