"""Processes that are timed: servers that answer calls in turn, whole commands, and what else the machine was doing."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


class Server:
    """A tool that answers requests in a process of its own (peers/common.py)."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path):
        self.started = time.time()
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def ask(self, **request) -> dict:
        """The answer to one request.

        Raises
        ------
        RuntimeError
            The tool failed, or its process ended.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            said = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
            raise RuntimeError(said[-1][:200] if said else "its process ended")
        answer = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer

    def close(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Run:
    """One command from start to end: wall and processor seconds, and peak memory in bytes by role, where asked for."""

    wall: float
    cpu: float
    peaks: dict[str, int]


def run(command: Sequence[str], environment: dict[str, str], log: Path, watch: bool = False) -> Run:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
        It failed; with the last line that it said.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    peaks: dict[str, int] = defaultdict(int)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done)) if watch else None
    if watcher:
        watcher.start()
    code = process.wait()
    wall = time.perf_counter() - start
    if watcher:
        done.set()
        watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise RuntimeError(f"ended with {code}: {said[-1][:200] if said else 'no word'}")
    return Run(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, dict(peaks))


def _watch(root: int, peaks: dict[str, int], done: threading.Event) -> None:
    """The high-water mark of every process below `root`, by the module it runs; of several alike the largest."""
    while not done.wait(0.1):
        for pid in _tree(root):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                role = next((word.decode() for word in words if word.startswith(b"gradviz_cli.")), "command")
                status = Path(f"/proc/{pid}/status").read_text()
                peak = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
            except (OSError, StopIteration):  # it has just ended
                continue
            peaks[role] = max(peaks[role], peak)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from _tree(child)


class Company:
    """How many cores other processes have kept busy since: the measure of how far a table can be trusted."""

    def __init__(self):
        self._before, self._start = _busy() - _ours(), time.monotonic()

    def __str__(self) -> str:
        """To be asked when the processes that were started here have ended; before, they would count as others."""
        cores = max(0.0, (_busy() - _ours() - self._before) / (time.monotonic() - self._start))
        return f"Other processes kept {cores:.1f} cores busy."


def _busy() -> float:
    """Processor seconds that the machine has worked: user, nice, system, interrupts, stolen."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")


def _ours() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def machine() -> str:
    """Processor, cores, memory and kernel, without names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    words = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value}
    vectors = [
        flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in words.get("flags", "").split()
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = (
        f"{words.get('model name', platform.machine())}, family {words.get('cpu family')}, model {words.get('model')}"
    )
    cores = len(os.sched_getaffinity(0))
    return (
        f"{processor}; {cores} cores ({', '.join(vectors)}); {memory:.0f} GiB; Linux {platform.release().split('-')[0]}"
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of theirs / ours, run by run: how many times faster ours is."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
