"""Keeps graphs away from kernels of oneDNN that are known to corrupt the heap, with equal numbers.

The input gradient of a 1x1 convolution with a stride of 2 or more and fewer than 16 input channels kills the process on
TensorFlow 2.18 to 2.21 (x86, oneDNN on, as is the default). Such a convolution reads only every s-th pixel: taking
these first and convolving with stride 1 is the same sum over the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import (
    ARGUMENT,
    FIRST_ARGUMENT,
    Graph,
    ancestors,
    attribute,
    called_by,
    copied,
    data_inputs,
    graph_def,
    placeholder,
    source,
    split,
)
from gradviz_cli.worker.graph.question import Question

FEWEST_CHANNELS = 16

Shapes = Mapping[str, tf.TensorShape]


def without_strided_points(graph: Graph, question: Question | None = None) -> Graph:
    """The graph with each such convolution, in loops and branches too, written as a strided slice and stride 1."""
    shapes = {variable: value.shape for variable, value in graph.values.items()}
    named = {**graph.weights, **graph.handles}
    known = {name: shapes[variable] for name, variable in named.items() if variable in shapes}
    functions = dict(graph.functions)
    nodes = _rewritten(graph.nodes, known)
    todo = _arguments(nodes, known)
    while todo:
        name, arguments = todo.popitem()
        if name in functions and functions[name] is graph.functions[name]:
            names = [argument.name for argument in graph.functions[name].signature.input_arg]
            inside = {names[i]: shape for i, shape in arguments.items() if i < len(names)}
            functions[name] = replace(functions[name], nodes=_rewritten(functions[name].nodes, inside))
            todo |= _arguments(functions[name].nodes, inside)
    return replace(graph, nodes=nodes, functions=functions)


def _rewritten(nodes: Mapping[str, NodeDef], known: Shapes) -> dict[str, NodeDef]:
    strided = [node for node in nodes.values() if node.op == "Conv2D" and max(_strides(node), default=1) > 1]
    kernels = _shapes(nodes, [source(node, 1) for node in strided], known)
    rewritten = dict(nodes)
    for node in strided:
        kernel = kernels[source(node, 1)]
        if kernel.rank == 4 and kernel[:2].as_list() == [1, 1] and (kernel[2] is None or kernel[2] < FEWEST_CHANNELS):
            rewritten.update((new.name, new) for new in _sliced_first(node))
    return rewritten


def _strides(node: NodeDef) -> list[int]:
    return list(attribute(node, "strides").list.i)


def _arguments(nodes: Mapping[str, NodeDef], known: Shapes) -> dict[str, dict[int, tf.TensorShape]]:
    """Function -> shapes of its arguments, by position, as the nodes that name it hand them over."""
    calls = [node for node in nodes.values() if node.op in FIRST_ARGUMENT]
    handed = {node.name: data_inputs(node)[FIRST_ARGUMENT[node.op] :] for node in calls}
    shapes = _shapes(nodes, {text for texts in handed.values() for text in texts}, known)
    found: dict[str, dict[int, tf.TensorShape]] = {}
    for node in calls:
        values = {i: shapes[text] for i, text in enumerate(handed[node.name]) if text in shapes}
        found.update((function, values) for function in called_by(node))
    return found


def _shapes(nodes: Mapping[str, NodeDef], tensors: Iterable[str], known: Shapes) -> dict[str, tf.TensorShape]:
    """Shapes of tensors, as TensorFlow infers them from those of the variables; nothing is computed."""
    found = {}
    for tensor in tensors:
        name = split(tensor)[0]
        if name in known:
            found[tensor] = known[name]
            continue
        part = {one: _stand_in(nodes[one], known) for one in ancestors(nodes, [tensor])}
        part = {one: part[one] for one in ancestors(part, [tensor])}
        found[tensor] = tf.TensorShape(None)
        if any(node.op in FIRST_ARGUMENT for node in part.values()):
            continue
        built = graph_def(part.values())
        with tf.Graph().as_default():
            found[tensor] = tf.graph_util.import_graph_def(built, return_elements=[tensor], name="")[0].shape
    return found


def _stand_in(node: NodeDef, known: Shapes) -> NodeDef:
    """A placeholder of known shape for a variable, wherever it is read."""
    variable = split(source(node, 0))[0] if node.op == "ReadVariableOp" else node.name
    if variable in known and known[variable].rank is not None:
        return placeholder(node.name, _type(node), known[variable].as_proto())
    return placeholder(node.name, _type(node)) if node.op == ARGUMENT else node


def _type(node: NodeDef) -> int:
    return int(attribute(node, "T" if node.op == ARGUMENT else "dtype").type)


def _sliced_first(node: NodeDef) -> list[NodeDef]:
    padding = list(attribute(node, "explicit_paddings").list.i) if attribute(node, "padding").s == b"EXPLICIT" else []
    before = []
    tensor = source(node, 0)
    if any(padding):
        paddings = _constant(f"{node.name}/gradviz_pad/paddings", [padding[i : i + 2] for i in range(0, 8, 2)])
        pad = NodeDef(name=f"{node.name}/gradviz_pad", op="Pad", input=[tensor, f"{paddings.name}:0"])
        pad.attr["T"].CopyFrom(attribute(node, "T"))
        pad.attr["Tpaddings"].type = tf.int32.as_datatype_enum
        before += [paddings, pad]
        tensor = f"{pad.name}:0"
    slicer = NodeDef(name=f"{node.name}/gradviz_slice", op="StridedSlice", input=[tensor])
    for part, values in (("begin", [0] * 4), ("end", [0] * 4), ("strides", _strides(node))):
        bound = _constant(f"{slicer.name}/{part}", values)
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


def _constant(name: str, value: list) -> NodeDef:
    node = NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.int32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.int32))
    return node
