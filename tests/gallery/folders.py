"""Output folders as runs leave them, in the working folder: images in `photos`, pictures in `maps`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from gradviz_cli import gallery
from gradviz_cli.batch import manifest
from gradviz_cli.draw.colormaps import COLORMAPS
from gradviz_cli.draw.png import encode_png
from gradviz_cli.plan.results import Result

MODEL = "12" * 32
LABELS = ["arrow", "crescent", "cross"]
HOSTILE = [
    "a#b?c%41&d.jpg",
    "a b\nc\t.jpg",
    "</script><script>hacked=1</script>.jpg".replace("/", "\u2215"),
    '"><img src=x onerror=hacked=1>.jpg',
    "\u65e5\u672c \u202egpj.jpg",
    os.fsdecode(b"caf\xe9\xff.jpg"),
    "\\xff.jpg",
    "javascript:hacked=1.jpg",
    "!--<!--.jpg",
]
HOSTILE_LABEL = "</script><img src=x onerror=hacked=1>\u2028&amp;"


def photo(path: Path, colour: tuple[int, int, int] = (200, 60, 40), size: tuple[int, int] = (40, 30)) -> Path:
    """An image of one colour, `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, quality=95)
    return path


BLUE = np.full((30, 40, 3), (20, 40, 220), np.uint8)


def draw(
    out: Path, source: Path, rel: str, mode: str, style: str = "heatmap", spec: str = "",
    pixels: np.ndarray = BLUE, **text,
) -> str:  # fmt: skip
    """Write a picture as a run does: all of one blue, with what it says of itself; returns its name.

    `pixels` are others, or intensities of the colormap that it names; `over` replaces what it says of its mode and style.
    """
    over = text.pop("over", {})
    estimator = text.get("estimator", "")
    parts = [rel, "" if style == "panel" else mode, estimator, spec, "" if style == "heatmap" else style, "png"]
    name = ".".join(filter(None, parts))
    record = {
        "version": "0.1.0",
        "mode": ["backprop", "guided"] if style == "panel" else mode,
        "estimator": "gradient",
        "style": style,
        "target": {"index": 0, "label": LABELS[0], "rank": 0, "score": 12.5, "output": 0.975},
        "preprocess": "unit",
        "scale": [0.0, 0.00123456789],
        "unit": "attribution per model-input unit",
        "model": MODEL,
        "image": hashlib.sha256(source.read_bytes()).hexdigest(),
        "digest": "ef" * 32,
        **text,
        **over,
    }
    palette = COLORMAPS[text["colormap"]] if pixels.ndim == 2 else None
    if style == "panel":
        pixels = np.tile(pixels, (1, 3, 1))
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_bytes(encode_png(pixels, palette, json.dumps(record)))
    return name


def log(out: Path, image: Path | str, outputs: tuple | list = (), status: str = "written", **more) -> None:
    """Add a line to the manifest as a run does."""
    out.mkdir(parents=True, exist_ok=True)
    if status != "failed" and "image_sha256" not in more:
        more["image_sha256"] = hashlib.sha256(Path(image).read_bytes()).hexdigest()
    book = manifest.Manifest(out)
    book.add(Result(str(image), status, tuple(outputs), **more))
    book.close()


def explained(
    name: str = "a.jpg",
    modes: tuple[str, ...] = ("guided",),
    out: str = "maps",
    size: tuple[int, int] = (40, 30),
    **text,
) -> None:
    """One image of `photos`, explained into `maps`."""
    source = Path("photos") / name
    if not source.exists():
        photo(source, size=size)
    log(Path(out), source, [draw(Path(out), source, name, mode, **text) for mode in modes])


def said(label: str, rank: int = 0, score: float = 1.0, output: float = 0.5) -> dict:
    """A target as a picture says it."""
    return {"index": 7, "label": label, "rank": rank, "score": score, "output": output}


def collected(*outs: str) -> dict:
    return gallery.collect([Path(out) for out in outs or ("maps",)])


def embedded(page: Path) -> str:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("ascii"), re.S)
    return data


def source_of(data: dict, image: dict) -> str:
    return data["folders"][image["folder"]][1] + image.get("url", image["name"])
