"""The room that reads, fits, encodes and writes pictures. The whole file takes about 10 s."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import odd_images
import pytest
from odd_images import GRAY, HEIGHT, RGB, WIDTH, chunk, exif, saved, stored
from PIL import Image, ImageFile, PngImagePlugin

from gradviz_cli.draw.png import encode_npy, encode_png, read_text
from gradviz_cli.errors import ExitCode, ImageError, OutputError, UsageError
from gradviz_cli.files.reading import Limits, _open_regular, read_bytes
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import _REMEDIES, TEMPORARY, sweep, write_whole
from gradviz_cli.images.decode import decode
from gradviz_cli.images.fit import FITS, PADDING, Geometry, fit, spread, unfit
from gradviz_cli.images.preprocess import PREPROCESS

LIMITS = Limits()
ROOT = Path(__file__).parents[2]
KINDS = {"format", "truncated", "damaged", "too-large", "memory"}


@pytest.fixture
def no_hang():
    """A test that blocks fails after 30 s."""

    def stop(*_):
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def python(code: str, *arguments, **options) -> subprocess.CompletedProcess:
    """Run `code` in a fresh Python that finds gradviz and the tests."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}{os.pathsep}{ROOT / 'tests' / 'cases'}",
    }
    environment |= options.pop("env", {})
    command = [sys.executable, *options.pop("flags", ()), "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, env=environment, **options)


def as_nobody(action) -> str:
    """What `action` returns in a child process that is not root."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writer, str(action()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def open_folder():
    """A folder that every user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="gradviz-tests-") as folder:
        os.chmod(folder, 0o755)
        yield folder


def rewrite(path: Path, data: bytes) -> None:
    """A new file each time: some file systems flush the disk when a file is emptied and written again."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


# ---- the catalogue


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[odd_images.Case]:
    return odd_images.catalogue(tmp_path_factory.mktemp("odd"))


def colour(pixels: np.ndarray) -> np.ndarray:
    return np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels


def verdict(case: odd_images.Case) -> str:
    """Empty where the case ends as it should, else what is wrong."""
    try:
        image = decode(read_bytes(case.path, LIMITS), LIMITS)
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
    for form, feature in (("WEBP", "webp"), ("JPEG2000", "jpg_2000")):
        if odd_images.features.check(feature):
            found[form] = saved(small, form)
    if "avif" in odd_images.features.modules and odd_images.features.check("avif"):
        found["AVIF"] = saved(small, "AVIF")
    return found


def mutant(data: bytes, random: np.random.Generator) -> bytes:
    """A few bytes replaced, flipped, removed or inserted, half of them near the start."""
    data = bytearray(data)
    for _ in range(random.integers(1, 6)):
        end = len(data) if random.random() < 0.5 else min(len(data), 200)
        at, how = int(random.integers(0, end)), random.integers(0, 4)
        if how == 0:
            data[at] = random.integers(0, 256)
        elif how == 1:
            data[at] ^= 1 << random.integers(0, 8)
        elif how == 2:
            del data[at : at + int(random.integers(1, 20))]
        else:
            data[at:at] = random.bytes(int(random.integers(1, 20)))
        if len(data) < 16:
            break
    return bytes(data)


def with_sound_checksums(data: bytes) -> bytes:
    """A PNG whose chunks carry the right CRC again, so that a mutant gets past it."""
    data, start = bytearray(data), 8
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            break
        data[end - 4 : end] = zlib.crc32(data[start + 4 : end - 4]).to_bytes(4, "big")
        start = end
    return bytes(data)


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


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM"])
def test_pixel_limit_is_exact(form):
    data = saved(RGB, form)
    assert decode(data, Limits(max_pixels=HEIGHT * WIDTH)).size == (WIDTH, HEIGHT)
    with pytest.raises(ImageError) as caught:
        decode(data, Limits(max_pixels=HEIGHT * WIDTH - 1))
    assert caught.value.kind == "too-large" and "--max-pixels" in caught.value.message


def test_file_limit_is_exact(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x" * 1000)
    assert read_bytes(path, Limits(max_file_size=1000)) == b"x" * 1000
    with pytest.raises(ImageError) as caught:
        read_bytes(path, Limits(max_file_size=999))
    assert caught.value.kind == "too-large" and "--max-file-size" in caught.value.message


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


# ---- reading


@pytest.mark.parametrize("name", ["nul\0byte.png", b"nul\0byte.png", "not-there", "x" * 256])
def test_names_that_cannot_exist_are_missing(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name if isinstance(name, bytes) else name.encode())
    for kind in (path, os.fsdecode(path)):
        with pytest.raises(ImageError) as caught:
            read_bytes(kind, LIMITS)
        assert caught.value.kind == "missing"


def test_fifo_that_takes_the_place_of_a_file(tmp_path, monkeypatch, no_hang):
    """The name changes hands between the look and the opening."""
    good, fifo = tmp_path / "good", tmp_path / "fifo"
    good.write_bytes(b"x")
    os.mkfifo(fifo)
    status = os.stat(good)
    monkeypatch.setattr(os, "stat", lambda *_: status)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ImageError) as caught:
        read_bytes(fifo, LIMITS)
    assert caught.value.kind == "not-a-file" and "FIFO" in caught.value.message
    assert len(os.listdir("/proc/self/fd")) == before


def test_fifo_is_not_touched(tmp_path, no_hang):
    """A writer that waits for a reader goes on waiting."""
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    for read in (lambda: read_bytes(fifo, LIMITS), lambda: read_text(fifo)):
        opened = threading.Event()

        def wait(opened=opened):
            os.close(os.open(fifo, os.O_WRONLY))
            opened.set()

        writer = threading.Thread(target=wait, daemon=True)
        writer.start()
        time.sleep(0.05)
        try:
            assert read() is None
        except ImageError as error:
            assert error.kind == "not-a-file"
        assert not opened.wait(0.05)
        os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))  # let the writer go
        writer.join(5)


def test_file_without_permission(open_folder):
    path = os.path.join(open_folder, "locked.png")
    Path(path).write_bytes(saved(RGB, "PNG"))
    os.chmod(path, 0)

    def read():
        try:
            return len(read_bytes(path, LIMITS))
        except ImageError as error:
            return f"{error.kind}: {error.message}"

    assert as_nobody(read) == "unreadable: cannot be opened: Permission denied"


def test_descriptors_are_closed_on_exec(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    fd, size = _open_regular(path)
    assert size == 1 and not os.get_inheritable(fd)
    os.close(fd)


# ---- geometry

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
    want = np.einsum("ai,bj,ijc->abc", rows, columns, pixels.astype(float))
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
    assert np.array_equal(fit(rgb, Geometry(*size, 4)), np.dstack([RGB, np.full(size, 255)]))
    luma = RGB @ np.array([0.299, 0.587, 0.114])
    assert np.abs(fit(rgb, Geometry(*size, 1))[..., 0] - luma).max() <= 1
    padded = fit(rgb, Geometry(90, 90, 4, "pad"))
    assert padded[0, 0].tolist() == [128, 128, 128, 255] and (padded[..., 3] == 255).all()


@pytest.mark.parametrize("wrong", [(0, 5), (5, 0), (-1, 5), (5, 5, 2), (5, 5, 3, "fill")])
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


# ---- pixel ranges


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


# ---- PNG

PALETTE = np.random.default_rng(11).integers(0, 256, (256, 3), np.uint8)
TEXTS = ["", '{"digest": "abc"}', "line\nline", "Größe 猫 📷", "caf\u00e9", "x" * 100_000]


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """A PNG taken apart by the standard: every CRC right, nothing left over."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        found.append((kind, body))
        at += 12 + length
    assert found[0][0] == b"IHDR" and found[-1] == (b"IEND", b"")
    return found


def pixels_of(data: bytes) -> np.ndarray:
    """The samples of a PNG of 8 bits, unfiltered by the standard (filters 0 and 1)."""
    parts = dict(chunks_of(data))
    width, height, depth, kind, *rest = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert depth == 8 and rest == [0, 0, 0]
    channels = {0: 1, 2: 3, 3: 1}[kind]
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    pixels = rows[:, 1:].reshape(height, width, channels).copy()
    for y in range(height):
        assert rows[y, 0] in (0, 1)
        if rows[y, 0] == 1:
            pixels[y] = np.cumsum(pixels[y].astype(int), axis=0) % 256
    return pixels[..., 0] if channels == 1 else pixels


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (37, 53)])
@pytest.mark.parametrize("kind", ["palette", "gray", "rgb"])
def test_png_by_hand_and_by_pillow(kind, size, text, tmp_path):
    shape = (*size, 3) if kind == "rgb" else size
    pixels = np.random.default_rng(12).integers(0, 256, shape, np.uint8)
    palette = PALETTE if kind == "palette" else None
    data = encode_png(pixels, palette, text)
    assert data == encode_png(pixels.copy(), palette, text)
    assert np.array_equal(pixels_of(data), pixels)
    order = [name for name, _ in chunks_of(data)]
    assert order == [
        b"IHDR",
        b"tEXt" if text.isascii() else b"iTXt",
        *[b"PLTE"] * (kind == "palette"),
        b"IDAT",
        b"IEND",
    ]

    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == {"palette": "P", "gray": "L", "rgb": "RGB"}[kind]
        assert image.text["gradviz"] == text  # known before the pixels are read
        assert np.array_equal(np.asarray(image), pixels)
        if kind == "palette":
            assert np.array_equal(np.array(image.getpalette()).reshape(-1, 3), PALETTE)
            assert np.array_equal(np.asarray(image.convert("RGB")), PALETTE[pixels])
    assert np.array_equal(
        colour(np.asarray(decode(data, LIMITS))), PALETTE[pixels] if kind == "palette" else colour(pixels)
    )

    path = tmp_path / "a.png"
    write_whole(path, data, sync=False)
    assert read_text(path) == text


def test_png_of_a_view_of_an_array():
    base = np.random.default_rng(13).integers(0, 256, (40, 60, 3), np.uint8)
    for view in (base[::2, ::-1], base.swapaxes(0, 1), base[..., 1], base[::-1, ::3, 0].T):
        assert np.array_equal(pixels_of(encode_png(view, None, "")), view)


def test_png_is_about_as_small_as_pillow_makes_it():
    noise = np.abs(np.random.default_rng(14).laplace(size=(480, 640)))
    pixels = np.rint(np.clip(noise / np.percentile(noise, 99), 0, 1) * 255).astype(np.uint8)
    ours = len(encode_png(pixels, PALETTE, ""))
    assert ours < 1.02 * len(saved(pixels, "PNG"))
    flat = encode_png(np.zeros((480, 640), np.uint8), PALETTE, "")
    assert len(flat) < 5000


@pytest.mark.parametrize(
    ("pixels", "palette", "text"),
    [
        (np.zeros((2, 2)), None, ""),
        (np.zeros((2, 2), np.float32), PALETTE, ""),
        (np.zeros((2, 2, 4), np.uint8), None, ""),
        (np.zeros((2, 2, 3), np.uint8), PALETTE, ""),
        (np.zeros((0, 2), np.uint8), None, ""),
        (np.zeros((2, 2), np.uint8), PALETTE[:9], ""),
        (np.zeros((2, 2), np.uint8), PALETTE.astype(int), ""),
        (np.zeros((2, 2), np.uint8), None, "a\0b"),
        (np.zeros((2, 2), np.uint8), None, "\udcff"),
    ],
)
def test_png_refuses_what_it_cannot_hold(pixels, palette, text):
    with pytest.raises(ValueError):
        encode_png(pixels, palette, text)


def test_text_is_none_for_anything_torn(tmp_path):
    whole = encode_png(np.arange(100, dtype=np.uint8).reshape(10, 10), PALETTE, '{"digest": "abc"}')
    path = tmp_path / "a.png"
    for end in range(len(whole)):
        rewrite(path, whole[:end])
        assert read_text(path) is None
    path.write_bytes(whole + b"\0")
    assert read_text(path) is None
    start = whole.index(b"gradviz")
    for at in range(start, start + len('gradviz0{"digest": "abc"}') + 4):
        rewrite(path, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert read_text(path) is None
    path.write_bytes(whole)
    assert read_text(path) == read_text(str(path)) == read_text(bytes(path)) == '{"digest": "abc"}'


def test_text_never_raises(tmp_path, no_hang):
    random = np.random.default_rng(15)
    originals = [encode_png(GRAY, PALETTE, text) for text in ("plain", "größer")]
    path, found = tmp_path / "a.png", 0
    for number in range(2000):
        data = mutant(originals[number % 2], random)
        rewrite(path, with_sound_checksums(data) if number % 3 else data)
        said = read_text(path)
        found += isinstance(said, str)
        assert said is None or isinstance(said, str)
    assert 50 < found < 1950


def test_text_of_other_files(tmp_path, cases, no_hang):
    allowed = {"png-text-ours.png": '{"digest": 1}'}
    for case in cases:
        assert read_text(case.path) == allowed.get(case.name)
    for path in ("", tmp_path / "nothing", "nul\0", tmp_path, "/dev/zero", "/dev/null", "/proc/self/mem"):
        assert read_text(path) is None


def test_text_behind_other_chunks(tmp_path):
    """Another program may have put chunks ahead of ours, or compressed it."""
    path, ours = tmp_path / "a.png", chunk(b"tEXt", b"gradviz\0here")
    for ahead, want in (
        ([chunk(b"tEXt", b"Software\0x"), chunk(b"abCd", bytes(300_000)), ours], "here"),
        ([chunk(b"iTXt", b"gradviz\0\0\0de\0Titel\0gr\xc3\xbcn")], "grün"),
        ([chunk(b"iTXt", b"gradviz\0\1\0\0\0" + zlib.compress(b"x"))], None),
        ([chunk(b"zTXt", b"gradviz\0\0" + zlib.compress(b"x"))], None),
        ([chunk(b"iTXt", b"gradviz\0\0\0no ends")], None),
        ([chunk(b"iTXt", b"gradviz\0\0\0\0\0\xff\xfe")], None),
        ([chunk(b"tEXt", b"gradviz\0" + bytes(2_000_000))], None),
        ([chunk(b"tEXt", b"gradviz2\0x")], None),
        ([chunk(b"tEXt", b"a\0b")] * 200 + [ours], None),
    ):
        path.write_bytes(odd_images.png(GRAY, 8, 0, *ahead))
        assert read_text(path) == want
    info = PngImagePlugin.PngInfo()
    info.add_text("gradviz", "by Pillow")
    Image.fromarray(RGB).save(path, pnginfo=info)
    assert read_text(path) == "by Pillow"


def test_text_is_read_fast(tmp_path):
    """A rerun looks at every output; 10 microseconds were measured, 300 leave room for a busy machine."""
    path = tmp_path / "a.png"
    write_whole(path, encode_png(np.zeros((480, 640), np.uint8), PALETTE, "x" * 1000), sync=False)
    times = []
    for _ in range(300):
        start = time.perf_counter()
        read_text(path)
        times.append(time.perf_counter() - start)
    assert sorted(times)[150] < 300e-6


def test_npy():
    numbers = np.random.default_rng(16).normal(size=(5, 4, 3))
    for array in (numbers, numbers.astype(">f4"), np.asfortranarray(numbers), numbers[::-1, ::2]):
        data = encode_npy(array)
        header = re.search(rb"\{.*\}", data).group()
        assert b"'<f4'" in header and b"'fortran_order': False" in header
        assert np.array_equal(np.load(io.BytesIO(data)), array.astype(np.float32))


# ---- writing

OLD = b"what was there before"


def listing(folder) -> list[bytes]:
    return sorted(os.listdir(os.fsencode(folder)))


@pytest.mark.parametrize(
    "name",
    [b"a.png", b"caf\xe9\xff.png", b"new\nline", b"-o.png", b"n" * 255, "猫".encode() * 85, b" ", b"~"],
    ids=range(8),
)
def test_write_whole(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    for data, sync in ((b"first", True), (b"", False), (b"x" * 3_000_000, True)):
        write_whole(path, data, sync=sync)
        assert Path(os.fsdecode(path)).read_bytes() == data
        assert listing(tmp_path) == [name]
    write_whole(os.fsdecode(path), b"as str")
    write_whole(Path(os.fsdecode(path)), b"as path")
    assert Path(os.fsdecode(path)).read_bytes() == b"as path"


def test_write_whole_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_whole("plain", b"1")
    write_whole(b"./dot", b"2")
    assert listing(tmp_path) == [b"dot", b"plain"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o000])
def test_mode_follows_the_umask(tmp_path, umask):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)
    path.chmod(0o600)
    before = os.umask(umask)
    try:
        write_whole(path, b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_link_is_replaced_not_followed(tmp_path):
    target, folder = tmp_path / "target", tmp_path / "folder"
    target.write_bytes(OLD)
    folder.mkdir()
    for to in (target, folder, tmp_path / "nothing"):
        link = tmp_path / "link.png"
        link.unlink(missing_ok=True)
        link.symlink_to(to)
        write_whole(link, b"new")
        assert link.read_bytes() == b"new" and not link.is_symlink()
    assert target.read_bytes() == OLD and listing(folder) == []
    assert listing(tmp_path) == [b"folder", b"link.png", b"target"]


def test_hard_link_keeps_its_content(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(OLD)
    os.link(first, second)
    write_whole(first, b"new")
    assert first.read_bytes() == b"new" and second.read_bytes() == OLD


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.mknod(path, stat.S_IFSOCK | 0o600)])
def test_what_is_no_file_stays(tmp_path, make, no_hang):
    path = tmp_path / "there.png"
    make(path)
    before = path.lstat()
    with pytest.raises(OutputError) as caught:
        write_whole(path, b"new")
    assert str(path) in caught.value.message and "move it away" in caught.value.remedy
    assert caught.value.code == ExitCode.OUTPUT
    assert path.lstat() == before and listing(tmp_path) == [b"there.png"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("gone/a.png", "the folder is gone"),
        ("file/a.png", "Not a directory"),
        ("n" * 256, "shorter name"),
        ("nul\0.png", "null"),
        ("/proc/a.png", "cannot be written"),
        ("/dev/null", "not a regular file"),
        ("new\nline/a.png", r"new\\nline"),
    ],
)
def test_where_nothing_can_be_written(tmp_path, name, word):
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(OutputError, match=word) as caught:
        write_whole(os.path.join(tmp_path, name), b"new")
    assert str(caught.value).isprintable()
    assert listing(tmp_path) == [b"file"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_failure_at_any_step_leaves_the_old_file(tmp_path, monkeypatch, call, number):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OutputError) as caught:
            write_whole(path, b"new")
    assert str(path) in caught.value.message and os.strerror(number) in caught.value.message
    assert caught.value.remedy and caught.value.code == 7
    assert path.read_bytes() == OLD and listing(tmp_path) == [b"a.png"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_interrupt_leaves_nothing(tmp_path, monkeypatch, stop, call):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)

    def fail(*_, **__):
        assert len(listing(tmp_path)) == 2  # the temporary is there
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(stop):
            write_whole(path, b"new")
    assert path.read_bytes() == OLD and listing(tmp_path) == [b"a.png"]


def test_file_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    said, replace, fsync = [], os.replace, os.fsync

    def note_replace(*names):
        said.append("rename")
        replace(*names)

    def note_fsync(fd):
        said.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"{os.fstat(fd).st_size} bytes")
        fsync(fd)

    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(os, "fsync", note_fsync)
    write_whole(tmp_path / "a", b"12345")
    write_whole(tmp_path / "b", b"12345", sync=False)
    assert said == ["5 bytes", "rename", "folder", "rename"]


def test_disk_full(tmp_path):
    """A limit on the size of files stops the writing half-way."""
    path = tmp_path / "a.png"
    path.write_bytes(OLD)
    code = """if True:
        import os, resource, sys
        from gradviz_cli.errors import OutputError
        from gradviz_cli.files.whole import write_whole
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_whole(sys.argv[1], bytes(1_000_000))
        except OutputError as error:
            print(error)
            sys.exit(error.code)
    """
    result = python(code, str(path))
    assert result.returncode == 7 and result.stderr == b""
    assert os.fsencode(path) in result.stdout and b"ulimit -f" in result.stdout
    assert path.read_bytes() == OLD and listing(tmp_path) == [b"a.png"]


def test_full_file_system(tmp_path):
    """A tmpfs of 64 kB, where this process may mount one."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("no right to mount")
    try:
        path = tmp_path / "a.png"
        path.write_bytes(OLD)
        with pytest.raises(OutputError, match="free some space"):
            write_whole(path, bytes(1_000_000))
        assert path.read_bytes() == OLD and listing(tmp_path) == [b"a.png"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_folder_without_permission(open_folder):
    path = os.path.join(open_folder, "a.png")
    Path(path).write_bytes(OLD)
    os.chmod(open_folder, 0o555)

    def write():
        try:
            write_whole(path, b"new")
            return "written"
        except OutputError as error:
            return error

    said = as_nobody(write)
    os.chmod(open_folder, 0o755)
    assert said == f"{path}: cannot be written: Permission denied; {_REMEDIES[errno.EACCES]}"
    assert Path(path).read_bytes() == OLD and listing(open_folder) == [b"a.png"]


def test_folder_that_may_be_written_but_not_read(open_folder):
    os.chmod(open_folder, 0o733)
    path = os.path.join(open_folder, "a.png")
    assert as_nobody(lambda: write_whole(path, b"new")) == "None"
    assert Path(path).read_bytes() == b"new"


def test_sigkill_at_any_moment(tmp_path):
    """The file is always one of the two whole ones, and the next run sweeps what is left."""
    path = tmp_path / "a.png"
    contents = (b"a" * 200_000, b"b" * 300_000)
    path.write_bytes(contents[0])
    random, left = np.random.default_rng(17), 0
    for _ in range(40):
        if (child := os.fork()) == 0:
            while True:
                for data in contents:
                    write_whole(path, data, sync=False)
        time.sleep(random.uniform(0.001, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert path.read_bytes() in contents
        left += sweep(tmp_path)
        assert listing(tmp_path) == [b"a.png"]
    assert left > 0


def test_sweep_takes_only_its_own(tmp_path):
    stale = f"{TEMPORARY}0123456789abcdef.tmp"
    keep = [
        "a.png",
        ".gradviz.lock",
        ".gradviz-notes.tmp",
        f"x{stale}",
        f"{stale}x",
        ".gradviz-0123456789ABCDEF.tmp",
    ]
    for name in (stale, f"{TEMPORARY}{'f' * 16}.tmp", *keep):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / stale).write_bytes(b"x")
    (tmp_path / f"{TEMPORARY}{'0' * 16}.tmp").mkdir()
    (tmp_path / f"{TEMPORARY}{'1' * 16}.tmp").symlink_to(tmp_path / "a.png")
    assert sweep(tmp_path) == 2
    assert sweep(os.fsencode(tmp_path)) == 0
    assert len(listing(tmp_path)) == len(keep) + 3 and (tmp_path / "below" / stale).exists()
    assert sweep(tmp_path / "nothing") == 0


# ---- names in messages


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.png", "plain name.png"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[31mred", r"\x1b[31mred"),
        (b"caf\xe9.png", r"caf\xe9.png"),
        ("caf\udce9.png", r"caf\xe9.png"),
        ("猫 café", "猫 café"),
        ("gpj\u202egnp", r"gpj\u202egnp"),
        ("a\u2028b\x85c\x7f", r"a\u2028b\x85c\x7f"),
        ("\ud800", r"\ud800"),
        (Path("a/b"), "a/b"),
        ("", ""),
    ],
)
def test_printable(name, shown):
    assert printable(name) == shown


def test_printable_takes_anything():
    random = np.random.default_rng(18)
    for _ in range(3000):
        raw = random.bytes(int(random.integers(0, 40)))
        wild = "".join(map(chr, random.integers(0, 0x110000, 9)))
        for name in (raw, os.fsdecode(raw), wild):
            shown = printable(name)
            assert shown.isprintable()
            shown.encode()
        assert printable(raw) == printable(os.fsdecode(raw))


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_printable_in_a_locale_without_unicode(locale):
    code = r"""if True:
        import sys
        from gradviz_cli.files.text import printable
        for name in ("\u732b\n.png", b"caf\xe9", "\udcff", "\ud800", sys.argv[1]):
            print(printable(name))
    """
    for strict in ({}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        result = python(code, "猫", env={"LC_ALL": locale, "LANG": locale, **strict})
        assert result.returncode == 0, result.stderr
        assert rb"\n.png" in result.stdout
        assert result.stdout.splitlines()[1] == rb"caf\xe9"
        if strict:
            assert result.stdout.isascii()
