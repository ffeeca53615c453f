"""Races in an output folder: a folder in it is swapped for a link, and back, while runs, sweeps, prunes and pages write there.

Nothing that lies where the link leads is changed, made or removed. Slow (`make slow`), a minute.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from gradviz_cli import gallery
from gradviz_cli.batch.manifest import Manifest
from gradviz_cli.cli import main
from gradviz_cli.errors import GradvizError
from gradviz_cli.files.whole import TEMPORARY, StagedFiles, publish, sweep
from gradviz_cli.plan.results import Result

pytestmark = pytest.mark.slow

SWAPS = 200
NAMES = [f"{number}.png.guided.png" for number in range(20)]
STALE = f"{TEMPORARY}{'0' * 16}.tmp"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """`out/sub`, and beside it `victim` with the same files, which a link will lead to."""
    for folder in (tmp_path / "out" / "sub", tmp_path / "victim"):
        folder.mkdir(parents=True)
        for name in (*NAMES, STALE):
            (folder / name).write_bytes(b"same")
    listed(tmp_path / "out")
    return tmp_path / "out"


def listed(out: Path) -> None:
    """A manifest that says of all of them that their images are gone."""
    sha256 = hashlib.sha256(b"same").hexdigest()
    manifest = Manifest(out)
    manifest.add(
        *(
            Result(f"/nowhere/{name[:-11]}", "written", (f"sub/{name}",), hashes={f"sub/{name}": sha256})
            for name in NAMES
        )
    )
    manifest.close()


def write(out: Path) -> None:
    with StagedFiles(out) as files:
        for name in NAMES:
            files.add(out / "sub" / name, b"same")
        for staged in files.staged:
            publish(staged)


def prune(out: Path) -> None:
    write(out)
    main(["prune", str(out), "--even-all"])


WORKS: dict[str, Callable[[Path], object]] = {
    "write": write,
    "sweep": lambda out: sweep(out, below=True),
    "prune": prune,
    "gallery": gallery.write,
}


@pytest.mark.parametrize("work", list(WORKS))
def test_what_lies_where_a_link_leads_is_left_alone(out: Path, work: str, capfd: pytest.CaptureFixture) -> None:
    victim, over, chance = out.parent / "victim", threading.Event(), random.Random(work)
    before = state(victim)

    def work_on() -> None:
        while not over.is_set():
            with suppress(GradvizError):
                WORKS[work](out)

    worker = threading.Thread(target=work_on)
    worker.start()
    try:
        for _ in range(SWAPS):
            time.sleep(chance.uniform(0, 0.02))
            with suppress(OSError):
                os.rename(out / "sub", out / "aside")
                os.symlink(victim, out / "sub")
            time.sleep(chance.uniform(0, 0.02))
            with suppress(OSError):
                os.unlink(out / "sub")
            with suppress(OSError):
                os.rename(out / "aside", out / "sub")
            shutil.rmtree(out / "aside", ignore_errors=True)
    finally:
        over.set()
        worker.join()
    assert state(victim) == before
    assert "internal error" not in capfd.readouterr().err


def state(folder: Path) -> dict[str, tuple]:
    return {path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}
