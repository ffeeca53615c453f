"""The manifest of an output folder and its pictures -> the images that the page shows.

Both may be a stranger's, or damaged: lines that no run writes, names that lead out of the folder and pictures that are
none of ours are passed over.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from gradviz_cli.batch import manifest
from gradviz_cli.batch.known import Model, image_stamp
from gradviz_cli.draw.record import Record
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import UsageError
from gradviz_cli.estimators import GRADIENT
from gradviz_cli.files.near import near_path
from gradviz_cli.files.reading import Stamp, hash_file, head, stamp_of
from gradviz_cli.files.text import printable, shortened
from gradviz_cli.plan.results import Status, TargetResult
from gradviz_cli.plan.targets import PARENT

MISSING = "missing"  # the status of an image that was explained and whose pictures are gone
MOST_READ = 2**34  # bytes of images that are compared for one page
WHERE = "give the folder that `gradviz explain` wrote to"
WRITTEN_ANEW = "run the `gradviz explain` that wrote there once more, or give another folder"


class NothingTold(UsageError):
    """The manifest of a folder tells of no image."""


@dataclass(frozen=True)
class Line:
    """A line of the manifest, with every field of the right type."""

    image: str  # as it was given
    source: str  # its full path
    status: Status
    outputs: tuple[str, ...]  # PNGs, as names below OUT
    time: str
    error: tuple[str, str] | None
    page: int | None = None
    sha256: str | None = None  # of the image, and its stamp then
    stamp: Stamp | None = None
    model: Model | None = None  # in the first line of a run

    @property
    def key(self) -> str:
        """What it is of."""
        return self.source if self.page is None else f"{self.source}#{self.page}"


Kind = tuple[str, str]  # mode and estimator of a map


@dataclass(frozen=True)
class Picture:
    """One PNG that the manifest names, and what it says of itself."""

    suffix: str  # of its name, behind the name of the image: `.guided.top2.png`
    style: str
    spec: str  # the target as asked for: `top1`, `top2`, a class index, `parent`
    target: TargetResult
    record: Record

    @property
    def kind(self) -> Kind | None:
        """Mode and estimator, either may be empty; None for a sheet, which shows several."""
        mode, estimator = self.record.mode, self.record.estimator or GRADIENT
        if self.style in SHEETS or not isinstance(estimator, str):
            return None
        if not isinstance(mode, str) and estimator == GRADIENT:
            return None
        return mode if isinstance(mode, str) else "", "" if estimator == GRADIENT else estimator

    @property
    def look(self) -> str:
        """The style; sheets of several estimators are told apart."""
        estimator = self.record.estimator or GRADIENT
        named = estimator if isinstance(estimator, str) else "+".join(estimator)
        return self.style if self.kind or named == GRADIENT else f"{self.style} {named}"

    @property
    def subject(self) -> tuple[str | None, str | None]:
        """Which model and which image it is of."""
        return self.record.model, self.record.image


@dataclass(frozen=True)
class Shown:
    """One image of the page: a line of the manifest, and the pictures that belong to it."""

    image: str  # as it was given
    source: str  # its full path
    name: str  # that its pictures begin with, under OUT
    status: str  # of its line, or MISSING
    time: str
    error: tuple[str, str] | None
    pictures: tuple[Picture, ...]
    sha256: str | None = None  # of the image that they are of, and its stamp then
    stamp: Stamp | None = None
    page: int | None = None

    @property
    def file(self) -> str:
        """The image as it was given, without the number of a page."""
        return self.image if self.page is None else self.image.removesuffix(f"#{self.page}")


@dataclass(frozen=True)
class Folder:
    """An output folder: its images, and the models that its runs had, by fingerprint."""

    images: tuple[Shown, ...]
    models: Mapping[str, Model]


def read(out: Path) -> Folder:
    """Each image of the manifest once, by its last line.

    Raises
    ------
    UsageError
        No run has written to `out`, or its manifest cannot be read.
    """
    models: dict[str, Model] = {}
    return Folder(tuple(_images(out, models)), models)


def _images(out: Path, models: dict[str, Model]) -> Iterator[Shown]:
    last: dict[str, Line] = {}
    names: dict[str, dict[str, None]] = {}  # image -> all pictures that any line named
    owner: dict[str, str] = {}  # picture -> the image that it was last written for
    for line in _lines(out):
        if line.model:
            models[line.model.fingerprint] = line.model
        last[line.key] = line
        for name in line.outputs:
            owner[name] = line.key
            names.setdefault(line.key, {})[name] = None
    if not last and _holds_something(out):
        place = out / manifest.MANIFEST
        if not manifest.is_ours(head(place, manifest.LOOKED_AT)):
            raise NothingTold(f"{printable(place)}: it is no manifest of gradviz", WHERE)
        raise NothingTold(f"{printable(place)}: it tells of no image", WRITTEN_ANEW)
    roots = _roots(last.values())
    for key, line in last.items():
        name, status = _name(line, roots), line.status.value
        mine = [each for each in line.outputs if owner[each] == key]
        listed = set(line.outputs)
        older = [each for each in names.get(key, ()) if owner[each] == key and each not in listed]
        pictures = _pictures(out, name, mine, older)
        if not pictures and not line.status.failed:
            if not (mine and os.path.lexists(line.source)):
                continue  # pruned, or written anew as another image's
            status = MISSING
        sha256 = next((picture.record.image for picture in pictures), line.sha256)
        stamp = line.stamp if sha256 == line.sha256 else None
        named = line.image, line.source, name, status, line.time, line.error
        yield Shown(*named, pictures, sha256, stamp, line.page)


def _holds_something(out: Path) -> bool:
    """Whether there is what a run could have written of images: then a manifest without any is not what it was."""
    return os.stat(out / manifest.MANIFEST).st_size > 0 or any(out.rglob("*.png"))


def _lines(out: Path) -> Iterator[Line]:
    """The manifest's lines that are what a run writes."""
    lines = out / manifest.MANIFEST
    try:
        if not stat.S_ISREG(os.stat(lines).st_mode):
            raise UsageError(f"{lines}: is not a regular file", WHERE)
        yield from filter(None, map(_line, manifest.read(out)))
    except FileNotFoundError as error:
        raise UsageError(
            f"{out}: no run has written there: it holds no {manifest.MANIFEST}", near_path(out) or WHERE
        ) from error
    except NotADirectoryError as error:
        raise UsageError(f"{out}: is not a folder", WHERE) from error
    except OSError as error:
        raise UsageError(f"{lines}: cannot be read: {error.strerror}", "check its permissions") from error


def _line(record: dict) -> Line | None:
    """One line; None where it is of no image or of no status that a manifest has."""
    image, status = record.get("image"), Status.of(record.get("status"))
    if not _is_name(image) or status in (None, Status.PENDING):
        return None
    source, outputs, time = (record.get(key) for key in ("source", "outputs", "time"))
    return Line(
        image,
        source if _is_name(source) else os.path.abspath(image),
        status,
        tuple(filter(_is_picture, outputs if isinstance(outputs, list) else ())),
        time if isinstance(time, str) else "",
        _error(record.get("error")),
        page if isinstance(page := record.get("page"), int) else None,
        *image_stamp(record),
        _model(record.get("model")),
    )


def _model(found: object) -> Model | None:
    said = found if isinstance(found, dict) else {}
    typed, path, fingerprint = (said.get(name) for name in Model._fields)
    if _is_name(typed) and _is_name(path) and isinstance(fingerprint, str):
        return Model(typed, path, fingerprint)
    return None


def _error(found: object) -> tuple[str, str] | None:
    if not isinstance(found, dict):
        return None
    return shortened(str(found.get("kind")), 200), shortened(str(found.get("message")))


def _is_name(value: object) -> TypeGuard[str]:
    """Whether a file can have this name."""
    try:
        return isinstance(value, str) and value != "" and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return False


def _is_picture(name: object) -> TypeGuard[str]:
    """A PNG inside OUT; the manifest is only a text, so its names are not trusted."""
    return _is_name(name) and name.endswith(".png") and not name.startswith("/") and ".." not in name.split("/")


def _pictures(out: Path, name: str, mine: Iterable[str], older: Iterable[str]) -> tuple[Picture, ...]:
    """Those that the line names, and those of earlier runs that are of the same model and image.

    A run with other modes or styles adds to a folder; after a change of the model or the image only its own count.
    """
    found = [picture for each in mine if (picture := _picture(out, name, each))]
    subjects = {picture.subject for picture in found}
    if subjects:
        others = (_picture(out, name, each) for each in older)
        found += [picture for picture in others if picture and picture.subject in subjects]
    return tuple(found)


def _picture(out: Path, image: str, name: str) -> Picture | None:
    """What is at this name, if it is a picture of ours and of this image."""
    suffix = name.removeprefix(image)
    if not suffix.startswith("."):
        return None
    record = Record.read(os.path.join(out, name))
    if record is None or record.style is None or record.target is None:
        return None
    spec = next((part for part in suffix.split(".") if re.fullmatch(rf"top\d+|\d+|{PARENT}", part)), "top1")
    return Picture(suffix, record.style, spec, record.target, record)


def _roots(lines: Iterable[Line]) -> list[str]:
    """The folders that were explained, longest first: an image is its folder and the name of its outputs."""
    found = {line.image.removesuffix(_relative(line)) for line in lines if line.outputs}
    return sorted(found, key=lambda root: (-len(root), root))


def _relative(line: Line) -> str:
    return os.path.join(os.path.dirname(line.outputs[0]), os.path.basename(line.image))


def _name(line: Line, roots: list[str]) -> str:
    """The image's name under OUT; for one without outputs, as the others of its folder are named."""
    if line.outputs:
        return _relative(line)
    return next((line.image.removeprefix(root) for root in roots if root and line.image.startswith(root)), line.image)


@dataclass
class Reading:
    """How many bytes of images may still be read to compare them. For most that need not be: they look as they did when they
    were explained."""

    left: int = MOST_READ


def find_source(out: Path, one: Shown, reading: Reading) -> tuple[str | None, str]:
    """The source image if it is still the one that was explained, byte for byte; else why it cannot be shown.

    A failed image is never loaded: it may be what the limits are for. A folder that was moved together with its
    images is told by the images' names relative to a folder above it, and by their SHA-256.
    """
    if one.status == Status.FAILED:
        return None, "failed" if os.path.lexists(one.source) else "gone"
    if os.path.isfile(one.source):
        same = _is_image(one.source, one, reading)
        return (one.source, "") if same else (None, "unchecked" if same is None else "changed")
    if not os.path.isabs(one.image):
        here = os.path.abspath(out)
        for folder in (here, *map(str, Path(here).parents)):
            moved = os.path.normpath(os.path.join(folder, one.file))
            if os.path.isfile(moved) and _is_image(moved, one, reading):
                return moved, ""
    return None, "gone"


def _is_image(path: str, one: Shown, reading: Reading) -> bool | None:
    """Whether the file holds the bytes that were explained; None where that cannot be known, or would take too long."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if one.stamp and one.stamp == stamp_of(status):
        return True
    if one.stamp and one.stamp[0] != status.st_size:
        return False
    if one.sha256 is None or status.st_size > reading.left:
        return None
    reading.left -= status.st_size
    found = hash_file(path, MOST_READ)
    return found and found[0] == one.sha256
