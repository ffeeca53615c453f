"""Archives that are made to do harm: none writes outside, fills the disk or the memory, or brings what is no plain file."""

from __future__ import annotations

import bz2
import gzip
import io
import resource
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.model import archive
from gradviz_cli.model.archive import unpack

GRAPH = ("m/saved_model.pb", b"\x08\x01")


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in (GRAPH, *members):
            file.writestr(name, content)
    return path


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for info, content in ((tarfile.TarInfo(GRAPH[0]), b""), *members):
            info.size = len(content) or info.size
            file.addfile(info, io.BytesIO(content) if content else None)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of zeros is told by less of them."""
    monkeypatch.setattr(archive, "FREE_BYTES", 2**22)


def refused(tmp_path: Path, file: Path, kind: type[Exception] = ModelRefused, match: str = "holds") -> None:
    """Nothing appears but below the folder, and nothing there that is no plain file."""
    folder = tmp_path / "inner" / "out"
    folder.mkdir(parents=True)
    with pytest.raises(kind, match=match):
        unpack(file, folder)
    assert {path.name for path in tmp_path.iterdir()} == {"inner", file.name}
    assert [path.name for path in (tmp_path / "inner").iterdir()] == ["out"]
    assert all(path.is_dir() or path.is_file() and not path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    "name", ["../evil", "m/../../evil", "/tmp/evil", "m/variables/../../../evil", "..\\..\\evil", "C:\\evil", "c:/evil"]
)
def test_a_path_that_leads_elsewhere(tmp_path: Path, name: str) -> None:
    refused(tmp_path, zipped(tmp_path / "a.zip", (name, b"x")), match="lies elsewhere")


@pytest.mark.parametrize("name", ["../evil", "m/../../evil", "/tmp/evil", "m/variables/../../../evil"])
def test_the_same_in_a_tar(tmp_path: Path, name: str) -> None:
    refused(tmp_path, tarred(tmp_path / "a.tgz", (entry(name), b"x")), match="lies elsewhere")


@pytest.mark.parametrize(
    "kind, target",
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "saved_model.pb"),
        (tarfile.LNKTYPE, "m/saved_model.pb"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_what_is_no_plain_file(tmp_path: Path, kind: bytes, target: str) -> None:
    member = entry("m/variables/variables.index", kind, target)
    refused(tmp_path, tarred(tmp_path / "a.tgz", (member, b"")), match="as a link or a special file")


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    refused(tmp_path, zipped(tmp_path / "a.zip", (zip_link("m/variables"), b"/etc")), match="as a link")


def test_a_link_and_then_a_file_behind_it(tmp_path: Path) -> None:
    members = ((entry("m/assets", tarfile.SYMTYPE, "/tmp"), b""), (entry("m/assets/evil"), b"x"))
    refused(tmp_path, tarred(tmp_path / "a.tgz", *members), match="as a link")


def test_links_elsewhere_are_not_made(tmp_path: Path) -> None:
    """An archive of a whole project may hold them; they are no part of the model."""
    (tmp_path / "out").mkdir()
    unpack(
        tarred(tmp_path / "a.tgz", (entry("venv/python", tarfile.SYMTYPE, "/usr/bin/python"), b"")), tmp_path / "out"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["saved_model.pb"]


def test_a_name_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = zipped(tmp_path / "a.zip", ("m/saved_model.pb", b"another"))
    refused(tmp_path, file, match="twice")


def test_a_file_that_is_a_folder_too(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", ("m/variables", b"x"), ("m/variables/variables.index", b"x"))
    refused(tmp_path, file, match="below what is a file")


# -- too much of it


def test_zeros_by_the_gigabyte(tmp_path: Path) -> None:
    refused(
        tmp_path, zipped(tmp_path / "a.zip", ("m/variables/x", bytes(2**22 + 1))), match="unpacks to more than 4 MiB"
    )


def test_the_same_in_a_tar_is_found_before_it_is_unpacked(tmp_path: Path) -> None:
    file = tarred(tmp_path / "a.tgz", (entry("m/variables/x"), bytes(2**22 + 2**20)))
    refused(tmp_path, file, match="unpacks to more than 4 MiB")
    assert not any((tmp_path / "inner" / "out").iterdir())


def test_more_than_it_says(tmp_path: Path) -> None:
    """The list says 10 bytes, the content has a thousand times as many."""
    data = bytearray(zipped(tmp_path / "b.zip", ("m/variables/x", bytes(10_000))).read_bytes())
    (tmp_path / "b.zip").unlink()
    for mark, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = data.rfind(mark)
        struct.pack_into("<L", data, at + place, 10)
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "a.zip", ModelUnusable, "cannot be unpacked")


def test_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 50)
    files = [f"m/assets/{number}" for number in range(60)]
    refused(tmp_path, zipped(tmp_path / "a.zip", *((name, b"") for name in files)), match="more than 50 files")


def test_many_files_in_a_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 50)
    files = [f"m/assets/{number}" for number in range(60)]
    refused(tmp_path, tarred(tmp_path / "a.tgz", *((entry(name), b"") for name in files)), match="more than 50 files")


def _list_of(size: int) -> Callable[[Path], Path]:
    """A zip whose end says that its list of files has that many bytes; for more than 4 GB in a record of its own."""

    def write(path: Path) -> Path:
        end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, 0)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, 100, 1)
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, min(size, 2**32 - 1), 0, 0)
        path.write_bytes(b"PK\3\4" + bytes(96) + (end64 + locator if size >> 32 else b"") + end)
        return path

    return write


@pytest.mark.parametrize("size", [2**25, 2**31, 2**33])
def test_a_list_of_files_that_fills_memory(tmp_path: Path, size: int) -> None:
    refused(tmp_path, _list_of(size)(tmp_path / "a.zip"), match="holds more than")


@pytest.mark.parametrize("opened", [gzip.open, bz2.open])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_fills_memory(tmp_path: Path, kind: bytes, opened) -> None:
    """tarfile reads such headers in one go, and zeros shrink to a thousandth."""
    header = entry("x", kind)
    header.size = 2**25
    with opened(tmp_path / "a.tgz", "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(2**25))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path, tmp_path / "a.tgz", match="has a header of")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**14, "kilobytes"


@pytest.mark.parametrize("opened", [gzip.open, bz2.open])
def test_a_size_beyond_all_disks(tmp_path: Path, opened) -> None:
    header = entry("m/variables/x")
    header.size = 2**62
    with opened(tmp_path / "a.tgz", "wb") as file:
        file.write(tarfile.TarInfo(GRAPH[0]).tobuf() + header.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    refused(tmp_path, tmp_path / "a.tgz", match="unpacks to more than")


def test_an_encrypted_one(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "b.zip").read_bytes())
    (tmp_path / "b.zip").unlink()
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.find(mark) + place] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "a.zip", ModelUnusable, "is encrypted; unpack it yourself")


def test_a_compression_whose_memory_it_says_itself(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr(*GRAPH)
    refused(tmp_path, tmp_path / "a.zip", ModelUnusable, "compressed in an unusual way")
