"""Pages of TIFFs and frames of GIFs: Pillow writes and reads them, and has to agree."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from odd_images import saved
from PIL import Image, TiffImagePlugin

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits
from gradviz_cli.images import tiff
from gradviz_cli.images.decode import decode
from gradviz_cli.images.frames import alone, pages
from gradviz_cli.images.listing import Inputs
from gradviz_cli.plan.plan import Page, Walk

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 99, 199)]


def several(form: str, **more: object) -> bytes:
    """A picture of each colour, in one file."""
    first, *others = [Image.new("RGB", (6, 4), colour) for colour in COLOURS]
    file = io.BytesIO()
    first.save(file, form, save_all=True, append_images=others, **more)
    return file.getvalue()


def big_endian() -> bytes:
    """Two gray pages of one pixel, 10 and 200, written by hand."""
    tags = [(256, 3, 1), (257, 3, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 0), (277, 3, 1), (279, 4, 1)]
    data, places = b"MM\0*" + struct.pack(">I", 8), [8, 8 + 2 + 12 * len(tags) + 4 + 1]
    for place, (value, following) in zip(places, [(10, places[1]), (200, 0)], strict=True):
        data += struct.pack(">H", len(tags))
        for tag, kind, number in tags:
            number = place + 2 + 12 * len(tags) + 4 if tag == 273 else number
            data += struct.pack(">HHI", tag, kind, 1) + struct.pack(
                ">HH" if kind == 3 else ">I", *(number, 0)[: 5 - kind]
            )
        data += struct.pack(">I", following) + bytes([value])
    return data


def with_copy(first: bool) -> bytes:
    """A TIFF of two photos, and a page that says it is a small copy."""
    copy = TiffImagePlugin.ImageFileDirectory_v2()
    copy[254] = 1
    file = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file, True) as writer:
        for colour in [None, *COLOURS[:2]] if first else [COLOURS[0], None, COLOURS[1]]:
            image = Image.new("RGB", (6, 4), colour or (1, 1, 1))
            image.save(writer, "TIFF", **({} if colour else {"tiffinfo": copy}))
            writer.newFrame()
    return file.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize(("form", "more"), [("TIFF", {}), ("TIFF", {"big_tiff": True}), ("GIF", {"disposal": 2})])
def test_every_page_by_itself(file: Path, form: str, more: dict) -> None:
    data = several(form, **more)
    file.write_bytes(data)
    assert pages(file) == (0, 1, 2, 3)
    for place, colour in enumerate(COLOURS):
        shown = np.asarray(decode(alone(data, place, Limits()), Limits()))
        assert shown.shape == (4, 6, 3) and np.abs(shown.astype(int) - colour).max() <= (0 if form == "TIFF" else 3)
    with pytest.raises(ImageError, match="it has no page 5"):
        alone(data, 4, Limits())


def test_what_no_frame_has_painted_yet_is_clear() -> None:
    """Two frames side by side on a screen that is larger than both; Pillow has the first colour around them."""
    data = bytearray(b"GIF89a" + struct.pack("<HHBBB", 8, 4, 0x80, 0, 0) + bytes((255, 0, 0, 0, 0, 255)))
    for left in (0, 2):  # of 2 x 2 pixels, all of the second colour: clear, four pixels, end
        data += b"," + struct.pack("<HHHHB", left, 0, 2, 2, 0) + b"\x02\x03" + b"\x4c\x12\x05" + b"\0"
    blue = np.full((4, 8, 3), 255, np.uint8)
    for place, right in enumerate((2, 4)):
        blue[:2, :right] = (0, 0, 255)
        assert np.array_equal(np.asarray(decode(alone(bytes(data) + b";", place, Limits()), Limits())), blue), place


@pytest.mark.parametrize(
    ("afterwards", "left"), [((0, 1, 0), 3), ((2, 0, 0), 2), ((1, 2, 0), 2), ((3, 1, 4), 2), ((1, 4, 2), 2)]
)
def test_what_is_left_of_frames_that_are_over(afterwards: tuple[int, ...], left: int) -> None:
    """Side by side, each blue and of 2 x 2 pixels; 2 is for one whose part is emptied, 3 or 4 for one whose part is as before."""
    data = b"GIF89a" + struct.pack("<HHBBB", 6, 2, 0x80, 0, 0) + bytes((255, 0, 0, 0, 0, 255))
    for place, control in enumerate(afterwards):
        data += b"!\xf9\4" + bytes([control << 2, 1, 0, 0]) + b"\0"
        data += b"," + struct.pack("<HHHHB", 2 * place, 0, 2, 2, 0) + b"\x02\x03" + b"\x4c\x12\x05" + b"\0"
    shown = np.asarray(decode(alone(data + b";", 2, Limits()), Limits()))[0, ::2]
    blue = (shown == (0, 0, 255)).all(1)
    kept = [control < 2 for control in afterwards[:2]]
    assert blue.tolist() == [*kept, True] and blue.sum() == left and (shown[~blue] == 255).all()


def test_frames_that_change_only_a_part(file: Path) -> None:
    first = Image.new("RGB", (8, 8), (255, 255, 255))
    second = first.copy()
    second.putpixel((3, 2), (0, 0, 0))
    data = io.BytesIO()
    first.save(data, "GIF", save_all=True, append_images=[second])
    file.write_bytes(data.getvalue())
    assert pages(file) == (0, 1)
    shown = np.asarray(decode(alone(data.getvalue(), 1, Limits()), Limits()).convert("L"))
    assert shown[2, 3] == 0 and (shown == 255).sum() == 63


def test_large_numbers_first(file: Path) -> None:
    data = big_endian()
    file.write_bytes(data)
    assert pages(file) == (0, 1)
    assert [decode(alone(data, place, Limits()), Limits()).getpixel((0, 0)) for place in (0, 1)] == [10, 200]


@pytest.mark.parametrize("first", [False, True])
def test_small_copies_are_no_pages(file: Path, first: bool) -> None:
    data = with_copy(first)
    file.write_bytes(data)
    found = pages(file)
    assert found == ((1, 2) if first else (0, 2))
    shown = [decode(alone(data, place, Limits()), Limits()).getpixel((0, 0)) for place in found]
    assert shown == COLOURS[:2]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"II*\0",
        b"II*\0\x08\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff" + 30 * b"\0",
        b"II*\0\x08\0\0\0\0\0\x08\0\0\0",  # comes back to itself
        b"II+\0\x08\0\0\0" + 8 * b"\xff",
        b"GIF89a",
        b"GIF89a\1\0\1\0\xff\0\0",
        b"GIF89a\1\0\1\0\0\0\0,",
        saved(Image.new("RGB", (3, 3)), "PNG"),
        saved(Image.new("RGB", (3, 3)), "TIFF"),
        saved(Image.new("RGB", (3, 3)), "GIF"),
    ],
)
def test_what_has_no_more_than_one(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    assert pages(file) == ()
    assert pages(file.parent) == pages(file.with_name("gone")) == ()


@pytest.mark.parametrize("more", [{}, {"big_tiff": True}], ids=["small", "big"])
def test_pages_behind_it_are_no_planes_of_a_page(file: Path, more: dict) -> None:
    """A model of several planes takes those of all pages that a file holds."""
    data = several("TIFF", **more)
    file.write_bytes(data)
    for place in pages(file):
        assert len(tiff.pages(alone(data, place, Limits()))) == 1
    assert pages(file) == (0, 1, 2, 3)


def test_a_film_cannot_be_longer_than_a_limit(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradviz_cli.images.frames.MOST", 3)
    file.write_bytes(several("GIF"))
    assert pages(file) == (0, 1, 2)


def test_a_frame_has_the_limits_of_an_image() -> None:
    with pytest.raises(ImageError, match="more than the limit"):
        alone(several("GIF"), 1, Limits(max_pixels=10))
    with pytest.raises(ImageError, match="GIF: |no page 2"):
        alone(several("GIF")[:60], 1, Limits())


def test_names_of_pages(tmp_path: Path) -> None:
    (tmp_path / "b.tif").write_bytes(several("TIFF"))
    (tmp_path / "a.png").write_bytes(saved(Image.new("RGB", (3, 3)), "PNG"))
    inputs = Inputs((tmp_path,), tmp_path / "out", walk=Walk(pages="all")).checked()
    assert [(job.rel, job.page) for job in inputs.jobs()] == [
        ("a.png", None), *((f"b.tif#{number + 1}", Page(number + 1, number)) for number in range(4))
    ]  # fmt: skip
    assert [job.name for job in inputs.jobs()][1] == f"{tmp_path}/b.tif#1"
    assert [job.rel for job in Inputs((tmp_path / "b.tif",), tmp_path).jobs()] == ["b.tif"]
