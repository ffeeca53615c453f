"""Which files a job is to have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import ImageError
from gradviz_cli.plan.outputs import outputs, stems, targets_of
from gradviz_cli.plan.plan import Drawing, Job, Plan
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import ModelOptions

BEST, SECOND, THREE = Target(rank=0), Target(rank=1), Target(index=3)


def plan(**drawing) -> Plan:
    return Plan(ModelOptions("model"), Path("out"), Drawing(**drawing))


def names(rel: str = "a/cat.jpg", **drawing) -> list[str]:
    return [str(output.path) for output in outputs(plan(**drawing), Job(Path("x"), rel), SHEETS)]


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        ({}, ["guided.png"]),
        ({"modes": ("backprop", "deconv")}, ["backprop.png", "deconv.png"]),
        ({"targets": (BEST, SECOND, THREE)}, ["guided.png", "guided.top2.png", "guided.3.png"]),
        ({"styles": ("heatmap", "gray")}, ["guided.png", "guided.gray.png"]),
        ({"styles": ("panel",)}, ["panel.png"]),
        ({"styles": ("panel",), "targets": (BEST, THREE)}, ["panel.png", "3.panel.png"]),
        (
            {"modes": ("deconv", "guided"), "targets": (SECOND,), "styles": ("panel", "overlay")},
            ["deconv.top2.overlay.png", "guided.top2.overlay.png", "top2.panel.png"],
        ),
    ],
    ids=str,
)
def test_names(drawing: dict, expected: list[str]) -> None:
    assert names(**drawing) == [f"out/a/cat.jpg.{name}" for name in expected]


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        ({}, [{"guided": "guided.npy"}]),
        ({"styles": ("heatmap", "gray")}, [{"guided": "guided.npy"}] * 2),  # the same for every style
        ({"targets": (THREE,), "styles": ("overlay",)}, [{"guided": "guided.3.npy"}]),
        (
            {"modes": ("backprop", "guided"), "targets": (SECOND,), "styles": ("panel",)},
            [{"backprop": "backprop.top2.npy", "guided": "guided.top2.npy"}],
        ),
    ],
    ids=str,
)
def test_arrays(drawing: dict, expected: list[dict[str, str]]) -> None:
    asked = plan(**drawing)
    found = [output.array_paths(asked.drawing.modes) for output in outputs(asked, Job(Path("x"), "cat.jpg"), SHEETS)]
    assert found == [{mode: Path("out") / f"cat.jpg.{name}" for mode, name in one.items()} for one in expected]


def test_an_image_that_is_named_like_a_style() -> None:
    """Only what gradviz has added is taken from the name of an array."""
    (output,) = outputs(plan(targets=(THREE,)), Job(Path("x"), "odd.3.gray"), SHEETS)
    assert output.array_paths(()) == {"guided": Path("out/odd.3.gray.guided.3.npy")}


def test_names_that_may_meet() -> None:
    assert stems(plan(targets=(BEST, THREE)), SHEETS) is None  # a mode stands in between
    assert stems(plan(styles=("panel",)), SHEETS) is None
    found = stems(plan(styles=("panel",), targets=(BEST, THREE)), SHEETS)
    assert found is not None and set(found("cat")) == {"cat", "cat.3"}
    only = stems(plan(styles=("panel",), targets=(THREE,)), SHEETS)
    assert only is not None and set(only("cat")) == {"cat", "cat.3"}


def test_what_comes_through_stdin_lies_in_no_folder() -> None:
    asked = replace(plan(targets=(Target(parent=True),)), labels=("dev", "dog"))
    assert targets_of(asked, Job(Path("/p/dog/x.png"), "x.png")) == (Target(index=1),)
    with pytest.raises(ImageError, match="--target parent: what comes through stdin lies in no folder"):
        targets_of(asked, Job(Path("/dev/stdin"), "stdin", copy=Path("/tmp/stdin")))
