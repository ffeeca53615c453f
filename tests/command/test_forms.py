"""MODEL in other forms than a folder, through the whole command: turned or unpacked once, and current without either."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from commands import gradviz, picture

from gradviz_cli.demo import MODEL


@pytest.fixture
def here(tmp_path: Path) -> Path:
    picture(tmp_path / "a.png", 1)
    return tmp_path


def explain(here: Path, *more: str):
    return gradviz("explain", *more, "-o", "out", cwd=here, env={"XDG_CACHE_HOME": str(here / "cache")})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_file_of_keras(here: Path, name: str) -> None:
    layers = keras.layers
    net = [layers.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)]
    keras.Sequential(net).save(here / name)
    done = explain(here, name, "a.png", "--preprocess", "raw", "--raw")
    assert (done.returncode, done.stderr) == (0, "")
    assert np.load(here / "out" / "a.png.guided.npy").shape == (8, 8, 3)
    (kept,) = (here / "cache" / "gradviz").iterdir()
    before = (here / "out" / "a.png.guided.png").stat().st_ino
    (kept / "saved_model.pb").write_bytes(b"")  # nobody is to read it
    again = explain(here, name, "a.png", "--preprocess", "raw", "--raw")
    assert (again.returncode, again.stderr) == (0, "")
    assert (here / "out" / "a.png.guided.png").stat().st_ino == before
    assert [path.name for path in here.glob("cache/gradviz/*")] == [kept.name]


def test_an_archive_has_its_labels(here: Path) -> None:
    shutil.make_archive(str(here / "birds"), "gztar", MODEL.parent, MODEL.name)
    done = explain(here, "birds.tar.gz", "a.png", "--dry-run", "-t", "star")
    assert done.returncode == 0 and done.stderr.startswith("would draw 1 picture"), done.stderr
    wrong = explain(here, "birds.tar.gz", "a.png", "--dry-run", "-t", "sparrow")
    assert wrong.returncode == 2 and "sparrow" in wrong.stderr


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["a.png", "model"], "a.png is no model, but model is one; MODEL comes first: gradviz explain model a.png"),
        (["https://a.b/model", "a.png"], "https://a.b/model is an address"),
        (["model", "https://bucket/a.png"], "https://bucket/a.png is an address"),
        (["all", "a.png"], "all holds several models: one, two"),
    ],
)
def test_usage_errors_repeat_what_was_typed(here: Path, arguments: list[str], said: str) -> None:
    for name in ("model", "all/one", "all/two"):
        (here / name).mkdir(parents=True)
        (here / name / "saved_model.pb").touch()
    done = explain(here, *arguments)
    assert done.returncode == 2 and said in done.stderr and not (here / "out").exists()
