"""What is made of gradients to explain one image. Here alone is an estimator known by its name.

    one image, its classes fixed -> `estimate` -> for each mode a map and what is recorded beside it

An estimator is NumPy over what it may ask of the model (`Asked`), so that one line of mathematics serves the worker, a
linear model in a test and a reader with a pencil. G is the gradient of the score under the rule of a mode. The class of
each target is that of the image itself: a noisy copy may well be of another class, and its gradient would explain that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from gradviz_cli.rules import DEFAULT_MODE, PLAIN

Array: TypeAlias = "np.ndarray"

GRADIENT = "gradient"
DEFAULT_BASELINE = "mean"  # `images.baselines` has the others; or the name of a file
AUTO_LAYER = "auto"
MOST_SAMPLES = 100_000
ENOUGH = 0.05  # of the completeness gap: a larger one is warned of
ROWS = 32  # of maps that are summed up together
LEVELS = 1 << 16  # values that noise has
MASKED = 0.3  # of its maximum: where a class activation map is at least so strong, there the object is said to be

# ------------------------------------------------------------------------------------------------- what is asked for


@dataclass(frozen=True)
class Estimation:
    """What estimators are told; each takes of it what its `options` name.

    Attributes
    ----------
    samples : int
        Points at which the gradient is taken.
    noise : float
        Standard deviation of noise, as a part of the range of the image at the model's input.
    baseline : str
        What stands for an absent image: a name of `images.baselines`, or the path of an image file, whose SHA-256 is beside it.
    cam_layer : str
        `auto`, or the tensor that a class activation map is taken from.
    """

    samples: int = 32
    noise: float = 0.15
    baseline: str = DEFAULT_BASELINE
    baseline_sha256: str = ""
    cam_layer: str = AUTO_LAYER

    def told(self, options: Sequence[str]) -> dict[str, int | float | str]:
        """Those of these options that somebody reads again; of a file its hash, wherever it lies."""
        found = {name: getattr(self, name) for name in options}
        if "baseline" in found and self.baseline_sha256:
            found["baseline"] = f"sha256:{self.baseline_sha256}"
        return found


USUAL = Estimation()


class Method(NamedTuple):
    """One kind of map: an estimator over the gradient of a mode."""

    mode: str
    estimator: str = GRADIENT

    @property
    def name(self) -> str:
        """As in the names of files: `guided`, `backprop.grad-cam`."""
        return self.mode if self.estimator == GRADIENT else f"{self.mode}.{self.estimator}"

    @classmethod
    def of(cls, name: str) -> Method:
        """What `name` says."""
        mode, _, estimator = name.partition(".")
        return cls(mode, estimator or GRADIENT)


@dataclass(frozen=True)
class Taps:
    """Inner tensors of a model whose values and gradients an estimator is made of.

    Attributes
    ----------
    kind : str
        What they are for, a key of the worker's table of them.
    tensors : tuple of str
        By name, from the image on.
    size : (height, width)
        Of a map that is made of them.
    axes : tuple of int
        The axes of the tensor that are height, width and channels, where it has these.
    certain : bool
        Whether all that the score is made of passes them.
    first : int
        Of attention: the place of the first patch among the tokens; the others follow row by row.
    tokens : int
        Of attention: how many there are.
    turns : tuple of tuple of int
        Of attention: of each tensor its axes, those of the tokens that attend and of those attended to last.
    layers : tuple of int
        Of attention: how many of the tensors belong to each layer.
    """

    kind: str
    tensors: tuple[str, ...]
    size: tuple[int, int]
    axes: tuple[int, ...] = ()
    certain: bool = True
    first: int = 0
    tokens: int = 0
    turns: tuple[tuple[int, ...], ...] = ()
    layers: tuple[int, ...] = ()


# -------------------------------------------------------------------------------------- what an estimator may ask for


class Chunk(NamedTuple):
    """What the model says of m points: scores [t, m], and by mode the gradients [t, m, h, w, c]."""

    scores: Array
    gradients: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Inner:
    """Inner tensors of one image: values and, for each target, gradients of its score. Of attention, [heads, T, T] of each
    layer.

    `resting` [t] is the score where they are all zero; NaN where that cannot be said.
    """

    taps: Taps
    values: tuple[Array, ...]
    gradients: tuple[Array, ...]  # [t, ...] each
    resting: Array


Points = Callable[[int, int], Array]
"""(start, stop) -> points float32 [m, h, w, c] from `start` on; called in order, once for each."""


class Asked(Protocol):
    """One image float32 [h, w, c] as the model takes it, its t classes fixed, and what may be asked of the model about it."""

    @property
    def image(self) -> Array: ...

    @property
    def baseline(self) -> Array | None: ...

    @property
    def estimation(self) -> Estimation: ...

    @property
    def wanted(self) -> frozenset[str]:
        """All estimators that this image is asked for."""

    @property
    def score(self) -> Array:
        """[t], of the image itself."""

    def gradient(self, mode: str) -> Array:
        """[t, h, w, c], at the image itself."""

    def inner(self, kind: str, mode: str) -> Inner:
        """Inner tensors, at the image itself; for the estimators that name the kind (`Estimator.taps`)."""

    def numbers(self, points: Array) -> Array:
        """What the gradient is with respect to, [m, h, w, c]: the points, or what a model that takes files makes of them."""

    def scores(self, points: Array) -> Array:
        """[t, m]."""

    def over(self, points: Points, count: int, modes: Sequence[str]) -> Iterator[Chunk]:
        """So many points, in chunks whose size hangs on nothing but the model: the same bits each time."""

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """What `make` gave when it was asked for first: what several estimators share."""


class Made(NamedTuple):
    """A map for each target, [t, h, w, c], and the numbers that are recorded of each, [t, k] (NaN: not known)."""

    maps: Array
    numbers: Array


Estimate = Callable[[Asked, Sequence[str]], dict[str, Made]]


# ------------------------------------------------------------------------------------------------------ the estimators


def _none(maps: Array) -> Array:
    return np.empty((len(maps), 0))


def gradient(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """G(x)."""
    return {mode: Made(found := asked.gradient(mode), _none(found)) for mode in modes}


def input_x_gradient(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """x G(x), x as the model sees it."""
    seen = asked.numbers(asked.image[None])[0]
    return {mode: Made(found := seen * asked.gradient(mode), _none(found)) for mode in modes}


def integrated_gradients(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """(x - b) 1/n sum_k G(b + (k - 1/2)/n (x - b)), k = 1..n.

    Midpoints and not, as in the paper's equation 3, right ends: at every n they are as good as any other rule for networks
    of ReLUs, and their weights add up to one.
    """
    start, count = asked.baseline, asked.estimation.samples
    assert start is not None, "the command gives a baseline"
    way = asked.image - start

    def points(first: int, end: int) -> Array:
        shares = ((np.arange(first, end) + 0.5) / count).astype(np.float32)
        return start + shares[:, None, None, None] * way

    totals = _sums(asked, points, modes, 1)
    whole = asked.score.astype(np.float64) - asked.scores(start[None])[:, 0]
    end, begin = asked.numbers(np.stack([asked.image, start]))
    made = {}
    for mode in modes:
        maps = (end - begin) * (totals[mode][0] / count)
        gap = _ratio(maps.sum(axis=(1, 2, 3)) - whole, whole) if mode == PLAIN else np.full(len(maps), np.nan)
        made[mode] = Made(maps, gap[:, None])
    return made


def smoothgrad(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """1/n sum_i G(x + e_i)."""
    count = asked.estimation.samples
    made = {}
    for mode, (first, second, *_) in _noisy(asked, modes).items():
        mean = first / count
        made[mode] = Made(mean, _left(mean, _variance(first, second, count), count))
    return made


def smoothgrad_squared(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """1/n sum_i G(x + e_i)^2."""
    count = asked.estimation.samples
    made = {}
    for mode, (_, second, _, fourth) in _noisy(asked, modes).items():
        mean = second / count
        made[mode] = Made(mean, _left(mean, _variance(second, fourth, count), count))
    return made


def vargrad(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """The variance of G(x + e_i), by n - 1."""
    count = asked.estimation.samples
    made = {}
    for mode, sums in _noisy(asked, modes).items():
        mean, second, third, fourth = (each / count for each in sums)
        variance = _variance(sums[0], sums[1], count)
        # of the fourth moment about the mean: Var(s^2) = (m4 - s^4 (n - 3)/(n - 1)) / n
        about = fourth - 4 * third * mean + 6 * second * mean**2 - 3 * mean**4
        spread = np.maximum(about - variance**2 * (count - 3) / (count - 1), 0)
        made[mode] = Made(variance, _left(variance, spread, count))
    return made


def grad_cam(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """ReLU(sum_k mean_xy(G_k) A_k)."""
    return _cams(asked, modes, lambda value, slope: slope.mean(axis=(0, 1)) * value)


def hires_cam(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """ReLU(sum_k G_k A_k)."""
    return _cams(asked, modes, lambda value, slope: slope * value)


def layer_cam(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """ReLU(sum_k ReLU(G_k) A_k)."""
    return _cams(asked, modes, lambda value, slope: np.maximum(slope, 0) * value)


def guided_grad_cam(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """The guided map, with its sign, times the Grad-CAM of the mode, resized bilinearly.

    Captum takes the nearest value of the CAM in place of the bilinear one of the paper's section 3.2.
    """
    height, width = asked.image.shape[:2]
    made = {}
    for mode, (maps, numbers) in grad_cam(asked, modes).items():
        rows, columns = between(maps.shape[1], height), between(maps.shape[2], width)
        large = np.einsum("yh,thwc,xw->tyxc", rows, maps, columns)
        made[mode] = Made(asked.gradient(DEFAULT_MODE) * large, numbers)
    return made


def chefer(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """R = I; R <- R + mean_heads((A * dscore/dA)+) R, layer by layer; the rows of R that the score reads."""
    made = {}
    for mode in modes:
        inner = asked.inner("attention", mode)
        layers = [value.astype(np.float64) for value in inner.values]
        maps = []
        for target in range(len(asked.score)):
            slopes = [slope[target].astype(np.float64) for slope in inner.gradients]
            relevance = np.eye(layers[0].shape[-1])
            for value, slope in zip(layers, slopes, strict=True):
                relevance = relevance + np.maximum(value * slope, 0).mean(axis=0) @ relevance
            maps.append(_on_grid(relevance, inner.taps, slopes[-1]))
        made[mode] = Made(found := np.stack(maps), _none(found))
    return made


def attention_rollout(asked: Asked, modes: Sequence[str]) -> dict[str, Made]:
    """The product over layers of the mean over heads of A, + I, with rows that sum to one; the rows that the score reads."""
    made = {}
    for mode in modes:
        inner = asked.inner("attention", mode)
        flow = np.eye(inner.values[0].shape[-1])
        for value in inner.values:
            mixed = value.astype(np.float64).mean(axis=0) + np.eye(len(flow))
            flow = mixed / mixed.sum(axis=-1, keepdims=True) @ flow
        last = inner.gradients[-1]
        maps = np.stack([_on_grid(flow, inner.taps, slope) for slope in last])
        made[mode] = Made(maps, _none(maps))
    return made


def _on_grid(relevance: Array, taps: Taps, last: Array) -> Array:
    """[h, w, 1]: the mean of those rows of [T, T] that the score reads, at the patches.

    They are told by the gradient of the last attention, [heads, T, T], which is zero for all others: the token of the class
    alone (and that of a teacher, where both are read), or all where the model takes a mean.
    """
    height, width = taps.size
    patches = np.arange(taps.first, taps.first + height * width)
    read = np.abs(last).max(axis=(0, 2)) > 0
    if not read.any():  # the score is flat, so that nothing tells
        read[np.delete(np.arange(len(read)), patches)[:1]] = True
    rows = relevance[read if read.any() else slice(None)]
    found: Array = rows.mean(axis=0)[patches].reshape(height, width, 1)
    return found


# ------------------------------------------------------------------------------------------------- what these share


def _sums(asked: Asked, points: Points, modes: Sequence[str], powers: int) -> dict[str, list[Array]]:
    """The sums over samples of G, G^2, ..., float64 [t, h, w, c] each: what is kept does not grow with their number."""
    totals: dict[str, list[Array]] = {}
    for chunk in asked.over(points, asked.estimation.samples, modes):
        for mode, found in chunk.gradients.items():
            sums = totals.setdefault(mode, [np.zeros((len(found), *found.shape[2:])) for _ in range(powers)])
            for start in range(0, found.shape[2], ROWS):  # so many rows at once as a processor keeps near
                parts = [total[:, start : start + ROWS] for total in sums]
                for sample in np.moveaxis(found[:, :, start : start + ROWS], 1, 0):
                    exact = sample.astype(np.float64)
                    term = exact
                    for power, total in enumerate(parts):
                        term = term * exact if power else exact
                        total += term
    return totals


def _noisy(asked: Asked, modes: Sequence[str]) -> dict[str, list[Array]]:
    """Sums over the same noisy copies for all who smooth."""
    powers = 4 if asked.wanted & {"smoothgrad-squared", "vargrad"} else 2
    return asked.once(("noisy", tuple(modes)), lambda: _sums(asked, _noise(asked), modes, powers))


def _noise(asked: Asked) -> Points:
    image, estimation = asked.image, asked.estimation
    deviation = np.float32(estimation.noise * (float(image.max()) - float(image.min())))
    draw = np.random.Generator(np.random.PCG64(seed(image, estimation)))
    levels = _normal() * deviation

    def points(first: int, end: int) -> Array:
        noise = levels.take(draw.integers(0, LEVELS, (end - first, *image.shape), np.uint16))
        return np.add(image, noise, out=noise)

    return points


@cache
def _normal() -> Array:
    """float32 [LEVELS]: equally likely values of a normal distribution, mean 0 and variance 1, the largest 4.3. A random
    number of 16 bits picks one, for a quarter of what a draw without steps costs: a gradient of a small network is cheap."""
    from statistics import NormalDist

    upper = [NormalDist().inv_cdf((place + 0.5) / LEVELS) for place in range(LEVELS // 2, LEVELS)]
    values = np.array([*(-each for each in reversed(upper)), *upper])
    return (values / values.std()).astype(np.float32)


def seed(image: Array, estimation: Estimation) -> int:
    """Of the noise: the SHA-256 of the image as the model takes it and of the options, so that bytes repeat."""
    told = json.dumps([list(image.shape), estimation.samples, estimation.noise])
    data = np.ascontiguousarray(image, "<f4").tobytes()
    return int.from_bytes(hashlib.sha256(told.encode() + data).digest(), "big")


def _variance(first: Array, second: Array, count: int) -> Array:
    """Of samples whose values and squares sum to these, by n - 1; NaN of one."""
    if count < 2:
        return np.full(first.shape, np.nan)
    return np.maximum(second - first**2 / count, 0) / (count - 1)


def _left(found: Array, variance: Array, count: int) -> Array:
    """[t, 1]: the standard error of a mean of n samples of this variance, in relation to the mean (both in L2)."""
    error = np.sqrt(variance.sum(axis=(1, 2, 3)) / count)
    return _ratio(error, np.sqrt((found**2).sum(axis=(1, 2, 3))))[:, None]


def _ratio(value: Array, by: Array) -> Array:
    """NaN where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(by == 0, np.nan, value / by)


Combine = Callable[[Array, Array], Array]


def _cams(asked: Asked, modes: Sequence[str], combine: Combine) -> dict[str, Made]:
    """ReLU of the sum over channels, at the size of the layer, [t, h, w, 1]; `combine` takes A and G, [h, w, k] each.

    Recorded is the share of the score that the layer accounts for, sum(A G) / (score - score at A = 0): 1 where what lies
    behind the layer is linear in it (pooling or flattening, and one dense layer), as the maps take for granted.
    """
    made = {}
    for mode in modes:
        inner = asked.inner("cam", mode)
        value = inner.values[0].astype(np.float64)
        slopes = inner.gradients[0].astype(np.float64)
        maps = np.stack([np.maximum(combine(value, slope).sum(axis=-1), 0) for slope in slopes])
        known = _ratio(np.einsum("hwk,thwk->t", value, slopes), asked.score - inner.resting)
        share = known if mode == PLAIN else np.full(len(maps), np.nan)
        made[mode] = Made(maps[..., None], share[:, None])
    return made


def between(small: int, large: int) -> Array:
    """[large, small]: the weights that interpolate an axis bilinearly, pixels being areas (half-pixel centres)."""
    at = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(small)[None, :]), 0)


# ---------------------------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Estimator:
    """One estimator.

    Attributes
    ----------
    estimate : (Asked, modes) -> {mode: Made}
    unit : str
        Of the numbers of its maps.
    source : str
        The paper.
    options : tuple of str
        The fields of `Estimation` that it takes.
    numbers : tuple of str
        What is recorded beside each map.
    mode : str
        The one where none is asked for.
    beside : tuple of str
        Modes whose gradient it takes besides that of its own.
    plain : bool
        Whether it takes the gradient at the image itself.
    sampled : bool
        It asks for many gradients, so that one image is as much as is asked for at once.
    modes : tuple of str
        Those that make sense; empty for all.
    taps : str
        The kind of inner tensors that it takes; empty for none.
    at_input : bool
        Its maps have the shape of the image; else that of `Taps.size`, and one channel.
    caution : str
        What has to be known before its maps are read.
    empty : str
        What a map of zeros means where the gradient at the image is none, and what to do then.
    other_names : tuple of str
        What others call it, or what is near to it, for who asks for that.
    version : int
        Raised when its maps change, so that they and no others are drawn again.
    """

    name: str
    estimate: Estimate
    summary: str
    source: str
    unit: str = "attribution per model-input unit"
    options: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    mode: str = PLAIN
    beside: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    plain: bool = False
    sampled: bool = False
    taps: str = ""
    at_input: bool = True
    caution: str = ""
    empty: str = ""
    other_names: tuple[str, ...] = ()
    version: int = 1

    @property
    def is_area(self) -> bool:
        """Whether its maps show places of inner tensors, which a box can be put around."""
        return self.taps == "cam" and not self.at_input


_SMOOTH: dict[str, Any] = {"options": ("samples", "noise"), "numbers": ("noise_left",), "sampled": True, "version": 3}
_CAM: dict[str, Any] = {"options": ("cam_layer",), "numbers": ("share",), "taps": "cam", "unit": "score"}
_AREA: dict[str, Any] = {**_CAM, "at_input": False}
_ATTENTION: dict[str, Any] = {"taps": "attention", "at_input": False, "unit": "share of the attention"}

ESTIMATORS: dict[str, Estimator] = {
    one.name: one
    for one in (
        Estimator(
            GRADIENT,
            gradient,
            "the gradient itself",
            "Simonyan et al. 2013, arXiv:1312.6034",
            mode=DEFAULT_MODE,
            plain=True,
            other_names=("saliency", "vanilla"),
        ),
        Estimator(
            "grad-cam",
            grad_cam,
            "where the last feature maps speak for the class, each weighted by its mean gradient",
            "Selvaraju et al. 2017, arXiv:1610.02391",
            **_AREA,
            other_names=("cam", "grad-cam++", "gradcam++", "score-cam", "eigen-cam"),
        ),
        Estimator(
            "integrated-gradients",
            integrated_gradients,
            "the gradient along the way from a baseline, times that way: parts of the difference of the scores",
            "Sundararajan et al. 2017, arXiv:1703.01365",
            unit="score",
            options=("samples", "baseline"),
            numbers=("completeness_gap",),
            sampled=True,
            empty="the image is like its baseline wherever a gradient between them is not zero; try another --baseline",
            version=2,
            other_names=("ig", "integrated", "intgrad"),
        ),
        Estimator(
            "smoothgrad",
            smoothgrad,
            "the mean gradient of noisy copies",
            "Smilkov et al. 2017, arXiv:1706.03825",
            **_SMOOTH,
            other_names=("sg", "noise-tunnel", "smooth"),
        ),
        Estimator(
            "guided-grad-cam",
            guided_grad_cam,
            "the guided map where the Grad-CAM is",
            "Selvaraju et al. 2017, arXiv:1610.02391, section 3.2",
            beside=(DEFAULT_MODE,),
            **{**_CAM, "unit": "score squared per model-input unit"},
            empty="wherever the guided map is not zero the Grad-CAM is; try another --cam-layer",
            other_names=("guided-cam", "ggcam"),
        ),
        Estimator(
            "hires-cam",
            hires_cam,
            "where the last feature maps raise the score, place by place",
            "Draelos & Carin 2020, arXiv:2011.08891",
            **_AREA,
        ),
        Estimator(
            "layer-cam",
            layer_cam,
            "as hires-cam, of positive gradients alone",
            "Jiang et al. 2021, doi:10.1109/TIP.2021.3089943",
            **_AREA,
        ),
        Estimator(
            "chefer",
            chefer,
            "which patches the attention of a transformer takes the class from, layer by layer",
            "Chefer et al. 2021, arXiv:2103.15679",
            **{**_ATTENTION, "unit": "score"},
            empty="no attention raises the score; -e attention-rollout shows all of it",
            other_names=("attention", "relevance", "transformer"),
        ),
        Estimator(
            "attention-rollout",
            attention_rollout,
            "which patches the attention of a transformer comes from, of whatever class",
            "Abnar & Zuidema 2020, arXiv:2005.00928",
            **_ATTENTION,
            modes=(PLAIN,),
            caution="attention is the same for every class and mode, and so is its rollout",
            other_names=("attention", "rollout"),
        ),
        Estimator(
            "input-x-gradient",
            input_x_gradient,
            "the gradient times the input",
            "Shrikumar et al. 2016, arXiv:1605.01713",
            unit="score",
            plain=True,
            version=2,
            empty="the model is given the number 0 wherever the gradient is not zero; -e gradient has a map",
            other_names=("ixg", "gradient-x-input", "grad-x-input", "gradxinput"),
        ),
        Estimator(
            "smoothgrad-squared",
            smoothgrad_squared,
            "the mean squared gradient of noisy copies",
            "Smilkov et al. 2017, arXiv:1706.03825",
            **{**_SMOOTH, "unit": "attribution squared per model-input unit squared"},
        ),
        Estimator(
            "vargrad",
            vargrad,
            "the variance of the gradient over noisy copies",
            "Adebayo et al. 2018, arXiv:1810.03307",
            empty="the gradient does not vary, it is the same for all noisy copies (-e smoothgrad shows it)",
            **{**_SMOOTH, "unit": "attribution squared per model-input unit squared"},
        ),
    )
}
"""Name -> estimator, the common ones first: the choices of --estimator."""


def estimators_of(methods: Sequence[str]) -> dict[str, list[str]]:
    """Estimator -> the modes that it is asked for, of the names of methods, each in the order of the first."""
    found: dict[str, list[str]] = {}
    for name in methods:
        method = Method.of(name)
        modes = found.setdefault(method.estimator, [])
        if method.mode not in modes:
            modes.append(method.mode)
    return found


def kinds_of(methods: Sequence[str]) -> tuple[str, ...]:
    """The kinds of inner tensors that these take."""
    kinds = (ESTIMATORS[name].taps for name in estimators_of(methods))
    return tuple(dict.fromkeys(kind for kind in kinds if kind))


def shape_of(method: str, image: tuple[int, int, int], taps: Sequence[Taps]) -> tuple[int, int, int]:
    """Of a map of this method, [h, w, c]; StopIteration where the model has not the inner tensors that it needs."""
    estimator = ESTIMATORS[Method.of(method).estimator]
    if estimator.at_input:
        return image
    size = next(one.size for one in taps if one.kind == estimator.taps)
    return (*size, 1)


def modes_of(methods: Sequence[str]) -> tuple[str, ...]:
    """The modes whose rules act for these methods, each once."""
    found: dict[str, None] = {}
    for estimator, modes in estimators_of(methods).items():
        found.update(dict.fromkeys((*modes, *ESTIMATORS[estimator].beside)))
    return tuple(found)
