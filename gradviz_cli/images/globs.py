"""--include and --exclude: patterns of names in a folder.

`*` and `?` stay within one name, `**` goes across folders, `[ab]` and `{jpg,png}` are choices; large and small letters
and the two Unicode forms of an accent are one. A pattern without a slash is meant for the name of a file or of a folder,
one with a slash for the end of a path, or with a slash in front for the whole path below the folder that was given (or
from the root of the file system). A folder that matches stands for all that is in it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Globs:
    """Several patterns, of which one has to match; none matches nothing. ValueError for one that cannot be read."""

    patterns: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self._read) == len(self.patterns)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def matches(self, root: str, rel: str) -> bool:
        """Whether the file or folder `rel`, or a folder between it and the one whose `full_path` is `root`, matches."""
        if not self.patterns:
            return False
        return any(glob.matches(root, place) for place in _upwards(folded(rel)) for glob in self._read)

    def spells_ending(self, root: str, rel: str) -> bool:
        """Whether a pattern that matches the file itself says how its name ends: `*.dat` does, `IMG_*` does not."""
        place = folded(rel)
        return any(glob.spells_ending and glob.matches(root, place) for glob in self._read)

    @cached_property
    def _read(self) -> tuple[_Glob, ...]:
        return tuple(map(_Glob.of, self.patterns))


def parts(text: str) -> list[str]:
    """`*.jpg,*.png` -> two patterns. A comma in brackets or braces parts nothing, nor does one in a text of which some part
    has no wildcard: that is the comma of a name."""
    found = re.split(r",(?![^\[{]*[\]}])", text)
    return found if all(re.search(r"[*?\[{]", part) for part in found) else [text]


@dataclass(frozen=True)
class _Glob:
    expression: re.Pattern[str]
    has_path: bool
    rooted: bool
    spells_ending: bool

    @classmethod
    def of(cls, pattern: str) -> _Glob:
        bare = folded(pattern).removeprefix("./").rstrip("/")
        if not bare:
            raise ValueError(f"{pattern!r} matches no name")
        ending = os.path.splitext(bare.rpartition("/")[2])[1]
        spells = "*" not in ending and re.search(r"\w", ending) is not None
        return cls(re.compile(_expression(bare.lstrip("/"))), "/" in bare, bare[0] == "/", spells)

    def matches(self, root: str, place: str) -> bool:
        if not self.has_path:
            return self.expression.fullmatch(place.rpartition("/")[2]) is not None
        if self.rooted:
            full = f"{root}/{place}".lstrip("/")
            return any(map(self.expression.fullmatch, (place, full)))
        return any(map(self.expression.fullmatch, _ends(f"{root}/{place}")))


def full_path(top: str) -> str:
    """Of a folder, as patterns are compared with it."""
    return folded(os.path.abspath(top)).rstrip("/")


def folded(text: str) -> str:
    """As names are compared: without case, accents in one form."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _upwards(rel: str) -> Iterator[str]:
    """a/b/c -> a/b/c, a/b, a."""
    while rel:
        yield rel
        rel = rel.rpartition("/")[0]


def _ends(path: str) -> Iterator[str]:
    """a/b/c -> a/b/c, b/c, c."""
    parts = path.strip("/").split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))


_TOKENS = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]/]*\]|\{[^{}]*\}|\\.|.", re.DOTALL)


def _expression(pattern: str) -> str:
    return "".join(map(_token, _TOKENS.findall(pattern)))


def _token(token: str) -> str:
    simple = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if token in simple:
        return simple[token]
    if len(token) > 2 and token[0] == "[":
        return _letters(token[1:-1])
    if len(token) > 1 and token[0] == "{":
        return f"(?:{'|'.join(map(_expression, token[1:-1].split(',')))})"
    return re.escape(token[1:] if token[0] == "\\" else token)


def _letters(choices: str) -> str:
    inverted = choices[0] in "!^" and len(choices) > 1
    body = re.sub(r"([\\\]\[&~|^])", r"\\\1", choices[inverted:])
    return f"(?!/)[{'^' if inverted else ''}{body}]"


def pattern(value: object) -> str:
    """A pattern; ValueError for what is none."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    try:
        Globs((value,))
    except re.error as error:
        raise ValueError(f"{value!r} is no pattern of names: {error}") from None
    return value
