"""How far the maps of gradviz's estimators are from those of other tools, on equal weights: `python estimators.py [NETWORK...]`

Each tool runs in a process of its own (TensorFlow and PyTorch in one crash) and an environment of its own
(environments.py). A line is the relative L2 distance of the worse of two images.
"""

from __future__ import annotations

import shutil
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


SIDE = 64


def main(networks: list[str]) -> None:
    cache = environments.cache() / "estimators"
    for name in networks:
        folder = network(cache, name)
        found = {tool: maps_of(tool, folder) for tool in TOOLS}
        ours = found.pop("gradviz")
        for tool, maps in found.items():
            for said, theirs in maps.items():
                mine = ours[said.split(" as ")[0]]
                print(f"{name:15} {said:22} {tool:18} {told(mine, theirs)}", flush=True)
        for said in filter(lambda each: ":" in each, ours):
            print(f"{name:15} {said:40} {', '.join(f'{value:.7g}' for value in ours[said])}", flush=True)


def network(cache: Path, name: str) -> Path:
    """The folder of a network, made unless it is there. All are shallow: behind fifty layers of weights that nobody has trained
    the last bit of a sum decides which ReLUs are open, and two right programs are percents apart."""
    folder = cache / name
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        images = models.inputs(8)[:, ::3, ::3][:, :SIDE, :SIDE]
        np.save(cache / "inputs.npy", images)
        models.keep(NETWORKS[name](), folder, images)
        (folder / "complete").touch()
    return folder


def _vgg():
    from keras import Input, Model, layers

    x = image = Input((SIDE, SIDE, 3))
    for block, width in enumerate((16, 32, 64)):
        for turn in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{block}_conv{turn}")(x)
        x = layers.MaxPooling2D(name="last" if block == 2 else f"block{block}_pool")(x)
    x = layers.Dense(64, activation="relu", name="hidden")(layers.Flatten()(x))
    return Model(image, layers.Dense(10, activation="softmax", name="scores")(x))


def _resnet():
    from keras import Input, Model, layers

    def normed(x, width, size, stride, name, relu=True):
        x = layers.Conv2D(width, size, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = layers.BatchNormalization(name=f"{name}_norm")(x)
        return layers.Activation("relu", name=f"{name}_relu")(x) if relu else x

    image = Input((SIDE, SIDE, 3))
    x = normed(image, 16, 3, 2, "stem")
    for block, width in enumerate((16, 32, 64)):
        stride = 1 if block == 0 else 2
        short = normed(x, width, 1, stride, f"block{block}_short", relu=False)
        x = normed(normed(x, width, 3, stride, f"block{block}_0"), width, 3, 1, f"block{block}_1", relu=False)
        x = layers.Add(name=f"block{block}_sum")([x, short])
        x = layers.Activation("relu", name="last" if block == 2 else f"block{block}_out")(x)
    return Model(image, layers.Dense(10, activation="softmax", name="scores")(layers.GlobalAveragePooling2D()(x)))


def _mobilenet():
    from keras import Input, Model, layers

    def capped(x, name):
        return layers.ReLU(6.0, name=name)(layers.BatchNormalization(name=f"{name}_norm")(x))

    x = image = Input((SIDE, SIDE, 3))
    x = capped(layers.Conv2D(16, 3, 2, padding="same", use_bias=False, name="stem_conv")(x), "stem")
    for block, width in enumerate((24, 32, 64)):
        wide = capped(
            layers.Conv2D(4 * width, 1, use_bias=False, name=f"block{block}_expand_conv")(x), f"block{block}_expand"
        )
        deep = layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False, name=f"block{block}_depth_conv")(wide)
        deep = capped(deep, f"block{block}_depth")
        x = layers.Conv2D(width, 1, use_bias=False, name=f"block{block}_project")(deep)
        x = layers.BatchNormalization(name=f"block{block}_project_norm")(x)
    x = capped(layers.Conv2D(128, 1, use_bias=False, name="last_conv")(x), "last")
    return Model(image, layers.Dense(10, activation="softmax", name="scores")(layers.GlobalAveragePooling2D()(x)))


NETWORKS = {"vgg-like": _vgg, "resnet-like": _resnet, "mobilenet-like": _mobilenet}


def maps_of(tool: str, folder: Path) -> dict[str, np.ndarray]:
    environment, script, more = TOOLS[tool]
    python = sys.executable if tool == "gradviz" else environments.python_of(environment)
    out = folder / f"maps-{tool}.npz"
    subprocess.run([str(python), str(HERE / script), str(folder), str(out), *more], check=True)
    return dict(np.load(out))


def told(mine: np.ndarray, theirs: np.ndarray) -> str:
    """How far two maps are apart, where they are of one layer."""
    if mine.shape != theirs.shape:
        return f"is of another layer: {list(theirs.shape[1:])}, not {list(mine.shape[1:])}"
    return f"{distance(mine, theirs):.1e}"


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Relative L2, of the worse image."""
    one, other = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (one, other))
    return float((np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)).max())


if __name__ == "__main__":
    main(sys.argv[1:] or list(NETWORKS))
