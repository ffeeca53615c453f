"""What an estimator says of its map beside the map itself: in the picture, in the manifest, in a line for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradviz_cli.estimators import ENOUGH, ESTIMATORS, Method
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import Facts

Said = dict[str, Any]

GAP = "completeness_gap"
FEWEST, MOST_NEEDED = 128, 4096  # samples: the gap of a few is chance; who needs more needs another baseline


def said(found: Attribution, facts: Facts, method: str, place: int) -> Said:
    """What is recorded of one map: its numbers where they are known, and the layer that it is taken from."""
    estimator = ESTIMATORS[Method.of(method).estimator]
    layers = {f"{one.kind}_layer": one.tensors[0] for one in facts.taps if one.kind == estimator.taps and one.axes}
    return {**layers, **numbers(found.numbers, method, place)}


def numbers(found: Mapping[str, np.ndarray], method: str, place: int) -> Said:
    """Those of `found`, by method [t, k], that are known of one map."""
    names = ESTIMATORS[Method.of(method).estimator].numbers
    known = dict(zip(names, map(float, found[method][place]), strict=False)) if method in found else {}
    return {name: value for name, value in known.items() if math.isfinite(value)}


def records(
    told: Mapping[tuple[str, int], Said], targets: Sequence[Target], found: Sequence[TargetResult]
) -> tuple[Said, ...]:
    """The same for the manifest, one for each map of which there is something."""
    return tuple(
        {**Method.of(method)._asdict(), "target": targets[place].spec, "index": found[place].index, **one}
        for (method, place), one in told.items()
        if one
    )


def captions(method: str, told: Said) -> Iterator[str]:
    """Lines below a map of a sheet."""
    for name, value in told.items():
        if name in _SHOWN:
            yield _SHOWN[name](value)


_SHOWN: dict[str, Callable[[Any], str]] = {
    GAP: lambda value: f"gap {100 * value:.2g} %",
    "noise_left": lambda value: f"noise left {100 * value:.2g} %",
    "share": lambda value: f"share {value:.4g}",
    "cam_layer": lambda value: str(value).removesuffix(":0").rsplit("/", 2)[-2 if "/" in str(value) else -1],
}


@dataclass
class Gaps:
    """The completeness gaps of a run, for one line at its end. What is kept does not grow with the images."""

    samples: int
    maps: int = 0  # that have one
    far: int = 0  # of them those that more samples do not help
    large: int = 0  # and those that more samples help
    most: tuple[float, str] = (0.0, "")  # of these the largest, and of which image
    farthest: tuple[float, str] = (0.0, "")

    def add(self, image: str, told: Iterable[Mapping[str, Any]]) -> None:
        """What is said of the maps of an image."""
        gaps = [(abs(one[GAP]), image) for one in told if GAP in one]
        self.maps += len(gaps)
        for one in gaps:
            if needed(self.samples, one[0]) > MOST_NEEDED:
                self.far, self.farthest = self.far + 1, max(self.farthest, one)
            elif one[0] > ENOUGH:
                self.large, self.most = self.large + 1, max(self.most, one)

    def warnings(self) -> Iterator[str]:
        """One, or none where all gaps are small."""
        gap, image = max(self.most, self.farthest)
        if not gap:
            return
        both = self.large and self.far
        what = (
            f"integrated-gradients: {self.large + self.far} of {self.maps} maps miss the difference of the scores by more "
            f"than {100 * ENOUGH:g} %, that of {image} by {100 * gap:,.{0 if gap >= 0.1 else 1}f} %"
        )
        more = f"--samples {needed(self.samples, self.most[0])} settles {self.large if both else 'it'}"
        other = "the score hardly differs from that of the baseline"
        other = f"of {self.far} {other}" if both else other
        other = f"{other}, which another --baseline settles"
        yield "; ".join([what, *([more] if self.large else []), *([other] if self.far else [])])


def needed(samples: int, gap: float) -> float:
    """How many samples bring a gap of so many below what is warned of.

    The gap of midpoints shrinks at least like 1/n, by fits and starts as there are kinks on the way: hence four times that.
    """
    if not gap > ENOUGH:
        return samples
    return max(FEWEST, 2 ** math.ceil(math.log2(4 * samples * gap / ENOUGH))) if math.isfinite(gap) else math.inf
