"""What Pillow gets wrong of a JPEG 2000 that has not 8 bits: too few are too dark, and the brightest of too many are black."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

_SIZE, _TILE_PART, _PIXELS = 0xFF51, 0xFF90, 0xFF93
_STEPS, _STEPS_OF_ONE = 0xFF5C, 0xFF5D  # of quantisation: for all components, for one
_BOX = b"jp2c"
_SIGNED = 0x80
_MOST_BITS = 16  # beyond, Pillow has no place for one more


def mended(image: Image.Image, data: bytes) -> Image.Image:
    """What Pillow loaded of these bytes, in levels of 0..255; as it is where it cannot be better."""
    bits = _bits(data)
    if len(bits) != 1 or image.mode not in ("L", "LA", "RGB", "RGBA"):
        return image
    (depth,) = bits
    if depth < 8:
        shown = (np.asarray(image) >> (8 - depth)).astype(np.uint16) * 255 // (2**depth - 1)
        return Image.fromarray(shown.astype(np.uint8), image.mode)
    return _with_its_brightest(image, data) if 8 < depth <= _MOST_BITS else image


def _with_its_brightest(image: Image.Image, data: bytes) -> Image.Image:
    """Pillow rounds the numbers of more than 8 bits to levels of 0..256, of which the last becomes 0. Read as if they had a
    bit more than they have, the same numbers are far from both ends: what is bright there and 0 here is 255."""
    levels = np.asarray(image)
    if levels.all():
        return image
    with Image.open(io.BytesIO(_a_bit_wider(data)), formats=["JPEG2000"]) as wider:
        bright = np.asarray(wider) >= 128
    return Image.fromarray(np.where(bright & (levels == 0), np.uint8(255), levels), image.mode)


def _stream(data: bytes) -> int:
    """Where the codestream begins: ISO 15444-1, annex I has the boxes around it."""
    at = 0
    while not data.startswith(b"\xff\x4f\xff\x51", at):
        size, kind = struct.unpack_from(">L4s", data, at)
        head = 16 if size == 1 else 8
        if kind == _BOX:
            return at + head
        at += struct.unpack_from(">Q", data, at + 8)[0] if size == 1 else size
        if size == 0:
            raise ValueError("no codestream")
    return at


def _components(data: bytes) -> range:
    """Where the depth of each component stands."""
    size = _stream(data) + 2
    (count,) = struct.unpack_from(">H", data, size + 38)
    return range(size + 40, size + 40 + 3 * count, 3)


def _bits(data: bytes) -> set[int]:
    """The bits of its components; signs left aside."""
    try:
        return {(data[at] & ~_SIGNED) + 1 for at in _components(data)}
    except (struct.error, IndexError, ValueError):
        return set()


def _a_bit_wider(data: bytes) -> bytes:
    """The file with one bit more for each component, and the same numbers.

    Steps of quantisation are said as parts of the whole range (annex E, equations E-2 and E-3): of a range that is twice as
    wide they are half as large a part, so their exponents grow by one; and by as much the guard bits shrink, which with the
    exponents say how many bit planes there are. What was not quantised has steps of one whatever the range.
    """
    wider = bytearray(data)
    for at in _components(data):
        wider[at] += 1
    for at, end in _quantisations(data):
        if data[at] & 31 == 0:
            continue
        if data[at] >> 5 == 0:
            return data
        wider[at] -= 1 << 5
        for step in range(at + 1, end - 1, 2):
            (value,) = struct.unpack_from(">H", data, step)
            if value >> 11 == 31:
                return data
            struct.pack_into(">H", wider, step, value + (1 << 11))
    return bytes(wider)


def _quantisations(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the style and the steps of each begin and end, in the main header and those of tiles."""
    index = 1 if len(_components(data)) < 257 else 2
    at = _stream(data) + 2
    part = end_of_part = 0
    while at + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _TILE_PART:
            (size,) = struct.unpack_from(">L", data, at + 6)
            part, end_of_part = at, at + size if size else len(data)
        if marker == _PIXELS:
            at = end_of_part
            continue
        if marker >> 8 != 0xFF or length < 2:
            return
        if marker in (_STEPS, _STEPS_OF_ONE):
            yield at + 4 + (index if marker == _STEPS_OF_ONE else 0), at + 2 + length
        at += 2 + length
        if part and at > end_of_part:
            return
