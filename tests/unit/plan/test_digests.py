"""What makes a picture another one, and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.estimators import ESTIMATORS
from gradviz_cli.plan.digests import Digests, joint_digest
from gradviz_cli.plan.outputs import outputs
from gradviz_cli.plan.plan import Drawing, Job, Plan
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import ModelOptions

PLAN = Plan(ModelOptions("model"), Path("out"), labels=("cat", "dog"))


def digests(plan: Plan, fingerprint: str = "f", image: str = "1" * 64, index: int = 0) -> list[str]:
    known = Digests(plan, fingerprint)
    return [known.of(output, image, index) for output in outputs(plan, Job(Path("x"), "x"), SHEETS)]


def changed(plan: Plan, drawing: dict | None = None, model: dict | None = None, **more) -> Plan:
    return replace(
        plan, drawing=replace(plan.drawing, **(drawing or {})), model=replace(plan.model, **(model or {})), **more
    )


@pytest.mark.parametrize(
    "drawing",
    [
        {"modes": ("deconv",)},
        {"targets": (Target(rank=1),)},
        {"targets": (Target(index=0),)},
        {"styles": ("gray",)},
        {"colormap": "magma"},
        {"clip": 95.0},
        {"alpha": 0.7},
        {"scale": "shared"},
        {"size": "input"},
        {"fit": "crop"},
        {"fast_decode": True},
        {"allow_empty_map": True},
    ],
    ids=str,
)
def test_what_is_drawn(drawing: dict) -> None:
    assert set(digests(changed(PLAN, drawing))).isdisjoint(digests(PLAN))


@pytest.mark.parametrize(
    "model",
    [
        {"signature": "other"},
        {"tag": "serve"},
        {"input": "image"},
        {"output": "scores"},
        {"score": "output"},
        {"activations": "all"},
        {"preprocess": "unit"},
        {"input_size": (8, 8)},
        {"layout": "NCHW"},
        {"at": (1, 2)},
        {"box_of": 2},
        {"feeds": (("x", "1"),)},
        {"precision": "bfloat16"},
        {"allow_ops": ("ReadFile",)},
        {"trust_model": True},
        {"pixel_range": (0.0, 1.0)},
        {"pixel_range": (0.0, 1.0), "mean": (0.5,)},
        {"pixel_range": (0.0, 1.0), "std": (0.5,)},
        {"channel_order": "bgr"},
    ],
    ids=str,
)
def test_what_of_the_model(model: dict) -> None:
    assert digests(changed(PLAN, model=model)) != digests(PLAN)


def test_image_and_model_themselves() -> None:
    assert len({*digests(PLAN), *digests(PLAN, "g"), *digests(PLAN, image="2" * 64)}) == 3


@pytest.mark.parametrize(
    "more",
    [
        {"out": Path("elsewhere")},
        {"model": {"path": "moved"}},
        {"drawing": {"raw": True}},
        {"batch_size": 3, "jobs": 2, "timeout": 5.0, "max_duration": 9.0},
        {"force": True, "fail_fast": True, "lock_wait": 3.0, "allow_empty": True, "require_sandbox": True},
        {"max_pixels": 7, "max_file_size": 7},
    ],
    ids=str,
)
def test_what_makes_no_difference(more: dict) -> None:
    assert digests(changed(PLAN, **more)) == digests(PLAN)


def test_pictures_are_what_they_are_whatever_is_drawn_beside_them() -> None:
    """Asking for more must not redo what is there."""
    targets = (Target(rank=0), Target(index=5))
    more = changed(PLAN, {"modes": ("backprop", "guided"), "targets": targets, "styles": ("heatmap", "gray", "panel")})
    assert len(set(digests(more))) == 2 * 2 * 2 + 2
    assert set(digests(PLAN)) < set(digests(more))


def test_a_panel_shows_all_modes_and_the_label() -> None:
    panel = changed(PLAN, {"styles": ("panel",)})
    assert digests(changed(panel, {"modes": ("guided", "deconv")})) != digests(panel)
    assert digests(changed(panel, labels=("a", "b"))) != digests(panel)


def test_a_panel_shows_the_name_of_the_image_and_no_other_picture_does() -> None:
    def named(plan: Plan, rel: str) -> list[str]:
        return [Digests(plan, "f").of(output, "1", 0) for output in outputs(plan, Job(Path(rel), rel), SHEETS)]

    both = changed(PLAN, {"styles": ("heatmap", "panel")})
    (map_, panel), (other_map, other_panel) = named(both, "a.jpg"), named(both, "b.jpg")
    assert map_ == other_map and panel != other_panel
    assert named(both, "deep/a.jpg") == [map_, panel]  # only the name stands there


@pytest.mark.parametrize("labels", [("lion", "dog"), (), ("cat", "dog", "ant")], ids=str)
def test_the_label_of_the_class_that_is_shown(labels: tuple[str, ...]) -> None:
    """One that was corrected, taken away, or is of another file than before."""
    assert digests(changed(PLAN, labels=labels)) != digests(PLAN)


def test_the_labels_of_other_classes_make_no_difference() -> None:
    corrected = changed(PLAN, labels=("cat", "wolf"))
    assert digests(corrected, index=0) == digests(PLAN, index=0) and digests(corrected, index=1) != digests(
        PLAN, index=1
    )


def test_a_scale_that_is_shared_with_the_class_of_the_folder() -> None:
    shared = changed(PLAN, {"scale": "shared", "targets": (Target(rank=0), Target(parent=True))})
    there = [
        Digests(shared, "f").of(outputs(shared, Job(Path(f"/photos/{folder}/x"), "x"), SHEETS)[0], "1", 0)
        for folder in ("cat", "dog")
    ]
    assert there[0] != there[1]
    alone = replace(shared, drawing=replace(shared.drawing, scale="each"))
    (one, _), (other, _) = (outputs(alone, Job(Path(f"/photos/{folder}/x"), "x"), SHEETS) for folder in ("cat", "dog"))
    assert one == other


def test_a_shared_scale_depends_on_all_that_shares_it() -> None:
    shared = changed(PLAN, {"scale": "shared"})
    assert digests(changed(shared, {"modes": ("guided", "deconv")}))[0] != digests(shared)[0]


def test_the_digest_of_an_image() -> None:
    assert joint_digest(["a"]) == "a"
    assert len({joint_digest(["a", "b"]), joint_digest(["b", "a"]), joint_digest(["a"]), joint_digest(["b"])}) == 4


def test_a_drawing_of_python_defaults_is_the_one_of_the_command() -> None:
    asked = Drawing(("guided",), (Target(rank=0),), ("heatmap",), "inferno", 99.0, 0.5, "each", "image", "stretch")
    assert digests(replace(PLAN, drawing=asked)) == digests(PLAN)


def test_where_panels_come_out_otherwise_the_other_pictures_are_current(monkeypatch) -> None:
    both = changed(PLAN, {"styles": ("heatmap", "panel")})
    map_, panel = digests(both)
    monkeypatch.setattr("gradviz_cli.plan.digests.SHEET_VERSION", 99)
    later, later_panel = digests(both)
    assert later == map_ and later_panel != panel


@pytest.mark.parametrize("name", ["smoothgrad", "grad-cam", "input-x-gradient"])
def test_where_an_estimator_comes_out_otherwise_the_others_are_current(name: str, monkeypatch) -> None:
    asked = changed(PLAN, {"modes": ("backprop",), "estimators": ("gradient", name, "vargrad")})
    gradient, one, other = digests(asked)
    monkeypatch.setitem(ESTIMATORS, name, replace(ESTIMATORS[name], version=99))
    assert [each == now for each, now in zip((gradient, one, other), digests(asked), strict=True)] == [
        True,
        False,
        True,
    ]
