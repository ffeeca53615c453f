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
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from gradviz_cli.process import wire
from gradviz_cli.process.protocol import Failure, NotUnderstood, from_wire, to_wire

Answer = TypeVar("Answer")

_KEPT_STDERR = 64 * 1024
_LOOK_EVERY = 1.0  # seconds
_PIPE = 2**20  # bytes; what Linux lets everybody have
# What the C++ library, the loader and Python say when an allocation fails where nobody expects it to.
_OUT_OF_MEMORY = ("std::bad_alloc", "Cannot allocate memory", "MemoryError", "OOM when allocating")


class ChildLost(Exception):
    """A child gave no answer. `kind` is for machines: crash, timeout or memory; the message for people."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind
        self.message = message


class Child:
    """One child process running `python -m MODULE CONFIG`; it lives in its own session, away from the terminal's Ctrl-C.

    The thread that makes a child must outlive it: on Linux the child asks the kernel to be killed together with it.

    Parameters
    ----------
    watch : callable, optional
        Asked about once a second while an answer is awaited: why the child must end at once, or None.

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
        pipes: list[int] = []
        try:
            for _ in range(2):
                pipes.extend(os.pipe())
            here_read, there_write, there_read, here_write = pipes
            argument = json.dumps({**config, "in": there_read, "out": there_write, "parent": os.getpid()})
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, argument],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(there_read, there_write),
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            for fd in pipes:
                os.close(fd)
            raise ChildLost("crash", f"no process can be started: {error.strerror}") from error
        os.close(there_read)
        os.close(there_write)
        self._in, self._out, self._watch = here_read, here_write, watch
        for fd in (here_read, here_write):
            _widen(fd)
        os.set_blocking(here_write, False)  # a child that does not listen must not stop us either
        self._asking = threading.Lock()
        self._said = bytearray()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

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
            The child died, sent nonsense, or did not answer within `timeout` seconds; it is dead afterwards.
        """
        end = None if timeout is None else time.monotonic() + timeout
        try:
            with self._asking:
                wire.send(self._out, to_wire(request), arrays, lambda: self._wait(self._out, select.POLLOUT, end))
                answer, found = wire.receive(lambda buffer: self._fill(buffer, end), most)
            return from_wire(wire.plain(answer), kind, Failure), found
        except TimeoutError:
            self.kill()
            raise ChildLost("timeout", f"the worker gave no answer within {timeout:g} s") from None
        except (wire.Garbled, MemoryError, RecursionError, NotUnderstood) as error:
            raise self.nonsense(str(error)) from error
        except (wire.Closed, ValueError) as error:
            raise self._lost() from error

    def nonsense(self, what: str) -> ChildLost:
        """End a child whose answer cannot be what it was asked for; returns what to raise."""
        self.kill()
        return ChildLost("crash", f"the worker answered nonsense ({what})")

    def kill(self) -> None:
        """End the child at once and wait for it; harmless when it is gone already."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._listener.join(1)

    def close(self) -> None:
        """Kill the child and give back its pipes. A request under way in another thread ends with ChildLost."""
        self.kill()
        with self._asking:  # its pipe is at its end, so this is soon
            for fd in (self._in, self._out):
                with suppress(OSError):
                    os.close(fd)
            self._in = self._out = -1

    def _fill(self, buffer: memoryview, end: float | None) -> None:
        while buffer:
            self._wait(self._in, select.POLLIN, end)
            count = os.readv(self._in, [buffer])
            if count == 0:
                raise wire.Closed("end of file")
            buffer = buffer[count:]

    def _wait(self, fd: int, event: int, end: float | None) -> None:
        """Until a pipe is ready; TimeoutError at the monotonic time `end`."""
        poll = select.poll()
        poll.register(fd, event)
        while True:
            left = _LOOK_EVERY if end is None else min(_LOOK_EVERY, end - time.monotonic())
            if poll.poll(max(0.0, left) * 1000):
                return
            if left < _LOOK_EVERY:
                raise TimeoutError
            reason = self._watch and self._watch()
            if reason:
                self.kill()
                raise ChildLost("crash", reason)

    def _lost(self) -> ChildLost:
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            self.kill()
            return ChildLost("crash", "the worker closed its pipe and went on")
        self._listener.join(1)
        if code == -signal.SIGKILL:
            return ChildLost("memory", "the worker was killed, most likely because memory ran out")
        if code < 0 and any(sign in self.stderr for sign in _OUT_OF_MEMORY):
            return ChildLost("memory", "the worker ended because memory ran out")
        if code < 0:
            return ChildLost("crash", f"the worker crashed ({_signal_name(-code)})")
        return ChildLost("crash", f"the worker ended with code {code}")

    def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None  # it was asked for
        while chunk := os.read(stream.fileno(), 8192):
            self._said += chunk
            del self._said[:-_KEPT_STDERR]
        stream.close()


def _widen(pipe: int) -> None:
    """A batch of images goes through in a few turns rather than in a hundred."""
    with suppress(OSError, AttributeError):  # no Linux, or more than this user may have
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


def _signal_name(number: int) -> str:
    with suppress(ValueError):  # real-time signals have no names of their own
        return signal.Signals(number).name
    return f"signal {number}"
