"""Types of options: what a text on the command line means."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import click
import numpy as np

MOST_SECONDS = 1e9  # thirty years; a wait in Python has an end not far beyond
MAX_FEED = 1_000_000  # numbers of one --feed

_Parameter = click.Parameter | None
_Context = click.Context | None


def _whole(text: str) -> int | None:
    """A whole number in digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _two(text: str, between: str) -> tuple[int | None, int | None]:
    """Two whole numbers."""
    parts = text.split(between)
    return (_whole(parts[0]), _whole(parts[1])) if len(parts) == 2 else (None, None)


class Size(click.ParamType):
    """HEIGHTxWIDTH."""

    name = "HxW"

    def convert(self, value: Any, param: _Parameter, context: _Context) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        height, width = _two(str(value).lower(), "x")
        if not (height and width and max(height, width) < 1e5):
            self.fail(f"{value} is not HEIGHTxWIDTH, such as 224x224", param, context)
        return height, width


class Amount(click.ParamType):
    """A whole number with k, M or G."""

    name = "N"

    def convert(self, value: Any, param: _Parameter, context: _Context) -> int:
        text = str(value)
        factor = {"k": 10**3, "m": 10**6, "g": 10**9}.get(text[-1:].lower(), 1)
        number = _whole(text[:-1] if factor > 1 else text)
        if not number:
            self.fail(f"{value} is no amount, such as 500k or 50M", param, context)
        return number * factor


class Level(click.ParamType):
    """How often a flag was given; true and false in a file or in the environment are once and never."""

    name = "LEVEL"

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> int:
        text = str(value).lower()
        level = {"true": 1, "false": 0}.get(text, _whole(text))
        if level is None:
            self.fail(f"{value} is neither true, false nor a number", param, context)
        return level


class Seconds(click.ParamType):
    """A finite number of seconds, `least` or more; `above` it where 0 makes no sense."""

    name = "S"

    def __init__(self, least: float = 0.0, above: bool = False):
        self._least, self._above = least, above

    def convert(self, value: Any, param: _Parameter, context: _Context) -> float:
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = math.nan
        if not self._least <= seconds <= MOST_SECONDS or self._above and seconds == self._least:
            self.fail(
                f"{value} is no number of seconds {'above' if self._above else 'from'} {self._least:g}", param, context
            )
        return seconds


class NamedPath(click.Path):
    """A path with a name: an empty one, as of a variable that is not set, would mean the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: _Parameter, context: _Context) -> Path:
        if os.fspath(value) == "":
            self.fail("it is empty; is a variable not set?", param, context)
        return Path(os.fsdecode(super().convert(value, param, context)))


class Auto(click.ParamType):
    """A whole number or `auto`, which is None."""

    name = "N|auto"

    def convert(self, value: Any, param: _Parameter, context: _Context) -> int | None:
        if value in (None, "auto"):
            return None
        number = _whole(str(value))
        if not number:
            self.fail(f"{value} is neither a whole number above 0 nor auto", param, context)
        return number


class Shard(click.ParamType):
    """I/N."""

    name = "I/N"

    def convert(self, value: Any, param: _Parameter, context: _Context) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, count = _two(str(value), "/")
        if number is None or count is None or not 1 <= number <= count:
            self.fail(f"{value} is not I/N, such as 2/8", param, context)
        return number, count


class Position(click.ParamType):
    """Y,X: where in a map of scores; one number in a sequence."""

    name = "Y,X"

    def convert(self, value: Any, param: _Parameter, context: _Context) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [_whole(part.strip()) for part in str(value).split(",")]
        numbers = tuple(part for part in parts if part is not None)
        if len(numbers) < len(parts):
            self.fail(f"{value} is no position, such as 3,4", param, context)
        return numbers


class Feed(click.ParamType):
    """NAME=VALUE or NAME=FILE.npy -> (name, JSON)."""

    name = "NAME=VALUE|FILE.npy"

    def convert(self, value: Any, param: _Parameter, context: _Context) -> tuple[str, str]:
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

    def _array(self, file: str, param: _Parameter, context: _Context) -> str:
        try:
            array = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            self.fail(f"{file} cannot be read: {error}", param, context)
        if array.size > MAX_FEED:
            self.fail(f"{file} holds {array.size} numbers, more than {MAX_FEED}", param, context)
        return json.dumps(array.tolist())
