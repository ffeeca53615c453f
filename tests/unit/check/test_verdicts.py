"""What follows from which numbers."""

from __future__ import annotations

import re

import pytest

from gradviz_cli.check import verdicts
from gradviz_cli.check.cascade import Classes, Findings, Level, classes_of, levels_of
from gradviz_cli.check.measures import Likeness
from gradviz_cli.process.protocol import Proof, Witness

NOTHING = Likeness(None, None, None)


def findings(weights: float, classes: float | None, *, alive: int = 10, mode: str = "backprop") -> Findings:
    """Of 10 images: another figure than `weights` where nothing is judged by it."""
    levels = [Level(count, 10, 10, Likeness(0.99, 0.99, 0.99)) for count in (1, 2)]
    judged = Level(3, alive, 10, Likeness(weights, 0.99, 0.99))
    last = Level(7, 0, 10, NOTHING)
    between = Classes(classes, 10 if classes is not None else 0, 10 if classes is not None else 0)
    return Findings(mode, (*levels, judged, last), between, NOTHING, ())


@pytest.mark.parametrize(
    ("weights", "classes", "word"),
    [
        (0.1, 0.1, "passes"),
        (0.1, None, "passes"),
        (0.5, 0.1, "weak"),
        (0.1, 0.7, "weak"),
        (0.8, 0.1, "weak"),
        (0.81, 0.1, "fails"),
        (0.1, 0.95, "fails"),
        (0.1, -0.95, "passes"),
    ],
)
def test_the_worse_figure_decides(weights, classes, word) -> None:
    verdict = verdicts.of_method(findings(weights, classes))
    assert verdict.word == word
    assert f"|cosine| {weights:.2f} after 3 of 7 kernels" in verdict.why and "over 0.8 fails" in verdict.why


def test_the_sources_are_named_and_a_rule_has_a_reason() -> None:
    plain, ruled = (verdicts.of_method(findings(0.9, 0.9, mode=mode)).why for mode in ("backprop", "guided"))
    assert all("1810.03292" in why and "1912.09818" in why for why in (plain, ruled))
    assert "1805.07039" in ruled and "1805.07039" not in plain


def test_too_few_maps_say_nothing() -> None:
    assert verdicts.of_method(findings(0.1, 0.1, alive=8)).word == "passes"
    verdict = verdicts.of_method(findings(0.1, 0.1, alive=7))
    assert verdict.word == "not tested" and "7 of 10 images stay alive" in verdict.why
    assert verdicts.of_method(findings(0.1, 0.9, alive=7)).word == "fails", "the other figure is bad enough"


def test_a_model_without_kernels_is_not_tested() -> None:
    verdict = verdicts.of_method(Findings("backprop", (), Classes(None, 0, 0), NOTHING, ()))
    assert verdict.word == "not tested" and "no kernel" in verdict.why


def test_numbers_are_those_of_the_proof() -> None:
    forward, slope = Witness("forward", 1e-7, 1e-4), Witness("slope", said="not run")
    assert verdicts.of_numbers(Proof((forward, slope))).word == "passes"
    assert verdicts.of_numbers(Proof((slope,))) == verdicts.Verdict("not tested", "not run")
    assert verdicts.of_numbers(None, never=True) == verdicts.Verdict("not tested", "--proof never")
    assert verdicts.of_numbers(None) == verdicts.Verdict("not tested", "no image was explained")
    wrong = Witness("slope", 0.9, 0.25, failed=True)
    assert verdicts.of_numbers(Proof((forward, wrong), warnings=("",))).why == "slope off by 0.9 (limit 0.2)"


def test_levels_are_close_near_the_score_and_reach_the_image() -> None:
    assert levels_of(13) == (1, 2, 3, 6, 13)
    assert levels_of(54) == (1, 2, 3, 27, 54)
    assert levels_of(2) == (1, 2) and levels_of(0) == ()


def test_classes_are_all_or_some_from_all_over() -> None:
    assert classes_of(11) == tuple(range(11))
    assert classes_of(1000) == (0, 999)
    assert classes_of(1) == classes_of(None) == ()


@pytest.mark.parametrize(
    ("images", "given", "said"),
    [
        (1, 1, "on 1 image, .*; give 8 images"),
        (2, 2, "on 2 images, "),
        (3, 40, "--limit 8 settles"),
        (8, 8, None),
        (0, 0, None),
    ],
)
def test_verdicts_on_few_images_are_said_to_be(images: int, given: int, said: str | None) -> None:
    warning = verdicts.few(images, given)
    assert warning is None if said is None else warning and re.search(said, warning)


def test_what_is_next_to_zero_has_no_sign() -> None:
    assert [verdicts.rounded(one) for one in (-0.001, 0.001, -0.006, 0.5)] == ["0.00", "0.00", "-0.01", "0.50"]
    assert "cosine 0.00 between classes" in verdicts.of_method(findings(0.1, -0.001)).why
