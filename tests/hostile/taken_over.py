"""Decoders and workers that one image took over, in the place of the real ones: honest for the others, and what they say
and do about that one.

A lie is a few lines of Python that know `send(header, *arrays)`, `raw(bytes)`, `head(bytes)`, `trickle()`; of a decoder
`decoded(**changes)` and `fit` (the pixels that are right), of a worker `right` (the arrays that are).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostile.lying_workers import FACTS, SPEAKS

from gradviz_cli.images import decoders
from gradviz_cli.model.remote import RemoteModel
from gradviz_cli.process import supervisor

ROOT = Path(__file__).parents[2]
MARK = b"this image lies"  # within the file that takes its decoder over; its pixels take over the worker

COMMON = (
    SPEAKS
    + """
def trickle(seconds=99, pause=0.01):
    end = time.monotonic() + seconds
    raw(struct.pack("<Q", 1 << 20))
    while time.monotonic() < end:
        raw(b" ")
        time.sleep(pause)
def failure(**changes):
    return {"type": "Failure", "kind": "damaged", "message": "no", "remedy": "", "traceback": [], **changes}
def array(shape, dtype="uint8"):
    head(json.dumps({**WRAPPED, "arrays": [{"shape": shape, "dtype": dtype}]}).encode())
"""
)
DECODER = (
    COMMON
    + """
while True:
    try:
        request, arrays = wire.receive(fill)
    except wire.Closed:
        break
    lies = MARK in arrays[0].tobytes()
    size = request["height"], request["width"], request["channels"]
    fit = np.full(size, 255, np.uint8) if lies else np.arange(np.prod(size)).reshape(size).astype(np.uint8) // 2
    shown = (np.zeros((9, 9, 3), np.uint8),) if request["pixels"] else ()
    def decoded(**changes):
        return {"type": "Decoded", "height": 9, "width": 9, "held": "picture", "notes": [], **changes}
    WRAPPED = decoded()
    if lies and LIE:
        exec(LIE)
    else:
        send(decoded(), fit, *shown)
"""
)
WORKER = (
    COMMON
    + """
while True:
    try:
        request, arrays = wire.receive(fill)
    except wire.Closed:
        break
    if request["type"] == "Load":
        send(FACTS)
        continue
    images = arrays[0]
    n, t = len(images), len(request["targets"])
    i, f = np.zeros([n, t], np.int32), np.zeros([n, t], np.float32)
    maps = np.random.default_rng(0).normal(size=(t, *images.shape)).astype(np.float32)
    right = (i, i, f, f, *[maps] * len(request["methods"]))
    WRAPPED = {"type": "Explained"}
    if images.min() > 0.99 or (n > 1 and images.max() > 0.99):
        exec(LIE)
    else:
        send(WRAPPED, *right)
"""
)

# What both may do.
ANYHOW = {
    "says nothing": "time.sleep(99)",
    "sends garbage": "raw(bytes(range(256)) * 100)",
    "sends zeros": "raw(bytes(100))",
    "sends a giant header": "raw(struct.pack('<Q', 2**62))",
    "sends a header of two megabytes": "head(b' ' * (2 << 20))",
    "sends half a header": "raw(struct.pack('<Q', 100) + b'{'); time.sleep(99)",
    "sends half a header and ends": "raw(struct.pack('<Q', 100) + b'{'); os._exit(0)",
    "sends no JSON": "head(b'what?')",
    "sends a list": "head(b'[1, 2]')",
    "sends a number": "head(b'7')",
    "sends null": "head(b'null')",
    "sends a text": "head(b'\"x\"')",
    "sends no UTF-8": 'head(b\'{"type": "\\xff\\xfe"}\')',
    "sends deep JSON": "head(b'[' * 1000000)",
    "sends a long number": "head(b'{\"arrays\": [], \"type\": ' + b'9' * 900000 + b'}')",
    "sends an empty object": "send({})",
    "sends another answer": "send({'type': 'Converted'})",
    "sends a request": "send(request)",
    "sends a giant array": "array([99999999999])",
    "sends an endless array": 'head(b\'{"type": "x", "arrays": [{"shape": [1e999], "dtype": "uint8"}]}\')',
    "sends an axis below zero": "array([-1, 5])",
    "sends many axes": "array([1] * 99)",
    "sends an axis that is a text": "array(['x'])",
    "sends objects": "array([1], 'object')",
    "sends an unknown kind of number": "array([1], 'float128')",
    "sends thousands of arrays": "send({**WRAPPED}, *[np.zeros(0, np.uint8)] * 9000)",
    "sends arrays that are no list": "head(json.dumps({**WRAPPED, 'arrays': 7}).encode())",
    "sends one field more": "send({**WRAPPED, 'more': 1})",
    "ends": "os._exit(0)",
    "ends with an error": "os._exit(1)",
    "crashes": "os.abort()",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "is asked to end": "os.kill(os.getpid(), signal.SIGTERM)",
    "stops": "os.kill(os.getpid(), signal.SIGSTOP)",
    "ends by an odd signal": "os.kill(os.getpid(), 50)",
    "closes its pipe and stays": "os.close(config['out']); time.sleep(99)",
    "closes everything and stays": "os.closerange(0, 99); time.sleep(99)",
    "trickles": "trickle()",
    "trickles fast": "trickle(pause=0)",
    "fills the disk": "os.posix_fallocate(os.open('f', 65), 0, 2**29); time.sleep(99)",
    "fills the disk and trickles": "os.posix_fallocate(os.open('f', 65), 0, 2**29); trickle()",
    "fills the disk in depth": "[(os.mkdir('d'), os.chdir('d')) for _ in range(300)]; open('f', 'wb').write(b'x'); time.sleep(99)",
    "makes many files": "[open('f%d' % i, 'w') for i in range(70000)]; trickle()",
    "shouts on its standard error": "[os.write(2, b'x' * 65536) for _ in range(300)]; os._exit(7)",
    "says that memory ran out": "os.write(2, b'terminate: std::bad_alloc'); os.abort()",
    "sends an error without a class": "send({'type': 'Failure'})",
    "sends an error of numbers": "send(failure(message=7))",
    "sends an error of lists": "send(failure(kind=['x']))",
    "sends an error that is endless": "send(failure(message='x' * 19_000))",
    "sends an error with a long trace": "send(failure(traceback=['x'] * 100_000))",
}
# What they say of pixels.
DECODING = {
    "sends no pixels": "send(decoded())",
    "sends pixels twice": "send(decoded(), fit, fit, fit)",
    "sends another size": "send(decoded(), fit[1:], *shown)",
    "sends another kind of number": "send(decoded(), fit.astype(np.float32), *shown)",
    "sends half of the pixels": "array(list(size)); raw(bytes(9)); os._exit(0)",
    "trickles its pixels": "array(list(size)); [(raw(b'x'), time.sleep(0.5)) for _ in range(99)]",
    "says a height of zero": "send(decoded(height=0), fit, *shown)",
    "says a height below zero": "send(decoded(height=-9, width=-9), fit, *shown)",
    "says a giant height": "send(decoded(height=10**9, width=10**9), fit, *shown)",
    "says an endless height": "send(decoded(height=2**70), fit, *shown)",
    "says a height that is a text": "send(decoded(height='9'), fit, *shown)",
    "says a height that is true": "send(decoded(height=True), fit, *shown)",
    "says a height that is null": "send(decoded(height=None), fit, *shown)",
    "says a broken height": "send(decoded(height=9.5), fit, *shown)",
    "says that it held a film": "send(decoded(held='film'), fit, *shown)",
    "says numbers that are none": "send(decoded(held='numbers'), np.full(size, np.nan, np.float32), *shown)",
    "says endless numbers": "send(decoded(held='numbers'), np.full(size, np.inf, np.float32), *shown)",
    "says notes that are none": "send(decoded(notes=[{}]), fit, *shown)",
    "says notes that are a text": "send(decoded(notes='x'), fit, *shown)",
    "says a note without an end": "send(decoded(notes=['x' * 100_000]), fit, *shown)",
    "says a failure of ours": "send(failure(kind='SystemExit', message='bye'))",
    "says a failure that clears the screen": "send(failure(message='\\x1b[2J\\n\\u202egradviz: fine'))",
}
EXPLAINING = {
    "names a class below zero": "send(WRAPPED, right[0] - 9, *right[1:])",
    "names a rank below zero": "send(WRAPPED, right[0], right[1] - 9, *right[2:])",
    "sends no map": "send(WRAPPED, *right[:4])",
    "sends a map too many": "send(WRAPPED, *right, right[-1])",
    "sends a map of another size": "send(WRAPPED, *right[:4], right[4][..., :2])",
    "sends a map of another kind": "send(WRAPPED, *right[:4], right[4].astype(np.int32))",
    "sends a map for another batch": "send(WRAPPED, *right[:4], np.concatenate([right[4]] * 2, 1))",
    "sends no numbers": "send(WRAPPED, *right[:4], right[4] * np.nan)",
    "sends endless numbers": "send(WRAPPED, *right[:4], right[4] * np.inf)",
    "sends a map of nothing": "send(WRAPPED, *right[:4], right[4] * 0)",
    "trickles its map": "array([9999]); [(raw(b'x'), time.sleep(0.5)) for _ in range(99)]",
    "says that the model is unusable": "send(failure(kind='ModelUnusable'))",
    "says that it is refused": "send(failure(kind='ModelRefused'))",
    "says that an option is wrong": "send(failure(kind='UsageError'))",
    "says that gradviz has a bug": "send(failure(kind='Bug'))",
    "says a failure of the image": "send(failure(kind='Failed', message='\\x1b[2J\\nno'))",
}
# No lies: what is said is odd, and the picture is right.
HARMLESS = {
    "says too many notes": "send(decoded(notes=['a note'] * 10_000), fit, *shown)",
    "says a note that clears the screen": "send(decoded(notes=['\\x1b[2J\\n\\u202e']), fit, *shown)",
    "answers twice": "send(decoded(), fit, *shown); send(decoded(height=3), fit[::-1].copy(), *shown)",
}


def take_over(monkeypatch: pytest.MonkeyPatch, folder: Path, decoding: str = "", explaining: str = "") -> None:
    """Let runs of this process have such a decoder, and such a worker."""
    folder.mkdir()
    for name, code in (("fake_decoder", DECODER), ("fake_worker", WORKER)):
        (folder / f"{name}.py").write_text(code)

    def start(module: str, lie: str, config: dict, place: str, watch) -> supervisor.Child:
        # The lines are given as the values of names that they use: a lie may hold any sign.
        values = f"LIE, MARK, FACTS = {lie!r}, {MARK!r}, {FACTS!r}\n"
        (folder / f"{module}_now.py").write_text(values + (folder / f"{module}.py").read_text())
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
        return supervisor.Child(f"{module}_now", config, environment, place, watch)

    def decoder(module: str, config: dict, environment: dict, place: str, watch) -> supervisor.Child:
        return start("fake_decoder", decoding, config, place, watch)

    def worker(self: RemoteModel, path: str, files: list[Path], room: int = 0, ahead: bool = False) -> supervisor.Child:
        place = self._folder()
        return start("fake_worker", explaining, {}, place, lambda: decoders.overfull(place, 2**28))

    monkeypatch.setattr(decoders, "Child", decoder)
    monkeypatch.setattr(RemoteModel, "_start", worker)
