"""Relevance of attention against an eager tape in float64, in every way in which transformers are spelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import vits
from vits import CLASSES, FORMS, GRID, HEIGHT, WIDTH, Form

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.model import Model

METHODS = ("backprop.chefer", "backprop.attention-rollout")
PATCHES = GRID[0] * GRID[1]


def loaded(folder: Path, form: Form) -> Model:
    vits.write(folder, form)
    return Model(ModelOptions(str(folder), preprocess="unit"), METHODS)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(8).uniform(0, 1, (2, HEIGHT, WIDTH, 3)).astype(np.float32)


def rows(form: Form) -> list[int]:
    """The tokens that the score reads."""
    start = PATCHES if form.last else 0
    if form.read == "beside":
        return list(range(start, start + min(form.beside, 2)))
    return list(range(form.beside if form.read == "patches" else 0, PATCHES + form.beside))


def of_patches(relevance: np.ndarray, form: Form) -> np.ndarray:
    start = 0 if form.last else form.beside
    return relevance[rows(form)].mean(0)[start : start + PATCHES].reshape(GRID)


def chefer(attention: list, gradients: list) -> np.ndarray:
    found = np.eye(len(attention[0][0]))
    for value, slope in zip(attention, gradients, strict=True):
        found += np.clip(value * slope, 0, None).mean(0) @ found
    return found


def rollout(attention: list) -> np.ndarray:
    mixed = [0.5 * value.mean(0) + 0.5 * np.eye(len(value[0])) for value in attention]
    return np.linalg.multi_dot(mixed[::-1])


QUICK = {"class token", "a tensor for each head"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FORMS]
)
def test_relevance_is_that_of_an_eager_tape(name, tmp_path, images) -> None:
    form = FORMS[name]
    model = loaded(tmp_path / "model", form)
    assert model.facts.taps[0].size == GRID and len(model.facts.taps[0].layers) == vits.LAYERS
    targets = [0, CLASSES - 1]
    found = model.explain(images, targets, METHODS)
    for place, target in enumerate(targets):
        for number, image in enumerate(images):
            attention, gradients = vits.exact(image, target, form)
            for maps, want in zip(found.gradients, (chefer(attention, gradients), rollout(attention)), strict=True):
                want = of_patches(want, form)
                off = np.linalg.norm(maps[place, number, ..., 0] - want) / np.linalg.norm(want)
                assert off < 1e-4, (target, number)


def test_rows_of_attention_sum_to_one_and_rollout_keeps_that(images) -> None:
    attention, _ = vits.exact(images[0], 1, FORMS["class token"])
    assert all(np.allclose(value.sum(-1), 1) for value in attention)
    assert np.allclose(rollout(attention).sum(-1), 1)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (Form(attention="windows", beside=0, read="all"), "within windows, as in Swin"),
        (Form(beside=0, read="all", window=3), "mixes patches behind the attention"),
        (Form(columns=True), "not the 3x4 patches row by row"),
        (Form(between="dense"), "something else than attention mixes the tokens before"),
        (Form(between="order"), "something else than attention mixes the tokens before"),
        (Form(attention="sigmoid"), "which weighs the tokens in .* has rows that do not sum to one"),
        (Form(attention="sigmoid", odd=1), "something else than attention mixes the tokens before"),
        (Form(attention="sigmoid", odd=2), "weighs the tokens with .* whose rows do not sum to one"),
        (Form(attention="channels", beside=0, read="all"), "in which the patches do not stand by themselves"),
    ],
)
def test_what_no_map_can_be_made_of_is_refused(form, said, tmp_path) -> None:
    with pytest.raises(ModelUnusable, match=said):
        loaded(tmp_path / "model", form)


def test_a_model_without_attention_is_refused(models) -> None:
    with pytest.raises(ModelUnusable, match="no attention lies between") as refused:
        Model(ModelOptions(str(models / "tiny"), preprocess="unit"), METHODS)
    assert "grad-cam" in refused.value.remedy


@pytest.mark.slow
def test_keras_attention_is_found(tmp_path, images) -> None:
    """keras.layers.MultiHeadAttention, which has biases and its own einsums; against the scores that it returns itself."""
    import keras

    keras.utils.set_random_seed(4)
    given = keras.Input((HEIGHT, WIDTH, 3))
    x = keras.layers.Conv2D(12, vits.PATCH, vits.PATCH)(given)
    x = keras.layers.Reshape((PATCHES, 12))(x)
    attention = []
    for _ in range(2):
        y, weights = keras.layers.MultiHeadAttention(3, 4)(x, x, return_attention_scores=True)
        x = keras.layers.LayerNormalization()(x + y)
        attention.append(weights)
    x = keras.layers.GlobalAveragePooling1D()(x)
    whole = keras.Model(given, keras.layers.Dense(3)(x))
    whole.export(tmp_path / "model", verbose=False)
    model = Model(ModelOptions(str(tmp_path / "model"), preprocess="unit"), METHODS)
    found = model.explain(images[:1], [1], METHODS).gradients[1][0, 0, ..., 0]
    values = [value.numpy()[0] for value in keras.Model(given, attention)(tf.constant(images[:1]))]
    assert np.allclose(found, rollout(values).mean(0).reshape(GRID), rtol=1e-4)
