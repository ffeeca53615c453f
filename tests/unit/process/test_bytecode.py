"""Children find their modules compiled, where the user lets Python do that."""

from __future__ import annotations

import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from gradviz_cli.process import bytecode


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "worker" / "inner").mkdir(parents=True)
    (tmp_path / "worker" / "__main__.py").write_text("print()")
    (tmp_path / "worker" / "inner" / "one.py").write_text("one = 1")
    (tmp_path / "worker" / "inner" / "broken.py").write_text("one = ")
    monkeypatch.setattr(bytecode, "PACKAGE", tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    bytecode.keep.cache_clear()
    return tmp_path / "worker"


def compiled(room: Path) -> set[str]:
    return {path.name for path in room.rglob("*.py") if Path(cache_from_source(path)).exists()}


def test_all_of_a_room_is_compiled(room: Path) -> None:
    bytecode.keep("gradviz_cli.worker")
    assert compiled(room) == {"__main__.py", "one.py"}


def test_nothing_is_written_where_nobody_wants_it(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    bytecode.keep("gradviz_cli.worker")
    assert compiled(room) == set()


def test_only_what_is_new_is_compiled(room: Path) -> None:
    bytecode.keep("gradviz_cli.worker")
    kept = Path(cache_from_source(room / "inner" / "one.py"))
    kept.write_bytes(b"kept")
    bytecode.keep.cache_clear()
    bytecode.keep("gradviz_cli.worker")
    assert kept.read_bytes() == b"kept"
