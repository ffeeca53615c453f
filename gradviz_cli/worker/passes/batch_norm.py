"""Batch norm folded into the convolution or matrix product before it.

A batch norm in inference is y = x s + t with one s and t a channel. Behind a convolution, s belongs into the kernel
(Jacob et al. 2017, arXiv:1712.05877, section 3.2) and t into the bias: the same sums, rounded at other places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import (
    Graph,
    attribute,
    consumers,
    copied,
    data_inputs,
    literal,
    placeholder,
    source,
    split,
)
from gradviz_cli.worker.graph.match import BATCH_NORMS
from gradviz_cli.worker.graph.memory import array_of, rooms, tensor_of
from gradviz_cli.worker.graph.question import Question

KERNELS = {"Conv2D": 4, "DepthwiseConv2dNative": 4, "MatMul": 2}  # and the rank of what they give


@dataclass(frozen=True)
class _Affine:
    """y = kernel_output * scale + shift, per output channel, and the last node that takes part."""

    scale: np.ndarray
    shift: np.ndarray
    last: str
    scaled: bool


def batch_norm(graph: Graph, question: Question) -> Graph:
    """The graph with each batch norm, and what else scales or shifts channels, in the kernel and bias before it."""
    read = [*graph.outputs, *(text for node in graph.nodes.values() for text in data_inputs(node))]
    # Nothing may come behind an output of the graph, nor may a node go whose other outputs are read.
    kept = {split(tensor)[0] for tensor in graph.outputs}
    several = {split(tensor)[0] for tensor in read if split(tensor)[1] > 0}
    nodes, weights, values = dict(graph.nodes), dict(graph.weights), dict(graph.values)
    readers = consumers(graph.nodes)
    found: dict[str, tuple[np.ndarray, _Affine]] = {}
    for name, node in graph.nodes.items():
        kernel = _known(graph, source(node, 1)) if node.op in KERNELS and _channels_last(node) else None
        if kernel is not None and kernel.dtype == np.float32:
            affine = _follow(graph, readers, kept, several, name, kernel)
            if affine.scaled:
                found[name] = kernel, affine
    for (name, (_, affine)), scaled in zip(found.items(), _all_scaled(graph.nodes, found), strict=True):
        node = graph.nodes[name]
        for part, value in (("kernel", scaled), ("bias", affine.shift.astype(np.float32))):
            new = f"{name}/gradviz_{part}"
            weights[new] = f"folded/{new}"
            values[weights[new]] = tensor_of(value)
            nodes[new] = placeholder(new, tf.float32.as_datatype_enum, values[weights[new]].shape.as_proto())
        folded = f"{name}/gradviz_folded"
        nodes[folded] = copied(node, folded, [source(node, 0), f"{name}/gradviz_kernel:0"])
        nodes[affine.last] = _bias_add(affine.last, f"{folded}:0", f"{name}/gradviz_bias:0")
    return replace(graph, nodes=nodes, weights=weights, values=values).pruned(graph.outputs)


def _channels_last(node: NodeDef) -> bool:
    if node.op == "MatMul":
        return not attribute(node, "transpose_b").b and not attribute(node, "transpose_a").b
    return attribute(node, "data_format").s == b"NHWC" and attribute(node, "T").type == tf.float32.as_datatype_enum


def _known(graph: Graph, tensor: str) -> np.ndarray | None:
    """The value of a weight or constant."""
    name = split(tensor)[0]
    if name in graph.weights:
        return array_of(graph.values[graph.weights[name]])
    node = graph.node(tensor)
    return literal(node) if node.op == "Const" else None


def _follow(
    graph: Graph, readers: Mapping[str, list[str]], kept: set[str], several: set[str], name: str, kernel: np.ndarray
) -> _Affine:
    """What the nodes behind a kernel, each the only reader of the last, do to its channels."""
    channels = kernel.shape[-1] * (kernel.shape[-2] if graph.nodes[name].op == "DepthwiseConv2dNative" else 1)
    scale, shift, scaled, last = np.ones(channels), np.zeros(channels), False, name
    while last not in kept:
        following = set(readers.get(last, ()))
        if len(following) != 1:
            break
        (reader,) = following
        step = _step(graph, graph.nodes[reader], f"{last}:0", channels, KERNELS[graph.nodes[name].op])
        if step is None or reader in several:
            break
        factor, addend = step
        scale, shift = scale * factor, shift * factor + addend
        scaled = scaled or not np.all(factor == 1)
        last = reader
    return _Affine(scale, shift, last, scaled)


def _step(graph: Graph, node: NodeDef, tensor: str, channels: int, rank: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(factor, addend) per channel of one node that reads `tensor`, of this rank; None when it is anything else."""
    if node.op in BATCH_NORMS:
        return _batch_norm(graph, node, tensor)
    if node.op not in ("BiasAdd", "Add", "AddV2", "Sub", "Mul") or len(node.input) != 2:
        return None
    if node.op == "BiasAdd" and attribute(node, "data_format").s == b"NCHW":
        return None
    if node.input[0] == node.input[1] or tensor not in node.input:
        return None
    first = node.input[0] == tensor
    value = _known(graph, node.input[1 if first else 0])
    if value is None or value.dtype != np.float32 or not _per_channel(value.shape, channels, rank):
        return None
    value = np.broadcast_to(value.reshape(-1).astype(np.float64), [channels])
    if node.op == "Mul":
        return value, np.zeros(channels)
    if node.op == "Sub":
        return (np.ones(channels), -value) if first else (-np.ones(channels), value)
    return np.ones(channels), value


def _per_channel(shape: tuple[int, ...], channels: int, rank: int) -> bool:
    """One number, or [channels], behind axes of length 1: as many at most as leave a tensor of this rank its shape."""
    size = int(np.prod(shape))
    return len(shape) <= rank and (size == 1 or (shape[-1] == channels and size == channels))


def _batch_norm(graph: Graph, node: NodeDef, tensor: str) -> tuple[np.ndarray, np.ndarray] | None:
    training, layout = attribute(node, "is_training").b, attribute(node, "data_format").s
    if training or layout != b"NHWC" or node.input[0] != tensor:
        return None
    known = [value for text in node.input[1:5] if (value := _known(graph, text)) is not None and value.size]
    if len(known) != 4:
        return None
    gamma, beta, mean, variance = (value.astype(np.float64) for value in known)
    factor = gamma / np.sqrt(variance + attribute(node, "epsilon").f)
    return factor, beta - mean * factor


def _all_scaled(nodes: Mapping[str, NodeDef], found: Mapping[str, tuple[np.ndarray, _Affine]]) -> Iterator[np.ndarray]:
    """Each kernel times its scale. In float32: products in float64, each to be rounded again, take five times as long."""
    for name, scaled in zip(found, rooms(kernel.shape for kernel, _ in found.values()), strict=True):
        kernel, affine = found[name]
        shape = kernel.shape[-2:] if nodes[name].op == "DepthwiseConv2dNative" else kernel.shape[-1:]
        yield np.multiply(kernel, affine.scale.astype(np.float32).reshape(shape), out=scaled)


def _bias_add(name: str, tensor: str, bias: str) -> NodeDef:
    node = NodeDef(name=name, op="BiasAdd", input=[tensor, bias])
    node.attr["T"].type = tf.float32.as_datatype_enum
    return node
