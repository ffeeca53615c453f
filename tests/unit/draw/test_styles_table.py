"""Every style on one attribution of 2 x 3 pixels, worked by hand; what the tables say of each; what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradviz_cli.draw import styles
from gradviz_cli.draw.colormaps import COLORMAPS, DIVERGING
from gradviz_cli.draw.look import Look, look_of
from gradviz_cli.draw.panel import Column
from gradviz_cli.draw.styles import SHEETS, STYLES, check_channels, check_use, degenerate, maps_of, names, needs_image
from gradviz_cli.errors import UsageError
from gradviz_cli.plan.plan import Drawing
from gradviz_cli.plan.results import Status

# Three channels at 2 x 3 pixels. Absolute maxima 2 4 1 / 0 1 4; sums 2 -4 0 / 0 1 4.
ATTRIBUTION = np.array(
    [[[2, -1, 1], [-4, 0, 0], [1, -1, 0]], [[0, 0, 0], [1, 0, 0], [4, 1, -1]]],
    np.float32,
)
ALL = Look(clip=100)  # the scale ends at the largest value
IMAGE = np.zeros((2, 3, 3), np.uint8)

CONTRACT = ["heatmap", "gray", "signed", "rgb", "overlay", "panel"]  # the names that users have, in this order
# What each style measures, by hand: a new style adds a row.
FIELDS = {
    "heatmap": [[2, 4, 1], [0, 1, 4]],
    "gray": [[2, 4, 1], [0, 1, 4]],
    "overlay": [[2, 4, 1], [0, 1, 4]],
    "signed": [[2, -4, 0], [0, 1, 4]],
    "rgb": ATTRIBUTION.tolist(),
}
# 255 * value / 4, to the nearest whole number, half to even: 127.5 -> 128, 63.75 -> 64
MAGNITUDES = [[128, 255, 64], [0, 64, 255]]
# 128 + 127 * value / 4: 63.5 -> 64, 31.75 -> 32, -31.75 -> -32
INTENSITIES = {
    "heatmap": MAGNITUDES,
    "gray": MAGNITUDES,
    "signed": [[192, 1, 128], [128, 160, 255]],
    "rgb": [
        [[192, 96, 160], [1, 128, 128], [160, 96, 128]],
        [[128, 128, 128], [160, 128, 128], [255, 160, 96]],
    ],
}
SCALES = {
    "heatmap": (0, 4),
    "gray": (0, 4),
    "overlay": (0, 4),
    "signed": (-4 * 128 / 127, 4),
    "rgb": (-4 * 128 / 127, 4),
}


def test_every_style_has_a_row_of_what_it_measures() -> None:
    missing, needless = sorted(STYLES.keys() - FIELDS.keys()), sorted(FIELDS.keys() - STYLES.keys())
    assert FIELDS.keys() == STYLES.keys(), f"FIELDS of this file lacks a row for {missing}, has one for {needless}"


@pytest.mark.parametrize("name", FIELDS)
def test_what_a_style_measures(name: str) -> None:
    np.testing.assert_allclose(STYLES[name].reduce(ATTRIBUTION), FIELDS[name], rtol=1e-6)


@pytest.mark.parametrize("name", FIELDS)
def test_where_its_scale_ends(name: str) -> None:
    style = STYLES[name]
    top = np.abs(FIELDS[name]).max()
    expected = SCALES.get(name, (-top * 128 / 127 if style.centred else 0, top))
    assert style.limits(style.reduce(ATTRIBUTION), ALL) == pytest.approx(expected)


@pytest.mark.parametrize("name", INTENSITIES)
def test_the_intensities_that_it_draws(name: str) -> None:
    style = STYLES[name]
    picture = style.colour(style.reduce(ATTRIBUTION), None, ALL)
    np.testing.assert_array_equal(picture.pixels, INTENSITIES[name])
    assert (picture.palette is None) == (name == "rgb") == (not style.paletted)


def test_an_overlay_on_black_shows_the_map_as_strong_as_it_is() -> None:
    """alpha 0.5: the opacity is the intensity itself, so on black each colour is the map's times intensity / 255."""
    style = STYLES["overlay"]
    picture = style.colour(style.reduce(ATTRIBUTION), IMAGE, ALL)
    level = np.array(MAGNITUDES)[..., None]
    expected = COLORMAPS["inferno"][level[..., 0]] * (level / 255)
    assert np.abs(picture.pixels - expected).max() <= 0.51


def test_a_percentile_leaves_the_largest_beyond_the_scale() -> None:
    """Of 0 1 1 2 4 4 the 50th percentile by nearest rank is the third value: 1. All above is drawn at the end."""
    style = STYLES["heatmap"]
    picture = style.colour(style.reduce(ATTRIBUTION), None, Look(clip=50))
    assert picture.scale == (0, 1)
    assert picture.pixels.tolist() == [[255, 255, 255], [0, 255, 255]]


def test_one_scale_for_several_is_the_widest() -> None:
    style = STYLES["signed"]
    scales = [style.limits(factor * style.reduce(ATTRIBUTION), ALL) for factor in (0.5, 2)]
    assert style.share([*scales, None]) == pytest.approx((-8 * 128 / 127, 8))
    assert style.share([None]) is None


@pytest.mark.parametrize(
    ("value", "status"), [(0, Status.ZERO), (np.nan, Status.NONFINITE), (-np.inf, Status.NONFINITE), (1e-30, None)]
)
def test_what_is_no_map(value: float, status: Status | None) -> None:
    array = np.zeros((2, 3, 1), np.float32)
    array[1, 1] = value
    assert degenerate(array) is status


# ---- the tables


def test_names_are_unique_and_all_choices() -> None:
    assert names() == [*STYLES, *SHEETS]
    assert [name for name in names() if name in CONTRACT] == CONTRACT
    assert not STYLES.keys() & SHEETS.keys()


@pytest.mark.parametrize("name", names())
def test_every_style_says_what_it_shows(name: str) -> None:
    entry = SHEETS.get(name) or STYLES[name]
    assert entry.name == name
    assert len(entry.summary) > 20


def test_what_an_entry_says_of_itself() -> None:
    assert {name for name in CONTRACT if needs_image(name)} == {"overlay", "panel"}
    assert {name for name in CONTRACT if maps_of(name).uses_alpha} == {"overlay"}
    assert {name for name in CONTRACT if maps_of(name).channels} == {"rgb"}
    assert {name for name in CONTRACT if maps_of(name).own_colormap is None} == {"gray", "rgb"}
    assert {name for name in CONTRACT if maps_of(name).centred} == {"signed", "rgb"}
    assert {name for name in CONTRACT if not maps_of(name).paletted} == {"rgb", "overlay"}
    assert maps_of("panel") is STYLES["heatmap"] and maps_of("gray") is STYLES["gray"]


def test_a_new_style_is_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that draws the mean, in one colour that can be chosen; and a sheet of such maps."""
    mean = replace(
        STYLES["heatmap"], name="the-mean", measure=lambda a: a.mean(-1), own_colormap="magma", channels=(2,)
    )
    sheet = replace(SHEETS["panel"], name="the-means", maps=mean)
    monkeypatch.setitem(styles.STYLES, "the-mean", mean)
    monkeypatch.setitem(styles.SHEETS, "the-means", sheet)
    assert names() == [*STYLES, *SHEETS] and list(STYLES)[-1] == "the-mean" and list(SHEETS)[-1] == "the-means"
    assert mean.reduce(np.array([[[1, 3]]], np.float32)).tolist() == [[2]]
    assert needs_image("the-means") and not needs_image("the-mean")
    check_use(["the-means"], Look(colormap="viridis"), {"colormap"})
    for name in ("the-mean", "the-means"):
        with pytest.raises(UsageError, match=f"--style {name}: the model input has 3 channels, not 2"):
            check_channels([name], 3)


def test_a_sheet_shows_the_image_and_every_mode_at_its_own_size() -> None:
    """A white image of 160 x 160 and two maps, each shown as it is: white and the map's colours are found again."""
    sheet, style = SHEETS["panel"], STYLES["heatmap"]
    field = np.full((160, 160), 1, np.float32)
    field[:80] = 0
    columns = [Column(mode, style.colour(field, None, ALL)) for mode in ("one", "two")]
    pixels = sheet.compose(np.full((160, 160, 3), 77, np.uint8), columns)
    assert sheet.size_of(160, 160) == (160, 160) and sheet.size_of(1024, 512) == (512, 256)
    assert (pixels == 77).all(-1).sum() == 160 * 160
    assert (pixels == COLORMAPS["inferno"][255]).all(-1).sum() >= 2 * 80 * 160


# ---- what is refused


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_a_style_cannot_draw(channels: int) -> None:
    able = [name for name in STYLES if not STYLES[name].channels]
    assert [name for name in able if name in CONTRACT] == ["heatmap", "gray", "signed", "overlay"]
    check_channels([*able, "panel"], channels)
    with pytest.raises(UsageError) as caught:
        check_channels(["heatmap", "rgb"], channels)
    assert caught.value.message == f"--style rgb: the model input has {channels} channels, not 3 (or 1)"
    assert caught.value.remedy == f"choose --style {', '.join(able[:-1])} or {able[-1]}"


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_that_every_style_can_draw(channels: int) -> None:
    check_channels([name for name in names() if channels in (maps_of(name).channels or (channels,))], channels)
    check_channels(CONTRACT, channels)


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_a_colormap_fits_the_styles_of_its_kind(colormap: str) -> None:
    """Sequential ones the magnitudes, diverging ones the sign; gray is always what `gray` has."""
    look = Look(colormap=colormap)
    styled = {name: maps_of(name) for name in names()}
    diverging = colormap in DIVERGING
    fitting = {name for name, style in styled.items() if style.own_colormap and style.centred == diverging}
    fitting |= {name for name, style in styled.items() if style.only_colormap == colormap}
    gray = {"gray"} if colormap == "gray" else set()
    assert fitting & set(CONTRACT) == gray | ({"signed"} if diverging else {"heatmap", "overlay", "panel"})
    for name in names():
        if name in fitting:
            check_use([name], look, {"colormap"})
        else:
            with pytest.raises(UsageError, match=f"--colormap {colormap}: --style {name} cannot use it"):
                check_use([name], look, {"colormap"})
            check_use([name], look, set())  # not given on this command line
            check_use([name, *fitting], look, {"colormap"})


def test_alpha_is_for_an_overlay() -> None:
    blended = sorted(name for name in names() if maps_of(name).uses_alpha)
    assert [name for name in blended if name in CONTRACT] == ["overlay"]
    for name in blended:
        check_use([name], Look(alpha=0.25), {"alpha"})
    with pytest.raises(UsageError) as caught:
        check_use(["heatmap", "panel"], Look(alpha=0.25), {"alpha", "clip"})
    assert caught.value.message == "--alpha 0.25: --style heatmap, panel cannot use it"
    assert caught.value.remedy == f"leave it out, or add --style {' or '.join(blended)}"


def test_the_look_of_a_plan() -> None:
    assert look_of(Drawing(colormap="magma", clip=90.0, alpha=0.75)) == Look("magma", 90.0, 0.75)
