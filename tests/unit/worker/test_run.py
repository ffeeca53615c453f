"""Scores as positions and classes, rules by their equations, and gradients against derivatives by hand."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import Calls as Name
from graphs import const, function, node, pixels, question, traced

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.rules import RULES
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.graph.graph import Graph, copied
from gradviz_cli.worker.graph.question import Detections
from gradviz_cli.worker.passes.mark import mark
from gradviz_cli.worker.run import differentiate, targets
from gradviz_cli.worker.run.differentiate import AT_ONCE, LARGE_CONSTANT, Differentiator, calls, first_cut
from gradviz_cli.worker.run.parallel import Calls
from gradviz_cli.worker.run.targets import Explained, Problem

F = tf.float32
ENTRY = Entry("NHWC", (6, 6), 3)
PROBLEM = Problem("image:0", ENTRY)

# --- positions and classes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        ((2, 5), (2, 1, 5)),
        ((2,), (2, 1, 1)),
        ((2, 7, 5), (2, 7, 5)),
        ((2, 4, 4, 5), (2, 16, 5)),
        ((2, 12, 4, 4), (2, 16, 12)),
        ((2, 1, 1, 5), (2, 1, 5)),
        ((2, 2, 1, 1), (2, 1, 2)),
        ((2, 5, 1), (2, 1, 5)),
    ],
)
def test_scores_are_positions_and_classes(shape, want):
    assert targets.positions(tf.zeros(shape), 2, PROBLEM).shape == want


@pytest.mark.parametrize(
    ("shape", "want"), [((5,), (1, 1, 5)), ((), (1, 1, 1)), ((1,), (1, 1, 1)), ((7, 5), (1, 7, 5)), ((1, 5), (1, 1, 5))]
)
def test_a_model_of_one_image_may_have_dropped_the_batch(shape, want):
    problem = replace(PROBLEM, entry=replace(PROBLEM.entry, batch=1))
    assert targets.positions(tf.zeros(shape), 1, problem).shape == want


@pytest.mark.parametrize(
    ("said", "shape", "want"),
    [
        ((1, 6, 1), (None, 6, 1), (1, 1, 6)),  # behind a branch or loop of a model of one image
        ((1, 6, 1), (None, None, 1), (1, 1, 6)),
        ((None, 6), (None, 6), (1, 1, 6)),
        (None, (6,), (1, 1, 6)),
    ],
)
def test_axes_that_the_graph_leaves_open_are_those_of_the_signature(said, shape, want):
    problem = replace(PROBLEM, entry=replace(PROBLEM.entry, batch=1), shape=said)
    with tf.Graph().as_default():
        scores = tf.compat.v1.placeholder(F, shape, name="model/scores")
        found = targets.positions(scores, 1, problem)
        with tf.compat.v1.Session() as session:
            fed = np.arange(6, dtype=np.float32).reshape([1 if size is None else size for size in said or shape])
            assert session.run(found, {scores: fed}).tolist() == np.arange(6.0).reshape(want).tolist()


@pytest.mark.parametrize(("shape", "count"), [((3, 5), 2), ((5,), 4), ((7, 5), None)])
def test_another_first_axis_is_refused(shape, count):
    with tf.Graph().as_default():
        scores = tf.compat.v1.placeholder(F, shape, name="model/scores")
        with pytest.raises(ModelUnusable, match=f"the first axis of scores:0 is {shape[0]}, .*--output") as caught:
            targets.positions(scores, count, replace(PROBLEM, entry=replace(PROBLEM.entry, batch=count)))
    assert ("--input" in caught.value.remedy) == (count is not None), "it may be the input that is no image's"


def test_classes_before_the_axes_of_the_image_are_moved_behind():
    scores = np.arange(2 * 12 * 4 * 4, dtype=np.float32).reshape(2, 12, 4, 4)
    found = targets.positions(tf.constant(scores), 2, PROBLEM)
    np.testing.assert_array_equal(found, scores.transpose(0, 2, 3, 1).reshape(2, 16, 12))


def test_a_model_that_takes_one_image_has_no_batch_axis():
    assert targets.positions(tf.zeros([5]), 0, PROBLEM).shape == (1, 1, 5)


def test_a_position_can_be_asked_for():
    scores = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    problem = replace(PROBLEM, at=(1, 2), entry=Entry("NHWC", (30, 40), 3))
    np.testing.assert_array_equal(targets.positions(tf.constant(scores), 2, problem), scores[:, 1:2, 2])


@pytest.mark.parametrize("at", [(1,), (3, 0), (0, 4)])
def test_a_position_outside_is_refused(at):
    with pytest.raises(UsageError, match="--at"):
        targets.positions(tf.zeros([2, 3, 4, 5]), 2, replace(PROBLEM, at=at, entry=Entry("NHWC", (30, 40), 3)))


def test_a_detection_is_named_by_one_number():
    problem = replace(PROBLEM, detections=Detections("score:0", 2))
    assert targets.positions(tf.zeros([2, 9, 5]), 2, replace(problem, at=(8,))).shape == (2, 1, 5)
    with pytest.raises(UsageError, match="--at 3,4: detections stand in one row.*--box-of"):
        targets.positions(tf.zeros([2, 9, 5]), 2, replace(problem, at=(3, 4)))


def test_a_class_before_the_first_column_is_none():
    problem = replace(PROBLEM, detections=Detections("score:0", 2, shift=1), box=1)
    scores = targets.positions(tf.constant([[[0.2, 0.4], [-0.3, 0.1]]]), 1, problem)
    won = targets.winners(scores, scores, problem)
    index, *_ = targets.chosen_class(scores, scores, won, tf.constant(-1), problem)
    assert scores.shape == (1, 2, 3) and int(index[0]) == 2 and not won.numpy()[..., 0].any()


def test_whole_numbers_are_scores_too():
    assert targets.positions(tf.zeros([2, 5], tf.int32), 2, PROBLEM).dtype == F


def test_an_open_rank_is_filled_in_or_refused():
    with tf.Graph().as_default():
        scores = tf.compat.v1.placeholder(F, None, name="model/scores")
        with pytest.raises(ModelUnusable, match="the rank of scores:0 is open"):
            targets.positions(scores, None, PROBLEM)
        assert targets.positions(scores, None, replace(PROBLEM, shape=(-1, 5))).shape[-1] == 5


def test_a_class_counts_where_it_wins():
    scores = tf.constant([[[1.0, 2.0], [4.0, 3.0], [0.0, 9.0]]])
    assert targets.winners(scores, scores, PROBLEM).numpy().tolist() == [[[0, 1], [1, 0], [0, 1]]]
    assert targets.winners(scores, scores, replace(PROBLEM, everywhere=True)).numpy().tolist() == [[[1, 1]] * 3]
    assert targets.winners(scores[:, :1], scores[:, :1], PROBLEM).numpy().tolist() == [[[1, 1]]]
    single = tf.constant([[[1.0], [-1.0], [2.0]]])
    assert targets.winners(single, single, PROBLEM).numpy().ravel().tolist() == [1, 0, 1]


@pytest.mark.parametrize(("want", "index", "rank"), [(-1, 2, 0), (-2, 0, 1), (-3, 1, 2), (1, 1, 2)])
def test_the_class_that_is_meant(want, index, rank):
    scores = tf.constant([[[3.0, 1.0, 5.0]]])
    outputs = tf.constant([[[0.3, 0.1, 0.6]]])
    found = targets.chosen_class(scores, outputs, tf.ones_like(scores), tf.constant(want))
    values = [float(column[0]) for column in found]
    assert values[:2] == [index, rank] and values[2] == [3.0, 1.0, 5.0][index]
    assert values[3] == pytest.approx([0.3, 0.1, 0.6][index])


def test_ties_go_to_the_lower_index():
    scores = tf.constant([[[1.0, 7.0, 7.0]]])
    assert [
        int(targets.chosen_class(scores, scores, tf.ones_like(scores), tf.constant(t))[0][0]) for t in (-1, -2)
    ] == [1, 2]


def test_over_positions_classes_are_ranked_by_how_many_they_win():
    scores = tf.constant([[[9.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    index, rank, score, _ = targets.chosen_class(
        scores, scores, targets.winners(scores, scores, PROBLEM), tf.constant(-1)
    )
    assert (int(index[0]), int(rank[0]), float(score[0])) == (1, 0, 2.0)


LISTED = replace(PROBLEM, detections=Detections("score:0", 2), box=1)
DETECTED = tf.constant([[[1.0, 5.0, 0.0], [4.0, 3.0, 0.5], [2.0, 4.0, 0.25]]])


@pytest.mark.parametrize(
    ("want", "problem", "index", "score"),
    [
        (-1, LISTED, 1, 5.0),
        (-2, LISTED, 0, 4.0),
        (-3, LISTED, 2, 0.5),
        (2, LISTED, 2, 0.5),
        (0, replace(LISTED, box=2), 0, 2.0),
        (-1, replace(LISTED, box=2, one_detection=True), 0, 4.0),
        (-2, replace(LISTED, box=2, one_detection=True), 1, 3.0),
        (1, replace(LISTED, box=3, one_detection=True), 1, 3.0),
        (-1, replace(LISTED, detections=Detections("score:0", 2, background=1)), 0, 4.0),
        (1, replace(LISTED, detections=Detections("score:0", 2, background=1)), 1, 5.0),
    ],
)
def test_of_detections_one_is_explained(want, problem, index, score):
    won = targets.winners(DETECTED, DETECTED, problem, want)
    found = targets.chosen_class(DETECTED, DETECTED / 10, won, tf.constant(want), problem)
    assert [float(column[0]) for column in found[::2]] == [index, score]
    assert float(found[3][0]) == pytest.approx(score / 10)


@pytest.mark.parametrize(
    ("want", "problem", "index", "score", "output"),
    [
        (-1, {}, 0, 4.0, 0.5),  # its logits sum to less than those of class 1, its outputs to more
        (-2, {}, 1, 9.0, 0.3),
        (-3, {}, 2, 0.0, 0.0),
        (-1, {"detections": Detections("score:0", 2, background=0)}, 1, 9.0, 0.3),
    ],
)
def test_of_all_detections_those_that_a_class_wins_are_summed(want, problem, index, score, output):
    outputs = tf.constant([[[0.0, 0.1, 0.0], [0.5, 0.3, 0.5], [0.2, 0.2, 0.25]]])
    problem = replace(LISTED, box=0, **problem)
    won = targets.winners(DETECTED, outputs, problem, want)
    found = [float(one[0]) for one in targets.chosen_class(DETECTED, outputs, won, tf.constant(want), problem)]
    assert found == [index, -1 - want, score, pytest.approx(output)]


@pytest.mark.parametrize("more", [{}, {"everywhere": True}, {"at": (1,)}])
def test_a_single_score_has_no_second_best(more):
    problem = replace(PROBLEM, box=2, **more)
    scores = targets.positions(tf.zeros([2, 3, 5] if more else [2, 5]), 2, problem)
    with pytest.raises(UsageError, match="--box-of 2: .*leave out --box-of"):
        targets.winners(scores, scores, problem)
    for box in (0, 1):
        assert targets.winners(scores, scores, replace(problem, box=box)).numpy().all()


def test_a_position_of_a_single_score_is_left_out():
    with pytest.raises(UsageError, match="--at 3,3: the output has one score for each class.*leave out --at"):
        targets.positions(tf.zeros([2, 5]), 2, replace(PROBLEM, at=(3, 3)))
    with pytest.raises(UsageError, match="--at 3,3: the scores have 1 position axis; give 1 number"):
        targets.positions(tf.zeros([2, 7, 5]), 2, replace(PROBLEM, at=(3, 3)))


def test_logits_of_one_softmax_are_not_those_of_the_next():
    outputs = tf.constant([[[0.1, 0.2, 0.0], [0.7, 0.1, 0.2], [0.3, 0.3, 0.1]]])
    problem = replace(LISTED, competing=True)
    won = targets.winners(DETECTED, outputs, problem)
    index, _, score, output = targets.chosen_class(DETECTED, outputs, won, tf.constant(-1), problem)
    assert (int(index[0]), float(score[0])) == (0, 4.0) and float(output[0]) == pytest.approx(0.7)


def test_a_class_that_no_detection_is_of_counts_nowhere():
    scores = tf.constant([[[0.5, -1.0], [0.25, -1.0]]])
    problem = replace(LISTED, detections=Detections("score:0", 2, labelled="label:0"))
    won = targets.winners(scores, scores, problem, 1)
    assert won.numpy().tolist() == [[[1, 0], [0, 0]]]
    index, rank, score, _ = targets.chosen_class(scores, scores, won, tf.constant(1), problem)
    assert (int(index[0]), int(rank[0]), float(score[0])) == (1, 1, 0.0)


def test_more_detections_than_there_are_are_refused():
    with pytest.raises(UsageError, match="--box-of 4: the scores have 3 positions"):
        targets.winners(DETECTED, DETECTED, replace(LISTED, box=4))


def test_score_and_output_are_sums_over_the_same_positions():
    scores = tf.constant([[[1.0, 2.0], [4.0, 3.0], [0.0, 9.0]]])
    outputs = tf.constant([[[0.25, 0.75], [0.6, 0.4], [0.0, 1.0]]])
    won = targets.winners(scores, outputs, PROBLEM)
    *_, score, output = targets.chosen_class(scores, outputs, won, tf.constant(-1))
    assert (float(score[0]), float(output[0])) == (11.0, 1.75)


def test_a_decision_over_positions_is_no_number_of_a_class():
    scores, decided = tf.constant([[[1.0, 2.0], [4.0, 3.0]]]), tf.constant([[[1.0, 0.0]]])
    *_, output = targets.chosen_class(scores, decided, targets.winners(scores, decided, PROBLEM), tf.constant(-1))
    assert np.isnan(output).all()


def test_a_given_class_computes_nothing():
    index, rank, score, output = targets.given_class(tf.zeros([2, 1, 5]), tf.zeros([2, 1, 5]), None, tf.constant(3))
    assert index.numpy().tolist() == [3, 3] and rank.numpy().tolist() == [-1, -1]
    assert np.isnan(score).all() and np.isnan(output).all()


def test_parts_of_a_batch_are_joined_by_image():
    def part(n: int) -> Explained:
        column = np.full((n, 2), n)
        return Explained(column, column, column, column, (np.full((2, n, 4, 4, 3), n),))

    whole = targets.joined([part(1), part(2)])
    assert whole.index.tolist() == [[1, 1], [2, 2], [2, 2]] and whole.gradients[0].shape == (2, 3, 4, 4, 3)


# --- gradients --------------------------------------------------------------------------------------------------------

WEIGHTS = {"matrix": np.random.default_rng(1).normal(size=(108, 4)).astype(np.float32)}


def linear(image, matrix):
    return tf.linalg.matmul(tf.reshape(image, [-1, 108]), matrix)


def differentiator(build=linear, weights=WEIGHTS, problem: Problem = PROBLEM) -> Differentiator:
    graph = traced(build, weights, shape=(problem.entry.batch, 6, 6, 3))
    return Differentiator(mark(graph, question()), problem)


def open_batch(build) -> Differentiator:
    graph = traced(build, WEIGHTS, shape=(None, 6, 6, 3))
    return Differentiator(mark(graph, question(shape=(-1, 6, 6, 3))), PROBLEM)


def test_one_row_for_all_images_is_asked_for_one_image_at_a_time():
    one = open_batch(lambda image, matrix: tf.reduce_mean(linear(image, matrix), 0, keepdims=True))
    one.prepare(["backprop"])
    found = one.explain(pixels(), [1], ["backprop"])
    wanted = np.broadcast_to(WEIGHTS["matrix"][:, 1].reshape(6, 6, 3), (2, 6, 6, 3))
    np.testing.assert_allclose(found.gradients[0][0], wanted, rtol=1e-5)
    np.testing.assert_allclose(found.score[:, 0], (pixels().reshape(2, 108) @ WEIGHTS["matrix"])[:, 1], rtol=1e-4)


def test_rows_that_are_no_images_are_refused():
    several = open_batch(lambda image, matrix: tf.reshape(linear(image, matrix), [-1, 2]))
    with pytest.raises(ModelUnusable, match="the first axis of .* is 4 for 2 images"):
        several.explain(pixels(), [1], ["backprop"])


def test_the_gradient_of_a_linear_score_is_its_weights():
    found = differentiator().explain(pixels(), [2, -1], ["backprop"])
    scores = pixels().reshape(2, 108) @ WEIGHTS["matrix"]
    assert found.index.tolist() == [[2, top] for top in scores.argmax(1)]
    assert found.rank[:, 1].tolist() == [0, 0]
    np.testing.assert_allclose(found.score[:, 0], scores[:, 2], rtol=1e-5)
    gradients = found.gradients[0]
    for image in range(2):
        for place, target in enumerate(found.index[image]):
            want = WEIGHTS["matrix"][:, target].reshape(6, 6, 3)
            np.testing.assert_allclose(gradients[place, image], want, rtol=1e-6)


def test_modes_share_one_forward_pass():
    def build(image, matrix):
        return linear(tf.nn.relu(image), matrix)

    found = differentiator(build).explain(pixels(), [0], ["backprop", "deconv", "guided"])
    weights = WEIGHTS["matrix"][:, 0].reshape(6, 6, 3)
    gate = pixels() > 0
    np.testing.assert_allclose(found.gradients[0][0], weights * gate, rtol=1e-6)
    np.testing.assert_allclose(found.gradients[1][0], np.broadcast_to(np.maximum(weights, 0), gate.shape), rtol=1e-6)
    np.testing.assert_allclose(found.gradients[2][0], np.maximum(weights, 0) * gate, rtol=1e-6)


def test_more_targets_than_fit_one_pass():
    wanted = [0, 1, 2, 3, -1, -2, -3, 0]
    assert len(wanted) > AT_ONCE
    found = differentiator().explain(pixels(), wanted, ["backprop"])
    assert found.index.shape == (2, 8) and found.index[0, :4].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.gradients[0][0], found.gradients[0][7])


def test_a_batch_of_fixed_size_is_filled_up():
    fixed = differentiator(problem=replace(PROBLEM, entry=replace(ENTRY, batch=2)))
    images = pixels((5, 6, 6, 3))
    want = differentiator().explain(images, [1], ["backprop"])
    found = fixed.explain(images, [1], ["backprop"])
    np.testing.assert_allclose(found.score, want.score, rtol=1e-6)
    assert found.gradients[0].shape == want.gradients[0].shape == (1, 5, 6, 6, 3)


def test_a_class_that_is_not_there_is_refused():
    one = differentiator()
    one.prepare(["backprop"])
    assert one.classes == 4
    asked = {
        "4": ([4], "0 to 3"),
        "rank5": ([-5], "rank4 or less"),
        "top2000": ([-1 - rank for rank in range(2000)], "top4 or less"),
        "9": ([-5, 9], "0 to 3"),
    }
    for words, (targets_, remedy) in asked.items():
        with pytest.raises(UsageError, match=f"--target {words}: the model has 4 classes; give {remedy}$"):
            one.explain(pixels(), targets_, ["backprop"])


def test_without_scores_they_are_left_unknown():
    found = differentiator().explain(pixels(), [1], ["deconv"], scores=False)
    assert np.isnan(found.score).all() and (found.rank == -1).all()
    np.testing.assert_allclose(found.gradients[0][0, 1], WEIGHTS["matrix"][:, 1].reshape(6, 6, 3), rtol=1e-6)


def test_a_cut_gradient_names_the_operation():
    def build(image, matrix):
        return linear(tf.round(image, name="cut"), matrix)

    told = r"cut at cut \(Round\); .* --output NAME, .* --input cut:0$"  # before it there is the image alone
    with pytest.raises(ModelUnusable, match=told) as caught:
        differentiator(build).prepare(["backprop"])
    assert caught.value.cut_at == "cut (Round)"


def test_an_operation_without_gradient_is_said():
    def build(image, matrix):
        return linear(tf.raw_ops.NextAfter(x1=image, x2=image), matrix)

    differentiator(build).prepare(["backprop"])  # this one has a gradient: the test below can fail
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(F, [2, 2])
        assert first_cut(tf.floor(x * 2.0, name="floor"), x).name == "floor"
        assert first_cut(tf.nn.relu(x), x) is None


def test_an_operation_without_gradient_is_named_with_its_neighbours():
    """By the names that the model has for them, which are those that may be typed."""

    def build(image, matrix):
        image = tf.nn.relu(image * 2.0, name="before")
        whole, *ends = tf.raw_ops.QuantizeV2(input=image, min_range=0.0, max_range=6.0, T=tf.quint8)
        found = tf.raw_ops.Dequantize(input=whole, min_range=ends[0], max_range=ends[1], name="again")
        return linear(found, matrix)

    with pytest.raises(ModelUnusable) as caught:
        differentiator(build).prepare(["backprop"])
    assert str(caught.value) == (
        "no gradient is defined for again (Dequantize), on the image's way to the score; explain a tensor before it with "
        "--output before:0, or start behind it with --input again:0"
    )
    assert caught.value.cut_at == "again (Dequantize)"


def test_of_several_cuts_what_has_a_gradient_comes_before_all():
    def build(image, matrix):
        image = tf.sin(image, name="sine")
        for name in ("one", "other"):
            whole = tf.cast(image * 255, tf.int32, name=name)
            image = tf.cast(whole, F, name=f"after_{name}") / 255
        return linear(image, matrix)

    told = r"cut at after_other \(Cast\); .* --output mul:0, .* --input after_other:0$"
    with pytest.raises(ModelUnusable, match=told):
        differentiator(build).prepare(["backprop"])


def test_in_a_loop_an_operation_without_gradient_is_said():
    error = LookupError(
        "No gradient defined for operation'loop/body/Lu' (op type: Lu). In general every operation must"
    )
    with tf.Graph().as_default() as made:
        image = tf.compat.v1.placeholder(F, [2, 2])
        raised = differentiate._undefined(error, made, image)
        other = differentiate._undefined(LookupError("gradient registry has no entry for: Lu"), made, image)
    assert str(raised).startswith("no gradient is defined for loop/body/Lu (Lu), on the image's way to the score; ")
    assert str(other).startswith("no gradient is defined for Lu, on the image's way to the score; ")


def test_a_stop_across_the_only_way_is_opened():
    def build(image, matrix):
        return linear(tf.stop_gradient(image), matrix)

    found = differentiator(build).explain(pixels(), [1], ["backprop"])
    np.testing.assert_allclose(found.gradients[0][0, 0], WEIGHTS["matrix"][:, 1].reshape(6, 6, 3), rtol=1e-6)


def test_large_constants_are_taken_out_of_the_graph():
    large = np.random.default_rng(2).normal(size=(108, LARGE_CONSTANT // 108)).astype(np.float32)
    one = differentiator(lambda image: tf.linalg.matmul(tf.reshape(image, [-1, 108]), large), {})
    assert one.graph.graph_def().ByteSize() < LARGE_CONSTANT
    np.testing.assert_allclose(
        one.explain(pixels(), [5], ["backprop"]).gradients[0][0, 0].ravel(), large[:, 5], rtol=1e-6
    )


def looped() -> Graph:
    """Three times y <- relu(y) - y / 4, then a matrix."""
    types = {"i": tf.int32, "most": tf.int32, "y": F}  # TensorFlow expects the second there
    less = node("less", "Less", "i:0", "three:0", T=tf.int32)
    body = [
        *(const("one", 1, np.int32), node("next", "AddV2", "i:0", "one:0", T=tf.int32), const("quarter", 0.25)),
        *(node("relu", "Relu", "y:0", T=F), node("part", "Mul", "y:0", "quarter:0", T=F)),
        node("less", "Sub", "relu:0", "part:0", T=F),
    ]
    functions = {
        "cond": function("cond", const("three", 3, np.int32), less, results=["less:0"], types=types),
        "body": function("body", *body, results=["next:0", "most:0", "less:0"], types=types),
    }
    functions["cond"].signature.output_arg[0].type = tf.bool.as_datatype_enum
    for place in (0, 1):
        functions["body"].signature.output_arg[place].type = tf.int32.as_datatype_enum
    called = {"cond": Name("cond"), "body": Name("body"), "T": [tf.int32, tf.int32, F]}
    graph = traced(linear, WEIGHTS)
    loop = [
        *(const("zero", 0, np.int32), const("most", 3, np.int32)),
        node("loop", "StatelessWhile", "zero:0", "most:0", "image:0", **called),
    ]
    nodes = {one.name: one for one in (*graph.nodes.values(), *loop)}
    flat = next(name for name, one in nodes.items() if one.op == "Reshape")
    nodes[flat] = copied(nodes[flat], inputs=["loop:2", nodes[flat].input[1]])
    return mark(replace(graph, nodes=nodes, functions=functions), question())


def through_loop(mode: str, image: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """What the rule makes of `upstream` on its way back through the loop, by hand."""
    states = [image]
    for _ in range(2):
        states.append(np.maximum(states[-1], 0) - states[-1] / 4)
    for state in reversed(states):
        gates = {"backprop": state > 0, "deconv": upstream > 0, "guided": (state > 0) & (upstream > 0)}
        upstream = upstream * gates[mode] - upstream / 4
    return upstream


def test_gradients_through_one_loop_are_built_again_and_again_and_at_once():
    graph, image = looped(), pixels()
    asked = [*(((mode,), [1]) for mode in RULES), (tuple(RULES), [2, 0]), (("guided", "deconv"), [-1])]
    with ThreadPoolExecutor(4) as pool:
        for one in (Differentiator(graph, PROBLEM), Differentiator(graph, PROBLEM)):
            answers = pool.map(lambda ask, one=one: one.explain(image, ask[1], ask[0]), asked)
            for (modes, _), found in zip(asked, answers, strict=True):
                assert_through_loop(found, modes, image)
    one = Differentiator(graph, PROBLEM)
    for scores in (True, False, True):
        assert_through_loop(one.explain(image, [1], ["deconv"], scores), ["deconv"], image)


def assert_through_loop(found: Explained, modes: Sequence[str], image: np.ndarray) -> None:
    for mode, maps in zip(modes, found.gradients, strict=True):
        for target, n in np.ndindex(*found.index.T.shape):
            upstream = WEIGHTS["matrix"][:, found.index[n, target]].reshape(6, 6, 3)
            want = through_loop(mode, image[n], upstream)
            np.testing.assert_allclose(maps[target, n], want, rtol=1e-5, atol=1e-6)


def test_other_inputs_are_repeated_for_each_image():
    def build(image, matrix):
        factor = tf.compat.v1.placeholder(F, [None, 1], "factor")
        return linear(image, matrix) * factor

    problem = replace(PROBLEM, constants={"factor": np.full((1, 1), 2, "f")}, repeated=frozenset({"factor"}))
    found = differentiator(build, problem=problem).explain(pixels(), [1], ["backprop"])
    np.testing.assert_allclose(found.gradients[0][0, 1], 2 * WEIGHTS["matrix"][:, 1].reshape(6, 6, 3), rtol=1e-6)


def test_a_channel_of_a_hidden_layer_is_summed_everywhere():
    problem = replace(PROBLEM, everywhere=True, entry=Entry("NHWC", (6, 6), 3))
    found = differentiator(lambda image: image * 3.0, {}, problem).explain(pixels(), [1], ["backprop"])
    want = np.zeros((6, 6, 3))
    want[..., 1] = 3
    np.testing.assert_array_equal(found.gradients[0][0, 0], want)


def test_each_image_is_alone_in_its_call_in_order():
    found = list(Calls().each(lambda part: (part[0] * 2, part[1]), calls(np.arange(7, dtype=np.float32), 1)))
    np.testing.assert_array_equal(np.concatenate([part for part, _ in found]), np.arange(7) * 2)
    assert {(len(part), count) for part, count in found} == {(1, 1)}


WIDE = {
    "zeros": (lambda x: tf.maximum(x, tf.zeros([4])), 9.0),
    "zeros of a higher rank": (lambda x: tf.maximum(x, tf.zeros([1, 1, 1, 1, 4])), 9.0),
    "caps": (lambda x: tf.minimum(tf.nn.relu(x), tf.constant([0.5, 1.0, 0.2, 0.8])), [0.5, 1.0, 0.2, 0.8]),
}


@pytest.mark.parametrize("mode", RULES)
@pytest.mark.parametrize("name", WIDE)
def test_a_relu_that_widens_its_input_sums_what_comes_back(name, mode):
    wide, caps = WIDE[name]
    matrix, mix = np.random.default_rng(1).normal(size=(144, 4)).astype(np.float32), np.float32([[0.5], [-1], [2]])
    one = differentiator(
        lambda image, matrix, mix: tf.linalg.matmul(tf.reshape(wide(tf.matmul(image, mix)), [-1, 144]), matrix),
        {"matrix": matrix, "mix": mix},
    )
    image = pixels()
    narrow, upstream = image @ mix, np.tile(matrix[:, 2].reshape(6, 6, 4), [2, 1, 1, 1])
    is_open = (narrow > 0) & (narrow < np.asarray(caps))
    gates = {"backprop": is_open, "deconv": upstream > 0, "guided": is_open & (upstream > 0)}
    want = (upstream * gates[mode]).sum(-1, keepdims=True) * mix[:, 0]
    np.testing.assert_allclose(one.explain(image, [2], [mode]).gradients[0][0], want, rtol=1e-4, atol=1e-5)


def test_a_channel_that_was_named_is_the_best() -> None:
    image = pixels()[:1]
    worst = int(np.argmin(image.reshape(1, 108) @ WEIGHTS["matrix"]))
    named = differentiator(problem=replace(PROBLEM, channel=worst))
    named.prepare(["backprop"])
    assert named.explain(image, [-1], ["backprop"]).index.tolist() == [[worst]]
    with pytest.raises(UsageError, match=rf"--target rank2: --output NAME\[..., {worst}\] names channel {worst} alone"):
        named.explain(image, [-2], ["backprop"])
    with pytest.raises(UsageError, match=r"--output NAME\[..., 9\]: the tensor has . channels; give 0 to"):
        differentiator(problem=replace(PROBLEM, channel=9)).prepare(["backprop"])
