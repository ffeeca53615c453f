"""Convolutions whose kernels are laid out once: the numbers and the gradient of their definition, for whatever calls come."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import ops, question, traced

from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.graph import device
from gradviz_cli.worker.graph.graph import copied
from gradviz_cli.worker.passes.partial_gradients import partial_gradients
from gradviz_cli.worker.run import differentiate, kept_kernels
from gradviz_cli.worker.run.differentiate import Differentiator
from gradviz_cli.worker.run.kept_kernels import KEPT, Turned, keeping_kernels, to_turn
from gradviz_cli.worker.run.targets import Problem

SIZE, CHANNELS, RESULTS = (7, 9), 6, 5
SCORES = np.random.default_rng(7).normal(size=(1000, 3)).astype(np.float32)
# Sides of the kernel, strides, padding.
CASES = {
    "the size stays": ((3, 3), (1, 1), "SAME"),
    "uneven sides": ((1, 5), (1, 1), "SAME"),
    "single pixels": ((1, 1), (1, 1), "VALID"),
    "larger than the image": ((9, 11), (1, 1), "SAME"),
    "inside alone": ((3, 3), (1, 1), "VALID"),
    "even sides": ((2, 4), (1, 1), "SAME"),
    "strides": ((3, 3), (2, 2), "SAME"),
    "single pixels with strides": ((1, 1), (2, 1), "SAME"),
}


@pytest.fixture(autouse=True)
def on_a_processor(monkeypatch):
    monkeypatch.setattr(device, "on_gpu", lambda: False)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def kernel_of(sides: Sequence[int], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*sides, CHANNELS, RESULTS)).astype(np.float32)


def built(sides, strides, padding, batch: int | None = None, **more):
    """A convolution in space, and scores of what it gives."""

    def build(image: tf.Tensor, kernel: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        found = tf.nn.conv3d(image[:, None], kernel[None], [1, 1, *strides, 1], padding)
        flat = tf.reshape(found, [-1, int(np.prod(found.shape[1:]))])
        return tf.matmul(flat, scores[: flat.shape[1]])

    values = {"kernel": kernel_of(sides), "scores": SCORES, **more}
    graph = traced(build, values, shape=(batch, *SIZE, CHANNELS))
    # The kernel as the step that writes these reads it: a placeholder, and nothing between.
    (found,) = [node for node in graph.nodes.values() if node.op == "Conv3D"]
    given = next(name for name, variable in graph.weights.items() if "kernel" in variable)
    direct = copied(found, inputs=[found.input[0], f"{given}:0"])
    values = {**graph.values, graph.weights[given]: graph.values[graph.weights[given]][None]}
    nodes = {**graph.nodes, found.name: direct}
    nodes[given] = copied(graph.nodes[given])
    nodes[given].attr["shape"].shape.CopyFrom(values[graph.weights[given]].shape.as_proto())
    graph = replace(graph, nodes=nodes, values=values).pruned(graph.outputs)
    return partial_gradients(graph, question(shape=(batch or -1, *SIZE, CHANNELS)))


def differentiator(*case, batch: int | None = None) -> Differentiator:
    return Differentiator(built(*case, batch=batch), Problem("image:0", Entry("NHWC", SIZE, CHANNELS)))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(count, *SIZE, CHANNELS)).astype(np.float32)


def slope(case, target: int) -> np.ndarray:
    """Of one score with respect to any image, by the definition: each pixel adds what it adds to each result."""
    (high, wide), strides, padding = case
    kernel = kernel_of((high, wide)).astype(np.float64)
    sides = (high, wide)
    if padding == "SAME":
        size = [-(-one // stride) for one, stride in zip(SIZE, strides, strict=True)]
    else:
        size = [(one - side) // stride + 1 for one, side, stride in zip(SIZE, sides, strides, strict=True)]
    before = [
        max(0, (count - 1) * stride + side - one) // 2 if padding == "SAME" else 0
        for count, stride, side, one in zip(size, strides, sides, SIZE, strict=True)
    ]
    weights = SCORES[: size[0] * size[1] * RESULTS, target].astype(np.float64).reshape(*size, RESULTS)
    found = np.zeros((*SIZE, CHANNELS))
    for row, column in np.ndindex(*size):
        for down, across in np.ndindex(high, wide):
            y, x = row * strides[0] + down - before[0], column * strides[1] + across - before[1]
            if 0 <= y < SIZE[0] and 0 <= x < SIZE[1]:
                found[y, x] += kernel[down, across] @ weights[row, column]
    return found


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("targets", [[2], [0, 2]], ids=["one target", "two targets"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_scores_and_slopes_are_those_of_the_definition(case, targets, batch):
    one, shown = differentiator(*case, batch=batch), images(3)
    assert KEPT in ops(one.graph)
    for _ in range(2):  # the first call lays out what the second reads
        found = one.explain(shown, targets, ["backprop"])
        for place, target in enumerate(targets):
            want = slope(case, target)
            scores = (shown * want).sum((1, 2, 3))
            np.testing.assert_allclose(found.output[:, place], scores, rtol=1e-4, atol=1e-4 * np.abs(scores).max())
            for gradient in found.gradients[0][place]:
                np.testing.assert_allclose(gradient, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("case", [CASES["the size stays"], CASES["single pixels"]])
def test_a_kernel_is_turned_once_for_all_functions(case):
    one = differentiator(*case)
    for mode in ("backprop", "guided"):
        one.explain(images(1), [0], [mode])
    assert len(one._turned) == 1


@pytest.mark.parametrize(("targets", "modes"), [([0, 1], ["backprop"]), ([0], ["backprop", "guided"])])
@pytest.mark.parametrize("room", [True, False])
def test_several_gradients_turn_it_where_there_is_room_for_a_copy_of_each(targets, modes, room, monkeypatch):
    case = CASES["the size stays"]
    bytes_of_all = 2 * 4 * 3 * 3 * CHANNELS * RESULTS
    monkeypatch.setattr(differentiate, "MOST_COPIED", bytes_of_all - (not room))
    one = differentiator(*case)
    one.explain(images(1), targets, modes)
    assert len(one._turned) == room
    one.explain(images(1), [0], ["backprop"])
    assert len(one._turned) == 1


def test_others_read_it_as_it_lies():
    one = differentiator(*CASES["strides"])
    one.explain(images(1), [0], ["backprop"])
    assert not len(one._turned)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_turned_ahead_is_what_the_gradient_reads(case, monkeypatch):
    one, read = differentiator(*case), []
    usual = kept_kernels.Turned.of
    monkeypatch.setattr(kept_kernels.Turned, "of", lambda self, kernel: read.append(kernel) or usual(self, kernel))
    one.explain(images(1), [0], ["backprop"])
    begun = to_turn(one.graph, one._captured)
    assert [id(kernel) for kernel in begun] == [id(kernel) for kernel in read]
    assert len(one._turned) == len(begun)


@pytest.mark.parametrize("channels", [2, 2 * kept_kernels.ROWS + 3])
def test_a_kernel_turned_round_is_its_definition(channels):
    kernel = np.arange(1 * 3 * 5 * channels * 4, dtype=np.float32).reshape(1, 3, 5, channels, 4)
    turned, given = Turned(), tf.constant(kernel)
    turned.begin([given, tf.constant(kernel + 1)])
    found = turned.of(given).numpy()
    assert len(turned) == 2
    assert found.shape == (1, 3, 5, 4, channels)
    for row, column, channel, result in np.ndindex(3, 5, channels, 4):
        assert found[0, row, column, result, channel] == kernel[0, 2 - row, 4 - column, channel, result]


def test_what_fails_beside_is_said_where_it_is_asked_for(monkeypatch):
    def full(kernel, room):
        raise MemoryError

    monkeypatch.setattr(kept_kernels, "_around", full)
    turned, kernel = Turned(), tf.zeros([1, 1, 1, 2, 3])
    turned.begin([kernel])
    with pytest.raises(MemoryError):
        turned.of(kernel)


def test_points_of_an_estimator_share_a_call():
    case = CASES["the size stays"]
    one = differentiator(*case)
    look = one.look(images(1)[0], [1], ["backprop"])
    for count in (5, 2):
        scores, gradients = one.sample(images(count), look.seeds, ["backprop"])
        assert scores.shape == (1, count)
        for gradient in gradients["backprop"][0]:
            np.testing.assert_allclose(gradient, slope(case, 1), rtol=1e-4, atol=1e-4)


def test_calls_side_by_side_are_what_they_are_alone():
    shown = images(24)
    for _ in range(4):  # the first call of each lays the kernels out while others wait for them
        one = differentiator(*CASES["the size stays"])
        with ThreadPoolExecutor(4) as pool:
            several = list(pool.map(lambda image, one=one: one.explain(image[None], [0], ["guided"]), shown))
        for image, found in zip(shown, several, strict=True):
            alone = one.explain(image[None], [0], ["guided"])
            assert np.array_equal(alone.gradients[0], found.gradients[0])
            assert np.array_equal(alone.output, found.output)


def given(graph) -> set[str]:
    return set(graph.weights)


def test_only_kernels_that_stay_what_they_are():
    graph = built(*CASES["the size stays"])
    assert KEPT in ops(keeping_kernels(graph, given(graph)))
    assert keeping_kernels(graph, ()) is graph
    kernel = next(name for name, variable in graph.weights.items() if "kernel" in variable)
    one = Differentiator(graph, Problem("image:0", Entry("NHWC", SIZE, CHANNELS)), [kernel])
    assert KEPT not in ops(one.graph)
    before = one.explain(images(1), [0], ["backprop"]).gradients[0]
    one.change(kernel, 2 * one.weight(kernel).numpy())
    np.testing.assert_allclose(one.explain(images(1), [0], ["backprop"]).gradients[0], 2 * before, rtol=1e-5)


@pytest.mark.parametrize("change", ["dilated", "float64", "a gradient of its own"])
def test_what_is_otherwise_stays(change):
    graph = built(*CASES["the size stays"])
    (found,) = [node for node in graph.nodes.values() if node.op == "Conv3D"]
    node = copied(found)
    if change == "dilated":
        node.attr["dilations"].list.i[:] = [1, 1, 2, 1, 1]
    elif change == "float64":
        node.attr["T"].type = tf.float64.as_datatype_enum
    else:
        node.attr["_gradient_op_type"].s = b"SomebodyElses"
    graph = replace(graph, nodes={**graph.nodes, node.name: node})
    assert keeping_kernels(graph, given(graph)) is graph


def test_where_onednn_is_off_or_rounds_products_they_stay(monkeypatch):
    graph = built(*CASES["the size stays"])
    half = {"auto_mixed_precision_onednn_bfloat16": True}
    with monkeypatch.context() as patch:
        patch.setattr(tf.config.optimizer, "get_experimental_options", lambda: half)
        assert keeping_kernels(graph, given(graph)) is graph
    with monkeypatch.context() as patch:
        patch.setattr(kept_kernels, "op_def", lambda op: None)
        assert keeping_kernels(graph, given(graph)) is graph
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert keeping_kernels(graph, given(graph)) is graph
