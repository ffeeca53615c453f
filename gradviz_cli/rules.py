"""What a ReLU does to the gradient that passes back through it. Here alone is a rule known by its name.

A rule is one line of mathematics over two operations that the caller supplies, so that the same line serves NumPy,
TensorFlow and a reader with a pencil:

* ``gate(g)``: `g` where the activation was open in the forward pass, 0 elsewhere. For a ReLU: input > 0; for one
  capped at c: strictly between 0 and c. For a smooth activation f: ``g * f'(input)``.
* ``positive(g)``: max(g, 0), element by element.

Where the gate stands in that line says the rest: whether the rule needs the forward pass at all, and what a smooth
activation does, whose gate f' the graph applies by itself (`around_gate`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Gradient = Any
Operation = Callable[[Gradient], Gradient]
_GATED = object()  # stands for what has passed the gate


@dataclass(frozen=True)
class Rule:
    """One mode.

    Attributes
    ----------
    backward : (upstream, gate, positive) -> downstream
        The gradient that leaves the activation towards the image, shaped like `upstream`. `gate` is applied last or
        not at all.
    changes_gradient : bool
        False for the plain gradient, which needs no ReLU to act on.

    Raises
    ------
    ValueError
        Something is done to what has passed the gate: there is no way to do that around a smooth activation.
    """

    name: str
    backward: Callable[[Gradient, Operation, Operation], Gradient]
    summary: str
    source: str
    changes_gradient: bool = True

    def __post_init__(self) -> None:
        try:
            through, by = self.around_gate(1.0, lambda g: max(g, 0.0))
        except TypeError as error:
            raise ValueError(f"rule {self.name}: the gate has to come last") from error
        if through is _GATED or through is by is None:
            raise ValueError(f"rule {self.name}: one gradient goes through the gate, once, or past it")

    @property
    def needs_forward(self) -> bool:
        """Whether it asks which activations were open. One that does not leaves the forward pass to the scores."""
        through, _ = self.around_gate(1.0, lambda g: max(g, 0.0))
        return through is not None

    def around_gate(self, upstream: Gradient, positive: Operation) -> tuple[Gradient | None, Gradient | None]:
        """The gradients that go through the gate and past it, one of them None, for a caller whose graph has the gate.

        The first is what `gate` is applied to in `backward`; the second the downstream gradient itself.
        """
        gated: list[Gradient] = []

        def gate(gradient: Gradient) -> Gradient:
            gated.append(gradient)
            return _GATED

        downstream = self.backward(upstream, gate, positive)
        return (gated[-1], None) if downstream is _GATED else (None, downstream)


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "backprop",
            lambda upstream, gate, positive: gate(upstream),
            "the plain gradient",
            "Simonyan et al. 2013, arXiv:1312.6034, section 3",
            changes_gradient=False,
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

PLAIN = next(name for name, rule in RULES.items() if not rule.changes_gradient)
DEFAULT_MODE = "guided"
