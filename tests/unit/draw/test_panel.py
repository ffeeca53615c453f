"""panel: every picture where it belongs, every word legible, nothing claimed that is not so.

The glyphs themselves are left to FreeType, whose versions differ by a shade; what is compared is the pictures, the words
and where they stand.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from gradviz_cli.draw import letters
from gradviz_cli.draw.colormaps import COLORMAPS
from gradviz_cli.draw.letters import bar_labels, printable
from gradviz_cli.draw.panel import (
    LONGEST,
    NARROWEST,
    UNIT,
    Column,
    panel,
    size_in_panel,
)
from gradviz_cli.draw.styles import STYLES, Look
from gradviz_cli.errors import ExitCode, UsageError


def source(height=224, width=224) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(x * 3) % 256, (y * 5) % 256, (x * y) % 256], axis=-1).astype(np.uint8)


def field(height=224, width=224) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return (1e-3 * np.sin(x / 9) * np.cos(y / 7)).astype(np.float32)


def column(style="heatmap", size=(224, 224), mode="guided", lines=("tabby", "score 0.93"), times=1.0, scale=None):
    values, chosen = field(*size) * np.float32(times), STYLES[style]
    if not chosen.centred:
        values = np.abs(values)
    if chosen.reduce(np.ones((1, 1, *(chosen.channels or (3,))[:1]), np.float32)).ndim == 3:
        values = np.repeat(values[..., None], 3, axis=-1)
    return Column(mode, chosen.colour(values, source(*size), Look(), scale), lines)


def coloured(picture) -> np.ndarray:
    return picture.pixels if picture.palette is None else picture.palette[picture.pixels]


def places(sheet: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
    """Every (y, x) at which `part` stands in `sheet`, pixel by pixel."""
    height, width = part.shape[:2]
    down, across = sheet.shape[0] - height + 1, sheet.shape[1] - width + 1
    possible = np.ones((down, across), bool)
    for y, x in [(0, 0), (0, -1), (-1, 0), (-1, -1), (height // 2, width // 3), (height // 3, width // 2)]:
        y, x = y % height, x % width
        possible &= (sheet[y : y + down, x : x + across] == part[y, x]).all(axis=-1)
    return [(y, x) for y, x in np.argwhere(possible) if (sheet[y : y + height, x : x + width] == part).all()]


@dataclass
class Word:
    text: str
    size: float
    box: tuple[int, int, int, int]
    ink: tuple[int, int, int]


@pytest.fixture()
def words(monkeypatch):
    """What is written, where: filled while a panel is drawn."""
    written: list[Word] = []
    draw = ImageDraw.ImageDraw.text

    def text(self, xy, text, *args, font, fill, anchor="la", **rest):
        written.append(Word(text, font.size, self.textbbox(xy, text, font=font, anchor=anchor), fill))
        return draw(self, xy, text, *args, font=font, fill=fill, anchor=anchor, **rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


# --------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((224, 224), (224, 224)),
        ((480, 640), (384, 512)),
        ((3000, 4000), (384, 512)),
        ((16, 16), (160, 160)),
        ((32, 24), (160, 120)),
        ((150, 100), (300, 200)),
        ((1, 1), (160, 160)),
        ((1, 5000), (1, 512)),
        ((5000, 3), (512, 1)),
        ((512, 512), (512, 512)),
    ],
)
def test_size_in_panel(size, shown):
    assert size_in_panel(*size) == shown


def test_all_pictures_stand_side_by_side_in_order():
    tops = {style: (0.0, 1e-3 * place) for place, style in enumerate(STYLES, start=1)}  # no two look the same
    columns = [column(style, mode=style, scale=STYLES[style].share([top])) for style, top in tops.items()]
    sheet = panel(source(), columns, per_row=len(columns))
    assert sheet.dtype == np.uint8 and sheet.ndim == 3 and sheet.shape[2] == 3
    found = [places(sheet, part) for part in (source(), *(coloured(c.picture) for c in columns))]
    assert [len(spots) for spots in found] == [1] * (len(STYLES) + 1)
    (rows, lefts) = zip(*(spots[0] for spots in found), strict=True)
    assert len(set(rows)) == 1
    steps = np.diff(lefts)
    assert (steps == steps[0]).all() and steps[0] > 224


def test_more_maps_than_a_row_holds_go_on_in_the_next():
    columns = [column(times=k, scale=(0.0, 8e-3)) for k in range(1, 8)]
    sheet = panel(source(), columns, per_row=3)
    spots = [places(sheet, coloured(c.picture))[0] for c in columns]
    assert [len({y for y, _ in spots[k : k + 3]}) for k in (0, 3, 6)] == [1, 1, 1]
    assert [x for _, x in spots[:3]] == [x for _, x in spots[3:6]] and spots[6][1] == spots[0][1]
    assert spots[0][0] < spots[3][0] < spots[6][0]
    assert places(sheet, source())[0][0] == spots[0][0]


def test_a_tiny_picture_is_enlarged_pixel_by_pixel():
    one = column(size=(16, 16))
    sheet = panel(source(16, 16), [one])
    for part in (source(16, 16), coloured(one.picture)):
        assert len(places(sheet, np.kron(part, np.ones((10, 10, 1), np.uint8)))) == 1


def test_a_large_map_is_averaged_before_it_is_coloured():
    checkers = (np.indices((1024, 1024)).sum(axis=0) % 2).astype(np.float32)
    one = Column("guided", STYLES["heatmap"].colour(checkers, scale=(0.0, 1.0)))
    sheet = panel(source(1024, 1024), [one])
    half = COLORMAPS["inferno"][[127, 128]]
    block = np.broadcast_to(half[0], (512, 512, 3)), np.broadcast_to(half[1], (512, 512, 3))
    assert any(places(sheet, part) for part in block)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (40, 700), (700, 40), (1000, 750)])
def test_odd_shapes_are_drawn_in_bounds(size):
    sheet = panel(source(*size), [column(size=size)], lines=("odd.png",))
    assert sheet.shape[0] < 900 and NARROWEST < sheet.shape[1] < 2 * LONGEST + 200
    edge = np.concatenate([sheet[:8].ravel(), sheet[-8:].ravel(), sheet[:, :8].ravel(), sheet[:, -8:].ravel()])
    assert (edge == 255).all()


def test_the_same_input_gives_the_same_figure():
    np.testing.assert_array_equal(panel(source(), [column()]), panel(source(), [column()]))


@pytest.mark.parametrize(("columns", "per_row"), [(0, 4), (1, 0)])
def test_a_panel_without_a_map_or_a_place_for_it_is_refused(columns, per_row):
    with pytest.raises(ValueError, match=f"{columns} maps, {per_row} per row"):
        panel(source(), [column()] * columns, per_row=per_row)


# -------------------------------------------------------------------------------------------------------- colour bar


@pytest.mark.parametrize(
    ("scale", "labels"),
    [
        ((0.0, 0.00123456), ("0", "0.00123")),
        ((0.0, 1.2e-5), ("0", "1.2e-5")),
        ((0.0, 3.4e12), ("0", "3.4e12")),
        ((-0.5 * 128 / 127, 0.5), ("-0.5", "0", "0.5")),
        ((0.0, 0.0), ("zero everywhere",)),
        ((0.25, 0.25), ("flat: 0.25 everywhere",)),
        ((-2e-6, -2e-6), ("flat: -2e-6 everywhere",)),
        (None, ("not finite, not drawn",)),
    ],
)
def test_what_a_colour_bar_says(scale, labels):
    assert bar_labels(scale) == labels


@pytest.mark.parametrize("style", STYLES)
def test_the_bar_runs_through_the_colours_of_its_map(style, words):
    one = column(style)
    sheet = panel(source(), [one])
    y, x = places(sheet, coloured(one.picture))[0]
    under = sheet[y + 224 : y + 270, x : x + 224]
    first = 1 if STYLES[style].centred else 0
    ramp = one.picture.legend[np.rint(np.linspace(first, 255, 224)).astype(int)]
    thick = [(row == ramp).all() for row in under]
    assert sum(thick) >= 8
    low, high = (
        next(w for w in words if w.text == label) for label in (bar_labels(one.picture.scale)[k] for k in (0, -1))
    )
    assert low.box[0] >= x and high.box[2] <= x + 224 + 1
    assert min(low.box[1], high.box[1]) >= y + 224 + np.flatnonzero(thick).max()
    if first:
        zero = next(w for w in words if w.text == "0")
        assert abs((zero.box[0] + zero.box[2]) / 2 - (x + 112)) <= 1.5


@pytest.mark.parametrize(("value", "says"), [(np.nan, "not finite, not drawn"), (0, "zero everywhere")])
def test_a_map_that_is_none_has_words_and_no_bar(value, says, words):
    empty = Column("guided", STYLES["heatmap"].colour(np.full((224, 224), value, np.float32)))
    sheet = panel(source(), [empty])
    assert says in [word.text for word in words]
    black = np.zeros((224, 224, 3), np.uint8)
    y, x = places(sheet, black)[0]
    below = sheet[y + 226 :, x : x + 224].astype(int)
    assert (np.ptp(below, axis=-1) < 12).all()  # nothing but gray words: no colour bar


def test_units_stand_once_and_a_shared_scale_is_named_only_where_it_is_so(words):
    def foot(*columns, **rest):
        words.clear()
        panel(source(), columns, **rest)
        return " ".join(word.text for word in words[-3:])

    maps = [column(times=times, scale=(0.0, 1e-3)) for times in (1, 0.5)]
    zero = Column("deconv", STYLES["heatmap"].colour(np.zeros((224, 224), np.float32)))
    bad = Column("deconv", STYLES["heatmap"].colour(np.full((224, 224), np.nan, np.float32)))
    claim = "All maps share one scale."
    assert claim in foot(*maps, shared=True) and claim in foot(*maps, bad, shared=True)
    assert claim not in foot(*maps)
    assert claim not in foot(maps[0], shared=True) and claim not in foot(zero, zero, shared=True)
    with pytest.raises(ValueError, match="one shared scale for maps of 2 scales"):
        foot(column(), column(times=0.5), shared=True)
    foot(*maps, notes=("gradviz 1.0.",))
    everything = " ".join(word.text for word in words)
    assert everything.count(UNIT) == 1 and everything.count("gradviz 1.0.") == 1


# -------------------------------------------------------------------------------------------------------------- words


def test_every_word_is_written_below_or_above_its_own_map(words):
    columns = [column(mode=f"mode {k}", lines=(f"label {k}", f"score {k}"), times=k) for k in (1, 2)]
    sheet = panel(source(), columns, lines=("cat.jpg", "640 x 480"))
    at = {word.text: word.box for word in words}
    for part, above, below in [
        (source(), "input", ["cat.jpg", "640 x 480"]),
        *((coloured(columns[k - 1].picture), f"mode {k}", [f"label {k}", f"score {k}"]) for k in (1, 2)),
    ]:
        y, x = places(sheet, part)[0 if above != "mode 2" else -1]
        assert at[above][3] <= y and x <= at[above][0] + 1 and at[above][2] <= x + 224
        tops = [at[line][1] for line in below]
        assert tops == sorted(tops) and tops[0] > y + 224
        assert all(x <= at[line][0] + 1 and at[line][2] <= x + 224 for line in below)


def test_long_words_end_in_an_ellipsis_and_never_leave_their_column(words):
    long = "German short-haired pointer, of which there are many, " * 30
    columns = [column(mode=long, lines=(long, "W" * 300)), column(times=2, lines=("short",))]
    sheet = panel(source(), columns, lines=(long,), notes=(long, "x" * 900))
    assert sum(word.text.endswith("…") for word in words) == 5
    assert all(word.box[2] <= sheet.shape[1] - 8 for word in words)
    lefts = [places(sheet, part)[0][1] for part in (source(), *(coloured(c.picture) for c in columns))]
    pictures = places(sheet, source())[0][0] + 224
    foot = min(word.box[1] for word in words if word.text.startswith("Numbers"))
    for left in lefts:
        gutter = sheet[: min(foot, sheet.shape[0]) - 1, left + 224 + 2 : left + 224 + 10]
        assert (gutter == 255).all() and pictures < foot


def test_words_do_not_overlap_in_the_narrowest_column(words):
    panel(
        source(16, 16),
        [column("signed", size=(16, 16), times=-1.2345e-9)] * 5,
        lines=("tiny.png",),
        per_row=3,
    )
    boxes = [word.box for word in words]
    for k, (left, top, right, bottom) in enumerate(boxes):
        for a, b, c, d in boxes[k + 1 :]:
            assert right < a or c < left or bottom <= b or d <= top


@pytest.mark.parametrize("size", [(16, 16), (224, 224), (900, 1200)])
def test_words_are_large_and_dark_enough(size, words):
    sheet = panel(source(*size), [column(size=size)] * 3)
    for word in words:
        linear = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in word.ink]
        contrast = 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
        assert contrast > 4.5  # WCAG AA
        assert word.size >= 14 and word.size > sheet.shape[1] / 90


def glyphs() -> set[int]:
    """Code points that Pillow's font maps to a glyph, read from its `cmap` table (format 4): no drawing involved."""
    data = ImageFont.load_default(16).font_bytes
    tables = {data[k : k + 4]: struct.unpack(">II", data[k + 8 : k + 16]) for k in range(12, 12 + 16 * data[5], 16)}
    start = tables[b"cmap"][0]
    found: set[int] = set()
    for k in range(struct.unpack(">H", data[start + 2 : start + 4])[0]):
        at = start + struct.unpack(">I", data[start + 8 + 8 * k : start + 12 + 8 * k])[0]
        if struct.unpack(">H", data[at : at + 2])[0] != 4:
            continue
        half = struct.unpack(">H", data[at + 6 : at + 8])[0]  # twice the number of segments
        ends, starts, deltas, offsets = (
            struct.unpack(f">{half // 2}H", data[at + p : at + p + half])
            for p in (14, 16 + half, 16 + 2 * half, 16 + 3 * half)
        )
        for segment, (first, last) in enumerate(zip(starts, ends, strict=True)):
            for code in range(first, min(last, 0xFFFE) + 1):
                glyph = code
                if offsets[segment]:
                    place = at + 16 + 3 * half + 2 * segment + offsets[segment] + 2 * (code - first)
                    glyph = struct.unpack(">H", data[place : place + 2])[0]
                    if glyph == 0:
                        continue
                if (glyph + deltas[segment]) % 65536:
                    found.add(code)
    return found


@pytest.mark.parametrize(
    ("label", "drawn"),
    [
        ("tabby, tabby cat", "tabby, tabby cat"),
        ("Café Müller, Straße", "Cafe Muller, Strasse"),
        ("Cafe\u0301", "Cafe"),
        ("Łódź Ørsted Ærø", "Lodz Orsted Aero"),
        ("кошка Щука йод", "koshka Shchuka yod"),
        ("γάτα Ψάρι", "gata Psari"),
        ("猫", "U+732B"),
        ("日本cat", "U+65E5 U+672C cat"),
        ("고양이", "U+ACE0 U+C591 U+C774"),
        ("חתול", "U+05D7 U+05EA U+05D5 U+05DC"),
        ("🐈\u200d⬛", "U+1F408 U+2B1B"),
        ("3\u201342 µm × 2 − 1", "3-42 um x 2 - 1"),
        ("a\tb\nc\x00d\u00a0 e", "a b c d e"),
        ("\u202ecat\u200f", "cat"),
        ("\udcff.jpg", "U+DCFF .jpg"),
        ("", ""),
    ],
)
def test_labels_in_any_script_are_drawn_without_boxes(label, drawn):
    assert printable(label) == drawn
    assert {ord(character) for character in drawn} <= glyphs() | {ord(" ")}


def test_what_the_font_can_draw_is_found_out_right():
    known = glyphs()
    assert set(range(33, 127)) <= known and ord("猫") not in known
    for code in [*range(33, 0x250), *range(0x370, 0x460), *range(0x2010, 0x2130), 0x732B, 0x1F408]:
        assert letters._has_glyph(chr(code)) == (code in known), hex(code)


def test_a_label_in_another_script_reaches_the_figure(words):
    panel(source(), [column(lines=("284 シャム猫", "кошка"))])
    texts = [word.text for word in words]
    assert "koshka" in texts and any(text.startswith("284 U+30B7 U+30E3") for text in texts)


def test_a_pillow_that_cannot_draw_text_is_named_with_the_remedy(monkeypatch):
    def missing(size):
        raise ImportError("The _imagingft C module is not installed")

    letters.font_of.cache_clear()
    monkeypatch.setattr(ImageFont, "load_default", missing)
    with pytest.raises(UsageError, match=r"no text can be drawn: this Pillow .*; install") as caught:
        panel(source(), [column()])
    assert caught.value.code == ExitCode.USAGE
    monkeypatch.undo()
    assert panel(source(), [column()]).size


def test_a_figure_survives_a_png(tmp_path):
    sheet = panel(source(), [column()])
    Image.fromarray(sheet).save(tmp_path / "panel.png")
    with Image.open(tmp_path / "panel.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), sheet)
