"""`python -m gradviz_cli`: the same program as `gradviz`."""

import atexit
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
    """End the process, without waiting for a thread that is stuck in the system, and without taking every module down in turn,
    which would take a twentieth of a second. A signal has nothing to end any more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
