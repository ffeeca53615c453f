"""The lock that keeps a second run away from an output folder, and lets the shards of one run in together.

The kernel's own lock frees itself however a process ends: flock, or where the file system has none the lock of a range of
the file that belongs to the open file. A file system without either (Lustre or NFS without a lock manager, some SMB and
FUSE mounts) has a claim: `batch.claim`.

    one run         OUT's lock, alone
    --shard I/N     OUT's lock, shared; the lock of this shard, alone; none of a shard of another N may be held
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from gradviz_cli.batch import manifest, shards
from gradviz_cli.batch.claim import CLAIM, Claim
from gradviz_cli.errors import Locked, OutputError
from gradviz_cli.files.text import now, printable
from gradviz_cli.files.whole import OWN_REMEDY, OWNER, check_own, sweep, sync_file, writing
from gradviz_cli.plan.outputs import LOCK, LOCK_TEXT, LONGEST_LOCK, WHOLE, Shard

# What file systems answer that do not know a kind of lock.
_UNKNOWN = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY}
# Whoever was the last shard moves lines in OUT for a while: nobody is turned away meanwhile, up to these seconds.
MERGING, LONGEST_MERGE = "merging", 3600.0
# Seconds that a shard waits at least: another one may try just now whether it is alone.
GRACE = 0.5
_OWNER = re.compile(r" files ([0-9a-f]{16})\b")

Take = Callable[[int, bool], bool]  # descriptor, whether it is shared -> whether it is ours


class Patience(NamedTuple):
    """Seconds that somebody waits for another run, and the monotonic time at which that ends in any case."""

    wait: float
    end: float | None = None

    def left(self, start: float, merging: bool = False) -> float:
        """Seconds, when it began to wait at `start`."""
        last = start + (LONGEST_MERGE if merging else self.wait)
        return (last if self.end is None else min(last, self.end)) - time.monotonic()


class Lock:
    """OUT's lock while it is held. The file says who holds it; what a killed run wrote stays there.

    Attributes
    ----------
    unfinished : bool
        The run before was killed: temporary files may lie about, and pictures that are not in the manifest.
    claimed : bool
        The file system knows no lock, so that a claim stands for it.
    """

    def __init__(self, out: Path, handle: int, shard: Shard, claimed: bool = False):
        self._out, self._handle, self._shard, self.claimed = out, handle, shard, claimed
        self._before = _text(handle)
        self.unfinished = bool(self._before) or shard == WHOLE and shards.any_unfinished(out)

    def said(self) -> str:
        """What is odd about it; empty for nothing."""
        claimed = f"{self._out}: its file system has no locks: {CLAIM} in it keeps other runs away"
        return claimed if self.claimed else ""

    def sweep(self) -> None:
        """Remove what killed runs left; a shard what its own left, as others write meanwhile."""
        if self.unfinished:
            sweep(self._out, below=True, owner=None if self._shard == WHOLE else _owner(self._before))

    def begin(self, doing: str = "") -> None:
        """From here on a kill, or a power cut, leaves the lock unfinished."""
        who = f"process {os.getpid()} on {os.uname().nodename} since {now()} files {OWNER} {doing}".rstrip()
        with writing(self._out / LOCK):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{who}\n".encode(), 0)
            sync_file(self._handle)

    def finish(self) -> None:
        """What there was to clean up is cleaned up."""
        with writing(self._out / LOCK):
            os.ftruncate(self._handle, 0)

    def moved(self, out: Path) -> Path | None:
        """Where OUT has been moved since the run began; None when it has not, or the system does not say."""
        try:
            path = Path(os.readlink(f"/proc/self/fd/{self._handle}"))
            folder = path.parent if self._shard == WHOLE else path.parent.parent
            return folder if folder.is_dir() and not (out.exists() and out.samefile(folder)) else None
        except OSError:
            return None


@contextmanager
def held(out: Path, wait: float, shard: Shard = WHOLE, end: float | None = None) -> Iterator[Lock]:
    """Make OUT, hold its lock inside; the kernel frees it when the process ends in whatever way.

    At the monotonic time `end` nobody waits any more, whatever for.

    Raises
    ------
    Locked
        Another run holds it, also after `wait` seconds.
    OutputError
        OUT cannot be made or written, or what has the name of the lock or the manifest is none of ours.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    manifest.check_folder(out)
    claim = Claim(out, shard)
    try:
        with _opened(out / LOCK) as handle:
            if shard == WHOLE:
                _lock(handle, out, Patience(wait, end), claim)
                yield Lock(out, handle, shard, claim.taken)
            else:
                with _shard_held(handle, out, Patience(wait, end), shard, claim) as own:
                    yield Lock(out, own, shard, claim.taken)
    finally:
        claim.release()


@contextmanager
def _shard_held(handle: int, out: Path, patience: Patience, shard: Shard, claim: Claim) -> Iterator[int]:
    take = _lock(handle, out, patience._replace(wait=max(patience.wait, GRACE)), claim, shared=True)
    with _opened(shards.File(shard, shards.HELD).path(out)) as own:
        if not claim.taken:
            _wait_for(lambda: take(own, False), own, out, patience, claim)
            _check_same_number(out, shard, take)
        _clean_up(handle, out)
        yield own


def _check_same_number(out: Path, shard: Shard, take: Take) -> None:
    """Shards of another number have the same images. Of those that were killed, the files are removed."""
    for file in shards.files(out, shards.HELD):
        if file.shard[1] == shard[1]:
            continue
        with _opened(file.path(out)) as other:
            if not take(other, False):
                said = f"{printable(out)}: a run with --shard {file.shard[0]}/{file.shard[1]} is writing there"
                raise Locked(
                    f"{said}{_words(other)}", f"let it finish, or run all shards with the same N (not {shard[1]})"
                )
            _clean_up(other, out)


def _clean_up(handle: int, out: Path) -> None:
    """Remove what the process left that was killed while it held this lock, which nobody holds alone now."""
    if text := _text(handle):
        sweep(out, below=True, owner=_owner(text))
        os.ftruncate(handle, 0)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    with writing(path):
        handle = shards.opened(path, os.O_RDWR | os.O_CREAT)
    try:
        with writing(path):
            _check_ours(handle, path)
        yield handle
    finally:
        os.close(handle)


def _check_ours(handle: int, path: Path) -> None:
    check_own(handle, path)
    text = os.pread(handle, LONGEST_LOCK + 1, 0)
    if len(text) > LONGEST_LOCK or not LOCK_TEXT.fullmatch(text):
        raise OutputError(f"{printable(path)}: cannot be written: it is no lock of gradviz", OWN_REMEDY)


def _lock(handle: int, out: Path, patience: Patience, claim: Claim, shared: bool = False) -> Take:
    """Wait for the first kind of lock that the file system knows; that kind."""
    kinds: tuple[Take, ...] = (_flock, _lock_of_range, lambda *_: claim.take())
    for take in kinds:
        try:
            with writing(out / LOCK):
                _wait_for(lambda take=take: take(handle, shared), handle, out, patience, claim)  # type: ignore[misc]
            return take
        except OutputError as error:
            if getattr(error.__cause__, "errno", None) not in _UNKNOWN or claim.tried:
                raise
    raise AssertionError("a claim is taken, or held by another")


def _wait_for(take: Callable[[], bool], handle: int, out: Path, patience: Patience, claim: Claim) -> None:
    start = time.monotonic()
    while not take():
        left = patience.left(start, _text(handle).endswith(f" {MERGING}"))
        if left <= 0:
            raise _held_by(out, _words(handle), claim)
        time.sleep(min(0.1, max(0.01, left)))


def _flock(handle: int, shared: bool) -> bool:
    return _attempt(lambda: fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB))


def _lock_of_range(handle: int, shared: bool) -> bool:
    """The whole file, for this opening of it and not for the process: another run in the same one is kept away too."""
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    whole_file = struct.pack("hhqqi4x", fcntl.F_RDLCK if shared else fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    return _attempt(lambda: fcntl.fcntl(handle, command, whole_file))


def _attempt(take: Callable[[], object]) -> bool:
    try:
        take()
    except (BlockingIOError, PermissionError):  # EACCES is the other word for a range that is locked
        return False
    return True


def _held_by(out: Path, who: str, claim: Claim) -> Locked:
    who = who or next((f" (--shard {one.shard[0]}/{one.shard[1]}{said})" for one, said in _shards_held(out)), "")
    message = f"{printable(out)}: another run is writing there{who or (f' ({claim.holder})' if claim.holder else '')}"
    if not claim.holder:
        return Locked(message, "let it finish, or wait with --lock-wait S")
    remedy = f"let it finish, or wait with --lock-wait S; if that process is gone for sure, remove {printable(claim.kept_by)}"
    return Locked(message, remedy)


def _shards_held(out: Path) -> Iterator[tuple[shards.File, str]]:
    """Shards that say that they are at work, and which process it is."""
    for file in shards.files(out, shards.HELD):
        with suppress(OSError):
            handle = shards.opened(file.path(out), os.O_RDONLY)
            try:
                if text := _text(handle):
                    yield file, f": {text.partition(' files ')[0]}"
            finally:
                os.close(handle)


def _words(handle: int) -> str:
    text = _text(handle).partition(" files ")[0]
    return f" ({text})" if text else ""


def _text(handle: int) -> str:
    return printable(os.pread(handle, LONGEST_LOCK, 0).decode("utf-8", "replace").strip())


def _owner(text: str) -> str:
    """Of the temporary files of the process that a lock names; empty where an older version wrote it."""
    found = _OWNER.search(text)
    return found[1] if found else ""
