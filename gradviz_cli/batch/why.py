"""Why pictures would be drawn: in what those that are there, and what the manifest knows of them, are not what a run would
write. For people who ask before they run; a run itself compares digests alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gradviz_cli.batch.current import arrays, as_written
from gradviz_cli.batch.known import Known
from gradviz_cli.draw.record import Option, Record, told
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Plan
from gradviz_cli.version import __version__

FORCED, NEW, MISSING, TOUCHED, UNKNOWN = (
    "--force",
    "new",
    "missing",
    "picture changed since it was written",
    "not in the manifest",
)
IMAGE, MODEL, LABELS, OPTION, VERSION = (
    "image changed",
    "model changed",
    "label changed",
    "option changed",
    "drawn by another version",
)


def why(plan: Plan, outputs: Sequence[Output], digests: Digests, image_sha256: str, known: Known) -> str:
    """Why these outputs of one image are not all current: every reason once."""
    if plan.force:
        return FORCED
    reasons = (reason for output in outputs for reason in _of_one(plan, output, digests, image_sha256, known))
    return ", ".join(dict.fromkeys(reasons))


def _of_one(plan: Plan, output: Output, digests: Digests, image_sha256: str, known: Known) -> Iterator[str]:
    before = known.written(str(output.path.relative_to(plan.out)))
    if not known.files.is_there(output.path):
        yield MISSING if before else NEW
        return
    record = known.files.record(output.path)
    if record is None:
        yield TOUCHED
        return
    changes = list(_changes(plan, output, record, digests, image_sha256))
    yield from changes
    if not changes and before is None:
        yield UNKNOWN
    elif not changes and as_written(output.path, before, known.files) is None:
        yield TOUCHED
    yield from _of_arrays(plan, output, known)


def _changes(plan: Plan, output: Output, record: Record, digests: Digests, image_sha256: str) -> Iterator[str]:
    """In what the picture was made otherwise, by what it says; nothing where its digest is that of today."""
    index = record.target.index if record.target else None
    if record.has_whole_target and record.digest == digests.of(output, image_sha256, index):
        return
    found = []
    if record.image != image_sha256:
        found.append(IMAGE)
    if record.model != digests.fingerprint:
        found.append(MODEL)
    options = _differing(record.options, told(plan, output))
    if options:
        found.append(f"{OPTION} ({', '.join(f'--{name}' for name in options)})")
    if record.version != __version__:
        found.append(VERSION)
    yield from found or [LABELS if _has_other_label(plan, record) else OPTION]


def _has_other_label(plan: Plan, record: Record) -> bool:
    """Asked last: labels that do not fit the model are in the plan, and in no picture."""
    index, label = (record.target.index, record.target.label) if record.target else (None, None)
    known = plan.labels[index] if index is not None and 0 <= index < len(plan.labels) else ""
    return (label or "") != known


def _differing(before: Mapping[str, Option], now: Mapping[str, Option]) -> list[str]:
    return [name for name in dict.fromkeys((*now, *before)) if before.get(name) != now.get(name)]


def _of_arrays(plan: Plan, output: Output, known: Known) -> Iterator[str]:
    for path in arrays(plan, output).values():
        before = known.written(str(path.relative_to(plan.out)))
        if known.files.look(path) is None:
            yield "array missing" if before else "new array"
        elif as_written(path, before, known.files) is None:
            yield "array changed since it was written"
