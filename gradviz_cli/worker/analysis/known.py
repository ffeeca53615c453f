"""What a tensor holds that does not depend on the image, as far as it is small and can be read off the graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.analysis.elementwise import ELEMENTWISE, compute
from gradviz_cli.worker.analysis.shaping import KEEPING, SHAPING, VANISHING, shaped
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
        self._parts: dict[str, list[Array]] = {}  # node -> all its outputs, where it may have several
        self._loose: set[str] = set()  # tensors of which the value is known, and not the shape

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
        if node is None or depth > MAX_DEPTH:
            return None
        if node.op == "Const":
            sizes = [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim]
            return literal(node) if np.prod(sizes, dtype=float) <= MAX_NUMBERS else None
        if node.op in ("ZerosLike", "OnesLike"):
            self._loose.add(tensor)
            return np.float64(node.op == "OnesLike")
        texts = data_inputs(node)
        inputs = [self(text, depth + 1) for text in texts]
        if node.op in SHAPING or node.op in KEEPING or node.op in VANISHING:
            return self._shaped(tensor, node, texts, inputs)
        if index:
            return None
        if not self._loose.isdisjoint(texts):
            self._loose.add(tensor)
        return self._computed(node, inputs) if node.op in ELEMENTWISE else self._handed_on(tensor, node, inputs)

    def _computed(self, node: NodeDef, inputs: list[Array | None]) -> Array | None:
        values = [value for value in inputs if value is not None]
        if len(values) < len(inputs):
            return None
        with np.errstate(all="ignore"):
            try:
                small = np.prod(np.broadcast_shapes(*(value.shape for value in values)), dtype=float) <= MAX_NUMBERS
                return compute(node, values) if small else None
            except (ValueError, TypeError):
                return None

    def _handed_on(self, tensor: str, node: NodeDef, inputs: list[Array | None]) -> Array | None:
        """The value of a variable that a loop or branch was handed, or of what is filled with one number."""
        if node.op == "ReadVariableOp":
            return inputs[0]
        if node.op != "Fill" or (value := inputs[1]) is None or value.size != 1:
            return None
        self._loose.add(tensor)
        return value.reshape(())

    def _shaped(self, tensor: str, node: NodeDef, texts: list[str], inputs: list[Array | None]) -> Array | None:
        """Of what moves, joins or sums up numbers. The same number everywhere stays so, in whatever shape."""
        values = [value for value in inputs if value is not None]
        exact = node.op in SHAPING and len(values) == len(inputs)
        if exact and self._loose.isdisjoint(texts) and not _is_widened(node, values):
            name, index = split(tensor)
            if name not in self._parts:
                self._parts[name] = shaped(node, values, MAX_NUMBERS)
            return self._parts[name][index] if index < len(self._parts[name]) else None
        number = _one_number(inputs[KEEPING.get(node.op, slice(0))])
        if any(
            value is not None and value.size and not value.any() for value in inputs[VANISHING.get(node.op, slice(0))]
        ):
            number = np.zeros(())
        if number is not None:
            self._loose.add(tensor)
        return number


def _one_number(values: list[Array | None]) -> Array | None:
    """What all of these are everywhere; None where that is not one number."""
    alike = (value for value in values if value is not None and value.size and (value == value.flat[0]).all())
    found = [np.asarray(value.flat[0]) for value in alike]
    return found[0] if found and len(found) == len(values) and all(one == found[0] for one in found) else None


def _is_widened(node: NodeDef, values: list[Array]) -> bool:
    """One number that is repeated: how often says nothing more of it."""
    return node.op in ("BroadcastTo", "Tile") and values[0].size == 1 and bool(values[1].prod() != 1)


def as_numbers(value: Array | None) -> Array | None:
    """As float64 or bool, None where it is neither numbers nor truths."""
    if value is None:
        return None
    value = np.asarray(value)
    if value.dtype == bool:
        return value
    return value.astype(np.float64) if value.dtype.kind in "fiu" or value.dtype.name == "bfloat16" else None
