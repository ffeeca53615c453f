"""Calls inlined, branches that constants decide resolved, weights remembered; hand-made meta graphs."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import Calls, computed, const, fed, function, node, ops, pixels
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.errors import ModelRefused, ModelUnusable
from gradviz_cli.worker.graph.graph import Function, GraphError
from gradviz_cli.worker.graph.verify import verify
from gradviz_cli.worker.passes.own_gradients import own_gradients
from gradviz_cli.worker.read.frames import Frames
from gradviz_cli.worker.read.inline import inline

F = tf.float32
FEEDS = {"image:0": F.as_datatype_enum}


def meta(*nodes, functions: tuple[Function, ...] = ()) -> MetaGraphDef:
    made = MetaGraphDef()
    made.graph_def.node.extend(nodes)
    made.graph_def.library.function.extend(one.function_def() for one in functions)
    return made


def call(name: str, to: str, *inputs: str, op: str = "PartitionedCall"):
    return node(name, op, *inputs, f=Calls(to), Tin=[F], Tout=[F])


TWICE = function("twice", node("sum", "AddV2", "x:0", "x:0", T=F), results=["sum:0"], types={"x": F})


def inlined(made: MetaGraphDef, *tensors: str):
    graph = inline(made, tensors, FEEDS)
    verify(graph)
    return graph


@pytest.mark.parametrize("op", ["PartitionedCall", "StatefulPartitionedCall"])
def test_a_call_is_replaced_by_what_it_calls(op):
    graph = inlined(meta(fed(), call("layer", "twice", "image", op=op), functions=(TWICE,)), "layer:0")
    assert ops(graph) == ["AddV2", "Placeholder"] and graph.outputs == ("layer/sum:0",)
    np.testing.assert_array_equal(computed(graph, pixels())[0], 2 * pixels())


def test_a_function_called_by_its_name_is_a_call_too():
    graph = inlined(meta(fed(), node("layer", "twice", "image"), functions=(TWICE,)), "layer:0")
    assert graph.outputs == ("layer/sum:0",)


def test_generated_names_of_calls_say_nothing():
    made = meta(fed(), call("StatefulPartitionedCall_1", "twice", "image"), functions=(TWICE,))
    assert inlined(made, "StatefulPartitionedCall_1:0").outputs == ("sum:0",)


def test_a_function_called_twice_is_written_twice():
    made = meta(fed(), call("a", "twice", "image"), call("b", "twice", "a"), functions=(TWICE,))
    graph = inlined(made, "b:0")
    assert set(graph.nodes) == {"image", "a/sum", "b/sum"}
    np.testing.assert_array_equal(computed(graph, pixels())[0], 4 * pixels())


def test_calls_in_calls():
    outer = function("outer", call("inner", "twice", "x:0"), results=["inner:0"], types={"x": F})
    graph = inlined(meta(fed(), call("a", "outer", "image"), functions=(outer, TWICE)), "a:0")
    assert graph.outputs == ("a/inner/sum:0",)


def test_an_attribute_that_a_function_leaves_open_is_filled_in():
    loose = TWICE.function_def()
    loose.node_def[0].attr["T"].placeholder = "Kind"
    made = meta(fed(), call("a", "twice", "image"))
    made.graph_def.library.function.append(loose)
    made.graph_def.node[1].attr["f"].func.attr["Kind"].type = F.as_datatype_enum
    assert inlined(made, "a:0").nodes["a/sum"].attr["T"].type == F.as_datatype_enum
    del made.graph_def.node[1].attr["f"].func.attr["Kind"]
    with pytest.raises(ModelUnusable, match="a/sum leaves its attribute T open"):
        inline(made, ["a:0"], FEEDS)


NEGATED = function("negated", node("neg", "Neg", "x:0", T=F), results=["neg:0"], types={"x": F})


def branch(predicate: str):
    attributes = {"Tcond": tf.bool, "Tin": [F], "Tout": [F]}
    return node("if", "If", predicate, "image", then_branch=Calls("twice"), else_branch=Calls("negated"), **attributes)


@pytest.mark.parametrize(("value", "want"), [(True, "if/sum:0"), (False, "if/neg:0")])
def test_a_branch_that_a_constant_decides_is_resolved(value, want):
    made = meta(fed(), const("c", value, bool), branch("c"), functions=(TWICE, NEGATED))
    assert inlined(made, "if:0").outputs == (want,)


@pytest.mark.parametrize(
    ("op", "values", "want"),
    [
        ("LogicalNot", [False], "if/sum:0"),
        ("LogicalAnd", [True, False], "if/neg:0"),
        ("LogicalOr", [False, True], "if/sum:0"),
    ],
)
def test_constants_are_combined(op, values, want):
    names = [f"c{place}" for place, _ in enumerate(values)]
    constants = [const(name, value, bool) for name, value in zip(names, values, strict=True)]
    made = meta(fed(), *constants, node("p", op, *names), branch("p"), functions=(TWICE, NEGATED))
    assert inlined(made, "if:0").outputs == (want,)


def test_a_branch_on_data_keeps_its_functions_under_names_of_their_own():
    made = meta(fed(), fed("yes", tf.bool, ()), branch("yes"), functions=(TWICE, NEGATED))
    graph = inlined(made, "if:0")
    called = graph.nodes["if"].attr["then_branch"].func.name
    assert called in graph.functions and called != "twice"
    assert called not in inlined(made, "if:0").functions, "each graph has its own"


def test_calls_in_kept_functions_are_inlined():
    outer = function("twice", call("inner", "negated", "x:0"), results=["inner:0"], types={"x": F})
    graph = inlined(meta(fed(), fed("yes", tf.bool, ()), branch("yes"), functions=(outer, NEGATED)), "if:0")
    assert not {"PartitionedCall"} & set(graph.ops())


def test_a_switch_that_a_constant_decides_is_resolved():
    made = meta(
        fed(),
        const("c", True, bool),
        node("switch", "Switch", "image", "c", T=F),
        node("yes", "Relu", "switch:1", T=F),
        node("no", "Neg", "switch", T=F),
        node("merge", "Merge", "no", "yes", T=F, N=2),
    )
    graph = inlined(made, "merge:0")
    assert graph.outputs == ("yes:0",) and ops(graph) == ["Placeholder", "Relu"]


def test_variables_become_placeholders_that_remember_them():
    made = meta(
        fed(),
        node("kernel", "VarHandleOp", dtype=F, shape=tf.TensorShape([3])),
        node("read", "ReadVariableOp", "kernel", dtype=F),
        node("old", "VariableV2", dtype=F, shape=tf.TensorShape([3])),
        node("product", "Mul", "image", "read", T=F),
        node("sum", "AddV2", "product", "old", T=F),
    )
    graph = inlined(made, "sum:0")
    assert graph.weights == {"read": "kernel", "old": "old"} and not graph.handles
    assert [dim.size for dim in graph.nodes["read"].attr["shape"].shape.dim] == [3]


def test_a_variable_that_is_needed_itself_is_a_handle():
    made = meta(
        fed("image", tf.int32),
        node("table", "VarHandleOp", dtype=F, shape=tf.TensorShape([3])),
        node("rows", "ResourceGather", "table", "image", dtype=F, Tindices=tf.int32),
    )
    graph = inline(made, ["rows:0"], {"image:0": tf.int32.as_datatype_enum})
    assert graph.handles == {"table": "table"} and not graph.weights


def test_marks_of_runtimes_and_control_inputs_are_dropped():
    relu = node("relu", "Relu", "image", "^side", T=F, _class="loc:@x", _XlaScope="x")
    graph = inlined(meta(fed(), const("side", 1.0), relu), "relu:0")
    assert list(graph.nodes["relu"].input) == ["image:0"] and set(graph.nodes["relu"].attr) == {"T"}
    assert "side" not in graph.nodes


def test_a_gradient_of_the_models_own_is_counted():
    wrapped = node("wrap", "IdentityN", "image", T=[F], _gradient_op_type="CustomGradient-1")
    graph = inlined(meta(fed(), wrapped, node("r", "Relu", "wrap", T=F)), "r:0")
    assert graph.custom_gradients == 1 and ops(graph) == ["IdentityN", "Placeholder", "Relu"]
    settled = own_gradients(graph)
    assert settled.custom_gradients == 1 and ops(settled) == ["Identity", "Placeholder", "Relu"]


def test_what_lies_before_a_feed_is_dropped():
    made = meta(fed("before"), node("image", "Neg", "before", T=F), node("r", "Relu", "image", T=F))
    graph = inlined(made, "r:0")
    assert set(graph.nodes) == {"image", "r"} and graph.feeds == {"image:0": "image"}


BROKEN = {
    "a tensor that no node makes": (meta(node("r", "Relu", "x", T=F)), "names a tensor x that no node makes"),
    "a function that the file lacks": (meta(fed(), call("r", "other", "image")), "calls a function other"),
    "a call that lacks an argument": (meta(fed(), call("r", "twice"), functions=(TWICE,)), "lacks its argument x"),
    "a result that is not there": (
        meta(fed(), call("c", "twice", "image"), node("r", "Relu", "c:1", T=F), functions=(TWICE,)),
        "is read at output 1",
    ),
    "a circle": (meta(node("r", "Relu", "s", T=F), node("s", "Relu", "r", T=F)), "depends on itself"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_contradicts_itself_is_named(name):
    made, words = BROKEN[name]
    with pytest.raises(ModelUnusable, match=words):
        inline(made, ["r:0"], FEEDS)


def test_a_missing_input_names_its_node():
    made = meta(fed(), node("handle", "VarHandleOp", dtype=F), node("r", "ReadVariableOp", dtype=F))
    with pytest.raises(GraphError, match=r"node r \(op ReadVariableOp\): lacks its input 0"):
        inline(made, ["r:0"], FEEDS)


def test_functions_that_call_themselves_are_refused():
    loop = function("loop", call("again", "loop", "x:0"), results=["again:0"], types={"x": F})
    with pytest.raises(ModelRefused, match="1000 deep"):
        inline(meta(fed(), call("r", "loop", "image"), functions=(loop,)), ["r:0"], FEEDS)


def test_outputs_of_functions_are_named_or_numbered():
    frames = Frames({})
    top = frames.top({})
    split = node("s", "Split", num_split=3, T=F)
    assert [frames.index(top, split, text) for text in ("s", "s:2", "s:output:1", "s:output")] == [0, 2, 1, 0]
    with pytest.raises(ModelUnusable, match="has no output other"):
        frames.index(top, split, "s:other:0")


def test_a_tensor_is_followed_once():
    frames = Frames({"twice": TWICE.function_def()})
    top = frames.top({one.name: one for one in (fed(), call("a", "twice", "image"))})
    first, second = frames.resolve(top, "a"), frames.resolve(top, "a")
    assert first is second and first[1].name == "sum" and len(frames.alive) == 2
