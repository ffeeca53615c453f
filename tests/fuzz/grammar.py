"""Random programs: what a network computes, as a value that knows neither TensorFlow nor gradviz.

A `Program` is a tree of small frozen steps. The oracle evaluates it in float64, the writers turn it into SavedModels. Each
step holds the seed of its own weights, so that a program stays the same network when other steps are taken out, and
every step fits behind every other. `repr` of a program is the expression that builds it again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fuzz.spelled import SPELLINGS

WRITERS = ("module", "tf1", "keras3", "keras2")
HALVES = ("float16", "bfloat16")


# --- steps ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conv:
    """`filters` 0: as many as come in. `groups` above 1 is a grouped convolution where the channels can be divided."""

    seed: int
    filters: int = 0
    size: int = 3
    stride: int = 1
    padding: str = "SAME"
    dilation: int = 1
    bias: bool = True
    groups: int = 1


@dataclass(frozen=True)
class Depthwise:
    seed: int
    size: int = 3
    stride: int = 1
    multiplier: int = 1


@dataclass(frozen=True)
class Separable:
    seed: int
    filters: int = 6
    size: int = 3


@dataclass(frozen=True)
class Transposed:
    """A transposed convolution."""

    seed: int
    filters: int = 4
    size: int = 3
    stride: int = 2


@dataclass(frozen=True)
class Pool:
    kind: str = "max"
    size: int = 2
    stride: int = 2
    padding: str = "SAME"


@dataclass(frozen=True)
class Norm:
    """`kind`: batch (one operation), spelled (batch norm as arithmetic), layer, affine (a number a channel)."""

    seed: int
    kind: str = "batch"


@dataclass(frozen=True)
class Act:
    """An activation in one of its spellings; a weighted step before it, so that no two stand in a row.

    `native`: by the name that a library has for it, where it has one.
    """

    seed: int
    spelling: str
    parameter: float = 0.25
    native: bool = False


@dataclass(frozen=True)
class Dense:
    """Behind the positions: [N, C] to [N, units]."""

    seed: int
    units: int = 8


@dataclass(frozen=True)
class Shuffle:
    """The channels of two halves in turn."""


@dataclass(frozen=True)
class Crop:
    """A row above and a column on the right less."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of 2 x 2 positions become channels."""


@dataclass(frozen=True)
class Drop:
    """Dropout, which does nothing in a network that serves."""


@dataclass(frozen=True)
class Residual:
    body: tuple[Any, ...]


@dataclass(frozen=True)
class Branches:
    """Bodies side by side; `join`: concat, add or multiply."""

    bodies: tuple[tuple[Any, ...], ...]
    join: str = "concat"


@dataclass(frozen=True)
class Split:
    """Half of the channels through one activation, half through the other."""

    first: Act
    second: Act


@dataclass(frozen=True)
class Resize:
    factor: int = 2
    method: str = "nearest"


@dataclass(frozen=True)
class Pad:
    amount: int = 1
    mode: str = "CONSTANT"


@dataclass(frozen=True)
class Turned:
    """An activation behind a bias, both channels first."""

    seed: int
    act: Act


@dataclass(frozen=True)
class Squeeze:
    """Squeeze and excitation: channels weighed by a small network of their means."""

    seed: int
    act: Act
    gate: str = "sigmoid"


@dataclass(frozen=True)
class Attention:
    """One head over all positions, with a shortcut."""

    seed: int
    width: int = 4


@dataclass(frozen=True)
class Loop:
    """`body` `count` times, in a while loop."""

    body: tuple[Any, ...]
    count: int = 2


@dataclass(frozen=True)
class Cond:
    """One of two bodies, by the sign of the mean of all numbers (of one image)."""

    yes: tuple[Any, ...]
    no: tuple[Any, ...]


@dataclass(frozen=True)
class Mapped:
    """`body` on each image by itself, in a map_fn."""

    body: tuple[Any, ...]


@dataclass(frozen=True)
class Nested:
    """`body` in a function or model of its own; `how`: plain, noinline or jit."""

    body: tuple[Any, ...]
    how: str = "plain"


# --- what comes before the first weights ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rescale:
    scale: float
    offset: float


@dataclass(frozen=True)
class Standardise:
    """Less a mean, by a deviation, a number a channel."""

    seed: int


@dataclass(frozen=True)
class ClipImage:
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Flip:
    """Mirrored along an axis of [N, H, W, C]; 3 turns RGB into BGR."""

    axis: int = 2


# --- the whole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """`pool`: how positions become one (mean, max, flatten, conv); `tail`: steps behind that; `kind`: what is made of
    the scores."""

    seed: int
    kind: str = "softmax"
    pool: str = "mean"
    classes: int = 4
    tail: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Program:
    """A network, and how it is written.

    Attributes
    ----------
    size : (height, width, channels)
    dtype : str
        Of weights and arithmetic; `mixed_float16` and `mixed_bfloat16` are policies of Keras.
    image : str
        Type of the input: the dtype or uint8.
    cast : int
        How many steps of `front` stand before a uint8 image becomes a float.
    batch : int or None
        Images that the input takes at once, None where open.
    weights : str
        variable, constant; of tf1 also resource.
    """

    writer: str
    front: tuple[Any, ...]
    steps: tuple[Any, ...]
    head: Head
    size: tuple[int, int, int] = (10, 10, 3)
    dtype: str = "float32"
    image: str = "float32"
    layout: str = "NHWC"
    batch: int | None = None
    weights: str = "variable"
    span: tuple[float, float] = (-2.0, 2.0)
    seed: int = 0
    cast: int = 0


def weights_of(step: Any, shape: tuple[int, ...], dtype: str) -> dict[str, np.ndarray]:
    """Name -> weight of a step that gets [N, H, W, C] or [N, C], float64 with the values that `dtype` holds."""
    draw = np.random.default_rng(step.seed)
    c = shape[-1]

    def normal(*size: int, fan: int = 1, mean: float = 0.0, deviation: float = 1.5) -> np.ndarray:
        return rounded(draw.normal(mean, deviation / np.sqrt(fan), size), dtype)

    match step:
        case Conv(size=k):
            groups = groups_of(step, c)
            fan = k * k * c // groups
            found = {"kernel": normal(k, k, c // groups, filters_of(step, c), fan=fan)}
            return {**found, "bias": normal(filters_of(step, c), deviation=0.4)} if step.bias else found
        case Depthwise(size=k, multiplier=m):
            return {"kernel": normal(k, k, c, m, fan=k * k), "bias": normal(c * m, deviation=0.4)}
        case Separable(filters=f, size=k):
            depth, point = normal(k, k, c, 1, fan=k * k), normal(1, 1, c, f, fan=c)
            return {"depth": depth, "point": point, "bias": normal(f, deviation=0.4)}
        case Transposed(filters=f, size=k):
            return {"kernel": normal(k, k, f, c, fan=k * k * c // 4), "bias": normal(f, deviation=0.4)}
        case Norm(kind="layer" | "affine"):
            return {"gamma": normal(c), "beta": normal(c, deviation=0.4)}
        case Norm():
            gamma, beta, mean = normal(c), normal(c, deviation=0.4), normal(c, deviation=0.5)
            return {"gamma": gamma, "beta": beta, "mean": mean, "variance": rounded(draw.uniform(0.3, 2, c), dtype)}
        case Dense(units=units):
            return {"matrix": normal(c, units, fan=c), "bias": normal(units, deviation=0.4)}
        case Act():
            return {"channels": rounded(draw.uniform(0.1, 1.9, c), dtype)}
        case Turned():
            return {"bias": normal(c, deviation=0.4)}
        case Squeeze():
            small = max(2, c // 2)
            return {
                **{"down": normal(c, small, fan=c), "down_bias": normal(small, deviation=0.4)},
                **{"up": normal(small, c, fan=small), "up_bias": normal(c, deviation=0.4)},
            }
        case Attention(width=d):
            return {name: normal(c, d, fan=c) for name in ("query", "key", "value")} | {"out": normal(d, c, fan=d)}
        case Standardise():
            return {
                "mean": rounded(draw.uniform(0.2, 0.7, c), dtype),
                "deviation": rounded(draw.uniform(0.2, 0.5, c), dtype),
            }
        case Head():
            return {
                "matrix": normal(c, step.classes, fan=c, deviation=2.0),
                "bias": normal(step.classes, deviation=0.3),
            }
    raise TypeError(step)


def filters_of(step: Conv, channels: int) -> int:
    """How many channels a convolution makes."""
    wanted = step.filters or channels
    groups = groups_of(step, channels)
    return -(-wanted // groups) * groups


def groups_of(step: Conv, channels: int) -> int:
    return step.groups if channels % step.groups == 0 else 1


def rounded(value: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest numbers that a dtype holds, as float64; the policies of Keras hold their weights in float32."""
    if dtype == "bfloat16":
        bits = np.asarray(value, np.float32).view(np.uint32)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)  # to nearest, ties to even
        return bits.view(np.float32).astype(np.float64)
    kept = {"float16": np.float16, "float64": np.float64}.get(dtype, np.float32)
    return np.asarray(value).astype(kept).astype(np.float64)


# --- drawing one ------------------------------------------------------------------------------------------------------

# A plain CNN comes often; what is odd comes once in a while, in each kind of program.
HEADS = {
    **{
        "softmax": 6,
        "logits": 3,
        "log_softmax": 1,
        "sigmoid": 2,
        "one": 2,
        "squeezed": 1,
        "spelled": 2,
        "argmax": 1,
        "trailing": 1,
    },
    **{"two": 1, "percent": 1, "averaged": 1, "segmentation": 2, "temperature": 1, "nchw": 1},
}


def weighted(draw: random.Random, table: dict[str, int]) -> str:
    return draw.choices(list(table), list(table.values()))[0]


def program(seed: int) -> Program:
    """The program of a seed."""
    draw = random.Random(seed)
    writer = weighted(draw, {"module": 5, "tf1": 6, "keras3": 2, "keras2": 1})
    dtype = weighted(draw, {"float32": 16, "float64": 2, "float16": 1, "bfloat16": 1})
    if writer.startswith("keras") and dtype in HALVES:
        dtype = f"mixed_{dtype}"
    size = (draw.randint(8, 13), draw.randint(8, 13), draw.choice((3, 3, 3, 1)))
    made = Program(writer, (), (), Head(0), size=size, dtype=dtype, image=input_type(dtype), seed=seed)
    made = _with_front(draw, made)
    made = _with_batch(draw, made)
    grown = _Growing(draw, made)
    made = replace(made, steps=grown.steps(draw.randint(1, 3)), head=grown.head())
    if writer == "tf1":
        made = replace(made, weights=weighted(draw, {"variable": 3, "resource": 3, "constant": 2}))
    elif writer == "module":
        made = replace(made, weights=weighted(draw, {"variable": 4, "constant": 1}))
    return made


def input_type(dtype: str) -> str:
    return "float32" if dtype.startswith("mixed") else dtype


def _with_front(draw: random.Random, made: Program) -> Program:
    moves: list[Any] = [Flip(axis) for axis in (1, 2, 3) if draw.random() < 0.2]
    if draw.random() < 0.1:
        moves.append(Resize(2, draw.choice(("nearest", "bilinear"))))
    if draw.random() < 0.5:
        return replace(made, front=tuple(moves) if draw.random() < 0.2 else ())
    kind = draw.choice(("unit", "signed", "standard", "clip", "uint8"))
    by = 2.0**-7 if made.dtype not in ("float32", "float64") else 1 / 127.5
    if kind == "unit":
        front, span = [Rescale(by / 2, 0.0)], (0.0, 255.0)
    elif kind == "signed":
        front, span = [Rescale(by, -1.0)], (0.0, 255.0)
    elif kind == "standard":
        front, span = [Standardise(draw.randrange(1 << 30))], (0.0, 1.0)
    elif kind == "clip":
        front, span = [ClipImage(), Rescale(4.0, -2.0)], (-0.2, 1.2)
    else:
        front, span = [Rescale(by, -1.0)], (0.0, 255.0)
        first = draw.random() < 0.5 and not made.writer.startswith("keras")
        made = replace(made, image="uint8", cast=len(moves) if first else 0)
    return replace(made, front=tuple(moves + front if made.cast else front + moves), span=span)


def _with_batch(draw: random.Random, made: Program) -> Program:
    batch = 1 if draw.random() < 0.3 else None
    layout = "NCHW" if draw.random() < 0.1 and made.writer in ("module", "tf1") and made.image != "uint8" else "NHWC"
    return replace(made, batch=batch, layout=layout)


@dataclass
class _Growing:
    draw: random.Random
    made: Program

    def seed(self) -> int:
        return self.draw.randrange(1 << 30)

    def act(self) -> Act:
        half = self.made.dtype in HALVES or self.made.dtype.startswith("mixed")
        known = {name: one.weight for name, one in SPELLINGS.items() if one.exact or not half}
        spelling = weighted(self.draw, known)
        parameter = 0.25 if half else round(self.draw.uniform(0.1, 0.9), 3)
        return Act(self.seed(), spelling, parameter, self.draw.random() < 0.5)

    def steps(self, count: int) -> tuple[Any, ...]:
        found: list[Any] = [Conv(self.seed(), self.draw.choice((4, 6, 8))), self.act()]
        for _ in range(count):
            found += self.block()
        return tuple(found)

    def head(self) -> Head:
        kind = weighted(self.draw, HEADS)
        pool = weighted(self.draw, {"mean": 4, "max": 1, "flatten": 3, "conv": 2})
        classes = 1 if kind in ("one", "squeezed") else self.draw.randint(3, 6)
        tail: tuple[Any, ...] = ()
        if pool != "conv" and kind != "segmentation" and self.draw.random() < 0.3:
            norm = [Norm(self.seed(), self.draw.choice(("spelled", "affine")))] if self.draw.random() < 0.3 else []
            tail = (Dense(self.seed()), *norm, self.act(), *([Drop()] if self.draw.random() < 0.5 else []))
        return Head(self.seed(), kind, pool, classes, tail)

    def conv(self, filters: int = 0) -> Conv:
        draw = self.draw
        return Conv(self.seed(), filters, draw.choice((1, 3, 3)), bias=draw.random() < 0.8)

    def norm(self) -> list[Norm]:
        kinds = {"batch": 5, "spelled": 3, "layer": 1, "affine": 1}
        return [Norm(self.seed(), weighted(self.draw, kinds))] if self.draw.random() < 0.5 else []

    def body(self, filters: int = 0) -> tuple[Any, ...]:
        """Steps that keep height and width, and the channels too where `filters` is 0."""
        found = [self.conv(filters), *self.norm(), self.act()]
        if not filters and self.draw.random() < 0.25:  # nothing but arithmetic between the shortcut and the activation
            found = [Norm(self.seed(), self.draw.choice(("spelled", "affine"))), self.act()]
        if self.draw.random() < 0.4:
            found += [self.conv(), *self.norm()]
        return tuple(found)

    def weighing(self) -> list[Any]:
        """One step with weights, of any kind."""
        draw = self.draw
        kind = draw.choice(
            ("conv", "conv", "strided", "valid", "dilated", "grouped", "depthwise", "separable", "transposed")
        )
        f = draw.choice((4, 6, 8))
        match kind:
            case "strided":
                return [Conv(self.seed(), f, draw.choice((1, 2, 3)), stride=2)]
            case "valid":
                return [Conv(self.seed(), f, draw.choice((1, 2, 3)), padding="VALID")]
            case "dilated":
                dilation = 1 if self.made.dtype == "float64" else 2  # see PENDING in test_found.py
                return [Conv(self.seed(), f, 3, dilation=dilation)]
            case "grouped":
                return [Conv(self.seed(), f, 3, groups=2)]
            case "depthwise":
                return [Depthwise(self.seed(), 3, draw.choice((1, 2)), draw.choice((1, 1, 2)))]
            case "separable":
                return [Separable(self.seed(), f)]
            case "transposed":
                return [Pool("average"), Transposed(self.seed(), f, draw.choice((2, 3)))]
        return [self.conv(f)]

    def block(self) -> list[Any]:
        draw = self.draw
        kinds = {
            **{"plain": 8, "pool": 3, "residual": 3, "branches": 2, "split": 1, "resize": 1, "pad": 1, "turned": 1},
            **{"squeeze": 2, "attention": 1, "norm": 1, "nested": 2, "loop": 1, "cond": 1, "mapped": 1},
            **{"shuffle": 1, "crop": 1, "blocks": 1, "drop": 1},
        }
        match weighted(draw, kinds):
            case "pool":
                padding = draw.choice(("SAME", "VALID"))
                return [Pool(draw.choice(("max", "average")), draw.choice((2, 3)), draw.choice((1, 2)), padding)]
            case "residual":
                return [Residual(self.body()), *([self.act()] if draw.random() < 0.5 else [])]
            case "branches":
                join = draw.choice(("concat", "concat", "add", "multiply"))
                filters = [draw.choice((2, 4)) if join == "concat" else 4 for _ in range(draw.choice((2, 2, 3)))]
                return [Branches(tuple(self.body(f) for f in filters), join), self.conv(6)]
            case "split":
                return [self.conv(6), Split(self.act(), self.act())]
            case "resize":
                return [Pool("average"), Resize(2, draw.choice(("nearest", "bilinear"))), self.conv(6), self.act()]
            case "pad":
                return [
                    Pad(draw.choice((1, 2)), draw.choice(("CONSTANT", "REFLECT"))),
                    Conv(self.seed(), 6, 3, 2, "VALID"),
                    self.act(),
                ]
            case "turned":
                return [self.conv(6), Turned(self.seed(), self.act())]
            case "squeeze":
                return [self.conv(6), Squeeze(self.seed(), self.act(), draw.choice(("sigmoid", "hard")))]
            case "attention":
                return [Pool("average"), Attention(self.seed())]
            case "norm":
                return [Norm(self.seed(), draw.choice(("batch", "spelled", "layer"))), self.conv(6), self.act()]
            case "shuffle":
                return [Conv(self.seed(), 6, groups=2), Shuffle(), Conv(self.seed(), 6, groups=2), self.act()]
            case "crop" | "blocks" | "drop" as kind:
                return [{"crop": Crop(), "blocks": Blocks(), "drop": Drop()}[kind], self.conv(6), self.act()]
            case "nested":
                return [Nested(self.body(6), draw.choice(("plain", "noinline", "jit")))]
            case "loop" if not self.made.writer.startswith("keras"):
                return [Loop((Norm(self.seed(), "affine"), self.conv(), self.act()), draw.choice((1, 2, 3)))]
            case "cond" if self.made.batch == 1 and not self.made.writer.startswith("keras"):
                return [Cond(self.body(), self.body())]
            case "mapped" if not self.made.writer.startswith("keras"):
                return [Mapped(self.body())]
        return [*self.weighing(), *self.norm(), self.act()]
