"""Products of matrices that are rewritten for oneDNN: the numbers and gradients of arithmetic by hand, and no death.

`python tests/fuzz/products.py --count 500` tries more; with --as-it-is it shows what dies without the rewriting.
"""

from __future__ import annotations

import pytest
from fuzz.products import KINDS, campaign, drawn, right

MANY = 500


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_and_its_gradients_are_those_by_hand(kind):
    for seed in range(3):
        assert right(*drawn(kind, seed), KINDS[kind][1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_product_brings_the_process_down(kind):
    assert campaign(kind, seed=1000, count=MANY) == (MANY, [])
