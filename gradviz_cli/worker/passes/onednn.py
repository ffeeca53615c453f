"""Keeps graphs away from kernels of oneDNN that are known to corrupt the heap, with equal numbers.

The input gradient of a 1x1 convolution with a stride of 2 or more and fewer than 16 input channels kills the process on
TensorFlow 2.18 to 2.21 (x86, oneDNN on, as is the default). Such a convolution reads only every s-th pixel: taking
these first and convolving with stride 1 is the same sum over the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, attribute, constant_node, copied, source
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.shapes import Known, everywhere, inferred

FEWEST_CHANNELS = 16


def without_strided_points(graph: Graph, question: Question | None = None) -> Graph:
    """The graph with each such convolution, in loops and branches too, written as a strided slice and stride 1."""
    return everywhere(graph, _rewritten)


def _rewritten(nodes: Mapping[str, NodeDef], known: Known) -> dict[str, NodeDef]:
    strided = [node for node in nodes.values() if node.op == "Conv2D" and max(_strides(node), default=1) > 1]
    kernels = inferred(nodes, [source(node, 1) for node in strided], known)
    rewritten = dict(nodes)
    for node in strided:
        kernel = kernels[source(node, 1)]
        if kernel.rank == 4 and kernel[:2].as_list() == [1, 1] and (kernel[2] is None or kernel[2] < FEWEST_CHANNELS):
            rewritten.update((new.name, new) for new in _sliced_first(node))
    return rewritten


def _strides(node: NodeDef) -> list[int]:
    return list(attribute(node, "strides").list.i)


def _sliced_first(node: NodeDef) -> list[NodeDef]:
    padding = list(attribute(node, "explicit_paddings").list.i) if attribute(node, "padding").s == b"EXPLICIT" else []
    before = []
    tensor = source(node, 0)
    if any(padding):
        paddings = constant_node(f"{node.name}/gradviz_pad/paddings", np.reshape(padding, [4, 2]).astype(np.int32))
        pad = NodeDef(name=f"{node.name}/gradviz_pad", op="Pad", input=[tensor, f"{paddings.name}:0"])
        pad.attr["T"].CopyFrom(attribute(node, "T"))
        pad.attr["Tpaddings"].type = tf.int32.as_datatype_enum
        before += [paddings, pad]
        tensor = f"{pad.name}:0"
    slicer = NodeDef(name=f"{node.name}/gradviz_slice", op="StridedSlice", input=[tensor])
    for part, values in (("begin", [0] * 4), ("end", [0] * 4), ("strides", _strides(node))):
        bound = constant_node(f"{slicer.name}/{part}", np.array(values, np.int32))
        slicer.input.append(f"{bound.name}:0")
        before.append(bound)
    slicer.attr["T"].CopyFrom(attribute(node, "T"))
    slicer.attr["Index"].type = tf.int32.as_datatype_enum
    slicer.attr["begin_mask"].i = slicer.attr["end_mask"].i = 0b1111
    dense = copied(node)
    dense.input[0] = f"{slicer.name}:0"
    dense.attr["strides"].list.i[:] = [1, 1, 1, 1]
    dense.attr["padding"].s = b"VALID"
    dense.attr.pop("explicit_paddings", None)
    return [*before, slicer, dense]
