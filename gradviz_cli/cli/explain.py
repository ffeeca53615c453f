"""`gradviz explain`: argv -> Plan -> engine -> lines and exit code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from gradviz_cli import engine, fingerprint, images, inputs, manifest, render
from gradviz_cli.cli import say
from gradviz_cli.cli.options import Amount, Auto, Command, Size, config_option, model_options, with_model_file
from gradviz_cli.cli.signals import stopping
from gradviz_cli.errors import ModelRefused, UsageError
from gradviz_cli.labels import read_labels
from gradviz_cli.plan import Drawing, Job, ModelOptions, Plan, Report, Result, parse_targets
from gradviz_cli.remote import Facts
from gradviz_cli.render import COLORMAPS, STYLES
from gradviz_cli.rules import RULES

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
@click.option("--fit", type=click.Choice(images.FITS), default="stretch", help="How an image is brought to the input size.", show_default=True)
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
    paths, lock_wait, allow_empty = options.pop("paths"), options.pop("lock_wait"), options.pop("allow_empty")
    if options["colormap"] == "list":
        click.echo("\n".join(f"{name:16} {summary}" for name, summary in render.COLORMAP_SUMMARIES.items()))
        return 0
    if not paths:
        raise UsageError("no images are given", "name files or folders after MODEL")
    plan = make_plan(context, **options)
    return explain(plan, paths, lock_wait=lock_wait, allow_empty=allow_empty)


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


def explain(plan: Plan, paths: Iterable[Path], *, lock_wait: float = 0.0, allow_empty: bool = False) -> int:
    """Run a plan; returns the exit code."""
    paths = list(paths)
    inputs.check(paths, plan.out)
    mark = fingerprint.of_model(Path(plan.model.path))
    if plan.dry_run:
        return _dry_run(plan, inputs.jobs(paths, plan.out), mark)
    report = Report()
    with stopping(), manifest.held(plan.out, lock_wait):
        images.sweep(plan.out)
        book = manifest.Manifest(plan.out)
        try:
            for result in engine.run(plan, inputs.jobs(paths, plan.out), mark, _announcer(plan)):
                book.add(result)
                report.add(result)
                _say_result(plan, result)
                if result.failed and plan.fail_fast:
                    break
        finally:
            book.close()
    if not report.total and not allow_empty:
        say(f"gradviz: no image found in {', '.join(map(images.printable, paths))}; --allow-empty makes that a success")
    return report.exit_code(allow_empty)


def _dry_run(plan: Plan, jobs: Iterable[Job], mark: str) -> int:
    for job in jobs:
        for output in engine.pending(plan, job, mark):
            click.echo(images.printable(output.path))
    return 0


def _announcer(plan: Plan):
    """Prints warnings when the model has been loaded, and with -v what was found in it."""

    def loaded(facts: Facts) -> None:
        for warning in facts.warnings:
            say(f"gradviz: warning: {plan.model.path}: {warning}")
        if facts.sandbox["level"] != "full" and plan.require_sandbox:
            missing = "; ".join(facts.sandbox["missing"])
            raise ModelRefused(f"--require-sandbox: this system offers none ({missing})", "run without it, or on Linux 5.13+")
        if plan.verbose:
            for line in _description(facts):
                say(line)

    return loaded


def _description(facts: Facts) -> list[str]:
    counts = ", ".join(f"{done} of {seen} {name}" for name, (seen, done) in facts.activations.items()) or "none"
    before = f", before {facts.bypassed}" if facts.bypassed else ""
    lines = [
        f"signature {facts.signature}: {facts.input} -> {facts.output}, score {facts.score}{before}",
        f"activations that obey the rule: {counts}" + (f"; {facts.gates} gates left" if facts.gates else ""),
        f"preprocess {facts.preprocess}, input {facts.size[0]}x{facts.size[1]}x{facts.channels}",
        f"sandbox {facts.sandbox['level']}; TensorFlow {facts.seconds['import']:.1f} s, model {facts.seconds['model']:.1f} s",
    ]
    if facts.custom_gradients:
        lines.append(f"{facts.custom_gradients} custom gradients replaced by the derivative of the forward pass")
    return lines


def _say_result(plan: Plan, result: Result) -> None:
    if result.failed:
        say(f"gradviz: {images.printable(result.image)}: {result.error['message']}")
    elif plan.verbose:
        say(f"{result.status} {images.printable(result.image)}")
