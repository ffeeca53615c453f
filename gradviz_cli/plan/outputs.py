"""Which files a job is to have, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.plan.targets import Target


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
