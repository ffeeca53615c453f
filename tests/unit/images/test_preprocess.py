"""Pixel ranges, forward and back."""

from __future__ import annotations

import numpy as np
import pytest

from gradviz_cli.errors import UsageError
from gradviz_cli.images.preprocess import PREPROCESS


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
