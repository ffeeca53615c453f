"""What the worker gives up before it imports anything large.

A SavedModel is a program. `policy.py` decides which of its operations may run; this room limits what they
could do if that decision, or TensorFlow itself, were wrong. Four layers, each independent of the others:

* Landlock (Linux 5.13): files can be read only where Python, TensorFlow and the model are, written only in a
  private scratch folder.
* seccomp: system calls that make sockets, start programs, reach other processes or change what Landlock does
  not see (mode, owner, times of a file) fail with EPERM.
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
import functools
import glob
import os
import pwd
import resource
import signal
import stat
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
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

    grants = _grants(read, scratch)
    _give_up_privileges(parent, missing)
    abi, seccomp, alone = 0, False, False
    with _attempt(missing, "confining all threads"):
        alone = _alone()
    with _attempt(missing, "Landlock, which confines files (Linux 5.13 or later)"):
        abi = _confine_files(grants)
    with _attempt(missing, "seccomp, which refuses network, programs and access to other processes"):
        seccomp = _filter_calls()
    level = "full" if abi and seccomp and alone else "partial" if abi or seccomp else "none"
    return Sandbox(level, abi, seccomp, tuple(missing))


# ------------------------------------------------------------------------------------------------------------
# The environment a worker is started with

# Names, not prefixes, wherever another program uses the prefix for secrets: TF_VAR_* and TF_TOKEN_* are
# Terraform's, NVIDIA_API_KEY is a credential.
_KEPT_NAMES = """
    LD_LIBRARY_PATH LD_PRELOAD DYLD_LIBRARY_PATH PYTHONHOME PYTHONHASHSEED MALLOC_ARENA_MAX GLIBC_TUNABLES
    TF_CPP_MIN_LOG_LEVEL TF_CPP_MAX_VLOG_LEVEL TF_CPP_VMODULE TF_ENABLE_ONEDNN_OPTS TF_NUM_INTRAOP_THREADS
    TF_NUM_INTEROP_THREADS TF_FORCE_GPU_ALLOW_GROWTH TF_GPU_ALLOCATOR TF_GPU_THREAD_MODE TF_GPU_THREAD_COUNT
    TF_GPU_HOST_MEM_LIMIT_IN_MB TF_CUDNN_USE_AUTOTUNE TF_CUDNN_DETERMINISTIC TF_DETERMINISTIC_OPS
    TF_XLA_FLAGS XLA_FLAGS CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_HOME CUDA_PATH CUDA_MODULE_LOADING
    CUDA_CACHE_DISABLE CUDA_FORCE_PTX_JIT CUDA_LAUNCH_BLOCKING NVIDIA_VISIBLE_DEVICES
    NVIDIA_DRIVER_CAPABILITIES NVIDIA_TF32_OVERRIDE
"""
_KEPT_PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_")


def scrubbed_environment(
    scratch: str | os.PathLike, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment for a worker: what Python and TensorFlow need, and no token, credential or proxy.

    Home, temporary and Keras folders lie in `scratch`. Modules must not come from the current folder, which
    may be a stranger's: PYTHONSAFEPATH is set (Python 3.11; for 3.10 start the worker with `scratch` as its
    current folder), PYTHONPATH is made absolute, and the folder of a gradviz that runs from a checkout is put
    into it. `extra` is applied last and wins.
    """
    scratch = os.path.abspath(scratch)
    kept = {k: v for k, v in os.environ.items() if k in _KEPT_NAMES.split() or k.startswith(_KEPT_PREFIXES)}
    search = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    if not _installed(PACKAGE.parent):
        search.append(str(PACKAGE.parent))
    if search:
        kept["PYTHONPATH"] = os.pathsep.join(search)
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **kept,
        "LANG": "C.UTF-8",
        "HOME": scratch,
        "TMPDIR": scratch,
        "KERAS_HOME": os.path.join(scratch, ".keras"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        **(extra or {}),
    }


# ------------------------------------------------------------------------------------------------------------
# Calls into the kernel

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION = 0x20080522
_LANDLOCK = {"landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446}
_WHY = {
    errno.ENOSYS: "this kernel does not have it",
    errno.EINVAL: "this kernel does not know it",
    errno.EOPNOTSUPP: "it was left out when this kernel was started",
    errno.EPERM: "it is refused here, as some containers do",
    errno.E2BIG: "too many sandboxes surround this process already",
}


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _system(name: str, *arguments) -> int:
    """One call into the kernel; a failure is an OSError.

    All of them pass through here, so that a test can stand for an older kernel.
    """
    numbers = {"seccomp": _machine().seccomp} if name == "seccomp" else _LANDLOCK
    if name in numbers:
        function, arguments = _libc().syscall, (numbers[name], *arguments)
    else:
        function = getattr(_libc(), name)
    result = function(*(ctypes.c_long(v) if isinstance(v, int) else v for v in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@contextlib.contextmanager
def _attempt(missing: list[str], what: str) -> Iterator[None]:
    """Whatever cannot be had is written down, and the rest is still tried."""
    try:
        yield
    except OSError as error:
        missing.append(f"{what}: {_WHY.get(error.errno, error.strerror)}")


def _limit_resources(memory: int | None, file: int, missing: list[str]) -> None:
    """Set soft and hard limits, never above the hard limits there are."""
    limits = {"CORE": 0, "NOFILE": OPEN_FILES, "FSIZE": file} | ({"DATA": memory} if memory else {})
    for name, value in limits.items():
        with _attempt(missing, f"the limit RLIMIT_{name}"):
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
    with _attempt(missing, "giving up capabilities"):
        _drop_capabilities()
    with _attempt(missing, "no new privileges"):
        _system("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with _attempt(missing, "ending together with the command"):
        _system("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        raise SystemExit("the command that started this worker is gone")


def _drop_capabilities() -> None:
    """Root, the usual user of a container, keeps only the right to read what belongs to others."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    sets = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; then their upper halves
    _system("capget", header, sets)
    permitted = struct.unpack("=6I", sets.raw)[1]
    kept = permitted & (1 << _CAP_DAC_READ_SEARCH)
    _system("capset", header, struct.pack("=6I", kept, kept, 0, 0, 0, 0))


def _alone() -> bool:
    """True if this is the only thread. Others would keep their rights to files, and they share our memory."""
    others = len(os.listdir("/proc/self/task")) - 1
    if others:
        raise OSError(errno.EBUSY, f"{others} already ran when the sandbox was entered")
    return True


# ------------------------------------------------------------------------------------------------------------
# Landlock: which files

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_READ = _READ_FILE | _READ_DIR
_SCRATCH = _READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG
_DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV

# What the kernel knows how to refuse, by the version that brought it. All of it is refused unless granted.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: _TRUNCATE, 5: _IOCTL_DEV}
_TCP_RIGHTS = {4: 0b11}  # bind, connect
_SCOPES = {6: 0b11}  # abstract unix sockets, signals

_SYSTEM = """
    /lib /lib32 /lib64 /usr/lib /usr/lib32 /usr/lib64 /usr/local/lib /usr/local/lib64 /usr/local/cuda*
    /opt/cuda* /opt/nvidia /nix/store /gnu/store /usr/share/zoneinfo /usr/share/locale /sys/devices/system
    /etc/ld.so.cache /etc/localtime
    /etc/ssl/openssl.cnf /etc/pki/tls/openssl.cnf /etc/crypto-policies/back-ends
    /proc/self /proc/cpuinfo /proc/meminfo /proc/stat /proc/sys/vm/overcommit_memory /dev/urandom
"""
_GPU = "/proc/driver/nvidia /proc/devices /proc/modules /sys/bus/pci /sys/devices /sys/module/nvidia*"
_GPU_DEVICES = ("/dev/nvidia*", "/dev/dxg")

_pins: list[int] = []


def _grants(read: Sequence, scratch) -> list[tuple[int, int]]:
    """Open descriptors and the rights below each. What the caller names must exist; the rest need not."""
    grants = [(_handle(p), _READ) for p in read] + [(_handle(scratch), _SCRATCH)]
    optional = [(p, _READ) for p in (*_SYSTEM.split(), *map(glob.escape, _software()))] + [
        ("/dev/null", _DEVICE)
    ]
    devices = [device for pattern in _GPU_DEVICES for device in glob.glob(pattern)]
    if devices and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):
        optional += [(p, _DEVICE) for p in devices] + [(p, _READ) for p in _GPU.split()]
    for pattern, rights in optional:
        for path in glob.glob(pattern):
            with contextlib.suppress(OSError):
                grants.append((_handle(path), rights))
    return grants


def _handle(path) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def _software() -> Iterator[str]:
    """Where Python, its packages and the libraries they link to are, and no user's folder by accident."""
    yield str(PACKAGE)
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        # Not the prefix itself: a virtual environment made in a home folder has that folder as its prefix.
        yield from (os.path.join(prefix, name) for name in ("lib", "lib64", "ssl", "nvvm", "targets"))
    linked = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    yield from (p for p in (*sys.path, *linked) if p and not _private(os.path.realpath(p)))


def _installed(folder: Path) -> bool:
    return folder.name in ("site-packages", "dist-packages")


def _private(path: str) -> bool:
    """True if a search path entry holds more than software: the home folder, the current one, a checkout."""
    try:
        home = os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a container's user may have no entry
        home = "/"
    if path == "/" or (home + "/").startswith(path + "/") or path == os.path.realpath(os.curdir):
        return True
    return path == str(PACKAGE.parent) and not _installed(PACKAGE.parent)


def _since(table: Mapping[int, int], abi: int) -> int:
    return sum(rights for version, rights in table.items() if version <= abi)


def _confine_files(grants: Iterable[tuple[int, int]]) -> int:
    """Put the Landlock rules in force; the version of its interface."""
    abi = _system("landlock_create_ruleset", None, 0, 1)
    handled = _since(_FILE_RIGHTS, abi)
    attributes = struct.pack("=QQQ", handled, _since(_TCP_RIGHTS, abi), _since(_SCOPES, abi))
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = _system("landlock_create_ruleset", attributes, size, 0)
    for handle, rights in grants:
        rights &= handled if stat.S_ISDIR(os.fstat(handle).st_mode) else handled & _OF_FILES
        _system("landlock_add_rule", ruleset, 1, struct.pack("=Qi", rights, handle), 0)
    _system("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)
    # A rule holds for an inode, and procfs makes a new one for /proc/self once the old is forgotten. An open
    # descriptor keeps it; those of the other grants cost nothing.
    _pins.extend(handle for handle, _ in grants)
    return abi


# ------------------------------------------------------------------------------------------------------------
# seccomp: which system calls


@dataclass(frozen=True)
class _Machine:
    column: int  # in _REFUSED
    audit: int  # AUDIT_ARCH_*
    seccomp: int


_MACHINES = {"x86_64": _Machine(0, 0xC000003E, 317), "aarch64": _Machine(1, 0xC00000B7, 277)}

_Numbers = dict[str, "int | tuple[int | None, int | None]"]

# Names with their numbers on x86_64 and aarch64 (one where both are the same, None where there is none).
_REFUSED: _Numbers = {
    # the network. The pipes to the command are there already
    "socket": (41, 198), "socketpair": (53, 199), "bind": (49, 200), "connect": (42, 203),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242),
    # programs and processes: a child would outlive the parent's death, which is not inherited
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "unshare": (272, 97), "setns": (308, 268),
    # other processes of this user
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": 434, "pidfd_send_signal": 424, "pidfd_getfd": 438, "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": 440,
    "process_mrelease": 448, "kcmp": (312, 272), "move_pages": (279, 239), "migrate_pages": (256, 238),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    # memory and messages shared by key or name, which no path leads to
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semctl": (66, 191),
    "semop": (65, 193), "semtimedop": (220, 192), "msgget": (68, 186), "msgctl": (71, 187),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # what Landlock does not see: mode, owner, times and attributes of a file, watching one, files by handle.
    # truncate is seen from version 3 on
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": 452, "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": 463, "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": 466, "file_setattr": 469,
    "truncate": (76, 45), "inotify_init": (253, None), "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    # large interfaces of the kernel that no gradient needs
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": 428, "open_tree_attr": 467,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": 443, "syslog": (103, 116),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170),
    "adjtimex": (159, 171), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None), "vhangup": (153, 58),
}  # fmt: skip

# Their arguments lie in memory, where a filter cannot look; libc falls back to calls that it can judge.
_ABSENT: _Numbers = {"clone3": 435, "openat2": 437}

# Judged by one argument. Asked most often, so they come first in the filter.
_JUDGED: _Numbers = {
    "openat": (257, 56), "open": (2, None), "ioctl": (16, 29), "fcntl": (72, 25), "clone": (56, 220),
    "prlimit64": (302, 261), "prctl": (157, 167), "tgkill": (234, 131), "kill": (62, 129),
}  # fmt: skip
_LAST_KNOWN = 469  # newer calls, and those of x32, whose numbers start at 2^30, do not exist here

_LOAD, _EQUAL, _GREATER, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _NO_SUCH_CALL = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_CLONE_THREAD = 0x10000
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP = 0x5412, 0x541C, 0x8901, 0x8902
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_TSYNC, _SPEC_ALLOW = 1, 4

_Instruction = tuple[int, int, int, int]  # operation, jump if true, jump if false, value


def _machine() -> _Machine:
    name = os.uname().machine
    if name not in _MACHINES or sys.byteorder != "little" or sys.maxsize < 2**32:
        raise OSError(errno.ENOEXEC, f"gradviz has no filter for {name} processors")
    return _MACHINES[name]


def _argument(index: int) -> _Instruction:
    # The lower half: all arguments judged here are ints, of which the kernel reads no more.
    return (_LOAD, 0, 0, 16 + 8 * index)


def _only(index: int, *values: int) -> list[_Instruction]:
    """Allow the call if argument `index` is one of `values`."""
    tests = [(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_argument(index), *tests, (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]


def _except(index: int, *values: int) -> list[_Instruction]:
    """Refuse the call if argument `index` is one of `values`."""
    tests = [(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_argument(index), *tests, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]


def _opening(index: int) -> list[_Instruction]:
    """Refuse to empty a file that is opened for reading, or opened for neither reading nor writing.

    Both pass a Landlock older than version 3 wherever reading is allowed.
    """
    neither = _O_ACCMODE
    return [
        _argument(index),
        (_AND, 0, 0, _O_ACCMODE | _O_TRUNC),
        (_EQUAL, 3, 0, _O_TRUNC),
        (_EQUAL, 2, 0, _O_TRUNC | neither),
        (_EQUAL, 1, 0, neither),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]


def _judgements(process: int) -> dict[str, list[_Instruction]]:
    """What each call of `_JUDGED` is asked, for the process with this id."""
    return {
        "open": _opening(1),
        "openat": _opening(2),
        # A terminal takes characters as if typed (TIOCSTI); signals can be sent through a file's owner.
        "ioctl": _except(1, _TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP),
        "fcntl": _except(1, _F_SETOWN, _F_SETSIG, _F_SETOWN_EX),
        # Threads, but no processes.
        "clone": [
            _argument(0),
            (_ANY_BIT, 1, 0, _CLONE_THREAD),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ],
        "prlimit64": _only(0, 0, process),
        "prctl": _except(0, _PR_SET_PDEATHSIG),
        # abort() sends itself a signal.
        "tgkill": _only(0, process),
        "kill": _only(0, process),
    }


def _on(machine: _Machine, table: _Numbers) -> dict[str, int]:
    """Those calls of a table that exist on this machine, with their numbers there."""
    numbers = {name: n[machine.column] if isinstance(n, tuple) else n for name, n in table.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _program(machine: _Machine, process: int) -> list[_Instruction]:
    """The filter: `is it this call? then this is the answer`, one call after the other; the rest may pass."""
    judgements = _judgements(process)
    answers = [(number, judgements[name]) for name, number in _on(machine, _JUDGED).items()]
    answers += [(number, [(_RETURN, 0, 0, _NO_SUCH_CALL)]) for number in _on(machine, _ABSENT).values()]
    answers += [(number, [(_RETURN, 0, 0, _REFUSE)]) for number in _on(machine, _REFUSED).values()]
    program = [
        (_LOAD, 0, 0, 4),  # the processor's calling convention; with another one the numbers mean other calls
        (_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # the number of the call
        (_GREATER, 0, 1, _LAST_KNOWN),
        (_RETURN, 0, 0, _NO_SUCH_CALL),
    ]
    for number, answer in answers:
        program += [(_EQUAL, 0, len(answer), number), *answer]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


class _SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def _filter_calls() -> bool:
    """Put the filter in force for all threads."""
    program = _program(_machine(), os.getpid())
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    argument = ctypes.byref(_SockFprog(len(program), code))
    # Without SPEC_ALLOW, kernels before 5.16 switch speculation off for the whole process. TensorFlow would
    # pay for it, and its memory holds no secret that is not the model's own.
    try:
        failed = _system("seccomp", 1, _TSYNC | _SPEC_ALLOW, argument)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        failed = _system("seccomp", 1, _TSYNC, argument)
    if failed:
        raise OSError(errno.EBUSY, f"thread {failed} has a filter of its own")
    return True
