"""Landlock: which files may be read and written."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence

from gradviz_cli.process.sandbox import kernel
from gradviz_cli.process.sandbox.environment import software

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
# What CUDA's driver reads and writes. Its threads name themselves; where that fails, it says that there is no GPU.
_GPU = """
    /usr/local/nvidia /proc/driver/nvidia /proc/devices /proc/modules /proc/sys/vm/mmap_min_addr
    /sys/bus/pci /sys/devices /sys/module/nvidia* /sys/kernel/mm/transparent_hugepage
"""
_GPU_DEVICES = ("/dev/nvidia*", "/dev/dxg")
# Landlock knows no finer grain: what else stands there is this process's own as well.
_NAMES_OF_THREADS = "/proc/self/task"

_pins: list[int] = []
_Path = str | os.PathLike[str]


def grants(read: Sequence[_Path], scratch: _Path, gpu: bool = False) -> list[tuple[int, int]]:
    """Open descriptors and the rights below each. What the caller names must exist; the rest need not, such as what a GPU is
    used by."""
    grants = [(_handle(p), _READ) for p in read] + [(_handle(scratch), _SCRATCH)]
    optional = [(p, _READ) for p in (*_SYSTEM.split(), *map(glob.escape, software()))] + [("/dev/null", _DEVICE)]
    if gpu:
        optional += [(p, _DEVICE) for p in _GPU_DEVICES] + [(p, _READ) for p in _GPU.split()]
        optional.append((_NAMES_OF_THREADS, _READ | _WRITE_FILE | _TRUNCATE))
    for pattern, rights in optional:
        for path in glob.glob(pattern):
            with contextlib.suppress(OSError):
                grants.append((_handle(path), rights))
    return grants


def _handle(path: _Path) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def _since(table: Mapping[int, int], abi: int) -> int:
    return sum(rights for version, rights in table.items() if version <= abi)


def confine_files(grants: Iterable[tuple[int, int]]) -> int:
    """Put the Landlock rules in force; the version of its interface."""
    abi = kernel.system("landlock_create_ruleset", None, 0, 1)
    handled = _since(_FILE_RIGHTS, abi)
    attributes = struct.pack("=QQQ", handled, _since(_TCP_RIGHTS, abi), _since(_SCOPES, abi))
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = kernel.system("landlock_create_ruleset", attributes, size, 0)
    for handle, rights in grants:
        rights &= handled if stat.S_ISDIR(os.fstat(handle).st_mode) else handled & _OF_FILES
        kernel.system("landlock_add_rule", ruleset, 1, struct.pack("=Qi", rights, handle), 0)
    kernel.system("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)
    # A rule holds for an inode, and procfs makes a new one for /proc/self once the old is forgotten. An open
    # descriptor keeps it; those of the other grants cost nothing.
    _pins.extend(handle for handle, _ in grants)
    return abi
