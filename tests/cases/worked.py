"""One row for each rule: what it computes. All tests of rules take what they expect from here, and a new rule adds a row.

Worked by hand on two tables, as the papers print theirs. The first: open where the feature is positive,

    features   1 -1  5      upstream  -2  3 -1
               2 -5 -7                 6 -3  1
              -3  2  4                 2 -1  3

and again with all signs of `upstream` turned. The second has a cap c, which shuts the gate at c and above (c - 4 is
added to the features at or above the cap), so that of these

    features   1  0  5      open, at zero, above the cap           gate  1 0 0
               2 -5  4      open, below zero, at the cap                 1 0 0
              -3  3  7      below zero, open, above the cap              0 1 0

Nothing here comes from gradviz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Table = list[list[int]]

FEATURES = np.array([[1, -1, 5], [2, -5, -7], [-3, 2, 4]])
UPSTREAM = np.array([[-2, 3, -1], [6, -3, 1], [2, -1, 3]])
CAPPED_FEATURES = np.array([[1, 0, 5], [2, -5, 4], [-3, 3, 7]])
# A smooth activation with f' = 2, -1 and 0.5 (a SiLU falls, too), upstream 3, 3 and -4.
SLOPES, UPSTREAM_OF_SMOOTH = np.array([2.0, -1.0, 0.5]), np.array([3.0, 3.0, -4.0])


@dataclass(frozen=True)
class Worked:
    """What one rule computes.

    Attributes
    ----------
    equation : (upstream, gate, positive) -> downstream
        Of the paper: `gate` is 1 where the activation is open and 0 elsewhere (f' where it is smooth), `positive` 1
        where `upstream` is above 0 and 0 elsewhere. For numbers, NumPy and TensorFlow alike.
    downstream, turned, capped
        Of the tables above: the first, the first with the signs of `upstream` turned, the second.
    smooth
        Of `SLOPES` and `UPSTREAM_OF_SMOOTH`.
    """

    equation: Callable[[Any, Any, Any], Any]
    downstream: Table
    turned: Table
    capped: Table
    smooth: list[float]


WORKED = {
    "backprop": Worked(  # Simonyan 2013, arXiv 1312.6034
        lambda upstream, gate, positive: upstream * gate,
        downstream=[[-2, 0, -1], [6, 0, 0], [0, -1, 3]],
        turned=[[2, 0, 1], [-6, 0, 0], [0, 1, -3]],
        capped=[[-2, 0, 0], [6, 0, 0], [0, -1, 0]],
        smooth=[6, -3, -2],
    ),
    "deconv": Worked(  # Zeiler & Fergus 2013, 1311.2901: the gate is not read
        lambda upstream, gate, positive: upstream * positive,
        downstream=[[0, 3, 0], [6, 0, 1], [2, 0, 3]],
        turned=[[2, 0, 1], [0, 3, 0], [0, 1, 0]],
        capped=[[0, 3, 0], [6, 0, 1], [2, 0, 3]],
        smooth=[3, 3, 0],
    ),
    "guided": Worked(  # Springenberg 2014, 1412.6806
        lambda upstream, gate, positive: upstream * positive * gate,
        downstream=[[0, 0, 0], [6, 0, 0], [0, 0, 3]],
        turned=[[2, 0, 1], [0, 0, 0], [0, 1, 0]],
        capped=[[0, 0, 0], [6, 0, 0], [0, 0, 0]],
        smooth=[6, -3, 0],
    ),
}


def missing_rows(rules: Any) -> str:
    """What to say where the rows are not those of `rules`; empty where they are."""
    lacking, needless = [name for name in rules if name not in WORKED], [name for name in WORKED if name not in rules]
    said = [f"add to tests/cases/worked.py a row for {name!r}, worked by hand" for name in lacking]
    said += [f"tests/cases/worked.py has a row for {name!r}, which is no rule" for name in needless]
    return "; ".join(said)
