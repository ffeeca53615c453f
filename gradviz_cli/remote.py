"""The model as the command sees it: a worker process behind `load` and `explain`, replaced when it dies or hangs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradviz_cli import errors, peek
from gradviz_cli.errors import ImageError, ModelRefused, ModelUnusable
from gradviz_cli.plan import ModelOptions
from gradviz_cli.supervisor import Child, ChildLost
from gradviz_cli.worker import sandbox

# A model that loads is not timed by the image: a large one on a slow disk may take minutes.
LOAD_TIMEOUT = 300.0
# So many different images in a row, each alone with a fresh worker, are no accident of the images.
STRIKES = 3


@dataclass(frozen=True)
class Row:
    """What the worker found for one image: [t] per target, gradients by mode [t, h, w, c] in the model's channel order."""

    index: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    output: np.ndarray
    gradients: dict[str, np.ndarray]


@dataclass(frozen=True)
class Facts:
    """What the worker said of the model when it had loaded it (see worker.model.Facts)."""

    values: dict[str, Any]
    seconds: dict[str, float]
    sandbox: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


class RemoteModel:
    """A model in a worker process. Not for several threads at once; `close` may come from any."""

    def __init__(self, options: ModelOptions, modes: Sequence[str], timeout: float | None = None):
        self._options, self._modes, self._timeout = options, tuple(modes), timeout
        self._scratch = tempfile.mkdtemp(prefix="gradviz-")
        self._child: Child | None = None
        self._closed = False
        self._strikes = 0
        self.largest: int | None = None  # the batch that fitted into memory, once one did not

    def load(self) -> Facts:
        """Start the worker and load the model.

        Raises
        ------
        ModelUnusable, ModelRefused, UsageError
            As the worker says; or it died or hung while it loaded.
        """
        answer = self._begin("load")
        return Facts(answer["facts"], answer["seconds"], answer["sandbox"])

    def inspect(self) -> dict[str, Any]:
        """What the model offers and what would be patched (worker.inspection.inspect); raises as `load`."""
        return self._begin("inspect")["told"]

    def _begin(self, what: str) -> dict[str, Any]:
        """The first request to a worker, which is started for it unless there is one."""
        path = str(Path(self._options.path).resolve())
        if self._child is None:
            config = {"read": [path], "scratch": self._scratch}
            environment = sandbox.scrubbed_environment(self._scratch, _kernels(Path(path)))
            self._child = Child("gradviz_cli.worker", config, environment, self._scratch)
        if self._closed:  # a signal came in between
            self._child.close()
        options = {**asdict(self._options), "path": path, "modes": self._modes}
        try:
            answer, _ = self._child.request({"do": what, "options": options}, timeout=self._load_timeout)
        except ChildLost as lost:
            said = _last_line(self._child.stderr)
            raise ModelUnusable(
                f"{self._options.path}: loading it failed: {lost.message}{f' ({said})' if said else ''}",
                "export the model again, or see what it says with -v",
            ) from lost
        if "error" in answer:
            raise _as_exception(answer["error"], self._options.path)
        return answer

    @property
    def stderr(self) -> str:
        """What the worker said on its standard error."""
        return self._child.stderr if self._child else ""

    @property
    def _load_timeout(self) -> float | None:
        return None if self._timeout is None else max(LOAD_TIMEOUT, 5 * self._timeout) if self._timeout >= 10 else 120.0

    def explain(
        self, images: np.ndarray, targets: Sequence[int], modes: Sequence[str] | None = None
    ) -> list[Row | ImageError]:
        """One outcome for each image [n, h, w, c]; a batch that brings the worker down is halved until the guilty is found."""
        self._modes = self._modes if modes is None else tuple(modes)
        if self.largest is not None and len(images) > self.largest:
            return self._halves(images, targets)
        try:
            outcome = self._ask(images, targets)
        except ChildLost as lost:
            if self._closed:
                raise
            self._replace()
            return self._after_loss(images, targets, lost.kind, lost.message)
        if isinstance(outcome, ImageError):
            return self._after_loss(images, targets, outcome.kind, outcome.message)
        self._strikes = 0
        return outcome

    def _after_loss(self, images: np.ndarray, targets: Sequence[int], kind: str, message: str) -> list[Row | ImageError]:
        if len(images) > 1:
            if kind == "memory":
                self.largest = max(1, len(images) // 2)
            return self._halves(images, targets)
        if kind != "model":
            self._strikes += 1
        if self._strikes >= STRIKES:
            raise ModelUnusable(
                f"{self._options.path}: {message}, on {STRIKES} different images in a row",
                "it is the model and not the images; see -v",
            )
        return [ImageError(kind, message)]

    def _halves(self, images: np.ndarray, targets: Sequence[int]) -> list[Row | ImageError]:
        middle = len(images) // 2
        return self.explain(images[:middle], targets) + self.explain(images[middle:], targets)

    def _ask(self, images: np.ndarray, targets: Sequence[int]) -> list[Row] | ImageError:
        header = {"do": "explain", "targets": list(targets), "modes": self._modes}
        answer, arrays = self._child.request(header, (images,), self._timeout)
        if "error" in answer:
            error = answer["error"]
            if error["class"] in ("Memory", "Failed"):
                return ImageError("memory" if error["class"] == "Memory" else "model", error["message"])
            raise _as_exception(error, self._options.path)
        index, rank, score, output, *gradients = arrays
        return [
            Row(
                index[i],
                rank[i],
                score[i],
                output[i],
                {mode: array[:, i] for mode, array in zip(self._modes, gradients, strict=True)},
            )
            for i in range(len(images))
        ]

    def _replace(self) -> None:
        self._child.close()
        self._child = None
        self.load()

    def close(self) -> None:
        """Kill the worker and remove its scratch folder."""
        self._closed = True
        if self._child is not None:
            self._child.kill()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _kernels(model: Path) -> dict[str, str]:
    """oneDNN's batched matrix product corrupts the heap in gradients of attention (tensorflow#117700): not for such models."""
    return {"TF_ENABLE_ONEDNN_OPTS": "0"} if peek.mentions(model, b"BatchMatMul") else {}


def _as_exception(error: dict[str, str], path: str) -> Exception:
    kind = getattr(errors, error["class"], ModelUnusable)
    message = error["message"]
    if kind in (ModelUnusable, ModelRefused) and path not in message:
        message = f"{path}: {message}"
    raised = kind(message, error["remedy"])
    raised.traceback = error.get("traceback", "")
    return raised


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
