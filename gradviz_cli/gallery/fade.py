"""How strong a pixel of a map is, told by its colour, so that the page can let the input show through where it is weak.

A browser keeps the pixels of linked files from a page's script, but filters them for the eye: SVG's `feColorMatrix`
makes a colour one number, and `feFuncA` looks that up in a table. The number is the luma of Rec. 709, which rises or
falls with the intensity in all our colormaps, as their lightness does.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from gradviz_cli.draw.colormaps import COLORMAPS, DIVERGING, ZERO

LUMA = np.array([0.2126, 0.7152, 0.0722])  # as in the page's filter
STEPS = 33  # of the table: by them a strength is at most 1 % off, near the white middle of a diverging map 7 %


@cache
def fade_of(colormap: str) -> list[float] | None:
    """Strengths 0..1 of pixels whose luma is 0, 1/32, ... 1: the magnitude as a share of the scale. None: no such map."""
    if colormap not in COLORMAPS:
        return None
    luma = COLORMAPS[colormap] @ LUMA / 255
    intensity = np.arange(256)
    strength = np.abs(intensity - ZERO) / (255 - ZERO) if colormap in DIVERGING else intensity / 255
    order = np.argsort(luma, kind="stable")
    table = np.interp(np.linspace(0, 1, STEPS), luma[order], np.minimum(strength, 1)[order])
    return [round(float(value), 3) for value in table]
