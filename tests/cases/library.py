"""Every public function of keras.ops, keras.ops.image, tf.nn and tf.image, called once on an image: what models are made of.

A function that is not listed takes the image alone. `ARGUMENTS` has the others: how each is called. `NOT_TRACED` has
those of which nothing can lie in a saved graph, each with its reason.
"""

# ruff: noqa: E731 - a call is clearer as one line than as a function of two

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

SHAPE = (2, 6, 6, 3)
LIBRARIES = {"keras.ops": ops, "keras.ops.image": ops.image, "tf.nn": tf.nn, "tf.image": tf.image}

Call = Callable[[Callable, Any], Any]

KERNEL = np.ones((3, 3, 3, 4), np.float32)
VOLUME_KERNEL = np.ones((2, 2, 2, 1, 2), np.float32)
CORNERS = np.array([[[0, 0], [0, 5], [5, 0], [5, 5]]] * 2, np.float32)
RATES = [1.0, 1.5, 1.5, 1.0]


def pairs(f: Callable, x: Any) -> Any:
    """Of two tensors."""
    return f(x, x + 0.5)


def whole(x: Any) -> Any:
    """As small whole numbers."""
    return tf.cast(x, tf.int32)


def whole_pairs(f: Callable, x: Any) -> Any:
    """Of two tensors of whole numbers."""
    return f(whole(x), whole(x) + 1)


def row(x: Any) -> Any:
    """A vector of it."""
    return tf.reshape(x, [-1])


def matrix(x: Any) -> Any:
    """Square and positive, [6, 6]."""
    rows = tf.reshape(x, [6, -1])
    return rows @ tf.transpose(rows) + tf.eye(6)


def volume(x: Any) -> Any:
    """[2, 6, 6, 3, 1]."""
    return x[..., None]


def wide(x: Any) -> Any:
    """[2, 12, 12, 3]."""
    return tf.tile(x, [1, 2, 2, 1])


def complex_of(x: Any) -> Any:
    """A complex tensor of it."""
    return tf.complex(x, x)


def scores_of(x: Any) -> Any:
    """[2, 5] and classes [2]."""
    return tf.reshape(x, [2, -1])[:, :5]


def boxes(x: Any) -> Any:
    """[6, 4]."""
    return tf.reshape(row(x)[:24], [6, 4])


def many(names: str, call: Call) -> dict[str, Call]:
    """The same call for each of these names."""
    return dict.fromkeys(names.split(), call)


OF_KERAS: dict[str, Call] = {
    **many(
        "add subtract multiply divide true_divide maximum minimum power arctan2 allclose isclose equal not_equal less "
        "less_equal greater greater_equal floor_divide mod fmod fmax fmin hypot heaviside logaddexp logaddexp2 outer "
        "divide_no_nan binary_crossentropy categorical_crossentropy nextafter polar inner append cross",
        pairs,
    ),
    **many(
        "bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift left_shift right_shift gcd lcm",
        whole_pairs,
    ),
    **many("bitwise_invert bitwise_not", lambda f, x: f(whole(x))),
    **many("logical_and logical_or logical_xor", lambda f, x: f(x > 0, x > 1)),
    **many("blackman hamming hanning", lambda f, x: f(6) * row(x)[:6]),
    "bartlett": lambda f, x: f(tf.constant(6)) * row(x)[:6],
    **many("cholesky cholesky_inverse det eig eigh inv logdet lu_factor slogdet", lambda f, x: f(matrix(x))),
    **many("fft fft2 ifft2", lambda f, x: f((x, x))),
    **many("dot vdot", lambda f, x: f(row(x), row(x))),
    **many("quantile nanquantile percentile nanpercentile", lambda f, x: f(x, 0.5)),
    **many("segment_max segment_min segment_prod segment_sum", lambda f, x: f(x[0], np.array([0, 0, 1, 1, 2, 2]), 3)),
    **many("array_split split hsplit vsplit dsplit", lambda f, x: f(x[:, :, :, :2], 2)),
    **many("concatenate stack hstack vstack dstack", lambda f, x: f([x, x])),
    **many("zeros ones empty", lambda f, x: f((6, 3)) + x),
    **many("average_pool max_pool", lambda f, x: f(x, 2)),
    **many("adaptive_average_pool adaptive_max_pool", lambda f, x: f(x, 4)),
    **many("eye identity tri", lambda f, x: f(3) + x[0, :3, :3, 0]),
    **many("linspace geomspace logspace", lambda f, x: f(x, x + 2, 5)),
    "arange": lambda f, x: f(3, dtype="float32") + x,
    "argpartition": lambda f, x: f(x, 1),
    "associative_scan": lambda f, x: f(lambda a, b: a + b, x, axis=1),
    "batch_normalization": lambda f, x: f(x, np.ones(3, "f"), np.ones(3, "f"), -1),
    "bincount": lambda f, x: f(whole(row(x))),
    "broadcast_to": lambda f, x: f(x, (2, 2, 6, 6, 3)),
    "cast": lambda f, x: f(x, "float16"),
    "cdist": lambda f, x: f(x[0, 0], x[0, 1]),
    "clip": lambda f, x: f(x, 0.0, 1.0),
    "cond": lambda f, x: f(tf.reduce_sum(x) > 0, lambda: x, lambda: 2 * x),
    **many("conv", lambda f, x: f(x, KERNEL, dilation_rate=2, padding="same")),
    "conv_transpose": lambda f, x: f(x, np.ones((3, 3, 4, 3), "f"), 2),
    "corrcoef": lambda f, x: f(x[0, 0]),
    "correlate": lambda f, x: f(row(x), row(x)[:3]),
    "ctc_decode": lambda f, x: f(x[:, 0], np.array([6, 6])),
    "ctc_loss": lambda f, x: f(np.ones((2, 2), "i"), x[:, 0], np.array([2, 2]), np.array([6, 6])),
    "custom_gradient": lambda f, x: f(lambda y: (y * 2, lambda *args, upstream=None: upstream))(x),
    "depth_to_space": lambda f, x: f(tf.tile(x, [1, 1, 1, 4]), 2),
    "space_to_depth": lambda f, x: f(x, 2),
    "depthwise_conv": lambda f, x: f(x, KERNEL, padding="same"),
    "diag": lambda f, x: f(row(x)),
    "digitize": lambda f, x: f(x, np.array([0.0, 1.0], "f")),
    "dot_product_attention": lambda f, x: f(x, x, x),
    "einsum": lambda f, x: f("bijc,bjkc->bikc", x, x),
    "expand_dims": lambda f, x: f(x, 1),
    "extract_sequences": lambda f, x: f(tf.reshape(x, [2, -1]), 8, 4),
    "fold": lambda f, x: f(tf.reshape(x, [2, 12, 9]), (4, 4), 2),
    "unfold": lambda f, x: f(tf.transpose(x, [0, 3, 1, 2]), 2),
    "fori_loop": lambda f, x: f(0, 3, lambda i, y: y * 1.5, x),
    **many("full", lambda f, x: f((6, 3), 2.0) + x),
    **many("full_like", lambda f, x: f(x, 2.0)),
    "get_item": lambda f, x: f(x, (slice(None), 1)),
    "glu": lambda f, x: f(x, axis=1),
    "histogram": lambda f, x: f(row(x), 4, (0.0, 1.0)),
    "in_top_k": lambda f, x: f(np.array([1, 2]), scores_of(x), 2),
    "irfft": lambda f, x: f((x, x)),
    "istft": lambda f, x: f((x[:, 0, :, :], x[:, 1, :, :]), 4, 2, 4, window=None, center=False),
    "stft": lambda f, x: f(tf.reshape(x, [2, -1]), 8, 4, 8),
    "kaiser": lambda f, x: f(6, 14.0) * row(x)[:6],
    "ldexp": lambda f, x: f(x, whole(x)),
    "lstsq": lambda f, x: f(matrix(x), row(x)[:6]),
    "map": lambda f, x: f(lambda y: y * 2, x),
    "matmul": lambda f, x: f(x, tf.transpose(x, [0, 1, 3, 2])),
    "moments": lambda f, x: f(x, (1, 2)),
    "moveaxis": lambda f, x: f(x, 1, 2),
    "multi_hot": lambda f, x: f(whole(x[:, 0, 0]), 5),
    "norm": lambda f, x: f(x, axis=-1),
    "one_hot": lambda f, x: f(whole(x), 5),
    "pad": lambda f, x: f(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"),
    "psnr": lambda f, x: f(x, x + 0.5, 1.0),
    "rearrange": lambda f, x: f(x, "b h w c -> b (h w) c"),
    "repeat": lambda f, x: f(x, 2, 1),
    "reshape": lambda f, x: f(x, (2, -1)),
    "roll": lambda f, x: f(x, 2, 1),
    "saturate_cast": lambda f, x: f(x, "uint8"),
    "scan": lambda f, x: f(lambda carry, y: (carry + y, carry), x[0], x),
    "scatter": lambda f, x: f(np.array([[0], [2]]), x, (4, 6, 6, 3)),
    "scatter_update": lambda f, x: f(x, np.array([[0, 1], [1, 2]]), x[:, 0]),
    "searchsorted": lambda f, x: f(np.array([0.0, 1.0], "f"), row(x)),
    "select": lambda f, x: f([x > 1, x > 0], [x, 2 * x], 0.0),
    "separable_conv": lambda f, x: f(x, KERNEL, np.ones((1, 1, 12, 5), "f")),
    "slice": lambda f, x: f(x, (0, 1, 1, 0), (2, 3, 3, 3)),
    "slice_update": lambda f, x: f(x, (0, 1, 1, 0), x[:, :2, :2]),
    "solve": lambda f, x: f(matrix(x), matrix(x)),
    "solve_triangular": lambda f, x: f(matrix(x), matrix(x)),
    "sparse_categorical_crossentropy": lambda f, x: f(np.array([1, 2]), scores_of(x)),
    "swapaxes": lambda f, x: f(x, 1, 2),
    "switch": lambda f, x: f(whole(tf.reduce_sum(x)), [lambda y: y, lambda y: 2 * y], x),
    "take": lambda f, x: f(x, np.array([0, 2]), 1),
    "take_along_axis": lambda f, x: f(x, tf.argsort(x), -1),
    "tensordot": lambda f, x: f(x, np.ones((3, 4), "f"), 1),
    "threshold": lambda f, x: f(x, 0.5, 0.0),
    "tile": lambda f, x: f(x, (1, 2, 1, 1)),
    "top_k": lambda f, x: f(x, 2),
    "unravel_index": lambda f, x: f(whole(x), (6, 6)),
    "vander": lambda f, x: f(row(x), 3),
    "vectorize": lambda f, x: f(lambda y: y * 2)(x),
    "vectorized_map": lambda f, x: f(lambda y: y * 2, x),
    "view_as_complex": lambda f, x: f(x[..., :2]),
    "view_as_real": lambda f, x: f(complex_of(x)),
    "while_loop": lambda f, x: f(lambda y: tf.reduce_sum(y) < 9, lambda y: (y + 1,), (x,)),
}
OF_KERAS_IMAGE: dict[str, Call] = {
    "affine_transform": lambda f, x: f(x, np.array([1.1, 0.1, 0, 0, 1, 0, 0, 0], "f")),
    "crop_images": lambda f, x: f(x, 1, 1, 1, 1),
    "pad_images": lambda f, x: f(x, 1, 1, 1, 1),
    "extract_patches": lambda f, x: f(x, 3),
    "elastic_transform": lambda f, x: f(x, seed=1),
    "extract_patches_3d": lambda f, x: f(volume(x), 2),
    "map_coordinates": lambda f, x: f(x[0, :, :, 0], np.ones((2, 3), "f"), 1),
    "perspective_transform": lambda f, x: f(x, CORNERS, CORNERS + 0.5),
    "resize": lambda f, x: f(x, (9, 9), antialias=True),
    "scale_and_translate": lambda f, x: f(x, (2, 9, 9, 3), np.ones(2, "f"), np.ones(2, "f"), (1, 2), "linear"),
    "ssim": lambda f, x: f(wide(x), wide(x) + 0.5),
}
OF_NN: dict[str, Call] = {
    **many("approx_max_k approx_min_k", lambda f, x: f(x, 2)),
    **many("avg_pool avg_pool2d max_pool max_pool2d max_pool_with_argmax", lambda f, x: f(x, 2, 2, "SAME")),
    **many("avg_pool1d max_pool1d", lambda f, x: f(x[:, 0], 2, 2, "SAME")),
    **many("avg_pool3d max_pool3d", lambda f, x: f(volume(x), 2, 2, "SAME")),
    **many("fractional_avg_pool fractional_max_pool", lambda f, x: f(x, RATES)),
    **many("conv2d convolution", lambda f, x: f(x, KERNEL, 1, "SAME")),
    **many("conv2d_transpose conv_transpose", lambda f, x: f(x, np.ones((3, 3, 4, 3), "f"), (2, 12, 12, 4), 2)),
    **many("dilation2d erosion2d", lambda f, x: f(x, KERNEL[..., 0], [1] * 4, "SAME", "NHWC", [1] * 4)),
    **many("sigmoid_cross_entropy_with_logits", lambda f, x: f(labels=x, logits=x)),
    **many("softmax_cross_entropy_with_logits log_poisson_loss", pairs),
    **many("embedding_lookup", lambda f, x: f(np.ones((5, 4), "f"), whole(x))),
    "atrous_conv2d": lambda f, x: f(x, KERNEL, 2, "SAME"),
    "atrous_conv2d_transpose": lambda f, x: f(x, np.ones((3, 3, 4, 3), "f"), (2, 6, 6, 4), 2, "SAME"),
    "batch_norm_with_global_normalization": lambda f, x: f(x, *[np.ones(3, "f")] * 4, 1e-3, True),
    "batch_normalization": lambda f, x: f(x, *[np.ones(3, "f")] * 4, 1e-3),
    "bias_add": lambda f, x: f(x, np.ones(3, "f")),
    "conv1d": lambda f, x: f(x[:, 0], KERNEL[0], 1, "SAME"),
    "conv1d_transpose": lambda f, x: f(x[:, 0], np.ones((3, 4, 3), "f"), (2, 12, 4), 2),
    "conv3d": lambda f, x: f(volume(x), VOLUME_KERNEL, [1] * 5, "SAME"),
    "conv3d_transpose": lambda f, x: f(volume(x), np.ones((2, 2, 2, 2, 1), "f"), (2, 6, 6, 3, 2), 1),
    "collapse_repeated": lambda f, x: f(whole(x[:, :, 0, 0]), np.array([6, 6])),
    "ctc_beam_search_decoder": lambda f, x: f(x[0], np.array([6] * 6)),
    "ctc_greedy_decoder": lambda f, x: f(x[0], np.array([6] * 6)),
    "ctc_loss": lambda f, x: f(np.ones((6, 2), "i"), x[0], np.array([2] * 6), np.array([6] * 6)),
    "ctc_unique_labels": lambda f, x: f(whole(x[:, :, 0, 0])),
    "depth_to_space": lambda f, x: f(tf.tile(x, [1, 1, 1, 4]), 2),
    "space_to_depth": lambda f, x: f(x, 2),
    "depthwise_conv2d": lambda f, x: f(x, KERNEL, [1] * 4, "SAME", dilations=(2, 2)),
    "depthwise_conv2d_backprop_filter": lambda f, x: f(x, KERNEL.shape, tf.tile(x, [1, 1, 1, 4]), [1] * 4, "SAME"),
    "depthwise_conv2d_backprop_input": lambda f, x: f(SHAPE, KERNEL, tf.tile(x, [1, 1, 1, 4]), [1] * 4, "SAME"),
    "dropout": lambda f, x: f(x, 0.5),
    "embedding_lookup_sparse": lambda f, x: f(np.ones((5, 4), "f"), tf.sparse.from_dense(whole(x[0, 0])), None),
    "safe_embedding_lookup_sparse": lambda f, x: f(
        np.ones((5, 4), "f"), tf.sparse.from_dense(tf.cast(x[0, 0], tf.int64))
    ),
    "in_top_k": lambda f, x: f(np.array([1, 2]), scores_of(x), 2),
    "moments": lambda f, x: f(x, [1, 2]),
    "weighted_moments": lambda f, x: f(x, [1, 2], x),
    "sufficient_statistics": lambda f, x: f(x, [1, 2]),
    "normalize_moments": lambda f, x: f(2.0, x, x, None),
    "pool": lambda f, x: f(x, (2, 2), "AVG", dilations=(2, 2)),
    "separable_conv2d": lambda f, x: f(x, KERNEL, np.ones((1, 1, 12, 5), "f"), [1] * 4, "SAME"),
    "space_to_batch": lambda f, x: f(x, [2, 2], [[0, 0], [0, 0]]),
    "sparse_softmax_cross_entropy_with_logits": lambda f, x: f(np.array([1, 2]), scores_of(x)),
    "weighted_cross_entropy_with_logits": lambda f, x: f(x, x, 2.0),
    "with_space_to_batch": lambda f, x: f(x, (2, 2), "VALID", lambda y, *_: tf.nn.relu(y), filter_shape=(1, 1)),
}
OF_IMAGE: dict[str, Call] = {
    **many("adjust_brightness adjust_hue random_hue", lambda f, x: f(x, 0.1)),
    **many("adjust_contrast adjust_saturation central_crop", lambda f, x: f(x, 0.5)),
    **many("crop_to_bounding_box", lambda f, x: f(x, 1, 1, 3, 3)),
    **many("pad_to_bounding_box", lambda f, x: f(x, 1, 1, 9, 9)),
    **many("psnr", lambda f, x: f(x, x + 0.5, 1.0)),
    **many("ssim", lambda f, x: f(wide(x), wide(x) + 0.5, 1.0)),
    "ssim_multiscale": lambda f, x: f(wide(x), wide(x) + 0.5, 1.0, (0.5, 0.5), filter_size=3),
    **many("resize", lambda f, x: f(x, (9, 9), antialias=True)),
    **many("resize_with_crop_or_pad resize_with_pad", lambda f, x: f(x, 9, 5)),
    "adjust_jpeg_quality": lambda f, x: f(x[0], 50),
    "random_jpeg_quality": lambda f, x: f(x[0], 50, 60),
    "stateless_random_jpeg_quality": lambda f, x: f(x[0], 50, 60, (1, 2)),
    "combined_non_max_suppression": lambda f, x: f(tf.reshape(boxes(x), [1, 6, 1, 4]), x[:1, 0], 3, 3),
    "convert_image_dtype": lambda f, x: f(x, tf.uint8),
    "crop_and_resize": lambda f, x: f(x, row(x)[None, :4], [0], (4, 4)),
    "decode_and_crop_jpeg": lambda f, x: f(tf.strings.as_string(row(x)[0]), [0, 0, 2, 2]),
    **many(
        "decode_bmp decode_gif decode_image decode_jpeg decode_png decode_webp decode_jxl extract_jpeg_shape is_jpeg",
        lambda f, x: f(tf.strings.as_string(row(x)[0])),
    ),
    "draw_bounding_boxes": lambda f, x: f(x, tf.reshape(row(x)[:8], [2, 1, 4]), np.ones((1, 3), "f")),
    **many("encode_jpeg encode_png", lambda f, x: f(tf.cast(x[0], tf.uint8))),
    "extract_glimpse": lambda f, x: f(x, (3, 3), x[:, 0, 0, :2]),
    "extract_patches": lambda f, x: f(x, [1, 3, 3, 1], [1, 1, 1, 1], [1, 1, 1, 1], "VALID"),
    "generate_bounding_box_proposals": lambda f, x: f(
        x, tf.tile(x, [1, 1, 1, 4]), np.ones((2, 5), "f"), np.ones((6, 6, 12), "f")
    ),
    "grayscale_to_rgb": lambda f, x: f(x[..., :1]),
    **many("non_max_suppression non_max_suppression_with_scores", lambda f, x: f(boxes(x), row(x)[:6], 3)),
    "non_max_suppression_overlaps": lambda f, x: f(tf.reshape(row(x)[:36], [6, 6]), row(x)[:6], 3),
    "non_max_suppression_padded": lambda f, x: f(boxes(x), row(x)[:6], 3, pad_to_max_output_size=True),
    "random_brightness": lambda f, x: f(x, 0.1),
    **many("random_contrast random_saturation", lambda f, x: f(x, 0.5, 1.5)),
    "random_crop": lambda f, x: f(x, (2, 3, 3, 3)),
    **many(
        "sample_distorted_bounding_box",
        lambda f, x: f([6, 6, 3], tf.reshape(row(x)[:4], [1, 1, 4]), min_object_covered=0.1),
    ),
    "stateless_sample_distorted_bounding_box": lambda f, x: f([6, 6, 3], tf.reshape(row(x)[:4], [1, 1, 4]), (1, 2)),
    **many("stateless_random_brightness stateless_random_hue", lambda f, x: f(x, 0.1, (1, 2))),
    **many("stateless_random_contrast stateless_random_saturation", lambda f, x: f(x, 0.5, 1.5, (1, 2))),
    "stateless_random_crop": lambda f, x: f(x, (2, 3, 3, 3), (1, 2)),
    **many("stateless_random_flip_left_right stateless_random_flip_up_down", lambda f, x: f(x, (1, 2))),
}
ARGUMENTS = {"keras.ops": OF_KERAS, "keras.ops.image": OF_KERAS_IMAGE, "tf.nn": OF_NN, "tf.image": OF_IMAGE}

LOSS = "a loss that draws classes, for training"
EAGER = "needs a value where a graph has none"
PYTHON = "runs Python, or gives Python"
NOT_TRACED: dict[str, dict[str, str]] = {
    "keras.ops": {
        **dict.fromkeys(("convert_to_numpy", "vectorize", "jvp"), PYTHON),
        **dict.fromkeys(("corrcoef", "isin", "kron"), EAGER),
    },
    "keras.ops.image": {},
    "tf.nn": {
        **dict.fromkeys(("RNNCellDeviceWrapper", "RNNCellDropoutWrapper", "RNNCellResidualWrapper"), PYTHON),
        **dict.fromkeys(
            ("all_candidate_sampler", "compute_accidental_hits", "fixed_unigram_candidate_sampler", "nce_loss"), LOSS
        ),
        **dict.fromkeys(("learned_unigram_candidate_sampler", "sampled_softmax_loss"), LOSS),
    },
    "tf.image": {"ResizeMethod": PYTHON},
}


def functions(library: str) -> Iterator[str]:
    """The public functions of a library, but for those that no graph can hold."""
    for name in dir(LIBRARIES[library]):
        public = not name.startswith("_") and callable(getattr(LIBRARIES[library], name))
        if public and name not in NOT_TRACED[library]:
            yield name


def called(library: str, name: str, image: Any) -> list[tf.Tensor]:
    """What a function gives of an image, as tensors."""
    function = getattr(LIBRARIES[library], name)
    found = ARGUMENTS[library].get(name, lambda f, x: f(x))(function, image)
    return [one for one in tf.nest.flatten(found, expand_composites=True) if tf.is_tensor(one)]
