"""`gradviz gallery`: one HTML page over an output folder, or over two."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import click

from gradviz_cli import gallery
from gradviz_cli.cli.signals import stopping
from gradviz_cli.cli.stderr import BACK, is_terminal, put, say
from gradviz_cli.cli.types import NamedPath
from gradviz_cli.errors import UsageError
from gradviz_cli.files.text import printable

MAIL = 20 * 2**20  # bytes; the largest letter that most take


@click.command("gallery")
@click.argument("outs", metavar="OUT [OUT2]", nargs=-1, required=True, type=NamedPath())
@click.option("-o", "--out", "page", metavar="FILE", type=NamedPath(), help="The page, in place of OUT/index.html.")
@click.option("--embed", is_flag=True, help="Put reduced copies of the pictures into the page, so that it can be sent.")
@click.option(
    "--pixels",
    metavar="N",
    type=click.IntRange(*gallery.PIXELS_RANGE),
    help=f"Longest side of these copies.  [default: {gallery.PIXELS}]",
)
@click.option("--open", "open_", is_flag=True, help="Open it in the browser ($BROWSER, or that of the system).")
def command(outs: tuple[Path, ...], page: Path | None, embed: bool, pixels: int | None, open_: bool) -> int:
    """Write OUT/index.html, a page to look through the pictures in OUT: filter, sort, compare, blend map and input.

    With OUT2 it shows both folders side by side, image by image: two models, or one before and after.

    It opens from disk in any browser and needs no network. The pictures are linked where they are, so the page is
    written anew after a run that adds some: `gradviz explain --gallery` does it at the end. With --embed they are in the
    page: it opens wherever it is sent, and what it holds of the images is their pixels alone.
    """
    if len(outs) > 2:
        raise UsageError(f"{printable(outs[2])}: a page shows two folders at most", "give OUT, or OUT and OUT2")
    if pixels and not embed:
        raise UsageError("--pixels is of the copies that --embed puts into the page", "give --embed too")
    with stopping():
        written = gallery.write(*outs, to=page, pixels=(pixels or gallery.PIXELS) if embed else None, told=_told)
    size = written.stat().st_size
    if embed and size > MAIL:
        say(
            f"gradviz: warning: {printable(written)} has {size >> 20} MiB, more than most mail takes; "
            "give smaller copies with --pixels"
        )
    if sys.stdout.isatty():
        click.echo(printable(written.absolute()))
    if open_ and not webbrowser.open(written.absolute().as_uri()):
        raise UsageError(
            "--open: no browser could be started",
            f"set BROWSER to one, or open {printable(written.absolute())} in yours",
        )
    return 0


def _told(done: int, of: int) -> None:
    """A line on a terminal, gone once all are done."""
    if is_terminal():
        put(f"\r{done} of {of} pictures" if done < of else BACK)
