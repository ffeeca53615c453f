"""What is drawn on a sheet, at which scale and where; in all three forms."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import outs
import pytest
from pdfs import Pdf
from PIL import Image

from gradviz_cli import figure
from gradviz_cli.draw.colormaps import COLORMAPS
from gradviz_cli.draw.look import Look
from gradviz_cli.draw.styles import STYLES
from gradviz_cli.errors import OutputError, UsageError
from gradviz_cli.figure import Choice, Drawing, Figure, Format
from gradviz_cli.figure.canvas import PER_MM

SVG = "{http://www.w3.org/2000/svg}"
LOOK = Look(clip=100.0)


def drawing(style="heatmap", **more) -> Drawing:
    return Drawing(**{"style": STYLES[style], "look": LOOK, "dpi": 100.0, **more})


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return [outs.photo(tmp_path / "photos" / f"{name}.png", seed) for seed, name in enumerate("ab")]


def make(tmp_path, *folders, ending="pdf", form=None, look=None, **asked):
    """Drawn and written; the sheet, the warnings and the file."""
    path = tmp_path / f"figure.{ending}"
    sheet, warnings = figure.write(path, folders, Figure(**asked), look or drawing(), form or Format())
    return sheet, warnings, path.read_bytes()


def pictures(sheet) -> dict[str, np.ndarray]:
    """uint8 [h, w, 3] by what they are called; without bars."""
    shown = (item for item in sheet.page.items if isinstance(item, figure.canvas.Shown))
    return {
        item.name: item.pixels if item.palette is None else item.palette[item.pixels]
        for item in shown
        if not item.name.startswith("colour bar")
    }


def texts(sheet) -> list[str]:
    return [item.text for item in sheet.page.items if isinstance(item, figure.canvas.Words)]


def flat(values: list[list[float]], shape=(24, 32)) -> np.ndarray:
    """A map of blocks, at the size of the photos."""
    blocks = np.array(values, np.float32)
    return np.kron(blocks, np.ones((shape[0] // blocks.shape[0], shape[1] // blocks.shape[1]), np.float32))[..., None]


def at(picture: np.ndarray, y: float, x: float) -> np.ndarray:
    """The colour at a part of height and width."""
    return picture[int(y * picture.shape[0]), int(x * picture.shape[1])].astype(int)


def test_a_map_is_drawn_with_the_colours_of_its_values(tmp_path, photos):
    array = flat([[0, 1], [2, 4]])
    expected = {"heatmap": ("inferno", 0, [0, 64, 128, 255]), "signed": ("blue-white-red", 2, [1, 64, 128, 255])}
    for style, (colormap, less, levels) in expected.items():
        values = {("a.png", "guided", "top1"): array - less}
        out = outs.write(tmp_path / style, photos[:1], values=values)
        sheet, _, _ = make(tmp_path, out, inputs=False, look=drawing(style))
        (picture,) = pictures(sheet).values()
        assert picture.shape[0] / picture.shape[1] == pytest.approx(24 / 32, abs=0.01)
        for place, level in zip([(0.1, 0.1), (0.1, 0.9), (0.9, 0.1), (0.9, 0.9)], levels, strict=True):
            assert (at(picture, *place) == COLORMAPS[colormap][level]).all(), (style, place)


def test_a_map_of_a_layer_needs_no_channels_and_lies_where_the_image_is(tmp_path):
    photos = [outs.photo(tmp_path / "photos" / "tall.png", 0, (64, 32))]
    grid = np.zeros((8, 8), np.float32)
    grid[:, :2] = 9  # the left margin of a padded image, which nobody sees
    grid[0, 2:] = 1
    for options, bright in (({"fit": "pad"}, False), ({"fit": "stretch"}, True)):
        out = outs.write(tmp_path / str(bright), photos, values={("tall.png", "guided", "top1"): grid}, options=options)
        sheet, _, _ = make(tmp_path, out, inputs=False)
        (picture,) = pictures(sheet).values()
        assert picture.shape[0] / picture.shape[1] == pytest.approx(2, abs=0.01)
        assert (at(picture, 0.95, 0.05).sum() > 600) == bright
        assert at(picture, 0.02, 0.9).sum() > 30


@pytest.mark.parametrize(
    ("scale", "tops"),
    [("each", [1, 2, 3, 4]), ("row", [2, 2, 4, 4]), ("column", [3, 4, 3, 4]), ("shared", [4, 4, 4, 4])],
)
def test_maps_share_the_scale_that_is_asked_for(tmp_path, photos, scale, tops):
    peaks = {("a.png", "backprop"): 1, ("a.png", "guided"): 2, ("b.png", "backprop"): 3, ("b.png", "guided"): 4}
    values = {(name, mode, "top1"): flat([[0, peak], [peak / 2, 0]]) for (name, mode), peak in peaks.items()}
    out = outs.write(tmp_path / "out", photos, modes=("backprop", "guided"), values=values)
    sheet, _, _ = make(tmp_path, out, inputs=False, look=drawing(scale=scale))
    for picture, peak, top in zip(pictures(sheet).values(), peaks.values(), tops, strict=True):
        assert (picture[2, -3] == COLORMAPS["inferno"][round(255 * peak / top)]).all()
    numbers = [text for text in texts(sheet) if text in "1234"]
    assert numbers == {"each": list("1234"), "row": list("24"), "column": list("34"), "shared": ["4"]}[scale]


@pytest.mark.parametrize("other", [{"unit": "score"}, {"preprocess": "torch"}, {"options": {"score": "output"}}])
def test_maps_of_other_units_have_no_scale_in_common(tmp_path, photos, other):
    first, second = outs.write(tmp_path / "x", photos), outs.write(tmp_path / "y", photos, **other)
    with pytest.raises(UsageError, match="--scale row: maps in different units have no scale in common"):
        make(tmp_path, first, second, look=drawing(scale="row"))
    make(tmp_path, first, second, look=drawing(scale="column"))


def test_the_input_and_what_lies_below_an_overlay_is_the_image(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos[:1], values={("a.png", "guided", "top1"): flat([[0, 0], [0, 1]])})
    sheet, warnings, _ = make(tmp_path, out, look=drawing("overlay"), captions=False)
    shown, source = pictures(sheet), np.asarray(Image.open(photos[0]).convert("RGB"))
    image, over = shown["a.png input"], shown["a.png guided"]
    assert not warnings
    scale = image.shape[1] / 32
    for y, x in [(3, 4), (9, 20), (15, 12)]:
        assert np.abs(image[int(y * scale), int(x * scale)].astype(int) - source[y, x]).max() <= 2
    dimmed = over[: int(10 * scale), : int(14 * scale)]
    assert (dimmed == dimmed[..., :1]).all()  # gray where the map is zero


def test_units_are_said_by_estimator_where_they_differ(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos[:1], modes=("backprop",))
    outs.write(out, photos[:1], modes=("backprop",), estimator="grad-cam", unit="score")
    sheet, _, _ = make(tmp_path, out, inputs=False, form=Format(width=500.0))
    assert "Numbers: attribution per model-input unit (gradient); score (grad-cam)." in " ".join(texts(sheet))
    with pytest.raises(UsageError, match="maps in different units"):
        make(tmp_path, out, inputs=False, look=drawing(scale="shared"))


@pytest.mark.parametrize("dpi", [50.0, 60.0, 80.0, 110.0, 300.0])
def test_words_have_the_width_that_was_planned_at_any_number_of_dots(dpi):
    text, size = "scales end at percentile 99. Numbers: attribution per model-input unit", 8.0
    width = figure.canvas.measured(text, size)
    page = figure.canvas.Page(2 * width, 20, dpi, "", "", [figure.canvas.Words(10, 12, text, size)])
    inked = np.flatnonzero((figure.paint.painted(page) < 220).any(axis=(0, 2)))
    assert inked[0] >= 10 * dpi / 72 - 1
    assert (10 + 0.95 * width) * dpi / 72 <= inked[-1] <= (10 + width) * dpi / 72 + 0.5


def test_an_image_that_is_gone_is_said_and_the_maps_are_there(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos)
    photos[0].unlink()
    sheet, warnings, _ = make(tmp_path, out)
    assert sheet.failed and set(pictures(sheet)) == {"a.png guided", "b.png input", "b.png guided"}
    assert warnings == [
        "1 place of the sheet is empty (a.png input: the image is gone); --no-inputs leaves the images out"
    ]
    sheet, warnings, _ = make(tmp_path, out, inputs=False)
    assert not sheet.failed and not warnings


def test_why_a_place_is_empty_stays_in_its_place(tmp_path, photos):
    why = "the .npy is not the one that the picture was drawn from"
    out = outs.write(tmp_path / "out", photos)
    (out / "a.png.guided.npy").write_bytes(b"no array")
    sheet, _, _ = make(tmp_path, out, form=Format(30 * PER_MM))
    (beside,) = (item for item in sheet.page.items if getattr(item, "name", "") == "a.png input")
    said = [item for item in sheet.page.items if isinstance(item, figure.canvas.Words) and item.meant in why]
    assert " ".join(item.meant for item in said) == why and said[-1].text != said[-1].meant
    assert all(beside.y < item.y < beside.y + beside.height for item in said)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.unlink(), "the .npy is gone"),
        (lambda path: path.write_bytes(b""), "the .npy is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0"), "the .npy is not the one that"),
        (lambda path: path.mkdir() if not path.unlink() else None, "the .npy is a folder"),
    ],
)
def test_an_array_that_is_not_the_picture_s_is_never_drawn(tmp_path, photos, damage, why):
    out = outs.write(tmp_path / "out", photos)
    damage(out / "a.png.guided.npy")
    sheet, (warning,), _ = make(tmp_path, out, inputs=False)
    assert sheet.failed and set(pictures(sheet)) == {"b.png guided"}
    assert f"a.png guided: {why}" in warning
    damage(out / "b.png.guided.npy")
    with pytest.raises(UsageError, match="no map can be drawn: the .npy"):
        make(tmp_path, out, inputs=False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 1), }\n",
        b"\x93NUMPY\x01\x00\x47\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9999999, 9999999), }\n",
        b"\x93NUMPY\x01\x00\x3a\x00{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }\n",
        b"\x93NUMPY\x01\x00\x3e\x00{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4, 3), }\n",
    ],
)
def test_a_stranger_s_array_is_read_as_one_or_not_at_all(tmp_path, photos, data):
    out = outs.write(tmp_path / "out", photos, npy=hashlib.sha256(data).hexdigest())
    (out / "a.png.guided.npy").write_bytes(data)
    with pytest.raises(UsageError, match="no map can be drawn: the .npy"):
        make(tmp_path, out, inputs=False)


def test_a_folder_without_arrays_is_refused_with_the_option_that_writes_them(tmp_path, photos):
    with_, without = outs.write(tmp_path / "x", photos), outs.write(tmp_path / "y", photos, raw=False)
    with pytest.raises(UsageError, match=r"/y: there is no .npy of its maps.*--raw"):
        make(tmp_path, with_, without)


def test_maps_that_are_flat_or_not_finite_say_so(tmp_path, photos):
    values = {
        ("a.png", "guided", "top1"): np.zeros((8, 8, 3), np.float32),
        ("b.png", "guided", "top1"): np.full((8, 8, 3), np.nan, np.float32),
    }
    sheet, _, _ = make(tmp_path, outs.write(tmp_path / "out", photos, values=values), inputs=False)
    assert {"zero everywhere", "not finite, not drawn"} <= set(texts(sheet))
    assert all((picture == COLORMAPS["inferno"][0]).all() for picture in pictures(sheet).values())


def test_more_images_than_a_sheet_takes_are_said(tmp_path):
    photos = [outs.photo(tmp_path / "photos" / f"{k:02}.png", k) for k in range(14)]
    out = outs.write(tmp_path / "out", photos)
    sheet, warnings, _ = make(tmp_path, out, inputs=False)
    assert len(pictures(sheet)) == 12 and warnings == [
        "12 of 14 images are shown; --image chooses, --limit 0 shows all"
    ]
    sheet, warnings, _ = make(
        tmp_path, out, inputs=False, choice=Choice(limit=0), columns=("image",), form=Format(wrap=5)
    )
    assert len(pictures(sheet)) == 14 and not warnings
    places = [(round(item.x), round(item.y)) for item in sheet.page.items if "bar" not in getattr(item, "name", "bar")]
    assert len({x for x, _ in places}) == 5 and len({y for _, y in places}) == 3


def test_nothing_lies_on_another_thing_or_beyond_the_paper(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos, modes=("guided", "backprop"), targets=("top1", "top2"))
    for scale in ("each", "row", "column", "shared"):
        sheet, _, _ = make(
            tmp_path, out, look=drawing(scale=scale, title="A title"), rows=("image", "target"), inputs=False
        )
        page = sheet.page
        boxes = [(i.x, i.y, i.x + i.width, i.y + i.height) for i in page.items if isinstance(i, figure.canvas.Shown)]
        for item in page.items:
            if isinstance(item, figure.canvas.Words):
                width = figure.canvas.measured(item.text, item.size)
                left = item.x - width * {"start": 0, "middle": 0.5, "end": 1}[item.anchor]
                boxes.append((left, item.y - 0.7 * item.size, left + width, item.y))
        for k, one in enumerate(boxes):
            assert one[0] >= 0 and one[1] >= 0 and one[2] <= page.width and one[3] <= page.height
            for other in boxes[:k]:
                apart = one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
                assert apart, (one, other)


def test_what_does_not_fit_is_refused_with_the_way_out(tmp_path, photos):
    out = outs.write(tmp_path / "out", photos, modes=("guided", "backprop"))
    with pytest.raises(UsageError, match="3 columns side by side leave .* mm for each; .*--wrap N"):
        make(tmp_path, out, form=Format(width=30.0))
    with pytest.raises(UsageError, match="pixels, more than .*--dpi"):
        make(tmp_path, out, ending="png", form=Format(width=10_000.0), look=drawing(dpi=2400.0))


# ---- the three forms


@pytest.fixture
def labelled(tmp_path, photos) -> Path:
    return outs.write(tmp_path / "out", photos, classes={"a.png": (3, "café 猫"), "b.png": (4, '<кошка> & "co"')})


def test_a_png_has_the_width_and_the_dots_that_were_asked_for(tmp_path, labelled):
    sheet, _, data = make(tmp_path, labelled, ending="png", form=Format(width=60 * PER_MM), look=drawing(dpi=200.0))
    image = Image.open(io.BytesIO(data))
    assert image.width == round(60 / 25.4 * 200) and image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    assert json.loads(image.text["gradviz"])["kind"] == "gradviz figure"
    pixels = np.asarray(image)
    for item in sheet.page.items:
        if isinstance(item, figure.canvas.Shown) and "bar" not in item.name:
            x, y = round(item.x * 200 / 72), round(item.y * 200 / 72)
            shown = item.pixels if item.palette is None else item.palette[item.pixels]
            np.testing.assert_array_equal(pixels[y : y + shown.shape[0], x : x + shown.shape[1]], shown)


def test_an_svg_has_the_words_themselves_and_the_pictures_inside(tmp_path, labelled):
    sheet, _, data = make(tmp_path, labelled, ending="svg", look=drawing(title="T"))
    root = ElementTree.fromstring(data)
    words = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert {"T", "café 猫", '<кошка> & "co"', "a.png", "guided", "input"} <= set(words)
    assert root.find(f"{SVG}title").text == "T" and "Rows: a.png café 猫" in root.find(f"{SVG}desc").text
    images = list(root.iter(f"{SVG}image"))
    decoded = []
    for image in images:
        address = image.get("{http://www.w3.org/1999/xlink}href")
        assert address.startswith("data:image/png;base64,")
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as one:
            decoded.append(np.asarray(one.convert("RGB")))
    by_name = {image.find(f"{SVG}title").text: pixels for image, pixels in zip(images, decoded, strict=True)}
    for name, pixels in pictures(sheet).items():
        np.testing.assert_array_equal(by_name[name], pixels)
    assert b"http://" not in data.replace(b"http://www.w3.org/", b"")


def test_a_pdf_has_words_that_can_be_found_and_the_pictures_without_loss(tmp_path, labelled):
    sheet, _, data = make(tmp_path, labelled, form=Format(width=300.0), look=drawing(title="Títle 猫"))
    pdf = Pdf(data)
    assert pdf.size[0] == pytest.approx(300.0)
    assert {"Títle 猫", "café 猫", '<кошка> & "co"', "a.png", "guided", "score 1.5"} <= set(pdf.lines())
    assert pdf.info["Title"] == "Títle 猫"
    found = [one for one in pdf.pictures() if one.shape[0] > 1]
    for one, pixels in zip(found, pictures(sheet).values(), strict=True):
        np.testing.assert_array_equal(one, pixels)


def test_a_label_that_is_cut_is_whole_for_who_searches_it(tmp_path, photos):
    label = "a very long label " * 9
    out = outs.write(tmp_path / "out", photos[:1], classes={"a.png": (1, label)})
    _, _, data = make(tmp_path, out, inputs=False)
    assert label in Pdf(data).lines()
    _, _, data = make(tmp_path, out, ending="svg", inputs=False)
    texts = ElementTree.fromstring(data).iter(f"{SVG}text")
    assert label in [title.text for text in texts for title in text.iter(f"{SVG}title")]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_figure_has_the_same_bytes(tmp_path, labelled, ending):
    assert (
        make(tmp_path, labelled, ending=ending, inputs=False)[2]
        == make(tmp_path, labelled, ending=ending, inputs=False)[2]
    )


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_only_a_figure_is_replaced(tmp_path, labelled, ending):
    path = tmp_path / f"figure.{ending}"
    path.write_bytes(b"my thesis")
    with pytest.raises(OutputError, match="is there, and no figure of gradviz; .*--force"):
        make(tmp_path, labelled, ending=ending)
    assert path.read_bytes() == b"my thesis"
    figure.write(path, [labelled], Figure(inputs=False), drawing(), Format(), force=True)
    make(tmp_path, labelled, ending=ending, inputs=False)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="it is a link"):
        make(tmp_path, labelled, ending=ending)


def test_letters_that_the_font_lacks_are_told_and_an_svg_has_them(tmp_path, labelled):
    for ending in ("png", "pdf"):
        _, (warning,), _ = make(tmp_path, labelled, ending=ending, inputs=False)
        assert warning == "2 labels are spelled in other letters (café 猫 as cafe U+732B); an .svg has them as they are"
    assert not make(tmp_path, labelled, ending="svg", inputs=False)[1]
    assert not make(tmp_path, labelled, ending="pdf", inputs=False, captions=False)[1]


def test_folders_without_any_map(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").touch()
    with pytest.raises(UsageError, match="no run has drawn a map there; give a folder"):
        make(tmp_path, tmp_path)
