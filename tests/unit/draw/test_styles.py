"""render: what each style measures, its scale, its colours, and what it does with maps that are none.

`python tests/unit/draw/test_styles.py --write-golden` draws the golden pictures anew, after a look at what changed.
"""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradviz_cli.draw.colormaps import COLORMAP_SUMMARIES, COLORMAPS, DIVERGING
from gradviz_cli.draw.styles import STYLES, Look, degenerate, needs_image
from gradviz_cli.errors import ExitCode, UsageError
from gradviz_cli.images.fit import Geometry, unfit

GOLDEN = Path(__file__).parents[2] / "golden" / "render.npz"
CONTRACT = ("heatmap", "gray", "signed", "rgb", "overlay")  # the names that users have, in this order
MAGNITUDE = ("heatmap", "gray", "overlay")
SIGNED = ("signed", "rgb")
# Those whose pixels are the intensities.
PALETTED = [name for name, style in STYLES.items() if style.paletted]


def attribution(height=24, width=32, channels=3) -> np.ndarray:
    """A smooth signed attribution with a weak background and a strong spot; no random numbers, so it never changes."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    spot = np.exp(-((x - 0.6 * width) ** 2 + (y - 0.4 * height) ** 2) / (0.02 * height * width))
    planes = [np.sin(0.9 * x + 0.7 * y + k) * (0.05 + spot) * (1 + 0.3 * k) for k in range(channels)]
    return (2e-3 * np.stack(planes, axis=-1)).astype(np.float32)


def source(height=24, width=32) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x // (width - 1), 255 * y // (height - 1), (37 * x + 91 * y) % 256]
    return np.stack(planes, axis=-1).astype(np.uint8)


PLAIN = Look()


def reduce(array, style):
    return STYLES[style].reduce(array)


def draw(array, style, look=PLAIN, scale=None, image=None):
    """All steps, at one size."""
    chosen = STYLES[style]
    field = chosen.reduce(array)
    if image is None and chosen.needs_image:
        image = source(*field.shape[:2])
    return chosen.colour(field, image, look, chosen.limits(field, look) if scale is None else scale)


def read_back(intensities, scale) -> np.ndarray:
    """The one formula that the documentation gives."""
    low, high = scale
    return low + (high - low) * intensities.astype(np.float64) / 255


# ---------------------------------------------------------------------------------------------------- what is shown


def test_the_styles_of_the_contract_and_what_they_say_of_themselves():
    assert tuple(name for name in STYLES if name in CONTRACT) == CONTRACT
    assert {name for name in CONTRACT if needs_image(name)} == {"overlay"}
    assert {name for name in CONTRACT if STYLES[name].centred} == set(SIGNED) == set(CONTRACT) - set(MAGNITUDE)
    assert {name for name in CONTRACT if STYLES[name].paletted} == {"heatmap", "gray", "signed"}
    for name, style in STYLES.items():
        picture = draw(attribution(), name)
        assert style.name == name and style.summary
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.shape == ((24, 32) if style.paletted else (24, 32, 3))
        assert (picture.palette is not None) == style.paletted
        assert picture.legend.shape == (256, 3) and picture.legend.dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_what_is_measured_pixel_by_pixel(channels):
    array = attribution(5, 6, channels)
    for y, x in np.ndindex(5, 6):
        values = [float(v) for v in array[y, x]]
        for style in MAGNITUDE:
            assert reduce(array, style)[y, x] == max(abs(v) for v in values)
        assert reduce(array, "signed")[y, x] == pytest.approx(sum(values), rel=1e-5, abs=1e-9)
    for style in ("heatmap", "signed"):
        assert reduce(array, style).dtype == np.float32


def test_rgb_shows_three_channels_or_one_and_refuses_others():
    np.testing.assert_array_equal(reduce(attribution(), "rgb"), attribution())
    one = draw(attribution(channels=1), "rgb").pixels
    assert (one == one[..., :1]).all() and one.shape == (24, 32, 3)
    for channels in (2, 4):
        with pytest.raises(
            UsageError, match=rf"--style rgb: the model input has {channels} channels.*choose"
        ) as caught:
            reduce(attribution(channels=channels), "rgb")
        assert caught.value.code == ExitCode.USAGE


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4, 3), (0, 4, 3)])
def test_an_array_of_another_shape_is_refused_by_its_shape(shape):
    with pytest.raises(ValueError, match=str(list(shape)).replace("[", r"\[")):
        reduce(np.zeros(shape, np.float32), "heatmap")


# ------------------------------------------------------------------------------------------------------- the scale


@pytest.mark.parametrize("clip", [0.1, 8.8, 50, 64.4, 99, 99.9, 100])
@pytest.mark.parametrize("style", STYLES)
def test_the_scale_ends_at_the_nearest_rank_percentile(style, clip):
    field = reduce(attribution(), style)
    ordered = sorted(abs(float(v)) for v in field.ravel())
    expected = next(v for k, v in enumerate(ordered, 1) if k * 1000 >= len(ordered) * round(clip * 10))
    low, high = STYLES[style].limits(field, Look(clip=clip))
    assert high == expected
    assert low == (pytest.approx(-expected * 128 / 127) if STYLES[style].centred else 0)


def test_the_rank_is_not_pushed_up_by_rounding():
    field = np.arange(1, 251, dtype=np.float32).reshape(10, 25)
    assert STYLES["heatmap"].limits(field, Look(clip=64.4)) == (
        0,
        161,
    )  # 250 * 64.4 / 100 = 161.00000000000003


@pytest.mark.parametrize("style", [*PALETTED, "rgb"])
def test_the_intensity_is_what_the_documentation_says(style):
    field = reduce(attribution(), style).astype(np.float64)
    picture = draw(attribution(), style)
    top = picture.scale[1]
    if STYLES[style].centred:
        exact = 128 + 127 * np.clip(field / top, -1, 1)
    else:
        exact = 255 * np.minimum(field / top, 1)
    assert np.abs(picture.pixels - exact).max() <= 0.5 + 1e-4  # 1e-4: float32 beside a tie
    assert picture.pixels.max() == 255


@pytest.mark.parametrize("style", [*PALETTED, "rgb"])
def test_every_picture_can_be_read_back_to_half_a_step(style):
    field = reduce(attribution(), style).astype(np.float64)
    picture = draw(attribution(), style, Look(clip=90))
    low, high = picture.scale
    step = (high - low) / 255
    values = read_back(picture.pixels, picture.scale)
    assert np.abs(values - np.clip(field, low + (step if low else 0), high)).max() <= step * 0.501
    assert read_back(np.array(255), picture.scale) == pytest.approx(high, rel=1e-12)


@pytest.mark.parametrize("style", SIGNED)
def test_zero_is_neutral_and_both_signs_weigh_the_same(style):
    field = reduce(attribution(), style)
    scale = STYLES[style].limits(field, Look())
    there = STYLES[style].colour(field, scale=scale).pixels.astype(int)
    back = STYLES[style].colour(-field, scale=scale).pixels.astype(int)
    np.testing.assert_array_equal(there + back, 256)
    assert STYLES[style].limits(-field, Look()) == scale
    assert there.min() == 1  # intensity 0 is never used
    field[3, 4] = 0
    assert (STYLES[style].colour(field, scale=scale).pixels[3, 4] == 128).all()
    assert read_back(np.array(128), scale) == pytest.approx(0, abs=1e-18)


def test_halves_are_rounded_alike_on_both_sides_of_zero():
    halves = np.arange(0.5, 127, dtype=np.float32)[None]
    scale = (-128.0, 127.0)  # one intensity per unit
    there, back = (STYLES["signed"].colour(sign * halves, scale=scale).pixels.astype(int) for sign in (1, -1))
    np.testing.assert_array_equal(there + back, 256)


@pytest.mark.parametrize("style", PALETTED)
def test_more_attribution_is_never_drawn_as_less(style):
    ramp = np.linspace(-2, 2, 4001, dtype=np.float32).reshape(1, -1)
    centred = STYLES[style].centred
    intensity = STYLES[style].colour(ramp, scale=(-128 / 127, 1.0) if centred else (0.0, 1.0)).pixels[0]
    assert (np.diff(intensity.astype(int)) >= 0).all()
    assert intensity[0] == (1 if centred else 0) and intensity[-1] == 255
    assert len(np.unique(intensity)) == (255 if centred else 256)


def test_the_size_of_the_picture_does_not_change_the_scale():
    field = reduce(attribution(), "heatmap")
    scale = STYLES["heatmap"].limits(field, Look())
    larger = np.asarray(Image.fromarray(field).resize((320, 240), Image.Resampling.BICUBIC))
    picture = STYLES["heatmap"].colour(larger, scale=scale)
    assert picture.scale == scale
    assert STYLES["heatmap"].limits(larger, Look()) != scale  # else this test could not fail
    np.testing.assert_allclose(read_back(picture.pixels, scale), np.clip(larger, 0, scale[1]), atol=scale[1] / 509)


@pytest.mark.parametrize("style", ["heatmap", "signed", "rgb"])
def test_a_shared_scale_gives_one_value_one_intensity(style):
    chosen, look = STYLES[style], Look()
    strong, weak = reduce(attribution(), style), reduce(attribution() / 4, style)
    weak[:5] = strong[:5] = strong[:5] / 8  # rows that are the same in both
    each = [chosen.limits(field, look) for field in (weak, strong)]
    shared = chosen.share([each[0], None, each[1]])
    assert shared == each[1] and shared[1] > 2 * each[0][1]
    together = [chosen.colour(field, look=look, scale=shared) for field in (weak, strong)]
    apart = [chosen.colour(field, look=look, scale=scale) for field, scale in zip((weak, strong), each, strict=True)]
    np.testing.assert_array_equal(together[0].pixels[:5], together[1].pixels[:5])
    assert (apart[0].pixels[:5] != apart[1].pixels[:5]).any()  # else this test could not fail
    assert [picture.scale for picture in together] == [shared, shared]


def test_shared_scales_of_maps_that_are_none():
    chosen = STYLES["signed"]
    assert chosen.share([None, None]) is None
    assert chosen.share([(0.0, 0.0)]) == (0.0, 0.0)
    flat = np.full((4, 4), -2, np.float32)
    shared = chosen.share([chosen.limits(flat, Look()), (-128 / 127, 1.0)])
    assert shared[1] == 2
    assert (chosen.colour(flat, scale=shared).pixels == 1).all()  # beside others, a flat map has a level


# ---------------------------------------------------------------------------------------------------- maps that are none


@pytest.fixture()
def no_warning():
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        yield


def neutral(style):
    """The only pixel value of an empty picture; for an overlay, none."""
    return {"heatmap": 0, "gray": 0, "signed": 128, "rgb": 128}[style]


def test_degenerate_names_what_is_wrong():
    assert degenerate(attribution()) is None
    assert degenerate(np.zeros((2, 2, 3), np.float32)) == degenerate(np.float32(-0.0) * np.ones((2, 2, 1))) == "zero"
    for bad in (np.nan, np.inf, -np.inf):
        array = attribution()
        array[1, 2, 0] = bad
        assert degenerate(array) == "nonfinite"
    assert degenerate(np.full((2, 2, 3), 0.5, np.float32)) is None


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_leaves_no_picture(style, bad, no_warning):
    array = attribution()
    array[1, 2, 0] = bad
    empty = draw(np.zeros_like(array), style)
    for scale in (None, (-128 / 127, 1.0) if STYLES[style].centred else (0.0, 1.0)):
        picture = draw(array, style, scale=scale)
        assert picture.scale is None
        np.testing.assert_array_equal(picture.pixels, empty.pixels)


@pytest.mark.parametrize("style", ["heatmap", "gray", "signed", "rgb"])
@pytest.mark.parametrize("value", [0.0, 0.25, -0.25, 1e-42, 3e38])
def test_a_flat_map_is_neutral_and_still_tells_its_value(style, value, no_warning):
    array = np.full((6, 7, 1), value, np.float32)
    array[2, 3] *= np.float32(1.0005)  # less than one step of 255
    picture = draw(array, style)
    assert (picture.pixels == neutral(style)).all()
    shown = abs(value) if style in MAGNITUDE else value
    assert read_back(picture.pixels, picture.scale) == pytest.approx(shown, rel=1e-3)


def test_a_step_that_can_be_seen_is_not_flat():
    array = np.full((6, 7, 1), 0.25, np.float32)
    array[2, 3] *= np.float32(0.99)
    assert set(np.unique(draw(array, "heatmap", Look(clip=100)).pixels)) == {252, 255}


@pytest.mark.parametrize("style", ["heatmap", "gray", "signed", "rgb"])
@pytest.mark.parametrize("value", [1.0, 1e-42, 3e38])
def test_one_hot_pixel_is_seen(style, value, no_warning):
    array = np.zeros((30, 30, 3), np.float32)
    array[4, 5] = value if style != "signed" else value / 3
    picture = draw(array, style)
    assert (picture.pixels[4, 5] == 255).all()
    elsewhere = np.delete(picture.pixels.reshape(900, -1), 4 * 30 + 5, axis=0)
    assert (elsewhere == neutral(style)).all()
    assert picture.scale[1] == pytest.approx(value, rel=0.05)


def test_values_whose_sum_no_float32_holds_are_drawn(no_warning):
    array = np.full((4, 4, 3), 3e38, np.float32)
    array[0] *= -1
    array[1] = [3e38, 3e38, -3e38]  # in float32 the first two are infinite already
    picture = draw(array, "signed")
    assert picture.scale[1] == pytest.approx(9e38)
    assert picture.pixels[:, 0].tolist() == [1, 128 + round(127 / 3), 255, 255]
    array[:, 0] = 0
    assert draw(array, "heatmap").scale == (0, pytest.approx(3e38))


def test_an_ordinary_field_on_a_scale_that_no_float32_holds(no_warning):
    """One of several that share it."""
    picture = STYLES["signed"].colour(np.array([[0, 3e38]], np.float32), scale=(-9e38 * 128 / 127, 9e38))
    assert picture.pixels.tolist() == [[128, 128 + round(127 / 3)]]


def test_a_field_beyond_float32_is_brought_to_the_size_of_the_image():
    field = np.array([[9e38, -9e38], [0, 9e38]])
    found = unfit(field, Geometry(2, 2, 3, "stretch"), (4, 4))
    assert found.shape == (4, 4) and np.isfinite(found).all() and np.abs(found).max() == pytest.approx(9e38)
    assert np.allclose(found / 9e38, unfit((field / 9e38).astype(np.float32), Geometry(2, 2, 3, "stretch"), (4, 4)))


# -------------------------------------------------------------------------------------------------------- colormaps


def cielab(rgb: np.ndarray) -> np.ndarray:
    """sRGB uint8 [n, 3] -> CIELAB [n, 3], by the definitions (IEC 61966-2-1, CIE 15), apart from render's inverse."""
    v = rgb / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    t = xyz / [0.9505, 1.0, 1.089]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


def ciede2000(lab1: np.ndarray, lab2: np.ndarray) -> np.ndarray:
    """Colour difference (CIE 142-2001), [n, 3] and [n, 3] -> [n]: another measure than the one the maps are built on."""
    (l1, a1, b1), (l2, a2, b2) = lab1.T, lab2.T
    mean_c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = (1 - np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7))) / 2
    a1, a2 = a1 * (1 + g), a2 * (1 + g)
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.arctan2(b1, a1), np.arctan2(b2, a2)
    turn = (h2 - h1 + np.pi) % (2 * np.pi) - np.pi  # the short way round
    dl, dc, dh = l2 - l1, c2 - c1, 2 * np.sqrt(c1 * c2) * np.sin(turn / 2)
    light, chroma, hue = (l1 + l2) / 2, (c1 + c2) / 2, h1 + turn / 2
    t = 1 - 0.17 * np.cos(hue - math.radians(30)) + 0.24 * np.cos(2 * hue)
    t += 0.32 * np.cos(3 * hue + math.radians(6)) - 0.2 * np.cos(4 * hue - math.radians(63))
    sl = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    sc, sh = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    blue = np.radians(30 * np.exp(-((((np.degrees(hue) % 360) - 275) / 25) ** 2)))
    rt = -np.sin(2 * blue) * 2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    return np.sqrt((dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rt * dc / sc * dh / sh)


def test_the_colour_difference_of_this_test_agrees_with_published_values():
    """Three pairs of the data of Sharma, Wu & Dalal (2005), table 1."""
    pairs = [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ]
    for one, other, expected in pairs:
        got = ciede2000(np.array([one], float), np.array([other], float))[0]
        assert got == pytest.approx(expected, abs=1e-3)


STEP = 8  # colours are compared over eight intensities: a single one is lost in rounding to 8 bits


def unevenness(lab: np.ndarray) -> tuple[float, float]:
    """Largest over smallest step, in CIELAB's plain distance and in CIEDE2000."""
    plain = np.linalg.norm(lab[STEP:] - lab[:-STEP], axis=-1)
    modern = ciede2000(lab[STEP:], lab[:-STEP])
    return plain.max() / plain.min(), modern.max() / modern.min()


def arms(name: str) -> list[np.ndarray]:
    """The stretches of a map over which lightness has to rise: all of it, or each half from the end to the middle."""
    lab = cielab(COLORMAPS[name])
    if name not in DIVERGING:
        return [lab]
    halves = [lab[1:129], lab[:127:-1]]
    return halves if lab[128, 0] > 50 else [half[::-1] for half in halves]


@pytest.mark.parametrize("name", COLORMAPS)
def test_lightness_alone_orders_a_colormap(name):
    for lab in arms(name):
        assert (np.diff(lab[:, 0]) > 0).all()
        if name != "gray":  # gray is the intensity itself, near-linear by the making of sRGB
            straight = np.linspace(lab[0, 0], lab[-1, 0], len(lab))
            assert np.abs(lab[:, 0] - straight).max() < 0.5


@pytest.mark.parametrize("name", COLORMAPS)
def test_steps_of_a_colormap_are_even_to_the_eye(name):
    for lab in arms(name):
        plain, modern = unevenness(lab)
        assert plain < (1.9 if name == "gray" else 1.6) and modern < 2.6


def test_a_rainbow_fails_these_tests():
    t = np.linspace(0, 1, 256)[:, None]
    jet = np.clip(1.5 - np.abs(4 * t - [3, 2, 1]), 0, 1)
    lab = cielab(np.rint(255 * jet))
    assert not (np.diff(lab[:, 0]) > 0).all()
    assert unevenness(lab)[0] > 5 and unevenness(lab)[1] > 5


# Linear sRGB as seen without red- or green-sensitive cones (Vienot, Brettel & Mollon 1999)
BLIND = {
    "protanopia": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
    "deuteranopia": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
}


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.parametrize("name", COLORMAPS)
def test_a_colormap_keeps_its_order_for_the_colour_blind(name, kind):
    v = COLORMAPS[name] / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ BLIND[kind].T, 0, 1)
    srgb = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    light = cielab(255 * srgb)[:, 0]
    if name in DIVERGING:  # the two ends must differ in hue that is still seen
        low, high = cielab(255 * srgb[[1, 255]])
        assert np.linalg.norm(low - high) > 20
        steps = [np.diff(arm[::STEP]) for arm in (light[128::-1], light[128:])]
        assert all((step > 0).all() or (step < 0).all() for step in steps)
    else:
        assert (np.diff(light[::STEP]) > 0).all()


@pytest.mark.parametrize("name", sorted(DIVERGING))
def test_a_diverging_map_is_neutral_in_the_middle_and_as_light_on_both_sides(name):
    table = COLORMAPS[name]
    assert len(set(table[128].tolist())) == 1
    np.testing.assert_array_equal(table[0], table[1])
    light = cielab(table)[:, 0]
    np.testing.assert_allclose(light[1:129], light[:127:-1], atol=0.6)
    middle = cielab(table)[:, 1:]
    assert (np.linalg.norm(middle, axis=-1).argmin()) == 128


def test_colormaps_have_words_and_cannot_be_changed():
    assert set(COLORMAP_SUMMARIES) == set(COLORMAPS) and "inferno" in COLORMAPS
    assert {STYLES[s].own_colormap for s in STYLES} <= {None, *COLORMAPS}
    for table in COLORMAPS.values():
        assert table.shape == (256, 3) and table.dtype == np.uint8
        with pytest.raises(ValueError):
            table[0] = 1
    np.testing.assert_array_equal(COLORMAPS["gray"], np.arange(256)[:, None] * [1, 1, 1])


def test_a_style_takes_the_colormap_that_fits_it_and_no_other():
    viridis, diverging = Look(colormap="viridis"), Look(colormap="blue-black-orange")
    chosen = {style: [STYLES[style].colormap_for(look) for look in (viridis, diverging)] for style in CONTRACT}
    assert chosen == {
        "heatmap": ["viridis", "inferno"],
        "overlay": ["viridis", "inferno"],
        "signed": ["blue-white-red", "blue-black-orange"],
        "gray": [None, None],
        "rgb": [None, None],
    }
    for look in (viridis, diverging):
        for style in ("heatmap", "signed"):
            table = COLORMAPS[STYLES[style].colormap_for(look)]
            np.testing.assert_array_equal(draw(attribution(), style, look).palette, table)


# --------------------------------------------------------------------------------------------------------- overlay


def luma(image):
    return np.floor(image @ np.array([77, 150, 29]) / 256)[..., None].repeat(3, axis=-1)


def test_overlay_goes_from_the_image_alone_to_the_map_alone():
    heatmap = draw(attribution(), "heatmap")
    bare, full = (draw(attribution(), "overlay", Look(alpha=alpha)).pixels for alpha in (0, 1))
    np.testing.assert_array_equal(bare, luma(source()))
    np.testing.assert_array_equal(full, heatmap.palette[heatmap.pixels])


def test_overlay_keeps_the_image_where_there_is_nothing_and_the_map_where_it_is_strong():
    array = attribution()
    array[:8] = 0
    heatmap, overlay = draw(array, "heatmap"), draw(array, "overlay")
    nothing, strong = heatmap.pixels == 0, heatmap.pixels == 255
    assert nothing.any() and strong.any()
    np.testing.assert_allclose(overlay.pixels[nothing], 0.65 * luma(source())[nothing], atol=0.51)
    np.testing.assert_array_equal(overlay.pixels[strong], np.broadcast_to(heatmap.palette[255], (strong.sum(), 3)))
    assert overlay.scale == heatmap.scale
    assert len({tuple(p) for p in overlay.pixels[nothing]}) > 3  # the image is seen, not one dark colour


def test_the_colour_bar_of_an_overlay_is_what_it_looks_like_on_mid_gray():
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    picture = STYLES["overlay"].colour(ramp, np.full((1, 256, 3), 128, np.uint8), scale=(0.0, 1.0))
    np.testing.assert_array_equal(picture.legend, picture.pixels[0])


def test_overlay_of_nothing_is_the_image():
    picture = draw(np.zeros((24, 32, 3), np.float32), "overlay")
    assert picture.scale == (0, 0)
    np.testing.assert_allclose(picture.pixels, 0.65 * luma(source()), atol=0.51)


def test_overlay_refuses_an_image_of_another_size():
    for image in (source(24, 31), None):
        with pytest.raises(ValueError, match=r"overlay of \[24, 32\] needs the source image of that size"):
            STYLES["overlay"].colour(reduce(attribution(), "overlay"), image)


# ------------------------------------------------------------------------------------------------------------- look


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"colormap": "jet"}, r"--colormap: there is no 'jet'; choose one of inferno, "),
        ({"clip": 0}, r"--clip: 0 .* above 0 and up to 100"),
        ({"clip": 100.5}, r"--clip: 100.5 "),
        ({"clip": math.nan}, r"--clip: nan "),
        ({"alpha": -0.1}, r"--alpha: -0.1 .* from 0 to 1"),
        ({"alpha": 1.1}, r"--alpha: 1.1 "),
    ],
)
def test_a_look_that_cannot_be_is_refused_by_the_option_to_blame(wrong, words):
    with pytest.raises(UsageError, match=words):
        Look(**wrong)


@pytest.mark.parametrize("style", STYLES)
def test_drawing_changes_neither_the_attribution_nor_the_image(style):
    array, image = attribution(), source()
    array.flags.writeable = image.flags.writeable = False
    first, second = (draw(array, style, image=image) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert not np.shares_memory(first.pixels, array)


# ---------------------------------------------------------------------------------------------- files and golden pictures


@pytest.mark.parametrize("style", PALETTED)
def test_another_reader_gets_the_numbers_out_of_the_file(style, tmp_path):
    """Written as a paletted PNG, read with Pillow alone: the index is the intensity, the colour that of the map."""
    picture = draw(attribution(), style)
    image = Image.fromarray(picture.pixels).convert("P")
    image.putpalette(picture.palette.tobytes())
    image.save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as opened:
        assert opened.mode == "P"
        index, colours = np.asarray(opened), np.asarray(opened.convert("RGB"))
    field = reduce(attribution(), style).astype(np.float64)
    low, high = picture.scale
    clipped = np.clip(field, -high if low else 0, high)
    assert np.abs(read_back(index, (low, high)) - clipped).max() <= (high - low) / 255 * 0.501
    np.testing.assert_array_equal(colours, COLORMAPS[STYLES[style].colormap_for(Look()) or "gray"][index])


LOOKS = {
    "default": Look(),
    "viridis": Look(colormap="viridis", clip=90, alpha=0.25),
    "dark": Look(colormap="blue-black-orange", clip=100, alpha=0.8),
}


def golden(array: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Every style under three looks, its scale, and every colormap."""
    arrays = {f"colormap.{name}": table for name, table in COLORMAPS.items()}
    for style in STYLES:
        for name, look in LOOKS.items():
            picture = draw(array, style, look, image=image)
            arrays[f"{style}.{name}"] = picture.pixels
            arrays[f"{style}.{name}.scale"] = np.array(picture.scale)
    return arrays


def test_golden_pictures():
    """The attribution and the image are kept with the pictures, so that only render can change them.

    What was drawn when they were kept is drawn still, to the byte; a style that came later is kept with the next.
    """
    with np.load(GOLDEN) as kept:
        drawn = golden(kept["attribution"], kept["image"])
        names = set(kept.files) - {"attribution", "image"}
        assert names >= {f"{style}.{look}{part}" for style in CONTRACT for look in LOOKS for part in ("", ".scale")}
        assert names <= drawn.keys(), f"no longer drawn: {sorted(names - drawn.keys())}"
        for name in names:
            np.testing.assert_array_equal(drawn[name], kept[name], err_msg=name)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write-golden"]:
        sys.exit("usage: python tests/unit/draw/test_styles.py --write-golden")
    np.savez_compressed(GOLDEN, attribution=attribution(), image=source(), **golden(attribution(), source()))
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")
