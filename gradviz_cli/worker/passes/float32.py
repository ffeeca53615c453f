"""Number formats (pure functions on protocol buffers): half precision becomes float32, whole pixels become floats.

Half precision: two correct programs that round every step to 8 or 11 bits differ by a hundredth, and small gradients
vanish, so no single one is right. In float32 there is one gradient, that of the weights as they are stored.

Whole pixels (uint8, int32): a Cast cuts the gradient. The same numbers as floats, moved about by the same operations,
let it reach the image itself, whatever lies before the Cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DT_BFLOAT16, DT_FLOAT, DT_HALF

from gradviz_cli.worker.graph.graph import Body, Flat, consumers, split

HALVES = frozenset({DT_HALF, DT_BFLOAT16})
# These read the bytes of a number, so its width is part of their meaning.
BYTEWISE = frozenset({"Bitcast", "DecodeRaw", "DecodePaddedRaw", "ParseTensor"})

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


def halves(flat: Flat) -> Flat:
    """The graph computed in float32 where it was written for float16 or bfloat16."""
    everything = [*flat.nodes.values(), *(node for body in flat.bodies.values() for node in body.nodes.values())]
    narrow = [node for node in everything if any(map(_has_half, node.attr.values()))]
    if not narrow or any(node.op in BYTEWISE for node in narrow):
        return flat
    return replace(
        flat,
        nodes=_widened(flat.nodes),
        bodies={name: _widened_body(body) for name, body in flat.bodies.items()},
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
    copy = NodeDef()
    copy.CopyFrom(node)
    for value in copy.attr.values():
        _widen(value)
    return copy


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


def _widened_body(body: Body) -> Body:
    signature = type(body.signature)()
    signature.CopyFrom(body.signature)
    for argument in (*signature.input_arg, *signature.output_arg):
        argument.type = DT_FLOAT if argument.type in HALVES else argument.type
    return replace(body, signature=signature, nodes=_widened(body.nodes))


def values(flat: Flat, found: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Values of variables, by name, in the types in which the graph reads them."""
    types = {variable: flat.nodes[name].attr["dtype"].type for name, variable in flat.weights.items()}
    half = {
        variable: DT_FLOAT for variable in flat.handles.values() if found[variable].dtype.as_datatype_enum in HALVES
    }
    return {name: tf.cast(value, {**half, **types}.get(name, value.dtype)) for name, value in found.items()}


def float_image(flat: Flat, fed: str) -> Flat:
    """The graph fed with the same pixels as floats; the graph itself where that would change what it computes."""
    nodes, readers = dict(flat.nodes), consumers(flat.nodes)
    image = split(fed)[0]
    nodes[image] = _typed(nodes[image], "dtype")
    moved, todo, reached = {image}, [image], False
    while todo:
        source = todo.pop()
        for name in readers.get(source, ()):
            if name in moved or not _reads(flat.nodes[name], source):
                continue
            node = _as_float(nodes, name, moved)
            if node is None:
                return flat
            nodes[name] = node
            moved.add(name)
            if _still_pixels(flat.nodes[name]):
                todo.append(name)
            else:
                reached = reached or node.op not in SIZES
    whole = all(_all_moved(nodes[name], moved) for name in moved if nodes[name].op in JOINERS)
    return replace(flat, nodes=nodes) if reached and whole else flat


def _reads(node: NodeDef, source: str) -> bool:
    """Reads a value of it, and does not only wait for it."""
    return any(split(text)[0] == source for text in node.input if not text.startswith("^"))


def _as_float(nodes: Mapping[str, NodeDef], name: str, moved: set[str]) -> NodeDef | None:
    """A node that reads pixels, changed to read floats; None for one that computes with integers."""
    node = nodes[name]
    if node.op == "Cast":
        cast = _typed(node, "SrcT")
        if _still_pixels(node):
            return _typed(cast, "DstT")
        return None if tf.dtypes.as_dtype(node.attr["DstT"].type).is_integer else cast
    attribute = MOVERS.get(node.op) or JOINERS.get(node.op) or ENDS.get(node.op)
    if attribute is None or not _is_pixel_input(node, moved):
        return None
    return _typed(node, attribute)


def _is_pixel_input(node: NodeDef, moved: set[str]) -> bool:
    """The pixels are what is moved, not an index or a size."""
    return node.op in JOINERS or split(node.input[1 if node.op == "Split" else 0])[0] in moved


def _all_moved(node: NodeDef, moved: set[str]) -> bool:
    count = node.attr["N"].i
    first = 1 if node.op == "Concat" else 0
    return all(split(text)[0] in moved for text in node.input[first : first + count])


def _still_pixels(node: NodeDef) -> bool:
    """A node whose output holds the pixels as they are, in an integer type that has room for 0..255."""
    if node.op == "Cast":
        target = tf.dtypes.as_dtype(node.attr["DstT"].type)
        return target.is_integer and target.max >= 255
    return node.op in MOVERS or node.op in JOINERS


def _typed(node: NodeDef, attribute: str) -> NodeDef:
    copy = NodeDef()
    copy.CopyFrom(node)
    copy.attr[attribute].type = DT_FLOAT
    return copy
