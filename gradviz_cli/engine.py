"""Pending jobs -> results on this machine. Reading, differentiating and drawing overlap; results come in the order of jobs."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np

from gradviz_cli import images, peek, pictures
from gradviz_cli import plan as plans
from gradviz_cli.errors import ImageError, TimeUp
from gradviz_cli.pictures import Context, Source
from gradviz_cli.plan import Job, Output, Plan, Result
from gradviz_cli.remote import Facts, RemoteModel, Row
from gradviz_cli.supervisor import Child, ChildLost
from gradviz_cli.worker import sandbox

# So many pixels go into one gradient call unless --batch-size says otherwise: 8 images of 224 x 224.
BATCH_PIXELS = 8 * 224 * 224
LARGEST_BATCH = 64
# Batches that wait for the worker, so that it never waits for the command.
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Prepared:
    """A job after reading: pixels, or the result that it already has (current, failed)."""

    job: Job
    outputs: tuple[Output, ...]
    start: float
    source: Source | None = None
    result: Result | None = None


def run(plan: Plan, jobs: Iterable[Job], fingerprint: str, loaded: Callable[[Facts], None]) -> Iterator[Result]:
    """Explain every job; yields one result for each, in order.

    Parameters
    ----------
    fingerprint : str
        Of the model (`fingerprint.of_model`).
    loaded : callable
        Called once with the facts when the model has been loaded; never when every output is current.

    Raises
    ------
    ModelUnusable, ModelRefused, OutputError
        What ends the run; results that were yielded stand.
    """
    end = None if plan.max_duration is None else time.monotonic() + plan.max_duration
    crew = _Crew(plan, fingerprint, loaded)
    try:
        reads = (crew.reading.submit(crew.prepare, job) for job in jobs)
        prepared = _in_order(reads, crew.reads_ahead, end)
        batches = (crew.computing.submit(crew.differentiate, batch) for batch in _batches(prepared, crew.batch_size))
        computed = (item for batch in _in_order(batches, BATCHES_AHEAD, end) for item in batch)
        drawn = (crew.drawing.submit(crew.draw, *item) for item in computed)
        yield from _in_order(drawn, 2 * crew.jobs, end)
        crew.check()
    finally:
        crew.close()


def _in_order(futures: Iterable[Future], ahead: int, end: float | None) -> Iterator:
    """Results of futures in order, with up to `ahead` more of them under way; TimeUp at the monotonic time `end`."""
    waiting: deque[Future] = deque()
    for future in futures:
        waiting.append(future)
        if len(waiting) > ahead:
            yield _result(waiting.popleft(), end)
    while waiting:
        yield _result(waiting.popleft(), end)


def _result(future: Future, end: float | None):
    try:
        if end is not None and time.monotonic() >= end:
            raise FutureTimeout
        return future.result(None if end is None else end - time.monotonic())
    except FutureTimeout:
        if future.done() and future.exception() is not None:
            raise
        raise TimeUp("--max-duration is reached", "what is written is whole, the next run does the rest") from None


def _batches(items: Iterable[Prepared], size: Callable[[], int]) -> Iterator[list[Prepared]]:
    """Lists with up to `size()` images to differentiate, results that stand already among them."""
    batch: list[Prepared] = []
    for item in items:
        batch.append(item)
        if sum(one.source is not None for one in batch) >= size() or len(batch) >= 256:
            yield batch
            batch = []
    if batch:
        yield batch


def default_batch(height: int, width: int) -> int:
    """Images in one gradient call."""
    return max(1, min(LARGEST_BATCH, BATCH_PIXELS // (height * width)))


class _Crew:
    """The threads and processes of one run."""

    def __init__(self, plan: Plan, fingerprint: str, loaded: Callable[[Facts], None]):
        self._plan, self._fingerprint, self._loaded = plan, fingerprint, loaded
        self.jobs = plan.jobs or max(1, min(4, (os.cpu_count() or 1) - 1))
        self.reading = ThreadPoolExecutor(self.jobs, "read")
        self.computing = ThreadPoolExecutor(1, "compute")
        self.drawing = ThreadPoolExecutor(self.jobs, "draw")
        self._model: RemoteModel | None = None
        self._model_future: Future[Facts] | None = None
        self._guard = threading.Lock()
        self._readers: SimpleQueue[Child] = SimpleQueue()
        self._children: list[Child] = []
        self._closed = False
        self._scratch = tempfile.mkdtemp(prefix="gradviz-")
        self._limits = images.Limits(plan.max_pixels, plan.max_file_size)
        self._hint = _geometry_hint(plan)

    # -- one stage each ------------------------------------------------------------------------------------------

    def prepare(self, job: Job) -> Prepared:
        """Nothing to do for a job whose pictures are current; else read its image."""
        start = time.monotonic()
        outputs = plans.outputs(self._plan, job)
        try:
            _insist_on_names(outputs)
            data = images.read_bytes(job.path, self._limits)
            sha256 = hashlib.sha256(data).hexdigest()
            result = None if self._plan.force else current(self._plan, job, self._fingerprint, sha256)
            if result is None:
                self._wake()
                source = self._decode(job, data, sha256, self._hint or self._geometry())
                return Prepared(job, outputs, start, source=source)
        except ImageError as error:
            result = _failed(job, error, time.monotonic() - start)
        return Prepared(job, outputs, start, result=result)

    def differentiate(self, batch: list[Prepared]) -> list[tuple[Prepared, Row | ImageError | None]]:
        """One gradient call for the images of a batch."""
        pending = [item for item in batch if item.source is not None]
        if not pending:
            return [(item, None) for item in batch]
        facts = self._facts()
        right = images.Geometry(*facts.size, facts.channels, self._plan.drawing.fit)
        if self._hint not in (None, right):  # the hint was wrong; the worker's word counts
            pending, batch = self._read_again(batch, right)
        self._hint = right
        pixels = np.stack([item.source.fitted for item in pending]) if pending else np.empty(0)
        targets = [target.code for target in self._plan.drawing.targets]
        rows = self._model.explain(images.PREPROCESS[facts.preprocess](pixels), targets) if pending else []
        found = dict(zip(map(id, pending), rows, strict=True))
        return [(item, found.get(id(item))) for item in batch]

    def draw(self, item: Prepared, row: Row | ImageError | None) -> Result:
        """Pictures and arrays of one image."""
        if row is None:
            return item.result
        if isinstance(row, ImageError):
            return _failed(item.job, row, time.monotonic() - item.start)
        context = Context(self._plan, self._facts(), self._fingerprint, self._hint)
        return pictures.write(context, item.source, row, item.outputs, time.monotonic() - item.start)

    # -- what they need ------------------------------------------------------------------------------------------

    def batch_size(self) -> int:
        if self._plan.batch_size:
            return self._plan.batch_size
        return default_batch(self._hint.height, self._hint.width) if self._hint else 1

    @property
    def reads_ahead(self) -> int:
        return (BATCHES_AHEAD + 1) * (self.batch_size() if self._hint or self._plan.batch_size else 8)

    def _wake(self) -> None:
        """Start the worker with the first image that needs it."""
        with self._guard:
            if self._model_future is None and not self._closed:
                self._model = RemoteModel(self._plan.model, self._plan.drawing.modes, self._plan.timeout)
                self._model_future = self.computing.submit(self._load)

    def _load(self) -> Facts:
        facts = self._model.load()
        self._loaded(facts)
        return facts

    def _facts(self) -> Facts:
        return self._model_future.result()

    def _geometry(self) -> images.Geometry:
        facts = self._facts()
        return images.Geometry(*facts.size, facts.channels, self._plan.drawing.fit)

    def _decode(self, job: Job, data: bytes, sha256: str, geometry: images.Geometry) -> Source:
        """The image's pixels, from a decoder process."""
        request = {
            "limits": vars(self._limits),
            "geometry": vars(geometry),
            "pixels": pictures.needs_pixels(self._plan),
        }
        child = self._reader()
        try:
            answer, arrays = child.request(request, (np.frombuffer(data, np.uint8),), self._plan.timeout)
        except ChildLost as lost:
            child.close()
            raise ImageError(lost.kind, f"decoding it failed: {lost.message}".replace("worker", "decoder")) from lost
        self._readers.put(child)
        if "error" in answer:
            raise ImageError(answer["error"]["kind"], answer["error"]["message"])
        pixels = arrays[1] if len(arrays) > 1 else None
        return Source(job, tuple(answer["size"]), sha256, arrays[0], pixels)

    def _reader(self) -> Child:
        """A decoder that is idle, or a new one: there are never more than threads that ask."""
        try:
            return self._readers.get_nowait()
        except Empty:
            environment = sandbox.scrubbed_environment(self._scratch)
            child = Child("gradviz_cli.reader", {"scratch": self._scratch}, environment, self._scratch)
        with self._guard:
            self._children.append(child)
            if self._closed:
                child.kill()
        return child

    def _read_again(self, batch: list[Prepared], geometry: images.Geometry):
        again = []
        for item in batch:
            if item.source is not None and item.source.fitted.shape != (geometry.height, geometry.width, geometry.channels):
                item = self._prepared_for(item, geometry)
            again.append(item)
        return [item for item in again if item.source is not None], again

    def _prepared_for(self, item: Prepared, geometry: images.Geometry) -> Prepared:
        try:
            data = images.read_bytes(item.job.path, self._limits)
            source = self._decode(item.job, data, hashlib.sha256(data).hexdigest(), geometry)
            return Prepared(item.job, item.outputs, item.start, source=source)
        except ImageError as error:
            return Prepared(item.job, item.outputs, item.start, result=_failed(item.job, error, 0.0))

    def check(self) -> None:
        """A model that could not be loaded ends the run, also when no image got as far as needing it."""
        if self._model_future is not None:
            self._facts()

    def close(self) -> None:
        """Stop everything at once; drawings under way are finished, they are short."""
        with self._guard:
            self._closed = True
            children = list(self._children)
        if self._model is not None:
            self._model.close()
        for child in children:
            child.kill()
        for pool in (self.reading, self.computing, self.drawing):
            pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._scratch, ignore_errors=True)


def current(plan: Plan, job: Job, fingerprint: str, sha256: str) -> Result | None:
    """The result of a job that has nothing to do: every picture exists and carries the digest it would get."""
    records = []
    for output in plans.outputs(plan, job):
        record = pictures.is_current(plan, output, plans.digest(plan, output, fingerprint, sha256))
        if record is None:
            return None
        records.append((output, record))
    names = tuple(str(output.path.relative_to(plan.out)) for output, _ in records)
    targets = tuple({str(record.get("target")): record.get("target") for _, record in records}.values())
    digest = plans.joint_digest([record["digest"] for _, record in records])
    return Result(str(job.path), "current", names, targets, None, digest)


def pending(plan: Plan, job: Job, fingerprint: str) -> tuple[Output, ...]:
    """What a run would write for a job; nothing for one whose image cannot be read."""
    try:
        data = images.read_bytes(job.path, images.Limits(plan.max_pixels, plan.max_file_size))
    except ImageError:
        return ()
    done = None if plan.force else current(plan, job, fingerprint, hashlib.sha256(data).hexdigest())
    return () if done else plans.outputs(plan, job)


def _insist_on_names(outputs: Iterable[Output]) -> None:
    """A file system takes 255 bytes; the name of an image may leave no room for what is added to it."""
    for output in outputs:
        if len(os.fsencode(output.path.name)) > 255:
            raise ImageError("name", "its name leaves no room for the name of its picture; rename it")


def _failed(job: Job, error: ImageError, seconds: float) -> Result:
    described = {"kind": error.kind, "message": error.message}
    return Result(str(job.path), "failed", (), (), described, None, seconds)


def _geometry_hint(plan: Plan) -> images.Geometry | None:
    shape = peek.input_shape(Path(plan.model.path), plan.model.signature, plan.model.input)
    if shape is None or shape[3] not in (1, 3, 4) or plan.model.layout not in (None, "NHWC"):
        return None
    height, width = plan.model.input_size or shape[1:3]
    if height < 1 or width < 1 or height * width > plan.max_pixels:
        return None
    return images.Geometry(height, width, shape[3], plan.drawing.fit)


