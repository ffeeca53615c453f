"""What joins stages: pools that know what they have not finished, and futures that come in order, some ahead."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from gradviz_cli.errors import GradvizError, TimeUp, Unanswered

# Seconds that threads get to finish when a signal or the clock ends the run. It has to be gone within two.
PATIENCE = 1.0

Found = TypeVar("Found")
Given = ParamSpec("Given")


class Pool(ThreadPoolExecutor):
    """Knows what it has not finished."""

    def __init__(self, name: str, threads: int):
        super().__init__(threads, name)
        self.unfinished: set[Future[Any]] = set()

    def submit(self, function: Callable[Given, Found], /, *given: Given.args, **named: Given.kwargs) -> Future[Found]:
        future = super().submit(function, *given, **named)
        self.unfinished.add(future)
        future.add_done_callback(self.unfinished.discard)
        return future


class Stage:
    """One step of a run, with threads of its own. Each kind adds `submit`, which gives a future of what comes out."""

    def __init__(self, name: str, threads: int):
        self._pool = Pool(name, threads)
        self.closed = False

    @property
    def unfinished(self) -> list[Future[Any]]:
        """What is under way or waits in the queue."""
        return list(self._pool.unfinished)

    def close(self) -> None:
        """Drop what waits in the queue, and wait for nothing. Harmless the second time."""
        self.closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


class Settled(Future[Found]):
    """A future of what is known already: without a lock, as there are two of them for each image that is current."""

    def __init__(self, value: Found):
        self._value = value

    def result(self, timeout: float | None = None) -> Found:
        return self._value

    def exception(self, timeout: float | None = None) -> None:
        return None

    def done(self) -> bool:
        return True


def in_order(
    futures: Iterable[Future[Found]],
    ahead: Callable[[], int],
    end: float | None,
    calling: Callable[[int], None] = lambda place: None,
) -> Iterator[Found]:
    """Results of futures in order, with up to `ahead()` more of them under way; TimeUp at the monotonic time `end`.

    `calling` is told the place of the future that is waited for.
    """
    waiting: deque[Future[Found]] = deque()
    place = 0
    for future in futures:
        waiting.append(future)
        while len(waiting) > ahead():
            calling(place)
            yield _result(waiting.popleft(), end)
            place += 1
    while waiting:
        calling(place)
        yield _result(waiting.popleft(), end)
        place += 1


def _result(future: Future[Found], end: float | None) -> Found:
    try:
        if end is not None and time.monotonic() >= end:
            raise FutureTimeout
        return future.result(None if end is None else end - time.monotonic())
    except FutureTimeout:
        if future.done() and future.exception() is not None:
            raise
        raise time_up() from None


def time_up() -> TimeUp:
    """In the middle of the images."""
    return TimeUp("--max-duration is reached", "what is written is whole, the next run does the rest")


def drained(futures: Iterable[Future[Found]], end: float | None = None, patience: float = 0.0) -> Iterator[Found]:
    """Results in order; when what makes the futures ends the run, those that are under way still come.

    At the monotonic time `end` they have `patience` seconds more, whatever holds them up: a disk, or much to draw.
    """
    waiting: deque[Future[Found]] = deque()
    try:
        for future in futures:
            waiting.append(future)
            if len(waiting) > 1:
                yield _first(waiting, end)
        while waiting:
            yield _first(waiting, end)
    except Unanswered:
        raise
    except TimeUp:
        last = time.monotonic() + patience
        with suppress(TimeUp):
            while waiting:
                yield _first(waiting, last)
        raise
    except GradvizError:
        yield from (future.result() for future in waiting)
        raise


def _first(waiting: deque[Future[Found]], end: float | None) -> Found:
    """It waits on where time is up."""
    found = _result(waiting[0], end)
    waiting.popleft()
    return found
