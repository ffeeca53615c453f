"""Several processes that explain parts of one set of images into one OUT at the same time, and are killed while they do."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from command.power_cut import explained
from commands import ROOT, content, files, records, temporaries

from gradviz_cli.batch import pipeline

KILLED = -signal.SIGKILL


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """`explained` puts one in the place of the explainer; here it goes again."""
    monkeypatch.setattr(pipeline, "Explainer", pipeline.Explainer)


def images(folder: Path, count: int) -> Path:
    for number in range(count):
        (folder / f"{number % 5}").mkdir(parents=True, exist_ok=True)
        (folder / f"{number % 5}" / f"{number:03}.png").write_text(f"good {number % 250 + 1}")
    return folder


def raced(out: Path, photos: Path, cuts: Iterable[int]) -> list[int]:
    """Exit codes of as many shards as there are cuts, which start together; each is killed at that sync (0: never)."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "cases")))
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    cuts = list(cuts)
    running = []
    for number, cut in enumerate(cuts, 1):
        words = ["-m", "command.power_cut", str(out), str(photos), str(cut), "killed", "-", f"{number}/{len(cuts)}"]
        running.append(subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL))
    return [process.wait(300) for process in running]


def check_whole(out: Path, clean: dict[str, bytes]) -> None:
    """OUT is what one run leaves: every picture, byte for byte; lines of one file; nothing besides."""
    assert content(out) == clean and not temporaries(out)
    assert files(out) - clean.keys() == {"manifest.jsonl", ".gradviz.lock"} and not (out / ".gradviz.shards").exists()
    named = {name for line in records(out) for name in line["outputs"]}
    assert named == clean.keys()
    assert len({json.dumps(line) for line in records(out)}) == len(records(out)), "a line was moved twice"


def test_shards_race_and_are_killed(tmp_path: Path) -> None:
    photos = images(tmp_path / "photos", 24)
    assert explained(tmp_path / "clean", photos) == 0
    clean = content(tmp_path / "clean")
    assert raced(tmp_path / "out", photos, (20, 0)) == [KILLED, 0]
    assert content(tmp_path / "out").keys() < clean.keys()
    before = content(tmp_path / "out")
    assert [explained(tmp_path / "out", photos, (number, 2)) for number in (2, 1)] == [0, 0]
    check_whole(tmp_path / "out", clean)
    again = [line for line in records(tmp_path / "out") if line["status"] == "current"]
    assert len(again) > 8 and {name for line in again for name in line["outputs"]} <= before.keys()


@pytest.mark.slow
def test_eight_shards_race_and_are_killed_again_and_again(tmp_path: Path) -> None:
    """Half of them in every round, the moving of lines among it; no picture is another one's, and a line is there once."""
    photos = images(tmp_path / "photos", 200)
    assert explained(tmp_path / "clean", photos) == 0
    clean, draw, kills = content(tmp_path / "clean"), random.Random(17), 0
    for number in range(4):
        out = tmp_path / f"out{number}"
        for syncs in (150, 80, 40, 30):  # fewer as there is less to do; the last ones while lines are moved
            codes = raced(out, photos, [draw.choice((0, draw.randrange(1, syncs))) for _ in range(8)])
            assert set(codes) <= {0, KILLED}
            kills += codes.count(KILLED)
        assert raced(out, photos, [0] * 8) == [0] * 8
        check_whole(out, clean)
    assert kills > 15
