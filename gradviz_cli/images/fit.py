"""An image brought to the size of the model input, and a field laid back onto the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradviz_cli.images.enlarge import BAND, EDGE, Range, Steps, are_sure, heightened, heightened_in_steps

if TYPE_CHECKING:  # a run with nothing to do does without Pillow
    from PIL import Image

PADDING = 128  # what fills the margins of `pad`: mid-gray, next to zero for models that expect -1..1
FEW = 2**20  # values of which one call of Pillow is quicker than bands


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
    planes, seen = _shown(field, geometry, size)
    laid = _laid(planes, seen.height, seen.width)
    yield from _placed(laid, seen, (*size, *field.shape[2:]), np.float32(0))


def bands_in_steps(field: np.ndarray, geometry: Geometry, size: tuple[int, int], steps: Steps) -> Iterator[np.ndarray]:
    """uint8 [some rows, w] or [some rows, w, k]: what `steps` make of the `bands` of a field of float32 that is tame."""
    planes, seen = _shown(field, geometry, size)
    laid = _laid_in_steps(planes, seen.height, seen.width, steps)
    yield from _placed(laid, seen, (*size, *field.shape[2:]), np.uint8(steps.zero))


def is_tame(field: np.ndarray) -> bool:
    """Whether a field is finite, and stays so whatever interpolation adds to it."""
    return bool(np.abs(field).max() < np.finfo(np.float32).max / 2)  # a NaN is no less than anything


def _shown(field: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> tuple[np.ndarray, Box]:
    """The part of a field that shows the image, float32 [h, w, k], and the part of the image that it shows."""
    if field.shape[:2] != (geometry.height, geometry.width):
        raise ValueError(f"field {field.shape} is not of the model input {geometry.height} x {geometry.width}")
    seen, shown = spread(geometry, size)
    return np.asarray(field, np.float32)[shown.slices].reshape(shown.height, shown.width, -1), seen


def _placed(
    laid: Iterator[np.ndarray], seen: Box, shape: tuple[int, ...], zero: np.float32 | np.uint8
) -> Iterator[np.ndarray]:
    """Bands of an image of this shape, of those of what the model sees of it; the rest is `zero`."""
    yield from _blank(seen.top, shape[1:], zero)
    for band in laid:
        yield _between(band.reshape(len(band), seen.width, *shape[2:]), seen.left, shape[1], zero)
    yield from _blank(shape[0] - seen.top - seen.height, shape[1:], zero)


def _blank(height: int, row: tuple[int, ...], zero: np.float32 | np.uint8) -> Iterator[np.ndarray]:
    """Rows that the model does not see."""
    most = max(1, BAND // row[0])
    for at in range(0, height, most):
        yield np.full((min(most, height - at), *row), zero)


def _between(band: np.ndarray, left: int, width: int, zero: np.float32 | np.uint8) -> np.ndarray:
    """Rows of what the model sees, with what it does not see left and right of them."""
    if band.shape[1] == width:
        return band
    out = np.full((len(band), width, *band.shape[2:]), zero)
    out[:, left : left + band.shape[1]] = band
    return out


def _laid(planes: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    """float32 [h, w, k] -> bands of as many numbers of [height, width, k]; each plane as `_resampled` gives it."""
    if _is_small(planes, height, width) or not is_tame(planes):
        whole = [_resampled(plane, height, width) for plane in np.moveaxis(planes, 2, 0)]
        yield np.stack(whole, axis=2) if len(whole) > 1 else whole[0]  # which need not be copied
    else:
        yield from heightened(*_widened(planes, width), height)


def _laid_in_steps(planes: np.ndarray, height: int, width: int, steps: Steps) -> Iterator[np.ndarray]:
    """The same in steps."""
    if _is_small(planes, height, width) or not are_sure(steps, planes):
        for band in _laid(planes, height, width):
            yield steps.of(band, out=band)
    else:
        yield from heightened_in_steps(*_widened(planes, width), height, steps)


def _is_small(planes: np.ndarray, height: int, width: int) -> bool:
    """Whether Pillow is to lay it out in one piece; what shrinks in height is never large."""
    return height <= len(planes) or height * width * planes.shape[2] <= FEW


def _widened(planes: np.ndarray, width: int) -> tuple[np.ndarray, Range]:
    """float32 [h, w, k] -> [EDGE + h + EDGE, width * k], zeros around it, and the range of each column in what there was."""
    count, framed = planes.shape[2], np.pad(planes, ((EDGE, EDGE), (0, 0), (0, 0)))
    wide = [np.asarray(_resized(_image_of(framed[..., k]), len(framed), width)) for k in range(count)]
    low, high = planes.min((0, 1)), planes.max((0, 1))
    if count == 1:
        return wide[0], Range(low[0], high[0])
    return np.stack(wide, axis=2).reshape(len(framed), -1), Range(np.tile(low, width), np.tile(high, width))


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
