"""Which process writes: in 16 hexadecimal digits of the names of its unfinished files, and whether such a process is gone."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

# Digits of the machine with the space that its process numbers are of, of the process, and of the moment that it started.
_MACHINE, _PROCESS, _START = 5, 6, 5


def this_writer() -> str:
    """Drawn by chance where the system does not say."""
    return _writer(os.getpid()) or secrets.token_hex((_MACHINE + _PROCESS + _START) // 2)


def is_gone(writer: str) -> bool:
    """Whether this was a process of this machine, since it was started, and has ended. Of others nobody can tell from here."""
    here = _digits()
    if not here or not writer.startswith(here):
        return False
    process = int(writer[_MACHINE : _MACHINE + _PROCESS], 16)
    found = _writer(process)
    return found != writer if found else not lives(process)


def lives(process: int) -> bool:
    """Also of one that the system hides from this user."""
    if not 0 < process < 2**31:  # as a file may say; to the system these mean others, or nothing
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def machine() -> list[str]:
    """This start of this machine, and the space that its process numbers are of; empty texts where it does not say."""
    found = ["", ""]
    with suppress(OSError):
        found[0] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        found[1] = os.readlink("/proc/self/ns/pid")
    return found


def started(process: int) -> str:
    """When a process started, in ticks of its machine; empty where there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _writer(process: int) -> str:
    here, start = _digits(), started(process)
    if not here or not start.isdigit():
        return ""
    return f"{here}{process:0{_PROCESS}x}{int(start) % 16**_START:0{_START}x}"


def _digits() -> str:
    here = machine()
    return hashlib.sha256(" ".join(here).encode()).hexdigest()[:_MACHINE] if all(here) else ""
