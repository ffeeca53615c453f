"""One image as an estimator sees it: what it may ask of the model, computed when it is asked for and once.

Many points of one image go into a call together, which pays; how many is settled by the model alone, so that bytes hang on
nothing but the image. What is kept at once is bounded: so many calls as there are processors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from gradviz_cli.estimators import (
    ESTIMATORS,
    GRADIENT,
    Chunk,
    Estimation,
    Inner,
    Made,
    Method,
    Points,
    Taps,
    estimators_of,
)
from gradviz_cli.worker.run.differentiate import Differentiator
from gradviz_cli.worker.run.parallel import Calls
from gradviz_cli.worker.run.targets import Explained, Form, Look, Sampled

# So many pixels of one image's points go into one call: 4 points of 224 x 224. More cost memory and save nothing.
PIXELS_A_CALL = 4 * 224 * 224
MOST_A_CALL = 64


@dataclass(frozen=True)
class Subject:
    """What is the same for all images: the model, what is asked of it, and the inner tensors that this takes.

    `resting` says the score of each class where an inner tensor is zero, [p, k].
    """

    differentiator: Differentiator
    calls: Calls
    methods: tuple[str, ...]
    estimation: Estimation
    taps: tuple[Taps, ...] = ()
    resting: Callable[[np.ndarray, str], np.ndarray] | None = None


@dataclass(eq=False)
class Asking:
    """`estimators.Asked` for one image."""

    subject: Subject
    image: np.ndarray
    baseline: np.ndarray | None
    look: Look
    _kept: dict[object, Any] = field(default_factory=dict)

    @property
    def estimation(self) -> Estimation:
        return self.subject.estimation

    @property
    def wanted(self) -> frozenset[str]:
        return frozenset(estimators_of(self.subject.methods))

    @property
    def score(self) -> np.ndarray:
        return self.look.columns[2]

    def gradient(self, mode: str) -> np.ndarray:
        return self.look.gradients[mode]

    def inner(self, kind: str, mode: str) -> Inner:
        start = 0
        for taps in self.subject.taps:
            end = start + len(taps.tensors)
            if taps.kind == kind:
                values, slopes = self.look.values[start:end], self.look.slopes[mode][start:end]
                laid = _by_layers if taps.turns else _by_axes
                by_target = [laid([each[at] for each in slopes], taps) for at in range(len(self.look.seeds))]
                together = tuple(np.stack(each) for each in zip(*by_target, strict=True))
                return Inner(taps, tuple(laid(values, taps)), together, self._resting(taps))
            start = end
        raise KeyError(kind)

    def _resting(self, taps: Taps) -> np.ndarray:
        if self.subject.resting is None or not taps.certain:
            return np.full(len(self.look.seeds), np.nan)
        rest = self.subject.resting(self.image, taps.tensors[0])
        if rest.shape != self.look.seeds.shape[1:]:
            return np.full(len(self.look.seeds), np.nan)
        return (self.look.seeds.astype(np.float64) * rest).sum(axis=(1, 2))

    def numbers(self, points: np.ndarray) -> np.ndarray:
        return self.subject.differentiator.numbers(points)

    def scores(self, points: np.ndarray) -> np.ndarray:
        return self.subject.differentiator.sample(points, self.look.seeds, ())[0]

    def over(self, points: Points, count: int, modes: Sequence[str]) -> Iterator[Chunk]:
        height, width, _ = self.image.shape
        size = max(1, min(PIXELS_A_CALL // (height * width), MOST_A_CALL))
        parts = (points(start, min(start + size, count)) for start in range(0, count, size))
        ask = partial(self._chunk, modes)
        return self.subject.calls.stream(parts, ask)

    def _chunk(self, modes: Sequence[str], points: np.ndarray) -> Chunk:
        return Chunk(*self.subject.differentiator.sample(points, self.look.seeds, modes))

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def _by_axes(values: Sequence[np.ndarray], taps: Taps) -> list[np.ndarray]:
    """The axes of each in this order: height, width, channels."""
    return [np.transpose(value, taps.axes) if taps.axes else value for value in values]


def _by_layers(values: Sequence[np.ndarray], taps: Taps) -> list[np.ndarray]:
    """[heads, T, T] of each layer."""
    heads = [_by_heads(value, turn, taps.tokens) for value, turn in zip(values, taps.turns, strict=True)]
    ends = np.cumsum(taps.layers)
    return [np.concatenate(heads[end - count : end]) for count, end in zip(taps.layers, ends, strict=True)]


def _by_heads(value: np.ndarray, turn: Sequence[int], tokens: int) -> np.ndarray:
    """[heads, T, T]; the batch axis, which `turn` counts, may be gone."""
    gone = len(turn) - value.ndim
    order = [axis - gone for axis in turn if axis >= gone]
    return np.transpose(value, order).reshape(-1, tokens, tokens)


def looked_at(methods: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The modes whose gradient is taken at the image itself, and those of which inner tensors have theirs taken."""
    plain: dict[str, None] = {}
    inner: dict[str, None] = {}
    for name, modes in estimators_of(methods).items():
        one = ESTIMATORS[name]
        plain.update(dict.fromkeys((*(modes if one.plain else ()), *one.beside)))
        inner.update(dict.fromkeys(modes if one.taps else ()))
    return tuple(plain), tuple(inner)


def forms(methods: Sequence[str], targets: int) -> list[Form | Sampled]:
    """What these methods need of a graph, for so many targets at once."""
    if is_plain(methods):
        return [Form(tuple(methods), targets)]
    plain, inner = looked_at(methods)
    sampled = [tuple(modes) for name, modes in estimators_of(methods).items() if ESTIMATORS[name].sampled]
    return [
        Form(plain, targets, looked=True, inner=inner),
        *(Sampled(modes, targets) for modes in dict.fromkeys(sampled)),
    ]


def is_plain(methods: Sequence[str]) -> bool:
    """Whether they are gradients and no more."""
    return set(estimators_of(methods)) <= {GRADIENT}


def estimated(subject: Subject, image: np.ndarray, baseline: np.ndarray | None, targets: Sequence[int]) -> Explained:
    """All methods of one image float32 [h, w, c], its classes fixed."""
    plain, inner = looked_at(subject.methods)
    look = subject.differentiator.look(image, targets, plain, inner)
    asking = Asking(subject, image, baseline, look)
    found: dict[str, Made] = {}
    for name, modes in estimators_of(subject.methods).items():
        made = ESTIMATORS[name].estimate(asking, modes)
        found.update({Method(mode, name).name: one for mode, one in made.items()})
    maps = tuple(np.asarray(found[name].maps, np.float32)[:, None] for name in subject.methods)
    numbers = tuple(np.asarray(found[name].numbers, np.float32)[:, None] for name in subject.methods)
    index, rank, score, output = (column[None] for column in look.columns)
    return Explained(index, rank, score, output, maps, numbers)
