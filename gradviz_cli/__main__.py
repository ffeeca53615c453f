"""`python -m gradviz_cli`: the same program as `gradviz`."""

import contextlib
import os
import signal
import sys
import threading


def run() -> None:
    """The console script."""
    _open_standard_files()
    try:
        from gradviz_cli.cli import main

        _leave(int(main()))
    except KeyboardInterrupt:  # before anything has begun
        _leave(130)


def _open_standard_files() -> None:
    """Where 0, 1 or 2 are closed, the next file opened would take the number, and what is printed would land in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Not to be written: who asks for output that has nowhere to go is told so.
            os.open(os.devnull, os.O_RDONLY)


def _leave(code: int) -> None:
    """End the process, without waiting for a thread that is stuck in the system. A signal has nothing to end any more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(code)
    _forget_stdout()
    sys.exit(code)


def _forget_stdout() -> None:
    """Keep Python from failing once more when it flushes at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    run()
