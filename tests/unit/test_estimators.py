"""The mathematics of estimators on models that a pencil can differentiate; nothing here knows TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gradviz_cli.estimators import (
    ESTIMATORS,
    LEVELS,
    Chunk,
    Estimation,
    Inner,
    Made,
    Method,
    Taps,
    between,
    estimators_of,
    kinds_of,
    modes_of,
    seed,
    shape_of,
)
from gradviz_cli.rules import RULES

SHAPE = (3, 4, 2)
DRAW = np.random.default_rng(5)
X, B, W = (DRAW.normal(size=SHAPE).astype(np.float32) for _ in range(3))


@dataclass
class Pencil:
    """A score of points [m, h, w, c] and its gradient, written out; chunks of three."""

    score_of: Callable[[np.ndarray], np.ndarray]
    slope_of: Callable[[np.ndarray], np.ndarray]
    estimation: Estimation = Estimation()
    image: np.ndarray = field(default_factory=lambda: X)
    baseline: np.ndarray | None = field(default_factory=lambda: B)
    wanted: frozenset[str] = frozenset(ESTIMATORS)
    asked: list[int] = field(default_factory=list)
    kept: dict = field(default_factory=dict)
    layer: tuple[np.ndarray, np.ndarray] | None = None  # A, G
    resting: float = 0.0

    @property
    def score(self) -> np.ndarray:
        return self.score_of(self.image[None])

    def gradient(self, mode: str) -> np.ndarray:
        return self.slope_of(self.image[None])

    def numbers(self, points: np.ndarray) -> np.ndarray:
        return points

    def scores(self, points: np.ndarray) -> np.ndarray:
        return self.score_of(points)[None]

    def over(self, points: Callable, count: int, modes: Sequence[str]) -> Iterator[Chunk]:
        for start in range(0, count, 3):
            part = points(start, min(start + 3, count))
            self.asked.append(len(part))
            yield Chunk(self.scores(part), dict.fromkeys(modes, self.slope_of(part)[None]))

    def inner(self, kind: str, mode: str) -> Inner:
        value, slope = self.layer
        taps = Taps(kind, ("relu:0",), value.shape[:2], (0, 1, 2))
        return Inner(taps, (value,), (slope[None],), np.array([self.resting]))

    def once(self, key: object, make: Callable) -> object:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


def linear(**more) -> Pencil:
    return Pencil(lambda x: (x * W).sum((1, 2, 3)) + 7, lambda x: np.broadcast_to(W, x.shape), **more)


def square(**more) -> Pencil:
    """1/2 sum W x^2: its gradient is W x."""
    return Pencil(lambda x: (W * x**2).sum((1, 2, 3)) / 2, lambda x: W * x, **more)


def cubic(**more) -> Pencil:
    return Pencil(lambda x: (W * x**3).sum((1, 2, 3)), lambda x: 3 * W * x**2, **more)


def made(name: str, asked: Pencil, mode: str = "backprop") -> Made:
    return ESTIMATORS[name].estimate(asked, [mode])[mode]


# ---- integrated gradients


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_of_a_linear_score_each_part_is_the_way_times_the_weight(samples: int) -> None:
    found = made("integrated-gradients", linear(estimation=Estimation(samples=samples)))
    assert np.allclose(found.maps[0], W * (X - B), rtol=1e-5)
    assert abs(found.numbers[0, 0]) < 1e-5


def test_midpoints_are_exact_where_the_gradient_is_linear_and_never_off_by_an_end() -> None:
    found = made("integrated-gradients", square(estimation=Estimation(samples=1)))
    assert np.allclose(found.maps[0], W * (X**2 - B**2) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("samples", [2, 4, 8])
def test_the_gap_is_that_of_the_midpoint_rule(samples: int) -> None:
    """Of 3x^2 over [b, x] the rule misses (x - b)^3 / (4 n^2), part by part."""
    found = made("integrated-gradients", cubic(estimation=Estimation(samples=samples)))
    missing = -(W * (X - B) ** 3).sum() / (4 * samples**2)
    whole = (W * (X**3 - B**3)).sum()
    assert found.numbers[0, 0] == pytest.approx(missing / whole, rel=1e-3)
    assert found.maps[0].sum() == pytest.approx(whole + missing, rel=1e-4)


def test_a_patched_gradient_has_no_gap_to_speak_of() -> None:
    assert np.isnan(made("integrated-gradients", linear(), "guided").numbers).all()


def test_input_times_gradient() -> None:
    assert np.allclose(made("input-x-gradient", square()).maps[0], W * X**2, rtol=1e-6)


# ---- noise


def drawn(estimation: Estimation) -> np.ndarray:
    """The noisy copies, drawn by the recipe and not by the function."""
    draw = np.random.Generator(np.random.PCG64(seed(X, estimation)))
    parts = draw.integers(0, LEVELS, (estimation.samples, *SHAPE), np.uint16)
    noise = np.vectorize(NormalDist().inv_cdf)((parts + 0.5) / LEVELS)
    return X + estimation.noise * (float(X.max()) - float(X.min())) * noise


def test_noise_is_normal() -> None:
    """In moments, and in how much of it lies below a value."""
    points = [np.zeros(0, np.float32)]

    def over(take, count, modes):
        points[0] = take(0, count)
        return iter(())

    image = np.zeros((40, 50, 1), np.float32)
    image[0, 0] = 2.0
    estimation = Estimation(samples=100, noise=0.5)  # of a range of 2: deviation 1
    asked = SimpleNamespace(
        image=image, estimation=estimation, wanted=frozenset(), over=over, once=lambda key, make: make()
    )
    ESTIMATORS["smoothgrad"].estimate(asked, ["backprop"])
    noise = np.sort((points[0] - image).astype(np.float64).ravel())
    assert abs(noise.mean()) < 0.01 and noise.var() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean() == pytest.approx(3, abs=0.06)
    for value in (-3.0, -1.0, -0.1, 0.5, 2.0, 3.5):
        assert np.searchsorted(noise, value) / len(noise) == pytest.approx(NormalDist().cdf(value), abs=0.004)


def test_smoothing_is_the_mean_the_mean_square_and_the_variance_of_the_same_gradients() -> None:
    estimation = Estimation(samples=10, noise=0.2)
    gradients = W * drawn(estimation)
    asked = square(estimation=estimation)
    assert np.allclose(made("smoothgrad", asked).maps[0], gradients.mean(0), rtol=1e-4, atol=1e-5)
    assert np.allclose(made("smoothgrad-squared", asked).maps[0], (gradients**2).mean(0), rtol=1e-4, atol=1e-5)
    assert np.allclose(made("vargrad", asked).maps[0], gradients.var(0, ddof=1), rtol=1e-3, atol=1e-6)
    assert asked.asked == [3, 3, 3, 1], "all three share one walk"


def test_what_noise_is_left_is_the_standard_error() -> None:
    estimation = Estimation(samples=12, noise=0.3)
    gradients = W * drawn(estimation)
    asked = square(estimation=estimation)
    for name, each in {"smoothgrad": gradients, "smoothgrad-squared": gradients**2}.items():
        error = np.sqrt((each.var(0, ddof=1) / 12).sum())
        assert made(name, asked).numbers[0, 0] == pytest.approx(error / np.linalg.norm(each.mean(0)), rel=1e-3)


def test_the_standard_error_of_a_variance_is_what_repeats_scatter_by() -> None:
    images = [X + np.float32(1e-6 * k) for k in range(200)]  # the seed is another one, the gradient is not
    estimation = Estimation(samples=300, noise=0.2)
    found = [made("vargrad", replace(square(estimation=estimation), image=image, kept={})) for image in images]
    maps = np.stack([one.maps[0] for one in found])
    scatter = np.sqrt(maps.var(0).sum()) / np.linalg.norm(maps.mean(0))
    assert np.mean([one.numbers[0, 0] for one in found]) == pytest.approx(scatter, rel=0.1)


def test_of_a_linear_score_no_noise_is_left() -> None:
    found = made("smoothgrad", linear())
    assert np.allclose(found.maps[0], W, rtol=1e-6) and found.numbers[0, 0] < 1e-6


def test_one_sample_says_nothing_of_its_error() -> None:
    assert np.isnan(made("smoothgrad", square(estimation=Estimation(samples=1))).numbers).all()


def test_the_seed_is_that_of_the_image_and_the_options_and_repeats() -> None:
    usual = Estimation()
    others = [replace(usual, samples=33), replace(usual, noise=0.1)]
    assert seed(X, usual) == seed(X.copy(), replace(usual, cam_layer="x"))
    assert len({seed(X, usual), seed(B, usual), *(seed(X, other) for other in others)}) == 4
    assert np.array_equal(made("smoothgrad", square()).maps, made("smoothgrad", square()).maps)


# ---- class activation maps, by hand

A = np.array([[[1.0, 2.0], [0.0, 1.0]], [[3.0, 0.0], [1.0, 1.0]]])
G = np.array([[[1.0, -1.0], [2.0, 0.0]], [[-1.0, 0.0], [2.0, -3.0]]])  # its means are 1 and -1
CAMS = {
    "grad-cam": [[0, 0], [3, 0]],  # A1 - A2: -1 -1 / 3 0
    "hires-cam": [[0, 0], [0, 0]],  # 1-2 0 / -3 2-3
    "layer-cam": [[1, 0], [0, 2]],
}


@pytest.mark.parametrize("name", CAMS)
def test_a_map_of_a_layer_by_hand(name: str) -> None:
    asked = replace(linear(), layer=(A, G), resting=float(linear().score[0]) + 10)
    found = made(name, asked)
    assert found.maps[0, ..., 0].tolist() == CAMS[name]
    assert found.numbers[0, 0] == pytest.approx(-5 / -10)  # sum of A G, by score less what it rests at


def test_behind_a_mean_all_gradients_of_a_channel_are_one_and_the_two_maps_are_too() -> None:
    asked = replace(linear(), layer=(A, np.broadcast_to([0.5, -0.25], A.shape)))
    assert np.allclose(made("grad-cam", asked).maps, made("hires-cam", asked).maps)


def test_guided_grad_cam_is_the_guided_map_times_the_map_as_pillow_enlarges_it() -> None:
    asked = replace(linear(), layer=(A, G))
    small = np.array(CAMS["grad-cam"], np.float32)
    large = np.asarray(Image.fromarray(small).resize((SHAPE[1], SHAPE[0]), Image.Resampling.BILINEAR))
    assert np.allclose(made("guided-grad-cam", asked).maps[0], W * large[..., None], rtol=1e-5)


@pytest.mark.parametrize(("small", "large"), [(1, 5), (2, 3), (7, 224), (16, 16)])
def test_between_is_what_pillow_does(small: int, large: int) -> None:
    row = DRAW.normal(size=(1, small)).astype(np.float32)
    want = np.asarray(Image.fromarray(row).resize((large, 1), Image.Resampling.BILINEAR))
    assert np.allclose(between(small, large) @ row[0], want[0], atol=1e-6)


# ---- names


def test_a_method_is_named_as_its_file() -> None:
    assert Method("guided").name == "guided" and Method("backprop", "grad-cam").name == "backprop.grad-cam"
    for name in ESTIMATORS:
        for mode in RULES:
            assert Method.of(Method(mode, name).name) == (mode, name)


def test_what_methods_need() -> None:
    asked = ["guided", "deconv.smoothgrad", "backprop.guided-grad-cam", "backprop.smoothgrad"]
    assert estimators_of(asked) == {
        "gradient": ["guided"],
        "smoothgrad": ["deconv", "backprop"],
        "guided-grad-cam": ["backprop"],
    }
    assert modes_of(asked) == ("guided", "deconv", "backprop") and kinds_of(asked) == ("cam",)
    taps = [Taps("cam", ("x:0",), (7, 9))]
    assert shape_of("backprop.grad-cam", (2, 2, 3), taps) == (7, 9, 1)
    assert shape_of("backprop.guided-grad-cam", (2, 2, 3), taps) == (2, 2, 3)


def test_every_entry_says_where_it_is_from_and_what_it_takes() -> None:
    for name, one in ESTIMATORS.items():
        assert name == one.name and one.source and one.summary and one.unit
        assert set(one.options) <= vars(Estimation()).keys() and one.mode in RULES
