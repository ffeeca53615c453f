"""What an exception of TensorFlow says, in a line for people. Imports nothing large."""

from __future__ import annotations

import re

# Marks of where in TensorFlow's own code an error comes from.
_MARKS = re.compile(r"\{\{function_node[^{}]*\}\}|\[Op:[^\]]*\]")


def first_line(error: BaseException) -> str:
    """The first line that says something, without TensorFlow's marks; the class where there is none."""
    lines = (line.strip() for line in _MARKS.sub("", getattr(error, "message", "") or str(error)).splitlines())
    return next(filter(None, lines), type(error).__name__)[:300]


def described(error: BaseException) -> str:
    """Class and first line of an exception."""
    line = first_line(error)
    return line if line == type(error).__name__ else f"{type(error).__name__}: {line}"
