"""The model as the command sees it: a worker process behind `load` and `explain`, replaced when it dies or hangs."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from gradviz_cli.errors import GradvizError, ImageError, ModelRefused, ModelUnusable, ProofFailed, UsageError
from gradviz_cli.estimators import USUAL, Estimation, Taps, kinds_of
from gradviz_cli.files.scratch import Scratch, overfull
from gradviz_cli.files.text import plain, shortened
from gradviz_cli.images.preprocess import preset_of
from gradviz_cli.model import fingerprint, forms
from gradviz_cli.model.fingerprint import Seal, State
from gradviz_cli.model.kinds import GRAPHS, HDF5, KERAS
from gradviz_cli.model.recovery import Recovery
from gradviz_cli.plan.plan import Plan
from gradviz_cli.process import machine
from gradviz_cli.process.protocol import (
    Convert,
    Converted,
    Explain,
    Explained,
    Failure,
    Inspect,
    Inspected,
    Inspection,
    Load,
    Loaded,
    ModelOptions,
    Proof,
    Prove,
    Proved,
    Redraw,
    Redrawn,
    Row,
    Tried,
    Try,
    Witness,
    check_arrays,
    check_map,
    check_size,
    expected_arrays,
    rows,
    size_of,
)
from gradviz_cli.process.sandbox.environment import scrubbed_environment
from gradviz_cli.process.supervisor import Child, ChildLost

Answer = TypeVar("Answer", Loaded, Inspected)
Said = TypeVar("Said", Loaded, Inspected, Converted)

# A model that loads is not timed by the image: TensorFlow has to start, and a large file on a slow disk takes its time.
LOAD_TIMEOUT = 60.0
PROOF_TIMEOUT = 20.0  # and a part of that of an image: one that never ends is to be told by the image soon
SLOW_DISK = 20 * 2**20  # bytes a second
# What a worker may leave in its scratch folder; TensorFlow writes a few kilobytes there.
MAX_SCRATCH = 2**28
MAX_GRAPH = 2**31  # bytes; no protocol buffer holds more
LINKS = {KERAS: "keras", HDF5: "h5"}  # how the name of a file of Keras ends
# More files than this are granted by their folders: a command line has an end.
MAX_GRANTS = 200
# How often a model is read whose files are touched meanwhile.
READINGS = 3


@dataclass(frozen=True, eq=False)
class Batch:
    """Images [n, h, w, c], what else goes to the worker with them, and their classes where each has its own."""

    arrays: tuple[np.ndarray, ...]
    classes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, part: slice) -> Batch:
        return Batch(tuple(array[part] for array in self.arrays), self.classes[part])


class RemoteModel:
    """A model in a worker process. Not for several threads at once; `close` may come from any.

    Parameters
    ----------
    methods, targets : sequence of str, int
        What gradients are built for when it is loaded: modes or methods, and how many targets will be asked for at once.
    timeout : float, optional
        Seconds for one request of `explain`; loading is given five times as long and more. None: no end.
    verify : bool
        Let the worker verify the graph after each step of the compiler, to find out which one is at fault.
    prove : str
        One of PROOFS: let it prove the model before the first image, unless `load` is told what was found before.
    estimation : Estimation
        Which inner tensors the methods are made of.
    redrawn : bool
        Its kernels will be drawn anew (`redraw`).
    together : int, optional
        Images that share a call on a GPU.
    """

    def __init__(
        self,
        options: ModelOptions,
        methods: Sequence[str],
        timeout: float | None = None,
        require_sandbox: bool = False,
        targets: int = 1,
        verify: bool = False,
        prove: str = "never",
        estimation: Estimation = USUAL,
        redrawn: bool = False,
        together: int | None = None,
    ):
        self._seal: Seal | None = None
        self._load = Load(
            options,
            tuple(methods),
            targets,
            require_sandbox,
            verify,
            estimation=estimation,
            redrawn=redrawn,
            together=together,
        )
        self._drawn: int | None = None  # kernels that are random by now
        self._prove = prove
        self._timeout = timeout
        self._scratch: Scratch | None = None
        self._guard = threading.Lock()
        self._child: Child | None = None
        self._home: Path | None = None  # the folder or graph that the model's path stands for, once that was asked
        self._shape: tuple[int, int, int] = (0, 0, 0)  # of one image, once loaded
        self._taps: tuple[Taps, ...] = ()
        self._closed = False
        self._ahead: Future[State] | None = None  # a worker that is started before anything is asked of it
        self._starting = ThreadPoolExecutor(1, "worker")  # it ends with the thread that starts it
        self._request = Explain((), ())
        self._recovery: Recovery[Batch, Row] = Recovery(self._outcome, options.path)

    @property
    def path(self) -> str:
        return self._load.options.path

    def expect(self, seal: Seal) -> None:
        """Load this model and no other one, by whatever worker. Without it, that is the one that is there first."""
        self._seal = seal

    def start(self) -> None:
        """Let a worker import TensorFlow while nothing is known of the model yet; not where more than that is to be done
        before it can read the model."""
        path = Path(self.path)
        if forms.is_ready(path):
            self._ahead = self._starting.submit(self._started_ahead, path)
            wait([self._ahead])  # two threads that work would both take longer

    def _started_ahead(self, path: Path) -> State:
        state = fingerprint.state_of(path)
        self._child = self._start(*_located(path), ahead=True)
        return state

    def _take_ahead(self, state: State) -> None:
        """See that a worker that was started ahead is there, if it may read the files that are there now."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        with suppress(GradvizError):  # what kept it from starting, whoever starts the next one is told
            if ahead.result() == state:
                return
        self._drop_worker()

    def load(self, proof: Proof | None = None) -> Loaded:
        """Start the worker and load the model, which was proved before if `proof` is given.

        Raises
        ------
        ModelUnusable, ModelRefused, UsageError
            As the worker says; or it died or hung while it loaded; or there is no sandbox though it was required.
        """
        self._load = replace(self._load, proof=proof or self._load.proof)
        proving = self._prove != "never" and self.proof is None and machine.cores() > 1
        answer = self._begin(replace(self._load, proving=proving), Loaded)
        facts = answer.facts
        known = self._known(facts.preprocess) and facts.alpha <= (facts.channels == 4)
        if min(*facts.size, facts.channels) < 1 or not known:
            raise self._unusable(self._worker.nonsense("values that gradviz does not know"))
        height, width = facts.size
        check_size(height, width, facts.channels)
        self._shape = (height, width, facts.channels)
        self._taps = facts.taps
        if tuple(one.kind for one in facts.taps) != kinds_of(self._load.methods):
            raise self._unusable(self._worker.nonsense("other inner tensors than were asked for"))
        for one in facts.taps:
            check_map(one.size)
        if self._prove != "never" and self.proof is None:
            self._load = replace(self._load, proof=self._proved())  # a worker that takes its place need not ask again
        return answer

    @property
    def proof(self) -> Proof | None:
        """What was found when the model was proved; None where that was not asked for."""
        return self._load.proof

    def _known(self, preprocess: str) -> bool:
        try:
            preset_of(preprocess, self._load.options)
        except KeyError:
            return False
        return True

    def _proved(self) -> Proof:
        """Let the worker prove the model. One that is lost over it is replaced: images will show what is wrong."""
        _, files = self._located()
        limit = None
        if self._timeout is not None:
            limit = PROOF_TIMEOUT + self._timeout / 6 + sum(map(_size, files)) / SLOW_DISK
        try:
            answer, _ = self._worker.request(Prove(self._prove == "always"), Proved, timeout=limit)
        except ChildLost as lost:
            if self._closed:
                raise self._unusable(lost) from lost
            self._drop()
            self._begin(self._load, Loaded)
            return _unproved(lost.message)
        if isinstance(answer, Failure):  # what else goes wrong over it proves nothing
            if answer.kind in (ProofFailed.__name__, "Bug"):
                raise self._as_exception(answer)
            return _unproved(answer.message)
        return answer.proof

    def try_gradient(self) -> bool:
        """Let the worker compute one; raises ProofFailed where this machine cannot. False where that is not known: a worker that
        is lost over it is replaced."""
        try:
            answer, _ = self._worker.request(Try(), Tried, timeout=self._timeout)
        except ChildLost as lost:
            if self._closed:
                raise self._unusable(lost) from lost
            self._replace()
            return False
        if isinstance(answer, Failure) and answer.kind in (ProofFailed.__name__, "Bug"):
            raise self._as_exception(answer)
        return not isinstance(answer, Failure)

    def redraw(self, count: int) -> tuple[str, ...]:
        """Let the `count` kernels nearest to the score be random from now on, in every worker; the names of all kernels.

        Raises
        ------
        ModelUnusable, UsageError
            As the worker says; or it died or hung over it.
        """
        self._drawn = count
        _, files = self._located()
        try:
            answer, _ = self._worker.request(Redraw(count), Redrawn, timeout=self._load_timeout(files))
        except ChildLost as lost:
            raise self._unusable(lost) from lost
        if isinstance(answer, Failure):
            raise self._as_exception(answer)
        return answer.kernels

    def inspect(self) -> Inspection:
        """What the model offers and what would be patched (worker.inspection.inspect); raises as `load`."""
        return self._begin(Inspect(self._load.options, self._load.require_sandbox), Inspected).told

    @property
    def _worker(self) -> Child:
        """The worker, which has been started."""
        assert self._child is not None, "load the model first"
        return self._child

    @property
    def fingerprint(self) -> str:
        """Of the model that is read."""
        if self._seal is None:
            self._seal = fingerprint.seal(Path(self.path))
        return self._seal.fingerprint

    def _begin(self, request: Load | Inspect, kind: type[Answer]) -> Answer:
        """The first request to a worker, of the model that has our fingerprint and of no other.

        Raises
        ------
        ModelUnusable, ModelRefused, UsageError
            As the worker says; or the model is another one by now, which is the better reason.
        """
        assert self.fingerprint and self._seal
        self._take_ahead(self._seal.state)
        for _ in range(READINGS):
            before = self._seal
            try:
                answer = self._begun(request, kind)
            except GradvizError:
                fingerprint.unbroken(Path(self.path), before)
                raise
            self._seal = fingerprint.unbroken(Path(self.path), before)
            if self._seal == before:
                return answer
            self._worker.close()  # touched, and nobody knows what it read
            self._child = None
        raise ModelUnusable(f"{self.path} is touched again and again while it is read", "wait until it is copied")

    def _begun(self, request: Load | Inspect, kind: type[Answer]) -> Answer:
        """Its answer. The worker is started for it unless there is one."""
        path, files = self._located()
        request = replace(request, options=replace(request.options, path=path))
        return self._asked(lambda: self._child or self._start(path, files), request, kind, self._load_timeout(files))[0]

    def _asked(
        self,
        start: Callable[[], Child],
        request: Load | Inspect | Convert,
        kind: type[Said],
        timeout: float | None,
        most: int = 0,
    ) -> tuple[Said, tuple[np.ndarray, ...]]:
        """The answer of a worker that has no model yet; one that somebody kills meanwhile, or that may be lost over the proof,
        is replaced once, within the same time."""
        end = None if timeout is None else time.monotonic() + timeout
        for more in (True, False):
            self._child = child = start()
            if self._closed:  # a signal came in between
                child.close()
            left = None if end is None else max(0.0, end - time.monotonic())
            proving = isinstance(request, Load) and request.proving
            try:
                answer, arrays = child.request(request, kind, timeout=left, most=most)
                if not (more and proving and isinstance(answer, Failure) and answer.kind == "Memory"):
                    break
            except ChildLost as lost:
                if not (more and (lost.killed or proving and lost.kind != "timeout")) or self._closed:
                    raise self._unusable(lost) from lost
            if isinstance(request, Load):  # a proof that there is no memory for is no reason to refuse the model
                request = replace(request, proving=False)
            self._drop_worker()
        if isinstance(answer, Failure):
            raise self._as_exception(answer)
        return answer, arrays

    def _located(self) -> tuple[str, list[Path]]:
        """What the worker reads, and the real files that it may. Asked once: a worker that takes another's place reads
        the same."""
        if self._home is None:
            self._home = forms.ready(Path(self.path), self._converted, variant=str(self._load.options.trust_model))
        return _located(self._home)

    def _converted(self, file: Path, form: str) -> bytes:
        """Let a worker of its own turn a file of Keras into a graph."""
        real, link = file.resolve(), os.path.join(self._folder(), f"model.{LINKS[form]}")
        os.symlink(real, link)  # Keras goes by the ending of a name
        size = _size(real)
        request = Convert(link, self._load.options.trust_model)
        try:
            _, arrays = self._asked(
                lambda: self._start(str(real), [real], room=2 * size, computes=False),
                request,
                Converted,
                self._load_timeout([real]),
                MAX_GRAPH,
            )
            if len(arrays) != 1 or arrays[0].dtype != np.uint8 or arrays[0].ndim != 1 or not arrays[0].size:
                raise self._unusable(self._worker.nonsense("no graph"))
        finally:
            self._drop()
        return arrays[0].tobytes()

    def _as_exception(self, failure: Failure) -> Exception:
        """What the worker says went wrong, of the path as it was given."""
        read = [os.path.join(self._folder(), f"model.{ending}") for ending in LINKS.values()]
        if self._home is not None and str(self._home) != self.path:
            read.append(str(self._home.resolve()))
        for one in read:
            failure = _renamed(failure, one, self.path)
        return _as_exception(failure, self.path)

    def _folder(self) -> str:
        """The worker's scratch folder; made with the first request, so that a run with nothing to do has none."""
        with self._guard:
            if self._closed:
                raise self._unusable(ChildLost("crash", "the run is over"))
            if self._scratch is None:
                self._scratch = Scratch()
            return self._scratch.path

    def _start(
        self, path: str, files: Sequence[Path], room: int = 0, ahead: bool = False, computes: bool = True
    ) -> Child:
        """A worker that reads these files, and may write so many bytes more than others. It imports TensorFlow at once where
        it is started `ahead` of the first request, unless that may be for nothing. One that computes may use a GPU."""
        folder = self._folder()
        read = sorted({str(file) for file in files})
        if len(read) > MAX_GRANTS:
            read = sorted({os.path.dirname(file) for file in read})
        limits = {"memory_limit": machine.memory_limit(), **({"file_limit": MAX_SCRATCH + room} if room else {})}
        environment = scrubbed_environment(folder)
        try:
            ahead = ahead and not self._load.require_sandbox
            config = {"read": read, "scratch": folder, "ahead": ahead, "gpu": computes, **limits}
            return Child(
                "gradviz_cli.worker", config, environment, folder, lambda: overfull(folder, MAX_SCRATCH + room)
            )
        except ChildLost as lost:
            remedy = lost.remedy or "free memory, or raise ulimit -u and -n"
            raise ModelUnusable(f"{self.path}: {lost.message}", remedy) from lost

    def _unusable(self, lost: ChildLost) -> ModelUnusable:
        said = "" if lost.remedy else _last_line(self.stderr)
        remedy = "export the model again, or see what it says with -v"
        if lost.kind == "timeout":
            remedy = "if it is very large or the disk very slow, raise --timeout; loading is given five times as long"
        if lost.kind == "memory":
            remedy = "free memory, or take a machine with more"
        elif sys.platform == "linux" and not os.path.isdir("/proc/self"):
            remedy = "mount /proc, which TensorFlow does not start without"
        if lost.remedy:
            remedy = lost.remedy
        text = f"{self.path}: loading it failed: {lost.message}{f' ({said})' if said else ''}"
        return ModelUnusable(text, remedy)

    @property
    def stderr(self) -> str:
        """What the worker said on its standard error."""
        return self._child.stderr if self._child else ""

    def _load_timeout(self, files: Sequence[Path]) -> float | None:
        if self._timeout is None:
            return None
        return LOAD_TIMEOUT + 5 * self._timeout + sum(map(_size, files)) / SLOW_DISK

    @property
    def largest(self) -> int | None:
        """The batch that fits into memory and time, once one did not."""
        return self._recovery.largest

    def require(self, methods: Sequence[str], estimation: Estimation) -> bool:
        """Load the model once more where the inner tensors are missing that these methods are made of; whether that was so."""
        loaded = self._load
        if (
            set(kinds_of(methods)) <= set(kinds_of(loaded.methods))
            and estimation.cam_layer == loaded.estimation.cam_layer
        ):
            return False
        self._load = replace(loaded, methods=tuple(dict.fromkeys((*loaded.methods, *methods))), estimation=estimation)
        try:
            self.loaded = self.load()
        except GradvizError:
            self._load = loaded
            self._replace()
            raise
        return True

    def explain(
        self, images: np.ndarray, request: Explain, baselines: np.ndarray | None = None
    ) -> Iterator[Row | ImageError]:
        """One outcome for each image [n, h, w, c], in order; a batch that brings the worker down is taken apart. Where many
        gradients are taken of each image, images go to it one by one.

        Raises
        ------
        ModelUnusable
            After the outcomes that were found: the model, not the images, is at fault.
        """
        self._request = request
        batch = Batch((images,) if baselines is None else (images, baselines), request.targets if request.own else ())
        return self._outcomes(batch, 1 if request.sampled else len(batch))

    def _outcomes(self, batch: Batch, most: int) -> Iterator[Row | ImageError]:
        for start in range(0, len(batch), max(1, most)):
            yield from self._recovery.outcomes(batch[start : start + most])

    def _outcome(self, batch: Batch) -> list[Row] | ImageError:
        if not self._closed and not (self._child and self._child.ready):
            self._replace()  # it ended, or spoke, while it had nothing to do, or Ctrl-C came: no image's fault
        try:
            return self._ask(batch)
        except ChildLost as lost:
            if self._closed:
                raise self._unusable(lost) from lost
            self._replace()
            options = "--timeout and --samples" if self._request.sampled else "--timeout"
            hint = f"{lost.message}; see {options}" if lost.kind == "timeout" else lost.message
            return ImageError(lost.kind, hint)

    def _ask(self, batch: Batch) -> list[Row] | ImageError:
        request = replace(self._request, targets=batch.classes) if self._request.own else self._request
        expected = expected_arrays(request, len(batch), self._shape, self._taps)
        answer, arrays = self._worker.request(request, Explained, batch.arrays, self._timeout, size_of(expected))
        if isinstance(answer, Failure):
            kind = {"Memory": "memory", "Failed": "model"}.get(answer.kind)
            return self._refused(answer) if kind is None else ImageError(kind, shortened(answer.message))
        try:
            check_arrays(arrays, expected)
            return rows(request, arrays)
        except ValueError as error:
            raise self._worker.nonsense(str(error)) from error

    def _refused(self, failure: Failure) -> ImageError:
        """The worker says what would end the run. An image may have taken it over, so a new one is asked about a blank image;
        raises what was wrong where that one says the same."""
        request = replace(self._request, targets=self._request.targets[: self._request.each])
        expected = expected_arrays(request, 1, self._shape, self._taps)
        blank = np.zeros((1, *self._shape), np.float32)
        sent = (blank, blank) if self._request.takes_baseline else (blank,)
        self._replace()
        answer, _ = self._worker.request(request, Explained, sent, self._timeout, size_of(expected))
        if isinstance(answer, Failure) and answer.kind == failure.kind:
            raise self._as_exception(answer)
        return ImageError("crash", "the worker said something else of it than of a blank image")

    def _replace(self) -> None:
        self._drop()
        self.load()
        if self._drawn is not None:
            self.redraw(self._drawn)

    def _drop(self) -> None:
        """End the worker, and remove what it left: the next one is not to be ended for it."""
        self._drop_worker()
        if self._scratch is not None:
            self._scratch.clear()

    def _drop_worker(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child = None

    def close(self) -> None:
        """Kill the worker and remove its scratch folder."""
        with self._guard:
            self._closed = True
        self._starting.shutdown()
        if self._child is not None:
            self._child.close()
        if self._scratch is not None:
            self._scratch.close()


def of_plan(plan: Plan) -> RemoteModel:
    """The model of a run; no process runs yet."""
    drawing = plan.drawing
    return RemoteModel(
        plan.model,
        drawing.methods,
        plan.timeout,
        plan.require_sandbox,
        len(drawing.targets),
        plan.verify,
        plan.proof,
        drawing.estimation,
        together=plan.batch_size,
    )


def _unproved(why: str) -> Proof:
    reason = shortened(plain(why))
    warning = f"the model could not be proved ({reason}), so its maps may be wrong; settle it with --proof never"
    return Proof((Witness("forward", said=f"not run ({reason})"),), warnings=(warning,))


def _located(model: Path) -> tuple[str, list[Path]]:
    """The real path of a model's folder or frozen graph, and the real files that its worker may read: graph and weights.

    Links are followed, as in a download cache whose files are links to a store of blobs elsewhere.
    """
    try:
        real = model.resolve(strict=True)
        graphs = [real / name for name in GRAPHS if os.path.lexists(real / name)] if real.is_dir() else [real]
        weights = sorted((real / "variables").glob("variables.*"))
        for file in graphs:
            fingerprint.check_plain(file)
        return str(real), [file.resolve() for file in [*graphs, *weights] if file.is_file()]
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        reason = getattr(error, "strerror", None) or error
        raise ModelUnusable(f"{model} cannot be read: {reason}", "check the path and its permissions") from error


def _renamed(failure: Failure, read: str, given: str) -> Failure:
    """What a worker says of the path that it was given, said of the one that the user gave."""
    return replace(failure, message=failure.message.replace(read, given), remedy=failure.remedy.replace(read, given))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _as_exception(failure: Failure, path: str) -> Exception:
    """What the worker says went wrong, as the exception that it was there."""
    if failure.kind == "Bug":
        return RuntimeError(f"in the worker: {shortened(failure.message)}")
    known: dict[str, type[GradvizError]] = {each.__name__: each for each in (UsageError, ModelRefused, ProofFailed)}
    kind = known.get(failure.kind, ModelUnusable)
    message = shortened(failure.message)
    if kind is not UsageError and path not in message:
        message = f"{path}: {message}"
    raised = kind(message, shortened(failure.remedy))
    raised.traceback = "\n".join(failure.traceback)
    return raised


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return plain(lines[-1][:200]) if lines else ""
