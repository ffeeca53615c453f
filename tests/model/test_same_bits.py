"""An image has the same numbers, bit for bit, whatever is computed beside it: batches, neighbours, order, processors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import odd_sizes
import pytest

from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.model import Model
from gradviz_cli.worker.run.targets import Explained

MODES = ("backprop", "guided")
IMAGES = np.random.default_rng(0).uniform(-1, 1, (9, odd_sizes.HEIGHT, odd_sizes.WIDTH, 3)).astype(np.float32)
QUICK = ("dense", "lstm", "power")  # those that differ where images share a call


def loaded(folder: Path) -> Model:
    return Model(ModelOptions(str(folder), preprocess="signed"), MODES)


def told(model: Model, images: np.ndarray) -> list[np.ndarray]:
    """Everything that is said of each image, in its order."""
    found: Explained = model.explain(images, [-1, 2], MODES)
    columns = [found.index, found.rank, found.score, found.output]
    return [*columns, *(np.moveaxis(gradients, 1, 0) for gradients in found.gradients)]


def equal(some: list[np.ndarray], others: list[np.ndarray], places: np.ndarray | slice) -> bool:
    return all(np.array_equal(one, other[places], equal_nan=True) for one, other in zip(some, others, strict=True))


def check(model: Model) -> None:
    alone = [told(model, IMAGES[place : place + 1]) for place in range(len(IMAGES))]
    apart = [np.concatenate(column) for column in zip(*alone, strict=True)]
    assert apart[-1].any()
    for size in range(2, len(IMAGES) + 1):
        order = np.random.default_rng(size).permutation(len(IMAGES))[:size]
        assert equal(told(model, IMAGES[order]), apart, order), size


@pytest.mark.parametrize("name", QUICK)
def test_beside_whichever_others(name: str, tmp_path: Path) -> None:
    check(loaded(odd_sizes.write(tmp_path / "model", name)))


def test_these_would_differ_in_one_call(tmp_path: Path) -> None:
    """The proof can fail: TensorFlow itself gives other bits to images that share a call."""
    differentiator = loaded(odd_sizes.write(tmp_path / "model", "dense"))._differentiator
    together = differentiator.explain(IMAGES, [0], MODES)
    alone = [differentiator.explain(IMAGES[place : place + 1], [0], MODES) for place in range(len(IMAGES))]
    assert any(not np.array_equal(together.score[place], one.score[0]) for place, one in enumerate(alone))


def test_of_a_model_that_takes_four_at_once(tmp_path: Path) -> None:
    check(loaded(odd_sizes.write(tmp_path / "model", "dense", batch=4)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in odd_sizes.NETWORKS if name not in QUICK])
def test_beside_whichever_others_for_many_kinds(name: str, tmp_path: Path) -> None:
    check(loaded(odd_sizes.write(tmp_path / "model", name)))


ON_CORES = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import numpy as np
from model.test_same_bits import IMAGES, loaded, told
np.savez(sys.argv[3], *told(loaded(sys.argv[2]), IMAGES))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one processor")
@pytest.mark.parametrize("name", odd_sizes.NETWORKS)
def test_on_one_processor_and_two(name: str, tmp_path: Path) -> None:
    folder, found = odd_sizes.write(tmp_path / "model", name), []
    for cores in (1, 2):
        file = tmp_path / f"{cores}.npz"
        tests = Path(__file__).parents[1]
        path = os.pathsep.join(map(str, (tests.parent, tests, tests / "cases")))
        run = [sys.executable, "-c", ON_CORES, str(cores), str(folder), str(file)]
        subprocess.run(run, check=True, env={**os.environ, "PYTHONPATH": path}, timeout=200)
        with np.load(file) as arrays:
            found.append([arrays[key] for key in arrays.files])
    assert equal(found[0], found[1], slice(None))
