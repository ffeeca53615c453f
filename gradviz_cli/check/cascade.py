"""Asks a model what it takes to judge its maps: as it is, with kernels drawn anew from the score down, for other classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from gradviz_cli.batch.budget import images_at_once
from gradviz_cli.check.measures import Likeness, alike, alive, likeness, sobel, to_edges
from gradviz_cli.errors import ImageError
from gradviz_cli.estimators import Estimation
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.model.explainer import Attribution, Explainer
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.process.protocol import Explain

Array = np.ndarray

FIRST = (1, 2, 3)  # kernels from the score down that are looked at one by one
MOST_CLASSES = 12  # up to so many are all compared with each other
SOME_CLASSES = 2  # of more, beside the one that is explained


@dataclass(frozen=True)
class Level:
    """Maps of a model of which the first `random` kernels are drawn anew, beside those of the model as it is."""

    random: int
    alive: int
    images: int
    likeness: Likeness


@dataclass(frozen=True)
class Classes:
    """Maps of an image for different classes, beside each other: the mean cosine of all pairs whose maps are alive, and of
    how many images there are any. Of a model with one score, nothing was asked of any image."""

    cosine: float | None
    alive: int
    images: int


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found of one method.

    Attributes
    ----------
    shown : tuple of array
        Its maps [h, w, c] of one image, as the model is and then for each level.
    """

    method: str
    levels: tuple[Level, ...]
    classes: Classes
    edges: Likeness
    shown: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Cascade:
    """What was found of a model.

    Attributes
    ----------
    kernels : tuple of str
        From the score down.
    targets : dict
        Place of an image -> the class that was explained. An image that the model failed on is missing, and has its error
        in `failed`.
    shown : int or None
        Place of the image that is shown: the first of those that the most maps are alive of.
    """

    kernels: tuple[str, ...]
    targets: dict[int, TargetResult]
    failed: dict[int, ImageError]
    methods: tuple[Findings, ...]
    shown: int | None = None


@dataclass(frozen=True, eq=False)
class _Learnt:
    """Of one image, as the model is: its class, by method its map, and the cosines between its maps of different classes."""

    target: TargetResult
    maps: dict[str, Array]
    between: dict[str, list[float]]


def cascade(model: Explainer, images: Sequence[Pixels], methods: Sequence[str], estimation: Estimation) -> Cascade:
    """Ask a loaded model, which was told that its kernels will be drawn anew, for maps of these images.

    The class of an image is the best one of the model as it is, at every level: else another map would be compared.

    Raises
    ------
    ModelUnusable, UsageError
        As `Explainer.explain` and `Explainer.redraw`.
    """
    kernels = model.redraw(0)
    request = Explain((-1, *classes_of(model.facts.classes)), tuple(methods), estimation=estimation)
    learnt, failed = _learnt(model, images, request)
    targets = {place: one.target for place, one in learnt.items()}
    classes = {place: target.index for place, target in targets.items() if target.index is not None}
    drawn = {level: _at(model, images, classes, request, level) for level in levels_of(len(kernels)) if targets}
    shown = max(learnt, key=lambda place: _alive(place, drawn), default=None)
    found = tuple(_findings(name, images, learnt, drawn, len(request.targets) > 1, shown) for name in methods)
    return Cascade(kernels, targets, failed, found, shown)


def _alive(place: int, drawn: Mapping[int, dict[int, dict[str, Array]]]) -> int:
    """How many maps of an image are alive at all levels together."""
    return sum(alive(each) for found in drawn.values() for each in found.get(place, {}).values())


def levels_of(kernels: int) -> tuple[int, ...]:
    """How many kernels are drawn anew, one after the other: the first few, half of them, all."""
    return tuple(sorted({count for count in (*FIRST, kernels // 2, kernels) if 0 < count <= kernels}))


def classes_of(count: int | None) -> tuple[int, ...]:
    """The classes that are compared with each other, all over the list; none where a model has one score."""
    if not count or count < 2:
        return ()
    if count <= MOST_CLASSES:
        return tuple(range(count))
    return tuple(int(place) for place in np.linspace(0, count - 1, SOME_CLASSES))


def _learnt(
    model: Explainer, images: Sequence[Pixels], request: Explain
) -> tuple[dict[int, _Learnt], dict[int, ImageError]]:
    found: dict[int, _Learnt] = {}
    failed: dict[int, ImageError] = {}
    for place, one in _explained(model, images, range(len(images)), request):
        if isinstance(one, ImageError):
            failed[place] = one
        else:
            first = {name: maps[0].copy() for name, maps in one.maps.items()}  # the others are let go
            found[place] = _Learnt(one.targets[0], first, {name: _between(one, name) for name in one.maps})
    return found, failed


def _between(one: Attribution, method: str) -> list[float]:
    """Cosines of all pairs of maps of different classes; the best class may have been asked for twice."""
    by_class = {target.index: each for target, each in zip(one.targets, one.maps[method], strict=True) if alive(each)}
    return [alike(first, second) for first, second in combinations(by_class.values(), 2)]


def _at(
    model: Explainer, images: Sequence[Pixels], classes: dict[int, int], request: Explain, level: int
) -> dict[int, dict[str, Array]]:
    """By place of an image and method, its map at one level; images that the model fails on are missing."""
    model.redraw(level)
    found: dict[int, dict[str, Array]] = {}
    for place, one in _explained(model, images, list(classes), request, classes):
        if not isinstance(one, ImageError):
            found[place] = {name: maps[0] for name, maps in one.maps.items()}
    return found


def _explained(
    model: Explainer,
    images: Sequence[Pixels],
    places: Sequence[int],
    request: Explain,
    classes: Mapping[int, int] | None = None,
) -> Iterator[tuple[int, Attribution | ImageError]]:
    height, width = model.facts.size
    size = images_at_once(height, width, model.facts.channels, model.computes_on_gpu)
    for start in range(0, len(places), size):
        part = places[start : start + size]
        if classes is not None:
            request = replace(request, targets=tuple(classes[place] for place in part), own=True)
        fitted, held = zip(*((images[place].fitted, images[place].held) for place in part), strict=True)
        yield from zip(part, model.explain(fitted, request, held=held), strict=True)


def _findings(
    method: str,
    images: Sequence[Pixels],
    learnt: dict[int, _Learnt],
    drawn: dict[int, dict[int, dict[str, Array]]],
    several: bool,
    shown: int | None,
) -> Findings:
    base = {place: one.maps[method] for place, one in learnt.items()}
    levels = {level: {place: maps[method] for place, maps in found.items()} for level, found in drawn.items()}
    edges = [(one, sobel(images[place].fitted)) for place, one in base.items() if alive(one)]
    return Findings(
        method,
        tuple(_level(level, base, found) for level, found in levels.items()),
        _classes([one.between[method] for one in learnt.values()] if several else []),
        to_edges(edges),
        _shown(base, levels.values(), shown),
    )


def _level(level: int, base: dict[int, Array], drawn: dict[int, Array]) -> Level:
    both = [(one, drawn[place]) for place, one in base.items() if place in drawn]
    pairs = [pair for pair in both if all(map(alive, pair))]
    return Level(level, len(pairs), len(base), likeness(pairs))


def _classes(between: Sequence[list[float]]) -> Classes:
    cosines = [value for one in between for value in one]
    return Classes(float(np.mean(cosines)) if cosines else None, sum(map(bool, between)), len(between))


def _shown(base: dict[int, Array], levels: Iterable[dict[int, Array]], place: int | None) -> tuple[Array, ...]:
    """Of one image; where the model failed on it, numbers that are none."""
    if place is None:
        return ()
    return (base[place], *(found.get(place, np.full_like(base[place], np.nan)) for found in levels))
