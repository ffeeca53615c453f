"""A whole run, as `gradviz explain` and `gradviz_cli.run` do it: plan and images -> files in OUT, and a report.

plan, inputs -> check names -> fingerprint -> lock OUT, sweep, open the manifest (`batch.store`) -> batch.engines -> results, report
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gradviz_cli.batch import engines, owner, pipeline
from gradviz_cli.batch.current import failed, looked, sift
from gradviz_cli.batch.engines.work import Work
from gradviz_cli.batch.known import MODEL, Known
from gradviz_cli.batch.observer import Observer
from gradviz_cli.batch.single import Deliver, placed
from gradviz_cli.batch.store import Store, opened
from gradviz_cli.batch.why import why
from gradviz_cli.draw.estimates import Gaps
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import GradvizError, ImageError, OutputError
from gradviz_cli.files import whole
from gradviz_cli.files.names import as_it_is
from gradviz_cli.files.reading import Limits, head, stamp_at
from gradviz_cli.files.remote import Remote
from gradviz_cli.images.aside import LeftOut
from gradviz_cli.images.formats import looks_like_image
from gradviz_cli.images.listing import Inputs
from gradviz_cli.model import fingerprint
from gradviz_cli.model.explainer import Explainer
from gradviz_cli.model.fingerprint import Seal
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import outputs, stems
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Report, Result, Status
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
    with placed(plan, inputs) as (there, images, deliver), opened(there) as (here, store):
        yield from _in_folder(here, store, images, observer, report, end, deliver)


def _in_folder(
    plan: Plan, store: Store, inputs: Inputs, observer: Observer, report: Report, end: float | None, deliver: Deliver
) -> Generator[Result, None, None]:
    fold = as_it_is if plan.dry_run else store.fold()
    inputs = replace(inputs, walk=plan.walk, fold=fold).checked(stems(plan, SHEETS), end)
    with _ahead(plan, inputs) as ahead:
        yield from _in_order(plan, store, inputs, ahead, observer, report, end, deliver)


@contextmanager
def _ahead(plan: Plan, inputs: Inputs) -> Iterator[Explainer | None]:
    """What the run explains with, where its worker can be started before the model is hashed, as TensorFlow takes a second to
    import: the first image lacks a picture, and the run will not stand in line. Else None."""
    elsewhere = plan.url or plan.engine != engines.LOCAL
    if elsewhere or plan.dry_run or plan.lock_wait or not _is_first_missing(plan, inputs):
        yield None
        return
    with closing(pipeline.ready(plan)) as explainer:
        explainer.start()
        yield explainer


def _is_first_missing(plan: Plan, inputs: Inputs) -> bool:
    """Whether the first image is one, as far as its first bytes tell, and lacks a picture."""
    job = next(iter(inputs.jobs()), None)
    if job is None or job.trouble or isinstance(job.file, Remote):
        return False
    try:
        there = not plan.force and all(os.path.lexists(output.path) for output in outputs(plan, job, SHEETS))
        return not there and _is_within(job.file, plan.limits) and looks_like_image(head(job.file, BEGINNING))
    except (ImageError, OutputError):  # said of it in its turn
        return False


def _is_within(file: Path, limits: Limits) -> bool:
    stamp = stamp_at(file)
    return stamp is not None and 0 < stamp[0] <= limits.max_file_size


def _in_order(
    plan: Plan,
    store: Store,
    inputs: Inputs,
    ahead: Explainer | None,
    observer: Observer,
    report: Report,
    end: float | None,
    deliver: Deliver,
) -> Generator[Result, None, None]:
    seal = fingerprint.seal(Path(plan.model.path))
    digests = Digests(plan, seal.fingerprint)
    left = LeftOut()
    jobs = inputs.jobs(left)
    if plan.dry_run:
        found = _planned(plan, store, inputs, jobs, digests, end)
    else:
        found = _written(plan, store, inputs, jobs, digests, seal, ahead, observer, end)
    told: set[str] = set()
    gaps = Gaps(plan.drawing.estimation.samples)
    with closing(found):
        for result in map(deliver, found):
            report.add(result)
            observer.result(result, report)
            for note in filter(lambda one: one not in told, result.notes):
                observer.warning(f"{result.image}: {note}")
            told.update(result.notes)
            gaps.add(result.image, result.estimates)
            yield result
    for warning in gaps.warnings():
        observer.warning(warning)
    if plan.fail_fast and report.failed:
        report.untried = any(islice(inputs.jobs(), report.total, None))
    report.elsewhere = not report.total and inputs.any_elsewhere()
    if report.elsewhere:
        observer.detail(f"no image falls to --shard {inputs.shard[0]}/{inputs.shard[1]}: there is nothing to do")
    elif not report.total and not plan.allow_empty:
        observer.warning(f"{inputs.why_none()}; --allow-empty makes that a success")
    elif str(left):
        observer.detail(f"left out: {left}")
    if not whole.can_sync(plan.out):
        observer.detail(f"the file system of {plan.out} cannot sync files: a power cut may cost the last of them")


def _written(
    plan: Plan,
    store: Store,
    inputs: Inputs,
    jobs: Iterable[Job],
    digests: Digests,
    seal: Seal,
    ahead: Explainer | None,
    observer: Observer,
    end: float | None,
) -> Generator[Result, None, None]:
    held = store.entered(plan.lock_wait, inputs.shard, end)
    with held as hold, store.known(inputs.shard, keep=True) as known:
        owner.check(plan, inputs.jobs(), digests.fingerprint, known, end)
        with store.manifest(hold, {**_safeguards(plan), **_range(plan)}, inputs.shard) as manifest:
            if said := hold.said():
                observer.detail(said)
            observer.started(inputs.jobs())
            model = owner.model_of(plan, digests.fingerprint)
            if model != known.model:
                manifest.note({MODEL: model._asdict()})
            work = Work(plan, jobs, digests, seal, manifest, known, observer, end, ahead)
            with closing(engines.ENGINES[plan.engine](work)) as found:
                yield from found


def _planned(
    plan: Plan, store: Store, inputs: Inputs, jobs: Iterable[Job], digests: Digests, end: float | None
) -> Generator[Result, None, None]:
    """What a run would do. Images that cannot even be opened fail as in a run."""
    with store.known(inputs.shard, keep=False) as known:
        owner.check(plan, inputs.jobs(), digests.fingerprint, known, end)
        for job in jobs:
            result = _foreseen(plan, job, digests, known)
            yield result
            if plan.fail_fast and result.failed:
                return


def _foreseen(plan: Plan, job: Job, digests: Digests, known: Known) -> Result:
    [(_, pictures, result)] = sift(plan, [job], digests, plan.limits, known)
    if result:
        return result
    try:
        read, result = looked(plan, job, pictures, digests, plan.limits, known)
    except ImageError as error:
        return failed(job, error)
    if result:
        return result
    names = tuple(str(output.path.relative_to(plan.out)) for output in pictures)
    reason = why(plan, pictures, digests, read.sha256, known)
    return Result(job.name, Status.PENDING, names, page=job.number, why=reason)


def _safeguards(plan: Plan) -> dict[str, Any]:
    """What the manifest keeps of a run with fewer of them."""
    model = plan.model
    fewer: dict[str, Any] = {"proof": "never"} if plan.proof == "never" else {}
    if model.trust_model:
        fewer["trust_model"] = True
    if model.allow_ops:
        fewer["allow_ops"] = list(model.allow_ops)
    return fewer


def _range(plan: Plan) -> dict[str, Any]:
    """The pixel range, where numbers say it in place of a preset."""
    model = plan.model
    given = {
        "pixel_range": model.pixel_range,
        "mean": model.mean,
        "std": model.std,
        "channel_order": model.channel_order,
    }
    return {name: value for name, value in given.items() if value}
