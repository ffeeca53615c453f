"""Output folders as a run writes them, without a model: manifest, pictures and arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gradviz_cli.draw.png import encode_npy, encode_png

SIZE = (24, 32)  # of the photos, height and width


def photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(blocks).resize(size[::-1], Image.Resampling.NEAREST).save(path)
    return path


def attribution(seed: int, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write_picture(path: Path, text: dict, size: tuple[int, int] = SIZE) -> None:
    path.write_bytes(encode_png(np.zeros(size, np.uint8), None, json.dumps(text)))


def write(
    out: Path,
    photos: Sequence[Path],
    *,
    modes: Sequence[str] = ("guided",),
    targets: Sequence[str] = ("top1",),
    classes: dict[str, tuple[int, str | None]] | None = None,
    estimator: str = "gradient",
    values: dict[tuple[str, str, str], np.ndarray] | None = None,
    raw: bool = True,
    **more: object,
) -> Path:
    """One line and one heatmap for each photo, mode and target. `classes` has index and label of a photo or a target, `values`
    the array of (photo, mode, target); `more` is what the pictures say besides, and `options` what differs from the usual."""
    out.mkdir(parents=True, exist_ok=True)
    seed = 0
    with open(out / "manifest.jsonl", "a") as lines:
        for path in photos:
            names = []
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            for mode in modes:
                for target in targets:
                    seed += 1
                    array = (values or {}).get((path.name, mode, target), attribution(seed))
                    data = encode_npy(array)
                    parts = [path.name, mode, "" if estimator == "gradient" else estimator]
                    stem = ".".join(filter(None, [*parts, "" if target == "top1" else target]))
                    index, label = (classes or {}).get(path.name) or (classes or {}).get(target) or (3, "cat")
                    said = {
                        "version": "0",
                        "mode": mode,
                        "estimator": estimator,
                        "style": "heatmap",
                        "target": {"index": index, "label": label, "rank": 0, "score": 1.5, "output": 0.5},
                        "preprocess": "raw",
                        "scale": [0, 1],
                        "unit": "attribution per model-input unit",
                        "model": "f" * 64,
                        "image": digest,
                        "options": {"size": "image", "fit": "stretch", "score": "logit"},
                        **({"npy": hashlib.sha256(data).hexdigest()} if raw else {}),
                    }
                    said["options"] |= more.get("options", {})
                    said |= {key: value for key, value in more.items() if key != "options"}
                    with Image.open(path) as image:
                        write_picture(out / f"{stem}.png", said, image.size[::-1])
                    names.append(f"{stem}.png")
                    if raw:
                        (out / f"{stem}.npy").write_bytes(data)
            line = {
                "image": str(path),
                "source": str(path),
                "status": "written",
                "outputs": names,
                "image_sha256": digest,
            }
            lines.write(json.dumps(line) + "\n")
    return out
