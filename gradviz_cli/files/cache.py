"""Folders that are kept from one run to the next, each under a key that says what it was made of.

They lie in `$XDG_CACHE_HOME/gradviz` (or `~/.cache/gradviz`), which only this user may enter. A folder appears whole or
not at all, also under several processes at once; the ones that were not used for longest go when all of them take too much
room. One that somebody has taken files from, as cleaners of caches do by the age of each, is made anew. Where no cache can be
kept, a folder is made for this process alone.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gradviz_cli.errors import OutputError
from gradviz_cli.files.reading import head
from gradviz_cli.files.scratch import Scratch
from gradviz_cli.files.whole import sync_folder

MAX_BYTES = 5 * 2**30
# Where nothing can be locked, what was used so lately may still be in use.
UNLOCKED_FOR = 86_400.0  # seconds
_KEY = re.compile(r"[a-z0-9-]{8,100}")
LISTING = ".files"  # says what else a folder holds
_LONGEST = 2**24  # bytes of that
_UNFINISHED = re.compile(r"\.(new|old)-[0-9a-f]{16}")

Fill = Callable[[Path], None]

_guard = threading.RLock()
_in_use: dict[str, int] = {}  # folder -> a descriptor that holds its lock, as long as this process lives
_alone: dict[str, Scratch] = {}


def kept(key: str, fill: Fill) -> Path:
    """The folder of that key: as it was kept, else made by `fill`, which is given an empty one.

    What `fill` raises is passed on, and nothing is kept.

    Raises
    ------
    OutputError
        There is no room, neither in the cache nor among temporary files.
    """
    assert _KEY.fullmatch(key), "a key is the name of a folder"
    with _guard:
        if key in _alone:
            return Path(_alone[key].path)
        root = _root()
        if root is not None:
            with suppress(OSError):  # no room, no permission: it may be found elsewhere
                if _used(root / key):
                    return root / key
                return _made(root, key, fill)
        return _made_alone(key, fill)


def found(key: str) -> Path | None:
    """The folder of that key, where one is kept."""
    with _guard:
        root = _root()
        return root / key if root is not None and _used(root / key) else None


def keep(key: str, fill: Fill) -> None:
    """Let a folder be found from now on, where a cache can be kept and has none of that key. Raises OSError."""
    with _guard:
        root = _root()
        if root is not None and not _used(root / key):
            _made(root, key, fill)


def _root() -> Path | None:
    """The cache, private and this user's own; None where there is none to be had."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = os.environ.get("HOME")
        # An empty one would be the cache of all, a relative one would lie wherever this is run.
        if home is not None and not os.path.isabs(home):
            return None
        base = os.path.join(os.path.expanduser("~"), ".cache")
    root = Path(base, "gradviz")
    try:
        os.makedirs(base, 0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(root, 0o700)
        status = os.lstat(root)
    except OSError:
        return None
    private = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    return root if stat.S_ISDIR(status.st_mode) and private else None


def _used(folder: Path) -> bool:
    """Whether the folder is there, whole; if so it stays, as long as this process lives."""
    if str(folder) in _in_use and folder.is_dir():
        return True
    handle = _shared(folder)
    if handle is None:
        return False
    if not _is_whole(folder):
        os.close(handle)
        return False
    with suppress(OSError):  # read-only
        os.utime(folder)
    _in_use[str(folder)] = handle
    return True


def _shared(folder: Path) -> int | None:
    """A descriptor of the folder with a shared lock; None where there is no folder, or somebody removes it."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # nothing can be locked here
        pass
    try:
        if os.path.samestat(os.fstat(handle), os.stat(folder)):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def _is_whole(folder: Path) -> bool:
    with suppress(OSError, ValueError, RecursionError):
        return bool(json.loads(head(folder / LISTING, _LONGEST)) == _files(folder))
    return False


def _files(folder: Path) -> dict[str, int]:
    """The size of each file below a folder, by its path from there."""
    paths = (os.path.join(base, name) for base, _, names in os.walk(folder) for name in names)
    found = {os.path.relpath(path, folder): os.lstat(path).st_size for path in paths}
    found.pop(LISTING, None)
    return found


def _made(root: Path, key: str, fill: Fill) -> Path:
    with _unfinished(root) as new:
        fill(new)
        (new / LISTING).write_text(json.dumps(_files(new)), "ascii")
        _sync(new)
        if not _is_whole(root / key):
            _remove(root / key)
        with suppress(FileExistsError, OSError):  # another process was faster
            os.rename(new, root / key)
    if not _used(root / key):
        raise FileNotFoundError(key)
    _trim(root)
    return root / key


@contextmanager
def _unfinished(root: Path) -> Iterator[Path]:
    """A new folder under a name that a later run would sweep; gone at the end unless it got its own."""
    new = root / f".new-{secrets.token_hex(8)}"
    os.mkdir(new, 0o700)
    handle = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)
        os.close(handle)


def _sync(folder: Path) -> None:
    """Wait until the content is on the disk: the name, which says that it is whole, must not come before it."""
    for base, _, names in os.walk(folder):
        for name in names:
            handle = os.open(os.path.join(base, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                with suppress(OSError):  # some file systems cannot
                    os.fsync(handle)
            finally:
                os.close(handle)
        with suppress(OSError):
            sync_folder(base)


def _trim(root: Path) -> None:
    """Remove what killed runs left, and what was not used for longest, until the rest has room."""
    entries = []
    with suppress(OSError), os.scandir(root) as found:
        for entry in found:
            if _UNFINISHED.fullmatch(entry.name):
                _remove(Path(entry.path))
            elif _KEY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                entries.append((entry.stat().st_mtime, _size(entry.path), Path(entry.path)))
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= MAX_BYTES:
            break
        if _remove(folder):
            total -= size


def _size(folder: str) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_size
    return total


def _remove(folder: Path) -> bool:
    """Remove a folder that nobody uses: first its name, so that nobody finds half of it."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not _unused(handle):
            return False
        old = folder.with_name(f".old-{secrets.token_hex(8)}")
        os.rename(folder, old)
        shutil.rmtree(old, ignore_errors=True)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _unused(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(handle).st_mtime > UNLOCKED_FOR


def _made_alone(key: str, fill: Fill) -> Path:
    scratch = Scratch()
    try:
        fill(Path(scratch.path))
    except BaseException as error:
        scratch.close()
        if isinstance(error, OSError):
            message = f"a temporary folder for the model cannot be written: {error.strerror}"
            raise OutputError(
                message, "make room, or set XDG_CACHE_HOME or TMPDIR to a folder that has some"
            ) from error
        raise
    _alone[key] = scratch
    return Path(scratch.path)


@atexit.register
def _close() -> None:
    while _alone:
        _alone.popitem()[1].close()
