"""Where options come from, which images are meant, and which exit code is returned."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from command.batches import pictures, statuses
from commands import (
    command,
    content,
    environment,
    gradviz,
    records,
    temporaries,
)
from PIL import Image
from workers import Pool

from gradviz_cli.batch.manifest import MANIFEST
from gradviz_cli.cli import main

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
    arrays = both.replace(".png\n", ".npy\n").removesuffix(".png") + ".npy"
    raw = f"{arrays}\n{both}"
    assert planned(None, 'mode = ["backprop", "deconv"]\nraw = true\nfail-fast = false') == raw
    assert planned({"GRADVIZ_EXPLAIN_MODE": "backprop deconv", "GRADVIZ_EXPLAIN_RAW": "1"}) == raw
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


def test_a_config_file_that_says_nothing(planned) -> None:
    assert planned(None, "") == planned({"GRADVIZ_EXPLAIN_CONFIG": "/dev/null"}) == "heatmaps/00000.png.guided.png"


def test_options_and_labels_come_through_pipes(model: Path, photos: Path, tmp_path: Path) -> None:
    """As a shell makes them: <(...)."""
    ends = []
    for data in (b'mode = "deconv"', "".join(f"label {number}\n" for number in range(10)).encode()):
        end, other = os.pipe()
        os.write(other, data)
        os.close(other)
        ends.append(end)
    given = "--config", f"/dev/fd/{ends[0]}", "--labels", f"/dev/fd/{ends[1]}", "-t", "label 3", "--dry-run"
    run = gradviz("explain", model, photos / "000" / "00000.png", *given, cwd=tmp_path, pass_fds=ends)
    for end in ends:
        os.close(end)
    assert (run.returncode, run.stdout) == (0, "heatmaps/00000.png.deconv.3.png\n"), run.stderr


# ---- which images, and which exit code


def test_a_dry_run_says_what_and_why_and_writes_nothing(model: Path, photos: Path, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    shutil.copy(photos / "000" / "00000.png", tmp_path / "new.png")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    run = gradviz("explain", model, photos, "new.png", "-o", out, "--raw", "--dry-run", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (0, f"{out}/new.png.guided.npy\n{out}/new.png.guided.png\n")
    assert run.stderr == "would draw 1 picture of 1 image; 40 current\n  1 new: new.png\n"
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
        wanted = [f"{out}/{name.name}.guided.{kind}" for name in names for kind in ("npy", "png")]
        assert (run.returncode, run.stdout.splitlines()) == (0, wanted), run.stderr
    empty = gradviz("explain", model, "--files-from", "-", "-o", out, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert empty.returncode == 4 and "--allow-empty" in empty.stderr
    (tmp_path / "list").write_text(f"{names[0]}\ngone.png\n")
    stale = gradviz("explain", model, "--files-from", "list", "-o", out, "--raw", cwd=tmp_path)
    assert stale.returncode == 3 and "gone.png" in stale.stderr
    assert gradviz("explain", model, "--files-from", "none", "-o", out, cwd=tmp_path).returncode == 2


def test_an_image_on_stdin(model: Path, photos: Path, tmp_path: Path) -> None:
    image = photos / "000" / "00000.png"

    def dry(*arguments) -> tuple[int, str, str]:
        with open(image) as stdin:
            run = gradviz("explain", model, *arguments, "--dry-run", cwd=tmp_path, stdin=stdin)
        return run.returncode, run.stdout, run.stderr

    assert dry("-")[:2] == (0, "heatmaps/stdin.guided.png\n")
    assert dry("-", "-o", "x.png")[:2] == (0, "x.png\n")
    code, _, said = dry("-", "--max-file-size", "50")
    assert code == 4 and said.startswith("gradviz: /dev/stdin: 51 bytes") and "--max-file-size" in said


def test_names_that_would_meet_are_refused_before_any_work(model: Path, photos: Path, tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "c/cat", "c/cat.3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(photos / "000" / "00000.png", tmp_path / name)
    twice = gradviz("explain", model, "a", "b", "-o", "out", cwd=tmp_path)
    assert twice.returncode == 2 and "a/x.png and b/x.png" in twice.stderr
    again = gradviz("explain", model, "a/x.png", "a/../a/x.png", "-o", "out", "--dry-run", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "out/x.png.guided.png\n")
    arguments = ["explain", model, "c/cat", "c/cat.3", "-o", "out", "--dry-run", "-t", "top1", "-t", "3", "--style"]
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


def test_what_a_run_trusts_is_in_the_manifest(pool: Pool, model: Path, photos: Path, tmp_path: Path) -> None:
    arguments = ["explain", model, photos / "000" / "00000.png", "-o", "out", "--trust-model", "--allow-op", "ReadFile"]
    assert pool.gradviz(*arguments, cwd=tmp_path).returncode == 0
    (record,) = records(tmp_path / "out")
    assert record["trust_model"] is True and record["allow_ops"] == ["ReadFile"]


def test_a_torn_line_of_a_killed_run_is_tolerated(
    pool: Pool, model: Path, photos: Path, done: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    with open(out / MANIFEST, "ab") as manifest:
        manifest.write(b'{"image": "torn')
    assert pool.gradviz("explain", model, photos, "-o", out, "--raw", cwd=tmp_path).returncode == 0
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


def test_pictures_do_not_go_where_all_images_lie(model: Path, photos: Path, tmp_path: Path) -> None:
    images = shutil.copytree(photos / "000", tmp_path / "images" / "one")
    before = sorted(tmp_path.rglob("*"))
    for out in (images, images.parent):
        run = gradviz("explain", model, images, "-o", out, "-q", cwd=tmp_path)
        assert run.returncode == 4 and f"{images} is not searched, as it is --out" in run.stderr
    assert sorted(tmp_path.rglob("*")) == before
