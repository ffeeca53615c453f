"""Two people who share an output folder: both may write it, or one may not; nothing of either is lost.

Only root can become others, so that elsewhere these tests skip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from command.batches import pictures, statuses
from commands import command, content, environment, gradviz

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root, with setpriv, can run as two other users"
    ),
]

FIRST, SECOND, TEAM = 40_001, 40_002, 40_000
SHARED, PRIVATE = 0o002, 0o022  # umasks: what one makes the team may write, or may not


def begin(user: int, mask: int, *arguments, cwd: Path) -> subprocess.Popen:
    """The command as a user of the team, who has a home of their own."""
    home = cwd / f"home{user}"
    home.mkdir(exist_ok=True)
    os.chown(home, user, TEAM)
    more = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(home)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*become(user), *command(*arguments)], cwd=cwd, env=environment(more), umask=mask, **pipes)


def become(user: int) -> list[str]:
    """May search folders of others all the same, as the interpreter may lie in root's home; may write nothing of theirs."""
    search = "+dac_read_search"
    kept = ["--inh-caps", f"-all,{search}", "--ambient-caps", search, "--bounding-set", f"-all,{search}"]
    return ["setpriv", "--reuid", str(user), "--regid", str(TEAM), "--clear-groups", *kept]


def ended(process: subprocess.Popen) -> tuple[int, str]:
    _, said = process.communicate(timeout=300)
    return process.returncode, said


@pytest.fixture
def place(model: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that both can read, with a model, images and an output folder that belongs to the team."""
    shutil.copytree(model, tmp_path / "model")
    pictures(tmp_path / "images", 400)
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, FIRST, TEAM)
    out.chmod(0o2775)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    assert gradviz("explain", "model", "images", "-o", "clean", cwd=tmp_path).returncode == 0
    return tmp_path


def test_both_at_once_and_each_waits_for_the_other(place: Path) -> None:
    arguments = ("explain", "model", "images", "-o", "out", "--lock-wait", "200")
    runs = [begin(user, SHARED, *arguments, cwd=place) for user in (FIRST, SECOND, FIRST, SECOND)]
    assert [ended(run) for run in runs] == [(0, "")] * 4
    assert content(place / "out") == content(place / "clean")
    assert statuses(place / "out") == {"current": 400}
    written = [line for line in (place / "out/manifest.jsonl").read_text().splitlines() if '"written"' in line]
    assert len(written) == 400  # nothing twice


def test_who_does_not_wait_is_told_so_and_touches_nothing(place: Path) -> None:
    arguments = ("explain", "model", "images", "-o", "out")
    runs = [begin(user, SHARED, *arguments, cwd=place) for user in (FIRST, SECOND)]
    answers = [ended(run) for run in runs]
    assert sorted(code for code, _ in answers) == [0, 11], answers
    assert len(max(said for _, said in answers).splitlines()) == 1
    assert content(place / "out") == content(place / "clean")


def test_another_look_by_the_second_replaces_pictures_of_the_first(place: Path) -> None:
    assert ended(begin(FIRST, SHARED, "explain", "model", "images", "-o", "out", cwd=place)) == (0, "")
    again = ("explain", "model", "images", "-o", "out", "--force")
    assert ended(begin(SECOND, SHARED, *again, cwd=place)) == (0, "")
    assert content(place / "out") == content(place / "clean")
    assert ended(begin(FIRST, SHARED, "gallery", "out", cwd=place))[0] == 0
    assert ended(begin(SECOND, SHARED, "gallery", "out", cwd=place))[0] == 0
    (place / "images/000/00007.png").unlink()
    assert ended(begin(SECOND, SHARED, "prune", "out", cwd=place))[0] == 0
    assert content(place / "clean").keys() - content(place / "out").keys() == {"000/00007.png.guided.png"}


def test_what_the_first_keeps_for_themself_is_left_alone(place: Path) -> None:
    """With the usual umask the lock, the manifest and the pictures of the first are not the second's to write."""
    assert ended(begin(FIRST, PRIVATE, "explain", "model", "images", "-o", "out", cwd=place)) == (0, "")
    before = content(place / "out"), (place / "out/manifest.jsonl").read_bytes()
    code, said = ended(begin(SECOND, PRIVATE, "explain", "model", "images", "-o", "out", "--force", cwd=place))
    assert code == 7 and len(said.splitlines()) == 1 and ".gradviz.lock" in said, said
    assert (content(place / "out"), (place / "out/manifest.jsonl").read_bytes()) == before
