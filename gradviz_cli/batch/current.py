"""Which outputs are current: what a run would write again is there already. The others are pending."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gradviz_cli.draw.png import read_text
from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.plan.digests import Digests, joint_digest
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result, TargetResult

MAX_OUTPUT = 2**34  # bytes; far more than an array of the largest input has


class Found(NamedTuple):
    """An image file's bytes, their SHA-256, and its result when all of its outputs are current."""

    data: bytes
    sha256: str
    current: Result | None


@dataclass(frozen=True)
class Existing:
    """What an existing picture says of itself, as far as it is believed."""

    digest: str
    target: TargetResult


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
    existing: list[Existing] = []
    paths: dict[Path, None] = {}  # in order, each once
    for output in outputs:
        found = check_current(plan, output, digests.of(output, sha256))
        if found is None:
            return None
        existing.append(found)
        paths.update(dict.fromkeys([output.path, *arrays(plan, output).values()]))
    names = {str(path.relative_to(plan.out)): path for path in paths}
    hashes = {name: digest for name, path in names.items() if rehash and (digest := sha256_of(path))}
    targets = tuple(dict.fromkeys(found.target for found in existing))
    digest = joint_digest([found.digest for found in existing])
    return Result(str(job.path), "current", tuple(names), targets, None, digest, hashes=hashes)


def check_current(plan: Plan, output: Output, digest: str) -> Existing | None:
    """What the existing picture says, when it (and with --raw its array) is what would be written again; else None."""
    try:
        record = json.loads(read_text(output.path) or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("digest") != digest:
        return None
    target = _target(record.get("target"))
    hashes = record.get("npy") if output.mode is None else {output.mode: record.get("npy")}
    expected = hashes if isinstance(hashes, dict) else {}
    right = all(
        (found := sha256_of(path)) and found == expected.get(mode) for mode, path in arrays(plan, output).items()
    )
    return Existing(digest, target) if target and right else None


def _target(said: object) -> TargetResult | None:
    """A picture's word on its target; None where it is not one that a run could have written. Anybody may write a PNG."""
    if not isinstance(said, Mapping):
        return None
    try:
        return TargetResult(
            index=_value(said, "index", int),
            label=_optional(said, "label", str),
            rank=_optional(said, "rank", int),
            score=_optional(said, "score", float),
            output=_optional(said, "output", float),
        )
    except (KeyError, TypeError):
        return None


Kind = TypeVar("Kind")


def _value(said: Mapping[str, Any], name: str, kind: type[Kind]) -> Kind:
    value = said[name]
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(name)
    return value


def _optional(said: Mapping[str, Any], name: str, kind: type[Kind]) -> Kind | None:
    return None if said[name] is None else _value(said, name, kind)


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
    return Result(str(job.path), "failed", (), (), described, None, seconds)
