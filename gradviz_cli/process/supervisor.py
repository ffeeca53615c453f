"""Starts, watches and stops child processes that answer requests over a pipe. A child may hang or die; this side does not."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from gradviz_cli.process import bytecode, machine, shortage, wire
from gradviz_cli.process.protocol import Failure, NotUnderstood, from_wire, longest_header, to_wire

Answer = TypeVar("Answer")

_KEPT_STDERR = 64 * 1024
_LOOK_EVERY = 0.25  # seconds
_LONGEST_LOOK = 2 * _LOOK_EVERY  # who looked longer ago was stopped himself
_PIPE = 2**20  # bytes; what Linux lets everybody have
# A child that holds less than this is not why memory runs short.
_LARGE = 2**28


# Signals that a process brings on itself.
_OWN_FAULT = frozenset(
    {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP}
)


class ChildLost(Exception):
    """A child gave no answer.

    Attributes
    ----------
    kind : str
        For machines: crash, timeout or memory.
    message, remedy : str
        For people; what to do where it is known better than by the kind.
    killed : bool
        Somebody else ended it, such as the kernel: it may go well the next time.
    """

    def __init__(self, kind: str, message: str, remedy: str = "", killed: bool = False):
        super().__init__(message)
        self.kind, self.message, self.remedy, self.killed = kind, message, remedy, killed


Start = Callable[[], "subprocess.Popen[bytes]"]


def _at_once(start: Start) -> subprocess.Popen[bytes]:
    return start()


_starter: Callable[[Start], subprocess.Popen[bytes]] = _at_once


def keep_children() -> None:
    """From now on children are started by a thread of their own, which lives as long as this process; so they outlive the
    threads that ask for them. Harmless the second time."""
    global _starter
    if _starter is _at_once:
        pool = ThreadPoolExecutor(1, "children")
        _starter = lambda start: pool.submit(start).result()  # noqa: E731


def _forget_thread() -> None:
    """In a forked process, which has none of its parent's threads: who waits for one waits for ever."""
    global _starter
    _starter = _at_once


os.register_at_fork(after_in_child=_forget_thread)


class Patience:
    """What is left of the seconds that a child has. Those in which this process was stopped itself (Ctrl-Z, a container that is
    frozen) are not the child's: nobody has looked for its answer. To be asked every `_LOOK_EVERY` seconds."""

    def __init__(self, seconds: float):
        self._left, self._seen = seconds, time.monotonic()

    def left(self) -> float:
        now = time.monotonic()
        self._left -= min(now - self._seen, _LONGEST_LOOK)
        self._seen = now
        return self._left


class Child:
    """One child process running `python -m MODULE CONFIG`; it lives in its own session, away from the terminal's Ctrl-C.

    The thread that makes a child must outlive it, unless `keep_children` was called: on Linux the child asks the kernel to be
    killed together with it.

    Parameters
    ----------
    watch : callable, optional
        Asked several times a second as long as the child lives: why it must end at once, or None. Memory is looked at too.

    Raises
    ------
    ChildLost
        The system starts no further process.
    """

    def __init__(
        self,
        module: str,
        config: Mapping,
        environment: Mapping[str, str],
        folder: str,
        watch: Callable[[], str | None] | None = None,
    ):
        bytecode.keep(module)
        pipes: list[int] = []
        try:
            for _ in range(2):
                pipes.extend(os.pipe())
            here_read, there_write, there_read, here_write = pipes
            argument = json.dumps({**config, "in": there_read, "out": there_write, "parent": os.getpid()})
            self._process = _starter(
                lambda: subprocess.Popen(
                    [sys.executable, "-m", module, argument],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=(there_read, there_write),
                    env=dict(environment),
                    cwd=folder,
                    start_new_session=True,
                )
            )
        except (OSError, MemoryError) as error:
            for fd in pipes:
                os.close(fd)
            raise _not_started(error) from error
        os.close(there_read)
        os.close(there_write)
        self._in, self._out, self._watch = here_read, here_write, watch
        for fd in (here_read, here_write):
            _widen(fd)
        os.set_blocking(here_write, False)  # a child that does not listen must not stop us either
        self._asking = threading.Lock()
        self._said = bytearray()
        self._ended_for: ChildLost | None = None
        self._watcher = threading.Thread(target=self._look_after, daemon=True)
        try:
            self._watcher.start()
        except (RuntimeError, MemoryError) as error:
            self._give_up()
            raise _not_started(error) from error

    @property
    def stderr(self) -> str:
        """The last that the child said on its standard error."""
        return bytes(self._said).decode("utf-8", "replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it may be asked: it is alive, and has said nothing that nobody asked for."""
        with self._asking:
            if self._in < 0 or not self.alive:
                return False
            poll = select.poll()
            poll.register(self._in, select.POLLIN)
            return not poll.poll(0)

    def request(
        self,
        request: Any,
        kind: type[Answer],
        arrays: tuple[np.ndarray, ...] = (),
        timeout: float | None = None,
        most: int = 0,
    ) -> tuple[Answer | Failure, tuple[np.ndarray, ...]]:
        """Ask and wait for the answer: a `kind` or a Failure, beside it arrays of at most `most` bytes.

        Its texts are printable (`wire.plain`), and it is checked in every part (`protocol.from_wire`).

        Raises
        ------
        ChildLost
            The child died, sent nonsense, or did not answer within `timeout` seconds; it is dead afterwards. So it is when
            Ctrl-C comes in between: what it would still say must not be taken for the answer to the next request.
        """
        patience = None if timeout is None else Patience(timeout)
        try:
            with self._asking:
                wire.send(self._out, to_wire(request), arrays, lambda: self._wait(self._out, select.POLLOUT, patience))
                answer, found = wire.receive(lambda buffer: self._fill(buffer, patience), most, longest_header(kind))
            return from_wire(wire.plain(answer), kind, Failure), found
        except TimeoutError:
            self.kill()
            raise ChildLost("timeout", f"the worker gave no answer within {timeout:g} s") from None
        except (wire.Garbled, MemoryError, RecursionError, NotUnderstood) as error:
            raise self.nonsense(str(error)) from error
        except (wire.Closed, ValueError) as error:
            raise self._lost() from error
        except BaseException:
            self.kill()
            raise

    def nonsense(self, what: str) -> ChildLost:
        """End a child whose answer cannot be what it was asked for; returns what to raise."""
        self.kill()
        return ChildLost("crash", f"the worker answered nonsense ({what})")

    def kill(self) -> None:
        """End the child at once and wait for it; harmless when it is gone already."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._watcher.join(1)

    def close(self) -> None:
        """Kill the child and give back its pipes. A request under way in another thread ends with ChildLost."""
        self.kill()
        with self._asking:  # its pipe is at its end, so this is soon
            for fd in (self._in, self._out):
                with suppress(OSError):
                    os.close(fd)
            self._in = self._out = -1

    def _fill(self, buffer: memoryview, patience: Patience | None) -> None:
        while buffer:
            self._wait(self._in, select.POLLIN, patience)
            count = os.readv(self._in, [buffer])
            if count == 0:
                raise wire.Closed("end of file")
            buffer = buffer[count:]

    def _wait(self, fd: int, event: int, patience: Patience | None) -> None:
        """Until a pipe is ready; TimeoutError when patience is at its end, also where it is ready again and again."""
        poll = select.poll()
        poll.register(fd, event)
        if patience is None:
            poll.poll()
            return
        while (left := patience.left()) > 0:
            if poll.poll(min(left, _LOOK_EVERY) * 1000 + 1):
                return
        raise TimeoutError

    def _lost(self) -> ChildLost:
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._ended_for or ChildLost("crash", "the worker closed its pipe and went on")
        self._watcher.join(1)
        if self._ended_for:
            return self._ended_for
        if code in (-signal.SIGKILL, -signal.SIGXCPU) and (spent := shortage.spent_time()):
            return ChildLost("crash", f"the worker was ended, as {spent}", "raise ulimit -t", killed=True)
        if code == -signal.SIGKILL:
            return ChildLost("memory", "the worker was killed, most likely because memory ran out", killed=True)
        short = shortage.named_in(self.stderr) if code else None
        if short:
            kind = "memory" if short is shortage.MEMORY else "crash"
            return ChildLost(kind, f"the worker ended because {short.what}", short.remedy)
        if code < 0:
            killed = -code not in _OWN_FAULT
            return ChildLost("crash", f"the worker crashed ({_signal_name(-code)})", killed=killed)
        return ChildLost("crash", f"the worker ended with code {code}")

    def _look_after(self) -> None:
        """Keep what it says on its standard error, and look at what it takes, until it is gone: nobody needs to wait for an
        answer, and an answer that trickles in stops nothing."""
        stream = self._process.stderr
        assert stream is not None  # it was asked for
        poll, open_, due = select.poll(), True, time.monotonic() + _LOOK_EVERY
        poll.register(stream.fileno(), select.POLLIN)
        while open_ or self.alive:
            left = max(0.0, due - time.monotonic())
            if open_ and poll.poll(left * 1000):
                open_ = self._heard(stream.fileno())
            elif not open_:
                self._gone_within(left)
            if time.monotonic() >= due:
                due = time.monotonic() + _LOOK_EVERY
                self._check()
        stream.close()

    def _heard(self, stream: int) -> bool:
        """Whether there is more to come."""
        chunk = os.read(stream, 8192)
        self._said += chunk
        del self._said[:-_KEPT_STDERR]
        return bool(chunk)

    def _gone_within(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def _check(self) -> None:
        """End the child where it takes too much."""
        reason = self._watch and self._watch()
        lost = ChildLost("crash", reason) if reason else self._too_large()
        if lost and self.alive:
            self._ended_for = lost
            self._process.kill()

    def _too_large(self) -> ChildLost | None:
        """Why it must end before the machine swaps, or the kernel ends whom it likes."""
        if machine.resident(self.pid) < _LARGE or not machine.is_short():
            return None
        return ChildLost(
            "memory",
            "the worker was stopped, as next to no memory was free",
            "free memory, or take a machine with more",
        )

    def _give_up(self) -> None:
        """A process that cannot be looked after."""
        self._process.kill()
        self._process.wait()
        for fd in (self._in, self._out):
            os.close(fd)
        if self._process.stderr:
            self._process.stderr.close()


def _not_started(error: Exception) -> ChildLost:
    short = shortage.behind(error)
    why = getattr(error, "strerror", None) or str(error) or "memory ran out"
    return ChildLost("crash", f"no process can be started: {why}", short.remedy if short else "")


def _widen(pipe: int) -> None:
    """A batch of images goes through in a few turns rather than in a hundred."""
    with suppress(OSError, AttributeError):  # no Linux, or more than this user may have
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


def _signal_name(number: int) -> str:
    with suppress(ValueError):  # real-time signals have no names of their own
        return signal.Signals(number).name
    return f"signal {number}"
