"""Proofs that OUT's manifest remembers, so that a model is proved once and not in every run."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property

from gradviz_cli.batch import manifest
from gradviz_cli.batch.known import PROVED
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.model import proofs
from gradviz_cli.plan.plan import Plan
from gradviz_cli.process.protocol import Proof


class Proofs:
    """Those of one run: of this model with these options, on a machine and with programs like these.

    A proof stands in the line of the first image that was explained behind it.

    Attributes
    ----------
    key : str
        A hash over all that a proof is true of; of another machine it is given.
    """

    def __init__(self, plan: Plan, fingerprint: str, manifest: Manifest, key: str = ""):
        self._plan, self._manifest = plan, manifest
        self._fingerprint, self._given = fingerprint, key

    @cached_property
    def key(self) -> str:
        return self._given or proofs.key_of(self._fingerprint, self._plan.model)

    def before(self) -> Proof | None:
        """What an earlier run found, if the model need not be proved again."""
        if self._plan.proof != "auto":
            return None
        key, found = self.key, None
        with suppress(OSError):  # then it is proved anew
            for line in manifest.read(self._plan.out, holding=f'"key": "{key}"'):
                found = proofs.believed(line.get(PROVED), key) or found
        return found

    def keep(self, proof: Proof | None) -> None:
        """Let the next line hold what was found now."""
        if proof is not None and proof.complete:
            self._manifest.note({PROVED: proofs.entry(self.key, proof)})
