"""Maps -> rows and columns with their heads: what stands where on a sheet, and what is said beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from gradviz_cli.errors import UsageError
from gradviz_cli.estimators import GRADIENT
from gradviz_cli.figure.choice import Chosen
from gradviz_cli.figure.maps import Collection, Map, Place, told

AXES = Place._fields
ROWS, COLUMNS = ("image",), ("model", "estimator", "mode", "target")
INPUT = "input"
NO_MAP = "no map"
SCORE = "score "


@dataclass(frozen=True)
class Cell:
    """A map with the lines below it, the input (`image` without a map), a reason why there is no map, or nothing."""

    image: int | None = None
    map: Map | None = None
    why: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """`labels` are one for each axis that varies down the sheet, empty where it is that of the row above; `lines` what is
    said of all maps in the row."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    lines: tuple[str, ...] = ()

    @property
    def maps(self) -> list[Map]:
        return [cell.map for cell in self.cells if cell.map]


@dataclass(frozen=True)
class Grid:
    """A sheet. `heads` are those of each column, from the outermost axis to the innermost; `constant` what is the same for
    all maps and stands in no head."""

    heads: tuple[tuple[str, ...], ...]
    rows: tuple[Row, ...]
    constant: str = ""

    @property
    def maps(self) -> list[Map]:
        return [each for row in self.rows for each in row.maps]

    @property
    def missing(self) -> list[Cell]:
        return [cell for row in self.rows for cell in row.cells if cell.why]


def sides(rows: Sequence[str], columns: Sequence[str], chosen: Chosen) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which axes go down and which across, the outermost first: those that were asked for, and the others where they
    usually go, or on the other side where only one was given.

    Raises
    ------
    UsageError
        An axis is on both; or both are given, and one that varies is on neither.
    """
    twice = [axis for axis in AXES if (*rows, *columns).count(axis) > 1]
    if twice:
        raise UsageError(f"--rows, --cols: {twice[0]} stands there twice", "give it once, on one of them")
    left = [axis for axis in AXES if axis not in (*rows, *columns)]
    varying = [axis for axis in left if len(chosen.axes[axis]) > 1]
    if rows and columns and varying:
        count = len(chosen.axes[varying[0]])
        raise UsageError(
            f"--rows, --cols: there are maps of {count} {varying[0]}s, and neither has {varying[0]}",
            f"add it to one of them, or choose one with --{varying[0]}"
            if varying[0] != "model"
            else "add it to one of them, or give one folder",
        )
    if not rows and not columns:
        return ROWS, COLUMNS
    if rows and columns:
        return (*rows, *left), tuple(columns)
    return tuple(rows or left), tuple(columns or left)


def arrange(
    collection: Collection,
    chosen: Chosen,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    inputs: bool = True,
    captions: bool = True,
) -> Grid:
    """Every chosen map in its row and column; those without any map are left out."""
    down, across = sides(rows, columns, chosen)
    name = _namer(collection, chosen)
    keys = {_key(place, down): None for place in chosen.maps}, {_key(place, across): None for place in chosen.maps}
    lines = [key for key in product(*(chosen.axes[axis] for axis in down)) if key in keys[0]]
    places = [key for key in product(*(chosen.axes[axis] for axis in across)) if key in keys[1]]
    by_key = {(_key(place, down), _key(place, across)): each for place, each in chosen.maps.items()}
    shown_down, shown_across = _shown(down, lines, chosen), _shown(across, places, chosen)
    heads = [tuple(name(across[k], key[k]) for k in shown_across) or ("",) for key in places]
    made = []
    for above, key in zip([None, *lines], lines, strict=False):
        cells = []
        for place in places:
            found = by_key.get((key, place))
            cells.append(Cell(map=found, image=_image(down, key, across, place), why="" if found else NO_MAP))
        labels = tuple("" if above and above[: k + 1] == key[: k + 1] else name(down[k], key[k]) for k in shown_down)
        made.append(Row(labels or ("",), tuple(cells)))
    grid = Grid(
        tuple(heads), tuple(made), _constant(chosen, {down[k] for k in shown_down} | {across[k] for k in shown_across})
    )
    grid = _with_captions(grid) if captions else grid
    if not inputs:
        return grid
    return _input_column(grid) if "image" in down else _input_row(grid)


def _key(place: Place, axes: Iterable[str]) -> tuple:
    return tuple(getattr(place, axis) for axis in axes)


def _image(down: Sequence[str], key: tuple, across: Sequence[str], place: tuple) -> int:
    return dict(zip((*down, *across), (*key, *place), strict=True))["image"]


def _shown(axes: Sequence[str], keys: Sequence[tuple], chosen: Chosen) -> list[int]:
    """Places of the axes that are named in the heads: those that vary; else the image, or the mode."""
    varying = [k for k, axis in enumerate(axes) if len({key[k] for key in keys}) > 1]
    if varying:
        return varying
    return [axes.index(axis) for axis in ("image", "mode") if axis in axes][:1]


def _namer(collection: Collection, chosen: Chosen) -> Callable[[str, object], str]:
    names = [collection.images[image].name for image in chosen.axes["image"]]
    short = [name.rpartition("/")[2] for name in names]
    unique = short if len(set(short)) == len(short) else names
    images = dict(zip(chosen.axes["image"], unique, strict=True))
    targets = {target: _target_name(target, chosen) for target in chosen.axes["target"]}

    def name(axis: str, value: object) -> str:
        known: dict = {"image": images, "target": targets, "model": dict(enumerate(collection.models))}.get(axis, {})
        return told(known.get(value, value))

    return name


def _target_name(target: str, chosen: Chosen) -> str:
    """A class by its label, where all its maps agree on it."""
    labels = {_class(each) for place, each in chosen.maps.items() if place.target == target}
    return labels.pop() if target.isdecimal() and len(labels) == 1 else target


def _constant(chosen: Chosen, shown: set[str]) -> str:
    """Mode and estimator where no head says them."""
    words = [
        chosen.axes[axis][0]
        for axis in ("estimator", "mode")
        if axis not in shown and len(chosen.axes[axis]) == 1 and chosen.axes[axis][0] != GRADIENT
    ]
    return ", ".join(map(told, words))


# ---- what is said of the maps


def _class(each: Map) -> str:
    target = each.record.target
    if target is None:
        return ""
    return told(target.label) if target.label else "" if target.index is None else f"class {target.index}"


def _said(each: Map) -> tuple[str, str]:
    score = each.record.target.score if each.record.target else None
    return _class(each), "" if score is None else f"{SCORE}{score:.4g}"


def _same(maps: Iterable[Map]) -> tuple[str, ...] | None:
    """What is said of all of them, if it is the same; one that lacks a score disagrees with none."""
    said = [_said(each) for each in maps]
    words = [set(filter(None, each)) for each in zip(*said, strict=True)]
    return tuple(word for each in words for word in each) if all(len(each) <= 1 for each in words) else None


def _with_captions(grid: Grid) -> Grid:
    """Class and score: once a row where they are the same for all its maps, once a column, else below each map."""
    by_row = [_same(row.maps) for row in grid.rows]
    if all(lines is not None for lines in by_row):
        rows = tuple(replace(row, lines=lines or ()) for row, lines in zip(grid.rows, by_row, strict=True))
        return replace(grid, rows=rows)
    columns = [[row.cells[k].map for row in grid.rows] for k in range(len(grid.heads))]
    by_column = [_same(filter(None, column)) for column in columns]
    if all(lines is not None for lines in by_column):
        heads = [(*head, *lines) for head, lines in zip(grid.heads, _even(by_column), strict=True)]
        return replace(grid, heads=tuple(heads))
    rows = tuple(replace(row, cells=tuple(map(_captioned, row.cells))) for row in grid.rows)
    return replace(grid, rows=rows)


def _even(said: Sequence[tuple[str, ...] | None]) -> list[tuple[str, ...]]:
    """As many lines for each."""
    most = max(len(lines or ()) for lines in said)
    return [(*(lines or ()), *[""] * (most - len(lines or ()))) for lines in said]


def _captioned(cell: Cell) -> Cell:
    return replace(cell, lines=tuple(filter(None, _said(cell.map)))) if cell.map else cell


# ---- the inputs


def _input_column(grid: Grid) -> Grid:
    """A first column with the image of each row, once where the next rows are of it too."""
    images = [row.cells[0].image for row in grid.rows]
    rows = tuple(
        replace(row, cells=(Cell(image if image != above else None), *row.cells))
        for above, image, row in zip([None, *images], images, grid.rows, strict=False)
    )
    head = (*[""] * (len(grid.heads[0]) - 1), INPUT)
    return replace(grid, heads=(head, *grid.heads), rows=rows)


def _input_row(grid: Grid) -> Grid:
    """A first row with the image of each column."""
    images = [cell.image for cell in grid.rows[0].cells]
    cells = tuple(
        Cell(image if image != before else None) for before, image in zip([None, *images], images, strict=False)
    )
    labels = (INPUT, *[""] * (len(grid.rows[0].labels) - 1))
    return replace(grid, rows=(Row(labels, cells), *grid.rows))
