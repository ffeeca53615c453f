"""A run, once it is known what is asked of which images.

plan, inputs -> check names -> fingerprint -> lock OUT, sweep, open the manifest (`batch.store`) -> batch.engines -> results
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gradviz_cli.batch import engines, owner
from gradviz_cli.batch.current import arrays, failed, kept, looked, sift
from gradviz_cli.batch.engines.work import Work
from gradviz_cli.batch.known import MODEL, Known
from gradviz_cli.batch.observer import Observer
from gradviz_cli.batch.single import Deliver
from gradviz_cli.batch.store import Store, opened
from gradviz_cli.batch.why import why
from gradviz_cli.draw.estimates import Gaps
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import ImageError
from gradviz_cli.files import whole
from gradviz_cli.files.names import as_it_is
from gradviz_cli.images.aside import LeftOut
from gradviz_cli.images.listing import Inputs
from gradviz_cli.model import fingerprint
from gradviz_cli.model.fingerprint import Seal
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import stems
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Report, Result, Status


def results(
    plan: Plan,
    inputs: Inputs,
    ahead: RemoteModel | None,
    observer: Observer,
    report: Report,
    end: float | None,
    deliver: Deliver,
) -> Generator[Result, None, None]:
    """As `batch.run.results`; `ahead` is the model where its worker was started before."""
    with opened(plan) as (here, store):
        fold = as_it_is if plan.dry_run else store.fold()
        images = replace(inputs, walk=plan.walk, fold=fold).checked(stems(here, SHEETS), end)
        if not plan.allow_empty:
            images.check_outside()
        yield from _in_order(here, store, images, ahead, observer, report, end, deliver)


def _in_order(
    plan: Plan,
    store: Store,
    inputs: Inputs,
    ahead: RemoteModel | None,
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
    ahead: RemoteModel | None,
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
    written = [path for one in pictures for path in arrays(plan, one).values()]
    paths = [*dict.fromkeys(written), *(one.path for one in pictures)]  # as a run lists them
    names = tuple(str(path.relative_to(plan.out)) for path in paths)
    reason = why(plan, pictures, digests, read.sha256, known)
    same = kept(plan, pictures, digests, read, known)
    return Result(job.name, Status.PENDING, names, page=job.number, why=reason, kept=same)


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
