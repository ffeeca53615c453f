"""Inner tensors that estimators are made of: which ones a model has for them."""

from __future__ import annotations

from collections.abc import Callable

from gradviz_cli.estimators import Estimation, Taps
from gradviz_cli.worker.analysis.cam import cam_taps
from gradviz_cli.worker.run.prepared import Prepared

Find = Callable[[Prepared, Estimation], tuple[Taps, "str | None"]]
"""(prepared, estimation) -> the tensors, and a warning. Raises UsageError or ModelUnusable where there are none."""


def _cam(prepared: Prepared, estimation: Estimation) -> tuple[Taps, str | None]:
    spec = prepared.problem.entry.spec(prepared.dtype)
    return cam_taps(prepared.graph, prepared.question, prepared.found, spec, estimation.cam_layer)


TAPS: dict[str, Find] = {"cam": _cam}
"""`Estimator.taps` -> how they are found."""
