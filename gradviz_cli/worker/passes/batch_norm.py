"""Batch norm folded into the convolution or matrix product before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.graph import Flat, consumers, placeholder, split

Values = Mapping[str, tf.Tensor]
KERNELS = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul"})


@dataclass(frozen=True)
class _Affine:
    """y = kernel_output * scale + shift, per output channel, and the last node that takes part."""

    scale: np.ndarray
    shift: np.ndarray
    last: str
    scaled: bool


def _scales_into_kernels(flat: Flat, values: Values, kept: frozenset[str]) -> tuple[Flat, Values]:
    nodes, weights, known = dict(flat.nodes), dict(flat.weights), dict(values)
    readers = consumers(flat.nodes)
    for name, node in flat.nodes.items():
        if node.op not in KERNELS or not _channels_last(node):
            continue
        kernel = _known(flat, values, node.input[1])
        affine = _follow(flat, values, readers, kept, name, kernel)
        if affine is None or not affine.scaled:
            continue
        dtype = tf.dtypes.as_dtype(node.attr["T"].type)
        for part, value in (("kernel", _scaled(node.op, kernel, affine.scale)), ("bias", affine.shift)):
            new = f"{name}/gradviz_{part}"
            known[f"folded/{new}"] = tf.cast(tf.constant(value, tf.float32), dtype)
            weights[new] = f"folded/{new}"
            nodes[new] = placeholder(new, dtype.as_datatype_enum, known[f"folded/{new}"].shape.as_proto())
        nodes[f"{name}/gradviz_folded"] = _with_kernel(node, name)
        nodes[affine.last] = _bias_add(affine.last, f"{name}/gradviz_folded:0", f"{name}/gradviz_bias:0", dtype)
    return replace(flat, nodes=nodes, weights=weights).pruned(flat.outputs), known


def _attribute(node: NodeDef, name: str) -> AttrValue:
    """One that may be missing; asking the message itself for it would write an empty one into it."""
    return node.attr.get(name, AttrValue())


def _channels_last(node: NodeDef) -> bool:
    if node.op == "MatMul":
        return not _attribute(node, "transpose_b").b and not _attribute(node, "transpose_a").b
    return _attribute(node, "data_format").s in (b"", b"NHWC") and tf.dtypes.as_dtype(node.attr["T"].type) in (
        tf.float32,
    )


def _known(flat: Flat, values: Values, tensor: str) -> np.ndarray | None:
    name = split(tensor)[0]
    if name in flat.weights:
        return values[flat.weights[name]].numpy()
    node = flat.nodes[name]
    return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None


def _follow(flat, values, readers, kept, name: str, kernel: np.ndarray | None) -> _Affine | None:
    """What the nodes behind a kernel, each the only reader of the last, do to its channels."""
    if kernel is None or kernel.dtype != np.float32:
        return None
    channels = kernel.shape[-1] * (kernel.shape[-2] if flat.nodes[name].op == "DepthwiseConv2dNative" else 1)
    scale, shift, scaled, last = np.ones(channels), np.zeros(channels), False, name
    while last not in kept:
        following = set(readers.get(last, ()))
        if len(following) != 1:
            break
        step = _step(flat, values, flat.nodes[next(iter(following))], last, channels)
        if step is None:
            break
        factor, addend = step
        scale, shift = scale * factor, shift * factor + addend
        scaled = scaled or not np.all(factor == 1)
        last = next(iter(following))
    return None if last == name else _Affine(scale, shift, last, scaled)


def _step(flat: Flat, values: Values, node: NodeDef, source: str, channels: int):
    """(factor, addend) per channel of one node that reads `source`; None when it is anything else."""
    if node.op in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"):
        return _batch_norm(flat, values, node, source)
    if node.op not in ("BiasAdd", "Add", "AddV2", "Sub", "Mul") or len(node.input) != 2:
        return None
    if _attribute(node, "data_format").s == b"NCHW" or node.input[0] == node.input[1]:
        return None
    if f"{source}:0" not in node.input:
        return None
    first = node.input[0] == f"{source}:0"
    value = _known(flat, values, node.input[1 if first else 0])
    if value is None or value.dtype != np.float32 or not _per_channel(value.shape, channels):
        return None
    value = np.broadcast_to(value.reshape(-1).astype(np.float64), [channels])
    if node.op == "Mul":
        return value, np.zeros(channels)
    if node.op == "Sub":
        return (np.ones(channels), -value) if first else (-np.ones(channels), value)
    return np.ones(channels), value


def _per_channel(shape: tuple[int, ...], channels: int) -> bool:
    """A scalar, or [channels] behind axes of length 1."""
    return int(np.prod(shape)) == 1 or (shape[-1] == channels and int(np.prod(shape)) == channels)


def _batch_norm(flat: Flat, values: Values, node: NodeDef, source: str):
    if (
        _attribute(node, "is_training").b
        or _attribute(node, "data_format").s not in (b"", b"NHWC")
        or node.input[0] != f"{source}:0"
    ):
        return None
    known = [_known(flat, values, text) for text in node.input[1:5]]
    if any(value is None or value.size == 0 for value in known):
        return None
    gamma, beta, mean, variance = (value.astype(np.float64) for value in known)
    factor = gamma / np.sqrt(variance + _attribute(node, "epsilon").f)
    return factor, beta - mean * factor


def _scaled(op: str, kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    shape = kernel.shape[-2:] if op == "DepthwiseConv2dNative" else kernel.shape[-1:]
    return (kernel.astype(np.float64) * scale.reshape(shape)).astype(np.float32)


def _with_kernel(node: NodeDef, name: str) -> NodeDef:
    copy = NodeDef()
    copy.CopyFrom(node)
    copy.name = f"{name}/gradviz_folded"
    copy.input[1] = f"{name}/gradviz_kernel:0"
    return copy


def _bias_add(name: str, tensor: str, bias: str, dtype: tf.DType) -> NodeDef:
    node = NodeDef(name=name, op="BiasAdd", input=[tensor, bias])
    node.attr["T"].type = dtype.as_datatype_enum
    return node
