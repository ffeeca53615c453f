"""A page as SVG 1.1: words are words in any letters, pictures are PNGs inside the file. Nothing is linked."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape

from gradviz_cli.draw.letters import font_file, font_name
from gradviz_cli.draw.png import encode_png
from gradviz_cli.figure.canvas import HAIRLINE, MARK, PAPER, Colour, Page, Shown, Words

# The font that widths were measured in comes along; where a program does not take it, those that look like it are used,
# and for letters that it lacks whatever the system has.
_ALIKE = "Helvetica, Arial, sans-serif"


def svg(page: Page) -> bytes:
    return "\n".join(_lines(page)).encode()


def _lines(page: Page) -> Iterator[str]:
    size = f'width="{page.width:.2f}pt" height="{page.height:.2f}pt" viewBox="0 0 {page.width:.2f} {page.height:.2f}"'
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f"<!-- {MARK} -->"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {size}'
        ' role="img" aria-labelledby="title description">'
    )
    yield f'<title id="title">{_text(page.title)}</title>'
    yield f'<desc id="description">{_text(page.description)}</desc>'
    font, family = base64.b64encode(font_file()).decode(), _text(font_name()[0])
    yield (
        f"<style>@font-face {{ font-family: '{family}'; src: url('data:font/ttf;base64,{font}') format('truetype'); }}"
        f" text {{ font-family: '{family}', {_ALIKE}; white-space: pre; }}</style>"
    )
    yield f'<rect width="100%" height="100%" fill="{_colour(PAPER)}"/>'
    for item in page.items:
        yield _words(item) if isinstance(item, Words) else _shown(item)
    yield "</svg>\n"


def _words(words: Words) -> str:
    whole = f"<title>{_text(words.whole)}</title>" if words.whole else ""
    place = f'x="{words.x:.2f}" y="{words.y:.2f}" font-size="{words.size:.2f}"'
    look = f'text-anchor="{words.anchor}" fill="{_colour(words.ink)}"'
    return f"<text {place} {look}>{whole}{_text(words.text)}</text>"


def _shown(shown: Shown) -> str:
    picture = base64.b64encode(encode_png(shown.pixels, shown.palette)).decode()
    box = f'x="{shown.x:.2f}" y="{shown.y:.2f}" width="{shown.width:.2f}" height="{shown.height:.2f}"'
    return (
        f'<image {box} preserveAspectRatio="none" xlink:href="data:image/png;base64,{picture}">'
        f"<title>{_text(shown.name)}</title></image>"
        f'<rect {box} fill="none" stroke="{_colour(HAIRLINE)}" stroke-width="0.25"/>'
    )


def _text(text: str) -> str:
    """Control characters and halves of pairs, which XML cannot hold, have been spelled out before."""
    return escape(text, quote=True)


def _colour(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
