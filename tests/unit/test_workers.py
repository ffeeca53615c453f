"""The worker that many tests share."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from workers import Pool

from gradviz_cli import load
from gradviz_cli.process import wire
from gradviz_cli.process.protocol import Prove, Proved


def test_a_model_that_is_forgotten_does_not_end_it_while_it_is_asked(
    pool: Pool, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pool.serving():
        forgotten: list[object] = [load(model, proof="never")]
    forgotten.append(forgotten)  # until somebody collects garbage
    del forgotten
    send = wire.send

    def sent(*given: object) -> None:
        gc.collect()
        send(*given)

    monkeypatch.setattr(wire, "send", sent)
    answer, _ = pool.alive().request(Prove(), Proved, timeout=60)
    assert isinstance(answer, Proved)
