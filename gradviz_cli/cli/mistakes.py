"""What is said of a command line that cannot be read, in the words that were typed and with the mend."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from gradviz_cli.errors import UsageError
from gradviz_cli.files.near import did_you_mean, near_path, nearest
from gradviz_cli.files.remote import Place, Remote
from gradviz_cli.files.text import printable
from gradviz_cli.images.formats import has_image_name

# Options that other programs have, and what they are called here.
OTHER_OPTIONS = {
    **dict.fromkeys(("cmap", "color", "palette"), "colormap"),
    **dict.fromkeys(("out-dir", "output-dir", "outdir", "output-folder", "save-dir", "dest"), "out"),
    **dict.fromkeys(("method", "rule"), "mode"),
    **dict.fromkeys(("class", "classes", "class-index", "label", "topk", "top-k"), "target"),
    **dict.fromkeys(("layer", "output-layer"), "output"),
    **dict.fromkeys(("overwrite", "redo"), "force"),
    **dict.fromkeys(("workers", "threads", "num-workers"), "jobs"),
    **dict.fromkeys(("normalize", "preprocessing"), "preprocess"),
    **dict.fromkeys(("img-size", "image-size", "resize"), "input-size"),
    **dict.fromkeys(("opacity", "blend"), "alpha"),
    **dict.fromkeys(("npy", "save-raw"), "raw"),
    **dict.fromkeys(("zip", "standalone", "self-contained"), "embed"),
    **dict.fromkeys(("v", "ver"), "version"),
}
# Options that others have for what stands here without one, and for how many of the best classes are meant.
NO_OPTIONS = ("model", "saved-model", "model-dir", "model-path", "images", "image", "img", "image-dir", "image-path")
HOW_MANY = ("top", "k", "n", "topk", "top-k", "topn", "top-n")
# Commands that others have, and what they are called here.
OTHER_COMMANDS = {
    **dict.fromkeys(("run", "heatmap", "heatmaps", "saliency", "attribute", "predict", "visualize"), "explain"),
    **dict.fromkeys(("info", "summary", "describe", "check"), "inspect"),
    **dict.fromkeys(("view", "open", "html", "page", "browse"), "gallery"),
    **dict.fromkeys(("plot", "sheet", "grid"), "figure"),
    **dict.fromkeys(("read", "metadata", "meta"), "show"),
    **dict.fromkeys(("clean", "remove", "gc"), "prune"),
    **dict.fromkeys(("example", "examples", "test", "try"), "demo"),
}
LONG_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
MOST_WORDS = 6  # of a command line, that are repeated

Commands = Callable[[], Mapping[str, click.Command]]


def said_of(error: click.ClickException, commands: Commands) -> str:
    """One line about what click could not read."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption):
        return _no_such_option(error, commands)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{_named(error.param).split()[0]} is missing; give {_usage(context)}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        name, text = _named(error.param), error.message.rstrip(".")
        kind = error.param.metavar or error.param.type.name
        remedy = "" if "; " in text else f"; give {name} {kind}, see {_help(context)}"  # many say it themselves
        return f"{name}: {text}{remedy}"
    if isinstance(error, click.BadOptionUsage):
        return _bad_use(error)
    extra = re.search(r"unexpected extra arguments? \((.*)\)", error.format_message())
    if extra and context:
        return f"{context.info_name} takes no {printable(extra[1])}; give {_usage(context)}"
    message = error.format_message().rstrip(".")
    return f"{message[:1].lower()}{message[1:]}; see {_help(context)}" if context else message


def _help(context: click.Context | None) -> str:
    """What shows all options of a command."""
    if context is None:
        return "gradviz --help"
    return f"{context.command_path} --help{'-all' if '--help-all' in long_options(context.command) else ''}"


def _named(parameter: click.Parameter) -> str:
    """As it is typed, in full."""
    option = isinstance(parameter, click.Option)
    return max(parameter.opts, key=len) if option else str(parameter.metavar or parameter.name).removesuffix("...")


def _usage(context: click.Context | None) -> str:
    if context is None:
        return "it"
    pieces = context.command.collect_usage_pieces(context)
    return " ".join([context.command_path, *(piece for piece in pieces if piece != "[OPTIONS]")])


def _bad_use(error: click.BadOptionUsage) -> str:
    name = error.option_name
    if "does not take a value" in error.message:
        return f"{name}: takes no value; give {name} alone, or leave it out"
    return f"{name}: nothing is given for it; give {name} VALUE"


def _choices(option: click.Parameter) -> list[str]:
    return list(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else []


def _no_such_option(error: click.NoSuchOption, commands: Commands) -> str:
    """Says which command has it, where that is another one."""
    name, context = error.option_name, error.ctx
    assert context is not None, "click says which command it reads"
    said = f"{context.info_name} has no option {printable(name)}"
    if os.path.lexists(name) and any(isinstance(one, click.Argument) for one in context.command.params):
        return f"{said}; for the file of that name give ./{printable(name)}"
    known = long_options(context.command)
    meant = options_meant(name, [*known, "--help"])
    bare = name.lstrip("-").lower().replace("_", "-")
    as_value = [f"{max(one.opts, key=len)} {bare}" for one in context.command.params if bare in _choices(one)]
    arguments = [one for one in context.command.params if isinstance(one, click.Argument)]
    others = commands()
    holders = [other for other in others if other != context.info_name and name in _options(others[other])]
    if context.parent is None and holders:
        return f"{said}; options stand behind a command: gradviz {holders[0]} ... {name}"
    if bare in HOW_MANY and "--target" in known:
        return f"{said}; the best classes are a target: -t top3"
    if as_value:
        return f"{said}; {did_you_mean(as_value)}"
    if bare in NO_OPTIONS and any(str(one.metavar).startswith("MODEL") for one in arguments):
        return f"{said}; what it names stands without an option: {_usage(context)}"
    if meant:
        return f"{said}; {did_you_mean(meant)}"
    if holders:
        other = f"gradviz {holders[0]}"
        return f"{said}, but {other} has; see {context.command_path} --help and {other} --help"
    return f"{said}; see {_help(context)}"


def options_meant(name: str, known: Iterable[str]) -> list[str]:
    """Of these options, that which another program calls so, or those that are near."""
    names = tuple(known)
    other = f"--{OTHER_OPTIONS.get(name.lstrip('-').lower().replace('_', '-'), '')}"
    if other in names:
        return [other]
    return nearest(name, names) if name.startswith("--") else []


def _options(command: click.Command) -> list[str]:
    return [name for one in command.params if isinstance(one, click.Option) for name in one.opts]


def long_options(command: click.Command) -> list[str]:
    """Every option of a command in full, hidden ones left out."""
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    return [name for one in options for name in one.opts if name.startswith("--")]


def check_dashes(command: click.Command, words: Sequence[str]) -> None:
    """Refuse a name of an option with one dash, which would be read as letters (-out is -o ut), and one with a long dash,
    as a word processor or a web page writes it. Of one letter and a value behind =, that would be the first of the value."""
    known = [*long_options(command), "--help"]
    letters = [name for one in command.params if not getattr(one, "is_flag", False) for name in one.opts]
    for word in words:
        if word == "--":
            return
        name, equals, value = word.partition("=")
        full = f"--{name.lstrip(f'-{LONG_DASHES}')}"
        if full in known and (word[:1] in LONG_DASHES or word[:2] != "--" and len(name) > 2 and word[:1] == "-"):
            raise UsageError(f"{printable(word)}: an option of several letters begins with --", f"did you mean {full}{equals}{printable(value)}?")  # fmt: skip
        if equals and re.fullmatch("-[^-]", name) and name in letters:
            raise UsageError(f"{printable(word)}: behind one letter = is a part of the value", f"did you mean {name} {printable(value)}?")  # fmt: skip
        if word[:1] and word[0] in LONG_DASHES and f"-{word[1:]}" in _options(command):
            raise UsageError(f"{word}: it begins with a long dash", f"did you mean -{word[1:]}?")


def check_words(context: click.Context, paths: Sequence[Path], choices: Mapping[str, Sequence[str]]) -> None:
    """Refuse what is no file but belongs to an option: a second name behind it, or `name=value` without dashes.

    `choices` are names that options take several of.
    """
    for path in paths:
        word = str(path)
        if os.path.lexists(path):
            continue
        option = next((option for option, names in choices.items() if set(word.split(",")) <= set(names)), None)
        if option:
            parameter = next(one for one in context.command.params if option in one.opts)
            value = ",".join((*(context.params.get(parameter.name or "") or ()), word))
            raise UsageError(
                f"no such file or folder: {word}", f"of several values of {option} make one: {option} {value}"
            )
        name, equals, value = word.partition("=")
        if word.isidentifier() and context.params.get("targets"):
            remedy = f"if it is a class, of several make one value: --target {context.params['targets'][-1]},{word}"
            raise UsageError(f"no such file or folder: {word}", near_path(path) or remedy)
        if equals and value and f"--{name}" in long_options(context.command):
            raise UsageError(f"no such file or folder: {printable(word)}", f"did you mean --{name} {printable(value)}?")


def images_missing(model: Place) -> str:
    """What to do where no images are given; MODEL may be one."""
    shown = shlex.quote(printable(model))
    if has_image_name(model.name) and (isinstance(model, Remote) or model.is_file()):
        return f"{printable(model)} is one, and MODEL comes first: gradviz explain MODEL {shown}"
    return "name files or folders after MODEL, or give --files-from"


# Flags that contradict each other, or have nothing to say to each other, and what to do.
AGAINST = (
    ("print_", "print0", "--print and --print0 are two forms of the same list; give one of them"),
    ("quiet", "verbose", "--quiet and --verbose contradict each other; give one of them"),
    ("dry_run", "gallery", "--gallery writes a page, and --dry-run writes nothing; leave one of them out"),
    ("dry_run", "print_", "--dry-run prints what would be written already; leave out --print"),
)


def check_flags(context: click.Context) -> None:
    """Refuse flags that were typed together and make no sense so. What stands in a file or variable is for many runs."""
    typed = {
        one.name
        for one in context.command.params
        if one.name and context.get_parameter_source(one.name) is ParameterSource.COMMANDLINE
    }
    for one, other, said in AGAINST:
        if {one, other} <= typed:
            raise UsageError(*said.split("; "))
    if "null" in typed and not context.params.get("files_from"):
        raise UsageError("--null: it is of the names that --files-from reads", "add --files-from FILE, or leave it out")


def command_meant(name: str, args: Sequence[str], commands: Sequence[str]) -> str:
    """What to do about a word that is no command: a path is the MODEL of `explain`, or of `inspect`."""
    if os.path.exists(name):
        shown = " ".join(shlex.quote(printable(one)) for one in args[:MOST_WORDS])
        command = "explain" if len(args) > 1 and not args[1].startswith("-") else "inspect"
        return f"did you mean gradviz {command} {shown}{' ...' if len(args) > MOST_WORDS else ''}?"
    if name == "help" and args[1:] and args[1] in commands:
        return f"did you mean gradviz {args[1]} --help?"
    if re.fullmatch("help|version", name):
        return f"did you mean gradviz --{name}?"
    if name.lower() in OTHER_COMMANDS:
        return f"did you mean {OTHER_COMMANDS[name.lower()]}?"
    return did_you_mean(nearest(name, commands)) or f"the commands are {', '.join(commands)}"
