"""A whole run, as `gradviz explain` and `gradviz_cli.run` do it: plan and images -> files in OUT, and a report.

plan, inputs -> a worker, where one is needed for certain -> batch.course -> results, report

What comes before the worker imports little: TensorFlow takes the longest, and the rest is imported meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from gradviz_cli.batch import engines
from gradviz_cli.batch.observer import Observer
from gradviz_cli.batch.single import placed
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import GradvizError, ImageError, OutputError, UsageError
from gradviz_cli.files.reading import Limits, head, stamp_at
from gradviz_cli.files.remote import Remote
from gradviz_cli.images.formats import looks_like_image
from gradviz_cli.images.listing import Inputs
from gradviz_cli.model.remote import RemoteModel, of_plan
from gradviz_cli.plan.outputs import outputs
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.results import Report, Result
from gradviz_cli.process import shortage

BEGINNING = 4096  # bytes of a file by which it looks like an image


def run(plan: Plan, inputs: Inputs, observer: Observer | None = None, end: float | None = None) -> Report:
    """Explain all images. What ends the run early is told to the observer and stands in the report, with its exit code.

    `end` is the monotonic time at which --max-duration ends, where that began to count before. A signal ends it within two seconds and is raised (KeyboardInterrupt and the like); OUT is in order then.
    """
    report = Report()
    with suppress(GradvizError), closing(results(plan, inputs, observer, report, end)) as found:
        for _ in found:
            pass
    return report


def results(
    plan: Plan,
    inputs: Inputs,
    observer: Observer | None = None,
    report: Report | None = None,
    end: float | None = None,
) -> Generator[Result, None, None]:
    """The same, one image after the other: each result comes when its files and its line in the manifest are there.

    Of a dry run they come with the status `pending` or `current`, and nothing is written. Whoever stops early closes
    the iterator (`contextlib.closing`): that ends the worker and frees OUT.

    Raises
    ------
    UsageError, ModelUnusable, ModelRefused, OutputError, Locked, TimeUp
        What ends the run; results that were yielded stand. The observer has been told of it.
    """
    observer, report, start = observer or Observer(), report if report is not None else Report(), time.monotonic()
    if end is None and plan.max_duration is not None:
        end = start + plan.max_duration
    try:
        yield from _told_of_limits(_results(plan, inputs, observer, report, end))
    except GradvizError as error:
        report.fatal.add(error.code)
        observer.failure(error)
        observer.ended(report, time.monotonic() - start)
        raise
    except GeneratorExit:
        observer.ended(report, time.monotonic() - start)
        raise
    observer.ended(report, time.monotonic() - start)


def _told_of_limits(found: Generator[Result, None, None]) -> Generator[Result, None, None]:
    """What the system has too little of is no fault of gradviz, and named."""
    try:
        yield from found
    except (OSError, RuntimeError, MemoryError, ImportError) as error:
        if (short := shortage.as_error(error)) is not None:
            raise short from error
        raise


def _results(
    plan: Plan, inputs: Inputs, observer: Observer, report: Report, end: float | None
) -> Generator[Result, None, None]:
    engines.check(plan, inputs.stdin is not None)
    with placed(plan, inputs) as (there, images, deliver), _ahead(there, images) as ahead:
        from gradviz_cli.batch import course  # a tenth of a second, in which a worker begins to import TensorFlow

        yield from course.results(there, images, ahead, observer, report, end, deliver)


@contextmanager
def _ahead(plan: Plan, inputs: Inputs) -> Iterator[RemoteModel | None]:
    """The model, where its worker can be started before anything else is done, as TensorFlow takes a second to import: the
    first image lacks a picture, and the run will not stand in line. Else None."""
    elsewhere = plan.url or plan.engine != engines.LOCAL
    if elsewhere or plan.dry_run or plan.lock_wait or not _is_first_missing(plan, replace(inputs, walk=plan.walk)):
        yield None
        return
    with closing(of_plan(plan)) as model:
        model.start()
        yield model


def _is_first_missing(plan: Plan, inputs: Inputs) -> bool:
    """Whether the first image is one, as far as its first bytes tell, and lacks a picture."""
    if any(isinstance(path, Remote) for path in inputs.paths[:1]):  # a store is not asked twice for it
        return False
    try:
        job = next(iter(inputs.jobs()), None)
        if job is None or job.trouble or isinstance(job.file, Remote):
            return False
        there = not plan.force and all(os.path.lexists(output.path) for output in outputs(plan, job, SHEETS))
        return not there and _is_within(job.file, plan.limits) and looks_like_image(head(job.file, BEGINNING))
    except (ImageError, OutputError, UsageError):  # said of it in its turn
        return False


def _is_within(file: Path, limits: Limits) -> bool:
    stamp = stamp_at(file)
    return stamp is not None and 0 < stamp[0] <= limits.max_file_size
