"""Lines on stderr that never fail, whatever stderr is."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """One line on stderr."""
    put(line + "\n")


def put(text: str) -> None:
    """Text on stderr, also where that is closed or cannot spell it."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except UnicodeEncodeError:
        sys.stderr.write(text.encode("ascii", "backslashreplace").decode())
    except (AttributeError, ValueError, OSError):
        pass
