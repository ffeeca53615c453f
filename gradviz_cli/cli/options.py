"""Options that several commands share, their types, the order of their sources, and help that fits on a screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from gradviz_cli.batch import planning
from gradviz_cli.cli.config import _use_config
from gradviz_cli.cli.stderr import speak_json
from gradviz_cli.cli.types import (
    Count,
    Feed,
    Name,
    NamedPath,
    Names,
    Numbers,
    Place,
    Position,
    Share,
    Shift,
    Size,
    flat,
)
from gradviz_cli.draw.colormaps import COLORMAP_SUMMARIES, COLORMAPS
from gradviz_cli.estimators import AUTO_LAYER, DEFAULT_BASELINE, GRADIENT, Estimation
from gradviz_cli.images.baselines import BASELINES
from gradviz_cli.plan import values
from gradviz_cli.process.protocol import PROOFS
from gradviz_cli.rules import DEFAULT_MODE, PLAIN


class Command(click.Command):
    """A command whose --help shows the options marked as common, and --help-all every one."""

    def __init__(self, *arguments: Any, common: tuple[str, ...] = (), **more: Any):
        super().__init__(*arguments, **more)
        self.common = common
        show = click.Option(
            ["--help-all"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=self._help_all,
            help="Show every option.",
        )
        self.params.append(show)

    def _help_all(self, context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:  # as it is where a shell asks how a word goes on
            context.meta["gradviz.all"] = True
            click.echo(context.get_help())
            context.exit(0)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        shown: list[tuple[str, str]] = []
        rest: list[tuple[str, str]] = []
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record and isinstance(parameter, click.Option):
                (shown if parameter.name in (*self.common, "help", "help_all") else rest).append(record)
        with formatter.section("Common options" if rest else "Options"):
            formatter.write_dl(shown)
        if rest and context.meta.get("gradviz.all"):
            with formatter.section("Other options"):
                formatter.write_dl(rest)


def mode_option(function: Callable, default: str = DEFAULT_MODE, text: str = "") -> Callable:
    """-m, --mode; what is done without it is the command's to say, and what it is for where that is another thing."""
    return click.option(
        "-m",
        "--mode",
        "modes",
        multiple=True,
        type=Names(planning.MODES),
        callback=flat,
        help=text or f"ReLU rule.  [default: {default}; {PLAIN} for estimators other than {GRADIENT}]",
    )(function)


def estimator_options(function: Callable) -> Callable:
    """-e, --estimator, and what estimators take."""
    default = Estimation()
    for option in reversed(
        (
            click.option(
                "-e",
                "--estimator",
                "estimators",
                multiple=True,
                metavar="NAME",
                type=Names(planning.ESTIMATOR_NAMES),
                callback=flat,
                help=f"What is made of the gradient: {', '.join(planning.ESTIMATOR_NAMES)}.  [default: {GRADIENT}]",
            ),
            click.option(
                "--samples",
                type=Count(),
                default=default.samples,
                show_default=True,
                help="Gradients of one image: integrated-gradients, smoothgrad, vargrad.",
            ),
            click.option(
                "--noise",
                type=Share(),
                default=default.noise,
                show_default=True,
                help="Of smoothgrad, vargrad: deviation, as a part of the image's range.",
            ),
            click.option(
                "--baseline",
                metavar=f"{'|'.join(BASELINES)}|FILE",
                default=DEFAULT_BASELINE,
                show_default=True,
                help="Where integrated-gradients starts: mean is the image's own colour.",
            ),
            click.option(
                "--cam-layer",
                metavar=f"{AUTO_LAYER}|TENSOR",
                default=AUTO_LAYER,
                show_default=True,
                help="Where a CAM is taken from; `inspect -v` lists the layers.",
            ),
            click.option(
                "--box", is_flag=True, help="Put a box around where a CAM is strong (--box-of chooses a detection)."
            ),
        )
    ):
        function = option(function)
    return function


def model_options(function: Callable) -> Callable:
    """The options that decide which graph is differentiated and how its input is meant."""
    for option in reversed(
        (
            click.option(
                "--preprocess",
                type=Name(planning.PREPROCESSES),
                default="auto",
                show_default=True,
                help="Pixel range that the model expects.",
            ),
            click.option(
                "--pixel-range",
                type=Numbers("LOW,HIGH", values.pixel_range),
                help="In place of --preprocess: what black and white become.",
            ),
            click.option(
                "--mean",
                type=Numbers("R,G,B", values.pixels),
                help="What is subtracted then; one number for all channels.",
            ),
            click.option("--std", type=Numbers("R,G,B", values.deviations), help="By what it is divided then."),
            click.option("--channel-order", type=Name(planning.CHANNEL_ORDERS), help="Order of the model's channels."),
            click.option(
                "--labels", "labels_file", type=NamedPath(), help="Names of the classes, one a line, or JSON."
            ),
            click.option(
                "--labels-from",
                type=Shift(),
                default=0,
                help="Line of the first class: 1 leaves out a background line, -1 a background class.",
            ),
            click.option("--signature", metavar="NAME", help="Signature of the model."),
            click.option("--tag", metavar="TAG", help="Tag of the meta graph."),
            click.option("--input", metavar="NAME", help="The image: a signature key, or any tensor."),
            click.option(
                "--output",
                metavar="NAME",
                help="The scores: a signature key, any tensor, or a channel: conv5/Relu:0[..., 12].",
            ),
            click.option(
                "--score",
                type=Name(planning.SCORES),
                default="logit",
                show_default=True,
                help="Explain what feeds the final softmax or sigmoid, or the output itself.",
            ),
            click.option(
                "--at", type=Position(), default=(), help="Position where the scores are a map or a sequence."
            ),
            click.option(
                "--box-of", type=Place(), help="Explain the N-th best detection or position, or all that a class wins."
            ),
            click.option("--feed", "feeds", multiple=True, type=Feed(), help="Value of another input."),
            click.option("--input-size", type=Size(), metavar="HxW", help="Input size where the model leaves it open."),
            click.option("--layout", metavar="NHWC|NCHW|...", help="Axes of the model input."),
            click.option(
                "--activations",
                type=Name(planning.ACTIVATIONS),
                default="relu",
                show_default=True,
                help="Which activations obey the rule.",
            ),
            click.option(
                "--precision",
                type=Name(planning.PRECISIONS),
                default="float32",
                show_default=True,
                help="Arithmetic of the convolutions; bfloat16 is quicker and coarse.",
            ),
            click.option(
                "--allow-op", "allow_ops", multiple=True, metavar="NAME", help="Let one op outside the allowed set run."
            ),
            click.option("--trust-model", is_flag=True, help="Let every op run."),
            click.option(
                "--proof",
                type=Name(PROOFS),
                default="auto",
                show_default=True,
                help="Check on generated images that gradviz computes what the model does; auto: once a model.",
            ),
        )
    ):
        function = option(function)
    return function


def config_option(function: Callable) -> Callable:
    """--config FILE: TOML with the options' names; the command line and the environment win."""
    return click.option(
        "--config",
        type=NamedPath(),
        is_eager=True,
        expose_value=False,
        callback=_use_config,
        help="TOML file with the same names.",
    )(function)


def log_format_option(function: Callable) -> Callable:
    """--log-format; taken before the other options, so that what is wrong with them is said in that form. After --config."""

    def use(context: click.Context, parameter: click.Parameter, value: str) -> None:
        speak_json(value == "json")

    return click.option(
        "--log-format", type=Name(("text", "json")), default="text", show_default=True, is_eager=True,
        callback=use, expose_value=False, help="What stderr speaks.",
    )(function)  # fmt: skip


def colormap_option(function: Callable) -> Callable:
    """--colormap; `list` needs no other argument. After --config, which may settle it."""

    def show(context: click.Context, parameter: click.Parameter, value: str) -> str:
        if value == "list":
            coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
            click.echo("\n".join(_swatches(coloured)))
            context.exit(0)
        return value

    return click.option(
        "--colormap", type=Name([*COLORMAPS, "list"]), default="inferno", show_default=True, is_eager=True,
        callback=show, help="Colours of the map; list shows them.",
    )(function)  # fmt: skip


def _swatches(coloured: bool) -> Iterator[str]:
    """A line for each colormap: its name, on a terminal its colours, and these in words."""
    for name, summary in COLORMAP_SUMMARIES.items():
        steps = COLORMAPS[name][4::8] if coloured else ()
        bar = "".join(f"\x1b[48;2;{red};{green};{blue}m " for red, green, blue in steps)
        yield f"{name:18} {bar}\x1b[0m {summary}" if coloured else f"{name:18} {summary}"
