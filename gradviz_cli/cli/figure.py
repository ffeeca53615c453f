"""`gradviz figure`: maps of several images, classes, modes or models on one sheet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gradviz_cli import figure
from gradviz_cli.cli.options import Command, colormap_option
from gradviz_cli.cli.signals import stopping
from gradviz_cli.cli.stderr import tell
from gradviz_cli.cli.types import Between, Length, Name, NamedPath, Names, Percentile, Weight, flat
from gradviz_cli.draw.look import Look
from gradviz_cli.draw.styles import STYLES, check_use
from gradviz_cli.errors import ExitCode, UsageError
from gradviz_cli.figure.choice import MOST_IMAGES
from gradviz_cli.figure.grid import AXES
from gradviz_cli.files.text import plain, printable
from gradviz_cli.images import globs
from gradviz_cli.plan import values
from gradviz_cli.plan.outputs import FIGURE
from gradviz_cli.plan.plan import DEFAULT_STYLE

COMMON = [
    "out",
    "images",
    "modes",
    "estimators",
    "targets",
    "limit",
    "rows",
    "columns",
    "wrap",
    "style",
    "colormap",
    "clip",
    "scale",
    "width",
    "dpi",
    "title",
]


def _parted(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Of an option that takes several, with commas or more than once."""
    return tuple(filter(None, (part for one in value for part in values.parts(one))))


def _patterns(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(globs.pattern, value))
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


@click.command("figure", cls=Command, common=COMMON)
@click.argument("outs", metavar="OUT...", nargs=-1, required=True, type=NamedPath())
@click.option("-o", "--out", default=FIGURE, type=NamedPath(), show_default=True, help=".png, .svg or .pdf.")
@click.option(
    "--image", "images", multiple=True, metavar="GLOB", callback=_patterns, help="Images, by name, in this order."
)
@click.option("-m", "--mode", "modes", multiple=True, metavar="NAME", callback=_parted, help="Modes.  [default: all]")
@click.option(
    "-e",
    "--estimator",
    "estimators",
    multiple=True,
    metavar="NAME",
    callback=_parted,
    help="Estimators.  [default: all]",
)
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    metavar="SPEC",
    help="topK, rankK, a class index or a label.  [default: all]",
)
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help=f"Images at most, 0 for all.  [default: {MOST_IMAGES}]"
)
@click.option(
    "--rows", multiple=True, type=Names(AXES), callback=flat, help=f"What goes down.  [default: {figure.grid.ROWS[0]}]"
)
@click.option(
    "--cols", "columns", multiple=True, type=Names(AXES), callback=flat, help="What goes across.  [default: the rest]"
)
@click.option("--wrap", type=click.IntRange(min=1), metavar="N", help="Columns side by side; more go on below.")
@click.option("--style", type=Name(STYLES), default=DEFAULT_STYLE, show_default=True, help="How a map is drawn.")
@colormap_option
@click.option("--clip", type=Percentile(), default=99.0, show_default=True, help="Percentile where a scale ends.")
@click.option("--alpha", type=Weight(), default=0.5, show_default=True, help="Weight of the map in an overlay.")
@click.option(
    "--scale",
    type=Name(figure.sheet.SCALES),
    default="each",
    show_default=True,
    help="One scale for each map, row or column, or for all.",
)
@click.option("--width", type=Length(), help="Of the sheet: 89mm, 3.5in.  [default: as needed, up to 180mm]")
@click.option("--dpi", type=Between(10, 2400), default=300.0, show_default=True, metavar="N", help="Dots per inch.")
@click.option("--font-size", type=Between(3, 72), default=8.0, show_default=True, metavar="PT", help="In points.")
@click.option("--title", default="", metavar="TEXT", help="Stands above all.")
@click.option("--name", "names", multiple=True, metavar="TEXT", help="Of a model, one for each OUT.")
@click.option("--inputs/--no-inputs", default=True, help="The images beside their maps.")
@click.option("--captions/--no-captions", default=True, help="Class and score.")
@click.option("--bars/--no-bars", default=True, help="Colour bars with their numbers.")
@click.option("--notes/--no-notes", default=True, help="Units and scales in words, at the foot.")
@click.option("--force", is_flag=True, help="Replace a file that is no figure of gradviz.")
@click.option("-q", "--quiet", is_flag=True, help="No warnings.")
@click.pass_context
def command(
    context: click.Context,
    outs: tuple[Path, ...],
    out: Path,
    width: float | None,
    font_size: float,
    wrap: int | None,
    force: bool,
    quiet: bool,
    **given: Any,
) -> int:
    """Put the maps in OUT... on one sheet: rows and columns of images, models, estimators, modes and targets.

    They are drawn from the .npy files of `gradviz explain --raw`: no model is loaded, so other colours take seconds.

    \b
      gradviz figure maps -o figure.pdf               images down, modes across
      gradviz figure vgg resnet --image 'cat*'        a model a column
      gradviz figure maps --style signed --scale row  one scale a row
    """
    if (named := len(given["names"])) not in (0, len(outs)):
        what = f"{named} name{'s' * (named != 1)} for {len(outs)} folder{'s' * (len(outs) != 1)}"
        raise UsageError(f"--name: {what}", "give one for each OUT")
    look = Look(given["colormap"], given["clip"], given["alpha"])
    check_use([given["style"]], look, _typed(context, "colormap", "alpha"), STYLES)
    drawing = figure.Drawing(
        style=STYLES[given["style"]],
        look=look,
        scale=given["scale"],
        dpi=given["dpi"],
        bars=given["bars"],
        notes=given["notes"],
        title=plain(given["title"]),
    )
    choice = figure.Choice(given["images"], given["modes"], given["estimators"], given["targets"], given["limit"])
    names = tuple(map(plain, given["names"]))
    asked = figure.Figure(choice, given["rows"], given["columns"], names, given["inputs"], given["captions"])
    with stopping():
        sheet, warnings = figure.write(out, outs, asked, drawing, figure.Format(width, font_size, wrap), force=force)
    for warning in () if quiet else warnings:
        tell("warning", "warning", f"gradviz: warning: {warning}", message=warning)
    if sys.stdout.isatty():
        click.echo(f"Open {printable(out.absolute())}")
    return ExitCode.SOME_FAILED if sheet.failed else ExitCode.OK


def _typed(context: click.Context, *names: str) -> list[str]:
    return [name for name in names if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
