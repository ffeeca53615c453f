"""A page as pixels, and as a PNG."""

from __future__ import annotations

import json
import math

import numpy as np
from PIL import Image, ImageDraw

from gradviz_cli.draw.letters import font_of
from gradviz_cli.draw.png import encode_png
from gradviz_cli.errors import UsageError
from gradviz_cli.figure.canvas import HAIRLINE, MARK, MEASURED, PAPER, PER_INCH, PER_MM, Page, Shown, Words
from gradviz_cli.version import __version__

MOST_PIXELS = 150_000_000  # of a sheet
_BEFORE = {"start": 0.0, "middle": 0.5, "end": 1.0}  # part of a line that lies left of its place


def png(page: Page) -> bytes:
    """A PNG that says its dots per inch, and what it shows in the text that all our pictures carry.

    Raises
    ------
    UsageError
        It would have too many pixels.
    """
    text = {"version": __version__, "kind": MARK, "title": page.title, "description": page.description}
    return encode_png(painted(page), None, json.dumps(text), page.dpi)


def painted(page: Page) -> np.ndarray:
    """uint8 [h, w, 3]."""
    scale = page.dpi / PER_INCH
    width, height = round(page.width * scale), round(page.height * scale)
    if width * height > MOST_PIXELS:
        raise UsageError(
            f"the sheet would have {width} x {height} pixels, more than {MOST_PIXELS // 10**6} million",
            f"give a smaller --dpi, show fewer images, put them side by side (--cols image --wrap 20), or write a PDF"
            f" ({page.width / PER_MM:.0f} x {page.height / PER_MM:.0f} mm)",
        )
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    for item in page.items:
        _put(item, image, draw, scale)
    return np.asarray(image)


def _put(item: Words | Shown, image: Image.Image, draw: ImageDraw.ImageDraw, scale: float) -> None:
    if isinstance(item, Words):
        _write(item, image, scale)
        return
    left, top = round(item.x * scale), round(item.y * scale)
    size = max(1, round(item.width * scale)), max(1, round(item.height * scale))
    pixels = item.pixels if item.palette is None else item.palette[item.pixels]
    shown = Image.fromarray(pixels)
    if shown.size != size:  # a colour bar
        shown = shown.resize(size, Image.Resampling.NEAREST)
    draw.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=HAIRLINE)
    image.paste(shown, (left, top))


def _write(words: Words, image: Image.Image, scale: float) -> None:
    """Drawn large and brought to size: letters of few pixels would come out a tenth wider or narrower than measured."""
    size, letters = words.size * scale, words.letters
    large = MEASURED * math.ceil(size / MEASURED)
    font, ratio = font_of(large), size / large
    left, _, right, _ = font.getbbox(letters, anchor="ls")
    ascent, descent = font.getmetrics()
    if right <= left:  # nothing but spaces
        return
    mask = Image.new("L", (math.ceil(right - left), ascent + descent))
    ImageDraw.Draw(mask).text((-left, ascent), letters, font=font, fill=255, anchor="ls")
    small = mask.resize(
        (max(1, round(mask.width * ratio)), max(1, round(mask.height * ratio))), Image.Resampling.BICUBIC
    )
    x = words.x * scale + (left - _BEFORE[words.anchor] * font.getlength(letters)) * ratio
    image.paste(words.ink, (round(x), round(words.y * scale - ascent * ratio)), small)
