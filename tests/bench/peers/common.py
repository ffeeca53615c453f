"""What the scripts of all tools share: the two ways they are run, and how they read and write pictures.

    python TOOL.py steady FOLDER           answers {"mode", "batch"} lines on stdin with the seconds of one call
    python TOOL.py job FOLDER MODE IMAGES OUT documented|equal

FOLDER is a network of models.py. A tool is a function `load(folder, mode)` -> `classes(images)`, `gradient(images, classes)`:
images are float32 [n, 224, 224, 3] in 0..1, classes the best ones, gradients what the tool gives, as NumPy. In the steady
state the classes are found once, before the clock runs; a job finds them for every image. A tool whose `classes` is None
finds them within `gradient`. Each script imports what it needs itself, so that a job costs what its user would pay.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

SIZE = (224, 224)
BATCH = 8

Tool = tuple[Callable | None, Callable]
Load = Callable[[Path, str], Tool]


def main(load: Load) -> None:
    """Run a tool as its command line says."""
    imported = time.time()
    what, folder, *rest = sys.argv[1:]
    if what == "job":
        job(load, Path(folder), *rest)
    else:
        steady(load, Path(folder), imported)


# -- steady state ---------------------------------------------------------------------------------------------------------


def steady(load: Load, folder: Path, imported: float) -> None:
    """Answer requests until stdin ends. A request {"mode", "batch", "calls", "keep"} is a few calls; the first of a mode loads."""
    answer = _own_stdout()
    images = np.load(folder.parent / "inputs.npy")
    loaded: dict[str, Tool] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(_one(load, folder, images, loaded, request, imported))
        except Exception as error:  # any tool may fail in any way: the table says how
            answer({"failed": f"{type(error).__name__}: {error}".splitlines()[0][:200]})


def _one(load: Load, folder: Path, images: np.ndarray, loaded: dict, request: dict, imported: float) -> dict:
    """Load a mode that is not, find the classes, and time the calls: their median."""
    mode, batch, said = request["mode"], images[: request["batch"]], {}
    if mode not in loaded:
        start = time.perf_counter()
        loaded[mode] = load(folder, mode)
        said = {"imported": imported, "load": time.perf_counter() - start}
    classes, gradient = loaded[mode]
    given = classes and _classes_once(classes, images)[: len(batch)]
    seconds, cpu = [], []
    for _ in range(request.get("calls", 1)):
        start, busy = time.perf_counter(), time.process_time()
        found = gradient(batch, given)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    said["seconds"], said["cpu"] = statistics.median(seconds), statistics.median(cpu)
    if request.get("keep"):
        np.save(request["keep"], found)
    return said


_known: list[np.ndarray] = []


def _classes_once(classes: Callable, images: np.ndarray) -> np.ndarray:
    if not _known:
        _known.append(classes(images))
    return _known[0]


def _own_stdout() -> Callable[[dict], None]:
    """Says an answer on the stdout that this process was given; all else that is printed goes to stderr."""
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: dict) -> None:
        sink.write(json.dumps(answer) + "\n")
        sink.flush()

    return say


# -- the whole job --------------------------------------------------------------------------------------------------------


def job(load: Load, folder: Path, mode: str, images: str, out: str, way: str) -> None:
    """A folder of JPEGs in, a folder of PNGs out, one batch after the other: what a script around the tool does."""
    read, write = WAYS[way]
    classes, gradient = load(folder, mode)
    paths = sorted(Path(images).iterdir())
    Path(out).mkdir(parents=True)
    for start in range(0, len(paths), BATCH):
        chunk = paths[start : start + BATCH]
        pixels = np.stack([read(path) for path in chunk])
        maps = gradient(pixels, classes and classes(pixels))
        for path, attribution in zip(chunk, maps, strict=True):
            write(Path(out) / f"{path.name}.png", attribution, path)


def read_plainly(path: Path) -> np.ndarray:
    """Pillow, as every tool's tutorials do it."""
    return np.asarray(Image.open(path).convert("RGB").resize(SIZE), np.float32) / 255


def read_bilinear(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB").resize(SIZE, Image.BILINEAR), np.float32) / 255


def write_plainly(path: Path, attribution: np.ndarray, source: Path) -> None:
    """The map in colour at the size of the network's input, by matplotlib's shortest way; their figures take longer."""
    from matplotlib import pyplot

    pyplot.imsave(path, _strength(attribution), cmap="inferno")


def write_paletted(path: Path, attribution: np.ndarray, source: Path) -> None:
    """What gradviz writes: 8-bit intensities at the size of the photograph, clipped at the 99th percentile, cheap zlib."""
    field = _strength(attribution)
    with Image.open(source) as image:
        size = image.size
    field = np.asarray(Image.fromarray(field).resize(size, Image.BILINEAR))
    top = np.partition(field, int(0.99 * field.size), axis=None)[int(0.99 * field.size)]
    picture = Image.fromarray((np.clip(field / top, 0, 1) * 255).astype(np.uint8)).convert("P")
    picture.putpalette(_PALETTE)
    picture.save(path, compress_level=1)


def _strength(attribution: np.ndarray) -> np.ndarray:
    return np.abs(attribution).max(-1) if attribution.ndim == 3 else attribution


_PALETTE = bytes(value for i in range(256) for value in (i, i * i // 255, 255 - i))
WAYS = {"documented": (read_plainly, write_plainly), "equal": (read_bilinear, write_paletted)}
