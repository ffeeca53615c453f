"""Requests of the command -> calls of one Model -> answers; every exception becomes data."""

from __future__ import annotations

import dataclasses
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np

from gradviz_cli.errors import GradvizError, ModelRefused, ModelUnusable
from gradviz_cli.process import wire
from gradviz_cli.process.sandbox.enter import Sandbox
from gradviz_cli.worker.run import tensorflow

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
        self._model = None

    def answer(self, header: dict, arrays: tuple[np.ndarray, ...]) -> tuple[dict, tuple[np.ndarray, ...]]:
        doing = header["do"]
        try:
            if header.get("require_sandbox"):
                self._insist_on_sandbox()
            return {"load": self._load, "inspect": self._inspect, "explain": self._explain}[doing](header, arrays)
        except GradvizError as error:
            failure = {"class": type(error).__name__, "message": error.message, "remedy": error.remedy}
        except Exception as error:  # whatever TensorFlow throws at a strange model
            failure = _strange(error, doing)
        return {"error": failure}, ()

    def _insist_on_sandbox(self) -> None:
        """Asked before TensorFlow is imported, so before anything of the model is even read."""
        if self._confined.level != "full":
            raise ModelRefused(
                f"--require-sandbox: this system has no full one ({'; '.join(self._confined.missing)})",
                "leave the option out, or run on Linux 5.13 or later",
            )

    def _load(self, header: dict, arrays: tuple) -> tuple[dict, tuple]:
        start = time.monotonic()
        with _imports():
            from gradviz_cli.process.protocol import Options
            from gradviz_cli.worker.model import Model

        imported = time.monotonic()
        self._model = None  # a model of before goes first: there may be no room for two
        self._model = Model(Options(**{key: _tuples(value) for key, value in header["options"].items()}))
        seconds = {"import": imported - start, "model": time.monotonic() - imported}
        facts = dataclasses.asdict(self._model.facts)
        return {"facts": facts, "seconds": seconds, "sandbox": dataclasses.asdict(self._confined)}, ()

    def _inspect(self, header: dict, arrays: tuple) -> tuple[dict, tuple]:
        with _imports():
            from gradviz_cli.process.protocol import Options
            from gradviz_cli.worker.inspection import inspect

        return {"told": inspect(Options(**{key: _tuples(value) for key, value in header["options"].items()}))}, ()

    def _explain(self, header: dict, arrays: tuple[np.ndarray, ...]) -> tuple[dict, tuple[np.ndarray, ...]]:
        found = self._model.explain(arrays[0], header["targets"], header["modes"], header["scores"])
        return {}, (found.index, found.rank, found.score, found.output, *found.gradients)


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


def _strange(error: Exception, doing: str) -> dict[str, str | list[str]]:
    """An exception that nobody foresaw, in words."""
    loading = doing != "explain"
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        remedy = "free memory, or take a machine with more" if loading else "use a smaller --batch-size"
        return {"class": "Memory", "message": "memory ran out", "remedy": remedy}
    if isinstance(error, NameError):  # no graph can cause it
        return {
            "class": "Bug",
            "message": _described(error),
            "remedy": "",
            "traceback": traceback.format_exc().splitlines(),
        }
    what = "the graph cannot be built" if loading else "the model failed on this image"
    place = _place(error)
    if loading and (place or isinstance(error, _CONTRADICTIONS)) and not _in_tensorflow(error):
        what = "the graph contradicts itself"
    return {
        "class": "ModelUnusable" if loading else "Failed",
        "message": f"{what}{place if loading else ''} ({_described(error)})",
        "remedy": "copy or export the model again; -v shows where it failed" if loading else "",
        "traceback": traceback.format_exc().splitlines(),
    }


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


def _tuples(value):
    """JSON knows no tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
