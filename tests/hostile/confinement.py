"""A world that a child process may attack, and children that run in it, with and without the sandbox."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from attacks import ATTACKS

from gradviz_cli.process.sandbox.environment import PACKAGE, scrubbed_environment


def _kernel_confines() -> bool:
    """Asked without the module under test, so that its failure cannot look like a kernel that has nothing."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False
    landlock = ctypes.CDLL(None).syscall(444, None, ctypes.c_long(0), 1)
    return landlock > 0 and "\nSeccomp:" in Path("/proc/self/status").read_text()


confined = pytest.mark.skipif(not _kernel_confines(), reason="this kernel has no Landlock or no seccomp")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


CHILD = """
import ctypes, errno, fcntl, json, mmap, os, resource, signal, socket, struct, subprocess, sys, termios, types
from gradviz_cli.process.sandbox import enter as sandbox, environment, kernel

w = types.SimpleNamespace(**json.loads(sys.argv[1]))
libc = ctypes.CDLL(None, use_errno=True)

def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def create_and_remove(folder):
    open(folder + "/" + w.unique + "-new", "w").close()
    os.unlink(folder + "/" + w.unique + "-new")

def enter(**options):
    return sandbox.enter([w.model], w.scratch, parent=os.getppid(), **options)

def outcome(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "done"

def report(value):
    os.write(w.pipe, (json.dumps(value) + "\\n").encode())

"""
ENTER = "box = enter()\n"


class World:
    """A model, a home, a scratch folder, canaries, listening sockets, a process: what a child may attack."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder = folder
        for name in ("model", "outside/empty_folder", "home/.ssh", "scratch"):
            (folder / name).mkdir(parents=True)
        for i in range(len(ATTACKS)):
            (folder / f"outside/canary{i}").write_text("canary")
            (folder / f"model/canary{i}").write_text("canary")
        (folder / "home/.ssh/id_ed25519").write_text("secret")
        (folder / "beside_model").write_text("secret")
        (folder / "scratch/mine").write_text("mine")
        (folder / "model/link_to_key").symlink_to(folder / "home/.ssh/id_ed25519")
        (folder / "scratch/outside").symlink_to(folder / "outside")
        self.before = self.snapshot()

        unique = f"gradviz-test-{os.getpid()}-{time.monotonic_ns()}"
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        by_path = Path("/tmp") / f"{unique}-socket"  # such a path may have 107 bytes at most
        stack.callback(by_path.unlink)
        packets = Path("/tmp") / f"{unique}-packets"
        services = [(socket.SOCK_STREAM, str(by_path)), (socket.SOCK_SEQPACKET, str(packets))]
        stack.callback(packets.unlink)
        for kind, address in (*services, *([(socket.SOCK_STREAM, "\0" + unique)] if sys.platform == "linux" else [])):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            listener.bind(address)
            listener.listen()
        victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        controller, terminal = os.openpty()
        outside = os.open(folder / "outside", os.O_RDONLY)
        for handle in (controller, terminal, outside):
            stack.callback(os.close, handle)
        unconnected = stack.enter_context(socket.socket()).fileno()
        self.inherited = {"socket": unconnected, "terminal": terminal, "outside_folder": outside}
        self.facts = {
            **{name: str(folder / name) for name in ("model", "outside", "home", "scratch")},
            **self.inherited,
            "package": str(PACKAGE),
            "unique": unique,
            "port": tcp.getsockname()[1],
            "unix_socket": str(by_path),
            "packets": str(packets),
            "victim": victim.pid,
            "arm": platform.machine() == "aarch64",
        }

    def snapshot(self):
        """Everything outside the scratch folder: names, kinds, contents, modes, owners, times."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if "scratch" not in path.relative_to(self.folder).parts:
                status = path.lstat()
                content = path.read_bytes() if path.is_file() else None
                found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_uid, content)
        return found

    def run(self, body: str, *, timeout: float = 60, **options):
        """Run CHILD + body: exit status, list of what it reported, stderr."""
        receive, send = os.pipe()
        options = {
            "env": scrubbed_environment(self.facts["scratch"]),
            "cwd": self.facts["scratch"],
            **options,
        }
        try:
            process = subprocess.run(
                [sys.executable, "-c", CHILD + body, json.dumps({**self.facts, "pipe": send})],
                pass_fds=(send, *self.inherited.values()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=timeout,
                **options,
            )
        finally:
            os.close(send)
        with os.fdopen(receive) as lines:
            return process.returncode, [json.loads(line) for line in lines], process.stderr

    def value(self, body: str, **options):
        """The one value that a child reports."""
        status, values, errors = self.run(body, **options)
        assert status == 0, errors
        (value,) = values
        return value

    def attacked(self, entering: str) -> dict[str, str]:
        """The outcome of each attack after the code `entering`."""
        body = f"""
outcomes = {{}}
for i, (name, statement) in enumerate({ATTACKS!r}.items()):
    w.canary = f"/canary{{i}}"
    outcomes[name] = outcome(exec, statement, globals())
report(outcomes)
"""
        return self.value(entering + body)
