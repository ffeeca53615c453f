"""`tensorflow` with each name imported when it is first asked for: about half of the time and 100 MB less than all of it.

`tensorflow/__init__.py` binds some thousand names of all its parts, of which a worker calls about eighty. The release's own
list of them (that file and those of `tensorflow/_api`) is read as text, so that no list is kept here: a name stands for what
it stands for in a plain import. What the list does not know brings in the rest. The parts stay loaded then, as their C++
halves cannot be initialised twice; every class and function stays the one it was.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import site
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

# from tensorflow.python.ops.array_ops import shape_v2 as shape
_BOUND = re.compile(r"^from (tensorflow\.[\w.]+) import (\w+)(?: as (\w+))?", re.MULTILINE)
_SPACES = "tensorflow._api.v2"  # where a name is a list of names again: tf.math
# What a plain import does before and after it binds its names; without it TensorFlow behaves as version 1 did.
_FIRST = ("tensorflow.python.pywrap_tensorflow", "tensorflow.python.tf2")
_BEHAVIOUR = "tensorflow.python.compat.v2_compat"
_LIBRARY = "libtensorflow_cc.so*"
# Modules that have libraries of their own, or bring some in, and that a worker's modules import.
_EXTENSIONS = ("numpy", "google.protobuf.descriptor_pool", "queue", "hashlib", "tempfile")
_linkers: list[threading.Thread] = []
_KERNELS = "core/kernels"  # a folder of some releases: kernels in libraries of their own
# Importing these registers the gradients of operations, and which have none; those of loops and branches come along. The
# debugger's would bring in two hundred modules for one operation, which `passes.formulas` knows.
_GRADIENTS = ("python/ops/*_grad.py", "python/ops/image_ops.py")


class Names(ModuleType):
    """One list of TensorFlow's public names, each looked up when it is first asked for.

    Parameters
    ----------
    listed : Path
        The file of the release that binds them.
    complete : callable
        Imports all of TensorFlow; asked for a name that the list does not hold.
    """

    def __init__(self, name: str, listed: Path, complete: Callable[[], ModuleType]):
        super().__init__(name)
        self._listed, self._complete = listed, complete

    @cached_property
    def _bound(self) -> dict[str, tuple[str, str]]:
        found = _BOUND.findall(self._listed.read_text(encoding="utf-8"))
        return {short or name: (module, name) for module, name, short in found}

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # Python's own questions, which a module may leave without an answer
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = self._of_the_rest(name) if name not in self._bound else self._part(*self._bound[name])
        setattr(self, name, value)
        return value

    def _part(self, module: str, name: str) -> object:
        if module.startswith(_SPACES):
            folders = [*module.removeprefix(_SPACES).split("."), name]
            return Names(f"{module}.{name}", _root().joinpath("_api", "v2", *folders, "__init__.py"), self._complete)
        return getattr(importlib.import_module(module), name)

    def _of_the_rest(self, name: str) -> object:
        found: object = self._complete()
        for part in self.__name__.removeprefix(_SPACES).split(".")[1:]:
            found = getattr(found, part)
        return getattr(found, name)


def _root() -> Path:
    """The folder of the package that is installed."""
    loaded = sys.modules.get("tensorflow")
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    return Path(spec.origin).parent


def install(complete: Callable[[], ModuleType], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Let `import tensorflow` give the names alone, with the gradients registered.

    Parameters
    ----------
    complete : callable
        Imports all of TensorFlow.
    meanwhile : callable
        What can be done while TensorFlow's library is loaded: to import what asks for no name yet.

    Raises
    ------
    ImportError, AttributeError, OSError
        This release is built otherwise; `tensorflow` is not in `sys.modules` then.
    """
    root = _root()
    names = Names("tensorflow", root / "__init__.py", complete)
    names.__spec__, names.__path__ = importlib.util.find_spec("tensorflow"), [str(root)]
    names.__file__, names.__package__ = str(root / "__init__.py"), "tensorflow"
    os.environ["TF2_BEHAVIOR"] = "1"
    sys.modules["tensorflow"] = names
    try:
        load_library()
        meanwhile()
        for linker in _linkers:
            linker.join()
        for module in _FIRST:
            importlib.import_module(module)
        sys.modules[_FIRST[-1]].enable()
        with _plain():
            _register_gradients(root)
        importlib.import_module(_BEHAVIOUR).enable_v2_behavior()
        if (root / _KERNELS).exists():
            importlib.import_module("tensorflow.python.framework.load_library").load_library(str(root / _KERNELS))
    except BaseException:
        del sys.modules["tensorflow"]
        raise


def _register_gradients(root: Path) -> None:
    for path in (path for pattern in _GRADIENTS for path in sorted(root.glob(pattern))):
        importlib.import_module(".".join(("tensorflow", *path.relative_to(root).with_suffix("").parts)))


def load_library() -> None:
    """Let the linker work on TensorFlow's library, a third of the import, in a thread; harmless the second time. Until `install`
    has waited for it, a module with a library of its own does so. Calls are bound when they are first made, as most of half
    a million never are."""
    library = next(_root().glob(_LIBRARY), None)
    if library is None or _linkers:
        return
    for module in _EXTENSIONS:
        importlib.import_module(module)
    arguments = os.fsencode(library), os.RTLD_LAZY
    # By way of the function itself, as `ctypes.CDLL` lets no other thread run. What goes wrong the import says.
    linker = threading.Thread(target=ctypes.CDLL(None).dlopen, args=arguments)
    linker.start()
    _linkers.append(linker)


@contextmanager
def _plain() -> Iterator[None]:
    """Inside, the thousand generated functions of TensorFlow's operations are defined without what is of no use here and
    takes a third of the time: constraints of type variables, and a signature of each to be quoted in a message."""
    exports: Any = importlib.import_module("tensorflow.python.util.tf_export")
    importlib.import_module("typing_extensions")  # which looks closer at what `typing` holds
    whole, plain = getattr(exports, "kwarg_only", None), ModuleType("typing")
    plain.__dict__.update(vars(typing), TypeVar=_without_constraints)
    exports.kwarg_only, sys.modules["typing"] = _by_name_alone, plain
    try:
        yield
    finally:
        exports.kwarg_only, sys.modules["typing"] = whole, typing


def _without_constraints(name: str, *constraints: object, **more: Any) -> TypeVar:
    return TypeVar(name, **more)


def _by_name_alone(function: Callable) -> Callable:
    """The same function, whose arguments are all given by name."""

    def called(**arguments: Any) -> Any:
        return function(**arguments)

    return called


def plugged() -> bool:
    """Devices of others are to be loaded, which only a plain import does."""
    folders = [*map(Path, sys.path), *map(Path, site.getsitepackages())]
    beside = any((folder / "tensorflow-plugins").exists() for folder in folders if folder.name.endswith("-packages"))
    return bool(os.environ.get("TF_PLUGGABLE_DEVICE_LIBRARY_PATH")) or beside
