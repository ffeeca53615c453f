"""Files under their names first, lines in the manifest second."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from gradviz_cli.batch import manifest
from gradviz_cli.batch.flow import Settled
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.batch.publisher import Publisher, ends_run, unwritable
from gradviz_cli.draw.pictures import Drawn
from gradviz_cli.errors import ModelUnusable, OutputError
from gradviz_cli.files import whole
from gradviz_cli.files.reading import stamp_of
from gradviz_cli.files.whole import stage
from gradviz_cli.plan.results import Result


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def kept(out: Path) -> Iterator[Manifest]:
    opened = Manifest(out)
    yield opened
    opened.close(sync=False)


def drawn(out: Path, name: str, *more: str, status: str = "written") -> Drawn:
    """An image with files of these names, staged."""
    files = tuple(stage(out / each, each.encode(), sync=False) for each in (name, *more))
    hashes = {each: hashlib.sha256(each.encode()).hexdigest() for each in (name, *more)}
    return Drawn(Result(name, status, (name, *more), hashes=hashes), files)


def listed(out: Path) -> list[tuple[str, str]]:
    return [(record["image"], record["status"]) for record in manifest.read(out)]


def temporaries(out: Path) -> list[str]:
    return [name for name in os.listdir(out) if name.endswith(".tmp")]


def test_files_get_their_names_and_lines(out: Path, kept: Manifest) -> None:
    publisher = Publisher(out, kept)
    group = [drawn(out, "a", "a2"), drawn(out, "b"), Drawn(Result("c", "current"))]
    assert sorted(os.listdir(out)) != ["a", "a2", "b", "manifest.jsonl"]
    results, end = publisher.publish(group)
    assert ([result.image for result in results], end) == (["a", "b", "c"], None)
    assert sorted(os.listdir(out)) == ["a", "a2", "b", "manifest.jsonl"]
    assert listed(out) == [("a", "written"), ("b", "written"), ("c", "current")]
    assert not kept.behind


def test_the_working_folder_may_be_out(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files in it are named without a folder."""
    monkeypatch.chdir(out)
    here = Path()
    opened = Manifest(here)
    results, end = Publisher(here, opened).publish([drawn(here, "a"), drawn(here, "b")])
    opened.close(sync=False)
    assert end is None and [result.status for result in results] == ["written", "written"]
    assert (out / "a").read_bytes() == b"a" and listed(out) == [("a", "written"), ("b", "written")]


def test_everything_is_on_the_disk_before_it_has_a_name(
    out: Path, kept: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("sync") or sync(handle))
    monkeypatch.setattr(os, "replace", lambda *names, **folders: done.append("name") or replace(*names, **folders))
    Publisher(out, kept).publish([drawn(out, "a"), drawn(out, "b")])
    assert done == ["sync", "sync", "name", "name", "sync"]  # the folder's names at the end


def test_a_name_that_is_taken_costs_one_image(out: Path, kept: Manifest) -> None:
    group = [drawn(out, "a"), drawn(out, "b", "b2"), drawn(out, "c")]
    (out / "b").mkdir()
    results, end = Publisher(out, kept).publish(group)
    assert end is None and [result.status for result in results] == ["written", "failed", "written"]
    assert results[1].error is not None and results[1].error["kind"] == "output"
    assert results[1].outputs == () and results[1].hashes == {}
    assert listed(out) == [("a", "written"), ("b", "failed"), ("c", "written")]
    assert not temporaries(out) and not (out / "b2").exists()


def test_a_full_disk_ends_the_run_and_what_stands_stands(
    out: Path, kept: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, replace = [drawn(out, name) for name in "abc"], os.replace

    def full(temporary: bytes, final: bytes, **folders: int) -> None:
        if final == b"b":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(temporary, final, **folders)

    monkeypatch.setattr(os, "replace", full)
    results, end = Publisher(out, kept).publish(group)
    assert [result.image for result in results] == ["a"]
    assert isinstance(end, OutputError) and "No space left" in str(end)
    assert listed(out) == [("a", "written")] and (out / "a").read_bytes() == b"a"
    assert not temporaries(out) and not (out / "c").exists()


def test_a_folder_that_was_replaced_is_not_written(out: Path, kept: Manifest) -> None:
    publisher = Publisher(out, kept)
    out.rename(out.with_name("moved"))
    out.mkdir()
    results, end = publisher.publish([drawn(out, "a")])
    assert results == [] and isinstance(end, OutputError)
    assert os.listdir(out) == [] and listed(out.with_name("moved")) == []


def test_fail_fast_publishes_up_to_the_first_failure(out: Path, kept: Manifest) -> None:
    publisher = Publisher(out, kept, fail_fast=True)
    group = [drawn(out, "a"), drawn(out, "b", status="zero"), drawn(out, "c")]
    results, end = publisher.publish(group)
    assert [result.image for result in results] == ["a", "b"] and end is None
    assert publisher.enough and not temporaries(out) and not (out / "c").exists()
    assert publisher.publish([drawn(out, "d")]).results == []
    assert not temporaries(out)


def test_what_is_there_with_the_same_bytes_stays(out: Path, kept: Manifest) -> None:
    """The pictures of an image that are current beside one that is not; what somebody changed is written again."""
    Publisher(out, kept).publish([drawn(out, "a", "b", "c")])
    before = {name: (out / name).stat() for name in "abc"}
    (out / "b").write_bytes(b"mine")
    with Known.of(out) as known:
        (again,) = Publisher(out, kept, known=known).publish([drawn(out, "a", "b", "c", "d")]).results
    after = {name: (out / name).stat() for name in "abcd"}
    assert after["a"] == before["a"] and after["c"] == before["c"]
    assert (out / "b").read_bytes() == b"b" and after["b"].st_ino != before["b"].st_ino
    assert again.kept == ("a", "c") and again.new == ("b", "d")
    assert again.stamps == {name: stamp_of(status) for name, status in after.items()} and not temporaries(out)


def test_an_image_of_which_one_name_is_taken_tells_of_no_picture_that_stays(out: Path, kept: Manifest) -> None:
    """As an image that has failed has no outputs: a node of Ray whose result told of some would not be believed."""
    Publisher(out, kept).publish([drawn(out, "a", "b")])
    group = [drawn(out, "a", "b")]
    (out / "b").unlink()
    (out / "b").mkdir()
    with Known.of(out) as known:
        (again,) = Publisher(out, kept, known=known).publish(group).results
    assert again.failed and not (again.outputs or again.kept or again.stamps or again.hashes)
    assert (out / "a").read_bytes() == b"a" and not temporaries(out)


def test_a_stage_publishes_what_others_left_and_says_what_ends(out: Path, kept: Manifest) -> None:
    publisher = Publisher(out, kept)
    broken: Future = Future()
    broken.set_exception(ModelUnusable("x"))
    cancelled: Future = Future()
    cancelled.cancel()
    futures = [Settled(drawn(out, "a")), broken, cancelled, Settled(None), Settled(drawn(out, "b"))]
    results, end = publisher.submit(futures).result(5)
    assert [result.image for result in results] == ["a", "b"] and isinstance(end, ModelUnusable)
    publisher.close()
    publisher.release()


def test_a_stage_that_is_closed_drops_what_is_drawn(out: Path, kept: Manifest) -> None:
    publisher = Publisher(out, kept)
    publisher.closed = True
    assert publisher.submit([Settled(drawn(out, "a"))]).result(5).results == []
    assert listed(out) == [] and not temporaries(out)
    publisher.close()
    publisher.release()


def error_of(number: int) -> OutputError:
    error = OutputError("x")
    error.__cause__ = OSError(number, "why")
    return error


@pytest.mark.parametrize(
    ("number", "ends"),
    [
        (errno.ENOSPC, True),
        (errno.EROFS, True),
        (errno.EDQUOT, True),
        (errno.EIO, True),
        (errno.EFBIG, True),
        (errno.EISDIR, False),
        (errno.ENAMETOOLONG, False),
        (errno.EACCES, False),  # OUT itself can be written
        (errno.ENOENT, False),
    ],
)
def test_what_ends_a_run(out: Path, number: int, ends: bool) -> None:
    assert ends_run(error_of(number), out) is ends


def test_a_folder_that_is_gone_ends_a_run(out: Path) -> None:
    assert ends_run(error_of(errno.ENOENT), out / "gone")
    assert not ends_run(OutputError("it is a folder"), out)  # found before the system was asked


def test_a_result_that_cannot_be_written_says_what_to_do() -> None:
    result = unwritable(
        Result("a", "written", ("a.png",), digest="d", seconds=2.0), OutputError("why", "do that"), Path(), []
    )
    assert (result.status, result.outputs, result.seconds) == ("failed", (), 2.0)
    assert result.error == {"kind": "output", "message": "why; do that"}


@pytest.mark.parametrize(
    ("image", "output", "folder"),
    [
        ("photos/a.jpg", "a.jpg.guided.png", "photos/a.jpg.guided.png"),
        ("photos/manifest.jsonl/b.jpg", "manifest.jsonl/b.jpg.guided.png", "photos/manifest.jsonl"),
        ("photos/s/manifest.jsonl/t/b.jpg", "manifest.jsonl/t/b.jpg.guided.png", "photos/s/manifest.jsonl"),
        ("photos/pages.tif#2", "pages.tif#2.guided.png", "photos/pages.tif#2.guided.png"),
    ],
)
def test_a_folder_of_images_with_the_name_of_an_output_is_named(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, image: str, output: str, folder: str
) -> None:
    """Neither another --out nor to move anything away in this one would help."""
    monkeypatch.chdir(tmp_path)
    error = OutputError("why", "do that")
    (out / output).mkdir(parents=True) if output.count("/") == 0 else (out / "manifest.jsonl").write_text("")

    def said(named: str) -> str:
        result = unwritable(Result(named, "failed"), error, out, [out / "other.png", out / output])
        return str((result.error or {})["message"])

    assert said(image) == "why; do that", "there may be a folder in OUT alone"
    Path(folder).mkdir(parents=True)
    assert f"cannot be written: {'it is a folder' if output.count('/') == 0 else ''}" in said(image)
    assert f"the folder of images {folder} has that name; rename that one, or explain it by itself" in said(image)
    assert f"the folder of images {tmp_path / folder} has that name" in said(str(tmp_path / image))


def test_it_is_named_too_where_images_were_typed_from_inside(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos" / "manifest.jsonl"
    folder.mkdir(parents=True)
    (out / "manifest.jsonl").write_text("")
    monkeypatch.chdir(folder)
    result = unwritable(Result("b.jpg", "failed"), OutputError("why"), out, [out / "manifest.jsonl" / "b.jpg.png"])
    assert f"the folder of images {folder} has that name" in str(result.error)


def test_nothing_unpublished_is_left_over() -> None:
    assert not whole._unpublished


def test_a_file_system_that_cannot_sync(out: Path, kept: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(fd: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", unknown)
    monkeypatch.setattr(whole, "_without_sync", set())
    results, end = Publisher(out, kept).publish([drawn(out, "a")])
    assert [result.status for result in results] == ["written"] and end is None


def test_how_each_file_looks_under_its_name_is_kept(out: Path, kept: Manifest) -> None:
    """So that the next run need not read it to know that it still is what was written."""
    results, end = Publisher(out, kept).publish([drawn(out, "a", "b"), drawn(out, "c")])
    assert end is None
    assert [result.stamps for result in results] == [
        {name: stamp_of((out / name).stat()) for name in names} for names in (("a", "b"), ("c",))
    ]
