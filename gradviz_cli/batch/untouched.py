"""An image and its pictures that nobody has touched since their line was written: current, and none of them is read.

A stamp (`files.reading`) says of each file that it still holds what the line says. The digest that a run would write now is
made anew from the image's hash and the classes in that line; where it is another one, or anything is unclear, files are read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass
class _Look:
    """An image, and what the steps have found of it."""

    job: Job
    outputs: Sequence[Output]
    names: list[str] = field(default_factory=list)
    line: dict[str, Any] = field(default_factory=dict)
    targets: tuple[TargetResult, ...] = ()
    sha256: str = ""
    image: Stamp | None = None


class Untouched:
    """Looks for images of which nothing is to be done.

    Many at a time, each step for all of them: going through the whole code for one image after the other, a processor forgets
    the one end of it while it is at the other, and takes half as long again.
    """

    def __init__(self, plan: Plan, digests: Digests, limits: Limits, known: Known):
        self._plan, self._digests, self._limits, self._known = plan, digests, limits, known

    def results(self, images: Sequence[tuple[Job, Sequence[Output]]]) -> list[Result | None]:
        """Of each its result; None where that takes a look into its files."""
        looks = left = [_Look(*one) for one in images]
        for step in (self._named, self._remembered, self._told, self._image_looks, self._is_wanted, self._outputs_look):
            left = [look for look in left if step(look)]
        found = {id(look): self._result(look) for look in left}
        return [found.get(id(look)) for look in looks]

    def _named(self, look: _Look) -> bool:
        look.names = names_of(self._plan, look.outputs)
        return bool(look.names)

    def _remembered(self, look: _Look) -> bool:
        look.line = self._known.line(look.names[0])
        return bool(look.line)

    def _told(self, look: _Look) -> bool:
        look.targets = _targets(look.line, len(targets_of(self._plan, look.job)))
        sha256, look.image = image_stamp(look.line)
        look.sha256 = sha256 or ""
        return bool(look.targets and sha256) and _tells_of(look.line, look.job, look.names, self._known)

    def _image_looks(self, look: _Look) -> bool:
        image = look.image
        return image is not None and 0 < image[0] <= self._limits.max_file_size and stamp_now(look.job) == image

    def _is_wanted(self, look: _Look) -> bool:
        """Whether the digest that a run would write now is that of the line."""
        asked = targets_of(self._plan, look.job)
        indices = {one: found.index for one, found in zip(asked, look.targets, strict=True)}
        digests = [self._digests.of(one, look.sha256, indices[one.target]) for one in look.outputs]
        return look.line.get("digest") == joint_digest(digests)

    def _outputs_look(self, look: _Look) -> bool:
        out = self._plan.out
        return all(_looks(self._known, os.path.join(out, name), _stamp(look.line, name)) for name in look.names)

    def _result(self, look: _Look) -> Result:
        job, targets = look.job, tuple(dict.fromkeys(look.targets))
        here = {"page": job.number, "image_sha256": look.sha256, "image_stamp": look.image}
        return Result(job.name, Status.CURRENT, tuple(look.names), targets, digest=look.line["digest"], **here)  # type: ignore[arg-type]


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
