"""Output folders -> one sheet of maps, as PNG, SVG or PDF.

    folders -> maps.collect -> choice.choose -> grid.arrange -> layout.lay_out -> sheet.compose -> paint | svg | pdf

Everything is drawn from the `.npy` files that `explain --raw` wrote, so a sheet in other colours takes no TensorFlow and
no model. Of a picture it is taken what it says of itself: of which image, mode and class it is, and which array is its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradviz_cli.draw.letters import printable as spelled
from gradviz_cli.errors import ImageError, OutputError, UsageError
from gradviz_cli.figure import arrays, sources
from gradviz_cli.figure.canvas import MARK, Page, Words
from gradviz_cli.figure.choice import Choice, Chosen, choose
from gradviz_cli.figure.grid import Grid, arrange
from gradviz_cli.figure.layout import Format
from gradviz_cli.figure.maps import Collection, Map, collect
from gradviz_cli.figure.paint import png
from gradviz_cli.figure.pdf import pdf
from gradviz_cli.figure.sheet import Drawing, Sheet, compose
from gradviz_cli.figure.sources import Size
from gradviz_cli.figure.svg import svg
from gradviz_cli.files.reading import head
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import write_alone


@dataclass(frozen=True)
class Form:
    """What makes a file of a page, and whether it shows words in any letters, or in those of our font alone."""

    make: Callable[[Page], bytes]
    any_letters: bool = False


FORMS: dict[str, Form] = {".png": Form(png), ".svg": Form(svg, any_letters=True), ".pdf": Form(pdf)}
"""Ending of the file's name -> form of a figure."""
LOOKED_AT = 1 << 16  # bytes of a file in which the mark of a figure stands
MOST_NAMED = 3
SHOWN = 60  # characters of a label in a warning


@dataclass(frozen=True)
class Figure:
    """What is asked for: `rows` and `columns` are axes, `names` those of the folders."""

    choice: Choice = Choice()
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    inputs: bool = True
    captions: bool = True


def check_file(path: Path, force: bool = False) -> Form:
    """The form of a file. Only a figure is replaced, or with `force` any plain file.

    Raises
    ------
    UsageError
        No form of a figure has that ending.
    OutputError
        Something else has that name.
    """
    form = FORMS.get(path.suffix.lower())
    if form is None:
        known = ", ".join(FORMS)
        raise UsageError(f"--out {printable(path)}: its ending says no form of a figure", f"give one of {known}")
    if not path.parent.is_dir():
        raise OutputError(
            f"{printable(path)}: cannot be written: there is no such folder", "make it, or choose another"
        )
    if not os.path.lexists(path):
        return form
    remedy = "give another name with --out, or --force"
    if path.is_symlink() or not path.is_file():
        what = "a link" if path.is_symlink() else "not a regular file"
        raise OutputError(f"{printable(path)}: cannot be written: it is {what}", "give another name with --out")
    if not force and MARK.encode() not in head(path, LOOKED_AT):
        raise OutputError(f"{printable(path)}: is there, and no figure of gradviz", remedy)
    return form


def write(
    path: Path, outs: Sequence[Path], figure: Figure, drawing: Drawing, measures: Format, *, force: bool = False
) -> tuple[Sheet, list[str]]:
    """Draw maps of these folders and write them; gives the sheet, and what is to be warned of.

    Raises
    ------
    UsageError
        Something is asked for that is not there, or no map has an array.
    OutputError
        The file cannot be written; what was there is untouched.
    """
    form = check_file(path, force)
    collection = collect(outs, figure.names)
    _check_arrays(((place.model, each) for place, each in collection.maps.items()), outs)
    chosen = choose(collection, figure.choice)
    _check_arrays(((place.model, each) for place, each in chosen.maps.items()), outs)
    grid = arrange(collection, chosen, figure.rows, figure.columns, inputs=figure.inputs, captions=figure.captions)
    sheet = _composed(collection, chosen, grid, drawing, measures)
    data = form.make(sheet.page)
    check_file(path, force)  # drawing may have taken a while
    write_alone(path, data)
    warnings = [
        *_warnings(collection, outs, chosen, sheet, figure.choice),
        *([] if form.any_letters else _spelled(sheet)),
    ]
    return sheet, warnings


def _check_arrays(maps: Iterable[tuple[int, Map]], outs: Sequence[Path]) -> None:
    """Each folder has to have an array of what is shown."""
    drawable: dict[int, bool] = {}
    for model, each in maps:
        drawable[model] = drawable.get(model, False) or each.sha256 is not None
    for model, out in enumerate(outs):
        if not drawable.get(model, True):
            raise UsageError(
                f"{printable(out)}: there is no .npy of its maps, which a figure is drawn from",
                "run the gradviz explain that wrote them again with --raw (gradviz show tells its options)",
            )


def _composed(collection: Collection, chosen: Chosen, grid: Grid, drawing: Drawing, form: Format) -> Sheet:
    sizes = {place.image: each.size for place, each in chosen.maps.items() if each.size}
    with sources.sources() as known:

        def aspect(image: int) -> float:
            if image not in sizes:
                sizes[image] = _size(collection, chosen, image, known)
            height, width = sizes[image]
            return height / width

        def load(wanted: Mapping[int, Size]) -> Mapping[int, np.ndarray | str]:
            return known.all((image, collection.images[image], size) for image, size in wanted.items())

        return compose(grid, drawing, form, aspect, load)


def _size(collection: Collection, chosen: Chosen, image: int, known: sources.Sources) -> Size:
    """Of an image that no picture has the size of: its own, or where it is gone that of the model input."""
    try:
        height, width, _ = known.image(collection.images[image]).shape
        return height, width
    except ImageError:
        pass
    for place, each in chosen.maps.items():
        if place.image == image:
            with suppress(ImageError):
                return arrays.read(each).shape[:2]
    return 1, 1


def _warnings(
    collection: Collection, outs: Sequence[Path], chosen: Chosen, sheet: Sheet, choice: Choice
) -> Iterator[str]:
    shown = len(chosen.axes["image"])
    if choice.limit is None and shown < chosen.of_images:
        yield f"{shown} of {chosen.of_images} images are shown; --image chooses, --limit 0 shows all"
    if collection.left_out and not choice.images:
        without = _counted(collection.left_out, "image has no map and is", "images have no map and are")
        yield f"{without} left out; --image names those that are meant"
    for model in chosen.axes["model"]:
        if len(collection.fingerprints[model]) > 1:
            yield f"{printable(outs[model])}: its maps are of {len(collection.fingerprints[model])} models, one after the other"
    if sheet.missing:
        first = "; ".join(f"{where}: {why}" for where, why in sheet.missing[:MOST_NAMED])
        more = f"; and {len(sheet.missing) - MOST_NAMED} more" if len(sheet.missing) > MOST_NAMED else ""
        remedy = "; --no-inputs leaves the images out" if sheet.without_input else ""
        places = _counted(len(sheet.missing), "place of the sheet is", "places of the sheet are")
        yield f"{places} empty ({first}{more}){remedy}"


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _spelled(sheet: Sheet) -> Iterator[str]:
    """Words whose letters our font lacks."""
    words = [item.meant for item in sheet.page.items if isinstance(item, Words)]
    found = [text for text in dict.fromkeys(words) if any(c.isalpha() and spelled(c) != c for c in text)]
    if found:
        first = f"{found[0][:SHOWN]} as {spelled(found[0])[:SHOWN]}"
        labels = _counted(len(found), "label is", "labels are")
        yield f"{labels} spelled in other letters ({first}); an .svg has them as they are"
