"""Output folders -> the maps in them: of which image, by which model, estimator and mode, for which target.

Everything comes from what the pictures say of themselves and from the manifests that name them; of the arrays themselves
nothing is read here. All of it may be a stranger's, or damaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gradviz_cli.draw.record import Record
from gradviz_cli.draw.styles import SHEETS, STYLES
from gradviz_cli.errors import UsageError
from gradviz_cli.estimators import GRADIENT
from gradviz_cli.files.text import plain, printable, shortened
from gradviz_cli.gallery import folder
from gradviz_cli.gallery.folder import Picture, Shown
from gradviz_cli.plan.plan import DEFAULT_STYLE

FIRST_TARGET = "top1"
LONGEST = 200  # characters of a name on a sheet


def told(name: object) -> str:
    """A name of any origin, on a sheet: one line of printable characters."""
    return shortened(plain(str(name)[: 4 * LONGEST]), LONGEST)


class Place(NamedTuple):
    """What a map is of: a value on each axis of a sheet. Images and models by their number."""

    image: int
    model: int
    estimator: str
    mode: str
    target: str  # as in a file's name, or top1


@dataclass(frozen=True)
class Map:
    """One attribution: where its numbers are, and what its picture says. `sha256` is None where it was drawn without --raw."""

    path: str
    sha256: str | None
    record: Record
    estimator: str = GRADIENT
    size: tuple[int, int] | None = None  # height and width of the upright image, where the picture has its size

    @property
    def fit(self) -> object:
        return self.record.options.get("fit", "stretch")


@dataclass(frozen=True)
class Pictured:
    """An image of the sheet: its name, and each folder's line of it, by which its file is found."""

    name: str
    lines: tuple[tuple[Path, Shown], ...]


@dataclass(frozen=True)
class Collection:
    """All maps of some output folders."""

    models: tuple[str, ...]  # their names
    images: tuple[Pictured, ...]
    maps: Mapping[Place, Map]
    fingerprints: tuple[frozenset[str], ...]  # of each folder's pictures
    left_out: int = 0  # images that have no picture in a folder

    def values(self, axis: str) -> list:
        """What occurs on an axis, in order of appearance."""
        return list(dict.fromkeys(getattr(place, axis) for place in self.maps))


def collect(outs: Sequence[Path], names: Sequence[str] = ()) -> Collection:
    """The maps of these folders. An image is the same in two of them where its bytes are the same.

    Raises
    ------
    UsageError
        No run has written to one of them, or they are no different folders.
    """
    images: dict[tuple, list[tuple[Path, Shown]]] = {}
    maps: dict[Place, Map] = {}
    numbers: dict[tuple, int] = {}
    prints: list[frozenset[str]] = []
    left_out = 0
    for model, out in enumerate(outs):
        seen: dict[tuple, int] = {}
        found: set[str] = set()
        for shown in folder.read(out).images:
            if not shown.pictures:
                left_out += 1
                continue
            same = (shown.sha256 or (model, shown.name), shown.page)
            seen[same] = seen.get(same, -1) + 1  # copies of one image are images of their own
            key = (*same, seen[same])
            number = numbers.setdefault(key, len(numbers))
            images.setdefault(key, []).append((out, shown))
            for place, each in _maps(out, shown, number, model):
                maps.setdefault(place, each)
                found |= {each.record.model} if each.record.model else set()
        prints.append(frozenset(found))
    pictured = tuple(Pictured(lines[0][1].name, tuple(lines)) for lines in images.values())
    return Collection(tuple(names) or _names(outs), pictured, maps, tuple(prints), left_out)


def _maps(out: Path, shown: Shown, image: int, model: int) -> Iterator[tuple[Place, Map]]:
    """One for each attribution, whatever the styles that it was drawn in; what says most of it goes first."""
    found: dict[Place, tuple[tuple[bool, ...], Map]] = {}
    for picture in shown.pictures:
        upright = _upright(os.path.join(out, shown.name + picture.suffix), picture)
        for mode, estimator, name, sha256 in _arrays(shown.name, picture):
            place = Place(image, model, estimator, mode, _target(picture))
            rank = (sha256 is None, picture.style in SHEETS, upright is None)
            if place not in found or rank < found[place][0]:
                found[place] = rank, Map(os.path.join(out, name), sha256, picture.record, estimator, upright)
    for place, (_, each) in found.items():
        yield place, each


def _parts(picture: Picture) -> list[str]:
    """What the name says behind that of the image: mode, estimator, target; without the style and the ending."""
    parts = picture.suffix.split(".")[1:-1]
    return parts[:-1] if parts and parts[-1] == picture.style != DEFAULT_STYLE else parts


def _target(picture: Picture) -> str:
    """The part of the name that is neither mode nor estimator."""
    known = {picture.record.mode, picture.record.estimator}
    return next((part for part in _parts(picture) if part not in known), FIRST_TARGET)


def _arrays(image: str, picture: Picture) -> Iterator[tuple[str, str, str, str | None]]:
    """Mode, estimator, name and SHA-256 of the arrays behind a picture. A sheet has several, each by what tells it apart in
    its name: `guided`, `backprop.grad-cam`."""
    record, parts = picture.record, _parts(picture)
    if picture.style not in SHEETS:
        mode = record.mode if isinstance(record.mode, str) else ""
        sha256 = record.npy if isinstance(record.npy, str) else None
        estimator = record.estimator if isinstance(record.estimator, str) else GRADIENT
        yield mode, estimator, ".".join([image, *parts, "npy"]), sha256
        return
    arrays = record.npy if isinstance(record.npy, Mapping) else dict.fromkeys(record.mode or ())
    for method, sha256 in arrays.items():
        if "/" in method:  # no run writes such a name, which leads elsewhere
            continue
        mode, _, estimator = method.partition(".")
        yield mode, estimator or GRADIENT, ".".join([image, method, *parts, "npy"]), sha256


def _upright(path: str, picture: Picture) -> tuple[int, int] | None:
    """Height and width of the image, from the head of a picture that has its size."""
    if picture.style in SHEETS or picture.style not in STYLES or picture.record.options.get("size") != "image":
        return None
    try:
        with open(path, "rb") as file:
            head = file.read(24)
    except OSError:
        return None
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return (height, width) if width and height else None


def _names(outs: Sequence[Path]) -> tuple[str, ...]:
    """As short as tells them apart."""
    full = [os.path.abspath(out).split("/") for out in outs]
    if len({tuple(parts) for parts in full}) < len(full):
        raise UsageError(f"{printable(outs[-1])}: the same folder is given twice", "give each folder once")
    deepest = max(map(len, full))
    for depth in range(1, deepest + 1):
        names = ["/".join(parts[-depth:]) for parts in full]
        if len(set(names)) == len(names):
            break
    return tuple(names)
