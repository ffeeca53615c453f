"""Which axes of the input are height, width and channels, told by the first operations that treat them differently."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Axes:
    """What the graph says of the axes of its input.

    Attributes
    ----------
    layout : str
        A letter for each axis, N, H, W, C or D; of a row of numbers for each axis that it is given.
    channels : int or None
    row : bool
        The input is a row of numbers, or may have any shape, and the graph gives it these axes.
    size : (height, width) or None
        Of a row.
    """

    layout: str
    channels: int | None = None
    row: bool = False
    size: tuple[int, int] | None = None

    @property
    def one_axis(self) -> bool:
        """Whether it is channels along one axis, as of a sequence: a convolution of one dimension."""
        return "C" in self.layout and not {"H", "W"} <= set(self.layout)


@dataclass(frozen=True)
class _Way:
    """A tensor on the way, and which axis of the input each of its own is (None: none).

    `counted` as long as it has the channels of the input; `sizes` of the axes that a row of numbers was given, -1 where
    open.
    """

    node: str
    axes: tuple[int | None, ...]
    counted: bool = True
    sizes: tuple[int, ...] = ()


def find_axes(graph: Graph, fed: str, rank: int) -> Axes | None:
    """What all ways from the input agree on; None where nothing is said, or different things.

    The policy must have judged the graph.
    """
    said, rows = _look(graph, _Way(split(fed)[0], tuple(range(rank))))
    said = said or [one for way in rows if (one := _by_sizes(way))]
    if len({one.layout for one in said}) != 1:
        return None
    counts, sizes = {one.channels for one in said} - {None}, {one.size for one in said} - {None}
    if len(counts) > 1 or len(sizes) > 1:
        return None
    return replace(said[0], channels=next(iter(counts), None), size=next(iter(sizes), None))


def _look(graph: Graph, start: _Way) -> tuple[list[Axes], list[_Way]]:
    """What operations say, breadth first; and where a row of numbers is given axes."""
    readers, known = consumers(graph.nodes), Known(graph.nodes)
    said, rows, todo, seen = [], [], [start], {start.node}
    while todo and len(seen) < MAX_STEPS:
        way = todo.pop(0)
        for name in readers.get(way.node, ()):
            if name in seen:
                continue
            seen.add(name)
            node = graph.nodes[name]
            if (axes := _letters(graph, node, way)) is not None:
                said.append(axes)
            elif (further := _further(node, way, known, graph)) is not None:
                todo.append(further)
                rows += [further] if further.sizes and not way.sizes else []
    return said, rows


def _letters(graph: Graph, node: NodeDef, way: _Way) -> Axes | None:
    """What an operation that knows its axes says of those of the input."""
    inputs = data_inputs(node)
    if node.op in RESIZES:
        letters = "NHWC"
    elif node.op in WINDOWS:
        letters = attribute(node, "data_format").s.decode()
    else:
        return None
    if not inputs or split(inputs[0])[0] != way.node or len(letters) != len(way.axes):
        return None
    by_axis = {axis: letter for axis, letter in zip(way.axes, letters, strict=True) if axis is not None}
    layout = "".join(by_axis[axis] for axis in sorted(by_axis))
    channels = _count(graph, node) if way.counted else None
    return _with_sizes(Axes(layout, channels), way)


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


def _with_sizes(axes: Axes, way: _Way) -> Axes:
    """Of a row also the sizes that it is given."""
    if not way.sizes:
        return axes
    sizes = dict(zip(axes.layout, way.sizes, strict=False))
    height, width, channels = (sizes.get(letter, -1) for letter in "HWC")
    size = (height, width) if min(height, width) > 0 else None
    return Axes(axes.layout, channels if channels > 0 else 1 if "C" not in sizes else None, True, size)


def _by_sizes(way: _Way) -> Axes | None:
    """Axes that nothing names, where their sizes are those of pictures."""
    open_first = way.sizes[0] < 0 or way.sizes[0] == 1
    if not open_first or min(way.sizes[1:]) < 1 or len(way.sizes) not in (3, 4):
        return None
    if len(way.sizes) == 3:
        return _with_sizes(Axes("NHW"), way)
    if way.sizes[3] in PICTURE_CHANNELS:
        return _with_sizes(Axes("NHWC"), way)
    return _with_sizes(Axes("NCHW"), way) if way.sizes[1] in PICTURE_CHANNELS else None


def _further(node: NodeDef, way: _Way, known: Known, graph: Graph) -> _Way | None:
    """The way behind an operation that leaves the axes as they are, or moves them about in a way that is known."""
    inputs = data_inputs(node)
    behind = replace(way, node=node.name)
    if node.op in KEEPING or node.op in PADDING:
        return behind
    if node.op == "StridedSlice":
        return _sliced(node, behind, known)
    if node.op in CUTTING:
        return replace(behind, counted=False)
    if node.op == "Squeeze":
        dropped = {axis % len(way.axes) for axis in attribute(node, "squeeze_dims").list.i}
        left = tuple(one for axis, one in enumerate(way.axes) if axis not in dropped)
        return replace(behind, axes=left) if dropped else None
    value = known(inputs[1]) if len(inputs) == 2 else None
    if node.op == "Reshape":
        return _reshaped(behind, _sizes(graph, source(node, 1), known))
    if value is None or split(inputs[0])[0] != way.node:
        return None
    if node.op == "Transpose" and value.size == len(way.axes):
        return replace(behind, axes=tuple(way.axes[int(axis)] for axis in value))
    if node.op == "ExpandDims":
        place = int(value.reshape(())) % (len(way.axes) + 1)
        return replace(behind, axes=(*way.axes[:place], None, *way.axes[place:]))
    return None


def _sliced(node: NodeDef, way: _Way, known: Known) -> _Way | None:
    """x[..., None], x[0], x[:, ::-1]: axes that are new, left out, or cut."""
    begin = known(source(node, 1))
    if begin is None:
        return None
    marks = {name: attribute(node, f"{name}_mask").i for name in ("new_axis", "shrink_axis", "ellipsis")}
    words = [next((name for name, mask in marks.items() if mask >> place & 1), "cut") for place in range(begin.size)]
    left, axes = list(way.axes), list[int | None]()
    for place, word in enumerate(words):
        rest = len(left) if word == "ellipsis" else 0
        after = sum(one in ("shrink_axis", "cut") for one in words[place + 1 :])
        if word == "new_axis":
            axes.append(None)
        elif word == "ellipsis":
            axes += left[: rest - after]
            del left[: rest - after]
        elif left:
            axes += [left.pop(0)][word == "shrink_axis" :]
    return replace(way, axes=(*axes, *left), counted=way.counted and "cut" not in words)


def _reshaped(way: _Way, sizes: tuple[int, ...] | None) -> _Way | None:
    """A row of numbers that is given axes, or numbers of any shape that are given the one which they must have."""
    if sizes is None or way.sizes or (len(way.axes), len(sizes)) not in ((2, 3), (2, 4), (4, 4)):
        return None
    return replace(way, axes=tuple(range(len(sizes))), sizes=sizes, counted=True)


def _sizes(graph: Graph, tensor: str, known: Known) -> tuple[int, ...] | None:
    """A shape that is written in the graph, -1 where it depends on the batch."""
    value = known(tensor)
    if value is not None and value.ndim == 1:
        return tuple(map(int, value))
    node = maker(graph.nodes, tensor)
    if node.op == "Pack":
        parts = [known(one) for one in data_inputs(node)]
        return tuple(-1 if one is None else int(one) for one in parts)
    if node.op == "ConcatV2":
        several = [known(one) for one in data_inputs(node)[:-1]]
        return tuple(size for one in several for size in ([-1] if one is None else map(int, one.ravel())))
    return None
