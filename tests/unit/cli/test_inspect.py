"""What `inspect` prints first, and that it exits as `explain` would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.cli import inspect
from gradviz_cli.errors import ExitCode, ProofFailed
from gradviz_cli.process.protocol import CamLayer, Candidate, Chosen, InputFacts, Inspection, ModelOptions, Verdict

NOTHING = Inspection((("serve",),), "2.21.0", {})
SMOOTH = replace(
    NOTHING, modes={"backprop": Verdict(True), "deconv": Verdict(False, "1 Gelu"), "guided": Verdict(False, "1 Gelu")}
)


class Told:
    """An explainer that knows what it will say."""

    proof = None
    misfit = None

    def __init__(self, found: Inspection):
        self._found = found

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *raised: object) -> None: ...

    fingerprint = "f"

    def inspect(self) -> Inspection:
        return self._found

    def load(self) -> None: ...

    def try_gradient(self) -> None: ...

    def fit_labels(self, classes: int | None) -> None: ...


def told(monkeypatch: pytest.MonkeyPatch, found: Inspection, *modes: str) -> tuple[list[str], int]:
    monkeypatch.setattr(inspect, "Explainer", lambda *given, **named: Told(found))
    answer, code = inspect._ask(ModelOptions("m"), None, (), "", "never", modes)
    return inspect._lines(answer, verbose=False), code


def test_it_begins_with_a_verdict_on_each_mode(monkeypatch):
    lines, _ = told(monkeypatch, SMOOTH, "backprop")
    assert lines[:2] == ["verdict     backprop yes; deconv, guided no: 1 Gelu", "signatures"]
    some = replace(SMOOTH, modes={"backprop": Verdict(True), "guided": Verdict(True, "0 of 1 LeakyRelu obey")})
    lines, _ = told(monkeypatch, some, "backprop")
    assert lines[0] == "verdict     backprop yes; guided yes, but 0 of 1 LeakyRelu obey"


CHOSEN = Chosen(
    "serve", "the only one", InputFacts("x", None, "float32", "NHWC"), "y", "y:0", None, (8, 9), 3, "unit", 5,
    guessed=("preprocess", "input_size", "output"),
)  # fmt: skip


def test_a_guess_is_called_one(monkeypatch):
    lines, _ = told(monkeypatch, replace(SMOOTH, chosen=CHOSEN), "backprop")
    settles = "(a guess: --{} settles it)"
    said = f"images      8x9x3 {settles.format('input-size')}, NHWC, preprocess unit {settles.format('preprocess')}, 5 classes"
    assert said in lines and lines[2].endswith("x -> y (one of several: --output names another)")
    lines, _ = told(monkeypatch, replace(SMOOTH, chosen=replace(CHOSEN, guessed=())), "backprop")
    assert "images      8x9x3, NHWC, preprocess unit, 5 classes" in lines and "several" not in lines[2]


def test_what_may_be_named_is_listed(monkeypatch):
    named = [Candidate(name, "output of the signature", (None, 5)) for name in "abcde"]
    offered = {"input": (), "output": (Candidate("r:0[..., 0]", "a channel", None), *named)}
    layers = (CamLayer("r:0", "Relu", (None, 4, 4, 8)), CamLayer("s:0", "Relu", (None, 2, 2, 8)))
    found = replace(SMOOTH, chosen=CHOSEN, candidates=offered, cam_layers=layers)
    lines, _ = told(monkeypatch, found, "backprop")
    assert "--output    'r:0[..., 0]', a, b, c and 2 more (-v)" in lines and not any(
        one.startswith("--input ") for one in lines
    )
    assert "--cam-layer s:0  [?, 2, 2, 8], the last of 2 (-v shows all)" in lines
    answer, _ = inspect._ask(ModelOptions("m"), None, (), "", "never", ("backprop",))
    assert "--output    'e'  [?, 5], output of the signature" in inspect._lines(answer, True)


@pytest.mark.parametrize("modes, code", [(("backprop",), 0), (("guided",), 5), (("backprop", "deconv"), 5)])
def test_it_exits_as_explain_would_for_these_modes(monkeypatch, modes, code):
    assert told(monkeypatch, SMOOTH, *modes)[1] == code


@pytest.mark.parametrize("kind, code", [("UsageError", 2), ("ModelRefused", 6), ("ModelUnusable", 5), ("Other", 5)])
def test_it_exits_as_explain_would_for_what_is_wrong(monkeypatch, kind, code):
    bad = replace(NOTHING, modes={"backprop": Verdict(False, "x")}, problem="x; do y", problem_kind=kind)
    lines, given = told(monkeypatch, bad, "backprop")
    assert given == code and lines[0] == "verdict     no: x; do y"


def test_of_a_model_that_nothing_was_chosen_of_it_knows_nothing(monkeypatch):
    bad = replace(NOTHING, modes={"backprop": Verdict(False, "x")}, problem="several inputs", problem_kind="UsageError")
    lines, _ = told(monkeypatch, bad, "backprop")
    assert {"patched     not looked for", "gradient    not tried", "refused ops not looked for"} <= set(lines)
    assert "no ReLU" not in "\n".join(lines)


def test_it_says_which_model_was_taken(monkeypatch):
    told(monkeypatch, SMOOTH, "backprop")
    answer, _ = inspect._ask(ModelOptions("m"), None, (), "", "never", ("backprop",))
    assert "model       birds/10, found in birds" in inspect._lines(answer, False, ["birds/10, found in birds"])


def test_the_advice_that_is_being_followed_is_left_out():
    from gradviz_cli.worker.analysis import image

    said = next(line for line in Path(image.__file__).read_text().splitlines() if "gradviz inspect MODEL" in line)
    assert (
        inspect.ADVICE.sub("", "settle it with --preprocess " + said.strip().strip('"'))
        == "settle it with --preprocess"
    )


class Lacking(Told):
    """What it is told of has no gradient on this machine; `load` finds it itself only where it is asked for all."""

    tried = 0

    def try_gradient(self) -> None:
        Lacking.tried += 1
        raise ProofFailed("TensorFlow cannot compute the gradient of node groups", "try another --output")


def test_a_gradient_is_tried_though_no_image_is_explained(monkeypatch) -> None:
    monkeypatch.setattr(inspect, "Explainer", lambda *given, **named: Lacking(SMOOTH))
    monkeypatch.setattr(Lacking, "tried", 0)
    answer, code = inspect._ask(ModelOptions("m"), None, (), "", "auto", ("backprop",))
    assert (Lacking.tried, code) == (1, ExitCode.MODEL_UNUSABLE)
    assert "node groups" in inspect._lines(answer, verbose=False)[0]
