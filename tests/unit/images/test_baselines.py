"""What stands for an absent image."""

from __future__ import annotations

import numpy as np
import pytest

from gradviz_cli.images.baselines import BASELINES, BLURRED

IMAGE = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)


def test_a_colour_everywhere() -> None:
    mean = BASELINES["mean"](IMAGE)
    assert np.allclose(mean, IMAGE.reshape(-1, 3).mean(0), rtol=1e-6)
    assert not BASELINES["black"](IMAGE).any() and (BASELINES["white"](IMAGE) == 255).all()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("image", [IMAGE, IMAGE.astype(np.float32)[..., :1]])
def test_it_has_the_shape_of_the_image(name: str, image: np.ndarray) -> None:
    found = BASELINES[name](image)
    assert found.shape == image.shape and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 255


def test_a_blur_is_a_gaussian_one() -> None:
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 50] = 255
    deviation = BLURRED * 101
    found = BASELINES["blur"](image)[..., 0]
    apart = np.arange(101) - 50
    assert found.argmax() == 50 * 101 + 50
    assert np.sqrt((found.sum(0) * apart**2).sum() / found.sum()) == pytest.approx(deviation, rel=0.01)
    flat = np.full((9, 7, 3), 13, np.uint8)
    assert np.allclose(BASELINES["blur"](flat), 13)
