"""What is true of a graph: the policy, the pixel range, how the image enters, where the scores come from."""

from __future__ import annotations

import resource
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import SHAPE, Calls, const, fed, function, node, normal, question, traced, written

from gradviz_cli.errors import ModelRefused, ModelUnusable, UsageError
from gradviz_cli.images.preprocess import PREPROCESS
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis import entry, policy
from gradviz_cli.worker.analysis.cam import cam_layers, cut_warning
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.image import (
    find_entry,
    find_preprocess,
    first_numbers,
    other_inputs,
    repeated,
)
from gradviz_cli.worker.analysis.preprocess import RANGES, recognised_range
from gradviz_cli.worker.analysis.scores import class_axis, decided_from, decision_of, ranked_from
from gradviz_cli.worker.analysis.unfed import settle_unfed, unfed, unfed_warning
from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.question import Tensor, describe, names

F = tf.float32
OPTIONS = ModelOptions("model")
ENTRY = Entry("NHWC", (6, 6), 3, 2)

# --- policy -----------------------------------------------------------------------------------------------------------


def test_what_networks_compute_with_is_allowed():
    policy.judge(traced(lambda image: tf.nn.softmax(tf.nn.relu(image))))


@pytest.mark.parametrize("op", ["ReadFile", "WriteFile", "PyFunc", "Assert", "VarHandleOp", "PartitionedCall"])
def test_what_touches_the_outside_is_refused(op):
    with pytest.raises(ModelRefused, match=rf"needs op {op} \(node odd\)"):
        policy.judge(written(fed(), node("odd", op, "image:0")))


def test_an_operation_can_be_allowed_or_the_model_trusted():
    graph = written(fed(), node("odd", "ReadFile", "image:0"))
    policy.judge(graph, allow=["ReadFile"])
    policy.judge(graph, trust=True)


def test_what_is_allowed_has_to_be_an_operation():
    graph = written(fed(), node("odd", "ReadFile", "image:0"))
    with pytest.raises(UsageError, match=r"--allow-op Readfile: TensorFlow has no .*did you mean .*ReadFile"):
        policy.judge(graph, allow=["Readfile"])
    with pytest.raises(UsageError, match="--allow-op Nope: .* `gradviz inspect` lists"):
        policy.judge(traced(tf.nn.relu), allow=["Nope"], trust=True)
    policy.judge(traced(tf.nn.relu), allow=["WriteFile", "Relu"])  # of use to another model, or to none
    with pytest.raises(ModelRefused, match="op NoSuchOp .* is not known to this TensorFlow"):
        policy.judge(written(fed(), node("odd", "NoSuchOp", "image:0")), allow=["NoSuchOp"])


def test_operations_in_functions_are_judged():
    body = function("f", node("odd", "ReadFile", "x:0"), results=["odd:0"], types={"x": tf.string})
    assert policy.refused_ops(written(fed(), functions={"f": body})) == {"ReadFile": "f/odd"}


def test_an_unknown_operation_is_refused_whoever_is_trusted():
    with pytest.raises(ModelRefused, match="op NoSuchOp .* is not known to this TensorFlow"):
        policy.judge(written(fed(), node("odd", "NoSuchOp", "image:0")), trust=True)


def test_a_name_of_megabytes_is_refused():
    with pytest.raises(ModelRefused, match="10001 characters"):
        policy.judge(written(fed("n" * 10_001)), trust=True)


def test_a_function_that_calls_itself_is_refused():
    call = node("if", "StatelessIf", "x:0", "x:0", then_branch=Calls("f"), else_branch=Calls("f"))
    body = function("f", call, results=["if:0"], types={"x": F})
    with pytest.raises(ModelRefused, match="the function f calls itself"):
        policy.judge(written(fed(), functions={"f": body}), trust=True)


def test_functions_that_multiply_are_refused():
    """Twenty functions that call the next one twice are a million operations written out."""
    functions = {}
    for depth in range(20):
        called = Calls(f"f{depth + 1}")
        call = node("if", "StatelessIf", "x:0", "x:0", then_branch=called, else_branch=called)
        functions[f"f{depth}"] = function(f"f{depth}", call, results=["if:0"], types={"x": F})
    functions["f20"] = function("f20", results=["x:0"], types={"x": F})
    top = node("if", "StatelessIf", "image:0", "image:0", then_branch=Calls("f0"), else_branch=Calls("f0"))
    with pytest.raises(ModelRefused, match="hold more than 400000 operations"):
        policy.judge(written(fed(), top, functions=functions), trust=True)


def test_a_tensor_larger_than_memory_is_refused(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**30, 2**30))
    graph = traced(lambda image: image + tf.reduce_sum(tf.fill([2**15, 2**15], 1.0)))
    with pytest.raises(ModelRefused, match=r"op Fill \(node Fill\) gives a tensor of 4 GiB"):
        policy.judge(graph)


# --- pixel range ------------------------------------------------------------------------------------------------------

CUT = Calls("cut")
CAFFE = np.float32([103.939, 116.779, 123.68])
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("build", "want"),
    [
        (lambda x: x / 255.0, "raw"),
        (lambda x: x / 127.5 - 1.0, "raw"),
        (lambda x: x / 128.0 - 1.0, "raw"),
        (lambda x: x * (1 / 255) - MEAN, "raw"),
        (lambda x: (x / 255.0 - MEAN) / DEVIATION, "raw"),
        (lambda x: (x - MEAN) / DEVIATION, "unit"),
        (lambda x: x * 2.0 - 1.0, "unit"),
        (lambda x: x[..., ::-1] - CAFFE, "raw"),
        (lambda x: x[..., ::-1] * 255.0 - CAFFE, "unit"),
        (lambda x: (x + 1.0) / 2.0, "signed"),
        (lambda x: ((x + 1.0) / 2.0 - MEAN) / DEVIATION, "signed"),
        (lambda x: ((x + CAFFE) / 255.0)[..., ::-1], "caffe"),
        (lambda x: x * DEVIATION + MEAN, "torch"),
        # what moves, cuts, pads and clips says nothing, and hides nothing
        (lambda x: x[:, 1:5, 1:4] / 255.0, "raw"),
        (lambda x: tf.image.resize(x, [3, 4], "bicubic") / 255.0, "raw"),
        (lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=114.0) / 255.0, "raw"),
        (lambda x: tf.image.resize_with_pad(x, 8, 12) / 255.0, "raw"),
        (lambda x: tf.clip_by_value(x, 0.0, 255.0) / 255.0, "raw"),
        (lambda x: tf.clip_by_value(x, 0.0, 1.0), None),
        (lambda x: tf.stack([x[..., i] / 255.0 for i in (2, 1, 0)], -1), "raw"),
        (lambda x: tf.image.rgb_to_grayscale(x) / 255.0, "raw"),
        (lambda x: tf.image.rgb_to_grayscale(x) * 2.0 - 1.0, "unit"),
        (lambda x: tf.reduce_sum(x * np.float32([0.299, 0.587, 0.114]), -1, keepdims=True) / 127.5 - 1.0, "raw"),
        (lambda x: tf.reduce_mean(x, -1, keepdims=True) / 255.0, "raw"),
        (lambda x: rotated(x) / 255.0, "raw"),
        (lambda x: contrasted(x) / 255.0, "raw"),
        # a rescaling that leads nowhere, in several ways, or by what the picture holds
        (lambda x: x, None),
        (lambda x: x[..., ::-1], None),
        (lambda x: x * 1e-4, None),
        (lambda x: x / 2.0, None),
        (lambda x: x * 255.0, None),
        (lambda x: tf.square(x), None),
        (lambda x: x / tf.reduce_max(x), None),
        (lambda x: tf.reduce_mean(x, [1, 2], keepdims=True), None),
        (lambda x: tf.reduce_sum(x, [1, 2], keepdims=True) / 255.0, None),
        (lambda x: x - tf.reduce_mean(x, [1, 2], keepdims=True), None),
        (lambda x: (tf.reshape(x, [-1, 3]) @ np.float32([[1], [-1], [0.5]]))[:, None, None] / 127.5, None),
        (lambda x: tf.image.per_image_standardization(x), None),
        (lambda x: tf.concat([x / 255.0, (x + 1.0) / 2.0], 1), None),
        # what a batch norm has learnt
        (lambda x: batch_normed(x, 255 * MEAN, 255 * DEVIATION), "raw"),
        (lambda x: batch_normed(x, MEAN, DEVIATION), "unit"),
        (lambda x: batch_normed(x, 70 * MEAN, 90 * DEVIATION), None),
        (lambda x: batch_normed(x / 255.0, 2 * MEAN, 5 * DEVIATION), "raw"),
        (lambda x: batch_normed(x, [], [], training=True), None),
    ],
)
def test_the_range_that_the_first_steps_expect(build, want):
    def net(image):
        x = build(image)
        return tf.nn.conv2d(x, np.ones((1, 1, x.shape[-1], 2), "f"), 1, "SAME")

    assert recognised_range(traced(net), question(), ENTRY) == want


def contrasted(x):
    gray = tf.reduce_mean(x, [1, 2], keepdims=True)
    return (x - gray) * 1.3 + gray


def rotated(x):
    """As layers that augment do, the picture mirrored beyond its border."""
    turn = np.float32([[0.9, 0.1, 0, -0.1, 0.9, 0, 0, 0]])
    shape, fill = tf.shape(x)[1:3], 0.0
    given = {"output_shape": shape, "fill_value": fill, "interpolation": "BILINEAR", "fill_mode": "REFLECT"}
    return tf.raw_ops.ImageProjectiveTransformV3(images=x, transforms=turn, **given)


def batch_normed(x, mean, deviation, training=False):
    given = {"mean": np.float32(mean), "variance": np.float32(deviation) ** 2, "epsilon": 1e-3, "is_training": training}
    return tf.raw_ops.FusedBatchNormV3(x=x, scale=np.ones(3, "f"), offset=np.zeros(3, "f"), **given).y


@pytest.mark.parametrize(
    ("shape", "entry", "build"),
    [
        ((None, 3, 40, 50), Entry("NCHW", (40, 50), 3), lambda x: tf.transpose(x / 255.0, [0, 2, 3, 1])),
        ((None, 4800), Entry("flat", (40, 40), 3), lambda x: tf.reshape(x, [-1, 40, 40, 3]) / 255.0),
        ((40, 50, 3), Entry("HWC", (40, 50), 3, 1), lambda x: x[None] / 255.0),
        (
            (None, None, None, 3),
            Entry("NHWC", (224, 224), 3),
            lambda x: tf.image.resize(x[:, :100, 40:90], (9, 9)) / 255.0,
        ),
        ((None, 90, 90, 3), Entry("NHWC", (90, 90), 3), lambda x: x[:, 40:, 40:] / 255.0),
        ((None, 40, 50, 3), Entry("NHWC", (40, 50), 3), lambda x: tf.ensure_shape(x, [None, 40, 50, 3]) / 255.0),
        ((None, 40, 50, 3), Entry("NHWC", (40, 50), 3), lambda x: tf.reshape(x, [-1, 40, 50, 3]) / 255.0),
    ],
)
def test_the_range_of_any_layout(shape, entry, build):
    """Where the first steps allow it small pictures are measured, else those that will be fed."""

    def net(image):
        return tf.nn.conv2d(build(image), np.ones((1, 1, 3, 2), "f"), 1, "SAME")

    asked = question(shape=tuple(-1 if size is None else size for size in shape))
    assert recognised_range(traced(net, shape=shape), asked, entry) == "raw"


def test_a_crop_that_asks_for_the_size_hides_no_range():
    """Keras 2 cuts out the middle in a branch on the size."""
    branch = function("cut", node("x255", "Identity", "x:0", T=F), results=["x255:0"], types={"x": F})
    graph = written(
        fed(),
        node("size", "Size", "image:0", T=F, out_type=tf.int32),
        const("least", 9, np.int32),
        node("large", "Greater", "size:0", "least:0", T=tf.int32),
        node("crop", "If", "large:0", "image:0", Tcond=tf.bool, Tin=[F], Tout=[F], then_branch=CUT, else_branch=CUT),
        const("high", 255.0),
        node("scaled", "RealDiv", "crop:0", "high:0", T=F),
        node("score", "Mean", "scaled:0", "axes:0", T=F, Tidx=tf.int32),
        const("axes", [1, 2], np.int32),
        outputs=("score:0", "score:0", "image:0"),
        functions={"cut": branch},
        feeds={"image:0": "image"},
    )
    assert recognised_range(graph, question(), ENTRY) == "raw"


@pytest.mark.parametrize("name", sorted(RANGES))
def test_the_ranges_are_those_of_the_command(name):
    factor, summand = RANGES[name]
    grays = np.float32([0, 9, 255]).reshape(3, 1, 1, 1) * np.ones((1, 2, 2, 3), np.float32)
    np.testing.assert_allclose(PREPROCESS[name].to_model(grays), grays * factor + summand, rtol=1e-4, atol=1e-4)


def test_a_normalization_layer_holds_its_range_in_weights():
    def net(image, mean, variance):
        scaled = (image - mean) / tf.maximum(tf.sqrt(variance), 1e-7)
        return tf.nn.conv2d(scaled, np.ones((1, 1, 3, 2), "f"), 1, "SAME")

    weights = {"mean": 255 * MEAN, "variance": (255 * DEVIATION) ** 2}
    assert recognised_range(traced(net, weights), question(), ENTRY) == "raw"


def test_the_range_is_asked_for_found_or_assumed():
    graph = traced(lambda image: tf.nn.relu(image / 255.0))
    assert find_preprocess(graph, question(), ModelOptions("m", preprocess="caffe"), ENTRY) == ("caffe", None)
    assert find_preprocess(graph, question(), OPTIONS, ENTRY) == ("raw", None)
    silent, warning = find_preprocess(traced(tf.nn.relu), question(), OPTIONS, ENTRY)
    assert silent == "unit" and "--preprocess" in warning


def test_numbers_settle_the_range():
    graph = traced(tf.nn.relu)
    asked = ModelOptions("m", pixel_range=(0.0, 255.0), mean=(100.0,))
    assert find_preprocess(graph, question(), asked, ENTRY) == ("given", None)
    with pytest.raises(UsageError, match="--pixel-range, --mean, --std: the input .* takes uint8"):
        find_preprocess(graph, question(tf.uint8), asked, ENTRY)
    whole = ModelOptions("m", pixel_range=(0.0, 255.0), channel_order="bgr")
    assert find_preprocess(graph, question(tf.uint8), whole, ENTRY) == ("given", None)
    turned, warning = find_preprocess(graph, question(), ModelOptions("m", channel_order="bgr"), ENTRY)
    assert turned == "unit" and "settle it with --pixel-range LOW,HIGH" in warning


def test_whole_pixels_are_raw():
    graph = traced(lambda image: tf.nn.relu(image))
    assert find_preprocess(graph, question(tf.uint8), OPTIONS, ENTRY) == ("raw", None)
    with pytest.raises(UsageError, match="takes uint8"):
        find_preprocess(graph, question(tf.uint8), ModelOptions("m", preprocess="unit"), ENTRY)


# --- how the image enters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((-1, 8, 9, 3), Entry("NHWC", (8, 9), 3)),
        ((-1, 3, 8, 9), Entry("NCHW", (8, 9), 3)),
        ((4, 8, 8, 1), Entry("NHWC", (8, 8), 1, 4)),
        ((8, 9, 3), Entry("HWC", (8, 9), 3, 1)),
        ((3, 8, 9), Entry("CHW", (8, 9), 3, 1)),
        ((-1, 28, 28), Entry("NHW", (28, 28), 1)),
        ((28, 28), Entry("HW", (28, 28), 1, 1)),
        ((-1, 84, 84, 4), Entry("NHWC", (84, 84), 4)),
        ((-1, 4, 84, 84), Entry("NCHW", (84, 84), 4)),
        ((-1, 8, 8, 119), Entry("NHWC", (8, 8), 119)),
        ((-1, 12, 32, 32), Entry("NCHW", (32, 32), 12)),
    ],
)
def test_the_entry_that_a_shape_means(shape, want):
    assert entry.find("image", shape, None, None) == (want, None)


@pytest.mark.parametrize(
    ("key", "length", "layout", "want"),
    [
        ("x", 784, None, Entry("flat", (28, 28), 1)),
        ("x", 3072, None, Entry("flat", (32, 32), 3)),
        ("image_input", 100, None, Entry("flat", (10, 10), 1)),
        ("code", 100, "flat", Entry("flat", (10, 10), 1)),
        ("code", 300, "flat-NCHW", Entry("flat-NCHW", (10, 10), 3)),
    ],
)
def test_a_row_of_numbers_is_taken_for_a_picture_with_a_warning(key, length, layout, want):
    found, warning = entry.find(key, (-1, length), layout, None)
    side = f"{want.size[0]}x{want.size[1]}"
    assert found == want and side in warning and "--input-size" in warning
    assert entry.find(key, (-1, length), layout, want.size) == (found, None)


@pytest.mark.parametrize(("key", "whole"), [("code", False), ("input_ids", True), ("image", True)])
def test_a_row_that_nothing_calls_a_picture_is_refused(key, whole):
    with pytest.raises(ModelUnusable, match=f"{key} takes 784 whole|{key} takes 100 numbers") as caught:
        entry.find(key, (-1, 784 if whole else 100), None, None, None, whole)
    assert "--input-size" in caught.value.remedy


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ((-1, 16, 112, 112, 3), "video"),
        ((-1, -1, -1, -1, 1), "volume"),
        ((-1,), "sound"),
        ((16000,), "sound"),
        ((-1, 10, 12, 14), "which axis holds the channels"),
        ((-1, 8, 8, 8), "--layout NHWC or NCHW"),
        ((), "no picture's"),
    ],
)
def test_what_is_no_image_is_refused_in_its_own_words(shape, word):
    with pytest.raises(ModelUnusable, match=word):
        entry.find("x", shape, None, None)


def test_whole_numbers_that_hold_no_pixels_are_refused():
    with pytest.raises(ModelUnusable, match="takes int8, which does not hold the pixels"):
        find_entry(traced(lambda image: tf.cast(image, F), dtype=tf.int8), question(tf.int8), OPTIONS)


def test_an_open_size_is_assumed_with_a_warning():
    found, warning = entry.find("image", (-1, -1, -1, 3), None, None)
    assert found.size == (224, 224) and "--input-size" in warning
    assert entry.find("image", (-1, -1, -1, 3), None, (5, 6)) == (Entry("NHWC", (5, 6), 3), None)


@pytest.mark.parametrize(
    ("shape", "layout", "size", "error"),
    [
        ((-1, 17), None, None, ModelUnusable),
        ((-1, 8, 8, 3), "NHW", None, UsageError),
        ((-1, 8, 8, 3), None, (9, 9), UsageError),
        ((-1, 64, 64, 3), "NCHW", None, UsageError),
        ((1, 3, 64, 64), "NHWC", None, UsageError),
        ((64, 64, 3), "CHW", None, UsageError),
        ((3, 64, 64), "HWC", None, UsageError),
        ((-1, 100), "flat", (7, 7), UsageError),
    ],
)
def test_shapes_that_are_no_pictures(shape, layout, size, error):
    with pytest.raises(error):
        entry.find("image", shape, layout, size)


@pytest.mark.parametrize(
    ("shape", "layout", "channels"),
    [
        ((-1, 8, 64, 64), "NCHW", 8),
        ((-1, 64, 64, 8), "NHWC", 8),
        ((-1, -1, -1, 3), "NCHW", 3),
        ((-1, 3, 3, 3), "NCHW", 3),
    ],
)
def test_a_layout_that_fits_is_taken(shape, layout, channels):
    assert entry.find("x", shape, layout, None)[0].channels == channels


def test_a_layout_that_contradicts_the_three_channels_names_the_right_one():
    for shape, layout, right in (((-1, 64, 64, 3), "NCHW", "NHWC"), ((3, 64, 64), "HWC", "CHW")):
        with pytest.raises(UsageError, match=f"--layout {layout}: .*64 channels.*give {right}$"):
            entry.find("x", shape, layout, None)


@pytest.mark.parametrize("layout", [name for name, axes in entry.LAYOUTS.items() if "N" in axes])
def test_a_layout_there_and_back(layout):
    channels = 1 if "C" not in entry.LAYOUTS[layout] else 3
    place = Entry(layout, (4, 5), channels)
    images = np.arange(2 * 4 * 5 * channels, dtype=np.float32).reshape(2, 4, 5, channels)
    given = place.to_model(images, F)
    assert place.spec(F).shape.is_compatible_with(given.shape)
    np.testing.assert_array_equal(place.from_model(given.numpy()), images)


@pytest.mark.parametrize("encoding", ["bytes", "base64"])
def test_an_encoded_image_is_a_png(encoding):
    images = np.random.default_rng(0).integers(0, 255, (2, 4, 5, 3)).astype(np.float32)
    strings = Entry("NHWC", (4, 5), 3, encoding=encoding).to_model(images, tf.string)
    if encoding == "base64":
        strings = tf.io.decode_base64(strings)
    np.testing.assert_array_equal(np.stack([tf.io.decode_png(one) for one in strings]), images)


def decoder_of(image, channels: int = 3):
    decoded = tf.io.decode_png(image, channels)
    return tf.cast(tf.ensure_shape(decoded, [7, 8, channels]), F, name="numbers")[None] * 2.0


def decoder(channels: int = 3):
    return traced(lambda image: decoder_of(image, channels), dtype=tf.string, shape=())


def test_a_string_that_is_decoded_is_an_image():
    asked = question(tf.string, ())
    graph = decoder()
    assert first_numbers(graph, asked) == "numbers:0"
    graph = replace(graph, outputs=(*graph.outputs[:2], "numbers:0"))
    assert find_entry(graph, asked, OPTIONS) == (Entry("HWC", (7, 8), 3, 1, "bytes"), None)


def test_a_string_that_is_decoded_with_alpha_takes_rgba():
    graph = decoder(4)
    graph = replace(graph, outputs=(*graph.outputs[:2], "numbers:0"))
    found, _ = find_entry(graph, question(tf.string, ()), OPTIONS)
    assert found == Entry("HWC", (7, 8), 4, 1, "bytes", alpha=True)
    pixels = np.random.default_rng(0).integers(0, 255, (1, 7, 8, 4)).astype(np.float32)
    np.testing.assert_array_equal(tf.io.decode_png(found.to_model(pixels, tf.string), 4), pixels[0])


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda image: tf.strings.to_number(image) > 0, "is not decoded as an image"),
        (tf.io.decode_bmp, "is decoded by DecodeBmp, and gradviz feeds PNGs"),
        (tf.io.decode_gif, "is decoded by DecodeGif, and"),
        (lambda image: tf.io.decode_and_crop_jpeg(image, [0, 0, 4, 4]), "is decoded by DecodeAndCropJpeg, and"),
    ],
)
def test_a_string_that_is_no_image_or_no_png_is_refused(build, said):
    graph = traced(lambda image: tf.cast(build(image), F, name="numbers")[None], dtype=tf.string, shape=())
    graph = replace(graph, outputs=(*graph.outputs[:2], "numbers:0"))
    with pytest.raises(ModelUnusable, match=said) as caught:
        find_entry(graph, question(tf.string, ()), OPTIONS)
    assert "--input" in caught.value.remedy


def test_encoded_images_may_have_axes_of_one():
    graph = traced(lambda image: decoder_of(image[0, 0]), dtype=tf.string, shape=(None, 1))
    graph = replace(graph, outputs=(*graph.outputs[:2], "numbers:0"))
    found, _ = find_entry(graph, question(tf.string, (-1, 1)), OPTIONS)
    assert found == Entry("NHWC", (7, 8), 3, None, "bytes", given=(1,))
    given = found.to_model(np.zeros((2, 7, 8, 3), np.float32), tf.string)
    assert given.shape == (2, 1) and found.spec(tf.string).shape.as_list() == [None, 1]
    with pytest.raises(ModelUnusable, match="several encoded images at once"):
        find_entry(graph, question(tf.string, (-1, 3)), OPTIONS)


@pytest.mark.parametrize(
    ("dtype", "white", "warned"),
    [(tf.uint16, 65535.0, True), (tf.uint16, 255.0, False), (tf.uint16, 1.0, False), (tf.uint8, 255.0, False)],
)
def test_a_model_of_levels_of_16_bits_is_said_to_get_others(dtype, white, warned):
    graph = traced(lambda image: tf.cast(image, F) / white * 2.0 - 1.0, dtype=dtype, shape=(None, 8, 8, 1))
    asked = question(dtype, (-1, 8, 8, 1))
    found, _ = find_entry(graph, asked, OPTIONS)
    preprocess, warning = find_preprocess(graph, asked, OPTIONS, found)
    assert preprocess == "raw" and ("0..65535" in (warning or "")) == warned and (warning is None) != warned
    assert find_preprocess(graph, asked, ModelOptions("m", preprocess="raw"), found) == ("raw", None)


def test_of_truths_what_is_brighter_than_half_is_true():
    graph = traced(lambda image: tf.cast(image, F), dtype=tf.bool, shape=(None, 8, 8, 1))
    asked = question(tf.bool, (-1, 8, 8, 1))
    found, warning = find_entry(graph, asked, OPTIONS)
    assert warning is None and find_preprocess(graph, asked, OPTIONS, found) == ("unit", None)
    grays = np.array([0.0, 0.2, 0.49, 0.51, 0.8, 1.0, 0.0, 1.0], np.float32)
    given = found.to_model(np.tile(grays[:, None], (1, 8, 1, 1)), tf.bool)
    assert given.dtype == tf.bool and given.numpy()[0, 0, :, 0].tolist() == [False] * 3 + [True] * 3 + [False, True]


def test_an_image_that_becomes_two_is_refused():
    graph = traced(lambda image: tf.cast(image, F) + tf.cast(image + 1, F), dtype=tf.uint8)
    with pytest.raises(ModelUnusable, match="becomes 2 float tensors: Cast, Cast_1"):
        first_numbers(graph, question(tf.uint8))


# --- other inputs -----------------------------------------------------------------------------------------------------

RATE = Tensor("rate", "rate:0", F, ())
MASK = Tensor("mask", "mask:0", F, (-1, 2))
TRAINING = Tensor("training", "training:0", tf.bool, ())


def with_others():
    return written(
        *(fed(), fed("rate", shape=()), fed("mask", shape=(None, 2)), fed("training", tf.bool, ())),
        feeds={f"{name}:0": name for name in ("image", "rate", "mask", "training")},
    )


def test_other_inputs_are_zero_or_what_is_given():
    asked = question(others=(RATE, MASK))
    found = other_inputs(with_others(), asked, ModelOptions("m", feeds=(("rate", "0.5"),)))
    assert found["rate"].dtype == np.float32 and found["rate"] == np.float32(0.5)
    np.testing.assert_array_equal(found["mask"], np.zeros((1, 2)))
    assert repeated(with_others(), asked, found) == {"mask"}


@pytest.mark.parametrize(
    ("dtype", "text", "want"),
    [
        (F, "0.5", [[0.5, 0.5]]),
        (F, "[1, 2.5]", [[1, 2.5]]),
        (F, "[[1, 2]]", [[1, 2]]),
        (F, "[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        (F, "[true, false]", [[1, 0]]),
        (tf.int64, "[3, 4.0]", [[3, 4]]),
        (tf.bool, "[1, 0]", [[True, False]]),
        (tf.string, '["a", "b"]', [["a", "b"]]),
    ],
)
def test_what_is_fed_has_the_shape_of_the_input(dtype, text, want):
    beside = Tensor("mask", "mask:0", dtype, (-1, 2))
    graph = written(fed(), fed("mask", dtype, (None, 2)), feeds={"image:0": "image", "mask:0": "mask"})
    found = other_inputs(graph, question(others=(beside,)), ModelOptions("m", feeds=(("mask", text),)))["mask"]
    assert found.tolist() == want and (dtype == tf.string or found.dtype == dtype.as_numpy_dtype)


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (F, "[1, 2, 3]"),
        (F, "[[[1, 2]]]"),
        (F, "[[1], [2]]"),
        (F, "[]"),
        (F, '"text"'),
        (F, '["a", "b"]'),
        (F, "1e39"),
        (tf.int64, "0.5"),
        (tf.int32, "3000000000"),
        (tf.uint8, "-1"),
        (tf.bool, "2"),
        (tf.string, "1"),
    ],
)
def test_what_does_not_fit_an_input_is_a_matter_of_the_option(dtype, text):
    beside = Tensor("mask", "mask:0", dtype, (-1, 2))
    graph = written(fed(), fed("mask", dtype, (None, 2)), feeds={"image:0": "image", "mask:0": "mask"})
    with pytest.raises(UsageError, match=r"--feed mask: the input takes \w+ \[\?, 2\]"):
        other_inputs(graph, question(others=(beside,)), ModelOptions("m", feeds=(("mask", text),)))


def test_what_is_fed_to_the_image_alone_is_left_out():
    with pytest.raises(UsageError, match="--feed training: .*; leave out --feed$"):
        other_inputs(with_others(), question(), ModelOptions("m", feeds=(("training", "0"),)))


def test_an_input_that_is_fed_under_two_names_is_refused():
    options = ModelOptions("m", feeds=(("rate", "1"), ("rate:0", "2")))
    with pytest.raises(UsageError, match="--feed rate:0: rate is given twice"):
        other_inputs(with_others(), question(others=(RATE,)), options)


def test_zero_is_said():
    asked = question(others=(RATE, MASK))
    assert "rate, mask are fed with 0" in unfed_warning(unfed(asked, OPTIONS))
    assert unfed_warning(unfed(asked, ModelOptions("m", feeds=(("rate", "1"), ("mask:0", "1"))))) is None


@pytest.mark.parametrize(
    ("dtype", "shape", "said"),
    [(tf.int64, (-1, 1), True), (tf.bool, (-1,), True), (tf.string, (), True), (tf.bool, (), False)],
)
def test_zero_is_said_of_all_but_a_training_flag(dtype, shape, said):
    beside = Tensor("beside", "beside:0", dtype, shape)
    assert bool(unfed(question(others=(beside,)), OPTIONS)) is said


def test_a_placeholder_of_no_signature_has_to_be_given_unless_it_is_a_truth():
    assert not other_inputs(with_others(), question(unfed=(TRAINING,)), OPTIONS)["training"]
    with pytest.raises(UsageError, match="the score needs rate"):
        other_inputs(with_others(), question(unfed=(RATE,)), OPTIONS)


def settled(build, dtype, batch=None, **more):
    """What is settled of the input `count`, and of `more` (type and shape), which a score takes beside the image."""
    beside = {"count": (dtype, ()), **more}
    with tf.Graph().as_default() as made:
        image = tf.compat.v1.placeholder(tf.float32, (batch, 4, 4, 3), "image")
        given = {name: tf.compat.v1.placeholder(*one, name) for name, one in beside.items()}
        score = build(image, **given)
    nodes = {one.name: normal(one) for one in made.as_graph_def().node}
    feeds = {f"{name}:0": name for name in ("image", *beside)}
    graph = Graph(nodes, outputs=(score.name, score.name, "image:0"), feeds=feeds)
    missing = [
        Tensor(name, f"{name}:0", kind, tuple(size or -1 for size in shape)) for name, (kind, shape) in beside.items()
    ]
    asked = question(shape=(-1, 4, 4, 3), others=tuple(missing))
    zeros = other_inputs(graph, asked, OPTIONS)
    values, left = settle_unfed(graph, asked, Entry("NHWC", (4, 4), 3, batch), zeros, missing)
    return {name: value.tolist() for name, value in values.items()}, [one.key for one in left]


def pooled(x):
    return tf.reduce_mean(x, [1, 2])


COUNTING = {
    "a shape": lambda x, count: pooled(tf.reshape(x, tf.stack([count, 4, 4, 3]))),
    "a shape that is open": lambda x, count: tf.reshape(x, [count, -1])[:, :5],
    "a state": lambda x, count: pooled(x) + tf.zeros(tf.stack([count, 3])),
    "copies": lambda x, count: pooled(x) + tf.tile([[1.0, 2.0, 3.0]], tf.stack([count, 1])),
    "places": lambda x, count: tf.gather(pooled(x), tf.range(count)),
}


@pytest.mark.parametrize("name", COUNTING)
def test_an_input_that_counts_the_images_is_fed_with_their_number(name):
    for dtype in (tf.int32, tf.int64):
        build = COUNTING[name]
        found = settled(lambda x, count: build(x, tf.cast(count, tf.int32)), dtype)  # noqa: B023
        assert found == ({"count": 1}, [])
    build, mask, bias = COUNTING[name], (tf.float32, (None, 3)), (tf.int32, ())
    masked = settled(lambda x, count, mask: build(x, count) + mask[:, :1], tf.int32, mask=mask)
    assert masked == ({"count": 1, "mask": [[0, 0, 0]]}, ["mask"])
    both = settled(lambda x, count, bias: build(x, count) + tf.cast(bias, tf.float32), tf.int32, bias=bias)
    assert both == ({"count": 1, "bias": 0}, ["bias"])


@pytest.mark.parametrize(
    ("build", "dtype", "batch"),
    [
        (lambda x, count: pooled(x) / count, tf.float32, None),
        (lambda x, count: tf.nn.softmax((pooled(x) - 0.5) / count), tf.float32, None),  # some of it is 0, and no NaN
        (lambda x, count: pooled(x) / tf.cast(count, tf.float32), tf.int32, None),
        (lambda x, count: pooled(x)[:, :count], tf.int32, None),
        (lambda x, count: tf.image.resize(x, tf.stack([count, count]))[:, 0, 0], tf.int32, None),
        (lambda x, count: tf.nn.softmax(pooled(x) * count), tf.float32, None),  # the same for every image
        (lambda x, count: tf.where(count > 0.5, pooled(x) / count, 0.0), tf.float32, None),  # so is what keeps nothing
        (COUNTING["a shape"], tf.int32, 1),  # of one image nothing shows what it is
        (lambda x, count: pooled(x) @ tf.ones(tf.stack([count, 5])), tf.int32, None),  # nor is it 1
    ],
)
def test_an_input_that_cannot_be_0_has_to_be_given(build, dtype, batch):
    with pytest.raises(
        UsageError, match=r"with 0 for count \(\w+ \[\]\) there is no score, .*; give it with --feed count=VALUE$"
    ):
        settled(build, dtype, batch=batch)


def test_a_mask_that_shuts_all_has_to_be_given():
    mask = (tf.float32, (None, 4, 4, 1))
    with pytest.raises(UsageError, match=r"with 0 for mask \(float32 \[\?, 4, 4, 1\]\) there is .*--feed mask=VALUE$"):
        settled(lambda x, count, mask: pooled(x * mask) + tf.cast(count, tf.float32), tf.int32, mask=mask)


def test_an_input_that_may_be_0_is_0():
    assert settled(lambda x, count: pooled(x) / [[count, 1.0, 1.0]], tf.float32) == ({"count": 0}, ["count"])
    assert settled(lambda x, count: pooled(x) + count, tf.float32) == ({"count": 0}, ["count"])
    blind = settled(lambda x, count: pooled(x) * tf.math.log(-1 - count), tf.float32)
    assert blind == ({"count": 0}, ["count"]), "no fault of its own"
    sure = settled(lambda x, count: tf.nn.softmax([[1e3, 0.0]] + pooled(x)[:, :2] * (1 + 1e9 * count)), tf.float32)
    assert sure == ({"count": 0}, ["count"])


def test_an_input_that_is_none_is_refused():
    with pytest.raises(UsageError, match="--feed rte: the other inputs are rate"):
        other_inputs(with_others(), question(others=(RATE,)), ModelOptions("m", feeds=(("rte", "1"),)))


def test_a_tensor_in_words():
    assert describe(MASK) == "float32 [?, 2]" and describe(Tensor("x", "x:0", F, None)) == "float32 of any rank"
    assert names(RATE) == ("rate", "rate:0", "rate") and MASK.open_shape == (None, 2)
    assert MASK.facts.shape == (None, 2)


# --- scores -----------------------------------------------------------------------------------------------------------


def scores(x):
    return tf.reduce_sum(x, [1, 2], name="scores")


@pytest.mark.parametrize(
    ("build", "want"),
    [
        (lambda x: tf.argmax(scores(x), -1), "scores:0"),
        (lambda x: tf.gather(tf.constant([5, 6, 7]), tf.argmax(scores(x), -1)), "scores:0"),
        (lambda x: tf.as_string(tf.math.top_k(scores(x), 2)[1]), "scores:0"),
        (lambda x: tf.cast(scores(x) > 0.5, tf.int32), "scores:0"),
        (lambda x: tf.clip_by_value(tf.broadcast_to(tf.argmax(scores(x), -1), [2]), 0, 4), "scores:0"),
        (lambda x: (tf.argmax(scores(x), -1) + 1)[:1], "scores:0"),
        (lambda x: tf.maximum(tf.constant(1, tf.int64), tf.argmax(scores(x), -1)), "scores:0"),
        (lambda x: tf.constant(1, tf.int64) + tf.argmax(scores(x), -1)[:, None], "scores:0"),
        (lambda x: tf.stack([tf.argmax(scores(x), -1)], 1), "scores:0"),
        (lambda x: tf.math.top_k(scores(x), 1)[1][:, 0], "scores:0"),
        (lambda x: tf.random.categorical(scores(x), 1), "scores:0"),
        (lambda x: tf.random.stateless_categorical(scores(x), 1, (1, 2)), "scores:0"),
        (lambda x: tf.where(tf.random.uniform([2]) < 0.1, [3, 3], tf.argmax(scores(x), -1, tf.int32)), "scores:0"),
        (lambda x: tf.where(tf.constant(0.5) < scores(x)[:, 0], "cat", "dog"), "strided_slice:0"),
        (lambda x: tf.cast(tf.round(scores(x)[:, 0]), tf.int32), "strided_slice:0"),
        (lambda x: tf.cast(scores(x), tf.int32), None),
        (lambda x: tf.shape(scores(x)), None),
    ],
)
def test_a_decision_comes_from_scores(build, want):
    graph = traced(build)
    assert decided_from(graph, graph.score) == want


@pytest.mark.parametrize(
    ("build", "decides", "coded"),
    [
        (lambda x: tf.cast(tf.argmax(scores(x), -1), F), True, False),
        (lambda x: tf.one_hot(tf.argmax(scores(x), -1), 3), True, True),
        (lambda x: tf.gather(tf.constant([-0.5, 0, 0.5]), tf.argmax(scores(x), -1)), True, True),
        (lambda x: (tf.cast(tf.argmax(scores(x), -1), F) - 1) * 0.25, True, True),
        (lambda x: tf.cast(scores(x) > 0, F) * scores(x), False, True),  # a gate: a gradient passes beside it
        (lambda x: tf.where(scores(x) > 0, scores(x), 0.1 * scores(x)), False, True),
        (lambda x: scores(x), False, False),
    ],
)
def test_numbers_that_are_only_a_decision(build, decides, coded):
    graph = traced(build)
    found = decision_of(graph, graph.score)
    assert (bool(found.scores) and found.only, bool(found.scores) and found.coded) == (decides, coded)


def test_several_decisions_are_refused_by_name():
    graph = traced(lambda x: tf.stack([tf.argmax(scores(x), -1), tf.argmax(-x[:, 0, 0], -1)]))
    with pytest.raises(ModelUnusable, match=r"several times, between Neg:0 and scores:0; .*--output Neg:0"):
        decided_from(graph, graph.score)


def test_a_decision_for_the_smallest_is_refused_by_name():
    graph = traced(lambda x: tf.argmin(scores(x), -1))
    with pytest.raises(ModelUnusable, match=r"smallest of scores:0; .*--output scores:0 -t CLASS"):
        decided_from(graph, graph.score)


def test_a_web_of_decisions_is_followed_once():
    def build(x):
        action = tf.argmax(scores(x), -1)
        for _ in range(60):
            action = action + action
        return action

    graph = traced(build)
    assert decided_from(graph, graph.score) == "scores:0"


def dense(x):
    return tf.matmul(tf.reduce_sum(x, [1, 2]), tf.eye(3), name="dense")


@pytest.mark.parametrize(
    ("build", "want"),
    [
        (lambda x: tf.math.top_k(tf.nn.softmax(scores(x), name="soft"), 2)[0], "soft:0"),
        (lambda x: tf.sort(scores(x), direction="DESCENDING"), "scores:0"),
        (lambda x: tf.nn.softmax(tf.math.top_k(scores(x), 2)[0])[:, 0], "scores:0"),
        (
            lambda x: (lambda s: tf.gather(tf.nn.softmax(s), tf.math.top_k(s, 2)[1], batch_dims=1))(scores(x)),
            "scores:0",
        ),
        (lambda x: tf.reduce_max(tf.nn.softmax(dense(x), name="soft"), -1), "soft:0"),
        (lambda x: tf.reduce_max(x, -1), None),
        (lambda x: tf.gather(scores(x), [1, 0], axis=1), None),
        (lambda x: tf.gather(tf.identity(x), tf.math.top_k(scores(x), 1)[1], batch_dims=1), None),
    ],
)
def test_a_ranking_comes_from_scores(build, want):
    graph = traced(build)
    assert ranked_from(graph, graph.score) == want


def test_the_worst_first_is_refused():
    graph = traced(lambda x: tf.sort(scores(x)))
    with pytest.raises(ModelUnusable, match="sorted: its places are ranks .*--output scores:0"):
        ranked_from(graph, graph.score)


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((2, 5), 1),
        ((2, 5, 1), 1),
        ((2, 1, 5), 2),
        ((2, 5, 1, 1), 1),
        ((2, 1, 5, 1), 2),
        ((2, 1, 1, 1), 3),
        ((2, 7, 5), 2),
        ((None, None, 1), 2),
        ((2, 8, 8, 1), 3),
        ((2, 8, 8, 5), 3),
        ((2, 5, 8, 8), 1),
        ((2, None, None, 1), 3),
    ],
)
def test_the_only_longer_axis_holds_the_classes(shape, want):
    assert class_axis(shape, (32, 32)) == want


# --- class activation maps --------------------------------------------------------------------------------------------


def test_layers_that_everything_passes_can_carry_a_map():
    def build(image):
        x = tf.nn.relu(tf.nn.conv2d(image, np.ones((3, 3, 3, 4), "f"), 1, "SAME", name="conv"), "relu")
        beside = tf.nn.conv2d(x, np.ones((1, 1, 4, 4), "f"), 1, "SAME", name="beside")
        x = tf.add(x, beside, "sum")
        return tf.reduce_mean(x, [1, 2])

    layers = cam_layers(traced(build), question())
    assert [layer.tensor for layer in layers] == ["conv:0", "relu:0", "sum:0"]
    assert layers[0].shape == (2, 6, 6, 4)


@pytest.mark.parametrize(("equation", "last"), [("nhwc,cd->nhwd", "mixed"), ("nhwc,hk->nkwc", "relu")])
def test_what_a_product_makes_of_places_is_a_layer_unless_it_mixes_them(equation, last):
    def build(image):
        x = tf.nn.relu(tf.nn.conv2d(image, np.ones((3, 3, 3, 6), "f"), 1, "SAME", name="conv"), "relu")
        x = tf.nn.relu(tf.einsum(equation, x, np.ones((6, 6), "f")), "mixed")
        return tf.reshape(x, [2, -1]) @ np.ones((216, 3), "f")

    assert cam_layers(traced(build), question())[-1].tensor == f"{last}:0"


def gated(x):
    """By a gate for each channel, which is the first factor and says nothing of axes."""
    return tf.reshape(tf.sigmoid(tf.reduce_mean(x, [1, 2])), [2, 1, 1, 4]) * x


def in_groups(x):
    """Less the mean of each half of the channels."""
    groups = tf.reshape(x, [2, 6, 6, 2, 2])
    return tf.reshape(groups - tf.reduce_mean(groups, [1, 2, 4], keepdims=True), [2, 6, 6, 4])


AXES_KEPT = {
    "gate first": gated,
    "norm of groups": in_groups,
    "the larger half": lambda x: tf.maximum(*tf.split(x, 2, -1)),
    "one half and the other": lambda x: tf.concat([half * half for half in tf.split(x, 2, -1)], -1),
}


@pytest.mark.parametrize("name", AXES_KEPT)
def test_a_way_that_says_nothing_of_the_axes_leaves_it_to_another(name):
    def build(image):
        x = tf.nn.relu(tf.nn.conv2d(image, np.ones((3, 3, 3, 4), "f"), 1, "SAME", name="conv"), "relu")
        x = tf.nn.relu(AXES_KEPT[name](x), "last")
        return tf.reshape(x, [2, -1]) @ np.ones((36 * x.shape[3], 3), "f")

    assert cam_layers(traced(build), question())[-1].tensor == "last:0"


def test_sizes_that_hang_on_nothing_but_the_number_of_images_are_known():
    def build(image):
        x = tf.nn.relu(tf.nn.conv2d(image, np.ones((3, 3, 3, 4), "f"), 1, "SAME"))
        x = tf.nn.relu(tf.tensordot(x, np.ones((4, 5), "f"), [[3], [0]]), "points")
        return tf.reshape(x, [-1, 180]) @ np.ones((180, 3), "f")

    last = cam_layers(traced(build, shape=(None, 6, 6, 3)), question())[-1]
    assert (last.tensor, last.shape) == ("points:0", (None, 6, 6, 5))


@pytest.mark.parametrize("layers", [1, 2])
def test_patches_before_attention_whose_softmax_is_written_out_are_no_late_layer(layers):
    def build(image):
        x = tf.reshape(tf.nn.relu(tf.nn.conv2d(image, np.ones((2, 2, 3, 4), "f"), 2, "VALID"), "patches"), [2, 9, 4])
        for _ in range(layers):
            powers = tf.exp(tf.matmul(x, x, transpose_b=True))
            x += (powers / tf.reduce_sum(powers, -1, keepdims=True)) @ x
        return tf.reduce_mean(x, 1)

    found = [layer.tensor for layer in cam_layers(traced(build), question())]
    assert found == (["Conv2D:0", "patches:0"] if layers == 1 else [])


CUTS = {
    "the middle": lambda image: image[:, 1:-1, 1:-1],
    "a box": lambda image: tf.image.crop_and_resize(image, [[0.2, 0.2, 0.8, 0.8]] * 2, [0, 1], [6, 6]),
}
WHOLES = {
    "every second": lambda image: image[:, ::2, ::2],
    "two channels": lambda image: image[..., :2],
    "what was added": lambda image: tf.pad(image, [[0, 0], [3, 3], [3, 3], [0, 0]])[:, 2:8, 3:9],
    "all of it": lambda image: tf.image.crop_and_resize(image, [[0.0, 0.0, 1.0, 1.0]] * 2, [0, 1], [4, 4]),
    "of features": lambda image: tf.nn.conv2d_transpose(image, np.ones((4, 4, 3, 3), "f"), [2, 14, 14, 3], 2, "VALID")[
        :, 1:-1, 1:-1
    ],
}


@pytest.mark.parametrize("name", [*CUTS, *WHOLES])
def test_a_map_of_a_part_of_the_image_is_warned_of(name):
    def build(image):
        x = {**CUTS, **WHOLES}[name](image)
        x = tf.nn.relu(tf.nn.conv2d(x, np.ones((3, 3, x.shape[3], 4), "f"), 1, "SAME"), "last")
        return tf.reduce_mean(x, [1, 2])

    said = cut_warning(traced(build), question(), tf.TensorSpec(SHAPE, tf.float32), "last:0")
    assert ("drawn over the whole image" in said and "--input" in said) if name in CUTS else said is None


def test_a_graph_without_feature_maps_has_no_such_layer():
    assert cam_layers(traced(lambda image: tf.reshape(image, [2, -1])), question()) == []
