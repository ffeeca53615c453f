"""What an exception of TensorFlow says, in a line for people. Imports nothing large."""

from __future__ import annotations

import re

# Marks of where in TensorFlow's own code an error comes from.
_MARKS = re.compile(r"\{\{function_node[^{}]*\}\}|\[Op:[^\]]*\]")


# An error inside of a function begins with this, and says what is wrong last.
_INSIDE = "Graph execution error:"
_PLACES = ("[[", 'File "', "Detected at", "Node:", "(1) ")


def first_line(error: BaseException) -> str:
    """The first line that says something, without TensorFlow's marks; the class where there is none."""
    text = _MARKS.sub("", getattr(error, "message", "") or str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[0] == _INSIDE:
        lines = [line for line in lines if not line.startswith(_PLACES)][:0:-1] or lines
    return next(iter(lines), type(error).__name__)[:300]


def described(error: BaseException) -> str:
    """Class and first line of an exception."""
    line = first_line(error)
    return line if line == type(error).__name__ else f"{type(error).__name__}: {line}"
