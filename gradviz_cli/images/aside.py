"""What a folder of photos holds besides photos: how it is told from them, and how much of it there was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum

from gradviz_cli.files.reading import head
from gradviz_cli.files.text import printable
from gradviz_cli.images.formats import aside, is_named_further, looks_readable
from gradviz_cli.plan.outputs import CHECK, FIGURE, KEYWORD, LOCK, LOCK_TEXT, MANIFEST
from gradviz_cli.plan.results import Status


class Kind(Enum):
    """Why something is left out: in words for one, in words for several, and how to have it all the same."""

    NAME = "file is not named as an image", "files are not named as images", "--include '*{ending}'"
    ASIDE = "{what}", "{what}s", "{remedy}"  # `formats.aside`
    HIDDEN = "hidden name", "hidden names", ""
    SYSTEM = "system folder", "system folders", ""
    LINK = "link to a folder", "links to folders", "--follow-links"
    AGAIN = "link to a folder that is searched anyway", "links to folders that are searched anyway", ""
    WRITTEN = "picture that gradviz wrote", "pictures that gradviz wrote", ""
    OUTPUT = "folder is an output of gradviz", "folders are outputs of gradviz", ""
    EXCLUDED = "is left out by --exclude", "are left out by --exclude", ""
    UNMATCHED = "does not match --include", "do not match --include", ""


BEGINNING = 1024  # bytes by which it is seen whether a file can be read
Look = Callable[[int], bytes]  # how many of its first bytes are wanted


class LeftOut:
    """Counts what was left out, by its kind, with a few examples each."""

    MOST, TRIED = 4, 32  # examples that are named, and such as a remedy is tried on

    def __init__(self) -> None:
        self._met: dict[tuple[str, str, str], _Met] = {}

    def add(self, kind: Kind, name: str = "", look: Look | None = None) -> None:
        """`name` of a file or folder; what is said of it is its ending, or itself. `look` shows how a file begins."""
        ending = os.path.splitext(name)[1].lower()
        what, remedy = (kind is Kind.NAME and aside(name)) or ("", "")
        words = (Kind.ASIDE if what else kind).value
        one, many, way = (text.format(what=what, remedy=remedy, ending="{ending}") for text in words)
        met = self._met.setdefault((one, many, way), _Met())
        met.count += 1
        example = {Kind.NAME: ending or "no ending", Kind.SYSTEM: name}.get(kind)
        if example and example not in met.examples and len(met.examples) < self.TRIED:
            met.examples[example] = ending, look

    def __str__(self) -> str:
        """All of it on one line; empty where nothing was left out."""
        return ", ".join(
            f"{met.count} {one if met.count == 1 else many}{met}" for (one, many, _), met in self._met.items()
        )

    @property
    def remedy(self) -> str:
        """How it can be had, as far as that leads to what can be read: files are looked at."""
        ways = [met.mended(way) for (_, _, way), met in self._met.items()]
        return f"name what you mean, or: {', '.join(filter(None, ways))}" if any(ways) else ""


@dataclass
class _Met:
    count: int = 0
    examples: dict[str, tuple[str, Look | None]] = field(default_factory=dict)  # what is said -> ending, and a look

    def mended(self, way: str) -> str:
        """That way, for the first ending of what can be read; empty where nothing can."""
        if "{ending}" not in way:
            return way
        read = (ending for ending, look in self.examples.values() if look and looks_readable(look(BEGINNING)))
        return next((way.format(ending=printable(ending)) for ending in read), "")

    def __str__(self) -> str:
        more = ["..."] if len(self.examples) > LeftOut.MOST else []
        shown = [*map(printable, list(self.examples)[: LeftOut.MOST]), *more]
        return f" ({', '.join(shown)})" if shown else ""


# ---- folders of systems and programs

_SYSTEM = frozenset(
    name.casefold()
    for name in (
        *("@eaDir", "@tmp", "@SynoResource", "@SynoEAStream", "#recycle", "#snapshot"),  # Synology
        *("@Recycle", "@Recently-Snapshot", "@__thumb"),  # QNAP
        *("$RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information", "FOUND.000", "_vti_cnf"),  # Windows
        *("__MACOSX", "Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder"),  # macOS
        *("lost+found", "~snapshot", "_gsdata_"),  # Linux, NetApp, GoodSync
    )
)
_SYSTEM_ENDINGS = (".lrdata", ".lrcat-data")  # previews of Lightroom
# Libraries of macOS: folders whose photos lie in one of these, and copies of them in the others.
_LIBRARIES, _ORIGINALS = (".photoslibrary", ".photolibrary", ".aplibrary"), ("originals", "masters")


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def is_system(folder: str, name: str) -> bool:
    """Whether a folder of this name, in that folder, holds copies, bins or previews rather than photos."""
    small = name.casefold()
    if folder.casefold().endswith(_LIBRARIES):
        return small not in _ORIGINALS
    return small in _SYSTEM or small.endswith(_SYSTEM_ENDINGS)


# ---- what gradviz wrote


TRACES = (MANIFEST, LOCK)
Head = Callable[[str, int], bytes]  # a path, and how many of its first bytes are wanted


def is_output(folder: str, names: Collection[str] = TRACES, read: Head = head) -> bool:
    """Whether a run has written into a folder: its manifest or lock are there, and hold what those of gradviz do."""
    return (MANIFEST in names and _is_manifest(read(os.path.join(folder, MANIFEST), 1 << 16))) or (
        LOCK in names and _is_lock(os.path.join(folder, LOCK), read)
    )


def lies_in_output(folder: str) -> bool:
    """Whether a folder, or one above it, is an output."""
    try:
        place = os.path.realpath(folder)
    except OSError:  # the working folder is gone
        return False
    while not is_output(place):
        place, below = os.path.dirname(place), place
        if place == below:
            return False
    return True


def is_written(path: str, in_output: bool, read: Head = head) -> bool:
    """Whether a file is a picture or an array of a run. In an output folder photos may lie beside them; elsewhere there
    may be copies of pictures, which go by what they say, and are looked at where they are named as outputs are."""
    if in_output and path.endswith(".npy"):
        return True
    name = os.path.basename(path)
    if not path.endswith(".png") or not (in_output or name in (CHECK, FIGURE) or is_named_further(name)):
        return False
    return read(path, 41 + len(KEYWORD))[37:] in (b"tEXt" + KEYWORD, b"iTXt" + KEYWORD)


def _is_manifest(start: bytes) -> bool:
    """Whether its first line that is whole is one of ours."""
    *lines, _ = start.split(b"\n")
    return any(map(_is_ours, lines[:2]))  # the first one may be torn


def _is_ours(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(record, dict) or Status.of(record.get("status")) is None:
        return False
    return isinstance(record.get("image"), str) and isinstance(record.get("outputs"), list)


def _is_lock(path: str, read: Head) -> bool:
    """Of a store an empty one says nothing: it may not be there."""
    text = read(path, 1000)
    return LOCK_TEXT.fullmatch(text) is not None and (bool(text) or os.path.isfile(path))
