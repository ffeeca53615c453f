"""What somebody before a terminal sees of a run, and what nobody sees of one from cron."""

from __future__ import annotations

import fcntl
import shutil
import struct
import termios
import time
from pathlib import Path

import pytest
from command.batches import WORKER, pictures
from commands import child_running, gradviz, on_terminal, records, shown, until

BACK = "\r\x1b[K"


def test_a_run_from_the_first_moment_to_the_last(model: Path, photos: Path, tmp_path: Path) -> None:
    code, said = on_terminal("explain", model, photos, "-o", "maps", cwd=tmp_path)
    assert code == 0
    steps = [step for step in said.split(BACK) if step]
    assert steps[0] == "starting"  # before anything large is imported
    moments = [f"reading {model}"[:99], f"starting TensorFlow, reading {model.name}", "40/40 images", "40 written in "]
    found = [next(place for place, step in enumerate(steps) if step.startswith(moment)) for moment in moments]
    assert found == sorted(found)
    last = shown(said)[-1]
    assert last.endswith(" s: 40 pictures in maps; to look at them: gradviz gallery maps --open")


@pytest.mark.slow
def test_whoever_stops_it_is_told_how_to_go_on(model: Path, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 300)
    out = tmp_path / "maps"
    arguments = ["explain", model, images, "-o", out, "--batch-size", "2", "--jobs", "1"]

    def stop(terminal: int, process) -> None:
        until(lambda: len(records(out)) > 3)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 12, 0, 0))
        time.sleep(0.5)
        process.send_signal(2)

    code, said = on_terminal(*arguments, cwd=tmp_path, until_="0/300 images", then=stop)
    assert code == 130
    done = len(records(out))
    last = shown(said)[-1]
    assert last.endswith("every file is whole; the same command goes on from there")
    told = int(last.removeprefix("gradviz: stopped: ").split()[0])
    assert 0 < told <= done < 300
    assert len([step for step in said.split(BACK) if "/300" in step][-1]) < 12  # the terminal was made that narrow


def test_before_the_first_image_too(model: Path, photos: Path, tmp_path: Path) -> None:
    def stop(terminal: int, process) -> None:
        until(lambda: child_running(process.pid, WORKER))
        process.send_signal(2)

    code, said = on_terminal("explain", model, photos, cwd=tmp_path, until_="starting TensorFlow", then=stop)
    assert code == 130
    assert shown(said)[-1] == "gradviz: stopped before the first image was done; the same command begins anew"


def test_the_page_is_opened_in_the_browser(done: Path, tmp_path: Path) -> None:
    browser, out = tmp_path / "browser", tmp_path / "my maps"
    browser.write_text('#!/bin/sh\necho "$1" > "$0.opened"\n')
    browser.chmod(0o755)
    shutil.copytree(done, out)
    page = out / "index.html"
    code, said = on_terminal("gallery", out, "--open", cwd=tmp_path, env={"BROWSER": str(browser)})
    assert (code, said) == (0, f"{page}\n")
    assert (tmp_path / "browser.opened").read_text() == f"{page.as_uri()}\n"
    run = gradviz(
        "gallery", out, "--open", cwd=tmp_path, env={"BROWSER": "/nowhere", "PATH": "/nowhere", "DISPLAY": ""}
    )
    assert run.returncode == 2 and "set BROWSER" in run.stderr and str(page) in run.stderr
    assert gradviz("gallery", out, cwd=tmp_path).stdout == ""


@pytest.mark.parametrize("terminal", ["dumb", "xterm"])
def test_a_terminal_that_writes_over_nothing_gets_lines(model: Path, tmp_path: Path, terminal: str) -> None:
    """Nobody types an image into it either."""
    code, said = on_terminal("explain", model, "-", cwd=tmp_path, env={"TERM": terminal})
    assert code == 2 and shown(said)[-1].startswith("gradviz: -: stdin is a terminal")
    assert (BACK in said) == (terminal == "xterm")
