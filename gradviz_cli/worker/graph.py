"""Where the image enters, where the score is, what lies between: pure functions on protocol buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.worker.expand import Flat, split
from gradviz_cli.worker.patch import constant
from gradviz_cli.worker.savedmodel import Saved

# Ops that rearrange or rename the classes without mixing them.
SHAPE_OPS = frozenset({"Identity", "Reshape", "Squeeze", "ExpandDims", "Snapshot", "StopGradient"})
PROBABILITIES = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})


@dataclass(frozen=True)
class Tensor:
    """A tensor as a signature describes it; `shape` has -1 where a size is open and is None when the rank is too."""

    key: str
    name: str
    dtype: tf.DType
    shape: tuple[int, ...] | None


def choose_meta(saved: Saved, tag: str | None) -> MetaGraphDef:
    """The meta graph with that tag; without one the only one, else `serve`, else the first."""
    metas = saved.meta_graphs
    tags = [", ".join(meta.meta_info_def.tags) or "(none)" for meta in metas]
    if tag is not None:
        chosen = [meta for meta in metas if tag in meta.meta_info_def.tags]
        if not chosen:
            raise UsageError(f"--tag {tag}: the model has {'; '.join(tags)}", "give one of these")
        return chosen[0]
    serving = [meta for meta in metas if "serve" in meta.meta_info_def.tags]
    return min(serving, key=lambda meta: len(meta.meta_info_def.tags)) if serving else metas[0]


def signatures(meta: MetaGraphDef) -> dict[str, SignatureDef]:
    """The signatures that take something in; TensorFlow's own entry for initialisation is left out."""
    return {
        name: signature
        for name, signature in sorted(meta.signature_def.items())
        if not name.startswith("__saved_model") and signature.inputs and signature.outputs
    }


def choose_signature(meta: MetaGraphDef, wanted: str | None) -> tuple[str, SignatureDef]:
    """The signature named, else `serving_default`, else the only one."""
    found = signatures(meta)
    if wanted is not None:
        if wanted not in found:
            raise UsageError(f"--signature {wanted}: the model has {', '.join(found) or 'none'}", "give one of these")
        return wanted, found[wanted]
    if not found:
        raise ModelUnusable("the model has no signature", "export it with `model.export` or with signatures=...")
    for name in ("serving_default", "serve", "predict"):
        if name in found:
            return name, found[name]
    if len(found) == 1:
        return next(iter(found.items()))
    raise UsageError(f"the model has several signatures: {', '.join(found)}", "choose one with --signature NAME")


def tensors(infos: Mapping) -> list[Tensor]:
    """The inputs or outputs of a signature, by key."""
    out = []
    for key, info in sorted(infos.items()):
        shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
        name = info.name if ":" in info.name else info.name + ":0"
        out.append(Tensor(key, name, tf.dtypes.as_dtype(info.dtype), shape))
    return out


def choose_input(signature: SignatureDef, wanted: str | None) -> Tensor:
    """The input named, else the only one, else the only one that looks like an image."""
    inputs = tensors(signature.inputs)
    if wanted is not None:
        for tensor in inputs:
            if wanted in (tensor.key, tensor.name, tensor.name.removesuffix(":0")):
                return tensor
        keys = ", ".join(tensor.key for tensor in inputs)
        raise UsageError(f"--input {wanted}: the signature takes {keys}", "give one of these")
    if len(inputs) == 1:
        return inputs[0]
    images = [tensor for tensor in inputs if looks_like_image(tensor)]
    if len(images) == 1:
        return images[0]
    keys = ", ".join(f"{tensor.key} {_text(tensor)}" for tensor in inputs)
    raise UsageError(f"the signature takes several inputs: {keys}", "name the image with --input NAME")


def looks_like_image(tensor: Tensor) -> bool:
    return (tensor.dtype.is_floating or tensor.dtype == tf.uint8) and tensor.shape is not None and len(tensor.shape) == 4


def choose_output(signature: SignatureDef, wanted: str | None) -> Tensor:
    """The output named, else the only float one."""
    outputs = tensors(signature.outputs)
    if wanted is not None:
        for tensor in outputs:
            if wanted in (tensor.key, tensor.name, tensor.name.removesuffix(":0")):
                return tensor
        keys = ", ".join(tensor.key for tensor in outputs)
        raise UsageError(f"--output {wanted}: the signature gives {keys}", "give one of these")
    floats = [tensor for tensor in outputs if tensor.dtype.is_floating]
    if len(floats) == 1:
        return floats[0]
    keys = ", ".join(f"{tensor.key} {_text(tensor)}" for tensor in outputs)
    if not floats:
        raise ModelUnusable(f"no output of the signature is a number that can be differentiated: {keys}", "use --output")
    raise UsageError(f"the signature gives several outputs: {keys}", "choose one with --output NAME")


def _text(tensor: Tensor) -> str:
    shape = "of any rank" if tensor.shape is None else list(tensor.shape)
    return f"{tensor.dtype.name} {shape}".replace("-1", "?")


def bypass(flat: Flat, output: str) -> tuple[Flat, str, str | None]:
    """The tensor of the logits: the output without the softmax or sigmoid that ends it.

    Returns
    -------
    flat, score, bypassed
        The graph with a copy of what follows the softmax (reshapes, renamings) put behind its input instead, the name
        of that copy's end, and the node that was bypassed (None when the output is no probability).
    """
    chain = []
    name = split(output)[0]
    while flat.nodes[name].op in SHAPE_OPS:
        chain.append(name)
        name = split(flat.nodes[name].input[0])[0]
    if flat.nodes[name].op not in PROBABILITIES:
        return flat, output, None
    nodes = dict(flat.nodes)
    tensor = flat.nodes[name].input[0]
    for link in reversed(chain):
        copy = NodeDef()
        copy.CopyFrom(nodes[link])
        copy.name = f"{link}/gradviz_logit"
        copy.input[0] = tensor
        nodes[copy.name] = copy
        tensor = f"{copy.name}:0"
    return replace(flat, nodes=nodes), tensor, name


# -- the pixel range ---------------------------------------------------------------------------------------------------


def found_preprocess(flat: Flat, image: str, weights: Mapping[str, np.ndarray]) -> str | None:
    """The range that the graph's own first steps expect, or None when it does not rescale.

    Follows the image through multiplications and additions of constants (Rescaling, Normalization, `x / 127.5 - 1`)
    and asks which range of pixels these steps bring near to zero mean and unit size.
    """
    scale, offset, steps = 1.0, 0.0, 0
    for kind, values in _affine_steps(flat, split(image)[0], weights):
        steps += 1
        if kind == "Mul":
            scale, offset = scale * values, offset * values
        else:
            offset = offset + values
    if not steps:
        return None
    for name, high in (("raw", 255.0), ("unit", 1.0)):
        low_end, high_end = np.min(offset), np.max(scale * high + offset)
        if -300 <= low_end and 0.45 <= high_end - low_end <= 12 and low_end >= -6:
            return name
    centred = np.max(np.abs(np.asarray(offset) + 115)) < 20 and np.allclose(scale, 1)
    return "raw" if centred else None


def _affine_steps(flat: Flat, name: str, weights: Mapping[str, np.ndarray]):
    """(kind, constant) of each leading step, additions as `Add`, divisions as `Mul` by the inverse."""
    for _ in range(30):
        readers = [node for node in flat.nodes.values() if any(split(text)[0] == name for text in node.input)]
        if len(readers) != 1:
            return
        node = readers[0]
        name = node.name
        if node.op in SHAPE_OPS or node.op in ("Cast", "Transpose", "ResizeBilinear", "Pad", "MirrorPad", "StridedSlice"):
            continue
        step = _affine(flat, node, weights)
        if step is None:
            return
        yield step


def _affine(flat: Flat, node: NodeDef, weights: Mapping[str, np.ndarray]):
    if node.op not in ("Mul", "RealDiv", "Div", "Sub", "Add", "AddV2", "BiasAdd") or len(node.input) != 2:
        return None
    values = [_known(flat, text, weights) for text in node.input]
    if (values[0] is None) == (values[1] is None):
        return None
    value = values[0] if values[1] is None else values[1]
    if value.dtype.kind not in "fiu" or value.size not in (1, 3) and value.size > 16:
        return None
    value = value.astype(np.float64).reshape(-1)
    if node.op in ("RealDiv", "Div"):
        return None if values[1] is None else ("Mul", 1 / np.where(value == 0, 1, value))
    if node.op == "Sub":
        return ("Add", -value) if values[1] is not None else None
    return ("Mul" if node.op == "Mul" else "Add", value)


def _known(flat: Flat, tensor: str, weights: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """A constant or a small weight, seen through reshapes and the square root of a Normalization layer."""
    name = split(tensor)[0]
    node = flat.nodes[name]
    if node.op in ("Sqrt", "Rsqrt", "Maximum", "Reshape", "Cast", "Identity"):
        values = [_known(flat, text, weights) for text in node.input[: 2 if node.op == "Maximum" else 1]]
        if any(value is None for value in values):
            return None
        functions = {"Sqrt": np.sqrt, "Rsqrt": lambda v: 1 / np.sqrt(v), "Maximum": np.maximum}
        return functions.get(node.op, lambda v: v)(*values)
    return weights.get(name, constant(flat.nodes, tensor))
