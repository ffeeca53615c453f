"""Operations written as others that compute the same, where TensorFlow has no gradient of them, or no kernel for it here.

Some operations have no gradient at all. Others lose it with the machine: without oneDNN (on other processors, where
it is switched off, in float64) no convolution that is dilated or grouped has one, and nothing takes channels first. Whether a
kernel is there is not written down anywhere, so it is tried, on a few numbers; what has one stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Union

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, attribute, copied, literal, source, split, width
from gradviz_cli.worker.graph.match import maker
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.shapes import Known, Nodes, everywhere, inferred
from gradviz_cli.worker.graph.tf_private import op_def
from gradviz_cli.worker.passes import convolutions, formulas

# A node and its inputs -> its output, written by TensorFlow into the graph that is being made.
Form = Callable[..., "tf.Tensor"]
# What a form is drawn for: a tensor like this, or numbers that are written into its nodes.
Given = Union["tf.TensorSpec", np.ndarray]


def equal_forms(graph: Graph, question: Question | None = None) -> Graph:
    """The graph with such operations written as others, in loops and branches too."""
    return everywhere(graph, _rewritten)


def _rewritten(nodes: Nodes, known: Known) -> dict[str, NodeDef]:
    strange = {name: node for name, node in nodes.items() if node.op in (*formulas.FORMS, *convolutions.OPS)}
    read = {name: convolutions.read(node) for name, node in strange.items() if node.op in convolutions.OPS}
    asked = [tensor for node in strange.values() for tensor in (*_inputs(node), f"{node.name}:0")]
    shapes = inferred(nodes, asked, known)
    rewritten = dict(nodes)
    for node in strange.values():
        inputs, output = [shapes[tensor] for tensor in _inputs(node)], shapes[f"{node.name}:0"]
        form = formulas.FORMS.get(node.op)
        if node.name in read:
            form = convolutions.form_of(read[node.name], attribute(node, "T").type, inputs, output)
        if form is not None:
            rewritten.update((one.name, one) for one in written(nodes, node, form, inputs, output))
    return rewritten


def _inputs(node: NodeDef) -> list[str]:
    """Each that its operation takes; GraphError where one is missing."""
    return [source(node, place) for place, _ in enumerate(_input_types(node))]


def written(
    nodes: Nodes, node: NodeDef, form: Form, shapes: Sequence[tf.TensorShape], shape: tf.TensorShape
) -> Iterator[NodeDef]:
    """The nodes of a form, the last under the name of the node that they stand for."""
    given: list[Given] = []
    for tensor, dtype, known in zip(_inputs(node), _input_types(node), shapes, strict=True):
        made = maker(nodes, tensor)
        sizes = made.op == "Const" and dtype.is_integer  # or axes: by them shapes are known
        given.append(literal(made) if sizes else tf.TensorSpec(known, dtype))
    return drawn(partial(form, node), given, shape).placed(node.name, _inputs(node))


@dataclass(frozen=True)
class Drawn:
    """The nodes of a form, of which the last gives its result; for each input the name by which they read it, None where it
    is written into them."""

    nodes: tuple[NodeDef, ...]
    reads: tuple[str | None, ...]

    def placed(self, name: str, inputs: Sequence[str]) -> Iterator[NodeDef]:
        """The nodes in place of the one of this name, with these inputs; the last has its name."""
        prefix = f"{name}/gradviz_form"
        last = self.nodes[-1]
        read = {one: tensor for one, tensor in zip(self.reads, inputs, strict=True) if one} | {last.name: f"{name}:0"}
        for one in self.nodes:
            called = name if one is last else f"{prefix}/{one.name}"
            yield copied(one, called, [_renamed(text, read, prefix) for text in one.input])


def drawn(form: Callable[..., tf.Tensor], given: Sequence[Given], shape: tf.TensorShape) -> Drawn:
    """What a form becomes. Its result has this shape, also where TensorFlow does not see it."""
    with tf.Graph().as_default() as made:
        inputs = [
            tf.constant(one) if isinstance(one, np.ndarray) else tf.compat.v1.placeholder(one.dtype, one.shape)
            for one in given
        ]
        result = form(*inputs)
        if any(result is one for one in inputs) or not _is_result(result, shape):
            # Of an unknown rank TensorFlow takes what has a rank for a contradiction.
            result = tf.identity(result) if shape.rank is None else tf.ensure_shape(result, shape)
    reads = tuple(
        None if isinstance(one, np.ndarray) else tensor.op.name for one, tensor in zip(given, inputs, strict=True)
    )
    nodes = [node for node in made.as_graph_def().node if node.name not in reads]
    return Drawn(tuple(sorted(nodes, key=lambda node: node.name == result.op.name)), reads)


def _is_result(tensor: tf.Tensor, shape: tf.TensorShape) -> bool:
    """Whether an operation gives a tensor and nothing else, and TensorFlow sees its shape."""
    ranked = shape.rank is not None and tensor.shape.rank == shape.rank
    return ranked and tensor.shape.as_list() == shape.as_list() and len(tensor.op.outputs) == 1


def _renamed(text: str, read: Mapping[str, str], prefix: str) -> str:
    name, _, index = text.removeprefix("^").partition(":")
    tensor = read.get(name) or f"{prefix}/{name}:{index or 0}"
    return f"^{split(tensor)[0]}" if text.startswith("^") else tensor


def _input_types(node: NodeDef) -> list[tf.DType]:
    definition = op_def(node.op)
    assert definition is not None, "the tables only hold operations that TensorFlow has"
    return [
        tf.dtypes.as_dtype(argument.type or attribute(node, argument.type_attr).type)
        for argument in definition.input_arg
        for _ in range(width(argument, node))
    ]
