"""What the worker gives up before it imports anything large.

A SavedModel is a program. `policy.py` decides which of its operations may run; what is here limits what they
could do if that decision, or TensorFlow itself, were wrong. Four layers, each independent of the others:

* Landlock (Linux 5.13): files can be read only where Python, TensorFlow and the model are, written only in a
  private scratch folder.
* seccomp: system calls that make sockets (but for one that the driver of a GPU listens at), start programs, reach
  other processes or change what Landlock does not see (mode, owner, times of a file) fail with EPERM.
* No capabilities and no new privileges; death together with the parent process.
* Limits on memory, file size, open files; no core dumps.

None of it makes a model safe. What stays possible: to use processor time until the deadline, to fill the
scratch folder until the command notices (a second or so), to learn whether a path exists and how large it
is, and to attack the kernel through the calls that TensorFlow needs.

Sources: the Linux manual pages landlock(7), seccomp(2), capabilities(7), prctl(2); the kernel's
`include/uapi/linux/landlock.h` and system call tables.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradviz_cli.process.sandbox import kernel
from gradviz_cli.process.sandbox.landlock import confine_files, grants
from gradviz_cli.process.sandbox.seccomp import filter_calls

OPEN_FILES = 4096  # TensorFlow keeps the shards of a checkpoint open


@dataclass(frozen=True)
class Sandbox:
    """What is in force after `enter`.

    Attributes
    ----------
    level : str
        `full`: Landlock and seccomp, for every thread; `partial`: something less; `none`: neither.
    landlock_abi : int
        Version of the kernel's Landlock interface, 0 where it is not in force.
    seccomp : bool
        The system call filter is in force.
    missing : tuple of str
        What could not be had, in words for the user; empty when nothing is missing.
    """

    level: str
    landlock_abi: int
    seccomp: bool
    missing: tuple[str, ...]


def enter(
    read: Sequence[str | os.PathLike],
    scratch: str | os.PathLike,
    *,
    parent: int | None = None,
    memory_limit: int | None = None,
    file_limit: int = 64 * 2**20,
    gpu: bool = False,
) -> Sandbox:
    """Give up, for good, what this process does not need.

    To be called before NumPy and TensorFlow are imported: Landlock binds the calling thread and those that it
    starts later.

    Parameters
    ----------
    read : sequence of path
        Files and folders that may be read besides the software itself: the model. A symbolic link inside such
        a folder is followed only to where reading is allowed too.
    scratch : path
        Existing folder, the only place that may be written.
    parent : int, optional
        Process id of the parent. The kernel kills this process when the parent (strictly: the thread that
        started it) ends; SystemExit is raised if it ended before that could be arranged.
    memory_limit : int, optional
        Bytes of private writable memory (RLIMIT_DATA); TensorFlow alone takes 0.3 GB. Address space is not
        limited, since TensorFlow reserves several times what it uses.
    file_limit : int
        Bytes of the largest file that can be written; a longer one fails with EFBIG.
    gpu : bool
        Let the driver of a GPU work: its devices, memory that is shared, and a socket that it listens at and nobody calls.

    Returns
    -------
    Sandbox

    Raises
    ------
    OSError
        If a path in `read` or `scratch` cannot be opened.
    SystemExit
        If the process with id `parent` is gone.
    """
    missing: list[str] = []
    _offer_to_be_killed()
    _limit_resources(memory_limit, file_limit, missing)
    if sys.platform != "linux":
        missing.append(f"confining files and system calls: gradviz can do so on Linux, not on {sys.platform}")
        return Sandbox("none", 0, False, tuple(missing))

    granted = grants(read, scratch, gpu)
    _give_up_privileges(parent, missing)
    abi, seccomp, alone = 0, False, False
    with kernel.attempt(missing, "confining all threads"):
        alone = _alone()
    with kernel.attempt(missing, "Landlock, which confines files (Linux 5.13 or later)"):
        abi = confine_files(granted)
    with kernel.attempt(missing, "seccomp, which refuses network, programs and access to other processes"):
        seccomp = filter_calls(gpu)
    level = "full" if abi and seccomp and alone else "partial" if abi or seccomp else "none"
    return Sandbox(level, abi, seccomp, tuple(missing))


def _limit_resources(memory: int | None, file: int, missing: list[str]) -> None:
    """Set soft and hard limits, never above the hard limits there are."""
    limits = {"CORE": 0, "NOFILE": OPEN_FILES, "FSIZE": file} | ({"DATA": memory} if memory else {})
    for name, value in limits.items():
        with kernel.attempt(missing, f"the limit RLIMIT_{name}"):
            limit = getattr(resource, f"RLIMIT_{name}")
            _, hard = resource.getrlimit(limit)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (value, value))


def _offer_to_be_killed() -> None:
    """Where memory runs out for all, the kernel shall end this process and not the command or a neighbour."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _give_up_privileges(parent: int | None, missing: list[str]) -> None:
    """No capabilities, none to be gained, and an end together with the parent."""
    with kernel.attempt(missing, "giving up capabilities"):
        _drop_capabilities()
    with kernel.attempt(missing, "no new privileges"):
        kernel.system("prctl", kernel.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with kernel.attempt(missing, "ending together with the command"):
        kernel.system("prctl", kernel.PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        raise SystemExit("the command that started this worker is gone")


def _drop_capabilities() -> None:
    """Root, the usual user of a container, keeps only the right to read what belongs to others."""
    header = struct.pack("=Ii", kernel.CAPABILITY_VERSION, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; then their upper halves
    kernel.system("capget", header, sets)
    permitted = struct.unpack("=6I", sets.raw)[1]
    kept = permitted & (1 << kernel.CAP_DAC_READ_SEARCH)
    kernel.system("capset", header, struct.pack("=6I", kept, kept, 0, 0, 0, 0))


def _alone() -> bool:
    """True if this is the only thread. Others would keep their rights to files, and they share our memory."""
    others = len(os.listdir("/proc/self/task")) - 1
    if others:
        raise OSError(errno.EBUSY, f"{others} already ran when the sandbox was entered")
    return True
