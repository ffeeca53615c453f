"""How far the maps of gradviz's estimators are from those of other tools, on equal weights: `python estimators.py [NETWORK...]`

Each tool runs in a process of its own (TensorFlow and PyTorch in one crash) and an environment of its own
(environments.py). A line is the relative L2 distance of the worse of two images; ESTIMATORS.md has them as a table.

Every network is there twice. In float32 the last bit of a sum decides whether a ReLU near its kink is open, and many
points of one image, or many layers of weights that nobody has trained, have some of these: two right programs are then
apart by more than rounding. In float64 they are not, so what is left there is a difference of meaning.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import environments
import models
import numpy as np

HERE = Path(__file__).parent / "peers"
CAM, ATTENTION = "cam", "attention"


class Tool(NamedTuple):
    """Environment, script, what the script is told, and what a network needs to have for it."""

    environment: str
    script: str
    told: tuple[str, ...] = ()
    needs: str = ""


TOOLS = {
    "gradviz": Tool("plain", "maps_gradviz.py"),
    "Captum": Tool("cams", "maps_torch.py", ("captum",)),
    "pytorch-grad-cam": Tool("cams", "maps_torch.py", ("pytorch-grad-cam",), CAM),
    "torch-cam": Tool("cams", "maps_torch.py", ("torch-cam",), CAM),
    "tf-keras-vis": Tool("tf-keras-vis", "maps_tf_keras_vis.py", (), CAM),
    "eager PyTorch": Tool("cams", "maps_torch.py", ("eager",), ATTENTION),
}
TYPES = ("float64", "float32")
ROUNDING = 1e-5  # relative; of which no path of ReLUs is made another
SIDE = 64
DEEP_SIDE = 96


class Network(NamedTuple):
    """How it is made, for images of this side; its last feature map by the name in Keras, or none of a transformer."""

    make: Callable
    side: int = SIDE
    layer: str = "last"

    @property
    def has(self) -> str:
        return CAM if self.layer else ATTENTION


def main(networks: list[str]) -> None:
    for name in networks:
        for dtype in TYPES:
            compare(name, dtype)


def compare(name: str, dtype: str) -> None:
    folder = network(environments.cache() / "estimators", name, dtype)
    tools = [tool for tool, one in TOOLS.items() if one.needs in ("", NETWORKS[name].has)]
    found = {tool: maps_of(tool, folder) for tool in tools}
    exact, ours = found["Captum"].pop("exact points", None), found["gradviz"]
    for tool, maps in found.items():
        points = maps.pop("points", None)
        if points is not None:
            print(f"{name:15} {dtype} {tool:18} {beside_exact(points, exact)}", flush=True)
    for tool in tools[1:]:
        for said, theirs in found[tool].items():
            print(f"{name:15} {dtype} {tool:18} {said:36} {told(ours[said.split(' as ')[0]], theirs)}", flush=True)
    for said in filter(lambda each: ":" in each, ours):
        print(
            f"{name:15} {dtype} gradviz            {said:36} {', '.join(f'{one:.3g}' for one in ours[said])}",
            flush=True,
        )


def beside_exact(points: np.ndarray, exact: np.ndarray) -> str:
    """Of gradients at the points between images and baselines, how many are off from float64 of the same weights by more
    than rounding, and how far the others are off at most."""
    apart = np.array([distance(one[None], other[None]) for one, other in zip(points, exact, strict=True)])
    off = apart > ROUNDING
    others = apart[~off].max(initial=0)
    return f"gradients at {len(off)} points beside float64: {off.sum()} off by up to {apart.max():.1e}, others {others:.1e}"


def network(cache: Path, name: str, dtype: str) -> Path:
    """The folder of a network, made in a process of its own unless it is there."""
    folder = cache / f"{name}-{dtype}"
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        subprocess.run([sys.executable, __file__, "--make", str(folder), name, dtype], check=True)
        (folder / "complete").touch()
    return folder


def make(folder: Path, name: str, dtype: str) -> None:
    import keras

    keras.config.set_floatx(dtype)
    one = NETWORKS[name]
    np.save(folder / "inputs.npy", images(one.side))
    (folder / "network.json").write_text(json.dumps({"layer": one.layer, "has": one.has}))
    models.keep(one.make(), folder, images(one.side))


def images(side: int) -> np.ndarray:
    """In 0..1 as multiples of 1/256, so that the points between an image and a baseline are the same in every type."""
    step = models.SIZE // side
    found = models.inputs(8)[:, ::step, ::step][:, :side, :side]
    return (np.round(found * 255) / 256).astype(np.float32)


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


def _vit():
    from keras import Input, Model, layers

    patch, width, heads = 8, 48, 3
    count = (SIDE // patch) ** 2
    image = Input((SIDE, SIDE, 3))
    x = layers.Conv2D(width, patch, patch, name="patches")(image)
    x = models.tokens(layers.Reshape((count, width), name="in_a_row")(x))
    for block in range(4):
        short = layers.LayerNormalization(name=f"block{block}_norm0")(x)
        short = layers.MultiHeadAttention(heads, width // heads, name=f"block{block}_attention")(short, short)
        x = layers.Add(name=f"block{block}_sum0")([x, short])
        short = layers.LayerNormalization(name=f"block{block}_norm1")(x)
        short = layers.Dense(4 * width, name=f"block{block}_wide")(short)
        short = layers.Activation("gelu", name=f"block{block}_gelu")(short)
        short = layers.Dense(width, name=f"block{block}_narrow")(short)
        x = layers.Add(name=f"block{block}_sum1")([x, short])
    x = layers.Cropping1D((0, count), name="class_token")(layers.LayerNormalization(name="norm")(x))
    return Model(image, layers.Dense(10, activation="softmax", name="scores")(layers.Flatten()(x)))


def _deep(name: str):
    def make():
        import keras

        return getattr(keras.applications, name)(weights=None, input_shape=(DEEP_SIDE, DEEP_SIDE, 3), classes=10)

    return make


NETWORKS = {
    "vgg-like": Network(_vgg),
    "resnet-like": Network(_resnet),
    "mobilenet-like": Network(_mobilenet),
    "vit-like": Network(_vit, layer=""),
    "vgg16": Network(_deep("VGG16"), DEEP_SIDE, "block5_pool"),
    "resnet50": Network(_deep("ResNet50"), DEEP_SIDE, "conv5_block3_out"),
    "mobilenetv2": Network(_deep("MobileNetV2"), DEEP_SIDE, "out_relu"),
}


def maps_of(tool: str, folder: Path) -> dict[str, np.ndarray]:
    one = TOOLS[tool]
    python = sys.executable if tool == "gradviz" else environments.python_of(one.environment)
    out = folder / f"maps-{tool.replace(' ', '-')}.npz"
    subprocess.run([str(python), str(HERE / one.script), str(folder), str(out), *one.told], check=True)
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
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), *sys.argv[3:])
    else:
        main(sys.argv[1:] or list(NETWORKS))
