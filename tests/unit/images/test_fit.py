"""An image brought to the model input, and a field laid back onto the image."""

from __future__ import annotations

import numpy as np
import pytest
from odd_images import GRAY, HEIGHT, RGB, WIDTH, exif, saved, stored
from PIL import Image

from gradviz_cli.files.reading import Limits
from gradviz_cli.images import enlarge
from gradviz_cli.images import fit as fitting
from gradviz_cli.images.decode import decode
from gradviz_cli.images.enlarge import Steps, are_sure
from gradviz_cli.images.fit import FITS, PADDING, Geometry, bands, bands_in_steps, fit, spread, unfit

LIMITS = Limits()
SIZES = [(40, 60), (60, 40), (50, 300), (300, 50), (64, 64), (48, 56), (7, 500), (1, 1), (1, 900), (33, 17)]


def triangle(before: int, after: int, start: int, length: int) -> np.ndarray:
    """[after, before]: weights of antialiased bilinear sampling of `length` samples from `start`."""
    scale = max(length / after, 1.0)
    centres = start + (np.arange(after) + 0.5) * length / after
    away = np.abs(np.arange(before) + 0.5 - centres[:, None]) / scale
    weights = np.maximum(1 - away, 0)
    weights[:, :start] = weights[:, start + length :] = 0  # what a crop cuts off has no say
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("mode", FITS)
@pytest.mark.parametrize("size", SIZES)
def test_fit_is_antialiased_bilinear(mode, size):
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (*size, 3), np.uint8)
    geometry = Geometry(48, 56, fit=mode)
    seen, shown = spread(geometry, size)
    got = fit(Image.fromarray(pixels), geometry)
    assert got.shape == (48, 56, 3) and got.dtype == np.uint8
    rows = triangle(size[0], shown.height, seen.top, seen.height)
    columns = triangle(size[1], shown.width, seen.left, seen.width)
    want = np.einsum("ai,bj,ijc->abc", rows, columns, pixels.astype(float), optimize=True)
    assert np.abs(got[shown.slices] - want).max() <= 1.6  # Pillow rounds between the two axes as well
    margin = np.ones((48, 56), bool)
    margin[shown.slices] = False
    assert (got[margin] == PADDING).all() and margin.any() == (shown[2:] != (48, 56))


@pytest.mark.parametrize("mode", FITS)
def test_right_size_is_not_resampled(mode):
    noise = np.random.default_rng(4).integers(0, 256, (48, 56, 3), np.uint8)
    assert np.array_equal(fit(Image.fromarray(noise), Geometry(48, 56, fit=mode)), noise)
    larger = np.random.default_rng(5).integers(0, 256, (48, 75, 3), np.uint8)
    cropped = fit(Image.fromarray(larger), Geometry(48, 56, fit="crop"))
    assert np.array_equal(cropped, larger[:, 9:65])
    padded = fit(Image.fromarray(noise), Geometry(48, 75, fit="pad"))
    assert np.array_equal(padded[:, 9:65], noise)


def test_channels():
    gray, rgb = Image.fromarray(GRAY), Image.fromarray(RGB)
    size = (HEIGHT, WIDTH)
    assert np.array_equal(fit(gray, Geometry(*size, 1))[..., 0], GRAY)
    assert np.array_equal(fit(gray, Geometry(*size, 3)), np.dstack([GRAY] * 3))
    assert np.array_equal(fit(rgb, Geometry(*size, 4, alpha=True)), np.dstack([RGB, np.full(size, 255)]))
    luma = RGB @ np.array([0.299, 0.587, 0.114])
    assert np.abs(fit(rgb, Geometry(*size, 1))[..., 0] - luma).max() <= 1
    padded = fit(rgb, Geometry(90, 90, 4, "pad", alpha=True))
    assert padded[0, 0].tolist() == [128, 128, 128, 255] and (padded[..., 3] == 255).all()


@pytest.mark.parametrize("wrong", [(0, 5), (5, 0), (-1, 5), (5, 5, 0), (5, 5, 3, "fill")])
def test_impossible_geometry(wrong):
    with pytest.raises(ValueError):
        Geometry(*wrong)


def test_spread_stays_inside():
    random = np.random.default_rng(6)
    for _ in range(3000):
        height, width, h, w = (int(2 ** random.uniform(0, 12)) for _ in range(4))
        for mode in FITS:
            seen, shown = spread(Geometry(h, w, fit=mode), (height, width))
            for box, (high, wide) in ((seen, (height, width)), (shown, (h, w))):
                assert box.top >= 0 and box.left >= 0 and box.height >= 1 and box.width >= 1
                assert box.top + box.height <= high and box.left + box.width <= wide
                assert abs(2 * box.top + box.height - high) <= 1 and abs(2 * box.left + box.width - wide) <= 1
            if mode == "crop":
                assert seen.height == height or seen.width == width
                wanted = h / w * seen.width if seen.height != height else seen.height
                assert abs(seen.height - max(wanted, 1)) <= 0.5001
            if mode == "pad":
                assert shown.height == h or shown.width == w


def spot(size: tuple[int, int], y: float, x: float, geometry: Geometry) -> np.ndarray:
    """A white blot on black, wide enough to survive the model's resolution; y and x in 0..1."""
    seen, shown = spread(geometry, size)
    ry, rx = (max(1.5, 2 * s / t) for s, t in ((seen.height, shown.height), (seen.width, shown.width)))
    rows, columns = np.mgrid[: size[0], : size[1]]
    inside = (np.abs(rows + 0.5 - y * size[0]) <= ry) & (np.abs(columns + 0.5 - x * size[1]) <= rx)
    return np.dstack([inside * np.uint8(255)] * 3)


def centre(field: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[: field.shape[0], : field.shape[1]] + 0.5
    return np.array([(field * rows).sum(), (field * columns).sum()]) / field.sum()


@pytest.mark.parametrize("mode", FITS)
@pytest.mark.parametrize("size", [(480, 640), (640, 480), (100, 400), (400, 100), (48, 56), (30, 40), (97, 61)])
def test_a_spot_lands_where_it_belongs(mode, size):
    geometry = Geometry(48, 56, fit=mode)
    seen, shown = spread(geometry, size)
    pitch = max(1.0, seen.height / shown.height, seen.width / shown.width)
    for y, x in ((0.5, 0.5), (0.45, 0.6), (0.3, 0.42), (0.62, 0.55), (0.15, 0.5), (0.5, 0.9), (0.1, 0.1)):
        source = spot(size, y, x, geometry)
        field = fit(Image.fromarray(source), geometry)[..., 0].astype(np.float32)
        field[field == PADDING] = 0 if mode == "pad" else PADDING
        back = unfit(field, geometry, size)
        assert back.shape == size and back.dtype == np.float32
        visible = source[seen.slices][..., 0]
        if visible.sum() == source[..., 0].sum():  # wholly inside of what the model sees
            assert np.abs(centre(back) - centre(source[..., 0])).max() <= 0.75 * pitch
            assert back[source[..., 0] > 0].mean() > 100 * (size[0] * size[1] > 2000)
        elif not visible.any():
            assert not back.any()
        outside = np.ones(size, bool)
        outside[seen.slices] = False
        assert not back[outside].any()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", FITS)
def test_a_spot_lands_upright(orientation, mode):
    """The file is stored turned; the map lies on the upright picture."""
    size, geometry = (120, 200), Geometry(48, 56, fit=mode)
    source = spot(size, 0.3, 0.58, geometry)
    data = saved(stored(source, orientation), "JPEG", quality=95, exif=exif(orientation))
    image = decode(data, LIMITS)
    assert image.size == (200, 120)
    field = fit(image, geometry)[..., 0].astype(np.float32)
    field[field < 140] = 0  # margins of `pad`, rings of JPEG
    back = unfit(field, geometry, (image.height, image.width))
    assert np.abs(centre(back) - centre(source[..., 0])).max() < 3


@pytest.mark.parametrize("mode", FITS)
@pytest.mark.parametrize("size", SIZES)
def test_unfit_stays_in_range(mode, size):
    geometry = Geometry(48, 56, fit=mode)
    random = np.random.default_rng(8)
    field = random.exponential(size=(48, 56, 2)).astype(np.float32)
    field[..., 1] -= 3
    back = unfit(field, geometry, size)
    assert back.shape == (*size, 2) and back.dtype == np.float32 and np.isfinite(back).all()
    seen, shown = spread(geometry, size)
    for k in range(2):
        part = field[shown.slices][..., k]
        assert part.min() <= back[seen.slices][..., k].min() and back[seen.slices][..., k].max() <= part.max()
        assert np.array_equal(back[..., k], unfit(field[..., k], geometry, size))
    outside = np.ones(size, bool)
    outside[seen.slices] = False
    assert not back[outside].any()
    assert outside.any() == ((seen.height, seen.width) != size)


def test_unfit_of_the_same_size_is_the_field():
    field = np.random.default_rng(9).normal(size=(48, 56, 3)).astype(np.float32)
    for mode in FITS:
        assert np.array_equal(unfit(field, Geometry(48, 56, fit=mode), (48, 56)), field)


def test_unfit_averages_on_the_way_down_and_is_smooth_on_the_way_up():
    field = np.random.default_rng(10).normal(size=(48, 56)).astype(np.float32)
    down = unfit(field, Geometry(48, 56), (24, 28))
    assert np.allclose(down, field.reshape(24, 2, 28, 2).mean((1, 3)), atol=1e-6)
    ramp = np.tile(np.arange(56, dtype=np.float32), (48, 1))
    up = unfit(ramp, Geometry(48, 56), (48, 56 * 4))
    want = (np.arange(56 * 4) + 0.5) / 4 - 0.5
    assert np.abs(up[20, 16:-16] - want[16:-16]).max() < 1e-4
    mixed = unfit(field, Geometry(48, 56), (24, 112))  # one axis down, the other up
    assert np.allclose(mixed.mean(1), field.reshape(24, 2, 56).mean((1, 2)), atol=0.05)
    assert np.array_equal(unfit(np.full((48, 56), 2.5, np.float32), Geometry(48, 56), (99, 11)), np.full((99, 11), 2.5))


def test_unfit_refuses_another_model_input():
    with pytest.raises(ValueError, match="48 x 56"):
        unfit(np.zeros((56, 48), np.float32), Geometry(48, 56), (10, 10))


def by_pillow(field: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> np.ndarray:
    """One plane laid onto an image by Pillow as a whole, one axis after the other."""
    seen, shown = spread(geometry, size)
    part, out = field[shown.slices], np.zeros(size, np.float32)
    image = Image.fromarray(np.ascontiguousarray(part))
    for wanted in ((seen.width, shown.height), (seen.width, seen.height)):
        grows = max(wanted[0] - image.width, wanted[1] - image.height) > 0
        image = image.resize(wanted, Image.Resampling.BICUBIC if grows else Image.Resampling.BOX)
    out[seen.slices] = np.clip(np.asarray(image), part.min(), part.max())
    return out


@pytest.mark.parametrize("mode", FITS)
@pytest.mark.parametrize("size", [(240, 320), (96, 112), (67, 500), (640, 40), (49, 56), (400, 8)])
def test_bands_are_the_rows_that_pillow_makes_of_the_whole(mode, size, monkeypatch):
    """To the last bit: a step of 2 ** -24 would change a pixel in every few pictures."""
    monkeypatch.setattr(fitting, "FEW", 0)
    monkeypatch.setattr(enlarge, "BAND", 4000)
    geometry, random = Geometry(48, 56, fit=mode), np.random.default_rng(12)
    for field in (random.normal(size=(48, 56, 3)), random.integers(0, 4, (48, 56, 3))):
        field = field.astype(np.float32)
        found = [band.copy() for band in bands(field[..., 0], geometry, size)]
        assert np.array_equal(np.concatenate(found), by_pillow(field[..., 0], geometry, size))
        planes = unfit(field, geometry, size)
        for k in range(3):
            assert np.array_equal(planes[..., k], by_pillow(field[..., k], geometry, size))


def test_a_large_photo_comes_in_bands():
    """As the sizes are, without which nothing would be won."""
    field = np.random.default_rng(13).normal(size=(48, 56)).astype(np.float32)
    found = [band.shape for band in bands(field, Geometry(48, 56), (1500, 2000))]
    assert max(height * width for height, width in found) <= 2**16
    assert sum(height for height, _ in found) == 1500


@pytest.mark.parametrize("mode", FITS)
@pytest.mark.parametrize("zero", [0, 128])
def test_bands_in_steps_are_the_steps_of_the_bands(mode, zero, monkeypatch):
    """Each byte: also where many numbers lie on the border between two steps, and where few are nowhere near the others."""
    monkeypatch.setattr(fitting, "FEW", 0)
    monkeypatch.setattr(enlarge, "BAND", 4000)
    geometry, random = Geometry(48, 56, fit=mode), np.random.default_rng(16)
    halves = random.integers(-1, 2, (6, 7, 3)).repeat(8, axis=0).repeat(8, axis=1)  # 1 of 2 is step 127.5, or 63.5
    lone = random.normal(size=(48, 56, 3)) ** 9
    for field, high in ((random.normal(size=(48, 56, 3)), 2.5), (halves, 2), (lone, np.abs(lone).max() / 60)):
        field, steps = field.astype(np.float32), Steps(float(np.float32(high)), zero)
        assert are_sure(steps, field)
        for size in ((400, 60), (67, 150)):
            for one in (field, field[..., 0]):
                found = np.concatenate(list(bands_in_steps(one, geometry, size, steps)))
                assert found.dtype == np.uint8 and np.array_equal(found, steps.of(unfit(one, geometry, size)))


@pytest.mark.parametrize("high", [0.0, 1e-40, 1e-3, 3e38])
def test_steps_of_a_scale_that_is_far_from_the_field(high, monkeypatch):
    monkeypatch.setattr(fitting, "FEW", 0)
    geometry, field = Geometry(8, 8), np.random.default_rng(21).normal(size=(8, 8)).astype(np.float32)
    for one in (field, field * np.float32(1e-40)):
        found = np.concatenate(list(bands_in_steps(one, geometry, (90, 70), Steps(high, 128))))
        assert np.array_equal(found, Steps(high, 128).of(unfit(one, geometry, (90, 70))))


def test_numbers_at_the_end_of_the_range_and_none_at_all(monkeypatch):
    monkeypatch.setattr(fitting, "FEW", 0)
    geometry, field = Geometry(4, 4), np.zeros((4, 4), np.float32)
    field[1:3, 1:3] = np.finfo(np.float32).max
    with np.errstate(invalid="ignore", over="ignore"):
        assert np.array_equal(unfit(field, geometry, (40, 40)), by_pillow(field, geometry, (40, 40)), equal_nan=True)
    wide = unfit(field.astype(np.float64) * 10, geometry, (40, 40))
    assert wide.dtype == np.float64 and wide.max() == 10 * field.astype(np.float64).max()
    field[0, 0] = np.nan
    assert np.isnan(unfit(field, geometry, (40, 40))).any()
