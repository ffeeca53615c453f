"""The command against S3 as moto serves it, on this machine and on Ray's nodes: model, images and maps in a bucket, killed in
the middle, and run again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from stores import CREDENTIALS, Out, s3

from gradviz_cli import demo
from gradviz_cli.files import objects
from gradviz_cli.files.remote import Remote

pytestmark = pytest.mark.slow

ENGINES = [
    "local",
    pytest.param("ray", marks=pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")),
]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> tuple[str, str]:
    return "--engine", request.param


@pytest.fixture
def top(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    with s3(monkeypatch) as bucket:
        for folder, source in (("model", demo.MODEL), ("photos/x", demo.IMAGES)):
            for path in filter(Path.is_file, source.rglob("*")):
                objects.put(bucket / folder / str(path.relative_to(source)), path.read_bytes())
        yield bucket


def started(*arguments: object, **more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "gradviz_cli", "explain", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **more}, **pipes)  # type: ignore[call-overload]


def done(*arguments: object, **more: str) -> tuple[int, str, str]:
    child = started(*arguments, **more)
    out, err = child.communicate(timeout=300)
    return child.returncode, out, err


def test_everything_in_a_bucket_is_as_on_the_disk(top: Remote, tmp_path: Path, engine: tuple[str, str]) -> None:
    maps, here = Out(top / "maps"), Out(tmp_path / "maps")
    options = ("-m", "all", "--raw", "--style", "heatmap,panel")
    assert done(demo.MODEL, demo.IMAGES, "-o", here.place, *options) == (0, "", "")
    assert done(top / "model", top / "photos/x", "-o", maps.place, *options, *engine) == (0, "", "")
    told = [line.replace(f"{top}/photos/x", str(demo.IMAGES)) for line in maps.told()]
    assert sorted(told) == sorted(here.told())
    assert maps.files() == here.files() and len(maps.files()) == 70
    code, out, err = done(top / "model", top / "photos/x", "-o", maps.place, *options, *engine, "--print")
    assert (code, out, err) == (0, "", "")
    code, out, _ = done(top / "model", top / "photos/x", "-o", maps.place, "-m", "deconv", "--dry-run")
    assert code == 0 and out == ""  # they are there already
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    assert all(secret.encode() not in objects.read(one.place, one.size) for one in objects.everything(maps.place))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_in_the_middle(top: Remote, tmp_path: Path, engine: tuple[str, str], number: int) -> None:
    maps, here = Out(top / "maps"), Out(tmp_path / "maps")
    for copy in range(6):  # more than Ray's nodes have in hand
        shutil.copytree(demo.IMAGES, tmp_path / "many" / str(copy))
    for path in filter(Path.is_file, (tmp_path / "many").rglob("*")):
        objects.put(top / str(path.relative_to(tmp_path)), path.read_bytes())
    order = (demo.MODEL, top / "many", "-o", maps.place, "--batch-size", "1", *engine)
    child = started(*order)
    while not objects.entries_if_any(top / "maps/manifest") and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(number)
    begin = time.monotonic()
    _, err = child.communicate(timeout=60)
    assert child.returncode == (-number if number == signal.SIGKILL else 128 + number) and err == ""
    assert time.monotonic() - begin < 10
    assert {name for line in maps.lines() for name in line["outputs"]} <= set(maps.files())
    before = len([line for line in maps.lines() if line["status"] == "written"])
    code, _, err = done(*order)
    assert (code, err) == (0, "")
    written = [line["image"] for line in maps.lines() if line["status"] == "written"]
    assert len(written) == len(set(written)) == 60 > before >= 1
    assert done(demo.MODEL, tmp_path / "many", "-o", here.place) == (0, "", "") and maps.files() == here.files()


def test_shards_race_into_one_out(top: Remote, tmp_path: Path, engine: tuple[str, str]) -> None:
    maps, here = Out(top / "maps"), Out(tmp_path / "maps")
    order = (demo.MODEL, top / "photos/x", "-o", maps.place, "--lock-wait", "60", *engine)
    children = [started(*order, "--shard", f"{number}/3") for number in (1, 2, 3)]
    children[1].send_signal(signal.SIGKILL)
    said = [child.communicate(timeout=200)[1] for child in children]
    assert [child.returncode for child in children] == [0, -signal.SIGKILL, 0] and said == ["", "", ""]
    assert done(*order)[0] == 0
    assert done(demo.MODEL, demo.IMAGES, "-o", here.place) == (0, "", "") and maps.files() == here.files()


@pytest.mark.parametrize(
    "environment, code, said",
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, 7, "cannot be written: the store cannot be reached"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"},
            7,
            "cannot be written: no credentials were found",
        ),
    ],
)
def test_a_store_that_cannot_be_had(top: Remote, environment: dict, code: int, said: str) -> None:
    found, out, err = done(demo.MODEL, demo.IMAGES, "-o", top / "maps", **environment)
    assert (found, out) == (code, "") and said in err and err.count("\n") == 1 and "not-to-be-seen" not in err


def test_no_such_bucket(top: Remote, tmp_path: Path) -> None:
    for arguments, code in (
        ((demo.MODEL, demo.IMAGES, "-o", "s3://nowhere/maps"), 7),
        ((demo.MODEL, "s3://nowhere/in", "-o", tmp_path / "maps"), 2),
        (("s3://nowhere/model", demo.IMAGES, "-o", tmp_path / "maps"), 2),
    ):
        found, _, err = done(*arguments)
        assert found == code and "there is no such bucket" in err and err.count("\n") == 1
