"""Gradients of the model's own against an eager tape of the live model, which knows them at first hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from reference import difference, rule

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.rules import RULES
from gradviz_cli.worker.model import Model

BOUND = 1e-4  # relative L2
RANDOM = np.random.default_rng(5)
FIRST, SECOND = (tf.Variable(RANDOM.normal(size=(3, 3, size, 4)).astype("f")) for size in (3, 4))
FACTOR = tf.Variable(0.7)
IMAGE = RANDOM.normal(size=(1, 7, 7, 3)).astype(np.float32)
WORDS = ("holds no function", "holds no function", "--allow-op PyFunc")
POINT = np.ones((1, 1, 4, 4), "f")
own = tf.custom_gradient


def steps(x):
    return tf.round(x * 4) / 4


@own
def straight(x):
    return steps(x), lambda g: g


@own
def sign(x):
    return tf.sign(x - 0.5), lambda g: g * tf.cast(tf.abs(x - 0.5) < 1, g.dtype)


@own
def reverse(x):
    return tf.identity(x), lambda g: -g


@own
def itself(x):
    return x, lambda g: 0.1 * g


@own
def short(x):
    return tf.identity(x), lambda g: tf.clip_by_norm(g, 0.01)


@own
def guided(x):
    return tf.nn.relu(x), lambda g: g * tf.cast((x > 0) & (g > 0), g.dtype)


@own
def capturing(x):
    inner = tf.exp(x * 0.1)
    return steps(tf.sin(inner)), lambda g: g * inner + 0.1 * tf.cos(x)


@own
def variable(x):
    def backward(g, variables):
        return g * FACTOR**2, [tf.reduce_sum(g)] * len(variables)

    return steps(x * FACTOR), backward


@own
def two(a, b):
    return (steps(a), tf.floor(b)), lambda g, h: (g + 2 * h, h * a)


@own
def one_of_two(a, b):
    return steps(a) + tf.floor(b), lambda g: (None, g * a)


@own
def outer(x):
    return straight(x) * 3, lambda g: straight(g * 100) * 2


@own
def around(x):
    inner = straight(x)
    return inner * inner, lambda g: 3 * g * inner


@own
def looping(x):
    def backward(g):
        return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 0.5), [0, g])[1]

    return steps(x), backward


def again(x, step: Callable):
    return tf.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, step(y)), [0, x])[1]


def twice(x):
    inside = tf.function(capturing, autograph=False)
    return inside(inside(x))


MIDDLES = {
    "straight through": straight,
    "beside a shortcut": lambda x: straight(x) + x,
    "sign": sign,
    "reversed": reverse,
    "gives its argument back": lambda x: itself(x) + x,
    "clipped": short,
    "guided relu": lambda x: guided(x - 0.3),
    "captured tensors": capturing,
    "a variable": variable,
    "several": lambda x: tf.add(*two(x, 2 * x)),
    "several, one is read": lambda x: two(x, 2 * x)[1],
    "one argument without": lambda x: one_of_two(x, 1.5 * x),
    "a sum, one argument without": lambda x: own(lambda a, b: (a + b, lambda g: (None, g)))(tf.cos(x), tf.sin(x)),
    "a sum, the other without": lambda x: own(lambda a, b: (a + b, lambda g: (g, None)))(tf.cos(x), tf.sin(x)),
    "own gradient of an own gradient": outer,
    "nested": around,
    "a function called twice": twice,
    "one behind the other": lambda x: straight(reverse(capturing(x))),
    "passed through": tf.grad_pass_through(steps),
    "compiled": tf.function(straight, jit_compile=True, autograph=False),
    "a loop in the gradient": looping,
    "in a loop": lambda x: again(x, lambda y: capturing(y) + straight(y)),
    "a variable in a loop": lambda x: again(x, lambda y: variable(y) + y),
    "a tensor from around a loop": lambda x: again(x, lambda y: one_of_two(x, y) + y),
    "in a branch": lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: capturing(x), lambda: 2 * x),
    "in a map": lambda x: tf.map_fn(sign, x),
    "stopped, no wrapper": lambda x: x + tf.stop_gradient(steps(x) - x),
}
# The derivative stands for these, and the rule acts inside.
DERIVATIVES = {
    "recomputed": lambda x, relu: relu(tf.nn.conv2d(x, SECOND, 1, "SAME")),
    "silu": lambda x, relu: tf.nn.silu(x),
}
SAVED = {"recomputed": tf.recompute_grad(lambda x: tf.nn.relu(tf.nn.conv2d(x, SECOND, 1, "SAME")))}
# No function of the gradient can be used, so that another gradient than the model's is shown.
LOST = {
    "out of a loop's reach": lambda x: again(x, lambda y: y + own(lambda z: (steps(z), lambda g: g * tf.exp(x)))(y)),
    "a kernel that kills": own(
        lambda x: (2 * x, lambda g: tf.nn.conv2d_transpose(g, POINT, tf.shape(x) * [1, 2, 2, 1], 2))
    ),
    "not allowed": own(lambda x: (2 * x, lambda g: tf.numpy_function(lambda one: one, [g], tf.float32))),
}


def network(middle: Callable, relu: Callable = tf.nn.relu) -> Callable:
    """A ReLU on either side."""

    def scores(image):
        x = middle(relu(tf.nn.conv2d(image, FIRST, 1, "SAME") + 0.1))
        return tf.reduce_mean(relu(tf.nn.conv2d(x, SECOND, 1, "SAME")), [1, 2])

    return scores


def saved(folder, middles: dict[str, Callable], **options) -> str:
    """A model with a signature for each."""
    module = tf.Module()
    module.held = [FIRST, SECOND, FACTOR]
    spec = tf.TensorSpec([None, *IMAGE.shape[1:]], name="image")
    signatures = {
        f"number{place}": tf.function(network(middle), autograph=False).get_concrete_function(spec)
        for place, middle in enumerate(middles.values())
    }
    tf.saved_model.save(module, str(folder), signatures, tf.saved_model.SaveOptions(**options))
    return str(folder)


ALL = {**MIDDLES, **{name: SAVED.get(name, lambda x, f=f: f(x, None)) for name, f in DERIVATIVES.items()}, **LOST}
PLACES = {name: place for place, name in enumerate(ALL)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return saved(tmp_path_factory.mktemp("own") / "model", ALL)


@pytest.fixture(scope="module")
def without(tmp_path_factory) -> str:
    kept = {
        "straight": straight,
        "beside": MIDDLES["beside a shortcut"],
        "relu": lambda x: guided(x - 0.3),
        "silu": tf.nn.silu,
    }
    return saved(tmp_path_factory.mktemp("own") / "old", kept, experimental_custom_gradients=False)


def opened(folder: str, place: int, **more) -> Model:
    return Model(
        ModelOptions(folder, signature=f"number{place}", preprocess="raw", **more), tuple(RULES), verified=True
    )


def truth(middle: Callable, mode: str) -> np.ndarray:
    image = tf.constant(IMAGE)
    with tf.GradientTape() as tape:
        tape.watch(image)
        score = network(middle, rule(mode))(image)[:, 1]
    return tape.gradient(score, image).numpy()


def distances(model: Model, middles: dict[str, Callable]) -> dict[str, float]:
    found = model.explain(IMAGE, [1], list(RULES)).gradients
    return {mode: difference(one[0], truth(middles[mode], mode)) for mode, one in zip(RULES, found, strict=True)}


# Each takes half a second, most of it TensorFlow's for building.
QUICK = ("beside a shortcut", "captured tensors", "a variable", "several, one is read", "guided relu", "in a loop")
MARKED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MIDDLES]


@pytest.mark.parametrize("name", MARKED)
def test_the_models_own_gradient_counts(name, folder):
    model = opened(folder, PLACES[name])
    for mode, off in distances(model, dict.fromkeys(RULES, MIDDLES[name])).items():
        assert off < BOUND, mode
    hidden = int(name == "guided relu")
    assert (model.facts.custom_gradients, model.facts.passed_by) == (0, hidden)
    assert not model.facts.warnings_for(["backprop"])
    assert len(model.facts.warnings_for(["guided"])) == hidden


def test_the_truth_can_tell(folder):
    plain = {mode: lambda x: x for mode in RULES}
    assert min(distances(opened(folder, PLACES["beside a shortcut"]), plain).values()) > 1e-2


@pytest.mark.parametrize("name", DERIVATIVES)
def test_what_is_the_derivative_is_left_to_it_and_obeys(name, folder):
    model = opened(folder, PLACES[name])
    truths = {mode: lambda x, mode=mode: DERIVATIVES[name](x, rule(mode)) for mode in RULES}
    assert max(distances(model, truths).values()) < BOUND
    assert (model.facts.custom_gradients, model.facts.passed_by) == (1, 0)
    assert not model.facts.warnings_for(["backprop"])


@pytest.mark.parametrize(("name", "words"), list(zip(LOST, WORDS, strict=True)))
def test_what_cannot_be_used_is_said(name, words, folder):
    model = opened(folder, PLACES[name])
    (warning,) = model.facts.warnings_for(["backprop"])
    assert "a gradient of the model's own is replaced" in warning and words in warning
    assert model.facts.custom_gradients == 1


def test_an_operation_that_is_allowed_is_used(folder):
    model = opened(folder, PLACES["not allowed"], allow_ops=("PyFunc",))
    assert not model.facts.warnings and model.facts.custom_gradients == 0


def test_a_file_without_gradient_functions(without):
    with pytest.raises(ModelUnusable, match="it is cut at .*Round"):
        opened(without, 0)
    (warning,) = opened(without, 1).facts.warnings_for(["backprop"])
    assert "experimental_custom_gradients=True" in warning and "IdentityN:0" in warning
    for place in (2, 3):  # activations that are known by what they compute
        assert not opened(without, place).facts.warnings_for(["backprop"])


def test_a_rounding_of_tensorflow_1_told_to_be_an_identity(tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        image = v1.placeholder(tf.float32, [None, *IMAGE.shape[1:]], "image")
        x = tf.nn.relu(tf.nn.conv2d(image, FIRST_VALUE, 1, "SAME") + 0.1)
        with graph.gradient_override_map({"Round": "Identity"}):
            x = tf.round(x * 4)
        scores = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x / 4, SECOND_VALUE, 1, "SAME")), [1, 2])
        signature = v1.saved_model.predict_signature_def({"image": image}, {"scores": scores})
        builder = v1.saved_model.Builder(str(tmp_path / "model"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"number0": signature})
        builder.save()
    model = opened(str(tmp_path / "model"), 0)
    assert max(distances(model, dict.fromkeys(RULES, straight)).values()) < BOUND
    assert not model.facts.warnings and model.facts.custom_gradients == 0


FIRST_VALUE, SECOND_VALUE = FIRST.numpy(), SECOND.numpy()
