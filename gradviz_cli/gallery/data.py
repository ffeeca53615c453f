"""The images of the page as compact data: what many of them share is said once, and named by its place."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from gradviz_cli.batch.known import Model
from gradviz_cli.draw.record import Ends
from gradviz_cli.draw.styles import SHEETS, STYLES, names
from gradviz_cli.estimators import ESTIMATORS, GRADIENT
from gradviz_cli.files.text import printable
from gradviz_cli.gallery import folder, truth
from gradviz_cli.gallery.fade import fade_of
from gradviz_cli.gallery.folder import Folder, Kind, Picture, Shown
from gradviz_cli.gallery.inside import Inside
from gradviz_cli.gallery.pairs import paired
from gradviz_cli.model.choice import is_version
from gradviz_cli.rules import RULES
from gradviz_cli.version import __version__

ELSEWHERE = "elsewhere"  # the status of an image that only the other folder has
MOST_RUNS = 8  # ways in which pictures were made that are told apart
NAMELESS = ("model", "saved_model", "export")  # names of a model's folder that say nothing without the one above it


def collect(outs: Sequence[Path], base: Path | None = None, inside: Inside | None = None) -> dict[str, Any]:
    """The data of the page: plain lists, dicts, numbers and text, in an order that depends on the files alone.

    Parameters
    ----------
    outs : one or two output folders
        Two are shown side by side, image by image.
    base : Path
        The folder of the page, which addresses are relative to; else the first output folder.
    inside : Inside
        Takes the pictures that the page is to hold in itself; without it they are linked.

    Raises
    ------
    UsageError
        No run has written to a folder, or its manifest cannot be read.
    """
    folders = [folder.read(out) for out in outs]
    rows = sorted(paired([one.images for one in folders]), key=lambda row: _order(next(filter(None, row))))
    pictures = [picture for row in rows for one in row if one for picture in one.pictures]
    tables = _Tables(
        outs=outs,
        base=base or outs[0],
        inside=inside,
        judge=truth.Judge.of(folders),
        kinds=_kinds({picture.kind for picture in pictures if picture.kind}),
        styles=_ordered({picture.look for picture in pictures}, names()),
        targets=sorted({picture.spec for picture in pictures}, key=_natural_target),
    )
    entries = [tables.entry(row) for row in rows]
    models = {fingerprint: model for one in folders for fingerprint, model in one.models.items()}
    return {
        "version": __version__,
        "outs": [tables.folder(out, one) for out, one in zip(outs, folders, strict=True)],
        "modes": [{"name": _kind_name(kind, tables.kinds), **_rule(kind)} for kind in tables.kinds],
        "styles": [{"name": style, **_style(style), **tables.shape(style)} for style in tables.styles],
        "targets": tables.targets,
        "classes": [list(key) for key in tables.classes],
        "sets": [[list(picture) for picture in key] for key in tables.sets],
        "folders": [list(key) for key in tables.folders],
        "fades": [fade_of(colormap) for (colormap,) in tables.fades],
        "unjudged": tables.judge.unjudged,
        "runs": [{"pictures": count, "facts": _named(facts, models)} for facts, count in _runs(tables.runs)],
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

    outs: Sequence[Path]
    base: Path
    inside: Inside | None
    judge: truth.Judge
    kinds: list[Kind]
    styles: list[str]
    targets: list[str]
    classes: _Table = field(default_factory=_Table)  # (index, label)
    sets: _Table = field(default_factory=_Table)  # which pictures an image has: (kind, style, target, suffix, fade)...
    folders: _Table = field(default_factory=_Table)  # (as given, as linked)
    fades: _Table = field(default_factory=_Table)  # (colormap)
    runs: dict[str, int] = field(default_factory=dict)  # how pictures were made -> how many
    sizes: dict[str, list[float]] = field(default_factory=dict)  # style -> width / height
    reading: folder.Reading = field(default_factory=folder.Reading)

    def folder(self, out: Path, found: Folder) -> dict[str, Any]:
        """An output folder, as the head of the page names it."""
        used = {picture.record.model for one in found.images for picture in one.pictures}
        models = [model_name(model.typed) for model in found.models.values() if model.fingerprint in used]
        where = _address(os.path.relpath(os.path.abspath(out), os.path.abspath(self.base)))
        name = printable(os.path.basename(os.path.abspath(out)) or "/")
        if len({os.path.basename(os.path.abspath(one)) for one in self.outs}) < len(self.outs):
            name = printable(os.path.join(os.path.basename(os.path.dirname(os.path.abspath(out))), name))
        return {"name": name, "base": "" if where == "." else f"{where}/", "models": list(dict.fromkeys(models))}

    def entry(self, row: Sequence[Shown | None]) -> dict[str, Any]:
        """One image, as the script of the page reads it: what the first folder has of it, and under `other` the second."""
        image = next(filter(None, row))
        entry: dict[str, Any] = {"name": printable(image.name)}
        entry |= self._place(self.outs[row.index(image)], image)
        label = self.judge.label(image)
        entry |= {"truth": label} if label else {}
        sides = [self._side(out, one, label, image) for out, one in zip(self.outs, row, strict=True)]
        return entry | sides[0] | ({"other": sides[1]} if len(sides) > 1 else {})

    def _side(self, out: Path, one: Shown | None, label: str | None, image: Shown) -> dict[str, Any]:
        """What one of the folders has of an image."""
        if one is None:
            return {"status": ELSEWHERE, "time": ""}
        side: dict[str, Any] = {"status": one.status, "time": one.time}
        if one.name != image.name:
            side |= {"at": _address(one.name), "as": printable(one.name)}
        if one.error:
            side["error"] = list(one.error)
        if one.pictures:
            side |= self._pictures(out, one)
            right = truth.is_right(one, label)
            side |= {} if right is None else {"right": right}
        return side

    def _pictures(self, out: Path, one: Shown) -> dict[str, Any]:
        pictures = sorted(one.pictures, key=self._rank)
        for picture in pictures:
            key = json.dumps(picture.record.setup(), sort_keys=True)
            self.runs[key] = self.runs.get(key, 0) + 1
        found = {
            "set": self.sets[tuple((*self._rank(one), one.suffix, self._fade(one)) for one in pictures)],
            "scales": [_scale(picture.record.scale) for picture in pictures],
            "targets": {self.targets.index(picture.spec): self._target(picture) for picture in pictures},
            "aspect": self._aspect(out, one, pictures),
        }
        if self.inside:
            paths = [os.path.join(out, one.name + picture.suffix) for picture in pictures]
            found["inside"] = [self.inside.add(path, _size(path)) for path in paths]
        return found

    def _rank(self, picture: Picture) -> tuple[int, int, int]:
        kind = self.kinds.index(picture.kind) if picture.kind else -1
        return kind, self.styles.index(picture.look), self.targets.index(picture.spec)

    def _fade(self, picture: Picture) -> int:
        """Which table tells how strong a pixel is by its colour; -1 where none does."""
        style = STYLES.get(picture.style)
        colormap = style and style.paletted and (picture.record.colormap or style.only_colormap)
        return self.fades[colormap,] if colormap and fade_of(colormap) else -1

    def _place(self, out: Path, one: Shown) -> dict[str, Any]:
        """Where the source image and the pictures are, as addresses; what stands in the way of showing the former."""
        found, why = folder.find_source(out, one, self.reading)
        if found and self.inside:
            return self._held(one, self.inside.add(found, None, one.page))
        if found and one.page is not None:  # a browser shows the whole file, and that is another picture
            found, why = None, "page"
        address = _address(one.name)
        link = _address(os.path.relpath(found, os.path.abspath(self.base))) if found else ""
        if found and not link.endswith(address):
            link, why = "", "gone"  # no run writes such a line
        place = {"folder": self.folders[_given(one), link.removesuffix(address)]}
        return place | ({"url": address} if address != one.name else {}) | ({"gone": why} if why else {})

    def _held(self, one: Shown, place: int) -> dict[str, Any]:
        """In the page itself, which may go to others: of a full path it keeps the name alone."""
        return {"folder": self.folders["" if os.path.isabs(one.image) else _given(one), ""], "input": place}

    def _target(self, picture: Picture) -> list:
        target = picture.target
        index = _number(target.index)
        known = self.classes[-1 if index is None else index, target.label or ""]
        return [known, *map(_number, (target.rank, target.score, target.output))]

    def _aspect(self, out: Path, one: Shown, pictures: Iterable[Picture]) -> float | None:
        """Of the maps; that of each style is kept for the thumbnails."""
        aspect = 1.0
        for picture in {picture.look: picture for picture in pictures}.values():
            width, height = _size(os.path.join(out, one.name + picture.suffix))
            self.sizes.setdefault(picture.look, []).append(width / height)
            if picture.kind:
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


def model_name(path: str) -> str:
    """What people call a model: the name of its folder, that of the folder above where it says nothing, and its version."""
    parts = [part for part in os.path.normpath(path).split(os.sep) if part]
    version = parts.pop() if len(parts) > 1 and is_version(parts[-1]) else ""
    if len(parts) > 1 and os.path.splitext(parts[-1])[0] in NAMELESS:
        parts.pop()
    return printable(os.path.join(*parts[-1:], version).rstrip(os.sep) or path)


def _given(one: Shown) -> str:
    return printable(one.image.removesuffix(one.name))


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


def _order(one: Shown) -> tuple:
    return _natural(one.name), one.source


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


def _kinds(found: set[Kind]) -> list[Kind]:
    """The modes alone in the order of their table, then those of each estimator in the order of theirs."""
    modes, estimators = _ordered({mode for mode, _ in found}, RULES), ["", *ESTIMATORS]
    ranks = {name: place for place, name in enumerate(_ordered({name for _, name in found}, estimators))}
    return sorted(found, key=lambda kind: (ranks[kind[1]], modes.index(kind[0])))


def _kind_name(kind: Kind, kinds: Iterable[Kind]) -> str:
    """The mode, or the estimator; both where an estimator was used with several modes."""
    mode, estimator = kind
    several = sum(other == estimator for _, other in kinds) > 1
    return mode if not estimator else f"{estimator}, {mode}" if several and mode else estimator


def _rule(kind: Kind) -> dict[str, str]:
    """What a kind of map shows: of an estimator what that says, and by which rule."""
    mode, estimator = kind
    rule, one = RULES.get(mode), ESTIMATORS.get(estimator or GRADIENT)
    if rule is None or one is None:
        return {"summary": "", "source": "", "caution": ""}
    if not estimator:
        return {"summary": rule.summary, "source": rule.source, "caution": rule.caution}
    caution = " ".join(filter(None, [one.caution, rule.caution]))
    return {"summary": f"{one.summary}; {rule.summary}", "source": one.source, "caution": caution}


def _style(style: str) -> dict[str, Any]:
    word = style.split(" ")[0]  # a sheet may bear the name of its estimator
    known = SHEETS.get(word) or STYLES.get(style)
    return {"summary": known.summary if known else ""} | ({"sheet": True} if word in SHEETS else {})


def _runs(counted: Mapping[str, int]) -> list[tuple[dict[str, Any], int]]:
    """How pictures were made, and how many so. Where each would be a run of its own, what differs most is left out."""
    runs = [(json.loads(facts), count) for facts, count in counted.items()]
    while len(runs) > MOST_RUNS:
        differ: dict[str, set[str]] = {}
        for facts, _ in runs:
            for name, value in facts.items():
                differ.setdefault(name, set()).add(json.dumps(value))
        worst = max(differ, key=lambda name: len(differ[name]))
        merged: dict[str, int] = {}
        for facts, count in runs:
            key = json.dumps({name: value for name, value in facts.items() if name != worst})
            merged[key] = merged.get(key, 0) + count
        runs = [(json.loads(facts), count) for facts, count in merged.items()]
    return runs


def _named(facts: dict[str, Any], models: Mapping[str, Model]) -> dict[str, Any]:
    model = models.get(str(facts.get("model")))
    return ({"name": model_name(model.typed)} if model else {}) | facts
