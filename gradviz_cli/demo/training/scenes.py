"""Scenes with a known answer: what the embedded model is trained on, and what `gradviz demo` shows.

A scene is one to three objects on a textured background, among clutter that means nothing. `compose` makes up a scene
from a seed, `draw` turns it into pixels at any size, together with one mask per object. The first object is the main
one and gives the scene its label; the others ("companions") are of other classes, and have at most `COMPANION` of its
radius and half of its area, so "the largest object" is never a close call. Objects do not touch one another.

Lengths are in short sides of the picture, so that a scene looks the same at every size.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

COMPANION = 0.6  # largest radius of a companion, as a share of the main object's
MARGIN = 0.03  # least distance between an object and the edge of the picture, or the next object
SUPERSAMPLING = 4  # outlines are drawn that much larger, then averaged

Colour = tuple[float, float, float]  # RGB in 0..1
Pair = tuple[float, float]
Paint = Callable[[ImageDraw.ImageDraw, float], None]


@dataclass(frozen=True)
class Texture:
    """A pattern and the two colours it runs between; `scale` 2 is twice as fine."""

    pattern: str
    seed: int
    colours: tuple[Colour, Colour]
    scale: float = 1.0


@dataclass(frozen=True)
class Thing:
    """One object: `kind` is its class, `detail` two numbers in 0..1 that vary the outline, `angle` in radians."""

    kind: str
    x: float
    y: float
    radius: float
    angle: float
    detail: tuple[float, float]
    texture: Texture
    shadow: float = 0.4  # darkness of the shadow it throws, 0..1


@dataclass(frozen=True)
class Clutter:
    """Lines, specks and scribbles behind the objects; `amounts` counts them in this order."""

    seed: int
    amounts: tuple[int, int, int]
    colours: tuple[Colour, Colour]


@dataclass(frozen=True)
class Scene:
    """A picture before it has a size; `frame` is width and height, `light` the direction it comes from (radians)."""

    frame: tuple[float, float]
    background: Texture
    clutter: Clutter
    objects: tuple[Thing, ...]
    light: float
    grain: float  # standard deviation of the noise of each pixel, in 0..1
    grain_seed: int

    @property
    def label(self) -> int:
        """Index in `CLASSES` of the main object."""
        return CLASSES.index(self.objects[0].kind)


@dataclass(frozen=True)
class Picture:
    """`image` uint8 `[H, W, 3]`; `masks` bool `[objects, H, W]`, true on every pixel the object touches."""

    image: np.ndarray
    masks: np.ndarray


# --- outlines: (detail, detail) -> closed polygon [n, 2] inside the unit circle -----------------------------------


def _arc(start: float, stop: float, points: int = 72) -> np.ndarray:
    angles = np.linspace(start, stop, points)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _arrow(a: float, b: float) -> np.ndarray:
    shaft, head, wide = 0.13 + 0.1 * a, 0.25 - 0.3 * b, 0.6 + 0.15 * a
    half = [(-0.97, -shaft), (head, -shaft), (head, -wide)]
    return np.array([*half, (1, 0), *[(x, -y) for x, y in reversed(half)]])


def _crescent(a: float, b: float) -> np.ndarray:
    """The unit disc without a disc of radius `cut` whose centre lies `shift` to the right."""
    cut = 0.85 + 0.08 * a
    shift = cut - 1 + 0.42 + 0.2 * b
    x = (1 - cut**2 + shift**2) / (2 * shift)
    y = np.sqrt(1 - x**2)
    outer, inner = np.arctan2(y, x), np.arctan2(y, x - shift)
    return np.concatenate([_arc(outer, 2 * np.pi - outer), (shift, 0) + cut * _arc(2 * np.pi - inner, inner)])


def _cross(a: float, b: float) -> np.ndarray:
    arm, reach = 0.2 + 0.12 * a, 0.94
    quarter = np.array([(reach, -arm), (reach, arm), (arm, arm)])
    turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)]) * (1, 1 - 0.15 * b)


def _disc(a: float, b: float) -> np.ndarray:
    return _arc(0, 2 * np.pi) * (1, 1 - 0.15 * a)


def _flower(a: float, b: float) -> np.ndarray:
    petals, depth = 5 + int(3.99 * a), 0.32 + 0.12 * b
    angles = np.linspace(0, 2 * np.pi, 240)
    return _arc(0, 2 * np.pi, 240) * (1 - depth * (1 - np.abs(np.cos(petals * angles / 2)) ** 0.8))[:, None]


def _heart(a: float, b: float) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 120)
    x = 16 * np.sin(t) ** 3 * (0.9 + 0.15 * a)
    y = 13 * np.cos(t) - (4 + 2 * b) * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, 2.5 - y], axis=1) / 18.3 + (0, -0.13)


def _leaf(a: float, b: float) -> np.ndarray:
    s = np.linspace(0, 1, 60)
    x, y = 1.6 * s - 0.6, (0.36 + 0.16 * a) * np.sin(np.pi * s ** (0.7 + 0.3 * b))
    stem = [(-0.58, 0.05), (-0.99, 0.04), (-0.99, -0.04), (-0.58, -0.05)]
    return np.concatenate([np.stack([x, -y], axis=1), np.stack([x, y], axis=1)[::-1], stem])


def _ring(a: float, b: float) -> np.ndarray:
    hole = 0.5 + 0.2 * a
    return np.concatenate([_arc(0, 2 * np.pi), hole * _arc(2 * np.pi, 0)]) * (1, 1 - 0.12 * b)


def _square(a: float, b: float) -> np.ndarray:
    """A superellipse of high degree: a square with more or less rounded corners."""
    degree = 8 + 30 * a
    circle = _arc(0, 2 * np.pi, 121)
    return 0.71 * np.sign(circle) * np.abs(circle) ** (2 / degree) * (1, 1 - 0.15 * b)


def _star(a: float, b: float) -> np.ndarray:
    points, inner = 5 + int(1.5 * a), 0.4 + 0.12 * b
    return _arc(0, 2 * np.pi, 2 * points + 1) * np.where(np.arange(2 * points + 1) % 2, inner, 1)[:, None]


def _triangle(a: float, b: float) -> np.ndarray:
    lean, wide = 0.35 * (a - 0.5), 0.3 * (b - 0.5)
    angles = np.array([-np.pi / 2 + lean, np.pi / 6 + wide, 5 * np.pi / 6 - wide])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


OUTLINES = {
    "arrow": _arrow,
    "crescent": _crescent,
    "cross": _cross,
    "disc": _disc,
    "flower": _flower,
    "heart": _heart,
    "leaf": _leaf,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}
CLASSES = tuple(OUTLINES)


def _area(kind: str, detail: tuple[float, float]) -> float:
    """Area of the outline at radius 1 (shoelace formula)."""
    x, y = OUTLINES[kind](*detail).T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


# --- patterns: (canvas, rng, scale) -> [H, W] in 0..1 --------------------------------------------------------------


@dataclass(frozen=True)
class Canvas:
    """The pixels of a picture, and where they lie."""

    width: int
    height: int

    @property
    def short(self) -> int:
        return min(self.width, self.height)

    @cached_property
    def x(self) -> np.ndarray:
        return ((np.arange(self.width, dtype=np.float32) + 0.5) / self.short)[None, :]

    @cached_property
    def y(self) -> np.ndarray:
        return ((np.arange(self.height, dtype=np.float32) + 0.5) / self.short)[:, None]

    def across(self, angle: float) -> np.ndarray:
        """Distance along a direction `[H, W]`."""
        return math.cos(angle) * self.x + math.sin(angle) * self.y

    def noise(self, rng: np.random.Generator, cells: float, stretch: float = 1.0) -> np.ndarray:
        """Smooth noise `[H, W]`, about -1..1, with `cells` bumps a short side; `stretch` draws them out along x.

        The grid depends on the scene's frame alone, so a scene has the same noise at every size.
        """
        columns, rows = self.width / self.short * cells / stretch, self.height / self.short * cells
        grid = rng.uniform(-1, 1, (int(rows) + 4, int(columns) + 4)).astype(np.float32)
        box = (1, 1, 1 + columns, 1 + rows)
        return np.asarray(Image.fromarray(grid).resize((self.width, self.height), Image.Resampling.BICUBIC, box))

    def edge(self, distance: np.ndarray) -> np.ndarray:
        """0 below, 1 above zero of a distance in short sides, one pixel wide in between."""
        return np.clip(0.5 + distance * self.short, 0, 1)

    def bands(self, along: np.ndarray, count: float, share: float = 0.5) -> np.ndarray:
        """Anti-aliased bands, `count` a short side, of which each fills `share` of its period."""
        phase = np.abs((along * count) % 1 - 0.5)
        return self.edge((phase - 0.5 + share / 2) / count)


def _gradient(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    slope = canvas.across(rng.uniform(0, 2 * np.pi))
    slope = slope + 0.15 * canvas.noise(rng, 2 * scale)
    return (slope - slope.min()) / np.ptp(slope)


def _clouds(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    cells = rng.uniform(2, 4) * scale
    total = sum(canvas.noise(rng, cells * 2**octave) * 0.6**octave for octave in range(4))
    return np.clip(0.5 + 0.5 * total, 0, 1)


def _grain(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    fine = canvas.noise(rng, rng.uniform(18, 50) * scale) + 0.5 * canvas.noise(rng, 3 * scale)
    return np.clip(0.5 + 0.5 * fine, 0, 1)


def _stripes(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    along = canvas.across(rng.uniform(0, np.pi)) + rng.uniform(0, 0.02) * canvas.noise(rng, 4 * scale)
    return canvas.bands(along, rng.uniform(4, 10) * scale, rng.uniform(0.3, 0.6))


def _checks(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    angle, count = rng.uniform(0, np.pi), rng.uniform(3, 7) * scale
    rows, columns = (canvas.bands(canvas.across(angle + turn), count) for turn in (0, np.pi / 2))
    return rows + columns - 2 * rows * columns


def _weave(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    angle, count = rng.uniform(0, np.pi), rng.uniform(8, 16) * scale
    warp, weft = (np.sin(2 * np.pi * count * canvas.across(angle + turn)) for turn in (0, np.pi / 2))
    return np.clip(0.5 + 0.3 * (warp + weft) + 0.15 * canvas.noise(rng, 30), 0, 1)


def _dots(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    angle, count = rng.uniform(0, np.pi), rng.uniform(7, 13) * scale
    u, v = ((canvas.across(angle + turn) * count) % 1 - 0.5 for turn in (0, np.pi / 2))
    return canvas.edge((rng.uniform(0.18, 0.3) - np.hypot(u, v)) / count)


def _wood(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    bend = canvas.noise(rng, 1.6 * scale, stretch=4) + 0.12 * canvas.noise(rng, 9 * scale, stretch=6)
    year = (canvas.y * rng.uniform(3, 6) * scale + rng.uniform(1, 2) * bend) % 1
    ring = np.minimum(year / 0.85, (1 - year) / 0.15) ** 1.5  # darkens slowly, then ends at once
    fibre = canvas.noise(rng, 70 * scale, stretch=18) + 0.6 * canvas.noise(rng, 30 * scale, stretch=18)
    return np.clip(0.8 * ring + 0.14 * fibre, 0, 1)


def _water(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    ripple = canvas.y * rng.uniform(5, 9) * scale + 0.9 * canvas.noise(rng, 4 * scale, stretch=2.5)
    crest = 1 - np.abs(np.sin(np.pi * ripple))
    return np.clip(0.8 * crest**1.5 + 0.2 + 0.2 * canvas.noise(rng, 9 * scale, stretch=3), 0, 1)


def _marble(canvas: Canvas, rng: np.random.Generator, scale: float) -> np.ndarray:
    bent = sum(canvas.noise(rng, 2.5 * scale * 2**octave) * 0.6**octave for octave in range(4))
    veins = np.abs(np.sin(np.pi * (2 * scale * canvas.across(rng.uniform(0, np.pi)) + 1.1 * bent)))
    return np.clip(veins**0.6, 0, 1)


PATTERNS = {
    "checks": _checks,
    "clouds": _clouds,
    "dots": _dots,
    "gradient": _gradient,
    "grain": _grain,
    "marble": _marble,
    "stripes": _stripes,
    "water": _water,
    "weave": _weave,
    "wood": _wood,
}


# --- composing -----------------------------------------------------------------------------------------------------


def _colour(rng: np.random.Generator, hue: float, saturation: Pair = (0.1, 0.65), value: Pair = (0.25, 0.95)) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1, rng.uniform(*saturation), rng.uniform(*value))


def _distance(one: Colour, other: Colour) -> float:
    """How different two colours look, roughly: brightness counts most, as it does for the eye."""
    step = np.subtract(one, other)
    return float(np.hypot(1.6 * step @ (0.3, 0.59, 0.11), 0.5 * np.linalg.norm(step)))


def _ground(rng: np.random.Generator, pattern: str) -> Texture:
    hue = rng.uniform()
    first = _colour(rng, hue)
    second = _colour(rng, hue + rng.normal(0, 0.06))
    # Two random colours are often too far apart to see an object before them; draw them together.
    blend = rng.uniform(0.4, 0.9)
    second = tuple(np.add(np.multiply(first, 1 - blend), np.multiply(second, blend)).tolist())
    return Texture(pattern, int(rng.integers(2**31)), (first, second), rng.uniform(0.8, 1.3))


def _skin(rng: np.random.Generator, against: Texture) -> Texture:
    """Texture of an object: of a few colours the one that stands out most from the background."""
    choice = [_colour(rng, rng.uniform(), (0.45, 1), (0.45, 1)) for _ in range(4)]
    base = max(choice, key=lambda colour: min(_distance(colour, other) for other in against.colours))
    hue, saturation, value = colorsys.rgb_to_hsv(*base)
    shade = colorsys.hsv_to_rgb(
        (hue + rng.normal(0, 0.04)) % 1,
        saturation,
        value * rng.uniform(0.65, 1) if value > 0.6 else value * 1.25,
    )
    return Texture(str(rng.choice(list(PATTERNS))), int(rng.integers(2**31)), (base, shade), rng.uniform(0.6, 1.2))


def _thing(rng: np.random.Generator, kind: str, radius: float, against: Texture) -> Thing:
    """An object that has no place yet."""
    detail = (rng.uniform(), rng.uniform())
    return Thing(kind, 0, 0, radius, rng.uniform(0, 2 * np.pi), detail, _skin(rng, against), rng.uniform(0.2, 0.5))


def _place(rng: np.random.Generator, thing: Thing, frame: Pair, others: list[Thing]) -> Thing | None:
    """Put an object where it touches no other; None where no room was found."""
    for _ in range(40):
        x, y = (rng.uniform(thing.radius + MARGIN, side - thing.radius - MARGIN) for side in frame)
        if all(np.hypot(x - o.x, y - o.y) > thing.radius + o.radius + MARGIN for o in others):
            return replace(thing, x=x, y=y)
    return None


def _companions(rng: np.random.Generator, main: Thing, frame: Pair, against: Texture) -> list[Thing]:
    kinds = rng.permutation([kind for kind in CLASSES if kind != main.kind])[: rng.integers(0, 3)]
    placed = [main]
    for kind in kinds.tolist():
        thing = _thing(rng, kind, main.radius * rng.uniform(0.4, COMPANION), against)
        allowed = np.sqrt(0.5 * _area(main.kind, main.detail) / _area(kind, thing.detail)) * main.radius
        found = _place(rng, replace(thing, radius=min(thing.radius, allowed)), frame, placed)
        placed += [found] if found else []
    return placed[1:]


def compose(
    seed: int,
    *,
    aspect: float = 1.0,
    kind: str | None = None,
    pattern: str | None = None,
    grain: float | None = None,
) -> Scene:
    """Make up a scene; the same arguments always give the same one.

    Parameters
    ----------
    seed : int
        Decides everything that the other arguments leave open.
    aspect : float
        Width over height of the picture.
    kind, pattern : str, optional
        Class of the main object (one of `CLASSES`) and background (a key of `PATTERNS`).
    grain : float, optional
        Standard deviation of the noise on each pixel, where 1 is the whole range; between 0 and 0.04 by default.
    """
    rng = np.random.default_rng(seed)
    frame = (max(aspect, 1.0), max(1 / aspect, 1.0))
    # Drawn even where the caller has decided: the rest of the scene then does not depend on it.
    kind_drawn, pattern_drawn, grain_drawn = (
        rng.choice(CLASSES),
        rng.choice(list(PATTERNS)),
        rng.uniform(0, 0.04),
    )
    ground = _ground(rng, pattern or str(pattern_drawn))
    main = _place(rng, _thing(rng, kind or str(kind_drawn), rng.uniform(0.2, 0.4), ground), frame, [])
    assert main is not None  # it is alone as yet
    objects = (main, *_companions(rng, main, frame, ground))
    clutter = Clutter(
        int(rng.integers(2**31)),
        tuple(rng.integers(0, (4, 12, 5)).tolist()),
        (_colour(rng, rng.uniform()), _colour(rng, rng.uniform())),
    )
    light = rng.normal(-0.75 * np.pi, 0.4)  # from the upper left, as a rule
    grain = grain_drawn if grain is None else grain
    return Scene(frame, ground, clutter, objects, light, grain, int(rng.integers(2**31)))


# --- drawing -------------------------------------------------------------------------------------------------------


def _coverage(canvas: Canvas, paint: Paint) -> np.ndarray:
    """How much of each pixel `paint(draw, scale)` fills: float32 `[H, W]` in 0..1; `scale` is pixels a short side."""
    size = (canvas.width * SUPERSAMPLING, canvas.height * SUPERSAMPLING)
    sheet = Image.new("L", size)
    paint(ImageDraw.Draw(sheet), canvas.short * SUPERSAMPLING)
    return np.asarray(sheet.reduce(SUPERSAMPLING), np.float32) / 255


def _filled(canvas: Canvas, polygon: np.ndarray) -> np.ndarray:
    return _coverage(canvas, lambda draw, scale: draw.polygon((polygon * scale).ravel().tolist(), fill=255))


def _blur(array: np.ndarray, radius: float) -> np.ndarray:
    """Three box averages of about `2 * radius + 1` pixels along each axis: close to a Gaussian, exact in float32."""
    reach = max(1, round(radius))
    for _ in range(6):
        total = np.cumsum(np.pad(array, ((reach + 1, reach), (0, 0))), axis=0, dtype=np.float32)
        array = ((total[2 * reach + 1 :] - total[: -2 * reach - 1]) / (2 * reach + 1)).T
    return array


def _textured(canvas: Canvas, texture: Texture) -> np.ndarray:
    rng = np.random.default_rng(texture.seed)
    share = PATTERNS[texture.pattern](canvas, rng, texture.scale)[..., None]
    first, second = np.asarray(texture.colours, np.float32)
    return first + (second - first) * share


def _over(image: np.ndarray, colour: Colour | np.ndarray, share: np.ndarray) -> np.ndarray:
    return image + (np.asarray(colour, np.float32) - image) * share[..., None]


def _scribble(rng: np.random.Generator, frame: np.ndarray, size: float, points: int) -> np.ndarray:
    return rng.uniform(0, 1, 2) * frame + rng.uniform(-size, size, (points, 2))


def _with_clutter(image: np.ndarray, canvas: Canvas, clutter: Clutter, frame: Pair) -> np.ndarray:
    rng = np.random.default_rng(clutter.seed)
    lines, specks, scribbles = clutter.amounts
    long = [_scribble(rng, np.array(frame), 0.7, 2) for _ in range(lines)]
    short = [_scribble(rng, np.array(frame), 0.045, int(rng.integers(3, 6))) for _ in range(scribbles)]
    small = [_scribble(rng, np.array(frame), 0.016, 5) for _ in range(specks)]

    def strokes(draw: ImageDraw.ImageDraw, scale: float) -> None:
        for points in long + short:
            draw.line((points * scale).ravel().tolist(), fill=255, width=max(1, round(0.011 * scale)), joint="curve")

    def dabs(draw: ImageDraw.ImageDraw, scale: float) -> None:
        for points in small:
            draw.polygon((points * scale).ravel().tolist(), fill=255)

    image = _over(image, clutter.colours[0], 0.6 * _coverage(canvas, strokes))
    return _over(image, clutter.colours[1], 0.8 * _coverage(canvas, dabs))


@dataclass(frozen=True)
class Stamp:
    """A square cut around an object: what to put over the picture and how much of it, each `[S, S]` or `[S, S, 3]`."""

    left: int
    top: int
    skin: np.ndarray
    cover: np.ndarray
    shade: np.ndarray


def _stamp(thing: Thing, short: int, light: float) -> Stamp:
    """Draw an object, rounded and lit from `light`, on a canvas of its own."""
    size = thing.radius * short
    canvas = Canvas(*[math.ceil(2.8 * size)] * 2)
    left, top = (math.floor(centre * short - 1.4 * size) for centre in (thing.x, thing.y))
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    outline = OUTLINES[thing.kind](*thing.detail) @ np.array([(cos, sin), (-sin, cos)]) * size
    outline = (outline + (thing.x * short - left, thing.y * short - top)) / canvas.short
    to_light = math.cos(light), math.sin(light)
    cover = _filled(canvas, outline)
    shadow = _filled(canvas, outline - np.multiply(to_light, 0.16 * size / canvas.short))
    height = size * (0.09 * _blur(cover, 0.05 * size) + 0.35 * _blur(cover, 0.16 * size))
    down, right = np.gradient(height)
    facing = -(right * to_light[0] + down * to_light[1])
    skin = _textured(canvas, thing.texture) * (1 + 0.75 * np.clip(facing, -0.7, 0.4))[..., None]
    skin = _over(np.clip(skin, 0, 1), (1, 1, 1), np.clip(1.2 * facing - 0.25, 0, 0.55))
    return Stamp(left, top, skin, cover, thing.shadow * _blur(shadow, 0.06 * size))


def _press(image: np.ndarray, stamp: Stamp) -> np.ndarray:
    """Put a stamp on the image, in place; returns the object's mask, bool `[H, W]`."""
    rows, columns = (slice(max(0, start), start + len(stamp.cover)) for start in (stamp.top, stamp.left))
    under = image[rows, columns]
    height, width = under.shape[:2]
    first_row, first_column = max(0, -stamp.top), max(0, -stamp.left)
    part = slice(first_row, first_row + height), slice(first_column, first_column + width)
    cover, shade = stamp.cover[part], stamp.shade[part]
    dimmed = under * (1 - shade * (1 - cover))[..., None]
    image[rows, columns] = _over(dimmed, stamp.skin[part], cover)
    mask = np.zeros(image.shape[:2], bool)
    mask[rows, columns] = cover > 0
    return mask


def draw(scene: Scene, short: int) -> Picture:
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
    short : int
        Length of the short side in pixels.
    """
    canvas = Canvas(*(round(side * short) for side in scene.frame))
    image = _with_clutter(_textured(canvas, scene.background), canvas, scene.clutter, scene.frame)
    masks = [_press(image, _stamp(thing, short, scene.light)) for thing in scene.objects]
    noise = np.random.default_rng(scene.grain_seed).standard_normal(image.shape, np.float32)
    image = np.rint(255 * np.clip(image + scene.grain * noise, 0, 1)).astype(np.uint8)
    return Picture(image, np.array(masks, bool).reshape(-1, canvas.height, canvas.width))
