"""Along which side of a picture a model goes step by step, as who reads text goes along its line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.axes import (
    CUTTING,
    KEEPING,
    PADDING,
    PRODUCTS,
    REDUCING,
    STEPPING,
    WINDOWS,
    letters_of,
    sizes_of,
)
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.graph.graph import (
    Graph,
    ancestors,
    attribute,
    consumers,
    data_inputs,
    descendants,
    source,
    split,
)
from gradviz_cli.worker.graph.question import static_tensors

# These leave the axes where they are, if not their sizes.
LEAVING = (KEEPING | PADDING | CUTTING | {"Softmax", "LogSoftmax", "LRN"}) - {"Gather", "GatherV2", "Split", "SplitV"}
SIDES = frozenset("HW")

# What an axis is made of, in the order in which the numbers lie: letters and sizes, -1 where open.
Axis = tuple[tuple[str, int], ...]
Axes = tuple[Axis, ...]
# Tensor -> the whole numbers that it holds, None where they are not known.
Orders = Callable[[str], tuple[int, ...] | None]


def steps_along(graph: Graph, windows: Iterable[str]) -> str | None:
    """H or W, as the windows that move over a picture call the side along which the model goes step by step behind them, or
    has a result for each step, when it has taken in the other side as a whole; None where that is no side."""
    starts = [name for name in windows if name in graph.nodes]
    path = descendants(graph.nodes, starts) & ancestors(graph.nodes, [graph.score])
    shapes = {
        name: _sizes(tensor.shape)
        for name, tensor in zip(path, static_tensors(graph, *(f"{name}:0" for name in path)), strict=True)
    }
    readers, orders = consumers(graph.nodes), _orders(graph)
    ways = {name: _measured(letters_of(graph.nodes[name]), shapes[name]) for name in starts if name in path}
    todo, found = list(ways), set[str]()
    while todo:
        name = todo.pop(0)
        found |= _apart(ways[name]) if name == split(graph.score)[0] else set()
        for reader in readers.get(name, ()):
            if reader in path and reader not in ways:
                node = graph.nodes[reader]
                found |= _stepped(node, ways)
                if (axes := _behind(node, name, ways, shapes[reader], orders)) is not None:
                    ways[reader] = axes
                    todo.append(reader)
    return found.pop() if len(found) == 1 else None


def _orders(graph: Graph) -> Orders:
    known = Known(graph.nodes)

    def numbers(tensor: str) -> tuple[int, ...] | None:
        value = known(tensor)
        return sizes_of(graph, tensor, known) if value is None else tuple(map(int, value.ravel()))

    return numbers


def _sizes(shape: tf.TensorShape) -> list[int]:
    """-1 where open; none at all of a rank that is."""
    return [] if shape.rank is None else [-1 if size is None else int(size) for size in shape]


def _measured(letters: str, sizes: Sequence[int]) -> Axes:
    return tuple(((letter, size),) for letter, size in zip(letters, sizes or [-1] * len(letters), strict=True))


def _apart(axes: Axes) -> set[str]:
    """The side that is an axis of its own, where the other is none."""
    sides = {letters for axis in axes if len(letters := _letters(axis)) == 1 and letters <= SIDES}
    return set(sides.pop()) if len(sides) == 1 else set()


def _letters(axis: Axis) -> frozenset[str]:
    return frozenset(letter for letter, size in axis if size != 1)


def _stepped(node: NodeDef, ways: Mapping[str, Axes]) -> set[str]:
    """The side of which an operation takes one step after the other."""
    if node.op == "Unpack":
        place, axis = 0, attribute(node, "axis").i
    elif node.op in STEPPING:
        place, axis = STEPPING[node.op], 0
    else:
        return set()
    axes = ways.get(split(source(node, place))[0], ())
    return _apart(axes) & set(_letters(axes[axis])) if axes else set()


def _behind(node: NodeDef, name: str, ways: Mapping[str, Axes], sizes: Sequence[int], orders: Orders) -> Axes | None:
    """What the axes of a result are made of; None where that is not known."""
    axes, inputs = ways[name], [split(text)[0] for text in data_inputs(node)]
    if node.op in WINDOWS:
        channels = letters_of(node).index("C")
        if name != inputs[0] or len(axes) != len(sizes):
            return None
        return tuple(
            (("C", size),) if place == channels else _resized(axis, size)
            for place, (axis, size) in enumerate(zip(axes, sizes, strict=True))
        )
    if node.op in LEAVING and len(axes) == len(sizes):
        return tuple(_resized(axis, size) for axis, size in zip(axes, sizes, strict=True))
    if node.op in PRODUCTS:
        return (*axes[:-1], (("C", sizes[-1]),)) if name == inputs[0] and len(axes) == len(sizes) else None
    order = orders(source(node, 1)) if len(inputs) == 2 and name == inputs[0] else None
    if node.op in ("Reshape", "Squeeze", "ExpandDims") and name == inputs[0] and sizes:
        told = order if node.op == "Reshape" and order and len(order) == len(sizes) else sizes
        either = [size if size > 0 else other for size, other in zip(sizes, told, strict=True)]
        return _regrouped([part for axis in axes for part in axis], either)
    if order is None or not axes:
        return None
    places = [place % len(axes) for place in order]
    if node.op == "Transpose":
        return tuple(axes[place] for place in places) if len(set(places)) == len(axes) else None
    if node.op in REDUCING and attribute(node, "keep_dims").b:
        return tuple(() if place in places else axis for place, axis in enumerate(axes))
    return tuple(axis for place, axis in enumerate(axes) if place not in places) if node.op in REDUCING else None


def _resized(axis: Axis, size: int) -> Axis:
    """An axis that has another size now: what it is made of otherwise is open."""
    if len(axis) == 1:
        return ((axis[0][0], size),)
    return axis if math.prod(one for _, one in axis) == size else tuple((letter, -1) for letter, _ in axis)


def _regrouped(parts: list[tuple[str, int]], sizes: Sequence[int]) -> Axes | None:
    """Parts as axes of other sizes: from the last one on as far as sizes are known, then one each, or all in the first."""
    left, groups = list(parts), list[Axis]()
    for size in reversed(sizes):
        if size < 1:
            break
        group: Axis = ()
        while math.prod(one for _, one in group) < size and left and left[-1][1] > 0:
            group = (left.pop(), *group)
        if math.prod(one for _, one in group) != size:
            return None
        groups.insert(0, group)
    rest = len(sizes) - len(groups)
    left = [part for part in left if part[1] != 1]
    if rest == 1:
        return tuple(left), *groups
    return (*((part,) for part in left), *groups) if rest == len(left) else None
