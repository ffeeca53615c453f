"""The catalogue of odd images through the command: each comes out as expected, or costs itself only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import odd_images
import pytest
from command.batches import BARE
from commands import command, records, stored
from PIL import Image


@pytest.fixture(scope="module")
def odd(tmp_path_factory, model: Path) -> tuple[Path, list, subprocess.CompletedProcess]:
    """The catalogue, explained where the locale knows no character beyond ASCII."""
    folder = tmp_path_factory.mktemp("odd")
    cases = [
        case
        for case in odd_images.catalogue(folder / "images")
        if os.path.dirname(case.path) == os.fsencode(folder / "images")
    ]
    twins = folder / "twins"
    twins.mkdir()
    for case in cases:
        if case.twin is not None:
            Image.fromarray(case.twin).save(twins / f"{case.name}.twin.png")
    files = [case.path for case in cases if os.path.lexists(case.path) and case.name not in FOLDERS]
    (folder / "list").write_bytes(
        b"\0".join(b"images/" + os.path.basename(path) for path in files)
    )  # not all are named as images
    listed = ("--files-from", "list", "-0")
    arguments = command("explain", model, "twins", *listed, "-o", "out", "--raw", "--size", "input")
    run = subprocess.run(arguments, cwd=folder, env={**BARE, "LANG": "C"}, capture_output=True, timeout=200)
    return folder, cases, run


# In a folder these are searched or passed over, and no image by themselves.
FOLDERS = {"folder", "link-to-folder"}
# The name leaves no room for that of the picture.
LONG = {"name-long-255", "name-long-255-wide"}


def test_the_catalogue_comes_out_as_expected(odd) -> None:
    folder, cases, run = odd
    assert run.returncode == 3
    assert run.stdout == b""
    found = {os.fsencode(record["source"]): record for record in records(folder / "out")}
    wrong = []
    for case in cases:
        record = found.get(case.path)
        if record is None:
            wrong += [case.name] if case.name not in FOLDERS and os.path.lexists(case.path) else []
        elif case.name in LONG:
            wrong += [case.name] if record["error"]["kind"] != "name" else []
        elif case.outcome == "drawn":
            wrong += [case.name] if record["status"] != "written" else []
        elif record["status"] != "failed" or record["error"]["kind"] not in case.kinds:
            wrong.append(case.name)
    assert not wrong
    assert len(cases) > 400


def test_each_failed_image_is_one_printable_line(odd) -> None:
    folder, cases, run = odd
    said = [line for line in run.stderr.decode("utf-8").splitlines() if not line.startswith("gradviz: warning: ")]
    failed = [record for record in records(folder / "out") if record["status"] == "failed"]
    assert len(said) == len(failed) == len({record["source"] for record in failed})
    assert all(line.isprintable() and line.startswith("gradviz: images/") for line in said)
    assert "Traceback" not in run.stderr.decode()


def test_what_is_odd_is_said_in_one_line_each(odd) -> None:
    folder, cases, run = odd
    lines = run.stderr.decode("utf-8").splitlines()
    said = [
        line.split(": ", 3)[3]
        for line in lines
        if line.startswith(("gradviz: warning: images/", "gradviz: warning: twins/"))
    ]
    assert len(said) == len(set(said)) and all(map(str.isprintable, said))
    for part in {part for case in cases for part in case.said}:
        assert any(part in line for line in said), part


def test_odd_images_give_the_maps_of_their_clean_twins(odd) -> None:
    folder, cases, run = odd
    compared = 0
    for case in cases:
        picture = os.fsencode(folder / "out") + b"/" + os.path.basename(case.path) + b".guided.npy"
        if case.twin is None or case.name in LONG:
            continue
        got, want = np.load(os.fsdecode(picture)), np.load(folder / "out" / f"{case.name}.twin.png.guided.npy")
        if case.tolerance == 0:
            assert np.array_equal(got, want), case.name
            drawn = stored(picture[:-3] + b"png"), stored(folder / "out" / f"{case.name}.twin.png.guided.png")
            assert np.array_equal(*drawn), case.name
        else:  # a network with ReLUs is piecewise linear: a few gates may flip
            assert np.mean(np.abs(got - want) > 0.05 * np.abs(want).max()) < 0.25, case.name
        compared += 1
    assert compared > 150
