"""A function of one number, named by the values that it takes.

Tabulated, an activation says what it is however it is spelled: x * (x > 0), (x + |x|) / 2 and -min(-x, 0) have the values
of a ReLU. What has corners is tested exactly; what is smooth is compared with the closed forms of `SMOOTH`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradviz_cli.worker.analysis.elementwise import distinct, elu, erf, selu, sigmoid, softplus

Array = np.ndarray

# Relative distance at which a function with corners is the one that it is compared with: rounding of float32 constants.
EXACT, NEAR = 2e-6, 1e-5
# The same for smooth ones, between -20 and 20. Half-precision constants (0.0447 for 0.044715) need as much.
ALIKE = 3e-4
WIDEST = 20.0
FURTHEST = 1e3  # where a ReLU opens
LOOKS = (-1.0, 0.0, 1.0)  # where every function is tabulated


@dataclass(frozen=True)
class Form:
    """A named function.

    Attributes
    ----------
    low, high : float or None
        A ReLU, capped or not, is open strictly between these: max(x, c) - c is one that opens at c. One of minus the number is
        open where that is between them. None where each channel has one of its own; where each opens elsewhere, a cap too.
    slope : float or None
        What tells members of a family apart: the slope below 0, the alpha of an ELU, a threshold; -1 of a ReLU of minus the
        number. None where there is nothing to tell, or channels differ.
    """

    name: str
    low: float | None = 0.0
    high: float | None = math.inf
    slope: float | None = None

    @property
    def sign(self) -> int:
        """-1 of a ReLU of minus the number."""
        return -1 if self.slope == -1 else 1


OTHER = Form("other")
RAISED = Form("raised Relu", None)  # max(x, c), of another c for each channel
# What obeys a rule by default.
RELUS = frozenset({"Relu", "CappedRelu"})
# Functions that are an activation where they stand by themselves.
ACTIVATIONS = RELUS | {
    *("LeakyRelu", "CappedLeakyRelu", "ThresholdedLeakyRelu", "TwoSlopes"),
    *("Threshold", "CappedThreshold", "SoftShrink", "HardShrink"),
    *("Elu", "Selu", "Celu", "Silu", "Gelu", "Mish", "Softplus", "Softsign", "TanhShrink", "Squareplus", "SparsePlus"),
    "Exponential",
}
# Products of a number and its own gate, and gates by themselves: smooth factors that the plain gradient passes.
GATES = frozenset({"HardSigmoid", "HardSwish"})


def ungated(form: Form) -> Form:
    """A hard sigmoid that is no gate: one of slope 1 is a capped ReLU that opens below 0."""
    if form.name != "HardSigmoid" or form.slope != 1:
        return form
    return Form("CappedRelu", None, None) if form.high is None else Form("CappedRelu", -form.high / 2, form.high / 2)


def points(constants: Iterable[float] = ()) -> Array:
    """Where a function is tabulated: sorted, both signs, -0.0 and 0.0; around each of the constants in it, around their
    sums, and far out."""
    sizes = {abs(float(one)) for one in constants}
    known = np.array(sorted({one for one in sizes if 0 < one < 1e30} | {1.0, 6.0}))[:40]
    around = [known * factor for factor in (1, 0.999, 1.001, 2)]
    sums = (known[:, None] + known).ravel() if len(known) <= 8 else known[:0]
    fixed = [1e-6, 1e-3, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.3, 1.7, 2, 2.5, 2.9, 3, 3.1, 3.7, 4, 5, 6, 7.3, 8, 9.1]
    above = distinct(np.concatenate([fixed, [12, 17, 25, 60, 200, 3e3, 1e6], *around, sums * 0.999, sums * 1.001]))
    return np.concatenate([-above[::-1], [-0.0, 0.0], above])


def name_of(x: Array, y: Array) -> Form:
    """The function that has the values `y` at `x`, which `points` gave; `OTHER` for one without a name."""
    if y.dtype == bool or not np.isfinite(y[np.abs(x) <= WIDEST]).all():
        return OTHER
    with np.errstate(all="ignore"):
        table = Table(x, y)
        for test in CORNERED:
            if (form := test(table)) is not None:
                return form
        return _smooth(x, y)


def equal(x: Array, y: Array, want: Array, tolerance: float = EXACT) -> Array:
    """Where the values `y` at `x` are those that are wanted."""
    return np.abs(y - want) <= tolerance * (np.abs(want) + 0.01 * np.abs(x)) + 1e-9


@dataclass(frozen=True)
class Table:
    """A function's values, and what the tests ask of them."""

    x: Array
    y: Array

    def at(self, where: float) -> float:
        """The value at one of the points."""
        return float(self.y[np.searchsorted(self.x, where)])

    def equals(self, want: Array, tolerance: float = EXACT) -> bool:
        return bool(equal(self.x, self.y, want, tolerance).all())

    @property
    def bottom(self) -> float:
        return float(self.y[0])

    @property
    def top(self) -> float:
        return float(self.y[-1])

    @property
    def levels_off_below(self) -> bool:
        return bool(abs(self.y[1] - self.bottom) <= 1e-9 * abs(self.bottom))

    @property
    def levels_off_above(self) -> bool:
        return bool(abs(self.y[-2] - self.top) <= 1e-9 * abs(self.top))


# -- functions with corners, each tested where those before it have failed


def _constant(t: Table) -> Form | None:
    return Form("constant", t.bottom, t.bottom) if (t.y == t.y[0]).all() else None


def _affine(t: Table) -> Form | None:
    slope, offset = (t.at(1.0) - t.at(-1.0)) / 2, (t.at(1.0) + t.at(-1.0)) / 2
    if not t.equals(slope * t.x + offset):
        return None
    return _line(False, t.equals(t.x), t.bottom, offset, slope)


def _relu(t: Table) -> Form | None:
    return Form("Relu") if t.equals(np.maximum(t.x, 0)) else None


def _clip(t: Table) -> Form | None:
    """Flat at both ends and sloped between: a capped ReLU, a clip, a hard sigmoid."""
    if not (t.levels_off_below and t.levels_off_above and t.top > t.bottom):
        return None
    low, high = t.bottom, t.top
    if t.equals(np.clip(t.x, low, high)):
        return Form("CappedRelu", 0.0, high) if low == 0 else Form("clip", low, high)
    inside = np.flatnonzero((t.y > low + 1e-6 * (high - low)) & (t.y < high - 1e-6 * (high - low)))
    if len(inside) < 3:
        return None
    first, last = inside[0], inside[-1]
    slope = float((t.y[last] - t.y[first]) / (t.x[last] - t.x[first]))
    offset = float(t.y[first] - slope * t.x[first])
    if not t.equals(np.clip(slope * t.x + offset, low, high), NEAR):
        return None
    centred = low == 0 and abs(offset - high / 2) < 1e-5 * high
    slope = 1.0 if abs(slope - 1) < 1e-6 else slope
    if low == 0 and not centred and slope == 1:
        return Form("CappedRelu", -offset, high - offset)
    return Form("HardSigmoid" if centred else "shifted clip", low, high, slope)


def _two_slopes(t: Table) -> Form | None:
    """A straight line on each side of 0."""
    right, left = t.at(1.0), -t.at(-1.0)
    if not t.equals(np.where(t.x > 0, right * t.x, left * t.x), NEAR):
        return None
    if abs(left) < 1e-12:
        return Form("scaled Relu", slope=right)
    if abs(right) < 1e-12:
        return Form("Relu" if left == -1 else "mirrored Relu", slope=left)
    if abs(left + right) < 1e-6 * abs(right):
        return Form("absolute value", slope=left)
    if abs(right - 1) < 1e-6:
        return Form("LeakyRelu", slope=left)
    return Form("TwoSlopes", slope=left / right)


def _shifted(t: Table) -> Form | None:
    """max(x, c) - c."""
    opens = float(t.x[-1]) - t.top
    if t.bottom != 0 or not 1e-9 < abs(opens) < FURTHEST or not t.equals(np.maximum(t.x - opens, 0)):
        return None
    return Form("Relu", opens)


def _raised(t: Table) -> Form | None:
    """max(x, c)."""
    return Form("raised Relu", t.bottom) if t.bottom != 0 and t.equals(np.maximum(t.x, t.bottom)) else None


def _mirrored(t: Table) -> Form | None:
    """A ReLU, capped or not, of minus the number, that opens elsewhere than at 0: c - min(x, c)."""
    if t.top != 0 or t.bottom <= 0:
        return None
    turned = Table(-t.x[::-1], t.y[::-1])
    form = _clip(turned) or _shifted(turned)
    return replace(form, slope=-1.0) if form and form.name in RELUS else None


def _capped_leaky(t: Table) -> Form | None:
    slope = -t.at(-1.0)
    if not t.levels_off_above or t.top <= 0 or abs(slope - 1) < 1e-6:
        return None
    same = t.equals(np.where(t.x > 0, np.minimum(t.x, t.top), slope * t.x), NEAR)
    return Form("CappedLeakyRelu", high=t.top, slope=slope) if same else None


def _capped_threshold(t: Table) -> Form | None:
    silent = t.x[(t.x > 0) & (t.y == 0)]
    if not t.levels_off_above or t.bottom != 0 or not len(silent) or t.top <= silent.max():
        return None
    same = t.equals(np.where(t.x > silent.max(), np.minimum(t.x, t.top), 0.0))
    return Form("CappedThreshold", high=t.top, slope=float(silent.max())) if same else None


def _leaky_from(t: Table) -> Form | None:
    """The number itself from a threshold on, up to a cap if there is one; below it a line of another slope that ends there."""
    slope = float((t.y[1] - t.y[0]) / (t.x[1] - t.x[0]))
    if not 1e-6 < slope < 1:
        return None
    starts = float(t.x[np.abs(t.x - (t.x[0] - t.y[0] / slope)).argmin()])
    cap = t.top if t.levels_off_above else math.inf
    same = starts > 0 and t.equals(np.where(t.x > starts, np.minimum(t.x, cap), slope * (t.x - starts)), NEAR)
    return Form("ThresholdedLeakyRelu", starts, cap, slope) if same else None


def _hard_swish(t: Table) -> Form | None:
    """x under its own hard sigmoid, whatever its slope and scale."""
    scale = t.top / float(t.x[-1])
    if scale <= 0 or t.bottom != 0:
        return None
    slope = (t.at(0.05) + t.at(-0.05)) / (2 * 0.05 * 0.05 * scale)
    return Form("HardSwish", slope=slope) if t.equals(scale * t.x * np.clip(slope * t.x + 0.5, 0, 1), NEAR) else None


def _thresholded(t: Table) -> Form | None:
    """Zero up to a threshold, and the identity, or the rest, beyond it."""
    if abs(t.at(0.0)) > 1e-9:
        return None
    silent = t.x[(t.x > 0) & (t.y == 0)]
    start = silent.max() if len(silent) else 0.0
    last = max(2 * start, 1e-6) * 1.001
    far, slack = t.x[-1], 1.01 * EXACT * t.x[-1] + 1e-9
    if not far - last - slack <= t.top <= far + slack:
        return None  # told far out, before a dozen thresholds are tried
    for threshold in t.x[(t.x >= start) & (t.x <= last)][:12]:
        beyond = {
            "Threshold": np.where(t.x >= threshold, t.x, 0.0),
            "SoftShrink": np.sign(t.x) * np.maximum(np.abs(t.x) - threshold, 0),
            "HardShrink": np.where(np.abs(t.x) >= threshold, t.x, 0.0),
        }
        beyond_open = {
            "Threshold": np.where(t.x > threshold, t.x, 0.0),
            "HardShrink": np.where(np.abs(t.x) > threshold, t.x, 0.0),
        }
        for shapes in (beyond, beyond_open):
            for name, want in shapes.items():
                if t.equals(want):
                    return Form(name, slope=float(threshold))
    return None


CORNERED: tuple[Callable[[Table], Form | None], ...] = (
    *(_constant, _affine, _relu, _clip, _two_slopes, _shifted, _raised, _mirrored),
    *(_capped_leaky, _capped_threshold, _leaky_from, _hard_swish, _thresholded),
)

# -- smooth functions: closed forms, some with a parameter that is read off the values


@dataclass(frozen=True)
class Smooth:
    """A closed form: `values(x, parameter)`, and how the parameter is read off a table; NaN where it has none."""

    name: str
    values: Callable[[Array, float], Array]
    parameter: Callable[[Table], float] | None = None

    @cached_property
    def few(self) -> list[float]:
        """Its values at `LOOKS`, of one without a parameter."""
        found: list[float] = self.values(np.array(LOOKS), math.nan).tolist()
        return found

    def parameter_of(self, table: Table, few: Sequence[float]) -> float | None:
        """The parameter by which it may be this function, NaN of one without; None where it is another, as most are. That is
        told by `few` of its values, as all of them take long."""
        if self.parameter is None:
            near = (abs(value - want) < ALIKE * (abs(want) + 0.1) for value, want in zip(few, self.few, strict=True))
            return math.nan if all(near) else None
        parameter = self.parameter(table)
        return None if math.isnan(parameter) else parameter


def _cubed_gelu(x: Array, _: float) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _floor(t: Table) -> float:
    """Minus the value far below: the alpha of an ELU. One that is nearly 0 or huge is another function's."""
    return -t.bottom if 1e-3 < -t.bottom < 1e3 else math.nan


def _sharpness(t: Table) -> float:
    """The beta of x sigmoid(beta x), from its value at 1."""
    share = t.at(1.0)
    return math.log(share / (1 - share)) if 0 < share < 1 else math.nan


def _width(t: Table) -> float:
    """The b of a squareplus, from its value at 0. One that is nearly 0 is a clamp's corner."""
    b = 4 * t.at(0.0) ** 2
    return b if b > 1e-3 else math.nan


def _sparse_plus(x: Array, _: float) -> Array:
    return np.where(x <= -1, 0.0, np.where(x < 1, 0.25 * (x + 1) ** 2, x))


SMOOTH: tuple[Smooth, ...] = (
    Smooth("Elu", elu, _floor),
    Smooth("Selu", lambda x, _: selu(x)),
    Smooth("Celu", lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)), _floor),
    Smooth("sigmoid", lambda x, _: sigmoid(x)),
    Smooth("tanh", lambda x, _: np.tanh(x)),
    Smooth("log sigmoid", lambda x, _: -softplus(-x)),
    Smooth("Softplus", lambda x, _: softplus(x)),
    Smooth("Silu", lambda x, beta: x * sigmoid(beta * x), _sharpness),
    Smooth("Gelu", lambda x, _: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
    Smooth("Gelu", _cubed_gelu),
    Smooth("Mish", lambda x, _: x * np.tanh(softplus(x))),
    Smooth("Softsign", lambda x, _: x / (1 + np.abs(x))),
    Smooth("TanhShrink", lambda x, _: x - np.tanh(x)),
    Smooth("Squareplus", lambda x, b: (x + np.sqrt(x * x + b)) / 2, _width),
    Smooth("SparsePlus", _sparse_plus),
    Smooth("SquaredRelu", lambda x, _: np.maximum(x, 0) ** 2),
    Smooth("Exponential", lambda x, _: np.exp(x)),
)


def _smooth(x: Array, y: Array) -> Form:
    """The closed form that is nearest, if it is near enough."""
    table, near = Table(x, y), np.abs(x) <= WIDEST
    best, found = ALIKE, OTHER
    few = [table.at(where) for where in LOOKS]
    for form in SMOOTH:
        if (parameter := form.parameter_of(table, few)) is None:
            continue
        want = form.values(x[near], parameter)
        distance = np.max(np.abs(y[near] - want) / (np.abs(want) + 0.1))
        if distance < best:  # false for NaN as well
            best, found = distance, Form(form.name, slope=None if math.isnan(parameter) else parameter)
    return found


def names_of(x: Array, y: Array) -> Iterable[Form]:
    """The same of each column of `y` [points, channels], in order."""
    return _straight(x, y) or (name_of(x, column) for column in y.T)


def _straight(x: Array, y: Array) -> list[Form]:
    """What `name_of` says of each column, where all are straight lines; empty where one is not. Most of what lies between
    activations is straight, so that all are told at once."""
    if y.dtype == bool or not np.isfinite(y).all():
        return []
    above, below = (y[np.searchsorted(x, where)].astype(np.float64) for where in (1.0, -1.0))
    slope, offset = (above - below) / 2, (above + below) / 2
    if not equal(x[:, None], y, slope * x[:, None] + offset).all():
        return []
    flat, same = (np.all(found, axis=0).tolist() for found in (y == y[0], equal(x[:, None], y, x[:, None])))
    kinds = zip(flat, same, y[0].tolist(), offset.tolist(), slope.tolist(), strict=True)
    return [_line(*each) for each in kinds]


def _line(flat: bool, same: bool, bottom: float, offset: float, slope: float) -> Form:
    if flat:
        return Form("constant", bottom, bottom)
    return Form("identity") if same else Form("affine", offset, slope=slope)


def of_channels(forms: Iterable[Form]) -> Form:
    """One form for a function that may differ from channel to channel: a family, where all belong to it.

    One channel without a name is enough, or a ReLU of minus the number beside one of the number: the others are not asked
    any more.
    """
    seen: list[Form] = []
    signs: set[float | None] = set()
    for form in forms:
        signs.update([form.slope] if form.name in RELUS else [])
        if form == OTHER or len(signs) > 1:
            return OTHER
        seen.append(form)
    first = seen[0]
    if all(form == first for form in seen):
        return first
    if {form.name for form in seen} == {"HardSigmoid", "CappedRelu"}:
        seen = [ungated(form) for form in seen]
    names = {form.name for form in seen}
    if names == {"Relu", "raised Relu"} and not signs - {None}:  # by a 0 somewhere
        return RAISED
    if len(names) == 1:
        return _family(seen)
    if "LeakyRelu" in names and names <= {"LeakyRelu", "Relu", "identity", "absolute value"}:
        return Form("LeakyRelu")  # a learnt slope may be 0, 1 or -1 somewhere
    if names <= {"affine", "identity", "constant"}:
        return Form("affine")
    return OTHER


def _family(forms: Sequence[Form]) -> Form:
    """What is common to forms of one name."""
    name = forms[0].name
    low, high, slope = (_common(getattr(form, part) for form in forms) for part in ("low", "high", "slope"))
    if name in RELUS:
        return Form(name, low, None if low is None and name == "CappedRelu" else high, slope)
    return Form(name, low, high, slope if name == "HardSigmoid" else None)


def _common(values: Iterable[float | None]) -> float | None:
    """The one value of all of these, None where they differ."""
    first, *others = values
    return first if all(value == first for value in others) else None
