"""The lock that keeps a second run away from an output folder.

The kernel's own lock frees itself however a process ends: flock, or where the file system has none the lock of a range of
the file that belongs to the open file. A file system without either (Lustre or NFS without a lock manager, some SMB and
FUSE mounts) has a claim: `batch.claim`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gradviz_cli.batch.claim import Claim
from gradviz_cli.errors import Locked, OutputError
from gradviz_cli.files.text import now, printable
from gradviz_cli.files.whole import OWN_REMEDY, check_own, sync_file, writing
from gradviz_cli.plan.outputs import LOCK, LOCK_TEXT

_KEPT = 200  # bytes of the lock file that are read
# What file systems answer that do not know a kind of lock.
_UNKNOWN = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY}


class Lock:
    """OUT's lock while it is held. The file says who holds it; what a killed run wrote stays there.

    Attributes
    ----------
    unfinished : bool
        The run before was killed: temporary files may lie about, and pictures that are not in the manifest.
    claimed : bool
        The file system knows no lock, so that a claim stands for it.
    """

    def __init__(self, handle: int, claimed: bool = False):
        self._handle, self.claimed = handle, claimed
        self.unfinished = bool(_holder(handle))

    def begin(self) -> None:
        """From here on a kill, or a power cut, leaves the lock unfinished."""
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"process {os.getpid()} on {os.uname().nodename} since {now()}\n".encode(), 0)
        sync_file(self._handle)

    def finish(self) -> None:
        """What there was to clean up is cleaned up."""
        os.ftruncate(self._handle, 0)

    def moved(self, out: Path) -> Path | None:
        """Where OUT has been moved since the run began; None when it has not, or the system does not say."""
        try:
            folder = Path(os.readlink(f"/proc/self/fd/{self._handle}")).parent
            return folder if folder.is_dir() and not (out.exists() and out.samefile(folder)) else None
        except OSError:
            return None


@contextmanager
def held(out: Path, wait: float) -> Iterator[Lock]:
    """Make OUT, hold its lock inside; the kernel frees it when the process ends in whatever way.

    Raises
    ------
    Locked
        Another run holds it, also after `wait` seconds.
    OutputError
        OUT cannot be made or written, or what has the lock's name is none of ours.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with writing(out / LOCK):
        handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    claim: Claim | None = None
    try:
        with writing(out / LOCK):
            _check_ours(handle, out / LOCK)
            claim = _lock(handle, out, wait)
        yield Lock(handle, claim is not None)
    finally:
        os.close(handle)
        if claim:
            claim.release()


def _check_ours(handle: int, path: Path) -> None:
    check_own(handle, path)
    text = os.pread(handle, _KEPT + 1, 0)
    if len(text) > _KEPT or not LOCK_TEXT.fullmatch(text):
        raise OutputError(f"{printable(path)}: cannot be written: it is no lock of gradviz", OWN_REMEDY)


def _lock(handle: int, out: Path, wait: float) -> Claim | None:
    """Wait for the first kind of lock that the file system knows; the claim, where that is one."""
    end = time.monotonic() + wait
    claim = Claim(out)
    for take in (_flock, _lock_of_range, lambda _: claim.take()):
        try:
            while not take(handle):
                if time.monotonic() >= end:
                    raise _held_by(out, _holder(handle) or claim.holder, claim if claim.holder else None)
                time.sleep(min(0.1, max(0.0, end - time.monotonic())))
            return claim if claim.taken else None
        except OSError as error:
            if error.errno not in _UNKNOWN or claim.tried:
                raise
    raise AssertionError("a claim is taken, or held by another")


def _flock(handle: int) -> bool:
    return _attempt(lambda: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB))


def _lock_of_range(handle: int) -> bool:
    """The whole file, for this opening of it and not for the process: another run in the same one is kept away too."""
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    whole_file = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    return _attempt(lambda: fcntl.fcntl(handle, command, whole_file))


def _attempt(take: Callable[[], object]) -> bool:
    try:
        take()
    except (BlockingIOError, PermissionError):  # EACCES is the other word for a range that is locked
        return False
    return True


def _held_by(out: Path, who: str, claim: Claim | None) -> Locked:
    message = f"{printable(out)}: another run is writing there{f' ({who})' if who else ''}"
    if claim is None:
        return Locked(message, "let it finish, or wait with --lock-wait S")
    remedy = (
        f"let it finish, or wait with --lock-wait S; if that process is gone for sure, remove {printable(claim.path)}"
    )
    return Locked(message, remedy)


def _holder(handle: int) -> str:
    return printable(os.pread(handle, _KEPT, 0).decode("utf-8", "replace").strip())
