"""What the user may choose about a picture, and a picture as it was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradviz_cli.draw.colormaps import COLORMAPS
from gradviz_cli.errors import UsageError
from gradviz_cli.plan.plan import Drawing

Scale = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """What the user may choose about a picture.

    Parameters
    ----------
    colormap : str
        A key of COLORMAPS. A style that cannot use it keeps its own (`colormap_for`).
    clip : float
        Percentile of the field's absolute values at which the scale ends, above 0 and up to 100.
    alpha : float
        Weight of the map in an overlay, from 0 (only the source image) to 1 (only the map).

    Raises
    ------
    UsageError
        A value is out of range; names the option.
    """

    colormap: str = "inferno"
    clip: float = 99.0
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if self.colormap not in COLORMAPS:
            raise UsageError(f"--colormap: there is no {self.colormap!r}", f"choose one of {', '.join(COLORMAPS)}")
        if not 0 < self.clip <= 100:
            raise UsageError(f"--clip: {self.clip} is not a percentile", "give a number above 0 and up to 100")
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"--alpha: {self.alpha} is no weight", "give a number from 0 to 1")


DEFAULT_LOOK = Look()


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn attribution.

    Attributes
    ----------
    pixels : uint8 [h, w] or [h, w, 3]
        The intensities themselves, to be shown through `palette`; or colours.
    scale : (float, float) or None
        The attribution, per model-input unit, that intensity 0 and intensity 255 stand for. Both are equal where the
        attribution is flat: that one value, everywhere. None where it is not finite and nothing was measured.
    legend : uint8 [256, 3]
        The colour of each intensity, for a colour bar. For an overlay: on a mid-gray source.
    """

    pixels: np.ndarray
    scale: Scale | None
    legend: np.ndarray

    @property
    def palette(self) -> np.ndarray | None:
        """uint8 [256, 3], what a paletted PNG of `pixels` needs; None where `pixels` are colours."""
        return self.legend if self.pixels.ndim == 2 else None


def look_of(drawing: Drawing) -> Look:
    """What a plan says about the look of its pictures."""
    return Look(drawing.colormap, drawing.clip, drawing.alpha)
