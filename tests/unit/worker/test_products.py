"""Products that may broadcast: which are written otherwise, how, and that they stay what they were.

Their numbers and gradients are compared with arithmetic by hand in `fuzz/test_products.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import SHAPE, Calls, computed, const, fed, function, node, ops, pixels, question, traced, written
from tensorflow.core.framework.graph_pb2 import GraphDef

from gradviz_cli.worker.graph.graph import Graph, attribute
from gradviz_cli.worker.graph.shapes import inferred
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes.products import in_float64, without_broadcasts

F = tf.float32
MATRIX = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
OPEN = (None, 6, 6, 3)
ALL_OPEN = (None, None, None, None)


def einsum(equation: str):
    return lambda image, w: tf.raw_ops.Einsum(inputs=[image, w], equation=equation)


def rewritten(graph: Graph, shape: tuple[int | None, ...] = OPEN) -> Graph:
    asked = question(shape=tuple(-1 if size is None else size for size in shape))
    after = without_broadcasts(graph, asked)
    verify(after, asked)
    again = without_broadcasts(after, asked)
    assert again.nodes.keys() == after.nodes.keys()  # nothing is written twice
    return after


def product(image, w):
    return tf.raw_ops.BatchMatMulV2(x=image, y=w)


@pytest.mark.parametrize("shape", [SHAPE, OPEN, ALL_OPEN])
def test_many_matrices_times_one_are_rows_times_one(shape):
    after = rewritten(traced(product, {"w": MATRIX}, shape=shape), shape)
    assert "BatchMatMulV2" not in ops(after) and ops(after).count("MatMul") == 1
    np.testing.assert_allclose(computed(after, pixels())[0], pixels() @ MATRIX, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, OPEN, ALL_OPEN])
def test_sides_that_differ_are_broadcast_first(shape):
    after = rewritten(
        traced(lambda image: tf.matmul(image[:, :1], image, transpose_b=True), shape=shape),
        shape,
    )
    assert ops(after).count("BroadcastTo") == 2
    image = pixels()
    want = image[:, :1] @ image.transpose(0, 1, 3, 2)
    np.testing.assert_allclose(computed(after, image)[0], want, rtol=1e-4, atol=1e-5)


def test_a_shape_that_is_known_stays_known():
    after = rewritten(traced(lambda image: tf.matmul(image[:, :1], image, transpose_b=True), shape=OPEN))
    assert inferred(after.nodes, [after.score], {})[after.score].as_list() == [None, 6, 6, 6]


def attention(image):
    queries = tf.reshape(image, [-1, 6, 2, 9])
    return tf.matmul(tf.nn.softmax(tf.matmul(queries, queries, transpose_b=True)), queries)


@pytest.mark.parametrize(
    "build",
    [
        lambda image: tf.matmul(image, image, transpose_b=True),
        attention,
        lambda image: tf.raw_ops.Einsum(inputs=[image, image], equation="...ij,...kj->...ik"),
        lambda image: tf.raw_ops.Einsum(inputs=[image, image], equation="abij,abkj->abik"),
        lambda image: tf.raw_ops.Einsum(inputs=[image], equation="...ij->...ji"),
        lambda image: tf.cast(tf.cast(image, tf.float64) @ tf.zeros([3, 2], tf.float64), F),
    ],
)
def test_other_products_stay(build):
    graph = traced(build, shape=OPEN)
    assert ops(rewritten(graph)) == ops(graph)


def test_equal_for_one_number_of_images_is_not_equal():
    """One query for all images, beside the keys of each."""
    graph = traced(
        lambda image, w: tf.matmul(tf.reshape(w, [1, 1, 5, 3]), image[:, :1], transpose_b=True), {"w": MATRIX}
    )
    assert "BroadcastTo" in ops(rewritten(graph))


@pytest.mark.parametrize(
    "equation, axes",
    [("...ij,jk->...ik", (0, 1, 2, 3)), ("...ij,...jk->i...k", (2, 0, 1, 3)), ("i...j,jk->ki...", (3, 0, 1, 2))],
)
def test_dots_on_one_side_become_labels(equation, axes):
    after = rewritten(traced(einsum(equation), {"w": MATRIX}, shape=OPEN))
    (found,) = [one.attr["equation"].s.decode() for one in after.nodes.values() if one.op == "Einsum"]
    assert "." not in found
    want = (pixels() @ MATRIX).transpose(axes)
    np.testing.assert_allclose(computed(after, pixels())[0], want, rtol=1e-4, atol=1e-5)


def test_dots_that_differ_are_computed_in_float64():
    graph = traced(
        lambda image: tf.raw_ops.Einsum(inputs=[image, image[:, :1]], equation="...ij,...kj->...ik"), shape=OPEN
    )
    after = rewritten(graph)
    kinds = {attribute(one, "T").type for one in after.nodes.values() if one.op == "Einsum"}
    assert kinds == {tf.float64.as_datatype_enum}


@pytest.mark.parametrize("inner, made", [("BatchMatMulV2", "BroadcastTo"), ("Einsum", "Cast")])
def test_functions_are_rewritten_too(inner, made):
    """Nothing is taken for known there: what a loop hands over may grow."""
    more = {"equation": "...ij,jk->...ik", "N": 2} if inner == "Einsum" else {}
    body = function(
        "body", node("product", inner, "x:0", "w:0", T=F, **more), results=["product:0"], types={"x": F, "w": F}
    )
    branches = {"then_branch": Calls("body"), "else_branch": Calls("body")}
    call = node("if", "StatelessIf", "yes:0", "image:0", "w:0", Tcond=tf.bool, Tin=[F, F], Tout=[F], **branches)
    graph = written(
        fed(),
        fed("w", shape=(3, 5)),
        const("yes", True, np.bool_),
        call,
        functions={"body": body},
        outputs=["if:0", "if:0", "image:0"],
        feeds={"image:0": "image"},
        weights={"w": "v"},
        values={"v": tf.constant(MATRIX)},
    )
    after = rewritten(graph)
    assert made in {one.op for one in after.functions["body"].nodes.values()}
    np.testing.assert_allclose(computed(after, pixels())[0], pixels() @ MATRIX, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [product, einsum("...ij,jk->...ik")])
def test_a_graph_as_it_is_computes_them_in_float64(build):
    with tf.Graph().as_default() as made:
        image = tf.compat.v1.placeholder(F, SHAPE, "image")

        @tf.function(autograph=False)
        def inside(x, w):
            return build(x, w)

        inside.get_concrete_function(tf.TensorSpec(SHAPE, F), tf.TensorSpec((3, 5), F))
        tf.add(inside(image, tf.constant(MATRIX)), build(image, tf.constant(MATRIX)), "score")
    graph_def = GraphDef()
    graph_def.CopyFrom(made.as_graph_def())
    in_float64(graph_def)
    nodes = [*graph_def.node, *(one for each in graph_def.library.function for one in each.node_def)]
    kinds = [attribute(one, "T").type for one in nodes if one.op in ("BatchMatMulV2", "Einsum")]
    assert kinds == [tf.float64.as_datatype_enum] * 2
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(graph_def, name="")
    with tf.compat.v1.Session(graph=made) as session:
        found = session.run("score:0", {"image:0": pixels()})
    np.testing.assert_allclose(found, 2 * pixels() @ MATRIX, rtol=1e-5, atol=1e-5)
