"""Which axes of the input are height, width and channels, told by the first operations that treat them differently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.analysis.moves import MIXERS
from gradviz_cli.worker.graph.graph import Graph, attribute, consumers, data_inputs, source, split
from gradviz_cli.worker.graph.match import BATCH_NORMS, maker
from gradviz_cli.worker.graph.question import static_tensors

# Beyond so many operations nothing is looked for: it is the first layers that tell.
MAX_STEPS = 200
# Operations that name their axes with `data_format`: the input with a weight for each channel, and that weight's axis.
WINDOWS: dict[str, tuple[int, int] | None] = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative", "Conv3D"), (1, -2)),
    **dict.fromkeys(BATCH_NORMS, (1, 0)),
    **dict.fromkeys(("MaxPool", "AvgPool", "SpaceToDepth", "DepthToSpace", "MaxPool3D", "AvgPool3D"), None),
}
PICTURE_CHANNELS = (1, 3, 4)
# Resizes take [N, H, W, C] and nothing else.
RESIZES = frozenset({*MIXERS, "ResizeNearestNeighbor"})
# These leave the axes as they are; the second kind may leave another number of channels.
KEEPING = frozenset(
    {*ELEMENTWISE, "EnsureShape", "BiasAdd", "Reverse", "ReverseV2", "SpaceToBatchND", "BatchToSpaceND"}
)
CUTTING = frozenset({"Slice", "Gather", "GatherV2", "Concat", "ConcatV2", "Split", "SplitV", "Tile"})
PADDING = frozenset({"Pad", "PadV2", "MirrorPad"})
BLOCKS = frozenset({"SpaceToBatchND", "BatchToSpaceND"})  # of KEEPING: they keep the axes, and not their sizes
# Products, and the attributes that turn their two factors around; what takes one step after the other, and the input that
# holds them along its first axis.
PRODUCTS = {
    "MatMul": ("transpose_a", "transpose_b"),
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), ("adj_x", "adj_y")),
}
REDUCING = frozenset({"Mean", "Sum", "Max", "Min"})
STEPPING = {
    **dict.fromkeys(("TensorListFromTensor", "CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"), 0),
    **dict.fromkeys(("BlockLSTM", "BlockLSTMV2"), 1),
    "TensorArrayScatterV3": 2,
}


# A part of an axis of the input: the axis, then first or second part of it, and so on, so that parts sort as the numbers
# lie; and its size, -1 where open.
Part = tuple[tuple[int, ...], int]


@dataclass(frozen=True)
class Axes:
    """What the graph says of the axes of its input.

    Attributes
    ----------
    layout : str
        A letter for each axis, N, H, W, C or D; of a row of numbers for each axis that it is given, in the order in which
        the numbers lie. Empty where that is none which a picture can have.
    channels : int or None
    row : bool
        The input is a row of numbers, or may have any shape, and the graph gives it these axes.
    size : (height, width) or None
        Of a row.
    weighed : bool
        Only products with weights, or loops, say so; the rows of a picture may go through them too.
    along : str or None
        H or W, if the model goes step by step along that side later.
    windows : tuple of str
        The operations that say so.
    """

    layout: str
    channels: int | None = None
    row: bool = False
    size: tuple[int, int] | None = None
    weighed: bool = False
    along: str | None = None
    windows: tuple[str, ...] = field(default=(), compare=False)

    @property
    def one_axis(self) -> bool:
        """Whether it is channels along one axis, as of a sequence: a convolution of one dimension."""
        return "C" in self.layout and not {"H", "W"} <= set(self.layout)

    @property
    def picture(self) -> bool:
        """Whether it says where height and width of a row are, and how many numbers they hold."""
        return self.row and {*self.layout, "C"} == set("NHWC") and bool(self.sizes)

    @property
    def turned(self) -> str:
        """The layout with height and width the other way about."""
        return self.layout.translate(str.maketrans("HW", "WH"))

    @property
    def width_first(self) -> bool:
        """Whether its columns lie one after the other, or it lies on its side: which of these, no graph says."""
        return -1 < self.layout.find("W") < self.layout.find("H")

    @property
    def sizes(self) -> dict[str, int]:
        """Of a row by letter; empty where one is open."""
        if not (self.size and self.channels):
            return {}
        return {"H": self.size[0], "W": self.size[1], "C": self.channels}


@dataclass(frozen=True)
class _Way:
    """A tensor on the way, and of which parts of the input's axes each of its own is made (none: a new axis).

    `counted` as long as it has the channels of the input, `kept` as long as it has all of its numbers and no others,
    `anew` where they were given axes that have nothing to do with those of the input.
    """

    node: str
    axes: tuple[tuple[Part, ...], ...]
    counted: bool = True
    kept: bool = True
    anew: bool = False

    @property
    def parts(self) -> list[Part]:
        """In the order in which the numbers lie here."""
        return [part for axis in self.axes for part in axis]

    @property
    def row(self) -> bool:
        """Whether its axes are others than those of the input."""
        return self.anew or any(len(axis) > 1 or len(path) > 1 for axis in self.axes for path, _ in axis)


def find_axes(graph: Graph, fed: str, shape: Sequence[int | None]) -> Axes | None:
    """What all ways from the input agree on; None where nothing is said, or different things.

    The policy must have judged the graph. What windows say counts more than sizes that are those of pictures, and these
    more than an order of the numbers that is none of a picture; a product with weights says least.
    """
    sizes = [-1 if size is None else size for size in shape]
    seen = _look(graph, _Way(split(fed)[0], tuple((((axis,), size),) for axis, size in enumerate(sizes))))
    said = next((one for one in (seen.said, seen.by_sizes, seen.scattered, seen.weighed) if one), [])
    if len({one.layout for one in said}) != 1:
        return None
    counts, found = {one.channels for one in said} - {None}, {one.size for one in said} - {None}
    if len(counts) > 1 or len(found) > 1:
        return None
    windows = tuple(name for one in said for name in one.windows)
    return replace(said[0], channels=next(iter(counts), None), size=next(iter(found), None), windows=windows)


@dataclass(frozen=True)
class _Seen:
    """What is said of the axes, by what says it."""

    said: list[Axes] = field(default_factory=list)
    by_sizes: list[Axes] = field(default_factory=list)
    scattered: list[Axes] = field(default_factory=list)
    weighed: list[Axes] = field(default_factory=list)


def _look(graph: Graph, start: _Way) -> _Seen:
    """What operations say, breadth first; and where a row of numbers is given axes."""
    readers, known = consumers(graph.nodes), Known(graph.nodes)
    found, todo, seen, sized = _Seen(), [start], {start.node}, set[str]()
    while todo and len(seen) < MAX_STEPS:
        way = todo.pop(0)
        for name in readers.get(way.node, ()):
            if name in seen:
                continue
            seen.add(name)
            node = graph.nodes[name]
            if (axes := _letters(graph, node, way, start)) is not None:
                (found.said if axes.layout else found.scattered).append(replace(axes, windows=(name,)))
            elif (axes := _weighed(node, way, start)) is not None:
                found.weighed.append(axes)
            elif (further := _further(node, way, known, graph)) is not None:
                todo.append(further)
                told = _by_sizes(further, start) if node.op == "Reshape" and way.node not in sized else None
                found.by_sizes.extend([told] if told else [])
                sized.update([name] if told or way.node in sized else [])
    return found


def _letters(graph: Graph, node: NodeDef, way: _Way, start: _Way) -> Axes | None:
    """What an operation that knows its axes says of those of the input."""
    inputs, letters = data_inputs(node), letters_of(node)
    if not letters or not inputs or split(inputs[0])[0] != way.node or len(letters) != len(way.axes):
        return None
    axes = _named(way, letters)
    if axes is None:
        return Axes("", row=True) if len(start.axes) in (2, 3) and way.row else None
    if axes.row:
        return axes
    channels = _count(graph, node) if way.counted else None
    across = _across(graph, node, way, letters) if len(start.axes) == 3 else None
    return Axes(axes.layout.replace(across, "C") if across else axes.layout, channels, weighed=across is not None)


def letters_of(node: NodeDef) -> str:
    """A letter for each axis of what an operation takes that knows them, none of others."""
    if node.op in RESIZES:
        return "NHWC"
    return attribute(node, "data_format").s.decode() if node.op in WINDOWS else ""


def _named(way: _Way, letters: str) -> Axes | None:
    """The letters of a tensor's axes as those of the input's; None where its numbers lie in no order of such axes."""
    pairs = [(part, letter) for axis, letter in zip(way.axes, letters, strict=True) for part in axis]
    ordered = sorted(pairs)
    layout = "".join(letter for letter, _ in groupby(letter for _, letter in ordered))
    if len(set(layout)) < len(layout) or any(list(axis) != sorted(axis) for axis in way.axes):
        return None
    if not way.row:
        return Axes(layout)
    sizes = {letter: _product(axis) for axis, letter in zip(way.axes, letters, strict=True) if axis}
    height, width, channels = (sizes.get(letter, -1) for letter in "HWC")
    size = (height, width) if min(height, width) > 0 else None
    return Axes(layout, channels if channels > 0 else 1 if "C" not in sizes else None, True, size)


def _across(graph: Graph, node: NodeDef, way: _Way, letters: str) -> str | None:
    """The side of a plane that the first windows take in as a whole, and are only so wide along the other: features.

    So points [N, 1024, 3] and words [N, 50, 300] are convolved by windows 1x3 and 3x300.
    """
    if node.op != "Conv2D" or attribute(node, "padding").s != b"VALID":
        return None
    tensor = source(node, 1)
    (weight,) = static_tensors(graph.pruned([tensor]), tensor)
    if weight.shape.rank != 4:
        return None
    sides = {letter: _product(axis) for axis, letter in zip(way.axes, letters, strict=True) if axis and letter in "HW"}
    whole = [letter for letter, window in zip("HW", weight.shape[:2], strict=True) if sides.get(letter) == window]
    return whole[0] if len(whole) == 1 and len(sides) == 2 else None


def _weighed(node: NodeDef, way: _Way, start: _Way) -> Axes | None:
    """Of [N, steps, features]: what takes one step after the other, or sums over the features of each alone."""
    if len(start.axes) != 3 or way.anew:
        return None
    if node.op in STEPPING:
        return Axes("NWC", weighed=True)
    every = {path for path, size in start.parts[1:] if size != 1}
    touched = {path[:1] for path, _ in _summed(node, way)} & every
    return Axes("NWC", weighed=True) if touched and touched < every else None


def _summed(node: NodeDef, way: _Way) -> tuple[Part, ...]:
    """The parts of the axis over which a product with weights sums; none where it is no product."""
    inputs = [split(text)[0] for text in data_inputs(node)]
    place = inputs.index(way.node) if way.node in inputs else 0
    if node.op in PRODUCTS and len(way.axes) >= 2:
        turned = attribute(node, PRODUCTS[node.op][place]).b
        return way.axes[-1 if turned == bool(place) else -2]
    if node.op == "Einsum":
        terms, _, result = attribute(node, "equation").s.decode().replace(" ", "").partition("->")
        term = terms.split(",")[place]
        if len(term) == len(way.axes) and "." not in term:
            return tuple(
                part for letter, axis in zip(term, way.axes, strict=True) if letter not in result for part in axis
            )
    return ()


def _count(graph: Graph, node: NodeDef) -> int | None:
    """Channels that the weights of an operation are for."""
    place = WINDOWS.get(node.op)
    if place is None:
        return None
    index, axis = place
    tensor = source(node, index)
    (weight,) = static_tensors(graph.pruned([tensor]), tensor)
    count = None if weight.shape.rank is None else weight.shape[axis]
    return None if count is None else int(count)


def _by_sizes(way: _Way, start: _Way) -> Axes | None:
    """Axes that nothing names, where their sizes are those of pictures."""
    sizes = [_product(axis) for axis in way.axes]
    if not way.row or len(sizes) not in (3, 4) or min(sizes[1:]) < 1 or len(way.axes[0]) != 1:
        return None
    if way.parts[0][0] != (0,) or (way.anew and sizes[0] > 1):
        return None
    if len(sizes) == 3:
        axes = _named(way, "NHW")
    elif sizes[3] in PICTURE_CHANNELS:
        axes = _named(way, "NHWC")
    else:
        axes = _named(way, "NCHW") if sizes[1] in PICTURE_CHANNELS else None
    # Of points and steps several numbers may be three channels by chance, so only a square counts.
    chance = (
        len(start.axes) == 3 and axes is not None and (not axes.size or min(axes.size) < 16 or len(set(axes.size)) > 1)
    )
    return None if chance else axes


def _further(node: NodeDef, way: _Way, known: Known, graph: Graph) -> _Way | None:
    """The way behind an operation that leaves the axes as they are, or moves them about in a way that is known."""
    inputs = data_inputs(node)
    behind = replace(way, node=node.name)
    if node.op in KEEPING:
        return replace(behind, kept=way.kept and node.op not in BLOCKS)
    if node.op in PADDING:
        return replace(behind, kept=False)
    if node.op == "StridedSlice":
        return _sliced(node, behind, known)
    if node.op in CUTTING:
        return replace(behind, counted=False, kept=False)
    if node.op == "Unpack":
        return _without(behind, {attribute(node, "axis").i % len(way.axes)})
    if node.op == "Squeeze":
        dropped = {axis % len(way.axes) for axis in attribute(node, "squeeze_dims").list.i}
        return _without(behind, dropped) if dropped else None
    value = known(inputs[1]) if len(inputs) == 2 else None
    if node.op == "Reshape":
        return _reshaped(behind, sizes_of(graph, source(node, 1), known))
    if len(inputs) != 2 or split(inputs[0])[0] != way.node:
        return None
    if node.op == "Transpose":
        order = sizes_of(graph, inputs[1], known) or ()
        turned = sorted(order) == list(range(len(way.axes)))
        return replace(behind, axes=tuple(way.axes[axis] for axis in order)) if turned else None
    if value is not None and node.op in REDUCING and len(way.axes) == 3 and not attribute(node, "keep_dims").b:
        return _without(behind, {int(axis) % 3 for axis in value.ravel()})
    if value is not None and node.op == "ExpandDims":
        place = int(value.reshape(())) % (len(way.axes) + 1)
        return replace(behind, axes=(*way.axes[:place], (), *way.axes[place:]))
    return None


def _without(way: _Way, dropped: set[int]) -> _Way:
    """Without some axes; numbers are left out where these are longer than one."""
    left = tuple(one for place, one in enumerate(way.axes) if place not in dropped)
    return replace(way, axes=left, kept=way.kept and all(_product(way.axes[place]) == 1 for place in dropped))


def _sliced(node: NodeDef, way: _Way, known: Known) -> _Way | None:
    """x[..., None], x[0], x[:, ::-1]: axes that are new, left out, or cut."""
    begin = known(source(node, 1))
    if begin is None:
        return None
    marks = {name: attribute(node, f"{name}_mask").i for name in ("new_axis", "shrink_axis", "ellipsis")}
    words = [next((name for name, mask in marks.items() if mask >> place & 1), "cut") for place in range(begin.size)]
    steps, ends = known(source(node, 3)), attribute(node, "begin_mask").i & attribute(node, "end_mask").i
    if steps is None or np.any(np.abs(steps) != 1):
        ends = 0
    left, axes, kept = list(way.axes), list[tuple[Part, ...]](), way.kept
    for place, word in enumerate(words):
        rest = len(left) if word == "ellipsis" else 0
        after = sum(one in ("shrink_axis", "cut") for one in words[place + 1 :])
        if word == "new_axis":
            axes.append(())
        elif word == "ellipsis":
            axes += left[: rest - after]
            del left[: rest - after]
        elif left:
            axis = left.pop(0)
            kept = kept and (_product(axis) == 1 if word == "shrink_axis" else bool(ends >> place & 1))
            axes += [axis][word == "shrink_axis" :]
    return replace(way, axes=(*axes, *left), counted=way.counted and "cut" not in words, kept=kept)


def _reshaped(way: _Way, sizes: tuple[int, ...] | None) -> _Way | None:
    """The same parts, joined and split; or numbers that lie as they are fed, given axes of another kind."""
    if not sizes or not way.kept or (len(way.axes) == 4 > len(sizes) and not way.row):
        return None  # what a picture is flattened to is no matter
    if (axes := _regrouped(way.parts, sizes)) is not None:
        return replace(way, axes=axes, counted=True)
    fits = (len(way.axes), len(sizes)) in ((2, 3), (2, 4), (3, 3), (3, 4), (4, 4))
    if not fits or way.anew or way.parts != sorted(way.parts):
        return None
    parts = [((axis,), size if size > 0 else -1) for axis, size in enumerate(sizes)]
    return replace(way, axes=tuple((part,) for part in parts), counted=True, anew=True)


def _regrouped(parts: list[Part], sizes: tuple[int, ...]) -> tuple[tuple[Part, ...], ...] | None:
    """Parts as axes of these sizes, from the last one on; None where they do not fit. The first takes what is left."""
    left, groups = list(parts), list[tuple[Part, ...]]()
    for size in reversed(_filled(parts, sizes)):
        wanted, group = size, list[Part]()
        if wanted < 1:
            return None
        if wanted == 1 and len(left) > 1 and left[-1][1] == 1:
            group.append(left.pop())
        while wanted > 1:
            if not left:
                return None
            path, length = left.pop()
            if length < 1 or wanted % length and length % wanted:
                return None
            if wanted % length:
                left.append(((*path, 0), length // wanted))
                path, length = (*path, 1), wanted
            wanted //= length
            group[:0] = [(path, length)] if length > 1 else []
        groups.insert(0, tuple(group))
    rest = tuple(part for part in left if part[1] != 1 or part[0] == (0,))
    return None if sizes[0] > 0 and _product(rest) not in (-1, sizes[0]) else (rest, *groups)


def _filled(parts: list[Part], sizes: tuple[int, ...]) -> list[int]:
    """The sizes behind the first, one that is open worked out of the others."""
    rest, numbers = list(sizes[1:]), _product(tuple(parts[1:]))
    others = math.prod(size for size in rest if size > 0)
    if 0 not in rest and rest.count(-1) == 1 and numbers > 0 and numbers % others == 0:
        return [size if size >= 0 else numbers // others for size in rest]
    return rest


def _product(axis: tuple[Part, ...]) -> int:
    """The size of an axis, -1 where open."""
    sizes = [size for _, size in axis]
    return -1 if any(size < 0 for size in sizes) else math.prod(sizes)


def sizes_of(graph: Graph, tensor: str, known: Known) -> tuple[int, ...] | None:
    """A shape that is written in the graph, -1 for what is left over, 0 where it depends on the batch."""
    value = known(tensor)
    if value is not None and value.ndim == 1:
        return tuple(map(int, value))
    node = maker(graph.nodes, tensor)
    if node.op == "Pack":
        return tuple(_length(graph, one, known) for one in data_inputs(node))
    if node.op == "ConcatV2":
        several = [known(one) for one in data_inputs(node)[:-1]]
        return tuple(size for one in several for size in ([0] if one is None else map(int, one.ravel())))
    return None


def _length(graph: Graph, tensor: str, known: Known) -> int:
    """One number of a shape; of `tensordot` the product of some axes of its first factor."""
    value = known(tensor)
    if value is not None:
        return int(value)
    node = maker(graph.nodes, tensor)
    node = maker(graph.nodes, source(node, 0)) if node.op == "Prod" else node
    places = known(source(node, 1)) if node.op in ("Gather", "GatherV2") else None
    shape = maker(graph.nodes, source(node, 0)) if places is not None else node
    if places is None or shape.op != "Shape":
        return 0
    (measured,) = static_tensors(graph.pruned([source(shape, 0)]), source(shape, 0))
    sizes = [] if measured.shape.rank is None else [measured.shape[int(place)] for place in places.ravel()]
    return math.prod(sizes) if sizes and None not in sizes else 0
