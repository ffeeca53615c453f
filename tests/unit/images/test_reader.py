"""What the process that decodes answers: pixels as the model input, the upright image, or a failure with its kind."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from odd_images import HEIGHT, RGB, WIDTH, exif, page, pages, saved, stored

from gradviz_cli.images import decode as decode_module
from gradviz_cli.images.reader import answer
from gradviz_cli.process.protocol import NUMBERS, Decode, Decoded, Failure, from_wire, to_wire

ASKED = Decode(10_000, 100_000, HEIGHT, WIDTH, 3, "stretch")


def asked(request: Decode, data: bytes) -> tuple[Decoded | Failure, tuple]:
    header, arrays = answer(to_wire(request), data)
    return from_wire(header, Decoded, Failure), arrays


def test_the_model_input_and_the_size_of_the_image() -> None:
    found, (fitted,) = asked(ASKED, saved(RGB, "PNG"))
    assert found == Decoded(HEIGHT, WIDTH) and np.array_equal(fitted, RGB)
    found, (fitted,) = asked(replace(ASKED, height=8, width=9, channels=1, fit="crop"), saved(RGB, "PNG"))
    assert found == Decoded(HEIGHT, WIDTH) and fitted.shape == (8, 9, 1) and fitted.dtype == np.uint8


def test_what_is_odd_about_the_pixels_is_said() -> None:
    assert asked(ASKED, saved(RGB, "PNG"))[0].notes == ()
    (note,) = asked(ASKED, saved(np.full_like(RGB, 7), "PNG"))[0].notes
    assert "one value" in note


def test_the_upright_image_in_colour_beside_it() -> None:
    gray = saved(RGB[..., 0], "PNG")
    found, (fitted, whole) = asked(replace(ASKED, height=5, width=5, pixels=True), gray)
    assert fitted.shape == (5, 5, 3) and np.array_equal(whole, np.dstack([RGB[..., 0]] * 3))
    turned = saved(stored(RGB, 6), "JPEG", quality=95, exif=exif(6))
    found, (_, whole) = asked(replace(ASKED, pixels=True), turned)
    assert found == Decoded(HEIGHT, WIDTH) and np.abs(whole.astype(int) - RGB).mean() < 6


@pytest.mark.parametrize(("pixels", "reduced"), [(False, True), (True, False)])
def test_fast_holds_only_where_the_image_itself_is_not_needed(monkeypatch, pixels: bool, reduced: bool) -> None:
    least = []
    real = decode_module.picture
    monkeypatch.setattr(decode_module, "picture", lambda *a: (least.append(a[2]), real(*a))[1])
    photo = np.tile(RGB, (8, 8, 1))
    request = replace(ASKED, max_pixels=10**6, height=30, width=50, pixels=pixels, fast=True)
    found, arrays = asked(request, saved(photo, "JPEG", quality=95))
    assert found == Decoded(8 * HEIGHT, 8 * WIDTH)  # in full, whatever was decoded
    assert least == [50 if reduced else None]
    assert arrays[0].shape == (30, 50, 3) and len(arrays) == 1 + pixels


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"%PDF-1.7", "format"),
        (saved(RGB, "PNG")[:-30], "truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged"),
        (saved(np.tile(RGB, (3, 3, 1)), "PNG"), "too-large"),
    ],
)
def test_a_failure_has_the_kind_of_the_image_error(data: bytes, kind: str) -> None:
    found, arrays = asked(ASKED, data)
    assert isinstance(found, Failure) and found.kind == kind and found.message and arrays == ()


def test_too_little_memory_is_a_failure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments) -> None:
        raise MemoryError

    monkeypatch.setattr(decode_module, "picture", none)
    found, arrays = asked(ASKED, saved(RGB, "PNG"))
    assert found == Failure("memory", "decoding needs more memory than there is") and arrays == ()


def test_a_file_of_numbers_comes_as_they_are_with_a_picture_to_show() -> None:
    numbers = np.random.default_rng(0).normal(size=(6, 7, 5)).astype(np.float32)
    file = io.BytesIO()
    np.save(file, numbers)
    request = replace(ASKED, height=6, width=7, channels=5, pixels=True)
    found, (fitted, shown) = asked(request, file.getvalue())
    assert found == Decoded(6, 7, NUMBERS) and np.array_equal(fitted, numbers)
    assert shown.shape == (6, 7, 3) and shown.dtype == np.uint8
    failure, _ = asked(request, saved(RGB, "PNG"))
    assert isinstance(failure, Failure) and failure.kind == "shape" and "[6, 7, 5]" in failure.message


def test_a_model_of_rgba_gets_the_alpha_of_the_file_and_an_opaque_one_where_there_is_none() -> None:
    rgba = np.dstack([RGB, np.arange(RGB.shape[0] * RGB.shape[1]).reshape(RGB.shape[:2]) % 256]).astype(np.uint8)
    request = replace(ASKED, channels=4, alpha=True)
    _, (fitted,) = asked(request, saved(rgba, "PNG"))
    assert np.array_equal(fitted, rgba)
    _, (fitted,) = asked(request, pages(page((rgba / 255).astype("<f4"), t338=[2])))
    assert np.array_equal(fitted, rgba)
    _, (fitted,) = asked(request, saved(RGB, "PNG"))
    assert np.array_equal(fitted, np.dstack([RGB, np.full(RGB.shape[:2], 255)]))
