"""The environment that a child gets: what TensorFlow needs, no secret, no module of a stranger."""

from __future__ import annotations

import os
import platform
import sys

import pytest

from gradviz_cli.process.sandbox.environment import scrubbed_environment

SECRETS = """
    AWS_SECRET_ACCESS_KEY GITHUB_TOKEN HF_TOKEN HTTPS_PROXY https_proxy TF_VAR_password TF_TOKEN_host
    TF_CLI_CONFIG_FILE NVIDIA_API_KEY SSH_AUTH_SOCK GOOGLE_APPLICATION_CREDENTIALS PYTHONSTARTUP PYTHONINSPECT
    KERAS_BACKEND PATH
"""


def test_environment_holds_no_secret(monkeypatch, tmp_path):
    for name in SECRETS.split():
        monkeypatch.setenv(name, "secret")
    found = scrubbed_environment(tmp_path)
    assert not set(SECRETS.split()) & set(found) and "secret" not in found.values()


def test_environment_holds_what_tensorflow_needs(monkeypatch, tmp_path):
    kept = {
        "LD_LIBRARY_PATH": "/opt/lib",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "2",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "1",
    }
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    found = scrubbed_environment(tmp_path, {"EXTRA": "1", "LANG": "C"})
    assert kept.items() <= found.items()
    assert found["HOME"] == found["TMPDIR"] == str(tmp_path)
    assert found["KERAS_HOME"] == str(tmp_path / ".keras")
    assert found["EXTRA"] == "1" and found["LANG"] == "C"


@pytest.mark.parametrize(("machine", "asked"), [("x86_64", "1"), ("AMD64", "1"), ("aarch64", None)])
def test_environment_asks_for_onednn_where_it_is_quicker(machine, asked, monkeypatch, tmp_path):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert scrubbed_environment(tmp_path).get("TF_ENABLE_ONEDNN_OPTS") == asked


def test_environment_takes_no_module_from_the_current_folder(monkeypatch, tmp_path, world):
    """A stranger's folder may hold a `json.py`; it must not run, sandbox or not."""
    trap = world.folder / "stranger"
    trap.mkdir()
    (trap / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep + "relative")
    monkeypatch.chdir(tmp_path)
    env = scrubbed_environment(world.facts["scratch"])
    entries = env["PYTHONPATH"].split(os.pathsep)
    assert str(tmp_path / "relative") in entries and "" not in entries
    assert world.value("report('own json')", env=env) == "own json"
    if hasattr(sys.flags, "safe_path"):  # Python 3.11
        assert world.value("report('own json')", env=env, cwd=trap) == "own json"
    del env["PYTHONSAFEPATH"]
    assert world.run("", env=env, cwd=trap)[0] == 9
