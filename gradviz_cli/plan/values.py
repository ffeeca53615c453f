"""What the values of options mean: a text of the command line, or what Python has for it, -> the one canonical value.

Each function takes either form and gives the same value for the same meaning, so that digests agree; what it gave it
takes again. What makes no sense is a ValueError that says so, to be told behind the option's name.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradviz_cli.estimators import ESTIMATORS, Estimator
from gradviz_cli.files import objects
from gradviz_cli.files.near import did_you_mean, nearest
from gradviz_cli.files.remote import Place, Remote, is_url, without_secrets
from gradviz_cli.files.text import printable
from gradviz_cli.rules import RULES, Rule

MOST_SECONDS = 1e9  # thirty years; a wait in Python has an end not far beyond
MAX_FEED = 1_000_000  # numbers of one --feed
MOST_PIXEL, LEAST_PIXEL = 1e9, 1e-9  # of a pixel's value; of a range and a deviation
MOST_SIDE = 99_999  # pixels of the input of a model
MOST_POINTS = 14_400  # of a side of a page of PDF (ISO 32000-1, annex C)
SHOWN = 60  # characters of a value that a message repeats
SHORT, LONG = 60, 900  # characters of a name and of a path that any system takes
DEEPEST = 500  # folders that a path may lead through
MOST_DIGITS = 18  # of a whole number

Read = Callable[[Any], Any]


def flag(value: object) -> bool:
    if isinstance(
        value, bool
    ):  # asked first, here and below: a command line holds nothing of NumPy's, which is imported late
        return value
    if not isinstance(value, np.bool_):
        raise ValueError(f"{value!r} is neither true nor false")
    return bool(value)


def text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def word(value: object) -> str:
    said = text(value)
    if not said.strip():
        raise ValueError("it is empty; is a variable not set?")
    return said


def path(value: object) -> Path:
    """A path with a name: an empty one, as of a variable that is not set, would mean the working folder."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{value!r} is no path")
    if os.fspath(value) == "":
        raise ValueError("it is empty; is a variable not set?")
    typed = os.fsdecode(value)
    if "\0" in typed:
        raise ValueError("no file can have a name with a NUL")
    if typed.startswith("~") and not os.path.lexists(typed) and os.path.expanduser(typed) != typed:
        raise ValueError(f"{typed} begins with a ~ that no shell has read; did you mean {os.path.expanduser(typed)}?")
    if is_url(typed) and not os.path.lexists(typed):  # a Path would take one of its two slashes
        raise ValueError(
            f"{without_secrets(typed)} is an address, and this has to be here; give a path on this machine"
        )
    return Path(value)


def check_length(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for what no file can be called; the system is asked, as each has its own limits."""
    typed = os.fsdecode(path)
    if typed.count(os.sep) > DEEPEST:
        raise ValueError(f"{printable(typed[:SHOWN])}... leads through more than {DEEPEST} folders; shorten it")
    long = [part for part in typed.split(os.sep) if len(part) > SHORT]
    for one in [typed, *long] if len(typed) > LONG else long:  # there may be a hundred thousand images
        try:
            os.lstat(one)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                said = f"{printable(one[:SHOWN])}... has {len(os.fsencode(one))} bytes"
                raise ValueError(f"{said}, more than a name can have here; shorten it") from None


def location(value: object) -> Place:
    """A path, or the URL of an object or folder in a store that can be reached from here."""
    if isinstance(value, Remote):
        return value
    found = Remote.of(value) if isinstance(value, str) else None
    if isinstance(found, Remote):
        return objects.check(found)
    return path(value) if found is None else found


def address(value: object) -> str:
    """Of a cluster."""
    if not isinstance(value, str) or not (value == "auto" or re.fullmatch(r"[^\s/]+:\d{1,5}", value)):
        raise ValueError(
            f"{value!r} is no address; give HOST:PORT, or auto for the cluster that this machine is part of"
        )
    return value


def choice(names: Iterable[str]) -> Callable[[object], str]:
    known = tuple(names)

    def read(value: object) -> str:
        if value not in known:
            remedy = meant(value, known) or "choose one of these"
            empty = "it is empty: " if value == "" else ""
            raise ValueError(f"{empty}{value!r} is none of {', '.join(known)}; {remedy}")
        return str(value)

    return read


NAMED: tuple[Rule | Estimator, ...] = (*RULES.values(), *ESTIMATORS.values())
# Words that others have for a choice, and what it is called here. Of several, those are offered that the option has.
OTHER_WORDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("imagenet",), ("torch", "caffe")),
    **dict.fromkeys(("pytorch", "densenet"), ("torch",)),
    **dict.fromkeys(("vgg", "vgg16", "vgg19", "resnet", "resnet50"), ("caffe",)),
    **dict.fromkeys(("tf", "-1..1", "-1,1", "mobilenet", "inception", "xception", "resnetv2"), ("signed",)),
    **dict.fromkeys(("0-1", "0..1", "0,1", "scale", "normalize"), ("unit",)),
    **dict.fromkeys(("0-255", "0..255", "0,255", "efficientnet"), ("raw",)),
    **{
        word: tuple(each.name for each in NAMED if word in each.other_names)
        for one in NAMED
        for word in one.other_names
    },
    **dict.fromkeys(("bwr", "rdbu", "seismic", "coolwarm"), ("blue-white-red",)),
    **dict.fromkeys(("original", "source", "full"), ("image",)),
    **dict.fromkeys(("silu", "swish", "gelu", "elu"), ("all",)),
    **dict.fromkeys(("letterbox",), ("pad",)),
    **dict.fromkeys(("resize",), ("stretch",)),
    **dict.fromkeys(("center", "centre"), ("crop",)),
    **dict.fromkeys(("prob", "probability", "softmax", "sigmoid"), ("output",)),
    **dict.fromkeys(("bf16", "half", "fp16", "float16"), ("bfloat16",)),
    **dict.fromkeys(("fp32", "single"), ("float32",)),
    **dict.fromkeys(("no", "off", "false"), ("never",)),
    **dict.fromkeys(("yes", "on", "true"), ("always",)),
    **dict.fromkeys(("none",), ("raw", "never")),
}


def meant(value: object, known: Iterable[str]) -> str:
    """A question after the choices that may have been meant by what is none; empty where none is near."""
    names = tuple(known)
    word = str(value)
    others = [name for name in OTHER_WORDS.get(word.lower(), ()) if name in names]
    return did_you_mean(others or nearest(word, names))


def with_commas(read: Callable[[object], tuple[str, ...]]) -> Callable[[object], tuple[str, ...]]:
    """Of what takes several: also a text of them with commas."""

    def all_of(value: object) -> tuple[str, ...]:
        values = value if isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping) else [value]
        return read([part for one in values for part in (parts(one) if isinstance(one, str) else [one])])

    return all_of


def parts(value: str) -> list[str]:
    """The names in a text with commas."""
    return [part.strip() for part in value.split(",")]


LAYOUT_NAMES = {"channels_last": "NHWC", "channels_first": "NCHW"}  # as Keras calls them


def layout(known: Collection[str]) -> Callable[[object], str]:
    """The name of a layout, in letters of either size, or one of Keras's names."""
    by_name = {**{name.lower(): name for name in known}, **LAYOUT_NAMES}

    def read(value: object) -> str:
        found = by_name.get(value.lower()) if isinstance(value, str) else None
        if found is None:
            names = (*known, *LAYOUT_NAMES)
            remedy = meant(value, names) or "choose one of these"
            raise ValueError(f"{value!r} is none of {', '.join(names)}; {remedy}")
        return found

    return read


def several(
    read: Callable[[object], str], parted: Callable[[str], list[str]] = lambda value: [value]
) -> Callable[[object], tuple[str, ...]]:
    """One value or a list of them, each once; `parted` gives those that stand in one text."""

    def all_of(value: object) -> tuple[str, ...]:
        values = value if isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping) else [value]
        each = [part for one in values for part in (parted(one) if isinstance(one, str) else [one])]
        return tuple(dict.fromkeys(map(read, each)))

    return all_of


def target(value: object) -> str:
    """topK, rankK, a class index, a label, or several with commas; `plan.targets.parse_targets` says which."""
    whole = not isinstance(value, str | bool) and isinstance(value, int | np.integer)
    return str(value) if whole else text(value)


def number(value: object) -> float:
    """A finite number."""
    try:
        if isinstance(value, bool):
            raise TypeError
        found = float(value)  # type: ignore[arg-type]  # what float() does not take is what is asked here
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{value!r} is no number") from None
    if not math.isfinite(found):
        raise ValueError(f"{value} is not finite")
    return found


def percentile(value: object) -> float:
    """A percentile: above 0, at most 100. A share of 1 is mostly a slip."""
    text_ = str(value).removesuffix("%")
    found = number(value) if text_ == str(value) else None
    meant_ = _float(text_)
    if found is None or 0 < found < 1:
        share = meant_ is not None and 0 < meant_ < 1
        hint = f"; did you mean {100 * meant_ if share else meant_:g}?" if meant_ is not None else ""
        raise ValueError(f"{value} is not a percentile, such as 99{hint}")
    if not 0 < found <= 100:
        raise ValueError(f"{value} is not a percentile; give a number above 0 and up to 100")
    return found


def weight(value: object) -> float:
    """A share from 0 to 1."""
    found = _float(str(value).removesuffix("%"))
    if found is None or isinstance(value, bool):
        raise ValueError(f"{value!r} is no number; give one from 0 to 1")
    if str(value).endswith("%") or not 0 <= found <= 1:
        hint = (
            f"did you mean {found / 100:g}?"
            if str(value).endswith("%") or 10 <= found <= 100
            else "give a number from 0 to 1"
        )
        raise ValueError(f"{value} is no weight; {hint}")
    return found


def _float(said: str) -> float | None:
    try:
        found = float(said)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def numbers(value: object) -> tuple[float, ...]:
    """N or N,N,N: for all channels, or for each in the image's order."""
    parts: Sequence[Any] | np.ndarray
    if not isinstance(value, str) and isinstance(value, tuple | list | np.ndarray):
        parts = value
    else:
        parts = str(value).strip(" []()").split(",")
    if not len(parts):
        raise ValueError("it is empty")
    return tuple(map(number, parts))


def pixel_range(value: object) -> tuple[float, float]:
    """LOW,HIGH."""
    ends = (
        re.fullmatch(r"\s*(-?[0-9.]+?)\s*(?:\.\.|:|-|\s)\s*(-?[0-9.]+)\s*", value) if isinstance(value, str) else None
    )
    if ends:
        raise ValueError(f"{value} is not LOW,HIGH; did you mean {ends[1]},{ends[2]}?")
    found = pixels(value)
    if len(found) != 2 or found[0] >= found[1]:
        raise ValueError(f"{value} is not LOW,HIGH, such as 0,1 or -1,1")
    if found[1] - found[0] < LEAST_PIXEL:
        raise ValueError(f"{value} is no range of pixels: it is narrower than {LEAST_PIXEL:g}")
    return found[0], found[1]


def pixels(value: object) -> tuple[float, ...]:
    """Numbers that pixels can have, so that float32 holds what is made of them."""
    found = numbers(value)
    if max(map(abs, found)) > MOST_PIXEL:
        raise ValueError(f"{value} is beyond what pixels are: {MOST_PIXEL:g} at most")
    return found


def deviations(value: object) -> tuple[float, ...]:
    """Numbers above 0."""
    found = pixels(value)
    if min(found) <= 0:
        raise ValueError(f"{value} is no standard deviation: it is above 0")
    if min(found) < LEAST_PIXEL:
        raise ValueError(f"{value} is no standard deviation of pixels: it is below {LEAST_PIXEL:g}")
    return found


def shift(value: object) -> int:
    """A whole number, which may be below 0."""
    said = str(value)
    found = whole(said.removeprefix("-"))
    if found is None or isinstance(value, bool):
        raise ValueError(f"{value} is no whole number")
    return -found if said.startswith("-") else found


def whole(value: str) -> int | None:
    """A whole number in digits."""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS else None


def _numbers(value: object, separator: str) -> tuple[int | None, ...]:
    """Whole numbers, written or listed; None for each that is none."""
    parts = value if isinstance(value, tuple | list) else str(value).lower().split(separator)
    return tuple(whole(str(part).strip()) for part in parts)


def size(value: object) -> tuple[int, int]:
    """HEIGHTxWIDTH."""
    numbers = _numbers(value, "x")
    sides = [side for side in numbers if side]
    if len(numbers) != 2 or len(sides) != 2:
        given = re.findall("[0-9]+", str(value))[:2]
        is_near = bool(given) and all(len(each) <= len(str(MOST_SIDE)) and int(each) for each in given)
        hint = f"; did you mean {given[0]}x{given[-1]}?" if is_near else ""
        raise ValueError(f"{str(value)[:SHOWN]} is not HEIGHTxWIDTH, such as 224x224{hint}")
    if max(sides) > MOST_SIDE:
        raise ValueError(f"{str(value)[:SHOWN]} has a side of more than {MOST_SIDE} pixels; give a smaller one")
    return sides[0], sides[1]


POINTS = {"pt": 1.0, "mm": 72 / 25.4, "cm": 720 / 25.4, "in": 72.0}  # in a unit of length
_LENGTH = re.compile(rf"([0-9]{{1,6}}(?:\.[0-9]{{1,6}})?) ?({'|'.join(POINTS)})")


def length(value: object) -> float:
    """A length on paper, in points."""
    found = _LENGTH.fullmatch(str(value).strip().lower())
    if found is None or not 0 < float(found[1]) * POINTS[found[2]] <= MOST_POINTS:
        raise ValueError(f"{value} is no width on paper, such as 89mm or 3.5in")
    return float(found[1]) * POINTS[found[2]]


def amount(value: object) -> int:
    """A whole number with k, M or G."""
    said = str(value)
    factor = {"k": 10**3, "m": 10**6, "g": 10**9}.get(said[-1:].lower(), 1)
    found = whole(said[:-1] if factor > 1 else said)
    if not found:
        close = re.fullmatch("([0-9]{1,18} ?[kKmMgG]?)i?(?:b|B|px|P|p)?", said)
        hint = f"; did you mean {close[1].replace(' ', '')}?" if close and close[1] != said else ""
        raise ValueError(f"{value} is no amount, such as 500k or 50M{hint}")
    return found * factor


def count(most: int) -> Callable[[object], int]:
    """A whole number from 1 on."""

    def read(value: object) -> int:
        found = None if isinstance(value, bool) else whole(str(value))
        if not found or found > most:
            raise ValueError(f"{value} is no whole number from 1 to {most}")
        return found

    return read


def share(value: object) -> float:
    """A number above 0, and no more than 10."""
    found = number(value)
    if not 0 < found <= 10:
        raise ValueError(f"{value} is not above 0 and at most 10: it is a part of the range of the image")
    return found


def seconds(least: float = 0.0, above: bool = False) -> Callable[[object], float]:
    """A finite number of seconds, `least` or more; `above` it where 0 makes no sense."""

    def read(value: object) -> float:
        try:
            found = number(value)
        except ValueError:
            found = math.nan
        if not least <= found <= MOST_SECONDS or above and found == least:
            raise ValueError(
                f"{value} is no number of seconds {'above' if above else 'from'} {least:g}{_in_seconds(value)}"
            )
        return found

    return read


def _in_seconds(value: object) -> str:
    """A question after the seconds of 90s, 5m or 2h."""
    said = re.fullmatch("([0-9]+(?:[.][0-9]+)?) ?(s|sec|m|min|h|d)", str(value))
    return (
        f"; did you mean {float(said[1]) * {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}[said[2][0]]:.12g}?" if said else ""
    )


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
        both = [part for part in parts if part is not None]
        why = ": parts are counted from 1 to N" if len(parts) == len(both) == 2 else ""
        raise ValueError(f"{value} is not I/N, such as 2/8{why}")
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
    """{name: value}, or a list of what `feed` takes; each name once."""
    if isinstance(value, Mapping):
        found = tuple(feed((name, _array(given, name))) for name, given in value.items())
    else:
        found = tuple(map(feed, value if isinstance(value, tuple | list) else [value]))
    given_twice = {name for name, _ in found if sum(name == other for other, _ in found) > 1}
    if given_twice:
        raise ValueError(f"{min(given_twice)} is given twice")
    return found


def _json(given: str, what: str) -> str:
    shown = what if len(what) <= SHOWN else f"{what[:SHOWN]}..."
    try:
        value = json.loads(given.lower() if given in ("True", "False") else given)
    except (ValueError, RecursionError):
        raise ValueError(f"{shown} is neither a number, a JSON list nor a .npy file") from None
    return _array(value, shown)


def _file(name: str) -> str:
    try:
        array = np.load(name, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} is no .npy file of one array")
    return _array(array, name)


def _array(given: Any, name: str) -> str:
    try:
        array = np.asarray(given)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths") from None
    if array.size > MAX_FEED:
        raise ValueError(f"{name} holds {array.size} numbers, more than {MAX_FEED}")
    if array.dtype.kind not in "biufUS" or array.dtype.kind in "US" and not _are_texts(given):
        raise ValueError(f"{name} is neither a number nor an array of numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    try:
        return json.dumps(given)  # as it is written: 1 stays 1
    except TypeError:
        return json.dumps(array.tolist())


def _are_texts(given: Any) -> bool:
    """Numbers among texts would silently become texts."""
    if isinstance(given, list | tuple):
        return all(map(_are_texts, given))
    if isinstance(given, str | bytes):
        return True
    return isinstance(given, np.ndarray)
