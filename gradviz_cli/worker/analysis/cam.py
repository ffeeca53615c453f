"""Feature maps that everything on the way from image to score passes: each may carry a class activation map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradviz_cli.process.protocol import CamLayer
from gradviz_cli.worker.graph.graph import Circle, Graph, data_inputs, split, topological
from gradviz_cli.worker.graph.question import Question, static_tensors

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


def cam_layers(graph: Graph, question: Question) -> list[CamLayer]:
    """Feature maps that everything on the way from image to score passes, from the image on: each may carry a CAM."""
    nodes, path = graph.nodes, question.path(graph)
    sources = {name: [one for text in data_inputs(nodes[name]) if (one := split(text)[0]) in path] for name in path}
    try:
        order = topological(sources)
    except Circle:  # a loop that is no function
        return []
    before = _paths(order, sources, split(question.fed(graph))[0])
    readers: dict[str, list[str]] = {name: [] for name in order}
    for name in order:
        for one in sources[name]:
            readers[one].append(name)
    score = split(graph.score)[0]
    after = _paths(order[::-1], readers, score)
    total = before.get(score, 0)
    every = [name for name in order if nodes[name].op in FEATURE_OPS and before[name] * after[name] % PRIME == total]
    if not every or not total:
        return []
    tensors = static_tensors(graph, *[f"{name}:0" for name in every])
    return [
        CamLayer(f"{name}:0", nodes[name].op, tuple(tensor.shape))
        for name, tensor in zip(every, tensors, strict=True)
        if tensor.shape.rank == 4 and 1 not in tensor.shape.as_list()[1:]
    ]


def _paths(order: Sequence[str], sources: Mapping[str, Sequence[str]], start: str) -> dict[str, int]:
    """Number of ways from `start` to each node, modulo PRIME."""
    ways: dict[str, int] = {}
    for name in order:
        ways[name] = 1 if name == start else sum(ways.get(source, 0) for source in sources[name]) % PRIME
    return ways
