"""`gradviz explain`: argv -> Plan -> engine -> lines and exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gradviz_cli import gallery
from gradviz_cli.batch import current, manifest, pipeline
from gradviz_cli.batch.current import failed
from gradviz_cli.batch.lock import Lock, held
from gradviz_cli.cli.config import with_model_file
from gradviz_cli.cli.options import Command, colormap_option, config_option, log_format_option, model_options
from gradviz_cli.cli.stdout import print_paths
from gradviz_cli.cli.types import Amount, Auto, Level, NamedPath, Seconds, Shard
from gradviz_cli.cli.voice import Voice
from gradviz_cli.draw import styles as render
from gradviz_cli.draw.styles import STYLES
from gradviz_cli.errors import GradvizError, ImageError, UsageError
from gradviz_cli.files import scratch
from gradviz_cli.files.reading import Limits
from gradviz_cli.files.whole import sweep
from gradviz_cli.images.fit import FITS
from gradviz_cli.images.listing import Inputs, names_in
from gradviz_cli.model import fingerprint
from gradviz_cli.model.explainer import Explainer
from gradviz_cli.model.labels import read_labels
from gradviz_cli.plan import outputs as outputs_
from gradviz_cli.plan.digests import Digests
from gradviz_cli.plan.outputs import stems
from gradviz_cli.plan.plan import Drawing, Job, Plan
from gradviz_cli.plan.results import Report, Result
from gradviz_cli.plan.targets import Target, parse_targets
from gradviz_cli.process.protocol import Loaded, ModelOptions
from gradviz_cli.rules import RULES


@dataclass(frozen=True)
class Settings:
    """What concerns the run and not its pictures; `print_end` ends each path on stdout, empty for none;
    `gallery` asks for the page at the end."""

    lock_wait: float = 0.0
    allow_empty: bool = False
    print_end: bytes = b""
    gallery: bool = False


COMMON = [
    "out",
    "modes",
    "targets",
    "styles",
    "preprocess",
    "raw",
    "labels_file",
    "input_size",
    "colormap",
    "files_from",
    "force",
    "dry_run",
    "verbose",
    "config",
]


@click.command("explain", cls=Command, common=COMMON)
@click.argument("model", metavar="MODEL", type=NamedPath())
@click.argument("paths", metavar="IMAGES...", nargs=-1, type=NamedPath())
@click.option("-o", "--out", default="heatmaps", type=NamedPath(), help="Output folder.", show_default=True)
@click.option(
    "-m", "--mode", "modes", multiple=True, type=click.Choice([*RULES, "all"]), help="ReLU rule.  [default: guided]"
)
@click.option(
    "-t", "--target", "targets", multiple=True, metavar="SPEC", help="topK, a class index or a label.  [default: top1]"
)
@click.option(
    "--style",
    "styles",
    multiple=True,
    type=click.Choice([*STYLES, "panel"]),
    help="How a map is drawn.  [default: heatmap]",
)
@model_options
@click.option("--raw", is_flag=True, help="Also write each attribution as float32 .npy.")
@click.option("--labels", "labels_file", type=NamedPath(), help="One label a line, or JSON.")
@click.option(
    "--fit",
    type=click.Choice(FITS),
    default="stretch",
    help="How an image is brought to the input size.",
    show_default=True,
)
@click.option("--clip", type=float, default=99.0, show_default=True, help="Percentile where the scale ends.")
@click.option("--alpha", type=float, default=0.5, show_default=True, help="Weight of the map in an overlay.")
@click.option(
    "--scale",
    type=click.Choice(["each", "shared"]),
    default="each",
    show_default=True,
    help="One scale for each map, or for all of an image.",
)
@click.option(
    "--size",
    type=click.Choice(["image", "input"]),
    default="image",
    show_default=True,
    help="PNG at the size of the image or of the model input.",
)
@click.option("--batch-size", type=Auto(), default="auto", show_default=True, help="Images in one gradient call.")
@click.option(
    "--fast-decode", is_flag=True, help="Decode large JPEGs at a part of their size: quicker, slightly other pixels."
)
@click.option(
    "--no-scores", is_flag=True, help="deconv of given classes: leave out scores and ranks, for twice the speed."
)
@click.option("--jobs", type=Auto(), default="auto", show_default=True, help="Decoding and drawing workers.")
@click.option("--timeout", type=Seconds(1), default=60.0, show_default=True, help="Seconds for one image.")
@click.option("--max-pixels", type=Amount(), default="50M", show_default=True, help="Larger images fail, unread.")
@click.option("--max-file-size", type=Amount(), default="100M", show_default=True, help="Larger files fail, unread.")
@click.option("--files-from", metavar="FILE|-", help="Read image names from a file or stdin.")
@click.option("-0", "--null", is_flag=True, help="Names there are NUL-ended.")
@click.option(
    "--shard", type=Shard(), default="1/1", show_default=True, help="Only the I-th of N disjoint parts of the images."
)
@click.option("--max-duration", type=Seconds(above=True), help="Seconds for the whole run.")
@click.option("--print", "print_", is_flag=True, help="Print each written path.")
@click.option("--print0", is_flag=True, help="The same, NUL-ended.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "always", "never"]),
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
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first failed image.")
@click.option(
    "-v",
    "--verbose",
    count=True,
    type=Level(),
    help="Say what is found and done; -vv: verify each step of the compiler too.",
)
@config_option
@log_format_option
@colormap_option
@click.pass_context
def command(context: click.Context, **options) -> int:
    """Write heatmaps of IMAGES (files or folders) as MODEL, a SavedModel folder, sees them.

    deconv and guided show what an image holds rather than why a class was chosen: they depend little on the upper
    layers (Adebayo 2018, Nie 2018, Sixt 2020). backprop is the plain gradient.
    """
    voice = Voice(options["verbose"] > 0, options.pop("quiet"), options.pop("progress"))
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
    with scratch.unnamed_file() as copy:
        for chunk in _content(source):
            scratch.fill(copy, chunk)
        yield lambda: names_in(copy, null)


def _content(source: str) -> Iterator[bytes]:
    """What a file, or stdin, holds, bit by bit."""
    if source == "-" and sys.stdin is None:
        raise UsageError("--files-from -: stdin is closed", "give it the list, or name a file")
    try:
        with open(0 if source == "-" else source, "rb", closefd=source != "-") as given:
            yield from iter(lambda: given.read(1 << 16), b"")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"--files-from {source}: {getattr(error, 'strerror', error)}", "check the path") from error


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
    options["scores"] = not options.pop("no_scores")
    if not options["scores"]:
        _insist_on_no_need_of_scores(modes, targets, styles)
    parts = {part: {} for part in (ModelOptions, Drawing, Plan)}
    for name, value in options.items():
        owner = next(part for part in parts if name in part.__dataclass_fields__)
        parts[owner][name] = value
    look = render.Look(options["colormap"], options["clip"], options["alpha"])  # refuses what is out of range
    render.insist_on_use(styles, look, _typed(context))
    drawing = Drawing(modes=modes, targets=targets, styles=styles, **parts[Drawing])
    return Plan(ModelOptions(str(model), **parts[ModelOptions]), drawing=drawing, labels=labels, **parts[Plan])


def _insist_on_no_need_of_scores(modes: Sequence[str], targets: Sequence[Target], styles: Sequence[str]) -> None:
    if modes != ("deconv",) or any(target.index is None for target in targets):
        raise UsageError(
            "--no-scores: only deconv of given classes can do without them",
            "add -m deconv and -t CLASS, or leave it out",
        )
    if "panel" in styles:
        raise UsageError("--no-scores: a panel shows the score", "leave one of them out")


def _typed(context: click.Context) -> set[str]:
    """The options of this command line; those of a file or of the environment are for many runs, and need not fit each."""
    return {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}


def explain(plan: Plan, images: Inputs, voice: Voice, settings: Settings = Settings()) -> int:
    """Run a plan; returns the exit code."""
    start = time.monotonic()
    end = None if plan.max_duration is None else start + plan.max_duration
    images.check(stems(plan), end)
    digests = Digests(plan, fingerprint.of_model(Path(plan.model.path)))
    report = Report()
    if plan.dry_run:
        _dry_run(plan, images.jobs(), digests, voice, report)
    else:
        patience = settings.lock_wait if end is None else min(settings.lock_wait, max(0.0, end - time.monotonic()))
        with held(plan.out, patience) as lock, _book(plan, lock) as book:
            voice.start(images.jobs())
            results = pipeline.run(plan, images.jobs(), digests, _announcer(plan, voice), book, end, lock.unfinished)
            _report(plan, results, report, voice, settings)
        if settings.gallery and not report.fatal:
            gallery.write(plan.out)
        voice.summary(report, time.monotonic() - start)
    if plan.fail_fast and report.failed:
        report.untried = any(islice(images.jobs(), report.total, None))
    if not report.total and not report.fatal and not settings.allow_empty:
        voice.warning(f"{images.why_none()}; --allow-empty makes that a success")
    return report.exit_code(settings.allow_empty)


@contextmanager
def _book(plan: Plan, lock: Lock) -> Iterator[manifest.Manifest]:
    """OUT's manifest, after what killed runs left behind has been swept. The lock is finished when it is complete."""
    scratch.sweep()
    if lock.unfinished:
        sweep(plan.out, below=True)
    lock.begin()
    book, interrupted = manifest.Manifest(plan.out, _recorded(plan)), True
    try:
        yield book
        interrupted = False
    finally:
        if moved := lock.moved(plan.out):  # what could not be removed under its old name
            sweep(moved, below=True)
        if not book.behind:
            book.close(sync=not interrupted)
            lock.finish()


def _report(plan: Plan, results: Iterator[Result], report: Report, voice: Voice, settings: Settings) -> None:
    """Say and count results as they come; so is what ends the run."""
    try:
        with closing(results):
            for result in results:
                report.add(result)
                voice.result(result, report)
                _print_outputs(plan, result, settings)
    except GradvizError as error:
        report.fatal.add(error.code)
        voice.failure(error, error.code)
        for line in getattr(error, "traceback", "").splitlines():
            voice.detail(line)
    finally:
        voice.clear()


def _recorded(plan: Plan) -> dict[str, Any]:
    """What the manifest keeps of a run with fewer safeguards."""
    model = plan.model
    trusted = {"trust_model": True} if model.trust_model else {}
    return {**trusted, "allow_ops": list(model.allow_ops)} if model.allow_ops else trusted


def _dry_run(plan: Plan, jobs: Iterable[Job], digests: Digests, voice: Voice, report: Report) -> None:
    """The paths that a run would write, on stdout; images that cannot even be opened are said as a run does."""
    limits = Limits(plan.max_pixels, plan.max_file_size)
    for job in jobs:
        outputs = outputs_.outputs(plan, job)
        try:
            _, _, result = current.look(plan, job, outputs, digests, limits)
        except ImageError as error:
            result = failed(job, error)
        if result is None:
            print_paths(output.path for output in outputs)
        report.add(result or Result(str(job.path), "pending"))
        if result is not None and result.failed:
            voice.result(result, report)
            if plan.fail_fast:
                return


def _print_outputs(plan: Plan, result: Result, settings: Settings) -> None:
    if settings.print_end and result.status == "written":
        print_paths((plan.out / name for name in result.outputs), settings.print_end)


def _announcer(plan: Plan, voice: Voice) -> Callable[[Explainer], None]:
    """Prints warnings when the model has been loaded, and with -v what was found in it."""

    def loaded(model: Explainer) -> None:
        for warning in model.warnings(plan.drawing.modes):
            voice.warning(warning, model=plan.model.path)
        for line in _description(model.loaded):
            voice.detail(line)

    return loaded


def _description(loaded: Loaded) -> list[str]:
    facts = loaded.facts
    counts = ", ".join(f"{done} of {seen} {name}" for name, (seen, done) in facts.activations.items()) or "none"
    before = f", before {facts.bypassed}" if facts.bypassed else ""
    seconds = f"TensorFlow {loaded.import_seconds:.1f} s, model {loaded.model_seconds:.1f} s"
    lines = [
        f"signature {facts.signature}: {facts.input.name} -> {facts.output}, score {facts.score}{before}",
        f"activations that obey the rule: {counts}" + (f"; {facts.gates} gates left" if facts.gates else ""),
        f"preprocess {facts.preprocess}, input {facts.size[0]}x{facts.size[1]}x{facts.channels}",
        f"sandbox {loaded.sandbox.level}; {seconds}",
    ]
    if facts.custom_gradients:
        lines.append(f"{facts.custom_gradients} custom gradients replaced by the derivative of the forward pass")
    return lines
