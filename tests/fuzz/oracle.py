"""A program evaluated in float64 by NumPy: scores, and the attribution of each mode. The truth of the fuzzer.

A reverse-mode differentiation of a few hundred lines, each operation with its vector-Jacobian product beside it. It shares
nothing with gradviz or TensorFlow; finite differences check it in `test_oracle.py`. At a ReLU the equation of the mode
from `worked.py` stands in place of the derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from fuzz import grammar as g
from fuzz.spelled import SPELLINGS
from worked import WORKED

Array = np.ndarray
MODES = tuple(WORKED)
# (upstream, mode) -> one gradient for each parent
Pull = Callable[[Array, str], Sequence[Array]]


class Var:
    """A value [N, ...] with the way back to what it was computed from."""

    def __init__(self, value: Array, parents: tuple[Var, ...] = (), pull: Pull | None = None):
        self.value, self.parents, self.pull = value, parents, pull

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __add__(self, other: Var) -> Var:
        back = lambda up, _: (_unbroadcast(up, self.shape), _unbroadcast(up, other.shape))  # noqa: E731
        return Var(self.value + other.value, (self, other), back)

    def __mul__(self, other: Var) -> Var:
        def back(up: Array, _: str) -> tuple[Array, Array]:
            return _unbroadcast(up * other.value, self.shape), _unbroadcast(up * self.value, other.shape)

        return Var(self.value * other.value, (self, other), back)


def _unbroadcast(up: Array, shape: tuple[int, ...]) -> Array:
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1 and up.shape[axis] != 1)
    return up.sum(axes, keepdims=True) if axes else up


def gradient(of: Var, upstream: Array, to: Var, mode: str) -> Array:
    """Of sum(of * upstream)."""
    order: list[Var] = []
    seen: set[int] = set()

    def visit(var: Var) -> None:
        if id(var) not in seen:
            seen.add(id(var))
            for parent in var.parents:
                visit(parent)
            order.append(var)

    visit(of)
    arrived = {id(of): upstream}
    for var in reversed(order):
        up = arrived.get(id(var))
        if up is None or var.pull is None:
            continue
        for parent, share in zip(var.parents, var.pull(up, mode), strict=True):
            arrived[id(parent)] = arrived[id(parent)] + share if id(parent) in arrived else share
    return arrived.get(id(to), np.zeros(to.shape))


@dataclass
class Margin:
    """How near a pass came to a corner, where two right programs may round to different sides.

    `closest` [N] is a distance relative to the size of the numbers there.
    """

    closest: Array

    def corner(self, distance: Array, size: Array | float) -> None:
        """Distances [N, ...], and the size of the numbers that they are distances of."""
        relative = np.abs(distance) / (np.sqrt(np.mean(np.square(size))) + 1e-30)
        self.closest = np.minimum(self.closest, relative.reshape(len(relative), -1).min(1))


# --- functions of one number: f, f', where the corners are ------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    f: Callable[..., Array]
    slope: Callable[..., Array]
    corners: Callable[[float], tuple[float, ...]] = field(default=lambda p: ())


def _logistic(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def _bell(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _normal(x: Array) -> Array:
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _silu(beta: float) -> Function:
    def slope(x: Array, p: float) -> Array:
        s = _logistic(beta * x)
        return s + beta * x * s * (1 - s)

    return Function(lambda x, p: x * _logistic(beta * x), slope)


def _mish_slope(x: Array, p: float) -> Array:
    t = np.tanh(_softplus(x))
    return t + x * (1 - t * t) * _logistic(x)


def _tanh_gelu(x: Array, p: float) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _tanh_gelu_slope(x: Array, p: float) -> Array:
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)


ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805
at_zero = lambda p: (0.0,)  # noqa: E731
around = lambda p: (-p, p)  # noqa: E731

FUNCTIONS = {
    "leaky": Function(lambda x, p: np.where(x > 0, x, p * x), lambda x, p: np.where(x > 0, 1.0, p), at_zero),
    "prelu": Function(lambda x, p: np.where(x > 0, x, p * x), lambda x, p: np.where(x > 0, 1.0, p + 0 * x), at_zero),
    "elu": Function(
        lambda x, p: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x, p: np.where(x > 0, 1.0, np.exp(np.minimum(x, 0))),
    ),
    "celu": Function(
        lambda x, p: np.where(x > 0, x, p * np.expm1(np.minimum(x, 0) / p)),
        lambda x, p: np.where(x > 0, 1.0, np.exp(np.minimum(x, 0) / p)),
    ),
    "selu": Function(
        lambda x, p: SCALE * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x, p: SCALE * np.where(x > 0, 1.0, ALPHA * np.exp(np.minimum(x, 0))),
        at_zero,
    ),
    "gelu": Function(lambda x, p: x * _normal(x), lambda x, p: _normal(x) + x * _bell(x)),
    "gelu tanh": Function(_tanh_gelu, _tanh_gelu_slope),
    "silu": _silu(1.0),
    "silu 1.702": _silu(1.702),
    "mish": Function(lambda x, p: x * np.tanh(_softplus(x)), _mish_slope),
    "softplus": Function(lambda x, p: _softplus(x), lambda x, p: _logistic(x)),
    "softsign": Function(lambda x, p: x / (1 + np.abs(x)), lambda x, p: 1 / (1 + np.abs(x)) ** 2),
    "tanh": Function(lambda x, p: np.tanh(x), lambda x, p: 1 - np.tanh(x) ** 2),
    "sigmoid": Function(lambda x, p: _logistic(x), lambda x, p: _logistic(x) * _logistic(-x)),
    "hard swish": Function(
        lambda x, p: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x, p: np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5)),
        lambda p: (-3.0, 3.0),
    ),
    "hard sigmoid": Function(
        lambda x, p: np.clip(x / 6 + 0.5, 0, 1), lambda x, p: (np.abs(x) < 3) / 6, lambda p: (-3.0, 3.0)
    ),
    "hard tanh": Function(lambda x, p: np.clip(x, -1, 1), lambda x, p: (np.abs(x) < 1) * 1.0, lambda p: (-1.0, 1.0)),
    "soft shrink": Function(
        lambda x, p: np.sign(x) * np.maximum(np.abs(x) - p, 0), lambda x, p: (np.abs(x) > p) * 1.0, around
    ),
    "hard shrink": Function(lambda x, p: np.where(np.abs(x) > p, x, 0.0), lambda x, p: (np.abs(x) > p) * 1.0, around),
    "tanh shrink": Function(lambda x, p: x - np.tanh(x), lambda x, p: np.tanh(x) ** 2),
    "squareplus": Function(lambda x, p: (x + np.sqrt(x * x + 4)) / 2, lambda x, p: 0.5 * (1 + x / np.sqrt(x * x + 4))),
    "sparse plus": Function(
        lambda x, p: np.where(x <= -1, 0.0, np.where(x < 1, 0.25 * (x + 1) ** 2, x)),
        lambda x, p: np.where(x <= -1, 0.0, np.where(x < 1, 0.5 * (x + 1), 1.0)),
        lambda p: (-1.0, 1.0),
    ),
    "threshold": Function(lambda x, p: np.where(x > p, x, 0.0), lambda x, p: (x > p) * 1.0, lambda p: (p,)),
    "square": Function(lambda x, p: x * x, lambda x, p: 2 * x),
    "clip 0 1": Function(lambda x, p: np.clip(x, 0, 1), lambda x, p: ((x > 0) & (x < 1)) * 1.0, lambda p: (0.0, 1.0)),
}


def elementwise(x: Var, name: str, margin: Margin, p: Any = 1.0) -> Var:
    function = FUNCTIONS[name]
    for corner in function.corners(p if np.ndim(p) == 0 else 0.0):
        margin.corner(x.value - corner, x.value)
    return Var(function.f(x.value, p), (x,), lambda up, _: (up * function.slope(x.value, p),))


def relu(x: Var, margin: Margin, cap: Any = np.inf) -> Var:
    """min(max(x, 0), cap) under the equation of the mode."""
    margin.corner(x.value, x.value)
    if np.isfinite(cap).all():
        margin.corner(x.value - cap, x.value)
    gate = ((x.value > 0) & (x.value < cap)).astype(float)
    back = lambda up, mode: (WORKED[mode].equation(up, gate, (up > 0).astype(float)),)  # noqa: E731
    return Var(np.clip(x.value, 0, cap), (x,), back)


def activation(x: Var, act: g.Act, margin: Margin, dtype: str) -> Var:
    name, p = SPELLINGS[act.spelling].function, act.parameter
    if name.startswith("relu") or name.startswith("capped"):
        caps = {"capped": 4 * p, "relu6": 6.0}
        if name == "capped by channel":
            return relu(x, margin, g.weights_of(act, x.shape, dtype)["channels"])
        y = relu(x, margin, caps.get(name, np.inf))
        if act.spelling == "relu less relu":  # level only but for rounding, by which a pooling then chooses
            y.value = y.value + 1e-9 * np.maximum(x.value - 4 * p, 0)
        return elementwise(y, "square", margin) if name == "relu squared" else y
    if name == "prelu":
        return elementwise(x, name, margin, g.weights_of(act, x.shape, dtype)["channels"])
    return elementwise(x, name, margin, p)


# --- linear operations ------------------------------------------------------------------------------------------------


def linear(x: Var, forward: Callable[[Array], Array], adjoint: Callable[[Array], Array]) -> Var:
    return Var(forward(x.value), (x,), lambda up, _: (adjoint(up),))


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """As TensorFlow has it: the odd one goes behind."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Windows:
    """Where a window of k x k stands on [H, W]."""

    height: int
    width: int
    k: int
    stride: int
    padding: str
    dilation: int = 1

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        if self.padding == "VALID":
            return (0, 0), (0, 0)
        reach = (self.k - 1) * self.dilation + 1
        return same_padding(self.height, reach, self.stride), same_padding(self.width, reach, self.stride)

    @property
    def out(self) -> tuple[int, int]:
        reach = (self.k - 1) * self.dilation + 1
        (top, bottom), (left, right) = self.pads
        return (
            (self.height + top + bottom - reach) // self.stride + 1,
            (self.width + left + right - reach) // self.stride + 1,
        )

    def padded(self, x: Array, value: float = 0.0) -> Array:
        return np.pad(x, ((0, 0), *self.pads, (0, 0)), constant_values=value)

    def cropped(self, x: Array) -> Array:
        (top, _), (left, _) = self.pads
        return x[:, top : top + self.height, left : left + self.width]

    def places(self) -> list[tuple[int, int, tuple[slice, ...]]]:
        """Row and column in the window, and where that stands in the padded image for all windows."""

        def along(start: int, count: int) -> slice:
            return slice(start, start + self.stride * (count - 1) + 1, self.stride)

        rows, columns = self.out
        return [
            (i, j, (slice(None), along(i * self.dilation, rows), along(j * self.dilation, columns)))
            for i in range(self.k)
            for j in range(self.k)
        ]


def _apply(windows: Windows, kernel: Array, depthwise: bool, x: Array) -> Array:
    padded = windows.padded(x)
    total: Any = 0.0
    for i, j, where in windows.places():
        part = padded[where]
        if depthwise:
            product = part[..., :, None] * kernel[i, j]
            total = total + product.reshape(*product.shape[:-2], -1)
        else:
            total = total + part @ kernel[i, j]
    return total


def _apply_back(windows: Windows, kernel: Array, depthwise: bool, up: Array) -> Array:
    (top, bottom), (left, right) = windows.pads
    channels = kernel.shape[2]
    back = np.zeros((len(up), windows.height + top + bottom, windows.width + left + right, channels))
    for i, j, where in windows.places():
        if depthwise:
            back[where] += (up.reshape(*up.shape[:-1], channels, -1) * kernel[i, j]).sum(-1)
        else:
            back[where] += up @ kernel[i, j].T
    return windows.cropped(back)


def conv(x: Var, kernel: Array, stride: int, padding: str, dilation: int = 1, depthwise: bool = False) -> Var:
    windows = Windows(x.shape[1], x.shape[2], len(kernel), stride, padding, dilation)
    return linear(x, partial(_apply, windows, kernel, depthwise), partial(_apply_back, windows, kernel, depthwise))


def transposed(x: Var, kernel: Array, stride: int) -> Var:
    """The adjoint of a convolution from [H s, W s]; `kernel` is [k, k, out, in]."""
    windows = Windows(x.shape[1] * stride, x.shape[2] * stride, len(kernel), stride, "SAME")
    return linear(x, partial(_apply_back, windows, kernel, False), partial(_apply, windows, kernel, False))


def shifted(x: Var, by: Array) -> Var:
    return linear(x, lambda v: v + by, lambda up: up)


def scaled(x: Var, by: Any) -> Var:
    return linear(x, lambda v: v * by, lambda up: up * by)


def matmul(x: Var, matrix: Array) -> Var:
    return linear(x, lambda v: v @ matrix, lambda up: up @ matrix.T)


def reshaped(x: Var, shape: Sequence[int]) -> Var:
    return linear(x, lambda v: v.reshape(shape), lambda up: up.reshape(x.shape))


def turned(x: Var, axes: Sequence[int]) -> Var:
    return linear(x, lambda v: v.transpose(axes), lambda up: up.transpose(np.argsort(axes)))


def mean(x: Var, axes: tuple[int, ...], keepdims: bool = False) -> Var:
    count = math.prod(x.shape[axis] for axis in axes)

    def back(up: Array) -> Array:
        return np.broadcast_to(up if keepdims else np.expand_dims(up, axes), x.shape) / count

    return linear(x, lambda v: v.mean(axes, keepdims=keepdims), back)


def channels_of(x: Var, start: int, stop: int) -> Var:
    def back(up: Array) -> Array:
        whole = np.zeros(x.shape)
        whole[..., start:stop] = up
        return whole

    return linear(x, lambda v: v[..., start:stop], back)


def concat(parts: Sequence[Var]) -> Var:
    edges = np.cumsum([part.shape[-1] for part in parts])[:-1]
    return Var(np.concatenate([p.value for p in parts], -1), tuple(parts), lambda up, _: np.split(up, edges, -1))


def _reordered(x: Var) -> Var:
    c = x.shape[-1] // 2 * 2
    order = np.concatenate([np.arange(c).reshape(2, -1).T.ravel(), np.arange(c, x.shape[-1])])
    return linear(x, lambda v: v[..., order], lambda up: up[..., np.argsort(order)])


def _cropped(x: Var) -> Var:
    if min(x.shape[1:3]) < 2:
        return x
    return linear(x, lambda v: v[:, 1:, :-1], lambda up: np.pad(up, ((0, 0), (1, 0), (0, 1), (0, 0))))


def _in_blocks(x: Var) -> Var:
    n, height, width, c = x.shape
    if min(height, width) < 2:
        return x
    h, w = height // 2, width // 2
    spare = ((0, 0), (0, height - 2 * h), (0, width - 2 * w), (0, 0))

    def forward(v: Array) -> Array:
        v = v[:, : 2 * h, : 2 * w].reshape(n, h, 2, w, 2, c)
        return v.transpose(0, 1, 3, 2, 4, 5).reshape(n, h, w, 4 * c)

    def back(up: Array) -> Array:
        up = up.reshape(n, h, w, 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
        return np.pad(up.reshape(n, 2 * h, 2 * w, c), spare)

    return linear(x, forward, back)


def _spread(size: int, factor: int, method: str) -> Array:
    """[size * factor, size]: how each new place is made of the old ones, pixels being squares."""
    matrix = np.zeros((size * factor, size))
    for place in range(size * factor):
        if method == "nearest":
            matrix[place, place // factor] = 1
            continue
        at = (place + 0.5) / factor - 0.5
        low = math.floor(at)
        for where, share in ((low, 1 - (at - low)), (low + 1, at - low)):
            matrix[place, min(max(where, 0), size - 1)] += share
    return matrix


def resized(x: Var, factor: int, method: str) -> Var:
    rows, columns = (_spread(size, factor, method) for size in x.shape[1:3])
    return linear(
        x,
        lambda v: np.einsum("ah,nhwc,bw->nabc", rows, v, columns),
        lambda up: np.einsum("ah,nabc,bw->nhwc", rows, up, columns),
    )


def padded(x: Var, amount: int, mode: str) -> Var:
    height, width = x.shape[1:3]
    places = np.pad(np.arange(height * width).reshape(height, width), amount, mode.lower(), **_empty(mode))

    def forward(v: Array) -> Array:
        flat = v.reshape(len(v), -1, v.shape[-1])
        return np.where(places[None, ..., None] < 0, 0.0, flat[:, places])

    def back(up: Array) -> Array:
        whole = np.zeros((len(up), height * width, up.shape[-1]))
        for row, line in enumerate(places):
            for column, place in enumerate(line):
                if place >= 0:
                    whole[:, place] += up[:, row, column]
        return whole.reshape(x.shape)

    return linear(x, forward, back)


def _empty(mode: str) -> dict[str, int]:
    return {"constant_values": -1} if mode == "CONSTANT" else {}


# --- what is neither --------------------------------------------------------------------------------------------------


def pooled(x: Var, step: g.Pool, margin: Margin) -> Var:
    k = min(step.size, *x.shape[1:3])
    windows = Windows(x.shape[1], x.shape[2], k, step.stride, step.padding)
    places = [where for _, _, where in windows.places()]
    if step.kind == "average":
        counts = sum(windows.padded(np.ones(x.shape))[where] for where in places)

        def back(up: Array) -> Array:
            whole = windows.padded(np.zeros(x.shape))
            for where in places:
                whole[where] += up / counts
            return windows.cropped(whole)

        return linear(x, lambda v: sum(windows.padded(v)[where] for where in places) / counts, back)
    parts = np.stack([windows.padded(x.value, -np.inf)[where] for where in places])
    best = parts.argmax(0)  # of equal ones the first
    _tell_apart(parts, margin, x.value)

    def back_to_best(up: Array, _: str) -> tuple[Array]:
        whole = windows.padded(np.zeros(x.shape))
        for place, where in enumerate(places):
            whole[where] += up * (best == place)
        return (windows.cropped(whole),)

    return Var(parts.max(0), (x,), back_to_best)


def _tell_apart(parts: Array, margin: Margin, size: Array) -> None:
    """The best of each window stands clear of the second, unless they are exactly equal (zeros behind a ReLU)."""
    if len(parts) < 2:
        return
    second, first = np.sort(parts, axis=0)[-2:]
    gap = np.where((first == second) | np.isinf(second), np.inf, first - second)
    margin.corner(gap, size)


def global_max(x: Var, margin: Margin) -> Var:
    flat = x.value.reshape(len(x.value), -1, x.shape[-1])
    _tell_apart(np.moveaxis(flat, 1, 0), margin, x.value)
    best = x.value == x.value.max((1, 2), keepdims=True)
    share = best / best.sum((1, 2), keepdims=True)
    return Var(x.value.max((1, 2)), (x,), lambda up, _: (up[:, None, None] * share,))


def normalised(x: Var, axis: int = -1, epsilon: float = 2.0**-10) -> Var:
    """Less the mean, by the deviation, along an axis."""
    centred = x.value - x.value.mean(axis, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis, keepdims=True) + epsilon)
    y = centred / deviation

    def back(up: Array, _: str) -> tuple[Array]:
        return ((up - up.mean(axis, keepdims=True) - y * (up * y).mean(axis, keepdims=True)) / deviation,)

    return Var(y, (x,), back)


def softmax(x: Var) -> Var:
    e = np.exp(x.value - x.value.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return Var(y, (x,), lambda up, _: (y * (up - (up * y).sum(-1, keepdims=True)),))


def product(a: Var, b: Var) -> Var:
    """Of matrices, batch by batch."""
    back = lambda up, _: (up @ b.value.swapaxes(1, 2), a.value.swapaxes(1, 2) @ up)  # noqa: E731
    return Var(a.value @ b.value, (a, b), back)


# --- steps ------------------------------------------------------------------------------------------------------------


@dataclass
class Evaluation:
    """One pass of a program."""

    dtype: str
    margin: Margin

    def run(self, steps: Sequence[Any], x: Var) -> Var:
        for step in steps:
            x = self.step(step, x)
        return x

    def step(self, step: Any, x: Var) -> Var:
        match step:
            case g.Conv():
                return self._conv(step, x)
            case g.Depthwise():
                w = self._weights(step, x)
                return shifted(conv(x, w["kernel"], step.stride, "SAME", depthwise=True), w["bias"])
            case g.Separable():
                w = self._weights(step, x)
                y = conv(x, w["depth"], 1, "SAME", depthwise=True)
                return shifted(conv(y, w["point"], 1, "VALID"), w["bias"])
            case g.Transposed():
                w = self._weights(step, x)
                return shifted(transposed(x, w["kernel"], step.stride), w["bias"])
            case g.Pool():
                return pooled(x, step, self.margin)
            case g.Norm():
                return self._norm(step, x)
            case g.Act():
                return activation(x, step, self.margin, self.dtype)
            case g.Dense():
                w = self._weights(step, x)
                return shifted(matmul(x, w["matrix"]), w["bias"])
            case g.Shuffle():
                return _reordered(x)
            case g.Crop():
                return _cropped(x)
            case g.Blocks():
                return _in_blocks(x)
            case g.Drop():
                return x
            case g.Residual(body):
                return x + self.run(body, x)
            case g.Branches(bodies, join):
                return self._joined([self.run(body, x) for body in bodies], join)
            case g.Split(first, second):
                half = x.shape[-1] // 2
                parts = channels_of(x, 0, half), channels_of(x, half, x.shape[-1])
                return concat([self.step(act, part) for act, part in zip((first, second), parts, strict=True)])
            case g.Resize(factor, method):
                return resized(x, factor, method)
            case g.Pad(amount, mode):
                return padded(x, min(amount, min(x.shape[1:3]) - 1) if mode == "REFLECT" else amount, mode)
            case g.Turned(act=act):
                return self.step(act, shifted(x, self._weights(step, x)["bias"]))
            case g.Squeeze():
                return self._squeeze(step, x)
            case g.Attention():
                return self._attention(step, x)
            case g.Loop(body, count):
                return self.run(body * count, x)
            case g.Cond():
                return self._cond(step, x)
            case g.Mapped(body) | g.Nested(body):
                return self.run(body, x)
            case g.Rescale(scale, offset):
                return linear(x, lambda v: v * scale + offset, lambda up: up * scale)
            case g.Standardise():
                w = self._weights(step, x)
                return scaled(shifted(x, -w["mean"]), 1 / w["deviation"])
            case g.ClipImage():
                return elementwise(x, "clip 0 1", self.margin)
            case g.Flip(axis):
                return linear(x, lambda v: np.flip(v, axis), lambda up: np.flip(up, axis))
        raise TypeError(step)

    def _weights(self, step: Any, x: Var) -> dict[str, Array]:
        return g.weights_of(step, x.shape, self.dtype)

    def _conv(self, step: g.Conv, x: Var) -> Var:
        w = self._weights(step, x)
        padding = step.padding if min(x.shape[1:3]) >= step.size else "SAME"
        groups = g.groups_of(step, x.shape[-1])
        wide, out = x.shape[-1] // groups, w["kernel"].shape[-1] // groups
        parts = [
            conv(
                channels_of(x, i * wide, (i + 1) * wide) if groups > 1 else x,
                w["kernel"][..., i * out : (i + 1) * out],
                step.stride,
                padding,
                step.dilation,
            )
            for i in range(groups)
        ]
        y = concat(parts) if groups > 1 else parts[0]
        return shifted(y, w["bias"]) if step.bias else y

    def _norm(self, step: g.Norm, x: Var) -> Var:
        w = self._weights(step, x)
        if step.kind == "layer":
            x = normalised(x)
        elif step.kind != "affine":
            x = scaled(shifted(x, -w["mean"]), 1 / np.sqrt(w["variance"] + 2.0**-10))
        return shifted(scaled(x, w["gamma"]), w["beta"])

    def _joined(self, parts: Sequence[Var], join: str) -> Var:
        if join == "concat":
            return concat(parts)
        total = parts[0]
        for part in parts[1:]:
            total = total + part if join == "add" else total * part
        return total

    def _squeeze(self, step: g.Squeeze, x: Var) -> Var:
        w = self._weights(step, x)
        y = shifted(matmul(mean(x, (1, 2), keepdims=True), w["down"]), w["down_bias"])
        y = shifted(matmul(self.step(step.act, y), w["up"]), w["up_bias"])
        return x * elementwise(y, "sigmoid" if step.gate == "sigmoid" else "hard sigmoid", self.margin)

    def _attention(self, step: g.Attention, x: Var) -> Var:
        w = self._weights(step, x)
        tokens = reshaped(x, (x.shape[0], -1, x.shape[-1]))
        query, key, value = (matmul(tokens, w[name]) for name in ("query", "key", "value"))
        attention = softmax(scaled(product(query, turned(key, (0, 2, 1))), 0.5))
        return x + reshaped(matmul(product(attention, value), w["out"]), x.shape)

    def _cond(self, step: g.Cond, x: Var) -> Var:
        means = x.value.mean((1, 2, 3))
        self.margin.corner(means, x.value)
        ways = {True: self.run(step.yes, x), False: self.run(step.no, x)}
        chosen = (means > 0).reshape(-1, 1, 1, 1)
        back = lambda up, _: (up * chosen, up * ~chosen)  # noqa: E731
        return Var(np.where(chosen, ways[True].value, ways[False].value), (ways[True], ways[False]), back)

    def head(self, head: g.Head, x: Var) -> Var:
        """Logits [N, K] or, of a segmentation, [N, H, W, K]."""
        if head.kind == "segmentation":
            w = self._weights(head, x)
            return shifted(matmul(x, w["matrix"]), w["bias"])
        if head.pool == "flatten":
            x = reshaped(x, (x.shape[0], -1))
        elif head.pool == "mean":
            x = mean(x, (1, 2))
        elif head.pool == "max":
            x = global_max(x, self.margin)
        x = self.run(head.tail, x)
        w = self._weights(head, x)
        y = shifted(matmul(x, w["matrix"]), w["bias"])
        return mean(y, (1, 2)) if head.pool == "conv" else y


@dataclass(frozen=True)
class Truth:
    """Of n images: the class index [N], score [N], gradient of each mode [N, H, W, C], how clear of corners [N]."""

    index: Array
    score: Array
    maps: dict[str, Array]
    margin: Array


def truth(program: g.Program, pixels: Array, bypassed: bool = True, modes: Sequence[str] = MODES) -> Truth:
    """`bypassed`: the score is the logit and not the output."""
    image = Var(np.asarray(pixels, np.float64))
    evaluation = Evaluation(program.dtype, Margin(np.full(len(pixels), np.inf)))
    logits = evaluation.head(program.head, evaluation.run((*program.front, *program.steps), image))
    scores = _score(program.head, logits, bypassed)
    if program.head.kind in ("percent", "averaged"):  # near 1 the gradient of a probability is rounding
        evaluation.margin.closest[softmax(logits).value.max(1) > 0.99] = 0.0
    index, upstream, value = _chosen(scores.value, evaluation.margin)
    maps = {mode: gradient(scores, upstream, image, mode) for mode in modes}
    return Truth(index, value, maps, evaluation.margin.closest)


def _score(head: g.Head, logits: Var, bypassed: bool) -> Var:
    if head.kind == "temperature":
        return scaled(logits, 0.5)
    if bypassed:
        return logits
    if head.kind == "percent":
        return scaled(softmax(logits), 100.0)
    if head.kind == "averaged":
        return scaled(softmax(logits) + softmax(scaled(logits, 0.5)), 0.5)
    return logits


def _chosen(scores: Array, margin: Margin) -> tuple[Array, Array, Array]:
    """The best class, what is sent back from the scores, and the score that is explained."""
    if scores.ndim == 2:
        index = scores.argmax(1)
        upstream = np.eye(scores.shape[1])[index]
        if scores.shape[1] > 1:
            second, first = np.sort(scores, axis=1)[:, -2:].T
            margin.corner(first - second, scores)
        return index, upstream, (scores * upstream).sum(1)
    second, first = np.moveaxis(np.sort(scores, axis=-1)[..., -2:], -1, 0)
    margin.corner(first - second, scores)
    won = np.eye(scores.shape[-1])[scores.argmax(-1)]
    area = won.sum((1, 2))
    index = area.argmax(1)
    ordered = np.sort(area, axis=1)
    margin.closest = np.where(ordered[:, -1] == ordered[:, -2], 0.0, margin.closest)
    upstream = won * np.eye(scores.shape[-1])[index][:, None, None]
    return index, upstream, (scores * upstream).sum((1, 2, 3))
