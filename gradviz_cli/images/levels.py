"""From numbers of more than 8 bits to levels of 8, by the rules that stand in `decode`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from gradviz_cli.errors import ImageError
from gradviz_cli.images import tiff
from gradviz_cli.images.fit import PADDING
from gradviz_cli.images.tiff import Page, Tag

# A picture of so few levels, made from more values, has lost what it shows: 12 bits in 16 make 17.
HANDFUL = 17
POOR = "only a handful of the 256 levels are left of its values, so that a model sees little of it; bring it to 8 bits yourself"
# What stands for no data where a file does not say so: by custom, and the ends of float32.
_SENTINELS = (-9999.0, -32768.0, -32767.0, -99999.0, *(sign * float(np.finfo(np.float32).max) for sign in (-1, 1)))

Notes = tuple[str, ...]  # what is to be said of a picture, a line each; the same words for each that it holds for


def gray_levels(image: Image.Image, white: int) -> tuple[np.ndarray, Notes]:
    """uint8 [h, w] of a gray image of 16 or 32 bits; `white` is the largest value that its file says it uses."""
    tags: Mapping = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    values = np.asarray(image)
    if image.mode == "I" and tags.get(Tag.BITS) == (32,) and tags.get(Tag.FORMAT, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow reads unsigned numbers as signed
    scaled = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")  # to 16 bits, by Pillow
    twelve = image.mode.startswith("I;16") and tags.get(Tag.BITS) == (12,)
    levels, notes = as_levels(values, table(4095 if twelve else white) if scaled else None, tiff.no_data(tags))
    if tags.get(Tag.PHOTOMETRIC) == 0:  # white is zero; Pillow honours it up to 8 bits only
        levels = 255 - levels
    if isinstance(key := image.info.get("transparency"), int):
        levels[values == key] = 255
    return levels, notes


def of_bands(values: np.ndarray, page: Page) -> tuple[np.ndarray, Notes]:
    """uint8 [h, w] or [h, w, 3] of all bands [h, w, bands] of a TIFF that Pillow has no mode for; [h, w, 2] or [h, w, 4] where
    a band says how opaque they are.

    Raises
    ------
    ImageError
        No three of them are known to be red, green and blue.
    """
    count, colours = values.shape[2], page.colours
    if count > 3 and colours not in (tiff.RGB, tiff.INKS):
        raise ImageError(
            "format",
            f"a TIFF of {tiff.described(page)} that does not say which are red, green and blue: give a model that takes "
            f"{count} channels, or write three of them (gdal_translate -b 3 -b 2 -b 1 -co PHOTOMETRIC=RGB)",
        )
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    gray = count < 3 or (colours != tiff.RGB and page.transparency is not None)
    shown = values[..., : 4 if colours == tiff.INKS else 1 if gray else 3]
    opacity = _opacity(values, page, shown.shape[2])
    if opacity is not None and page.is_associated:
        shown = _dissociated(shown, opacity)
    if colours == tiff.INKS:
        shown = _printed(shown)
    notes = _supposed(count - (opacity is not None), colours)
    levels, more = (
        (shown.copy(), ())
        if shown.dtype == np.uint8
        else as_levels(shown, _table(shown, page), tiff.no_data(page.tags))
    )
    notes += more
    levels = 255 - levels if colours == 0 else levels
    if opacity is not None:
        levels = np.concatenate([levels, np.rint(opacity * 255).astype(np.uint8)], axis=2)
    return (levels if levels.shape[2] > 1 else levels[..., 0]), notes


def _opacity(values: np.ndarray, page: Page, shown: int) -> np.ndarray | None:
    """float32 [h, w, 1], 0..1, where a band behind those that are shown says it. All of a whole number is opaque, of floats
    1, or what they reach beyond it."""
    place = page.transparency
    if place is None or not shown <= place < values.shape[2]:
        return None
    band = np.nan_to_num(values[..., place : place + 1].astype(np.float32))
    most = max(1.0, float(band.max())) if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    return np.clip(band / np.float32(most), 0, 1)


def _dissociated(values: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Colours before they were multiplied by their opacity."""
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.where(opacity > 0, values / opacity, 0)
    if values.dtype.kind == "f":
        return whole.astype(values.dtype)
    return np.minimum(np.rint(whole), np.iinfo(values.dtype).max).astype(values.dtype)


def _printed(inks: np.ndarray) -> np.ndarray:
    """Colours of inks of 8 or 16 bits, of which the upper byte counts as it does for Pillow."""
    upper = (inks >> (8 * (inks.dtype.itemsize - 1))).astype(np.uint8)
    return np.asarray(Image.fromarray(upper, "CMYK").convert("RGB"))


def _table(values: np.ndarray, page: Page) -> np.ndarray | None:
    """From 16 bits to 8; None for numbers that are stretched. Of colours it is the upper byte, as Pillow takes it."""
    if values.dtype != np.uint16:
        return None
    if page.white and values.max() <= page.white:
        return table(page.white)
    return table(65535) if values.shape[2] == 1 else (np.arange(65536) >> 8).astype(np.uint8)


def _supposed(count: int, colours: int) -> Notes:
    """What is taken of several bands, where the file does not say it or holds more."""
    if colours == tiff.RGB:
        return (f"of its {count} bands the first three are shown, red, green and blue",) if count > 3 else ()
    if count == 3:
        return ("its three bands are taken for red, green and blue, which it does not say (PHOTOMETRIC=RGB does)",)
    return ("of its two bands the first is shown",) if count == 2 else ()


def as_levels(values: np.ndarray, scale: np.ndarray | None, declared: float | None) -> tuple[np.ndarray, Notes]:
    """The levels by a table, or stretched; pixels without data, which `declared` may stand for, are mid-gray."""
    notes: Notes = ()
    if scale is not None:
        levels, missing = scale[values], None if declared is None else values == declared
    else:
        missing, notes = _missing(values, declared)
        levels = _stretched(values, missing)
    if _is_poor(values, levels, missing):
        notes = (*notes, POOR)
    if missing is not None and missing.any():
        levels[missing.any(-1) if missing.ndim == 3 else missing] = PADDING
    return levels, notes


def white_of(values: np.ndarray, bits: int) -> int:
    """White where 16 bits hold fewer, as the file says.

    A writer that keeps to the standard scales to 16 bits, which leaves zeros or the upper bits again in those that are
    too many; values that end where `bits` do, and use the lowest, were not scaled.
    """
    lower = (1 << (16 - bits)) - 1
    return 2**bits - 1 if bits < 16 and values.max() < 2**bits and (values & lower).any() else 65535


def table(white: int) -> np.ndarray:
    """uint8 [65536]: value -> level, `white` and above -> 255."""
    values = np.minimum(np.arange(65536), white)
    return ((values * 255 + white // 2) // white).astype(np.uint8)


def _missing(values: np.ndarray, declared: float | None) -> tuple[np.ndarray | None, Notes]:
    """Where there are no data: the value that the file names, NaN, or what stands far away and is none by custom."""
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    notes: Notes = ()
    if declared is not None:
        missing |= values == (values.dtype.type(declared) if values.dtype.kind == "f" else declared)
    elif (value := _far_away(values[~missing] if missing.any() else values)) is not None:
        missing |= values == value
        notes = (
            f"its pixels of {value:g} are taken for no data and are gray, as they lie far from all others; the file does "
            "not say what they are (gdal_edit.py -a_nodata does)",
        )
    return (missing if missing.any() else None), notes


def _far_away(values: np.ndarray) -> np.generic | None:
    """A value that is none by custom, and further from the others than they are from each other."""
    if not values.size:
        return None
    for end in (values.min(), values.max()):
        rest = values[values != end] if float(end) in _SENTINELS else values[:0]
        if rest.size and abs(float(end) - float(rest[0])) > 2 * (float(rest.max()) - float(rest.min())):
            return end
    return None


def _stretched(values: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
    """uint8 from the smallest to the largest value; floats that all lie within 0..1 from 0 to 1."""
    seen = values if missing is None else values[~missing]
    if not seen.size:
        raise ImageError("damaged", "no pixel holds data (all are NaN, or the value that the file has for none)")
    low, high = float(seen.min()), float(seen.max())
    if not np.isfinite([low, high]).all():
        raise ImageError("damaged", "has pixels that are not finite numbers (infinity)")
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    levels = np.zeros(values.shape, np.uint8)
    step = max(1, 2**20 // values[0].size)  # rows at a time: float64 of the whole would be 8 bytes a pixel
    for top in range(0, len(values) if high > low else 0, step):
        rows = values[top : top + step].astype(np.float64)
        if missing is not None:
            rows[missing[top : top + step]] = low
        levels[top : top + step] = np.rint((rows - low) * (255 / (high - low)))
    return levels


def _is_poor(values: np.ndarray, levels: np.ndarray, missing: np.ndarray | None) -> bool:
    """Whether a handful of levels stands for far more values; line art has few of both."""
    few = np.count_nonzero(Image.fromarray(levels.reshape(len(levels), -1)).histogram())
    if few > HANDFUL or values.size < 256:
        return False
    some = values if missing is None else values[~missing]
    some = some.ravel()[:: max(1, some.size // 2**20)]
    return len(np.unique(some)) > 2 * few
