"""Processes that decode images, as many as threads ask for one; a crash or a hang costs one image and one process."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np

from gradviz_cli import images
from gradviz_cli.errors import ImageError
from gradviz_cli.scratch import Scratch
from gradviz_cli.supervisor import Child, ChildLost
from gradviz_cli.worker import sandbox


class Decoded(NamedTuple):
    """Upright size (height, width), the model input, and the upright image itself where it was asked for."""

    size: tuple[int, int]
    fitted: np.ndarray
    pixels: np.ndarray | None


class Decoders:
    """Decodes for several threads at once; `close` may come from any. The threads must outlive the decoders."""

    def __init__(self, limits: images.Limits, timeout: float | None):
        self._limits, self._timeout = limits, timeout
        self._scratch = Scratch()
        self._guard = threading.Lock()
        self._idle: SimpleQueue[Child] = SimpleQueue()
        self._children: set[Child] = set()
        self._closed = False

    def decode(self, data: bytes, geometry: images.Geometry, pixels: bool, fast: bool = False) -> Decoded:
        """An image file's bytes -> its pixels; `fast` as `images.decode_small`, where `pixels` does not need them all.

        Raises
        ------
        ImageError
            As `images.decode`; or `crash`, `timeout`, `memory`: the decoder did not come back.
        """
        request = {"limits": vars(self._limits), "geometry": vars(geometry), "pixels": pixels, "fast": fast}
        child = None
        try:
            child = self._child()
            answer, arrays = child.request(request, (np.frombuffer(data, np.uint8),), self._timeout)
        except ChildLost as lost:
            if child is not None:
                self._drop(child)
            raise ImageError(lost.kind, f"decoding it failed: {lost.message.replace('worker', 'decoder')}") from lost
        self._idle.put(child)
        if "error" in answer:
            raise ImageError(answer["error"]["kind"], answer["error"]["message"])
        return Decoded(tuple(answer["size"]), arrays[0], arrays[1] if len(arrays) > 1 else None)

    def _child(self) -> Child:
        """A decoder that is idle and alive, or a new one."""
        while True:
            try:
                child = self._idle.get_nowait()
            except Empty:
                return self._new()
            if child.alive:
                return child
            self._drop(child)

    def _new(self) -> Child:
        environment = sandbox.scrubbed_environment(self._scratch.path)
        child = Child("gradviz_cli.reader", {"scratch": self._scratch.path}, environment, self._scratch.path)
        with self._guard:
            self._children.add(child)
            if self._closed:
                child.kill()
        return child

    def _drop(self, child: Child) -> None:
        child.close()
        with self._guard:
            self._children.discard(child)

    def close(self) -> None:
        """Kill all of them; a thread that waits for an answer gets an ImageError."""
        with self._guard:
            self._closed = True
            children = list(self._children)
        for child in children:
            child.kill()
        self._scratch.close()
