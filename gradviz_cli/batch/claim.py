"""A lock for file systems that have none: a file that only one can make, and that says who did.

Nobody frees it when a process is killed. It is taken over when its process is gone for sure: it was on this machine and
is not there any more. As nobody can look at another machine (or this one before it was started anew), what comes from
there has to be silent for `SILENCE`, though a run touches its claim every `BEAT`, by the clock of the file system.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from gradviz_cli.batch import shards
from gradviz_cli.files.reading import head
from gradviz_cli.files.text import now, printable
from gradviz_cli.files.whole import TEMPORARY
from gradviz_cli.files.writer import lives, machine, started
from gradviz_cli.plan.outputs import LOCK, WHOLE, Shard

CLAIM = f"{LOCK}.claim"
BEAT, SILENCE = 30.0, 3600.0  # seconds
LONGEST = 1000  # bytes of a claim that are read


class Claim:
    """On an output folder, or on one shard of it. Who has made one looks whether there is another that keeps it away, and gives
    way then: of two that come at once at least one does.

    Attributes
    ----------
    holder, kept_by : str, Path
        Who else has it, after `take` has failed, and the file that says so.
    """

    def __init__(self, out: Path, shard: Shard = WHOLE):
        self._out, self._shard = out, shard
        self.path = out / CLAIM if shard == WHOLE else shards.File(shard, shards.CLAIMED).path(out)
        self.holder, self.kept_by = "", self.path
        self.tried = self.taken = False
        self._identity = (0, 0)
        self._over = threading.Event()

    def take(self) -> bool:
        """Make the file; True when it is ours now."""
        self.tried = True
        if not self._took():
            return False
        for rival in self._rivals():
            if os.path.lexists(rival) and not is_gone(before := _read(rival), partial(_silence, rival)):
                self.holder, self.kept_by = words(before), rival
                self.release()
                return False
        return True

    def _took(self) -> bool:
        with suppress(FileExistsError):
            self._make()
            return True
        before = _read(self.path)
        if is_gone(before, partial(_silence, self.path)):
            self._remove(before)
            with suppress(FileExistsError):
                self._make()
                return True
        self.holder, self.kept_by = words(before), self.path
        return False

    def _rivals(self) -> Iterator[Path]:
        """A whole run and shards keep each other away, and so do shards of other numbers."""
        if self._shard != WHOLE:
            yield self._out / CLAIM
        for file in shards.files(self._out, shards.CLAIMED):
            if file.shard[1] != self._shard[1]:
                yield file.path(self._out)

    def release(self) -> None:
        """Remove it, if it still is ours."""
        self._over.set()
        if self.taken and _identity(self.path) == self._identity:
            with suppress(OSError):
                os.unlink(self.path)
        self.taken = False

    def _make(self) -> None:
        handle = shards.opened(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(handle, json.dumps(this_process()).encode())
        except OSError:  # an empty one would keep everybody away, as nobody knows whose it is
            os.unlink(self.path)
            raise
        finally:
            os.close(handle)
        self.taken, self._identity, self._over = True, _identity(self.path), threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _remove(self, before: dict[str, Any]) -> None:
        """Take away the claim of a process that is gone. Of several that try, one can give it another name."""
        aside = self.path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}.tmp")
        with suppress(FileNotFoundError):
            os.rename(self.path, aside)
            if _read(aside) == before:
                os.unlink(aside)
            else:  # another one was faster, and this is its claim
                os.rename(aside, self.path)

    def _beat(self) -> None:
        over = self._over
        while not over.wait(BEAT):
            if _identity(self.path) == self._identity:
                with suppress(OSError):
                    os.utime(self.path)


def this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"process": pid, "host": os.uname().nodename, "since": now(), "machine": machine(), "start": started(pid)}


def is_gone(claim: dict[str, Any], silence: Callable[[], float], most: float = SILENCE) -> bool:
    """Whether the process that made a claim cannot be alive; `silence` gives the seconds since it was heard of."""
    here = machine()
    if all(here) and claim.get("machine") == here and isinstance(claim.get("process"), int):
        start = started(claim["process"])
        return start != claim.get("start") if start else not lives(claim["process"])
    return silence() > most


def _read(path: Path) -> dict[str, Any]:
    """What a claim says; nothing where it is only being written, or another one's work."""
    return told(head(path, LONGEST))


def told(text: bytes) -> dict[str, Any]:
    """What the bytes of a claim say; nothing where they are none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def words(claim: dict[str, Any]) -> str:
    said = (
        f"{word} {claim[key]}"
        for word, key in (("process", "process"), ("on", "host"), ("since", "since"))
        if key in claim
    )
    return printable(" ".join(said)) or "nobody knows who"


def _identity(path: Path) -> tuple[int, int]:
    with suppress(OSError):
        status = os.lstat(path)
        return status.st_dev, status.st_ino
    return 0, 0


def _silence(path: Path) -> float:
    """Seconds since a file was touched, by the clock of the file system."""
    probe = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}.tmp")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        try:
            return os.stat(probe).st_mtime - os.stat(path).st_mtime
        finally:
            os.unlink(probe)
    except FileNotFoundError:
        return 0.0
