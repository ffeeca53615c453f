"""Files of numbers as images: .npy, .npz, and TIFFs of as many bands or pages as the model has channels -> planes
[h, w, c] at the size of the model input.

They are as untrusted as images and are read in the same process: the header is bounded, nothing is unpickled, and sizes
are checked before memory is taken.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits
from gradviz_cli.files.text import printable
from gradviz_cli.images import tiff
from gradviz_cli.images.decode import _check_size
from gradviz_cli.images.fit import PADDING, Geometry, fit, spread
from gradviz_cli.images.formats import array_form
from gradviz_cli.images.tiff import Tag
from gradviz_cli.process.protocol import NUMBERS, PIXELS

Array = np.ndarray

# An honest header is below a hundred bytes, and Python reads it.
MOST_HEADER = 10_000
MOST_AXES = 5
# Version of the format -> what reads its header; those after 2.0 only add names of fields, which no plain numbers have.
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Numbers(NamedTuple):
    """A file of numbers: what they are (PIXELS or NUMBERS), the planes [h, w, c], and these as the model input."""

    held: str
    planes: Array
    fitted: Array


def read_array(data: bytes, limits: Limits, geometry: Geometry) -> Numbers | None:
    """A file's numbers as the model input: uint8 of pixels, float32 of others; None for a file of another kind.

    Raises
    ------
    ImageError
        `format` (no numbers, or several arrays), `truncated`, `damaged`, `too-large`, `shape`.
    """
    form = array_form(data)
    if form is not None:
        array = _array(_member(data, limits) if form == "NPZ" else data)
    elif geometry.mode is None and data[:2] in (b"II", b"MM") and (found := tiff.pages(data)):
        array = _bands(data, found, limits, geometry)
    else:
        return None
    picture = as_picture(array, limits, geometry)
    if picture is not None:
        return Numbers(PIXELS, np.atleast_3d(np.asarray(picture)), fit(picture, geometry))
    image = planes(array, limits, geometry)
    return Numbers(PIXELS if image.dtype == np.uint8 else NUMBERS, image, fit_planes(image, geometry))


def check_picture(geometry: Geometry) -> None:
    """Refuse a picture where the model takes channels that no picture has; nothing is made up for them."""
    if geometry.mode is None:
        alpha = "; if it was trained on RGBA pictures, give --channel-order rgba" if geometry.channels == 4 else ""
        raise ImageError("shape", f"is a picture; {_wanted(geometry)}{alpha}")


def _bands(data: bytes, found: list[tiff.Page], limits: Limits, geometry: Geometry) -> Array:
    """The bands of a TIFF's picture, or its pages of one band each, where they are as many as the model's channels."""
    page = tiff.photo(found)
    if page is None or page.samples == geometry.channels:
        pages = [page or found[0]]
    else:
        pages = [one for one in found if one.is_picture and one.samples == 1 and one.size == page.size]
    height, width = pages[0].size if pages else (0, 0)
    if sum(one.samples for one in pages) != geometry.channels:
        bands = f"{page.samples if page else 0} band(s) in {len(found)} page(s)"
        raise ImageError("shape", f"is a TIFF of {bands}; {_wanted(geometry)}, or a TIFF of {geometry.channels} bands")
    if any(one.first(Tag.ORIENTATION, 1) > 1 for one in pages):
        raise ImageError("format", "is a TIFF that has to be turned, and not of pixels; write it upright")
    _check_size((width, height), limits)
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # the bytes of all bands are taken for pixels
    try:
        most = max(tiff.MOST_BYTES * limits.max_pixels // len(pages), 1)
        return np.concatenate([tiff.samples(data, one, most) for one in pages], axis=2)
    except ImageError:
        raise
    except Exception as error:  # of Pillow, which undoes the compression
        raise ImageError("damaged", f"TIFF: cannot be decoded: {printable(str(error))[:200]}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _member(data: bytes, limits: Limits) -> bytes:
    """The only array in an archive of them."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [one.filename for one in archive.infolist()]
            if len(names) != 1:
                some = ", ".join(printable(name.removesuffix(".npy")) for name in names[:4])
                raise ImageError("format", f"NPZ: holds {len(names)} arrays ({some}); save the one that is the image")
            with archive.open(names[0]) as member:
                found = member.read(limits.max_file_size + 1)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ImageError("damaged", f"NPZ: cannot be unpacked: {printable(str(error))[:200]}") from error
    if len(found) > limits.max_file_size:
        raise ImageError("too-large", f"NPZ: unpacked it is larger than {limits.max_file_size}; see --max-file-size")
    return found


def _array(data: bytes) -> Array:
    file = io.BytesIO(data)
    try:
        shape, fortran, dtype = _HEADERS[npy.read_magic(file)](file, MOST_HEADER)
        count = math.prod(shape)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, OverflowError, MemoryError) as error:
        raise ImageError("damaged", "NPY: the header is damaged, or not one of plain numbers") from error
    if dtype.kind not in "biuf":
        raise ImageError(
            "format", f"NPY: holds {printable(str(dtype))[:40]}; save real numbers, nothing else is loaded"
        )
    if len(shape) > MOST_AXES or any(size < 1 for size in shape):
        raise ImageError("format", f"NPY: an array of shape {_text(shape[:9])} is no image")
    if count * dtype.itemsize > len(data) - file.tell():
        raise ImageError("truncated", f"NPY: the file ends before the last of {count} numbers")
    return np.frombuffer(data, dtype, count, file.tell()).reshape(shape, order="F" if fortran else "C")


def are_pixels(array: Array) -> bool:
    """Whether numbers are levels of 0..255: whole ones that lie there; 0 and 1 alone are planes that are on or off."""
    if array.dtype.kind not in "iu":
        return False
    high = int(array.max())
    return high <= 255 and high != 1 and int(array.min()) >= 0


def as_picture(array: Array, limits: Limits, geometry: Geometry) -> Image.Image | None:
    """A gray or RGB picture that was saved as numbers, for a model of such pictures; None for anything else."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    gray, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] == 3
    if geometry.channels not in (1, 3) or not (gray or colour) or not are_pixels(array):
        return None
    _check_size((array.shape[1], array.shape[0]), limits)
    return Image.fromarray(array.astype(np.uint8))


def planes(array: Array, limits: Limits, geometry: Geometry) -> Array:
    """[h, w, c] of what was saved as [H, W, C], [C, H, W], either with a batch of one, or [H, W] for a single plane.

    Where both readings have as many planes as the model takes, that of the model's size counts, then the model's own.

    Returns
    -------
    uint8 of pixels (`are_pixels`), float32 of other numbers.

    Raises
    ------
    ImageError
        `shape`: it has other axes than the model takes.
    """
    image = array[0] if array.ndim == 4 and len(array) == 1 else array
    image = image[..., None] if image.ndim == 2 else image
    readings = [image, np.moveaxis(image, 0, -1)] if image.ndim == 3 else []
    found = [one for one in readings if one.shape[2] == geometry.channels]
    size = geometry.height, geometry.width
    found = [one for one in found if one.shape[:2] == size] or found
    if not found:
        raise ImageError("shape", f"holds an array of shape {_text(array.shape)}; {_wanted(geometry)}")
    chosen = found[-1 if geometry.channels_first else 0]
    _check_size((chosen.shape[1], chosen.shape[0]), limits)
    if are_pixels(array):
        return chosen.astype(np.uint8)
    with np.errstate(over="ignore"):
        numbers = chosen.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ImageError("damaged", "has numbers that are not finite in float32 (NaN or infinity)")
    return numbers


def _wanted(geometry: Geometry) -> str:
    """What to give a model, where a file does not fit it."""
    shape = geometry.height, geometry.width, geometry.channels
    return f"the model takes {geometry.channels} channels: give a .npy file of shape {_text(shape)}"


def fit_planes(image: Array, geometry: Geometry) -> Array:
    """As `fit.fit` for planes [h, w, c] of uint8 or float32, each by itself; `pad` fills in gray, or zeros."""
    seen, shown = spread(geometry, (image.shape[0], image.shape[1]))
    part = image[seen.slices]
    if (seen.height, seen.width) != (shown.height, shown.width):
        part = np.stack([_resized(part[..., k], shown.height, shown.width) for k in range(part.shape[2])], axis=-1)
    margin = PADDING if image.dtype == np.uint8 else 0
    out = np.full((geometry.height, geometry.width, geometry.channels), margin, image.dtype)
    out[shown.slices] = part
    return out


def _resized(plane: Array, height: int, width: int) -> Array:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((width, height), Image.Resampling.BILINEAR))


def _text(shape: tuple[int, ...]) -> str:
    return str(list(shape))
