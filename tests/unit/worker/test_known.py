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
    "LinSpace": lambda x: RAW.LinSpace(start=x[0, 0, 0], stop=x[1, 0, 0], num=5),
    "LinSpace, of TensorFlow 2": lambda x: tf.linspace(x[0, 0, 0], x[1, 0, 0], 5),
    "BroadcastArgs": lambda x: tf.cast(tf.broadcast_dynamic_shape(tf.shape(x[:, :1]), tf.shape(x[0])), tf.float32),
    "MirrorPad": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 2]], "REFLECT"),
    "MirrorPad, symmetric": lambda x: tf.pad(x, [[2, 0], [1, 0], [0, 2]], "SYMMETRIC"),
    "GatherNd": lambda x: tf.gather_nd(x, [[1, 2], [0, 0], [0, 1]]),
    "OneHot": lambda x: tf.one_hot([[0, 2], [-1, 9]], 4, x[0, 0, 1], x[0, 0, 2]),
    "OneHot, first": lambda x: tf.one_hot([[0, 2], [-1, 9]], 4, axis=0),
    "OneHot, between": lambda x: tf.one_hot([[0, 2, 1]], 4, axis=1),
    "Cumsum": lambda x: tf.cumsum(x, 1),
    "Cumsum, exclusive, backwards": lambda x: tf.cumsum(x, -1, exclusive=True, reverse=True),
    "Cumprod": lambda x: tf.math.cumprod(x / 9, 1, exclusive=True),
    "Roll": lambda x: tf.roll(x, [1, -2], [0, 2]),
    "MatrixDiag": lambda x: RAW.MatrixDiag(diagonal=x),
    "MatrixDiagV2": lambda x: RAW.MatrixDiagV2(diagonal=x, k=0, num_rows=-1, num_cols=-1, padding_value=2.0),
    "MatrixDiagV3": lambda x: tf.linalg.diag(x, padding_value=3.0),
    "MatrixDiagPart": lambda x: RAW.MatrixDiagPart(input=x),
    "MatrixDiagPartV2": lambda x: RAW.MatrixDiagPartV2(input=x, k=0, padding_value=0.0),
    "MatrixDiagPartV3": lambda x: tf.linalg.diag_part(x),
    "MatrixSetDiag": lambda x: RAW.MatrixSetDiag(input=x[:, :, :3], diagonal=x[:, 0, :3]),
    "MatrixSetDiagV2": lambda x: RAW.MatrixSetDiagV2(input=x[:, :, :3], diagonal=x[:, 0, :3], k=0),
    "MatrixSetDiagV3": lambda x: tf.linalg.set_diag(x[:, :, :3], x[:, 0, :3]),
    "MatrixBandPart": lambda x: tf.linalg.band_part(x, 1, 0),
    "MatrixBandPart, all below": lambda x: tf.linalg.band_part(x, -1, 1),
    "ScatterNd": lambda x: tf.scatter_nd([[1], [3], [1]], x[0], [5, 4]),
    "TensorScatterUpdate": lambda x: tf.tensor_scatter_nd_update(x, [[1, 2], [0, 0]], x[0, :2]),
    "ArgMax": lambda x: tf.cast(tf.argmax(tf.sin(x), 1), tf.float32),
    "ArgMin": lambda x: tf.cast(tf.argmin(tf.sin(x), -1), tf.float32),
    "TopKV2": lambda x: tf.math.top_k(tf.sin(x), 2)[0],
    "TopKV2, where": lambda x: tf.cast(tf.math.top_k(tf.round(tf.sin(x)), 3)[1], tf.float32),
    "Softmax": lambda x: tf.nn.softmax(x),
    "Einsum": lambda x: tf.einsum("ijk,ilk->jl", x, x),
    "Acos": lambda x: tf.acos(x / 25),
    "Asin": lambda x: tf.asin(x / 25),
    "Atan2": lambda x: tf.atan2(x - 9, x - 5),
    "TruncateDiv": lambda x: tf.cast(tf.truncatediv(tf.cast(x, tf.int32) - 12, 5), tf.float32),
    "All": lambda x: tf.cast(tf.reduce_all(x > 3, -1), tf.float32),
    "Any": lambda x: tf.cast(tf.reduce_any(x > 3, [0, 2]), tf.float32),
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


ZEROS = {
    "padded": lambda x: tf.pad(tf.zeros_like(x), [[0, 0], [0, 0], [0, 0], [1, 2]]),
    "mirrored": lambda x: tf.pad(tf.zeros_like(x), [[0, 0], [0, 0], [0, 0], [1, 1]], "REFLECT"),
    "summed": lambda x: tf.reduce_sum(tf.zeros_like(x), [1, 2]),
    "added up": lambda x: tf.cumsum(tf.zeros_like(x), 1),
    "averaged": lambda x: tf.nn.avg_pool2d(tf.zeros_like(x), 2, 1, "SAME"),
    "multiplied": lambda x: tf.matmul(tf.ones_like(x), tf.zeros_like(x), transpose_b=True),
    "of an einsum": lambda x: tf.einsum("nhwc,nhwd->ncd", tf.zeros_like(x), x),
    "of a layer": lambda x: tf.nn.conv2d(tf.zeros_like(x), tf.ones([3, 3, 3, 2]), 1, "SAME"),
    "enlarged": lambda x: tf.image.resize(tf.zeros_like(x), [7, 7], "nearest"),
    "rolled": lambda x: tf.roll(tf.zeros_like(x), 1, 1),
    "enlarged from four": lambda x: tf.image.resize(tf.zeros([1, 2, 2, 1]), [7, 7]),
    "of four, as depth": lambda x: tf.nn.space_to_depth(tf.zeros([1, 2, 2, 1]), 2),
}


@pytest.mark.parametrize("name", ZEROS)
def test_zeros_stay_zeros_in_a_shape_that_is_not_known(name):
    known, truth = value_of(lambda image: ZEROS[name](image))
    assert known.shape == () and known == 0 and not truth.any()


UNKNOWN = {
    "another diagonal": lambda x: tf.linalg.diag(tf.constant([1.0, 2.0]), k=1),
    "a wider one": lambda x: tf.linalg.diag(tf.constant([1.0, 2.0]), num_cols=3),
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
    **{name: SHAPED[name] for name in ("BroadcastTo", "Tile", "Pad", "MirrorPad", "MatrixDiag", "MatrixDiagV3")},
    "LinSpace": lambda x: RAW.LinSpace(start=x[0, 0, 0], stop=1.0, num=25),
    "OneHot": lambda x: tf.one_hot(tf.cast(x, tf.int32), 2),
    "ScatterNd": lambda x: tf.scatter_nd([[1]], x[0, 0, :1], [25]),
    "Einsum": lambda x: tf.einsum("ijk,l->ijkl", x, x[0, 0]),
    "Range": lambda x: SHAPED["Range"](x * 1e3),
    "MatMul": lambda x: tf.matmul(tf.reshape(x, [-1, 1]), tf.reshape(x, [1, -1])),
    "AddV2": lambda x: tf.reshape(x, [-1, 1]) + tf.reshape(x, [1, -1]),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_would_be_large_is_not_computed(name, monkeypatch):
    monkeypatch.setattr(module, "MAX_NUMBERS", 24)
    graph = graph_of(lambda image, x: LARGE[name](x), x=CUBE)
    assert Known(graph.nodes, lambda node: CUBE if node == "x" else None)(beside(graph)) is None
