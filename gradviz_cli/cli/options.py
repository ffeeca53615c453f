"""Options that several commands share, their types, the order of their sources, and help that fits on a screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from gradviz_cli import images
from gradviz_cli.errors import ImageError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREPROCESS = ("auto", *images.PREPROCESS)
MODEL_FILE = Path("assets.extra") / "gradviz.toml"
# What the file beside a model may settle. It is as much a stranger's as the model: nothing that loosens a limit.
MODEL_KEYS = ("preprocess", "labels", "signature", "tag", "input", "output", "input_size", "layout", "score", "activations", "at", "fit")
MAX_FEED = 1_000_000  # numbers of one --feed


class Size(click.ParamType):
    """HEIGHTxWIDTH."""

    name = "HxW"

    def convert(self, value, param, context) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).lower().partition("x")
        if not (height.isdigit() and width.isdigit() and 0 < int(height) < 1e5 and 0 < int(width) < 1e5):
            self.fail(f"{value} is not HEIGHTxWIDTH, such as 224x224", param, context)
        return int(height), int(width)


class Amount(click.ParamType):
    """A whole number with k, M or G."""

    name = "N"

    def convert(self, value, param, context) -> int:
        text = str(value)
        factor = {"k": 10**3, "m": 10**6, "g": 10**9}.get(text[-1:].lower(), 1)
        digits = text[:-1] if factor > 1 else text
        if not digits.isdigit() or not int(digits):
            self.fail(f"{value} is no amount, such as 500k or 50M", param, context)
        return int(digits) * factor


class Auto(click.ParamType):
    """A whole number or `auto`, which is None."""

    name = "N|auto"

    def convert(self, value, param, context) -> int | None:
        if value in (None, "auto"):
            return None
        if not str(value).isdigit() or not int(value):
            self.fail(f"{value} is neither a whole number above 0 nor auto", param, context)
        return int(value)


class Shard(click.ParamType):
    """I/N."""

    name = "I/N"

    def convert(self, value, param, context) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        part, _, count = str(value).partition("/")
        if not (part.isdigit() and count.isdigit() and 1 <= int(part) <= int(count)):
            self.fail(f"{value} is not I/N, such as 2/8", param, context)
        return int(part), int(count)


class Position(click.ParamType):
    """Y,X: where in a map of scores; one number in a sequence."""

    name = "Y,X"

    def convert(self, value, param, context) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.strip().isdigit() for part in parts):
            self.fail(f"{value} is no position, such as 3,4", param, context)
        return tuple(int(part) for part in parts)


class Feed(click.ParamType):
    """NAME=VALUE or NAME=FILE.npy -> (name, JSON)."""

    name = "NAME=VALUE|FILE.npy"

    def convert(self, value, param, context) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not (name and equals and text):
            self.fail(f"{value} is not NAME=VALUE", param, context)
        if text.endswith(".npy"):
            return name, self._array(text, param, context)
        try:
            return name, json.dumps(json.loads(text.lower() if text in ("True", "False") else text))
        except ValueError:
            self.fail(f"{text} is neither a number, a JSON list nor a .npy file", param, context)

    def _array(self, file: str, param, context) -> str:
        try:
            array = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            self.fail(f"{file} cannot be read: {error}", param, context)
        if array.size > MAX_FEED:
            self.fail(f"{file} holds {array.size} numbers, more than {MAX_FEED}", param, context)
        return json.dumps(array.tolist())


class Command(click.Command):
    """A command whose --help shows the options marked as common, and --help-all every one."""

    def __init__(self, *arguments, common: tuple[str, ...] = (), **more):
        super().__init__(*arguments, **more)
        self.common = common
        show = click.Option(
            ["--help-all"], is_flag=True, is_eager=True, expose_value=False, callback=self._help_all, help="Show every option."
        )
        self.params.append(show)

    def _help_all(self, context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            context.meta["gradviz.all"] = True
            click.echo(context.get_help())
            context.exit(0)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        shown, rest = [], []
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record:
                (shown if parameter.name in (*self.common, "help", "help_all") else rest).append(record)
        with formatter.section("Common options" if rest else "Options"):
            formatter.write_dl(shown)
        if rest and context.meta.get("gradviz.all"):
            with formatter.section("Other options"):
                formatter.write_dl(rest)


def model_options(function: Callable) -> Callable:
    """The options that decide which graph is differentiated and how its input is meant."""
    for option in reversed(
        (
            click.option("--preprocess", type=click.Choice(PREPROCESS), default="auto", show_default=True, help="Pixel range that the model expects."),
            click.option("--signature", metavar="NAME", help="Signature of the model."),
            click.option("--tag", metavar="TAG", help="Tag of the meta graph."),
            click.option("--input", metavar="NAME", help="The image: a signature key, or any tensor."),
            click.option("--output", metavar="NAME", help="The scores: a signature key, any tensor, or a channel: conv5/Relu:0[..., 12]."),
            click.option("--score", type=click.Choice(["logit", "output"]), default="logit", show_default=True, help="Explain what feeds the final softmax or sigmoid, or the output itself."),
            click.option("--at", type=Position(), help="Position where the scores are a map or a sequence."),
            click.option("--feed", "feeds", multiple=True, type=Feed(), help="Value of another input."),
            click.option("--input-size", type=Size(), metavar="HxW", help="Input size where the model leaves it open."),
            click.option("--layout", metavar="NHWC|NCHW|...", help="Axes of the model input."),
            click.option("--activations", type=click.Choice(["relu", "all"]), default="relu", show_default=True, help="Which activations obey the rule."),
            click.option("--allow-op", "allow_ops", multiple=True, metavar="NAME", help="Let one op outside the allowed set run."),
            click.option("--trust-model", is_flag=True, help="Let every op run."),
        )
    ):
        function = option(function)
    return function


def config_option(function: Callable) -> Callable:
    """--config FILE: TOML with the options' names; the command line and the environment win."""
    return click.option(
        "--config", type=click.Path(path_type=Path), is_eager=True, expose_value=False, callback=_use_config, help="TOML file with the same names."
    )(function)


def _use_config(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        given = _table(value, context)
        context.default_map = {**(context.default_map or {}), **given}


def _table(file: Path, context: click.Context) -> dict[str, Any]:
    """The file's keys as parameter names, each known to the command; a single value stands for a list of one."""
    by_name = {name.lstrip("-").replace("-", "_"): option for option in context.command.params for name in option.opts}
    table = {}
    for key, value in read_toml(file).items():
        option = by_name.get(key.replace("-", "_"))
        if option is None or not isinstance(option, click.Option):
            raise UsageError(f"{file}: there is no option {key}", f"see `{context.command_path} --help-all`")
        table[option.name] = [value] if option.multiple and not isinstance(value, list) else value
    return table


def read_toml(file: Path) -> dict[str, Any]:
    """The file's table; raises UsageError that names it."""
    try:
        data = images.read_bytes(file, images.Limits(max_file_size=1 << 20))
        return tomllib.loads(data.decode("utf-8"))
    except ImageError as error:
        raise UsageError(f"{file}: {error.message}", "check the path") from error
    except ValueError as error:
        raise UsageError(f"{file}: {error}", "see https://toml.io") from error


def with_model_file(context: click.Context, options: Mapping[str, Any], model: Path) -> dict[str, Any]:
    """Options that nothing else settles, as `assets.extra/gradviz.toml` in the model says."""
    file = model / MODEL_FILE
    merged = dict(options)
    if not file.is_file():
        return merged
    by_name = {parameter.name: parameter for parameter in context.command.params}
    for key, value in read_toml(file).items():
        name = key.replace("-", "_")
        if name not in MODEL_KEYS:
            raise UsageError(f"{file}: {key} is none of {', '.join(MODEL_KEYS)}", "remove it, or give it as an option")
        name = {"labels": "labels_file"}.get(name, name)
        if name in by_name and context.get_parameter_source(name) in (ParameterSource.DEFAULT, None):
            merged[name] = by_name[name].type_cast_value(context, str(value))
            if name == "labels_file":
                merged[name] = _inside(model, file, str(value))
    return merged


def _inside(model: Path, file: Path, name: str) -> Path:
    """A labels file that the model names has to lie in the model."""
    path = (file.parent / name).resolve()
    if not path.is_relative_to(model.resolve()):
        raise UsageError(f"{file}: labels = {name} lies outside the model", "give --labels FILE")
    return path
