"""What stands twice among very many numbers."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import pytest

from gradviz_cli.images import repeats
from gradviz_cli.images.repeats import repeated

LEAST, LARGEST = -(2**63), 2**63 - 1


@pytest.mark.parametrize("count", [0, 1, 2, 49, 50, 51, 100, 1000])
@pytest.mark.parametrize("least", [LEAST, 0, 2**63 - 60])
def test_it_finds_what_a_counter_would(monkeypatch: pytest.MonkeyPatch, count: int, least: int) -> None:
    monkeypatch.setattr(repeats, "MOST", 50)
    draw = random.Random(count)
    numbers = [draw.randint(least, LARGEST) for _ in range(count)]
    numbers += draw.choices([*numbers, LEAST, LARGEST, 0, -1], k=count // 3)
    draw.shuffle(numbers)
    assert repeated(iter(numbers)) == {one for one, times in Counter(numbers).items() if times > 1}


def test_memory_does_not_grow_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MOST", 1 << 11)
    tracemalloc.start()
    try:
        assert repeated(hash(str(one % 23_999)) for one in range(24_000)) == {hash("0")}
        assert tracemalloc.get_traced_memory()[1] < 24_000 * 8
    finally:
        tracemalloc.stop()
