"""NumPy, imported when something of it is first asked for: it takes as long as half of all else that a command imports before
its worker is started, and nothing of it is needed until then."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from gradviz_cli.process.sandbox.environment import THREADS

NUMPY = "numpy"
_guard = threading.RLock()


class _Later(ModuleType):
    """Stands for a module until it is needed, and holds then what that one holds."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # Python's own questions, which a module may leave without an answer
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _guard:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            with _one_thread():
                whole = importlib.import_module(self.__name__)
            self.__dict__.update((key, value) for key, value in vars(whole).items() if not key.startswith("__"))
        return getattr(whole, name)


def put_off() -> None:
    """Let `import numpy` cost nothing; harmless where it was imported before. A part of it can be imported only after
    something was asked for (`numpy.ndarray`)."""
    if NUMPY not in sys.modules and (spec := importlib.util.find_spec(NUMPY)) is not None:
        sys.modules[NUMPY] = module = _Later(NUMPY)
        module.__spec__ = spec


@contextmanager
def _one_thread() -> Iterator[None]:
    """NumPy's library starts threads when it is loaded, which the command has no use for; where it may start none, it sends
    the process a SIGINT, as if somebody had stopped it. For children it is as it was."""
    if THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[THREADS]
