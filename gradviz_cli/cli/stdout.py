"""What goes to stdout, which may take nothing; names of files byte for byte as the file system has them, for xargs and the
like."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from gradviz_cli.cli.stderr import clear
from gradviz_cli.errors import OutputError
from gradviz_cli.files.remote import Place


class _Told:
    """A stdout whose errors say that they are its own: those of any other file look alike."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with _writing():
            return self._stream.write(text)

    def flush(self) -> None:
        with _writing():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def told_of_stdout() -> Iterator[None]:
    """Whatever prints inside raises OutputError where stdout takes nothing, and BrokenPipeError when its reader has gone."""
    usual = sys.stdout
    told = usual and cast(TextIO, _Told(usual))
    sys.stdout = told
    try:
        yield
    finally:
        if sys.stdout is told:  # click puts another in its place once a reader has gone
            sys.stdout = usual


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"stdout cannot be written: {error.strerror}", "give it a file or a pipe with room"
        ) from error


def print_paths(paths: Iterable[Place], end: bytes = b"\n") -> None:
    """Each path, followed by `end`.

    Raises
    ------
    OutputError
        stdout is closed, or takes nothing; BrokenPipeError when its reader has gone.
    """
    stream = getattr(sys.stdout, "buffer", None)
    clear()  # both may be one terminal
    with _writing():
        if stream is None:
            raise OSError(errno.EBADF, "it is closed")
        stream.write(b"".join(os.fsencode(str(path)) + end for path in paths))
        stream.flush()
