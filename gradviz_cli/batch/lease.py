"""The lock of an OUT in a store: an object that only one can make, and that says who did.

What `batch.claim` is on a disk, with the store's own compare-and-write in place of names that only one can take. A run
writes its lease anew every `BEAT`; one that is silent for `SILENCE`, by the clock of the store, or whose process was on this
machine and is gone, is taken over. Who finds its own lease taken over publishes nothing any more.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from gradviz_cli.batch.claim import CLAIM, LONGEST, is_gone, this_process, told, words
from gradviz_cli.batch.lock import GRACE, MERGING, Patience
from gradviz_cli.batch.shards import CLAIMED, File, file_of
from gradviz_cli.errors import Locked, OutputError, TimeUp
from gradviz_cli.files import objects
from gradviz_cli.files.objects import Found, StoreError
from gradviz_cli.files.remote import Remote
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import TEMPORARY
from gradviz_cli.plan.outputs import SHARDS, WHOLE, Shard

BEAT, SILENCE = 15.0, 120.0  # seconds
# From here on nobody may believe that it still is held: another may take it at `SILENCE`.
DOUBT = 0.75 * SILENCE
PAUSE = 0.5  # seconds between two attempts
HURRIED, PATIENCE = 0.3, 10.0  # seconds that a signal leaves to free it, and what went wrong


class Lease:
    """On an output folder in a store, or on one shard of it.

    Attributes
    ----------
    holder, merging : str, bool
        Who else has it, after `take` has failed, and whether that only brings lines together, which is waited for.
    """

    def __init__(self, out: Remote, shard: Shard = WHOLE, doing: str = ""):
        self._out, self._shard, self._doing = out, shard, doing
        self.place = out / CLAIM if shard == WHOLE else out / SHARDS / File(shard, CLAIMED).name
        self.holder, self.merging = "", False
        self._tag, self._heard, self._lost = "", 0.0, False
        self._guard = threading.Lock()
        self._over = threading.Event()

    def said(self) -> str:
        return ""

    def take(self) -> bool:
        """Write the object; True when it is ours now. Of two that come at once at least one gives way. Raises StoreError."""
        self._over, self._lost = threading.Event(), False
        if not self._took():
            return False
        for rival in self._rivals():
            if (found := there(rival)) and not self._is_gone(found):
                self._meet(rival)
                self.release()
                return False
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def check(self) -> None:
        """Raise Locked where it may be another's by now."""
        if not self._lost and _clock() - self._heard > DOUBT:
            self._renew()
        if self._lost or _clock() - self._heard > DOUBT:
            raise Locked(
                f"{printable(self._out)}: another run has taken it over, as nothing was heard of this one for a while",
                "let it finish; the next run does the rest",
            )

    def release(self, longest: float | None = None) -> None:
        """Remove it, if it still is ours; otherwise, and where that takes too long, it is found to be silent."""
        self._over.set()
        if not self._guard.acquire(
            timeout=-1 if longest is None else longest
        ):  # it is just being renewed, without an answer
            return
        try:
            if self._tag and not self._lost:
                self._tag = objects.exchange(self.place, self._words(), self._tag, longest)
                objects.remove(self.place, longest)
            self._tag = ""
        except StoreError:
            pass
        finally:
            self._guard.release()

    def _took(self) -> bool:
        if self._write(None):
            self._check_store()
            return True
        found = there(self.place)
        if found is None:  # it was freed just now
            return False
        if self._is_gone(found) and self._write(found.tag):
            return True
        self._meet(self.place)
        return False

    def _meet(self, other: Remote) -> None:
        said = _read(other)
        self.holder, self.merging = words(said), said.get("doing") == MERGING

    def _write(self, tag: str | None) -> bool:
        """Over what has this tag, or where nothing is; False where there is something else. An attempt of which the answer was
        lost may have written it."""
        data = self._words()
        try:
            self._tag = objects.create(self.place, data) if tag is None else objects.exchange(self.place, data, tag)
        except StoreError as error:
            if error.kind != "taken" and (tag is None or error.kind != "missing"):
                raise
            found = there(self.place)
            if found is None or objects.head(self.place, LONGEST) != data:
                return False
            self._tag = found.tag
        self._heard = _clock()
        return True

    def _check_store(self) -> None:
        """Refuse a store that writes over what must not be written over, as nobody could be kept away there."""
        try:
            objects.create(self.place, self._words())
        except StoreError as error:
            if error.kind != "taken":
                raise
            return
        with suppress(StoreError):
            objects.remove(self.place)
        raise OutputError(
            f"{printable(self._out)}: the store knows no conditional writes, so two runs could not be kept apart",
            "write to a folder of this machine, and copy that",
        )

    def _rivals(self) -> Iterator[Remote]:
        """A whole run and shards keep each other away, and so do shards of other numbers."""
        if self._shard != WHOLE:
            yield self._out / CLAIM
        for found in objects.entries_if_any(self._out / SHARDS):
            file = file_of(found.place.name)
            if file and file.kind == CLAIMED and file.shard[1] != self._shard[1]:
                yield found.place

    def _is_gone(self, found: Found) -> bool:
        return is_gone(_read(found.place), partial(self._silence, found), SILENCE)

    def _silence(self, found: Found) -> float:
        """Seconds since it was written, by the clock of the store."""
        probe = self._out / SHARDS / f"{TEMPORARY}{secrets.token_hex(16)}.tmp"
        objects.put(probe, b"")
        try:
            now = objects.look(probe)
        finally:
            objects.remove(probe)
        return (now.stamp[1] - found.stamp[1]) / 1e9 if now.stamp and found.stamp else 0.0

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            self._renew()

    def _renew(self) -> None:
        with self._guard:
            if self._over.is_set() or self._lost or not self._tag:
                return
            with suppress(StoreError):  # it may be reached again the next time
                self._lost = not self._write(self._tag)

    def _words(self) -> bytes:
        """Never the same twice, so that each has a tag of its own."""
        return json.dumps({**this_process(), "doing": self._doing, "beat": secrets.token_hex(8)}).encode()


@contextmanager
def held(out: Remote, wait: float, shard: Shard = WHOLE, end: float | None = None, doing: str = "") -> Iterator[Lease]:
    """Hold it inside. At the monotonic time `end` nobody waits any more.

    Raises
    ------
    Locked
        Another run holds it, also after `wait` seconds.
    OutputError
        The store cannot be reached or written.
    """
    lease = Lease(out, shard, doing)
    try:
        with writing(out):
            _wait_for(lease, out, Patience(wait if shard == WHOLE else max(wait, GRACE), end))
        yield lease
    except BaseException as error:  # a signal and the clock leave no time, and a store that fails would take it
        lease.release(HURRIED if isinstance(error, TimeUp) or not isinstance(error, Exception) else PATIENCE)
        raise
    lease.release()


@contextmanager
def writing(place: Remote) -> Iterator[None]:
    """What the store refuses, as an OutputError that names the URL."""
    try:
        yield
    except StoreError as error:
        raise OutputError(f"{printable(place)}: cannot be written: {error.reason}", error.remedy) from error


def _wait_for(lease: Lease, out: Remote, patience: Patience) -> None:
    start = time.monotonic()
    while not lease.take():
        left = patience.left(start, lease.merging)
        if left <= 0:
            raise Locked(
                f"{printable(out)}: another run is writing there{f' ({lease.holder})' if lease.holder else ''}",
                "let it finish, or wait with --lock-wait S; one that was killed on another machine is taken over when "
                f"nothing was heard of it for {SILENCE:.0f} s",
            )
        time.sleep(min(PAUSE, left))


def _clock() -> float:
    """Seconds, those too for which the machine slept: the store's clock went on."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def there(place: Remote) -> Found | None:
    try:
        return objects.look(place)
    except StoreError as error:
        if error.kind == "missing":
            return None
        raise


def _read(place: Remote) -> dict:
    return told(objects.head(place, LONGEST))
