"""Whole pixels (uint8, int32) become floats.

A Cast cuts the gradient. The same numbers as floats, moved about by the same operations, let it reach the image
itself, whatever lies before the Cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_FLOAT

from gradviz_cli.worker.graph.graph import Graph, attribute, consumers, copied, data_inputs, source, split
from gradviz_cli.worker.graph.question import Question

# Operations that move pixels and leave their values alone -> the attribute with their type.
MOVERS = {
    **dict.fromkeys(
        ("Identity", "Reshape", "Squeeze", "Transpose", "StridedSlice", "ReverseV2", "Pad", "MirrorPad"), "T"
    ),
    **dict.fromkeys(("ExpandDims", "Slice", "Tile", "EnsureShape", "Split", "SplitV", "Unpack", "Snapshot"), "T"),
    **dict.fromkeys(("ResizeNearestNeighbor", "SpaceToDepth", "DepthToSpace"), "T"),
    "GatherV2": "Tparams",
}
# Operations that join several tensors of one type.
JOINERS = {"ConcatV2": "T", "Pack": "T", "Concat": "T"}
# Operations that give floats (or sizes) whatever type of pixels they take.
ENDS = dict.fromkeys(
    ("ResizeBilinear", "ResizeBicubic", "ResizeArea", "CropAndResize", "ScaleAndTranslate", "Shape", "Size", "Rank"),
    "T",
)
SIZES = frozenset({"Shape", "Size", "Rank"})


def float_image(graph: Graph, question: Question) -> Graph:
    """The graph fed with the same pixels as floats; the graph itself where that would change what it computes."""
    if not question.image.dtype.is_integer:
        return graph
    nodes, readers = dict(graph.nodes), consumers(graph.nodes)
    image = split(question.fed(graph))[0]
    nodes[image] = _typed(nodes[image], "dtype")
    moved, todo, reached = {image}, [image], False
    while todo:
        maker = todo.pop()
        for name in readers.get(maker, ()):
            if name in moved or not _reads(graph.nodes[name], maker):
                continue
            node = _as_float(nodes, name, moved)
            if node is None:
                return graph
            nodes[name] = node
            moved.add(name)
            if _still_pixels(graph.nodes[name]):
                todo.append(name)
            else:
                reached = reached or node.op not in SIZES
    whole = all(_all_moved(nodes[name], moved) for name in moved if nodes[name].op in JOINERS)
    return replace(graph, nodes=nodes) if reached and whole else graph


def _reads(node: NodeDef, maker: str) -> bool:
    """Reads a value of it, and does not only wait for it."""
    return any(split(text)[0] == maker for text in data_inputs(node))


def _as_float(nodes: Mapping[str, NodeDef], name: str, moved: set[str]) -> NodeDef | None:
    """A node that reads pixels, changed to read floats; None for one that computes with integers."""
    node = nodes[name]
    if node.op == "Cast":
        cast = _typed(node, "SrcT")
        if _still_pixels(node):
            return _typed(cast, "DstT")
        return None if tf.dtypes.as_dtype(attribute(node, "DstT").type).is_integer else cast
    kind = MOVERS.get(node.op) or JOINERS.get(node.op) or ENDS.get(node.op)
    if kind is None or not _is_pixel_input(node, moved):
        return None
    return _typed(node, kind)


def _is_pixel_input(node: NodeDef, moved: set[str]) -> bool:
    """The pixels are what is moved, not an index or a size."""
    return node.op in JOINERS or split(source(node, 1 if node.op == "Split" else 0))[0] in moved


def _all_moved(node: NodeDef, moved: set[str]) -> bool:
    count = attribute(node, "N").i
    first = 1 if node.op == "Concat" else 0
    return all(split(text)[0] in moved for text in node.input[first : first + count])


def _still_pixels(node: NodeDef) -> bool:
    """A node whose output holds the pixels as they are, in an integer type that has room for 0..255."""
    if node.op == "Cast":
        target = tf.dtypes.as_dtype(attribute(node, "DstT").type)
        return target.is_integer and target.max >= 255
    return node.op in MOVERS or node.op in JOINERS


def _typed(node: NodeDef, kind: str) -> NodeDef:
    copy = copied(node)
    copy.attr[kind].type = DT_FLOAT
    return copy
