"""Outputs and temporary files that cannot be written: what was there stays, and the run says so in one line."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
from pathlib import Path

from command.batches import failures, mounted, pictures, statuses
from commands import (
    content,
    gradviz,
    records,
    start,
    temporaries,
    until,
)
from workers import Pool

from gradviz_cli.batch.manifest import MANIFEST


def test_a_name_that_is_taken_costs_that_image_only(
    pool: Pool, model: Path, photos: Path, done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "000" / "00000.png.guided.png").mkdir(parents=True)
    os.mkfifo(out / "000" / "00001.png.guided.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    (out / "000" / "00002.png.guided.png").symlink_to(elsewhere)
    (out / "001").write_bytes(b"a file where a folder is needed")
    run = pool.gradviz("explain", model, photos, "-o", out, "--raw", cwd=tmp_path)
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
