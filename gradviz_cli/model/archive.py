"""A SavedModel out of a zip or tar archive: its own files and nothing else, within limits that no model meets.

An archive may be made to fill the disk or the memory, to write elsewhere, or to bring links: what it says of its files
is checked before one is written, and counted while they are.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.files.text import printable, shortened
from gradviz_cli.model import choice
from gradviz_cli.model.fingerprint import PARTS
from gradviz_cli.model.kinds import GRAPHS, open_regular

MAX_MEMBERS = 10_000
MAX_BYTES = 2**34
# Weights hardly shrink; what is 100 times as large as its archive is made of zeros. A small file may be anything.
MAX_RATIO, FREE_BYTES = 100, 2**28
MAX_DIRECTORY = 2**24  # bytes of a zip's list of files
MAX_READ = 2**21  # bytes of one read of a tar: its headers say how long they are
_BLOCK = 512
_CHUNK = 2**20
_UNPACK = "unpack it yourself, and give what is in it"

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """One entry: its name in parts, what kind it is (`file`, `folder`, or else), its size, and how its content is read."""

    parts: Parts
    kind: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of the archive's only SavedModel, or of its highest version, into an empty folder.

    Raises
    ------
    ModelUnusable
        It is damaged or encrypted, or holds no SavedModel.
    ModelRefused
        It holds what would be written elsewhere, links among the model's files, or far more than it seems to.
    UsageError
        It holds several models.
    OSError
        The folder cannot be written.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_regular(archive))
        with _reading(archive):
            members = _members(archive, file, stack)
        _check_sizes(archive, members, os.fstat(file.fileno()).st_size)
        for member, rest in _of_model(archive, members):
            _write(archive, member, folder.joinpath(*rest))


def _members(archive: Path, file: BinaryIO, stack: ExitStack) -> list[Member]:
    start = file.read(4)
    file.seek(0)
    listed = _in_zip(archive, file, stack) if start[:2] == b"PK" else _in_tar(archive, file, stack)
    members: list[Member] = []
    for member in listed:
        members.append(member)
        if len(members) > MAX_MEMBERS:
            raise _refused(archive, f"holds more than {MAX_MEMBERS} files")
    return members


def _in_zip(archive: Path, file: BinaryIO, stack: ExitStack) -> Iterator[Member]:
    if _directory_size(file) > MAX_DIRECTORY:
        raise _refused(archive, f"holds more than {MAX_MEMBERS} files")
    opened = stack.enter_context(zipfile.ZipFile(file))
    for info in opened.infolist():
        if info.flag_bits & 1:
            raise ModelUnusable(f"{printable(archive)} is encrypted", _UNPACK)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelUnusable(f"{printable(archive)} is compressed in an unusual way", _UNPACK)
        mode = info.external_attr >> 28  # the upper bits of a Unix mode; 0 where another system wrote it
        kind = "folder" if info.is_dir() else "file" if mode in (0, 0o10) else "link"
        # Programs of Windows wrote backslashes.
        yield Member(_parts(archive, info.filename.replace("\\", "/")), kind, info.file_size, _later(opened.open, info))


def _directory_size(file: BinaryIO) -> int:
    """Bytes of the list of files, which zipfile reads in one go, as the end of the file says (APPNOTE.TXT, 4.3.14 to 16)."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - 2**16 - 42)
    file.seek(start)
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 16:
        return 0
    found = struct.unpack_from("<L", tail, end + 12)[0]
    if end >= 20 and tail[end - 20 : end - 16] == b"PK\6\7":
        place = struct.unpack_from("<Q", tail, end - 12)[0]
        # zipfile looks right before the locator, others where it points.
        for at in (start + end - 20 - 56, place):
            if 0 <= at <= size - 56:
                file.seek(at)
                found = max(found, struct.unpack_from("<Q", file.read(56), 40)[0]) if _is_zip64(file, at) else found
        file.seek(0)
    return int(found)


def _is_zip64(file: BinaryIO, at: int) -> bool:
    mark = file.read(4)
    file.seek(at)
    return mark == b"PK\6\6"


def _in_tar(archive: Path, file: BinaryIO, stack: ExitStack) -> Iterator[Member]:
    import tarfile  # most models are folders

    plain: Any = file
    start = file.read(3)
    file.seek(0)
    if start[:2] == b"\x1f\x8b":
        plain = stack.enter_context(gzip.GzipFile(fileobj=file))
    elif start == b"BZh":
        import bz2  # which a Python may be without

        plain = stack.enter_context(bz2.BZ2File(file))
    most = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * os.fstat(file.fileno()).st_size))
    bounded: Any = _Bounded(plain, archive, most)
    opened = stack.enter_context(tarfile.TarFile(fileobj=bounded))
    for info in opened:
        kind = "folder" if info.isdir() else "file" if info.isreg() else "link"
        yield Member(_parts(archive, info.name), kind, info.size, _later(opened.extractfile, info))
    if bounded.block != bytes(_BLOCK):  # tarfile takes a file that was cut off between two members for a whole one
        raise EOFError("it is cut off")
    while bounded.read(_CHUNK):  # to the end, where the checksum stands
        bounded.seek(bounded.tell())


class _Bounded:
    """A file of which no header can ask for all memory, nor a list for all time."""

    def __init__(self, file: Any, archive: Path, most: int):
        self._file, self._archive, self._most, self._blocks = file, archive, most, 0
        self.name, self.mode = os.fspath(archive), "rb"
        self.block = b""  # the last that was read

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_READ:
            raise _refused(self._archive, f"has a header of {size} bytes")
        data: bytes = self._file.read(size)
        if size <= _BLOCK:
            self.block, self._blocks = data, self._blocks + 1
        if self._blocks > 16 * MAX_MEMBERS:
            raise _refused(self._archive, f"holds more than {MAX_MEMBERS} files")
        return data

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or position > self._most:
            raise _refused(self._archive, f"unpacks to more than {self._most >> 20} MiB")
        return int(self._file.seek(position))

    def tell(self) -> int:
        return int(self._file.tell())

    def seekable(self) -> bool:
        return True


def _later(opener: Callable[[Any], IO[bytes] | None], info: Any) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        file = opener(info)
        if file is None:
            raise ValueError(f"no content of {info}")
        return file

    return opened


def _parts(archive: Path, name: str) -> Parts:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\0" in name or re.match("[A-Za-z]:", name):
        raise _refused(archive, f"would write {printable(shortened(name, 200))}, which lies elsewhere")
    return parts


def _check_sizes(archive: Path, members: Sequence[Member], size: int) -> None:
    most = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * size))
    if any(member.size < 0 for member in members) or sum(member.size for member in members) > most:
        raise _refused(archive, f"unpacks to more than {most >> 20} MiB")


def _of_model(archive: Path, members: Sequence[Member]) -> list[tuple[Member, Parts]]:
    """The files of the model that is meant, each with its place in the model's folder."""
    root = _root(archive, members)
    found: dict[Parts, Member] = {}
    for member in members:
        rest = member.parts[len(root) :]
        if member.parts[: len(root)] != root or not rest or rest[0] not in PARTS or member.kind == "folder":
            continue
        name = printable("/".join(member.parts))
        if member.kind != "file":
            raise _refused(archive, f"holds {name} as a link or a special file")
        if rest in found:
            raise _refused(archive, f"holds {name} twice")
        found[rest] = member
    for rest in found:
        if any(rest[:depth] in found for depth in range(1, len(rest))):
            raise _refused(archive, f"holds {printable('/'.join(rest))} below what is a file")
    return [(member, rest) for rest, member in found.items()]


def _root(archive: Path, members: Sequence[Member]) -> Parts:
    models = {
        one.parts[:-1] for one in members if one.parts and one.parts[-1] in GRAPHS and "__MACOSX" not in one.parts
    }
    if not models:
        inner = [one.parts[-1] for one in members if one.parts and choice.may_be_model(one.parts[-1])]
        remedy = (
            f"unpack it, and give its {printable(inner[0])}" if inner else "pack the folder that holds saved_model.pb"
        )
        raise ModelUnusable(f"{printable(archive)} holds no saved_model.pb", remedy)
    return choice.only(
        sorted(models),
        printable(archive),
        lambda one: f"unpack it, and give the one that is meant, such as {printable('/'.join(one))}",
    )


def _write(archive: Path, member: Member, target: Path) -> None:
    with _reading(archive):
        source = member.open()
    with source:
        target.parent.mkdir(0o700, parents=True, exist_ok=True)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            left = member.size
            while chunk := _chunk(archive, source):
                left -= len(chunk)
                if left < 0:
                    break
                file.write(chunk)
    if left:
        raise _damaged(archive, f"{'/'.join(member.parts)} is not as long as it says")


def _chunk(archive: Path, source: IO[bytes]) -> bytes:
    with _reading(archive):
        return source.read(_CHUNK)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Whatever bytes can make of the readers of archives."""
    try:
        yield
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        ArithmeticError,
        TypeError,
        AttributeError,
        ImportError,
    ) as error:
        raise _damaged(archive, str(error)) from error
    except (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, MemoryError) as error:
        raise _damaged(archive, str(error)) from error
    except (ModelUnusable, ModelRefused):
        raise
    except Exception as error:  # tarfile's own, which is not imported before it is needed
        if type(error).__module__ != "tarfile":
            raise
        raise _damaged(archive, str(error)) from error


def _damaged(archive: Path, why: str) -> ModelUnusable:
    what = f"{printable(archive)} cannot be unpacked: it is incomplete or damaged ({printable(shortened(why, 200))})"
    return ModelUnusable(what, "fetch it again, or pack it again")


def _refused(archive: Path, what: str) -> ModelRefused:
    return ModelRefused(f"{printable(archive)} {what}", f"no archive of a model does; if you trust it, {_UNPACK}")
