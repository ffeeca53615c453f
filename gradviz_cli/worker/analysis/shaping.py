"""Operations that move, join, sum up or round numbers, in NumPy: what becomes of a constant before an activation reads it.

Elementwise ones are in `elementwise`. What is not here leaves a constant unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import attribute

Array = np.ndarray


def _whole(value: Array) -> list[int]:
    """Axes, sizes or places, which are known as numbers."""
    return [int(one) for one in value.ravel()]


def _squeezed(node: NodeDef, value: Array) -> Array:
    return np.squeeze(value, tuple(attribute(node, "squeeze_dims").list.i) or None)


def _stepped(node: NodeDef, value: Array, *bounds: Array) -> Array:
    """value[begin:end:step], with the marks that say which of these are left out, new or single."""
    marks = {
        name: attribute(node, f"{name}_mask").i for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    index: list[Any] = []
    for place, (begin, end, step) in enumerate(zip(*map(_whole, bounds), strict=True)):
        marked = {name for name, mask in marks.items() if mask >> place & 1}
        if "ellipsis" in marked:
            index.append(...)
        elif "new_axis" in marked:
            index.append(None)
        elif "shrink_axis" in marked:
            index.append(begin)
        else:
            index.append(slice(None if "begin" in marked else begin, None if "end" in marked else end, step))
    return value[tuple(index)]


def _cut(_: NodeDef, value: Array, begin: Array, size: Array) -> Array:
    ends = [None if length < 0 else start + length for start, length in zip(_whole(begin), _whole(size), strict=True)]
    return value[tuple(map(slice, _whole(begin), ends))]


def _gathered(node: NodeDef, value: Array, places: Array, axis: Array) -> Array:
    if "batch_dims" in node.attr and node.attr["batch_dims"].i:
        raise ValueError("of each row another")
    return np.take(value, places.astype(int), axis=axis.astype(int).item())


def _split(node: NodeDef, axis: Array, value: Array) -> list[Array]:
    return np.split(value, attribute(node, "num_split").i, axis=axis.astype(int).item())


def _split_by(_: NodeDef, value: Array, sizes: Array, axis: Array) -> list[Array]:
    lengths, along = _whole(sizes), axis.astype(int).item()
    rest = value.shape[along] - sum(one for one in lengths if one >= 0)
    return np.split(value, np.cumsum([rest if one < 0 else one for one in lengths])[:-1], axis=along)


def _unpacked(node: NodeDef, value: Array) -> list[Array]:
    return list(np.moveaxis(value, attribute(node, "axis").i, 0))


def _padded(_: NodeDef, value: Array, pads: Array, *filling: Array) -> Array:
    return np.pad(value, pads.astype(int), constant_values=filling[0].item() if filling else 0.0)


def _reduced(function: Callable[..., Array]) -> Callable[..., Array]:
    def over_axes(node: NodeDef, value: Array, axes: Array) -> Array:
        return function(value, axis=tuple(_whole(axes)), keepdims=attribute(node, "keep_dims").b)

    return over_axes


def _factors(node: NodeDef, one: Array, other: Array) -> tuple[Array, Array]:
    turned = [attribute(node, f"transpose_{name}").b for name in "ab"]
    return (one.T if turned[0] else one), (other.T if turned[1] else other)


def _product(node: NodeDef, one: Array, other: Array) -> Array:
    first, second = _factors(node, one, other)
    return first @ second


def _quantised(node: NodeDef, value: Array, *ends: Array) -> Array:
    """Rounded to the steps between two ends, one of which is 0 (Jacob et al. 2017, arXiv:1712.05877, section 3)."""
    low, high = ends or (np.float64(attribute(node, name).f) for name in ("min", "max"))
    first, last = float(attribute(node, "narrow_range").b), 2.0 ** attribute(node, "num_bits").i - 1
    step = (high - low) / (last - first)
    start = (first - np.clip(np.round(first - low / step), first, last)) * step
    return np.clip(np.floor((value - start) / step + 0.5), 0, last - first) * step + start


def _mirrored(node: NodeDef, value: Array, pads: Array) -> Array:
    return np.pad(value, pads.astype(int), attribute(node, "mode").s.decode().lower())


def _picked(_: NodeDef, value: Array, places: Array) -> Array:
    return value[tuple(np.moveaxis(places.astype(int), -1, 0))]


def _one_hot(node: NodeDef, places: Array, depth: Array, on: Array, off: Array) -> Array:
    axis = attribute(node, "axis").i
    same = np.expand_dims(places, axis) == np.arange(depth.item()).reshape(
        [-1] + [1] * ((places.ndim - axis) if axis >= 0 else 0)
    )
    return np.where(same, on, off)


def _accumulated(function: np.ufunc) -> Callable[..., Array]:
    def along(node: NodeDef, value: Array, axis: Array) -> Array:
        place, backwards = axis.astype(int).item(), attribute(node, "reverse").b
        found = np.flip(value, place) if backwards else value
        if attribute(node, "exclusive").b:
            first = np.full_like(np.take(found, [0], place), function.identity)
            found = np.concatenate([first, np.delete(found, -1, place)], place)
        found = function.accumulate(found, place)
        return np.flip(found, place) if backwards else found

    return along


def _diagonal(_: NodeDef, value: Array, *more: Array) -> Array:
    """A matrix of each row, the numbers on its diagonal."""
    if more and (more[0].any() or any(size.item() not in (-1, value.shape[-1]) for size in more[1:3])):
        raise ValueError("another diagonal")
    beside = more[3] if len(more) > 3 else np.zeros(())
    return np.where(np.eye(value.shape[-1], dtype=bool), value[..., None], beside)


def _diagonal_of(_: NodeDef, value: Array, *more: Array) -> Array:
    if more and more[0].any():
        raise ValueError("another diagonal")
    return np.diagonal(value, axis1=-2, axis2=-1)


def _with_diagonal(_: NodeDef, value: Array, diagonal: Array, *more: Array) -> Array:
    if value.shape[-1] != value.shape[-2] or more and more[0].any():
        raise ValueError("another diagonal")
    return np.where(np.eye(value.shape[-1], dtype=bool), diagonal[..., None], value)


def _put(_: NodeDef, value: Array, places: Array, numbers: Array) -> Array:
    found = value.copy()
    found[tuple(np.moveaxis(places.astype(int), -1, 0))] = numbers
    return found


def _scattered(_: NodeDef, places: Array, numbers: Array, shape: Array) -> Array:
    found = np.zeros(_whole(shape))
    np.add.at(found, tuple(np.moveaxis(places.astype(int), -1, 0)), numbers)
    return found


def _banded(_: NodeDef, value: Array, lower: Array, upper: Array) -> Array:
    below = np.arange(value.shape[-2])[:, None] - np.arange(value.shape[-1])
    kept = ((lower < 0) | (below <= lower)) & ((upper < 0) | (-below <= upper))
    return np.where(kept, value, 0)


def _largest(_: NodeDef, value: Array, count: Array) -> list[Array]:
    order = np.argsort(-value, -1, kind="stable")[..., : int(count.item())]
    return [np.take_along_axis(value, order, -1), order]


def _shares(_: NodeDef, value: Array) -> Array:
    powers = np.exp(value - value.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


# Op -> its outputs, or the one that it has. They raise ValueError, TypeError or IndexError where the numbers do not fit.
SHAPING: dict[str, Callable[..., Array | list[Array]]] = {
    "Reshape": lambda _, value, shape: value.reshape(_whole(shape)),
    "ExpandDims": lambda _, value, axis: np.expand_dims(value, axis.astype(int).item()),
    "Squeeze": _squeezed,
    "Transpose": lambda _, value, axes: value.transpose(_whole(axes)),
    "ReverseV2": lambda _, value, axes: np.flip(value, tuple(_whole(axes))),
    "BroadcastTo": lambda _, value, shape: np.broadcast_to(value, _whole(shape)),
    "Tile": lambda _, value, times: np.tile(value, _whole(times)),
    "StridedSlice": _stepped,
    "Slice": _cut,
    "GatherV2": _gathered,
    **dict.fromkeys(
        ("Gather", "ResourceGather"), lambda node, value, places: _gathered(node, value, places, np.zeros(1))
    ),
    "Split": _split,
    "SplitV": _split_by,
    "Unpack": _unpacked,
    "Pack": lambda node, *parts: np.stack(parts, attribute(node, "axis").i),
    "ConcatV2": lambda _, *parts: np.concatenate(parts[:-1], parts[-1].astype(int).item()),
    "Pad": _padded,
    "PadV2": _padded,
    "Range": lambda _, start, limit, step: np.arange(start.item(), limit.item(), step.item()),
    "LinSpace": lambda _, start, end, count: np.linspace(start.item(), end.item(), int(count.item())),
    "MirrorPad": _mirrored,
    "GatherNd": _picked,
    "OneHot": _one_hot,
    "Cumsum": _accumulated(np.add),
    "Cumprod": _accumulated(np.multiply),
    "Roll": lambda _, value, by, axes: np.roll(value, tuple(_whole(by)), tuple(_whole(axes))),
    **dict.fromkeys(("MatrixDiag", "MatrixDiagV2", "MatrixDiagV3"), _diagonal),
    **dict.fromkeys(("MatrixDiagPart", "MatrixDiagPartV2", "MatrixDiagPartV3"), _diagonal_of),
    **dict.fromkeys(("MatrixSetDiag", "MatrixSetDiagV2", "MatrixSetDiagV3"), _with_diagonal),
    "MatrixBandPart": _banded,
    "ScatterNd": _scattered,
    "TensorScatterUpdate": _put,
    "ArgMax": lambda _, value, axis: np.argmax(value, axis.astype(int).item()),
    "ArgMin": lambda _, value, axis: np.argmin(value, axis.astype(int).item()),
    "TopKV2": _largest,
    "Softmax": _shares,
    "Einsum": lambda node, *factors: np.einsum(attribute(node, "equation").s.decode(), *factors),
    "Acos": lambda _, value: np.arccos(value),
    "Asin": lambda _, value: np.arcsin(value),
    "Atan2": lambda _, value, other: np.arctan2(value, other),
    "TruncateDiv": lambda _, value, other: np.trunc(value / other),
    "Shape": lambda _, value: np.array(value.shape),
    "BroadcastArgs": lambda _, one, other: np.array(np.broadcast_shapes(tuple(_whole(one)), tuple(_whole(other)))),
    "Size": lambda _, value: np.array(value.size),
    "Sum": _reduced(np.sum),
    "Mean": _reduced(np.mean),
    "Max": _reduced(np.max),
    "Min": _reduced(np.min),
    "Prod": _reduced(np.prod),
    "All": _reduced(np.all),
    "Any": _reduced(np.any),
    "MatMul": _product,
    **dict.fromkeys((f"FakeQuantWithMinMax{kind}" for kind in ("Args", "Vars", "VarsPerChannel")), _quantised),
}
# What one number everywhere stays that number through, in whatever shape; which of the inputs hold numbers.
KEEPING: dict[str, slice] = {
    **dict.fromkeys(("Reshape", "ExpandDims", "Squeeze", "Transpose", "ReverseV2", "BroadcastTo", "Tile"), slice(1)),
    **dict.fromkeys(("StridedSlice", "Slice", "GatherV2", "Gather", "ResourceGather", "SplitV", "Unpack"), slice(1)),
    **dict.fromkeys(("Mean", "Max", "Min"), slice(1)),
    **dict.fromkeys(("MirrorPad", "GatherNd", "Roll", "SpaceToDepth", "DepthToSpace"), slice(1)),
    **dict.fromkeys(("ResizeNearestNeighbor", "ResizeBilinear", "MaxPool", "BatchToSpaceND"), slice(1)),
    "Split": slice(1, 2),
    "Pack": slice(None),
    "ConcatV2": slice(-1),
}
# What gives zeros where one of these inputs is nothing else.
VANISHING: dict[str, slice] = {
    **dict.fromkeys(("Pad", "Sum", "Cumsum", "AvgPool"), slice(1)),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), slice(2)),
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative"), slice(2)),
    "Einsum": slice(None),
}
# With the second input of these the output may be larger than the first.
GROWING = frozenset(
    {
        *("BroadcastTo", "Tile", "Pad", "PadV2", "MirrorPad", "Range", "LinSpace", "OneHot", "ScatterNd", "MatMul"),
        *("MatrixDiag", "MatrixDiagV2", "MatrixDiagV3", "Einsum"),
    }
)


def shaped(node: NodeDef, inputs: Sequence[Array], most: int) -> list[Array]:
    """The outputs of one of these; none where they cannot be computed or are larger than that."""
    try:
        if node.op in GROWING and _length(node, inputs) > most:
            return []
        with np.errstate(all="ignore"):
            found = SHAPING[node.op](node, *inputs)
    except (ValueError, TypeError, IndexError, ArithmeticError):
        return []
    return found if isinstance(found, list) else [np.asarray(found)]


def _length(node: NodeDef, inputs: Sequence[Array]) -> float:
    op, value = node.op, inputs[0]
    if op.startswith("MatrixDiag"):
        return float(value.size) * value.shape[-1]
    if op == "Einsum":  # as many as there are steps, at most
        return float(np.prod([one.size for one in inputs], dtype=float))
    second = inputs[1].astype(float)
    if op in ("ScatterNd", "LinSpace"):
        return float(np.prod(inputs[2], dtype=float))
    if op == "OneHot":
        return value.size * float(second)
    if op == "MatMul":
        rows, columns = _factors(node, value, second)
        return float(rows.shape[0]) * columns.shape[-1]
    if op == "BroadcastTo":
        return float(np.prod(second))
    if op == "Tile":
        return value.size * float(np.prod(second))
    if op == "Range":
        return float(np.max(np.abs(second - value) / np.abs(inputs[2]))) if inputs[2].all() else np.inf
    return float(np.prod(np.asarray(value.shape) + second.sum(axis=-1)))
