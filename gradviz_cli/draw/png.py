"""PNG and npy, in memory, and the text that our PNGs carry."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import _open_regular
from gradviz_cli.files.text import AnyPath
from gradviz_cli.plan.outputs import KEYWORD

_PNG = b"\x89PNG\r\n\x1a\n"
_IEND = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_TEXT = 1 << 20


def encode_png(
    pixels: np.ndarray, palette: np.ndarray | None, text: str | None = None, dpi: float | None = None
) -> bytes:
    """A PNG that carries `text`, where there is one, in a chunk named `gradviz`, ahead of the pixels.

    Written here and not by Pillow, which takes three times as long over a colour picture. Run-length
    matching is as small as full matching on noisy maps, and 2.5 times as fast. Same input, same bytes (with
    the same zlib).

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8 [h, w] (gray, or index into `palette`) or [h, w, 3] (RGB).
    palette : numpy.ndarray or None
        uint8 [256, 3].
    text : str, optional
        Without NUL. A `tEXt` chunk where it is ASCII, else `iTXt`.
    dpi : float, optional
        Pixels per inch, for those who print it.
    """
    shape_fits = pixels.ndim == 2 or (palette is None and pixels.shape[2:] == (3,))
    if pixels.dtype != np.uint8 or pixels.size == 0 or not shape_fits:
        raise ValueError(f"{pixels.dtype} {pixels.shape} are no pixels of a PNG")
    if palette is not None and (palette.dtype != np.uint8 or palette.shape != (256, 3)):
        raise ValueError(f"{palette.dtype} {palette.shape} is no palette")
    height, width = pixels.shape[:2]
    kind = 3 if palette is not None else 0 if pixels.ndim == 2 else 2
    compress = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    body = compress.compress(_filtered(pixels).data) + compress.flush()
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if text is not None:
        chunks.append(_text_chunk(text))
    if dpi is not None:
        per_metre = round(dpi / 0.0254)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    if palette is not None:
        chunks.append(_chunk(b"PLTE", palette.tobytes()))
    return b"".join([_PNG, *chunks, _chunk(b"IDAT", body), _IEND])


def _filtered(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, 1 + bytes of a row]: gray and indices as they are (filter 0), RGB less its left pixel (1)."""
    flat = pixels.reshape(len(pixels), -1)
    rows = np.zeros((flat.shape[0], flat.shape[1] + 1), np.uint8)
    rows[:, 1:] = flat
    if pixels.ndim == 3:
        rows[:, 0] = 1
        rows[:, 4:] -= flat[:, :-3]
    return rows


def _text_chunk(text: str) -> bytes:
    if "\0" in text:
        raise ValueError("a PNG text cannot hold NUL")
    if text.isascii():
        return _chunk(b"tEXt", KEYWORD + b"\0" + text.encode())
    return _chunk(b"iTXt", KEYWORD + b"\0\0\0\0\0" + text.encode())  # not compressed, no language


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def read_text(path: AnyPath) -> str | None:
    """The text that `encode_png` put into this file; None where there is no such whole file.

    Reads the first chunks and the last 12 bytes only, checks the CRC of the text, and raises nothing,
    whatever the file is. About 10 microseconds.
    """
    try:
        fd, size = _open_regular(path)
    except ImageError:
        return None
    try:
        return _find_text(fd, size)
    except (OSError, ValueError, struct.error):
        return None
    finally:
        os.close(fd)


def begins_like_png(path: AnyPath) -> bool:
    """Whether the first bytes are those of a PNG; no more of the file is read.

    Raises
    ------
    ImageError
        It cannot be opened, is no regular file, or is empty.
    """
    fd, size = _open_regular(path)
    try:
        if size == 0:
            raise ImageError("empty", "the file is empty")
        return os.pread(fd, len(_PNG), 0) == _PNG
    except OSError as error:
        raise ImageError("unreadable", f"cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)


def _find_text(fd: int, size: int) -> str | None:
    if os.pread(fd, 8, 0) != _PNG or os.pread(fd, 12, max(0, size - 12)) != _IEND:
        return None
    start = 8
    for _ in range(100):  # ours is the second chunk; another program may have put some ahead of it
        length, kind = struct.unpack(">I4s", os.pread(fd, 8, start))
        if kind in (b"IDAT", b"IEND"):
            return None
        if kind in (b"tEXt", b"iTXt") and length <= _MAX_TEXT:
            chunk = os.pread(fd, length + 4, start + 8)
            body, crc = chunk[:length], chunk[length:]
            if body.startswith(KEYWORD + b"\0") and crc == zlib.crc32(kind + body).to_bytes(4, "big"):
                return body[8:].decode("latin-1") if kind == b"tEXt" else _international(body[8:])
        start += 12 + length
    return None


def _international(body: bytes) -> str | None:
    if body[:1] != b"\0":  # compressed, so not ours
        return None
    return body[2:].split(b"\0", 2)[2].decode() if body.count(b"\0", 2) >= 2 else None


def encode_npy(array: np.ndarray) -> bytes:
    """A `.npy` file of little-endian float32, rows first."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array, "<f4"), allow_pickle=False)
    return file.getvalue()
