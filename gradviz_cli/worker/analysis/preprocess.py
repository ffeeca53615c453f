"""Which pixel range a graph expects, where its own first steps say so."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Flat, consumers, split
from gradviz_cli.worker.graph.match import SHAPE_OPS, constant

# Many more ways than this from the image to the first layer are no preprocessing.
MAX_STEPS = 200
MOVING_OPS = frozenset(
    ["Cast", "Transpose", "ResizeBilinear", "ResizeBicubic", "ResizeArea", "ResizeNearestNeighbor", "Pad", "MirrorPad"]
    + ["StridedSlice", "ReverseV2", "Split", "SplitV", "Unpack", "Pack", "ConcatV2", "GatherV2"]
)


def found_preprocess(flat: Flat, image: str, path: Collection[str], weights: Mapping[str, np.ndarray]) -> str | None:
    """The range that the graph's own first steps expect, or None when it does not rescale.

    Follows the image through multiplications and additions of constants (Rescaling, Normalization, `x / 127.5 - 1`)
    and asks which range of pixels these steps bring near to zero mean and unit size.
    """
    ends = list(_affine_ends(flat, split(image)[0], path, weights))
    if not ends or not all(steps for _, _, steps in ends):
        return None
    scales = np.concatenate([np.broadcast_to(scale, 3) for scale, _, _ in ends])
    offsets = np.concatenate([np.broadcast_to(offset, 3) for _, offset, _ in ends])
    for name, high in (("raw", 255.0), ("unit", 1.0)):
        low_end, high_end = np.min(offsets), np.max(scales * high + offsets)
        if 0.45 <= high_end - low_end <= 12 and low_end >= -6:
            return name
    centred = np.all(np.abs(offsets + 115) < 20) and np.allclose(scales, 1)
    return "raw" if centred else None


def _affine_ends(flat: Flat, image: str, path: Collection[str], weights: Mapping[str, np.ndarray]):
    """(scale, offset, number of steps) where the leading steps end, once for each way that the pixels go."""
    readers = consumers(flat.nodes)
    todo, seen = [(image, 1.0, 0.0, 0)], set()
    while todo and len(seen) < MAX_STEPS:
        name, scale, offset, steps = todo.pop()
        found = {reader for reader in readers.get(name, ()) if reader in path} - seen
        found = [
            flat.nodes[reader] for reader in found if flat.nodes[reader].op not in ("Shape", "ShapeN", "Size", "Rank")
        ]
        for node in found:
            step = ("Mul", 1.0) if _hands_on(node) else _affine(flat, node, weights)
            if step is None:
                yield scale, offset, steps
                continue
            kind, value = step
            seen.add(node.name)
            more = steps + (not _hands_on(node))
            scaled = (scale * value, offset * value) if kind == "Mul" else (scale, offset + value)
            todo.append((node.name, *scaled, more))


def _hands_on(node: NodeDef) -> bool:
    """Moves pixels about without changing their range."""
    return node.op in SHAPE_OPS or node.op in MOVING_OPS


def _affine(flat: Flat, node: NodeDef, weights: Mapping[str, np.ndarray]):
    if node.op not in ("Mul", "RealDiv", "Div", "Sub", "Add", "AddV2", "BiasAdd") or len(node.input) != 2:
        return None
    values = [_known(flat, text, weights) for text in node.input]
    if (values[0] is None) == (values[1] is None):
        return None
    value = values[0] if values[1] is None else values[1]
    if value.dtype.kind not in "fiu" or value.size not in (1, 3) and value.size > 16:
        return None
    value = value.astype(np.float64).reshape(-1)
    if node.op in ("RealDiv", "Div"):
        return None if values[1] is None else ("Mul", 1 / np.where(value == 0, 1, value))
    if node.op == "Sub":
        return ("Add", -value) if values[1] is not None else None
    return ("Mul" if node.op == "Mul" else "Add", value)


def _known(flat: Flat, tensor: str, weights: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """A constant or a small weight, seen through reshapes and the square root of a Normalization layer."""
    name = split(tensor)[0]
    node = flat.nodes[name]
    if node.op in ("Sqrt", "Rsqrt", "Maximum", "Reshape", "Cast", "Identity"):
        values = [_known(flat, text, weights) for text in node.input[: 2 if node.op == "Maximum" else 1]]
        if any(value is None for value in values):
            return None
        functions = {"Sqrt": np.sqrt, "Rsqrt": lambda v: 1 / np.sqrt(v), "Maximum": np.maximum}
        return functions.get(node.op, lambda v: v)(*values)
    return weights.get(name, constant(flat.nodes, tensor))
