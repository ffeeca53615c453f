"""OUT's two books: the lock that keeps a second run away, and the manifest with one line per image and run."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from gradviz_cli.errors import Locked, OutputError
from gradviz_cli.plan import Result

MANIFEST = "manifest.jsonl"
LOCK = ".gradviz.lock"


@contextmanager
def held(out: Path, wait: float) -> Iterator[None]:
    """Make OUT, hold its lock inside; the kernel frees it when the process ends in whatever way.

    Raises
    ------
    Locked
        Another run holds it, also after `wait` seconds.
    OutputError
        OUT cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}", "choose another folder with --out") from error
    try:
        _lock(handle, out, wait)
        yield
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
                raise Locked(f"{out}: another run is writing there", "let it finish, or wait with --lock-wait S") from None
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))


class Manifest:
    """Appends whole lines; begins on a new one where a killed run left a torn line."""

    def __init__(self, out: Path):
        self._path = out / MANIFEST
        try:
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            size = os.fstat(self._handle).st_size
            if size and os.pread(self._handle, 1, size - 1) != b"\n":
                self._write(b"\n")
        except OSError as error:
            raise self._failure(error) from error

    def add(self, result: Result) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            self._write((json.dumps(result.record(now)) + "\n").encode())
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        os.close(self._handle)

    def _write(self, line: bytes) -> None:
        """All of the line or none of it: what a full disk let through is taken back."""
        start = os.fstat(self._handle).st_size
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError:
            os.ftruncate(self._handle, start)
            raise

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: cannot be written: {error.strerror}", "free space, or choose another --out")


def read(out: Path) -> Iterator[dict]:
    """The lines of a manifest in order; a torn one is passed over."""
    try:
        with open(out / MANIFEST, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict):
                    yield record
    except FileNotFoundError:
        return
