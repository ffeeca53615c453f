"""Are the gradients right? Small models against the eager reference, the worked example, finite differences.

About 90 s of processor time, shared by 2 cores. The large networks are in test_truth_slow.py.
"""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from models import CASES, CLASSES, NO_RELU, SLOW_CASES, Case, Reference, Table, images
from PIL import Image
from reference import MODES, attribution, difference
from worked import CAPPED_FEATURES, FEATURES, UPSTREAM, WORKED, missing_rows
from workers import Pool

import gradviz_cli
from gradviz_cli import LoadedModel, load
from gradviz_cli.api import Explanation
from gradviz_cli.errors import ExitCode, GradvizError, GradvizWarning
from gradviz_cli.rules import PLAIN

FINAL = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid, "none": tf.identity}


class Subject:
    """A model on disk, opened by gradviz, beside its reference and its images; results are kept."""

    def __init__(self, case: Case, folder: Path, reference: Reference, model: LoadedModel):
        self.case, self.folder, self.model = case, folder, model
        self.images = images(reference, case.shape)
        self.said: list[str] = []  # by the model, whichever test explains first
        self.explain = functools.cache(self._explained)
        self.truth = functools.cache(lambda mode, target: attribution(reference(mode), self.images, target))

    def _explained(self, mode: str, target: int | str) -> Explanation:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = self.model.explain(self.images, mode=mode, target=target)
        assert all(warning.category is GradvizWarning for warning in said)
        self.said += [str(warning.message) for warning in said]
        assert all("not patched" in words and self.case.left for words in self.said)
        return found


SUBJECTS = [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES)]


@pytest.fixture(scope="module", params=SUBJECTS, ids=str)
def subject(request, pool: Pool, tmp_path_factory):
    case = request.param
    folder = tmp_path_factory.mktemp("truth") / "model"
    reference = case.write(folder)
    with pool.serving():
        model = load(folder, preprocess="raw")
    return Subject(case, folder, reference, model)


def signature(folder: Path, batch: np.ndarray) -> np.ndarray:
    """What the model itself answers, run by TensorFlow's own loader."""
    root = tf.saved_model.load(str(folder))
    run = root.signatures["serving_default"]
    (name,) = run.structured_input_signature[1]
    (answer,) = run(**{name: tf.constant(batch)}).values()
    return answer.numpy()


# --- every small model --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_attribution_is_the_reference(subject, mode):
    got, want = subject.explain(mode, "top1"), subject.truth(mode, "top1")
    assert got.attribution.dtype == np.float32
    assert got.targets.tolist() == want.targets.tolist()
    assert difference(got.attribution, want.attribution) < 1e-4


def test_attribution_of_a_given_class_is_the_reference(subject):
    for target in (0, CLASSES - 1):
        got, want = subject.explain("guided", target), subject.truth("guided", target)
        assert got.targets.tolist() == [target] * len(subject.images)
        assert difference(got.attribution, want.attribution) < 1e-4


def test_the_modes_differ(subject):
    for one, other in itertools.combinations(MODES, 2):
        found, beside = (subject.explain(mode, "top1").attribution for mode in (one, other))
        assert difference(beside, found) > 1e-2, (one, other)


def test_scores_are_those_of_the_signature(subject):
    logits = np.stack([subject.explain("backprop", k).scores for k in range(CLASSES)], axis=1)
    answer = signature(subject.folder, subject.images)
    np.testing.assert_allclose(FINAL[subject.case.final](logits), answer, rtol=1e-4, atol=1e-5)
    top = subject.explain("backprop", "top1")
    assert top.targets.tolist() == answer.argmax(axis=1).tolist()
    np.testing.assert_allclose(top.scores, subject.truth("backprop", "top1").scores, rtol=1e-4)


def test_report_counts_what_the_signature_reaches(subject):
    subject.explain("guided", "top1")
    counted = subject.model.report.activations
    patched = {kind: (n, n) for kind, n in subject.case.patched.items()}
    left = {kind: (n, 0) for kind, n in subject.case.left.items()}
    assert {kind: tuple(count) for kind, count in counted.items()} == patched | left


def test_what_is_not_patched_is_said_once(subject):
    """With the first mode that changes the gradient, by whichever test."""
    for mode in MODES:
        subject.explain(mode, "top1")
    assert len(subject.said) == bool(subject.case.left)
    assert all(kind in words for words in subject.said for kind in subject.case.left)


# --- models without a ReLU, other scores --------------------------------------------------------------------


def test_without_relu_backprop_is_true_and_the_rest_refused(pool: Pool, tmp_path):
    reference = NO_RELU.write(tmp_path / "model")
    batch = images(reference, NO_RELU.shape)
    with pool.serving(), load(tmp_path / "model", preprocess="raw") as model:
        got = model.explain(batch, mode="backprop")
        assert difference(got.attribution, attribution(reference("backprop"), batch).attribution) < 1e-4
        for place, mode in enumerate(mode for mode in MODES if mode != PLAIN):
            said = nullcontext() if place else pytest.warns(GradvizWarning, match="not patched: 1 Silu")
            with said, pytest.raises(GradvizError) as refusal:  # each warning once
                model.explain(batch, mode=mode)
            assert refusal.value.code == ExitCode.MODEL_UNUSABLE


def test_score_output_is_behind_the_softmax(pool: Pool, tmp_path):
    reference = CASES[0].write(tmp_path / "model")
    batch = images(reference, CASES[0].shape)
    with pool.serving(), load(tmp_path / "model", preprocess="raw", score="output") as model:
        for mode in MODES:
            got = model.explain(batch, mode=mode)
            logits_of = reference(mode)
            want = attribution(lambda x, logits_of=logits_of: tf.nn.softmax(logits_of(x)), batch)
            assert difference(got.attribution, want.attribution) < 1e-4
            np.testing.assert_allclose(got.scores, signature(tmp_path / "model", batch).max(axis=1), rtol=1e-5)


# --- finite differences -------------------------------------------------------------------------------------


class Smooth(tf.Module):
    """softplus, tanh, no kink: logits = tanh(softplus(conv(x)) @ a) @ b."""

    def __init__(self):
        super().__init__()
        draw = np.random.default_rng(5)
        self.kernel = tf.Variable(draw.normal(0, 0.5, (3, 3, 3, 4)).astype(np.float32))
        self.a = tf.Variable(draw.normal(0, 0.3, (64, 6)).astype(np.float32))
        self.b = tf.Variable(draw.normal(size=(6, 3)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 6, 3])])
    def serve(self, image):
        hidden = tf.nn.softplus(tf.nn.conv2d(image, self.kernel, 1, "VALID"))
        return {"scores": tf.tanh(tf.reshape(hidden, [-1, 64]) @ self.a) @ self.b}

    def by_hand(self, x: np.ndarray) -> np.ndarray:
        """The same in NumPy and float64."""
        kernel, a, b = (v.numpy().astype(np.float64) for v in (self.kernel, self.a, self.b))
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
        hidden = np.logaddexp(0, np.einsum("nyxchw,hwck->nyxk", windows, kernel))
        return np.tanh(hidden.reshape(len(x), 64) @ a) @ b


def test_backprop_agrees_with_finite_differences(pool: Pool, tmp_path):
    net, step, target = Smooth(), 1e-4, 1
    tf.saved_model.save(net, str(tmp_path / "model"), signatures=net.serve)
    image = np.random.default_rng(6).normal(size=(1, 6, 6, 3)).astype(np.float32)
    nudges = step * np.eye(image.size).reshape(-1, 6, 6, 3)
    up, down = net.by_hand(image + nudges), net.by_hand(image - nudges)
    want = ((up - down)[:, target] / (2 * step)).reshape(image.shape)
    with pool.serving(), load(tmp_path / "model", preprocess="raw") as model:
        got = model.explain(image, mode="backprop", target=target)
    assert difference(got.attribution, want) < 1e-5
    np.testing.assert_allclose(got.scores, net.by_hand(image)[:, target], rtol=1e-5)


# --- the worked example -------------------------------------------------------------------------------------

# Score 0 has the table as its upstream gradient, score 1 the table with all signs turned.
TABLES = [UPSTREAM, -UPSTREAM]
OFFSET = 8  # makes the features below 8-bit pixels
CAPS = {4: lambda x: tf.minimum(tf.nn.relu(x), 4.0), 6: tf.nn.relu6}


def pixels(features: np.ndarray) -> np.ndarray:
    return (features + OFFSET).astype(np.float32).reshape(1, 3, 3, 1)


def test_worked_example(tmp_path):
    Table(TABLES, [tf.nn.relu, *CAPS.values()], OFFSET).write(tmp_path / "model")
    graph = (tmp_path / "model" / "saved_model.pb").read_bytes()
    with load(tmp_path / "model", preprocess="raw") as model:
        for mode, row in WORKED.items():
            for target, want in enumerate((row.downstream, row.turned)):
                got = model.explain(pixels(FEATURES), mode=mode, target=target)
                assert got.attribution[0, ..., 0].tolist() == want, (mode, target)
                # relu(features) * upstream: -2 - 5 + 12 - 2 + 12
                assert got.scores.tolist() == [15 if target == 0 else -15]
        for place, cap in enumerate(CAPS, start=1):
            features = np.where(CAPPED_FEATURES < 4, CAPPED_FEATURES, CAPPED_FEATURES + cap - 4)
            for mode, row in WORKED.items():
                got = model.explain(pixels(features), mode=mode, target=place * len(TABLES))
                assert got.attribution[0, ..., 0].tolist() == row.capped, (mode, cap)
    assert (tmp_path / "model" / "saved_model.pb").read_bytes() == graph


def test_worked_example_through_the_command_line(tmp_path):
    Table(TABLES, [tf.nn.relu], OFFSET).write(tmp_path / "model")
    Image.fromarray((FEATURES + OFFSET).astype(np.uint8)).save(tmp_path / "table.png")
    command = [sys.executable, "-m", "gradviz_cli", "explain", tmp_path / "model", tmp_path / "table.png"]
    options = ["-o", tmp_path / "out", "-m", "all", "--raw", "--preprocess", "raw"]
    root = Path(gradviz_cli.__file__).parents[1]
    done = subprocess.run([*command, *options], cwd=root, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = {path.name.split(".")[2] for path in (tmp_path / "out").glob("*.npy")}
    assert written == WORKED.keys(), missing_rows(written)
    for mode, row in WORKED.items():
        got = np.load(tmp_path / "out" / f"table.png.{mode}.npy")
        assert got.dtype == np.float32
        assert got[..., 0].tolist() == row.downstream, mode
