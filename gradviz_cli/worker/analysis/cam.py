"""Feature maps that everything on the way from image to score passes: each may carry a class activation map."""

from __future__ import annotations

import tensorflow as tf

from gradviz_cli.process.protocol import CamLayer
from gradviz_cli.worker.graph.graph import split
from gradviz_cli.worker.graph.question import Reading, static_tensor

# What a class activation map is taken from: feature maps, not the steps between them.
FEATURE_OPS = frozenset(
    [
        "Conv2D",
        "DepthwiseConv2dNative",
        "BiasAdd",
        "FusedBatchNormV3",
        "Relu",
        "Relu6",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Maximum",
        "Minimum",
        "AddV2",
        "Add",
        "AddN",
        "ConcatV2",
        "MaxPool",
        "AvgPool",
        "Mul",
    ]
)
# Paths are counted modulo a prime; that two different counts agree by chance is not a practical concern.
PRIME = 2**61 - 1


def cam_layers(found: Reading) -> list[CamLayer]:
    """Feature maps that everything on the way from image to score passes, from the image on: each may carry a CAM."""
    nodes = found.flat.nodes
    path = found.path
    order = _topological(nodes, path)
    if order is None:
        return []
    before = _paths(order, {name: _inputs(nodes, name, path) for name in order}, split(found.fed)[0])
    readers = {name: [] for name in order}
    for name in order:
        for source in _inputs(nodes, name, path):
            readers[source].append(name)
    after = _paths(order[::-1], readers, split(found.score)[0])
    total = before.get(split(found.score)[0], 0)
    every = [name for name in order if nodes[name].op in FEATURE_OPS and before[name] * after[name] % PRIME == total]
    if not every or not total:
        return []
    tensors = static_tensor(found.flat, *[f"{name}:0" for name in every])
    tensors = [tensors] if isinstance(tensors, tf.Tensor) else tensors
    return [
        CamLayer(f"{name}:0", nodes[name].op, tuple(tensor.shape))
        for name, tensor in zip(every, tensors, strict=True)
        if tensor.shape.rank == 4 and 1 not in tensor.shape.as_list()[1:]
    ]


def _inputs(nodes, name: str, path: set[str]) -> list[str]:
    sources = [split(text)[0] for text in nodes[name].input if not text.startswith("^")]
    return [source for source in sources if source in path]


def _topological(nodes, path: set[str]) -> list[str] | None:
    """The path's nodes, each after what it reads; None where loops make that impossible."""
    missing = {name: len(_inputs(nodes, name, path)) for name in path}
    readers: dict[str, list[str]] = {name: [] for name in path}
    for name in path:
        for source in _inputs(nodes, name, path):
            readers[source].append(name)
    ready, order = sorted(name for name, count in missing.items() if count == 0), []
    while ready:
        name = ready.pop()
        order.append(name)
        for reader in readers[name]:
            missing[reader] -= 1
            if missing[reader] == 0:
                ready.append(reader)
    return order if len(order) == len(path) else None


def _paths(order: list[str], sources: dict[str, list[str]], start: str) -> dict[str, int]:
    """Number of ways from `start` to each node, modulo PRIME."""
    ways: dict[str, int] = {}
    for name in order:
        ways[name] = 1 if name == start else sum(ways.get(source, 0) for source in sources[name]) % PRIME
    return ways
