"""Inner tensors that estimators are made of: which ones a model has for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradviz_cli.estimators import ESTIMATORS, Estimation, Method, Taps
from gradviz_cli.rules import PLAIN, RULES
from gradviz_cli.worker.analysis.attention import attention_taps
from gradviz_cli.worker.analysis.cam import cam_taps, cut_warning
from gradviz_cli.worker.graph.graph import descendants, split
from gradviz_cli.worker.passes.fixed_chance import fixed_chance
from gradviz_cli.worker.proof.probes import scenes, span
from gradviz_cli.worker.proof.prove import SEED
from gradviz_cli.worker.run.prepared import Prepared

Find = Callable[[Prepared, Estimation], tuple[Taps, "str | None"]]
"""(prepared, estimation) -> the tensors, and a warning. Raises UsageError or ModelUnusable where there are none."""


def _cam(prepared: Prepared, estimation: Estimation) -> tuple[Taps, str | None]:
    spec = prepared.problem.entry.spec(prepared.dtype)
    return cam_taps(prepared.graph, prepared.question, prepared.found, spec, estimation.cam_layer)


def _attention(prepared: Prepared, estimation: Estimation) -> tuple[Taps, str | None]:
    problem, ends = prepared.problem, span(prepared.preprocess, prepared.options)
    (picture,) = scenes(problem.entry, ends, 1, SEED)
    graph = fixed_chance(prepared.graph, prepared.question)  # what is drawn is the same each time that it looks
    found = attention_taps(graph, prepared.question, problem.entry, problem.constants, picture, ends)
    return found, cut_warning(graph, prepared.question, problem.entry.spec(prepared.dtype), found.tensors[0])


def unpatched(prepared: Prepared, taps: Taps, methods: Sequence[str]) -> str | None:
    """A warning of modes under which these tensors have the plain gradient, as nothing that obeys lies behind them."""
    asked = [name for name in methods if ESTIMATORS[Method.of(name).estimator].taps == taps.kind]
    strict = [name for name in asked if RULES[Method.of(name).mode].changes_gradient]
    graph, found = prepared.graph, prepared.found
    behind = set().union(*(descendants(graph.nodes, [split(one)[0]]) - {split(one)[0]} for one in taps.tensors))
    if not strict or found.inside or any(split(one.exit)[0] in behind for one in found.obeying()):
        return None
    return (
        f"{', '.join(strict)}: no ReLU lies between {taps.tensors[0]} and the score, so that this is what {PLAIN} gives; "
        f"-m {PLAIN} settles it"
    )


TAPS: dict[str, Find] = {"cam": _cam, "attention": _attention}
"""`Estimator.taps` -> how they are found."""
