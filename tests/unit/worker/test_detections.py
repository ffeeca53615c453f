"""What an output is taken for: detections by names, shapes and values; embeddings; and what is neither."""

# ruff: noqa: E731 - a formula is clearer as one line, with a name, than as a function of two

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import computed, pixels, question, traced

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.analysis import detections
from gradviz_cli.worker.analysis.detections import Look, find_detections
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.readings import read_scores
from gradviz_cli.worker.graph.question import Detections, Tensor
from gradviz_cli.worker.passes.detections import detections as laid

F = tf.float32
SHAPE = (1, 16, 16, 3)
DRAW = np.random.default_rng(5)
KERNEL = DRAW.normal(size=(12, 48)).astype(np.float32)


def cells(image, count: int, per_cell: int = 1, stride: int = 2):
    """Numbers [1, A, count] of the picture, `per_cell` rows for each of its cells."""
    patches = tf.image.extract_patches(image, [1, 2, 2, 1], [1, stride, stride, 1], [1, 1, 1, 1], "SAME")
    flat = tf.reshape(patches, [-1, 12])
    return tf.reshape(tf.matmul(flat, KERNEL[:, : count * per_cell]), [1, -1, count])


def look(build, shape=SHAPE, name: str = "output_0", **more) -> Look:
    graph = traced(build, shape=shape)
    asked = question(shape=shape, **more)
    return Look(
        graph, replace(asked, output=replace(asked.output, key=name)), Entry("NHWC", shape[1:3], 3, shape[0]), {}
    )


def boxes(x):
    return tf.concat([x[..., :2] * 8, tf.exp(x[..., 2:4])], -1)


def one_sigmoid(x):
    y = tf.sigmoid(x)
    return tf.concat([y[..., :2] * 32, y[..., 2:4] ** 2 * 9, y[..., 4:]], -1)


def apart(x):
    return tf.concat([boxes(x), tf.sigmoid(x[..., 4:])], -1)


def scales(image):
    """As YOLOv5 joins its three scales: each reshaped from a grid with three anchors."""
    parts = [one_sigmoid(tf.reshape(cells(image, 9, 3, s), [1, 3, (16 // s) ** 2, 9])) for s in (2, 4, 8)]
    return tf.concat([tf.reshape(part, [1, -1, 9]) for part in parts], 1)


def turned(x):
    return tf.transpose(x, [0, 2, 1])


LISTS = {
    "YOLOv8": (lambda image: turned(apart(cells(image, 9))), 5, lambda o: o[:, 4:].transpose(0, 2, 1)),
    "YOLOv8, transposed": (lambda image: apart(cells(image, 9)), 5, lambda o: o[..., 4:]),
    "boxes in parts of the image": (lambda image: turned(tf.sigmoid(cells(image, 9))), 5, lambda o: o[:, 4:].transpose(0, 2, 1)),
    "YOLOv5": (lambda image: one_sigmoid(cells(image, 9)), 4, lambda o: o[..., 4:5] * o[..., 5:]),
    "YOLOv5, three scales": (scales, 4, lambda o: o[..., 4:5] * o[..., 5:]),
    "YOLOX": (
        lambda image: (lambda x: tf.concat([boxes(x), tf.sigmoid(x[..., 4:5]), tf.sigmoid(x[..., 5:])], -1))(cells(image, 9)),
        4, lambda o: o[..., 4:5] * o[..., 5:],
    ),
    "as many numbers as detections": (lambda image: turned(apart(cells(image, 48, 1, 4)[:, :16, :16])), 12, lambda o: o[:, 4:].transpose(0, 2, 1)),
    "the same, transposed": (lambda image: apart(cells(image, 20, 1, 4)), 16, lambda o: o[..., 4:]),
    "parts of the image, three scales": (
        lambda image: tf.concat([tf.sigmoid(cells(image, 9, 1, s)) for s in (2, 4, 8)], 1),
        4, lambda o: o[..., 4:5] * o[..., 5:],
    ),
    "one class": (lambda image: turned(apart(cells(image, 5))), 1, lambda o: o[:, 4:].transpose(0, 2, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_an_output_that_lists_detections_is_laid_by_detections_and_classes(name):
    build, classes, scores = LISTS[name]
    seen = look(build)
    found = find_detections(seen)
    assert found is not None and "4 of the box" in found.said
    graph = laid(seen.graph, replace(seen.question, detections=found))
    image = pixels(SHAPE)
    got = computed(graph, image)
    np.testing.assert_allclose(got[0], scores(computed(seen.graph, image)[0]), rtol=1e-6)
    assert got[0].shape[2] == classes
    np.testing.assert_array_equal(got[1], computed(seen.graph, image)[0])  # the model's own output stays


def test_detections_are_never_read_as_classes():
    build, *_ = LISTS["YOLOv8"]
    readings = {box: read_scores(look(build), ModelOptions("m", box_of=box)) for box in (None, 1, 3, 0)}
    assert all(asked.detections is not None and asked.positions for asked, _ in readings.values())
    assert "its best one; settle it with --box-of 1" in readings[None][1]
    assert "classes at" not in readings[None][1] and "if it" not in readings[None][1]
    said = [readings[box][0].reading.partition("explained by ")[2] for box in (1, 3, 0)]
    assert said == ["its best one", "its best one but 2", "the sum of its scores in the detections that it wins"]


def test_where_nothing_tells_a_box_both_readings_are_said():
    warning = read_scores(look(LISTS["boxes in parts of the image"][0]), ModelOptions("m"))[1]
    assert "lists detections" in warning
    assert (
        "a sequence of 9 positions with 64 classes each, explain one class with --output 'output_0[..., C]'" in warning
    )


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda image: turned(cells(image, 9)), "--output 'output_0[0, C, ...]'"),
        (lambda image: cells(image, 9), "-t C --box-of 1"),
        (lambda image: tf.nn.softmax(cells(image, 9)), None),
        (lambda image: cells(image, 4), None),
        (lambda image: cells(image, 9)[:, :61], None),
    ],
)
def test_raw_numbers_of_a_detector_may_be_taken_for_a_sequence(build, said):
    asked, warning = read_scores(look(build), ModelOptions("m"))
    assert asked.detections is None and "is a sequence" in warning
    other = "if it lists 64 detections of 9 numbers each, boxes among them, take number C of the best one with "
    assert f"; {other}{said}" in warning if said else "detections" not in warning


NONE = {
    "a sequence of distributions": lambda image: tf.nn.softmax(cells(image, 9)),
    "a sequence of logits": lambda image: cells(image, 9),
    "features of patches": lambda image: tf.nn.relu(cells(image, 24)),
    "labels of patches": lambda image: tf.sigmoid(cells(image, 9)),
    "as many labels as patches": lambda image: tf.sigmoid(cells(image, 16, 1, 4)),
    "few rows": lambda image: tf.sigmoid(cells(image, 48)),
    "logits": lambda image: tf.reduce_mean(cells(image, 9), 1),
    "a map": lambda image: tf.reshape(tf.sigmoid(cells(image, 9)), [1, 8, 8, 9]),
}


@pytest.mark.parametrize("name", NONE)
def test_other_outputs_are_no_detections(name):
    assert find_detections(look(NONE[name])) is None


def test_a_flat_map_in_an_open_batch_is_a_sequence():
    shape = (None, 16, 16, 3)
    build = lambda image: tf.sigmoid(
        tf.reshape(tf.reduce_mean(image, 3), [-1, 256, 1]) * DRAW.normal(size=9).astype("f")
    )
    assert find_detections(look(build, shape)) is None


def test_what_is_kept_says_its_class():
    rows = np.float32([[0, 0, 5, 5, 0.9, 7], [1, 1, 4, 4, 0.5, 3], [2, 2, 6, 6, 0.25, 7]])
    build = lambda image: tf.tile(rows[None], [1, 5, 1])[:, :3] + 0 * tf.reduce_sum(image)
    seen = look(build)
    found = find_detections(seen)
    assert found.labelled == seen.graph.score
    (got, *_) = computed(laid(seen.graph, replace(seen.question, detections=found)), pixels(SHAPE))
    assert got.shape[:2] == (1, 3)
    assert got[0, :, 7].tolist() == [np.float32(0.9), -1, 0.25] and got[0, :, 3].tolist() == [-1, 0.5, -1]


# --- by names and shapes ----------------------------------------------------------------------------------------------


def tensor(key: str, *shape: int) -> Tensor:
    return Tensor(key, f"{key}:0", F, shape)


SCORES, BOXES = tensor("classification", -1, 90, 7), tensor("regression", -1, 90, 4)
TF_OD = [tensor("detection_boxes", 1, 9, 4), tensor("detection_classes", 1, 9), tensor("detection_scores", 1, 9)]
RAW = [tensor("raw_detection_boxes", 1, 90, 4), tensor("raw_detection_scores", 1, 90, 7)]


@pytest.mark.parametrize(
    ("outputs", "want"),
    [
        ([SCORES, BOXES], "classification"),
        ([tensor("output_0", -1, 90, 7), tensor("output_1", -1, 90, 4)], "output_0"),
        ([tensor("output_0", -1, 9, 7), tensor("output_1", -1, 9, 4)], None),  # two sequences
        ([tensor("a", -1, 90, 4), tensor("b", -1, 90, 4)], None),
        ([tensor("class_scores", -1, 90, 4), tensor("boxes", -1, 90, 4)], "class_scores"),
        ([tensor("cls", -1, 8, 8, 18), tensor("box_pred", -1, 8, 8, 12)], "cls"),
        ([tensor("cls", -1, 18, 8, 8), tensor("box_pred", -1, 12, 8, 8)], "cls"),
        (TF_OD, "detection_scores"),
        ([*TF_OD, *RAW], "raw_detection_scores"),
        ([tensor("boxes", -1, 4), tensor("labels", -1), tensor("scores", -1)], "scores"),
        ([tensor("age", -1, 1), tensor("gender", -1, 2)], None),
    ],
)
def test_scores_among_the_outputs_of_a_detector(outputs, want):
    found = detections.scores_among(outputs)
    assert (found and found.key) == want
    assert found is None or detections.listed(outputs, found) is not None


@pytest.mark.parametrize("boxes_", [BOXES, tensor("bbox", -1, 4), tensor("pred_boxes", -1, 4, 90)])
def test_boxes_are_refused_for_classes(boxes_):
    with pytest.raises(ModelUnusable, match=f"{boxes_.key} holds the places of boxes and no classes.*--output"):
        detections.check_no_boxes(boxes_, [boxes_, SCORES])


GRIDS = [
    tensor("large", -1, 8, 8, 24),
    tensor("small", -1, 4, 4, 24),
    tensor("c", -1, 3, 4, 4, 8),
    tensor("d", -1, 3, 2, 2, 8),
]


@pytest.mark.parametrize("one", [*GRIDS, tensor("nchw", -1, 24, 16, 16)])
def test_a_grid_of_a_detector_is_refused(one):
    grids = [*GRIDS, tensor("nchw", -1, 24, 16, 16), tensor("nchw2", -1, 24, 8, 8)]
    with pytest.raises(
        ModelUnusable, match=f"{one.key} is one grid of a detector.*'{one.key}.\\.\\.\\., C.'.*--box-of all"
    ):
        detections.check_no_boxes(one, grids)


def test_grids_of_classes_alone_may_be_read_so_and_boxes_never():
    detections.check_no_boxes(GRIDS[0], GRIDS, classes=True)
    with pytest.raises(ModelUnusable, match="holds the places of boxes"):
        detections.check_no_boxes(BOXES, [BOXES, SCORES], classes=True)


def test_maps_of_a_pyramid_are_none():
    levels = [tensor("p3", -1, 16, 16, 256), tensor("p4", -1, 8, 8, 256), tensor("p5", -1, 16, 16, 24)]
    for one in levels:
        detections.check_no_boxes(one, levels)


@pytest.mark.parametrize(
    "other", [SCORES, tensor("seasons", -1, 4), tensor("boxes", -1, 7), tensor("location_class", -1, 4)]
)
def test_other_heads_are_not(other):
    detections.check_no_boxes(other, [other])


def test_a_softmax_beside_boxes_has_a_background():
    seen = look(lambda image: tf.nn.softmax(cells(image, 6) * 0.1 + np.float32([0, 0, 0, 0, 0, 9])))
    listed = Detections(seen.graph.score, 2)
    found = find_detections(replace(seen, question=replace(seen.question, detections=listed)))
    assert found.background == 5 and "class 5 is nearly everywhere" in found.said


def test_scores_that_do_not_compete_have_none():
    seen = look(lambda image: tf.sigmoid(cells(image, 6) * 0.1 - np.float32([1, 5, 5, 5, 5, 5])))
    found = find_detections(replace(seen, question=replace(seen.question, detections=Detections(seen.graph.score, 2))))
    assert found.background is None


# --- embeddings, maps -------------------------------------------------------------------------------------------------


def norm(x):
    middle, spread = tf.nn.moments(x, [-1], keepdims=True)
    return (x - middle) * tf.math.rsqrt(spread + 1e-6)


def head(image, count: int = 48):
    return tf.matmul(tf.reshape(image, [1, -1])[:, :12], KERNEL[:, :count])


WIDE = DRAW.normal(size=(3, 3, 3, 128)).astype(np.float32)
FEW, POINTS = WIDE[..., :16], WIDE[:1, :1, :, :16]


def conv(image, kernel):
    return tf.nn.conv2d(image, kernel, 4, "SAME")


def pool(x):
    return tf.reduce_mean(x, [1, 2])


READ = {
    "of length 1": (lambda image: tf.math.l2_normalize(head(image), 1), "length 1"),
    "behind a normalisation": (lambda image: norm(head(image)), "behind its normalisation"),
    "pooled": (lambda image: tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, WIDE, 1, "SAME")), [1, 2]), "pooled features"),
    "a feature map": (lambda image: tf.nn.relu(tf.nn.conv2d(image, WIDE, 4, "SAME")), "a feature map"),
    "a feature map of one cell": (lambda image: tf.nn.relu(tf.nn.conv2d(image, WIDE, 16, "SAME")), "a feature map"),
    "logits": (head, None),
    "logits of one cell": (lambda image: tf.nn.conv2d(image, WIDE, 16, "SAME"), None),
    "probabilities": (lambda image: tf.nn.softmax(head(image)), None),
    "logits behind a normalisation": (lambda image: tf.matmul(norm(head(image, 12)), KERNEL), None),
    "a class map that is pooled": (
        lambda image: tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, POINTS, 1, "SAME")), [1, 2]), None),
    "few channels, pooled": (lambda image: pool(tf.nn.relu(conv(image, FEW))), "pooled features"),
    "few channels": (lambda image: tf.nn.relu(conv(image, FEW)), "a feature map"),
    "few channels, SiLU": (lambda image: (lambda x: x * tf.sigmoid(x))(conv(image, FEW) + np.float32(0.5)), "a feature map"),
    "few channels, a sum": (
        lambda image: tf.nn.relu(conv(image, POINTS) + tf.nn.relu(conv(image, FEW))), "a feature map"),
    "a hidden layer": (lambda image: tf.nn.relu(head(image)[:, :48] @ np.float32(DRAW.normal(size=(48, 64)))),
        "features of a hidden layer"),
    "few numbers behind a ReLU": (lambda image: tf.nn.relu(head(image, 12)), None),
    "scaled logits": (lambda image: tf.matmul(head(image), np.float32(DRAW.normal(size=(48, 64)))) * 3, None),
    "a classifier of pooled features": (
        lambda image: tf.matmul(tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, WIDE[..., :12], 1, "SAME")), [1, 2]), KERNEL),
        None),
}  # fmt: skip


@pytest.mark.parametrize(
    "build",
    [
        lambda image: tf.nn.relu(conv(image, POINTS)),  # a map of classes, as SqueezeNet has
        lambda image: conv(tf.nn.relu(tf.nn.conv2d(image, WIDE[..., :3], 1, "SAME")), FEW),
        lambda image: tf.nn.softmax(conv(image, FEW)),
        lambda image: conv(image, FEW) * 3.0,
        lambda image: conv(image, FEW) * tf.sigmoid(conv(image, WIDE[..., 16:32])),
    ],
)
def test_a_map_of_scores_is_no_feature_map(build):
    assert "a map [4, 4] of 16 classes" in read_scores(look(build), ModelOptions("m"))[1]


@pytest.mark.parametrize("name", READ)
def test_an_embedding_is_said_to_be_one(name):
    build, why = READ[name]
    asked, warning = read_scores(look(build), ModelOptions("m"))
    if why is None:
        assert (asked.reading, warning) == (None, None)
    else:
        assert why in warning and "channels and no classes" in asked.reading and "--output" in warning
        assert read_scores(look(build), ModelOptions("m", output="output_0"))[1] is None


def test_an_embedding_by_its_name():
    asked, warning = read_scores(look(head, name="image_embeds"), ModelOptions("m"))
    assert "by its name" in warning and asked.reading.endswith("48 channels and no classes")


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 8, 8, 5), "a map [8, 8] of 5 classes, each summed over the positions that it wins"),
        ((1, 12, 5), "a sequence [12] of 5 classes, each summed"),
        ((1, 8, 8, 1), "a map [8, 8] of 1 class, summed over the positions where it is positive"),
        ((1, 2, 3, 2, 5), "a map [2, 3, 2] of 5 classes"),
        ((1, 5), None),
        ((1, 5, 1, 1), None),
        ((5,), None),
    ],
)
def test_a_map_or_sequence_is_said_to_be_one(shape, said):
    size = int(np.prod(shape))
    build = lambda image: tf.reshape(tf.tile(tf.reshape(image, [-1]), [2])[:size] * 1.5, shape)
    asked, warning = read_scores(look(build), ModelOptions("m"))
    assert asked.positions == (said is not None)
    if said is None:
        assert (asked.reading, warning) == (None, None)
        return
    assert said in asked.reading and said in warning
    assert f"'output_0[0, {('t', 'y, x', 'z, y, x')[len(shape) - 3]}, ...]'" in warning
    assert read_scores(look(build), ModelOptions("m", box_of=0))[1] is None
    at = read_scores(look(build), ModelOptions("m", at=(1,) * (len(shape) - 2)))
    assert (at[0].positions, at[1]) == (False, None)
