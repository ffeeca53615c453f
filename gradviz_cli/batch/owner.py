"""OUT belongs to one model and one set of images: what would write another one's pictures over these is refused.

Another one is one with another path *and* other content. A model that changed in place, a new version of it below the
folder that is named, photos that moved: they are what they were.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gradviz_cli.batch.known import Known, Model, image_stamp, outputs_of
from gradviz_cli.errors import TimeUp, UsageError
from gradviz_cli.files.remote import full_name, is_url
from gradviz_cli.files.text import printable
from gradviz_cli.images.sources import hashed
from gradviz_cli.model.choice import is_version
from gradviz_cli.plan.plan import Job, Plan

REMEDY = "choose another folder with --out, or give this one over with --adopt"


def model_of(plan: Plan, fingerprint: str) -> Model:
    """As the manifest remembers it."""
    typed = full_name(plan.typed or plan.model.path)
    return Model(typed, typed if is_url(typed) else os.path.abspath(plan.model.path), fingerprint)


def check(plan: Plan, jobs: Iterable[Job], fingerprint: str, known: Known, end: float | None = None) -> None:
    """Before any work. With --adopt, or in a folder of which nothing is known, everything is taken.

    Raises
    ------
    UsageError
        OUT holds pictures of another model, or of another image with the same name.
    TimeUp
        At the monotonic time `end`.
    """
    if plan.adopt or not known:
        return
    _check_model(plan, model_of(plan, fingerprint), known)
    for job in jobs:
        if end is not None and time.monotonic() >= end:
            raise TimeUp("--max-duration is reached while the images are listed", "give more time, or fewer images")
        if not job.trouble:
            _check_image(plan, job, known)


def _check_model(plan: Plan, model: Model, known: Known) -> None:
    before = known.model
    if before is None or before.fingerprint == model.fingerprint:
        return
    if _is_one_place(before.typed, model.typed) or _is_one_place(before.path, model.path):
        return
    if _are_versions(before, model):
        return
    if any(_first_there(plan.out, record, known) for record in known.images()):
        raise UsageError(
            f"{printable(plan.place)} holds pictures of {_called(before)}, and {printable(model.path)} is another",
            REMEDY,
        )


def _called(model: Model) -> str:
    is_demo = Path(model.path).parts[-3:] == ("gradviz_cli", "demo", "model")
    return f"{'`gradviz demo`, ' if is_demo else ''}the model {printable(model.path)}"


def _are_versions(before: Model, now: Model) -> bool:
    """Of one folder, which was named itself the one time or the other."""
    folders = {os.path.dirname(one.path) for one in (before, now)}
    versions = all(is_version(os.path.basename(one.path)) for one in (before, now))
    return versions and len(folders) == 1 and not folders.isdisjoint((before.typed, now.typed))


def _check_image(plan: Plan, job: Job, known: Known) -> None:
    source = full_name(job.path)
    if known.is_from(job.rel, source) is not False:
        return
    before = known.image(job.rel)
    there = _first_there(plan.out, before, known)
    if there is None or _is_one_place(before["source"], source):
        return
    content = image_stamp(before)[0] or _image_shown(plan.out, before, known)
    found = content and hashed(job, plan.limits)
    if found and found != content:
        raise UsageError(
            f"{printable(plan.place / there)} is of {printable(before['source'])}, and {printable(source)} is another image",
            f"{REMEDY}; --root DIR gives images of several folders different names",
        )


def _is_one_place(before: str, now: str) -> bool:
    """Whether two paths are one, or lead to one file or folder today."""
    with suppress(OSError, ValueError):
        return before == now or os.path.samefile(before, now)
    return False


def _first_there(out: Path, record: dict[str, Any], known: Known) -> str | None:
    """Of the outputs that a line names, the first that exists."""
    return next((name for name in outputs_of(record) if known.files.is_there(out / name)), None)


def _image_shown(out: Path, record: dict[str, Any], known: Known) -> str | None:
    """The hash of the image that a picture says it shows: older lines do not say it."""
    said = (known.files.record(out / name, ("image",)) for name in outputs_of(record) if name.endswith(".png"))
    return next((one.image for one in said if one and one.image), None)
