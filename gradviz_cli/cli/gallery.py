"""`gradviz gallery`: one HTML page over an output folder."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import click

from gradviz_cli import gallery
from gradviz_cli.cli.signals import stopping
from gradviz_cli.cli.types import NamedPath
from gradviz_cli.errors import UsageError
from gradviz_cli.files.text import printable


@click.command("gallery")
@click.argument("out", metavar="OUT", type=NamedPath())
@click.option("--open", "open_", is_flag=True, help="Open it in the browser ($BROWSER, or that of the system).")
def command(out: Path, open_: bool) -> int:
    """Write OUT/index.html, a page to look through the pictures in OUT: filter, sort, compare, blend map and input.

    It opens from disk in any browser and needs no network. The pictures are linked where they are, so the page is
    written anew after a run that adds some: `gradviz explain --gallery` does it at the end.
    """
    with stopping():
        page = gallery.write(out)
        if sys.stdout.isatty():
            click.echo(printable(page.absolute()))
        if open_ and not webbrowser.open(page.absolute().as_uri()):
            raise UsageError(
                "--open: no browser could be started",
                f"set BROWSER to one, or open {printable(page.absolute())} in yours",
            )
    return 0
