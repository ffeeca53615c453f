"""Files of labels as people have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradviz_cli.errors import UsageError
from gradviz_cli.model.labels import read_labels


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("a.txt", b"cat\ndog\n", ("cat", "dog")),
        ("a.txt", b"cat\r\n dog \r\n", ("cat", "dog")),
        ("a.txt", b"\xef\xbb\xbfcat\ndog", ("cat", "dog")),
        ("a.txt", "köter\n猫".encode(), ("köter", "猫")),
        ("a.txt", b"cat\n\ndog", ("cat", "", "dog")),
        ("a.json", b'["cat", "dog"]', ("cat", "dog")),
        ("a.txt", b'  ["cat", "dog"]', ("cat", "dog")),
        ("a.json", b'{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ("a.json", b'{"0": "cat", "2": "dog"}', ("cat", "", "dog")),
        ("a.json", b'{"0": ["n02123045", "tabby"]}', ("tabby",)),
        ("a.json", b"[1, 2]", ("1", "2")),
    ],
)
def test_read(tmp_path: Path, name: str, content: bytes, labels: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_labels(tmp_path / name, tmp_path) == labels


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"7"),
        ("a.json", b'{"cat": 0}'),
        ("a.json", b"{}"),
        ("a.json", b'{"99999999": "x"}'),
        ("a.json", b"[" * 100_000),
        ("a.txt", b""),
        ("a.txt", b"\xff\xfe\x00"),
    ],
)
def test_what_is_no_list_of_labels_is_the_options_mistake(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"--labels .*{name}"):
        read_labels(tmp_path / name, tmp_path)


def test_labels_that_lie_in_the_model(tmp_path: Path) -> None:
    assert read_labels(None, tmp_path) == ()
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "labels.txt").write_text("ant\nbee\n")
    assert read_labels(None, tmp_path) == ("ant", "bee")
    (tmp_path / "own.json").write_text(json.dumps(["x"]))
    assert read_labels(tmp_path / "own.json", tmp_path) == ("x",)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none.txt"):
        read_labels(tmp_path / "none.txt", tmp_path)
