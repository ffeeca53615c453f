"""What a picture says: built from a plan, written, read back with nothing believed, and turned into options again."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.draw import record as module
from gradviz_cli.draw.png import encode_png
from gradviz_cli.draw.record import OPTIONS, Record, as_arguments, describe, told
from gradviz_cli.estimators import Estimation
from gradviz_cli.plan import values
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Drawing, Plan
from gradviz_cli.plan.results import TargetResult
from gradviz_cli.plan.targets import Target
from gradviz_cli.process.protocol import Facts, InputFacts, ModelOptions

TARGET = TargetResult(3, "tabby", 0, 12.5, 0.975)
SAID = {
    "version": "0.1.0",
    "mode": "guided",
    "estimator": "gradient",
    "style": "overlay",
    "target": {"index": 3, "label": "tabby", "rank": 0, "score": 12.5, "output": 0.975},
    "signature": "serving_default",
    "preprocess": "torch",
    "clip": 99.0,
    "scale": [0.0, 0.25],
    "unit": "attribution per model-input unit",
    "model": "ab" * 32,
    "image": "cd" * 32,
    "digest": "ef" * 32,
    "npy": "12" * 32,
    "colormap": "viridis",
    "alpha": 0.0,
    "options": {"mode": ["guided"], "clip": 99.0, "style": "overlay", "trust-model": True},
}
FACTS = Facts(
    "serving_default", "the only one", InputFacts("x", (None, 2, 2, 3), "float32", "NHWC"), "y", "logits",
    None, None, 5, (2, 2), 3, "unit", {}, 0, 0, (),
)  # fmt: skip


def plan(model: dict | None = None, **drawing) -> Plan:
    return Plan(ModelOptions("model", **(model or {})), Path("out"), Drawing(**drawing))


def read(said: object) -> Record:
    found = Record.from_json(json.dumps(said))
    assert found is not None
    return found


# ---- written


def described(asked: Plan, output: Output, scale: object, arrays: dict) -> dict:
    digests = Digests(asked, "ab" * 32)
    return json.loads(
        describe(
            asked, output, TARGET, scale, facts=FACTS, digests=digests, image="cd" * 32, arrays=arrays
        ).to_json()
    )  # fmt: skip


def test_a_map_says_how_it_was_made_in_a_fixed_order() -> None:
    asked, output = plan(colormap="magma"), Output(Path("out/a.png.guided.png"), "guided", Target(rank=0), "heatmap")
    said = described(asked, output, (0.0, 0.5), {"guided": "12" * 32})
    assert list(said) == [
        "version", "mode", "estimator", "style", "target", "signature", "preprocess", "clip", "scale", "unit", "model",
        "image", "digest", "npy", "colormap", "options",
    ]  # fmt: skip
    assert said["target"] == {"index": 3, "label": "tabby", "rank": 0, "score": 12.5, "output": 0.975}
    assert (said["mode"], said["scale"], said["npy"]) == ("guided", [0.0, 0.5], "12" * 32)
    assert said["digest"] == Digests(asked, "ab" * 32).of(output, "cd" * 32)
    assert list(said["options"].items()) == [
        ("mode", ["guided"]), ("target", ["top1"]), ("style", "heatmap"), ("clip", 99.0), ("scale", "each"),
        ("fit", "stretch"), ("size", "image"), ("score", "logit"), ("activations", "relu"), ("colormap", "magma"),
    ]  # fmt: skip


def test_a_sheet_has_modes_scales_and_arrays_by_mode() -> None:
    asked = plan(modes=("backprop", "guided"))
    output = Output(Path("out/a.png.panel.png"), None, Target(rank=0), "panel")
    said = described(asked, output, {"backprop": (0.0, 0.5), "guided": None}, {"backprop": "1", "guided": "2"})
    assert said["mode"] == said["options"]["mode"] == ["backprop", "guided"]
    assert said["scale"] == {"backprop": [0.0, 0.5], "guided": None}
    assert said["npy"] == {"backprop": "1", "guided": "2"}


def test_a_scale_that_is_not_finite_and_an_alpha_of_zero_are_said() -> None:
    output = Output(Path("out/x.png"), "guided", Target(rank=0), "overlay")
    said = described(plan(alpha=0.0), output, None, {})
    assert said["scale"] is None and said["alpha"] == said["options"]["alpha"] == 0.0
    assert "npy" not in said


def test_only_what_the_style_uses_is_said() -> None:
    said = described(plan(), Output(Path("out/x.png"), "guided", Target(rank=0), "gray"), (0.0, 1.0), {})
    assert not {"colormap", "alpha"} & (said.keys() | said["options"].keys())


def test_a_shared_scale_names_all_that_shares_it() -> None:
    asked = plan(modes=("backprop", "deconv"), targets=(Target(rank=0), Target(index=7)), scale="shared")
    options = told(asked, Output(Path("out/x.png"), "deconv", Target(index=7), "gray"))
    assert options["mode"] == ("backprop", "deconv") and options["target"] == ("top1", "7")
    alone = told(replace(asked, drawing=replace(asked.drawing, scale="each")), Output(Path("x"), "deconv", Target(index=7), "gray"))  # fmt: skip
    assert alone["mode"] == ("deconv",) and alone["target"] == ("7",)


def test_options_of_the_model_are_told_where_they_were_given() -> None:
    model = {
        "preprocess": "torch", "input": "two words", "input_size": (32, 48), "at": (1, 2), "feeds": (("k", "v" * 201),),
        "allow_ops": ("A", "B"), "trust_model": True, "precision": "bfloat16",
    }  # fmt: skip
    options = told(plan(model, scores=False), Output(Path("x"), "deconv", Target(index=1), "gray"))
    assert options["input-size"] == "32x48" and options["at"] == "1,2"
    assert options["feed"] == ("k=...",) and options["allow-op"] == ("A", "B")
    assert options["no-scores"] is options["trust-model"] is True
    assert "signature" not in options and "fast-decode" not in options
    typed = shlex.split(as_arguments(options))
    assert typed[typed.index("--input") + 1] == "two words"
    assert typed.count("--allow-op") == 2 and typed.count("--trust-model") == 1


def test_numbers_in_place_of_a_preset_are_typed_again() -> None:
    model = {"pixel_range": (-1.0, 1.0), "mean": (0.485, 0.1), "std": (58.0, 1e-05), "channel_order": "bgr"}
    options = told(plan(model), Output(Path("x"), "deconv", Target(index=1), "gray"))
    typed = shlex.split(as_arguments(options))
    for name, value in (("pixel-range", "-1,1"), ("mean", "0.485,0.1"), ("std", "58,1e-05"), ("channel-order", "bgr")):
        assert typed[typed.index(f"--{name}") + 1] == value
    assert values.pixel_range(options["pixel-range"]) == (-1, 1) and values.deviations(options["std"]) == (58, 1e-05)


def test_every_field_has_its_reader_in_the_order_of_the_text() -> None:
    assert [*module._READERS, "more"] == [each.name for each in fields(Record)]


# ---- read back


def test_only_what_is_wanted_is_read() -> None:
    """A run that looks for what is current reads three fields of thousands of pictures; they are those of the whole."""
    text = json.dumps({
        "mode": "guided", "digest": "ab", "later": [1], "target": {"index": 3, "label": "tabby", "hue": 2}, "alpha": "x"
    })  # fmt: skip
    whole, part = Record.from_json(text), Record.from_json(text, only=("target", "digest", "npy"))
    assert (part.target, part.digest, part.npy) == (whole.target, "ab", None)
    assert (part.mode, part.alpha, dict(part.more)) == (None, None, {"target": {"hue": 2}})
    assert not part.has_whole_target and not whole.has_whole_target


def test_what_is_written_is_read_as_it_was() -> None:
    found = read(SAID)
    assert found.target == TARGET and found.scale == (0.0, 0.25) and found.options["mode"] == ("guided",)
    assert found.more == {}
    assert json.loads(found.to_json()) == SAID and list(json.loads(found.to_json())) == list(SAID)
    assert Record.from_json(found.to_json()) == found


def test_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((2, 2), np.uint8), None, json.dumps(SAID)))
    assert Record.read(tmp_path / "a.png") == read(SAID)
    assert Record.read(tmp_path / "none.png") is None
    (tmp_path / "b.png").write_bytes(encode_png(np.zeros((2, 2), np.uint8), None, "[1]"))
    assert Record.read(tmp_path / "b.png") is None


def test_what_a_later_version_adds_is_kept() -> None:
    more = {**SAID, "box": [1, {"x": 2}], "target": {**SAID["target"], "parent": "cat"}}
    found = read(more)
    assert found.target == TARGET
    assert dict(found.unknown()) == {"box": [1, {"x": 2}], "parent": "cat"}
    assert json.loads(found.to_json()) == more


LIES = [
    None,
    True,
    3,
    10**400,
    -1.5,
    "x",
    [],
    [[]],
    [1, 2, 3],
    ["a", 1],
    {},
    {"": {}},
    {"a": [None, {}]},
    {"index": "1"},
]


@pytest.mark.parametrize("name", [each.name for each in fields(Record)] + ["to_json", "__class__"])
def test_a_value_of_another_type_is_kept_apart(name: str) -> None:
    """Whatever stands there, every field has its type, the others are as they were, and nothing is lost on the way."""
    for lie in LIES:
        found = read({**SAID, name: lie})
        for text in ("version", "estimator", "style", "signature", "preprocess", "unit", "model", "image", "digest", "colormap"):  # fmt: skip
            assert isinstance(getattr(found, text), str) or text == name
        assert isinstance(found.target, TargetResult) or name == "target"
        assert found.target is None or not isinstance(found.target.index, str | bool)
        assert isinstance(found.options, dict)
        assert (found.model == SAID["model"]) or name == "model"
        back = json.loads(found.to_json()).get(name, {})  # options that are none are not said
        if name == "target" and isinstance(lie, dict):
            assert lie.items() <= back.items()
        elif lie is not None:
            assert back == lie


@pytest.mark.parametrize("field", ["index", "label", "rank", "score", "output"])
@pytest.mark.parametrize("lie", [True, "3", 10**30, [], {}, 2.5])
def test_a_target_is_believed_field_by_field(field: str, lie: object) -> None:
    found = read({**SAID, "target": {**SAID["target"], field: lie}})
    fits = isinstance(lie, str) if field == "label" else isinstance(lie, float) and field in ("score", "output")
    assert getattr(found.target, field) == (lie if fits else None)
    others = [name for name in ("index", "label", "rank", "score", "output") if name != field]
    assert [getattr(found.target, name) for name in others] == [getattr(TARGET, name) for name in others]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_not_finite_becomes_none(word: str) -> None:
    text = json.dumps(SAID).replace("12.5", word).replace("0.25]", f"{word}]").replace("99.0", word)
    found = Record.from_json(text)
    assert found is not None
    assert found.target.score is None and found.scale == (0.0, None) and found.clip is None
    assert not any(isinstance(value, float) and not math.isfinite(value) for value in found.said().values())
    json.loads(found.to_json(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "3", "[]", "{", '{"a": 1,}', "\x00", '"mode"',
        "[" * 100_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"a": ' + "1" * 5000 + "}",  # more digits than Python reads
        '{"more": [[[[[[[[[1]]]]]]]]]}',
        '{"options": {"clip": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}}',
        '{"a": [' + "0," * 100_001 + "0]}",
        '{"a": "' + "x" * (1 << 20) + '"}',
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_what_is_no_record(text: str) -> None:
    assert Record.from_json(text) is None


def test_the_bounds_leave_room_for_what_runs_write() -> None:
    said = {**SAID, "options": {**SAID["options"], "target": [f"top{n}" for n in range(1, 20_000)]}}
    assert len(read(said).options["target"]) == 19_999


def test_the_setup_is_what_the_pictures_of_a_run_have_in_common() -> None:
    one = read({**SAID, "options": {**SAID["options"], "scale": "shared", "fit": "crop"}})
    other = replace(
        one, mode="deconv", style="gray", image="00", digest="11", scale=(0.0, 9.0), colormap=None, npy=None
    )
    assert one.setup() == other.setup()
    assert one.setup()["scale"] == "shared" and one.setup()["fit"] == "crop" and one.setup()["clip"] == 99.0
    assert not {"options", "mode", "target", "style", "image", "digest", "alpha"} & one.setup().keys()
    assert replace(one, preprocess="unit").setup() != one.setup()


# ---- as arguments


def test_names_and_values_cannot_leave_their_word() -> None:
    found = read({**SAID, "options": {"style heatmap; touch x #": True, "$(id)": "x", "input": "a'b; $(id)\n`id`"}})
    assert as_arguments(found.options) == shlex.join(["--input", "a'b; $(id)\n`id`"])
    assert not dict(found.unknown())


@pytest.mark.parametrize("name", ["out", "config", "files-from", "force", "-o", "", "mode=x", "Mode"])
def test_what_is_no_option_of_a_picture_is_left_out(name: str) -> None:
    assert as_arguments({name: "x", "fit": "crop"}) == "--fit crop"


@pytest.mark.parametrize(
    ("options", "typed"),
    [
        ({"clip": 99.0}, "--clip 99"),
        ({"clip": 99.5}, "--clip 99.5"),
        ({"mode": ("backprop", "deconv")}, "--mode backprop --mode deconv"),
        ({"trust-model": True}, "--trust-model"),
        ({"trust-model": False}, ""),
        ({"input": "two words"}, "--input 'two words'"),
        ({"target": ("3", "top2")}, "--target 3 --target top2"),
        ({"alpha": 0.0}, "--alpha 0"),
        ({}, ""),
    ],
)
def test_options_as_they_are_typed(options: dict, typed: str) -> None:
    assert as_arguments(options) == typed


def test_every_option_that_a_picture_repeats_is_one_of_the_command() -> None:
    from gradviz_cli.cli.explain import command

    known = {name for parameter in command.params for name in parameter.opts}
    assert {f"--{name}" for name in OPTIONS} <= known


# Fields of ModelOptions and Drawing that no picture repeats, and why.
NOT_REPEATED = {
    "path": "MODEL is an argument, no option, and a picture may travel: what it says of the model is its fingerprint",
    "raw": "changes no pixel: an array is written beside the picture, which says the array's SHA-256",
    "only": "without --mode each estimator has its own; the modes are said",
    "estimation": "holds options, each repeated by itself",
    "baseline_sha256": "of the file that --baseline names",
}


def option_of(field: str) -> str | None:
    """`--no-scores` is the field `scores`, `--mode` the field `modes`."""
    name = field.replace("_", "-")
    return next((each for each in (name, f"no-{name}", name.removesuffix("s")) if each in OPTIONS), None)


def test_every_field_that_could_change_a_picture_is_repeated_or_left_out_for_a_reason() -> None:
    asked = [each.name for kind in (ModelOptions, Drawing, Estimation) for each in fields(kind)]
    repeated = {name: option_of(name) for name in asked}
    forgotten = {name for name, option in repeated.items() if option is None} - NOT_REPEATED.keys()
    assert not forgotten, f"neither in record.OPTIONS nor in NOT_REPEATED: {sorted(forgotten)}"
    assert {name for name, option in repeated.items() if option is None} == NOT_REPEATED.keys()
    assert sorted([*filter(None, repeated.values()), "proof"]) == sorted(OPTIONS), "a proof changes how a graph is run"
