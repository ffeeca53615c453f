"""Half precision becomes float32.

Two correct programs that round every step to 8 or 11 bits differ by a hundredth, and small gradients vanish, so no
single one is right. In float32 there is one gradient, that of the weights as they are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DT_BFLOAT16, DT_FLOAT, DT_HALF

from gradviz_cli.worker.graph.graph import Function, Graph, attribute, copied
from gradviz_cli.worker.graph.question import Question

HALVES = frozenset({DT_HALF, DT_BFLOAT16})
# These read the bytes of a number, so its width is part of their meaning.
BYTEWISE = frozenset({"Bitcast", "DecodeRaw", "DecodePaddedRaw", "ParseTensor"})


def float32(graph: Graph, question: Question | None = None) -> Graph:
    """The graph computed in float32 where it was written for float16 or bfloat16."""
    everything = [
        *graph.nodes.values(),
        *(node for function in graph.functions.values() for node in function.nodes.values()),
    ]
    narrow = [node for node in everything if any(map(_has_half, node.attr.values()))]
    if not narrow or any(node.op in BYTEWISE for node in narrow):
        return graph
    return replace(
        graph,
        nodes=_widened(graph.nodes),
        functions={name: _widened_function(function) for name, function in graph.functions.items()},
    )


def _has_half(value: AttrValue) -> bool:
    return bool(
        value.type in HALVES
        or value.tensor.dtype in HALVES
        or HALVES.intersection(value.list.type)
        or any(map(_has_half, value.func.attr.values()))
    )


def _widened(nodes: Mapping[str, NodeDef]) -> dict[str, NodeDef]:
    return {name: _widened_node(node) for name, node in nodes.items()}


def _widened_node(node: NodeDef) -> NodeDef:
    if not any(map(_has_half, node.attr.values())):
        return node
    copy = copied(node)
    for value in copy.attr.values():
        _widen(value)
    return copy


def widen(graph: GraphDef) -> None:
    """The same for a graph that still calls functions; in place, and not where numbers are read byte by byte."""
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    if any(node.op in BYTEWISE for node in nodes):
        return
    for node in nodes:
        for value in node.attr.values():
            _widen(value)
    for function in graph.library.function:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            argument.type = DT_FLOAT if argument.type in HALVES else argument.type


def _widen(value: AttrValue) -> None:
    if value.type in HALVES:
        value.type = DT_FLOAT
    elif value.tensor.dtype in HALVES:
        value.tensor.CopyFrom(_wide(value.tensor))
    elif HALVES.intersection(value.list.type):
        value.list.type[:] = [DT_FLOAT if one in HALVES else one for one in value.list.type]
    for inner in value.func.attr.values():
        _widen(inner)


def _wide(tensor: TensorProto) -> TensorProto:
    if len(tensor.half_val) == 1:  # one value for the whole shape, however large
        single = TensorProto(dtype=tensor.dtype, half_val=tensor.half_val)
        value = float(tf.make_ndarray(single))
        return TensorProto(dtype=DT_FLOAT, tensor_shape=tensor.tensor_shape, float_val=[value])
    wide = tf.make_ndarray(tensor).astype("float32")
    return tf.make_tensor_proto(wide, shape=wide.shape)


def _widened_function(function: Function) -> Function:
    signature = OpDef()
    signature.CopyFrom(function.signature)
    for argument in (*signature.input_arg, *signature.output_arg):
        argument.type = DT_FLOAT if argument.type in HALVES else argument.type
    return replace(function, signature=signature, nodes=_widened(function.nodes))


def values(graph: Graph, question: Question | None = None) -> Graph:
    """The graph whose variables have their values in the types in which it reads them."""
    types = {variable: attribute(graph.node(name), "dtype").type for name, variable in graph.weights.items()}
    for variable in graph.handles.values():
        if graph.values[variable].dtype.as_datatype_enum in HALVES:
            types.setdefault(variable, DT_FLOAT)
    cast = {name: tf.cast(value, types.get(name, value.dtype)) for name, value in graph.values.items()}
    return replace(graph, values=cast)
