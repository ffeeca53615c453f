"""Pending jobs -> results on this machine. The stages overlap; results come in the order of jobs.

    jobs, in order
      |  up to SIFTED together
      v
    Sifter          --jobs threads: what nobody has touched since it was written is current, and passes through
      |  submit(place, Prepared)                    Budget: bytes of pixels between Reader and Drawer
      v
    Reader          --jobs threads: read the file, look up what is current, decode (decoder processes)
      |  Prepared: pixels, or a result that stands (current, failed)
      v
    batches         up to --batch-size images with pixels, in order, settled results among them
      |  list of Prepared
      v
    Differentiator  1 thread: one gradient call a batch (worker process); BATCHES_AHEAD wait in its queue
      |  Differentiated: Attribution or ImageError for each image; what ends the run behind them
      v
    Drawer          --jobs threads: pixels -> PNG and .npy under temporary names
      |  Drawn
      v
    Publisher       1 thread: sync, rename, manifest, a batch at a time
      |
      v
    results, in order

Each stage has a pool and a queue of its own. What ends the run (GradvizError) passes down behind the images before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from gradviz_cli.batch.budget import Budget
from gradviz_cli.batch.flow import PATIENCE, Stage, drained, in_order
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.batch.proofs import Proofs
from gradviz_cli.batch.publisher import Published, Publisher
from gradviz_cli.batch.stages import (
    BATCHES_AHEAD,
    Decoding,
    Differentiated,
    Differentiator,
    Drawer,
    Outcome,
    Prepared,
    Reader,
    Sifter,
)
from gradviz_cli.errors import TimeUp
from gradviz_cli.files.whole import discard_all
from gradviz_cli.model.explainer import Explainer, of_plan
from gradviz_cli.model.fingerprint import Seal
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result
from gradviz_cli.process import machine

# A batch is published as a whole, so it ends early where its pictures are large (pixels to draw), where all its images
# are current (their number), or where they come slowly (seconds).
MOST_DRAWN, MOST_IMAGES, LONGEST_WAIT = 2**25, 256, 5.0
# Threads that read, and as many that draw, unless --jobs says otherwise.
MOST_JOBS = 8
# Images that are looked at together once a run is under way, and how many times as many are then looked at ahead.
SIFTED, PARTS_AHEAD = 64, MOST_JOBS
# Bytes of decoded images that wait to be drawn.
MOST_HELD = 2**28

Explaining = TypeVar("Explaining", bound=Explainer)


@dataclass(frozen=True)
class Pipeline:
    """The stages of one run, joined."""

    sifter: Sifter
    reader: Reader
    differentiator: Differentiator
    drawer: Drawer
    publisher: Publisher
    budget: Budget
    explainer: Explainer
    kept: bool = False  # somebody else's, who closes it, and removes temporary files

    def results(self, jobs: Iterable[Job], end: float | None = None) -> Iterator[Result]:
        """One result for each job, in order, when its files and its line in the manifest are there.

        Raises
        ------
        ModelUnusable, ModelRefused, OutputError, TimeUp
            What ends the run; results that were yielded stand.
        """
        parts = Parts(jobs)
        sifted = in_order(map(self.sifter.submit, parts), parts.ahead, end)
        items = (item for part in sifted for item in part)
        reads = (self.reader.submit(place, item) for place, item in enumerate(items))
        prepared = in_order(reads, self.reads_ahead, end, self.budget.call)
        batches = (self.differentiator.submit(batch) for batch in _batches(prepared, self.differentiator.batch_size))
        differentiated = _up_to_the_end(in_order(batches, lambda: BATCHES_AHEAD, end))
        published = (self._published(items) for items in differentiated if not self.publisher.enough)
        for results, error in drained(published, end, PATIENCE):
            yield from results
            if error:
                raise error
        self.differentiator.check()

    def reads_ahead(self) -> int:
        """Images that are read while others are differentiated."""
        return max(self.differentiator.reads_ahead(), self.reader.ahead)

    def _published(self, items: Iterable[tuple[Prepared, Outcome]]) -> Future[Published]:
        """Draw the images, side by side, and publish them together."""
        return self.publisher.submit([self.drawer.submit(item, outcome) for item, outcome in items])

    def close(self, patience: float | None = None) -> None:
        """Stop everything at once; what is being drawn is finished and dropped, what is being published is finished.

        With `patience` (seconds) nobody waits longer for that: the caller has to end the process.
        """
        stages: tuple[Stage, ...] = (self.sifter, self.reader, self.differentiator, self.drawer, self.publisher)
        for stage in stages:
            stage.close()
        self.budget.close()
        if not self.kept:
            self.explainer.close()
        wait_for([future for stage in stages for future in stage.unfinished], patience)
        self.publisher.release()
        if not self.kept:
            discard_all()


def pipeline(
    plan: Plan,
    digests: Digests,
    loaded: Callable[[Explainer], None],
    manifest: Manifest,
    known: Known,
    seal: Seal | None = None,
    loading: Callable[[], None] = lambda: None,
    ahead: RemoteModel | None = None,
    kept: tuple[Explainer, Proofs] | None = None,
) -> Pipeline:
    """The stages of a run on this machine; nothing is started before the first job that needs it.

    Parameters
    ----------
    loading, loaded : callable
        Called once before the model is loaded, and with the model when it has been; never when every output is current.
    known : Known
        What the manifest says of the files in OUT.
    seal : Seal, optional
        Of the model whose fingerprint is in the digests.
    ahead : RemoteModel, optional
        The model of the plan, where its worker was started ahead.
    kept : optional
        An explainer that outlives the pipeline, and what is known of its proofs.
    """
    explainer, proofs = kept or (
        explainer_of(plan, partial(Explainer, ahead=ahead)),
        Proofs(plan, digests.fingerprint, manifest),
    )
    if seal is not None and kept is None:
        explainer.expect(seal)
    threads = threads_of(plan)
    budget = Budget(MOST_HELD)
    decoding = Decoding(plan, explainer, budget)
    differentiator = Differentiator(plan, explainer, decoding, proofs, loaded, loading)
    publisher = Publisher(plan.out, manifest, plan.fail_fast, known.files, None if plan.force else known)
    sifter = Sifter(plan, digests, threads, known)
    reader = Reader(plan, digests, decoding, differentiator, budget, threads, known)
    drawer = Drawer(plan, digests, decoding, differentiator, publisher, explainer, threads)
    return Pipeline(sifter, reader, differentiator, drawer, publisher, budget, explainer, kept is not None)


def threads_of(plan: Plan) -> int:
    """That look, read or draw side by side."""
    return plan.jobs or min(MOST_JOBS, machine.cores())


def explainer_of(plan: Plan, kind: Callable[..., Explaining]) -> Explaining:
    """What explains the images of a plan, of this kind of Explainer; no process runs yet."""
    asked = {**of_plan(plan), "estimation": plan.drawing.estimation, "targets": len(plan.drawing.targets)}
    return kind(plan.model, plan.drawing.methods, **asked, verify=plan.verify)


def results(
    plan: Plan,
    jobs: Iterable[Job],
    digests: Digests,
    loaded: Callable[[Explainer], None],
    manifest: Manifest,
    known: Known,
    end: float | None = None,
    seal: Seal | None = None,
    loading: Callable[[], None] = lambda: None,
    ahead: RemoteModel | None = None,
) -> Generator[Result, None, None]:
    """Explain every job: `Pipeline.results` of a pipeline that is closed at the end, however that comes."""
    with at_work(pipeline(plan, digests, loaded, manifest, known, seal, loading, ahead)) as stages:
        yield from stages.results(jobs, end)


class Closable(Protocol):
    """What may take a while to close."""

    def close(self, patience: float | None = None) -> None: ...


Closing = TypeVar("Closing", bound=Closable)


@contextmanager
def at_work(stages: Closing) -> Iterator[Closing]:
    """Ends with the pipeline closed. A signal that comes while it closes begins that anew, and has less patience."""
    try:
        try:
            yield stages
        except TimeUp:
            stages.close(PATIENCE)
            raise
        except Exception:
            stages.close()
            raise
        stages.close()
    except BaseException as error:
        if not isinstance(error, Exception):
            stages.close(PATIENCE)
        raise


class Parts:
    """Lists of one job, of two, and so on up to `SIFTED`: the first images do not wait for many others to be listed."""

    def __init__(self, jobs: Iterable[Job]):
        self._left, self._size = iter(jobs), 1

    def __iter__(self) -> Iterator[list[Job]]:
        while part := list(islice(self._left, self._size)):
            yield part
            self._size = min(2 * self._size, SIFTED)

    def ahead(self) -> int:
        """How many lists are to be under way, as one is waited for."""
        return PARTS_AHEAD * self._size // SIFTED


def _batches(items: Iterable[Prepared], size: Callable[[], int]) -> Iterator[list[Prepared]]:
    """Lists with up to `size()` images to differentiate, results that stand already among them."""
    batch: list[Prepared] = []
    pending, drawn, since = 0, 0, time.monotonic()
    for item in items:
        batch.append(item)
        pending += item.source is not None
        drawn += item.drawn
        full = pending >= size() or drawn >= MOST_DRAWN or len(batch) >= MOST_IMAGES
        if full or time.monotonic() - since > LONGEST_WAIT:
            yield batch
            batch = []
            pending, drawn, since = 0, 0, time.monotonic()
    if batch:
        yield batch


def _up_to_the_end(differentiated: Iterable[Differentiated]) -> Iterator[list[tuple[Prepared, Outcome]]]:
    for items, end in differentiated:
        yield items
        if end is not None:
            raise end
