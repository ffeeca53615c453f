"""`gradviz explain`: argv -> Plan -> batch.run -> lines and exit code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from gradviz_cli.batch import planning
from gradviz_cli.batch.engines import ENGINES, GRACE, LOCAL
from gradviz_cli.batch.planning import plan_from
from gradviz_cli.batch.run import run
from gradviz_cli.batch.single import FOLDER
from gradviz_cli.cli.config import at_its_place, given, placed
from gradviz_cli.cli.line import LINE
from gradviz_cli.cli.mistakes import check_flags, check_words, images_missing
from gradviz_cli.cli.options import (
    Command,
    colormap_option,
    config_option,
    estimator_options,
    log_format_option,
    mode_option,
    model_options,
)
from gradviz_cli.cli.signals import SLACK, limited
from gradviz_cli.cli.stderr import say
from gradviz_cli.cli.types import (
    Amount,
    Auto,
    ImagePath,
    Level,
    Location,
    Name,
    Names,
    Percentile,
    Seconds,
    Shard,
    Weight,
    flat,
)
from gradviz_cli.cli.voice import Voice
from gradviz_cli.errors import UsageError
from gradviz_cli.files import scratch
from gradviz_cli.files.near import near_path
from gradviz_cli.files.reading import READABLE
from gradviz_cli.files.remote import Place, Remote
from gradviz_cli.files.text import printable
from gradviz_cli.images.fit import FITS
from gradviz_cli.images.listing import STDIN, Inputs, names_in
from gradviz_cli.model.forms import check_order, chosen
from gradviz_cli.plan.plan import DEFAULT_STYLE

SEVERAL = {"--mode": planning.MODES, "--style": planning.STYLE_NAMES}  # options of which a blank may part the values
MOST_LISTED = 2**31  # bytes of a list: of twenty million names
COMMON = [
    "out",
    "modes",
    "estimators",
    "targets",
    "styles",
    "preprocess",
    "raw",
    "labels_file",
    "colormap",
    "files_from",
    "include",
    "exclude",
    "force",
    "dry_run",
    "verbose",
    "config",
]


@click.command("explain", cls=Command, common=COMMON)
@click.argument("model", metavar="MODEL", type=Location())
@click.argument("paths", metavar="IMAGES...", nargs=-1, type=ImagePath())
@click.option("-o", "--out", default="heatmaps", type=Location(), show_default=True,
    help="Output folder, or its URL; or NAME.png, for one picture of one image.",
)  # fmt: skip
@mode_option
@estimator_options
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    metavar="SPEC",
    help="topK, rankK, a class index, a label, or parent (the image's folder).  [default: top1]",
)
@click.option(
    "--style",
    "styles",
    multiple=True,
    type=Names(planning.STYLE_NAMES),
    callback=flat,
    help=f"How a map is drawn.  [default: {DEFAULT_STYLE}]",
)
@model_options
@click.option("--raw", is_flag=True, help="Also write each attribution as float32 .npy.")
@click.option(
    "--fit",
    type=Name(FITS),
    default="stretch",
    help="How an image is brought to the input size.",
    show_default=True,
)
@click.option("--clip", type=Percentile(), default=99.0, show_default=True, help="Percentile where the scale ends.")
@click.option("--alpha", type=Weight(), default=0.5, show_default=True, help="Weight of the map in an overlay.")
@click.option(
    "--scale",
    type=Name(planning.SCALES),
    default="each",
    show_default=True,
    help="One scale for each map, or for all of an image.",
)
@click.option(
    "--size",
    type=Name(planning.SIZES),
    default="image",
    show_default=True,
    help="PNG at the size of the image or of the model input.",
)
@click.option(
    "--batch-size",
    type=Auto(),
    default="auto",
    show_default=True,
    help="Images that wait for the worker; on a GPU those of a call.",
)
@click.option(
    "--fast-decode", is_flag=True, help="Decode large JPEGs at a part of their size: quicker, slightly other pixels."
)
@click.option(
    "--no-scores",
    is_flag=True,
    help="deconv of given classes: leave out scores and ranks, for up to 1.8 times the speed.",
)
@click.option("--jobs", type=Auto(), default="auto", show_default=True, help="Decoding and drawing workers.")
@click.option("--timeout", type=Seconds(1), default=60.0, show_default=True, help="Seconds for one image.")
@click.option("--max-pixels", type=Amount(), default="52M", show_default=True, help="Larger images fail, unread.")
@click.option("--max-file-size", type=Amount(), default="100M", show_default=True, help="Larger files fail, unread.")
@click.option("--files-from", metavar="FILE|-", help="Read image names from a file or stdin.")
@click.option("-0", "--null", is_flag=True, help="Names there are NUL-ended.")
@click.option("--root", type=Location(), metavar="DIR", help="Outputs are named relative to this folder.")
@click.option(
    "--include", "include", multiple=True, metavar="GLOB", help="Of folders only what matches: '*.jpg', '2024/**'."
)
@click.option("--exclude", "exclude", multiple=True, metavar="GLOB", help="Leave out what matches, folders as well.")
@click.option(
    "--pages",
    type=Name(planning.PAGES),
    default="first",
    show_default=True,
    help="Of TIFFs and GIFs that have several.",
)
@click.option("--follow-links", is_flag=True, help="Search folders that links lead to.")
@click.option(
    "--shard", type=Shard(), default="1/1", show_default=True, help="Only the I-th of N disjoint parts of the images."
)
@click.option(
    "--engine",
    type=Name(ENGINES),
    default=LOCAL,
    show_default=True,
    help="Where images are explained: here, or on a cluster.",
)
@click.option("--ray-address", metavar="HOST:PORT", help="Of a cluster of Ray that runs; else one is started here.")
@click.option("--max-duration", type=Seconds(above=True), help="Seconds for the whole run.")
@click.option("--print", "print_", is_flag=True, help="Print each written path.")
@click.option("--print0", is_flag=True, help="The same, NUL-ended.")
@click.option(
    "--progress",
    type=Name(("auto", "always", "never")),
    default="auto",
    show_default=True,
    help="Progress line; auto: on a terminal.",
)
@click.option("-q", "--quiet", is_flag=True, help="No warnings and no progress.")
@click.option("--gallery", is_flag=True, help="Make OUT/index.html of everything in OUT at the end.")
@click.option("--require-sandbox", is_flag=True, help="Refuse to run without one.")
@click.option("--allow-empty", is_flag=True, help="No image found is success.")
@click.option("--allow-empty-map", is_flag=True, help="Draw a map that is zero or not finite, flat.")
@click.option("--lock-wait", type=Seconds(), default=0.0, help="Seconds to wait for another run in OUT.")
@click.option("--force", is_flag=True, help="Redo what is current.")
@click.option("--adopt", is_flag=True, help="Take OUT over from another model, or from other images of the same names.")
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first failed image.")
@click.option(
    "-v",
    "--verbose",
    count=True,
    type=Level(),
    help="Say what is done; -vv: verify each step too.",
)
@config_option
@log_format_option
@colormap_option
@click.pass_context
def command(
    context: click.Context,
    model: Place,
    paths: tuple[Place, ...],
    out: Place,
    files_from: str | None,
    null: bool,
    shard: tuple[int, int],
    print_: bool,
    print0: bool,
    progress: str,
    quiet: bool,
    verbose: int,
    gallery: bool,
    max_duration: float | None,
    max_file_size: int,
    **_: Any,  # what the plan is made of, see `given`
) -> int:
    """Write heatmaps of IMAGES (files, folders, - for one on stdin) as MODEL sees them: a SavedModel folder, or a .zip, .keras, .h5 or frozen .pb. Each, and --out, may be a URL (s3://, gs://).

    deconv and guided show what an image holds rather than why a class was chosen (Adebayo 2018, Nie 2018, Sixt
    2020); backprop is the plain gradient.
    """
    print_end = b"\0" if print0 else b"\n" if print_ else b""
    end = None if max_duration is None else time.monotonic() + max_duration
    check_flags(context)
    if STDIN in paths and files_from == "-":
        raise UsageError("stdin cannot be an image (-) and the list of --files-from -", "give one of them as a file")
    with (
        placed(context),
        limited(max_duration) as begun,
        _list(files_from, null) as listed,
        _stdin(paths, max_file_size) as stdin,
    ):
        if not paths and listed is None:
            raise UsageError("no images are given", images_missing(model))
        here = [path for path in paths if isinstance(path, Path)]
        check_words(context, here, SEVERAL)
        if isinstance(model, Path):
            check_order(model, here)
        asked, standing = given(context)
        LINE.then(f"reading {printable(model)}")
        plan = plan_from(model, out, standing=standing, **asked, verify=verbose > 1)
        if gallery and isinstance(out, Remote):
            raise UsageError(
                f"--gallery is a page over a folder of this machine, and --out {out} is in a store",
                "leave it out, and copy the folder here for gradviz gallery",
            )
        if gallery and plan.file:
            raise UsageError(f"--gallery is a page over a folder, and --out {plan.file} is one picture", FOLDER)
        if gallery:
            from gradviz_cli import gallery as page  # most runs write none, and a run with nothing to do is short

            page.check(plan.out)
        if files_from is not None or any(isinstance(place, Remote) for place in (out, *paths)):
            begun = partial(begun, SLACK if plan.engine == LOCAL else SLACK + GRACE)
        with Voice(
            plan, verbose > 0, quiet, progress, print_end, begun, placed=partial(at_its_place, context)
        ) as voice:
            for line in chosen(model, Path(plan.model.path)) if isinstance(model, Path) else ():
                voice.detail(f"model {line}")
            report = run(plan, Inputs(paths, out, listed, shard, stdin=stdin), voice, end)
    if gallery and not plan.dry_run and not report.fatal:
        with suppress(page.NothingTold):  # no run has ever found an image
            written = page.write(plan.out)
            if voice.hints:
                say(f"the page over them is {printable(written.absolute())}")
    return report.exit_code(plan.allow_empty)


@contextmanager
def _list(source: str | None, null: bool) -> Iterator[Callable[[], Iterator[Place]] | None]:
    """The names of --files-from; a copy of them, as they are walked through more than once."""
    if source is None:
        yield None
        return
    LINE.then(f"reading the names in {'stdin' if source == '-' else printable(source)}")
    with scratch.unnamed_file() as copy:
        size = 0
        for chunk in _content(source):
            size += len(chunk)
            if size > MOST_LISTED:
                raise UsageError(
                    f"--files-from {source}: more than {MOST_LISTED >> 30} GiB of names", "check what it is"
                )
            scratch.fill(copy, chunk)
        yield lambda: names_in(copy, null)


@contextmanager
def _stdin(paths: Sequence[Place], most: int) -> Iterator[Path | None]:
    """A copy of what comes through stdin, where it is an image: it is read more than once. No more than what shows that it is
    too large."""
    if STDIN not in paths:
        yield None
        return
    if sys.stdin is None or sys.stdin.isatty():
        what = "closed" if sys.stdin is None else "a terminal"
        raise UsageError(f"-: stdin is {what}", "give it an image: gradviz explain MODEL - < cat.jpg")
    LINE.then("reading the image on stdin")
    place = scratch.Scratch()
    try:
        copy = Path(place.folder()) / STDIN.name
        with open(copy, "xb", buffering=0) as file, open(0, "rb", buffering=0, closefd=False) as source:
            left = most + 1
            while left and (chunk := source.read(min(left, 1 << 16))):
                scratch.fill(file, chunk)
                left -= len(chunk)
        yield copy
    except OSError as error:
        raise UsageError(f"-: stdin cannot be read: {error.strerror}", "give it an image, or name one") from error
    finally:
        place.close()


def _content(source: str) -> Iterator[bytes]:
    """What a file, or stdin, holds, bit by bit."""
    if source == "-" and sys.stdin is None:
        raise UsageError("--files-from -: stdin is closed", "give it the list, or name a file")
    try:
        with open(0 if source == "-" else source, "rb", closefd=source != "-") as file:
            yield from iter(lambda: file.read(1 << 16), b"")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        remedy = READABLE if isinstance(error, PermissionError) else "check the path"
        remedy = near_path(source, os.path.isfile) or remedy
        raise UsageError(f"--files-from {source}: {getattr(error, 'strerror', error)}", remedy) from error
