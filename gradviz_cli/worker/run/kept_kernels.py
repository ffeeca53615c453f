"""Convolutions in space whose kernels oneDNN lays out once, and not with each call: of ResNet50's time with AVX2 a tenth.

TensorFlow lets it do so for kernels that are constants of a graph (`is_filter_const`, tensorflow/core/common_runtime/
mkl_layout_pass.cc). As constants, weights would be copied with the graph several times; what that pass makes of such a
convolution is written here for kernels that are captured. The gradient of one that keeps the size of its image is the
same convolution with the kernel turned round and its channels and results swapped (Dumoulin and Visin, "A guide to convolution
arithmetic for deep learning", 2016, arXiv:1603.07285, chapter 4), and so its kernel is laid out once too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.worker.graph.device import on_onednn
from gradviz_cli.worker.graph.graph import Graph, attribute, copied, source, split
from gradviz_cli.worker.graph.memory import array_of, rooms, tensor_of
from gradviz_cli.worker.graph.tf_private import op_def
from gradviz_cli.worker.passes.partial_gradients import GRADIENT as PARTIAL
from gradviz_cli.worker.run.gradients import SPACE, of_image

KEPT = "_MklNativeConv3D"
GRADIENT = "GradvizKept"
# The kernels of such operations are registered under this label; what marks them as written by TensorFlow's own pass.
_LABEL = b"MklNameChangeOp"
_PUBLIC = ("T", *SPACE)
# Of a kernel that is turned: so many stay in the cache until all of what was read with their first numbers is written. Of long
# rows, all take up to seven times as long.
ROWS = 32


class Turned:
    """Kernels turned round, each once, by a thread beside the one that writes the graph: fresh memory takes longer than the
    numbers."""

    def __init__(self) -> None:
        self._found: dict[int, Future[tf.Tensor]] = {}  # by the `id` of a kernel, which whoever asks keeps

    def __len__(self) -> int:
        return len(self._found)

    def begin(self, kernels: Iterable[tf.Tensor]) -> None:
        """Turn these, in this order; `of` gives them."""
        new = [kernel for kernel in kernels if id(kernel) not in self._found]
        if not new:
            return
        laid = rooms([*kernel.shape[:3], kernel.shape[4], kernel.shape[3]] for kernel in new)
        thread = ThreadPoolExecutor(1, "turn")
        self._found |= {
            id(kernel): thread.submit(_around, kernel, room) for kernel, room in zip(new, laid, strict=True)
        }
        thread.shutdown(wait=False)

    def of(self, kernel: tf.Tensor) -> tf.Tensor:
        """One of them, or another."""
        self.begin([kernel])
        return self._found[id(kernel)].result()


_turned: ContextVar[Turned | None] = ContextVar("turned", default=None)


def keeping_kernels(graph: Graph, fixed: Collection[str]) -> Graph:
    """The graph with such convolutions written so, where their kernels are placeholders that are `fixed`: of the same value in
    each call."""
    found = {name: _kept(node) for name, node in graph.nodes.items() if _is_kept(node, fixed)}
    if not found or not _can_keep():
        return graph
    _register()
    return replace(graph, nodes={**graph.nodes, **found})


def _is_kept(node: NodeDef, fixed: Collection[str]) -> bool:
    return (
        node.op == "Conv3D"
        and split(source(node, 1))[0] in fixed
        and attribute(node, "T").type == tf.float32.as_datatype_enum
        and attribute(node, "data_format").s == b"NDHWC"
        and set(attribute(node, "dilations").list.i) == {1}
        and ("_gradient_op_type" not in node.attr or node.attr["_gradient_op_type"].s == PARTIAL.encode())
    )


def _can_keep() -> bool:
    """Whether oneDNN computes, in this type, and this TensorFlow has the operation."""
    half = tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16")
    return on_onednn() and not half and op_def(KEPT) is not None


def _kept(node: NodeDef) -> NodeDef:
    kept = copied(node)
    kept.op = KEPT
    for name, value in _attributes({name: attribute(node, name) for name in _PUBLIC}).items():
        kept.attr[name].CopyFrom(value)
    return kept


def _attributes(public: Mapping[str, AttrValue]) -> dict[str, AttrValue]:
    own = AttrValue(b=True), AttrValue(s=_LABEL), AttrValue(s=GRADIENT.encode())
    return {**public, **dict(zip(("is_filter_const", "_kernel", "_gradient_op_type"), own, strict=True))}


def to_turn(graph: Graph, values: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
    """The kernels, of these values, that the gradient of a graph reads turned round, those next to the score first."""
    kept = {split(source(node, 1))[0]: node for node in graph.nodes.values() if node.op == KEPT}
    return [values[name] for name, node in reversed(kept.items()) if _is_even(node, values[name].shape)]


@contextmanager
def turning(turned: Turned | None) -> Iterator[None]:
    """Gradients built inside read kernels that are turned round, from here or left here; with None, and outside, they read
    them as they lie."""
    token = _turned.set(turned)
    try:
        yield
    finally:
        _turned.reset(token)


@cache
def _register() -> None:
    """A name can be registered once in a process."""
    tf.RegisterGradient(GRADIENT)(_gradient)


def _gradient(op: tf.Operation, upstream: tf.Tensor) -> list[tf.Tensor | None]:
    """With respect to the image; nobody asks for that of the kernel."""
    turned = _turned_kernel(op)
    return [_as_it_lies(op, upstream) if turned is None else _convolved(op, upstream, turned), None]


_as_it_lies = of_image("Conv3DBackpropInputV2", SPACE)


def _turned_kernel(op: tf.Operation) -> tf.Tensor | None:
    """Of a convolution whose gradient is one; None where its kernel is to be read as it lies."""
    turned = _turned.get()
    kernel = _captured(op.inputs[1]) if turned is not None and _keeps_size(op) else None
    if turned is None or kernel is None:
        return None
    return turned.of(kernel)


def _around(kernel: tf.Tensor, room: np.ndarray) -> tf.Tensor:
    turned = array_of(kernel)[::-1, ::-1, ::-1].swapaxes(3, 4)
    for start in range(0, turned.shape[4], ROWS):
        room[..., start : start + ROWS] = turned[..., start : start + ROWS]
    return tensor_of(room)


def _keeps_size(op: tf.Operation) -> bool:
    """Whether each pixel is read, by all results, and as many are added before an image as behind it."""
    image, kernel = (tensor.shape for tensor in op.inputs)
    if image.rank is None or not kernel.is_fully_defined() or image[-1] != kernel[-2]:  # in groups
        return False
    return _is_even(op.node_def, kernel)


def _is_even(node: NodeDef, kernel: tf.TensorShape) -> bool:
    sides = kernel.as_list()[:-2]
    same = attribute(node, "padding").s == b"SAME" or set(sides) == {1}
    return same and all(side % 2 for side in sides) and set(attribute(node, "strides").list.i) == {1}


def _captured(kernel: tf.Tensor) -> tf.Tensor | None:
    """The value that a function captured as this tensor."""
    pairs: Sequence[tuple[Any, tf.Tensor]] = getattr(kernel.graph, "captures", ())
    return next((value for value, inner in pairs if inner is kernel), None)


def _convolved(op: tf.Operation, upstream: tf.Tensor, turned: tf.Tensor) -> tf.Tensor:
    inside = op.graph.capture(turned)
    attributes = _attributes({name: op.node_def.attr[name] for name in _PUBLIC})
    made = op.graph.create_op(KEPT, [upstream, inside], [tf.float32], attrs=attributes, name="gradviz_turned")
    return made.outputs[0]
