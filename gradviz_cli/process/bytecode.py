"""Compiled modules for child processes. Python compiles what it imports once and keeps that beside the source, but children
may write nowhere: in a checkout each would compile its modules anew."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


@cache
def keep(module: str) -> None:
    """Compile what is new in the room of a child's module, `gradviz_cli.ROOM...`, as if this process imported it; nothing where
    the user does not want that, or the room cannot be written."""
    package, _, inside = module.partition(".")
    room = PACKAGE / inside.partition(".")[0]
    ours = package == __name__.partition(".")[0]
    if not ours or sys.dont_write_bytecode or sys.pycache_prefix or not os.access(room, os.W_OK):
        return
    with suppress(OSError):
        stale = [path for path in room.rglob("*.py") if not _is_compiled(path)]
        if stale:
            from py_compile import compile  # most runs find nothing to do

            for path in stale:
                compile(str(path), quiet=2)


def _is_compiled(path: Path) -> bool:
    try:
        return os.stat(cache_from_source(path)).st_mtime_ns >= path.stat().st_mtime_ns
    except FileNotFoundError:
        return False
