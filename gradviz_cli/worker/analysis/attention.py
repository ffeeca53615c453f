"""Attention among the patches of an image: which tensors hold it, and which of the tokens is which patch.

Both are told by value, on drawn images. Attention is what a product takes the rows of as weights: they are none below 0 and
sum to one, however their softmax is spelled. The grid is the shape of what cuts the image into patches; where the patches
stand among the tokens is seen by which token changes with which corner of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.estimators import Taps
from gradviz_cli.worker.analysis.activations import value_path
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.measure import measure
from gradviz_cli.worker.graph.graph import (
    Circle,
    Graph,
    ancestors,
    attribute,
    data_inputs,
    descendants,
    literal,
    source,
    sources_in_order,
    split,
    topological,
    types_of,
)
from gradviz_cli.worker.graph.match import origin
from gradviz_cli.worker.graph.question import Question

Array = np.ndarray

KIND = "attention"
PRODUCTS = frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "MatMul", "Einsum"})
# What cuts an image into patches: the last of them before the first attention has the grid.
CUTTING = frozenset({"Conv2D", "DepthwiseConv2dNative", "ExtractImagePatches", "MaxPool", "AvgPool"})
CUT_BY_RESHAPE = 6  # axes of an image whose height and width are each two axes
SUM, NEGATIVE = 1e-3, 1e-6  # how far rows may be from weights
MOST_BESIDE = 16  # tokens that are no patches: of a class, of a teacher, registers
WITHOUT = "-e grad-cam explains a model of convolutions"


def attention_taps(
    graph: Graph,
    question: Question,
    entry: Entry,
    constants: Mapping[str, Array],
    picture: Array,
    ends: tuple[float, float],
) -> Taps:
    """The attention of a model whose tokens are the patches of an image, from the image on.

    Parameters
    ----------
    constants : mapping
        Placeholder -> value of the other inputs.
    picture : float32 [h, w, c]
        A drawn image, between the values `ends`.

    Raises
    ------
    ModelUnusable
        It has none, or one that no map of the image can be made of.
    """
    way = _Way.of(graph, question)
    operands = list(dict.fromkeys(way.weights()))
    values = measure(graph, question.fed(graph), operands, entry, constants)(picture)[1] if operands else []
    found = {tensor: value.shape for tensor, value in zip(operands, values, strict=True) if _are_weights(value)}
    if not found:
        raise ModelUnusable("no attention lies between the image and the score", WITHOUT)
    tokens = _tokens(found)
    first = next(iter(found))
    way.check_nothing_else_mixes(split(first)[0])
    looked = _Looked(way, split(first)[0], entry)
    run = measure(graph, question.fed(graph), looked.tensors, entry, constants)
    grid = looked.grid(run(picture)[1])
    _check_grid(grid, tokens, first)
    start = looked.start(lambda image: run(image)[1], picture, ends, grid, tokens)
    return Taps(KIND, tuple(found), grid, certain=False, first=start)


@dataclass(frozen=True)
class _Way:
    """The nodes that carry the image to the score, each behind what it reads."""

    graph: Graph
    order: tuple[str, ...]

    @staticmethod
    def of(graph: Graph, question: Question) -> _Way:
        path = value_path(graph.nodes, [split(question.fed(graph))[0]], [graph.score])
        sources = {name: before for name, before in sources_in_order(graph.nodes).items() if name in path}
        try:
            return _Way(graph, tuple(topological(sources)))
        except Circle:  # a loop that is no function
            return _Way(graph, ())

    def products(self) -> list[NodeDef]:
        """Those of two tensors that both carry the image."""
        on_way = set(self.order)
        nodes = [self.graph.nodes[name] for name in self.order if self.graph.nodes[name].op in PRODUCTS]
        return [node for node in nodes if all(split(text)[0] in on_way for text in data_inputs(node))]

    def weights(self) -> Iterator[str]:
        """What products sum over the last axis of: the rows of these may be weights of the other tensor."""
        for node in self.products():
            inputs = data_inputs(node)
            if len(inputs) == 2:
                yield from (inputs[place] for place in _summed_last(node))

    def check_nothing_else_mixes(self, first: str) -> None:
        """Refuse convolutions behind the first attention: they carry from patch to patch what no attention says."""
        behind = descendants(self.graph.nodes, [first])
        for node in (self.graph.nodes[name] for name in self.order if name in behind):
            if node.op in CUTTING and not (node.op == "Conv2D" and self._is_point(source(node, 1))):
                raise ModelUnusable(
                    f"{node.name} mixes patches behind the attention {first}, which does not say how",
                    "chefer and attention-rollout need a model of attention alone, as ViT; -e grad-cam needs none",
                )

    def _is_point(self, kernel: str) -> bool:
        """Whether a kernel is known to see one place at a time."""
        graph = self.graph
        name = split(origin(graph.nodes, kernel))[0]
        if graph.nodes[name].op == "Const":
            return bool(literal(graph.nodes[name]).shape[:2] == (1, 1))
        value = graph.values.get(graph.weights.get(name, ""))
        return value is not None and tuple(value.shape[:2]) == (1, 1)


def _summed_last(node: NodeDef) -> list[int]:
    """The operands of a product whose last axis is summed over."""
    if node.op == "Einsum":
        terms, _, result = attribute(node, "equation").s.decode().partition("->")
        return [place for place, term in enumerate(terms.split(",")) if term and term[-1] not in result]
    names = ("transpose_a", "transpose_b") if node.op == "MatMul" else ("adj_x", "adj_y")
    first, second = (attribute(node, name).b for name in names)
    return [*([] if first else [0]), *([1] if second else [])]


def _are_weights(value: Array) -> bool:
    """Whether rows of a tensor are none below 0 and sum to one; of one number each they do that by accident."""
    if value.ndim < 2 or value.dtype.kind != "f" or min(value.shape[-2:]) < 1 or value.shape[-1] < 2:
        return False
    sums = value.sum(axis=-1, dtype=np.float64)
    return bool(value.min() >= -NEGATIVE and np.abs(sums - 1).max() <= SUM)


def _tokens(found: Mapping[str, tuple[int, ...]]) -> int:
    """How many tokens attend to each other, in all layers alike."""
    for tensor, shape in found.items():
        if shape[-1] != shape[-2]:
            raise ModelUnusable(
                f"the attention {tensor} is of {shape[-2]} tokens to {shape[-1]} others, and not among the patches",
                "chefer and attention-rollout need tokens that all attend to each other, as in ViT",
            )
    sizes = list(dict.fromkeys(shape[-1] for shape in found.values()))
    if len(sizes) > 1:
        raise ModelUnusable(
            f"the attention is among {', '.join(map(str, sizes))} tokens, a number of its own in each stage",
            "chefer and attention-rollout need the same tokens in all layers, as in ViT; the gradient and -e smoothgrad "
            "need none",
        )
    return sizes[0]


def _check_grid(grid: tuple[int, int], tokens: int, first: str) -> None:
    patches = grid[0] * grid[1]
    if tokens < patches:
        raise ModelUnusable(
            f"the attention {first} is among {tokens} tokens of {patches} patches ({grid[0]}x{grid[1]}): within windows, "
            "as in Swin, so that no row of it says where the whole model looks",
            "chefer and attention-rollout need tokens that all attend to each other; the gradient and -e smoothgrad need none",
        )
    if tokens > patches + MOST_BESIDE:
        raise ModelUnusable(
            f"the attention {first} is among {tokens} tokens, and the image is cut into {grid[0]}x{grid[1]} patches",
            "chefer and attention-rollout need a token for each patch, as in ViT",
        )


class _Looked:
    """What lies between the image and the first attention, to be run on drawn images."""

    def __init__(self, way: _Way, first: str, entry: Entry):
        before = ancestors(way.graph.nodes, [first])
        self._nodes, self._entry = way.graph.nodes, entry
        mixed = descendants(self._nodes, [node.name for node in way.products()])  # there tokens know each other
        self._names = [name for name in way.order if name in before - mixed and _is_float(self._nodes[name])]
        self.tensors = [f"{name}:0" for name in self._names]

    def grid(self, values: Sequence[Array]) -> tuple[int, int]:
        """Height and width of the last tensor that has patches for places."""
        for name, value in zip(reversed(self._names), reversed(values), strict=True):
            grid = self._cut(self._nodes[name], value.shape)
            if grid is not None:
                return grid
        raise ModelUnusable(
            "nothing between the image and the first attention has height and width, so that nobody knows where its tokens lie",
            "the gradient and -e smoothgrad need no grid",
        )

    def _cut(self, node: NodeDef, shape: Sequence[int]) -> tuple[int, int] | None:
        if node.op in CUTTING and len(shape) == 4:
            first = "data_format" in node.attr and attribute(node, "data_format").s == b"NCHW"
            return (shape[2], shape[3]) if first else (shape[1], shape[2])
        if node.op == "Reshape" and len(shape) == CUT_BY_RESHAPE:
            for sides in (shape[1:5], shape[2:6]):  # channels last, and first
                if (sides[0] * sides[1], sides[2] * sides[3]) == self._entry.size:
                    return sides[0], sides[2]
        return None

    def start(
        self,
        run: Callable[[Array], Sequence[Array]],
        picture: Array,
        ends: tuple[float, float],
        grid: tuple[int, int],
        tokens: int,
    ) -> int:
        """The place of the first patch among the tokens, which lie row by row behind it."""
        base = run(picture)
        place = self._of_tokens(base, tokens)
        height, width = grid
        starts = set()
        for row, column in ((0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)):
            changed = run(_changed(picture, ends, row, column, grid))[place] - base[place]
            changed = changed[0].reshape(tokens, -1)
            starts.add(int(np.abs(changed).max(-1).argmax()) - (row * width + column))
        if len(starts) > 1 or not 0 <= min(starts) <= tokens - height * width:
            raise ModelUnusable(
                f"the {tokens} tokens of the first attention are not the {height}x{width} patches row by row",
                "chefer and attention-rollout need a token for each patch, as in ViT",
            )
        return starts.pop()

    def _of_tokens(self, values: Sequence[Array], tokens: int) -> int:
        """The tensor nearest to the attention that has tokens along its second axis; none of them knows another yet."""
        count = self._entry.batch or 1
        fit = [place for place, value in enumerate(values) if value.ndim >= 3 and value.shape[:2] == (count, tokens)]
        flat = [place for place in fit if values[place].ndim == 3]
        if not fit:
            raise ModelUnusable(
                f"no tensor before the first attention holds its {tokens} tokens by themselves",
                "chefer and attention-rollout need a token for each patch, as in ViT",
            )
        return (flat or fit)[-1]


def _is_float(node: NodeDef) -> bool:
    types = types_of(node)
    return bool(types) and tf.dtypes.as_dtype(types[0]).is_floating


def _changed(picture: Array, ends: tuple[float, float], row: int, column: int, grid: tuple[int, int]) -> Array:
    """The picture with the patch at this place of the grid at the far end of the range."""
    changed = picture.copy()
    bounds = [
        np.rint(np.array([at, at + 1]) * size / count).astype(int)
        for at, size, count in zip((row, column), picture.shape, grid, strict=False)
    ]
    (top, bottom), (left, right) = bounds
    part = changed[top:bottom, left:right]
    part[...] = ends[0] if part.mean() > sum(ends) / 2 else ends[1]
    return changed
