"""One worker process for many models and runs: importing TensorFlow takes longer than most of them."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from gradviz_cli.cli import main
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process import machine
from gradviz_cli.process.sandbox.environment import scrubbed_environment
from gradviz_cli.process.supervisor import Child


class Pool:
    """A worker that may read all models below a folder, in its real sandbox; started anew when a model was its end.

    It holds one model at a time: the last that was loaded.
    """

    def __init__(self, folder: Path, scratch: Path, memory_limit: int | None = None, also: Sequence[Path] = ()):
        self.folder, self.scratch, self._read = folder, scratch, [str(folder), *map(str, also)]
        self.memory_limit = memory_limit or machine.memory_limit()
        self.child: Child | None = None
        scratch.mkdir()

    def alive(self) -> Child:
        if self.child is None or not self.child.alive:
            config = {"read": self._read, "scratch": str(self.scratch), "memory_limit": self.memory_limit}
            environment = scrubbed_environment(self.scratch)
            self.child = Child("gradviz_cli.worker", config, environment, str(self.scratch))
        return self.child

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Inside, whatever model is loaded is loaded by this worker, which outlives it."""
        self.alive()  # by this thread: a child ends with the thread that started it
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RemoteModel, "_start", lambda model, *_, **__: self._lent(model))
            yield

    def _lent(self, model: RemoteModel) -> Child:
        """The worker, which outlives the model also where that is closed or forgotten later, maybe while another one asks."""
        model.close = lambda: None
        return self.alive()

    def gradviz(
        self, *arguments: str | os.PathLike, cwd: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        """The command in this process, with this worker: for what is asked of its pictures rather than of its process."""
        stdout, stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        words = [os.fspath(argument) for argument in arguments]
        with self.serving(), pytest.MonkeyPatch.context() as patch:
            patch.chdir(cwd)
            patch.setenv("GRADVIZ_EXPLAIN_PROOF", "never")  # what it takes is asked elsewhere
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            with redirect_stdout(stdout), redirect_stderr(stderr):
                code = main(words)
        said = [stream.buffer.getvalue().decode() for stream in (stdout, stderr)]
        return subprocess.CompletedProcess(words, int(code), *said)

    def close(self) -> None:
        if self.child is not None:
            self.child.close()
