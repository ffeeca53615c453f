"""The Python door: `load` a SavedModel, `explain` images, get arrays and pictures; `run` a whole `gradviz explain`."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradviz_cli.batch.budget import images_at_once
from gradviz_cli.batch.observer import Observer
from gradviz_cli.batch.planning import drawing_from, plan_from, plan_to_load, read_option
from gradviz_cli.batch.run import results
from gradviz_cli.draw.estimates import Gaps, numbers
from gradviz_cli.draw.pictures import Source
from gradviz_cli.draw.styles import degenerate
from gradviz_cli.errors import GradvizError, GradvizWarning, ImageError, UsageError
from gradviz_cli.estimators import ESTIMATORS, GRADIENT, Method
from gradviz_cli.explanation import Explanation, Kept, Origin, Skipped, frozen
from gradviz_cli.files.remote import Place, is_url
from gradviz_cli.files.text import printable
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.images.fit import to_input
from gradviz_cli.images.given import Given, each, kind_of
from gradviz_cli.images.listing import Inputs
from gradviz_cli.model.explainer import Attribution, Explainer, ModelTold, of_plan
from gradviz_cli.model.forms import check_order
from gradviz_cli.plan import values
from gradviz_cli.plan.plan import Drawing, Job, Plan
from gradviz_cli.plan.results import Report, Result, Seen, why_empty
from gradviz_cli.plan.targets import Target, of_image, parse_targets
from gradviz_cli.process import supervisor
from gradviz_cli.process.protocol import NUMBERS, Explain
from gradviz_cli.rules import DEFAULT_MODE, PLAIN, RULES
from gradviz_cli.settings import EstimatorSettings, ExplainSettings, LoadSettings, RunSettings, shows

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import Unpack

    from gradviz_cli.settings import AnyPath, Several, Targets

    AnImage = AnyPath | bytes | Image.Image | np.ndarray
    Images = AnImage | Iterable[AnImage]

ERRORS = ("raise", "skip")
# Pixels of a source image that are kept for its pictures.
MOST_KEPT = 2**20


@dataclass(frozen=True)
class PatchReport:
    """What was found between image and score: type -> (reachable, patched), and gates that are never patched."""

    activations: Mapping[str, tuple[int, int]]
    gates: int


class Asked(NamedTuple):
    """What is asked of a model, read."""

    drawing: Drawing  # the methods, and what their estimators are told
    targets: tuple[Target, ...]
    skip: bool
    value_range: tuple[float, float] | None
    allow_empty_map: bool

    @property
    def methods(self) -> tuple[str, ...]:
        return self.drawing.methods


class Read(NamedTuple):
    """An image that is ready for the model."""

    given: Given
    targets: tuple[Target, ...]
    pixels: Pixels
    sha256: str


class Found(NamedTuple):
    """Of one image what its pictures need, its maps by method and place of the target, and what is missing."""

    given: Given
    kept: Kept | None
    maps: dict[tuple[str, int], np.ndarray]
    skipped: tuple[Skipped, ...]


class LoadedModel:
    """A SavedModel in a worker process of its own. Close it, or use it in a `with`; it ends with the interpreter at the latest.

    Several threads may ask it, and take turns. A process that was forked off has to load it anew. After Ctrl-C it is still
    usable: the worker is started again with the next image.
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        self._used: tuple[str, ...] = ()
        self._said: set[str] = set()
        supervisor.keep_children()  # whichever thread of the caller's asks first
        self._closed, self._owner, self._turn = False, os.getpid(), threading.Lock()
        # Every mode is patched for; whether one has anything to act on is asked when it is used.
        self._model = Explainer(plan.model, (PLAIN,), **of_plan(plan))
        self._end = weakref.finalize(self, _ended, self._model, self._owner)
        try:
            self._model.load()
            self._model.try_gradient()
            self._say(self._model.warnings((PLAIN,)))
        except BaseException:
            self.close()
            raise

    @property
    def report(self) -> PatchReport:
        facts = self._model.facts
        return PatchReport(MappingProxyType(dict(facts.activations)), facts.gates)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the command line would have said on stderr, for the modes that were used (before: its own default)."""
        return self._model.warnings(self._used or (DEFAULT_MODE,))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels that images are brought to."""
        return (*self._model.facts.size, self._model.facts.channels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes by index; empty where none are known."""
        return self._model.labels

    def __repr__(self) -> str:
        facts, state = self._model.facts, "closed" if self._closed else "loaded"
        size, classes = "x".join(map(str, self.input_shape)), f"{facts.classes} classes" if facts.classes else ""
        said = ", ".join(filter(None, [size, classes, state]))
        return f"<LoadedModel {printable(self._plan.typed)}: {said}>"

    @shows(EstimatorSettings)
    def explain(
        self,
        images: Images,
        mode: Several | None = None,
        target: Targets = "top1",
        estimator: Several = GRADIENT,
        *,
        errors: str = "raise",
        value_range: str | tuple[float, float] | None = None,
        allow_empty_map: bool = False,
        **told: Unpack[EstimatorSettings],
    ) -> Explanation:
        """One map of each image, method (a mode, or an estimator over it) and target.

        Parameters
        ----------
        images
            A path, a file's bytes, an open file, a Pillow image or an array (anything that NumPy takes for one), or an
            iterable of these, which is asked for no more than a batch at a time. Arrays are [H, W], [H, W, C] or a batch
            [N, H, W, C], of 1, 3 or 4 channels (the last one alpha) or as many as the model has, and of any size: they are
            fitted as files are, those of the model's size stay as they are. The EXIF orientation of a Pillow image is applied.
        mode : str or list of str
            backprop, deconv, guided or all; several with commas or in a list. Without it guided, and what suits each
            estimator (backprop mostly).
        target : str, int or list of these
            topK (the K best classes of each image), rankK (the K-th best alone), a class index, a label, or `parent` (the
            label that is the name of the image's folder).
        estimator : str
            What is made of the gradient: the `gradient` itself, `smoothgrad`, `grad-cam`, ... (the keys of
            `gradviz_cli.estimators.ESTIMATORS`); several with commas or in a list.
        errors : str
            `raise` the ImageError of the first image that fails, or `skip` it: it is warned of, stands in `skipped`, and has
            no map; `images` says of which image each map is.
        value_range : (low, high), optional
            What is black and white in arrays, such as (0, 1). Without it, uint8 and numbers of 0..255 are levels, floats of
            0..1 are taken for a picture of that range with a warning, and others go to the model as they are with a warning;
            with `preprocess="raw"` floats do so in any case.
        allow_empty_map : bool
            Take a map that is zero everywhere or not finite, too.
        **told
            samples, noise, baseline, cam_layer, box: what estimators take, as on the command line.

        Raises
        ------
        UsageError, ModelUnusable
            As the command line.
        ImageError
            An image cannot be read or explained, or its attribution is zero or not finite.
        """
        asked = self._asked(mode, target, estimator, errors, value_range, allow_empty_map, told)
        return self._together(list(self._found(images, asked)), asked)

    @shows(EstimatorSettings)
    def each(
        self,
        images: Images,
        mode: Several | None = None,
        target: Targets = "top1",
        estimator: Several = GRADIENT,
        *,
        errors: str = "raise",
        value_range: str | tuple[float, float] | None = None,
        allow_empty_map: bool = False,
        **told: Unpack[EstimatorSettings],
    ) -> Iterator[Explanation]:
        """As `explain`, one Explanation for each image as soon as it is there: for more images than memory holds."""
        asked = self._asked(mode, target, estimator, errors, value_range, allow_empty_map, told)
        return (self._together([one], asked) for one in self._found(images, asked))

    def _asked(
        self,
        mode: Any,
        target: Any,
        estimator: Any,
        errors: Any,
        value_range: Any,
        allow_empty_map: Any,
        told: Mapping[str, Any],
    ) -> Asked:
        self._check_open()
        strange = next((name for name in told if name not in EstimatorSettings.__annotations__), None)
        if strange is not None:
            raise TypeError(f"explain got an unexpected keyword argument {strange!r}")
        if mode is not None and not read_option("mode", mode):
            raise UsageError(f"--mode: {mode!r} is none of {', '.join(RULES)}", "give one or more of these")
        if not read_option("estimator", estimator):
            raise UsageError(
                f"--estimator: {estimator!r} is none of {', '.join(ESTIMATORS)}", "give one or more of these"
            )
        specs = read_option("target", target)
        if not specs:
            raise UsageError(f"--target: {target!r} is no class", "give one or more, such as top1")
        return Asked(
            drawing_from(mode=mode, estimator=estimator, **told),
            parse_targets(specs, self._model.labels),
            _read("errors", values.choice(ERRORS), errors) == "skip",
            None if value_range is None else _read("value_range", values.pixel_range, value_range),
            _read("allow_empty_map", values.flag, allow_empty_map),
        )

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the model is closed", "load it again")
        if os.getpid() != self._owner:
            raise UsageError("the model was loaded by another process, which this one was forked from", "load it here")

    def _found(self, images: Any, asked: Asked) -> Iterator[Found]:
        """Image by image, in order; a batch is in memory at a time."""
        try:
            self._used = tuple(dict.fromkeys((*self._used, *asked.methods)))
            with self._turn:
                self._model.require(asked.methods, asked.drawing.estimation)
            self._say(self._model.warnings(asked.methods))
            size = self._plan.batch_size or images_at_once(*self.input_shape, self._model.computes_on_gpu)
            waiting, gaps = each(images), Gaps(asked.drawing.estimation.samples)
            while batch := list(islice(waiting, size)):
                for one in self._explained([self._read(given, asked) for given in batch], asked):
                    for left in one.skipped:
                        self._say([f"{left.name}: {left.message} (skipped)"])
                    if one.kept:
                        gaps.add(one.given.name, [numbers(one.kept.numbers, *key) for key in one.maps])
                    yield one
            self._say(gaps.warnings())
        except (GradvizError, ImageError):
            if self._closed:  # by another thread: neither the model nor the image is to blame
                raise UsageError("the model was closed while it explained", "close it afterwards") from None
            raise

    def _read(self, given: Given, asked: Asked) -> Read | Found:
        """An image at the size of the model input, or that it is skipped."""
        try:
            targets = self._targets(given, asked.targets)
            pixels, sha256 = self._model.read(given, asked.value_range)
        except ImageError as error:
            return self._failed(given, error, asked)
        for note in (*pixels.notes, *self._model.assumed(pixels.held, pixels.size, pixels.fitted)):
            self._say([note], {note: f"{given.name}: {note}{_or_a_picture(given, pixels)}"})
        return Read(given, targets, _reduced(pixels), sha256)

    def _targets(self, given: Given, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """The classes of one image, where they follow from its folder."""
        if not any(target.parent for target in targets):
            return targets
        if given.path is None:
            raise UsageError(f"target 'parent': {given.name} lies in no folder", "give the paths of the images")
        return of_image(targets, self._model.labels, given.path)

    def _explained(self, batch: Sequence[Read | Found], asked: Asked) -> Iterator[Found]:
        """Neighbours that are asked for the same targets go into one call."""
        for targets, group in groupby(batch, lambda one: one.targets if isinstance(one, Read) else None):
            alike = list(group)
            ready = [one for one in alike if isinstance(one, Read)]
            if targets is None:
                yield from (one for one in alike if isinstance(one, Found))
                continue
            codes = tuple(target.code for target in targets)
            request = Explain(codes, asked.methods, estimation=asked.drawing.estimation)
            found, end = self._outcomes(ready, request, asked.skip)
            for one, outcome in zip(ready, found, strict=end is None):
                yield self._settled(one, outcome, asked)
            if end is not None:
                raise end

    def _outcomes(
        self, ready: Sequence[Read], request: Explain, skip: bool
    ) -> tuple[list[Attribution | ImageError], GradvizError | None]:
        """What was found, and with `skip` what ends it: what came before that stands, as on the command line."""
        fitted, held = [one.pixels.fitted for one in ready], [one.pixels.held for one in ready]
        found: list[Attribution | ImageError] = []
        with self._turn:
            try:
                found.extend(self._model.explain(fitted, request, held=held))
            except GradvizError as error:
                if not skip or self._closed:
                    raise
                return found, error
        return found, None

    def _settled(self, one: Read, outcome: Attribution | ImageError, asked: Asked) -> Found:
        """What was found of one image, without the maps that the command would not draw."""
        if isinstance(outcome, ImageError):
            return self._failed(one.given, outcome, asked)
        found = {(method, i): each_ for method, maps in outcome.maps.items() for i, each_ in enumerate(maps)}
        bad = (
            {}
            if asked.allow_empty_map
            else {key: empty for key, value in found.items() if (empty := degenerate(value))}
        )
        skipped: list[Skipped] = []
        for (method, place), status in bad.items():
            seen = outcome.seen.get(place) or Seen((PLAIN, place) in bad if PLAIN in outcome.maps else None)
            positions = self._model.facts.positions
            status, why = why_empty(status, method, outcome.targets[place].score, positions, seen)
            error = ImageError(status.value, f"{method}, target {one.targets[place].spec}: {why}")
            skipped += self._failed(one.given, error, asked).skipped
        pixels, name = one.pixels, os.path.basename(os.fsdecode(one.given.path or one.given.name))
        source = Source(Job(Path(name), name), pixels.size, one.sha256, pixels.fitted, pixels.pixels, pixels.held)
        kept = Kept(source, one.targets, outcome.targets, self._model.preprocess_of(pixels.held), outcome.numbers)
        return Found(one.given, kept, {key: value for key, value in found.items() if key not in bad}, tuple(skipped))

    def _failed(self, given: Given, error: ImageError, asked: Asked) -> Found:
        """The image is skipped, or the error raised, with its name."""
        if not asked.skip or self._closed:
            raise ImageError(error.kind, f"{given.name}: {error.message}") from None
        return Found(given, None, {}, (Skipped(given.place, given.name, error.kind, error.message),))

    def _together(self, found: Sequence[Found], asked: Asked) -> Explanation:
        rows = [
            (one, one.kept, Method.of(method), place, one.maps[method, place])
            for one in found
            if one.kept
            for method in asked.methods
            for place in range(len(one.kept.targets))
            if (method, place) in one.maps
        ]
        of = [kept.found[place] for _, kept, _, place, _ in rows]
        plan, small = self._plan, {name for name, one in ESTIMATORS.items() if not one.at_input}
        drawing = replace(asked.drawing, fit=plan.drawing.fit, allow_empty_map=asked.allow_empty_map)
        return Explanation(
            attribution=frozen(self._laid([row for *_, row in rows])),
            images=_integers([one.given.place for one, *_ in rows]),
            names=tuple(one.given.name for one, *_ in rows),
            modes=tuple(method.mode for _, _, method, _, _ in rows),
            estimators=tuple(method.estimator for _, _, method, _, _ in rows),
            targets=_integers([one.index for one in of]),
            ranks=_integers([one.rank for one in of]),
            scores=_floats([one.score for one in of]),
            outputs=_floats([one.output for one in of]),
            labels=tuple(one.label for one in of),
            skipped=tuple(left for one in found for left in one.skipped),
            _places=tuple(place for *_, place, _ in rows),
            _small=tuple(row if method.estimator in small else None for _, _, method, _, row in rows),
            _kept={one.given.place: one.kept for one in found if one.kept},
            _origin=Origin(
                replace(plan, drawing=drawing), self._model.facts, self._model.fingerprint, self._model.geometry
            ),
        )

    def _laid(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        """Maps [h, w, c] as one array [n, H, W, C]: those of a layer enlarged to the model input; beside others of several
        channels, what has one channel stands in each."""
        if not maps:
            return np.empty((0, *self.input_shape), np.float32)
        channels = max(one.shape[-1] for one in maps)
        large = [to_input(one, self._model.geometry) for one in maps]
        return np.stack([np.broadcast_to(one, (*one.shape[:2], channels)) for one in large])

    def _say(self, messages: Iterable[str], told: Mapping[str, str] = MappingProxyType({})) -> None:
        """Say as Python warnings what the command would say on stderr, each once; `told` are the words where they differ."""
        for message in messages:
            if message not in self._said:
                self._said.add(message)
                warnings.warn(told.get(message, message), GradvizWarning, stacklevel=_callers_level())

    def close(self) -> None:
        """Stop the worker and the decoders; harmless the second time. A forked process leaves its parent's alone."""
        self._closed = True
        self._end()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a loaded model is a process and cannot be pickled: load it where it is needed")


def _ended(model: Explainer, owner: int) -> None:
    """What is left to do when a model is closed, forgotten, or the interpreter ends."""
    if os.getpid() == owner:
        model.close()


@shows(LoadSettings)
def load(path: AnyPath, **options: Unpack[LoadSettings]) -> LoadedModel:
    """Load a SavedModel into a worker process.

    Parameters
    ----------
    path : str or path
        SavedModel folder, or what stands for one: see MODEL of the command.
    **options
        As on the command line, with `_` for `-`.

    Raises
    ------
    UsageError
        An option is unknown or its value makes no sense.
    ModelUnusable, ModelRefused
        As the command line.
    """
    return LoadedModel(plan_to_load(path, **options))


@shows(ExplainSettings)
def explain(
    path: AnyPath,
    images: Images,
    mode: Several | None = None,
    target: Targets = "top1",
    estimator: Several = GRADIENT,
    *,
    errors: str = "raise",
    value_range: str | tuple[float, float] | None = None,
    allow_empty_map: bool = False,
    **options: Unpack[ExplainSettings],
) -> Explanation:
    """Load a model, explain images, close it; see `load` and `LoadedModel.explain`."""
    told: Any = {name: options.pop(name) for name in EstimatorSettings.__annotations__ if name in options}  # type: ignore[misc]
    of_model: Any = options
    with load(path, **of_model) as model:
        return model.explain(
            images,
            mode,
            target,
            estimator,
            errors=errors,
            value_range=value_range,
            allow_empty_map=allow_empty_map,
            **told,
        )


class Run(Iterator[Result]):
    """A whole `gradviz explain`, image by image. It begins with the first result that is asked for; whoever stops early closes
    it, or leaves its `with`: that ends the worker and frees OUT.

    Attributes
    ----------
    plan : Plan
        What the options mean.
    report : Report
        Counts so far; its `exit_code()` is that of the command.
    """

    def __init__(self, plan: Plan, paths: Sequence[Place], observer: Observer | None):
        self.plan, self.report = plan, Report()
        self._warner = _Warner(plan.drawing.methods)
        self._begun = False
        self._results = results(plan, Inputs(tuple(paths), plan.place), observer or self._warner, self.report)

    def __next__(self) -> Result:
        self._begun = True
        try:
            return next(self._results)
        finally:
            self._warner.warn()

    def close(self) -> None:
        """End it here; results that came stand."""
        self._begun = True
        self._results.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_begun", True):
            return
        said = "run(...) did nothing: its results were never asked for; loop over it, or call list(run(...))"
        warnings.warn(said, GradvizWarning, stacklevel=2)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.report.counts.items())
        return f"<Run into {printable(self.plan.place)}: {counts or 'nothing yet'}>"


@shows(RunSettings)
def run(
    model: AnyPath | Plan,
    images: AnyPath | Iterable[AnyPath],
    out: AnyPath | None = None,
    observer: Observer | None = None,
    **options: Unpack[RunSettings],
) -> Run:
    """A whole `gradviz explain`, with lock and manifest; each result comes when its files are written.

    Parameters
    ----------
    model : path or Plan
        A SavedModel folder; or a plan that was made before (`plan_from`), which has its own folder and options.
    images : path or iterable of paths
        Files and folders, or URLs of these.
    out : path
        Output folder; `heatmaps` if none is given.
    observer : Observer, optional
        Told when the model has been loaded, of each result, of warnings and of the end. Without one, warnings are
        Python's (GradvizWarning).
    **options
        As on the command line, with `_` for `-`.

    Returns
    -------
    Run
        An iterator of results. Nothing is done before the first one is asked for: `for result in run(...)`.

    Raises
    ------
    UsageError
        At once: an option makes no sense.
    ModelUnusable, ModelRefused, OutputError, Locked, TimeUp
        While it runs: what ends it; results that came stand.
    """
    paths = tuple(map(_location, _paths(images)))
    if isinstance(model, Plan):
        if options or out is not None:
            given = ", ".join(["out"] * (out is not None) + list(options))
            raise UsageError(f"run: a plan has its own folder and options, and {given} would not count", "leave it out")
        return Run(model, paths, observer)
    if not is_url(os.fsdecode(model)):
        check_order(Path(model), [path for path in paths if isinstance(path, Path)])
    return Run(plan_from(model, "heatmaps" if out is None else out, **options), paths, observer)


class _Warner(Observer):
    """Keeps what should be known until it can be said in the caller's thread."""

    def __init__(self, modes: Sequence[str]):
        self._modes = modes
        self._unsaid: list[str] = []

    def loaded(self, model: Explainer | ModelTold) -> None:
        self._unsaid += model.warnings(self._modes)

    def warning(self, message: str) -> None:
        self._unsaid.append(message)

    def warn(self) -> None:
        while self._unsaid:
            warnings.warn(self._unsaid.pop(0), GradvizWarning, stacklevel=_callers_level())


def _paths(images: object) -> list[AnyPath]:
    """One path or several."""
    several = images if isinstance(images, Iterable) and not isinstance(images, str | bytes) else [images]
    paths = list(several)
    for one in paths:
        if not isinstance(one, str | os.PathLike):
            raise UsageError(f"images: {kind_of(one)} is no path", "give paths of images or folders")
    return paths


def _location(path: AnyPath) -> Place:
    if not is_url(os.fsdecode(path)):
        return Path(os.fsdecode(path))
    try:
        return values.location(os.fsdecode(path))
    except ValueError as error:
        raise UsageError("images: " + str(error)) from None


def _read(name: str, read: values.Read, value: object) -> Any:
    """The canonical value of an argument that is no option of the command."""
    try:
        return read(value)
    except ValueError as error:
        raise UsageError(f"{name}: {error}", "see help(LoadedModel.explain)") from None


def _or_a_picture(given: Given, pixels: Pixels) -> str:
    """What to do where the numbers of an array were meant for a picture."""
    array = pixels.held == NUMBERS and given.path is None and not isinstance(given.content, bytes)
    return "; value_range=(LOW, HIGH) takes them for a picture" if array else ""


def _reduced(pixels: Pixels) -> Pixels:
    """With an image of no more pixels than are kept for its pictures."""
    image = pixels.pixels
    if image is None or image.shape[0] * image.shape[1] <= MOST_KEPT:
        return pixels
    from PIL import Image

    part = (MOST_KEPT / (image.shape[0] * image.shape[1])) ** 0.5
    height, width = (max(1, int(side * part)) for side in image.shape[:2])
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    return pixels._replace(size=(height, width), pixels=np.asarray(small))


def _integers(found: Sequence[int | None]) -> np.ndarray:
    return frozen(np.array([-1 if one is None else one for one in found], np.int32))


def _floats(found: Sequence[float | None]) -> np.ndarray:
    return frozen(np.array([np.nan if one is None else one for one in found], np.float32))


def _callers_level() -> int:
    """`stacklevel` of the first frame outside this file, for who calls `warnings.warn` in the function that asks."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame, level = frame.f_back, level + 1
    return level
