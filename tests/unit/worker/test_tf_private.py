"""What is asked of TensorFlow's private modules."""

from __future__ import annotations

import threading

import pytest
import tensorflow as tf
from tensorflow.python.framework import importer

from gradviz_cli.worker.graph import tf_private
from gradviz_cli.worker.graph.tf_private import import_nodes, import_static


def written() -> tf.compat.v1.GraphDef:
    """A product beside a constant that names a device and a neighbour."""
    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [None, 4], "image")
        with tf.device("/device:CPU:1"):
            weight = tf.constant([[1.0]] * 4, name="weight")
        with tf.compat.v1.colocate_with(weight.op):
            tf.matmul(image, weight, name="score")
    return graph.as_graph_def()


def plain() -> tf.compat.v1.GraphDef:
    """The same as `inline` leaves it."""
    built = written()
    for node in built.node:
        node.device = ""
        node.attr.pop("_class", None)
    return built


def imported(function, built) -> tf.compat.v1.GraphDef:
    with tf.Graph().as_default() as graph:
        function(built, name="")
    return graph.as_graph_def()


def test_nodes_that_name_no_device_are_imported_as_ever():
    assert imported(import_nodes, plain()) == imported(tf.graph_util.import_graph_def, plain())


def test_what_is_wanted_is_given_and_what_is_mapped_is_taken():
    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [3, 4], "other")
        (score,) = import_nodes(plain(), {"image:0": image}, ["score:0"], "ours")
        assert (score.name, score.shape.as_list()) == ("ours/score:0", [3, 1])
        assert score.op.inputs[0] is image
        assert [op.name for op in graph.get_operations()] == ["other", "ours/image", "ours/weight", "ours/score"]


def test_a_graph_that_is_wrong_is_refused_as_ever_and_the_next_one_is_imported():
    built = plain()
    built.node[-1].input[0] = "nobody"
    with pytest.raises(ValueError, match="nobody"), tf.Graph().as_default():
        import_nodes(built)
    assert imported(tf.graph_util.import_graph_def, written()) == usual()


def usual() -> tf.compat.v1.GraphDef:
    """What TensorFlow makes of devices and neighbours: the one of the neighbour."""
    built = written()
    for node in built.node:
        node.device = "/device:CPU:1" if node.name in ("weight", "score") else ""
    return built


def test_other_threads_import_as_ever_meanwhile(monkeypatch):
    inside, done, found = threading.Event(), threading.Event(), []
    add = tf.Graph._add_new_tf_operations

    def waiting(graph, compute_devices=True):
        if threading.current_thread() is not other:
            inside.set()
            assert done.wait(20)
        return add(graph, compute_devices)

    def meanwhile():
        assert inside.wait(20)
        found.append(imported(tf.graph_util.import_graph_def, written()))
        done.set()

    monkeypatch.setattr(tf.Graph, "_add_new_tf_operations", waiting)
    other = threading.Thread(target=meanwhile)
    other.start()
    imported(import_nodes, plain())
    other.join()
    assert found == [usual()]


def test_types_and_shapes_are_those_of_the_whole_graph_and_python_sees_no_other_node():
    wanted = ["score:0", "image:0"]
    with tf.Graph().as_default():
        whole = import_nodes(plain(), wanted=wanted)
    found = import_static(plain(), wanted)
    assert [(one.name, one.dtype, one.shape.as_list()) for one in found] == [
        (one.name, one.dtype, one.shape.as_list()) for one in whole
    ]
    assert sorted(op.name for op in found[0].graph.get_operations()) == ["image", "score"]
    assert imported(import_nodes, plain()) == imported(tf.graph_util.import_graph_def, plain())  # all of the next one


def test_a_tensor_that_is_not_there_is_refused_and_so_is_a_graph_that_is_wrong():
    with pytest.raises(ValueError, match="nobody"):
        import_static(plain(), ["nobody:0"])
    built = plain()
    built.node[-1].input[0] = "nobody"
    with pytest.raises(ValueError, match="nobody"):
        import_static(built, ["score:0"])


def test_without_what_makes_it_quick_shapes_are_the_same(monkeypatch):
    monkeypatch.setattr(tf_private, "_importer", lambda: importer)
    monkeypatch.setattr(importer, "_ProcessNewOps", lambda graph: graph._add_new_tf_operations())
    (score,) = import_static(plain(), ["score:0"])
    assert score.shape.as_list() == [None, 1]
    assert len(score.graph.get_operations()) == 3


def test_this_release_has_what_makes_it_quick():
    import_nodes(tf.compat.v1.GraphDef())
    assert importer._ProcessNewOps.__module__ == import_nodes.__module__
