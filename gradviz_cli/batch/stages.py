"""The first stages of a run: Sifter, Reader, Differentiator, Drawer. The last is `batch.publisher.Publisher`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from gradviz_cli.batch.budget import Budget, images_at_once
from gradviz_cli.batch.current import Read, failed, looked, read, sift
from gradviz_cli.batch.flow import Pool, Settled, Stage
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.proofs import Proofs
from gradviz_cli.batch.publisher import Publisher, ends_run, unwritable
from gradviz_cli.draw import pictures, styles
from gradviz_cli.draw.pictures import Context, Drawn, Source
from gradviz_cli.errors import GradvizError, ImageError, OutputError
from gradviz_cli.files.objects import AT_ONCE
from gradviz_cli.files.remote import Remote
from gradviz_cli.images.fit import Geometry
from gradviz_cli.images.sources import size_of
from gradviz_cli.model import peek
from gradviz_cli.model.explainer import Attribution, Explainer
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import Output, targets_of
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result, Status
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import Explain, Facts

# Batches that wait for the worker, so that it never waits for the command.
BATCHES_AHEAD = 2
# Images that are read ahead in place of a batch as long as nothing says how large one is.
UNKNOWN_BATCH = 8


@dataclass(frozen=True)
class Prepared:
    """A job after reading: pixels, or the result that it already has (current, failed)."""

    job: Job
    outputs: tuple[Output, ...]
    start: float
    source: Source | None = None
    result: Result | None = None

    @property
    def drawn(self) -> int:
        """Pixels that will be drawn."""
        return self.source.size[0] * self.source.size[1] * len(self.outputs) if self.source else 0

    @property
    def seconds(self) -> float:
        """Since its turn came."""
        return time.monotonic() - self.start


Outcome = Attribution | ImageError | None  # None: the result stood before it was differentiated


class Differentiated(NamedTuple):
    """A batch with its outcomes, and what ends the run behind it."""

    items: list[tuple[Prepared, Outcome]]
    end: GradvizError | None = None


class Decoding:
    """Image files' bytes -> pixels, which count against the budget until `release`. For several threads at once."""

    def __init__(self, plan: Plan, explainer: Explainer, budget: Budget):
        self.limits = plan.limits
        self._explainer, self._budget = explainer, budget
        self._pixels, self._fast = pictures.needs_pixels(plan), plan.drawing.fast_decode

    def source(self, job: Job, found: Read, geometry: Geometry) -> Source:
        """Raises ImageError as `Explainer.decode`."""
        decoded = self._explainer.decode(found.data, geometry, self._pixels, self._fast, job.page and job.page.place)
        pixels = decoded.fitted, decoded.pixels, decoded.held, decoded.notes
        source = Source(job, decoded.size, found.sha256, *pixels, found.stamp)
        self._budget.hold(_bytes(source))
        return source

    def release(self, source: Source) -> None:
        """It is drawn, or not needed."""
        self._budget.leave(_bytes(source))

    def refitted(self, item: Prepared, geometry: Geometry) -> Prepared:
        """An image that was brought to another size than the model wants, read again."""
        shape = (geometry.height, geometry.width, geometry.channels)
        if item.source is None or item.source.fitted.shape == shape:
            return item
        self.release(item.source)
        try:
            return replace(item, source=self.source(item.job, read(item.job, self.limits), geometry))
        except ImageError as error:
            return replace(item, source=None, result=failed(item.job, error, item.seconds))

    def checked(self, item: Prepared) -> Prepared:
        """An image whose numbers the model does not take has failed."""
        if item.source is None:
            return item
        try:
            self._explainer.check_numbers(item.source.held, item.source.fitted)
            return item
        except ImageError as error:
            self.release(item.source)
            return replace(item, source=None, result=failed(item.job, error, item.seconds))


def _bytes(source: Source) -> int:
    return source.fitted.nbytes + (0 if source.pixels is None else source.pixels.nbytes)


class Differentiator(Stage):
    """Batches of images -> attributions, one gradient call each. The model is loaded with the first image that needs it.

    One thread only: the worker ends with the thread that starts it.

    Parameters
    ----------
    loading, loaded : callable
        Called once before the model is loaded, and with the model when it has been; never when every output is current.
    """

    def __init__(
        self,
        plan: Plan,
        explainer: Explainer,
        decoding: Decoding,
        proofs: Proofs,
        loaded: Callable[[Explainer], None],
        loading: Callable[[], None] = lambda: None,
    ):
        super().__init__("differentiate", 1)
        self._proofs, self._told_of_loading = proofs, loading
        self._plan, self._explainer, self._decoding, self._loaded = plan, explainer, decoding, loaded
        self._guard = threading.Lock()
        self._loading: Future[Facts] | None = None
        self._expected = expected_geometry(plan)

    def submit(self, batch: list[Prepared]) -> Future[Differentiated]:
        if any(item.source for item in batch):
            return self._pool.submit(self._differentiate, batch)
        return Settled(Differentiated([(item, None) for item in batch]))

    def wake(self) -> None:
        """Start to load the model, unless that has begun."""
        with self._guard:
            if self._loading is None and not self.closed:
                self._loading = self._pool.submit(self._load)

    def facts(self) -> Facts:
        """Of the model, once it is loaded; raises what was wrong with it."""
        assert self._loading is not None, "wake it first"
        return self._loading.result()

    def geometry(self) -> Geometry:
        """The model input: as the file of the graph says, or else as the worker does, which is waited for."""
        return self._expected or self._known_geometry()

    def batch_size(self) -> int:
        """Images of one gradient call."""
        if self._plan.batch_size:
            return self._plan.batch_size
        expected = self._expected
        if expected is None:
            return 1
        gpu = self._explainer.computes_on_gpu
        return images_at_once(expected.height, expected.width, expected.channels, gpu)

    def reads_ahead(self) -> int:
        """Images that are read while others are differentiated."""
        known_size = self._expected or self._plan.batch_size
        return (BATCHES_AHEAD + 1) * (self.batch_size() if known_size else UNKNOWN_BATCH)

    def check(self) -> None:
        """A model that could not be loaded ends the run, also when no image got as far as needing it."""
        if self._loading is not None:
            self.facts()

    def close(self) -> None:
        with self._guard:  # nothing begins to load any more
            super().close()

    def _load(self) -> Facts:
        self._told_of_loading()
        before = self._proofs.before()
        facts = self._explainer.load(before).facts
        if before is None:
            self._proofs.keep(self._explainer.proof)
        styles.check_channels(self._plan.drawing.styles, facts.channels)
        self._loaded(self._explainer)
        return facts

    def _known_geometry(self) -> Geometry:
        self.facts()
        return self._explainer.geometry

    def _differentiate(self, batch: list[Prepared]) -> Differentiated:
        geometry = self._known_geometry()
        if self._expected not in (None, geometry):  # the file said something else; the worker's word counts
            batch = [self._decoding.refitted(item, geometry) for item in batch]
        self._expected = geometry
        batch = [self._decoding.checked(item) for item in batch]
        found, end = self._attributions([item.source for item in batch if item.source])
        items: list[tuple[Prepared, Outcome]] = []
        left = iter(found)
        for item in batch:
            outcome = next(left, None) if item.source else None
            if item.source and outcome is None:  # the run ends here
                break
            items.append((item, outcome))
        return Differentiated(items, end)

    def _attributions(self, sources: Sequence[Source]) -> tuple[list[Attribution | ImageError], GradvizError | None]:
        """Neighbours that are asked for the same targets go into one call."""
        found: list[Attribution | ImageError] = []
        try:
            for targets, group in groupby(sources, lambda source: targets_of(self._plan, source.job)):
                alike = list(group)
                fitted, held = [one.fitted for one in alike], [one.held for one in alike]
                found.extend(self._explainer.explain(fitted, self._request(targets), held=held))
        except GradvizError as error:
            return found, error
        return found, None

    def _request(self, targets: Sequence[Target]) -> Explain:
        drawing = self._plan.drawing
        codes = tuple(target.code for target in targets)
        return Explain(codes, drawing.methods, drawing.scores, drawing.estimation)


class Sifter(Stage):
    """Jobs -> those of which nothing is to be done, by a look that reads no file. Many together, as to hand one over costs as
    much as to look at it. It never waits for what comes behind it.

    Parameters
    ----------
    known : Known
        What the manifest says of the files in OUT.
    """

    def __init__(self, plan: Plan, digests: Digests, threads: int, known: Known):
        super().__init__("sift", threads)
        self._plan, self._digests, self._known = plan, digests, known

    def submit(self, jobs: Sequence[Job]) -> Future[list[Prepared]]:
        return self._pool.submit(self._look, jobs)

    def _look(self, jobs: Sequence[Job]) -> list[Prepared]:
        plan, start = self._plan, time.monotonic()
        found = [] if self.closed else sift(plan, jobs, self._digests, plan.limits, self._known)
        return [Prepared(one.job, one.outputs, start, None, one.result) for one in found]


class Reader(Stage):
    """Sifted jobs -> images at the size of the model input; nothing to do for a job whose outputs are current.

    What comes from a store is waited for by threads of its own, many of them, of which no more than `threads` decode at once.

    Parameters
    ----------
    known : Known
        What the manifest says of the files in OUT.
    """

    def __init__(
        self,
        plan: Plan,
        digests: Digests,
        decoding: Decoding,
        differentiator: Differentiator,
        budget: Budget,
        threads: int,
        known: Known,
    ):
        super().__init__("read", threads)
        self._plan, self._digests, self._known = plan, digests, known
        self._decoding, self._differentiator, self._budget = decoding, differentiator, budget
        self._fetching = Pool("fetch", max(threads, AT_ONCE))
        self._turns = threading.Semaphore(threads)
        self.ahead = 0  # images that are to be under way, as they are waited for

    def submit(self, place: int, item: Prepared) -> Future[Prepared]:
        """`place` is that in the order of results."""
        if item.result:
            return Settled(item)
        if not isinstance(item.job.file, Remote):
            return self._pool.submit(self._prepare, place, item)
        self.ahead = AT_ONCE
        return self._fetching.submit(self._prepare, place, item)

    @property
    def unfinished(self) -> list[Future[Any]]:
        return [*super().unfinished, *self._fetching.unfinished]

    def close(self) -> None:
        super().close()
        self._fetching.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, place: int, item: Prepared) -> Prepared:
        job, item = item.job, replace(item, start=time.monotonic())
        self._budget.enter(place)
        try:
            with self._budget.holding(size_of(job)):
                found = looked(self._plan, job, item.outputs, self._digests, self._decoding.limits, self._known)
                if found.current:
                    return replace(item, result=found.current)
                self._differentiator.wake()
                geometry = self._differentiator.geometry()
                with self._turns:
                    return replace(item, source=self._decoding.source(job, found.read, geometry))
        except ImageError as error:
            return replace(item, result=failed(job, error, item.seconds))


class Drawer(Stage):
    """Attributions -> pictures and arrays under temporary names; a result that stands already passes through."""

    def __init__(
        self,
        plan: Plan,
        digests: Digests,
        decoding: Decoding,
        differentiator: Differentiator,
        publisher: Publisher,
        explainer: Explainer,
        threads: int,
    ):
        super().__init__("draw", threads)
        self._plan, self._digests, self._decoding = plan, digests, decoding
        self._differentiator, self._publisher, self._explainer = differentiator, publisher, explainer

    def submit(self, item: Prepared, outcome: Outcome) -> Future[Drawn | None]:
        if item.source is not None and isinstance(outcome, Attribution):
            return self._pool.submit(self._draw, item, item.source, outcome)
        if item.source is not None:  # it failed in the worker
            self._decoding.release(item.source)
        return Settled(Drawn(_settled(item, outcome)))

    def _draw(self, item: Prepared, source: Source, found: Attribution) -> Drawn | None:
        """None when the run is over."""
        try:
            if self.closed or self._publisher.enough:
                return None
            geometry = self._differentiator.geometry()
            facts = replace(self._differentiator.facts(), preprocess=self._explainer.preprocess_of(source.held))
            context = Context(self._plan, facts, self._digests, geometry)
            drawn = pictures.draw(context, source, found, item.outputs, item.seconds)
            assumed = self._explainer.assumed(source.held, source.size, source.fitted)
            return replace(drawn, result=replace(drawn.result, notes=(*drawn.result.notes, *assumed)))
        except OutputError as error:
            if ends_run(error, self._plan.out):
                raise
            job = item.job
            failed_ = Result(job.name, Status.FAILED, seconds=item.seconds, page=job.number)
            return Drawn(unwritable(failed_, error, self._plan.out, [output.path for output in item.outputs]))
        finally:
            self._decoding.release(source)


def _settled(item: Prepared, outcome: Outcome) -> Result:
    """The result of an image that is not drawn."""
    if isinstance(outcome, ImageError):
        return failed(item.job, outcome, item.seconds)
    assert item.result is not None, "neither pixels nor a result"
    return item.result


def expected_geometry(plan: Plan) -> Geometry | None:
    """The model input as the graph's file has it, so that images are prepared while TensorFlow still starts; a guess."""
    shape = peek.input_shape(Path(plan.model.path), plan.model.signature, plan.model.input)
    if shape is None or shape[3] not in (1, 3) or plan.model.layout not in (None, "NHWC"):
        return None
    height, width = plan.model.input_size or (shape[1], shape[2])
    if height < 1 or width < 1 or height * width > plan.max_pixels:
        return None
    return Geometry(height, width, shape[3], plan.drawing.fit)
