"""Reading and building apart: one folder read once, built for several modes and with other weights."""

from __future__ import annotations

import shutil
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny
from graphs import pixels

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import ModelOptions, Verdict
from gradviz_cli.rules import RULES
from gradviz_cli.worker import inspection, model
from gradviz_cli.worker.analysis.activations import Activation, Found
from gradviz_cli.worker.analysis.naming import Form
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.read import savedmodel

IMAGES = pixels((2, tiny.SIDE, tiny.SIDE, 3))


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> ModelOptions:
    return ModelOptions(str(tiny.write(tmp_path_factory.mktemp("prepare") / "tiny")), preprocess="unit")


@pytest.fixture(scope="module")
def prepared(options: ModelOptions) -> model.Prepared:
    return model.prepare(options, verify)


def last_kernel(prepared: model.Prepared) -> str:
    (name,) = [name for name, value in prepared.graph.values.items() if value.shape == (8, 5)]
    return name


def test_a_prepared_model_is_frozen_and_whole(prepared):
    verify(prepared.graph, prepared.question)
    assert prepared.preprocess == "unit" and prepared.found.counts == {"Relu": (1, 1)} and prepared.warnings == ()
    with pytest.raises(FrozenInstanceError):
        prepared.preprocess = "raw"


def test_other_weights_give_other_scores(prepared):
    """Twice the last layer's kernel is twice the score, and twice the gradient."""
    name = last_kernel(prepared)
    first = model.build(prepared, ["backprop"]).explain(IMAGES, [1], ["backprop"])
    twice = {name: 2 * prepared.graph.values[name].numpy()}
    second = model.build(prepared, ["backprop"], values=twice, check=verify).explain(IMAGES, [1], ["backprop"])
    np.testing.assert_allclose(second.score, 2 * first.score, rtol=1e-5)
    np.testing.assert_allclose(second.gradients[0], 2 * first.gradients[0], rtol=1e-5, atol=1e-7)
    again = model.build(prepared, ["backprop"]).explain(IMAGES, [1], ["backprop"])
    np.testing.assert_array_equal(again.score, first.score)


@pytest.mark.parametrize("values", [{"nothing": np.zeros(1, "f")}, {"last": np.zeros((5, 8), "f")}])
def test_weights_of_another_shape_are_refused(prepared, values):
    given = {last_kernel(prepared) if name == "last" else name: value for name, value in values.items()}
    with pytest.raises(ValueError, match="no variable .* of shape .*; there are .* \\[8, 5\\]"):
        model.build(prepared, ["backprop"], values=given)


def test_a_rule_needs_something_to_act_on(prepared):
    none = replace(prepared, found=replace(prepared.found, top=()))
    model.build(none, ["backprop"])
    with pytest.raises(
        ModelUnusable, match="no ReLU lies between the image and the score .no other activation., so guided"
    ):
        model.build(none, ["guided"])
    curved = replace(none, found=replace(none.found, curves={"Tanh": 2}))
    with pytest.raises(ModelUnusable, match="score .2 Tanh, which no mode has a rule for., so .* use --mode backprop$"):
        model.build(curved, ["guided"])


def test_facts_say_what_was_found(prepared):
    facts = model.facts(prepared, 5)
    assert (facts.classes, facts.size, facts.channels, facts.input.layout) == (5, (16, 16), 3, "NHWC")
    assert facts.score == prepared.graph.score and facts.activations == {"Relu": (1, 1)}


def test_a_model_explains(options):
    one = model.Model(options, ["backprop"], verified=True)
    assert one.explain(IMAGES, [0], ["backprop"]).gradients[0].shape == (1, 2, 16, 16, 3)


def test_what_a_step_does_to_a_model_is_the_same_graph_in_other_nodes(options):
    asked = model.ask(model.open_folder(options), options, verify)
    assert asked.graph.values == {} and asked.graph.wrt == asked.question.fed(asked.graph)


def test_inspect_reads_the_folder_once(options, monkeypatch):
    read, count = savedmodel.read, []
    monkeypatch.setattr(savedmodel, "read", lambda path: count.append(path) or read(path))
    told = inspection.inspect(options)
    assert len(count) == 1
    assert told.problem is None and told.gradient.reaches_input and told.chosen.classes == 5
    assert told.activations["Relu"].patched == 1 and told.warnings == ()
    assert [layer.op for layer in told.cam_layers] == ["Conv2D", "AddV2", "Relu"]


def test_inspect_says_what_is_known_until_something_is_wrong(options):
    told = inspection.inspect(replace(options, output="nothing"))
    assert "--output nothing" in told.problem and told.chosen is None and list(told.signatures) == ["serving_default"]
    assert told.problem_kind == "UsageError" and told.gradient.reaches_input is None
    assert set(told.modes) == set(RULES) and not any(one.works for one in told.modes.values())
    told = inspection.inspect(replace(options, layout="NHW"))
    assert "--layout NHW" in told.problem and told.chosen.output == "scores"
    assert told.problem_kind == "UsageError" and told.activations["Relu"].patched == 1


def test_inspect_says_of_each_mode_whether_it_can_be_explained(options, monkeypatch):
    assert inspection.inspect(options).modes == {mode: Verdict(True) for mode in RULES}
    nothing = Found("relu", (Activation("Gelu", "a:0", "b:0", Form("Gelu")),))
    monkeypatch.setattr(inspection.activations, "find_all", lambda *given: nothing)
    told = inspection.inspect(options).modes
    assert told["backprop"] == Verdict(True) and told["guided"].works is False
    assert told["deconv"].why == "0 of 1 Gelu obey, add --activations all"
    some = Found("relu", (*nothing.top, Activation("Relu", "a:0", "b:0", Form("Relu"))))
    said = {mode: inspection._verdict("m", some, mode) for mode in ("backprop", "guided")}
    assert said == {"backprop": Verdict(True), "guided": Verdict(True, "0 of 1 Gelu obey, add --activations all")}


def with_its_range(image):
    """Shares of four classes, of whole pixels that the model itself brings to its range."""
    kernel = tf.constant(np.random.default_rng(1).normal(size=(3, 3, 3, 6)), tf.float32)
    scaled = tf.cast(image, tf.float32) / 255.0 - 0.5
    found = tf.nn.relu(tf.nn.conv2d(scaled, kernel, 2, "SAME"))
    logits = tf.reduce_mean(found, [1, 2]) @ tf.ones([6, 4])
    return {"share": tf.nn.softmax(logits), "code": tf.reduce_max(found, [1, 2])}


def test_whatever_inspect_names_may_be_typed(tmp_path):
    module = tf.Module()
    module.serve = tf.function(with_its_range, input_signature=[tf.TensorSpec([None, 12, 12, 3], tf.uint8, "image")])
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    options = ModelOptions(str(tmp_path), output="share")
    told = inspection.inspect(options)
    names = {option: [one.name for one in found] for option, found in told.candidates.items()}
    assert told.problem is None and names["input"][0] == "image" and len(names["input"]) > 1
    assert set(names["output"]) > {"share", "code"} and told.chosen.score_tensor in names["output"]
    assert names["output"][-1] == f"{told.cam_layers[-1].tensor}[..., 0]"
    opened = model.open_folder(options)
    for option, found in names.items():
        for name in found:  # raises unless a gradient reaches the image
            model.build(model.load(model.ask(opened, replace(options, **{option: name}))), ["guided"])


def test_inspect_of_a_model_without_weights_does_not_say_that_its_gradient_is_cut(options, tmp_path):
    copied = shutil.copytree(options.path, tmp_path / "bare")
    for file in (copied / "variables").glob("variables.data*"):
        file.unlink()
    told = inspection.inspect(replace(options, path=str(copied)))
    assert told.gradient.reaches_input is None and told.problem_kind == "ModelUnusable"
    assert told.activations["Relu"].patched == 1 and not any(one.works for one in told.modes.values())


def test_inspect_tells_where_a_gradient_is_cut(tmp_path: Path):
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3])])
    def serve(image):
        return {"scores": tf.reduce_mean(tf.round(image, name="cut"), [1, 2])}

    tf.saved_model.save(module, str(tmp_path / "cut"), signatures={"serving_default": serve})
    told = inspection.inspect(ModelOptions(str(tmp_path / "cut")))
    assert told.gradient.reaches_input is False and told.gradient.cut_at == "cut (Round)"
    assert "cut at cut (Round)" in told.problem


def test_inspect_does_not_say_what_it_could_not_try(options, tmp_path: Path):
    folder = Path(shutil.copytree(options.path, tmp_path / "copy"))
    for shard in (folder / "variables").glob("*.data-*"):
        shard.unlink()
    told = inspection.inspect(replace(options, path=str(folder)))
    assert told.gradient.reaches_input is None and "data-00000-of-* is missing" in told.problem
    assert told.chosen.output == "scores"


def test_a_folder_without_model(tmp_path: Path):
    with pytest.raises(ModelUnusable, match="holds no saved_model.pb"):
        model.prepare(ModelOptions(str(tmp_path)))


def test_a_tag_that_is_not_there(options):
    with pytest.raises(UsageError, match="--tag gpu"):
        model.open_folder(replace(options, tag="gpu"))


def test_what_an_estimator_takes_whatever_the_mode_is_no_mode_settles() -> None:
    with pytest.raises(ModelUnusable) as refused:
        model.check_patched("m", Found("relu"), ["backprop.grad-cam", "backprop.guided-grad-cam"])
    assert refused.value.remedy == "leave --estimator guided-grad-cam out"
    with pytest.raises(ModelUnusable) as refused:
        model.check_patched("m", Found("relu"), ["guided.grad-cam"])
    assert refused.value.remedy == "use --mode backprop"
    model.check_patched("m", Found("relu"), ["backprop.grad-cam", "backprop"])
