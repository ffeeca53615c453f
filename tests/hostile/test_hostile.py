"""What hostile models, folders and workers come to: refused or contained, with nothing written, read or contacted.

About two minutes on two cores. Most models go through one worker process in its real sandbox; some through the command.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile_models as hostile
import numpy as np
import pytest
import tensorflow as tf
from commands import gradviz
from hostile_models import CASES, ODD_FOLDERS, SIDE, Case, World
from PIL import Image
from test_sandbox import confined

from gradviz_cli import cli
from gradviz_cli.errors import ExitCode, GradvizError, ImageError, ModelRefused, ModelUnusable, UsageError
from gradviz_cli.model import fingerprint, peek, remote
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process import machine, wire
from gradviz_cli.process.protocol import Explain, Facts, Failure, InputFacts, Load, Loaded, ModelOptions, Row, to_wire
from gradviz_cli.process.sandbox import enter
from gradviz_cli.process.sandbox.environment import scrubbed_environment
from gradviz_cli.process.supervisor import Child, ChildLost
from gradviz_cli.worker.analysis import policy
from gradviz_cli.worker.graph import tf_private
from gradviz_cli.worker.serve import Server

ROOT = Path(__file__).parents[2]
WORD = {ExitCode.USAGE: "usage", ExitCode.MODEL_UNUSABLE: "unusable", ExitCode.MODEL_REFUSED: "refused"}
CODE = {"runs": 0, "fails": 4, "unusable": 5, "refused": 6}
# A model that eats memory is to meet its end long before this machine does.
LITTLE_MEMORY = 3 * 2**30


class Pool:
    """One worker for many models, started anew when a model was its end."""

    def __init__(self, folder: Path, scratch: Path):
        self.folder, self.scratch = folder, scratch
        self.child: Child | None = None
        scratch.mkdir()

    def alive(self) -> Child:
        if self.child is None or self.child._process.poll() is not None:
            config = {"read": [str(self.folder)], "scratch": str(self.scratch), "memory_limit": LITTLE_MEMORY}
            environment = scrubbed_environment(self.scratch)
            self.child = Child("gradviz_cli.worker", config, environment, str(self.scratch))
        return self.child


class Pooled(RemoteModel):
    """A model behind the worker of a pool."""

    def __init__(self, pool: Pool, path: Path, timeout: float = 20.0, **options):
        super().__init__(ModelOptions(str(path), **options), ("backprop",), timeout)
        self.pool = pool

    def _start(self, path: str, files: list[Path]) -> Child:
        return self.pool.alive()


ODD_GRAPHS = (
    "fifo",
    "fifo_as_text",
    "folder_for_a_file",
    "links_in_a_circle",
    "unix_socket",
    "endless_device",
)


@pytest.fixture(scope="module")
def w(tmp_path_factory) -> Iterator[World]:
    with hostile.world(tmp_path_factory.mktemp("hostile")) as world:
        yield world


@pytest.fixture(scope="module")
def pool(w: World) -> Iterator[Pool]:
    pool = Pool(w.models, w.models.parent / "scratch")
    yield pool
    if pool.child is not None:
        pool.child.close()


def written(case: Case, w: World, name: str = "") -> Path:
    """The case's model, and no canary that writing it may have left."""
    folder = w.models / (name or case.name)
    if not folder.exists():
        case.write(folder, w)
    clear(w)
    return folder


def clear(w: World) -> None:
    for canary in w.canaries.iterdir():
        shutil.rmtree(canary) if canary.is_dir() else canary.unlink()


def named(name: str) -> Case:
    return next(case for case in (*CASES, *ODD_FOLDERS) if case.name == name)


def outcome(model: RemoteModel) -> tuple[str, str]:
    """(`runs`, `fails`, `unusable`, `refused` or `usage`, what was said)."""
    try:
        model.load()
        row = explained(model)
    except GradvizError as error:
        return WORD[error.code], str(error)
    return ("fails", f"{row.kind}: {row.message}") if isinstance(row, ImageError) else ("runs", "")


def explained(model: RemoteModel) -> Row | ImageError:
    """What becomes of one image."""
    return list(model.explain(picture(), Explain((-1,), ("backprop",))))[0]


def picture() -> np.ndarray:
    return np.random.default_rng(0).random((1, SIDE, SIDE, 3)).astype(np.float32)


def assert_unharmed(w: World) -> None:
    assert not list(w.canaries.iterdir())
    assert w.secret.read_text() == "31337"
    assert not w.connected()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", w.free_port), 1).close()


# --- models -----------------------------------------------------------------------------------------------------------


# TensorFlow waits ten seconds for memory before it gives up.
PATIENT = ("filled_tensor", "memory_in_many_pieces")


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
UNCONFINED = """
import sys
import numpy as np
import tensorflow as tf
from gradviz_cli.process.protocol import ModelOptions
from gradviz_cli.worker.model import Model
for path in sys.argv[1:]:
    if path.startswith("trusted:"):
        model = Model(ModelOptions(path.removeprefix("trusted:"), trust_model=True), ("backprop",))
        model.explain(np.ones([1, 8, 8, 3], "f"), [-1], ["backprop"])
        continue
    loaded = tf.saved_model.load(path)
    call, image = loaded.signatures["serving_default"], tf.ones([1, 8, 8, 3])
    call(image=image)
    if "gradient" in path:
        with tf.GradientTape() as tape:
            tape.watch(image)
            found = list(call(image=image).values())
        tape.gradient(found, image)
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
    paths = [str(written(named(name), w)) for name in WRITERS]
    assert unconfined(*paths, w=w) >= set(WRITERS.values())
    clear(w)
    trusted = [f"trusted:{w.models / name}" for name in ON_THE_PATH]
    assert unconfined(*trusted, w=w) >= {WRITERS[name] for name in ON_THE_PATH}
    clear(w)


def unconfined(*paths: str, w: World) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", UNCONFINED, *paths],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return {path.name for path in w.canaries.iterdir()}


# --- the policy -------------------------------------------------------------------------------------------------------


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
    r"|TruncatedNormal|RngReadAndSkip|StatelessRandomGetAlg"
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


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ODD_FOLDERS, ids=str)
def test_folder_is_refused_by_the_command(case: Case, w: World, tmp_path: Path) -> None:
    run, seconds = explain(written(case, w), tmp_path)
    assert run.returncode == CODE[case.outcome[0]], run.stderr
    assert case.says in run.stderr
    assert_in_order(run, seconds)
    assert_unharmed(w)


@pytest.mark.parametrize("name", ODD_GRAPHS)
def test_folder_is_refused_without_a_fingerprint(name: str, w: World) -> None:
    """`inspect` and the Python door come to the file first: none of them may wait for a pipe."""
    folder = written(named(name), w)
    assert not peek.mentions(folder, b"x")
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


# --- the command ------------------------------------------------------------------------------------------------------


def explain(folder: Path, tmp_path: Path, *options: str) -> tuple[subprocess.CompletedProcess, float]:
    """Run `gradviz explain` on one image, in a folder of its own; (result, seconds)."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "tmp").mkdir()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 20, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    search = os.environ.get("PYTHONPATH", str(ROOT))
    search = search if str(ROOT) in search.split(os.pathsep) else f"{search}{os.pathsep}{ROOT}"
    env = {"PYTHONPATH": search, "TMPDIR": str(tmp_path / "tmp")}
    fixed = ["-o", "out", "-m", "backprop", "--timeout", "10"]
    start = time.monotonic()
    run = gradviz("explain", folder, "a.png", *fixed, *options, cwd=tmp_path, env=env)
    seconds = time.monotonic() - start
    assert not processes_about(tmp_path), "a worker is left behind"
    return run, seconds


def processes_about(folder: Path) -> list[str]:
    """Processes whose command line names a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [text for text in [file.read_text()] if str(folder) in text]
        except OSError:  # it has just ended
            continue
    return found


def assert_in_order(run: subprocess.CompletedProcess, seconds: float) -> None:
    """A line or two, no traceback, nothing left behind, in time."""
    assert "Traceback" not in run.stderr
    assert "internal error" not in run.stderr
    assert run.stdout == ""
    lines = [line for line in run.stderr.splitlines() if "warning" not in line]
    assert len(lines) <= 1 + (run.returncode == 4)
    assert all(len(line) < 3000 for line in lines)
    assert seconds < 60


COMMANDED = (
    "writer_in_main_op",
    "writer_in_nested_functions",
    "reader_of_passwd",
    "functions_that_double",
    "constant_of_ten_billion_numbers",
    "input_of_ten_billion_pixels",
    "loop_without_end",
    "index_that_promises_too_much",
    "terminal_codes_in_names",
    "cycle_without_a_loop",
    "empty_file",
)


def test_the_command_ends_in_order(w: World, tmp_path: Path) -> None:
    """Exit code, one line, nothing left behind; two at a time."""
    folders = {name: written(named(name), w) for name in COMMANDED}
    with ThreadPoolExecutor(2) as two:
        futures = {name: two.submit(explain, folder, tmp_path / name) for name, folder in folders.items()}
        for name, future in futures.items():
            run, seconds = future.result()
            assert run.returncode in [CODE[what] for what in named(name).outcome], (name, run.stderr)
            assert_in_order(run, seconds)
            assert not list((tmp_path / name / "tmp").iterdir()), f"{name} left temporary files"
            assert run.returncode == 0 or not list((tmp_path / name / "out").glob("*.png"))
    assert_unharmed(w)


@confined
def test_the_command_contains_what_is_trusted(w: World, tmp_path: Path) -> None:
    run, seconds = explain(written(named("writer_in_a_branch"), w), tmp_path / "a", "--trust-model")
    assert run.returncode in (0, 4)
    assert_in_order(run, seconds)
    run, seconds = explain(
        written(named("reader_of_passwd"), w),
        tmp_path / "b",
        "--allow-op",
        "ReadFile",
        "--allow-op",
        "StringLength",
    )
    assert run.returncode in (4, 5)
    assert_in_order(run, seconds)
    assert_unharmed(w)


# --- memory, disk, the sandbox asked for --------------------------------------------------------------------------------


def test_memory_limit_follows_machine_and_container(monkeypatch) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(machine, "_container_limits", lambda: [])
    assert machine.memory_limit() == max(machine.LEAST_MEMORY, int(0.8 * physical))
    monkeypatch.setattr(machine, "_container_limits", lambda: [10 * 2**30])
    assert machine.memory_limit() == min(8 * 2**30, max(machine.LEAST_MEMORY, int(0.8 * physical)))
    monkeypatch.setattr(machine, "_container_limits", lambda: [2**30])
    assert machine.memory_limit() == machine.LEAST_MEMORY


def test_a_sandbox_that_is_asked_for_comes_before_the_model() -> None:
    lacking = Server(enter.Sandbox("partial", 0, True, ("Landlock: this kernel does not have it",)))
    header = to_wire(Load(ModelOptions("/nowhere"), require_sandbox=True))
    error = lacking.answer(header, ())[0]
    assert (error["type"], error["kind"]) == ("Failure", "ModelRefused")
    assert "Landlock" in error["message"]
    full = Server(enter.Sandbox("full", 1, True, ()))
    assert full.answer(header, ())[0]["kind"] == "ModelUnusable"  # it went on to the model, which is not there


# Found by every Python that starts with it on its path: a kernel without Landlock, as far as the worker can see.
OLD_KERNEL = """
import errno, sys
from gradviz_cli.process.sandbox import kernel
real = kernel.system
def system(name, *arguments):
    if name.startswith("landlock"):
        raise OSError(errno.ENOSYS, "no such call")
    return real(name, *arguments)
kernel.system = system
"""


def test_the_command_refuses_or_says_that_there_is_no_sandbox(
    w: World, plain_model: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sitecustomize.py").write_text(OLD_KERNEL)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'old'}{os.pathsep}{ROOT}")
    run, _ = explain(plain_model, tmp_path / "a", "--require-sandbox", "--preprocess", "unit")
    assert run.returncode == 6
    assert "--require-sandbox" in run.stderr
    assert "Landlock" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    run, _ = explain(plain_model, tmp_path / "b", "--preprocess", "unit")
    assert run.returncode == 0
    assert len(re.findall("without a full sandbox", run.stderr)) == 1


# --- workers that were taken over ---------------------------------------------------------------------------------------

FACTS = to_wire(
    Loaded(
        Facts(
            *("x", "x", InputFacts("x", (None, SIDE, SIDE, 3), "float32"), "x", "x", None, None, 4, (SIDE, SIDE), 3),
            *("unit", {"Relu": (1, 1)}, 0, 0, ()),
        ),
        0.1,
        0.1,
        enter.Sandbox("full", 1, True, ()),
    )
)

# A worker that answers as its behaviour says: Python lines with `send(header, *arrays)`, `raw(bytes)` and `facts`.
FAKE = """
import json, os, signal, struct, sys, time
import numpy as np
from gradviz_cli.process import wire
config = json.loads(sys.argv[1])
facts = json.loads(os.environ["FACTS"])
fill = wire.fill_from(config["in"])
send = lambda header, *arrays: wire.send(config["out"], header, arrays)
say = lambda *arrays: send({"type": "Explained"}, *arrays)
def raw(data):
    view = memoryview(data)
    while view:
        view = view[os.write(config["out"], view):]
def head(text):
    raw(struct.pack("<Q", len(text)) + text)
requests = 0
while True:
    try:
        request, arrays = wire.receive(fill)
    except wire.Closed:
        break
    behave = os.environ["LOADING"] if request["type"] == "Load" else os.environ["EXPLAINING"]
    exec(behave)
"""

LOADING = {
    "says nothing": ("time.sleep(99)", "no answer"),
    "sends garbage": ("raw(bytes(range(256)) * 100)", "nonsense"),
    "sends zeros": ("raw(bytes(100))", "nonsense"),
    "sends a giant header": ("raw(struct.pack('<Q', 2**62))", "nonsense"),
    "sends half a header": ("raw(struct.pack('<Q', 100) + b'{'); time.sleep(99)", "no answer"),
    "sends half a header and ends": ("raw(struct.pack('<Q', 100) + b'{'); os._exit(0)", "ended with code 0"),
    "sends no JSON": ("head(b'what?')", "nonsense"),
    "sends a list": ("head(b'[1, 2]')", "nonsense"),
    "sends deep JSON": ("head(b'[' * 1000000)", "nonsense"),
    "sends deep facts": (
        "head(b'{\"type\": \"Loaded\", \"facts\": ' + b'[' * 900 + b']' * 900 + b', \"arrays\": []}')",
        "nonsense",
    ),
    "sends a giant array": (
        'head(b\'{"arrays": [{"shape": [99999999999], "dtype": "float32"}]}\')',
        "nonsense",
    ),
    "sends many large arrays": (
        "head(json.dumps({'arrays': [{'shape': [2**30], 'dtype': 'uint8'}] * 1000}).encode())",
        "nonsense",
    ),
    "sends an infinite array": (
        'head(b\'{"arrays": [{"shape": [1e999], "dtype": "float32"}]}\')',
        "nonsense",
    ),
    "sends an array of many axes": (
        "head(json.dumps({'arrays': [{'shape': [1] * 99, 'dtype': 'float32'}]}).encode())",
        "nonsense",
    ),
    "sends objects": ('head(b\'{"arrays": [{"shape": [1], "dtype": "object"}]}\')', "nonsense"),
    "sends an array that was not asked for": ("send(facts, np.zeros(9, np.float32))", "nonsense"),
    "sends no facts": ("send({})", "nonsense"),
    "sends facts without a size": ("del facts['facts']['size']; send(facts)", "nonsense"),
    "sends facts of another kind": ("facts['facts']['activations'] = 7; send(facts)", "nonsense"),
    "sends a size below zero": ("facts['facts']['size'] = [-1, 8]; send(facts)", "nonsense"),
    "sends a size that is no number": ("facts['facts']['size'] = ['8', 8]; send(facts)", "nonsense"),
    "sends an unknown preprocess": ("facts['facts']['preprocess'] = '../..'; send(facts)", "nonsense"),
    "sends warnings that are none": ("facts['facts']['warnings'] = [{}]; send(facts)", "nonsense"),
    "sends an error without a class": ("send({'type': 'Failure'})", "nonsense"),
    "sends an error that is none": (
        "send({'type': 'Failure', 'kind': 7, 'message': '', 'remedy': '', 'traceback': []})",
        "nonsense",
    ),
    "sends an error of Python's": (
        "send({'type': 'Failure', 'kind': 'SystemExit', 'message': 'bye', 'remedy': '', 'traceback': []})",
        "bye",
    ),
    "sends terminal codes": (
        "send({'type': 'Failure', 'kind': 'ModelUnusable', 'message': 'a\\x1b[2Jb\\nc', 'remedy': 'd', 'traceback': []})",
        "a\\x1b[2Jb\\nc",
    ),
    "closes its pipe and stays": ("os.close(config['out']); time.sleep(99)", "closed its pipe"),
    "ends by an odd signal": ("os.kill(os.getpid(), 50)", "signal 50"),
    "ends by a crash": ("os.abort()", "SIGABRT"),
    "says that memory ran out": ("os.write(2, b'terminate: std::bad_alloc'); os.abort()", "memory"),
    "shouts on its standard error": (
        "[os.write(2, b'x' * 65536) for _ in range(300)]; os._exit(7)",
        "ended with code 7",
    ),
    "fills the disk": (
        "open('big', 'wb').write(bytes(2**20)); [os.posix_fallocate(os.open('f%d' % i, 65), 0, 2**25) for i in range(20)]; time.sleep(99)",
        "temporary files",
    ),
}


class Taken(RemoteModel):
    """A model whose worker does what a behaviour says."""

    def __init__(self, folder: Path, loading: str, explaining: str = "", timeout: float = 2.0):
        super().__init__(ModelOptions(str(folder)), ("backprop",), timeout)
        self.behaviour = {"LOADING": loading, "EXPLAINING": explaining, "FACTS": json.dumps(FACTS)}

    def _start(self, path: str, files: list[Path]) -> Child:
        folder = self._folder()
        script = Path(folder).with_suffix(".modules")
        script.mkdir(exist_ok=True)
        (script / "taken_over.py").write_text(FAKE)
        environment = {**os.environ, **self.behaviour, "PYTHONPATH": f"{script}{os.pathsep}{ROOT}"}
        return Child("taken_over", {}, environment, folder, lambda: remote._overfull(folder))

    def _load_timeout(self, files: list[Path]) -> float:
        return 3.0

    def close(self) -> None:
        super().close()
        if self._scratch is not None:
            shutil.rmtree(Path(self._scratch.path).with_suffix(".modules"), ignore_errors=True)


@pytest.fixture
def plain_model(w: World) -> Path:
    folder = w.models / "plain"
    if not folder.exists():
        hostile.save(folder, hostile.network())
    return folder


@pytest.mark.parametrize("behaviour", LOADING)
def test_a_worker_that_lies_at_load_is_ended(behaviour: str, plain_model: Path) -> None:
    doing, says = LOADING[behaviour]
    model = Taken(plain_model, doing)
    try:
        with pytest.raises(ModelUnusable, match=re.escape(says)) as raised:
            model.load()
        assert str(raised.value).isprintable()
        if "error" not in behaviour and "codes" not in behaviour:
            assert model._child._process.poll() is not None
    finally:
        model.close()


def test_a_worker_may_ask_for_no_giant_picture(plain_model: Path) -> None:
    model = Taken(plain_model, "facts['facts']['size'] = [100000, 100000]; send(facts)")
    try:
        with pytest.raises(ModelRefused, match="100000x100000"):
            model.load()
    finally:
        model.close()


GOOD = "i = np.zeros([1, 1], np.int32); f = np.zeros([1, 1], np.float32); g = np.zeros([1, 1, 8, 8, 3], np.float32); "
EXPLAINING = {
    "says nothing": ("time.sleep(99)", "timeout"),
    "sends nothing": ("send({})", "crash"),
    "names a class below 0": ("say(i - 9, i, f, f, g)", "crash"),
    "sends too little": ("say(i, i, f, f)", "crash"),
    "sends too much": ("say(i, i, f, f, g, g)", "crash"),
    "sends another shape": ("say(i, i, f, f, g[..., 0])", "crash"),
    "sends another type": ("say(f, i, f, f, g)", "crash"),
    "sends a large array": ("say(i, i, f, f, np.zeros([1, 1, 800, 800, 3], np.float32))", "crash"),
    "sends an error that is none": ("send({'type': 'Failure', 'kind': []})", "crash"),
    "sends an image's error": (
        "send({'type': 'Failure', 'kind': 'Failed', 'message': 'no\\x07', 'remedy': '', 'traceback': []})",
        "model",
    ),
    "ends": ("os._exit(1)", "crash"),
}


@pytest.mark.parametrize("behaviour", EXPLAINING)
def test_a_worker_that_lies_about_an_image_costs_the_image(behaviour: str, plain_model: Path) -> None:
    doing, kind = EXPLAINING[behaviour]
    model = Taken(plain_model, "send(facts)", GOOD + doing)
    try:
        model.load()
        row = explained(model)
        assert row.kind == kind
        assert row.message.isprintable()
        if kind != "model":  # three in a row are the model's fault
            explained(model)
            with pytest.raises(ModelUnusable, match="3 different images"):
                explained(model)
    finally:
        model.close()


def test_an_honest_fake_is_believed(plain_model: Path) -> None:
    """The fake itself works: what is refused above is refused for what it does."""
    model = Taken(plain_model, "send(facts)", GOOD + "say(i, i, f, f, g)")
    try:
        assert model.load().facts.classes == 4
        assert explained(model).gradients["backprop"].shape == (1, SIDE, SIDE, 3)
    finally:
        model.close()


def test_a_worker_that_does_not_listen_is_not_waited_for(plain_model: Path) -> None:
    """The request is larger than a pipe holds."""
    model = Taken(plain_model, "send(facts); time.sleep(99)")
    try:
        model.load()
        many = np.zeros([4000, SIDE, SIDE, 3], np.float32)
        model._request = Explain((-1,), ("backprop",))
        start = time.monotonic()
        with pytest.raises(ChildLost, match="no answer"):
            model._ask(many)
        assert time.monotonic() - start < 5
    finally:
        model.close()


@pytest.mark.parametrize(("loading", "code"), [("raw(bytes(100))", 5), ("os.abort()", 5), ("send({})", 5)])
def test_the_command_ends_in_order_with_a_worker_that_lies(
    loading, code, plain_model, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9)).save("a.png")

    def start(self, path, files):
        fake = Taken(plain_model, loading)
        self._folder()
        fake._scratch = self._scratch
        return fake._start(path, files)

    monkeypatch.setattr(RemoteModel, "_start", start)
    assert cli.main(["explain", str(plain_model), "a.png", "-m", "backprop", "-o", "out"]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "internal error" not in said


def test_texts_are_made_printable_and_short() -> None:
    assert wire.plain({"a\n": ["b\x1b", 1, None, {"c": "d\u202e"}]}) == {"a\\n": ["b\\x1b", 1, None, {"c": "d\\u202e"}]}
    error = remote._as_exception(Failure("UsageError", "x" * 10**6, "y"), "m")
    assert isinstance(error, UsageError)
    assert len(str(error)) < 1200
