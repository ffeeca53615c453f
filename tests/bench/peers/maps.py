"""What the scripts that give the maps of estimators share. Each is run as `python SCRIPT FOLDER OUT.npz [TOOL]`: the network
of ../estimators.py in FOLDER, and the arrays that it writes, by the name of the estimator.

All explain the same class of the same two images in 0..1: the best of the clean image. Maps of a layer are [n, h, w].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

SAMPLES, COUNT = 32, 2


def arguments() -> tuple[Path, Path, str]:
    """The network's folder, the file to be written, and the tool, where a script has several."""
    folder, out, *tool = sys.argv[1:]
    return Path(folder), Path(out), tool[0] if tool else ""


def layer_of(folder: Path) -> str:
    """The feature map of the network that maps are taken from, by the name that it has in Keras; none of a transformer."""
    return json.loads((folder / "network.json").read_text())["layer"]


def inputs(folder: Path) -> np.ndarray:
    return np.load(folder / "inputs.npy")[:COUNT]


def baselines(images: np.ndarray) -> np.ndarray:
    """Each image's own mean colour everywhere, in steps of 1/256 as the images are."""
    means = np.round(images.mean((1, 2), keepdims=True, dtype=np.float64) * 256) / 256
    return np.broadcast_to(means, images.shape).astype(np.float32)
