"""What the command and its child processes say to each other: one type for each request and each answer.

    command                                        child
    Load, Prove, Inspect -> worker  ->             Loaded, Proved, Inspected, Failure
    Try                  -> worker  ->             Tried, Failure
    Redraw               -> worker  ->             Redrawn, Failure
    Convert              -> worker  ->             Converted + bytes, Failure
    Explain + images     -> worker  ->             Explained + arrays, Failure
    Decode + file bytes  -> decoder ->             Decoded + pixels, Failure

`to_wire` makes a message a JSON header for `process.wire`; `from_wire` makes a header a message again. A child may have
been taken over by the file that it reads, so `from_wire` is the one place where what it says is validated: every value has
the type of its field, texts and lists have bounds, and nothing is missing or left over.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from gradviz_cli.errors import ModelRefused
from gradviz_cli.estimators import ESTIMATORS, Estimation, Estimator, Method, Taps, modes_of, shape_of
from gradviz_cli.process.sandbox.enter import Sandbox
from gradviz_cli.rules import DEFAULT_MODE, RULES

# Bounds of what a message may hold. A graph has no more nodes than this, and no honest text is longer.
LONGEST_TEXT = 20_000
MOST_ITEMS = 500_000
LARGEST_NUMBER = 2**63
MOST_SAID = 50  # warnings and witnesses


# More channels than this are no planes of an image: hyperspectral cameras have some hundred.
MAX_CHANNELS = 4096
# A larger input is no picture but an attempt to exhaust what reads it. 67 million pixels are 8192 x 8192.
MAX_INPUT_PIXELS = 2**26
# Axes of the model input by name; `flat` layouts have them in one. N is the batch, and is missing where a model takes one image.
LAYOUTS = {
    "NHWC": "NHWC",
    "NCHW": "NCHW",
    "NWHC": "NWHC",
    "NCWH": "NCWH",
    "NHCW": "NHCW",
    "NWCH": "NWCH",
    "HWCN": "HWCN",
    "CHWN": "CHWN",
    "WHCN": "WHCN",
    "CWHN": "CWHN",
    "NHW": "NHW",
    "NWH": "NWH",
    "HWC": "HWC",
    "CHW": "CHW",
    "HWN": "HWN",
    "WHN": "WHN",
    "WHC": "WHC",
    "CWH": "CWH",
    "HW": "HW",
    "WH": "WH",
    "flat": "NHWC",
    "flat-NCHW": "NCHW",
    "flat-NWHC": "NWHC",
    "flat-NCWH": "NCWH",
    "flat-NHCW": "NHCW",
    "flat-NWCH": "NWCH",
}


# Among the choices of --preprocess, the name of what --pixel-range, --mean and --std say.
GIVEN = "given"


def check_size(height: int, width: int, channels: int = 3) -> None:
    """Refuse a model input that no picture needs. Worker and command both ask: neither believes what the other says."""
    if height * width * max(channels, 3) > 3 * MAX_INPUT_PIXELS or channels > MAX_CHANNELS:
        planes = f" in {channels} planes" if channels > 3 else ""
        message = f"the model's input is {height}x{width} pixels{planes}, which no picture needs"
        raise ModelRefused(message, "settle it with --input-size HxW")


def check_map(size: tuple[int, int]) -> None:
    """Refuse a map at the size of inner tensors that no model has."""
    if min(size) < 1 or size[0] * size[1] > MAX_INPUT_PIXELS:
        raise ModelRefused(f"an inner tensor of {size[0]}x{size[1]} places is none of a picture", "name another layer")


@dataclass(frozen=True)
class ModelOptions:
    """Everything that decides which graph is differentiated and how its input is meant.

    Where `mean` or `std` is given, so is `pixel_range`; they stand in place of `preprocess`, and `channel_order` beside what
    was found.
    """

    path: str
    signature: str | None = None
    tag: str | None = None
    input: str | None = None
    output: str | None = None
    score: str = "logit"
    activations: str = "relu"
    preprocess: str = "auto"
    input_size: tuple[int, int] | None = None
    layout: str | None = None
    at: tuple[int, ...] = ()
    feeds: tuple[tuple[str, str], ...] = ()
    precision: str = "float32"
    allow_ops: tuple[str, ...] = ()
    trust_model: bool = False
    pixel_range: tuple[float, float] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channel_order: str | None = None
    box_of: int | None = None  # 0: all positions that a class wins


# -- the proof of a model

# Whether a model is proved: unless it was before; each time, and by witnesses that mostly have nothing to say; not at all.
PROOFS = ("auto", "always", "never")
# What is asked, and the steps that may be left out of a graph: those that only make it faster.
WITNESSES = ("forward", "class", "marks", "independence", "slope")
OPTIONAL_STEPS = ("batch_norm", "constants", "fast_products", "partial_gradients")


@dataclass(frozen=True)
class Witness:
    """One check of a proof: how far two numbers that must agree are apart, at most how far they may be.

    Attributes
    ----------
    name : str
        forward, class, marks, independence or slope; `worker.proof.witnesses` says what each compares.
    value, limit : float or None
        None where it could not be asked, or no number says how far off it is.
    said : str
        Why that is.
    failed : bool
        Whether it speaks against the model.
    """

    name: str
    value: float | None = None
    limit: float | None = None
    said: str = ""
    failed: bool = False

    def __post_init__(self) -> None:
        if self.name not in WITNESSES or (self.value is not None and self.limit is None):
            raise NotUnderstood(f"{self.name[:20]!r} is no witness, or says no limit")

    def __str__(self) -> str:
        if self.value is None or self.limit is None:
            return f"{self.name}: {self.said}"
        return f"{self.name} off by {self.value:.1g} (limit {self.limit:.1g})"


@dataclass(frozen=True)
class Proof:
    """What was found when a model was proved, and how it is run since.

    Attributes
    ----------
    without : tuple of str
        Steps that were left out, as the graph differs from the model with them.
    alone : bool
        Images are run one by one, as their numbers depend on their neighbours.
    warnings : tuple of str
        What has to be known of each picture.
    """

    witnesses: tuple[Witness, ...]
    without: tuple[str, ...] = ()
    alone: bool = False
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not set(self.without) <= set(OPTIONAL_STEPS):
            raise NotUnderstood("a step that may not be left out")
        said = sum(map(len, (*(one.said for one in self.witnesses), *self.warnings)))
        if len(self.witnesses) > MOST_SAID or len(self.warnings) > MOST_SAID or said > LONGEST_TEXT:
            raise NotUnderstood("a proof that is longer than a proof")
        if any(one.failed for one in self.witnesses) and not self.warnings:
            raise NotUnderstood("what speaks against a model is warned of")

    @property
    def complete(self) -> bool:
        """Whether all was asked that can be: else the proof itself failed, and is tried again another time."""
        return {one.name for one in self.witnesses} == set(WITNESSES)


# -- requests to a worker


@dataclass(frozen=True)
class Load:
    """Load a model and build its gradients for these methods and so many targets at once.

    With `verify`, the graph is verified after each step. `proof` is what was found when the model was proved, if it was.
    Of the `estimation` the layer matters.
    With `redrawn`, its kernels will be drawn anew (`Redraw`). With `proving`, it will be proved (`Prove`), and that begins.
    On a GPU so many images share a call as `together` says, or as many as suit one.
    """

    options: ModelOptions
    methods: tuple[str, ...] = (DEFAULT_MODE,)
    targets: int = 1
    require_sandbox: bool = False
    verify: bool = False
    proof: Proof | None = None
    estimation: Estimation = Estimation()
    redrawn: bool = False
    proving: bool = False
    together: int | None = None


@dataclass(frozen=True)
class Prove:
    """Prove the model that was loaded, before the first image; `thorough` asks witnesses that mostly say nothing too."""

    thorough: bool = False


@dataclass(frozen=True)
class Try:
    """Compute a gradient of a generated image, so that what this machine cannot compute is known without any other."""


@dataclass(frozen=True)
class Redraw:
    """Let the `count` kernels nearest to the score be random, and the others learnt; first before the first image."""

    count: int


@dataclass(frozen=True)
class Convert:
    """Turn a file of Keras into the graph of a SavedModel; with `trust`, code that the file brings along may run for it."""

    path: str
    trust: bool = False


@dataclass(frozen=True)
class Inspect:
    """Say what a model offers and what would be patched."""

    options: ModelOptions
    require_sandbox: bool = False


@dataclass(frozen=True)
class Explain:
    """Explain the images beside it, float32 [n, h, w, c]. A target is a class index, or -1 - rank.

    A method is a mode (its gradient), or `MODE.ESTIMATOR`. Where an estimator takes a baseline, those of the images are a
    second array of the same shape. With `own`, the targets are as many classes as there are images, one for each.
    """

    targets: tuple[int, ...]
    methods: tuple[str, ...]
    scores: bool = True
    estimation: Estimation = Estimation()
    own: bool = False

    @property
    def each(self) -> int:
        """Targets of one image."""
        return 1 if self.own else len(self.targets)

    @property
    def takes_baseline(self) -> bool:
        return any("baseline" in one.options for one in self._estimators.values())

    @property
    def sampled(self) -> bool:
        """One image is as much as is asked for at once."""
        return any(one.sampled for one in self._estimators.values())

    @property
    def recorded(self) -> dict[str, int]:
        """Method -> how many numbers are recorded beside each of its maps, where there are any."""
        return {name: len(one.numbers) for name, one in self._estimators.items() if one.numbers}

    @property
    def _estimators(self) -> dict[str, Estimator]:
        return {name: ESTIMATORS[Method.of(name).estimator] for name in self.methods}


# -- its answers


@dataclass(frozen=True)
class InputFacts:
    """The model input: its signature key, its shape as in `TensorInfo`, and how pixels are laid into it."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    layout: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Facts:
    """What the command has to know of a model before it prepares images.

    Attributes
    ----------
    score, bypassed : str
        The tensor that is differentiated, and the softmax or sigmoid behind it that is left out.
    bypassed_as : str or None
        The function that the output was seen to compute of the score: `softmax, times 100`.
    size : (height, width)
        To which images are brought.
    activations : dict
        Type -> (reachable, patched), between the image and the score.
    custom_gradients : int
        Gradients of the model's own that are replaced by the derivative of the forward pass.
    passed_by : int
        Activations that would obey, inside what a gradient of the model's own stands for.
    reading : str or None
        What the output is taken for, where it is more than one score for each class.
    positions : bool
        A class may be found at several positions, or nowhere.
    ranked_by : str or None
        What classes are ranked by, where a score is a sum over positions and so does not say it.
    alpha : bool
        The fourth of the four channels is that of RGBA.
    taps : tuple of Taps
        The inner tensors that the methods asked for are made of.
    gpu : bool
        A GPU computes, on which images share calls.
    """

    signature: str
    why: str
    input: InputFacts
    output: str
    score: str
    bypassed: str | None
    channel: int | None
    classes: int | None
    size: tuple[int, int]
    channels: int
    preprocess: str
    activations: dict[str, tuple[int, int]]
    gates: int
    custom_gradients: int
    warnings: tuple[str, ...]
    passed_by: int = 0
    bypassed_as: str | None = None
    reading: str | None = None
    positions: bool = False
    ranked_by: str | None = None
    alpha: bool = False
    taps: tuple[Taps, ...] = ()
    gpu: bool = False

    @property
    def channels_first(self) -> bool:
        """Whether the model has its channels before height and width."""
        axes = LAYOUTS.get(self.input.layout or "", "")
        return "C" in axes and axes.index("C") < min(axes.index("H"), axes.index("W"))

    def warnings_for(self, methods: Sequence[str]) -> tuple[str, ...]:
        """Those that hold in any case, and what the modes of these methods leave as it is."""
        if not any(RULES[mode].changes_gradient for mode in modes_of(methods)):
            return self.warnings
        said = list(self.warnings)
        left = {name: seen - done for name, (seen, done) in self.activations.items() if seen > done}
        if left:
            named = ", ".join(f"{count} {name}" for name, count in left.items())
            remedy = "(--activations all lets them obey the rule too)"
            said.append(f"not patched: {named}; they pass the plain gradient {remedy}")
        if self.passed_by:
            where = "inside what the model has a gradient of its own for; there that one counts"
            said.append(f"not patched: activations ({self.passed_by}) {where} (--mode backprop patches none)")
        return tuple(said)


@dataclass(frozen=True)
class Loaded:
    """Answer to `Load`. Seconds that importing TensorFlow and loading the model took."""

    facts: Facts
    import_seconds: float
    model_seconds: float
    sandbox: Sandbox


@dataclass(frozen=True)
class Proved:
    """Answer to `Prove`."""

    proof: Proof


@dataclass(frozen=True)
class Tried:
    """Answer to `Try`: it can be computed, or this one image is at fault."""


@dataclass(frozen=True)
class Redrawn:
    """Answer to `Redraw`: the names of all kernels, from the score down."""

    kernels: tuple[str, ...]


@dataclass(frozen=True)
class Converted:
    """Answer to `Convert`; beside it the bytes of a saved_model.pb (uint8 [n])."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a signature; None in a shape where a size is open, and for the shape where the rank is."""

    tensor: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class SignatureInfo:
    """Inputs and outputs of one signature, by key."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]


@dataclass(frozen=True)
class Chosen:
    """What would be explained; size to classes are None where no gradient could be built, the next two as in `Facts`.
    `guessed` are options for which something was taken that the model does not say."""

    signature: str
    why: str
    input: InputFacts
    output: str
    score_tensor: str
    bypassed: str | None
    size: tuple[int, int] | None = None
    channels: int | None = None
    preprocess: str | None = None
    classes: int | None = None
    bypassed_as: str | None = None
    reading: str | None = None
    guessed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Count:
    """Activations of one type between image and score."""

    reachable: int
    patched: int


@dataclass(frozen=True)
class FoundActivation:
    """One activation: its type, the tensors before and behind it, the function of a loop or branch that it stands in (or
    none), whether it obeys the rule, and its values at `at`, by which it was recognised."""

    type: str
    entry: str
    exit: str
    function: str | None
    patched: bool
    at: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class GradientFacts:
    """Whether a gradient reaches the image (None: not tried), and the op that stops it."""

    reaches_input: bool | None = None
    cut_at: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a mode can be explained (None: not tried), and why not."""

    works: bool | None = None
    why: str = ""


@dataclass(frozen=True)
class CamLayer:
    """A feature map that everything on the way from image to score passes."""

    tensor: str
    op: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Candidate:
    """What an option may name, as it is typed, and what that is."""

    name: str
    what: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class RefusedOp:
    """An operation outside the allowed set, and a node that has it."""

    op: str
    node: str


CPU = "cpu"  # as a device


@dataclass(frozen=True)
class Inspection:
    """What a SavedModel offers, what would be patched, and what is wrong: the contract's `inspect --json`."""

    tags: tuple[tuple[str, ...], ...]
    tensorflow_version: str
    signatures: dict[str, SignatureInfo]
    chosen: Chosen | None = None
    activations: dict[str, Count] = field(default_factory=dict)
    gates_left: int = 0
    clips_left: int = 0  # of the image itself
    without_rule: dict[str, int] = field(default_factory=dict)
    found: tuple[FoundActivation, ...] = ()
    gradient: GradientFacts = GradientFacts()
    cam_layers: tuple[CamLayer, ...] = ()
    candidates: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    refused_ops: tuple[RefusedOp, ...] = ()
    warnings: tuple[str, ...] = ()
    modes: dict[str, Verdict] = field(default_factory=dict)
    problem: str | None = None
    problem_kind: str | None = None  # as `Failure.kind`
    device: str | None = None  # what computes the gradient: CPU, or the name of a GPU


@dataclass(frozen=True)
class Inspected:
    """Answer to `Inspect`."""

    told: Inspection


@dataclass(frozen=True)
class Explained:
    """Answer to `Explain`; the numbers are in the arrays beside it (`expected_arrays`)."""


@dataclass(frozen=True)
class Failure:
    """What went wrong in a child. `kind` is the name of an exception class of `errors`, or of an image's error."""

    kind: str
    message: str
    remedy: str = ""
    traceback: tuple[str, ...] = ()


# -- decoders


# What a file that was decoded held: a picture; an array of pixels 0..255; an array of other numbers, which are the
# model's own.
PICTURE, PIXELS, NUMBERS = HELD = ("picture", "pixels", "numbers")


@dataclass(frozen=True)
class Decode:
    """Bring the image file beside it to the size of the model input; with `pixels` give the upright image too.

    `alpha` and `channels_first` as in `images.fit.Geometry`; `page` is a place in a file of several, see `images.frames`.
    """

    max_pixels: int
    max_file_size: int
    height: int
    width: int
    channels: int
    fit: str
    pixels: bool = False
    fast: bool = False
    page: int | None = None
    alpha: bool = False
    channels_first: bool = False


@dataclass(frozen=True)
class Decoded:
    """Size of the upright image, and what the file held. Beside it [height, width, channels] of the request, uint8, or
    float32 where it held NUMBERS; and the image, uint8 [h, w, 3], where asked.

    `notes` say what was assumed of the file, or is odd about its pixels.
    """

    height: int
    width: int
    held: str = PICTURE
    notes: tuple[str, ...] = ()


# -- arrays


@dataclass(frozen=True, eq=False)
class Row:
    """What the worker found for one image: [t] per target; maps by method [t, h, w, c], channels as the model has them,
    and what is recorded beside each, float32 [t, k]."""

    index: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    output: np.ndarray
    gradients: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray] = field(default_factory=dict)


Expected = list[tuple[str, tuple[int, ...]]]  # dtype and shape of each array


def expected_arrays(request: Explain, count: int, shape: tuple[int, int, int], taps: Sequence[Taps] = ()) -> Expected:
    """What stands beside `Explained` for `count` images of `shape`: index, rank, score, output; the maps of each method; and
    of each that has some the numbers that are recorded beside them."""
    targets = request.each
    columns = [(dtype, (count, targets)) for dtype in ("int32", "int32", "float32", "float32")]
    maps = [("float32", (targets, count, *shape_of(name, shape, taps))) for name in request.methods]
    numbers = [("float32", (targets, count, width)) for width in request.recorded.values()]
    return [*columns, *maps, *numbers]


def size_of(expected: Expected) -> int:
    """Bytes of these arrays."""
    return sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in expected)


def longest_header(kind: type[Any]) -> int:
    """Bytes of an answer without its arrays: what a model offers may be long, everything else is short."""
    return 2**23 if kind is Inspected else 2**20


def check_arrays(arrays: Sequence[np.ndarray], expected: Expected) -> None:
    """Raise ValueError for arrays other than those that were asked for."""
    if [(array.dtype.name, array.shape) for array in arrays] != expected:
        raise ValueError("not the arrays that were asked for")


def rows(request: Explain, arrays: Sequence[np.ndarray]) -> list[Row]:
    """The arrays beside `Explained`, image by image; ValueError for a class or a rank that cannot be."""
    index, rank, score, output, *more = arrays
    methods = request.methods
    if index.size and (index.min() < 0 or rank.min() < -1):
        raise ValueError("a class below 0")
    asked = np.array(request.targets, np.int64)
    asked = asked[None, :] if request.own else asked[:, None]  # [t, n], of all images or of each
    if ((asked >= 0) & (asked != index.T)).any():
        raise ValueError("another class than was asked for")
    maps = dict(zip(methods, more[: len(methods)], strict=True))
    numbers = dict(zip(request.recorded, more[len(methods) :], strict=True))

    def of(place: int, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array[:, place] for name, array in arrays.items()}

    return [Row(index[i], rank[i], score[i], output[i], of(i, maps), of(i, numbers)) for i in range(len(index))]


# -- on the wire


class NotUnderstood(Exception):
    """The other side sent what is none of the messages that may come."""


def to_wire(message: Any) -> dict[str, Any]:
    """A message as a JSON header; its type goes with it."""
    return {"type": type(message).__name__, **asdict(message)}


def from_wire(header: Any, *kinds: type[Any], longest: int = LONGEST_TEXT) -> Any:
    """The message that a header is: one of `kinds`, and in every part what its type says.

    Parameters
    ----------
    longest : int
        Characters of a text. What the command itself says to a child may be longer than what it believes of one.

    Raises
    ------
    NotUnderstood
        It is none of them.
    """
    known = {kind.__name__: kind for kind in kinds}
    name = header.get("type") if isinstance(header, Mapping) else None
    if not isinstance(name, str) or name not in known:
        raise NotUnderstood(f"no {' or '.join(known)}")
    return _value(known[name], {key: value for key, value in header.items() if key != "type"}, name, longest)


def from_json(kind: type[Any], given: Any) -> Any:
    """A value of `kind` as it was kept in a file, which anyone may have written; NotUnderstood where it is none."""
    return _value(kind, given, kind.__name__, LONGEST_TEXT)


Read = Callable[[Any, int], Any]  # what was given, and the most characters of a text in it


class _Odd(Exception):
    """What is wrong with a value, and the way to it from the inside out."""

    def __init__(self, said: str):
        super().__init__(said)
        self.way: list[str] = []

    def below(self, step: str) -> _Odd:
        self.way.append(step)
        return self


def _value(kind: Any, given: Any, where: str, longest: int) -> Any:
    """`given` as a value of `kind`, which is a type that a field of a message has."""
    try:
        return _reader(kind)(given, longest)
    except _Odd as odd:
        raise NotUnderstood(f"{where}{''.join(reversed(odd.way))} {odd}") from None


@cache
def _reader(kind: Any) -> Read:
    """What makes values of a type; made once, as a node says a thousand of them."""
    if is_dataclass(kind):
        return _message(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(inner)
    if origin is tuple:
        return _tuple(inner)
    return _dict(*inner) if origin is dict else _PLAIN[kind]


def _message(kind: Any) -> Read:
    hints = get_type_hints(kind)
    readers = {one.name: _reader(hints[one.name]) for one in fields(kind)}

    def read(given: Any, longest: int) -> Any:
        if not isinstance(given, dict) or given.keys() != readers.keys():
            raise _Odd(f"has not the fields of {kind.__name__}")
        found = {}
        for name, reader in readers.items():
            try:
                found[name] = reader(given[name], longest)
            except _Odd as odd:
                raise odd.below(f".{name}") from None
        return kind(**found)

    return read


def _one_of(kinds: Sequence[Any]) -> Read:
    (kind,) = (kind for kind in kinds if kind is not type(None))
    reader = _reader(kind)
    return lambda given, longest: None if given is None else reader(given, longest)


def _tuple(inner: Sequence[Any]) -> Read:
    many = _reader(inner[0]) if inner[1:] == (...,) else None
    each = () if many else tuple(map(_reader, inner))

    def read(given: Any, longest: int) -> tuple[Any, ...]:
        if not isinstance(given, list | tuple) or len(given) > MOST_ITEMS:
            raise _Odd("is no list")
        if many is None and len(each) != len(given):
            raise _Odd(f"has {len(given)} items, not {len(each)}")
        try:
            if many is not None:
                return tuple([many(one, longest) for one in given])
            return tuple([reader(one, longest) for reader, one in zip(each, given, strict=True)])
        except _Odd as odd:
            raise odd.below("[]") from None

    return read


def _dict(key: Any, value: Any) -> Read:
    names, values = _reader(key), _reader(value)

    def read(given: Any, longest: int) -> dict[Any, Any]:
        if not isinstance(given, dict) or len(given) > MOST_ITEMS:
            raise _Odd("is no object")
        try:
            return {names(one, longest): values(each, longest) for one, each in given.items()}
        except _Odd as odd:
            raise odd.below("[]") from None

    return read


def _text(given: Any, longest: int) -> str:
    if not isinstance(given, str) or len(given) > longest:
        raise _Odd("is no str of sensible size")
    return given


def _truth(given: Any, longest: int) -> bool:
    if not isinstance(given, bool):
        raise _Odd("is no bool of sensible size")
    return given


def _number(kind: Any, kinds: Any) -> Read:
    def read(given: Any, longest: int) -> Any:
        right = isinstance(given, kinds) and not isinstance(given, bool)
        if not right or not -LARGEST_NUMBER < given < LARGEST_NUMBER:  # false for NaN as well
            raise _Odd(f"is no {kind.__name__} of sensible size")
        return given

    return read


_PLAIN: dict[Any, Read] = {str: _text, bool: _truth, int: _number(int, int), float: _number(float, (int, float))}
