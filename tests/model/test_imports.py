"""TensorFlow's names are imported one by one in a worker: each is what a plain import gives, and no gradient is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from children import ROOT

WORKER = ROOT / "gradviz_cli" / "worker"

NAMES = """
import importlib, inspect, json, sys, typing
from gradviz_cli.worker.graph import tf_names
from gradviz_cli.worker.run import tensorflow as lean

def found(root, name):
    for part in name.split("."):
        root = getattr(root, part)
    return inspect.unwrap(root) if callable(root) else root

def told(value):  # importing the rest wraps some functions once more
    kind = type(value).__name__
    return [kind, getattr(value, "__module__", ""), getattr(value, "__qualname__", "")] if callable(value) else [kind, str(value)]

meant = []

def ours():  # while TensorFlow's library is being loaded
    importlib.import_module("gradviz_cli.worker.model")
    importlib.import_module("gradviz_cli.worker.inspection")
    meant.extend(name for name in sys.modules if name.startswith("tensorflow.python"))

before = typing.TypeVar, sys.modules["typing"]
lean.import_tensorflow(meanwhile=ours)
assert (typing.TypeVar, sys.modules["typing"]) == before
import tensorflow as tf
registry = importlib.import_module("tensorflow.python.framework.ops").gradient_registry
names = json.loads(sys.argv[1])
slim = {name: told(found(tf, name)) for name in names if not isinstance(found(tf, name), tf_names.Names)}
gradients = list(registry.list())
alone = isinstance(sys.modules["tensorflow"], tf_names.Names)
beside = sorted({name.split(".")[0] for name in sys.modules} & {"keras", "h5py", "scipy"})
beside += [name for name in ("tensorflow.python.data", "tensorflow.python.debug") if name in sys.modules]
assert tf.xla.experimental  # a name that no part of ours has asked for
lean.import_tensorflow(whole=True)
import tensorflow
plain = {name: told(found(tensorflow, name)) for name in slim}
print(json.dumps({"meant": meant, "alone": alone, "beside": beside, "slim": slim, "plain": plain, "gradients": gradients,
                  "all_gradients": list(registry.list()), "whole": isinstance(tensorflow, tf_names.Names)}))
"""


def called() -> list[str]:
    """The public names of TensorFlow that the worker's modules spell."""
    texts = [path.read_text() for path in WORKER.rglob("*.py")]
    return sorted(
        {name.rstrip(".") for text in texts for name in re.findall(r"\btf\.([A-Za-z_][\w.]*)", text)} - {"Example"}
    )


@pytest.fixture(scope="module")
def seen() -> dict:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", NAMES, json.dumps(called())]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_no_name_that_the_worker_calls_brings_in_the_rest(seen: dict) -> None:
    assert seen["alone"] and seen["beside"] == []


def test_our_own_modules_are_imported_while_the_library_is_loaded(seen: dict) -> None:
    assert seen["meant"] == [], "a module asks for a name of TensorFlow while it is imported, and waits for the library"


def test_each_name_is_what_a_plain_import_gives(seen: dict) -> None:
    assert len(seen["slim"]) > 60
    assert seen["slim"] == seen["plain"]


def test_a_name_that_is_listed_nowhere_brings_in_the_rest(seen: dict) -> None:
    assert not seen["whole"]


def test_no_gradient_of_an_allowed_operation_is_missing(seen: dict) -> None:
    rooms = json.loads((WORKER / "analysis" / "allowed_ops.json").read_text())
    allowed = {op for ops in rooms.values() for op in ops} - {"DebugGradientIdentity"}  # written as another
    assert len(seen["gradients"]) > 500
    assert not allowed & (set(seen["all_gradients"]) - set(seen["gradients"]))


def test_devices_of_others_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gradviz_cli.worker.graph import tf_names

    assert not tf_names.plugged()
    monkeypatch.setenv("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "/somewhere")
    assert tf_names.plugged()
    monkeypatch.delenv("TF_PLUGGABLE_DEVICE_LIBRARY_PATH")
    (tmp_path / "site-packages" / "tensorflow-plugins").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    assert tf_names.plugged()
