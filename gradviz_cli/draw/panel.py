"""One figure of an image and its maps: side by side, with captions and a colour bar with numbers.

Text is drawn in the font that Pillow carries (Aileron), so a figure looks the same on every machine. That font knows
ASCII and little more. A label in other letters is never drawn as empty boxes: Latin letters lose their accents
(`café` -> `cafe`), Cyrillic and Greek are romanised (`кошка` -> `koshka`), and every other character is named by its
code point (`猫` -> `U+732B`). The label itself stands unchanged in the text chunk of the PNG and in the manifest.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gradviz_cli.draw import objects
from gradviz_cli.draw.look import Picture, Scale
from gradviz_cli.errors import UsageError
from gradviz_cli.images.fit import Box

NARROWEST, LONGEST = (
    160,
    512,
)  # pixels: a column is at least so wide, the longer side of a picture at most so long
UNIT = "attribution per model-input unit"

_INK, _FAINT, _HAIRLINE, _PAPER = (24, 24, 27), (90, 90, 96), (200, 200, 204), (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Column:
    """One map of a panel.

    Attributes
    ----------
    mode : str
        What stands above the map: the mode, or mode and estimator.
    picture : Picture
        The drawn attribution, of any size.
    lines : tuple of str
        What stands below it, a line each: target label, score. Too long a line ends in an ellipsis.
    unit : str
        Of its numbers.
    marks : Marks, optional
        An object in it, whose outline and box are drawn.
    """

    mode: str
    picture: Picture
    lines: tuple[str, ...] = ()
    unit: str = UNIT
    marks: objects.Marks | None = None


def size_in_panel(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which a panel shows a picture of that size.

    A large one is shrunk until its longer side is LONGEST; a small one is enlarged by the smallest whole number that
    makes its longer side at least NARROWEST, so that its pixels stay square and sharp. A caller that draws for a
    panel alone can resize its fields to this size and save the rest.
    """
    longer = max(height, width)
    if longer > LONGEST:
        return max(1, round(height * LONGEST / longer)), max(1, round(width * LONGEST / longer))
    times = -(-NARROWEST // longer)
    return height * times, width * times


# ------------------------------------------------------------------------------------------------------------ text

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


@functools.lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    try:
        font = ImageFont.load_default(size)
    except ImportError as error:
        raise UsageError(
            "--style panel: this Pillow was built without FreeType and cannot draw text",
            "install Pillow's own wheel (pip install --force-reinstall pillow), or choose another style",
        ) from error
    assert isinstance(font, ImageFont.FreeTypeFont)  # with a size it is
    return font


def _stamp(character: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(16).getmask(character)
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


def _shortened(text: str, size: int, width: int) -> str:
    """As much of the start of `text` as fits into `width` pixels, with an ellipsis where something is left out."""
    font = _font(size)
    text = printable(text[:1000])
    if font.getlength(text) <= width:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…"


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels."""
    lines = [""]
    for word in printable(text).split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and _font(size).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_shortened(line, size, width) for line in lines]


def _number(value: float) -> str:
    """Three significant digits: 0.00123, 1.2e-5."""
    mantissa, e, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def bar_labels(scale: Scale | None) -> tuple[str, ...]:
    """What stands below a colour bar, from left to right; a single text where there is no bar to draw."""
    if scale is None:
        return ("not finite, not drawn",)
    low, high = scale
    if low == high:
        return (f"flat: {_number(low)} everywhere" if low else "zero everywhere",)
    return (_number(-high), "0", _number(high)) if low < 0 else ("0", _number(high))


# ------------------------------------------------------------------------------------------------------ the figure


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels. A cell is a heading, a picture in a box, a colour bar with its numbers, and captions."""

    width: int
    box: int  # height of the box that holds a picture
    captions: int  # most lines below a map, and below the source image
    image_captions: int
    text: int  # font size, from which all the distances follow

    @property
    def line(self) -> int:
        return round(1.35 * self.text)

    @property
    def gap(self) -> int:
        return round(0.5 * self.text)

    @property
    def margin(self) -> int:
        return round(1.5 * self.text)

    @property
    def heading(self) -> int:
        return round(1.2 * self.text)

    @property
    def bar(self) -> int:
        return round(0.6 * self.text)

    @property
    def above(self) -> int:
        """From the top of a cell to the box."""
        return round(1.5 * self.heading)

    @property
    def below(self) -> int:
        """From the bottom of the box to the captions of a map."""
        return self.gap + self.bar + self.gap // 2 + self.line

    @property
    def cell(self) -> int:
        """Height of a cell."""
        captions = max(self.below + self.captions * self.line, self.gap + self.image_captions * self.line)
        return self.above + self.box + captions


def _layout(image: np.ndarray, columns: Sequence[Column], lines: Sequence[str]) -> _Layout:
    shown = [size_in_panel(*pixels.shape[:2]) for pixels in (image, *(column.picture.pixels for column in columns))]
    width = max(NARROWEST, *(size[1] for size in shown))
    captions = max(len(column.lines) for column in columns)
    return _Layout(width, max(size[0] for size in shown), captions, len(lines), text=max(14, round(width / 18)))


def _fitted(pixels: np.ndarray, shrinking: Image.Resampling) -> Image.Image:
    height, width = size_in_panel(*pixels.shape[:2])
    smaller = width < pixels.shape[1] or height < pixels.shape[0]
    return Image.fromarray(pixels).resize((width, height), shrinking if smaller else Image.Resampling.NEAREST)


def _map(column: Column) -> Image.Image:
    """The picture at its size in the panel. Intensities are averaged before they are coloured, never the colours."""
    picture = column.picture
    image = _fitted(picture.pixels, Image.Resampling.BOX)
    shown = image if picture.palette is None else Image.fromarray(picture.palette[np.asarray(image)])
    if column.marks is None:
        return shown
    times = shown.height // picture.pixels.shape[0]  # a map with marks is no larger than it is shown
    mask = column.marks.mask.repeat(times, axis=0).repeat(times, axis=1)
    marks = objects.Marks(mask, Box(*(times * side for side in column.marks.box)))
    return Image.fromarray(objects.drawn(np.asarray(shown.convert("RGB")), marks))


class _Sheet:
    """White paper, and what can be put on it."""

    def __init__(self, width: int, height: int, layout: _Layout):
        self.image = Image.new("RGB", (width, height), _PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.layout = layout

    def text(self, x: int, y: int, text: str, size: int, ink: tuple[int, int, int] = _INK, anchor: str = "la") -> None:
        self.draw.text((x, y), text, font=_font(size), fill=ink, anchor=anchor)

    def framed(self, x: int, y: int, image: Image.Image) -> None:
        """A hairline around the picture sets a white map off from the paper."""
        self.draw.rectangle((x - 1, y - 1, x + image.width, y + image.height), outline=_HAIRLINE)
        self.image.paste(image, (x, y))

    def cell(self, x: int, y: int, heading: str, image: Image.Image) -> None:
        layout = self.layout
        self.text(x, y, _shortened(heading, layout.heading, layout.width), layout.heading)
        left, top = (layout.width - image.width) // 2, (layout.box - image.height) // 2
        self.framed(x + left, y + layout.above + top, image)

    def captions(self, x: int, y: int, lines: Sequence[str]) -> None:
        layout = self.layout
        for k, line in enumerate(lines):
            self.text(x, y + k * layout.line, _shortened(line, layout.text, layout.width), layout.text)

    def colour_bar(self, x: int, y: int, picture: Picture) -> None:
        layout, labels = self.layout, bar_labels(picture.scale)
        if len(labels) == 1:
            self.text(x, y, _shortened(labels[0], layout.text, layout.width), layout.text, _FAINT)
            return
        first = 1 if picture.scale and picture.scale[0] < 0 else 0  # where the sign is shown, intensity 0 is never used
        ramp = np.rint(np.linspace(first, 255, layout.width)).astype(np.uint8)
        self.framed(x, y, Image.fromarray(np.repeat(picture.legend[ramp][None], layout.bar, axis=0)))
        for k, label in enumerate(labels):
            across = layout.width * k // (len(labels) - 1)
            anchor = "la" if k == 0 else "ra" if k == len(labels) - 1 else "ma"
            self.text(x + across, y + layout.bar + layout.gap // 2, label, layout.text, _FAINT, anchor)


def _foot(columns: Sequence[Column], notes: Sequence[str], shared: bool) -> str:
    """The sentences at the foot of the figure."""
    scales = {column.picture.scale for column in columns} - {None}
    if shared and len(scales) > 1:
        raise ValueError(f"a panel cannot claim one shared scale for maps of {len(scales)} scales")
    has_bars = any(len(bar_labels(scale)) > 1 for scale in scales)
    claim = ["All maps share one scale."] if shared and has_bars and len(columns) > 1 else []
    return " ".join([*_units(columns), *claim, *notes])


def _units(columns: Sequence[Column]) -> list[str]:
    """What the numbers are, of which maps where they are not all alike."""
    named: dict[str, list[str]] = {}
    for column in columns:
        named.setdefault(column.unit, []).append(column.mode)
    if len(named) == 1:
        return [f"Numbers: {unit}." for unit in named]
    return [f"Numbers of {', '.join(modes)}: {unit}." for unit, modes in named.items()]


def panel(
    image: np.ndarray,
    columns: Sequence[Column],
    *,
    lines: Sequence[str] = (),
    notes: Sequence[str] = (),
    shared: bool = False,
    per_row: int = 4,
) -> np.ndarray:
    """An image and its maps in one figure, dark text on white.

    Parameters
    ----------
    image : uint8 [h, w, 3]
        The source image, upright.
    columns : sequence of Column
        The maps, from left to right; at least one.
    lines : sequence of str
        What stands below the source image, a line each, such as its name.
    notes : sequence of str
        Sentences for the foot of the figure, after the unit of the numbers.
    shared : bool
        Whether the maps were drawn to one scale (`Style.share`): the foot of the figure then says so.
    per_row : int
        Maps in a row; more go on in the next row. The source image stands left of the first.

    Returns
    -------
    uint8 [H, W, 3]. Every picture is shown at `size_in_panel`.

    Raises
    ------
    UsageError
        This Pillow cannot draw text.
    ValueError
        There is no map, or `shared` is claimed for maps whose scales differ.
    """
    if not columns or per_row < 1:
        raise ValueError(f"a panel needs a map and a row to put it in, not {len(columns)} maps, {per_row} per row")
    layout = _layout(image, columns, lines)
    across, down = layout.width + layout.margin, layout.cell + layout.margin
    width = layout.margin + across * (1 + min(per_row, len(columns)))
    foot = _wrapped(_foot(columns, notes, shared), layout.text, width - 2 * layout.margin)
    rows = -(-len(columns) // per_row)
    sheet = _Sheet(width, layout.margin + rows * down + len(foot) * layout.line + layout.margin, layout)

    sheet.cell(layout.margin, layout.margin, "input", _fitted(image, Image.Resampling.LANCZOS))
    sheet.captions(layout.margin, layout.margin + layout.above + layout.box + layout.gap, lines)
    for k, column in enumerate(columns):
        x, y = layout.margin + across * (1 + k % per_row), layout.margin + down * (k // per_row)
        bottom = y + layout.above + layout.box
        sheet.cell(x, y, column.mode, _map(column))
        sheet.colour_bar(x, bottom + layout.gap, column.picture)
        sheet.captions(x, bottom + layout.below, column.lines)
    for k, line in enumerate(foot):
        sheet.text(layout.margin, layout.margin + rows * down + k * layout.line, line, layout.text, _FAINT)
    return np.asarray(sheet.image)
