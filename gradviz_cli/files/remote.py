"""The URL of an object, or of a folder of objects, in a store: `s3://bucket/photos/a.jpg`.

A type of its own: `Path` would take one of the two slashes, and what asks the system of this machine about a path must not
be given one of a store. `files.objects` reads and writes what it names.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_QUERY = re.compile(r"\?[^/]*=.*", re.DOTALL)
_LOCAL = ("file", "local")
# Other words for a scheme.
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}


@dataclass(frozen=True, order=True)
class Remote:
    """What a URL names, a folder too: a store knows none, but names that have slashes.

    Attributes
    ----------
    path : str
        Bucket and names, without a slash at either end.
    """

    scheme: str
    path: str

    @classmethod
    def of(cls, typed: str) -> Remote | Path | None:
        """What a URL names; a path where it is one of this machine. None for what is no URL, or is there as a file.

        Raises
        ------
        ValueError
            It holds a password or a token, or a part of it is no name.
        """
        found = _URL.fullmatch(typed)
        if found is None or os.path.lexists(typed):
            return None
        scheme, rest = found[1].lower(), found[2]
        if scheme in _LOCAL:
            return Path(unquote(rest.removeprefix("localhost")))
        _check_secrets(typed, rest)
        path = rest.strip("/")
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise ValueError(
                f"{typed} names nothing in a store: a part of it is empty or dots; give SCHEME://BUCKET/NAME"
            )
        return cls(_SAME.get(scheme, scheme), path)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    def __truediv__(self, below: str) -> Remote:
        return Remote(self.scheme, f"{self.path}/{below}")

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        """The folder that it lies in; of a bucket itself."""
        return Remote(self.scheme, self.path.rpartition("/")[0] or self.path)

    @property
    def parents(self) -> tuple[Remote, ...]:
        """All of those, the nearest first."""
        parts = self.path.split("/")
        return tuple(Remote(self.scheme, "/".join(parts[:count])) for count in range(len(parts) - 1, 0, -1))

    def below(self, above: Remote) -> str | None:
        """Its name below a folder: empty for the folder itself, None where it does not lie there."""
        if self == above:
            return ""
        inside = self.scheme == above.scheme and self.path.startswith(f"{above.path}/")
        return self.path[len(above.path) + 1 :] if inside else None


Place = Path | Remote


def full_name(place: Place | str) -> str:
    """By which a file is known whatever the working folder is: its URL or its full path."""
    text = str(place)
    return text if is_url(text) else os.path.abspath(text)


def place_of(name: str) -> Place:
    """What has this full name. Nobody typed it, so what a typed URL may not have it may: a store lists `x?v=1.jpg` too."""
    return Remote(*name.split("://", 1)) if is_url(name) else Path(name)


def is_url(text: str) -> bool:
    """Whether a text is a URL: no path is written with two slashes."""
    return _URL.fullmatch(text) is not None


def without_secrets(text: str) -> str:
    """A text whose URLs tell nobody a password or a token."""
    text = re.sub(r"(?<=://)[^/\s@]*@", "...@", text)
    return re.sub(r"(?<=://)(\S*?)\?\S*", r"\1?...", text)


def _check_secrets(typed: str, rest: str) -> None:
    shown = without_secrets(typed)
    if ":" in rest.partition("@")[0] and "@" in rest.partition("/")[0]:
        raise ValueError(f"{shown} holds a password, which would stand in manifests; leave it out: {_WAY}")
    if _QUERY.search(rest):
        raise ValueError(f"{shown} has a query, which may hold a token; leave it out: {_WAY}")


_WAY = "credentials are found where the store's own tools find them"
