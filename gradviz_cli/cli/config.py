"""Where options come from besides the command line: --config, the environment, the model's own file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.reading import Limits, read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODEL_FILE = Path("assets.extra") / "gradviz.toml"
# What the file beside a model may settle. It is as much a stranger's as the model: nothing that loosens a limit.
MODEL_KEYS = (
    "preprocess",
    "labels",
    "signature",
    "tag",
    "input",
    "output",
    "input_size",
    "layout",
    "score",
    "activations",
    "at",
    "fit",
)


def _use_config(context: click.Context, parameter: click.Parameter, file: Path | None) -> None:
    """Runs also without the option, and before all others: the environment counts in any case."""
    surroundings = _environment(context)
    file = file or surroundings.pop("config", None)
    given = {} if file is None else _defaults(read_toml(Path(file)), context, f"{file}")
    set_there = _defaults(surroundings, context, "the environment", split=True)
    context.default_map = {**(context.default_map or {}), **given, **set_there}


def _environment(context: click.Context) -> dict[str, Any]:
    """GRADVIZ_EXPLAIN_MAX_PIXELS=1M -> max_pixels: what variables of this command say, empty ones left out."""
    prefix = f"GRADVIZ_{(context.info_name or '').upper()}_"
    named = {name.removeprefix(prefix).lower(): text for name, text in os.environ.items() if name.startswith(prefix)}
    return {name: text for name, text in named.items() if text}


def _defaults(table: Mapping[str, Any], context: click.Context, where: str, split: bool = False) -> dict[str, Any]:
    """Keys of a table as parameter names, each known to the command; `split` texts of what may be given more than once."""
    known = {
        name.removeprefix("--").replace("-", "_"): option
        for option in context.command.params
        for name in option.opts
        if isinstance(option, click.Option)
        and name.startswith("--")
        and (option.expose_value or option.name == "log_format")
    }
    found: dict[str, Any] = {}
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
