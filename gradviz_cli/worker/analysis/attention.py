"""Attention among the patches of an image: which tensors hold it, and which of the tokens is which patch.

All of it is told by value, on a drawn image. Attention is what a product weighs the tokens with: see `weighing`. The grid is
the shape of what cuts the image into patches. Where these stand among the tokens, and that nothing but attention carries
from one to another, is seen by changing one patch while each token attends to itself alone: no other may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.estimators import Taps
from gradviz_cli.worker.analysis.activations import value_path
from gradviz_cli.worker.analysis.entry import Entry
from gradviz_cli.worker.analysis.measure import Run, measured
from gradviz_cli.worker.analysis.weighing import PRODUCTS, Weighing, are_weights, weighings
from gradviz_cli.worker.graph.graph import (
    LOOPS,
    Circle,
    Graph,
    ancestors,
    attribute,
    data_inputs,
    descendants,
    functions_called,
    source,
    sources_in_order,
    split,
    topological,
    types_of,
)
from gradviz_cli.worker.graph.question import Question
from gradviz_cli.worker.graph.shapes import inferred, of_weights

Array = np.ndarray

KIND = "attention"
# What mixes neighbours, and what cuts an image into patches: the last one before the first attention has the grid.
KERNELS = frozenset({"Conv2D", "DepthwiseConv2dNative"})
MIXING = frozenset({*KERNELS, "MaxPool", "AvgPool", "ExtractImagePatches"})
CUTTING = frozenset({*MIXING, "SpaceToDepth"})
CHANGED = 1e-2  # of the change of a patch: by more, another token is changed with it
MOST_BESIDE = 16  # tokens that are no patches: of a class, of a teacher, registers
WITHOUT = "-e grad-cam explains a model of convolutions"
AS_VIT = "chefer and attention-rollout need a token for each patch, as in ViT"
ALONE = "chefer and attention-rollout need a model of attention alone, as ViT; -e grad-cam needs none"
QUARTERS = tuple((top, left) for top in (0, 1) for left in (0, 1))
ALL_TO_ALL = "chefer and attention-rollout need tokens that all attend to each other, as in ViT"


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
    if not way.products:
        raise ModelUnusable(f"no attention lies between the image and the score{way.loops}", WITHOUT)
    run = measured(graph, question.fed(graph), way.tensors, entry, constants)
    looked = _Looked(way, run, entry, picture, ends)
    if not looked.weighings:
        looked.why_none()
    way.check_nothing_else_mixes(split(looked.weighings[0].weights)[0])
    start = looked.start()
    layers = looked.layers()
    looked.check_tokens_stay_apart(start)
    taps = [one for layer in layers for one in layer]
    return Taps(
        KIND,
        tuple(one.weights for one in taps),
        looked.grid.size,
        certain=False,
        first=start,
        tokens=taps[0].keys,
        turns=tuple(one.turn for one in taps),
        layers=tuple(map(len, layers)),
    )


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

    @cached_property
    def products(self) -> list[NodeDef]:
        """Those of two tensors that both carry the image."""
        on_way = set(self.order)
        nodes = [self.graph.nodes[name] for name in self.order if self.graph.nodes[name].op in PRODUCTS]
        return [node for node in nodes if all(split(text)[0] in on_way for text in data_inputs(node))]

    @property
    def tensors(self) -> list[str]:
        """All that is looked at: what is multiplied, and what lies before the first product or takes a mean."""
        operands = [text for node in self.products for text in data_inputs(node)]
        return list(dict.fromkeys([*operands, *self.before, *self.means]))

    @cached_property
    def before(self) -> list[str]:
        """What may have the grid, the last one first: before the first product, as behind it tokens know each other."""
        nodes = self.graph.nodes
        behind = descendants(nodes, [node.name for node in self.products])
        early = ancestors(nodes, data_inputs(self.products[0])) - behind
        some = (nodes[name] for name in reversed(self.order) if name in early)
        return [f"{node.name}:0" for node in some if node.op in {*CUTTING, "Reshape"} and _is_float(node)]

    @cached_property
    def means(self) -> list[str]:
        """Means on the way to the last product: statistics of a norm, as a rule."""
        nodes = self.graph.nodes
        early = ancestors(nodes, data_inputs(self.products[-1]))
        return [
            f"{name}:0" for name in self.order if name in early and nodes[name].op == "Mean" and _is_float(nodes[name])
        ]

    @property
    def loops(self) -> str:
        """Words on a loop, into which nobody looks for attention."""
        looped = next((name for name in self.order if self.graph.nodes[name].op in LOOPS), None)
        return f", but for the loop {looped}, into which gradviz does not look for it" if looped else ""

    def check_nothing_else_mixes(self, first: str) -> None:
        """Refuse convolutions behind the first attention: they carry from patch to patch what no attention says."""
        behind = descendants(self.graph.nodes, [first])
        nodes = [self.graph.nodes[name] for name in self.order if name in behind]
        kernels = [source(node, 1) for node in nodes if node.op in KERNELS]
        shapes = inferred(self.graph.nodes, kernels, of_weights(self.graph))
        points = {kernel for kernel, shape in shapes.items() if shape.rank == 4 and shape[:2] == (1, 1)}
        for node in nodes:
            if node.op in LOOPS and self._multiplies(node):
                raise ModelUnusable(
                    f"the loop {node.name} behind the attention {first} may hold attention too, and gradviz does not look into "
                    "it",
                    "chefer and attention-rollout need layers that lie in the graph itself; the gradient and -e smoothgrad "
                    "need none",
                )
            if node.op in MIXING and not (node.op in KERNELS and source(node, 1) in points):
                raise ModelUnusable(
                    f"{node.name} mixes patches behind the attention {first}, which does not say how", ALONE
                )

    def _multiplies(self, loop: NodeDef) -> bool:
        """Whether a loop holds products as those of attention, of several matrices at once; recurrent cells have none."""
        called = functions_called([loop], self.graph.functions)
        ops = {node.op for name in called for node in self.graph.functions[name].nodes.values()}
        return bool(ops & PRODUCTS - {"MatMul"})


@dataclass(frozen=True)
class _Grid:
    """A tensor that has patches for places.

    Attributes
    ----------
    axes : (int, int)
        Those along which the rows and columns of patches lie.
    """

    tensor: str
    size: tuple[int, int]
    axes: tuple[int, int]

    @property
    def corners(self) -> list[tuple[int, int]]:
        height, width = self.size
        return list(dict.fromkeys([(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)]))

    def changed(self, value: Array, places: Sequence[tuple[int, int]]) -> Array:
        """The value with other numbers at these places."""
        found = value.copy()
        random = np.random.default_rng(0)
        for row, column in places:
            patch = np.moveaxis(found, self.axes, (0, 1))[row, column]
            patch += (random.normal(size=patch.shape[1:]) * (value.std() or 1)).astype(value.dtype)
        return found

    def middle(self, change: Array) -> tuple[float, float] | None:
        """(row, column) about which a change lies, from 0 to 1 each; None where there is none."""
        heat = np.moveaxis(np.abs(change), self.axes, (0, 1)).reshape(*self.size, -1).max(axis=2)
        if not heat.sum() > 0:
            return None
        rows, columns = ((np.arange(count) + 0.5) / count for count in self.size)
        return float(rows @ heat.sum(axis=1) / heat.sum()), float(columns @ heat.sum(axis=0) / heat.sum())


@dataclass
class _Looked:
    """A model as it is looked at on drawn images; `run` says what tensors hold then."""

    way: _Way
    run: Callable[..., Run]
    entry: Entry
    picture: Array
    ends: tuple[float, float]

    @cached_property
    def values(self) -> dict[str, Array]:
        """Of all tensors, as the model is."""
        tensors = self.way.tensors
        return dict(zip(tensors, self.run(tensors)(self.picture)[1], strict=True))

    @cached_property
    def every(self) -> list[Weighing]:
        """Each operand of each product, as what weighs the other."""
        return [one for node in self.way.products for one in weighings(node, self.values)]

    @cached_property
    def weighings(self) -> list[Weighing]:
        """Those by weights, each tensor once."""
        found = {one.weights: one for one in reversed(self.every) if are_weights(one, self.values[one.weights])}
        for tensor in self.values.keys() - {*self.way.before}:
            del self.values[tensor]  # of many tokens it is large
        return [found[one.weights] for one in self.every if found.get(one.weights) is one]

    def why_none(self) -> NoReturn:
        """Raises that there is no attention; what is nearest to it is named."""
        nodes = self.way.graph.nodes
        made = descendants(nodes, [node.name for node in self.way.products])
        near = next((one for one in self.every if one.queries and split(one.weights)[0] in made), None)
        near = near if near and near.node in made else None
        if near:
            raise ModelUnusable(
                f"{near.weights}, which weighs the tokens in {near.node}, has rows that do not sum to one: no softmax makes "
                "it, or dropout or another product changes that",
                "chefer and attention-rollout need what a softmax gives; the gradient and -e smoothgrad need none",
            )
        raise ModelUnusable(f"no attention lies between the image and the score{self.way.loops}", WITHOUT)

    # -- patches and tokens

    @cached_property
    def grid(self) -> _Grid:
        """Of the last tensor that has patches for places, and these where they are in the image."""
        grids = [grid for tensor in self.way.before for grid in self._cuts(tensor)]
        if not grids:
            raise ModelUnusable(
                "nothing between the image and the first attention has height and width, so that nobody knows where its "
                "tokens lie",
                "the gradient and -e smoothgrad need no grid",
            )
        tensors = list(dict.fromkeys(grid.tensor for grid in grids))
        run = self.run(tensors)
        changed = [
            dict(zip(tensors, run(_changed(self.picture, self.ends, *quarter))[1], strict=True)) for quarter in QUARTERS
        ]

        def is_of_image(grid: _Grid) -> bool:
            before = self.values[grid.tensor].astype(np.float64)
            return _lie_as_quarters([grid.middle(one[grid.tensor] - before) for one in changed], grid.size)

        # tokens in one row or column have such places too
        grids.sort(key=lambda grid: (not _is_count(grid.size, self.weighings[0].keys), min(grid.size) == 1))
        found = next(filter(is_of_image, grids), None)
        if found is None:
            height, width = grids[0].size
            raise ModelUnusable(
                f"the places of {grids[0].tensor} are not {height}x{width} patches of the image row by row, so that nobody "
                "knows where its tokens lie",
                "the gradient and -e smoothgrad need no grid",
            )
        return found

    def _cuts(self, tensor: str) -> Iterator[_Grid]:
        node, shape = self.way.graph.node(tensor), self.values[tensor].shape
        if node.op in CUTTING and len(shape) == 4:
            first = "data_format" in node.attr and attribute(node, "data_format").s == b"NCHW"
            axes = (2, 3) if first else (1, 2)
            yield _Grid(tensor, (shape[axes[0]], shape[axes[1]]), axes)
        if node.op == "Reshape":
            height, width = self.entry.size
            # channels last, channels first, channels as a part of the columns
            for top, side in ((1, width), (2, width), (1, width * self.entry.channels)):
                sides = shape[top : top + 4]
                if len(sides) == 4 and (sides[0] * sides[1], sides[2] * sides[3]) == (height, side):
                    yield _Grid(tensor, (sides[0], sides[2]), (top, top + 2))

    def start(self) -> int:
        """The place of the first patch among the tokens, which lie row by row behind it."""
        one, grid = self.weighings[0], self.grid
        width = grid.size[1]
        changes = self._apart({}, [one], [[corner] for corner in grid.corners])
        told = [each[one] for each in changes]
        if not all(_is_alone(each, 1) for each in told):
            raise ModelUnusable(
                f"the attention {one.weights} weighs {one.values}, in which the patches do not stand by themselves: it is not "
                "among them, or they are mixed before it",
                AS_VIT,
            )
        self._check_square()
        _check_count(grid.size, one)
        starts = {
            int(each.argmax()) - (row * width + column) for each, (row, column) in zip(told, grid.corners, strict=True)
        }
        if len(starts) > 1 or not 0 <= min(starts) <= one.keys - grid.size[0] * width:
            raise ModelUnusable(
                f"the {one.keys} tokens of the first attention are not the {grid.size[0]}x{width} patches row by row",
                AS_VIT,
            )
        return starts.pop()

    def _check_square(self) -> None:
        """Refuse attention that is not of all tokens to all of them, in all layers alike."""
        for one in self.weighings:
            if not one.queries:
                raise ModelUnusable(
                    f"the attention {one.weights} is of {one.sums} tokens to {one.keys} others, and not among the patches",
                    ALL_TO_ALL,
                )
        sizes = list(dict.fromkeys(one.keys for one in self.weighings))
        if len(sizes) > 1:
            raise ModelUnusable(
                f"the attention is among {', '.join(map(str, sizes))} tokens, a number of its own in each stage",
                "chefer and attention-rollout need the same tokens in all layers, as in ViT; the gradient and -e smoothgrad "
                "need none",
            )

    # -- layers, and what lies between them

    def layers(self) -> list[list[Weighing]]:
        """The attention layer by layer: of tensors that know nothing of each other each holds some heads of a layer."""
        nodes, found = self.way.graph.nodes, self.weighings
        self._check_used_once()
        known = {one.node: ancestors(nodes, [one.node]) - {one.node} for one in found}
        depth: dict[str, int] = {}
        for one in found:
            depth[one.node] = max((depth[each.node] + 1 for each in found if each.node in known[one.node]), default=0)
        layers = [[one for one in found if depth[one.node] == level] for level in range(max(depth.values()) + 1)]
        for before, layer in zip(layers, layers[1:], strict=False):
            for one in layer:
                unknown = next((each for each in before if each.node not in known[one.node]), None)
                if unknown:
                    raise ModelUnusable(
                        f"the attention {unknown.weights} and {one.weights} lie side by side, in branches of their own",
                        "chefer and attention-rollout need one layer after the other, as in ViT; the gradient and "
                        "-e smoothgrad need none",
                    )
        return layers

    def _check_used_once(self) -> None:
        """Refuse attention that another layer takes over: its gradient is that of all its uses together."""
        nodes = self.way.graph.nodes
        users = {
            one.weights: [each.node for each in self.every if each.weights == one.weights] for one in self.weighings
        }
        for tensor, names in users.items():
            if len(names) > 1 and any(ancestors(nodes, [one]) & {*names} - {one} for one in names):
                raise ModelUnusable(
                    f"the attention {tensor} is that of several layers, and its gradient that of all of them together",
                    "chefer and attention-rollout need attention of its own in each layer; the gradient and -e smoothgrad "
                    "need none",
                )

    def check_tokens_stay_apart(self, start: int) -> None:
        """Refuse a model in which something else than attention carries from token to token."""
        found = self.weighings
        width, corners = self.grid.size[1], self.grid.corners[:3]
        places = [start + row * width + column for row, column in corners]
        itself = {one.weights: one.to_itself() for one in found}
        others = [
            one
            for one in self.every
            if one.keys == found[0].keys and one.queries and not itself.keys() & {one.weights, one.values}
        ]
        if len(found) < 2 and not others:
            return
        (changes,) = self._apart(itself, found, [corners], others)
        for one in found:
            if not _is_at(changes[one], places):
                raise ModelUnusable(
                    f"something else than attention mixes the tokens before {one.values}, which the attention {one.weights} "
                    "weighs, and does not say how",
                    ALONE,
                )
        for one in others:
            if _is_at(changes[one], places):
                raise ModelUnusable(
                    f"{one.node} weighs the tokens with {one.weights}, whose rows do not sum to one as those of a softmax do",
                    "chefer and attention-rollout need what a softmax gives in every layer; the gradient and -e smoothgrad "
                    "need none",
                )

    def _apart(
        self,
        itself: Mapping[str, Array],
        some: Sequence[Weighing],
        several: Sequence[Sequence[tuple[int, int]]],
        beside: Sequence[Weighing] = (),
    ) -> list[dict[Weighing, Array]]:
        """For each of several choices of patches, how much the values of each token change with them. Where others change with
        the statistics of a norm, these are held."""
        changes = self._changes(itself, [*some, *beside], several)
        if all(
            _is_alone(each[one], len(places)) for each, places in zip(changes, several, strict=True) for one in some
        ):
            return changes
        before = ancestors(self.way.graph.nodes, [one.values for one in some])
        means = [mean for mean in self.way.means if split(mean)[0] in before]
        if not means:
            return changes
        values = self.run(means, list(itself))(self.picture, *itself.values())[1]
        return self._changes({**itself, **dict(zip(means, values, strict=True))}, [*some, *beside], several)

    def _changes(
        self, held: Mapping[str, Array], some: Sequence[Weighing], several: Sequence[Sequence[tuple[int, int]]]
    ) -> list[dict[Weighing, Array]]:
        grid = self.grid
        tensors = list(
            dict.fromkeys(one.values for one in some if one.values not in held)
        )  # what is held never changes
        run = self.run(tensors, [grid.tensor, *held])

        def of(places: Sequence[tuple[int, int]]) -> dict[str, Array]:
            value = grid.changed(self.values[grid.tensor], places)
            return dict(zip(tensors, run(self.picture, value, *held.values())[1], strict=True))

        before, found = of([]), []
        for places in several:
            after = of(places)
            same = {one: np.zeros(one.keys) for one in some}
            found.append(
                same | {one: one.changes(before[one.values], after[one.values]) for one in some if one.values in after}
            )
        return found


def _is_at(changes: Array, places: Sequence[int]) -> bool:
    """Whether these tokens have changed, and no others."""
    own = changes[list(places)]
    others = np.delete(changes, places)
    return bool(own.min() > 0 and others.max(initial=0) <= CHANGED * own.max())


def _is_alone(changes: Array, count: int) -> bool:
    """Whether so many tokens have changed, and no others."""
    return _is_at(changes, [int(place) for place in np.argsort(changes)[-count:]])


def _check_count(grid: tuple[int, int], one: Weighing) -> None:
    patches = grid[0] * grid[1]
    if one.keys < patches:
        raise ModelUnusable(
            f"the attention {one.weights} is among {one.keys} tokens of {patches} patches ({grid[0]}x{grid[1]}): within "
            "windows, as in Swin, so that no row of it says where the whole model looks",
            "chefer and attention-rollout need tokens that all attend to each other; the gradient and -e smoothgrad need none",
        )
    if one.keys > patches + MOST_BESIDE:
        raise ModelUnusable(
            f"the attention {one.weights} is among {one.keys} tokens, and the image is cut into {grid[0]}x{grid[1]} patches",
            AS_VIT,
        )


def _is_count(grid: tuple[int, int], tokens: int) -> bool:
    patches = grid[0] * grid[1]
    return patches <= tokens <= patches + MOST_BESIDE


def _lie_as_quarters(middles: Sequence[tuple[float, float] | None], grid: tuple[int, int]) -> bool:
    """Whether changes of the four quarters of the image lie below each other along the rows of a grid, and beside each other
    along its columns; of one row or column nothing is told."""
    if None in middles:
        return False
    apart = np.array(middles).reshape(2, 2, 2)  # above and below, left and right -> row and column
    down, across = (apart[1] - apart[0]).mean(axis=0), (apart[:, 1] - apart[:, 0]).mean(axis=0)
    return (grid[0] == 1 or down[0] > abs(across[0])) and (grid[1] == 1 or across[1] > abs(down[1]))


def _is_float(node: NodeDef) -> bool:
    types = types_of(node)
    return bool(types) and tf.dtypes.as_dtype(types[0]).is_floating


def _changed(picture: Array, ends: tuple[float, float], top: int, left: int) -> Array:
    """The picture with a quarter of it, above or below and left or right, at the far end of the range."""
    changed = picture.copy()
    height, width = (-(-side // 2) for side in picture.shape[:2])
    rows = slice(height) if not top else slice(picture.shape[0] - height, None)
    columns = slice(width) if not left else slice(picture.shape[1] - width, None)
    part = changed[rows, columns]
    part[...] = ends[0] if part.mean() > sum(ends) / 2 else ends[1]
    return changed
