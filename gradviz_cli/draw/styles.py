"""An attribution becomes pixels: what each style measures, its scale and its colours.

Drawing takes three steps, and the caller resizes between the first and the last:

    field = STYLES[name].reduce(attribution)              # [h, w] or [h, w, 3], at the size of the model input
    scale = STYLES[name].limits(field, look)              # from the same field, so --size never changes the scale
    picture = STYLES[name].colour(field, image, look, scale)      # `field` resized to the picture's size, if wanted

Every intensity is linear in the attribution, so one formula reads any picture back:

    value = low + (high - low) * intensity / 255,  with  low, high = picture.scale

in units of attribution per model-input unit. Values beyond the scale are drawn at its ends.

A style shows magnitude, and 0 is no attribution; or it is `centred` and shows direction: 128 is exactly zero, 255 the
positive end, 1 the negative end of equal size (0 is never used).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradviz_cli.draw.colormaps import COLORMAPS, DIVERGING, ZERO
from gradviz_cli.draw.look import DEFAULT_LOOK, Look, Picture, Scale
from gradviz_cli.errors import UsageError
from gradviz_cli.images.enlarge import Steps
from gradviz_cli.plan.results import Status

# ------------------------------------------------------------------------------------- from attribution to a field


def degenerate(attribution: np.ndarray) -> Status | None:
    """Why an attribution cannot be read as a picture: NONFINITE (a NaN or infinity anywhere), ZERO, or None."""
    low, high = attribution.min(), attribution.max()  # a NaN anywhere is the extreme
    if not (np.isfinite(low) and np.isfinite(high)):
        return Status.NONFINITE
    return Status.ZERO if low == high == 0 else None


def _by_channel(attribution: np.ndarray) -> np.ndarray:
    return np.moveaxis(attribution, -1, 0)


def _strongest(attribution: np.ndarray) -> np.ndarray:
    """Absolute maximum over channels, [h, w, c] -> [h, w]."""
    # Channel by channel: NumPy is 40 times slower along a last axis of three.
    return functools.reduce(np.maximum, (np.abs(channel) for channel in _by_channel(attribution)))


def _sum(attribution: np.ndarray) -> np.ndarray:
    """Sum over channels, [h, w, c] -> [h, w]; float64 where float32 cannot hold it."""
    total = functools.reduce(np.add, _by_channel(attribution))
    return total if _finite(total) else attribution.sum(axis=-1, dtype=np.float64)


def _channels(attribution: np.ndarray) -> np.ndarray:
    """The attribution itself; a single channel is shown in all three, [h, w, 1 or 3] -> [h, w, 3]."""
    return attribution if attribution.shape[-1] == 3 else np.repeat(attribution, 3, axis=-1)


# ------------------------------------------------------------------------------------------ from a field to pixels

Paint = Callable[["np.ndarray", "np.ndarray | None", str, float], "np.ndarray"]
"""(intensities, image or None, colormap, alpha) -> pixels"""


def _finite(field: np.ndarray) -> bool:
    return bool(np.isfinite(field.min()) and np.isfinite(field.max()))


def _span(top: float, centred: bool) -> Scale:
    """The scale that ends at `top`; with the sign shown, -top is intensity 1 and so 0 lies one step below."""
    return (-top * ZERO / (255 - ZERO), top) if centred else (0.0, top)


def _nearest_rank(values: np.ndarray, percent: float) -> float:
    """The smallest of `values` that at least `percent` of them do not exceed."""
    # Rounded first: 64.4 % of 250 comes out a hair above 161.
    rank = math.ceil(round(values.size * percent / 100, 6)) - 1
    return float(np.partition(values.ravel(), rank)[rank])


def _as_they_are(intensities: np.ndarray, image: np.ndarray | None, colormap: str, alpha: float) -> np.ndarray:
    """For a palette, or the colours of each channel."""
    return intensities


@functools.lru_cache(maxsize=4)
def _blend(colormap: str, alpha: float) -> np.ndarray:
    """Colour of an overlay for every gray value of the source and every intensity, uint8 [256, 256, 3].

    The map's opacity is alpha / (1 - alpha) times the intensity, at most 1, so that the source stays visible where
    there is no attribution and the strongest pixels keep the colours of the map. The source is dimmed to
    1 - 0.7 alpha of its brightness, so that it never outshines the map.
    """
    intensity = np.linspace(0, 1, 256, dtype=np.float32)[None, :, None]
    gray = np.arange(256, dtype=np.float32)[:, None, None] * np.float32(1 - 0.7 * alpha)
    opacity = np.minimum(intensity * np.float32(alpha / (1 - alpha)), 1) if alpha < 1 else np.float32(1)
    return np.rint((1 - opacity) * gray + opacity * COLORMAPS[colormap]).astype(np.uint8)


def _gray(image: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601, weights in 256ths), [h, w, 3] uint8 -> [h, w] uint8: integers, the same everywhere."""
    red, green, blue = (image[..., channel].astype(np.uint16) for channel in range(3))
    return ((77 * red + 150 * green + 29 * blue) >> 8).astype(np.uint8)


def _over_image(intensities: np.ndarray, image: np.ndarray | None, colormap: str, alpha: float) -> np.ndarray:
    if image is None or image.shape != (*intensities.shape, 3):
        shape = None if image is None else list(image.shape)
        raise ValueError(f"an overlay of {list(intensities.shape)} needs the source image of that size, not {shape}")
    table = _blend(colormap, alpha)
    cell = (_gray(image).astype(np.uint16) << 8) | intensities
    return table.reshape(-1, 3).take(cell, axis=0)


# ---------------------------------------------------------------------------------------------------------- styles


@dataclass(frozen=True)
class Style:
    """How one attribution becomes pixels.

    Attributes
    ----------
    summary : str
        What is measured and what the sign means, for the gallery page.
    measure : attribution float32 [h, w, c] -> field float32 [h, w] or [h, w, 3]
        What is measured at each pixel, and what has to be resized when the picture has another size.
    paint : (intensities, image or None, colormap, alpha) -> pixels
        The last step of `colour`.
    centred : bool
        Whether zero is at intensity 128 (the sign is shown) or at 0 (magnitude).
    own_colormap : str or None
        The colormap where the look names none that fits; None where the style has no choice.
    only_colormap : str or None
        The colormap that it always has, so that asking for it is not refused.
    channels : tuple of int
        Of attributions that it can draw; empty where it can draw any.
    uses_alpha : bool
        Whether the look's alpha changes the picture.
    needs_image : bool
        Whether `colour` needs the source image.
    paletted : bool
        Whether the pixels are intensities with a palette, or colours.
    """

    name: str
    summary: str
    measure: Callable[[np.ndarray], np.ndarray]
    paint: Paint
    centred: bool = False
    own_colormap: str | None = None
    only_colormap: str | None = None
    channels: tuple[int, ...] = ()
    uses_alpha: bool = False
    needs_image: bool = False
    paletted: bool = True

    def reduce(self, attribution: np.ndarray) -> np.ndarray:
        """What the style measures of an attribution [h, w, c], at the same size.

        Raises
        ------
        UsageError
            It cannot draw so many channels (`channels`).
        ValueError
            This is no attribution.
        """
        attribution = np.asarray(attribution, dtype=np.float32)
        if attribution.ndim != 3 or attribution.size == 0:
            raise ValueError(f"an attribution is [h, w, c] with at least one value, not {list(attribution.shape)}")
        check_channels([self.name], attribution.shape[-1])
        with np.errstate(over="ignore", invalid="ignore"):
            return self.measure(attribution)

    def colormap_for(self, look: Look) -> str | None:
        """The colormap this style draws with under `look`; None where it has no choice.

        A diverging map fits `signed` and no other style: elsewhere its middle would pass for something special.
        """
        if self.own_colormap is None:
            return None
        fits = (look.colormap in DIVERGING) == self.centred
        return look.colormap if fits else self.own_colormap

    def limits(self, field: np.ndarray, look: Look) -> Scale | None:
        """The scale of `field` alone.

        It ends at the percentile `look.clip` of the field's absolute values, by nearest rank: a value that occurs.
        Where that value is zero though some are not (one hot pixel), it ends at the largest, so that they show.

        Returns
        -------
        (low, high), the values that intensities 0 and 255 stand for; (c, c) where the field is flat: its values
        differ by less than one step of 255 from zero to its peak; None where it is not finite.
        """
        if not _finite(field):
            return None
        low, high = float(field.min()), float(field.max())
        magnitude = np.abs(field)
        peak = float(magnitude.max())
        if (high - low) * 255 < peak or peak == 0:
            middle = (low + high) / 2 + 0.0  # never -0.0
            return middle, middle
        return _span(_nearest_rank(magnitude, look.clip) or peak, self.centred)

    def share(self, scales: Iterable[Scale | None]) -> Scale | None:
        """One scale for several fields of this style: the widest of theirs, each as `limits` gave it.

        A flat field counts with its value, and is drawn at it; one that is not finite does not count.
        """
        tops = [abs(high) for low, high in filter(None, scales)]
        if not tops:
            return None
        return _span(max(tops), self.centred) if max(tops) > 0 else (0.0, 0.0)

    def colour(
        self,
        field: np.ndarray,
        image: np.ndarray | None = None,
        look: Look = DEFAULT_LOOK,
        scale: Scale | None = None,
    ) -> Picture:
        """Draw `field`.

        Parameters
        ----------
        field : float32 [h, w] or [h, w, 3]
            What `reduce` returned, resized or not.
        image : uint8 [h, w, 3], optional
            The source image at the field's size, where `needs_image`.
        scale : (low, high), optional
            What `limits` or `share` returned; without it, that of `field` itself.

        Returns
        -------
        Picture. A field that is not finite, or whose scale has no extent, is drawn neutral: intensity 0, or 128
        where the sign is shown.
        """
        if not _finite(field):
            scale = None
        elif scale is None:
            scale = self.limits(field, look)
        return Picture(self.painted(self.steps(scale).of(field), image, look), scale, self.legend(look))

    def steps(self, scale: Scale | None) -> Steps:
        """How a field becomes intensities; neutral throughout where the scale has no extent."""
        low, high = scale or (0.0, 0.0)
        return Steps(0.0 if low == high else high, ZERO if self.centred else 0)

    def painted(self, intensities: np.ndarray, image: np.ndarray | None, look: Look) -> np.ndarray:
        """Intensities become pixels, each by itself: of a large picture a few rows at a time."""
        return self.paint(intensities, image, self.colormap_for(look) or "gray", look.alpha)

    def legend(self, look: Look) -> np.ndarray:
        """The colour of each intensity, of an overlay over mid-gray, uint8 [256, 3]; of colours that of one channel."""
        colormap = self.colormap_for(look) or "gray"
        return _blend(colormap, look.alpha)[128] if self.needs_image else COLORMAPS[colormap]


@dataclass(frozen=True)
class Sheet:
    """Every mode of one target on one picture, beside the source image.

    Attributes
    ----------
    maps : Style
        How each map on it is drawn.
    size_of : (height, width) -> (height, width)
        The size at which a picture of that size is shown on it.
    compose : (image, columns, lines, notes, shared) -> uint8 [H, W, 3]
        Puts image and maps together, with their captions and numbers: see `panel.panel`.
    """

    name: str
    summary: str
    maps: Style
    size_of: Callable[[int, int], tuple[int, int]]
    compose: Callable[..., np.ndarray]


STYLES: dict[str, Style] = {
    style.name: style
    for style in (
        Style(
            "heatmap",
            "absolute maximum over channels, dark = none, bright = strong",
            _strongest,
            _as_they_are,
            own_colormap="inferno",
        ),
        Style(
            "gray",
            "absolute maximum over channels in gray, black = none, white = strong",
            _strongest,
            _as_they_are,
            only_colormap="gray",
        ),
        Style(
            "signed",
            "sum over channels, warm = positive (more raises the score), cool = negative, neutral = zero",
            _sum,
            _as_they_are,
            centred=True,
            own_colormap="blue-white-red",
        ),
        Style(
            "rgb",
            "each channel by itself, mid-gray = zero, lighter = positive, darker = negative",
            _channels,
            _as_they_are,
            centred=True,
            channels=(3, 1),
            paletted=False,
        ),
        Style(
            "overlay",
            "the heatmap over a gray copy of the image, the more opaque the stronger",
            _strongest,
            _over_image,
            own_colormap="inferno",
            uses_alpha=True,
            needs_image=True,
            paletted=False,
        ),
    )
}
"""Name -> how one map is drawn."""


def _size_in_panel(height: int, width: int) -> tuple[int, int]:
    from gradviz_cli.draw import panel  # it draws with Pillow, which a run with nothing to do does without

    return panel.size_in_panel(height, width)


def _panel(*given: Any, **named: Any) -> np.ndarray:
    from gradviz_cli.draw import panel

    return panel.panel(*given, **named)


SHEETS: dict[str, Sheet] = {
    sheet.name: sheet
    for sheet in (
        Sheet(
            "panel",
            "the input and the heatmap of every mode side by side",
            STYLES["heatmap"],
            _size_in_panel,
            _panel,
        ),
    )
}
"""Name -> how every mode of a target is put on one picture; with those of STYLES, the choices of --style."""


def names() -> list[str]:
    """The choices of --style."""
    return [*STYLES, *SHEETS]


def maps_of(name: str) -> Style:
    """The style that draws the maps: the one of this name, or that of the sheet of this name."""
    return SHEETS[name].maps if name in SHEETS else STYLES[name]


def needs_image(name: str) -> bool:
    """Whether a picture shows the source image itself."""
    return name in SHEETS or STYLES[name].needs_image


def check_channels(styles: Iterable[str], channels: int) -> None:
    """Refuse a style that cannot draw an attribution of so many channels.

    Raises
    ------
    UsageError
        Names the style and those that can.
    """
    for name in styles:
        able = maps_of(name).channels
        if able and channels not in able:
            wanted = " (or ".join(map(str, able)) + ")" * (len(able) - 1)
            others = [other for other in STYLES if not STYLES[other].channels]
            raise UsageError(
                f"--style {name}: the model input has {channels} channels, not {wanted}",
                f"choose --style {', '.join(others[:-1])} or {others[-1]}",
            )


def check_use(styles: Iterable[str], look: Look, given: Iterable[str], choices: Iterable[str] | None = None) -> None:
    """Refuse what of `look` was `given` though none of the styles uses it; `choices` could be asked for, by default all.

    Raises
    ------
    UsageError
        An option would change nothing; names it and the styles that it is for.
    """
    every = {name: maps_of(name) for name in (names() if choices is None else choices)}
    uses = {
        "colormap": {n for n, s in every.items() if look.colormap in (s.colormap_for(look), s.only_colormap)},
        "alpha": {n for n, s in every.items() if s.uses_alpha},
    }
    for option in uses.keys() & set(given):
        if not uses[option] & set(styles):
            value = getattr(look, option)
            raise UsageError(
                f"--{option} {value if option == 'colormap' else f'{value:g}'}: --style {', '.join(styles)} cannot use it",
                f"leave it out, or add --style {' or '.join(sorted(uses[option]))}",
            )
