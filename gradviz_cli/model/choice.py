"""Which of several SavedModels below one folder, or in one archive, is meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gradviz_cli.errors import UsageError
from gradviz_cli.files.text import printable

Parts = tuple[str, ...]
_SHOWN = 5
_VERSION = re.compile(r"[0-9]{1,18}")
# Names of files that are models in themselves, or hold one.
_MODELS = re.compile(r".*\.(keras|h5|hdf5|zip|tar|tar\.gz|tgz|onnx|tflite|pt|pth|pb|safetensors)", re.IGNORECASE)


def is_version(name: str) -> bool:
    """Whether TensorFlow Serving would take a folder of this name for a version."""
    return _VERSION.fullmatch(name) is not None


def may_be_model(name: str) -> bool:
    return _MODELS.fullmatch(name) is not None


def only(models: Sequence[Parts], where: str, remedy: Callable[[Parts], str]) -> Parts:
    """The one that is meant of folders that hold a model, each named by its parts.

    A model inside another one is a part of it. Beside numbered versions nothing else counts, and the highest is meant, as
    for TensorFlow Serving. `remedy` gives what to do about several, with one of them as an example.

    Raises
    ------
    UsageError
        Several are left; names them.
    """
    outer = [one for one in models if not any(one[:depth] in models for depth in range(len(one)))]
    bases = {one[:-1] for one in outer if one and is_version(one[-1])}
    highest = {base: max((one for one in outer if _is_of(one, base)), key=lambda one: int(one[-1])) for base in bases}
    left = [one for one in outer if all(one == highest[base] or one[: len(base)] != base for base in bases)]
    if len(left) == 1:
        return left[0]
    shown = ", ".join(printable("/".join(one)) for one in left[:_SHOWN])
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    raise UsageError(f"{where} holds several models: {shown}{more}", remedy(left[0]))


def _is_of(model: Parts, base: Parts) -> bool:
    return model[:-1] == base and is_version(model[-1])
