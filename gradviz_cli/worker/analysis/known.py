"""What a tensor holds that does not depend on the image, as far as it is small and can be read off the graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE, compute
from gradviz_cli.worker.graph.graph import Graph, ancestors, data_inputs, literal, split

Array = np.ndarray

MAX_NUMBERS = 1 << 20  # larger ones are weights, and no part of an activation
MAX_DEPTH = 20


def small_weight(graph: Graph, name: str) -> Array | None:
    """The value of a weight, or of the variable that a handle stands for; None for another node, and for a large one."""
    value = graph.values.get(graph.weights.get(name) or graph.handles.get(name, ""))
    return value.numpy() if value is not None and value.shape.num_elements() <= MAX_NUMBERS else None


class Known:
    """Tensor -> its value as float64 or bool, None where that is not known. Each is worked out once.

    Parameters
    ----------
    given : callable
        Node -> its value, where it is a weight, or the argument of a function whose caller knows it; else None.
    weights : collection of str
        The nodes that are weights, whether their values are given or not.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeDef],
        given: Callable[[str], Array | None] = lambda name: None,
        weights: Collection[str] = (),
    ):
        self._nodes, self._given, self._weights = nodes, given, frozenset(weights)
        self._found: dict[str, Array | None] = {}

    def is_learnt(self, tensor: str) -> bool:
        """It is a weight, or computed of one."""
        return not self._weights.isdisjoint(ancestors(self._nodes, [tensor]))

    def __call__(self, tensor: str, depth: int = 0) -> Array | None:
        if tensor not in self._found:
            self._found[tensor] = None  # while it is looked for: a loop has no value
            self._found[tensor] = as_numbers(self._value(tensor, depth))
        return self._found[tensor]

    def _value(self, tensor: str, depth: int) -> Array | None:
        name, index = split(tensor)
        node = self._nodes.get(name)
        given = self._given(name)
        if given is not None:
            return given
        if node is None or index or depth > MAX_DEPTH:
            return None
        if node.op == "Const":
            sizes = [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim]
            return literal(node) if np.prod(sizes, dtype=float) <= MAX_NUMBERS else None
        if node.op in ("ZerosLike", "OnesLike"):
            return np.float64(node.op == "OnesLike")
        inputs = [self(text, depth + 1) for text in data_inputs(node)]
        return _moved(node, inputs) if node.op not in ELEMENTWISE else self._computed(node, inputs)

    def _computed(self, node: NodeDef, inputs: list[Array | None]) -> Array | None:
        values = [value for value in inputs if value is not None]
        if len(values) < len(inputs):
            return None
        with np.errstate(all="ignore"):
            try:
                return compute(node, values)
            except (ValueError, TypeError):
                return None


def _moved(node: NodeDef, inputs: list[Array | None]) -> Array | None:
    """The value of what only shapes another, or reads a variable that a loop or branch was handed."""
    if node.op == "ReadVariableOp":
        return inputs[0]
    if node.op == "Fill":
        value = inputs[1]
        return value.reshape(()) if value is not None and value.size == 1 else None
    source = inputs[0] if inputs else None
    if source is None or node.op not in ("BroadcastTo", "Tile", "Reshape", "ExpandDims", "Squeeze"):
        return None
    if source.size == 1:  # the same number everywhere, in whatever shape
        return source.reshape(())
    shape = inputs[1] if len(inputs) > 1 else None
    if node.op == "Reshape" and shape is not None:
        return source.reshape(shape.astype(int))
    if node.op == "ExpandDims" and shape is not None:
        return np.expand_dims(source, int(shape))
    return None


def as_numbers(value: Array | None) -> Array | None:
    """As float64 or bool, None where it is neither numbers nor truths."""
    if value is None:
        return None
    value = np.asarray(value)
    if value.dtype == bool:
        return value
    return value.astype(np.float64) if value.dtype.kind in "fiu" or value.dtype.name == "bfloat16" else None
