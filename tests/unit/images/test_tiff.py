"""The directories of a TIFF, whatever its bytes are, and its bands as they are stored."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from mutants import mutant
from odd_images import GRAY, RGB, page, pages, saved, tiff

from gradviz_cli.errors import ImageError
from gradviz_cli.images.tiff import MOST_PAGES, Tag, no_data, photo, samples, starting_at
from gradviz_cli.images.tiff import pages as read_pages

FIVE = np.dstack([RGB, GRAY, GRAY // 2])


def only(data: bytes):
    (found,) = read_pages(data)
    return found


@pytest.mark.parametrize("kind", ["u1", "<u2", "<i2", "<u4", "<i4", "<u8", "<f2", "<f4", "<f8"])
@pytest.mark.parametrize("bands", [1, 2, 5])
def test_bands_come_as_they_are_stored(kind: str, bands: int) -> None:
    values = FIVE[..., :bands].astype(kind)
    data = pages(page(values, t262=[1], t277=[bands], t258=[values.itemsize * 8] * bands))
    found = samples(data, only(data), 10**6)
    assert found.dtype == values.dtype and np.array_equal(found, values)


def test_of_a_big_endian_file_and_of_a_big_one() -> None:
    data = tiff(FIVE.shape, 32, 1, FIVE.astype(">f4").tobytes(), ">", 3)
    assert np.array_equal(samples(data, only(data), 10**6), FIVE)
    data = saved(RGB, "TIFF", big_tiff=True)
    assert only(data).size == RGB.shape[:2] and np.array_equal(samples(data, only(data), 10**6), RGB)


def test_no_more_bytes_than_are_allowed() -> None:
    data = pages(page(FIVE.astype("<f8"), t262=[1]))
    assert samples(data, only(data), FIVE.size * 8).shape == FIVE.shape
    with pytest.raises(ImageError) as caught:
        samples(data, only(data), FIVE.size * 8 - 1)
    assert caught.value.kind == "too-large"


@pytest.mark.parametrize("wrong", [{"t258": [12] * 5}, {"t258": [8, 8, 8, 8, 16]}, {"t339": [6] * 5}, {"t259": [7]}])
def test_what_is_no_type_is_named(wrong: dict) -> None:
    data = pages(page(FIVE, **{"t262": [1], **wrong}))
    with pytest.raises(ImageError, match="a TIFF of 5 bands") as caught:
        samples(data, only(data), 10**6)
    assert caught.value.kind == "format"


def test_the_photo_can_be_made_the_first_page() -> None:
    small = page(RGB[::4, ::4], t254=[1])
    data = pages(small, page(RGB))
    found = read_pages(data)
    chosen = photo(found)
    assert chosen is found[1] and read_pages(starting_at(data, chosen))[0].size == RGB.shape[:2]


def test_a_chain_that_goes_round_ends_and_a_long_one_is_cut() -> None:
    data = pages(page(GRAY), page(GRAY))
    first = struct.unpack("<L", data[4:8])[0]
    (count,) = struct.unpack_from("<H", data, read_pages(data)[1].at)
    end = read_pages(data)[1].at + 2 + 12 * count
    assert len(read_pages(data[:end] + struct.pack("<L", first) + data[end + 4 :])) == 2
    assert len(read_pages(pages(*[page(GRAY[:2, :2])] * 300))) == MOST_PAGES


def test_any_bytes_have_pages_or_none() -> None:
    random, start = np.random.default_rng(5), time.monotonic()
    original = pages(page(RGB[::4, ::4], t254=[1], t271=b"NIKON\0"), below=(page(RGB),))
    for _ in range(500):
        data = mutant(original, random)
        found = read_pages(data)
        assert len(found) <= MOST_PAGES
        try:
            photo(found)
        except ImageError as error:
            assert error.kind == "format" and error.message.isprintable()
    assert time.monotonic() - start < 5


def test_a_maker_of_any_origin_is_printable() -> None:
    with pytest.raises(ImageError, match="a raw photo") as caught:
        photo(read_pages(pages(page(RGB, t254=[1], t271=b"\x1b[31m\n\xff" * 99))))
    assert caught.value.message.isprintable() and len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("text", "value"),
    [("-9999", -9999.0), (" 0 ", 0.0), ("1e20\0", 1e20), ("nothing", None), ("", None), (b"7\0", 7.0)],
)
def test_the_value_of_no_data(text: str | bytes, value: float | None) -> None:
    assert no_data({Tag.NO_DATA: text}) == value
    assert np.isnan(no_data({Tag.NO_DATA: "nan"})) and no_data({}) is None
