"""A flat graph -> scores and gradients. The only place where the model computes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef

from gradviz_cli.errors import ModelUnusable, UsageError
from gradviz_cli.rules import RULES, Rule
from gradviz_cli.worker.entry import LAYOUTS, Entry
from gradviz_cli.worker.expand import Flat, split
from gradviz_cli.worker.patch import ATTRIBUTE, GRADIENT
from gradviz_cli.worker.tf_private import make_known

_rule: ContextVar[Rule] = ContextVar("rule")
_stops_open: ContextVar[bool] = ContextVar("stops_open", default=False)


@contextmanager
def obeying(rule: Rule, stops_open: bool = False):
    """Gradients built inside follow `rule` at every marked activation, and pass a StopGradient only if told."""
    tokens = _rule.set(rule), _stops_open.set(stops_open)
    try:
        yield
    finally:
        _rule.reset(tokens[0])
        _stops_open.reset(tokens[1])


# A name can be registered once in a process, so the rule is looked up when a gradient is built. That also lets
# several modes share one forward pass.
@tf.RegisterGradient(GRADIENT)
def _backward(op: tf.Operation, *upstreams: tf.Tensor) -> list[tf.Tensor | None]:
    mark = json.loads(op.get_attr(ATTRIBUTE))
    if mark["kind"] == "stop":
        return [upstreams[0] if _stops_open.get() else None]
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
class Problem:
    """What is differentiated with respect to what.

    Attributes
    ----------
    fed, wrt, score, output : str
        Tensors of the flat graph: the placeholder of the image, the tensor whose gradient is the attribution (the same
        one, or the first numbers behind it), the scores, and what the model itself gives for them.
    entry : Entry
        How pictures become `fed`, and gradients of `wrt` pictures.
    constants : dict
        Placeholder -> value of the other inputs.
    repeated : set of str
        Those of them that are given once and taken once for each image.
    shape : tuple of int or None
        What the model says of the scores' shape, -1 where open, None where nothing.
    at : tuple of int
        Position of the scores to explain where there are several (`--at`).
    everywhere : bool
        Sum a class over all positions rather than over those where it wins (a channel of a hidden layer).
    """

    fed: str
    wrt: str
    score: str
    output: str
    entry: Entry
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()
    shape: tuple[int, ...] | None = None
    at: tuple[int, ...] = ()
    everywhere: bool = False


# Targets that share one forward pass. Each has a backward pass in the graph, and graphs take time to build.
AT_ONCE = 5


class Form(NamedTuple):
    """What a graph is built for: modes, number of targets, and where scores are left out the number of images."""

    modes: tuple[str, ...]
    targets: int
    batch: int | None = None


@dataclass(frozen=True)
class Explained:
    """What one call gives for n images and t targets.

    Attributes
    ----------
    index, rank : int32 [n, t]
        The class that was explained, and its place among the classes (0 is the best; -1: not asked for).
    score, output : float32 [n, t]
        The score that was differentiated, and the same class in the model's own output (NaN: not asked for).
    gradients : tuple of float32 [t, n, h, w, c]
        One array for each mode, channels as the model takes them.
    """

    index: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    output: np.ndarray
    gradients: tuple[np.ndarray, ...]


def joined(parts: Sequence[Explained]) -> Explained:
    """The parts of a batch as one."""
    if len(parts) == 1:
        return parts[0]
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in ("index", "rank", "score", "output")]
    gradients = zip(*(part.gradients for part in parts), strict=True)
    return Explained(*columns, tuple(np.concatenate(arrays, axis=1) for arrays in gradients))


class Differentiator:
    """Scores and input gradients of one flat graph under any of the modes."""

    def __init__(self, flat: Flat, values: Mapping[str, tf.Tensor], problem: Problem):
        self._problem = problem
        flat, self._captured = _captured(flat, values)
        self._variables = {name: tf.Variable(values[variable]) for name, variable in flat.handles.items()}
        self._graph_def = flat.graph_def()
        for function in self._graph_def.library.function:
            make_known(function)
        self._feed = flat.nodes[split(problem.fed)[0]]
        self._functions: dict[Form, Callable] = {}
        self._building = Lock()
        self._largest = 0
        self.classes: int | None = None  # known once a function is built

    def explain(self, images: np.ndarray, targets: Sequence[int], modes: Sequence[str], scores: bool = True) -> Explained:
        """Differentiate the score of each target with respect to each image. May be called from several threads.

        Parameters
        ----------
        images : float32 [n, h, w, c]
            In the range that the model expects.
        targets : sequence of int
            A class index, or -1 - r for the class of rank r (-1: the best).
        scores : bool
            Also give scores and ranks. Without (NaN and -1), deconv of given classes needs no ReLU's state, and so
            little of the forward pass.

        Raises
        ------
        UsageError
            The model has no such class.
        """
        for target in targets:
            self._check_target(target)
        size = self._problem.entry.batch
        if not scores:
            # Only where the batch size is known does TensorFlow see that shapes are all that is read of most tensors.
            size = size or max(len(images), self._largest)
            self._largest = size
        groups = [targets[start : start + AT_ONCE] for start in range(0, len(targets), AT_ONCE)]
        parts = [self._explain_some(images, group, Form(tuple(modes), len(group), None if scores else size), size) for group in groups]
        index, rank, score, output, *gradients = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Explained(index.T, rank.T, score.T, output.T, tuple(gradients))

    def prepare(self, modes: Sequence[str], targets: int = 1) -> None:
        """Build the graph for these modes now, so that what is wrong with it is found before the first image."""
        self._function(Form(tuple(modes), min(targets, AT_ONCE)))

    def _explain_some(self, images: np.ndarray, targets: Sequence[int], form: Form, size: int | None) -> list[np.ndarray]:
        """Columns [t, n] and gradients [t, n, h, w, c], in as many calls as a fixed batch size needs; the last is padded."""
        function, entry = self._function(form), self._problem.entry
        size = size or len(images)
        parts = []
        for start in range(0, len(images), size):
            chunk = images[start : start + size]
            missing = size - len(chunk)
            fed = np.concatenate([chunk, np.repeat(chunk[-1:], missing, axis=0)]) if missing else chunk
            found = [value.numpy() for value in function(entry.to_model(fed, self._dtype), tf.constant(targets, tf.int32))]
            columns, gradients = found[:4], found[4:]
            gradients = [np.asarray(entry.from_model(gradient), np.float32)[: len(chunk)] for gradient in gradients]
            count = len(targets)
            stacked = [np.stack(gradients[place : place + count]) for place in range(0, len(gradients), count)]
            parts.append([*(column[:, : len(chunk)] for column in columns), *stacked])
        return [np.concatenate(column, axis=1) for column in zip(*parts, strict=True)]

    def _check_target(self, target: int) -> None:
        highest = -target - 1 if target < 0 else target
        if self.classes is not None and highest >= self.classes:
            asked = f"top{highest + 1}" if target < 0 else target
            raise UsageError(f"--target {asked}: the model has {self.classes} classes", "give a smaller one")

    @property
    def _dtype(self) -> tf.DType:
        return tf.dtypes.as_dtype(self._feed.attr["dtype"].type)

    def _function(self, form: Form) -> Callable:
        with self._building:
            if form not in self._functions:
                entry = replace(self._problem.entry, batch=form.batch) if form.batch else self._problem.entry
                wanted = tf.TensorSpec([form.targets], tf.int32)
                self._functions[form] = tf.function(
                    lambda images, want: self._build(images, want, form), autograph=False
                ).get_concrete_function(entry.spec(self._dtype), wanted)
            return self._functions[form]

    def _build(self, images: tf.Tensor, want: tf.Tensor, form: Form) -> list[tf.Tensor]:
        """One forward pass; for each target the four columns, stacked, and for each mode its gradients, one by one."""
        problem = self._problem
        mapped = {problem.fed: images}
        mapped.update({f"{name}:0": tf.identity(value) for name, value in self._captured.items()})
        captured = tf.compat.v1.get_default_graph().capture
        mapped.update({f"{name}:0": captured(variable.handle) for name, variable in self._variables.items()})
        mapped.update({f"{name}:0": self._constant(name, images) for name in problem.constants})
        wanted = [problem.score, problem.output, *([] if problem.wrt == problem.fed else [problem.wrt])]
        found = tf.graph_util.import_graph_def(self._graph_def, mapped, return_elements=wanted, name="model")
        wrt = images if problem.wrt == problem.fed else found[2]
        alone = "N" not in LAYOUTS[problem.entry.layout]
        scores, outputs = (positions(tensor, alone, problem) for tensor in found[:2])
        won = winners(scores, problem.everywhere)
        self.classes = scores.shape[2]
        choose = given_class if form.batch else chosen_class
        columns = [choose(scores, outputs, won, want[place]) for place in range(form.targets)]
        seeds = [won * tf.one_hot(column[0], tf.shape(scores)[2], dtype=won.dtype)[:, None, :] for column in columns]
        gradients = [self._gradient(scores, wrt, seed, mode) for mode in form.modes for seed in seeds]
        index, rank, score, output = (tf.stack(column) for column in zip(*columns, strict=True))
        return [index, rank, *(tf.cast(value, tf.float32) for value in [score, output, *gradients])]

    def _constant(self, name: str, images: tf.Tensor) -> tf.Tensor:
        value = tf.constant(self._problem.constants[name])
        if name in self._problem.repeated and "N" in LAYOUTS[self._problem.entry.layout]:
            return tf.repeat(value, tf.shape(images)[0], axis=0)
        return value

    def _gradient(self, scores: tf.Tensor, wrt: tf.Tensor, seed: tf.Tensor, mode: str) -> tf.Tensor:
        # A StopGradient beside another way (a straight-through estimator) shapes the gradient; one across the only
        # way steered the training of what lies before it.
        for stops_open in (False, True):
            with obeying(RULES[mode], stops_open):
                gradient = self._differentiated(scores, wrt, seed)
            if gradient is not None:
                return tf.convert_to_tensor(gradient)
        raise ModelUnusable(
            f"no gradient reaches the image: it is cut at {first_cut(scores, wrt) or split(self._problem.wrt)[0]}",
            OTHER_ENDS,
        )

    def _differentiated(self, scores: tf.Tensor, wrt: tf.Tensor, seed: tf.Tensor) -> tf.Tensor | None:
        try:
            return tf.gradients(scores, [wrt], grad_ys=[seed])[0]
        except LookupError as error:
            raise ModelUnusable(
                f"no gradient is defined on the way to the image ({str(error).splitlines()[0]})", OTHER_ENDS
            ) from error


OTHER_ENDS = "explain a tensor before it with --output NAME, or start behind it with --input NAME"

# Constants larger than this are taken out of the graph: copied with it several times, they cost memory and time.
LARGE_CONSTANT = 1 << 16


def _captured(flat: Flat, values: Mapping[str, tf.Tensor]) -> tuple[Flat, dict[str, tf.Tensor]]:
    """The graph with its large constants made placeholders, and the values of all placeholders but the image."""
    captured = {name: values[variable] for name, variable in flat.weights.items()}
    nodes = dict(flat.nodes)
    for name, node in flat.nodes.items():
        if node.op == "Const" and node.ByteSize() > LARGE_CONSTANT:
            captured[name] = tf.constant(tf.make_ndarray(node.attr["value"].tensor))
            nodes[name] = NodeDef(name=name, op="Placeholder")
            nodes[name].attr["dtype"].CopyFrom(node.attr["dtype"])
            nodes[name].attr["shape"].shape.CopyFrom(captured[name].shape.as_proto())
    return replace(flat, nodes=nodes), captured


def positions(tensor: tf.Tensor, alone: bool, problem: Problem) -> tf.Tensor:
    """Scores as [N, P, K]: K classes at each of P positions; one position unless the output is a map or a sequence.

    Parameters
    ----------
    alone : bool
        The model takes one image without a batch axis, and so has none in its output.
    """
    if tensor.shape.rank is None and problem.shape is not None:
        tensor = tf.ensure_shape(tensor, [None if size < 0 else size for size in problem.shape])
    if tensor.shape.rank is None:
        raise ModelUnusable(f"the rank of {problem.score} is open", "choose another tensor with --output NAME")
    if not tensor.dtype.is_floating:
        tensor = tf.cast(tensor, tf.float32)
    if alone:
        tensor = tensor[None]
    if tensor.shape.rank < 2:
        tensor = tf.reshape(tensor, [-1, 1])
    if tensor.shape.rank == 4 and classes_first(tensor.shape[1:].as_list(), problem.entry.size):
        tensor = tf.transpose(tensor, (0, 2, 3, 1))
    if problem.at:
        tensor = _at(tensor, problem.at)
    classes = tensor.shape[-1] if tensor.shape[-1] is not None else tf.shape(tensor)[-1]
    count = tensor.shape[1:-1].num_elements()
    rows = tensor.shape[0] if tensor.shape[0] is not None else -1 if count is not None else tf.shape(tensor)[0]
    return tf.reshape(tensor, [rows, count if count is not None else -1, classes])


def classes_first(shape: list[int | None], image: tuple[int, int]) -> bool:
    """Whether scores of this shape (without the batch) are [K, H, W], as exports from PyTorch have them.

    They are when the last two axes have the proportions of the image and the first two have not.
    """
    if None in shape:
        return False
    first, middle, last = shape
    like_image = [abs(h * image[1] - w * image[0]) <= max(image) for h, w in ((first, middle), (middle, last))]
    return like_image == [False, True]


def _at(tensor: tf.Tensor, at: tuple[int, ...]) -> tf.Tensor:
    inner = tensor.shape[1:-1].as_list()
    if len(at) != len(inner):
        raise UsageError(f"--at {','.join(map(str, at))}: the scores have {len(inner)} position axes", f"give {len(inner)}")
    for place, size in zip(at, inner, strict=True):
        if size is not None and place >= size:
            raise UsageError(f"--at {','.join(map(str, at))}: the scores are {inner}", "give a position inside")
    return tensor[(slice(None), *at)]


def winners(scores: tf.Tensor, everywhere: bool) -> tf.Tensor:
    """[N, P, K]: 1 where a class counts. At one position each does; at several, where it is the best (or, a single
    class, where its score is positive)."""
    if everywhere or scores.shape[1] == 1:
        return tf.ones_like(scores)
    if scores.shape[2] == 1:
        best = tf.cast(scores > 0, scores.dtype)
    else:
        best = tf.one_hot(tf.argmax(scores, axis=2), tf.shape(scores)[2], dtype=scores.dtype)
    return tf.where(tf.shape(scores)[1] == 1, tf.ones_like(scores), best)


def _mean(outputs: tf.Tensor, won: tf.Tensor) -> tf.Tensor:
    """[N, K]: the model's own output over the positions that count; the decision itself where it gives no more."""
    if outputs.shape[1:] != won.shape[1:]:
        outputs = tf.broadcast_to(tf.reduce_mean(outputs, [1, 2], keepdims=True), tf.shape(won))
    won = tf.cast(won, outputs.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(outputs * won, 1), tf.reduce_sum(won, 1))


Column = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]  # index, rank, score, output; [N] each


def chosen_class(scores: tf.Tensor, outputs: tf.Tensor, won: tf.Tensor, want: tf.Tensor) -> Column:
    """The class of each row: `want` itself, or the class of rank -1 - want.

    Classes are ranked by score; where there are several positions, by how many they win. Ties: the lower index first.
    """
    totals, means = tf.reduce_sum(scores * won, 1), _mean(outputs, won)
    area = tf.reduce_sum(won, 1)
    merit = totals if scores.shape[1] == 1 else tf.where(tf.shape(scores)[1] == 1, totals, area)
    order = tf.argsort(merit, axis=1, direction="DESCENDING", stable=True)
    rows = tf.fill([tf.shape(scores)[0]], want)
    rank = tf.maximum(-rows - 1, 0)
    index = tf.where(rows < 0, tf.gather(order, rank, batch_dims=1), rows)
    places = tf.argsort(order, axis=1, stable=True)
    picked = (tf.gather(values, index, batch_dims=1) for values in (totals, means))
    return index, tf.gather(places, index, batch_dims=1), *picked


def given_class(scores: tf.Tensor, outputs: tf.Tensor, won: tf.Tensor, want: tf.Tensor) -> Column:
    """The class `want` for each row; rank and scores are left unknown, so that nothing has to be computed for them."""
    rows = tf.fill([tf.shape(scores)[0]], want)
    unknown = tf.fill(tf.shape(rows), np.float32(np.nan))
    return rows, tf.fill(tf.shape(rows), -1), unknown, unknown


def first_cut(scores: tf.Tensor, wrt: tf.Tensor) -> str | None:
    """The op nearest to the score through which no gradient passes on the way to `wrt`: `name (Type)`."""
    below = _reached_from(wrt)
    todo, seen = deque([scores.op]), set()
    while todo:
        op = todo.popleft()
        if op.name in seen:
            continue
        seen.add(op.name)
        inputs = [tensor for tensor in op.inputs if tensor is wrt or tensor.op.name in below]
        passed = _passed(op, inputs)
        if inputs and not passed:
            return f"{op.name.removeprefix('model/')} ({op.type})"
        todo.extend(tensor.op for tensor in passed if tensor is not wrt)
    return None


def _passed(op: tf.Operation, inputs: list[tf.Tensor]) -> list[tf.Tensor]:
    """Those inputs of one op that a gradient of its outputs reaches."""
    outputs = [tensor for tensor in op.outputs if tensor.dtype.is_floating or tensor.dtype == tf.variant]
    if not outputs or not inputs:
        return []
    try:
        with obeying(RULES["backprop"], stops_open=True):
            found = tf.gradients(outputs, inputs, stop_gradients=inputs)
    except (LookupError, TypeError):
        return []
    return [tensor for tensor, gradient in zip(inputs, found, strict=True) if gradient is not None]


def _reached_from(tensor: tf.Tensor) -> set[str]:
    todo, seen = [tensor], set()
    while todo:
        for op in todo.pop().consumers():
            if op.name not in seen:
                seen.add(op.name)
                todo.extend(op.outputs)
    return seen
