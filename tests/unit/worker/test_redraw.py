"""Kernels: which they are, in which order, and what drawing them anew keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from gradviz_cli import demo
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis.kernels import Kernel, kernels, with_weights
from gradviz_cli.worker.model import Model, build, build_redrawn, prepare
from gradviz_cli.worker.run.redraw import shuffled


@pytest.fixture(scope="module")
def branched(tmp_path_factory) -> Path:
    """A stem, two branches of different length, a depthwise convolution, and products written in three ways."""
    random = np.random.default_rng(5)

    def weight(name: str, *shape: int) -> tf.Variable:
        return tf.Variable(random.normal(0, 0.4, shape).astype(np.float32), name=name)

    module = tf.Module()
    module.kept = kept = [
        weight("stem", 3, 3, 3, 4),
        weight("short", 1, 1, 4, 6),
        weight("deep", 3, 3, 4, 1),
        weight("point", 1, 1, 4, 6),
        weight("turned", 8, 6),
        weight("summed", 8, 2, 5),
        weight("last", 10, 3),
        weight("bias", 1, 3),
    ]
    stem, short, deep, point, turned, summed, last, bias = kept

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], name="image")])
    def serve(image):
        x = tf.nn.relu(tf.nn.conv2d(image, stem, 1, "SAME"))
        y = tf.nn.relu(tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME"))
        x = tf.nn.conv2d(x, short, 1, "SAME") + tf.nn.conv2d(y, point, 1, "SAME")
        x = tf.matmul(tf.reduce_mean(tf.nn.relu(x), [1, 2]), turned, transpose_b=True)
        x = tf.reshape(tf.einsum("nc,chd->nhd", tf.nn.relu(x), summed), [-1, 10])
        return {"scores": tf.matmul(x, last) + bias}

    folder = tmp_path_factory.mktemp("redraw") / "model"
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


@pytest.fixture(scope="module")
def prepared(branched: Path):
    return prepare(ModelOptions(str(branched), preprocess="raw"))


def test_kernels_come_from_the_score_down_with_their_filters(prepared) -> None:
    found = kernels(prepared.graph, prepared.question)
    assert [(one.shape, one.filters) for one in found] == [
        ((10, 3), (1,)),
        ((8, 2, 5), (1, 2)),
        ((8, 6), (0,)),
        *sorted([((1, 1, 4, 6), (3,))] * 2),  # both branches end in the same sum
        ((3, 3, 4, 1), (2, 3)),
        ((3, 3, 3, 4), (3,)),
    ], "and a bias is none"


def test_a_graph_without_variables_has_its_constants_for_kernels(prepared) -> None:
    nodes = dict(prepared.graph.nodes)
    for name, variable in prepared.graph.weights.items():
        with tf.Graph().as_default() as graph:
            tf.constant(prepared.graph.values[variable].numpy(), name=name)
        nodes[name] = graph.as_graph_def().node[0]
    frozen = replace(prepared.graph, nodes=nodes, weights={}, values={})
    assert not kernels(frozen, prepared.question)
    whole = with_weights(frozen, prepared.question)
    shapes = [one.shape for one in kernels(prepared.graph, prepared.question)]
    assert [one.shape for one in kernels(whole, prepared.question)] == shapes


@pytest.mark.parametrize(("shape", "filters"), [((3, 3, 4, 5), (3,)), ((3, 3, 4, 2), (2, 3)), ((6, 5), (0,))])
def test_each_filter_keeps_its_numbers_at_other_places(shape, filters) -> None:
    kernel = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    drawn = shuffled(kernel, filters, "name")
    inside = tuple(axis for axis in range(kernel.ndim) if axis not in filters)
    assert drawn.shape == shape and np.mean(drawn == kernel) < 0.5

    def filters_of(values: np.ndarray) -> np.ndarray:
        order = (*filters, *inside)
        rows = values.transpose(order).reshape(int(np.prod([shape[axis] for axis in filters])), -1)
        return np.sort(rows, axis=1)

    assert np.array_equal(filters_of(drawn), filters_of(kernel))


def test_draws_repeat_and_differ_from_kernel_to_kernel() -> None:
    kernel = np.arange(60.0).reshape(3, 4, 5)
    assert np.array_equal(shuffled(kernel, (2,), "one"), shuffled(kernel, (2,), "one"))
    assert not np.array_equal(shuffled(kernel, (2,), "one"), shuffled(kernel, (2,), "two"))
    single = np.arange(6.0).reshape(1, 1, 6, 1)
    drawn = shuffled(single, (2, 3), "one")
    assert not np.array_equal(drawn, single) and np.array_equal(np.sort(drawn.ravel()), single.ravel())


def test_a_redrawn_model_is_itself_until_kernels_are_drawn_and_again_afterwards(prepared) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    usual = build(prepared, ("backprop", "guided")).explain(images, [1], ("backprop", "guided"))
    redrawn = build_redrawn(prepared, ("backprop", "guided"))

    def maps() -> np.ndarray:
        return np.stack(redrawn.differentiator.explain(images, [1], ("backprop", "guided")).gradients)

    before = maps()
    assert np.allclose(before, np.stack(usual.gradients), rtol=1e-4, atol=1e-7)
    redrawn.draw(1)
    one = maps()
    redrawn.draw(len(redrawn.names))
    every = maps()
    assert not np.allclose(one, before, rtol=1e-2) and not np.allclose(every, one, rtol=1e-2)
    redrawn.draw(1)
    assert np.array_equal(maps(), one), "a level is the same whatever was drawn before it"
    redrawn.draw(0)
    assert np.array_equal(maps(), before)


def test_drawn_maps_are_those_of_a_model_with_these_weights(prepared) -> None:
    images = np.random.default_rng(1).uniform(0, 255, (1, 8, 8, 3)).astype(np.float32)
    redrawn = build_redrawn(prepared, ("backprop",))
    first: Kernel = kernels(prepared.graph, prepared.question)[0]
    variable = prepared.graph.weights[first.node]
    value = shuffled(prepared.read[variable].numpy(), first.filters, first.node)
    want = build(prepared, ("backprop",), values={variable: value}).explain(images, [2], ("backprop",))
    redrawn.draw(1)
    found = redrawn.differentiator.explain(images, [2], ("backprop",))
    assert np.allclose(found.score, want.score, rtol=1e-4)
    assert np.allclose(found.gradients[0], want.gradients[0], rtol=1e-3, atol=1e-6)


# Median |cosine| over the sample images after 1, 2 and 3 kernels of the embedded model, one generator running through
# them: as another program, which shares no code with this one, measured them.
MEASURED = {"backprop": (0.69, 0.18, 0.21), "deconv": (0.80, 0.66, 0.72), "guided": (0.99, 0.86, 0.96)}


@pytest.mark.slow
def test_kernels_of_the_embedded_model_drawn_as_by_another_program_give_its_figures() -> None:
    modes = tuple(MEASURED)
    model = Model(ModelOptions(str(demo.MODEL)), modes, redrawn=True)
    model.redraw(0)
    redrawn = model._redrawn
    height, width = model.facts.size
    photos = [Image.open(path).convert("RGB").resize((width, height)) for path in sorted(demo.IMAGES.iterdir())]
    images = np.stack([np.asarray(photo, np.float32) for photo in photos])
    first = model.explain(images, [-1], modes)
    classes = [int(index) for index in first.index[:, 0]]
    draw = np.random.default_rng(7)
    for place, kernel in enumerate(redrawn._kernels[:3]):
        learnt = redrawn.differentiator.weight(kernel.node).numpy()
        assert kernel.filters == (learnt.ndim - 1,)
        flat = learnt.reshape(-1, learnt.shape[-1]).T
        drawn = draw.permuted(flat, axis=1 if flat.shape[1] > 1 else None).T.reshape(learnt.shape)
        redrawn.differentiator.change(kernel.node, drawn)
        now = model.explain(images, classes, modes, own=True)
        for mode, before, after in zip(modes, first.gradients, now.gradients, strict=True):
            pairs = zip(before[0].reshape(len(images), -1), after[0].reshape(len(images), -1), strict=True)
            cosines = [abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs]
            assert np.median(cosines) == pytest.approx(MEASURED[mode][place], abs=0.006), (mode, place)
