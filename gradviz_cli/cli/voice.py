"""What a run says on stderr, and progress on a terminal; paths on stdout where they are asked for."""

from __future__ import annotations

import shlex
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gradviz_cli.batch.observer import Observer
from gradviz_cli.cli.line import LINE, Told, looked_on, timed
from gradviz_cli.cli.signals import Stopped
from gradviz_cli.cli.stderr import speaks_json, tell
from gradviz_cli.cli.stdout import print_paths
from gradviz_cli.errors import GradvizError
from gradviz_cli.files.remote import Remote
from gradviz_cli.files.text import plain, printable, shortened
from gradviz_cli.model.forms import short_name
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Report, Result, Status, TargetResult
from gradviz_cli.process.protocol import Loaded, Proof

if TYPE_CHECKING:
    from gradviz_cli.model.explainer import Explainer, ModelTold

EVERY_EVENT = 5.0  # seconds between two progress events in JSON
WINDOW = 30.0  # over which the rate is taken: images that were current go by faster than those that follow
TOGETHER = 0.2  # within which results are taken for those of one batch
LEAST, MEANT = 1.0, 5.0  # of work before a rate, and a time left, are told


class Voice(Observer):
    """Says on stderr how a run goes; several threads may use it. In a `with`, so that no progress line stays behind.

    Parameters
    ----------
    print_end : bytes
        Print each written path on stdout, followed by this; empty for none.
    begun : callable
        Called when the images come next.
    hints : bool
        Say at the end where the pictures are and what to do next: to who looks on, as the attribute of that name says.
    placed : callable, optional
        Says of an error from which file or variable the option at fault comes.
    """

    def __init__(
        self,
        plan: Plan,
        verbose: bool = False,
        quiet: bool = False,
        progress: str = "auto",
        print_end: bytes = b"",
        begun: Callable[[], None] = lambda: None,
        hints: bool = True,
        placed: Callable[[GradvizError], GradvizError] = lambda error: error,
    ):
        self._begun, self._placed = begun, placed
        self._plan, self._quiet, self._print_end = plan, quiet, print_end
        self._verbose = verbose
        self._foreseen = Foreseen()
        shown = progress == "always" or progress == "auto" and looked_on() and not quiet
        self._progress = Progress() if shown and not plan.dry_run else None
        self.hints = hints and self._progress is not None and looked_on()
        self._started = False
        self._report, self._pictures = Report(), 0
        self._guard = threading.RLock()
        if not self._progress:
            LINE.over()

    def started(self, jobs: Iterable[Job]) -> None:
        """Count the jobs for the progress line, beside the work."""
        self._started = True
        self._begun()
        if self._progress:
            threading.Thread(target=self._progress.count, args=(jobs,), daemon=True).start()
            if not speaks_json():
                LINE.doing(self._progress.text)

    def loading(self) -> None:
        """The longest part of a short run."""
        if self._progress:
            self._progress.wait(
                f"starting TensorFlow, reading {printable(short_name(self._plan.typed or self._plan.model.path))}"
            )

    def loaded(self, model: Explainer | ModelTold) -> None:
        """Warnings, and with -v what was found in the model."""
        if self._progress:
            self._progress.begin()
        for message in model.warnings(self._plan.drawing.methods):
            self._warn(message, model=self._plan.model.path)
        for line in _description(model.loaded, model.proof):
            self._detail(line)

    def result(self, result: Result, report: Report) -> None:
        """A failed image is always said; the others with -v."""
        image = printable(result.image)
        more: dict[str, Any] = {"image": result.image, "status": result.status}  # as it stands in the manifest
        if result.failed:
            error = result.error or {}
            message, kind = error["message"], error["kind"]
            self._line("error", "image", f"gradviz: {image}: {message}", message=message, kind=kind, **more)
        elif self._verbose:
            message = f"{result.status} {image}: {_told(result)}"
            found = [{**asdict(one), "label": one.label and shortened(one.label)} for one in result.targets]
            more |= {"outputs": result.outputs, "targets": found}
            self._line("info", "image", message, message=message, **more)
        if result.status is Status.PENDING:
            self._foreseen.add(result)
        self._report = report
        self._pictures += _pictures(result) if result.status is Status.WRITTEN else 0
        if self._progress:
            with self._guard:
                self._progress.add(report)
            if report.total == self._progress.total:
                LINE.look()
        end = self._print_end or (b"\n" if result.status is Status.PENDING else b"")
        if end and result.status in (Status.PENDING, Status.WRITTEN):
            print_paths((self._plan.place / name for name in result.new), end)

    def warning(self, message: str) -> None:
        self._warn(message)

    def detail(self, message: str) -> None:
        """Said with -v, and to who sits before a terminal."""
        self._detail(message, self._verbose or self._progress is not None)

    def failure(self, error: GradvizError) -> None:
        message = plain(str(self._placed(error)))
        self._line("error", "stopped", f"gradviz: {message}", message=message, code=int(error.code))
        for line in error.traceback.splitlines():
            self._detail(line)

    def ended(self, report: Report, seconds: float) -> None:
        """One line at the end, with -v or on a terminal: how many, there also where they are and what to do next. Of a dry run
        what a run would do, and why."""
        if self._plan.dry_run and report.total and not report.fatal and not self._quiet:
            counts, reasons = report.counts, self._foreseen.reasons
            for message in self._foreseen.lines(report):
                self._line("info", "dry-run", message, message=message, counts=counts, reasons=reasons)
        refused = report.fatal and not report.total  # why has just been said
        if self._started and not refused and (self._verbose or self._progress):
            message = f"{_counted(report)} in {seconds:.1f} s" + (self._next(report) if self.hints else "")
            self._line("info", "summary", message, message=message, counts=report.counts, seconds=round(seconds, 3))

    def _next(self, report: Report) -> str:
        done = report.total - report.failed
        if report.fatal or not done:
            return ""
        out = self._plan.place
        if self._plan.file:
            picture = printable(out / self._plan.file)
            return f": {picture}; what it says of itself: gradviz show {shlex.quote(picture)}"
        told = f": {_several(self._pictures, 'picture')} in" if self._pictures else ": they are in"
        command = f"gradviz gallery {shlex.quote(printable(out))} --open"
        if isinstance(out, Remote):
            return f"{told} {printable(out)}"
        again = "; the same command tries those that failed again" if report.failed else ""
        return f"{told} {printable(out)}{again}; to look at them: {command}"

    def _stopped(self) -> None:
        """A signal ended the run: how far it came."""
        done, total = self._report.total, self._progress.total if self._progress else None
        of = f" of {total}" if total else ""
        failed = f" ({self._report.failed} failed)" if self._report.failed else ""
        how = "begins anew" if self._plan.force or not done else "goes on from there"
        without = ", without --force goes on from there" if self._plan.force and done else ""
        message = (
            f"stopped: {done}{of} images are done{failed}, every file is whole; the same command {how}{without}"
            if done
            else f"stopped before the first image was done; the same command {how}"
        )
        self._line("warning", "stopped", f"gradviz: {message}", message=message, counts=self._report.counts)

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
            tell(level, event, text, **fields)

    def __enter__(self) -> Voice:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        LINE.over()
        if kind is not None and issubclass(kind, Stopped | KeyboardInterrupt) and (self._verbose or self._progress):
            self._stopped()


def _counted(report: Report) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(report.counts.items())) or "nothing to do"


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


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


def _pictures(result: Result) -> int:
    """How many: the other outputs are arrays."""
    return sum(name.endswith(".png") for name in result.new)


MOST_TARGETS, MOST_EXAMPLES = 3, 3


def _told(result: Result) -> str:
    """What was found in an image: classes and scores, how many pictures show it; or why there are none."""
    if result.error:
        return result.error["message"]
    pictures = _pictures(result)
    arrays = len(result.new) - pictures
    more = len(result.targets) - MOST_TARGETS
    parts = [
        *map(_target, result.targets[:MOST_TARGETS]),
        *([f"{_several(more, 'target')} more"] if more > 0 else []),
        _several(pictures, "picture") + (f" and {_several(arrays, 'array')}" if arrays else ""),
        *([result.why] if result.why else []),
    ]
    return "; ".join(parts)


def _target(target: TargetResult) -> str:
    index = "an unknown class" if target.index is None else f"class {target.index}"
    facts = {"rank": None if not target.rank else target.rank + 1, "score": target.score, "output": target.output}
    known = [f"{name} {value:.4g}" for name, value in facts.items() if value is not None]
    named = [printable(target.label), index] if target.label else [index]
    return f"{named[0]} ({', '.join([*named[1:], *known])})" if [*named[1:], *known] else named[0]


class Foreseen:
    """What a run would draw: images by the reason that they have for it.

    Attributes
    ----------
    reasons : dict
        Reason -> number of images.
    """

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self._pictures = 0
        self._examples: dict[str, list[str]] = {}

    def add(self, result: Result) -> None:
        self.reasons[result.why] += 1
        self._pictures += _pictures(result)
        examples = self._examples.setdefault(result.why, [])
        if len(examples) < MOST_EXAMPLES:
            examples.append(printable(result.image))

    def lines(self, report: Report) -> Iterator[str]:
        """How many in all, then a line for each reason."""
        pending, current = (report.counts.get(status, 0) for status in (Status.PENDING, Status.CURRENT))
        drawn = f"{_several(self._pictures, 'picture')} of {_several(pending, 'image')}" if pending else "nothing"
        others = [f"{current} current"] * bool(current) + [f"{report.failed} failed"] * bool(report.failed)
        yield f"would draw {drawn}" + (f"; {', '.join(others)}" if others else "")
        for reason, count in self.reasons.most_common():
            shown = ", ".join([*self._examples[reason], *(["..."] if count > MOST_EXAMPLES else [])])
            yield f"  {count} {reason}: {shown}"


class Progress:
    """How far a run is: how many of how many, images a second, time left; or what it waits for.

    The rate is that of late, from the first results on: starting TensorFlow, reading the model and its first batch say
    nothing of the images that follow. No time left is told before some of them have passed.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self._done = self._failed = 0
        self._waiting: Told | None = None
        self._passed: deque[tuple[float, int]] = deque()
        self._first = self._last_event = 0.0
        self._guard = threading.RLock()

    def count(self, jobs: Iterable) -> None:
        self.total = sum(1 for _ in jobs)

    def wait(self, what: str) -> None:
        """No image has its turn before this is done."""
        self._waiting = timed(what)

    def begin(self) -> None:
        """The images have their turn, at a rate of their own."""
        with self._guard:
            self._waiting = None
            self._passed.clear()

    def add(self, report: Report) -> None:
        """An image has its result."""
        with self._guard:
            now = time.monotonic()
            self._done, self._failed = report.total, report.failed
            self._pass(now)
            if speaks_json() and (now - self._last_event >= EVERY_EVENT or self._done == self.total):
                self._last_event = now
                self._event(now)

    def _pass(self, now: float) -> None:
        passed = self._passed
        if not passed:
            self._first = now
        if len(passed) == 1 and now - self._first < TOGETHER:
            passed.clear()
        if len(passed) > 1 and now - passed[-2][0] < TOGETHER:
            passed.pop()
        passed.append((now, self._done))
        while len(passed) > 2 and now - passed[1][0] > WINDOW:
            passed.popleft()

    def text(self) -> str:
        with self._guard:
            of = f"/{self.total}" if self.total else ""
            counted = [f"{self._done}{of} images"] if self._done or not self._waiting else []
            failed = [f"{self._failed} failed"] if self._failed else []
            if self._waiting:
                return ", ".join([*counted, *failed, self._waiting()])
            rate, left = self._pace(time.monotonic())
            paced = [f"{rate:.1f}/s"] if rate else []
            remaining = [f"{_clock(left)} left"] if left is not None else []
            return ", ".join([*counted, *paced, *remaining, *failed])

    def _event(self, now: float) -> None:
        line, (rate, left) = self.text(), self._pace(now)
        fields = {"done": self._done, "total": self.total, "failed": self._failed, "rate": rate and round(rate, 2)}
        tell("info", "progress", line, message=line, **fields, seconds_left=None if left is None else round(left))

    def _pace(self, now: float) -> tuple[float | None, float | None]:
        """Images a second, and the seconds that the others take; None as long as that would be a guess.

        Between two batches nothing changes; where the next one comes later than any before, the rate falls.
        """
        if len(self._passed) < 2:
            return None, None
        (then, before), (last, done) = self._passed[0], self._passed[-1]
        times = [at for at, _ in self._passed]
        longest = max(late - early for early, late in pairwise(times))
        until = max(last, now - longest)
        if until - then < LEAST:
            return None, None
        rate = (done - before) / (until - then)
        if self.total is None or until - then < MEANT:
            return rate, None
        return rate, max(0.0, (self.total - done) / rate - (now - until))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
