"""seccomp: which system calls a child may make."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from gradviz_cli.process.sandbox import kernel

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
    "getxattr": (191, 8), "lgetxattr": (192, 9), "fgetxattr": (193, 10), "getxattrat": 464,
    "listxattr": (194, 11), "llistxattr": (195, 12), "flistxattr": (196, 13), "listxattrat": 465,
    # locks on files that others wait for, and waiting for the disks of all
    "flock": (73, 32), "sync": (162, 81), "syncfs": (306, 267),
    # memory that no limit counts
    "memfd_create": (319, 279), "memfd_secret": 447,
    # large interfaces of the kernel that no gradient needs
    "io_setup": (206, 0), "io_submit": (209, 2), "splice": (275, 76), "vmsplice": (278, 75), "tee": (276, 77),
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
    "mmap": (9, 222), "openat": (257, 56), "open": (2, None), "ioctl": (16, 29), "fcntl": (72, 25), "clone": (56, 220),
    "prlimit64": (302, 261), "prctl": (157, 167), "tgkill": (234, 131), "kill": (62, 129),
    "sched_setaffinity": (203, 122),
}  # fmt: skip
_LAST_KNOWN = 469  # newer calls, and those of x32, whose numbers start at 2^30, do not exist here
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _NO_SUCH_CALL, _NO_SUCH_SERVICE = (0x00050000 | code for code in (errno.EPERM, errno.ENOSYS, errno.ENOENT))
_CLONE_THREAD = 0x10000
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_MAP_TYPE, _MAP_SHARED, _MAP_ANONYMOUS = 0xF, 0x1, 0x20
# A terminal takes characters as if typed (TIOCSTI), or is taken over; signals can be sent through a file's owner.
_OF_TERMINALS = (0x5412, 0x541C, 0x540E, 0x541D, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSCTTY, TIOCCONS, TIOCSETD
_OF_OWNERS = (0x8901, 0x8902)  # FIOSETOWN, SIOCSPGRP
# Who owns a file that is only open to be read may change its flags, version, project and encryption, or seal it for good.
_OF_FLAGS = (0x40086602, 0x40046602, 0x401C5820, 0x40087602, 0x40047602, 0x800C6613, 0x40806685)
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_F_LOCKS = (6, 7, 37, 38)  # F_SETLK, F_SETLKW and those of open files
_F_LEASES = (1024, 1026)  # F_SETLEASE, F_NOTIFY
# What a thread may say of itself: its name, and that of its memory. The rest asks.
_PR_ALLOWED = (3, 15, 16, 21, 23, 25, 27, 30, 38, 39, 41, 42, 0x53564D41, 0x41555856)
_TSYNC, _SPEC_ALLOW = 1, 4
_Instruction = tuple[int, int, int, int]  # operation, jump if true, jump if false, value


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


# CUDA's driver shares memory with the kernel. It asks for a service at a socket, and then listens at one of its own; where it
# may not, it says that there is no GPU.
_OF_GPUS = ("bind", "listen")
_OF_SOCKETS: _Numbers = {"setsockopt": (54, 208)}
_SO_FILTERS = (26, 50, 51, 52)  # programs that the kernel would run
_AF_UNIX, _SOCK_TYPE, _SOCK_SEQPACKET = 1, 0xF, 5


def _for_gpu(machine: kernel.Machine, answers: dict[int, list[_Instruction]]) -> dict[int, list[_Instruction]]:
    """The answers where such a driver works. Nobody is reached or listened to all the same: there is no service, it is told,
    `accept` is refused, and a socket of this kind sends nothing before it is connected."""
    number = _on(machine, {**_REFUSED, **_JUDGED, **_OF_SOCKETS})
    allowed = {number[name] for name in _OF_GPUS}
    return {
        **{call: answer for call, answer in answers.items() if call not in allowed},
        number["socket"]: [
            _argument(0),
            (_EQUAL, 0, 3, _AF_UNIX),
            _argument(1),
            (_AND, 0, 0, _SOCK_TYPE),
            (_EQUAL, 1, 0, _SOCK_SEQPACKET),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ],
        number["setsockopt"]: _except(2, *_SO_FILTERS),
        number["connect"]: [(_RETURN, 0, 0, _NO_SUCH_SERVICE)],
        number["mmap"]: [(_RETURN, 0, 0, _ALLOW)],
    }


def _judgements(process: int) -> dict[str, list[_Instruction]]:
    """What each call of `_JUDGED` is asked, for the process with this id."""
    return {
        # Anonymous memory that is shared counts for no limit.
        "mmap": [
            _argument(3),
            (_AND, 0, 0, _MAP_TYPE | _MAP_ANONYMOUS),
            (_EQUAL, 0, 1, _MAP_SHARED | _MAP_ANONYMOUS),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ],
        "open": _opening(1),
        "openat": _opening(2),
        "ioctl": _except(1, *_OF_TERMINALS, *_OF_OWNERS, *_OF_FLAGS),
        "fcntl": _except(1, _F_SETOWN, _F_SETSIG, _F_SETOWN_EX, *_F_LOCKS, *_F_LEASES),
        # Threads, but no processes.
        "clone": [
            _argument(0),
            (_ANY_BIT, 1, 0, _CLONE_THREAD),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ],
        "prlimit64": _only(0, 0, process),
        "prctl": _only(0, *_PR_ALLOWED),
        # abort() sends itself a signal.
        "tgkill": _only(0, process),
        "kill": _only(0, process),
        "sched_setaffinity": _only(0, 0, process),
    }


def _on(machine: kernel.Machine, table: _Numbers) -> dict[str, int]:
    """Those calls of a table that exist on this machine, with their numbers there."""
    numbers = {name: n[machine.column] if isinstance(n, tuple) else n for name, n in table.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _program(machine: kernel.Machine, process: int, gpu: bool = False) -> list[_Instruction]:
    """The filter: `is it this call? then this is the answer`, one call after the other; the rest may pass."""
    judgements = _judgements(process)
    answers = {number: judgements[name] for name, number in _on(machine, _JUDGED).items()}
    answers |= {number: [(_RETURN, 0, 0, _NO_SUCH_CALL)] for number in _on(machine, _ABSENT).values()}
    answers |= {number: [(_RETURN, 0, 0, _REFUSE)] for number in _on(machine, _REFUSED).values()}
    if gpu:
        answers = _for_gpu(machine, answers)
    program = [
        (_LOAD, 0, 0, 4),  # the processor's calling convention; with another one the numbers mean other calls
        (_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # the number of the call
        (_GREATER, 0, 1, _LAST_KNOWN),
        (_RETURN, 0, 0, _NO_SUCH_CALL),
    ]
    for number, answer in answers.items():
        program += [(_EQUAL, 0, len(answer), number), *answer]
    return [*program, (_RETURN, 0, 0, _ALLOW)]


class _SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def filter_calls(gpu: bool = False) -> bool:
    """Put the filter in force for all threads; with `gpu`, one that the driver of a GPU can work behind."""
    program = _program(kernel.machine(), os.getpid(), gpu)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    argument = ctypes.byref(_SockFprog(len(program), code))
    # Without SPEC_ALLOW, kernels before 5.16 switch speculation off for the whole process. TensorFlow would
    # pay for it, and its memory holds no secret that is not the model's own.
    try:
        failed = kernel.system("seccomp", 1, _TSYNC | _SPEC_ALLOW, argument)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        failed = kernel.system("seccomp", 1, _TSYNC, argument)
    if failed:
        raise OSError(errno.EBUSY, f"thread {failed} has a filter of its own")
    return True
