"""`gradviz demo`: the embedded model on the sample images that ship with it, and a page over what it wrote."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from gradviz_cli import demo, gallery
from gradviz_cli.batch.planning import plan_from
from gradviz_cli.batch.run import run
from gradviz_cli.cli.line import looked_on
from gradviz_cli.cli.stderr import say
from gradviz_cli.cli.types import NamedPath
from gradviz_cli.cli.voice import Voice
from gradviz_cli.files.text import printable
from gradviz_cli.images.listing import Inputs


@click.command("demo")
@click.argument("out", metavar="[OUT]", default="heatmaps", type=NamedPath())
def command(out: Path) -> int:
    """Explain the sample images in all modes with the embedded model; the pictures go to OUT (default: heatmaps), with a page
    to look through them.

    The model has a name: gradviz explain demo cat.jpg
    """
    gallery.check(out)
    plan = plan_from(demo.MODEL, out, mode="all", style=["heatmap", "overlay"])
    with Voice(plan, hints=False) as voice:
        code = run(plan, Inputs((demo.IMAGES,), out), voice).exit_code()
    if code == 0:
        page = gallery.write(out)
        if looked_on():
            say("\n".join(_next(out, page)))
    return code


def _next(out: Path, page: Path) -> list[str]:
    """Where the page is, and three commands to try."""
    folder = shlex.quote(printable(out))
    tries = {
        f"gradviz gallery {folder} --open": "look through them in the browser",
        f"gradviz explain {demo.NAME} cat.jpg -o cat.png": "a picture of your own",
        f"gradviz inspect {demo.NAME}": "what is found in a model; give the folder of your own",
    }
    width = max(map(len, tries))
    return [
        f"The page over the pictures is {printable(page.absolute())}. Next you may try:",
        *(f"  {command:{width}}  {what}" for command, what in tries.items()),
    ]
