"""The wheel, installed by pip, pipx and uv as docs/install.md says, runs and brings its man page and completions.

The installers come from the package index, the dependencies of gradviz from this environment: what is tried is the wheel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

import click
import pytest
from command.documents import DOCS, ROOT, blocks, lines, tables, words

pytestmark = pytest.mark.slow

BROUGHT = "share/man/man1/gradviz.1"
HERE = str(Path(click.__file__).parents[1])  # what gradviz depends on


def _run(*arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(one) for one in arguments], env={**os.environ, **(env or {})}, cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the installers; its programs."""
    folder = tmp_path_factory.mktemp("tools")
    venv.create(folder, with_pip=True)
    got = subprocess.run(
        [folder / "bin" / "pip", "install", "-q", "pipx", "uv", "build"], capture_output=True, text=True
    )
    if got.returncode:
        pytest.skip(f"no package index to be had: {got.stderr[-200:]}")
    return folder / "bin"


@pytest.fixture(scope="module")
def wheel(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of what git holds, as from a fresh clone."""
    clone, dist = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    archive = subprocess.run(["git", "-C", ROOT, "archive", "HEAD"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "x"], cwd=clone, input=archive, check=True)
    _run(tools / "python", "-m", "build", "--wheel", "-o", dist, clone)
    (found,) = dist.glob("*.whl")
    return found


def _works(program: Path, folder: Path) -> None:
    """The command runs from anywhere, and draws."""
    surroundings = {"PYTHONPATH": HERE, "PYTHONSAFEPATH": "1"}
    assert _run(program, "--version", env=surroundings, cwd=folder).startswith("gradviz ")
    _run(program, "demo", env=surroundings, cwd=folder)
    assert len(list((folder / "heatmaps").glob("*.guided.png"))) == 10


def test_pip(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    _run(tmp_path / "venv" / "bin" / "pip", "install", "--no-deps", wheel)
    (shells,) = (table for table in tables() if table.head[0] == "shell")
    for file in (BROUGHT, *shells.names(1)):
        assert (tmp_path / "venv" / file).is_file(), file
    assert (tmp_path / "venv" / BROUGHT).read_text() == (DOCS / "man" / "gradviz.1").read_text()
    _works(tmp_path / "venv" / "bin" / "gradviz", tmp_path)


def test_pipx(tools: Path, wheel: Path, tmp_path: Path) -> None:
    places = {f"PIPX_{name}": str(tmp_path / name) for name in ("HOME", "BIN_DIR", "MAN_DIR")}
    _run(tools / "pipx", "install", "--python", sys.executable, "--pip-args=--no-deps", wheel, env=places)
    assert (tmp_path / "MAN_DIR" / "man1" / "gradviz.1").is_file()
    _works(tmp_path / "BIN_DIR" / "gradviz", tmp_path)


def test_uv(tools: Path, wheel: Path, tmp_path: Path) -> None:
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    without = tmp_path / "without.txt"
    without.write_text(
        "".join(f"{name}; python_version < '3'\n" for name in ("tensorflow", "numpy", "pillow", "click"))
    )
    _run(tools / "uv", "tool", "install", "--python", sys.executable, "--overrides", without, wheel, env=places)
    _works(tmp_path / "bin" / "gradviz", tmp_path)


def test_every_installer_that_is_named_is_tried() -> None:
    named = {line.split()[0] for block in blocks("sh") for line in lines(block) if not words(line)}
    assert named == {"pip", "pipx", "uv", "make"}  # make's targets: test_docs.py
