"""Where a class activation map is strong: the object, its box and its outline.

field [h, w] -> mask (at least MASKED of its maximum) -> largest part that hangs together -> bounding box
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradviz_cli.estimators import MASKED
from gradviz_cli.images.fit import Box

Array = np.ndarray

INK, EDGE = (255, 255, 255), (0, 0, 0)  # of a line, and of what sets it off from a light picture


@dataclass(frozen=True, eq=False)
class Marks:
    """An object in a picture: its mask, bool [h, w], and its bounding box, in the pixels of that picture."""

    mask: Array
    box: Box


def find(field: Array) -> Marks | None:
    """The largest part of where `field` [h, w] is at least MASKED of its maximum; None where it is nowhere above 0.

    Parts hang together by their sides (four neighbours). Of two of the same size it is the upper one.
    """
    top = float(field.max())
    if not (np.isfinite(top) and top > 0):
        return None
    runs, parts = _parts(field >= np.float32(MASKED) * top)
    sizes = np.bincount(parts, weights=runs[:, 2] - runs[:, 1])
    chosen = runs[parts == int(sizes.argmax())]
    mask = np.zeros(field.shape, bool)
    for row, start, end in chosen:
        mask[row, start:end] = True
    top_row, left = int(chosen[:, 0].min()), int(chosen[:, 1].min())
    return Marks(mask, Box(top_row, left, int(chosen[:, 0].max()) + 1 - top_row, int(chosen[:, 2].max()) - left))


def _parts(mask: Array) -> tuple[Array, Array]:
    """The runs of each row, (row, start, end), and for each the number of the part that it belongs to, from the top on."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    parent = list(range(len(rows)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    above = here = 0  # the first run of the row above, and of this one, that may still touch
    for one in range(len(rows)):
        if one and rows[one] != rows[one - 1]:
            above = here if rows[one] == rows[one - 1] + 1 else one
            here = one
        for other in range(above, here):
            if starts[other] < ends[one] and starts[one] < ends[other]:
                first, second = sorted((root(one), root(other)))
                parent[second] = first
    roots = np.array([root(one) for one in range(len(rows))])
    return np.stack([rows, starts, ends], axis=1), np.unique(roots, return_inverse=True)[1]


def drawn(pixels: Array, marks: Marks) -> Array:
    """The picture uint8 [h, w, 3] with the outline of the object and its box."""
    found = pixels.copy()
    height, width = pixels.shape[:2]
    thick = max(1, round(max(height, width) / 250))
    outline = _border(marks.mask, thick)
    found[_border(marks.mask, 2 * thick) & ~outline] = EDGE
    found[outline] = INK
    box = np.zeros(marks.mask.shape, bool)
    box[marks.box.slices] = True
    for wide, ink in ((2 * thick, EDGE), (thick, INK)):
        found[_border(box, wide)] = ink
    return found


def _border(mask: Array, thick: int) -> Array:
    """The pixels of a mask that are no further than so many from what is outside of it or of the picture."""
    inner = mask
    for _ in range(thick):
        padded = np.pad(inner, 1)
        inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
