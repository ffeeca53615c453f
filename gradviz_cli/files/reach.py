"""Which folder on the way to a path is closed to this user, or gone: the system names the path alone, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

from gradviz_cli.files.text import AnyPath


def closed_folder(path: AnyPath) -> Path | None:
    """The first folder on the way that may not be entered, itself and the working folder as well; None where there is none."""
    try:
        full = Path(os.path.abspath(os.fsdecode(path)))
    except (OSError, ValueError):  # the working folder is gone; no name of a file
        return None
    return next((folder for folder in (*reversed(full.parents), full) if _is_closed(folder)), None)


def is_adrift() -> bool:
    """The working folder is gone, so that no relative path leads anywhere."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _is_closed(folder: Path) -> bool:
    try:
        os.stat(os.path.join(folder, "."))  # which Path would leave out
    except PermissionError:
        return True
    except OSError:
        return False
    return False
