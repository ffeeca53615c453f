"""PNG and .npy: written by hand, read by the standard and by Pillow; the text in a PNG, whatever the file."""

from __future__ import annotations

import io
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import odd_images
import pytest
from mutants import mutant, with_sound_checksums
from odd_images import GRAY, RGB, chunk, colour, saved
from PIL import Image, PngImagePlugin

from gradviz_cli.draw.png import _FILTERS, Rows, encode_npy, encode_png, read_text
from gradviz_cli.files.reading import Limits
from gradviz_cli.files.whole import write_whole
from gradviz_cli.images.decode import decode

LIMITS = Limits()


def rewrite(path: Path, data: bytes) -> None:
    """A new file each time: some file systems flush the disk when a file is emptied and written again."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)


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


def pieces(pixels: np.ndarray, rows: int, smooth: bool = True) -> Rows:
    return Rows(pixels.shape, lambda: (pixels[top : top + rows] for top in range(0, len(pixels), rows)), smooth)


def soft(height: int, width: int) -> np.ndarray:
    """A map that was enlarged."""
    noise = np.random.default_rng(17).integers(0, 256, (height // 10, width // 10), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("rows", [1, 7, 400])
@pytest.mark.parametrize("colours", [False, True])
def test_png_of_a_picture_that_comes_in_pieces(rows, colours):
    pixels = np.dstack([soft(130, 170), soft(130, 170)[::-1], soft(130, 170)[:, ::-1]]) if colours else soft(130, 170)
    given = pieces(pixels, rows)
    data = encode_png(given, None if colours else PALETTE, "{}")
    assert data == encode_png(given, None if colours else PALETTE, "{}")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels) and np.array_equal(given.whole(), pixels)
    assert np.array_equal(colour(np.asarray(decode(data, LIMITS))), pixels if colours else PALETTE[pixels])
    plain = encode_png(pixels, None if colours else PALETTE, "{}")  # in colours less those to the left, else as it is
    assert len(data) < (0.85 if colours else 0.75) * len(plain)


@pytest.mark.parametrize("taller", [True, False])
def test_png_of_the_map_of_a_large_photo(taller, monkeypatch):
    """Less the neighbour above, or to the left, where more of it lies between two values of the map."""
    monkeypatch.setattr("gradviz_cli.draw.png.LARGE", 130 * 1700)
    pixels = np.asarray(Image.fromarray(soft(130, 170)).resize((1700, 130), Image.Resampling.BICUBIC))
    pixels = pixels.T if taller else pixels
    given = Rows(pixels.shape, lambda: (pixels[top : top + 7] for top in range(0, len(pixels), 7)), True, taller)
    data = encode_png(given, PALETTE, "{}")
    rows = np.frombuffer(zlib.decompress(dict(chunks_of(data))[b"IDAT"]), np.uint8).reshape(len(pixels), -1)
    assert set(rows[:, 0]) == {2 if taller else 1}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    other = Rows(given.shape, given.bands, True, not taller)
    assert len(data) < 0.8 * min(len(encode_png(other, PALETTE, "{}")), len(encode_png(pixels, PALETTE, "{}")))


def test_a_part_of_noise_and_a_part_without_any():
    """Each is compressed in its way, and all is one stream: what repeats costs next to nothing beside noise."""
    noise = np.random.default_rng(18).integers(0, 256, (64, 1024), np.uint8)
    flat = np.full((640, 1024), 9, np.uint8)
    pixels = np.concatenate([flat, noise, flat, noise[::-1], flat])
    data = encode_png(pixels, PALETTE)
    assert np.array_equal(pixels_of(data), pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert len(data) < 2 * noise.size + 20_000


def test_the_filter_of_smooth_pictures_is_that_of_the_standard():
    """PNG, 9.4, in integers of any size, for every kind of neighbours."""
    random = np.random.default_rng(19)
    for top in (2, 4, 17, 256):
        here, left, above, corner = random.integers(0, top, (4, 40_000)).astype(np.uint8)
        a, b, c = (each.astype(int) for each in (left, above, corner))
        far = np.abs(np.stack([a, b, c]) - (a + b - c))
        nearest = np.choose(far.argmin(axis=0), [a, b, c])  # the first of those that are as near
        assert np.array_equal(_FILTERS[4](here, left, above, corner), ((here - nearest) % 256).astype(np.uint8))


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
