"""What the fuzzer found, each as small as it gets; and that it does find what is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fuzz import grammar as g
from fuzz import judge
from tensorflow.core.framework.attr_value_pb2 import AttrValue

from gradviz_cli.rules import RULES
from gradviz_cli.worker.analysis import naming, regions
from gradviz_cli.worker.passes import batch_norm, mark

CONV, CONV_2 = g.Conv(11, 6), g.Conv(12, 4)
CAPPED = g.Act(13, "capped by channel")
SMALL = g.Program("module", (), (CONV, g.Act(14, "relu"), CONV_2), g.Head(15, "logits"), size=(8, 8, 3))

FOUND = {
    "caps that are a variable, read in the body of a map_fn": replace(SMALL, steps=(CONV, g.Mapped((CONV_2, CAPPED)))),
    "caps that are a variable, read in a branch": replace(
        SMALL, steps=(CONV, g.Cond((CAPPED,), (g.Conv(12),))), batch=1
    ),
    "a shortcut around a batch norm as arithmetic and a ReLU": replace(
        SMALL, steps=(CONV, g.Residual((g.Norm(16, "affine"), g.Act(14, "relu"))))
    ),
    "two spelled ReLUs of one tensor, added up": replace(
        SMALL,
        steps=(
            CONV,
            g.Branches(((g.Norm(16, "affine"), g.Act(14, "where")), (g.Norm(17, "affine"), g.Act(18, "clip"))), "add"),
        ),
    ),
    "logits [N, K, 1]: the axis of length 1 is taken for the classes": replace(SMALL, head=g.Head(15, "trailing")),
    "a dilated convolution in float64: TensorFlow has no kernel for its gradient": replace(
        SMALL, steps=(CONV, g.Act(14, "relu"), g.Conv(16, 4, dilation=2)), dtype="float64", image="float64"
    ),
    "one in groups, in the body of a map_fn": replace(
        SMALL,
        steps=(CONV, g.Act(14, "relu"), g.Mapped((g.Conv(16, 6, groups=2), g.Act(17, "relu")))),
        dtype="float64",
        image="float64",
    ),
    "attention behind a loop that leaves no rank": replace(
        SMALL,
        writer="tf1",
        layout="NCHW",
        batch=1,
        steps=(CONV, g.Act(14, "relu"), g.Loop((g.Norm(16, "affine"),), 1), g.Attention(17)),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_and_mended(name):
    assert judge.judged(FOUND[name]) == judge.Verdict("equal")


# --- the fuzzer can fail ----------------------------------------------------------------------------------------------


def _epsilon_of_a_tenth(monkeypatch):
    true = batch_norm.attribute
    wrong = AttrValue(f=0.1)
    monkeypatch.setattr(batch_norm, "attribute", lambda node, name: wrong if name == "epsilon" else true(node, name))


def _celu_is_a_relu(monkeypatch):
    relus = naming.RELUS | {"Celu"}
    monkeypatch.setattr(naming, "RELUS", relus)
    monkeypatch.setattr("gradviz_cli.worker.analysis.activations.RELUS", relus)


def _caps_forgotten(monkeypatch):
    wrap = mark._wrap
    monkeypatch.setattr(mark, "_wrap", lambda nodes, one: wrap(nodes, replace(one, ends=(one.ends[0], None))))


def _guided_is_deconv(monkeypatch):
    monkeypatch.setitem(RULES, "guided", RULES["deconv"])


def _maximum_is_nothing(monkeypatch):
    monkeypatch.setattr(regions, "ELEMENTWISE", regions.ELEMENTWISE - {"Maximum"})


def acting(*steps, **changes) -> g.Program:
    return replace(SMALL, steps=(CONV, *steps), **changes)


SABOTAGE = {
    "the epsilon of a batch norm": (_epsilon_of_a_tenth, acting(g.Act(14, "relu"), CONV_2, g.Norm(16)), "wrong"),
    "a CELU named a ReLU": (_celu_is_a_relu, acting(g.Act(14, "relu"), CONV_2, g.Act(17, "celu")), "wrong"),
    "the caps of a ReLU": (_caps_forgotten, acting(g.Act(14, "clip")), "wrong"),
    "the rule of a mode": (_guided_is_deconv, acting(g.Act(14, "relu"), writer="tf1"), "wrong"),
    "a spelled ReLU": (_maximum_is_nothing, acting(g.Act(14, "relu"), CONV_2, g.Act(17, "maximum")), "wrong"),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotage_is_found(name, monkeypatch):
    sabotage, program, kind = SABOTAGE[name]
    assert judge.judged(program) == judge.Verdict("equal")
    sabotage(monkeypatch)
    assert judge.judged(program, prove="never").kind == kind  # a proof might see it, or do without what is at fault


def test_a_program_is_made_small():
    """What is left is what is at fault, and builds again from its own words."""
    program = g.program(1)

    def only_convolutions(candidate: g.Program) -> judge.Verdict:
        return judge.Verdict("wrong" if any(isinstance(one, g.Conv) for one in judge.steps_in(candidate)) else "equal")

    assert only_convolutions(program).kind == "wrong"
    small = judge.minimised(program, "wrong", only_convolutions)
    assert [type(step) for step in small.steps] == [g.Conv] and not small.front and not small.head.tail
    assert eval(repr(small), vars(g)) == small
