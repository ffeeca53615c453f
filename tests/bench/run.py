"""gradviz against what a user would take instead: `python tests/bench/run.py [PART...]`, or `make bench`.

Needs an interpreter in which gradviz is installed; the other tools are installed into environments of their own below
the cache folder ($GRADVIZ_BENCH_CACHE, ~/.cache/gradviz-bench; about 12 GB). Runs of the tools take turns, so that what
else the machine does falls on all of them. Every table is kept in the cache, and RESULTS.md is written from them all: a
part may be repeated alone. A tool that cannot be installed or fails stays in its tables, with the reason.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import environments
import measure
import models
import numpy as np
import twins

from gradviz_cli.estimators import ESTIMATORS

HERE = Path(__file__).resolve().parent
MODES = ("guided", "deconv", "backprop")
MATMUL = 3072
LEAST = 0.4  # seconds of calls in one turn


@dataclass(frozen=True)
class Tool:
    """A script of peers/, the environment it needs (None: gradviz's own) and the modes it can do; whether it reads a SavedModel,
    and so any network."""

    script: str
    environment: str | None
    modes: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    any_network: bool = False


TOOLS = {
    "gradviz": Tool("gradviz", None, MODES, any_network=True),
    "gradviz, through its worker": Tool("gradviz", None, MODES, ("remote",), any_network=True),
    "bare graph": Tool("bare", None, MODES),
    "xplique": Tool("xplique", "xplique", ("guided", "deconv")),
    "tf-keras-vis": Tool("tf_keras_vis", "tf-keras-vis", ("guided",)),
    "Captum (PyTorch)": Tool("captum", "captum", MODES),
    "PAIR saliency": Tool("saliency", "saliency", ("guided",)),
    "signature + tape": Tool("tape", "plain", ("backprop",), any_network=True),
    "custom-gradient recipe": Tool("recipe", "plain", ("guided",)),
}
REMOTE = "gradviz, through its worker"
GRADVIZ_JOB = "gradviz explain"
KNOWN_JOB = "gradviz explain, a model that was proved before"
JOBS = (
    "xplique",
    "tf-keras-vis",
    "Captum (PyTorch)",
    "PAIR saliency",
    "signature + tape",
    "custom-gradient recipe",
)


@dataclass(frozen=True)
class Bench:
    """What was asked for, and where things are."""

    cache: Path
    networks: tuple[str, ...]
    modes: tuple[str, ...]
    batches: tuple[int, ...]
    tools: tuple[str, ...]
    images: tuple[int, ...]
    ways: tuple[str, ...]
    runs: int
    many: tuple[int, ...]

    def chosen(self, names: Sequence[str], mode: str | None = None, network: str = models.TWINNED[0]) -> list[str]:
        """The tools that are asked for, and can do this."""
        fits = [name for name in names if name not in TOOLS or mode is None or mode in TOOLS[name].modes]
        fits = [name for name in fits if name not in TOOLS or network in models.TWINNED or TOOLS[name].any_network]
        return [name for name in fits if not self.tools or any(each in name.lower() for each in self.tools)]

    def command(self, name: str) -> list[str]:
        """How a tool is called; RuntimeError when it cannot be installed."""
        tool = TOOLS[name]
        python = sys.executable if tool.environment is None else str(environments.python_of(tool.environment))
        return [python, str(HERE / "peers" / f"{tool.script}_peer.py")]

    def environment(self, scratch: Path) -> dict[str, str]:
        """Nothing that an earlier run left behind helps a later one; where it may, `scratch` is the same for both."""
        kept = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "MPLCONFIGDIR": str(self.cache / "matplotlib")}
        return {**kept, "XDG_CACHE_HOME": str(scratch / "cache"), "KERAS_HOME": str(self.cache / "keras")}


# -- steady state ---------------------------------------------------------------------------------------------------------


def steady(bench: Bench) -> None:
    """Gradient calls of a process that is warm, per network and mode."""
    for name in bench.networks:
        for mode in bench.modes if name in models.TWINNED else ("backprop",):
            company = measure.Company()
            with Turns(bench, name) as turns:
                for tool in bench.chosen(list(TOOLS), mode, name):
                    turns.join(tool, mode)
                if mode == "deconv" and not bench.tools:
                    turns.join("gradviz", "deconv:given", "gradviz, class given, --no-scores")
                if name in models.TWINNED and not bench.tools:
                    turns.join("bare graph", "matmul", MATMUL_ROW)
                tables = [turns.table(batch) for batch in bench.batches]
            text = f"Arrays in, gradients out, {bench.runs} turns each. {company}\n\n"
            keep(bench, f"1 Steady state/{name}, {mode}", text + "\n\n".join(tables))


def together(bench: Bench) -> None:
    """Three modes at once against three runs."""
    for name in filter(models.TWINNED.__contains__, bench.networks):
        company = measure.Company()
        with Turns(bench, name) as turns:
            for mode in ("all", *MODES):
                turns.join("gradviz", mode, mode)
            times = {
                batch: {mode: [wall for wall, _ in found] for mode, found in turns.take(batch).items()}
                for batch in bench.batches
            }
        lines = ["| batch | all at once, s | one after the other, s | share |", "|--:|--:|--:|--:|"]
        for batch, found in times.items():
            if len(found) < 4:
                lines.append(f"| {batch} | failed: {'; '.join(turns.failed.values())} | | |")
                continue
            apart = [sum(each) for each in zip(*(found[mode] for mode in MODES), strict=True)]
            share = 1 / measure.ratio(found["all"], apart)
            lines.append(f"| {batch} | {median(found['all']):.3f} | {median(apart):.3f} | {share:.2f} |")
        keep(bench, f"2 Three modes at once/{name}", "\n".join([*lines, "", str(company)]))


MATMUL_ROW = f"matmul of {MATMUL} x {MATMUL}"


class Turns:
    """Servers of several tools on one network, which are called in turn."""

    def __init__(self, bench: Bench, network: str):
        self._bench, self._network = bench, network
        self._folder = models.network(bench.cache, network)
        self._servers: dict[str, measure.Server] = {}
        self._modes: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def __enter__(self) -> Turns:
        self._temporary = tempfile.TemporaryDirectory()
        self._scratch = Path(self._temporary.name)
        return self

    def __exit__(self, *_) -> None:
        for server in self._servers.values():
            server.close()
        self._temporary.cleanup()

    def join(self, tool: str, mode: str, label: str | None = None) -> None:
        """Start a tool and let it load, and compute its first maps for the comparison."""
        label = label or tool
        self._modes[label] = mode
        try:
            command = [*self._bench.command(tool), "steady", str(self._folder), *TOOLS[tool].arguments]
            server = measure.Server(
                command, self._bench.environment(self._scratch), self._scratch / f"{len(self._modes)}.log"
            )
            self._servers[label] = server
            server.ask(mode=mode, batch=max(self._bench.batches), keep=str(self._scratch / f"{label}.npy"))
        except RuntimeError as error:
            self._lose(label, str(error))

    def _lose(self, label: str, why: str) -> None:
        self.failed[label] = why
        print(f"{self._network}: {label}: {why}", file=sys.stderr, flush=True)
        server = self._servers.pop(label, None)
        if server:
            server.close()

    def take(self, batch: int) -> dict[str, list[tuple[float, float]]]:
        """Seconds of one call by label, and of it processor seconds, a pair a turn."""
        calls = {label: self._warm_up(label, batch) for label in list(self._servers)}
        found: dict[str, list[tuple[float, float]]] = {label: [] for label in self._servers}
        for _ in range(self._bench.runs):
            for label in list(self._servers):
                time.sleep(0.05)  # threads of the one before that still spin
                try:
                    found[label].append(self._ask(label, batch, calls[label]))
                except RuntimeError as error:
                    self._lose(label, str(error))
        return {label: times for label, times in found.items() if len(times) == self._bench.runs}

    def _ask(self, label: str, batch: int, calls: int) -> tuple[float, float]:
        said = self._servers[label].ask(mode=self._modes[label], batch=batch, calls=calls)
        return said["seconds"], said["cpu"]

    def _warm_up(self, label: str, batch: int) -> int:
        """So many calls make one turn."""
        try:
            self._ask(label, batch, 1)
            return max(1, round(LEAST / self._ask(label, batch, 1)[0]))
        except RuntimeError as error:
            self._lose(label, str(error))
            return 1

    def table(self, batch: int) -> str:
        """Markdown: seconds a call, images a second, how many times faster gradviz is, share of the matmul peak, agreement."""
        taken = self.take(batch)
        found, cpu = ({label: [pair[k] for pair in pairs] for label, pairs in taken.items()} for k in (0, 1))
        peak = 2 * MATMUL**3 / median(found.pop(MATMUL_ROW)) if MATMUL_ROW in found else None
        work = 4 * twins.multiplications(self._folder) if peak else 0
        told = f"share of the peak, {peak / 1e9:.0f} GFLOP/s" if peak else "share of the peak"
        lines = [
            f"| batch {batch} | ms a call | images/s | gradviz is faster by | processor ms an image | gradviz takes of it | {told} "
            "| maps differ by |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for label, times in found.items():
            speed = batch / median(times)
            against = f"{measure.ratio(found['gradviz'], times):.2f}" if "gradviz" in found else ""
            here = label != REMOTE  # whose worker's seconds are not its own
            share = f"{1 / measure.ratio(cpu['gradviz'], cpu[label]):.2f}" if here and "gradviz" in cpu else ""
            cells = (
                f"{1000 * median(times):.0f}",
                f"{speed:.2f}",
                against,
                f"{1000 * median(cpu[label]) / batch:.1f}" if here else "",
                share,
                f"{speed * work / peak:.0%}" if peak else "",
                self._difference(label),
            )
            lines.append(f"| {label} | {' | '.join(cells)} |")
        lines += [f"| {label} | failed: {why} | | | | | | |" for label, why in self.failed.items()]
        return "\n".join(lines)

    def _difference(self, label: str) -> str:
        """Largest difference to the bare graph's map, relative to its largest value: do they compute the same?"""
        files = [self._scratch / f"{name}.npy" for name in (label, "bare graph")]
        if label == "bare graph" or not all(file.is_file() for file in files):
            return ""
        mine, bare = (np.load(file).astype(np.float64) for file in files)
        return f"{np.abs(mine - bare).max() / np.abs(bare).max():.1g}" if mine.shape == bare.shape else "another shape"


# -- the whole job --------------------------------------------------------------------------------------------------------


def job(bench: Bench) -> None:
    """A folder of JPEGs of 640 x 480 in, a folder of PNGs out, from process start to process end."""
    for name in bench.networks:
        for count in bench.images:
            company = measure.Company()
            for round_, text in enumerate(_job_tables(bench, name, count), 1):
                keep(bench, f"3 Whole job/{name}, {count} JPEGs", f"{text}\n\n{round_} runs each. {company}")


def _job_tables(bench: Bench, network: str, count: int) -> Iterator[str]:
    """The table after each round, as rounds are long and may be cut short."""
    mode = bench.modes[0] if network in models.TWINNED else "backprop"
    rows = [(each, "") for each in bench.chosen([GRADVIZ_JOB, KNOWN_JOB])]
    for tool in bench.chosen(JOBS, network=network):
        rows += [(tool, way) for way in bench.ways]
    found: dict[tuple[str, str], list[measure.Run]] = {row: [] for row in rows}
    failed: dict[tuple[str, str], str] = {}
    if (KNOWN_JOB, "") in rows:
        one_job(bench, network, min(bench.images), mode, KNOWN_JOB, "")
    for _ in range(bench.runs):
        for row in [row for row in rows if row not in failed]:
            try:
                found[row].append(one_job(bench, network, count, mode, *row))
                print(
                    f"{network}, {count}: {' '.join(row)} {found[row][-1].wall:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
            except RuntimeError as error:
                failed[row] = str(error)
                print(f"{network}: {row[0]}: {error}", file=sys.stderr, flush=True)
        yield _job_lines(found, failed, mode)


def _job_lines(found: dict, failed: dict, mode: str) -> str:
    lines = [
        "| tool | mode | pictures | wall, s | least, s | processor, s | gradviz takes | of the processor | a model proved before |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    ours, known = found.get((GRADVIZ_JOB, "")), found.get((KNOWN_JOB, ""))
    for (tool, way), runs in found.items():
        named = mode if tool not in TOOLS or mode in TOOLS[tool].modes else TOOLS[tool].modes[0]
        if (tool, way) in failed:
            lines.append(f"| {tool} | {named} | {way} | failed: {failed[tool, way]} | | | | | |")
            continue
        walls = [run.wall for run in runs]
        cells = (
            f"{median(walls):.2f}",
            f"{min(walls):.2f}",
            f"{median([run.cpu for run in runs]):.2f}",
            *(_share(ours, runs, which) for which in ("wall", "cpu")),
            _share(known, runs, "wall"),
        )
        lines.append(f"| {tool} | {named} | {way or 'its own'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(ours: list[measure.Run] | None, theirs: list[measure.Run], which: str) -> str:
    """What part of their seconds gradviz takes, median of the rounds."""
    if not ours or len(ours) != len(theirs):
        return ""
    seconds = ([getattr(run, which) for run in runs] for runs in (ours, theirs))
    return f"{1 / measure.ratio(*seconds):.2f}"


def one_job(bench: Bench, network: str, count: int, mode: str, tool: str, way: str, watch: bool = False) -> measure.Run:
    """One run of one tool into a new folder, whose pictures are counted.

    Raises
    ------
    RuntimeError
        It failed, is not installed, or did not write a picture for every image.
    """
    folder = models.network(bench.cache, network)
    photographs = models.photographs(bench.cache / "photographs", count)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        kept = bench.cache / "known" if tool == KNOWN_JOB else Path(scratch)
        if tool in (GRADVIZ_JOB, KNOWN_JOB):
            words = [
                "explain",
                str(folder / "saved_model"),
                str(photographs),
                "-o",
                str(out),
                "-m",
                mode,
                "--preprocess",
                "unit",
            ]
            command = [sys.executable, "-m", "gradviz_cli", *words]
        else:
            mode = mode if mode in TOOLS[tool].modes else TOOLS[tool].modes[0]
            command = [*bench.command(tool), "job", str(folder), mode, str(photographs), str(out), way]
        found = measure.run(command, bench.environment(kept), Path(scratch) / "log", watch)
        written = len(list(out.glob("*.png")))
    if written != count:
        raise RuntimeError(f"wrote {written} of {count} pictures")
    return found


def memory(bench: Bench) -> None:
    """Peak resident memory by process in a job of 64 images."""
    for name in filter(models.TWINNED.__contains__, bench.networks):
        lines = ["| tool | process | peak, MB |", "|---|---|--:|"]
        for tool in bench.chosen((GRADVIZ_JOB, *JOBS)):
            try:
                peaks = one_job(bench, name, 64, "guided", tool, "documented", watch=True).peaks
                lines += [f"| {tool} | {role} | {peak / 1e6:.0f} |" for role, peak in peaks.items()]
            except RuntimeError as error:
                lines.append(f"| {tool} | failed: {error} | |")
        keep(bench, f"4 Memory/{name}, 64 JPEGs", "\n".join(lines))


# -- fixed cost -----------------------------------------------------------------------------------------------------------


def fixed(bench: Bench) -> None:
    """From process start to the first map of one image."""
    for name in filter(models.TWINNED.__contains__, bench.networks):
        company = measure.Company()
        text = _fixed_table(bench, name)
        keep(bench, f"5 Fixed cost/{name}", f"{text}\n\n{company}")


def _fixed_table(bench: Bench, network: str) -> str:
    tools = [name for name in bench.chosen(list(TOOLS)) if name != "gradviz, through its worker"]
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in tools}
    failed: dict[str, str] = {}
    for _ in range(bench.runs):
        for tool in [name for name in tools if name not in failed]:
            try:
                found[tool].append(_first_map(bench, network, tool))
            except RuntimeError as error:
                failed[tool] = str(error)
    lines = [
        "| tool | imports, s | model, s | first call, s | second call, s | until the first map, s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for tool, rows in found.items():
        if tool in failed:
            lines.append(f"| {tool} | failed: {failed[tool]} | | | | |")
            continue
        cells = [f"{median(column):.2f}" for column in zip(*rows, strict=True)]
        lines.append(f"| {tool} | {' | '.join(cells)} | {median([sum(row[:3]) for row in rows]):.2f} |")
    return "\n".join(lines)


def _first_map(bench: Bench, network: str, tool: str) -> tuple[float, ...]:
    mode = TOOLS[tool].modes[0]
    folder = models.network(bench.cache, network)
    with tempfile.TemporaryDirectory() as scratch:
        command = [*bench.command(tool), "steady", str(folder), *TOOLS[tool].arguments]
        server = measure.Server(command, bench.environment(Path(scratch)), Path(scratch) / "log")
        try:
            first, second = server.ask(mode=mode, batch=1), server.ask(mode=mode, batch=1)
        finally:
            server.close()
    return first["imported"] - server.started, first["load"], first["seconds"], second["seconds"]


# -- pictures -------------------------------------------------------------------------------------------------------------


def pictures(bench: Bench) -> None:
    """Milliseconds and bytes of one PNG of a noisy heatmap."""
    lines = ["| PNG | 224 x 224 | 640 x 480 | 4000 x 3000 |", "|---|--:|--:|--:|"]
    sizes = ((224, 224), (480, 640), (3000, 4000))
    fields = [
        np.minimum(255, np.abs(np.random.default_rng(1).normal(size=size)) * 90).astype(np.uint8) for size in sizes
    ]
    for title, encode in _encoders().items():
        cells = []
        for field in fields:
            times, size = _timed(lambda field=field, encode=encode: encode(field), 5 if field.size > 1e6 else 20)
            cells.append(f"{1000 * median(times):.1f} ms, {size / 1000:.0f} kB")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    keep(bench, "6 Pictures/one heatmap", "\n".join(lines))


def _encoders() -> dict[str, Callable[[np.ndarray], bytes]]:
    from PIL import Image

    from gradviz_cli.draw.png import encode_png

    palette = np.stack([np.arange(256), np.arange(256) ** 2 // 255, 255 - np.arange(256)], -1).astype(np.uint8)

    def pillow(mode: str, level: int) -> Callable[[np.ndarray], bytes]:
        def encode(field: np.ndarray) -> bytes:
            picture = Image.fromarray(palette[field] if mode == "RGB" else field)
            if mode == "P":
                picture = picture.convert("P")
                picture.putpalette(palette.tobytes())
            target = io.BytesIO()
            picture.save(target, "PNG", compress_level=level)
            return target.getvalue()

        return encode

    return {
        "gradviz": lambda field: encode_png(field, palette, "{}"),
        "Pillow, palette, level 1": pillow("P", 1),
        "Pillow, RGB, level 1": pillow("RGB", 1),
        "Pillow, RGB, level 6 (its default)": pillow("RGB", 6),
    }


def _timed(call: Callable[[], bytes], times: int) -> tuple[list[float], int]:
    found, size = [], 0
    for _ in range(times):
        start = time.perf_counter()
        size = len(call())
        found.append(time.perf_counter() - start)
    return found, size


# -- who waits ------------------------------------------------------------------------------------------------------------


def waits(bench: Bench) -> None:
    """Where the time of `gradviz explain` goes in a job of 64 images (waits.py)."""
    for name in filter(models.TWINNED.__contains__, bench.networks):
        photographs = models.photographs(bench.cache / "photographs", 64)
        company = measure.Company()
        told = [_flat(_waited(bench, name, photographs)[0]) for _ in range(bench.runs)]
        lines = ["| | seconds |", "|---|--:|"]
        lines += [f"| {key} | {median([each[key] for each in told]):.2f} |" for key in told[0]]
        keep(bench, f"7 Who waits/{name}, 64 JPEGs", "\n".join([*lines, "", str(company)]))


def _waited(
    bench: Bench, network: str, photographs: Path, options: Sequence[str] = ()
) -> tuple[dict, measure.Run, int]:
    """What waits.py tells of one run of `gradviz explain`, the run, and the bytes of its pictures."""
    folder = models.network(bench.cache, network)
    with tempfile.TemporaryDirectory() as scratch:
        log, out = Path(scratch) / "log", Path(scratch) / "out"
        words = [str(folder / "saved_model"), str(photographs), "-o", str(out), "--preprocess", "unit", *options]
        run = measure.run([sys.executable, str(HERE / "waits.py"), *words], bench.environment(Path(scratch)), log)
        return json.loads(log.read_text().splitlines()[-1]), run, sum(path.stat().st_size for path in out.glob("*.png"))


def _flat(told: dict) -> dict[str, float]:
    flat = {}
    for key, value in told.items():
        flat.update(
            {f"{key}: {inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
        )
    return flat


# -- what options cost ------------------------------------------------------------------------------------------------------

# Part -> number and size of the photographs, and the rows: what is asked for beside the defaults. The first is what the
# others are held against.
OPTIONS: dict[str, tuple[int, tuple[int, int], dict[str, tuple[str, ...]]]] = {
    "large": (
        12,
        models.LARGE_PHOTO,
        {"heatmap": (), "--size input": ("--size", "input"), "overlay": ("--style", "overlay")},
    ),
    "estimators": (
        8,
        models.PHOTO,
        {name: ("-e", name) for name in ESTIMATORS if ESTIMATORS[name].taps in ("", "cam")},
    ),
    "proof": (1, models.PHOTO, {"--proof auto": (), "--proof never": ("--proof", "never")}),
}
PROCESSES = ("command", "decoders", "worker")


def options(bench: Bench, part: str) -> None:
    """Whole runs of `gradviz explain` with one option or another, in turn."""
    count, size, rows = OPTIONS[part]
    photographs = models.photographs(bench.cache / "photographs", count, size)
    for name in bench.networks[:1] if part == "large" else bench.networks:
        plain = () if name in models.TWINNED else ("-m", "backprop")
        company, found = measure.Company(), {row: [] for row in rows}
        for _ in range(bench.runs):
            for row, more in rows.items():
                found[row].append(_waited(bench, name, photographs, (*plain, *more)))
        title = f"9 What options cost/{name}, {count} JPEGs of {size[0]} x {size[1]}, {part}"
        keep(bench, title, f"{_options_lines(found)}\n\n{bench.runs} runs each. {company}")


def _options_lines(found: dict[str, list[tuple[dict, measure.Run, int]]]) -> str:
    lines = [
        "| | wall, s | against the first | "
        + " | ".join(f"processor, {each}, s" for each in PROCESSES)
        + " | pictures, MB |",
        "|---|--:|--:|" + "--:|" * (len(PROCESSES) + 1),
    ]
    first = [run.wall for _, run, _ in next(iter(found.values()))]
    for row, runs in found.items():
        walls = [run.wall for _, run, _ in runs]
        cells = (
            f"{median(walls):.2f}",
            f"{measure.ratio(first, walls):.2f}",
            *(f"{median([told['processor'].get(each, 0.0) for told, _, _ in runs]):.2f}" for each in PROCESSES),
            f"{runs[0][2] / 1e6:.2f}",
        )
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


# -- many images ------------------------------------------------------------------------------------------------------------


def slope(bench: Bench) -> None:
    """Seconds for each further image, and peak memory, as the number of images grows. Once: it is long."""
    name = "mobilenetv2"
    lines = [
        "| JPEGs | wall, s | ms for each image more | command, peak MB | worker | decoder |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    before = None
    for count in bench.many:
        found = one_job(bench, name, count, "guided", GRADVIZ_JOB, "", watch=True)
        more = "" if before is None else f"{1000 * (found.wall - before[1]) / (count - before[0]):.1f}"
        peaks = [found.peaks.get(role, 0) for role in ("command", "gradviz_cli.worker", "gradviz_cli.images.reader")]
        lines.append(f"| {count} | {found.wall:.1f} | {more} | {' | '.join(f'{peak / 1e6:.0f}' for peak in peaks)} |")
        before = count, found.wall
        keep(bench, f"8 Many images/{name}, guided", "\n".join(lines))


# -- the page -------------------------------------------------------------------------------------------------------------

PARTS = {
    "steady": steady,
    "together": together,
    "job": job,
    "memory": memory,
    "fixed": fixed,
    "pictures": pictures,
    "waits": waits,
    "slope": slope,
    **{part: partial(options, part=part) for part in OPTIONS},
}
ABOUT = {
    "1": "Medians; `faster` is the median of the ratios turn by turn. Peers get the class given, gradviz finds it (top1) unless the "
    "row says otherwise. The bare graph is ours, written by hand: batch norm folded, static batch, class given, one feed, one "
    "fetch, all threads. Maps are compared with the bare graph's.",
    "2": "gradviz, one call for backprop, deconv and guided against a call for each.",
    "3": "`documented`: Pillow's own resize, matplotlib's imsave at 224 x 224. `equal`: bilinear, 8-bit palette at 640 x 480, zlib "
    "level 1, as gradviz writes. gradviz loads the SavedModel with an empty cache; xplique, tf-keras-vis and the recipe load "
    "the Keras file, Captum and PAIR saliency the arrays of the network, because they read no SavedModel.",
    "4": "High-water marks of resident memory, sampled ten times a second; of several processes alike, the largest.",
    "5": "Batch of one, the first mode that the tool knows. gradviz in one process, without the command around it.",
    "6": "Of a heatmap of noise, the worst case.",
    "8": "One run of `gradviz explain` for each number of images.",
    "9": "Whole runs of `gradviz explain` into a new folder; each proves the model unless the row says otherwise. Worker and decoders "
    "are read before they are ended.",
    "7": "Seconds since the command began, and seconds at work by stage (threads overlap) and processor seconds by process. "
    "`images read when the model was loaded` is a number of images.",
}


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def keep(bench: Bench, title: str, text: str) -> None:
    """Put a table into the store and write the page anew."""
    file = bench.cache / "results.json"
    store = json.loads(file.read_text()) if file.is_file() else {}
    store[title] = f"{text}\n\n_{time.strftime('%Y-%m-%d %H:%M')}_"
    file.write_text(json.dumps(store, indent=1))
    (HERE / "RESULTS.md").write_text(page(store))
    print(f"\n## {title}\n\n{text}", flush=True)


def page(store: dict[str, str]) -> str:
    """All tables that there are, as one page."""
    lines = ["# Speed, measured by `make bench`", "", measure.machine(), "", f"{_versions()}", ""]
    last = None
    for title, text in sorted(store.items()):
        part, _, name = title.partition("/")
        if part != last:
            lines += [f"## {part[2:]}", "", ABOUT[part[0]], ""]
        lines += [f"### {name}", "", text, ""]
        last = part
    return "\n".join(lines)


def _versions() -> str:
    from gradviz_cli.version import __version__

    ours = environments.versions(Path(sys.executable), "tensorflow", "keras", "numpy", "pillow")
    pinned = [
        package for calls in environments.PACKAGES.values() for call in calls for package in call if "==" in package
    ]
    peers = sorted({each for each in pinned if each.split("==")[0] not in ours})
    said = ", ".join(f"{name} {version}" for name, version in ours.items())
    return f"gradviz {__version__}, Python {sys.version.split()[0]}, {said}; peers: {', '.join(peers)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; all unless given")
    parser.add_argument("--network", action="append", choices=models.NETWORKS, help="all unless given")
    parser.add_argument("--mode", action="append", choices=MODES, help="all unless given; a job runs the first")
    parser.add_argument(
        "--batch", action="append", type=int, choices=range(1, 9), metavar="N", help="1 and 8 unless given"
    )
    parser.add_argument("--tool", action="append", default=[], help="part of a tool's name; all unless given")
    parser.add_argument("--images", action="append", type=int, help="JPEGs of a job; 1 and 64 unless given")
    parser.add_argument(
        "--way", action="append", choices=("documented", "equal"), help="how peers read and write; both"
    )
    parser.add_argument("--long", action="store_true", help="also a job of 1000 JPEGs, and one of 10000")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    cache = environments.cache()
    (cache / "models").mkdir(parents=True, exist_ok=True)
    np.save(cache / "models" / "inputs.npy", models.inputs(8))
    bench = Bench(
        cache=cache,
        networks=tuple(options.network or models.NETWORKS),
        modes=tuple(options.mode or MODES),
        batches=tuple(options.batch or (1, 8)),
        tools=tuple(name.lower() for name in options.tool),
        images=(*(options.images or (1, 64)), *((1000,) if options.long else ())),
        ways=tuple(options.way or ("documented", "equal")),
        runs=options.runs,
        many=(100, 1000, 10_000) if options.long else (100, 1000),
    )
    for part in options.parts or PARTS:
        PARTS[part](bench)


if __name__ == "__main__":
    main()
