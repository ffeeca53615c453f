"""What an estimator says of its map beside the map itself: in the picture, in the manifest, in a line for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gradviz_cli.estimators import ENOUGH, ESTIMATORS, Method
from gradviz_cli.model.explainer import Attribution
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import Facts

Said = dict[str, Any]

FEWEST, MOST_NEEDED = 64, 4096  # samples; who needs more needs another baseline


def said(found: Attribution, facts: Facts, method: str, place: int) -> Said:
    """What is recorded of one map: its numbers where they are known, and the layer that it is taken from."""
    estimator = ESTIMATORS[Method.of(method).estimator]
    layers = {f"{one.kind}_layer": one.tensors[0] for one in facts.taps if one.kind == estimator.taps and one.axes}
    numbers = found.numbers[method][place] if method in found.numbers else ()
    known = dict(zip(estimator.numbers, map(float, numbers), strict=False))
    return {**layers, **{name: value for name, value in known.items() if math.isfinite(value)}}


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
    "completeness_gap": lambda value: f"gap {100 * value:.2g} %",
    "noise_left": lambda value: f"noise left {100 * value:.2g} %",
    "share": lambda value: f"share {value:.4g}",
    "cam_layer": lambda value: str(value).removesuffix(":0").rsplit("/", 2)[-2 if "/" in str(value) else -1],
}


def notes(found: Attribution, samples: int = 32) -> Iterator[str]:
    """What has to be known of the maps of an image, in words that many images share."""
    for method, numbers in found.numbers.items():
        names = ESTIMATORS[Method.of(method).estimator].numbers
        if "completeness_gap" in names:
            gaps = [abs(float(one[names.index("completeness_gap")])) for one in numbers]
            yield from filter(None, [_gap(method, max(gaps, default=0.0), samples)])


def _gap(method: str, gap: float, samples: int) -> str | None:
    if not gap > ENOUGH:
        return None
    # The gap of midpoints shrinks at least like 1/n, by fits and starts as there are kinks on the way: hence four times that.
    needed = max(FEWEST, 2 ** math.ceil(math.log2(4 * samples * gap / ENOUGH))) if math.isfinite(gap) else math.inf
    what = f"{method}: the parts of some image miss the difference of the scores by more than {100 * ENOUGH:g} %"
    if needed > MOST_NEEDED:
        return f"{what}, as the score hardly differs from that of the baseline; another --baseline settles it"
    return f"{what}; --samples {needed} settles it"
