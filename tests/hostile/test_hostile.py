"""What hostile models and folders come to: refused or contained, with nothing written, read or contacted.

About a minute. Most models go through one worker process in its real sandbox.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import hostile_models as hostile
import numpy as np
import pytest
import tensorflow as tf
from hostile.confinement import confined
from hostile.pool import Pool, Pooled, assert_unharmed, clear, explained, named, outcome, written
from hostile_models import CASES, ODD_FOLDERS, Case, World

from gradviz_cli.errors import ModelUnusable
from gradviz_cli.model import fingerprint, peek
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process.protocol import Load, ModelOptions, to_wire
from gradviz_cli.process.sandbox import enter
from gradviz_cli.worker.analysis import policy
from gradviz_cli.worker.graph import tf_private
from gradviz_cli.worker.serve import Server

ROOT = Path(__file__).parents[2]


# ---- models


# TensorFlow waits ten seconds for memory before it gives up; and loops of TensorFlow 1 end by the same deadline as others.
PATIENT = ("filled_tensor", "memory_in_many_pieces", "old_loop_without_end")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if str(case) in PATIENT else case for case in CASES], ids=str
)
def test_model_is_refused_or_contained(case: Case, pool: Pool, w: World) -> None:
    folder = written(case, w)
    options = {"timeout": 20.0, **case.options}
    start = time.monotonic()
    what, said = outcome(Pooled(pool, folder, **options))
    assert what in case.outcome, said
    assert case.says in said or what == "runs"
    assert said.isprintable()
    assert len(said) < 2500
    assert time.monotonic() - start < options["timeout"] + 20
    assert_unharmed(w)


def test_a_harmless_twin_runs(pool: Pool, w: World) -> None:
    """The same network with nothing in it: what is refused above is refused for what it holds."""
    hostile.save(w.models / "harmless", hostile.network(lambda image: tf.identity(image)))
    model = Pooled(pool, w.models / "harmless")
    model.load()
    assert np.abs(explained(model).gradients["backprop"]).max() > 0


def test_there_are_at_least_thirty() -> None:
    assert len(CASES) >= 60
    assert len(ODD_FOLDERS) >= 10


ON_THE_PATH = ("writer_on_the_path", "writer_as_a_dataset_cache", "writer_in_a_branch", "writer_in_a_loop")


@confined
@pytest.mark.parametrize("name", ON_THE_PATH)
def test_a_trusted_writer_writes_nothing(name: str, pool: Pool, w: World) -> None:
    """The policy is out of force; the sandbox is not."""
    model = Pooled(pool, written(named(name), w), trust_model=True)
    outcome(model)
    assert_unharmed(w)


@confined
def test_a_trusted_reader_reads_nothing(w: World) -> None:
    for name in ("reader_of_passwd", "reader_in_a_shape"):
        model = RemoteModel(ModelOptions(str(written(named(name), w)), trust_model=True), ("backprop",), 20.0)
        try:
            what, said = outcome(model)
        finally:
            model.close()
        assert what in ("fails", "unusable")
        assert "ermission" in said or what == "unusable"


# Run in a process of its own, without sandbox: each model as TensorFlow loads it, then as gradviz would with no policy.
# Says which canaries each of the two has left.
UNCONFINED = """
import json, os, sys
import numpy as np
import tensorflow as tf
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.model import Model
canaries, plain, trusted = json.loads(sys.argv[1])
for path in plain:
    loaded = tf.saved_model.load(path)
    call, image = loaded.signatures["serving_default"], tf.ones([1, 8, 8, 3])
    call(image=image)
    if "gradient" in path:
        with tf.GradientTape() as tape:
            tape.watch(image)
            found = list(call(image=image).values())
        tape.gradient(found, image)
found = os.listdir(canaries)
for name in found:
    os.rename(os.path.join(canaries, name), os.path.join(canaries + ".before", name))
for path in trusted:
    model = Model(ModelOptions(path, trust_model=True), ("backprop",))
    model.explain(np.ones([1, 8, 8, 3], "f"), [-1], ["backprop"])
print(json.dumps([found, os.listdir(canaries)]))
"""
WRITERS = {
    "writer_in_main_op": "main_op",
    "writer_in_legacy_init_op": "legacy_init_op",
    "writer_in_init_signature": "init_signature",
    "writer_in_initializer": "initializer",
    "writer_in_restore_function": "restore_function",
    "writer_in_v1_restore": "v1_restore",
    "writer_in_custom_gradient": "custom_gradient",
    "writer_behind_a_control_input": "control",
    "writer_on_the_path": "debug",
    "writer_as_a_dataset_cache": "cache.index",
    "writer_in_a_branch": "branch",
    "writer_in_a_loop": "loop",
}


def test_the_proof_can_fail(w: World) -> None:
    """TensorFlow itself writes every one of these canaries, and so would gradviz without policy and sandbox."""
    plain = [str(written(named(name), w)) for name in WRITERS]
    trusted = [str(w.models / name) for name in ON_THE_PATH]
    Path(f"{w.canaries}.before").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", UNCONFINED, json.dumps([str(w.canaries), plain, trusted])],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    by_tensorflow, by_gradviz = map(set, json.loads(run.stdout))
    assert by_tensorflow >= set(WRITERS.values())
    assert by_gradviz >= {WRITERS[name] for name in ON_THE_PATH}
    clear(w)


# ---- the policy


def test_one_op_is_let_through(pool: Pool, w: World) -> None:
    folder = written(named("unlisted_operation"), w)
    assert outcome(Pooled(pool, folder))[0] == "refused"
    assert outcome(Pooled(pool, folder, allow_ops=("StringToNumber",)))[0] == "runs"
    assert outcome(Pooled(pool, folder, allow_ops=("ReadFile",)))[0] == "refused"
    assert outcome(Pooled(pool, folder, trust_model=True))[0] == "runs"


def test_a_refusal_names_op_node_and_remedy(pool: Pool, w: World) -> None:
    _, said = outcome(Pooled(pool, written(named("writer_on_the_path"), w)))
    assert "op DebugIdentity (node DebugIdentity)" in said
    assert "--allow-op DebugIdentity" in said
    assert "--trust-model" in said


def test_a_tensor_before_the_input_is_judged_too(pool: Pool, w: World) -> None:
    """--input cuts off what lies before it, but its shape is inferred with that still there."""
    folder = written(named("reader_in_a_shape"), w)
    what, said = outcome(Pooled(pool, folder, input="conv:0"))
    assert what == "refused"
    assert "ReadFile" in said


def test_inspecting_judges_before_tensorflow_sees_the_graph(pool: Pool, w: World) -> None:
    told = Pooled(pool, written(named("reader_in_a_shape"), w)).inspect()
    assert "ReadFile" in [one.op for one in told.refused_ops]
    assert told.cam_layers == ()
    told = Pooled(pool, written(named("writer_in_main_op"), w)).inspect()
    assert told.cam_layers
    assert_unharmed(w)


ALLOWED_STATE = re.compile(
    r"(Stateless)?(If|While|Case)$|TensorArray|ReadVariableOp|VariableShape|VarIsInitializedOp|ResourceGather(Nd)?$|CheckNumerics"
    r"|GuaranteeConst|HashTableV2|LookupTable(Find|Size)V2|Random|Stateful(Uniform|StandardNormal|TruncatedNormal)|Multinomial"
    r"|TruncatedNormal|SampleDistortedBoundingBox|RngReadAndSkip|StatelessRandomGetAlg"
)


def test_allowed_ops_do_nothing_but_compute() -> None:
    """Not a proof, but what is registered about each of them must not speak against it."""
    for op in policy.allowed_ops():
        definition = tf_private.op_def(op)
        assert definition is not None, f"{op} is not registered"
        assert definition.output_arg, f"{op} has no output: nothing can depend on it"
        assert not re.search(
            r"File|Save|Restore|Print|Py|Rpc|Send|Recv|Dataset|Iterator|Summary|Assign|Queue|Debug(?!Grad)|Call",
            op,
        )
        assert not definition.is_stateful or ALLOWED_STATE.match(op), f"{op} has state"
        functions = [attr.name for attr in definition.attr if "func" in attr.type]
        assert not functions or ALLOWED_STATE.match(op), f"{op} calls functions"


def test_sizes_are_refused_whoever_is_trusted(pool: Pool, w: World) -> None:
    for name in ("branches_that_double", "branches_that_call_each_other", "name_of_ten_megabytes"):
        assert outcome(Pooled(pool, written(named(name), w), trust_model=True))[0] == "refused"


# ---- folders


ODD_GRAPHS = (
    "fifo",
    "fifo_as_text",
    "folder_for_a_file",
    "links_in_a_circle",
    "unix_socket",
    "endless_device",
)


@pytest.mark.parametrize("name", ODD_GRAPHS)
def test_folder_is_refused_without_a_fingerprint(name: str, w: World) -> None:
    """`inspect` and the Python door come to the file first: none of them may wait for a pipe."""
    folder = written(named(name), w)
    assert peek.input_shape(folder, None, None) is None
    model = RemoteModel(ModelOptions(str(folder)), ("backprop",), 20.0)
    try:
        with pytest.raises(ModelUnusable):
            model.load()
    finally:
        model.close()


def test_a_signature_of_a_million_fields_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x12\x80\x89\x7a" + b"\x18\x00" * 1_000_000)
    start = time.monotonic()
    assert peek.input_shape(tmp_path, None, None) is None
    assert time.monotonic() - start < 0.5


@confined
def test_links_of_a_download_cache_are_followed(w: World) -> None:
    """Files that are links to blobs elsewhere, as download caches keep them, and a linked folder of weights."""
    source = w.models / "source"
    hostile._variable(source, [3])
    cached, blobs, linked = w.models / "cache" / "snapshot", w.models / "cache" / "blobs", w.models / "linked"
    (cached / "variables").mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate([source / "saved_model.pb", *(source / "variables").iterdir()]):
        shutil.copy(file, blobs / str(number))
        (cached / file.relative_to(source)).symlink_to(
            os.path.relpath(blobs / str(number), (cached / file.relative_to(source)).parent)
        )
    linked.mkdir()
    shutil.copy(source / "saved_model.pb", linked)
    (linked / "variables").symlink_to(source / "variables")
    for folder in (cached, linked):
        model = RemoteModel(ModelOptions(str(folder)), ("backprop",), 20.0)
        try:
            assert model.load().sandbox.level == "full"
            assert np.isfinite(explained(model).score).all()
        finally:
            model.close()
    assert fingerprint.of_model(cached) == fingerprint.of_model(source) == fingerprint.of_model(linked)


# ---- the sandbox asked for


def test_a_sandbox_that_is_asked_for_comes_before_the_model() -> None:
    lacking = Server(enter.Sandbox("partial", 0, True, ("Landlock: this kernel does not have it",)))
    header = to_wire(Load(ModelOptions("/nowhere"), require_sandbox=True))
    error = lacking.answer(header, ())[0]
    assert (error["type"], error["kind"]) == ("Failure", "ModelRefused")
    assert "Landlock" in error["message"]
    full = Server(enter.Sandbox("full", 1, True, ()))
    assert full.answer(header, ())[0]["kind"] == "ModelUnusable"  # it went on to the model, which is not there
