"""Runs over many images: pictures for them, what they left, and how they end."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from commands import (
    ROOT,
    child_running,
    content,
    records,
    start,
    stopped,
    temporaries,
    until,
)
from PIL import Image

from gradviz_cli.batch.lock import LOCK
from gradviz_cli.batch.manifest import MANIFEST
from gradviz_cli.files import scratch

WORKER, READER = "gradviz_cli.worker", "gradviz_cli.images.reader"
# What Python and TensorFlow need on this machine, and nothing else.
BARE = {"PYTHONPATH": str(ROOT), **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}}


def pictures(folder: Path, count: int, bright: tuple[int, ...] = (), per_folder: int = 100) -> Path:
    """PNGs of noise of 16 x 16 pixels; those that are `bright` are white."""
    random = np.random.default_rng(count)
    for i in range(count):
        pixels = random.integers(0, 200, (tiny.SIDE, tiny.SIDE, 3)).astype(np.uint8)
        path = folder / f"{i // per_folder:03}" / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full_like(pixels, 255) if i in bright else pixels).save(path, compress_level=1)
    return folder


def statuses(out: Path) -> dict[str, int]:
    """The last status of each image, counted."""
    last = {record["image"]: record["status"] for record in records(out)}
    return {status: list(last.values()).count(status) for status in set(last.values())}


def failures(out: Path) -> dict[str, str]:
    """Image -> kind of its failure."""
    return {Path(record["image"]).name: record["error"]["kind"] for record in records(out) if record["error"]}


def abandoned(folder: Path) -> set[str]:
    """Scratch folders whose run is over; those of others that run meanwhile are locked, or gone by now."""
    found = set()
    for path in folder.glob(f"{scratch.PREFIX}*"):
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found |= {path.name} if path.exists() else set()
        except BlockingIOError:
            pass
        finally:
            os.close(handle)
    return found


def mounted(folder: Path, options: str) -> None:
    """A file system of its own on a folder, or a loud skip."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True).returncode:
        pytest.skip("NOT TESTED: no right to mount a small file system")


def end_in_order(models: Path, tmp_path: Path, number: signal.Signals, moment: str, group: bool = False) -> None:
    images = pictures(tmp_path / "images", 300, bright=(0,) if moment == "gradient" else ())
    out, left = tmp_path / "out", tmp_path / "scratch"
    left.mkdir()
    name = "hangs" if moment == "gradient" else "tiny"
    process = start(
        "explain", models / name, images, "-o", out, "--batch-size", "4", cwd=tmp_path, env={"TMPDIR": str(left)}
    )
    worker = until(lambda: child_running(process.pid, WORKER), what="the worker")
    until((out / MANIFEST).exists, what="the manifest")
    if moment == "write":
        until(lambda: (out / MANIFEST).stat().st_size, what="the first line")
    if moment == "gradient":
        until(
            lambda: processor_seconds(worker) > 0.5 and (time.sleep(1) or not is_loading(worker)),
            what="the endless loop",
        )
    assert stopped(process, number, group) < 2
    assert process.returncode == 128 + number
    assert process.communicate()[1] == b""
    assert not temporaries(out) and not list(left.iterdir())
    listed = {name for record in records(out) for name in record["outputs"]}
    assert listed == content(out).keys()
    assert (out / LOCK).read_text() == ""
    assert (len(listed) > 0) == (moment == "write")


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_loading(pid: int) -> bool:
    """Whether a worker still opens files; in a gradient it only computes."""
    before = Path(f"/proc/{pid}/io").read_text().splitlines()[2]
    time.sleep(0.5)
    busy = processor_seconds(pid)
    time.sleep(0.5)
    return before != Path(f"/proc/{pid}/io").read_text().splitlines()[2] or processor_seconds(pid) - busy < 0.1
