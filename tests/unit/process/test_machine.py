"""Processors and memory, also where a container has less than the machine."""

from __future__ import annotations

import os
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
    ("limits", "want"),
    [
        ([], 80 * GIB),
        ([50 * GIB], 40 * GIB),
        ([200 * GIB], 80 * GIB),
        ([10 * GIB, 20 * GIB], 8 * GIB),
        ([GIB], 4 * GIB),
    ],
)
def test_memory_is_most_of_the_smallest_limit(monkeypatch: pytest.MonkeyPatch, limits: list[int], want: int) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 100 * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(machine, "_container_limits", lambda: iter(limits))
    assert machine.memory_limit() == pytest.approx(want, abs=1)


@pytest.mark.parametrize(
    ("groups", "files", "want"),
    [
        ("0::/a/b\n", {"/sys/fs/cgroup/a/b/memory.max": "max\n", "/sys/fs/cgroup/a/memory.max": "700\n"}, [700]),
        (
            "0::/a\n",
            {"/sys/fs/cgroup/a/memory.max": "5\n", "/sys/fs/cgroup/memory.max": "6\n"},
            [5, 6],
        ),
        (
            "4:memory:/x\n3:cpu:/x\n",
            {
                "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "900\n",
                "/sys/fs/cgroup/cpu/x/memory.limit_in_bytes": "1\n",
            },
            [900],
        ),
        ("what is this\n", {}, []),
    ],
    ids=["v2 above", "v2 nested", "v1", "odd"],
)
def test_limits_of_control_groups(monkeypatch, groups: str, files: dict[str, str], want: list[int]) -> None:
    told = {"/proc/self/cgroup": groups, **files}

    def read(path: Path) -> str:
        if str(path) not in told:
            raise FileNotFoundError(path)
        return told[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    assert list(machine._container_limits()) == want
