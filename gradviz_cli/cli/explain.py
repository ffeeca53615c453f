"""`gradviz explain`: argv -> Plan -> engine -> lines and exit code."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import click

from gradviz_cli import engine, fingerprint, gallery, manifest, render
from gradviz_cli.cli.options import (
    Amount,
    Auto,
    Command,
    Shard,
    config_option,
    model_options,
    with_model_file,
)
from gradviz_cli.cli.signals import stopping
from gradviz_cli.cli.voice import Voice
from gradviz_cli.errors import GradvizError, UsageError
from gradviz_cli.images import FITS, printable, sweep
from gradviz_cli.inputs import Inputs, names_in
from gradviz_cli.labels import read_labels
from gradviz_cli.plan import Drawing, Job, ModelOptions, Plan, Report, Result, parse_targets
from gradviz_cli.remote import Facts
from gradviz_cli.render import COLORMAPS, STYLES
from gradviz_cli.rules import RULES


@dataclass(frozen=True)
class Settings:
    """What concerns the run and not its pictures; `print_end` ends each path on stdout, empty for none;
    `gallery` asks for the page at the end."""

    lock_wait: float = 0.0
    allow_empty: bool = False
    print_end: bytes = b""
    gallery: bool = False


COMMON = (
    "out modes targets styles preprocess raw labels_file input_size colormap files_from force dry_run verbose config"
).split()


@click.command("explain", cls=Command, common=COMMON)
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("paths", metavar="IMAGES...", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--out", default="heatmaps", type=click.Path(path_type=Path), help="Output folder.", show_default=True)
@click.option("-m", "--mode", "modes", multiple=True, type=click.Choice([*RULES, "all"]), help="ReLU rule.  [default: guided]")
@click.option("-t", "--target", "targets", multiple=True, metavar="SPEC", help="topK, a class index or a label.  [default: top1]")
@click.option("--style", "styles", multiple=True, type=click.Choice([*STYLES, "panel"]), help="How a map is drawn.  [default: heatmap]")
@model_options
@click.option("--raw", is_flag=True, help="Also write each attribution as float32 .npy.")
@click.option("--labels", "labels_file", type=click.Path(path_type=Path), help="One label a line, or JSON.")
@click.option("--fit", type=click.Choice(FITS), default="stretch", help="How an image is brought to the input size.", show_default=True)
@click.option("--colormap", type=click.Choice([*COLORMAPS, "list"]), default="inferno", show_default=True, help="Colours of the map; list shows them.")
@click.option("--clip", type=float, default=99.0, show_default=True, help="Percentile where the scale ends.")
@click.option("--alpha", type=float, default=0.5, show_default=True, help="Weight of the map in an overlay.")
@click.option("--scale", type=click.Choice(["each", "shared"]), default="each", show_default=True, help="One scale for each map, or for all of an image.")
@click.option("--size", type=click.Choice(["image", "input"]), default="image", show_default=True, help="PNG at the size of the image or of the model input.")
@click.option("--batch-size", type=Auto(), default="auto", show_default=True, help="Images in one gradient call.")
@click.option("--jobs", type=Auto(), default="auto", show_default=True, help="Decoding and drawing workers.")
@click.option("--timeout", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds for one image.")
@click.option("--max-pixels", type=Amount(), default="50M", show_default=True, help="Larger images fail, unread.")
@click.option("--max-file-size", type=Amount(), default="100M", show_default=True, help="Larger files fail, unread.")
@click.option("--files-from", metavar="FILE|-", help="Read image names from a file or stdin.")
@click.option("-0", "--null", is_flag=True, help="Names there are NUL-ended.")
@click.option("--shard", type=Shard(), default="1/1", show_default=True, help="Only the I-th of N disjoint parts of the images.")
@click.option("--max-duration", type=click.FloatRange(min=0, min_open=True), help="Seconds for the whole run.")
@click.option("--print", "print_", is_flag=True, help="Print each written path.")
@click.option("--print0", is_flag=True, help="The same, NUL-ended.")
@click.option("--progress", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True, help="Progress line; auto: on a terminal.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What stderr speaks.")
@click.option("-q", "--quiet", is_flag=True, help="No warnings and no progress.")
@click.option("--gallery", is_flag=True, help="Make OUT/index.html of everything in OUT at the end.")
@click.option("--require-sandbox", is_flag=True, help="Refuse to run without one.")
@click.option("--allow-empty", is_flag=True, help="No image found is success.")
@click.option("--allow-empty-map", is_flag=True, help="Draw a map that is zero or not finite, flat.")
@click.option("--lock-wait", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait for another run in OUT.")
@click.option("--force", is_flag=True, help="Redo what is current.")
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first failed image.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is found and done.")
@config_option
@click.pass_context
def command(context: click.Context, **options) -> int:
    """Write heatmaps of IMAGES (files or folders) as MODEL, a SavedModel folder, sees them.

    deconv and guided show what an image holds rather than why a class was chosen: they depend little on the upper
    layers (Adebayo 2018, Nie 2018, Sixt 2020). backprop is the plain gradient.
    """
    if options["colormap"] == "list":
        click.echo("\n".join(f"{name:18} {summary}" for name, summary in render.COLORMAP_SUMMARIES.items()))
        return 0
    voice = Voice(options.pop("log_format"), options["verbose"], options.pop("quiet"), options.pop("progress"))
    end = b"\0" if options.pop("print0") else b"\n" if options.pop("print_") else b""
    options.pop("print_", None)
    settings = Settings(options.pop("lock_wait"), options.pop("allow_empty"), end, options.pop("gallery"))
    paths, shard = options.pop("paths"), options.pop("shard")
    with _list(options.pop("files_from"), options.pop("null")) as listed:
        if not paths and listed is None:
            raise UsageError("no images are given", "name files or folders after MODEL, or give --files-from")
        plan = make_plan(context, **options)
        return explain(plan, Inputs(paths, plan.out, listed, shard), voice, settings)


@contextmanager
def _list(source: str | None, null: bool) -> Iterator[Callable[[], Iterator[Path]] | None]:
    """The names of --files-from; a copy of them, as they are walked through more than once."""
    if source is None:
        yield None
        return
    with TemporaryFile() as copy:
        try:
            with click.open_file(source, "rb") as given:
                shutil.copyfileobj(given, copy)
        except OSError as error:
            raise UsageError(f"--files-from {source}: {error.strerror}", "check the path") from error
        yield lambda: names_in(copy, null)


def make_plan(context: click.Context, **options) -> Plan:
    """The frozen value that the options mean; click is forgotten from here on."""
    model = options.pop("model")
    if not model.exists():
        raise UsageError(f"no such model: {model}", "give a SavedModel folder")
    options = with_model_file(context, options, model)
    labels = read_labels(options.pop("labels_file"), model)
    modes = options.pop("modes") or ("guided",)
    modes = tuple(RULES) if "all" in modes else tuple(dict.fromkeys(modes))
    targets = parse_targets(options.pop("targets") or ("top1",), labels)
    styles = tuple(dict.fromkeys(options.pop("styles") or ("heatmap",)))
    parts = {part: {} for part in (ModelOptions, Drawing, Plan)}
    for name, value in options.items():
        owner = next(part for part in parts if name in part.__dataclass_fields__)
        parts[owner][name] = value
    render.Look(options["colormap"], options["clip"], options["alpha"])  # refuses what is out of range
    drawing = Drawing(modes=modes, targets=targets, styles=styles, **parts[Drawing])
    return Plan(ModelOptions(str(model), **parts[ModelOptions]), drawing=drawing, labels=labels, **parts[Plan])


def explain(plan: Plan, images: Inputs, voice: Voice, settings: Settings = Settings()) -> int:
    """Run a plan; returns the exit code."""
    images.check()
    mark = fingerprint.of_model(Path(plan.model.path))
    if plan.dry_run:
        return _dry_run(plan, images.jobs(), mark)
    report, start = Report(), time.monotonic()
    with stopping(), manifest.held(plan.out, settings.lock_wait):
        sweep(plan.out)
        book = manifest.Manifest(plan.out)
        voice.start(images.jobs())
        try:
            for result in engine.run(plan, images.jobs(), mark, _announcer(plan, voice)):
                book.add(result)
                report.add(result)
                voice.result(result, report)
                _print_outputs(plan, result, settings)
                if result.failed and plan.fail_fast:
                    break
        except GradvizError as error:
            report.fatal.add(error.code)
            voice.failure(error, error.code)
            for line in getattr(error, "traceback", "").splitlines():
                voice.detail(line)
        finally:
            book.close()
        if settings.gallery and not report.fatal:
            gallery.write(plan.out)
    if not report.total and not report.fatal and not settings.allow_empty:
        voice.warning("no image was found; --allow-empty makes that a success")
    voice.summary(report, time.monotonic() - start)
    return report.exit_code(settings.allow_empty)


def _dry_run(plan: Plan, jobs: Iterable[Job], mark: str) -> int:
    for job in jobs:
        for output in engine.pending(plan, job, mark):
            click.echo(printable(output.path))
    return 0


def _print_outputs(plan: Plan, result: Result, settings: Settings) -> None:
    if settings.print_end and result.status == "written":
        for name in result.outputs:
            click.get_binary_stream("stdout").write(os.fsencode(plan.out / name) + settings.print_end)
        click.get_binary_stream("stdout").flush()


def _announcer(plan: Plan, voice: Voice):
    """Prints warnings when the model has been loaded, and with -v what was found in it."""

    def loaded(facts: Facts) -> None:
        for warning in facts.warnings:
            voice.warning(f"{plan.model.path}: {warning}", model=plan.model.path)
        if facts.sandbox["level"] != "full":
            missing = "; ".join(facts.sandbox["missing"])
            voice.warning(f"the model runs without a full sandbox: {missing}; --require-sandbox refuses that")
        for line in _description(facts):
            voice.detail(line)

    return loaded


def _description(facts: Facts) -> list[str]:
    counts = ", ".join(f"{done} of {seen} {name}" for name, (seen, done) in facts.activations.items()) or "none"
    before = f", before {facts.bypassed}" if facts.bypassed else ""
    lines = [
        f"signature {facts.signature}: {facts.input['name']} -> {facts.output}, score {facts.score}{before}",
        f"activations that obey the rule: {counts}" + (f"; {facts.gates} gates left" if facts.gates else ""),
        f"preprocess {facts.preprocess}, input {facts.size[0]}x{facts.size[1]}x{facts.channels}",
        f"sandbox {facts.sandbox['level']}; TensorFlow {facts.seconds['import']:.1f} s, model {facts.seconds['model']:.1f} s",
    ]
    if facts.custom_gradients:
        lines.append(f"{facts.custom_gradients} custom gradients replaced by the derivative of the forward pass")
    return lines
