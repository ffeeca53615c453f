"""One worker process for many models: importing TensorFlow takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process import machine
from gradviz_cli.process.sandbox.environment import scrubbed_environment
from gradviz_cli.process.supervisor import Child


class Pool:
    """A worker that may read all models below a folder, in its real sandbox; started anew when a model was its end.

    It holds one model at a time: the last that was loaded.
    """

    def __init__(self, folder: Path, scratch: Path, memory_limit: int | None = None):
        self.folder, self.scratch = folder, scratch
        self.memory_limit = memory_limit or machine.memory_limit()
        self.child: Child | None = None
        scratch.mkdir()

    def alive(self) -> Child:
        if self.child is None or not self.child.alive:
            config = {"read": [str(self.folder)], "scratch": str(self.scratch), "memory_limit": self.memory_limit}
            environment = scrubbed_environment(self.scratch)
            self.child = Child("gradviz_cli.worker", config, environment, str(self.scratch))
        return self.child

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Inside, whatever model is loaded is loaded by this worker; closing that model would end it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RemoteModel, "_start", lambda model, *_: self.alive())
            yield

    def close(self) -> None:
        if self.child is not None:
            self.child.close()
