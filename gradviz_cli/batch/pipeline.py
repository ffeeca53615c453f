"""Pending jobs -> results on this machine. Reading, differentiating and drawing overlap; results come in the order of jobs."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradviz_cli.batch.current import failed, look
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.batch.publisher import Publisher, discard, ends_run, unwritable
from gradviz_cli.draw import pictures, styles
from gradviz_cli.draw.pictures import Drawn
from gradviz_cli.draw.record import Context, Source
from gradviz_cli.errors import GradvizError, ImageError, OutputError, TimeUp
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.files.whole import discard_all
from gradviz_cli.images.fit import Geometry
from gradviz_cli.model import peek
from gradviz_cli.model.explainer import Attribution, Explainer
from gradviz_cli.plan import outputs as outputs_
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import Explain, Facts

# So many pixels go into the worker at once for each processor unless --batch-size says otherwise: 4 images of 224 x 224.
PIXELS_EACH = 4 * 224 * 224
LARGEST_BATCH = 64
# Each processor has an image of its own as long as all of them together have no more pixels than this.
MOST_TOGETHER = 2**24
# Batches that wait for the worker, so that it never waits for the command.
BATCHES_AHEAD = 2
# A batch is published as a whole, so it ends early where its pictures are large (pixels to draw), where all its images
# are current (their number), or where they come slowly (seconds).
MOST_DRAWN, MOST_IMAGES, LONGEST_WAIT = 2**25, 256, 5.0
# Threads that read, and as many that draw, unless --jobs says otherwise.
MOST_JOBS = 8
# Bytes of decoded images that wait to be drawn.
MOST_HELD = 2**28
# Seconds that threads get to finish when a signal ends the run. It has to be gone within two.
PATIENCE = 1.0


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


class Computed(NamedTuple):
    """A batch with its outcomes (None where the result stood already), and what ends the run behind it."""

    items: list[tuple[Prepared, Attribution | ImageError | None]]
    end: GradvizError | None = None


def run(
    plan: Plan,
    jobs: Iterable[Job],
    digests: Digests,
    loaded: Callable[[Explainer], None],
    book: Manifest,
    end: float | None = None,
    rehash: bool = False,
) -> Iterator[Result]:
    """Explain every job; yields one result for each, in order, when its files and its line in the manifest are there.

    Parameters
    ----------
    loaded : callable
        Called once with the model when the model has been loaded; never when every output is current.
    end : float, optional
        Monotonic time at which --max-duration is reached.
    rehash : bool
        Hash also what is current, as the run before may have died before it could write that down.

    Raises
    ------
    ModelUnusable, ModelRefused, OutputError, TimeUp
        What ends the run; results that were yielded stand.
    """
    with _at_work(_Crew(plan, digests, loaded, book, rehash)) as crew:
        reads = (crew.read(place, job) for place, job in enumerate(jobs))
        prepared = _in_order(reads, crew.reads_ahead, end, crew.room.call)
        batches = (crew.compute(batch) for batch in _batches(prepared, crew.batch_size))
        computed = _up_to_the_end(_in_order(batches, lambda: BATCHES_AHEAD, end))
        published = (crew.publish(items) for items in computed if not crew.enough)
        for results, error in _drained(published):
            yield from results
            if error:
                raise error
        crew.check()


@contextmanager
def _at_work(crew: _Crew) -> Iterator[_Crew]:
    """Ends with the crew closed. A signal that comes while it closes begins that anew, and has less patience."""
    try:
        try:
            yield crew
        except Exception:
            crew.close()
            raise
        crew.close()
    except BaseException as error:
        if not isinstance(error, Exception):
            crew.close(PATIENCE)
        raise


def _in_order(
    futures: Iterable[Future],
    ahead: Callable[[], int],
    end: float | None,
    calling: Callable[[int], None] = lambda place: None,
) -> Iterator:
    """Results of futures in order, with up to `ahead()` more of them under way; TimeUp at the monotonic time `end`.

    `calling` is told the place of the future that is waited for.
    """
    waiting: deque[Future] = deque()
    place = 0
    for future in futures:
        waiting.append(future)
        while len(waiting) > ahead():
            calling(place)
            yield _result(waiting.popleft(), end)
            place += 1
    while waiting:
        calling(place)
        yield _result(waiting.popleft(), end)
        place += 1


def _result(future: Future, end: float | None) -> Any:
    try:
        if end is not None and time.monotonic() >= end:
            raise FutureTimeout
        return future.result(None if end is None else end - time.monotonic())
    except FutureTimeout:
        if future.done() and future.exception() is not None:
            raise
        raise TimeUp("--max-duration is reached", "what is written is whole, the next run does the rest") from None


def _drained(futures: Iterable[Future]) -> Iterator:
    """Results in order; when what makes the futures ends the run, those that are under way still come."""
    waiting: deque[Future] = deque()
    try:
        for future in futures:
            waiting.append(future)
            if len(waiting) > 1:
                yield waiting.popleft().result()
    except GradvizError:
        yield from (future.result() for future in waiting)
        raise
    yield from (future.result() for future in waiting)


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


def _up_to_the_end(computed: Iterable[Computed]) -> Iterator[list[tuple[Prepared, Attribution | ImageError | None]]]:
    for items, end in computed:
        yield items
        if end is not None:
            raise end


def default_batch(height: int, width: int, cores: int) -> int:
    """Images that the worker is given at once. It shares them out over the processors, so each gets as many."""
    each = min(PIXELS_EACH // (height * width), LARGEST_BATCH // cores)
    if each:
        return each * cores
    return max(1, min(cores, MOST_TOGETHER // (height * width)))


class Room:
    """Keeps the decoded images that wait to be drawn within a number of bytes.

    Who is waited for is always let in, so nothing can stand still: images leave in the order in which they came.
    """

    def __init__(self, most: int):
        self._most, self._held, self._called = most, 0, 0
        self._changed = threading.Condition()
        self._open = True

    def enter(self, place: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._most or place <= self._called or not self._open)

    def call(self, place: int) -> None:
        """Who has this place is waited for now."""
        with self._changed:
            self._called = place
            self._changed.notify_all()

    def hold(self, source: Source, times: int = 1) -> None:
        with self._changed:
            self._held += times * (source.fitted.nbytes + (0 if source.pixels is None else source.pixels.nbytes))
            self._changed.notify_all()

    def leave(self, source: Source) -> None:
        self.hold(source, -1)

    def close(self) -> None:
        """Let everybody in: the run is over."""
        with self._changed:
            self._open = False
            self._changed.notify_all()


class _Pool(ThreadPoolExecutor):
    """Knows what it has not finished."""

    def __init__(self, size: int, name: str):
        super().__init__(size, name)
        self.unfinished: set[Future] = set()

    def submit(self, function: Callable, *arguments: Any) -> Future:
        future = super().submit(function, *arguments)
        self.unfinished.add(future)
        future.add_done_callback(self.unfinished.discard)
        return future


class _Crew:
    """The threads and processes of one run."""

    def __init__(self, plan: Plan, digests: Digests, loaded: Callable[[Explainer], None], book: Manifest, rehash: bool):
        self._plan, self._digests, self._loaded, self._rehash = plan, digests, loaded, rehash
        self._limits = Limits(plan.max_pixels, plan.max_file_size)
        self._hint = _geometry_hint(plan)
        self._guard = threading.Lock()
        self._model = Explainer(
            plan.model,
            plan.drawing.modes,
            targets=len(plan.drawing.targets),
            labels=plan.labels,
            fit=plan.drawing.fit,
            limits=self._limits,
            timeout=plan.timeout,
            require_sandbox=plan.require_sandbox,
            verify=plan.verbose > 1,
        )
        self._model_future: Future[Facts] | None = None
        self._closed = False
        self.room = Room(MOST_HELD)
        self._publisher = Publisher(plan.out, book, plan.fail_fast)
        jobs = plan.jobs or min(MOST_JOBS, machine.cores())
        self._reading, self._computing = _Pool(jobs, "read"), _Pool(1, "compute")
        self._drawing, self._publishing = _Pool(jobs, "draw"), _Pool(1, "publish")

    # -- one stage each ------------------------------------------------------------------------------------------

    def read(self, place: int, job: Job) -> Future[Prepared]:
        return self._reading.submit(self._prepare, place, job)

    def compute(self, batch: list[Prepared]) -> Future[Computed]:
        if any(item.source for item in batch):
            return self._computing.submit(self._differentiate, batch)
        return _known(Computed([(item, None) for item in batch]))

    def publish(self, items: Sequence[tuple[Prepared, Attribution | ImageError | None]]) -> Future:
        """Draw the images, side by side, and publish them together."""
        drawn = [
            self._drawing.submit(self._draw, item, row)
            if isinstance(row, Attribution)
            else _known(Drawn(_settled(item, row)))
            for item, row in items
        ]
        return self._publishing.submit(self._publish, drawn)

    @property
    def enough(self) -> bool:
        return self._publisher.enough

    def _prepare(self, place: int, job: Job) -> Prepared:
        """Nothing to do for a job whose pictures are current; else read its image."""
        start = time.monotonic()
        outputs = outputs_.outputs(self._plan, job)
        self.room.enter(place)
        try:
            data, sha256, result = look(self._plan, job, outputs, self._digests, self._limits, self._rehash)
            if result is None:
                self._wake()
                return Prepared(job, outputs, start, self._decode(job, data, sha256, self._hint or self._geometry()))
        except ImageError as error:
            result = failed(job, error, time.monotonic() - start)
        return Prepared(job, outputs, start, result=result)

    def _differentiate(self, batch: list[Prepared]) -> Computed:
        """One gradient call for the images of a batch."""
        geometry = self._geometry()
        if self._hint not in (None, geometry):  # the hint was wrong; the worker's word counts
            batch = [self._refitted(item, geometry) for item in batch]
        self._hint = geometry
        rows, end = self._rows([item.source.fitted for item in batch if item.source])
        items: list[tuple[Prepared, Attribution | ImageError | None]] = []
        left = iter(rows)
        for item in batch:
            row = next(left, None) if item.source else None
            if item.source and row is None:  # the run ends here
                break
            items.append((item, row))
        return Computed(items, end)

    def _rows(self, fitted: list[np.ndarray]) -> tuple[list[Attribution | ImageError], GradvizError | None]:
        rows: list[Attribution | ImageError] = []
        drawing = self._plan.drawing
        request = Explain(tuple(target.code for target in drawing.targets), drawing.modes, drawing.scores)
        try:
            rows.extend(self._model.explain(fitted, request))
        except GradvizError as error:
            return rows, error
        return rows, None

    def _draw(self, item: Prepared, row: Attribution) -> Drawn | None:
        """Pictures and arrays of one image, under temporary names; None when the run is over."""
        try:
            if self._closed or self.enough:
                return None
            context = Context(self._plan, self._facts(), self._digests, self._hint)
            return pictures.draw(context, item.source, row, item.outputs, time.monotonic() - item.start)
        except OutputError as error:
            if ends_run(error, self._plan.out):
                raise
            return Drawn(unwritable(Result(str(item.job.path), "failed", seconds=time.monotonic() - item.start), error))
        finally:
            self.room.leave(item.source)

    def _publish(self, futures: list[Future[Drawn | None]]) -> tuple[list[Result], GradvizError | None]:
        """One that cannot be written for a reason that holds for all ends the run; the others are published."""
        group, end = [], None
        for future in futures:
            try:
                drawn = future.result()
            except CancelledError:
                drawn = None
            except GradvizError as error:
                end, drawn = end or error, None
            if drawn is not None:
                group.append(drawn)
        if self._closed:
            discard(group)
            return [], None
        results, error = self._publisher.publish(group)
        return results, error or end

    # -- what they need ------------------------------------------------------------------------------------------

    def batch_size(self) -> int:
        if self._plan.batch_size:
            return self._plan.batch_size
        return default_batch(self._hint.height, self._hint.width, machine.cores()) if self._hint else 1

    def reads_ahead(self) -> int:
        return (BATCHES_AHEAD + 1) * (self.batch_size() if self._hint or self._plan.batch_size else 8)

    def _wake(self) -> None:
        """Start the worker with the first image that needs it."""
        with self._guard:
            if self._model_future is None and not self._closed:
                self._model_future = self._computing.submit(self._load)

    def _load(self) -> Facts:
        facts = self._model.load().facts
        styles.insist_on_channels(self._plan.drawing.styles, facts.channels)
        self._loaded(self._model)
        return facts

    def _facts(self) -> Facts:
        return self._model_future.result()

    def _geometry(self) -> Geometry:
        self._facts()
        return self._model.geometry

    def _decode(self, job: Job, data: bytes, sha256: str, geometry: Geometry) -> Source:
        """The image's pixels; they count as held until they are drawn."""
        drawing = self._plan.drawing
        decoded = self._model.decode(data, geometry, pictures.needs_pixels(self._plan), drawing.fast_decode)
        source = Source(job, decoded.size, sha256, decoded.fitted, decoded.pixels)
        self.room.hold(source)
        return source

    def _refitted(self, item: Prepared, geometry: Geometry) -> Prepared:
        """An image that was brought to another size than the model wants, read again."""
        shape = (geometry.height, geometry.width, geometry.channels)
        if item.source is None or item.source.fitted.shape == shape:
            return item
        self.room.leave(item.source)
        try:
            data = read_bytes(item.job.path, self._limits)
            return replace(item, source=self._decode(item.job, data, hashlib.sha256(data).hexdigest(), geometry))
        except ImageError as error:
            return replace(item, source=None, result=failed(item.job, error, time.monotonic() - item.start))

    def check(self) -> None:
        """A model that could not be loaded ends the run, also when no image got as far as needing it."""
        if self._model_future is not None:
            self._facts()

    def close(self, patience: float | None = None) -> None:
        """Stop everything at once; what is being drawn is finished and dropped, what is being published is finished.

        With `patience` (seconds) nobody waits longer for that: the caller has to end the process.
        """
        with self._guard:
            self._closed = True
        pools = (self._reading, self._computing, self._drawing, self._publishing)
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        self.room.close()
        self._model.close()
        wait_for([future for pool in pools for future in list(pool.unfinished)], patience)
        self._publisher.close()
        discard_all()


def _known(value: Any) -> Future:
    future: Future = Future()
    future.set_result(value)
    return future


def _settled(item: Prepared, row: ImageError | None) -> Result:
    """The result of an image that is not drawn."""
    return item.result if row is None else failed(item.job, row, time.monotonic() - item.start)


def _geometry_hint(plan: Plan) -> Geometry | None:
    shape = peek.input_shape(Path(plan.model.path), plan.model.signature, plan.model.input)
    if shape is None or shape[3] not in (1, 3, 4) or plan.model.layout not in (None, "NHWC"):
        return None
    height, width = plan.model.input_size or shape[1:3]
    if height < 1 or width < 1 or height * width > plan.max_pixels:
        return None
    return Geometry(height, width, shape[3], plan.drawing.fit)
