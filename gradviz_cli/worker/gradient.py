"""A flat graph -> scores and gradients. The only place where the model computes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.rules import RULES, Rule
from gradviz_cli.worker.expand import Flat
from gradviz_cli.worker.patch import ATTRIBUTE, GRADIENT

_rule: ContextVar[Rule] = ContextVar("rule")


@contextmanager
def obeying(rule: Rule):
    """Gradients built inside follow `rule` at every marked activation."""
    token = _rule.set(rule)
    try:
        yield
    finally:
        _rule.reset(token)


# A name can be registered once in a process, so the rule is looked up when a gradient is built. That also lets
# several modes share one forward pass.
@tf.RegisterGradient(GRADIENT)
def _backward(op: tf.Operation, *upstreams: tf.Tensor) -> list[tf.Tensor | None]:
    mark = json.loads(op.get_attr(ATTRIBUTE))
    if mark["kind"] == "smooth":
        return _pass_by_or_through(upstreams[0])
    downstream = _rule.get().backward(upstreams[0], _gate(op, mark), tf.nn.relu)
    return [downstream if i == mark["source"] else None for i in range(len(op.inputs))]


def _gate(op: tf.Operation, mark: Mapping) -> Callable[[tf.Tensor], tf.Tensor]:
    """g -> g where the activation was open, by the activation's kind."""
    output, kind = op.outputs[0], mark["kind"]
    if kind == "relu":
        return lambda upstream: tf.raw_ops.ReluGrad(gradients=upstream, features=output)
    if kind == "relu6":
        return lambda upstream: tf.raw_ops.Relu6Grad(gradients=upstream, features=output)
    if kind == "floor":
        is_open = output > 0
    elif kind == "cap":
        is_open = op.inputs[mark["source"]] < tf.cast(mark["high"], output.dtype)
    else:
        is_open = (output > 0) & (output < tf.cast(mark["high"], output.dtype))
    return lambda upstream: tf.where(is_open, upstream, tf.zeros_like(upstream))


def _pass_by_or_through(upstream: tf.Tensor) -> list[tf.Tensor | None]:
    """IdentityN(f(x), x): what takes the first way is still multiplied by f'(x), which is a smooth activation's gate."""
    rule = _rule.get()
    if rule.name == "deconv":
        return [None, tf.nn.relu(upstream)]
    return [rule.backward(upstream, lambda g: g, tf.nn.relu), None]


@dataclass(frozen=True)
class Explained:
    """What one call gives for n images and t targets.

    Attributes
    ----------
    index, rank : int32 [n, t]
        The class that was explained, and its place among the classes (0 is the best).
    score, output : float32 [n, t]
        The score that was differentiated, and the same class in the model's own output.
    gradients : tuple of float32 [t, n, ...]
        One array for each mode, laid out as the model takes its input.
    """

    index: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    output: np.ndarray
    gradients: tuple[np.ndarray, ...]


class Differentiator:
    """Scores and input gradients of one flat graph under any of the modes."""

    def __init__(self, flat: Flat, weights: Mapping[str, tf.Tensor], image: str, wrt: str, score: str, output: str):
        self._flat, self._weights = flat, weights
        self._image, self._wrt, self._score, self._output = image, wrt, score, output
        self._graph_def = GraphDef(node=flat.nodes.values())
        self._graph_def.library.function.extend(flat.functions.values())
        self._graph_def.versions.producer = 1882
        self._functions: dict[tuple[str, ...], Callable] = {}
        self.classes: int | None = None  # known once a function is built

    def explain(self, images: np.ndarray, targets: Sequence[int], modes: Sequence[str]) -> Explained:
        """Differentiate the score of each target with respect to each image.

        Parameters
        ----------
        images : array [n, ...]
            As the model takes its input.
        targets : sequence of int
            A class index, or -r for the class of rank r (-1: the best).
        """
        function = self._function(tuple(modes))
        for target in targets:
            self._check_target(target)
        fed = tf.cast(images, self._dtype)
        rows = []
        for target in targets:
            want = tf.fill([len(images)], tf.constant(target, tf.int32))
            rows.append([value.numpy() for value in function(fed, want)])
        columns = [np.stack(column) for column in zip(*rows, strict=True)]
        index, rank, score, output = (column.T for column in columns[:4])
        return Explained(index, rank, score, output, tuple(columns[4:]))

    def prepare(self, modes: Sequence[str]) -> None:
        """Build the graph for these modes now, so that what is wrong with it is found before the first image."""
        self._function(tuple(modes))

    def _check_target(self, target: int) -> None:
        highest = -target - 1 if target < 0 else target
        if self.classes is not None and highest >= self.classes:
            asked = f"top{highest + 1}" if target < 0 else target
            raise UsageError(f"--target {asked}: the model has {self.classes} classes", "give a smaller one")

    @property
    def _dtype(self) -> tf.DType:
        return tf.dtypes.as_dtype(self._flat.nodes[self._image.split(":")[0]].attr["dtype"].type)

    def _function(self, modes: tuple[str, ...]) -> Callable:
        if modes not in self._functions:
            self._functions[modes] = tf.function(
                lambda images, want: self._build(images, want, modes), autograph=False
            ).get_concrete_function(self._spec(), tf.TensorSpec([None], tf.int32))
        return self._functions[modes]

    def _spec(self) -> tf.TensorSpec:
        node = self._flat.nodes[self._image.split(":")[0]]
        shape = node.attr["shape"].shape
        dims = None if shape.unknown_rank or "shape" not in node.attr else [None if d.size < 0 else d.size for d in shape.dim]
        return tf.TensorSpec(dims, self._dtype)

    def _build(self, images: tf.Tensor, want: tf.Tensor, modes: tuple[str, ...]) -> list[tf.Tensor]:
        mapped = {self._image: images}
        mapped.update({f"{name}:0": tf.identity(self._weights[variable]) for name, variable in self._flat.weights.items()})
        wanted = [self._score, self._output, *([] if self._wrt == self._image else [self._wrt])]
        found = tf.graph_util.import_graph_def(self._graph_def, mapped, return_elements=wanted, name="model")
        scores, outputs = (per_class(tensor, images) for tensor in found[:2])
        self.classes = scores.shape[1]
        wrt = images if self._wrt == self._image else found[2]
        index = chosen_class(scores, want)
        seed = tf.one_hot(index, tf.shape(scores)[1], dtype=found[0].dtype)
        picked = [tf.gather(values, index, batch_dims=1) for values in (scores, outputs)]
        rank = tf.reduce_sum(tf.cast(scores > picked[0][:, None], tf.int32), axis=1)
        gradients = [self._gradient(scores, wrt, seed, mode) for mode in modes]
        return [index, rank, *(tf.cast(value, tf.float32) for value in [*picked, *gradients])]

    def _gradient(self, scores: tf.Tensor, wrt: tf.Tensor, seed: tf.Tensor, mode: str) -> tf.Tensor:
        with obeying(RULES[mode]):
            try:
                (gradient,) = tf.gradients(scores, [wrt], grad_ys=[seed])
            except LookupError as error:
                raise ModelUnusable(
                    f"no gradient is defined on the way to the image ({str(error).splitlines()[0]})",
                    "explain a tensor before it with --output NAME",
                ) from error
        if gradient is None:
            raise ModelUnusable(
                f"no gradient of {self._score} reaches {self._wrt}", "see `gradviz inspect` for the op that cuts it"
            )
        return tf.convert_to_tensor(gradient)


def per_class(tensor: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Scores as [N, K]: a single number an image is one class."""
    if tensor.shape.rank is None or tensor.shape.rank > 2 and tensor.shape[1:-1].num_elements() != 1:
        raise ModelUnusable(
            f"the output has shape {tensor.shape}, gradviz explains [N, K] class scores", "choose another with --output NAME"
        )
    classes = tensor.shape[-1] if tensor.shape.rank > 1 else 1
    return tf.reshape(tensor, [-1, classes if classes is not None else tf.shape(tensor)[-1]])


def chosen_class(scores: tf.Tensor, want: tf.Tensor) -> tf.Tensor:
    """Class index for each row: `want` itself, or the class of rank -want (ties: the lower index first)."""
    order = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    rank = tf.maximum(-want - 1, 0)
    return tf.where(want < 0, tf.gather(order, rank, batch_dims=1), want)
