"""HEIC, where its extra is installed: pixels, the turns that the file itself makes, what is cut off."""

from __future__ import annotations

import io

import numpy as np
import pytest
from odd_images import RGB, exif, stored
from PIL import Image

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits
from gradviz_cli.images.decode import picture

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")
LIMITS = Limits()


def heic(pixels: np.ndarray, orientation: int = 1) -> bytes:
    pillow_heif.register_heif_opener()
    image = Image.fromarray(pixels)
    image.info["exif"] = exif(orientation).tobytes()  # written as the turn of the file too
    file = io.BytesIO()
    image.save(file, "HEIF", quality=95, chroma=444)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_whatever_the_turn(orientation: int) -> None:
    image, size, notes = picture(heic(stored(RGB, orientation), orientation), LIMITS)
    assert size == RGB.shape[:2] and notes == ()
    assert np.abs(np.asarray(image).astype(int) - RGB).max() <= 8


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_cut_off(share: float) -> None:
    data = heic(RGB)
    with pytest.raises(ImageError) as caught:
        picture(data[: int(len(data) * share)], LIMITS)
    assert caught.value.kind == "truncated"


def test_the_limit_holds() -> None:
    with pytest.raises(ImageError) as caught:
        picture(heic(RGB), Limits(max_pixels=RGB.shape[0] * RGB.shape[1] - 1))
    assert caught.value.kind == "too-large"
