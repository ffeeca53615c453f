"""Code that a file of Keras brings along meets the walls; without them it is not even asked for."""

from __future__ import annotations

import base64
import json
import marshal
import zipfile
from pathlib import Path

import keras
import pytest

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process.protocol import Convert, Failure, ModelOptions, from_wire, to_wire
from gradviz_cli.process.sandbox.enter import Sandbox
from gradviz_cli.worker.serve import Server


@pytest.mark.parametrize("level", ["none", "partial"])
def test_without_a_full_sandbox_it_is_refused(level: str) -> None:
    server = Server(Sandbox(level, 0, False, ("Landlock: this kernel does not have it",)))
    answer, _ = server.answer({**to_wire(Convert("m.keras", True))}, ())
    failure = from_wire(answer, Failure)
    assert failure.kind == "ModelRefused" and "m.keras" in failure.message and "Landlock" in failure.message
    assert "model.export" in failure.remedy


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_code_that_is_trusted_still_writes_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its file is not kept: the next run meets it anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    canary = tmp_path / "canary"
    net = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()])
    net.save(tmp_path / "plain.keras")
    code = compile(f"lambda x: (open({str(canary)!r}, 'w'), x)[1]", "layer", "eval").co_consts[0]
    evil = _with_code(tmp_path / "plain.keras", tmp_path / "m.keras", code)
    model = RemoteModel(ModelOptions(str(evil), trust_model=True), ("backprop",), 60.0)
    try:
        with pytest.raises(ModelUnusable, match="m.keras: Keras .*PermissionError"):
            model.load()
    finally:
        model.close()
    assert not canary.exists()
    assert not list((tmp_path / "cache" / "gradviz").iterdir())


def _with_code(source: Path, target: Path, code) -> Path:
    """The same file with another function in its Lambda layer, which Keras keeps as marshalled code."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                (layer,) = (one for one in config["config"]["layers"] if one["class_name"] == "Lambda")
                layer["config"]["function"]["config"]["code"] = base64.b64encode(marshal.dumps(code)).decode()
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return target
