"""Lines on stderr that never fail, whatever stderr is: text for people, or one JSON object each for machines."""

from __future__ import annotations

import json
import os
import sys
import threading
import unicodedata
from typing import Any

from gradviz_cli.files.text import LONGEST_LINE, now, shortened

_as_json = False
_guard = threading.RLock()
_shown = ""  # what stands in the last line, which is written over; empty for nothing
BACK = "\r\x1b[K"  # to its beginning, and everything behind it away


def speak_json(wanted: bool) -> None:
    """From here on lines are JSON objects with `time`, `level`, `event`, `message` and what belongs to it; or not."""
    global _as_json
    _as_json = wanted


def speaks_json() -> bool:
    return _as_json


def say(line: str) -> None:
    """One line on stderr, as it is."""
    with _guard:
        clear()
        put(line + "\n")


def tell(level: str, event: str, text: str, **fields: Any) -> None:
    """One line on stderr in the form that was asked for: `text`, or the fields as JSON. Texts that are too long are cut."""
    if _as_json:
        cut = {name: value if name == "traceback" else _cut(value) for name, value in fields.items()}
        say(json.dumps({"time": now(), "level": level, "event": event, **cut}))
    else:
        say(shortened(text, LONGEST_LINE))


def _cut(value: Any) -> Any:
    return shortened(value, LONGEST_LINE) if isinstance(value, str) else value


def put(text: str) -> None:
    """Text on stderr in one write, also where that is closed or cannot spell it."""
    try:
        encoding = getattr(sys.stderr, "encoding", None) or "ascii"
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stderr.flush()
    except (AttributeError, LookupError, ValueError, OSError):
        pass


def overwrite(text: str) -> None:
    """Let this stand in the last line of the terminal, until something is said or something else stands there.

    It is cut to the terminal as it is now: a full line would wrap, and could not be taken back. Rows that a line took which
    was wrapped by somebody who made the terminal narrower are left: to take more than one away may take what was said.
    """
    global _shown
    with _guard:
        fitted = _fitting(text, width() - 1)
        if fitted != _shown:
            put(BACK + fitted)
            _shown = fitted


def clear() -> None:
    """Take away what `overwrite` wrote."""
    global _shown
    with _guard:
        if _shown:
            put(BACK)
            _shown = ""


def _fitting(text: str, columns: int) -> str:
    """The beginning of a text that takes so many columns: characters of East Asia take two."""
    for place, character in enumerate(text):
        columns -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if columns < 0:
            return text[:place]
    return text


def is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def width() -> int:
    """Columns of the terminal."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80
