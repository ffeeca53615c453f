"""The three rules on the worked example, in NumPy; what the place of the gate says of a rule; a fourth rule."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.rules import DEFAULT_MODE, PLAIN, RULES, Rule

PACKAGE = Path(__file__).parents[2] / "gradviz_cli"
FEATURES = np.array([[1, -1, 5], [2, -5, -7], [-3, 2, 4]])
UPSTREAM = np.array([[-2, 3, -1], [6, -3, 1], [2, -1, 3]])
# Worked by hand: where the features are positive the ReLU is open.
DOWNSTREAM = {
    "backprop": [[-2, 0, -1], [6, 0, 0], [0, -1, 3]],
    "deconv": [[0, 3, 0], [6, 0, 1], [2, 0, 3]],
    "guided": [[0, 0, 0], [6, 0, 0], [0, 0, 3]],
}
# A smooth activation with f' = 2, -1 and 0.5 (a SiLU falls, too), upstream 3, 3 and -4.
SLOPES, UPSTREAM_OF_SMOOTH = np.array([2.0, -1.0, 0.5]), np.array([3.0, 3.0, -4.0])
SMOOTH = {"backprop": [6, -3, -2], "deconv": [3, 3, 0], "guided": [6, -3, 0]}


def positive(gradient):
    return np.maximum(gradient, 0)


@pytest.mark.parametrize("mode", DOWNSTREAM)
def test_the_worked_example(mode: str) -> None:
    found = RULES[mode].backward(UPSTREAM, lambda g: np.where(FEATURES > 0, g, 0), positive)
    np.testing.assert_array_equal(found, DOWNSTREAM[mode])


@pytest.mark.parametrize("mode", DOWNSTREAM)
def test_an_input_of_zero_is_closed(mode: str) -> None:
    found = RULES[mode].backward(np.array([5.0]), lambda g: np.where(np.array([0.0]) > 0, g, 0), positive)
    assert found.tolist() == ([5.0] if mode == "deconv" else [0.0])


@pytest.mark.parametrize("mode", SMOOTH)
def test_a_smooth_activation_by_the_same_line(mode: str) -> None:
    found = RULES[mode].backward(UPSTREAM_OF_SMOOTH, lambda g: g * SLOPES, positive)
    np.testing.assert_array_equal(found, SMOOTH[mode])


@pytest.mark.parametrize("mode", SMOOTH)
def test_a_graph_that_has_the_gate_itself_gets_the_same(mode: str) -> None:
    """What goes through is multiplied by f' there; what goes past is not."""
    through, by = RULES[mode].around_gate(UPSTREAM_OF_SMOOTH, positive)
    assert (through is None) != (by is None)
    found = by if through is None else through * SLOPES
    np.testing.assert_array_equal(found, SMOOTH[mode])


@pytest.mark.parametrize(("mode", "needed"), [("backprop", True), ("deconv", False), ("guided", True)])
def test_who_reads_the_forward_pass(mode: str, needed: bool) -> None:
    asked = []
    RULES[mode].backward(1.0, lambda g: asked.append(g) or g, lambda g: max(g, 0.0))
    assert bool(asked) == RULES[mode].needs_forward == needed


def test_only_the_plain_gradient_changes_nothing() -> None:
    assert [name for name, rule in RULES.items() if not rule.changes_gradient] == ["backprop"] == [PLAIN]


def test_the_default_is_a_rule() -> None:
    assert DEFAULT_MODE in RULES


@pytest.mark.parametrize("mode", ["backprop", "deconv", "guided"])
def test_every_rule_says_what_it_does_and_where_it_is_from(mode: str) -> None:
    rule = RULES[mode]
    assert rule.name == mode and rule.summary
    assert re.search(r"\d{4}, arXiv:\d{4}\.\d{4,5}, section", rule.source)


def test_a_fourth_rule_is_one_line() -> None:
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
    quoted = re.compile("|".join(f"[\"']{name}[\"']" for name in RULES))
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text().splitlines()
        if quoted.search(line) and not line.lstrip().startswith((">>>", "..."))
    }
    assert naming <= {"rules.py", "demo/training/train.py"}
    assert "rules.py" in naming  # else the expression finds nothing


CHOICES = """
from gradviz_cli import rules
from gradviz_cli.draw import styles
from dataclasses import replace
rules.RULES["fourth"] = replace(rules.RULES["guided"], name="fourth")
styles.STYLES["sixth"] = replace(styles.STYLES["gray"], name="sixth")
styles.SHEETS["poster"] = replace(styles.SHEETS["panel"], name="poster")
from gradviz_cli.cli.explain import command
for option in ("modes", "styles"):
    print(*next(p for p in command.params if p.name == option).type.choices)
"""


def test_an_entry_of_the_table_is_a_choice_of_the_command() -> None:
    done = subprocess.run([sys.executable, "-c", CHOICES], capture_output=True, text=True, check=True)
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["backprop", "deconv", "guided", "fourth", "all"],
        ["heatmap", "gray", "signed", "rgb", "overlay", "sixth", "panel", "poster"],
    ]
