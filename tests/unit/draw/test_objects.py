"""The object in a class activation map: counted by hand, and against a flood fill that looks at every pixel."""

from __future__ import annotations

import numpy as np
import pytest

from gradviz_cli.draw.objects import drawn, find

SHAPES = [(1, 1), (1, 9), (9, 1), (8, 8), (23, 31), (40, 17)]


def flooded(mask: np.ndarray) -> np.ndarray:
    """The largest part of four neighbours, the first of several, pixel by pixel."""
    left, best = mask.copy(), np.zeros_like(mask)
    for start in zip(*np.nonzero(mask), strict=True):
        part, todo = np.zeros_like(mask), [start]
        while todo:
            y, x = todo.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and left[y, x]:
                left[y, x], part[y, x] = False, True
                todo += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        best = part if part.sum() > best.sum() else best
    return best


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.3, 0.55, 0.8])
def test_the_largest_part_is_that_of_a_flood_fill(shape: tuple[int, int], density: float) -> None:
    draw = np.random.default_rng(int(100 * density))
    for _ in range(20):
        mask = draw.uniform(size=shape) < density
        mask.flat[draw.integers(mask.size)] = True
        want = flooded(mask)
        found = find(mask.astype(np.float32))
        assert np.array_equal(found.mask, want)
        rows, columns = np.nonzero(want)
        box = found.box
        assert (box.top, box.left) == (rows.min(), columns.min())
        assert (box.height, box.width) == (np.ptp(rows) + 1, np.ptp(columns) + 1)


def test_what_is_at_least_three_tenths_of_the_maximum_counts() -> None:
    field = np.array([[10, 3, 2.9, 10], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    found = find(field)
    assert found.mask.tolist() == [[True, True, False, False], [False] * 4, [False] * 4]
    assert found.box == (0, 0, 1, 2)


def test_corners_do_not_hang_together() -> None:
    assert find(np.eye(3, dtype=np.float32)).mask.sum() == 1


@pytest.mark.parametrize("field", [np.zeros((3, 3)), -np.ones((3, 3)), np.full((3, 3), np.nan)])
def test_nothing_is_found_where_nothing_is(field: np.ndarray) -> None:
    assert find(field.astype(np.float32)) is None


def test_outline_and_box_are_drawn_and_nothing_else() -> None:
    field = np.zeros((30, 30), np.float32)
    field[10:20, 5:25] = 1
    marks = find(field)
    pixels = np.full((30, 30, 3), 99, np.uint8)
    found = drawn(pixels, marks)
    assert (found[10, 5:25] == 255).all() and (found[10:20, 24] == 255).all()
    assert (found[13:17, 8:22] == 99).all() and (pixels == 99).all(), "the inside, and what was given"
    outside = found.copy()
    outside[10:20, 5:25] = 99
    assert (outside == 99).all()
