"""Which outputs are current."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.batch import current, files
from gradviz_cli.batch.current import Found, Read, check_current, sift
from gradviz_cli.batch.known import Known
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.draw.png import encode_npy, encode_png
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits, stamp_of
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import Output, outputs
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import Result, TargetResult
from gradviz_cli.plan.targets import Target

TARGET = {"index": 2, "label": "cat", "rank": 0, "score": 1.5, "output": None}
PIXELS = np.zeros((2, 2), np.uint8)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "cat.jpg").write_bytes(b"an image")
    return Job(tmp_path / "cat.jpg", "cat.jpg")


def written(path: Path, record: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(PIXELS, None, record if isinstance(record, str) else json.dumps(record)))


def looked(plan: Plan, job: Job) -> Found:
    """As a run does: by a look at many, and where that is not enough, into the files."""
    with Known.of(plan.out) as known:
        [(_, wanted, result)] = sift(plan, [job], Digests(plan, "f"), Limits(), known)
        if result:
            return Found(Read(b"", result.image_sha256 or "", result.image_stamp), result)
        return current.looked(plan, job, wanted, Digests(plan, "f"), Limits(), known)


def noted(plan: Plan, job: Job, *paths: Path, stamped: bool = True) -> None:
    """In the manifest, as they are now."""
    names = {str(path.relative_to(plan.out)): path for path in paths}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in names.items()}
    stamps = {name: stamp_of(path.stat()) for name, path in names.items() if stamped}
    manifest = Manifest(plan.out)
    manifest.add(Result(job.name, "written", tuple(names), hashes=hashes, stamps=stamps))
    manifest.close()


def checked(plan: Plan, output: Output):
    with Known.of(plan.out) as known:
        return check_current(plan, output, lambda index: "d", known)


def make(plan: Plan, job: Job, stamped: bool = True) -> tuple[Output, ...]:
    """Write pictures that are current."""
    digests, image = Digests(plan, "f"), hashlib.sha256(b"an image").hexdigest()
    pictures = outputs(plan, job, SHEETS)
    for output in pictures:
        arrays = output.array_paths(plan.drawing.modes) if plan.drawing.raw else {}
        hashes = {}
        for mode, path in arrays.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_npy(np.ones((2, 2, 3), np.float32)))
            hashes[mode] = hashlib.sha256(path.read_bytes()).hexdigest()
        npy = hashes.get(output.mode) if output.mode else hashes
        written(output.path, {"digest": digests.of(output, image), "target": TARGET, "npy": npy})
        noted(plan, job, output.path, *arrays.values(), stamped=stamped)
    return pictures


def test_an_image_without_pictures_is_pending(plan: Callable[..., Plan], job: Job) -> None:
    read, found = looked(plan(), job)
    assert found is None
    assert read == (b"an image", hashlib.sha256(b"an image").hexdigest(), stamp_of(job.path.stat()))


def test_an_image_whose_pictures_are_there_is_current(plan: Callable[..., Plan], job: Job) -> None:
    asked = plan({"modes": ("deconv", "guided"), "styles": ("heatmap", "panel"), "raw": True})
    make(asked, job)
    result = looked(asked, job).current
    assert result is not None and result.status == "current"
    assert result.outputs == (
        "cat.jpg.deconv.png",
        "cat.jpg.deconv.npy",
        "cat.jpg.guided.png",
        "cat.jpg.guided.npy",
        "cat.jpg.panel.png",
    )
    assert result.targets == (TargetResult(2, "cat", 0, 1.5, None),)
    assert result.hashes == {} and result.stamps == {}  # nothing that the manifest does not know
    assert result.image_sha256 == hashlib.sha256(b"an image").hexdigest()
    assert result.image_stamp == stamp_of(job.path.stat())


def test_what_looks_as_it_was_written_is_not_read(
    plan: Callable[..., Plan], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan({"raw": True})
    make(asked, job)
    monkeypatch.setattr(files, "hash_file", pytest.fail)
    assert looked(asked, job).current is not None


@pytest.mark.parametrize("why", ["an older manifest", "a copy", "a later touch"])
def test_what_has_another_look_is_told_by_its_bytes_and_that_is_remembered(
    plan: Callable[..., Plan], job: Job, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan()
    (output,) = make(asked, job, stamped=why != "an older manifest")
    if why == "a copy":
        data = output.path.read_bytes()
        output.path.unlink()
        output.path.write_bytes(data)
    elif why == "a later touch":
        os.utime(output.path, (1, 1))
    result = looked(asked, job).current
    assert result is not None
    name = "cat.jpg.guided.png"
    assert result.stamps == {name: stamp_of(output.path.stat())}
    assert result.hashes == {name: hashlib.sha256(output.path.read_bytes()).hexdigest()}
    manifest = Manifest(asked.out)
    manifest.add(result)
    manifest.close()
    monkeypatch.setattr(files, "hash_file", pytest.fail)
    again = looked(asked, job).current
    assert again is not None and again.hashes == {}


def test_photos_that_moved_are_written_down(plan: Callable[..., Plan], job: Job, tmp_path: Path) -> None:
    make(plan(), job)
    moved = tmp_path / "elsewhere" / "cat.jpg"
    moved.parent.mkdir()
    job.path.rename(moved)
    result = looked(plan(), Job(moved, "cat.jpg")).current
    assert result is not None and result.hashes.keys() == {"cat.jpg.guided.png"}


def damages(whole: bytes) -> dict[str, bytes]:
    start, body = whole.index(b"IDAT"), whole.rindex(b"IEND") - 8
    other = encode_png(np.full((2, 2), 9, np.uint8), None, "x")
    return {
        "zeroed": whole[: start + 4] + bytes(body - start - 4) + whole[body:],
        "none": whole[: start - 4] + whole[-12:],
        "another picture's": whole[: start - 4] + other[other.index(b"IDAT") - 4 :],
        "one bit": whole[: start + 6] + bytes([whole[start + 6] ^ 1]) + whole[start + 7 :],
        "something behind": whole[:-12] + b"\0\0\0\0tEXt" + whole[-12:],
    }


@pytest.mark.parametrize("kind", ["zeroed", "none", "another picture's", "one bit", "something behind"])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("stamped", [False, True])
def test_a_picture_whose_pixels_are_others_is_pending(
    plan: Callable[..., Plan], job: Job, kind: str, hidden: bool, stamped: bool
) -> None:
    """Also when its times were put back."""
    (output,) = make(plan(), job, stamped)
    before = output.path.stat()
    output.path.write_bytes(damages(output.path.read_bytes())[kind])
    if hidden:
        os.utime(output.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert looked(plan(), job).current is None


def test_a_picture_that_no_manifest_knows_is_pending(plan: Callable[..., Plan], job: Job) -> None:
    """Nobody can say that its pixels are those that were drawn."""
    make(plan(), job)
    (plan().out / "manifest.jsonl").unlink()
    assert looked(plan(), job).current is None


def test_force_makes_everything_pending(plan: Callable[..., Plan], job: Job) -> None:
    make(plan(), job)
    assert looked(plan(), job).current is not None
    assert looked(plan(force=True), job).current is None


@pytest.mark.parametrize(
    "change",
    ["image", "picture gone", "one of two gone", "array gone", "array changed", "array of another run", "other"],
)
def test_what_makes_it_pending(plan: Callable[..., Plan], job: Job, change: str) -> None:
    asked = plan({"targets": (Target(rank=0), Target(index=3)), "raw": True})
    first, second = make(asked, job)
    assert looked(asked, job).current is not None
    (array,) = second.array_paths(()).values()
    if change == "image":
        job.path.write_bytes(b"another image")
    elif change == "picture gone":
        first.path.unlink()
    elif change == "one of two gone":
        second.path.unlink()
    elif change == "array gone":
        array.unlink()
    elif change == "array changed":
        array.write_bytes(array.read_bytes()[:-1] + b"x")
    elif change == "array of another run":
        array.write_bytes(encode_npy(np.zeros((2, 2, 3), np.float32)))
        noted(asked, job, array)
    else:
        asked = plan({"targets": (Target(rank=0), Target(index=3)), "raw": True, "clip": 90.0})
    assert looked(asked, job).current is None


@pytest.mark.parametrize(
    "target",
    [
        None,
        [],
        "cat",
        {},
        {**TARGET, "index": "2"},
        {**TARGET, "index": True},
        {**TARGET, "index": None},
        {**TARGET, "label": 3},
        {**TARGET, "rank": 0.5},
        {**TARGET, "score": "high"},
        {**TARGET, "score": [1.0]},
        {**TARGET, "output": {}},
        {name: value for name, value in TARGET.items() if name != "output"},
    ],
    ids=str,
)
def test_a_target_that_no_run_wrote_is_not_believed(plan: Callable[..., Plan], job: Job, target: object) -> None:
    (output,) = outputs(plan(), job, SHEETS)
    for said, right in ((target, False), (TARGET, True)):
        written(output.path, {"digest": "d", "target": said})
        noted(plan(), job, output.path)
        assert (checked(plan(), output) is not None) == right


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "null", '"d"', '{"digest": 3}', '{"digest": ["d"]}', "[" * 100_000]
)
def test_a_text_that_no_run_wrote_is_not_believed(plan: Callable[..., Plan], job: Job, text: str) -> None:
    (output,) = outputs(plan(), job, SHEETS)
    written(output.path, text)
    noted(plan(), job, output.path)
    assert checked(plan(), output) is None


@pytest.mark.parametrize("npy", [None, 3, [], {"guided": 3}, "0" * 64])
def test_an_array_needs_its_hash(plan: Callable[..., Plan], job: Job, npy: object) -> None:
    asked = plan({"raw": True})
    (output,) = make(asked, job)
    record = {"digest": "d", "target": TARGET, "npy": npy}
    written(output.path, record)
    noted(asked, job, output.path)
    assert checked(asked, output) is None
    assert checked(plan(), output) is not None  # without --raw nobody asks


def test_a_file_that_is_no_picture(plan: Callable[..., Plan], job: Job) -> None:
    (output,) = outputs(plan(), job, SHEETS)
    output.path.parent.mkdir()
    output.path.write_bytes(b"\x89PNG no")
    noted(plan(), job, output.path)
    assert checked(plan(), output) is None


@pytest.mark.parametrize(
    ("job", "kind", "said"),
    [
        (Job(Path("folder"), "folder", "the folder cannot be listed"), "unreadable", "cannot be listed"),
        (Job(Path("x"), "x" * 250), "name", "rename it"),
        (Job(Path("x"), "\u732b" * 82), "name", "rename it"),  # bytes count
    ],
    ids=["trouble", "long", "wide"],
)
def test_images_that_need_no_look_to_fail(plan: Callable[..., Plan], job: Job, kind: str, said: str) -> None:
    result = looked(plan(), job).current
    assert result is not None and result.failed and result.error is not None
    assert result.error["kind"] == kind and said in result.error["message"]


def test_an_image_that_is_not_there(plan: Callable[..., Plan]) -> None:
    with pytest.raises(ImageError, match="cannot be opened") as caught:
        looked(plan(), Job(Path("none.png"), "none.png"))
    assert caught.value.kind == "missing"
