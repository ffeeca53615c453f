"""What follows from the numbers, with thresholds and sources, in a line for each method."""

from __future__ import annotations

from dataclasses import dataclass

from gradviz_cli.check.cascade import Findings, Level
from gradviz_cli.estimators import ESTIMATORS, Method, modes_of
from gradviz_cli.process.protocol import Proof
from gradviz_cli.rules import RULES

FAILS, WEAK = 0.8, 0.5  # likeness above which maps do not depend on the model, or only in part
LEAST_ALIVE = 0.8  # part of the images whose maps have to be alive, 8 of 10
FEW = 8  # images: who gives fewer hears that others may have other verdicts
JUDGED = 3  # kernels from the score down that are drawn anew where it is judged: what a class is made of
PASSED, WEAKLY, FAILED, UNTESTED = WORDS = ("passes", "weak", "fails", "not tested")
LIMITS = {
    "fails_above": FAILS,
    "weak_from": WEAK,
    "alive_at_least": LEAST_ALIVE,
    "kernels_random": JUDGED,
    "images_at_least": FEW,
}
THRESHOLDS = f"over {FAILS:g} fails, {WEAK:g} to {FAILS:g} is weak"
SOURCES = {
    "weights": "Adebayo 2018, arXiv:1810.03292",
    "classes": "Sixt 2020, arXiv:1912.09818",
}


@dataclass(frozen=True)
class Verdict:
    """One of WORDS, and why."""

    word: str
    why: str

    def told(self) -> dict[str, str]:
        """For machines."""
        return {"verdict": self.word, "why": self.why}

    def __str__(self) -> str:
        return f"{self.word}: {self.why}"


def of_numbers(proof: Proof | None, never: bool = False) -> Verdict:
    """Whether what gradviz computes of a model is what TensorFlow computes, as far as it was asked; `never` to be, if so."""
    asked = [one for one in proof.witnesses if one.value is not None or one.failed] if proof else []
    if not asked:
        unasked = "--proof never" if never else "no image was explained"
        why = next((one.said for one in proof.witnesses if one.said), "") if proof else unasked
        return Verdict(UNTESTED, why)
    wrong = [str(one) for one in asked if one.failed]
    if wrong:
        return Verdict(FAILED, "; ".join(wrong))
    return Verdict(PASSED, "; ".join(map(str, proof.witnesses if proof else ())))  # and what could not be asked


def rounded(value: float) -> str:
    """To two places; what is next to 0 has no sign."""
    return f"{round(value, 2) + 0:.2f}"


def of_method(found: Findings) -> Verdict:
    """Whether maps of a method depend on what the model has learnt: the worse of its two figures decides."""
    level = judged(found.levels)
    figures: dict[str, tuple[float, str]] = {}
    missing = []
    if level is None:
        missing.append("no kernel lies between the image and the score")
    elif too_few(level.alive, level.images) or level.likeness.cosine is None:
        missing.append(f"{level.alive} of {level.images} images stay alive after {level.random} kernels are random")
    else:
        said = (
            f"|cosine| {level.likeness.cosine:.2f} after {level.random} of {found.levels[-1].random} kernels are random"
        )
        figures["weights"] = level.likeness.cosine, said
    classes = found.classes
    if classes.cosine is not None and not too_few(classes.alive, classes.images):
        figures["classes"] = classes.cosine, f"cosine {rounded(classes.cosine)} between classes"
    elif classes.images:
        missing.append(f"{classes.alive} of {classes.images} images have maps of several classes")
    if not figures:
        return Verdict(UNTESTED, "; ".join(missing))
    said = ", ".join([*(text for _, text in figures.values()), *missing])
    worst = max(figures, key=lambda name: figures[name][0])
    word = _word(figures[worst][0])
    if word == PASSED and missing:
        return Verdict(UNTESTED, said)
    return Verdict(word, f"{said} ({THRESHOLDS}{_reason(found.method, word)})")


def few(images: int, given: int) -> str | None:
    """A warning of verdicts on too few images of those given: each figure is a mean over images, and these scatter."""
    if not images or images >= FEW:
        return None
    remedy = f"--limit {FEW} settles it" if given >= FEW else f"give {FEW} images or more"
    return f"the verdicts rest on {images} image{'s' * (images > 1)}, and others may have other ones; {remedy}"


def judged(levels: tuple[Level, ...]) -> Level | None:
    """The level that decides: JUDGED kernels, or all where there are not so many."""
    return next((one for one in reversed(levels) if one.random <= JUDGED), None)


def too_few(alive: int, images: int) -> bool:
    """Whether too few maps are alive for their mean to say anything of the others."""
    return alive < LEAST_ALIVE * images or not images


def _word(figure: float) -> str:
    return FAILED if figure > FAILS else WEAKLY if figure >= WEAK else PASSED


def _reason(method: str, word: str) -> str:
    """Why that was to be expected, where it was, and who has found it before."""
    sources = "; ".join(SOURCES.values())
    caution = ESTIMATORS[Method.of(method).estimator].caution
    if word != PASSED and caution:
        return f"; {caution}; {sources}"
    strict = [mode for mode in modes_of([method]) if RULES[mode].changes_gradient]
    if word == PASSED or not strict:
        return f"; {sources}"
    return f"; {strict[0]} restores what the image holds, Nie 2018, arXiv:1805.07039; {sources}"
