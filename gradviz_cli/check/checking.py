"""A whole check: plan and images -> what was found, with every number in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gradviz_cli.check import sheet, verdicts
from gradviz_cli.check.cascade import Cascade, Findings, cascade
from gradviz_cli.check.verdicts import FAILED, Verdict
from gradviz_cli.errors import ExitCode, ImageError, ProofFailed, gravest
from gradviz_cli.estimators import Method, kinds_of, modes_of
from gradviz_cli.files.text import printable
from gradviz_cli.images.decoders import Pixels
from gradviz_cli.images.listing import Inputs
from gradviz_cli.images.sources import content
from gradviz_cli.model.explainer import Explainer, of_plan
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.process.protocol import Proof
from gradviz_cli.rules import PLAIN, RULES
from gradviz_cli.version import __version__

MOST_NAMES = 100_000  # that are looked through for images
NO_RELU = "no ReLU lies between the image and the score, so it is the plain gradient"
Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Checked:
    """What was found.

    Attributes
    ----------
    given : int
        Images that were given; `asked` is for how many of them.
    read : tuple of str
        Those that could be read, in the order of the places of the cascade.
    failed : dict
        Image -> why it could not be read or explained.
    fault : ProofFailed or None
        What is wrong with the numbers, so that nothing else was asked.
    left : dict
        Method -> why it was not asked.
    none : str
        Why there may be no image, where there is none.
    """

    plan: Plan
    fingerprint: str
    given: int
    asked: int
    read: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    proof: Proof | None = None
    fault: ProofFailed | None = None
    cascade: Cascade | None = None
    left: dict[str, str] = field(default_factory=dict)
    none: str = ""
    warnings: tuple[str, ...] = ()
    picture: Path | None = None

    @property
    def numbers(self) -> Verdict:
        """Whether what gradviz computes is what TensorFlow computes."""
        if self.fault:
            return Verdict(FAILED, str(self.fault))
        return verdicts.of_numbers(self.proof, self.plan.proof == "never")

    @property
    def found(self) -> tuple[Findings, ...]:
        return self.cascade.methods if self.cascade else ()

    @property
    def meaning(self) -> dict[str, Verdict]:
        """By method, whether its maps depend on what the model has learnt."""
        return {one.method: verdicts.of_method(one) for one in self.found}

    def code(self, strict: bool) -> ExitCode:
        """What the process returns; with `strict`, a verdict that fails is a failure of it too."""
        if self.fault:
            return ExitCode.MODEL_UNUSABLE
        codes = set()
        if len(self.failed) == self.asked:  # or there was none
            codes.add(ExitCode.ALL_FAILED)
        elif self.failed:
            codes.add(ExitCode.SOME_FAILED)
        if strict and any(one.word == FAILED for one in (self.numbers, *self.meaning.values())):
            codes.add(ExitCode.SOME_FAILED)
        return gravest(codes)

    def told(self) -> Json:
        """Every number, for machines."""
        targets = self.cascade.targets if self.cascade else {}
        return {
            "version": __version__,
            "model": self.plan.model.path,
            "fingerprint": self.fingerprint,
            "numbers": {
                **self.numbers.told(),
                "witnesses": [asdict(one) for one in self.proof.witnesses] if self.proof else [],
            },
            "images": {"given": self.given, "asked": self.asked, "failed": self.failed},
            "targets": [{"image": self.read[place], **asdict(target)} for place, target in targets.items()],
            "kernels": list(self.cascade.kernels) if self.cascade else [],
            "thresholds": verdicts.LIMITS,
            "sources": verdicts.SOURCES,
            "maps": [_told(one, self.meaning[one.method]) for one in self.found],
            "left_out": self.left,
            "warnings": list(self.warnings),
            "picture": str(self.picture) if self.picture else None,
        }


def _told(found: Findings, verdict: Verdict) -> Json:
    levels = [
        {"random": one.random, "alive": one.alive, "images": one.images, **asdict(one.likeness)} for one in found.levels
    ]
    return {
        **Method.of(found.method)._asdict(),
        **verdict.told(),
        "weights": levels,
        "classes": asdict(found.classes),
        "edges": asdict(found.edges),
    }


def check(plan: Plan, inputs: Inputs, limit: int, picture: Path) -> Checked:
    """Check a model on at most `limit` images, from all over those that are given.

    Parameters
    ----------
    picture : Path
        Where the cascade is drawn.

    Raises
    ------
    UsageError, ModelUnusable, ModelRefused, OutputError
        As `explain`.
    """
    jobs = list(islice(inputs.checked().jobs(), MOST_NAMES))
    chosen = [jobs[place] for place in np.unique(np.linspace(0, len(jobs) - 1, min(limit, len(jobs)), dtype=int))]
    proved = "never" if plan.proof == "never" else "always"  # so that its slope is asked too
    asked = {**of_plan(plan), "prove": proved, "estimation": plan.drawing.estimation, "redrawn": True}
    with Explainer(plan.model, _foreseen(plan.drawing.methods), **asked) as model:
        begun = Checked(plan, model.fingerprint, len(jobs), len(chosen))
        if not chosen:
            return replace(begun, none=inputs.why_none())
        sheet.make_room(picture)
        try:
            model.load()
        except ProofFailed as error:
            return replace(begun, fault=error)
        return _asked(begun, model, chosen, picture)


def _asked(begun: Checked, model: Explainer, jobs: Sequence[Job], picture: Path) -> Checked:
    read, failed = _read(model, jobs, begun.plan)
    left = _left(model, begun.plan)
    drawing = begun.plan.drawing
    methods = tuple(name for name in drawing.methods if name not in left)
    names, pixels = tuple(read), list(read.values())
    found = cascade(model, pixels, methods, drawing.estimation)
    failed.update({names[place]: error.message for place, error in found.failed.items()})
    checked = replace(
        begun,
        read=names,
        failed=failed,
        proof=model.proof,
        cascade=found if found.targets else None,
        left=left,
        warnings=(*filter(None, [verdicts.few(len(found.targets), begun.given)]), *model.warnings(methods)),
    )
    if found.shown is None:
        return checked
    text = json.dumps({**checked.told(), "model": begun.fingerprint, "picture": None})  # as every picture says it
    shown = pixels[found.shown].fitted, printable(names[found.shown])
    sheet.write(picture, *shown, checked.found, checked.meaning, text)
    return replace(checked, picture=picture)


def _read(model: Explainer, jobs: Sequence[Job], plan: Plan) -> tuple[dict[str, Pixels], dict[str, str]]:
    """By name, the images that could be read, and why the others could not. Names as they are: two may look the same when they
    are printed."""
    read: dict[str, Pixels] = {}
    failed: dict[str, str] = {}
    for job in jobs:
        try:
            if job.trouble:
                raise ImageError("unreadable", job.trouble)
            pixels = model.decode(content(job, plan.limits)[0], page=job.page and job.page.place)
            model.check_numbers(pixels.held, pixels.fitted)
            read[job.name] = pixels
        except ImageError as error:
            failed[job.name] = error.message
    return read, failed


def _left(model: Explainer, plan: Plan) -> dict[str, str]:
    """Methods whose rule has nothing to act on, where another is asked for that needs nothing; else the model is refused."""
    patched = any(done for _, done in model.facts.activations.values())
    strict = [name for name in plan.drawing.methods if _is_strict(name)]
    return {} if patched or len(strict) == len(plan.drawing.methods) else dict.fromkeys(strict, NO_RELU)


def _is_strict(method: str) -> bool:
    return any(RULES[mode].changes_gradient for mode in modes_of([method]))


def _foreseen(methods: Sequence[str]) -> tuple[str, ...]:
    """What a model is loaded for: inner tensors are looked for then; the gradients are built again with kernels as inputs."""
    return (PLAIN, *(name for name in methods if kinds_of([name])))
