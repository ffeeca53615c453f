"""Long campaigns of batches that nobody watches: kills, signals, forty thousand images, a million names, one picture.

About fifteen minutes on two cores; each test can be run by itself. `-s` shows the figures.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import time
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from command.batches import READER, WORKER, end_in_order, pictures, statuses
from commands import (
    child_running,
    command,
    content,
    environment,
    files,
    gradviz,
    picture,
    records,
    start,
    stopped,
)

from gradviz_cli.batch.manifest import MANIFEST

pytestmark = pytest.mark.slow


# ---- kills and signals


def test_fifty_kills_and_each_time_the_next_run_completes(model: Path, tmp_path: Path) -> None:
    """Half of the runs start from nothing and half from what the kill before left, with pictures of another kind to replace."""
    images = pictures(tmp_path / "images", 1200)
    (images / "000" / "00007.png").write_bytes(b"broken")
    random, left = np.random.default_rng(5), tmp_path / "scratch"
    left.mkdir()
    arguments = ("explain", model, images, "--raw", "--batch-size", "2", "-o")
    more = {"cwd": tmp_path, "env": {"TMPDIR": str(left)}}
    started = time.monotonic()
    assert gradviz(*arguments, "clean", **more).returncode == 3
    longest = time.monotonic() - started
    begun = longest - writing_seconds(tmp_path / "clean")
    clean, out, reached = content(tmp_path / "clean"), tmp_path / "out", []
    for kill in range(50):
        if kill % 2:
            shutil.rmtree(out, ignore_errors=True)
        process = start(*arguments, "out", *(["--colormap", "viridis"] if kill % 4 == 3 else []), **more)
        time.sleep(random.uniform(0.1 if kill % 4 == 0 else begun, longest))
        stopped(process, signal.SIGKILL, group=bool(kill % 3))
        process.communicate()
        reached.append(len(content(out)) if out.exists() else 0)
        if kill % 5 == 4:
            assert_completes(arguments, more, clean, tmp_path)
    assert_completes(arguments, more, clean, tmp_path)
    print(f"\n50 kills within {longest:.1f} s of their start; files there when they came: {reached}")
    assert len(set(reached)) > 10  # they did come in the middle of it


def writing_seconds(out: Path) -> float:
    """Seconds between the first line of a manifest and the last."""
    first, *_, last = (datetime.fromisoformat(record["time"].replace("Z", "+00:00")) for record in records(out))
    return (last - first).total_seconds()


def assert_completes(arguments: tuple, more: dict, clean: dict, folder: Path) -> None:
    """A run after a kill: what an uninterrupted one writes, all of it in the manifest, and nothing else."""
    run = gradviz(*arguments, "out", **more)
    assert run.returncode == 3 and len(run.stderr.splitlines()) == 1, run.stderr
    out = folder / "out"
    assert content(out) == clean
    assert files(out) == files(folder / "clean")
    assert not os.listdir(folder / "scratch")
    hashes, whole = {}, 0
    for line in (out / MANIFEST).read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        whole += 1
        hashes.update(record["sha256"])
    assert whole >= 1200
    found = {name: hashlib.sha256(data).hexdigest() for name, data in clean.items()}
    assert {name: hashes.get(name) for name in found} == found  # so prune knows all of them


@pytest.mark.parametrize("moment", ["load", "gradient", "write"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_each_signal_at_each_moment(models: Path, tmp_path: Path, number: signal.Signals, moment: str) -> None:
    end_in_order(models, tmp_path, number, moment, group=number == signal.SIGINT)


def test_signals_at_any_moment(model: Path, tmp_path: Path) -> None:
    """Also before the command has begun and while it ends: gone in time, and the folder as it says."""
    images, random, longest = pictures(tmp_path / "images", 60), np.random.default_rng(9), 0.0
    left = tmp_path / "scratch"
    left.mkdir()
    for i, moment in enumerate(random.uniform(0.0, 5, 30)):
        out, number = tmp_path / f"out{i}", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[i % 3]
        process = start(
            "explain", model, images, "-o", out, "--batch-size", "2", cwd=tmp_path, env={"TMPDIR": str(left)}
        )
        time.sleep(moment)
        if process.poll() is None:
            longest = max(longest, stopped(process, number))
        said = process.communicate()[1]
        if process.returncode == -number or b"init_import_site" in said:  # before Python had come to us
            assert moment < 0.5 and not out.exists(), (moment, said)
            continue
        assert process.returncode in (0, 128 + number), (moment, said)
        assert said == b""
        listed = {name for record in records(out) for name in record["outputs"]} if (out / MANIFEST).exists() else set()
        assert not out.exists() or listed == content(out).keys() == files(out) - {MANIFEST, ".gradviz.lock"}
        assert not os.listdir(left)
    print(f"\n30 signals: the slowest run was gone after {longest:.2f} s")
    assert longest < 2


# ---- many images


def png(pixels: np.ndarray) -> bytes:
    """A PNG of RGB pixels, quicker than any library makes one."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def many(folder: Path, count: int) -> Path:
    """Images of 8 x 8 pixels, a thousand in a folder."""
    noise = np.random.default_rng(1).integers(0, 200, (count, 8, 8, 3)).astype(np.uint8)
    for i, pixels in enumerate(noise):
        if i % 1000 == 0:
            (folder / f"{i // 1000:03}").mkdir(parents=True)
        (folder / f"{i // 1000:03}" / f"{i:06}.png").write_bytes(png(pixels))
    return folder


def status(pid: int, field: str) -> int:
    """Kilobytes of a process: VmRSS (now) or VmHWM (the most so far); 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def held(pid: int) -> tuple[int, int]:
    """Open descriptors and threads of a process; zeros when it is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0, 0


def watched(
    *arguments, cwd: Path, env: dict | None = None, every: float = 0.5
) -> tuple[subprocess.Popen, float, list[dict[str, int]]]:
    """Run to the end; kilobytes, descriptors and threads of the command, its worker and its decoders, again and again."""
    begun = time.monotonic()
    with open(cwd / "stderr", "wb") as stderr:
        process = start(*arguments, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=stderr)
    samples: list[dict[str, int]] = []
    pids: dict[str, int] = {}
    while process.poll() is None:
        for module in (WORKER, READER):
            if module not in pids and (pid := child_running(process.pid, module)):
                pids[module] = pid
        kilobytes = {
            "command": status(process.pid, "VmRSS"),
            **{module: status(pid, "VmRSS") for module, pid in pids.items()},
        }
        kilobytes["most"] = status(process.pid, "VmHWM")
        for name, pid in {"command": process.pid, **pids}.items():
            kilobytes[f"{name} descriptors"], kilobytes[f"{name} threads"] = held(pid)
        samples.append(kilobytes)
        time.sleep(every)
    return process, time.monotonic() - begun, samples[:-1]


def flat(values: list[int]) -> tuple[float, float]:
    """Medians of the second and of the last quarter."""
    quarter = len(values) // 4
    return float(np.median(values[quarter : 2 * quarter])), float(np.median(values[-quarter:]))


def test_forty_thousand_images_and_nothing_grows(model: Path, tmp_path: Path) -> None:
    images, count = many(tmp_path / "images", 40_000), 40_000
    process, seconds, samples = watched("explain", model, images, "-o", "out", cwd=tmp_path)
    assert (process.returncode, (tmp_path / "stderr").read_text()) == (0, "")
    assert statuses(tmp_path / "out") == {"written": count}
    print(f"\n{count} images in {seconds:.0f} s: {count / seconds:.0f} images/s")
    running = [sample for sample in samples if READER in sample]
    for name in ("command", WORKER, READER):
        second, last = flat([sample[name] for sample in running])
        print(f"{name}: {second / 1024:.1f} MiB in the second quarter, {last / 1024:.1f} MiB in the last")
        assert last < 1.1 * second
        for what in ("descriptors", "threads"):
            second, last = flat([sample[f"{name} {what}"] for sample in running])
            print(f"{name}: {second:.0f} {what} in the second quarter, {last:.0f} in the last")
            assert 0 < last <= second + 1
    assert samples[-1]["most"] < 100 * 1024

    process, seconds, samples = watched(
        "explain", model, images, "-o", "out", cwd=tmp_path, env=broken_tensorflow(tmp_path)
    )
    assert (process.returncode, (tmp_path / "stderr").read_text()) == (0, "")
    assert not any(WORKER in sample for sample in samples)
    assert statuses(tmp_path / "out") == {"current": count}
    second, last = flat([sample["command"] for sample in samples])
    print(
        f"nothing to do: {seconds:.1f} s, {count / seconds:.0f} images/s; {second / 1024:.1f} and {last / 1024:.1f} MiB"
    )
    assert last < 1.1 * second
    forced = gradviz(
        "explain",
        model,
        images / "000" / "000000.png",
        "-o",
        "out",
        "--force",
        cwd=tmp_path,
        env=broken_tensorflow(tmp_path),
    )
    assert forced.returncode != 0 and "no TensorFlow here" in forced.stderr  # the proof can fail


def broken_tensorflow(folder: Path) -> dict[str, str]:
    """An environment in which TensorFlow cannot be imported."""
    module = folder / "broken" / "tensorflow.py"
    module.parent.mkdir(exist_ok=True)
    module.write_text('raise ImportError("no TensorFlow here")\n')
    return {"PYTHONPATH": f"{module.parent}{os.pathsep}{environment()['PYTHONPATH']}"}


MILLION = 1_000_000


@pytest.mark.parametrize("source", ["list", "folder", "compared"])
def test_a_million_names_cost_little_memory(model: Path, tmp_path: Path, source: str) -> None:
    """Names of one file: through a list, as links in a folder, and where all names are compared."""
    (tmp_path / "image.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    arguments = [tmp_path / "images"]
    if source == "folder":
        linked(tmp_path / "images", tmp_path / "image.png")
    else:
        (tmp_path / "list").write_text(
            "".join(f"/nowhere/{i // 1000:04}/{'x' * 40}{i:07}.png\n" for i in range(MILLION))
        )
        arguments = ["--files-from", tmp_path / "list"]
    if source == "compared":
        arguments += [tmp_path / "image.png", "--style", "panel", "-t", "top3"]
    process, seconds, samples = watched(
        "explain", model, *arguments, "-o", "out", "--shard", "1/1000", "--dry-run", cwd=tmp_path
    )
    most = max(sample["most"] for sample in samples) / 1024
    print(f"\na million names ({source}): {seconds:.1f} s, {most:.0f} MiB at most")
    assert process.returncode in (0, 3, 4)
    assert most < 300


def linked(folder: Path, image: Path) -> None:
    """A million names of one image; a file system allows it some ten thousand links."""
    for i in range(MILLION):
        if i % 10_000 == 0:
            part = folder / f"{i // 10_000:03}"
            part.mkdir(parents=True)
            shutil.copy(image, folder / "first")
            os.rename(folder / "first", part / f"{i:07}.png")
            first = part / f"{i:07}.png"
        else:
            os.link(first, part / f"{i:07}.png")


# ---- the same image, the same bytes


@pytest.fixture(scope="module")
def normed(tmp_path_factory) -> Path:
    """A network of 64 x 64 pixels with batch norm, branches and depthwise convolutions, as Keras exports it."""
    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    inputs = layers.Input((64, 64, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    side = layers.Conv2D(32, 1, strides=2, padding="same", use_bias=False)(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(x))
    x = layers.ReLU()(layers.Add()([x, side]))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Conv2D(48, 3, padding="same")(x)))
    network = tf.keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    random = np.random.default_rng(4)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape[0]
            layer.set_weights(
                [random.uniform(*bounds, size) for bounds in ((0.5, 1.5), (-0.5, 0.5), (-0.5, 0.5), (0.5, 1.5))]
            )
    folder = tmp_path_factory.mktemp("normed")
    network.export(str(folder / "model"), verbose=False)
    return folder / "model"


def test_a_picture_depends_on_its_image_alone(normed: Path, tmp_path: Path) -> None:
    names = [picture(tmp_path / "images" / f"{i:02}.png", i, (40 + 3 * i, 90 - i)) for i in range(24)]
    options = (
        "--preprocess",
        "unit",
        "--mode",
        "all",
        "-t",
        "top2",
        "--style",
        "heatmap",
        "--style",
        "rgb",
        "--style",
        "panel",
        "--raw",
    )

    def drawn(out: str, *more, images: list[Path] | None = None, cores: str = "") -> dict[str, bytes]:
        """Pictures of all images, or of these, on some cores."""
        arguments = command("explain", normed, *(images or names), "-o", out, *options, *more)
        prefix = ["taskset", "-c", cores] if cores else []
        run = subprocess.run(
            [*prefix, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=200
        )
        assert (run.returncode, run.stderr) == (0, ""), run.stderr
        return content(tmp_path / out)

    clean = drawn("clean")
    assert len(clean) == 24 * (3 * 2 * 3 + 2)
    assert drawn("folder", images=[tmp_path / "images"]) == clean
    for size in (1, 3, 8):
        assert drawn(f"batch{size}", "--batch-size", size) == clean
    for jobs in (1, 4):
        assert drawn(f"jobs{jobs}", "--jobs", jobs) == clean
    assert drawn("backwards", "--batch-size", "5", images=names[::-1]) == clean
    for cores in available():
        assert drawn(f"cores{cores}", cores=cores) == clean
    for i in (0, 7, 23):
        alone = drawn(f"alone{i}", images=[names[i]])
        assert alone == {name: clean[name] for name in alone} and len(alone) == 20
    mixed = []
    for name in names:
        mixed += [name, tmp_path / f"{name.stem}.broken"]
        mixed[-1].write_bytes(b"broken")
    run = gradviz("explain", normed, *mixed, "-o", "mixed", *options, cwd=tmp_path)
    assert run.returncode == 3 and len(run.stderr.splitlines()) == len(names)
    assert content(tmp_path / "mixed") == clean


def available() -> list[str]:
    """A single core, and all of them."""
    cores = sorted(os.sched_getaffinity(0))
    return [str(cores[0]), ",".join(map(str, cores))]
