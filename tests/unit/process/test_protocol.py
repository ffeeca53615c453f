"""Messages survive the wire; what a child may not send is refused, and the refusal says where it is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from gradviz_cli.estimators import Estimation, Taps
from gradviz_cli.process.protocol import (
    CamLayer,
    Chosen,
    Count,
    Decode,
    Decoded,
    Explain,
    Explained,
    Facts,
    Failure,
    GradientFacts,
    InputFacts,
    Inspect,
    Inspected,
    Inspection,
    Load,
    Loaded,
    ModelOptions,
    NotUnderstood,
    Proof,
    RefusedOp,
    SignatureInfo,
    TensorInfo,
    Verdict,
    Witness,
    check_arrays,
    expected_arrays,
    from_wire,
    rows,
    size_of,
    to_wire,
)
from gradviz_cli.process.sandbox.enter import Sandbox

INPUT = InputFacts("x", (None, 8, 8, 3), "float32", "NHWC", "pixels")
FACTS = Facts(
    signature="serving_default",
    why="the only one",
    input=INPUT,
    output="y",
    score="dense/BiasAdd:0",
    bypassed="Softmax",
    channel=None,
    classes=5,
    size=(8, 8),
    channels=3,
    preprocess="unit",
    activations={"Relu": (2, 2), "LeakyRelu": (3, 0)},
    gates=1,
    custom_gradients=0,
    warnings=("the range is a guess",),
)
LOADED = Loaded(FACTS, 1.5, 0, Sandbox("full", 5, True, ()))
OPTIONS = ModelOptions("m", at=(1, 2), feeds=(("rate", "0.5"),), input_size=(9, 7), allow_ops=("Print",))
TENSOR = TensorInfo("x:0", "float32", (None, 8, 8, 3))
INSPECTION = Inspection(
    tags=(("serve",),),
    tensorflow_version="2.21.0",
    signatures={"serving_default": SignatureInfo({"x": TENSOR}, {"y": TensorInfo("y:0", "float32", None)})},
    chosen=Chosen("serving_default", "the only one", INPUT, "y", "dense:0", None),
    activations={"Relu": Count(2, 2)},
    gradient=GradientFacts(False, "Round (Round)"),
    cam_layers=(CamLayer("relu:0", "Relu", (None, 4, 4, 8)),),
    refused_ops=(RefusedOp("ReadFile", "a/b"),),
    modes={"backprop": Verdict(True), "guided": Verdict(False, "no ReLU")},
    problem="cut",
    problem_kind="ModelUnusable",
)
MESSAGES = [
    Load(OPTIONS, ("guided", "deconv"), 2, True),
    Inspect(OPTIONS),
    Explain((-1, 3), ("guided",), False),
    Explain(
        (-1,), ("guided", "backprop.grad-cam"), estimation=Estimation(samples=7, baseline="x.png", cam_layer="y:0")
    ),
    LOADED,
    Inspected(INSPECTION),
    Explained(),
    Failure("ModelUnusable", "no", "do", ("line 1", "line 2")),
    Decode(10, 20, 8, 8, 3, "crop", True, False),
    Decoded(5, 6),
]


def sent(message: object) -> dict:
    """As it comes out of the pipe."""
    return json.loads(json.dumps(to_wire(message)))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_survives_the_wire(message) -> None:
    assert from_wire(sent(message), type(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_of_another_type_is_none_of_those_that_may_come(message) -> None:
    other = next(type(one) for one in MESSAGES if type(one) is not type(message))
    with pytest.raises(NotUnderstood, match=other.__name__):
        from_wire(sent(message), other)


def test_one_of_several_types() -> None:
    assert from_wire(sent(Failure("Bug", "x")), Loaded, Failure) == Failure("Bug", "x")


@pytest.mark.parametrize("header", [None, 7, "Loaded", [], {}, {"type": 7}, {"type": ["Loaded"]}, {"type": "Nothing"}])
def test_what_is_no_message(header) -> None:
    with pytest.raises(NotUnderstood):
        from_wire(header, Loaded)


# Where in `Loaded` -> what cannot stand there.
LIES = [
    ("facts", None),
    ("facts", []),
    ("facts.signature", 7),
    ("facts.signature", None),
    ("facts.signature", "x" * 20_001),
    ("facts.input", []),
    ("facts.input.shape", [1, "2"]),
    ("facts.input.shape", [[]]),
    ("facts.bypassed", False),
    ("facts.classes", 2.5),
    ("facts.classes", True),
    ("facts.classes", 2**63),
    ("facts.size", [8]),
    ("facts.size", [8, 8, 8]),
    ("facts.size", ["8", 8]),
    ("facts.size", {"0": 8}),
    ("facts.activations", 7),
    ("facts.activations", {"Relu": [1]}),
    ("facts.activations", {"Relu": [1, 1, 1]}),
    ("facts.activations", {"x" * 20_001: [1, 1]}),
    ("facts.warnings", "abc"),
    ("facts.warnings", [{}]),
    ("facts.warnings", [7]),
    ("import_seconds", "1"),
    ("import_seconds", float("nan")),
    ("import_seconds", float("inf")),
    ("sandbox", "full"),
    ("sandbox.seccomp", 1),
    ("sandbox.level", None),
]


@pytest.mark.parametrize(("place", "lie"), LIES, ids=lambda value: str(value)[:30])
def test_a_lie_is_refused_and_named(place: str, lie: object) -> None:
    header = sent(LOADED)
    *way, last = place.split(".")
    part = header
    for name in way:
        part = part[name]
    part[last] = lie
    with pytest.raises(NotUnderstood, match=f"Loaded.{place}".replace(".", r"\.")):
        from_wire(header, Loaded)


@pytest.mark.parametrize("place", [(), ("facts",), ("facts", "input"), ("sandbox",)])
def test_a_field_too_many_or_too_few(place: tuple[str, ...]) -> None:
    for change in (lambda part: part.update(more=1), lambda part: part.pop(next(n for n in part if n != "type"))):
        header = sent(LOADED)
        part = header
        for name in place:
            part = part[name]
        change(part)
        with pytest.raises(NotUnderstood, match="has not the fields"):
            from_wire(header, Loaded)


def test_lists_have_an_end() -> None:
    header = sent(LOADED)
    header["facts"]["warnings"] = [""] * 500_001
    with pytest.raises(NotUnderstood, match="no list"):
        from_wire(header, Loaded)


def test_a_child_believes_longer_texts_of_the_command_than_the_command_of_a_child() -> None:
    header = sent(Load(replace(OPTIONS, feeds=(("x", "1" * 30_000),))))
    assert from_wire(header, Load, longest=2**23).options.feeds[0][1] == "1" * 30_000
    with pytest.raises(NotUnderstood):
        from_wire(header, Load)


# -- what a mode leaves as it is


def test_backprop_leaves_nothing_to_say_of_activations() -> None:
    assert FACTS.warnings_for(["backprop"]) == FACTS.warnings


@pytest.mark.parametrize("modes", [["guided"], ["backprop", "deconv"]])
def test_a_rule_names_what_does_not_obey_it(modes: list[str]) -> None:
    first, second = FACTS.warnings_for(modes)
    assert first == "the range is a guess" and "3 LeakyRelu" in second and "2 Relu" not in second


# -- arrays: one image of 1 x 2 pixels and 3 channels, two targets, two modes

REQUEST = Explain((-1, 4), ("backprop", "guided"))


def arrays(images: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    columns = [random.integers(0, 9, (images, 2)).astype(np.int32) for _ in range(2)]
    columns[0][:, 1] = 4
    columns += [random.normal(size=(images, 2)).astype(np.float32) for _ in range(2)]
    return columns + [random.normal(size=(2, images, 1, 2, 3)).astype(np.float32) for _ in range(2)]


def test_size_of_what_is_expected() -> None:
    # 4 columns of 3 x 2 numbers of 4 bytes, 2 gradients of 2 x 3 images of 1 x 2 x 3 numbers of 4 bytes
    assert size_of(expected_arrays(REQUEST, 3, (1, 2, 3))) == 4 * (3 * 2) * 4 + 2 * (2 * 3 * 6) * 4


def test_arrays_as_asked_for_become_a_row_for_each_image() -> None:
    given = arrays(3)
    check_arrays(given, expected_arrays(REQUEST, 3, (1, 2, 3)))
    found = rows(REQUEST, given)
    assert len(found) == 3
    for i, row in enumerate(found):
        assert (row.index == given[0][i]).all() and (row.score == given[2][i]).all()
        assert list(row.gradients) == ["backprop", "guided"]
        assert (row.gradients["guided"] == given[5][:, i]).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given[:-1],
        lambda given: [*given, given[-1]],
        lambda given: [given[0].astype(np.float32), *given[1:]],
        lambda given: [*given[:-1], given[-1][..., :2]],
        lambda given: [given[0][:, :1], *given[1:]],
    ],
)
def test_other_arrays_are_refused(change) -> None:
    with pytest.raises(ValueError, match="not the arrays"):
        check_arrays(change(arrays()), expected_arrays(REQUEST, 1, (1, 2, 3)))


@pytest.mark.parametrize(("place", "lie"), [(0, -1), (0, -(10**6)), (1, -2)])
def test_a_class_below_0_is_refused(place: int, lie: int) -> None:
    given = arrays()
    given[place][0, 1] = lie
    with pytest.raises(ValueError, match="below 0"):
        rows(REQUEST, given)


def test_another_class_than_was_asked_for_is_refused() -> None:
    given = arrays(3)
    given[0][2, 1] = 5
    with pytest.raises(ValueError, match="another class"):
        rows(REQUEST, given)


def test_a_proof_is_bounded() -> None:
    Proof((Witness("slope", said="x" * 1000),) * 5, warnings=("y" * 1000,))
    for longer in ({"witnesses": (Witness("slope"),) * 99}, {"witnesses": (), "warnings": ("",) * 99}):
        with pytest.raises(NotUnderstood):
            Proof(**longer)
    with pytest.raises(NotUnderstood):
        Proof((Witness("slope", said="x" * 19_000),) * 5)


def test_a_rank_that_was_not_asked_for_is_one_below_0() -> None:
    given = arrays()
    given[1][:] = -1
    assert rows(REQUEST, given)[0].rank.tolist() == [-1, -1]


def test_activations_that_an_own_gradient_passes_by_are_said_where_a_rule_acts():
    facts = replace(FACTS, activations={"Relu": (2, 2)}, passed_by=3)
    assert facts.warnings_for(["backprop"]) == FACTS.warnings
    *before, said = facts.warnings_for(["deconv"])
    assert tuple(before) == FACTS.warnings and "activations (3)" in said and "--mode backprop" in said


# ---- estimators


TAPS = (Taps("cam", ("relu:0",), (4, 5), (0, 1, 2)),)


def test_each_estimator_has_arrays_of_its_own_shapes() -> None:
    request = Explain((-1, 4), ("guided", "backprop.grad-cam", "deconv.smoothgrad"))
    assert expected_arrays(request, 3, (8, 9, 3), TAPS)[4:] == [
        ("float32", (2, 3, 8, 9, 3)),
        ("float32", (2, 3, 4, 5, 1)),
        ("float32", (2, 3, 8, 9, 3)),
        ("float32", (2, 3, 1)),
        ("float32", (2, 3, 1)),
    ]
    assert request.sampled and not request.takes_baseline
    assert Explain((0,), ("backprop.integrated-gradients",)).takes_baseline


def test_what_is_recorded_beside_a_map_comes_with_its_row() -> None:
    request = Explain((4,), ("guided", "backprop.hires-cam"))
    shapes = expected_arrays(request, 2, (2, 2, 1), TAPS)
    given = [np.full(shape, 4, dtype) for dtype, shape in shapes]
    given[-1][0, 1, 0] = 0.75
    row = rows(request, given)[1]
    assert set(row.gradients) == {"guided", "backprop.hires-cam"} and row.gradients["backprop.hires-cam"].shape == (
        1,
        4,
        5,
        1,
    )
    assert {name: one.tolist() for name, one in row.numbers.items()} == {"backprop.hires-cam": [[0.75]]}


def test_each_image_may_have_a_class_of_its_own() -> None:
    request = Explain((4, 2, 7), ("backprop",), own=True)
    expected = expected_arrays(request, 3, (2, 2, 3))
    arrays = [np.zeros(shape, dtype) for dtype, shape in expected]
    assert arrays[0].shape == (3, 1) and arrays[4].shape == (1, 3, 2, 2, 3)
    arrays[0][:, 0] = 4, 2, 7
    assert [int(row.index[0]) for row in rows(request, arrays)] == [4, 2, 7]
    arrays[0][:, 0] = 4, 7, 2
    with pytest.raises(ValueError, match="another class"):
        rows(request, arrays)
