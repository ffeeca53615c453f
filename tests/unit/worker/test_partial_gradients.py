"""Gradients with respect to the image alone: those that TensorFlow has, in fewer operations, and only where all is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from graphs import question, traced

from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.passes.partial_gradients import ATTRIBUTE, OPERATIONS, partial_gradients
from gradviz_cli.worker.run import gradients
from gradviz_cli.worker.run.gradients import _GRADIENTS, register

R = tf.raw_ops
EXPLICIT = [0, 0, 2, 1, 0, 3, 0, 0]
NATIVE = ("FusedBatchNormGrad", "BackpropFilter", "BiasAddGrad", "BroadcastGradientArgs", "ShapeN")

# What is computed of an image [2, 6, 5, 3] and a weight, and the shape of the weight.
CASES: dict[str, tuple[Callable[[tf.Tensor, tf.Tensor], tf.Tensor], tuple[int, ...]]] = {
    "Conv2D": (lambda x, w: R.Conv2D(input=x, filter=w, strides=[1] * 4, padding="SAME"), (3, 2, 3, 4)),
    "Conv2D, strides": (lambda x, w: R.Conv2D(input=x, filter=w, strides=[1, 2, 3, 1], padding="VALID"), (3, 2, 3, 4)),
    "Conv2D, dilated": (
        lambda x, w: R.Conv2D(input=x, filter=w, strides=[1] * 4, padding="SAME", dilations=[1, 2, 2, 1]),
        (3, 2, 3, 4),
    ),
    "Conv2D, padded by hand": (
        lambda x, w: R.Conv2D(input=x, filter=w, strides=[1, 2, 2, 1], padding="EXPLICIT", explicit_paddings=EXPLICIT),
        (3, 2, 3, 4),
    ),
    "DepthwiseConv2dNative": (
        lambda x, w: R.DepthwiseConv2dNative(input=x, filter=w, strides=[1, 2, 2, 1], padding="SAME"),
        (3, 3, 3, 2),
    ),
    "Conv3D": (
        lambda x, w: R.Conv3D(input=x[:, None], filter=w, strides=[1, 1, 2, 2, 1], padding="SAME"),
        (1, 3, 2, 3, 4),
    ),
    "MatMul": (lambda x, w: R.MatMul(a=tf.reshape(x, [-1, 3]), b=w), (3, 4)),
    "MatMul, turned": (lambda x, w: R.MatMul(a=tf.reshape(x, [-1, 3]), b=w, transpose_b=True), (4, 3)),
    "MatMul, the image turned": (lambda x, w: R.MatMul(a=tf.reshape(x, [3, -1]), b=w, transpose_a=True), (3, 4)),
    "MatMul, weights first": (lambda x, w: R.MatMul(a=w, b=tf.reshape(x, [3, -1])), (4, 3)),
    "MatMul of the image twice": (lambda x, w: R.MatMul(a=tf.reshape(x, [-1, 3]), b=tf.reshape(x, [3, -1])), (1,)),
    "BiasAdd": (lambda x, w: R.BiasAdd(value=x, bias=w), (3,)),
    "BiasAdd, the image as bias": (lambda x, w: R.BiasAdd(value=w, bias=x[0, 0, 0]), (4, 3)),
    "Mean": (lambda x, w: R.Mean(input=x, axis=[1, 2]), (1,)),
    "Mean, kept": (lambda x, w: R.Mean(input=x, axis=[-1, 1], keep_dims=True), (1,)),
    "Mean of all": (lambda x, w: R.Mean(input=x, axis=[0, 1, 2, 3]), (1,)),
    "Mean of one axis": (lambda x, w: R.Mean(input=x, axis=-2), (1,)),
    "Mean over nothing": (lambda x, w: R.Mean(input=x, axis=tf.constant([], tf.int32)), (1,)),
}
PAIRS = {
    "weights": lambda x, w: (x, w),
    "weights first": lambda x, w: (w, x),
    "the image twice": lambda x, w: (x, x),
    "its own mean": lambda x, w: (x, tf.reduce_mean(x, [1, 2], keepdims=True)),
    "its own corner first": lambda x, w: (x[:, :1, :1, 1], x[..., 0]),
    "a row of it": lambda x, w: (x[0, 0], x),
}
SIZES = {"alike": (2, 6, 5, 3), "channels": (3,), "a number": (), "larger": (4, 1, 6, 5, 3), "a column": (6, 1, 1)}
BINARY = ("Add", "AddV2", "Sub", "Mul", "RealDiv", "SquaredDifference")


def binary(op: str, pair: str, size: str) -> tuple[Callable, tuple[int, ...]]:
    def build(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        one, other = PAIRS[pair](x, w)
        return getattr(R, op)(x=one, y=other)

    return build, SIZES[size]


def turned(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Two complex tensors, one of them of the image alone."""
    return tf.complex(x, x * 0.5 - 1.0), tf.complex(w, w * -0.3 + 0.2)


COMPLEX: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "Mul": lambda z, w: R.Mul(x=z, y=w),
    "Mul of both": lambda z, w: R.Mul(x=z * z, y=z),
    "RealDiv": lambda z, w: R.RealDiv(x=z, y=w),
    "RealDiv, weights first": lambda z, w: R.RealDiv(x=w, y=z),
    "SquaredDifference": lambda z, w: R.SquaredDifference(x=z, y=w),
    "MatMul": lambda z, w: R.MatMul(a=tf.reshape(z, [-1, 3]), b=tf.reshape(w, [3, -1])),
    "Sub": lambda z, w: R.Sub(x=w, y=z),
    "Mean": lambda z, w: R.Mean(input=z * w, axis=[1]),
}


def normed(op: str, layout: str, **more) -> tuple[Callable, tuple[int, ...]]:
    """Batch norm, each statistic another number."""

    def build(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        scale, shift, mean, variance = tf.unstack(w)
        laid = tf.transpose(x, [0, 3, 1, 2]) if layout == "NCHW" else x
        given = {"scale": scale, "offset": shift, "mean": mean, "variance": tf.square(variance), "epsilon": 0.01}
        return getattr(R, op)(x=laid, **given, data_format=layout, is_training=False, **more).y

    return build, (4, 3)


def enlarged(size: tuple[int, int], **how) -> tuple[Callable, tuple[int, ...]]:
    return lambda x, w: R.ResizeNearestNeighbor(images=x, size=size, **how) * w, (3,)


NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
CASES |= {f"{op}, {layout}": normed(op, layout) for op in NORMS for layout in ("NHWC", "NCHW")}
CASES |= {
    "ResizeNearestNeighbor, twice": enlarged((12, 10)),
    "ResizeNearestNeighbor, by 4 and 2": enlarged((24, 10)),
    "ResizeNearestNeighbor, by 3 and 5 of centres": enlarged((18, 25), half_pixel_centers=True),
    "ResizeNearestNeighbor, by 3": enlarged((18, 15)),
    "ResizeNearestNeighbor, of corners": enlarged((12, 10), align_corners=True),
    "ResizeNearestNeighbor, by no whole number": enlarged((9, 8)),
    "ResizeNearestNeighbor, smaller": enlarged((3, 5)),
}


def of_complex(op: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    def build(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        found = op(*turned(x, w))
        return tf.math.real(found) - 2.0 * tf.math.imag(found)

    return build


CASES |= {f"complex {name}": (of_complex(op), (2, 6, 5, 3)) for name, op in COMPLEX.items()}
CASES |= {f"{op} of {pair}": binary(op, pair, "alike") for op in BINARY for pair in list(PAIRS)[2:]}
CASES |= {
    f"{op} of {pair}, {size}": binary(op, pair, size)
    for op, pair, size in (
        ("AddV2", "weights first", "channels"),
        ("AddV2", "weights", "larger"),
        ("Sub", "weights first", "larger"),
        ("Mul", "weights", "channels"),
        ("Mul", "weights first", "a column"),
        ("Mul", "weights", "larger"),
        ("RealDiv", "weights", "a number"),
        ("RealDiv", "weights first", "channels"),
        ("RealDiv", "weights first", "larger"),
        ("SquaredDifference", "weights first", "larger"),
        ("SquaredDifference", "weights", "a number"),
    )
}


def made(build: Callable, shape: tuple[int, ...], batch: int | None = 2) -> Graph:
    weight = np.random.default_rng(1).normal(size=shape).astype(np.float32) + np.float32(3)

    def score(image: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        return build(image + 0.0 * tf.sin(image), weight) * 1.0

    return traced(score, {"weight": weight}, shape=(batch, 6, 5, 3))


def slopes(graph: Graph) -> tuple[np.ndarray, list[str]]:
    """The gradient of the outputs, each weighed otherwise, and the operations that it takes."""
    register()
    with tf.Graph().as_default() as imported:
        score, fed = tf.graph_util.import_graph_def(
            graph.graph_def(), return_elements=[graph.score, "image:0"], name=""
        )
        before = len(imported.get_operations())
        gradient = tf.gradients(tf.square(score), fed)[0]
        ops = [op.type for op in imported.get_operations()[before:]]
    values = {f"{name}:0": graph.values[variable].numpy() for name, variable in graph.weights.items()}
    image = np.random.default_rng(2).normal(size=(2, 6, 5, 3)).astype(np.float32) + np.float32(2)
    with tf.compat.v1.Session(graph=imported) as session:
        return session.run(gradient, {**values, fed: image}), ops


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_tensorflows(case, monkeypatch):
    graph = made(*CASES[case])
    marked = partial_gradients(graph, question(shape=(2, 6, 5, 3)))
    assert any(ATTRIBUTE in node.attr for node in marked.nodes.values())
    monkeypatch.setattr(gradients, "on_gpu", lambda: True)  # where more of them are needed
    try:
        want, theirs = slopes(graph)
    except tf.errors.InvalidArgumentError as error:  # TensorFlow has no kernel where it does not ask oneDNN
        if "dilat" not in case:
            raise
        pytest.skip(str(error).splitlines()[0])
    found, ours = slopes(marked)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    assert len(ours) <= len(theirs)


@pytest.mark.parametrize("case", ["Conv2D", "MatMul", "Mean", "Mul of the image twice"])
def test_where_the_number_of_images_is_open_it_is_tensorflows_own(case):
    graph = made(*CASES[case], batch=None)
    found = slopes(partial_gradients(graph, question(shape=(-1, 6, 5, 3))))[0]
    want = slopes(graph)[0]
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("case", ["FusedBatchNormV3, NHWC", "FusedBatchNormV3, NCHW", "ResizeNearestNeighbor, twice"])
def test_some_need_not_know_how_many_images_there_are(case, monkeypatch) -> None:
    """A GPU has no kernel for TensorFlow's own that gives the same bits each time, and estimators leave the number open."""
    graph = made(*CASES[case], batch=None)
    want, theirs = slopes(graph)
    monkeypatch.setattr(gradients, "on_gpu", lambda: True)
    found, ours = slopes(partial_gradients(graph, question(shape=(-1, 6, 5, 3))))
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    own = {"FusedBatchNormGradV3", "ResizeNearestNeighborGrad"}
    assert own & set(theirs) and not own & set(ours)


def test_a_batch_norm_whose_statistics_are_read_stays() -> None:
    build, shape = normed("FusedBatchNormV3", "NHWC")

    def read(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        given = dict(zip(("scale", "offset", "mean", "variance"), tf.unstack(tf.square(w)), strict=True))
        found = R.FusedBatchNormV3(x=x, **given, is_training=True)
        return found.y * found.batch_mean

    for each, marks in ((build, 1), (read, 0)):
        nodes = partial_gradients(made(each, shape), question(shape=(2, 6, 5, 3))).nodes.values()
        assert sum(ATTRIBUTE in node.attr for node in nodes if node.op == "FusedBatchNormV3") == marks


@pytest.mark.parametrize("how", [{}, {"align_corners": True}, {"half_pixel_centers": True}])
def test_an_enlarged_image_is_summed_in_blocks_on_a_gpu_alone(how, monkeypatch) -> None:
    graph = partial_gradients(made(*enlarged((12, 10), **how)), question(shape=(2, 6, 5, 3)))
    for gpu in (False, True):
        monkeypatch.setattr(gradients, "on_gpu", lambda gpu=gpu: gpu)
        assert ("ResizeNearestNeighborGrad" in slopes(graph)[1]) == (not gpu or "align_corners" in how)


@pytest.mark.parametrize(
    "case",
    ["Conv2D", "DepthwiseConv2dNative", "Conv3D", "BiasAdd", "Mul of weights, channels", "FusedBatchNormV3, NHWC"],
)
def test_nothing_is_computed_for_weights(case):
    graph = partial_gradients(made(*CASES[case]), question(shape=(2, 6, 5, 3)))
    assert not [op for op in slopes(graph)[1] if any(word in op for word in NATIVE)]


def test_each_operation_that_is_marked_has_a_gradient():
    assert set(_GRADIENTS) == OPERATIONS


def test_a_gradient_that_is_settled_stays():
    graph = made(lambda x, w: R.BiasAdd(value=x, bias=w), (3,))
    for node in graph.nodes.values():
        if node.op == "BiasAdd":
            node.attr["_gradient_op_type"].s = b"Another"
    marked = partial_gradients(graph, question(shape=(2, 6, 5, 3)))
    assert [node.attr["_gradient_op_type"].s for node in marked.nodes.values() if node.op == "BiasAdd"] == [b"Another"]
