"""The pages of a TIFF and the frames of a GIF: which there are, and one of them by itself.

Counting reads a few bytes of each page and decodes nothing, so the command may do it; `alone` is for the process that
decodes.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING, NamedTuple

from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, _open_regular
from gradviz_cli.files.text import AnyPath

if TYPE_CHECKING:  # only where frames are decoded
    from PIL import Image

MOST = 100_000  # pages of a file
# TIFF 6.0, tags 254 and 255: a page may be a small copy of another one, or a mask for it.
_NEW_KIND, _OLD_KIND, _COPY_OR_MASK, _OLD_COPY = 254, 255, 1 | 4, 2


class _Form(NamedTuple):
    """Of a TIFF or BigTIFF: where the place of its first directory stands, and how its numbers are written."""

    first: int
    offset: str
    many: str
    entry: int  # bytes


_TIFF = {
    mark: _Form(first, f"{order}{offset}", f"{order}{count}", entry)
    for order, letters in (("<", b"II"), (">", b"MM"))
    for number, first, offset, count, entry in ((42, 4, "I", "H", 12), (43, 8, "Q", "Q", 20))
    for mark in [letters + struct.pack(f"{order}H", number)]
}


def pages(path: AnyPath) -> tuple[int, ...]:
    """The places in its file of the pages that are pictures; empty for a file that has no more than one."""
    try:
        with open(_open_regular(path)[0], "rb") as file:
            mark = file.read(4)
            places = _photos(file) if mark in _TIFF else _numbered(file) if mark == b"GIF8" else iter(())
            found = tuple(islice(places, MOST))
    except (ImageError, OSError):  # said when it is read
        return ()
    return found if len(found) > 1 else ()


def alone(data: bytes, place: int, limits: Limits) -> bytes:
    """An image file whose only page is that at a place of another: of a TIFF the same one, of a GIF a PNG of the frame.

    Raises
    ------
    ImageError
        `damaged`: there is no such page, or it cannot be decoded; `too-large`.
    """
    form = _TIFF.get(data[:4])
    if form is None:
        return _frame(data, place, limits)
    offset = next(islice(_directories(io.BytesIO(data)), place, None), None)
    if offset is None:
        raise _gone(place)
    (count,) = struct.unpack_from(form.many, data, offset)
    following = offset + struct.calcsize(form.many) + count * form.entry
    found = bytearray(data)
    struct.pack_into(form.offset, found, form.first, offset)
    if following + struct.calcsize(form.offset) <= len(found):  # else the file ends there
        struct.pack_into(
            form.offset, found, following, 0
        )  # or the pages behind it would be taken for planes of this one
    return bytes(found)


def _gone(place: int) -> ImageError:
    return ImageError("damaged", f"it has no page {place + 1}: was it changed during the run?")


def _frame(data: bytes, place: int, limits: Limits) -> bytes:
    from gradviz_cli.images.decode import _failure, _pillow_settings  # not in the command

    shown = list(islice(_frames(io.BytesIO(data)), place + 1))
    if place >= len(shown):
        raise _gone(place)
    picture = io.BytesIO()
    with _pillow_settings(limits):
        try:
            _laid(data, shown, limits).save(picture, "PNG", compress_level=0)
        except ImageError:
            raise
        except Exception as error:  # Pillow raises a dozen classes
            raise _failure(error, "GIF", data, limits) from error
    return picture.getvalue()


# ---- TIFF


def _directories(file: IO[bytes]) -> Iterator[int]:
    """Where each page's directory is, in order; ends where the file does, or where it comes back to one."""
    form, seen = _TIFF[_at(file, 0, 4)], set()
    offset = _number(file, form.first, form.offset)
    while offset and offset not in seen:
        count = _number(file, offset, form.many)
        if count is None:
            return
        yield offset
        seen.add(offset)
        offset = _number(file, offset + struct.calcsize(form.many) + count * form.entry, form.offset)


def _photos(file: IO[bytes]) -> Iterator[int]:
    form = _TIFF[_at(file, 0, 4)]
    for place, offset in enumerate(_directories(file)):
        count = min(_number(file, offset, form.many) or 0, 1 << 12)
        entries = _at(file, offset + struct.calcsize(form.many), count * form.entry)
        if not any(_says_copy(form, entries[at : at + form.entry]) for at in range(0, len(entries), form.entry)):
            yield place


def _says_copy(form: _Form, entry: bytes) -> bool:
    order = form.offset[0]
    if len(entry) < form.entry:
        return False
    (tag, kind), where = struct.unpack_from(f"{order}HH", entry), form.entry - struct.calcsize(form.offset)
    value = struct.unpack_from(f"{order}H" if kind == 3 else f"{order}I", entry, where)[0]
    return tag == _NEW_KIND and bool(value & _COPY_OR_MASK) or tag == _OLD_KIND and value == _OLD_COPY


def _at(file: IO[bytes], place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _number(file: IO[bytes], place: int, form: str) -> int | None:
    """None behind the end of the file."""
    size = struct.calcsize(form)
    data = _at(file, place, size) if place < 1 << 62 else b""
    return struct.unpack(form, data)[0] if len(data) == size else None


# ---- GIF

_EMPTIED, _RESTORED = 2, (3, 4)  # what becomes of a frame's part of the screen behind it; 4 is an old 3


class _Frame(NamedTuple):
    """Where its descriptor begins and its pixels end, and the block that says ahead how it is shown, if there is one."""

    start: int
    end: int
    control: bytes

    @property
    def afterwards(self) -> int:
        return self.control[0] >> 2 & 7 if self.control else 0

    def box(self, data: bytes) -> tuple[int, int, int, int]:
        """The part of the screen that it covers: left, top, right, bottom."""
        left, top, width, height = struct.unpack_from("<4H", data, self.start + 1)
        return left, top, left + width, top + height

    def by_itself(self, data: bytes) -> bytes:
        """A file of this frame, on a screen of its size."""
        colours = data[10 : 13 + _size_of_colours(data[10])]
        control = b"!\xf9\4" + self.control + b"\0" if self.control else b""
        size = data[self.start + 5 : self.start + 9]
        return data[:6] + size + colours + control + b",\0\0\0\0" + data[self.start + 5 : self.end] + b";"


def _numbered(file: IO[bytes]) -> Iterator[int]:
    return (place for place, _ in enumerate(_frames(file)))


def _laid(data: bytes, shown: Sequence[_Frame], limits: Limits) -> Image.Image:
    """The last of these frames with what those before have left below it, as browsers do it; Pillow leaves colours where a
    frame that is over empties its part."""
    from PIL import Image

    from gradviz_cli.images.decode import _check_size

    screen = struct.unpack_from("<HH", data, 6)
    size = max(screen[0], shown[0].box(data)[2]), max(screen[1], shown[0].box(data)[3])
    _check_size(size, limits)
    picture = below = Image.new("RGBA", size)
    for frame in shown:
        left, top, right, bottom = box = frame.box(data)
        _check_size((right - left, bottom - top), limits)
        picture = below
        below = picture.copy() if frame.afterwards in (_EMPTIED, *_RESTORED) else picture
        image = Image.open(io.BytesIO(frame.by_itself(data)), formats=["GIF"]).convert("RGBA")
        picture.paste(image, (left, top), image)
        if frame.afterwards == _EMPTIED:
            below.paste((0, 0, 0, 0), box)
    return picture


def _frames(file: IO[bytes]) -> Iterator[_Frame]:
    """Found by their descriptors: GIF89a, sections 18 to 24."""
    file.seek(10)
    _skip_colours(file, behind=2)
    control = b""
    while kind := file.read(1):
        start, label = file.tell() - 1, b""
        if kind == b"!":
            label = file.read(1)
        elif kind == b",":
            file.seek(8, os.SEEK_CUR)
            _skip_colours(file)
            file.read(1)
        else:  # the end mark, or what no decoder goes beyond
            return
        blocks = _blocks(file)
        if label == b"\xf9":
            control = blocks
        elif kind == b",":
            yield _Frame(start, file.tell(), control)
            control = b""


def _blocks(file: IO[bytes]) -> bytes:
    """Skip blocks up to the empty one that ends them; the first is given if it has the size of a control."""
    first = b""
    while size := (file.read(1) or b"\0")[0]:
        if size == 4 and not first:
            first = file.read(size)
        else:
            file.seek(size, os.SEEK_CUR)
    return first


def _skip_colours(file: IO[bytes], behind: int = 0) -> None:
    """From a byte that says whether there is a table of colours, so many bytes behind it, to the end of that."""
    file.seek(behind + _size_of_colours((file.read(1) or b"\0")[0]), os.SEEK_CUR)


def _size_of_colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
