"""Operations written as others that compute the same, where TensorFlow has no gradient of them, or no kernel for it here.

Some operations have no gradient at all. Others lose it with the machine: without oneDNN (on other processors, beside
attention, in float64) no convolution that is dilated or grouped has one, and nothing takes channels first. Whether a
kernel is there is not written down anywhere, so it is tried, on a few numbers; what has one stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, attribute, copied, data_inputs
from gradviz_cli.worker.graph.match import constant
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.shapes import Known, Nodes, everywhere, inferred
from gradviz_cli.worker.graph.tf_private import op_def
from gradviz_cli.worker.passes import convolutions, formulas

# A node and its inputs -> its output, written by TensorFlow into the graph that is being made.
Form = Callable[..., tf.Tensor]


def equal_forms(graph: Graph, question: Question | None = None) -> Graph:
    """The graph with such operations written as others, in loops and branches too."""
    return everywhere(graph, _rewritten)


def _rewritten(nodes: Nodes, known: Known) -> dict[str, NodeDef]:
    strange = {name: node for name, node in nodes.items() if node.op in (*formulas.FORMS, *convolutions.OPS)}
    asked = [tensor for node in strange.values() for tensor in (*data_inputs(node), f"{node.name}:0")]
    shapes = inferred(nodes, asked, known)
    rewritten = dict(nodes)
    for node in strange.values():
        inputs = [_Input(shapes[tensor], constant(nodes, tensor)) for tensor in data_inputs(node)]
        form = formulas.FORMS.get(node.op) or convolutions.form_of(
            node, [one.shape for one in inputs], shapes[f"{node.name}:0"]
        )
        if form is not None:
            written = _written(node, form, inputs, shapes[f"{node.name}:0"])
            rewritten.update((one.name, one) for one in written)
    return rewritten


@dataclass(frozen=True, eq=False)
class _Input:
    """What is known of an input of a node: its shape, and its value where it is written down."""

    shape: tf.TensorShape
    value: np.ndarray | None


def _written(node: NodeDef, form: Form, inputs: Sequence[_Input], shape: tf.TensorShape) -> Iterator[NodeDef]:
    """The nodes of a form, the last under the name of the node that they stand for."""
    prefix = f"{node.name}/gradviz_form"
    types = _input_types(node)
    with tf.Graph().as_default() as made:
        given = [
            tf.constant(one.value)
            if one.value is not None and not dtype.is_floating
            else tf.compat.v1.placeholder(dtype, one.shape, f"input{place}")
            for place, (one, dtype) in enumerate(zip(inputs, types, strict=True))
        ]
        tf.ensure_shape(form(node, *given), shape, "gradviz_result")
    names = {
        one.op.name: text for one, text in zip(given, data_inputs(node), strict=True) if one.op.type == "Placeholder"
    }
    for one in made.as_graph_def().node:
        if one.name not in names:
            name = node.name if one.name == "gradviz_result" else f"{prefix}/{one.name}"
            yield copied(one, name, [_renamed(text, names, prefix) for text in one.input])


def _renamed(text: str, given: Mapping[str, str], prefix: str) -> str:
    if text.startswith("^"):
        return f"^{prefix}/{text[1:]}"
    name, _, index = text.partition(":")
    return given.get(name) or f"{prefix}/{name}:{index or 0}"


def _input_types(node: NodeDef) -> list[tf.DType]:
    definition = op_def(node.op)
    assert definition is not None, "the tables only hold operations that TensorFlow has"
    return [
        tf.dtypes.as_dtype(argument.type or attribute(node, argument.type_attr).type)
        for argument in definition.input_arg
    ]
