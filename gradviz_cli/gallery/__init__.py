"""An output folder, or two side by side -> one HTML page over it, OUT/index.html.

The page is one file: style, script and the data as JSON. The pictures stay where they are and are linked, relative to
the page, so that a folder of ten thousand opens at once and may be moved or served; or reduced copies of them are in the
page (`inside`), which can then be sent. Nothing comes from elsewhere, and the page's own Content-Security-Policy lets
nothing else in.

What it shows is the manifest's last line of each image, and what the pictures that this line names say of themselves:
`folder` reads them, `pairs` finds the images that two folders share, `truth` the class that an image is of, `data` makes
all that compact, `page` puts it into the HTML, with the parts of it that lie in `web`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gradviz_cli.errors import OutputError, UsageError
from gradviz_cli.files.text import printable
from gradviz_cli.files.whole import check_own, write_alone
from gradviz_cli.gallery.data import collect
from gradviz_cli.gallery.folder import NothingTold as NothingTold
from gradviz_cli.gallery.inside import PIXELS as PIXELS
from gradviz_cli.gallery.inside import PIXELS_RANGE as PIXELS_RANGE
from gradviz_cli.gallery.inside import Inside
from gradviz_cli.gallery.page import render

PAGE = "index.html"
ENDS = (".html", ".htm")  # of the names of pages
GENERATOR = b'<meta name="generator" content="gradviz'  # by this a page is known as ours
LARGEST = 400 * 2**20  # bytes of a page; a text of more is none for Chromium
REMEDY = "move it away, or name another file: gradviz gallery OUT -o FILE.html"


Told = Callable[[int, int], None]  # how many pictures are done, of how many


def check(out: Path) -> None:
    """Raise OutputError where `write` would find a file that is not ours, before the pictures are drawn."""
    _check_ours(out / PAGE)


def write(
    out: Path, *others: Path, to: Path | None = None, pixels: int | None = None, told: Told = lambda done, of: None
) -> Path:
    """Write the page over an output folder; returns its path.

    Parameters
    ----------
    others : Path
        One folder more, to be shown beside the first.
    to : Path
        The page, in place of `out`/index.html.
    pixels : int
        Let the page hold its pictures, at most so many pixels high and wide.
    told : callable
        Hears how far that is.

    Raises
    ------
    UsageError
        No run has written to `out`, its manifest cannot be read or tells of no image (`NothingTold`), or the page would be too
        large.
    OutputError
        The page cannot be written, or would replace a file that is not ours.
    """
    path = to or out / PAGE
    if path.suffix.lower() not in ENDS:
        raise UsageError(f"-o {printable(path)}: is no name of a page", f"give one that ends in {ENDS[0]}")
    if any(os.path.realpath(other) == os.path.realpath(out) for other in others):
        raise UsageError(f"{printable(out)}: is named twice", "give two folders to compare, or one")
    _check_ours(path)
    if to and not path.parent.is_dir():
        raise OutputError(
            f"{printable(path)}: cannot be written: there is no such folder", "make it, or name another file"
        )
    inside = Inside(pixels) if pixels else None
    data = collect((out, *others), path.parent, inside)
    text = render(data, path.parent, _copies(path, inside, told) if inside else None).encode("ascii")
    _check_size(path, len(text), "make one of a part of the images")
    _check_ours(path)  # making it may have taken a while
    try:
        write_alone(path, text)
    except OutputError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        write_alone(path, text)  # a run that began just now swept our temporary file away
    return path


def _copies(path: Path, inside: Inside, told: Told) -> list[str]:
    found, size = [], 0
    with closing(inside.copies()) as copies:
        for copy in copies:
            found.append(copy)
            size += len(copy)
            _check_size(path, size, "give smaller pictures with --pixels, or make one of a part of the images")
            told(len(found), len(inside.wanted))
    return found


def _check_size(path: Path, size: int, remedy: str) -> None:
    if size > LARGEST:
        raise UsageError(f"{printable(path)}: would have more than {LARGEST >> 20} MiB, which no browser opens", remedy)


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
