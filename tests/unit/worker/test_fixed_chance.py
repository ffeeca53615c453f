"""What draws random numbers draws the same ones each time, and others than what draws beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import Calls, computed, fed, node, ops, pixels, traced
from tensorflow.core.framework.op_def_pb2 import OpDef

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.worker.analysis.chance import find_chance
from gradviz_cli.worker.graph.graph import Function, Graph
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes.fixed_chance import check_twins, fixed_chance

IMAGE = pixels((1, 9, 9, 3))
raw = tf.raw_ops
RATIO = [1.0, 1.5, 1.4, 1.0]


def boxed(x: tf.Tensor) -> tf.Tensor:
    box = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])
    begin, *_ = tf.image.sample_distorted_bounding_box([90, 90, 3], box, min_object_covered=0.1)
    return x + tf.cast(begin[0], tf.float32)


EACH = {
    "uniform": lambda x: x + tf.random.uniform(tf.shape(x)),
    "normal": lambda x: x + tf.random.normal(tf.shape(x)),
    "truncated": lambda x: x * tf.random.truncated_normal([9, 9, 3]),
    "whole numbers": lambda x: x + tf.cast(tf.random.uniform([9], 0, 1000, tf.int32)[:, None], tf.float32),
    "gamma": lambda x: x + tf.random.gamma([9, 3], 2.0),
    "classes": lambda x: x + tf.cast(tf.random.categorical(x[:, 0, :, 0] * 0, 9)[0, :, None], tf.float32),
    "dropout": lambda x: tf.nn.dropout(x + 1, 0.5),
    "cut": boxed,
    "mean of pools": lambda x: tf.nn.fractional_avg_pool(x, RATIO)[0],
    "largest of pools": lambda x: tf.nn.fractional_max_pool(x, RATIO)[0],
}


@pytest.mark.parametrize("name", EACH)
def test_each_time_the_same(name: str) -> None:
    graph = traced(EACH[name], shape=(None, 9, 9, 3))
    assert find_chance(graph).drawn
    free = computed(graph, IMAGE)[0]
    assert any(not np.array_equal(free, computed(graph, IMAGE)[0]) for _ in range(20)), "else this shows nothing"
    fixed = fixed_chance(graph)
    verify(fixed)
    assert find_chance(fixed).warning is None and fixed_chance(fixed).nodes == fixed.nodes
    first, *others = [computed(fixed, IMAGE)[0] for _ in range(3)]
    assert first.shape == free.shape
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_noise_stays_noise() -> None:
    """Of the right spread, and not the same for two that draw."""
    graph = fixed_chance(traced(lambda x: tf.stack([tf.random.normal([5000]), tf.random.normal([5000])])))
    one, other = computed(graph, pixels())[0]
    assert abs(one.mean()) < 0.1 and abs(one.std() - 1) < 0.1 and abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_a_generator_stands_still() -> None:
    graph = traced(lambda x: x)
    state = node("state", "RngReadAndSkip", "generator:0", "alg:0", "delta:0")
    fixed = fixed_chance(replace(graph, nodes={**graph.nodes, "state": state}))
    assert fixed.nodes["state"].op == "Const" and len(fixed.nodes) == len(graph.nodes) + 1


def test_in_a_branch_or_loop() -> None:
    graph = traced(lambda x: x)
    drawn = traced(lambda x: x + tf.random.uniform([3])).nodes
    body = Function(OpDef(name="body"), drawn, ("add:0",))
    loop = node("loop", "While", "image:0", body=Calls("body"))
    graph = replace(graph, nodes={**graph.nodes, "loop": loop}, functions={"body": body}, outputs=("loop:0",))
    called = fixed_chance(graph)
    assert find_chance(graph).drawn and find_chance(called).warning is None
    assert ops(replace(graph, nodes=called.functions["body"].nodes)).count("StatelessRandomUniform") == 1


KEPT = {  # dropout, noise and augmentation that the other numbers switch off
    "dropout": lambda x, off: tf.compat.v1.nn.dropout(x, 1 - off),
    "an old dropout": lambda x, off: x / (1 - off) * tf.floor(1 - off + tf.random.uniform(tf.shape(x))),
    "noise": lambda x, off: x + tf.random.normal(tf.shape(x)) * off,
    "noise that is spread": lambda x, off: x + tf.random.uniform(tf.shape(x), -off, off),
    "a coin": lambda x, off: tf.where(tf.random.uniform([]) < off, tf.reverse(x, [2]), x),
    "a coin and a flag": lambda x, off: tf.where((off > 0) & (tf.random.uniform([]) < 0.5), tf.reverse(x, [2]), x),
    "noise of a flag": lambda x, off: tf.where(off > 0, x + tf.random.normal(tf.shape(x)), x),
    "depth": lambda x, off: x + tf.reshape(tf.floor(1 - off + tf.random.uniform([])), [1, 1, 1, 1]) * x / (1 - off),
    "a number of a seed": lambda x, off: x + tf.cast(tf.random.stateless_uniform([], [1, 2]) + off >= 0, tf.float32),
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("off", [0.0, 0.25])
def test_it_is_chance_only_where_it_is_on(name: str, off: float) -> None:
    """The number is a constant, a weight or another input; TensorFlow's own runs are the judge."""

    def draws(graph: Graph) -> bool:
        first = computed(graph, IMAGE)[0]
        most = 200 if off and name != "a number of a seed" else 20  # a coin of 0.25 lies alike 20 times in 300 rounds
        return any(not np.array_equal(first, computed(graph, IMAGE)[0]) for _ in range(most))

    known = traced(lambda x: KEPT[name](x, tf.constant(off)), shape=(None, 9, 9, 3))
    learnt = traced(KEPT[name], {"off": np.float32(off)}, shape=(None, 9, 9, 3))
    fed = replace(learnt, weights={}, values={})
    assert bool(find_chance(known).drawn) is draws(known) is draws(learnt) is bool(find_chance(learnt).drawn)
    assert bool(find_chance(fed, {"off": np.float32(off)}).drawn) is draws(known)
    assert draws(known) is (off > 0) or name == "a number of a seed"
    assert name == "a number of a seed" or find_chance(fed).drawn, "what is not known may be on"


@pytest.mark.parametrize("op", ["If", "Case"])
def test_a_branch_that_is_not_taken_draws_nothing(op: str) -> None:
    graph = traced(lambda x: x)
    argument = node("x", "_Arg", T=tf.float32)
    dropped = {**traced(lambda x: x + tf.random.uniform([3])).nodes, "image": node("image", "_Arg", T=tf.float32)}
    signatures = [OpDef(name=name, input_arg=[OpDef.ArgDef(name=one)]) for name, one in (("on", "image"), ("off", "x"))]
    functions = {
        "on": Function(signatures[0], dropped, ("add:0",)),
        "off": Function(signatures[1], {"x": argument}, ("x:0",)),
    }
    branch = node("branch", op, "flag:0", "image:0")
    if op == "If":
        branch.attr["then_branch"].func.name, branch.attr["else_branch"].func.name = "on", "off"
    else:
        branch.attr["branches"].list.func.add(name="off"), branch.attr["branches"].list.func.add(name="on")
    nodes = {**graph.nodes, "flag": fed("flag", tf.bool, ()), "branch": branch}
    graph = replace(graph, nodes=nodes, functions=functions, outputs=("branch:0",))
    assert find_chance(graph).drawn and find_chance(graph, {"flag": np.array(True)}).drawn
    assert find_chance(graph, {"flag": np.array(False)}).warning is None


@pytest.mark.parametrize("changing", [False, True])
def test_a_loop_hands_on_what_it_does_not_change(changing: bool) -> None:
    """So a flag that stands still switches off what is drawn in the loop."""
    inner = traced(lambda x: x + tf.random.normal([3]) * tf.compat.v1.placeholder(tf.float32, (), "scale")).nodes
    arguments = {name: node(name, "_Arg", T=tf.float32) for name in ("image", "scale")}
    signature = OpDef(name="body", input_arg=[OpDef.ArgDef(name=name) for name in arguments])
    results = ("add:0", "image:0" if changing else "scale:0")
    body = Function(signature, {**inner, **arguments}, results)
    loop = node("loop", "While", "image:0", "off:0", body=Calls("body"))
    graph = traced(lambda x: x)
    nodes = {**graph.nodes, "off": fed("off", tf.float32, ()), "loop": loop}
    graph = replace(graph, nodes=nodes, functions={"body": body}, outputs=("loop:0",))
    assert bool(find_chance(graph, {"off": np.float32(0)}).drawn) is changing
    assert find_chance(graph, {"off": np.float32(1)}).drawn and find_chance(graph).drawn


def test_a_variable_that_changes_is_no_switch() -> None:
    graph = traced(lambda x, off: x + off * tf.random.normal([3]), {"off": np.float32(0)})
    changed = replace(graph, changed=frozenset({"off"}))
    assert find_chance(graph).warning is None and find_chance(changed).drawn
    counted = traced(lambda x, off, count: x + off * count, {"off": np.float32(0), "count": np.float32(1)})
    for off, said in ((0.0, ()), (1.0, ("variable/count",))):
        values = {**counted.values, "variable/off": tf.constant(off)}
        assert find_chance(replace(counted, values=values, changed=frozenset({"count"}))).changed == said


def test_what_cannot_be_told_is_refused() -> None:
    graph = traced(lambda x: tf.random.shuffle(x))
    with pytest.raises(ModelUnusable, match=r"random: RandomShuffle in .*export it for inference"):
        check_twins(find_chance(graph).drawn)
    unread = traced(lambda x: tf.where(False, tf.random.shuffle(x), x))
    check_twins(find_chance(unread).drawn)
    assert fixed_chance(unread).nodes == unread.nodes


@pytest.mark.parametrize(
    "build",
    [
        lambda x: x * 2,
        lambda x: x + tf.random.stateless_uniform([3], [1, 2]),
        lambda x: raw.FractionalAvgPool(value=x, pooling_ratio=RATIO, deterministic=True, seed=1, seed2=2)[0],
    ],
)
def test_what_draws_nothing_new_is_left(build) -> None:
    graph = traced(build, shape=(None, 9, 9, 3))
    assert find_chance(graph).warning is None
    assert fixed_chance(graph).nodes == graph.nodes


def test_types_are_kept() -> None:
    for kind in (tf.float64, tf.float16):
        graph = traced(lambda x, kind=kind: x + tf.cast(tf.random.uniform([3], dtype=kind), tf.float32))
        assert "StatelessRandomUniform" in ops(fixed_chance(graph))
        assert computed(fixed_chance(graph), pixels())[0].dtype == np.float32
