"""What a graph must be: each violation is found, and the node is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from graphs import Calls, const, fed, function, node, question, traced, written

from gradviz_cli.worker.graph.graph import Graph, GraphError
from gradviz_cli.worker.graph.verify import verify

F = tf.float32
FINE = function("f", node("r", "Relu", "x:0", T=F), results=["r:0"], types={"x": F})


def branch(name: str = "f"):
    attributes = {"Tcond": tf.bool, "Tin": [F], "Tout": [F], "then_branch": Calls(name), "else_branch": Calls(name)}
    return node("if", "StatelessIf", "yes:0", "image:0", **attributes)


def whole() -> Graph:
    yes = const("yes", True, np.bool_)
    return written(fed(), yes, branch(), functions={"f": FINE}, feeds={"image:0": "image"})


def with_function(*nodes, results=("r:0",)) -> Graph:
    return replace(whole(), functions={"f": function("f", *nodes, results=results, types={"x": F})})


RELU = node("relu", "Relu", "image:0", T=F)
BROKEN = {
    "an input that does not exist": (written(RELU), "node relu", "reads image:0"),
    "an output that its operation has not": (
        written(fed(), node("r", "Relu", "image:1", T=F)),
        "node image",
        "has no output 1, which r reads",
    ),
    "an input too few": (written(fed(), node("b", "BiasAdd", "image:0", T=F)), "node b", "takes 2"),
    "an input too many": (written(fed(), node("r", "Relu", "image:0", "image:0", T=F)), "node r", "takes 1"),
    "as many as its attribute says": (
        written(fed(), node("p", "Pack", "image:0", N=2, T=F)),
        "node p",
        "has 1 inputs, its operation takes 2",
    ),
    "a value after a control input": (
        written(fed(), node("r", "Relu", "^image", "image:0", T=F)),
        "node r",
        "waits for",
    ),
    "a control input that does not exist": (written(fed(), node("r", "Relu", "image:0", "^a", T=F)), "node a", "exist"),
    "a type that is missing": (written(fed(), node("r", "Relu", "image:0")), "node r", "lacks its attribute T"),
    "an attribute that must be there": (
        written(fed(), node("c", "Cast", "image:0", SrcT=F)),
        "node c",
        "lacks its attribute DstT",
    ),
    "an attribute of another kind": (written(fed(), node("r", "Relu", "image:0", T=3)), "node r", "has a i as T"),
    "a function that does not exist": (replace(whole(), functions={}), "node if", "calls a function f"),
    "an output that does not exist": (written(fed(), outputs=["score:0"]), "node score", "does not exist"),
    "an output beyond its node": (written(fed(), RELU, outputs=["relu:3"]), "node relu", "has no output 3"),
    "a circle": (
        written(node("a", "Relu", "b:0", T=F), node("b", "Relu", "a:0", T=F)),
        "node",
        "depends on itself",
    ),
    "a node under another name": (Graph({"a": fed("b")}), "node b", "is kept under the name a"),
    "a weight that is no placeholder": (written(fed(), RELU, weights={"relu": "v"}), "node relu", "no placeholder"),
    "a weight that does not exist": (written(fed(), weights={"w": "v"}), "node w", "does not exist"),
    "a weight without value": (
        written(fed("w"), weights={"w": "v"}, values={"other": tf.constant(1.0)}),
        "node w",
        "has no value",
    ),
    "a function that reads what is outside": (
        with_function(node("r", "Relu", "image:0", T=F)),
        "node f/r",
        "reads image:0",
    ),
    "a result that does not exist": (with_function(results=["r:0"]), "node f/r", "does not exist"),
    "an index beyond a node in a function": (
        with_function(node("r", "Relu", "x:2", T=F)),
        "node f/x",
        "has no output 2",
    ),
    "a circle in a function": (with_function(node("r", "Relu", "r:0", T=F)), "node f/r", "depends on itself"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(name):
    graph, place, what = BROKEN[name]
    with pytest.raises(GraphError) as caught:
        verify(graph)
    assert caught.value.place.startswith(place), caught.value
    assert what in caught.value.what


def test_a_whole_graph_passes():
    verify(whole())
    verify(traced(lambda image, w: tf.nn.relu(tf.nn.conv2d(image, w, 1, "SAME")), {"w": np.zeros((1, 1, 3, 4), "f")}))


def test_attributes_that_equal_their_default_may_be_left_out():
    verify(written(fed(), node("r", "LeakyRelu", "image:0")))


def test_unknown_operations_are_the_policys():
    verify(written(fed(), node("x", "NoSuchOp", "image:0", "image:0")))


def test_once_the_question_is_settled_placeholders_are_fed():
    graph = written(
        fed(), fed("rate", shape=()), node("m", "Mul", "image:0", "rate:0", T=F), feeds={"image:0": "image"}
    )
    verify(graph)
    with pytest.raises(GraphError, match="node rate .*: is fed by nobody"):
        verify(graph, question())
    verify(replace(graph, feeds={**graph.feeds, "rate:0": "rate"}), question())
    verify(replace(graph, weights={"rate": "v"}), question())


def test_the_image_is_fed():
    with pytest.raises(GraphError, match="node image: is the image and is not fed"):
        verify(written(fed()), question())


def test_a_loop_of_tensorflow_1_passes():
    verify(
        written(
            fed(shape=()),
            node("enter", "Enter", "image:0", T=F, frame_name="f"),
            node("merge", "Merge", "enter:0", "next:0", T=F, N=2),
            node("next", "NextIteration", "merge:0", T=F),
        )
    )
