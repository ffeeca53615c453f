"""What of the model's scores is explained."""

from __future__ import annotations

from dataclasses import dataclass

from gradviz_cli.errors import UsageError

MOST_DIGITS = 6  # of a class index; no model has more than a million classes


@dataclass(frozen=True)
class Target:
    """What of the model's scores is explained: the class of a rank (0 is the best) or a class index."""

    rank: int | None = None
    index: int | None = None

    def __post_init__(self) -> None:
        if (self.rank is None) == (self.index is None):
            raise ValueError("a target is a rank or an index")

    @property
    def name(self) -> str:
        """The part of a file name that tells targets apart; empty for the plain best class."""
        if self.index is not None:
            return str(self.index)
        return f"top{self.rank + 1}" if self.rank else ""

    @property
    def spec(self) -> str:
        return self.name or "top1"

    @property
    def code(self) -> int:
        """How the worker is told: the index, or -1 - rank."""
        return self.index if self.index is not None else -1 - (self.rank or 0)


def parse_targets(specs: tuple[str, ...], labels: tuple[str, ...]) -> tuple[Target, ...]:
    """`topK`, a class index, or a label -> targets, each once, in the order given.

    Raises
    ------
    UsageError
        A label that is not known or stands for several classes.
    """
    found: list[Target] = []
    for spec in specs:
        count, index = _number(spec.removeprefix("top")), _number(spec)
        if spec.startswith("top") and count:
            found.extend(Target(rank=rank) for rank in range(count))
        elif index is not None:
            found.append(Target(index=index))
        else:
            found.append(Target(index=_index_of(spec, labels)))
    return tuple(dict.fromkeys(found))


def _number(text: str) -> int | None:
    """A whole number that can be a class."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def _index_of(label: str, labels: tuple[str, ...]) -> int:
    if not labels:
        raise UsageError(f"--target {label}: no labels are known", "give --labels FILE, or a class index")
    places = [i for i, name in enumerate(labels) if name == label]
    places = places or [i for i, name in enumerate(labels) if name.casefold() == label.casefold()]
    if len(places) == 1:
        return places[0]
    if places:
        raise UsageError(f"--target {label}: {len(places)} classes have that label", f"give an index: {places[:5]}")
    near = [name for name in labels if label.casefold() in name.casefold()][:3]
    raise UsageError(
        f"--target {label}: no such label", f"did you mean {', '.join(near)}?" if near else "give an index"
    )
