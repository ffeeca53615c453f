"""Where options come from besides the command line: --config and the environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gradviz_cli.batch.planning import OPTIONS, left_by
from gradviz_cli.errors import UsageError
from gradviz_cli.files.toml import read_toml


def _use_config(context: click.Context, parameter: click.Parameter, file: Path | None) -> None:
    """Runs also without the option, and before all others: the environment counts in any case."""
    surroundings = _environment(context)
    file = file or surroundings.pop("config", None)
    given = {} if file is None else _defaults(read_toml(Path(file)), context, f"{file}")
    set_there = _defaults(surroundings, context, "the environment", _prefix(context))
    context.default_map = {**(context.default_map or {}), **left_by(set_there, given), **set_there}


def _environment(context: click.Context) -> dict[str, Any]:
    """GRADVIZ_EXPLAIN_MAX_PIXELS=1M -> max_pixels: what variables of this command say, empty ones left out."""
    prefix = _prefix(context)
    named = {name.removeprefix(prefix).lower(): text for name, text in os.environ.items() if name.startswith(prefix)}
    return {name: text for name, text in named.items() if text}


def _prefix(context: click.Context) -> str:
    return f"GRADVIZ_{(context.info_name or '').upper()}_"


def _defaults(table: Mapping[str, Any], context: click.Context, where: str, variables: str = "") -> dict[str, Any]:
    """Keys of a table as parameter names, each known to the command and with a value that it takes. With `variables`, what
    their names begin with, texts of what may be given more than once are split."""
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
        place = f"{variables}{key.upper()}" if variables else f"{where}: {key}"
        found[option.name] = _value(option, place, _several(value) if variables and option.multiple else value)
        _check(option, context, found[option.name], place)
        context.meta.setdefault(PLACES, {})[option.name] = place
    return found


PLACES = "gradviz.places"  # of a context: parameter -> the file and key, or the variable, that it comes from


def _check(option: click.Option, context: click.Context, value: Any, place: str) -> None:
    """Said here, as click would name the option as if it had been typed."""
    try:
        option.type_cast_value(context, value)
    except click.BadParameter as error:
        message = error.message.rstrip(".")
        raise UsageError(f"{place}: {message}", f"see `{context.command_path} --help-all`") from None


@contextmanager
def placed(context: click.Context) -> Iterator[None]:
    """What is found wrong inside with an option that was not typed is said with the place that it comes from."""
    try:
        yield
    except UsageError as error:
        for parameter in context.command.params:
            place = context.meta.get(PLACES, {}).get(parameter.name)
            typed = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
            if place and not typed and re.match(rf"{max(parameter.opts, key=len)}\b(?!-)", error.message):
                raise UsageError(f"{place}: {error.message}", error.remedy) from error
        raise


def _value(option: click.Option, place: str, value: Any) -> Any:
    """A value as click takes it; a single one stands for a list of one."""
    values = value if isinstance(value, list) else [value]
    listed = option.multiple or getattr(option.type, "listed", False)
    if not all(isinstance(one, str | int | float) for one in values) or isinstance(value, list) > listed:
        lists = ", or a list of these" if option.multiple else ""
        raise UsageError(f"{place} cannot be {value!r}", f"give text, a number, true or false{lists}")
    if option.is_flag and not option.count and isinstance(value, int | float):
        if value not in (0, 1):
            raise UsageError(f"{place} cannot be {value!r}", "give true or false")
        return bool(value)
    return values if option.multiple else value


def _several(text: str) -> list[Any]:
    """A variable for an option that may be given more than once: words, or a JSON list for those with blanks."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, list) else text.split()


def given(context: click.Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a plan by their names: those of this command line; and those of a file or of the environment,
    which are for many runs and need not be of use in each. Defaults are the plan's own."""
    asked: dict[str, Any] = {}
    standing: dict[str, Any] = {}
    for parameter in context.command.params:
        name = max(parameter.opts, key=len).removeprefix("--").replace("-", "_")
        if isinstance(parameter, click.Option) and name in OPTIONS and parameter.name in context.params:
            value, source = context.params[parameter.name], context.get_parameter_source(parameter.name)
            if source is not ParameterSource.DEFAULT:
                where = asked if source is ParameterSource.COMMANDLINE else standing
                where[name] = "auto" if value is None else value  # what `auto` was read as
    return asked, standing
