"""What the system has too little of: named, with exit 5 or 7, and never taken for a bug or for somebody's Ctrl-C."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import command, environment, gradviz, picture

LIMITS = {
    "-n": resource.RLIMIT_NOFILE,
    "-v": resource.RLIMIT_AS,
    "-d": resource.RLIMIT_DATA,
    "-u": resource.RLIMIT_NPROC,
}


def limited(flag: str, value: int):
    """For a child: the limit, which holds for root as well."""
    return lambda: resource.setrlimit(LIMITS[flag], (value, value))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("-n", 6),
        ("-n", 9),
        ("-n", 14),
        ("-n", 24),
        ("-v", 100 << 20),
        ("-v", 700 << 20),
        ("-d", 80 << 20),
        ("-d", 300 << 20),
    ],
)
def test_a_limit_that_is_too_low_is_named(model: Path, tmp_path: Path, flag: str, value: int) -> None:
    picture(tmp_path / "a.png", 0)
    done = gradviz("explain", model, "a.png", cwd=tmp_path, preexec_fn=limited(flag, value))
    assert done.returncode in (5, 7), done.stderr
    assert f"ulimit {flag}" in done.stderr or f"and {flag} where" in done.stderr
    assert "internal error" not in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def everybodys(model: Path) -> Iterator[Path]:
    """A folder that other users come into, with the model and an image."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(model, folder / "model")
        picture(folder / "a.png", 0)
        (folder / "out").mkdir()
        for place in (folder, folder / "out"):
            place.chmod(0o777)
        yield folder


def test_a_limit_of_processes_is_named(everybodys: Path) -> None:
    """It holds for users, not for root; a user of whom nothing else runs here."""
    user = 61_234
    more = ["+dac_read_search,+dac_override"]
    words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    words += [f"--{kind}-caps={caps}" for kind in ("inh", "ambient") for caps in more]
    if os.geteuid() != 0 or not shutil.which("setpriv") or subprocess.run([*words, "true"]).returncode:
        pytest.skip("no other user can be had here")
    for most in (2, 5, 9):
        line = [*words, "prlimit", f"--nproc={most}:{most}", *command("explain", "model", "a.png", "-o", "out")]
        done = subprocess.run(line, cwd=everybodys, env=environment(), capture_output=True, text=True, timeout=100)
        assert done.returncode in (5, 7) and "ulimit -u" in done.stderr, (most, done.returncode, done.stderr)
        assert "internal error" not in done.stderr


def test_the_whole_run_has_a_limit_of_time(tmp_path: Path) -> None:
    """A list that never comes, before the model is looked at."""
    os.mkfifo(tmp_path / "list")
    done = gradviz("explain", "none", "--files-from", "list", "--max-duration", "0.5", cwd=tmp_path, timeout=20)
    assert done.returncode == 8 and "--max-duration" in done.stderr
    (tmp_path / "own.toml").write_text("max-duration = 0.5\n")
    done = gradviz("explain", "none", "--files-from", "list", "--config", "own.toml", cwd=tmp_path, timeout=20)
    assert done.returncode == 8


def test_it_counts_from_the_start(model: Path, tmp_path: Path) -> None:
    """What the list has taken is not there for the images."""
    picture(tmp_path / "a.png", 0)
    late = ["sh", "-c", '(sleep 1; echo a.png) | exec "$@"', "sh"]
    line = [*late, *command("explain", model, "--files-from", "-", "--max-duration", "1.2")]
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 8 and not list(tmp_path.glob("heatmaps/*.png")), done.stderr
