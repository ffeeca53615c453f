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
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageFile

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits
from gradviz_cli.files.text import printable
from gradviz_cli.images import bmp, jpeg, jpeg2000, levels, png, tiff
from gradviz_cli.images.formats import _recognise
from gradviz_cli.images.levels import Notes
from gradviz_cli.images.tiff import Tag

# Without a handler Python prints what Pillow logs; this one leaves it to whoever configures logging.
logging.getLogger("PIL").addHandler(logging.NullHandler())

BACKGROUND = 255  # what shines through transparent pixels: white, as on paper and in most viewers
MAX_SIDE = 1_000_000  # pixels; resampling keeps a table of 40 bytes per pixel of a side
MOST_OF_A_PHOTO = 400  # millions of pixels; whoever has more knows it
LEAST_SEEN = 0.9  # of the rows of a JPEG that ends early; what is lost below them is no more than a crop takes
FEW_PIXELS = 256  # so small a picture may well be of one colour
# Opened with Pillow: formats of which Pillow alone gets some wrong, and those of which nothing but its image is asked.
_BETTER_AS_FILES = ("TIFF", "JPEG2000", "BMP", "GIF", "PPM", "PNG")
_KNOWN_BY_ITSELF = ("JPEG", "AVIF")


class Picture(NamedTuple):
    """An upright image, the height and width that it has in full, and what is to be said of it, a line each."""

    image: Image.Image
    size: tuple[int, int]
    notes: Notes


# ---- decoding


def decode(data: bytes, limits: Limits, alpha: bool = False) -> Image.Image:
    """The first frame of an image: 8 bits, opaque, upright.

    * Transparent pixels are composited on white (`BACKGROUND`); with `alpha` they stay as they are, for a model that
      takes RGBA. An image that is transparent everywhere is shown in its colours.
    * The EXIF orientation is applied; a broken one is ignored, as viewers do. Where EXIF has none, that of XMP
      (`tiff:Orientation`) counts, as for Windows, macOS and Pillow's `exif_transpose`; browsers ask EXIF alone.
    * More than 8 bits are scaled, never clipped. 16-bit gray: / 257 (12-bit TIFF: / 4095 * 255). 16-bit colour: the high
      byte. Where a file says that fewer of 16 bits are in use (sBIT of PNG, MaxSampleValue of TIFF), that is white.
      32-bit and signed integers: the smallest value of the image becomes 0, the largest 255, as no file says what white
      is. Floats: * 255 where all lie within 0..1, else like integers; infinity is an error.
    * Of more than 8 bits in gray, and of what is stretched, pixels without data (the value of GDAL's tag, NaN, or -9999 and
      the like far away from all others) are left out of that range and become mid-gray.
    * Of a TIFF of several pages the first counts that is no small copy and no mask; of its bands three.
    * A JPEG without its end is shown where at least `LEAST_SEEN` of its rows are there.
    * Colour profiles are ignored: the pipelines that networks are trained with ignore them, and the result
      must not depend on the colour management of a machine. CMYK goes by Pillow's plain formula, in a JPEG
      turned round where Adobe's mark says so; LAB through sRGB.
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
    return picture(data, limits, alpha=alpha).image


def picture(data: bytes, limits: Limits, least: int | None = None, alpha: bool = False) -> Picture:
    """As `decode`, with what is to be said of the image.

    With `least` a JPEG may come at a half, a quarter or an eighth of its size, no side below that many pixels. libjpeg
    then leaves out the fine detail as it decodes, which is several times quicker for a photograph; resized to the model
    input the pixels are not quite those of `decode`.
    """
    with _pillow_settings(limits):
        name = _recognise(data)
        try:
            with _no_stderr() if name in ("TIFF", "AVIF", "HEIF") else nullcontext():
                return _decoded(name, data, limits, least, alpha)
        except ImageError:
            raise
        except Exception as error:  # Pillow and its plugins raise a dozen classes, SyntaxError among them
            failure = _failure(error, name, data, limits)
            cut = _cut_short(data, limits, least) if (name, failure.kind) == ("JPEG", "truncated") else None
            if cut is None:
                raise failure from error
            return cut


def upright(image: Image.Image, limits: Limits, alpha: bool = False) -> Picture:
    """An image that Pillow has opened or made already, as `picture` of a file. What its file alone says (that fewer bits are
    in use, which page of a TIFF is the photo) is known of it as long as nobody has loaded it."""
    _check_size(image.size, limits)
    data = _unread(image)
    if data is not None:
        return picture(data, limits, alpha=alpha)
    try:
        ours = image.copy()
        ours.format = image.format if image.format in _KNOWN_BY_ITSELF else None
        return _finished(_Loaded(ours, (image.height, image.width), False), b"", alpha=alpha)
    except ImageError:
        raise
    except Exception as error:  # the file behind it is closed, cut short, or damaged
        raise ImageError("damaged", f"Pillow cannot read it: {printable(str(error))[:200]}") from error


def _unread(image: Image.Image) -> bytes | None:
    """The file of an image that was opened and not loaded yet, so that nothing can have been done to it, where that says
    more than the image; it is loaded then, which closes the file, as if it had been used."""
    if image.format not in _BETTER_AS_FILES or not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return None
    file = image.fp
    if file is None or image.tell():  # another frame was asked for
        return None
    try:
        at = file.tell()
        file.seek(0)
        data = file.read(32)
        data += file.read() if image.format != "PNG" or png.depth(data) != 8 else b""
        file.seek(at)
    except (OSError, ValueError):  # closed, or a stream
        return None
    with suppress(Exception):  # said when the file is read
        image.load()
    return data if len(data) > 32 else None


def _decoded(name: str, data: bytes, limits: Limits, least: int | None, alpha: bool) -> Picture:
    page = None
    if name == "JPEG":  # of a download that broke off; decoded as pixels they would make up the rows that are missing
        data = data.rstrip(b"\0")
    if name == "TIFF" and (page := tiff.photo(inside := tiff.pages(data))):
        data = data if page is inside[0] else tiff.starting_at(data, page)
    if page and _needs_samples(page):
        return _from_samples(data, page, limits, alpha)
    with _by_libtiff() if page and _loses_planes(page) else nullcontext():
        loaded = _loaded(name, data, limits, least)
    found = _finished(loaded, data, page, alpha)
    return found if name != "JPEG" or jpeg.has_end(data) else _ending_early(found, _ALL_THERE)


class _Loaded(NamedTuple):
    """As it lies in the file: an image of any mode, its size in full, whether that is another."""

    image: Image.Image
    size: tuple[int, int]
    drafted: bool


def _loaded(name: str, data: bytes, limits: Limits, least: int | None) -> _Loaded:
    pixels = png.check_chunks(data) if name == "PNG" else None
    image: Image.Image = Image.open(io.BytesIO(_readable(name, data)), formats=[name])
    _check_size(image.size, limits)
    width, height = image.size
    drafted = least is not None and image.draft(None, (least, least)) is not None
    painted = _painted(image)
    image.load()
    if pixels is not None:
        png.check_rows(image, data, pixels)
    if name == "JPEG2000":
        image = jpeg2000.mended(image, data)
    if painted:
        image = _on_a_clear_screen(image, painted)
    return _Loaded(image, (height, width), drafted)


def _painted(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The part of the screen that the first frame of a GIF covers, before it is loaded; None where that is all of it."""
    if not isinstance(image, ImageFile.ImageFile) or image.format != "GIF" or not image.tile:
        return None
    found = image.tile[0].extents
    return found if found != (0, 0, *image.size) else None


def _on_a_clear_screen(image: Image.Image, painted: tuple[int, int, int, int]) -> Image.Image:
    """A GIF whose first frame leaves some of the screen free, as browsers show it; Pillow has the first colour there."""
    screen = Image.new("RGBA", image.size)
    screen.paste(image.convert("RGBA").crop(painted), painted[:2])
    return screen


def _readable(name: str, data: bytes) -> bytes:
    """The file without what Pillow takes amiss and no pixel hangs on."""
    if name == "PNG":
        return png.without_words(data)
    return bmp.with_its_palette(data) if name == "BMP" else data


def _finished(loaded: _Loaded, data: bytes, page: tiff.Page | None = None, alpha: bool = False) -> Picture:
    """Upright and of 8 bits."""
    turn = _turn(loaded.image)  # asked after loading: some files say it behind the pixels
    image, notes = _eight_bits(loaded.image, data, page, alpha)
    image = image if turn is None else image.transpose(turn)
    if _is_flat(image):
        notes = (*notes, "all its pixels have one value: is it the picture that is meant? (--exclude leaves it out)")
    if not loaded.drafted:
        return Picture(image, (image.height, image.width), notes)
    return Picture(image, loaded.size[::-1] if turn in _ON_ITS_SIDE else loaded.size, notes)


def _is_flat(image: Image.Image) -> bool:
    """Whether it is all of one colour; a few pixels mostly tell that it is not."""
    if image.width * image.height < FEW_PIXELS:
        return False
    return _one_colour(image.resize((16, 16), Image.Resampling.NEAREST)) and _one_colour(image)


def _one_colour(image: Image.Image) -> bool:
    return bool((np.ptp(np.array(image.getextrema()).reshape(-1, 2), axis=1) == 0).all())


def _needs_samples(page: tiff.Page) -> bool:
    """Whether Pillow has no mode for a TIFF of gray, RGB or inks, or one that loses what it says.

    Pillow gets these wrong without a word: planes of 16 bits one after the other, and compressed numbers of more than 8
    bits, most significant byte first. It refuses the most of what is large (BigTIFF) in that order.
    """
    count, bits, kind, colours = page.samples, page.first(Tag.BITS, 1), page.first(Tag.FORMAT, 1), page.colours
    packed_up = page.first(Tag.COMPRESSION, 1)
    if packed_up in tiff.JPEGS or not bits or bits % 8 or colours not in (*tiff.GRAY, tiff.RGB, tiff.INKS):
        return False
    signed, swapped = kind in (tiff.SIGNED, tiff.FLOAT), page.order == ">"
    if colours == tiff.INKS:
        more = count > 4 and (bits == 16 or page.is_apart or page.transparency is not None)
        return bits <= 16 and not signed and count >= 4 and page.are_four_inks and (more or (swapped and page.big))
    if swapped and page.big:
        return count > 2 or colours != tiff.RGB
    if colours == tiff.RGB:
        unread = count == 4 and (page.is_associated or page.transparency is None)
        fewer = bits == 16 and count == 3 and bool(page.white)
        apart = fewer or (page.is_apart and (bits == 16 or unread))
        return count > 4 or (count > 2 and (signed or bits > 16 or apart))
    negative = colours == 0 and kind != tiff.FLOAT and (bits == 32 or signed)
    alone = bits == 64 or negative or (signed and bits == (16 if kind == tiff.FLOAT else 8))
    odd_order = swapped and bits > 8 and (packed_up != 1 or colours == 0 or (bits == 32 and not signed))
    pair = count == 2 and (signed or bits > 8 or colours == 0 or page.is_apart)
    return alone or odd_order or count > 2 or pair


def _loses_planes(page: tiff.Page) -> bool:
    """Whether Pillow misreads a TIFF that is not compressed, and libtiff does not: colours in which several pixels share
    their hue, and inks of 16 bits one after the other."""
    if page.first(Tag.COMPRESSION, 1) != 1:
        return False
    return page.colours == tiff.YCBCR or (page.colours == tiff.INKS and page.is_apart and page.first(Tag.BITS, 1) == 16)


@contextmanager
def _by_libtiff() -> Iterator[None]:
    """Pillow reads what is not compressed itself, unless it is told so; put back after."""
    from PIL import TiffImagePlugin

    before, TiffImagePlugin.READ_LIBTIFF = TiffImagePlugin.READ_LIBTIFF, True
    try:
        yield
    finally:
        TiffImagePlugin.READ_LIBTIFF = before


def _from_samples(data: bytes, page: tiff.Page, limits: Limits, alpha: bool) -> Picture:
    """A TIFF that Pillow has no mode for, from its bands."""
    _check_size(page.size[::-1], limits)
    Image.MAX_IMAGE_PIXELS = None  # the bytes of all bands are taken for pixels; put back by `_pillow_settings`
    values = tiff.samples(data, page, tiff.MOST_BYTES * limits.max_pixels)
    shown, notes = levels.of_bands(values, page)
    image, turn = Image.fromarray(shown), _TURNS.get(page.first(Tag.ORIENTATION))
    found = _finished(_Loaded(image if turn is None else image.transpose(turn), page.size, False), data, alpha=alpha)
    return found._replace(notes=(*notes, *found.notes))


# ---- a JPEG that ends early


def _cut_short(data: bytes, limits: Limits, least: int | None) -> Picture | None:
    """A JPEG that ends before its end mark, as viewers show it; None where too many of its rows are missing.

    Where it breaks off is seen by what two different fillings change. What lies below is gray, as libjpeg leaves it.
    """
    if not jpeg.has_every_scan(data):
        return None
    try:
        one, other = (_loaded("JPEG", jpeg.ended(data, filling), limits, least) for filling in (b"\0", b"\x55"))
    except Exception:  # the first error counts
        return None
    differs = (np.asarray(one.image) != np.asarray(other.image)).reshape(one.image.height, -1).any(1)
    rows = int(differs.argmax()) if differs.any() else len(differs)
    if rows < LEAST_SEEN * len(differs):
        return None
    height, missing = one.size[0], (len(differs) - rows) * one.size[0] // len(differs)
    lost = f"of the last {missing} of its {height} rows some is missing, and gray" if missing else _ALL_THERE
    return _ending_early(_finished(one, data), lost)


_ALL_THERE = "it lacks its end mark, but all its rows are there"


def _ending_early(found: Picture, lost: str) -> Picture:
    return found._replace(notes=(f"the JPEG ends too early: {lost}", *found.notes))


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
        raise _too_many_pixels(f"{width} x {height}", width * height, limits)
    if max(size) > MAX_SIDE:
        raise ImageError("too-large", f"{width} x {height} pixels: no side may be longer than {MAX_SIDE}")


def _too_many_pixels(said: str, count: int, limits: Limits) -> ImageError:
    limit, millions = limits.max_pixels, -(-count // 10**6)
    remedy = f"--max-pixels {millions}M lets it in" if millions <= MOST_OF_A_PHOTO else "see --max-pixels"
    return ImageError("too-large", f"{said} pixels are more than the limit of {limit}; {remedy}")


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
    """The turn that the EXIF orientation asks for (TIFF: Pillow has made it on loading). An AVIF says it otherwise, which
    Pillow puts in place of what its EXIF says, but not of what its XMP does."""
    if image.format == "AVIF":
        image.info.pop("xmp", None)
    try:
        return _TURNS.get(image.getexif().get(0x0112, 0))
    except Exception:  # viewers ignore broken EXIF, and so do we: the pixels are sound
        return None


def _eight_bits(image: Image.Image, data: bytes, page: tiff.Page | None, alpha: bool) -> tuple[Image.Image, Notes]:
    """Any mode of Pillow as `L` or `RGB`, composited on white; with `alpha` as `RGBA` where some of it is transparent."""
    if image.mode[0] in "IF":
        gray, notes = levels.gray_levels(image, _white(image, data, page))
        key = image.info.get("transparency") if alpha else None
        shown = Image.fromarray(gray)
        return (_with_clear(shown, np.asarray(image)[..., None], (key,)) if isinstance(key, int) else shown), notes
    image, notes = _brightened(_positive(image, page), data, page)
    image = _with_right_transparency(image, data)
    _mend_palette(image)
    if image.has_transparency_data:
        shown, more = _opaque(image, alpha)
        return shown, (*notes, *more)
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return (image if image.mode == mode else image.convert(mode)), notes


def _opaque(image: Image.Image, alpha: bool) -> tuple[Image.Image, Notes]:
    """On white, unless it would vanish altogether."""
    gray, form = image.mode in ("1", "L", "LA", "La"), image.format
    image = image.convert("LA" if gray else "RGBA")
    mode, mask = ("L" if gray else "RGB"), image.getchannel("A")
    plain = image.convert(mode)
    if not mask.getextrema()[1] and (form == "BMP" or np.any(plain.getextrema())):
        return plain, ("it is transparent everywhere, which cannot be meant: its colours are taken",)
    if alpha:
        return image.convert("RGBA"), ()
    canvas = Image.new(mode, image.size, (BACKGROUND,) * (1 if gray else 3))
    canvas.paste(plain, mask=mask)
    return canvas, ()


def _white(image: Image.Image, data: bytes, page: tiff.Page | None) -> int:
    """The value that is white in a gray image of 16 bits, where its file says that they are not all in use."""
    if not image.mode.startswith("I;16"):
        return 65535
    if page and page.white:
        return page.white if np.asarray(image).max() <= page.white else 65535
    return levels.white_of(np.asarray(image), png.significant_bits(data)) if image.format == "PNG" else 65535


def _brightened(image: Image.Image, data: bytes, page: tiff.Page | None) -> tuple[Image.Image, Notes]:
    """Colours of 16 bits, of which Pillow keeps the upper byte: a PNG that says it uses the lower ones only."""
    wide = png.depth(data) == 16 if image.format == "PNG" else page is not None and page.first(Tag.BITS) == 16
    if not wide or image.mode not in ("RGB", "RGBA"):
        return image, ()
    bits = png.significant_bits(data) if image.format == "PNG" else 16
    most = max(high for _, high in np.array(image.getextrema()).tolist())
    if bits < 16 and most < 2 ** max(bits - 8, 0) and (values := png.wide_colours(data, image)) is not None:
        shown, notes = levels.as_levels(values, levels.table(levels.white_of(values, bits)), None)
        return Image.fromarray(shown), notes
    if most < levels.HANDFUL and most:
        return image, (levels.POOR,)
    return image, ()


def _positive(image: Image.Image, page: tiff.Page | None) -> Image.Image:
    """What Pillow turns round without being told to: inks of a JPEG, as Adobe's programs write them, which leave a mark (for
    TensorFlow too it is the mark that counts); and grays of a TIFF that does not say what they stand for (but a fax is ink
    on paper)."""
    unmarked = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    untold = page is not None and Tag.PHOTOMETRIC not in page.tags and page.first(Tag.COMPRESSION, 1) not in tiff.FAXES
    if unmarked or (untold and image.mode in ("1", "L")):
        return ImageChops.invert(image)
    return image


def _with_right_transparency(image: Image.Image, data: bytes) -> Image.Image:
    """The transparent colour of a PNG brought to 8 bits, as Pillow did with the pixels but not with it."""
    key = image.info.get("transparency")
    depth = png.depth(data) if image.format == "PNG" else 8
    if image.mode == "L" and isinstance(key, int) and depth < 8:
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and depth == 16:
        return _with_clear(image, png.wide_colours(data, image), key)
    elif not isinstance(key, (int, tuple, bytes)):
        image.info.pop("transparency", None)  # a text chunk that is named like this
    return image


def _with_clear(image: Image.Image, values: np.ndarray | None, key: tuple[int, ...]) -> Image.Image:
    """RGBA that is transparent where all bits of `values`, [h, w, c], are those of `key`; without them where the upper 8 are."""
    if values is None:
        image.info["transparency"] = tuple(value >> 8 for value in key)
        return image
    opacity = np.where((values == key).all(2), np.uint8(0), np.uint8(255))
    image = image.convert("RGB")
    image.info.pop("transparency", None)
    image.putalpha(Image.fromarray(opacity))
    return image


def _mend_palette(image: Image.Image) -> None:
    """Colours of a TIFF that were written as 8 bits where 16 are asked for, of which Pillow keeps the upper ones: black."""
    if image.format != "TIFF" or image.mode != "P":
        return
    colours = image.tag_v2.get(Tag.COLOURS, ())  # type: ignore[attr-defined]
    if colours and max(colours) < 256:
        image.putpalette(bytes(colours), "RGB;L")


def _failure(error: Exception, name: str, data: bytes, limits: Limits) -> ImageError:
    """What a decoder raised, in our words."""
    if isinstance(error, Image.DecompressionBombError):
        found = re.search(r"\d+", str(error))
        count = int(found.group()) if found else limits.max_pixels + 1
        return _too_many_pixels(str(count), count, limits)
    if isinstance(error, MemoryError):
        return ImageError("memory", f"{name}: not enough memory to decode it")
    reason = printable(" ".join(str(error).split()))[:200] or type(error).__name__
    if re.search(r"(?i)truncated|\bEOF\b|end of file", reason) or _ends_early(name, data):
        return ImageError("truncated", f"{name}: the file ends too early")
    if "cannot identify" in reason:  # Pillow's message shows the address of a buffer
        return _unknown(name, data)
    page = next(iter(tiff.pages(data)), None) if name == "TIFF" else None
    if page and page.first(Tag.COMPRESSION, 1) not in tiff.COMMON and reason.startswith("decoder error"):
        return tiff.not_read(page)
    if re.search(r"(?i)\bunsupported\b", reason):
        return ImageError("format", f"a {name} of a variant that is not read ({reason}); save it as PNG")
    return ImageError("damaged", f"{name}: cannot be decoded: {reason}")


def _unknown(name: str, data: bytes) -> ImageError:
    """What Pillow does not take for an image of a format that it has."""
    page = next(iter(tiff.pages(data)), None) if name == "TIFF" else None
    if page and min(page.size) > 0 and all(page.tags.values()):
        return tiff.not_read(page)
    return ImageError("damaged", f"{name}: the header is damaged, or of a variant that Pillow does not read")


def _ends_early(name: str, data: bytes) -> bool:
    """Does a file that could not be decoded look cut off? Only chooses the word for it."""
    if name == "JPEG" or data.startswith(b"\xff\x4f"):
        return b"\xff\xd9" not in data
    if name == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if name == "TIFF":
        start = data[8:16] if b"+" in data[2:4] else data[4:8]
        return int.from_bytes(start, "little" if data[:1] == b"I" else "big") >= len(data)
    if name in ("AVIF", "HEIF") or data.startswith(b"\0\0\0\x0cjP"):
        end = 0
        while end + 8 <= len(data):
            size = int.from_bytes(data[end : end + 4], "big")
            if size < 8:  # to the end of the file, or in 64 bits
                return False
            end += size
        return end != len(data)
    return False
