"""The Python door: `load` a SavedModel, `explain` images, get arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gradviz_cli.batch.budget import default_batch
from gradviz_cli.batch.observer import Observer
from gradviz_cli.batch.planning import asks_for_labels, model_from, plan_from, read_option
from gradviz_cli.batch.run import results
from gradviz_cli.draw.styles import degenerate
from gradviz_cli.errors import GradvizError, GradvizWarning, ImageError, UsageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.files.text import printable
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.images.listing import Inputs
from gradviz_cli.model.explainer import TIMEOUT, Attribution, Explainer
from gradviz_cli.model.forms import check_order
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.results import Result, why_empty
from gradviz_cli.plan.targets import Target, of_image, parse_targets
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import Explain
from gradviz_cli.rules import DEFAULT_MODE, PLAIN, RULES

AnImage = str | os.PathLike
# What may be given more than once on the command line, as it is called where several stand in one place.
ONE = {"allow_ops": "allow_op", "feeds": "feed"}

Images = np.ndarray | AnImage | Sequence[AnImage]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The attributions of N images for one target in one mode.

    Attributes
    ----------
    attribution : numpy.ndarray
        float32 [N, H, W, C]: gradient of the score with respect to the model input after preprocessing, channels in the
        image's order. Not clipped, not scaled.
    targets, ranks : numpy.ndarray
        int32 [N]: the class explained, and its place among the classes (0 is the best).
    scores, outputs : numpy.ndarray
        float32 [N]: the score that was differentiated, and the same class in the model's own output.
    labels : tuple
        Name of each target, None where none is known.
    """

    attribution: np.ndarray
    mode: str
    targets: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray
    outputs: np.ndarray
    labels: tuple[str | None, ...]


@dataclass(frozen=True)
class PatchReport:
    """What was found between image and score: type -> (reachable, patched), and gates that are never patched."""

    activations: Mapping[str, tuple[int, int]]
    gates: int


class LoadedModel:
    """A SavedModel in a worker process of its own. Close it, or use it in a `with`."""

    def __init__(
        self,
        path: str | os.PathLike,
        batch_size: int | str = 8,
        timeout: float | None = TIMEOUT,
        proof: str = "auto",
        **options: Any,
    ):
        chosen, labels = model_from(path, **{ONE.get(name, name): value for name, value in options.items()})
        self._batch_size: int | None = read_option("batch_size", batch_size)  # None: to suit the model
        timeout = read_option("timeout", timeout)
        prove = read_option("proof", proof)
        self._used: tuple[str, ...] = ()
        self._said: set[str] = set()
        self._closed = False
        # Every mode is patched for; whether one has anything to act on is asked when it is used.
        asked = asks_for_labels(options)
        self._model = Explainer(chosen, (PLAIN,), labels=labels, labels_asked=asked, timeout=timeout, prove=prove)
        try:
            self._model.load()
            self._say(self._model.warnings((PLAIN,)))
        except BaseException:
            self._model.close()
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

    def explain(self, images: Images, mode: str = DEFAULT_MODE, target: str | int = "top1") -> Explanation:
        """Attributions of one target.

        Parameters
        ----------
        images : array [N, H, W, C] or [H, W, C], path, or sequence of paths
            Pixels 0..255 in RGB order at `input_shape`, which `preprocess` then brings to the model's range (with
            `raw` they are taken as they are); or image files, decoded and resized as the command does.
        mode : str
            A key of `gradviz_cli.rules.RULES`: backprop, deconv, guided.
        target : str or int
            top1, top2, ... (the class of that rank; rank2 is the same), a class index, a label, or `parent` (the label that
            is the name of the image's folder).

        Raises
        ------
        UsageError, ModelUnusable
            As the command line.
        ImageError
            An image cannot be read or explained, or its attribution is zero or not finite.
        """
        if not isinstance(mode, str) or mode not in RULES:
            raise UsageError(f"mode {mode!r} is none of {', '.join(RULES)}", "choose one of these")
        if self._closed:
            raise UsageError("the model is closed", "load it again")
        wanted = _one_target(target, self._model.labels)
        try:
            return self._explained(images, mode, wanted)
        except (GradvizError, ImageError):
            if self._closed:  # by another thread: neither the model nor the image is to blame
                raise UsageError("the model was closed while it explained", "close it afterwards") from None
            raise

    def _explained(self, images: Images, mode: str, target: Target) -> Explanation:
        wanted = self._targets(images, target)
        fitted, held, notes = self._fitted(images)
        self._used = tuple(dict.fromkeys((*self._used, mode)))
        self._say(self._model.warnings((mode,)))
        self._say(notes, notes)
        found: list[Attribution] = []
        size = self._batch_size or default_batch(*self.input_shape[:2], machine.cores(), self.input_shape[2])
        for alike, group in groupby(range(len(fitted)), lambda place: wanted[place] if wanted else target):
            places = list(group)
            for start in range(0, len(places), size):
                part = places[start : start + size]
                pixels, kinds = [fitted[place] for place in part], [held[place] for place in part if held]
                for one in self._model.explain(pixels, Explain((alike.code,), (mode,)), held=kinds):
                    found.append(_checked(one, mode, len(found), self._model.facts.positions))
        return self._explanation(found, mode)

    def _targets(self, images: Images, target: Target) -> list[Target]:
        """The class of each image where that follows from its folder; else nothing."""
        if not target.parent:
            return []
        if isinstance(images, np.ndarray):
            raise UsageError("target 'parent': an array lies in no folder", "give the paths of the images")
        return [self._of_folder(target, path) for path in _paths(images)]

    def _of_folder(self, target: Target, path: AnImage) -> Target:
        try:
            return of_image((target,), self._model.labels, path)[0]
        except ImageError as error:
            raise ImageError(error.kind, f"{printable(path)}: {error.message}") from error

    def _explanation(self, found: Sequence[Attribution], mode: str) -> Explanation:
        empty = np.empty((0, *self.input_shape), np.float32)
        maps = np.stack([one.maps[mode][0] for one in found]) if found else empty
        targets = [one.targets[0] for one in found]
        numbers = [
            np.array([np.nan if n is None else n for n in column], np.float32)
            for column in zip(*[(t.score, t.output) for t in targets], strict=True)
        ]
        scores, outputs = numbers or (np.empty(0, np.float32), np.empty(0, np.float32))
        index, rank = (np.array([getattr(t, name) for t in targets], np.int32) for name in ("index", "rank"))
        return Explanation(maps, mode, index, rank, scores, outputs, tuple(t.label for t in targets))

    def _fitted(self, given: Images) -> tuple[Sequence[np.ndarray], list[str], dict[str, str]]:
        """Images at the size of the model input, 0..255; of files what each held, and what was assumed of their numbers, each
        with the name of the first file that it holds for."""
        if not isinstance(given, np.ndarray):
            paths = [given] if isinstance(given, str | os.PathLike) else _paths(given)
            read = [self._read(path) for path in paths]
            notes = {
                note: f"{printable(path)}: {note}"
                for path, one in reversed(list(zip(paths, read, strict=True)))
                for note in (*one.notes, *self._model.assumed(one.held, one.size, one.fitted))
            }
            return [one.fitted for one in read], [one.held for one in read], notes
        pixels = given[None] if given.ndim == 3 else given
        if pixels.shape[1:] != self.input_shape:
            height, width, channels = self.input_shape
            raise UsageError(
                f"an array of shape {given.shape}: the model takes [N, {height}, {width}, {channels}]",
                "resize the images, or give their paths",
            )
        if not np.isfinite(pixels).all():
            raise ImageError("damaged", "the array has pixels that are not finite numbers (NaN or infinity)")
        return list(pixels), [], {}

    def _read(self, path: str | os.PathLike) -> Pixels:
        try:
            found = self._model.decode(read_bytes(path, Limits()))
            self._model.check_numbers(found.held, found.fitted)
            return found
        except ImageError as error:
            raise ImageError(error.kind, f"{printable(path)}: {error.message}") from error

    def _say(self, messages: Iterable[str], told: Mapping[str, str] = MappingProxyType({})) -> None:
        """Say as Python warnings what the command would say on stderr, each once; `told` are the words where they differ."""
        for message in messages:
            if message not in self._said:
                self._said.add(message)
                warnings.warn(told.get(message, message), GradvizWarning, stacklevel=4)

    def close(self) -> None:
        """Stop the worker and the decoders."""
        self._closed = True
        self._model.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(path: str | os.PathLike, **options: Any) -> LoadedModel:
    """Load a SavedModel into a worker process.

    Parameters
    ----------
    path : str or path
        SavedModel folder, or what stands for one: see MODEL of the command.
    **options
        As on the command line, with `_` for `-`: preprocess, pixel_range, mean, std, channel_order, labels_from, activations, score, signature, tag, input, output,
        input_size, layout, at, feed, labels, precision, allow_op, trust_model, proof, timeout; and batch_size.

    Raises
    ------
    UsageError
        An option is unknown or its value makes no sense.
    ModelUnusable, ModelRefused
        As the command line.
    """
    return LoadedModel(path, **options)


def explain(
    path: str | os.PathLike, images: Images, mode: str = DEFAULT_MODE, target: str | int = "top1", **options: Any
) -> Explanation:
    """Load a model, explain images, close it."""
    with load(path, **options) as model:
        return model.explain(images, mode, target)


def run(
    model: str | os.PathLike | Plan,
    images: AnImage | Sequence[AnImage],
    out: str | os.PathLike = "heatmaps",
    observer: Observer | None = None,
    **options: Any,
) -> Iterator[Result]:
    """A whole `gradviz explain`, with lock and manifest; each result comes when its files are written.

    Parameters
    ----------
    model : path or Plan
        A SavedModel folder; or a plan that was made before, which has its own folder and options.
    images : path or sequence of paths
        Files and folders.
    out : path
        Output folder.
    observer : Observer, optional
        Told when the model has been loaded, of each result, of warnings and of the end. Without one, warnings are
        Python's (GradvizWarning).
    **options
        As on the command line, with `_` for `-`.

    Raises
    ------
    UsageError, ModelUnusable, ModelRefused, OutputError, Locked, TimeUp
        What ends the run; results that came stand.
    """
    paths = tuple(map(Path, _paths(images)))
    if isinstance(model, str | os.PathLike):
        check_order(Path(model), paths)
    plan = model if isinstance(model, Plan) else plan_from(model, out, **options)
    warner = _Warner(plan.drawing.methods)
    with closing(results(plan, Inputs(paths, plan.out), observer or warner)) as found:
        for result in found:
            warner.warn()
            yield result
    warner.warn()


class _Warner(Observer):
    """Keeps what should be known until it can be said in the caller's thread."""

    def __init__(self, modes: Sequence[str]):
        self._modes = modes
        self._unsaid: list[str] = []

    def loaded(self, model: Explainer) -> None:
        self._unsaid += model.warnings(self._modes)

    def warning(self, message: str) -> None:
        self._unsaid.append(message)

    def warn(self) -> None:
        while self._unsaid:
            warnings.warn(self._unsaid.pop(0), GradvizWarning, stacklevel=3)


def _paths(images: object) -> list[str | os.PathLike]:
    """One path or several."""
    several = images if isinstance(images, Iterable) and not isinstance(images, str | bytes) else [images]
    paths = list(several)
    for one in paths:
        if not isinstance(one, str | os.PathLike):
            raise UsageError(f"images: a {type(one).__name__} is no path", "give paths of images or folders")
    return paths


def _one_target(target: str | int, labels: tuple[str, ...]) -> Target:
    """top2 alone means the second class, not the two best."""
    return parse_targets((str(target),), labels)[-1]


def _checked(found: Attribution | ImageError, mode: str, place: int, positions: bool) -> Attribution:
    """Never a blank map: raise what the command would say of this image."""
    if isinstance(found, ImageError):
        raise found
    status = degenerate(found.maps[mode][0])
    if status:
        status, why = why_empty(status, mode, found.targets[0].score, positions, None)
        raise ImageError(status.value, f"image {place}: {mode}: {why}")
    return found
