"""A model is proved: what is right passes, and a sabotage of each step of the preparation is seen by a witness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from graphs import const, node, of_processors
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.types_pb2 import DT_FLOAT
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.errors import ModelUnusable, ProofFailed
from gradviz_cli.process.protocol import OPTIONAL_STEPS, ModelOptions, Proof, Witness
from gradviz_cli.worker import model
from gradviz_cli.worker.analysis.chance import Chance
from gradviz_cli.worker.graph import wrappers
from gradviz_cli.worker.graph.graph import Graph, copied, split
from gradviz_cli.worker.graph.steps import Step
from gradviz_cli.worker.model import Model
from gradviz_cli.worker.passes import batch_norm, fixed_chance
from gradviz_cli.worker.proof import original, probes, prove, witnesses
from gradviz_cli.worker.read import question
from gradviz_cli.worker.run import differentiate, targets

v1 = tf.compat.v1
SIDE = 8
IMAGE = tf.TensorSpec([None, SIDE, SIDE, 3], name="image")


class Weights:
    """Variables of reproducible noise."""

    def __init__(self):
        self.random, self.all = np.random.default_rng(3), []

    def __call__(self, *shape: int, around: float = 0.0) -> tf.Variable:
        size = 1 / np.sqrt(np.prod(shape[:-1]) or 1)
        self.all.append(tf.Variable((around + self.random.normal(0, size, shape)).astype(np.float32)))
        return self.all[-1]


def save(folder: Path, build: Callable, spec: tf.TensorSpec = IMAGE) -> str:
    """`build(weights)` gives the function that is served."""
    module, held = tf.Module(), Weights()
    serve = build(held)
    module.held = held.all
    function = tf.function(lambda image: {"scores": serve(image)}, autograph=False)
    tf.saved_model.save(module, str(folder), signatures=function.get_concrete_function(spec))
    return str(folder)


def network(held: Weights, activation: Callable = tf.nn.relu, last: Callable = tf.nn.softmax) -> Callable:
    """Convolution, batch norm, activation, a strided point, dense."""
    kernel, point, dense = held(3, 3, 3, 8), held(1, 1, 8, 8), held(8, 5)
    scale, shift, mean, variance = held(8, around=1), held(8), held(8), held(8, around=2)

    def serve(image: tf.Tensor) -> tf.Tensor:
        x = tf.nn.conv2d(image, kernel, 1, "SAME")
        x = tf.nn.batch_normalization(x, mean, variance, shift, scale, 1e-3)
        x = tf.nn.conv2d(activation(x), point, 2, "SAME")
        return last(tf.reduce_mean(x, [1, 2]) @ dense * 4)

    return serve


class Shown(NamedTuple):
    """A model that was proved, and what was found."""

    model: Model
    proof: Proof


def proved(path: str, modes: tuple[str, ...] = ("backprop",), thorough: bool = False, **options) -> Shown:
    options = {"preprocess": "unit", **options}
    found = Model(ModelOptions(path, **options), modes, verified=True)
    return Shown(found, found.prove(thorough))


def witness(found: Shown, name: str) -> Witness:
    (one,) = [one for one in found.proof.witnesses if one.name == name]
    return one


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("proof") / "plain", network)


def test_a_right_model_is_proved(plain):
    found = proved(plain)
    proof = found.proof
    assert (proof.without, proof.alone, proof.warnings) == ((), False, ()) and found.proof.warnings == ()
    assert 0 <= witness(found, "forward").value < 1e-5 and witness(found, "class").value == 0
    assert witness(found, "independence").value < 1e-5
    assert not any(one.failed for one in proof.witnesses)
    assert "every gradient on the way is TensorFlow's own" in witness(found, "slope").said


def test_what_was_found_before_is_acted_on(plain):
    before = Proof((Witness("forward", 0.0, 1e-4),), without=("batch_norm",), alone=True)
    found = Model(ModelOptions(plain, preprocess="unit"), proof=before)
    assert found._differentiator._problem.entry.batch == 1, "one by one"
    assert any(one.op == "Rsqrt" or "batchnorm" in name for name, one in found._differentiator.graph.nodes.items())


def test_what_is_run_from_the_start_proves_the_same(plain):
    early = Model(ModelOptions(plain, preprocess="unit"), ("backprop",), proving=True)
    assert early.prove() == proved(plain).proof


def test_a_gradient_that_cannot_be_computed_is_no_proof_even_where_the_numbers_hold(plain, monkeypatch):
    missing = tf.errors.UnimplementedError(None, None, "No OpKernel was registered {{node x}}")

    def fails(*_):
        raise missing

    found = Model(ModelOptions(plain, preprocess="unit"), ("backprop",))
    found.prove()
    monkeypatch.setattr(found._differentiator, "explain", fails)
    with pytest.raises(ProofFailed, match="TensorFlow cannot compute"):
        found.try_gradient()


def test_functions_that_are_written_rather_than_traced_call_others_by_their_own_names():
    """As TensorFlow 1 writes a call: the operation is the function."""
    meta = MetaGraphDef()
    nodes = meta.graph_def.node
    nodes.add(name="image", op="Placeholder").attr["dtype"].type = DT_FLOAT
    nodes.add(name="twice", op="both", input=["image", "^image"])
    nodes.add(name="split", op="Split", input=["axis", "twice:1"]).attr["T"].type = DT_FLOAT
    nodes[-1].attr["num_split"].i = 2
    nodes.add().CopyFrom(const("axis", 0, np.int32))
    both = meta.graph_def.library.function.add()
    both.signature.name = "both"
    both.signature.input_arg.add(name="x", type=DT_FLOAT)
    both.node_def.add(name="sum", op="AddV2", input=["x", "x"]).attr["T"].type = DT_FLOAT
    for name, tensor in (("same", "x"), ("more", "sum:z:0")):
        both.signature.output_arg.add(name=name, type=DT_FLOAT)
        both.ret[name] = tensor
    image = tf.constant([1.0, 3.0])
    for output, value in (("split:1", [6.0]), ("twice:0", [1.0, 3.0]), ("image:0", [1.0, 3.0])):
        part = original.original(meta, output, {"image:0": tf.float32})
        np.testing.assert_array_equal(part.ready({}, {"image:0": image})(), value)


# -- a sabotage of each step


def damaged(step: str, damage: Callable[[Graph], Graph], monkeypatch) -> None:
    """Let a step leave a graph that is wrong."""
    assert step in [one.name for one in model.STEPS]

    def wrong(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(
            Step(one.name, lambda graph, asked, one=one: damage(one.function(graph, asked)), one.why)
            if one.name == step
            else one
            for one in steps
        )

    for name in ("ASKING_STEPS", "LOADING_STEPS", "SCORING_STEPS", "BUILDING_STEPS"):
        monkeypatch.setattr(model, name, wrong(getattr(model, name)))
    reading = model.reading_steps
    monkeypatch.setattr(model, "reading_steps", lambda *given: wrong(reading(*given)))


def rewrite(change: Callable) -> Callable[[Graph], Graph]:
    """Nodes and function nodes changed one by one: `change(node)` gives another one, or None."""

    def changed(nodes):
        return {name: change(one) or one for name, one in nodes.items()}

    def damage(graph: Graph) -> Graph:
        functions = {name: replace(one, nodes=changed(one.nodes)) for name, one in graph.functions.items()}
        return replace(graph, nodes=changed(graph.nodes), functions=functions)

    return damage


def scaled_values(graph: Graph) -> Graph:
    return replace(graph, values={name: value * 1.01 for name, value in graph.values.items()})


def negated(graph: Graph) -> Graph:
    minus = node("minus", "Neg", graph.score, T=tf.float32)
    return replace(graph, nodes={**graph.nodes, "minus": minus}, outputs=("minus:0", *graph.outputs[1:]))


def half_kernels(one):
    """Constants that were widened lose a tenth."""
    if one.op != "Const" or one.attr["dtype"].type != DT_FLOAT or not one.attr["value"].tensor.tensor_shape.dim:
        return None
    return const(one.name, 0.9 * tf.make_ndarray(one.attr["value"].tensor))


@pytest.mark.parametrize("step", ["batch_norm", "constants"])
def test_a_step_that_only_makes_it_faster_is_left_out(step, plain, monkeypatch):
    damaged(step, scaled_values, monkeypatch)
    found = proved(plain)
    assert found.proof.without == (step,)
    (said,) = found.proof.warnings
    assert said.startswith(f"the step {step} changes the numbers (forward off by ")
    monkeypatch.undo()
    images = probes.scenes(found.model._differentiator._problem.entry, (0.0, 1.0), 2, 1)
    right = Model(ModelOptions(plain, preprocess="unit"), ("backprop",)).explain(images, [1], ["backprop"])
    got = found.model.explain(images, [1], ["backprop"])
    np.testing.assert_allclose(got.gradients[0], right.gradients[0], rtol=1e-4, atol=1e-7)


def test_all_are_left_out_where_two_are_wrong(plain, monkeypatch):
    damaged("batch_norm", scaled_values, monkeypatch)
    damaged("constants", scaled_values, monkeypatch)
    assert proved(plain).proof.without == OPTIONAL_STEPS


@pytest.mark.parametrize("step", ["values", "strided_points", "mark", "start"])
def test_numbers_that_a_step_gets_wrong_are_refused(step, plain, monkeypatch):
    damaged(step, scaled_values, monkeypatch)
    with pytest.raises(ProofFailed, match="the proof fails: .* forward off by .*limit 0.0001.*--proof never"):
        proved(plain)


def test_a_score_that_is_not_the_outputs_is_refused(plain, monkeypatch):
    damaged("logits", negated, monkeypatch)
    with pytest.raises(ProofFailed, match="class"):
        proved(plain)


def test_constants_widened_wrongly_are_refused(tmp_path, monkeypatch):
    def halved(held: Weights) -> Callable:
        kernel, dense = (tf.constant(held(*shape).numpy(), tf.float16) for shape in ((3, 3, 3, 8), (8, 5)))

        def serve(image: tf.Tensor) -> tf.Tensor:
            x = tf.nn.relu(tf.nn.conv2d(tf.cast(image, tf.float16), kernel, 1, "SAME"))
            return tf.cast(tf.reduce_mean(x, [1, 2]) @ dense, tf.float32)

        return serve

    path = save(tmp_path / "half", halved)
    found = proved(path)
    assert witness(found, "forward").value < 1e-5 and not found.proof.warnings
    damaged("float32", rewrite(half_kernels), monkeypatch)
    with pytest.raises(ProofFailed, match="forward"):
        proved(path)


def loop(held: Weights) -> Callable:
    kernel, dense = held(3, 3, 3, 3), held(3, 5)

    def serve(image: tf.Tensor) -> tf.Tensor:
        def body(i, x):
            return i + 1, tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + 0.1)

        return tf.reduce_mean(tf.while_loop(lambda i, x: i < 3, body, [0, image])[1], [1, 2]) @ dense

    return serve


def test_a_loop_that_was_rewritten_wrongly_is_refused(tmp_path, monkeypatch):
    """As TensorFlow 1 writes it, so that `functionalize` has something to do."""
    folder = tmp_path / "loop"
    v1.disable_control_flow_v2()
    try:
        path = save(folder, loop)
    finally:
        v1.enable_control_flow_v2()

    def longer(one):
        if one.op != "Const" or one.attr["dtype"].type != tf.int32.as_datatype_enum:
            return None
        value = tf.make_ndarray(one.attr["value"].tensor)
        return const(one.name, 2, np.int32) if value.shape == () and value == 3 else None

    assert witness(proved(path), "forward").value < 1e-5
    damaged("functionalize", rewrite(longer), monkeypatch)
    with pytest.raises(ProofFailed, match="forward"):
        proved(path)


def narrower(cap: bytes) -> Callable:
    """Marks of activations with this cap say that they close at 0.1."""

    def change(one):
        if "_gradviz" not in one.attr:
            return None
        copy = copied(one)
        copy.attr["_gradviz"].s = one.attr["_gradviz"].s.replace(b'"high": ' + cap, b'"high": 0.1')
        assert copy.attr["_gradviz"].s != one.attr["_gradviz"].s
        return copy

    return change


def test_a_mark_of_another_function_is_refused(tmp_path, monkeypatch):
    """An activation that is open up to 0.3 is marked as one that is open up to 0.1."""
    path = save(tmp_path / "capped", lambda held: network(held, lambda x: tf.minimum(tf.nn.relu(x), 0.3)))
    assert witness(proved(path), "marks").value == 0
    damaged("mark", rewrite(narrower(b"0.30000001192092896")), monkeypatch)
    with pytest.raises(ProofFailed, match="marks"):
        proved(path)


def test_a_mark_inside_a_loop_is_seen_too(tmp_path, monkeypatch):
    def capped(held: Weights) -> Callable:
        kernel, dense = held(3, 3, 3, 3), held(3, 5)

        def serve(image: tf.Tensor) -> tf.Tensor:
            def body(i, x):
                return i + 1, tf.minimum(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + 0.1), 0.5)

            return tf.reduce_mean(tf.while_loop(lambda i, x: i < 2, body, [0, image])[1], [1, 2]) @ dense

        return serve

    path = save(tmp_path / "loop", capped)
    assert witness(proved(path), "marks").value == 0
    damaged("mark", rewrite(narrower(b"0.5")), monkeypatch)
    with pytest.raises(ProofFailed, match="marks"):
        proved(path)


# -- a mend that was made, taken out again


ONE = tf.TensorSpec([1, SIDE, SIDE, 3], name="image")
WHOLE = tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8, name="image")


def ending(last: Callable) -> Callable:
    return lambda held: network(held, last=last)


def test_a_stripped_epsilon_read_as_zero_is_left_out(tmp_path, monkeypatch):
    """A batch norm whose epsilon is the default, which the file leaves out."""

    def normed(held: Weights) -> Callable:
        kernel, scale, dense = held(3, 3, 3, 8), held(8, around=1), held(8, 5)

        def serve(image: tf.Tensor) -> tf.Tensor:
            y = tf.raw_ops.FusedBatchNormV3(
                x=tf.nn.conv2d(image, kernel, 1, "SAME"), scale=scale, offset=tf.zeros(8), mean=tf.zeros(8),
                variance=tf.fill([8], 2e-4), epsilon=1e-4, is_training=False)  # fmt: skip
            return tf.reduce_mean(tf.nn.relu(y[0]), [1, 2]) @ dense

        return serve

    path = save(tmp_path / "normed", normed)
    assert proved(path).proof.without == ()
    read = batch_norm.attribute
    monkeypatch.setattr(
        batch_norm, "attribute", lambda node, name: AttrValue(f=0) if name == "epsilon" else read(node, name)
    )
    assert proved(path).proof.without == ("batch_norm",)


def test_statistics_of_the_batch_read_as_those_of_training_are_seen(tmp_path, monkeypatch):
    def normed(held: Weights) -> Callable:
        serve, scale = network(held), held(3, around=1)

        def norm(image: tf.Tensor) -> tf.Tensor:
            return serve(tf.raw_ops.FusedBatchNormV3(
                x=image, scale=scale, offset=tf.zeros(3), mean=tf.zeros(0), variance=tf.zeros(0))[0])  # fmt: skip

        return norm

    path = save(tmp_path / "training", normed)
    assert proved(path).proof.alone, "it depends on the batch, and is run image by image"


@pytest.mark.parametrize(
    ("name", "last", "spec"),
    [
        ("squeezed to [K]", lambda y: tf.squeeze(y, 0), ONE),
        ("[N, K, 1]", lambda y: y[..., None], IMAGE),
        ("[N, K, 1, 1]", lambda y: y[..., None, None], IMAGE),
    ],
)
def test_classes_taken_for_positions_are_refused(name, last, spec, tmp_path, monkeypatch):
    path = save(tmp_path / "model", ending(last), spec)
    assert witness(proved(path), "class").value == 0
    for module in (targets, differentiate):
        monkeypatch.setattr(module, "positions", lambda tensor, *_: tf.reshape(tensor, [-1, 5, 1]))
    monkeypatch.setattr(witnesses, "positions", lambda tensor, *_: tf.reshape(tensor, [-1, 5, 1]))
    with pytest.raises(ProofFailed, match="class"):
        proved(path)


def test_an_output_that_only_looks_like_log_softmax_is_refused_as_such(tmp_path, monkeypatch):
    path = save(tmp_path / "model", ending(lambda y: y - tf.exp(y)))
    assert witness(proved(path), "class").value == 0

    def bypassed(graph: Graph, question) -> Graph:
        (exponential,) = [one for one in graph.nodes.values() if one.op == "Exp"]
        return replace(graph, outputs=(exponential.input[0], *graph.outputs[1:]))

    monkeypatch.setattr(model, "SCORING_STEPS", (Step("logits", bypassed, ""),))
    with pytest.raises(ProofFailed, match="class"):
        proved(path)


def test_ranks_taken_for_classes_are_warned_of(tmp_path, monkeypatch):
    def ranked(held: Weights) -> Callable:
        serve, more = network(held, last=tf.identity), held(5, 12)
        return lambda image: tf.math.top_k(serve(image) @ more, 12).values

    path = save(tmp_path / "ranked", ranked)
    proved(path)
    monkeypatch.setattr(question, "ranked_from", lambda *_: None)
    (said,) = proved(path).proof.warnings
    assert "a place in it is a rank and no class" in said


@pytest.mark.parametrize("count", [1, 3, 5])
def test_probabilities_listed_by_rank_are_compared_by_rank(count, tmp_path):
    """All of them too: these add up to 1, and their logarithms are compared as well."""

    def ranked(held: Weights) -> Callable:
        serve = network(held)
        return lambda image: tf.math.top_k(serve(image), count).values

    assert witness(proved(save(tmp_path / "ranked", ranked)), "forward").value < witnesses.FORWARD


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (lambda x: tf.reverse(x, [2]), "turned left to right"),
        (lambda x: tf.reverse(x, [1]), "turned upside down"),
        (lambda x: tf.reverse(x, [3]), "with its channels reversed"),
    ],
)
def test_a_map_that_lies_otherwise_than_the_image_is_warned_of(turn, said, tmp_path, monkeypatch):
    """Whole pixels are turned before they become fractions, in a way that has no form in floats."""

    def turned(held: Weights) -> Callable:
        serve = network(held, last=tf.identity)
        return lambda image: serve(tf.cast(tf.bitwise.right_shift(turn(image), 1), tf.float32) / 128)

    path = save(tmp_path / "turned", turned, WHOLE)
    with pytest.raises(ModelUnusable, match="are not its pixels"):
        proved(path, preprocess="auto")
    monkeypatch.setattr(model, "check_start", lambda *_: None)
    found = proved(path, preprocess="auto")
    assert witness(found, "slope").failed and said in witness(found, "slope").said


def test_a_models_own_gradient_that_is_left_out_is_warned_of(tmp_path, monkeypatch):
    """A straight-through estimator beside a shortcut: without its gradient half of the slope is missing."""

    def rounding(held: Weights) -> Callable:
        @tf.custom_gradient
        def rounded(x):
            return tf.round(x * 64) / 64, lambda upstream: upstream

        return network(held, lambda x: 3 * rounded(tf.nn.relu(x)) + 0.2 * tf.nn.relu(x), tf.identity)

    path = save(tmp_path / "rounding", rounding)
    assert not witness(proved(path), "slope").failed

    def unwrapped(one):
        if wrappers.FUNCTION not in one.attr:
            return None
        copy = copied(one)
        for name in [name for name in copy.attr if name.startswith("_grad")]:
            del copy.attr[name]
        return copy

    damaged("own_gradients", rewrite(unwrapped), monkeypatch)
    found = proved(path)
    assert witness(found, "slope").failed
    assert any("the gradient is not the slope of the score" in said for said in found.proof.warnings)


def test_a_gradient_that_is_no_slope_is_warned_of(tmp_path):
    """Written with a StopGradient, so that it points the other way."""

    def reversed_(held: Weights) -> Callable:
        return network(held, lambda x: tf.stop_gradient(2 * tf.nn.relu(x)) - tf.nn.relu(x), tf.identity)

    found = proved(save(tmp_path / "reversed", reversed_))
    assert witness(found, "slope").failed and witness(found, "slope").value > 1.5
    (said,) = found.proof.warnings
    assert "the gradient is not the slope of the score" in said


# -- what depends on more than the image


def test_a_batch_that_is_mixed_is_run_one_by_one(tmp_path):
    def mixing(held: Weights) -> Callable:
        serve = network(held)
        return lambda image: serve(image - tf.reduce_mean(image, 0, keepdims=True) * 0.5)

    found = proved(save(tmp_path / "mixed", mixing))
    (said,) = found.proof.warnings
    assert found.proof.alone and "images are run one by one" in said
    images = probes.scenes(found.model._differentiator._problem.entry, (0.0, 1.0), 3, 1)
    together = found.model.explain(images, [0], ["backprop"]).gradients[0][0]
    alone = [found.model.explain(images[i : i + 1], [0], ["backprop"]).gradients[0][0, 0] for i in range(3)]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_weights_that_are_mixed_by_a_softmax_over_the_batch_are_seen_where_it_does_not_saturate(tmp_path):
    def mixing(held: Weights) -> Callable:
        serve, first, second = network(held), held(3, 3, 3, 3), held(3, 3, 3, 3)
        side = np.where(np.arange(SIDE) < SIDE // 2, 1, -1).astype(np.float32)

        def mixed(image: tf.Tensor) -> tf.Tensor:
            left, bright = tf.reduce_mean(image * side[:, None], [0, 1, 2])[0], tf.reduce_mean(image, [0, 1, 2])[0]
            part = tf.nn.softmax(tf.stack([left * 16 + bright * 3, 0.0]))
            return serve(tf.nn.relu(tf.nn.conv2d(image, part[0] * first + part[1] * second, 1, "SAME")))

        return mixed

    found = proved(save(tmp_path / "mixed", mixing), preprocess="raw")
    (said,) = found.proof.warnings
    assert found.proof.alone and "images are run one by one" in said


def test_the_slope_of_a_batch_that_is_mixed_is_that_of_one_image(tmp_path):
    def mixing(held: Weights) -> Callable:
        serve = network(held)
        return lambda image: serve(image - tf.reduce_mean(image, 0, keepdims=True) * 0.5)

    found = proved(save(tmp_path / "mixed", mixing), thorough=True)
    (said,) = found.proof.warnings
    assert "images are run one by one" in said and witness(found, "slope").value is not None


def test_rows_of_an_image_are_not_said_to_come_from_its_neighbours(tmp_path):
    def rows(held: Weights) -> Callable:
        kernel = held(3, 3, 3, 5)
        return lambda image: tf.reshape(tf.nn.relu(tf.nn.conv2d(image, kernel, 2, "SAME")), [-1, 5])

    found = proved(save(tmp_path / "rows", rows))
    (said,) = found.proof.warnings
    assert found.proof.alone and "rows for each image" in said and "neighbours" not in said


@of_processors
def test_a_model_that_draws_lots_is_warned_of(tmp_path):
    def dropping(held: Weights) -> Callable:
        return network(held, lambda x: tf.nn.dropout(tf.nn.relu(x), 0.5))

    found = proved(save(tmp_path / "random", dropping))
    (said,) = found.model.facts.warnings
    assert "the model is random (RandomUniform in " in said
    assert found.proof.warnings == (), "it is said once"
    images = probes.scenes(found.model._differentiator._problem.entry, (0.0, 1.0), 3, 1)
    once, again = (found.model.explain(images[order], [0], ["guided"]) for order in ([0, 1, 2], [2, 0, 1]))
    np.testing.assert_array_equal(once.gradients[0][0, [2, 0, 1]], again.gradients[0][0])
    np.testing.assert_array_equal(once.score[[2, 0, 1]], again.score)
    assert once.gradients[0].any()


def test_a_variable_that_is_changed_before_it_is_read_is_warned_of(tmp_path):
    def counting(held: Weights, after: bool) -> Callable:
        serve, count = network(held, last=tf.identity), held(1, around=3.0)

        def counted(image):
            before = count.read_value()
            count.assign_add([1.0])
            return serve(image) * (count.read_value() if after else before)

        return counted

    found = proved(save(tmp_path / "after", lambda held: counting(held, True)))
    (said,) = found.model.facts.warnings
    assert "changes the variable" in said and "--output NAME" in said
    assert not proved(save(tmp_path / "before", lambda held: counting(held, False))).model.facts.warnings


def test_lots_by_a_seed_of_the_model_are_warned_of_once(tmp_path):
    def dropping(held: Weights) -> Callable:
        seed = held(2, around=5)

        def noisy(x):
            noise = tf.random.stateless_normal(tf.shape(x), tf.cast(seed * 100, tf.int32))
            return tf.nn.relu(x + noise)

        return network(held, noisy)

    found = proved(save(tmp_path / "seeded", dropping))
    (said,) = found.model.facts.warnings
    assert "the model is random (Stateless" in said and found.proof.warnings == () and found.proof.alone


@of_processors
def test_chance_that_no_operation_shows_is_warned_of(tmp_path, monkeypatch):
    def dropping(held: Weights) -> Callable:
        return network(held, lambda x: tf.nn.dropout(tf.nn.relu(x), 0.5))

    monkeypatch.setattr(model, "find_chance", lambda graph, constants: Chance())
    monkeypatch.setattr(fixed_chance, "changes", lambda node: False)
    for name, spec in (("open", IMAGE), ("one", ONE)):
        (said,) = proved(save(tmp_path / name, dropping, spec)).proof.warnings
        assert "the model is random" in said


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: x / tf.reduce_max(x),
        lambda x: x - tf.reduce_min(x),
        lambda x: x + tf.random.stateless_normal(tf.shape(x), [1, 2]) * 0.1,
    ],
)
def test_what_stands_beside_an_image_is_seen(mixed, tmp_path):
    def mixing(held: Weights) -> Callable:
        serve = network(held, last=tf.identity)
        return lambda image: serve(mixed(image))

    assert proved(save(tmp_path / "mixed", mixing)).proof.alone


def test_a_gradient_that_mixes_a_batch_is_seen(tmp_path):
    def mixing(held: Weights) -> Callable:
        @tf.custom_gradient
        def centred(x):
            return tf.identity(x), lambda upstream: upstream - 0.5 * tf.reduce_mean(upstream, 0, keepdims=True)

        return network(held, lambda x: tf.nn.relu(centred(x)))

    assert proved(save(tmp_path / "mixed", mixing)).proof.alone


def test_a_probability_without_logits_is_warned_of(tmp_path):
    def powers(held: Weights) -> Callable:
        def last(y: tf.Tensor) -> tf.Tensor:
            power = tf.pow(2.0, y)
            return power / tf.reduce_sum(power, -1, keepdims=True)

        return network(held, last=last)

    path = save(tmp_path / "powers", powers)
    (said,) = proved(path).proof.warnings
    assert "is a probability whose logits were not found" in said and "--score output" in said
    assert proved(path, score="output").proof.warnings == ()


# -- what cannot be asked


def test_what_TensorFlow_cannot_be_asked_is_said(plain):
    found = proved(plain, output="scores", input="image")
    assert witness(found, "forward").value is not None
    inside = proved(plain, output="Conv2D:0[..., 1]")
    assert "TensorFlow cannot be asked" in witness(inside, "forward").said


def test_a_second_copy_of_many_weights_is_not_made(plain, monkeypatch):
    monkeypatch.setattr(prove, "MAX_WEIGHTS", 100)
    assert "a second copy is not made" in witness(proved(plain), "forward").said


@pytest.mark.parametrize(
    "waits_for",
    [lambda path: tf.io.write_file(path, "x"), lambda path: tf.debugging.assert_equal(tf.strings.length(path), 1)],
)
def test_what_only_acts_is_not_run_for_the_proof(waits_for, tmp_path):
    """A file that would be written, a check that would fail: no number depends on them."""

    def acting(held: Weights) -> Callable:
        serve = network(held)

        def waiting(image: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([waits_for(tf.constant(str(tmp_path / "written")))]):
                return serve(tf.identity(image))

        return waiting

    found = proved(save(tmp_path / "acts", acting))
    assert witness(found, "forward").value < 1e-5
    assert not (tmp_path / "written").exists()


def test_an_operation_that_may_not_run_is_not_run_for_the_proof(tmp_path):
    """It stands in a branch that is never taken, which a flat graph leaves out."""

    def reading(held: Weights) -> Callable:
        serve = network(held)
        length = lambda: tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)  # noqa: E731
        return lambda image: serve(image) + tf.cond(tf.constant(False), length, lambda: tf.zeros([]))

    found = proved(save(tmp_path / "reads", reading))
    assert "ReadFile" in witness(found, "forward").said


def test_calls_without_number_are_not_run_for_the_proof(tmp_path, monkeypatch):
    monkeypatch.setattr(original, "MAX_NODES", 20)
    assert "more than 20 operations" in witness(proved(save(tmp_path / "plain", network)), "forward").said


@of_processors
def test_a_model_that_fails_on_drawn_images_is_not_refused(tmp_path):
    def dark_only(held: Weights) -> Callable:
        serve = network(held)

        def choosy(image: tf.Tensor) -> tf.Tensor:
            bright = tf.cast(tf.reduce_max(image) > 0.5, tf.int32)
            return serve(image) + tf.stop_gradient(tf.gather(tf.zeros([1]), bright + bright))

        return choosy

    found = proved(save(tmp_path / "fails", dark_only))
    assert "fails on generated images" in witness(found, "forward").said and not witness(found, "forward").failed


# -- the distances themselves


def test_distance():
    one = np.array([3.0, 4.0])
    assert witnesses.distance(one, one) == 0
    assert witnesses.distance(np.array([3.0, 4.5]), one) == pytest.approx(0.1)
    assert witnesses.distance(one, one[None]) == np.inf
    assert witnesses.distance(np.array([np.nan, 1]), np.array([np.nan, 1])) == 0
    assert not witnesses.distance(np.array([np.nan, 1]), np.array([0.0, 1])) < 1


def test_probabilities_that_are_nearly_equal_are_compared_by_their_logarithms():
    """Untrained: a thousandth of difference in logits is 1e-6 of a probability, and would pass."""
    logits = np.random.default_rng(0).normal(0, 1e-3, (2, 1000))
    p, q = (np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in (logits, 0.5 * logits))
    assert witnesses.distance(p, q) < 1e-3
    measured = witnesses.Measured(p, np.zeros(2, int), p[:, None], np.zeros(()))
    assert witnesses.forward(measured, q).failed


@pytest.mark.parametrize(
    ("numbers", "low", "high"),
    [
        ({"pixel_range": (-1.0, 1.0)}, -1, 1),
        ({"pixel_range": (0.0, 1.0), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, -0.406 / 0.225, 0.515 / 0.229),
        ({"pixel_range": (0.0, 255.0), "mean": (100.0,)}, -100, 155),
        ({"pixel_range": (0.0, 1.0), "std": (0.5,)}, 0, 2),
        ({"pixel_range": (0.0, 1.0), "mean": (0.0, 1.0), "std": (0.1, 0.1)}, -10, 10),  # no value that both can have
    ],
)  # fmt: skip
def test_probes_lie_in_a_range_of_numbers(numbers, low, high):
    assert probes.span("given", ModelOptions("m", **numbers)) == pytest.approx((low, high))
    assert probes.span("torch", ModelOptions("m")) == probes.RANGES["torch"]


def test_probes_keep_away_from_the_ends_of_the_range(plain):
    entry = proved(plain).model._differentiator._problem.entry
    for low, high in probes.RANGES.values():
        drawn = probes.scenes(entry, (low, high), 2, 5)
        assert drawn.shape == (2, SIDE, SIDE, 3) and low < drawn.min() < drawn.max() < high
    np.testing.assert_array_equal(probes.scenes(entry, (0.0, 1.0), 2, 5), probes.scenes(entry, (0.0, 1.0), 2, 5))
    whole = probes.scenes(replace(entry, whole=True), (0.0, 255.0), 1, 5)
    np.testing.assert_array_equal(whole, np.rint(whole))


def test_an_output_inside_the_graph_is_no_output_of_TensorFlows(plain):
    meta = model.open_folder(ModelOptions(plain)).meta
    with pytest.raises(original.NotRun, match="lies inside the graph"):
        original.original(meta, "nowhere:0", {})
    (name,) = meta.signature_def["serving_default"].outputs
    tensor = meta.signature_def["serving_default"].outputs[name].name
    part = original.original(meta, tensor, {})
    assert split(part.output)[0] in {one.name for one in part.graph_def.node}


class Bent:
    """A score of one pixel with a corner just below the image: twice as steep above it."""

    def scores(self, images):
        moved = images.astype(np.float64).sum((1, 2, 3)) - 1 + 1e-6
        return np.where(moved > 0, 2 * moved, moved)[:, None, None].astype(np.float32)


@pytest.mark.parametrize("gradient, held", [(2, True), (3, False), (0.5, False)])
def test_a_corner_beside_the_image_leaves_the_slope_of_the_other_side(gradient, held):
    one = np.ones((1, 1, 1, 1), np.float32)
    slope = witnesses.Slope(one, gradient * one, 0, span=1.0, whole=False, coarse=False)
    assert slope.judged(Bent()).failed is not held
