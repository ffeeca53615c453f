"""Every block of code of README and docs/ as who reads it would run it; a few minutes, as each run starts TensorFlow."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import stores
from command.documents import PAGES, README, arrange, blocks, lines, tables, words
from command.test_engines_slow import Cluster
from commands import environment, gradviz

from gradviz_cli import demo
from gradviz_cli.files import objects
from gradviz_cli.files.remote import Remote

pytestmark = pytest.mark.slow


def _surroundings(folder: Path) -> dict[str, str]:
    """A shell that finds this gradviz by its name."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "gradviz"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m gradviz_cli "$@"\n')
    program.chmod(0o755)
    return environment({"PATH": f"{program.parent}:{os.environ['PATH']}"})


def _lacks(line: str) -> str:
    """A package that the line needs and that is not installed."""
    needed = [*(["moto", "s3fs"] if "s3://" in line else []), *(["ray"] if "--engine ray" in line else [])]
    return next((name for name in needed if find_spec(name) is None), "")


@contextmanager
def _buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server for S3, with what the examples speak of."""
    with stores.s3(monkeypatch):
        forget = Request(f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")
        urlopen(forget).close()  # it remembers what servers before it in this process had
        for name in ("models", "photos", "maps"):
            objects.system(Remote("s3", name)).mkdir(name)
        for path in demo.MODEL.rglob("*"):
            if path.is_file():
                objects.put(Remote("s3", "models/birds") / str(path.relative_to(demo.MODEL)), path.read_bytes())
        for path in sorted(demo.IMAGES.iterdir())[:3]:
            objects.put(Remote("s3", "photos/2024") / path.name, path.read_bytes())
        yield


@contextmanager
def _cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster of Ray; its address."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster()
    try:
        yield cluster.address
    finally:
        cluster.close()


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.page == page for block in blocks("sh"))], ids=lambda page: page.name)  # fmt: skip
def test_commands_do_what_they_are_there_for(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = arrange(tmp_path / "here")
    told = [
        line
        for block in blocks("sh")
        if block.page == page and any(map(words, lines(block)))  # what installs: test_installed_slow.py
        for line in lines(block)
    ]
    able = [line for line in told if not _lacks(line)]
    with ExitStack() as around:
        if any("s3://" in line for line in able):
            around.enter_context(_buckets(monkeypatch))
        address = around.enter_context(_cluster(monkeypatch)) if any("head:" in line for line in able) else ""
        surroundings = _surroundings(tmp_path)
        for line in able:
            typed = re.sub("head:[0-9]+", address, line)
            typed += " --force" * ("--engine" in line)  # where nothing is to do no engine is asked
            done = subprocess.run(
                ["bash", "-ec", f"set -o pipefail; {typed}"],
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
    if left := [line for line in told if line not in able]:
        pytest.skip(f"not tried, as packages are not installed: {left}")


def test_a_run_in_a_store_asks_for_what_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (table,) = (table for table in tables() if table.head[0] == "request")
    an_image = {method: int(cell[0]) for method, cell, _ in table.rows if cell}
    told = dict(zip(table.column(), table.column(2), strict=True))
    ((walks, again),) = re.findall(r"IMAGES in (\d) walks, in (\d) when nothing is to do", told["LIST"])
    ((batches, locks),) = re.findall(r"(\d) a batch, for its lines; (\d) for the lock", told["PUT"])
    for module in ("moto", "s3fs"):
        pytest.importorskip(module)
    with _buckets(monkeypatch), caplog.at_level(logging.INFO, "werkzeug"):
        count = len(list(objects.everything(Remote("s3", "photos"))))
        for images, searched in ((count, walks), (0, again)):  # nothing to do the second time
            caplog.clear()
            done = gradviz("explain", "demo", "s3://photos", "-o", "s3://maps", cwd=tmp_path)
            assert (done.returncode, done.stderr) == (0, "")
            asked = re.findall(r'"([A-Z]+) /(photos|maps)/?(\S*) HTTP', caplog.text)
            seen = Counter(method for method, _, path in asked if path.endswith((".jpg", ".png")))
            assert seen == {method: each * images for method, each in an_image.items() if images}
            folders = 2  # of images: the bucket, and one in it
            listed = sum(bucket == "photos" and "list-type" in path for _, bucket, path in asked)
            assert folders <= listed <= int(searched) * folders  # some releases of s3fs remember a first walk
            put = Counter(path.split("/")[0] for method, _, path in asked if method == "PUT")
            assert put["manifest"] == int(batches) and 0 <= put[".gradviz.lock.claim"] - int(locks) <= 2


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
