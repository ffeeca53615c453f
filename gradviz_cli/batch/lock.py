"""The lock that keeps a second run away from an output folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradviz_cli.errors import Locked
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import writing
from gradviz_cli.plan.results import now

LOCK = ".gradviz.lock"
_KEPT = 200  # bytes of the lock file that are read


class Lock:
    """OUT's lock while it is held. The file says who holds it; what a killed run wrote stays there.

    Attributes
    ----------
    unfinished : bool
        The run before was killed: temporary files may lie about, and pictures that are not in the manifest.
    """

    def __init__(self, handle: int):
        self._handle = handle
        self.unfinished = bool(_holder(handle))

    def begin(self) -> None:
        """From here on a kill leaves the lock unfinished."""
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"process {os.getpid()} on {os.uname().nodename} since {now()}\n".encode(), 0)

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
        OUT cannot be made or written.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    try:
        with writing(out / LOCK):
            _lock(handle, out, wait)
        yield Lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int, out: Path, wait: float) -> None:
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                who = _holder(handle)
                message = f"{printable(out)}: another run is writing there{f' ({who})' if who else ''}"
                raise Locked(message, "let it finish, or wait with --lock-wait S") from None
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))


def _holder(handle: int) -> str:
    return printable(os.pread(handle, _KEPT, 0).decode("utf-8", "replace").strip())
