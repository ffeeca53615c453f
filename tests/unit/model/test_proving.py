"""A model that is to be proved begins that while it loads; a worker that is lost over it is no reason to refuse the model."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.model.test_sealed import LOADED, write

from gradviz_cli.errors import ModelUnusable, ProofFailed
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import Failure, Load, ModelOptions, Proof, Prove, Proved, Tried, Try
from gradviz_cli.process.supervisor import ChildLost

CRASH, HUNG = ChildLost("crash", "gone"), ChildLost("timeout", "no answer")
SHORT = Failure("Memory", "memory ran out", "")


class Worker:
    """Says these things to the first requests to load a model."""

    alive, ready, stderr = True, True, ""

    def __init__(self, *says: object, tries: object = None) -> None:
        self.says, self.heard, self.tries = list(says), [], tries

    def request(self, message, kind, arrays=(), timeout=None, most=0):
        self.heard.append(message)
        if isinstance(message, Prove):
            return Proved(Proof(())), ()
        if isinstance(message, Try) and not self.tries:
            return Tried(), ()
        if isinstance(message, Try):
            self.says, self.tries = [self.tries, *self.says], None
        said = self.says.pop(0) if self.says else LOADED
        if isinstance(said, Exception):
            raise said
        return said, ()

    def close(self) -> None: ...

    @property
    def proving(self) -> list[bool]:
        return [one.proving for one in self.heard if isinstance(one, Load)]


def loaded(worker: Worker, folder: Path, monkeypatch, proof: Proof | None = None, **asked) -> RemoteModel:
    monkeypatch.setattr(RemoteModel, "_start", lambda *_, **__: worker)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    model = RemoteModel(ModelOptions(str(write(folder / "model", b"a graph"))), ("backprop",), **asked)
    model.load(proof)
    return model


@pytest.mark.parametrize(
    ("asked", "begins"),
    [({"prove": "auto"}, True), ({"prove": "auto", "proof": Proof(())}, False), ({"prove": "never"}, False)],
)
def test_it_begins_where_a_proof_is_to_come(asked: dict, begins: bool, tmp_path: Path, monkeypatch) -> None:
    worker = Worker()
    loaded(worker, tmp_path, monkeypatch, **asked)
    assert worker.proving == [begins]


@pytest.mark.parametrize("first", [CRASH, SHORT])
def test_a_worker_that_is_lost_meanwhile_is_replaced_by_one_that_proves_later(first, tmp_path, monkeypatch) -> None:
    worker = Worker(first)
    assert loaded(worker, tmp_path, monkeypatch, prove="auto").proof == Proof(())
    assert worker.proving == [True, False]


@pytest.mark.parametrize(("says", "proving"), [((CRASH, CRASH), [True, False]), ((HUNG,), [True])])
def test_a_model_that_does_not_load_is_refused(says, proving: list[bool], tmp_path: Path, monkeypatch) -> None:
    worker = Worker(*says)
    with pytest.raises(ModelUnusable):
        loaded(worker, tmp_path, monkeypatch, prove="auto")
    assert worker.proving == proving


@pytest.mark.parametrize(("tries", "loads"), [(None, 1), (SHORT, 1), (CRASH, 2), (HUNG, 2)])
def test_a_trial_that_says_nothing_of_the_model_is_no_reason_to_refuse_it(
    tries, loads: int, tmp_path, monkeypatch
) -> None:
    worker = Worker(tries=tries)
    loaded(worker, tmp_path, monkeypatch, prove="auto").try_gradient()
    assert sum(isinstance(one, Load) for one in worker.heard) == loads
    assert sum(isinstance(one, Prove) for one in worker.heard) == 1


def test_a_gradient_that_this_machine_cannot_compute_is_said_of_the_model(tmp_path: Path, monkeypatch) -> None:
    lacks = Failure("ProofFailed", "TensorFlow cannot compute the gradient of node groups", "try another --output")
    model = loaded(Worker(tries=lacks), tmp_path, monkeypatch, prove="auto")
    with pytest.raises(ProofFailed, match="node groups"):
        model.try_gradient()
