"""An output folder -> one HTML page over it, OUT/index.html.

The page is one file: style, script and the data as JSON. The pictures stay where they are and are linked, relative to
the page, so that a folder of ten thousand opens at once and may be moved or served. Nothing comes from elsewhere, and
the page's own Content-Security-Policy lets nothing else in.

What it shows is the manifest's last line of each image, and what the pictures that this line names say of themselves:
`folder` reads them, `data` makes them compact, `page` puts them into the HTML.
"""

from __future__ import annotations

from pathlib import Path

from gradviz_cli.errors import ImageError, OutputError
from gradviz_cli.files.reading import Limits, read_bytes
from gradviz_cli.files.whole import write_whole
from gradviz_cli.gallery.data import collect
from gradviz_cli.gallery.page import render

PAGE = "index.html"
GENERATOR = b'<meta name="generator" content="gradviz'  # by this a page is known as ours


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
    try:
        write_whole(path, data)
    except OutputError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        write_whole(path, data)  # a run that began just now swept our temporary file away
    return path


def _check_ours(path: Path) -> None:
    try:
        head = read_bytes(path, Limits(max_file_size=2**40))[:4096]
    except ImageError:
        return  # not there, or nothing that could be taken for a page; writing says what is wrong with it
    if GENERATOR not in head:
        raise OutputError(f"{path}: is not a gallery", "move it away; the gallery has to have that name")
