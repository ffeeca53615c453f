"""Options that several commands share, their types, the order of their sources, and help that fits on a screen."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from gradviz_cli import images, render
from gradviz_cli.cli.stderr import speak_json
from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.reading import Limits, read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREPROCESS = ("auto", *images.PREPROCESS)
MODEL_FILE = Path("assets.extra") / "gradviz.toml"
# What the file beside a model may settle. It is as much a stranger's as the model: nothing that loosens a limit.
MODEL_KEYS = ("preprocess", "labels", "signature", "tag", "input", "output", "input_size", "layout", "score", "activations", "at", "fit")
MOST_SECONDS = 1e9  # thirty years; a wait in Python has an end not far beyond
MAX_FEED = 1_000_000  # numbers of one --feed


def _whole(text: str) -> int | None:
    """A whole number in digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class Size(click.ParamType):
    """HEIGHTxWIDTH."""

    name = "HxW"

    def convert(self, value, param, context) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        sides = tuple(_whole(side) for side in str(value).lower().split("x"))
        if len(sides) != 2 or not all(side and side < 1e5 for side in sides):
            self.fail(f"{value} is not HEIGHTxWIDTH, such as 224x224", param, context)
        return sides


class Amount(click.ParamType):
    """A whole number with k, M or G."""

    name = "N"

    def convert(self, value, param, context) -> int:
        text = str(value)
        factor = {"k": 10**3, "m": 10**6, "g": 10**9}.get(text[-1:].lower(), 1)
        number = _whole(text[:-1] if factor > 1 else text)
        if not number:
            self.fail(f"{value} is no amount, such as 500k or 50M", param, context)
        return number * factor


class Seconds(click.ParamType):
    """A finite number of seconds, `least` or more; `above` it where 0 makes no sense."""

    name = "S"

    def __init__(self, least: float = 0.0, above: bool = False):
        self._least, self._above = least, above

    def convert(self, value, param, context) -> float:
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = math.nan
        if not self._least <= seconds <= MOST_SECONDS or self._above and seconds == self._least:
            self.fail(f"{value} is no number of seconds {'above' if self._above else 'from'} {self._least:g}", param, context)
        return seconds


class NamedPath(click.Path):
    """A path with a name: an empty one, as of a variable that is not set, would mean the working folder."""

    def __init__(self):
        super().__init__(path_type=Path)

    def convert(self, value, param, context) -> Path:
        if os.fspath(value) == "":
            self.fail("it is empty; is a variable not set?", param, context)
        return super().convert(value, param, context)


class Auto(click.ParamType):
    """A whole number or `auto`, which is None."""

    name = "N|auto"

    def convert(self, value, param, context) -> int | None:
        if value in (None, "auto"):
            return None
        number = _whole(str(value))
        if not number:
            self.fail(f"{value} is neither a whole number above 0 nor auto", param, context)
        return number


class Shard(click.ParamType):
    """I/N."""

    name = "I/N"

    def convert(self, value, param, context) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        parts = tuple(_whole(part) for part in str(value).split("/"))
        if len(parts) != 2 or None in parts or not 1 <= parts[0] <= parts[1]:
            self.fail(f"{value} is not I/N, such as 2/8", param, context)
        return parts


class Position(click.ParamType):
    """Y,X: where in a map of scores; one number in a sequence."""

    name = "Y,X"

    def convert(self, value, param, context) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = tuple(_whole(part.strip()) for part in str(value).split(","))
        if None in parts:
            self.fail(f"{value} is no position, such as 3,4", param, context)
        return parts


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
            click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True, help="Arithmetic of the convolutions; bfloat16 is quicker and coarse."),
            click.option("--allow-op", "allow_ops", multiple=True, metavar="NAME", help="Let one op outside the allowed set run."),
            click.option("--trust-model", is_flag=True, help="Let every op run."),
        )
    ):
        function = option(function)
    return function


def config_option(function: Callable) -> Callable:
    """--config FILE: TOML with the options' names; the command line and the environment win."""
    return click.option(
        "--config", type=NamedPath(), is_eager=True, expose_value=False, callback=_use_config, help="TOML file with the same names."
    )(function)


def log_format_option(function: Callable) -> Callable:
    """--log-format; taken before the other options, so that what is wrong with them is said in that form. After --config."""

    def use(context: click.Context, parameter: click.Parameter, value: str) -> None:
        speak_json(value == "json")

    return click.option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, is_eager=True,
        callback=use, expose_value=False, help="What stderr speaks.",
    )(function)  # fmt: skip


def colormap_option(function: Callable) -> Callable:
    """--colormap; `list` needs no other argument. After --config, which may settle it."""

    def show(context: click.Context, parameter: click.Parameter, value: str) -> str:
        if value == "list":
            coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
            click.echo("\n".join(_swatches(coloured)))
            context.exit(0)
        return value

    return click.option(
        "--colormap", type=click.Choice([*render.COLORMAPS, "list"]), default="inferno", show_default=True, is_eager=True,
        callback=show, help="Colours of the map; list shows them.",
    )(function)  # fmt: skip


def _swatches(coloured: bool) -> Iterator[str]:
    """A line for each colormap: its name, on a terminal its colours, and these in words."""
    for name, summary in render.COLORMAP_SUMMARIES.items():
        steps = render.COLORMAPS[name][4::8] if coloured else ()
        bar = "".join(f"\x1b[48;2;{red};{green};{blue}m " for red, green, blue in steps)
        yield f"{name:18} {bar}\x1b[0m {summary}" if coloured else f"{name:18} {summary}"


def _use_config(context: click.Context, parameter: click.Parameter, file: Path | None) -> None:
    """Runs also without the option, and before all others: the environment counts in any case."""
    surroundings = _environment(context)
    file = file or surroundings.pop("config", None)
    given = {} if file is None else _defaults(read_toml(Path(file)), context, f"{file}")
    set_there = _defaults(surroundings, context, "the environment", split=True)
    context.default_map = {**(context.default_map or {}), **given, **set_there}


def _environment(context: click.Context) -> dict[str, Any]:
    """GRADVIZ_EXPLAIN_MAX_PIXELS=1M -> max_pixels: what variables of this command say, empty ones left out."""
    prefix = f"GRADVIZ_{context.info_name.upper()}_"
    named = {name.removeprefix(prefix).lower(): text for name, text in os.environ.items() if name.startswith(prefix)}
    return {name: text for name, text in named.items() if text}


def _defaults(table: Mapping[str, Any], context: click.Context, where: str, split: bool = False) -> dict[str, Any]:
    """Keys of a table as parameter names, each known to the command; `split` texts of what may be given more than once."""
    known = {
        name.removeprefix("--").replace("-", "_"): option
        for option in context.command.params
        for name in option.opts
        if name.startswith("--") and (option.expose_value or option.name == "log_format")
    }
    found = {}
    for key, value in table.items():
        option = known.get(key.replace("-", "_"))
        if option is None:
            raise UsageError(f"{where}: there is no option {key}", f"see `{context.command_path} --help-all`")
        found[option.name] = _value(option, key, _several(value) if split and option.multiple else value, where)
    return found


def _value(option: click.Option, key: str, value: Any, where: str) -> Any:
    """A value as click takes it; a single one stands for a list of one."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float) for one in values) or isinstance(value, list) > option.multiple:
        lists = ", or a list of these" if option.multiple else ""
        raise UsageError(f"{where}: {key} cannot be {value!r}", f"give text, a number, true or false{lists}")
    return values if option.multiple else value


def _several(text: str) -> list[Any]:
    """A variable for an option that may be given more than once: words, or a JSON list for those with blanks."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, list) else text.split()


def read_toml(file: Path) -> dict[str, Any]:
    """The file's table; raises UsageError that names it."""
    try:
        data = read_bytes(file, Limits(max_file_size=1 << 20))
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
