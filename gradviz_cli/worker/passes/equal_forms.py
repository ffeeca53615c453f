"""Operations written as others that compute the same, where TensorFlow has no gradient of them, or no kernel for it here.

Some operations have no gradient at all. Others lose it with the machine: without oneDNN (on other processors, where
it is switched off, in float64) no convolution that is dilated or grouped has one, and nothing takes channels first. Whether a
kernel is there is not written down anywhere, so it is tried, on a few numbers; what has one stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, attribute, copied, literal, source, width
from gradviz_cli.worker.graph.match import maker
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.shapes import Known, Nodes, everywhere, inferred
from gradviz_cli.worker.graph.tf_private import op_def
from gradviz_cli.worker.passes import convolutions, formulas

# A node and its inputs -> its output, written by TensorFlow into the graph that is being made.
Form = Callable[..., "tf.Tensor"]


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
    prefix, names = f"{node.name}/gradviz_form", {}
    with tf.Graph().as_default() as made:
        given = []
        for tensor, dtype, known in zip(_inputs(node), _input_types(node), shapes, strict=True):
            maker_node = maker(nodes, tensor)
            if maker_node.op == "Const" and dtype.is_integer:  # sizes and axes, by which shapes are known
                given.append(tf.constant(literal(maker_node), dtype))
            else:
                given.append(tf.compat.v1.placeholder(dtype, known))
                names[given[-1].op.name] = tensor
        # Of an unknown rank TensorFlow takes what has a rank for a contradiction.
        end = tf.identity if shape.rank is None else partial(tf.ensure_shape, shape=shape)
        end(form(node, *given), name="gradviz_result")
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
        for _ in range(width(argument, node))
    ]
