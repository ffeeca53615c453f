"""An image brought to the size of the model input, and a field laid back onto the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # a run with nothing to do does without Pillow
    from PIL import Image

PADDING = 128  # what fills the margins of `pad`: mid-gray, next to zero for models that expect -1..1


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
    if field.dtype == np.float64:
        top = float(np.abs(field).max()) or 1.0
        return unfit((field / top).astype(np.float32), geometry, size) * np.float64(top)
    if field.shape[:2] != (geometry.height, geometry.width):
        raise ValueError(f"field {field.shape} is not of the model input {geometry.height} x {geometry.width}")
    seen, shown = spread(geometry, size)
    planes = np.asarray(field, np.float32)[shown.slices].reshape(shown.height, shown.width, -1)
    out = np.zeros((*size, planes.shape[2]), np.float32)
    rows, columns = seen.slices
    for k in range(planes.shape[2]):
        out[rows, columns, k] = _resampled(planes[..., k], seen.height, seen.width)
    return out.reshape(*size, *field.shape[2:])


def to_input(field: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A field [h, w] or [h, w, k] of another size, such as that of a layer, at the size of the model input; as `unfit`."""
    if field.shape[:2] == (geometry.height, geometry.width):
        return field
    planes = np.asarray(field, np.float32).reshape(*field.shape[:2], -1)
    large = [_resampled(planes[..., k], geometry.height, geometry.width) for k in range(planes.shape[2])]
    return np.stack(large, axis=2).reshape(geometry.height, geometry.width, *field.shape[2:])


def _resampled(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [h, w] -> [height, width], each axis by the filter that suits its direction."""
    from PIL import Image

    def filter_for(before: int, after: int) -> Image.Resampling:
        return Image.Resampling.BICUBIC if after > before else Image.Resampling.BOX

    image = Image.fromarray(np.ascontiguousarray(plane))
    if width != image.width:
        image = image.resize((width, image.height), filter_for(image.width, width))
    if height != image.height:
        image = image.resize((width, height), filter_for(image.height, height))
    return np.clip(np.asarray(image), plane.min(), plane.max())
