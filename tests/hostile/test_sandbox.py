"""The worker's sandbox holds: every attack is refused in it, and succeeds without it.

Everything runs in fresh child processes, because what `enter` gives up is gone for good. About 20 s in all,
half of it two imports of TensorFlow.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attacks import PERHAPS, REFUSALS
from hostile.confinement import CHILD, ENTER, World, confined, linux

from gradviz_cli.process.sandbox import enter
from gradviz_cli.process.sandbox.environment import PACKAGE, scrubbed_environment

ENTER_AS_OLD_KERNEL = """
real = kernel.system
def old(name, *arguments):
    asks_version = name == "landlock_create_ruleset" and arguments[0] is None
    return min(1, real(name, *arguments)) if asks_version else real(name, *arguments)
kernel.system = old
box = enter()
assert box.landlock_abi == 1, box
"""


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


@pytest.fixture(scope="module")
def boxed_for_gpu(make_world):
    world = make_world()
    return world, world.attacked("box = enter(gpu=True)\n")


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
def test_attacks_are_refused_where_a_gpu_may_be_used(boxed_for_gpu):
    """But for memory that its driver shares. What connects is told that nobody is there."""
    _, outcomes = boxed_for_gpu
    left = {name: what for name, what in outcomes.items() if what not in REFUSALS}
    nobody = {"connect an inherited socket", "connect to a service of packets"}
    assert left == {"shared memory without a name": "done", **dict.fromkeys(nobody, "ENOENT")}


@confined
def test_the_driver_of_a_gpu_finds_what_it_needs(world):
    """What CUDA's does before it says that there is a GPU."""
    body = """
def drive():
    threading.Thread(target=name).start()
    service = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        service.connect(chr(0) + w.unique)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(chr(0) + w.unique + "-driver")
    listener.listen()
    mmap.mmap(-1, 4096, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    report(outcome(listener.accept))

def name():
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as file:
        file.write("cuda")
    report(open("/proc/thread-self/comm").read().strip())

import threading
drive()
"""
    status, values, errors = world.run("box = enter(gpu=True)\n" + body)
    assert (status, sorted(values)) == (0, ["EPERM", "cuda"]), errors
    status, values, _ = world.run("box = enter()\n" + body)
    assert status != 0 and values == []


@confined
def test_canaries_are_untouched(boxed, boxed_by_old_kernel, boxed_for_gpu, free):
    for world, _ in (boxed, boxed_by_old_kernel, boxed_for_gpu):
        assert world.snapshot() == world.before
    world, _ = free
    assert world.snapshot() != world.before


@confined
def test_executing_in_place_is_refused(world):
    """execve without fork: it would shed nothing, but run any program with what is left."""
    body = "report(outcome(os.execv, '/bin/sh', ['sh', '-c', 'exit 7']))"
    assert world.run(body)[0] == 7
    assert world.value(ENTER + body) in REFUSALS


# ---- what must go on working


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
code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 7)  # read, write, execute
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


# ---- limits, and the end of the parent


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


# ---- kernels and systems that have less: the seam stands for them; what is in force is real

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


# ---- search paths do not open a user's folders


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


# ---- TensorFlow inside: two children, one free, which also makes the checkpoint, one boxed

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
