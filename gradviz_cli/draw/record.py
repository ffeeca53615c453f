"""What a picture says of itself: written into it, read back, and turned into options again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradviz_cli.draw import styles
from gradviz_cli.draw.png import read_text
from gradviz_cli.images.fit import Geometry
from gradviz_cli.plan.digests import ESTIMATOR, Digests
from gradviz_cli.plan.outputs import Output
from gradviz_cli.plan.plan import Job, Plan
from gradviz_cli.process.protocol import Facts
from gradviz_cli.version import __version__


def read(path: Path) -> dict[str, Any] | None:
    """The text that a picture carries; None where there is none, or no whole one. NaN becomes None, as in strict JSON."""
    try:
        record = json.loads(read_text(path) or "null", parse_constant=lambda word: None)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


@dataclass(frozen=True)
class Source:
    """One image as the reader gave it: upright size (height, width), pixels only where a style needs them."""

    job: Job
    size: tuple[int, int]
    sha256: str
    fitted: np.ndarray
    pixels: np.ndarray | None


@dataclass(frozen=True)
class Context:
    """What is the same for all images of a run."""

    plan: Plan
    facts: Facts
    digests: Digests
    geometry: Geometry

    @property
    def look(self) -> styles.Look:
        drawing = self.plan.drawing
        return styles.Look(drawing.colormap, drawing.clip, drawing.alpha)


def _text(context, source, target, output, scale, hashes) -> str:
    """What the picture says of itself; the text chunk `gradviz`. A panel has a scale and an array for each mode."""
    plan, style = context.plan, styles.STYLES[styles.PANEL if output.style == "panel" else output.style]
    record = {
        "version": __version__,
        "mode": output.mode or list(plan.drawing.modes),
        "estimator": ESTIMATOR,
        "style": output.style,
        "target": asdict(target),
        "signature": context.facts.signature,
        "preprocess": context.facts.preprocess,
        "clip": plan.drawing.clip,
        "scale": scale,
        "unit": "attribution per model-input unit",
        "model": context.digests.fingerprint,
        "image": source.sha256,
        "digest": context.digests.of(output, source.sha256),
    }
    if hashes:
        record["npy"] = hashes[output.mode] if output.mode else hashes
    colormap = style.colormap_for(context.look)
    look = {"colormap": colormap} if colormap else {}
    if output.style == "overlay":
        look["alpha"] = plan.drawing.alpha
    return json.dumps({**record, **look, "options": told(plan, output) | look})


SHORT = 200  # characters of a fed value that a picture repeats


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
