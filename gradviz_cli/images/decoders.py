"""Processes that decode images, as many as threads ask for one; a crash or a hang costs one image and one process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple
from weakref import WeakSet

import numpy as np

from gradviz_cli.errors import ImageError, ModelUnusable, OutputError
from gradviz_cli.files.reading import Limits
from gradviz_cli.files.scratch import Scratch, overfull, remove
from gradviz_cli.files.text import shortened
from gradviz_cli.images.fit import Geometry
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import (
    HELD,
    NUMBERS,
    PICTURE,
    Decode,
    Decoded,
    Expected,
    Failure,
    check_arrays,
)
from gradviz_cli.process.sandbox.environment import scrubbed_environment
from gradviz_cli.process.supervisor import Child, ChildLost

# What `images.decode` finds wrong with a file; another word of a decoder is not repeated.
KINDS = frozenset({"format", "truncated", "damaged", "too-large", "memory", "shape"})
# What it may say of one image: a file may have taken the decoder over.
MOST_NOTES, LONGEST_NOTE = 8, 300
Arrays = tuple[np.ndarray, ...]
FLOAT = 4  # bytes of a number that is no level
# Far more than the largest image within the default limits needs; a decoder that wants more is being fooled.
MOST_MEMORY = 4 * 2**30
# Bytes of temporary files; it needs none.
MAX_SCRATCH = 2**24
# Blocks of 16 MiB that Pillow keeps from one image to the next: those of 12 megapixels, which would else be taken from the
# system and cleared anew for each.
KEPT_BLOCKS = 4
# Seconds between two attempts to start a decoder where the system starts no further process.
WAIT = 1.0


class Pixels(NamedTuple):
    """Upright size (height, width), the model input, the upright image itself where it was asked for, what the file held
    (NUMBERS are float32 in the model's own range, anything else uint8 of 0..255), and what is to be said of it."""

    size: tuple[int, int]
    fitted: np.ndarray
    pixels: np.ndarray | None
    held: str = PICTURE
    notes: tuple[str, ...] = ()


class Decoders:
    """Decodes for several threads at once; `close` may come from any. The threads must outlive the decoders."""

    def __init__(self, limits: Limits, timeout: float | None):
        self._limits, self._timeout = limits, timeout
        self._scratch: Scratch | None = None
        self._guard = threading.Lock()
        self._starting = threading.Lock()  # one at a time, so that who fails to start one knows all the others
        self._idle: SimpleQueue[Child] = SimpleQueue()
        self._children: dict[Child, str] = {}  # and the folder of each
        self._used: WeakSet[Child] = WeakSet()  # those that have decoded an image
        self._closed = False

    def decode(
        self, data: bytes, geometry: Geometry, pixels: bool, fast: bool = False, page: int | None = None
    ) -> Pixels:
        """An image file's bytes -> its pixels; `fast` as `images.decode.picture` with `least`, where `pixels` does not
        need them all; `page` as `images.frames.alone`.

        Raises
        ------
        ImageError
            As `images.decode`; or `crash`, `timeout`, `memory`: the decoder did not come back.
        ModelUnusable, OutputError
            No decoder can be started at all.
        """
        limits = self._limits
        wanted = Decode(limits.max_pixels, limits.max_file_size, **vars(geometry), pixels=pixels, fast=fast, page=page)
        most = FLOAT * geometry.height * geometry.width * geometry.channels + (3 * limits.max_pixels if pixels else 0)
        answer, arrays = self._answer(wanted, (np.frombuffer(data, np.uint8),), most)
        if isinstance(answer, Failure):
            raise ImageError(answer.kind if answer.kind in KINDS else "damaged", shortened(answer.message))
        notes = tuple(shortened(note, LONGEST_NOTE) for note in answer.notes[:MOST_NOTES])
        return Pixels((answer.height, answer.width), arrays[0], arrays[1] if pixels else None, answer.held, notes)

    def _answer(self, wanted: Decode, given: Arrays, most: int) -> tuple[Decoded | Failure, Arrays]:
        """What a decoder says. An image that took one over may spoil what that says of the next, so what one that was used
        before makes nonsense of is asked once more, of another."""
        for more in (True, False):
            child = None
            try:
                child = self._child()
                used = child in self._used
                answer, arrays = child.request(wanted, Decoded, given, self._timeout, most)
                if isinstance(answer, Decoded):
                    _check(answer, arrays, wanted, child)
                self._used.add(child)
                self._idle.put(child)
                return answer, arrays
            except ChildLost as lost:
                if child is not None:
                    self._drop(child)
                if not (more and child is not None and used and lost.kind == "crash") or self._closed:
                    message = lost.message.replace("worker", "decoder")
                    raise ImageError(lost.kind, f"decoding it failed: {message}") from lost
            except BaseException:  # Ctrl-C; it is dead
                if child is not None:
                    self._drop(child)
                raise
        raise AssertionError("the second one was lost too")

    def _child(self) -> Child:
        """A decoder that is idle and ready, or a new one; where the system starts no further one, another's turn is awaited."""
        patience = 0.0
        while True:
            try:
                child = self._idle.get(timeout=patience) if patience else self._idle.get_nowait()
            except Empty:
                try:
                    return self._new()
                except ChildLost as lost:
                    if self._closed:
                        raise
                    if not self._children:  # no image's fault
                        raise ModelUnusable(
                            f"no image can be decoded: {lost.message}", lost.remedy or "raise ulimit -u and -n"
                        ) from lost
                    patience = WAIT
                    continue
            if child.ready:
                return child
            self._drop(child)

    def _new(self) -> Child:
        with self._guard:
            if self._closed:
                raise ChildLost("crash", "the run is over")
            if self._scratch is None:  # not earlier, and by no thread that a signal may stop in between
                self._scratch = Scratch()
        with self._starting:
            folder = self._folder(self._scratch)
            config = {"scratch": folder, "memory_limit": min(MOST_MEMORY, machine.memory_limit())}
            environment = scrubbed_environment(folder, {"PILLOW_BLOCKS_MAX": str(KEPT_BLOCKS)})
            child = Child(
                "gradviz_cli.images.reader", config, environment, folder, lambda: overfull(folder, MAX_SCRATCH)
            )
            with self._guard:
                self._children[child] = folder
                if self._closed:
                    child.kill()
        return child

    def _folder(self, scratch: Scratch) -> str:
        """One for each decoder: what one that was taken over leaves there is no other's."""
        try:
            return scratch.folder()
        except OSError as error:
            if self._closed:
                raise ChildLost("crash", "the run is over") from error
            raise OutputError(
                f"{scratch.path}: no temporary folder can be made: {error.strerror}", "make room there, or set TMPDIR"
            ) from error

    def _drop(self, child: Child) -> None:
        child.close()
        with self._guard:
            folder = self._children.pop(child, None)
        if folder is not None:
            remove(folder)

    def close(self) -> None:
        """Kill all of them; a thread that waits for an answer gets an ImageError."""
        with self._guard:
            self._closed = True
            children = list(self._children)
        for child in children:
            child.kill()
        if self._scratch is not None:
            self._scratch.close()


def _check(answer: Decoded, arrays: Sequence[np.ndarray], wanted: Decode, child: Child) -> None:
    """Raise ChildLost for pixels that cannot be what was asked for: a file may have taken the decoder over."""
    size = (answer.height, answer.width)
    dtype = "float32" if answer.held == NUMBERS else "uint8"
    expected: Expected = [(dtype, (wanted.height, wanted.width, wanted.channels))]
    if wanted.pixels:
        expected.append(("uint8", (*size, 3)))
    try:
        check_arrays(arrays, expected)
    except ValueError as error:
        raise child.nonsense(str(error)) from error
    if answer.held not in HELD or not np.isfinite(arrays[0]).all():
        raise child.nonsense("numbers that are none")
    if min(size) < 1 or size[0] * size[1] > wanted.max_pixels:
        raise child.nonsense(f"an image of {size[0]} x {size[1]} pixels")
