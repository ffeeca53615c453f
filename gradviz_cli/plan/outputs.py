"""Which files a job is to have, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gradviz_cli.errors import ImageError
from gradviz_cli.estimators import GRADIENT, Method
from gradviz_cli.plan.plan import DEFAULT_STYLE, Job, Plan
from gradviz_cli.plan.targets import PARENT, Target, of_image

# What OUT holds besides pictures and arrays.
MANIFEST, LOCK = "manifest.jsonl", ".gradviz.lock"
CHECK, FIGURE = "check.png", "figure.png"  # what `gradviz check` and `gradviz figure` draw, wherever it is
INDEX = ".gradviz.index"  # what a large manifest knows of each output, so that the next run need not read all of it
# In a store, where nothing can be appended, a folder of lines: those of each batch of a run, in the order of their names.
SEGMENTS = "manifest"
SEGMENT = re.compile(r"(\d{6,18})-([1-9]\d{0,17})-of-([1-9]\d{0,17})-[0-9a-f]{8}-\d{6,18}\.jsonl")
# A folder in it, while runs with --shard write there: of each its lock and its lines of the manifest.
SHARDS = ".gradviz.shards"
Shard = tuple[int, int]  # I and N of --shard I/N
WHOLE: Shard = (1, 1)
# What a lock holds: nothing, or who has it; never more bytes.
LONGEST_LOCK = 200
LOCK_TEXT = re.compile(rb"(process \d+ on [^\n]+)?\n?")
KEYWORD = b"gradviz"  # of the text chunk in our PNGs, which is their second one


@dataclass(frozen=True)
class Output:
    """One picture to be. `mode` is None where it is a sheet, which shows every method of its target. `shared` are the targets
    whose maps have one scale with it, where they depend on where the image lies."""

    path: Path
    mode: str | None
    target: Target
    style: str
    shared: tuple[Target, ...] = ()
    page: int | None = None  # its place in the image's file, where that has several
    estimator: str = GRADIENT

    @property
    def method(self) -> str | None:
        """The name of what it shows; None where it is a sheet."""
        return None if self.mode is None else Method(self.mode, self.estimator).name

    def array_paths(self, methods: Iterable[str]) -> dict[str, Path]:
        """Method -> where the attribution behind it goes with --raw, the same for all styles; `methods` are those of a sheet."""
        target = f".{self.target.name}" if self.target.name else ""
        name = self.path.name.removesuffix(".png")
        name = name.removesuffix("" if self.style == DEFAULT_STYLE else f".{self.style}").removesuffix(target)
        if self.method is None:
            return {method: self.path.with_name(f"{name}.{method}{target}.npy") for method in methods}
        return {self.method: self.path.with_name(f"{name}{target}.npy")}


def outputs(plan: Plan, job: Job, sheets: Collection[str]) -> tuple[Output, ...]:
    """Every picture that a job is to have: maps in the order methods, targets, styles, then sheets.

    `sheets` are the styles that show every method of a target on one picture; all others draw one map.

    Raises
    ------
    ImageError
        As `targets_of`.
    """
    drawing, found = plan.drawing, []
    targets = targets_of(plan, job)
    for method in drawing.methods:
        for target in targets:
            found += [_output(plan, job, method, target, style) for style in drawing.styles if style not in sheets]
    for target in targets:
        found += [_output(plan, job, None, target, style) for style in drawing.styles if style in sheets]
    return tuple(found)


def targets_of(plan: Plan, job: Job) -> tuple[Target, ...]:
    """The targets of one image: `parent` is a class; ImageError where no label is the name of its folder, or it has none."""
    if job.copy and any(target.parent for target in plan.drawing.targets):
        raise ImageError(
            "target", f"--target {PARENT}: what comes through stdin lies in no folder; give the path of the image"
        )
    return of_image(plan.drawing.targets, plan.labels, str(job.path))


def _output(plan: Plan, job: Job, name: str | None, target: Target, style: str) -> Output:
    parts = [job.rel, name, target.name, "" if style == DEFAULT_STYLE else style, "png"]
    by_folder = plan.drawing.scale == "shared" and any(one.parent for one in plan.drawing.targets)
    shared = targets_of(plan, job) if by_folder else ()
    place = job.page and job.page.place
    mode, estimator = (None, GRADIENT) if name is None else Method.of(name)
    return Output(plan.out / ".".join(filter(None, parts)), mode, target, style, shared, place, estimator)


def stems(plan: Plan, sheets: Collection[str]) -> Callable[[str], Iterable[str]] | None:
    """What the outputs of an image are named by, where two images of one folder may share it; else None.

    A sheet has no mode in its name: `cat.3` and the panel of class 3 of `cat` would both be `cat.3.panel.png`.
    """
    parts = {target.name for target in plan.drawing.targets}
    if set(sheets).isdisjoint(plan.drawing.styles) or parts == {""}:
        return None
    by_folder = any(target.parent for target in plan.drawing.targets)

    def names(rel: str) -> set[str]:
        own = {""}
        if by_folder:
            with suppress(ImageError):
                own |= {target.name for target in of_image(plan.drawing.targets, plan.labels, rel)}
        return {".".join(filter(None, [rel, part])) for part in parts | own}

    return names
