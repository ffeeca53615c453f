"""What no signal tells of: the power is cut, and the kernel kills for memory."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import tensorflow as tf
import tiny
from command.batches import failures, pictures, statuses
from command.power_cut import CUT
from commands import ROOT, content, records, start, temporaries

pytestmark = pytest.mark.slow


# ---- the power is cut


def run(*arguments: object) -> subprocess.CompletedProcess:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "cases")))
    words = [sys.executable, "-m", "command.power_cut", *map(str, arguments)]
    return subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("names", ["synced", "all"])
def test_after_a_power_cut_the_next_run_completes(tmp_path: Path, names: str) -> None:
    """Twenty cuts, some in what a cut before has left; what the disk holds then is finished, and no byte is another one."""
    images = tmp_path / "images"
    for number in range(48):
        (images / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        (images / f"{number % 3}" / f"{number:03}.png").write_text(f"good {number + 1}")
    whole = run(tmp_path / "clean", images, 0, names, "-")
    assert whole.returncode == 0, whole.stderr
    clean, syncs = content(tmp_path / "clean"), int(whole.stdout)
    draw, reached = random.Random(5), []
    out = tmp_path / "out"
    for number in range(20):
        left = tmp_path / f"left{number}"
        cut = run(out, images, draw.randrange(1, syncs), names, left)
        assert cut.returncode in (0, CUT), cut.stderr
        if cut.returncode == CUT:
            reached.append(len(content(left)))
            out = left
        if number % 2 == 0:
            continue
        done = run(out, images, 0, names, "-")
        assert done.returncode == 0, done.stderr
        assert content(out) == clean and not temporaries(out)
        named = {name for line in records(out) for name in line["outputs"]}
        assert named == set(clean)
        out = tmp_path / f"out{number}"
    assert len(set(reached)) > 5 and min(reached) < len(clean) / 2, reached


# ---- the kernel kills for memory


def swells(images: tf.Tensor) -> tf.Tensor:
    """Two gigabytes, written to, while a bright image is in the batch."""
    size = tf.where(tiny.brightest(images) > tiny.BRIGHT, 2**29, 4)
    return 0 * tf.reduce_sum(tf.fill([size], tiny.brightest(images)))


class Group:
    """A memory cgroup below that of this process."""

    def __init__(self, folder: Path, limit: str, usage: str):
        self.folder, self._limit, self._usage = folder, folder / limit, folder / usage

    def enter(self) -> None:
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def leave_room(self, size: int) -> None:
        self._limit.write_text(str(int(self._usage.read_text()) + size))

    @property
    def kills(self) -> int:
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError):
                found = re.search(r"^oom_kill (\d+)$", (self.folder / name).read_text(), re.MULTILINE)
                return int(found.group(1)) if found else 0
        return 0


@contextmanager
def memory_group() -> Iterator[Group]:
    """A new one, empty again at the end; skips where none can be made."""
    lines = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    kinds = [
        ("memory", Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ("", Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    ]
    for controller, root, limit, usage in kinds:
        if controller not in lines:
            continue
        folder = root / lines[controller].lstrip("/") / f"gradviz-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / limit).exists():
                yield Group(folder, limit, usage)
                return
        finally:
            folder.rmdir()
    pytest.skip("no memory cgroup can be made here")


def test_a_kill_by_the_kernel_costs_the_image_and_not_the_run(tmp_path: Path) -> None:
    model = tiny.write(tmp_path / "model", swells)
    images = pictures(tmp_path / "images", 400, bright=(390,))
    with memory_group() as group:
        process = start(
            "explain", model, images, "-o", "out", "--batch-size", "2", cwd=tmp_path, preexec_fn=group.enter
        )
        while process.poll() is None and not list((tmp_path / "out").rglob("*.png")):
            time.sleep(0.01)
        group.leave_room(700 * 2**20)
        stderr = process.communicate(timeout=200)[1].decode()
        kills = group.kills
    assert process.returncode == 3, stderr
    assert statuses(tmp_path / "out") == {"written": 399, "failed": 1}
    assert failures(tmp_path / "out") == {"00390.png": "memory"} and "00390.png" in stderr
    if not kills:
        pytest.skip("the worker was stopped before the kernel had to")
