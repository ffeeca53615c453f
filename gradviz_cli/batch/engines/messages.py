"""What a driver and its nodes say to each other, as JSON: the plan to a node, then chunks of jobs; results to the driver.

    driver                            node
    Spec            ->  hired    ->   Hired
    Chunk           ->  explain  ->   Answer

What a node says is checked before it is believed, as a worker's word is: `from_text` looks at every value, `results_of` at
what the results of a chunk can be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradviz_cli.batch.files import HERE, Files
from gradviz_cli.batch.known import Known
from gradviz_cli.files.reading import Stamp
from gradviz_cli.files.remote import full_name, place_of
from gradviz_cli.plan.plan import Job, Page
from gradviz_cli.plan.results import Result, Status, TargetResult
from gradviz_cli.plan.serialize import LONGEST_TEXT
from gradviz_cli.process.protocol import Failure, Loaded, NotUnderstood, Proof, from_wire


@dataclass(frozen=True)
class Spec:
    """What a node is hired for.

    Attributes
    ----------
    plan : str
        As `plan.serialize` writes it.
    fingerprint, digest : str
        Of the model; and of pictures that nobody draws, by which it shows that both sides mean the same.
    versions : tuple
        Of each package that decides what a picture looks like.
    owner : str
        What names of temporary files begin with, so that whoever sweeps those of the driver sweeps these.
    probe : str
        A file in OUT, which a node sees that has the same OUT; empty where OUT is a URL.
    """

    plan: str
    fingerprint: str
    digest: str
    versions: tuple[tuple[str, str], ...]
    owner: str
    probe: str


@dataclass(frozen=True)
class Hired:
    """A node's first word. `key` is that of its proofs; `failure` says why it cannot be used."""

    host: str
    key: str
    failure: Failure | None = None


@dataclass(frozen=True)
class Asked:
    """A job, and what the manifest knows of its outputs: its last lines, whether the image is from the same file."""

    path: str
    rel: str
    page: tuple[int, int] | None
    stamp: Stamp | None = None
    lines: tuple[str, ...] = ()
    is_from: bool | None = None


@dataclass(frozen=True)
class Chunk:
    """Jobs that a node does together. `left` are the seconds that the run still has; `proof` was found before."""

    jobs: tuple[Asked, ...]
    left: float | None
    proof: Proof | None


@dataclass(frozen=True)
class Sent:
    """A `Result`; its targets and estimates are JSON."""

    status: str
    outputs: tuple[str, ...]
    targets: str
    error: dict[str, str] | None
    digest: str | None
    seconds: float
    hashes: dict[str, str]
    notes: tuple[str, ...]
    reading: str | None
    stamps: dict[str, Stamp]
    estimates: str
    image_sha256: str | None
    image_stamp: Stamp | None
    kept: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What came of a chunk: results in the order of its jobs, and what ended it early; of the model once it is loaded."""

    results: tuple[Sent, ...]
    failure: Failure | None = None
    loaded: Loaded | None = None
    proof: Proof | None = None
    misfit: str = ""


def to_text(message: Any) -> str:
    return json.dumps(
        {"type": type(message).__name__, **vars(message)}, default=vars
    )  # `asdict` takes four times as long


def from_text(text: object, kind: type[Any]) -> Any:
    """The message that a text is; NotUnderstood where it is none."""
    try:
        return from_wire(json.loads(text) if isinstance(text, str) else None, kind, longest=LONGEST_TEXT)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(str(error)) from error


def asked(job: Job, names: Sequence[str], known: Known) -> Asked:
    """A job as it is sent, with a path that means the same anywhere; `names` are those of its outputs."""
    lines = dict.fromkeys(json.dumps(line) for line in map(known.line, names) if line)
    page = None if job.page is None else (job.page.number, job.page.place)
    path = full_name(job.path)
    return Asked(path, job.rel, page, job.stamp, tuple(lines), known.is_from(job.rel, path) if lines else None)


def job_of(one: Asked) -> Job:
    page = None if one.page is None else Page(*one.page)
    return Job(place_of(one.path), one.rel, page=page, stamp=one.stamp)


class Sketch(Known):
    """What the manifest knows, as far as it was sent; `files` are those of OUT."""

    def __init__(self, jobs: Sequence[Asked], files: Files = HERE):
        super().__init__()
        self.files = files
        self._lines: dict[str, dict[str, Any]] = {}
        self._from = {one.rel: (one.path, one.is_from) for one in jobs if one.is_from is not None}
        for line in (json.loads(text) for one in jobs for text in one.lines):
            self._lines.update(dict.fromkeys(line.get("outputs", ()), line))

    def line(self, name: str) -> dict[str, Any]:
        return self._lines.get(name, {})

    def is_from(self, rel: str, source: str) -> bool | None:
        path, found = self._from.get(rel, ("", None))
        return found if path == source else None


def sent(result: Result) -> Sent:
    told = {name: value for name, value in vars(result).items() if name not in ("image", "page", "why")}
    targets = json.dumps([dict(vars(one)) for one in result.targets])
    told.update(status=result.status.value, targets=targets, estimates=json.dumps(result.estimates))
    return Sent(**told)


def results_of(jobs: Sequence[Job], names: Sequence[Sequence[str]], results: Sequence[Sent]) -> list[Result]:
    """Those of the first jobs of a chunk, whose outputs can have these names.

    Raises
    ------
    NotUnderstood
        They cannot be theirs.
    """
    if len(results) > len(jobs):
        raise NotUnderstood(f"{len(results)} results of {len(jobs)} images")
    return [_result(*each) for each in zip(jobs, names, results, strict=False)]


def _result(job: Job, names: Sequence[str], said: Sent) -> Result:
    status = Status.of(said.status)
    if status is None or status is Status.PENDING:
        raise NotUnderstood("an image without a status")
    if not (set(said.outputs) <= set(names) and said.hashes.keys() <= set(said.outputs) >= {*said.stamps, *said.kept}):
        raise NotUnderstood("outputs that the image does not have")
    if status in (Status.WRITTEN, Status.CURRENT) and not said.outputs:
        raise NotUnderstood("an image without outputs")
    if status.failed and not (said.error and {"kind", "message"} <= said.error.keys()):
        raise NotUnderstood("a failure without a reason")
    told = {**vars(said), "status": status, "targets": _targets(said.targets), "estimates": _estimates(said.estimates)}
    return Result(image=job.name, page=job.number, **told)


_NUMBER = (int, float, type(None))
_OF_TARGET: dict[str, tuple[type, ...]] = {
    "index": (int, type(None)),
    "label": (str, type(None)),
    "rank": (int, type(None)),
    "score": _NUMBER,
    "output": _NUMBER,
}


def _targets(text: str) -> tuple[TargetResult, ...]:
    found = _list(text)
    if not all(isinstance(one, Mapping) and one.keys() == _OF_TARGET.keys() for one in found):
        raise NotUnderstood("a target that is none")
    if not all(isinstance(one[name], kinds) for one in found for name, kinds in _OF_TARGET.items()):
        raise NotUnderstood("a target with a value that none has")
    return tuple(TargetResult(**one) for one in found)


def _estimates(text: str) -> tuple[dict[str, Any], ...]:
    found = _list(text)
    if not all(isinstance(one, Mapping) for one in found):
        raise NotUnderstood("estimates that are none")
    return tuple(found)


def _list(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(str(error)) from error
    if not isinstance(found, list):
        raise NotUnderstood("no list")
    return found
