"""Requests of the command -> calls of one Model -> answers; every exception becomes data."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from gradviz_cli.errors import GradvizError, ModelRefused, ModelUnusable
from gradviz_cli.process import shortage, wire
from gradviz_cli.process.protocol import (
    Convert,
    Converted,
    Explain,
    Explained,
    Failure,
    Inspect,
    Inspected,
    Load,
    Loaded,
    ModelOptions,
    Prove,
    Proved,
    Redraw,
    Redrawn,
    Tried,
    Try,
    from_wire,
    to_wire,
)
from gradviz_cli.process.sandbox.enter import Sandbox
from gradviz_cli.worker.graph.words import described
from gradviz_cli.worker.run import tensorflow

if TYPE_CHECKING:
    from gradviz_cli.worker.model import Model

Arrays = tuple[np.ndarray, ...]
Request = Convert | Load | Prove | Try | Redraw | Inspect | Explain
Done = Converted | Loaded | Proved | Tried | Redrawn | Inspected | Explained
Answer = Done | Failure


def serve(source: int, sink: int, confined: Sandbox, ahead: bool = False) -> None:
    """Answer until the pipe is closed. TensorFlow is imported with the first request, or `ahead` of it."""
    server = Server(confined)
    if ahead:
        with suppress(GradvizError):  # the first request meets the same, and says it
            server.import_ahead()
    fill = wire.fill_from(source)
    while True:
        try:
            header, arrays = wire.receive(fill)
            answer, results = server.answer(header, arrays)
            wire.send(sink, answer, results)
        except wire.Closed:
            return


class Server:
    """Answers one request after the other; holds the model that was loaded last."""

    def __init__(self, confined: Sandbox):
        self._confined = confined
        self._model: Model | None = None
        self._ahead = 0.0  # seconds that the import took before the first request

    def import_ahead(self) -> None:
        """What the first model will need."""
        start = time.monotonic()
        with _imports("model", whole=False):
            from gradviz_cli.worker.model import Model  # noqa: F401
        self._ahead = time.monotonic() - start

    def answer(self, header: dict[str, object], arrays: Arrays) -> tuple[dict[str, object], Arrays]:
        """Header and arrays of a request -> header and arrays of its answer; whatever goes wrong is a `Failure`."""
        request: Request = from_wire(
            header, Convert, Load, Prove, Try, Redraw, Inspect, Explain, longest=wire.MAX_HEADER
        )
        answer: Answer
        results: Arrays = ()
        try:
            answer, results = self._do(request, arrays)
        except GradvizError as error:
            lines = tuple(error.traceback.splitlines())
            answer = Failure(type(error).__name__, error.message, error.remedy, lines)
        except MemoryError:
            loading = not isinstance(request, Explain)
            remedy = shortage.MEMORY.remedy if loading else "use a smaller --batch-size"
            answer = Failure("Memory", "memory ran out", remedy)
        except Exception as error:
            answer = _unforeseen(error, request)
        return to_wire(answer), results

    def _do(self, request: Request, arrays: Arrays) -> tuple[Done, Arrays]:
        if isinstance(request, Explain):
            return self._explain(request, *arrays)
        if isinstance(request, Prove):
            return self._prove(request), ()
        if isinstance(request, Try):
            return self._try(), ()
        if isinstance(request, Redraw):
            return self._redraw(request), ()
        if isinstance(request, Convert):
            return self._convert(request)
        if request.require_sandbox:
            self._check_sandbox()
        return (self._load(request) if isinstance(request, Load) else self._inspect(request)), ()

    def _check_sandbox(self) -> None:
        """Asked before TensorFlow is imported, so before anything of the model is even read."""
        if self._confined.level != "full":
            raise ModelRefused(
                f"--require-sandbox: this system has no full one ({'; '.join(self._confined.missing)})",
                "leave the option out, or run on Linux 5.13 or later",
            )

    def _settle_walls(self) -> None:
        """Which operations may run hangs on what is in force; `policy` needs TensorFlow, so not before."""
        from gradviz_cli.worker.analysis.policy import Walls

        Walls.full = self._confined.level == "full"

    def _convert(self, request: Convert) -> tuple[Converted, Arrays]:
        """Keras builds what the file says, and that may be code: never without the walls."""
        if self._confined.level != "full":
            raise ModelRefused(
                f"{request.path} is built by Keras, which may run code of the file's, and this system has no full sandbox"
                f" ({'; '.join(self._confined.missing)})",
                "export the model yourself (model.export('folder')), or run on Linux 5.13 or later",
            )
        with _imports("convert", whole=True):  # Keras calls all of it
            from gradviz_cli.worker.convert import convert

        return Converted(), (np.frombuffer(convert(request), np.uint8),)

    def _load(self, request: Load) -> Loaded:
        start = time.monotonic()
        with _imports("model", whole=_trusting(request.options)):
            from gradviz_cli.worker.model import Model

        self._settle_walls()
        imported = time.monotonic()
        self._model = None  # a model of before goes first: there may be no room for two
        with _uncollected():
            self._model = Model(
                request.options,
                request.methods,
                request.targets,
                request.verify,
                request.proof,
                request.estimation,
                request.redrawn,
                request.proving,
                request.together,
            )
        return Loaded(self._model.facts, self._ahead + imported - start, time.monotonic() - imported, self._confined)

    def _prove(self, request: Prove) -> Proved:
        if self._model is None:
            raise RuntimeError("asked to prove before a model was loaded")
        with _uncollected():
            return Proved(self._model.prove(request.thorough))

    def _try(self) -> Tried:
        if self._model is None:
            raise RuntimeError("asked for a gradient before a model was loaded")
        self._model.try_gradient()
        return Tried()

    def _redraw(self, request: Redraw) -> Redrawn:
        if self._model is None:
            raise RuntimeError("asked to draw kernels before a model was loaded")
        return Redrawn(self._model.redraw(request.count))

    def _inspect(self, request: Inspect) -> Inspected:
        with _imports("inspection", whole=_trusting(request.options)):
            from gradviz_cli.worker.inspection import inspect

        self._settle_walls()
        return Inspected(inspect(request.options))

    def _explain(
        self, request: Explain, images: np.ndarray, baselines: np.ndarray | None = None
    ) -> tuple[Explained, Arrays]:
        if self._model is None:
            raise RuntimeError("asked to explain before a model was loaded")
        found = self._model.explain(
            images, request.targets, request.methods, request.scores, request.estimation, baselines, request.own
        )
        numbers = [each for each in found.numbers if each.shape[-1]]
        return Explained(), (found.index, found.rank, found.score, found.output, *found.gradients, *numbers)


def _trusting(options: ModelOptions) -> bool:
    """Operations may run that are outside the allowed set, whose gradients a part of TensorFlow may register."""
    return options.trust_model or bool(options.allow_ops)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Most of what is made in here stays: to search it for garbage again and again takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _imports(room: str, whole: bool) -> Iterator[None]:
    """TensorFlow and, where that may be done while its library is loaded, a room of the worker. What fails in here is the
    installation's fault and not the model's. What is imported stays: to search it for garbage
    again and again takes a tenth of the start."""
    gc.disable()
    try:
        tensorflow.import_tensorflow(whole, partial(import_module, f"{__package__}.{room}"))
        yield
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        if (short := shortage.behind(error)) is not None:
            raise ModelUnusable(f"TensorFlow cannot be imported: {short.what}", short.remedy) from error
        raise ModelUnusable(
            f"TensorFlow cannot be imported ({described(error)})",
            "repair the installation: pip install --force-reinstall tensorflow",
        ) from error
    finally:
        gc.freeze()
        gc.enable()


def _unforeseen(error: Exception, request: Request) -> Failure:
    """While a model explains, whatever TensorFlow throws at a strange image. What loading raises is foreseen, and a name
    that does not exist is a mistake of ours whatever we do."""
    lines = tuple(traceback.format_exc().splitlines())
    if isinstance(request, Explain) and not isinstance(error, NameError):
        return Failure("Failed", f"the model failed on this image ({described(error)})", traceback=lines)
    return Failure("Bug", described(error), traceback=lines)
