"""Which names a file system takes for one."""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gradviz_cli.files.whole import TEMPORARY

Fold = Callable[[str], str]


def as_it_is(name: str) -> str:
    return name


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def folding(folder: Path) -> Fold:
    """What is equal for two names of one file in this folder, or in the nearest one above it that exists.

    Asked by a file that is made there and removed at once. Where none can be made, names are taken for different: what
    is wrong will be said when a picture is written.
    """
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    path = folder / f"{TEMPORARY}\u00e9-{secrets.token_hex(8)}.tmp"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except (OSError, ValueError):
        return as_it_is
    try:
        cases = os.path.lexists(path.with_name(path.name.upper()))
        forms = os.path.lexists(path.with_name(unicodedata.normalize("NFD", path.name)))
    finally:
        with suppress(OSError):
            os.unlink(path)
    if cases:
        return lambda name: composed(composed(name).casefold()) if forms else name.casefold()
    return composed if forms else as_it_is
