"""Kernels drawn anew from the score down, in a graph that is built once and takes its kernels as inputs.

A map that stays what it was while the layers above it forget what they learnt does not show what they learnt (cascading
randomization: Adebayo et al. 2018, arXiv:1810.03292, section 3.1). Here the numbers of a kernel change places inside
each of its filters, where the paper draws new ones: each filter keeps its sum and its norm, so that what a batch norm
behind it was trained for still fits. Whole kernels that are shuffled leave such networks without any gradient.
"""

from __future__ import annotations

import hashlib

import numpy as np

from gradviz_cli.worker.analysis.kernels import Kernel
from gradviz_cli.worker.run.differentiate import Differentiator

SEED = "gradviz"


class Redrawn:
    """The gradients of a graph whose kernels can be drawn anew.

    Parameters
    ----------
    differentiator : Differentiator
        Built with these kernels as `changeable`.
    kernels : tuple of Kernel
        From the score down.
    """

    def __init__(self, differentiator: Differentiator, kernels: tuple[Kernel, ...]):
        self.differentiator, self._kernels = differentiator, kernels
        self._learnt = {kernel.node: differentiator.weight(kernel.node).numpy() for kernel in kernels}
        self._drawn = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Of the kernels, from the score down."""
        return tuple(kernel.node for kernel in self._kernels)

    def draw(self, count: int) -> None:
        """Let the `count` kernels nearest to the score be random, always with the same numbers, and the others learnt."""
        for place, kernel in enumerate(self._kernels):
            if (place < count) != (place < self._drawn):
                learnt = self._learnt[kernel.node]
                value = shuffled(learnt, kernel.filters, kernel.node) if place < count else learnt
                self.differentiator.change(kernel.node, value)
        self._drawn = count


def shuffled(kernel: np.ndarray, filters: tuple[int, ...], name: str) -> np.ndarray:
    """The numbers of a kernel at other places of the same filter; of filters of one number, at those of other filters.

    Parameters
    ----------
    filters : tuple of int
        The axes that count filters.
    name : str
        Settles the draw.
    """
    seed = hashlib.sha256(f"{SEED} {name}".encode()).digest()
    random = np.random.default_rng(np.frombuffer(seed, np.uint32))
    inside = [axis for axis in range(kernel.ndim) if axis not in filters]
    order = (*filters, *inside)
    rows = kernel.transpose(order).reshape(int(np.prod([kernel.shape[axis] for axis in filters])), -1)
    rows = random.permuted(rows, axis=1 if rows.shape[1] > 1 else None)
    turned = rows.reshape([kernel.shape[axis] for axis in order])
    return np.ascontiguousarray(turned.transpose(np.argsort(order)))
