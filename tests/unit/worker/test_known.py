"""What a constant is after operations that shape it: as TensorFlow computes it, or unknown."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import computed, pixels, traced

from gradviz_cli.worker.analysis import known as module
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.analysis.shaping import SHAPING

RAW = tf.raw_ops
CUBE = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)
SHAPED = {
    "Reshape": lambda x: tf.reshape(x, [4, -1]),
    "ExpandDims": lambda x: tf.expand_dims(x, -1),
    "Squeeze, all": lambda x: tf.squeeze(x[:1, :, :1]),
    "Squeeze, one": lambda x: tf.squeeze(x[:1, :1], [1]),
    "Transpose": lambda x: tf.transpose(x, [2, 0, 1]),
    "ReverseV2": lambda x: tf.reverse(x, [0, -1]),
    "BroadcastTo": lambda x: tf.broadcast_to(x[:, :1], [5, 2, 3, 4]),
    "Tile": lambda x: tf.tile(x, [1, 2, 3]),
    "StridedSlice": lambda x: x[1, ..., tf.newaxis, 3:0:-2],
    "StridedSlice, to the end": lambda x: x[:, 1:, :-1],
    "Slice": lambda x: tf.slice(x, [0, 1, 2], [1, -1, 2]),
    "GatherV2": lambda x: tf.gather(x, [[2, 0], [1, 1]], axis=-1),
    "Gather": lambda x: RAW.Gather(params=x, indices=[1, 0, 1]),
    "Split": lambda x: tf.split(x, 2, -1)[1],
    "SplitV": lambda x: tf.split(x, [1, -1], 1)[1],
    "Unpack": lambda x: tf.unstack(x, axis=-1)[2],
    "Pack": lambda x: tf.stack([x[0], x[1] * 2], -1),
    "ConcatV2": lambda x: tf.concat([x, x[:, :1]], -2),
    "Pad": lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 2]]),
    "PadV2": lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 2]], constant_values=7.0),
    "Range": lambda x: tf.range(x[0, 0, 0], x[1, 0, 0], 2.5),
    "Shape": lambda x: tf.cast(tf.shape(x), tf.float32),
    "Size": lambda x: tf.cast(tf.size(x), tf.float32),
    "Sum": lambda x: tf.reduce_sum(x, [0, -1], keepdims=True),
    "Mean": lambda x: tf.reduce_mean(x, 1),
    "Max": lambda x: tf.reduce_max(x),
    "Min": lambda x: tf.reduce_min(x, -1),
    "Prod": lambda x: tf.reduce_prod(x, 1),
    "MatMul": lambda x: tf.matmul(x[0], x[1], transpose_b=True),
    "FakeQuantWithMinMaxArgs": lambda x: tf.quantization.fake_quant_with_min_max_args(x, 2.2, 20.3, 5),
    "FakeQuantWithMinMaxVars": lambda x: tf.quantization.fake_quant_with_min_max_vars(x / 7, -1.3, 2.0, 4, True),
    "FakeQuantWithMinMaxVarsPerChannel": lambda x: tf.quantization.fake_quant_with_min_max_vars_per_channel(
        x / 7, [-1.3, 0, -2, -3], [2.0, 3, 0, 4], 6
    ),
    "MatMul, turned": lambda x: tf.matmul(x[0], x[1], transpose_a=True),
}
NOT_TRACED = {"ResourceGather"}  # of a variable itself


def graph_of(build, **weights):
    def both(image, **given):
        return 0.0 * tf.reduce_sum(image) + build(image, **given)

    return traced(both, weights, shape=(None, None, None, 3))


def beside(graph) -> str:
    """What is added to nothing of the image."""
    return graph.node(graph.score).input[1]


def value_of(build, **weights):
    """What is known of what a graph computes beside the image, and what TensorFlow computes."""
    graph = graph_of(build, **weights)
    arrays = {name: np.asarray(graph.values[variable]) for name, variable in graph.weights.items()}
    return Known(graph.nodes, arrays.get)(beside(graph)), computed(graph, pixels())[0]


def test_all_are_tried():
    assert {name.split(",")[0] for name in SHAPED} | NOT_TRACED == set(SHAPING)


@pytest.mark.parametrize("name", SHAPED)
def test_each_gives_what_tensorflow_computes(name):
    known, truth = value_of(lambda image, x: SHAPED[name](x), x=CUBE)
    assert known.shape == truth.shape
    np.testing.assert_allclose(known, truth, rtol=1e-6)


ONE_NUMBER = {
    "sliced": lambda x: tf.ones_like(x)[..., :1],
    "transposed": lambda x: tf.transpose(tf.ones_like(x), [0, 3, 1, 2]),
    "joined": lambda x: tf.concat([tf.ones_like(x), tf.fill(tf.shape(x), 1.0)], 0),
    "stacked and averaged": lambda x: tf.reduce_mean(tf.stack([tf.ones_like(x), tf.ones_like(x)]), 0),
    "split": lambda x: tf.split(tf.ones_like(x), 3, -1)[2],
    "repeated as the image is": lambda x: tf.tile(tf.ones([1, 1, 1, 1]), tf.shape(x)),
}


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_one_number_everywhere_stays_that_in_a_shape_that_is_not_known(name):
    known, truth = value_of(lambda image: ONE_NUMBER[name](image))
    assert known.shape == () and (known == truth).all() and (truth == 1).all()


UNKNOWN = {
    "how many are summed": lambda x: tf.reduce_sum(tf.ones_like(x)),
    "two numbers joined": lambda x: tf.concat([tf.ones_like(x), tf.zeros_like(x)], -1),
    "the shape": lambda x: tf.cast(tf.shape(tf.ones_like(x)), tf.float32),
    "a sum, reshaped": lambda x: tf.reshape(tf.zeros_like(x) + [1.0, 2.0, 3.0], [-1]),
    "what a number is repeated to": lambda x: tf.reduce_sum(tf.tile(tf.constant([1.0]), [7])),
    "places outside": lambda x: tf.gather(tf.constant([1.0, 2.0]), 5),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_depends_on_a_shape_that_is_not_known_is_unknown(name):
    graph = graph_of(UNKNOWN[name])
    assert Known(graph.nodes)(beside(graph)) is None


LARGE = {
    **{name: SHAPED[name] for name in ("BroadcastTo", "Tile", "Pad")},
    "Range": lambda x: SHAPED["Range"](x * 1e3),
    "MatMul": lambda x: tf.matmul(tf.reshape(x, [-1, 1]), tf.reshape(x, [1, -1])),
    "AddV2": lambda x: tf.reshape(x, [-1, 1]) + tf.reshape(x, [1, -1]),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_would_be_large_is_not_computed(name, monkeypatch):
    monkeypatch.setattr(module, "MAX_NUMBERS", 24)
    graph = graph_of(lambda image, x: LARGE[name](x), x=CUBE)
    assert Known(graph.nodes, lambda node: CUBE if node == "x" else None)(beside(graph)) is None
