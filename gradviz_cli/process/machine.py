"""What this machine, or this container, has: processors and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def cores() -> int:
    """Processors that this process may use; command and worker count them alike."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """What kind of processor it is, as far as that decides how numbers are rounded; empty where nothing says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def gpus() -> list[str]:
    """The devices of GPUs that there are, and which of them may be seen."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return [*sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*")), seen]


# A model that takes all memory is to cost one image and not the machine.
MEMORY_SHARE, LEAST_MEMORY = 0.8, 4 * 2**30


def memory_limit() -> int:
    """Bytes that a worker may have: most of what this machine, or this container, has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(LEAST_MEMORY, int(MEMORY_SHARE * min([total, *_container_limits()])))


def _container_limits() -> Iterator[int]:
    """Memory limits of the control groups that this process is in."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, group in (parts for parts in groups if len(parts) == 3):
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") if controllers else ("/sys/fs/cgroup", "memory.max")
        )
        inner = Path(root + group)
        for place in (inner, *inner.parents):
            try:
                yield int((place / name).read_text())
            except (OSError, ValueError):  # ValueError: `max`, which is none
                continue
