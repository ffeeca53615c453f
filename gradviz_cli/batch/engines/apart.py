"""A crew in a process of its own: what an engine's library says, and how it ends, is then no matter of the command.

Ray prints, takes the signals of its process, and ends it when the node dies that it is connected to. So it lives behind a
pipe, in lines of JSON:

    command   {"call": 7, "do": "explain", "node": 2, "text": ...}    {"do": "dismiss", "node": 2}    {"do": "close"}
    crew      {"call": 7, "text": ...}    {"call": 7, "lost": why, "gone": true}    {"room": 3}    {"failed": why}

When the command is killed the pipe is at its end, and so is the crew.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import IO, Any

from gradviz_cli.batch.engines.driver import Crew, Lost
from gradviz_cli.errors import UsageError
from gradviz_cli.files import scratch
from gradviz_cli.files.text import plain, shortened
from gradviz_cli.process.sandbox.environment import PACKAGE, installed

LONGEST_START = 120.0  # seconds
TIDY = 15.0  # seconds that a crew has to end in order
_SAID = 1 << 16  # bytes of what it said on its standard error that are looked at

Send = Callable[[dict[str, Any]], None]


class Apart:
    """The command's side: a `driver.Crew` that is served by `python -m MODULE CONFIG`.

    Parameters
    ----------
    folder : Scratch
        Where it works; removed at the end.
    named : str
        What is said to have failed when it ends by itself.
    """

    def __init__(
        self,
        module: str,
        config: Mapping[str, Any],
        environment: Mapping[str, str],
        folder: scratch.Scratch,
        named: str,
    ):
        self.room = 1
        self._folder, self._named = folder, named
        self._calls: dict[int, Future[str]] = {}
        self._guard = threading.Lock()
        self._number = 0
        self._ended: Exception | None = None
        self._stderr = scratch.unnamed_file()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=_environment(environment),
            cwd=folder.path,
            start_new_session=True,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def hire(self, node: int, spec: str) -> Future[str]:
        return self._call(do="hire", node=node, text=spec)

    def explain(self, node: int, chunk: str) -> Future[str]:
        return self._call(do="explain", node=node, text=chunk)

    def dismiss(self, node: int) -> None:
        self._send(do="dismiss", node=node)

    def close(self, patience: float | None = None) -> None:
        self._send(do="close")
        with suppress(OSError):
            self._stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(TIDY if patience is None else patience)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join(1)
        for stream in (self._process.stdout, self._stderr):
            if stream is not None:
                stream.close()
        self._folder.close()

    @property
    def _stdin(self) -> IO[str]:
        assert self._process.stdin is not None  # it was asked for
        return self._process.stdin

    def _call(self, **asked: Any) -> Future[str]:
        future: Future[str] = Future()
        with self._guard:
            if self._ended is not None:
                future.set_exception(self._ended)
                return future
            self._number += 1
            self._calls[self._number] = future
        self._send(call=self._number, **asked)
        return future

    def _send(self, **message: Any) -> None:
        with suppress(OSError, ValueError):  # it has ended, which the listener knows
            self._stdin.write(json.dumps(message) + "\n")
            self._stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):
                self._hear(json.loads(line))
        self._end(Lost(f"{self._named} ended by itself: {self._last_line()}"))

    def _hear(self, said: dict[str, Any]) -> None:
        if "room" in said:
            self.room = said["room"]
        elif "failed" in said:
            self._end(UsageError(f"{self._named}: {shortened(plain(said['failed']))}", said["remedy"]))
        else:
            with self._guard:
                future = self._calls.pop(said["call"])
            if "lost" in said:
                future.set_exception(Lost(shortened(plain(said["lost"])), said["gone"]))
            else:
                future.set_result(said["text"])

    def _end(self, why: Exception) -> None:
        with self._guard:
            self._ended = self._ended or why
            calls, self._calls, self.room = self._calls, {}, 0
        for future in calls.values():
            future.set_exception(self._ended)

    def _last_line(self) -> str:
        size = os.fstat(self._stderr.fileno()).st_size
        said = os.pread(self._stderr.fileno(), _SAID, max(0, size - _SAID)).decode(errors="replace")
        return shortened(plain(next((line for line in reversed(said.splitlines()) if line.strip()), "it said nothing")))


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """That of the command; no module comes from the folder that it works in."""
    search = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if not installed(PACKAGE.parent):
        search.append(str(PACKAGE.parent))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search), "PYTHONSAFEPATH": "1", **more}


def serve(start: Callable[[dict[str, Any]], Crew], explained: Callable[[Exception], tuple[str, str]]) -> None:
    """The crew's side, the whole of its process.

    Parameters
    ----------
    start : callable
        Gives the crew; takes as long as it takes.
    explained : callable
        Why it could not, and what to do.
    """
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what a library prints is no message
        guard = threading.Lock()

        def send(message: dict[str, Any]) -> None:
            with guard, suppress(OSError, ValueError):  # nobody listens any more
                out.write(json.dumps(message) + "\n")
                out.flush()

        def fail(error: Exception) -> None:
            why, remedy = explained(error)
            send({"failed": why, "remedy": remedy})
            os._exit(1)

        late = threading.Timer(LONGEST_START, fail, (ConnectionError(f"no answer within {LONGEST_START:.0f} s"),))
        late.start()
        try:
            crew = start(json.loads(sys.argv[1]))
        except Exception as error:
            fail(error)
        late.cancel()
        over = threading.Event()
        threading.Thread(target=_tell_room, args=(crew, send, over), daemon=True).start()
        try:
            _serve(crew, send)
        finally:
            over.set()
            threading.Timer(TIDY, os._exit, (1,)).start()
            crew.close()
            os._exit(0)


def _serve(crew: Crew, send: Send) -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "close":
            return
        if asked["do"] == "dismiss":
            crew.dismiss(asked["node"])
            continue
        try:
            function = crew.hire if asked["do"] == "hire" else crew.explain
            future = function(asked["node"], asked["text"])
        except Lost as lost:
            future = Future()
            future.set_exception(lost)
        future.add_done_callback(lambda done, call=asked["call"]: _answer(call, done, send))  # type: ignore[misc]


def _answer(call: int, done: Future[str], send: Send) -> None:
    try:
        send({"call": call, "text": done.result()})
    except Lost as lost:
        send({"call": call, "lost": str(lost), "gone": lost.gone})


def _tell_room(crew: Crew, send: Send, over: threading.Event) -> None:
    told = -1
    while not over.is_set():
        if crew.room != told:
            told = crew.room
            send({"room": told})
        over.wait(1.0)
