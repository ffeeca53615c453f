"""Hostile models behind one worker in its real sandbox, and what becomes of them and of what they attack."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from hostile_models import CASES, ODD_FOLDERS, SIDE, Case, World
from workers import Pool

from gradviz_cli.errors import ExitCode, GradvizError, ImageError
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process.protocol import Explain, ModelOptions, Row
from gradviz_cli.process.supervisor import Child

WORD = {ExitCode.USAGE: "usage", ExitCode.MODEL_UNUSABLE: "unusable", ExitCode.MODEL_REFUSED: "refused"}
# A model that eats memory is to meet its end long before this machine does.
LITTLE_MEMORY = 3 * 2**30


class Pooled(RemoteModel):
    """A model behind the worker of a pool."""

    def __init__(self, pool: Pool, path: Path, timeout: float = 20.0, **options):
        super().__init__(ModelOptions(str(path), **options), ("backprop",), timeout)
        self.pool = pool

    def _start(self, path: str, files: list[Path], ahead: bool = False) -> Child:
        return self.pool.alive()


def written(case: Case, w: World, name: str = "") -> Path:
    """The case's model, and no canary that writing it may have left."""
    folder = w.models / (name or case.name)
    if not folder.exists():
        case.write(folder, w)
    clear(w)
    return folder


def clear(w: World) -> None:
    for canary in w.canaries.iterdir():
        shutil.rmtree(canary) if canary.is_dir() else canary.unlink()


def named(name: str) -> Case:
    return next(case for case in (*CASES, *ODD_FOLDERS) if case.name == name)


def outcome(model: RemoteModel) -> tuple[str, str]:
    """(`runs`, `fails`, `unusable`, `refused` or `usage`, what was said)."""
    try:
        model.load()
        row = explained(model)
    except GradvizError as error:
        return WORD[error.code], str(error)
    return ("fails", f"{row.kind}: {row.message}") if isinstance(row, ImageError) else ("runs", "")


def explained(model: RemoteModel) -> Row | ImageError:
    """What becomes of one image."""
    return list(model.explain(picture(), Explain((-1,), ("backprop",))))[0]


def picture() -> np.ndarray:
    return np.random.default_rng(0).random((1, SIDE, SIDE, 3)).astype(np.float32)


def assert_unharmed(w: World) -> None:
    assert not list(w.canaries.iterdir())
    assert w.secret.read_text() == "31337"
    assert not w.connected()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", w.free_port), 1).close()
