"""Which pictures are current: what a run would write again is there already."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from gradviz_cli.draw.png import read_text
from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.plan.digests import Digests, joint_digest
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result

MAX_OUTPUT = 2**34  # bytes; far more than an array of the largest input has


def arrays(plan: Plan, output: Output) -> dict[str, Path]:
    """Mode -> the array that is written beside a picture."""
    return output.array_paths(plan.drawing.modes) if plan.drawing.raw else {}


def is_current(plan: Plan, output: Output, digest: str) -> dict | None:
    """What the existing picture says, when it (and with --raw its array) is what would be written again."""
    try:
        record = json.loads(read_text(output.path) or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("digest") != digest:
        return None
    hashes = record.get("npy") if output.mode is None else {output.mode: record.get("npy")}
    expected = hashes if isinstance(hashes, dict) else {}
    right = all(
        (found := sha256_of(path)) and found == expected.get(mode) for mode, path in arrays(plan, output).items()
    )
    return record if right else None


def sha256_of(path: Path) -> str | None:
    """Of a file that a run wrote; None where there is none that can be read."""
    try:
        return hashlib.sha256(read_bytes(path, Limits(max_file_size=MAX_OUTPUT))).hexdigest()
    except ImageError:
        return None


def look(
    plan: Plan, job: Job, outputs: Sequence[Output], digests: Digests, limits: Limits, rehash: bool = False
) -> tuple[bytes, str, Result | None]:
    """An image file's bytes, their SHA-256, and the result that it has already when every picture is what it would be.

    Raises
    ------
    ImageError
        It cannot be read, or its name leaves no room for that of its pictures.
    """
    if job.trouble:
        raise ImageError("unreadable", job.trouble)
    _insist_on_names(outputs)
    data = read_bytes(job.path, limits)
    sha256 = hashlib.sha256(data).hexdigest()
    return data, sha256, None if plan.force else _current(plan, job, outputs, digests, sha256, rehash)


def _current(
    plan: Plan, job: Job, outputs: Sequence[Output], digests: Digests, sha256: str, rehash: bool
) -> Result | None:
    records, paths = [], {}
    for output in outputs:
        record = is_current(plan, output, digests.of(output, sha256))
        if record is None:
            return None
        records.append(record)
        paths.update(dict.fromkeys([output.path, *arrays(plan, output).values()]))
    names = {str(path.relative_to(plan.out)): path for path in paths}
    hashes = {name: sha256_of(path) for name, path in names.items()} if rehash else {}
    targets = tuple({str(record.get("target")): record.get("target") for record in records}.values())
    digest = joint_digest([record["digest"] for record in records])
    return Result(str(job.path), "current", tuple(names), targets, None, digest, hashes=hashes)


def _insist_on_names(outputs: Iterable[Output]) -> None:
    """A file system takes 255 bytes; the name of an image may leave no room for what is added to it."""
    for output in outputs:
        if len(os.fsencode(output.path.name)) > 255:
            raise ImageError("name", "its name leaves no room for the name of its picture; rename it")


def failed(job: Job, error: ImageError, seconds: float = 0.0) -> Result:
    """The result of an image that cannot be read or explained."""
    described = {"kind": error.kind, "message": error.message}
    return Result(str(job.path), "failed", (), (), described, None, seconds)
