"""Workers that were taken over by a model: what they may answer instead of what they were asked."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from hostile_models import SIDE

from gradviz_cli.files.scratch import overfull
from gradviz_cli.model.remote import MAX_SCRATCH, RemoteModel
from gradviz_cli.process.protocol import Facts, InputFacts, Loaded, ModelOptions, to_wire
from gradviz_cli.process.sandbox import enter
from gradviz_cli.process.supervisor import Child

ROOT = Path(__file__).parents[2]

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

# What a process in the place of a child begins with: it can speak as one, and write bytes that no child would.
SPEAKS = """
import json, os, signal, struct, sys, time
import numpy as np
from gradviz_cli.process import wire
config = json.loads(sys.argv[1])
fill = wire.fill_from(config["in"])
send = lambda header, *arrays: wire.send(config["out"], header, arrays)
def raw(data):
    view = memoryview(data)
    while view:
        view = view[os.write(config["out"], view):]
def head(text):
    raw(struct.pack("<Q", len(text)) + text)
"""
# A worker that answers as its behaviour says: Python lines with `send(header, *arrays)`, `raw(bytes)` and `facts`.
FAKE = (
    SPEAKS
    + """
facts = json.loads(os.environ["FACTS"])
say = lambda *arrays: send({"type": "Explained"}, *arrays)
requests = 0
while True:
    try:
        request, arrays = wire.receive(fill)
    except wire.Closed:
        break
    behave = os.environ["LOADING"] if request["type"] == "Load" else os.environ["EXPLAINING"]
    exec(behave)
"""
)


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
    "sends inner tensors that nobody asked for": (
        "facts['facts']['taps'] = [{'kind': 'cam', 'tensors': ['x:0'], 'size': [4, 4], 'axes': [], 'certain': True}]; send(facts)",
        "nonsense",
    ),
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


class Taken(RemoteModel):
    """A model whose worker does what a behaviour says; seconds are short where they are waited for."""

    def __init__(
        self,
        folder: Path,
        loading: str,
        explaining: str = "",
        timeout: float = 20.0,
        load_timeout: float = 20.0,
        method: str = "backprop",
    ):
        super().__init__(ModelOptions(str(folder)), (method,), timeout)
        self._patience = load_timeout
        self.behaviour = {"LOADING": loading, "EXPLAINING": explaining, "FACTS": json.dumps(FACTS)}

    def _start(self, path: str, files: list[Path]) -> Child:
        folder = self._folder()
        script = Path(folder).with_suffix(".modules")
        script.mkdir(exist_ok=True)
        (script / "taken_over.py").write_text(FAKE)
        environment = {**os.environ, **self.behaviour, "PYTHONPATH": f"{script}{os.pathsep}{ROOT}"}
        return Child("taken_over", {}, environment, folder, lambda: overfull(folder, MAX_SCRATCH))

    def _load_timeout(self, files: list[Path]) -> float:
        return self._patience

    def close(self) -> None:
        super().close()
        if self._scratch is not None:
            shutil.rmtree(Path(self._scratch.path).with_suffix(".modules"), ignore_errors=True)
