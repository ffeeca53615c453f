"""An output folder -> one HTML page over it, OUT/index.html.

The page is one file: style, script and the data as JSON. The pictures stay where they are and are linked, relative to
the page, so that a folder of ten thousand opens at once and may be moved or served. Nothing comes from elsewhere, and
the page's own Content-Security-Policy lets nothing else in.

What it shows is the manifest's last line of each image, and what the pictures that this line names say of themselves.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from statistics import median
from string import Template
from typing import Any, TypeGuard
from urllib.parse import quote

from gradviz_cli.batch import manifest
from gradviz_cli.draw.png import read_text
from gradviz_cli.draw.styles import STYLES
from gradviz_cli.errors import ImageError, OutputError, UsageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import write_whole
from gradviz_cli.rules import RULES
from gradviz_cli.version import __version__

PAGE = "index.html"
DONE = ("written", "current")
FAILURES = ("failed", "zero", "nonfinite")
GENERATOR = b'<meta name="generator" content="gradviz'  # by this a page is known as ours

# What differs from picture to picture; all else in a picture's text is how the run was set up.
_OF_THE_PICTURE = {"mode", "style", "target", "scale", "colormap", "alpha", "image", "digest", "npy"}


@dataclass(frozen=True)
class Picture:
    """One PNG that the manifest names, and what it says of itself."""

    suffix: str  # of its name, behind the name of the image: `.guided.top2.png`
    mode: str | None  # None: a panel of all modes
    style: str
    target: str  # as asked for: `top1`, `top2`, a class index
    text: dict[str, Any]

    @property
    def subject(self) -> tuple[str, str]:
        """Which model and which image it is of."""
        return str(self.text.get("model")), str(self.text.get("image"))


@dataclass(frozen=True)
class Shown:
    """One image of the page: a line of the manifest, and the pictures that belong to it."""

    image: str  # as it was given
    source: str  # its full path
    name: str  # that its pictures begin with, under OUT
    status: str
    time: str
    error: tuple[str, str] | None
    pictures: tuple[Picture, ...]


def write(out: Path) -> Path:
    """Write the page over an output folder; returns its path.

    Raises
    ------
    UsageError
        No run has written to `out`, or its manifest cannot be read.
    OutputError
        The page cannot be written, or would replace an `index.html` that is not ours.
    """
    path = out / PAGE
    _insist_on_ours(path)
    data = page(collect(out), out).encode("ascii")
    try:
        write_whole(path, data)
    except OutputError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        write_whole(path, data)  # a run that began just now swept our temporary file away
    return path


def _insist_on_ours(path: Path) -> None:
    try:
        head = read_bytes(path, Limits(max_file_size=2**40))[:4096]
    except ImageError:
        return  # not there, or nothing that could be taken for a page; writing says what is wrong with it
    if GENERATOR not in head:
        raise OutputError(f"{path}: is not a gallery", "move it away; the gallery has to have that name")


# ---- what the page shows


def collect(out: Path) -> dict[str, Any]:
    """The data of the page: plain lists, dicts, numbers and text, in an order that depends on the files alone.

    Raises
    ------
    UsageError
        No run has written to `out`, or its manifest cannot be read.
    """
    shown = sorted(_shown(out), key=lambda one: (_natural(one.name), one.source))
    pictures = [picture for one in shown for picture in one.pictures]
    tables = _Tables(
        modes=_ordered({picture.mode for picture in pictures if picture.mode}, RULES),
        styles=_ordered({picture.style for picture in pictures}, [*STYLES, "panel"]),
        targets=sorted({picture.target for picture in pictures}, key=_natural_target),
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
        "runs": [{"pictures": count, "facts": _loads(facts)} for facts, count in tables.runs.items()],
        "images": entries,
    }


def _shown(out: Path) -> Iterator[Shown]:
    """Each image of the manifest once, by its last line."""
    last: dict[str, dict] = {}
    names: dict[str, dict[str, None]] = {}  # image -> all pictures that any line named
    owner: dict[str, str] = {}  # picture -> the image that it was last written for
    for record in _records(out):
        key = record["source"]
        last[key] = record
        for name in record["outputs"]:
            owner[name] = key
            names.setdefault(key, {})[name] = None
    roots = _roots(last.values())
    for key, record in last.items():
        name, status = _name(record, roots), record["status"]
        mine = [each for each in record["outputs"] if owner[each] == key]
        older = [each for each in names.get(key, ()) if owner[each] == key and each not in record["outputs"]]
        pictures = _pictures(out, name, mine, older)
        if not pictures and status in DONE:
            if not (mine and os.path.lexists(key)):
                continue  # pruned, or written anew as another image's
            status = "missing"
        yield Shown(record["image"], key, name, status, record["time"], record["error"], pictures)


WHERE = "give the folder that `gradviz explain` wrote to"


def _records(out: Path) -> Iterator[dict]:
    """The manifest's lines that are what a run writes, with every field of the right type."""
    book = out / manifest.MANIFEST
    try:
        if not stat.S_ISREG(os.stat(book).st_mode):
            raise UsageError(f"{book}: is not a regular file", WHERE)
        for record in manifest.read(out):
            image, status = record.get("image"), record.get("status")
            if not _is_name(image) or status not in DONE + FAILURES:
                continue
            source, outputs, time = (record.get(key) for key in ("source", "outputs", "time"))
            yield {
                "image": image,
                "status": status,
                "source": source if _is_name(source) else os.path.abspath(image),
                "outputs": list(filter(_is_picture, outputs if isinstance(outputs, list) else ())),
                "time": time if isinstance(time, str) else "",
                "error": _error(record.get("error")),
            }
    except FileNotFoundError as error:
        raise UsageError(f"{out}: no run has written there: it holds no {manifest.MANIFEST}", WHERE) from error
    except NotADirectoryError as error:
        raise UsageError(f"{out}: is not a folder", WHERE) from error
    except OSError as error:
        raise UsageError(f"{book}: cannot be read: {error.strerror}", "check its permissions") from error


def _error(found: object) -> tuple[str, str] | None:
    return (str(found.get("kind")), str(found.get("message"))) if isinstance(found, dict) else None


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
    try:
        text = _loads(read_text(os.path.join(out, name)) or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(text, dict):
        return None
    mode, style = text.get("mode"), text.get("style")
    if not isinstance(style, str) or not isinstance(text.get("target"), dict):
        return None
    target = next((part for part in suffix.split(".") if re.fullmatch(r"top\d+|\d+", part)), "top1")
    return Picture(suffix, mode if isinstance(mode, str) else None, style, target, text)


def _roots(records: Iterable[dict]) -> list[str]:
    """The folders that were explained, longest first: an image is its folder and the name of its outputs."""
    found = {record["image"].removesuffix(_relative(record)) for record in records if record["outputs"]}
    return sorted(found, key=lambda root: (-len(root), root))


def _relative(record: dict) -> str:
    return os.path.join(os.path.dirname(record["outputs"][0]), os.path.basename(record["image"]))


def _name(record: dict, roots: list[str]) -> str:
    """The image's name under OUT; for one without outputs, as the others of its folder are named."""
    image = record["image"]
    if record["outputs"]:
        return _relative(record)
    return next((image.removeprefix(root) for root in roots if root and image.startswith(root)), image)


# ---- as compact data


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

    def entry(self, out: Path, one: Shown) -> dict[str, Any]:
        """One image, as the script of the page reads it."""
        entry: dict[str, Any] = {"name": printable(one.name), "status": one.status, "time": one.time}
        entry |= self._place(out, one)
        if one.error:
            entry["error"] = list(one.error)
        if one.pictures:
            pictures = sorted(one.pictures, key=self._rank)
            entry["set"] = self.sets[tuple((*self._rank(picture), picture.suffix) for picture in pictures)]
            entry["scales"] = [_scale(picture.text.get("scale")) for picture in pictures]
            entry["targets"] = {self.targets.index(picture.target): self._target(picture) for picture in pictures}
            entry["aspect"] = self._aspect(out, one, pictures)
            for picture in pictures:
                key = json.dumps(_facts(picture.text), sort_keys=True)
                self.runs[key] = self.runs.get(key, 0) + 1
        return entry

    def _rank(self, picture: Picture) -> tuple[int, int, int]:
        mode = self.modes.index(picture.mode) if picture.mode else -1
        return mode, self.styles.index(picture.style), self.targets.index(picture.target)

    def _place(self, out: Path, one: Shown) -> dict[str, Any]:
        """Where the source image and the pictures are, as addresses; what stands in the way of showing the former."""
        found, why = _find(out, one)
        address = _address(one.name)
        link = _address(os.path.relpath(found, os.path.abspath(out))) if found else ""
        if found and not link.endswith(address):
            link, why = "", "gone"  # no run writes such a line
        given = printable(one.image.removesuffix(one.name))
        place: dict[str, Any] = {"folder": self.folders[given, link.removesuffix(address)]}
        return place | ({"url": address} if address != one.name else {}) | ({"gone": why} if why else {})

    def _target(self, picture: Picture) -> list:
        target = picture.text["target"]
        index, label = target.get("index"), target.get("label")
        index = _number(index) if isinstance(index, int) else None
        known = self.classes[-1 if index is None else index, label if isinstance(label, str) else ""]
        return [known, *(_number(target.get(key)) for key in ("rank", "score", "output"))]

    def _aspect(self, out: Path, one: Shown, pictures: Iterable[Picture]) -> float | None:
        """Of the maps; that of each style is kept for the thumbnails."""
        aspect = 1.0
        for picture in {picture.style: picture for picture in pictures}.values():
            width, height = _size(os.path.join(out, one.name + picture.suffix))
            self.sizes.setdefault(picture.style, []).append(width / height)
            if picture.style != "panel":
                aspect = width / height
        return _number(aspect)

    def shape(self, style: str) -> dict[str, float | None]:
        """The usual width / height of a style's pictures."""
        return {"aspect": _number(median(self.sizes[style]))}


def _find(out: Path, one: Shown) -> tuple[str | None, str]:
    """The source image if it is still the one that was explained; else why it cannot be shown.

    A failed image is never loaded: it may be what the limits are for. A folder that was moved together with its
    images is told by the images' names relative to a folder above it, and by their SHA-256.
    """
    if one.status == "failed":
        return None, "failed" if os.path.lexists(one.source) else "gone"
    sha256 = next((picture.text.get("image") for picture in one.pictures), None)
    if os.path.isfile(one.source):
        same = _unchanged_since(one.source, one.time) or _is(one.source, sha256)
        return (one.source, "") if same else (None, "changed")
    if not os.path.isabs(one.image):
        here = os.path.abspath(out)
        for folder in (here, *map(str, Path(here).parents)):
            moved = os.path.normpath(os.path.join(folder, one.image))
            if os.path.isfile(moved) and _is(moved, sha256):
                return moved, ""
    return None, "gone"


def _unchanged_since(path: str, time: str) -> bool:
    """Whether the file is older than the manifest's line; a copy of the same bytes may be younger."""
    try:
        line = datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()  # cut to milliseconds
        return os.stat(path).st_mtime <= line + 0.001
    except (OSError, ValueError, OverflowError):
        return False


def _is(path: str, sha256: object) -> bool:
    """Whether the file holds these bytes."""
    try:
        return hashlib.sha256(read_bytes(path, Limits(max_file_size=2**32))).hexdigest() == sha256
    except ImageError:
        return False


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


def _loads(text: str) -> Any:
    """JSON with None for NaN and Infinity, which Python writes and browsers refuse."""
    return json.loads(text, parse_constant=lambda word: None)


def _facts(text: dict[str, Any]) -> dict[str, Any]:
    """How a picture was made, without what differs from picture to picture of a run."""
    facts = {key: value for key, value in text.items() if key not in _OF_THE_PICTURE}
    options = facts.pop("options", None)
    more = options if isinstance(options, dict) else {}
    return facts | {
        key: each for key, each in more.items() if key == "scale" or key not in _OF_THE_PICTURE | facts.keys()
    }


def _scale(scale: object) -> list | None:
    return [_number(end) for end in scale] if isinstance(scale, list) and len(scale) == 2 else None


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


def _rule(mode: str) -> dict[str, str]:
    rule = RULES.get(mode)
    return {"summary": rule.summary, "source": rule.source} if rule else {"summary": "", "source": ""}


def _style(style: str) -> dict[str, str]:
    if style == "panel":
        return {"summary": "the input and the heatmap of every mode side by side"}
    return {"summary": STYLES[style].summary if style in STYLES else ""}


# ---- as a page


def page(data: dict[str, Any], out: Path) -> str:
    """The page as HTML, ASCII only, deterministic but for the time of its making."""
    style, script = _part("page.css"), _part("page.js")
    now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    here = os.path.abspath(out)
    data = {**data, "made": now, "root": "file://" + quote(os.fsencode(here)) + "/"}
    return Template(_part("page.html")).substitute(
        version=__version__,
        title=_escaped(printable(os.path.basename(here) or here)),
        policy=_policy(style, script),
        style=style,
        script=script,
        data=_embedded(data),
    )


def _escaped(text: str) -> str:
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _part(name: str) -> str:
    return (resources.files(__name__) / name).read_text(encoding="ascii")


def _policy(style: str, script: str) -> str:
    """Only this style and this script, only images of the disk or of the server that the page comes from."""
    digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script))
    return (
        "default-src 'none'; img-src 'self' file: data:; style-src 'sha256-{}'; script-src 'sha256-{}'; "
        "base-uri 'none'; form-action 'none'"
    ).format(*digests)


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in, whatever names and labels hold."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
