"""A grid -> places on paper, in points: how wide the columns and how high the rows are, and what fits beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from gradviz_cli.errors import UsageError
from gradviz_cli.figure.canvas import PER_MM, measured
from gradviz_cli.figure.grid import Grid, Row
from gradviz_cli.plan.values import MOST_POINTS

USUAL_CELL, USUAL_WIDTH = 40 * PER_MM, 180 * PER_MM  # where no width is given: a column, and the sheet at most
LEAST_CELL = 3 * PER_MM  # in a smaller one nothing can be seen
TALLEST = 2.0  # height of a picture by the width of its column; a taller one is made narrower

Aspect = Callable[[int], float]  # of an image: height by width
Lines = Callable[[float], int]  # how many a text has in a width


@dataclass(frozen=True)
class Format:
    """What may be chosen of a sheet's measures: width in points (None: as much as is usual), font size in points, columns
    side by side before the rest goes on below (None: all)."""

    width: float | None = None
    text: float = 8.0
    wrap: int | None = None

    @property
    def line(self) -> float:
        return 1.25 * self.text

    @property
    def title(self) -> float:
        return 1.3 * self.text

    @property
    def title_line(self) -> float:
        return 1.3 * self.title

    @property
    def gap(self) -> float:
        return 0.5 * self.text

    @property
    def bar(self) -> float:
        return 0.6 * self.text

    @property
    def bar_line(self) -> float:
        """Below a picture: its colour bar and the numbers."""
        return 0.5 * self.gap + self.bar + 1.1 * self.text


@dataclass(frozen=True)
class Block:
    """Columns that stand side by side, and where the top of each row is."""

    columns: range
    top: float
    heads: int  # lines
    rows: tuple[float, ...]
    boxes: tuple[float, ...]  # heights of the rows' pictures
    bottom: float


@dataclass(frozen=True)
class Layout:
    """Places on the paper."""

    format: Format
    width: float
    height: float
    labels: float  # width of the rows' labels
    cell: float  # width of a column
    side: float  # width of the bars beside the rows
    blocks: tuple[Block, ...]
    foot: float  # top of what stands below all rows

    @property
    def margin(self) -> float:
        return self.format.gap

    @property
    def grid_left(self) -> float:
        return self.margin + (self.labels + self.format.gap if self.labels else 0.0)

    def left(self, block: Block, column: int) -> float:
        return self.grid_left + (column - block.columns.start) * (self.cell + self.format.gap)

    def picture(self, aspect: float) -> tuple[float, float]:
        """Width and height of a picture."""
        height = _height(self.cell, aspect)
        return height / aspect, height


def _height(cell: float, aspect: float) -> float:
    return cell * min(aspect, TALLEST)


def lay_out(grid: Grid, form: Format, aspect: Aspect, *, bars: str, title: Lines, notes: Lines) -> Layout:
    """Places for all of a grid.

    Parameters
    ----------
    aspect : image -> height by width
    bars : str
        Where there are colour bars: `each` below every map, `row` beside the rows, `column` below the columns, `shared` at
        the foot; empty for none.
    title, notes : width -> lines of text above all, and at the foot

    Raises
    ------
    UsageError
        The columns would be too narrow, or the sheet too high.
    """
    across = min(form.wrap or len(grid.heads), len(grid.heads))
    labels = _labels(grid, form)
    side = form.bar + form.gap + 4.5 * form.text if bars == "row" else 0.0
    fixed = 2 * form.gap + (labels + form.gap if labels else 0) + (side + form.gap if side else 0)
    room = (form.width or USUAL_WIDTH) - fixed - (across - 1) * form.gap
    cell = room / across if form.width else min(USUAL_CELL, room / across)
    if cell < LEAST_CELL:
        raise UsageError(
            f"{across} columns side by side leave {max(cell, 0) / PER_MM:.2g} mm for each",
            "show fewer, let them go on below with --wrap N, or give more --width",
        )
    width = form.width or fixed + across * cell + (across - 1) * form.gap
    inner = width - 2 * form.gap
    top = form.gap + title(inner) * form.title_line
    blocks = []
    for start in range(0, len(grid.heads), across):
        columns = range(start, min(start + across, len(grid.heads)))
        boxes = tuple(_box(row, columns, cell, aspect) for row in grid.rows)
        blocks.append(_block(grid, form, columns, top, boxes, bars))
        top = blocks[-1].bottom + form.gap
    foot = top
    height = foot + (form.bar_line + form.gap if bars == "shared" else 0.0) + notes(inner) * form.line
    height += form.gap
    if max(width, height) > MOST_POINTS:
        raise UsageError(
            f"the sheet would be {height / PER_MM / 1000:.1f} m high: {len(grid.rows)} rows",
            "show fewer with --limit or --image, or put the images side by side: --cols image --wrap 20",
        )
    return Layout(form, width, height, labels, cell, side, tuple(blocks), foot)


def _labels(grid: Grid, form: Format) -> float:
    """Width of what stands left of the rows: as wide as the words are, and at most a fifth of the sheet."""
    words = [word for row in grid.rows for word in (*row.labels, *row.lines)]
    widest = max((measured(word, form.text) for word in words), default=0.0)
    return min(widest, 0.2 * (form.width or USUAL_WIDTH))


def _box(row: Row, columns: range, cell: float, aspect: Aspect) -> float:
    """Height of the pictures of a row."""
    images = {row.cells[k].image for k in columns} - {None}
    return max((_height(cell, aspect(image)) for image in images if image is not None), default=cell)


def _block(grid: Grid, form: Format, columns: range, top: float, boxes: Sequence[float], bars: str) -> Block:
    lines = len(grid.heads[0])
    rows, y = [], top + lines * form.line + 0.2 * form.text
    for row, box in zip(grid.rows, boxes, strict=True):
        rows.append(y)
        below = max((len(row.cells[k].lines) for k in columns), default=0) * form.line
        drawn = any(row.cells[k].map for k in columns)
        labels = len([label for label in row.labels if label]) + len(row.lines)
        y += max(box + (form.bar_line if bars == "each" and drawn else 0.0) + below, labels * form.line) + form.gap
    y += form.bar_line if bars == "column" else 0.0
    return Block(columns, top, lines, tuple(rows), tuple(boxes), y)


def spans(grid: Grid, block: Block, level: int) -> Iterator[tuple[str, int, int]]:
    """The heads of a level: text, first and last column that it stands above. Columns of one outer axis have one."""
    heads = [grid.heads[k][: level + 1] for k in block.columns]
    place = block.columns.start
    for head, group in groupby(heads):
        count = len(list(group))
        yield head[-1], place, place + count - 1
        place += count
