"""The command line. One file a command, each imported only when it is called, so that help and errors are instant."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import re
import sys
import traceback
from contextlib import nullcontext

import click

from gradviz_cli.cli.later import put_off
from gradviz_cli.cli.line import doing
from gradviz_cli.cli.mistakes import check_dashes, command_meant, said_of
from gradviz_cli.cli.signals import Stopped, stopping
from gradviz_cli.cli.stderr import say, speak_json, speaks_json, tell
from gradviz_cli.cli.stdout import told_of_stdout
from gradviz_cli.errors import ExitCode, GradvizError, UsageError
from gradviz_cli.files.reach import closed_folder, is_adrift
from gradviz_cli.files.text import plain, printable
from gradviz_cli.process import shortage
from gradviz_cli.version import __version__

COMMANDS = {
    "explain": "explain images: a SavedModel and images in, heatmaps out",
    "inspect": "what a SavedModel offers, and what would be patched",
    "check": "are the maps right, and do they depend on what the model learnt",
    "gallery": "one HTML page to look through an output folder",
    "figure": "maps of several images, classes, modes or models on one sheet: PNG, SVG or PDF",
    "show": "what a picture says of itself",
    "prune": "remove outputs whose image is gone",
    "compact": "a smaller manifest: without the lines that later ones have replaced",
    "demo": "the embedded model on the sample images: heatmaps in seconds",
}


# Commands that take a while to begin, and words with which nobody waits for them.
SLOW = ("explain", "inspect", "check", "demo")
QUIET = {"-q", "--quiet", "never", "--progress=never", "-h", "--help", "--help-all", "--dry-run", "list"}


class _Commands(click.Group):
    """Commands whose modules are imported when they are called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        shortage.check_space()
        gc.disable()  # what is imported stays: to search it for garbage again and again takes a tenth of the start
        put_off()
        try:
            return importlib.import_module(f"gradviz_cli.cli.{name}").command
        finally:
            gc.enable()

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and name not in COMMANDS and not name.startswith("-") and not context.resilient_parsing:  # for a shell
            raise UsageError(f"there is no command {printable(name)}", command_meant(name, args, tuple(COMMANDS)))
        found = super().resolve_command(context, args)
        if found[1] is not None:
            check_dashes(found[1], found[2])
        return found

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        check_dashes(self, args[:1])
        return super().parse_args(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, help="Print the version; with -v TensorFlow's too.")
@click.option("-v", "--verbose", is_flag=True, hidden=True)
@click.pass_context
def gradviz(context: click.Context, version: bool, verbose: bool) -> None:
    """Saliency heatmaps from any TensorFlow SavedModel.

    \b
      gradviz demo                            see what it does
      gradviz explain MODEL photos/ -o maps   guided backprop of the best class
      gradviz explain MODEL cat.jpg -m all -o maps   every mode
    """
    if version:
        click.echo(f"gradviz {__version__}")
        if verbose:
            click.echo(f"tensorflow {_tensorflow_version()}")
        context.exit(0)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _tensorflow_version() -> str:
    from importlib import metadata

    for name in ("tensorflow", "tensorflow-cpu", "tf-nightly"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "is not installed"


_FREE = ("written", "free some space, also for temporary files (TMPDIR)")
_OF_DISKS = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EIO: ("read or written", "a disk or the connection to it fails: look into the system's log"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code and lets no exception out."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verbose = any(re.fullmatch("-v+|--verbose", argument) for argument in arguments)
    speak_json(_asks_for_json(arguments))
    try:
        with stopping(), told_of_stdout(), doing("starting") if _is_slow(arguments) else nullcontext():
            return int(gradviz.main(arguments, prog_name="gradviz", standalone_mode=False) or 0)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        return _stopped(said_of(error, _all_commands), ExitCode.USAGE)
    except GradvizError as error:
        return _stopped(str(error), error.code, getattr(error, "traceback", "") if verbose else "")
    except Stopped as stopped:
        return stopped.code
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.SIGINT
    except SystemExit as ended:
        # Click's: a shell has been told how a word goes on (0); or who reads a broken pipe has seen enough.
        return ExitCode.OUTPUT if ended.code else ExitCode.OK
    except Exception as error:  # a bug of ours, or something that the system lacks
        if isinstance(error, OSError) and (remedy := _OF_DISKS.get(error.errno or 0)):
            where = printable(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else "a file"
            said = f"{where}: cannot be {remedy[0]}: {error.strerror}; {remedy[1]}"
            return _stopped(said, ExitCode.OUTPUT, traceback.format_exc() if verbose else "")
        if (short := shortage.as_error(error)) is not None:
            return _stopped(str(short), short.code, traceback.format_exc() if verbose else "")
        if isinstance(error, OSError) and (said := _out_of_reach(error)):
            return _stopped(said, ExitCode.OUTPUT, traceback.format_exc() if verbose else "")
        message = f"internal error: {type(error).__name__}: {error} (please report it, with the output of -v)"
        return _stopped(message, ExitCode.BUG, traceback.format_exc() if verbose else "")


def _out_of_reach(error: OSError) -> str:
    """What the system keeps from this user, whoever asked for it; empty where it is another fault, and so may be ours."""
    if error.errno == errno.ENOENT and is_adrift():
        return "the working folder was removed; go to another one (cd), or name all places in full"
    if not isinstance(error.filename, str | bytes) or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ""
    said = f"{printable(os.fsdecode(error.filename))}: cannot be reached: {error.strerror}"
    closed = closed_folder(error.filename)
    if closed is None:
        return f"{said}; give yourself permission to read and write it, or name another place"
    return f"{said}: the folder {printable(closed)} may not be entered; give yourself permission (chmod u+x), or name a place outside it in full"


def _is_slow(arguments: list[str]) -> bool:
    return bool(arguments) and arguments[0] in SLOW and QUIET.isdisjoint(arguments)


def _stopped(message: str, code: int, trace: str = "") -> int:
    """Say what ended the command, in one line."""
    more = {"traceback": trace} if trace else {}
    tell("error", "stopped", f"gradviz: {plain(message)}", message=plain(message), code=int(code), **more)
    if trace and not speaks_json():
        say(trace)
    return code


def _asks_for_json(arguments: list[str]) -> bool:
    """Asked before anything is parsed, as the command line itself may be what is wrong."""
    given = " ".join(arguments).replace("--log-format=", "--log-format ")
    return "--log-format json" in given or os.environ.get("GRADVIZ_EXPLAIN_LOG_FORMAT") == "json"


def _all_commands() -> dict[str, click.Command]:
    context = click.Context(gradviz)
    found = {name: gradviz.get_command(context, name) for name in COMMANDS}
    return {name: command for name, command in found.items() if command is not None}
