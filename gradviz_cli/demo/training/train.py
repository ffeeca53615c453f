"""Train the embedded model: `python -m gradviz_cli.demo.training.train [--out DIR]`, or `make model`.

A small ReLU network learns to name the main object of scenes that `scenes.py` draws. It is a fair sample of what
gradviz meets elsewhere: plain, depthwise and residual blocks, batch norm, max pooling, a softmax at the end, the
rescaling of the pixels inside the graph. It is no benchmark of anything.

The masks of the scenes help: while the network trains, a second head on the last feature map learns whether an
object covers each cell, and which. The first of the two answers stays in the model that is written, as a gate on
the features; so the maps of the demo are quiet where nothing is. The rest of the second head is dropped.

Seeds are fixed and TensorFlow's deterministic operations are on: the same machine, package versions and number of
cores give the same weights. Other ones give a model that differs in detail and is as good.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gradviz_cli.demo import MODEL
from gradviz_cli.demo.training import scenes

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# TensorFlow is imported inside the functions: the processes that draw scenes import this file and need none of it.

SIZE = 128  # pixels a side of the model input
CELLS = 16  # cells a side of the last feature map
SEED = 20
SCENES, EPOCHS, BATCH = 12_000, 8, 32
TRAINING, HELD_OUT = (
    10**6,
    10**9,
)  # first seeds of the scenes to train on and to measure with; samples.py is below
Batch = tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]  # pixels, (labels, cells)
FILLED = 0.35  # least share of a cell an object covers for the cell to count as its own


def example(seed: int) -> tuple[np.ndarray, scenes.Scene, np.ndarray]:
    """One scene as the model sees it: drawn at some size and shape, then stretched to the model input.

    Returns
    -------
    tuple
        Image uint8 `[SIZE, SIZE, 3]`, the scene, masks bool `[objects, SIZE, SIZE]`.
    """
    rng = np.random.default_rng([SEED, seed])
    scene = scenes.compose(seed, aspect=math.exp(rng.uniform(-0.42, 0.42)))
    picture = scenes.draw(scene, int(rng.integers(SIZE, SIZE + 32)))
    masks = [_fitted(mask.astype(np.float32)) > 0 for mask in picture.masks]
    return _fitted(picture.image), scene, np.array(masks)


def _fitted(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def lesson(seed: int) -> tuple[np.ndarray, int, np.ndarray]:
    """Image, label and what covers each cell: uint8 `[CELLS, CELLS]`, 0 for nothing, else 1 + index of the class."""
    image, scene, masks = example(seed)
    step = SIZE // CELLS
    shares = masks.reshape(len(masks), CELLS, step, CELLS, step).mean(axis=(2, 4))
    kinds = np.array([scenes.CLASSES.index(thing.kind) for thing in scene.objects])
    cells = np.where(shares.max(axis=0) > FILLED, 1 + kinds[shares.argmax(axis=0)], 0)
    return image, scene.label, cells.astype(np.uint8)


def lessons(seeds: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stacked images, labels and cells, drawn by all cores."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        images, labels, cells = zip(*pool.map(lesson, seeds, chunksize=100), strict=True)
    return np.stack(images), np.array(labels), np.stack(cells)


def build(relu: Callable[[tf.Tensor], tf.Tensor] | None = None) -> keras.Model:
    """The network, untrained, with two outputs: logits `[N, K]` and those of the cells `[N, CELLS, CELLS, 1 + K]`.

    The first logit of a cell is that of "something is here", the others say what.
    `relu` takes the place of the activation (to measure what another backward pass would show).
    """
    import keras
    from keras import layers

    def active(x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Activation(relu)(x) if relu else layers.ReLU()(x)

    def conv(x: keras.KerasTensor, channels: int, size: int = 3, pool: bool = False) -> keras.KerasTensor:
        x = layers.Conv2D(channels, size, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(layers.MaxPooling2D()(x) if pool else x)

    def residual(x: keras.KerasTensor) -> keras.KerasTensor:
        inner = active(conv(x, x.shape[-1]))
        return active(layers.Add()([x, conv(inner, x.shape[-1])]))

    def depthwise(x: keras.KerasTensor) -> keras.KerasTensor:
        inner = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        inner = active(layers.BatchNormalization()(inner))
        return active(layers.Add()([x, conv(inner, x.shape[-1], 1)]))

    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1)(image)
    for channels in (16, 32, 48):
        # Max pooling and no strides: the gradient falls on the pixels that mattered, not on a grid. Pooled first,
        # batch norm and ReLU have a quarter of the work.
        x = active(conv(x, channels, pool=True))
    x = active(conv(x, 64))
    x = depthwise(residual(depthwise(x)))
    x = active(conv(x, 96, 1))
    something = layers.Conv2D(1, 1, name="something")(x)
    kinds = layers.Conv2D(len(scenes.CLASSES), 1, name="kinds")(x)
    # The product closes the background in the backward pass too, also for deconv, whose ReLUs do not look at the
    # forward pass.
    pooled = layers.GlobalAveragePooling2D()(layers.Multiply()([x, active(something)]))
    logits = layers.Dense(len(scenes.CLASSES), name="logits")(pooled)
    return keras.Model(image, [logits, layers.Concatenate(name="cells")([something, kinds])])


def cell_loss(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Is something here (binary cross-entropy), and what: "nothing" is one more class whose logit is always zero."""
    from keras import losses, ops

    here = ops.cast(truth[..., None] > 0, "float32")
    kinds = ops.pad(logits[..., 1:], [(0, 0), (0, 0), (0, 0), (1, 0)])
    what = losses.sparse_categorical_crossentropy(truth, kinds, from_logits=True)
    return what + losses.binary_crossentropy(here, logits[..., :1], from_logits=True)


def shuffled(images: np.ndarray, labels: np.ndarray, cells: np.ndarray, epochs: int) -> Iterator[Batch]:
    """Batches in random order, each turned and mirrored at random."""
    rng = np.random.default_rng(SEED)
    for _ in range(epochs):
        for batch in np.split(rng.permutation(len(images)), range(BATCH, len(images), BATCH)):
            turn, mirror = int(rng.integers(4)), int(rng.choice((-1, 1)))
            turned = (np.rot90(array[batch], turn, axes=(1, 2))[:, ::mirror] for array in (images, cells))
            pixels, truth = (
                np.ascontiguousarray(array, dtype) for array, dtype in zip(turned, ("f4", "i4"), strict=True)
            )
            yield pixels, (labels[batch], truth)


def fit(count: int, epochs: int) -> keras.Model:
    """Draw `count` scenes and train on each of them `epochs` times; returns the model of `build`."""
    import keras

    images, labels, cells = lessons(range(TRAINING, TRAINING + count))
    steps = math.ceil(count / BATCH)
    warmup = min(200, epochs * steps // 4)
    model = build()
    rate = keras.optimizers.schedules.CosineDecay(0.0, epochs * steps - warmup, warmup_target=3e-3, warmup_steps=warmup)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=1e-3),
        loss=[keras.losses.SparseCategoricalCrossentropy(from_logits=True), cell_loss],
        metrics=[["accuracy"], []],
        jit_compile=False,
    )
    batches = shuffled(images, labels, cells, epochs)
    model.fit(batches, steps_per_epoch=steps, epochs=epochs, verbose=2, shuffle=False)
    return model


def guided() -> Callable[[tf.Tensor], tf.Tensor]:
    """ReLU that passes a gradient back only where it is positive and the ReLU was open (arXiv 1412.6806)."""
    import tensorflow as tf

    @tf.custom_gradient
    def relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        y = tf.nn.relu(x)
        return y, lambda upstream: tf.where((y > 0) & (upstream > 0), upstream, 0.0)

    return relu


def attribution(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Gradient of the best logit with respect to the pixels, `[N, SIZE, SIZE, 3]`."""
    import tensorflow as tf

    images = tf.constant(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        best = tf.reduce_max(model(images, training=False)[0], axis=1)
    return tape.gradient(best, images).numpy()


def inside(model: keras.Model, seeds: range) -> tuple[float, float]:
    """Mean share of the absolute attribution that falls on the objects, and of the area that they cover."""
    examples = [example(seed) for seed in seeds]
    weight = np.abs(attribution(model, np.stack([image for image, _, _ in examples]))).sum(axis=-1)
    masks = np.stack([masks.any(axis=0) for _, _, masks in examples])
    return float(((weight * masks).sum(axis=(1, 2)) / weight.sum(axis=(1, 2))).mean()), float(masks.mean())


def save(model: keras.Model, folder: Path) -> None:
    """Write the classifier as a SavedModel: one signature, every weight once, the labels beside it.

    `model.export` of Keras 3 would store each weight twice.
    """
    import keras
    import tensorflow as tf

    classifier = keras.Model(model.input, keras.layers.Softmax(name="probabilities")(model.outputs[0]))
    served = tf.Module()
    served.weights = [weight.value for weight in classifier.weights]

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="image")])
    def probabilities(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": classifier(image, training=False)}

    tf.saved_model.save(served, str(folder), signatures={"serving_default": probabilities})
    (folder / "assets").rmdir()  # empty, and git keeps no empty folders
    assets = folder / "assets.extra"
    assets.mkdir()
    (assets / "labels.txt").write_text("\n".join(scenes.CLASSES) + "\n", encoding="utf-8")


def replace_folder(model: keras.Model, folder: Path) -> None:
    """Write beside `folder` first, so that a failed run leaves the old model as it was."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".model-") as scratch:
        save(model, Path(scratch) / "model")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(Path(scratch) / "model", folder)


def report(model: keras.Model, folder: Path, held_out: int) -> None:
    """Measure on seeds the training never saw, from the files as written, and print it."""
    import tensorflow as tf

    images, labels, _ = lessons(range(HELD_OUT, HELD_OUT + held_out))
    served = tf.saved_model.load(str(folder))
    run = served.signatures["serving_default"]
    batches = np.split(images, range(100, len(images), 100))
    guesses = np.concatenate(
        [run(image=tf.constant(batch, tf.float32))["probabilities"].numpy().argmax(axis=1) for batch in batches]
    )
    print(f"accuracy on {held_out} held-out scenes: {(guesses == labels).mean():.4f}")
    twin = build(guided())
    twin.set_weights(model.get_weights())
    seeds = range(HELD_OUT, HELD_OUT + 200)
    for mode, net in (("backprop", model), ("guided", twin)):
        share, area = inside(net, seeds)
        print(
            f"{mode}: {share:.0%} of the absolute attribution lies on the objects, which cover {area:.0%} (200 scenes)"
        )
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size:,} bytes, {model.count_params():,} weights while training")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m gradviz_cli.demo.training.train", description="Train the embedded model."
    )
    parser.add_argument("--out", type=Path, default=MODEL, help="folder of the SavedModel (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=SCENES, help="how many to train on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="how often to see each (default: %(default)s)")
    options = parser.parse_args()
    start = time.monotonic()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    model = fit(options.scenes, options.epochs)
    replace_folder(model, options.out)
    report(model, options.out, 2000)
    print(f"{time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
