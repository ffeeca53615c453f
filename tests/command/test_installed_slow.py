"""The wheel, installed by pip, pipx and uv as docs/install.md says, runs and brings its man page and completions.

Everything comes from the package index, TensorFlow too; without one they are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from command.documents import DOCS, ROOT, blocks, lines, tables, words

pytestmark = pytest.mark.slow

BROUGHT = "share/man/man1/gradviz.1"


def _run(*arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {**(env or {})}
    done = subprocess.run([str(one) for one in arguments], env=surroundings, cwd=cwd, capture_output=True, text=True)
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


@pytest.fixture
def place() -> Iterator[Path]:
    """Where something is installed. Not kept: TensorFlow comes along."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _works(program: Path, folder: Path) -> None:
    """The command runs from anywhere, and draws."""
    assert _run(program, "--version", cwd=folder).startswith("gradviz ")
    _run(program, "demo", cwd=folder)
    assert len(list((folder / "heatmaps").glob("*.guided.png"))) == 10


def test_pip(wheel: Path, place: Path) -> None:
    venv.create(place / "venv", with_pip=True)
    _run(place / "venv" / "bin" / "pip", "install", "-q", wheel)
    (shells,) = (table for table in tables() if table.head[0] == "shell")
    for file in (BROUGHT, *shells.names(1)):
        assert (place / "venv" / file).is_file(), file
    assert (place / "venv" / BROUGHT).read_text() == (DOCS / "man" / "gradviz.1").read_text()
    _works(place / "venv" / "bin" / "gradviz", place)


def test_pipx(tools: Path, wheel: Path, place: Path) -> None:
    places = {f"PIPX_{name}": str(place / name) for name in ("HOME", "BIN_DIR", "MAN_DIR")}
    _run(tools / "pipx", "install", "--python", sys.executable, wheel, env=places)
    assert (place / "MAN_DIR" / "man1" / "gradviz.1").is_file()
    _works(place / "BIN_DIR" / "gradviz", place)


def test_uv(tools: Path, wheel: Path, place: Path) -> None:
    places = {
        "UV_TOOL_DIR": str(place / "tools"),
        "UV_TOOL_BIN_DIR": str(place / "bin"),
        "UV_CACHE_DIR": str(place / "cache"),
    }
    _run(tools / "uv", "tool", "install", "--python", sys.executable, wheel, env=places)
    _works(place / "bin" / "gradviz", place)


def test_every_installer_that_is_named_is_tried() -> None:
    named = {line.split()[0] for block in blocks("sh") for line in lines(block) if not words(line)}
    assert named == {"pip", "pipx", "uv", "make"}  # make's targets: test_docs.py
