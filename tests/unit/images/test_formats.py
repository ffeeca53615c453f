"""Formats are told by their first bytes, and by nothing else."""

from __future__ import annotations

import pytest
from odd_images import RGB, saved
from PIL import features

from gradviz_cli.errors import ImageError
from gradviz_cli.images import formats
from gradviz_cli.images.formats import FORMATS, _recognise


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_what_pillow_writes_is_known(form: str) -> None:
    if form == "WEBP" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    assert _recognise(saved(RGB, form)) == form


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),
        (b"GIF87a", "GIF"),
        (b"P6 1 1 255\n", "PPM"),
        (b"Pf\n1 1", "PPM"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\xff\x4f\xff\x51", "JPEG2000"),
    ],
)
def test_first_bytes(monkeypatch: pytest.MonkeyPatch, data: bytes, form: str) -> None:
    monkeypatch.setattr(features, "check", lambda name: True)
    monkeypatch.setattr(formats.importlib, "import_module", lambda name: None)
    assert _recognise(data) == form


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "no image begins like this"),
        (b"P7\n", "a PFM in colour or a PAM"),
        (b"\x89PNG", "no image begins like this"),
        (b"%!PS-Adobe EPSF", "PostScript"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\xef\xbb\xbf <!DOCTYPE html>", "HTML"),
        (b"<?xml version='1.0'?>\n<svg", "SVG"),
        (b"8BPS", "Photoshop"),
        (b"\0\0\1\0", "an icon"),
        (b"\0\0\0\x18ftypisom", "a film"),
    ],
)
def test_what_is_no_image_of_ours(data: bytes, word: str) -> None:
    with pytest.raises(ImageError, match=word) as caught:
        _recognise(data)
    assert caught.value.kind == "format" and all(name in caught.value.message for name in FORMATS)


@pytest.mark.parametrize(
    ("installed", "said"), [(True, "AVIF, HEIF, NPY"), (False, "AVIF, HEIF (with the extra heif), NPY")]
)
@pytest.mark.parametrize("data", [b"", b"%PDF-1.7"])
def test_only_what_can_be_read_is_called_accepted(
    monkeypatch: pytest.MonkeyPatch, data: bytes, installed: bool, said: str
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: installed or None)
    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    with pytest.raises(ImageError) as caught:
        _recognise(data)
    assert said in caught.value.message and "WEBP" not in caught.value.message


@pytest.mark.parametrize(
    ("data", "what", "remedy"),
    [
        (b"\xff\x0a\xfa\x1f", "JPEG XL", "djxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "djxl"),
        (b"II\xbc\1", "JPEG XR", "export it"),
        (b"%PDF-1.7", "a PDF", "pdftoppm"),
        (b"<svg/>", "SVG", "rsvg-convert"),
        (b"8BPS\0\1", "a Photoshop file", "export it"),
        (b"\0\0\2" + bytes(9) + b"\x09\0\x07\0\x18\x20", "a Targa picture", "export it"),
        (b"\0\1\1\0\0\0\1\x18\0\0\0\0\x09\0\x07\0\x08\0", "a Targa picture", "export it"),
        (b"\0\0\2\0\1\0\x20\x20\0\0\4\0\4\0\xa8\x0c\0\0\x16\0\0\0", "an icon", "export it"),
        (b"PF\n9 7\n-1.0\n", "a PFM in colour", "save it"),
        (b"\0\0\0\x20ftypqt  ", "a film", "ffmpeg"),
        (b"\x1a\x45\xdf\xa3", "a film", "ffmpeg"),
        (b"RIFF\0\0\0\0AVI LIST", "a film", "ffmpeg"),
        (bytes(128) + b"DICM", "DICOM", "window"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "side file of macOS", "without the leading"),
        (bytes(500), "nothing but zeros", "fetch it again"),
        (b"<html><body>404", "HTML", "fetch it again"),
        (b"FUJIFILMCCD-RAW 0201", "a raw photo (Fujifilm RAF)", "export it as JPEG"),
        (b"\0\0\0\x18ftypcrx ", "a raw photo (Canon CR3)", "exiftool -b -JpgFromRaw"),
        (b"II*\0\x10\0\0\0CR\2\0", "a raw photo (Canon CR2)", "export it as JPEG"),
    ],
)
def test_what_it_is_and_what_to_do(data: bytes, what: str, remedy: str) -> None:
    with pytest.raises(ImageError) as caught:
        _recognise(data)
    assert what in caught.value.message and remedy in caught.value.message


@pytest.mark.parametrize("brands", [b"heic\0\0\0\0mif1heic", b"heix\0\0\0\0", b"hevc\0\0\0\0", b"mif1\0\0\0\0mif1heic"])
def test_photos_of_phones_need_an_extra_and_it_is_named(monkeypatch: pytest.MonkeyPatch, brands: bytes) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(formats.importlib, "import_module", missing)
    with pytest.raises(ImageError, match=r"HEIC.*pip install 'gradviz-cli\[heif\]'") as caught:
        _recognise(b"\0\0\0\x18ftyp" + brands)
    assert caught.value.kind == "format"


def test_a_library_that_pillow_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(ImageError, match="WEBP: this Pillow cannot read it"):
        _recognise(b"RIFF\0\0\0\0WEBP")
    assert _recognise(b"GIF89a") == "GIF"  # needs none


# ---- names


def test_every_format_has_names() -> None:
    packages = {one.reader for one in formats._ASIDE.values()}
    assert all(form.suffixes or form.plugin in packages for form in formats._FORMATS.values())
    names = ["a.jpg", "a.JPEG", "b.Png", "c.webp", "d.gif", "e.bmp", "f.TIF", "f.tiff", "g.pgm", "h.jp2", "i.avif"]
    others = ["jpg", "a.jpg.json", "a.jpg~", "a.xmp", "a.thm", "a.mp4", "a.psd", "a.svg", "a.pdf", "a.ico", "a", "a."]
    assert all(map(formats.has_image_name, names)) and not any(map(formats.has_image_name, others))


@pytest.mark.parametrize("there", [False, True])
def test_photos_that_need_a_package(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Without it a folder of a phone would fail every night, for photos that nobody asked for by name."""
    monkeypatch.setattr(formats, "find_spec", lambda name: there or None)
    formats._suffixes.cache_clear()
    assert formats.has_image_name("IMG_1.HEIC") == there and not formats.has_image_name("IMG_1.NEF")
    formats._suffixes.cache_clear()
    assert formats.aside("IMG_1.HEIC") == ("HEIC photo", "pip install 'gradviz-cli[heif]' for HEIC")
    assert formats.aside("IMG_1.CR3")[0] == "raw photo" and formats.aside("a.npy")[0] == "array"
    assert formats.aside("IMG_1.xmp") is None
