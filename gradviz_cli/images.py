"""From an image file to the model input, and from pixels to a file that is whole or absent.

Images are untrusted. Only regular files are opened, limits are checked before anything is decoded, the
format is told from the first bytes and must be one of `FORMATS`, and whatever a decoder raises becomes an
`ImageError`. A decoder that crashes, hangs or eats the memory is not caught here: the caller decodes in a
process that is watched.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, features

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.reading import Limits, _open_regular
from gradviz_cli.files.text import AnyPath, printable

BACKGROUND = 255  # what shines through transparent pixels: white, as on paper and in most viewers
PADDING = 128  # what fills the margins of `pad`: mid-gray, next to zero for models that expect -1..1
MAX_SIDE = 1_000_000  # pixels; resampling keeps a table of 40 bytes per pixel of a side
KEYWORD = b"gradviz"  # of the text chunk in our PNGs


@dataclass(frozen=True)
class Geometry:
    """The model input, as pictures see it: size, channels (1, 3 or 4), how an image is fitted (`FITS`)."""

    height: int
    width: int
    channels: int = 3
    fit: str = "stretch"

    def __post_init__(self):
        if self.height < 1 or self.width < 1 or self.channels not in _MODES or self.fit not in FITS:
            raise ValueError(f"{self} is no model input: sizes from 1, channels 1, 3 or 4, fit one of {FITS}")


# ---- recognising a format


class _Format(NamedTuple):
    magic: bytes  # regular expression for the first bytes
    plugin: str  # Pillow's module that reads it
    feature: str | None = None  # Pillow's name of a library that it may have been built without
# No format that starts another program (EPS), reaches for other files, or has no magic number (TGA).
_FORMATS = {
    "JPEG": _Format(rb"\xff\xd8\xff", "JpegImagePlugin", "jpg"),
    "PNG": _Format(rb"\x89PNG\r\n\x1a\n", "PngImagePlugin", "zlib"),
    "WEBP": _Format(rb"RIFF....WEBP", "WebPImagePlugin", "webp"),
    "GIF": _Format(rb"GIF8[79]a", "GifImagePlugin"),
    "BMP": _Format(rb"BM", "BmpImagePlugin"),
    "TIFF": _Format(rb"II[*+]\0|MM\0[*+]", "TiffImagePlugin"),
    "PPM": _Format(rb"P[1-6f]\s", "PpmImagePlugin"),
    "JPEG2000": _Format(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", "Jpeg2KImagePlugin", "jpg_2000"),
    "AVIF": _Format(rb"....ftyp.{0,64}?avi[fs]", "AvifImagePlugin", "avif"),
}
FORMATS = tuple(_FORMATS)
# What people put among images by mistake; named in the message, so that they see what it is.
_OTHERS = {
    "a PDF": rb"%PDF-",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "a ZIP archive": rb"PK\x03\x04",
    "gzip data": rb"\x1f\x8b",
    "HTML": rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html)",
    "SVG": rb"(\xef\xbb\xbf)?\s*<(svg|[?!].*<svg)",
    "a Photoshop file": rb"8BPS",
    "an icon": rb"\0\0[\1\2]\0",
    "HEIC or a film": rb"....ftyp",
}


def _recognise(data: bytes) -> str:
    """The key of `_FORMATS` that `data` begins like, its plugin imported."""
    for name, (magic, plugin, feature) in _FORMATS.items():
        if re.match(magic, data, re.DOTALL):
            if feature and not features.check(feature):
                raise ImageError("format", f"{name}: this Pillow cannot read it; install another build of it")
            importlib.import_module(f"PIL.{plugin}")  # only this one: `Image.open` would import all of them
            return name
    looks = [name for name, magic in _OTHERS.items() if re.match(magic, data[:1024], re.DOTALL)]
    what = f"looks like {looks[0]}" if looks else "no image begins like this"
    raise ImageError("format", f"{what}; accepted are {', '.join(FORMATS)}")


# ---- decoding


def decode(data: bytes, limits: Limits) -> Image.Image:
    """The first frame of an image: 8 bits, opaque, upright.

    * Transparent pixels are composited on white (`BACKGROUND`).
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
        Mode `L` or `RGB`.

    Raises
    ------
    ImageError
        `format` (none of `FORMATS`), `truncated`, `damaged`, `too-large` (more pixels than `limits` allows),
        `memory`.
    """
    return _guarded(data, limits)[0]


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


def _guarded(data: bytes, limits: Limits, least: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    with _pillow_settings(limits):
        name = _recognise(data)
        try:
            with _no_stderr() if name in ("TIFF", "AVIF") else nullcontext():
                return _decoded(name, data, limits, least)
        except ImageError:
            raise
        except Exception as error:  # Pillow and its plugins raise a dozen classes, SyntaxError among them
            raise _failure(error, name, data, limits) from error


def _decoded(name: str, data: bytes, limits: Limits, least: int | None) -> tuple[Image.Image, tuple[int, int]]:
    pixels = _check_png(data) if name == "PNG" else None
    image = Image.open(io.BytesIO(data), formats=[name])
    _check_size(image.size, limits)
    width, height = image.size
    drafted = least is not None and image.draft(None, (least, least)) is not None
    image.load()
    if pixels is not None:
        _check_png_rows(image, data, pixels)
    turn = _turn(image)  # asked after loading: some files say it behind the pixels
    image = _eight_bits(image, data)
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
        while part and wanted > 0:
            wanted -= len(inflate.decompress(part, 2**20))
            part = inflate.unconsumed_tail
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
_ON_ITS_SIDE = (Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """The turn that the EXIF orientation asks for (TIFF: Pillow has made it on loading)."""
    try:
        return _TURNS.get(image.getexif().get(0x0112))
    except Exception:  # viewers ignore broken EXIF, and so do we: the pixels are sound
        return None


def _eight_bits(image: Image.Image, data: bytes) -> Image.Image:
    """Any mode of Pillow as `L` or `RGB`, composited on white."""
    if image.mode[0] in "IF":
        return Image.fromarray(_levels(image))
    _mend_transparency(image, data)
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
    tags = image.tag_v2 if image.format == "TIFF" else {}
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


# ---- to the model input and back

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Box(NamedTuple):
    """A rectangle in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def _stretch(height: int, width: int, h: int, w: int) -> tuple[Box, Box]:
    return Box(0, 0, height, width), Box(0, 0, h, w)


def _crop(height: int, width: int, h: int, w: int) -> tuple[Box, Box]:
    """The largest centred part of the source that has the shape of the model input, in whole pixels."""
    seen_h = min(height, max(1, round(width * h / w)))
    seen_w = min(width, max(1, round(height * w / h)))
    return Box((height - seen_h) // 2, (width - seen_w) // 2, seen_h, seen_w), Box(0, 0, h, w)


def _pad(height: int, width: int, h: int, w: int) -> tuple[Box, Box]:
    """The whole source, as large as fits into the model input, centred."""
    scale = min(h / height, w / width)
    in_h, in_w = max(1, round(height * scale)), max(1, round(width * scale))
    return Box(0, 0, height, width), Box((h - in_h) // 2, (w - in_w) // 2, in_h, in_w)


_FITS = {"stretch": _stretch, "crop": _crop, "pad": _pad}
FITS = tuple(_FITS)


def spread(geometry: Geometry, size: tuple[int, int]) -> tuple[Box, Box]:
    """What the model sees of an upright image of `size` (height, width), and where in its input that lies."""
    return _FITS[geometry.fit](*size, geometry.height, geometry.width)


def fit(image: Image.Image, geometry: Geometry) -> np.ndarray:
    """An image as the model input, before `PREPROCESS`.

    Bilinear with Pillow's antialiasing; pixels whose number is right already are copied. `crop` takes the
    centre, `pad` fills the margins with `PADDING`.

    Returns
    -------
    numpy.ndarray
        uint8 [h, w, channels]; a fourth channel is 255.
    """
    seen, shown = spread(geometry, (image.height, image.width))
    part = image
    if (seen.height, seen.width) != (image.height, image.width):
        # cut first: given the box, `resize` would let the pixels around it in
        part = image.crop((seen.left, seen.top, seen.left + seen.width, seen.top + seen.height))
    if (seen.height, seen.width) != (shown.height, shown.width):
        part = part.resize((shown.width, shown.height), Image.Resampling.BILINEAR)
    part = part.convert(_MODES[geometry.channels])
    pixels = np.full((geometry.height, geometry.width, geometry.channels), PADDING, np.uint8)
    pixels[..., 3:] = 255
    pixels[shown.slices] = np.asarray(part).reshape(shown.height, shown.width, -1)
    return pixels


def unfit(field: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> np.ndarray:
    """Lay a field at model-input size back onto the upright image: `fit` undone.

    What `crop` cut off is 0; what `pad` added is dropped. An axis that grows is interpolated bicubically,
    one that shrinks is averaged; the result stays within the range of the field, so no negative value
    appears where there was none.

    Parameters
    ----------
    field : numpy.ndarray
        float32 [h, w] or [h, w, k], h and w those of `geometry`.
    size : tuple of int
        Height and width of the image after `decode`.

    Returns
    -------
    numpy.ndarray
        float32 [*size] or [*size, k].
    """
    if field.shape[:2] != (geometry.height, geometry.width):
        raise ValueError(
            f"field {field.shape} is not of the model input {geometry.height} x {geometry.width}"
        )
    seen, shown = spread(geometry, size)
    planes = np.asarray(field, np.float32)[shown.slices].reshape(shown.height, shown.width, -1)
    out = np.zeros((*size, planes.shape[2]), np.float32)
    for k in range(planes.shape[2]):
        out[(*seen.slices, k)] = _resampled(planes[..., k], seen.height, seen.width)
    return out.reshape(*size, *field.shape[2:])


def _resampled(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [h, w] -> [height, width], each axis by the filter that suits its direction."""
    image = Image.fromarray(np.ascontiguousarray(plane))
    if width != image.width:
        image = image.resize((width, image.height), _filter(image.width, width))
    if height != image.height:
        image = image.resize((width, height), _filter(image.height, height))
    return np.clip(np.asarray(image), plane.min(), plane.max())


def _filter(before: int, after: int) -> Image.Resampling:
    return Image.Resampling.BICUBIC if after > before else Image.Resampling.BOX


# ---- pixel ranges

# ImageNet statistics of the models that Caffe (BGR, 0..255) and PyTorch (RGB, 0..1) trained.
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_STD = np.array([0.229, 0.224, 0.225], np.float32)


def _colours(pixels: np.ndarray, option: str) -> np.ndarray:
    if pixels.shape[-1] != 3:
        raise UsageError(
            f"--preprocess {option} needs a model input of 3 channels, this one has {pixels.shape[-1]}",
            "use raw, unit or signed",
        )
    return pixels.astype(np.float32)


def _caffe(pixels: np.ndarray) -> np.ndarray:
    return _colours(pixels, "caffe")[..., ::-1] - _CAFFE_MEAN


def _torch(pixels: np.ndarray) -> np.ndarray:
    return (_colours(pixels, "torch") / np.float32(255) - _TORCH_MEAN) / _TORCH_STD


def _same(gradient: np.ndarray) -> np.ndarray:
    return gradient


def _reversed(gradient: np.ndarray) -> np.ndarray:
    return gradient[..., ::-1]


# Name -> (uint8 or float [n, h, w, c], RGB, 0..255) -> float32 of the same shape, as the network expects it.
PREPROCESS = {
    "raw": lambda pixels: pixels.astype(np.float32),
    "unit": lambda pixels: pixels.astype(np.float32) / np.float32(255),
    "signed": lambda pixels: pixels.astype(np.float32) / np.float32(127.5) - np.float32(1),
    "caffe": _caffe,
    "torch": _torch,
}
# Name -> gradient with respect to the preprocessed input -> the same numbers, channels in the image's order.
PREPROCESS_GRADIENT = {name: _reversed if name == "caffe" else _same for name in PREPROCESS}
# ---- PNG and npy, in memory

_PNG = b"\x89PNG\r\n\x1a\n"
_IEND = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_TEXT = 1 << 20


def encode_png(pixels: np.ndarray, palette: np.ndarray | None, text: str) -> bytes:
    """A PNG that carries `text` in a chunk named `gradviz`, ahead of the pixels.

    Written here and not by Pillow, which takes three times as long over a colour picture. Run-length
    matching is as small as full matching on noisy maps, and 2.5 times as fast. Same input, same bytes (with
    the same zlib).

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8 [h, w] (gray, or index into `palette`) or [h, w, 3] (RGB).
    palette : numpy.ndarray or None
        uint8 [256, 3].
    text : str
        Without NUL. A `tEXt` chunk where it is ASCII, else `iTXt`.
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
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)), _text_chunk(text)]
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
