"""What of the model's scores is explained."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.text import AnyPath, printable

MOST_DIGITS = 6  # of a class index; no model has more than a million classes


PARENT = "parent"
NEAR = 0.7  # how alike a word and a label are that may have been meant
MOST_NEAR = 3


@dataclass(frozen=True)
class Target:
    """What of the model's scores is explained: the class of a rank (0 is the best), a class index, or the class whose label
    is the name of the folder of the image."""

    rank: int | None = None
    index: int | None = None
    parent: bool = False

    def __post_init__(self) -> None:
        if (self.rank is not None) + (self.index is not None) + self.parent != 1:
            raise ValueError("a target is a rank or an index, or is found by the folder of an image")

    @property
    def name(self) -> str:
        """The part of a file name that tells targets apart; empty for the plain best class."""
        if self.parent:
            return PARENT
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
    """`topK`, a class index, a label or `parent` -> targets, each once, in the order given.

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
        elif spec == PARENT:
            if not labels:
                raise UsageError(f"--target {spec}: no labels are known", "give --labels FILE")
            found.append(Target(parent=True))
        else:
            found.append(Target(index=_index_of(spec, labels)))
    return tuple(dict.fromkeys(found))


def by_label(specs: tuple[str, ...]) -> bool:
    """Whether one of these needs labels."""
    return any(_number(spec) is None and _number(spec.removeprefix("top")) is None for spec in specs)


def of_image(targets: tuple[Target, ...], labels: tuple[str, ...], path: AnyPath) -> tuple[Target, ...]:
    """The targets of one image, each once: `parent` is the class of its folder.

    Raises
    ------
    ImageError
        No label, or several, have the name of the folder.
    """
    if not any(target.parent for target in targets):
        return targets
    return tuple(dict.fromkeys(_of_folder(labels, path) if target.parent else target for target in targets))


def _of_folder(labels: tuple[str, ...], path: AnyPath) -> Target:
    folder = os.path.basename(os.path.dirname(os.path.abspath(os.fsdecode(path))))
    places = _places(unicodedata.normalize("NFC", folder), labels)
    if len(places) == 1:
        return Target(index=places[0])
    if places:
        raise ImageError("target", f"--target {PARENT}: {len(places)} classes have the label {printable(folder)}")
    hint = _did_you_mean(folder, labels)
    raise ImageError("target", f"--target {PARENT}: no label is the name of its folder {printable(folder)}{hint}")


def _number(text: str) -> int | None:
    """A whole number that can be a class."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


@lru_cache(maxsize=4096)
def _places(name: str, labels: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(i for i, label in enumerate(labels) if label == name and name)


def _index_of(spec: str, labels: tuple[str, ...]) -> int:
    if not labels:
        raise UsageError(f"--target {spec}: no labels are known", "give --labels FILE, or a class index")
    label = unicodedata.normalize("NFC", spec)
    places = _places(label, labels) or tuple(
        i for i, name in enumerate(labels) if label and _folded(name) == _folded(label)
    )
    if len(places) == 1:
        return places[0]
    if places:
        raise UsageError(
            f"--target {spec}: {len(places)} classes have that label", f"give an index: {list(places[:5])}"
        )
    near = nearest(label, labels)
    raise UsageError(f"--target {spec}: no such label", f"did you mean {', '.join(near)}?" if near else "give an index")


def _did_you_mean(name: str, labels: tuple[str, ...]) -> str:
    near = nearest(name, labels)
    return f"; did you mean {', '.join(map(printable, near))}?" if near else ""


def nearest(name: str, labels: tuple[str, ...]) -> list[str]:
    """The labels that may have been meant, the likeliest first: none where none is near."""
    found = {label: likeness for label in dict.fromkeys(labels) if (likeness := _likeness(name, label)) >= NEAR}
    return sorted(found, key=lambda label: -found[label])[:MOST_NEAR]


def _likeness(name: str, label: str) -> float:
    """1 for the same but for case and marks between words, or for one of the names that a label has behind commas; a little
    less where one is a word of the other."""
    plain, parts = _words(name), [_words(part) for part in (label, *label.split(","))]
    if not plain or not parts[0]:
        return 0.0
    if plain in parts:
        return 1.0
    if f" {plain} " in f" {parts[0]} " or f" {parts[0]} " in f" {plain} ":
        return 0.9 + 0.1 * min(len(plain), len(parts[0])) / max(len(plain), len(parts[0]))
    alike = SequenceMatcher(None, autojunk=False)
    alike.set_seq2(plain)
    return max(_ratio(alike, part) for part in dict.fromkeys(parts))


def _ratio(alike: SequenceMatcher, part: str) -> float:
    alike.set_seq1(part)
    quick = alike.real_quick_ratio() >= NEAR and alike.quick_ratio() >= NEAR
    return alike.ratio() if quick else 0.0


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", _folded(text).replace("_", " ")))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
