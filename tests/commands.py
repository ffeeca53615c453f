"""Running the command as its users do: a process of its own, in a folder that is not the checkout."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent


def environment(more: dict | None = None) -> dict[str, str]:
    """Without the proof of each model, which tests of its own ask for (an empty variable counts as none)."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "GRADVIZ_EXPLAIN_PROOF": "never", **(more or {})}


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "gradviz_cli", *map(os.fspath, map(_text, arguments))]


def _text(argument) -> str | bytes | os.PathLike:
    return argument if isinstance(argument, str | bytes | os.PathLike) else str(argument)


def gradviz(*arguments, cwd: Path, env: dict | None = None, **more) -> subprocess.CompletedProcess:
    """Run it to its end."""
    options = {"capture_output": True, "text": True, "timeout": 200, **more}
    return subprocess.run(command(*arguments), cwd=cwd, env=environment(env), **options)


def start(*arguments, cwd: Path, env: dict | None = None, **more) -> subprocess.Popen:
    """Start it in a session of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True, **more}
    return subprocess.Popen(command(*arguments), cwd=cwd, env=environment(env), **options)


def on_terminal(*arguments, cwd: Path, env: dict | None = None, columns: int = 100, until_: str = "", then=None):
    """Run it with a terminal for stdin, stdout and stderr: its code and all that the terminal got. `then(terminal, process)` is
    called when this text has come."""
    ours, theirs = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = start(*arguments, cwd=cwd, env={"TERM": "xterm", **(env or {})}, **ends)
    os.close(theirs)
    said = b""
    with suppress(OSError):  # what the last of them has closed
        while data := os.read(ours, 1 << 16):
            said += data
            if then and until_ in said.decode(errors="replace"):
                then(ours, process)
                then = None
    os.close(ours)
    return process.wait(60), said.decode().replace("\r\n", "\n")


def shown(said: str) -> list[str]:
    """The lines that a terminal shows of this in the end."""
    return [line.rsplit("\r\x1b[K", 1)[-1] for line in said.removesuffix("\n").split("\n")]


def picture(path: Path, seed: int, size: tuple[int, int] = (60, 80)) -> Path:
    """An image of coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize(size[::-1], Image.Resampling.BICUBIC).save(path)
    return path


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def content(out: Path) -> dict[str, bytes]:
    """Pictures and arrays by name."""
    return {name: (out / name).read_bytes() for name in files(out) if name.endswith((".png", ".npy"))}


def temporaries(out: Path) -> set[str]:
    return {name for name in files(out) if name.endswith(".tmp")}


def text(path: Path) -> dict:
    """What a picture says of itself."""
    with Image.open(path) as image:
        return json.loads(image.text["gradviz"])


def pixels(path: Path | str | bytes) -> np.ndarray:
    """uint8 [h, w, 3] of an image file."""
    with Image.open(os.fsdecode(path)) as image:
        return np.asarray(image.convert("RGB"))


def stored(path: Path | str | bytes) -> np.ndarray:
    """The numbers of an image file as they are: of a picture with a palette its indices."""
    with Image.open(os.fsdecode(path)) as image:
        return np.asarray(image)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they started."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (status := _status(int(entry))):
            parents[int(entry)] = int(status[1])
    found, todo = [], [pid]
    while todo:
        children = [child for child, parent in parents.items() if parent == todo[-1]]
        todo = todo[:-1] + children
        found += children
    return found


def _status(pid: int) -> list[str] | None:
    """State, parent, ... of a process; None when it is gone or only waits to be buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else fields


def is_alive(pid: int) -> bool:
    return _status(pid) is not None


def child_running(pid: int, module: str) -> int | None:
    """The child of a process that runs a module: `gradviz_cli.worker` or `gradviz_cli.images.reader`."""
    for child in descendants(pid):
        try:
            if module.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return child
        except OSError:
            continue
    return None


def until(condition: Callable, seconds: float = 60.0, what: str = "") -> object:
    """Wait for a condition and return what it gives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what or condition} did not happen within {seconds} s")


def stopped(process: subprocess.Popen, number: signal.Signals, group: bool = False) -> float:
    """Send a signal; the seconds until the process is gone. Its children must be gone as well."""
    children = descendants(process.pid)
    start_ = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, number)
    process.wait(30)
    seconds = time.monotonic() - start_
    until(lambda: not any(map(is_alive, children)), 2, "the end of all children")
    return seconds


def lines(stderr: str) -> Iterator[dict]:
    """JSON lines."""
    return map(json.loads, stderr.splitlines())
