"""What Pillow gets wrong of a JPEG 2000 that has not 8 bits: too few are too dark, and the brightest of too many are black."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from gradviz_cli.errors import ImageError

_SIZE, _TILE_PART, _PIXELS = 0xFF51, 0xFF90, 0xFF93
_STEPS, _STEPS_OF_ONE = 0xFF5C, 0xFF5D  # of quantisation: for all components, for one
_BOX = b"jp2c"
_SIGNED = 0x80
_HUES = re.compile(rb"colr\x01..\0\0\0\x12", re.DOTALL)  # sYCC, of the colours that are known by a number
_MOST_BITS = 16  # beyond, Pillow has no place for one more


def mended(image: Image.Image, data: bytes) -> Image.Image:
    """What Pillow loaded of these bytes, in levels of 0..255; as it is where it cannot be better."""
    bits = _bits(data)
    if image.mode not in ("L", "LA", "RGB", "RGBA") or len(bits) != len(image.getbands()) or set(bits) == {8}:
        return image
    hues = _HUES.search(data, 0, _stream(data)) if max(bits) > 8 and image.mode == "RGB" else None
    if hues:
        return _from_hues(image, data[: hues.end() - 1] + b"\x10" + data[hues.end() :])
    levels = np.array(image).reshape(image.height, image.width, -1)
    for place, depth in enumerate(bits):
        if depth < 8:
            levels[..., place] = (levels[..., place] >> (8 - depth)) * np.uint16(255) // (2**depth - 1)
    wide = [place for place, depth in enumerate(bits) if 8 < depth <= _MOST_BITS]
    if wide and not levels[..., wide].all():
        levels[..., wide] = np.where(
            _bright(data)[..., wide] & (levels[..., wide] == 0), np.uint8(255), levels[..., wide]
        )
    return Image.fromarray(levels if levels.shape[2] > 1 else levels[..., 0], image.mode)


def _from_hues(image: Image.Image, data: bytes) -> Image.Image:
    """Of a file that says it holds luma and hues: Pillow rounds before it makes colours of them. `data` says that they are
    colours, so that they are not made, and can be mended first; where hues are shared, which is rare, Pillow cannot do so."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG2000"]) as apart:
            found = mended(apart, data)
    except OSError:
        return image
    return Image.fromarray(np.asarray(found), "YCbCr").convert("RGB")


def _bright(data: bytes) -> np.ndarray:
    """Bool [h, w, c]: which numbers of more than 8 bits lie in their upper half.

    Pillow rounds them to levels of 0..256, of which the last becomes 0. Read as if they had a bit more than they have, the
    same numbers are far from both ends; so what is bright there and 0 in the picture is 255.
    """
    try:
        with Image.open(io.BytesIO(_a_bit_wider(data)), formats=["JPEG2000"]) as wider:
            return np.asarray(wider).reshape(wider.height, wider.width, -1) >= 128
    except MemoryError:
        raise
    except Exception as error:  # of a coding that leaves no room for another bit
        raise ImageError(
            "format",
            "a JPEG 2000 of more than 8 bits in colour, whose white is not told from black; write it with 8 bits",
        ) from error


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


def _bits(data: bytes) -> tuple[int, ...]:
    """How many bits each component has; signs left aside."""
    try:
        return tuple((data[at] & ~_SIGNED) + 1 for at in _components(data))
    except (struct.error, IndexError, ValueError):
        return ()


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
            raise ValueError("no guard bit")
        wider[at] -= 1 << 5
        for step in range(at + 1, end - 1, 2):
            (value,) = struct.unpack_from(">H", data, step)
            if value >> 11 == 31:
                raise ValueError("no larger exponent")
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
