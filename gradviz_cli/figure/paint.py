"""A page as pixels, and as a PNG."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gradviz_cli.draw.letters import font_of
from gradviz_cli.draw.png import encode_png
from gradviz_cli.errors import UsageError
from gradviz_cli.figure.canvas import HAIRLINE, MARK, PAPER, PER_INCH, PER_MM, Page, Shown, Words, measured
from gradviz_cli.version import __version__

MOST_PIXELS = 150_000_000  # of a sheet
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


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
        place = item.x * scale, item.y * scale
        draw.text(place, item.letters, font=_font(item, scale), fill=item.ink, anchor=_ANCHORS[item.anchor])
        return
    left, top = round(item.x * scale), round(item.y * scale)
    size = max(1, round(item.width * scale)), max(1, round(item.height * scale))
    pixels = item.pixels if item.palette is None else item.palette[item.pixels]
    shown = Image.fromarray(pixels)
    if shown.size != size:  # a colour bar
        shown = shown.resize(size, Image.Resampling.NEAREST)
    draw.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=HAIRLINE)
    image.paste(shown, (left, top))


def _font(words: Words, scale: float) -> ImageFont.FreeTypeFont:
    """Letters of few pixels come out wider than their measures; they are made so small that the line has its width."""
    planned, size = measured(words.text, words.size) * scale, words.size * scale
    wide = font_of(size).getlength(words.letters)
    return font_of(round(size * planned / wide, 1)) if wide > planned + 1 else font_of(size)
