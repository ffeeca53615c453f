"""`gradviz gallery`: one HTML page over an output folder."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gradviz_cli import gallery
from gradviz_cli.cli.signals import stopping
from gradviz_cli.cli.types import NamedPath
from gradviz_cli.files.text import printable


@click.command("gallery")
@click.argument("out", metavar="OUT", type=NamedPath())
def command(out: Path) -> int:
    """Write OUT/index.html, a page to look through the pictures in OUT: filter, sort, compare, blend map and input.

    It opens from disk in any browser and needs no network. The pictures are linked where they are, so the page is
    written anew after a run that adds some: `gradviz explain --gallery` does it at the end.
    """
    with stopping():
        page = gallery.write(out)
    if sys.stdout.isatty():
        click.echo(f"Open {printable(page.absolute())}")
    return 0
