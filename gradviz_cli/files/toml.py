"""TOML files of options."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.near import near_path
from gradviz_cli.files.reading import READABLE, Limits, read_bytes, read_named
from gradviz_cli.files.text import shortened

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# A file of options has a line or two for each of them. Python's parser takes a time that grows with the square of the parts
# of a key (a.b.c) and of the digits of a number, so those are counted first, and the depth of what stands in brackets.
MAX_BYTES = 1 << 16
MAX_PARTS, MAX_WORD, MAX_DEPTH, LARGEST = 8, 100, 8, 2**63
# A text or a comment, whole; one without an end goes on to the end of its line or of the file, where the parser will stop.
_ASIDE = re.compile(
    r"#[^\n]*"
    r'|"""(?:\\.|[^\\])*?(?:"{3,5}|\Z)'
    r"|\'\'\'.*?(?:\'{3,5}|\Z)"
    r'|"(?:\\.|[^"\\\n])*"?'
    r"|\'[^\'\n]*\'?",
    re.DOTALL,
)
_LONG_WORD = re.compile(rf"[\w+-]{{{MAX_WORD + 1}}}")
_MANY_PARTS = re.compile(rf"(?:[\w-]+[ \t]*\.[ \t]*){{{MAX_PARTS}}}")


def read_toml(file: Path, named: bool = False) -> dict[str, Any]:
    """The file's table; raises UsageError that names it. One that a person names may be a pipe too."""
    text = ""
    try:
        text = (read_named if named else read_bytes)(file, Limits(max_file_size=MAX_BYTES)).decode("utf-8-sig")
        _check_simple(text)
        table = tomllib.loads(text)
        _check_numbers(table)
        return table
    except ImageError as error:
        if error.kind == "empty":
            return {}
        remedies = {"too-large": "remove what does not belong there", "unreadable": READABLE}
        what = f"more than {MAX_BYTES >> 10} KiB are no options" if error.kind == "too-large" else error.message
        remedy = remedies.get(error.kind) or near_path(file, os.path.isfile) or "check the path"
        raise UsageError(f"{file}: {what}", remedy) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: it is no text in UTF-8", "give a TOML file, or save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: {shortened(str(error), 300)}", _remedy(str(error), text)) from error


def _remedy(error: str, text: str) -> str:
    """A text without quotes is the usual slip; it is shown with them."""
    place = re.match(r"Invalid value \(at line (\d+)", error)
    slip = (
        re.fullmatch(r"\s*([\w-]+)\s*=\s*([^\s\"'#\[{][^\"'#]*?)\s*(#.*)?", text.splitlines()[int(place[1]) - 1])
        if place
        else None
    )
    return f'texts stand in quotes: {slip[1]} = "{shortened(slip[2], 100)}"' if slip else "see https://toml.io"


def _check_simple(text: str) -> None:
    """Raise ValueError for long keys and numbers, and for much inside each other, which options are not."""
    bare = _ASIDE.sub(lambda found: "" if found[0].startswith("#") else "s", text)
    if _LONG_WORD.search(bare):
        raise ValueError(f"a number or a key of more than {MAX_WORD} characters")
    if _MANY_PARTS.search(bare):
        raise ValueError(f"a key of more than {MAX_PARTS} parts")
    depth = deepest = 0
    for mark in re.findall(r"[\[\]{}]", bare):
        depth = max(0, depth + (1 if mark in "[{" else -1))
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise ValueError(f"brackets inside each other, more than {MAX_DEPTH} deep")


def _check_numbers(value: object) -> None:
    """Raise ValueError for a whole number that nothing can print, as Python reads it."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise ValueError("a whole number of more than 64 bits")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(inner)
