"""Lets a number be rounded alike wherever it stands in a batch.

TensorFlow computes exp, tanh, rsqrt and their like in vectors of up to 16 numbers, and what is left over at the end of a
tensor one by one, by another formula: the last bit differs. Where the numbers of an image are no multiple of 16, which of
them are left over depends on the images beside it. Filled up to a multiple, none are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, attribute, copied, source
from gradviz_cli.worker.graph.question import Question, static_tensors

VECTOR = 16
# Of one number each, and not exact to the last bit.
ROUNDED = frozenset(
    {
        *("Exp", "Expm1", "Log", "Log1p", "Sigmoid", "Tanh", "Softplus", "Elu", "Selu", "Erf", "Erfc"),
        *("Rsqrt", "Sqrt", "Reciprocal", "Inv", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Asinh", "Acosh", "Atan", "Atanh"),
    }
)
# Of the numbers along the last axis.
BY_ROWS = frozenset({"Softmax", "LogSoftmax"})


def whole_vectors(graph: Graph, question: Question) -> Graph:
    """The graph in which such operations see whole vectors for each image; untouched where shapes do not tell."""
    names = sorted(name for name in question.path(graph) if graph.nodes[name].op in ROUNDED | BY_ROWS)
    nodes = dict(graph.nodes)
    if names:
        for name, tensor in zip(names, static_tensors(graph, *[f"{name}:0" for name in names]), strict=True):
            shape = tensor.shape.as_list() if tensor.shape.rank else None
            if shape and None not in shape[1:]:
                for node in _filled(nodes[name], shape[1:]):
                    nodes[node.name] = node
    return replace(graph, nodes=nodes)


def _filled(node: NodeDef, sizes: list[int]) -> Iterable[NodeDef]:
    """The node and what stands around it now; its name is that of the last, which gives what it gave."""
    rows = sizes[-1] if node.op in BY_ROWS else 1
    count = math.prod(sizes) // rows if rows else 0
    missing = -count % VECTOR
    if not count or not missing:
        return []
    kind, name = attribute(node, "T").type, f"{node.name}/gradviz_vector"
    inner = [rows] if node.op in BY_ROWS else []
    flat = _constant(f"{name}/flat", [-1, count, *inner])
    back = _constant(f"{name}/back", [-1, *sizes])
    ends = _constant(f"{name}/ends", [[0, 0], [0, missing], *[[0, 0]] * len(inner)])
    start = _constant(f"{name}/start", [0] * (2 + len(inner)))
    size = _constant(f"{name}/size", [-1, count, *inner])
    one = NodeDef(name=f"{name}/one", op="Const")
    one.attr["dtype"].type = kind
    one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1, tf.dtypes.as_dtype(kind)))
    shaped = _typed(f"{name}/shaped", "Reshape", kind, "Tshape", source(node, 0), f"{flat.name}:0")
    padded = _typed(f"{name}/padded", "PadV2", kind, "Tpaddings", f"{shaped.name}:0", f"{ends.name}:0", f"{one.name}:0")
    applied = copied(node, name, [f"{padded.name}:0"])
    cut = _typed(f"{name}/cut", "Slice", kind, "Index", f"{name}:0", f"{start.name}:0", f"{size.name}:0")
    whole = _typed(node.name, "Reshape", kind, "Tshape", f"{cut.name}:0", f"{back.name}:0")
    return [flat, back, ends, start, size, one, shaped, padded, applied, cut, whole]


def _constant(name: str, value: object) -> NodeDef:
    node = NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.int32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.asarray(value, np.int32)))
    return node


def _typed(name: str, op: str, kind: int, index: str, *inputs: str) -> NodeDef:
    node = NodeDef(name=name, op=op, input=inputs)
    node.attr["T"].type = kind
    node.attr[index].type = tf.int32.as_datatype_enum
    return node
