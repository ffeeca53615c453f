"""Which pixel range a graph expects, where its own first steps say so."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.expand import Flat, consumers, split
from gradviz_cli.worker.patch import constant
from gradviz_cli.worker.score import SHAPE_OPS


def found_preprocess(
    flat: Flat, image: str, path: Collection[str], weights: Mapping[str, np.ndarray]
) -> str | None:
    """The range that the graph's own first steps expect, or None when it does not rescale.

    Follows the image through multiplications and additions of constants (Rescaling, Normalization, `x / 127.5 - 1`)
    and asks which range of pixels these steps bring near to zero mean and unit size.
    """
    scale, offset, steps = 1.0, 0.0, 0
    for kind, values in _affine_steps(flat, split(image)[0], path, weights):
        steps += 1
        if kind == "Mul":
            scale, offset = scale * values, offset * values
        else:
            offset = offset + values
    if not steps:
        return None
    for name, high in (("raw", 255.0), ("unit", 1.0)):
        low_end, high_end = np.min(offset), np.max(scale * high + offset)
        if -300 <= low_end and 0.45 <= high_end - low_end <= 12 and low_end >= -6:
            return name
    centred = np.max(np.abs(np.asarray(offset) + 115)) < 20 and np.allclose(scale, 1)
    return "raw" if centred else None


def _affine_steps(flat: Flat, name: str, path: Collection[str], weights: Mapping[str, np.ndarray]):
    """(kind, constant) of each leading step, additions as `Add`, divisions as `Mul` by the inverse."""
    readers = consumers(flat.nodes)
    for _ in range(30):
        found = [flat.nodes[reader] for reader in readers.get(name, ()) if reader in path]
        found = [node for node in found if node.op not in ("Shape", "ShapeN", "Size", "Rank")]
        if len({node.name for node in found}) != 1:
            return
        node = found[0]
        name = node.name
        if node.op in SHAPE_OPS or node.op in ("Cast", "Transpose", "ResizeBilinear", "Pad", "MirrorPad", "StridedSlice"):
            continue
        step = _affine(flat, node, weights)
        if step is None:
            return
        yield step


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
