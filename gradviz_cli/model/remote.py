"""The model as the command sees it: a worker process behind `load` and `explain`, replaced when it dies or hangs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gradviz_cli import errors
from gradviz_cli.errors import ImageError, ModelRefused, ModelUnusable
from gradviz_cli.files.scratch import Scratch
from gradviz_cli.images.preprocess import PREPROCESS
from gradviz_cli.model import fingerprint, peek
from gradviz_cli.process import wire
from gradviz_cli.process.machine import _memory_limit
from gradviz_cli.process.protocol import Facts, ModelOptions, Row
from gradviz_cli.process.sandbox.environment import scrubbed_environment
from gradviz_cli.process.supervisor import Child, ChildLost

# A model that loads is not timed by the image: TensorFlow has to start, and a large file on a slow disk takes its time.
LOAD_TIMEOUT = 60.0
SLOW_DISK = 20 * 2**20  # bytes a second
# A larger input is no picture but an attempt to exhaust what reads it. 67 million pixels are 8192 x 8192.
MAX_INPUT_PIXELS = 2**26
# What a worker may leave in its scratch folder; TensorFlow writes a few kilobytes there.
MAX_SCRATCH = 2**28
LONGEST = 1000  # characters of a message
# More files than this are granted by their folders: a command line has an end.
MAX_GRANTS = 200
# So many different images in a row, each alone with a fresh worker, are no accident of the images.
STRIKES = 3


class RemoteModel:
    """A model in a worker process. Not for several threads at once; `close` may come from any."""

    def __init__(
        self,
        options: ModelOptions,
        modes: Sequence[str],
        timeout: float | None = None,
        require_sandbox: bool = False,
        targets: int = 1,
        scores: bool = True,
    ):
        """`targets`: how many will be asked for at once; `scores`: give them and ranks (see worker.gradient)."""
        self._options, self._modes, self._timeout = options, tuple(modes), timeout
        self._targets, self._scores = targets, scores
        self._require_sandbox = require_sandbox
        self._scratch = Scratch()
        self._child: Child | None = None
        self._shape: tuple[int, int, int] = (0, 0, 0)  # of one image, once loaded
        self._closed = False
        self._strikes = 0
        self._accidents = 0
        self.largest: int | None = None  # the batch that fits into memory and time, once one did not

    def load(self) -> Facts:
        """Start the worker and load the model.

        Raises
        ------
        ModelUnusable, ModelRefused, UsageError
            As the worker says; or it died or hung while it loaded; or `require_sandbox` and there is none.
        """
        answer = self._begin("load")
        try:
            facts = _believed(answer)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._unusable(self._child.nonsense(f"{type(error).__name__}: {error}")) from error
        self._shape = (*facts.size, facts.channels)
        return facts

    def inspect(self) -> dict[str, Any]:
        """What the model offers and what would be patched (worker.inspection.inspect); raises as `load`."""
        told = self._begin("inspect").get("told")
        if not isinstance(told, dict):
            raise self._unusable(self._child.nonsense("it did not say what it found"))
        return told

    def _begin(self, what: str) -> dict[str, Any]:
        """The first request to a worker, which is started for it unless there is one."""
        path, files = _located(self._options.path)
        if self._child is None:
            self._child = self._start(path, files)
        if self._closed:  # a signal came in between
            self._child.close()
        options = {**asdict(self._options), "path": path, "modes": self._modes, "targets": self._targets}
        header = {"do": what, "options": options, "require_sandbox": self._require_sandbox}
        try:
            answer, _ = self._child.request(header, timeout=self._load_timeout(files), most=0)
        except ChildLost as lost:
            raise self._unusable(lost) from lost
        if "error" in answer:
            raise _as_exception(answer["error"], self._options.path)
        return answer

    def _start(self, path: str, files: Sequence[Path]) -> Child:
        read = sorted({str(file) for file in files})
        if len(read) > MAX_GRANTS:
            read = sorted({os.path.dirname(file) for file in read})
        config = {"read": read, "scratch": self._scratch.path, "memory_limit": _memory_limit()}
        environment = scrubbed_environment(self._scratch.path, _kernels(Path(path)))
        try:
            return Child("gradviz_cli.worker", config, environment, self._scratch.path, self._look_after)
        except ChildLost as lost:
            raise ModelUnusable(
                f"{self._options.path}: {lost.message}", "free memory, or raise ulimit -u and -n"
            ) from lost

    def _look_after(self) -> str | None:
        """Why the worker must end, if it must."""
        if _usage(self._scratch.path) > MAX_SCRATCH:
            return f"the worker wrote more than {MAX_SCRATCH >> 20} MiB of temporary files"
        return None

    def _unusable(self, lost: ChildLost) -> ModelUnusable:
        said = _last_line(self._child.stderr)
        remedy = "export the model again, or see what it says with -v"
        if lost.kind == "timeout":
            remedy = "if it is very large or the disk very slow, raise --timeout; loading is given five times as long"
        if lost.kind == "memory":
            remedy = "free memory, or take a machine with more"
        text = f"{self._options.path}: loading it failed: {lost.message}{f' ({said})' if said else ''}"
        return ModelUnusable(text, remedy)

    @property
    def stderr(self) -> str:
        """What the worker said on its standard error."""
        return self._child.stderr if self._child else ""

    def _load_timeout(self, files: Sequence[Path]) -> float | None:
        if self._timeout is None:
            return None
        return LOAD_TIMEOUT + 5 * self._timeout + sum(map(_size, files)) / SLOW_DISK

    def explain(
        self, images: np.ndarray, targets: Sequence[int], modes: Sequence[str] | None = None
    ) -> Iterator[Row | ImageError]:
        """One outcome for each image [n, h, w, c], in order; a batch that brings the worker down is taken apart.

        Raises
        ------
        ModelUnusable
            After the outcomes that were found: the model, not the images, is at fault.
        """
        self._modes = self._modes if modes is None else tuple(modes)
        start = 0
        while start < len(images):
            end = start + (self.largest or len(images))
            yield from self._part(images[start:end], targets)
            start = end

    def _part(self, images: np.ndarray, targets: Sequence[int]) -> Iterator[Row | ImageError]:
        outcome = self._outcome(images, targets)
        if not isinstance(outcome, ImageError):
            self._strikes = 0
            yield from outcome
        elif len(images) == 1:
            yield outcome
            self._strike(outcome)
        else:
            yield from self._taken_apart(images, targets, outcome)

    def _outcome(self, images: np.ndarray, targets: Sequence[int]) -> list[Row] | ImageError:
        if not self._child.alive and not self._closed:  # it ended while it had nothing to do: no image's fault
            self._replace()
        try:
            return self._ask(images, targets)
        except ChildLost as lost:
            if self._closed:
                raise
            self._replace()
            hint = f"{lost.message}; see --timeout" if lost.kind == "timeout" else lost.message
            return ImageError(lost.kind, hint)

    def _taken_apart(self, images: np.ndarray, targets: Sequence[int], why: ImageError) -> Iterator[Row | ImageError]:
        """The outcomes of a batch that failed as a whole.

        A crash or a hang costs a new worker each time, so the guilty image is looked for one by one; a batch that was too
        large is halved.
        """
        half = -(-len(images) // 2)
        step, start, innocent = (1 if why.kind in ("crash", "timeout") else half), 0, True
        while start < len(images):
            end = start + min(
                step, self.largest or step
            )  # TensorFlow waits ten seconds for memory: no more often than needed
            for found in self._part(images[start:end], targets):
                innocent &= isinstance(found, Row)
                yield found
            start = end
        if innocent:  # each fits by itself; a single crash may have been an accident
            self._accidents += 1
            if why.kind != "crash" or self._accidents > 1:
                self.largest = min(half, self.largest or half)

    def _strike(self, outcome: ImageError) -> None:
        """Count an image that brought the worker down alone."""
        if outcome.kind != "model":
            self._strikes += 1
        if self._strikes >= STRIKES:
            raise ModelUnusable(
                f"{self._options.path}: {outcome.message}, on {STRIKES} different images in a row",
                "it is the model and not the images, or move these images away; see -v",
            )

    def _ask(self, images: np.ndarray, targets: Sequence[int]) -> list[Row] | ImageError:
        header = {"do": "explain", "targets": list(targets), "modes": self._modes, "scores": self._scores}
        expected = self._expected(len(images), len(targets))
        most = sum(4 * int(np.prod(shape)) for _, shape in expected)
        answer, arrays = self._child.request(header, (images,), self._timeout, most)
        if "error" in answer:
            error = answer["error"]
            kind = error.get("class") if isinstance(error, dict) else None
            if kind in ("Memory", "Failed"):
                return ImageError("memory" if kind == "Memory" else "model", _short(error.get("message")))
            raise _as_exception(error, self._options.path)
        if [(array.dtype.name, array.shape) for array in arrays] != expected:
            raise self._child.nonsense("not the arrays that were asked for")
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

    def _expected(self, count: int, targets: int) -> list[tuple[str, tuple[int, ...]]]:
        """(dtype, shape) of every array of an answer: index, rank, score, output, a gradient for each mode."""
        columns = [(dtype, (count, targets)) for dtype in ("int32", "int32", "float32", "float32")]
        return columns + [("float32", (targets, count, *self._shape))] * len(self._modes)

    def _replace(self) -> None:
        self._child.close()
        self._child = None
        self.load()

    def close(self) -> None:
        """Kill the worker and remove its scratch folder."""
        self._closed = True
        if self._child is not None:
            self._child.close()
        self._scratch.close()


_FACTS = {
    *("signature", "why", "input", "output", "score", "bypassed", "channel", "classes", "size", "channels"),
    *("preprocess", "activations", "gates", "custom_gradients", "warnings"),
}


def _believed(answer: dict[str, Any]) -> Facts:
    """The answer to `load` as Facts; what others rely on is looked at, for a worker that a model took over may lie.

    Raises
    ------
    ModelRefused
        The model wants images of an absurd size.
    LookupError, TypeError, ValueError, AttributeError
        It is no such answer.
    """
    facts, seconds, confined = answer["facts"], answer["seconds"], answer["sandbox"]
    missing = _FACTS - set(facts)
    if missing:
        raise ValueError(f"no {min(missing)}")
    height, width = facts["size"]
    if not all(isinstance(number, int) and number > 0 for number in (height, width, facts["channels"])):
        raise ValueError("an input without size")
    if height * width > MAX_INPUT_PIXELS:
        raise ModelRefused(
            f"the model's input is {height}x{width} pixels, which no picture needs", "settle it with --input-size HxW"
        )
    known = facts["channels"] in (1, 3, 4) and facts["preprocess"] in PREPROCESS
    known = known and confined["level"] in ("full", "partial", "none")
    counts = [count for pair in facts["activations"].values() for count in pair]
    numbers = [*counts, facts["gates"], facts["custom_gradients"], *seconds.values()]
    texts = [*facts["warnings"], *confined["missing"]]
    if not known or not all(isinstance(n, int | float) for n in numbers) or not all(isinstance(t, str) for t in texts):
        raise ValueError("values that gradviz does not know")
    return Facts(facts, seconds, confined)


def _located(path: str) -> tuple[str, list[Path]]:
    """The model's real folder, and the real files that its worker may read: the graph and the weights.

    Links are followed, as in a download cache whose files are links to a store of blobs elsewhere.
    """
    try:
        folder = Path(path).resolve(strict=True)
        graphs = [folder / name for name in fingerprint.GRAPHS if os.path.lexists(folder / name)]
        weights = sorted((folder / "variables").glob("variables.*"))
        for file in graphs:
            fingerprint.insist_on_plain(file)
        return str(folder), [file.resolve() for file in [*graphs, *weights] if file.is_file()]
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        reason = getattr(error, "strerror", None) or error
        raise ModelUnusable(f"{path} cannot be read: {reason}", "check the path and its permissions") from error


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _usage(folder: str) -> int:
    """Bytes of what lies below a folder, each entry at least a block."""
    total = 0
    for base, folders, names in os.walk(folder):
        for name in (*folders, *names):
            try:
                status = os.lstat(os.path.join(base, name))
            except OSError:
                continue
            total += max(4096, status.st_blocks * 512 if stat.S_ISREG(status.st_mode) else 0)
            if total > MAX_SCRATCH:
                return total
    return total


def _kernels(model: Path) -> dict[str, str]:
    """oneDNN's batched matrix product corrupts the heap in gradients of attention (tensorflow#117700): not for such models."""
    return {"TF_ENABLE_ONEDNN_OPTS": "0"} if peek.mentions(model, b"BatchMatMul") else {}


def _as_exception(error: Any, path: str) -> Exception:
    """What the worker says went wrong, as the exception that it was there."""
    error = error if isinstance(error, dict) else {}
    if error.get("class") == "Bug":
        return RuntimeError(f"in the worker: {_short(error.get('message'))}")
    kind = {each.__name__: each for each in (errors.UsageError, ModelRefused)}.get(error.get("class"), ModelUnusable)
    message = _short(error.get("message"))
    if kind in (ModelUnusable, ModelRefused) and path not in message:
        message = f"{path}: {message}"
    raised = kind(message, _short(error.get("remedy")))
    told = error.get("traceback")
    raised.traceback = "\n".join(map(str, told)) if isinstance(told, list) else ""
    return raised


def _short(text: Any) -> str:
    """A text of a length that a person reads."""
    text = text if isinstance(text, str) else ""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 100]} ... {text[-80:]}"


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return wire.plain(lines[-1][:200]) if lines else ""
