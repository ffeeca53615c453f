"""An image and its pictures that nobody has touched since their line was written: current, and none of them is read.

A stamp (`files.reading`) says of each file that it still holds what the line says. The digest that a run would write now is
made anew from the image's hash and the classes in that line; where it is another one, or anything is unclear, files are read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from gradviz_cli.batch.known import Known, image_stamp, outputs_of, stamp
from gradviz_cli.draw.record import whole_target
from gradviz_cli.files.reading import Limits, Stamp
from gradviz_cli.files.remote import full_name
from gradviz_cli.images.sources import stamp_now
from gradviz_cli.plan.digests import Digests, joint_digest
from gradviz_cli.plan.outputs import Output, targets_of
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import STAMPS, Result, Status, TargetResult


def untouched(
    plan: Plan, job: Job, outputs: Sequence[Output], digests: Digests, limits: Limits, known: Known
) -> Result | None:
    """The result of an image of which nothing is to be done; None where that takes a look into its files."""
    names = names_of(plan, outputs)
    line = known.line(next(iter(names), ""))
    asked = targets_of(plan, job)
    targets = _targets(line, len(asked))
    sha256, image = image_stamp(line)
    if not targets or sha256 is None or image is None or not _tells_of(line, job, names, known):
        return None
    if not 0 < image[0] <= limits.max_file_size or stamp_now(job) != image:
        return None
    indices = {one: found.index for one, found in zip(asked, targets, strict=True)}
    joint = joint_digest([digests.of(one, sha256, indices[one.target]) for one in outputs])
    if line.get("digest") != joint or not all(
        _looks(known, os.path.join(plan.out, name), _stamp(line, name)) for name in names
    ):
        return None
    found = tuple(dict.fromkeys(targets))
    here = {"page": job.number, "image_sha256": sha256, "image_stamp": image}
    return Result(job.name, Status.CURRENT, tuple(names), found, digest=joint, **here)  # type: ignore[arg-type]


def names_of(plan: Plan, outputs: Sequence[Output]) -> list[str]:
    """The files that an image is to have, under OUT, each picture before its arrays."""
    drawing = plan.drawing
    paths = (
        path
        for one in outputs
        for path in (one.path, *(one.array_paths(drawing.methods).values() if drawing.raw else ()))
    )
    return list(dict.fromkeys(str(path.relative_to(plan.out)) for path in paths))


def _tells_of(line: dict[str, Any], job: Job, names: Sequence[str], known: Known) -> bool:
    """Whether it is the last line of all of these files, and no others, from this image."""
    if line.get("status") not in (Status.WRITTEN, Status.CURRENT) or line.get("error") is not None:
        return False
    if line.get("source") != full_name(job.path) or line.get("page") != job.number:
        return False
    return sorted(outputs_of(line)) == sorted(names) and all(known.line(name) == line for name in names[1:])


def _targets(line: dict[str, Any], count: int) -> tuple[TargetResult, ...]:
    """What each target came to; empty where two of them are one class, as a line of what was current says that once."""
    said = line.get("targets")
    found = [whole_target(one) for one in said] if isinstance(said, list) and len(said) == count else []
    targets = tuple(one for one in found if one is not None)
    return targets if len(targets) == count else ()


def _stamp(line: dict[str, Any], name: str) -> Stamp | None:
    stamps = line.get(STAMPS)
    return stamp(stamps.get(name)) if isinstance(stamps, dict) else None


def _looks(known: Known, path: str, before: Stamp | None) -> bool:
    """Whether a file is as it was."""
    found = known.files.look(path)
    return found is not None and before is not None and found.stamp == before
