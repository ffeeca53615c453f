"""What an engine is given: a run whose OUT is locked and whose manifest is open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gradviz_cli.batch.known import Known
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.batch.observer import Observer
from gradviz_cli.model.fingerprint import Seal
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.plan import Job, Plan


@dataclass(frozen=True)
class Work:
    """The jobs of a run, and what belongs to them.

    Attributes
    ----------
    end : float or None
        The monotonic time at which --max-duration ends.
    ahead : RemoteModel or None
        The model on this machine, where its worker was started before.
    """

    plan: Plan
    jobs: Iterable[Job]
    digests: Digests
    seal: Seal
    manifest: Manifest
    known: Known
    observer: Observer
    end: float | None = None
    ahead: RemoteModel | None = None
