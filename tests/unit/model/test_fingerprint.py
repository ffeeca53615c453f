"""A fingerprint changes with every byte of the model, and with nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.model.fingerprint import of_model

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets.extra/labels.txt": b"a\nb\n"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(content)
    return tmp_path / "m"


def test_by_hand(model: Path) -> None:
    """Names in order of their bytes, each followed by the hash of its content."""
    whole = hashlib.sha256()
    for name in sorted(FILES):
        whole.update(name.encode() + b"\0" + hashlib.sha256(FILES[name]).digest() + b"\0")
    assert of_model(model) == whole.hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_every_byte_counts(model: Path, name: str) -> None:
    before = of_model(model)
    (model / name).write_bytes(FILES[name][:-1] + b"?")
    assert of_model(model) != before


def test_a_name_counts(model: Path) -> None:
    before = of_model(model)
    (model / "assets.extra" / "labels.txt").rename(model / "assets.extra" / "names.txt")
    assert of_model(model) != before


@pytest.mark.parametrize("name", ["readme.md", "variables/checkpoint", "other/x", "fingerprint.pb"])
def test_other_files_do_not(model: Path, name: str) -> None:
    before = of_model(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(b"x")
    assert of_model(model) == before


def test_a_copy_and_a_link_are_the_same_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(model)
    assert of_model(tmp_path / "link") == of_model(model)


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for name, says in (("file", "no model"), ("empty", "no saved_model.pb"), ("none", "cannot be read")):
        with pytest.raises(ModelUnusable, match=says):
            of_model(tmp_path / name)


def test_special_files_are_refused_without_waiting(model: Path) -> None:
    os.mkfifo(model / "variables" / "variables.data-00000-of-00001")
    with pytest.raises(ModelUnusable, match="not a regular file"):
        of_model(model)


def test_a_folder_that_may_not_be_listed_is_not_without_files(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def refused(path):
        if str(path).endswith("variables"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(ModelUnusable, match=f"^{model}/variables cannot be read: Permission denied; check its perm"):
        of_model(model)


def test_a_folder_elsewhere_is_no_part_of_the_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (model / "assets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelRefused, match="outside the model"):
        of_model(model)
