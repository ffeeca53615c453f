"""What was asked, which files it means, and how it went. Plain values; nothing here reads an image or a model."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gradviz_cli.errors import ExitCode, UsageError, gravest

# Part of every digest: raised when the same options would give other pixels than before.
DRAWING_VERSION = 2
ESTIMATOR = "gradient"
SHORT = 200  # characters of a fed value that a picture repeats
MOST_DIGITS = 6  # of a class index; no model has more than a million classes


@dataclass(frozen=True)
class Target:
    """What of the model's scores is explained: the class of a rank (0 is the best) or a class index."""

    rank: int | None = None
    index: int | None = None

    @property
    def name(self) -> str:
        """The part of a file name that tells targets apart; empty for the plain best class."""
        if self.index is not None:
            return str(self.index)
        return f"top{self.rank + 1}" if self.rank else ""

    @property
    def spec(self) -> str:
        return self.name or "top1"

    @property
    def code(self) -> int:
        """How the worker is told: the index, or -1 - rank."""
        return self.index if self.index is not None else -1 - self.rank


@dataclass(frozen=True)
class ModelOptions:
    """Everything that decides which graph is differentiated and how its input is meant."""

    path: str
    signature: str | None = None
    tag: str | None = None
    input: str | None = None
    output: str | None = None
    score: str = "logit"
    activations: str = "relu"
    preprocess: str = "auto"
    input_size: tuple[int, int] | None = None
    layout: str | None = None
    at: tuple[int, ...] = ()
    feeds: tuple[tuple[str, str], ...] = ()
    precision: str = "float32"
    allow_ops: tuple[str, ...] = ()
    trust_model: bool = False


@dataclass(frozen=True)
class Drawing:
    """Everything that decides which pictures are drawn of an attribution, and how."""

    modes: tuple[str, ...] = ("guided",)
    targets: tuple[Target, ...] = (Target(rank=0),)
    styles: tuple[str, ...] = ("heatmap",)
    colormap: str = "inferno"
    clip: float = 99.0
    alpha: float = 0.5
    scale: str = "each"
    size: str = "image"
    fit: str = "stretch"
    fast_decode: bool = False
    scores: bool = True
    raw: bool = False
    allow_empty_map: bool = False


@dataclass(frozen=True)
class Plan:
    """One run of `gradviz explain`."""

    model: ModelOptions
    out: Path
    drawing: Drawing = Drawing()
    labels: tuple[str, ...] = ()
    batch_size: int | None = None
    jobs: int | None = None
    force: bool = False
    dry_run: bool = False
    fail_fast: bool = False
    timeout: float = 60.0
    max_duration: float | None = None
    max_pixels: int = 50_000_000
    max_file_size: int = 100_000_000
    verbose: bool = False
    require_sandbox: bool = False


@dataclass(frozen=True)
class Job:
    """One image: where it is, and the name that its outputs have under OUT; `trouble` when it cannot even be looked for."""

    path: Path
    rel: str
    trouble: str | None = None


@dataclass(frozen=True)
class Output:
    """One picture to be."""

    path: Path
    mode: str | None
    target: Target
    style: str

    def array_paths(self, modes: Iterable[str]) -> dict[str, Path]:
        """Mode -> where the attribution behind it goes with --raw, the same for all styles; `modes` are those of a panel."""
        target = f".{self.target.name}" if self.target.name else ""
        name = self.path.name.removesuffix(".png")
        name = name.removesuffix("" if self.style == "heatmap" else f".{self.style}").removesuffix(target)
        if self.mode is None:
            return {mode: self.path.with_name(f"{name}.{mode}{target}.npy") for mode in modes}
        return {self.mode: self.path.with_name(f"{name}{target}.npy")}


@dataclass(frozen=True)
class Result:
    """How one image went; a line of the manifest."""

    image: str
    status: str
    outputs: tuple[str, ...] = ()
    targets: tuple[dict[str, Any], ...] = ()
    error: dict[str, str] | None = None
    digest: str | None = None
    seconds: float = 0.0
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.status in ("failed", "zero", "nonfinite")

    def record(self, time: str) -> dict[str, Any]:
        """The manifest's line: `source` is the image's full path, `sha256` the hash of each file that was written."""
        line = asdict(self)
        hashes = line.pop("hashes")
        more = {"seconds": round(self.seconds, 3), "time": time, "source": _absolute(self.image), "sha256": hashes}
        return {**line, **more}


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # the working folder is gone
        return path


@dataclass
class Report:
    """Counts of a run; yields the exit code."""

    counts: dict[str, int] = field(default_factory=dict)
    fatal: set[ExitCode] = field(default_factory=set)
    untried: bool = False  # --fail-fast left images out

    def add(self, result: Result) -> None:
        self.counts[result.status] = self.counts.get(result.status, 0) + 1

    @property
    def failed(self) -> int:
        return sum(self.counts.get(status, 0) for status in ("failed", "zero", "nonfinite"))

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def exit_code(self, allow_empty: bool = False) -> ExitCode:
        codes = set(self.fatal)
        if self.failed:
            every = self.failed == self.total and not self.untried
            codes.add(ExitCode.ALL_FAILED if every else ExitCode.SOME_FAILED)
        if not self.total and not allow_empty and not codes:
            codes.add(ExitCode.ALL_FAILED)
        return gravest(codes)


def parse_targets(specs: tuple[str, ...], labels: tuple[str, ...]) -> tuple[Target, ...]:
    """`topK`, a class index, or a label -> targets, each once, in the order given.

    Raises
    ------
    UsageError
        A label that is not known or stands for several classes.
    """
    found: list[Target] = []
    for spec in specs:
        count, index = _number(spec.removeprefix("top")), _number(spec)
        if spec.startswith("top") and count:
            found.extend(Target(rank=rank) for rank in range(count))
        elif index is not None:
            found.append(Target(index=index))
        else:
            found.append(Target(index=_index_of(spec, labels)))
    return tuple(dict.fromkeys(found))


def _number(text: str) -> int | None:
    """A whole number that can be a class."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


def _index_of(label: str, labels: tuple[str, ...]) -> int:
    if not labels:
        raise UsageError(f"--target {label}: no labels are known", "give --labels FILE, or a class index")
    places = [i for i, name in enumerate(labels) if name == label]
    places = places or [i for i, name in enumerate(labels) if name.casefold() == label.casefold()]
    if len(places) == 1:
        return places[0]
    if places:
        raise UsageError(f"--target {label}: {len(places)} classes have that label", f"give an index: {places[:5]}")
    near = [name for name in labels if label.casefold() in name.casefold()][:3]
    raise UsageError(f"--target {label}: no such label", f"did you mean {', '.join(near)}?" if near else "give an index")


def outputs(plan: Plan, job: Job) -> tuple[Output, ...]:
    """Every picture that a job is to have, in the order modes, targets, styles."""
    drawing, found = plan.drawing, []
    maps = [style for style in drawing.styles if style != "panel"]
    for mode in drawing.modes:
        for target in drawing.targets:
            for style in maps:
                parts = [job.rel, mode, target.name, "" if style == "heatmap" else style, "png"]
                found.append(Output(plan.out / ".".join(filter(None, parts)), mode, target, style))
    if "panel" in drawing.styles:
        for target in drawing.targets:
            parts = [job.rel, target.name, "panel", "png"]
            found.append(Output(plan.out / ".".join(filter(None, parts)), None, target, "panel"))
    return tuple(found)


def stems(plan: Plan) -> Callable[[str], Iterable[str]] | None:
    """What the outputs of an image are named by, where two images of one folder may share it; else None.

    A panel has no mode in its name: `cat.3` and the panel of class 3 of `cat` would both be `cat.3.panel.png`.
    """
    parts = {target.name for target in plan.drawing.targets}
    if "panel" not in plan.drawing.styles or parts == {""}:
        return None
    return lambda rel: {".".join(filter(None, [rel, part])) for part in parts | {""}}


class Digests:
    """The digests of a run's outputs: SHA-256 over everything that changes a pixel.

    What is the same for all images is hashed once, so that a million images that are current cost little.
    """

    def __init__(self, plan: Plan, fingerprint: str):
        self._plan, self.fingerprint = plan, fingerprint
        self._shared: dict[tuple, str] = {}

    def of(self, output: Output, image_sha256: str) -> str:
        kind = (output.mode, output.target, output.style)
        if kind not in self._shared:
            self._shared[kind] = self._of_kind(output)
        return hashlib.sha256(f"{self._shared[kind]} {image_sha256}".encode()).hexdigest()

    def _of_kind(self, output: Output) -> str:
        plan = self._plan
        drawing, model = asdict(plan.drawing), asdict(plan.model)
        together = output.style == "panel" or plan.drawing.scale == "shared"
        if not together:
            drawing.update(modes=output.mode, targets=output.target.spec)
        drawing.update(styles=output.style, target=output.target.spec)
        del model["path"], drawing["raw"]
        labels = plan.labels if output.style == "panel" else ()
        facts = [DRAWING_VERSION, ESTIMATOR, self.fingerprint, model, drawing, labels]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def told(plan: Plan, output: Output) -> dict[str, Any]:
    """The options that draw this picture again, by their long names; those of the model only where they were given."""
    drawing, model = plan.drawing, plan.model
    together = output.style == "panel" or drawing.scale == "shared"
    shared = drawing.scale == "shared"
    options = {
        "mode": list(drawing.modes) if together else [output.mode],
        "target": [target.spec for target in drawing.targets] if shared else [output.target.spec],
        "style": output.style,
        "clip": drawing.clip,
        "scale": drawing.scale,
        "fit": drawing.fit,
        "size": drawing.size,
        "score": model.score,
        "activations": model.activations,
    }
    given = {
        "preprocess": None if model.preprocess == "auto" else model.preprocess,
        "signature": model.signature,
        "tag": model.tag,
        "input": model.input,
        "output": model.output,
        "input-size": "x".join(map(str, model.input_size or ())),
        "layout": model.layout,
        "at": ",".join(map(str, model.at or ())),
        "feed": [f"{name}={value if len(value) <= SHORT else '...'}" for name, value in model.feeds],
        "precision": None if model.precision == "float32" else model.precision,
        "fast-decode": drawing.fast_decode,
        "no-scores": not drawing.scores,
        "allow-op": list(model.allow_ops),
        "trust-model": model.trust_model,
        "allow-empty-map": drawing.allow_empty_map,
    }
    return options | {name: value for name, value in given.items() if value}


def as_arguments(options: Mapping[str, Any]) -> str:
    """Options by their long names, as they are typed in a shell."""
    parts: list[str] = []
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            shown = f"{each:g}" if isinstance(each, float) else str(each)
            parts += [f"--{name}"] if each is True else [f"--{name}", shlex.quote(shown)]
    return " ".join(parts)


def now() -> str:
    """The time as RFC 3339, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def joint_digest(digests: list[str]) -> str:
    """The digest of the only output, or one over those of all."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def cores() -> int:
    """Processors that this process may use; command and worker count them alike."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
