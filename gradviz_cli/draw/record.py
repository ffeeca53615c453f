"""What a picture says of itself: built in one place, written into it, read back, and turned into options again.

A picture that is read may be a stranger's, so nothing in it is believed. What has another type than a run writes, and
what a later version adds, is kept apart in `Record.more`; a text that is too long, too full or too deep is none.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from gradviz_cli.draw.look import look_of
from gradviz_cli.draw.png import read_text
from gradviz_cli.draw.styles import maps_of
from gradviz_cli.estimators import ESTIMATORS, GRADIENT, Method, estimators_of
from gradviz_cli.files.text import AnyPath
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.process.protocol import Facts
from gradviz_cli.version import __version__

Json = Any  # of strings, finite numbers, booleans, None, and lists and dicts of these
Ends = tuple[float | None, float | None]  # of a scale; None where an end is not finite, which no run writes
Option = str | int | float | bool | tuple[str | int | float, ...]

# A text of more characters, with more values, or with values nested deeper where nothing nests, is no run's.
LONGEST, MOST_VALUES, DEEPEST = 1 << 20, 100_000, 8
LARGEST = 2**63  # of a whole number
DEEPEST_ESTIMATE = 3  # method, name, side of a box


@dataclass(frozen=True)
class Record:
    """What one picture says, field by field the keys of its JSON. None where it does not say it.

    Attributes
    ----------
    mode : str, or tuple of str for a sheet
    estimator : str, or for a sheet of several a tuple of them
    scale : (low, high), or for a sheet such a pair for each method
        What intensities 0 and 255 stand for, in `unit`; None where the attribution is not finite.
    model, image, digest : str
        Fingerprint of the model, SHA-256 of the image file, digest of the output.
    npy : str, or for a sheet a dict by method
        SHA-256 of the array written beside it.
    estimate : dict
        What the estimator says of the map beside its numbers: errors, the layer, a box; for a sheet by method.
    options : dict
        The options that draw it again, by their long names.
    more : dict
        What the fields above do not hold: keys of a later version, values that no run writes.
    """

    version: str | None = None
    mode: str | tuple[str, ...] | None = None
    estimator: str | tuple[str, ...] | None = None
    style: str | None = None
    target: TargetResult | None = None
    signature: str | None = None
    preprocess: str | None = None
    clip: float | None = None
    scale: Ends | Mapping[str, Ends | None] | None = None
    unit: str | None = None
    model: str | None = None
    image: str | None = None
    digest: str | None = None
    npy: str | Mapping[str, str] | None = None
    colormap: str | None = None
    alpha: float | None = None
    estimate: Mapping[str, Json] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    more: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text chunk."""
        return json.dumps(self.said())

    def said(self) -> dict[str, Json]:
        """All of it as plain JSON values, in the order of the fields."""
        known = {name: getattr(self, name) for name in _READERS}
        if self.target is not None:
            known["target"] = asdict(self.target)
        found = {name: value for name, value in known.items() if value is not None or name == "scale"}
        if not self.options:
            del found["options"]
        for name, rest in self.more.items():
            whole = found.get(name)
            found[name] = {**whole, **rest} if isinstance(whole, Mapping) and isinstance(rest, Mapping) else rest
        return found

    @property
    def has_whole_target(self) -> bool:
        """Whether the target is all that a run writes of one, and no more."""
        return self.target is not None and self.target.index is not None and "target" not in self.more

    def setup(self) -> dict[str, Json]:
        """How the picture was made: what it has in common with the other pictures of its run, its options among it."""
        found = {name: value for name, value in self.said().items() if name not in _OF_ONE_PICTURE}
        options = found.pop("options", None)
        more = options if isinstance(options, dict) else {}
        own = _OF_ONE_PICTURE - {"scale"} | found.keys()  # as an option, scale is `each` or `shared`
        return found | {name: value for name, value in more.items() if name not in own}

    def unknown(self) -> Iterator[tuple[str, Json]]:
        """Names and values of what a later version adds, to the target as well. Options of others are not repeated."""
        for name, rest in self.more.items():
            if name == "target" and self.target is not None:
                yield from rest.items()
            elif name != "options" or not isinstance(rest, dict):
                yield name, rest

    @classmethod
    def from_json(cls, text: str, only: Collection[str] | None = None) -> Record | None:
        """Read a text chunk; None where it is no record. NaN and infinity become None, as in strict JSON.

        `only` names the fields that are wanted, where thousands of pictures are looked at; the others stay empty.
        """
        if len(text) > LONGEST or text.count(",") > MOST_VALUES:
            return None
        try:
            said = _STRICT.decode(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(said, dict):
            return None
        known: dict[str, Any] = {}
        more: dict[str, Json] = {}
        for name, value in said.items() if only is None else [(name, said[name]) for name in only if name in said]:
            reader = _READERS.get(name, _unknown)
            known[name], rest = reader(value)
            if rest is not None:
                more[name] = rest
        if not _is_flat(more, DEEPEST):
            return None
        return cls(**{name: value for name, value in known.items() if value is not None}, more=more)

    @classmethod
    def read(cls, path: AnyPath, only: Collection[str] | None = None) -> Record | None:
        """What the picture at `path` says; None where there is no whole one of ours. Reads little, raises nothing."""
        text = read_text(path)
        return None if text is None else cls.from_json(text, only)


# What differs from picture to picture of one run.
_OF_ONE_PICTURE = frozenset(
    ("mode", "style", "target", "scale", "colormap", "alpha", "image", "digest", "npy", "estimate")
)


# ---- what is believed: a reader gives the value of a field and what is left over, None for nothing


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


_STRICT = json.JSONDecoder(parse_constant=lambda word: None, parse_float=_finite)


def _is_flat(value: Json, deepest: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return deepest > 0 and all(_is_flat(each, deepest - 1) for each in inner)


def _is_number(value: Json) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST
    return whole or isinstance(value, float)


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_scale(value: Json) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(end is None or _is_number(end) for end in value)


def _unknown(value: Json) -> tuple[None, Json]:
    return None, value


Reader = Callable[[Json], tuple[Any, Json]]


def _one(fits: Callable[[Json], bool], made: Callable[[Json], Any] = lambda value: value) -> Reader:
    return lambda value: (made(value), None) if fits(value) else (None, value)


def _one_or_by_mode(fits: Callable[[Json], bool], made: Callable[[Json], Any] = lambda value: value) -> Reader:
    def reader(value: Json) -> tuple[Any, Json]:
        if isinstance(value, dict) and all(map(fits, value.values())):
            return {mode: made(each) for mode, each in value.items()}, None
        return (made(value), None) if fits(value) else (None, value)

    return reader


def _mode(value: Json) -> tuple[Any, Json]:
    if isinstance(value, list) and all(map(_is_text, value)):
        return tuple(value), None
    return (value, None) if _is_text(value) else (None, value)


_OF_TARGET: dict[str, Callable[[Json], bool]] = {
    "index": lambda value: _is_number(value) and isinstance(value, int),
    "label": _is_text,
    "rank": lambda value: _is_number(value) and isinstance(value, int),
    "score": _is_number,
    "output": _is_number,
}


def _target(value: Json) -> tuple[TargetResult | None, Json]:
    if not isinstance(value, dict):
        return None, value
    known = {name: value[name] if fits(value.get(name)) else None for name, fits in _OF_TARGET.items()}
    rest = {name: each for name, each in value.items() if each is not None and known.get(name) is None}
    return TargetResult(**known), rest if rest or not known.keys() <= value.keys() else None


def whole_target(value: Json) -> TargetResult | None:
    """What a run writes of a target, if this is all of it and no more."""
    target, rest = _target(value)
    return target if target is not None and target.index is not None and rest is None else None


def _is_estimate(value: Json, deepest: int) -> bool:
    """Numbers and texts by name, and dicts of them."""
    if isinstance(value, dict):
        return deepest > 0 and all(_is_estimate(each, deepest - 1) for each in value.values())
    return _is_option(value)


def _is_option(value: Json) -> bool:
    return isinstance(value, bool) or _is_number(value) or _is_text(value)


def _options(value: Json) -> tuple[dict[str, Option], Json]:
    if not isinstance(value, dict):
        return {}, value
    known: dict[str, Option] = {}
    for name, each in value.items():
        if name in OPTIONS and _is_option(each):
            known[name] = each
        elif name in OPTIONS and isinstance(each, list) and all(map(_is_option, each)):
            known[name] = tuple(each)
    return known, {name: each for name, each in value.items() if name not in known} or None


_text = _one(_is_text)
_number = _one(_is_number)
_READERS: dict[str, Reader] = {
    "version": _text,
    "mode": _mode,
    "estimator": _mode,
    "style": _text,
    "target": _target,
    "signature": _text,
    "preprocess": _text,
    "clip": _number,
    "scale": _one_or_by_mode(lambda value: value is None or _is_scale(value), lambda value: value and tuple(value)),
    "unit": _text,
    "model": _text,
    "image": _text,
    "digest": _text,
    "npy": _one_or_by_mode(_is_text),
    "colormap": _text,
    "alpha": _number,
    "estimate": _one(lambda value: isinstance(value, dict) and _is_estimate(value, DEEPEST_ESTIMATE)),
    "options": _options,
}


# ---- what is written


def describe(
    plan: Plan,
    output: Output,
    target: TargetResult,
    scale: Ends | Mapping[str, Ends | None] | None,
    *,
    facts: Facts,
    digests: Digests,
    image: str,
    arrays: Mapping[str, str],
    estimates: Mapping[str, Mapping[str, Json]] = MappingProxyType({}),
) -> Record:
    """What the picture of this output says.

    Parameters
    ----------
    image : str
        SHA-256 of the image file.
    arrays : mapping
        Method -> SHA-256 of the array that is written beside it, empty without --raw.
    estimates : mapping
        Method -> what is said of its map.
    """
    options = told(plan, output)
    names = _estimators(plan, output)
    units = dict.fromkeys(ESTIMATORS[name].unit for name in names)
    said = {name: estimates[name] for name in _methods(plan, output) if estimates.get(name)}
    colormap, alpha = (options.get(name) for name in ("colormap", "alpha"))
    return Record(
        version=__version__,
        mode=plan.drawing.modes if output.mode is None else output.mode,
        estimator=names if len(names) > 1 else names[0],
        style=output.style,
        target=target,
        signature=facts.signature,
        preprocess=facts.preprocess,
        clip=plan.drawing.clip,
        scale=scale,
        unit=", ".join(units),
        model=digests.fingerprint,
        image=image,
        digest=digests.of(output, image, target.index),
        npy=(arrays if output.method is None else arrays[output.method]) if arrays else None,
        colormap=colormap if isinstance(colormap, str) else None,
        alpha=alpha if isinstance(alpha, float) else None,
        estimate=(said if output.method is None else said.get(output.method)) or None,
        options=options,
    )


SHORT = 200  # characters of a fed value that a picture repeats


def _feeds(plan: Plan, output: Output) -> tuple[str, ...]:
    return tuple(f"{name}={value if len(value) <= SHORT else '...'}" for name, value in plan.model.feeds)


def _methods(plan: Plan, output: Output) -> tuple[str, ...]:
    """All of them where the picture depends on all: of a shared scale those of its estimator."""
    if output.method is None:
        return plan.drawing.methods
    if plan.drawing.scale != "shared":
        return (output.method,)
    return tuple(name for name in plan.drawing.methods if Method.of(name).estimator == output.estimator)


def _estimators(plan: Plan, output: Output) -> tuple[str, ...]:
    return tuple(estimators_of(_methods(plan, output)))


def _modes(plan: Plan, output: Output) -> tuple[str, ...] | None:
    """Not where each estimator has its own."""
    if output.method is None and plan.drawing.only:
        return None
    return tuple(dict.fromkeys(Method.of(name).mode for name in _methods(plan, output)))


def _of_estimators(name: str) -> Callable[[Plan, Output], Option | None]:
    """The value of an option where one of them takes it."""

    def told(plan: Plan, output: Output) -> Option | None:
        taken = any(name in ESTIMATORS[one].options for one in _estimators(plan, output))
        value: Option = getattr(plan.drawing.estimation, name)
        return value if taken else None

    return told


def _box(plan: Plan, output: Output) -> bool | None:
    return plan.drawing.box and any(ESTIMATORS[one].is_area for one in _estimators(plan, output)) or None


def _targets(plan: Plan, output: Output) -> tuple[str, ...]:
    targets = plan.drawing.targets if plan.drawing.scale == "shared" else (output.target,)
    return tuple(target.spec for target in targets)


def _numbers(numbers: Collection[float] | None) -> str | None:
    return ",".join(repr(one).removesuffix(".0") for one in numbers or ()) or None


def _alpha(plan: Plan, output: Output) -> float | None:
    return plan.drawing.alpha if maps_of(output.style).uses_alpha else None


OPTIONS: dict[str, Callable[[Plan, Output], Option | None]] = {
    "mode": _modes,
    "estimator": lambda plan, output: names if (names := _estimators(plan, output)) != (GRADIENT,) else None,
    "samples": _of_estimators("samples"),
    "noise": _of_estimators("noise"),
    "baseline": _of_estimators("baseline"),
    "cam-layer": _of_estimators("cam_layer"),
    "box": _box,
    "target": _targets,
    "style": lambda plan, output: output.style,
    "clip": lambda plan, output: plan.drawing.clip,
    "scale": lambda plan, output: plan.drawing.scale,
    "fit": lambda plan, output: plan.drawing.fit,
    "size": lambda plan, output: plan.drawing.size,
    "score": lambda plan, output: plan.model.score,
    "activations": lambda plan, output: plan.model.activations,
    # of the model only where they were given
    "preprocess": lambda plan, output: None if plan.model.preprocess == "auto" else plan.model.preprocess,
    "pixel-range": lambda plan, output: _numbers(plan.model.pixel_range),
    "mean": lambda plan, output: _numbers(plan.model.mean),
    "std": lambda plan, output: _numbers(plan.model.std),
    "channel-order": lambda plan, output: plan.model.channel_order,
    "signature": lambda plan, output: plan.model.signature or None,
    "tag": lambda plan, output: plan.model.tag or None,
    "input": lambda plan, output: plan.model.input or None,
    "output": lambda plan, output: plan.model.output or None,
    "input-size": lambda plan, output: "x".join(map(str, plan.model.input_size or ())) or None,
    "layout": lambda plan, output: plan.model.layout or None,
    "at": lambda plan, output: ",".join(map(str, plan.model.at or ())) or None,
    "box-of": lambda plan, output: None if plan.model.box_of is None else plan.model.box_of or "all",
    "feed": lambda plan, output: _feeds(plan, output) or None,
    "precision": lambda plan, output: None if plan.model.precision == "float32" else plan.model.precision,
    "fast-decode": lambda plan, output: plan.drawing.fast_decode or None,
    "no-scores": lambda plan, output: not plan.drawing.scores or None,
    "allow-op": lambda plan, output: tuple(plan.model.allow_ops) or None,
    "trust-model": lambda plan, output: plan.model.trust_model or None,
    "proof": lambda plan, output: "never" if plan.proof == "never" else None,
    "allow-empty-map": lambda plan, output: plan.drawing.allow_empty_map or None,
    "colormap": lambda plan, output: maps_of(output.style).colormap_for(look_of(plan.drawing)),
    "alpha": _alpha,
}
"""Long name of an option that a picture repeats -> its value for that picture, None where it need not be given."""


def told(plan: Plan, output: Output) -> dict[str, Option]:
    """The options that draw this picture again."""
    values = {name: tell(plan, output) for name, tell in OPTIONS.items()}
    return {name: value for name, value in values.items() if value is not None}


def as_arguments(options: Mapping[str, Option]) -> str:
    """Options by their long names, as they are typed in a shell. What is no option of ours is left out."""
    words: list[str] = []
    for name, value in options.items():
        if name not in OPTIONS or value is False:
            continue
        for each in value if isinstance(value, tuple) else (value,):
            shown = f"{each:g}" if isinstance(each, float) else str(each)
            words += [f"--{name}"] if each is True else [f"--{name}", shown]
    return shlex.join(words)
