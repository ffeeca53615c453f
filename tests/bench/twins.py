"""The networks of models.py again, from the same numbers: bare TensorFlow operations, or a PyTorch module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

Layers = list[dict]
Weights = dict[str, np.ndarray]


def read(folder: Path) -> tuple[Layers, Weights]:
    """A network as `models.as_data` gave it."""
    return json.loads((folder / "layers.json").read_text()), dict(np.load(folder / "weights.npz"))


def folded(layers: Layers, weights: Weights) -> tuple[Layers, Weights]:
    """The network without batch norm: each is folded into the kernel before it (Jacob et al. 2017, arXiv:1712.05877)."""
    weights, kept, renamed = dict(weights), [], {}
    for layer in layers:
        layer = {**layer, "inputs": [renamed.get(name, name) for name in layer["inputs"]]}
        if layer["op"] != "norm":
            kept.append(layer)
            continue
        (source,) = layer["inputs"]
        op = next(each["op"] for each in kept if each["name"] == source)
        gamma, beta, mean, variance = _norm(weights, layer["name"])
        scale = gamma / np.sqrt(variance + layer["epsilon"])
        kernel = weights[f"{source}/kernel"]
        shape = (*kernel.shape[2:],) if op == "depthwise" else (kernel.shape[-1],)
        weights[f"{source}/kernel"] = (kernel * scale.reshape(shape)).astype(np.float32)
        weights[f"{source}/bias"] = (beta + (weights.get(f"{source}/bias", 0) - mean) * scale).astype(np.float32)
        renamed[layer["name"]] = source
    return kept, weights


def _norm(weights: Weights, name: str) -> list[np.ndarray]:
    return [weights[f"{name}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")]


def multiplications(folder: Path) -> int:
    """Of one image's forward pass in convolutions and matrix products."""
    layers, weights = read(folder)
    total, sizes = 0, {"image": 224}
    for layer in layers:
        size = sizes[layer["inputs"][0]]
        if layer["op"] in ("conv", "depthwise", "maxpool"):
            kernel = weights.get(f"{layer['name']}/kernel")
            width = layer["size"] if kernel is None else kernel.shape[0]
            size = (
                -(-size // layer["stride"]) if layer.get("padding") == "same" else (size - width) // layer["stride"] + 1
            )
            total += 0 if kernel is None else kernel.size * size**2
        elif layer["op"] == "pad":
            size += sum(layer["padding"][0])
        elif layer["op"] == "dense":
            total += weights[f"{layer['name']}/kernel"].size
        sizes[layer["name"]] = size
    return total


# -- TensorFlow ----------------------------------------------------------------------------------------------------------


def in_tensorflow(layers: Layers, weights: dict, image, relu: Callable):
    """Logits [n, k] of images [n, h, w, c] through operations of TensorFlow alone.

    Parameters
    ----------
    weights : dict
        Arrays, or tensors or variables made of them.
    relu : callable
        (tensor, cap or None) -> tensor.
    """
    import tensorflow as tf

    found = {"image": image}
    for layer in layers:
        name, op, (x, *others) = layer["name"], layer["op"], [found[each] for each in layer["inputs"]]
        kernel, bias = weights.get(f"{name}/kernel"), weights.get(f"{name}/bias")
        if op in ("conv", "depthwise"):
            convolve = tf.nn.conv2d if op == "conv" else tf.nn.depthwise_conv2d
            x = convolve(x, kernel, strides=[1, layer["stride"], layer["stride"], 1], padding=layer["padding"].upper())
        elif op == "norm":
            x = tf.compat.v1.nn.fused_batch_norm(x, *_norm(weights, name), epsilon=layer["epsilon"], is_training=False)[
                0
            ]
        elif op == "relu":
            x = relu(x, layer["cap"])
        elif op == "pad":
            x = tf.pad(x, [[0, 0], *layer["padding"], [0, 0]])
        elif op == "maxpool":
            x = tf.nn.max_pool2d(x, layer["size"], layer["stride"], "VALID")
        elif op == "add":
            x = x + others[0]
        elif op == "mean":
            x = tf.reduce_mean(x, [1, 2])
        elif op == "flatten":
            x = tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])
        elif op == "dense":
            x = tf.matmul(x, kernel)
        found[name] = x if bias is None else tf.nn.bias_add(x, bias)
    return found[layers[-1]["name"]]


# -- PyTorch -------------------------------------------------------------------------------------------------------------


def in_torch(layers: Layers, weights: Weights, cap_apart: bool = False):
    """A module of the same network in PyTorch's own layers and layout, [n, c, h, w] -> logits [n, k], ready for use.

    With `cap_apart`, a capped ReLU is a plain one and a minimum: some tools know no other.
    """
    import torch

    layers = _paddings_merged(layers)
    modules = {layer["name"]: _module(layer, weights, cap_apart) for layer in layers if layer["op"] != "add"}
    # Names with dots or colons are not allowed as names of submodules.
    safe = {name: f"layer{i}" for i, name in enumerate(modules)}

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.named = dict(modules)  # by the names that they have in Keras
            for name, module in modules.items():
                self.add_module(safe[name], module)

        def forward(self, image):
            found = {"image": image}
            for layer in layers:
                values = [found[each] for each in layer["inputs"]]
                found[layer["name"]] = (
                    sum(values) if layer["op"] == "add" else getattr(self, safe[layer["name"]])(*values[:1])
                )
            return found[layers[-1]["name"]]

    return Twin().eval()


def _paddings_merged(layers: Layers) -> Layers:
    """Padding that is the same on all sides becomes an argument of the layer behind it, as one writes it in PyTorch."""
    even = {
        layer["name"]: layer
        for layer in layers
        if layer["op"] == "pad" and len({side for pair in layer["padding"] for side in pair}) == 1
    }
    merged = []
    for layer in layers:
        pad = even.get(layer["inputs"][0])
        if layer["name"] in even:
            continue
        # A maximum over padded zeros is one over PyTorch's -inf: what is pooled comes from a ReLU.
        merged.append({**layer, "inputs": pad["inputs"], "pad": pad["padding"][0][0]} if pad else layer)
    return merged


def _module(layer: dict, weights: Weights, cap_apart: bool):
    import torch
    from torch import nn

    name, op, pad = layer["name"], layer["op"], layer.get("pad", 0)
    kernel, bias = weights.get(f"{name}/kernel"), weights.get(f"{name}/bias")
    if op in ("conv", "depthwise"):
        # [h, w, in, out], depthwise [h, w, channels, 1], both to [out, in / groups, h, w]
        kernel = kernel.transpose(2, 3, 0, 1) if op == "depthwise" else kernel.transpose(3, 2, 0, 1)
        out, width = kernel.shape[0], kernel.shape[-1]
        groups = out if op == "depthwise" else 1
        same, stride = layer["padding"] == "same", layer["stride"]
        pad = (width - 1) // 2 if same and stride == 1 else pad
        module = nn.Conv2d(
            kernel.shape[1] * groups, out, width, layer["stride"], pad, groups=groups, bias=bias is not None
        )
    elif op == "dense":
        # The classifier of VGG16 reads [h, w, c] in this order; the twin flattens as TensorFlow does.
        kernel = kernel.T
        module = nn.Linear(kernel.shape[1], kernel.shape[0])
    elif op == "norm":
        return _batch_norm(layer, weights)
    elif op in ("tokens", "layer_norm", "attention"):
        return _of_tokens(layer, weights)
    else:
        return _plain(layer, pad, cap_apart)
    module.weight.data = torch.tensor(np.ascontiguousarray(kernel))
    if bias is not None:
        module.bias.data = torch.tensor(bias)
    if op == "dense" or not same or stride == 1:
        return module
    # TensorFlow pads a side of even length by what is missing alone, and more of it behind than before.
    missing = max(0, width - stride)
    return nn.Sequential(nn.ZeroPad2d((missing // 2, missing - missing // 2) * 2), module)


def _batch_norm(layer: dict, weights: Weights):
    import torch

    gamma, beta, mean, variance = (torch.tensor(each) for each in _norm(weights, layer["name"]))
    module = torch.nn.BatchNorm2d(len(gamma), eps=layer["epsilon"])
    module.weight.data, module.bias.data = gamma, beta
    module.running_mean, module.running_var = mean, variance
    return module


def _of_tokens(layer: dict, weights: Weights):
    """What takes or gives [n, tokens, d]."""
    import torch
    from torch import nn

    start = f"{layer['name']}/"
    own = {name.removeprefix(start): torch.tensor(value) for name, value in weights.items() if name.startswith(start)}

    class Holding(nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in own.items():
                self.register_buffer(name, value)  # so that it changes its type with the module

    class Tokens(Holding):
        def forward(self, x):
            return torch.cat([self.token.expand(len(x), 1, -1), x], 1) + self.places

    class Attention(Holding):
        """As in equation 1 of Vaswani et al. 2017; what it gave weight to last stays in `weights` [n, heads, t, t]."""

        def forward(self, x):
            own = dict(self.named_buffers())
            query, key, value = (
                torch.einsum("ntd,dhk->nhtk", x, own[f"{part}/kernel"]) + own[f"{part}/bias"][:, None]
                for part in ("query", "key", "value")
            )
            self.weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
            mixed = self.weights @ value
            return torch.einsum("nhtk,hkd->ntd", mixed, own["attention_output/kernel"]) + own["attention_output/bias"]

    if layer["op"] == "layer_norm":
        module = nn.LayerNorm(len(own["gamma"]), eps=layer["epsilon"])
        module.weight.data, module.bias.data = own["gamma"], own["beta"]
        return module
    return Attention() if layer["op"] == "attention" else Tokens()


def _plain(layer: dict, pad: int, cap_apart: bool):
    import torch
    from torch import nn

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    class Flatten(nn.Module):
        def forward(self, x):
            return torch.flatten(x.permute(0, 2, 3, 1) if x.ndim == 4 else x, 1)

    class Row(nn.Module):
        def forward(self, x):
            return x.flatten(2).transpose(1, 2)

    class Crop(nn.Module):
        def forward(self, x):
            return x[:, : -layer["end"]]

    class Minimum(nn.Module):
        def forward(self, x):
            return torch.where(x < layer["cap"], x, layer["cap"])

    if layer["op"] == "relu":
        if layer["cap"] is None:
            return nn.ReLU()
        return nn.Sequential(nn.ReLU(), Minimum()) if cap_apart else nn.ReLU6()
    if layer["op"] == "gelu":
        return nn.GELU()
    if layer["op"] == "maxpool":
        return nn.MaxPool2d(layer["size"], layer["stride"], pad)
    if layer["op"] == "pad":
        (top, bottom), (left, right) = layer["padding"]
        return nn.ZeroPad2d((left, right, top, bottom))
    return {"mean": Mean, "flatten": Flatten, "row": Row, "crop": Crop}[layer["op"]]()
