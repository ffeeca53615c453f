"""A proof is remembered for as long as nothing that it is true of has changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.batch.manifest import MANIFEST, Manifest
from gradviz_cli.batch.proofs import Proofs
from gradviz_cli.model import proofs
from gradviz_cli.plan.plan import Plan
from gradviz_cli.plan.results import Result
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import WITNESSES, ModelOptions, Proof, Witness

SEEN = tuple(Witness(name, 1e-7, 1e-4) for name in WITNESSES)
PROOF = Proof(SEEN, ("batch_norm",), True, ("mind that",))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(ModelOptions("birds"), tmp_path)


def kept(plan: Plan, fingerprint: str = "f", proof: Proof | None = PROOF) -> None:
    manifest = Manifest(plan.out)
    Proofs(plan, fingerprint, manifest).keep(proof)
    manifest.add(Result("a.jpg", "written"))
    manifest.close()


def before(plan: Plan, fingerprint: str = "f") -> Proof | None:
    manifest = Manifest(plan.out)
    found = Proofs(plan, fingerprint, manifest).before()
    manifest.close()
    return found


def test_it_is_found_again(plan: Plan) -> None:
    assert before(plan) is None
    kept(plan, proof=None)
    assert before(plan) is None
    kept(plan)
    assert before(plan) == PROOF


def test_the_last_one_counts(plan: Plan) -> None:
    kept(plan)
    other = replace(PROOF, alone=False)
    kept(plan, proof=other)
    assert before(plan) == other


def test_another_model_or_another_question_has_none(plan: Plan) -> None:
    kept(plan)
    assert before(plan, "g") is None
    assert before(replace(plan, model=ModelOptions("birds", score="output"))) is None
    assert before(replace(plan, model=ModelOptions("moved"))) == PROOF, "where it lies is no matter"


@pytest.mark.parametrize("proof", ["always", "never"])
def test_who_asks_for_something_else_gets_it(plan: Plan, proof: str) -> None:
    kept(plan)
    assert before(replace(plan, proof=proof)) is None


@pytest.mark.parametrize("changed", ["version", "machine"])
def test_another_program_or_machine_has_none(plan: Plan, changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(plan)
    if changed == "version":
        monkeypatch.setattr(proofs, "__version__", "99")
    else:
        monkeypatch.setattr(machine, "processor", lambda: "flags: none")
    assert before(plan) is None


@pytest.mark.parametrize("step", ["mark", "strided_points", "logits"])
def test_a_step_that_has_to_be_there_is_not_left_out(plan: Plan, step: str) -> None:
    """Whoever wrote the line: guided maps would be plain gradients."""
    kept(plan)
    file = plan.out / MANIFEST
    file.write_text(file.read_text().replace('"batch_norm"', f'"{step}"'))
    assert before(plan) is None


def test_a_witness_that_failed_without_a_word_is_not_believed(plan: Plan) -> None:
    kept(plan, proof=Proof(SEEN))
    assert before(plan) == Proof(SEEN)
    file = plan.out / MANIFEST
    file.write_text(file.read_text().replace('"failed": false', '"failed": true', 1))
    assert before(plan) is None


def test_what_could_not_be_asked_is_asked_again(plan: Plan) -> None:
    kept(plan, proof=Proof((Witness("forward", said="not run"),), warnings=("could not be proved",)))
    assert before(plan) is None


@pytest.mark.parametrize(
    "found", [None, 3, {}, {"witnesses": 3}, {"witnesses": [], "without": "x", "alone": False, "warnings": []}]
)
def test_what_is_no_proof_is_not_believed(plan: Plan, found: object) -> None:
    kept(plan)
    file = plan.out / MANIFEST
    line = json.loads(file.read_text())
    line["proved"]["found"] = found
    file.write_text(json.dumps(line) + "\n")
    assert before(plan) is None
