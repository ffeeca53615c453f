"""Graphs as values: tensors and nodes, who reads whom, order, attributes with their defaults, functions."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import Calls, const, fed, function, node, traced, written
from tensorflow.core.framework.attr_value_pb2 import AttrValue

from gradviz_cli.errors import UsageError
from gradviz_cli.worker.graph import graph as graphs
from gradviz_cli.worker.graph.graph import Circle, GraphError
from gradviz_cli.worker.graph.tf_private import default, op_def

F = tf.float32


@pytest.fixture
def diamond():
    """image -> relu -> (left, right) -> total, and one that nobody reads."""
    return written(
        fed(),
        node("relu", "Relu", "image:0", T=F),
        node("left", "Neg", "relu:0", T=F),
        node("right", "Exp", "relu:0", T=F),
        node("lonely", "Abs", "relu:0", T=F),
        node("total", "AddV2", "left:0", "right:0", T=F),
        feeds={"image:0": "image"},
    )


@pytest.mark.parametrize(
    ("text", "want"),
    [("a", ("a", 0)), ("a/b:3", ("a/b", 3)), ("a:b", ("a:b", 0)), (":1", (":1", 0)), ("a:10", ("a", 10))],
)
def test_split(text, want):
    assert graphs.split(text) == want


def test_a_control_input_has_a_maker_too():
    assert graphs.maker_name("^a/b") == "a/b"
    assert graphs.maker_name("a/b:2") == "a/b"


def test_ancestors_are_all_that_a_tensor_needs(diamond):
    assert graphs.ancestors(diamond.nodes, ["left:0"]) == {"image", "relu", "left"}


def test_descendants_are_all_that_need_a_node(diamond):
    assert graphs.descendants(diamond.nodes, ["left"]) == {"left", "total"}


def test_consumers_count_each_reading():
    nodes = written(fed(), node("square", "Mul", "image:0", "image:0", T=F)).nodes
    assert graphs.consumers(nodes) == {"image": ["square", "square"]}


def test_pruned_keeps_what_is_needed(diamond):
    pruned = diamond.pruned(["left:0"])
    assert set(pruned.nodes) == {"image", "relu", "left"}
    assert pruned.outputs == ("left:0",) and pruned.feeds == {"image:0": "image"}
    assert set(diamond.nodes) > {"total", "lonely"}, "the graph itself stays"


def test_pruned_forgets_values_that_nobody_reads():
    graph = traced(lambda image, a, b: image * a + b, {"a": np.float32(2), "b": np.float32(3)})
    pruned = graph.pruned(["a:0"])
    assert (set(pruned.weights), set(pruned.values)) == ({"a"}, {"variable/a"})


def test_pruned_keeps_functions_that_functions_call():
    inner = function("inner", results=["x:0"], types={"x": F})
    outer = function(
        "outer",
        node("if", "StatelessIf", "x:0", "x:0", then_branch=Calls("inner"), else_branch=Calls("inner")),
        results=["if:0"],
        types={"x": F},
    )
    call = node("call", "StatelessWhile", "image:0", body=Calls("outer"), cond=Calls("outer"))
    graph = written(fed(), call, functions={"inner": inner, "outer": outer, "other": inner})
    assert set(graph.pruned(["call:0"]).functions) == {"inner", "outer"}
    assert set(graph.pruned(["image:0"]).functions) == set()


def test_ops_name_a_node_of_each_kind():
    graph = written(
        fed(), functions={"f": function("f", node("r", "Relu", "x:0", T=F), results=["r:0"], types={"x": F})}
    )
    assert graph.ops() == {"Placeholder": "image", "Relu": "f/r"}


def test_a_node_that_does_not_exist_is_named(diamond):
    with pytest.raises(GraphError, match="nothing"):
        diamond.node("nothing:0")


def test_an_input_that_is_missing_names_the_reader():
    with pytest.raises(GraphError, match=r"node bias \(op BiasAdd\): lacks its input 1"):
        graphs.source(node("bias", "BiasAdd", "image:0"), 1)


def test_what_a_node_waits_for_is_no_input():
    waiting = node("a", "Relu", "^image")
    assert graphs.data_inputs(waiting) == []
    with pytest.raises(GraphError):
        graphs.source(waiting, 0)


def test_an_error_names_the_node_in_a_length_that_fits():
    error = GraphError(node("n" * 1000, "Relu"), "is odd")
    assert len(str(error)) < 300 and "op Relu" in error.place


def test_a_copy_leaves_the_original():
    original = node("a", "Relu", "image:0", T=F)
    copy = graphs.copied(original, "b", ["c:0"])
    copy.attr["T"].type = 2
    assert (original.name, list(original.input), original.attr["T"].type) == ("a", ["image:0"], 1)
    assert (copy.name, list(copy.input), copy.op) == ("b", ["c:0"], "Relu")


def test_an_attribute_that_is_left_out_has_its_default():
    norm = node("norm", "FusedBatchNormV3", T=F)
    assert graphs.attribute(norm, "epsilon").f == pytest.approx(1e-4)
    assert graphs.attribute(norm, "data_format").s == b"NHWC"
    assert graphs.attribute(norm, "is_training").b is True
    assert "epsilon" not in norm.attr, "looking at it must not write it"


def test_an_attribute_that_is_there_counts():
    assert graphs.attribute(node("norm", "FusedBatchNormV3", epsilon=0.5), "epsilon").f == 0.5


def test_an_attribute_without_default_must_be_there():
    with pytest.raises(GraphError, match="lacks its attribute T"):
        graphs.attribute(node("a", "Relu6x"), "T")
    with pytest.raises(GraphError, match="lacks its attribute strides"):
        graphs.attribute(node("a", "Conv2D"), "strides")


def test_defaults_of_unknown_operations():
    assert default("NoSuchOp", "T") is None
    assert op_def("NoSuchOp") is None and op_def("Relu").name == "Relu"


def test_a_constant_without_value_is_named():
    assert graphs.literal(const("c", [1, 2])).tolist() == [1, 2]
    broken = node("c", "Const", dtype=F)
    broken.attr["value"].CopyFrom(AttrValue())
    with pytest.raises(GraphError, match=r"node c \(op Const\)"):
        graphs.literal(broken)


def test_outputs_of_a_node():
    assert graphs.outputs_of(node("s", "Split", num_split=3, T=F)) == [("output", 3)]
    assert graphs.outputs_of(node("i", "IdentityN", T=[F, tf.int32])) == [("output", 2)]
    assert [name for name, _ in graphs.outputs_of(node("b", "FusedBatchNormV3", T=F))][:2] == ["y", "batch_mean"]
    assert graphs.outputs_of(node("x", "NoSuchOp")) is None


@pytest.mark.parametrize(
    ("wanted", "want"),
    [
        ("model/conv/Relu", "model/conv/Relu:0"),
        ("conv/Relu:1", "model/conv/Relu:1"),
        ("Softmax", "Softmax:0"),
        ("x", None),
    ],
)
def test_find_tensor(wanted, want):
    assert graphs.find_tensor(["model/conv/Relu", "model/Relu", "Softmax"], wanted) == want


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("logit", ["logits"]),  # a key of the signature
        ("m/block5/Rleu:0", ["m/block5/Relu:0"]),
        ("blok5/Relu", ["m/block5/Relu:0", "m/block1/Relu:0"]),
        ("Relu", ["m/block1/Relu:0", "m/block5/Relu:0"]),
        ("out/maps", []),
    ],
)
def test_tensors_that_are_near_a_name(wanted, near):
    nodes = ["m/block1/Relu", "m/block5/Relu", "m/block5/Conv2D", "m/dense/BiasAdd"]
    assert graphs.tensors_near(nodes, wanted, ["logits", "features"]) == near


def test_find_tensor_wants_one_name():
    with pytest.raises(UsageError, match="names 2 tensors: a/Relu, b/Relu"):
        graphs.find_tensor(["a/Relu", "b/Relu"], "Relu")


def test_walk_ends_where_the_chain_does():
    assert list(graphs.walk(3, lambda n: n - 1 if n else None)) == [3, 2, 1, 0]


def test_walk_ends_in_a_circle_too():
    assert len(list(graphs.walk(0, lambda n: n, most=7))) == 8


def test_topological_order_puts_what_is_needed_first(diamond):
    order = graphs.topological(graphs.sources_in_order(diamond.nodes))
    for name, one in diamond.nodes.items():
        assert all(order.index(graphs.maker_name(text)) < order.index(name) for text in one.input)
    assert sorted(order) == sorted(diamond.nodes)


def test_a_circle_is_named_by_a_part_of_it():
    sources = {"a": [], "b": ["a", "d"], "c": ["b"], "d": ["c"], "behind": ["d"]}
    with pytest.raises(Circle) as caught:
        graphs.topological(sources)
    assert caught.value.name in {"b", "c", "d"}


def test_a_loop_of_tensorflow_1_is_no_circle():
    nodes = written(
        node("enter", "Enter", "image:0", T=F),
        node("merge", "Merge", "enter:0", "next:0", T=F, N=2),
        node("next", "NextIteration", "merge:0", T=F),
        fed(),
    ).nodes
    assert graphs.topological(graphs.sources_in_order(nodes))


def test_a_function_is_written_as_a_library_holds_it():
    split = node("split", "Split", "axis:0", "x:0", num_split=2, T=F)
    made = function("halves", const("axis", 0, np.int32), split, results=["split:1", "x:0"], types={"x": F})
    definition = made.function_def()
    assert [one.name for one in definition.node_def] == ["axis", "split"]
    assert list(definition.node_def[1].input) == ["axis:output:0", "x"]
    assert dict(definition.ret) == {"result0": "split:output:1", "result1": "x"}


def test_a_function_whose_result_does_not_exist_names_the_node():
    made = function("f", node("relu", "Relu", "x:0", T=F), results=["relu:1"], types={"x": F})
    with pytest.raises(GraphError, match=r"node relu \(op Relu\): has no output 1"):
        made.function_def()


def test_called_by_lists_every_function():
    branch = node("if", "If", then_branch=Calls("a"), else_branch=Calls("b"))
    assert sorted(graphs.called_by(branch)) == ["a", "b"]


def test_marks_are_unique():
    assert graphs.unique_mark() != graphs.unique_mark()


def test_a_reference_placeholder_holds_values():
    assert graphs.placeholder("v", 101).attr["dtype"].type == 1


def test_the_ends_of_a_settled_graph_have_names(diamond):
    graph = written(*diamond.nodes.values(), outputs=("total:0", "left:0", "image:0"))
    assert (graph.score, graph.output, graph.wrt) == ("total:0", "left:0", "image:0")
