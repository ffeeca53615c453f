"""Which formats are read, told from a file's first bytes."""

from __future__ import annotations

import importlib
import os
import re
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

from gradviz_cli.errors import ImageError


class _Format(NamedTuple):
    magic: bytes  # regular expression for the first bytes
    plugin: str  # Pillow's module that reads it
    feature: str | None = None  # Pillow's name of a library that it may have been built without
    suffixes: tuple[str, ...] = ()  # how the names of its files end, in small letters


# Reads HEIC and HEIF, the photos of phones: a package of its own, the extra `heif`.
HEIF = "pillow_heif"
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
    "HEIF": _Format(rb"....ftyp.{0,64}?(he[iv][cxms]|mif[12]|msf1)", HEIF),  # its names: _ASIDE
}
FORMATS = tuple(_FORMATS)
# Numbers, which `images.arrays` reads; a zip archive is one of arrays if the first name in it is an array's.
ARRAYS = {"NPY": rb"\x93NUMPY", "NPZ": rb"PK\x03\x04.{26}[^\0]{1,250}?\.npy"}


class _Aside(NamedTuple):
    """A kind of files that could be meant as images, though in a folder they are none."""

    suffixes: tuple[str, ...]
    remedy: str
    reader: str | None = None  # package with which they are images


_ASIDE = {
    "HEIC photo": _Aside((".heic", ".heif", ".hif"), "pip install 'gradviz-cli[heif]' for HEIC", HEIF),
    "raw photo": _Aside(
        (
            *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef"),
            *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw"),
            ".x3f",
        ),
        "develop raw photos and export them as JPEG",
    ),
    "array": _Aside((".npy", ".npz"), "--include '*{ending}' for arrays"),
}
# Raw photos that no TIFF holds, or that say so in their first bytes; `images.tiff` knows the others.
_RAW = {
    "Canon CR2": rb"II\*\0.{4}CR",
    "Canon CR3": rb"....ftypcrx ",
    "Canon CRW": rb"II\x1a\0\0\0HEAPCCDR",
    "Fujifilm RAF": rb"FUJIFILMCCD-RAW",
    "Olympus ORF": rb"IIR[OS]|MMOR",
    "Panasonic RW2": rb"IIU\0",
    "Phase One IIQ": rb"(II\*\0|MM\0\*).{4}(IIII|MMMM)",
    "Minolta MRW": rb"\0MRM",
    "Sigma X3F": rb"FOVb",
}
# What people put among images by mistake: what it is, and what to do with it.
_AS_PICTURE = "export it as PNG or JPEG"
_STILLS = "take out still pictures: ffmpeg -i FILE -vf fps=1 %04d.png"
_UNPACK = "unpack it first"
_OTHERS = {
    "a PDF": (rb"%PDF-", "draw its pages: pdftoppm -png FILE page"),
    "PostScript": (rb"%!PS|\xc5\xd0\xd3\xc6", _AS_PICTURE),
    "a ZIP archive": (rb"PK\x03\x04", _UNPACK),
    "gzip data": (rb"\x1f\x8b", _UNPACK),
    "HTML": (
        rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html)",
        "a page was saved in place of the picture: fetch it again",
    ),
    "SVG": (rb"(\xef\xbb\xbf)?\s*<(svg|[?!].*<svg)", "draw it: rsvg-convert -o FILE.png FILE"),
    "a Photoshop file": (rb"8BPS|8BPB", _AS_PICTURE),
    "a GIMP file": (rb"gimp xcf", _AS_PICTURE),
    "a Targa picture": (rb"\0(\0[\2\3\x0a\x0b]\0{5}|\x01[\x01\x09].{5}).{8}[\x08\x0f\x10\x18\x20]", _AS_PICTURE),
    "an icon": (rb"\0\0[\1\2]\0|icns", _AS_PICTURE),
    "a PFM in colour or a PAM": (rb"P[F7]\s", "save it as TIFF or PNG"),
    "JPEG XL": (rb"\xff\x0a|\0\0\0\x0cJXL ", "convert it: djxl FILE FILE.png"),
    "JPEG XR": (rb"II\xbc[\0\1]", _AS_PICTURE),
    "an OpenEXR or Radiance picture": (rb"\x76\x2f\x31\x01|#\?R", "map its tones to 8 bits, and save them as PNG"),
    "DICOM": (rb".{128}DICM", "write its pixels as PNG, with the window that is meant: dcm2png, pydicom"),
    "FITS, HDF5 or netCDF": (rb"SIMPLE  =|\x89HDF|CDF[\1\2\5]", "save the image in it as .npy, PNG or TIFF"),
    "QOI, DDS, PCX or DjVu": (rb"qoif|DDS |\x0a[\x02\x03\x05]\x01|AT&TFORM", _AS_PICTURE),
    "a film": (
        rb"....ftyp|....moov|\x1a\x45\xdf\xa3|RIFF....AVI |\0\0\x01[\xba\xb3]|FLV\x01|\x30\x26\xb2\x75",
        _STILLS,
    ),
    "a pointer of Git LFS": (rb"version https://git-lfs", "fetch the file itself: git lfs pull"),
    "a side file of macOS": (rb"\0\x05\x16[\0\7]", "the picture has the same name without the leading ._"),
    "nothing but zeros": (rb"\0{64}", "it was not copied or downloaded to its end: fetch it again"),
}


def may_have_pages(name: str) -> bool:
    """Whether a file of this name may hold several pictures."""
    return name.lower().endswith((*_FORMATS["TIFF"].suffixes, *_FORMATS["GIF"].suffixes))


def has_image_name(name: str) -> bool:
    """Whether a file of this name is an image where a folder is searched: of a format that is read here."""
    return name.lower().endswith(_suffixes())


def is_named_further(name: str) -> bool:
    """Whether a name is that of an image with more behind it, as names of outputs are: `a.jpg.guided.png`."""
    small = name.lower()
    return any(f"{suffix}." in small for suffix in _suffixes())


def aside(name: str) -> tuple[str, str] | None:
    """What a file is by its name that could be meant as an image, though in a folder it is none, and what to do, for its
    `{ending}`."""
    ending = os.path.splitext(name)[1].lower()
    return next(((kind, one.remedy) for kind, one in _ASIDE.items() if ending in one.suffixes), None)


@cache
def _suffixes() -> tuple[str, ...]:
    read = [form.suffixes for form in _FORMATS.values()]
    read += [one.suffixes for one in _ASIDE.values() if one.reader and find_spec(one.reader)]
    return tuple(suffix for suffixes in read for suffix in suffixes)


def array_form(data: bytes) -> str | None:
    """The key of `ARRAYS` that `data` begins like."""
    return next((name for name, magic in ARRAYS.items() if re.match(magic, data[:300], re.DOTALL)), None)


def _recognise(data: bytes) -> str:
    """The key of `_FORMATS` that `data` begins like, its plugin imported."""
    for what, magic in _RAW.items():
        if re.match(magic, data, re.DOTALL):
            raise raw_photo(what)
    for name, (magic, plugin, feature, _) in _FORMATS.items():
        if re.match(magic, data, re.DOTALL):
            if not _is_built_in(feature):
                raise ImageError("format", f"{name}: this Pillow cannot read it; install another build of it")
            _import(plugin)
            return name
    raise _nothing_of_ours(data)


def _is_built_in(feature: str | None) -> bool:
    from PIL import features  # only where a file is decoded, as it brings Pillow in

    return feature is None or bool(features.check(feature))


def _import(plugin: str) -> None:
    """Only this one: `Image.open` would import all of them."""
    if plugin != HEIF:
        importlib.import_module(f"PIL.{plugin}")
        return
    try:
        importlib.import_module(HEIF).register_heif_opener()
    except ImportError as error:
        remedy = "pip install 'gradviz-cli[heif]' reads it, or save it as JPEG"
        raise ImageError("format", f"HEIC, the photos of phones, needs an extra: {remedy}") from error


def _nothing_of_ours(data: bytes) -> ImageError:
    for name, (magic, remedy) in _OTHERS.items():
        if re.match(magic, data[:1024], re.DOTALL):
            return ImageError("format", f"looks like {name}; {remedy}; accepted are {_accepted()}")
    return ImageError("format", f"no image begins like this; accepted are {_accepted()}")


def _accepted() -> str:
    """What can be read here, and what an extra would add."""
    lacking = "" if find_spec(HEIF) else " (with the extra heif)"
    read = [
        f"{name}{lacking if form.plugin == HEIF else ''}"
        for name, form in _FORMATS.items()
        if _is_built_in(form.feature)
    ]
    return ", ".join((*read, *ARRAYS))


def raw_photo(what: str) -> ImageError:
    """The refusal of a raw photo: the pictures inside are previews of the camera's choice, often small ones."""
    return ImageError(
        "format",
        f"a raw photo ({what}): develop it first, and export it as JPEG or TIFF (darktable-cli, rawtherapee-cli, "
        "Lightroom), or take out the camera's own JPEG (exiftool -b -JpgFromRaw)",
    )


def looks_like_image(data: bytes) -> bool:
    """Whether a file that begins so could be an image."""
    return any(re.match(one.magic, data, re.DOTALL) for one in _FORMATS.values() if one.magic)


def looks_readable(data: bytes) -> bool:
    """Whether a file that begins so could be what is read here, if it is asked for by its name."""
    return looks_like_image(data) or array_form(data) is not None
