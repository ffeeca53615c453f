"""The one file that names TensorFlow's private modules, each with the reason and what is lost without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.protobuf.config_pb2 import ConfigProto

# What needs TensorFlow's own library is imported where it is called: all of this room can be imported while that library is
# still being loaded (`tf_names.install`).


def frozen(function: Any) -> Any:
    """A concrete function with its variables turned into constants; loops and branches stay functions."""
    # The public door to it is that of TensorFlow Lite, whose converter comes along. Without it a file of Keras could not
    # be taken for a model. Imported here, as most models have a graph.
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function, lower_control_flow=False)


def op_def(op: str) -> OpDef | None:
    """The definition of a registered operation, None when this TensorFlow knows none of that name."""
    return _registry().get(op)


@cache
def _registry() -> Any:
    # The registry of operations has no public Python door. Needed to translate "node:output_name:i", the way function
    # bodies name tensors, into the "node:i" of a graph, and for the attributes that saved graphs leave out: without it no
    # function could be inlined, and a batch norm whose epsilon is the default would divide by the bare variance.
    from tensorflow.python.framework import op_def_registry

    return op_def_registry


def import_nodes(
    built: GraphDef, mapped: Mapping[str, Any] | None = None, wanted: Sequence[str] | None = None, name: str = ""
) -> list[Any]:
    """`tf.graph_util.import_graph_def` of nodes that name no device and no neighbour, as ours do: the tensors that are `wanted`.
    Raises as that does."""
    with _importing(None):
        found: list[Any] = _importer().import_graph_def(built, mapped, wanted, name=name)
        return found


def import_static(built: GraphDef, tensors: Sequence[str]) -> list[Any]:
    """The same, in a graph of their own, of tensors "node:i" that are asked for types and shapes alone."""
    with tf.Graph().as_default(), _importing({name.rpartition(":")[0] for name in tensors}):
        found: list[Any] = _importer().import_graph_def(built, None, list(tensors), name="")
        return found


@contextmanager
def _importing(only: Collection[str] | None) -> Iterator[None]:
    """What this thread imports inside is ours, and Python sees these nodes of it, or all."""
    _ours.here, _ours.only = True, only
    try:
        yield
    finally:
        _ours.here = False


_ours = threading.local()


@cache
def _importer() -> Any:
    # Of each node that it imports TensorFlow asks where it is to run, and beside which, and to hear that nothing is said of
    # it takes half of the time; most of the rest is an object of Python for each, which no shape needs. There is no public way
    # to leave that out: without it a large model is read a few percent slower. Other threads import as ever; TensorFlow's
    # own run of a model does, at the same time.
    from tensorflow.python.framework import importer

    whole = getattr(importer, "_ProcessNewOps", None)
    parts = ("_add_new_tf_operations", "_create_op_from_tf_operation", "new_operations")
    if whole is None or not all(hasattr(tf.Graph, part) for part in parts):
        return importer
    from tensorflow.python.client.pywrap_tf_session import TF_OperationName

    def made(graph: Any) -> None:
        if not getattr(_ours, "here", False):
            whole(graph)
        elif _ours.only is None:
            graph._add_new_tf_operations(compute_devices=False)
        else:
            for operation in graph.new_operations():
                if TF_OperationName(operation) in _ours.only:
                    graph._create_op_from_tf_operation(operation, compute_device=False)

    importer._ProcessNewOps = made
    return importer


@cache
def default(op: str, attribute: str) -> AttrValue | None:
    """What an attribute of an operation is where a graph leaves it out; None where it must be said."""
    definition = op_def(op)
    for declared in definition.attr if definition is not None else ():
        if declared.name == attribute and declared.HasField("default_value"):
            return declared.default_value
    return None


def allow_races() -> None:
    """Undo `tf.config.experimental.enable_op_determinism`."""
    # There is no public way back, and it is asked first. Without it a model with an operation that can only add in any order
    # would have no map on a GPU.
    from tensorflow.python.framework import config

    config.disable_op_determinism()


def native_gradient(op: str) -> Callable:
    """TensorFlow's own gradient of an operation: a function of the operation and the gradients of its outputs."""
    # By the name of the operation: without them nothing could be held against a mark.
    from tensorflow.python.framework.ops import gradient_registry

    return gradient_registry.lookup(op)


@cache
def _eager() -> Any:
    # The functions of an imported graph are not made known to the runtime by the importer, so a loop that no gradient
    # passes (a decoder of strings) would call into nothing. A function that is written rather than traced is called here too,
    # and each thread says here how what it calls is optimized; the public door to both is one setting for the whole process.
    from tensorflow.python.eager import context

    return context


def make_known(function: FunctionDef) -> None:
    """Let graphs that run call this function."""
    _eager().context().add_function_def(function)


def forget(name: str) -> None:
    """Let go of a function that was made known."""
    _eager().context().remove_function(name)


def call(name: str, inputs: Sequence[Any]) -> Any:
    """The one result of a function that was made known."""
    (found,) = _eager().context().call_function(name.encode(), list(inputs), 1)
    return found


def handle_of(value: Any) -> Any:
    """The handle of a variable with this value, which is not copied; it goes when the handle does."""
    handle = tf.raw_ops.VarHandleOp(
        dtype=value.dtype, shape=tf.TensorShape(None), shared_name=_eager().anonymous_name(), container=""
    )
    tf.raw_ops.AssignVariableOp(resource=handle, value=value)
    return handle


@contextmanager
def as_written() -> Iterator[None]:
    """Functions that this thread calls inside for the first time run as they are written: TensorFlow does not rewrite them,
    which takes long for a few images."""
    here = _eager().context()
    usual = here.function_call_options
    config = ConfigProto.FromString(usual.config_proto_serialized)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    here.function_call_options = _eager().FunctionCallOptions(config_proto=config)
    try:
        yield
    finally:
        here.function_call_options = usual
