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


@cache
def fade_of(colormap: str) -> list[float] | None:
    """Strength 0..1 of a pixel whose luma is 0, 1, ... 255: its magnitude as a share of the scale. None: no such colormap.

    Where colours of several strengths have one luma it is the smallest, so that zero stays zero: the two arms of a
    diverging map are equally light, but only nearly of equal luma.
    """
    if colormap not in COLORMAPS:
        return None
    luma = COLORMAPS[colormap] @ LUMA
    intensity = np.arange(256)
    strength = np.abs(intensity - ZERO) / (255 - ZERO) if colormap in DIVERGING else intensity / 255
    order = np.argsort(luma, kind="stable")
    table = np.interp(intensity, luma[order], strength[order])
    for level in np.unique(np.rint(luma)).astype(int):
        table[level] = strength[np.rint(luma) == level].min()
    return [round(float(value), 3) for value in table]
