"""Random models from fixed seeds: each equal to the oracle, or refused for a reason that is known.

`python tests/fuzz/run.py --count 500 --seed 5000 --minimise` tries others, and says what is wrong in the fewest words.
"""

from __future__ import annotations

import pytest
from fuzz.run import FAULTS, REASONS, verdict

QUICK, MANY = 5, 2000
# A test is some of the seeds: workers share out tests, and a failure names its seed.
CHUNK, LARGE = 5, 50


def faults(seeds: range) -> list[str]:
    """What is wrong, a line for each; that too much could not be judged."""
    said, unclear = [], 0
    for seed in seeds:
        found = verdict(seed)
        unclear += found.kind == "unclear"
        known = found.kind == "refused" and any(reason in found.detail for reason in REASONS)
        if found.kind in FAULTS or (found.kind == "refused" and not known):
            said.append(f"seed {seed} is {found.kind}: {found.detail}")
    return [*said, *([f"{unclear} models without clear images"] if unclear > 1 + len(seeds) // 10 else [])]


@pytest.mark.parametrize("first", range(0, QUICK, CHUNK))
def test_quick(first):
    assert not faults(range(first, first + CHUNK))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(QUICK, MANY, LARGE))
def test_many(first):
    assert not faults(range(first, min(first + LARGE, MANY)))
