"""Requests of the command -> calls of one Model -> answers; every exception becomes data."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np

from gradviz_cli.errors import GradvizError, ModelRefused, ModelUnusable
from gradviz_cli.process import wire
from gradviz_cli.process.protocol import (
    Explain,
    Explained,
    Failure,
    Inspect,
    Inspected,
    Load,
    Loaded,
    from_wire,
    to_wire,
)
from gradviz_cli.process.sandbox.enter import Sandbox
from gradviz_cli.worker.run import tensorflow

if TYPE_CHECKING:
    from gradviz_cli.worker.model import Model

Arrays = tuple[np.ndarray, ...]

# What Python raises where a graph lacks an input, names no node, or has an attribute of another kind.
_CONTRADICTIONS = (LookupError, AttributeError, RecursionError, OverflowError)


def serve(source: int, sink: int, confined: Sandbox) -> None:
    """Answer until the pipe is closed. TensorFlow is imported with the first request."""
    server = _Server(confined)
    fill = wire.fill_from(source)
    while True:
        try:
            header, arrays = wire.receive(fill)
            answer, results = server.answer(header, arrays)
            wire.send(sink, answer, results)
        except wire.Closed:
            return


class _Server:
    def __init__(self, confined: Sandbox):
        self._confined = confined
        self._model: Model | None = None

    def answer(self, header: dict, arrays: Arrays) -> tuple[dict, Arrays]:
        request = from_wire(header, Load, Inspect, Explain, longest=wire.MAX_HEADER)
        try:
            answer, results = self._do(request, arrays)
        except GradvizError as error:
            answer, results = Failure(type(error).__name__, error.message, error.remedy), ()
        except Exception as error:  # whatever TensorFlow throws at a strange model
            answer, results = _strange(error, loading=not isinstance(request, Explain)), ()
        return to_wire(answer), results

    def _do(self, request: Load | Inspect | Explain, arrays: Arrays) -> tuple[Loaded | Inspected | Explained, Arrays]:
        if isinstance(request, Explain):
            return self._explain(request, arrays[0])
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

    def _load(self, request: Load) -> Loaded:
        start = time.monotonic()
        with _imports():
            from gradviz_cli.worker.model import Model

        imported = time.monotonic()
        self._model = None  # a model of before goes first: there may be no room for two
        self._model = Model(request.options, request.modes, request.targets)
        return Loaded(self._model.facts, imported - start, time.monotonic() - imported, self._confined)

    def _inspect(self, request: Inspect) -> Inspected:
        with _imports():
            from gradviz_cli.worker.inspection import inspect

        return Inspected(inspect(request.options))

    def _explain(self, request: Explain, images: np.ndarray) -> tuple[Explained, Arrays]:
        if self._model is None:
            raise RuntimeError("asked to explain before a model was loaded")
        found = self._model.explain(images, request.targets, request.modes, request.scores)
        return Explained(), (found.index, found.rank, found.score, found.output, *found.gradients)


@contextmanager
def _imports() -> Iterator[None]:
    """What fails in here is the installation's fault and not the model's."""
    try:
        tensorflow.import_tensorflow()
        yield
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise ModelUnusable(
            f"TensorFlow cannot be imported ({_described(error)})",
            "repair the installation: pip install --force-reinstall tensorflow",
        ) from error


def _strange(error: Exception, loading: bool) -> Failure:
    """An exception that nobody foresaw, in words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        remedy = "free memory, or take a machine with more" if loading else "use a smaller --batch-size"
        return Failure("Memory", "memory ran out", remedy)
    if isinstance(error, NameError):  # no graph can cause it
        return Failure("Bug", _described(error), traceback=_traceback())
    if not loading:
        return Failure("Failed", f"the model failed on this image ({_described(error)})", traceback=_traceback())
    what, place = "the graph cannot be built", _place(error)
    if (place or isinstance(error, _CONTRADICTIONS)) and not _in_tensorflow(error):
        what = "the graph contradicts itself"
    remedy = "copy or export the model again; -v shows where it failed"
    return Failure("ModelUnusable", f"{what}{place} ({_described(error)})", remedy, _traceback())


def _traceback() -> tuple[str, ...]:
    return tuple(traceback.format_exc().splitlines())


def _frames(error: Exception) -> Iterator[FrameType]:
    """From where it was caught to where it was raised."""
    place = error.__traceback__
    while place is not None:
        yield place.tb_frame
        place = place.tb_next


def _in_tensorflow(error: Exception) -> bool:
    """Whether TensorFlow itself says what is wrong with a graph, and not Python of an input that a node lacks."""
    *_, innermost = _frames(error)
    return "tensorflow" in innermost.f_globals.get("__name__", "").split(".")


def _place(error: Exception) -> str:
    """The node that was looked at: what our own functions call `node`."""
    seen = [frame.f_locals.get("node") for frame in _frames(error)]
    seen = [node for node in seen if hasattr(node, "op") and hasattr(node, "name")]
    return f" at node {seen[-1].name[:200]} (op {seen[-1].op[:80]})" if seen else ""


def _described(error: Exception) -> str:
    """Class and first line of an exception, without TensorFlow's marks of where in its own code it comes from."""
    lines = [line.strip() for line in re.sub(r"\{\{function_node[^{}]*\}\}|\[Op:[^\]]*\]", "", str(error)).splitlines()]
    return f"{type(error).__name__}: {next(filter(None, lines), '')[:300]}".rstrip(": ")
