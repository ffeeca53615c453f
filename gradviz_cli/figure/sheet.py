"""A grid of maps -> a page: every map drawn to its scale at its place, with heads, labels, colour bars and notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradviz_cli.draw.letters import bar_labels
from gradviz_cli.draw.look import Look, Picture, Scale
from gradviz_cli.draw.styles import Style
from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.figure import arrays
from gradviz_cli.figure.canvas import FAINT, INK, PER_INCH, Colour, Page, Shown, Words, measured, shortened, wrapped
from gradviz_cli.figure.grid import SCORE, Cell, Grid
from gradviz_cli.figure.layout import Block, Layout, lay_out, spans
from gradviz_cli.figure.layout import Format as Format
from gradviz_cli.figure.maps import Map, told
from gradviz_cli.images.fit import FITS, Geometry, unfit

UNKNOWN = "unknown"
SMALLEST = 0.75  # of the size of letters, where a word does not fit
MOST_PIXELS = 200_000_000  # of all pictures of a sheet
COARSE = 64  # a map of fewer rows is of a layer's grid
SCALES = {
    "each": "each map has its own scale",
    "row": "the maps of a row share one scale",
    "column": "the maps of a column share one scale",
    "shared": "all maps share one scale",
}
"""Choice of --scale -> what is said of it."""

NOTHING = "run the gradviz explain that wrote them again with --raw, or choose another --style"
Size = tuple[int, int]  # height, width in pixels
Spot = tuple[int, int]  # row, column


@dataclass(frozen=True)
class Drawing:
    """How maps become pictures."""

    style: Style
    look: Look
    scale: str = "each"
    dpi: float = 300.0
    bars: bool = True
    notes: bool = True
    title: str = ""


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The pictures by their place, those that stand for a group of one scale, and what cannot be drawn and why."""

    pictures: Mapping[Spot, Picture]
    group: Mapping[object, Picture]
    failed: Mapping[Spot, str]


def _group(scale: str, spot: Spot) -> object:
    """Maps of one group have one scale."""
    return {"each": spot, "row": spot[0], "column": spot[1]}.get(scale, "")


def check_units(grid: Grid, scale: str) -> None:
    """Numbers of different units, scores or ranges of the model input have no scale in common.

    Raises
    ------
    UsageError
        Names both.
    """
    groups: dict[object, dict[str, None]] = {}
    for spot, cell in _cells(grid):
        if cell.map:
            groups.setdefault(_group(scale, spot), {})[_measure(cell.map)] = None
    for units in groups.values():
        if len(units) > 1:
            first, second, *_ = units
            raise UsageError(
                f"--scale {scale}: maps in different units have no scale in common ({first}; {second})",
                "choose --scale each, or one that keeps them apart",
            )


def _measure(each: Map) -> str:
    """In what the numbers of a map are, and what else decides how large they are."""
    record = each.record
    given = {name: record.options.get(name) for name in ("score", "pixel-range", "std")}
    ranges = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    return ", ".join([told(record.unit or UNKNOWN), told(f"preprocess {record.preprocess or UNKNOWN}"), told(ranges)])


# ---- from arrays to pictures


def _field(found: Map, style: Style, size: Size, look: Look) -> tuple[np.ndarray, Scale | None]:
    """What the style measures, laid onto the upright image at a size, and its scale there and then.

    Raises
    ------
    ImageError
        There is no such array, or the style cannot draw it.
    """
    attribution = arrays.read(found)
    try:
        field = style.reduce(attribution)
    except UsageError as error:
        raise ImageError("shape", error.message) from error
    scale = style.limits(field, look)
    if scale is None:
        return np.zeros(size, np.float32), None
    fit = found.fit if found.fit in FITS else "stretch"
    if fit == "pad" and field.shape[0] < COARSE:  # its margins are no whole cells of a layer's grid
        height, width = field.shape[:2]
        field = unfit(field, Geometry(height, width), (8 * height, 8 * width))
    height, width = field.shape[:2]
    return unfit(field, Geometry(height, width, fit=str(fit)), size), scale


def _draw(grid: Grid, drawing: Drawing, size: Callable[[Spot], Size], inputs: Mapping[int, np.ndarray | str]) -> _Drawn:
    """Every map at its size. Where several share a scale, all are measured before one is coloured."""
    pictures: dict[Spot, Picture] = {}
    failed: dict[Spot, str] = {}
    waiting: dict[object, list[tuple[Spot, np.ndarray, Scale | None, np.ndarray | None]]] = {}
    style, look = drawing.style, drawing.look
    for spot, cell in _cells(grid):
        if cell.map is None:
            continue
        try:
            image = _under(cell, style, inputs)
            field, scale = _field(cell.map, style, size(spot), look)
        except ImageError as error:
            failed[spot] = error.message
            continue
        if drawing.scale == "each":
            pictures[spot] = _coloured(style, field, image, look, scale)
        else:
            waiting.setdefault(_group(drawing.scale, spot), []).append((spot, field, scale, image))
    groups: dict[object, Picture] = {}
    for name, group in waiting.items():
        common = style.share(scale for _, _, scale, _ in group)
        for spot, field, scale, image in group:
            pictures[spot] = _coloured(style, field, image, look, scale and common)
            if scale or name not in groups:
                groups[name] = pictures[spot]
    return _Drawn(pictures, groups, failed)


def _coloured(style: Style, field: np.ndarray, image: np.ndarray | None, look: Look, scale: Scale | None) -> Picture:
    if scale is None:  # not finite: neutral, and the bar says so
        picture = style.colour(np.zeros_like(field), image, look, (0.0, 0.0))
        return Picture(picture.pixels, None, picture.legend)
    return style.colour(field, image, look, scale)


def _under(cell: Cell, style: Style, inputs: Mapping[int, np.ndarray | str]) -> np.ndarray | None:
    if not style.needs_image or cell.image is None:
        return None
    found = inputs[cell.image]
    if isinstance(found, str):
        raise ImageError("missing", found)
    return found


def _cells(grid: Grid) -> Iterator[tuple[Spot, Cell]]:
    for row, line in enumerate(grid.rows):
        for column, cell in enumerate(line.cells):
            yield (row, column), cell


# ---- the page


@dataclass(frozen=True, eq=False)
class Sheet:
    """A page, and what is missing on it: its place in words, and why."""

    page: Page
    missing: tuple[tuple[str, str], ...]
    failed: bool  # something that should be there cannot be read
    without_input: bool = False


Aspect = Callable[[int], float]
Load = Callable[[Mapping[int, Size]], Mapping[int, "np.ndarray | str"]]


def compose(grid: Grid, drawing: Drawing, form: Format, aspect: Aspect, load: Load) -> Sheet:
    """Lay a grid out and draw it.

    Parameters
    ----------
    aspect : image -> height by width
    load : {image: size} -> each image at that size, or why it is not shown; asked once, for those that are shown or drawn over

    Raises
    ------
    UsageError
        It does not fit; or its maps cannot share a scale.
    """
    check_units(grid, drawing.scale)
    bars = drawing.scale if drawing.bars else ""
    notes = _notes(grid, drawing) if drawing.notes else ""
    layout = lay_out(
        grid,
        form,
        aspect,
        bars=bars,
        title=lambda width: len(_lines(drawing.title, form.title, width)),
        notes=lambda width: len(_lines(notes, form.text, width)),
    )
    at = {
        spot: _pixels(layout, aspect(cell.image), drawing.dpi) for spot, cell in _cells(grid) if cell.image is not None
    }
    _check_pixels(sum(height * width for height, width in at.values()))
    wanted = {
        cell.image: at[spot]
        for spot, cell in _cells(grid)
        if cell.image is not None and not cell.why and (cell.map is None or drawing.style.needs_image)
    }
    inputs = load(wanted) if wanted else {}
    drawn = _draw(grid, drawing, at.__getitem__, inputs)
    if not drawn.pictures:
        raise UsageError(f"no map can be drawn: {next(iter(drawn.failed.values()))}", NOTHING)
    page = Page(
        layout.width, layout.height, drawing.dpi, drawing.title or _title(grid), _described(grid, drawing, notes)
    )
    page.items.extend(_items(grid, drawing, layout, drawn, inputs, aspect, notes))
    lost = {spot: why for spot, cell in _cells(grid) if (why := _lost(cell, inputs))}
    failed = {**drawn.failed, **lost}
    missing = [(_where(grid, spot), why) for spot, why in sorted(failed.items())]
    missing += [(_where(grid, spot), cell.why) for spot, cell in _cells(grid) if cell.why]
    return Sheet(page, tuple(missing), bool(failed), bool(lost))


def _lost(cell: Cell, inputs: Mapping[int, np.ndarray | str]) -> str:
    """Why an input is not shown."""
    found = inputs.get(cell.image) if cell.image is not None and cell.map is None and not cell.why else None
    return found if isinstance(found, str) else ""


def _pixels(layout: Layout, aspect: float, dpi: float) -> Size:
    width, height = (max(1, round(side * dpi / PER_INCH)) for side in layout.picture(aspect))
    return height, width


def _check_pixels(count: int) -> None:
    if count > MOST_PIXELS:
        raise UsageError(
            f"the sheet's pictures would have {count / 1e6:.0f} million pixels, more than {MOST_PIXELS // 10**6}",
            "show fewer with --limit or --image, or give a smaller --dpi or --width",
        )


def _lines(text: str, size: float, width: float) -> list[str]:
    return wrapped(text, size, width) if text else []


def _where(grid: Grid, spot: Spot) -> str:
    """Row and column in words. A row that shares an outer label with those above has it from there."""
    row, column = spot
    labels = [
        next((grid.rows[k].labels[level] for k in range(row, -1, -1) if grid.rows[k].labels[level]), "")
        for level in range(len(grid.rows[row].labels))
    ]
    return " ".join(filter(None, [*labels, *grid.heads[column]]))


def _title(grid: Grid) -> str:
    return f"{len(grid.maps)} attribution maps"


def _notes(grid: Grid, drawing: Drawing) -> str:
    """The sentences at the foot."""
    units: dict[str, dict[str, None]] = {}
    for each in grid.maps:
        units.setdefault(told(each.record.unit or UNKNOWN), {})[told(each.estimator)] = None
    numbers = [f"{unit} ({', '.join(names)})" if len(units) > 1 else unit for unit, names in units.items()]
    clip = (
        f"scales end at percentile {drawing.look.clip:g}"
        if drawing.look.clip < 100
        else "scales end at the largest value"
    )
    constant = f"{grid.constant}: " if grid.constant else ""
    return f"{constant}{drawing.style.name}; {SCALES[drawing.scale]}; {clip}. Numbers: {'; '.join(numbers)}."


def _described(grid: Grid, drawing: Drawing, notes: str) -> str:
    """For those who cannot see it: what is where."""
    heads = "; ".join(filter(None, (" ".join(filter(None, head)) for head in grid.heads)))
    rows = "; ".join(filter(None, (" ".join(filter(None, [*row.labels, *row.lines])) for row in grid.rows)))
    return f"{drawing.style.name}: {drawing.style.summary}. Columns: {heads}. Rows: {rows}. {notes or _notes(grid, drawing)}"


def _items(
    grid: Grid,
    drawing: Drawing,
    layout: Layout,
    drawn: _Drawn,
    inputs: Mapping[int, np.ndarray | str],
    aspect: Aspect,
    notes: str,
) -> Iterator[Words | Shown]:
    form = layout.format
    inner = layout.width - 2 * layout.margin
    for k, line in enumerate(_lines(drawing.title, form.title, inner)):
        yield Words(layout.margin, layout.margin + form.title + k * form.title_line, line, form.title)
    for block in layout.blocks:
        yield from _heads(grid, layout, block)
        for row in range(len(grid.rows)):
            yield from _labels(grid, layout, block, row)
            for column in block.columns:
                yield from _cell(grid, drawing, layout, block, (row, column), drawn, inputs, aspect)
            if drawing.bars and drawing.scale == "row":
                yield from _side_bar(layout, block, row, drawn.group.get(row))
        if drawing.bars and drawing.scale == "column":
            for column in block.columns:
                picture = drawn.group.get(column)
                top = block.bottom - form.bar_line - form.gap
                yield from _bar(form, layout.left(block, column), top, layout.cell, picture)
    y = layout.foot
    if drawing.bars and drawing.scale == "shared":
        picture = drawn.group.get("")
        yield from _bar(
            form,
            layout.grid_left,
            y - form.gap,
            min(layout.width - layout.grid_left - form.gap, 30 * form.text),
            picture,
        )
        y += form.bar_line + form.gap
    for k, line in enumerate(_lines(notes, form.text, inner)):
        yield Words(layout.margin, y + k * form.line + form.text, line, form.text, ink=FAINT)


def _in_its_place(why: str, left: float, top: float, box: float, layout: Layout) -> Iterator[Words]:
    """Why a place is empty, around its middle; as many lines as it has room for, so that none lies over its neighbours."""
    form = layout.format
    lines, room = wrapped(why, form.text, layout.cell), max(1, int(box / form.line))
    shown, rest = lines[: room - 1], " ".join(lines[room - 1 :])
    shown += [shortened(rest, form.text, layout.cell)] if rest else []
    for k, line in enumerate(shown):
        y = top + box / 2 + (k - (len(shown) - 1) / 2 + 0.35) * form.line
        whole = rest if k == room - 1 and line != rest else ""
        yield Words(left + layout.cell / 2, y, line, form.text, "middle", FAINT, whole)


def _words(x: float, y: float, text: str, size: float, width: float, anchor: str = "start", ink: Colour = INK) -> Words:
    """In somewhat smaller letters where it would be too long, and cut where that is not enough."""
    size = max(SMALLEST * size, min(size, size * width / max(measured(text, size), 1e-9)))
    shown = shortened(text, size, width)
    return Words(x, y, shown, size, anchor, ink, "" if shown == text else text)


def _heads(grid: Grid, layout: Layout, block: Block) -> Iterator[Words]:
    form = layout.format
    for level in range(block.heads):
        for text, first, last in spans(grid, block, level):
            left, right = layout.left(block, first), layout.left(block, last) + layout.cell
            y = block.top + level * form.line + form.text
            for line in _whole_numbers([text] if text else [], form, right - left):
                yield _words((left + right) / 2, y, line, form.text, right - left, "middle")


def _labels(grid: Grid, layout: Layout, block: Block, row: int) -> Iterator[Words]:
    form, y = layout.format, block.rows[row]
    texts = [(text, INK) for text in grid.rows[row].labels if text] + [
        (text, FAINT) for text in _whole_numbers(grid.rows[row].lines, form, layout.labels)
    ]
    for k, (text, ink) in enumerate(texts):
        yield _words(layout.margin, y + k * form.line + form.text, text, form.text, layout.labels, ink=ink)


def _cell(
    grid: Grid,
    drawing: Drawing,
    layout: Layout,
    block: Block,
    spot: Spot,
    drawn: _Drawn,
    inputs: Mapping[int, np.ndarray | str],
    aspect: Aspect,
) -> Iterator[Words | Shown]:
    row, column = spot
    cell, form = grid.rows[row].cells[column], layout.format
    left, top, box = layout.left(block, column), block.rows[row], block.boxes[row]
    if cell.image is None:
        return
    why = cell.why or drawn.failed.get(spot) or _lost(cell, inputs)
    if why:
        yield from _in_its_place(why, left, top, box, layout)
        return
    width, height = layout.picture(aspect(cell.image))
    x, y = left + (layout.cell - width) / 2, top + (box - height) / 2
    if cell.map is None:
        yield Shown(x, y, width, height, np.asarray(inputs[cell.image]), None, _where(grid, spot))
        return
    picture = drawn.pictures[spot]
    yield Shown(x, y, width, height, picture.pixels, picture.palette, _where(grid, spot))
    below = top + box
    if drawing.bars and drawing.scale == "each":
        yield from _bar(form, left, below, layout.cell, picture)
        below += form.bar_line
    for k, line in enumerate(_whole_numbers(cell.lines, form, layout.cell)):
        yield _words(
            left + layout.cell / 2, below + k * form.line + form.text, line, form.text, layout.cell, "middle", FAINT
        )


def _whole_numbers(lines: Sequence[str], form: Format, width: float) -> Iterator[str]:
    """A number is never cut: `score 19.45`, where there is no room for it `19.45`, or nothing."""
    for line in lines:
        number = line.removeprefix(SCORE)
        if number == line or measured(line, form.text) <= width:
            yield line
        elif measured(number, form.text) <= width:
            yield number


def _ramp(picture: Picture) -> np.ndarray:
    """The colours of a bar, uint8 [256 or 255, 3]; where the sign is shown, intensity 0 is never used."""
    return picture.legend[1 if picture.scale and picture.scale[0] < 0 else 0 :]


def _bar(form: Format, x: float, y: float, width: float, picture: Picture | None) -> Iterator[Words | Shown]:
    """A colour bar with its numbers below; one sentence where there is none to draw."""
    if picture is None:
        return
    labels, size = bar_labels(picture.scale), 0.85 * form.text
    top = y + 0.5 * form.gap
    if len(labels) == 1:
        yield _words(x + width / 2, top + size, labels[0], size, width, "middle", FAINT)
        return
    yield Shown(x, top, width, form.bar, _ramp(picture)[None], None, f"colour bar, {' to '.join(labels)}")
    shown, size = _numbers(labels, size, width)
    for k, label in shown.items():
        anchor = "start" if k == 0 else "end" if k == len(labels) - 1 else "middle"
        yield Words(x + width * k / (len(labels) - 1), top + form.bar + 1.1 * size, label, size, anchor, FAINT)


def _numbers(labels: Sequence[str], size: float, width: float) -> tuple[dict[int, str], float]:
    """Those that fit below a bar, by their place: all, or its ends; where these do not, in smaller letters."""
    every = dict(enumerate(labels))
    ends = {0: labels[0], len(labels) - 1: labels[-1]}
    for some in (every, ends):
        needed = sum(measured(label, size) for label in some.values()) + size * (len(some) - 1)
        if needed <= width:
            return some, size
    return ends, size * width / needed


def _side_bar(layout: Layout, block: Block, row: int, picture: Picture | None) -> Iterator[Words | Shown]:
    """The bar of a row, upright beside its last map, the largest number on top."""
    if picture is None:
        return
    form, top, height = layout.format, block.rows[row], block.boxes[row]
    x = layout.left(block, block.columns.stop - 1) + layout.cell + form.gap
    labels, size = bar_labels(picture.scale), 0.85 * form.text
    if len(labels) == 1:
        for k, line in enumerate(wrapped(labels[0], size, layout.side)):
            yield Words(x, top + (k + 1) * size * 1.2, line, size, ink=FAINT)
        return
    yield Shown(x, top, form.bar, height, _ramp(picture)[::-1, None], None, f"colour bar, {' to '.join(labels)}")
    for k, label in enumerate(labels):
        y = top + height - (height - size) * k / (len(labels) - 1)
        yield Words(x + form.bar + 0.5 * form.gap, y - 0.1 * size, label, size, ink=FAINT)
