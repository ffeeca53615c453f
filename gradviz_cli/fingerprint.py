"""Which model it was: a hash over every file that a SavedModel is made of."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from gradviz_cli.errors import ModelUnusable

PARTS = ("saved_model.pb", "saved_model.pbtxt", "variables", "assets", "assets.extra")


def of_model(model: Path) -> str:
    """SHA-256 over the names and contents of the model's files, in name order.

    Raises
    ------
    ModelUnusable
        No such folder, no graph in it, a special file among its files, or one that cannot be read.
    """
    if not model.is_dir():
        raise ModelUnusable(f"{model} is not a folder", "give the SavedModel's folder, the one that holds saved_model.pb")
    if not any(os.path.lexists(model / part) for part in PARTS[:2]):
        raise ModelUnusable(f"{model} holds no saved_model.pb", "give the folder that `model.export(...)` wrote")
    whole = hashlib.sha256()
    for name in _files(model):
        whole.update(os.fsencode(name) + b"\0" + _hash(model / name) + b"\0")
    return whole.hexdigest()


def _files(model: Path) -> list[str]:
    found = []
    for part in PARTS:
        path = model / part
        if path.is_dir():
            found.extend(os.path.relpath(os.path.join(folder, name), model) for folder, _, names in os.walk(path) for name in names)
        elif os.path.lexists(path):
            found.append(part)
    return sorted(found, key=os.fsencode)


def _hash(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ModelUnusable(f"{path} is not a regular file", "give a SavedModel folder of plain files")
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.digest()
    except OSError as error:
        raise ModelUnusable(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
