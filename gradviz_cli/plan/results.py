"""How it went: results of images, counts, the exit code."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from gradviz_cli.errors import ExitCode, gravest
from gradviz_cli.files.reading import Stamp
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


def why_empty(
    status: Status, mode: str, score: float | None, positions: bool, plain_empty: bool | None
) -> tuple[Status, str]:
    """What an attribution that is not drawn means, and says.

    Parameters
    ----------
    score : float or None
        Of what it is the attribution.
    positions : bool
        That is a sum over the positions that a class wins, or the best of them: 0 where there is none.
    plain_empty : bool or None
        Whether the plain gradient of the same score is zero too; None where nobody asked.
    """
    if status is not Status.ZERO:
        return status, status.why
    if positions and score == 0:
        return Status.NOWHERE, Status.NOWHERE.why
    if not RULES[mode].changes_gradient or plain_empty:
        return status, status.why
    closed = f"the attribution is zero everywhere: no positive gradient reaches a ReLU that {mode} lets it through"
    shown = f"{PLAIN} has a map" if plain_empty is False else f"or {PLAIN} is zero too"
    return status, f"{closed}; {shown} (--mode {PLAIN})"


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
    is why it is pending."""

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
    image_sha256: str | None = None
    image_stamp: Stamp | None = None
    why: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", Status(self.status))  # its word is as good

    @property
    def failed(self) -> bool:
        return self.status.failed

    def record(self, time: str) -> dict[str, Any]:
        """The manifest's line: `source` is the image's full path, `sha256` the hash of each file that was written."""
        line = {**vars(self), "targets": [dict(vars(one)) for one in self.targets]}  # `asdict` takes ten times as long
        hashes, page, *_ = (line.pop(name) for name in ("hashes", "page", "notes", "why"))
        found = {name: line.pop(name) for name in ("reading", STAMPS, IMAGE_HASH, IMAGE_STAMP)}
        line |= {name: value for name, value in found.items() if value}
        file = self.image if page is None else self.image.removesuffix(f"#{page}")
        more = {"seconds": round(self.seconds, 3), "time": time, "source": _absolute(file), HASHES: hashes}
        if page is not None:
            more["page"] = page
        return {**line, **more}


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # the working folder is gone
        return path


@dataclass
class Report:
    """Counts of a run; yields the exit code."""

    counts: dict[Status, int] = field(default_factory=dict)
    fatal: set[ExitCode] = field(default_factory=set)
    untried: bool = False  # --fail-fast left images out

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
        if not self.total and not allow_empty and not codes:
            codes.add(ExitCode.ALL_FAILED)
        return gravest(codes)


def now() -> str:
    """The time as RFC 3339, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
