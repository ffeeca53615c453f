"""Names of files on stdout: byte for byte as the file system has them, for xargs and the like."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable

from gradviz_cli.cli.stderr import clear
from gradviz_cli.errors import OutputError
from gradviz_cli.files.remote import Place


def print_paths(paths: Iterable[Place], end: bytes = b"\n") -> None:
    """Each path, followed by `end`.

    Raises
    ------
    OutputError
        stdout is closed, or takes nothing; BrokenPipeError when its reader has gone.
    """
    stream = getattr(sys.stdout, "buffer", None)
    clear()  # both may be one terminal
    try:
        if stream is None:
            raise OSError(errno.EBADF, "it is closed")
        stream.write(b"".join(os.fsencode(str(path)) + end for path in paths))
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"stdout cannot be written: {error.strerror}", "give it a file or a pipe with room"
        ) from error
