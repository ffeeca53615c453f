"""What a run says on stderr: lines for people or JSON for machines, and progress on a terminal."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from gradviz_cli.cli.stderr import put, say
from gradviz_cli.images import printable
from gradviz_cli.plan import Report, Result

EVERY = 0.2  # seconds between two states of the progress line


class Voice:
    """Speaks for one run.

    Parameters
    ----------
    form : "text" or "json"
        JSON: one object a line, with `time`, `level`, `event`, `message` and what belongs to it.
    """

    def __init__(self, form: str = "text", verbose: bool = False, quiet: bool = False, progress: str = "auto"):
        self._json, self._verbose, self._quiet = form == "json", verbose, quiet
        shown = progress == "always" or progress == "auto" and _is_terminal() and form == "text" and not quiet
        self._progress = Progress() if shown else None

    def start(self, jobs: Iterable) -> None:
        """Count the jobs for the progress line, beside the work."""
        if self._progress:
            self._progress.count(jobs)

    def warning(self, message: str, **more: Any) -> None:
        if not self._quiet:
            self._line("warning", "warning", f"gradviz: warning: {message}", message=message, **more)

    def detail(self, message: str) -> None:
        """What only -v wants to know."""
        if self._verbose:
            self._line("info", "detail", message, message=message)

    def failure(self, error: Exception, code: int) -> None:
        """What ended the run."""
        self._line("error", "stopped", f"gradviz: {error}", message=str(error), code=code)

    def result(self, result: Result, report: Report) -> None:
        """A failed image is always said; the others with -v, or in JSON."""
        image = printable(result.image)
        if result.failed:
            message = result.error["message"]
            more = {"kind": result.error["kind"], "status": result.status}
            self._line("error", "image", f"gradviz: {image}: {message}", image=image, message=message, **more)
        elif self._verbose:
            message = f"{result.status} {image}"
            self._line("info", "image", message, image=image, status=result.status, message=message)
        if self._progress:
            self._progress.show(report)

    def summary(self, report: Report, seconds: float) -> None:
        """One line at the end, with -v or on a terminal."""
        if self._progress:
            self._progress.clear()
        if self._verbose or self._progress:
            counts = ", ".join(f"{count} {status}" for status, count in sorted(report.counts.items())) or "nothing to do"
            message = f"{counts} in {seconds:.1f} s"
            self._line("info", "summary", message, message=message, counts=report.counts, seconds=round(seconds, 3))

    def _line(self, level: str, event: str, text: str, **fields: Any) -> None:
        if self._progress:
            self._progress.clear()
        if self._json:
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            text = json.dumps({"time": now, "level": level, "event": event, **fields})
        say(text)


class Progress:
    """One line that is written over: how many of how many, images a second, time left."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._start = self._last = time.monotonic()
        self._width = 0

    def count(self, jobs: Iterable) -> None:
        threading.Thread(target=self._count, args=(jobs,), daemon=True).start()

    def _count(self, jobs: Iterable) -> None:
        self._total = sum(1 for _ in jobs)

    def show(self, report: Report) -> None:
        now = time.monotonic()
        if now - self._last < EVERY and report.total != self._total:
            return
        self._last = now
        rate = report.total / max(now - self._start, 1e-9)
        of = f"/{self._total}" if self._total else ""
        left = f", {_clock((self._total - report.total) / rate)} left" if self._total and rate else ""
        failed = f", {report.failed} failed" if report.failed else ""
        line = f"{report.total}{of} images, {rate:.1f}/s{left}{failed}"
        put("\r" + line.ljust(self._width))
        self._width = len(line)

    def clear(self) -> None:
        if self._width:
            put("\r" + " " * self._width + "\r")
            self._width = 0


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
