"""Convolutions and products that are written otherwise: the same numbers, the same gradient, and only where it pays."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import tensorflow as tf
from graphs import ops, pixels, question, traced

from gradviz_cli.worker.graph import device
from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes import fast_products as module
from gradviz_cli.worker.passes.fast_products import fast_products


@pytest.fixture(autouse=True)
def on_a_processor(monkeypatch):
    """One with AVX-512, unless a test says otherwise."""
    for one in (module, device):
        monkeypatch.setattr(one, "on_gpu", lambda: False)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module, "has_avx512", lambda: True)


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
    "many points with strides": ("MatMul", (57, 55), 256, (1, 1), 128, (2, 2), "SAME"),
    "points of a large kernel": ("Conv3D", (6, 7), 1024, (1, 1), 2048, (1, 1), "SAME"),
    "a window": ("Conv3D", (16, 17), 8, (3, 3), 256, (1, 1), "SAME"),
    "a window with strides": ("Conv3D", (31, 33), 8, (3, 3), 256, (2, 2), "SAME"),
    "an uneven window": ("Conv3D", (40, 40), 8, (1, 7), 256, (1, 2), "VALID"),
    "a window, padded by hand": ("Conv3D", (30, 33), 8, (3, 3), 256, (2, 2), EXPLICIT),
}
OTHERS = {
    "small kernel": ((2, 1), 8, (1, 1), 8, (1, 1)),
    "few products at points": ((32, 32), 64, (1, 1), 64, (1, 1)),
    "a window of few": ((8, 8), 8, (3, 3), 256, (1, 1)),
    "few channels": ((100, 100), 3, (3, 3), 256, (1, 1)),
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


def assert_equal(before: Graph, after: Graph, image: np.ndarray) -> None:
    verify(after, question())
    for one, other in zip(slopes(before, image), slopes(after, image), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_numbers_and_the_gradient_stay(case):
    becomes, size, *rest = case
    before = convolved(size, *rest)
    after = fast_products(before, question())
    assert becomes in ops(after)
    assert_equal(before, after, pixels((2, *size, rest[0])))


WITH_AVX2 = {
    "many products at points": ("MatMul", (64, 64), 64, (1, 1), 64, (1, 1), "SAME"),
    "half a kernel at points": ("Conv3D", (6, 7), 512, (1, 1), 1024, (1, 1), "SAME"),
    "a window of short rows": ("Conv3D", (16, 17), 32, (3, 3), 64, (1, 1), "SAME"),
}
WITH_AVX512 = {
    "points": ("MatMul", (2, 1), 512, (1, 1), 256, (1, 1), "SAME"),
    "points, padded by hand": ("MatMul", (2, 1), 512, (1, 1), 256, (2, 2), EXPLICIT),
}


@pytest.mark.parametrize(
    ("case", "avx512"), [(case, False) for case in WITH_AVX2.values()] + [(case, True) for case in WITH_AVX512.values()]
)
def test_what_pays_with_one_processor_alone(case, avx512, monkeypatch):
    becomes, size, *rest = case
    before = convolved(size, *rest)
    monkeypatch.setattr(module, "has_avx512", lambda: not avx512)
    assert becomes not in ops(fast_products(before, question()))
    monkeypatch.setattr(module, "has_avx512", lambda: avx512)
    after = fast_products(before, question())
    assert becomes in ops(after)
    assert_equal(before, after, pixels((2, *size, rest[0])))


@pytest.mark.parametrize("avx512", [False, True])
@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_others_stay(case, avx512, monkeypatch):
    monkeypatch.setattr(module, "has_avx512", lambda: avx512)
    graph = convolved(*case)
    assert ops(fast_products(graph, question())) == ops(graph)


def test_one_that_is_in_groups_or_dilated_stays():
    def grouped(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(image, kernel, 2, "SAME")

    def dilated(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Conv2D(input=image, filter=kernel, strides=[1] * 4, padding="SAME", dilations=[1, 2, 2, 1])

    for build, channels, shape in ((grouped, 4, (4, 4, 2, 6)), (dilated, 16, (3, 3, 16, 512))):
        graph = traced(build, {"kernel": np.ones(shape, np.float32)}, shape=(None, 8, 8, channels))
        assert ops(fast_products(graph, question())) == ops(graph)


@pytest.mark.parametrize(
    ("gpu", "machine", "onednn"), [(True, "x86_64", "1"), (False, "aarch64", "1"), (False, "x86_64", "0")]
)
def test_where_another_library_computes_kernels_stay_as_they_are(gpu, machine, onednn, monkeypatch):
    monkeypatch.setattr(module, "on_gpu", lambda: gpu)
    monkeypatch.setattr(device, "on_gpu", lambda: gpu)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    for graph in (convolved((16, 17), 8, (3, 3), 256, (1, 1)), multiplied(40, 64, 1024)):
        assert fast_products(graph, question()).nodes == graph.nodes


# -- weights laid as they are read


def products(graph: Graph) -> list[tuple[bool, list[int]]]:
    """Of each: whether it reads its matrix transposed, and the shape that this has."""
    return [
        (node.attr["transpose_b"].b, graph.values[graph.weights[node.input[1].split(":")[0]]].shape.as_list())
        for node in graph.nodes.values()
        if node.op == "MatMul"
    ]


def multiplied(rows: int, columns: int, results: int, **more: bool) -> Graph:
    """The vectors at each of some places times a matrix, as a dense layer writes it."""

    def build(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        product = tf.matmul(tf.reshape(image, [-1, columns]), kernel, **more)
        return tf.reshape(product, [-1, rows, results])

    shape = (results, columns) if more.get("transpose_b") else (columns, results)
    kernel = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return traced(build, {"kernel": kernel}, shape=(None, rows, columns))


@pytest.mark.parametrize(("columns", "results"), [(64, 1024), (96, 1536), (512, 2048), (520, 3072)])
def test_a_matrix_with_rows_of_whole_pages_is_kept_transposed(columns, results):
    before = multiplied(40, columns, results)
    after = fast_products(before, question())
    assert products(after) == [(True, [results, columns])]
    assert set(after.values) == set(after.weights.values())  # the matrix itself is kept no more
    assert_equal(before, after, pixels((2, 40, columns)))


@pytest.mark.parametrize(
    ("rows", "columns", "results"), [(40, 64, 512), (40, 64, 1100), (40, 1024, 2048), (31, 64, 1024), (1, 64, 4096)]
)
def test_others_are_kept_as_they_are(rows, columns, results):
    graph = multiplied(rows, columns, results)
    assert products(fast_products(graph, question())) == [(False, [columns, results])]


def test_a_product_of_the_transpose_stays():
    graph = multiplied(40, 64, 1024, transpose_b=True)
    assert fast_products(graph, question()).nodes == graph.nodes


def test_rows_that_do_not_come_from_one_image_count_as_one():
    def build(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.matmul(image, kernel) * 1.0

    for batch, transposed in ((None, False), (64, True)):
        graph = traced(build, {"kernel": np.ones((8, 1024), np.float32)}, shape=(batch, 8))
        assert [one for one, _ in products(fast_products(graph, question()))] == [transposed]


def test_an_image_that_is_flattened_is_one_row():
    def build(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.reshape(image, [-1, 8 * 8 * 3]), kernel) * 1.0

    graph = traced(build, {"kernel": np.ones((192, 1024), np.float32)}, shape=(None, 8, 8, 3))
    assert products(fast_products(graph, question())) == [(False, [192, 1024])]


def test_points_read_such_a_kernel_transposed():
    before = convolved((6, 6), 256, (1, 1), 1024, (1, 1))
    after = fast_products(before, question())
    assert products(after) == [(True, [1024, 256])]
    assert_equal(before, after, pixels((2, 6, 6, 256)))
    few = fast_products(convolved((5, 6), 256, (1, 1), 1024, (1, 1)), question())
    assert products(few) == [(False, [256, 1024])]


@pytest.mark.parametrize("case", [name for name in CASES if "SAME" in CASES[name]])
def test_kernels_are_laid_once(case):
    """Nothing of a kernel is left to be computed for each image."""
    _, size, *rest = CASES[case]
    before = convolved(size, *rest)
    after = fast_products(before, question())
    (weight,) = after.weights
    assert len(after.values) == 1
    assert [node.op for node in after.nodes.values() if f"{weight}:0" in node.input] == [
        {"SpaceToDepth": "Conv2D"}.get(CASES[case][0], CASES[case][0])
    ]


def test_a_kernel_that_two_read_is_laid_once():
    def build(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(tf.nn.relu(image), kernel, 1, "SAME") + tf.nn.conv2d(image, kernel, 1, "SAME")

    kernel = np.random.default_rng(1).normal(size=(3, 2, 16, 512)).astype(np.float32)
    before = traced(build, {"kernel": kernel}, shape=(None, 9, 10, 16))
    after = fast_products(before, question())
    assert ops(after).count("Conv3D") == 2
    assert len(after.values) == 1
    assert_equal(before, after, pixels((2, 9, 10, 16)))


def test_two_ways_of_one_kernel_are_not_mixed_up():
    def build(image: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        wide = tf.nn.conv2d(image, kernel, 1, "SAME")  # many positions: not transposed
        return tf.reduce_sum(wide, [1, 2]) + tf.reduce_sum(tf.nn.conv2d(image, kernel, 2, "SAME"), [1, 2])

    kernel = np.random.default_rng(1).normal(size=(1, 1, 256, 1024)).astype(np.float32)
    before = traced(build, {"kernel": kernel}, shape=(None, 7, 6, 256))
    after = fast_products(before, question())
    assert sorted(products(after)) == [(False, [256, 1024]), (True, [1024, 256])]
    assert_equal(before, after, pixels((2, 7, 6, 256)))


def test_a_kernel_that_is_written_in_the_graph():
    numbers = np.random.default_rng(1).normal(size=(3, 2, 16, 512)).astype(np.float32)

    def build(image: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(image, tf.constant(numbers), 1, "SAME") * 1.0

    before = traced(build, shape=(None, 9, 10, 16))
    after = fast_products(before, question())
    assert "Conv3D" in ops(after)
    assert_equal(before, after, pixels((2, 9, 10, 16)))


def test_a_kernel_that_hangs_on_the_image_stays():
    def build(image: tf.Tensor, kernel: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        mean = tf.reduce_mean(image)
        found = tf.nn.conv2d(image, kernel * mean, 1, "SAME")
        return tf.matmul(tf.reshape(found, [-1, 512]), matrix * mean)

    weights = {"kernel": np.ones((3, 2, 16, 512), np.float32), "matrix": np.ones((512, 1024), np.float32)}
    graph = traced(build, weights, shape=(None, 9, 10, 16))
    assert ops(fast_products(graph, question())) == ops(graph)


def test_networks_that_repeat_themselves_keep_their_kernels_apart():
    def build(image: tf.Tensor, one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        for kernel in (one, other):
            image = tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME"))
        return image

    random = np.random.default_rng(1)
    kernels = {name: random.normal(size=(2, 2, 512, 512)).astype(np.float32) / 40 for name in ("one", "other")}
    before = traced(build, kernels, shape=(None, 3, 3, 512))
    after = fast_products(before, question())
    assert ops(after).count("Conv3D") == 2
    assert_equal(before, after, pixels((2, 3, 3, 512)))
