"""What is asked of a SavedModel: this image, that score; and how a signature describes a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

from gradviz_cli.process.protocol import InputFacts
from gradviz_cli.worker.graph.graph import Flat, ancestors, descendants, split


@dataclass(frozen=True)
class Tensor:
    """A tensor as a signature describes it; `shape` has -1 where a size is open and is None when the rank is too."""

    key: str
    name: str
    dtype: tf.DType
    shape: tuple[int, ...] | None

    @property
    def open_shape(self) -> tuple[int | None, ...] | None:
        """The shape with None where a size is open."""
        return None if self.shape is None else tuple(None if size < 0 else size for size in self.shape)

    @property
    def facts(self) -> InputFacts:
        """As the command is told of an input."""
        return InputFacts(self.key, self.open_shape, self.dtype.name)


def names(tensor: Tensor) -> tuple[str, ...]:
    """What a user may call it."""
    return tensor.key, tensor.name, tensor.name.removesuffix(":0")


def describe(tensor: Tensor) -> str:
    """`float32 [?, 224, 224, 3]`."""
    if tensor.shape is None:
        return f"{tensor.dtype.name} of any rank"
    return f"{tensor.dtype.name} [{', '.join('?' if size < 0 else str(size) for size in tensor.shape)}]"


@dataclass(frozen=True)
class Reading:
    """A SavedModel narrowed down to one question: this image, that score. Data only; no weight is read yet."""

    meta: MetaGraphDef
    signature: str
    why: str
    image: Tensor
    output: Tensor
    flat: Flat
    fed: str
    end: str
    score: str
    bypassed: str | None
    channel: int | None
    others: tuple[Tensor, ...]
    unfed: tuple[Tensor, ...]
    warnings: tuple[str, ...]

    @property
    def path(self) -> set[str]:
        """The nodes between the image and the score."""
        below = descendants(self.flat.nodes, [split(self.fed)[0]])
        return below & ancestors(self.flat.nodes, [self.score])


def static_tensor(flat: Flat, *names: str) -> tf.Tensor:
    """A symbolic tensor with the dtype and shape that TensorFlow infers; nothing is computed."""
    with tf.Graph().as_default():
        found = tf.graph_util.import_graph_def(flat.graph_def(), return_elements=list(names), name="")
    return found[0] if len(names) == 1 else found
