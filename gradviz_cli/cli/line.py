"""The last line of a terminal: what is being done, from the first moment on. It is written over, and gone at the end.

A thread of its own draws it, so that it lives while the command waits for something, and follows a terminal whose width
changes. Whatever else is said takes it away first (`stderr.say`); it comes back with the next look.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gradviz_cli.cli.stderr import clear, is_terminal, overwrite, speaks_json

EVERY = 0.2  # seconds between two looks
LONG = 1.0  # seconds after which it is said how long something takes

Told = Callable[[], str]


class Line:
    """What `doing` said last, as long as it is not `over`. For several threads at once."""

    def __init__(self) -> None:
        self._told: Told | None = None
        self._guard = threading.RLock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def doing(self, what: str | Told) -> None:
        """Say this from now on: a text, with the seconds that it takes, or what a function gives at each look."""
        with self._guard:
            self._told = timed(what) if isinstance(what, str) else what
            self.look()
            if self._thread is None:
                self._over.clear()
                self._thread = threading.Thread(target=self._look_on, daemon=True)
                with suppress(RuntimeError):  # where no thread can be started, the line stands still
                    self._thread.start()

    def then(self, what: str) -> None:
        """Say this, if anything is said."""
        if self._told is not None:
            self.doing(what)

    def look(self) -> None:
        """Draw it as it is now."""
        with self._guard:
            if self._told is not None:
                overwrite(self._told())

    def over(self) -> None:
        """Take it away for good."""
        with self._guard:
            self._told = self._thread = None
            self._over.set()
            clear()

    def _look_on(self) -> None:
        mine = threading.current_thread()
        while not self._over.wait(EVERY) and self._thread is mine:
            self.look()


LINE = Line()  # a process has one terminal


def timed(what: str) -> Told:
    """What is done, and for how long once that is worth telling."""
    since = time.monotonic()

    def told() -> str:
        seconds = time.monotonic() - since
        return f"{what} ({int(seconds)} s)" if seconds >= LONG else what

    return told


def looked_on() -> bool:
    """Whether somebody sits before a terminal that can write over a line."""
    return is_terminal() and os.environ.get("TERM") != "dumb" and not speaks_json()


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Inside, somebody who looks on is told that this is being done."""
    if looked_on():
        LINE.doing(what)
    try:
        yield
    finally:
        LINE.over()
