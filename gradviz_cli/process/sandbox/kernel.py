"""Calls into the kernel, all through one door."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION = 0x20080522
_LANDLOCK = {"landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446}
WHY = {
    errno.ENOSYS: "this kernel does not have it",
    errno.EINVAL: "this kernel does not know it",
    errno.EOPNOTSUPP: "it was left out when this kernel was started",
    errno.EPERM: "it is refused here, as some containers do",
    errno.E2BIG: "too many sandboxes surround this process already",
}


@functools.cache
def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def system(name: str, *arguments: Any) -> int:
    """One call into the kernel; a failure is an OSError.

    All of them pass through here, so that a test can stand for an older kernel.
    """
    numbers = {"seccomp": machine().seccomp} if name == "seccomp" else _LANDLOCK
    if name in numbers:
        function, arguments = libc().syscall, (numbers[name], *arguments)
    else:
        function = getattr(libc(), name)
    result = function(*(ctypes.c_long(v) if isinstance(v, int) else v for v in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@contextlib.contextmanager
def attempt(missing: list[str], what: str) -> Iterator[None]:
    """Whatever cannot be had is written down, and the rest is still tried."""
    try:
        yield
    except OSError as error:
        missing.append(f"{what}: {WHY.get(error.errno or 0, error.strerror or str(error))}")


# seccomp: which system calls


@dataclass(frozen=True)
class Machine:
    column: int  # in _REFUSED
    audit: int  # AUDIT_ARCH_*
    seccomp: int


MACHINES = {"x86_64": Machine(0, 0xC000003E, 317), "aarch64": Machine(1, 0xC00000B7, 277)}


def machine() -> Machine:
    name = os.uname().machine
    if name not in MACHINES or sys.byteorder != "little" or sys.maxsize < 2**32:
        raise OSError(errno.ENOEXEC, f"gradviz has no filter for {name} processors")
    return MACHINES[name]
