"""Which outputs are current."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.batch.current import check_current, lookup, sha256_of
from gradviz_cli.draw.png import encode_npy, encode_png
from gradviz_cli.draw.styles import SHEETS
from gradviz_cli.errors import ImageError
from gradviz_cli.files.reading import Limits
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import Output, outputs
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.results import TargetResult
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


def looked(plan: Plan, job: Job, **more):
    return lookup(plan, job, outputs(plan, job, SHEETS), Digests(plan, "f"), Limits(), **more)


def make(plan: Plan, job: Job) -> tuple[Output, ...]:
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
    return pictures


def test_an_image_without_pictures_is_pending(plan: Callable[..., Plan], job: Job) -> None:
    found = looked(plan(), job)
    assert found == (b"an image", hashlib.sha256(b"an image").hexdigest(), None)


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
    assert result.hashes == {}
    rehashed = looked(asked, job, rehash=True).current
    assert rehashed is not None and rehashed.hashes == {name: sha256_of(asked.out / name) for name in result.outputs}


def test_force_makes_everything_pending(plan: Callable[..., Plan], job: Job) -> None:
    make(plan(), job)
    assert looked(plan(), job).current is not None
    assert looked(plan(force=True), job).current is None


@pytest.mark.parametrize("change", ["image", "picture gone", "one of two gone", "array gone", "array changed", "other"])
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
    written(output.path, {"digest": "d", "target": target})
    assert check_current(plan(), output, lambda index: "d") is None
    written(output.path, {"digest": "d", "target": TARGET})
    assert check_current(plan(), output, lambda index: "d") is not None


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "null", '"d"', '{"digest": 3}', '{"digest": ["d"]}', "[" * 100_000]
)
def test_a_text_that_no_run_wrote_is_not_believed(plan: Callable[..., Plan], job: Job, text: str) -> None:
    (output,) = outputs(plan(), job, SHEETS)
    written(output.path, text)
    assert check_current(plan(), output, lambda index: "d") is None


@pytest.mark.parametrize("npy", [None, 3, [], {"guided": 3}, "0" * 64])
def test_an_array_needs_its_hash(plan: Callable[..., Plan], job: Job, npy: object) -> None:
    asked = plan({"raw": True})
    (output,) = make(asked, job)
    record = {"digest": "d", "target": TARGET, "npy": npy}
    written(output.path, record)
    assert check_current(asked, output, lambda index: "d") is None
    assert check_current(plan(), output, lambda index: "d") is not None  # without --raw nobody asks


def test_a_file_that_is_no_picture(plan: Callable[..., Plan], job: Job) -> None:
    (output,) = outputs(plan(), job, SHEETS)
    output.path.parent.mkdir()
    output.path.write_bytes(b"\x89PNG no")
    assert check_current(plan(), output, lambda index: "d") is None


@pytest.mark.parametrize(
    ("job", "kind", "said"),
    [
        (Job(Path("none.png"), "none.png"), "missing", "cannot be opened"),
        (Job(Path("folder"), "folder", "the folder cannot be listed"), "unreadable", "cannot be listed"),
        (Job(Path("x"), "x" * 250), "name", "rename it"),
        (Job(Path("x"), "\u732b" * 82), "name", "rename it"),  # bytes count
    ],
    ids=["missing", "trouble", "long", "wide"],
)
def test_images_that_cannot_be_read(plan: Callable[..., Plan], job: Job, kind: str, said: str) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        looked(plan(), job)
    assert caught.value.kind == kind


def test_hashes_of_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path) is None and sha256_of(tmp_path / "none") is None
