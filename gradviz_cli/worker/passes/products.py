"""Keeps batched matrix products away from a kernel of oneDNN that corrupts the heap, with equal numbers.

Where the batch axes of the two sides differ, one of length 1 beside a longer one, oneDNN takes axes for one that are not and
writes beyond its memory, in the product as in its gradient (TensorFlow 2.16 to 2.21 on x86; tensorflow#117700, oneDNN#4632).
Axes that are equal never did that. What is not known to be equal becomes so here.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_BFLOAT16, DT_DOUBLE, DT_FLOAT, DT_HALF

from gradviz_cli.worker.graph.graph import Function, Graph, attribute, copied, data_inputs, split
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.shapes import Known, Nodes, inferred, of_weights
from gradviz_cli.worker.passes.equal_forms import Form, written

EQUAL = "_gradviz_equal"  # on a product whose batch axes are known to be equal
MATRICES = frozenset({"BatchMatMulV2", "BatchMatMulV3"})
EINSUM = "Einsum"
TYPES = ("T", "Ta", "Tb", "Tout")
# In float64 TensorFlow never asks oneDNN.
FAST = frozenset({DT_FLOAT, DT_BFLOAT16, DT_HALF})
# A number of images that no other axis has: shapes that are open in it alone are compared as if so many were given.
IMAGES = 10_007


def without_broadcasts(graph: Graph, question: Question) -> Graph:
    """The graph with each product that may broadcast written as one that does not, in functions too."""
    scopes = [graph.nodes, *(function.nodes for function in graph.functions.values())]
    if not any(_may_broadcast(node) for nodes in scopes for node in nodes.values()):
        return graph
    nodes, known = graph.nodes, of_weights(graph)
    with suppress(ValueError):  # a model that cannot take so many images
        nodes = _marked(nodes, known | _many_images(graph, question))
    return replace(graph, nodes=_rewritten(nodes, known), functions=rewritten_functions(graph.functions))


def rewritten_functions(functions: Mapping[str, Function]) -> dict[str, Function]:
    """Those of loops, branches and own gradients. What they are handed is taken for unknown: it may grow in a loop."""
    return {name: replace(function, nodes=rewritten(function.nodes)) for name, function in functions.items()}


def rewritten(nodes: Nodes) -> Nodes:
    """Nodes of whose shapes nothing else is known, without such products."""
    return _rewritten(nodes, {}) if any(map(_may_broadcast, nodes.values())) else nodes


def _may_broadcast(node: NodeDef) -> bool:
    if EQUAL in node.attr or not {node.attr[name].type for name in TYPES if name in node.attr} <= FAST:
        return False
    return node.op in MATRICES or (
        node.op == EINSUM and len(_operands(node)) == 2 and "..." in "".join(_operands(node))
    )


def _operands(node: NodeDef) -> list[str]:
    """The labels of each side of an Einsum: other than the axes behind dots, those with one label are equal."""
    return str(attribute(node, "equation").s.decode(errors="replace")).partition("->")[0].split(",")


# -- what is known to be equal -------------------------------------------------------------------------------------------


def _many_images(graph: Graph, question: Question) -> dict[str, tf.TensorShape]:
    """The placeholder of the image -> its shape, were it given so many images."""
    name = split(question.fed(graph))[0]
    shape = tf.TensorShape(attribute(graph.nodes[name], "shape").shape)
    return {name: tf.TensorShape([IMAGES, *shape[1:]])} if shape.rank and shape[0] is None else {}


def _marked(nodes: Nodes, known: Known) -> dict[str, NodeDef]:
    """The nodes, those products marked whose batch axes are equal."""
    products = [node for node in nodes.values() if _may_broadcast(node)]
    shapes = inferred(nodes, (text for node in products for text in data_inputs(node)), known)
    equal = [node for node in products if _are_equal(*_batch_axes(node, [shapes[text] for text in data_inputs(node)]))]
    return {**nodes, **{node.name: _mark(copied(node)) for node in equal}}


def _mark(node: NodeDef) -> NodeDef:
    node.attr[EQUAL].b = True
    return node


def _are_equal(one: tf.TensorShape, other: tf.TensorShape) -> bool:
    return one.is_fully_defined() and other.is_fully_defined() and one.as_list() == other.as_list()


def _batch_axes(node: NodeDef, shapes: Sequence[tf.TensorShape]) -> list[tf.TensorShape]:
    """The sizes that are broadcast, of each side."""
    if node.op in MATRICES:
        return [shape[:-2] for shape in shapes]
    return [_ellipsis(text, shape) for text, shape in zip(_operands(node), shapes, strict=True)]


def _ellipsis(labels: str, shape: tf.TensorShape) -> tf.TensorShape:
    """The sizes that the dots of an operand stand for."""
    before, dots, after = labels.partition("...")
    if not dots:
        return tf.TensorShape([])
    return tf.TensorShape(None) if shape.rank is None else shape[len(before) : shape.rank - len(after)]


# -- written otherwise ---------------------------------------------------------------------------------------------------


def _rewritten(nodes: Nodes, known: Known) -> dict[str, NodeDef]:
    products = [node for node in nodes.values() if _may_broadcast(node)]
    asked = [text for node in products for text in (*data_inputs(node), f"{node.name}:0")]
    shapes = inferred(nodes, asked, known)
    result = dict(nodes)
    for node in products:
        inputs = [shapes[text] for text in data_inputs(node)]
        made = written(nodes, node, _form(node, inputs), inputs, shapes[f"{node.name}:0"])
        result.update((one.name, _mark(one) if _may_broadcast(one) else one) for one in made)
    return result


def _form(node: NodeDef, shapes: Sequence[tf.TensorShape]) -> Form:
    if node.op == EINSUM:
        ranks = [axes.rank for axes in _batch_axes(node, shapes)]
        return _labelled if 0 in ranks and None not in ranks else _in_float64
    return _by_rows if shapes[1].rank == 2 and not attribute(node, "adj_x").b else _broadcast_first


def _by_rows(node: NodeDef, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """All rows of x times one matrix."""
    between = x.shape[-1] if x.shape.rank else None
    rows = tf.reshape(x, [-1, tf.shape(x)[-1] if between is None else between])
    product = tf.matmul(rows, y, transpose_b=attribute(node, "adj_y").b)
    inner = [*x.shape[1:-1], product.shape[-1]] if x.shape.rank else [None]
    if None in inner:
        return tf.reshape(product, tf.concat([tf.shape(x)[:-1], tf.shape(product)[1:]], 0))
    return tf.reshape(product, [-1, *inner])


def _broadcast_first(node: NodeDef, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Both sides repeated to the batch axes of the product."""
    batch = tf.broadcast_dynamic_shape(tf.shape(x)[:-2], tf.shape(y)[:-2])
    sides = (tf.broadcast_to(one, tf.concat([batch, tf.shape(one)[-2:]], 0)) for one in (x, y))
    adjoint = {name: attribute(node, name).b for name in ("adj_x", "adj_y")}
    return tf.raw_ops.BatchMatMulV2(**dict(zip("xy", sides, strict=True)), **adjoint)


def _labelled(node: NodeDef, *inputs: tf.Tensor) -> tf.Tensor:
    """The axes of one side, of which the other has none, with a label each: they are rows of a matrix then."""
    equation = attribute(node, "equation").s.decode()
    result = equation.partition("->")[2]
    ranks = [axes.rank for axes in _batch_axes(node, [tensor.shape for tensor in inputs])]
    labels = "".join([letter for letter in string.ascii_letters if letter not in equation][: max(ranks)])
    texts = [text.replace("...", labels[:rank]) for text, rank in zip(_operands(node), ranks, strict=True)]
    return tf.raw_ops.Einsum(inputs=list(inputs), equation=f"{','.join(texts)}->{result.replace('...', labels)}")


def _in_float64(node: NodeDef, *inputs: tf.Tensor) -> tf.Tensor:
    """Where nothing else is known to be safe."""
    wide = [tf.cast(tensor, tf.float64) for tensor in inputs]
    return tf.cast(tf.raw_ops.Einsum(inputs=wide, equation=attribute(node, "equation").s), inputs[0].dtype)


# -- a graph that is run as it is ----------------------------------------------------------------------------------------


def in_float64(graph_def: GraphDef) -> None:
    """Let a graph and its functions compute such products in float64, whatever their shapes."""
    for nodes, named in ((graph_def.node, False), *((one.node_def, True) for one in graph_def.library.function)):
        for node in [node for node in nodes if _may_broadcast(node)]:
            nodes.extend(_around(node, named))


def _around(node: NodeDef, named: bool) -> list[NodeDef]:
    """What a product becomes the last of; in a function a tensor is written with the name of its output."""
    prefix = f"{node.name}/gradviz_wide"
    kind = next(node.attr[name].type for name in TYPES if name in node.attr)
    wide = [_cast(f"{prefix}/{place}", text, kind, DT_DOUBLE) for place, text in enumerate(data_inputs(node))]
    waited = [text for text in node.input if text.startswith("^")]
    product = copied(node, f"{prefix}/product", [*(_reference(one, "y", named) for one in wide), *waited])
    product.op = EINSUM if node.op == EINSUM else "BatchMatMulV2"
    for name in TYPES:
        product.attr.pop(name, None)
    product.attr["T"].type = DT_DOUBLE
    narrow = _cast(f"{prefix}/narrow", _reference(product, "output", named), DT_DOUBLE, kind)
    node.CopyFrom(NodeDef(name=node.name, op="Identity", input=[_reference(narrow, "y", named)]))
    node.attr["T"].type = kind
    return [*wide, product, narrow]


def _cast(name: str, text: str, kind: int, wanted: int) -> NodeDef:
    node = NodeDef(name=name, op="Cast", input=[text])
    node.attr["SrcT"].type, node.attr["DstT"].type = kind, wanted
    return node


def _reference(node: NodeDef, output: str, named: bool) -> str:
    return f"{node.name}:{output}:0" if named else f"{node.name}:0"
