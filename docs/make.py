"""What docs/ holds that is made from the program, and its pictures.

    python docs/make.py words            the man page, the completion files and the options in them: make docs
    python docs/make.py pictures         docs/images, from one run over the sample images: make pictures

The words are checked in, so that an installation needs nothing but setuptools, and a test compares them with the commands.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))  # the program that the files are made from is the one beside them

from gradviz_cli import demo  # noqa: E402
from gradviz_cli.cli import COMMANDS, gradviz  # noqa: E402
from gradviz_cli.draw.styles import STYLES  # noqa: E402
from gradviz_cli.estimators import ESTIMATORS, GRADIENT  # noqa: E402
from gradviz_cli.rules import RULES  # noqa: E402
from gradviz_cli.version import __version__  # noqa: E402

# ------------------------------------------------------------------------------------------------------ completion

# Shell -> the file, by the name under which the shell looks for it.
COMPLETIONS = {"bash": "gradviz", "zsh": "_gradviz", "fish": "gradviz.fish"}


def completion(shell: str) -> str:
    """The file that makes the shell ask gradviz itself, so that it knows every option there is."""
    from click.shell_completion import get_completion_class

    form = get_completion_class(shell)
    assert form is not None
    asks = form(gradviz, {}, "gradviz", "_GRADVIZ_COMPLETE")
    return (asks.source_template % asks.source_vars()).strip() + "\n"


# --------------------------------------------------------------------------------------------------------- man page

SOURCES = """\
Each option of a command can also stand in a variable, as GRADVIZ_EXPLAIN_PREPROCESS for \\-\\-preprocess, or in a TOML
file that \\-\\-config names. The command line wins, then the environment, then the file, then the model's own
assets.extra/gradviz.toml. NO_COLOR turns colours off, XDG_CACHE_HOME says where unpacked models are kept."""
FILES = {
    "OUT/manifest.jsonl": "a line for each image and run",
    "OUT/manifest/*.jsonl": "in an object store: later lines, a batch of them each",
    "OUT/.gradviz.lock": "held while a run writes to OUT",
    "OUT/.gradviz.lock.claim": "the same where there are no locks, and in an object store",
    "OUT/.gradviz.shards": "lock and lines of each shard, until the last one of them has ended",
    "OUT/.gradviz.index": "where the lines of a large manifest are; may be deleted",
    "~/.cache/gradviz": "models that were unpacked, turned into a graph, or fetched from a store",
}


def man_page() -> str:
    """gradviz.1 in the man macros: every command with all of its options, and the exit codes of docs/exit-codes.md."""
    lines = [
        f'.TH GRADVIZ 1 "" "gradviz {__version__}" "User Commands"',
        ".nh",  # neither words nor lines are stretched: a list of choices is one word
        ".ad l",
        *_section("NAME", "gradviz \\- saliency heatmaps from any TensorFlow SavedModel"),
        *_section("SYNOPSIS", *_between(".br", [*map(_synopsis, COMMANDS), ".B gradviz \\-\\-version"])),
        *_section("DESCRIPTION", *_help(gradviz.help or "")),
        ".SH COMMANDS",
        *(line for name in COMMANDS for line in _command(name)),
        *_section("EXIT STATUS", *_listed(_exit_codes())),
        *_section("ENVIRONMENT AND CONFIGURATION", SOURCES),
        *_section("FILES", *_listed(FILES.items())),
        *_section("SEE ALSO", "README.md, SECURITY.md and the folder docs of the source."),
    ]
    return "\n".join(lines) + "\n"


def _command(name: str) -> Iterator[str]:
    """One command: its usage, what its help says, its options."""
    context = _context(name)
    yield f'.SS "{_roff(_usage(context))}"'
    yield from _help(context.command.help or "")
    options = [one for one in context.command.get_params(context) if isinstance(one, click.Option)]
    yield from _listed(record for one in options if (record := one.get_help_record(context)))


def _context(name: str) -> click.Context:
    above = click.Context(gradviz, info_name="gradviz", **gradviz.context_settings)
    command = gradviz.get_command(above, name)  # type: ignore[attr-defined]
    return click.Context(command, parent=above, info_name=name)


def _usage(context: click.Context) -> str:
    return " ".join([context.command_path, *context.command.collect_usage_pieces(context)])


def _synopsis(name: str) -> str:
    return f".B {_roff(_usage(_context(name)))}"


def _help(text: str) -> Iterator[str]:
    """Paragraphs of a help text; those that click would not wrap, behind its \\b, are kept as they are."""
    for paragraph in re.split(r"\n\s*\n", "\n".join(line.strip() for line in text.strip().splitlines())):
        kept = paragraph.startswith("\b")
        yield ".PP"
        yield from [".nf", _roff(paragraph.removeprefix("\b").strip("\n")), ".fi"] if kept else [_roff(paragraph)]


def _section(name: str, *lines: str) -> list[str]:
    return [f".SH {name}", *lines]


def _between(word: str, lines: list[str]) -> Iterator[str]:
    for place, line in enumerate(lines):
        yield from [word, line] if place else [line]


def _listed(rows) -> Iterator[str]:
    for term, said in rows:
        breakable = _roff(term).replace("|", "|\\:")  # a list of choices may be longer than a line
        yield from (".TP", f".B {breakable}", _roff(said))


def _exit_codes() -> Iterator[tuple[str, str]]:
    """Codes and their meaning, from the one table that has them."""
    rows = re.findall(r"^\| ([\d, ]+) \| (.*?) \|", (DOCS / "exit-codes.md").read_text(), re.M)
    return ((codes, meaning.replace("`", "")) for codes, meaning in rows)


def _roff(text: str) -> str:
    """Text as roff takes it: nothing in it is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^(?=[.'])", r"\\&", escaped)


def words() -> dict[Path, str]:
    """Every file that follows from the commands -> what it has to hold."""
    found = {DOCS / "completions" / name: completion(shell) for shell, name in COMPLETIONS.items()}
    return {DOCS / "man" / "gradviz.1": man_page(), **found}


# --------------------------------------------------------------------------------------------------------- pictures

SHOWN = "leaf-on-water.jpg"
SAMPLES = ("arrow-on-wood.jpg", "star-on-stripes.jpg")
MADE_OF = ("leaf-on-water.jpg", "arrow-on-wood.jpg")  # what estimators and figures are shown on
IMAGES = DOCS / "images"
CELL, GAP, LABEL = (144, 108), 4, 18
INK, PAPER = (24, 24, 27), (255, 255, 255)
SCREEN = (1120, 720)


def pictures() -> None:
    """Write docs/images. Look at them afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "heatmaps"
        styles = ["--style", ",".join([*STYLES, "panel"])]
        _gradviz("explain", demo.MODEL, demo.IMAGES, "-o", out, "-m", "all", "--raw", "--gallery", *styles)
        _panel(out)
        _styles(out)
        _gallery(out)
        _figure(out)
        made = Path(folder) / "made"
        shown = [demo.IMAGES / name for name in MADE_OF]
        _gradviz(
            "explain",
            demo.MODEL,
            *shown,
            "-o",
            made,
            "-e",
            ",".join(_shown_estimators()),
            "--style",
            "heatmap,overlay",
            "-q",
        )
        _estimators(made)


def _gradviz(*arguments: object) -> None:
    command = [sys.executable, "-m", "gradviz_cli", *map(str, arguments)]
    subprocess.run(command, cwd=DOCS.parent, check=True)


def _panel(out: Path) -> None:
    from PIL import Image

    with Image.open(out / f"{SHOWN}.panel.png") as panel:
        small = panel.convert("RGB").resize((1200, panel.height * 1200 // panel.width), Image.Resampling.LANCZOS)
    _save(small, "modes")


def _styles(out: Path) -> None:
    """A row for each sample and mode, a column for each style, the input first."""

    def path(row: tuple[str, str], style: str) -> Path:
        sample, mode = row
        suffix = "" if style == "heatmap" else f".{style}"
        return demo.IMAGES / sample if style == "input" else out / f"{sample}.{mode}{suffix}.png"

    rows = {(sample, mode): mode for sample in SAMPLES for mode in RULES}
    _save(_sheet(rows, {name: name for name in ("input", *STYLES)}, path), "styles")


def _estimators(out: Path) -> None:
    """A row for each estimator, a column for each sample and as an overlay."""

    def path(name: str, column: tuple[str, str]) -> Path:
        sample, style = column
        own = "" if name == GRADIENT else f".{name}"
        return out / f"{sample}.{ESTIMATORS[name].mode}{own}{style}.png"

    columns = {(sample, style): style.strip(".") or "heatmap" for sample in MADE_OF for style in ("", ".overlay")}
    _save(_sheet({name: name for name in _shown_estimators()}, columns, path, left=140), "estimators")


def _shown_estimators() -> list[str]:
    """Those that a convolutional network has."""
    return [name for name, one in ESTIMATORS.items() if one.taps != "attention"]


def _sheet(rows, columns, path, left: int = LABEL * 4):
    """Pictures in a grid with titles: rows and columns by what `path` takes, each with its title."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (left + len(columns) * (CELL[0] + GAP), LABEL + len(rows) * (CELL[1] + GAP)), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for place, (column, title) in enumerate(columns.items()):
        at = left + place * (CELL[0] + GAP)
        pen.text((at, 1), title, INK, font)
        for line, (row, name) in enumerate(rows.items()):
            top = LABEL + line * (CELL[1] + GAP)
            pen.text((2, top + CELL[1] // 2 - 8), name, INK, font)
            with Image.open(path(row, column)) as picture:
                page.paste(picture.convert("RGB").resize(CELL, Image.Resampling.LANCZOS), (at, top))
    return page


def _figure(out: Path) -> None:
    from PIL import Image

    sheet = out / "figure.png"
    _gradviz("figure", out, "--image", MADE_OF[0], "--image", MADE_OF[1], "--dpi", 150, "-o", sheet)
    with Image.open(sheet) as drawn:
        _save(drawn.convert("RGB"), "figure")


def _gallery(out: Path) -> None:
    """The page as a browser shows it; left as it is where there is none."""
    from PIL import Image

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no chromium: docs/images/gallery.jpg is left as it is", file=sys.stderr)
        return
    shot, size = out / "shot.png", ",".join(map(str, SCREEN))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={size}"]
    page = (out / "index.html").as_uri()
    subprocess.run([browser, *flags, f"--screenshot={shot}", page], check=True, stderr=subprocess.DEVNULL)
    with Image.open(shot) as screen:
        _save(screen.convert("RGB"), "gallery")


def _save(picture, name: str) -> None:
    """As a JPEG with all of its colours, which a palette falsifies: blue and red of a signed map above all."""
    picture.save(IMAGES / f"{name}.jpg", quality=80, subsampling=0, optimize=True)


def main(asked: str) -> None:
    if asked == "pictures":
        pictures()
        return
    for path, text in words().items():
        path.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:] not in (["words"], ["pictures"]):
        sys.exit(str(__doc__))
    main(sys.argv[1])
