"""What README and help say is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradviz_cli.cli import COMMANDS, gradviz
from gradviz_cli.cli.explain import command as explain
from gradviz_cli.cli.options import tomllib
from gradviz_cli.errors import ExitCode
from gradviz_cli.render import STYLES
from gradviz_cli.rules import RULES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_exit_codes_are_those_of_the_program() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", README, re.M)
    told = [int(code) for row in rows for code in row.split(",")]
    assert sorted(told) == sorted(2 * [int(code) for code in ExitCode])  # what they mean, and what to do


def test_every_mode_and_style_is_explained() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", README, re.M))
    assert set(RULES) | set(STYLES) | {"panel"} <= told


def test_every_option_named_in_the_readme_exists() -> None:
    known = {name for word in COMMANDS for parameter in gradviz.get_command(None, word).params for name in parameter.opts}
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]+)", README))
    assert named <= known


def test_every_command_has_help_that_fits_on_a_screen() -> None:
    for word in COMMANDS:
        shown = CliRunner().invoke(gradviz, [word, "--help"], terminal_width=100)
        assert shown.exit_code == 0
        assert len(shown.output.splitlines()) <= 50, word


def test_help_all_shows_every_option() -> None:
    shown = CliRunner().invoke(explain, ["--help-all"], terminal_width=100).output
    assert all(max(parameter.opts, key=len) in shown for parameter in explain.params if parameter.opts[0].startswith("-"))


def test_pictures_and_files_that_the_readme_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).is_file(), target


@pytest.mark.parametrize("language", ["toml", "python"])
def test_examples_are_valid(language: str) -> None:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    assert blocks
    for block in blocks:
        tomllib.loads(block) if language == "toml" else compile(block, "README", "exec")


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make (\w+)", README, re.M)):
        assert f"\n{target}:" in makefile, target
