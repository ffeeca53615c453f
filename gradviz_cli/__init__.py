"""gradviz: saliency heatmaps from any TensorFlow SavedModel.

>>> from gradviz_cli import load                                    # doctest: +SKIP
>>> with load("model") as model:
...     result = model.explain(["cat.jpg"], mode="guided")
>>> result.attribution.shape
(1, 224, 224, 3)

TensorFlow runs in a process of its own, started by `load`; this one never imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradviz_cli.version import __version__

if TYPE_CHECKING:
    from gradviz_cli.api import Explanation, LoadedModel, explain, load, run

__all__ = ["Explanation", "LoadedModel", "__version__", "explain", "load", "run"]


def __getattr__(name: str) -> Any:
    # NumPy and Pillow are imported with the first use, so that `gradviz --help` does not pay for them.
    if name in __all__:
        from gradviz_cli import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
