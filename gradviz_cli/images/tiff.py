"""What a TIFF holds: its pictures, which of them is the photo, and samples that Pillow has no mode for.

Raw photos, photos with a small copy ahead of them, and pictures of many bands or floats are all TIFFs. Which one a
file is stands in the tags of its directories, so they are read here, with bounds, as the file may be anything.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from PIL import Image

from gradviz_cli.errors import ImageError
from gradviz_cli.files.text import printable
from gradviz_cli.images.formats import raw_photo

Tags = Mapping[int, tuple]

MOST_PAGES = 64  # directories that are looked at; the photo is among the first
FEW_VALUES, MOST_VALUES = 64, 2**21  # of a tag: to choose a page by, to read its samples by
MOST_BYTES = 16  # of samples for each pixel that the limit allows


class Tag(IntEnum):
    """Tags that are asked for, by their names in the standard."""

    SUBFILE = 254
    OLD_SUBFILE = 255
    WIDTH = 256
    LENGTH = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    MAKE = 271
    OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS = 278
    COUNTS = 279
    MAX_SAMPLE = 281
    PLANAR = 284
    PREDICTOR = 317
    COLOURS = 320  # of a palette: all reds, all greens, all blues
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    SUB_DIRECTORIES = 330
    INK_SET = 332
    EXTRA = 338
    FORMAT = 339
    NO_DATA = 42113  # GDAL's
    DNG_VERSION = 50706  # Adobe's


_READ = frozenset(Tag)
_TYPES = {1: "B", 2: "s", 3: "H", 4: "L", 6: "b", 7: "B", 8: "h", 9: "l", 13: "L", 16: "Q", 17: "q", 18: "Q"}

GRAY, RGB, MASK, INKS, YCBCR = (0, 1), 2, 4, 5, 6  # of Tag.PHOTOMETRIC
SIGNED, FLOAT = 2, 3  # of Tag.FORMAT
APART = 2  # of Tag.PLANAR: one plane after the other
ASSOCIATED, UNASSOCIATED = 1, 2  # of Tag.EXTRA: colours are multiplied by this transparency, or not
FAXES = (2, 3, 4)  # of Tag.COMPRESSION
JPEGS = (6, 7)  # of Tag.COMPRESSION: they work on pixels, not on bytes
COMMON = (1, *FAXES, 5, *JPEGS, 8, 32773, 32946)  # of Tag.COMPRESSION: every libtiff has LZW, PackBits, Deflate
# Only raw photos have these: a mosaic of sensor pixels, and the makers' own packing of it.
_SENSOR = frozenset({32803, 34892})
_PACKED_SENSOR = frozenset({32767, 32769, 32770, 32772, 34713, 34892, 65000, 65535})
_KINDS = {1: "u", SIGNED: "i", FLOAT: "f", 4: "u"}


@dataclass(frozen=True)
class Page:
    """One directory: where it stands, in which order its numbers are (`<` or `>`) and whether the file is a BigTIFF, and
    the tags that are asked for here."""

    at: int
    order: str
    big: bool
    tags: Tags

    def first(self, tag: int, missing: int = 0) -> int:
        """The first value of a tag; `missing` is what the standard says where it stands nowhere."""
        values = self.tags.get(tag)
        return values[0] if values and isinstance(values[0], int) else missing

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.first(Tag.LENGTH), self.first(Tag.WIDTH)

    @property
    def samples(self) -> int:
        return self.first(Tag.SAMPLES, 1)

    @property
    def colours(self) -> int:
        """What the samples stand for; where it is not said, as readers take it."""
        return self.first(Tag.PHOTOMETRIC, 1)

    @property
    def transparency(self) -> int | None:
        """Which sample it is, where one is."""
        extra = self.tags.get(Tag.EXTRA, ())
        found = next((place for place, one in enumerate(extra) if one in (ASSOCIATED, UNASSOCIATED)), None)
        return None if found is None else self.samples - len(extra) + found

    @property
    def is_associated(self) -> bool:
        """Whether colours are multiplied by their transparency."""
        place = self.transparency
        return place is not None and self.tags[Tag.EXTRA][place - self.samples] == ASSOCIATED

    @property
    def are_four_inks(self) -> bool:
        """Whether inks are cyan, magenta, yellow and black, and not of names that the file gives them."""
        return self.first(Tag.INK_SET, 1) == 1

    @property
    def is_apart(self) -> bool:
        """Whether its bands are stored one after the other."""
        return self.first(Tag.PLANAR, 1) == APART

    @property
    def white(self) -> int | None:
        """The largest value of 16 bits, where it is said to lie in their lower half."""
        values = set(self.tags.get(Tag.MAX_SAMPLE, ()))
        most = values.pop() if len(values) == 1 else 0
        return most if self.first(Tag.BITS, 1) == 16 and 255 < most < 2**15 else None

    @property
    def is_picture(self) -> bool:
        """Neither a small copy of another page nor the mask of one; bit 1 says that it is a page among others."""
        return not self.first(Tag.SUBFILE) & ~2 and self.first(Tag.OLD_SUBFILE) != 2 and not self._is_mask

    @property
    def _is_mask(self) -> bool:
        return bool(self.first(Tag.SUBFILE) & 4) or self.first(Tag.PHOTOMETRIC) == MASK

    @property
    def is_sensor(self) -> bool:
        return self.first(Tag.PHOTOMETRIC) in _SENSOR or self.first(Tag.COMPRESSION) in _PACKED_SENSOR


def pages(data: bytes) -> list[Page]:
    """The directories of a file in their order, then those below them; what is damaged ends the walk."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    found: dict[int, Page] = {}
    start = struct.unpack_from(order + ("Q" if big else "L"), data.ljust(16, b"\0"), 8 if big else 4)[0]
    _follow(data, start, order, big, found)
    for page in tuple(found.values()):
        for below in page.tags.get(Tag.SUB_DIRECTORIES, ())[:MOST_PAGES]:
            _follow(data, below, order, big, found)
    return list(found.values())


def _follow(data: bytes, at: int, order: str, big: bool, found: dict[int, Page]) -> None:
    """Add the directories of a chain; one that leads back or out of the file ends."""
    while 8 <= at < len(data) and at not in found and len(found) < MOST_PAGES:
        try:
            tags, after = _directory(data, at, order, big, FEW_VALUES)
        except struct.error:
            return
        found[at] = Page(at, order, big, tags)
        at = after


def _directory(data: bytes, at: int, order: str, big: bool, most: int) -> tuple[Tags, int]:
    head, entry, link = ("Q", 20, "Q") if big else ("H", 12, "L")
    (count,) = struct.unpack_from(order + head, data, at)
    start = at + struct.calcsize(order + head)
    end = start + count * entry
    (after,) = struct.unpack_from(order + link, data, end) if end + struct.calcsize(order + link) <= len(data) else (0,)
    tags = {}
    for place in range(start, min(end, len(data) - entry + 1), entry):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHL"), data, place)
        if tag in _READ and kind in _TYPES:
            tags[tag] = _values(data, place + (12 if big else 8), order, big, _TYPES[kind], number, most)
    return tags, after


def _values(data: bytes, place: int, order: str, big: bool, kind: str, number: int, most: int) -> tuple:
    """The first ones; they stand in the entry itself where they fit."""
    size = struct.calcsize(order + kind) * number
    if size > (8 if big else 4):
        (place,) = struct.unpack_from(order + ("Q" if big else "L"), data, place)
    if place + size > len(data):
        return ()
    return struct.unpack_from(f"{order}{min(number, most)}{kind}", data, place)


# ---- which page


def photo(found: list[Page]) -> Page | None:
    """The page that is meant: the first that is no small copy and no mask, else the largest; None if there is none.

    Raises
    ------
    ImageError
        The file is a raw photo, whose pages that could be shown are previews.
    """
    shown = [page for page in found if page.is_picture and not page.is_sensor]
    _check_no_raw(found, shown)
    copies = [page for page in found if not page.is_sensor]
    return next(iter(shown), None) or max(copies, key=lambda page: page.size[0] * page.size[1], default=None)


def _check_no_raw(found: list[Page], shown: list[Page]) -> None:
    """What says so: Adobe's tag, sensor pixels, or a camera's file whose only pictures are small copies."""
    digital_negative = any(Tag.DNG_VERSION in page.tags for page in found)
    camera = next((page.tags[Tag.MAKE] for page in found if page.tags.get(Tag.MAKE)), ())
    only_copies = bool(camera) and bool(found) and not shown
    if digital_negative or only_copies or any(page.is_sensor for page in found):
        maker = printable(b"".join(one for one in camera if isinstance(one, bytes)).strip(b"\0 "))[:40]
        raise raw_photo("DNG" if digital_negative else maker or "sensor pixels in a TIFF")


def starting_at(data: bytes, page: Page) -> bytes:
    """The file with this page as its first one."""
    if page.big:
        return data[:8] + struct.pack(page.order + "Q", page.at) + data[16:]
    return data[:4] + struct.pack(page.order + "L", page.at) + data[8:]


# ---- samples that Pillow has no mode for


def described(page: Page) -> str:
    """What the samples are, for a message."""
    kind = {1: "whole numbers", SIGNED: "signed whole numbers", FLOAT: "floats"}.get(
        page.first(Tag.FORMAT, 1), "samples"
    )
    return f"{page.samples} bands of {kind} of {page.first(Tag.BITS, 1)} bits, compression {page.first(Tag.COMPRESSION, 1)}"


def not_read(page: Page) -> ImageError:
    """The refusal of a page that no way leads to: of its packing where that is a rare one, of its numbers, or of its form."""
    usual = page.first(Tag.BITS, 1) in (8, 16) and page.first(Tag.FORMAT, 1) == 1
    remedy = "save it as PNG" if usual else "write it as 8 or 16 bits"
    if page.first(Tag.COMPRESSION, 1) not in COMMON:
        remedy = "pack it with LZW or Deflate"
    return ImageError("format", f"a TIFF of {described(page)}, which is not read; {remedy}")


def samples(data: bytes, page: Page, most: int) -> np.ndarray:
    """All bands [h, w, bands] in the type that they are stored in.

    Pillow undoes the compression: it is given a directory that calls every byte a gray pixel, and so knows nothing of
    bands, floats and predictors.

    Parameters
    ----------
    most : int
        Bytes.

    Raises
    ------
    ImageError
        `format`: bits that make no type, or a compression that works on pixels (JPEG); `too-large`.
    """
    dtype = _dtype(page)
    height, width = page.size
    if height * width * page.samples * dtype.itemsize > most:
        raise ImageError("too-large", f"{height} x {width} pixels of {described(page)} are more than the limit")
    page = replace(page, tags=_directory(data, page.at, page.order, page.big, MOST_VALUES)[0])
    planes = page.samples if page.is_apart else 1
    bands = page.samples // planes
    high, wide = _stored_size(page)
    if high * wide * page.samples * dtype.itemsize > 2 * most:
        raise ImageError("damaged", f"TIFF: its tiles are of {high} x {wide} pixels, far more than it has")
    parts = [_plane(data, page, dtype, bands, number, planes) for number in range(planes)]
    return np.ascontiguousarray(np.concatenate(parts, axis=2)[:height, :width])


def _dtype(page: Page) -> np.dtype:
    bits = set(page.tags.get(Tag.BITS, (1,)))
    kind, size = _KINDS.get(page.first(Tag.FORMAT, 1)), min(bits) // 8
    known = len(bits) == 1 and min(bits) % 8 == 0 and size in ((2, 4, 8) if kind == "f" else (1, 2, 4, 8))
    if not known or kind is None or page.first(Tag.COMPRESSION, 1) in JPEGS or page.samples < 1:
        raise not_read(page)
    return np.dtype(f"{page.order}{kind}{size}")


def _stored_size(page: Page) -> tuple[int, int]:
    """Height and width with what the last tiles have beyond the image."""
    height, width = page.size
    high, wide = page.first(Tag.TILE_LENGTH) or 1, page.first(Tag.TILE_WIDTH) or 1
    tiled = Tag.TILE_OFFSETS in page.tags
    return (-(-height // high) * high, -(-width // wide) * wide) if tiled else (height, width)


def _plane(data: bytes, page: Page, dtype: np.dtype, bands: int, number: int, planes: int) -> np.ndarray:
    """Bands that are stored together, [h, w, bands]; with tiles, as wide and high as all tiles are."""
    tiled = Tag.TILE_OFFSETS in page.tags
    down, across = _stored_size(page)
    high, wide = (page.first(Tag.TILE_LENGTH) or 1, page.first(Tag.TILE_WIDTH) or 1) if tiled else (down, across)
    pixel = bands * dtype.itemsize
    tags: dict[int, tuple[str, tuple]] = {
        Tag.WIDTH: ("L", (across * pixel,)),
        Tag.LENGTH: ("L", (down,)),
        Tag.BITS: ("H", (8,)),
        Tag.COMPRESSION: ("H", (page.first(Tag.COMPRESSION, 1),)),
        Tag.PHOTOMETRIC: ("H", (1,)),
        Tag.SAMPLES: ("H", (1,)),
    }
    if tiled:
        tags |= {Tag.TILE_WIDTH: ("L", (wide * pixel,)), Tag.TILE_LENGTH: ("L", (high,))}
    else:
        tags[Tag.ROWS] = ("L", (min(page.first(Tag.ROWS, down), down),))
    for tag in (Tag.TILE_OFFSETS, Tag.TILE_COUNTS) if tiled else (Tag.OFFSETS, Tag.COUNTS):
        values = page.tags.get(tag, ())
        share = len(values) // planes
        tags[tag] = ("L", values[number * share : (number + 1) * share])
    with Image.open(io.BytesIO(_with_directory(data, page.order, tags)), formats=["TIFF"]) as image:
        rows = np.asarray(image).reshape(down, across // wide, wide * pixel)
    return _unpredicted(rows, page.first(Tag.PREDICTOR, 1), dtype, bands).reshape(down, across, bands)


def _with_directory(data: bytes, order: str, tags: Mapping[int, tuple[str, tuple]]) -> bytes:
    """The file with a directory of these tags behind it, which is made its first one."""
    start = len(data) + len(data) % 2
    far = start + 2 + 12 * len(tags) + 4
    rows, outside = struct.pack(order + "H", len(tags)), b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(packed) > 4:
            packed, outside = struct.pack(order + "L", far + len(outside)), outside + packed
        rows += struct.pack(order + "HHL", tag, {"H": 3, "L": 4}[kind], len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", start)
    return head + data[8:].ljust(start - 8, b"\0") + rows + b"\0\0\0\0" + outside


def _unpredicted(rows: np.ndarray, predictor: int, dtype: np.dtype, bands: int) -> np.ndarray:
    """Bytes [h, tiles, bytes of a row] -> samples [h, tiles, w, bands], differences added up again."""
    down, tiles, _ = rows.shape
    if predictor == 1:
        return rows.view(dtype).reshape(down, tiles, -1, bands)
    if predictor == 2 and dtype.kind in "ui":
        values = rows.view(dtype).reshape(down, tiles, -1, bands)
        return np.cumsum(values, axis=2, dtype=dtype.newbyteorder("="))
    if predictor == 3 and dtype.kind == "f":  # byte planes, the most significant first, whatever the file's order
        summed = np.cumsum(rows.reshape(down, tiles, -1, bands), axis=2, dtype=np.uint8)
        planes = summed.reshape(down, tiles, dtype.itemsize, -1)
        values = np.ascontiguousarray(planes.swapaxes(2, 3)).view(dtype.newbyteorder(">"))
        return values.reshape(down, tiles, -1, bands)
    raise ImageError("format", f"a TIFF of {dtype.kind}{dtype.itemsize} with predictor {predictor}, which is not read")


def no_data(tags: Mapping) -> float | None:
    """The value that GDAL's tag says stands for none."""
    given = tags.get(Tag.NO_DATA)
    text = b"".join(given) if isinstance(given, tuple) else given
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    try:
        return float(re.sub(r"[\0\s]", "", text)) if isinstance(text, str) else None
    except ValueError:
        return None
