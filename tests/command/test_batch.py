"""Batches that nobody watches: odd images, full disks, kills, locks, odd surroundings. Every run is a process of its own.

About two minutes on two cores. Longer campaigns are in test_batch_slow.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import resource
import shutil
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import odd_images
import pytest
import tiny
from commands import (
    ROOT,
    child_running,
    command,
    content,
    environment,
    files,
    gradviz,
    lines,
    records,
    start,
    stopped,
    temporaries,
    until,
)
from PIL import Image

from gradviz_cli.batch import pipeline
from gradviz_cli.batch.lock import LOCK
from gradviz_cli.batch.manifest import MANIFEST
from gradviz_cli.cli import main
from gradviz_cli.errors import ModelUnusable, TimeUp
from gradviz_cli.files import scratch
from gradviz_cli.files.reading import Limits
from gradviz_cli.images import decoders
from gradviz_cli.images.fit import Geometry
from gradviz_cli.process.supervisor import ChildLost

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


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return pictures(tmp_path_factory.mktemp("photos") / "photos", 40, per_folder=10)


@pytest.fixture(scope="module")
def done(tmp_path_factory, model: Path, photos: Path) -> Path:
    """What one run over `photos` wrote. Not to be changed; copy it."""
    folder = tmp_path_factory.mktemp("done")
    run = gradviz("explain", model, photos, "-o", "out", "--raw", cwd=folder)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    return folder / "out"


def statuses(out: Path) -> dict[str, int]:
    """The last status of each image, counted."""
    last = {record["image"]: record["status"] for record in records(out)}
    return {status: list(last.values()).count(status) for status in set(last.values())}


def failures(out: Path) -> dict[str, str]:
    """Image -> kind of its failure."""
    return {Path(record["image"]).name: record["error"]["kind"] for record in records(out) if record["error"]}


# ---- images of any origin


@pytest.fixture(scope="module")
def odd(tmp_path_factory, model: Path) -> tuple[Path, list, subprocess.CompletedProcess]:
    """The catalogue, explained where the locale knows no character beyond ASCII."""
    folder = tmp_path_factory.mktemp("odd")
    cases = [
        case
        for case in odd_images.catalogue(folder / "images")
        if os.path.dirname(case.path) == os.fsencode(folder / "images")
    ]
    twins = folder / "twins"
    twins.mkdir()
    for case in cases:
        if case.twin is not None:
            Image.fromarray(case.twin).save(twins / f"{case.name}.twin.png")
    arguments = command("explain", model, "images", "twins", "-o", "out", "--raw", "--size", "input")
    run = subprocess.run(arguments, cwd=folder, env={**BARE, "LANG": "C"}, capture_output=True, timeout=200)
    return folder, cases, run


# In a folder these are searched or passed over, and no image by themselves.
FOLDERS = {"folder", "link-to-folder"}
# The name leaves no room for that of the picture.
LONG = {"name-long-255", "name-long-255-wide"}


def test_the_catalogue_comes_out_as_expected(odd) -> None:
    folder, cases, run = odd
    assert run.returncode == 3
    assert run.stdout == b""
    found = {os.fsencode(record["source"]): record for record in records(folder / "out")}
    wrong = []
    for case in cases:
        record = found.get(case.path)
        if record is None:
            wrong += [case.name] if case.name not in FOLDERS and os.path.lexists(case.path) else []
        elif case.name in LONG:
            wrong += [case.name] if record["error"]["kind"] != "name" else []
        elif case.outcome == "drawn":
            wrong += [case.name] if record["status"] != "written" else []
        elif record["status"] != "failed" or record["error"]["kind"] not in case.kinds:
            wrong.append(case.name)
    assert not wrong
    assert len(cases) > 400


def test_each_failed_image_is_one_printable_line(odd) -> None:
    folder, cases, run = odd
    said = run.stderr.decode("utf-8").splitlines()
    failed = [record for record in records(folder / "out") if record["status"] == "failed"]
    assert len(said) == len(failed) == len({record["source"] for record in failed})
    assert all(line.isprintable() and line.startswith("gradviz: images/") for line in said)
    assert "Traceback" not in run.stderr.decode()


def test_odd_images_give_the_maps_of_their_clean_twins(odd) -> None:
    folder, cases, run = odd
    compared = 0
    for case in cases:
        picture = os.fsencode(folder / "out") + b"/" + os.path.basename(case.path) + b".guided.npy"
        if case.twin is None or case.name in LONG:
            continue
        got, want = np.load(os.fsdecode(picture)), np.load(folder / "out" / f"{case.name}.twin.png.guided.npy")
        if case.tolerance == 0:
            assert np.array_equal(got, want), case.name
            drawn = [
                Image.open(os.fsdecode(name))
                for name in (picture[:-3] + b"png", folder / "out" / f"{case.name}.twin.png.guided.png")
            ]
            assert np.array_equal(*map(np.asarray, drawn)), case.name
        else:  # a network with ReLUs is piecewise linear: a few gates may flip
            assert np.mean(np.abs(got - want) > 0.05 * np.abs(want).max()) < 0.25, case.name
        compared += 1
    assert compared > 150


# ---- outputs that cannot be written


def test_a_name_that_is_taken_costs_that_image_only(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "000" / "00000.png.guided.png").mkdir(parents=True)
    os.mkfifo(out / "000" / "00001.png.guided.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    (out / "000" / "00002.png.guided.png").symlink_to(elsewhere)
    (out / "001").write_bytes(b"a file where a folder is needed")
    run = gradviz("explain", model, photos, "-o", out, "--raw", cwd=tmp_path)
    assert run.returncode == 3, run.stderr
    kinds = failures(out)
    assert kinds == dict.fromkeys(["00000.png", "00001.png", *(f"000{i}.png" for i in range(10, 20))], "output")
    assert len(run.stderr.splitlines()) == len(kinds)
    assert statuses(out) == {"written": 28, "failed": 12}
    assert stat.S_ISFIFO((out / "000" / "00001.png.guided.png").stat().st_mode)
    assert elsewhere.read_bytes() == b"mine"  # the link was replaced, not followed
    assert (out / "000" / "00002.png.guided.png").read_bytes() == (done / "000" / "00002.png.guided.png").read_bytes()
    assert (out / "001").read_bytes() == b"a file where a folder is needed"
    assert not temporaries(out)


def mounted(folder: Path, options: str) -> None:
    """A file system of its own on a folder, or a loud skip."""
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True).returncode:
        pytest.skip("NOT TESTED: no right to mount a small file system")


def test_a_full_disk_ends_the_run_and_harms_nothing(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mounted(out, "size=192k")
    try:
        first = gradviz("explain", model, photos / "000", "-o", out, cwd=tmp_path)
        assert first.returncode == 0, first.stderr
        before = content(out)
        run = gradviz("explain", model, photos, "-o", out, "--raw", "--force", cwd=tmp_path)
        assert run.returncode == 7
        assert len(run.stderr.splitlines()) == 1 and "No space left" in run.stderr and "--out" in run.stderr
        assert before.keys() <= content(out).keys()
        clean = content(done)
        after = content(out)
        assert all(after[name] == before[name] for name in before)
        assert all(after[name] == clean[name] for name in after if name in clean)
        assert not temporaries(out)
        assert all(record["image"] for record in records(out))  # whole lines
    finally:
        subprocess.run(["umount", out], check=True)


def test_a_limit_on_file_sizes_is_a_full_disk(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    before = content(out)
    limit = max(map(len, before.values())) // 2
    (out / MANIFEST).unlink()
    run = gradviz(
        "explain",
        model,
        photos,
        "-o",
        out,
        "--force",
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert run.returncode == 7
    assert "ulimit -f" in run.stderr and len(run.stderr.splitlines()) == 1
    assert content(out) == before
    assert not temporaries(out)


def test_a_folder_that_is_read_only(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mounted(out, "size=1M")
    try:
        shutil.copytree(done / "000", out / "000")
        before = content(out)
        subprocess.run(["mount", "-o", "remount,ro", out], check=True)
        run = gradviz("explain", model, photos, "-o", out, cwd=tmp_path)
        assert run.returncode == 7
        assert "Read-only" in run.stderr and len(run.stderr.splitlines()) == 1
        assert content(out) == before
    finally:
        subprocess.run(["umount", out], check=True)


def test_a_folder_that_vanishes_does_not_come_back(model: Path, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 400)
    out = tmp_path / "out"
    process = start("explain", model, images, "-o", out, "--batch-size", "4", cwd=tmp_path)
    until(lambda: (out / MANIFEST).exists() and (out / MANIFEST).stat().st_size, what="the first line")
    out.rename(tmp_path / "moved")
    stderr = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 7, stderr
    assert len(stderr.splitlines()) == 1 and str(out) in stderr
    assert not out.exists()
    assert not temporaries(tmp_path / "moved")


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


def end_in_order(models: Path, tmp_path: Path, number: signal.Signals, moment: str, group: bool = False) -> None:
    images = pictures(tmp_path / "images", 300, bright=(0,) if moment == "gradient" else ())
    out, left = tmp_path / "out", tmp_path / "scratch"
    left.mkdir()
    name = "hangs" if moment == "gradient" else "tiny"
    process = start(
        "explain", models / name, images, "-o", out, "--batch-size", "4", cwd=tmp_path, env={"TMPDIR": str(left)}
    )
    worker = until(lambda: child_running(process.pid, WORKER), what="the worker")
    if moment == "write":
        until(lambda: (out / MANIFEST).stat().st_size, what="the first line")
    if moment == "gradient":
        until(
            lambda: processor_seconds(worker) > 0.5 and (time.sleep(1) or not is_loading(worker)),
            what="the endless loop",
        )
    assert stopped(process, number, group) < 2
    assert process.returncode == 128 + number
    assert process.stderr.read() == b""
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
    assert first.wait(60) == 0 and first.stderr.read() == b""
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


# ---- a worker or a decoder that dies, hangs, or eats the memory


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, signal.SIGSEGV, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)],  # its timeout is awaited
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


# ---- odd surroundings


def test_without_any_environment(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    """env -i, stdin, stdout and stderr closed, a working folder that is gone, a strict umask."""
    arguments = " ".join(command("explain", model, photos, "-o", tmp_path / "out", "--raw"))
    script = f"umask 027; mkdir gone; cd gone; rmdir ../gone; exec {arguments} <&- >&- 2>&-"
    before = set(os.listdir("/tmp"))
    run = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=BARE, timeout=100)
    assert run.returncode == 0
    assert content(tmp_path / "out") == content(done)
    assert {stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in files(tmp_path / "out")} == {0o640}
    assert not {name for name in set(os.listdir("/tmp")) - before if name.startswith(scratch.PREFIX)}
    assert os.listdir(tmp_path) == ["out"]


def test_stdout_that_cannot_be_written(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    for end in (">&-", ">/dev/full"):
        arguments = " ".join(command("explain", model, photos, "-o", out, "--dry-run", "--force"))
        run = subprocess.run(
            ["bash", "-c", f"{arguments} {end}"], env=environment(), capture_output=True, text=True, cwd=tmp_path
        )
        assert run.returncode == 7
        assert "stdout" in run.stderr and len(run.stderr.splitlines()) == 1


def test_names_of_any_kind_come_out_of_print0(model: Path, photos: Path, tmp_path: Path) -> None:
    names = [b"new\nline.png", b"caf\xe9.png", b'it\'s "x".png', b"-o.png", "\u732b.png".encode()]
    folder = os.fsencode(tmp_path / "images")
    os.mkdir(folder)
    for name in names:
        shutil.copy(photos / "000" / "00000.png", os.path.join(folder, name))
    listed = b"\0".join(os.path.join(folder, name) for name in names)
    run = gradviz(
        "explain",
        model,
        "--files-from",
        "-",
        "-0",
        "-o",
        "out",
        "--print0",
        cwd=tmp_path,
        input=listed,
        text=False,
        env={"LANG": "C"},
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert sorted(run.stdout.split(b"\0")[:-1]) == sorted(b"out/" + name + b".guided.png" for name in names)
    assert sorted(name for name in os.listdir(b"%s/out" % os.fsencode(tmp_path)) if name.endswith(b".png")) == sorted(
        name + b".guided.png" for name in names
    )


def test_an_output_folder_inside_the_images(model: Path, photos: Path, tmp_path: Path) -> None:
    images = shutil.copytree(photos / "000", tmp_path / "images")
    (images / ".hidden").mkdir()
    shutil.copy(photos / "001" / "00010.png", images / ".hidden")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(photos / "001" / "00011.png", tmp_path / "elsewhere")
    (images / "linked").symlink_to(tmp_path / "elsewhere")
    (images / "circle").symlink_to(images)
    (tmp_path / "link").symlink_to(images)
    for _ in range(2):
        run = gradviz("explain", model, "link", "-o", "images/maps", cwd=tmp_path)
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert [record["status"] for record in records(images / "maps")] == ["written"] * 10 + ["current"] * 10
    assert content(images / "maps").keys() == {f"{i:05}.png.guided.png" for i in range(10)}
    assert gradviz("explain", model, images / "maps", "-o", images / "maps", cwd=tmp_path).returncode == 4


def test_a_folder_that_is_too_deep(model: Path, photos: Path, tmp_path: Path) -> None:
    deep = b"/".join([os.fsencode(tmp_path / "images")] + [b"d" * 200] * 25)
    images = shutil.copytree(photos / "000", tmp_path / "images")
    descend(deep)
    run = gradviz("explain", model, images, "-o", "out", "--dry-run", cwd=tmp_path)
    assert run.returncode == 3
    assert len(run.stdout.splitlines()) == 10
    assert len(run.stderr.splitlines()) == 1 and "File name too long" in run.stderr


def descend(path: bytes) -> None:
    """Make a folder that is too deep for its path to be opened."""
    here = os.open("/", os.O_RDONLY)
    for part in path.split(b"/")[1:]:
        try:
            os.mkdir(part, dir_fd=here)
        except FileExistsError:
            pass
        inner = os.open(part, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def test_scratch_folders_of_killed_runs_are_swept_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    alive = scratch.Scratch()
    (tmp_path / f"{scratch.PREFIX}abcdefgh" / "deep").mkdir(parents=True)
    (tmp_path / f"{scratch.PREFIX}abcdefgh").chmod(0o700)
    (tmp_path / f"{scratch.PREFIX}ijklmnop").mkdir(mode=0o755)  # not private: not ours
    (tmp_path / f"{scratch.PREFIX}mine").mkdir(mode=0o700)
    (tmp_path / f"{scratch.PREFIX}qrstuvwx").symlink_to(tmp_path / f"{scratch.PREFIX}mine")
    assert scratch.sweep() == 1
    assert sorted(
        path.name.removeprefix(scratch.PREFIX) for path in tmp_path.iterdir() if path != Path(alive.path)
    ) == ["ijklmnop", "mine", "qrstuvwx"]
    alive.close()
    assert not os.path.exists(alive.path)


# ---- what is said


def terminal(*arguments, cwd: Path) -> tuple[int, str]:
    """Run the command on a terminal of 60 columns; its exit code and what the terminal was sent."""
    import termios

    here, there = pty.openpty()
    termios.tcsetwinsize(here, (24, 60))
    process = subprocess.Popen(
        command(*arguments), cwd=cwd, env=environment(), stdin=there, stdout=there, stderr=there, start_new_session=True
    )
    os.close(there)
    sent = bytearray()
    while True:
        try:
            chunk = os.read(here, 4096)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        sent += chunk
    os.close(here)
    return process.wait(60), sent.decode()


def screen(sent: str) -> list[str]:
    """The lines that are left on a terminal."""
    found = []
    for line in sent.replace("\r\n", "\n").split("\n"):
        found.append(line.rsplit("\x1b[K", 1)[-1].rsplit("\r", 1)[-1])
    return [line for line in found if line]


def test_progress_on_a_terminal(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    images = shutil.copytree(photos, tmp_path / "images")
    (images / "000" / "00000.png").write_bytes(b"broken")
    code, sent = terminal("explain", model, images, "-o", out, cwd=tmp_path)
    assert code == 3
    assert "40/40 images, " in sent and "/s" in sent and " left" in sent and "1 failed" in sent
    assert all(
        len(part) < 60 for part in sent.replace("\r", "\n").replace("\x1b[K", "").split("\n") if " images, " in part
    )
    failed, summary = screen(sent)
    assert failed.startswith("gradviz: ") and "00000.png" in failed
    assert summary.startswith("39 current, 1 failed in ")
    for quiet in (["-q"], ["--progress", "never"]):
        code, sent = terminal("explain", model, images, "-o", out, *quiet, cwd=tmp_path)
        assert (code, len(screen(sent)), " images, " in sent) == (3, 1, False)


def test_json_on_stderr(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    (tmp_path / "bad.png").write_bytes(b"broken")
    run = gradviz(
        "explain",
        model,
        photos,
        "bad.png",
        "-o",
        out,
        "--log-format",
        "json",
        "-v",
        "--progress",
        "always",
        cwd=tmp_path,
    )
    assert (run.returncode, run.stdout) == (3, "")
    events = list(lines(run.stderr))
    assert all({"time", "level", "event", "message"} <= event.keys() for event in events)
    by_event = {
        name: [event for event in events if event["event"] == name] for name in ("image", "progress", "summary")
    }
    assert len(by_event["image"]) == 41
    assert [event["kind"] for event in by_event["image"] if event["level"] == "error"] == ["format"]
    assert by_event["progress"][-1]["done"] == by_event["progress"][-1]["total"] == 41
    assert by_event["summary"][0]["counts"] == {"current": 40, "failed": 1}
    quiet = gradviz("explain", model, photos, "bad.png", "-o", out, "--log-format=json", cwd=tmp_path)
    assert [event["event"] for event in lines(quiet.stderr)] == ["image"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["MODEL", "nowhere"], 2),
        (["MODEL", "photos", "--mode", "fancy"], 2),
        (["MODEL", "photos", "--frobnicate"], 2),
        (["--log-format", "json"], 2),
        (["nowhere", "photos"], 2),
        (["photos", "photos"], 5),
        (["MODEL", "photos", "-o", "file"], 7),
        (["MODEL", "photos", "-o", "held"], 11),
        (["MODEL", "photos", "--config", "config.toml", "-o", "file"], 7),
    ],
)
def test_what_ends_a_run_is_json_too(
    model: Path, photos: Path, tmp_path: Path, arguments: list[str], code: int
) -> None:
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "file").touch()
    (tmp_path / "held").mkdir()
    (tmp_path / "config.toml").write_text('log-format = "json"\n')
    asked = [] if "config.toml" in arguments else ["--log-format", "json"]
    with open(tmp_path / "held" / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = gradviz("explain", *(model if part == "MODEL" else part for part in arguments), *asked, cwd=tmp_path)
    assert run.returncode == code
    (event,) = lines(run.stderr)
    assert (event["event"], event["level"], event["code"]) == ("stopped", "error", code)


# ---- where options come from


@pytest.fixture
def planned(model: Path, photos: Path, tmp_path: Path):
    """(environment, config, arguments) -> what a dry run over one image would write, or what it says."""

    def run(env: dict | None = None, config: str | None = None, *arguments: str) -> str:
        if config is not None:
            (tmp_path / "config.toml").write_text(config)
            arguments = (*arguments, "--config", "config.toml")
        result = gradviz("explain", model, photos / "000" / "00000.png", "--dry-run", *arguments, cwd=tmp_path, env=env)
        return result.stdout.removesuffix("\n") if result.returncode == 0 else f"{result.returncode} {result.stderr}"

    return run


def test_the_command_line_wins_over_the_environment_over_the_file(planned) -> None:
    assert planned(None, 'mode = "deconv"\nout = "a"') == "a/00000.png.deconv.png"
    assert planned({"GRADVIZ_EXPLAIN_MODE": "backprop"}, 'mode = "deconv"\nout = "a"') == "a/00000.png.backprop.png"
    assert (
        planned({"GRADVIZ_EXPLAIN_MODE": "backprop"}, 'mode = "deconv"', "-m", "guided")
        == "heatmaps/00000.png.guided.png"
    )
    assert planned({"GRADVIZ_EXPLAIN_MODE": ""}, 'mode = "deconv"') == "heatmaps/00000.png.deconv.png"


def test_lists_and_switches_from_files_and_variables(planned) -> None:
    both = "heatmaps/00000.png.backprop.png\nheatmaps/00000.png.deconv.png"
    assert planned(None, 'mode = ["backprop", "deconv"]\nraw = true\nfail-fast = false') == both
    assert planned({"GRADVIZ_EXPLAIN_MODE": "backprop deconv", "GRADVIZ_EXPLAIN_RAW": "1"}) == both
    assert planned({"GRADVIZ_EXPLAIN_MODE": '["backprop", "deconv"]'}) == both
    assert (
        planned({"GRADVIZ_EXPLAIN_DRY_RUN": "yes", "GRADVIZ_EXPLAIN_BATCH_SIZE": "8"})
        == "heatmaps/00000.png.guided.png"
    )
    assert planned(None, "batch-size = 8\nmax-pixels = '1M'\ntimeout = 2.5") == "heatmaps/00000.png.guided.png"


@pytest.mark.parametrize(
    ("env", "config", "named"),
    [
        (None, "fancy = 1", "config.toml: there is no option fancy"),
        (None, "config = 'other.toml'", "there is no option config"),
        (None, "[mode]\na = 1", "mode cannot be"),
        (None, "out = ['a', 'b']", "out cannot be"),
        (None, "mode = 'fancy'", "fancy"),
        (None, "raw = 'perhaps'", "perhaps"),
        (None, "timeout = -1", "-1"),
        (None, "mode = ", "config.toml"),
        ({"GRADVIZ_EXPLAIN_FANCY": "1"}, None, "there is no option fancy"),
        ({"GRADVIZ_EXPLAIN_CONFIG": "nowhere.toml"}, None, "nowhere.toml"),
        ({"GRADVIZ_EXPLAIN_JOBS": "\u00b2"}, None, "\u00b2"),
    ],
)
def test_what_is_wrong_there_is_a_usage_error(planned, env: dict | None, config: str | None, named: str) -> None:
    said = planned(env, config)
    assert said.startswith("2 gradviz: ") and named in said and len(said.splitlines()) == 1


def test_a_config_file_named_by_the_environment(planned, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('mode = "deconv"')
    assert planned({"GRADVIZ_EXPLAIN_CONFIG": "mine.toml"}) == "heatmaps/00000.png.deconv.png"


# ---- which images, and which exit code


def test_a_dry_run_says_nothing_else(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    shutil.copy(photos / "000" / "00000.png", tmp_path / "new.png")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    run = gradviz("explain", model, photos, "new.png", "-o", out, "--raw", "--dry-run", "-v", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{out}/new.png.guided.png\n", "")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    os.mkfifo(tmp_path / "fifo.png")
    run = gradviz("explain", model, photos, "fifo.png", "-o", out, "--raw", "--dry-run", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (3, "") and "fifo.png" in run.stderr


def test_lists_of_names(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done / "000", tmp_path / "out")
    shutil.copy(done / MANIFEST, out)
    names = sorted((photos / "000").iterdir())
    for end, options in (("\n", []), ("\r\n", []), ("\0", ["-0"])):
        (tmp_path / "list").write_text(end.join(map(str, names)) + end + end)
        run = gradviz(
            "explain", model, "--files-from", "list", *options, "-o", out, "--raw", "--dry-run", "--force", cwd=tmp_path
        )
        assert (run.returncode, run.stdout.splitlines()) == (0, [f"{out}/{name.name}.guided.png" for name in names]), (
            run.stderr
        )
    empty = gradviz("explain", model, "--files-from", "-", "-o", out, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert empty.returncode == 4 and "--allow-empty" in empty.stderr
    (tmp_path / "list").write_text(f"{names[0]}\ngone.png\n")
    stale = gradviz("explain", model, "--files-from", "list", "-o", out, "--raw", cwd=tmp_path)
    assert stale.returncode == 3 and "gone.png" in stale.stderr
    assert gradviz("explain", model, "--files-from", "none", "-o", out, cwd=tmp_path).returncode == 2


def test_names_that_would_meet_are_refused_before_any_work(model: Path, photos: Path, tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "c/cat", "c/cat.3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(photos / "000" / "00000.png", tmp_path / name)
    twice = gradviz("explain", model, "a", "b", "-o", "out", cwd=tmp_path)
    assert twice.returncode == 2 and "a/x.png and b/x.png" in twice.stderr
    again = gradviz("explain", model, "a/x.png", "a/x.png", "-o", "out", cwd=tmp_path)
    assert again.returncode == 2 and "given twice" in again.stderr
    arguments = ["explain", model, "c", "-o", "out", "--dry-run", "-t", "top1", "-t", "3", "--style"]
    assert gradviz(*arguments, "heatmap", cwd=tmp_path).returncode == 0
    panels = gradviz(*arguments, "panel", cwd=tmp_path)  # cat.3.panel.png: class 3 of cat, or the best of cat.3?
    assert panels.returncode == 2 and "cat.3" in panels.stderr
    assert not (tmp_path / "out").exists()


def test_limits_are_kept_before_anything_is_read(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    run = gradviz(
        "explain", model, photos / "000" / "00000.png", "-o", "out", "--max-file-size", "50", "--dry-run", cwd=tmp_path
    )
    assert run.returncode == 4 and "--max-file-size" in run.stderr


@pytest.mark.slow
def test_the_gravest_code_is_returned(models: Path, tmp_path: Path) -> None:
    """A failed image, and time that is up."""
    images = pictures(tmp_path / "images", 4, bright=(3,))
    (images / "000" / "00000.png").write_bytes(b"broken")
    run = gradviz(
        "explain", models / "hangs", images, "-o", "out", "--batch-size", "1", "--max-duration", "12", cwd=tmp_path
    )
    assert run.returncode == 8, run.stderr
    assert "00000.png" in run.stderr.splitlines()[0] and "--max-duration" in run.stderr.splitlines()[-1]
    assert statuses(tmp_path / "out").get("failed") == 1
    listed = {name for record in records(tmp_path / "out") for name in record["outputs"]}
    assert listed == content(tmp_path / "out").keys()
    assert not temporaries(tmp_path / "out")


def test_fail_fast_stops_at_the_first_failed_image(model: Path, photos: Path, tmp_path: Path) -> None:
    images = shutil.copytree(photos, tmp_path / "images")
    for name in ("000/00005.png", "000/00007.png", "003/00030.png"):
        (images / name).write_bytes(b"broken")
    run = gradviz("explain", model, images, "-o", "out", "--fail-fast", "--batch-size", "4", cwd=tmp_path)
    assert run.returncode == 3
    assert len(run.stderr.splitlines()) == 1 and "00005.png" in run.stderr
    assert [record["status"] for record in records(tmp_path / "out")] == ["written"] * 5 + ["failed"]
    assert len(content(tmp_path / "out")) == 5
    assert not temporaries(tmp_path / "out")


def test_a_first_image_that_fails_does_not_speak_for_those_that_were_not_tried(model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    Image.new("RGB", (16, 16)).save(tmp_path / "b.png")
    arguments = ["explain", model, "--dry-run", "--fail-fast"]
    assert gradviz(*arguments, "a.png", "b.png", cwd=tmp_path).returncode == 3
    assert gradviz(*arguments, "a.png", cwd=tmp_path).returncode == 4


def test_what_a_run_trusts_is_in_the_manifest(model: Path, photos: Path, tmp_path: Path) -> None:
    arguments = ["explain", model, photos / "000" / "00000.png", "-o", "out", "--trust-model", "--allow-op", "ReadFile"]
    assert gradviz(*arguments, cwd=tmp_path).returncode == 0
    (record,) = records(tmp_path / "out")
    assert record["trust_model"] is True and record["allow_ops"] == ["ReadFile"]


def test_a_torn_line_of_a_killed_run_is_tolerated(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    with open(out / MANIFEST, "ab") as book:
        book.write(b'{"image": "torn')
    assert gradviz("explain", model, photos, "-o", out, "--raw", cwd=tmp_path).returncode == 0
    parts = (out / MANIFEST).read_text().splitlines()
    assert parts[40] == '{"image": "torn' and len(parts) == 81
    assert all(json.loads(line) for line in parts[:40] + parts[41:])


# ---- found by looking from the outside


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["MODEL", ""], "IMAGES"),  # a variable that is not set would mean the working folder
        (["MODEL", "photos", "-o", ""], "--out"),
        (["", "photos"], "MODEL"),
        (["MODEL", "photos", "--timeout", "nan"], "--timeout"),
        (["MODEL", "photos", "--timeout", "0.5"], "--timeout"),
        (["MODEL", "photos", "--max-duration", "inf"], "--max-duration"),
        (["MODEL", "photos", "--max-duration", "0"], "--max-duration"),
        (["MODEL", "photos", "--lock-wait", "-1"], "--lock-wait"),
        (["MODEL", "photos", "--lock-wait", "1e300"], "--lock-wait"),
        (["MODEL", "--files-from", "a\0b"], "--files-from"),
    ],
)
def test_arguments_that_mean_nothing(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos)
    assert main(["explain", *(str(model) if part == "MODEL" else part for part in arguments)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("gradviz: ") and named in said and ".;" not in said
    assert os.listdir(tmp_path) == ["photos"]


def test_a_list_from_a_closed_stdin(model: Path, tmp_path: Path) -> None:
    arguments = " ".join(command("explain", model, "--files-from", "-"))
    run = subprocess.run(
        ["bash", "-c", f"exec {arguments} <&-"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (
        2,
        "gradviz: --files-from -: stdin is closed; give it the list, or name a file\n",
    )


def test_why_no_image_was_found(model: Path, photos: Path, tmp_path: Path) -> None:
    images = shutil.copytree(photos / "000", tmp_path / "images")
    run = gradviz("explain", model, images, "-o", images, "--dry-run", cwd=tmp_path)
    assert run.returncode == 4 and f"{images} is not searched, as it is --out" in run.stderr


def test_a_full_temporary_folder(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    mounted(small, "size=64k")
    try:
        names = "".join(f"{photos}/{'x' * 100}{i}.png\n" for i in range(2000))
        run = gradviz(
            "explain", model, "--files-from", "-", "--dry-run", cwd=tmp_path, env={"TMPDIR": str(small)}, input=names
        )
        assert run.returncode == 7
        assert "temporary" in run.stderr and "TMPDIR" in run.stderr and len(run.stderr.splitlines()) == 1
        (small / "full").write_bytes(bytes(40_000))
        run = gradviz("explain", model, photos / "000", "-o", "out", "--raw", cwd=tmp_path, env={"TMPDIR": str(small)})
        assert (run.returncode, run.stderr) == (0, "")  # the next place was taken
        assert os.listdir(small) == ["full"]
    finally:
        subprocess.run(["umount", small], check=True)


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


@pytest.mark.parametrize("end", ["in order", "failed", "stopped"])
def test_a_signal_while_the_crew_closes(end: str) -> None:
    """What was interrupted is done again."""
    closed = []

    class Crew:
        def close(self, patience: float | None = None) -> None:
            closed.append(patience)
            if len(closed) == 1 and end != "stopped":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pipeline._at_work(Crew()):
        if end == "failed":
            raise TimeUp("")
        if end == "stopped":
            raise KeyboardInterrupt
    assert closed == ([pipeline.PATIENCE] if end == "stopped" else [None, pipeline.PATIENCE])


def test_waiting_for_the_lock_ends_with_the_time_for_the_run(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun = time.monotonic()
        run = gradviz(
            "explain", model, photos, "-o", "out", "--lock-wait", "100", "--max-duration", "0.5", cwd=tmp_path
        )
    assert run.returncode == 11 and time.monotonic() - begun < 10
