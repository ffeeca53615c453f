"""What README and help say is so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradviz_cli.cli import COMMANDS, gradviz
from gradviz_cli.cli.explain import command as explain
from gradviz_cli.draw.styles import names
from gradviz_cli.errors import ExitCode
from gradviz_cli.files.toml import tomllib
from gradviz_cli.rules import RULES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_exit_codes_are_those_of_the_program() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", README, re.M)
    told = [int(code) for row in rows for code in row.split(",")]
    assert sorted(told) == sorted(2 * [int(code) for code in ExitCode])  # what they mean, and what to do


def test_every_mode_and_style_is_explained() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", README, re.M))
    untold = {*RULES, *names()} - told
    assert not untold, f"README.md lacks a row for {sorted(untold)}"


def test_every_option_named_in_the_readme_exists() -> None:
    known = {
        name for word in COMMANDS for parameter in gradviz.get_command(None, word).params for name in parameter.opts
    }
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]+)", README))
    assert named <= known


def test_every_command_has_help_that_fits_on_a_screen() -> None:
    for word in COMMANDS:
        shown = CliRunner().invoke(gradviz, [word, "--help"], terminal_width=100)
        assert shown.exit_code == 0
        assert len(shown.output.splitlines()) <= 40, word


def test_help_all_shows_every_option() -> None:
    shown = CliRunner().invoke(explain, ["--help-all"], terminal_width=100).output
    assert all(
        max(parameter.opts, key=len) in shown for parameter in explain.params if parameter.opts[0].startswith("-")
    )


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


def cron_line(tmp_path: Path, prefix: str) -> subprocess.CompletedProcess:
    """README's crontab line as cron runs it; a script stands for the program, with files here for those in /srv and /var."""
    (line,) = re.findall(r"^15 3 \* \* \*  (/opt/.*)$", README, re.M)
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
    (tmp_path / "models" / "birds").symlink_to(ROOT / "gradviz_cli" / "demo" / "model")
    shutil.copy(next((ROOT / "gradviz_cli" / "demo" / "images").iterdir()), tmp_path / "photos" / "a.jpg")
    run = cron_line(tmp_path, f'PYTHONPATH={ROOT} exec {sys.executable} -m gradviz_cli "$@"')
    assert (run.stdout, run.stderr, (tmp_path / "gradviz.log").read_text()) == ("", "", "")
    assert (tmp_path / "heatmaps" / "a.jpg.guided.png").is_file()
    (tmp_path / "photos" / "b.jpg").write_bytes(b"broken")
    run = cron_line(tmp_path, f'PYTHONPATH={ROOT} exec {sys.executable} -m gradviz_cli "$@"')
    assert run.stdout == f"gradviz: exit code 3, see {tmp_path}/gradviz.log\n"
    (event,) = map(json.loads, (tmp_path / "gradviz.log").read_text().splitlines())
    assert event["image"].endswith("/b.jpg") and event["time"]
