"""Keeps graphs away from kernels of oneDNN that are known to corrupt the heap, with equal numbers.

The input gradient of a 1x1 convolution with a stride of 2 or more and fewer than 16 input channels kills the process on
TensorFlow 2.18 to 2.21 (x86, oneDNN on, as is the default). Such a convolution reads only every s-th pixel: taking
these first and convolving with stride 1 is the same sum over the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.expand import Flat, split

FEWEST_CHANNELS = 16


def without_strided_points(flat: Flat, weights: Mapping[str, tf.TensorShape]) -> Flat:
    """The graph with each such convolution written as a strided slice and a convolution of stride 1."""
    nodes = dict(flat.nodes)
    for name, node in flat.nodes.items():
        if node.op == "Conv2D" and _dangerous(flat.nodes, node, weights):
            nodes.update((new.name, new) for new in _sliced_first(node))
    return replace(flat, nodes=nodes)


def _dangerous(nodes: Mapping[str, NodeDef], node: NodeDef, weights: Mapping[str, tf.TensorShape]) -> bool:
    if max(node.attr["strides"].list.i) < 2 or node.attr["padding"].s == b"EXPLICIT":
        return False
    kernel = _kernel_shape(nodes, node.input[1], weights)
    return kernel is not None and kernel[:2] == [1, 1] and kernel[2] < FEWEST_CHANNELS


def _kernel_shape(nodes: Mapping[str, NodeDef], tensor: str, weights: Mapping[str, tf.TensorShape]) -> list[int] | None:
    for _ in range(10):
        name = split(tensor)[0]
        node = nodes[name]
        if name in weights:
            return weights[name].as_list()
        if node.op == "Const":
            return [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim]
        if node.op not in ("Identity", "Cast", "Mul", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"):
            return None
        tensor = node.input[0]
    return None


def _sliced_first(node: NodeDef) -> list[NodeDef]:
    strides = list(node.attr["strides"].list.i)
    slicer = NodeDef(name=f"{node.name}/gradviz_slice", op="StridedSlice")
    bounds = []
    for part, values in (("begin", [0] * 4), ("end", [0] * 4), ("strides", strides)):
        bound = NodeDef(name=f"{slicer.name}/{part}", op="Const")
        bound.attr["dtype"].type = tf.int32.as_datatype_enum
        bound.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values, tf.int32))
        bounds.append(bound)
    slicer.input.extend([node.input[0], *(f"{bound.name}:0" for bound in bounds)])
    slicer.attr["T"].CopyFrom(node.attr["T"])
    slicer.attr["Index"].type = tf.int32.as_datatype_enum
    for mask, value in (("begin_mask", 15), ("end_mask", 15), ("ellipsis_mask", 0), ("new_axis_mask", 0), ("shrink_axis_mask", 0)):
        slicer.attr[mask].i = value
    dense = NodeDef()
    dense.CopyFrom(node)
    dense.input[0] = f"{slicer.name}:0"
    dense.attr["strides"].list.i[:] = [1, 1, 1, 1]
    return [*bounds, slicer, dense]
