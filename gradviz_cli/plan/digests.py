"""Digests of outputs, the keys of what is cached in OUT: a picture whose digest is unchanged is not made again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from gradviz_cli.estimators import ESTIMATORS, GRADIENT, Method
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Plan

# Part of the digest of a sheet: raised when sheets alone come out otherwise than before.
SHEET_VERSION = 2
# Part of every digest: raised when the same options would give other pixels than before.
DRAWING_VERSION = 7
# What of a drawing does not matter to the gradients.
OF_ESTIMATORS = ("estimators", "only", "estimation", "box")


class Digests:
    """The digests of a run's outputs: SHA-256 over everything that changes a pixel or a word.

    Which class is explained follows from the image and from what is hashed, and so does its score. Its label stands in a
    file of its own, so it is hashed itself; where that file changes, pictures of the other classes are current all the same.

    What is the same for all images is hashed once, so that a million images that are current cost little.
    """

    def __init__(self, plan: Plan, fingerprint: str):
        self._plan, self.fingerprint = plan, fingerprint
        self._shared: dict[tuple, str] = {}

    def of(self, output: Output, image_sha256: str, index: int | None = None) -> str:
        """`index` is the class that the picture shows, if it has a label."""
        kind = (output.method, output.target, output.style, output.shared)
        if kind not in self._shared:
            self._shared[kind] = self._of_kind(output)
        labels = self._plan.labels
        label = labels[index] if index is not None and 0 <= index < len(labels) else ""
        told = [self._shared[kind], image_sha256, len(labels), label, output.page]
        if output.mode is None:  # a sheet shows the name of the image, which its own name begins with
            told += [output.path.name, SHEET_VERSION]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def _of_kind(self, output: Output) -> str:
        plan = self._plan
        drawing, model = asdict(plan.drawing), asdict(plan.model)
        for name in OF_ESTIMATORS:
            del drawing[name]
        together = output.mode is None or plan.drawing.scale == "shared"
        methods = [
            name
            for name in plan.drawing.methods
            if output.mode is None or Method.of(name).estimator == output.estimator
        ]
        drawing["modes"] = [Method.of(name).mode for name in methods]
        if not together:
            drawing.update(modes=output.mode, targets=output.target.spec)
        drawing.update(styles=output.style, target=output.target.spec, shared=[one.spec for one in output.shared])
        del model["path"], drawing["raw"]
        estimators = [Method.of(name).estimator for name in methods]
        used = estimators if output.mode is None and set(estimators) != {GRADIENT} else output.estimator
        facts = [DRAWING_VERSION, used, self.fingerprint, model, drawing]
        facts += [told for name in dict.fromkeys(estimators) if (told := self._of_estimator(name))]
        if plan.proof == "never":  # a proof may have left steps out, or have images run one by one
            facts.append("unproved")
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _of_estimator(self, name: str) -> list:
        """What changes its maps, or what is drawn on them; nothing of the gradient."""
        drawing, one = self._plan.drawing, ESTIMATORS[name]
        told = drawing.estimation.told(one.options)
        changed = [one.version] if one.version > 1 else []
        return [name, told, drawing.box and one.is_area, *changed] if told or changed else []


def joint_digest(digests: list[str]) -> str:
    """The digest of the only output, or one over those of all."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
