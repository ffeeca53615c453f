"""How it went: results of images, counts, the exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gradviz_cli.errors import ExitCode, gravest
from gradviz_cli.estimators import ESTIMATORS, GRADIENT, Method
from gradviz_cli.files.reading import Stamp
from gradviz_cli.files.remote import full_name
from gradviz_cli.rules import PLAIN, RULES

# Fields of the manifest that are read again: of each output its SHA-256 and its stamp (`files.reading`), by name; the same of
# the image file.
HASHES, STAMPS, IMAGE_HASH, IMAGE_STAMP = "sha256", "stamps", "image_sha256", "image_stamp"


class Status(str, Enum):
    """How one image went: the words of the manifest, what each means, whether it counts as failed, and why it does.

    A member is its word: it compares, hashes, prints and is written to JSON as that text.
    """

    meaning: str
    failed: bool
    why: str

    def __new__(cls, word: str, meaning: str = "", failed: bool = False, why: str = "") -> Status:
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning, member.failed, member.why = meaning, failed, why
        return member

    __str__ = str.__str__

    @classmethod
    def of(cls, word: object) -> Status | None:
        """The status of this word, which may come from anywhere."""
        return next((status for status in cls if status.value == word), None)

    WRITTEN = "written", "its pictures were drawn and are on the disk"
    CURRENT = "current", "its pictures were there already, with the digests that they would have"
    PENDING = "pending", "a run would draw its pictures; said by --dry-run alone"
    FAILED = "failed", "it could not be read, explained or written; the error says why", True
    ZERO = (
        "zero",
        "a map without any attribution, which is not drawn",
        True,
        "the attribution is zero everywhere: no change of the image changes the score (saturated or dead units)",
    )
    NOWHERE = (
        "nowhere",
        "the class was found nowhere in it, so that there is nothing to explain; no failure, and nothing is drawn",
        False,
        "the class is found nowhere in this image: no position of the scores is one of it, and none is explained; "
        "--at names a position, --box-of 1 takes the one where it comes nearest",
    )
    NONFINITE = (
        "nonfinite",
        "a map that cannot be drawn as it holds NaN or infinity",
        True,
        "the attribution holds NaN or infinity: the model overflows on this image; check --preprocess",
    )


@dataclass(frozen=True)
class Seen:
    """What was found where a map is zero everywhere, by asking the model about other pictures too.

    Attributes
    ----------
    plain_empty : bool or None
        Whether the plain gradient of the same score is zero too; None where nobody asked.
    used : str
        The pixel range.
    ranges : tuple of str
        Other choices of --preprocess, under which the plain gradient of this image is not zero.
    scores : tuple of float
        Of the image, and of a black, a white and a noisy picture in its place.
    others_alive : bool
        Whether one of these three has a map.
    one_colour : bool
        The image is of one colour.
    by_output : bool
        --score output was asked for.
    """

    plain_empty: bool | None
    used: str = ""
    ranges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    others_alive: bool = False
    one_colour: bool = False
    by_output: bool = False


NOTHING_ASKED = Seen(None)
EMPTY = "the attribution is zero everywhere: "


def why_empty(
    status: Status, method: str, score: float | None, positions: bool, seen: Seen = NOTHING_ASKED
) -> tuple[Status, str]:
    """What an attribution that is not drawn means, and says.

    Parameters
    ----------
    method : str
        By which it was made: a mode, or MODE.ESTIMATOR.
    score : float or None
        Of what it is the attribution.
    positions : bool
        That is a sum over the positions that a class wins, or the best of them: 0 where there is none.
    """
    if status is not Status.ZERO:
        return status, status.why
    if positions and score == 0:
        return Status.NOWHERE, Status.NOWHERE.why
    mode, estimator = Method.of(method)
    if ESTIMATORS[estimator].is_area:
        return status, f"{EMPTY}nowhere does the layer raise the score; try another --cam-layer"
    if RULES[mode].changes_gradient and not seen.plain_empty and estimator == GRADIENT:
        shown = f"{PLAIN} has a map" if seen.plain_empty is False else f"or {PLAIN} is zero too"
        closed = f"no positive gradient reaches a ReLU, and {mode} lets only those through"
        return status, f"{EMPTY}{closed}; {shown} (--mode {PLAIN})"
    if (empty := ESTIMATORS[estimator].empty) and not seen.plain_empty:  # else the cause lies in the gradient itself
        return status, f"{EMPTY}{empty}{'' if seen.plain_empty is False else f', or {PLAIN} is zero too'}"
    return status, next(filter(None, (look(seen) for look in LOOKS if seen.scores)), status.why)


def _other_range(seen: Seen) -> str:
    if not seen.ranges:
        return ""
    choices = " or ".join(seen.ranges)
    return (
        f"{EMPTY}as --preprocess {seen.used} has it, no change of this image changes the score, but under {choices} one "
        "does: which range does the model expect? (gradviz inspect MODEL --image FILE)"
    )


def _at_an_end(seen: Seen) -> str:
    """A probability that is 0 or 1 to the last digit, or what a closed ReLU leaves."""
    score, *others = seen.scores
    if score == 1 and all(0 <= one <= 1 for one in others):
        remedy = "--score logit" if seen.by_output else "--output NAME of what feeds it"
        return f"{EMPTY}the score is 1, where its sigmoid or softmax is flat (saturated); explain {remedy}"
    if seen.one_colour and seen.others_alive:  # where nothing is open, a sum is 0 as well
        return ""
    if score == 0 and min(others) >= 0 and max(others) > 0:
        return (
            f"{EMPTY}the score is 0, the positive part alone of what the model computed; explain the tensor before it "
            "(--output NAME), or a class that the image has"
        )
    return ""


def _dead(seen: Seen) -> str:
    if seen.others_alive or len(set(seen.scores)) > 1:
        return ""
    return (
        f"{EMPTY}the score is {seen.scores[0]:g} for this image and for a black, a white and a noisy one alike (dead "
        "units); choose another --target or --output"
    )


def _this_image(seen: Seen) -> str:
    if not seen.others_alive:
        return ""
    if seen.one_colour:
        return f"{EMPTY}the image is of one colour, and no unit on it is open; a noisy picture has a map"
    return (
        f"{EMPTY}no change of this image changes the score, while a noisy picture has a map: the units are closed or "
        "saturated on it"
    )


# The usual causes, by what was seen: the first that holds is said.
LOOKS = (_other_range, _at_an_end, _dead, _this_image)


@dataclass(frozen=True)
class TargetResult:
    """A class that was explained: its index and label, its place among the classes (0 is the best), the score that was
    differentiated, and the same class in the model's own output. None where it is unknown or not finite."""

    index: int | None
    label: str | None
    rank: int | None
    score: float | None
    output: float | None


@dataclass(frozen=True)
class Result:
    """How one image went; a line of the manifest. `notes` say what was assumed of its file, each to be told once a run; `why`
    is why it is pending, and `kept` are those of its outputs that are current all the same, and are left as they are."""

    image: str
    status: Status
    outputs: tuple[str, ...] = ()
    targets: tuple[TargetResult, ...] = ()
    error: dict[str, str] | None = None
    digest: str | None = None
    seconds: float = 0.0
    hashes: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    page: int | None = None  # its number, which ends the name of the image behind a `#`
    reading: str | None = None  # what the output is taken for, where it is more than one score for each class
    stamps: dict[str, Stamp] = field(default_factory=dict)
    estimates: tuple[
        dict[str, Any], ...
    ] = ()  # what is recorded beside maps: of which mode, estimator and class, and what
    image_sha256: str | None = None
    image_stamp: Stamp | None = None
    why: str = ""
    kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if type(self.status) is not Status:
            object.__setattr__(self, "status", Status(self.status))  # its word is as good

    @property
    def failed(self) -> bool:
        return self.status.failed

    @property
    def new(self) -> tuple[str, ...]:
        """The outputs that are written."""
        return tuple(name for name in self.outputs if name not in self.kept)

    def record(self, time: str) -> dict[str, Any]:
        """The manifest's line: `source` is the image's full path, `sha256` the hash of each file that was written."""
        line = {**vars(self), "targets": [dict(vars(one)) for one in self.targets]}  # `asdict` takes ten times as long
        hashes, page, *_ = (line.pop(name) for name in ("hashes", "page", "notes", "why", "kept"))
        found = {name: line.pop(name) for name in ("reading", STAMPS, "estimates", IMAGE_HASH, IMAGE_STAMP)}
        line |= {name: value for name, value in found.items() if value}
        file = self.image if page is None else self.image.removesuffix(f"#{page}")
        more = {"seconds": round(self.seconds, 3), "time": time, "source": _absolute(file), HASHES: hashes}
        if page is not None:
            more["page"] = page
        return {**line, **more}


def _absolute(path: str) -> str:
    try:
        return full_name(path)
    except OSError:  # the working folder is gone
        return path


@dataclass
class Report:
    """Counts of a run; yields the exit code."""

    counts: dict[Status, int] = field(default_factory=dict)
    fatal: set[ExitCode] = field(default_factory=set)
    untried: bool = False  # --fail-fast left images out
    elsewhere: bool = False  # there are images, and all of them fall to other shards

    def add(self, result: Result) -> None:
        self.counts[result.status] = self.counts.get(result.status, 0) + 1

    @property
    def failed(self) -> int:
        return sum(self.counts.get(status, 0) for status in Status if status.failed)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def exit_code(self, allow_empty: bool = False) -> ExitCode:
        codes = set(self.fatal)
        if self.failed:
            every = self.failed == self.total and not self.untried
            codes.add(ExitCode.ALL_FAILED if every else ExitCode.SOME_FAILED)
        if not self.total and not (allow_empty or self.elsewhere) and not codes:
            codes.add(ExitCode.ALL_FAILED)
        return gravest(codes)
