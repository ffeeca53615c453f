"""Our own colormaps, perceptually even, and which of them have a neutral middle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

ZERO = 128  # the intensity that stands for zero where the sign is shown
# Our own maps, drawn after the look of the families whose names they bear; no table is copied. Each is a Bezier curve
# in the (a*, b*) plane of CIELAB (CIE 1976, D65), walked at constant speed while L* rises linearly. So every step
# has the same length in CIELAB, and lightness alone orders the map: it survives a gray printer and every kind of
# colour-vision deficiency. The control points are chosen to keep the whole curve inside sRGB; nothing is clipped.
# `gray` is the intensity itself, so that such a picture read as plain gray gives the same numbers.


@dataclass(frozen=True)
class _Curve:
    """L* from `start` to `end`, (a*, b*) along the Bezier curve of `points`."""

    start: float
    end: float
    points: tuple[tuple[int, int], ...]


_SEQUENTIAL = {
    "inferno": (
        "black, purple, orange, pale yellow",
        _Curve(0, 98, ((0, 0), (43, -52), (75, -16), (69, 56), (29, 92), (-14, 42))),
    ),
    "magma": (
        "black, violet, pink, cream",
        _Curve(0, 98, ((0, 0), (30, -51), (66, -42), (79, 5), (55, 35), (-7, 19))),
    ),
    "viridis": (
        "violet, teal, green, yellow",
        _Curve(12, 95, ((39, -38), (0, -36), (-23, -18), (-41, 17), (-39, 39), (-16, 66))),
    ),
    "cividis": (
        "navy, gray, yellow: the same to every eye",
        _Curve(10, 95, ((21, -39), (3, -30), (0, -3), (0, 23), (-11, 54))),
    ),
}
# Both arms start at the same gray and cover the same lightness, so that +x and -x weigh the same.
_DIVERGING = {
    "blue-white-red": (
        "negative blue, zero white, positive red",
        _Curve(97, 30, ((0, 0), (-5, -36), (-6, -49), (9, -42), (15, -45))),
        _Curve(97, 30, ((0, 0), (32, 32), (55, 46), (57, 42), (37, 25))),
    ),
    "blue-black-orange": (
        "negative blue, zero black, positive orange: for dark pages",
        _Curve(10, 92, ((0, 0), (10, -40), (3, -58), (-11, -46), (-15, -10))),
        _Curve(10, 92, ((0, 0), (42, 26), (52, 50), (31, 57), (-4, 39))),
    ),
}
# XYZ of D65 white, and XYZ -> linear sRGB (IEC 61966-2-1)
_WHITE = (0.950456, 1.0, 1.089058)
_XYZ_TO_RGB = (
    (3.2409699, -1.5373832, -0.4986108),
    (-0.9692436, 1.8759675, 0.0415551),
    (0.0556301, -0.2039770, 1.0569715),
)


def _srgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB [n, 3] -> sRGB in 0..255, not rounded."""
    lightness, a, b = lab.T
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE
    linear = np.clip(xyz @ np.array(_XYZ_TO_RGB).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _walk(curve: _Curve, steps: int) -> np.ndarray:
    """`steps` colours along `curve`, uint8 [steps, 3]: L* linear, (a*, b*) at constant speed."""
    t = np.linspace(0, 1, 1001)[:, None]
    degree = len(curve.points) - 1
    plane = sum(
        math.comb(degree, k) * t**k * (1 - t) ** (degree - k) * np.array(point) for k, point in enumerate(curve.points)
    )
    travelled = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(plane, axis=0).T))])
    stops = np.linspace(0, travelled[-1], steps)
    a, b = (np.interp(stops, travelled, plane[:, k]) for k in (0, 1))
    lab = np.stack([np.linspace(curve.start, curve.end, steps), a, b], axis=-1)
    return np.rint(_srgb(lab)).astype(np.uint8)


def _diverge(negative: _Curve, positive: _Curve) -> np.ndarray:
    """Two arms that meet at the intensity ZERO; 0 repeats 1, so that both arms have 127 steps."""
    down, up = _walk(negative, 128), _walk(positive, 128)
    return np.concatenate([down[-1:], down[:0:-1], up])


def _gray() -> np.ndarray:
    """The intensity itself."""
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


class _Colormaps(Mapping[str, "np.ndarray"]):
    """Tables that are drawn when they are first asked for, as most runs use one of them, and many only their names."""

    def __init__(self, drawn: Mapping[str, Callable[[], np.ndarray]]):
        self._drawn = drawn
        self._kept: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._kept:
            table = self._drawn[name]()
            table.flags.writeable = False
            self._kept[name] = table
        return self._kept[name]

    def __contains__(self, name: object) -> bool:
        return name in self._drawn

    def __iter__(self) -> Iterator[str]:
        return iter(self._drawn)

    def __len__(self) -> int:
        return len(self._drawn)


COLORMAPS: Mapping[str, np.ndarray] = _Colormaps(
    {
        **{name: partial(_walk, curve, 256) for name, (_, curve) in _SEQUENTIAL.items()},
        "gray": _gray,
        **{name: partial(_diverge, *arms) for name, (_, *arms) in _DIVERGING.items()},
    }
)
"""Name -> uint8 [256, 3]: the colour of each intensity."""
COLORMAP_SUMMARIES: dict[str, str] = {
    name: "black to white" if name == "gray" else (_SEQUENTIAL | _DIVERGING)[name][0] for name in COLORMAPS
}
"""Name -> its colours in words, from the lowest intensity to the highest."""
DIVERGING: frozenset[str] = frozenset(_DIVERGING)
"""The colormaps with a neutral middle: those that `signed` can use, and the only ones."""
