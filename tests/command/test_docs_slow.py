"""Every block of code of README and docs/ as who reads it would run it; a few minutes, as each run starts TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command.documents import PAGES, README, arrange, blocks, lines, words
from commands import environment, gradviz

pytestmark = pytest.mark.slow


def _surroundings(folder: Path) -> dict[str, str]:
    """A shell that finds this gradviz by its name."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "gradviz"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m gradviz_cli "$@"\n')
    program.chmod(0o755)
    return environment({"PATH": f"{program.parent}:{os.environ['PATH']}"})


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.page == page for block in blocks("sh"))], ids=lambda page: page.name)  # fmt: skip
def test_commands_do_what_they_are_there_for(page: Path, tmp_path: Path) -> None:
    here = arrange(tmp_path / "here")
    surroundings = _surroundings(tmp_path)
    for block in blocks("sh"):
        if block.page != page or not any(map(words, lines(block))):
            continue  # what installs: test_installed_slow.py
        for line in lines(block):
            done = subprocess.run(
                ["bash", "-ec", f"set -o pipefail; {line}"],
                cwd=here,
                env=surroundings,
                capture_output=True,
                text=True,
                timeout=300,
                stdin=subprocess.DEVNULL,
            )
            # A range that this model was not trained on may leave nothing to draw.
            fine = (0, 4) if "--mean" in line or "--pixel-range" in line else (0,)
            assert done.returncode in fine, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != README and any(block.page == page for block in blocks("python"))]
)
def test_python_runs_as_it_stands(page: Path, tmp_path: Path) -> None:
    """All blocks of a page one after the other, as in a notebook."""
    here = arrange(tmp_path / "here")
    text = "\n".join(block.text for block in blocks("python") if block.page == page)
    run = [sys.executable, "-P", "-c", text]
    done = subprocess.run(run, cwd=here, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lines_that_export_a_model_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of README; PyTorch's is compiled only (test_docs.py), as it is not installed here."""
    import keras
    import tensorflow as tf
    import tf_keras

    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in blocks("python") if block.page == README)
    tried = 0
    for line in block.text.splitlines():
        code, made_by = (part.strip() for part in line.split("#"))
        if made_by.startswith("PyTorch"):
            continue
        library = tf_keras if "tf_keras" in made_by else keras
        layers = library.layers
        net = library.Sequential(
            [layers.Input((16, 16, 3)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)]
        )
        folder = f"model{tried}"
        exec(code.replace('"folder"', f'"{folder}"'), {"model": net, "module": net, "tf": tf})
        done = gradviz("inspect", folder, cwd=tmp_path)
        assert done.returncode == 0 and "yes" in done.stdout.splitlines()[0], (line, done.stdout, done.stderr)
        tried += 1
    assert tried == 3
