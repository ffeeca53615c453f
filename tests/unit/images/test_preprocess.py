"""Pixel ranges, forward and back."""

from __future__ import annotations

import numpy as np
import pytest

from gradviz_cli.errors import UsageError
from gradviz_cli.images.preprocess import PREPROCESS, preset_of
from gradviz_cli.process.protocol import GIVEN, ModelOptions


def test_preprocess_by_hand():
    pixels = np.array([[[[0, 128, 255]]]], np.uint8)
    want = {
        "raw": [0, 128, 255],
        "unit": [0, 0.50196078, 1],
        "signed": [-1, 0.00392157, 1],
        "caffe": [255 - 103.939, 128 - 116.779, 0 - 123.68],
        "torch": [-0.485 / 0.229, (0.50196078 - 0.456) / 0.224, (1 - 0.406) / 0.225],
    }
    assert set(PREPROCESS) == set(want)
    for name, numbers in want.items():
        for given in (pixels, pixels.astype(np.float32)):
            got = PREPROCESS[name].to_model(given)
            assert got.dtype == np.float32 and np.allclose(got[0, 0, 0], numbers, atol=1e-5)


def test_gradient_comes_back_in_the_order_of_the_image():
    """Raise one channel of the image: the number that moves comes back in that channel of the gradient."""
    dark = np.full((1, 2, 2, 3), 100.0)
    for preset in PREPROCESS.values():
        for channel in range(3):
            light = dark.copy()
            light[..., channel] += 50
            moved = preset.to_image(preset.to_model(light) - preset.to_model(dark))
            assert (moved[..., channel] > 0).all() and np.abs(np.delete(moved, channel, -1)).max() == 0


@pytest.mark.parametrize("name", ["caffe", "torch"])
@pytest.mark.parametrize("channels", [1, 4])
def test_statistics_of_colours_need_colours(name, channels):
    with pytest.raises(UsageError, match=f"--preprocess {name} .* {channels}"):
        PREPROCESS[name].to_model(np.zeros((1, 2, 2, channels), np.uint8))


@pytest.mark.parametrize("channels", [1, 4])
def test_plain_ranges_take_any_channels(channels):
    for name in ("raw", "unit", "signed"):
        assert PREPROCESS[name].to_model(np.zeros((2, 3, 3, channels), np.uint8)).shape == (2, 3, 3, channels)


def given(pixel_range: tuple[float, float], **more):
    return preset_of(GIVEN, ModelOptions("m", pixel_range=pixel_range, **more))


def test_numbers_in_place_of_a_preset_by_hand():
    """Red 0, green 51, blue 255 mapped to -2..3: -2, -1, 3; less 1, 2, 3: -3, -3, 0; by 1, 2, 4: -3, -1.5, 0."""
    pixels = np.array([[[[0, 51, 255]]]], np.uint8)
    seen = given((-2, 3)).to_model(pixels)[0, 0, 0]
    assert seen.dtype == np.float32 and seen == pytest.approx([-2, -1, 3])
    assert given((-2, 3), mean=(1.0,)).to_model(pixels)[0, 0, 0] == pytest.approx([-3, -2, 2])
    statistics = {"mean": (1.0, 2.0, 3.0), "std": (1.0, 2.0, 4.0)}
    assert given((-2, 3), **statistics).to_model(pixels)[0, 0, 0] == pytest.approx([-3, -1.5, 0])
    turned = given((-2, 3), channel_order="bgr", **statistics)
    assert turned.to_model(pixels)[0, 0, 0] == pytest.approx([0, -1.5, -3])
    assert turned.to_image(np.array([1.0, 2.0, 3.0])).tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("name", "pixel_range", "more"),
    [
        ("raw", (0.0, 255.0), {}),
        ("unit", (0.0, 1.0), {}),
        ("signed", (-1.0, 1.0), {"channel_order": "rgb"}),
        ("caffe", (0.0, 255.0), {"mean": (123.68, 116.779, 103.939), "channel_order": "bgr"}),
        ("torch", (0.0, 1.0), {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}),
    ],
)
def test_a_preset_spelled_out_is_that_preset_bit_for_bit(name, pixel_range, more):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 3, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(given(pixel_range, **more).to_model(pixels), PREPROCESS[name].to_model(pixels))


def test_presets_are_what_they_were_bit_for_bit():
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 3, 3, 3)).astype(np.float32)
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    want = {
        "raw": pixels,
        "unit": pixels / np.float32(255),
        "signed": pixels / np.float32(127.5) - np.float32(1),
        "caffe": pixels[..., ::-1] - np.float32([103.939, 116.779, 123.68]),
        "torch": (pixels / np.float32(255) - mean) / deviation,
    }
    for name, numbers in want.items():
        np.testing.assert_array_equal(PREPROCESS[name].to_model(pixels), numbers)


def test_an_order_beside_what_was_found():
    found = preset_of("unit", ModelOptions("m", channel_order="bgr"))
    assert found.to_model(np.array([[[[0, 0, 255]]]], np.uint8))[0, 0, 0].tolist() == [1, 0, 0]
    assert preset_of("torch", ModelOptions("m")) is PREPROCESS["torch"]
    for name in (GIVEN, "fancy"):
        with pytest.raises(KeyError):
            preset_of(name, ModelOptions("m"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mean": (0.1, 0.2, 0.3)}, "--mean: it is of 3 channels, the model input has 1; give 1 number or 1"),
        ({"mean": (0.1,), "std": (0.1, 0.2)}, "--std: it is of 2 channels"),
        ({"channel_order": "bgr"}, "--channel-order: it is of 3 channels"),
    ],
)
def test_numbers_for_other_channels_than_the_model_has(more, said):
    with pytest.raises(UsageError, match=said):
        given((0.0, 1.0), **more).check(1)
    given((0.0, 1.0), mean=(0.5,), std=(0.5,)).check(1)
