"""The proof at load, from outside: once a model, remembered in the manifest, shown, left out only where that is asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny
from commands import content, picture, pixels, records
from commands import gradviz as unproved


def gradviz(*arguments, cwd: Path):
    """As users run it."""
    return unproved(*arguments, cwd=cwd, env={"GRADVIZ_EXPLAIN_PROOF": ""})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, photos, and what a first run made of them."""
    folder = tmp_path_factory.mktemp("proof")
    tiny.write(folder / "model")
    for name in "ab":
        picture(folder / "photos" / f"{name}.png", ord(name))
    run = gradviz("explain", "model", "photos", "-o", "out", cwd=folder)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", ""), "a proof that holds is silent"
    return folder


def proofs(out: Path) -> list:
    return [record["proved"] for record in records(out) if "proved" in record]


def test_one_line_of_the_manifest_holds_it(folder: Path) -> None:
    assert len(records(folder / "out")) == 2
    (proof,) = proofs(folder / "out")
    names = [witness["name"] for witness in proof["found"]["witnesses"]]
    assert names == ["forward", "class", "marks", "independence", "slope"]
    assert not any(witness["failed"] for witness in proof["found"]["witnesses"])


def test_the_next_run_has_it_and_the_pictures_are_the_same(folder: Path) -> None:
    before = content(folder / "out")
    run = gradviz("explain", "model", "photos", "-o", "out", "--force", "-v", cwd=folder)
    assert run.returncode == 0 and "proof: forward " in run.stderr
    assert content(folder / "out") == before
    assert len(proofs(folder / "out")) == 1, "it was not proved again"
    run = gradviz("explain", "model", "photos", "-o", "out", "--force", "--proof", "always", cwd=folder)
    found = proofs(folder / "out")
    assert run.returncode == 0 and len(found) == 2
    assert found[1]["found"]["witnesses"][-1]["value"] < 0.25, "asked in any case"


def test_another_folder_has_it_too(folder: Path) -> None:
    """The cache of this user remembers it, which is changed here to tell where it comes from."""
    (proof,) = proofs(folder / "out")[:1]
    kept = Path(os.environ["XDG_CACHE_HOME"], "gradviz", f"proof-{proof['key']}", "proof.json")
    told = json.loads(kept.read_text())
    assert told == proof
    before = kept.read_text()
    told["found"]["witnesses"][0]["value"] = 1.25e-9
    kept.write_text(
        json.dumps(told, separators=(",", ":")).ljust(len(before))
    )  # of another size it would not be believed
    try:
        run = gradviz("explain", "model", "photos", "-o", "new", cwd=folder)
    finally:
        kept.write_text(before)
    assert run.returncode == 0 and proofs(folder / "new") == [told]
    assert content(folder / "new") == content(folder / "out")


def test_without_one_every_line_says_so(folder: Path) -> None:
    run = gradviz("explain", "model", "photos", "-o", "unproved", "--proof", "never", cwd=folder)
    assert run.returncode == 0 and [record["proof"] for record in records(folder / "unproved")] == ["never", "never"]
    for name in ("a.png.guided.png", "b.png.guided.png"):
        np.testing.assert_array_equal(pixels(folder / "unproved" / name), pixels(folder / "out" / name))
    run = gradviz("explain", "model", "photos", "-o", "unproved", "--dry-run", cwd=folder)
    assert run.stdout.count("b.png") == 1, "what was not proved is not current for a run with proof"


def test_inspect_shows_it(folder: Path) -> None:
    told = json.loads(gradviz("inspect", "model", "--json", cwd=folder).stdout)
    assert [witness["failed"] for witness in told["proof"]["witnesses"]] == [False] * 5 and told["problem"] is None
    (found,) = told["found"]
    assert (found["type"], found["patched"], found["values"]) == ("Relu", True, [0, 0, 0, 1, 3, 7])
    lines = gradviz("inspect", "model", "--proof", "never", cwd=folder).stdout.splitlines()
    assert "proof       not tried" in lines
    assert any(line.startswith("  Relu: f(-3, -1, 0, 1, 3, 7) = 0, 0, 0, 1, 3, 7, ") for line in lines)


def mixing(folder: Path) -> Path:
    """The mean over a batch is taken from each of its images."""
    module = tf.Module()
    module.kernel = tf.Variable(np.random.default_rng(1).normal(0, 0.3, (3, 3, 3, 5)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3])])
    def serve(image):
        image = image - tf.reduce_mean(image, 0, keepdims=True) / 2
        return {"scores": tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, module.kernel, 1, "SAME")), [1, 2])}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def test_a_model_that_mixes_its_batch_says_so_and_gives_an_image_one_picture(folder: Path) -> None:
    mixing(folder / "mixing")
    options = ("-o", "mixed", "--preprocess", "unit", "--raw")
    run = gradviz("explain", "mixing", "photos", *options, cwd=folder)
    (line,) = run.stderr.splitlines()
    assert run.returncode == 0 and "change with its neighbours" in line and "images are run one by one" in line
    together = content(folder / "mixed")
    gradviz("explain", "mixing", "photos/a.png", "-o", "alone", *options[2:], cwd=folder)
    alone = content(folder / "alone")
    assert alone and all(together[name] == data for name, data in alone.items())
