"""What a machine cannot compute is said of the model, when it is tried or at the first image, and of no image."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import of_processors

from gradviz_cli.errors import ModelUnusable, ProofFailed
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker import model
from gradviz_cli.worker.graph.graph import Graph
from gradviz_cli.worker.graph.words import first_line
from gradviz_cli.worker.run.kernels import lacking

SHAPE = (8, 8, 4)
IMAGES = np.random.default_rng(1).uniform(size=(2, *SHAPE)).astype(np.float32)


@pytest.fixture
def grouped(tmp_path, monkeypatch):
    """A model in float64 whose convolution in groups has no kernel for its gradient, and nothing that replaces it."""
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 2, 6)))
    module = tf.Module()
    module.kernel = kernel

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, *SHAPE], tf.float64, "image")])
    def scores(image):
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME", name="groups")), [1, 2])

    tf.saved_model.save(module, str(tmp_path), signatures=scores)
    steps = tuple(step for step in model.BUILDING_STEPS if step.name != "equal_forms")
    monkeypatch.setattr(model, "BUILDING_STEPS", steps)
    return model.Model(ModelOptions(str(tmp_path), preprocess="unit"), ("backprop",))


@of_processors
def test_a_trial_names_the_operation(grouped):
    with pytest.raises(
        ProofFailed, match=r"the gradient of node groups \(op Conv2D\) on this machine: .*grouped"
    ) as error:
        grouped.try_gradient()
    assert "--output" in error.value.remedy


@of_processors
def test_the_first_image_names_it_where_nothing_is_proved(grouped):
    with pytest.raises(ModelUnusable, match=r"the gradient of node groups \(op Conv2D\) on this machine"):
        grouped.explain(IMAGES, [-1], ["backprop"])


@of_processors
def test_what_worked_once_is_not_lacking(grouped):
    grouped._worked = True
    with pytest.raises(tf.errors.InvalidArgumentError):
        grouped.explain(IMAGES, [-1], ["backprop"])


@pytest.fixture
def delicate(tmp_path):
    """A model whose gradient fails where a pixel is 0, though its scores exist: of CheckNumerics, which is asked of infinity."""
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 4, 6)).astype(np.float32))
    module = tf.Module()
    module.kernel = kernel

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, "image")])
    def scores(image):
        image = tf.sqrt(tf.debugging.check_numerics(image, "pixels"))
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME") + 1.0), [1, 2])

    tf.saved_model.save(module, str(tmp_path), signatures=scores)
    return model.Model(ModelOptions(str(tmp_path), preprocess="unit"), ("backprop",))


def test_an_image_whose_gradient_fails_is_at_fault_itself_also_where_it_is_the_first(delicate):
    black = np.zeros((1, *SHAPE), np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError):
        delicate.explain(black, [-1], ["backprop"])
    assert np.isfinite(delicate.explain(IMAGES, [-1], ["backprop"]).gradients[0]).all()


def fails():
    raise tf.errors.InvalidArgumentError(None, None, "the image is too dark")


def error(kind, text: str):
    return kind(None, None, text)


def test_an_image_that_has_no_scores_is_at_fault_itself():
    dark = error(tf.errors.InvalidArgumentError, "the image is too dark [[{{node model/check}}]]")
    assert lacking(dark, Graph({}), fails) is None
    assert "node check" in lacking(dark, Graph({}), lambda: None)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (tf.errors.UnimplementedError, "channels first [[{{node model/loop/Conv}}]]"),
        (
            tf.errors.InvalidArgumentError,
            "No OpKernel was registered to support Op 'Conv' used by {{node model/loop/Conv}}",
        ),
    ],
)
def test_a_kernel_that_is_not_there_is_no_images_fault(kind, text):
    assert "cannot compute node loop/Conv on this machine" in lacking(error(kind, text), Graph({}), fails)


@pytest.mark.parametrize(
    "place",
    [
        "gradients/model/a/Conv_grad/Conv2DBackpropInput",
        "gradients_1/model/a/Conv_grad/Conv2DBackpropInput",
        "gradients/map/while_grad/gradients/a/Conv_grad/Conv2DBackpropInput",
        "gradients/model/a/Conv/gradviz_form/Conv2D_grad/Conv2DBackpropInput",
    ],
)
def test_a_gradient_is_named_by_what_it_is_of(place):
    found = lacking(error(tf.errors.UnimplementedError, f"no [[{{{{node {place}}}}}]]"), Graph({}), fails)
    assert "the gradient of node a/Conv on this machine" in found


def test_what_an_error_inside_of_a_function_says():
    text = """Graph execution error:

Detected at node a/b defined at (most recent call last):
  File "x.py", line 1, in <module>

Only NHWC is supported.
\t [[{{node a/b}}]] [Op:__inference_a_19]"""
    assert first_line(error(tf.errors.InvalidArgumentError, text)) == "Only NHWC is supported."
