"""`gradviz demo`: the embedded model on the sample images that ship with it."""

from __future__ import annotations

from pathlib import Path

import click

from gradviz_cli import demo
from gradviz_cli.batch.planning import plan_from
from gradviz_cli.batch.run import run
from gradviz_cli.cli.types import NamedPath
from gradviz_cli.cli.voice import Voice
from gradviz_cli.images.listing import Inputs


@click.command("demo")
@click.argument("out", metavar="[OUT]", default="heatmaps", type=NamedPath())
def command(out: Path) -> int:
    """Explain the sample images in all modes with the embedded model; the pictures go to OUT (default: heatmaps)."""
    plan = plan_from(demo.MODEL, out, mode="all", style=["heatmap", "overlay"])
    code = run(plan, Inputs((demo.IMAGES,), out), Voice(plan)).exit_code()
    if code == 0:
        click.echo(f"Look at the pictures in {out.absolute()}")
    return code
