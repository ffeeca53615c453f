"""Which pixel range a graph expects, where its own first steps say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Graph, consumers, source, split
from gradviz_cli.worker.graph.match import SHAPE_OPS, constant
from gradviz_cli.worker.graph.question import Question

# Many more ways than this from the image to the first layer are no preprocessing.
MAX_STEPS = 200
# Numbers that an image is scaled or shifted by: one, or one for each channel.
MAX_CHANNELS = 16
SIZES = frozenset({"Shape", "ShapeN", "Size", "Rank"})
MOVING_OPS = frozenset(
    ["Cast", "Transpose", "ResizeBilinear", "ResizeBicubic", "ResizeArea", "ResizeNearestNeighbor", "Pad", "MirrorPad"]
    + ["StridedSlice", "ReverseV2", "Split", "SplitV", "Unpack", "Pack", "ConcatV2", "GatherV2"]
)


@dataclass(frozen=True)
class _Start:
    """The graph around the image: who reads whom, what lies on the way to the score, and the small weights."""

    graph: Graph
    path: set[str]
    readers: Mapping[str, list[str]]
    weights: Mapping[str, np.ndarray]


def recognised_range(graph: Graph, question: Question) -> str | None:
    """The range that the graph's own first steps expect, or None when it does not rescale.

    Follows the image through multiplications and additions of constants (Rescaling, Normalization, `x / 127.5 - 1`)
    and asks which range of pixels these steps bring near to zero mean and unit size.
    """
    start = _Start(graph, question.path(graph), consumers(graph.nodes), _small_weights(graph))
    ends = list(_affine_ends(start, split(question.fed(graph))[0]))
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


def _small_weights(graph: Graph) -> dict[str, np.ndarray]:
    values = {name: graph.values[variable] for name, variable in graph.weights.items()}
    return {
        name: value.numpy()
        for name, value in values.items()
        if value.dtype.is_floating and value.shape.num_elements() <= MAX_CHANNELS
    }


Factor = float | np.ndarray  # for all channels, or one each


def _affine_ends(start: _Start, image: str) -> Iterator[tuple[Factor, Factor, int]]:
    """(scale, offset, number of steps) where the leading steps end, once for each way that the pixels go."""
    nodes = start.graph.nodes
    todo: list[tuple[str, Factor, Factor, int]] = [(image, 1.0, 0.0, 0)]
    seen: set[str] = set()
    while todo and len(seen) < MAX_STEPS:
        name, scale, offset, steps = todo.pop()
        ahead = {reader for reader in start.readers.get(name, ()) if reader in start.path} - seen
        for node in (nodes[reader] for reader in ahead if nodes[reader].op not in SIZES):
            step = ("Mul", 1.0) if _hands_on(node) else _affine(start, node)
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


def _affine(start: _Start, node: NodeDef) -> tuple[str, Factor] | None:
    """("Mul" or "Add", by what) of a node that scales or shifts what it reads."""
    if node.op not in ("Mul", "RealDiv", "Div", "Sub", "Add", "AddV2", "BiasAdd") or len(node.input) != 2:
        return None
    first, second = (_known(start, text) for text in node.input)
    if (first is None) == (second is None):
        return None
    value = first if second is None else second
    if value is None or value.dtype.kind not in "fiu" or value.size not in (1, 3) and value.size > MAX_CHANNELS:
        return None
    value = value.astype(np.float64).reshape(-1)
    if node.op in ("RealDiv", "Div"):
        return None if second is None else ("Mul", 1 / np.where(value == 0, 1, value))
    if node.op == "Sub":
        return ("Add", -value) if second is not None else None
    return ("Mul" if node.op == "Mul" else "Add", value)


def _known(start: _Start, tensor: str) -> np.ndarray | None:
    """A constant or a small weight, seen through reshapes and the square root of a Normalization layer."""
    node = start.graph.node(tensor)
    if node.op == "Maximum":
        one, other = (_known(start, source(node, index)) for index in (0, 1))
        return None if one is None or other is None else np.maximum(one, other)
    if node.op in ("Sqrt", "Rsqrt", "Reshape", "Cast", "Identity"):
        value = _known(start, source(node, 0))
        if value is None or node.op not in ("Sqrt", "Rsqrt"):
            return value
        return np.sqrt(value) if node.op == "Sqrt" else 1 / np.sqrt(value)
    return start.weights.get(node.name, constant(start.graph.nodes, tensor))
