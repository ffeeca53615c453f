"""Which formats are read, told from a file's first bytes."""

from __future__ import annotations

import importlib
import re
from typing import NamedTuple

from PIL import features

from gradviz_cli.errors import ImageError


class _Format(NamedTuple):
    magic: bytes  # regular expression for the first bytes
    plugin: str  # Pillow's module that reads it
    feature: str | None = None  # Pillow's name of a library that it may have been built without


# No format that starts another program (EPS), reaches for other files, or has no magic number (TGA).
_FORMATS = {
    "JPEG": _Format(rb"\xff\xd8\xff", "JpegImagePlugin", "jpg"),
    "PNG": _Format(rb"\x89PNG\r\n\x1a\n", "PngImagePlugin", "zlib"),
    "WEBP": _Format(rb"RIFF....WEBP", "WebPImagePlugin", "webp"),
    "GIF": _Format(rb"GIF8[79]a", "GifImagePlugin"),
    "BMP": _Format(rb"BM", "BmpImagePlugin"),
    "TIFF": _Format(rb"II[*+]\0|MM\0[*+]", "TiffImagePlugin"),
    "PPM": _Format(rb"P[1-6f]\s", "PpmImagePlugin"),
    "JPEG2000": _Format(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", "Jpeg2KImagePlugin", "jpg_2000"),
    "AVIF": _Format(rb"....ftyp.{0,64}?avi[fs]", "AvifImagePlugin", "avif"),
}
FORMATS = tuple(_FORMATS)
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


def _recognise(data: bytes) -> str:
    """The key of `_FORMATS` that `data` begins like, its plugin imported."""
    for name, (magic, plugin, feature) in _FORMATS.items():
        if re.match(magic, data, re.DOTALL):
            if feature and not features.check(feature):
                raise ImageError("format", f"{name}: this Pillow cannot read it; install another build of it")
            importlib.import_module(f"PIL.{plugin}")  # only this one: `Image.open` would import all of them
            return name
    looks = [name for name, magic in _OTHERS.items() if re.match(magic, data[:1024], re.DOTALL)]
    what = f"looks like {looks[0]}" if looks else "no image begins like this"
    raise ImageError("format", f"{what}; accepted are {', '.join(FORMATS)}")


def looks_like_image(data: bytes) -> bool:
    """Whether a file that begins so could be an image."""
    return any(re.match(one.magic, data, re.DOTALL) for one in _FORMATS.values() if one.magic)
