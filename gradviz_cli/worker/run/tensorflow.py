"""`import tensorflow` without what gradviz never calls: only the names that are asked for, and never Keras.

TensorFlow imports Keras as its last act and carries on where there is none. Left out, it costs neither its own time nor
that of what it looks for in turn: with scikit-learn installed that is half of the whole import.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import ModuleType

from gradviz_cli.worker.graph import tf_names

ABSENT = ("keras", "tf_keras")


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds these packages, as TensorFlow asks whether they are there, but lets nobody import them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in ABSENT:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        raise ModuleNotFoundError(f"{module.__name__} is left out", name=module.__name__)


def import_tensorflow(whole: bool = False, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Let `import tensorflow` work; all of it where that is asked for, or where the names alone cannot be had.

    Parameters
    ----------
    whole : bool
        Also what registers gradients of operations outside the allowed set, and what Keras uses.
    meanwhile : callable
        As of `tf_names.install`.
    """
    if whole or tf_names.plugged():
        _import_all()
    elif "tensorflow" not in sys.modules:
        with suppress(Exception):  # whatever another release is built like
            tf_names.install(_import_all, meanwhile)
        import tensorflow  # noqa: F401


def _import_all() -> ModuleType:
    """TensorFlow without Keras; where a version of it insists on Keras, with it."""
    if isinstance(sys.modules.get("tensorflow"), tf_names.Names):
        del sys.modules["tensorflow"]
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        with suppress(ImportError, AttributeError, TypeError, ValueError):
            import tensorflow
    finally:
        sys.meta_path.remove(absent)
    import tensorflow

    return tensorflow
