"""What was meant by a word that is not known: names that are near it, the nearest first, and none where none is near."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from gradviz_cli.errors import UsageError
from gradviz_cli.files.text import printable

MOST = 3  # that are named
LEAST_PART = 3  # letters of a word that may stand for a longer one
FAR = 1 / 3  # of the letters of the longer word, that a slip may change
MOST_FILES = 5_000  # of a folder, that are looked through


def nearest(word: str, known: Iterable[str], most: int = MOST) -> list[str]:
    """Those of `known` that may have been meant, the likeliest first."""
    found = {name: likeness for name in dict.fromkeys(known) if (likeness := _likeness(word, name))}
    best = max(found.values(), default=0.0)
    near = [name for name in found if found[name] > (best - 0.2 if best < 1 else 0.99)]
    return sorted(near, key=lambda name: -found[name])[:most]


def did_you_mean(names: Iterable[str]) -> str:
    """A question after these; empty where there are none."""
    shown = " or ".join(map(printable, names))
    return f"did you mean {shown}?" if shown else ""


def _likeness(word: str, name: str) -> float:
    """1 for the same but for case and what joins words, less where one begins the other or is a word of it, or where a few
    letters differ; 0 where they are not near."""
    one, other = _bare(word), _bare(name)
    if not one or not other:
        return 0.0
    if one == other:
        return 1.0
    short, long = sorted((one, other), key=len)
    share = len(short) / len(long)
    slips = distance(one, other)
    by_slips = 1 - slips / len(long) if slips <= max(1, int(len(long) * FAR)) and len(long) > 2 else 0.0
    if len(short) >= LEAST_PART and long.startswith(short):
        return max(by_slips, 0.8 + 0.1 * share)
    if len(short) >= LEAST_PART and short in _words(word if long == one else name):
        return max(by_slips, 0.7 + 0.1 * share)
    return by_slips


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _bare(text: str) -> str:
    return "".join(_words(text)) or text.casefold()


def distance(one: str, other: str) -> int:
    """Letters that are to be added, left out, changed or swapped with the next to make one word of the other."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and (a, one[i - 2]) == (other[j - 2], b):
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def check_path(path: Path | str, option: str = "", remedy: str = "check the path") -> None:
    """Refuse a path, given with this option, that leads to nothing; and one that cannot be looked for, in a closed folder.

    Raises
    ------
    UsageError
        Nothing is there, or nobody can tell.
    """
    shown = f"{option} {printable(path)}".lstrip()
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        what = "no such file or folder"
        raise UsageError(f"{shown}: {what}" if option else f"{what}: {shown}", near_path(path) or remedy) from error
    except OSError as error:
        raise UsageError(
            f"{shown}: it cannot be looked for: {error.strerror}", "check the permissions of its folders"
        ) from error


def near_path(path: Path | str, fits: Callable[[str], bool] = os.path.lexists) -> str:
    """A question after the files that may have been meant by a path that leads nowhere, and that fit; empty where none is near,
    or where it leads somewhere."""
    return "" if os.path.lexists(path) else did_you_mean(paths_near(path, fits))


def paths_near(path: Path | str, fits: Callable[[str], bool] = os.path.lexists) -> list[str]:
    """The same as paths, spelled as the one that was given, and each there."""
    typed = os.fsdecode(path)
    parent, name = os.path.split(typed.rstrip("/"))
    if parent and not os.path.isdir(parent):
        return [one for above in paths_near(parent) if fits(one := os.path.join(above, name))]
    try:
        with os.scandir(parent or ".") as entries:
            names = sorted(entry.name for entry in islice(entries, MOST_FILES))
    except OSError:
        return []
    shown = [one for one in names if not one.startswith(".") or name.startswith(".")]
    same_stem = [one for one in shown if one != name and os.path.splitext(one)[0] == os.path.splitext(name)[0]]

    def fitting(names: list[str]) -> list[str]:
        return [place for one in names if fits(place := os.path.join(parent, one))]

    return (fitting(same_stem) or fitting(nearest(name, shown, len(shown))))[:MOST]
