"""One SavedModel, ready to differentiate: folder -> data -> policy -> patch -> gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.process.protocol import Facts, ModelOptions
from gradviz_cli.rules import RULES
from gradviz_cli.worker.analysis import policy
from gradviz_cli.worker.analysis.image import (
    _constants,
    _entry,
    _preprocess,
    _repeated,
    _unfed,
    first_numbers,
)
from gradviz_cli.worker.graph.graph import split
from gradviz_cli.worker.passes import constants as fold
from gradviz_cli.worker.passes import float32, mark, onednn
from gradviz_cli.worker.read import weights
from gradviz_cli.worker.read.question import read
from gradviz_cli.worker.read.weights import restored
from gradviz_cli.worker.run.differentiate import Differentiator
from gradviz_cli.worker.run.parallel import Calls, has_bfloat16
from gradviz_cli.worker.run.targets import Explained, Problem, joined

REMEDY = {
    "relu": "use --mode backprop, or --activations all to let these obey the rule too",
    "none": "use --mode backprop",
}


class Model:
    """A loaded model. Built once a worker; `explain` may be called any number of times.

    `modes` and `targets`, so many at once, are what its gradients are built for ahead of the first image.
    """

    def __init__(self, options: ModelOptions, modes: Sequence[str] = ("guided",), targets: int = 1):
        self._calls = Calls(options.precision)
        found = read(options)
        policy.judge(found.flat, options.allow_ops, options.trust_model)
        variables = [*found.flat.weights.values(), *found.flat.handles.values()]
        values = weights.load(Path(options.path), variables, restored(found.meta))
        values = float32.values(found.flat, values)
        wrt, gate = first_numbers(found)
        place, warning = _entry(found, wrt, options)
        flat, report = mark.patch(found.flat, found.path, options.activations)
        flat = onednn.without_strided_points(flat, {variable: value.shape for variable, value in values.items()})
        named = {split(tensor)[0] for tensor in (found.fed, wrt, found.score, found.end)}
        flat, values = fold.folded(flat, values, split(found.fed)[0], named)
        self._options, self._report = options, report
        self._insist_on_patches(modes)
        preprocess, unsure = _preprocess(found, values, wrt, options)
        constants = _constants(found, options)
        problem = Problem(
            fed=found.fed,
            wrt=wrt,
            score=found.score,
            output=found.end,
            entry=place,
            constants=constants,
            repeated=_repeated(found, constants),
            shape=found.output.shape if found.output.dtype.is_floating else None,
            at=options.at,
            everywhere=found.channel is not None,
        )
        self._differentiator = Differentiator(flat, values, problem)
        self._differentiator.prepare(modes, targets)
        self._step = place.batch or 1
        unfed = _unfed(found, options)
        slow = _slow(options)
        self.facts = Facts(
            signature=found.signature,
            why=found.why,
            input=replace(found.image.facts, layout=place.layout, encoding=place.encoding),
            output=found.output.key,
            score=found.score,
            bypassed=found.bypassed,
            channel=found.channel,
            classes=self._differentiator.classes,
            size=place.size,
            channels=place.channels,
            preprocess=preprocess,
            activations=dict(report.activations),
            gates=report.gates,
            custom_gradients=flat.custom_gradients,
            warnings=tuple(filter(None, (*found.warnings, warning, unsure, unfed, slow))),
        )

    def explain(self, images: np.ndarray, targets: list[int], modes: list[str], scores: bool = True) -> Explained:
        """Attributions [t, n, h, w, c] for images float32 [n, h, w, c] in the range that the model expects."""
        self._insist_on_patches(modes)
        parts = self._calls.over(
            images, lambda part: self._differentiator.explain(part, targets, modes, scores), self._step
        )
        return joined(parts)

    def _insist_on_patches(self, modes: Sequence[str]) -> None:
        """deconv and guided need something to act on; the plain gradient under their name would be a lie."""
        strict = [mode for mode in modes if RULES[mode].changes_gradient]
        if not strict or self._report.patched:
            return
        left, gates = self._report.left, self._report.gates
        seen = ", ".join(f"{count} {name}" for name, count in left.items()) or "no other activation"
        raise ModelUnusable(
            f"{self._options.path}: no ReLU lies between the image and the score ({seen}"
            f"{f', {gates} gates' if gates else ''}), so {' and '.join(strict)} would be the plain gradient",
            REMEDY["relu" if left else "none"],
        )


def _slow(options: ModelOptions) -> str | None:
    if options.precision == "float32" or has_bfloat16():
        return None
    return "this processor has no bfloat16 instructions and is slower in it; settle it with --precision float32"
