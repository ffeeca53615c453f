"""The images themselves, for the inputs of a sheet and what is laid over them: found, decoded behind walls, brought to size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from gradviz_cli.errors import ImageError
from gradviz_cli.figure.maps import Pictured
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.gallery import folder
from gradviz_cli.images.decoders import Decoders
from gradviz_cli.images.fit import Geometry, resized
from gradviz_cli.process.machine import cores

Size = tuple[int, int]  # height, width
MOST_SECONDS = 60.0  # for one image
_UNSEEN = Geometry(1, 1)  # of the model input, which nobody asks for here
# Why an image is not shown (`folder.find_source`), in words that fit into its place.
WHY = {
    "gone": "the image is gone",
    "changed": "the image has changed",
    "unchecked": "the image may have changed",
    "failed": "the image failed",
    "page": "a page of a file is not shown",
}


class Sources:
    """Reads images; one that was asked for with a size is kept at that size alone."""

    def __init__(self, decoders: Decoders):
        self._decoders, self._reading = decoders, folder.Reading()

    def image(self, pictured: Pictured) -> np.ndarray:
        """The upright image, uint8 [h, w, 3].

        Raises
        ------
        ImageError
            It cannot be shown; says why.
        """
        path = self._path(pictured)
        data = read_bytes(path, Limits())
        found = self._decoders.decode(data, _UNSEEN, pixels=True)
        if found.pixels is None:
            raise ImageError("crash", "it was not decoded")
        return found.pixels

    def _path(self, pictured: Pictured) -> str:
        why = "gone"
        for out, line in pictured.lines:
            path, why = folder.find_source(out, line, self._reading)
            if path and line.page is None:
                return path
            why = why or "page"
        raise ImageError("missing", WHY.get(why, why))

    def all(self, wanted: Iterable[tuple[int, Pictured, Size]]) -> dict[int, np.ndarray | str]:
        """Each image at its size, or why it is not shown."""

        def one(asked: tuple[int, Pictured, Size]) -> tuple[int, np.ndarray | str]:
            number, pictured, size = asked
            try:
                return number, resized(self.image(pictured), size)
            except ImageError as error:
                return number, error.message

        pool = ThreadPoolExecutor(min(8, cores()))
        try:
            return dict(pool.map(one, wanted))
        finally:  # after Ctrl-C nothing that waits is begun any more
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def sources() -> Iterator[Sources]:
    """Their decoders end with this block."""
    decoders = Decoders(Limits(), MOST_SECONDS)
    try:
        yield Sources(decoders)
    finally:
        decoders.close()
