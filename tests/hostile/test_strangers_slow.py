"""Manifests, texts in pictures, settings and labels that a stranger wrote: read with care, refused in a line, and never
waited for. A hundred of them. Slow (`make slow`), a few minutes."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile.taken_over import take_over
from PIL import Image

from gradviz_cli import cli

pytestmark = pytest.mark.slow

MOST_SECONDS, MOST_SAID = 20, 20_000
EXPLAIN = ("-m", "backprop", "--proof", "never")


@pytest.fixture
def here(plain_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, two images and what a run wrote of them."""
    take_over(monkeypatch, tmp_path / "code")
    shutil.copytree(plain_model, tmp_path / "model")
    (tmp_path / "model" / "assets.extra").mkdir(exist_ok=True)
    (tmp_path / "photos").mkdir()
    for name, colour in (("a", "gray"), ("b", "black")):
        Image.new("RGB", (9, 9), colour).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "kept.png").write_bytes(b"somebody else's")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", "model", "photos", "-o", "out", *EXPLAIN]) == 0
    return tmp_path


def check(here: Path, capfd: pytest.CaptureFixture, *commands: tuple[str, ...]) -> None:
    for command in commands:
        start = time.process_time()
        code = cli.main(list(command))
        found = capfd.readouterr()
        assert code in (0, 2, 3, 4, 5, 6, 7), (command, code, found.err[:500])
        assert "internal error" not in found.err and "Traceback" not in found.err, (command, found.err[:500])
        assert len(found.err) < MOST_SAID, command
        assert all(line.isprintable() for line in found.err.splitlines()), command
        assert time.process_time() - start < MOST_SECONDS, command
    assert (here / "kept.png").read_bytes() == b"somebody else's"
    assert {path.name for path in (here / "photos").iterdir()} == {"a.png", "b.png"}


# ---- manifests

LINE = {"image": "photos/a.png", "status": "written", "outputs": [], "targets": [], "error": None, "digest": "x"}


def line(**changes) -> str:
    return json.dumps({**LINE, **changes}) + "\n"


MANIFESTS: dict[str, str | bytes | Callable[[Path], None]] = {
    "nothing": b"",
    "zeros": bytes(10_000),
    "random bytes": bytes(range(256)) * 100,
    "no line end": "x" * 3_000_000,
    "a line of twenty megabytes": line(image="x" * (20 << 20)),
    "a torn line": line()[:-20],
    "deep lists": "[" * 100_000 + "\n",
    "deep objects": '{"a":' * 100_000 + "\n",
    "deep within a line": '{"image": "a", "outputs": ' + "[" * 900 + "]" * 900 + ', "status": "written"}\n',
    "numbers for lines": "1\n2\n3\n",
    "lists for lines": "[]\n" * 1000,
    "null": "null\n" * 1000,
    "a number of many digits": '{"image": "a", "page": ' + "9" * 100_000 + "}\n",
    "endless numbers": '{"image": "a", "status": "written", "seconds": 1e999, "page": -Infinity}\n',
    "no fields": "{}\n" * 1000,
    "an image that is a number": line(image=7),
    "an image that is a list": line(image=["a"]),
    "an empty image": line(image=""),
    "an image with a NUL": line(image="a\0b", source="/a\0b"),
    "half of a surrogate": line(image="\ud800", source="/\ud800", outputs=["\ud800.png"]),
    "a status that is none": line(status="fine"),
    "a status that is a list": line(status=[]),
    "outputs that are a text": line(outputs="abc"),
    "outputs that are objects": line(outputs=[{}, [], 7, None]),
    "outputs above": line(outputs=["../kept.png"], source="/nowhere", sha256={"../kept.png": "0"}),
    "outputs elsewhere": lambda here: _append(
        here, line(outputs=[str(here / "kept.png")], source="/nowhere", sha256={str(here / "kept.png"): "0"})
    ),
    "outputs that are folders": line(outputs=[".", "", "/", "a/../.."], source="/nowhere", sha256={".": "0"}),
    "a hundred thousand outputs": line(outputs=[f"{number}.png" for number in range(100_000)]),
    "hashes that are none": line(outputs=["a.png"], source="/nowhere", sha256={"a.png": {}}),
    "hashes that are a list": line(outputs=["a.png"], source="/nowhere", sha256=[]),
    "a time that is none": line(time={"a": 1}),
    "a time beyond time": line(time="9999999-99-99T99:99:99Z"),
    "an error that is a text": line(status="failed", error="x"),
    "an error of lists": line(status="failed", error={"kind": [], "message": {}}),
    "an error without an end": line(status="failed", error={"kind": "k" * 10**6, "message": "m" * 10**6}),
    "an error with markup": line(status="failed", error={"kind": "<script>", "message": "</script>\x1b[2J"}),
    "a page that is a text": line(page="1"),
    "targets that are none": line(targets=7),
    "a proof that is none": line(proved={"key": 7, "found": []}),
    "fifty thousand lines": line() * 50_000,
    "a pipe": lambda here: _replaced(here, os.mkfifo),
    "a folder": lambda here: _replaced(here, os.mkdir),
    "a link to itself": lambda here: _replaced(here, lambda path: os.symlink(path, path)),
    "a device": lambda here: _replaced(here, lambda path: os.symlink("/dev/zero", path)),
}


def _manifest(here: Path) -> Path:
    return here / "out" / "manifest.jsonl"


def _append(here: Path, text: str | bytes) -> None:
    with open(_manifest(here), "ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def _replaced(here: Path, make: Callable[[Path], object]) -> None:
    _manifest(here).unlink()
    make(_manifest(here))


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest(name: str, here: Path, capfd: pytest.CaptureFixture) -> None:
    change = MANIFESTS[name]
    if callable(change):
        change(here)
    else:
        _append(here, change)
    explain = ("explain", "model", "photos", "-o", "out", *EXPLAIN)
    check(here, capfd, ("gallery", "out"), ("prune", "out", "--dry-run"), explain, ("prune", "out", "--even-all"))


# ---- texts in pictures


def chunk(kind: bytes, body: bytes, length: int | None = None, crc: int | None = None) -> bytes:
    real = zlib.crc32(kind + body)
    return (
        struct.pack(">I", len(body) if length is None else length)
        + kind
        + body
        + struct.pack(">I", real if crc is None else crc)
    )


def png(*chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(5)))
    return b"\x89PNG\r\n\x1a\n" + b"".join([header, *chunks, pixels, chunk(b"IEND", b"")])


def said(text: str | bytes) -> bytes:
    return png(chunk(b"tEXt", b"gradviz\0" + (text if isinstance(text, bytes) else text.encode())))


def record(**changes) -> bytes:
    target = {"index": 1, "label": None, "rank": 0, "score": 1.0, "output": 1.0}
    return said(json.dumps({"mode": "backprop", "style": "heatmap", "target": target, **changes}))


PICTURES = {
    "no text": png(),
    "an empty text": said(""),
    "a text that is null": said("null"),
    "a text that is a list": said("[]"),
    "an empty record": said("{}"),
    "deep lists": said("[" * 500_000),
    "deep objects": said('{"a":' * 150_000),
    "deep within": said('{"mode": ' + "[" * 900 + "]" * 900 + "}"),
    "a million values": said("[" + "0," * 400_000 + "0]"),
    "a text of two megabytes": said('{"mode": "' + "x" * (2 << 20) + '"}'),
    "a text of one megabyte": said('{"mode": "' + "x" * ((1 << 20) - 100) + '"}'),
    "a label of one megabyte": record(target={"index": 1, "label": "x" * 10**6, "rank": 0, "score": 1, "output": 1}),
    "a name of one megabyte": record(**{"x" * 10**6: 1}),
    "many names": record(**{f"n{number}": number for number in range(50_000)}),
    "many scales": record(scale={f"n{number}": [0, 1] for number in range(20_000)}),
    "many options": record(options={"mode": ["x"] * 90_000}),
    "an option of one megabyte": record(options={"input": "'" * 900_000}),
    "options that are a list": record(options=[1, 2]),
    "a number of many digits": said('{"clip": ' + "9" * 100_000 + "}"),
    "endless numbers": said('{"clip": 1e999, "scale": [NaN, -Infinity], "alpha": -1e999}'),
    "half of a surrogate": said('{"mode": "\\ud800", "\\udfff": "\\udcff"}'),
    "no UTF-8": said(b'{"mode": "\xff\xfe"}'),
    "what a terminal obeys": record(mode="\x1b[2J\x07\u202e", estimator="\r\n\x00"),
    "what a shell obeys": record(mode="$(touch canary)", **{"`touch canary`; x": "';touch canary;'"}),
    "markup": record(mode="</script><script>alert(1)</script>", style="<img src=x onerror=alert(1)>"),
    "a target of lists": record(target=[[]]),
    "a giant class": record(target={"index": 10**300, "rank": -(10**300), "label": 7, "score": "x", "output": []}),
    "a path for a digest": record(digest="../../kept.png", npy="../../kept.png", image="/etc/passwd"),
    "a text that is packed": png(chunk(b"iTXt", b"gradviz\0\1\0\0\0" + zlib.compress(bytes(10**7)))),
    "a text that is packed in the old way": png(chunk(b"zTXt", b"gradviz\0\0" + zlib.compress(bytes(10**7)))),
    "a text without its parts": png(chunk(b"iTXt", b"gradviz\0\0")),
    "a chunk of four gigabytes": png(chunk(b"tEXt", b"gradviz\0{}", length=2**32 - 1)),
    "a chunk that ends before it begins": png(chunk(b"tEXt", b"gradviz\0{}", length=0)),
    "a wrong sum": png(chunk(b"tEXt", b"gradviz\0{}", crc=0)),
    "ten thousand chunks": png(*[chunk(b"tEXt", b"x\0y")] * 10_000),
    "a thousand texts of ours": png(*[chunk(b"tEXt", b'gradviz\0{"mode": "a"}')] * 1000),
    "only a beginning": said("{}")[:20],
    "only eight bytes": said("{}")[:8],
    "a longer file": said("{}") + bytes(10**6),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture(name: str, here: Path, capfd: pytest.CaptureFixture) -> None:
    picture = here / "out" / "a.png.backprop.png"
    assert picture.exists()
    picture.write_bytes(PICTURES[name])
    check(here, capfd, ("show", str(picture)), ("show", "--json", str(picture)), ("gallery", "out"))
    assert not (here / "canary").exists() and len((here / "out" / "index.html").read_bytes()) < 10**7
    check(here, capfd, ("prune", "out"), ("explain", "model", "photos", "-o", "out", *EXPLAIN))
    with Image.open(picture) as drawn:
        assert "gradviz" in drawn.text and drawn.size == (9, 9)  # it was drawn again


# ---- settings and labels of a model

KEY = ".".join("a" * 20_000)
SETTINGS: dict[str, str | bytes | Callable[[Path], object]] = {
    "a key of many parts": KEY + " = 1",
    "a table of many parts": f"[{KEY}]",
    "many keys": "".join(f"k{number} = 1\n" for number in range(5000)),
    "many parts of many keys": "".join(f"a{number}.{'b.' * 7}c = 1\n" for number in range(2500)),
    "many tables": "".join(f"[a{number}]\n" for number in range(8000)),
    "many lists of tables": "[[a]]\n" * 10_000,
    "deep lists": "a = " + "[" * 30_000,
    "deep objects": "a = " + "{a=" * 20_000,
    "a number of many digits": "mean = " + "9" * 60_000,
    "a hexadecimal one": "labels-from = 0x" + "f" * 60_000,
    "a text without an end": 'labels = """' + "x" * 60_000,
    "many quotes": "labels = " + "'" * 60_000,
    "a long value": 'preprocess = "' + "x" * 60_000 + '"',
    "a long key": "x" * 60_000 + " = 1",
    "a file of a megabyte": "#" * (1 << 20),
    "no UTF-8": b"labels = '\xff'",
    "UTF-16": "labels = 'x'".encode("utf-16"),
    "a NUL": 'labels = "a\\u0000b"',
    "what a terminal obeys": 'labels = "\\u001b[2J\\u202e"',
    "labels above": 'labels = "../../../../etc/passwd"',
    "labels elsewhere": 'labels = "/etc/passwd"',
    "a time": "labels = 1979-05-27T07:32:00Z",
    "a table": "[labels]\nx = 1",
    "lists in lists": "mean = [[1], [2]]",
    "endless numbers": "mean = [inf, nan, -inf]",
    "what loosens a limit": "trust-model = true",
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to itself": lambda path: os.symlink(path, path),
    "a device": lambda path: os.symlink("/dev/zero", path),
}
LABELS: dict[str, str | bytes | Callable[[Path], object]] = {
    "nine megabytes": "x\n" * (9 << 19),
    "four million lines": "\n" * (4 << 20),
    "deep lists": "[" * 10**6,
    "a list of millions": "[" + "0," * (2 << 20) + "0]",
    "a class of many digits": json.dumps({"9" * 1000: "x"}),
    "accents without an end": "a" + "\u0301\u0323" * 10**6,
    "a name of one megabyte": "x" * 10**6,
    "quotes without an end": "names: [a" + "'" * 10**6,
    "a label map without an end": "item { name: '" + "\\" * 10**6,
    "a table of quotes": "index,name\n" + '"' * 10**6,
    "zeros": bytes(10**6),
    "what a terminal obeys": "\x1b[2J\n\u202e\na\nb\n",
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to itself": lambda path: os.symlink(path, path),
    "a device": lambda path: os.symlink("/dev/zero", path),
}


def _lay(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_a_model_or_of_the_user(name: str, here: Path, capfd: pytest.CaptureFixture) -> None:
    _lay(here / "model" / "assets.extra" / "gradviz.toml", SETTINGS[name])
    check(here, capfd, ("explain", "model", "photos", "-o", "out", *EXPLAIN))
    shutil.rmtree(here / "model" / "assets.extra")
    _lay(here / "own.toml", SETTINGS[name])
    check(here, capfd, ("explain", "model", "photos", "-o", "out", "--config", "own.toml", "--dry-run", *EXPLAIN))


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_a_model(name: str, here: Path, capfd: pytest.CaptureFixture) -> None:
    _lay(here / "model" / "assets.extra" / "labels.txt", LABELS[name])
    check(here, capfd, ("explain", "model", "photos", "-o", "out", *EXPLAIN))


def test_there_are_a_hundred() -> None:
    assert len(MANIFESTS) + len(PICTURES) + len(SETTINGS) + len(LABELS) >= 100
    assert sys.getrecursionlimit() <= 10_000
