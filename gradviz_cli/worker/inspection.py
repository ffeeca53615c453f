"""What a SavedModel offers and what would be patched, as plain data; no image is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from gradviz_cli.errors import GradvizError, ModelUnusable
from gradviz_cli.worker import expand, graph, objects, patch, policy, savedmodel
from gradviz_cli.worker.model import Model, Options, Reading, read, static_tensor

# What a class activation map is taken from: feature maps, not the steps between them.
FEATURE_OPS = frozenset(
    ["Conv2D", "DepthwiseConv2dNative", "BiasAdd", "FusedBatchNormV3", "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Maximum", "Minimum", "AddV2", "Add", "AddN", "ConcatV2", "MaxPool", "AvgPool", "Mul"]
)
# Paths are counted modulo a prime; that two different counts agree by chance is not a practical concern.
PRIME = 2**61 - 1


def inspect(options: Options) -> dict[str, Any]:
    """The contract's `inspect --json`, but for the fingerprint.

    Raises
    ------
    ModelUnusable
        The folder cannot be read at all; whatever else is wrong is part of the answer.
    """
    saved = savedmodel.read(Path(options.path))
    meta = objects.with_signatures(graph.choose_meta(saved, options.tag))
    told: dict[str, Any] = {
        "tags": [sorted(one.meta_info_def.tags) for one in saved.meta_graphs],
        "tensorflow_version": meta.meta_info_def.tensorflow_version,
        "signatures": {name: _signature(one) for name, one in graph.signatures(meta).items()},
        "chosen": None,
        "activations": {},
        "gates_left": 0,
        "gradient": {"reaches_input": None, "cut_at": None},
        "cam_layers": [],
        "refused_ops": [],
        "warnings": list(saved.warnings),
        "problem": None,
    }
    try:
        found = read(options)
        _narrowed(told, found, options)
        _differentiated(told, found, options)
    except GradvizError as error:
        told["problem"] = str(error)
    return told


def _signature(definition) -> dict[str, Any]:
    return {
        part: {
            tensor.key: {"tensor": tensor.name, "dtype": tensor.dtype.name, "shape": _shape(tensor.shape)}
            for tensor in graph.tensors(infos)
        }
        for part, infos in (("inputs", definition.inputs), ("outputs", definition.outputs))
    }


def _shape(shape: tuple[int, ...] | None) -> list[int | None] | None:
    return None if shape is None else [None if size < 0 else size for size in shape]


def _narrowed(told: dict[str, Any], found: Reading, options: Options) -> None:
    """What follows from the graph alone."""
    told["chosen"] = {
        "signature": found.signature,
        "why": found.why,
        "input": {
            "name": found.image.key,
            "shape": _shape(found.image.shape),
            "dtype": found.image.dtype.name,
            "layout": None,
        },
        "output": found.output.key,
        "score_tensor": found.score,
        "bypassed": found.bypassed,
    }
    told["refused_ops"] = [
        {"op": op, "node": node} for op, node in policy.refused_ops(found.flat, options.allow_ops).items()
    ]
    report = patch.patch(found.flat, found.path, options.activations)[1]
    told["activations"] = {
        name: {"reachable": seen, "patched": done} for name, (seen, done) in sorted(report.activations.items())
    }
    told["gates_left"] = report.gates


def _differentiated(told: dict[str, Any], found: Reading, options: Options) -> None:
    """What only building the gradient tells."""
    if told["refused_ops"] and not options.trust_model:
        op = told["refused_ops"][0]
        told["problem"] = f"op {op['op']} (node {op['node']}) is outside the allowed set; --allow-op or --trust-model lets it run"
        return
    policy.judge(found.flat, options.allow_ops, options.trust_model)  # before TensorFlow sees the graph
    told["cam_layers"] = cam_layers(found)
    try:
        facts = Model(replace(options, modes=("backprop",))).facts
    except ModelUnusable as error:
        told["gradient"] = {"reaches_input": False, "cut_at": getattr(error, "cut_at", None)}
        raise
    told["gradient"]["reaches_input"] = True
    told["chosen"]["input"].update(layout=facts.input["layout"], encoding=facts.input["encoding"])
    told["chosen"].update(
        size=list(facts.size), channels=facts.channels, preprocess=facts.preprocess, classes=facts.classes
    )
    told["warnings"] = list(facts.warnings)


def cam_layers(found: Reading) -> list[dict[str, Any]]:
    """Feature maps that everything on the way from image to score passes, from the image on: each may carry a CAM."""
    nodes = found.flat.nodes
    path = found.path
    order = _topological(nodes, path)
    if order is None:
        return []
    before = _paths(order, {name: _inputs(nodes, name, path) for name in order}, expand.split(found.fed)[0])
    readers = {name: [] for name in order}
    for name in order:
        for source in _inputs(nodes, name, path):
            readers[source].append(name)
    after = _paths(order[::-1], readers, expand.split(found.score)[0])
    total = before.get(expand.split(found.score)[0], 0)
    every = [name for name in order if nodes[name].op in FEATURE_OPS and before[name] * after[name] % PRIME == total]
    if not every or not total:
        return []
    tensors = static_tensor(found.flat, *[f"{name}:0" for name in every])
    tensors = [tensors] if isinstance(tensors, tf.Tensor) else tensors
    return [
        {"tensor": f"{name}:0", "op": nodes[name].op, "shape": tensor.shape.as_list()}
        for name, tensor in zip(every, tensors, strict=True)
        if tensor.shape.rank == 4 and 1 not in tensor.shape.as_list()[1:]
    ]


def _inputs(nodes, name: str, path: set[str]) -> list[str]:
    sources = [expand.split(text)[0] for text in nodes[name].input if not text.startswith("^")]
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
