"""A child that answers, lies, hangs or dies, and what its supervisor makes of it. The children are a few lines of Python."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gradviz_cli.process import machine, supervisor
from gradviz_cli.process.protocol import Decode, Decoded, Failure
from gradviz_cli.process.supervisor import Child, ChildLost

ROOT = Path(__file__).parents[3]
ASKED = Decode(100, 100, 8, 9, 3, "stretch")
# Reads one request and does what its behaviour says; NumPy, which the wire needs, takes a while to import.
HEAD = """
import json, os, signal, struct, sys, time
config = json.loads(sys.argv[1])
def take(count):
    data = b""
    while len(data) < count:
        part = os.read(config["in"], count - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data
def request():
    header = json.loads(take(struct.unpack("<Q", take(8))[0]))
    sizes = {"uint8": 1, "float32": 4, "int32": 4}
    for array in header["arrays"]:
        size = sizes[array["dtype"]]
        for length in array["shape"]:
            size *= length
        take(size)
    return header
def say(header, *arrays):
    shapes = [{"dtype": "uint8", "shape": [len(array)]} for array in arrays]
    head = json.dumps({**header, "arrays": shapes}).encode()
    os.write(config["out"], struct.pack("<Q", len(head)) + head + b"".join(arrays))
def decoded(height, width):
    return {"type": "Decoded", "height": height, "width": width, "held": "picture", "notes": ()}
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """A function: Python lines -> the child that runs them."""
    made: list[Child] = []

    def start(lines: str, config: dict | None = None, **more) -> Child:
        (tmp_path / "behaving.py").write_text(HEAD + lines)
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        made.append(Child("behaving", config or {}, environment, str(tmp_path), **more))
        return made[-1]

    yield start
    for one in made:
        one.close()


def lost(child: Child, timeout: float | None = 20.0, **more) -> ChildLost:
    with pytest.raises(ChildLost) as caught:
        child.request(ASKED, Decoded, timeout=timeout, **more)
    assert not child.alive
    return caught.value


def test_answers_come_back_one_by_one(child) -> None:
    one = child("while True:\n    asked = request()\n    say(decoded(asked['height'], asked['width']), b'abc')")
    for _ in range(3):
        answer, (array,) = one.request(ASKED, Decoded, most=3)
        assert answer == Decoded(8, 9) and array.tobytes() == b"abc"
    assert one.alive and one.pid != os.getpid()


def test_an_answer_that_ctrl_c_cut_short_is_not_taken_for_the_next(child, no_hang) -> None:
    """It is still on its way when the next request is sent."""
    one = child("for seconds in (2, 0):\n    request()\n    time.sleep(seconds)\n    say(decoded(1, 1))")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        one.request(ASKED, Decoded)
    assert not one.alive and not one.ready


def test_a_failure_is_an_answer(child) -> None:
    one = child(
        "request()\nsay({'type': 'Failure', 'kind': 'damaged', 'message': 'a\\x1b', 'remedy': '', 'traceback': []})"
    )
    answer, arrays = one.request(ASKED, Decoded)
    assert answer == Failure("damaged", "a\\x1b") and arrays == ()  # and it is printable


def test_what_a_child_is_told(child, tmp_path: Path) -> None:
    """Its pipes, its parent and its configuration; a session and a folder of its own, no stdin."""
    one = child(
        "asked = request()\n"
        "right = [config['parent'] == os.getppid(), config['mine'] == [1], os.getsid(0) == os.getpid(),"
        " os.read(0, 1) == b'', os.getcwd() == config['folder']]\n"
        "say(decoded(sum(right), len(right)))",
        {"mine": [1], "folder": os.path.realpath(tmp_path)},
    )
    assert one.request(ASKED, Decoded)[0] == Decoded(5, 5)


@pytest.mark.parametrize(
    ("lines", "kind", "words"),
    [
        ("request()", "crash", "ended with code 0"),
        ("request(); sys.exit(7)", "crash", "ended with code 7"),
        ("sys.exit(3)", "crash", "ended with code 3"),
        ("request(); os.kill(os.getpid(), signal.SIGKILL)", "memory", "memory ran out"),
        ("request(); os.abort()", "crash", "SIGABRT"),
        ("request(); os.write(2, b'std::bad_alloc'); os.abort()", "memory", "memory ran out"),
        ("request(); os.kill(os.getpid(), 40)", "crash", "signal 40"),
        ("request(); os.write(config['out'], b'x' * 100)", "crash", "nonsense"),
        ("request(); say({'type': 'Explained'})", "crash", "nonsense"),
        ("request(); say({'type': 'Decoded', 'height': 1})", "crash", "nonsense"),
        ("request(); say(decoded('1', 1))", "crash", "nonsense"),
        ("request(); say(decoded(1, 1), b'more than was asked for')", "crash", "nonsense"),
        ("request(); os.write(config['out'], b'\\x10'); sys.exit(5)", "crash", "ended with code 5"),
    ],
)
def test_how_a_child_is_lost(child, lines: str, kind: str, words: str) -> None:
    found = lost(child(lines))
    assert found.kind == kind and words in found.message


def test_a_child_that_hangs_is_ended(child) -> None:
    one = child("request()\ntime.sleep(99)")
    found = lost(one, timeout=0.3)
    assert (found.kind, found.message) == ("timeout", "the worker gave no answer within 0.3 s")


def test_a_child_that_does_not_listen_is_ended(child) -> None:
    """The request is larger than the pipe: writing would block for ever."""
    found = lost(child("time.sleep(99)"), timeout=0.3, arrays=(np.zeros(2**22, np.uint8),))
    assert found.kind == "timeout"


TRICKLES = """
request()
os.write(config["out"], struct.pack("<Q", 1 << 20))
while True:
    os.write(config["out"], b" ")
    time.sleep({pause})
"""


def test_a_child_that_trickles_its_answer_is_ended_in_time(child) -> None:
    """There always is something to read."""
    start = time.monotonic()
    found = lost(child(TRICKLES.format(pause=0)), timeout=0.5)
    assert found.kind == "timeout" and time.monotonic() - start < 10


def test_while_we_are_stopped_no_time_is_a_childs(child, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by Ctrl-Z: on waking its answer is there, or it needs the rest of its time."""
    slow = child("asked = request()\ntime.sleep(1)\nsay(decoded(asked['height'], asked['width']))\ntake(1)")
    clock, gone = time.monotonic, [0.0]
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: clock() + gone[0])
    threading.Timer(0.5, lambda: gone.__setitem__(0, 3600.0)).start()
    assert slow.request(ASKED, Decoded, timeout=10)[0] == Decoded(8, 9)


def test_a_child_that_is_stopped_is_ended_in_time(child) -> None:
    one = child("request()\nos.kill(os.getpid(), signal.SIGSTOP)")
    assert lost(one, timeout=0.5).kind == "timeout"


@pytest.mark.parametrize(
    "lines", ["request()\ntime.sleep(99)", TRICKLES.format(pause=0.01)], ids=["silent", "trickles"]
)
def test_who_watches_may_end_it(child, lines: str) -> None:
    """Asked while the answer is awaited, however long that may take, and while it comes in."""
    found = lost(child(lines, watch=lambda: "the disk is full"), timeout=None)
    assert (found.kind, found.message) == ("crash", "the disk is full")


def test_one_that_nobody_asks_is_watched_as_well(child) -> None:
    """It may have closed its standard error."""
    one = child("os.close(2)\ntime.sleep(99)", watch=lambda: "the disk is full")
    one._process.wait(20)
    assert lost(one).message == "the disk is full"


def test_a_large_one_is_ended_where_memory_is_short(child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "is_short", lambda: True)
    small = child("request()\ntime.sleep(0.6)\nsay(decoded(1, 1))")
    assert small.request(ASKED, Decoded)[0] == Decoded(1, 1)
    found = lost(child("request()\nkept = b'x' * (1 << 29)\ntime.sleep(99)"), timeout=None)
    assert found.kind == "memory" and "stopped" in found.message and not found.killed


@pytest.mark.parametrize(
    ("lines", "killed"),
    [("SIGKILL", True), ("SIGTERM", True), ("SIGABRT", False), ("SIGSEGV", False), ("SIGSYS", False)],
)
def test_who_was_killed_by_somebody_else_may_be_tried_again(child, lines: str, killed: bool) -> None:
    assert lost(child(f"request(); os.kill(os.getpid(), signal.{lines})")).killed == killed


@pytest.mark.parametrize("number", ["SIGKILL", "SIGXCPU"])
def test_a_limit_of_processor_time_is_no_lack_of_memory(child, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    killed = f"request(); os.kill(os.getpid(), signal.{number})"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    for most, is_spent in ((resource.RLIM_INFINITY, False), (10**6, False), (int(used.ru_utime), True)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, most=most: (most, most))
        found = lost(child(killed))
        assert ("ulimit -t" in found.remedy) == is_spent == ("processor time" in found.message) and found.killed


@pytest.mark.parametrize(
    ("said", "kind", "remedy"),
    [
        ("RuntimeError: can't start new thread", "crash", "ulimit -u"),
        ("OSError: [Errno 24] Too many open files", "crash", "ulimit -n"),
        ("libstdc++.so.6: failed to map segment from shared object", "memory", "ulimit -v"),
    ],
)
def test_a_limit_of_the_system_is_named(child, said: str, kind: str, remedy: str) -> None:
    found = lost(child(f"request(); os.write(2, {said!r}.encode()); sys.exit(1)"))
    assert found.kind == kind and remedy in found.remedy


def test_its_last_words_are_kept(child) -> None:
    one = child("request()\nos.write(2, b'a' * 100_000 + b'the end \\xff')\nsys.exit(1)")
    lost(one)
    assert one.stderr.endswith("the end \ufffd") and len(one.stderr) <= 64 * 1024


def test_a_request_to_one_that_is_gone(child) -> None:
    one = child("sys.exit(0)")
    one.kill()
    one.kill()  # harmless
    assert not one.alive
    lost(one)


def test_closing_ends_a_request_in_another_thread(child) -> None:
    one, found = child("request()\ntime.sleep(99)"), []

    def ask() -> None:
        try:
            one.request(ASKED, Decoded)
        except ChildLost as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not one._asking.locked():
        pass
    one.close()
    thread.join(20)
    assert len(found) == 1 and not one.alive


def test_where_no_process_can_be_started(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ChildLost, match="no process can be started: No such file"):
        Child("behaving", {}, {}, str(tmp_path / "nowhere"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_nobody_can_look_after_it(child, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(ChildLost, match="can't start new thread") as caught:
        child("time.sleep(99)")
    assert "ulimit -u" in caught.value.remedy and len(os.listdir("/proc/self/fd")) == before


def test_no_descriptor_is_left(child) -> None:
    before = len(os.listdir("/proc/self/fd"))
    one = child("request()\nsay(decoded(1, 1))")
    one.request(ASKED, Decoded)
    one.close()
    one.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_signal_to_us_is_none_to_the_child(child) -> None:
    """Ctrl-C reaches the process group of the terminal; the child is in another."""
    one = child("request()\nsay(decoded(1, 1))\ntime.sleep(99)")
    one.request(ASKED, Decoded)
    assert os.getpgid(one.pid) == one.pid != os.getpgid(0)
    os.kill(one.pid, signal.SIGKILL)


def test_one_that_speaks_without_being_asked_is_not_asked_again(child) -> None:
    """What it said would pass for the answer about the next image."""
    honest = child("request()\nsay(decoded(1, 1))\ntime.sleep(99)")
    assert honest.request(ASKED, Decoded) and honest.ready
    liar = child("request()\nsay(decoded(1, 1))\nsay(decoded(2, 2))\ntime.sleep(99)")
    liar.request(ASKED, Decoded)
    end = time.monotonic() + 20
    while liar.ready and time.monotonic() < end:
        time.sleep(0.01)
    assert liar.alive and not liar.ready
    liar.close()
    assert not liar.ready


def test_children_outlive_the_thread_that_asks_for_them(monkeypatch) -> None:
    """As the kernel ends them together with the thread that starts them."""
    started: list[str] = []

    def start(*given, **named) -> None:
        started.append(threading.current_thread().name)
        raise OSError(11, "no more")

    monkeypatch.setattr(supervisor.subprocess, "Popen", start)
    monkeypatch.setattr(supervisor, "_starter", supervisor._starter)
    supervisor.keep_children()
    for _ in range(2):
        asking = threading.Thread(target=lambda: pytest.raises(ChildLost, Child, "m", {}, {}, "/"), name="asking")
        asking.start()
        asking.join()
        supervisor.keep_children()
    assert len(set(started)) == 1 and started[0].startswith("children") and len(started) == 2


def test_a_forked_process_starts_children_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(supervisor.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError("started")))
    monkeypatch.setattr(supervisor, "_starter", supervisor._starter)
    supervisor.keep_children()
    with pytest.raises(ChildLost, match="started"):  # so that the thread is there, which a fork leaves behind
        Child("m", {}, {}, "/")
    if (forked := os.fork()) == 0:
        signal.setitimer(signal.ITIMER_REAL, 5)  # ends it where it waits
        supervisor.keep_children()
        try:
            Child("m", {}, {}, "/")
        except ChildLost:
            os._exit(0)
    assert os.waitpid(forked, 0)[1] == 0
