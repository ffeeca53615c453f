"""Proofs that OUT's manifest remembers, so that a model is proved once and not in every run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from importlib import metadata
from typing import Any

from gradviz_cli.batch import manifest
from gradviz_cli.batch.known import PROVED
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.plan.plan import Plan
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import NotUnderstood, Proof, from_json
from gradviz_cli.version import __version__

# Of the packages that compute; TensorFlow comes under several names.
PACKAGES = (
    *("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-macos", "tensorflow-rocm", "tensorflow-intel"),
    *("intel-tensorflow", "numpy"),
)


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
        return self._given or self._key()

    def before(self) -> Proof | None:
        """What an earlier run found, if the model need not be proved again."""
        if self._plan.proof != "auto":
            return None
        key, found = self.key, None
        with suppress(OSError):  # then it is proved anew
            for line in manifest.read(self._plan.out, holding=f'"key": "{key}"'):
                found = _proof(line.get(PROVED), key) or found
        return found

    def keep(self, proof: Proof | None) -> None:
        """Let the next line hold what was found now."""
        if proof is not None and proof.complete:
            self._manifest.note({PROVED: {"key": self.key, "found": asdict(proof)}})

    def _key(self) -> str:
        options = asdict(self._plan.model)
        del options["path"]
        versions = [__version__, *map(version, PACKAGES), machine.processor(), machine.gpus()]
        facts = json.dumps([self._fingerprint, options, versions], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()


def version(package: str) -> str | None:
    """Of a package that is installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _proof(said: Any, key: str) -> Proof | None:
    """A proof, if this is one: a manifest may have been written by anyone."""
    if not isinstance(said, Mapping) or said.get("key") != key:
        return None
    try:
        proof: Proof = from_json(Proof, said.get("found"))
    except NotUnderstood:
        return None
    return proof if proof.complete else None
