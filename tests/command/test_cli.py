"""The command line from outside: names, files, exit codes, silence. Every run is a process of its own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, files, gradviz, on_terminal, picture, pixels, records, shown, text
from PIL import Image
from workers import Pool

from gradviz_cli import demo
from gradviz_cli.batch.lock import LOCK
from gradviz_cli.cli import explain
from gradviz_cli.draw.styles import SHEETS, STYLES, names
from gradviz_cli.plan.plan import DEFAULT_STYLE
from gradviz_cli.rules import RULES


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A folder with photos, a corrupt one among them, and what one run in all modes made of them."""
    folder = tmp_path_factory.mktemp("done")
    picture(folder / "photos" / "a.jpg", 1)
    picture(folder / "photos" / "a.png", 2)
    picture(folder / "photos" / "deep" / "b.png", 3, (90, 50))
    picture(folder / "photos" / ".hidden.png", 4)
    (folder / "photos" / "broken.png").write_bytes((folder / "photos" / "a.png").read_bytes()[:200])
    run = gradviz(
        "explain", demo.MODEL, "photos", "-o", "out", "-m", "all", "--raw", "-t", "top2", "-t", "3", cwd=folder
    )
    (folder / "run.json").write_text(json.dumps({"code": run.returncode, "out": run.stdout, "err": run.stderr}))
    return folder


def test_the_others_are_written_and_the_corrupt_one_is_named(done: Path) -> None:
    run = json.loads((done / "run.json").read_text())
    assert run["code"] == 3
    assert run["out"] == ""
    lines = run["err"].splitlines()
    assert len(lines) == 1
    assert "photos/broken.png" in lines[0]


def test_names_follow_the_contract(done: Path) -> None:
    expected = {".gradviz.lock", "manifest.jsonl"}
    for name in ("a.jpg", "a.png", "deep/b.png"):
        for mode in RULES:
            for target in ("", ".top2", ".3"):
                expected |= {f"{name}.{mode}{target}.png", f"{name}.{mode}{target}.npy"}
    assert files(done / "out") == expected


def test_manifest_says_how_each_image_went(done: Path) -> None:
    by_image = {Path(record["image"]).name: record for record in records(done / "out")}
    assert {name: record["status"] for name, record in by_image.items()} == {
        "a.jpg": "written",
        "a.png": "written",
        "b.png": "written",
        "broken.png": "failed",
    }
    assert by_image["broken.png"]["error"]["kind"] == "truncated"
    best, second, third = by_image["a.jpg"]["targets"]
    assert (best["rank"], second["rank"], third["index"]) == (0, 1, 3)
    assert best["score"] >= second["score"]
    assert all((done / "out" / name).is_file() for name in by_image["a.jpg"]["outputs"])


def test_pictures_carry_what_they_show(done: Path) -> None:
    record = text(done / "out" / "a.png.deconv.3.png")
    assert record["mode"] == "deconv"
    assert record["estimator"] == "gradient"
    assert record["target"]["index"] == 3
    assert record["image"] == hashlib.sha256((done / "photos" / "a.png").read_bytes()).hexdigest()
    array = np.load(done / "out" / "a.png.deconv.3.npy")
    assert record["scale"][0] == 0
    assert record["scale"][1] == pytest.approx(np.sort(np.abs(array).max(axis=2), axis=None)[-1], rel=0.9)
    assert record["npy"] == hashlib.sha256((done / "out" / "a.png.deconv.3.npy").read_bytes()).hexdigest()


def test_a_picture_has_the_size_of_its_image(done: Path) -> None:
    assert pixels(done / "out" / "deep" / "b.png.guided.png").shape == (90, 50, 3)
    assert np.load(done / "out" / "deep" / "b.png.guided.npy").dtype == np.float32


def poisoned(folder: Path) -> dict[str, str]:
    """An environment in which importing TensorFlow fails."""
    (folder / "poison" / "tensorflow").mkdir(parents=True, exist_ok=True)
    (folder / "poison" / "tensorflow" / "__init__.py").write_text("raise RuntimeError('poisoned tensorflow')")
    return {"PYTHONPATH": f"{folder / 'poison'}{os.pathsep}{ROOT}"}


def test_nothing_to_do_needs_no_tensorflow_and_says_nothing(done: Path) -> None:
    arguments = ["explain", demo.MODEL, "photos/a.jpg", "photos/a.png", "-o", "out2", "-m", "all"]
    first = gradviz(*arguments, cwd=done)
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    before = {name: (done / "out2" / name).stat().st_mtime_ns for name in files(done / "out2") if name.endswith("png")}
    again = gradviz(*arguments, cwd=done, env=poisoned(done))
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert [record["status"] for record in records(done / "out2")] == ["written"] * 2 + ["current"] * 2
    assert before == {name: (done / "out2" / name).stat().st_mtime_ns for name in before}
    forced = gradviz(*arguments, "--force", cwd=done, env=poisoned(done))  # the proof can fail
    assert forced.returncode == 5
    assert "poisoned tensorflow" in forced.stderr


def test_whatever_changes_a_pixel_is_redone(pool: Pool, done: Path) -> None:
    arguments = ["explain", demo.MODEL, "photos/a.jpg", "-o", "out3", "--dry-run"]
    assert pool.gradviz("explain", demo.MODEL, "photos/a.jpg", "-o", "out3", cwd=done).returncode == 0
    assert pool.gradviz(*arguments, cwd=done).stdout == ""
    for change in (["--clip", "95"], ["--preprocess", "unit"], ["--size", "input"], ["--force"], ["--raw"]):
        array = ["out3/a.jpg.guided.npy"] if change == ["--raw"] else []
        assert pool.gradviz(*arguments, *change, cwd=done).stdout.splitlines() == [*array, "out3/a.jpg.guided.png"]
    shutil.copytree(demo.MODEL, done / "other")
    (done / "other" / "assets.extra" / "labels.txt").write_text("a\n")
    arguments[1] = done / "other"
    refused = pool.gradviz(*arguments, cwd=done)
    assert refused.returncode == 2 and str(done / "other") in refused.stderr and str(demo.MODEL) in refused.stderr
    assert pool.gradviz(*arguments, "--adopt", cwd=done).stdout.splitlines() == ["out3/a.jpg.guided.png"]


def test_a_current_picture_stays_beside_a_new_one(pool: Pool, done: Path) -> None:
    arguments = ["explain", demo.MODEL, "photos/a.jpg", "-o", "out4", "--raw"]
    assert pool.gradviz(*arguments, cwd=done).returncode == 0
    first = {name: (done / "out4" / name).stat() for name in ("a.jpg.guided.png", "a.jpg.guided.npy")}
    more = ["-m", "guided,deconv"]
    assert pool.gradviz(*arguments, *more, "--dry-run", cwd=done).stdout.split() == [
        "out4/a.jpg.deconv.npy",
        "out4/a.jpg.deconv.png",
    ]
    second = pool.gradviz(*arguments, *more, "--print", cwd=done)
    assert sorted(second.stdout.split()) == ["out4/a.jpg.deconv.npy", "out4/a.jpg.deconv.png"], second.stderr
    assert first == {name: (done / "out4" / name).stat() for name in first}
    assert pool.gradviz(*arguments, *more, "--dry-run", cwd=done).stdout == ""
    forced = pool.gradviz(*arguments, *more, "--force", "--print", cwd=done)
    assert len(forced.stdout.split()) == 4
    assert all((done / "out4" / name).stat().st_ino != status.st_ino for name, status in first.items())


def test_a_dry_run_writes_nothing(done: Path) -> None:
    run = gradviz(
        "explain",
        demo.MODEL,
        "photos/a.jpg",
        "-o",
        "never",
        "--style",
        "gray",
        "--style",
        "panel",
        "--dry-run",
        cwd=done,
    )
    assert run.stdout.splitlines() == ["never/a.jpg.guided.gray.png", "never/a.jpg.panel.png"]
    assert not (done / "never").exists()


def test_every_style_is_written(pool: Pool, done: Path) -> None:
    arguments = [part for style in names() for part in ("--style", style)]
    run = pool.gradviz("explain", demo.MODEL, "photos/a.jpg", "-o", "styles", *arguments, cwd=done)
    assert (run.returncode, run.stderr) == (0, "")
    found = {name for name in files(done / "styles") if name.endswith(".png")}
    maps = {f"a.jpg.guided{'' if style == DEFAULT_STYLE else '.' + style}.png" for style in STYLES}
    assert found == maps | {f"a.jpg.{sheet}.png" for sheet in SHEETS}
    assert all(len(np.unique(pixels(done / "styles" / name).reshape(-1, 3), axis=0)) > 20 for name in found)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere", "photos"], "nowhere"),
        (["MODEL", "photos/none.jpg"], "photos/none.jpg"),
        (["MODEL"], "no images"),
        (["MODEL", "photos", "--mode", "fancy"], "--mode"),
        (["MODEL", "photos", "--target", "unicorn"], "unicorn"),
        (["MODEL", "photos", "--clip", "0"], "--clip"),
        (["MODEL", "photos", "--batch-size", "0"], "--batch-size"),
        (["MODEL", "photos/a.jpg", "--root", "photos/deep"], "photos/a.jpg does not lie in --root photos/deep"),
        (["MODEL", "photos", "--exclude", "[z-a]"], "--exclude"),
        (["MODEL", "photos", "--frobnicate"], "--frobnicate"),
    ],
)
def test_usage_errors_name_what_is_wrong(done: Path, arguments: list[str], named: str) -> None:
    arguments = [str(demo.MODEL) if argument == "MODEL" else argument for argument in arguments]
    run = gradviz("explain", *arguments, "-o", "unused", cwd=done)
    assert run.returncode == 2
    assert named in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (done / "unused").exists()


def test_too_many_classes_asked_for(pool: Pool, done: Path) -> None:
    run = pool.gradviz("explain", demo.MODEL, "photos/a.jpg", "-o", "classes", "-t", "999", cwd=done)
    assert run.returncode == 2
    assert "--target 999" in run.stderr


def test_a_folder_without_a_model(done: Path) -> None:
    (done / "empty").mkdir()
    run = gradviz("explain", "empty", "photos", "-o", "unused", cwd=done)
    assert run.returncode == 5
    assert "saved_model.pb" in run.stderr


def test_no_image_is_a_failure_unless_allowed(done: Path) -> None:
    (done / "bare").mkdir()
    assert gradviz("explain", demo.MODEL, "bare", "-o", "bare-out", cwd=done).returncode == 4
    allowed = gradviz("explain", demo.MODEL, "bare", "-o", "bare-out", "--allow-empty", cwd=done)
    assert (allowed.returncode, allowed.stderr) == (0, "")


def test_every_image_failed(done: Path) -> None:
    run = gradviz("explain", demo.MODEL, "photos/broken.png", "-o", "all-bad", cwd=done)
    assert run.returncode == 4


def test_output_that_is_a_file(done: Path) -> None:
    (done / "file").write_text("mine")
    run = gradviz("explain", demo.MODEL, "photos/a.jpg", "-o", "file", cwd=done)
    assert run.returncode == 7
    assert (done / "file").read_text() == "mine"


def test_a_second_run_in_the_same_folder(done: Path) -> None:
    (done / "locked").mkdir()
    with open(done / "locked" / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = gradviz("explain", demo.MODEL, "photos/a.jpg", "-o", "locked", cwd=done)
    assert run.returncode == 11
    assert "--lock-wait" in run.stderr


def test_help_version_and_bare_call(tmp_path: Path) -> None:
    for arguments in (["--help"], [], ["explain", "--help"], ["-v", "--version"]):
        run = gradviz(*arguments, cwd=tmp_path, env=poisoned(tmp_path))
        assert run.returncode == 0, run.stderr
        assert run.stderr == ""
    assert "gradviz " in gradviz("--version", cwd=tmp_path).stdout


def test_demo_writes_all_modes_and_a_page_and_says_what_to_try(tmp_path: Path) -> None:
    run = gradviz("demo", cwd=tmp_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    count = len(list(demo.IMAGES.iterdir()))
    assert 8 <= count <= 12
    assert len(list((tmp_path / "heatmaps").glob("*.png"))) == count * len(RULES) * 2
    page = tmp_path / "heatmaps" / "index.html"
    page.unlink()
    code, said = on_terminal("demo", cwd=tmp_path)  # all are current: nobody waits for TensorFlow
    where, *tries = shown(said)[-4:]
    assert code == 0 and str(page) in where and page.exists()
    assert [words.split()[:3] for words in tries] == [
        ["gradviz", "gallery", "heatmaps"],
        ["gradviz", "explain", demo.NAME],
        ["gradviz", "inspect", demo.NAME],
    ]


def test_an_independent_reader_gets_the_documented_numbers(pool: Pool, done: Path) -> None:
    """index = round(255 * |x| / scale), read with Pillow and NumPy alone."""
    run = pool.gradviz(
        "explain", demo.MODEL, "photos/a.png", "-o", "read", "--size", "input", "--raw", "--gallery", cwd=done
    )
    assert (run.returncode, run.stderr) == (0, "")
    with Image.open(done / "read" / "a.png.guided.png") as image:
        assert image.mode == "P"
        drawn = np.asarray(image)
    low, high = text(done / "read" / "a.png.guided.png")["scale"]
    strongest = np.abs(np.load(done / "read" / "a.png.guided.npy")).max(axis=2)
    expected = 255 * np.minimum((strongest - low) / (high - low), 1)
    assert np.abs(drawn - expected).max() <= 0.51
    assert b"a.png" in (done / "read" / "index.html").read_bytes()


@pytest.mark.parametrize(("given", "want"), [(["-v"], 1), (["-vv"], 2), (["--verbose"], 1), ([], 0), (None, 1)])
def test_how_often_verbose_is_given_counts(monkeypatch, given: list[str] | None, want: int) -> None:
    """True in the environment, as in a file, is once."""
    if given is None:
        monkeypatch.setenv("GRADVIZ_EXPLAIN_VERBOSE", "true")
    context = explain.command.make_context("explain", ["model", "image", *(given or [])])
    assert context.params["verbose"] == want
