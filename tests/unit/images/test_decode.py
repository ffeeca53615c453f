"""Decoding: the catalogue of odd images, three thousand mutants, limits, and what is global in Pillow."""

from __future__ import annotations

import errno
import io
import os
import struct
import threading
import time
import warnings
import zlib
from base64 import b85decode

import numpy as np
import odd_images
import pytest
from children import python
from mutants import mutant, with_sound_checksums
from odd_images import GRAY, HEIGHT, RGB, WIDTH, chunk, colour, exif, png, saved
from PIL import Image, ImageFile, features

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.images import jpeg2000
from gradviz_cli.images.decode import _check_size, decode, picture, upright

LIMITS = Limits()
KINDS = {"format", "truncated", "damaged", "too-large", "memory"}


# ---- the catalogue


def verdict(case: odd_images.Case) -> str:
    """Empty where the case ends as it should, else what is wrong."""
    try:
        image, _, notes = picture(read_bytes(case.path, LIMITS), LIMITS)
    except ImageError as error:
        if case.outcome != "failed" or error.kind not in case.kinds:
            return f"{error.kind}: {error.message}"
        if not error.message.isprintable() or " at 0x" in error.message or len(error.message) > 300:
            return f"message {error.message!r}"
        return ""
    if case.outcome != "drawn":
        return "drawn"
    if image.mode not in ("L", "RGB"):
        return f"mode {image.mode}"
    if len(notes) != len(case.said) or any(part not in note for part, note in zip(case.said, notes, strict=True)):
        return f"said {notes}"
    if case.twin is None:
        return ""
    got, want = colour(np.asarray(image)), colour(case.twin)
    if got.shape != want.shape:
        return f"shape {got.shape}, not {want.shape}"
    far = np.abs(got.astype(int) - want).max()
    return "" if far <= case.tolerance else f"differs by {far}"


def test_catalogue_is_wide(cases):
    names = [case.name for case in cases]
    assert len(set(names)) == len(names) >= 400
    assert len({case.path for case in cases}) == len(cases)
    assert sum(case.outcome == "failed" for case in cases) >= 150
    assert sum(case.twin is not None for case in cases) >= 200


def test_catalogue_ends_as_expected(cases, no_hang, capfd):
    open_before = len(os.listdir("/proc/self/fd"))
    wrong, slow = {}, {}
    for case in cases:
        start = time.monotonic()
        if said := verdict(case):
            wrong[case.name] = said
        if (took := time.monotonic() - start) > 3:
            slow[case.name] = took
    assert not wrong
    assert not slow
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert capfd.readouterr() == ("", "")


def test_an_image_that_pillow_has_opened_is_read_as_its_file(cases, no_hang):
    """Pillow alone has other pixels for some; it cannot open all of them."""
    seen, wrong = set(), []
    for case in cases:
        if case.outcome != "drawn" or case.twin is None or case.twin.size > 2**18 or case.name.startswith("cut-"):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = Image.open(case.path)
        except Exception:
            continue
        with image:
            shown = np.asarray(upright(image, LIMITS).image)
        if not np.array_equal(shown, np.asarray(decode(read_bytes(case.path, LIMITS), LIMITS))):
            wrong.append(case.name)
        seen.add(case.name)
    assert not wrong
    assert {"jpeg-cmyk-unmarked.jpg", "jpeg2000-12-bit.j2k", "pages-small-first.tif", "bmp-two-grays.bmp"} <= seen


def test_what_was_done_to_an_image_since_is_kept() -> None:
    image = Image.open(io.BytesIO(saved(RGB, "TIFF")))
    image.paste((1, 2, 3), (0, 0, *image.size))
    assert upright(image, LIMITS).image.getextrema() == ((1, 1), (2, 2), (3, 3))
    image = Image.open(io.BytesIO(saved(RGB, "TIFF", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))])))
    image.seek(1)
    assert upright(image, LIMITS).image.getextrema() == ((0, 0), (0, 0), (0, 0))


def test_inks_of_an_image_that_is_loaded(cases) -> None:
    (case,) = (case for case in cases if case.name == "jpeg-cmyk-unmarked.jpg")
    image = Image.open(case.path)
    image.load()
    assert np.abs(np.asarray(upright(image, LIMITS).image).astype(int) - case.twin).max() <= case.tolerance


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no JPEG 2000")
def test_a_bit_more_of_a_jpeg_2000_is_the_same_picture() -> None:
    """Of several tiles, and with loss too: 8 bits as 9 lie between 64 and 192."""
    for options in ({}, {"irreversible": True}, {"tile_size": (16, 16)}, {"no_jp2": True}):
        data = saved(RGB, "JPEG2000", **options)
        plain, wider = (
            np.asarray(Image.open(io.BytesIO(each))).astype(int) for each in (data, jpeg2000._a_bit_wider(data))
        )
        assert np.abs(wider - (plain + 129) // 2).max() <= 1, options


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no JPEG 2000")
def test_a_jpeg_2000_whose_white_cannot_be_told_from_black_is_refused() -> None:
    data = bytearray(b85decode(odd_images.TWELVE_BITS_LOSSY))
    style = data.index(b"\xff\x5c") + 4
    data[style] &= 31  # no guard bits
    with pytest.raises(ImageError, match="write it with 8 bits") as caught:
        jpeg2000._bright(bytes(data))
    assert caught.value.kind == "format"


@pytest.mark.parametrize(("depth", "colour_type"), [(2, 0), (8, 0), (16, 0), (8, 2), (16, 2)])
def test_a_clear_colour_is_clear_for_a_model_of_rgba(depth: int, colour_type: int) -> None:
    samples = (RGB if colour_type else GRAY).astype(np.uint32) * 257 >> (16 - depth)
    key = np.atleast_1d(samples[20, 30])
    clear = (samples.reshape(HEIGHT, WIDTH, -1) == key).all(2)
    data = png(samples, depth, colour_type, chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)))
    shown = np.asarray(decode(data, LIMITS, alpha=True))
    assert shown.shape == (HEIGHT, WIDTH, 4) and np.array_equal(shown[..., 3], np.where(clear, 0, 255))
    levels = np.rint(samples * (255 / (2**depth - 1))).astype(np.uint8)
    assert np.array_equal(shown[~clear][:, :3], colour(levels)[~clear])


def test_verdict_can_fail(cases):
    by_name = {case.name: case for case in cases}
    good, bad = by_name["png-rgb.png"], by_name["png-cut-60.png"]
    assert verdict(good) == verdict(bad) == ""
    assert verdict(odd_images.Case("x", bad.path, "drawn"))
    assert verdict(odd_images.Case("x", good.path, "failed", frozenset({"damaged"})))
    assert verdict(odd_images.Case("x", good.path, "drawn", twin=RGB[::-1]))


NOISE = """
import sys, contextlib, odd_images
from gradviz_cli.errors import ImageError
from gradviz_cli.images import decode as decode_module
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.images.decode import decode
if sys.argv[2] == "open":
    decode_module._no_stderr = contextlib.nullcontext
for case in odd_images.catalogue(sys.argv[1]):
    try:
        decode(read_bytes(case.path, Limits()), Limits())
    except ImageError:
        pass
"""


@pytest.mark.parametrize("stderr", ["held", "open"])
def test_decoders_are_silent(tmp_path, stderr):
    result = python(NOISE, str(tmp_path), stderr, flags=["-W", "always"])
    assert result.returncode == 0 and result.stdout == b""
    if stderr == "held":
        assert result.stderr == b""
    else:
        assert b"JPEG" in result.stderr  # libtiff speaks: the test above would see it


def test_silent_also_where_stderr_is_closed(tmp_path):
    code = "import os\nos.close(2)\nos.close(0)\n" + NOISE + "print('done', sys.stdin is None)"
    result = python(code, str(tmp_path), "held")
    assert result.returncode == 0 and result.stdout.startswith(b"done")


def test_silent_also_where_stderr_is_another(tmp_path):
    """What Pillow logs and warns of goes through `sys.stderr`, which need not be descriptor 2."""
    code = "import io, sys\nsys.stderr = io.StringIO()\n" + NOISE + "print(repr(sys.stderr.getvalue()))"
    result = python(code, str(tmp_path), "held", flags=["-W", "always"])
    assert result.stdout.strip() == b"''" and result.stderr == b""


# ---- mutants


def seeds() -> dict[str, bytes]:
    small = RGB[:24, :32]
    found = {form: saved(small, form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM")}
    found["png interlaced"] = odd_images.png(RGB[:24, :32], 8, 2, interlaced=True)
    found["jpeg with exif"] = saved(small, "JPEG", progressive=True, exif=exif(6))
    found["tiff deflate"] = saved(small, "TIFF", compression="tiff_adobe_deflate")
    found["tiff jpeg"] = saved(small, "TIFF", compression="jpeg")
    found["tiff float"] = odd_images.tiff(GRAY.shape, 32, 1, (GRAY / 255).astype("<f4").tobytes(), "<", 3)
    floats = odd_images.page((small / 255).astype("<f4"), t274=[6], t42113=b"-9999\0")
    found["tiff bands"] = odd_images.pages(odd_images.page(small[::4, ::4], t254=[1]), floats)
    for form, feature in (("WEBP", "webp"), ("JPEG2000", "jpg_2000")):
        if odd_images.features.check(feature):
            found[form] = saved(small, form)
    if "avif" in odd_images.features.modules and odd_images.features.check("avif"):
        found["AVIF"] = saved(small, "AVIF")
    return found


def test_three_thousand_mutants(no_hang, capfd):
    """Drawn, or one of the kinds: nothing else is raised, nothing printed, no limit overstepped."""
    random, originals = np.random.default_rng(20), seeds()
    limits, counts = Limits(max_pixels=1_000_000), dict.fromkeys(["drawn", *KINDS], 0)
    for number in range(3000):
        name = list(originals)[number % len(originals)]
        data = mutant(originals[name], random)
        if name.lower().startswith("png") and number % 3:
            data = with_sound_checksums(data)
        try:
            image = decode(data, limits)
        except ImageError as error:
            assert error.kind in KINDS and error.message.isprintable() and " at 0x" not in error.message
            counts[error.kind] += 1
        else:
            assert image.mode in ("L", "RGB") and image.width * image.height <= limits.max_pixels
            counts["drawn"] += 1
    assert min(counts["drawn"], counts["damaged"], counts["truncated"], counts["format"]) > 50
    assert capfd.readouterr() == ("", "")


# ---- limits, and what is global in Pillow


@pytest.mark.parametrize("size", [(8160, 6144), (8192, 6144), (8688, 5792), (8272, 6200)])
def test_a_camera_of_50_megapixels_is_below_the_limit(size: tuple[int, int]) -> None:
    _check_size(size, LIMITS)


@pytest.mark.parametrize(
    ("size", "said"),
    [((12000, 9000), "--max-pixels 108M"), ((16320, 12240), "--max-pixels 200M"), ((99999, 99999), "see --max-pixels")],
)
def test_one_of_more_says_what_lets_it_in(size: tuple[int, int], said: str) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        _check_size(size, LIMITS)
    assert caught.value.kind == "too-large"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM"])
def test_pixel_limit_is_exact(form):
    data = saved(RGB, form)
    assert decode(data, Limits(max_pixels=HEIGHT * WIDTH)).size == (WIDTH, HEIGHT)
    with pytest.raises(ImageError) as caught:
        decode(data, Limits(max_pixels=HEIGHT * WIDTH - 1))
    assert caught.value.kind == "too-large" and "--max-pixels 1M lets it in" in caught.value.message


def test_settings_of_the_process_do_not_matter_and_come_back(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        assert decode(saved(RGB, "PNG"), LIMITS).size == (WIDTH, HEIGHT)
        with pytest.raises(ImageError) as caught:
            decode(saved(RGB, "JPEG")[:-200], LIMITS)
        assert caught.value.kind == "truncated"
        assert warnings.filters == filters
    assert Image.MAX_IMAGE_PIXELS == 10 and ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_threads_share_the_decoder():
    data, found = saved(RGB, "TIFF", compression="tiff_lzw"), []
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)

    def work():
        found.extend(np.array_equal(decode(data, LIMITS), RGB) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 160
    assert before == Image.MAX_IMAGE_PIXELS and warnings.filters == filters


def test_no_other_plugin_is_asked():
    """Pillow would try all its plugins on a file that the first refuses; one of them starts Ghostscript."""
    code = """if True:
        import io, sys
        from PIL import Image
        from gradviz_cli.errors import ImageError
        from gradviz_cli.files.reading import Limits
        from gradviz_cli.images.decode import decode
        file = io.BytesIO()
        Image.new("RGB", (9, 9)).save(file, "PNG")
        decode(file.getvalue(), Limits())
        try:
            decode(b"GIF89a", Limits())
        except ImageError as error:
            print(error.kind)
        print([name for name in sys.modules if name in ("PIL.EpsImagePlugin", "PIL.TiffImagePlugin")])
    """
    assert python(code).stdout.split() == [b"damaged", b"[]"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "memory"),
        (Image.DecompressionBombError("Image size (9 pixels)"), "too-large"),
        (OSError("image file is truncated (3 bytes not processed)"), "truncated"),
        (OSError(errno.EIO, "I/O"), "damaged"),
        *[(kind("\x1b[31mred\nand more\x00"), "damaged") for kind in (ValueError, RuntimeError, SyntaxError)],
        *[(kind("x"), "damaged") for kind in (struct.error, zlib.error, KeyError, IndexError, OverflowError)],
        *[(kind(), "damaged") for kind in (EOFError, AssertionError, TypeError, RecursionError, ZeroDivisionError)],
    ],
    ids=repr,
)
def test_whatever_a_decoder_raises_is_an_image_error(monkeypatch, error, kind):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ImageError) as caught:
        decode(saved(RGB, "BMP"), LIMITS)
    assert caught.value.kind == kind and caught.value.message.isprintable()
    assert caught.value.__cause__ is error


def test_interrupt_is_not_an_image_error(monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(KeyboardInterrupt):
        decode(saved(RGB, "BMP"), LIMITS)


def test_message_says_what_the_file_is_instead():
    for data, word in (
        (b"%PDF-1.7", "PDF"),
        (b"<html>", "HTML"),
        (b"<?xml?><svg>", "SVG"),
        (b"PK\3\4", "ZIP"),
    ):
        with pytest.raises(ImageError, match=word) as caught:
            decode(data, LIMITS)
        assert caught.value.kind == "format" and "JPEG, PNG" in caught.value.message


def test_last_row_of_every_png_kind_is_counted():
    """Black rows are drawn, missing ones refused, whatever the depth, colour and number of chunks."""
    for depth, colour_type, channels in ((1, 0, 1), (4, 3, 1), (8, 0, 1), (8, 4, 2), (16, 2, 3), (8, 6, 4)):
        for interlaced in (False, True):
            black = np.zeros((9, 13, channels), int)
            plte = chunk(b"PLTE", bytes(48)) if colour_type == 3 else b""
            data = odd_images.png(black, depth, colour_type, plte, interlaced=interlaced)
            assert decode(data, LIMITS).size == (13, 9)
            head, tail = data.split(b"IDAT", 1)
            packed = zlib.decompress(tail[: int.from_bytes(head[-4:], "big")])
            short = zlib.compress(packed[:-1])
            pieces = [chunk(b"IDAT", short[i : i + 5]) for i in range(0, len(short), 5)]
            with pytest.raises(ImageError) as caught:
                decode(b"".join([head[:-4], *pieces, chunk(b"IEND")]), LIMITS)
            assert caught.value.kind == "truncated"
