"""A thousand damaged models: each runs, or is refused in one line. Slow (`make slow`), under 20 minutes on two cores.

Damage of two kinds: bytes (flipped, cut off, swapped, inserted, zeroed, doubled) in every file of a model, and nodes of
the graph (an input, an operation, an attribute, a whole node changed), which stays a readable file.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import hostile_models as hostile
import keras
import numpy as np
import pytest
from commands import gradviz
from google.protobuf import text_format
from hostile.pool import LITTLE_MEMORY, Pooled
from models import CASES
from PIL import Image
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from workers import Pool

from gradviz_cli.errors import GradvizError, ImageError
from gradviz_cli.process.protocol import Explain, Row

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MUTANTS = 1000
COMMANDS = 100
DEADLINE = 20.0
# Loads until a worker is replaced: TensorFlow keeps something of every graph.
WORKER_LOADS = 120

Draw = np.random.Generator


@dataclass(frozen=True)
class Original:
    """A sound model, the size of its input, and the files that may be damaged with their share of the damage."""

    folder: Path
    shape: tuple[int, int, int]
    files: dict[str, float]


# --- the sound models ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> list[Original]:
    """A Keras 3 export, a tf.Module, a TensorFlow 1 model, and the same as text."""
    folder = tmp_path_factory.mktemp("originals")
    by_name = {case.name: case for case in CASES}
    shares = {
        "saved_model.pb": 0.7,
        "variables/variables.index": 0.15,
        "variables/variables.data-00000-of-00001": 0.15,
    }
    found = []
    for name in ("keras-sequential", "module"):
        by_name[name].write(folder / name)
        found.append(Original(folder / name, by_name[name].shape, shares))
    small = (hostile.SIDE, hostile.SIDE, 3)
    hostile._variable(folder / "v1", [3])
    found.append(Original(folder / "v1", small, shares))
    shutil.copytree(folder / "v1", folder / "text")
    saved = SavedModel.FromString((folder / "text" / "saved_model.pb").read_bytes())
    (folder / "text" / "saved_model.pb").unlink()
    (folder / "text" / "saved_model.pbtxt").write_text(text_format.MessageToString(saved))
    found.append(Original(folder / "text", small, {"saved_model.pbtxt": 1.0}))
    keras.backend.clear_session()
    return found


# --- damage -------------------------------------------------------------------------------------------------------------


def _flipped(data: bytes, draw: Draw) -> bytes:
    out = bytearray(data)
    for at in draw.integers(0, len(out), draw.integers(1, 9)):
        out[at] ^= 1 << draw.integers(0, 8)
    return bytes(out)


def _cut_off(data: bytes, draw: Draw) -> bytes:
    return data[: draw.integers(0, len(data))]


def _block(data: bytes, draw: Draw) -> tuple[int, int]:
    start = int(draw.integers(0, len(data)))
    return start, min(len(data), start + int(draw.integers(1, 200)))


def _swapped(data: bytes, draw: Draw) -> bytes:
    (a, b), (c, d) = sorted((_block(data, draw), _block(data, draw)))
    return data if b > c else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _inserted(data: bytes, draw: Draw) -> bytes:
    at = int(draw.integers(0, len(data)))
    return data[:at] + draw.bytes(int(draw.integers(1, 100))) + data[at:]


def _zeroed(data: bytes, draw: Draw) -> bytes:
    start, end = _block(data, draw)
    return data[:start] + bytes(end - start) + data[end:]


def _doubled(data: bytes, draw: Draw) -> bytes:
    start, end = _block(data, draw)
    return data[:end] + data[start:]


BYTES: tuple[Callable[[bytes, Draw], bytes], ...] = (
    _flipped,
    _flipped,
    _cut_off,
    _swapped,
    _inserted,
    _zeroed,
    _doubled,
)


def _rewired(data: bytes, draw: Draw, text: bool = False) -> bytes:
    """One to three nodes changed; the file can still be read."""
    saved = SavedModel()
    text_format.Parse(data.decode(), saved) if text else saved.ParseFromString(data)
    graph = saved.meta_graphs[0].graph_def
    lists = [graph.node, *(function.node_def for function in graph.library.function)]
    lists = [nodes for nodes in lists if nodes]
    for _ in range(draw.integers(1, 4)):
        nodes = lists[draw.integers(0, len(lists))]
        _change(nodes[draw.integers(0, len(nodes))], nodes, draw)
    return text_format.MessageToString(saved).encode() if text else saved.SerializeToString()


def _change(node, nodes, draw: Draw) -> None:
    other = nodes[draw.integers(0, len(nodes))]
    what = draw.integers(0, 7)
    if what == 0 and node.input:
        node.input[draw.integers(0, len(node.input))] = other.name
    elif what == 1 and node.input:
        del node.input[draw.integers(0, len(node.input))]
    elif what == 2:
        node.op = other.op
    elif what == 3 and node.attr:
        del node.attr[sorted(node.attr)[draw.integers(0, len(node.attr))]]
    elif what == 4 and node.attr and other.attr:
        key = sorted(other.attr)[draw.integers(0, len(other.attr))]
        node.attr[sorted(node.attr)[draw.integers(0, len(node.attr))]].CopyFrom(other.attr[key])
    elif what == 5:
        node.CopyFrom(other)
    else:
        for value in node.attr.values():
            if value.HasField("i"):
                value.i = int(draw.choice([-1, 0, 2**31, -(2**63), 7]))
            for number, _ in enumerate(value.list.i):
                value.list.i[number] = int(draw.choice([-1, 0, 2**40, 3]))
            for dim in (*value.shape.dim, *value.tensor.tensor_shape.dim):
                dim.size = int(draw.choice([-1, 0, 2**40, 3]))


def mutant(originals: list[Original], number: int, folder: Path) -> tuple[Original, str]:
    """Write the damaged model with this number; returns its original and what was done."""
    draw = np.random.default_rng(number)
    original = originals[number % len(originals)]
    shutil.copytree(original.folder, folder)
    name = str(draw.choice(list(original.files), p=list(original.files.values())))
    data = (folder / name).read_bytes()
    graph = name.startswith("saved_model")
    damage = _rewired if graph and draw.random() < 0.5 else BYTES[draw.integers(0, len(BYTES))]
    changed = damage(data, draw, text=name.endswith("txt")) if damage is _rewired else damage(data, draw)
    (folder / name).write_bytes(changed)
    return original, f"{original.folder.name}/{name} {damage.__name__.strip('_')}"


# --- what becomes of it -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fate:
    number: int
    damage: str
    outcome: str
    message: str
    seconds: float


class Loads(Pooled):
    """A model that must be loaded within the deadline, machine under load or not."""

    def _load_timeout(self, files: list[Path]) -> float:
        return DEADLINE


def explained(model: Loads, shape: tuple[int, ...]) -> Row | ImageError:
    image = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    return list(model.explain(image, Explain((-1,), ("backprop",))))[0]


def fate(originals: list[Original], pool: Pool, number: int) -> Fate:
    folder = pool.folder / str(number)
    original, damage = mutant(originals, number, folder)
    start = time.monotonic()
    model = Loads(pool, folder, DEADLINE)
    try:
        facts = model.load().facts
        shape = (*facts.size, facts.channels)
        small = np.prod(shape) <= 10 * np.prod(original.shape)
        row = explained(model, shape) if small else None
        outcome, message = ("fails", f"{row.kind}: {row.message}") if isinstance(row, ImageError) else ("runs", "")
    except GradvizError as error:
        outcome, message = type(error).__name__, str(error)
    finally:
        seconds = time.monotonic() - start
        shutil.rmtree(folder)
    return Fate(number, damage, outcome, message.replace(str(folder), "MODEL"), seconds)


@pytest.fixture(scope="module")
def fates(originals, tmp_path_factory) -> list[Fate]:
    """What became of every mutant; two workers side by side."""

    def some(part: int) -> Iterator[Fate]:
        base = tmp_path_factory.getbasetemp() / f"mutants{part}"
        (base / "models").mkdir(parents=True)
        pool = Pool(base / "models", base / "scratch", LITTLE_MEMORY)
        for count, number in enumerate(range(part, MUTANTS, 2)):
            if count % WORKER_LOADS == WORKER_LOADS - 1:
                pool.close()
            yield fate(originals, pool, number)
        pool.close()

    with ThreadPoolExecutor(2) as two:
        found = [one for part in two.map(lambda part: list(some(part)), (0, 1)) for one in part]
    _report(found)
    return found


def _report(found: list[Fate]) -> None:
    """The figures, for whoever runs with -s."""
    print("\noutcomes:", dict(Counter(one.outcome for one in found)))
    crashed = [one for one in found if "crashed" in one.message]
    print("crashes contained:", len(crashed), "slowest:", max(one.seconds for one in found))
    classes = Counter(match[1] for one in found if (match := re.search(r"\((\w+(?:Error|Exception))\b", one.message)))
    print("exceptions that nobody foresaw:", dict(classes.most_common()))
    kinds = Counter(re.sub(r"[\d'\"].*|\(.*", "", one.message)[:60] for one in found if one.message)
    for message, count in kinds.most_common(25):
        print(f"  {count:4} {message}")
    if os.environ.get("GRADVIZ_FATES"):
        Path(os.environ["GRADVIZ_FATES"]).write_text("".join(f"{one}\n" for one in found))


def test_every_mutant_runs_or_is_refused(fates: list[Fate]) -> None:
    allowed = {"runs", "fails", "ModelUnusable", "ModelRefused", "UsageError"}
    assert len(fates) == MUTANTS
    assert not [one for one in fates if one.outcome not in allowed]


def test_no_mutant_hangs(fates: list[Fate]) -> None:
    assert not [one for one in fates if "no answer" in one.message]


def test_every_message_is_a_line_that_says_something(fates: list[Fate]) -> None:
    for one in fates:
        assert one.message.isprintable() and len(one.message) < 2500, one
        assert "Traceback" not in one.message, one
        if one.outcome in ("ModelUnusable", "ModelRefused"):
            assert "MODEL" in one.message and "; " in one.message, one


def test_most_damage_is_noticed(fates: list[Fate]) -> None:
    """Neither all (the originals are sound) nor none (the damage is real)."""
    runs = sum(one.outcome == "runs" for one in fates)
    assert 0.02 * MUTANTS < runs < 0.7 * MUTANTS


# --- through the command ------------------------------------------------------------------------------------------------


def test_a_hundred_through_the_command(originals, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (30, 30, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "tmp").mkdir()

    def command(number: int) -> tuple[int, str, int, str]:
        folder = tmp_path / f"m{number}"
        _, damage = mutant(originals, 5000 + number, folder)
        options = ["-o", f"out{number}", "-m", "backprop", "--timeout", "20"]
        env = {"TMPDIR": str(tmp_path / "tmp")}
        run = gradviz("explain", folder, "a.png", *options, cwd=tmp_path, env=env, timeout=300)
        return number, damage, run.returncode, run.stderr

    with ThreadPoolExecutor(2) as two:
        runs = list(two.map(command, range(COMMANDS)))
    print("\nexit codes:", dict(Counter(code for _, _, code, _ in runs)))
    for number, damage, code, said in runs:
        assert code in (0, 2, 4, 5, 6), (number, damage, code, said)
        assert "Traceback" not in said and "internal error" not in said, (number, damage, said)
        assert bool(list((tmp_path / f"out{number}").glob("*.png"))) == (code == 0), (number, damage, code)
    assert not list((tmp_path / "tmp").iterdir())


def test_the_originals_are_sound(originals, tmp_path: Path) -> None:
    """The damage is to blame, not the models."""
    (tmp_path / "models").mkdir()
    pool = Pool(tmp_path / "models", tmp_path / "scratch", LITTLE_MEMORY)
    for original in originals:
        shutil.copytree(original.folder, pool.folder / original.folder.name)
        model = Loads(pool, pool.folder / original.folder.name, DEADLINE)
        model.load()
        row = explained(model, original.shape)
        assert np.abs(row.gradients["backprop"]).max() > 0
    pool.close()
