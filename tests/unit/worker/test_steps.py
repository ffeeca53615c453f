"""Steps run in order, are checked, and say who failed and where."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tensorflow as tf
from graphs import fed, node, question, written

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.worker import model
from gradviz_cli.worker.graph.graph import GraphError, source
from gradviz_cli.worker.graph.steps import Step, doing, run_steps
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.graph.words import described, first_line
from gradviz_cli.worker.model import STEPS

F = tf.float32
GRAPH = written(fed(), node("relu", "Relu", "image:0", T=F), feeds={"image:0": "image"})
TORN = written(fed(), node("bias", "BiasAdd", "image:0", T=F))


def raising(error: Exception):
    def step(graph, question):
        raise error

    return (Step("explode", step, "to see what is said"),)


def named(name: str):
    return Step(name, lambda graph, question: replace(graph, outputs=(*graph.outputs, name)), "")


def test_steps_run_in_order():
    assert run_steps(GRAPH, question(), [named("a"), named("b")]).outputs == ("relu:0", "a", "b")


def test_each_step_is_checked_with_what_it_left():
    seen = []
    run_steps(GRAPH, question(), [named("a"), named("b")], lambda graph, asked: seen.append(graph.outputs[-1]))
    assert seen == ["a", "b"]


def test_a_step_that_leaves_a_torn_graph_is_named():
    steps = (Step("tear", lambda graph, question: TORN, ""),)
    assert run_steps(GRAPH, None, steps) is TORN, "unchecked"
    with pytest.raises(ModelUnusable) as caught:
        run_steps(GRAPH, None, steps, verify)
    assert "the graph contradicts itself at node bias (op BiasAdd) while running tear: it has 1 inputs" in str(
        caught.value
    )


def test_a_step_that_finds_a_contradiction_names_itself_and_the_node():
    steps = (Step("look", lambda graph, question: source(graph.node("bias:0"), 1), ""),)
    with pytest.raises(ModelUnusable) as caught:
        run_steps(TORN, None, steps)
    message = "the graph contradicts itself at node bias (op BiasAdd) while running look: it lacks its input 1"
    assert caught.value.message == message
    assert "-v" in caught.value.remedy
    assert "GraphError" in caught.value.traceback


@pytest.mark.parametrize("error", [IndexError("list index"), KeyError("T"), RecursionError("deep"), ValueError("odd")])
def test_whatever_fails_at_a_torn_graph_is_the_graphs_fault(error):
    with pytest.raises(ModelUnusable, match="at node bias .* while running explode"):
        run_steps(TORN, None, raising(error))


def test_whatever_fails_at_a_whole_graph_says_what_it_is():
    with pytest.raises(ModelUnusable) as caught:
        run_steps(GRAPH, None, raising(ValueError("shapes differ\nand more")))
    assert caught.value.message == "the graph cannot be built; running explode failed (ValueError: shapes differ)"


def test_errors_of_ours_pass():
    refused = ModelRefused("no", "never")
    with pytest.raises(ModelRefused) as caught:
        run_steps(GRAPH, None, raising(refused))
    assert caught.value is refused


@pytest.mark.parametrize("error", [MemoryError("full"), NameError("name 'x' is not defined")])
def test_what_no_graph_causes_passes(error):
    with pytest.raises(type(error)):
        run_steps(TORN, None, raising(error))


def test_tensorflows_lack_of_memory_is_a_lack_of_memory():
    with pytest.raises(MemoryError), doing("computing"):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")


def test_what_is_done_outside_of_steps_is_named_too():
    with pytest.raises(ModelUnusable, match="at node a while reading the graph: it is odd"), doing("reading the graph"):
        raise GraphError("a", "is odd")


def test_every_step_has_a_name_and_a_reason():
    parts = [steps for name, steps in vars(model).items() if name.endswith("_STEPS") and name != "OPTIONAL_STEPS"]
    assert len(parts) > 1 and all(len(steps) for steps in parts)
    assert len({step.name for step in STEPS}) == len(STEPS) == sum(map(len, parts))  # none is left out
    for step in STEPS:
        assert len(step.why.split()) > 5 and len(step.why) < 100, step.name


def test_an_error_in_a_line():
    error = ValueError("\n  {{function_node f}} first [Op:Conv2D]\nsecond")
    assert first_line(error) == "first"
    assert described(error) == "ValueError: first"
    assert described(KeyError()) == "KeyError"
