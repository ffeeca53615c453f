"""Odd surroundings, and what a run says in them: on a terminal, in JSON, to xargs."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from command.batches import BARE, abandoned
from commands import (
    command,
    content,
    environment,
    files,
    gradviz,
    lines,
    on_terminal,
    records,
    shown,
)
from workers import Pool

from gradviz_cli.batch.lock import LOCK
from gradviz_cli.files import scratch

# ---- odd surroundings


# ---- odd surroundings


def test_without_any_environment(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    """env -i, stdin, stdout and stderr closed, a working folder that is gone, a strict umask."""
    arguments = " ".join(command("explain", model, photos, "-o", tmp_path / "out", "--raw", "--proof", "never"))
    script = f"umask 027; mkdir gone; cd gone; rmdir ../gone; exec {arguments} <&- >&- 2>&-"
    before = abandoned(Path("/tmp"))
    run = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=BARE, timeout=100)
    assert run.returncode == 0
    assert content(tmp_path / "out") == content(done)
    assert {stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in files(tmp_path / "out")} == {0o640}
    assert abandoned(Path("/tmp")) <= before
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
    failed, foreseen, _ = run.stderr.splitlines()
    assert "File name too long" in failed and foreseen == "would draw 10 pictures of 10 images; 1 failed"


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


# ---- what is said


def test_progress_on_a_terminal(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    images = shutil.copytree(photos, tmp_path / "images")
    (images / "000" / "00000.png").write_bytes(b"broken")
    arguments = ["explain", model, images, "-o", out, "--adopt"]
    code, sent = on_terminal(*arguments, cwd=tmp_path, columns=60)
    assert code == 3
    assert "40/40 images, 1 failed" in sent and " left" not in sent  # an end is promised once that means something
    assert all(
        len(part) < 60 for part in sent.replace("\r", "\n").replace("\x1b[K", "").split("\n") if " images, " in part
    )
    failed, summary = shown(sent)
    assert failed.startswith("gradviz: ") and "00000.png" in failed
    assert summary.startswith("39 current, 1 failed in ")
    for quiet in (["-q"], ["--progress", "never"]):
        code, sent = on_terminal(*arguments, *quiet, cwd=tmp_path, columns=60)
        assert (code, len(shown(sent)), " images" in sent) == (3, 1, False)


def test_json_on_stderr(pool: Pool, model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    (tmp_path / "bad.png").write_bytes(b"broken")
    run = pool.gradviz(
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
    quiet = pool.gradviz("explain", model, photos, "bad.png", "-o", out, "--log-format=json", cwd=tmp_path)
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
