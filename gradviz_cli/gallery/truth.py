"""The true class of an image, where the name of its folder is the label of one: `photos/husky/7.jpg` is a husky."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gradviz_cli.errors import GradvizError
from gradviz_cli.gallery.folder import Folder, Shown
from gradviz_cli.model.labels import read_labels

MOST_NAMED = 5  # folders that the page names


@dataclass(frozen=True)
class Judge:
    """Knows the labels, and the folders whose names are none."""

    labels: frozenset[str]
    unjudged: list[str]  # names of folders

    @classmethod
    def of(cls, folders: Iterable[Folder]) -> Judge:
        """Labels that pictures bear, and those that lie in the models. A folder of another name is judged by nobody."""
        folders = list(folders)
        shown = [one for each in folders for one in each.images]
        seen = {picture.target.label for one in shown for picture in one.pictures if picture.target.label}
        names = {_folder(one) for one in shown} - {""}
        if not names.isdisjoint(map(_composed, seen)):
            seen |= {label for each in folders for model in each.models.values() for label in _shipped(model.path)}
        labels = frozenset(map(_composed, seen))
        rest = sorted(names - labels) if names & labels else []
        return cls(labels, rest[:MOST_NAMED] + ["..."] * (len(rest) > MOST_NAMED))

    def label(self, one: Shown) -> str | None:
        """The true label of an image; None where its folder does not say it."""
        name = _folder(one)
        return name if name in self.labels else None


def is_right(one: Shown, label: str | None) -> bool | None:
    """Whether the best class is the true one; None where that cannot be known."""
    for picture in one.pictures if label else ():
        is_true = _composed(picture.target.label or "") == label
        if picture.target.rank == 0:
            return is_true
        if is_true and picture.target.rank is not None:
            return False
    return None


def _folder(one: Shown) -> str:
    return _composed(os.path.basename(os.path.dirname(one.source)))


def _composed(label: str) -> str:
    """A Mac decomposes the names of folders."""
    return unicodedata.normalize("NFC", label)


def _shipped(model: str) -> tuple[str, ...]:
    with suppress(GradvizError, OSError, ValueError):
        return read_labels(None, Path(model))
    return ()
