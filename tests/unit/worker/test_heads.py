"""The end of a model by value: which ends are a softmax or sigmoid, what their logits are, and what is said of the others.

The truth is what NumPy says of the logits z = sum over the image's places; an end counts as found only if the score is that.
"""

# ruff: noqa: E731 - a formula is clearer as one line, with a name, than as a function of two

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import SHAPE, computed, pixels, question, traced

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.analysis.heads import Setting, find_head, hidden_probability
from gradviz_cli.worker.graph.question import Part
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes.logits import logits

SETTING = Setting((6, 6), False)
soft = tf.nn.softmax
same = lambda z: z
IMAGE = pixels()
LOGITS = IMAGE.sum((1, 2))


def z(x):
    """Logits [N, 3]; the last op before them is a layer's."""
    return tf.matmul(tf.reduce_sum(x, [1, 2]), tf.eye(3), name="z")


def powers(x):
    return tf.exp(x - tf.reduce_max(x, -1, keepdims=True))


def shares(x):
    return x / tf.reduce_sum(x, -1, keepdims=True)


def sigmoid_of_the_first(x):
    return tf.sigmoid(x[:, :1])


def found(build, setting=SETTING, shape=SHAPE):
    graph = traced(lambda x: build(z(x)), shape=shape)
    return graph, find_head(graph, question(), setting)


@pytest.mark.parametrize(
    ("build", "want", "name"),
    [
        (soft, same, "softmax"),
        (tf.nn.log_softmax, same, "log softmax"),
        (tf.sigmoid, same, "sigmoid"),
        (lambda x: soft(x) * 100, same, "softmax, times 100"),
        (lambda x: 2 * soft(x) - 1, same, "softmax, times 2, plus -1"),
        (lambda x: tf.math.log(soft(x)), same, "log softmax"),
        (lambda x: shares(powers(x)), same, "softmax"),
        (lambda x: shares(tf.exp(x)), same, "softmax"),
        (lambda x: tf.exp(x - tf.reduce_logsumexp(x, -1, keepdims=True)), same, "softmax"),
        (lambda x: tf.exp(tf.nn.log_softmax(x)), same, "softmax"),
        (lambda x: x - tf.reduce_logsumexp(x, -1, keepdims=True), same, "log softmax"),
        (lambda x: soft(x / 3), lambda z: z / 3, "softmax"),
        (lambda x: 1 / (1 + tf.exp(-x)), same, "sigmoid"),
        (lambda x: tf.raw_ops.Reciprocal(x=1 + tf.exp(-x)), same, "sigmoid"),
        (lambda x: tf.exp(x) / (1 + tf.exp(x)), same, "sigmoid"),
        (lambda x: 0.5 * (1 + tf.tanh(x / 2)), same, "sigmoid"),
        (lambda x: tf.exp(-tf.nn.softplus(-x)), same, "sigmoid"),
        (lambda x: -tf.nn.softplus(-x), same, "log sigmoid"),
        (lambda x: 1 - tf.sigmoid(x), lambda z: -z, "sigmoid"),
    ],
)
def test_an_end_is_known_by_its_values(build, want, name):
    graph, head = found(build)
    assert head.name == name
    score, output, _ = computed(logits(graph, question(head=head)), IMAGE)
    np.testing.assert_allclose(score, want(LOGITS), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output, computed(graph, IMAGE)[0])


def over(x):
    """How far each logit is above the largest: 0 at most."""
    return x - tf.reduce_max(x, -1, keepdims=True)


BIAS = [1.0, 0, -2]
SHIFTED = [
    (over, same),
    (lambda x: over(x) / 2, lambda z: z / 2),
    (lambda x: over(x) * 0.5, lambda z: z / 2),
    (lambda x: over(x / 2), lambda z: z / 2),
    (lambda x: -(tf.reduce_max(x, -1, keepdims=True) - x), same),
    (lambda x: -tf.reduce_max(x, -1, keepdims=True) + x, same),
    (lambda x: tf.cast(over(tf.cast(x, tf.float64)) / 3, tf.float32), lambda z: z / 3),
    (lambda x: tf.clip_by_value(over(x), -50, 0), same),
    (lambda x: tf.clip_by_value(over(x), -12, 0), same),
    (lambda x: tf.maximum(over(x), -80.0), same),
    (lambda x: over(x) + BIAS, lambda z: z + BIAS),
    (lambda x: over(x + BIAS), lambda z: z + BIAS),
    (lambda x: x - x[:, 1:2], same),
    (lambda x: x[:, 1:2] * -1 + x, same),
    (lambda x: x - tf.nn.top_k(x).values, same),
    (lambda x: over(x - tf.reduce_mean(x, -1, keepdims=True)), lambda z: z - z.mean(-1, keepdims=True)),
    (lambda x: x - tf.reduce_mean(x, -1, keepdims=True), lambda z: z - z.mean(-1, keepdims=True)),
    (lambda x: over(over(x) / 2) + 3, lambda z: z / 2 + 3),
    (tf.nn.log_softmax, same),
]


@pytest.mark.parametrize("end", [soft, lambda x: shares(tf.exp(x))])
@pytest.mark.parametrize(("build", "want"), SHIFTED)
def test_what_all_classes_share_is_no_part_of_the_logits(build, want, end):
    graph, head = found(lambda x: end(build(x)))
    assert head.name == "softmax"
    after = logits(graph, question(head=head))
    verify(after, question(head=head))
    np.testing.assert_allclose(computed(after, IMAGE)[0], want(LOGITS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "want"),
    [
        (lambda x: tf.reshape(soft(tf.reshape(over(x), [-1, 1, 3])), [-1, 3]), same),
        (lambda x: soft(tf.reshape(over(x) / 2, [-1, 1, 3])), lambda z: z[:, None] / 2),
        (lambda x: 100 * tf.gather(soft(over(x)), [2, 0], axis=1), lambda z: z[:, [2, 0]]),
        (lambda x: tf.nn.softmax(over(x)[:, :, None, None], axis=1), lambda z: z[:, :, None, None]),
    ],
)
def test_the_logits_without_what_all_share_are_laid_out_as_the_output(build, want):
    graph, head = found(build)
    after = logits(graph, question(head=head))
    verify(after, question(head=head))
    np.testing.assert_allclose(computed(after, IMAGE)[0], want(LOGITS), rtol=1e-5, atol=1e-5)
    assert head.logits == "z:0"


@pytest.mark.parametrize(
    "build",
    [
        lambda x: x - 3.0,
        lambda x: x + tf.reduce_mean(x, 0, keepdims=True),  # of the batch: another number for each class
        lambda x: x + x * 2,
        lambda x: x + tf.nn.relu(x),
        lambda x: x - tf.reduce_max(x, -1, keepdims=True) * BIAS,
        lambda x: tf.clip_by_value(over(x), -0.01, 0),  # hardly a row stays as it is
    ],
)
def test_what_the_classes_do_not_share_stays(build):
    graph, head = found(lambda x: soft(tf.identity(build(x), name="taken")))
    assert head.score == "taken:0" and not head.nodes


def test_the_maps_of_a_softmax_over_channels_are_without_what_all_share():
    graph = traced(lambda x: soft((x - tf.reduce_max(x, -1, keepdims=True)) * 2))
    head = find_head(graph, question(), SETTING)
    np.testing.assert_allclose(computed(logits(graph, question(head=head)), IMAGE)[0], 2 * IMAGE, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "want"),
    [
        (lambda x: soft(x)[:, 1:], lambda z: z[:, 1:]),
        (lambda x: tf.gather(soft(x), [2, 0], axis=1), lambda z: z[:, [2, 0]]),
        (lambda x: (lambda p: tf.stack([p[:, 2], p[:, 1]], 1))(soft(x)), lambda z: z[:, [2, 1]]),
        (lambda x: tf.concat(tf.split(100 * soft(x), 3, 1)[::-1], 1), lambda z: z[:, ::-1]),
        (lambda x: tf.nn.softmax(x[:, :, None, None], axis=1), lambda z: z[:, :, None, None]),
        (lambda x: tf.reshape(shares(powers(x)), [tf.shape(x)[0], 1, 3]), lambda z: z[:, None]),
        (lambda x: tf.cast(soft(tf.cast(x, tf.float64)), tf.float32)[..., 0], lambda z: z[:, 0]),
        (lambda x: tf.reshape(tf.sigmoid(x), [-1]), lambda z: z.ravel()),
        (lambda x: (lambda p: tf.concat([1 - p, p], 1))(sigmoid_of_the_first(x)), lambda z: z[:, :1] * [-1, 1]),
        (lambda x: (lambda p: tf.stack([p, 1 - p], 1))(sigmoid_of_the_first(x)[:, 0]), lambda z: z[:, :1] * [1, -1]),
    ],
)
def test_the_logits_are_laid_out_as_the_output(build, want):
    graph, head = found(build)
    after = logits(graph, question(head=head))
    verify(after, question(head=head))
    np.testing.assert_allclose(computed(after, IMAGE)[0], want(LOGITS), rtol=1e-5, atol=1e-6)


def one_by_one(x, end=tf.sigmoid):
    return [end(x[:, place : place + 1]) for place in range(3)]


@pytest.mark.parametrize(
    ("build", "want", "name"),
    [
        (lambda x: tf.concat(one_by_one(x), 1), same, "sigmoid"),
        (lambda x: tf.concat([tf.sigmoid(x[:, 1:]), sigmoid_of_the_first(x)], 1), lambda z: z[:, [1, 2, 0]], "sigmoid"),
        (lambda x: tf.stack([one[:, 0] for one in one_by_one(x)], 1), same, "sigmoid"),
        (lambda x: tf.concat(one_by_one(x, lambda y: 1 / (1 + tf.exp(-y))), 1), same, "sigmoid"),
        (lambda x: tf.concat(one_by_one(x, lambda y: 100 * tf.sigmoid(y)), 1), same, "sigmoid, times 100"),
        (lambda x: tf.concat(one_by_one(x, lambda y: -tf.nn.softplus(-y)), 1), same, "log sigmoid"),
        (
            lambda x: tf.cast(tf.concat(one_by_one(x, lambda y: tf.sigmoid(tf.cast(y, tf.float64))), 1), tf.float32),
            same,
            "sigmoid",
        ),
    ],
)
def test_sigmoids_that_are_put_side_by_side_have_their_logits(build, want, name):
    graph, head = found(build)
    assert head.name == name
    after = logits(graph, question(head=head))
    verify(after, question(head=head))
    np.testing.assert_allclose(computed(after, IMAGE)[0], want(LOGITS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: tf.concat([soft(x), soft(-x)], 1),
        lambda x: tf.concat([tf.sigmoid(x), x], 1),
        lambda x: tf.concat([tf.sigmoid(x), 2 * tf.sigmoid(-x)], 1),
        lambda x: tf.concat([tf.sigmoid(x), tf.zeros_like(x)], 1),
        lambda x: tf.concat([tf.sigmoid(x), tf.sort(1 / (1 + tf.exp(-x)), direction="DESCENDING")], 1),
    ],
)
def test_other_ends_side_by_side_have_none(build):
    assert found(build)[1] is None


def test_one_image_without_a_batch():
    _, head = found(lambda x: shares(tf.exp(x[0]))[None] * 100, Setting((6, 6), False), (1, 6, 6, 3))
    assert head.name == "softmax, times 100"


NO_PROBABILITY = [
    same,
    lambda x: x - tf.exp(x),
    lambda x: x * tf.sigmoid(x),
    tf.exp,
    tf.tanh,
    lambda x: tf.math.l2_normalize(tf.nn.silu(x), -1),
    lambda x: tf.reduce_sum(soft(x) * x, 1, keepdims=True),
    lambda x: tf.matmul(tf.sigmoid(x), tf.constant([[1.0, -1], [2, 1], [0, 3]])),
]


@pytest.mark.parametrize("build", NO_PROBABILITY)
def test_what_is_no_probability_is_left_and_not_spoken_of(build):
    graph, head = found(build)
    assert head is None and hidden_probability(graph, question(), SETTING) is None


@pytest.mark.parametrize(
    ("build", "done"),
    [
        (lambda x: tf.clip_by_value(soft(x), 1e-7, 1 - 1e-7), "clipped"),
        (lambda x: tf.clip_by_value(1 / (1 + tf.exp(-x)), 1e-7, 1 - 1e-7), "clipped"),
        (lambda x: (soft(x) + soft(x * 0.75)) / 2, "divided and added up"),
        (lambda x: shares(soft(x) * [1.0, 0, 1]), "divided and multiplied"),
        (lambda x: 1 - soft(x), "subtracted"),
        (lambda x: 1 - shares(powers(x)), "subtracted"),
        (lambda x: soft(x) * sigmoid_of_the_first(x), "multiplied"),
        (lambda x: tf.matmul(soft(x), tf.constant([[1.0, 0], [1, 0], [0, 1]])), "multiplied"),
        (lambda x: tf.math.log(soft(x) + 1e-6), "taken the logarithm of"),
        (lambda x: tf.concat([tf.zeros_like(x[:, :1]), soft(x)], 1), "not the last step"),
        (lambda x: tf.reshape(soft(tf.stack([x, 2 * x], 1)), [-1, 6]), "not the last step"),
        (lambda x: tf.transpose(soft(tf.transpose(x))), "not the last step"),
    ],
)
def test_a_probability_that_no_logit_stands_for_is_said(build, done):
    graph, head = found(build)
    assert head is None
    said = hidden_probability(graph, question(), SETTING)
    assert f"softmax or sigmoid is {done}" in said and "--score output" in said and "\n" not in said
    named = said.split("explain ")[1].split(" with --output")[0].split(" or ")
    assert all(name.split(":")[0] in graph.nodes and name.endswith(":0") for name in named)


def test_the_logits_that_are_offered():
    graph, _ = found(lambda x: tf.clip_by_value(soft(x), 0.01, 0.99))
    assert "explain z:0 with --output" in hidden_probability(graph, question(), SETTING)


def test_a_softmax_of_a_softmax_is_bypassed_and_said():
    graph, head = found(lambda x: soft(soft(x)))
    moved = logits(graph, question(head=head))
    assert "the score is Softmax:0, a probability" in hidden_probability(moved, question(head=head), SETTING)


def test_an_output_that_turns_out_to_be_sorted_is_refused():
    def sorted_by_steps(x):
        a, b, c = tf.unstack(soft(x), axis=1)
        low, high = tf.minimum(a, b), tf.maximum(a, b)
        return tf.stack([tf.maximum(high, c), tf.maximum(low, tf.minimum(high, c)), tf.minimum(low, c)], 1)

    with pytest.raises(ModelUnusable, match="is sorted: its places are ranks"):
        found(sorted_by_steps)


def test_another_softmax_of_maps_is_none():
    """Over the width of a map [N, H, W, K] the classes are not compared with each other."""
    graph = traced(lambda x: tf.nn.softmax(x, axis=2))
    assert find_head(graph, question(), SETTING) is None
    graph = traced(lambda x: tf.transpose(shares(powers(x)), [0, 3, 1, 2]))
    assert find_head(graph, question(), SETTING).name == "softmax"


MASK = [True, False, True]


@pytest.mark.parametrize(
    ("build", "want"),
    [
        (lambda x: tf.where(MASK, over(x), -1e9), lambda z: np.where(MASK, z, -1e9)),
        (lambda x: over(x) + [0, -65504.0, 0], lambda z: z + [0, -65504, 0]),
        (lambda x: tf.pad(over(x), [[0, 0], [0, 1]], constant_values=-1e9), lambda z: np.insert(z, 3, -1e9, 1)),
        (lambda x: (lambda d: tf.where(tf.math.is_nan(d), tf.zeros_like(d), d))(over(x)), same),
        (lambda x: tf.quantization.fake_quant_with_min_max_args(over(x), -32, 0), same),
        (lambda x: tf.quantization.quantize_and_dequantize_v2(over(x), -32.0, 32.0, range_given=True), same),
        (lambda x: tf.add_n([x, -tf.tile(tf.reduce_max(x, -1, keepdims=True), [1, 3])]), same),
        (lambda x: tf.concat([one - tf.reduce_max(x, -1, keepdims=True) for one in tf.split(x, 3, 1)], 1), same),
        (lambda x: tf.stack([one - tf.reduce_max(x, -1) for one in tf.unstack(x, axis=1)], 1), same),
    ],
)
def test_masks_guards_and_quantizers_do_not_hide_what_all_classes_share(build, want):
    graph, head = found(lambda x: soft(build(x)))
    after = logits(graph, question(head=head))
    verify(after, question(head=head))
    np.testing.assert_allclose(computed(after, IMAGE)[0], want(LOGITS), rtol=1e-5, atol=1e-5)


def test_a_clip_may_hold_in_most_classes():
    """Of a thousand hardly a row is without one that is clipped."""
    wide = np.random.default_rng(4).normal(size=(3, 1000)).astype(np.float32)
    graph = traced(lambda x: soft(tf.clip_by_value(over(tf.matmul(tf.reduce_sum(x, [1, 2]), wide)), -10, 0)))
    head = find_head(graph, question(), SETTING)
    np.testing.assert_allclose(
        computed(logits(graph, question(head=head)), IMAGE)[0], LOGITS @ wide, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("build", "signs"),
    [
        (lambda x: tf.concat([tf.zeros_like(x), x], 1), [-1, 1]),
        (lambda x: tf.concat([x, tf.zeros_like(x)], 1), [1, -1]),
        (lambda x: tf.pad(x, [[0, 0], [1, 0]]), [-1, 1]),
        (lambda x: tf.stack([tf.zeros_like(x[:, 0]), x[:, 0]], 1), [-1, 1]),
    ],
)
def test_a_class_whose_logit_is_a_constant_is_the_other_one_turned_round(build, signs):
    graph, head = found(lambda x: soft(build(x[:, :1])))
    after = logits(graph, question(head=head))
    verify(after, question(head=head))
    np.testing.assert_allclose(computed(after, IMAGE)[0], LOGITS[:, :1] * signs, rtol=1e-5, atol=1e-5)


def test_two_classes_with_logits_of_their_own_keep_them():
    _, head = found(lambda x: soft(tf.concat([x[:, :1], -2 * x[:, :1]], 1)))
    assert head.score == head.logits and not head.nodes


@pytest.mark.parametrize(
    ("build", "columns", "want"),
    [
        (soft, slice(3), None),
        (lambda x: soft(x)[:, 1:], slice(1, 3), Part(False, 1, 0)),
        (lambda x: 100 * soft(x)[:, :1] + 2, slice(1), Part(False, 100, 2)),
        (lambda x: tf.nn.log_softmax(x)[:, 1:], slice(1, 3), Part(True, 1, 0)),
        (lambda x: tf.exp(x) / (1 + tf.reduce_sum(tf.exp(x), -1, keepdims=True)), slice(3), Part(False, 1, 0)),
    ],
)
def test_of_a_softmax_some_classes_may_be_the_output(build, columns, want):
    graph, head = found(build)
    score = computed(logits(graph, question(head=head)), IMAGE)[0]
    np.testing.assert_allclose(score, LOGITS[:, columns], rtol=1e-5)
    assert (head.part is None) is (want is None)
    if want:
        assert head.part.logarithm is want.logarithm
        assert (head.part.times, head.part.plus) == pytest.approx((want.times, want.plus), abs=1e-6)


@pytest.mark.parametrize("end", [lambda p: tf.clip_by_value(p, 0.01, 0.99), lambda p: (p + soft(p)) / 2])
def test_the_logits_that_are_offered_are_without_what_all_share(end):
    graph, _ = found(lambda x: end(soft(over(x))))
    assert "explain z:0 " in hidden_probability(graph, question(), SETTING)
