"""The networks and images of the benchmark, from fixed seeds: `python models.py FOLDER NETWORK...`

Each network is one of keras.applications, or the transformer below, with weights drawn here and batch norm statistics of
its own activations. It is stored as what the tools take: a SavedModel, and of those in TWINNED a Keras file and the layers as
plain data (`layers.json`, `weights.npz`), from which `twins.py` makes the same network in PyTorch and in bare TensorFlow.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

# Network -> its name in keras.applications; None: `_vit`.
NETWORKS = {
    "vgg16": "VGG16",
    "resnet50": "ResNet50",
    "mobilenetv2": "MobileNetV2",
    "mobilenetv3large": "MobileNetV3Large",
    "efficientnetv2b0": "EfficientNetV2B0",
    "convnexttiny": "ConvNeXtTiny",
    "vit-ti16": None,
}
TWINNED = ("vgg16", "resnet50", "mobilenetv2")  # of layers that `twins.py` knows
OWN_RANGE = {"include_preprocessing": False}  # these bring 0..255 to their range otherwise
SIZE = 224
PHOTO = (640, 480)
LARGE_PHOTO = (4000, 3000)


def photographs(folder: Path, count: int, size: tuple[int, int] = PHOTO) -> Path:
    """A folder of `count` JPEGs: soft shapes at several scales under some grain, at 640 x 480 about 90 kB each."""
    folder = folder / f"{count}" if size == PHOTO else folder / f"{count} of {size[0]}x{size[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f"{i:04}.jpg"
        if not path.is_file():
            _photograph(np.random.default_rng(i), size).save(path, quality=90)
    return folder


def _photograph(random: np.random.Generator, size: tuple[int, int] = PHOTO) -> Image.Image:
    width, height = size
    total = np.zeros((height, width, 3), np.float32)
    for cells in (3, 7, 19, 61, 160):
        small = random.normal(size=(cells, cells, 3)) * 60 / np.log2(cells)
        planes = [Image.fromarray(small[..., c].astype(np.float32)).resize(size, Image.BICUBIC) for c in range(3)]
        total += np.stack([np.asarray(plane) for plane in planes], -1)
    total += random.normal(scale=4, size=total.shape)
    return Image.fromarray(np.clip(total + 120, 0, 255).astype(np.uint8))


def inputs(count: int) -> np.ndarray:
    """Images as the networks take them, float32 [count, 224, 224, 3] in 0..1, channels not alike."""
    pictures = [_photograph(np.random.default_rng(i)).resize((SIZE, SIZE), Image.BILINEAR) for i in range(count)]
    return np.stack([np.asarray(picture, np.float32) for picture in pictures]) / 255


def network(cache: Path, name: str) -> Path:
    """The folder of a network, which is made unless it is there."""
    folder = cache / "models" / name
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _make(folder, name)
        (folder / "complete").touch()
    return folder


def _make(folder: Path, name: str) -> None:
    import keras

    if name in TWINNED:
        model = getattr(keras.applications, NETWORKS[name])(weights=None, input_shape=(SIZE, SIZE, 3))
        return keep(model, folder, inputs(8))
    keras.utils.set_random_seed(7)
    kind = NETWORKS[name] and getattr(keras.applications, NETWORKS[name])
    model = kind(weights=None, input_shape=(SIZE, SIZE, 3), **OWN_RANGE) if kind else _vit()
    _draw_weights(model, np.random.default_rng(7), inputs(8))
    model.export(folder / "saved_model", verbose=False)


def _vit(width: int = 192, heads: int = 3, blocks: int = 12, patch: int = 16):
    """ViT-Ti/16 (Dosovitskiy et al. 2021, arXiv:2010.11929; the width of Touvron et al. 2021, arXiv:2012.12877)."""
    import keras
    from keras import layers, ops

    class Placed(layers.Layer):
        """Puts the class's token before those of the patches, and adds where each stands."""

        def build(self, shape):
            self.token = self.add_weight(shape=(1, 1, width), initializer="random_normal", name="token")
            self.places = self.add_weight(shape=(1, shape[1] + 1, width), initializer="random_normal", name="places")

        def call(self, x):
            token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, width))
            return ops.concatenate([token, x], 1) + self.places

    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(width, patch, patch)(image)
    x = Placed()(layers.Reshape(((SIZE // patch) ** 2, width))(x))
    for _ in range(blocks):
        normed = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(normed, normed)
        wide = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
        x = x + layers.Dense(width)(wide)
    x = layers.LayerNormalization(epsilon=1e-6)(x)[:, 0]
    return keras.Model(image, layers.Dense(1000, activation="softmax")(x))


def keep(model, folder: Path, images: np.ndarray) -> None:
    """Draw the weights of a Keras model, with statistics as it has on these images, and store it as what the tools take."""
    _draw_weights(model, np.random.default_rng(7), images)
    model.save(folder / "model.keras")
    model.export(folder / "saved_model", verbose=False)
    layers, weights = as_data(model)
    (folder / "layers.json").write_text(json.dumps(layers, indent=1))
    np.savez(folder / "weights.npz", **weights)


def _draw_weights(model, random: np.random.Generator, images: np.ndarray) -> None:
    """He's scale for kernels (arXiv:1502.01852); batch norm as after training: every statistic differs from 0 and 1. Attention
    keeps what Keras drew."""
    for layer in model.layers:
        for weight in () if type(layer).__name__ == "MultiHeadAttention" else layer.weights:
            kind, shape = weight.path.rsplit("/", 1)[-1], weight.shape
            if kind == "kernel":
                fan_in = np.prod(shape[:2]) if type(layer).__name__ == "DepthwiseConv2D" else np.prod(shape[:-1])
                weight.assign(random.normal(scale=np.sqrt(2 / fan_in), size=shape))
            elif kind == "gamma":
                weight.assign(random.uniform(0.7, 1.3, shape))
            elif kind in ("beta", "bias"):
                weight.assign(random.normal(scale=0.1, size=shape))
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0  # the next training pass leaves its own statistics
    model(images, training=True)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.99


def as_data(model) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The layers up to the logits in order, each with the names of those it reads, and their arrays."""
    layers, weights = [], {}
    for layer in model.layers[1:]:
        node = layer._inbound_nodes[0]
        record = {"name": layer.name, "inputs": [parent.operation.name for parent in node.parent_nodes]}
        record.update(_DESCRIBED[type(layer).__name__](layer))
        weights.update({f"{layer.name}/{key}": np.asarray(value) for key, value in _arrays(layer).items()})
        layers.append(record)
        if getattr(getattr(layer, "activation", None), "__name__", "") == "relu" and record["op"] != "relu":
            record["name"] = f"{layer.name}:linear"
            for key in _arrays(layer):
                weights[f"{layer.name}:linear/{key}"] = weights.pop(f"{layer.name}/{key}")
            layers.append({"name": layer.name, "op": "relu", "cap": None, "inputs": [record["name"]]})
    first = model.layers[0].name
    for record in layers:
        record["inputs"] = ["image" if each == first else each for each in record["inputs"]]
    return layers, weights


def _arrays(layer) -> dict:
    """By what follows the layer's own name: `kernel`, `query/kernel`."""
    found = {weight.path.split(f"{layer.name}/", 1)[-1]: weight for weight in layer.weights}
    return {key: value for key, value in found.items() if "seed" not in key}


def tokens(patches):
    """The token of a class before those of patches [n, p, d], and positions added to all."""
    import keras

    @keras.saving.register_keras_serializable("bench")
    class Tokens(keras.layers.Layer):
        def build(self, shape):
            drawn = keras.initializers.RandomNormal(0.5, seed=3)
            self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer=drawn, name="token")
            self.places = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), initializer=drawn, name="places")

        def call(self, x):
            token = keras.ops.repeat(self.token, keras.ops.shape(x)[0], axis=0)
            return keras.ops.concatenate([token, x], axis=1) + self.places

    return Tokens(name="tokens")(patches)


def _kernel(op: str):
    return lambda layer: {"op": op, "stride": layer.strides[0], "padding": layer.padding}


_DESCRIBED = {
    "Conv2D": _kernel("conv"),
    "DepthwiseConv2D": _kernel("depthwise"),
    "BatchNormalization": lambda layer: {"op": "norm", "epsilon": layer.epsilon},
    "Activation": lambda layer: {"op": layer.activation.__name__, "cap": None},
    "ReLU": lambda layer: {"op": "relu", "cap": layer.max_value},
    "ZeroPadding2D": lambda layer: {"op": "pad", "padding": layer.padding},
    "MaxPooling2D": lambda layer: {"op": "maxpool", "size": layer.pool_size[0], "stride": layer.strides[0]},
    "Add": lambda layer: {"op": "add"},
    "GlobalAveragePooling2D": lambda layer: {"op": "mean"},
    "Flatten": lambda layer: {"op": "flatten"},
    "Dense": lambda layer: {"op": "dense"},
    "Reshape": lambda layer: {"op": "row"},
    "Tokens": lambda layer: {"op": "tokens"},
    "LayerNormalization": lambda layer: {"op": "layer_norm", "epsilon": layer.epsilon},
    "MultiHeadAttention": lambda layer: {"op": "attention"},
    "Cropping1D": lambda layer: {"op": "crop", "end": layer.cropping[1]},
}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for each in sys.argv[2:]:
        network(Path(sys.argv[1]), each)
