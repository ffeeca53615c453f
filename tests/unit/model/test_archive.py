"""A model out of an archive: its own files, as they were, from whatever packed them."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.model.archive import unpack

FILES = {
    "saved_model.pb": b"\x08\x01\x12\x00",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 9000,  # more than one chunk
    "assets.extra/labels.txt": b"a\nb\n",
}


def zipped(path: Path, files: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], how: str = "w:gz", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, how, format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def below(prefix: str) -> dict[str, bytes]:
    return {prefix + name: content for name, content in FILES.items()}


def found(archive: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    unpack(archive, folder)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("prefix", ["", "./", "birds/", "export/birds/17/", "./a b/ü/"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_wherever_the_model_lies(tmp_path: Path, pack, prefix: str) -> None:
    assert found(pack(tmp_path / "m", below(prefix)), tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "pack",
    [
        lambda path, files: zipped(path, files, zipfile.ZIP_STORED),
        lambda path, files: tarred(path, files, "w"),
        lambda path, files: tarred(path, files, "w:bz2"),
        lambda path, files: tarred(path, files, "w:gz", tarfile.GNU_FORMAT),
        lambda path, files: tarred(path, files, "w", tarfile.USTAR_FORMAT),
    ],
    ids=["stored", "plain", "bzip2", "gnu", "ustar"],
)
def test_however_it_is_packed(tmp_path: Path, pack) -> None:
    assert found(pack(tmp_path / "m", below("birds/")), tmp_path / "out") == FILES


def test_as_the_programs_pack(tmp_path: Path) -> None:
    for name, content in below("birds/").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    subprocess.run(["tar", "-C", tmp_path, "-czf", tmp_path / "m.tgz", "birds"], check=True)
    assert found(tmp_path / "m.tgz", tmp_path / "out") == FILES


def test_names_of_other_systems(tmp_path: Path) -> None:
    """Some programs of Windows write backslashes; those of a Mac add files of their own."""
    files = {name.replace("/", "\\"): content for name, content in below("birds/").items()}
    more = {"__MACOSX/birds/._saved_model.pb": b"x", "__MACOSX/birds/saved_model.pb": b"x", "birds/.DS_Store": b"x"}
    assert found(zipped(tmp_path / "m", {**files, **more}), tmp_path / "out") == FILES


def test_other_files_are_left(tmp_path: Path) -> None:
    files = {**below("birds/"), "birds/train.py": b"x", "birds/keras_metadata.pb": b"x", "data/1.jpg": b"x"}
    assert found(tarred(tmp_path / "m", files), tmp_path / "out") == FILES


def test_the_highest_version(tmp_path: Path) -> None:
    old = {f"birds/{version}/saved_model.pb": b"old" for version in (1, 9)}
    assert found(zipped(tmp_path / "m", {**old, **below("birds/10/")}), tmp_path / "out") == FILES


def test_of_several_none_is_taken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds several models: a, b"):
        found(zipped(tmp_path / "m", {**below("a/"), **below("b/")}), tmp_path / "out")


@pytest.mark.parametrize("inner", ["m.keras", "deep/m.h5", "birds.zip", "m.onnx"])
def test_what_is_no_saved_model_is_not_looked_into(tmp_path: Path, inner: str) -> None:
    with pytest.raises(ModelUnusable, match=f"holds no saved_model.pb; unpack it, and give its {Path(inner).name}"):
        found(zipped(tmp_path / "m", {"readme.md": b"x", inner: b"x"}), tmp_path / "out")


@pytest.mark.parametrize("pack", [zipped, tarred, lambda path, files: tarred(path, files, "w")])
def test_a_torn_one_gives_nothing(tmp_path: Path, pack) -> None:
    """Cut off at any place: an error, and never another model."""
    data = pack(tmp_path / "m", {**below("birds/"), "birds/variables/more": b"y" * 600}).read_bytes()
    padding = len(data) - len(data.rstrip(b"\0")) if data[257:262] == b"ustar" else 0
    end = len(data) - padding
    for number, size in enumerate([*range(300, end, end // 25), end - 700, end - 4]):
        (tmp_path / "torn").write_bytes(data[:size])
        with pytest.raises(ModelUnusable, match="torn"):
            found(tmp_path / "torn", tmp_path / f"out{number}")


def test_a_turned_bit_is_found(tmp_path: Path) -> None:
    for number, pack in enumerate((zipped, tarred, partial(tarred, how="w:bz2"))):
        data = bytearray(pack(tmp_path / "m", {"saved_model.pb": b"x" * 50_000}).read_bytes())
        data[len(data) // 2] ^= 4
        (tmp_path / "turned").write_bytes(data)
        with pytest.raises(ModelUnusable, match="turned"):
            found(tmp_path / "turned", tmp_path / f"out{number}")


def test_what_is_no_archive_though_it_begins_like_one(tmp_path: Path) -> None:
    for number, data in enumerate(
        [b"PK\3\4" + bytes(100), b"\x1f\x8b\x08" + bytes(100), b"BZh91AY&SY" + bytes(100), bytes(257) + b"ustar"]
    ):
        (tmp_path / "m").write_bytes(data)
        with pytest.raises(ModelUnusable, match="incomplete or damaged .*; fetch it again"):
            found(tmp_path / "m", tmp_path / f"out{number}")
