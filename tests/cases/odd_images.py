"""A catalogue of odd and hostile images, names and file types, each with the expected outcome.

It is as long as there are oddities, chapter by chapter. `catalogue(folder)` writes them all (about 3 MB, under
2 s) and says what must become of each; `python odd_images.py FOLDER` does the same from a shell. What Pillow cannot write is written here by hand, so that
the expectation does not come from the library that is under test. Nothing but Pillow and NumPy is needed.
"""

from __future__ import annotations

import base64
import gzip
import io
import os
import pickle
import stat
import struct
import sys
import warnings
import zipfile
import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, features


@dataclass(frozen=True)
class Case:
    """One path and what must become of it under the default limits.

    Attributes
    ----------
    name : str
        ASCII, unique: the test id.
    path : bytes
        Absolute where `folder` was; the last part may hold any byte but `/` and NUL.
    outcome : str
        `drawn` or `failed`.
    kinds : frozenset of str
        `failed`: what `ImageError.kind` may be.
    twin : numpy.ndarray or None
        `drawn`: the upright pixels, uint8 [h, w] or [h, w, 3], where they are known.
    tolerance : int
        Largest difference from the twin in any channel of any pixel (lossy formats, conversions).
    said : tuple of str
        `drawn`: a part of each line that is said of the image, in order; none but these.
    """

    name: str
    path: bytes
    outcome: str
    kinds: frozenset = frozenset()
    twin: np.ndarray | None = field(default=None, compare=False)
    tolerance: int = 0
    said: tuple[str, ...] = ()


def scene(height: int = 40, width: int = 60) -> np.ndarray:
    """uint8 [h, w, 3]: smooth, so that lossy formats stay close, and different in each corner."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    blob = np.exp(-((x - 0.2) ** 2 + (y - 0.7) ** 2) / 0.05)
    return np.rint(np.stack([20 + 215 * x, 20 + 215 * y, 30 + 200 * blob], -1)).astype(np.uint8)


RGB = scene()
GRAY = RGB[..., 0] // 2 + RGB[..., 1] // 2
HEIGHT, WIDTH = GRAY.shape
WHITE = 255


def colour(pixels: np.ndarray) -> np.ndarray:
    """[h, w] or [h, w, 3] -> [h, w, 3]."""
    return np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels


def catalogue(folder: str | bytes | os.PathLike) -> list[Case]:
    """Write every case below `folder` (which is made) and return them.

    Left out, as they cannot be made: AVIF, WebP and JPEG 2000 where Pillow lacks them, the unreadable file
    under root, names that the file system refuses.
    """
    shelf = _Shelf(os.fsencode(os.path.abspath(folder)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for chapter in (
            _png,
            _png_transparency,
            _png_broken,
            _jpeg,
            _webp,
            _gif,
            _bmp,
            _tiff,
            _tiff_numbers,
            _tiff_pages,
            _tiff_bands,
            _tiff_transparency,
            _tiff_layouts,
            _no_data,
            _fewer_bits,
            _raw_photos,
            _ppm,
            _jpeg2000,
            _avif,
            _orientation,
            _orientation_in_xmp,
            _cut_jpegs,
            _invisible,
            _sizes,
            _bombs,
            _no_images,
            _file_types,
            _names,
        ):
            chapter(shelf)
    return shelf.cases


class _Shelf:
    """Collects the cases while their files are written."""

    def __init__(self, folder: bytes):
        self.folder, self.cases = folder, []
        os.makedirs(folder, exist_ok=True)

    def path(self, name: str | bytes) -> bytes:
        return os.path.join(self.folder, name if isinstance(name, bytes) else name.encode())

    def write(self, name: str | bytes, data: bytes) -> bytes:
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def drawn(
        self, name: str, data: bytes, twin: np.ndarray | None = None, tolerance: int = 0, said: tuple[str, ...] = ()
    ) -> None:
        assert twin is None or twin.dtype == np.uint8, name
        self.cases.append(Case(name, self.write(name, data), "drawn", frozenset(), twin, tolerance, said))

    def failed(self, name: str, data: bytes, *kinds: str) -> None:
        self.cases.append(Case(name, self.write(name, data), "failed", frozenset(kinds)))

    def path_drawn(self, name: str, path: bytes, twin: np.ndarray | None) -> None:
        self.cases.append(Case(name, path, "drawn", twin=twin))

    def path_failed(self, name: str, path: bytes, *kinds: str) -> None:
        self.cases.append(Case(name, path, "failed", frozenset(kinds)))

    def cut(self, stem: str, extension: str, data: bytes, shares: tuple[float, ...], *kinds: str) -> None:
        """The same file, cut off after some shares of its bytes (negative: bytes before the end)."""
        for share in shares:
            end = int(len(data) * share) if 0 < share < 1 else int(share)
            self.failed(f"{stem}-cut-{share}{extension}", data[:end], *kinds)


# ---- writers


def saved(pixels: np.ndarray | Image.Image, form: str, **options) -> bytes:
    """By Pillow."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


PNG = b"\x89PNG\r\n\x1a\n"
_ADAM7 = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def packed(samples: np.ndarray, depth: int) -> np.ndarray:
    """Samples [h, w] or [h, w, c] -> bytes of the rows, most significant bit first."""
    rows = samples.reshape(len(samples), -1).astype(np.uint32)
    bits = rows[..., None] >> np.arange(depth - 1, -1, -1) & 1
    return np.packbits(bits.reshape(len(rows), -1).astype(np.uint8), axis=1)


def scanlines(samples: np.ndarray, depth: int) -> bytes:
    rows = packed(samples, depth)
    return np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], 1).tobytes()


def png(
    samples: np.ndarray,
    depth: int,
    colour: int,
    *ahead: bytes,
    interlaced: bool = False,
    behind: tuple[bytes, ...] = (),
) -> bytes:
    """A PNG by hand; `ahead` are chunks ahead of the pixels, `behind` those after."""
    if interlaced:
        passes = [samples[y::dy, x::dx] for y, dy, x, dx in _ADAM7]
        body = b"".join(scanlines(part, depth) for part in passes if part.size)
    else:
        body = scanlines(samples, depth)
    head = header(samples.shape[1], samples.shape[0], depth, colour, int(interlaced))
    parts = [PNG, head, *ahead, chunk(b"IDAT", zlib.compress(body)), *behind, chunk(b"IEND")]
    return b"".join(parts)


def tiff(
    shape: tuple[int, ...],
    bits: int,
    photometric: int,
    body: bytes,
    order: str = "<",
    samples_format: int = 1,
    **tags: list[int],
) -> bytes:
    """An uncompressed TIFF of one strip by hand; `tags` are more short numbers, named `t338` and so on."""
    channels = shape[2] if len(shape) > 2 else 1
    entries = {
        256: ("L", [shape[1]]),
        257: ("L", [shape[0]]),
        258: ("H", [bits] * channels),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("L", [0]),
        277: ("H", [channels]),
        278: ("L", [shape[0]]),
        279: ("L", [len(body)]),
        339: ("H", [samples_format] * channels),
        **{int(name[1:]): ("H", values) for name, values in tags.items()},
    }
    far = 8 + 2 + 12 * len(entries) + 4  # where values that do not fit into an entry go
    directory, extra = struct.pack(order + "H", len(entries)), b""
    strip_at = far + sum(2 * len(v) for t, v in entries.values() if t == "H" and len(v) > 2)
    for tag, (kind, values) in sorted(entries.items()):
        values = [strip_at] if tag == 273 else values
        data = struct.pack(order + kind * len(values), *values)
        if len(data) > 4:
            data, extra = struct.pack(order + "L", far + len(extra)), extra + data
        directory += struct.pack(order + "HHL", tag, {"H": 3, "L": 4}[kind], len(values)) + data.ljust(4, b"\0")
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, 8)
    return start + directory + b"\0\0\0\0" + extra + body


def bmp(width: int, height: int, bits: int, compression: int, palette: bytes, body: bytes) -> bytes:
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 2835, 2835, len(palette) // 4, 0
    )
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + palette + body


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(float) / 255
    share = share[..., None] if pixels.ndim == 3 else share
    return np.rint(pixels * share + WHITE * (1 - share)).astype(np.uint8)


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels as they lie in a file of this EXIF orientation, by the definition in the standard."""
    turned = upright.swapaxes(0, 1) if orientation > 4 else upright
    rows, columns = {
        1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1),
    }[orientation]  # fmt: skip
    return np.ascontiguousarray(turned[::rows, ::columns])


def exif(orientation: int) -> Image.Exif:
    values = Image.Exif()
    values[0x0112] = orientation
    return values


# ---- chapters

ALPHA = np.broadcast_to(np.linspace(0, 255, WIDTH).astype(np.uint8), GRAY.shape)
RGBA = np.dstack([RGB, ALPHA])
RAMP = np.dstack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2])[0].astype(np.uint8)  # a palette
WIDE = GRAY.astype(np.uint32) * 257  # 16 bits
# What is said of images that may not be the ones that are meant.
FLAT, FEW, CUT = "all its pixels have one value", "only a handful", "the JPEG ends too early"
NEUTRAL = 128  # where there are no data


def film() -> dict:
    """Options of `save` for a second, black frame; a new one each time, as saving leaves marks on it."""
    return {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT), "black")]}


def _png(shelf: _Shelf) -> None:
    shelf.drawn("png-rgb.png", saved(RGB, "PNG"), RGB)
    shelf.drawn("png-gray.png", saved(GRAY, "PNG"), GRAY)
    plte = chunk(b"PLTE", RAMP.tobytes())
    for depth in (1, 2, 4):
        levels = GRAY >> (8 - depth)
        shown = (levels * (255 // (2**depth - 1))).astype(np.uint8)
        shelf.drawn(f"png-gray-{depth}-bit.png", png(levels, depth, 0), shown)
        shelf.drawn(f"png-palette-{depth}-bit.png", png(levels, depth, 3, plte), RAMP[levels])
    shelf.drawn("png-palette.png", png(GRAY, 8, 3, plte), RAMP[GRAY])
    short = chunk(b"PLTE", RAMP[:100].tobytes())
    shelf.drawn("png-palette-short.png", png(GRAY % 100, 8, 3, short), RAMP[GRAY % 100])
    shelf.drawn("png-gray-16-bit.png", png(WIDE, 16, 0), GRAY)
    odd = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 27 % 65536
    shelf.drawn("png-gray-16-bit-odd.png", png(odd, 16, 0), np.rint(odd / 257).astype(np.uint8))
    dark = np.full((8, 8), 255)
    shelf.drawn("png-gray-16-bit-dark.png", png(dark, 16, 0), np.ones((8, 8), np.uint8))
    shelf.drawn("png-rgb-16-bit.png", png(RGB.astype(np.uint32) * 257, 16, 2), RGB)
    for name, samples, depth, colour, twin in (
        ("gray", GRAY, 8, 0, GRAY),
        ("gray-1-bit", GRAY >> 7, 1, 0, (GRAY >> 7) * np.uint8(255)),
        ("gray-16-bit", WIDE, 16, 0, GRAY),
        ("rgb", RGB, 8, 2, RGB),
        ("rgba", np.dstack([RGB, ALPHA * 0 + 255]), 8, 6, RGB),
    ):
        shelf.drawn(f"png-interlaced-{name}.png", png(samples, depth, colour, interlaced=True), twin)
    for height, width in ((1, 1), (1, 5), (5, 1), (3, 3)):
        name = f"png-interlaced-{height}x{width}.png"
        shelf.drawn(name, png(RGB[:height, :width], 8, 2, interlaced=True), RGB[:height, :width])
    shelf.drawn("png-animated.png", saved(RGB, "PNG", **film()), RGB)
    apart = saved(RGB, "PNG", default_image=True, **film())
    shelf.drawn("png-animated-default-image.png", apart, RGB)
    gamma = chunk(b"gAMA", struct.pack(">I", 100000))
    shelf.drawn("png-gamma.png", png(RGB, 8, 2, gamma), RGB)
    shelf.drawn("png-srgb.png", png(RGB, 8, 2, chunk(b"sRGB", b"\0")), RGB)
    shelf.drawn("png-profile.png", png(RGB, 8, 2, chunk(b"iCCP", b"x\0\0" + zlib.compress(_profile()))), RGB)
    shelf.drawn("png-profile-garbage.png", png(RGB, 8, 2, chunk(b"iCCP", b"x\0\0garbage")), RGB)
    shelf.drawn("png-trailing-bytes.png", saved(RGB, "PNG") + b"PK\x03\x04 and more", RGB)
    shelf.drawn("png-unknown-chunk.png", png(RGB, 8, 2, chunk(b"abCd", b"x" * 70000)), RGB)
    body = zlib.compress(scanlines(RGB, 8))
    parts = [chunk(b"IDAT", body[i : i + 1]) + chunk(b"IDAT") for i in range(len(body))]
    shelf.drawn("png-pixels-in-pieces.png", PNG + header(WIDTH, HEIGHT) + b"".join(parts) + chunk(b"IEND"), RGB)
    more = zlib.compress(scanlines(RGB, 8) + b"\0" * 5000)
    shelf.drawn("png-too-many-rows.png", PNG + header(WIDTH, HEIGHT) + chunk(b"IDAT", more) + chunk(b"IEND"), RGB)
    for key in (
        b"transparency",
        b"exif",
        b"icc_profile",
        b"Raw profile type exif",
        b"XML:com.adobe.xmp",
        b"dpi",
    ):
        name = "png-text-" + key.decode().replace(" ", "-").replace(":", "-") + ".png"
        shelf.drawn(name, png(RGB, 8, 2, chunk(b"tEXt", key + b"\0" + b"12 garbage")), RGB)
    long = random_bytes(1_500_000)  # of those who draw pictures by model, and of scanners
    shelf.drawn("png-text-long.png", png(RGB, 8, 2, chunk(b"zTXt", b"workflow\0\0" + long)), RGB)
    shelf.drawn("png-profile-long.png", png(RGB, 8, 2, chunk(b"iCCP", b"x\0\0" + long)), RGB)
    turned = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6))
    both = png(stored(RGB, 6), 8, 2, chunk(b"zTXt", b"workflow\0\0" + long), turned)
    shelf.drawn("png-text-long-and-turned.png", both, RGB)
    shelf.drawn("png-text-ours.png", png(RGB, 8, 2, chunk(b"tEXt", b'gradviz\0{"digest": 1}')), RGB)
    shelf.drawn("png-time-garbage.png", png(RGB, 8, 2, behind=(chunk(b"tIME", b"12"),)), RGB)


def random_bytes(count: int) -> bytes:
    """Packed up as PNG has it: more than Pillow unpacks of a text."""
    return zlib.compress(np.random.default_rng(0).integers(0, 16, count, np.uint8).tobytes(), 1)


def _profile() -> bytes:
    """An ICC profile that would turn the colours round if it were applied."""
    try:
        from PIL import ImageCms

        return ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    except Exception:  # a Pillow without littleCMS
        return bytes(128)


def _png_transparency(shelf: _Shelf) -> None:
    shelf.drawn("alpha-rgba.png", png(RGBA, 8, 6), over_white(RGB, ALPHA), 1)
    shelf.drawn("alpha-gray.png", png(np.dstack([GRAY, ALPHA]), 8, 4), over_white(GRAY, ALPHA), 1)
    shelf.drawn("alpha-opaque.png", png(np.dstack([RGB, ALPHA * 0 + 255]), 8, 6), RGB)
    wide = RGBA.astype(np.uint32) * 257
    shelf.drawn("alpha-rgba-16-bit.png", png(wide, 16, 6), over_white(RGB, ALPHA), 1)
    both = np.dstack([WIDE, ALPHA.astype(np.uint32) * 257])
    shelf.drawn("alpha-gray-16-bit.png", png(both, 16, 4), np.dstack([over_white(GRAY, ALPHA)] * 3), 1)
    for depth in (1, 2, 4, 8, 16):
        levels = WIDE >> (16 - depth)
        key = int(levels[HEIGHT // 2, WIDTH // 2])
        shown = np.rint(levels * (255 / (2**depth - 1))).astype(np.uint8)
        shown[levels == key] = WHITE
        name = f"alpha-key-gray-{depth}-bit.png"
        shelf.drawn(name, png(levels, depth, 0, chunk(b"tRNS", struct.pack(">H", key))), shown)
    key = RGB[20, 30]
    shown = np.where((key == RGB).all(-1, keepdims=True), np.uint8(WHITE), RGB)
    shelf.drawn("alpha-key-rgb.png", png(RGB, 8, 2, chunk(b"tRNS", struct.pack(">HHH", *key))), shown)
    wide = RGB.astype(np.uint32) * 256 + 7
    key = chunk(b"tRNS", struct.pack(">HHH", *wide[20, 30]))
    shelf.drawn("alpha-key-rgb-16-bit.png", png(wide, 16, 2, key), shown)
    near = (
        RGB.astype(np.uint32) * 256 + np.indices(GRAY.shape)[1][..., None] % 2
    )  # only every second pixel is that colour
    key = chunk(b"tRNS", struct.pack(">HHH", *near[20, 30]))
    clear = (near == near[20, 30]).all(-1, keepdims=True)
    shown = np.where(clear, np.uint8(WHITE), RGB)
    for interlaced in (False, True):
        name = f"alpha-key-rgb-16-bit-near{'-interlaced' if interlaced else ''}.png"
        shelf.drawn(name, png(near, 16, 2, key, interlaced=interlaced), shown)
    plte, opacity = chunk(b"PLTE", RAMP.tobytes()), np.arange(256, dtype=np.uint8)[::-1]
    for name, table in (("full", opacity), ("short", opacity[:50])):
        all_of_it = np.full(256, 255, np.uint8)
        all_of_it[: len(table)] = table
        twin = over_white(RAMP[GRAY], all_of_it[GRAY])
        data = png(GRAY, 8, 3, plte, chunk(b"tRNS", table.tobytes()))
        shelf.drawn(f"alpha-palette-{name}.png", data, twin, 1)
    on_off = np.where(np.arange(256) == GRAY[20, 30], 0, 255).astype(np.uint8)
    data = png(GRAY, 8, 3, plte, chunk(b"tRNS", on_off.tobytes()))
    shelf.drawn("alpha-palette-one-clear.png", data, over_white(RAMP[GRAY], on_off[GRAY]))


def _png_broken(shelf: _Shelf) -> None:
    good = saved(RGB, "PNG")
    shelf.cut("png", ".png", good, (9, 20, 33, 60, 0.25, 0.5, 0.75, 0.95, -20, -12, -4, -1), "truncated")
    shelf.cut("png-signature", ".png", good, (1, 4, 7), "format")
    shelf.failed("png-cut-8.png", good[:8], "truncated")
    for name, at in (("header", 18), ("header-crc", 31), ("pixels", 100), ("pixels-late", -40), ("end", -6)):
        flipped = bytearray(good)
        flipped[at] ^= 0x10
        shelf.failed(f"png-flipped-{name}.png", bytes(flipped), "damaged", "truncated")
    shelf.failed("png-as-text.png", good.replace(b"\r\n", b"\n"), "format")
    shelf.failed("png-byte-ahead.png", b"\n" + good, "format")
    ends = chunk(b"IEND")
    body = chunk(b"IDAT", zlib.compress(scanlines(RGB, 8)))
    shelf.failed("png-no-pixels.png", PNG + header(WIDTH, HEIGHT) + ends, "damaged", "truncated")
    shelf.failed("png-no-header.png", PNG + body + ends, "damaged")
    shelf.failed("png-of-apple.png", good[:8] + chunk(b"CgBI", b"\x50\0\x20\6") + good[8:], "format")
    shelf.failed("png-only-end.png", PNG + ends, "damaged")
    shelf.failed("png-width-0.png", PNG + header(0, HEIGHT) + body + ends, "damaged")
    shelf.failed("png-height-0.png", PNG + header(WIDTH, 0) + body + ends, "damaged")
    shelf.failed("png-depth-3.png", PNG + header(WIDTH, HEIGHT, 3, 0) + body + ends, "damaged")
    shelf.failed("png-colour-7.png", PNG + header(WIDTH, HEIGHT, 8, 7) + body + ends, "damaged")
    for colour, samples in ((0, GRAY), (2, RGB), (6, RGBA)):
        few = chunk(b"IDAT", zlib.compress(scanlines(samples[:-1], 8)))  # a sound stream, the last row is not in it
        data = PNG + header(WIDTH, HEIGHT, 8, colour) + few + ends
        shelf.failed(f"png-last-row-missing-{colour}.png", data, "truncated")
    passes = b"".join(scanlines(RGB[y::dy, x::dx], 8) for y, dy, x, dx in _ADAM7[:-1])
    few = chunk(b"IDAT", zlib.compress(passes))
    shelf.failed("png-last-pass-missing.png", PNG + header(WIDTH, HEIGHT, 8, 2, 1) + few + ends, "truncated")
    for depth in (1, 8):
        dark = GRAY * (np.arange(HEIGHT) < 30)[:, None] >> (8 - depth)
        twin = (dark * (255 // (2**depth - 1))).astype(np.uint8)
        shelf.drawn(f"png-black-at-the-end-{depth}-bit.png", png(dark, depth, 0), twin)
    junk = chunk(b"IDAT", b"this was never deflated")
    shelf.failed("png-pixels-garbage.png", PNG + header(WIDTH, HEIGHT) + junk + ends, "damaged")
    wrong = chunk(b"IDAT", zlib.compress(b"\x09" + scanlines(RGB, 8)[1:]))
    shelf.failed("png-filter-9.png", PNG + header(WIDTH, HEIGHT) + wrong + ends, "damaged")
    long = PNG + header(WIDTH, HEIGHT) + struct.pack(">I", 2**31 - 1) + b"IDAT" + body[8:] + ends
    shelf.failed("png-chunk-too-long.png", long, "truncated")
    bomb = zlib.compress(
        bytes(50_000_000), 9
    )  # in a text that is not looked at, and in one in which the turn may stand
    shelf.drawn("png-text-bomb.png", png(RGB, 8, 2, chunk(b"zTXt", b"a\0\0" + bomb)), RGB)
    text = chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb)
    shelf.failed("png-text-bomb-read.png", png(RGB, 8, 2, text), "damaged")


def _jpeg(shelf: _Shelf) -> None:
    fine = {"quality": 95, "subsampling": 0}
    good = saved(RGB, "JPEG", **fine)
    shelf.drawn("jpeg.jpg", good, RGB, 8)
    shelf.drawn("jpeg-progressive.jpg", saved(RGB, "JPEG", progressive=True, **fine), RGB, 8)
    shelf.drawn("jpeg-subsampled.jpg", saved(RGB, "JPEG", quality=95, subsampling=2), RGB, 16)
    shelf.drawn("jpeg-optimised.jpg", saved(RGB, "JPEG", optimize=True, **fine), RGB, 8)
    shelf.drawn("jpeg-gray.jpg", saved(GRAY, "JPEG", quality=95), GRAY, 8)
    shelf.drawn("jpeg-restarts.jpg", saved(RGB, "JPEG", restart_marker_blocks=1, **fine), RGB, 8)
    shelf.drawn("jpeg-stored-as-rgb.jpg", saved(RGB, "JPEG", keep_rgb=True, **fine), RGB, 8)
    ink = np.dstack([255 - RGB, GRAY // 4])
    paper = np.rint((255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255).astype(np.uint8)
    shelf.drawn("jpeg-cmyk.jpg", saved(Image.fromarray(ink, "CMYK"), "JPEG", quality=95), paper, 12)
    untold = saved(Image.fromarray(ink, "CMYK"), "JPEG", quality=95)  # as Adobe has it, turned round, and marked so
    adobe = untold.index(b"\xff\xee")
    unmarked = untold[:adobe] + untold[adobe + 16 :]
    negative = 255 - ink
    inverse = np.rint((255.0 - negative[..., :3]) * (255.0 - negative[..., 3:]) / 255).astype(np.uint8)
    shelf.drawn("jpeg-cmyk-unmarked.jpg", unmarked, inverse, 12)
    shelf.drawn("jpeg-profile.jpg", saved(RGB, "JPEG", icc_profile=_profile(), **fine), RGB, 8)
    shelf.drawn("jpeg-profile-garbage.jpg", saved(RGB, "JPEG", icc_profile=b"garbage" * 9, **fine), RGB, 8)
    shelf.drawn("jpeg-comment.jpg", saved(RGB, "JPEG", comment=b"\x1b[31m\n" * 9000, **fine), RGB, 8)
    shelf.drawn("jpeg-two-pictures.jpg", saved(RGB, "MPO", **film(), **fine), RGB, 8)
    shelf.drawn("jpeg-trailing-bytes.jpg", good + b"\0" * 999, RGB, 8)
    shelf.drawn("jpeg-twice.jpg", good + saved(GRAY, "JPEG"), RGB, 8)
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(good) + 2) + good
    shelf.drawn("jpeg-inside-jpeg.jpg", good[:2] + thumbnail + good[2:], RGB, 8)
    for number in (0, 9, 65535):
        shelf.drawn(f"jpeg-orientation-{number}.jpg", saved(RGB, "JPEG", exif=exif(number), **fine), RGB, 8)
    for name, data in (
        ("garbage", b"Exif\0\0garbage"),
        ("empty", b"Exif\0\0"),
        ("loop", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08\0\0\0\x08"),
        ("far", b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        ("text", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02six\0\0\0\0\0"),
    ):
        shelf.drawn(f"jpeg-exif-{name}.jpg", saved(RGB, "JPEG", exif=data, **fine), RGB, 8)
    shelf.cut("jpeg", ".jpg", good, (10, 30, 200, 0.3, 0.5, 0.7, 0.9, -30, -10), "truncated", "damaged")
    late = saved(RGB, "JPEG", progressive=True, **fine)
    shelf.cut("jpeg-progressive", ".jpg", late, (0.3, 0.6, 0.9), "truncated")
    shelf.cut("jpeg-start", ".jpg", good, (1, 2), "format")
    shelf.failed("jpeg-only-start.jpg", b"\xff\xd8\xff\xd9", "damaged", "truncated")
    shelf.failed("jpeg-start-then-text.jpg", b"\xff\xd8\xff" + b"just text " * 99, "damaged", "truncated")
    frame = good.index(b"\xff\xc0")
    for name, at, data in (("height-0", 5, b"\0\0"), ("width-0", 7, b"\0\0"), ("depth-3", 4, b"\x03")):
        broken = good[: frame + at] + data + good[frame + at + len(data) :]
        shelf.failed(f"jpeg-{name}.jpg", broken, "damaged", "truncated")
    gone = good.index(b"\xff\xdb")
    shelf.failed("jpeg-no-tables.jpg", good[:gone] + good[frame:], "damaged")


def _webp(shelf: _Shelf) -> None:
    if not features.check("webp"):
        return
    good = saved(RGB, "WEBP", lossless=True)
    shelf.drawn("webp.webp", good, RGB)
    shelf.drawn("webp-lossy.webp", saved(RGB, "WEBP", quality=95), RGB, 20)
    clear = saved(RGBA, "WEBP", lossless=True, exact=True)
    shelf.drawn("webp-alpha.webp", clear, over_white(RGB, ALPHA), 1)
    shelf.drawn("webp-animated.webp", saved(RGB, "WEBP", lossless=True, **film()), RGB)
    shelf.drawn("webp-exif-garbage.webp", saved(RGB, "WEBP", lossless=True, exif=b"garbage"), RGB)
    shelf.cut("webp", ".webp", good, (20, 25, 0.3, 0.6, 0.9, -1), "truncated", "damaged")
    shelf.cut("webp-start", ".webp", good, (4, 8), "format")
    broken = good[:20] + b"\0" + good[21:]
    shelf.failed("webp-signature.webp", broken, "damaged", "truncated")
    shelf.failed("riff-wave.webp", b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + bytes(28), "format")


def _gif(shelf: _Shelf) -> None:
    image = Image.fromarray(GRAY, "P")
    image.putpalette(RAMP.tobytes())
    good = saved(image, "GIF")
    shelf.drawn("gif.gif", good, RAMP[GRAY])
    shelf.drawn("gif-87.gif", b"GIF87a" + saved(image, "GIF")[6:], RAMP[GRAY])
    shelf.drawn("gif-gray.gif", saved(GRAY, "GIF"), GRAY)
    shelf.drawn("gif-interlaced.gif", saved(image, "GIF", interlace=True), RAMP[GRAY])
    key = int(GRAY[20, 30])
    shown = np.where((key == GRAY)[..., None], np.uint8(WHITE), RAMP[GRAY])
    shelf.drawn("gif-transparent.gif", saved(image, "GIF", transparency=key), shown)
    black = Image.new("P", image.size)
    black.putpalette(RAMP.tobytes())
    films = {"save_all": True, "append_images": [black], "loop": 0}
    shelf.drawn("gif-animated.gif", saved(image, "GIF", **films), RAMP[GRAY])
    for disposal in (1, 2, 3):
        data = saved(image, "GIF", disposal=disposal, **films)
        shelf.drawn(f"gif-animated-disposal-{disposal}.gif", data, RAMP[GRAY])
    larger = good[:6] + struct.pack("<HH", WIDTH + 20, HEIGHT + 10) + good[10:]
    around = np.full((HEIGHT + 10, WIDTH + 20, 3), WHITE, np.uint8)
    around[:HEIGHT, :WIDTH] = RAMP[GRAY]
    shelf.drawn("gif-smaller-than-screen.gif", larger, around)
    smaller = good[:6] + struct.pack("<HH", WIDTH // 2, HEIGHT // 2) + good[10:]
    shelf.drawn("gif-larger-than-screen.gif", smaller)
    shelf.drawn("gif-no-trailer.gif", good[:-1], RAMP[GRAY])
    shelf.cut("gif", ".gif", good, (0.5, 0.8, -10), "truncated", "damaged")
    shelf.cut("gif-start", ".gif", good, (6, 10, 13, 400), "truncated", "damaged")
    shelf.failed("gif-no-picture.gif", good[:781] + b";", "damaged", "truncated")


def _bmp(shelf: _Shelf) -> None:
    good = saved(RGB, "BMP")
    shelf.drawn("bmp.bmp", good, RGB)
    shelf.drawn("bmp-gray.bmp", saved(GRAY, "BMP"), GRAY)
    shelf.drawn("bmp-1-bit.bmp", saved(Image.fromarray(GRAY > 127), "BMP"), (GRAY > 127) * np.uint8(255))
    lines = np.dstack([RGB[..., ::-1], RGB[..., :1]])
    shelf.drawn("bmp-32-bit.bmp", bmp(WIDTH, HEIGHT, 32, 0, b"", lines[::-1].tobytes()), RGB)
    shelf.drawn("bmp-top-down.bmp", bmp(WIDTH, -HEIGHT, 32, 0, b"", lines.tobytes()), RGB)
    five = (RGB >> 3).astype(np.uint16)
    words = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2")
    shelf.drawn("bmp-16-bit.bmp", bmp(WIDTH, HEIGHT, 16, 0, b"", words[::-1].tobytes()), RGB, 8)
    palette = _bgrx(RAMP)
    runs = b"".join(b"".join(bytes((1, v)) for v in row) + b"\0\0" for row in GRAY[::-1]) + b"\0\1"
    shelf.drawn("bmp-run-length.bmp", bmp(WIDTH, HEIGHT, 8, 1, palette, runs), RAMP[GRAY])
    shelf.drawn("bmp-palette.bmp", bmp(WIDTH, HEIGHT, 8, 0, palette, GRAY[::-1].tobytes()), RAMP[GRAY])
    gray = RAMP // 3 * 0 + np.arange(256, dtype=np.uint8)[:, None]
    two = (GRAY > 127).astype(np.uint8)
    black_and_white = _bgrx(gray[[0, 255]])
    shelf.drawn("bmp-two-grays.bmp", bmp(WIDTH, HEIGHT, 8, 0, black_and_white, two[::-1].tobytes()), two * 255)
    halves = (two[::-1, ::2] << 4 | two[::-1, 1::2]).tobytes()
    shelf.drawn("bmp-two-grays-4-bit.bmp", bmp(WIDTH, HEIGHT, 4, 0, black_and_white, _padded(halves)), two * 255)
    runs = b"".join(b"".join(bytes((1, v)) for v in row) + b"\0\0" for row in two[::-1]) + b"\0\1"
    shelf.drawn("bmp-two-grays-run-length.bmp", bmp(WIDTH, HEIGHT, 8, 1, black_and_white, runs), two * 255)
    few = GRAY >> 4
    halves = (few[::-1, ::2] << 4 | few[::-1, 1::2]).tobytes()
    for name, levels in (("dark", gray[:16]), ("even", gray[::17]), ("palette", RAMP[::16])):
        data = bmp(WIDTH, HEIGHT, 4, 0, _bgrx(levels), _padded(halves))
        shelf.drawn(f"bmp-4-bit-{name}.bmp", data, levels[few])
    fields = bmp(WIDTH, HEIGHT, 16, 3, b"", bytes(12) + words[::-1].tobytes())
    shelf.failed("bmp-fields.bmp", fields, "format")
    shelf.cut("bmp", ".bmp", good, (3, 20, 60, 0.5, -1), "truncated", "damaged")
    shelf.failed("bmp-run-length-garbage.bmp", bmp(WIDTH, HEIGHT, 8, 1, palette, b"\0\2"), "truncated", "damaged")
    shelf.failed("bmp-depth-13.bmp", bmp(WIDTH, HEIGHT, 13, 0, b"", bytes(9999)), "format")
    shelf.failed("bmp-text.bmp", b"BM is also how a text may begin\n", "damaged", "truncated")


def _padded(rows: bytes) -> bytes:
    """Of pixels of 4 bits: rows end where four bytes do."""
    assert WIDTH // 2 % 4 in (0, 2)
    size = WIDTH // 2
    return b"".join(rows[at : at + size] + bytes(-size % 4) for at in range(0, len(rows), size))


def _bgrx(palette: np.ndarray) -> bytes:
    return np.concatenate([palette[:, ::-1], np.zeros((len(palette), 1), np.uint8)], 1).tobytes()


def _tiff(shelf: _Shelf) -> None:
    good = saved(RGB, "TIFF")
    shelf.drawn("tiff.tif", good, RGB)
    for order, name in (("<", "little"), (">", "big")):
        shelf.drawn(f"tiff-{name}-endian.tif", tiff(RGB.shape, 8, 2, RGB.tobytes(), order), RGB)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        shelf.drawn(f"tiff-{compression}.tif", saved(RGB, "TIFF", compression=compression), RGB)
    shelf.drawn("tiff-jpeg.tif", saved(RGB, "TIFF", compression="jpeg", quality=95), RGB, 30)
    two = Image.fromarray(GRAY > 127)
    shelf.drawn("tiff-fax.tif", saved(two, "TIFF", compression="group4"), (GRAY > 127) * np.uint8(255))
    told = pages(page(GRAY))
    untold = told.replace(struct.pack("<HHLL", 262, 4, 1, 1), struct.pack("<HHLL", 263, 4, 1, 1))
    shelf.drawn("tiff-gray-untold.tif", untold, GRAY)
    shelf.drawn("tiff-gray.tif", tiff(GRAY.shape, 8, 1, GRAY.tobytes()), GRAY)
    shelf.drawn("tiff-white-is-zero.tif", tiff(GRAY.shape, 8, 0, (255 - GRAY).tobytes()), GRAY)
    shelf.drawn("tiff-1-bit.tif", saved(two, "TIFF"), (GRAY > 127) * np.uint8(255))
    table = RAMP.T.astype(int).ravel() * 257
    shelf.drawn("tiff-palette.tif", tiff(GRAY.shape, 8, 3, GRAY.tobytes(), t320=list(table)), RAMP[GRAY])
    small = [int(value) >> 8 for value in table]
    shelf.drawn("tiff-palette-8-bit.tif", tiff(GRAY.shape, 8, 3, GRAY.tobytes(), t320=small), RAMP[GRAY])
    shelf.drawn("tiff-alpha.tif", tiff(RGBA.shape, 8, 2, RGBA.tobytes(), t338=[2]), over_white(RGB, ALPHA), 1)
    multiplied = np.dstack([np.rint(RGB * (ALPHA / 255.0)[..., None]).astype(np.uint8), ALPHA])
    twin = over_white(RGB, ALPHA)
    shelf.drawn("tiff-alpha-multiplied.tif", tiff(RGBA.shape, 8, 2, multiplied.tobytes(), t338=[1]), twin, 2)
    shelf.drawn("tiff-fourth-channel-unused.tif", tiff(RGBA.shape, 8, 2, RGBA.tobytes(), t338=[0]), RGB)
    pair = np.dstack([GRAY, ALPHA])
    shelf.drawn("tiff-gray-alpha.tif", tiff(pair.shape, 8, 1, pair.tobytes(), t338=[2]), over_white(GRAY, ALPHA), 1)
    ink = np.dstack([255 - RGB, GRAY // 4])
    paper = np.rint((255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255).astype(np.uint8)
    shelf.drawn("tiff-cmyk.tif", tiff(ink.shape, 8, 5, ink.tobytes()), paper, 2)
    lab = np.dstack([GRAY, GRAY * 0 + 20, GRAY * 0 + 226])  # a = 20, b = -30, as signed bytes
    shelf.drawn("tiff-lab.tif", tiff(lab.shape, 8, 8, lab.tobytes()), _lab_to_srgb(GRAY / 2.55, 20.0, -30.0), 5)
    wide = np.ascontiguousarray((ink.astype("<u2") * 257).transpose(2, 0, 1))
    apart = {"t284": [2], "t273": [8 + i * wide[0].nbytes for i in range(4)], "t279": [wide[0].nbytes] * 4}
    inks = page(ink.astype("<u2"), wide.tobytes(), t262=[5], **apart)
    shelf.drawn("tiff-cmyk-planes-words.tif", pages(inks), paper, 2)
    five = np.dstack([ink, ALPHA])
    shown = over_white(paper, ALPHA)
    shelf.drawn("tiff-cmyk-alpha.tif", pages(page(five, t262=[5], t338=[2])), shown, 2)
    words = page(five.astype("<u2") * 257, t262=[5], t338=[2])
    shelf.drawn("tiff-cmyk-alpha-words.tif", pages(words), shown, 2)
    faint = np.rint(np.dstack([ink * (ALPHA / 255.0)[..., None], ALPHA]) * 257).astype("<u2")
    shelf.drawn("tiff-cmyk-alpha-multiplied.tif", pages(page(faint, t262=[5], t338=[1])), shown, 2)
    body = zlib.compress(five.tobytes())
    shelf.drawn("tiff-cmyk-and-more-packed.tif", pages(page(five, body, t259=[8], t262=[5], t338=[0])), paper, 2)
    shelf.failed("tiff-five-inks.tif", pages(page(five, t262=[5], t332=[2], t338=[2])), "format")
    pair = np.dstack([GRAY, ALPHA])
    apart = {"t284": [2], "t273": [8, 8 + GRAY.nbytes], "t279": [GRAY.nbytes] * 2}
    planes = np.ascontiguousarray(pair.transpose(2, 0, 1)).tobytes()
    shelf.drawn("tiff-gray-alpha-planes.tif", pages(page(pair, planes, t338=[2], **apart)), over_white(GRAY, ALPHA), 1)
    white_is_zero = np.dstack([255 - GRAY, ALPHA])
    shelf.drawn(
        "tiff-gray-alpha-white-is-zero.tif",
        pages(page(white_is_zero, t262=[0], t338=[2])),
        over_white(GRAY, ALPHA),
        1,
    )
    planes = np.ascontiguousarray(multiplied.transpose(2, 0, 1)).tobytes()
    apart = {"t284": [2], "t273": [8 + i * GRAY.nbytes for i in range(4)], "t279": [GRAY.nbytes] * 4}
    unused = page(RGBA, np.ascontiguousarray(RGBA.transpose(2, 0, 1)).tobytes(), t338=[0], **apart)
    shelf.drawn("tiff-fourth-channel-unused-planes.tif", pages(unused), RGB, 0, ("of its 4 bands the first three",))
    shelf.drawn("tiff-alpha-multiplied-planes.tif", pages(page(multiplied, planes, t338=[1], **apart)), twin, 2)
    for across, down in ((1, 1), (2, 1), (2, 2)):
        data = pages(page(RGB, _shared_hues(across, down), t262=[6], t530=[across, down]))
        shelf.drawn(f"tiff-hues-{across}x{down}.tif", data, RGB if across == 1 else None, 4)
    shelf.drawn("tiff-big.tif", saved(RGB, "TIFF", big_tiff=True), RGB)
    shelf.drawn("tiff-two-pages.tif", saved(RGB, "TIFF", **film()), RGB)
    here = tiff(GRAY.shape, 8, 1, GRAY.tobytes())
    end = 8 + 2 + 12 * 10
    assert here[end : end + 4] == b"\0\0\0\0"
    loop = here[:end] + struct.pack("<L", 8) + here[end + 4 :]
    shelf.drawn("tiff-directory-loop.tif", loop, GRAY)
    many = here.replace(struct.pack("<HHLL", 277, 3, 1, 1), struct.pack("<HHLL", 277, 3, 1, 9999))
    shelf.failed("tiff-9999-channels.tif", many, "damaged", "truncated")  # Pillow logs this, which Python may print
    shelf.failed("tiff-five-bits.tif", tiff(GRAY.shape, 5, 1, GRAY.tobytes()), "format")
    shelf.cut("tiff", ".tif", good, (20, 0.3, 0.7, -1), "truncated", "damaged")
    shelf.cut("tiff-start", ".tif", good, (2, 3), "format")
    packed_up = saved(RGB, "TIFF", compression="tiff_lzw")
    shelf.cut("tiff-lzw", ".tif", packed_up, (0.3, 0.9, -1), "truncated", "damaged")
    shelf.failed("tiff-far-directory.tif", b"II*\0" + struct.pack("<L", 2**31) + bytes(99), "truncated", "damaged")
    shelf.failed("tiff-no-directory.tif", b"II*\0\0\0\0\0", "truncated", "damaged")
    lacking = pages(page(RGB, b"RIFF and no WebP", t259=[50001], t279=[16]))  # libtiff may have been built without it
    shelf.failed("tiff-webp.tif", lacking, "format")
    noisy = bytearray(saved(RGB, "TIFF", compression="jpeg"))
    noisy[noisy.index(b"\xff\xc0") + 4] = 3  # libtiff prints about this past Python
    shelf.failed("tiff-jpeg-broken.tif", bytes(noisy), "damaged", "truncated")


def _shared_hues(across: int, down: int) -> bytes:
    """Luma of each pixel, hues of as many as share them, block by block: TIFF 6, section 21."""
    luma, *hues = np.moveaxis(np.asarray(Image.fromarray(RGB).convert("YCbCr")), 2, 0)
    blocks = ((top, left) for top in range(0, HEIGHT, down) for left in range(0, WIDTH, across))
    return b"".join(
        luma[top : top + down, left : left + across].tobytes() + bytes(int(hue[top, left]) for hue in hues)
        for top, left in blocks
    )


def page(samples: np.ndarray, body: bytes | None = None, **tags: list[int] | bytes) -> tuple[dict, bytes]:
    """A directory of `pages` and its pixels; tags as in `tiff`, those that are given win."""
    height, width, channels = (*samples.shape, 1)[:3]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    entries: dict[int, list[int] | bytes] = {
        256: [width],
        257: [height],
        258: [samples.dtype.itemsize * 8] * channels,
        259: [1],
        262: [2 if channels > 2 else 1],
        277: [channels],
        278: [height],
        339: [kind] * channels,
        **{int(name[1:]): values for name, values in tags.items()},
    }
    return entries, samples.astype(samples.dtype.newbyteorder("<")).tobytes() if body is None else body


def pages(*chain: tuple[dict, bytes], below: tuple[tuple[dict, bytes], ...] = (), start: int = 8) -> bytes:
    """A little-endian TIFF of several directories: a chain, and such as the first of them names below it (tag 330).

    Pixels come first, then the directories, all numbers as longs (texts as texts).
    """
    out, places = bytearray(b"II*\0" + bytes(start - 4)), []
    for entries, body in (*chain, *below):
        if 324 not in entries:
            entries = {273: [len(out)], 279: [len(body)], **entries}
        else:
            entries = {**entries, 324: [at + len(out) for at in entries[324]]}
        places.append(entries)
        out += body + b"\0" * (len(body) % 2)
    ends = []
    for number in reversed(range(len(places))):  # those behind and below are known then
        entries = dict(places[number])
        if number == 0 and below:
            entries[330] = ends[: len(below)][::-1]
        follows = ends[-1] if number + 1 < len(chain) else 0
        at, directory = _directory(entries, len(out), follows)
        ends.append(at)
        out += directory
    out[4:8] = struct.pack("<L", ends[-1])
    return bytes(out)


def _directory(entries: dict, at: int, follows: int) -> tuple[int, bytes]:
    """Where it begins, and its bytes with what it points to ahead of it."""
    outside, rows = b"", struct.pack("<H", len(entries))
    for tag, values in sorted(entries.items()):
        data = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}L", *values)
        kind, count = (2, len(values)) if isinstance(values, bytes) else (4, len(values))
        if len(data) > 4:
            data, outside = struct.pack("<L", at + len(outside)), outside + data + b"\0" * (len(data) % 2)
        rows += struct.pack("<HHL", tag, kind, count) + data.ljust(4, b"\0")
    return at + len(outside), outside + rows + struct.pack("<L", follows)


def _tiff_pages(shelf: _Shelf) -> None:
    """A small copy ahead of the picture, or a mask: by the tags of TIFF 6 (254) and of TIFF 5 (255)."""
    small = np.full((8, 12, 3), [200, 30, 30], np.uint8)
    full = page(RGB)
    shelf.drawn("pages-small-first.tif", pages(page(small, t254=[1]), page(RGB, t254=[0])), RGB)
    shelf.drawn("pages-small-first-old-tag.tif", pages(page(small, t255=[2]), page(RGB, t255=[1])), RGB)
    shelf.drawn("pages-small-last.tif", pages(full, page(small, t254=[1])), RGB)
    shelf.drawn("pages-two-small-first.tif", pages(page(small, t254=[1]), page(small[::2], t254=[1]), full), RGB)
    shelf.drawn("pages-full-below.tif", pages(page(small, t254=[1]), below=(full,)), RGB)
    shelf.drawn("pages-small-below.tif", pages(full, below=(page(small, t254=[1]),)), RGB)
    mask = page(np.full(GRAY.shape, 255, np.uint8), t254=[4], t262=[4])
    shelf.drawn("pages-mask-first.tif", pages(mask, full), RGB)
    shelf.drawn("pages-mask-of-small-first.tif", pages(page(small[..., 0], t254=[5], t262=[4]), full), RGB)
    shelf.drawn("pages-page-of-many.tif", pages(page(RGB, t254=[2]), page(small, t254=[2])), RGB)
    shelf.drawn("pages-only-small.tif", pages(page(small, t254=[1])), small)
    shelf.drawn("pages-all-small.tif", pages(page(small, t254=[1]), page(RGB, t254=[1])), RGB)
    turned = page(stored(RGB, 6), t274=[6])
    shelf.drawn("pages-small-first-turned.tif", pages(page(small, t254=[1]), turned), RGB)
    scan = page(RGB, t254=[0], t271=b"EPSON\0")  # a scanner's or editor's file: a maker, and a whole picture
    shelf.drawn("pages-maker-and-full.tif", pages(scan), RGB)
    shelf.drawn("pages-maker-small-and-full.tif", pages(page(small, t254=[1], t271=b"NIKON\0"), full), RGB)
    big = saved(RGB, "TIFF", big_tiff=True)
    shelf.drawn("pages-big.tif", big, RGB)
    loop = pages(page(small, t254=[1], t330=[8]))
    shelf.drawn("pages-below-leads-nowhere.tif", loop, small)


def _raw_photos(shelf: _Shelf) -> None:
    """Begin with a picture for the camera's screen, or with nothing that is one."""
    small = np.full((8, 12, 3), [200, 30, 30], np.uint8)
    sensor = page(GRAY.astype("<u2") * 16, t262=[32803])
    nikon = {"t254": [1], "t271": b"NIKON CORPORATION\0"}
    packed_up = page(GRAY.astype("<u2"), t259=[34713], t262=[32803])
    for name, data in {
        "nikon.nef": pages(page(small, **nikon), below=(page(RGB, t254=[1]), sensor)),
        "nikon-packed.nef": pages(page(small, **nikon), below=(packed_up,)),
        "nikon-preview-is-full.nef": pages(page(small, **nikon), below=(page(RGB, t254=[0]), packed_up)),
        "nikon-only-small.nef": pages(page(small, **nikon)),
        "adobe.dng": pages(page(small, t254=[1], t50706=[1 | 4 << 8]), below=(sensor,)),
        "adobe-linear.dng": pages(page(RGB, t50706=[1], t262=[34892])),
        "adobe-full-preview.dng": pages(page(RGB, t50706=[1])),
        "sony.arw": pages(page(small, t254=[1], t271=b"SONY\0"), below=(page(GRAY, t259=[32767], t262=[32803]),)),
        "pentax.pef": pages(page(GRAY, t259=[65535], t262=[32803], t271=b"PENTAX\0"), page(small, t254=[1])),
        "samsung.srw": pages(page(small, t254=[1], t271=b"SAMSUNG\0"), below=(page(GRAY, t259=[32770]),)),
        "renamed.tif": pages(page(small, **nikon), below=(sensor,)),
        "renamed.jpg": pages(page(small, **nikon), below=(sensor,)),
        "canon.cr2": b"II*\0\x10\0\0\0CR\2\0" + pages(page(RGB), start=16)[12:],
        "canon.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(99),
        "canon.crw": b"II\x1a\0\0\0HEAPCCDR" + bytes(99),
        "fujifilm.raf": b"FUJIFILMCCD-RAW 0201FF129502X-T1" + bytes(99) + saved(small, "JPEG"),
        "olympus.orf": b"IIRO" + pages(page(small))[4:],
        "panasonic.rw2": b"IIU\0" + pages(page(small))[4:],
        "minolta.mrw": b"\0MRM" + bytes(99),
        "sigma.x3f": b"FOVb" + bytes(99),
    }.items():
        shelf.failed(f"raw-{name}", data, "format")
    shelf.drawn("raw-by-name-only.nef", saved(RGB, "PNG"), RGB)


def _tiff_bands(shelf: _Shelf) -> None:
    """More bands than colours have, and colours of other numbers than Pillow has modes for."""
    five = np.dstack([RGB, GRAY, GRAY // 2])
    first_three = ("the first three are shown",)
    extra = {"t338": [0, 0]}
    shelf.drawn("bands-rgb-of-5.tif", pages(page(five, t262=[2], **extra)), RGB, 0, first_three)
    wide = five.astype("<u2") * 257
    shelf.drawn("bands-rgb-of-5-16-bit.tif", pages(page(wide, t262=[2], **extra)), RGB, 0, first_three)
    shelf.failed("bands-5.tif", pages(page(five, t262=[1], t338=[0] * 4)), "format")
    shelf.failed("bands-4-of-floats.tif", pages(page(five[..., :4].astype("<f4"), t262=[1])), "format")
    supposed = ("taken for red, green and blue",)
    shelf.drawn("bands-3-of-gray.tif", pages(page(RGB, t262=[1], t338=[0, 0])), RGB, 0, supposed)
    for kind in ("<f2", "<f4", "<f8"):
        unit = (RGB / 255).astype(kind)
        shelf.drawn(f"bands-rgb-{kind[1:]}.tif", pages(page(unit)), RGB, 1 if kind == "<f2" else 0)
    low, high = int(RGB.min()), int(RGB.max())
    stretched = np.rint((RGB.astype(float) - low) * 255 / (high - low)).astype(np.uint8)
    shelf.drawn("bands-rgb-i2.tif", pages(page(RGB.astype("<i2") * 100 - 12000)), stretched)
    shelf.drawn("bands-rgb-i4.tif", pages(page(RGB.astype("<i4") * 10**6 - 10**8)), stretched)
    shelf.drawn("bands-rgb-u4.tif", pages(page(RGB.astype("<u4") * 16_000_000)), stretched)
    shelf.drawn("bands-gray-i1.tif", pages(page((GRAY.astype(int) - 128).astype("i1"))), _stretched(GRAY))
    turned = stored(RGB, 6)
    shelf.drawn("bands-rgb-float-turned.tif", pages(page((turned / 255).astype("<f4"), t274=[6])), RGB)
    big_endian = tiff(RGB.shape, 32, 2, (RGB / 255).astype(">f4").tobytes(), ">", 3)
    shelf.drawn("bands-rgb-float-big-endian.tif", big_endian, RGB)
    cut = pages(page((RGB / 255).astype("<f4")))
    at = 8 + RGB.size * 4 - 99
    shelf.failed("bands-rgb-float-short.tif", cut.replace(cut[at : at + 99], b"", 1), "damaged", "truncated", "format")
    bomb = page(np.zeros((1, 1, 3), "<f4"), t256=[7000], t257=[7000], t277=[60000], t258=[32], t339=[3])
    shelf.failed("bands-bomb.tif", pages(bomb), "too-large")


def _tiff_transparency(shelf: _Shelf) -> None:
    """Of wide numbers, which Pillow has no mode for: on white, as that of 8 bits is."""
    shares = ALPHA[..., None] / 255
    for name, colours, photometric in (("gray", GRAY[..., None], 1), ("rgb", RGB, 2)):
        twin = over_white(colours.squeeze(), ALPHA)
        wide = np.dstack([colours, ALPHA]).astype("<u2") * 257
        shelf.drawn(f"alpha-{name}-u2.tif", pages(page(wide, t262=[photometric], t338=[2])), twin, 1)
        unit = np.dstack([colours / 255, shares]).astype("<f4")
        shelf.drawn(f"alpha-{name}-f4.tif", pages(page(unit, t262=[photometric], t338=[2])), twin, 1)
        multiplied = np.dstack([colours / 255 * shares, shares]).astype("<f4")
        shelf.drawn(f"alpha-{name}-f4-multiplied.tif", pages(page(multiplied, t262=[photometric], t338=[1])), twin, 1)
    with_more = np.dstack([GRAY, GRAY // 3, ALPHA])  # of three bands that say what the last one is the first is gray
    for samples in (with_more, with_more.astype("<u2") * 257):
        data = pages(page(samples, t262=[1], t338=[0, 2]))
        name = f"alpha-gray-and-more-{samples.dtype.kind}{samples.dtype.itemsize}.tif"
        shelf.drawn(name, data, over_white(GRAY, ALPHA), 1, ("of its two bands the first",))
    multiplied = np.rint(np.dstack([GRAY[..., None] * shares, shares * 255]) * 257).astype("<u2")
    shelf.drawn("alpha-gray-u2-multiplied.tif", pages(page(multiplied, t262=[1], t338=[1])), over_white(GRAY, ALPHA), 1)
    more = np.dstack([RGB, GRAY, ALPHA]).astype("<u2") * 257
    shelf.drawn(
        "alpha-behind-another.tif",
        pages(page(more, t262=[2], t338=[0, 2])),
        over_white(RGB, ALPHA),
        1,
        ("of its 4 bands the first three",),
    )
    white_is_zero = np.dstack([255 - GRAY, ALPHA]).astype("<u2") * 257
    shelf.drawn(
        "alpha-gray-white-is-zero.tif", pages(page(white_is_zero, t262=[0], t338=[2])), over_white(GRAY, ALPHA), 1
    )


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    return np.rint((values.astype(float) - low) * 255 / (high - low)).astype(np.uint8)


def _predicted(samples: np.ndarray, predictor: int) -> bytes:
    """Rows of a tile or strip as TIFF's predictors 2 and 3 leave them, by the words of the standard."""
    if predictor == 2:
        before = np.zeros_like(samples)
        before[:, 1:] = samples[:, :-1]
        return (samples - before).tobytes()
    height, width, bands = samples.shape
    size = samples.dtype.itemsize
    most_significant_first = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    planes = most_significant_first.reshape(height, width * bands, size).swapaxes(1, 2).reshape(height, -1, bands)
    before = np.zeros_like(planes)
    before[:, 1:] = planes[:, :-1]
    return (planes - before).tobytes()


def _tiff_layouts(shelf: _Shelf) -> None:
    """Tiles, planes one after the other, predictors: of bytes, which Pillow reads, and of floats, which it does not."""
    unit = (RGB / 255).astype("<f4")
    for name, pixels in (("bytes", RGB), ("floats", unit)):
        tiles, offsets, counts = b"", [], []
        for top in range(0, HEIGHT, 16):
            for left in range(0, WIDTH, 32):
                tile = np.zeros((16, 32, 3), pixels.dtype)
                part = pixels[top : top + 16, left : left + 32]
                tile[: part.shape[0], : part.shape[1]] = part
                packed_up = zlib.compress(_predicted(tile, 3 if name == "floats" else 2))
                offsets.append(len(tiles))
                counts.append(len(packed_up))
                tiles += packed_up
        tags = {"t259": [8], "t317": [3 if name == "floats" else 2], "t322": [32], "t323": [16]}
        shelf.drawn(f"layout-tiles-{name}.tif", pages(page(pixels, tiles, **tags, t324=offsets, t325=counts)), RGB)
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        apart = {"t284": [2], "t273": [8 + i * planes[0].nbytes for i in range(3)], "t279": [planes[0].nbytes] * 3}
        shelf.drawn(f"layout-planes-{name}.tif", pages(page(pixels, planes.tobytes(), **apart)), RGB)
    for name, pixels, predictor in (("bytes", RGB, 2), ("floats", unit, 3), ("words", RGB.astype("<i2"), 2)):
        body = zlib.compress(_predicted(pixels, predictor))
        twin = _stretched(RGB) if name == "words" else RGB
        shelf.drawn(f"layout-predictor-{name}.tif", pages(page(pixels, body, t259=[8], t317=[predictor])), twin)
    wide = np.ascontiguousarray((RGB.astype("<u2") * 257).transpose(2, 0, 1))
    apart = {"t284": [2], "t273": [8 + i * wide[0].nbytes for i in range(3)], "t279": [wide[0].nbytes] * 3}
    words = RGB.astype("<u2") * 257
    shelf.drawn("layout-planes-words.tif", pages(page(words, wide.tobytes(), **apart)), RGB)
    numbers = GRAY.astype(int) * 100 - 12000
    for bits, samples, kind, twin in ((32, GRAY / 255, 3, GRAY), (16, numbers, 2, _stretched(GRAY))):
        packed_up = zlib.compress(samples.astype(f">{'f' if kind == 3 else 'i'}{bits // 8}").tobytes())
        data = tiff(GRAY.shape, bits, 1, packed_up, ">", kind, t259=[8])
        shelf.drawn(f"layout-big-endian-packed-{bits}.tif", data, twin)
    inverse = tiff(GRAY.shape, 16, 0, (65535 - GRAY.astype(int) * 257).astype(">u2").tobytes(), ">")
    shelf.drawn("layout-big-endian-white-is-zero.tif", inverse, GRAY)
    for kind in ("<i2", "<i4", "<u4"):
        numbers = (255 - GRAY.astype(int)) * 100 - (0 if "u" in kind else 12000)
        data = pages(page(numbers.astype(kind), t262=[0]))
        shelf.drawn(f"layout-white-is-zero-{kind[1:]}.tif", data, 255 - _stretched(numbers))
    large = tiff(GRAY.shape, 32, 1, (GRAY.astype(np.int64) * 16_000_000).astype(">u4").tobytes(), ">")
    shelf.drawn("layout-big-endian-u4.tif", large, _stretched(GRAY))
    shelf.drawn("layout-big-endian-big-rgb.tif", _big_endian_big(RGB), RGB)
    shelf.drawn("layout-big-endian-big-gray.tif", _big_endian_big(GRAY), GRAY)
    shelf.failed(
        "layout-big-endian-big-1-bit.tif",
        _big_endian_big(GRAY).replace(struct.pack(">HHQQ", 258, 16, 1, 8), struct.pack(">HHQQ", 258, 16, 1, 1)),
        "format",
    )
    for compression in ("tiff_lzw", "zstd", "lzma"):
        with_floats = saved(Image.fromarray((GRAY / 255).astype(np.float32)), "TIFF", compression=compression)
        shelf.drawn(f"layout-float-{compression}.tif", with_floats, GRAY)


def _big_endian_big(pixels: np.ndarray) -> bytes:
    """A BigTIFF, most significant byte first, of 8 bits; each number as a long of 8 bytes, each three of them outside."""
    height, width, channels = (*pixels.shape, 1)[:3]
    tags = {256: [width], 257: [height], 258: [8] * channels, 259: [1], 262: [2 if channels == 3 else 1]}
    tags |= {273: [16], 277: [channels], 278: [height], 279: [pixels.nbytes]}
    depths = 16 + pixels.nbytes
    start = depths + 8 * channels
    rows = b"".join(
        struct.pack(">HHQQ", tag, 16, len(values), values[0] if len(values) == 1 else depths)
        for tag, values in tags.items()
    )
    head = b"MM\0+" + struct.pack(">HHQ", 8, 0, start)
    return head + pixels.tobytes() + struct.pack(">Q", 8) * channels + struct.pack(">Q", len(tags)) + rows + bytes(8)


def _no_data(shelf: _Shelf) -> None:
    """Pixels that are none, by GDAL's tag, by NaN, by custom: left out of the range of the others, and neutral."""
    hole = np.zeros(GRAY.shape, bool)
    hole[:5, :9] = hole[30, 40] = True
    unit = (GRAY / 255).astype("<f4")
    shown = np.where(hole, NEUTRAL, GRAY).astype(np.uint8)
    apart = _stretched(np.where(hole, GRAY[20, 30], GRAY))
    stretched = np.where(hole, NEUTRAL, apart).astype(np.uint8)
    numbers = (GRAY.astype(int) * 10).astype("<i2")
    taken = ("for no data",)

    def put(name: str, values: np.ndarray, fill: float, twin: np.ndarray, tag: bytes = b"", said: tuple = ()) -> None:
        filled = values.copy()
        filled[hole] = fill
        tags = {"t42113": tag + b"\0"} if tag else {}
        shelf.drawn(f"no-data-{name}.tif", pages(page(filled, **tags)), twin, 0, said)

    put("float-tag", unit, -9999, shown, b"-9999")
    put("float-tag-of-gdal", unit, np.finfo("f4").min, shown, b"-3.4028234663852886e+38")
    put("float-tag-inexact", unit, np.float32(-0.1), shown, b"-0.1")
    put("float-tag-nan", unit, np.nan, shown, b"nan")
    put("float-tag-infinity", unit, -np.inf, shown, b"-inf")
    put("float-tag-spaces", unit, -9999, shown, b" -9999 ")
    put("float-nan", unit, np.nan, shown)
    put("float-untold", unit, -9999, shown, said=taken)
    put("float-untold-largest", unit, np.finfo("f4").max, shown, said=taken)
    put("signed-tag", numbers, -32768, stretched, b"-32768")
    put("signed-tag-inside", numbers, 500, np.where(numbers == 500, NEUTRAL, stretched).astype(np.uint8), b"500")
    put("signed-untold", numbers, -32768, stretched, said=taken)
    put("signed-32-bit", numbers.astype("<i4"), -9999, stretched, said=taken)
    put("tag-garbage", unit, 0.25, np.where(hole, 64, GRAY).astype(np.uint8), b"none")
    put("unsigned-tag", WIDE.astype("<u2"), 65535, shown, b"65535")
    full_range = np.linspace(-32768, 32767, GRAY.size).reshape(GRAY.shape).astype("<i2")  # -32768 is but the darkest
    ramp = np.rint((full_range.astype(float) + 32768) * 255 / 65535).astype(np.uint8)
    shelf.drawn("no-data-but-darkest.tif", pages(page(full_range)), ramp)
    near = full_range.astype("<i4") // 100 - 9671  # the smallest is -9999, next to the others
    assert near.min() == -9999
    shelf.drawn("no-data-but-near.tif", pages(page(near)), _stretched(near))
    nothing = np.full(GRAY.shape, np.nan, "<f4")
    shelf.failed("no-data-at-all.tif", pages(page(nothing)), "damaged")
    colours = (RGB / 255).astype("<f4")
    colours[hole] = -9999
    twin = np.where(hole[..., None], NEUTRAL, RGB).astype(np.uint8)
    shelf.drawn("no-data-rgb.tif", pages(page(colours, t42113=b"-9999\0")), twin)
    far = np.where(hole, 1e9, GRAY).astype("<f4")  # no custom: one outlier takes the whole range
    shelf.drawn("no-data-outlier.tif", pages(page(far)), np.where(hole, 255, 0).astype(np.uint8), 0, (FEW,))


def _fewer_bits(shelf: _Shelf) -> None:
    """12 bits in 16: white is 4095 where the file says that 12 are in use, and its values are not scaled."""
    twelve = GRAY.astype(int) * 4095 // 255
    shown = np.rint(twelve / 4095 * 255).astype(np.uint8)
    said = chunk(b"sBIT", b"\x0c")
    shelf.drawn("fewer-bits.png", png(twelve, 16, 0, said), shown)
    shelf.drawn("fewer-bits-scaled.png", png(twelve << 4 | twelve >> 8, 16, 0, said), shown)
    dark = twelve % 16  # scaled, and of the darkest sixteenth only: the lower bits are zeros
    twin = np.rint((dark << 4) / 257).astype(np.uint8)
    shelf.drawn("fewer-bits-scaled-dark.png", png(dark << 4, 16, 0, said), twin, 0, (FEW,))
    untold = np.rint(twelve / 257).astype(np.uint8)
    shelf.drawn("fewer-bits-untold.png", png(twelve, 16, 0), untold, 0, (FEW,))
    ten = GRAY.astype(int) * 1023 // 255
    shelf.drawn(
        "fewer-bits-10.png", png(ten, 16, 0, chunk(b"sBIT", b"\x0a")), np.rint(ten / 1023 * 255).astype(np.uint8)
    )
    colours = RGB.astype(int) * 4095 // 255
    three = chunk(b"sBIT", b"\x0c" * 3)
    shelf.drawn("fewer-bits-rgb.png", png(colours, 16, 2, three), np.rint(colours / 4095 * 255).astype(np.uint8))
    dark = RGB.astype(int) << 4  # below 4096, but as if scaled
    shelf.drawn("fewer-bits-rgb-dark.png", png(dark, 16, 2, three), np.rint(dark / 257).astype(np.uint8), 0, (FEW,))
    opaque = np.dstack([colours, np.full(GRAY.shape, 4095)])
    four = chunk(b"sBIT", b"\x0c" * 4)
    shelf.drawn("fewer-bits-rgba.png", png(opaque, 16, 6, four), np.rint(colours / 4095 * 255).astype(np.uint8))
    shelf.drawn("fewer-bits-rgba-untold.png", png(opaque, 16, 6), None, 0, (FEW,))
    shelf.drawn("fewer-bits-rgb-untold.png", png(colours, 16, 2), (colours >> 8).astype(np.uint8), 0, (FEW,))
    shelf.drawn("fewer-bits-rgb-scaled.png", png(colours << 4 | colours >> 8, 16, 2, three), RGB, 1)
    shelf.drawn("fewer-bits-8-of-8.png", png(RGB, 8, 2, chunk(b"sBIT", b"\5\6\5")), RGB)
    for white, name in ((4095, "12"), (16383, "14"), (10000, "10000")):
        values = (GRAY.astype(int) * white // 255).astype("<u2")
        twin = np.rint(values / white * 255).astype(np.uint8)
        shelf.drawn(f"fewer-bits-{name}.tif", pages(page(values, t281=[white])), twin)
    beyond = WIDE.astype("<u2")  # what the tag says is not so
    shelf.drawn("fewer-bits-beyond.tif", pages(page(beyond, t281=[4095])), GRAY)
    rgb = (RGB.astype(int) * 4095 // 255).astype("<u2")
    shelf.drawn("fewer-bits-rgb.tif", pages(page(rgb, t281=[4095] * 3)), np.rint(rgb / 4095 * 255).astype(np.uint8))
    two = (GRAY > 127).astype(np.uint16) * 65535  # line art is what it is
    shelf.drawn("fewer-bits-line-art.png", png(two, 16, 0), (two >> 8).astype(np.uint8))


def _invisible(shelf: _Shelf) -> None:
    """Transparent everywhere: not meant, as a picture that nobody sees is none."""
    all_of_it = ("transparent everywhere",)
    clear = np.dstack([RGB, ALPHA * 0])
    shelf.drawn("invisible.png", png(clear, 8, 6), RGB, 0, all_of_it)
    shelf.drawn("invisible-gray.png", png(np.dstack([GRAY, ALPHA * 0]), 8, 4), GRAY, 0, all_of_it)
    shelf.drawn("invisible.tif", pages(page(clear, t262=[2], t338=[2])), RGB, 0, all_of_it)
    if features.check("webp"):
        shelf.drawn("invisible.webp", saved(clear, "WEBP", lossless=True, exact=True), RGB, 0, all_of_it)
    for size, name in ((108, "4"), (124, "5")):
        shelf.drawn(f"invisible-version-{name}.bmp", _bmp_with_alpha(clear, size), RGB, 0, all_of_it)
        shelf.drawn(f"visible-version-{name}.bmp", _bmp_with_alpha(RGBA, size), over_white(RGB, ALPHA), 1)
    black = np.zeros_like(clear)
    shelf.drawn("invisible-black.bmp", _bmp_with_alpha(black, 124), black[..., :3], 0, (*all_of_it, FLAT))
    nothing = np.full_like(RGB, WHITE)  # an empty layer, without colours either
    shelf.drawn("invisible-empty.png", png(black, 8, 6), nothing, 0, (FLAT,))
    one_pixel = clear.copy()
    one_pixel[3, 4, 3] = 255
    shelf.drawn("invisible-but-one.png", png(one_pixel, 8, 6), over_white(RGB, one_pixel[..., 3]))


def _bmp_with_alpha(pixels: np.ndarray, size: int) -> bytes:
    """Of a later header, which says which bits are alpha."""
    body = np.ascontiguousarray(pixels[::-1][..., [2, 1, 0, 3]]).tobytes()
    height, width = pixels.shape[:2]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII4I4s", size, width, height, 1, 32, 3, len(body), 0, 0, 0, 0, *masks, b"BGRs")
    return b"BM" + struct.pack("<IHHI", 14 + size + len(body), 0, 0, 14 + size) + head.ljust(size, b"\0") + body


def _cut_jpegs(shelf: _Shelf) -> None:
    """Without an end: shown where at least nine in ten rows are there, and said; else as truncated as ever."""
    tall = np.tile(RGB, (6, 1, 1))  # 240 rows
    fine = {"quality": 95, "subsampling": 0}
    noisy = np.random.default_rng(3).integers(0, 60, tall.shape).astype(np.uint8) + tall // 2
    for name, options in (("", {}), ("-progressive", {"progressive": True}), ("-restarts", {"restart_marker_rows": 1})):
        whole = saved(noisy, "JPEG", **options, **fine)
        twin = np.asarray(Image.open(io.BytesIO(whole)))
        there = (f"{CUT}: it lacks its end mark, but all its rows are there",)
        shelf.drawn(f"cut{name}-no-end.jpg", whole[:-2], twin, 0, there)
        shelf.drawn(f"cut{name}-half-an-end.jpg", whole[:-1], twin, 0, there)
        shelf.drawn(f"cut{name}-zeros-for-an-end.jpg", whole[:-2] + bytes(5000), twin, 0, there)
        shelf.drawn(f"cut{name}-not-but-followed.jpg", whole + b"ftyp\xff\xda\0\x0cmore" * 9, twin)
        shelf.drawn(f"cut{name}-thumbnail-has-an-end.jpg", _with_thumbnail(whole)[:-2], twin, 0, there)
        if name != "-progressive":
            shelf.drawn(f"cut{name}-few-rows.jpg", whole[: int(len(whole) * 0.97)], None, 0, (f"{CUT}: of the last ",))
        for padding in (0, 5000, len(whole)):  # zeros of a download that broke off are no pixels
            most = whole[: int(len(whole) * 0.8)] + bytes(padding)
            shelf.failed(f"cut{name}-many-rows-{padding}.jpg", most, "truncated")
    late = saved(noisy, "JPEG", progressive=True, **fine)
    last = late.rindex(b"\xff\xda")
    shelf.failed("cut-progressive-last-scan-gone.jpg", late[:last], "truncated")
    shelf.failed("cut-progressive-last-scan-half.jpg", late[: (last + len(late)) // 2], "truncated")
    turned = saved(stored(noisy, 6), "JPEG", exif=exif(6), **fine)
    twin = np.asarray(Image.open(io.BytesIO(turned)).transpose(Image.Transpose.ROTATE_270))
    shelf.drawn("cut-turned.jpg", turned[:-2], twin, 0, (f"{CUT}: it lacks its end mark, but all its rows are there",))


def _with_thumbnail(jpeg: bytes) -> bytes:
    small = saved(RGB[::4, ::4], "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + jpeg[2:]


def xmp(orientation: int, attribute: bool = True) -> bytes:
    """A packet that says nothing but the orientation, as an attribute or an element."""
    inside = (
        f' tiff:Orientation="{orientation}"/>',
        f"><tiff:Orientation>{orientation}</tiff:Orientation></rdf:Description>",
    )
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
        f"{inside[0] if attribute else inside[1]}</rdf:RDF></x:xmpmeta>"
    ).encode()


def _orientation_in_xmp(shelf: _Shelf) -> None:
    """It counts where EXIF has none."""
    fine = {"quality": 95, "subsampling": 0}
    for n in (3, 6):
        pixels = stored(RGB, n)
        shelf.drawn(f"xmp-{n}.jpg", saved(pixels, "JPEG", xmp=xmp(n), **fine), RGB, 8)
        shelf.drawn(f"xmp-{n}-element.jpg", saved(pixels, "JPEG", xmp=xmp(n, False), **fine), RGB, 8)
        text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(n))
        shelf.drawn(f"xmp-{n}.png", png(pixels, 8, 2, text), RGB)
        shelf.drawn(f"xmp-{n}.tif", saved(pixels, "TIFF", tiffinfo={700: xmp(n)}), RGB)
        if features.check("webp"):
            shelf.drawn(f"xmp-{n}.webp", saved(pixels, "WEBP", lossless=True, xmp=xmp(n)), RGB)
    both = saved(stored(RGB, 6), "JPEG", xmp=xmp(3), exif=exif(6), **fine)
    shelf.drawn("xmp-3-exif-6.jpg", both, RGB, 8)
    shelf.drawn("xmp-6-exif-1.jpg", saved(RGB, "JPEG", xmp=xmp(6), exif=exif(1), **fine), RGB, 8)


def _lab_to_srgb(light: np.ndarray, a: float, b: float) -> np.ndarray:
    """CIE L*a*b* (D50) -> uint8 sRGB, by the textbook."""
    fy = (light + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    to_linear = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]  # from D50
    linear = np.clip(xyz @ np.array(to_linear).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def _tiff_numbers(shelf: _Shelf) -> None:
    """More than 8 bits a channel: a clipping reader paints these white or black."""
    low, high = int(GRAY.min()), int(GRAY.max())
    stretched = np.rint((GRAY.astype(float) - low) * 255 / (high - low)).astype(np.uint8)
    for order, name in (("<", "little"), (">", "big")):
        u2, i2, i4, f4 = (order + kind for kind in ("u2", "i2", "i4", "f4"))
        shape = GRAY.shape
        shelf.drawn(f"tiff-16-bit-{name}.tif", tiff(shape, 16, 1, WIDE.astype(u2).tobytes(), order), GRAY)
        signed = (GRAY.astype(int) * 100 - 12000).astype(i2)
        shelf.drawn(f"tiff-signed-16-bit-{name}.tif", tiff(shape, 16, 1, signed.tobytes(), order, 2), stretched)
        large = (GRAY.astype(np.int64) * 16_000_000 - 2_000_000_000).astype(i4)
        shelf.drawn(f"tiff-signed-32-bit-{name}.tif", tiff(shape, 32, 1, large.tobytes(), order, 2), stretched)
        unit = (GRAY / 255).astype(f4)
        shelf.drawn(f"tiff-float-{name}.tif", tiff(shape, 32, 1, unit.tobytes(), order, 3), GRAY)
        wide = RGB.astype(order + "u2") * 257
        shelf.drawn(f"tiff-rgb-16-bit-{name}.tif", tiff(wide.shape, 16, 2, wide.tobytes(), order), RGB)
    shape = GRAY.shape
    huge = (GRAY.astype(np.int64) * 16_000_000).astype("<u4")
    shelf.drawn("tiff-unsigned-32-bit.tif", tiff(shape, 32, 1, huge.tobytes()), stretched)
    shelf.drawn("tiff-16-bit-white-is-zero.tif", tiff(shape, 16, 0, (65535 - WIDE).astype("<u2").tobytes()), GRAY)
    twelve = GRAY.astype(int) * 4095 // 255
    twin = np.rint(twelve / 4095 * 255).astype(np.uint8)
    shelf.drawn("tiff-12-bit.tif", tiff(shape, 12, 1, packed(twelve, 12).tobytes()), twin)
    shelf.drawn(
        "tiff-float-beyond.tif",
        tiff(shape, 32, 1, (GRAY * 7.5 - 99).astype("<f4").tobytes(), "<", 3),
        stretched,
        1,
    )
    shelf.drawn("tiff-float-huge.tif", tiff(shape, 32, 1, (GRAY * 1e36).astype("<f4").tobytes(), "<", 3), stretched, 1)
    tiny = (GRAY / 255e30).astype("<f4")
    shelf.drawn("tiff-float-tiny.tif", tiff(shape, 32, 1, tiny.tobytes(), "<", 3), np.zeros_like(GRAY), 0, (FEW, FLAT))
    flat = np.full(shape, 7, "<i4")
    shelf.drawn("tiff-32-bit-flat.tif", tiff(shape, 32, 1, flat.tobytes(), "<", 2), np.zeros_like(GRAY), 0, (FLAT,))
    for name, value in (("infinite", np.inf), ("minus-infinite", -np.inf)):
        holes = (GRAY / 255).astype("<f4")
        holes[5, 5] = value
        shelf.failed(f"tiff-float-{name}.tif", tiff(shape, 32, 1, holes.tobytes(), "<", 3), "damaged")
    for bits in (16, 64):
        unit = (GRAY / 255).astype(f"<f{bits // 8}")
        shelf.drawn(f"tiff-float-{bits}.tif", tiff(shape, bits, 1, unit.tobytes(), "<", 3), GRAY)
    compressed = saved(Image.fromarray((GRAY / 255).astype(np.float32)), "TIFF", compression="tiff_adobe_deflate")
    shelf.drawn("tiff-float-deflate.tif", compressed, GRAY)


def _ppm(shelf: _Shelf) -> None:
    size = b"%d %d\n" % (WIDTH, HEIGHT)
    good = b"P6\n" + size + b"255\n" + RGB.tobytes()
    plain = lambda array: b" ".join(b"%d" % v for v in array.ravel())  # noqa: E731
    shelf.drawn("ppm.ppm", good, RGB)
    shelf.drawn("ppm-gray.pgm", b"P5\n" + size + b"255\n" + GRAY.tobytes(), GRAY)
    bits = GRAY > 127
    shelf.drawn("ppm-bits.pbm", b"P4\n" + size + np.packbits(~bits, axis=1).tobytes(), bits * np.uint8(255))
    shelf.drawn("ppm-plain-bits.pbm", b"P1\n" + size + plain((~bits).astype(int)), bits * np.uint8(255))
    shelf.drawn("ppm-plain-gray.pgm", b"P2\n" + size + b"255\n" + plain(GRAY), GRAY)
    shelf.drawn("ppm-plain.ppm", b"P3\n" + size + b"255\n" + plain(RGB), RGB)
    shelf.drawn("ppm-comment.ppm", b"P6\n# a comment\n" + size + b"255\n" + RGB.tobytes(), RGB)
    shelf.drawn("ppm-16-bit.pgm", b"P5\n" + size + b"65535\n" + WIDE.astype(">u2").tobytes(), GRAY)
    wide = (RGB.astype(np.uint32) * 257).astype(">u2")
    shelf.drawn("ppm-rgb-16-bit.ppm", b"P6\n" + size + b"65535\n" + wide.tobytes(), RGB)
    twelve = GRAY.astype(int) * 4095 // 255
    twin = np.rint(twelve / 4095 * 255).astype(np.uint8)
    shelf.drawn("ppm-12-bit.pgm", b"P5\n" + size + b"4095\n" + twelve.astype(">u2").tobytes(), twin, 1)
    four = GRAY >> 4
    shelf.drawn("ppm-4-bit.pgm", b"P5\n" + size + b"15\n" + four.tobytes(), four * np.uint8(17))
    unit = (GRAY / 255).astype("<f4")[::-1]
    shelf.drawn("ppm-float.pfm", b"Pf\n" + size + b"-1.0\n" + unit.tobytes(), GRAY)
    shelf.failed("ppm-float-nan.pfm", b"Pf\n" + size + b"-1.0\n" + (unit * np.nan).tobytes(), "damaged")
    shelf.cut("ppm", ".ppm", good, (3, 5, 9, 0.5, -1), "truncated", "damaged")
    shelf.failed("ppm-white-0.ppm", b"P6\n" + size + b"0\n" + RGB.tobytes(), "damaged")
    shelf.failed("ppm-white-99999.ppm", b"P6\n" + size + b"99999\n" + RGB.tobytes(), "damaged")
    shelf.failed("ppm-size-minus.ppm", b"P6\n-5 -5\n255\n" + RGB.tobytes(), "damaged", "truncated")
    shelf.failed("ppm-size-words.ppm", b"P6\nten ten\n255\n" + RGB.tobytes(), "damaged")
    shelf.failed("ppm-plain-words.ppm", b"P3\n" + size + b"255\nred green blue", "damaged", "truncated")
    shelf.failed("ppm-plain-too-large.ppm", b"P2\n2 1\n255\n300 0\n", "damaged")
    shelf.failed("ppm-endless-comment.ppm", b"P6\n#" + b"x" * 100_000, "truncated", "damaged")
    shelf.failed("pam.pam", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0", "format")


# A JPEG 2000 of three components of 12 bits, which Pillow cannot write, without and with loss; and what it shows.
TWELVE_BITS = (
    b"|4;u>051Rl0000C0000800000000000000C00008000000000000RpF0Sf^E3jqQDQUDA90003200aa80smY81VCW_WB?@q0Yh?SVRU6=AYyqS"
    b"PjF>!N>D{dAa-SPb7^mGATlmBE;Rp;015yA0005f00IA#&*qR39rcJ@6}D+7zpMRLnw#rAn5TEpsYax9c`SNe6IQdkCcJgKB5!Er^mh+a{~qZ+"
    b"KAV&0IcuD8U6*xI<#8yXtaa)NO1v5O3&n^DH6V36HaYwPPlE`^vFi(4!e{voAAA!#n;l2f2nEIDp)dzAYAh)1>$uU|rglDCF~XaSad=f?7f)JW"
    b"tmvhl`}(!t;%pR|34e8o5je9{z%4)h0T~{D+9@!lv#h?z`4X!3KB2?DlAQI%JUN<L%Ny3X@=6>cBfTlOR`BZLm7d#w-Pzp@0fyif;3h4;dOrmM"
    b"v>xY`te-?nY0`WC!d1njrxh~nor1J(hnk@rm1It*3kfbStrO?*KCOrbd_JA?({HV+a#JjcFMzJ_-=3iys^)-H@8PSZ!hHTG&)?!eF~50?YqGfT"
    b"6warzJCuV~k;QR+h%kc-DHHr^G9Wl2ro2)`#yEW*OF$4gx)B1t%EV@tLA9naQ#q{}!#a=A@NT<Jy$W70g533tU3f;fHxbxO(^;e#D7(KQ$g6e-"
    b"-H<CyiC0F9tw9pj0k1P$O9tcGSlae`5X7_8)!Iu4Aw3pJMHes(pfsS0pbDTj|Je"
)
TWELVE_BITS_LOSSY = (
    b"|4;u>051Rl0000C0000800000000000000C00008000000000000RpF0Sf^E3jqQDQUDA90003200aa80RLP71wvo||6~9q00BdCWnpw>WFTUB"
    b"AWv{*Zc0!^M<8}(a&u{KZXhx)H7+#&kN^q*00001y#N9Klh5Xf5gql8X`2$u@!&%yyXcPko5?9f0aa%@zGW7jwt3T~oc~4I*~U@h@9?bR12W<!"
    b"4<z(p1G@-?B7e^J!1u6G$Q5pND1CA#31_?e6=uw}`uhN|8~o*=1Use2<MX^*FiHzNNxRf2_#}zZxT7dq@f$-z=cfq?F2iYKt$J;iaKU)q52hU&"
    b"SI_2_6qyNr!CLs`WF_@sk)U8TebUodtK4wlp&?uPo-p#H2Yq-~IaTPkiYxmXw=U6c+3oGwCMHZ?|9L}4{D>#jM|S8tQB0{{w|Q1i5J@ul@ttZ_"
    b"Bt((DKr61CxJ>I(sUjuZj^UzuNLq*paCH+HlSv(AdFVW|*k7FY_^fsi*3bzQH=v~tMlLvjrx{mhDhqULH%HIrhcUl-czX5zUtDiH)yi*j5?jh8"
    b"F4+HFxKrr}IpZaHxXc@gyJj`=dpNlzw~bpwhHp8#%AM@}rnkCi>P_N3{2J)6e(_9oy*dXT%`^3v$81NFRqyJH;G+Iaa6xt={eOZ&pFR4kjCcq-"
    b"n2*l>`u9U1=H7zT_Xkq)m<?_G#UAwH%prRS|Je"
)
TWELVE_BITS_OF_HUES = (
    b"0000CYEU2`4GM<}0000KW^{RQYH%_j00000YH%_j0000jYH%`W0000MX=r3}000080000C00RpL0000001sntY;pkr000005&!@J_iAu5WB*V8"
    b"Q2;Lh000003;+NC2mk;800000000003;+NC2mk;8000000009E0RamE0Sf^E|55-900001000C800IA800cl_|6~9q00BdCWnpw>WFTUBAWv{*"
    b"Zc0!^M<8}(a&u{KZXhx)H7+#&kN^q*00001e*gjhli%VLQs%6&8HZ2IJrQKXK+K3iq1l!{(Stg={=_O>QnXMHr0D+`k~2~v7fD(T$qjD^u-3;c"
    b"VyaK3nKx|w{@+ePddC5?srTNDaJWW&(|yNSQ1j;d;VNch;{1|)6LFUOz$QX0tPCnCz@MY-wjB`je-ee&@_Xc|W`lmk0c_<D0hR^ozt82^A54d^"
    b"=svfd!o$4Z%J!aQh7tM->855Vriafd(?&D<2v^O{c=I7@W(15fCa6fr(;YBvYXS|S&>n^i!gliPZS;P8$LCL1rx<OtpOncHP{DZ-=&UG|dLD}K"
    b"l;CDRcd4x#9@}{T9Y9Fl(6X!E(evE1z%S3`v^sj}2WUVf!`pKwDju(MLG9SieQ$D1w<#|$&7v<UCsPPCQBT&&Y_~khQzi17eT2886xH56@USfA"
    b";focGyvG$QXUw(+-*iRePywLCDh(XBRd(Um($x&QW+AuKRPq}4;G_rLl96&LS0De`"
)  # sYCC
_Y, _X = np.indices((8, 12))
_SPOTS = np.select([(_X + _Y) % 5 == 0, (_X + _Y) % 5 == 1], [4095, 0], 900)
TWELVE_BITS_ARE = np.rint(np.dstack([_X * 4095 // 11, _Y * 4095 // 7, _SPOTS]) * (255 / 4095)).astype(np.uint8)

_HUES_ARE = np.dstack(
    [_X * 255 // 11, _Y * 255 // 7, np.select([(_X + _Y) % 5 == 0, (_X + _Y) % 5 == 1], [255, 0], 60)]
)
_HUES_ARE[0], _HUES_ARE[-1] = 255, 0


def _jpeg2000(shelf: _Shelf) -> None:
    if not features.check("jpg_2000"):
        return
    good = saved(RGB, "JPEG2000")
    shelf.drawn("jpeg2000.jp2", good, RGB)
    shelf.drawn("jpeg2000-stream.j2k", saved(RGB, "JPEG2000", no_jp2=True), RGB)
    shelf.drawn("jpeg2000-gray.jp2", saved(GRAY, "JPEG2000"), GRAY)
    shelf.drawn("jpeg2000-alpha.jp2", saved(RGBA, "JPEG2000"), over_white(RGB, ALPHA), 1)
    shelf.drawn("jpeg2000-16-bit.jp2", saved(WIDE.astype(np.uint16), "JPEG2000"), GRAY)
    shelf.drawn("jpeg2000-tiles.jp2", saved(RGB, "JPEG2000", tile_size=(16, 16)), RGB)
    few = GRAY >> 4  # the same stream, and said to be of 4 bits: without loss, numbers are stored less half their range
    stream = bytearray(saved(few + np.uint8(120), "JPEG2000", no_jp2=True))
    stream[42] = 3
    shelf.drawn("jpeg2000-4-bit.j2k", bytes(stream), few * np.uint8(17))
    opaque = GRAY > 127  # colours of 8 bits, and whether they are seen in one
    stream = bytearray(saved(np.dstack([RGB, np.uint8(127) + opaque]), "JPEG2000", no_jp2=True))
    stream[42 + 3 * 3] = 0
    shown = np.where(opaque[..., None], RGB, np.uint8(WHITE))
    shelf.drawn("jpeg2000-alpha-of-1-bit.j2k", bytes(stream), shown)
    for name, data in (("", TWELVE_BITS), ("-lossy", TWELVE_BITS_LOSSY)):
        shelf.drawn(f"jpeg2000-12-bit{name}.j2k", base64.b85decode(data), TWELVE_BITS_ARE, 2)
    shelf.drawn("jpeg2000-12-bit-hues.jp2", base64.b85decode(TWELVE_BITS_OF_HUES), _HUES_ARE.astype(np.uint8), 4)
    shelf.cut("jpeg2000", ".jp2", good, (20, 90, 0.5, 0.9, -1), "truncated", "damaged")


def _avif(shelf: _Shelf) -> None:
    if not (hasattr(features, "modules") and "avif" in features.modules and features.check("avif")):
        return
    fine = {"quality": 95, "subsampling": "4:4:4", "speed": 8}
    good = saved(RGB, "AVIF", **fine)
    shelf.drawn("avif.avif", good, RGB, 16)
    shelf.drawn("avif-alpha.avif", saved(RGBA, "AVIF", **fine), over_white(RGB, ALPHA), 24)
    # An AVIF says itself how it is turned; what is left of an XMP that another program has followed already is not heeded.
    shelf.drawn("avif-turned-by-xmp.avif", saved(RGB, "AVIF", xmp=xmp(6), **fine), RGB, 16)
    shelf.drawn("avif-turned.avif", saved(stored(RGB, 6), "AVIF", exif=exif(6), **fine), RGB, 16)
    shelf.drawn("avif-animated.avif", saved(RGB, "AVIF", **fine, **film()), RGB, 16)
    shelf.cut("avif", ".avif", good, (40, 100, 0.5, 0.9, -1), "truncated", "damaged")


def _orientation(shelf: _Shelf) -> None:
    for n in range(1, 9):
        pixels = stored(RGB, n)
        jpeg = saved(pixels, "JPEG", quality=95, subsampling=0, exif=exif(n))
        shelf.drawn(f"orientation-{n}.jpg", jpeg, RGB, 8)
        shelf.drawn(f"orientation-{n}.png", saved(pixels, "PNG", exif=exif(n)), RGB)
        tail = (chunk(b"eXIf", exif(n).tobytes().removeprefix(b"Exif\0\0")),)
        shelf.drawn(f"orientation-{n}-behind.png", png(pixels, 8, 2, behind=tail), RGB)
        shelf.drawn(f"orientation-{n}.tif", tiff(pixels.shape, 8, 2, pixels.tobytes(), t274=[n]), RGB)
        lzw = saved(pixels, "TIFF", compression="tiff_lzw", tiffinfo={274: n})
        shelf.drawn(f"orientation-{n}-lzw.tif", lzw, RGB)
        if features.check("webp"):
            shelf.drawn(f"orientation-{n}.webp", saved(pixels, "WEBP", lossless=True, exif=exif(n)), RGB)
    wide = stored(WIDE, 6)
    data = tiff(wide.shape, 16, 0, (65535 - wide).astype("<u2").tobytes(), t274=[6])
    shelf.drawn("orientation-6-16-bit-white-is-zero.tif", data, GRAY)
    shelf.drawn("orientation-6-gray.png", saved(stored(GRAY, 6), "PNG", exif=exif(6)), GRAY)
    turned = png(stored(RGBA, 8), 8, 6, chunk(b"eXIf", exif(8).tobytes().removeprefix(b"Exif\0\0")))
    shelf.drawn("orientation-8-alpha.png", turned, over_white(RGB, ALPHA), 1)


def _sizes(shelf: _Shelf) -> None:
    dot = np.array([[[200, 30, 90]]], np.uint8)
    for form, tolerance in (("PNG", 0), ("BMP", 0), ("TIFF", 0), ("PPM", 0), ("GIF", 0), ("JPEG", 8)):
        shelf.drawn(f"one-pixel.{form.lower()}", saved(dot, form), dot, tolerance)
    shelf.drawn("one-pixel-clear.png", png(np.zeros((1, 1, 4), int), 8, 6), np.full((1, 1, 3), WHITE, np.uint8))
    for height, width in ((1, 30_000), (30_000, 1), (2, 20_000), (3, 1)):
        line = np.resize(RGB, (height, width, 3))
        shelf.drawn(f"size-{height}x{width}.png", saved(line, "PNG"), line)
    line = np.tile(GRAY[:1, :1], (1, 65_500))
    shelf.drawn("size-1x65500.jpg", saved(line, "JPEG"), line, 8, (FLAT,))
    shelf.drawn("size-65500x1.jpg", saved(line.T, "JPEG"), line.T, 8, (FLAT,))


def _bombs(shelf: _Shelf) -> None:
    """Small files that ask for more memory than they may have."""
    good = chunk(b"IDAT", zlib.compress(scanlines(RGB, 8))) + chunk(b"IEND")
    shelf.failed("bomb-header.png", PNG + header(100_000, 100_000) + good, "too-large")
    shelf.failed("bomb-header-max.png", PNG + header(2**31 - 1, 2**31 - 1) + good, "too-large")
    side = 20_000
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(side // 8 + 1)) for _ in range(side)) + rows.flush()
    real = PNG + header(side, side, 1, 0) + chunk(b"IDAT", body) + chunk(b"IEND")
    shelf.failed("bomb-real.png", real, "too-large")  # 400 million pixels in 50 kB
    line = PNG + header(1_000_001, 1, 1, 0)
    line += chunk(b"IDAT", zlib.compress(bytes(1 + 125_001))) + chunk(b"IEND")
    shelf.failed("bomb-line.png", line, "too-large")
    jpeg = saved(RGB, "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    shelf.failed("bomb.jpg", jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :], "too-large")
    gif = saved(GRAY, "GIF")
    shelf.failed("bomb.gif", gif[:6] + b"\xff\xff\xff\xff" + gif[10:], "too-large")
    frames = saved(GRAY, "GIF", save_all=True, append_images=[Image.new("L", (WIDTH, HEIGHT))], disposal=2)
    shelf.failed("bomb-film.gif", frames[:6] + b"\xff\xff\xff\xff" + frames[10:], "too-large")
    shelf.failed("bomb.bmp", bmp(100_000, 100_000, 24, 0, b"", bytes(999)), "too-large")
    shelf.failed("bomb.tif", tiff((100_000, 100_000, 3), 8, 2, bytes(999)), "too-large")
    shelf.failed("bomb.ppm", b"P6\n99999 99999\n255\n" + bytes(999), "too-large")
    if features.check("webp"):
        extended = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xfe\x3f\0" * 2
        frame = saved(RGB, "WEBP", lossless=True)[12:]
        riff = b"WEBP" + extended + frame
        data = b"RIFF" + struct.pack("<I", len(riff)) + riff
        shelf.failed("bomb.webp", data, "too-large", "damaged", "truncated")
    if features.check("jpg_2000"):
        stream = saved(RGB, "JPEG2000", no_jp2=True)
        size = stream.index(b"\xff\x51") + 6
        data = stream[:size] + struct.pack(">II", 100_000, 100_000) + stream[size + 8 :]
        shelf.failed("bomb.j2k", data, "too-large")


def _no_images(shelf: _Shelf) -> None:
    shelf.failed("empty.png", b"", "empty")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cat.jpg", saved(RGB, "JPEG"))
    for name, data in {
        "one-byte.png": b"\x89",
        "zeros.jpg": bytes(5000),
        "ones.jpg": b"\xff" * 5000,
        "noise.png": np.random.default_rng(7).bytes(5000),
        "text.jpg": "Liebe Grüße aus dem Urlaub\n".encode() * 9,
        "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "drawing.png": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "drawing-plain.png": b"<svg/>",
        "comments.png": b"<!>" * 5000,  # a trap for regular expressions
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\nshowpage\n",
        "postscript-binary.eps": b"\xc5\xd0\xd3\xc6" + bytes(99),
        "document.png": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "archive.png": archive.getvalue(),
        "squeezed.png": gzip.compress(saved(RGB, "PNG")),
        "film.jpg": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(99),
        "phone.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        "layers.psd": b"8BPS\0\1" + bytes(6) + b"\0\3" + struct.pack(">IIHH", 1, 1, 8, 3) + bytes(15),
        "icon.ico": saved(np.resize(RGB, (16, 16, 3)), "ICO"),
        "targa.tga": saved(RGB, "TGA"),
        "pcx.pcx": saved(RGB, "PCX"),
        "pickle.png": pickle.dumps({"image": 1}),
        "program.png": b"\x7fELF\2\1\1" + bytes(99),
        "script.png": b"#!/bin/sh\nrm -rf /\n",
        "x-bitmap.xbm": b"#define a_width 1\n#define a_height 1\nstatic char a_bits[] = {\n0};\n",
        "magick.png": b"push graphic-context\nfill 'url(https://127.0.0.1/|touch x)'\npop graphic-context",
        "magick.mvg": b"viewbox 0 0 9 9 image over 0,0 0,0 'ephemeral:/tmp/x'",
    }.items():
        shelf.failed(name, data, "format")
    shelf.failed("array.npy", b"\x93NUMPY\1\0" + bytes(99), "damaged", "format")  # as numbers; as a picture


def _file_types(shelf: _Shelf) -> None:
    good = shelf.write("good-neighbour.png", saved(RGB, "PNG"))
    shelf.path_drawn("good-neighbour", good, RGB)

    def link(name: str, to: str) -> bytes:
        os.symlink(to, shelf.path(name))
        return shelf.path(name)

    shelf.path_drawn("link", link("link.png", "good-neighbour.png"), RGB)
    shelf.path_drawn("link-to-link", link("link-to-link.png", "link.png"), RGB)
    os.link(good, shelf.path("second-name.png"))
    shelf.path_drawn("hard-link", shelf.path("second-name.png"), RGB)
    shelf.path_failed("link-dangling", link("link-dangling.png", "nothing"), "missing")
    shelf.path_failed("link-loop", link("link-loop.png", "link-loop.png"), "unreadable")
    shelf.path_failed("link-to-folder", link("link-to-folder.png", "."), "not-a-file")
    shelf.path_failed("link-to-zeros", link("link-to-zeros.png", "/dev/zero"), "not-a-file")
    shelf.path_failed("link-to-null", link("link-to-null.png", "/dev/null"), "not-a-file")
    shelf.path_failed("link-to-terminal", link("link-to-terminal.png", "/dev/tty"), "not-a-file", "unreadable")
    shelf.path_failed("link-to-proc", link("link-to-proc.png", "/proc/version"), "empty")
    os.mkfifo(shelf.path("fifo.jpg"))
    shelf.path_failed("fifo", shelf.path("fifo.jpg"), "not-a-file")
    shelf.path_failed("link-to-fifo", link("link-to-fifo.jpg", "fifo.jpg"), "not-a-file")
    os.mknod(shelf.path("socket.jpg"), stat.S_IFSOCK | 0o600)
    shelf.path_failed("socket", shelf.path("socket.jpg"), "not-a-file")
    os.mkdir(shelf.path("folder.jpg"))
    shelf.path_failed("folder", shelf.path("folder.jpg"), "not-a-file")
    shelf.path_failed("missing", shelf.path("not-there.jpg"), "missing")
    shelf.path_failed("below-a-file", shelf.path("good-neighbour.png/x.png"), "missing")
    shelf.path_failed("name-of-300", shelf.path("n" * 296 + ".png"), "missing")
    with open(shelf.path("sparse.png"), "wb") as file:
        file.write(saved(RGB, "PNG"))
        file.truncate(2**40)  # takes no room on the disk
    shelf.path_failed("sparse", shelf.path("sparse.png"), "too-large")
    locked = shelf.write("locked.png", saved(RGB, "PNG"))
    os.chmod(locked, 0)
    if os.access(locked, os.R_OK):  # root
        os.unlink(locked)
    else:
        shelf.path_failed("locked", locked, "unreadable")


def _names(shelf: _Shelf) -> None:
    """Good images under names that break programs."""
    data = saved(RGB, "PNG")
    for name, file in {
        "newline": b"new\nline.png",
        "tab": b"tab\t.png",
        "return": b"carriage\rreturn.png",
        "escape": b"\x1b[31mred\x1b[0m.png",
        "bell": b"bell\x07.png",
        "delete": b"del\x7f.png",
        "leading-dash": b"-o.png",
        "looks-like-option": b"--force",
        "leading-space": b" space.png",
        "trailing-space": b"space.png ",
        "trailing-dot": b"dot.png.",
        "single-quote": b"it's.png",
        "double-quote": b'say "cheese".png',
        "backslash": b"back\\slash\\n.png",
        "backquote": b"`id`.png",
        "dollar": b"$(id) $HOME.png",
        "semicolon": b"a;b&c|d.png",
        "percent": b"100%s%n%d.png",
        "braces": b"{a}{0}.png",
        "glob": b"*?[a-z].png",
        "hash": b"#comment.png",
        "tilde": b"~.png",
        "colon": b"C:x.png",
        "at": b"@file.png",
        "less-than": b"<b>&amp;.png",
        "comma": b"a,b.png",
        "emoji": "📷🐈.png".encode(),
        "chinese": "猫.png".encode(),
        "arabic": "قط.png".encode(),
        "accent-one": "caf\u00e9.png".encode(),
        "accent-two": "cafe\u0301.png".encode(),
        "right-to-left": "photo\u202egnp.exe.png".encode(),
        "zero-width": "zero\u200bwidth.png".encode(),
        "line-separator": "line\u2028separator.png".encode(),
        "next-line": "next\u0085line.png".encode(),
        "not-utf-8": b"caf\xe9.png",
        "not-utf-8-at-all": b"\xff\xfe\x80.png",
        "overlong": b"\xc0\xaf.png",
        "surrogate": b"\xed\xa0\x80.png",
        "long-255": b"l" * 251 + b".png",
        "long-255-wide": "猫".encode() * 83 + b"ab.png",
        "upper-case": b"UPPER.PNG",
        "no-extension": b"no-extension",
        "two-extensions": b"two.jpg.png",
        "wrong-extension": b"png.jpg",
        "text-extension": b"png.txt",
        "same-stem-1": b"same.png",
        "same-stem-2": b"same.jpg",
        "like-an-output": b"cat.jpg.guided.png",
        "dos-device": b"NUL.png",
    }.items():
        try:
            path = shelf.write(file, data)
        except (OSError, ValueError):  # a file system that takes UTF-8 names only
            continue
        shelf.path_drawn(f"name-{name}", path, RGB)


if __name__ == "__main__":
    for case in catalogue(sys.argv[1]):
        print(case.outcome, ascii(os.fsdecode(case.path)), ",".join(sorted(case.kinds)), sep="\t")
