"""Products in which one tensor weighs the numbers of another, told by value: none of its weights is below 0, and those of
each sum add up to one. Whatever order a product has its axes in, and however the softmax before it is spelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import attribute, data_inputs

Array = np.ndarray

PRODUCTS = frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "MatMul", "Einsum"})
SUM, NEGATIVE = 1e-3, 1e-6  # how far weights may be from adding up to one, and below 0
ELLIPSIS = "..."
FIRST_OF_ELLIPSIS = 0x3B1  # no letter that an equation has


@dataclass(frozen=True)
class Weighing:
    """One operand of a product, as what weighs the other.

    Attributes
    ----------
    node : str
        The product.
    weights, values : str
        The tensors.
    shape, dtype
        Of the weights.
    free : tuple of int
        The axes of the weights that the values lack: for each place along them there is a sum of its own.
    summed : tuple of int
        Those that are summed over.
    over : tuple of int
        The same axes of the values.
    """

    node: str
    weights: str
    values: str
    shape: tuple[int, ...]
    dtype: str
    free: tuple[int, ...]
    summed: tuple[int, ...]
    over: tuple[int, ...]

    @property
    def keys(self) -> int:
        """How many numbers are summed."""
        return prod(self.shape[axis] for axis in self.summed)

    @property
    def sums(self) -> int:
        """How many sums there are of the same numbers."""
        return prod(self.shape[axis] for axis in self.free)

    @property
    def queries(self) -> tuple[int, ...]:
        """The axes along which there are as many sums as numbers; none where there are no such. Heads that share their
        values have an axis beside these, before them."""
        choices = [some for count in range(len(self.free), 0, -1) for some in combinations(self.free[::-1], count)]
        fit = (tuple(sorted(some)) for some in choices if prod(self.shape[axis] for axis in some) == self.keys)
        return next(fit, ())

    @property
    def turn(self) -> tuple[int, ...]:
        """The order of its axes in which the queries are the last but the keys."""
        last = (*self.queries, *self.summed)
        return (*(axis for axis in range(len(self.shape)) if axis not in last), *last)

    def to_itself(self) -> Array:
        """Weights of this shape by which each sum is the number of its own place."""
        turned = [self.shape[axis] for axis in self.turn]
        whole = np.eye(self.keys, dtype=self.dtype).reshape(
            turned[len(turned) - len(self.queries) - len(self.summed) :]
        )
        return np.ascontiguousarray(np.transpose(np.broadcast_to(whole, turned), np.argsort(self.turn)))

    def changes(self, before: Array, after: Array) -> Array:
        """[keys]: how much the values of each have changed at most."""
        moved = np.moveaxis(np.abs(after.astype(np.float64) - before), self.over, range(len(self.over)))
        return moved.reshape(self.keys, -1).max(axis=1) if moved.size else np.zeros(self.keys)


def weighings(node: NodeDef, held: Mapping[str, Array]) -> Iterator[Weighing]:
    """The two operands of a product as what weighs the other; `held` has what they hold."""
    tensors = data_inputs(node)
    terms = letters(node, [held[tensor].ndim for tensor in tensors]) if len(tensors) == 2 else None
    if terms is None:
        return
    *several, result = terms
    for place, (own, other) in enumerate((several, several[::-1])):
        summed = [one for one in own if one in other and one not in result]
        free = tuple(own.index(one) for one in own if one not in other and one in result)
        if summed and free:
            yield Weighing(
                node.name,
                tensors[place],
                tensors[1 - place],
                held[tensors[place]].shape,
                held[tensors[place]].dtype.name,
                free,
                tuple(own.index(one) for one in summed),
                tuple(other.index(one) for one in summed),
            )


def are_weights(one: Weighing, value: Array) -> bool:
    """Whether what weighs is what its name says; of one number each they are by accident."""
    if value.dtype.kind != "f" or value.size == 0 or one.keys < 2:
        return False
    sums = value.sum(axis=one.summed, dtype=np.float64)
    return bool(value.min() >= -NEGATIVE and np.abs(sums - 1).max() <= SUM)


def letters(node: NodeDef, ranks: Sequence[int | None]) -> list[str] | None:
    """Of a product a letter for each axis of its two operands and of the result; None where a letter stands twice in one of
    them. An operand whose rank is not known has no more axes than are written down."""
    if node.op != "Einsum":
        names = ("transpose_a", "transpose_b") if node.op == "MatMul" else ("adj_x", "adj_y")
        turned = [attribute(node, name).b for name in names]
        first, second = ("ki" if turned[0] else "ik"), ("jk" if turned[1] else "kj")
        terms = [f"{ELLIPSIS}{first}", f"{ELLIPSIS}{second}", f"{ELLIPSIS}ij"]
    else:
        given, _, result = attribute(node, "equation").s.decode().replace(" ", "").partition("->")
        terms = [*given.split(","), result]
    widths = [
        0 if rank is None else rank - len(term.replace(ELLIPSIS, "")) for rank, term in zip(ranks, terms, strict=False)
    ]
    if len(terms) != 3 or min(widths) < 0:
        return None
    widest = max(widths)
    shared = "".join(chr(FIRST_OF_ELLIPSIS + place) for place in range(widest))
    written = [
        term.replace(ELLIPSIS, shared[widest - count :]) for term, count in zip(terms, (*widths, widest), strict=True)
    ]
    return written if all(len(set(term)) == len(term) for term in written) else None
