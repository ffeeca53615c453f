"""An output folder -> one HTML page over it, OUT/index.html.

The page is one file: style, script and the data as JSON. The pictures stay where they are and are linked, relative to
the page, so that a folder of ten thousand opens at once and may be moved or served. Nothing comes from elsewhere, and
the page's own Content-Security-Policy lets nothing else in.

What it shows is the manifest's last line of each image, and what the pictures that this line names say of themselves:
`folder` reads them, `data` makes them compact, `page` puts them into the HTML.
"""

from __future__ import annotations

import os
from pathlib import Path

from gradviz_cli.errors import OutputError
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import check_own, write_whole
from gradviz_cli.gallery.data import collect
from gradviz_cli.gallery.page import render

PAGE = "index.html"
GENERATOR = b'<meta name="generator" content="gradviz'  # by this a page is known as ours
LARGEST = 2**31  # bytes of a page
REMEDY = "move it away; the gallery has to have that name"


def write(out: Path) -> Path:
    """Write the page over an output folder; returns its path.

    Raises
    ------
    UsageError
        No run has written to `out`, or its manifest cannot be read.
    OutputError
        The page cannot be written, or would replace an `index.html` that is not ours.
    """
    path = out / PAGE
    _check_ours(path)
    data = render(collect(out), out).encode("ascii")
    _check_ours(path)  # making it may have taken a while
    try:
        write_whole(path, data)
    except OutputError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        write_whole(path, data)  # a run that began just now swept our temporary file away
    return path


def _check_ours(path: Path) -> None:
    """A page is only replaced where it is one of ours beyond doubt: a plain file of one name that can be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):  # what is wrong with OUT is said elsewhere
        return
    except OSError as error:
        why = "it is a link" if path.is_symlink() else f"it cannot be read: {error.strerror}"
        raise OutputError(f"{printable(path)}: cannot be written: {why}", REMEDY) from error
    try:
        check_own(handle, path, REMEDY)
        if os.fstat(handle).st_size > LARGEST or GENERATOR not in os.pread(handle, 4096, 0):
            raise OutputError(f"{printable(path)}: is not a gallery", REMEDY)
    except OSError as error:
        raise OutputError(
            f"{printable(path)}: cannot be written: it cannot be read: {error.strerror}", REMEDY
        ) from error
    finally:
        os.close(handle)
