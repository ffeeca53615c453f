"""What the cache remembers of proofs, and what of it is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.files import cache
from gradviz_cli.model import proofs
from gradviz_cli.process.protocol import WITNESSES, ModelOptions, Proof, Witness

PROOF = Proof(tuple(Witness(name, 1e-7, 1e-4) for name in WITNESSES), ("batch_norm",), True, ("mind that",))
KEY = proofs.key_of("f" * 64, ModelOptions("birds"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "_in_use", {})
    return tmp_path / "gradviz"


def test_it_is_found_again_and_the_first_one_stays() -> None:
    assert proofs.known(KEY) is None
    proofs.remember(KEY, PROOF)
    proofs.remember(KEY, replace(PROOF, alone=False))
    assert proofs.known(KEY) == PROOF
    assert proofs.known(proofs.key_of("0" * 64, ModelOptions("birds"))) is None


@pytest.mark.parametrize("proof", [None, Proof((Witness("forward", said="not run"),), warnings=("not proved",))])
def test_what_was_not_asked_is_not_remembered(home: Path, proof: Proof | None) -> None:
    proofs.remember(KEY, proof)
    assert not list(home.glob("proof-*"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        json.dumps(proofs.entry("0" * 64, PROOF)),
        json.dumps(proofs.entry(KEY, PROOF)).replace('"batch_norm"', '"mark"'),
        json.dumps(proofs.entry(KEY, replace(PROOF, warnings=()))).replace('"failed": false', '"failed": true', 1),
        json.dumps(proofs.entry(KEY, replace(PROOF, witnesses=PROOF.witnesses[1:]))),
    ],
)
def test_what_is_no_proof_is_not_believed(home: Path, text: str) -> None:
    proofs.remember(KEY, PROOF)
    (home / f"proof-{KEY}" / "proof.json").write_text(text)
    assert proofs.known(KEY) is None


def test_without_a_cache_nothing_is_remembered_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    proofs.remember(KEY, PROOF)
    assert proofs.known(KEY) is None


def test_a_folder_that_others_may_write_is_not_believed(home: Path) -> None:
    proofs.remember(KEY, PROOF)
    home.chmod(0o777)
    assert proofs.known(KEY) is None


def test_it_is_of_this_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proofs._code.cache_clear()
    monkeypatch.setattr(proofs, "__file__", str(tmp_path / "model" / "proofs.py"))
    assert proofs.key_of("f" * 64, ModelOptions("birds")) != KEY
    proofs._code.cache_clear()
