"""What README, docs/ and help say is so. Every block of code and every table has a check here or in test_docs_slow.py."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from children import python
from click.testing import CliRunner
from command.documents import (
    DOCS,
    PAGES,
    README,
    ROOT,
    Block,
    Table,
    arrange,
    blocks,
    code,
    lines,
    prose,
    tables,
    words,
)

from gradviz_cli.api import LoadedModel
from gradviz_cli.batch import bucket, course, index, lease
from gradviz_cli.batch.engines import ENGINES, LOCAL, driver
from gradviz_cli.batch.known import PROVED
from gradviz_cli.batch.planning import MODEL_KEYS, PREPROCESSES, plan_from
from gradviz_cli.check import verdicts
from gradviz_cli.cli import COMMANDS, gradviz
from gradviz_cli.cli.explain import command as explain
from gradviz_cli.demo import IMAGES, MODEL
from gradviz_cli.draw.colormaps import COLORMAP_SUMMARIES, COLORMAPS
from gradviz_cli.draw.png import encode_png
from gradviz_cli.draw.record import _READERS
from gradviz_cli.draw.styles import names
from gradviz_cli.errors import GRAVITY, ExitCode
from gradviz_cli.estimators import ESTIMATORS
from gradviz_cli.explanation import Explanation
from gradviz_cli.files import objects
from gradviz_cli.files.toml import tomllib
from gradviz_cli.images.formats import FORMATS
from gradviz_cli.images.preprocess import PREPROCESS
from gradviz_cli.model.kinds import form_of
from gradviz_cli.plan.plan import Job
from gradviz_cli.plan.results import Result, Status
from gradviz_cli.plan.targets import parse_targets
from gradviz_cli.process.protocol import Inspection
from gradviz_cli.rules import RULES
from gradviz_cli.version import __version__

LONGEST = 900  # words of the README
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "gradviz_cli").rglob("*.py")))
# Programs that a block may call besides gradviz; what installs is tried by test_installed_slow.py.
INSTALLERS = {"pip", "pipx", "uv", "make"}


def _page(name: str) -> str:
    return (DOCS / name).read_text()


def _options(word: str = "explain") -> dict[str, click.Parameter]:
    return {name: one for one in gradviz.get_command(None, word).params for name in (*one.opts, *one.secondary_opts)}


EVERY_OPTION = {name for word in COMMANDS for name in _options(word)} | {"--help", "--version"}


# ------------------------------------------------------------------------------------------------------------- pages


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= LONGEST


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((?:docs/)?([\w.-]+\.md)\)", README.read_text()))
    assert {page.name for page in PAGES if page != README} <= linked


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"))], ids=lambda page: page.name)  # fmt: skip
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert target.startswith("http") or there.is_file(), target
        titles = re.findall(r"^#+ (.*)$", there.read_text(), re.M) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_modules_that_are_named_exist(name: str) -> None:
    named = set(re.findall(r"\w+\.py\b", (ROOT / name).read_text()))
    folders = (ROOT / "gradviz_cli", ROOT / "tests", DOCS, ROOT / "sample_images")
    assert named <= {path.name for folder in folders for path in folder.rglob("*.py")}


def test_pictures_are_small_and_each_is_shown() -> None:
    shown = {name for page in PAGES for name in re.findall(r"\((?:docs/)?images/([\w.-]+)\)", page.read_text())}
    drawn = {path.name: path.stat().st_size for path in (DOCS / "images").iterdir()}
    assert set(drawn) == shown
    assert sum(drawn.values()) < 700_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page: Path) -> None:
    ours = re.sub(r"`(?:systemctl|pipx?|uv|ray) [^`]*`", "", prose(page))
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]+)", ours))
    assert named <= EVERY_OPTION, named - EVERY_OPTION


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_values_that_options_are_shown_with_are_taken(page: Path) -> None:
    """Code such as `--box-of 1`; words in capitals stand for a value."""
    for text in code(prose(page)):
        if re.match(r"--?[a-z]", text) and " " in text and not re.search(r"\b[A-Z]+\b|\\|", text):
            explain.make_context("explain", ["MODEL", "IMAGE", *words(f"gradviz {text}")], resilient_parsing=False)


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    told = {name for page in (*PAGES, ROOT / "CONTRIBUTING.md") for name in re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(), re.M)}  # fmt: skip
    assert told and all(f"\n{name}:" in makefile for name in told)


# -------------------------------------------------------------------------------------------------------------- help


def test_every_command_has_help_that_fits_on_a_screen() -> None:
    for word in COMMANDS:
        shown = CliRunner().invoke(gradviz, [word, "--help"], terminal_width=100)
        assert shown.exit_code == 0
        assert len(shown.output.splitlines()) <= 40, word


def test_help_all_shows_every_option() -> None:
    shown = CliRunner().invoke(explain, ["--help-all"], terminal_width=100).output
    assert all(max(one.opts, key=len) in shown for one in explain.params if one.opts[0].startswith("-"))
    assert "\n  MODEL" not in shown  # an argument is no option


# ------------------------------------------------------------------------------------------------------------ blocks


def _parsed(line: str) -> None:
    """The command takes the line as it stands, and has what it names."""
    word, *rest = words(line) or [""]
    if word.startswith("--"):
        assert set(rest) | {word} <= {"--version", "-v"}
        return
    command = gradviz.get_command(None, word)
    assert command is not None, line
    try:
        command.make_context(word, rest)
    except click.exceptions.Exit as ended:  # --colormap list
        assert ended.exit_code == 0


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {block.language for block in blocks()} <= {"sh", "bash", "yaml", "python", "toml", "ini", "cron"}


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: f"{block.page.name}: {lines(block)[0]}")
def test_commands_are_taken_as_they_stand(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(arrange(tmp_path))
    monkeypatch.setattr(objects, "find_spec", lambda name: True)  # URLs are read also without the extra
    for line in lines(block):
        if words(line):
            _parsed(line)
        else:
            assert line.split()[0] in INSTALLERS, line


def test_what_stands_behind_a_backslash_is_the_next_line() -> None:
    """A comment behind it would be lost on who pastes the line."""
    assert not [block for block in blocks("sh") if re.search(r"\\[ \t]+\S|\\[ \t]+$", block.text, re.M)]


def test_python_is_valid_and_imports_what_there_is() -> None:
    import gradviz_cli

    assert blocks("python")
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and node.module == "gradviz_cli":
                assert {one.name for one in node.names} <= set(dir(gradviz_cli)), block.page


def test_settings_are_taken(tmp_path: Path) -> None:
    for block in blocks("toml"):
        table = tomllib.loads(block.text)
        named = re.match(r"# (\S+\.toml)\n", block.text)
        if not named:  # a file in the model
            assert table.keys() <= set(MODEL_KEYS)
            continue
        file = tmp_path / named[1]
        file.write_text(block.text)
        context = explain.make_context("explain", ["MODEL", "IMAGE", "--config", str(file)])
        assert len(context.default_map or ()) == len(table)


def test_units_of_systemd() -> None:
    (block,) = blocks("ini")
    parts = re.split(r"^# /etc/systemd/system/(gradviz\.\w+)$", block.text, flags=re.M)[1:]
    units = dict(zip(parts[::2], parts[1::2], strict=True))
    assert set(units) == {"gradviz.service", "gradviz.timer"}
    for text in units.values():
        unit = configparser.ConfigParser(interpolation=None, strict=True)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        assert set(unit.sections()) <= {"Service", "Timer", "Install"}
    (start,) = re.findall(r"^ExecStart=/opt/gradviz/bin/(.*)$", block.text, re.M)
    _parsed(start)
    codes = [int(code) for code in re.findall(r"^SuccessExitStatus=(.*)$", block.text, re.M)[0].split()]
    assert codes == [ExitCode.TIME_UP, ExitCode.SIGTERM]


# ------------------------------------------------------------------------------------------------------------ tables


def _exit_codes(table: Table) -> None:
    told = [int(one) for cell in table.column() for one in cell.split(",")]
    assert told == sorted(map(int, ExitCode))
    order = [int(one) for one in re.findall(r"\d+", _page("exit-codes.md").split("a signal, then ")[1].split(".")[0])]
    assert order == [int(one) for one in GRAVITY if one < ExitCode.SIGHUP]


def _modes(table: Table) -> None:
    assert table.names() == list(RULES)
    for name, source in zip(table.names(), table.column(2), strict=True):
        first, number = source.split()[0], source.split("arXiv:")[1]
        assert first in RULES[name].source and number in RULES[name].source


def _advice(table: Table) -> None:
    assert set(RULES) <= set(table.names(1))


def _styles(table: Table) -> None:
    assert table.names() == names()


def _colormaps(table: Table) -> None:
    assert dict(zip(table.names(), table.column(1), strict=True)) == COLORMAP_SUMMARIES


def _presets(table: Table) -> None:
    told = dict(zip(table.names(), table.column(1), strict=True))
    assert told == {name: preset.summary for name, preset in PREPROCESS.items()}
    assert set(told) == set(PREPROCESSES) - {"auto"}


def _only_options(table: Table) -> None:
    for text in table.names():
        name = text.split()[0].split("|")[0]
        assert not name.startswith("-") or name in EVERY_OPTION, text


def _defaults(table: Table) -> None:
    options = _options("figure" if table.page.name == "figures.md" else "explain")
    for cell, default in zip(table.column(), table.column(1), strict=True):
        for text in code(cell):
            asked = options[text.split()[0]].default
            names = text.split()[1].split("|") if "|" in text else []
            assert set(filter(str.islower, names)) <= set(getattr(options[text.split()[0]].type, "choices", names)), (
                text
            )
            assert not code(default) or str(asked) == code(default)[0] or float(asked) == float(code(default)[0]), text


def _estimators(table: Table) -> None:
    assert table.rows == [(f"`{name}`", one.summary, one.unit, one.source) for name, one in ESTIMATORS.items()]


def _which_estimator(table: Table) -> None:
    assert set(table.names(1)) <= {*ESTIMATORS, *RULES}


def _recorded(table: Table) -> None:
    known = {name for one in ESTIMATORS.values() for name in (*one.numbers, *one.options)}
    assert {name for one in ESTIMATORS.values() for name in one.numbers} <= set(table.names()) <= known | {"box"}


def _figures_of_check(table: Table) -> None:
    told = {name: " ".join(cells) for name, *cells in table.rows}
    assert all(source in told[name] for name, source in verdicts.SOURCES.items())


def _verdicts(table: Table) -> None:
    told = dict(table.rows)
    assert tuple(told) == verdicts.WORDS
    assert str(verdicts.WEAK) in told[verdicts.PASSED] and str(verdicts.FAILS) in told[verdicts.FAILED]
    assert f"{verdicts.LEAST_ALIVE * 10:g} of 10" in told[verdicts.UNTESTED]


def _given_to_python(table: Table) -> None:
    asked = inspect.signature(LoadedModel.explain).parameters
    assert {re.split("=", name)[0] for name in table.names() if "value_range" in name} <= set(asked)


def _targets_of_python(table: Table) -> None:
    for spec in table.names():
        if not spec.startswith("["):
            assert parse_targets((spec.strip('"'),), ("heart", *"abcdefgh")), spec


def _attributes(table: Table) -> None:
    assert all(
        hasattr(Explanation, name) or name in Explanation.__annotations__ for name in table.names() if "=" not in name
    )


def _troubles(table: Table) -> None:
    """Messages that are quoted are those of the program."""
    source = re.sub(r'"\s+f?"', "", SOURCE)
    for quoted in re.findall(r'"([^"]+)"', " ".join(table.column())):
        assert quoted in source, quoted


def _forms(table: Table) -> None:
    """Each ending stands for a file that is taken for what the row says."""

    def packed(pack: Callable[[Path], None], name: str) -> str | None:
        path = Path(name)
        pack(path)
        return form_of(path)

    def zipped(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("m/saved_model.pb", b"\x08\x01")

    def tarred(path: Path) -> None:
        with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as file:
            file.addfile(tarfile.TarInfo("m/saved_model.pb"), io.BytesIO())

    def keras(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("metadata.json", b"{}")

    made = {
        ".zip": (zipped, "zip"),
        **dict.fromkeys((".tar", ".tar.gz", ".tgz"), (tarred, "tar")),
        ".pb": (lambda path: path.write_bytes(b"\x0a\x10\x0a\x01xPlaceholder"), "graph"),
        ".pbtxt": (lambda path: path.write_text('node {\n name: "x"\n}\n'), "graph"),
        ".keras": (keras, "keras"),
        **dict.fromkeys((".h5", ".hdf5"), (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "hdf5")),
    }
    told = {name for name in table.names() if name.startswith(".")}
    assert told == set(made)
    for ending, (pack, form) in made.items():
        assert packed(pack, f"model{ending}") == form, ending


def _exports(table: Table) -> None:
    for text in table.names(1):
        if "(" in text:
            compile(text, "docs/models.md", "exec")
    readme = next(block for block in blocks("python") if block.page == README)
    told = [line.split("#")[0].strip() for line in readme.text.splitlines()]
    short = [re.sub(r", signatures=function|\bmodel, (?=example)|\bnetwork, (?=example)", "", text) for text in table.names(1)]  # fmt: skip
    assert {re.sub(r"\bnetwork, (?=example)", "", line) for line in told} <= set(short)


def _targets(table: Table) -> None:
    labels = ("tabby", *"abcdefgh")
    for spec in table.names():
        assert parse_targets((spec,), labels), spec
    assert table.names()[0] == "top1"


def _cron_parts(table: Table) -> None:
    (block,) = blocks("cron")
    assert all(part.replace("...;", "").split(";")[0] in block.text for part in table.names())


def _names(table: Table) -> None:
    """As --dry-run says them, and the arrays that --raw adds."""
    for given, written in zip(table.names(), (code(cell) for cell in table.column(1)), strict=True):
        image, *options = given.split()
        found = [image]
        if image.count("/") > 1:  # it lies below the folder that is given
            folder, below = image.split("/", 1)
            found = [folder, "--include", f"/{below}"]
        shown = CliRunner().invoke(gradviz, ["explain", "MODEL", *found, *options, "-o", "out", "--dry-run"])
        pictures = {os.path.relpath(name, "out") for name in re.findall(r"out/\S+\.png", shown.stdout)}
        assert pictures == {name for name in written if name.endswith(".png")}, given
        arrays = {name.replace(".png", ".npy") for name in pictures} if "--raw" in options else set()
        assert arrays == {name for name in written if name.endswith(".npy")}, given


def _png_fields(table: Table) -> None:
    assert sorted(table.names()) == sorted(_READERS)


def _manifest_fields(table: Table) -> None:
    result = Result("a", Status.WRITTEN, page=1, reading="a", stamps={"a": (1, 2, 3)}, image_sha256="a", image_stamp=(1, 2, 3), estimates=({"mode": "a"},))  # fmt: skip
    plan = plan_from(MODEL, proof="never", allow_op=["X"], trust_model=True, mean=[0.5], std=[0.2], channel_order="bgr")
    known = {*result.record("now"), *course._safeguards(plan), *course._range(plan), course.MODEL, PROVED}
    assert set(table.names()) == known


def _inspect_fields(table: Table) -> None:
    known = {one.name for one in dataclasses.fields(Inspection)}
    added = set(re.findall(r'told\["(\w+)"\]|told\.update\(\{"(\w+)"|told\.update\((\w+)=', (ROOT / "gradviz_cli/cli/inspect.py").read_text()))  # fmt: skip
    told = set(table.names())
    assert known <= told and {name for one in added for name in one if name} <= told
    assert told <= set(re.findall(r"\w+", SOURCE))


def _statuses(table: Table) -> None:
    told = [(name, meaning, failed) for (name, (_, meaning, failed)) in zip(table.names(), table.rows, strict=True)]
    assert told == [(one.value, one.meaning, "yes" if one.failed else "no") for one in Status]


def _kinds(table: Table) -> None:
    raising = [text for path in (ROOT / "gradviz_cli").rglob("*.py") if "ImageError(" in (text := path.read_text())]
    raised = {
        node.args[0].value
        for text in raising
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "ImageError"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    told = set(table.names())
    assert raised <= told
    assert all(f'"{kind}"' in SOURCE for kind in told)


def _events(table: Table) -> None:
    said = set(re.findall(r'(?:_line|tell)\(\s*"(?:info|warning|error)", "([\w-]+)"', SOURCE))
    assert set(table.names()) == said


def _checks(table: Table) -> None:
    proof = "\n".join(path.read_text() for path in (ROOT / "gradviz_cli" / "worker" / "proof").glob("*.py"))
    (told,) = re.findall(r"^    (forward .*?)\n\n", proof, re.M | re.S)
    assert table.column() == re.findall(r"^ *([a-z]+)  ", "    " + told, re.M)


def _encoded(table: Table) -> None:
    """The sizes are about so much beside each other, on a map as noisy as that."""
    noise = np.minimum(np.abs(np.random.default_rng(0).normal(0, 38, (240, 320))), 255).astype(np.uint8)
    paletted = len(encode_png(noise, COLORMAPS["inferno"], ""))
    coloured = len(encode_png(COLORMAPS["inferno"][noise], None, ""))
    told = [float(table.rows[place][1].split()[0]) for place in (0, 2)]
    assert 0.8 < (coloured / paletted) / (told[1] / told[0]) < 1.25


def _traded(table: Table) -> None:
    _only_options(table)
    results = (ROOT / "tests" / "bench" / "RESULTS.md").read_text().split("### resnet50, 64 JPEGs")[1]
    for tool, shares in (("xplique", ("0.33", "0.32")), ("Captum (PyTorch)", ("0.44", "0.42"))):
        (row,) = re.findall(rf"^\| {re.escape(tool)} \| guided \| documented \|(.*)\|$", results, re.M)
        cells = [cell.strip() for cell in row.split("|")]
        assert (cells[3], cells[5]) == shares and all(share in _page("speed.md") for share in shares)


def _completions(table: Table) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    files = {f"{folder}/{Path(file).name}" for folder, file in setup["options.data_files"].items()}
    assert set(table.names(1)) <= files
    assert all((ROOT / file).is_file() for file in setup["options.data_files"].values())
    assert all(f"_GRADVIZ_COMPLETE={shell}_source" in line for shell, line in zip(table.column(), table.names(2), strict=True))  # fmt: skip


def _at_a_glance(table: Table) -> None:
    told = dict(table.rows)
    assert code(told["modes"]) == list(RULES) and code(told["styles"]) == names()
    named = re.sub(r"[^A-Z0-9]", "", told["IMAGES"].upper().replace("HEIC", "HEIF"))
    assert all(form in named for form in FORMATS)
    assert {int(one) for one in re.findall(r"\b\d+\b", told["exit codes"])} <= set(map(int, ExitCode))


def _ways(table: Table) -> None:
    """Each engine but the one that is taken by itself has its row; links are tried above."""
    named = " ".join(table.names(1))
    assert set(ENGINES) - {LOCAL} == set(re.findall(r"--engine (\w+)", named))
    assert set(re.findall(r"gradviz (\w+)", named)) <= set(COMMANDS)


def _losses(table: Table) -> None:
    count = {2: "two"}
    told = dict(table.rows)
    (node,) = (then for dies, then in table.rows if dies.startswith("a node"))
    assert f"{count[driver.AT_ONCE]} chunks, of about {driver.WORTH:g} seconds" in node
    error = driver._crashed(Job(Path("a"), "a")).error
    assert error and f"`{error['kind']}`" in told[f"{count[driver.LOSSES]} nodes over the same chunk"]
    (end,) = (then for dies, then in table.rows if f", {driver.IN_A_ROW} more than" in dies)
    assert f"exit code {int(ExitCode.USAGE)}" in end


def _requests(table: Table) -> None:
    """What a run really asks for is counted in test_docs_slow.py."""
    assert f"one every {lease.BEAT:g} seconds" in dict(zip(table.column(), table.column(2), strict=True))["PUT"]


def _arithmetic(table: Table) -> None:
    """Each row is computed again; letters are units."""
    for _, cell, makes in table.rows:
        (sum_,) = code(cell)
        spelled = sum_.replace(",", "").replace("^", "**").replace(" x ", " * ")
        computed = eval(re.sub(r"[A-Za-z]+", "", spelled), {"__builtins__": {}})
        assert float(makes.split()[0].replace(",", "")) == pytest.approx(computed, rel=0.03), sum_


def _extras(table: Table) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = {
        name: re.findall(r"^[\w-]+", text, re.M)
        for name, text in setup["options.extras_require"].items()
        if name not in ("test", "check")
    }
    assert {
        name: code(cell) for (name,), cell in zip(map(code, table.column()), table.column(1), strict=True)
    } == extras


def _rest(table: Table) -> None:
    """Held by the links."""
    assert len(table.rows) >= len(PAGES) - 1


# The head of every table there is -> what holds it to the program.
HELD: dict[tuple[str, ...], Callable[[Table], None]] = {
    ("exit code", "meaning", "what to do"): _exit_codes,
    ("mode", "what a ReLU lets through on the way back", "source"): _modes,
    ("you want", "take", "because"): _advice,
    ("style", "what is drawn", "zero is"): _styles,
    ("colormap", "colours"): _colormaps,
    ("`--preprocess`", "the model gets", "typical of"): _presets,
    ("option", ""): _only_options,
    ("option", "default", ""): _defaults,
    ("option", "gain", "what changes"): _traded,
    ("what you see", "usual cause", "what to do"): _troubles,
    ("given as MODEL", "is taken as"): _forms,
    ("from", "to a SavedModel"): _exports,
    ("output of the model", "what is explained"): _only_options,
    ("`-t`", "is"): _targets,
    ("part", "is there because"): _cron_parts,
    ("given", "written"): _names,
    ("field", ""): lambda table: FIELDS[table.page.name, table.names()[0]](table),
    ("status", "means", "failed"): _statuses,
    ("kind", "the image"): _kinds,
    ("event", "level", "besides `message`"): _events,
    ("check", "compares", "if it fails"): _checks,
    ("picture", "bytes", "time to encode"): _encoded,
    ("shell", "file in the wheel", "line", "stands in"): _completions,
    ("", ""): _at_a_glance,
    ("page", ""): _rest,
    ("estimator", "what is made of the gradient", "unit", "source"): _estimators,
    ("you want", "take", "what to know"): _which_estimator,
    ("figure", "how", "what it says"): _figures_of_check,
    ("verdict", "means"): _verdicts,
    ("given", "taken for"): _given_to_python,
    ("target", "explains"): _targets_of_python,
    ("attribute", ""): _attributes,
    ("extra", "brings", "for"): _extras,
    ("you have", "take"): _ways,
    ("what dies", "then"): _losses,
    ("request", "an image, first run", "a run"): _requests,
    **dict.fromkeys(((what, "arithmetic", "makes") for what in ("work", "disk", "on Ray", "in a store")), _arithmetic),
}
FIELDS = {
    ("formats.md", "version"): _png_fields,
    ("formats.md", "image"): _manifest_fields,
    ("formats.md", "model"): _inspect_fields,
    ("estimators.md", "completeness_gap"): _recorded,
}


@pytest.mark.parametrize("table", tables(), ids=lambda table: f"{table.page.name}: {table.head[0]}")
def test_tables_say_what_is_so(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(arrange(tmp_path))
    assert table.head in HELD, f"{table.page.name}: nothing checks the table {table.head}"
    HELD[table.head](table)


def test_each_check_has_its_table() -> None:
    assert {table.head for table in tables()} == set(HELD)
    assert [table.page.name for table in tables() if table.head[0] == "exit code"] == ["exit-codes.md"]  # said once


# ----------------------------------------------------------------------------------- what is made from the commands


# In a process of its own, as click remembers of a command by which options it was asked for help first.
MADE = "import json, runpy, sys; made = runpy.run_path(sys.argv[1])['words'](); print(json.dumps({str(k): v for k, v in made.items()}))"


def test_the_man_page_and_completions_are_those_of_the_commands() -> None:
    run = python(MADE, str(DOCS / "make.py"))
    assert run.returncode == 0, run.stderr
    for path, text in json.loads(run.stdout).items():
        assert Path(path).read_text() == text, f"{path} is not up to date: make docs"


def test_the_man_page_has_every_command_option_and_exit_code() -> None:
    page = (DOCS / "man" / "gradviz.1").read_text().replace("\\-", "-")
    for word in COMMANDS:
        section = page.split(f'.SS "gradviz {word} ')[1].split("\n.S")[0]
        for name in _options(word):
            assert not name.startswith("-") or re.search(rf"(^\.B|,| /) {name}\b", section, re.M), (word, name)
    assert all(re.search(rf"^\.B .*\b{int(code)}\b", page, re.M) for code in ExitCode)
    assert __version__ in page.splitlines()[0]


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff (apt) is not installed")
def test_the_man_page_is_one_that_man_takes() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", DOCS / "man" / "gradviz.1"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["ex"], ["explain"]),
        (["explain", "--style", "gray,pa"], ["gray,panel"]),
    ],
)
def test_bash_completes(typed: list[str], offered: list[str], tmp_path: Path) -> None:
    program = tmp_path / "gradviz"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gradviz_cli "$@"\n')
    program.chmod(0o755)
    ask = f"source {DOCS}/completions/gradviz && COMP_WORDS=(gradviz {' '.join(typed)}) COMP_CWORD={len(typed)} &&"
    ask += ' _gradviz_completion gradviz && printf "%s\\n" "${COMPREPLY[@]}"'
    surroundings = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, env=surroundings)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, offered, "")


def test_a_completion_is_no_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from gradviz_cli.cli import main

    monkeypatch.setenv("_GRADVIZ_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "gradviz explain --help-all --dry")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert main([]) == 0
    assert capsys.readouterr().out == "plain,--dry-run\n"


def test_a_shell_that_asks_behind_a_wrong_command_hears_nothing(monkeypatch, capsys) -> None:
    from gradviz_cli.cli import main

    monkeypatch.setenv("_GRADVIZ_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "gradviz explian --dry")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert main([]) == 0
    heard = capsys.readouterr()
    assert (heard.out.strip(), heard.err) == ("", "")


# ---------------------------------------------------------------------------------------------------------- citation


def test_the_citation_is_of_this_version_and_names_the_sources() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    keys = dict(re.findall(r"^([a-z-]+): *(.*)$", text, re.M))
    assert {"cff-version", "message", "title", "authors"} <= keys.keys()  # what the format wants
    assert keys["version"] == __version__ and keys["license"] == "Apache-2.0"
    for name, rule in RULES.items():
        number = re.findall(r"arXiv:(\d+\.\d+)", rule.source)[0]
        part = text.split(f"the mode {name}")[1].split("- type: generic")[0]
        assert f"arXiv:{number}" in part, name


# -------------------------------------------------------------------------------------------------------------- cron


def cron_line(tmp_path: Path, prefix: str) -> subprocess.CompletedProcess:
    """README's crontab line as cron runs it; a script stands for the program, with files here for those in /srv and /var."""
    (line,) = re.findall(r"^15 3 \* \* \*  (/opt/.*)$", README.read_text(), re.M)
    assert "%" not in line  # cron takes it for the end of a line
    places = {"/opt/gradviz/bin/gradviz": tmp_path / "gradviz", "/srv/": f"{tmp_path}/", "/var/log/": f"{tmp_path}/"}
    for there, here in places.items():
        line = line.replace(there, str(here))
    (tmp_path / "gradviz").write_text(f"#!/bin/sh\n{prefix}\n")
    (tmp_path / "gradviz").chmod(0o755)
    surroundings = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SHELL": "/bin/sh", "LOGNAME": "nobody"}
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(("code", "mailed"), [(0, False), (3, True), (8, False), (143, True)])
def test_the_crontab_line_mails_only_failures(tmp_path: Path, code: int, mailed: bool) -> None:
    run = cron_line(tmp_path, f"echo told >&2; exit {code}")
    assert run.stdout == (f"gradviz: exit code {code}, see {tmp_path}/gradviz.log\n" if mailed else "")
    assert run.stderr == "" and (tmp_path / "gradviz.log").read_text() == "told\n"


def test_the_crontab_line_is_one_that_the_program_takes(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "birds").symlink_to(MODEL)
    shutil.copy(next(IMAGES.iterdir()), tmp_path / "photos" / "a.jpg")
    run = cron_line(tmp_path, f'PYTHONPATH={ROOT} exec {sys.executable} -m gradviz_cli "$@"')
    assert (run.stdout, run.stderr, (tmp_path / "gradviz.log").read_text()) == ("", "", "")
    assert (tmp_path / "heatmaps" / "a.jpg.guided.png").is_file()
    (tmp_path / "photos" / "b.jpg").write_bytes(b"broken")
    run = cron_line(tmp_path, f'PYTHONPATH={ROOT} exec {sys.executable} -m gradviz_cli "$@"')
    assert run.stdout == f"gradviz: exit code 3, see {tmp_path}/gradviz.log\n"
    (event,) = map(json.loads, (tmp_path / "gradviz.log").read_text().splitlines())
    assert event["image"].endswith("/b.jpg") and event["time"]


# ----------------------------------------------------------------------------------------------------- many machines


def slurm() -> str:
    """The batch script of docs/scale.md."""
    (block,) = blocks("bash")
    assert "\n#SBATCH " in block.text
    return block.text


def kubernetes() -> str:
    """What the container of the job there runs: the lines folded into one, as `>-` means."""
    (block,) = blocks("yaml")
    assert 'command: ["/bin/sh", "-c"]' in block.text and "completions: 8\n" in block.text
    (folded,) = re.findall(r"- >-\n((?: {14}.*\n)+)", block.text)
    return " ".join(line.strip() for line in folded.splitlines())


def arguments_of(script: str, tmp_path: Path, code: int = 0, **surroundings: str) -> tuple[int, list[str]]:
    """Exit code of a script, and the arguments that it gives to gradviz; a script stands for that."""
    (tmp_path / "gradviz").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/given\nexit {code}\n')
    (tmp_path / "gradviz").chmod(0o755)
    done = subprocess.run(["/bin/sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin", **surroundings})
    return done.returncode, (tmp_path / "given").read_text().splitlines()


@pytest.mark.parametrize("where", ["slurm", "kubernetes"])
def test_recipes_for_many_machines_give_each_its_shard(tmp_path: Path, where: str) -> None:
    shards = []
    for number in range(8):
        if where == "slurm":
            (first, last) = re.findall(r"^#SBATCH -a (\d+)-(\d+)$", slurm(), re.M)[0]
            code, given = arguments_of(slurm(), tmp_path, SLURM_ARRAY_TASK_ID=str(int(first) + number))
            assert int(last) - int(first) == 7
        else:
            code, given = arguments_of(kubernetes(), tmp_path, JOB_COMPLETION_INDEX=str(number))
        assert code == 0 and given[0] == "explain"
        context = explain.make_context("explain", given[1:])
        shards.append(context.params["shard"])
        assert context.params["lock_wait"] == 600
    assert shards == [(number, 8) for number in range(1, 9)]


@pytest.mark.parametrize(
    ("code", "slurms", "kubernetess"), [(0, 0, 0), (3, 3, 0), (5, 5, 5), (11, 11, 11), (143, 143, 143)]
)
def test_recipes_hand_on_the_exit_code(tmp_path: Path, code: int, slurms: int, kubernetess: int) -> None:
    assert arguments_of(slurm(), tmp_path, code, SLURM_ARRAY_TASK_ID="1")[0] == slurms
    assert arguments_of(kubernetes(), tmp_path, code, JOB_COMPLETION_INDEX="0")[0] == kubernetess


# ------------------------------------------------------------------------------------------------------------ stores


def test_figures_of_stores_are_those_of_the_program() -> None:
    told = " ".join(_page("scale.md").split("## Object stores")[1].split("## A long manifest")[0].split())
    for text in (
        objects.EXTRA,
        f"Up to {objects.AT_ONCE} requests wait at once",
        f"given up after {objects.LONGEST:g} seconds",
        f"finds more than {bucket.MOST_SEGMENTS} of these",
        f"renews every {lease.BEAT:g} seconds",
        f"after {lease.SILENCE:g} seconds of silence",
    ):
        assert text in told


def test_figures_of_the_index_are_those_of_the_program() -> None:
    told = _page("scale.md")
    assert f"index, {2 * index.ROW.itemsize} bytes an image and output" in told
    assert f"of one row in {index.STEP}; rows have {index.ROW.itemsize}" in told
