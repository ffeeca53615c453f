"""Options, by the names that they have on the command line, validated -> the plan of a run.

Command and Python plan here alike.

From the weakest to the strongest: defaults, what the model's own file says, standing options (of a configuration file
or of the environment), and what is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from gradviz_cli.batch import engines
from gradviz_cli.batch.engines import ENGINES
from gradviz_cli.batch.single import check_url, folder_and_file
from gradviz_cli.draw import styles as drawn
from gradviz_cli.draw.colormaps import COLORMAPS
from gradviz_cli.draw.look import look_of
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import ModelRefused, UsageError
from gradviz_cli.estimators import ESTIMATORS, GRADIENT, MOST_SAMPLES, Estimation, Estimator, Method
from gradviz_cli.files import objects
from gradviz_cli.files.near import did_you_mean, nearest
from gradviz_cli.files.reading import READABLE, hash_file
from gradviz_cli.files.remote import Place, Remote, full_name
from gradviz_cli.files.text import printable, shortened
from gradviz_cli.files.toml import read_toml
from gradviz_cli.images import globs
from gradviz_cli.images.baselines import BASELINES
from gradviz_cli.images.fit import FITS
from gradviz_cli.images.preprocess import ORDERS, PREPROCESS, RGBA
from gradviz_cli.model import fetched, forms
from gradviz_cli.model.labels import SHIPPED, belongs, read_labels
from gradviz_cli.plan import values
from gradviz_cli.plan.plan import DEFAULT_STYLE, Drawing, Plan, Walk
from gradviz_cli.plan.targets import Target, by_label, parse_targets
from gradviz_cli.process.protocol import LAYOUTS, MAX_CHANNELS, PROOFS, ModelOptions
from gradviz_cli.rules import RULES

# Choices that stand in no table of their own.
MODES = (*RULES, "all")
STYLE_NAMES = tuple(drawn.names())
ESTIMATOR_NAMES = tuple(ESTIMATORS)
PREPROCESSES = ("auto", *PREPROCESS)
CHANNEL_ORDERS = tuple(ORDERS)
SCORES = ("logit", "output")
ACTIVATIONS = ("relu", "all")
PRECISIONS = ("float32", "bfloat16")
SCALES = ("each", "shared")
SIZES = ("image", "input")
PAGES = ("first", "all")

# Each option by its name on the command line, and how its value is read: of the model, of its pictures, of
# the images, of the run.
OF_MODEL: dict[str, values.Read] = {
    "preprocess": values.choice(PREPROCESSES),
    "pixel_range": values.pixel_range,
    "mean": values.pixels,
    "std": values.deviations,
    "channel_order": values.choice(CHANNEL_ORDERS),
    "signature": values.text,
    "tag": values.text,
    "input": values.text,
    "output": values.text,
    "score": values.choice(SCORES),
    "at": values.position,
    "box_of": values.place,
    "feed": values.feeds,
    "input_size": values.size,
    "layout": values.layout(tuple(LAYOUTS)),
    "activations": values.choice(ACTIVATIONS),
    "precision": values.choice(PRECISIONS),
    "allow_op": values.with_commas(values.several(values.word)),
    "trust_model": values.flag,
}
OF_DRAWING: dict[str, values.Read] = {
    "mode": values.with_commas(values.several(values.choice(MODES))),
    "target": values.several(values.target),
    "style": values.with_commas(values.several(values.choice(STYLE_NAMES))),
    "estimator": values.with_commas(values.several(values.choice(ESTIMATOR_NAMES))),
    "samples": values.count(MOST_SAMPLES),
    "noise": values.share,
    "baseline": lambda value: str(values.path(value)),
    "cam_layer": values.text,
    "box": values.flag,
    "colormap": values.choice(COLORMAPS),
    "clip": values.percentile,
    "alpha": values.weight,
    "scale": values.choice(SCALES),
    "size": values.choice(SIZES),
    "fit": values.choice(FITS),
    "fast_decode": values.flag,
    "no_scores": values.flag,
    "raw": values.flag,
    "allow_empty_map": values.flag,
}
OF_WALK: dict[str, values.Read] = {
    "include": values.several(globs.pattern, globs.parts),
    "exclude": values.several(globs.pattern, globs.parts),
    "follow_links": values.flag,
    "pages": values.choice(PAGES),
    "root": lambda value: str(values.location(value)),
}
OF_RUN: dict[str, values.Read] = {
    "labels": values.path,
    "labels_from": values.shift,
    "batch_size": values.auto,
    "jobs": values.auto,
    "force": values.flag,
    "adopt": values.flag,
    "dry_run": values.flag,
    "fail_fast": values.flag,
    "timeout": values.seconds(1),
    "max_duration": values.seconds(above=True),
    "max_pixels": values.amount,
    "max_file_size": values.amount,
    "require_sandbox": values.flag,
    "lock_wait": values.seconds(),
    "allow_empty": values.flag,
    "proof": values.choice(PROOFS),
    "verify": values.flag,  # on the command line -vv
    "engine": values.choice(ENGINES),
    "ray_address": values.address,
}
OPTIONS = {**OF_MODEL, **OF_DRAWING, **OF_WALK, **OF_RUN}
# What a model that is loaded for a while needs besides those of the model, in Python: how images come to it.
OF_LOADING = ("fit", "batch_size", "timeout", "max_pixels", "max_file_size", "require_sandbox", "proof")
# What the names of the classes are read by.
OF_LABELS = ("labels", "labels_from")
# What stands in place of --preprocess.
RANGE = ("pixel_range", "mean", "std", "channel_order")
STATISTICS = frozenset(RANGE) - {"channel_order"}
# Where an option that may be given more than once has another name in the plan.
FIELDS = {"feed": "feeds", "allow_op": "allow_ops"}

MODEL_FILE = Path("assets.extra") / "gradviz.toml"
# What the file beside a model may settle. It is as much a stranger's as the model: nothing that loosens a limit.
MODEL_KEYS = (
    "preprocess",
    "pixel_range",
    "mean",
    "std",
    "channel_order",
    "labels",
    "labels_from",
    "signature",
    "tag",
    "input",
    "output",
    "input_size",
    "layout",
    "score",
    "activations",
    "at",
    "box_of",
    "fit",
    "cam_layer",
)

MAX_BASELINE = 10**9  # bytes of the image that is the baseline
# Characters of a value there.
LONGEST_SETTING = 100_000

AnyPlace = str | os.PathLike[str] | Remote
Settled = dict[str, Any]  # options by name, their values canonical


def plan_from(
    model: AnyPlace,
    out: AnyPlace = "heatmaps",
    *,
    standing: Mapping[str, object] | None = None,
    **options: object,
) -> Plan:
    """The plan that options mean. The same options give the same plan, whoever asks.

    Parameters
    ----------
    model, out : path
        SavedModel folder, or what stands for one (`model.forms`); output folder, or the name of one picture
        (`batch.single`).
    standing : mapping, optional
        Options that are meant for many runs, and need not be of use in each: weaker than `options`.
    **options
        As on the command line, with `_` for `-`: mode, target, style, ... (the keys of `OPTIONS`). What may be given
        more than once is one value or a list; None is as good as not given.

    Raises
    ------
    UsageError
        As the command would say; names the option.
    """
    place, file, url = _out(out)
    asked = _read(options)
    _check_engine(standing, asked)
    given = _model(model)
    folder, home = given.found()
    if not url:
        forms.check_out(given.here, folder, place / file)
    elif isinstance(given.given, Remote):
        fetched.check_out(given.given, url)
    settled = _settled(home, standing, asked)
    labels = _labels(home, settled)
    drawing = _drawing(settled, asked, labels, printable(settled.get("labels", home / SHIPPED)))
    wanted = asks_for_labels({**(standing or {}), **options})
    wanted = wanted or ("--target by label" if by_label(settled.get("target", ())) else "")
    run = {name: settled[name] for name in OF_RUN if name in settled and name not in OF_LABELS}
    walk = Walk(**{name: settled[name] for name in OF_WALK if name in settled})
    chosen = _model_options(folder, settled)
    return Plan(
        chosen, place, drawing, labels, labels_asked=wanted, typed=given.typed, walk=walk, file=file, url=url, **run
    )


def _check_engine(standing: Mapping[str, object] | None, asked: Settled) -> None:
    chosen = {**_read({"engine": (standing or {}).get("engine")}), **asked}
    engines.check_chosen(chosen.get("engine", engines.LOCAL), asked.get("ray_address"))


def model_from(
    model: AnyPlace, *, standing: Mapping[str, object] | None = None, **options: object
) -> tuple[ModelOptions, tuple[str, ...]]:
    """The part of a plan that concerns the model, and the names of its classes; as `plan_from`."""
    given = _model(model)
    strange = next((name for name in options if name not in (*OF_MODEL, *OF_LABELS)), None)
    if strange is not None:
        known = (*OF_MODEL, *OF_LABELS)
        near = did_you_mean(nearest(strange, known))
        raise UsageError(f"a model has no option {strange}", near or f"its options are {', '.join(known)}")
    asked = _read(options)
    folder, home = given.found()
    settled = _settled(home, standing, asked)
    return _model_options(folder, settled), _labels(home, settled)


def plan_to_load(model: AnyPlace, **options: object) -> Plan:
    """The part of a plan that stands before anything is asked of a model, for who asks later; it writes nothing, and has no OUT.

    Raises UsageError as `plan_from`, also for an option that says what is asked of the model.
    """
    known = (*OF_MODEL, *OF_LABELS, *OF_LOADING)
    strange = next((name for name in options if name not in known), None)
    if strange is not None:
        near = values.meant(strange, known)
        raise UsageError(f"load has no option {strange}", near or f"its options are {', '.join(known)}")
    given, asked = _model(model), _read(options)
    folder, home = given.found()
    settled = _settled(home, None, asked)
    drawing = Drawing(**{name: settled[name] for name in OF_DRAWING if name in settled})
    run = {name: settled[name] for name in OF_LOADING if name in settled and name not in OF_DRAWING}
    labels, wanted = _labels(home, settled), asks_for_labels(options)
    chosen = _model_options(folder, settled)
    return Plan(chosen, Path(), drawing, labels, labels_asked=wanted, typed=given.typed, **run)


def drawing_from(**options: object) -> Drawing:
    """The part of a plan that says how a picture is drawn; raises UsageError as `plan_from`."""
    asked = _read(options)
    return _drawing(asked, asked, (), "")


def _labels(model: Path, settled: Settled) -> tuple[str, ...]:
    return read_labels(settled.get("labels"), model, settled.get("labels_from", 0))


def asks_for_labels(options: Mapping[str, object]) -> str:
    """The options by which somebody but the model itself asks for labels, so that ones which do not fit it are a mistake."""
    return " ".join(f"{_typed(name)} {options[name]}" for name in OF_LABELS if options.get(name) not in (None, 0))


def _settled(model: Path, standing: Mapping[str, object] | None, asked: Settled) -> Settled:
    settled: Settled = {}
    for source in (model_settings(model), _read(standing or {}), asked):
        settled = _over(settled, source)
    return settled


def _over(weaker: Settled, stronger: Settled, where: str = "") -> Settled:
    """The stronger ones, and of the weaker ones what they leave."""
    ranges = _ranges(stronger)
    named = stronger.get("preprocess", "auto")
    if ranges and named != "auto":
        raise UsageError(
            f"{where}--preprocess {named} and {_typed(ranges[0])} both say what the model expects",
            "leave one of them out",
        )
    return {**left_by(stronger, weaker), **stronger}


def left_by(stronger: Mapping[str, Any], weaker: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in place of --preprocess is set aside by a stronger --preprocess, and the other way round. A range and its
    statistics belong together: none is taken from here and the other from there."""
    ranges = _ranges(stronger)
    aside = (
        *(RANGE if "preprocess" in stronger else ()),
        *(("preprocess",) if ranges else ()),
        *(STATISTICS if not STATISTICS.isdisjoint(ranges) else ()),
    )
    return {name: value for name, value in weaker.items() if name not in aside}


def _ranges(options: Mapping[str, Any]) -> list[str]:
    """What says in place of --preprocess what the model expects; an order of four channels says nothing of a range."""
    return [name for name in RANGE if name in options and options[name] != RGBA]


def _whole_range(chosen: Settled) -> Settled:
    """The numbers of --mean and --std say of which range they are, where --pixel-range does not: no mean of 0..1 is above 1,
    and no deviation of 0..255 is below."""
    mean, std = chosen.get("mean", ()), chosen.get("std", ())
    if not (mean or std):
        return chosen
    telling = [abs(one) for one in (*mean, *std) if one not in (0, 1)]
    if not telling and "pixel_range" not in chosen:
        option = "--mean" if mean else "--std"
        raise UsageError(f"{option}: it does not say of which range it is", "add --pixel-range LOW,HIGH")
    low, high = chosen.get("pixel_range") or (0.0, 1.0 if max(telling) <= 1 else 255.0)
    strange = next((one for one in mean if not low <= one <= high), None)
    if strange is not None:
        said = f"{low:g}..{high:g}" if "pixel_range" in chosen else "0..1 or 0..255"
        raise UsageError(f"--mean {strange:g}: no mean of pixels in {said}", "give the --pixel-range LOW,HIGH it is of")
    return {**chosen, "pixel_range": (low, high)}


def _read(options: Mapping[str, object], where: str = "") -> Settled:
    """Each value in its canonical form; `where` says whence they are, if not from the caller."""
    found: Settled = {}
    for name, value in options.items():
        if name not in OPTIONS:
            near = did_you_mean(nearest(name, OPTIONS))
            raise UsageError(f"there is no option {name}", near or f"the options are {', '.join(OPTIONS)}")
        if value is not None:
            try:
                found[name] = OPTIONS[name](value)
            except ValueError as error:
                text = str(error)
                remedy = "" if "; " in text else "see `gradviz explain --help-all`"  # many say it themselves
                raise UsageError(f"{where}{_typed(name)}: {text}", remedy) from None
    return found


def read_option(name: str, value: object) -> Any:
    """The canonical value of one option; UsageError where it makes no sense."""
    return _read({name: value}).get(name)


def _typed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


class _Model(NamedTuple):
    """MODEL as it was given, and where it is on this machine."""

    given: Place
    here: Path

    @property
    def typed(self) -> str:
        return full_name(self.given if isinstance(self.given, Remote) else self.here)

    def found(self) -> tuple[Path, Path]:
        """The model that it means, and where its labels and settings lie."""
        with fetched.named(self.given, self.here):
            folder = forms.resolve(self.here)
            return folder, forms.home(folder)


def _model(given: object) -> _Model:
    try:
        place = values.location(given)
    except ValueError as error:
        raise UsageError(f"MODEL: {error}", "" if "; " in str(error) else "give a path") from None
    return _Model(place, forms.named(place) if isinstance(place, Path) else fetched.here(place))


def _out(given: object) -> tuple[Path, str, str]:
    """The folder, and the name of one picture in it; and where OUT is in a store its URL, and no folder yet."""
    try:
        place = values.location(given)
        if isinstance(place, Remote):
            return Path(), "", str(check_url(objects.check_out(place)))
        values.check_length(place)
    except ValueError as error:
        raise UsageError(f"--out: {error}", "" if "; " in str(error) else "give a path") from None
    if place == Path("-"):
        raise UsageError(
            "--out -: pictures are not written to stdout", "give a folder; one of that name by its full path"
        )
    return (*folder_and_file(place), "")


def _model_options(model: Path, settled: Settled) -> ModelOptions:
    chosen = {FIELDS.get(name, name): settled[name] for name in OF_MODEL if name in settled}
    return ModelOptions(str(model), **_whole_range(chosen))


def _drawing(settled: Settled, asked: Settled, labels: tuple[str, ...], labels_file: str) -> Drawing:
    chosen = {name: settled[name] for name in OF_DRAWING if name in settled}
    chosen.update(_estimating({name: chosen.pop(name) for name in OF_ESTIMATING if name in chosen}, asked))
    modes = chosen.pop("modes")
    targets = parse_targets(chosen.pop("target", ()) or ("top1",), labels, labels_file)
    styles = chosen.pop("style", ()) or (DEFAULT_STYLE,)
    scores = not chosen.pop("no_scores", False)
    if not scores:
        _check_no_scores(modes, chosen["estimators"], targets, styles)
    drawing = Drawing(modes, targets, styles, scores=scores, **chosen)
    look = look_of(drawing)  # refuses what is out of range
    drawn.check_use(styles, look, asked)
    return drawing


# What says which methods there are, and what estimators are told.
OF_ESTIMATING = ("mode", "estimator", "samples", "noise", "baseline", "cam_layer", "box")
TOLD = ("samples", "noise", "baseline", "cam_layer")


def _estimating(chosen: Settled, asked: Settled) -> dict[str, Any]:
    """The fields of a drawing that say which methods there are.

    Raises
    ------
    UsageError
        A mode and an estimator make no sense together, or none of the estimators takes what was asked for.
    """
    names = chosen.get("estimator", ()) or (GRADIENT,)
    modes = chosen.get("mode", ())
    modes = tuple(RULES) if "all" in modes else modes
    own = not modes
    if own:
        modes = tuple(dict.fromkeys(ESTIMATORS[name].mode for name in names))
    estimators = [ESTIMATORS[name] for name in names]
    for one in () if own else estimators:
        _check_modes(one, modes)
    _check_told(estimators, asked)
    told = {name: chosen[name] for name in TOLD if name in chosen}
    estimation = Estimation(**told)
    if any("baseline" in one.options for one in estimators):
        estimation = _with_file(estimation)
    if estimation.samples < 2 and "vargrad" in names:
        raise UsageError("--samples 1: --estimator vargrad takes the variance of several", "give 2 or more")
    only = tuple(Method(one.mode, one.name).name for one in estimators) if own and len(modes) > 1 else ()
    box = chosen.get("box", False) and any(one.is_area for one in estimators)
    return {"modes": modes, "estimators": names, "only": only, "estimation": estimation, "box": box}


def _check_modes(one: Estimator, modes: Sequence[str]) -> None:
    wrong = [mode for mode in modes if one.modes and mode not in one.modes]
    if wrong:
        raise UsageError(
            f"--estimator {one.name}: --mode {', '.join(wrong)} makes no sense with it{f' ({one.caution})' if one.caution else ''}",
            f"use --mode {' or '.join(one.modes)}, or leave it out",
        )


def _check_told(estimators: Sequence[Estimator], asked: Settled) -> None:
    """Refuse what was asked for though none of the estimators takes it."""
    names = ", ".join(one.name for one in estimators)
    for option in TOLD:
        if option in asked and not any(option in one.options for one in estimators):
            able = " or ".join(name for name, one in ESTIMATORS.items() if option in one.options)
            raise UsageError(
                f"{_typed(option)} {asked[option]}: --estimator {names} cannot use it",
                f"leave it out, or add --estimator {able}",
            )
    if asked.get("box") and not any(one.is_area for one in estimators):
        able = " or ".join(name for name, one in ESTIMATORS.items() if one.is_area)
        raise UsageError(
            f"--box: --estimator {names} shows no area to put a box around",
            f"add --estimator {able}; --box-of N is for the detection that is explained",
        )


def _with_file(estimation: Estimation) -> Estimation:
    """The hash of the file that is the baseline, where one is: pictures hang on what is in it."""
    named = estimation.baseline
    if named in BASELINES:
        return estimation
    found = hash_file(named, MAX_BASELINE)
    if found is None:
        known = tuple(BASELINES)
        raise UsageError(
            f"--baseline {printable(named)}: no such file{values.meant(named, known)}",
            f"give {', '.join(known)} or the path of an image",
        )
    return replace(estimation, baseline=os.path.abspath(named), baseline_sha256=found[0])


def _check_no_scores(
    modes: Sequence[str], estimators: Sequence[str], targets: Sequence[Target], styles: Sequence[str]
) -> None:
    other = [name for name in estimators if name != GRADIENT]
    if other:
        raise UsageError(
            f"--no-scores: --estimator {', '.join(other)} needs the score of the image", "leave one of them out"
        )
    free = [name for name, rule in RULES.items() if not rule.needs_forward]
    if not set(modes) <= set(free) or any(target.rank is not None for target in targets):
        raise UsageError(
            f"--no-scores: only {' and '.join(free)} of given classes can do without them",
            f"add -m {' or '.join(free)} and -t CLASS, or leave it out",
        )
    for style in filter(SHEETS.get, styles):
        raise UsageError(f"--no-scores: a {style} shows the score", "leave one of them out")


def model_settings(model: Path) -> Settled:
    """What `assets.extra/gradviz.toml` in the model says.

    Raises
    ------
    UsageError
        It cannot be read, says something that is not for it to say, or names labels outside the model.
    ModelRefused
        It is a link out of the model.
    """
    file = model / MODEL_FILE
    try:
        is_there = file.is_file()
    except PermissionError as error:
        raise UsageError(f"{file}: cannot be opened: {error.strerror}", READABLE) from error
    if not is_there:
        return {}
    if not belongs(file, model):
        raise ModelRefused(f"{file} is a link out of the model", "put a copy of it there, or remove it")
    table = read_toml(file)
    for key in table:
        if key.replace("-", "_") not in MODEL_KEYS:
            near = did_you_mean(nearest(key, MODEL_KEYS)) if len(key) <= 100 else ""
            raise UsageError(
                f"{file}: {shortened(printable(key), 100)} is none of {', '.join(MODEL_KEYS)}",
                near or "remove it, or give it as an option",
            )
    said = {key.replace("-", "_"): _as_typed(value, f"{file}: {key}") for key, value in table.items()}
    found = _over({}, _read(said, f"{file}: "), f"{file}: ")
    if "labels" in found:
        found["labels"] = _inside(model, file, found["labels"])
    return found


def _as_typed(value: object, where: str) -> object:
    """A value of the file as it would be typed; UsageError for what is none."""
    parts = value if isinstance(value, list) else [value]
    texts = [str(one) for one in parts if isinstance(one, str | int | float)]
    if len(texts) < len(parts) or len(parts) > MAX_CHANNELS or sum(map(len, texts)) > LONGEST_SETTING:
        raise UsageError(
            f"{where} is no value of an option", "give a text, a number, true or false, or a list of these"
        )
    return value if isinstance(value, list) else texts[0]


def _inside(model: Path, file: Path, name: Path) -> Path:
    """A labels file that the model names has to lie in the model."""
    try:
        path = (file.parent / name).resolve()
        if path.is_symlink():  # Python 3.13 stops silently at such a circle
            raise OSError("it is a link to itself")
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise UsageError(f"{file}: labels = {name} cannot be followed: {error}", "give --labels FILE") from error
    if not path.is_relative_to(model.resolve()):
        raise UsageError(f"{file}: labels = {name} lies outside the model", "give --labels FILE")
    return path
