"""Private folders for temporary files: gone with their run, or swept by the next one when that was killed."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from gradviz_cli.errors import OutputError
from gradviz_cli.files.reading import TOO_MANY

PREFIX = "gradviz-scratch-"
NAMED = 8  # characters that follow
# What a worker writes: TensorFlow and Keras leave a few kilobytes, in folders of no depth.
ROOM = 2**16
DEEPEST = 12
_LONG = 2000  # characters of a path; the system takes twice as many
_BLOCK = 4096  # bytes; an entry takes that much at least
_OURS = re.compile(re.escape(PREFIX) + f"[a-z0-9_]{{{NAMED}}}")


class Scratch:
    """A folder that only this user may enter; the lock on it says that its run is alive, in whatever container.

    Parameters
    ----------
    longest : int
        Characters of its path, at most: where a socket is to lie, they are few.

    Raises
    ------
    OutputError
        No folder for temporary files can be written.
    """

    def __init__(self, longest: int = 4096) -> None:
        self.path, self._handle = _made(longest)

    def folder(self) -> str:
        """A new folder in it, for one child."""
        return tempfile.mkdtemp(dir=self.path)

    def clear(self) -> None:
        """Remove all that is in it."""
        if self._handle >= 0:
            _empty(self.path)

    def close(self) -> None:
        """Remove the folder with all that is in it; harmless the second time."""
        if self._handle >= 0:
            remove(self.path)
            handle, self._handle = self._handle, -1
            os.close(handle)


def unnamed_file() -> IO[bytes]:
    """A file that no name leads to and that ends with the process.

    Raises
    ------
    OutputError
        No folder for temporary files can be written.
    """
    why: OSError | None = None
    for base in _bases():
        try:
            return tempfile.TemporaryFile(dir=base, buffering=0)
        except OSError as error:
            why = why or error
    raise _nowhere(why)


def fill(file: IO[bytes], data: bytes) -> None:
    """Write to an unnamed file.

    Raises
    ------
    OutputError
        There is no room.
    """
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room, or set TMPDIR to a folder that has some" if full else "set TMPDIR to another folder"
        raise OutputError(f"a temporary file cannot be written: {error.strerror}", remedy) from error


def sweep() -> int:
    """Remove the folders that killed runs of this user left behind; how many there were."""
    return sum(_swept(path) for base in _bases() for path in _candidates(base))


def _bases() -> Iterator[str]:
    """Where temporary files may go. Not the working folder, as Python would: nobody asked for them there."""
    asked = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    yield from dict.fromkeys(path for path in (*asked, "/tmp", "/var/tmp", "/usr/tmp") if path and os.path.isabs(path))


def _made(longest: int) -> tuple[str, int]:
    """A new folder and the descriptor that holds its lock."""
    why: OSError | None = None
    for base in _bases():
        if len(os.path.join(base, PREFIX)) + NAMED > longest:
            continue
        try:
            while True:
                path = tempfile.mkdtemp(prefix=PREFIX, dir=base)
                handle = _locked(path)
                if handle is not None:
                    _check_room(path, handle)
                    return path, handle
        except OSError as error:
            why = why or error
    raise _nowhere(why)


def _check_room(path: str, handle: int) -> None:
    """A disk that is full takes a folder's name all the same: OSError, and the folder is gone."""
    probe = os.path.join(path, "room")
    try:
        with open(probe, "xb") as file:
            file.write(os.urandom(ROOM))
    except OSError as error:
        if error.errno != errno.EFBIG:  # ulimit -f holds everywhere; what it forbids is said when it is met
            remove(path)
            os.close(handle)
            raise
    os.unlink(probe)


def _nowhere(why: OSError | None) -> OutputError:
    places = ", ".join(_bases())
    too_many = why is not None and why.errno in TOO_MANY
    remedy = "raise ulimit -n" if too_many else "set TMPDIR to a folder that can be written"
    reason = f": {why.strerror}" if why else ""
    return OutputError(f"temporary files can be written to none of {places}{reason}", remedy)


def _locked(path: str) -> int | None:
    """None when another run took the folder for one that was left behind, just before it was locked."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # where folders cannot be locked, they are not swept either
        return handle
    if os.path.isdir(path):
        return handle
    os.close(handle)
    return None


def _candidates(base: str) -> Iterator[str]:
    with suppress(OSError), os.scandir(base) as entries:
        yield from (entry.path for entry in entries if _OURS.fullmatch(entry.name))


def _swept(path: str) -> bool:
    """Remove one folder unless its run is alive."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(handle)
        private = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
        if not private:
            return False
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def overfull(folder: str, most: int) -> str | None:
    """Why a child that has this folder must end, if it must: it may have been taken over, and the disk is everybody's."""
    if _usage(folder, most) > most:
        return f"the worker wrote more than {most >> 20} MiB of temporary files"
    return None


def _usage(folder: str, most: int) -> int:
    """Bytes of what lies below a folder, each entry at least a block; counted no further than just above `most`, which what
    is too deep to be looked at counts as."""
    total, todo = 0, [(folder, 0)]
    while todo:
        place, depth = todo.pop()
        with suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    total += max(_BLOCK, status.st_blocks * 512 if stat.S_ISREG(status.st_mode) else 0)
                if total > most or depth >= DEEPEST:
                    return most + 1
                if entry.is_dir(follow_symlinks=False):
                    todo.append((entry.path, depth + 1))
    return total


def remove(path: str) -> None:
    """Remove a folder with all that is in it; what cannot be removed stays."""
    _empty(path)
    with suppress(OSError):
        os.rmdir(path)


def _empty(path: str) -> None:
    """What a child left may be of any depth, so folders are moved up before no path leads to them any more."""
    todo, found = [path], []
    while todo:
        place = todo.pop()
        if os.path.islink(place):
            continue
        found.append(place)
        with suppress(OSError):
            os.chmod(place, 0o700)
        for name in _listed(place):
            inner = os.path.join(place, name)
            with suppress(OSError):
                if os.path.islink(inner) or not os.path.isdir(inner):
                    os.unlink(inner)
                    continue
                if len(inner) > _LONG:
                    os.chmod(inner, 0o700)
                    os.rename(inner, moved := os.path.join(path, secrets.token_hex(8)))
                    inner = moved
                todo.append(inner)
    for folder in reversed(found[1:]):
        with suppress(OSError):
            os.rmdir(folder)


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
