"""Operations written as others: they give the numbers and the gradients that arithmetic by hand gives."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import tensorflow as tf
from graphs import computed, node, normal, ops, question, traced

from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes import convolutions
from gradviz_cli.worker.passes.equal_forms import drawn, equal_forms

RANDOM = np.random.default_rng(5)
IMAGE = (2, 7, 9, 8)
SAME, VALID, EXPLICIT = "SAME", "VALID", "EXPLICIT"
AROUND = ((1, 2), (0, 3))


@pytest.fixture(autouse=True)
def _same_numbers(monkeypatch):
    monkeypatch.setitem(globals(), "RANDOM", np.random.default_rng(5))


@pytest.fixture
def no_kernels(monkeypatch):
    """As on a machine that has none of them."""
    monkeypatch.setattr(convolutions, "_runs", lambda *_: False)


def rewritten(graph: Graph) -> Graph:
    after = equal_forms(graph)
    verify(after, question())
    return after


def gradient(graph: Graph, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Of the sum of seed * output, as TensorFlow differentiates the graph."""
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(graph.graph_def(), name="")
        score, x = (made.get_tensor_by_name(name) for name in (graph.score, "image:0"))
        (found,) = tf.gradients(score, [x], [tf.constant(seed, score.dtype)])
    values = {f"{name}:0": np.asarray(graph.values[variable]) for name, variable in graph.weights.items()}
    with tf.compat.v1.Session(graph=made) as session:
        return session.run(found, {**values, "image:0": image})


# --- convolutions, by a sum over the places of the kernel ----------------------------------------------------------------


def taps(image, kernel, stride, rate, padding):
    """The padded image's shape, where the image lies in it, and for each place of a kernel the pixels that it reads."""
    sides, window = image.shape[1:-1], kernel.shape[: image.ndim - 2]
    around = AROUND if padding == EXPLICIT else ((0, 0),) * len(sides)
    if padding == SAME:
        lacking = [
            max((-(-size // step) - 1) * step + (places - 1) * apart + 1 - size, 0)
            for size, step, places, apart in zip(sides, stride, window, rate, strict=True)
        ]
        around = tuple((one // 2, one - one // 2) for one in lacking)
    whole = [size + sum(more) for size, more in zip(sides, around, strict=True)]
    inside = (slice(None), *(slice(more[0], more[0] + size) for size, more in zip(sides, around, strict=True)))
    found = [
        -(-(size - (places - 1) * apart) // step)
        for size, places, apart, step in zip(whole, window, rate, stride, strict=True)
    ]
    read = {
        place: (
            slice(None),
            *(
                slice(one * apart, one * apart + (count - 1) * step + 1, step)
                for one, apart, count, step in zip(place, rate, found, stride, strict=True)
            ),
        )
        for place in product(*map(range, window))
    }
    return (image.shape[0], *whole, image.shape[-1]), inside, read


def dense(kernel, groups):
    """The kernel of a convolution in groups, as one of all channels with zeros between the groups."""
    *window, each, outputs = kernel.shape
    full = np.zeros((*window, groups * each, outputs))
    for group in range(groups):
        part = slice(group * outputs // groups, (group + 1) * outputs // groups)
        full[..., group * each : (group + 1) * each, part] = kernel[..., part]
    return full


def by_hand(image, kernel, seed, stride, rate, padding):
    """A convolution and the gradient of the sum of seed * result; `seed` makes its own from the result."""
    shape, inside, read = taps(image, kernel, stride, rate, padding)
    padded = np.zeros(shape)
    padded[inside] = image
    found = sum(padded[places] @ kernel[place] for place, places in read.items())
    seeds, back = seed(found), np.zeros(shape)
    for place, places in read.items():
        back[places] += seeds @ kernel[place].T
    return found, seeds, back[inside]


def noise(like):
    return RANDOM.normal(size=like.shape)


def laid(array, first):
    return np.moveaxis(array, -1, 1) if first else array


def each_axis(numbers, first):
    return [1, 1, *numbers] if first else [1, *numbers, 1]


CONVOLUTIONS = [
    (groups, stride, rate, padding)
    for groups, stride, rate, padding in product((1, 2, 8), ((1, 1), (2, 2)), ((1, 1), (2, 3)), (SAME, VALID, EXPLICIT))
    if groups != 2 or padding == SAME
]


@pytest.mark.parametrize("first", [False, True], ids=["NHWC", "NCHW"])
@pytest.mark.parametrize(("groups", "stride", "rate", "padding"), CONVOLUTIONS)
def test_a_convolution_without_a_kernel(groups, stride, rate, padding, first, no_kernels):
    image, kernel = RANDOM.normal(size=IMAGE), RANDOM.normal(size=(3, 2, 8 // groups, 16))
    around = [number for pair in ((0, 0), *AROUND, (0, 0)) for number in pair]
    around = around[:2] + around[6:] + around[2:6] if first else around

    def build(image, kernel):
        return tf.raw_ops.Conv2D(
            input=image,
            filter=kernel,
            strides=each_axis(stride, first),
            dilations=each_axis(rate, first),
            padding=padding,
            explicit_paddings=around if padding == EXPLICIT else [],
            data_format="NCHW" if first else "NHWC",
        )

    graph = traced(build, {"kernel": kernel}, tf.float64, (None, *laid(image, first).shape[1:]))
    after = rewritten(graph)
    want, seed, back = by_hand(image, dense(kernel, groups), noise, stride, rate, padding)
    np.testing.assert_allclose(computed(after, laid(image, first))[0], laid(want, first), atol=1e-12)
    np.testing.assert_allclose(gradient(after, laid(image, first), laid(seed, first)), laid(back, first), atol=1e-12)


@pytest.mark.parametrize(("groups", "rate"), [(1, (2, 1, 2)), (2, (1, 1, 1)), (2, (2, 2, 1))])
def test_a_convolution_of_volumes_without_a_kernel(groups, rate, no_kernels):
    image, kernel = RANDOM.normal(size=(1, 4, 5, 6, 4)), RANDOM.normal(size=(2, 3, 2, 4 // groups, 4))

    def build(image, kernel):
        return tf.raw_ops.Conv3D(input=image, filter=kernel, strides=[1] * 5, dilations=[1, *rate, 1], padding=SAME)

    after = rewritten(traced(build, {"kernel": kernel}, tf.float64, image.shape))
    want, seed, back = by_hand(image, dense(kernel, groups), noise, (1, 1, 1), rate, SAME)
    np.testing.assert_allclose(computed(after, image)[0], want, atol=1e-12)
    np.testing.assert_allclose(gradient(after, image, seed), back, atol=1e-12)


@pytest.mark.parametrize(("stride", "rate"), [((1, 1), (2, 2)), ((1, 2), (1, 1))])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_convolution_of_each_channel(stride, rate, dtype):
    """Also where there is a kernel of its gradient, which is wrong: that of oneDNN, dilated, in float32."""
    image, kernel = RANDOM.normal(size=IMAGE).astype(dtype), RANDOM.normal(size=(3, 2, 8, 2)).astype(dtype)

    def build(image, kernel):
        return tf.raw_ops.DepthwiseConv2dNative(
            input=image, filter=kernel, strides=[1, *stride, 1], dilations=[1, *rate, 1], padding=SAME
        )

    after = rewritten(traced(build, {"kernel": kernel}, tf.as_dtype(dtype), IMAGE))
    full = dense(kernel.reshape(3, 2, 1, 16), 8)
    want, seed, back = by_hand(image.astype(np.float64), full, noise, stride, rate, SAME)
    tolerance = 1e-12 if dtype is np.float64 else 2e-5
    np.testing.assert_allclose(computed(after, image)[0], want, atol=tolerance)
    np.testing.assert_allclose(gradient(after, image, seed), back, atol=tolerance)


@pytest.mark.parametrize("first", [False, True], ids=["NHWC", "NCHW"])
@pytest.mark.parametrize(("groups", "stride", "rate"), [(1, 1, 2), (2, 1, 1), (2, 2, 1), (1, 2, 1)])
def test_a_transposed_convolution_without_a_kernel(groups, stride, rate, first, no_kernels):
    """It is what the gradient of a convolution is, and that convolution its own."""
    image, kernel = RANDOM.normal(size=(2, 4, 5, 8)), RANDOM.normal(size=(3, 2, 6 // groups, 8))
    size = (2, 4 * stride, 5 * stride, 6)

    def build(image, kernel):
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=[size[0], size[3], *size[1:3]] if first else size,
            filter=kernel,
            out_backprop=image,
            strides=each_axis((stride,) * 2, first),
            dilations=each_axis((rate,) * 2, first),
            padding=SAME,
            data_format="NCHW" if first else "NHWC",
        )

    after = rewritten(traced(build, {"kernel": kernel}, tf.float64, laid(image, first).shape))
    seed = RANDOM.normal(size=size)
    back, _, want = by_hand(seed, dense(kernel, groups), lambda _: image, (stride,) * 2, (rate,) * 2, SAME)
    np.testing.assert_allclose(computed(after, laid(image, first))[0], laid(want, first), atol=1e-12)
    np.testing.assert_allclose(gradient(after, laid(image, first), laid(seed, first)), laid(back, first), atol=1e-12)


CHANNELS_FIRST = {
    "max": lambda x: tf.nn.max_pool2d(x, [3, 2], [2, 1], SAME, "NCHW"),
    "max, sizes that are tensors": lambda x: tf.raw_ops.MaxPoolV2(
        input=x, ksize=[1, 1, 3, 2], strides=[1, 1, 2, 1], padding=SAME, data_format="NCHW"
    ),
    "mean": lambda x: tf.nn.avg_pool2d(x, [3, 2], [2, 1], SAME, "NCHW"),
    "to space": lambda x: tf.nn.depth_to_space(x, 2, "NCHW"),
    "to depth": lambda x: tf.nn.space_to_depth(x, 2, "NCHW"),
}
CHANNELS_LAST = {
    "max": lambda x: tf.nn.max_pool2d(x, [3, 2], [2, 1], SAME),
    "mean": lambda x: tf.nn.avg_pool2d(x, [3, 2], [2, 1], SAME),
    "to space": lambda x: tf.nn.depth_to_space(x, 2),
    "to depth": lambda x: tf.nn.space_to_depth(x, 2),
}


@pytest.mark.parametrize("name", CHANNELS_FIRST)
def test_what_takes_channels_first_without_a_kernel(name, no_kernels):
    image = RANDOM.normal(size=(2, 6, 8, 8))
    graph = traced(CHANNELS_FIRST[name], None, tf.float64, (None, 8, 6, 8))
    after, x = rewritten(graph), tf.constant(image)
    with tf.GradientTape() as tape:
        tape.watch(x)
        want = CHANNELS_LAST[name.partition(",")[0]](x)
    seed = noise(want)
    back = tape.gradient(want, x, tf.constant(seed)).numpy()
    np.testing.assert_allclose(computed(after, laid(image, True))[0], laid(want.numpy(), True))
    np.testing.assert_allclose(gradient(after, laid(image, True), laid(seed, True)), laid(back, True))


def test_what_has_a_kernel_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(convolutions, "_runs", lambda *_: True)
    kernel = {"kernel": RANDOM.normal(size=(3, 2, 4, 16)).astype(np.float32)}
    graph = traced(lambda image, kernel: tf.nn.conv2d(image, kernel, 1, SAME, dilations=2), kernel, shape=IMAGE)
    assert rewritten(graph).nodes == graph.nodes


def test_an_ordinary_convolution_is_not_even_tried(monkeypatch):
    monkeypatch.setattr(convolutions, "_runs", lambda *_: pytest.fail("tried"))
    kernel = {"kernel": RANDOM.normal(size=(3, 2, 8, 16)).astype(np.float32)}
    graph = traced(lambda image, kernel: tf.nn.conv2d(image, kernel, 2, SAME), kernel, shape=IMAGE)
    assert rewritten(graph).nodes == graph.nodes


def test_sizes_that_are_open_stay_open(no_kernels):
    kernel = {"kernel": RANDOM.normal(size=(3, 3, 8, 4))}
    graph = traced(
        lambda image, kernel: tf.nn.conv2d(image, kernel, 2, SAME, dilations=2),
        kernel,
        tf.float64,
        (None, None, None, 8),
    )
    after = rewritten(graph)
    for size in ((1, 5, 6, 8), (2, 8, 3, 8)):
        image = RANDOM.normal(size=size)
        want, seed, back = by_hand(image, kernel["kernel"], noise, (2, 2), (2, 2), SAME)
        np.testing.assert_allclose(computed(after, image)[0], want, atol=1e-12)
        np.testing.assert_allclose(gradient(after, image, seed), back, atol=1e-12)


# --- formulas ------------------------------------------------------------------------------------------------------------

XLA_PAD = {"padding_low": [0, 1, -1, 0], "padding_high": [0, -2, 2, 0], "padding_interior": [0, 1, 0, 2]}
PIXELS = (2, 5, 6, 3)


def slope(graph: Graph, image: np.ndarray, seed: np.ndarray, along: np.ndarray, step: float) -> float:
    """Of the sum of seed * output in a direction: by what the operation itself gives, on either side."""
    above, below = (computed(graph, (image + sign * step * along).astype(np.float32))[0] for sign in (1, -1))
    return float(((above.astype(np.float64) - below) * seed).sum() / (2 * step))


FORMULAS = {
    "contrast": (lambda x: tf.image.adjust_contrast(x, 1.7), 1e-2),
    "saturation": (lambda x: tf.raw_ops.AdjustSaturation(images=x, scale=0.6), 1e-3),
    "hue": (lambda x: tf.raw_ops.AdjustHue(images=x, delta=0.3), 1e-3),
    "hsv to rgb": (tf.image.hsv_to_rgb, 1e-3),
    "smaller area": (lambda x: tf.compat.v1.image.resize_area(x, (2, 4)), 1e-1),
    "larger area": (lambda x: tf.compat.v1.image.resize_area(x, (7, 9)), 1e-1),
    "area of corners": (lambda x: tf.compat.v1.image.resize_area(x, (3, 4), align_corners=True), 1e-1),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_is_the_operation_and_its_gradient_the_slope(name):
    build, step = FORMULAS[name]
    graph = traced(build, shape=PIXELS)
    after = rewritten(graph)
    assert ops(after) != ops(graph)
    image = RANDOM.uniform(0.1, 0.9, PIXELS).astype(np.float32)
    want = computed(graph, image)[0]
    np.testing.assert_allclose(computed(after, image)[0], want, atol=2e-6)
    seed = RANDOM.normal(size=want.shape)
    found = gradient(after, image, seed).astype(np.float64)
    for along in (RANDOM.normal(size=PIXELS), RANDOM.normal(size=PIXELS)):
        due = slope(graph, image, seed, along, step)
        assert abs((found * along).sum() - due) < 5e-3 * np.linalg.norm(found) * np.linalg.norm(along)


def test_what_is_left_of_a_division_moves_with_the_number():
    graph = traced(lambda x: tf.truncatemod(x - 0.55, 0.3), shape=PIXELS)
    after, image = rewritten(graph), RANDOM.uniform(0.1, 0.9, PIXELS).astype(np.float32)
    np.testing.assert_allclose(computed(after, image)[0], np.fmod(image - np.float32(0.55), np.float32(0.3)), atol=1e-6)
    seed = RANDOM.normal(size=PIXELS)
    np.testing.assert_allclose(gradient(after, image, seed), seed, rtol=1e-6)


def xla(op: str, *inputs, **types) -> Graph:
    """An operation that no public door of TensorFlow leads to, of the image and these."""
    graph = traced(lambda image: tf.identity(image), shape=PIXELS)
    constants = {f"input{place}": np.asarray(one) for place, one in enumerate(inputs)}
    nodes = dict(graph.nodes)
    with tf.Graph().as_default() as made:
        for name, value in constants.items():
            tf.constant(value, name=name)
    nodes.update({one.name: normal(one) for one in made.as_graph_def().node})
    nodes["end"] = node("end", op, "image:0", *(f"{name}:0" for name in constants), T=tf.float32, **types)
    return Graph(nodes, outputs=("end:0", "end:0", "image:0"), feeds=graph.feeds)


INDICES = {"Tindices": tf.int32}


@pytest.mark.parametrize("start", [(0, 1, 2, 0), (0, 4, -3, 9)])
def test_a_slice_is_written_and_read_where_it_fits(start):
    """A start that lies outside is moved inside."""
    image, update = RANDOM.normal(size=PIXELS).astype(np.float32), RANDOM.normal(size=(2, 2, 3, 1)).astype(np.float32)
    places = tuple(
        slice(low := min(max(one, 0), whole - part), low + part)
        for one, whole, part in zip(start, PIXELS, update.shape, strict=True)
    )
    want, seed = image.copy(), RANDOM.normal(size=PIXELS)
    want[places] = update
    after = rewritten(xla("XlaDynamicUpdateSlice", update, np.int32(start), **INDICES))
    np.testing.assert_array_equal(computed(after, image)[0], want)
    back = seed.copy()
    back[places] = 0
    np.testing.assert_allclose(gradient(after, image, seed), back, rtol=1e-6)

    after = rewritten(xla("XlaDynamicSlice", np.int32(start), np.int32(update.shape), **INDICES))
    np.testing.assert_array_equal(computed(after, image)[0], image[places])
    back = np.zeros(PIXELS)
    back[places] = seed[places]
    np.testing.assert_allclose(gradient(after, image, seed[places]), back, rtol=1e-6)


def test_padding_before_behind_and_between():
    image = RANDOM.normal(size=PIXELS).astype(np.float32)
    low, high, between = (np.int32(one) for one in XLA_PAD.values())
    wide = np.full([(n - 1) * (b + 1) + 1 for n, b in zip(PIXELS, between, strict=True)], 7, np.float32)
    apart = tuple(slice(None, None, int(b) + 1) for b in between)
    seed = np.zeros(wide.shape)
    wide[apart] = image

    def padded(array, value):
        around = [(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True)]
        full = np.pad(array, around, constant_values=value)
        return full[tuple(slice(max(-a, 0), n + min(b, 0)) for a, b, n in zip(low, high, full.shape, strict=True))]

    want = padded(wide, 7)
    after = rewritten(xla("XlaPad", np.float32(7), low, high, between, Tindices=tf.int32))
    np.testing.assert_array_equal(computed(after, image)[0], want)
    seed = RANDOM.normal(size=want.shape)
    for _ in range(3):  # it is linear: <what it makes of a change, seed> = <change, gradient>
        change = RANDOM.normal(size=PIXELS).astype(np.float32)
        moved = np.zeros(wide.shape)
        moved[apart] = change
        due = (padded(moved, 0) * seed).sum()
        assert abs((gradient(after, image, seed) * change).sum() - due) < 1e-4


def test_a_mark_of_the_debugger_hands_the_gradient_on():
    graph = traced(lambda image: tf.raw_ops.DebugGradientIdentity(input=3 * image), shape=PIXELS)
    image, seed = (RANDOM.normal(size=PIXELS).astype(np.float32) for _ in range(2))
    after = rewritten(graph)
    np.testing.assert_array_equal(computed(after, image)[0], 3 * image)
    np.testing.assert_array_equal(gradient(after, image, seed), 3 * seed)


# --- how a form is drawn ---------------------------------------------------------------------------------------------------


def left_over(image):
    """Its result, and beside it something that reads the result."""
    result = tf.nn.relu(image)
    tf.shape(result)
    with tf.control_dependencies([result]):
        tf.constant(1.0)
    return result


FORMS = {
    "the last has a reader": (left_over, lambda image: np.maximum(image, 0)),
    "an input that is handed on": (lambda image: image, lambda image: image),
    "one output of several": (lambda image: tf.split(image, 2, -1)[1], lambda image: image[..., 1:]),
    "the first of several": (lambda image: tf.split(image, 2, -1)[0], lambda image: image[..., :1]),
    "numbers alone": (lambda image: tf.fill([2, 3, 2], 5.0), lambda image: np.full((2, 3, 2), 5.0)),
}


@pytest.mark.parametrize("open_shape", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_a_form_stands_in_place_of_its_node_wherever_it_is_placed(name, open_shape):
    form, want = FORMS[name]
    image = np.arange(12, dtype=np.float32).reshape(2, 3, 2) - 6
    shape = tf.TensorShape(None if open_shape else [2, 3, want(image).shape[-1]])
    found = drawn(form, [tf.TensorSpec(None if open_shape else image.shape)], shape)
    nodes = [each for place in ("one", "other") for each in found.placed(place, ["image:0"])]
    given = traced(tf.identity, shape=image.shape).nodes["image"]
    graph = Graph(
        {"image": given, **{each.name: each for each in nodes}},
        outputs=("one:0", "other:0", "image:0"),
        feeds={"image:0": "image"},
    )
    for output in computed(graph, image)[:2]:
        np.testing.assert_array_equal(output, want(image))
    assert {text.lstrip("^").split(":")[0] for each in nodes for text in each.input} <= set(graph.nodes)
