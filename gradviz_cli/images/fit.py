"""An image brought to the size of the model input, and a field laid back onto the image."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # a run with nothing to do does without Pillow
    from PIL import Image

PADDING = 128  # what fills the margins of `pad`: mid-gray, next to zero for models that expect -1..1
BAND = 2**16  # values that are worked on at a time: few enough to stay in a processor's cache
FEW = 2**20  # values of which one call of Pillow is quicker than bands
TAPS = 4  # samples between which a cubic convolution interpolates


@dataclass(frozen=True)
class Geometry:
    """The model input, as pictures see it: size, channels, how an image is fitted (`FITS`).

    `alpha` says that the fourth of four channels is that of RGBA; `channels_first` that the model has its channels before
    height and width, which settles what an array means that could be laid out either way.
    """

    height: int
    width: int
    channels: int = 3
    fit: str = "stretch"
    alpha: bool = False
    channels_first: bool = False

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.channels) < 1 or self.fit not in FITS:
            raise ValueError(f"{self} is no model input: sizes from 1, fit one of {FITS}")

    @property
    def mode(self) -> str | None:
        """Pillow's mode of a picture of so many channels; None where no picture has them."""
        return "RGBA" if self.alpha else _MODES.get(self.channels)


_MODES = {1: "L", 3: "RGB"}


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
        uint8 [h, w, channels], which are 1, 3, or 4 of RGBA.
    """
    from PIL.Image import Resampling

    seen, shown = spread(geometry, (image.height, image.width))
    part = image
    if (seen.height, seen.width) != (image.height, image.width):
        # cut first: given the box, `resize` would let the pixels around it in
        part = image.crop((seen.left, seen.top, seen.left + seen.width, seen.top + seen.height))
    if (seen.height, seen.width) != (shown.height, shown.width):
        part = part.resize((shown.width, shown.height), Resampling.BILINEAR)
    part = part.convert(geometry.mode)
    pixels = np.full((geometry.height, geometry.width, geometry.channels), PADDING, np.uint8)
    pixels[..., 3:] = 255
    pixels[shown.slices] = np.asarray(part).reshape(shown.height, shown.width, -1)
    return pixels


def as_rgb(image: np.ndarray, alpha: bool = False) -> np.ndarray:
    """uint8 [h, w, 3] that shows an image: a picture itself, of other planes [h, w, c] the mean of them in gray.

    Numbers other than pixels are shown from the smallest to the largest of what is shown.
    """
    planes = image[..., None] if image.ndim == 2 else image[..., :3] if alpha else image
    if planes.shape[2] not in _MODES:
        planes = planes.mean(axis=2, dtype=np.float32, keepdims=True)
    if image.dtype != np.uint8:
        low, high = float(planes.min()), float(planes.max())
        planes = (planes - low) * (255 / (high - low)) if high > low else np.full(planes.shape, PADDING)
    levels = planes if planes.dtype == np.uint8 else np.rint(planes).astype(np.uint8)
    return np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels


def unfit(field: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> np.ndarray:
    """Lay a field at model-input size back onto the upright image: `fit` undone.

    What `crop` cut off is 0; what `pad` added is dropped. An axis that grows is interpolated bicubically,
    one that shrinks is averaged; the result stays within the range of the field, so no negative value
    appears where there was none.

    Parameters
    ----------
    field : numpy.ndarray
        float32 [h, w] or [h, w, k], h and w those of `geometry`; float64 where float32 cannot hold its values.
    size : tuple of int
        Height and width of the image after `decode`.

    Returns
    -------
    numpy.ndarray
        [*size] or [*size, k], as `field`.
    """
    out = np.empty((*size, *field.shape[2:]), np.float64 if field.dtype == np.float64 else np.float32)
    at = 0
    for band in bands(field, geometry, size):
        out[at : at + len(band)] = band
        at += len(band)
    return out


def bands(field: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """What `unfit` gives, a few rows at a time from the top, so that it never lies in memory as a whole.

    Each band may be written to, and is lost when the next is asked for.
    """
    if field.dtype == np.float64:
        top = float(np.abs(field).max()) or 1.0
        for band in bands((field / top).astype(np.float32), geometry, size):
            yield band * np.float64(top)
        return
    if field.shape[:2] != (geometry.height, geometry.width):
        raise ValueError(f"field {field.shape} is not of the model input {geometry.height} x {geometry.width}")
    seen, shown = spread(geometry, size)
    planes = np.asarray(field, np.float32)[shown.slices].reshape(shown.height, shown.width, -1)
    yield from _blank(seen.top, size[1], field)
    for band in _laid(planes, seen.height, seen.width):
        yield _between(band, seen.left, size[1]).reshape(len(band), size[1], *field.shape[2:])
    yield from _blank(size[0] - seen.top - seen.height, size[1], field)


def is_tame(field: np.ndarray) -> bool:
    """Whether a field is finite, and stays so whatever interpolation adds to it."""
    return bool(np.abs(field).max() < np.finfo(np.float32).max / 2)  # a NaN is no less than anything


def _blank(height: int, width: int, field: np.ndarray) -> Iterator[np.ndarray]:
    """Rows that the model does not see."""
    most = max(1, BAND // width)
    for at in range(0, height, most):
        yield np.zeros((min(most, height - at), width, *field.shape[2:]), np.float32)


def _between(band: np.ndarray, left: int, width: int) -> np.ndarray:
    """Rows of what the model sees, [h, w, k], with what it does not see left and right of them."""
    if band.shape[1] == width:
        return band
    out = np.zeros((len(band), width, band.shape[2]), np.float32)
    out[:, left : left + band.shape[1]] = band
    return out


def _laid(planes: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    """float32 [h, w, k] -> bands of [height, width, k]; each plane as `_resampled` gives it."""
    count = planes.shape[2]
    if height <= len(planes) or height * width * count <= FEW or not is_tame(planes):
        whole = [_resampled(planes[..., k], height, width) for k in range(count)]
        yield np.stack(whole, axis=2) if count > 1 else whole[0][..., None]
        return
    wide = [np.asarray(_resized(_image_of(planes[..., k]), len(planes), width)) for k in range(count)]
    low, high = (
        np.tile(limits, width) if count > 1 else limits[0] for limits in (planes.min((0, 1)), planes.max((0, 1)))
    )
    for band in _heightened(wide[0] if count == 1 else np.stack(wide, axis=2).reshape(len(planes), -1), height):
        yield np.clip(band, low, high, out=band).reshape(len(band), width, count)


def _heightened(wide: np.ndarray, height: int) -> Iterator[np.ndarray]:
    """float32 [h, n] -> bands of float32 [height, n]: bicubic as Pillow has it, product by product and sum by sum."""
    first, weights = _cubic(len(wide), height)
    step = max(1, BAND // wide.shape[1])
    # One array for all bands: to clear new memory costs as much as what is done in it.
    found, (sums, products) = np.empty((step, wide.shape[1]), np.float32), np.empty((2, step, wide.shape[1]))
    row = functools.lru_cache(maxsize=TAPS)(lambda number: wide[number].astype(np.float64))
    for top in range(0, height, step):
        band, at = found[: height - top], 0
        for start, alike in groupby(first[top : top + len(band)]):
            count = len(list(alike))
            here, total, product = weights[top + at : top + at + count], sums[:count], products[:count]
            taps = range(max(0, -start), min(TAPS, len(wide) - start))  # what lies beyond the edges weighs nothing
            np.multiply(here[:, taps[0], None], row(start + taps[0]), out=total)
            for tap in taps[1:]:
                total += np.multiply(here[:, tap, None], row(start + tap), out=product)
            band[at : at + count] = total
            at += count
        yield band


def _cubic(before: int, after: int) -> tuple[list[int], np.ndarray]:
    """For each of `after` samples of an axis of `before` the first of the TAPS that it is made of, and their weights.

    Cubic convolution with a = -1/2 (Keys 1981, doi:10.1109/TASSP.1981.1163711, eq. 15). What lies beyond the edges has
    no weight, and the others add up to 1. In the order of Pillow's arithmetic, so that pixels are the same.
    """
    centre = (np.arange(after) + 0.5) * (before / after)
    first = np.floor(centre - 2 + 0.5).astype(int)
    taps = first + np.arange(TAPS)[:, None]
    away = np.abs(taps - centre + 0.5)
    near = (1.5 * away - 2.5) * away * away + 1
    far = (((away - 5) * away + 8) * away - 4) * -0.5
    weights = np.where(away < 1, near, np.where(away < 2, far, 0.0))
    weights[(taps < 0) | (taps >= before)] = 0
    return first.tolist(), (weights / weights.sum(axis=0)).T


def to_input(field: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A field [h, w] or [h, w, k] of another size, such as that of a layer, at the size of the model input; as `unfit`."""
    if field.shape[:2] == (geometry.height, geometry.width):
        return field
    planes = np.asarray(field, np.float32).reshape(*field.shape[:2], -1)
    large = [_resampled(planes[..., k], geometry.height, geometry.width) for k in range(planes.shape[2])]
    return np.stack(large, axis=2).reshape(geometry.height, geometry.width, *field.shape[2:])


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture, uint8 [h, w, 3], at another size (height, width): resampled as `unfit` does a field."""
    from PIL import Image

    if (
        size[0] <= pixels.shape[0] and size[1] <= pixels.shape[1]
    ):  # an average needs no more than bytes, and is quick so
        return np.asarray(_resized(Image.fromarray(pixels), *size))
    planes = [_resampled(pixels[..., k].astype(np.float32), *size) for k in range(pixels.shape[2])]
    return np.rint(np.stack(planes, axis=-1)).astype(np.uint8)


def _resampled(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [h, w] -> [height, width], within the range of what is there."""
    image = np.array(_resized(_image_of(plane), height, width))
    return np.clip(image, plane.min(), plane.max(), out=image)


def _image_of(plane: np.ndarray) -> Image.Image:
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(plane))


def _resized(image: Image.Image, height: int, width: int) -> Image.Image:
    """Each axis by the filter that suits its direction."""
    from PIL.Image import Resampling

    def filter_for(before: int, after: int) -> Resampling:
        return Resampling.BICUBIC if after > before else Resampling.BOX

    if width != image.width:
        image = image.resize((width, image.height), filter_for(image.width, width))
    if height != image.height:
        image = image.resize((width, height), filter_for(image.height, height))
    return image
