"""Each pass: what it changes, what it leaves alone, that the graph computes what it computed, and that it is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import SHAPE, Calls, computed, const, fed, function, node, ops, pixels, question, traced, written

from gradviz_cli.worker.graph.graph import Graph, attribute, consumers, copied
from gradviz_cli.worker.graph.question import Head, Question
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes import constants as module
from gradviz_cli.worker.passes.batch_axis import batch_axis
from gradviz_cli.worker.passes.batch_norm import batch_norm
from gradviz_cli.worker.passes.constants import constants
from gradviz_cli.worker.passes.float32 import float32, values
from gradviz_cli.worker.passes.float_image import float_image
from gradviz_cli.worker.passes.logits import logits
from gradviz_cli.worker.passes.onednn import without_strided_points
from gradviz_cli.worker.passes.start import start

F = tf.float32
RANDOM = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _same_numbers(monkeypatch):
    """Whichever tests ran before."""
    monkeypatch.setitem(globals(), "RANDOM", np.random.default_rng(3))


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def passed(
    run: Callable, graph: Graph, asked: Question | None = None, rtol: float = 1e-4, atol: float = 1e-5, **given
) -> Graph:
    """The graph after a pass, which is whole and computes the same; the graph before is as it was."""
    asked = asked or question()
    before = {name: one.SerializeToString() for name, one in graph.nodes.items()}
    verify(graph, asked)
    after = run(graph, asked)
    verify(after, asked)
    assert {name: one.SerializeToString() for name, one in graph.nodes.items()} == before
    image = given.pop("image", pixels(SHAPE))
    outputs = zip(computed(graph, image, **given), computed(after, image, **given), strict=True)
    for one, other in outputs:
        np.testing.assert_allclose(other, one, rtol=rtol, atol=atol)
    return after


# --- batch norm -------------------------------------------------------------------------------------------------------


def normed(x, scale, offset, mean, variance, **more):
    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=mean, variance=variance, is_training=False, **more
    ).y


NORM = {name: np.abs(normal(4)) + 0.1 for name in ("scale", "offset", "mean", "variance")}
KERNEL = {"kernel": normal(3, 3, 3, 4)}


def test_a_batch_norm_goes_into_the_convolution():
    graph = traced(
        lambda image, kernel, **norm: tf.nn.relu(normed(tf.nn.conv2d(image, kernel, 1, "SAME"), **norm)), KERNEL | NORM
    )
    after = passed(batch_norm, graph)
    assert ops(after).count("FusedBatchNormV3") == 0 and ops(after).count("BiasAdd") == 1
    assert set(after.values) == {"folded/Conv2D/gradviz_kernel", "folded/Conv2D/gradviz_bias"}


def test_an_epsilon_that_is_left_out_is_the_operations_own():
    small = {**NORM, "variance": np.full(4, 1e-5, np.float32)}
    graph = traced(lambda image, kernel, **norm: normed(tf.nn.conv2d(image, kernel, 1, "SAME"), **norm), KERNEL | small)
    nodes = dict(graph.nodes)
    bare = type(nodes["FusedBatchNormV3"])()
    bare.CopyFrom(nodes["FusedBatchNormV3"])
    del bare.attr["epsilon"]
    after = passed(batch_norm, replace(graph, nodes={**nodes, "FusedBatchNormV3": bare}))
    assert "FusedBatchNormV3" not in ops(after)


def test_a_batch_norm_that_trains_by_default_stays():
    graph = traced(lambda image, kernel, **norm: normed(tf.nn.conv2d(image, kernel, 1, "SAME"), **norm), KERNEL | NORM)
    nodes = dict(graph.nodes)
    bare = type(nodes["FusedBatchNormV3"])()
    bare.CopyFrom(nodes["FusedBatchNormV3"])
    del bare.attr["is_training"]
    assert "FusedBatchNormV3" in ops(batch_norm(replace(graph, nodes={**nodes, "FusedBatchNormV3": bare}), question()))


@pytest.mark.parametrize(
    "behind",
    [
        lambda y, a, b: y * a + b,
        lambda y, a, b: (y + b) * a,
        lambda y, a, b: b - y * a,
        lambda y, a, b: tf.nn.bias_add(y, b) * 2.0 - 1.0,
    ],
)
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_what_scales_channels_goes_into_the_kernel(kind, behind):
    def build(image, kernel, a, b):
        if kind == "dense":
            return behind(tf.linalg.matmul(tf.reshape(image, [-1, 3]), kernel), a, b)
        y = tf.nn.conv2d(image, kernel, 1, "SAME")
        if kind == "depthwise":
            y = tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "SAME")
        return behind(y, a, b)

    kernel = {"conv": normal(3, 3, 3, 6), "depthwise": normal(3, 3, 3, 2), "dense": normal(3, 6)}[kind]
    graph = traced(build, {"kernel": kernel, "a": normal(6), "b": normal(6)})
    after = passed(batch_norm, graph)
    assert not {"Mul", "Sub", "AddV2"} & set(ops(after))


RANKS = {"conv": 4, "depthwise": 4, "dense": 2}


@pytest.mark.parametrize("op", [tf.multiply, tf.add, tf.subtract, lambda y, a: a - y])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 1, 1), (1,) * 5, (6,), (1, 6), (1, 1, 6), (1, 1, 1, 1, 6)])
@pytest.mark.parametrize("kind", RANKS)
def test_shapes_stay_as_the_constants_make_them(kind, shape, op):
    def build(image, kernel, a):
        if kind == "dense":
            return op(tf.linalg.matmul(tf.reshape(image, [-1, 3]), kernel) * 2.0, a)
        if kind == "depthwise":
            return op(tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "SAME") * 2.0, a)
        return op(tf.nn.conv2d(image, kernel, 1, "SAME") * 2.0, a)

    kernel = {"conv": normal(3, 3, 3, 6), "depthwise": normal(3, 3, 3, 2), "dense": normal(3, 6)}[kind]
    after = passed(batch_norm, traced(build, {"kernel": kernel, "a": normal(*shape)}))  # compares shapes too
    assert ("Mul" in ops(after)) == (op is tf.multiply and len(shape) > RANKS[kind])


@pytest.mark.parametrize("shape", [(6, 1, 1), (6, 1), (6, 6, 1), (6, 6, 6), (2, 1, 1, 6), (2, 1, 1, 1)])
def test_a_constant_that_is_not_one_a_channel_stays(shape):
    def build(image, kernel, a):
        return tf.nn.conv2d(image, kernel, 1, "SAME") * a

    assert "Mul" in ops(passed(batch_norm, traced(build, {"kernel": normal(3, 3, 3, 6), "a": normal(*shape)})))


def test_a_constant_that_widens_the_one_channel_stays():
    graph = traced(
        lambda image, kernel, a: tf.nn.conv2d(image, kernel, 1, "SAME") * a,
        {"kernel": normal(3, 3, 3, 1), "a": normal(5)},
    )
    assert "Mul" in ops(passed(batch_norm, graph))


def test_a_batch_norm_whose_other_outputs_are_read_stays():
    def build(image, kernel, **norm):
        y = tf.raw_ops.FusedBatchNormV3(x=tf.nn.conv2d(image, kernel, 1, "SAME"), is_training=False, **norm)
        return y.batch_mean

    after = batch_norm(traced(build, KERNEL | NORM), question())
    verify(after, question())
    assert "FusedBatchNormV3" in ops(after)


def test_a_bias_alone_is_left_as_it_is():
    graph = traced(
        lambda image, kernel, b: tf.nn.bias_add(tf.nn.conv2d(image, kernel, 1, "SAME"), b), {**KERNEL, "b": normal(4)}
    )
    assert ops(passed(batch_norm, graph)) == ops(graph)


def test_a_convolution_that_somebody_else_reads_stays():
    def build(image, kernel, a):
        y = tf.nn.conv2d(image, kernel, 1, "SAME")
        return y * a + tf.nn.relu(y)

    assert "Mul" in ops(passed(batch_norm, traced(build, {**KERNEL, "a": normal(4)})))


def test_an_output_keeps_its_name():
    graph = traced(
        lambda image, kernel, a: tf.nn.conv2d(image, kernel, 1, "SAME", name="conv") * a, {**KERNEL, "a": normal(4)}
    )
    graph = replace(graph, outputs=("conv:0", graph.output, "image:0"))
    assert passed(batch_norm, graph).outputs[0] == "conv:0"


def test_channels_first_are_left_alone():
    graph = traced(lambda image, kernel: tf.nn.relu(image) * 2.0, KERNEL)
    first = node("conv", "Conv2D", "image:0", "kernel:0", T=F, strides=[1, 1, 1, 1], padding="SAME", data_format="NCHW")
    twice = node("twice", "Mul", "conv:0", "two:0", T=F)
    nodes = {**graph.nodes, "conv": first, "two": const("two", 2.0), "twice": twice}
    assert "Mul" in ops(batch_norm(replace(graph, nodes=nodes, outputs=("twice:0", "twice:0", "image:0")), question()))


# --- constants --------------------------------------------------------------------------------------------------------


def test_what_depends_on_weights_alone_becomes_a_weight():
    graph = traced(lambda image, w: image * tf.sqrt(tf.exp(w, name="exp"), name="root"), {"w": normal(3)})
    after = passed(constants, graph)
    assert ops(after) == ["Mul", "Placeholder", "Placeholder"] and after.weights == {"root": "folded/root"}
    np.testing.assert_allclose(after.values["folded/root"], np.exp(graph.values["variable/w"] / 2), rtol=1e-6)


def test_random_numbers_are_no_constants():
    graph = traced(lambda image: image + 0.0 * tf.random.uniform([3]))
    assert "RandomUniform" in ops(passed(constants, graph))


def test_other_inputs_are_no_constants():
    graph = traced(lambda image: image * tf.exp(tf.compat.v1.placeholder(F, [], "rate")))
    graph = replace(graph, feeds={**graph.feeds, "rate:0": "rate"})
    assert "Exp" in ops(passed(constants, graph, rate=0.5))


def test_whole_numbers_stay_in_the_graph():
    graph = traced(lambda image: tf.reshape(image, tf.concat([[-1], tf.constant([108], tf.int32)], 0)))
    assert ops(passed(constants, graph)) == ops(graph)


def test_nothing_to_compute_is_the_graph_itself():
    graph = traced(lambda image: tf.nn.relu(image))
    assert constants(graph, question()) is graph


def test_a_node_whose_second_output_is_read_stays():
    graph = traced(lambda image, w: image * tf.split(w, 2, name="parts")[1], {"w": normal(6)})
    assert "Split" in ops(passed(constants, graph))


GAINS = {
    "a stripped batch norm": lambda w, v: w * tf.math.rsqrt(tf.abs(v) + 1e-3),
    "a gain of each channel": lambda w, v: tf.reshape(w / tf.sqrt(tf.square(v) + 1.0), [1, 1, 1, 3]),
    "axes that are added and taken away": lambda w, v: tf.squeeze(tf.expand_dims(w - v, 0), [0]) * 2.0,
    "one number for all": lambda w, v: tf.broadcast_to(tf.maximum(w[0], 0.5), [3]) + v,
    "a sum over channels": lambda w, v: w / tf.norm(v),  # NumPy here knows no sums: TensorFlow computes these
}


@pytest.mark.parametrize("gain", GAINS.values(), ids=GAINS)
def test_small_constants_are_what_tensorflow_computes(gain):
    graph = traced(lambda image, w, v: image * gain(w, v), {"w": normal(3), "v": normal(3)})
    after = passed(constants, graph, rtol=1e-6)
    assert sorted(set(ops(after)) - {"Placeholder", "Const"}) == ["Mul"]


def test_numpy_computes_most_of_them(monkeypatch: pytest.MonkeyPatch):
    """Building a function of TensorFlow's for these takes longer than all the rest of the pass."""
    asked = []
    monkeypatch.setattr(module, "_computed_by_tensorflow", lambda graph, names: asked.append(names) or {})
    for gain in GAINS.values():
        graph = traced(lambda image, w, v, gain=gain: image * gain(w, v), {"w": normal(3), "v": normal(3)})
        constants(graph, question())
    assert len(asked) == 2  # the strided slice and the sum


def test_a_large_constant_is_left_to_tensorflow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_SMALL", 2)
    test_what_depends_on_weights_alone_becomes_a_weight()


# --- half precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [tf.float16, tf.bfloat16])
def test_half_precision_becomes_float32(half):
    def build(image, w):
        y = (
            tf.cast(image, half) * tf.cast(w, half)
            + tf.constant([1, 2, 3], half)
            + tf.cast(tf.fill([3], tf.constant(2, half)), half)
        )
        return tf.cast(tf.nn.relu(y), F)

    graph = traced(build, {"w": normal(3)})
    after = passed(float32, graph, rtol=0.05, atol=0.02)
    kinds = {value.type for one in after.nodes.values() for value in one.attr.values()}
    assert half.as_datatype_enum not in kinds
    w = graph.values["variable/w"]
    np.testing.assert_allclose(
        computed(after, pixels())[0], np.maximum(pixels() * w + [3, 4, 5], 0), rtol=1e-5, atol=1e-5
    )


def test_float32_is_left_alone():
    graph = traced(lambda image: tf.nn.relu(image))
    assert float32(graph) is graph


def test_the_bytes_of_a_number_are_left_alone():
    graph = traced(lambda image: tf.cast(tf.bitcast(tf.cast(image, tf.float16), tf.int16), F))
    assert float32(graph) is graph


def test_functions_are_widened_too():
    half = function("f", node("r", "Relu", "x:0", T=tf.float16), results=["r:0"], types={"x": tf.float16})
    after = float32(written(fed(), functions={"f": half})).functions["f"]
    assert after.signature.input_arg[0].type == 1 and after.nodes["r"].attr["T"].type == 1
    assert half.signature.input_arg[0].type == 19


def test_values_take_the_types_that_the_graph_reads():
    graph = written(fed("w"), fed("h", tf.resource), weights={"w": "v"}, handles={"h": "u"})
    stored = {"v": tf.constant(1, tf.float64), "u": tf.constant(2, tf.float16)}
    after = values(replace(graph, values=stored))
    assert {name: value.dtype for name, value in after.values.items()} == {"v": F, "u": F}
    assert graph.values == {}


# --- whole pixels -----------------------------------------------------------------------------------------------------

WHOLE = question(tf.uint8)
BYTES = RANDOM.integers(0, 255, SHAPE).astype(np.uint8)


def whole(build: Callable, dtype: tf.DType = tf.uint8) -> Graph:
    return traced(build, dtype=dtype)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.cast(x, F) / 255.0,
        lambda x: tf.cast(tf.reverse(x, [-1]), F),
        lambda x: tf.cast(tf.transpose(x[:, 1:5, ::2], [0, 3, 1, 2]), F),
        lambda x: tf.image.resize(x, [3, 3]),
        lambda x: tf.cast(tf.cast(x, tf.int32), F),
        lambda x: tf.cast(tf.concat([x, x], -1), F),
        lambda x: tf.cast(tf.stack(tf.unstack(x, axis=0)), F),
        lambda x: tf.cast(tf.gather(x, [0, 1, 0], axis=1), F),
        lambda x: tf.cast(tf.split(x, 3, -1)[1], F) * tf.cast(tf.size(x), F),
    ],
)
def test_whole_pixels_become_floats(build):
    graph = whole(build)
    after = float_image(graph, WHOLE)
    verify(after, WHOLE)
    assert attribute(after.nodes["image"], "dtype").type == 1
    (one, *_), (other, *_) = computed(graph, BYTES), computed(after, BYTES.astype(np.float32))
    np.testing.assert_allclose(other, one)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.cast(x + 1, F),  # 255 + 1 is 0
        lambda x: tf.cast(x - 1, F),
        lambda x: tf.cast(tf.cast(x, tf.int32) * 65_806, F),  # beyond what floats hold exactly
        lambda x: tf.cast(tf.cast(x, tf.int32) // 2, F),
        lambda x: tf.cast(tf.bitwise.right_shift(x, tf.constant(1, tf.uint8)), F),
        lambda x: tf.cast(tf.bitcast(x, tf.int8), F),
        lambda x: tf.cast(tf.bitwise.invert(tf.cast(x, tf.int32)), F),
        lambda x: tf.cast(tf.cast(x, tf.int32) + tf.reduce_max(tf.cast(x, tf.int32)), F),
        lambda x: tf.cast(x > 128, F),
        lambda x: tf.cast(tf.concat([x, x * 2], -1), F),
        lambda x: tf.cast(tf.shape(x), F),
        lambda x: tf.cast(tf.cast(x, tf.int8), F),
        lambda x: tf.gather(tf.range(256.0), tf.cast(x, tf.int32)),
    ],
)
def test_what_computes_with_whole_numbers_stays(build):
    graph = whole(build)
    assert float_image(graph, WHOLE) is graph


WIDER = [[0, 0], [0, 0], [6, 0], [0, 0]]
RISING = np.arange(3, dtype=np.float32) + 1


@pytest.mark.parametrize(
    ("whole_numbers", "floats"),
    [
        (lambda x: tf.reverse(tf.maximum(x, tf.constant(9, tf.uint8)), [2]), lambda x: tf.maximum(x, 9.0)[:, :, ::-1]),
        (lambda x: tf.clip_by_value(x, 16, 235), lambda x: tf.clip_by_value(x, 16.0, 235.0)),
        (lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]), lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]])),
        (
            lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=255),
            lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=255.0),
        ),
        (
            lambda x: tf.pad(x, [[0, 0], [2, 1], [1, 1], [0, 0]], "SYMMETRIC"),
            lambda x: tf.pad(x, [[0, 0], [2, 1], [1, 1], [0, 0]], "SYMMETRIC"),
        ),
        (lambda x: 255 - x, lambda x: 255 - x),
        (tf.bitwise.invert, lambda x: 255 - x),
        (lambda x: tf.abs(tf.cast(x, tf.int32) - 100), lambda x: tf.abs(x - 100)),
        (lambda x: tf.cast(tf.cast(x, tf.int32) - 128, tf.int8)[..., ::-1], lambda x: x[..., ::-1] - 128),
        (lambda x: tf.cast(x, tf.int16) * [1, 2, 3], lambda x: x * RISING),
        (
            lambda x: tf.math.squared_difference(tf.cast(x, tf.int32), tf.constant([7, 8, 9])),
            lambda x: (x - 6 - RISING) ** 2,
        ),
        (lambda x: tf.where(x > 200, tf.constant(200, tf.uint8), x), lambda x: tf.where(x > 200, 200.0, x)),
        (lambda x: tf.saturate_cast(tf.cast(x, tf.int32) + 20, tf.uint8), lambda x: tf.minimum(x + 20, 255)),
        (lambda x: tf.roll(tf.stop_gradient(x), 2, 1), lambda x: tf.roll(x, 2, 1)),
        (
            lambda x: tf.concat([x, tf.fill(SHAPE, tf.constant(7, tf.uint8))], 1),
            lambda x: tf.pad(x, [[0, 0], [0, 6], [0, 0], [0, 0]]),
        ),
        (lambda x: tf.bitcast(tf.minimum(x, tf.constant(127, tf.uint8)), tf.int8), lambda x: tf.minimum(x, 127.0)),
        (lambda x: tf.gather_nd(x, [[1], [0]]), lambda x: x[::-1]),
        (lambda x: tf.concat([tf.zeros_like(x), tf.tile(x, [1, 1, 2, 1])[:, :, :6]], 2), lambda x: tf.pad(x, WIDER)),
    ],
)
def test_computing_with_whole_pixels_has_the_gradient_of_floats(whole_numbers, floats):
    """In the image's own geometry, and with the same numbers."""
    graph = whole(lambda x: tf.cast(whole_numbers(x), F))
    after = float_image(graph, WHOLE)
    verify(after, WHOLE)
    (score, *_), (want, *_) = computed(after, BYTES.astype(np.float32)), computed(graph, BYTES)
    np.testing.assert_array_equal(score, want)
    weights = normal(*want.shape)
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(after.graph_def(), name="")
        image = made.get_tensor_by_name("image:0")
        gradient = tf.convert_to_tensor(tf.gradients(made.get_tensor_by_name(after.score) * weights, image)[0])
        with tf.compat.v1.Session(graph=made) as session:
            found = session.run(gradient, {image: BYTES.astype(np.float32)})
    x = tf.constant(BYTES.astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = floats(x) * weights
    np.testing.assert_allclose(found, tape.gradient(value, x), rtol=1e-6)


def test_a_constant_of_the_model_is_not_changed():
    graph = whole(lambda x: tf.cast(tf.maximum(x, tf.constant(9, tf.uint8, name="nine")), F))
    assert float_image(graph, WHOLE).nodes["nine"] is graph.nodes["nine"]


def test_a_float_image_stays():
    graph = traced(lambda image: tf.nn.relu(image))
    assert float_image(graph, question()) is graph


# --- logits -----------------------------------------------------------------------------------------------------------


def test_the_score_moves_before_the_softmax():
    graph = traced(lambda x: tf.nn.softmax(tf.reduce_sum(x, [1, 2], name="logits"))[:, 1:])
    last = graph.node(graph.score)
    copy = copied(last, "copy", ["logits:0", *last.input[1:]])
    asked = question(head=Head("Softmax", "softmax", "logits:0", "copy:0", (copy,)))
    after = logits(graph, asked)
    verify(after, asked)
    score, output, image = computed(after, pixels())
    np.testing.assert_allclose(score, pixels().sum((1, 2))[:, 1:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output, computed(graph, pixels())[1])
    assert after.outputs[1:] == graph.outputs[1:]


def test_a_score_that_is_no_probability_or_is_asked_for_stays():
    graph = traced(lambda image: tf.nn.softmax(image))
    assert logits(graph, question()) is graph


# --- the axis of images -------------------------------------------------------------------------------------------------

OPEN = (None, *SHAPE[1:])


@pytest.mark.parametrize(
    ("build", "one"),
    [
        (lambda image: tf.squeeze(tf.reduce_mean(image, [1, 2], keepdims=True)), (1, 3)),
        (lambda image: tf.squeeze(tf.nn.softmax(tf.reduce_mean(image, [1, 2]))), (1, 3)),  # all that there is to leave out
        (lambda image: tf.nn.softmax(tf.squeeze(tf.reduce_mean(image, [1, 2], keepdims=True)) * 2.0 + [1.0, 0, 2]), (1, 3)),
        (lambda image: tf.sigmoid(tf.squeeze(tf.reduce_mean(image, [1, 2, 3], keepdims=True))), (1,)),
    ],
    ids=["mean", "probabilities", "logits", "one score"],
)  # fmt: skip
def test_one_image_keeps_its_axis_where_every_axis_of_one_is_left_out(build, one):
    after = passed(batch_axis, traced(build, shape=OPEN))  # of several images nothing changes
    assert computed(after, pixels()[:1])[0].shape == one


@pytest.mark.parametrize(
    "build",
    [
        lambda image: tf.squeeze(tf.reduce_mean(image, [1, 2], keepdims=True), [1, 2]),
        lambda image: tf.expand_dims(tf.squeeze(tf.reduce_mean(image, [1, 2], keepdims=True)), 0),  # puts it back
        lambda image: tf.reduce_mean(tf.squeeze(image), -1),
    ],
    ids=["named", "put back", "no row"],
)
def test_what_else_leaves_axes_out_stays(build):
    graph = traced(build, shape=OPEN)
    assert batch_axis(graph, question()) is graph


def test_sizes_that_may_be_one_are_left_alone():
    graph = traced(lambda image: tf.squeeze(tf.reduce_mean(image, 3, keepdims=True)), shape=(None, None, None, 3))
    assert batch_axis(graph, question()) is graph


def test_a_model_of_one_image_keeps_its_form():
    graph = traced(lambda image: tf.squeeze(tf.reduce_mean(image, [1, 2])), shape=(1, *SHAPE[1:]))
    assert batch_axis(graph, question()) is graph


# --- start ------------------------------------------------------------------------------------------------------------


def test_a_float_image_is_where_the_gradient_starts():
    graph = traced(lambda image: tf.nn.relu(image))
    assert start(graph, question()).wrt == "image:0"


def test_an_encoded_image_starts_where_it_is_numbers():
    def build(image):
        decoded = tf.io.decode_image(image, 3, expand_animations=False)
        return tf.nn.relu(tf.cast(decoded, F, name="numbers"))

    graph = traced(build, dtype=tf.string, shape=())
    after = start(graph, question(tf.string, ()))
    assert after.outputs == (*graph.outputs[:2], "numbers:0")
    assert after.nodes is graph.nodes


# --- strided points ---------------------------------------------------------------------------------------------------


def convolved(padding="SAME", channels: int = 4, side: int = 1, strides: int = 2):
    def build(image, kernel):
        image = tf.tile(image, [1, 1, 1, -(-channels // 3)])[..., :channels]
        return tf.nn.conv2d(image, kernel, strides, padding)

    return traced(build, {"kernel": normal(side, side, channels, 5)})


@pytest.mark.parametrize("padding", ["SAME", "VALID", [[0, 0], [1, 2], [0, 1], [0, 0]]])
def test_a_strided_point_is_sliced_first(padding):
    after = passed(without_strided_points, convolved(padding))
    conv = next(one for one in after.nodes.values() if one.op == "Conv2D")
    assert list(conv.attr["strides"].list.i) == [1, 1, 1, 1]
    assert [after.nodes[name].op for name in consumers(after.nodes)["Conv2D/gradviz_slice"]] == ["Conv2D"]


@pytest.mark.parametrize("graph", [convolved(channels=16), convolved(side=3), convolved(strides=1)])
def test_other_convolutions_stay(graph):
    assert ops(passed(without_strided_points, graph)) == ops(graph)


def test_strided_points_in_functions_are_sliced_too():
    conv = node("conv", "Conv2D", "x:0", "w:0", T=F, strides=[1, 2, 2, 1], padding="VALID")
    body = function("body", conv, results=["conv:0"], types={"x": F, "w": F})
    attributes = {
        "Tcond": tf.bool,
        "Tin": [F, F],
        "Tout": [F],
        "then_branch": Calls("body"),
        "else_branch": Calls("body"),
    }
    call = node("if", "StatelessIf", "yes:0", "image:0", "w:0", **attributes)
    graph = written(
        fed(),
        fed("w", shape=(1, 1, 3, 4)),
        const("yes", True, np.bool_),
        call,
        functions={"body": body},
        feeds={"image:0": "image"},
        weights={"w": "v"},
        values={"v": tf.constant(normal(1, 1, 3, 4))},
    )
    after = passed(without_strided_points, graph)
    assert "StridedSlice" in {one.op for one in after.functions["body"].nodes.values()}
