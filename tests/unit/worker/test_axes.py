"""Which axis of the input is which, as the first operations of a graph say it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import question, traced

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis.axes import Axes, find_axes
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.image import find_entry
from gradviz_cli.worker.graph.question import Tensor

OPEN = (None, None, None, None)


def conv(channels: int, data_format: str = "NHWC"):
    kernel = np.ones((3, 3, channels, 2), np.float32)
    return lambda x: tf.nn.conv2d(x, kernel, 1, "SAME", data_format)


def first(x):
    return tf.transpose(x, [0, 2, 3, 1])


def sideways(x):
    return tf.transpose(x, [0, 2, 1, 3])


def ones(*shape: int):
    return np.ones(shape, np.float32)


BLOCKED = [0, 1, 3, 2, 4, 5]  # [N, rows, columns, height, width, C] as [N, rows, height, columns, width, C], and back


CASES = [
    ("convolution", OPEN, conv(7), Axes("NHWC", 7)),
    ("convolution, channels first", OPEN, conv(7, "NCHW"), Axes("NCHW", 7)),
    ("turned around", OPEN, lambda x: conv(3)(first((x - 0.5) / 0.2)), Axes("NCHW", 3)),
    ("turned on its side", OPEN, lambda x: conv(3)(tf.transpose(x, [0, 2, 1, 3])), Axes("NWHC", 3)),
    ("turned twice", OPEN, lambda x: conv(3, "NCHW")(tf.transpose(first(x), [0, 3, 1, 2])), Axes("NCHW", 3)),
    ("padded and cast", OPEN, lambda x: conv(4)(tf.pad(tf.cast(x, tf.float32), [[0, 0]] + [[1, 1]] * 2 + [[0, 0]])),
     Axes("NHWC", 4)),
    ("depthwise", OPEN, lambda x: tf.nn.depthwise_conv2d(x, np.ones((2, 2, 6, 1), np.float32), [1] * 4, "SAME"),
     Axes("NHWC", 6)),
    ("pooled", OPEN, lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"), Axes("NHWC")),
    ("resized", OPEN, lambda x: tf.image.resize(first(x), (8, 8)), Axes("NCHW")),
    ("three channels of more", OPEN, lambda x: conv(3)(x[..., :3]), Axes("NHWC")),
    ("two branches that agree", OPEN, lambda x: conv(3)(x) + conv(3)(x * 2), Axes("NHWC", 3)),
    ("two branches that do not", OPEN, lambda x: tf.reduce_sum(conv(3)(x)) + tf.reduce_sum(conv(3)(first(x))), None),
    ("nothing is said", OPEN, lambda x: tf.reduce_sum(x, [1, 2]), None),
    ("one plane", (None, 28, 28), lambda x: conv(1)(x[..., None]), Axes("NHW", 1)),
    ("one image", (84, 84, 12), lambda x: conv(12)(x[None]), Axes("HWC", 12)),
    ("one image, expanded", (12, 84, 84), lambda x: conv(12)(first(tf.expand_dims(x, 0))), Axes("CHW", 12)),
    ("a sequence", (None, 64, 8), lambda x: tf.nn.conv1d(x, np.ones((3, 8, 2), np.float32), 1, "SAME"),
     Axes("NWC", 8)),
    ("a volume", (None, None, None, None, None),
     lambda x: tf.nn.conv3d(x, np.ones((2, 2, 2, 3, 2), np.float32), [1] * 5, "SAME"), Axes("NDHWC", 3)),
    ("a row", (None, 360), lambda x: conv(3)(tf.reshape(x, [-1, 10, 12, 3])), Axes("NHWC", 3, True, (10, 12))),
    ("a row, its batch counted", (None, 360), lambda x: conv(3)(tf.reshape(x, [tf.shape(x)[0], 10, 12, 3])),
     Axes("NHWC", 3, True, (10, 12))),
    ("a row, channels first", (None, 360), lambda x: conv(3)(first(tf.reshape(x, [-1, 3, 10, 12]))),
     Axes("NCHW", 3, True, (10, 12))),
    ("a row of one plane", (None, 784), lambda x: tf.reduce_sum(tf.reshape(x, [-1, 28, 28]), 2),
     Axes("NHW", 1, True, (28, 28))),
    ("a row that stays one", (None, 100), lambda x: tf.matmul(x, np.ones((100, 3), np.float32)), None),
    ("a row, width before height", (None, 360), lambda x: conv(3)(sideways(tf.reshape(x, [-1, 12, 10, 3]))),
     Axes("NWHC", 3, True, (10, 12))),
    ("a row, channels first and width before height", (None, 360),
     lambda x: conv(3)(tf.transpose(tf.reshape(x, [-1, 3, 12, 10]), [0, 3, 2, 1])), Axes("NCWH", 3, True, (10, 12))),
    ("a row, each line of the picture by channels", (None, 360),
     lambda x: conv(3)(tf.transpose(tf.reshape(x, [-1, 10, 3, 12]), [0, 1, 3, 2])), Axes("NHCW", 3, True, (10, 12))),
    ("a row, turned as a plane and given channels later", (None, 120),
     lambda x: conv(1)(tf.reshape(tf.transpose(tf.reshape(x, [-1, 12, 10]), [0, 2, 1]), [-1, 10, 12, 1])),
     Axes("NWH", 1, True, (10, 12))),
    ("a row in blocks of pixels", (None, 3072),
     lambda x: conv(3)(tf.reshape(tf.transpose(tf.reshape(x, [-1, 4, 4, 8, 8, 3]), BLOCKED), [-1, 32, 32, 3])),
     Axes("", row=True)),
    ("a picture that is cut into blocks", (None, 3072),
     lambda x: conv(12)(tf.reshape(tf.transpose(tf.reshape(tf.reshape(x, [-1, 32, 32, 3]), [-1, 16, 2, 16, 2, 3]),
                                                BLOCKED), [-1, 16, 16, 12])), Axes("NHWC", 3, True, (32, 32))),
    ("a row in a row", (None, 1, 784), lambda x: conv(1)(tf.reshape(x, [-1, 28, 28, 1])),
     Axes("NHW", 1, True, (28, 28))),
    ("pixels in a row", (None, 120, 3), lambda x: conv(3)(tf.reshape(x, [-1, 10, 12, 3])),
     Axes("NHWC", 3, True, (10, 12))),
    ("three rows", (None, 3, 120), lambda x: conv(3)(first(tf.reshape(x, [-1, 3, 10, 12]))),
     Axes("NCHW", 3, True, (10, 12))),
    ("three rows, turned first", (None, 3, 120), lambda x: conv(3)(tf.reshape(tf.transpose(x, [0, 2, 1]), [-1, 10, 12, 3])),
     Axes("NCHW", 3, True, (10, 12))),
    ("lines of pixels", (None, 10, 36), lambda x: conv(3)(tf.reshape(x, [-1, 10, 12, 3])),
     Axes("NHWC", 3, True, (10, 12))),
    ("a plane that is flattened and laid out again", (None, 10, 12),
     lambda x: conv(1)(tf.reshape(tf.reshape(x, [-1, 120]), [-1, 10, 12, 1])), Axes("NHW", 1)),
    ("a plane that is flattened", (None, 28, 28), lambda x: tf.reshape(x, [-1, 784]) @ ones(784, 3), None),
    ("points, one by one", (None, 50, 64), lambda x: tf.tensordot(x, ones(64, 5), 1), Axes("NWC", weighed=True)),
    ("steps, averaged", (None, 50, 64), lambda x: tf.reduce_mean(x, 1) @ ones(64, 5), Axes("NWC", weighed=True)),
    ("steps, one after the other", (None, 50, 64), lambda x: sum(one @ ones(64, 5) for one in tf.unstack(x, axis=1)),
     Axes("NWC", weighed=True)),
    ("steps, by letters", (None, 50, 64), lambda x: tf.einsum("nab,bc->nac", x, ones(64, 5)), Axes("NWC", weighed=True)),
    ("points, by windows as wide as they are", (None, 50, 3),
     lambda x: tf.nn.conv2d(x[..., None], ones(1, 3, 1, 5), 1, "VALID"), Axes("NHC", 1, weighed=True)),
    ("a plane under a window as large as it is", (None, 8, 8),
     lambda x: tf.nn.conv2d(x[..., None], ones(8, 8, 1, 5), 1, "VALID"), Axes("NHW", 1)),
    ("any rank, given one shape", OPEN, lambda x: conv(3)(tf.reshape(x, [-1, 10, 12, 3])),
     Axes("NHWC", 3, True, (10, 12))),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "build", "want"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_what_the_first_operations_say(shape, build, want):
    graph = traced(build, shape=shape)
    assert find_axes(graph, "image:0", shape) == want


def entered(shape, build, key="image", **options):
    """The entry of an image of that shape, None where its rank is open."""
    asked = question(tf.float32, None if shape is None else tuple(-1 if one is None else one for one in shape))
    asked = replace(asked, image=replace(asked.image, key=key))
    return find_entry(traced(build, shape=OPEN if shape is None else shape), asked, ModelOptions("m", **options))


@pytest.mark.parametrize(
    ("shape", "build", "want"),
    [
        (OPEN, conv(1), Entry("NHWC", (224, 224), 1)),
        (OPEN, lambda x: conv(3)(first(x)), Entry("NCHW", (224, 224), 3)),
        (OPEN, lambda x: conv(5)(tf.reshape(x, [-1, 10, 12, 5])), Entry("NHWC", (10, 12), 5)),
        (None, conv(7), Entry("NHWC", (224, 224), 7)),
        ((None, 10, 12, 14), lambda x: conv(10)(first(x)), Entry("NCHW", (12, 14), 10)),
        ((None, 8, 8, 8), lambda x: conv(8)(first(x)), Entry("NCHW", (8, 8), 8)),
        ((84, 84, 12), lambda x: conv(12)(x[None]), Entry("HWC", (84, 84), 12, 1)),
        ((None, 360), lambda x: conv(3)(tf.reshape(x, [-1, 10, 12, 3])), Entry("flat", (10, 12), 3)),
        ((None, 360), lambda x: conv(3)(first(tf.reshape(x, [-1, 3, 10, 12]))), Entry("flat-NCHW", (10, 12), 3)),
        ((None, 360), lambda x: conv(3)(sideways(tf.reshape(x, [-1, 12, 10, 3]))), Entry("flat-NWHC", (10, 12), 3)),
        ((None, 1, 784), lambda x: conv(1)(tf.reshape(x, [-1, 28, 28, 1])),
         Entry("flat", (28, 28), 1, given=(1, 784))),
        ((None, 1, 784, 1), lambda x: conv(1)(tf.reshape(x, [-1, 28, 28, 1])),
         Entry("flat", (28, 28), 1, given=(1, 784, 1))),
        ((4, 120, 3), lambda x: conv(3)(tf.reshape(x, [4, 10, 12, 3])), Entry("flat", (10, 12), 3, 4, given=(120, 3))),
        ((None, None, 3), lambda x: conv(3)(tf.reshape(x, [-1, 10, 12, 3])),
         Entry("flat", (10, 12), 3, given=(120, 3))),
        ((None, 10, 3, 12), lambda x: conv(3)(tf.transpose(x, [0, 1, 3, 2])), Entry("NHCW", (10, 12), 3)),
        ((20, 24, 3, None), lambda x: conv(3)(tf.transpose(x, [3, 0, 1, 2])), Entry("HWCN", (20, 24), 3)),
        ((20, 24, 3, 1), lambda x: conv(3)(tf.transpose(x, [3, 0, 1, 2])), Entry("HWCN", (20, 24), 3, 1)),
        ((3, 20, 24, None), lambda x: conv(3)(tf.transpose(x, [3, 1, 2, 0])), Entry("CHWN", (20, 24), 3)),
        ((20, 24, None), lambda x: conv(1)(tf.transpose(x, [2, 0, 1])[..., None]), Entry("HWN", (20, 24), 1)),
        ((1, 20, 24, 3), lambda x: conv(1)(tf.transpose(x, [3, 1, 2, 0])), Entry("NHWC", (20, 24), 3, 1)),
        ((None, 28, 28), lambda x: tf.reshape(x, [-1, 784]) @ ones(784, 3), Entry("NHW", (28, 28), 1)),
        ((None, 20, 30), lambda x: tf.reshape(x, [-1, 600]) @ ones(600, 3), Entry("NHW", (20, 30), 1)),
        ((None, 28, 28), lambda x: tf.tensordot(x, ones(28, 3), 1), Entry("NHW", (28, 28), 1)),
        ((None, 40, 6), lambda x: conv(1)(x[..., None]), Entry("NHW", (40, 6), 1)),
        ((None, 28, 28, 1), lambda x: tf.nn.conv1d(tf.reshape(x, [-1, 28, 28]), ones(3, 28, 2), 1, "SAME"),
         Entry("NHWC", (28, 28), 1)),
    ],
)  # fmt: skip
def test_axes_that_the_shape_leaves_open_are_those_of_the_graph(shape, build, want):
    found, warning = entered(shape, build)
    assert found == want
    assert (warning is None) == (want.size != (224, 224)) and "--layout" not in (warning or "")


def test_where_nobody_says_what_the_axes_are_the_warning_names_both_options():
    found, warning = entered(OPEN, lambda x: tf.reduce_sum(x, [1, 2]))
    assert found == Entry("NHWC", (224, 224), 3) and "--layout" in warning and "--input-size" in warning
    assert entered(OPEN, lambda x: tf.reduce_sum(x, [1, 2]), layout="NCHW", input_size=(4, 5)) == (
        Entry("NCHW", (4, 5), 3), None
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ("224x224", "--input-size", "--layout")),
        ({"input_size": (9, 9)}, ("--input-size 9x9",)),
        ({"layout": "NCHW", "input_size": (8, 8)}, ("--input-size 8x8", "NCHW")),
    ],
)
def test_axes_that_the_model_does_not_take_are_a_matter_of_options(options, words):
    positions = np.zeros((1, 8, 8, 3), np.float32)
    with pytest.raises(UsageError) as caught:
        entered(OPEN, lambda x: conv(3)(x + positions), **options)
    assert all(word in str(caught.value) for word in words) and "export" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({"input_size": (10, 12)}, Entry("flat-NWHC", (10, 12), 3)),
        ({"input_size": (12, 10)}, Entry("flat", (12, 10), 3)),
        ({"layout": "flat"}, Entry("flat", (12, 10), 3)),
        ({"layout": "flat-NWHC"}, Entry("flat-NWHC", (10, 12), 3)),
        ({"layout": "flat-NWHC", "input_size": (12, 10)}, Entry("flat-NWHC", (12, 10), 3)),
    ],
)
def test_the_order_of_a_row_is_as_the_options_say(options, want):
    found = entered((None, 360), lambda x: conv(3)(sideways(tf.reshape(x, [-1, 12, 10, 3]))), **options)
    assert found == (want, None)


def test_a_row_behind_several_axes_is_as_the_options_say():
    want, options = Entry("flat-NWHC", (10, 20), 3, given=(6, 100)), {"layout": "flat-NWHC", "input_size": (10, 20)}
    assert entered((None, 6, 100), lambda x: tf.reshape(x, [-1, 600]) @ ones(600, 3), **options) == (want, None)
    images = np.random.default_rng(0).normal(size=(2, 10, 20, 3)).astype(np.float32)
    given = want.to_model(images, tf.float32)
    assert given.shape == (2, 6, 100) and want.spec(tf.float32).shape.as_list() == [None, 6, 100]
    np.testing.assert_array_equal(given.numpy().reshape(2, 20, 10, 3), images.transpose(0, 2, 1, 3))
    np.testing.assert_array_equal(want.from_model(given.numpy()), images)


@pytest.mark.parametrize(
    ("shape", "build"),
    [
        ((None, 20, 30, 3), lambda x: conv(3)(sideways(x))),
        ((None, 20, 30), lambda x: conv(1)(tf.transpose(x, [0, 2, 1])[..., None])),
        ((None, 3, 20, 30), lambda x: conv(3)(tf.transpose(x, [0, 3, 2, 1]))),
        ((20, 30, 3), lambda x: conv(3)(tf.transpose(x, [1, 0, 2])[None])),
        ((20, 30, 3, None), lambda x: conv(3)(tf.transpose(x, [3, 1, 0, 2]))),
    ],
)
def test_a_picture_that_the_model_turns_on_its_side_first_is_taken_as_usual_with_a_warning(shape, build):
    found, warning = entered(shape, build)
    axes, other = found.layout, found.layout.translate(str.maketrans("HW", "WH"))
    assert found.size == (20, 30) and f"--layout {axes} or {other}" in warning
    assert entered(shape, build, layout=axes) == (found, None)
    assert entered(shape, build, layout=other) == (replace(found, layout=other, size=(30, 20)), None)


def turned_row(*sizes: int):
    """A row of numbers as pictures of these sizes, which are turned on their side."""
    return lambda x: conv(1)(sideways(tf.reshape(x, [-1, *sizes, 1])))


@pytest.mark.parametrize(
    ("shape", "sizes", "layout", "size", "doubtful"),
    [
        ((None, 784), (28, 28), "flat-NWHC", (28, 28), True),
        ((None, 1, 784), (28, 28), "flat-NWHC", (28, 28), True),
        ((None, 480), (20, 24), "flat-NWHC", (24, 20), True),
        ((None, 480), (24, 20), "flat-NWHC", (20, 24), False),
        ((None, 4096), (128, 32), "flat-NWHC", (32, 128), False),
        ((None, 4096), (32, 128), "flat", (32, 128), False),
    ],
)
def test_a_row_that_the_model_turns_on_its_side_is_in_doubt_unless_its_sizes_are_those_of_one_order(
    shape, sizes, layout, size, doubtful
):
    found, warning = entered(shape, turned_row(*sizes))
    assert (found.layout, found.size) == (layout, size) and (warning is not None) == doubtful
    assert not doubtful or "first, and flat-NWHC is taken; settle it with --layout flat-NWHC or flat" in warning
    if sizes[0] == sizes[1]:
        assert entered(shape, turned_row(*sizes), input_size=sizes) == (found, warning), "a size does not say the order"
    else:
        assert entered(shape, turned_row(*sizes), input_size=size) == (found, None)
    other = "flat" if layout == "flat-NWHC" else "flat-NWHC"
    assert entered(shape, turned_row(*sizes), layout=layout) == (found, None)
    assert entered(shape, turned_row(*sizes), layout=other) == (replace(found, layout=other, size=size[::-1]), None)


def columns(x):
    """[N, 24, 24, 1] turned on its side and brought to [N, 12, 6, 2]."""
    return tf.nn.max_pool2d(tf.nn.relu(conv(1)(sideways(x))), (2, 4), (2, 4), "SAME")


def to_classes(x):
    return tf.nn.softmax(tf.tensordot(x, ones(x.shape[-1], 5), 1))


READERS = {
    "a result for each step, the other side among the features": lambda x: to_classes(tf.reshape(columns(x), [-1, 12, 12])),
    "a result for each step, the mean of the other side": lambda x: to_classes(tf.reduce_mean(columns(x), 2)),
    "a result for each step, the mean that stays an axis": lambda x: to_classes(
        tf.squeeze(tf.reduce_mean(columns(x), 2, keepdims=True), 2)
    ),
    "a result for each step, time first": lambda x: to_classes(tf.transpose(tf.reduce_mean(columns(x), 2), [1, 0, 2])),
    "windows over the steps": lambda x: to_classes(
        tf.nn.conv1d(tf.reshape(columns(x), [-1, 12, 12]), ones(3, 12, 4), 1, "SAME")
    ),
    "one step after the other": lambda x: sum(
        tf.nn.tanh(one @ ones(12, 5)) for one in tf.unstack(tf.reshape(columns(x), [-1, 12, 12]), axis=1)
    ),
    "a loop over the steps": lambda x: tf.raw_ops.TensorListStack(
        input_handle=tf.raw_ops.TensorListFromTensor(
            tensor=tf.transpose(tf.reshape(columns(x), [-1, 12, 12]), [1, 0, 2]), element_shape=tf.constant([-1, 12])
        ),
        element_shape=tf.constant([-1, 12]),
        element_dtype=tf.float32,
    ),
}  # fmt: skip


@pytest.mark.parametrize("build", READERS.values(), ids=READERS)
def test_a_model_that_goes_along_the_width_that_it_put_first_reads_its_input_as_it_lies(build):
    shape = (None, 24, 24, 1)
    assert entered(shape, build) == (Entry("NHWC", (24, 24), 1), None)
    assert entered((None, 576), lambda x: build(tf.reshape(x, [-1, 24, 24, 1]))) == (Entry("flat", (24, 24), 1), None)
    _, warning = entered(shape, lambda x: build(sideways(sideways(sideways(x)))))
    assert warning is None
    _, warning = entered(shape, lambda x: to_classes(tf.reshape(tf.transpose(columns(x), [0, 2, 1, 3]), [-1, 6, 24])))
    assert "on its side" in warning, "it goes along the other side"


@pytest.mark.parametrize(
    "build",
    [
        lambda x: to_classes(tf.reshape(columns(x), [-1, 144])),
        lambda x: to_classes(tf.reduce_mean(columns(x), [1, 2])),
        lambda x: to_classes(tf.reduce_mean(tf.reduce_mean(columns(x), 2), 1)),
        lambda x: to_classes(columns(x)),
        lambda x: to_classes(tf.reshape(columns(x), [-1, 72, 2])),
        lambda x: tf.stack([to_classes(tf.reduce_mean(one, [0, 1])[None]) for one in tf.unstack(columns(x), 2, axis=3)]),
    ],
)  # fmt: skip
def test_a_model_that_takes_in_both_sides_alike_does_not_say_which_is_the_width(build):
    assert "on its side" in entered((None, 24, 24, 1), build)[1]


@pytest.mark.parametrize(
    ("shape", "warned"), [((None, 20, 40, 1), False), ((None, 32, None, 1), False), ((None, 40, 20, 1), True)]
)
def test_a_line_that_lies_is_one_whatever_the_model_turns(shape, warned):
    found, warning = entered(shape, lambda x: conv(1)(sideways(x)))
    assert found.layout == "NHWC" and ("on its side" in (warning or "")) == warned


@pytest.mark.parametrize(
    ("shape", "build", "words"),
    [
        ((None, 1024, 3), lambda x: tf.reduce_max(tf.tensordot(x, ones(3, 5), 1), 1), "as a sequence"),
        ((None, 50, 64), lambda x: tf.tensordot(x, ones(64, 5), 1), "as a sequence"),
        ((None, 30, 6), lambda x: tf.reshape(x, [-1, 180]) @ ones(180, 5), "no table, points or steps"),
        ((None, 30, 6), lambda x: tf.reshape(tf.reshape(x, [-1, 30, 2, 3]), [-1, 180]) @ ones(180, 5), "no table"),
        ((None, 1, 784), lambda x: tf.reshape(x, [-1, 784]) @ ones(784, 5), "no table"),
        ((None, 16, 192), lambda x: conv(3)(tf.reshape(tf.transpose(tf.reshape(x, [-1, 4, 4, 8, 8, 3]), BLOCKED),
                                                       [-1, 32, 32, 3])), "order that no picture has"),
        ((None, 3072), lambda x: conv(3)(tf.reshape(tf.transpose(tf.reshape(x, [-1, 4, 4, 8, 8, 3]), BLOCKED),
                                                    [-1, 32, 32, 3])), "order that no picture has"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_and_may_be_called_one(shape, build, words):
    key = Tensor("x", "image:0", tf.float32, tuple(-1 if one is None else one for one in shape))
    asked, graph = replace(question(tf.float32), image=key), traced(build, shape=shape)
    with pytest.raises(ModelUnusable, match=words) as caught:
        find_entry(graph, asked, ModelOptions("m"))
    assert "--layout" in caught.value.remedy and str(shape[1]) in str(caught.value)
    if len(shape) == 3:
        assert find_entry(graph, asked, ModelOptions("m", layout="NHW"))[0] == Entry("NHW", shape[1:], 1)


def test_a_square_that_is_taken_row_by_row_is_a_plane_with_a_warning():
    """So networks of MNIST take it; an input of that size, or with the name of an image, is one for certain."""

    def rows(side):
        return lambda x: tf.tensordot(x, ones(side, 5), 1)

    def bands(x):
        return tf.nn.conv2d(x[..., None], ones(3, 28, 1, 4), 1, "VALID")

    found, warning = entered((None, 64, 64), rows(64), key="x")
    assert found == Entry("NHW", (64, 64), 1) and "[?, 64, 64] one by one" in warning and "--layout NHW" in warning
    assert entered((None, 64, 64), rows(64), key="x", layout="NHW") == (found, None)
    assert entered((None, 64, 64), rows(64), key="picture") == (found, None)
    assert entered((None, 28, 28), rows(28), key="x") == (Entry("NHW", (28, 28), 1), None)
    assert entered((None, 28, 28), bands, key="x") == (Entry("NHW", (28, 28), 1), None)


def test_rows_of_what_is_called_an_image_or_is_bytes_are_those_of_a_plane():
    shape, plane = (None, 28, 20), Entry("NHW", (28, 20), 1)
    assert entered(shape, lambda x: tf.tensordot(x, ones(20, 5), 1), key="image") == (plane, None)
    for key in ("x", "image_features"):
        with pytest.raises(ModelUnusable, match="as a sequence"):
            entered(shape, lambda x: tf.tensordot(x, ones(20, 5), 1), key=key)
    asked = question(tf.uint8, (-1, 28, 20))
    asked = replace(asked, image=replace(asked.image, key="x"))
    graph = traced(lambda x: tf.tensordot(tf.cast(x, tf.float32), ones(20, 5), 1), dtype=tf.uint8, shape=shape)
    assert find_entry(graph, asked, ModelOptions("m")) == (replace(plane, whole=True), None)


def test_frames_without_a_batch_are_no_images():
    with pytest.raises(ModelUnusable, match="the frames of a video, or the slices of a volume"):
        entered((16, 32, 32, 3), lambda x: tf.nn.conv3d(x[None], ones(3, 3, 3, 3, 4), [1] * 5, "SAME"))
    bands = entered((None, 25, 25, 30), lambda x: tf.nn.conv3d(x[..., None], ones(3, 3, 3, 1, 4), [1] * 5, "SAME"))
    assert bands[0] == Entry("NHWC", (25, 25), 30)


def test_a_sequence_is_no_picture_unless_somebody_says_so():
    build = CASES[[row[0] for row in CASES].index("a sequence")][2]
    with pytest.raises(ModelUnusable, match="reads as a sequence") as caught:
        entered((None, 64, 8), build)
    assert "--layout NHW" in caught.value.remedy
    assert entered((None, 64, 8), build, layout="NHW")[0] == Entry("NHW", (64, 8), 1)


@pytest.mark.parametrize(
    ("order", "alpha"), [(None, False), ("rgba", True)]
)  # four channels alone are stacked frames as well as RGBA
def test_a_fourth_channel_is_alpha_where_somebody_says_so(order, alpha):
    found, _ = entered((None, 84, 84, 4), conv(4), channel_order=order)
    assert found == Entry("NHWC", (84, 84), 4, alpha=alpha) and found.takes_pictures == alpha
    with pytest.raises(UsageError, match="--channel-order rgba: the input image has 3"):
        entered((None, 84, 84, 3), conv(3), channel_order="rgba")
