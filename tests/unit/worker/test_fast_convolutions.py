"""Convolutions that are written otherwise: the same numbers, the same gradient, and only where it pays."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import tensorflow as tf
from graphs import ops, pixels, question, traced

from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes import fast_convolutions as module
from gradviz_cli.worker.passes.fast_convolutions import fast_convolutions


@pytest.fixture(autouse=True)
def on_processors(monkeypatch):
    monkeypatch.setattr(module, "on_gpu", lambda: False)


EXPLICIT = [[0, 0], [2, 1], [0, 3], [0, 0]]
# What it becomes, sides of the image, its channels, sides of the kernel, channels of the result, strides, padding.
CASES = {
    "blocks": ("SpaceToDepth", (9, 10), 3, (7, 7), 5, (2, 2), "SAME"),
    "blocks, pixels left over": ("SpaceToDepth", (11, 14), 3, (4, 3), 5, (3, 3), "VALID"),
    "blocks, padded by hand": ("SpaceToDepth", (9, 10), 1, (4, 4), 5, (2, 2), EXPLICIT),
    "patches": ("MatMul", (8, 12), 3, (4, 4), 6, (4, 4), "VALID"),
    "points": ("MatMul", (2, 1), 512, (1, 1), 256, (1, 1), "SAME"),
    "points with strides": ("MatMul", (3, 4), 512, (1, 1), 256, (2, 2), "SAME"),
    "points with uneven strides": ("MatMul", (3, 5), 512, (1, 1), 256, (1, 3), "VALID"),
    "points, padded by hand": ("MatMul", (2, 1), 512, (1, 1), 256, (2, 2), EXPLICIT),
    "long rows": ("Conv3D", (4, 5), 2, (3, 2), 512, (1, 1), "SAME"),
    "long rows with strides": ("Conv3D", (5, 4), 2, (3, 3), 512, (2, 1), "SAME"),
    "long rows, padded by hand": ("Conv3D", (4, 5), 2, (3, 3), 512, (2, 2), EXPLICIT),
    "a large image": ("Conv3D", (28, 28), 2, (1, 2), 256, (1, 1), "SAME"),
}
OTHERS = {
    "small kernel": ((2, 1), 8, (1, 1), 8, (1, 1)),
    "many positions": ((28, 28), 512, (1, 1), 256, (1, 1)),
    "short rows": ((4, 5), 2, (3, 3), 256, (1, 1)),
    "a kernel that would grow": ((9, 10), 3, (3, 3), 5, (2, 2)),
    "uneven strides": ((9, 10), 3, (4, 4), 5, (2, 3)),
    "open sides": ((None, 10), 3, (4, 4), 5, (2, 2)),
}


def convolved(size, channels, sides, results, strides, padding="SAME", batch: int | None = None) -> Graph:
    def build(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(image, kernel, strides, padding, name="found") * 1.0

    kernel = np.random.default_rng(1).normal(size=(*sides, channels, results)).astype(np.float32)
    return traced(build, {"kernel": kernel}, shape=(batch, *size, channels))


def slopes(graph: Graph, image: np.ndarray) -> list[np.ndarray]:
    """The outputs, and the gradient of their squares."""
    with tf.Graph().as_default() as made:
        score, fed = tf.graph_util.import_graph_def(
            graph.graph_def(), return_elements=[graph.score, "image:0"], name=""
        )
        gradient = tf.gradients(tf.square(score), fed)[0]
    values = {f"{name}:0": graph.values[variable].numpy() for name, variable in graph.weights.items()}
    with tf.compat.v1.Session(graph=made) as session:
        return session.run([score, gradient], {**values, fed: image})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_numbers_and_the_gradient_stay(case, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    becomes, size, *rest = case
    before = convolved(size, *rest)
    after = fast_convolutions(before, question())
    verify(after, question())
    assert becomes in ops(after)
    image = pixels((2, *size, rest[0]))
    for one, other in zip(slopes(before, image), slopes(after, image), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_others_stay(case):
    graph = convolved(*case)
    assert ops(fast_convolutions(graph, question())) == ops(graph)


def test_one_that_is_in_groups_or_dilated_stays():
    def grouped(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(image, kernel, 2, "SAME")

    def dilated(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Conv2D(input=image, filter=kernel, strides=[1] * 4, padding="SAME", dilations=[1, 2, 2, 1])

    for build, channels, shape in ((grouped, 4, (4, 4, 2, 6)), (dilated, 2, (3, 3, 2, 512))):
        graph = traced(build, {"kernel": np.ones(shape, np.float32)}, shape=(None, 8, 8, channels))
        assert ops(fast_convolutions(graph, question())) == ops(graph)


@pytest.mark.parametrize(("gpu", "machine"), [(True, "x86_64"), (False, "aarch64")])
def test_where_another_library_computes_kernels_stay_as_they_are(gpu, machine, monkeypatch):
    monkeypatch.setattr(module, "on_gpu", lambda: gpu)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    graph = convolved((4, 5), 2, (3, 3), 512, (1, 1))
    assert ops(fast_convolutions(graph, question())) == ops(graph)
