"""Where options come from besides the command line: --config and the environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gradviz_cli.batch.planning import OPTIONS, left_by
from gradviz_cli.cli.mistakes import long_options, options_meant
from gradviz_cli.errors import GradvizError, UsageError
from gradviz_cli.files.near import did_you_mean, distance
from gradviz_cli.files.toml import read_toml


def _use_config(context: click.Context, parameter: click.Parameter, file: Path | None) -> None:
    """Runs also without the option, and before all others: the environment counts in any case."""
    surroundings = _environment(context)
    named = surroundings.pop("config", None)
    with _of_variable(f"{_prefix(context)}CONFIG" if named and not file else ""):
        table = read_toml(Path(file or named), named=True) if file or named else {}
    given = _defaults(table, context, f"{file or named}")
    set_there = _defaults(surroundings, context, "the environment", _prefix(context))
    context.default_map = {**(context.default_map or {}), **left_by(set_there, given), **set_there}


@contextmanager
def _of_variable(name: str) -> Iterator[None]:
    """What is wrong with a file that a variable names is said with the variable."""
    try:
        yield
    except UsageError as error:
        error.message = f"{name}: {error.message}" if name else error.message
        raise


def _environment(context: click.Context) -> dict[str, Any]:
    """GRADVIZ_EXPLAIN_MAX_PIXELS=1M -> max_pixels: what variables of this command say, empty ones left out."""
    prefix = _prefix(context)
    _check_prefixes(context, prefix)
    named = {name.removeprefix(prefix).lower(): text for name, text in os.environ.items() if name.startswith(prefix)}
    return {name: text for name, text in named.items() if text}


def _check_prefixes(context: click.Context, prefix: str) -> None:
    """Refuse a variable of an option under the misspelt name of this command, which nobody would read. One without any
    command (GRADVIZ_OUT) may be the user's own."""
    options = {name.removeprefix("--").replace("-", "_").upper() for name in long_options(context.command)}
    command = prefix.removeprefix("GRADVIZ_").removesuffix("_")
    for name in os.environ:
        found = re.fullmatch(r"GRADVIZ_([A-Z]+)_(\w+)", name)
        if found and found[2] in options and found[1] != command and distance(found[1], command) <= 2:
            raise UsageError(f"{name}: there is no command {found[1].lower()}", f"did you mean {prefix}{found[2]}?")


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
            raise _unknown(context, key, value, where, variables, known)
        place = f"{variables}{key.upper()}" if variables else f"{where}: {key}"
        found[option.name] = _value(option, place, _several(value) if variables and option.multiple else value)
        _check(option, context, found[option.name], place)
        context.meta.setdefault(PLACES, {})[option.name] = place
    return found


def _unknown(
    context: click.Context, key: str, value: object, where: str, variables: str, known: Iterable[str]
) -> UsageError:
    place = f"{variables}{key.upper()}" if variables else where
    if isinstance(value, Mapping):
        return UsageError(f"{place}: [{key}] is a section", "options stand in the file without one")
    near = [f"--{name}" for name in known]
    meant = [name.lstrip("-").replace("-", "_" if "_" in key else "-") for name in options_meant(f"--{key}", near)]
    spelled = [f"{variables}{name.replace('-', '_').upper()}" if variables else name for name in meant]
    remedy = did_you_mean(spelled) or f"see `{context.command_path} --help-all`"
    return UsageError(f"{place}: there is no option {key}", remedy)


PLACES = "gradviz.places"  # of a context: parameter -> the file and key, or the variable, that it comes from


def _check(option: click.Option, context: click.Context, value: Any, place: str) -> None:
    """Said here, as click would name the option as if it had been typed."""
    try:
        option.type_cast_value(context, value)
    except click.BadParameter as error:
        message = error.message.rstrip(".")
        if "is not a valid boolean" in message:
            message = f"{value!r} is neither true nor false"
        remedy = "" if "; " in message else f"see `{context.command_path} --help-all`"  # many say it themselves
        raise UsageError(f"{place}: {message}", remedy) from None


@contextmanager
def placed(context: click.Context) -> Iterator[None]:
    """What is found wrong inside with an option that was not typed is said with the place that it comes from."""
    try:
        yield
    except UsageError as error:
        raise at_its_place(context, error) from error


def at_its_place(context: click.Context, error: GradvizError) -> GradvizError:
    """The same error; of an option that was not typed, its message begins with the file and key, or the variable."""
    for parameter in context.command.params:
        place = context.meta.get(PLACES, {}).get(parameter.name)
        typed = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        name = max(parameter.opts, key=len)
        if place and not typed and re.match(rf"{name}\b(?!-)", error.message):
            error.message = f"{place}{error.message.removeprefix(name)}"
    return error


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
