"""Processors and memory, also where a container has less than the machine."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import pytest

from gradviz_cli.process import machine

GIB = 2**30


def test_cores_are_those_that_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert machine.cores() == len(before)


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512dq", True),
        ("flags\t\t: fpu avx2 fma", False),
        ("flags\t\t: avx512fp16_only_in_name", False),
        ("Features\t: fp asimd sve", False),
        ("", False),
    ],
)
def test_long_registers_are_those_that_the_system_lists(line: str, want: bool, monkeypatch) -> None:
    monkeypatch.setattr(machine.Path, "read_text", lambda self: f"processor\t: 0\n{line}\nbugs\t: none\n")
    assert machine.has_avx512() == want


@pytest.mark.parametrize(
    ("available", "groups", "want"),
    [
        (50, [], 40),
        (50, [(20, 10)], 8),
        (50, [(200, 100), (100, 95)], 4),
        (5, [(100, 0)], 4),
        (0.1, [], 2),
        (50, [(10, 11)], 2),
    ],
)
def test_memory_is_most_of_what_is_free(monkeypatch, available: float, groups: list, want: int) -> None:
    """Not of what is installed: others may have taken it, and what a container has used is gone too."""
    monkeypatch.setattr(machine, "_available", lambda: int(available * GIB))
    monkeypatch.setattr(machine, "_groups", lambda: iter([(limit * GIB, used * GIB) for limit, used in groups]))
    assert machine.memory_limit() == pytest.approx(want * GIB, abs=1)


@pytest.mark.parametrize(
    ("available", "groups", "short"),
    [
        (10, [], False),
        (0.1, [], True),
        (10, [(2, 1.9)], False),
        (10, [(2, 1.99)], True),
        (10, [(100, 99.9)], True),
    ],
)
def test_where_memory_is_short(monkeypatch, available: float, groups: list, short: bool) -> None:
    monkeypatch.setattr(machine, "_available", lambda: int(available * GIB))
    monkeypatch.setattr(machine, "_groups", lambda: iter([(int(one * GIB), int(two * GIB)) for one, two in groups]))
    assert machine.is_short() == short


def test_what_a_process_holds() -> None:
    before = machine.resident(os.getpid())
    with mmap.mmap(-1, 2**26) as pages:  # new ones, whatever the heap has kept of what it freed
        pages.write(bytes(2**26))
        assert machine.resident(os.getpid()) - before > 2**25
    assert machine.resident(2**22 + 1) == 0


V2 = "/sys/fs/cgroup"
V1 = f"{V2}/memory"


@pytest.mark.parametrize(
    ("groups", "files", "want"),
    [
        (
            "0::/a/b\n",
            {f"{V2}/a/b/memory.max": "max\n", f"{V2}/a/memory.max": "700\n", f"{V2}/a/memory.current": "500\n"},
            [(700, 500)],
        ),
        (
            "0::/a\n",
            {
                f"{V2}/a/memory.max": "5\n",
                f"{V2}/a/memory.current": "4\n",
                f"{V2}/a/memory.stat": "anon 1\ninactive_file 3\n",
                f"{V2}/memory.max": "6\n",
            },
            [(5, 1), (6, 0)],
        ),
        (
            "4:memory:/x\n3:cpu:/x\n",
            {
                f"{V1}/x/memory.limit_in_bytes": "900\n",
                f"{V1}/x/memory.usage_in_bytes": "800\n",
                f"{V1}/x/memory.stat": "inactive_file 1\ntotal_inactive_file 300\n",
                f"{V2}/cpu/x/memory.limit_in_bytes": "1\n",
            },
            [(900, 500)],
        ),
        ("what is this\n", {}, []),
    ],
    ids=["v2 above", "v2 nested", "v1", "odd"],
)
def test_limits_of_control_groups(monkeypatch, groups: str, files: dict[str, str], want: list) -> None:
    told = {"/proc/self/cgroup": groups, **files}

    def read(path: Path) -> str:
        if str(path) not in told:
            raise FileNotFoundError(path)
        return told[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    assert list(machine._groups()) == want


@pytest.mark.parametrize(
    ("first", "count", "left"), [(0, 1, {0}), (1, 1, {1}), (5, 1, {1}), (1, 2, {0, 1}), (0, 0, {0, 1})]
)
def test_processors_that_a_process_keeps_to(monkeypatch, first: int, count: int, left: set[int]) -> None:
    """Of two that it may use; all of its threads."""
    now: dict[int, set[int]] = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {2, 7})
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, chosen: now.update({thread: chosen}))
    machine.keep_to(first, count)
    kept = {2: 0, 7: 1}
    assert all({kept[one] for one in chosen} == left for chosen in now.values())
    assert threading.get_native_id() in now or left == {0, 1}


@pytest.mark.parametrize(
    ("devices", "seen", "there"),
    [
        ((), None, False),
        (("nvidia0",), None, True),
        (("nvidia0", "nvidia1"), "1", True),
        (("nvidia0",), "", False),
        (("nvidia0",), "-1", False),
        (("nvidia0",), " -1 ", False),
        (("dxg",), None, True),
    ],
)
def test_whether_there_is_a_gpu(devices, seen, there, monkeypatch) -> None:
    monkeypatch.setattr(machine, "gpu_devices", lambda: devices)
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert machine.has_gpu() == there
    assert machine.gpus() == [*devices, "all" if seen is None else seen]


@pytest.mark.parametrize(
    ("height", "width", "channels", "images"),
    [(224, 224, 3, 32), (16, 16, 3, 32), (384, 384, 3, 14), (512, 512, 3, 8), (512, 512, 12, 2), (4096, 4096, 3, 1)],
)
def test_images_that_share_a_call_on_a_gpu(height, width, channels, images) -> None:
    assert machine.gpu_batch(height, width, channels) == images
