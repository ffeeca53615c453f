"""`gradviz show`: what a picture says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from gradviz_cli.cli.stderr import say
from gradviz_cli.cli.types import NamedPath
from gradviz_cli.draw.record import as_arguments, read
from gradviz_cli.errors import ExitCode, ImageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.files.text import printable

PNG = b"\x89PNG\r\n\x1a\n"


@click.command("show")
@click.argument("pictures", metavar="PNG...", nargs=-1, required=True, type=NamedPath())
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; null for no picture of gradviz.")
def command(pictures: tuple[Path, ...], as_json: bool) -> int:
    """Print what the pictures carry: mode, target, score, scale, and what they were made from."""
    code, gap = ExitCode.OK, ""
    for path in pictures:
        record = read(path)
        if record is None:
            remedy = "give a PNG that `gradviz explain` wrote"
            say(f"gradviz: {printable(path)}: {_why_not(path)}; {remedy}")
            code = ExitCode.USAGE
        if as_json:
            click.echo(json.dumps(record))
        elif record is not None:
            click.echo(gap + "\n".join(lines(path, record)))
            gap = "\n"
    return code


def _why_not(path: Path) -> str:
    try:
        data = read_bytes(path, Limits(max_file_size=2**40))
    except ImageError as error:
        return error.message
    if not data.startswith(PNG):
        return "is not a PNG"
    return "carries no text of gradviz, or is damaged"


def lines(path: Path, record: dict[str, Any]) -> Iterator[str]:
    """For people: the name of the file, then aligned names and values with their units."""
    rows = [(name, _value(name, value, record)) for name, value in _flat(record) if value is not None]
    width = max((len(name) for name, _ in rows), default=0)
    yield printable(path)
    yield from (f"  {printable(name):{width}}  {printable(value)}" for name, value in rows)


# In the order people ask, with what stands before the value; what a later version adds comes behind.
ORDER = {
    "mode": "",
    "style": "",
    "target": "",
    "score": "",
    "output": "",
    "rank": "",
    "scale": "",
    "colormap": "",
    "alpha": "",
    "clip": "percentile ",
    "estimator": "",
    "signature": "",
    "preprocess": "",
    "image": "SHA-256 ",
    "model": "fingerprint ",
    "npy": "SHA-256 ",
    "digest": "SHA-256 ",
    "version": "gradviz ",
    "options": "",
}


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The record's fields, those of the target among them; the unit goes with the scale."""
    target = record.get("target")
    fields = {**target, **record} if isinstance(target, dict) else dict(record)
    for name in ("unit", "index", "label"):
        fields.pop(name, None)
    yield from ((name, fields.pop(name)) for name in ORDER if name in fields)
    yield from fields.items()


def _value(name: str, value: Any, record: dict[str, Any]) -> str:
    if name == "target" and isinstance(value, dict):
        index, label = value.get("index"), value.get("label")
        return f"{label} (class {index})" if label else f"class {index}"
    if name == "scale":
        return f"{_scale(value)} {record.get('unit', '')}".rstrip()
    if name == "npy" and isinstance(value, dict):
        return ", ".join(f"{mode} {_plain(each)}" for mode, each in value.items())
    if name == "options" and isinstance(value, dict):
        return as_arguments(value)
    if name == "rank" and isinstance(value, int):
        return f"{value + 1} (1 is the best)"
    return ORDER.get(name, "") + _plain(value)


def _scale(value: Any) -> str:
    """From end to end; of a panel, mode by mode."""
    if isinstance(value, dict):
        return ", ".join(f"{mode} {_scale(each)}" for mode, each in value.items())
    if value is None:
        return "not finite"
    return f"{_plain(value[0])} to {_plain(value[1])}" if isinstance(value, list) and len(value) == 2 else _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
