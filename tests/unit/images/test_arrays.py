"""Files of numbers as the model input: which shapes are understood, what is taken for pixels, what is refused."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy
from odd_images import RGB, page, pages, saved
from PIL import Image

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits
from gradviz_cli.images.arrays import check_picture, read_array
from gradviz_cli.images.fit import PADDING, Geometry, as_rgb, fit
from gradviz_cli.images.formats import array_form
from gradviz_cli.process.protocol import NUMBERS, PIXELS

LIMITS = Limits()
H, W, C = 8, 9, 5
NUMBERS_IN = np.random.default_rng(0).normal(size=(H, W, C)).astype(np.float32)
PLANES = Geometry(H, W, C)


def as_npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, array, version)
    return file.getvalue()


def as_npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        as_npy(NUMBERS_IN),
        as_npy(NUMBERS_IN[None]),
        as_npy(np.moveaxis(NUMBERS_IN, -1, 0)),
        as_npy(np.moveaxis(NUMBERS_IN, -1, 0)[None]),
        as_npy(np.asfortranarray(NUMBERS_IN)),
        as_npy(NUMBERS_IN.astype(">f8")),
        as_npy(NUMBERS_IN, (2, 0)),
        as_npz(image=NUMBERS_IN),
    ],
)
def test_numbers_are_given_as_they_are_in_any_order_of_their_axes(data: bytes) -> None:
    found = read_array(data, LIMITS, PLANES)
    assert found is not None and found.held == NUMBERS and found.fitted.dtype == np.float32
    assert np.array_equal(found.fitted, NUMBERS_IN) and np.array_equal(found.planes, NUMBERS_IN)


def test_a_single_plane() -> None:
    for array in (NUMBERS_IN[..., 0], NUMBERS_IN[None, ..., 0], NUMBERS_IN[..., :1], NUMBERS_IN[None, None, ..., 0]):
        found = read_array(as_npy(array), LIMITS, Geometry(H, W, 1))
        assert found is not None and np.array_equal(found.fitted[..., 0], NUMBERS_IN[..., 0])


def test_what_could_be_read_either_way_is_read_by_size_then_as_the_model_has_it() -> None:
    cube = np.arange(64.0).reshape(4, 4, 4)
    last, first = (read_array(as_npy(cube), LIMITS, Geometry(4, 4, 4, channels_first=one)) for one in (False, True))
    assert last is not None and np.array_equal(last.fitted, cube)
    assert first is not None and np.array_equal(first.fitted, np.moveaxis(cube, 0, -1))
    by_size = read_array(as_npy(np.arange(80.0).reshape(4, 5, 4)), LIMITS, Geometry(5, 4, 4))
    assert by_size is not None and np.array_equal(by_size.fitted, np.moveaxis(np.arange(80.0).reshape(4, 5, 4), 0, -1))


@pytest.mark.parametrize(
    ("numbers", "held"),
    [
        (np.array([0, 255], np.uint8), PIXELS),
        (np.array([0, 2], np.int64), PIXELS),
        (np.array([0, 0], np.uint8), PIXELS),
        (np.array([0, 1], np.uint8), NUMBERS),
        (np.array([False, True]), NUMBERS),
        (np.array([0, 256], np.uint16), NUMBERS),
        (np.array([-1, 255], np.int16), NUMBERS),
        (np.array([0.0, 255.0]), NUMBERS),
    ],
)
def test_pixels_are_whole_numbers_of_0_to_255_and_not_just_on_and_off(numbers: np.ndarray, held: str) -> None:
    array = np.resize(numbers, (H, W, C))
    found = read_array(as_npy(array), LIMITS, PLANES)
    assert found is not None and found.held == held and np.array_equal(found.fitted, array.astype(np.float32))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("array", [RGB, RGB[..., 0], RGB[..., :1], RGB.astype(np.int64)])
def test_a_picture_saved_as_numbers_is_that_picture(array: np.ndarray, channels: int) -> None:
    geometry = Geometry(20, 30, channels, "crop")
    picture = Image.fromarray(np.squeeze(array).astype(np.uint8))
    found = read_array(as_npy(array), LIMITS, geometry)
    assert found is not None and found.held == PIXELS and np.array_equal(found.fitted, fit(picture, geometry))


@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
def test_planes_are_fitted_each_as_a_picture_is(mode: str) -> None:
    planes = np.random.default_rng(1).integers(0, 256, (40, 60, 4), np.uint8)
    geometry = Geometry(24, 24, 4, mode)
    found = read_array(as_npy(planes), LIMITS, geometry)
    one_by_one = [fit(Image.fromarray(planes[..., k]), Geometry(24, 24, 1, mode)) for k in range(4)]
    assert found is not None and np.array_equal(found.fitted, np.concatenate(one_by_one, axis=-1))
    numbers = read_array(as_npy(planes / 1.0), LIMITS, geometry)
    inside = found.fitted != PADDING if mode == "pad" else np.ones(found.fitted.shape, bool)
    assert numbers is not None and np.abs(numbers.fitted - found.fitted)[inside].max() <= 1
    assert mode != "pad" or (numbers.fitted[0] == 0).all()  # no gray of 0..255 among other numbers


@pytest.mark.parametrize(
    ("data", "kind", "word"),
    [
        (as_npy(np.zeros((2, H, W, C))), "shape", r"\[2, 8, 9, 5\]; the model takes 5 channels.*\[8, 9, 5\]"),
        (as_npy(np.zeros((H, W, 4))), "shape", r"\[8, 9, 4\]"),
        (as_npy(np.zeros(7)), "shape", r"\[7\]"),
        (as_npy(np.full((H, W, C), np.nan)), "damaged", "not finite"),
        (as_npy(np.full((H, W, C), 1e300)), "damaged", "not finite"),
        (as_npy(np.zeros((H, W, C), complex)), "format", "complex128"),
        (as_npy(np.full((H, W, C), "a")), "format", "real numbers"),
        (as_npy(np.array([None, {}], object)), "format", "object"),
        (as_npy(np.zeros((H, W, C), "f4,f4")), "format", "real numbers"),
        (as_npy(np.zeros((0, W, C))), "format", r"\[0, 9, 5\] is no image"),
        (as_npy(np.zeros((1, 1, 1, 1, 1, 1))), "format", "is no image"),
        (as_npy(NUMBERS_IN)[:-1], "truncated", "360 numbers"),
        (as_npy(NUMBERS_IN)[:40], "damaged", "header"),
        (b"\x93NUMPY\x07\x00", "damaged", "header"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "damaged", "header"),
        (as_npz(a=NUMBERS_IN, b=NUMBERS_IN), "format", r"2 arrays \(a, b\)"),
        (as_npz(a=NUMBERS_IN)[:-30], "damaged", "unpacked"),
        (as_npy(np.zeros((200, 200, C))), "too-large", "--max-pixels"),
    ],
)
def test_what_is_no_image_of_this_model_is_refused(data: bytes, kind: str, word: str) -> None:
    with pytest.raises(ImageError, match=word) as caught:
        read_array(data, Limits(30_000), PLANES)
    assert caught.value.kind == kind


def test_an_archive_that_unpacks_to_more_than_a_file_may_hold_is_not_unpacked() -> None:
    with pytest.raises(ImageError, match="--max-file-size") as caught:
        read_array(as_npz(image=np.zeros((500, 500))), Limits(max_file_size=100_000), PLANES)
    assert caught.value.kind == "too-large"


def test_nothing_is_unpickled(tmp_path) -> None:
    class Canary:
        def __reduce__(self):
            return (tmp_path.joinpath("canary").write_text, ("sung",))

    data = io.BytesIO()
    np.save(data, np.array([Canary()], object), allow_pickle=True)
    with pytest.raises(ImageError, match="object"):
        read_array(data.getvalue(), LIMITS, PLANES)
    assert not tmp_path.joinpath("canary").exists()


def test_what_is_an_array_is_told_by_its_first_bytes() -> None:
    assert array_form(as_npy(NUMBERS_IN)) == "NPY" and array_form(as_npz(x=NUMBERS_IN)) == "NPZ"
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("notes.txt", "no array")
    assert array_form(other.getvalue()) is None and array_form(saved(RGB, "PNG")) is None
    assert read_array(saved(RGB, "PNG"), LIMITS, PLANES) is None


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        (Geometry(84, 84, 4), ("4 channels", "[84, 84, 4]", "--channel-order rgba")),
        (Geometry(8, 8, 119), ("119 channels", "[8, 8, 119]")),
        (Geometry(8, 8, 2), ("2 channels", "[8, 8, 2]")),
    ],
)
def test_no_plane_is_made_up_for_a_picture(geometry: Geometry, words: tuple[str, ...]) -> None:
    with pytest.raises(ImageError) as caught:
        check_picture(geometry)
    assert caught.value.kind == "shape" and all(word in caught.value.message for word in words)
    assert ("rgba" in caught.value.message) == (geometry.channels == 4)
    for one in (Geometry(8, 8, 1), Geometry(8, 8, 3), Geometry(8, 8, 4, alpha=True)):
        check_picture(one)


def test_a_picture_to_show_is_itself_or_the_mean_of_the_planes() -> None:
    assert np.array_equal(as_rgb(RGB), RGB) and np.array_equal(as_rgb(RGB[..., :1]), np.dstack([RGB[..., 0]] * 3))
    assert np.array_equal(as_rgb(np.dstack([RGB, RGB[..., 0]]), alpha=True), RGB)
    planes = np.zeros((1, 3, 2), np.float32)
    planes[0, :, 0] = [-3, 1, 5]  # means -1.5, 0.5, 2.5
    assert as_rgb(planes)[0, :, 0].tolist() == [0, 128, 255] and as_rgb(planes).shape == (1, 3, 3)
    assert (as_rgb(np.full((2, 2, 5), 7.5, np.float32)) == PADDING).all()


# ---- TIFFs of many bands or pages

BANDS = np.random.default_rng(3).normal(size=(H, W, C)).astype("<f4")


def bands(values: np.ndarray, **tags: list) -> bytes:
    count, bits = values.shape[2], values.dtype.itemsize * 8
    return pages(page(values, **{"t262": [1], "t277": [count], "t258": [bits] * count, **tags}))


@pytest.mark.parametrize(
    "data",
    [
        bands(BANDS),
        pages(*(page(BANDS[..., k : k + 1], t262=[1]) for k in range(C))),
        pages(
            *(page(BANDS[..., k : k + 1], t262=[1]) for k in range(C)), page(BANDS[::2, ::2, :1], t254=[1], t262=[1])
        ),
    ],
    ids=["bands", "pages", "pages and a small copy"],
)
def test_a_tiff_of_as_many_bands_or_pages_as_the_model_has_channels(data: bytes) -> None:
    found = read_array(data, LIMITS, PLANES)
    assert found is not None and found.held == NUMBERS and np.array_equal(found.fitted, BANDS)


def test_bands_of_levels_are_pixels() -> None:
    values = np.random.default_rng(4).integers(0, 256, (H, W, 4), np.uint8)
    found = read_array(bands(values), LIMITS, Geometry(H, W, 4))
    assert found is not None and found.held == PIXELS and np.array_equal(found.fitted, values)


@pytest.mark.parametrize(
    ("data", "kind", "word"),
    [
        (bands(BANDS[..., :4]), "shape", r"a TIFF of 4 band\(s\) in 1 page\(s\); the model takes 5 channels"),
        (pages(*(page(BANDS[..., :1], t262=[1]) for _ in range(3))), "shape", r"1 band\(s\) in 3 page\(s\)"),
        (bands(BANDS, t274=[6]), "format", "write it upright"),
        (b"II*\0\0\0\0\0", "shape", "is a picture; the model takes 5"),
    ],
)
def test_a_tiff_of_other_bands_is_refused(data: bytes, kind: str, word: str) -> None:
    with pytest.raises(ImageError, match=word) as caught:
        found = read_array(data, LIMITS, PLANES)
        assert found is None
        check_picture(PLANES)
    assert caught.value.kind in kind.split("|")


def test_a_model_of_pictures_gets_a_tiff_as_a_picture() -> None:
    assert read_array(bands(BANDS), LIMITS, Geometry(H, W, 3)) is None
    assert read_array(bands(BANDS[..., :4]), LIMITS, Geometry(H, W, 4, alpha=True)) is None
