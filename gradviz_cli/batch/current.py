"""Which outputs are current: what a run would write again is there already. The others are pending."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gradviz_cli.draw.record import Record
from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.plan.digests import Digests, joint_digest
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result, Status

MAX_OUTPUT = 2**34  # bytes; far more than an array of the largest input has


class Found(NamedTuple):
    """An image file's bytes, their SHA-256, and its result when all of its outputs are current."""

    data: bytes
    sha256: str
    current: Result | None


def lookup(
    plan: Plan, job: Job, outputs: Sequence[Output], digests: Digests, limits: Limits, rehash: bool = False
) -> Found:
    """Read a job's image file, and look whether its outputs are current.

    Parameters
    ----------
    rehash : bool
        Hash the outputs that are current, so that the manifest gets to know them.

    Raises
    ------
    ImageError
        It cannot be read, or its name leaves no room for that of its pictures.
    """
    if job.trouble:
        raise ImageError("unreadable", job.trouble)
    _check_names(outputs)
    data = read_bytes(job.path, limits)
    sha256 = hashlib.sha256(data).hexdigest()
    return Found(data, sha256, None if plan.force else _current(plan, job, outputs, digests, sha256, rehash))


def _current(
    plan: Plan, job: Job, outputs: Sequence[Output], digests: Digests, sha256: str, rehash: bool
) -> Result | None:
    existing: list[Record] = []
    paths: dict[Path, None] = {}  # in order, each once
    for output in outputs:
        found = check_current(plan, output, partial(digests.of, output, sha256))
        if found is None:
            return None
        existing.append(found)
        paths.update(dict.fromkeys([output.path, *arrays(plan, output).values()]))
    names = {str(path.relative_to(plan.out)): path for path in paths}
    hashes = {name: hashed for name, path in names.items() if rehash and (hashed := sha256_of(path))}
    targets = tuple(dict.fromkeys(found.target for found in existing if found.target))
    joint = joint_digest([found.digest or "" for found in existing])
    return Result(str(job.path), Status.CURRENT, tuple(names), targets, None, joint, hashes=hashes)


def check_current(plan: Plan, output: Output, digest: Callable[[int | None], str]) -> Record | None:
    """What the existing picture says, when it (and with --raw its array) is what would be written again; else None.

    `digest` gives the one that it would have, if it shows this class.
    """
    record = Record.read(output.path, ("target", "digest", "npy"))
    if record is None or record.target is None or not record.has_whole_target:
        return None
    if record.digest != digest(record.target.index):
        return None
    hashes = record.npy if output.mode is None else {output.mode: record.npy}
    expected = hashes if isinstance(hashes, Mapping) else {}
    right = all(
        (found := sha256_of(path)) and found == expected.get(mode) for mode, path in arrays(plan, output).items()
    )
    return record if right else None


def arrays(plan: Plan, output: Output) -> dict[str, Path]:
    """Mode -> the array that is written beside a picture."""
    return output.array_paths(plan.drawing.modes) if plan.drawing.raw else {}


def sha256_of(path: Path) -> str | None:
    """Of a file that a run wrote; None where there is none that can be read."""
    try:
        return hashlib.sha256(read_bytes(path, Limits(max_file_size=MAX_OUTPUT))).hexdigest()
    except ImageError:
        return None


def _check_names(outputs: Iterable[Output]) -> None:
    """A file system takes 255 bytes; the name of an image may leave no room for what is added to it."""
    for output in outputs:
        if len(os.fsencode(output.path.name)) > 255:
            raise ImageError("name", "its name leaves no room for the name of its picture; rename it")


def failed(job: Job, error: ImageError, seconds: float = 0.0) -> Result:
    """The result of an image that cannot be read or explained."""
    described = {"kind": error.kind, "message": error.message}
    return Result(str(job.path), Status.FAILED, (), (), described, None, seconds)
