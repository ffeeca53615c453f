"""Proofs that this user's cache remembers, so that a model is proved once and not for every output folder or program.

They are of a model with options that settle how it is read, and of programs and a machine like these.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from gradviz_cli.files import cache as kept
from gradviz_cli.files.reading import head
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import ModelOptions, NotUnderstood, Proof, from_json
from gradviz_cli.process.sandbox.environment import ONEDNN
from gradviz_cli.version import __version__

# Of the packages that compute; TensorFlow comes under several names.
PACKAGES = (
    *("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-macos", "tensorflow-rocm", "tensorflow-intel"),
    *("intel-tensorflow", "numpy"),
)
_FILE = "proof.json"
_LONGEST = 2**20  # bytes


def key_of(fingerprint: str, options: ModelOptions) -> str:
    """A hash over all that a proof is true of, which is not where the model lies."""
    asked = asdict(options)
    del asked["path"]
    versions = [__version__, _code(), *map(version, PACKAGES)]
    computes = [machine.processor(), machine.gpus(), os.environ.get(ONEDNN)]
    facts = json.dumps([fingerprint, asked, versions, computes], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()


@cache
def version(package: str) -> str | None:
    """Of a package that is installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _code() -> str:
    """Of what was proved right: a checkout and its installations have one version for a long time."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].glob("worker/**/*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def entry(key: str, proof: Proof) -> dict[str, Any]:
    """A proof as it is written down."""
    return {"key": key, "found": asdict(proof)}


def believed(said: Any, key: str) -> Proof | None:
    """What was written down, if it is the proof of that key, and one in which all was asked: anyone may have written it."""
    if not isinstance(said, Mapping) or said.get("key") != key:
        return None
    try:
        proof: Proof = from_json(Proof, said.get("found"))
    except NotUnderstood:
        return None
    return proof if proof.complete else None


def known(key: str) -> Proof | None:
    """What the cache remembers."""
    with suppress(OSError, ValueError, RecursionError):
        if folder := kept.found(_name(key)):
            return believed(json.loads(head(folder / _FILE, _LONGEST)), key)
    return None


def remember(key: str, proof: Proof | None) -> None:
    """Keep one in the cache, where there is a cache to be had."""
    if proof is None or not proof.complete:
        return

    def fill(folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(entry(key, proof)), "utf-8")

    with suppress(OSError):
        kept.keep(_name(key), fill)


def _name(key: str) -> str:
    return f"proof-{key}"
