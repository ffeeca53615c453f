"""What a Python caller has at hand -> images one at a time, and those that are no file -> pixels, as `decoders` of a file.

    a path, bytes, an open file, a Pillow image, an array, or an iterable of these -> Given -> Pixels

A Pillow image and an array were decoded by the caller already, so they are brought to size in this process.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.reading import Limits
from gradviz_cli.files.text import printable
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.images.fit import Geometry, as_rgb, fit
from gradviz_cli.process.protocol import NUMBERS, PICTURE, PIXELS

if TYPE_CHECKING:
    from PIL import Image

WANTED = "give a path, bytes, a Pillow image, an array [H, W], [H, W, C] or [N, H, W, C], or an iterable of these"
LEVELS = 255.0
ALMOST = 1e-3  # of a level: what a picture is off that was divided by 255 and is multiplied by it again
SMALL = 3.0  # numbers up to this are no levels of 0..255 but those of a range that networks are trained on
_COLOURS = (1, 3, 4)  # channels that a picture has


@dataclass(frozen=True, eq=False)
class Given:
    """One image as it was given: its place among all of them, what messages and files call it, and what it is: a path,
    a file's bytes, a Pillow image, or an array of two or three axes."""

    place: int
    name: str
    content: Any

    @property
    def path(self) -> str | os.PathLike | None:
        return self.content if isinstance(self.content, str | os.PathLike) else None


def each(images: object) -> Iterator[Given]:
    """The images in order, none taken from an iterable before its turn.

    Raises
    ------
    UsageError
        Something is no image, said with where it stands.
    """
    alone = _images(images)
    found = alone if alone is not None else _several(images)
    for place, content in enumerate(found):
        yield Given(place, _name(content, place), content)


def _several(images: object) -> Iterator[Any]:
    if isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise UsageError(f"images: {kind_of(images)} is no image", WANTED)
    for place, one in enumerate(images):
        found = _images(one)
        if found is None:
            raise UsageError(f"images: number {place} (from 0) is {kind_of(one)}, which is no image", WANTED)
        yield from found


def _images(one: Any) -> Iterable[Any] | None:
    """What is one image, or a batch of them, each by itself; None for anything else."""
    if isinstance(one, str | os.PathLike) or is_pillow(one):
        return [one]
    if isinstance(one, bytes | bytearray | memoryview):
        return [bytes(one)]
    if hasattr(one, "read"):  # before iterables: an open file is one of lines
        return [_read(one)]
    if not hasattr(one, "__array__"):
        return None
    array = np.asarray(one)
    if array.dtype.kind in "USO" and array.ndim:  # of paths
        return None
    if array.dtype.kind not in "biuf" or not 2 <= array.ndim <= 4:
        raise UsageError(f"images: an array of {array.dtype} and shape {list(array.shape)} is no image", WANTED)
    return array if array.ndim == 4 else [array]


def _read(file: Any) -> bytes:
    try:
        data = file.read()
    except UnicodeDecodeError:  # a file of text that finds none, as a picture holds none
        data = ""
    if not isinstance(data, bytes):
        raise UsageError("images: an open file gives text and no bytes", "open it with mode 'rb', or give its path")
    return data


def is_pillow(one: object) -> bool:
    """Whether it is an image of Pillow, which is not imported to find that out."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(one, pillow.Image)


def kind_of(one: object) -> str:
    name = type(one).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _name(content: Any, place: int) -> str:
    """What an image is called: a file by its path, others by their place."""
    named = content if isinstance(content, str | os.PathLike) else getattr(content, "filename", "")
    return printable(named) if isinstance(named, str | os.PathLike) and os.fspath(named) else f"image-{place}"


def fingerprint(content: Any) -> str:
    """SHA-256 of a file's bytes; of an image that is no file that of its pixels and their shape."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    array = np.ascontiguousarray(content)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def taken(
    content: Any, geometry: Geometry, limits: Limits, value_range: tuple[float, float] | None, as_they_are: bool
) -> Pixels:
    """A Pillow image or an array at the size of the model input, with the upright image itself.

    Parameters
    ----------
    value_range : (low, high), optional
        What is black and white in an array. Without it: uint8 and whole numbers of 0..255 are levels, and so are floats of
        that range; those of 0..1 are brought to it, which is said; all others go to the model as they are.
    as_they_are : bool
        Numbers that are no whole ones go to the model as they are (`--preprocess raw`), whatever their range.

    Raises
    ------
    ImageError
        `shape`, `damaged` (not finite), `range` (outside `value_range`), `too-large`.
    """
    if is_pillow(content):
        return _of_pillow(content, geometry, limits)
    array = np.asarray(content)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ImageError("damaged", "the array has pixels that are not finite numbers (NaN or infinity)")
    if array.size == 0:
        raise ImageError("shape", f"an array of shape {list(array.shape)} holds no pixel")
    if value_range is not None:
        return _of_levels(_scaled(array, *value_range), geometry, limits)
    if array.dtype == bool:
        return _of_levels(array * LEVELS, geometry, limits)
    if array.dtype == np.uint8 or (_are_levels(array, geometry) and not (as_they_are and array.dtype.kind == "f")):
        return _of_levels(array, geometry, limits)
    if _are_parts(array, geometry) and not as_they_are:
        found = _of_levels(array * LEVELS, geometry, limits)
        said = (
            "its numbers lie in 0..1 and are taken for a picture of that range; value_range=(0, 1) settles it, "
            "or preprocess='raw' gives them to the model as they are"
        )
        return found._replace(notes=(said, *found.notes))
    return _of_numbers(array, geometry, limits)


def _are_levels(array: np.ndarray, geometry: Geometry) -> bool:
    """Whether numbers are levels of a picture; 0 and 1 alone may be a plane that is on or off."""
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind in "iu":
        return low >= 0 and high <= LEVELS and high != 1
    return geometry.mode is not None and low >= 0 and SMALL < high <= LEVELS


def _are_parts(array: np.ndarray, geometry: Geometry) -> bool:
    """Whether they are a picture of 0..1."""
    return geometry.mode is not None and array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1


def _scaled(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers of low..high -> 0..255."""
    least, most = float(array.min()), float(array.max())
    slack = (high - low) * 1e-5
    if least < low - slack or most > high + slack:
        raise ImageError("range", f"holds numbers from {least:g} to {most:g}, and value_range is {low:g} to {high:g}")
    return np.clip((array.astype(np.float64) - low) * (LEVELS / (high - low)), 0, LEVELS)


def _of_pillow(image: Image.Image, geometry: Geometry, limits: Limits) -> Pixels:
    from gradviz_cli.images.arrays import check_picture
    from gradviz_cli.images.decode import upright

    check_picture(geometry)
    found = upright(image, limits, geometry.alpha)
    return Pixels(found.size, fit(found.image, geometry), np.asarray(found.image.convert("RGB")), PICTURE, found.notes)


def _of_levels(array: np.ndarray, geometry: Geometry, limits: Limits) -> Pixels:
    """Numbers of 0..255. A picture of another size than the model input is brought to whole levels first, as files are."""
    from PIL import Image

    image = _axes(array, geometry)
    whole = np.rint(image)
    exact = image.dtype == np.uint8 or bool((np.abs(image - whole) <= ALMOST).all())
    if geometry.mode is None:
        return _of_planes(whole.astype(np.uint8) if exact else image.astype(np.float32), geometry, limits)
    if not exact and image.shape == (geometry.height, geometry.width, geometry.channels):
        fitted = image.astype(np.float32)
        shown = as_rgb(whole.astype(np.uint8), geometry.alpha)
        return Pixels(image.shape[:2], fitted, shown, PICTURE)
    levels = np.ascontiguousarray(whole, np.uint8)
    return _of_pillow(Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels), geometry, limits)


def _of_planes(image: np.ndarray, geometry: Geometry, limits: Limits) -> Pixels:
    from gradviz_cli.images.arrays import fit_planes
    from gradviz_cli.images.decode import _check_size

    if image.shape[2] != geometry.channels:
        raise _misshapen(image, geometry)
    _check_size((image.shape[1], image.shape[0]), limits)
    held = PIXELS if image.dtype == np.uint8 else PICTURE
    return Pixels(image.shape[:2], fit_planes(image, geometry), as_rgb(image, geometry.alpha), held)


def _of_numbers(array: np.ndarray, geometry: Geometry, limits: Limits) -> Pixels:
    """Numbers that go to the model as they are, unless an option says otherwise (`Explainer.check_numbers`)."""
    with np.errstate(over="ignore"):
        image = _axes(array, geometry).astype(np.float32)
    if not np.isfinite(image).all():
        raise ImageError("damaged", "the array has numbers that are not finite in float32")
    return _of_planes(image, geometry, limits)._replace(held=NUMBERS)


def _axes(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    """[h, w, c] of [H, W], [H, W, C] or [C, H, W]. Where both can be meant that of the model's size counts, then the usual
    one, or the model's own."""
    able = {geometry.channels, *(_COLOURS if geometry.mode else ())}
    if array.ndim == 2:
        return array[..., None]
    readings = [array, np.moveaxis(array, 0, -1)]
    found = [one for one in readings if one.shape[2] in able]
    if not found:
        raise _misshapen(array, geometry)
    found = [one for one in found if one.shape[:2] == (geometry.height, geometry.width)] or found
    return found[-1 if geometry.channels_first and geometry.mode is None else 0]


def _misshapen(array: np.ndarray, geometry: Geometry) -> ImageError:
    channels = "1, 3 or 4" if geometry.mode and geometry.channels in _COLOURS else geometry.channels
    wanted = f"[H, W, C] with {channels} channels, [H, W], or a batch [N, H, W, C] of these"
    return ImageError("shape", f"is an array of shape {list(array.shape)}; give {wanted}")
