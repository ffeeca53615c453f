"""The same options give the same plan, on the command line and in Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from children import python

from gradviz_cli.batch import engines, planning
from gradviz_cli.batch.planning import MODEL_FILE, OPTIONS, model_from, plan_from
from gradviz_cli.cli.config import given
from gradviz_cli.cli.explain import command
from gradviz_cli.cli.inspect import command as inspect
from gradviz_cli.cli.mistakes import said_of
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import ModelRefused, UsageError
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import outputs
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.serialize import from_json, to_json
from gradviz_cli.plan.targets import Target
from gradviz_cli.rules import RULES


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "assets.extra" / "labels.txt").write_text("cat\ndog\nred panda\n")
    return folder


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engines, "_check_installed", lambda engine: None)


def typed(model: Path, *argv: str) -> Plan:
    """What the command makes of its arguments."""
    with command.make_context("explain", [str(model), "x.png", *argv]) as context:
        asked, standing = given(context)
        return plan_from(context.params["model"], context.params["out"], standing=standing, **asked)


def digests(plan: Plan) -> list[str]:
    known = Digests(plan, "f")
    return [known.of(output, "i") for output in outputs(plan, Job(Path("x"), "x"), SHEETS)]


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        ("", {}),
        ("-m deconv -m guided", {"mode": ["deconv", "guided"]}),
        ("-m all --style panel", {"mode": "all", "style": "panel"}),
        ("-m deconv,guided --style gray,rgb", {"mode": "deconv, guided", "style": ["gray", "rgb"]}),
        ("-t top3 -t 3 -t dog", {"target": ["top3", 3, "dog"]}),
        ("-t 7", {"target": 7}),
        ("--clip 95 --alpha 1 --style overlay", {"clip": 95, "alpha": 1, "style": ("overlay",)}),
        ("--input-size 32x48 --at 3,4", {"input_size": (32, 48), "at": [3, 4]}),
        ("--at 3", {"at": 3}),
        ("--box-of 3", {"box_of": 3}),
        ("--box-of all", {"box_of": "all"}),
        ("--feed x=1 --feed y=[0.5,1]", {"feed": {"x": np.int32(1), "y": [0.5, 1]}}),
        ("--feed x=True", {"feed": "x=True"}),
        ("--preprocess torch --score output --activations all", {
            "preprocess": "torch", "score": "output", "activations": "all"}),
        ("--pixel-range -1,1 --mean 0.5,0.25,0 --std 2 --channel-order bgr", {
            "pixel_range": (-1, 1), "mean": [0.5, 0.25, 0], "std": 2, "channel_order": "bgr"}),
        ("--labels-from 1 -t dog", {"labels_from": 1, "target": "dog"}),
        ("--allow-op A --allow-op B --trust-model", {"allow_op": ["A", "B"], "trust_model": True}),
        ("-m deconv -t 3 --no-scores --fast-decode", {
            "mode": "deconv", "target": "3", "no_scores": True, "fast_decode": True}),
        ("--batch-size 8 --jobs auto --timeout 5 --max-duration 9", {
            "batch_size": 8, "jobs": "auto", "timeout": 5, "max_duration": 9}),
        ("--max-pixels 1M --max-file-size 10k --lock-wait 2", {
            "max_pixels": 1_000_000, "max_file_size": "10k", "lock_wait": 2}),
        ("--channel-order rgba --layout channels_last", {"channel_order": "rgba", "layout": "nhwc"}),
        ("--signature s --tag t --input i --output o --layout NCHW", {
            "signature": "s", "tag": "t", "input": "i", "output": "o", "layout": "NCHW"}),
        ("--raw --force --adopt --dry-run --fail-fast --allow-empty --allow-empty-map --require-sandbox", dict.fromkeys(
            ["raw", "force", "adopt", "dry_run", "fail_fast", "allow_empty", "allow_empty_map", "require_sandbox"], True)),
        ("--colormap magma --scale shared --size input --fit pad --precision bfloat16", {
            "colormap": "magma", "scale": "shared", "size": "input", "fit": "pad", "precision": "bfloat16"}),
        ("--labels names.txt -t owl --style panel", {"labels": "names.txt", "target": "owl", "style": "panel"}),
        ("--proof always", {"proof": "always"}),
        ("-e gradient,smoothgrad -e grad-cam --samples 8 --noise 0.1 --cam-layer relu:0 --box --style overlay", {
            "estimator": ["gradient", "smoothgrad", "grad-cam"], "samples": 8, "noise": 0.1, "cam_layer": "relu:0",
            "box": True, "style": "overlay"}),
        ("-m deconv -e integrated-gradients --baseline names.txt", {
            "mode": "deconv", "estimator": "integrated-gradients", "baseline": "names.txt"}),
        ("--include *.jpg --include 2024 --exclude old --follow-links --root photos --pages all", {
            "include": ["*.jpg", "2024"], "exclude": "old", "follow_links": True, "root": Path("photos"), "pages": "all"}),
        ("--engine ray --ray-address head:6379", {"engine": "ray", "ray_address": "head:6379"}),
        ("-o elsewhere", {"out": "elsewhere"}),
    ],
    ids=str,
)  # fmt: skip
def test_the_command_and_python_plan_alike(model: Path, argv: str, options: dict) -> None:
    Path("names.txt").write_text("owl\nbat\n")
    command_line, python = typed(model, *argv.split()), plan_from(model, **options)
    assert command_line == python
    assert digests(command_line) == digests(python)
    assert to_json(command_line) == to_json(python)
    assert from_json(to_json(python)) == python


def test_every_option_of_a_plan_is_compared_above() -> None:
    rows = test_the_command_and_python_plan_alike.pytestmark[0].args[1]
    assert {name for _, options in rows for name in options} >= OPTIONS.keys() - {"verify"}


def test_nothing_given_is_as_good_as_a_default(model: Path) -> None:
    assert plan_from(model, **dict.fromkeys(OPTIONS)) == plan_from(model)
    assert plan_from(model, mode=[], target=(), style=[]) == plan_from(model)


def test_the_defaults_that_help_shows_are_those_of_the_plan(model: Path) -> None:
    """click says them, the plan has them."""
    for parameter in command.params:
        name = max(parameter.opts, key=len).removeprefix("--").replace("-", "_")
        if name in OPTIONS and isinstance(parameter.default, str | int | float | bool):
            assert plan_from(model, standing={name: parameter.default}) == plan_from(model), name
    assert plan_from(model).drawing.modes == ("guided",)


def test_every_option_of_a_plan_is_on_the_command_line() -> None:
    known = {name for parameter in command.params for name in parameter.opts}
    assert {f"--{name.replace('_', '-')}" for name in OPTIONS if name != "verify"} <= known  # that is -vv


def test_choices_are_those_of_the_plan(model: Path) -> None:
    for parameter in command.params:
        name = max(parameter.opts, key=len).removeprefix("--").replace("-", "_")
        if isinstance(parameter.type, click.Choice) and name in OPTIONS:
            for choice in set(parameter.type.choices) - {"list"}:
                plan_from(model, standing={name: choice})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "fancy"}, f"--mode: 'fancy' is none of {', '.join(RULES)}, all"),
        ({"modes": "guided"}, "there is no option modes; did you mean mode?"),
        ({"style": ["heatmap", "x"]}, "--style: 'x' is none of "),
        ({"target": "unicorn"}, "--target unicorn: no such label among the 3 of "),
        ({"mode": "guide"}, f"--mode: 'guide' is none of {', '.join(RULES)}, all; did you mean guided?"),
        ({"mode": "guided,x"}, "--mode: 'x' is none of "),
        (
            {"preprocess": "imagenet"},
            "--preprocess: 'imagenet' is none of auto, raw, unit, signed, caffe, torch; did you mean torch or caffe?",
        ),
        ({"clip": 0}, "--clip: 0 is not a percentile"),
        ({"clip": "wide"}, "--clip: 'wide' is no number"),
        ({"alpha": 2, "style": "overlay"}, "--alpha: 2 is no weight"),
        ({"alpha": 0.7}, "--alpha 0.7: --style heatmap cannot use it"),
        ({"colormap": "fancy"}, "--colormap: 'fancy' is none of inferno, "),
        ({"no_scores": True}, "--no-scores: only deconv of given classes"),
        ({"no_scores": True, "mode": "deconv", "target": "3", "style": "panel"}, "--no-scores: a panel shows"),
        ({"input_size": 224}, "--input-size: 224 is not HEIGHTxWIDTH"),
        ({"ray_address": "head:1"}, "--ray-address head:1: --engine local has no use for it; add --engine ray"),
        (
            {"engine": "ray", "ray_address": "ray://head:1"},
            "--ray-address: 'ray://head:1' is no address; give HOST:PORT",
        ),
        ({"timeout": 0.5}, "--timeout: 0.5 is no number of seconds from 1"),
        ({"max_duration": 0}, "--max-duration: 0 is no number of seconds above 0"),
        ({"batch_size": 0}, "--batch-size: 0 is neither"),
        ({"force": "yes"}, "--force: 'yes' is neither true nor false"),
        ({"feed": "x"}, "--feed: x is not NAME=VALUE"),
        ({"feed": ["x=1", "x=2"]}, "--feed: x is given twice"),
        ({"layout": "NXWC"}, "--layout: 'NXWC' is none of NHWC"),
        ({"labels": ""}, "--labels: it is empty"),
        ({"labels": "none.txt"}, "--labels none.txt: no such file; check the path"),
        ({"out": ""}, "--out: it is empty"),
        ({"out": "-"}, "--out -: pictures are not written to stdout; give a folder; one of that name"),
        ({"allow_op": ""}, "--allow-op: it is empty"),
        ({"allow_op": "Relu,"}, "--allow-op: it is empty"),
        ({"preprocess": "raw", "mean": 0.5}, "--preprocess raw and --mean both say"),
        ({"preprocess": "caffe", "channel_order": "rgb"}, "--preprocess caffe and --channel-order both say"),
        ({"mean": "0,0,0"}, "--mean: it does not say of which range it is"),
        ({"std": 1}, "--std: it does not say of which range it is"),
        ({"pixel_range": "0,1", "mean": "123.68"}, "--mean 123.68: no mean of pixels in 0..1"),
        ({"mean": "-0.5"}, "--mean -0.5: no mean of pixels in 0..1 or 0..255"),
        ({"mean": "300"}, "--mean 300: no mean of pixels in 0..1 or 0..255"),
        ({"std": "-1"}, "--std: -1 is no standard deviation"),
        ({"channel_order": "grb"}, "--channel-order: 'grb' is none of rgb, bgr"),
        ({"labels_from": 3}, "--labels-from 3: "),
        ({"labels": "none.txt", "labels_from": "x"}, "--labels-from: x is no whole number"),
    ],
    ids=str,
)
def test_what_makes_no_sense(model: Path, options: dict, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_from(model, **options)
    assert str(caught.value).startswith(said) and "; " in str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        "--clip 101",
        "--mode guide",
        "--style x",
        "--input-size 224",
        "-t unicorn",
        "--alpha 0.7",
        "--no-scores",
        "--labels none.txt",
        "--colormap viridis --style gray",
    ],
)
def test_the_command_refuses_in_the_same_words(model: Path, argv: str) -> None:
    words = argv.replace("-t ", "--target ").split()
    options: dict[str, object] = {}
    for name, value in zip(words, [*words[1:], "--"], strict=True):
        if name.startswith("--"):
            options[name[2:].replace("-", "_")] = True if value.startswith("--") else value
    with pytest.raises(UsageError) as from_python:
        plan_from(model, **options)
    with pytest.raises((UsageError, click.BadParameter)) as from_command:
        typed(model, *argv.split())
    error = from_command.value
    said = said_of(error, dict) if isinstance(error, click.ClickException) else str(error)
    assert str(from_python.value) == said


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model: nowhere; check the path"):
        plan_from("nowhere")
    with pytest.raises(UsageError, match="MODEL: it is empty"):
        plan_from("")


def test_out_is_no_folder_of_the_model(model: Path) -> None:
    with pytest.raises(UsageError, match=f"--out {model}/heatmaps lies in the model {model}; give a folder of its own"):
        plan_from(model, model / "heatmaps")


def test_what_the_model_says_of_itself(model: Path) -> None:
    (model / MODEL_FILE).write_text('preprocess = "unit"\ninput-size = "8x9"\nat = 3\nlabels = "labels.txt"\n')
    plan = plan_from(model)
    assert (plan.model.preprocess, plan.model.input_size, plan.model.at) == ("unit", (8, 9), (3,))
    assert plan.labels == ("cat", "dog", "red panda")
    assert plan == typed(model)
    assert plan_from(model, preprocess="raw").model.preprocess == "raw"
    assert typed(model, "--preprocess", "auto").model.preprocess == "auto"  # a default that is asked for counts
    assert plan_from(model, standing={"preprocess": "torch"}).model.preprocess == "torch"
    options, labels = model_from(model, signature="s")
    assert (options.preprocess, options.signature, labels) == ("unit", "s", plan.labels)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("trust-model = true", "trust-model is none of preprocess"),
        ("max-pixels = '1G'", "max-pixels is none of"),
        ("preprocess = 'fancy'", "--preprocess: 'fancy' is none of"),
        ("labels = '../../names.txt'", "lies outside the model"),
        ('labels = "a\\u0000b"', "name with a NUL"),
        ("a = " + "[" * 5000 + "]" * 5000, "more than 8 deep"),
        ("labels = 'loop'", "gradviz.toml: labels = "),
        ("preprocess = 'raw'\nmean = 0.5", "both say what the model expects"),
        ("preprocess =", "gradviz.toml: "),
        ("labels = 0x" + "f" * 5000, "more than 100 characters"),
        ("labels = 1979-05-27", "labels is no value of an option"),
        ("[labels]\na = 1", "labels is no value of an option"),
        ("mean = [" + "0," * 5000 + "]", "mean is no value of an option"),
        ("labels = '" + "x" * 60_000 + "'", "gradviz.toml: labels = "),
        ("'" + "x" * 60_000 + "' = 1", "is none of preprocess"),
    ],
)
def test_what_a_model_may_not_say(model: Path, content: str, said: str) -> None:
    (model / "assets.extra" / "loop").symlink_to("loop")
    (model / MODEL_FILE).write_text(content)
    with pytest.raises(UsageError) as caught:
        plan_from(model)
    assert str(model / MODEL_FILE) in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_the_model_says_of_itself_lies_in_it(model: Path, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside" / MODEL_FILE.name
    outside.parent.mkdir()
    outside.write_text('preprocess = "unit"\n')
    link, target = (model / MODEL_FILE, outside) if what == "file" else (model / MODEL_FILE.parent, outside.parent)
    if what == "folder":
        shutil.rmtree(link)
    link.symlink_to(target)
    with pytest.raises(ModelRefused, match=r"gradviz\.toml is a link out of the model"):
        plan_from(model)
    link.unlink()
    store = tmp_path / "store"  # of a download cache, where the graph lies too
    store.mkdir()
    (store / "graph").write_bytes(b"a graph")
    outside.rename(store / "settings")
    (model / "saved_model.pb").symlink_to(store / "graph")
    (model / MODEL_FILE.parent).mkdir(exist_ok=True)
    (model / MODEL_FILE).symlink_to(store / "settings")
    assert plan_from(model).model.preprocess == "unit"


def test_standing_options_need_not_be_of_use(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan_from(model, standing={"alpha": 0.7}).drawing.alpha == 0.7
    monkeypatch.setenv("GRADVIZ_EXPLAIN_ALPHA", "0.7")
    Path("mine.toml").write_text('mode = ["deconv", "guided"]\nbatch-size = 8\nlock-wait = 3\n')
    plan = typed(model, "--config", "mine.toml", "-m", "backprop", "--batch-size", "auto")
    assert plan.drawing.alpha == 0.7 and plan.lock_wait == 3.0
    assert plan.drawing.modes == ("backprop",) and plan.batch_size is None  # what is typed wins
    assert plan == plan_from(
        model, standing={"alpha": 0.7, "mode": ["deconv", "guided"], "batch_size": 8, "lock_wait": 3},
        mode="backprop", batch_size="auto",
    )  # fmt: skip


def test_what_was_typed_is_kept_beside_the_model_that_it_means(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = tmp_path / "birds"
    for version in ("1", "10", "9"):
        shutil.copytree(model, versions / version)
        (versions / version / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    monkeypatch.chdir(tmp_path)
    plan = plan_from("birds")
    assert (plan.typed, plan.model.path) == (str(versions), "birds/10")


def test_inspect_asks_for_the_same_model(model: Path) -> None:
    argv = [str(model), "--score", "output", "--feed", "x=1", "--allow-op", "A"]
    with inspect.make_context("inspect", list(argv)) as context:
        asked, standing = given(context)
    assert asked.keys() == {"score", "feed", "allow_op"} and not standing
    assert model_from(model, **asked)[0] == typed(model, *argv[1:]).model


def test_a_canonical_plan(model: Path) -> None:
    drawing = plan_from(model, mode=["all", "guided"], target=["top2", "top1"], style=["gray", "gray"]).drawing
    assert drawing.modes == tuple(RULES) and drawing.styles == ("gray",)
    assert drawing.targets == (Target(rank=0), Target(rank=1))
    assert isinstance(plan_from(model, clip=95).drawing.clip, float)
    assert plan_from(str(model), "out") == plan_from(model, Path("out"))


def test_planning_imports_no_tensorflow() -> None:
    code = "import sys, gradviz_cli.batch.run, gradviz_cli.batch.planning; print('tensorflow' in sys.modules, 'click' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False False\n"


def test_the_command_plans_without_numpy_as_its_worker_is_started_next() -> None:
    code = """
import sys
from gradviz_cli.cli.later import put_off
put_off()
import gradviz_cli.cli.explain, numpy
from gradviz_cli.batch.planning import plan_from
from gradviz_cli.demo import MODEL
plan_from(MODEL, mode=("guided",), target=("top1",), dry_run=False, clip=99.0)
before = "numpy._core" in sys.modules
assert numpy.zeros(1).dtype == numpy.float64 and sys.modules["numpy"] is not numpy
print(before, "PIL" in sys.modules, "gradviz_cli.batch.course" in sys.modules)
"""
    found = python(code, text=True, check=True)
    assert found.stdout == "False False False\n"


def test_the_table_names_every_field_once() -> None:
    tables = (planning.OF_MODEL, planning.OF_DRAWING, planning.OF_WALK, planning.OF_RUN)
    assert len(OPTIONS) == sum(map(len, tables))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225"}, (0, 1)),
        ({"mean": "123.68,116.779,103.939", "channel_order": "bgr"}, (0, 255)),
        ({"mean": 0, "std": 127.5}, (0, 255)),
        ({"std": [0.2]}, (0, 1)),
        ({"pixel_range": [-1, 1], "mean": -0.5}, (-1, 1)),
        ({"pixel_range": (0, 2), "std": 1}, (0, 2)),
        ({"channel_order": "bgr"}, None),
    ],
    ids=str,
)
def test_a_mean_says_of_which_range_it_is(model: Path, options: dict, expected: tuple | None) -> None:
    assert plan_from(model, **options).model.pixel_range == expected


def test_a_range_and_a_preset_set_each_other_aside(model: Path) -> None:
    (model / MODEL_FILE).write_text('pixel-range = [0, 1]\nmean = [0.5, 0.25, 0]\nchannel-order = "bgr"')
    own = plan_from(model).model
    assert (own.pixel_range, own.mean, own.channel_order, own.preprocess) == ((0, 1), (0.5, 0.25, 0), "bgr", "auto")
    asked = plan_from(model, preprocess="caffe").model
    assert (asked.pixel_range, asked.mean, asked.channel_order, asked.preprocess) == (None, (), None, "caffe")
    assert plan_from(model, preprocess="auto").model.pixel_range is None
    other = plan_from(model, pixel_range=(-1, 1)).model
    assert (other.pixel_range, other.mean, other.channel_order) == ((-1, 1), (), "bgr")
    both = plan_from(model, standing={"preprocess": "raw"}, std=0.5).model
    assert (both.preprocess, both.pixel_range, both.std) == ("auto", (0, 1), (0.5,))


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"labels": "names.txt", "target": "owl"}, "--labels names.txt"),
        ({"target": ["top3", 2]}, ""),
        ({"target": "dog"}, "--target by label"),
        ({"target": "parent"}, "--target by label"),
        ({"labels_from": 1}, "--labels-from 1"),
        ({"labels": "names.txt", "labels_from": 1}, "--labels names.txt --labels-from 1"),
        ({"labels_from": 0}, ""),
        ({"standing": {"labels": "names.txt"}}, "--labels names.txt"),
    ],
    ids=str,
)
def test_who_asks_for_labels(model: Path, options: dict, asked: str) -> None:
    """Those of the model itself may be left out where they do not fit it."""
    Path("names.txt").write_text("owl\nbat\n")
    assert plan_from(model, **options).labels_asked == asked


def test_labels_that_the_model_names(model: Path) -> None:
    (model / MODEL_FILE).write_text('labels = "labels.txt"\nlabels-from = 1')
    plan = plan_from(model)
    assert (plan.labels, plan.labels_asked) == (("dog", "red panda"), "")
    assert model_from(model, labels_from=2)[1] == ("red panda",)


# ---- estimators


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimator": "gradcam"}, ["gradcam", "did you mean grad-cam"]),
        ({"samples": 64}, ["--samples 64", "gradient cannot use it", "smoothgrad"]),
        ({"estimator": "smoothgrad", "samples": 0}, ["--samples"]),
        ({"estimator": "smoothgrad", "noise": -1}, ["--noise"]),
        ({"estimator": "vargrad", "samples": 1}, ["--samples 1", "vargrad", "2 or more"]),
        ({"estimator": "grad-cam", "baseline": "black"}, ["--baseline black", "integrated-gradients"]),
        ({"estimator": "integrated-gradients", "baseline": "blak"}, ["--baseline blak", "did you mean black"]),
        ({"estimator": "smoothgrad", "cam_layer": "x"}, ["--cam-layer x", "grad-cam"]),
        ({"estimator": "smoothgrad", "box": True}, ["--box", "grad-cam", "--box-of N"]),
        ({"mode": "deconv", "target": 1, "estimator": "smoothgrad", "no_scores": True}, ["--no-scores", "smoothgrad"]),
    ],
    ids=str,
)
def test_what_no_estimator_makes_sense_of_is_refused(model: Path, options: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        plan_from(model, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("options", "methods"),
    [
        ({}, ("guided",)),
        ({"estimator": "grad-cam"}, ("backprop.grad-cam",)),
        ({"estimator": "gradient,grad-cam"}, ("guided", "backprop.grad-cam")),
        ({"estimator": "gradient,vargrad", "mode": "deconv"}, ("deconv", "deconv.vargrad")),
        ({"estimator": "smoothgrad", "mode": "all"}, tuple(f"{mode}.smoothgrad" for mode in RULES)),
    ],
    ids=str,
)
def test_each_estimator_has_its_own_mode_unless_one_is_asked_for(model: Path, options: dict, methods: tuple) -> None:
    assert plan_from(model, **options).drawing.methods == methods


def test_what_stands_for_many_runs_need_not_be_of_use_in_each(model: Path) -> None:
    assert plan_from(model, standing={"samples": 64, "box": True, "baseline": "no.png"}) == plan_from(
        model, standing={"samples": 64, "baseline": "no.png"}
    )


def test_a_gradient_is_drawn_again_for_nothing_that_it_does_not_take(model: Path) -> None:
    alone = plan_from(model)
    among = plan_from(model, estimator="gradient,grad-cam,smoothgrad", samples=9, box=True)
    assert digests(alone)[0] == digests(among)[0]
    assert len(set(digests(among))) == 3
    boxed, plain = (digests(plan_from(model, estimator="grad-cam", box=box)) for box in (True, False))
    assert boxed != plain
