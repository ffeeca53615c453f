"""How it went: results of images, counts, the exit code."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from gradviz_cli.errors import ExitCode, gravest


@dataclass(frozen=True)
class TargetResult:
    """A class that was explained: its index and label, its place among the classes (0 is the best), the score that was
    differentiated, and the same class in the model's own output. None where it is unknown or not finite."""

    index: int
    label: str | None
    rank: int | None
    score: float | None
    output: float | None


@dataclass(frozen=True)
class Result:
    """How one image went; a line of the manifest."""

    image: str
    status: str
    outputs: tuple[str, ...] = ()
    targets: tuple[TargetResult, ...] = ()
    error: dict[str, str] | None = None
    digest: str | None = None
    seconds: float = 0.0
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.status in ("failed", "zero", "nonfinite")

    def record(self, time: str) -> dict[str, Any]:
        """The manifest's line: `source` is the image's full path, `sha256` the hash of each file that was written."""
        line = asdict(self)
        hashes = line.pop("hashes")
        more = {"seconds": round(self.seconds, 3), "time": time, "source": _absolute(self.image), "sha256": hashes}
        return {**line, **more}


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # the working folder is gone
        return path


@dataclass
class Report:
    """Counts of a run; yields the exit code."""

    counts: dict[str, int] = field(default_factory=dict)
    fatal: set[ExitCode] = field(default_factory=set)
    untried: bool = False  # --fail-fast left images out

    def add(self, result: Result) -> None:
        self.counts[result.status] = self.counts.get(result.status, 0) + 1

    @property
    def failed(self) -> int:
        return sum(self.counts.get(status, 0) for status in ("failed", "zero", "nonfinite"))

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
