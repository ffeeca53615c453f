"""`gradviz show`: what a picture says of itself."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import click

from gradviz_cli.cli.stderr import say
from gradviz_cli.cli.types import NamedPath
from gradviz_cli.draw.png import begins_like_png
from gradviz_cli.draw.record import Ends, Json, Record, as_arguments
from gradviz_cli.errors import ExitCode, ImageError
from gradviz_cli.files.near import near_path
from gradviz_cli.files.reading import READABLE
from gradviz_cli.files.text import printable, shortened

# What a shell makes something of, also inside double quotes; what is cut: names and values, and the options as a whole.
ACTIVE, ACTIVE_IN_QUOTES = ";&|<>()$`\\\"'!#", "$`\\'!"
MOST_SHOWN, LONGEST_OPTIONS = 50, 50_000


@click.command("show")
@click.argument("pictures", metavar="PNG...", nargs=-1, required=True, type=NamedPath())
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; null for no picture of gradviz.")
def command(pictures: tuple[Path, ...], as_json: bool) -> int:
    """Print what the pictures carry: mode, target, score, scale, and what they were made from."""
    code, gap = ExitCode.OK, ""
    for path in pictures:
        record = Record.read(path)
        if record is None:
            is_closed = os.path.exists(path) and not os.access(path, os.R_OK)
            remedy = near_path(path) or (READABLE if is_closed else "give a PNG that `gradviz explain` wrote")
            say(f"gradviz: {printable(path)}: {_why_not(path)}; {remedy}")
            code = ExitCode.USAGE
        if as_json:
            click.echo("null" if record is None else record.to_json())
        elif record is not None:
            click.echo(gap + "\n".join(lines(path, record)))
            gap = "\n"
    return code


def _why_not(path: Path) -> str:
    try:
        ours = begins_like_png(path)
    except ImageError as error:
        return error.message
    return "carries no text of gradviz, or is damaged" if ours else "is not a PNG"


def lines(path: Path, record: Record) -> Iterator[str]:
    """For people: the name of the file, then aligned names and values with their units, what is not known last. Whatever a
    stranger wrote, a line that is pasted into a shell runs nothing of it."""
    ours = _quoted(record)
    known = ((name, told(ours)) for name, told in ROWS.items())
    unknown = (
        (shlex.quote(shortened(name, 200)), _told(value)) for name, value in islice(record.unknown(), MOST_SHOWN)
    )
    rows = [(name, value) for name, value in (*known, *unknown) if value]
    width = max((len(name) for name, _ in rows), default=0)
    yield _safe(printable(path))
    yield from (f"  {printable(name):{width}}  {printable(value)}" for name, value in rows)


def _safe(text: str, active: str = ACTIVE) -> str:
    """A text, cut to what a person reads; in quotes where a shell would make anything of it."""
    cut = shortened(text)
    return cut if cut == text and not any(mark in text for mark in active) else shlex.quote(cut)


def _told(value: Json) -> str | None:
    """A value that is not known. JSON closes its own quotation marks, but a shell looks into them."""
    told = _plain(value)
    return None if told is None else _safe(told, ACTIVE_IN_QUOTES if told == json.dumps(value) else ACTIVE)


def _quoted(record: Record) -> Record:
    """The same with each text in it safe, and no more of them than are read; options are quoted where they are listed."""
    found = {one.name: _each_safe(getattr(record, one.name)) for one in fields(record)}
    target = record.target
    if target is not None and target.label is not None:
        found["target"] = replace(target, label=_safe(target.label))
    return replace(record, **{**found, "options": record.options, "more": record.more})


def _each_safe(value: Any) -> Any:
    if isinstance(value, str):
        return _safe(value)
    if isinstance(value, Mapping):
        return {_safe(name): _each_safe(one) for name, one in islice(value.items(), MOST_SHOWN)}
    if isinstance(value, tuple):
        return tuple(map(_each_safe, value[:MOST_SHOWN]))
    return value


def _options(record: Record) -> str:
    """As they are typed: all of them, or none."""
    typed = as_arguments(record.options)
    return typed if len(typed) <= LONGEST_OPTIONS else f"({len(typed)} characters, more than any run writes)"


def _target(record: Record) -> str | None:
    if record.target is None:
        return None
    index = "class unknown" if record.target.index is None else f"class {record.target.index}"
    return f"{record.target.label} ({index})" if record.target.label else index


def _rank(record: Record) -> str | None:
    rank = record.target.rank if record.target else None
    return None if rank is None else f"{rank + 1} (1 is the best)"


def _scale(record: Record) -> str | None:
    """From end to end; of a sheet, mode by mode."""
    if record.scale is None:
        return None
    if isinstance(record.scale, Mapping):
        told = ", ".join(f"{mode} {_ends(each)}" for mode, each in record.scale.items())
    else:
        told = _ends(record.scale)
    return f"{told} {record.unit or ''}".rstrip()


def _ends(scale: Ends | None) -> str:
    return "not finite" if scale is None else " to ".join(_plain(end) or "not finite" for end in scale)


def _estimate(record: Record) -> str | None:
    """Names and values; of a sheet, method by method."""
    return None if record.estimate is None else ", ".join(_named(record.estimate))


def _named(values: Mapping[str, Json], before: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _named(value, f"{before}{name} ")
        else:
            yield f"{before}{name} {_plain(value)}"


def _arrays(record: Record) -> str | None:
    if isinstance(record.npy, Mapping):
        return ", ".join(f"{mode} {each}" for mode, each in record.npy.items())
    return _plain(record.npy, "SHA-256 ")


def _plain(value: Json, before: str = "") -> str | None:
    """As people read it: a text itself, a number with six digits, texts with commas, anything else as JSON."""
    if value is None:
        return None
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return before + ", ".join(value)
    if isinstance(value, float):
        return f"{before}{value:.6g}"
    return before + (value if isinstance(value, str) else json.dumps(value))


# In the order people ask. What is None is not said.
ROWS: dict[str, Callable[[Record], str | None]] = {
    "mode": lambda record: _plain(record.mode),
    "style": lambda record: record.style,
    "target": _target,
    "score": lambda record: _plain(record.target and record.target.score),
    "output": lambda record: _plain(record.target and record.target.output),
    "rank": _rank,
    "scale": _scale,
    "colormap": lambda record: record.colormap,
    "alpha": lambda record: _plain(record.alpha),
    "clip": lambda record: _plain(record.clip, "percentile "),
    "estimator": lambda record: _plain(record.estimator),
    "estimate": _estimate,
    "signature": lambda record: record.signature,
    "preprocess": lambda record: record.preprocess,
    "image": lambda record: _plain(record.image, "SHA-256 "),
    "model": lambda record: _plain(record.model, "fingerprint "),
    "npy": _arrays,
    "digest": lambda record: _plain(record.digest, "SHA-256 "),
    "version": lambda record: _plain(record.version, "gradviz "),
    "options": _options,
}
