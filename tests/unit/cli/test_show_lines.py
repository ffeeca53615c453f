"""The lines that `gradviz show` prints for people."""

from __future__ import annotations

import os
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest

from gradviz_cli.cli.show import ROWS, _why_not, lines
from gradviz_cli.draw.record import Record
from gradviz_cli.errors import ImageError
from gradviz_cli.plan.results import TargetResult

RECORD = Record(mode="guided", target=TargetResult(3, "tabby", 1, 12.3456789, 0.5), scale=(0.0, 1 / 3), unit="a per b")


def rows(record: Record) -> dict[str, str]:
    _, *rest = lines(Path("x.png"), record)
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in rest}


def test_every_field_has_a_row() -> None:
    shown_with_others = {"unit", "more"}
    assert {each.name for each in fields(Record)} - shown_with_others <= ROWS.keys()


def test_names_are_aligned_under_the_file() -> None:
    assert list(lines(Path("a b.png"), Record(mode="guided", estimator="gradient"))) == [
        "a b.png",
        "  mode       guided",
        "  estimator  gradient",
    ]


def test_what_people_ask_first_comes_first() -> None:
    assert rows(RECORD) == {
        "mode": "guided",
        "target": "tabby (class 3)",
        "score": "12.3457",
        "output": "0.5",
        "rank": "2 (1 is the best)",
        "scale": "0 to 0.333333 a per b",
    }
    assert list(rows(RECORD)) == ["mode", "target", "score", "output", "rank", "scale"]


@pytest.mark.parametrize(
    ("changed", "name", "shown"),
    [
        ({"mode": ("backprop", "guided")}, "mode", "backprop, guided"),
        ({"scale": {"backprop": (0.0, 2.0), "guided": None}}, "scale", "backprop 0 to 2, guided not finite a per b"),
        ({"scale": (0.0, None)}, "scale", "0 to not finite a per b"),
        ({"unit": None}, "scale", "0 to 0.333333"),
        ({"target": TargetResult(7, None, None, None, None)}, "target", "class 7"),
        ({"target": TargetResult(None, "tabby", None, None, None)}, "target", "tabby (class unknown)"),
        ({"clip": 99.5}, "clip", "percentile 99.5"),
        ({"alpha": 0.0}, "alpha", "0"),
        ({"npy": "12"}, "npy", "SHA-256 12"),
        ({"npy": {"deconv": "12", "guided": "34"}}, "npy", "deconv 12, guided 34"),
        ({"version": "9"}, "version", "gradviz 9"),
        ({"model": "ab"}, "model", "fingerprint ab"),
        ({"options": {"input": "two words"}}, "options", "--input 'two words'"),
        ({"more": {"box": [1, {"x": 2}]}}, "box", '[1, {"x": 2}]'),
        ({"more": {"target": {"parent": "cat"}}}, "parent", "cat"),
        ({"more": {"to_json": {"x": 1}}}, "to_json", '{"x": 1}'),
        ({"more": {"scale": [1, 2, 3]}, "scale": None}, "scale", "[1, 2, 3]"),
        ({"more": {"\x1b[31m": "\u202e"}}, "'\\x1b[31m'", "\\u202e"),
        ({"estimator": "x; reboot"}, "estimator", "'x; reboot'"),
        ({"target": TargetResult(3, "$(reboot)", None, None, None)}, "target", "'$(reboot)' (class 3)"),
        ({"mode": ("a&b", "c")}, "mode", "'a&b', c"),
        ({"scale": {"a|b": (0.0, 1.0)}, "unit": "`c`"}, "scale", "'a|b' 0 to 1 '`c`'"),
        ({"npy": {"a": ">b"}}, "npy", "a '>b'"),
        ({"more": {"x": {"a": ["$(reboot)"]}}}, "x", """'{"a": ["$(reboot)"]}'"""),
        ({"more": {"x": "it's; reboot"}}, "x", """'it'"'"'s; reboot'"""),
        ({"more": {"x": ["a;b", "c"]}}, "x", "'a;b, c'"),
        ({"options": {"mode": "guided; reboot"}}, "options", "--mode 'guided; reboot'"),
        ({"options": {"label": "a"}}, "mode", "guided"),
    ],
)
def test_a_row(changed: dict, name: str, shown: str) -> None:
    assert rows(replace(RECORD, **changed))[name] == shown


@pytest.mark.parametrize("name", ["scale", "alpha", "options", "npy", "clip"])
def test_what_is_not_said_has_no_row(name: str) -> None:
    assert name not in rows(Record(mode="guided"))


def test_options_that_are_none_of_ours_are_not_repeated() -> None:
    shown = rows(replace(RECORD, options={"fit": "crop"}, more={"options": {"x; touch y": True}}))
    assert shown["options"] == "--fit crop"
    assert not any("touch" in line for line in shown.values())


def test_why_a_file_is_no_picture_is_told_from_its_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, place: read.append(size) or real(fd, size, place))
    film = tmp_path / "film.png"
    film.touch()
    os.truncate(film, 1 << 40)  # a hole, no blocks
    assert _why_not(film) == "is not a PNG"
    assert sum(read) <= 64
    film.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert _why_not(film) == "carries no text of gradviz, or is damaged"
    film.write_bytes(b"")
    assert _why_not(film) == "the file is empty"
    assert "No such file" in _why_not(tmp_path / "none.png")


def test_a_picture_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, size: int, place: int) -> bytes:
        raise OSError(5, "Input/output error")

    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr(os, "pread", refuse)
    assert _why_not(tmp_path / "a.png") == ImageError("unreadable", "cannot be read: Input/output error").message


def test_names_are_quoted_as_well() -> None:
    """A line can be pasted: behind a command, no part of it is a command of its own."""
    record = Record(mode="guided", more={"style heatmap; touch canary #": 1, "$(touch canary)": 2, "a'; touch b '": 3})
    _, _, *unknown = lines(Path("x.png"), record)
    said = [shlex.split(line) for line in unknown]
    assert [name for name, _ in said] == list(record.more) and [value for _, value in said] == ["1", "2", "3"]
    assert next(lines(Path("a;b$(c).png"), record)) == "'a;b$(c).png'"


def test_long_ones_are_cut_and_still_closed() -> None:
    label = TargetResult(3, "';" + "x" * 100_000, None, None, None)
    record = Record(
        target=label,
        scale={f"'{number}": (0.0, 1.0) for number in range(1000)},
        options={"input": "'" * 100_000},
        more={**{f"n{number}": ["$'" + "y" * 90_000] for number in range(60)}},
    )
    said = list(lines(Path("x.png"), record))
    assert len(said) < 60 and max(map(len, said)) < 6000
    for line in said:
        shlex.split(line)


@pytest.mark.parametrize(
    "text", ["a;b", "a&b", "a|b", "a<b", "a>b", "a(b)", "a$b", "a`b`", "a\\b", 'a"b', "a'b", "a!b", "#a"]
)
def test_whatever_a_shell_takes_for_its_own_is_quoted(text: str) -> None:
    for record in (Record(style=text), Record(more={"x": text}), Record(more={text: 1}), Record(preprocess=text)):
        assert text in [word.rstrip(",") for line in lines(Path("x"), record) for word in shlex.split(line)]
