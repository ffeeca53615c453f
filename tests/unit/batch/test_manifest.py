"""Whole lines only."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gradviz_cli.batch import manifest
from gradviz_cli.batch.manifest import MANIFEST, Manifest
from gradviz_cli.errors import OutputError
from gradviz_cli.plan.results import Result


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]


def test_a_line_for_each_result_with_what_holds_for_all(tmp_path: Path) -> None:
    kept = Manifest(tmp_path, {"trust_model": True})
    kept.add(Result("a", "written"), Result("b", "failed"))
    kept.add(Result("c", "current"))
    kept.close()
    assert [(line["image"], line["status"], line["trust_model"]) for line in lines(tmp_path)] == [
        ("a", "written", True),
        ("b", "failed", True),
        ("c", "current", True),
    ]
    assert list(lines(tmp_path)[0])[-1] == "trust_model"


def test_a_note_stands_in_the_next_line_alone(tmp_path: Path) -> None:
    kept = Manifest(tmp_path, {"trust_model": True})
    kept.note({"proof": {"key": "k"}})
    kept.add()
    kept.add(Result("a", "written"), Result("b", "written"))
    kept.add(Result("c", "written"))
    kept.close()
    assert [line.get("proof") for line in lines(tmp_path)] == [{"key": "k"}, None, None]
    assert [line["image"] for line in manifest.read(tmp_path, holding='"key": "k"')] == ["a"]


def test_it_is_appended_to(tmp_path: Path) -> None:
    for name in "ab":
        kept = Manifest(tmp_path)
        kept.add(Result(name, "written"))
        kept.close(sync=False)
    assert [line["image"] for line in lines(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [b"somebody's notes\n", b"[]\n", b'{"name": "x"}\n', b"{}\n", b"\x1f\x8b\x08", b"x" * 100_000],
    ids=lambda content: repr(content[:20]),
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(OutputError, match=r"manifest\.jsonl: .* no manifest of gradviz; move it away"):
        Manifest(tmp_path)
    assert (tmp_path / MANIFEST).read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b'{"im',
        b'{"image": "to',
        b"\0" * 5000,
        b"\0" * 99 + b'\n{"image":"x"}\n',
        b'{"status":"x","image":"y"}\n',
    ],
    ids=lambda content: repr(content[:20]),
)
def test_what_a_kill_a_power_cut_or_another_program_left_of_ours_is_appended_to(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    kept = Manifest(tmp_path)
    kept.add(Result("a", "written"))
    kept.close()
    assert (tmp_path / MANIFEST).read_bytes().startswith(content)
    assert [record["image"] for record in manifest.read(tmp_path)][-1] == "a"


def test_several_notes_stand_in_one_line(tmp_path: Path) -> None:
    kept = Manifest(tmp_path)
    kept.note({"model": {"path": "m"}})
    kept.note({"proved": {"key": "k"}})
    kept.add(Result("a", "written"), Result("b", "written"))
    kept.close()
    first, second = lines(tmp_path)
    assert (first["model"], first["proved"]) == ({"path": "m"}, {"key": "k"}) and not {
        "model",
        "proved",
    } & second.keys()


def test_a_torn_line_stays_alone(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"image": "x"}\n{"image": "to')
    kept = Manifest(tmp_path)
    kept.add(Result("a", "written"))
    kept.close()
    assert [record["image"] for record in manifest.read(tmp_path)] == ["x", "a"]


def test_all_lines_of_a_group_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Manifest(tmp_path)
    kept.add(Result("a", "written"))
    before = (tmp_path / MANIFEST).read_bytes()
    write, calls = os.write, []

    def full(handle: int, data: memoryview) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(handle, data[:10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        kept.add(Result("b", "written"), Result("c", "written"))
    monkeypatch.undo()
    assert (tmp_path / MANIFEST).read_bytes() == before


def test_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, write = Manifest(tmp_path), os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
    kept.add(Result("a", "written"), Result("b", "written"))
    monkeypatch.undo()
    assert [line["image"] for line in lines(tmp_path)] == ["a", "b"]


def test_it_is_behind_while_pictures_are_published(tmp_path: Path) -> None:
    kept = Manifest(tmp_path)
    with kept.publishing() as write:
        assert kept.behind
        write(Result("a", "written"))
    assert not kept.behind
    with pytest.raises(OutputError), kept.publishing():
        raise OutputError("in between")
    assert kept.behind


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("elsewhere")])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, make) -> None:
    make(tmp_path / MANIFEST)
    with pytest.raises(OutputError, match=MANIFEST):
        Manifest(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_reading_passes_over_what_is_no_record(tmp_path: Path) -> None:
    assert list(manifest.read(tmp_path)) == []
    (tmp_path / MANIFEST).write_bytes(b'{"image": "a"}\n[1]\nnull\n\xff\n\n' + b"[" * 100_000 + b'\n{"image": "b"}')
    assert [record["image"] for record in manifest.read(tmp_path)] == ["a", "b"]


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end costs no memory, and none of those behind it."""
    monkeypatch.setattr(manifest, "LONGEST", 100)
    longest = json.dumps({"image": "x" * (100 - len('{"image": ""}\n'))}) + "\n"
    said = [{"image": "a"}, json.loads(longest), {"image": "b"}]
    lines = ['{"image": "a"}\n', "x" * 100_000 + "\n", longest, " " + longest, '{"image": "b"}\n', "y" * 1000]
    (tmp_path / MANIFEST).write_text("".join(lines))
    assert list(manifest.read(tmp_path)) == said


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_reading_waits_for_nobody(tmp_path: Path, make) -> None:
    make(tmp_path / MANIFEST)
    with pytest.raises(OSError):
        list(manifest.read(tmp_path))
