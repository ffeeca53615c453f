"""An index finds what a dictionary would, whatever parts it was made of, and is believed only where it belongs."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.batch import index, known
from gradviz_cli.batch.index import Builder, Table, merged, number
from gradviz_cli.batch.known import Known, Model
from gradviz_cli.batch.manifest import MANIFEST, Manifest
from gradviz_cli.files.whole import TEMPORARY
from gradviz_cli.plan.outputs import INDEX
from gradviz_cli.plan.results import Result

A, B = "a" * 64, "b" * 64
MODEL = Model("/m", "/m/1", A)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts, blocks and what an index is worth are so small that a few names need several."""
    monkeypatch.setattr(index, "MOST", 50)
    monkeypatch.setattr(index, "STEP", 8)
    monkeypatch.setattr(known, "WORTH", 1000)


def test_names_have_the_same_number_in_every_process() -> None:
    of_b2sum = bytes.fromhex("fe47f0026e12a789")
    assert number("a.jpg") == int.from_bytes(of_b2sum, "little", signed=True) and number("\ud800") != number("\udce9")


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 400, 1003])
def test_it_finds_what_a_dictionary_would(small: None, count: int) -> None:
    draw, builder, expected = random.Random(count), Builder(), {}
    for place in range(count):
        key = number(str(draw.randrange(count)))
        builder.add(key, place, -place)
        expected[key] = (place, -place)
    table = builder.table()
    assert len(table) == len(expected)
    assert {key: table.find(key) for key in expected} == expected
    assert all(table.find(number(f"no {one}")) is None for one in range(100))
    for edge in (-(2**63), 2**63 - 1):
        assert table.find(edge) is None
    table.close()


def test_no_more_files_are_open_for_more_lines(small: None) -> None:
    before = len(os.listdir("/proc/self/fd"))
    builder = Builder()
    for one in range(2000):
        builder.add(one, one)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    builder.table().close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_of_several_tables_the_last_one_counts(small: None) -> None:
    tables, expected = [], {}
    for place, names in enumerate((range(300), range(100, 130), (), range(250, 420))):
        builder = Builder()
        for name in names:
            builder.add(number(str(name)), place)
            expected[number(str(name))] = (place, 0)
        tables.append(builder.table())
    parts = list(merged(tables))
    assert max(map(len, parts)) < 100  # no step holds all
    table = Table(np.concatenate(parts))
    assert len(table) == len(expected) == 420 and {key: table.find(key) for key in expected} == expected


def noted(out: Path, *numbers: int, sha256: str = A, model: Model | None = None) -> None:
    kept = Manifest(out)
    if model:
        kept.note({known.MODEL: model._asdict()})
    for one in numbers:
        name = f"{one}.jpg.guided.png"
        kept.add(Result(f"/photos/{one}.jpg", "written", (name,), hashes={name: sha256}))
    kept.close()


def learned(out: Path, count: int, keep: bool = True) -> list[str | None]:
    """The hash of each output that is known."""
    with Known.of(out, keep=keep) as found:
        assert all(found.is_from(f"{one}.jpg", f"/photos/{one}.jpg") is not False for one in range(count))
        assert all(
            found.image(f"{one}.jpg").get("image", f"/photos/{one}.jpg") == f"/photos/{one}.jpg" for one in range(count)
        )
        written = [found.written(f"{one}.jpg.guided.png") for one in range(count)]
        return [one and one.sha256 for one in written]


def test_a_large_manifest_gets_an_index_and_of_it_only_new_lines_are_read(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted(tmp_path, *range(200), model=MODEL)
    assert learned(tmp_path, 210, keep=False) == [A] * 200 + [None] * 10
    assert sorted(os.listdir(tmp_path)) == [MANIFEST]  # nothing is written by who only looks
    assert learned(tmp_path, 210) == [A] * 200 + [None] * 10
    assert sorted(os.listdir(tmp_path)) == [INDEX, MANIFEST]
    noted(tmp_path, 7, 205, sha256=B)
    read: list[int] = []
    lines = known.lines_at
    monkeypatch.setattr(known, "lines_at", lambda *given: (read.append(1) or one for one in lines(*given)))
    expected = [B if one in (7, 205) else A if one < 200 else None for one in range(210)]
    before = (tmp_path / INDEX).read_bytes()
    for _ in range(2):
        assert learned(tmp_path, 210) == expected
    assert len(read) == 4 and (tmp_path / INDEX).read_bytes() == before  # they are not worth a new one
    noted(tmp_path, *range(300, 320))
    assert learned(tmp_path, 330) == expected + [None] * 90 + [A] * 20 + [None] * 10
    assert (tmp_path / INDEX).read_bytes() != before
    with Known.of(tmp_path) as found:
        assert found.model == MODEL and len(list(found.images())) >= 220


def test_a_torn_last_line_is_read_again_when_it_is_whole(small: None, tmp_path: Path) -> None:
    noted(tmp_path, *range(50))
    whole = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(whole[:-20])
    assert learned(tmp_path, 50) == [A] * 49 + [None]
    (tmp_path / MANIFEST).write_bytes(whole)
    assert learned(tmp_path, 50) == [A] * 50


Change = Callable[[Path], object]
LIES: dict[str, Change] = {
    "another manifest": lambda out: (out / MANIFEST).write_bytes((out / MANIFEST).read_bytes().replace(A.encode(), B.encode())),
    "a shorter manifest": lambda out: os.truncate(out / MANIFEST, 3000),
    "nothing": lambda out: (out / INDEX).write_bytes(b""),
    "zeros": lambda out: (out / INDEX).write_bytes(bytes((out / INDEX).stat().st_size)),
    "cut": lambda out: os.truncate(out / INDEX, (out / INDEX).stat().st_size - 24),
    "longer": lambda out: os.truncate(out / INDEX, (out / INDEX).stat().st_size + 24),
    "a pipe": lambda out: ((out / INDEX).unlink(), os.mkfifo(out / INDEX)),
    "a link": lambda out: ((out / INDEX).rename(out / "other"), (out / INDEX).symlink_to("other")),
    "another name too": lambda out: os.link(out / INDEX, out / "other"),
    "a row that is another": lambda out: changed(out, rows_=lambda rows: rows[:-3] + bytes((rows[-3] ^ 1,)) + rows[-2:]),
    "an older format": lambda out: changed(out, format=1),
    "no rows": lambda out: changed(out, rows="9"),
    "too many rows": lambda out: sparse(out, 10**9),
    "negative": lambda out: changed(out, covered=-5),
    "huge": lambda out: changed(out, covered=2**70, edges=None),
    "text": lambda out: (out / INDEX).write_bytes(b"[" * 100_000),
    "other fields": lambda out: changed(out, precious=1),
    "another format": lambda out: changed(out, format=3),
}  # fmt: skip


def changed(out: Path, rows_: Callable[[bytes], bytes] = lambda rows: rows, **fields: object) -> None:
    line, _, rows = (out / INDEX).read_bytes().partition(b"\n")
    rows = rows_(rows)
    (out / INDEX).write_bytes(json.dumps({**json.loads(line), **fields}).encode() + b"\n" + rows)


def sparse(out: Path, rows: int) -> None:
    changed(out, rows=rows)
    line = (out / INDEX).read_bytes().partition(b"\n")[0]
    os.truncate(out / INDEX, len(line) + 1 + 24 * rows)


@pytest.mark.parametrize("kind", LIES)
def test_an_index_that_does_not_belong_there_is_not_believed(small: None, tmp_path: Path, kind: str) -> None:
    noted(tmp_path, *range(60))
    learned(tmp_path, 60)
    LIES[kind](tmp_path)
    truth = [json.loads(line) for line in (tmp_path / MANIFEST).read_bytes().splitlines() if line.endswith(b"}")]
    expected = [next(iter(line["sha256"].values())) for line in truth] + [None] * (60 - len(truth))
    assert learned(tmp_path, 60, keep=False) == expected
    assert learned(tmp_path, 60) == expected


def test_rows_that_lie_cost_a_drawing_and_nothing_else(small: None, tmp_path: Path) -> None:
    noted(tmp_path, *range(60))
    learned(tmp_path, 60)
    line, _, rows = (tmp_path / INDEX).read_bytes().partition(b"\n")
    wrong = np.frombuffer(rows, index.ROW).copy()
    wrong["place"] = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, len(wrong))
    (tmp_path / INDEX).write_bytes(line + b"\n" + wrong.tobytes())
    assert learned(tmp_path, 60, keep=False) == [A] * 60  # they are not those that were written
    changed(tmp_path, check=zlib.crc32(wrong.tobytes()))
    assert learned(tmp_path, 60) == [None] * 60


def test_where_no_index_can_be_kept_everything_is_known_all_the_same(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted(tmp_path, *range(60))
    (tmp_path / INDEX).mkdir()
    assert learned(tmp_path, 60) == [A] * 60
    assert not [name for name in os.listdir(tmp_path) if name.startswith(TEMPORARY)]
    os.rmdir(tmp_path / INDEX)
    long = replace(Result("x", "written"), image="/photos/x.jpg")
    kept = Manifest(tmp_path)
    kept.note({known.MODEL: {**MODEL._asdict(), "path": "x" * 70_000}})
    kept.add(long)
    kept.close()
    assert learned(tmp_path, 60) == [A] * 60 and not (tmp_path / INDEX).exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million lines of half as many names: what is held at most is that of one part."""
    monkeypatch.setattr(index, "MOST", 1 << 14)
    names, count = [number(f"often {one}") for one in range(1000)], 1_000_000
    tracemalloc.start()
    builder = Builder()
    for place in range(count):
        builder.add(names[place // 2 % 1000] if place % 2 else number(str(place)), place)
    table = builder.table()
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(table) == count // 2 + 1000 and held < len(table) / 10
    assert most < 150 * index.MOST < len(table) * index.ROW.itemsize / 4
    assert table.find(names[999]) == (count - 1, 0) and table.find(number("123456")) == (123456, 0)
    table.close()
