"""Requests and answers of a worker, without a process: each request, and each kind of failure."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny
from graphs import of_processors, pixels
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from gradviz_cli.process.protocol import (
    Explain,
    Explained,
    Failure,
    Inspect,
    Inspected,
    Load,
    Loaded,
    ModelOptions,
    check_arrays,
    expected_arrays,
    from_wire,
    to_wire,
)
from gradviz_cli.process.sandbox.enter import Sandbox
from gradviz_cli.worker import serve
from gradviz_cli.worker.analysis import policy
from gradviz_cli.worker.serve import Server

FULL = Sandbox("full", 1, True, ())
IMAGES = pixels((2, tiny.SIDE, tiny.SIDE, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("serve") / "tiny")


def answered(server: Server, request, *arrays):
    header, results = server.answer(to_wire(request), arrays)
    return from_wire(header, Loaded, Inspected, Explained, Failure), results


def test_the_import_counts_wherever_it_happened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, clock = Server(FULL), iter(range(1000, 9000, 7))
    monkeypatch.setattr(serve.time, "monotonic", lambda: float(next(clock)))
    server.import_ahead()
    loaded, _ = answered(server, Load(options(folder), ("guided",)))
    assert loaded.import_seconds == 14  # two looks at the clock ahead, and two at the first request


@pytest.fixture
def torn(folder: Path, tmp_path: Path) -> Path:
    """The model with one node that lacks its last input."""
    copy = Path(shutil.copytree(folder, tmp_path / "torn"))
    saved = SavedModel.FromString((copy / "saved_model.pb").read_bytes())
    nodes = [one for function in saved.meta_graphs[0].graph_def.library.function for one in function.node_def]
    (conv,) = [one for one in nodes if one.op == "Conv2D"]
    del conv.input[1:]
    (copy / "saved_model.pb").write_bytes(saved.SerializeToString())
    return copy


def options(path: Path) -> ModelOptions:
    return ModelOptions(str(path), preprocess="unit")


def test_load_then_explain(folder: Path):
    server = Server(FULL)
    loaded, none = answered(server, Load(options(folder), ("backprop",)))
    assert isinstance(loaded, Loaded) and none == () and loaded.facts.size == (16, 16) and loaded.sandbox == FULL
    request = Explain((0, -1), ("backprop", "guided"))
    explained, arrays = answered(server, request, IMAGES)
    assert isinstance(explained, Explained)
    check_arrays(arrays, expected_arrays(request, 2, (16, 16, 3)))


@pytest.mark.parametrize("asked", [False, True])
def test_each_step_is_verified_when_asked(folder: Path, monkeypatch, asked: bool):
    from gradviz_cli.worker import model

    verified = []
    monkeypatch.setattr(model, "verify", lambda graph, question=None: verified.append(graph))
    assert isinstance(answered(Server(FULL), Load(options(folder), verify=asked))[0], Loaded)
    assert len(verified) == (len(model.STEPS) if asked else 0)


def test_inspect(folder: Path):
    told = answered(Server(FULL), Inspect(options(folder)))[0].told
    assert told.chosen.output == "scores" and told.problem is None


def test_a_class_that_is_not_there_is_the_users_mistake(folder: Path):
    server = Server(FULL)
    answered(server, Load(options(folder), ("backprop",)))
    failure, arrays = answered(server, Explain((99,), ("backprop",)), IMAGES)
    assert (failure.kind, arrays) == ("UsageError", ()) and "the model has 5 classes" in failure.message
    assert isinstance(answered(server, Explain((1,), ("backprop",)), IMAGES)[0], Explained), "it goes on"


def test_a_model_that_is_not_there(tmp_path: Path):
    failure, _ = answered(Server(FULL), Load(options(tmp_path)))
    assert failure.kind == "ModelUnusable" and "saved_model.pb" in failure.message and failure.remedy


def test_a_graph_that_contradicts_itself_names_the_node_and_keeps_the_traceback(torn: Path):
    failure, _ = answered(Server(FULL), Load(options(torn)))
    assert failure.kind == "ModelUnusable"
    assert "the graph contradicts itself at node Conv2D (op Conv2D) while " in failure.message
    assert "-v" in failure.remedy and any("GraphError" in line for line in failure.traceback)


def test_a_sandbox_that_is_asked_for_comes_first(tmp_path: Path):
    lacking = Server(Sandbox("partial", 0, True, ("Landlock",)))
    for request in (Load, Inspect):
        failure, _ = answered(lacking, request(options(tmp_path), require_sandbox=True))
        assert failure.kind == "ModelRefused" and "Landlock" in failure.message


@of_processors
def test_images_that_the_model_fails_on(tmp_path: Path):
    server = Server(FULL)
    answered(server, Load(options(tiny.write(tmp_path / "fails", tiny.fails)), ("backprop",)))
    failure, _ = answered(server, Explain((0,), ("backprop",)), np.ones_like(IMAGES))
    assert failure.kind == "Failed" and failure.message.startswith(
        "the model failed on this image (InvalidArgumentError"
    )
    assert failure.traceback


class Raising:
    def __init__(self, error: Exception):
        self.error = error

    def explain(self, *arguments: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"), [(MemoryError(), "Memory"), (NameError("x"), "Bug"), (ValueError("odd"), "Failed")]
)
def test_what_goes_wrong_has_a_kind(error: Exception, kind: str):
    server = Server(FULL)
    server._model = Raising(error)
    assert answered(server, Explain((0,), ("backprop",)), IMAGES)[0].kind == kind


def test_memory_has_a_remedy_for_each_request(folder: Path, monkeypatch):
    from gradviz_cli.worker import model

    server = Server(FULL)
    server._model = Raising(MemoryError())
    assert "--batch-size" in answered(server, Explain((0,), ("backprop",)), IMAGES)[0].remedy

    def full(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(model, "prepare", full)
    failure, _ = answered(server, Load(options(folder)))
    assert (failure.kind, "free memory" in failure.remedy) == ("Memory", True)


def test_a_mistake_of_ours_is_a_bug(folder: Path, monkeypatch):
    from gradviz_cli.worker import model

    def wrong(*arguments: object) -> None:
        raise TypeError("a mistake")

    monkeypatch.setattr(model, "facts", wrong)
    failure, _ = answered(Server(FULL), Load(options(folder)))
    assert failure.kind == "Bug" and "TypeError: a mistake" in failure.message and failure.traceback


def test_explain_before_load():
    failure, _ = answered(Server(FULL), Explain((0,), ("backprop",)), IMAGES)
    assert "before a model was loaded" in failure.message


@of_processors
def test_without_a_full_sandbox_the_list_is_the_only_wall_and_narrower(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(policy.Walls, "full", True)  # put back at the end
    partial = Server(Sandbox("partial", 0, True, ("Landlock",)))
    drawing = tiny.write(tmp_path / "drawing", lambda images: tf.random.uniform(tf.shape(images)[:1]))
    assert isinstance(answered(partial, Load(options(folder)))[0], Loaded)
    refused = answered(partial, Load(options(drawing)))[0]
    assert refused.kind == "ModelRefused" and "RandomUniform" in refused.message
    assert "without a full sandbox" in refused.message and "--allow-op RandomUniform" in refused.remedy
    said = answered(partial, Inspect(options(drawing)))[0].told
    assert said.refused_ops[0].op == "RandomUniform" and "without a full sandbox" in (said.problem or "")
    assert isinstance(answered(partial, Load(replace(options(drawing), allow_ops=("RandomUniform",))))[0], Loaded)
    assert isinstance(answered(Server(FULL), Load(options(drawing)))[0], Loaded)


def test_what_is_walled_is_a_part_of_the_list():
    assert set(policy._groups()) > policy.WALLED
    assert "DecodeJpeg" in policy._allowed(True) - policy._allowed(False) and "Conv2D" in policy._allowed(False)
