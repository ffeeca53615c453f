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


class _Symbol:
    """Stands for a gradient while a rule's line is read. It knows what NumPy and TensorFlow spell alike, and no more."""

    def _same(self, *_: object) -> _Symbol:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = __abs__ = _same

    def __bool__(self) -> bool:
        raise TypeError("a gradient is neither true nor false")

    __array_ufunc__ = None  # NumPy's functions refuse it


class _Gated:
    """Stands for what has passed the gate: nothing can be done to it."""


_UPSTREAM, _GATED = _Symbol(), _Gated()


@dataclass(frozen=True)
class Rule:
    """One mode.

    Attributes
    ----------
    backward : (upstream, gate, positive) -> downstream
        The gradient that leaves the activation towards the image, shaped like `upstream`. Of gradients only +, -, * and
        abs() are to be used, which NumPy and TensorFlow spell alike. `gate` is applied once and last (write -gate(g) as
        gate(-g)), or not at all.
    source : str
        The paper and the place in it; for a rule of your own, what it is derived from.
    changes_gradient : bool
        False for the plain gradient, which needs no ReLU to act on.
    caution : str
        What has to be known before its maps are read, with the source.
    other_names : tuple of str
        What others call it, so that who types that is told its name here.

    Raises
    ------
    ValueError
        The line does more than that; around a smooth activation, whose gate the graph applies, there is no way to.
    """

    name: str
    backward: Callable[[Gradient, Operation, Operation], Gradient]
    summary: str
    source: str
    changes_gradient: bool = True
    caution: str = ""
    other_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            through, by = self.around_gate(_UPSTREAM, lambda gradient: gradient + 0)
        except (TypeError, AttributeError) as error:
            allowed = "the gate has to come last, once; of gradients only +, -, * and abs() are known here"
            raise ValueError(f"rule {self.name}: {allowed} ({error})") from error
        if not isinstance(by if through is None else through, _Symbol):
            raise ValueError(f"rule {self.name}: one gradient goes through the gate, once, or past it")

    @property
    def needs_forward(self) -> bool:
        """Whether it asks which activations were open. One that does not leaves the forward pass to the scores."""
        through, _ = self.around_gate(_UPSTREAM, lambda gradient: gradient)
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
        if len(gated) > 1 or (gated and downstream is not _GATED):
            raise TypeError("the gate is not the last that is done")
        return (gated[0], None) if gated else (None, downstream)


_CAUTION = (
    "deconv and guided show what an image holds rather than why a class was chosen: they depend little on the upper layers"
    " and the target (Adebayo 2018, arXiv:1810.03292; Nie 2018, 1805.07039; Sixt 2020, 1912.09818)."
)

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "backprop",
            lambda upstream, gate, positive: gate(upstream),
            "the plain gradient",
            "Simonyan et al. 2013, arXiv:1312.6034, section 3",
            changes_gradient=False,
            other_names=("saliency", "vanilla", "gradient", "gradients"),
        ),
        Rule(
            "deconv",
            lambda upstream, gate, positive: positive(upstream),
            "only positive gradients pass a ReLU, open or not",
            "Zeiler & Fergus 2013, arXiv:1311.2901, section 2.1",
            caution=_CAUTION,
            other_names=("deconvnet", "deconvolution"),
        ),
        Rule(
            "guided",
            lambda upstream, gate, positive: gate(positive(upstream)),
            "only positive gradients pass, and only an open ReLU",
            "Springenberg et al. 2014, arXiv:1412.6806, section 3.4",
            caution=_CAUTION,
            other_names=("guided-backprop", "guidedbackprop", "guided_backprop", "gbp"),
        ),
    )
}
"""Name -> rule; with `all`, the choices of --mode."""

PLAIN = next(name for name, rule in RULES.items() if not rule.changes_gradient)
DEFAULT_MODE = "guided"
