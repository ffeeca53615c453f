"""The command and hostile models, folders and kernels: an exit code, one line, nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import gradviz
from hostile.confinement import confined
from hostile.pool import assert_unharmed, named, written
from hostile_models import ODD_FOLDERS, Case, World
from PIL import Image

ROOT = Path(__file__).parents[2]


CODE = {"runs": 0, "fails": 4, "unusable": 5, "refused": 6}


def explain(folder: Path, tmp_path: Path, *options: str) -> tuple[subprocess.CompletedProcess, float]:
    """Run `gradviz explain` on one image, in a folder of its own; (result, seconds)."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "tmp").mkdir()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 20, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    search = os.environ.get("PYTHONPATH", str(ROOT))
    search = search if str(ROOT) in search.split(os.pathsep) else f"{search}{os.pathsep}{ROOT}"
    env = {"PYTHONPATH": search, "TMPDIR": str(tmp_path / "tmp")}
    fixed = ["-o", "out", "-m", "backprop", "--timeout", "4"]  # a loop without end takes all of it
    start = time.monotonic()
    run = gradviz("explain", folder, "a.png", *fixed, *options, cwd=tmp_path, env=env)
    seconds = time.monotonic() - start
    assert not processes_about(tmp_path), "a worker is left behind"
    return run, seconds


def processes_about(folder: Path) -> list[str]:
    """Processes whose command line names a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [text for text in [file.read_text()] if str(folder) in text]
        except OSError:  # it has just ended
            continue
    return found


def assert_in_order(run: subprocess.CompletedProcess, seconds: float) -> None:
    """A line or two, no traceback, nothing left behind, in time."""
    assert "Traceback" not in run.stderr
    assert "internal error" not in run.stderr
    assert run.stdout == ""
    lines = [line for line in run.stderr.splitlines() if "warning" not in line]
    assert len(lines) <= 1 + (run.returncode == 4)
    assert all(len(line) < 3000 for line in lines)
    assert seconds < 60


@pytest.mark.parametrize("case", ODD_FOLDERS, ids=str)
def test_folder_is_refused_by_the_command(case: Case, w: World, tmp_path: Path) -> None:
    run, seconds = explain(written(case, w), tmp_path)
    assert run.returncode == CODE[case.outcome[0]], run.stderr
    assert case.says in run.stderr
    assert_in_order(run, seconds)
    assert_unharmed(w)


COMMANDED = (
    "writer_in_main_op",
    "writer_in_nested_functions",
    "reader_of_passwd",
    "functions_that_double",
    "constant_of_ten_billion_numbers",
    "input_of_ten_billion_pixels",
    "loop_without_end",
    "index_that_promises_too_much",
    "terminal_codes_in_names",
    "cycle_without_a_loop",
    "empty_file",
)


@pytest.mark.slow  # each of these models is refused or contained in test_hostile.py too
def test_the_command_ends_in_order(w: World, tmp_path: Path) -> None:
    """Exit code, one line, nothing left behind; two at a time."""
    folders = {name: written(named(name), w) for name in COMMANDED}
    with ThreadPoolExecutor(2) as two:
        futures = {name: two.submit(explain, folder, tmp_path / name) for name, folder in folders.items()}
        for name, future in futures.items():
            run, seconds = future.result()
            assert run.returncode in [CODE[what] for what in named(name).outcome], (name, run.stderr)
            assert_in_order(run, seconds)
            assert not list((tmp_path / name / "tmp").iterdir()), f"{name} left temporary files"
            assert run.returncode == 0 or not list((tmp_path / name / "out").glob("*.png"))
    assert_unharmed(w)


@confined
def test_the_command_contains_what_is_trusted(w: World, tmp_path: Path) -> None:
    run, seconds = explain(written(named("writer_in_a_branch"), w), tmp_path / "a", "--trust-model")
    assert run.returncode in (0, 4)
    assert_in_order(run, seconds)
    run, seconds = explain(
        written(named("reader_of_passwd"), w),
        tmp_path / "b",
        "--allow-op",
        "ReadFile",
        "--allow-op",
        "StringLength",
    )
    assert run.returncode in (4, 5)
    assert_in_order(run, seconds)
    assert_unharmed(w)


# Found by every Python that starts with it on its path: a kernel without Landlock, as far as the worker can see.
OLD_KERNEL = """
import errno, sys
from gradviz_cli.process.sandbox import kernel
real = kernel.system
def system(name, *arguments):
    if name.startswith("landlock"):
        raise OSError(errno.ENOSYS, "no such call")
    return real(name, *arguments)
kernel.system = system
"""


def test_the_command_refuses_or_says_that_there_is_no_sandbox(
    w: World, plain_model: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sitecustomize.py").write_text(OLD_KERNEL)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'old'}{os.pathsep}{ROOT}")
    run, _ = explain(plain_model, tmp_path / "a", "--require-sandbox", "--preprocess", "unit")
    assert run.returncode == 6
    assert "--require-sandbox" in run.stderr
    assert "Landlock" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    run, _ = explain(plain_model, tmp_path / "b", "--preprocess", "unit")
    assert run.returncode == 0
    assert len(re.findall("without a full sandbox", run.stderr)) == 1
