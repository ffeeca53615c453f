"""gradviz: saliency heatmaps from any TensorFlow SavedModel.

>>> from gradviz_cli import load                                    # doctest: +SKIP
>>> with load("model") as model:
...     result = model.explain("cat.jpg", mode="guided")
>>> result.attribution.shape
(1, 224, 224, 3)
>>> result.image(0, style="overlay").save("cat.png")

TensorFlow runs in a process of its own, started by `load`; this one never imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradviz_cli.version import __version__

if TYPE_CHECKING:
    from gradviz_cli.api import LoadedModel, Run, explain, load, run
    from gradviz_cli.batch.planning import plan_from
    from gradviz_cli.errors import GradvizError, GradvizWarning, ImageError, ModelRefused, ModelUnusable, UsageError
    from gradviz_cli.explanation import Explanation, Skipped

# Name -> the module that has it: imported with its first use, so that `gradviz --help` does not pay for NumPy and Pillow.
_HOMES = {
    "explain": "api",
    "load": "api",
    "run": "api",
    "LoadedModel": "api",
    "Run": "api",
    "Explanation": "explanation",
    "Skipped": "explanation",
    "plan_from": "batch.planning",
    "GradvizError": "errors",
    "GradvizWarning": "errors",
    "ImageError": "errors",
    "ModelRefused": "errors",
    "ModelUnusable": "errors",
    "UsageError": "errors",
}

__all__ = [
    "Explanation",
    "GradvizError",
    "GradvizWarning",
    "ImageError",
    "LoadedModel",
    "ModelRefused",
    "ModelUnusable",
    "Run",
    "Skipped",
    "UsageError",
    "__version__",
    "explain",
    "load",
    "plan_from",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"gradviz_cli.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
