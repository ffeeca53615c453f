"""From an image file's bytes to upright pixels of 8 bits.

Images are untrusted. Only regular files are opened, limits are checked before anything is decoded, the
format is told from the first bytes and must be one of `FORMATS`, and whatever a decoder raises becomes an
`ImageError`. A decoder that crashes, hangs or eats the memory is not caught here: the caller decodes in a
process that is watched.
"""

from __future__ import annotations

import io
import logging
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import numpy as np
from PIL import Image, ImageFile

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits
from gradviz_cli.files.text import printable
from gradviz_cli.images.formats import _recognise

# Without a handler Python prints what Pillow logs; this one leaves it to whoever configures logging.
logging.getLogger("PIL").addHandler(logging.NullHandler())

BACKGROUND = 255  # what shines through transparent pixels: white, as on paper and in most viewers
MAX_SIDE = 1_000_000  # pixels; resampling keeps a table of 40 bytes per pixel of a side
# ---- decoding


def decode(data: bytes, limits: Limits, alpha: bool = False) -> Image.Image:
    """The first frame of an image: 8 bits, opaque, upright.

    * Transparent pixels are composited on white (`BACKGROUND`); with `alpha` they stay as they are, for a model that
      takes RGBA.
    * The EXIF orientation is applied; a broken one is ignored, as viewers do.
    * More than 8 bits are scaled, never clipped. 16-bit gray: / 257 (12-bit TIFF: / 4095 * 255). 16-bit
      colour: the high byte. 32-bit and signed integers: the smallest value of the image becomes 0, the
      largest 255, as no file says what white is. Floats: * 255 where all lie within 0..1, else like
      integers; NaN and infinity are an error.
    * Colour profiles are ignored: the pipelines that networks are trained with ignore them, and the result
      must not depend on the colour management of a machine. CMYK goes by Pillow's plain formula, LAB
      through sRGB.
    * PNG is held to its checksums and must be complete. JPEG has none: a flipped byte may go unnoticed.

    One image at a time in a process, as Pillow's limits and Python's warnings are global; other threads wait.

    Returns
    -------
    PIL.Image.Image
        Mode `L` or `RGB`; with `alpha` also `RGBA`, where the file has transparency.

    Raises
    ------
    ImageError
        `format` (none of `FORMATS`), `truncated`, `damaged`, `too-large` (more pixels than `limits` allows),
        `memory`.
    """
    return _guarded(data, limits, alpha=alpha)[0]


def decode_small(data: bytes, limits: Limits, least: int) -> tuple[Image.Image, tuple[int, int]]:
    """As `decode`, but a JPEG may come at a half, a quarter or an eighth of its size, no side below `least` pixels.

    libjpeg then leaves out the fine detail as it decodes, which is several times quicker for a photograph; resized to
    the model input the pixels are not quite those of `decode`.

    Returns
    -------
    PIL.Image.Image, (int, int)
        The image, and the height and width that it has in full.
    """
    return _guarded(data, limits, least)


def _guarded(
    data: bytes, limits: Limits, least: int | None = None, alpha: bool = False
) -> tuple[Image.Image, tuple[int, int]]:
    with _pillow_settings(limits):
        name = _recognise(data)
        try:
            with _no_stderr() if name in ("TIFF", "AVIF") else nullcontext():
                return _decoded(name, data, limits, least, alpha)
        except ImageError:
            raise
        except Exception as error:  # Pillow and its plugins raise a dozen classes, SyntaxError among them
            raise _failure(error, name, data, limits) from error


def _decoded(
    name: str, data: bytes, limits: Limits, least: int | None, alpha: bool
) -> tuple[Image.Image, tuple[int, int]]:
    pixels = _check_png(data) if name == "PNG" else None
    image: Image.Image = Image.open(io.BytesIO(data), formats=[name])
    _check_size(image.size, limits)
    width, height = image.size
    drafted = least is not None and image.draft(None, (least, least)) is not None
    image.load()
    if pixels is not None:
        _check_png_rows(image, data, pixels)
    turn = _turn(image)  # asked after loading: some files say it behind the pixels
    image = _eight_bits(image, data, alpha)
    image = image if turn is None else image.transpose(turn)
    if not drafted:
        return image, (image.height, image.width)
    return image, (width, height) if turn in _ON_ITS_SIDE else (height, width)


_DECODING = threading.Lock()


@contextmanager
def _pillow_settings(limits: Limits) -> Iterator[None]:
    """Our pixel limit, no truncated images, no warnings, whatever this process has set; put back after."""
    with _DECODING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        # Pillow raises above twice its limit, some plugins before they allocate; `_check_size` is exact.
        Image.MAX_IMAGE_PIXELS = limits.max_pixels // 2 + 1
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def _no_stderr() -> Iterator[None]:
    """libtiff and dav1d print past Python, and Pillow offers no switch: hold descriptor 2 meanwhile."""
    held = null = -1
    try:
        with suppress(OSError):  # closed already: then nothing can be printed
            held = os.dup(2)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
        yield
    finally:
        if held >= 0:
            os.dup2(held, 2)
            os.close(held)
        if null >= 0:
            os.close(null)


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError("damaged", f"{width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise _too_many_pixels(f"{width} x {height}", limits)
    if max(size) > MAX_SIDE:
        raise ImageError("too-large", f"{width} x {height} pixels: no side may be longer than {MAX_SIDE}")


def _too_many_pixels(count: str, limits: Limits) -> ImageError:
    limit = limits.max_pixels
    return ImageError("too-large", f"{count} pixels are more than the limit of {limit}; see --max-pixels")


def _check_png(data: bytes) -> list[memoryview]:
    """The compressed pixels. Every chunk must be there up to IEND; Pillow skips the CRC of the pixels."""
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


# Adam7: first row, row step, first column, column step of each pass.
_INTERLACED = (0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)


def _check_png_rows(image: Image.Image, data: bytes, pixels: list[memoryview]) -> None:
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


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """The turn that the EXIF orientation asks for (TIFF: Pillow has made it on loading)."""
    try:
        return _TURNS.get(image.getexif().get(0x0112, 0))
    except Exception:  # viewers ignore broken EXIF, and so do we: the pixels are sound
        return None


def _eight_bits(image: Image.Image, data: bytes, alpha: bool) -> Image.Image:
    """Any mode of Pillow as `L` or `RGB`, composited on white; with `alpha` as `RGBA` where some of it is transparent."""
    if image.mode[0] in "IF":
        return Image.fromarray(_levels(image))
    _mend_transparency(image, data)
    if image.has_transparency_data and alpha:
        return image.convert("RGBA")
    if image.has_transparency_data:
        gray = image.mode in ("1", "L", "LA", "La")
        image = image.convert("LA" if gray else "RGBA")
        canvas = Image.new("L" if gray else "RGB", image.size, (BACKGROUND,) * (1 if gray else 3))
        canvas.paste(image.convert(canvas.mode), mask=image.getchannel("A"))
        return canvas
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _mend_transparency(image: Image.Image, data: bytes) -> None:
    """Bring the transparent colour of a PNG to 8 bits, as Pillow did with the pixels but not with it."""
    key = image.info.get("transparency")
    depth = data[24] if image.format == "PNG" else 8
    if image.mode == "L" and isinstance(key, int) and depth < 8:
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)
    elif not isinstance(key, (int, tuple, bytes)):
        image.info.pop("transparency", None)  # a text chunk that is named like this


def _levels(image: Image.Image) -> np.ndarray:
    """uint8 [h, w] of a gray image of 16 or 32 bits, by the rules in `decode`."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    values = np.asarray(image)
    if image.mode == "I" and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow reads unsigned numbers as signed
    if image.mode.startswith("I;16"):
        levels = _table(4095 if tags.get(258) == (12,) else 65535)[values]
    elif image.mode == "I" and image.format == "PPM":  # scaled to 16 bits by Pillow
        levels = _table(65535)[values]
    else:
        levels = _stretched(values)
    if tags.get(262) == 0:  # white is zero; Pillow honours it up to 8 bits only
        levels = 255 - levels
    if isinstance(key := image.info.get("transparency"), int):
        levels[values == key] = BACKGROUND
    return levels


def _table(white: int) -> np.ndarray:
    """uint8 [65536]: value -> level, `white` and above -> 255."""
    values = np.minimum(np.arange(65536), white)
    return ((values * 255 + white // 2) // white).astype(np.uint8)


def _stretched(values: np.ndarray) -> np.ndarray:
    """uint8 [h, w] from the smallest to the largest value; floats that all lie within 0..1 from 0 to 1."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ImageError("damaged", "has pixels that are not finite numbers (NaN or infinity)")
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    levels = np.zeros(values.shape, np.uint8)
    step = max(1, 2**20 // values.shape[1])  # rows at a time: float64 of the whole would be 8 bytes a pixel
    for top in range(0, len(values) if high > low else 0, step):
        rows = values[top : top + step].astype(np.float64)
        levels[top : top + step] = np.rint((rows - low) * (255 / (high - low)))
    return levels


def _failure(error: Exception, name: str, data: bytes, limits: Limits) -> ImageError:
    """What a decoder raised, in our words."""
    if isinstance(error, Image.DecompressionBombError):
        count = re.search(r"\d+", str(error))
        return _too_many_pixels(count.group() if count else "the", limits)
    if isinstance(error, MemoryError):
        return ImageError("memory", f"{name}: not enough memory to decode it")
    reason = printable(" ".join(str(error).split()))[:200] or type(error).__name__
    if re.search(r"(?i)truncated|\bEOF\b|end of file", reason) or _ends_early(name, data):
        return ImageError("truncated", f"{name}: the file ends too early")
    if "cannot identify" in reason:  # Pillow's message shows the address of a buffer
        reason = "the header is damaged, or of a variant that Pillow does not read"
    return ImageError("damaged", f"{name}: cannot be decoded: {reason}")


def _ends_early(name: str, data: bytes) -> bool:
    """Does a file that could not be decoded look cut off? Only chooses the word for it."""
    if name == "JPEG" or data.startswith(b"\xff\x4f"):
        return b"\xff\xd9" not in data
    if name == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if name == "TIFF":
        return int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big") >= len(data)
    if name == "AVIF" or data.startswith(b"\0\0\0\x0cjP"):
        end = 0
        while end + 8 <= len(data):
            size = int.from_bytes(data[end : end + 4], "big")
            if size < 8:  # to the end of the file, or in 64 bits
                return False
            end += size
        return end != len(data)
    return False
