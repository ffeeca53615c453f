"""Elementwise operations that are spelled as others: the largest of a stack, what is put where a mask is true, a mask that is
reshaped beside what it masks.

The same graph, for who reads what it computes: under the name of such a node stands an elementwise one that gives the same
tensor. None of these is ever run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE, meaning
from gradviz_cli.worker.analysis.known import Known
from gradviz_cli.worker.graph.graph import attribute, consumers, copied, data_inputs, split

Nodes = Mapping[str, NodeDef]
# What stands in the place of what nothing reads any more.
UNREAD = "NoOp"
# Reductions of a stack -> the same of its parts.
OF_STACKS = {"Max": "MaximumN", "Min": "MinimumN"}
SCATTERS = frozenset({"TensorScatterUpdate", "TensorScatterAdd", "ScatterNd"})
UNROLLED = frozenset({*OF_STACKS, *SCATTERS})
MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "ExpandDims"})  # of numbers that stay as they are
# Layers -> how many axes they give.
RANKS = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "FusedBatchNorm"), 4),
    **dict.fromkeys(("FusedBatchNormV2", "FusedBatchNormV3", "Conv2DBackpropInput"), 4),
    **dict.fromkeys(("Conv3D", "MaxPool3D", "AvgPool3D"), 5),
    "MatMul": 2,
}
MOST_STEPS = 8  # of a mask that is reshaped


def unrolled(nodes: Nodes, path: set[str], known: Known) -> Nodes:
    """The nodes, with an elementwise one in the place of each on the path that computes what one does."""
    found: dict[str, NodeDef] = {}
    for name in sorted(path):
        node = nodes[name]
        if node.op in UNROLLED and (same := _same(nodes, node, known)):
            found[name] = same
    return _Reshaped(_without_unread(nodes, found), path, known).nodes


def _without_unread(nodes: Nodes, found: Nodes) -> Nodes:
    """The nodes with those that were found, and none that nothing but what these stand for has read."""
    if not found:
        return nodes
    changed = {**nodes, **found}
    readers = consumers(changed)
    todo = [split(text)[0] for name in found for text in data_inputs(nodes[name])]
    while todo:
        name = todo.pop()
        if not any(reader in changed and changed[reader].op != UNREAD for reader in readers.get(name, ())):
            todo.extend(split(text)[0] for text in data_inputs(changed[name]))
            changed[name] = NodeDef(name=name, op=UNREAD)
    return changed


def _same(nodes: Nodes, node: NodeDef, known: Known) -> NodeDef | None:
    if node.op in OF_STACKS:
        parts = _parts(nodes, node, known)
        return _written(node, OF_STACKS[node.op], parts) if parts else None
    inputs = data_inputs(node)
    if node.op == "ScatterNd":
        mask = _mask(nodes, inputs[0])
        taken = mask and _taken(nodes, inputs[1], mask)
        return _written(node, "MulNoNan", [taken, mask]) if mask and taken else None
    base, mask, update = inputs[0], _mask(nodes, inputs[1]), known(inputs[2])
    if not mask:
        return None
    if update is not None:
        fits = update.size == 1 and node.op == "TensorScatterUpdate"
        return _written(node, "SelectV2", [mask, inputs[2], base]) if fits else None
    taken, below = _taken(nodes, inputs[2], mask), known(base)
    added = node.op == "TensorScatterUpdate" or below is not None and not below.any()  # to nothing
    return _written(node, "SelectV2", [mask, taken, base]) if taken and added else None


def _taken(nodes: Nodes, tensor: str, mask: str) -> str | None:
    """What the numbers of a tensor where a mask is true were taken from, in this order."""
    node = nodes[split(tensor)[0]]
    if node.op == "GatherNd":
        found = _mask(nodes, node.input[1])
        return node.input[0] if found and _is_same(nodes, found, mask) else None
    if node.op != "GatherV2":
        return None
    flat, places = nodes[split(node.input[0])[0]], nodes[split(node.input[1])[0]]  # as `boolean_mask` writes it
    found = _mask(nodes, places.input[0]) if places.op == "Squeeze" else None
    reshaped = nodes[split(found)[0]] if found else places
    same = flat.op == reshaped.op == "Reshape" and _is_same(nodes, reshaped.input[0], mask)
    return flat.input[0] if same else None


def _is_same(nodes: Nodes, one: str, other: str, steps: int = 3) -> bool:
    """Both are one tensor, or written twice: x > 0 and x > 0."""
    if one == other:
        return True
    first, second = nodes[split(one)[0]], nodes[split(other)[0]]
    if first.op != second.op or len(first.input) != len(second.input) or not steps:
        return False
    if first.op == "Const":
        return bool(first.attr["value"] == second.attr["value"])
    inputs = zip(first.input, second.input, strict=True)
    alike = first.op in ELEMENTWISE and meaning(first) == meaning(second)
    return alike and all(_is_same(nodes, *pair, steps - 1) for pair in inputs)


def _written(node: NodeDef, op: str, inputs: list[str]) -> NodeDef:
    return NodeDef(name=node.name, op=op, input=inputs)


def _mask(nodes: Nodes, indices: str) -> str | None:
    """The mask whose true places these are, each by all its indices."""
    node = nodes[split(indices)[0]]
    while node.op in ("Identity", "Cast"):
        node = nodes[split(node.input[0])[0]]
    return node.input[0] if node.op == "Where" else None


# -- stacks


def _parts(nodes: Nodes, node: NodeDef, known: Known) -> list[str] | None:
    """The tensors that are reduced along the axis on which they were put together, each of them one there."""
    joined, axes = nodes[split(node.input[0])[0]], known(node.input[1])
    if attribute(node, "keep_dims").b or axes is None or axes.size != 1:
        return None
    axis = int(axes.flat[0])
    if joined.op == "Pack":
        apart = abs(attribute(joined, "axis").i - axis)
        same = not apart or any(
            rank is not None and apart == rank + 1 for rank in map(_ranks(nodes), data_inputs(joined))
        )
        return data_inputs(joined) if same else None
    if joined.op != "ConcatV2":
        return None
    *texts, along = data_inputs(joined)
    if not _is_axis(known(along), axis):
        return None
    parts = [_unwidened(nodes, text, axis, known) for text in texts]
    return [part for part in parts if part] if all(parts) else None


def _ranks(nodes: Nodes) -> Callable[[str], int | None]:
    """How many axes a tensor has, where the layer that it is made of says so."""

    def rank(tensor: str) -> int | None:
        node = nodes[split(tensor)[0]]
        for _ in range(MOST_STEPS):
            if node.op in RANKS or node.op not in ELEMENTWISE or not data_inputs(node):
                break
            node = nodes[split(data_inputs(node)[0])[0]]
        return RANKS.get(node.op)

    return rank


def _unwidened(nodes: Nodes, tensor: str, axis: int, known: Known) -> str | None:
    """What became this by a new axis, or the one number that all of it is."""
    value = known(tensor)
    if value is not None:
        return tensor if value.size and (value == value.flat[0]).all() else None
    node = nodes[split(tensor)[0]]
    if node.op == "ExpandDims":
        return node.input[0] if _is_axis(known(node.input[1]), axis) else None
    if node.op != "StridedSlice" or axis != -1:
        return None
    masks = [attribute(node, f"{name}_mask").i for name in ("ellipsis", "new_axis")]
    return node.input[0] if masks == [1, 2] and _length(node, known) == 2 else None  # [..., None]


def _is_axis(value: np.ndarray | None, axis: int) -> bool:
    return value is not None and value.size == 1 and int(value.flat[0]) == axis


def _length(node: NodeDef, known: Known) -> int | None:
    steps = known(node.input[3])
    return None if steps is None else steps.size


# -- masks that are reshaped


class _Reshaped:
    """Nodes in which a mask of what is reshaped is computed of that: reshape(x > 0) of a reshaped x is (reshape(x) > 0)."""

    def __init__(self, nodes: Nodes, path: set[str], known: Known):
        self.nodes, self._path, self._known = nodes, path, known
        reshaping = [name for name in sorted(path) if nodes[name].op in MOVES]
        if len(reshaping) < 2:
            return
        self._readers = consumers(nodes)
        sources: dict[str, list[str]] = {}
        for name in reshaping:
            sources.setdefault(nodes[name].input[0], []).append(name)
        changed: dict[str, NodeDef] = {}
        for name in reshaping:
            steps = self._steps(name)
            for step in steps:
                beside = [one for one in sources.get(self._live(step)[0], ()) if self._alike(nodes[one], nodes[name])]
                if beside:
                    changed |= self._moved(name, step, beside[0])
                    break
        self.nodes = {**nodes, **changed} if changed else nodes

    def _live(self, name: str) -> list[str]:
        return [text for text in data_inputs(self.nodes[name]) if split(text)[0] in self._path]

    def _steps(self, name: str) -> list[str]:
        """The elementwise operations before a node, from the last one on, that nothing but the next one reads."""
        steps: list[str] = []
        while len(steps) < MOST_STEPS:
            before = split(self.nodes[name].input[0] if not steps else self._live(steps[-1])[0])[0]
            if self.nodes[before].op not in ELEMENTWISE or len(self._live(before)) != 1:
                break
            if len(self._readers[before]) != 1 or not all(map(self._is_number, data_inputs(self.nodes[before]))):
                break
            steps.append(before)
        return steps

    def _is_number(self, tensor: str) -> bool:
        value = None if split(tensor)[0] in self._path else self._known(tensor)
        return split(tensor)[0] in self._path or value is not None and value.size == 1

    def _alike(self, one: NodeDef, other: NodeDef) -> bool:
        """Both shape alike."""
        if one.name == other.name or one.op != other.op or _squeezed(one) != _squeezed(other):
            return False
        return all(map(self._equal, data_inputs(one)[1:], data_inputs(other)[1:]))

    def _equal(self, one: str, other: str) -> bool:
        first, second = self._known(one), self._known(other)
        return one == other or first is not None and second is not None and np.array_equal(first, second)

    def _moved(self, name: str, step: str, beside: str) -> dict[str, NodeDef]:
        """The first step of what is reshaped already, and nothing in the place of its own reshaping."""
        (live,) = self._live(step)
        node, hidden = self.nodes[step], self.nodes[name]
        inputs = [f"{beside}:0" if text == live else text for text in node.input]
        return {step: copied(node, inputs=inputs), name: NodeDef(name=name, op="Identity", input=hidden.input[:1])}


def _squeezed(node: NodeDef) -> list[int]:
    return list(attribute(node, "squeeze_dims").list.i) if node.op == "Squeeze" else []
