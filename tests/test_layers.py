"""Imports go down only, the command never reaches TensorFlow, and private TensorFlow is named in one file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gradviz_cli"

# Each room may import the rooms of the layers below its own; `worker` is reached as a process, but for its sandbox.
LAYERS = [
    {"errors", "version", "rules", "peek"},
    {"plan", "render", "images", "wire", "fingerprint", "scratch", "demo"},
    {"supervisor", "manifest", "inputs", "labels", "panel", "worker.sandbox"},
    {"remote", "reader", "decoders"},
    {"pictures", "gallery"},
    {"publisher"},
    {"engine", "api"},
    {"cli"},
]
WORKER_LAYERS = [
    {"worker.sandbox", "worker.lean", "worker.tf_private", "worker.savedmodel", "worker.parallel"},
    {"worker.expand", "worker.entry"},
    {"worker.spelled"},
    {"worker.weights", "worker.policy", "worker.patch", "worker.objects", "worker.fold", "worker.onednn", "worker.graph"},
    {"worker.score", "worker.gradient"},
    {"worker.ranges", "worker.loops", "worker.widen"},
    {"worker.model"},
    {"worker.inspection"},
    {"worker.serve"},
    {"worker.__main__"},
]
HEAVY = {"tensorflow", "keras", "google"}


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
        if "demo" not in path.relative_to(PACKAGE).parts
    }


def imported(source: str) -> set[str]:
    """Dotted names of everything that a module imports, wherever in it, but not for type checkers alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def rooms(name: str, source: str, known: set[str]) -> set[str]:
    """The rooms of gradviz that a module imports."""
    own = {dotted.removeprefix("gradviz_cli.") for dotted in imported(source) if dotted.startswith("gradviz_cli.")}
    return {room(dotted) for dotted in own if dotted in known} - {room(name)}


def room(name: str) -> str:
    return "cli" if name.split(".")[0] == "cli" else name


def layer(name: str, layers: list[set[str]]) -> int | None:
    return next((height for height, members in enumerate(layers) if room(name) in members), None)


def upward(name: str, source: str, known: set[str]) -> list[str]:
    """The imports of a module that do not go down."""
    inside = name.startswith("worker") and name != "worker.sandbox"
    layers = WORKER_LAYERS if inside else LAYERS
    wrong = []
    for target in rooms(name, source, known):
        if inside and not target.startswith("worker"):
            if target not in {"errors", "rules", "wire", "plan"}:
                wrong.append(target)
            continue
        there, here = layer(target, layers), layer(name, layers)
        if there is None or here is None or there >= here:
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("name", sorted(set(modules()) - {"__init__", "__main__", "worker"}))
def test_imports_go_down(name: str) -> None:
    known = set(modules()) - {"worker"}
    assert not upward(name, modules()[name].read_text(), known)


def test_the_layer_check_can_fail() -> None:
    known = set(modules()) - {"worker"}
    assert upward("plan", "from gradviz_cli import engine", known) == ["engine"]
    assert upward("engine", "from gradviz_cli.worker import model", known) == ["worker.model"]
    assert upward("worker.patch", "from gradviz_cli.worker.model import Model", known) == ["worker.model"]


@pytest.mark.parametrize("name", sorted(modules()))
def test_only_the_worker_knows_tensorflow(name: str) -> None:
    heavy = {dotted.split(".")[0] for dotted in imported(modules()[name].read_text())} & HEAVY
    assert not heavy or name.startswith("worker.")


def test_private_tensorflow_is_named_in_one_file_only() -> None:
    naming = {
        name
        for name, path in modules().items()
        if any(dotted.startswith("tensorflow.python") for dotted in imported(path.read_text()))
    }
    assert naming == {"worker.tf_private"}
