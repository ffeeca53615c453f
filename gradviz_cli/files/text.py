"""Names and texts of any origin, for people: one line of characters that a terminal takes."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timezone

AnyPath = str | bytes | os.PathLike
LONGEST, LONGEST_LINE = 1000, 4000  # characters of a message, and of all that is said in one line


def now() -> str:
    """The time as RFC 3339, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(text: str) -> str:
    """A text on one line of printable characters: it may hold a name, an argument or a process's words, of any origin."""
    return "".join(c if c.isprintable() else _spelt(c) for c in text)


def _spelt(character: str) -> str:
    r"""`\n`, `\u202e`; of what stands for a byte that is not UTF-8 (`os.fsdecode`) that byte, `\xff`."""
    byte = character.encode("utf-8", "surrogateescape") if "\udc80" <= character <= "\udcff" else b""
    return byte.decode("utf-8", "backslashreplace") if byte else character.encode("unicode_escape").decode()


def printable(name: object) -> str:
    r"""`name` for a message: one line of characters that any terminal of this locale takes.

    Bytes that are not UTF-8 become `\xff`, control and formatting characters `\n`, `\x1b` or `\u202e`.
    """
    text = os.fspath(name) if isinstance(name, AnyPath) else str(name)
    text = plain(text if isinstance(text, str) else text.decode("utf-8", "surrogateescape"))
    encoding = sys.getfilesystemencoding()
    return text.encode(encoding, "backslashreplace").decode(encoding)


def shortened(text: str, most: int = LONGEST) -> str:
    """A text of a length that a person reads: its beginning and its end."""
    head = max(most // 2, most - 100)
    return text if len(text) <= most else f"{text[:head]} ... {text[-min(80, most - head - 5) :]}"
