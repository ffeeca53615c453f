"""What of the maps is shown: --image, --mode, --estimator, --target, --limit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gradviz_cli.errors import UsageError
from gradviz_cli.estimators import GRADIENT
from gradviz_cli.figure.maps import Collection, Map, Place
from gradviz_cli.files.text import printable
from gradviz_cli.images.globs import Globs, folded
from gradviz_cli.plan import values
from gradviz_cli.plan.targets import nearest
from gradviz_cli.rules import RULES

MOST_IMAGES = 12  # of a sheet where nobody says how many
MOST_LISTED = 12  # words of a message
EVERY = "all"
OWN = ""  # the one target that each image has
_RANKED = re.compile("(top|rank)([1-9][0-9]{0,4})")

Maps = Mapping[Place, Map]
Fits = Callable[[Place, Map], bool]


@dataclass(frozen=True)
class Choice:
    """What is wanted, in the order in which it is to be shown; empty for all there is.

    Attributes
    ----------
    limit : int or None
        Images at most; 0 for all. None where it was not given: MOST_IMAGES, and a warning.
    """

    images: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    estimators: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    limit: int | None = None


@dataclass(frozen=True)
class Chosen:
    """The maps that are shown; the values on each axis, in order; and how many images there would be without a limit."""

    maps: Maps
    axes: Mapping[str, tuple]
    of_images: int


def choose(collection: Collection, choice: Choice) -> Chosen:
    """The maps that are shown.

    Raises
    ------
    UsageError
        Something is asked for that no map is of; names what there is.
    """
    modes = _words("--mode", choice.modes, _in_order(collection.values("mode"), RULES))
    estimators = _words("--estimator", choice.estimators, _in_order(collection.values("estimator"), [GRADIENT]))
    images = _images(collection, choice.images)
    asked = {"image": set(images), "mode": modes, "estimator": estimators}
    left = {
        place: each
        for place, each in collection.maps.items()
        if all(getattr(place, axis) in values for axis, values in asked.items())
    }
    targets = [part for word in choice.targets for part in _without_commas(word, left)]
    maps = _one_target(_of_targets(left, targets))
    if not collection.maps:
        raise UsageError("no run has drawn a map there", "give a folder that `gradviz explain ... --raw` wrote to")
    if not maps:
        raise UsageError("no map is of all that was asked for", "leave out one of --image, --mode and --estimator")
    present = {axis: {getattr(place, axis) for place in maps} for axis in Place._fields}
    shown = [image for image in images if image in present["image"]]
    most = MOST_IMAGES if choice.limit is None else choice.limit or len(shown)
    axes = {
        "image": tuple(shown[:most]),
        "model": tuple(sorted(present["model"])),
        "estimator": tuple(one for one in estimators if one in present["estimator"]),
        "mode": tuple(one for one in modes if one in present["mode"]),
        "target": _targets(maps, targets),
    }
    return Chosen(maps, axes, len(shown))


def _in_order(found: Iterable[str], known: Iterable[str]) -> list[str]:
    """Those that are known first, in the order that they have there."""
    rest = list(found)
    return [one for one in known if one in rest] + sorted(set(rest) - set(known))


def _words(option: str, wanted: Sequence[str], present: Sequence[str]) -> Sequence[str]:
    """Those of an axis that were asked for, each once."""
    if not wanted or EVERY in wanted:
        return present
    for word in wanted:
        if word not in present:
            raise UsageError(f"{option} {word}: no map is of it", f"there are {_listed(present)}")
    return tuple(dict.fromkeys(wanted))


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - MOST_LISTED} more" if len(words) > MOST_LISTED else ""
    return ", ".join(map(printable, words[:MOST_LISTED])) + more


# ---- images


def _images(collection: Collection, patterns: Sequence[str]) -> list[int]:
    """Numbers of the images that a pattern matches, in the order of the patterns."""
    names = [pictured.name for pictured in collection.images]
    if not patterns:
        return list(range(len(names)))
    found: dict[int, None] = {}
    for pattern in (part for whole in patterns for part in _parts(whole, names)):
        matching = _matching(pattern, names)
        if not matching:
            near = nearest(pattern, tuple(names)) or names[:MOST_LISTED]
            raise UsageError(f"--image {pattern}: no image with a map has that name", f"there are {_listed(near)}")
        found |= dict.fromkeys(matching)
    return list(found)


def _parts(pattern: str, names: Sequence[str]) -> list[str]:
    """A name, or a choice in a pattern, may hold commas itself, so the whole is tried first."""
    return [pattern] if _matching(pattern, names) else [part for part in values.parts(pattern) if part] or [pattern]


def _matching(pattern: str, names: Sequence[str]) -> list[int]:
    """A name as it is, also one that would be read as a pattern; else as --include has them, with or without the ending."""
    exact = [number for number, name in enumerate(names) if name == pattern]
    if exact:
        return exact
    globs = Globs((pattern,))
    found = [number for number, name in enumerate(names) if globs.matches("", name)]
    return found or [number for number, name in enumerate(names) if _stem(name) == folded(pattern)]


def _stem(name: str) -> str:
    return folded(name.rpartition("/")[2].rpartition(".")[0])


# ---- targets


def _of_targets(maps: Maps, wanted: Sequence[str]) -> Maps:
    """The maps of the targets that were asked for."""
    if not wanted:
        return maps
    found: dict[Place, Map] = {}
    for word in wanted:
        fits = _target(word, maps)
        matching = {place: each for place, each in maps.items() if fits(place, each)}
        if not matching:
            raise UsageError(f"--target {word}: no map is of it", f"there are {_present(word, maps)}")
        found |= matching
    return found


def _without_commas(word: str, maps: Maps) -> list[str]:
    """Several with commas, as `explain` takes them; a label may have commas of its own."""
    fits = _target(word, maps)
    whole = any(fits(place, each) for place, each in maps.items())
    return [word] if whole else [part.strip() for part in word.split(",")]


def _target(word: str, maps: Maps) -> Fits:
    """topK (the K best), rankK (the K-th), a class index or a label, as `explain` takes them."""
    ranked = _RANKED.fullmatch(word)
    if ranked and ranked[1] == "rank":
        return lambda place, each: place.target == f"top{ranked[2]}"
    if ranked:
        return lambda place, each: place.target in _best(int(ranked[2]))
    if any(place.target == word for place in maps):
        return lambda place, each: place.target == word
    if word.isdecimal():
        return lambda place, each: each.record.target is not None and each.record.target.index == int(word)
    return lambda place, each: folded(_label(each)) == folded(word)


def _best(count: int) -> set[str]:
    return {f"top{rank + 1}" for rank in range(count)}


def _label(each: Map) -> str:
    return (each.record.target.label if each.record.target else None) or ""


def _present(word: str, maps: Maps) -> str:
    labels = tuple(dict.fromkeys(filter(None, map(_label, maps.values()))))
    specs = _in_rank({place.target for place in maps})
    return _listed([*specs, *(nearest(word, labels) or labels)])


def _one_target(maps: Maps) -> Maps:
    """Where no image has maps of two targets, which one it is stands beside the map: a column for each would be empty but
    for one cell."""
    bare = {place._replace(target=OWN): each for place, each in maps.items()}
    return bare if len(bare) == len(maps) and len({place.target for place in maps}) > 1 else maps


def _targets(maps: Maps, wanted: Sequence[str]) -> tuple[str, ...]:
    """In the order asked for, those of one word by rank or index."""
    ranks: dict[str, int] = {}
    fits = [_target(word, maps) for word in wanted]
    for place, each in maps.items():
        first = next((k for k, fit in enumerate(fits) if fit(place, each)), 0)
        ranks[place.target] = min(first, ranks.get(place.target, first))
    ordered = _in_rank(ranks)
    return tuple(sorted(ordered, key=lambda target: ranks[target]))


def _in_rank(targets: Iterable[str]) -> list[str]:
    """top1, top2, ..., then class indices."""

    def key(target: str) -> tuple:
        number = target.removeprefix("top")
        return not target.startswith("top"), int(number) if number.isdecimal() else 0, target

    return sorted(targets, key=key)
