"""PNG and npy, in memory, and the text that our PNGs carry."""

from __future__ import annotations

import functools
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import _open_regular
from gradviz_cli.files.text import AnyPath
from gradviz_cli.images.enlarge import BAND
from gradviz_cli.plan.outputs import KEYWORD

_PNG = b"\x89PNG\r\n\x1a\n"
_IEND = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_TEXT = 1 << 20
LARGE = 2**22  # pixels; from there on it is time that counts


@dataclass(frozen=True, eq=False)
class Rows:
    """A picture that is drawn as it is read, from the top: it need not lie in memory as a whole.

    Attributes
    ----------
    shape : tuple of int
        (h, w) or (h, w, 3).
    bands : () -> iterator of uint8 [some rows, w] or [some rows, w, 3]
        Begins at the top each time; a band is not touched any more once the next is asked for.
    smooth : bool
        Whether neighbours are alike, as in what was enlarged, and in photos.
    taller : bool
        Whether those above are at least as much alike as those to the left: it was enlarged more in height.
    """

    shape: tuple[int, ...]
    bands: Callable[[], Iterator[np.ndarray]]
    smooth: bool = False
    taller: bool = True

    def whole(self) -> np.ndarray:
        return np.concatenate(list(self.bands()))


def _rows_of(pixels: np.ndarray) -> Rows:
    step = max(1, BAND // pixels[0].size)
    return Rows(pixels.shape, lambda: (pixels[top : top + step] for top in range(0, len(pixels), step)))


def encode_png(
    pixels: np.ndarray | Rows, palette: np.ndarray | None, text: str | None = None, dpi: float | None = None
) -> bytes:
    """A PNG that carries `text`, where there is one, in a chunk named `gradviz`, ahead of the pixels.

    Written here and not by Pillow, which takes three times as long over a colour picture. Same input, same bytes (with
    the same zlib).

    Parameters
    ----------
    pixels : numpy.ndarray or Rows
        uint8 [h, w] (gray, or index into `palette`) or [h, w, 3] (RGB).
    palette : numpy.ndarray or None
        uint8 [256, 3].
    text : str, optional
        Without NUL. A `tEXt` chunk where it is ASCII, else `iTXt`.
    dpi : float, optional
        Pixels per inch, for those who print it.
    """
    shape = pixels.shape
    shape_fits = len(shape) == 2 or (palette is None and shape[2:] == (3,))
    is_bytes = isinstance(pixels, Rows) or pixels.dtype == np.uint8
    if not is_bytes or 0 in shape or not shape_fits:
        raise ValueError(f"{getattr(pixels, 'dtype', 'rows')} {shape} are no pixels of a PNG")
    if palette is not None and (palette.dtype != np.uint8 or palette.shape != (256, 3)):
        raise ValueError(f"{palette.dtype} {palette.shape} is no palette")
    rows = pixels if isinstance(pixels, Rows) else _rows_of(pixels)
    kind = 3 if palette is not None else 0 if len(shape) == 2 else 2
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", shape[1], shape[0], 8, kind, 0, 0, 0))]
    if text is not None:
        chunks.append(_text_chunk(text))
    if dpi is not None:
        per_metre = round(dpi / 0.0254)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    if palette is not None:
        chunks.append(_chunk(b"PLTE", palette.tobytes()))
    way = _way_of(rows)
    packed = list(_deflated(_filtered(rows, way.number), way))
    return b"".join([_PNG, *chunks, *_chunk_parts(b"IDAT", packed), _IEND])


# ---- pixels -> filtered rows -> deflated

Filter = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(bytes of some rows, those to the left, those above, those left of these) -> what is stored, all uint8 [h, n]"""


def _paeth(here: np.ndarray, left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Less the one of the three that is nearest to left + above - corner (PNG, 9.4), in bytes alone.

    Let the corner lie between the other two, or else on the one that is nearer to it. If it is at least twice as near to
    one of them as to the other, that is the other, and else the corner.
    """
    low, high = np.minimum(left, above), np.maximum(left, above)
    guess = np.maximum(corner, low)
    np.minimum(guess, high, out=guess)
    down, up = np.subtract(guess, low, out=low), np.subtract(high, guess, out=high)
    # 255 where it is the lower, and where it is the higher: a choice by `where` takes five times as long
    is_low, is_high = (np.negative((one <= other >> 1).view(np.uint8)) for one, other in ((up, down), (down, up)))
    down &= is_low
    up &= is_high
    guess -= down
    guess += up
    return np.subtract(here, guess, out=guess)


_FILTERS: dict[int, Filter] = {
    0: lambda here, left, above, corner: here,
    1: lambda here, left, above, corner: here - left,
    2: lambda here, left, above, corner: here - above,
    4: _paeth,
}


class Way(NamedTuple):
    """How pixels are stored: the number of the filter of each row, how much of a band has to repeat the byte before it for
    runs to be quicker than codes alone, and zlib's level of memory: with less there are more tables, and its symbols stay in a
    processor's nearest cache."""

    number: int
    mostly: float
    memory: int = 8


def _way_of(rows: Rows) -> Way:
    """What is smooth is half as large by Paeth's filter. Else gray and indices stay as they are, and colours lose those to
    their left. The map of a large photo is half as large by the difference to one neighbour too, in half of the time."""
    colours = len(rows.shape) == 3
    if not rows.smooth:
        return Way(1 if colours else 0, 0.6)
    if colours or rows.shape[0] * rows.shape[1] < LARGE:
        return Way(4, 0.6)
    return Way(2 if rows.taller else 1, 0.75, 7)


def _filtered(rows: Rows, number: int) -> Iterator[np.ndarray]:
    """Bands of uint8 [h, 1 + bytes of a row], each row with the number of its filter."""
    depth = 3 if len(rows.shape) == 3 else 1
    last = np.zeros(depth + rows.shape[1] * depth, np.uint8)  # black above the picture, and left of it
    for band in rows.bands():
        framed = np.zeros((1 + len(band), last.size), np.uint8)
        framed[0], framed[1:, depth:] = last, band.reshape(len(band), -1)
        out = np.empty((len(band), 1 + last.size - depth), np.uint8)
        out[:, 0] = number
        out[:, 1:] = _FILTERS[number](
            framed[1:, depth:], framed[1:, :-depth], framed[:-1, depth:], framed[:-1, :-depth]
        )
        last = framed[-1]
        yield out


def _deflated(bands: Iterable[np.ndarray], way: Way) -> Iterator[bytes]:
    """A zlib stream. Noise is as small by Huffman's codes alone as with matches, and takes two thirds of the time; where
    most bytes repeat those before them, runs are far smaller. Each band is by what fits it."""
    yield b"\x78\x01"
    checksum, compress, strategy = 1, None, None
    for band in bands:
        checksum = zlib.adler32(band.data, checksum)
        wanted = zlib.Z_RLE if _repeats(band, way.mostly) else zlib.Z_HUFFMAN_ONLY
        if compress is None or wanted != strategy:
            if compress is not None:
                yield compress.flush(zlib.Z_SYNC_FLUSH)
            compress, strategy = zlib.compressobj(1, zlib.DEFLATED, -15, way.memory, wanted), wanted
        yield compress.compress(band.data)
    assert compress is not None, "a picture without rows"
    yield compress.flush()
    yield struct.pack(">I", checksum)


def _repeats(band: np.ndarray, mostly: float) -> bool:
    some = band[::4]
    return int(np.count_nonzero(some[:, 1:] == some[:, :-1])) > mostly * some.size


def _text_chunk(text: str) -> bytes:
    if "\0" in text:
        raise ValueError("a PNG text cannot hold NUL")
    if text.isascii():
        return _chunk(b"tEXt", KEYWORD + b"\0" + text.encode())
    return _chunk(b"iTXt", KEYWORD + b"\0\0\0\0\0" + text.encode())  # not compressed, no language


def _chunk(kind: bytes, body: bytes) -> bytes:
    return b"".join(_chunk_parts(kind, [body]))


def _chunk_parts(kind: bytes, body: Sequence[bytes]) -> Iterator[bytes]:
    yield from (struct.pack(">I", sum(map(len, body))), kind, *body)
    yield struct.pack(">I", functools.reduce(lambda before, part: zlib.crc32(part, before), body, zlib.crc32(kind)))


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
