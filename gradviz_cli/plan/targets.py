"""What of the model's scores is explained."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches

from gradviz_cli.errors import UsageError

MOST_DIGITS = 6  # of a class index; no model has more than a million classes
MOST_RANKS = 10_000  # maps of one image
SPECS = "a class index, topK, rankK or a label"


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
    """`topK` (the K best), `rankK` (the K-th best alone), a class index, a label, or several of these with commas ->
    targets, each once, in the order given.

    Raises
    ------
    UsageError
        A label that is not known or stands for several classes; a number that is no class.
    """
    return tuple(dict.fromkeys(target for spec in specs for target in _meant(spec, labels)))


def _meant(spec: str, labels: tuple[str, ...]) -> list[Target]:
    """A label may hold commas itself, so the whole is tried first."""
    ranks, index = re.fullmatch("(top|rank)([0-9]+)", spec), _number(spec)
    if ranks:
        return _ranks(spec, ranks[1], _number(ranks[2]))
    if index is not None:
        return [Target(index=index)]
    places = _places(spec, labels)
    if not places and "," in spec and not any("," in name for name in _near(spec, labels)):
        return [target for part in spec.split(",") for target in _meant(part.strip(), labels)]
    return [Target(index=_only(spec, places, labels))]


def _ranks(spec: str, word: str, count: int | None) -> list[Target]:
    if count == 0:
        raise UsageError(f"--target {spec}: the best class is {word}1", f"give {word}1 or more")
    if count is None or count > MOST_RANKS:
        raise UsageError(f"--target {spec}: more than {MOST_RANKS} are too many", "give fewer")
    return [Target(rank=rank) for rank in range(count - 1 if word == "rank" else 0, count)]


def _number(text: str) -> int | None:
    """A whole number that can be a class."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def _composed(label: str) -> str:
    """A Mac decomposes the names of files, and so those of folders that labels were made of."""
    return unicodedata.normalize("NFC", label)


def _folded(label: str) -> str:
    return _composed(label).casefold()


def _places(label: str, labels: tuple[str, ...]) -> list[int]:
    """The classes of that name: spelled just so, else but for case."""
    for same in (_composed, _folded):
        places = [i for i, name in enumerate(labels) if same(name) == same(label)]
        if places:
            return places
    return []


def _near(label: str, labels: tuple[str, ...]) -> list[str]:
    """The names that may be meant: those that hold it, then those that are spelled much alike."""
    folded = {_folded(name): name for name in labels}
    holding = [name for key, name in folded.items() if label and _folded(label) in key]
    alike = [folded[key] for key in get_close_matches(_folded(label), folded, 3, 0.7)]
    return list(dict.fromkeys([*holding, *alike]))[:3]


def _only(label: str, places: list[int], labels: tuple[str, ...]) -> int:
    """The one class of that name."""
    if len(places) == 1:
        return places[0]
    if places:
        raise UsageError(f"--target {label}: {len(places)} classes have that label", f"give an index: {places[:5]}")
    if re.fullmatch(r"[-+]?[0-9]+([.,][0-9]*)?", label):
        why = "no model has so many classes" if label.isdigit() else "a class index is a whole number from 0"
        raise UsageError(f"--target {label}: {why}", f"give {SPECS}")
    if not labels:
        raise UsageError(f"--target {label}: no labels are known", "give --labels FILE, or a class index")
    near = _near(label, labels)
    raise UsageError(
        f"--target {label}: no such label", f"did you mean {', '.join(near)}?" if near else f"give {SPECS}"
    )
