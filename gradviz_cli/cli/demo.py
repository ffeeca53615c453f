"""`gradviz demo`: the embedded model on the sample images that ship with it."""

from __future__ import annotations

from pathlib import Path

import click

from gradviz_cli import demo
from gradviz_cli.cli.explain import explain
from gradviz_cli.cli.types import NamedPath
from gradviz_cli.cli.voice import Voice
from gradviz_cli.images.listing import Inputs
from gradviz_cli.model.labels import read_labels
from gradviz_cli.plan.plan import Drawing, Plan
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.rules import RULES


@click.command("demo")
@click.argument("out", metavar="[OUT]", default="heatmaps", type=NamedPath())
def command(out: Path) -> int:
    """Explain the sample images in all modes with the embedded model; the pictures go to OUT (default: heatmaps)."""
    drawing = Drawing(modes=tuple(RULES), styles=("heatmap", "overlay"))
    plan = Plan(ModelOptions(str(demo.MODEL)), out, drawing, read_labels(None, demo.MODEL))
    code = explain(plan, Inputs((demo.IMAGES,), out), Voice())
    if code == 0:
        click.echo(f"Look at the pictures in {out.absolute()}")
    return code
