"""Which outputs are current: what a run would write again is there already. The others are pending."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gradviz_cli.batch.files import HERE, Files
from gradviz_cli.batch.known import Known, Written
from gradviz_cli.batch.untouched import Untouched
from gradviz_cli.draw.record import Record
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, Stamp
from gradviz_cli.files.remote import full_name
from gradviz_cli.images.sources import content
from gradviz_cli.plan.digests import Digests, joint_digest
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.outputs import outputs as outputs_of
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result, Status


class Read(NamedTuple):
    """An image file's bytes (none where that was not needed), their SHA-256, and its stamp meanwhile."""

    data: bytes
    sha256: str
    stamp: Stamp | None


class Found(NamedTuple):
    """An image file, and its result when all of its outputs are current."""

    read: Read
    current: Result | None


def read(job: Job, limits: Limits) -> Read:
    """Raises ImageError."""
    data, stamp = content(job, limits)
    return Read(data, hashlib.sha256(data).hexdigest(), stamp)


class Sifted(NamedTuple):
    """A job, the pictures that it is to have, and its result where it stands by now: it has failed, or nothing is to be done."""

    job: Job
    outputs: tuple[Output, ...]
    result: Result | None


def sift(plan: Plan, jobs: Sequence[Job], digests: Digests, limits: Limits, known: Known) -> list[Sifted]:
    """Look at many jobs and read none of their files: nobody may have touched these."""
    found = [_wanted(plan, job) for job in jobs]
    open_ = [] if plan.force else [one for one in found if one.result is None]
    results = Untouched(plan, digests, limits, known).results([(one.job, one.outputs) for one in open_])
    current = {id(one): result for one, result in zip(open_, results, strict=True) if result}
    return [one._replace(result=one.result or current.get(id(one))) for one in found]


def _wanted(plan: Plan, job: Job) -> Sifted:
    """One that has failed cannot be read, or its name leaves no room for that of its pictures."""
    wanted: tuple[Output, ...] = ()
    try:
        wanted = outputs_of(plan, job, SHEETS)
        if job.trouble:
            raise ImageError("unreadable", job.trouble)
        _check_names(wanted)
        return Sifted(job, wanted, None)
    except ImageError as error:
        return Sifted(job, wanted, failed(job, error))


def looked(plan: Plan, job: Job, outputs: Sequence[Output], digests: Digests, limits: Limits, known: Known) -> Found:
    """Read a job's image file, and look whether its outputs are current: what they say, and that they are what was written.
    Raises ImageError.
    """
    image = read(job, limits)
    return Found(image, None if plan.force else _current(plan, job, outputs, digests, image, known))


def _current(
    plan: Plan, job: Job, outputs: Sequence[Output], digests: Digests, image: Read, known: Known
) -> Result | None:
    existing: list[Record] = []
    files: dict[str, Written] = {}
    for output in outputs:
        found = check_current(plan, output, partial(digests.of, output, image.sha256), known)
        if found is None:
            return None
        existing.append(found[0])
        files.update(found[1])
    targets = tuple(dict.fromkeys(found.target for found in existing if found.target))
    joint = joint_digest([found.digest or "" for found in existing])
    result = Result(job.name, Status.CURRENT, tuple(files), targets, None, joint, page=job.number)
    result = replace(result, image_sha256=image.sha256, image_stamp=image.stamp)
    news = any(file != known.written(name) for name, file in files.items())
    if not news and known.is_from(job.rel, full_name(job.path)):
        return result
    stamps = {name: file.stamp for name, file in files.items() if file.stamp}
    return replace(result, hashes={name: file.sha256 for name, file in files.items()}, stamps=stamps)


def kept(plan: Plan, outputs: Iterable[Output], digests: Digests, image: Read, known: Known) -> tuple[str, ...]:
    """The files of an image that are current, by name; the others are to be written."""
    if plan.force:
        return ()
    found = (check_current(plan, one, partial(digests.of, one, image.sha256), known) for one in outputs)
    return tuple(dict.fromkeys(name for one in found if one for name in one[1]))


def check_current(
    plan: Plan, output: Output, digest: Callable[[int | None], str], known: Known
) -> tuple[Record, dict[str, Written]] | None:
    """What the existing picture says, when it (and with --raw its array) is what would be written again, and what it and the
    arrays are by name; else None.

    `digest` gives the one that it would have, if it shows this class.
    """
    record = known.files.record(output.path, ("target", "digest", "npy"))
    if record is None or record.target is None or not record.has_whole_target:
        return None
    if record.digest != digest(record.target.index):
        return None
    hashes = record.npy if output.method is None else {output.method: record.npy}
    expected = hashes if isinstance(hashes, Mapping) else {}
    files: dict[str, Written] = {}
    for mode, path in [(None, output.path), *arrays(plan, output).items()]:
        name = str(path.relative_to(plan.out))
        found = as_written(path, known.written(name), known.files)
        if found is None or mode is not None and found.sha256 != expected.get(mode):
            return None
        files[name] = found
    return record, files


def as_written(path: Path, before: Written | None, files: Files = HERE) -> Written | None:
    """A file that still is what was written, with its stamp of today; else None. Its bytes are read only where the stamp is
    another one."""
    now = None if before is None else files.look(path)
    if before is None or now is None:
        return None
    if before.stamp is not None and before.stamp == now.stamp:
        return before
    if before.stamp is not None and before.stamp[0] != now.size:
        return None
    found = files.hashed(path)
    return Written(*found) if found and found[0] == before.sha256 else None


def arrays(plan: Plan, output: Output) -> dict[str, Path]:
    """Method -> the array that is written beside a picture."""
    return output.array_paths(plan.drawing.methods) if plan.drawing.raw else {}


def _check_names(outputs: Iterable[Output]) -> None:
    """A file system takes 255 bytes; the name of an image may leave no room for what is added to it."""
    for output in outputs:
        if len(os.fsencode(output.path.name)) > 255:
            raise ImageError("name", "its name leaves no room for the name of its picture; rename it")


def failed(job: Job, error: ImageError, seconds: float = 0.0) -> Result:
    """The result of an image that cannot be read or explained."""
    described = {"kind": error.kind, "message": error.message}
    return Result(job.name, Status.FAILED, (), (), described, None, seconds, page=job.number)
