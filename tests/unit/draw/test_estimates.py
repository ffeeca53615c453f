"""One line for all gaps of a run."""

from __future__ import annotations

import math

import pytest

from gradviz_cli.draw.estimates import GAP, Gaps, needed


def of(gaps: dict[str, float], samples: int = 32) -> list[str]:
    found = Gaps(samples)
    for image, gap in gaps.items():
        found.add(image, [{"mode": "backprop", GAP: gap}, {"mode": "guided"}])
    return list(found.warnings())


def test_small_gaps_are_not_told() -> None:
    assert of({}) == [] == of({"a": 0.05, "b": -0.01})


def test_all_large_gaps_are_one_line_with_a_number_for_the_worst() -> None:
    (line,) = of({"a": 0.06, "b": 0.01, "c": -0.3})
    assert "2 of 3 maps" in line and "c by 30 %" in line and line.endswith(f"--samples {needed(32, 0.3)} settles it")


@pytest.mark.parametrize(
    ("gap", "word"), [(0.06, "--samples 256"), (-0.06, "--samples 256"), (9.0, "another --baseline")]
)
def test_a_large_gap_is_told_with_what_settles_it(gap: float, word: str) -> None:
    (line,) = of({"a": gap})
    assert word in line and "1 of 1 maps" in line


def test_where_more_samples_do_not_help_another_baseline_does() -> None:
    (line,) = of({"a": 40.0, "b": 0.01})
    assert "1 of 2 maps" in line and "--samples" not in line and line.endswith("which another --baseline settles")
    (line,) = of({"a": 40.0, "b": 0.06, "c": 0.07})
    assert "3 of 3 maps" in line and "a by 4,000 %" in line
    assert f"--samples {needed(32, 0.07)} settles 2;" in line and "of 1 the score hardly differs" in line


@pytest.mark.parametrize(("samples", "gap"), [(4, 0.06), (32, 0.051), (32, 0.2), (100, 1.0)])
def test_what_is_needed_is_more_by_at_least_the_gap(samples: int, gap: float) -> None:
    assert needed(samples, gap) >= samples * gap / 0.05 and math.log2(needed(samples, gap)).is_integer()


def test_nothing_more_is_needed_where_the_gap_is_small() -> None:
    assert needed(32, 0.01) == 32 and needed(32, math.inf) == math.inf
