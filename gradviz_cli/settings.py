"""The options of the Python door by name, type and default, for completion, `help` and type checkers.

The names are the command's, with `_` for `-`; `batch.planning` reads the values. Where no default is shown (None), it is
found in the model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from gradviz_cli.batch.planning import FIELDS
from gradviz_cli.estimators import GRADIENT, Estimation
from gradviz_cli.plan.plan import DEFAULT_STYLE, Drawing, Plan, Walk
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.rules import DEFAULT_MODE

if TYPE_CHECKING:
    from typing_extensions import Unpack as Unpack  # of type checkers, which all know it; Python has it from 3.11

AnyPath = str | os.PathLike[str]
Several = str | Sequence[str]  # one, several with commas, or a list
Targets = str | int | Sequence[str | int]
Numbers = str | float | Sequence[float]
Function = TypeVar("Function", bound=Callable[..., Any])


class LoadSettings(TypedDict, total=False):
    """What `load` takes besides the model."""

    preprocess: str
    pixel_range: str | tuple[float, float] | None
    mean: Numbers | None
    std: Numbers | None
    channel_order: str | None
    labels: AnyPath | None
    labels_from: int
    score: str
    activations: str
    signature: str | None
    tag: str | None
    input: str | None
    output: str | None
    at: str | Sequence[int] | None
    box_of: str | int | None
    feed: Several | Mapping[str, Any] | None
    input_size: str | tuple[int, int] | None
    layout: str | None
    fit: str
    precision: str
    allow_op: Several | None
    trust_model: bool
    require_sandbox: bool
    proof: str
    batch_size: int | str
    timeout: float
    max_pixels: int | str
    max_file_size: int | str


class LookSettings(TypedDict, total=False):
    """How a picture is drawn."""

    colormap: str
    clip: float
    alpha: float
    scale: str
    size: str


class EstimatorSettings(TypedDict, total=False):
    """What estimators other than the gradient are told."""

    samples: int
    noise: float
    baseline: AnyPath
    cam_layer: str
    box: bool


class ExplainSettings(LoadSettings, EstimatorSettings, total=False):
    """What `explain` takes besides what it asks of each image."""


class RunSettings(LoadSettings, EstimatorSettings, LookSettings, total=False):
    """What `run` takes besides model, images and OUT."""

    mode: Several
    estimator: Several
    target: Targets
    style: Several
    fast_decode: bool
    no_scores: bool
    raw: bool
    allow_empty_map: bool
    include: Several | None
    exclude: Several | None
    follow_links: bool
    pages: str
    root: AnyPath | None
    jobs: int | str
    force: bool
    adopt: bool
    dry_run: bool
    fail_fast: bool
    max_duration: float | None
    lock_wait: float
    allow_empty: bool
    verify: bool
    engine: str
    ray_address: str | None


# Where a plan holds it in another form than it is given.
_SPELLED: dict[str, Any] = {
    "mode": DEFAULT_MODE,
    "estimator": GRADIENT,
    "target": "top1",
    "style": DEFAULT_STYLE,
    "no_scores": False,
    "labels_from": 0,
    "batch_size": "auto",
    "jobs": "auto",
}


def default_of(name: str) -> Any:
    """What an option is where nobody gives it; None where it is found, or there is none."""
    if name in _SPELLED:
        return _SPELLED[name]
    kinds = (ModelOptions, Drawing, Estimation, Walk, Plan)
    found = [one.default for kind in kinds for one in fields(kind) if one.name == FIELDS.get(name, name)]
    return None if not found or found[0] in (MISSING, ()) else found[0]


def shows(settings: type) -> Callable[[Function], Function]:
    """Lets a function that takes `**options` of this TypedDict show each of them, with its default, in its signature."""

    def decorated(function: Function) -> Function:
        plain = signature(function)
        kept = [one for one in plain.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
        named = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default_of(name), annotation=_written(kind))
            for name, kind in settings.__annotations__.items()
        ]
        function.__signature__ = plain.replace(parameters=[*kept, *named])  # type: ignore[attr-defined]
        return function

    return decorated


def _written(kind: Any) -> str:
    return getattr(kind, "__forward_arg__", None) or str(kind)
