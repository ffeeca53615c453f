"""SIGINT, SIGTERM and SIGHUP end a run in order: children killed, whole files only, the code that the shell expects. And
--max-duration ends one that has not even come to its first image."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from gradviz_cli.errors import Unanswered

# Seconds after which a clock rings that somebody looks at who can say better what it was.
LATER = 0.25
# And once more where a store is asked.
SLACK = 0.25
# And after which a signal that was lost comes again.
AGAIN = 0.02
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked the run to end; not an Exception, so that no handler on the way takes it for a failure."""

    def __init__(self, number: int):
        super().__init__(number)
        self.code = 128 + number


@contextmanager
def stopping() -> Iterator[None]:
    """Inside, the first signal raises Stopped in the main thread; further ones change nothing."""
    if threading.current_thread() is not threading.main_thread():  # Python takes handlers from no other
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise _watched(Stopped(number), again)  # in no variable, or it would live on with this frame

    def again(number: int) -> None:
        if inside:
            signal.signal(number, stop)
            threading.Thread(target=send, args=(number,), daemon=True).start()

    def send(number: int) -> None:
        """Not at once, where Stopped is thrown away, as it would be as well; and until it is heard: Python looks for signals
        between its steps, and not once it has begun to wait."""
        time.sleep(AGAIN)
        while inside and signal.getsignal(number) is stop:
            os.kill(os.getpid(), number)
            time.sleep(AGAIN)

    inside = True
    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup means it
            signal.signal(each, stop)
    try:
        yield
    finally:
        inside = False
        for each, handler in before.items():
            signal.signal(each, handler)


def _watched(stopped: Stopped, lost: Callable[[int], None]) -> Stopped:
    """It, and where it ends on its way `lost` is called: what a handler raises while Python compiles a module is dropped where
    a constant like 2**63 is worked out (all but KeyboardInterrupt; `make_const` of ast_opt.c), and the run would go on."""
    weakref.finalize(stopped, lost, stopped.code - 128).atexit = False
    return stopped


class Begun(Protocol):
    """Called when the run looks at the clock itself from here on."""

    def __call__(self, slack: float | None = None) -> None: ...


@contextmanager
def limited(seconds: float | None) -> Iterator[Begun]:
    """Inside, TimeUp is raised in the main thread after so many seconds, whatever it waits for: a list that does not end, a
    lock, a large file. Not any more once the function that it gives is called; with some `slack` (seconds) only that much
    later: where a run waits for a store that does not answer, it does not come to look at the clock."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield lambda slack=None: None
        return
    end, said = time.monotonic() + seconds + LATER, "--max-duration is reached before the first image"

    def stop(number: int, frame: FrameType | None) -> None:
        raise Unanswered(said, "give more time, or see with -v what takes it")

    def begun(slack: float | None = None) -> None:
        nonlocal said
        said = "--max-duration is reached, and the store does not answer"
        left = 0.0 if slack is None else max(0.01, end + slack - time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, left)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds + LATER)
    try:
        yield begun
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
