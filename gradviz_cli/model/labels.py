"""Names of the classes: read from a file, and as many as there are classes."""

from __future__ import annotations

import os
from pathlib import Path

from gradviz_cli.errors import ImageError, ModelRefused, UsageError
from gradviz_cli.files.near import near_path
from gradviz_cli.files.reading import READABLE, Limits, read_bytes, read_named
from gradviz_cli.files.text import printable
from gradviz_cli.model.label_files import decoded, labels_in

SHIPPED = Path("assets.extra") / "labels.txt"
MAX_BYTES, MAX_OWN_BYTES = 64 * 2**20, 8 * 2**20  # of a file that the user names, and of one in the model, a stranger's
OWN = "check that it is the file of this model"
FORMS = "give one label a line, a JSON list, or a JSON object from index to label"


def read_labels(file: Path | None, model: Path, start: int = 0) -> tuple[str, ...]:
    """Labels by class index: of `file`, else those that lie in the model, else none.

    Parameters
    ----------
    start : int
        Line of class 0, from 0 on; below 0, so many classes have no line.

    Raises
    ------
    UsageError
        The file cannot be read, holds something else, or has no line `start`.
    ModelRefused
        That of the model is a link out of it.
    """
    if file is None:
        file = model / SHIPPED
        if not file.is_file():
            _check_start(start)
            return ()
        if not belongs(file, model):
            raise ModelRefused(f"{file} is a link out of the model", "give --labels FILE")
    try:
        inside = file.is_relative_to(model)
        limits = Limits(max_file_size=MAX_OWN_BYTES if inside else MAX_BYTES)
        text = decoded((read_bytes if inside else read_named)(file, limits))
        found = labels_in(text, file.suffix.lower())
    except (ImageError, ValueError, RecursionError) as error:
        if getattr(error, "kind", "") == "missing":
            raise UsageError(
                f"--labels {printable(file)}: no such file", near_path(file, os.path.isfile) or "check the path"
            ) from error
        why = getattr(error, "message", None) or str(error)
        closed = getattr(error, "kind", "") == "unreadable"
        raise UsageError(f"--labels {printable(file)}: {why}", READABLE if closed else FORMS) from error
    if start >= max(1, len(found)):
        raise UsageError(f"--labels-from {start}: {file} has {len(found)} labels", "give a line that it has, from 0 on")
    return ("",) * -start + found[max(0, start) :]


def _check_start(start: int) -> None:
    if start:
        raise UsageError(f"--labels-from {start}: there are no labels", "give --labels FILE")


def belongs(file: Path, model: Path) -> bool:
    """Whether it lies in the model, or in the store of a download cache where the model's graph lies."""
    real = file.resolve()
    return real.is_relative_to(model.resolve()) or real.parent == (model / "saved_model.pb").resolve().parent


def misfit(labels: tuple[str, ...], classes: int | None) -> tuple[str, str] | None:
    """What is wrong, and what to do about it, where there are not as many labels as classes; both may be unknown."""
    if not labels or classes is None or len(labels) == classes:
        return None
    empty = sum(not label for label in labels)
    said = f"{len(labels)} labels{f' ({empty} of them empty)' if empty else ''} for {classes} {'class' if classes == 1 else 'classes'}"
    if (len(labels), classes) == (2, 1):
        return said, "its one score is mostly that of the second label: --labels-from 1 gives it that"
    if empty and labels[0] and len(labels) - empty == classes:
        return said, "an empty line, or a number that the file leaves out, counts as a class: remove it"
    if len(labels) == classes + 1:
        return (
            said,
            f"{OWN}; if so, the first may be a background class that the model has not: --labels-from 1 leaves it out",
        )
    if len(labels) == classes - 1:
        return (
            said,
            f"{OWN}; if so, the model's first class may be a background that the file leaves out: --labels-from -1 skips it",
        )
    return said, "give the file that the model was trained with, or choose its scores with --output NAME"
