"""What is asked of a SavedModel: this image, that score; and how a signature describes a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.process.protocol import InputFacts
from gradviz_cli.worker.graph.graph import Graph, ancestors, descendants, split
from gradviz_cli.worker.graph.tf_private import import_static


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
class Part:
    """Some classes of a softmax, as `times` their probability (or its logarithm) plus `plus`."""

    logarithm: bool
    times: float
    plus: float


@dataclass(frozen=True)
class Head:
    """The end of a model that the score is taken from before.

    Attributes
    ----------
    bypassed : str
        The softmax or sigmoid; where it is spelled out, the last of its operations.
    name : str
        The function that it was seen to compute: `softmax, times 100`.
    logits : str
        The tensor that it takes.
    score : str
        The logits as the model lays out its output: `logits`, or what `nodes` make of it.
    nodes : tuple of NodeDef
        Copies of what reshapes and picks classes behind the softmax, for the logits.
    part : Part or None
        What the output holds of a softmax, where it has classes that are not in the output.
    """

    bypassed: str
    name: str
    logits: str
    score: str
    nodes: tuple[NodeDef, ...] = ()
    part: Part | None = None


@dataclass(frozen=True)
class Detections:
    """How a tensor lists what a model has detected, and which of its numbers are scores of classes.

    Attributes
    ----------
    scores : str
        The tensor: [N, ...], the numbers of one detection along one of its axes.
    axis : int
        That one.
    first : int
        Of these, where the classes begin; before them stand the box and what else is no class.
    objectness : bool
        The number before the classes says whether there is anything, and multiplies each.
    times : str or None
        The same by itself, where it is a tensor of its own.
    groups : int
        Several detections lie side by side along the axis.
    labelled : str or None
        `scores` is [N, M]; this tensor says the class of each.
    shift : int
        The class of the first column.
    background : int or None
        The class that says that there is nothing.
    said : str
        What it is read as.
    otherwise : str or None
        What else it can be, and how that is explained, where that is not beyond doubt.
    """

    scores: str
    axis: int
    first: int = 0
    objectness: bool = False
    times: str | None = None
    groups: int = 1
    labelled: str | None = None
    shift: int = 0
    background: int | None = None
    said: str = "detections"
    otherwise: str | None = None


@dataclass(frozen=True)
class Question:
    """One question to a SavedModel, as it was settled. The tensors that answer it are the graph's: `outputs`, `feeds`.

    Attributes
    ----------
    signature, why : str
        The signature that was chosen, and why this one.
    image, output : Tensor
        What is fed and what is explained, as the signature (or the user) names them.
    channel : int or None
        The channel of a hidden layer that is explained.
    head : Head or None
        What the score is taken from before; None where the output itself is the score, or it is not looked for yet.
    others : tuple of Tensor
        The other inputs that the score needs.
    unfed : tuple of Tensor
        Placeholders that the score needs and no signature names.
    ranked : bool
        The output lists the best of what is explained, in their order.
    coded : bool
        The output is a decision in other words than the index of a class: an action, a label, a row of zeros and a one.
    outputs : tuple of Tensor
        All outputs of the signature.
    at : tuple of int
        The position that is explained.
    detections : Detections or None
        How the output lists detections; None where it does not, or it is not looked for yet.
    reading : str or None
        What the output is taken for, where it is more than one score for each class.
    positions : bool
        A class has scores at several positions.
    activations : str
        Which activations obey the rule: `relu` or `all`.
    warnings : tuple of str
    """

    signature: str
    why: str
    image: Tensor
    output: Tensor
    channel: int | None = None
    head: Head | None = None
    others: tuple[Tensor, ...] = ()
    unfed: tuple[Tensor, ...] = ()
    ranked: bool = False
    coded: bool = False
    outputs: tuple[Tensor, ...] = ()
    at: tuple[int, ...] = ()
    detections: Detections | None = None
    reading: str | None = None
    positions: bool = False
    activations: str = "relu"
    warnings: tuple[str, ...] = ()

    def fed(self, graph: Graph) -> str:
        """The placeholder of the image, as a tensor."""
        return f"{graph.feeds[self.image.name]}:0"

    def path(self, graph: Graph) -> set[str]:
        """The nodes between the image and the score."""
        below = descendants(graph.nodes, [split(self.fed(graph))[0]])
        return below & ancestors(graph.nodes, [graph.score])


def static_tensors(graph: Graph, *tensors: str) -> list[tf.Tensor]:
    """Symbolic tensors with the dtypes and shapes that TensorFlow infers; nothing is computed."""
    return import_static(graph.graph_def(), tensors)
