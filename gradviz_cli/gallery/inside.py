"""Pictures and images that the page holds in itself: reduced copies, so that it can be sent.

They are decoded where all images are, in processes of their own; an image's copy has its pixels and nothing else, no
place where it was taken and no name of a camera.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.images.decoders import Decoders
from gradviz_cli.images.fit import Geometry, fit, spread
from gradviz_cli.images.frames import pages
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import NUMBERS

if TYPE_CHECKING:
    from PIL import Image

PIXELS = 640  # of the longer side
PIXELS_RANGE = (32, 4096)
TIMEOUT = 60.0  # seconds for one picture
QUALITY = 82  # of WebP and JPEG


@dataclass(frozen=True)
class _Wanted:
    path: str
    size: tuple[int, int] | None  # width and height, where a picture of ours says so
    page: int | None  # its number, where the file has several


@dataclass
class Inside:
    """What the page is to hold, in the order in which it was asked for."""

    pixels: int = PIXELS
    limits: Limits = field(default_factory=Limits)
    wanted: dict[_Wanted, int] = field(default_factory=dict)

    def add(self, path: str, size: tuple[int, int] | None, page: int | None = None) -> int:
        """The place that a picture will have."""
        return self.wanted.setdefault(_Wanted(path, size, page), len(self.wanted))

    def copies(self) -> Generator[str, None, None]:
        """Each as base64 of a WebP, or of a JPEG where Pillow has no WebP; empty where it cannot be read."""
        decoders = Decoders(self.limits, TIMEOUT)
        pool = ThreadPoolExecutor(machine.cores())
        try:
            yield from pool.map(lambda one: self._copy(one, decoders), self.wanted)
        finally:
            decoders.close()  # so that a thread that still waits for one ends
            pool.shutdown(cancel_futures=True)

    def _copy(self, one: _Wanted, decoders: Decoders) -> str:
        try:
            data = read_bytes(one.path, self.limits)
            return base64.b64encode(_encoded(self._reduced(data, one, decoders))).decode()
        except ImageError:
            return ""

    def _reduced(self, data: bytes, one: _Wanted, decoders: Decoders) -> np.ndarray:
        """uint8 [h, w, 3], at most `pixels` high and wide, and no larger than it is."""
        if one.size:
            shorter = min(1.0, self.pixels / max(one.size))
            width, height = (max(1, round(shorter * side)) for side in one.size)
            return decoders.decode(data, Geometry(height, width), pixels=False, fast=True).fitted
        # The size of an image is known only once it is decoded: it is put into a square, which is cut away again.
        square, place = Geometry(self.pixels, self.pixels, fit="pad"), _place(one)
        found = decoders.decode(data, square, pixels=False, fast=True, page=place)
        if found.held == NUMBERS:  # in the model's own range
            whole = decoders.decode(data, Geometry(1, 1), pixels=True, page=place).pixels
            return fit(_image(whole), square)[spread(square, found.size)[1].slices]
        if max(found.size) <= self.pixels:
            return decoders.decode(data, Geometry(*found.size), pixels=False, page=place).fitted
        return found.fitted[spread(square, found.size)[1].slices]


def _place(one: _Wanted) -> int | None:
    """Where a page is in its file."""
    if one.page is None:
        return None
    places = dict(enumerate(pages(one.path), 1))
    if one.page not in places:
        raise ImageError("damaged", f"it has no page {one.page}")
    return places[one.page]


def _image(pixels: np.ndarray | None) -> Image.Image:
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(pixels, np.uint8))


def _encoded(pixels: np.ndarray) -> bytes:
    from PIL import features

    file = io.BytesIO()
    _image(pixels).save(file, "WEBP" if features.check("webp") else "JPEG", quality=QUALITY)
    return file.getvalue()
