"""Which formats are read, told from a file's first bytes."""

from __future__ import annotations

import importlib
import os
import re
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

from PIL import features

from gradviz_cli.errors import ImageError


class _Format(NamedTuple):
    magic: bytes  # regular expression for the first bytes
    plugin: str  # Pillow's module that reads it
    feature: str | None = None  # Pillow's name of a library that it may have been built without
    suffixes: tuple[str, ...] = ()  # how the names of its files end, in small letters


# No format that starts another program (EPS), reaches for other files, or has no magic number (TGA).
_FORMATS = {
    "JPEG": _Format(rb"\xff\xd8\xff", "JpegImagePlugin", "jpg", suffixes=(".jpg", ".jpeg", ".jpe", ".jfif")),
    "PNG": _Format(rb"\x89PNG\r\n\x1a\n", "PngImagePlugin", "zlib", suffixes=(".png", ".apng")),
    "WEBP": _Format(rb"RIFF....WEBP", "WebPImagePlugin", "webp", suffixes=(".webp",)),
    "GIF": _Format(rb"GIF8[79]a", "GifImagePlugin", suffixes=(".gif",)),
    "BMP": _Format(rb"BM", "BmpImagePlugin", suffixes=(".bmp", ".dib")),
    "TIFF": _Format(rb"II[*+]\0|MM\0[*+]", "TiffImagePlugin", suffixes=(".tif", ".tiff")),
    "PPM": _Format(rb"P[1-6f]\s", "PpmImagePlugin", suffixes=(".ppm", ".pgm", ".pbm", ".pnm", ".pfm")),
    "JPEG2000": _Format(
        rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
        "Jpeg2KImagePlugin",
        "jpg_2000",
        suffixes=(".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
    ),
    "AVIF": _Format(rb"....ftyp.{0,64}?avi[fs]", "AvifImagePlugin", "avif", suffixes=(".avif", ".avifs")),
}
FORMATS = tuple(_FORMATS)


class _Aside(NamedTuple):
    """A kind of files that could be meant as images, though in a folder they are none."""

    suffixes: tuple[str, ...]
    remedy: str
    reader: str | None = None  # package with which they are images


_ASIDE = {
    "HEIC photo": _Aside((".heic", ".heif", ".hif"), "pip install 'gradviz-cli[heif]' for HEIC", "pillow_heif"),
    "raw photo": _Aside(
        (
            *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef"),
            *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw"),
            ".x3f",
        ),
        "develop raw photos and export them as JPEG",
    ),
    "array": _Aside((".npy", ".npz"), "--include '*.npy' for arrays"),
}
# What people put among images by mistake; named in the message, so that they see what it is.
_OTHERS = {
    "a PDF": rb"%PDF-",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "a ZIP archive": rb"PK\x03\x04",
    "gzip data": rb"\x1f\x8b",
    "HTML": rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html)",
    "SVG": rb"(\xef\xbb\xbf)?\s*<(svg|[?!].*<svg)",
    "a Photoshop file": rb"8BPS",
    "an icon": rb"\0\0[\1\2]\0",
    "HEIC or a film": rb"....ftyp",
}


def has_image_name(name: str) -> bool:
    """Whether a file of this name is an image where a folder is searched: of a format that is read here."""
    return name.lower().endswith(_suffixes())


def is_named_further(name: str) -> bool:
    """Whether a name is that of an image with more behind it, as names of outputs are: `a.jpg.guided.png`."""
    small = name.lower()
    return any(f"{suffix}." in small for suffix in _suffixes())


def aside(name: str) -> tuple[str, str] | None:
    """What a file is by its name that could be meant as an image, though in a folder it is none, and what to do."""
    ending = os.path.splitext(name)[1].lower()
    return next(((kind, one.remedy) for kind, one in _ASIDE.items() if ending in one.suffixes), None)


@cache
def _suffixes() -> tuple[str, ...]:
    read = [form.suffixes for form in _FORMATS.values()]
    read += [one.suffixes for one in _ASIDE.values() if one.reader and find_spec(one.reader)]
    return tuple(suffix for suffixes in read for suffix in suffixes)


def _recognise(data: bytes) -> str:
    """The key of `_FORMATS` that `data` begins like, its plugin imported."""
    for name, (magic, plugin, feature, _) in _FORMATS.items():
        if re.match(magic, data, re.DOTALL):
            if feature and not features.check(feature):
                raise ImageError("format", f"{name}: this Pillow cannot read it; install another build of it")
            importlib.import_module(f"PIL.{plugin}")  # only this one: `Image.open` would import all of them
            return name
    looks = [name for name, magic in _OTHERS.items() if re.match(magic, data[:1024], re.DOTALL)]
    what = f"looks like {looks[0]}" if looks else "no image begins like this"
    raise ImageError("format", f"{what}; accepted are {', '.join(FORMATS)}")
