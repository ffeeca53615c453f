"""A sheet as it is drawn: words, pictures and lines at places in points (1/72 inch), from the upper left corner.

What is drawn once is written in three forms: `paint` makes pixels of it, `svg` and `pdf` keep words as words.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradviz_cli.draw.letters import LONGEST, broken, cut, font_of, printable
from gradviz_cli.plan.values import POINTS

INK, FAINT, HAIRLINE, PAPER = (24, 24, 27), (90, 90, 96), (200, 200, 204), (255, 255, 255)
PER_INCH, PER_MM = POINTS["in"], POINTS["mm"]
MARK = "gradviz figure"  # by this a figure is known as ours
MEASURED = 100  # size of the font in which words are measured

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Words:
    """A line of text on the baseline `y`, which begins, has its middle or ends at `x`; `whole` is what it was cut from."""

    x: float
    y: float
    text: str
    size: float
    anchor: str = "start"
    ink: Colour = INK
    whole: str = ""

    @property
    def letters(self) -> str:
        """As the font has them."""
        return printable(self.text)

    @property
    def meant(self) -> str:
        return self.whole or self.text


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture, uint8 [h, w] through a palette [256, 3] or [h, w, 3], and what it is in words; framed by a hairline."""

    x: float
    y: float
    width: float
    height: float
    pixels: np.ndarray
    palette: np.ndarray | None = None
    name: str = ""


@dataclass(frozen=True)
class Page:
    """Width and height in points, dots per inch of its pictures, a title and a description in words, and what is on it."""

    width: float
    height: float
    dpi: float
    title: str
    description: str
    items: list[Words | Shown] = field(default_factory=list)


def measured(text: str, size: float) -> float:
    """Width of a text in points."""
    return font_of(MEASURED).getlength(printable(text[:LONGEST])) * size / MEASURED


def shortened(text: str, size: float, width: float) -> str:
    """As much of the start of `text` as fits into `width` points, in its own letters, with an ellipsis."""
    return cut(text, lambda part: measured(part, size) <= width)


def wrapped(text: str, size: float, width: float) -> list[str]:
    """`text` in lines of at most `width` points."""
    return broken(text, lambda line: measured(line, size) <= width)
