"""A GraphDef in a file of its own becomes a SavedModel: what is fed and what nothing reads are inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.framework.graph_pb2 import GraphDef

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker import model
from gradviz_cli.worker.read import frozen
from gradviz_cli.worker.read.signatures import choose_input, choose_output, tensors

v1 = tf.compat.v1


def graph(build) -> GraphDef:
    with tf.Graph().as_default() as made:
        build()
    return made.as_graph_def()


def image(name: str = "image") -> tf.Tensor:
    return v1.placeholder(tf.float32, [None, 4, 4, 3], name=name)


def net(ends=()) -> None:
    scores = tf.reduce_mean(tf.nn.relu(image()), [1, 2], name="scores")
    for end in ends:
        end(scores)


def signature(build) -> tuple[dict, dict]:
    (meta,) = frozen.as_saved_model(graph(build)).meta_graphs
    found = meta.signature_def.get("serving_default")
    return (dict(found.inputs), dict(found.outputs)) if found else ({}, {})


def test_what_is_fed_and_what_nothing_reads() -> None:
    inputs, outputs = signature(net)
    assert set(inputs) == {"image"} and [dim.size for dim in inputs["image"].tensor_shape.dim] == [-1, 4, 4, 3]
    assert set(outputs) == {"scores"} and outputs["scores"].dtype == tf.float32.as_datatype_enum


def test_what_does_not_depend_on_it_is_no_output() -> None:
    def build() -> None:
        net()
        tf.constant([1.0], name="left")
        tf.nn.relu(tf.constant([1.0]), name="over")

    assert set(signature(build)[1]) == {"scores"}


def test_a_decision_is_an_output_and_what_it_reads_is_none() -> None:
    _, outputs = signature(lambda: net([lambda scores: tf.argmax(scores, 1, name="best")]))
    assert {key: tf.as_dtype(info.dtype).name for key, info in outputs.items()} == {"best": "int64"}


def test_what_only_waits_does_not_read() -> None:
    def build() -> None:
        net()
        with tf.control_dependencies([v1.get_default_graph().get_operation_by_name("scores")]):
            tf.no_op("all")

    assert set(signature(build)[1]) == {"scores"}


def test_every_output_of_the_last_operation() -> None:
    _, outputs = signature(lambda: net([lambda scores: tf.raw_ops.TopKV2(input=scores, k=2, name="top")]))
    assert {key: tf.as_dtype(info.dtype).name for key, info in outputs.items()} == {"top": "float32", "top:1": "int32"}


def test_several_are_named_in_the_message() -> None:
    def build() -> None:
        image("left"), image("right")
        joined = tf.add(*[tf.Graph.get_tensor_by_name(v1.get_default_graph(), f"{one}:0") for one in ("left", "right")])
        tf.reduce_mean(joined, [1, 2], name="first"), tf.reduce_max(joined, [1, 2], name="second")

    inputs, outputs = signature(build)
    with pytest.raises(UsageError, match="left .*, right .*--input NAME"):
        choose_input(tensors(inputs), None)
    with pytest.raises(UsageError, match="first .*, second .*--output NAME"):
        choose_output(tensors(outputs), None)
    assert choose_output(tensors(outputs), "second").name == "second:0"


def test_a_value_with_a_default_is_no_input_beside_an_image() -> None:
    def build() -> None:
        rate = v1.placeholder_with_default(1.0, [], name="keep")
        tf.reduce_mean(tf.nn.relu(image()) * rate, [1, 2], name="scores")

    assert set(signature(build)[0]) == {"image"}


def test_an_old_graph_says_a_scalar_where_it_means_anything() -> None:
    old = graph(lambda: tf.nn.relu(v1.placeholder(tf.float32, name="x"), name="y"))
    (node,) = [node for node in old.node if node.op == "Placeholder"]
    node.attr["shape"].shape.Clear()
    for producer, unknown in ((21, True), (26, False)):
        old.versions.producer = producer
        (meta,) = frozen.as_saved_model(old).meta_graphs
        assert meta.signature_def["serving_default"].inputs["x"].tensor_shape.unknown_rank is unknown


def test_nothing_goes_in_or_comes_out() -> None:
    assert signature(lambda: tf.constant(1.0)) == ({}, {})


@pytest.mark.parametrize(
    "write", [lambda one: one.SerializeToString(), lambda one: text_format.MessageToString(one).encode()]
)
def test_binary_or_text(tmp_path: Path, write) -> None:
    (tmp_path / "frozen").write_bytes(write(graph(net)))
    opened = model.open_folder(ModelOptions(str(tmp_path / "frozen")))
    assert list(opened.meta.signature_def) == ["serving_default"]


@pytest.mark.parametrize("data", [b"\n\xff\xff\xff\xff\x0f", b"node {", b"node { op: 3 }", b"# nothing\n\xff"])
def test_what_is_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "frozen").write_bytes(data)
    with pytest.raises(ModelUnusable, match="frozen is damaged or not a graph"):
        frozen.read(tmp_path / "frozen")


def test_a_variable_without_a_value_is_said(tmp_path: Path) -> None:
    def build() -> None:
        weight = v1.get_variable("w", [3], use_resource=False)
        tf.reduce_mean(tf.nn.relu(image() * weight), [1, 2], name="scores")

    (tmp_path / "graph.pb").write_bytes(graph(build).SerializeToString())
    with pytest.raises(
        ModelUnusable, match="graph.pb is a graph that is not frozen: it has no value for the variable w"
    ):
        model.prepare(ModelOptions(str(tmp_path / "graph.pb"), preprocess="raw"))
