"""`gradviz check`: are the numbers right on this model, and do its maps depend on what it has learnt?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from gradviz_cli.batch.planning import plan_from
from gradviz_cli.check import sheet
from gradviz_cli.check.cascade import Findings
from gradviz_cli.check.checking import Checked, check
from gradviz_cli.check.verdicts import rounded
from gradviz_cli.cli.config import given, placed
from gradviz_cli.cli.options import Command, estimator_options, mode_option, model_options
from gradviz_cli.cli.signals import stopping
from gradviz_cli.cli.stderr import tell
from gradviz_cli.cli.types import Amount, Location, Name, NamedPath, Seconds
from gradviz_cli.errors import UsageError
from gradviz_cli.files.remote import Place
from gradviz_cli.files.text import plain, printable
from gradviz_cli.images.fit import FITS
from gradviz_cli.images.listing import Inputs
from gradviz_cli.model.forms import check_order
from gradviz_cli.plan.plan import Walk

LIMIT = 10  # images that are asked, unless somebody says otherwise
COMMON = (
    "out",
    "as_json",
    "strict",
    "modes",
    "estimators",
    "limit",
    "preprocess",
    "labels_file",
    "signature",
    "input",
    "output",
)
NAMED_IN_FULL = Walk(root="/")  # nothing is written by the names of images, so two folders may both hold `1.jpg`
MEASURES = {"cosine": "|cosine|", "spearman": "Spearman", "ssim": "SSIM"}  # and how they are called


@click.command("check", cls=Command, common=COMMON)
@click.argument("model", metavar="MODEL", type=Location())
@click.argument("paths", metavar="IMAGES...", nargs=-1, type=NamedPath())
@click.option(
    "-o",
    "--out",
    metavar="DIR|FILE.png",
    default=".",
    type=NamedPath(),
    help=f"Where {sheet.CHECK} goes, a picture of the cascade.  [default: here]",
)
@click.option("--json", "as_json", is_flag=True, help="Every number, for machines.")
@click.option("--strict", is_flag=True, help="Exit 3 where something fails.")
@partial(mode_option, default="all")
@estimator_options
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=LIMIT,
    show_default=True,
    help="Images that are asked, from all over those that are given.",
)
@model_options
@click.option(
    "--fit", type=Name(FITS), default="stretch", show_default=True, help="How an image is brought to the input size."
)
@click.option("--timeout", type=Seconds(1), default=60.0, show_default=True, help="Seconds for one image.")
@click.option("--max-pixels", type=Amount(), default="52M", show_default=True, help="Larger images fail, unread.")
@click.option("--max-file-size", type=Amount(), default="100M", show_default=True, help="Larger files fail, unread.")
@click.option("--require-sandbox", is_flag=True, help="Refuse to run without one.")
@click.option("-v", "--verbose", is_flag=True, help="Also the names of the kernels, and every check of the numbers.")
@click.pass_context
def command(
    context: click.Context,
    model: Place,
    paths: tuple[Path, ...],
    out: Path,
    as_json: bool,
    strict: bool,
    limit: int,
    verbose: bool,
    **_: Any,  # what the plan is made of, see `given`
) -> int:
    """Check MODEL on IMAGES (files or folders): first the numbers, then whether its maps depend on what it has learnt.

    Kernels are drawn anew from the score down, and maps compared with those of before; maps of different classes are
    compared with each other. A map that stays as it was does not show why a class was chosen.
    """
    if not paths:
        raise UsageError("no images are given", "name files or folders after MODEL")
    with stopping():
        if isinstance(model, Path):
            check_order(model, paths)
        place = sheet.place_of(out)
        sheet.check_place(place)
        asked, standing = given(context)
        with placed(context):
            plan = plan_from(model, place.parent, standing=standing, **_usual(asked, standing))
        checked = check(plan, Inputs(paths, place, walk=NAMED_IN_FULL), limit, place)
    if checked.none:
        tell("error", "stopped", f"gradviz: {checked.none}", message=checked.none, code=int(checked.code(strict)))
    for image, why in checked.failed.items():
        tell("error", "image", f"gradviz: {printable(image)}: {why}", image=image, message=why)
    if as_json:
        click.echo(json.dumps(checked.told(), indent=1))
    else:
        click.echo("\n".join(map(plain, _lines(checked, verbose))))
    return checked.code(strict)


def _usual(asked: dict[str, Any], standing: dict[str, Any]) -> dict[str, Any]:
    """What is asked for, with every mode unless somebody says which, or which estimators."""
    said = {*asked, *standing} & {"mode", "estimator"}
    return asked if said else {"mode": "all", **asked}


def _lines(checked: Checked, verbose: bool) -> Iterator[str]:
    """For people: what follows, then the numbers that it follows from."""
    said = {"numbers": checked.numbers, **checked.meaning}
    width = max(map(len, said)) + 2
    yield from (f"{name:{width}}{verdict}" for name, verdict in said.items())
    yield from (f"{name:{width}}not asked: {why}" for name, why in checked.left.items())
    if checked.cascade:
        yield from _table(checked.found, width)
        yield f"{'kernels':{width}}{len(checked.cascade.kernels)}, drawn anew from the score down inside each of their filters"
        if verbose:
            yield from (f"{'':{width}}{name}" for name in checked.cascade.kernels)
    if verbose and checked.proof:
        yield from (f"{'check':{width}}{one}" for one in checked.proof.witnesses)
    more = f", of {checked.given} (--limit)" if checked.given > checked.asked else ""
    yield f"{'images':{width}}{checked.asked - len(checked.failed)} of {checked.asked}{more}"
    yield from (f"{'warning':{width}}{warning}" for warning in checked.warnings)
    if checked.picture:
        yield f"{'picture':{width}}{printable(checked.picture)}"


def _table(found: Sequence[Findings], width: int) -> Iterator[str]:
    """How alike maps are, a column for each number of random kernels; then of classes, and to edges."""
    heads = [str(level.random) for level in found[0].levels]
    yield f"{'':{width}}likeness to the maps of the model as it is, by the number of random kernels"
    yield f"{'':{width + 10}}{''.join(f'{head:>6}' for head in heads)}  classes   edges"
    for one in found:
        for measure in ("cosine", "spearman", "ssim"):
            row = "".join(f"{_number(getattr(level.likeness, measure)):>6}" for level in one.levels)
            classes = _number(one.classes.cosine) if measure == "cosine" else ""
            name = one.method if measure == "cosine" else ""
            yield f"{name:{width}}{MEASURES[measure]:10}{row}{classes:>9}{_number(getattr(one.edges, measure)):>8}"
        row = "".join(f"{level.alive:>6}" for level in one.levels)
        yield f"{'':{width}}{'alive':10}{row}{one.classes.alive:>9}"


def _number(value: float | None) -> str:
    return "-" if value is None else rounded(value)
