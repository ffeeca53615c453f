"""What a run says on stderr, and progress on a terminal; paths on stdout where they are asked for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from gradviz_cli.batch.observer import Observer
from gradviz_cli.cli.stderr import is_terminal, put, speaks_json, tell, width
from gradviz_cli.cli.stdout import print_paths
from gradviz_cli.errors import GradvizError
from gradviz_cli.files.text import plain, printable
from gradviz_cli.model.explainer import Explainer
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Report, Result, Status
from gradviz_cli.process.protocol import Loaded, Proof

EVERY = 0.2  # seconds between two states of the progress line
EVERY_EVENT = 5.0  # between two progress events in JSON
WINDOW = 30.0  # seconds over which the rate is taken: images that were current go by faster than those that follow


class Voice(Observer):
    """Says on stderr how a run goes; several threads may use it. In a `with`, so that no progress line stays behind.

    Parameters
    ----------
    print_end : bytes
        Print each written path on stdout, followed by this; empty for none.
    begun : callable
        Called when the images come next.
    """

    def __init__(
        self,
        plan: Plan,
        verbose: bool = False,
        quiet: bool = False,
        progress: str = "auto",
        print_end: bytes = b"",
        begun: Callable[[], None] = lambda: None,
    ):
        self._begun = begun
        self._plan, self._quiet, self._print_end = plan, quiet, print_end
        self._verbose = verbose and not plan.dry_run  # its paths on stdout say all
        shown = progress == "always" or progress == "auto" and is_terminal() and not speaks_json() and not quiet
        self._progress = Progress() if shown and not plan.dry_run else None
        self._started = False
        self._guard = threading.RLock()

    def started(self, jobs: Iterable[Job]) -> None:
        """Count the jobs for the progress line, beside the work."""
        self._started = True
        self._begun()
        if self._progress:
            threading.Thread(target=self._progress.count, args=(jobs,), daemon=True).start()

    def loaded(self, model: Explainer) -> None:
        """Warnings, and with -v what was found in the model."""
        for message in model.warnings(self._plan.drawing.methods):
            self._warn(message, model=self._plan.model.path)
        for line in _description(model.loaded, model.proof):
            self._detail(line)

    def result(self, result: Result, report: Report) -> None:
        """A failed image is always said; the others with -v."""
        image = printable(result.image)
        if result.failed:
            error = result.error or {}
            message, more = error["message"], {"kind": error["kind"], "status": result.status}
            self._line("error", "image", f"gradviz: {image}: {message}", image=image, message=message, **more)
        elif self._verbose:
            message = f"{result.status} {image}" + (f": {result.error['message']}" if result.error else "")
            self._line("info", "image", message, image=image, status=result.status, message=message)
        if self._progress:
            with self._guard:
                self._progress.show(report)
        end = b"\n" if result.status is Status.PENDING else self._print_end
        if end and result.status in (Status.PENDING, Status.WRITTEN):
            print_paths((self._plan.out / name for name in result.outputs), end)

    def warning(self, message: str) -> None:
        self._warn(message)

    def detail(self, message: str) -> None:
        """Said with -v, and to who sits before a terminal."""
        self._detail(message, self._verbose or self._progress is not None)

    def failure(self, error: GradvizError) -> None:
        message = plain(str(error))
        self._line("error", "stopped", f"gradviz: {message}", message=message, code=int(error.code))
        for line in error.traceback.splitlines():
            self._detail(line)

    def ended(self, report: Report, seconds: float) -> None:
        """One line at the end, with -v or on a terminal."""
        if self._started and (self._verbose or self._progress):
            counts = (
                ", ".join(f"{count} {status}" for status, count in sorted(report.counts.items())) or "nothing to do"
            )
            message = f"{counts} in {seconds:.1f} s"
            self._line("info", "summary", message, message=message, counts=report.counts, seconds=round(seconds, 3))

    def _warn(self, message: str, **more: Any) -> None:
        message = plain(message)
        if not self._quiet:
            self._line("warning", "warning", f"gradviz: warning: {message}", message=message, **more)

    def _detail(self, message: str, wanted: bool | None = None) -> None:
        """What only -v wants to know."""
        if self._verbose if wanted is None else wanted:
            message = plain(message)
            self._line("info", "detail", message, message=message)

    def _line(self, level: str, event: str, text: str, **fields: Any) -> None:
        with self._guard:
            self._clear()
            tell(level, event, text, **fields)

    def _clear(self) -> None:
        """Take the progress line away."""
        if self._progress:
            with self._guard:
                self._progress.clear()

    def __enter__(self) -> Voice:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()


def _description(loaded: Loaded, proof: Proof | None) -> list[str]:
    facts = loaded.facts
    counts = ", ".join(f"{done} of {seen} {name}" for name, (seen, done) in facts.activations.items()) or "none"
    before = f", before {facts.bypassed} ({facts.bypassed_as})" if facts.bypassed else ""
    seconds = f"TensorFlow {loaded.import_seconds:.1f} s, model {loaded.model_seconds:.1f} s"
    lines = [
        f"signature {facts.signature}: {facts.input.name} -> {facts.output}, score {facts.score}{before}",
        *([f"the output is read as {facts.reading}"] if facts.reading else []),
        f"activations that obey the rule: {counts}" + (f"; {facts.gates} gates left" if facts.gates else ""),
        f"preprocess {facts.preprocess}, input {facts.size[0]}x{facts.size[1]}x{facts.channels}",
        f"sandbox {loaded.sandbox.level}; {seconds}",
        f"proof: {'; '.join(map(str, proof.witnesses)) if proof else 'not asked for'}",
    ]
    lines += [
        f"class activation maps are taken from {taps.tensors[0]}, {taps.size[0]}x{taps.size[1]}"
        for taps in facts.taps
        if taps.axes
    ]
    if facts.custom_gradients:
        lines.append(f"{facts.custom_gradients} custom gradients replaced by the derivative of the forward pass")
    return lines


class Progress:
    """One line that is written over: how many of how many, images a second, time left. In JSON an event now and then."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._last = 0.0
        self._passed = deque([(time.monotonic(), 0)])
        self._shown = False

    def count(self, jobs: Iterable) -> None:
        self._total = sum(1 for _ in jobs)

    def show(self, report: Report) -> None:
        now = time.monotonic()
        if now - self._last < (EVERY_EVENT if speaks_json() else EVERY) and report.total != self._total:
            return
        self._last = now
        rate = self._rate(now, report.total)
        left = (self._total - report.total) / rate if self._total and rate else None
        of = f"/{self._total}" if self._total else ""
        remaining = "" if left is None else f", {_clock(left)} left"
        failed = f", {report.failed} failed" if report.failed else ""
        line = f"{report.total}{of} images, {rate:.1f}/s{remaining}{failed}"
        if speaks_json():
            fields = {"done": report.total, "total": self._total, "failed": report.failed, "rate": round(rate, 2)}
            tell("info", "progress", line, message=line, **fields, seconds_left=None if left is None else round(left))
            return
        put("\r\x1b[K" + line[: width() - 1])  # a full line would wrap, and could not be taken back
        self._shown = True

    def _rate(self, now: float, done: int) -> float:
        """Images a second of late."""
        self._passed.append((now, done))
        while len(self._passed) > 2 and now - self._passed[1][0] > WINDOW:
            self._passed.popleft()
        then, before = self._passed[0]
        return (done - before) / max(now - then, 1e-9)

    def clear(self) -> None:
        if self._shown:
            put("\r\x1b[K")
            self._shown = False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
