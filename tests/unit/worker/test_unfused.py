"""Operations that an optimiser made one, written out: TensorFlow computes the same of both, and the ReLU within is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import SHAPE, computed, const, fed, function, node, ops, pixels, question, written

from gradviz_cli.worker.analysis.activations import find_all
from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes.unfused import unfused

F = tf.float32
DRAW = np.random.default_rng(4)
BIAS = const("bias", DRAW.normal(size=4))
NORM = [const(name, np.abs(DRAW.normal(size=4)) + 0.3) for name in ("scale", "offset", "mean", "variance")]
ADDED = {"BiasAdd": [BIAS], "FusedBatchNorm": NORM, "Add": [const("more", DRAW.normal(size=(2, 3, 3, 4)))]}
STEPS = {"strides": [1, 2, 2, 1], "padding": "SAME", "data_format": "NHWC"}
CHAINS = [
    ("BiasAdd",),
    ("BiasAdd", "Relu"),
    ("BiasAdd", "Relu6"),
    ("BiasAdd", "Elu"),
    ("BiasAdd", "LeakyRelu"),
    ("FusedBatchNorm",),
    ("FusedBatchNorm", "Relu"),
]


def graph_of(*nodes, shape=SHAPE) -> Graph:
    score = f"{nodes[-1].name}:0"
    return written(fed(shape=shape), *nodes, outputs=(score, score, "image:0"), feeds={"image:0": "image"})


def chained(op, first, chain, **attributes) -> Graph:
    """What a fused operation reads, and that operation."""
    more = [one for name in chain for one in ADDED.get(name, ())]
    fused = node("fused", op, *(f"{one.name}:0" for one in (*first, *more)), T=F, num_args=len(more), **attributes)
    for name in chain:
        fused.attr["fused_ops"].list.s.append(name.encode())
    fused.attr["epsilon"].f, fused.attr["leakyrelu_alpha"].f = 0.01, 0.3
    beside = [one for one in (*first, *more) if one.name != "image"]
    return graph_of(*beside, fused)


def convolution(*chain) -> Graph:
    kernel = const("kernel", DRAW.normal(size=(3, 3, 3, 4)))
    return chained("_FusedConv2D", (fed(), kernel), chain, TArgs=[F] * 4, num_host_args=0, **STEPS)


def checked(graph: Graph) -> Graph:
    after = unfused(graph)
    verify(after, question())
    assert not any("Fused" in op and op != "FusedBatchNormV3" for op in ops(after))
    return after


def relus(graph: Graph) -> int:
    return sum(count for name, (count, _) in find_all(graph, question()).counts.items() if name in ("Relu", "Relu6"))


@pytest.mark.parametrize("chain", CHAINS, ids="+".join)
def test_a_convolution(chain):
    graph = convolution(*chain)
    graph.nodes["fused"].attr["TArgs"].list.type[:] = [1] * graph.nodes["fused"].attr["num_args"].i
    after = checked(graph)
    np.testing.assert_allclose(computed(after, pixels())[0], computed(graph, pixels())[0], rtol=1e-4, atol=1e-5)
    assert relus(after) == ("Relu" in chain) + ("Relu6" in chain)


@pytest.mark.parametrize("last", ["Relu", "Tanh", "Sigmoid"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_product_of_matrices(last, turned):
    matrix = const("matrix", DRAW.normal(size=(4, 108) if turned else (108, 4)))
    rows = node("rows", "Reshape", "image:0", "shape:0", T=F, Tshape=tf.int32)
    reads = (fed(), const("shape", [-1, 108], np.int32), rows)
    graph = chained("_FusedMatMul", (rows, matrix), ("BiasAdd", last), transpose_a=False, transpose_b=turned)
    graph = replace(graph, nodes={one.name: one for one in (*reads, *graph.nodes.values())})
    after = checked(graph)
    np.testing.assert_allclose(computed(after, pixels())[0], computed(graph, pixels())[0], rtol=1e-4, atol=1e-5)
    assert relus(after) == (last == "Relu")


@pytest.mark.parametrize("resized", [False, True])
def test_a_padded_convolution(resized):
    """Of one image: TensorFlow's kernel takes the first for every one of a batch."""
    pads, kernel = (
        const("pads", [[0, 0], [2, 1], [1, 2], [0, 0]], np.int32),
        const("kernel", DRAW.normal(size=(3, 3, 3, 4))),
    )
    steps = {"strides": [1, 1, 1, 1], "padding": "VALID", "mode": "REFLECT", "T": F}
    if resized:
        steps["resize_align_corners"] = True
    op, sizes = ("FusedResizeAndPadConv2D", ["size:0"]) if resized else ("FusedPadConv2D", [])
    fused = node("fused", op, "image:0", *sizes, "pads:0", "kernel:0", **steps)
    graph = graph_of(const("size", [9, 11], np.int32), pads, kernel, fused, shape=(1, 6, 6, 3))
    image = pixels((1, 6, 6, 3))
    np.testing.assert_allclose(computed(checked(graph), image)[0], computed(graph, image)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["Identity", "Relu"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_batch_norm(activation, beside):
    """A processor has no kernel of it: by hand."""
    values = [DRAW.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4)]
    norm = [const(one.name, value) for one, value in zip(NORM, values, strict=True)]
    reads = [f"{name}:0" for name in ("image", "scale", "offset", "mean", "variance", *["image"] * beside)]
    fused = node(
        "fused", "_FusedBatchNormEx", *reads, T=F, U=F, num_side_inputs=int(beside), activation_mode=activation
    )
    fused.attr["is_training"].b, fused.attr["epsilon"].f = False, 0.01
    x, (scale, offset, mean, variance) = pixels(), values
    want = (x - mean) / np.sqrt(variance + 0.01) * scale + offset + beside * x
    after = checked(graph_of(*norm, fused))
    np.testing.assert_allclose(
        computed(after, x)[0], np.maximum(want, 0) if activation == "Relu" else want, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("chain", [("BiasAdd", "GeluExact"), ("Relu", "BiasAdd", "Dropout"), ("BiasAdd", "Add", "Sum")])
def test_what_is_not_known_stays(chain):
    graph = convolution(*chain)
    assert ops(unfused(graph)) == ops(graph)


def test_in_the_functions_of_branches_too():
    graph = convolution("BiasAdd", "Relu")
    body = function(
        "f",
        node("fused", "_FusedBatchNormEx", *["x:0"] * 5, T=F, U=F, is_training=False),
        results=["fused:0"],
        types={"x": F},
    )
    after = unfused(replace(graph, functions={"f": body}))
    assert [one.op for one in after.functions["f"].nodes.values()] == ["_Arg", "FusedBatchNormV3"]
