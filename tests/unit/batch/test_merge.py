"""The lines of shards become part of OUT's manifest, each once, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradviz_cli.batch import manifest, shards
from gradviz_cli.batch import merge as merging
from gradviz_cli.batch.known import Known, Model, parsed
from gradviz_cli.batch.lock import held
from gradviz_cli.batch.manifest import MANIFEST, Manifest
from gradviz_cli.batch.merge import merge, merge_if_alone
from gradviz_cli.errors import OutputError, TimeUp
from gradviz_cli.plan.outputs import LOCK, SHARDS
from gradviz_cli.plan.results import Result

A = "a" * 64


def noted(out: Path, shard: tuple[int, int], *names: str) -> None:
    kept = Manifest(out, {}, shard)
    for name in names:
        kept.add(Result(name, "written", (f"{name}.guided.png",), hashes={f"{name}.guided.png": A}))
    kept.close()


def names(out: Path) -> list[str]:
    return [Path(line["image"]).name for line in manifest.read(out)]


def test_readers_find_the_lines_of_shards_and_a_merge_leaves_one_manifest(tmp_path: Path) -> None:
    noted(tmp_path, (1, 1), "a")
    noted(tmp_path, (2, 3), "b", "c")
    noted(tmp_path, (3, 3), "d")
    for _ in range(2):
        assert sorted(names(tmp_path)) == ["a", "b", "c", "d"]
        with Known.of(tmp_path) as known:
            assert all(known.written(f"{name}.guided.png") for name in "abcd")
            assert [line["outputs"] for line in [known.image("c")]] == [["c.guided.png"]]
        merge(tmp_path)
    assert os.listdir(tmp_path / SHARDS) == []
    assert len((tmp_path / MANIFEST).read_text().splitlines()) == 4


def test_whoever_is_alone_leaves_out_as_one_run_does(tmp_path: Path) -> None:
    with held(tmp_path, 0, (1, 2)):
        noted(tmp_path, (1, 2), "a")
        merge_if_alone(tmp_path)
        assert (tmp_path / SHARDS / "1-of-2.jsonl").exists()
    merge_if_alone(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [LOCK, MANIFEST] and names(tmp_path) == ["a"]
    merge_if_alone(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_merge_goes_no_further_when_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted(tmp_path, (1, 1), "a")
    noted(tmp_path, (1, 2), *"bcdefg")
    clock = iter(range(100))
    monkeypatch.setattr(merging, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    merge_if_alone(tmp_path, 3)
    assert len((tmp_path / MANIFEST).read_text().splitlines()) == 1 + 3
    assert set(names(tmp_path)) == set("abcdefg") and (tmp_path / LOCK).read_text() == ""
    with pytest.raises(TimeUp, match="--max-duration .* lines of shards"):
        merge(tmp_path, 0)
    merge_if_alone(tmp_path, 1000)
    assert names(tmp_path) == list("abcdefg") and not (tmp_path / SHARDS).exists()


def test_a_merge_that_was_killed_at_any_byte_is_finished(tmp_path: Path) -> None:
    noted(tmp_path, (1, 1), "a")
    noted(tmp_path, (1, 2), "b", "c")
    before, moved = (tmp_path / MANIFEST).read_bytes(), (tmp_path / SHARDS / "1-of-2.jsonl").read_bytes()
    for cut in (*range(0, len(moved), 13), moved.index(b"\n"), len(moved) - 1, len(moved)):
        (tmp_path / MANIFEST).write_bytes(before + moved[:cut])
        (tmp_path / SHARDS / "1-of-2.moving").write_bytes(moved)
        noted(tmp_path, (1, 2), "d")  # runs again before anybody else
        (tmp_path / SHARDS / "2-of-2.jsonl").write_bytes(b'{"image": "e"}\n')
        os.utime(tmp_path / SHARDS / "2-of-2.jsonl", (0, 0))
        merge(tmp_path)
        assert names(tmp_path) == ["a", "b", "c", "e", "d"], cut
        whole = [line for line in (tmp_path / MANIFEST).read_bytes().splitlines() if parsed(line)]
        assert len(whole) == 5, cut


def test_lines_that_no_run_writes_are_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "LONGEST", 200)
    (tmp_path / SHARDS).mkdir()
    good = b'{"image": "a"}\n'
    strange = [
        b"\n",
        b"\0" * 50 + b"\n",
        b'{"image": "to\n',
        b"[1]\n",
        b'{"image": "%s"}\n' % (b"x" * 300),
        b'{"image": "b"',
    ]
    (tmp_path / SHARDS / "1-of-2.jsonl").write_bytes(good + b"".join(strange))
    merge(tmp_path)
    assert (tmp_path / MANIFEST).read_bytes() == good


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder"])
def test_what_has_the_name_of_a_shards_manifest_is_left_alone(tmp_path: Path, kind: str) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    (out / SHARDS).mkdir(parents=True)
    precious.write_text(json.dumps({"image": "stolen"}) + "\n")
    path = out / SHARDS / "1-of-2.jsonl"
    makes = {"link": lambda: path.symlink_to(precious), "hard link": lambda: os.link(precious, path)}
    makes |= {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir}
    makes[kind]()
    with pytest.raises(OutputError, match="1-of-2.jsonl: cannot be written"):
        Manifest(out, {}, (1, 2))
    if kind == "hard link":
        with pytest.raises(OutputError, match="has another name too; move it away"):
            merge(out)
    else:
        merge(out)
        assert names(out) == []
    assert os.path.lexists(path) and precious.read_text() == '{"image": "stolen"}\n'


def test_a_manifest_of_somebody_else_is_refused_before_a_shard_begins(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("notes\n")
    with pytest.raises(OutputError, match=r"manifest\.jsonl: .* no manifest of gradviz"):
        Manifest(tmp_path, {}, (1, 2))
    (tmp_path / SHARDS).mkdir()
    (tmp_path / SHARDS / "1-of-2.jsonl").write_bytes(b'{"image": "a"}\n')
    with pytest.raises(OutputError, match=r"manifest\.jsonl: .* no manifest of gradviz"):
        merge(tmp_path)
    assert shards.manifests(tmp_path) and (tmp_path / MANIFEST).read_text() == "notes\n"


def test_readers_miss_nothing_when_lines_are_moved_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it happens: before each file that a reader opens."""
    pictures, real = [f"{name}.guided.png" for name in "abc"], shards.opened
    for place in range(5):
        out, opens = tmp_path / str(place), iter(range(100))
        out.mkdir()
        noted(out, (1, 1), "a")
        noted(out, (1, 2), "b")
        noted(out, (2, 2), "c")

        def opened(path: Path, flags: int, out: Path = out, opens: Iterator[int] = opens, place: int = place) -> int:
            if next(opens) == place:
                monkeypatch.setattr(shards, "opened", real)
                merge(out)
            return real(path, flags)

        for moved in ("at once", "in parts"):
            if moved == "in parts":  # the next one was killed when it had begun
                noted(out, (1, 2), "b")
                path = out / SHARDS / "1-of-2.jsonl"
                monkeypatch.setattr(shards, "opened", real)
                lines = manifest.read(out)
                next(lines)
                path.rename(path.with_suffix(".moving"))
                assert {Path(line["image"]).name for line in lines} >= {"b", "c"}
            else:
                monkeypatch.setattr(shards, "opened", opened)
                with Known.of(out) as known:
                    monkeypatch.setattr(shards, "opened", real)
                    merge(out)  # also when it asks later
                    assert all(known.written(name) for name in pictures), place
        assert set(names(out)) == {"a", "b", "c"}


def test_a_text_of_somebody_else_among_the_shards_stays(tmp_path: Path) -> None:
    noted(tmp_path, (2, 2), "a")
    notes = tmp_path / SHARDS / "1-of-2.jsonl"
    notes.write_text("notes\n")
    os.utime(notes, (0, 0))
    with pytest.raises(OutputError, match=r"1-of-2\.jsonl: .* no manifest of gradviz; move it away"):
        merge(tmp_path)
    assert notes.read_text() == "notes\n" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_has_the_name_of_the_folder_of_shards_is_left_alone(tmp_path: Path, kind: str) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    precious.mkdir()
    (out / SHARDS).symlink_to(precious) if kind == "link" else (out / SHARDS).write_text("notes")
    said = r"1-of-2\.lock: cannot be written: \.gradviz\.shards is a link or a file"
    with pytest.raises(OutputError, match=said), held(out, 0, (1, 2)):
        pass
    with held(out, 0):
        noted(out, (1, 1), "a")
        merge(out)
        shards.clear(out)
    assert names(out) == ["a"] and os.path.lexists(out / SHARDS) and not os.listdir(precious)


def test_the_model_is_known_from_shards(tmp_path: Path) -> None:
    kept = Manifest(tmp_path, {}, (1, 2))
    kept.note({"model": Model("/m", "/m", A)._asdict()})
    kept.add(Result("a", "written", ("a.png",), hashes={"a.png": A}))
    kept.close()
    for shard in ((1, 1), (1, 2), (2, 2), (1, 3)):
        with Known.of(tmp_path, shard) as known:
            assert known.model == Model("/m", "/m", A) and known.image("a") != {}


def test_of_shards_beside_it_one_reads_only_the_beginning(tmp_path: Path) -> None:
    noted(tmp_path, (1, 2), *(str(number) for number in range(400)))
    for shard, last in (((1, 1), True), ((1, 2), True), ((1, 3), True), ((2, 2), False)):
        with Known.of(tmp_path, shard) as known:
            assert known.image("0") != {} and (known.image("399") != {}) == last
