"""What a file system takes for one name is asked of it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from gradviz_cli.files import names
from gradviz_cli.files.names import as_it_is, folding

UPPER, LOWER = "Caf\u00e9.PNG", "caf\u00e9.png"
APART = unicodedata.normalize("NFD", LOWER)


def test_one_that_tells_all_of_them_apart(tmp_path: Path) -> None:
    """As most of Linux's do, this one among them."""
    assert folding(tmp_path) is as_it_is
    assert folding(tmp_path / "not" / "yet") is as_it_is and os.listdir(tmp_path) == []


@pytest.mark.parametrize("cases", [False, True])
@pytest.mark.parametrize("forms", [False, True])
def test_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: bool, forms: bool) -> None:
    def plain(name: str) -> str:
        name = unicodedata.normalize("NFC", name) if forms else name
        return name.lower() if cases else name

    def lexists(path: Path) -> bool:
        return plain(path.name) in map(plain, os.listdir(path.parent))

    monkeypatch.setattr(names.os.path, "lexists", lexists)
    fold = folding(tmp_path)
    assert (fold(UPPER) == fold(LOWER)) == cases
    assert (fold(APART) == fold(LOWER)) == forms
    assert (fold(APART) == fold(UPPER)) == (cases and forms)
    assert fold("a.png") != fold("b.png") and os.listdir(tmp_path) == []


def test_where_nothing_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(names.os, "open", refused)
    assert folding(tmp_path) is as_it_is
