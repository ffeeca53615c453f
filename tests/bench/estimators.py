"""How far the maps of gradviz's estimators are from those of other tools, on equal weights: `python estimators.py [NETWORK...]`

Each tool runs in a process of its own (TensorFlow and PyTorch in one crash) and an environment of its own
(environments.py). A line is the relative L2 distance of the worse of two images.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import environments
import models
import numpy as np

HERE = Path(__file__).parent / "peers"
# Tool -> environment, script, and what the script is told.
TOOLS = {
    "gradviz": ("plain", "maps_gradviz.py", ()),
    "captum": ("cams", "maps_torch.py", ("captum",)),
    "pytorch-grad-cam": ("cams", "maps_torch.py", ("pytorch-grad-cam",)),
    "torch-cam": ("cams", "maps_torch.py", ("torch-cam",)),
    "tf-keras-vis": ("tf-keras-vis", "maps_tf_keras_vis.py", ()),
}


def main(networks: list[str]) -> None:
    cache = environments.cache()
    for network in networks:
        folder = models.network(cache, network)
        np.save(folder.parent / "inputs.npy", models.inputs(8))
        found = {tool: maps_of(tool, folder) for tool in TOOLS}
        ours = found.pop("gradviz")
        for tool, maps in found.items():
            for name, theirs in maps.items():
                mine = ours[name.split(" as ")[0]]
                print(f"{network:12} {name:22} {tool:18} {distance(mine, theirs):.1e}", flush=True)
        for name in filter(lambda each: ":" in each, ours):
            print(f"{network:12} {name:40} {', '.join(f'{value:.7g}' for value in ours[name])}", flush=True)


def maps_of(tool: str, folder: Path) -> dict[str, np.ndarray]:
    environment, script, more = TOOLS[tool]
    python = sys.executable if tool == "gradviz" else environments.python_of(environment)
    out = folder / f"maps-{tool}.npz"
    subprocess.run([str(python), str(HERE / script), str(folder), str(out), *more], check=True)
    return dict(np.load(out))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Relative L2, of the worse image."""
    one, other = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (one, other))
    return float((np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max())


if __name__ == "__main__":
    main(sys.argv[1:] or list(models.NETWORKS))
