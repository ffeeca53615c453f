"""Every rule on its worked example, in NumPy; what the place of the gate says of a rule; one rule more."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worked import CAPPED_FEATURES, FEATURES, SLOPES, UPSTREAM, UPSTREAM_OF_SMOOTH, WORKED, missing_rows

from gradviz_cli.draw.styles import SHEETS, STYLES
from gradviz_cli.rules import DEFAULT_MODE, PLAIN, RULES, Rule

PACKAGE = Path(__file__).parents[2] / "gradviz_cli"
PUBLISHED = ("backprop", "deconv", "guided")


def positive(gradient):
    return np.maximum(gradient, 0)


def test_every_rule_has_its_worked_example() -> None:
    assert WORKED.keys() == RULES.keys(), missing_rows(RULES)


@pytest.mark.parametrize("mode", WORKED)
def test_a_row_agrees_with_itself(mode: str) -> None:
    """The numbers worked by hand are those of the equation beside them."""
    row = WORKED[mode]
    np.testing.assert_array_equal(row.equation(UPSTREAM, FEATURES > 0, UPSTREAM > 0), row.downstream)
    np.testing.assert_array_equal(row.equation(-UPSTREAM, FEATURES > 0, UPSTREAM < 0), row.turned)
    gate = (CAPPED_FEATURES > 0) & (CAPPED_FEATURES < 4)
    np.testing.assert_array_equal(row.equation(UPSTREAM, gate, UPSTREAM > 0), row.capped)
    np.testing.assert_array_equal(row.equation(UPSTREAM_OF_SMOOTH, SLOPES, UPSTREAM_OF_SMOOTH > 0), row.smooth)


@pytest.mark.parametrize("mode", WORKED)
def test_the_worked_example(mode: str) -> None:
    for upstream, want in ((UPSTREAM, WORKED[mode].downstream), (-UPSTREAM, WORKED[mode].turned)):
        found = RULES[mode].backward(upstream, lambda g: np.where(FEATURES > 0, g, 0), positive)
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("mode", WORKED)
def test_an_input_of_zero_is_closed(mode: str) -> None:
    """Only a rule that does not read the gate lets the 5 pass."""
    found = RULES[mode].backward(np.array([5.0]), lambda g: np.where(np.array([0.0]) > 0, g, 0), positive)
    assert found.tolist() == [WORKED[mode].equation(5.0, 0.0, 1.0)]
    assert mode not in PUBLISHED or found.tolist() == [5.0 if mode == "deconv" else 0.0]


@pytest.mark.parametrize("mode", WORKED)
def test_a_smooth_activation_by_the_same_line(mode: str) -> None:
    found = RULES[mode].backward(UPSTREAM_OF_SMOOTH, lambda g: g * SLOPES, positive)
    np.testing.assert_array_equal(found, WORKED[mode].smooth)


@pytest.mark.parametrize("mode", WORKED)
def test_a_graph_that_has_the_gate_itself_gets_the_same(mode: str) -> None:
    """What goes through is multiplied by f' there; what goes past is not."""
    through, by = RULES[mode].around_gate(UPSTREAM_OF_SMOOTH, positive)
    assert (through is None) != (by is None)
    found = by if through is None else through * SLOPES
    np.testing.assert_array_equal(found, WORKED[mode].smooth)


@pytest.mark.parametrize("mode", WORKED)
def test_who_reads_the_forward_pass(mode: str) -> None:
    needed = WORKED[mode].equation(1.0, 0.0, 1.0) != WORKED[mode].equation(1.0, 1.0, 1.0)
    asked: list[float] = []
    RULES[mode].backward(1.0, lambda g: asked.append(g) or g, lambda g: max(g, 0.0))
    assert bool(asked) == RULES[mode].needs_forward == needed
    assert mode not in PUBLISHED or needed == (mode != "deconv")


def test_only_the_plain_gradient_changes_nothing() -> None:
    assert [name for name, rule in RULES.items() if not rule.changes_gradient] == ["backprop"] == [PLAIN]


def test_the_default_is_a_rule() -> None:
    assert DEFAULT_MODE in RULES


@pytest.mark.parametrize("mode", RULES)
def test_every_rule_says_what_it_does_and_where_it_is_from(mode: str) -> None:
    rule = RULES[mode]
    assert rule.name == mode and rule.summary
    assert len(rule.source) > 20  # a paper, or what a rule of one's own is derived from
    if mode in PUBLISHED:
        assert re.search(r"\d{4}, arXiv:\d{4}\.\d{4,5}, section", rule.source)


def test_one_rule_more_is_one_line() -> None:
    """Only negative gradients, through an open ReLU."""
    rule = Rule("negative", lambda upstream, gate, positive: gate(-positive(-upstream)), "its summary", "nowhere")
    found = rule.backward(UPSTREAM, lambda g: np.where(FEATURES > 0, g, 0), positive)
    np.testing.assert_array_equal(found, [[-2, 0, -1], [0, 0, 0], [0, -1, 0]])
    assert rule.needs_forward and rule.changes_gradient
    through, by = rule.around_gate(UPSTREAM_OF_SMOOTH, positive)
    assert through.tolist() == [0, 0, -4] and by is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (lambda upstream, gate, positive: positive(gate(upstream)), "gate has to come last"),
        (lambda upstream, gate, positive: gate(upstream) + positive(upstream), "gate has to come last"),
        (lambda upstream, gate, positive: gate(gate(upstream)), "once"),
        (lambda upstream, gate, positive: None, "once, or past"),
    ],
)
def test_a_line_that_no_smooth_activation_could_follow_is_refused(line, words: str) -> None:
    with pytest.raises(ValueError, match=f"odd.*{words}"):
        replace(RULES["guided"], name="odd", backward=line)


def test_no_rule_is_named_in_code_elsewhere() -> None:
    """As a value, that is: help, messages and docstrings name them for people. Training has its own twin of guided."""
    names = "|".join(map(re.escape, RULES))
    quoted = {".py": re.compile(rf"([\"'])({names})\1"), ".js": re.compile(rf"([\"'`])({names})\1")}
    quoted[".html"] = quoted[".js"]
    naming = {
        f"{path.relative_to(PACKAGE).as_posix()}:{number}: {line.strip()}"
        for path in PACKAGE.rglob("*")
        if path.suffix in quoted
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if quoted[path.suffix].search(line) and not (path.suffix == ".py" and line.lstrip().startswith((">>>", "...")))
    }
    assert {path.suffix for path in PACKAGE.rglob("*")} >= quoted.keys()
    assert any(place.startswith("rules.py:") for place in naming)  # else the expression finds nothing
    assert not [place for place in naming if not place.startswith(("rules.py:", "demo/training/train.py:"))]


CHOICES = """
from gradviz_cli import rules
from gradviz_cli.draw import styles
from dataclasses import replace
rules.RULES["one-more"] = replace(rules.RULES["guided"], name="one-more")
styles.STYLES["style-more"] = replace(styles.STYLES["gray"], name="style-more")
styles.SHEETS["sheet-more"] = replace(styles.SHEETS["panel"], name="sheet-more")
from gradviz_cli.cli.explain import command
for option in ("modes", "styles"):
    print(*next(p for p in command.params if p.name == option).type.choices)
"""


def test_an_entry_of_the_table_is_a_choice_of_the_command() -> None:
    done = subprocess.run([sys.executable, "-c", CHOICES], capture_output=True, text=True, check=True)
    assert [line.split() for line in done.stdout.splitlines()] == [
        [*RULES, "one-more", "all"],
        [*STYLES, "style-more", *SHEETS, "sheet-more"],
    ]
