"""Runs that are killed, stopped or locked out, and children that die, hang or eat the memory.

Every run is a process of its own. Longer campaigns are in test_batch_slow.py.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny
from command.batches import READER, WORKER, end_in_order, failures, pictures, statuses
from commands import (
    child_running,
    command,
    content,
    environment,
    files,
    gradviz,
    records,
    start,
    stopped,
    temporaries,
    until,
)

from gradviz_cli.batch import pipeline
from gradviz_cli.batch.lock import LOCK
from gradviz_cli.batch.manifest import MANIFEST
from gradviz_cli.errors import ModelUnusable, TimeUp
from gradviz_cli.files.reading import Limits
from gradviz_cli.images import decoders
from gradviz_cli.images.fit import Geometry
from gradviz_cli.process.supervisor import ChildLost

# ---- kills, signals, locks


# ---- kills, signals, locks


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_completes(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    random, out, left = np.random.default_rng(11), tmp_path / "out", tmp_path / "scratch"
    left.mkdir()
    for moment in random.uniform(0.2, 5, 6):
        process = start(
            "explain", model, photos, "-o", out, "--raw", "--batch-size", "2", cwd=tmp_path, env={"TMPDIR": str(left)}
        )
        time.sleep(moment)
        stopped(process, signal.SIGKILL)
        process.communicate()
    assert (out / LOCK).read_text() or len(content(out)) == len(content(done))
    assert (
        gradviz("explain", model, photos, "-o", out, "--raw", cwd=tmp_path, env={"TMPDIR": str(left)}).returncode == 0
    )
    assert content(out) == content(done)
    assert files(out) == files(done)
    assert not list(left.iterdir())
    listed = {}
    for record in records(out):
        listed.update(record["sha256"])
    assert listed.keys() == content(done).keys()  # so prune knows all of them


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGTERM, "load"), (signal.SIGINT, "gradient"), (signal.SIGHUP, "write")],
    ids=lambda value: getattr(value, "name", value),
)
def test_signals_end_the_run_in_order(models: Path, tmp_path: Path, number: signal.Signals, moment: str) -> None:
    end_in_order(models, tmp_path, number, moment)


def test_no_reader_of_stdout_ends_the_run_quietly(model: Path, photos: Path, tmp_path: Path) -> None:
    arguments = " ".join(command("explain", model, photos, "-o", "out", "--print", "--batch-size", "2"))
    run = subprocess.run(
        ["bash", "-c", f"{arguments} | head -1; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert run.stdout == "out/000/00000.png.guided.png\n"
    assert run.stderr == ""
    assert run.returncode in (0, 7)  # 0 when all was written before anybody looked
    assert not temporaries(tmp_path / "out")


def test_two_runs_in_one_folder(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    first = start("explain", model, photos, "-o", "out", "--raw", cwd=tmp_path)
    until(lambda: (tmp_path / "out" / LOCK).exists() and (tmp_path / "out" / LOCK).read_text(), what="the lock")
    begun = time.monotonic()
    second = gradviz("explain", model, photos, "-o", "out", cwd=tmp_path)
    assert second.returncode == 11 and time.monotonic() - begun < 5
    assert "--lock-wait" in second.stderr and f"process {first.pid}" in second.stderr
    third = gradviz("explain", model, photos, "-o", "out", "--raw", "--lock-wait", "60", cwd=tmp_path)
    assert (third.returncode, third.stderr) == (0, "")
    assert first.communicate(timeout=60)[1] == b"" and first.returncode == 0
    assert content(tmp_path / "out") == content(done)
    assert [record["status"] for record in records(tmp_path / "out")] == ["written"] * 40 + ["current"] * 40


def test_shards_are_disjoint_and_together_everything(model: Path, photos: Path, tmp_path: Path) -> None:
    def shard(number: int, *images) -> list[str]:
        run = gradviz("explain", model, *images, "-o", "out", "--shard", f"{number}/3", "--dry-run", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        return run.stdout.splitlines()

    parts = [shard(i, photos) for i in (1, 2, 3)]
    whole = gradviz("explain", model, photos, "-o", "out", "--dry-run", cwd=tmp_path).stdout.splitlines()
    assert sorted(sum(parts, [])) == sorted(whole) and len(set(whole)) == 40
    assert all(5 < len(part) < 25 for part in parts)
    moved = shutil.copytree(photos, tmp_path / "another machine")  # the part follows from the name below the folder
    assert [shard(i, moved) for i in (1, 2, 3)] == parts


def test_waiting_for_the_lock_ends_with_the_time_for_the_run(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun = time.monotonic()
        run = gradviz(
            "explain", model, photos, "-o", "out", "--lock-wait", "100", "--max-duration", "0.5", cwd=tmp_path
        )
    assert run.returncode == 11 and time.monotonic() - begun < 10


# ---- a worker or a decoder that dies, hangs, or eats the memory


# ---- a worker or a decoder that dies, hangs, or eats the memory


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGSEGV, signal.SIGSTOP))],
    ids=lambda number: number.name,
)
def test_a_worker_that_is_lost_costs_one_image_at_most(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    images = pictures(tmp_path / "images", 300)
    process = start("explain", model, images, "-o", "out", "--batch-size", "4", "--timeout", "10", cwd=tmp_path)
    until(
        lambda: (tmp_path / "out" / MANIFEST).exists() and (tmp_path / "out" / MANIFEST).stat().st_size,
        what="the first line",
    )
    os.kill(child_running(process.pid, WORKER), number)
    stderr = process.communicate(timeout=120)[1].decode()
    assert process.returncode in (0, 3), stderr
    counts = statuses(tmp_path / "out")
    assert counts["written"] >= 299
    assert len(stderr.splitlines()) == counts.get("failed", 0) == 300 - counts["written"]
    assert set(failures(tmp_path / "out").values()) <= {"crash", "memory", "timeout"}


def test_a_decoder_that_is_lost_costs_one_image_at_most(model: Path, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 300)
    process = start("explain", model, images, "-o", "out", "--jobs", "1", cwd=tmp_path)
    until(
        lambda: (tmp_path / "out" / MANIFEST).exists() and (tmp_path / "out" / MANIFEST).stat().st_size,
        what="the first line",
    )
    os.kill(until(lambda: child_running(process.pid, READER)), signal.SIGKILL)
    stderr = process.communicate(timeout=120)[1].decode()
    assert process.returncode in (0, 3), stderr
    counts = statuses(tmp_path / "out")
    assert counts["written"] >= 299 and counts.get("failed", 0) == 300 - counts["written"]


@pytest.mark.slow
def test_an_image_on_which_the_model_hangs(models: Path, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 12, bright=(5,))
    run = gradviz("explain", models / "hangs", images, "-o", "out", "--timeout", "4", cwd=tmp_path)
    assert run.returncode == 3
    assert failures(tmp_path / "out") == {"00005.png": "timeout"}
    assert statuses(tmp_path / "out") == {"written": 11, "failed": 1}
    assert len(run.stderr.splitlines()) == 1 and "00005.png" in run.stderr and "--timeout" in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("trap", "kind"), [("eats_memory", "memory"), ("fails", "model")])
def test_a_poisoned_batch_costs_the_guilty_image_only(models: Path, tmp_path: Path, trap: str, kind: str) -> None:
    images = pictures(tmp_path / "images", 40, bright=(5, 17))
    run = gradviz("explain", models / trap, images, "-o", "out", "--batch-size", "8", cwd=tmp_path)
    assert run.returncode == 3, run.stderr
    assert failures(tmp_path / "out") == dict.fromkeys(("00005.png", "00017.png"), kind)
    assert statuses(tmp_path / "out") == {"written": 38, "failed": 2}
    assert len(run.stderr.splitlines()) == 2


@pytest.mark.slow
def test_a_batch_that_needs_too_much_memory_is_made_smaller(models: Path, tmp_path: Path) -> None:
    """By itself and silently; TensorFlow waits ten seconds for memory each time, so not often."""
    images = pictures(tmp_path / "images", 40)
    run = gradviz("explain", models / "needs_memory", images, "-o", "out", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert statuses(tmp_path / "out") == {"written": 40}


@pytest.mark.slow
def test_three_images_in_a_row_mean_the_model(models: Path, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 40, bright=(9, 10, 11, 12))
    run = gradviz("explain", models / "eats_memory", images, "-o", "out", "--batch-size", "1", cwd=tmp_path)
    assert run.returncode == 5
    *failed, last = run.stderr.splitlines()
    assert "eats_memory" in last and "3 different images in a row" in last
    assert len(failed) == 3 and statuses(tmp_path / "out") == {
        "written": 9,
        "failed": 3,
    }  # what was found by then stands


def test_where_no_decoder_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no image's fault: the run ends."""

    def none(*arguments):
        raise ChildLost("crash", "no process can be started: Too many open files")

    monkeypatch.setattr(decoders, "Child", none)
    pool = decoders.Decoders(Limits(), 20)
    try:
        with pytest.raises(ModelUnusable, match="Too many open files; raise ulimit"):
            pool.decode(b"", Geometry(8, 8, 3), False)
    finally:
        pool.close()


def test_where_only_one_decoder_can_be_started(monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    """The others wait for their turn."""
    started = []

    class Rare(decoders.Child):
        def __init__(self, *arguments):
            started.append(len(started))
            if len(started) > 1:
                raise ChildLost("crash", "no process can be started: Resource temporarily unavailable")
            super().__init__(*arguments)

    monkeypatch.setattr(decoders, "Child", Rare)
    monkeypatch.setattr(decoders, "WAIT", 0.01)
    data = [path.read_bytes() for path in sorted((photos / "000").iterdir())]
    pool = decoders.Decoders(Limits(), 20)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda one: pool.decode(one, Geometry(8, 8, 3), False).size, data))
            assert found == [(tiny.SIDE, tiny.SIDE)] * 10 and len(started) > 1
    finally:
        pool.close()


@pytest.mark.parametrize("end", ["in order", "failed", "time is up", "stopped"])
def test_a_signal_while_the_pipeline_closes(end: str) -> None:
    """What was interrupted is done again."""
    closed = []

    class Stages:
        def close(self, patience: float | None = None) -> None:
            closed.append(patience)
            if len(closed) == 1 and end != "stopped":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pipeline.at_work(Stages()):
        if end == "failed":
            raise ModelUnusable("")
        if end == "time is up":
            raise TimeUp("")
        if end == "stopped":
            raise KeyboardInterrupt
    first = [pipeline.PATIENCE if end == "time is up" else None] if end != "stopped" else []
    assert closed == [*first, pipeline.PATIENCE]
