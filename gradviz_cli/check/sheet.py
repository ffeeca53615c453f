"""A picture of the cascade: maps of one image as the model is, and as more and more of its kernels are random."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gradviz_cli.check.cascade import Findings, Level
from gradviz_cli.check.measures import brought, sobel
from gradviz_cli.check.verdicts import Verdict, judged, rounded
from gradviz_cli.draw.look import DEFAULT_LOOK, Picture
from gradviz_cli.draw.panel import Column, panel
from gradviz_cli.draw.png import encode_png, read_text
from gradviz_cli.draw.styles import STYLES
from gradviz_cli.errors import OutputError
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import write_alone, writing
from gradviz_cli.images.fit import as_rgb
from gradviz_cli.plan.outputs import CHECK
from gradviz_cli.plan.plan import DEFAULT_STYLE

Array = np.ndarray

OWN = "each map in the unit of its estimator, on a scale of its own"


def place_of(out: Path) -> Path:
    """Where the picture goes: a name that ends in .png is its own, any other one the folder's."""
    return out if out.suffix.lower() == ".png" and not out.is_dir() else out / CHECK


def check_place(path: Path) -> None:
    """Refuse to write over what is no picture of ours, before any work."""
    if os.path.lexists(path) and read_text(path) is None:
        raise OutputError(
            f"{printable(path)}: is there already, and is no picture that gradviz wrote", "give another --out"
        )


def make_room(path: Path) -> None:
    """Make the folder that it goes to, and see that it can be written there; OutputError where it cannot be."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            number = errno.EROFS if os.statvfs(path.parent).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(number, os.strerror(number))


def write(
    path: Path, image: Array, name: str, found: Sequence[Findings], verdicts: Mapping[str, Verdict], text: str
) -> None:
    """Draw and write it; OutputError where that cannot be."""
    check_place(path)
    write_alone(path, encode_png(draw(image, name, found, verdicts), None, text))


def draw(image: Array, name: str, found: Sequence[Findings], verdicts: Mapping[str, Verdict]) -> Array:
    """uint8 [H, W, 3].

    Parameters
    ----------
    image : [h, w, c]
        As the model sees it, 0..255.
    """
    size = image.shape[:2]
    rows = [column for one in found for column in _row(one, verdicts[one.method], size)]
    edges = Column("edges (Sobel)", _picture(sobel(image)[..., None], size), ("of the image alone:", "no model"), OWN)
    blank = len(found[0].levels)  # the edges have a row to themselves
    notes = [f"{name} {verdict}." for name, verdict in verdicts.items()]
    return panel(as_rgb(image), [*rows, edges], lines=(os.path.basename(name),), notes=notes, per_row=1 + blank)


def _row(found: Findings, verdict: Verdict, size: tuple[int, ...]) -> list[Column]:
    lines = (f"{verdict.word}; as the model is", _classes(found))
    first = Column(found.method, _picture(found.shown[0], size), lines, OWN)
    total = found.levels[-1].random if found.levels else 0
    rest = [
        Column(
            f"{_count(level.random, total)} random",
            _picture(one, size),
            _lines(level, level is judged(found.levels)),
            OWN,
        )
        for level, one in zip(found.levels, found.shown[1:], strict=True)
    ]
    return [first, *rest]


def _count(random: int, total: int) -> str:
    return f"all {total}" if random == total else f"{random} of {total}"


def _lines(level: Level, decides: bool) -> tuple[str, str]:
    cosine = level.likeness.cosine
    said = "nothing to compare" if cosine is None else f"|cosine| {cosine:.2f}{' (judged)' if decides else ''}"
    return said, f"{level.alive} of {level.images} images alive"


def _classes(found: Findings) -> str:
    cosine = found.classes.cosine
    return "" if cosine is None else f"cosine {rounded(cosine)} between classes"


def _picture(attribution: Array, size: tuple[int, ...]) -> Picture:
    """A map at the size of the image, also of an inner layer."""
    style = STYLES[DEFAULT_STYLE]
    field = style.reduce(attribution)
    field = field if field.shape == size else brought(field, size).astype(np.float32)
    return style.colour(field, None, DEFAULT_LOOK, style.limits(field, DEFAULT_LOOK))
