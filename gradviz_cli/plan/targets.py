"""What of the model's scores is explained."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from gradviz_cli.errors import ImageError, UsageError
from gradviz_cli.files.near import did_you_mean
from gradviz_cli.files.text import AnyPath, printable

MOST_DIGITS = 6  # of a class index; no model has more than a million classes
MOST_RANKS = 10_000  # maps of one image
SPECS = "a class index, topK, rankK or a label"
PARENT = "parent"
NEAR = 0.7  # how alike a word and a label are that may have been meant
MOST_NEAR = 3
SHOWN_LABELS = 5
MOST_ASKED = 50_000  # labels; more take seconds


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


def parse_targets(specs: tuple[str, ...], labels: tuple[str, ...], source: str = "") -> tuple[Target, ...]:
    """`topK` (the K best), `rankK` (the K-th best alone), a class index, a label, `parent` (the label that is the name of
    the image's folder), or several of these with commas -> targets, each once, in the order given.

    Parameters
    ----------
    source : str
        The file that the labels are of, for messages.

    Raises
    ------
    UsageError
        A label that is not known or stands for several classes; a number that is no class.
    """
    return tuple(dict.fromkeys(target for spec in specs for target in _meant(spec, _Asked(spec, labels, source))))


@dataclass(frozen=True)
class _Asked:
    """What was typed, and the labels that it is looked for in."""

    typed: str
    labels: tuple[str, ...]
    source: str

    def wrong(self, part: str, why: str, remedy: str) -> UsageError:
        """Said in the words that were typed; of several with commas, which one is meant."""
        which = f"{printable(part)}: " if part and part != self.typed else ""
        return UsageError(f"--target {printable(self.typed) or repr('')}: {which}{why}", remedy)


def _meant(spec: str, asked: _Asked) -> list[Target]:
    """A label may hold commas itself, so the whole is tried first; `007` may be one, `7` is an index."""
    ranks, index = re.fullmatch("(top|rank)([0-9]+)", spec), _number(spec)
    if ranks:
        return _ranks(spec, ranks[1], _number(ranks[2]), asked)
    if index is not None and not (_is_padded(spec) and _places(spec, asked.labels)):
        return [Target(index=index)]
    if spec == PARENT and asked.labels:
        return [Target(parent=True)]
    places = _places(spec, asked.labels)
    if not places and "," in spec and not any("," in name for name in nearest(spec, asked.labels)):
        return [target for part in spec.split(",") for target in _meant(part.strip(), asked)]
    return [Target(index=_only(spec, places, asked))]


def _ranks(spec: str, word: str, count: int | None, asked: _Asked) -> list[Target]:
    if count == 0:
        raise asked.wrong(spec, f"the best class is {word}1", f"give {word}1 or more")
    if count is None or count > MOST_RANKS:
        raise asked.wrong(spec, f"more than {MOST_RANKS} are too many", "give fewer")
    return [Target(rank=rank) for rank in range(count - 1 if word == "rank" else 0, count)]


def by_label(specs: tuple[str, ...]) -> bool:
    """Whether one of these needs labels."""
    parts = [part.strip() for spec in specs for part in spec.split(",")]
    return any(_number(re.sub("^(top|rank)(?=[0-9])", "", part)) is None or _is_padded(part) for part in parts)


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
    places = _of_name(_composed(folder), labels)
    if len(places) == 1:
        return Target(index=places[0])
    if places:
        raise ImageError("target", f"--target {PARENT}: {len(places)} classes have the label {printable(folder)}")
    near = did_you_mean(nearest(folder, labels))
    hint = f"; {near}" if near else ""
    raise ImageError("target", f"--target {PARENT}: no label is the name of its folder {printable(folder)}{hint}")


@lru_cache(maxsize=4096)
def _of_name(name: str, labels: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(i for i, label in enumerate(labels) if name and _composed(label) == name)


def _number(text: str) -> int | None:
    """A whole number that can be a class."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def _is_padded(text: str) -> bool:
    """Whether it is a number as names are made of them, so that they stand in order."""
    return text[:1] == "0" and len(text) > 1 and _number(text) is not None


def _composed(label: str) -> str:
    """A Mac decomposes the names of files, and so those of folders that labels were made of."""
    return unicodedata.normalize("NFC", label)


def _folded(label: str) -> str:
    return _composed(label).casefold()


def _places(label: str, labels: tuple[str, ...]) -> list[int]:
    """The classes of that name: spelled just so, else but for case."""
    for same in (_composed, _folded):
        places = [i for i, name in enumerate(labels) if name and same(name) == same(label)]
        if places:
            return places
    return []


def nearest(name: str, labels: tuple[str, ...]) -> list[str]:
    """The labels that may have been meant, the likeliest first: none where none is near."""
    asked = dict.fromkeys(labels[:MOST_ASKED])
    found = {label: likeness for label in asked if (likeness := _likeness(name, label)) >= NEAR}
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


def _only(label: str, places: list[int], asked: _Asked) -> int:
    """The one class of that name."""
    if len(places) == 1:
        return places[0]
    if places:
        raise asked.wrong(label, f"{len(places)} classes have that label", f"give an index: {places[:5]}")
    if not label:
        what = "a part between commas" if "," in asked.typed else "it"
        raise asked.wrong(label, f"{what} is empty", f"give {SPECS}; is a variable not set?")
    if re.fullmatch(r"[-+]?[0-9]+([.,][0-9]*)?", label):
        why = "no model has so many classes" if label.isdigit() else "a class index is a whole number from 0"
        raise asked.wrong(label, why, f"give {SPECS}")
    near = nearest(label, asked.labels)
    slip = None if near else _slip(label, len(asked.labels))
    if slip:
        raise asked.wrong(label, *slip)
    if not asked.labels:
        raise asked.wrong(label, "no labels are known", "give --labels FILE, or a class index")
    among = f" among the {len(asked.labels)} of {asked.source}" if asked.source else ""
    raise asked.wrong(label, f"no such label{among}", did_you_mean(near) or _sample(asked))


def _slip(label: str, classes: int) -> tuple[str, str] | None:
    """What is wrong with what is no label but nearly one of the words of --target, and what was meant."""
    words = label.split()
    if len(words) > 1 and all(re.fullmatch("(top|rank)?[0-9]+", one) for one in words):
        return "a blank parts nothing", f"write commas: {','.join(words)}"
    word = re.sub(r"[\s_-]", "", _folded(label))
    ranks = re.fullmatch("(top|rank|best)([0-9]+)", word) or re.fullmatch("(?P<n>[0-9]+)(?P<w>top|rank|best)", word)
    if ranks:
        parts = sorted(ranks.groups(), key=str.isdigit)
        return "it is no label", f"did you mean {'rank' if parts[0] == 'rank' else 'top'}{parts[1]}?"
    if word in ("top", "rank", "topk", "rankk", "topn", "rankn"):
        return "a number is missing", "top3 is the three best, rank3 the third alone"
    if word in ("best", "predicted", "prediction", "auto", "max"):
        return "it is no label", "the best class of each image is top1"
    if word in ("all", "every", "*"):
        count = f"top{classes}" if classes else "topK with their number"
        return "it is no label", f"for every class give {count}"
    if found := re.fullmatch(r"([0-9]{1,4})(?:-|\.\.|:)([0-9]{1,4})", label.strip()):
        first, last = int(found[1]), int(found[2])
        shown = range(first, last + 1) if last - first < MOST_NEAR else (first, "...", last)
        return "it is no class index", f"write several out: {','.join(map(str, shown))}"
    if found := re.fullmatch("(?:class|index|idx|id|#)([0-9]+)", word):
        return "it is no label", f"did you mean {found[1]}?"
    if _likely_parent(word):
        return "it is no label", f"did you mean {PARENT}?"
    return None


def _likely_parent(word: str) -> bool:
    return word in ("parents", "folder", "foldername", "dir", "directory", "truelabel", "truth")


def _sample(asked: _Asked) -> str:
    """What the labels are like: they may be those of another model."""
    if not asked.source:
        return f"give {SPECS}"
    shown = ", ".join(map(printable, [label for label in asked.labels if label][:SHOWN_LABELS]))
    more = f" and {len(asked.labels) - SHOWN_LABELS} more" if len(asked.labels) > SHOWN_LABELS else ""
    return f"it holds {shown}{more}: is it the file of this model?"
