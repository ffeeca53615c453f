"""Words in a picture: in which letters, how wide, and the numbers of a colour bar.

Text is drawn in the font that Pillow carries (Aileron), so a figure looks the same on every machine. That font knows
ASCII and little more. A label in other letters is never drawn as empty boxes: Latin letters lose their accents
(`café` -> `cafe`), Cyrillic and Greek are romanised (`кошка` -> `koshka`), and every other character is named by its
code point (`猫` -> `U+732B`). The label itself stands unchanged in the text chunk of the PNG and in the manifest.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable

from PIL import ImageFont

from gradviz_cli.draw.look import Scale
from gradviz_cli.errors import UsageError

LONGEST = 1000  # characters of a line that are looked at

# What Unicode does not take apart, and the usual romanisation of the Cyrillic and Greek alphabets, in pairs
_PAIRS = """
ß ss  ẞ SS  µ u  æ ae  œ oe  ø o  ł l  đ d  ð d  þ th  ı i      ‐ -  ‑ -  – -  — -  − -  × x
а a  б b  в v  г g  д d  е e  ё yo  ж zh  з z  и i  й y  к k  л l  м m  н n  о o  п p  р r  с s  т t  у u  ф f
х kh  ц ts  ч ch  ш sh  щ shch  ъ '  ы y  ь '  э e  ю yu  я ya      і i  ї yi  є ye  ґ g
α a  β v  γ g  δ d  ε e  ζ z  η i  θ th  ι i  κ k  λ l  μ m  ν n  ξ x  ο o  π p  ρ r  σ s  ς s  τ t  υ y  φ f
χ ch  ψ ps  ω o
"""
_SPELT = dict(zip(_PAIRS.split()[::2], _PAIRS.split()[1::2], strict=True))
_SPELT |= {
    letter.upper(): spelt.capitalize()
    for letter, spelt in _SPELT.items()
    if letter.upper() != letter and len(letter.upper()) == 1
}


@functools.lru_cache(maxsize=64)
def font_of(size: float) -> ImageFont.FreeTypeFont:
    try:
        font = ImageFont.load_default(size)
    except ImportError as error:
        raise UsageError(
            "no text can be drawn: this Pillow was built without FreeType",
            "install Pillow's own wheel (pip install --force-reinstall pillow), or choose a style without text",
        ) from error
    assert isinstance(font, ImageFont.FreeTypeFont)  # with a size it is
    return font


def font_file() -> bytes:
    """The font itself, TrueType."""
    return bytes(font_of(16).font_bytes)


def font_name() -> tuple[str, str]:
    """Family and style."""
    family, style = font_of(16).getname()
    return family or "Unknown", style or "Regular"


def _stamp(character: str) -> tuple[tuple[int, int], bytes]:
    mask = font_of(16).getmask(character)
    return mask.size, bytes(mask)


@functools.lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    # U+FFFF is never a character: its stamp is the box for "no glyph".
    return _stamp(character) != _stamp("\uffff")


def _spell(character: str) -> str | None:
    """`character` in letters that the font has; None where there are none."""
    parts = _SPELT.get(character) or unicodedata.normalize("NFKD", character)
    letters = "".join(_SPELT.get(part, part) for part in parts if not unicodedata.combining(part))
    return letters if letters and all(map(_has_glyph, letters)) else None


def printable(text: str) -> str:
    """`text` in characters that the font can draw; see the module's docstring.

    White space and control characters become one space; invisible format characters (joiners, direction marks) go.
    """
    words = [""]
    for character in unicodedata.normalize("NFC", text):
        category = unicodedata.category(character)
        if character.isspace() or category == "Cc":
            words.append("")
        elif _has_glyph(character):
            words[-1] += character
        elif category != "Cf":
            letters = _spell(character)
            if letters is None:
                words += [f"U+{ord(character):04X}", ""]
            else:
                words[-1] += letters
    return " ".join(filter(None, words))


def shortened(text: str, size: float, width: float) -> str:
    """As much of the start of `text` as fits into `width` pixels, with an ellipsis where something is left out."""
    font = font_of(size)
    return cut(printable(text[:LONGEST]), lambda part: font.getlength(part) <= width)


def wrapped(text: str, size: float, width: float) -> list[str]:
    """`text` in lines of at most `width` pixels."""
    font = font_of(size)
    return broken(printable(text), lambda line: font.getlength(line) <= width)


Fits = Callable[[str], bool]


def cut(text: str, fits: Fits) -> str:
    """The same of what `fits`."""
    if len(text) <= LONGEST and fits(text):
        return text
    most, too_long = 0, min(len(text), LONGEST)
    while too_long - most > 1:
        middle = (most + too_long) // 2
        if fits(text[:middle].rstrip() + "…"):
            most = middle
        else:
            too_long = middle
    return text[:most].rstrip() + "…"


def broken(text: str, fits: Fits) -> list[str]:
    """`text` in lines that fit."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and not fits(longer):
            lines.append(word)
        else:
            lines[-1] = longer
    return [cut(line, fits) for line in lines]


def number(value: float) -> str:
    """Three significant digits: 0.00123, 1.2e-5."""
    mantissa, e, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def bar_labels(scale: Scale | None) -> tuple[str, ...]:
    """What stands below a colour bar, from left to right; a single text where there is no bar to draw."""
    if scale is None:
        return ("not finite, not drawn",)
    low, high = scale
    if low == high:
        return (f"flat: {number(low)} everywhere" if low else "zero everywhere",)
    return (number(-high), "0", number(high)) if low < 0 else ("0", number(high))
