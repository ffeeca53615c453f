"""What Pillow does not ask of a PNG: whether it is whole, how many bits count, and the lower half of 16 bits in colour."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from gradviz_cli.errors import ImageError
from gradviz_cli.files.text import printable

_START = b"\x89PNG\r\n\x1a\n"
# Chunks of text and of a colour profile, and the keywords of those texts in which the turn of a picture may stand.
_WORDS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_TURNING = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"


def check_chunks(data: bytes) -> list[memoryview]:
    """The compressed pixels. Every chunk must be there up to IEND; Pillow skips the CRC of the pixels."""
    if data[12:16] == b"CgBI":
        remedy = "turn it back: pngcrush -revert-iphone-optimizations FILE FILE.png"
        raise ImageError("format", f"a PNG as Apple packs it into apps, which is none by the standard; {remedy}")
    view, start, kind, pixels = memoryview(data), 8, b"", []
    while kind != b"IEND":
        if start + 12 > len(data):
            raise ImageError("truncated", "PNG: the file ends too early")
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            raise ImageError("truncated", "PNG: the file ends too early")
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ImageError("damaged", f"PNG: wrong checksum in chunk {printable(kind)} at byte {start}")
        if kind == b"IDAT":
            pixels.append(view[start + 8 : end - 4])
        start = end
    if data[8:16] != b"\0\0\0\rIHDR":
        raise ImageError("damaged", "PNG: does not begin with its header")
    return pixels


def without_words(data: bytes) -> bytes:
    """The file without texts and colour profile, for which Pillow has limits: that one is long says nothing of the pixels.

    All chunks must be there (`check_chunks`).
    """
    kept, at = [], 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind not in _WORDS or data.startswith(_TURNING, at + 8):
            kept.append((at, at + 12 + length))
        at += 12 + length
        if kind == b"IEND":
            break
    if sum(end - start for start, end in kept) == at - 8:
        return data
    return b"".join([data[:8], *(memoryview(data)[start:end] for start, end in kept)])


# Adam7: first row, row step, first column, column step of each pass.
_INTERLACED = (0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)


def check_rows(image: Image.Image, data: bytes, pixels: list[memoryview]) -> None:
    """Rows that a PNG lacks stay black in Pillow, without a word. So count them, where the last is black."""
    width, height = image.size
    depth, colour, interlaced = data[24], data[25], data[28]
    if not interlaced and image.crop((0, height - 1, width, height)).tobytes().strip(b"\0"):
        return
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    wanted = 0
    for top, down, left, right in _INTERLACED if interlaced else [(0, 1, 0, 1)]:
        rows, columns = len(range(top, height, down)), len(range(left, width, right))
        wanted += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    inflate = zlib.decompressobj()
    for part in pixels:
        rest: memoryview | bytes = part
        while rest and wanted > 0:
            wanted -= len(inflate.decompress(rest, 2**20))
            rest = inflate.unconsumed_tail
    if wanted > len(inflate.flush()):
        raise ImageError("truncated", "PNG: rows are missing at the end")


def depth(data: bytes) -> int:
    """Bits of a channel."""
    return data[24]


def significant_bits(data: bytes) -> int:
    """Bits that the file says were in use where it was made (sBIT); 16 where it says nothing or the channels differ."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"sBIT":
            bits = set(data[at + 8 : at + 8 + length])
            return bits.pop() if len(bits) == 1 else 16
        if kind == b"IDAT":
            break
        at += 12 + length
    return 16


def wide_colours(data: bytes, high: Image.Image) -> np.ndarray | None:
    """uint16 [h, w, c] of a PNG in colour, of which `high` has the upper bytes; None where Pillow cannot read the lower.

    Pillow keeps the upper byte only. Asked for the other order of bytes, it keeps the lower one.
    """
    with Image.open(io.BytesIO(without_words(data)), formats=["PNG"]) as image:
        (tile,) = image.tile
        if tile[3] not in ("RGB;16B", "RGBA;16B"):
            return None
        image.tile = [(*tile[:3], tile[3].replace("16B", "16L"))]
        low = np.asarray(image)
    return np.asarray(high).astype(np.uint16) << 8 | low
