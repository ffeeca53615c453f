"""Which axis of the input is which, as the first operations of a graph say it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import question, traced

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis.axes import Axes, find_axes
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.image import find_entry

OPEN = (None, None, None, None)


def conv(channels: int, data_format: str = "NHWC"):
    kernel = np.ones((3, 3, channels, 2), np.float32)
    return lambda x: tf.nn.conv2d(x, kernel, 1, "SAME", data_format)


def first(x):
    return tf.transpose(x, [0, 2, 3, 1])


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
    ("any rank, given one shape", OPEN, lambda x: conv(3)(tf.reshape(x, [-1, 10, 12, 3])),
     Axes("NHWC", 3, True, (10, 12))),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "build", "want"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_what_the_first_operations_say(shape, build, want):
    graph = traced(build, shape=shape)
    assert find_axes(graph, "image:0", len(shape)) == want


def entered(shape, build, **options):
    """The entry of an image of that shape, None where its rank is open."""
    asked = question(tf.float32, None if shape is None else tuple(-1 if one is None else one for one in shape))
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
    ],
)
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
