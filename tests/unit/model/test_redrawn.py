"""Kernels that are random stay random when a worker takes another's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.model.test_sealed import LOADED, write

from gradviz_cli.errors import ImageError, ModelUnusable
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process.protocol import Explain, Explained, Load, ModelOptions, Redraw, Redrawn, expected_arrays
from gradviz_cli.process.supervisor import ChildLost

KERNELS = ("top", "bottom")
SHAPE = (*LOADED.facts.size, LOADED.facts.channels)


class Worker:
    """Hears what it is asked, and is gone with its first image."""

    alive, ready, stderr, loads = True, True, "", 0

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.lost = False

    def request(self, message, kind, arrays=(), timeout=None, most=0):
        self.heard.append(message)
        if isinstance(message, Load):
            return LOADED, ()
        if isinstance(message, Redraw):
            return Redrawn(KERNELS), ()
        if not self.lost:
            self.lost = True
            raise ChildLost("crash", "gone")
        found = [np.zeros(shape, dtype) for dtype, shape in expected_arrays(message, len(arrays[0]), SHAPE)]
        found[0][:, 0] = message.targets if message.own else message.targets[0]
        return Explained(), tuple(found)

    def close(self) -> None: ...


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr(RemoteModel, "_start", lambda *_, **__: worker)
    return worker


@pytest.fixture
def model(tmp_path: Path, worker: Worker) -> RemoteModel:
    model = RemoteModel(ModelOptions(str(write(tmp_path / "model", b"a graph"))), ("backprop",), redrawn=True)
    model.load()
    return model


def test_the_next_worker_draws_them_too(model: RemoteModel, worker: Worker) -> None:
    assert worker.heard[0].redrawn and model.redraw(1) == KERNELS
    (found,) = model.explain(np.zeros((1, *SHAPE), np.float32), Explain((0,), ("backprop",)))
    assert isinstance(found, ImageError)
    assert [type(one).__name__ for one in worker.heard] == ["Load", "Redraw", "Explain", "Load", "Redraw"]
    assert worker.heard[-1] == Redraw(1) and worker.heard[-2].redrawn


def test_parts_of_a_batch_keep_the_classes_of_their_images(model: RemoteModel, worker: Worker) -> None:
    request = Explain((3, 1, 2), ("backprop",), own=True)
    found = list(model.explain(np.zeros((3, *SHAPE), np.float32), request))
    assert [int(row.index[0]) for row in found] == [3, 1, 2]
    asked = [one.targets for one in worker.heard if isinstance(one, Explain)]
    assert asked == [(3, 1, 2), (3,), (1,), (2,)], "one by one, after the batch was lost"


def test_a_worker_that_is_closed_while_it_computes_is_said_to_be_lost(
    model: RemoteModel, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an exception of gradviz's own: Python callers are told then who closed it."""

    def closed(*arguments, **named):
        model.close()
        raise ChildLost("memory", "gone")

    monkeypatch.setattr(worker, "request", closed)
    with pytest.raises(ModelUnusable, match="gone"):
        list(model.explain(np.zeros((1, *SHAPE), np.float32), Explain((0,), ("backprop",))))
