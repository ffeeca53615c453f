"""From pixels to attributions, the one way for the command, for Python and for `inspect`.

    file bytes -> decode -> fitted pixels -> preprocess -> worker -> Row -> Attribution (image's channel order, labels)

What holds for one of them holds for all: sandboxed decoders, deadlines, limits, warnings, labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np

from gradviz_cli.errors import GradvizError, ImageError, UsageError
from gradviz_cli.estimators import USUAL, Estimation, kinds_of
from gradviz_cli.files.reading import Limits, check_size, read_bytes
from gradviz_cli.files.text import printable, shortened
from gradviz_cli.images.baselines import BASELINES, COLOURS
from gradviz_cli.images.decoders import Decoders, Pixels
from gradviz_cli.images.fit import Geometry
from gradviz_cli.images.given import SMALL, Given, fingerprint, is_pillow, taken
from gradviz_cli.images.preprocess import PREPROCESS, Preset, preset_of
from gradviz_cli.images.sources import bytes_at
from gradviz_cli.model import proofs
from gradviz_cli.model.fingerprint import Seal
from gradviz_cli.model.labels import misfit
from gradviz_cli.model.methods import odd
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.results import Seen, TargetResult
from gradviz_cli.process.protocol import (
    GIVEN,
    MOST_SAID,
    NUMBERS,
    PICTURE,
    Explain,
    Facts,
    Inspection,
    Loaded,
    ModelOptions,
    Proof,
    Row,
)
from gradviz_cli.rules import PLAIN

AS_THEY_ARE = "raw"  # the choice of --preprocess that changes nothing
# What a model takes that takes no float32; an encoded image (string) holds levels.
WHOLE = {
    "string": np.iinfo("uint8"),
    **{kind: np.iinfo(kind) for kind in ("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64")},
}
OTHER_SHIFT = (
    "leave --labels-from out (its first line is that of class 0 then), or give the file that the model was trained with"
)
MOST_LOOKED = 16  # images of a run whose empty maps are looked into, and targets of one
TIMEOUT = 60.0  # seconds for one image, unless somebody says otherwise


@dataclass(frozen=True, eq=False)
class Attribution:
    """What was found for one image.

    Attributes
    ----------
    targets : tuple of TargetResult
        Which classes were explained, in the order asked for.
    maps : dict
        Method -> float32 [t, h, w, c], a map for each target: of a gradient (a mode) at the size of the model input, score per
        unit of the model input, channels in the image's order; of estimators as `estimators.Estimator` says.
    numbers : dict
        Method -> float32 [t, k]: what is recorded beside each map (`Estimator.numbers`), NaN where it is not known.
    seen : dict
        Place of a target whose map is zero everywhere by some method -> what was found when it was looked into.
    """

    targets: tuple[TargetResult, ...]
    maps: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    seen: dict[int, Seen] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelTold:
    """What a model that has been loaded tells of itself, on whatever machine.

    Attributes
    ----------
    path : str
        As it was given.
    proof : Proof or None
        What was found when the model was proved, by now or before; None where that was not asked for.
    misfit : str
        A warning of labels that were left out.
    """

    path: str
    loaded: Loaded
    proof: Proof | None
    misfit: str = ""

    @property
    def facts(self) -> Facts:
        return self.loaded.facts

    def warnings(self, methods: Sequence[str]) -> tuple[str, ...]:
        """What whoever asks for these methods should know, each once: of the model by its path, then of the sandbox."""
        proof = self.proof
        said = (
            *self.facts.warnings_for(methods),
            *odd(methods, self.facts.preprocess),
            *(proof.warnings if proof else ()),
            *filter(None, [self.misfit]),
        )
        named = [f"{self.path}: {shortened(warning)}" for warning in said[:MOST_SAID]]
        confined = self.loaded.sandbox
        if confined.level != "full":
            missing = shortened("; ".join(confined.missing))
            named.append(f"the model runs without a full sandbox: {missing}; --require-sandbox refuses that")
        return tuple(dict.fromkeys(named))


def of_plan(plan: Plan) -> dict[str, Any]:
    """The arguments of an Explainer that the options of a plan settle, whatever is asked of it."""
    return {
        "labels": plan.labels,
        "labels_asked": plan.labels_asked,
        "fit": plan.drawing.fit,
        "limits": plan.limits,
        "timeout": plan.timeout,
        "require_sandbox": plan.require_sandbox,
        "prove": plan.proof,
        "together": plan.batch_size,
    }


class Explainer:
    """A model in its worker, and the decoders that prepare images for it.

    `decode` may be called from several threads; `load`, `inspect` and `explain` from one at a time; `close` from any.

    Parameters
    ----------
    methods, targets, estimation
        What gradients are built for ahead of the first image (see `RemoteModel`).
    labels : tuple of str
        Names of the classes, by index. Where they do not fit the model, they are left out with a warning, unless an
        option asks for them (`labels_asked`).
    fit : str
        How images are brought to the size of the model input, a key of `images.fit.FITS`.
    timeout : float or None
        Seconds for one image, in a decoder and in the worker.
    redrawn : bool
        Its kernels will be drawn anew (`redraw`).
    together : int, optional
        Images that share a call on a GPU; as many as suit one unless given.
    ahead : RemoteModel, optional
        The same model, where its worker was started before.

    Attributes
    ----------
    misfit : str
        A warning of labels that were left out.
    """

    def __init__(
        self,
        options: ModelOptions,
        methods: Sequence[str],
        *,
        targets: int = 1,
        labels: tuple[str, ...] = (),
        labels_asked: str = "",
        fit: str = "stretch",
        limits: Limits = Limits(),
        timeout: float | None = TIMEOUT,
        require_sandbox: bool = False,
        verify: bool = False,
        prove: str = "never",
        estimation: Estimation = USUAL,
        redrawn: bool = False,
        together: int | None = None,
        ahead: RemoteModel | None = None,
    ):
        self._options, self._labels, self._labels_asked, self._fit = options, labels, labels_asked, fit
        self._prove = prove
        self.misfit, self._limits = "", limits
        self._looked = 0  # images whose maps are zero
        self._costly = False  # to look into one has brought the worker down
        self._untried = False  # it was proved just now, and no gradient was computed
        self._model = ahead or RemoteModel(
            options, methods, timeout, require_sandbox, targets, verify, prove, estimation, redrawn, together
        )
        self._decoders = Decoders(limits, timeout)
        self._start: tuple[str, np.ndarray] | None = None  # a baseline that was read from a file, and the hash of that
        self._loaded: Loaded | None = None

    def expect(self, seal: Seal) -> None:
        """Load this model and no other one."""
        self._model.expect(seal)

    def load(self, proof: Proof | None = None) -> Loaded:
        """Start the worker and load the model; raises as `RemoteModel.load`. `proof` is what was found before, if the cache
        is not to be asked for it."""
        known = proof or self._remembered()
        self._loaded = self._model.load(known)
        self.preset.check(self.facts.channels)
        self.fit_labels(self.facts.classes)
        if self._prove != "never":
            proofs.remember(self._key, known)
            found = self._model.proof
            self._untried = known is None and found is not None and found.complete
        if self._prove == "always":
            self.try_gradient()
        return self._loaded

    def try_gradient(self) -> None:
        """Compute one of a generated image, unless the proof was known: then one was computed before. Raises as
        `RemoteModel.try_gradient`."""
        if self._untried and self._model.try_gradient():
            self._computed()

    def _computed(self) -> None:
        """A gradient was, so that the proof is worth remembering."""
        if self._untried:
            self._untried = False
            proofs.remember(self._key, self._model.proof)

    def _remembered(self) -> Proof | None:
        return proofs.known(self._key) if self._prove == "auto" else None

    @cached_property
    def _key(self) -> str:
        return proofs.key_of(self._model.fingerprint, self._options)

    def fit_labels(self, classes: int | None) -> None:
        """Leave out labels that are not as many as the classes, or raise UsageError where they were asked for."""
        wrong = misfit(self._labels, classes)
        if wrong and self._labels_asked:
            shifted = "--labels-from " in self._labels_asked  # then a remedy with another one would be a guess
            raise UsageError(f"{self._labels_asked}: {wrong[0]}", OTHER_SHIFT if shifted else wrong[1])
        if wrong:
            self._labels = ()
        if wrong and self._options.output is None:  # other scores than those that the labels are of
            self.misfit = f"the model's own labels are left out: {wrong[0]}; settle it with --labels FILE ({wrong[1]})"

    def inspect(self) -> Inspection:
        """What the model offers and what would be patched; raises as `RemoteModel.load`."""
        return self._model.inspect()

    def redraw(self, count: int) -> tuple[str, ...]:
        """Let so many kernels, from the score down, be random from now on; the names of all. As `RemoteModel.redraw`."""
        return self._model.redraw(count)

    @property
    def fingerprint(self) -> str:
        """Of the model that is read."""
        return self._model.fingerprint

    @property
    def proof(self) -> Proof | None:
        """What was found when the model was proved, by now or before; None where that was not asked for."""
        return self._model.proof

    @property
    def loaded(self) -> Loaded:
        """What `load` gave."""
        assert self._loaded is not None, "load the model first"
        return self._loaded

    @property
    def facts(self) -> Facts:
        return self.loaded.facts

    @property
    def computes_on_gpu(self) -> bool:
        """Whether a GPU is known to compute, which loading the model tells."""
        return self._loaded is not None and self._loaded.facts.gpu

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; none where they do not fit the model."""
        return self._labels

    @property
    def preset(self) -> Preset:
        """The pixel range that the model expects."""
        return preset_of(self.facts.preprocess, self._options)

    @property
    def geometry(self) -> Geometry:
        """The model input, to which images are brought."""
        facts = self.facts
        return Geometry(*facts.size, facts.channels, self._fit, facts.alpha, facts.channels_first)

    def require(self, methods: Sequence[str], estimation: Estimation) -> None:
        """See that `explain` can be asked for these methods, though others were foreseen; raises as `load`."""
        if kinds_of(methods) and self._model.require(methods, estimation):
            self._loaded = self._model.loaded

    def warnings(self, methods: Sequence[str]) -> tuple[str, ...]:
        """As those of `told`."""
        return self.told.warnings(methods)

    @property
    def told(self) -> ModelTold:
        """What the model tells of itself, as a value."""
        return ModelTold(self._model.path, self.loaded, self.proof, self.misfit)

    def decode(
        self,
        data: bytes,
        geometry: Geometry | None = None,
        pixels: bool = False,
        fast: bool = False,
        page: int | None = None,
    ) -> Pixels:
        """An image file's bytes, decoded in a process of its own and brought to the model input; see `Decoders.decode`.

        `geometry` is for who prepares images while the model still loads.
        """
        return self._decoders.decode(data, geometry or self.geometry, pixels, fast, page)

    def read(self, given: Given, value_range: tuple[float, float] | None = None) -> tuple[Pixels, str]:
        """An image that a Python caller gave, with the image itself, brought to the model input; and its SHA-256.

        `value_range` says what is black and white in an array (`images.given.taken`). Raises ImageError.
        """
        content = given.content if given.path is None else bytes_at(given.path, self._limits)
        if isinstance(content, bytes):
            check_size(len(content), self._limits)  # as of a file
            found = self.decode(content, pixels=True)
        else:
            raw = self._options.preprocess == AS_THEY_ARE
            found = taken(content, self.geometry, self._limits, value_range, raw)
        self.check_numbers(found.held, found.fitted)
        return found, fingerprint(found.pixels if is_pillow(content) else content)

    def preprocess_of(self, held: str) -> str:
        """How what a file held is brought to the model's range: numbers are as they are, unless --preprocess says more."""
        return self._preset_for(held).name

    @property
    def _range_option(self) -> str:
        """The option that says the range."""
        named = self._options.preprocess
        return "--pixel-range" if named == "auto" else f"--preprocess {named}"

    @property
    def _range_is_said(self) -> bool:
        return self._options.preprocess != "auto" or self._options.pixel_range is not None

    def _preset_for(self, held: str) -> Preset:
        return PREPROCESS[AS_THEY_ARE] if held == NUMBERS and not self._range_is_said else self.preset

    def check_numbers(self, held: str, fitted: np.ndarray) -> None:
        """Refuse numbers that a model of whole numbers does not take, and those that an option would bring from 0..255 to
        another range though they do not lie there: they would be divided once more. Raises ImageError (`range`)."""
        if held != NUMBERS:
            return
        low, high = float(fitted.min()), float(fitted.max())
        preset = self.preprocess_of(held)
        if preset != AS_THEY_ARE and not like_levels(fitted):
            raise ImageError(
                "range",
                f"holds numbers from {low:g} to {high:g}, and {self._range_option} is for levels of 0..255; "
                "--preprocess raw gives them to the model as they are",
            )
        whole = WHOLE.get(self.facts.input.dtype)
        if whole is None:
            return
        if not whole.min <= low <= high <= whole.max or np.any(np.rint(fitted) != fitted):
            raise ImageError(
                "range",
                f"holds numbers from {low:g} to {high:g}; the model takes whole ones from {whole.min} to {whole.max}",
            )

    def assumed(self, held: str, size: tuple[int, int], fitted: np.ndarray) -> tuple[str, ...]:
        """What was assumed of a file's numbers, a line each; none of a picture, nor where the options settle it."""
        if held == PICTURE:
            return ()
        preset, said = self.preprocess_of(held), self._range_is_said
        lines = []
        if not said and held == NUMBERS and like_levels(fitted) and self.preset.name != AS_THEY_ARE:
            lines.append(
                "its numbers lie in 0..255, but are floats, and go to the model as they are; --preprocess raw settles it, "
                f"or --preprocess {self.preset.name} takes them for levels"
            )
        elif not said and held == NUMBERS:
            lines.append(
                "its numbers are not whole ones of 0..255, and go to the model as they are; --preprocess raw settles it"
            )
        elif not said and preset != AS_THEY_ARE:
            lines.append(
                f"its numbers are whole ones of 0..255, and are taken for levels: brought to {self._preset_for(held).summary}; "
                f"--preprocess {preset} settles it, or --preprocess raw leaves them as they are"
            )
        if size != self.facts.size:
            given, taken = ("x".join(map(str, one)) for one in (size, self.facts.size))
            lines.append(
                f"its {given} numbers are resampled to {taken}, the size of the model input; save it at that size"
            )
        return tuple(f"{line} (said of the first such file alone)" for line in lines)

    def explain(
        self,
        fitted: Sequence[np.ndarray],
        request: Explain,
        preprocess: str | None = None,
        held: Sequence[str] = (),
    ) -> Iterator[Attribution | ImageError]:
        """One outcome for each image, in order.

        Parameters
        ----------
        fitted : sequence of array
            uint8 or float [h, w, c], 0..255 in RGB order, at `geometry`.
        preprocess : str, optional
            In place of the one that was found or chosen.
        held : sequence of str, optional
            What the files held, where that was no picture.

        Raises
        ------
        ModelUnusable, UsageError
            After the outcomes that were found: no further image can be explained.
        """
        kinds = held or [PICTURE] * len(fitted)
        presets = [PREPROCESS[preprocess] if preprocess else self._preset_for(one) for one in kinds]
        found: list[Attribution | ImageError] = []
        end: GradvizError | None = None
        try:
            for outcome in self._outcomes(fitted, request, presets, kinds):
                found.append(outcome)  # one by one: what came before an error stands
                if not isinstance(outcome, ImageError):
                    self._computed()
        except GradvizError as error:
            end = error
        for one, image, preset in zip(found, fitted, presets, strict=False):
            tried_out = preprocess is not None
            yield one if isinstance(one, ImageError) or tried_out else self._looked_into(one, image, preset)
        if end is not None:
            raise end

    def _outcomes(
        self, fitted: Sequence[np.ndarray], request: Explain, presets: Sequence[Preset], kinds: Sequence[str]
    ) -> Iterator[Attribution | ImageError]:
        coloured = request.takes_baseline and request.estimation.baseline in COLOURS
        wrong = [coloured and one == NUMBERS and not self._range_is_said for one in kinds]
        good = [place for place, bad in enumerate(wrong) if not bad]
        rows = self._rows([fitted[place] for place in good], request, [presets[place] for place in good])
        for bad, preset in zip(wrong, presets, strict=True):
            row = _no_colour(request.estimation.baseline) if bad else next(rows, None)
            if row is None:
                return
            yield row if isinstance(row, ImageError) else self._attribution(row, preset)
        next(rows, None)  # raises what ends the run behind the last of them

    def _rows(
        self, fitted: Sequence[np.ndarray], request: Explain, presets: Sequence[Preset]
    ) -> Iterator[Row | ImageError]:
        if not fitted:
            return iter(())
        pixels = np.stack([preset.to_model(image) for preset, image in zip(presets, fitted, strict=True)])
        starts = [self._baselines(fitted, request, presets)] if request.takes_baseline else []
        return self._model.explain(pixels, request, *starts)

    def _baselines(self, fitted: Sequence[np.ndarray], request: Explain, presets: Sequence[Preset]) -> np.ndarray:
        """What stands for each image where it is absent, in the range that the model expects."""
        found = [self._baseline(request.estimation, image) for image in fitted]
        return np.stack([preset.to_model(each) for preset, each in zip(presets, found, strict=True)])

    def _baseline(self, estimation: Estimation, image: np.ndarray) -> np.ndarray:
        if estimation.baseline in BASELINES:
            return BASELINES[estimation.baseline](image)
        if self._start is None or self._start[0] != estimation.baseline_sha256:
            self._start = estimation.baseline_sha256, self._read_baseline(estimation)
        return self._start[1]

    def _read_baseline(self, estimation: Estimation) -> np.ndarray:
        """The file that was meant, as an image of the run is read."""
        named = estimation.baseline
        try:
            data = read_bytes(named, self._limits)
            if hashlib.sha256(data).hexdigest() != estimation.baseline_sha256:
                raise UsageError(f"--baseline {printable(named)}: it has changed since it was asked for", "ask again")
            return self.decode(data).fitted.astype(np.float32)
        except ImageError as error:
            raise UsageError(f"--baseline {printable(named)}: {error.message}", "give another image") from error

    def _looked_into(self, found: Attribution, image: np.ndarray, preset: Preset) -> Attribution:
        """The same; where a map is zero everywhere, with what can be seen of the reason. For the first images of a run alone:
        it costs several gradients."""
        empty = {place for maps in found.maps.values() for place, one in enumerate(maps) if not one.any()}
        if not empty or self._looked >= MOST_LOOKED:
            return found
        self._looked += 1
        seen = {place: self._look(found.targets[place].index, image, preset) for place in sorted(empty)[:MOST_LOOKED]}
        return replace(found, seen={place: one for place, one in seen.items() if one is not None})

    def _look(self, index: int | None, image: np.ndarray, preset: Preset) -> Seen | None:
        """The plain gradient of this class for the image, for the same under other ranges, and for three other pictures."""
        if index is None or self._costly:
            return None
        whole = self.facts.input.dtype in WHOLE
        known = [one for one in PREPROCESS.values() if one.takes(self.facts.channels) and one.name != preset.name]
        others = [] if whole or preset.name == GIVEN or not like_levels(image) else known
        noise = np.random.default_rng(0).integers(0, 256, image.shape)
        pictures = [np.zeros_like(image), np.full_like(image, 255), noise.astype(image.dtype)]
        asked = [preset.to_model(image), *(one.to_model(image) for one in others), *map(preset.to_model, pictures)]
        good: list[Row] = []
        try:
            for row in self._model.explain(np.stack(asked), Explain((index,), (PLAIN,))):
                if isinstance(row, ImageError):
                    self._costly = row.kind != "model"  # a worker, and a timeout maybe, each time
                    return None
                good.append(row)
        except GradvizError:  # said of the next image, if it is of the model
            return None
        alive = [bool(row.gradients[PLAIN].any()) for row in good]
        ranges = tuple(one.name for one, lives in zip(others, alive[1:], strict=False) if lives)
        scores = tuple(float(row.score[0]) for row in (good[0], *good[-len(pictures) :]))
        return Seen(
            plain_empty=not alive[0],
            used=preset.name,
            ranges=ranges,
            scores=scores if all(map(np.isfinite, scores)) else (),
            others_alive=any(alive[-len(pictures) :]),
            one_colour=bool((image == image[:1, :1]).all()),
            by_output=self._options.score == "output",
        )

    def _attribution(self, row: Row, preset: Preset) -> Attribution:
        back = preset.to_image
        targets = tuple(self._target(row, place) for place in range(len(row.index)))
        return Attribution(targets, {name: back(maps) for name, maps in row.gradients.items()}, row.numbers)

    def _target(self, row: Row, place: int) -> TargetResult:
        index, rank = int(row.index[place]), int(row.rank[place])
        label = self._labels[index] or None if index < len(self._labels) else None
        scores = [float(column[place]) for column in (row.score, row.output)]
        known = [score if np.isfinite(score) else None for score in scores]  # JSON has no NaN
        return TargetResult(index, label, rank if rank >= 0 else None, *known)

    @property
    def stderr(self) -> str:
        """What the worker said on its standard error."""
        return self._model.stderr

    def close(self) -> None:
        """Kill the worker and the decoders."""
        self._model.close()
        self._decoders.close()

    def __enter__(self) -> Explainer:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _no_colour(baseline: str) -> ImageError:
    return ImageError(
        "baseline",
        f"holds numbers that are no levels of 0..255, so none of them is {baseline}; give another --baseline, or say with "
        "--preprocess what range they are in",
    )


def like_levels(numbers: np.ndarray) -> bool:
    """Whether numbers could be levels of 0..255, and not those of a range that networks are trained on."""
    return float(numbers.min()) >= 0 and SMALL < float(numbers.max()) <= 255
