"""What the values of options mean: a text of the command line, or what Python has for it, -> the one canonical value.

Each function takes either form and gives the same value for the same meaning, so that digests agree; what it gave it
takes again. What makes no sense is a ValueError that says so, to be told behind the option's name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MOST_SECONDS = 1e9  # thirty years; a wait in Python has an end not far beyond
MAX_FEED = 1_000_000  # numbers of one --feed
MOST_DIGITS = 18  # of a whole number

Read = Callable[[Any], Any]


def flag(value: object) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{value!r} is neither true nor false")
    return bool(value)


def text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def path(value: object) -> Path:
    """A path with a name: an empty one, as of a variable that is not set, would mean the working folder."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{value!r} is no path")
    if os.fspath(value) == "":
        raise ValueError("it is empty; is a variable not set?")
    return Path(value)


def choice(names: Iterable[str]) -> Callable[[object], str]:
    known = tuple(names)

    def read(value: object) -> str:
        if value not in known:
            raise ValueError(f"{value!r} is none of {', '.join(known)}")
        return str(value)

    return read


def several(read: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """One value or a list of them, each once."""

    def all_of(value: object) -> tuple[str, ...]:
        values = value if isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping) else [value]
        return tuple(dict.fromkeys(read(one) for one in values))

    return all_of


def target(value: object) -> str:
    """topK, rankK, a class index, a label, or several with commas; `plan.targets.parse_targets` says which."""
    return str(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else text(value)


def number(value: object) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)  # type: ignore[arg-type]  # what float() does not take is what is asked here
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is no number") from None


def whole(value: str) -> int | None:
    """A whole number in digits."""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS else None


def _numbers(value: object, separator: str) -> tuple[int | None, ...]:
    """Whole numbers, written or listed; None for each that is none."""
    parts = value if isinstance(value, tuple | list) else str(value).lower().split(separator)
    return tuple(whole(str(part).strip()) for part in parts)


def size(value: object) -> tuple[int, int]:
    """HEIGHTxWIDTH."""
    sides = _numbers(value, "x")
    if len(sides) != 2 or not sides[0] or not sides[1] or max(sides[0], sides[1]) >= 1e5:
        raise ValueError(f"{value} is not HEIGHTxWIDTH, such as 224x224")
    return sides[0], sides[1]


def amount(value: object) -> int:
    """A whole number with k, M or G."""
    said = str(value)
    factor = {"k": 10**3, "m": 10**6, "g": 10**9}.get(said[-1:].lower(), 1)
    found = whole(said[:-1] if factor > 1 else said)
    if not found:
        raise ValueError(f"{value} is no amount, such as 500k or 50M")
    return found * factor


def seconds(least: float = 0.0, above: bool = False) -> Callable[[object], float]:
    """A finite number of seconds, `least` or more; `above` it where 0 makes no sense."""

    def read(value: object) -> float:
        try:
            found = number(value)
        except ValueError:
            found = math.nan
        if not least <= found <= MOST_SECONDS or above and found == least:
            raise ValueError(f"{value} is no number of seconds {'above' if above else 'from'} {least:g}")
        return found

    return read


def auto(value: object) -> int | None:
    """A whole number or `auto`, which is None."""
    if value in (None, "auto"):
        return None
    found = whole(str(value))
    if not found:
        raise ValueError(f"{value} is neither a whole number above 0 nor auto")
    return found


def level(value: object) -> int:
    """How often a flag was given; true and false are once and never."""
    said = str(value).lower()
    found = {"true": 1, "false": 0}.get(said, whole(said))
    if found is None:
        raise ValueError(f"{value} is neither true, false nor a number")
    return found


def shard(value: object) -> tuple[int, int]:
    """I/N."""
    parts = _numbers(value, "/")
    if len(parts) != 2 or parts[0] is None or parts[1] is None or not 1 <= parts[0] <= parts[1]:
        raise ValueError(f"{value} is not I/N, such as 2/8")
    return parts[0], parts[1]


def position(value: object) -> tuple[int, ...]:
    """Y,X: where in a map of scores; one number in a sequence."""
    parts = _numbers(value, ",")
    found = tuple(part for part in parts if part is not None)
    if len(found) != len(parts):
        raise ValueError(f"{value} is no position, such as 3,4")
    return found


def place(value: object) -> int:
    """N, the N-th best, or all, which is 0."""
    found = 0 if value in ("all", 0) else whole(str(value))
    if found is None or found == 0 and value not in ("all", 0):
        raise ValueError(f"{value} is neither a whole number above 0 nor all")
    return found


def feed(value: object) -> tuple[str, str]:
    """NAME=VALUE, NAME=FILE.npy or (name, value) -> (name, JSON). In a pair, a text is JSON already."""
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], str):
        name, given = value
        return name, _json(given, name) if isinstance(given, str) else _array(given, name)
    name, equals, given = str(value).partition("=")
    if not (name and equals and given):
        raise ValueError(f"{value} is not NAME=VALUE")
    return name, _file(given) if given.endswith(".npy") else _json(given, given)


def feeds(value: object) -> tuple[tuple[str, str], ...]:
    """{name: value}, or a list of what `feed` takes."""
    if isinstance(value, Mapping):
        return tuple(feed((name, _array(given, name))) for name, given in value.items())
    if isinstance(value, tuple | list):
        return tuple(map(feed, value))
    return (feed(value),)


def _json(given: str, what: str) -> str:
    try:
        return json.dumps(json.loads(given.lower() if given in ("True", "False") else given))
    except ValueError:
        raise ValueError(f"{what} is neither a number, a JSON list nor a .npy file") from None


def _file(name: str) -> str:
    try:
        return _array(np.load(name, allow_pickle=False), name)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from error


def _array(given: Any, name: str) -> str:
    array = np.asarray(given)
    if array.size > MAX_FEED:
        raise ValueError(f"{name} holds {array.size} numbers, more than {MAX_FEED}")
    if array.dtype.kind not in "biufUS":
        raise ValueError(f"{name} is neither a number nor an array of numbers")
    try:
        return json.dumps(given)  # as it is written: 1 stays 1
    except TypeError:
        return json.dumps(array.tolist())
