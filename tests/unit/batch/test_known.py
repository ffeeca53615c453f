"""What a manifest is taken to say of the files in OUT: of the lines that runs write, of older ones, of strange ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gradviz_cli.batch import known
from gradviz_cli.batch.known import Known, Model, Written
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.plan.results import Result

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
STAMP = (7, 1_700_000_000_123_456_789, 1_700_000_000_223_456_789)
FIRST = Result("/photos/x.jpg", "written", ("x.jpg.guided.png",), hashes={"x.jpg.guided.png": A},
               stamps={"x.jpg.guided.png": STAMP}, image_sha256=B, image_stamp=STAMP)  # fmt: skip


def learned(out: Path, *results: Result, model: Model | None = None) -> Known:
    manifest = Manifest(out)
    if model:
        manifest.note({known.MODEL: model._asdict()})
    manifest.add(*results)
    manifest.close()
    return Known.of(out)


def test_a_line_of_a_run(tmp_path: Path) -> None:
    with learned(tmp_path, FIRST) as found:
        assert found and found.written("x.jpg.guided.png") == Written(A, STAMP)
        assert found.written("x.jpg.deconv.png") is None
        assert found.is_from("x.jpg", "/photos/x.jpg") is True
        assert found.is_from("x.jpg", "/others/x.jpg") is False
        assert found.is_from("y.jpg", "/photos/y.jpg") is None
        assert known.image_stamp(found.image("x.jpg")) == (B, STAMP)
        assert found.image("y.jpg") == {} and found.model is None


def test_nothing_is_known_where_there_is_no_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for make in (lambda path: None, os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)):
        make(tmp_path / "manifest.jsonl")
        with Known.of(tmp_path) as found:
            assert not found and found.written("x") is None and found.image("x") == {} and list(found.images()) == []
        if os.path.lexists(tmp_path / "manifest.jsonl"):
            (os.rmdir if (tmp_path / "manifest.jsonl").is_dir() else os.unlink)(tmp_path / "manifest.jsonl")


@pytest.mark.parametrize(
    "name", ["caf\u00e9.jpg", 'a"b\\c.jpg', "\udce9.jpg", "a, b} {.jpg", "deep/er/x.jpg", "scan.tif#2"]
)
def test_every_name_of_a_file(tmp_path: Path, name: str) -> None:
    picture = f"{name}.guided.png"
    page = int(name[-1]) if "#" in name else None
    result = replace(FIRST, image=f"/photos/{name}", outputs=(picture,), hashes={picture: C}, page=page)
    with learned(tmp_path, FIRST, result) as found:
        assert found.written(picture) == Written(C, None)
        assert found.is_from(name, f"/photos/{name}".partition("#")[0]) is True


def test_the_last_line_wins(tmp_path: Path) -> None:
    later = replace(FIRST, hashes={"x.jpg.guided.png": C}, stamps={}, image="/moved/x.jpg")
    other = replace(FIRST, outputs=("x.jpg.deconv.png",), hashes={"x.jpg.deconv.png": B})
    with learned(tmp_path, FIRST, later, other) as found:
        assert found.written("x.jpg.guided.png") == Written(C, None)
        assert found.written("x.jpg.deconv.png") == Written(B, None)
        assert found.is_from("x.jpg", "/photos/x.jpg") is True
        assert [line["source"] for line in found.images()] == ["/photos/x.jpg", "/moved/x.jpg"]


def test_a_line_that_says_nothing_new_is_passed_over_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = replace(FIRST, status="current", hashes={}, stamps={})
    learned(tmp_path, FIRST, *[current] * 50).__exit__(None, None, None)
    monkeypatch.setattr(known, "parsed", pytest.fail)  # nor is a plain one
    with Known.of(tmp_path) as found:
        assert sum(map(len, found._tables)) == 2


def test_a_plain_line_and_one_that_is_read_as_json_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = replace(
        FIRST,
        outputs=("s/x.jpg.guided.npy", "s/x.jpg.guided.png"),
        hashes={"s/x.jpg.guided.npy": A, "s/x.jpg.guided.png": B},
    )
    learned(tmp_path, FIRST, raw, replace(FIRST, status="zero", outputs=(), hashes={})).__exit__(None, None, None)
    with Known.of(tmp_path) as plainly:
        monkeypatch.setattr(known, "_told_plainly", lambda line: None)
        with Known.of(tmp_path) as found:
            assert found._tables[0].rows.tolist() == plainly._tables[0].rows.tolist()
            assert len(found._tables[0]) == 5


def test_lines_of_older_versions(tmp_path: Path) -> None:
    """They have neither stamps nor the image's hash, and a moved image only shows in a line without hashes."""
    written = {**FIRST.record("t")}
    for name in ("stamps", "image_sha256", "image_stamp"):
        del written[name]
    moved = {**written, "status": "current", "sha256": {}, "source": "/moved/x.jpg"}
    (tmp_path / "manifest.jsonl").write_text(f"{json.dumps(written)}\n{json.dumps(moved)}\n")
    with Known.of(tmp_path) as found:
        assert found.written("x.jpg.guided.png") == Written(A, None)
        assert found.is_from("x.jpg", "/moved/x.jpg") is True and known.image_stamp(found.image("x.jpg")) == (
            None,
            None,
        )


def test_the_last_model(tmp_path: Path) -> None:
    first, last = Model("/m", "/m/1", A), Model("/m", "/m/2", B)
    learned(tmp_path, FIRST, model=first).__exit__(None, None, None)
    with learned(tmp_path, FIRST, FIRST, model=last) as found:
        assert found.model == last
    for said in (3, {}, {"typed": "/m"}, {**first._asdict(), "path": 3}):
        with open(tmp_path / "manifest.jsonl", "a") as file:
            file.write(json.dumps({**FIRST.record("t"), "model": said}) + "\n")
    with Known.of(tmp_path) as found:
        assert found.model == last


STRANGE = [
    b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{" * 100_000, b'{"image": 3}', b'{"sha256": {"', b'{"model": {',
    b'{"image": "x", "status": "w", "outputs": ["x.png"], "source": 3, "sha256": {"x.png": "a"}}',
    b'{"image": "x", "status": "w", "outputs": 3, "source": "s", "sha256": {"x.png": "a"}}',
    b'{"image": "x", "outputs": ["../x", "/x", "", "a\\u0000b"], "source": "s", "sha256": {"../x": "%s"}}' % (b"a" * 64),
    b'{"image": "x", "outputs": ["x.png"], "source": "s", "sha256": ["x.png"]}', b"1" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("line", STRANGE, ids=lambda line: repr(line[:60]))
def test_a_strange_line_is_passed_over(tmp_path: Path, line: bytes) -> None:
    known_before = json.dumps(FIRST.record("t")).encode()
    (tmp_path / "manifest.jsonl").write_bytes(known_before + b"\n" + line + b"\n" + line)
    with Known.of(tmp_path) as found:
        assert found.written("x.jpg.guided.png") == Written(A, STAMP)
        for name in ("../x", "/x", "", "x.png"):
            assert found.written(name) is None


@pytest.mark.parametrize("said", [None, 3, [], [1, 2], [1, 2, 3.0], [1, 2, True], ["1", 2, 3], [1, 2, 3, 4], {}])
def test_a_stamp_that_is_none_is_not_believed(said: object) -> None:
    assert known.stamp(said) is None


def test_lines_that_no_run_writes_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "LONGEST", 4096)
    line = json.dumps(FIRST.record("t")).encode() + b"\n"
    long = json.dumps({**FIRST.record("t"), "sha256": {"x.jpg.guided.png": C}, "more": "x" * 20_000}).encode() + b"\n"
    (tmp_path / "manifest.jsonl").write_bytes(long + line + long)
    with Known.of(tmp_path) as found:
        assert found.written("x.jpg.guided.png") == Written(A, STAMP)


def test_an_index_takes_little_for_each_line(tmp_path: Path, results: Callable[[int], list[Result]]) -> None:
    with learned(tmp_path, *results(5000)) as found:
        assert found._tables[0].rows.nbytes == 5000 * 48
        assert found.written("4999.jpg.guided.png") == Written(A, STAMP)


@pytest.fixture
def results() -> Callable[[int], list[Result]]:
    def make(count: int) -> list[Result]:
        pictures = {f"{number}.jpg": f"{number}.jpg.guided.png" for number in range(count)}
        return [
            replace(FIRST, image=f"/p/{image}", outputs=(name,), hashes={name: A}, stamps={name: STAMP})
            for image, name in pictures.items()
        ]

    return make
