"""Imports go down one ordered list of rooms, the command never reaches TensorFlow, and private TensorFlow is named once."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "gradviz_cli"

# A room may import itself and the rooms before it in its list. Of what it may not name, it knows nothing.
COMMAND = [
    "errors",
    "rules",
    "estimators",
    "version",
    "files",
    "process",
    "plan",
    "images",
    "model",
    "draw",
    "batch",
    "check",
    "gallery",
    "figure",
    "settings",
    "explanation",
    "api",
    "demo",
    "cli",
]
WORKER = ["worker/graph", "worker/analysis", "worker/passes", "worker/read", "worker/run", "worker/proof", "worker"]
# What the worker shares with the command.
GROUND = ["errors", "rules", "estimators", "version", "files", "process"]
HEAVY = {"tensorflow", "keras", "google"}


@functools.cache
def modules() -> dict[str, Path]:
    """Every module by its path below the package, without `.py`; a package's `__init__` by the package's name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
        if not name.startswith("demo/"):
            found[name] = path
    return found


@functools.cache
def imported(source: str) -> set[str]:
    """Dotted names of everything that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def targets(name: str, source: str, known: set[str]) -> set[str]:
    """The modules of gradviz that a module imports."""
    own = {
        dotted.removeprefix("gradviz_cli.").replace(".", "/")
        for dotted in imported(source)
        if dotted.startswith("gradviz_cli.")
    }
    own = {target for target in own if target in known}
    return own - {name} - {package for package in own for other in own if other.startswith(f"{package}/")}


def room(name: str, rooms: list[str]) -> str | None:
    """The innermost room that a module lies in."""
    return max((one for one in rooms if name == one or name.startswith(f"{one}/")), key=len, default=None)


def upward(name: str, source: str, known: set[str]) -> list[str]:
    """The imports of a module that do not go down, sorted."""
    inside = name.startswith("worker") and room(name, GROUND) is None
    wrong = []
    for target in targets(name, source, known):
        rooms = WORKER if inside and room(target, GROUND) is None else COMMAND
        here, there = room(name, WORKER if inside else COMMAND), room(target, rooms)
        if inside and rooms is COMMAND:
            continue  # the ground
        if here is None or there is None or rooms.index(there) > rooms.index(here):
            wrong.append(target)
    return sorted(wrong)


@pytest.mark.parametrize("name", sorted(set(modules()) - {".", "__init__", "__main__"}))
def test_imports_go_down(name: str) -> None:
    known = set(modules())
    assert not upward(name, modules()[name].read_text(), known)


def test_the_layer_check_can_fail() -> None:
    known = set(modules())
    assert upward("errors", "from gradviz_cli.cli import explain", known) == ["cli/explain"]
    assert upward("cli/explain", "from gradviz_cli.worker import model", known) == ["worker/model"]
    assert upward("worker/passes/mark", "from gradviz_cli.worker.model import Model", known) == ["worker/model"]
    assert upward("worker/passes/mark", "def f():\n from gradviz_cli import api", known) == ["api"]


@pytest.mark.parametrize("name", sorted(modules()))
def test_only_the_worker_knows_tensorflow(name: str) -> None:
    heavy = {dotted.split(".")[0] for dotted in imported(modules()[name].read_text())} & HEAVY
    assert not heavy or name.startswith("worker/")


def test_private_tensorflow_is_named_in_one_file_only() -> None:
    naming = {
        name
        for name, path in modules().items()
        if any(dotted.startswith("tensorflow.python") for dotted in imported(path.read_text()))
    }
    assert naming == {"worker/graph/tf_private"}
