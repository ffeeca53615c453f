"""How much at once: bytes of decoded images that may wait, and images that the worker is given together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gradviz_cli.process import machine

# So many pixels go into the worker at once for each processor unless --batch-size says otherwise: 4 images of 224 x 224.
PIXELS_EACH = 4 * 224 * 224
LARGEST_BATCH = 64
# Each processor has an image of its own as long as all of them together have no more pixels than this.
MOST_TOGETHER = 2**24


def images_at_once(height: int, width: int, channels: int, gpu: bool) -> int:
    """Images that the worker of this machine is given at once: where a GPU computes two calls, of which one waits."""
    if gpu:
        return 2 * machine.gpu_batch(height, width, channels)
    return default_batch(height, width, machine.cores(), channels)


def default_batch(height: int, width: int, cores: int, channels: int = 3) -> int:
    """Images that the worker is given at once. It shares them out over the processors, so each gets as many."""
    pixels = height * width * max(1, channels // 3)
    each = min(PIXELS_EACH // pixels, LARGEST_BATCH // cores)
    if each:
        return each * cores
    return max(1, min(cores, MOST_TOGETHER // pixels))


class Budget:
    """Keeps the decoded images that wait in the queue to be drawn within a number of bytes.

    How large an image is shows only when it is decoded. So a thread enters while there is room, and holds what it then
    has: beyond the limit come the images that threads had entered for before, and those that are waited for, one after
    the other. These are always let in, so nothing can stand still: images leave in the order in which they came.

    Parameters
    ----------
    most : int
        Bytes.
    """

    def __init__(self, most: int):
        self._most, self._held, self._awaited = most, 0, 0
        self._changed = threading.Condition()
        self._open = True

    @property
    def held(self) -> int:
        """Bytes that wait now."""
        return self._held

    def enter(self, place: int) -> None:
        """Wait until there is room, or until the image of this place in the order is the one that is waited for."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._most or place <= self._awaited or not self._open)

    def call(self, place: int) -> None:
        """The image of this place is waited for now."""
        with self._changed:
            self._awaited = place
            self._changed.notify_all()

    def hold(self, size: int) -> None:
        """So many bytes more wait."""
        with self._changed:
            self._held += size

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """So many bytes more wait inside."""
        self.hold(size)
        try:
            yield
        finally:
            self.leave(size)

    def leave(self, size: int) -> None:
        """So many bytes are done with."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody in: the run is over."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
