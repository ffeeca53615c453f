"""The worker's sandbox holds: every attack is refused in it, and succeeds without it.

Everything runs in fresh child processes, because what `enter` gives up is gone for good. About 20 s in all,
half of it two imports of TensorFlow.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from gradviz_cli.process.sandbox import enter
from gradviz_cli.process.sandbox.environment import PACKAGE, scrubbed_environment
from gradviz_cli.process.sandbox.kernel import MACHINES
from gradviz_cli.process.sandbox.seccomp import _ABSENT, _JUDGED, _LAST_KNOWN, _REFUSED, _on, _program


def _kernel_confines() -> bool:
    """Asked without the module under test, so that its failure cannot look like a kernel that has nothing."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False
    landlock = ctypes.CDLL(None).syscall(444, None, ctypes.c_long(0), 1)
    return landlock > 0 and "\nSeccomp:" in Path("/proc/self/status").read_text()


confined = pytest.mark.skipif(not _kernel_confines(), reason="this kernel has no Landlock or no seccomp")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

# ------------------------------------------------------------------------------------------------------------
# Attacks. `w` holds the paths, ports and process ids of the world that each child gets;
# `w.outside` and `w.model` hold a canary file for each attack, `w.canary` is its name

WRITES = {
    "write": "open(w.outside + w.canary, 'w').write('x')",
    "write by a relative path": "open('../outside' + w.canary, 'w').write('x')",
    "append": "open(w.outside + w.canary, 'a').write('x')",
    "write through a link in the scratch folder": "open(w.scratch + '/outside' + w.canary, 'w').write('x')",
    "write into the model": "open(w.model + w.canary, 'w').write('x')",
    "write into the package": "create_and_remove(w.package)",
    "write into the home folder": "open(w.home + '/.profile', 'w').write('x')",
    "write into /tmp": "create_and_remove('/tmp')",
    "write into /dev/shm": "create_and_remove('/dev/shm')",
    "empty on opening": "os.open(w.outside + w.canary, os.O_WRONLY | os.O_TRUNC)",
    "empty on opening to read": "os.open(w.model + w.canary, os.O_RDONLY | os.O_TRUNC)",
    "empty on opening for neither": "os.open(w.model + w.canary, 3 | os.O_TRUNC)",
    "truncate": "os.truncate(w.model + w.canary, 0)",
    "rename over": "os.rename(w.scratch + '/mine', w.outside + w.canary)",
    "rename away": "os.rename(w.outside + w.canary, w.scratch + '/taken')",
    "link into the scratch folder": "os.link(w.outside + w.canary, w.scratch + '/linked')",
    "unlink": "os.unlink(w.outside + w.canary)",
    "remove a folder": "os.rmdir(w.outside + '/empty_folder')",
    "make a folder": "os.mkdir(w.outside + '/made_folder')",
    "make a link": "os.symlink('/etc/passwd', w.scratch + '/made_link')",
    "make a fifo": "os.mkfifo(w.scratch + '/made_fifo')",
    "change the mode": "os.chmod(w.outside + w.canary, 0o777)",
    "change the owner": "os.chown(w.outside + w.canary, os.getuid(), os.getgid())",
    "change the times": "os.utime(w.outside + w.canary, (1, 1))",
}
READS = {
    "read /etc/passwd": "open('/etc/passwd').read()",
    "read beside the model": "open(w.model + '/../beside_model').read()",
    "list beside the model": "os.listdir(w.model + '/..')",
    "read a key in the home folder": "open(w.home + '/.ssh/id_ed25519').read()",
    "read through a link in the scratch folder": "open(w.scratch + '/outside' + w.canary).read()",
    "read through a link in the model": "open(w.model + '/link_to_key').read()",
    "read through an inherited folder": "os.open('.' + w.canary, os.O_RDONLY, dir_fd=w.outside_folder)",
    "read the environment of a process": "open(f'/proc/{w.victim}/environ').read()",
    "read the command of a process": "open(f'/proc/{w.victim}/cmdline').read()",
}
NETWORK = {
    "connect by TCP": "socket.create_connection(('127.0.0.1', w.port), 5)",
    "listen": "socket.create_server(('127.0.0.1', 0))",
    "send by UDP": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', w.port))",
    "connect to a unix socket": "socket.socket(socket.AF_UNIX).connect(w.unix_socket)",
    "connect to an abstract socket": "socket.socket(socket.AF_UNIX).connect(chr(0) + w.unique)",
    "connect an inherited socket": "socket.socket(fileno=os.dup(w.socket)).connect(('127.0.0.1', w.port))",
    "pair of sockets": "socket.socketpair()",
}
PROCESSES = {
    "run a program": "subprocess.run(['/bin/sh', '-c', 'exit 0'], check=True)",
    "spawn a program": "os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'exit 0'], {}), 0)",
    "fork": "os.fork() or os._exit(0)",
    "signal a process": "os.kill(w.victim, signal.SIGWINCH)",
    "signal the parent": "os.kill(os.getppid(), 0)",
    "signal the process group": "os.kill(0, 0)",
    "limit a process": "resource.prlimit(w.victim, resource.RLIMIT_CORE, (0, 0))",
    "slow down a process": "os.setpriority(os.PRIO_PROCESS, w.victim, 5)",
    "send signals through a descriptor": "fcntl.fcntl(w.pipe, fcntl.F_SETOWN, os.getppid())",
    "outlive the parent": "check(libc.prctl(1, 0, 0, 0, 0))",
    "watch a folder": "check(libc.inotify_init())",
}
# What a kernel, a container or the lack of root may refuse without our help.
PERHAPS = {
    "change an attribute": "os.setxattr(w.outside + w.canary, 'user.gradviz', b'x')",
    "read the environment of process 1": "open('/proc/1/environ').read()",
    "open a process": "os.pidfd_open(w.victim)",
    "trace a process": "check(libc.ptrace(0x4206, w.victim, None, None))",
    "type into the terminal": "fcntl.ioctl(w.terminal, termios.TIOCSTI, b'x')",
    "shared memory": "check(libc.shmctl(check(libc.shmget(0, 4096, 0o1600)), 0, None))",
    "io_uring": "check(libc.syscall(425, 1, ctypes.create_string_buffer(120)))",
    "keyring": "check(libc.syscall(219 if w.arm else 250, 0, -2, 1))",
    "handle page faults": "check(libc.syscall(282 if w.arm else 323, 1))",
    "fork by clone3": "check(libc.syscall(435, struct.pack('32xQ24x', 17), 64)) or os._exit(0)",
    "empty by openat2": (
        "path = (w.model + w.canary).encode()\n"
        "check(libc.syscall(437, -100, path, struct.pack('Q16x', os.O_TRUNC), 24))"
    ),
    "count events": "check(libc.syscall(241 if w.arm else 298, struct.pack('II112x', 1, 120), 0, -1, -1, 0))",
}
ATTACKS = WRITES | READS | NETWORK | PROCESSES | PERHAPS
REFUSALS = {"EPERM", "EACCES", "EXDEV", "ENOSYS"}

CHILD = """
import ctypes, errno, fcntl, json, os, resource, signal, socket, struct, subprocess, sys, termios, types
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
ENTER_AS_OLD_KERNEL = """
real = kernel.system
def old(name, *arguments):
    asks_version = name == "landlock_create_ruleset" and arguments[0] is None
    return min(1, real(name, *arguments)) if asks_version else real(name, *arguments)
kernel.system = old
box = enter()
assert box.landlock_abi == 1, box
"""


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
        for address in (str(by_path), *(["\0" + unique] if sys.platform == "linux" else [])):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
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


@pytest.fixture(scope="module")
def make_world(tmp_path_factory):
    with ExitStack() as stack:
        yield lambda: World(tmp_path_factory.mktemp("world"), stack)


@pytest.fixture
def world(make_world):
    return make_world()


@pytest.fixture(scope="module")
def free(make_world):
    world = make_world()
    return world, world.attacked("")


@pytest.fixture(scope="module")
def boxed(make_world):
    world = make_world()
    return world, world.attacked(ENTER)


@pytest.fixture(scope="module")
def boxed_by_old_kernel(make_world):
    world = make_world()
    return world, world.attacked(ENTER_AS_OLD_KERNEL)


@linux
def test_attacks_succeed_without_sandbox(free):
    """The proof can fail: without this, a mistyped attack would count as refused."""
    _, outcomes = free
    assert {name: what for name, what in outcomes.items() if what != "done" and name not in PERHAPS} == {}


@confined
def test_attacks_are_refused(boxed):
    _, outcomes = boxed
    assert {name: what for name, what in outcomes.items() if what not in REFUSALS} == {}


@confined
def test_attacks_are_refused_by_linux_5_13(boxed_by_old_kernel):
    """With the first version of Landlock, which knows neither truncation nor network nor signals."""
    _, outcomes = boxed_by_old_kernel
    assert {name: what for name, what in outcomes.items() if what not in REFUSALS} == {}


@confined
def test_canaries_are_untouched(boxed, boxed_by_old_kernel, free):
    for world, _ in (boxed, boxed_by_old_kernel):
        assert world.snapshot() == world.before
    world, _ = free
    assert world.snapshot() != world.before


@confined
def test_executing_in_place_is_refused(world):
    """execve without fork: it would shed nothing, but run any program with what is left."""
    body = "report(outcome(os.execv, '/bin/sh', ['sh', '-c', 'exit 7']))"
    assert world.run(body)[0] == 7
    assert world.value(ENTER + body) in REFUSALS


# ------------------------------------------------------------------------------------------------------------
# What must go on working


@confined
def test_level_is_full_and_says_so(world):
    body = """
import dataclasses
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
status = {name: status[name].strip() for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapPrm")}
report([dataclasses.asdict(box), status])
"""
    box, status = world.value(ENTER + body)
    assert box["level"] == "full" and box["seccomp"] and box["landlock_abi"] >= 1 and box["missing"] == []
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    only_reading = 1 << 2  # CAP_DAC_READ_SEARCH
    assert int(status["CapEff"], 16) | only_reading == only_reading
    assert int(status["CapPrm"], 16) | only_reading == only_reading


@confined
def test_the_model_and_the_software_can_be_read(world):
    body = """
import ast, decimal, hashlib, html.parser, sqlite3, ssl, tempfile, threading, zlib, zoneinfo
assert open(w.model + "/canary0").read() == "canary"
assert "canary0" in os.listdir(w.model)
assert len(os.urandom(8)) == 8 and open("/dev/urandom", "rb").read(8)
assert "processor" in open("/proc/cpuinfo").read() and "MemTotal" in open("/proc/meminfo").read()
assert "Threads" in open("/proc/self/status").read()
hashlib.sha256(b"x"), ssl.create_default_context()
open("/dev/null", "w").write("x")
report("done")
"""
    assert world.value(ENTER + body) == "done"


@confined
def test_the_scratch_folder_can_be_written(world):
    body = """
import shutil, tempfile
assert tempfile.gettempdir() == w.scratch
with tempfile.TemporaryDirectory() as folder:
    with open(folder + "/a", "w") as file:
        file.write("x" * 100)
    os.rename(folder + "/a", folder + "/b")
    open(folder + "/b", "r+").truncate(10)
    assert os.path.getsize(folder + "/b") == 10
assert not os.path.exists(folder)
report("done")
"""
    assert world.value(ENTER + body) == "done"


@confined
def test_threads_signals_and_inherited_descriptors_work(world):
    body = """
import threading
seen = []
threads = [threading.Thread(target=seen.append, args=(i,)) for i in range(8)]
[t.start() for t in threads], [t.join() for t in threads]
signal.signal(signal.SIGUSR1, lambda *_: seen.append("signal"))
os.kill(os.getpid(), signal.SIGUSR1)
report(sorted(map(str, seen)))
"""
    assert world.value(ENTER + body) == [*map(str, range(8)), "signal"]


@confined
def test_threads_started_later_are_confined(world):
    body = """
import threading
seen = []
thread = threading.Thread(target=lambda: seen.append(outcome(open, w.outside + "/canary0", "a")))
thread.start(), thread.join()
report(seen)
"""
    assert world.value(ENTER + body) == ["EACCES"]


@confined
def test_abort_ends_the_process_by_its_signal(world):
    """The command tells a crash from a failure by the signal."""
    assert world.run(ENTER + "os.abort()")[0] == -signal.SIGABRT


@confined
def test_other_calling_conventions_end_the_process(world):
    """The 32-bit entry of an x86 kernel has other numbers: its open is 5, its fork 2."""
    if platform.machine() != "x86_64":
        pytest.skip("x86_64 only")
    body = """
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
getpid_by_int80 = b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3"
code.write(getpid_by_int80)
function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
assert function() == os.getpid()
report("done")
"""
    status, values, _ = world.run(body)
    if values != ["done"]:
        pytest.skip(f"this kernel has no 32-bit calls: {status}")
    assert world.run(ENTER + body)[:2] == (-signal.SIGSYS, [])


# ------------------------------------------------------------------------------------------------------------
# Limits, and the end of the parent


def test_a_file_larger_than_the_limit_cannot_be_written(world):
    body = """
def write(size):
    with open(w.scratch + "/big", "wb") as file:
        file.write(bytes(size))
report([outcome(write, size) for size in (1 << 20, (1 << 20) + 1)])
"""
    assert world.value("enter(file_limit=1 << 20)\n" + body) == ["done", "EFBIG"]
    assert world.value("enter(file_limit=1 << 21)\n" + body) == ["done", "done"]


@linux
def test_memory_above_the_limit_is_refused(world):
    body = """
import mmap
report(outcome(mmap.mmap, -1, 300 << 20, mmap.MAP_PRIVATE))
"""
    assert world.value("enter(memory_limit=200 << 20)\n" + body) == "ENOMEM"
    assert world.value("enter()\n" + body) == "done"


def test_limits_cannot_be_raised_again(world):
    body = """
limits = [resource.getrlimit(getattr(resource, "RLIMIT_" + n)) for n in ("CORE", "FSIZE", "NOFILE")]
report(limits)
"""
    core, size, files = world.value(ENTER + body)
    assert core == [0, 0] and size == [64 << 20] * 2
    assert files[0] == files[1] <= enter.OPEN_FILES


FAMILY = """
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", {worker!r}, *sys.argv[1:]], pass_fds={handles})
worker.wait()
"""
WORKER = """
import time
report(os.getpid())
time.sleep(60)
"""


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _outlives_its_parent(world: World, entering: str) -> bool:
    """Start a parent with a worker, kill the parent, look at the worker for up to a second."""
    receive, send = os.pipe()
    handles = (send, *world.inherited.values())
    script = FAMILY.format(worker=CHILD + entering + WORKER, handles=handles)
    parent = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps({**world.facts, "pipe": send})],
        env=scrubbed_environment(world.facts["scratch"]),
        pass_fds=handles,
    )
    os.close(send)
    with os.fdopen(receive) as lines:
        worker = int(lines.readline())
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 1
        while _alive(worker) and time.monotonic() < deadline:
            time.sleep(0.02)
    if alive := _alive(worker):
        os.kill(worker, signal.SIGKILL)
    return alive


@linux
def test_the_process_ends_when_its_parent_is_killed(world):
    assert _outlives_its_parent(world, "")
    assert not _outlives_its_parent(world, ENTER)


@linux
def test_a_process_whose_parent_is_gone_already_does_not_start(world):
    status, values, errors = world.run("sandbox.enter([], w.scratch, parent=os.getppid() + 1)\nreport('on')")
    assert status == 1 and values == [] and "is gone" in errors


# ------------------------------------------------------------------------------------------------------------
# Kernels and systems that have less. The seam stands for them; what is in force is real

SIMULATED = """
import dataclasses
real = kernel.system
def fake(name, *arguments):
    for prefix, code in {refused!r}.items():
        if name.startswith(prefix):
            raise OSError(code, os.strerror(code))
    return real(name, *arguments)
kernel.system = fake
box = enter()
report([box.level, box.landlock_abi > 0, box.seccomp, list(box.missing), outcome(open, "/etc/passwd"),
        outcome(socket.socket)])
"""


@confined
@pytest.mark.parametrize(
    ("refused", "level", "files", "network", "words"),
    [
        ({}, "full", "EACCES", "EPERM", []),
        ({"landlock": 38}, "partial", "done", "EPERM", ["Landlock", "5.13", "does not have it"]),
        ({"landlock": 95}, "partial", "done", "EPERM", ["Landlock", "left out when this kernel was started"]),
        ({"landlock_restrict": 1}, "partial", "done", "EPERM", ["Landlock", "containers"]),
        ({"seccomp": 38}, "partial", "EACCES", "done", ["seccomp", "does not have it"]),
        ({"landlock": 38, "seccomp": 1}, "none", "done", "done", ["Landlock", "seccomp", "network"]),
    ],
)
def test_what_a_kernel_lacks_is_said(world, refused, level, files, network, words):
    found, landlock, seccomp, missing, opened, connected = world.value(SIMULATED.format(refused=refused))
    assert (found, opened, connected) == (level, files, network)
    assert (landlock, seccomp) == (files == "EACCES", network == "EPERM")
    assert bool(missing) == bool(refused)
    for word in words:
        assert word in " | ".join(missing)


@confined
def test_a_lesser_loss_is_said_too(world):
    """And takes nothing from the level: the files and calls are confined all the same."""
    body = SIMULATED.format(refused={"capset": 1})
    level, _, _, missing, *_ = world.value(body)
    assert level == "full" and len(missing) == 1 and "capabilities" in missing[0]


@pytest.mark.parametrize("system", ["darwin", "freebsd14"])
def test_other_systems_have_none_and_do_not_crash(world, system):
    body = f"""
sys.platform = {system!r}
box = enter()
report([box.level, box.landlock_abi, box.seccomp, list(box.missing), outcome(open, "/etc/passwd")])
"""
    level, abi, seccomp, missing, opened = world.value(body)
    assert (level, abi, seccomp, opened) == ("none", 0, False, "done")
    assert len(missing) == 1 and system in missing[0]


@confined
def test_other_processors_keep_landlock(world):
    body = """
uname = os.uname
os.uname = lambda: os.uname_result(["Linux", "", "", "", "riscv64"])
box = enter()
report([box.level, box.seccomp, list(box.missing)])
"""
    level, seccomp, missing = world.value(body)
    assert level == "partial" and not seccomp and "riscv64" in missing[0]


@confined
def test_a_thread_that_runs_already_is_said(world):
    body = """
import threading
stop = threading.Event()
threading.Thread(target=stop.wait, daemon=True).start()
box = enter()
report([box.level, list(box.missing)])
stop.set()
"""
    level, missing = world.value(body)
    assert level == "partial" and "1 already ran" in missing[0]


@linux
@pytest.mark.parametrize("arguments", ["['/no/such/model'], w.scratch", "[w.model], '/no/such/scratch'"])
def test_a_path_that_is_not_there_is_an_error(world, arguments):
    body = f"""
try:
    sandbox.enter({arguments})
except FileNotFoundError as error:
    report(error.filename)
"""
    assert world.value(body).startswith("/no/such/")


# ------------------------------------------------------------------------------------------------------------
# Search paths do not open a user's folders


@confined
@pytest.mark.parametrize("entry", ["home", "above_home", "root", "current"])
def test_a_search_path_entry_with_a_users_files_stays_closed(world, entry):
    """`python -m` puts the current folder on the path; PYTHONPATH may name a home."""
    folder = {"home": world.folder / "home", "above_home": world.folder, "root": Path("/")}.get(
        entry, world.folder / "outside"
    )
    body = f"""
import pwd, collections
environment.pwd.getpwuid = lambda uid: collections.namedtuple("P", "pw_dir")(w.home)
sys.path.append({str(folder)!r})
if {entry == "current"}:
    os.chdir({str(folder)!r})
box = enter()
report([outcome(open, w.home + "/.ssh/id_ed25519"), outcome(open, w.outside + "/canary0")])
"""
    assert world.value(body) == ["EACCES", "EACCES"]


@confined
def test_a_search_path_entry_with_software_is_open(world):
    library = world.folder / "library"
    library.mkdir()
    (library / "vendored_module.py").write_text("value = 5")
    body = ENTER + "import vendored_module\nreport(vendored_module.value)"
    env = scrubbed_environment(world.facts["scratch"])
    env["PYTHONPATH"] = os.pathsep.join([str(library), env.get("PYTHONPATH", "")])
    assert world.value(body, env=env) == 5


@confined
def test_a_checkout_opens_only_the_package(world):
    """Beside the package lie the user's other files."""
    copy = world.folder / "checkout"
    for path in PACKAGE.rglob("*.py"):
        target = copy / path.relative_to(PACKAGE.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (copy / "notes").write_text("secret")
    env = scrubbed_environment(world.facts["scratch"], {"PYTHONPATH": str(copy)})
    body = f"""
assert sandbox.__file__.startswith({str(copy)!r})
report([outcome(open, {str(copy / "notes")!r}), outcome(open, sandbox.__file__)])
"""
    assert world.value(ENTER + body, env=env) == ["EACCES", "done"]


# ------------------------------------------------------------------------------------------------------------
# The environment


SECRETS = """
    AWS_SECRET_ACCESS_KEY GITHUB_TOKEN HF_TOKEN HTTPS_PROXY https_proxy TF_VAR_password TF_TOKEN_host
    TF_CLI_CONFIG_FILE NVIDIA_API_KEY SSH_AUTH_SOCK GOOGLE_APPLICATION_CREDENTIALS PYTHONSTARTUP PYTHONINSPECT
    KERAS_BACKEND PATH
"""


def test_environment_holds_no_secret(monkeypatch, tmp_path):
    for name in SECRETS.split():
        monkeypatch.setenv(name, "secret")
    found = scrubbed_environment(tmp_path)
    assert not set(SECRETS.split()) & set(found) and "secret" not in found.values()


def test_environment_holds_what_tensorflow_needs(monkeypatch, tmp_path):
    kept = {
        "LD_LIBRARY_PATH": "/opt/lib",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "1",
    }
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    found = scrubbed_environment(tmp_path, {"EXTRA": "1", "LANG": "C"})
    assert kept.items() <= found.items()
    assert found["HOME"] == found["TMPDIR"] == str(tmp_path)
    assert found["KERAS_HOME"] == str(tmp_path / ".keras")
    assert found["EXTRA"] == "1" and found["LANG"] == "C"


def test_environment_takes_no_module_from_the_current_folder(monkeypatch, tmp_path, world):
    """A stranger's folder may hold a `json.py`; it must not run, sandbox or not."""
    trap = world.folder / "stranger"
    trap.mkdir()
    (trap / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep + "relative")
    monkeypatch.chdir(tmp_path)
    env = scrubbed_environment(world.facts["scratch"])
    entries = env["PYTHONPATH"].split(os.pathsep)
    assert str(tmp_path / "relative") in entries and "" not in entries
    assert world.value("report('own json')", env=env) == "own json"
    if hasattr(sys.flags, "safe_path"):  # Python 3.11
        assert world.value("report('own json')", env=env, cwd=trap) == "own json"
    del env["PYTHONSAFEPATH"]
    assert world.run("", env=env, cwd=trap)[0] == 9


# ------------------------------------------------------------------------------------------------------------
# The filter as a program, for both processors, on whatever machine the tests run

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50026
PROCESS = 4321


def _answer(program, audit: int, number: int, *arguments: int) -> int:
    """Interpret classic BPF over struct seccomp_data (little endian), as the kernel would."""
    words = {0: number, 4: audit}
    for i in range(6):
        value = arguments[i] if i < len(arguments) else 0
        words[16 + 8 * i], words[20 + 8 * i] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
    accumulator, at = 0, 0
    while True:
        operation, jump_true, jump_false, k = program[at]
        at += 1
        if operation == 0x06:
            return k
        if operation == 0x20:
            accumulator = words[k]
        elif operation == 0x54:
            accumulator &= k
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x45: bool(accumulator & k)}[operation]
            at += jump_true if holds else jump_false


@pytest.fixture(params=["x86_64", "aarch64"])
def ask(request):
    """A function: number of a call, arguments -> the filter's answer."""
    machine = MACHINES[request.param]
    program = _program(machine, PROCESS)
    assert len(program) <= 4096  # BPF_MAXINSNS
    ask = lambda number, *arguments: _answer(program, machine.audit, number, *arguments)  # noqa: E731
    ask.machine, ask.program = machine, program
    ask.number = lambda name: {
        **_on(machine, _REFUSED),
        **_on(machine, _JUDGED),
        **_on(machine, _ABSENT),
    }[name]
    return ask


def test_filter_refuses_every_call_of_the_table(ask):
    for number in _on(ask.machine, _REFUSED).values():
        assert ask(number) == EPERM
    for number in _on(ask.machine, _ABSENT).values():
        assert ask(number) == ENOSYS


def test_filter_allows_what_is_not_named(ask):
    named = {n for t in (_REFUSED, _JUDGED, _ABSENT) for n in _on(ask.machine, t).values()}
    others = set(range(_LAST_KNOWN + 1)) - named
    assert len(others) > 200
    assert {ask(number) for number in others} == {ALLOW}
    unknown = [_LAST_KNOWN + 1, 600, 1 << 30, 1 << 30 | 41, 0xFFFFFFFF]
    assert {ask(number) for number in unknown} == {ENOSYS}


def test_filter_ends_a_foreign_calling_convention(ask):
    for foreign in (0x40000003, 0x40000028, 0):  # i386, arm
        assert _answer(ask.program, foreign, 0) == KILL


def test_filter_judges_arguments(ask):
    thread, process = 0x3D0F00, 0x1200011
    clone = ask.number("clone")
    assert (ask(clone, thread), ask(clone, process)) == (ALLOW, EPERM)
    for name in ("kill", "tgkill"):
        number = ask.number(name)
        assert ask(number, PROCESS, 6, 6) == ALLOW
        assert {ask(number, other) for other in (0, 1, PROCESS + 1, 2**32 - 1, 2**64 - PROCESS)} == {EPERM}
    limits = ask.number("prlimit64")
    assert [ask(limits, pid) for pid in (0, PROCESS, 1)] == [ALLOW, ALLOW, EPERM]
    ioctl = ask.number("ioctl")
    assert [ask(ioctl, 0, c) for c in (0x5401, 0x5412, 0x541C, 0xFFFFFFFF00005412)] == [
        ALLOW,
        EPERM,
        EPERM,
        EPERM,
    ]
    fcntl = ask.number("fcntl")
    assert [ask(fcntl, 0, c) for c in (1, 3, 8, 10, 15, 1030)] == [ALLOW, ALLOW, EPERM, EPERM, EPERM, ALLOW]
    assert [ask(ask.number("prctl"), o) for o in (15, 1)] == [ALLOW, EPERM]


def test_filter_lets_no_file_be_emptied_that_is_not_opened_for_writing(ask):
    read, write, both, neither, empty, other = 0, 1, 2, 3, 0o1000, 0o2000000
    opens = [(ask.number("openat"), (0, 0))]
    if ask.machine.column == 0:
        opens.append((ask.number("open"), (0,)))
    for number, before in opens:
        for flags in (read, write, both, write | empty, both | empty):
            assert ask(number, *before, flags | other) == ALLOW
        for flags in (read | empty, neither, neither | empty):
            assert ask(number, *before, flags | other) == EPERM


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_numbers_agree_with_the_kernels_headers(name):
    """The generic table is the one of aarch64; calls newer than the headers are left out."""
    places = {
        "x86_64": ["x86_64-linux-gnu/asm/unistd_64.h", "asm/unistd_64.h"],
        "aarch64": ["asm-generic/unistd.h"],
    }[name]
    header = next((p for p in (Path("/usr/include") / q for q in places) if p.is_file()), None)
    if header is None:
        pytest.skip("no kernel headers on this machine")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    known |= {"seccomp": known["seccomp"]}
    for table in (_REFUSED, _JUDGED, _ABSENT):
        for call, number in _on(MACHINES[name], table).items():
            assert int(known.get(call, number)) == number, call
            assert call in known or number > 440, call
        absent = set(table) - set(_on(MACHINES[name], table))
        assert not absent & set(known)
    assert MACHINES[name].seccomp == int(known["seccomp"])


# ------------------------------------------------------------------------------------------------------------
# TensorFlow inside. Two children: one free, which also makes the checkpoint, one boxed

TENSORFLOW = """
import numpy as np
import tensorflow as tf
prefix = w.model + "/checkpoint"
if not os.path.exists(prefix + ".index"):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype("float32")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["kernel"], shape_and_slices=[""], tensors=[kernel])
(kernel,) = tf.raw_ops.RestoreV2(
    prefix=prefix, tensor_names=["kernel"], shape_and_slices=[""], dtypes=["float32"]
)

@tf.function
def gradient(image):
    with tf.GradientTape() as tape:
        tape.watch(image)
        score = tf.reduce_sum(tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME")) ** 2)
    return tape.gradient(score, image)

def graph(operation):
    def traced():
        result = operation()
        return None if isinstance(result, tf.Operation) else result
    try:
        result = tf.function(traced)()
        return "done" if result is None or tf.size(result) else "nothing found"
    except tf.errors.OpError as error:
        return type(error).__name__

image = tf.constant(np.linspace(-1, 1, 2 * 16 * 16 * 3, dtype="float32").reshape(2, 16, 16, 3))
found = gradient(image).numpy()
report({
    "sum": float(np.abs(found).sum()), "first": found[0, :2, 0].tolist(),
    "write": graph(lambda: tf.io.write_file(w.outside + "/canary0", "x")),
    "write into the model": graph(lambda: tf.io.write_file(w.model + "/canary0", "x")),
    "read": graph(lambda: tf.io.read_file(w.home + "/.ssh/id_ed25519")),
    "list": graph(lambda: tf.io.matching_files(w.home + "/.ssh/*")),
    "scratch": graph(lambda: tf.io.write_file(w.scratch + "/file", "x")),
})
"""


@confined
def test_tensorflow_computes_inside_and_its_operations_are_confined(world):
    free = world.value(TENSORFLOW, timeout=120)
    assert {free[k] for k in ("write", "write into the model", "read", "list", "scratch")} == {"done"}
    world.before = world.snapshot()
    boxed = world.value("enter(memory_limit=2 << 30)\n" + TENSORFLOW, timeout=120)
    assert boxed["sum"] == pytest.approx(free["sum"], rel=1e-5) and boxed["sum"] > 1
    assert sum(boxed["first"], []) == pytest.approx(sum(free["first"], []), rel=1e-4, abs=1e-5)
    assert boxed["write"] == boxed["write into the model"] == boxed["read"] == "PermissionDeniedError"
    assert boxed["list"] in ("PermissionDeniedError", "nothing found")
    assert boxed["scratch"] == "done"
    assert world.snapshot() == world.before
