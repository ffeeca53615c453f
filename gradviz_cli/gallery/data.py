"""The images of the page as compact data: what many of them share is said once, and named by its place."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from gradviz_cli.draw.record import Ends
from gradviz_cli.draw.styles import SHEETS, STYLES, names
from gradviz_cli.estimators import ESTIMATORS, GRADIENT, Method
from gradviz_cli.files.text import printable
from gradviz_cli.gallery import folder
from gradviz_cli.gallery.folder import Picture, Shown
from gradviz_cli.rules import RULES
from gradviz_cli.version import __version__


def collect(out: Path) -> dict[str, Any]:
    """The data of the page: plain lists, dicts, numbers and text, in an order that depends on the files alone.

    Raises
    ------
    UsageError
        No run has written to `out`, or its manifest cannot be read.
    """
    shown = sorted(folder.images(out), key=lambda one: (_natural(one.name), one.source))
    pictures = [picture for one in shown for picture in one.pictures]
    tables = _Tables(
        modes=_ordered({picture.mode for picture in pictures if picture.mode}, _METHODS),
        styles=_ordered({picture.style for picture in pictures}, names()),
        targets=sorted({picture.spec for picture in pictures}, key=_natural_target),
    )
    entries = [tables.entry(out, one) for one in shown]
    return {
        "version": __version__,
        "modes": [{"name": mode, **_rule(mode)} for mode in tables.modes],
        "styles": [{"name": style, **_style(style), **tables.shape(style)} for style in tables.styles],
        "targets": tables.targets,
        "classes": [list(key) for key in tables.classes],
        "sets": [[list(picture) for picture in key] for key in tables.sets],
        "folders": [list(key) for key in tables.folders],
        "runs": [{"pictures": count, "facts": json.loads(facts)} for facts, count in tables.runs.items()],
        "images": entries,
    }


class _Table(dict[tuple, int]):
    """Value -> its place, in the order of arrival."""

    def __missing__(self, key: tuple) -> int:
        self[key] = len(self)
        return self[key]


@dataclass
class _Tables:
    """What many images share is said once, and named by its place."""

    modes: list[str]
    styles: list[str]
    targets: list[str]
    classes: _Table = field(default_factory=_Table)  # (index, label)
    sets: _Table = field(default_factory=_Table)  # which pictures an image has: (mode, style, target, suffix)...
    folders: _Table = field(default_factory=_Table)  # (as given, as linked)
    runs: dict[str, int] = field(default_factory=dict)  # how pictures were made -> how many
    sizes: dict[str, list[float]] = field(default_factory=dict)  # style -> width / height
    reading: folder.Reading = field(default_factory=folder.Reading)

    def entry(self, out: Path, one: Shown) -> dict[str, Any]:
        """One image, as the script of the page reads it."""
        entry: dict[str, Any] = {"name": printable(one.name), "status": one.status, "time": one.time}
        entry |= self._place(out, one)
        if one.error:
            entry["error"] = list(one.error)
        if one.pictures:
            pictures = sorted(one.pictures, key=self._rank)
            entry["set"] = self.sets[tuple((*self._rank(picture), picture.suffix) for picture in pictures)]
            entry["scales"] = [_scale(picture.record.scale) for picture in pictures]
            entry["targets"] = {self.targets.index(picture.spec): self._target(picture) for picture in pictures}
            entry["aspect"] = self._aspect(out, one, pictures)
            for picture in pictures:
                key = json.dumps(picture.record.setup(), sort_keys=True)
                self.runs[key] = self.runs.get(key, 0) + 1
        return entry

    def _rank(self, picture: Picture) -> tuple[int, int, int]:
        mode = self.modes.index(picture.mode) if picture.mode else -1
        return mode, self.styles.index(picture.style), self.targets.index(picture.spec)

    def _place(self, out: Path, one: Shown) -> dict[str, Any]:
        """Where the source image and the pictures are, as addresses; what stands in the way of showing the former."""
        found, why = folder.find_source(out, one, self.reading)
        if found and one.page is not None:  # a browser shows the whole file, and that is another picture
            found, why = None, "page"
        address = _address(one.name)
        link = _address(os.path.relpath(found, os.path.abspath(out))) if found else ""
        if found and not link.endswith(address):
            link, why = "", "gone"  # no run writes such a line
        given = printable(one.image.removesuffix(one.name))
        place: dict[str, Any] = {"folder": self.folders[given, link.removesuffix(address)]}
        return place | ({"url": address} if address != one.name else {}) | ({"gone": why} if why else {})

    def _target(self, picture: Picture) -> list:
        target = picture.target
        index = _number(target.index)
        known = self.classes[-1 if index is None else index, target.label or ""]
        return [known, *map(_number, (target.rank, target.score, target.output))]

    def _aspect(self, out: Path, one: Shown, pictures: Iterable[Picture]) -> float | None:
        """Of the maps; that of each style is kept for the thumbnails."""
        aspect = 1.0
        for picture in {picture.style: picture for picture in pictures}.values():
            width, height = _size(os.path.join(out, one.name + picture.suffix))
            self.sizes.setdefault(picture.style, []).append(width / height)
            if picture.style not in SHEETS:
                aspect = width / height
        return _number(aspect)

    def shape(self, style: str) -> dict[str, float | None]:
        """The usual width / height of a style's pictures."""
        return {"aspect": _number(median(self.sizes[style]))}


def _size(path: str) -> tuple[int, int]:
    """Width and height from the header of a PNG that was found to be whole."""
    try:
        with open(path, "rb") as file:
            head = file.read(24)
    except OSError:
        head = b""
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return (width, height) if width and height else (1, 1)


def _address(name: str) -> str:
    """A file name as a relative URL: all but letters, digits and `_.-~/` as %XX, byte by byte."""
    return quote(os.fsencode(name))


def _number(value: object) -> float | int | None:
    """Six digits are more than anyone reads; what is not finite has no place in JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 2**53 else None
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else None


def _scale(scale: Ends | Mapping[str, Ends | None] | None) -> list | None:
    """Of one map; a sheet has its numbers on it."""
    return None if scale is None or isinstance(scale, Mapping) else [_number(end) for end in scale]


def _natural(name: str) -> list:
    """Sorts `p2` before `p10`, and capitals among the small letters."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(len(part.lstrip("0")), part.lstrip("0")) if i % 2 else (0, part) for i, part in enumerate(parts)] + [
        (0, name)
    ]


def _natural_target(target: str) -> tuple:
    return not target.startswith("top"), _natural(target)


def _ordered(found: set[str], known: Iterable[str]) -> list[str]:
    return [name for name in known if name in found] + sorted(found - set(known))


_METHODS = [Method(mode, name).name for name in ESTIMATORS for mode in RULES]


def _rule(name: str) -> dict[str, str]:
    """What a method shows: of an estimator what that says, and by which rule."""
    mode, estimator = Method.of(name)
    rule, one = RULES.get(mode), ESTIMATORS.get(estimator)
    if rule is None or one is None:
        return {"summary": "", "source": "", "caution": ""}
    if estimator == GRADIENT:
        return {"summary": rule.summary, "source": rule.source, "caution": rule.caution}
    caution = " ".join(filter(None, [one.caution, rule.caution]))
    return {"summary": f"{one.summary}; {rule.summary}", "source": one.source, "caution": caution}


def _style(style: str) -> dict[str, str]:
    known = SHEETS.get(style) or STYLES.get(style)
    return {"summary": known.summary if known else ""}
