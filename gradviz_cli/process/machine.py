"""What this machine, or this container, has: processors and memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple


def cores() -> int:
    """Processors that this process may use; command and worker count them alike."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_to(first: int, count: int) -> None:
    """Let all threads of this process use so many of the processors that it may use, beginning with this one of them."""
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = sorted(os.sched_getaffinity(0))
    if not 0 < count < len(allowed):
        return
    chosen = {allowed[(first + place) % len(allowed)] for place in range(count)}
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):  # it has ended
            os.sched_setaffinity(int(thread), chosen)


def processor() -> str:
    """What kind of processor it is, as far as that decides how numbers are rounded; empty where nothing says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def has_onednn() -> bool:
    """Whether TensorFlow for this processor can ask oneDNN for its kernels."""
    return platform.machine() in ("x86_64", "AMD64")


def has_avx512() -> bool:
    """Whether its registers are as long as oneDNN's kernels for AVX-512 need."""
    return "avx512f" in processor().split()


_GPUS = ("nvidia[0-9]*", "dxg")
# What keeps a large GPU busy: pixels of the images that share a call, and how many of them at most.
PIXELS_A_CALL, MOST_A_CALL = 2**21, 32


def gpu_batch(height: int, width: int, channels: int = 3) -> int:
    """Images that share a call on a GPU."""
    return max(1, min(MOST_A_CALL, PIXELS_A_CALL // (height * width * max(1, channels // 3))))


@cache
def gpu_devices() -> tuple[str, ...]:
    """The devices of GPUs that there are. To be asked before a sandbox is entered, which does not show them."""
    return tuple(sorted(path.name for pattern in _GPUS for path in Path("/dev").glob(pattern)))


def gpus() -> list[str]:
    """The devices of GPUs that there are, and which of them may be seen."""
    return [*gpu_devices(), os.environ.get("CUDA_VISIBLE_DEVICES", "all")]


def has_gpu() -> bool:
    """Whether there is one that may be seen, so that TensorFlow may compute on it."""
    *found, seen = gpus()
    return bool(found) and seen.strip() not in ("", "-1")


# A model that takes all memory is to cost one image and not the machine. With less than the least TensorFlow does not start:
# there the supervisor, which looks at what is left, is faster than the limit.
MEMORY_SHARE, LEAST_MEMORY = 0.8, 2 * 2**30
# What has to stay free: below, a machine begins to swap, or its kernel to end processes.
LEFT_SHARE, MOST_LEFT = 0.02, 2**28


def memory_limit() -> int:
    """Bytes that a child may have: most of what is free now on this machine, or in this container."""
    return max(LEAST_MEMORY, int(MEMORY_SHARE * free_memory()))


def free_memory() -> int:
    """Bytes that can be had without swapping, as far as the system says so."""
    return min([_available(), *(max(0, limit - used) for limit, used in _groups())])


def is_short() -> bool:
    """Whether next to nothing is free, of the machine or of the container."""
    return free_memory() < min(MOST_LEFT, int(LEFT_SHARE * _total()))


def resident(process: int) -> int:
    """Bytes of memory that a process holds; 0 where there is none, or where nothing says so."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _total() -> int:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([installed, *(limit for limit, _ in _groups())])


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):  # no Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class _Names(NamedTuple):
    """Files of a control group, and the key of the file cache in its statistics, which the kernel gives back."""

    root: str
    limit: str
    used: str
    cache: str


_ONE = _Names("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_TWO = _Names("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def _groups() -> Iterator[tuple[int, int]]:
    """Limit and use of the control groups that this process is in, of those that have a limit."""
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, group in (parts for parts in lines if len(parts) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        names = _ONE if controllers else _TWO
        inner = Path(names.root + group)
        for place in (inner, *inner.parents):
            if (limit := _number(place / names.limit)) is not None:
                yield limit, max(0, (_number(place / names.used) or 0) - _cache(place / "memory.stat", names.cache))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # ValueError: `max`, which is none
        return None


def _cache(file: Path, key: str) -> int:
    try:
        lines = file.read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), 0)
    except (OSError, ValueError, IndexError):
        return 0
