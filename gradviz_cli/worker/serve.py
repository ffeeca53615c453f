"""Requests of the command -> calls of one Model -> answers; every exception becomes data."""

from __future__ import annotations

import dataclasses
import time
import traceback

import numpy as np

from gradviz_cli import wire
from gradviz_cli.errors import GradvizError
from gradviz_cli.worker.sandbox import Sandbox


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
        try:
            doing = {"load": self._load, "inspect": self._inspect, "explain": self._explain}[header["do"]]
            return doing(header, arrays)
        except GradvizError as error:
            failure = {"class": type(error).__name__, "message": error.message, "remedy": error.remedy}
        except MemoryError:
            failure = {"class": "Memory", "message": "memory ran out", "remedy": "use a smaller --batch-size"}
        except Exception as error:  # whatever TensorFlow throws at a strange model
            failure = self._strange(error, header["do"])
        return {"error": failure}, ()

    def _load(self, header: dict, arrays: tuple) -> tuple[dict, tuple]:
        start = time.monotonic()
        from gradviz_cli.worker.model import Model, Options

        imported = time.monotonic()
        options = header["options"]
        self._model = Model(Options(**{key: _tuples(value) for key, value in options.items()}))
        seconds = {"import": imported - start, "model": time.monotonic() - imported}
        facts = dataclasses.asdict(self._model.facts)
        return {"facts": facts, "seconds": seconds, "sandbox": dataclasses.asdict(self._confined)}, ()

    def _inspect(self, header: dict, arrays: tuple) -> tuple[dict, tuple]:
        from gradviz_cli.worker.inspection import inspect
        from gradviz_cli.worker.model import Options

        return {"told": inspect(Options(**{key: _tuples(value) for key, value in header["options"].items()}))}, ()

    def _explain(self, header: dict, arrays: tuple[np.ndarray, ...]) -> tuple[dict, tuple[np.ndarray, ...]]:
        found = self._model.explain(arrays[0], header["targets"], header["modes"])
        return {}, (found.index, found.rank, found.score, found.output, *found.gradients)

    def _strange(self, error: Exception, doing: str) -> dict[str, str]:
        lines = (str(error) or type(error).__name__).splitlines()
        exhausted = type(error).__name__ == "ResourceExhaustedError"
        kind = "Memory" if exhausted else "ModelUnusable" if doing != "explain" else "Failed"
        what = "the graph cannot be built" if doing != "explain" else "the model failed on this image"
        return {
            "class": kind,
            "message": f"{what} ({type(error).__name__}: {lines[0][:300]})",
            "remedy": "export the model again; -v shows where it failed" if doing != "explain" else "",
            "traceback": traceback.format_exc(),
        }


def _tuples(value):
    """JSON knows no tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
