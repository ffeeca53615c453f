"""What a ReLU does to the gradient that passes back through it.

A rule is one line of mathematics over two operations that the caller supplies, so that the same line serves NumPy,
TensorFlow and a reader with a pencil:

* ``gate(g)``: `g` where the activation was open in the forward pass, 0 elsewhere. For a ReLU: input > 0; for one
  capped at c: strictly between 0 and c. For a smooth activation f: ``g * f'(input)``.
* ``positive(g)``: max(g, 0), element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Gradient = Any
Operation = Callable[[Gradient], Gradient]


@dataclass(frozen=True)
class Rule:
    """One mode: `backward(upstream, gate, positive)` gives the downstream gradient, shaped like `upstream`."""

    name: str
    backward: Callable[[Gradient, Operation, Operation], Gradient]
    summary: str
    source: str

    @property
    def changes_gradient(self) -> bool:
        """False for the plain gradient, which needs no ReLU to act on."""
        return self.name != "backprop"


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "backprop",
            lambda upstream, gate, positive: gate(upstream),
            "the plain gradient",
            "Simonyan et al. 2013, arXiv:1312.6034, section 3",
        ),
        Rule(
            "deconv",
            lambda upstream, gate, positive: positive(upstream),
            "only positive gradients pass a ReLU, open or not",
            "Zeiler & Fergus 2013, arXiv:1311.2901, section 2.1",
        ),
        Rule(
            "guided",
            lambda upstream, gate, positive: gate(positive(upstream)),
            "only positive gradients pass, and only an open ReLU",
            "Springenberg et al. 2014, arXiv:1412.6806, section 3.4",
        ),
    )
}
"""Name -> rule; with `all`, the choices of --mode."""

DEFAULT_MODE = "guided"
