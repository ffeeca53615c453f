"""Where options come from: a file, the environment, the model's own file; what is wrong in each is said with its place."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gradviz_cli.batch.planning import MODEL_FILE, model_from, model_settings
from gradviz_cli.cli.config import given, placed
from gradviz_cli.cli.options import config_option
from gradviz_cli.cli.types import Size
from gradviz_cli.errors import UsageError
from gradviz_cli.files.toml import read_toml
from gradviz_cli.process.protocol import ModelOptions


@click.command("paint")
@config_option
@click.option("-m", "--mode", "modes", multiple=True, default=["guided"])
@click.option("--batch-size", type=int, default=1)
@click.option("--raw/--no-raw", default=False)
@click.option("--preprocess", default="auto")
@click.option("--pixel-range")
@click.option("--std")
@click.option("--input-size", type=Size())
@click.option("--labels", "labels_file", type=click.Path(path_type=Path))
@click.pass_context
def paint(context: click.Context, **options) -> None:
    context.obj["options"], context.obj["context"] = options, context


def run(*arguments: str, env: dict[str, str] | None = None) -> dict:
    found: dict = {}
    outcome = CliRunner().invoke(paint, arguments, obj=found, env=env, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return found["options"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_any_source_the_defaults_hold(here: Path) -> None:
    found = run()
    assert (found["modes"], found["batch_size"], found["raw"]) == (("guided",), 1, False)


def test_the_line_wins_over_the_environment_over_the_file(here: Path) -> None:
    Path("a.toml").write_text('batch-size = 2\nraw = true\nmode = "deconv"')
    environment = {"GRADVIZ_PAINT_BATCH_SIZE": "3", "GRADVIZ_PAINT_RAW": ""}
    assert run("--config", "a.toml") == {**run(), "batch_size": 2, "raw": True, "modes": ("deconv",)}
    found = run("--config", "a.toml", env=environment)
    assert (found["batch_size"], found["raw"]) == (3, True)  # an empty variable is one that is not set
    assert run("--config", "a.toml", "--batch-size", "4", env=environment)["batch_size"] == 4


def test_a_range_of_the_environment_sets_aside_that_of_the_file(here: Path) -> None:
    """They belong together: a deviation is not of the range that stands elsewhere."""
    Path("a.toml").write_text('preprocess = "unit"')
    found = run("--config", "a.toml", env={"GRADVIZ_PAINT_PIXEL_RANGE": "0,255"})
    assert (found["preprocess"], found["pixel_range"]) == ("auto", "0,255")
    Path("a.toml").write_text('pixel-range = "0,1"\nstd = 0.5\nraw = true')
    found = run("--config", "a.toml", env={"GRADVIZ_PAINT_PREPROCESS": "raw"})
    assert (found["preprocess"], found["pixel_range"], found["std"], found["raw"]) == ("raw", None, None, True)
    found = run("--config", "a.toml", env={"GRADVIZ_PAINT_STD": "2"})
    assert (found["pixel_range"], found["std"]) == (None, "2")


def test_the_environment_may_name_the_file(here: Path) -> None:
    Path("a.toml").write_text("batch_size = 5")
    assert run(env={"GRADVIZ_PAINT_CONFIG": "a.toml"})["batch_size"] == 5


@pytest.mark.parametrize(("said", "meant"), [("true", True), ("1", True), ("0", False), ("'yes'", True)])
def test_a_flag_is_true_or_false(here: Path, said: str, meant: bool) -> None:
    Path("a.toml").write_text(f"raw = {said}")
    assert run("--config", "a.toml")["raw"] is meant


@pytest.mark.parametrize("text", ["backprop deconv", '["backprop", "deconv"]', "  backprop\tdeconv "])
def test_a_variable_may_hold_several(here: Path, text: str) -> None:
    assert run(env={"GRADVIZ_PAINT_MODE": text})["modes"] == ("backprop", "deconv")


def test_a_blank_within_a_value_needs_a_list(here: Path) -> None:
    assert run(env={"GRADVIZ_PAINT_MODE": '["two words"]'})["modes"] == ("two words",)
    assert run(env={"GRADVIZ_PAINT_PREPROCESS": "two words"})["preprocess"] == "two words"  # given once: one value


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("speed = 3", "there is no option speed"),
        ("config = 'b.toml'", "there is no option config"),
        ("labels_file = 'x'", "there is no option labels_file"),  # the option is called --labels
        ("batch-size = [1, 2]", "batch-size cannot be"),
        ("[mode]\na = 1", "mode cannot be"),
        ("mode = [[1]]", "mode cannot be"),
        ("raw = 2", "raw cannot be 2"),
        ("raw = 0.5", "raw cannot be 0.5"),
        ("batch-size = ", "a.toml: "),
        ("\udcff", "a.toml: "),
    ],
)
def test_what_a_file_may_not_say(here: Path, toml: str, named: str) -> None:
    Path("a.toml").write_bytes(toml.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match="^a.toml: ") as caught:
        run("--config", "a.toml")
    assert named in caught.value.message and caught.value.remedy


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('input-size = "224"', "a.toml: input-size: 224 is not HEIGHTxWIDTH"),
        ("batch_size = 'many'", "a.toml: batch_size: 'many' is not a valid integer"),
    ],
)
def test_a_value_that_makes_no_sense_is_said_with_its_file_and_key(here: Path, toml: str, said: str) -> None:
    Path("a.toml").write_text(toml)
    with pytest.raises(UsageError) as caught:
        run("--config", "a.toml")
    assert str(caught.value).startswith(said) and "; " in str(caught.value)
    key, value = toml.split(" = ")
    environment = {f"GRADVIZ_PAINT_{key.replace('-', '_').upper()}": value.strip("'\"")}
    with pytest.raises(UsageError, match=f"^{next(iter(environment))}: "):
        run(env=environment)


def test_a_variable_that_holds_nothing_is_named(here: Path) -> None:
    with pytest.raises(UsageError, match=r"^GRADVIZ_PAINT_MODE cannot be \[None\]"):
        run(env={"GRADVIZ_PAINT_MODE": "[null]"})


def test_what_is_found_wrong_later_is_said_with_its_place_too(here: Path) -> None:
    Path("a.toml").write_text('labels = "none.txt"')
    found: dict = {}
    CliRunner().invoke(paint, ["--config", "a.toml"], obj=found, catch_exceptions=False)
    with pytest.raises(UsageError, match="^a.toml: labels none.txt: "), placed(found["context"]):
        raise UsageError("--labels none.txt: cannot be opened", "x")
    with pytest.raises(UsageError, match="^--labels-from"), placed(found["context"]):
        raise UsageError("--labels-from 1: there are none", "x")
    CliRunner().invoke(paint, ["--config", "a.toml", "--labels", "b"], obj=found, catch_exceptions=False)
    with pytest.raises(UsageError, match="^--labels b: "), placed(found["context"]):
        raise UsageError("--labels b: cannot be opened", "x")


def test_a_variable_of_no_option_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match="^GRADVIZ_PAINT_SPEED: there is no option speed"):
        run(env={"GRADVIZ_PAINT_SPEED": "1"})
    assert run(env={"GRADVIZ_DRAW_SPEED": "1"}) == run()  # another command's


def test_a_file_that_is_not_there_or_no_file(here: Path) -> None:
    with pytest.raises(UsageError, match="gone.toml: cannot be opened"):
        read_toml(Path("gone.toml"))
    with pytest.raises(UsageError, match="a folder"):
        read_toml(here)


# ---- the file beside the model


def settled(model: Path, *arguments: str) -> ModelOptions:
    found: dict = {}
    CliRunner().invoke(paint, arguments, obj=found, catch_exceptions=False)
    asked, standing = given(found["context"])
    return model_from(model, standing=standing, **asked)[0]


@pytest.fixture
def model(here: Path) -> Path:
    (here / "model" / MODEL_FILE).parent.mkdir(parents=True)
    return here / "model"


def test_a_model_settles_what_nothing_else_does(model: Path) -> None:
    assert settled(model) == ModelOptions(str(model))
    (model / MODEL_FILE).write_text('preprocess = "torch"\ninput-size = "32x48"')
    found = settled(model)
    assert (found.preprocess, found.input_size) == ("torch", (32, 48))
    assert settled(model, "--preprocess", "unit").preprocess == "unit"


def test_a_model_loosens_nothing(model: Path) -> None:
    for line in ("batch-size = 3", "trust-model = true", "max-pixels = 9", "config = 'x'"):
        (model / MODEL_FILE).write_text(line)
        with pytest.raises(UsageError, match="is none of preprocess, pixel_range"):
            settled(model)


def test_a_folder_of_settings_that_is_closed_is_not_without_any(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(UsageError, match=f"^{model / MODEL_FILE}: cannot be opened: Permission denied; give yourself"):
        model_settings(model)


def test_labels_of_a_model_lie_in_it(model: Path) -> None:
    (model / MODEL_FILE).write_text('labels = "names.txt"')
    assert model_settings(model)["labels"] == model / "assets.extra" / "names.txt"
    (model / MODEL_FILE).write_text('labels = "../names.txt"')
    assert model_settings(model)["labels"] == model / "names.txt"
    (model / "link.txt").symlink_to("/etc/passwd")
    for name in ("../../names.txt", "/etc/passwd", "../link.txt"):
        (model / MODEL_FILE).write_text(f'labels = "{name}"')
        with pytest.raises(UsageError, match="outside the model"):
            settled(model)
