"""Whether the gradient starts at the image: pixel by pixel, channel by channel, the right way up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import fed, node, question, traced, written

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.geometry import check_start, probes, same_pixels
from gradviz_cli.worker.analysis.measure import measure

F = tf.float32
ENTRY = Entry("NHWC", (6, 6), 3, 2, whole=True)
WHOLE = question(tf.uint8)
GAMMA = ((np.arange(256) / 255) ** 2.2).astype(np.float32)


def checked(build, asked=WHOLE, entry=ENTRY, dtype=tf.uint8, shape=(2, 6, 6, 3)) -> str | None:
    """What is said of a graph whose first float tensor is `start`."""
    graph = traced(lambda image: tf.identity(build(image), "start") * 2.0, dtype=dtype, shape=shape)
    return check_start(replace(graph, outputs=(*graph.outputs[:2], "start:0")), asked, entry, {})


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.cast(x // 2, F),
        lambda x: tf.cast(tf.bitwise.right_shift(x, tf.constant(3, tf.uint8)), F),
        lambda x: tf.cast(x > 128, F),
        lambda x: tf.gather(GAMMA, tf.cast(x, tf.int32)),
        lambda x: tf.cast(x[:, ::-1][:, ::-1] // 2, F),
        lambda x: tf.cast(tf.cast(x, tf.int32) // [1, 2, 3], F),
    ],
)
def test_a_rising_function_of_each_pixel_is_the_image(build):
    assert checked(build) is None


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.cast(tf.reverse(x // 2, [2]), F),
        lambda x: tf.cast(tf.transpose(x, [0, 2, 1, 3]) // 2, F),
        lambda x: tf.cast(x[..., ::-1] // 2, F),
        lambda x: tf.cast(tf.roll(x // 2, 1, 1), F),
        lambda x: tf.cast(tf.pad(x[:, 1:], [[0, 0], [0, 1], [0, 0], [0, 0]]) // 2, F),
        lambda x: tf.cast(255 - x // 2, F),  # the right place, the wrong sign
        lambda x: tf.cast(x + 1, F),  # 255 becomes 0
        lambda x: tf.cast(x * 3, F),
        lambda x: tf.cast(tf.bitwise.bitwise_and(x, tf.constant(15, tf.uint8)), F),
        lambda x: tf.cast((x + x[:, :, ::-1]) // 4, F),
        lambda x: tf.cast(x // 2 * tf.constant([1, 0, 1], tf.uint8), F),
        lambda x: tf.cast(tf.reshape(tf.transpose(x, [0, 3, 1, 2]), x.shape) // 2, F),
    ],
)
def test_what_is_not_the_image_is_refused(build):
    with pytest.raises(
        ModelUnusable, match="uint8 input image, and the first numbers behind it, start:0, are not"
    ) as error:
        checked(build)
    assert "--input start" in error.value.remedy


def test_another_shape_is_named():
    with pytest.raises(ModelUnusable, match=r"\[2, 4, 6, 3\] for a picture of \[2, 6, 6, 3\]"):
        checked(lambda x: tf.cast(x[:, 1:5] // 2, F))


def test_what_fails_for_a_picture_is_refused():
    with pytest.raises(ModelUnusable, match="fails for a picture of 6x6"):
        checked(lambda x: tf.cast(tf.ensure_shape(x, [2, 7, 6, 3]) // 2, F), shape=(2, None, 6, 3))


def test_the_image_itself_needs_no_proof():
    graph = traced(lambda image: tf.nn.relu(image))
    assert check_start(graph, question(), ENTRY, {}) is None


ONE = Entry("HWC", (6, 6), 3, 1, "bytes")


def encoded(build):
    return checked(lambda text: build(tf.io.decode_png(text, 3)), question(tf.string, ()), ONE, tf.string, ())


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.cast(x, F) / 255,
        lambda x: tf.cast(x, F)[None],
        lambda x: tf.image.resize(x, (6, 6)),
        lambda x: (tf.cast(x, F) - [120, 110, 100]) / [55, 56, 57],
    ],
)
def test_a_decoded_image_is_the_image(build):
    assert encoded(build) is None


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.cast(x[:, ::-1], F),
        lambda x: tf.cast(x[..., ::-1], F),
        lambda x: tf.image.resize(x[1:5, 1:5], (6, 6)),
    ],
)
def test_another_view_of_a_decoded_image_is_said(build):
    assert "--input start" in encoded(build)


def test_a_decoded_image_of_another_size_is_refused():
    with pytest.raises(ModelUnusable, match=r"\[4, 6, 3\] for a picture of \[6, 6, 3\]"):
        encoded(lambda x: tf.cast(x[1:5], F))


def test_probes_rise_from_black_to_white_and_pause():
    pictures = probes((4, 5, 3))
    steps = np.diff(pictures, axis=0)
    assert pictures.shape[1:] == (4, 5, 3) and (steps >= 0).all() and (steps == 0).any() and (steps > 0).any()
    assert (pictures[0] == 0).all() and (pictures[-1] == 255).all()
    assert same_pixels(pictures, pictures**2) and not same_pixels(pictures, pictures[:, ::-1])


def test_what_a_graph_makes_of_a_picture_is_measured():
    graph = traced(lambda image, w, rate: image * w + rate, {"w": np.float32([1, 2, 3]), "rate": np.float32(0)})
    graph = replace(graph, weights={"w": "variable/w"})
    run = measure(graph, "image:0", [graph.score], replace(ENTRY, whole=False), {"rate": np.float32(5)})
    fed, (found,) = run(np.full((6, 6, 3), 2))
    np.testing.assert_array_equal(fed, np.full((2, 6, 6, 3), 2))
    np.testing.assert_array_equal(found[1, 3, 3], [7, 9, 11])


def test_a_variable_that_rows_are_looked_up_in_is_measured_too():
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    lookup = node(
        "rows", "ResourceGather", "table:0", "image:0", dtype=tf.float32, Tindices=tf.int32, validate_indices=True
    )
    handle = node("table", "Placeholder", dtype=tf.resource, shape=tf.TensorShape([]))
    graph = written(
        fed(dtype=tf.int32, shape=(1, 2, 2)), handle, lookup,
        handles={"table": "t"}, values={"t": tf.constant(table)}, feeds={"image:0": "image"},
    )  # fmt: skip
    run = measure(graph, "image:0", ["rows:0"], Entry("NHW", (2, 2), 1, 1, whole=True), {})
    np.testing.assert_array_equal(run(np.float32([[[3], [0]], [[1], [2]]]))[1][0], table[[[[3, 0], [1, 2]]]])
